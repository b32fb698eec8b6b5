#!/usr/bin/env python3
"""natsc beside nats-server on the same work, in one run: medians and their ratios.

    python benchmarks/run.py [--only REGEX] [--rounds 4] [--secs 0.8] [--natsc COMMAND] [--reference COMMAND]

Both servers run on free loopback ports; the load generator (benchmarks/loadgen, compiled on first use) drives them in
turn, A B B A A B ... A full run remakes benchmarks/results.json, the tables of docs/performance.md and
docs/performance.svg; one with --only prints and writes nothing, unless --write puts its rows in the place of theirs.
Ratios above 1 are in natsc's favour.
A machine is noisy: trust a ratio to about 20 %, and run again before you believe.

Exit status: 0, or 1 when a scenario failed (a failed scenario is never written), 2 when a server did not start.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

import footprint
import jetstream
import rules
import startup
from harness import ROOT, BenchmarkError, Server, alternate, commit, find_command, machine, serving, version
from report import Row, markdown, replace_between, svg, text_line

RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "performance.md"
CHART = ROOT / "docs" / "performance.svg"


class Scenario(NamedTuple):
    """A run of the load generator, and the field of its result that is compared."""

    name: str
    group: str
    title: str
    arguments: str
    field: str = "delivered_rate"
    unit: str = "msgs/s"
    more_is_better: bool = True


PUBLISH, FAN, MANY, REQUEST, CONNECT = "Publish", "One to many", "Many to many", "Request and reply", "Connections"
SCENARIOS = [
    Scenario("pub-16B", PUBLISH, "16 B, nobody listens", "pub -s 16", "rate"),
    Scenario("pub-128B", PUBLISH, "128 B", "pub -s 128", "rate"),
    Scenario("pub-1KB", PUBLISH, "1 KB", "pub -s 1024", "rate"),
    Scenario("pub-64KB", PUBLISH, "64 KB", "pub -s 65536", "rate"),
    Scenario("1to1-16B", FAN, "1 to 1, 16 B", "fan -s 16"),
    Scenario("1to1-128B", FAN, "1 to 1, 128 B", "fan -s 128"),
    Scenario("1to1-128B-hdr", FAN, "1 to 1, 128 B and a header", "fan -s 128 -H"),
    Scenario("1to1-1KB", FAN, "1 to 1, 1 KB", "fan -s 1024"),
    Scenario("1to1-64KB", FAN, "1 to 1, 64 KB", "fan -s 65536"),
    Scenario("1to10-16B", FAN, "1 to 10, 16 B", "fan -m 10 -s 16"),
    Scenario("1to10-128B", FAN, "1 to 10, 128 B", "fan -m 10 -s 128"),
    Scenario("1to10-1KB", FAN, "1 to 10, 1 KB", "fan -m 10 -s 1024"),
    Scenario("1to100-128B", FAN, "1 to 100, 128 B", "fan -m 100 -s 128"),
    Scenario("wildcard-128B", FAN, "1 to 1 by wildcard, 128 B", "fan -s 128 -W"),
    Scenario("4x4-16B", MANY, "4 pairs, 16 B", "pair -n 4 -m 4 -s 16"),
    Scenario("4x4-128B", MANY, "4 pairs, 128 B", "pair -n 4 -m 4 -s 128"),
    Scenario("queue-4x4-128B", MANY, "4 to a queue group of 4, 128 B", "queue -n 4 -m 4 -s 128"),
    Scenario("req-1-p50", REQUEST, "one at a time, median", "rtt -w 1 -s 16", "p50_us", "us", False),
    Scenario("req-64", REQUEST, "64 in flight, requests/s", "rtt -w 64 -s 16", "rate"),
    Scenario("req-64-p99", REQUEST, "64 in flight, 99th percentile", "rtt -w 64 -s 16", "p99_us", "us", False),
    Scenario("req-4x4x64", REQUEST, "4 to 4, 64 in flight each", "rtt -w 64 -n 4 -m 4 -s 128", "rate"),
    Scenario("connect-32", CONNECT, "connects/s, 32 at once", "conn -w 32", "rate"),
]
EXPLAINING = ("server_cpu_us", "server_busy", "generator_busy", "rss_kb")
"""Fields of a run whose medians go to results.json with the row."""


def medians(runs: list[dict[str, Any]]) -> dict[str, float]:
    """The median of every number in a scenario's runs."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def row_of(scenario: Scenario, natsc: dict[str, float], reference: dict[str, float]) -> Row:
    """A row from both sides' medians."""
    detail: dict[str, Any] = {
        "natsc": {key: natsc[key] for key in EXPLAINING},
        "reference": {key: reference[key] for key in EXPLAINING},
        "cpu_ratio": round(reference["server_cpu_us"] / natsc["server_cpu_us"], 3) if natsc["server_cpu_us"] else 0.0,
    }
    name, group, title, _, field, unit, more_is_better = scenario
    return Row(name, group, title, unit, natsc[field], reference[field], more_is_better, detail)


def compare(scenarios: list[Scenario], servers: dict[str, Server], rounds: int, secs: float) -> tuple[list[Row], int]:
    """Runs the scenarios and prints each row as it is known. Returns the rows, and how many scenarios failed.

    Scenarios with the same load share its runs.
    """
    rows: list[Row] = []
    failed = 0
    done: dict[str, dict[str, dict[str, float]]] = {}
    for scenario in scenarios:
        try:
            if scenario.arguments not in done:
                runs: dict[str, list[dict[str, Any]]] = {side: [] for side in servers}
                for side in alternate(rounds):
                    runs[side].append(servers[side].load(scenario.arguments, secs))
                done[scenario.arguments] = {side: medians(r) for side, r in runs.items()}
        except BenchmarkError as e:
            print(f"{scenario.name:<16} FAILED on {side}: {e}", flush=True)
            failed += 1
            continue
        rows.append(row_of(scenario, **done[scenario.arguments]))
        print(text_line(rows[-1]), flush=True)
    return rows, failed


def about(results: dict[str, Any]) -> str:
    """Machine, versions and date in a sentence."""
    m = results["machine"]
    return (
        f"{m['cpu']}, {m['cores']} cores, {m['memory_gb']} GB, Linux {m['kernel']}, Python {m['python']}; "
        f"{results['natsc']} ({results['commit']}), {results['reference']}; {results['date']}."
    )


def write(rows: list[Row], options: argparse.Namespace) -> None:
    """results.json (rows that weren't measured now are kept), the page's tables, and the chart."""
    old = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() and options.only != "." else []
    merged = {data["name"]: Row.from_json(data) for data in old} | {row.name: row for row in rows}
    order = [s.name for s in (*SCENARIOS, *jetstream.SCENARIOS, *rules.SCENARIOS)]
    order += ["slow", "start-up", "idle-rss", "idle-conns", "subscriptions"]
    rows = sorted(merged.values(), key=lambda row: order.index(row.name))
    results: dict[str, Any] = {
        "machine": machine(),
        "natsc": version(options.natsc),
        "reference": version(options.reference),
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
        "rounds": options.rounds,
        "secs": options.secs,
        "rows": [row.as_json() for row in rows],
    }
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(replace_between(PAGE.read_text(), markdown(rows, about(results))))
    # With what is on disk on both sides at 50 times there is no room for the rest.
    charted = [row for row in rows if row.group not in (jetstream.GROUP, rules.GROUP)]
    CHART.write_text(svg(charted, about(results)))
    for path in (RESULTS, PAGE, CHART):
        print("wrote", Path(path).relative_to(ROOT))


def options_from(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=".", metavar="REGEX", help="scenarios whose names match")
    parser.add_argument("--rounds", type=int, default=4, help="runs a side; the median counts")
    parser.add_argument("--secs", type=float, default=0.8, help="seconds of load a run")
    parser.add_argument("--starts", type=int, default=20, help="starts a side for the start-up time")
    parser.add_argument("--natsc", default=find_command("natsc"), metavar="COMMAND")
    parser.add_argument("--reference", default=find_command("nats-server"), metavar="COMMAND")
    parser.add_argument("--write", action="store_true", help="write the results of a run with --only too")
    return parser.parse_args(argv)


def main() -> int:
    """Measures, prints, writes; see the top of this file."""
    options = options_from()
    scenarios = [s for s in SCENARIOS if re.search(options.only, s.name)]
    try:
        with serving(options.natsc) as natsc, serving(options.reference) as reference:
            rows, failed = compare(scenarios, {"natsc": natsc, "reference": reference}, options.rounds, options.secs)
        more = []
        for module in (jetstream, rules):
            for row in module.measure(options.natsc, options.reference, options.only, options.rounds, options.secs):
                print(text_line(row), flush=True)
                more.append(row)
        shown = len(more)
        more += footprint.measure(options.natsc, options.reference, options.only)
        if re.search(options.only, "start-up") or re.search(options.only, "idle-rss"):
            more += startup.measure(options.natsc, options.reference, options.starts)
    except BenchmarkError as e:
        print(e, file=sys.stderr)
        return 2
    for row in more[shown:]:
        print(text_line(row))
    if options.write or options.only == ".":
        write(rows + more, options)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
