"""Pictures that candidates are compared with: one of each prompt, drawn once by the frozen base."""

from collections.abc import Callable, Iterator
from pathlib import Path

from datasets import Dataset, Image
from datasets.table import embed_table_storage

from ..data import decode_sources, read_rows
from ..judges.preset import REFERENCE_COLUMN
from .painter import Painter, Wanted, edited, seed_of


_NUMBER = -1  # among the seeds of a prompt, whose pictures are numbered from 0
_AT_ONCE = 64  # rows whose sources are in memory
_ROWS_OF_A_FILE = 1000


def with_references(
    dataset: Dataset, painter: Painter, seed: int = 0, on_drawn: Callable[[int], None] = lambda count: None
) -> Dataset:
    """
    Prompts with a column `reference_image`, which presets such as `reference-yes` compare candidates with: a picture of each
    row by `painter`, from a seed that follows from the prompt and the picture that is edited. The same prompt has the same
    picture in every dataset, and what was drawn once is found again.

    Args:
        dataset ([`~datasets.Dataset`]):
            Rows with a `prompt`, and a `source_image` where the model edits.
        painter ([`Painter`]):
            The base. Its folder has to stay where it is as long as the dataset is used; [`write_prompts`] puts the pictures
            into the dataset.
        seed (`int`, *optional*, defaults to `0`):
            With the prompt and the source, that of the noise.
        on_drawn (`Callable`, *optional*):
            Called with the number of pictures of each batch.

    Raises:
        `ValueError`: when the dataset has such a column.

    Example:
    ```python
    >>> rows = with_references(prompts("train"), Painter(policy, "outputs/references", InferenceSettings(512, 512)))
    >>> trainer = RPOTrainer(model, PresetJudge("reference-yes", vlm, url), train_dataset=rows)
    ```
    """
    if REFERENCE_COLUMN in dataset.column_names:
        raise ValueError(
            f"The dataset has a column {REFERENCE_COLUMN!r} already; take it as it is, or remove it first."
        )
    paths = [path for some in _wanted(dataset, painter, seed) for path in painter.draw(some, on_drawn)]
    stored = [{"bytes": None, "path": str(path.absolute())} for path in paths]
    return dataset.add_column(REFERENCE_COLUMN, stored, feature=Image())


def _wanted(dataset: Dataset, painter: Painter, seed: int) -> Iterator[list[Wanted]]:
    for start in range(0, len(dataset), _AT_ONCE):
        rows = read_rows(dataset, range(start, min(start + _AT_ONCE, len(dataset))))
        rows = decode_sources(rows) if any(map(painter.policy.edits, rows)) else rows
        starts = [edited(painter.policy, row) for row in rows]
        prompts = [row["prompt"] for row in rows]
        yield [Wanted(p, s, seed_of(seed, _NUMBER, p, s), mask) for p, (s, mask) in zip(prompts, starts, strict=True)]


def write_prompts(dataset: Dataset, folder: Path) -> None:
    """
    Write rows to a folder that commands take as a dataset, with their pictures in them; a thousand rows are in memory at a
    time.

    Args:
        dataset ([`~datasets.Dataset`]): the rows.
        folder (`Path`): gets `data/train-00000.parquet` and so on.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    for old in data.glob("train-*.parquet"):
        old.unlink()
    for number, start in enumerate(range(0, len(dataset), _ROWS_OF_A_FILE)):
        part = dataset.select(range(start, min(start + _ROWS_OF_A_FILE, len(dataset))))
        whole = part.with_format("arrow").map(embed_table_storage, batched=True, batch_size=100, keep_in_memory=True)
        whole.with_format(None).to_parquet(data / f"train-{number:05}.parquet")
