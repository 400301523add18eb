"""What judges that ask one chat model have in common."""

import copy
from contextlib import AbstractContextManager, nullcontext

from ..chat import ChatModel, HTTPChatModel
from .rehearsal import Rehearsal
from .reward import JudgeReward
from .row import JudgeRow
from .store import VerdictStore


class ChatJudge(JudgeReward):
    """A judge whose answers come from its `model`, which may be a server that sleeps, and are kept in its `store`."""

    model: ChatModel
    store: VerdictStore

    @property
    def model_names(self) -> list[str]:
        return [self.model.model]

    @property
    def devices(self) -> list[str]:
        from ..chat.local import LocalChatModel  # who judges by a server needs no transformers

        return [str(self.model.device)] if isinstance(self.model, LocalChatModel) else []

    @property
    def sleeps(self) -> bool:
        return isinstance(self.model, HTTPChatModel) and self.model.sleep

    def awake(self) -> AbstractContextManager:
        return self.model.awake() if isinstance(self.model, HTTPChatModel) else nullcontext()

    def rehearse(self, row: JudgeRow) -> list[Rehearsal]:
        alone = copy.copy(self.probe())  # whose store is in memory
        alone.order = "fixed"  # one question, where the order is asked about
        (verdict,), cost = alone._compare_awake([row])
        said = [answer for answer in alone.store if answer.reply is not None or answer.choice_logprobs]
        answer = said[-1] if said else None
        return [
            Rehearsal(
                model=self.model.model,
                failure=verdict.failure,
                reply=None if answer is None else answer.reply or str(answer.choice_logprobs),
                calls=cost.calls,
                tokens=cost.prompt_tokens + cost.completion_tokens,
                seconds=sum(cost.latencies_s),
            )
        ]
