"""What judges that ask one chat model have in common."""

from contextlib import AbstractContextManager, nullcontext

from ..chat import ChatModel, HTTPChatModel
from .reward import JudgeReward


class ChatJudge(JudgeReward):
    """A judge whose answers come from its `model`, which may be a server that sleeps."""

    model: ChatModel

    @property
    def model_names(self) -> list[str]:
        return [self.model.model]

    @property
    def sleeps(self) -> bool:
        return isinstance(self.model, HTTPChatModel) and self.model.sleep

    def awake(self) -> AbstractContextManager:
        return self.model.awake() if isinstance(self.model, HTTPChatModel) else nullcontext()
