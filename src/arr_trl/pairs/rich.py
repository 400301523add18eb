"""Rich feedback made into pairs: draw, criticise, instruct, edit, filter, judge again. Read from top to bottom."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from ..autorubric.writer import NoAnswer, Writer
from ..judges import JudgeReward
from .config import RichPairsConfig
from .filters import joined, usable_edits, what_an_edit_did
from .outcome import OnDrawn, OnStage, PairOutcome, PairsError, stop_when_broken, told_apart
from .painter import Painter, Wanted, edited, opened, seed_of
from .replies import PACKAGE, Fault, critique_question, instruct_question


_EDITS_FROM = 1_000  # numbers of edits among the seeds of a prompt, behind those of its samples


def writer(model: Any, store: Any, config: RichPairsConfig) -> Writer:
    """Who criticises or instructs: a chat model with the store that keeps its answers."""
    return Writer(model, store, config.language, config.max_tokens, config.temperature, package=PACKAGE)


class RichPairs:
    """
    Makes pairs of a picture and the picture edited, as Rich Preference Optimization does
    ([paper](https://huggingface.co/papers/2503.11720)): a model writes what is wrong with a picture, a model writes how
    to mend it, an editor edits, and a judge says which of the two is better for the original prompt, in both orders. The
    edited picture may lose; ties and failures make no pair.

    Where a picture of `painter` is itself an edit of a row's `source_image`, `editor` edits the source again after the
    amended instruction, within the row's `mask_image` where it has one.

    Every question goes through a store and every picture has a file of its own, both by content: a run that was stopped
    asks nothing again that was answered and ends with the same pairs.

    Args:
        painter ([`Painter`]): draws what is criticised.
        editor ([`Painter`]): edits it.
        critic ([`~arr_trl.autorubric.Writer`]): writes faults; see [`writer`].
        instructor ([`~arr_trl.autorubric.Writer`]): writes instructions.
        judge ([`JudgeReward`]): labels the pairs; it should ask in both orders.
        config ([`RichPairsConfig`], *optional*): settings.
        on_stage (`Callable`, *optional*): called with the name of each stage and how many things it does, and what they are.
        on_drawn (`Callable`, *optional*): called with the number of pictures of each batch.

    Raises:
        `ValueError`: when `editor` does not edit pictures, or needs masks of pictures that are drawn from prompts.
    """

    def __init__(
        self,
        painter: Painter,
        editor: Painter,
        critic: Writer,
        instructor: Writer,
        judge: JudgeReward,
        config: RichPairsConfig | None = None,
        on_stage: OnStage = lambda name, count, unit: None,
        on_drawn: OnDrawn = lambda count: None,
    ):
        if not (editor.policy.editing or editor.policy.may_edit):
            raise ValueError(
                f"{editor.name} draws from prompts alone, and the editor has to edit pictures; give it a pipeline such "
                "as FluxKontextPipeline or QwenImageEditPlusPipeline."
            )
        if editor.policy.needs_mask and not painter.policy.needs_mask:
            raise ValueError(
                f"{editor.name} draws what is white in a mask, which no picture of {painter.name} has; give it an editor that "
                "takes a picture and an instruction, such as FluxKontextPipeline."
            )
        self.painter = painter
        self.editor = editor
        self.critic = critic
        self.instructor = instructor
        self.judge = judge
        self.config = config or RichPairsConfig()
        self.on_stage = on_stage
        self.on_drawn = on_drawn

    def write(self, rows: Sequence[dict[str, Any]]) -> Iterator[list[PairOutcome]]:
        """
        What becomes of the pictures of rows, `prompts_at_once` of them at a time.

        Args:
            rows (`Sequence[dict]`): rows with a `prompt`, and where `painter` edits a `source_image` and its `mask_image`.

        Raises:
            [`PairsError`]: when models give no answers, or the edits make pictures worse.
        """
        waiting, taken = iter(rows), set()
        won = decided = number = 0
        while block := list(islice(waiting, self.config.prompts_at_once)):
            number += 1
            outcomes = self._block(told_apart(block, taken), number)
            yield outcomes
            decided += sum(outcome.made for outcome in outcomes)
            won += sum(outcome.made and outcome.verdict.winner == 1 for outcome in outcomes)
            if decided >= self.config.min_decided and won < self.config.min_edited_wins * decided:
                raise PairsError(
                    f"The edited picture won {won} of {decided} decided pairs, less than "
                    f"min_edited_wins={self.config.min_edited_wins:g}: {self.editor.name} makes pictures worse. Look at "
                    "the pairs, and take another editor or another model that writes instructions."
                )

    def _block(self, rows: list[dict[str, Any]], number: int) -> list[PairOutcome]:
        samples = self._drawn(rows, number)
        self._criticise(samples, number)
        self._instruct(samples, number)
        outcomes = self._edited(samples, number)
        self._judge(outcomes, number)
        return outcomes

    def _drawn(self, rows: list[dict[str, Any]], block: int) -> list[PairOutcome]:
        samples = []
        for row in rows:
            prompt, (source, mask) = row["prompt"], edited(self.painter.policy, row)
            for k in range(self.config.samples_per_prompt):
                seed = seed_of(self.config.pictures_seed, k, prompt, source)
                samples.append(PairOutcome(prompt, source, mask, seeds=[seed], columns=row))
        self.on_stage(f"sample {block}", len(samples), "pictures")
        wanted = [Wanted(sample.prompt, sample.source, *sample.seeds, sample.mask) for sample in samples]
        for sample, path in zip(samples, self.painter.draw(wanted, self.on_drawn), strict=True):
            sample.images.append(path)
        self.painter.rest()
        return samples

    def _criticise(self, samples: list[PairOutcome], block: int) -> None:
        """Find the faults of each sample; one without any that matters is dropped."""
        self.on_stage(f"critique {block}", len(samples), "questions")
        found = self.critic.ask(
            [
                critique_question(one.prompt, one.source, opened(one.images[0]), self.critic, one.mask)
                for one in samples
            ]
        )
        stop_when_broken("critique", found, self.config)
        for sample, faults in zip(samples, found, strict=True):
            if isinstance(faults, NoAnswer):
                sample.drop("no critique", faults.problem)
                continue
            sample.faults = faults
            if not self._grave(sample):
                sample.drop("no fault that matters")

    def _grave(self, sample: PairOutcome) -> list[Fault]:
        return [fault for fault in sample.faults if fault.severity >= self.config.min_severity]

    def _instruct(self, samples: list[PairOutcome], block: int) -> None:
        """Write an instruction for each sample that is open; one that cannot be mended is dropped."""
        asked = [(sample, self._grave(sample)) for sample in samples if sample.open]
        self.on_stage(f"instruct {block}", len(asked), "questions")
        questions = [
            instruct_question(
                one.prompt, one.source, opened(one.images[0]), grave, self.instructor, self.config.max_edits, one.mask
            )
            for one, grave in asked
        ]
        written = self.instructor.ask(questions)
        stop_when_broken("instruct", written, self.config)
        for (sample, grave), edits in zip(asked, written, strict=True):
            if isinstance(edits, NoAnswer):
                sample.drop("no instruction", edits.problem)
                continue
            usable = usable_edits(edits, sample.prompt, self.config, again=sample.source is not None)
            if not edits:
                sample.drop("nothing that an editor could mend")
            elif not usable:
                sample.drop("no change worth asking for")
            else:
                sample.instruction = joined(usable)
                sample.mended = [grave[edit.fault - 1] for edit in usable]

    def _edited(self, samples: list[PairOutcome], block: int) -> list[PairOutcome]:
        """One outcome for each edit, and those that were dropped before; edits that are of no use are dropped."""
        wanted, outcomes = [], []
        for sample in samples:
            if not sample.open:
                outcomes.append(sample)
                continue
            source = opened(sample.images[0]) if sample.source is None else sample.source
            for k in range(self.config.edits_per_sample):
                seed = seed_of(self.config.pictures_seed, _EDITS_FROM + k, sample.instruction, source)
                wanted.append(Wanted(sample.instruction, source, seed, sample.mask))
                outcomes.append(replace(sample, images=[*sample.images], seeds=[*sample.seeds, seed]))
        self.on_stage(f"edit {block}", len(wanted), "pictures")
        paths = self.editor.draw(wanted, self.on_drawn)
        self.editor.rest()
        for outcome, path in zip((one for one in outcomes if one.open), paths, strict=True):
            outcome.images.append(path)
        for outcome in (one for one in outcomes if one.open):
            before, after = map(opened, outcome.images)
            again = outcome.source is not None
            reason = what_an_edit_did(before, after, outcome.mended, self.config, again)
            if reason is not None:
                outcome.drop(reason)
        return outcomes

    def _judge(self, outcomes: list[PairOutcome], block: int) -> None:
        asked = [outcome for outcome in outcomes if outcome.open]
        self.on_stage(f"judge {block}", len(asked) * self.judge.questions_per_row(2), "questions")
        verdicts = self.judge.compare([one.judge_row() for one in asked]) if asked else []
        stop_when_broken("judge", verdicts, self.config)
        for outcome, verdict in zip(asked, verdicts, strict=True):
            outcome.decide(verdict)
