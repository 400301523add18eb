"""What a chat model is asked, in words: prompt templates, rendered to the parts of a message."""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image


LANGUAGES = ("en", "zh")
TEMPLATE_VERSION = "1"
# Stands where an image goes while the template is rendered; removed from what users write.
_MARK = "\x00"


@lru_cache(maxsize=4)
def _environment(package: str) -> Environment:
    return Environment(loader=PackageLoader(package), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


@lru_cache(maxsize=32)
def template_id(name: str, package: str = "arr_trl.judges") -> str:
    """Name, version and digest of a template: what the verdict store files an answer under."""
    environment = _environment(package)
    source, _, _ = environment.loader.get_source(environment, f"{name}.jinja2")
    return f"{name}/{TEMPLATE_VERSION}-{hashlib.sha256(source.encode('utf-8')).hexdigest()[:8]}"


def render_content(
    name: str,
    images: Sequence[Image.Image | list[Image.Image] | None],
    package: str = "arr_trl.judges",
    **variables: Any,
) -> list[dict[str, Any]]:
    """
    Render a template to the content of a user message.

    Args:
        name (`str`):
            Template without its ending, such as `"ranks.en"`.
        images (`list`):
            What `image(i)` in the template stands for, an image or several.
        package (`str`, *optional*, defaults to `"arr_trl.judges"`):
            Package with the folder `templates` that the template stands in.
        **variables:
            The template's variables.

    Returns:
        `list[dict]`: text and image parts in the order the template has them.
    """
    template = _environment(package).get_template(f"{name}.jinja2")
    variables = {key: _unmarked(value) for key, value in variables.items()}
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


def _unmarked(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_MARK, "")
    if isinstance(value, list | tuple):
        return [_unmarked(part) for part in value]
    if isinstance(value, dict):
        return {key: _unmarked(part) for key, part in value.items()}
    return value
