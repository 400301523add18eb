"""Soft-TIFA over a benchmark: pictures that somebody drew for its prompts, and what GenEval 2's own analysis tells of them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..data.images import load_image
from ..intervals import rate_interval
from ..judges.soft_tifa import SoftTIFA, soft_tifa_scores
from ..judges.stats import JudgeStats
from ..text_files import read_json, read_text


_CHUNK = 32  # pictures in memory at once


def read_pictures(path: str | Path) -> dict[str, Path]:
    """
    Where the picture of each prompt is, from a JSON object of prompts and paths, as GenEval 2's own script takes it; the
    paths are relative to the file.

    Raises:
        `ValueError`: when the file is something else.
    """
    try:
        pictures = read_json(read_text(Path(path)))
    except ValueError as error:
        raise ValueError(
            f"{path} is not valid JSON ({error}); it has to be an object of prompts and paths."
        ) from error
    if not isinstance(pictures, dict) or not all(isinstance(name, str) for name in pictures.values()):
        raise ValueError(f"{path} has to be a JSON object of prompts and the paths of their pictures.")
    return {prompt: Path(path).parent / name for prompt, name in pictures.items()}


def evaluate_tifa(scorer: SoftTIFA, rows: Iterable[Mapping[str, Any]], pictures: Mapping[str, Any]) -> dict[str, Any]:
    """
    Soft-TIFA of the pictures of a benchmark.

    Args:
        scorer ([`~arr_trl.judges.soft_tifa.SoftTIFA`]): asks the questions.
        rows (`Iterable[Mapping]`): rows of the prompt set `geneval2`: `prompt`, `vqa_list`, `skills`, `atom_count`.
        pictures (`Mapping`): the picture of each prompt, or where it is.

    Returns:
        `dict`: `soft_tifa_am` and `soft_tifa_gm`, the means over the prompts that have both a picture and all answers, with
        their 95% bootstrap intervals; `missing`, how many have not; `skills`, the mean over all answered questions of a
        skill; `atom_counts`, the geometric means of the prompts of as many atoms; and what it cost.

    Raises:
        `ValueError`: when no prompt has a picture.
    """
    rows = list(rows)
    drawn = [row for row in rows if row["prompt"] in pictures]
    if not drawn:
        raise ValueError("None of the prompts has a picture; name the pictures by the prompts they were drawn for.")
    stats, scores = JudgeStats(), []
    of_skill: dict[str, list[float]] = {}
    of_count: dict[int, list[float]] = {}
    for start in range(0, len(drawn), _CHUNK):
        some = drawn[start : start + _CHUNK]
        images = [_picture(pictures[row["prompt"]]) for row in some]
        atoms, cost = scorer.atoms(images, [row["vqa_list"] for row in some])
        stats += cost
        for row, probabilities in zip(some, atoms, strict=True):
            scores.append(soft_tifa_scores(probabilities))
            for skill, probability in zip(row["skills"], probabilities, strict=True):
                if probability is not None:
                    of_skill.setdefault(skill, []).append(probability)
            if scores[-1]["gm"] is not None:
                of_count.setdefault(row["atom_count"], []).append(scores[-1]["gm"])
    scores = [score for score in scores if score["am"] is not None]
    summary: dict[str, Any] = {"prompts": len(rows), "missing": len(rows) - len(scores)}
    for name in ("am", "gm"):
        values = [score[name] for score in scores]
        interval = rate_interval(values) if values else None
        summary[f"soft_tifa_{name}"] = _mean(values)
        summary[f"soft_tifa_{name}_ci"] = None if interval is None else list(interval)
    return summary | {
        "skills": {name: _mean(values) for name, values in sorted(of_skill.items())},
        "atom_counts": {str(count): _mean(values) for count, values in sorted(of_count.items())},
        "calls": stats.calls,
        "stored": stats.stored,
        "prompt_tokens": stats.prompt_tokens,
    }


def _picture(found: Any) -> Image.Image:
    return found if isinstance(found, Image.Image) else load_image(found)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
