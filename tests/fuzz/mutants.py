"""Plants faults in the protocol parser and sees whether the differential fuzzer finds them.

    python tests/fuzz/mutants.py                       all of them, each until it is found or for --secs seconds
    python tests/fuzz/mutants.py --only "tab" --secs 60

Each mutant is one small change in a copy of the sources (build/variants/mutant), built there and compared with
nats-server by tests/fuzz/differential.py. The copy without a change goes first: it must show no difference in the same
time. Prints a table; exits with 1 where fewer than nine of ten were found.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.engine_build import VARIANTS, compile_in, copy_sources

PARSER = "natsc/engine/parser.pyx"
INLINE = "natsc/engine/parser.pxd"
CLIENT = "natsc/engine/client.pyx"

# What it is, where, the text that is replaced (it stands there once), and by what.
MUTANTS = [
    ("a size may have ten digits", PARSER, "if n == 0 or n > 9:", "if n == 0 or n > 10:"),
    ("max_payload itself is too much", CLIENT, "    if pub.size > c.max_payload:", "    if pub.size >= c.max_payload:"),
    (
        "max_control_line itself is too long", PARSER,
        "return OP_LINE_TOO_LONG if op.arg_len > max_control_line else v.op",
        "return OP_LINE_TOO_LONG if op.arg_len >= max_control_line else v.op",
    ),
    ("a small u is no letter of a verb", PARSER, "97 <= b <= 122 else b", "97 <= b <= 122 and b != 117 else b"),
    (
        "a tab ends no argument", PARSER,
        "        while p < end and not (p[0] == 32 or p[0] == 9 or (line_ends",
        "        while p < end and not (p[0] == 32 or (line_ends",
    ),
    ("a header block may not be all", PARSER, "pub.hdr_len > pub.size:", "pub.hdr_len >= pub.size:"),
    ("a header block may be longer than all", INLINE, "d - q > 9 or hdr > n or hdr == 0:", "d - q > 9 or hdr == 0:"),
    ("a payload's line feed isn't looked at", CLIENT, "have > pub.size + 1 and op.end[pub.size + 1] != 10", "False"),
    ("UNSUB's maximum is one too late", CLIENT, "<uint64_t>max_msgs > s.del", "<uint64_t>max_msgs >= s.del"),
    ("INFO may be anything", CLIENT, '            violation(e, c, b"info_args", &op)', "            pass"),
]  # fmt: skip


def mutate(into: Path, name: str, old: str, new: str) -> None:
    path = into / name
    text = path.read_text()
    if text.count(old) != 1:
        raise SystemExit(f"{name}: {old!r} stands there {text.count(old)} times: the mutant must be written anew")
    path.write_text(text.replace(old, new))


def differential(into: Path, seconds: float, *arguments: str) -> tuple[int, list[str]]:
    """The differential fuzzer on a build: its exit code and what it said."""
    done = subprocess.run(
        ["nice", sys.executable, str(Path(__file__).with_name("differential.py")), *arguments],
        cwd=into,
        env={**os.environ, "PYTHONPATH": str(into)},
        capture_output=True,
        text=True,
        timeout=seconds + 120,
        check=False,
    )
    return done.returncode, (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()


def fuzz(into: Path, seconds: float, seed: int) -> tuple[str, float, str]:
    """Whether it was found ("found", "survived", or "error"), after how many seconds, and what the fuzzer said last.

    What can't be played again wasn't found: a busy machine may delay an answer.
    """
    began = time.monotonic()
    while True:
        left = max(1.0, seconds - (time.monotonic() - began))
        code, said = differential(into, left, "--secs", str(left), "--seed", str(seed), "--stop-after", "1")
        took = time.monotonic() - began
        if re.match(r"\d+ operations in ", said[-1]) is None:
            return "error", took, said[-1]
        if code == 0:
            return "survived", took, said[-1]
        report = into / "difference.txt"
        report.write_text("\n".join(line for line in said if line.startswith("replay: ")))
        if "replay: " in report.read_text() and differential(into, left, "--replay", str(report))[0]:
            return "found", took, said[-1]
        seed += 1000


def main() -> int:
    parser = argparse.ArgumentParser(description="does the differential fuzzer find planted faults?")
    parser.add_argument("--secs", type=float, default=120, help="for each mutant at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="mutants whose names contain this")
    args = parser.parse_args()
    into = VARIANTS / "mutant"
    copy_sources(into)
    compile_in(into, "plain")
    verdict, took, said = fuzz(into, args.secs, args.seed)
    print(f"{'no change':40} {verdict:9} {took:5.0f} s  {said}", flush=True)
    if verdict != "survived":
        return 2
    mutants = [mutant for mutant in MUTANTS if args.only in mutant[0]]
    found = 0
    for title, name, old, new in mutants:
        copy_sources(into)
        mutate(into, name, old, new)
        compile_in(into, "plain")
        verdict, took, said = fuzz(into, args.secs, args.seed)
        found += verdict == "found"
        print(f"{title:40} {verdict:9} {took:5.0f} s  {said}", flush=True)
    copy_sources(into)
    print(f"{found} of {len(mutants)} found")
    return 0 if found * 10 >= len(mutants) * 9 else 1


if __name__ == "__main__":
    sys.exit(main())
