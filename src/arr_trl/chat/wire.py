"""Pictures and text as they travel between a judge and its server."""

import base64
import io

from PIL import Image

from ..rgb import as_rgb


_BEGINNING = 80  # characters of a text that a sentence about it shows


def data_url(image: Image.Image, max_size: int) -> str:
    """
    A picture as a PNG in an address, its longest side `max_size` at most.

    Raises:
        `ValueError`: when nothing says how bright it is, see [`~arr_trl.rgb.as_rgb`].
    """
    image = as_rgb(image)
    if max(image.size) > max_size:
        image.thumbnail((max_size, max_size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)  # level 6 takes four times as long for 10% of the bytes
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def well_formed(text: str) -> str:
    """Text without halves of characters, which a cut reply may hold and which no file or server takes."""
    return text.encode("utf-8", "replace").decode("utf-8")


def beginning(text: str) -> str:
    """How a text begins, on one line."""
    words = " ".join(text[: 4 * _BEGINNING].split())
    return words if len(words) <= _BEGINNING else words[:_BEGINNING] + "…"
