"""Auto-Rubric from end to end: preference pairs in, a verified rubric out. Read from top to bottom."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..chat import ChatModel
from ..data.preferences import Preference
from ..digests import image_digest
from ..intervals import mcnemar
from ..judges import JudgeStats, RubricJudge, Verdict
from ..judges.choice import ChoiceMode
from ..judges.questions import content_key
from ..rubrics import Criterion, Provenance, Rubric
from ..version import __version__
from .config import AutoRubricConfig
from .embeddings import hashed_tfidf
from .generate import generate_questions, shown_swapped
from .holdout import agreement, judge_rows, judge_templates, split, winners_of, with_rubric, without_rubric
from .refine import refine_question
from .report import PairOutcome, Report, dropped_by_reason
from .select_diverse import select_diverse
from .select_weights import learn_weights
from .structure import structure_question, zero_shot_question
from .verify import recovers, supporting, verify
from .writer import AutoRubricError, NoAnswer, Writer, distinct


_FEW_PAIRS = 20
# What is told before each stage: its name and the number of questions it asks.
OnStage = Callable[[str, int], None]


class AutoRubric:
    """
    Writes a rubric from preference pairs, as Auto-Rubric as Reward does
    ([paper](https://huggingface.co/papers/2605.08354)). Every question goes through the store of `judge`: a run that
    was interrupted continues where it was and asks nothing again that was answered.

    Args:
        writer ([`ChatModel`]): model that writes, refines and structures criteria.
        judge ([`RubricJudge`]): verifies criteria, and judges the held-out pairs; it has to ask in both orders.
        config ([`AutoRubricConfig`], *optional*): settings.
        embed (`Callable`, *optional*): sentence embedder, from a list of texts to an array with one row each; by default
            hashed TF-IDF, which needs no model.
        on_stage (`Callable`, *optional*): called with the name of each stage and the number of its questions.

    Example:
    ```python
    >>> model = HTTPChatModel("Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1")
    >>> judge = RubricJudge(rubric="auto", model=model, store="rubric.sqlite")
    >>> report = AutoRubric(model, judge).write(pairs, name="photos", dataset="pairs.jsonl")
    >>> report.rubric.save("rubric.json")
    ```
    """

    def __init__(
        self,
        writer: ChatModel,
        judge: RubricJudge,
        config: AutoRubricConfig | None = None,
        embed: Callable[[list[str]], np.ndarray] = hashed_tfidf,
        on_stage: OnStage = lambda name, questions: None,
    ):
        if judge.order != "both":
            raise ValueError(f"The verifier has to ask in both orders; give it order='both', not {judge.order!r}.")
        if isinstance(judge.mode, ChoiceMode):
            raise ValueError("mode='choice' has no findings per criterion; give the verifier mode='ranks'.")
        self.config = config or AutoRubricConfig()
        self.writer = Writer(
            writer, judge.store, self.config.language, self.config.max_tokens, self.config.temperature
        )
        self.judge = judge
        self.embed = embed
        self.on_stage = on_stage
        self.stats = JudgeStats()

    def write(
        self, pairs: Sequence[Preference], name: str, guide: Sequence[Preference] = (), **source: str | None
    ) -> Report:
        """
        Write a rubric.

        Args:
            pairs (`Sequence[Preference]`): labelled pairs, all of text-to-image or all edits.
            name (`str`): name of the rubric.
            guide (`Sequence[Preference]`, *optional*): curated examples with a `rationale`.
            **source: `dataset`, `dataset_config`, `dataset_split`, `dataset_revision` of the [`Provenance`].

        Raises:
            `ValueError`: when there are too few pairs, or pairs of both tasks.
            [`AutoRubricError`]: when the models give no answers, or no criterion passes.
        """
        task = task_of(pairs)
        config, notes = self.config, []
        train, held_out = split(pairs, config.holdout, config.seed)
        if len(train) < _FEW_PAIRS:
            notes.append(f"{len(train)} pairs are few to write criteria from; read the rubric before you use it.")
        outcomes = self.verified_criteria(train, guide)
        pool = distinct([text for outcome in outcomes for text in outcome.verified])
        if not pool:
            reasons = "; ".join(f"{count}: {reason}" for reason, count in dropped_by_reason(outcomes).items())
            raise AutoRubricError(f"No criterion of {len(train)} pairs passed verification ({reasons}).")
        selected = self.diverse(pool)
        structured = self.structured(selected, task, notes)
        draft = Rubric(name=name, criteria=structured, task=task)
        rubric, cv_accuracy = self.weighted(draft, train, outcomes, notes)
        report = Report(rubric, outcomes, notes=notes)
        if held_out:
            self.measure(report, held_out)
        counts = {
            "pairs": len(pairs),
            "pairs_held_out": len(held_out),
            "pairs_passed_at_once": sum(o.passed and o.rounds == 0 for o in outcomes),
            "pairs_passed_after_refinement": sum(o.passed and o.rounds > 0 for o in outcomes),
            "pairs_dropped": sum(not o.passed for o in outcomes),
            **({"pairs_doubtful": sum(o.doubtful for o in outcomes)} if config.weights else {}),
            "criteria_verified": len(pool),
            "criteria_selected": len(selected),
            "criteria_structured": len(structured),
            "criteria": len(rubric.criteria),
        }
        provenance = Provenance(
            arr_trl=__version__,
            method=config.method,
            **source,
            pairs_digest=pairs_digest(pairs),
            writer=self.writer.model.model,
            verifier=self.judge.model.model,
            templates=tuple(sorted({*self.writer.templates, *judge_templates(self.judge, measured=bool(held_out))})),
            settings=asdict(config) | {"decide": self.judge.mode.decide},
            counts=counts,
            dropped=dropped_by_reason(outcomes),
            content_hash=rubric.content_hash,
            holdout={
                "with_rubric": report.with_rubric.summary(),
                "without_rubric": report.without_rubric.summary(),
            }
            if held_out
            else None,
            cv_accuracy=None if cv_accuracy is None else round(cv_accuracy, 4),
        )
        report.rubric = rubric.model_copy(update={"provenance": provenance})
        return report

    def verified_criteria(self, pairs: list[Preference], guide: Sequence[Preference] = ()) -> list[PairOutcome]:
        """Generate, then verify and refine until every pair has passed or is dropped."""
        config = self.config
        swapped = shown_swapped(pairs)
        outcomes = [PairOutcome(pair.row, pair.prompt) for pair in pairs]
        self.on_stage("generate", len(pairs))
        written = self.writer.ask(generate_questions(pairs, self.writer, config, guide))
        self._stop_when_broken("generate", written)
        _take(outcomes, written)
        for round_ in range(config.max_rounds + 1):
            open_ = [i for i, outcome in enumerate(outcomes) if outcome.open]
            if not open_:
                break
            self.on_stage(f"verify {round_ + 1}", 2 * len(open_))
            verdicts, cost = verify(
                self.judge, judge_rows([pairs[i] for i in open_]), [outcomes[i].criteria for i in open_]
            )
            self.stats += cost
            self._stop_when_broken("verify", verdicts)
            failed: dict[int, Verdict] = {}
            for i, verdict in zip(open_, verdicts, strict=True):
                if verdict.failure is not None:
                    outcomes[i].drop("no verdict", verdict.failure)
                elif recovers(verdict, pairs[i].winner):
                    outcomes[i].passed = True
                    outcomes[i].verified = supporting(outcomes[i].criteria, verdict, pairs[i].winner)
                else:
                    failed[i] = verdict
            if round_ == config.max_rounds:
                for i in failed:
                    outcomes[i].drop(f"not verified in {config.max_rounds} rounds of refinement")
            elif failed:
                self.on_stage(f"refine {round_ + 1}", len(failed))
                rewritten = self.writer.ask(
                    [
                        refine_question(pairs[i], swapped[i], outcomes[i].criteria, verdict, self.writer, config)
                        for i, verdict in failed.items()
                    ]
                )
                self._stop_when_broken("refine", rewritten)
                _take([outcomes[i] for i in failed], rewritten, refined=True)
        return outcomes

    def diverse(self, pool: list[str]) -> list[str]:
        """The pool, or of a large one its most diverse part, in the order of the pool."""
        if len(pool) <= self.config.max_candidates:
            return pool
        taken = select_diverse(self.embed(pool), self.config.max_candidates, seed=self.config.seed)
        return [pool[i] for i in sorted(taken)]

    def structured(self, criteria: list[str], task: str, notes: list[str]) -> list[Criterion]:
        """The criteria under themes; without an answer, the most diverse of them as they are."""
        config = self.config
        self.on_stage("structure", 1)
        (themes,) = self.writer.ask([structure_question(criteria, task, self.writer, config)])
        if not isinstance(themes, NoAnswer):
            return themes
        if themes.failed:
            raise AutoRubricError(f"The criteria could not be grouped: {themes.problem} {_again(self.judge)}")
        most = config.max_themes * config.max_tips
        taken = select_diverse(self.embed(criteria), most, seed=config.seed) if len(criteria) > most else None
        notes.append(
            f"The criteria are not grouped, because the model gave no answer that can be used: {themes.problem}"
        )
        return [Criterion(text=criteria[i]) for i in (range(len(criteria)) if taken is None else sorted(taken))]

    def weighted(
        self, draft: Rubric, pairs: list[Preference], outcomes: list[PairOutcome], notes: list[str]
    ) -> tuple[Rubric, float | None]:
        """
        The rubric with learned weights, and their cross-validated accuracy. Learned from the pairs that passed; of the
        others, those on which the rubric decides against the label are marked as doubtful, too.
        """
        if not self.config.weights:
            return draft, None
        self.on_stage("weigh", 2 * len(pairs))
        verdicts, cost = self.judge.compare_under(judge_rows(pairs), [draft] * len(pairs))
        self.stats += cost
        self._stop_when_broken("weigh", verdicts)
        found_PC = np.array(
            [
                [{0: 1.0, 1: -1.0, None: 0.0}[result.winner] for result in verdict.criteria]
                if verdict.failure is None
                else [0.0] * len(draft.criteria)
                for verdict in verdicts
            ]
        )
        winners = np.array([pair.winner for pair in pairs])
        passed = np.array([outcome.passed for outcome in outcomes])
        learned = learn_weights(found_PC[passed], winners[passed], self.config.seed)
        if learned is None:
            notes.append(
                "The criteria have equal weights: there are fewer than 10 pairs that passed, or none of the criteria "
                "tells winners from losers."
            )
            return draft, None
        sums = np.round(found_PC @ np.array(learned.weights), 9)
        for outcome, total, pair in zip(outcomes, sums, pairs, strict=True):
            outcome.doubtful = bool(total != 0 and (total < 0) != pair.winner)
        criteria = [
            criterion.model_copy(update={"weight": weight})
            for criterion, weight in zip(draft.criteria, learned.weights, strict=True)
            if weight > 0
        ]
        return Rubric(name=draft.name, criteria=criteria, task=draft.task), learned.cv_accuracy

    def measure(self, report: Report, held_out: list[Preference]) -> None:
        """Judge the held-out pairs with the rubric and without any."""
        self.on_stage("hold-out", 4 * len(held_out))
        verdicts, cost = with_rubric(held_out, report.rubric, self.judge)
        found = winners_of(verdicts)
        self.stats += cost
        plain, cost = without_rubric(held_out, self.judge)
        self.stats += cost
        self._stop_when_broken("hold-out", [*found, *plain])
        report.held_out = list(zip(held_out, verdicts, strict=True))
        report.with_rubric, report.without_rubric = agreement(found, held_out), agreement(plain, held_out)
        if report.with_rubric.right <= report.without_rubric.right < len(held_out):
            report.notes.append(
                "On the held-out pairs the judge is not better with this rubric than without one: look at the criteria "
                "and at more pairs before you train with it."
            )
        elif report.without_rubric.right < report.with_rubric.right:
            right = [
                [winner == pair.winner for winner, pair in zip(winners, held_out, strict=True)]
                for winners in (found, plain)
            ]
            if mcnemar(*right)["p_value"] > 0.05:
                gained = report.with_rubric.right - report.without_rubric.right
                report.notes.append(
                    f"With the rubric {gained} more of {len(held_out)} held-out pairs {'is' if gained == 1 else 'are'} right than "
                    "without one, which may be chance: measure it on more pairs with `arr-trl rubric verify` before you rely "
                    "on it."
                )

    def _stop_when_broken(self, stage: str, found: Sequence[Any]) -> None:
        problems = [
            item.problem if isinstance(item, NoAnswer) else item.failure
            for item in found
            if isinstance(item, NoAnswer) or (isinstance(item, Verdict) and item.failure is not None)
        ]
        if found and len(problems) > self.config.max_failure_rate * len(found):
            raise AutoRubricError(
                f"{len(problems)} of {len(found)} questions got no answer in the stage {stage!r}. The last: {problems[-1]} "
                f"{_again(self.judge)}"
            )


def describe_rubric(description: str, name: str, task: str, writer: Writer, config: AutoRubricConfig) -> Rubric:
    """
    A rubric from the description of a task alone; nothing verifies it.

    Raises:
        [`AutoRubricError`]: when the model gives no answer that can be used.
    """
    (criteria,) = writer.ask([zero_shot_question(description, task, writer, config)])
    if isinstance(criteria, NoAnswer):
        raise AutoRubricError(f"There is no rubric: {criteria.problem}")
    provenance = Provenance(
        arr_trl=__version__,
        method="description",
        writer=writer.model.model,
        templates=tuple(sorted(writer.templates)),
        settings={"description": description, "language": writer.language, "temperature": writer.temperature},
    )
    rubric = Rubric(name=name, criteria=criteria, task=task)
    return rubric.model_copy(
        update={"provenance": provenance.model_copy(update={"content_hash": rubric.content_hash})}
    )


def task_of(pairs: Sequence[Preference]) -> str:
    """
    What the pairs are about.

    Raises:
        `ValueError`: when there are fewer than two pairs, or some have a source image and some have none.
    """
    if len(pairs) < 2:
        raise ValueError(f"There are {len(pairs)} labelled pairs; a rubric needs at least 2, and 50 to 100 are good.")
    edits = sum(pair.source_image is not None for pair in pairs)
    if edits not in (0, len(pairs)):
        raise ValueError(
            f"{edits} of {len(pairs)} pairs have a source image and the others have none; write one rubric for the "
            "edits and another for text-to-image."
        )
    return "image-editing" if edits else "text-to-image"


def pairs_digest(pairs: Sequence[Preference]) -> str:
    """Digest of the pairs, labels included."""
    found = []
    for pair, row in zip(pairs, judge_rows(pairs), strict=True):
        masks = [] if row.mask is None else [row.mask]
        found.append((pair.prompt, *map(image_digest, (*row.images, *row.sources, *masks)), pair.winner))
    return content_key(*found)


def _take(outcomes: list[PairOutcome], written: list[list[str] | NoAnswer], refined: bool = False) -> None:
    """New criteria for each pair that is still open; a pair without any is dropped with the reason."""
    for outcome, criteria in zip(outcomes, written, strict=True):
        if isinstance(criteria, NoAnswer):
            outcome.drop("no criteria", criteria.problem)
        elif refined and criteria == outcome.criteria:
            outcome.drop("failed criteria that the model does not change")
        else:
            outcome.criteria = criteria
            outcome.rounds += refined


def _again(judge: RubricJudge) -> str:
    where = judge.store.path
    return f"Repair the cause and run it again; what was answered is kept{f' in {where}' if where else ''}."
