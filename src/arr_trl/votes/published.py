"""Votes as rows of a dataset with the pictures inside."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def published_rows(rows: Sequence[Mapping[str, Any]], folder: Path) -> Iterator[dict[str, Any]]:
    """
    Rows in the columns of [`~arr_trl.release.pairs.COLUMNS`].

    Args:
        rows (`Sequence[dict]`): rows of votes.
        folder (`Path`): folder that their paths are relative to.
    """
    with_source, with_mask = (any(name in row for row in rows) for name in ("source_image", "mask_image"))
    for row in rows:
        source = row.get("source_image") or []
        sources = source if isinstance(source, list) else [source]
        yield {
            "prompt": row["prompt"],
            **({"source_image": [_stored(folder / path) for path in sources]} if with_source else {}),
            **(
                {"mask_image": _stored(folder / row["mask_image"]) if "mask_image" in row else None}
                if with_mask
                else {}
            ),
            "images": [_stored(folder / path) for path in row["images"]],
            "label_rank": [float(rank) for rank in row["label_rank"]],
            "rationale": row.get("rationale"),
            "faults": [
                f"{which}: {kind}"
                for which, kinds in zip(("first", "second"), row["faults"], strict=True)
                for kind in kinds
            ],
            "rater": row["rater"],
            "time": row["time"],
        }


def _stored(path: Path) -> dict[str, Any]:
    return {"bytes": path.read_bytes(), "path": None}
