"""Pictures of any mode made into what models look at: RGB, upright, with the brightness that they have."""

import numpy as np
from PIL import Image, ImageOps


_WITH_16_BITS = ("PNG", "PPM")  # what Pillow reads of these as mode `I` is 16 bits of grey


def as_rgb(image: Image.Image, name: str = "the picture") -> Image.Image:
    """
    A copy of a picture in RGB: turned as its EXIF data say; transparency laid on white; greyscale, palettes and CMYK
    converted. `Image.convert` alone would show what is transparent, and make white of most greys of 16 bits.

    Args:
        image (`PIL.Image.Image`): the picture, of any mode.
        name (`str`, *optional*, defaults to `"the picture"`): what it is called in the error.

    Raises:
        `ValueError`: as [`check_white`].
    """
    check_white(image, name)
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip to 8
        image = Image.fromarray((np.asarray(image).astype(np.int64) // 257).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def check_white(image: Image.Image, name: str) -> None:
    """
    Raises:
        `ValueError`: when nothing says how bright the picture is.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in _WITH_16_BITS):
        raise ValueError(
            f"{name} holds {'fractions' if image.mode == 'F' else 'numbers of 32 bits'}, and nothing says which of them "
            "is white; save it with 8 or 16 bits."
        )
