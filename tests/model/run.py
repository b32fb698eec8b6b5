"""The model test for as long as one likes.

    python -m tests.model.run --secs 1800 --seed 1
    python -m tests.model.run --seed 7 --most 1      up to the first difference
    python -m tests.model.run --only timed

Programs for natsc and nats-server (compared), those that move natsc's clock (timed), and those for natsc alone with
more of what nats-server leaves to chance (alone) take turns. Prints what was done, and differences with the programs
that show them. The same seed on the same commit gives the same programs. Exits with 1 where there was a difference.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.compared import compared
from tests.model.machine import Programs, counts
from tests.model.peer import Peer, Process
from tests.model.shrink import program_of, shrink
from tests.model.timed import Embedded, timed

NOT_AGAIN = "not seen again: "  # nats-server was asked before it had done what it was to do
BATCH = 50  # programs


def run_batch(machine: type[Programs], number: int, steps: int, size: int, shrink_s: float) -> str:
    """The text of a difference, "" where there was none."""
    chosen = settings(
        max_examples=size, stateful_step_count=steps, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False, report_multiple_bugs=False,
    )  # fmt: skip
    machine.seen.clear()
    for peer in machine.peers:
        peer.begin_anew()  # nobody has answered PINGs while others had their turn
    try:
        run_state_machine_as_test(seed(number)(machine), settings=chosen)
    except Exception as error:
        program = program_of(error)
        small, difference = shrink(machine, program, shrink_s)
        if difference:
            return f"{difference}\n" + "\n".join(small)
        return NOT_AGAIN + "\n".join([*(machine.seen[:1] or traceback.format_exception(error)), *program])
    return ""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--secs", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40, help="of a program")
    parser.add_argument("--shrink", type=float, default=60, help="seconds to make a program small")
    parser.add_argument("--most", type=int, default=10, help="differences")
    parser.add_argument("--only", choices=("compared", "timed", "alone"))
    args = parser.parse_args()
    began = time.monotonic()
    found = unstable = 0
    number = args.seed * 1_000_000
    with tempfile.TemporaryDirectory(prefix="natsc-model-") as folder:
        processes = [Process(kind, Path(folder) / kind) for kind in ("natsc", "nats-server")]
        embedded = Embedded()
        peers = [Peer(process) for process in (*processes, embedded)]
        machines = {"compared": compared(peers[:2]), "timed": timed(peers[2]), "alone": compared(peers[:1])}
        kinds = [args.only] if args.only else list(machines)
        try:
            while time.monotonic() - began < args.secs and found < args.most:
                kind = kinds[number % len(kinds)]
                before = dict(counts)
                text = run_batch(machines[kind], number, args.steps, BATCH, args.shrink)
                for name in ("programs", "steps"):
                    counts[f"{kind} {name}"] += counts[name] - before.get(name, 0)
                number += 1
                if text:
                    again = not text.startswith(NOT_AGAIN)
                    found += again
                    unstable += not again
                    print(f"--- difference {found + unstable}, {kind}, batch {number - 1}\n{text}\n", flush=True)
        finally:
            for one in (*peers, *processes, embedded):
                one.close()
    done = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if name not in ("programs", "steps"))
    print(f"seed {args.seed}: {done}, {time.monotonic() - began:.0f} s, {found} differences, {unstable} not seen again")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
