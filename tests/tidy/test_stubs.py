"""The stubs of compiled modules name what these have: every class, and every public method and attribute of it."""

from __future__ import annotations

import ast
import importlib
import inspect
import operator
import re
from pathlib import Path

import pytest

NATSC = Path(__file__).parents[2] / "natsc"
STUBS = sorted(path for path in NATSC.rglob("*.pyi"))
# Classes for type checkers alone.
ONLY_IN_STUBS = {"Stage"}
NOT_FOR_PYTHON = {"ReadBuffer"}


def name_of(path: Path) -> str:
    return ".".join(("natsc", *path.relative_to(NATSC).with_suffix("").parts))


def names(node: ast.ClassDef) -> set[str]:
    """What a class of a stub has."""
    found = set()
    for entry in node.body:
        if isinstance(entry, ast.FunctionDef):
            found.add(entry.name)
        elif isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
            found.add(entry.target.id)
    return {name for name in found if not name.startswith("_")}


@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.stem)
def test_stubs_name_what_there_is(path: Path) -> None:
    module = importlib.import_module(name_of(path))
    nodes = ast.parse(path.read_text()).body
    ours = {
        name for name, value in vars(module).items() if isinstance(value, type) and value.__module__ == module.__name__
    }
    assert ours - NOT_FOR_PYTHON == {node.name for node in nodes if isinstance(node, ast.ClassDef)} - ONLY_IN_STUBS
    for node in nodes:
        if isinstance(node, ast.ClassDef) and node.name not in ONLY_IN_STUBS:
            there = {name for name in vars(getattr(module, node.name)) if not name.startswith("_")}
            inherited = {name for base in getattr(module, node.name).__mro__[1:] for name in vars(base)}
            assert names(node) - inherited == there - inherited, node.name


def parameters(node: ast.FunctionDef) -> list[str]:
    args = node.args
    names = [arg.arg for arg in (*args.posonlyargs, *args.args)]
    return [*names, *(arg.arg for arg in (args.vararg, *args.kwonlyargs, args.kwarg) if arg is not None)]


def functions(path: Path) -> list[tuple[str, ast.FunctionDef]]:
    """What a stub has, by dotted names: functions and methods, properties and special methods aside."""
    found = []
    for node in ast.parse(path.read_text()).body:
        inside = node.body if isinstance(node, ast.ClassDef) and node.name not in ONLY_IN_STUBS else [node]
        prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        found += [
            (prefix + entry.name, entry)
            for entry in inside
            if isinstance(entry, ast.FunctionDef) and not entry.decorator_list and not entry.name.startswith("__")
        ]
    return found


@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.stem)
def test_functions_take_what_the_stubs_say(path: Path) -> None:
    module = importlib.import_module(name_of(path))
    wrong = []
    for name, node in functions(path):
        there = list(inspect.signature(operator.attrgetter(name)(module)).parameters)
        if there != parameters(node):
            wrong.append(f"{name}: {there}, not {parameters(node)}")
    assert wrong == []


def test_compiled_modules_that_python_imports_have_stubs() -> None:
    compiled = {name_of(path) for path in NATSC.rglob("*.pyx")}
    imported = {
        other for path in NATSC.rglob("*.py") for other in re.findall(r"from (natsc[\w.]*) import", path.read_text())
    }
    assert compiled & imported <= {name_of(path) for path in STUBS}
