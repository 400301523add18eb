"""
A few fixed pairs that the judges are asked about again and again. What they say of them has to stay, since nothing in the
answers of a rollout shows that a server's multimodal cache is corrupted, or that it was started with other weights.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from ..data import MASK_COLUMN
from ..folders import replacing
from ..judges import JudgeFailureError, JudgeReward, JudgeRow, Verdict
from ..judges.preset import REFERENCE_COLUMN
from ..judges.preset_questions import reference_of
from ..judges.reward import verdict_rewards


_FILE = "canary.json"


class CanaryError(JudgeFailureError):
    """A judge says of the same pictures what it did not say of them before."""


class Canary:
    """
    Args:
        folder (`Path`):
            Where pairs and first scores are kept, so that a resumed run goes on with the same.
        judges (`Mapping[str, JudgeReward]`):
            The judges by name.
        pairs (`int`):
            How many pairs, the first of the first rollout.
        tolerance (`float`):
            By how much a score may move; of scores above 1 in parts of the score.
        every (`int`, *optional*):
            Every how many steps they are asked; `None` for never.
    """

    def __init__(
        self, folder: Path, judges: Mapping[str, JudgeReward], pairs: int, tolerance: float, every: int | None
    ):
        self.folder = folder
        self.judges = judges
        self.pairs = pairs
        self.tolerance = tolerance
        self.every = every
        self._asked_at: int | None = None

    def is_due(self, step: int) -> bool:
        """Whether it is time to ask, and then it is not again: at the start of every run, resumed ones too, and `every` steps after the last time."""
        if self.every is None or not self.judges:
            return False
        if self._asked_at is not None and step - self._asked_at < self.every:
            return False
        self._asked_at = step  # on every process, though one asks
        return True

    def ask(self, rows: Sequence[JudgeRow], step: int) -> float | None:
        """
        Ask about the pairs, the first time about those of `rows`.

        Args:
            rows (`Sequence[JudgeRow]`): candidates of the rollout.
            step (`int`): the training step.

        Returns:
            `float`: the largest move since the first time, `None` the first time and where there is nothing to compare.

        Raises:
            [`CanaryError`]: when a score has moved by more than `tolerance`.
        """
        if not (self.folder / _FILE).is_file():
            reads = {name for judge in self.judges.values() for preset in judge.presets for name in preset.reads}
            asked = []
            for row in rows[: self.pairs]:
                columns = {name: row.columns[name] for name in sorted(reads & row.columns.keys())}
                if columns.get(REFERENCE_COLUMN) is not None:
                    columns[REFERENCE_COLUMN] = reference_of(row)
                if row.mask is not None:
                    columns[MASK_COLUMN] = row.mask
                asked.append(JudgeRow(row.prompt, row.images[:2], row.source_image, columns=columns))
            self._keep(asked, {name: self._scores(judge, asked) for name, judge in self.judges.items()}, step)
            return None
        asked, kept, first_step = self._kept()
        moves = [0.0]
        for name, before in kept.items():
            if name not in self.judges:
                continue
            after = self._scores(self.judges[name], asked)
            known = [(b, a) for of_pair in zip(before, after, strict=True) for b, a in zip(*of_pair, strict=False)]
            for was, found in known:
                if was is None or found is None:
                    continue
                moves.append(abs(found - was) / max(1.0, abs(was)))
                if moves[-1] > self.tolerance:
                    raise CanaryError(
                        f"The judge {name} gives {found:.3f} at step {step} to what it gave {was:.3f} at step {first_step}, "
                        f"which is more apart than canary_tolerance={self.tolerance:g}: whatever answers is not what it was. "
                        "A corrupted multimodal cache of the server does that, and so does a restart with other weights or "
                        f"settings. Restart it as it was, and resume; or delete {self.folder} if the change was meant."
                    )
        return max(moves) if len(moves) > 1 else None

    def _scores(self, judge: JudgeReward, rows: list[JudgeRow]) -> list[list[float | None]]:
        return [_scores_of(verdict) for verdict in judge.probe().compare(rows)]

    def _keep(self, rows: list[JudgeRow], scores: dict[str, list], step: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        described = []
        for i, row in enumerate(rows):
            names, columns = {}, dict(row.columns)
            reference, mask = columns.pop(REFERENCE_COLUMN, None), columns.pop(MASK_COLUMN, None)
            for kind, images in (
                ("image", row.images),
                ("source", row.sources),
                ("reference", [] if reference is None else [reference]),
                ("mask", [] if mask is None else [mask]),
            ):
                names[kind] = [f"{i}-{kind}-{j}.png" for j in range(len(images))]
                for name, image in zip(names[kind], images, strict=True):
                    image.save(self.folder / name)
            files = {f"{kind}s": found for kind, found in names.items()}
            described.append({"prompt": row.prompt, **files, "columns": columns})
        with replacing(self.folder / _FILE) as written:  # last, so that what is there is whole
            content = {"step": step, "rows": described, "scores": scores}
            written.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def _kept(self) -> tuple[list[JudgeRow], dict[str, list[list[float | None]]], int]:
        content = json.loads((self.folder / _FILE).read_text(encoding="utf-8"))

        def pictures(names: list[str]) -> list[Image.Image]:
            return [Image.open(self.folder / name).convert("RGB") for name in names]

        rows = []
        for row in content["rows"]:
            columns = row.get("columns", {})
            for name, kept in ((REFERENCE_COLUMN, "references"), (MASK_COLUMN, "masks")):
                for picture in pictures(row.get(kept, [])):  # those of earlier versions have none
                    columns[name] = picture
            sources = pictures(row["sources"]) or None
            rows.append(JudgeRow(row["prompt"], tuple(pictures(row["images"])), sources, columns=columns))
        return rows, content["scores"], content["step"]


def _scores_of(verdict: Verdict) -> list[float | None]:
    """What shows most of what a judge thinks of a pair: scores, its lead, or the rewards of its ranks."""
    if verdict.failure is not None:
        return [None]
    if verdict.scores is None and verdict.lead is not None:
        return [verdict.lead]
    return verdict_rewards(verdict)
