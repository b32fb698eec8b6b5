#!/usr/bin/env python3
"""Start-up time and idle memory: natsc, nats-server, and a bare `python -c pass` for scale, in turn.

    python benchmarks/startup.py [--starts 20] [--natsc COMMAND] [--reference COMMAND]

A server's start-up is the time from exec to the first byte of its first INFO; memory is its resident set half a second
later.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from harness import BenchmarkError, alternate, find_command, serving
from report import Row, text_line

GROUP = "Start and memory"
SETTLE_S = 0.5
MEMORY_SAMPLES = 3
"""Starts whose memory is looked at; each costs SETTLE_S."""


def bare_python_ms() -> float:
    """A whole `python -c pass`, exec to exit."""
    start = time.perf_counter_ns()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return (time.perf_counter_ns() - start) / 1e6


def measure(natsc: str, reference: str, starts: int) -> list[Row]:
    """Two rows: start-up (its detail has the bare Python's time), and idle memory."""
    commands = {"natsc": natsc, "reference": reference}
    start_ms: dict[str, list[float]] = {"natsc": [], "reference": [], "python": []}
    rss: dict[str, list[float]] = {"natsc": [], "reference": []}
    for side in alternate(starts, ("natsc", "python", "reference")):
        if side == "python":
            start_ms[side].append(bare_python_ms())
            continue
        with serving(commands[side]) as server:
            start_ms[side].append(server.start_ns / 1e6)
            if len(rss[side]) < MEMORY_SAMPLES:
                time.sleep(SETTLE_S)
                rss[side].append(server.rss_bytes)
    start = {side: statistics.median(v) for side, v in start_ms.items()}
    memory = {side: statistics.median(v) for side, v in rss.items()}
    bare = round(start["python"], 2)
    return [
        Row(
            "start-up",
            GROUP,
            "exec to first INFO",
            "ms",
            start["natsc"],
            start["reference"],
            False,
            {"bare_python_ms": bare},
        ),
        Row("idle-rss", GROUP, "memory after start", "bytes", memory["natsc"], memory["reference"], False),
    ]


def main() -> int:
    """Prints both rows and natsc's start-up in units of a bare Python's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--natsc", default=find_command("natsc"))
    parser.add_argument("--reference", default=find_command("nats-server"))
    options = parser.parse_args()
    try:
        rows = measure(options.natsc, options.reference, options.starts)
    except BenchmarkError as e:
        print(e, file=sys.stderr)
        return 2
    for row in rows:
        print(text_line(row))
    bare = rows[0].detail["bare_python_ms"]
    print(f"python -c pass takes {bare:.1f} ms: natsc's start is {rows[0].natsc / bare:.1f} times that")
    return 0


if __name__ == "__main__":
    sys.exit(main())
