#!/usr/bin/env python3
"""What permissions, accounts with imports, and subject mappings cost: the same load with and without them.

    python benchmarks/rules.py [--only REGEX] [--rounds 4] [--secs 0.8] [--natsc COMMAND] [--reference COMMAND]

Each row has a server of its own on both sides, with the row's configuration. The rows rules-none and rules-none-req
have users and nothing else: what the others cost more is what their rules cost. The load generator publishes and
requests as u0, receives and responds as u1.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness import BenchmarkError, alternate, find_command, serving
from report import Row, text_line

GROUP = "Rules"
SIDES = ("natsc", "reference")

USERS = "users: [{user: u0, password: p}, {user: u1, password: p}]"
PERMISSIONS = """authorization {
  rules = {
    publish: {allow: ["bench.>", "_INBOX.>", "orders.*.new"], deny: ["bench.secret.>"]}
    subscribe: {allow: ["bench.>", "_INBOX.>"], deny: ["bench.secret.>"]}
  }
  users: [{user: u0, password: p, permissions: $rules}, {user: u1, password: p, permissions: $rules}]
}"""
# Whoever receives is in an account that imports the stream; whoever asks in one that imports the service.
STREAM = """accounts {
  A: {users: [{user: u0, password: p}], exports: [{stream: "bench.>"}]}
  B: {users: [{user: u1, password: p}], imports: [{stream: {account: A, subject: "bench.>"}}]}
}"""
SERVICE = """accounts {
  A: {users: [{user: u1, password: p}], exports: [{service: "bench.>"}]}
  B: {users: [{user: u0, password: p}], imports: [{service: {account: A, subject: "bench.>"}}]}
}"""
ACCOUNT = f"accounts {{\n  A: {{{USERS}, mappings: {{MAPPINGS}}}}\n}}"
MAPPED = ACCOUNT.replace("MAPPINGS", '"bench.*": "bench.{{wildcard(1)}}"')
UNMAPPED = ACCOUNT.replace("MAPPINGS", '"other.*": "other.{{wildcard(1)}}"')


class Scenario(NamedTuple):
    """A configuration, a run of the load generator, and the field of its result that is compared."""

    name: str
    title: str
    config: str
    arguments: str
    field: str = "delivered_rate"


FAN, REQUEST = "fan -s 128 -r", "rtt -w 64 -s 16 -r"
SCENARIOS = [
    Scenario("rules-none", "1 to 1, 128 B, users without rules", f"authorization {{{USERS}}}", FAN),
    Scenario("rules-permissions", "permissions of both users", PERMISSIONS, FAN),
    Scenario("rules-import", "a stream that is imported from another account", STREAM, FAN),
    Scenario("rules-unmapped", "mappings of other subjects", UNMAPPED, FAN),
    Scenario("rules-mapped", "a mapping with a wildcard", MAPPED, FAN),
    Scenario("rules-none-req", "requests, 64 in flight, without rules", f"authorization {{{USERS}}}", REQUEST, "rate"),
    Scenario("rules-permissions-req", "permissions of both users", PERMISSIONS, REQUEST, "rate"),
    Scenario("rules-service", "a service that is imported from another account", SERVICE, REQUEST, "rate"),
]


def run_once(command: str, scenario: Scenario, secs: float) -> dict[str, Any]:
    """The result of the load on a fresh server."""
    with tempfile.TemporaryDirectory() as folder:
        conf = Path(folder) / "server.conf"
        conf.write_text(scenario.config + "\n")
        with serving(command, "-c", str(conf)) as server:
            return server.load(scenario.arguments, secs)


def scenario_row(commands: dict[str, str], scenario: Scenario, rounds: int, secs: float) -> Row:
    """Medians of both sides."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for side in alternate(rounds):
        runs[side].append(run_once(commands[side], scenario, secs))
    natsc, reference = (statistics.median(run[scenario.field] for run in runs[side]) for side in SIDES)
    cpu = {side: round(statistics.median(run["server_cpu_us"] for run in runs[side]), 3) for side in SIDES}
    detail = {"natsc": {"server_cpu_us": cpu["natsc"]}, "reference": {"server_cpu_us": cpu["reference"]}}
    detail["cpu_ratio"] = round(cpu["reference"] / cpu["natsc"], 3) if cpu["natsc"] else 0.0
    return Row(scenario.name, GROUP, scenario.title, "msgs/s", natsc, reference, detail=detail)


def measure(natsc: str, reference: str, only: str = ".", rounds: int = 4, secs: float = 0.8) -> Iterator[Row]:
    """The rows whose names match `only`, as they are known."""
    for scenario in SCENARIOS:
        if re.search(only, scenario.name):
            yield scenario_row({"natsc": natsc, "reference": reference}, scenario, rounds, secs)


def main() -> int:
    """Prints the rows, and the processor time that a message takes on both sides."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=".", metavar="REGEX", help="rows whose names match")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--secs", type=float, default=0.8)
    parser.add_argument("--natsc", default=find_command("natsc"))
    parser.add_argument("--reference", default=find_command("nats-server"))
    o = parser.parse_args()
    try:
        for row in measure(o.natsc, o.reference, o.only, o.rounds, o.secs):
            cpu = [row.detail[side]["server_cpu_us"] for side in SIDES]
            print(text_line(row), f"  us a message {cpu[0]:.3f} / {cpu[1]:.3f}", flush=True)
    except BenchmarkError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
