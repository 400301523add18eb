"""
A configuration as its sources say, without what its trainer imports: its options and our checks of them, in a second and not
in seven, so that a mistake is told before anything is loaded.
"""

import ast
import builtins
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..text_files import read_text


# What of transformers' own, which prepares devices too, our checks look at.
_POST_INIT = ast.parse(
    """
def __post_init__(self):
    self.accelerator_config = type("AcceleratorConfig", (), {})()
    checkpointing = getattr(self, "activation_checkpointing", None)
    if checkpointing is not None:
        self.gradient_checkpointing = checkpointing
"""
).body


def light(module: str, name: str) -> Any:
    """
    What a module calls by a name, of which only that definition is executed, and what it needs. A class of this package
    keeps its methods; one of another package its fields alone.

    Args:
        module (`str`): where it is, such as `"arr_trl.trainer"`.
        name (`str`): a class or constant that is defined or imported there.

    Returns:
        `Any`: what stands in for it, also where the module is loaded: with the methods of others left out, a configuration
            asks nothing of the machine.

    Raises:
        `LookupError`: when the sources do not tell. They are those of other packages too, of which another version may be
            written otherwise; the module itself knows.
    """
    if module.partition(".")[0] in sys.stdlib_module_names:
        return getattr(import_module(module), name)
    source = _source(module)
    if name not in source.namespace:
        if name not in source.statements:
            if _path_of(f"{module}.{name}") is not None:
                return _Module(f"{module}.{name}")
            raise LookupError(f"{module} defines no {name}.")
        try:
            source.define(name)
        except (AttributeError, NameError, TypeError) as error:
            raise LookupError(f"{name} of {module} cannot be defined alone: {error}.") from error
    return source.namespace[name]


class _Module:
    """A module of which only what is asked for is executed."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return light(self._name, name)


class _Source:
    """A module's definitions, by name, and those that have been executed."""

    def __init__(self, module: str):
        self.module, self.path = module, _path_of(module)
        if self.path is None:
            raise LookupError(f"{module} has no source.")
        self.namespace: dict[str, Any] = {"__name__": module}
        tree = ast.parse(read_text(self.path))
        self.statements = {name: statement for statement in _top_level(tree.body) for name in _names(statement)}

    def define(self, name: str) -> None:
        statement = self.statements.pop(name)  # it may name itself
        if isinstance(statement, ast.ImportFrom):
            original = next(alias.name for alias in statement.names if name in (alias.asname, alias.name))
            self.namespace[name] = light(self._absolute(statement), original)
        elif isinstance(statement, ast.Import):
            self._import(name, statement)
        else:
            if isinstance(statement, ast.ClassDef):
                statement = self._without_methods(statement)
            called = {
                name for part in ast.walk(statement) if isinstance(part, ast.FunctionDef) for name in _used(part)
            }
            for used in _used(statement) & self.statements.keys():
                try:
                    light(self.module, used)
                except LookupError:
                    if used not in called:  # a method that needs it may be one that nobody calls here
                        raise
            exec(compile(ast.Module([statement], []), str(self.path), "exec"), self.namespace)

    def _import(self, name: str, statement: ast.Import) -> None:
        alias = next(a for a in statement.names if name == (a.asname or a.name.partition(".")[0]))
        package = alias.name.partition(".")[0]
        if alias.name not in sys.modules and package not in sys.stdlib_module_names:
            raise LookupError(f"{alias.name} is not loaded.")
        loaded = import_module(alias.name)
        self.namespace[name] = loaded if alias.asname else sys.modules[package]

    def _absolute(self, statement: ast.ImportFrom) -> str:
        parts = self.module.split(".")
        if self.path.name != "__init__.py":
            parts = parts[:-1]
        parts = parts[: len(parts) - statement.level + 1] if statement.level else []
        return ".".join([*parts, *([statement.module] if statement.module else [])])

    def _without_methods(self, statement: ast.ClassDef) -> ast.ClassDef:
        if self.module.startswith("arr_trl."):
            return statement
        kept = [
            part
            for part in statement.body
            if isinstance(part, ast.Assign | ast.AnnAssign) and not any(name.startswith("__") for name in _names(part))
        ]
        own = {field: getattr(statement, field) for field in statement._fields} | {"body": [*kept, *_POST_INIT]}
        return ast.copy_location(ast.ClassDef(**own), statement)


@cache
def _source(module: str) -> _Source:
    return _Source(module)


def _path_of(module: str) -> Path | None:
    """Where a module's source is; that of a part of a package without importing what is above it."""
    first, *parts = module.split(".")
    spec = find_spec(first)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent.joinpath(*parts)
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, also those under a condition, such as imports for types."""
    for statement in body:
        yield statement
        for part in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With):
                yield from _top_level(getattr(statement, part, []))


def _used(part: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(part) if isinstance(node, ast.Name)} - vars(builtins).keys()


def _names(statement: ast.stmt) -> Iterator[str]:
    """What a statement gives a name to."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = (node for target in targets for node in (target.elts if isinstance(target, ast.Tuple) else [target]))
        yield from (node.id for node in names if isinstance(node, ast.Name))
