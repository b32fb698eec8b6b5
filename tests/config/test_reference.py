"""natsc and nats-server say the same about the same configuration: verdict, message, digest.

Three sources: `lines.txt`, a configuration a line; `cases.txt`, several files or an environment; `fields.py`, every
directive with a value of every kind.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from . import fields
from .reference import comparable, natsc_says, reference_said, reference_says, reference_starts, write

HERE = Path(__file__).parent

# The order in which nats-server goes through a map is random; where it decides which of two errors is told, natsc's
# answer must be one of nats-server's.
_TRIES = 20


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def assert_same(name: str) -> None:
    ours = comparable(natsc_says(name))
    theirs = comparable(reference_says(name))
    for _ in range(_TRIES):
        if ours == theirs:
            return
        theirs = comparable(reference_says(name))
    assert ours == theirs


def _lines() -> list[str]:
    text = (HERE / "lines.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("##")]


def _readable(line: str) -> str:
    return line.encode("ascii", "backslashreplace").decode()[:100]


@pytest.mark.parametrize("line", _lines(), ids=_readable)
def test_line(line: str) -> None:
    for symbol, char in (("⏎", "\n"), ("␀", "\0"), ("␉", "\t"), ("␍", "\r")):
        line = line.replace(symbol, char)
    write("main.conf", line)
    assert_same("main.conf")


def _cases() -> dict[str, list[str]]:
    cases: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in (HERE / "cases.txt").read_text(encoding="utf-8").split("\n"):
        if line.startswith("=== "):
            lines = cases.setdefault(line[4:], [])
        elif not line.startswith("##"):
            lines.append(line)
    return cases


CASES = _cases()


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, list[str]] = {}
    current: list[str] = []
    for line in CASES[name]:
        if line.startswith("$ ") and not files:
            variable, _, value = line[2:].partition("=")
            monkeypatch.setenv(variable, value.replace("\\n", "\n"))
        elif line.startswith("--- "):
            current = files.setdefault(line[4:], [])
        else:
            current.append(line)
    for file, content in files.items():
        write(file, "\n".join(content))
    assert_same("main.conf")


def _fields() -> list[tuple[str, str]]:
    return [(block, field) for block, (_, names) in fields.BLOCKS.items() for field in names.split()]


@pytest.mark.parametrize(("block", "field"), _fields())
def test_field(block: str, field: str) -> None:
    values = fields.VALUES if os.environ.get("NATSC_EXHAUSTIVE") else fields.SOME_VALUES
    names = [f"{number}.conf" for number in range(len(values))]
    for name, value in zip(names, values, strict=True):
        write(name, fields.BLOCKS[block][0] % f"{field}: {value}")
    running = [reference_starts(name) for name in names]
    ours = [comparable(natsc_says(name)) for name in names]
    theirs = [comparable(reference_said(process)) for process in running]
    for name, one, other in zip(names, ours, theirs, strict=True):
        if one != other:
            assert_same(name)


@pytest.mark.parametrize("value", fields.VALUES)
def test_all_top_level_directives_at_once(value: str) -> None:
    """Errors of different directives are all told."""
    names = [name for name in fields.BLOCKS["top"][1].split() if name not in fields.NOT_AT_ONCE]
    write("main.conf", "".join(f"{name}: {value}\n" for name in names))
    assert_same("main.conf")


@pytest.mark.parametrize("seed", range(8))
def test_random_text(seed: int) -> None:
    chance = random.Random(seed)
    for number in range(25):
        text = "".join(chance.choice(fields.PIECES) for _ in range(chance.randint(1, 15)))
        write(f"{number}.conf", chance.choice(("%s", "server_tags [%s] \n", "server_metadata {%s}\n")) % text)
        assert_same(f"{number}.conf")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b"port: \xff",
        b"\xff: 5",
        b'host: "\xe9\xff"',
        b"host: \xc3",
        b"server_tags: [\xff]",
        b"\xed\xa0\x80: 5",
    ],
    ids=repr,
)
def test_bytes_that_are_no_text(data: bytes) -> None:
    write("main.conf", data)
    assert_same("main.conf")


def test_missing_file() -> None:
    assert_same("nonesuch.conf")


def test_directory() -> None:
    os.mkdir("main.conf")
    assert_same("main.conf")


def test_unreadable_file() -> None:
    write("main.conf", "port: 5")
    os.chmod("main.conf", 0)
    assert_same("main.conf")
