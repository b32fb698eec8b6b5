"""The scenarios in testdata/*.txt (natsc/testing/script.py says how to read them); --rewrite writes what they gave."""

from __future__ import annotations

from pathlib import Path

import pytest

from natsc.testing import script

FILES = sorted(Path(__file__).with_name("testdata").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_script(path, step, request):
    cases = script.parse(path.read_text())
    got = script.run(cases, step)
    if request.config.getoption("--rewrite", False) and step is None:
        path.write_text(script.render(got))
        return
    assert script.render(got) == script.render(cases)


def test_render_is_what_parse_read():
    for path in FILES:
        assert script.render(script.parse(path.read_text())) == path.read_text()


@pytest.mark.parametrize("line", [b"plain", b"tab\t cr\r lf\n back\\slash", bytes(range(256))])
def test_escape(line):
    assert script.unescape(script.escape(line)) == line
