"""How Sphinx builds these pages: `make docs`. Pages are Markdown; the API reference comes from the docstrings."""

import re
import sys
from pathlib import Path

from arr_trl import __version__


project = "arr_trl"
version = release = __version__
sys.path.append(str(Path(__file__).parents[1] / "extensions"))
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "error_sentences"]
html_theme = "furo"
html_title = "arr_trl"
html_show_sourcelink = False
html_show_copyright = False
# sources of the package and examples are linked where they are; a built page offers them as files
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
suppress_warnings = ["myst.xref_missing"]  # tests/test_docs.py checks the links, those that leave this folder too
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say the types
autodoc_mock_imports = ["torchvision"]
napoleon_use_rtype = False
napoleon_use_param = False
default_role = "code"

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]\[]+?)\]\((https?://[^)\s]+)\)", re.DOTALL)
_REFERENCE = re.compile(r"\[`~?([^`\]]+)`\]")


def to_restructured_text(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are in TRL's format, Google's sections with Markdown in them; autodoc reads reStructuredText."""
    text = "\n".join(lines)
    text = _FENCE.sub(_code_block, text)
    text = _LINK.sub(lambda m: f"`{' '.join(m[1].split())} <{m[2]}>`__", text)
    text = _REFERENCE.sub(lambda m: f"`{m[1].lstrip('~')}`", text)
    text = re.sub(r"^ *> (Parameters that .*)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^( *)Parameters:$", r"\1Args:", text, flags=re.MULTILINE)
    lines[:] = text.split("\n")


def _code_block(match: re.Match) -> str:
    indent, language, code = match.groups()
    body = "\n".join("    " + line if line.strip() else "" for line in code.rstrip().split("\n"))
    return f"{indent}.. code-block:: {'pycon' if '>>>' in code else language or 'text'}\n\n{body}\n"


def setup(app) -> None:
    # before napoleon, which takes the sections apart
    app.connect("autodoc-process-docstring", to_restructured_text, priority=100)
