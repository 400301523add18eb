"""What a judge is asked, in words: the prompt templates of the package, rendered to the parts of a message."""

import hashlib
import re
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image


LANGUAGES = ("en", "zh")
TEMPLATE_VERSION = "1"
# Stands where an image goes while the template is rendered; removed from what users write.
_MARK = "\x00"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("arr_trl.judges"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


@lru_cache(maxsize=32)
def template_id(name: str) -> str:
    """Name, version and digest of a template: what the verdict store files an answer under."""
    source, _, _ = _environment().loader.get_source(_environment(), f"{name}.jinja2")
    return f"{name}/{TEMPLATE_VERSION}-{hashlib.sha256(source.encode('utf-8')).hexdigest()[:8]}"


def render_content(name: str, images: list[Image.Image | list[Image.Image]], **variables: Any) -> list[dict[str, Any]]:
    """
    Render a template to the content of a user message.

    Args:
        name (`str`):
            Template without its ending, such as `"ranks.en"`.
        images (`list`):
            What `image(i)` in the template stands for, an image or several.
        **variables:
            The template's variables.

    Returns:
        `list[dict]`: text and image parts in the order the template has them.
    """
    variables = {k: v.replace(_MARK, "") if isinstance(v, str) else v for k, v in variables.items()}
    template = _environment().get_template(f"{name}.jinja2")
    text = template.render(image=lambda i: f"{_MARK}{i}{_MARK}", **variables)
    parts: list[dict[str, Any]] = []
    # the pattern has a group, so that texts and image numbers alternate
    for position, piece in enumerate(re.split(f"{_MARK}(\\d+){_MARK}", text)):
        if position % 2:
            shown = images[int(piece)]
            parts += [{"type": "image", "image": i} for i in (shown if isinstance(shown, list) else [shown])]
        elif piece := re.sub(r"\n{3,}", "\n\n", piece).strip():
            parts.append({"type": "text", "text": piece})
    return parts
