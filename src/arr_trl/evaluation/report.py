"""`report.html`: one file that shows an evaluation, without a network and without anything beside it."""

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from ..data import SOURCE_COLUMN, load_image
from ..folders import replacing
from ..rubrics import Rubric
from .curves import find_run, learning_curves
from .grid import side_by_side
from .page import KINDS_OF_FAULTS, asset, json_of_page, page_environment
from .pictures import picture_path
from .records import PairRecord
from .results import percent
from .summary import Evaluation, with_interval


# Longest side of a thumbnail by how many pictures there are at most: about 50 MB in a file at the worst.
_SIZES = ((1_000, 320), (4_000, 192), (10_000, 128), (None, 96))
_PER_BLOCK = 60


def write_report(
    output: str | Path, evaluation: Evaluation, pairs: Sequence[PairRecord], rows: Sequence[dict[str, Any]]
) -> Path:
    """
    Write `report.html` of an evaluation.

    Thumbnails are inside the file, smaller the more there are. Pictures in full are taken from `images` beside it when
    one is opened.

    Args:
        output (`str` or `Path`): folder of the evaluation.
        evaluation ([`Evaluation`]): what was found.
        pairs (`Sequence[PairRecord]`): every comparison.
        rows (`Sequence[dict]`): the prompts, and the pictures to edit as `source_image`.

    Returns:
        `Path`: the file.
    """
    output = Path(output)
    models = list(evaluation.models)
    per_prompt = evaluation.settings["num_images_per_prompt"]
    with_sources = rows[0].get(SOURCE_COLUMN) is not None
    number = len(rows) * per_prompt * len(models)
    size = next(side for most, side in _SIZES if most is None or number <= most)
    found = {run: name for name, path in evaluation.adapters.items() if (run := find_run(path)) is not None}
    curves = learning_curves(
        {name: run for run, name in found.items()}
    )  # several adapters of one run share its curves
    comparisons = list(dict.fromkeys(pair.models for pair in pairs))
    rubric = evaluation.judge and evaluation.judge["rubric"]
    pictures = [
        picture_path(output / "images", model, prompt, image)
        for prompt in range(len(rows))
        for image in range(per_prompt)
        for model in models
    ]
    data = {
        "models": models,
        "comparisons": comparisons,
        "criteria": {c["criterion"]: c["text"] for found in evaluation.comparisons for c in found["criteria"]},
        "prompts": [row["prompt"] for row in rows],
        "pairs": [_short(pair, comparisons.index(pair.models)) for pair in pairs],
        "perPrompt": per_prompt,
        "perBlock": _PER_BLOCK,
        "sources": len(pictures) if with_sources else None,
        "size": _fitted((evaluation.settings["width"], evaluation.settings["height"]), size),
        "curves": curves,
        "kinds": KINDS_OF_FAULTS,
    }
    # votes that a browser keeps are about these pairs, and not those of another evaluation
    data["id"] = hashlib.sha256(json.dumps([data["prompts"], data["pairs"]]).encode()).hexdigest()[:16]
    if with_sources:
        pictures += [_kept_source(output / "images", i, row[SOURCE_COLUMN]) for i, row in enumerate(rows)]
    judged = [pair for pair in pairs if pair.failure is None]
    failures = Counter(pair.failure for pair in pairs if pair.failure is not None)
    adapters = [name for name in models if name in evaluation.adapters]
    html = page_environment().get_template("report.html.jinja2")
    stream = html.stream(
        title=f"{', '.join(adapters) or 'base'} against {Path(evaluation.base_model).name}",
        evaluation=evaluation,
        judged=[found for found in evaluation.comparisons if found["win_rate"] is not None],
        measures=_measures(evaluation),
        has_curves=bool(curves),
        answered=sum(pair.consistent is not None for pair in judged),
        disagreements=sum(pair.consistent is False for pair in judged),
        failures=failures.most_common(20) if evaluation.judge else [],
        rubric=rubric,
        rubric_text=rubric and Rubric.model_validate(rubric).render(),
        settings_text=json.dumps(_settings(evaluation), indent=2, ensure_ascii=False),
        data=json_of_page(data),
        thumbnails=_blocks(pictures, size),
        style=asset("templates/report.css")
        + asset("templates/vote.css")
        + (asset("vendor/uplot/uPlot.min.css") if curves else ""),
        chart_library=asset("vendor/uplot/uPlot.iife.min.js"),
        script=asset("templates/report.js"),
        vote_script=asset("templates/vote.js") + asset("templates/report_vote.js"),
        interval=with_interval,
        percent=percent,
    )
    path = output / "report.html"
    with replacing(path) as written, written.open("w", encoding="utf-8") as file:
        file.writelines(stream)
    return path


def _short(pair: PairRecord, comparison: int) -> dict[str, Any]:
    """A comparison as the script reads it; ten thousand of them should stay small."""
    return {
        "p": pair.prompt,
        "k": pair.image,
        "c": comparison,
        "w": pair.winner,
        "f": pair.failure,
        "a": pair.consistent,
        "g": pair.margin,
        "r": pair.reason,
        "s": pair.reason_reversed,
        "o": pair.orders,
        "t": pair.criteria,
        "v": pair.rewards,
    }


def _measures(evaluation: Evaluation) -> list[dict[str, Any]]:
    models = list(evaluation.models.values())
    rows = [
        ("pixel diversity within prompts, 0–1; falls when a model collapses", [_number(m, "pixel_diversity") for m in models]),
        ("drift from the base in pixels, 0–1", [_number(m, "drift") for m in models]),
    ]  # fmt: skip
    rows += [(name, [_number(m["rewards"][name], "mean") for m in models]) for name in models[0]["rewards"]]
    if "success" in models[0]:
        rows += [(f"meets {name}", [percent(m["success"][name]) for m in models]) for name in models[0]["success"]]
        rows.append(("meets all criteria", [percent(m["success_all"]) for m in models]))
    for found in evaluation.comparisons:
        for name, rate in found["rewards"].items():
            first, second = found["models"]
            cells = {first: "", second: with_interval(rate, "win_rate")}
            label = f"{name}: how often {second} has more than {first}"
            rows.append((label, [cells.get(model, "") for model in evaluation.models]))
    return [{"label": label, "values": values} for label, values in rows]


def _number(found: dict[str, Any], name: str) -> str:
    if found[name] is None:
        return "–"
    interval = found[f"{name}_ci"]
    return f"{found[name]:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    adapters = {}
    for name, path in evaluation.adapters.items():
        config = Path(path, "adapter_config.json")
        known = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
        adapters[name] = {key: known[key] for key in ("r", "lora_alpha", "target_modules") if key in known}
    judge = None if evaluation.judge is None else {k: v for k, v in evaluation.judge.items() if k != "rubric"}
    return {
        "base_model": evaluation.base_model,
        "adapters": adapters,
        "inference": evaluation.settings,
        "judge": judge,
    }


def _blocks(pictures: Sequence[Path], size: int) -> Iterator[Markup]:
    for start in range(0, len(pictures), _PER_BLOCK):
        yield json_of_page([_thumbnail(path, size) for path in pictures[start : start + _PER_BLOCK]])


def _thumbnail(path: Path, size: int) -> str:
    with Image.open(path) as image:
        image = image.convert("RGB")
        tiny = max(image.size) <= 64  # every pixel counts, and lossless is small
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, format="WEBP", lossless=tiny, quality=70, method=2)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _kept_source(images: Path, prompt: int, source: Any) -> Path:
    """A copy of the picture that was edited, several beside each other."""
    path = images / "source" / f"{prompt:05d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = load_image(source)
    (side_by_side(picture) if isinstance(picture, list) else picture).save(path)
    return path


def _fitted(size: tuple[int, int], longest: int) -> list[int]:
    """Width and height of a thumbnail."""
    scale = min(1.0, longest / max(size))
    return [max(1, round(side * scale)) for side in size]
