"""What a run needs of TinyScenes: prompts to train and evaluate on, and the truth about a picture."""

from datasets import Dataset, ReadInstruction
from PIL import Image

from .scenes import Caption, captions, check, read


def prompts(split: str) -> Dataset:
    """
    The captions of a split as a dataset with a `prompt` column: `"train"` (480 rows) or `"test"` (240 rows). Slices such
    as `"test[:100]"` work as in `datasets`.
    """
    name = split.partition("[")[0]
    rows = captions(name)
    (part,) = ReadInstruction.from_spec(split).to_absolute({name: len(rows)})
    return Dataset.from_dict({"prompt": rows[part.from_ : part.to]})


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
