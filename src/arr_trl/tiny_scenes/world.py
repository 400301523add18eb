"""What a run needs of TinyScenes: prompts to train and evaluate on, and the truth about a picture."""

from datasets import Dataset, Features, ReadInstruction, Value
from datasets import Image as ImageColumn
from PIL import Image

from .edits import Edit, check_edit, edits
from .preferences import preferences
from .scenes import Caption, captions, check, read


def prompts(split: str) -> Dataset:
    """
    The captions of a split as a dataset with a `prompt` column: `"train"` (480 rows) or `"test"` (240 rows). Slices such
    as `"test[:100]"` work as in `datasets`.
    """
    name = split.partition("[")[0]
    return Dataset.from_dict({"prompt": _part(captions(name), split)})


def edit_prompts(split: str) -> Dataset:
    """
    Edits of a split as a dataset with the columns `prompt`, the instruction, and `source_image`, the picture it is for:
    `"train"` (840 rows) or `"test"` (240 rows), one for each scene. Slices such as `"test[:100]"` work as in `datasets`.
    """
    name = split.partition("[")[0]
    rows = _part(edits(name), split)
    return Dataset.from_dict(
        {"prompt": [str(edit) for edit, _ in rows], "source_image": [source for _, source in rows]},
        features=Features({"prompt": Value("string"), "source_image": ImageColumn()}),
    )


def pairs(split: str) -> Dataset:
    """
    Preference pairs as a dataset with the columns `prompt`, `chosen` and `rejected`: `"train"`, four for each of its 480
    captions, or `"test"`, one for each of 240. Both pictures have faults at random, and the preferred one has fewer; see
    [`preferences`]. Slices such as `"test[:100]"` work as in `datasets`.
    """
    name = split.partition("[")[0]
    rows = _part(list(range({"train": 4, "test": 1}.get(name, 1) * len(captions(name)))), split)
    drawn = preferences(
        max(rows, default=-1) + 1, split=name, in_turn=True
    )  # the first ones are the same however many follow
    rows = [drawn[i] for i in rows]
    return Dataset.from_dict(
        {
            "prompt": [pair.prompt for pair in rows],
            "chosen": [pair.images[pair.winner] for pair in rows],
            "rejected": [pair.images[1 - pair.winner] for pair in rows],
        },
        features=Features({"prompt": Value("string"), "chosen": ImageColumn(), "rejected": ImageColumn()}),
    )


def success(prompts: list[str], completions: list[Image.Image], **columns) -> list[dict[str, bool]]:
    """
    Which criteria each picture meets, read from its pixels: an evaluation function for [`RPOTrainer`].

    Args:
        prompts (`list[str]`): captions.
        completions (`list[PIL.Image.Image]`): one picture for each.

    Returns:
        `list[dict[str, bool]]`: `colors`, `shapes`, `relation` and `count` of each picture; see [`check`].
    """
    return [check(Caption.parse(p), read(image)) for p, image in zip(prompts, completions, strict=True)]


def edit_success(
    prompts: list[str], completions: list[Image.Image], source_image: list[Image.Image], **columns
) -> list[dict[str, bool]]:
    """
    Which criteria each edited picture meets, read from its pixels: an evaluation function for [`RPOTrainer`].

    Args:
        prompts (`list[str]`): instructions.
        completions (`list[PIL.Image.Image]`): one edited picture for each.
        source_image (`list[PIL.Image.Image]`): the pictures that were edited.

    Returns:
        `list[dict[str, bool]]`: `edit`, `preserved_color`, `preserved_shape`, `preserved_position` and `count` of each
        picture; see [`check_edit`].
    """
    rows = zip(prompts, source_image, completions, strict=True)
    return [check_edit(Edit.parse(prompt), read(source), read(image)) for prompt, source, image in rows]


def _part(rows: list, split: str) -> list:
    """The rows that a split such as `"test[:100]"` names."""
    name = split.partition("[")[0]
    (part,) = ReadInstruction.from_spec(split).to_absolute({name: len(rows)})
    return rows[part.from_ : part.to]
