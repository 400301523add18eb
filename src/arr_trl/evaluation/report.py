"""`report.html`: one file that shows an evaluation, without a network and without anything beside it."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import MASK_COLUMN, SOURCE_COLUMN, load_image, load_mask
from ..folders import hub_name, replacing
from ..rubrics import Rubric
from ..shipped import place_of
from .answer import answers
from .curves import find_run, learning_curves
from .grid import side_by_side
from .page import KINDS_OF_FAULTS
from .pairs_page import page_stream, short_pair
from .pictures import picture_path
from .records import PairRecord
from .summary import Evaluation, with_interval
from .thumbnails import PER_BLOCK, blocks_of, fitted, longest_side, of_files


def write_report(
    output: str | Path, evaluation: Evaluation, pairs: Sequence[PairRecord], rows: Sequence[dict[str, Any]]
) -> Path:
    """
    Write `report.html` of an evaluation: what it says in a sentence, the pictures with the judge's words, the figures.

    Thumbnails are inside the file, smaller the more there are. Pictures in full are taken from `images` beside it when
    one is opened.

    Args:
        output (`str` or `Path`): folder of the evaluation.
        evaluation ([`Evaluation`]): what was found.
        pairs (`Sequence[PairRecord]`): every comparison.
        rows (`Sequence[dict]`): the prompts, and the pictures to edit as `source_image`, with their `mask_image`.

    Returns:
        `Path`: the file.
    """
    output = Path(output)
    models = list(evaluation.models)
    per_prompt = evaluation.settings["num_images_per_prompt"]
    with_sources = rows[0].get(SOURCE_COLUMN) is not None
    with_masks = with_sources and all(row.get(MASK_COLUMN) is not None for row in rows)
    size = longest_side(len(rows) * per_prompt * len(models))
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
    # a judge that draws the order has reasons of which nobody knows what they call the first
    ordered = evaluation.judge is not None and evaluation.judge.get("order") in ("both", "fixed")
    data = {
        "models": models,
        "folders": [model.replace("/", "--") for model in models],
        "comparisons": [{"names": names, "models": [models.index(name) for name in names]} for names in comparisons],
        "criteria": {c["criterion"]: c["text"] for found in evaluation.comparisons for c in found["criteria"]},
        "prompts": [row["prompt"] for row in rows],
        "pairs": [
            short_pair(pair, comparisons.index(pair.models), pair.models if ordered else None) for pair in pairs
        ],
        "perPrompt": per_prompt,
        "perBlock": PER_BLOCK,
        "sources": len(pictures) if with_sources else None,
        "masks": len(pictures) + len(rows) if with_masks else None,
        "size": fitted((evaluation.settings["width"], evaluation.settings["height"]), size),
        "curves": curves,
        "kinds": KINDS_OF_FAULTS,
    }
    # votes that a browser keeps are about these pairs, and not those of another evaluation
    as_said = [short_pair(pair, comparisons.index(pair.models), None) for pair in pairs]
    data["id"] = hashlib.sha256(json.dumps([data["prompts"], as_said]).encode()).hexdigest()[:16]
    for column, there in ((SOURCE_COLUMN, with_sources), (MASK_COLUMN, with_masks)):
        if there:
            pictures += [_kept_beside(output / "images", i, row, column) for i, row in enumerate(rows)]
    judged = [pair for pair in pairs if pair.failure is None]
    failures = Counter(pair.failure for pair in pairs if pair.failure is not None)
    adapters = [name for name in models if name in evaluation.adapters]
    stream = page_stream(
        "report.html.jinja2",
        data,
        blocks_of(of_files(pictures, size)),
        title=f"{', '.join(adapters) or 'base'} against {Path(hub_name(place_of(evaluation.base_model))).name}",
        answers=answers(evaluation),
        evaluation=evaluation,
        judged=[found for found in evaluation.comparisons if found["win_rate"] is not None],
        successes=[found for found in evaluation.comparisons if "success" in found],
        several=len(comparisons) > 1,
        measures=_measures(evaluation),
        answered=sum(pair.consistent is not None for pair in judged),
        disagreements=sum(pair.consistent is False for pair in judged),
        failures=failures.most_common(20) if evaluation.judge else [],
        rubric=rubric,
        rubric_text=rubric and Rubric.model_validate(rubric).render(),
        settings_text=json.dumps(_settings(evaluation), indent=2, ensure_ascii=False),
    )
    path = output / "report.html"
    with replacing(path) as written, written.open("w", encoding="utf-8") as file:
        file.writelines(stream)
    return path


def _measures(evaluation: Evaluation) -> list[dict[str, Any]]:
    models = list(evaluation.models.values())
    rows = [
        ("pixel diversity within prompts, 0–1; falls when a model collapses", [_number(m, "pixel_diversity") for m in models]),
        ("drift from the base in pixels, 0–1", [_number(m, "drift") for m in models]),
    ]  # fmt: skip
    rows += [(name, [_number(m["rewards"][name], "mean") for m in models]) for name in models[0]["rewards"]]
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


def _kept_beside(images: Path, prompt: int, row: Mapping[str, Any], column: str) -> Path:
    """A copy of the picture that was edited, several beside each other, or of its mask."""
    path = images / column.removesuffix("_image") / f"{prompt:05d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = load_image(row[SOURCE_COLUMN])
    if column == MASK_COLUMN:
        picture = load_mask(row[column], picture)
    (side_by_side(picture) if isinstance(picture, list) else picture).save(path)
    return path
