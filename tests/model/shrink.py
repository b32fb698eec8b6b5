"""Makes the program of a difference small: leaves out steps as long as there still is one."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.model.machine import Difference, Programs

Replay = Callable[[list[str]], str]


def program_of(error: BaseException) -> list[str]:
    """The steps that hypothesis tells of, a statement each."""
    text = "\n".join(getattr(error, "__notes__", []))
    steps: list[str] = []
    for line in text.splitlines():
        if line.startswith("state = "):
            steps = []  # it may be told twice
        elif line.startswith("state.") and "teardown" not in line:
            steps.append(line)
        elif steps and not line.startswith(("state.", "Failing", "Steps")):
            steps[-1] += "\n" + line
    return steps


def replay(machine: type[Programs], steps: list[str]) -> str:
    """Run the steps; the difference, "" where there is none."""
    state = machine()
    for peer in state.peers:
        peer.begin_anew()
    try:
        for step in steps:
            try:
                exec(step, {"state": state})
            except (ZeroDivisionError, IndexError, AttributeError):
                continue  # without the steps before it, it makes no sense
    except Difference as difference:
        return str(difference)
    finally:
        state.teardown()
    return ""


def shrink(machine: type[Programs], steps: list[str], seconds: float) -> tuple[list[str], str]:
    """The small program and its difference; nothing where the program doesn't show one again."""
    until = time.monotonic() + seconds
    found = replay(machine, steps)
    if not found:
        return steps, ""
    size = max(len(steps) // 2, 1)
    while time.monotonic() < until:
        at = 1
        smaller = False
        while at < len(steps) and time.monotonic() < until:
            fewer = steps[:at] + steps[at + size :]
            difference = replay(machine, fewer)
            if difference:
                steps, found, smaller = fewer, difference, True
            else:
                at += size
        if size == 1 and not smaller:
            break
        size = max(size // 2, 1)
    return steps, found
