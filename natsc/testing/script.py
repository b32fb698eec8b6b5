"""Readable scenarios: commands, and what every peer is sent because of them.

A script is a text of cases, separated by blank lines; a case is commands, a line of four dashes, and what is expected.
Lines that begin with # are comments. The commands:

    world max_payload=100 headers=1     a new world (natsc.testing.world.World's options); in the first case only
    connect a [account]                 a peer
    a SUB foo 1                         a sends the line and CR LF; \\r \\n \\t \\\\ and \\xNN stand for bytes, and a
                                        backslash at the very end for "no CR LF here"
    advance 2s                          the clock goes on (ns, ms, s, m, h)
    block a / unblock a                 a takes nothing / takes what has come
    close a                             a's connection ends

What is expected is each peer's output, line by line, "a: ..." in the order of the peers, and "a closed: <reason>".
run plays a script with every input whole or cut into pieces of so many bytes: the answers must be the same.
"""

from __future__ import annotations

import re

from natsc import errors
from natsc.testing.world import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.testing.world import Peer

UNITS_NS = {"ns": 1, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}
SEPARATOR = "----"


class Case:
    """Comments and commands, as they were written, and what is expected, line by line."""

    def __init__(self, commands: list[str], expected: list[str]) -> None:
        self.commands = commands
        self.expected = expected

    def text(self) -> str:
        return "\n".join([*self.commands, SEPARATOR, *self.expected]) + "\n"


def parse(text: str) -> list[Case]:
    """The cases of a script. Raises ValueError for one without its line of dashes."""
    cases = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        if all(line.startswith("#") for line in lines):
            cases.append(Case(lines, []))
            continue
        if SEPARATOR not in lines:
            raise ValueError(f"no {SEPARATOR} in {block!r}")
        at = lines.index(SEPARATOR)
        cases.append(Case(lines[:at], lines[at + 1 :]))
    return cases


def render(cases: list[Case]) -> str:
    """The script as text again."""
    return "\n".join(
        case.text() if any(not c.startswith("#") for c in case.commands) else "\n".join(case.commands) + "\n"
        for case in cases
    )


def run(cases: list[Case], step: int | None = None) -> list[Case]:
    """Play a script, inputs cut into pieces of step bytes, and return it with what came out as what is expected."""
    player = _Player(step)
    return [Case(case.commands, player.play(case.commands)) for case in cases]


def unescape(text: str) -> bytes:
    def replace(match: re.Match[bytes]) -> bytes:
        what = match.group(1)
        return bytes.fromhex(what[1:].decode()) if what[:1] == b"x" and len(what) == 3 else _ESCAPES[what]

    return _ESCAPE.sub(replace, text.encode())


def escape(line: bytes) -> str:
    return "".join(
        chr(b) if 32 <= b < 127 and b != 92 else {9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\"}.get(b, f"\\x{b:02x}")
        for b in line
    )


class _Player:
    def __init__(self, step: int | None) -> None:
        self.step = step
        self.world = World()
        self.peers: dict[str, Peer] = {}
        self.told: set[str] = set()

    def play(self, commands: list[str]) -> list[str]:
        for command in commands:
            if not command.startswith("#"):
                self.do(command)
        said: list[str] = []
        for name, peer in self.peers.items():
            data = b"" if peer.blocked else peer.take()
            lines = data.split(b"\r\n")
            said += [f"{name}: {escape(line)}".rstrip() for line in lines[:-1]]
            if lines[-1]:
                said.append(f"{name}: {escape(lines[-1])}\\")
            if peer.closed and name not in self.told:
                self.told.add(name)
                said.append(f"{name} closed: {peer.reason}")
        return said

    def do(self, command: str) -> None:
        word, _, rest = command.partition(" ")
        if word == "world":
            options: dict[str, Any] = {k: int(value) for k, _, value in (o.partition("=") for o in rest.split())}
            self.world = World(**options)
        elif word == "connect":
            name, _, account = rest.partition(" ")
            self.peers[name] = self.world.connect(name, account or "$G")
        elif word == "advance":
            number, unit = re.fullmatch(r"(\d+)([a-z]+)", rest).groups()  # type: ignore[union-attr]
            self.world.advance(int(number) * UNITS_NS[unit])
        elif word in ("block", "unblock"):
            self.peers[rest].blocked = word == "block"
            self.world.collect()
        elif word == "close":
            self.peers[rest].client.close(errors.CLIENT_CLOSED)
            self.world.end_turn()
        elif word in self.peers:
            data = (
                unescape(rest[:-1]) if rest.endswith("\\") and not rest.endswith("\\\\") else unescape(rest) + b"\r\n"
            )
            self.cut(self.peers[word], data)
        else:
            raise ValueError(f"unknown command {command!r}")

    def cut(self, peer: Peer, data: bytes) -> None:
        step = self.step or len(data)
        for at in range(0, len(data), step):
            self.world.receive(peer, data[at : at + step])
