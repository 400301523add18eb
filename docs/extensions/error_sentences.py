"""The directive `error-sentences`: every sentence that the package can end with, read from its source."""

import ast
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive


SOURCE = Path(__file__).parents[2] / "src" / "arr_trl"


def sentences(folder: Path = SOURCE) -> Iterator[tuple[str, str, str]]:
    """
    File, kind and text of every sentence, values as `…`: those of `raise`, and those that functions return to be raised
    or warned with.
    """
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                text = _text(node.exc.args[0])
                if text and len(text.replace("…", "").split()) > 2:
                    yield name, ast.unparse(node.exc.func).rpartition(".")[2], text
            elif isinstance(node, ast.Return) and node.value is not None:
                text = _text(node.value)
                if text and text.rstrip().endswith(".") and len(text.split()) > 5:
                    yield name, "said in an error or a warning", text


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
        return "".join(parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        both = [_text(side) or "…" for side in (node.left, node.right)]
        return None if both == ["…", "…"] else "".join(both)
    return None


class ErrorSentences(Directive):
    def run(self) -> list[nodes.Node]:
        rows: dict[str, list[tuple[str, str]]] = {}
        for name, kind, text in sentences():
            rows.setdefault(name, []).append((kind, text))
        found = []
        for name, told in rows.items():
            found.append(nodes.paragraph("", "", nodes.literal(text=name)))
            items = nodes.bullet_list()
            for kind, text in dict.fromkeys(told):
                line = nodes.paragraph(
                    "", "", nodes.Text(text), nodes.Text(" ("), nodes.emphasis(text=kind), nodes.Text(")")
                )
                items += nodes.list_item("", line)
            found.append(items)
        return found


def setup(app) -> dict:
    app.add_directive("error-sentences", ErrorSentences)
    return {"parallel_read_safe": True}
