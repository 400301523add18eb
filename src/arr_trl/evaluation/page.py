"""What pages for people are made of: templates that escape what they are given, and scripts and styles inside the file."""

import json
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


PACKAGE = "arr_trl.evaluation"
# What may be wrong with a picture, as people click it and critics name it.
KINDS_OF_FAULTS = ("missing", "wrong", "extra", "count", "relation", "text", "anatomy", "quality")


def page_environment(*packages: str) -> Environment:
    """
    Templates of pages.

    Args:
        *packages: further packages whose templates there are, before those of this one.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, PACKAGE)]),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def json_of_page(value: Any) -> Markup:
    """JSON that no value can break out of: `<` begins no tag inside a script."""
    return Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def asset(name: str, package: str = PACKAGE) -> Markup:
    """A file of a package, as it is."""
    return Markup(files(package).joinpath(name).read_text(encoding="utf-8"))
