"""Run scripts of client commands against natsc and nats-server, and print what they say differently.

    python -m tests.clients.compare [--all] [--kinds natsc,nats-server] [SCRIPT ...]

Scripts are those in tests/clients/nats_cli, which need the `nats` command on PATH (go install
github.com/nats-io/natscli/nats@v0.5.0), or the files that are named; tests/clients/scripts.py says how they are
written. The exit code is 1 where something differs that isn't meant to. --all prints every command and its answer.
--kinds nats-server,nats-server shows what differs between two runs of the same server.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.clients.scripts import Record, Run, Script, read_script

SCRIPTS = Path(__file__).parent / "nats_cli"


def run_both(script: Script, kinds: tuple[str, str] = ("natsc", "nats-server")) -> tuple[list[Record], list[Record]]:
    """The records of a script's runs against both servers, which run beside each other."""
    with ThreadPoolExecutor(2) as pool:
        ours, theirs = pool.map(lambda kind: Run(kind, script).run(), kinds)
    return ours, theirs


def differences(script: Script, ours: list[Record], theirs: list[Record]) -> list[str]:
    """What is wrong, one text a command: answers that differ, and those that should and don't."""
    wrong = [
        "\n  ".join((f"{script.path.name}:{record.step.line}: {record.command}", *record.lines))
        for record in ours + theirs
        if record.failed
    ]
    for our, their in zip(
        (one for one in ours if not one.failed), (one for one in theirs if not one.failed), strict=True
    ):
        where = f"{script.path.name}:{our.step.line}: {our.command}"
        if our.step.differs and our.lines == their.lines:
            wrong.append(f"{where}\n  the same, though it should differ: {our.step.differs}")
        elif not our.step.differs and our.lines != their.lines:
            lines = difflib.unified_diff(their.lines, our.lines, "nats-server", "natsc", lineterm="", n=2)
            wrong.append("\n  ".join((where, *lines)))
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scripts", nargs="*", type=Path, metavar="SCRIPT")
    parser.add_argument("--all", action="store_true", help="print every command and what natsc's record says")
    parser.add_argument("--kinds", default="natsc,nats-server", help="the two servers")
    options = parser.parse_args()
    first, second = options.kinds.split(",")
    count = wrong = 0
    for path in options.scripts or sorted(SCRIPTS.glob("*.txt")):
        script = read_script(path)
        ours, theirs = run_both(script, (first, second))
        if options.all:
            for record in ours:
                where = f"{path.name}:{record.step.line} ({record.seconds:.1f} s): {record.command}"
                print("\n  ".join((where, *record.lines)))
        found = differences(script, ours, theirs)
        print("\n".join((*found, f"{path.name}: {len(ours)} commands, {len(found)} differences")), flush=True)
        count += len(ours)
        wrong += len(found)
    print(f"{count} commands, {wrong} differences")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
