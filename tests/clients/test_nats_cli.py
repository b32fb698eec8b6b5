"""The `nats` command says the same of natsc as of nats-server: the scripts in nats_cli, where it is on PATH."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from .compare import SCRIPTS, differences, run_both
from .scripts import read_script

DIFFERENCES = Path(__file__).parents[2] / "docs" / "differences.md"
NAMES = sorted(path.name for path in SCRIPTS.glob("*.txt"))


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("nats") is None, reason="the nats command isn't on PATH: see tests/clients/compare.py")
@pytest.mark.parametrize("name", NAMES)
def test_it_says_the_same(name):
    """What is different each time counts: a busy machine makes some commands wait too little."""
    script = read_script(SCRIPTS / name)
    wrong: dict[str, str] = {}
    for attempt in range(3):
        found = {text.partition("\n")[0]: text for text in differences(script, *run_both(script))}
        wrong = {where: text for where, text in found.items() if attempt == 0 or where in wrong}
        if not wrong:
            return
    raise AssertionError("\n".join(wrong.values()))


@pytest.mark.parametrize("name", NAMES)
def test_what_differs_is_named(name):
    headings = set(re.findall(r"^### (.*)$", DIFFERENCES.read_text(), re.MULTILINE))
    assert {step.differs for step in read_script(SCRIPTS / name).steps} - {""} <= headings
