"""README's examples run, its commands are those of continuous integration, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PROGRAMS = [example for example in EXAMPLES if "def test_" not in example]
TESTS = [example for example in EXAMPLES if "def test_" in example]
COMMANDS = re.findall(r"^```console\n(.*?)\n```", README, re.MULTILINE | re.DOTALL)


pytestmark = pytest.mark.timeout(150)


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs(tmp_path: Path, program: str) -> None:
    (tmp_path / "program.py").write_text(program)
    assert run(tmp_path, sys.executable, "-W", "error", "program.py")


@pytest.mark.parametrize("tests", TESTS, ids=range(len(TESTS)))
def test_tests(tmp_path: Path, tests: str) -> None:
    (tmp_path / "test_it.py").write_text(tests)
    run(tmp_path, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto")


def test_there_are_two_commands_and_continuous_integration_runs_the_second() -> None:
    assert len(COMMANDS) == 2
    assert COMMANDS[0].endswith(".venv/bin/natsc -c conf/simple.conf")
    assert COMMANDS[1] in (ROOT / ".ci" / "run").read_text()


def test_links() -> None:
    links = set(re.findall(r"\]\(([^)#]+)\)", README))
    assert [link for link in sorted(links) if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_every_decision_is_listed_by_its_title() -> None:
    folder = ROOT / "docs" / "adr"
    pages = sorted(page for page in folder.glob("*.md") if page.name != "README.md")
    titles = [page.read_text().partition("\n")[0].removeprefix("# ").split(". ", 1) for page in pages]
    listed = re.findall(r"^(\d+)\. \[(.*)\]\((.*)\)$", (folder / "README.md").read_text(), re.MULTILINE)
    assert listed == [(number, title, page.name) for (number, title), page in zip(titles, pages, strict=True)]


def test_every_example_configuration_is_named() -> None:
    assert [path.name for path in (ROOT / "conf").glob("*.conf") if f"conf/{path.name}" not in README] == []
