"""The pictures that an editing row starts from."""

from typing import Any

from PIL import Image


def source_images(row: dict[str, Any]) -> list[Image.Image]:
    """
    The pictures in a row's `source_image`, one or several references.

    Raises:
        `ValueError`: when there is none, or something else than RGB pictures.
    """
    found = row.get("source_image")
    images = list(found) if isinstance(found, list | tuple) else [found]
    if not images or any(not isinstance(image, Image.Image) or image.mode != "RGB" for image in images):
        raise ValueError(
            f"The row with the prompt {row['prompt']!r} has {found!r} as `source_image`; an editing pipeline needs an "
            "RGB picture (`arr_trl.data.load_image` makes one) or a list of them."
        )
    return images


def single_source(row: dict[str, Any], pipeline: str, otherwise: str | None = None) -> Image.Image:
    """
    The picture in a row's `source_image`, for a `pipeline` that edits one; `otherwise` is advice for who has several.

    Raises:
        `ValueError`: when there is none, or more than one.
    """
    images = source_images(row)
    if len(images) > 1:
        raise ValueError(
            f"The row with the prompt {row['prompt']!r} has {len(images)} source images, and {pipeline} edits one"
            + (f"; {otherwise}." if otherwise else ".")
        )
    return images[0]
