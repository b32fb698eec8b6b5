"""Sends the same random and mutated protocol to natsc and to nats-server and compares what comes back.

    python tests/fuzz/differential.py --ops 1000000 --seed 1
    python tests/fuzz/differential.py --secs 600
    python tests/fuzz/differential.py --replay found.json

A round opens a few connections to each server and plays steps: one connection sends a batch of operations, cut into
random pieces, and then a fence. The fence is a publish to a reserved subject, whose -ERR names a number that is used
once: its arrival says that all before it has been processed, and that the connection is open. So a verdict (open or
closed) is never guessed from silence, and the connections' steps have one order on both servers. Batches that were
mutated get PINGs before their fence, more bytes than any payload may have, so that an unfinished operation ends.

The normaliser, that is all in which answers may differ:

1.  INFO: fields that tell who the server is (its id, name, ports, keys, build) are left out; the first INFO isn't
    compared.
2.  PINGs of the server are left out.
3.  Copies of one message to several subscriptions of one connection come in any order: in a run of deliveries with
    the same subject, reply and payload the sids are sorted.
4.  A queue group's member is chosen at random: deliveries to its members (their sids begin with Q) are taken out of
    the streams and counted per group and message over all connections. Their headers aren't compared, for a member
    may have none.
5.  The sid of a no-responders 503 is left out: any matching subscription of the connection may get it.
6.  The end of a connection is the same, whether by FIN or by RST.
7.  A run of -ERR 'Invalid Publish Subject' counts as one: nats-server says it once more for each read that ends in
    the payload.

What isn't sent, because nats-server's answer to it depends on where reads end: in a mutated batch a CR that no LF
follows (but for one behind a payload), and what would follow a client's own -ERR.

A difference counts only if it stays over several repetitions: if any answer of one server equals any of the other, the
round is counted as unstable. So it is if the second server's answers are the first's but for the last ones of closed
connections: a close with bytes unread is an RST, which takes away what the peer hasn't read.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import random
import re
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

# As a script or imported by pytest: the folders above hold the packages.
sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from conformance.harness import Server

from fuzz.streams import PROFILES, Round, Step, make_round

TIMEOUT_S = 20.0
# More bytes than max_payload allows in the profiles whose streams are mutated.
FILLER = b"PING\r\n" * 100
VOLATILE_INFO = {
    "server_id",
    "server_name",
    "version",
    "git_commit",
    "go",
    "host",
    "port",
    "client_id",
    "client_ip",
    "nonce",
    "xkey",
    "domain",
}
CONFIRMATIONS = 6


class Hung(Exception):
    """A server neither answered a fence nor closed the connection."""


class Peer:
    """One connection to one server, and all that it has sent so far."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Python's own timeout would poll before each recv, and also before one with MSG_DONTWAIT.
        self.sock.setblocking(True)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(TIMEOUT_S), 0))
        self.out = bytearray()
        self.closed = False
        while b"\r\n" not in self.out:
            self._read()
            if self.closed:
                raise Hung("closed before INFO")
        del self.out[: self.out.index(b"\r\n") + 2]

    def _read(self, flags: int = 0) -> bool:
        """Read once; False if there was nothing."""
        try:
            data = self.sock.recv(1 << 18, flags)
        except BlockingIOError:
            if flags:
                return False
            raise Hung(f"no answer within {TIMEOUT_S} s; so far {bytes(self.out[-200:])!r}") from None
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        self.out += data
        return True

    def drain(self) -> None:
        """Take what is there, without waiting."""
        while not self.closed and self._read(socket.MSG_DONTWAIT):
            pass

    def send(self, data: bytes, cuts: tuple[int, ...]) -> None:
        """Send in pieces. A connection that the server has closed meanwhile is found out by reading."""
        start = 0
        with contextlib.suppress(OSError):
            for cut in (*cuts, len(data)):
                if cut > start:
                    self.sock.sendall(data[start:cut])
                    start = cut

    def wait(self, fence: bytes) -> None:
        """Read until the fence's answer, or until the end."""
        start = max(0, len(self.out) - len(fence))
        while not self.closed and self.out.find(fence, start) < 0:
            start = max(0, len(self.out) - len(fence))
            self._read()

    def finish(self) -> None:
        """Close politely: the server knows before the next round begins."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
            while not self.closed:
                self._read()
        self.sock.close()


def fence(number: int) -> tuple[bytes, bytes]:
    """What is sent and what comes back."""
    return b"PUB _GR_.f%d 0\r\n\r\n" % number, b"-ERR 'Permissions Violation for Publish to \"_GR_.f%d\"'\r\n" % number


Outcome = tuple[list[bytes], list[bool]]


def play(round_: Round, servers: list[Server]) -> list[Outcome]:
    """Run a round on all servers at once; a server's outcome is each connection's output, and whether it was closed."""
    peers = [[Peer(port) for _ in round_.connections] for port in (server.port for server in servers)]
    outcomes = []
    try:
        for number, step in enumerate(round_.steps):
            send, answer = fence(number)
            data = step.data + (FILLER if step.mutated else b"") + send
            for own in peers:
                own[step.connection].send(data, step.cuts)
            for own in peers:
                own[step.connection].wait(answer)
                for peer in own:
                    peer.drain()
        for index in range(len(round_.connections)):
            send, answer = fence(1_000_000 + index)
            for own in peers:
                own[index].send(send, ())
            for own in peers:
                own[index].wait(answer)
    finally:
        for own in peers:
            outcomes.append(([bytes(peer.out) for peer in own], [peer.closed for peer in own]))
            for peer in own:
                peer.finish()
    return outcomes


INVALID_SUBJECT = b"-ERR 'Invalid Publish Subject'"


def normalise(outcome: Outcome) -> tuple[list[list[bytes]], Counter, list[bool]]:
    """The connections' streams, the queue deliveries, the verdicts: see the list at the top."""
    queues: Counter = Counter()
    return [normalise_stream(stream, queues) for stream in outcome[0]], queues, outcome[1]


def normalise_stream(stream: bytes, queues: Counter) -> list[bytes]:
    out: list[bytes] = []
    run: list[bytes] = []
    key = None
    at = 0
    while at < len(stream):
        end = stream.find(b"\r\n", at)
        if end < 0:
            out += sorted(run)
            out.append(b"unfinished: " + stream[at:])
            return out
        line = stream[at:end]
        begin, at = at, end + 2
        if line.startswith((b"MSG ", b"HMSG ")):
            parts = line.split(b" ")
            with_header = line[0] == 72
            size = int(parts[-1])
            if at + size + 2 > len(stream):
                out += sorted(run)
                out.append(b"unfinished: " + stream[begin:])
                return out
            body = stream[at : at + size]
            at += size + 2
            sid = parts[2]
            header = int(parts[-2]) if with_header else 0
            reply = parts[3] if len(parts) == (6 if with_header else 5) else b""
            if sid.startswith(b"Q"):
                queues[sid.split(b"n")[0], parts[1], reply, body[header:]] += 1
                continue
            if body.startswith(b"NATS/1.0 503"):
                sid = b"?"
            this = (parts[1], reply, parts[-1], body)
            if this != key:
                out += sorted(run)
                run = []
                key = this
            run.append(b" ".join((b"HMSG" if with_header else b"MSG", parts[1], sid, *parts[3:], body)))
            continue
        if line == b"PING" or (line == INVALID_SUBJECT and out and out[-1] == line and not run):
            continue
        if run:
            out += sorted(run)
            run = []
            key = None
        if line.startswith(b"INFO "):
            info = json.loads(line[5:])
            line = b"INFO " + json.dumps({k: v for k, v in info.items() if k not in VOLATILE_INFO}).encode()
        out.append(line)
    return out + sorted(run)


def same(left: Outcome, right: Outcome) -> bool:
    return left == right or normalise(left) == normalise(right)


def cut_short(ours: tuple, theirs: tuple) -> bool:
    """Whether two normalised outcomes differ only in what the second lacks at the ends of closed connections."""

    def begins(mine: list[bytes], other: list[bytes]) -> bool:
        whole = other[:-1] if other and other[-1].startswith(b"unfinished: ") else other
        return mine[: len(whole)] == whole

    return (
        ours[2] == theirs[2]
        and (ours[1] == theirs[1] or (any(theirs[2]) and theirs[1] <= ours[1]))
        and all(
            mine == other or (closed and begins(mine, other))
            for mine, other, closed in zip(ours[0], theirs[0], theirs[2], strict=True)
        )
    )


class Fuzzer:
    """Both servers, for each profile, and the counts so far. kinds: natsc first, what it is compared with second."""

    def __init__(self, seed: int, kinds: tuple[str, str] = ("natsc", "nats-server"), avoid: str | None = None) -> None:
        self.seed = seed
        self.avoid = re.compile(avoid.encode()) if avoid else None
        self.kinds = kinds
        self.servers: dict[str, list[Server]] = {}
        self.show_unstable = False
        self.ops = self.rounds = self.mutated = self.closed = self.unstable = 0

    def __enter__(self) -> Fuzzer:
        return self

    def __exit__(self, *exc: object) -> None:
        for servers in self.servers.values():
            for server in servers:
                server.close()

    def pair(self, profile: str) -> list[Server]:
        """Both servers with this profile's configuration; a dead one is an error with the round that killed it."""
        if profile not in self.servers:
            self.servers[profile] = [Server(kind, PROFILES[profile].config) for kind in self.kinds]
        for server in self.servers[profile]:
            assert server.port
            del server.log[:-200]
        return self.servers[profile]

    def differs(self, round_: Round) -> tuple[Outcome, Outcome] | None:
        """The two outcomes if they differ, and no repetition brings an answer of one that the other gave as well."""
        servers = self.pair(round_.profile)
        left, right = play(round_, servers)
        if same(left, right):
            return None
        ours, theirs = [normalise(left)], [normalise(right)]
        for _ in range(CONFIRMATIONS):
            for answers, outcome in zip((ours, theirs), play(round_, servers), strict=True):
                answers.append(normalise(outcome))
            if any(mine == other or cut_short(mine, other) for mine in ours for other in theirs):
                self.unstable += 1
                if self.show_unstable:
                    print(f"unstable: round {self.rounds - 1}", *compared((left, right), self.kinds), sep="\n")
                return None
        return left, right

    def make(self, number: int) -> Round:
        """Round so-and-so of the seed, without the operations to be avoided."""
        round_ = make_round(random.Random(f"{self.seed}/{number}"))
        if self.avoid is None:
            return round_
        return round_.replace(
            [
                Step(s.connection, [op for op in s.ops if not self.avoid.search(op)], s.cuts, s.mutated)
                for s in round_.steps
            ]
        )

    def round(self, number: int) -> Round | None:
        """Play one round; the round itself, made small, if it shows a difference."""
        round_ = self.make(number)
        self.rounds += 1
        self.ops += round_.ops
        self.mutated += sum(step.mutated for step in round_.steps)
        return shrink(round_, self.differs) if self.differs(round_) else None


def shrink(round_: Round, differs: Callable[[Round], object], seconds: float = 20.0) -> Round:
    """Leave out steps and operations while a difference remains, for so long at most."""
    until = time.monotonic() + seconds

    def reduce(items: list, rebuild: Callable[[list], Round], best: Round) -> tuple[list, Round]:
        size = max(1, len(items) // 2)
        while True:
            at = 0
            while at < len(items) and time.monotonic() < until:
                fewer = items[:at] + items[at + size :]
                candidate = rebuild(fewer)
                if differs(candidate):
                    items, best = fewer, candidate
                else:
                    at += size
            if size == 1 or time.monotonic() >= until:
                return items, best
            size //= 2

    steps, best = reduce(list(round_.steps), lambda steps: round_.replace(steps), round_)
    whole = round_.replace([Step(s.connection, s.ops, (), s.mutated) for s in steps])
    if differs(whole):
        best, steps = whole, list(whole.steps)
    for index in range(len(steps)):

        def rebuild(ops: list[bytes], index: int = index, steps: list[Step] = steps) -> Round:
            old = steps[index]
            return round_.replace([*steps[:index], Step(old.connection, ops, (), old.mutated), *steps[index + 1 :]])

        if len(steps[index].ops) > 1 and differs(rebuild(list(steps[index].ops))):
            _, best = reduce(list(steps[index].ops), rebuild, best)
            steps = list(best.steps)
    return best


def compared(outcomes: tuple[Outcome, Outcome], kinds: tuple[str, str]) -> list[str]:
    """Where two outcomes begin to differ."""
    lines = []
    ours, theirs = (normalise(outcome) for outcome in outcomes)
    for index, (left, right) in enumerate(zip(ours[0], theirs[0], strict=True)):
        if left != right or ours[2][index] != theirs[2][index]:
            first = next(
                (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
            )
            for kind, got, closed in ((kinds[0], left, ours[2][index]), (kinds[1], right, theirs[2][index])):
                verdict = "closed" if closed else "open"
                lines.append(
                    f"connection {index} of {kind}: {verdict}, from answer {first} on: {got[first : first + 6]!r}"
                )
    if ours[1] != theirs[1]:
        lines.append(f"queue deliveries only {kinds[0]}: {dict(ours[1] - theirs[1])!r}")
        lines.append(f"queue deliveries only {kinds[1]}: {dict(theirs[1] - ours[1])!r}")
    return lines


def report(round_: Round, outcomes: tuple[Outcome, Outcome], kinds: tuple[str, str]) -> str:
    """The round in words and as one line for --replay."""
    lines = [f"profile {round_.profile}: {PROFILES[round_.profile].config!r}"]
    for step in round_.steps:
        lines.append(f"connection {step.connection}{' (mutated)' if step.mutated else ''} sends:")
        lines += [f"    {op!r}" for op in step.ops]
    lines += compared(outcomes, kinds)
    saved = {
        "profile": round_.profile,
        "connections": len(round_.connections),
        "steps": [
            [s.connection, [base64.b64encode(op).decode() for op in s.ops], list(s.cuts), s.mutated]
            for s in round_.steps
        ],
    }
    return "\n".join([*lines, "replay: " + json.dumps(saved)])


def load(text: str) -> Round:
    """A round from the last line of a report."""
    saved = json.loads(text.split("replay: ")[-1])
    steps = [
        Step(c, [base64.b64decode(op) for op in ops], tuple(cuts), mutated) for c, ops, cuts, mutated in saved["steps"]
    ]
    return Round(saved["profile"], list(range(saved["connections"])), steps)


def fuzz(fuzzer: Fuzzer, ops: int, seconds: float, most: int = 3, say: Callable[[str], object] = print) -> list[str]:
    """Play rounds until so many operations, seconds or differences; the reports of the differences."""
    began = told = time.monotonic()
    found: list[str] = []
    while fuzzer.ops < ops and time.monotonic() - began < seconds and len(found) < most:
        try:
            small = fuzzer.round(fuzzer.rounds)
        except (Hung, ConnectionError) as error:
            number = fuzzer.rounds - 1
            found.append(f"round {number} of seed {fuzzer.seed}: {type(error).__name__}: {error}")
            say(found[-1])
            break
        outcomes = fuzzer.differs(small) if small is not None else None
        if small is not None and outcomes is None:
            fuzzer.unstable += 1  # chance (the members of queue groups) had its hand in it: what differs does so again
        elif small is not None:
            found.append(f"round {fuzzer.rounds - 1} of seed {fuzzer.seed}\n" + report(small, outcomes, fuzzer.kinds))
            say(found[-1])
        if time.monotonic() - told > 10:
            told = time.monotonic()
            say(f"{fuzzer.ops} operations, {fuzzer.ops / (told - began):.0f}/s")
    took = time.monotonic() - began
    say(
        f"{fuzzer.ops} operations in {fuzzer.rounds} rounds, {fuzzer.mutated} mutated batches, "
        f"{fuzzer.ops / took:.0f} operations/s, "
        f"{fuzzer.unstable} unstable rounds, {len(found)} differences"
    )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="differential fuzzing of natsc against nats-server")
    parser.add_argument("--ops", type=int, default=10**12, help="stop after so many operations")
    parser.add_argument("--secs", type=float, default=10**9, help="stop after so many seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--left", default="natsc", help="the server under test (nats-server: the fuzzer's own check)")
    parser.add_argument("--stop-after", type=int, default=3, help="stop after so many differences")
    parser.add_argument(
        "--avoid", help="a regular expression: operations that it matches aren't sent, to look past a known difference"
    )
    parser.add_argument(
        "--show-unstable", action="store_true", help="print the rounds that nats-server answers in several ways"
    )
    parser.add_argument("--replay", help="a file with a report: play its round only")
    parser.add_argument("--round", type=int, help="play this round of the seed only")
    args = parser.parse_args()
    with Fuzzer(args.seed, (args.left, "nats-server"), args.avoid) as fuzzer:
        fuzzer.show_unstable = args.show_unstable
        if args.replay or args.round is not None:
            round_ = load(Path(args.replay).read_text()) if args.replay else fuzzer.make(args.round)
            outcomes = fuzzer.differs(round_)
            if outcomes and args.round is not None:
                round_ = shrink(round_, fuzzer.differs)
                outcomes = fuzzer.differs(round_)
            print(report(round_, outcomes, fuzzer.kinds) if outcomes else "no difference")
            return 1 if outcomes else 0
        if args.ops == 10**12 and args.secs == 10**9:
            parser.error("give --ops or --secs")
        return 1 if fuzz(fuzzer, args.ops, args.secs, args.stop_after) else 0


if __name__ == "__main__":
    sys.exit(main())
