"""Runs one command line through natsc and through nats-server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from natsc import cli
from tests.reference import nats_server as find_nats_server

TIMEOUT_S = 10.0

# Exit code, stdout, stderr.
Answer = tuple[int, str, str]


@pytest.fixture(scope="session")
def nats_server() -> str:
    """The path of the reference; its absence fails the test."""
    return find_nats_server()


@pytest.fixture
def reference(nats_server: str, tmp_path: Path) -> Callable[..., Answer]:
    """nats-server's answer to a command line on which it ends by itself."""

    def run(*args: str) -> Answer:
        done = subprocess.run(
            [nats_server, *args], cwd=tmp_path, capture_output=True, timeout=TIMEOUT_S, stdin=subprocess.DEVNULL
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run


@pytest.fixture
def natsc(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """natsc's answer, without a process of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> Answer:
        capfd.readouterr()
        code = cli.main(args)
        out, err = capfd.readouterr()
        return code, out, err

    return run
