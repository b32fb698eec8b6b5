#!/usr/bin/env python3
"""What idle connections and subscriptions cost in memory, and what a stuck subscriber does to the one beside it.

    python benchmarks/footprint.py [--only REGEX] [--connections 10000] [--subscriptions 1000000]
                                   [--natsc COMMAND] [--reference COMMAND]

Every figure comes from a fresh server. The open file limit must leave room for the connections (`ulimit -Hn`).
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import sys

from harness import BenchmarkError, alternate, find_command, serving
from report import Row, text_line

GROUP = "Start and memory"
SETTLE_S = 1.0
SPARE_FILES = 100
"""Descriptors that a server and the load generator need beside the connections."""
SLOW_SECS = 2.0
SLOW_ROUNDS = 3


def growth(commands: dict[str, str], arguments: str) -> dict[str, float]:
    """Bytes a connection or subscription for each side."""
    cost = {}
    for side, command in commands.items():
        with serving(command) as server:
            cost[side] = float(server.load(arguments, SETTLE_S)["bytes_each"])
    return cost


def idle_row(commands: dict[str, str], connections: int) -> Row:
    """Memory of a connection that did CONNECT and then nothing. Raises BenchmarkError if the file limit is too low."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit < connections + SPARE_FILES:
        raise BenchmarkError(f"{connections} connections need more than {limit} open files (ulimit -Hn)")
    cost = growth(commands, f"idle -C {connections}")
    return Row(
        "idle-conns", GROUP, f"idle connection, of {connections:,}", "bytes", cost["natsc"], cost["reference"], False
    )


def subscriptions_row(commands: dict[str, str], count: int) -> Row:
    """Memory of a subscription, each on a subject of its own, on 10 connections."""
    cost = growth(commands, f"subs -N {count} -n 10")
    return Row("subscriptions", GROUP, f"subscription, of {count:,}", "bytes", cost["natsc"], cost["reference"], False)


def slow_row(commands: dict[str, str]) -> Row:
    """The share of its speed that a subscriber keeps when one that never reads is beside it."""
    kept: dict[str, list[float]] = {side: [] for side in commands}
    peaks: dict[str, list[int]] = {side: [] for side in commands}
    for side in alternate(SLOW_ROUNDS):
        with serving(commands[side]) as server:
            alone = server.load("slow -m 0 -s 128", SLOW_SECS)
            beside = server.load("slow -m 1 -s 128", SLOW_SECS)
            kept[side].append(100 * beside["delivered_rate"] / alone["delivered_rate"])
            peaks[side].append(beside["peak_rss_kb"] * 1024)
    share = {side: statistics.median(v) for side, v in kept.items()}
    detail = {f"{side}_peak_rss": statistics.median(v) for side, v in peaks.items()}
    title = "speed kept beside a stuck reader"
    return Row("slow", "Connections", title, "%", share["natsc"], share["reference"], True, detail)


def measure(
    natsc: str, reference: str, only: str = ".", connections: int = 10_000, subscriptions: int = 1_000_000
) -> list[Row]:
    """The rows whose names match `only`."""
    commands = {"natsc": natsc, "reference": reference}
    rows = []
    if re.search(only, "slow"):
        rows.append(slow_row(commands))
    if re.search(only, "idle-conns"):
        rows.append(idle_row(commands, connections))
    if re.search(only, "subscriptions"):
        rows.append(subscriptions_row(commands, subscriptions))
    return rows


def main() -> int:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=".", metavar="REGEX", help="slow, idle-conns, subscriptions")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--subscriptions", type=int, default=1_000_000)
    parser.add_argument("--natsc", default=find_command("natsc"))
    parser.add_argument("--reference", default=find_command("nats-server"))
    options = parser.parse_args()
    try:
        rows = measure(options.natsc, options.reference, options.only, options.connections, options.subscriptions)
    except BenchmarkError as e:
        print(e, file=sys.stderr)
        return 2
    for row in rows:
        print(text_line(row))
        for side in ("natsc", "reference"):
            if peak := row.detail.get(f"{side}_peak_rss"):
                print(f"    {side}: peak memory {peak / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
