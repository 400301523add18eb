"""The house: which folder may import from which, no circle between files, and files short enough to read."""

import ast
from pathlib import Path

import arr_trl


SOURCE = Path(arr_trl.__file__).parent
# A folder imports only from those above it. `docs/source/architecture.md` says what each is for.
ORDER = (
    "data",
    "policies",
    "sampling",
    "objectives",
    "chat",
    "rubrics",
    "rewards",
    "judges",
    "autorubric",
    "evaluation",
    "release",
    "pairs",
    "votes",
    "runtime",
    "trainer",
    "judge_training",
    "tiny_scenes",
    "cli",
)
LONGEST = 450

Module = tuple[str, ...]  # its place in the package: ("judges", "reward")


def modules() -> dict[Module, Path]:
    return {path.relative_to(SOURCE).with_suffix("").parts: path for path in sorted(SOURCE.rglob("*.py"))}


def imported_later(tree: ast.AST) -> list[ast.ImportFrom]:
    """What a package hands on from files that it imports at the first use, see `arr_trl/lazy.py`."""
    tables = [table for table in ast.walk(tree) if isinstance(table, ast.Dict)]
    called = any(isinstance(node, ast.Name) and node.id == "from_files" for node in ast.walk(tree))
    pairs = [(k.value, v.value) for table in tables for k, v in zip(table.keys, table.values, strict=True) if called]
    return [ast.parse(f"from {file} import {name}").body[0] for name, file in pairs]


def imported_by(module: Module, path: Path, known: dict[Module, Path]) -> set[Module]:
    """
    Modules of the package that a file imports, wherever in it, for types alone or not. What a package's `__init__` hands
    on is taken for the package.
    """
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in [*ast.walk(tree), *imported_later(tree)]:
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")[1:]) for alias in node.names if alias.name.startswith("arr_trl.")}
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = module[: -node.level]
        elif (node.module or "").split(".")[0] == "arr_trl":
            base = ()
        else:
            continue
        inside = tuple(part for part in (node.module or "").split(".") if part not in ("", "arr_trl"))
        for alias in node.names:
            for target in ((*base, *inside, alias.name), (*base, *inside), (*base, *inside, "__init__")):
                if target in known:
                    found.add(target)
                    break
    return found - {module}


def graph() -> dict[Module, set[Module]]:
    known = modules()
    return {module: imported_by(module, path, known) for module, path in known.items()}


def a_circle_in(edges: dict[Module, set[Module]]) -> list[Module] | None:
    done, path = set(), []

    def visit(module: Module) -> list[Module] | None:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        path.append(module)
        for target in sorted(edges.get(module, ())):
            if (circle := visit(target)) is not None:
                return circle
        done.add(path.pop())
        return None

    return next((circle for module in sorted(edges) if (circle := visit(module)) is not None), None)


def test_a_folder_imports_only_from_those_above_it():
    wrong = [
        f"{'/'.join(module)} imports {'/'.join(target)}"
        for module, targets in graph().items()
        for target in targets
        if len(module) > 1 and len(target) > 1 and ORDER.index(target[0]) > ORDER.index(module[0])
    ]
    assert not wrong


def test_files_at_the_top_import_nothing_of_the_package():
    assert not {module: targets for module, targets in graph().items() if len(module) == 1 and targets}.keys() - {
        ("__init__",)
    }


def test_no_circle_between_files():
    # `from ..package import name` means the package's `__init__`, which imports all of its files: within a package a file
    # names the file that it needs
    circle = a_circle_in(graph())
    assert circle is None, " > ".join("/".join(module) for module in circle)


def test_no_file_is_too_long_to_read():
    lengths = {
        "/".join(module): len(path.read_text(encoding="utf-8").splitlines()) for module, path in modules().items()
    }
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


def test_every_folder_is_in_the_order_that_the_architecture_shows():
    folders = {module[0] for module in modules() if len(module) > 1}
    assert folders == set(ORDER)
    page = (SOURCE.parents[1] / "docs" / "source" / "architecture.md").read_text(encoding="utf-8")
    assert "\n".join(ORDER) in page
