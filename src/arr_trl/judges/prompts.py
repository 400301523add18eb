"""What a chat model is asked, in words: prompt templates, rendered to the parts of a message."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import (
    DictLoader,
    Environment,
    PackageLoader,
    StrictUndefined,
    Template,
    TemplateRuntimeError,
    UndefinedError,
    meta,
)
from jinja2.sandbox import ImmutableSandboxedEnvironment
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
    return f"{name}/{TEMPLATE_VERSION}-{source_digest(source)}"


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
    return _parts(_environment(package).get_template(f"{name}.jinja2"), dict(enumerate(images)), variables)


# of templates that may be from anybody: they can say what is asked, and call nothing
_SANDBOX = ImmutableSandboxedEnvironment(
    loader=DictLoader({}), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_of_source = lru_cache(maxsize=128)(_SANDBOX.from_string)


@lru_cache(maxsize=128)
def source_digest(source: str) -> str:
    """Digest of a template's text."""
    return hashlib.sha256(source.encode("utf-8")).hexdigest()[:8]


@lru_cache(maxsize=128)
def variables_of(source: str) -> frozenset[str]:
    """The variables that the text of a template names."""
    return frozenset(meta.find_undeclared_variables(_SANDBOX.parse(source))) - {"image"}


def render_source(
    source: str, images: Mapping[str, Image.Image | list[Image.Image]], **variables: Any
) -> list[dict[str, Any]]:
    """
    As [`render_content`], of a template's text in place of a file, with images by name: `image("source")`.

    Raises:
        `jinja2.TemplateError`: when the template names an image or a variable that there is not, or may not do what it does.
    """
    try:
        return _parts(_of_source(source), images, variables)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:  # of what the template computes
        raise TemplateRuntimeError(str(error)) from error


def _parts(template: Template, images: Mapping[Any, Any], variables: Mapping[str, Any]) -> list[dict[str, Any]]:
    order = list(images)

    def image(name: Any) -> str:
        if name not in images:
            raise UndefinedError(f"there is no image {name!r}")
        return f"{_MARK}{order.index(name)}{_MARK}"

    text = template.render(image=image, **{key: _unmarked(value) for key, value in variables.items()})
    parts: list[dict[str, Any]] = []
    # the pattern has a group, so that texts and image numbers alternate
    for position, piece in enumerate(re.split(f"{_MARK}(\\d+){_MARK}", text)):
        if position % 2:
            shown = images[order[int(piece)]]
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
