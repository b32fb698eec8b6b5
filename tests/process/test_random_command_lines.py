"""Random command lines, seeded: natsc and nats-server answer the same.

Each ends in a `-t` that nothing before it can take away, and none sends a signal: no server starts, none is reached.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from natsc.flags import FLAGS

from .conftest import Answer

Run = Callable[..., Answer]

CASES = int(os.environ.get("NATSC_COMMAND_LINES", "100"))

NAMES = [name for name in FLAGS if name not in ("sl", "signal")]
VALUES = [
    "", "x", "0", "1", "-1", "+1", "007", "0x1F", "0o7", "0b1", "1_0", "1__0", "1.5", "1e3", "9" * 19, "9" * 18,
    "t", "T", "true", "TRUE", "tRUE", "f", "False", "no", "on", " 1", "1 ", "-D", "--", "=", "=1", "nats://h:1",
    "é", "\x07", '"', "\\", "\u2028", "\U0001f600", "\ufffd", "\u00a0",
]  # fmt: skip


def word(rng: random.Random) -> list[str]:
    """One or two words: mostly a flag with or without a value, sometimes something else."""
    name = rng.choice(NAMES) if rng.random() < 0.9 else rng.choice(["zz", "", "p p", "é", "P=", "hh", "tt", "D-", "v2"])
    dashes = rng.choice(["-", "-", "--", "--", "---", ""]) if rng.random() < 0.1 else rng.choice(["-", "--"])
    shape = rng.random()
    if shape < 0.4:
        return [f"{dashes}{name}={rng.choice(VALUES)}"]
    if shape < 0.7:
        return [f"{dashes}{name}", rng.choice(VALUES)]
    return [f"{dashes}{name}"]


def normal(answer: Answer) -> tuple[int, list[str], str]:
    """Without the second line of natsc's version, and whatever the order in which --help_tls lists its names."""
    code, out, err = answer
    lines = [line for line in out.split("\n") if not line.startswith("natsc: ")]
    return code, sorted(lines) if "\nTLS configuration" in out else lines, err


@pytest.mark.parametrize("seed", range(CASES))
def test_random_command_line(natsc: Run, reference: Run, seed: int) -> None:
    rng = random.Random(seed)
    args = [part for _ in range(rng.randint(1, 5)) for part in word(rng)] + ["-t", "-t"]
    assert normal(natsc(*args)) == normal(reference(*args)), args
