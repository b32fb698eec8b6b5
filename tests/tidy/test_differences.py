"""docs/differences.md: each entry has a reason and a test that exists, and each directive that is not had is in it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "differences.md").read_text()
ENTRIES = dict(re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def test_every_entry_has_a_test_that_shows_it() -> None:
    shown = {title: re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text) for title, text in ENTRIES.items()}
    assert [title for title, tests in shown.items() if not tests] == []
    gone = []
    for tests in shown.values():
        for path, test in tests:
            if not (ROOT / path).exists() or f"def {test}" not in (ROOT / path).read_text():
                gone.append(f"{path}::{test}")
    assert gone == []


def test_what_is_not_had_is_listed() -> None:
    found: set[str] = set()
    for path in (ROOT / "natsc" / "config").glob("*.py"):
        found |= set(re.findall(r"\b(?:unsupported|refused)\.append\(\"([^\"]+)\"\)", path.read_text()))
    assert sorted(name for name in found if f"`{name}`" not in PAGE) == []
