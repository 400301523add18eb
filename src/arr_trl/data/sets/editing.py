"""Instructions and pictures that benchmarks edit."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from datasets import Image as ImageFeature
from datasets import List, Value

from ...text_files import read_json_of, read_text
from .base import PromptSet, Row


def _gedit(row: Row, language: str, intersection: bool) -> Row | None:
    if row["instruction_language"] != language or (intersection and not row["Intersection_exist"]):
        return None
    source = row["input_image_raw"] if row.get("input_image_raw") is not None else row["input_image"]
    return {"prompt": row["instruction"], "category": row["task_type"], "source_image": source}


def _gedit2(row: Row) -> Row:
    return {"prompt": row["instruction"], "category": row.get("task"), "source_image": row["source_image"]}


def _imgedit(row: Row) -> Row:
    return {"prompt": row["prompt"], "category": row.get("edit_type"), "source_image": row["id"]}


def _imgedit_multiturn(row: Row) -> Row:
    turns = [row[name] for name in ("turn1", "turn2", "turn3") if row.get(name)]
    return {"prompt": row["turn1"], "category": f"{len(turns)} turns", "source_image": row["id"], "turns": turns}


def _humanedit(row: Row) -> Row:
    return {
        "prompt": row["EDITING_INSTRUCTION"],
        "category": row["EDITING_TYPE"],
        "source_image": row["INPUT_IMG"],
        "mask_image": row["MASK_IMG"],
        "edited_image": row["OUTPUT_IMG"],
    }


def _object_of_rows(path: Path) -> Iterable[Row]:
    """The rows of a JSON object of rows, which `datasets` would take for one row."""
    rows = read_json_of(read_text(path), str(path))
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise ValueError(f"{path} has to be a JSON object of which every value is a row, an object of its own.")
    return rows.values()


_PICTURES = "with the pictures, from Benchmark.tar in the dataset sysuyy/ImgEdit on the Hub"
EDITING: tuple[PromptSet, ...] = (
    *(
        PromptSet(
            name=name,
            task="image-editing",
            schema="`instruction`, `instruction_language`, `task_type`, `input_image_raw` or `input_image`"
            + (", `Intersection_exist`" if intersection else ""),
            row=partial(_gedit, language=language, intersection=intersection),
            repo="stepfun-ai/GEdit-Bench",
            where="the dataset stepfun-ai/GEdit-Bench on the Hub",
        )
        for name, language, intersection in (
            ("gedit-bench", "en", False),
            ("gedit-bench-intersection", "en", True),
            ("gedit-bench-cn", "cn", False),
            ("gedit-bench-cn-intersection", "cn", True),
        )
    ),
    PromptSet(
        name="gedit-bench-v2",
        task="image-editing",
        schema="metadata.jsonl: `instruction`, `source_image`",
        row=_gedit2,
        where="metadata.jsonl, with the pictures beside it, of the dataset GEditBench-v2/GEditBench-v2 on the Hub",
    ),
    *(
        PromptSet(
            name=name,
            task="image-editing",
            schema=f"{file}: an object of `prompt`, `id`{also}, the picture beside the file",
            row=_imgedit,
            read=_object_of_rows,
            where=f"{file}, {_PICTURES}",
        )
        for name, file, also in (
            ("imgedit", "singleturn.json", " and `edit_type`"),
            ("imgedit-basic", "basic_edit.json", " and `edit_type`"),
            ("imgedit-uge", "UGE_edit.json", ""),
        )
    ),
    PromptSet(
        name="imgedit-multiturn",
        task="image-editing",
        schema="json: an object of `id`, `turn1`, `turn2`, `turn3`, the picture beside the file",
        row=_imgedit_multiturn,
        read=_object_of_rows,
        where=f"a file of the multi-turn benchmark, {_PICTURES}",
        features={"turns": List(Value("string"))},
    ),
    PromptSet(
        name="humanedit",
        task="image-editing",
        schema="`EDITING_INSTRUCTION`, `EDITING_TYPE`, `INPUT_IMG`, `MASK_IMG`, `OUTPUT_IMG`",
        row=_humanedit,
        repo="BryanW/HumanEdit",
        where="the dataset BryanW/HumanEdit on the Hub",
        features={"mask_image": ImageFeature(), "edited_image": ImageFeature()},
    ),
)
