#!/usr/bin/env python3
"""JetStream: publishing with acknowledgements, consuming, and what a large store costs.

    python benchmarks/jetstream.py [--only REGEX] [--rounds 4] [--secs 0.8] [--messages 10000000]
                                   [--natsc COMMAND] [--reference COMMAND]

natsc acknowledges what is on disk; nats-server by default what it will sync within two minutes, and with
`sync_interval: always` (the rows named js-always-...) what is on disk too. Every server has a store of its own in the
temporary folder (TMPDIR), which must be on a real disk.

The rows of a large store (restart-..., past-2GB, accounts) take minutes and gigabytes: they only run where --only names
them, and no table has them but docs/durability.md and this program's output.
"""

from __future__ import annotations

import argparse
import re
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness import BenchmarkError, Server, alternate, find_command
from report import Row, text_line

GROUP = "JetStream"
FILL = 300_000
"""Messages of the stream that a consumer reads."""
START_LIMIT_S = 120.0
ACCOUNTS = 200
SIDES = ("natsc", "reference")


class Scenario(NamedTuple):
    """A run of the load generator, and the field of its result that is compared."""

    name: str
    title: str
    arguments: str
    always: bool = False
    """nats-server too acknowledges what is on disk."""
    field: str = "rate"
    unit: str = "msgs/s"
    more_is_better: bool = True
    size: int = 128
    """Bytes of the messages that are consumed."""


SCENARIOS = [
    Scenario("js-publish-1", "publish 128 B, one in flight", "js-publish -w 1"),
    Scenario("js-publish-512", "publish 128 B, 512 in flight", "js-publish -w 512"),
    Scenario("js-publish-4000", "publish 128 B, 4,000 in flight", "js-publish -w 4000"),
    Scenario("js-publish-1KB", "publish 1 KB, 512 in flight", "js-publish -w 512 -s 1024"),
    Scenario("js-always-1", "on disk on both sides: one in flight", "js-publish -w 1", True),
    Scenario("js-always-512", "on disk on both sides: 512 in flight", "js-publish -w 512", True),
    Scenario("js-always-64pubs", "on disk on both sides: 64 publishers", "js-publish -n 64 -w 1", True),
    Scenario("js-memory-512", "memory stream, 512 in flight", "js-publish -w 512 -S memory"),
    Scenario("js-filtered-1000", "1,000 consumers of a subject each", "js-publish -w 512 -D 1000 -f 1000"),
    Scenario("js-consume-ack", "pull and acknowledge 128 B", f"js-consume -N {FILL}"),
    Scenario("js-consume-1KB", "pull and acknowledge 1 KB", f"js-consume -N {FILL}", size=1024),
    Scenario("js-consume-noack", "pull without acknowledging", f"js-consume -N {FILL} -A"),
]


@contextmanager
def stored(command: str, folder: Path, always: bool = False, accounts: int = 0) -> Iterator[Server]:
    """A server with a store in `folder`, for the length of a with block. It is stopped as an operator would."""
    conf = folder / "server.conf"
    sync = "sync_interval: always" if always else ""
    users = "".join(
        f"  A{i}: {{ jetstream: enabled, users: [{{user: u{i}, password: p}}] }}\n" for i in range(accounts)
    )
    tenants = f"accounts {{\n{users}}}\n" if accounts else ""
    conf.write_text(f'jetstream {{ store_dir: "{folder}/store"\n{sync}\n}}\n{tenants}')
    server = Server(command, "-c", str(conf), start_limit_s=START_LIMIT_S)
    try:
        yield server
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(START_LIMIT_S)
    finally:
        server.stop()


def run_once(command: str, scenario: Scenario, always: bool, secs: float) -> float:
    """A scenario's figure, on a fresh server."""
    with tempfile.TemporaryDirectory() as folder, stored(command, Path(folder), always) as server:
        if scenario.arguments.startswith("js-consume"):
            server.load(f"js-publish -F -N {FILL} -w 4000 -s {scenario.size}", secs)
        return float(server.load(scenario.arguments, secs)[scenario.field])


def scenario_row(commands: dict[str, str], scenario: Scenario, rounds: int, secs: float) -> Row:
    """Medians of both sides."""
    figures: dict[str, list[float]] = {side: [] for side in SIDES}
    for side in alternate(rounds):
        always = scenario.always and side == "reference"
        figures[side].append(run_once(commands[side], scenario, always, secs))
    natsc, reference = (statistics.median(figures[side]) for side in SIDES)
    return Row(scenario.name, GROUP, scenario.title, scenario.unit, natsc, reference, scenario.more_is_better)


def restart_rows(commands: dict[str, str], name: str, messages: int, subjects: int) -> list[Row]:
    """A stream of that many messages of 100 bytes: exec to INFO after a clean stop, and memory then."""
    ready: dict[str, float] = {}
    anonymous: dict[str, float] = {}
    detail: dict[str, Any] = {}
    for side in SIDES:
        with tempfile.TemporaryDirectory() as folder:
            with stored(commands[side], Path(folder)) as server:
                filled = server.load(f"js-publish -F -s 100 -w 4000 -N {messages} -D {subjects}", 1)
                detail[f"{side}_fill_rate"] = filled["rate"]
            with stored(commands[side], Path(folder)) as server:
                ready[side] = server.start_ns / 1e6
                anonymous[side] = server.memory_bytes("RssAnon")
                detail[f"{side}_rss"] = server.rss_bytes
    title = f"{messages:,} messages on {subjects:,} subjects"
    return [
        Row(f"restart-{name}", GROUP, f"ready: {title}", "ms", ready["natsc"], ready["reference"], False, detail),
        Row(f"restart-{name}-rss", GROUP, f"RssAnon: {title}", "bytes", *anonymous.values(), False),
    ]


def past_2gb_row(commands: dict[str, str], secs: float) -> Row:
    """The publish rate on a store of more than 2 GB."""
    rate: dict[str, float] = {}
    for side in SIDES:
        with tempfile.TemporaryDirectory() as folder, stored(commands[side], Path(folder)) as server:
            server.load("js-publish -F -s 1024 -w 4000 -N 2200000", 1)
            rate[side] = statistics.median(
                server.load("js-publish -F -s 128 -w 4000 -N 1000000 -k", secs)["rate"] for _ in range(3)
            )
    return Row("past-2GB", GROUP, "publish 128 B into 2 GB", "msgs/s", rate["natsc"], rate["reference"])


def accounts_row(commands: dict[str, str], secs: float) -> Row:
    """PubAck p99 of natsc with as many publishers in one account (the "reference") as each in an account of its own."""
    p99: dict[int, list[float]] = {1: [], ACCOUNTS: []}
    for _ in range(3):
        for accounts, figures in p99.items():
            with (
                tempfile.TemporaryDirectory() as folder,
                stored(commands["natsc"], Path(folder), accounts=ACCOUNTS) as server,
            ):
                spread = "-a" if accounts > 1 else "-o"
                figures.append(server.load(f"js-publish -n {ACCOUNTS} -w 1 {spread}", secs)["p99_us"])
    many, one = (statistics.median(p99[n]) for n in (ACCOUNTS, 1))
    return Row("accounts", GROUP, f"PubAck p99, {ACCOUNTS} accounts beside one", "us", many, one, False)


def measure(
    natsc: str, reference: str, only: str = ".", rounds: int = 4, secs: float = 0.8, messages: int = 10_000_000
) -> Iterator[Row]:
    """The rows whose names match `only`, as they are known."""
    commands = {"natsc": natsc, "reference": reference}
    for scenario in SCENARIOS:
        if re.search(only, scenario.name):
            yield scenario_row(commands, scenario, rounds, secs)
    if only == ".":
        return
    if re.search(only, "restart-one-subject"):
        yield from restart_rows(commands, "one-subject", messages, 1)
    if re.search(only, "restart-each-its-own"):
        yield from restart_rows(commands, "each-its-own", messages, messages)
    if re.search(only, "past-2GB"):
        yield past_2gb_row(commands, secs)
    if re.search(only, "accounts"):
        yield accounts_row(commands, secs)


def main() -> int:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=".", metavar="REGEX", help="rows whose names match")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--secs", type=float, default=0.8)
    parser.add_argument("--messages", type=int, default=10_000_000, help="of the streams of restart-...")
    parser.add_argument("--natsc", default=find_command("natsc"))
    parser.add_argument("--reference", default=find_command("nats-server"))
    o = parser.parse_args()
    try:
        for row in measure(o.natsc, o.reference, o.only, o.rounds, o.secs, o.messages):
            print(text_line(row), *(f"{k} {v:,.0f}" for k, v in row.detail.items()), flush=True)
    except BenchmarkError as e:
        print(e, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
