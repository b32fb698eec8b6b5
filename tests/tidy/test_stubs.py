"""The stubs of compiled modules name what these have: every class, and every public method and attribute of it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

NATSC = Path(__file__).parents[2] / "natsc"
STUBS = sorted(path for path in NATSC.rglob("*.pyi"))
# Classes for type checkers alone.
ONLY_IN_STUBS = {"Stage"}
NOT_FOR_PYTHON = {"ReadBuffer"}


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
    module = importlib.import_module(".".join(("natsc", *path.relative_to(NATSC).with_suffix("").parts)))
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


def test_compiled_modules_that_python_imports_have_stubs() -> None:
    assert {path.stem for path in STUBS} >= {"_core", "account", "permissions", "protocol"}
