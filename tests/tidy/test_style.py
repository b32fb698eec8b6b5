"""What a reader may count on in every file: a top that says what it is for, at most 800 lines, short functions."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("natsc", "tests", "benchmarks", "conf")
LINES_MAX = 800
FUNCTION_LINES_MAX = 70
# Longer than that, with a reason each.
LONG_FUNCTIONS = {
    "natsc/engine/parser.pxd:parse_pub_fast": "one pass over the most frequent line, without a call",
}


def sources() -> list[Path]:
    """The files of the project, those that git doesn't know yet included; what is built is left out."""
    ends = ("py", "pyx", "pxd", "pyi")
    found = [path for folder in FOLDERS for end in ends for path in (ROOT / folder).rglob(f"*.{end}")]
    return sorted(path for path in found if "__pycache__" not in path.parts)


SOURCES = sources()
CYTHON = [path for path in SOURCES if path.suffix in (".pyx", ".pxd")]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_a_file_has_an_end() -> None:
    assert [name(path) for path in SOURCES if len(path.read_text().splitlines()) > LINES_MAX] == []


def test_a_file_says_what_it_is_for() -> None:
    texts = {name(path): path.read_text() for path in SOURCES}
    assert [path for path, text in texts.items() if text.strip() and not text.startswith(('"""', "#"))] == []


def test_no_error_is_swallowed_unseen() -> None:
    swallows = re.compile(r"^\s*except\s*:|^\s*except (?:Base)?Exception:\s*(?:#.*)?\n\s*pass\b", re.MULTILINE)
    assert [name(path) for path in SOURCES if swallows.search(path.read_text())] == []


def test_nothing_is_left_to_do() -> None:
    mark = re.compile(r"\b(?:TO" r"DO|FIX" r"ME)\b")
    assert [name(path) for path in SOURCES if mark.search(path.read_text())] == []


def python_functions(path: Path) -> dict[str, int]:
    """Functions and their lines."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {
        node.name: (node.end_lineno or 0) - node.lineno + 1
        for node in nodes
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def cython_functions(path: Path) -> dict[str, int]:
    """Functions and their lines, told by indentation."""
    found: dict[str, int] = {}
    open_: list[tuple[int, str, int]] = []
    last = 0
    for number, line in enumerate([*path.read_text().splitlines(), "end"], 1):
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        while open_ and indent <= open_[-1][0] and not line.lstrip().startswith(")"):
            _, function, start = open_.pop()
            found[function] = last - start + 1
        match = re.match(r"\s*(?:async )?(?:def|cdef|cpdef)\b(?! class)[^=]*?(\w+)\(", line)
        if match and not line.rstrip().endswith(")") and " extern " not in line:
            open_.append((indent, match[1], number))
        last = number
    return found


def test_functions_are_short() -> None:
    """And those that are not are in the table, each still needing it."""
    lengths = {path: cython_functions(path) if path in CYTHON else python_functions(path) for path in SOURCES}
    long = {f"{name(path)}:{f}" for path, found in lengths.items() for f, n in found.items() if n > FUNCTION_LINES_MAX}
    assert long == set(LONG_FUNCTIONS)


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = [name(path.parent).replace("/", ".") for path in (ROOT / "natsc").rglob("__init__.py")]
    assert sorted(listed) == sorted(there)


def test_every_compiled_module_is_built() -> None:
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in CYTHON if path.suffix == ".pyx"]
    assert [module for module in modules if find_spec(module) is None] == []


def test_nothing_built_is_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert [path for path in listed.stdout.split() if path.endswith((".so", ".o", ".pyc", ".egg-info"))] == []
