"""What nats-server says about a configuration, and what natsc says: the same text, up to Go's random map order."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from natsc.config import check_config_file
from tests.reference import nats_server

# What stands inside a printed map or array: addresses and tokens in Go, three dots in natsc.
_INNER = re.compile(r"0x[0-9a-f]+|%!\w\(\*conf\.token=&\{\{[^}]*\}[^}]*\}\)")
_QUOTED_KEY = re.compile(r'map\["(\w+)":')
_SEED = re.compile(r'(is not a valid seed): "[^"\n]*"')  # natsc doesn't quote what may be one
_TIMEOUT_S = 20


def reference_says(name: str) -> tuple[int, str]:
    """(exit code, stderr) of `nats-server -t` in the current directory."""
    command = [nats_server(), "-t", "-c", name]
    done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False)
    return done.returncode, done.stderr.decode("utf-8", "surrogateescape")


def reference_starts(name: str) -> subprocess.Popen[bytes]:
    """As `reference_says`, but doesn't wait; the answer is for `reference_said`."""
    command = [nats_server(), "-t", "-c", name]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def reference_said(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, text = process.communicate(timeout=_TIMEOUT_S)
    return process.returncode, text.decode("utf-8", "surrogateescape")


def natsc_says(name: str) -> tuple[int, str]:
    code, text = check_config_file(name, "nats-server")
    return code, text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def comparable(said: tuple[int, str]) -> tuple[int, list[str]]:
    """Go goes through maps in random order, so the lines of several problems are sorted."""
    code, text = said
    text = _SEED.sub(r"\1", _QUOTED_KEY.sub(r"map[\1:", _INNER.sub("...", text.removeprefix("nats-server: "))))
    lines = text.split("\n")
    return code, sorted(lines)


def write(name: str, text: str | bytes) -> None:
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(data)
