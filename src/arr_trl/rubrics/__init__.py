from .criterion import Criterion
from .provenance import Provenance
from .repository import RubricHubError
from .rubric import Rubric
from .text import parse_markdown, parse_rubric_text, to_markdown, to_rubric_text


__all__ = [
    "Criterion",
    "Provenance",
    "Rubric",
    "RubricHubError",
    "parse_markdown",
    "parse_rubric_text",
    "to_markdown",
    "to_rubric_text",
]
