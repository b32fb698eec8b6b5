"""What the differential fuzzer sends: rounds of protocol from a grammar, some of it mutated.

All is drawn from one random.Random, so a seed and a round number give the same bytes again. Sizes are in bytes.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence


class Profile:
    """A server configuration, and what is drawn for it."""

    def __init__(
        self,
        config: str,
        *,
        weight: int,
        mutate: bool,
        payload: int,
        users: Sequence[str] = (),
        control_line: int = 4096,
    ) -> None:
        self.config = config
        self.control_line = control_line
        self.weight = weight
        self.mutate = mutate
        self.payload = payload
        self.users = users


PROFILES = {
    "plain": Profile("max_payload: 512\n", weight=6, mutate=True, payload=40),
    "limits": Profile(
        "max_payload: 100\nmax_control_line: 128\nmax_subscriptions: 6\nmax_sub_tokens: 3\n",
        weight=3,
        mutate=True,
        payload=110,
        control_line=128,
    ),
    "users": Profile(
        """
        max_payload: 512
        no_system_account: true
        authorization {
            default_permissions { publish: "a.>", subscribe: ["a.>", "foo"] }
            users [
                {user: all, password: "p", permissions {publish: ">", subscribe: ">"}}
                {user: some, password: "p", permissions {
                    publish: { allow: ["foo.>", "a", "b.*"], deny: ["foo.bar", "b.c"] }
                    subscribe: {
                        allow: ["foo", "foo.*", "a.>", "bar g0", "_INBOX.>"]
                        deny: ["foo.bar", "a.b.>", "foo.* g1"]
                    }
                }}
                {user: deny, password: "p", permissions {
                    publish: {deny: "foo.>"}, subscribe: {deny: ["a.*", "foo.bar"]}
                }}
                {user: service, password: "p", permissions {
                    publish: "a.>", subscribe: ["foo.>", "_INBOX.>"], allow_responses: { max: 2, expires: "10m" }
                }}
                {user: plain, password: "p"}
            ]
        }
        """,
        weight=3,
        mutate=True,
        payload=40,
        users=("all", "some", "deny", "service", "plain"),
    ),
    "accounts": Profile(
        """
        max_payload: 512
        no_system_account: true
        accounts {
            A { users [{user: a, password: "p"}] }
            B {
                users [{user: b, password: "p", permissions {publish: {deny: "foo.*"}}}]
                limits { max_payload: 60, max_subscriptions: 8 }
            }
        }
        no_auth_user: a
        """,
        weight=2,
        mutate=True,
        payload=64,
        users=("a", "b"),
    ),
    "no-headers": Profile("max_payload: 512\nno_header_support: true\n", weight=1, mutate=True, payload=20),
    "large": Profile("", weight=1, mutate=False, payload=40_000),
}
NAMES = [name for name, profile in PROFILES.items() for _ in range(profile.weight)]


class Step:
    """One connection sends these operations, cut at these offsets, and then a fence."""

    __slots__ = ("connection", "cuts", "mutated", "ops")

    def __init__(self, connection: int, ops: list[bytes], cuts: tuple[int, ...], mutated: bool) -> None:
        self.connection = connection
        self.ops = ops
        self.cuts = cuts
        self.mutated = mutated

    @property
    def data(self) -> bytes:
        return b"".join(self.ops)


class Round:
    """Some connections to a server of one profile and the steps that they take, in order."""

    def __init__(self, profile: str, connections: list[int], steps: list[Step]) -> None:
        self.profile = profile
        self.connections = connections
        self.steps = steps

    @property
    def ops(self) -> int:
        return sum(len(step.ops) for step in self.steps)

    def replace(self, steps: list[Step]) -> Round:
        return Round(self.profile, self.connections, steps)


SUBJECTS = [
    b"foo", b"bar", b"a", b"foo.bar", b"foo.a", b"a.b", b"a.b.c", b"b.c", b"b.a", b"foo.bar.a", b"foo.bar.a.b",
    b"bar.a", b"a.foo",
    b"c", b"bar.foo", b"a.b.c.d.e.f", b"foo.bar.b.c", b"\xc3\xa9.x",
]  # fmt: skip
PATTERNS = [
    *SUBJECTS,
    b"*",
    b">",
    b"foo.*",
    b"foo.>",
    b"*.bar",
    b"*.*",
    b"a.>",
    b"a.*.c",
    b"*.b.>",
    b"foo.*.*",
    b"*.*.*",
    b"b.*",
    b"a.b.>",
]
ODD_SUBJECTS = [
    b"a..b", b".a", b"a.", b".", b"..", b"foo*", b"*foo", b"f>o", b">.a", b"a.>.b", b"a.*", b"foo.>", b"*", b">",
    b"a.**", b"$SYS.x",
    b"_R_.x", b"$JS.ACK.x", b"$NRG.x", b"$GR.x", b"$GNR.x", b"_GR_", b"$JS.API.x", b"x" * 100, b"a." * 20 + b"a",
    b"\x01", b"\xff\xfe", b"a\x00b",
    b"foo.bar.", b">>", b"_INBOX.1", b"FOO",
]  # fmt: skip
SIDS = [b"%d" % i for i in range(1, 13)]
ODD_SIDS = [b"0", b"-1", b"x", b"sid.1", b"*", b">", b"007", b"\xff", b"s" * 50]
QUEUES = [b"g0", b"g1", b"g2"]
HEADERS = [
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0\r\nA: b\r\n\r\n",
    b"NATS/1.0 503\r\n\r\nx",
    b"xx\r\n",
    b"k: v",
    b"NATS/1.0\r\nA:b\r\nA: c\r\nD:\r\n\r\n",
]
PAYLOADS = [b"", b"x", b"hello", b"\r\n", b"PING\r\n", b"MSG foo 1 2\r\nhi", b"\x00\xff\x80", b"+OK\r\n"]
SMALL_OPS = [b"PING\r\n", b"PONG\r\n", b"ping\r\n", b"+OK\r\n", b"INFO {}\r\n", b"Ping\n", b"PING \r\n", b"pong x\r\n"]
# Of CONNECTs that are unusual or wrong.
JSON_NAMES = [
    "verbose", "pedantic", "echo", "headers", "protocol", "user", "pass", "name", "lang", "version", "tls_required",
    "Verbose", "ECHO", "x", "\\u0065cho",
]  # fmt: skip
JSON_VALUES = [
    "true", "false", "null", "0", "1", "-1", "1.0", "1e0", '"true"', '""', '"\\u0041\\n"', '"\\ud800"', "[]", "{}",
    "[1,{}]", "tru", "01", "'x'",
]  # fmt: skip
# Inserted whole by a mutation.
PIECES = [
    b"PUB", b"SUB", b"UNSUB", b"HPUB", b"PING\r\n", b"PONG\r\n", b" ", b"\t", b"\r\n", b"\n", b"  ", b"0", b"-1",
    b"999999999", b"9999999999", b"0x10",
    b"1.5", b"1e3", b"+1", b"00000001", b">", b"*", b"..", b".", b"\x00", b"\xff", b"{}", b"CONNECT ",
    b"MSG foo 1 0\r\n", b"+OK\r\n", b"-ERR 'x'\r\n",
    b"INFO {}\r\n", b"INFO {\r\n", b"x" * 70, b"y" * 130, b"z" * 600, b"w" * 5000, b"_sys_", b"Q", b"RS+ a\r\n",
    b"LS+ a\r\n", b"A+ a\r\n",
    b"HMSG a 1 2 2\r\n", b"\x0b", b"\x0c", b"\xc2\xa0", b"513", b"512", b"101", b"100",
]  # fmt: skip


NUMBERS = [b"0", b"1", b"00", b"13", b"40", b"101", b"513", b"999999999", b"1000000000", b"9999999999", b"0000000001"]


class Generator:
    """Operations for one round. Sids of queue subscriptions begin with Q and their group, as the normaliser expects."""

    def __init__(self, rng: random.Random, profile: Profile) -> None:
        self.rng = rng
        self.random = rng.random
        self.profile = profile
        self.counter = 0

    def pick(self, items: Sequence) -> object:
        return items[int(self.random() * len(items))]

    def subject(self) -> bytes:
        return self.pick(SUBJECTS) if self.random() < 0.93 else self.pick(ODD_SUBJECTS)

    def payload(self) -> bytes:
        chance = self.random()
        if chance < 0.7:
            self.counter += 1
            return b"%d" % self.counter
        if chance < 0.85:
            return self.pick(PAYLOADS)
        return b"p" * int(self.random() * self.profile.payload)

    def reply(self) -> bytes:
        chance = self.random()
        if chance < 0.8:
            return b""
        return b"_INBOX.%d " % (chance * 1000 % 4) if chance < 0.97 else self.pick(ODD_SUBJECTS) + b" "

    def publish(self) -> bytes:
        payload = self.payload()
        return b"PUB %s %s%d\r\n%s\r\n" % (self.subject(), self.reply(), len(payload), payload)

    def publish_header(self) -> bytes:
        payload, header = self.payload(), self.pick(HEADERS)
        return b"HPUB %s %s%d %d\r\n%s%s\r\n" % (
            self.subject(), self.reply(), len(header), len(header) + len(payload), header, payload,
        )  # fmt: skip

    def subscribe(self) -> bytes:
        subject = self.pick(PATTERNS) if self.random() < 0.92 else self.pick(ODD_SUBJECTS)
        chance = self.random()
        if chance < 0.25:
            queue = self.pick(QUEUES)
            return b"SUB %s %s Q%sn%d\r\n" % (subject, queue, queue, chance * 100 % 3)
        if chance < 0.4:
            return b"SUB _INBOX.%s %s\r\n" % (self.pick([b"*", b"0", b"1", b">"]), self.pick(SIDS))
        return b"SUB %s %s\r\n" % (subject, self.pick(SIDS) if chance < 0.97 else self.pick(ODD_SIDS))

    def unsubscribe(self, bounded: bool) -> bytes:
        chance = self.random()
        if chance < 0.15:
            return b"UNSUB Q%sn%d\r\n" % (self.pick(QUEUES), chance * 100 % 3)
        if bounded and chance < 0.6:
            return b"UNSUB %s %d\r\n" % (self.pick(SIDS), self.random() * 12)
        return b"UNSUB %s\r\n" % (self.pick(SIDS) if chance < 0.97 else self.pick(ODD_SIDS))

    def connect(self, responders: bool) -> bytes:
        """A CONNECT as clients send it; responders: whether it may ask for no-responders messages."""
        options: dict[str, object] = {}
        for name, chance in (("verbose", 0.25), ("pedantic", 0.25), ("echo", 0.8), ("headers", 0.8)):
            if self.random() < 0.9:
                options[name] = self.random() < chance
        if responders and self.random() < 0.5:
            options["no_responders"] = True
        if self.random() < 0.5:
            options["protocol"] = int(self.random() * 2.05)
        if self.random() < 0.3:
            options["name"] = "client"
        if self.profile.users and self.random() < 0.97:
            options["user"] = self.pick(self.profile.users)
            options["pass"] = "p" if self.random() < 0.98 else "q"
        return b"CONNECT " + json.dumps(options).encode() + b"\r\n"

    def odd_connect(self) -> bytes:
        """A CONNECT whose JSON is unusual or wrong."""
        pairs = []
        for _ in range(int(self.random() * 5)):
            name, value = self.pick(JSON_NAMES), self.pick(JSON_VALUES)
            pairs.append(
                f'{self.pick(["", " ", "  "])}"{name}"{self.pick(["", " "])}:{self.pick(["", " ", chr(9)])}{value}'
            )
        text = "{" + ",".join(pairs) + "}"
        if self.random() < 0.2:
            text = self.pick(
                [
                    "",
                    "{",
                    "[]",
                    "null",
                    "{}{}",
                    "{} x",
                    "\x01{}",
                    "true",
                    '"{}"',
                    text[:-1],
                    text + ",",
                    "{,}",
                    '{"a"}',
                    '{"name":"\\xff"}',
                ]
            )
        return b"CONNECT " + text.encode("latin-1") + b"\r\n"

    def operation(self, bounded: bool) -> bytes:
        chance = self.random()
        if chance < 0.58:
            return self.publish()
        if chance < 0.68:
            return self.publish_header()
        if chance < 0.84:
            return self.subscribe()
        if chance < 0.92:
            return self.unsubscribe(bounded)
        if chance < 0.995:
            return self.pick(SMALL_OPS)
        return self.connect(not bounded)


def mutate(op: bytes, generator: Generator) -> bytes:
    """One operation, damaged: a few bytes or tokens changed, inserted, repeated or left out."""
    rnd, pick = generator.random, generator.pick
    for _ in range(1 + int(rnd() * rnd() * 4)):
        size = len(op)
        at = int(rnd() * (size + 1))
        kind = int(rnd() * 14.3)
        if kind == 0:
            op = op[:at] + bytes([int(rnd() * 256)]) + op[at + 1 :]
        elif kind == 1:
            op = op[:at] + op[at + 1 + int(rnd() * 3) :]
        elif kind == 2:
            op = op[:at] + pick(PIECES) + op[at:]
        elif kind == 3:
            op = op[:at] + op[at : at + int(rnd() * 12)] * 2 + op[at:]
        elif kind == 4:
            op = op[:at]
        elif kind == 5:
            op = op.swapcase()
        elif kind == 6:
            op = op.replace(b" ", pick([b"\t", b"  ", b" \t ", b""]), 1 + int(rnd() * 3))
        elif kind == 7:
            op = op.replace(
                b"\r\n",
                pick([b"\n", b"", b"\r\n\r\n", b" \r\n", b"x\r\n", b"/\r\n", b":\r\n", b"\t\r\n"]),
                1,
            )
        elif kind == 8:
            op = resize(op, int(rnd() * 7) - 3)
        elif kind in (9, 10):
            # Mostly a whole word of the control line, so that its end and the payload stay.
            line, end, rest = op.partition(b"\r\n") if rnd() < 0.7 else (op, b"", b"")
            tokens = line.split(b" ")
            tokens[(which := int(rnd() * len(tokens))) : which + 1] = [pick(PIECES)] if kind == 9 else []
            op = b" ".join(tokens) + end + rest
        elif kind == 11:
            op = op[:at] + generator.operation(True)[: int(rnd() * 30)]
        elif kind == 12:
            op = bytes([op[0] ^ (1 << int(rnd() * 8))]) + op[1:] if op else b"\x00"
        elif kind == 13:
            op = renumber(op, rnd(), pick(NUMBERS))
        else:
            op = lengthen(op, generator.profile.control_line + int(rnd() * 5) - 2)
    return op


def lengthen(op: bytes, size: int) -> bytes:
    """The first line's arguments made so long, if they are shorter, by its second word."""
    line, end, rest = op.partition(b"\r\n")
    verb, blank, arguments = line.partition(b" ")
    return verb + blank + b"x" * (size - len(arguments)) + arguments + end + rest


def resize(op: bytes, by: int) -> bytes:
    """The first line's last number, off by some."""
    line, end, rest = op.partition(b"\r\n")
    head, blank, number = line.rpartition(b" ")
    return head + blank + b"%d" % (int(number) + by) + end + rest if number.isdigit() else op


def renumber(op: bytes, which: float, number: bytes) -> bytes:
    """Another number in place of one of the first line's; which: how far along them, from 0 to 1."""
    line, end, rest = op.partition(b"\r\n")
    words = line.split(b" ")
    numbers = [i for i, word in enumerate(words) if i and word.isdigit()]
    if numbers:
        words[numbers[int(which * len(numbers))]] = number
    return b" ".join(words) + end + rest


# A client's -ERR ends a connection; nats-server still obeys what the same read brought after it.
CLIENT_ERROR = re.compile(rb"(?i)-err[^\n]*\n")
LONE_CR = re.compile(rb"\r(?!\n)")


def without_lone_cr(data: bytes) -> bytes:
    """Each CR that no LF follows becomes an underscore."""
    return LONE_CR.sub(b"_", data)


def cut(data: bytes, rng: random.Random) -> tuple[int, ...]:
    """Where the pieces end: nowhere, at a few places, or after each of some bytes."""
    chance = rng.random()
    size = len(data)
    if chance < 0.5 or size < 2:
        return ()
    if chance < 0.9:
        return tuple(sorted({1 + int(rng.random() * (size - 1)) for _ in range(1 + int(rng.random() * 6))}))
    start = int(rng.random() * size)
    return tuple(range(max(1, start), min(size, start + 40)))


def make_round(rng: random.Random) -> Round:
    """The round that this source of randomness gives."""
    name = NAMES[int(rng.random() * len(NAMES))]
    profile = PROFILES[name]
    generator = Generator(rng, profile)
    connections = list(range(1 + int(rng.random() * 4)))
    bounded = [rng.random() < 0.7 for _ in connections]
    mutated = profile.mutate and rng.random() < 0.7
    steps: list[Step] = []
    for index in connections:
        chance = rng.random()
        if chance < 0.9:
            opening = (
                [generator.connect(not bounded[index])] if chance < 0.8 or not mutated else [generator.odd_connect()]
            )
            opening += [generator.subscribe() for _ in range(int(rng.random() * 8))]
            steps.append(Step(index, opening, (), chance >= 0.8))
    draw = mutated_step if mutated else plain_step
    for _ in range(2 + int(rng.random() * (10 if mutated else 5))):
        steps.append(draw(generator, int(rng.random() * len(connections)), bounded))
    return Round(name, connections, steps)


def plain_step(generator: Generator, connection: int, bounded: list[bool]) -> Step:
    most = 30 if generator.profile.payload > 1000 else 700
    ops = [generator.operation(bounded[connection]) for _ in range(1 + int(generator.random() * most))]
    return Step(connection, ops, cut(b"".join(ops), generator.rng), False)


def mutated_step(generator: Generator, connection: int, bounded: list[bool]) -> Step:
    ops = [generator.operation(bounded[connection]) for _ in range(1 + int(generator.random() * 12))]
    for _ in range(1 + int(generator.random() * 2)):
        index = int(generator.random() * len(ops))
        ops[index] = mutate(ops[index], generator) if generator.random() < 0.9 else generator.odd_connect()
    data = without_lone_cr(b"".join(ops))
    if said := CLIENT_ERROR.search(data):
        data = data[: said.end()]
    at = 0
    for index, op in enumerate(ops):
        ops[index] = data[at : at + len(op)]
        at += len(op)
    if generator.random() < 0.04:
        break_end(ops, generator)
    return Step(connection, ops, cut(b"".join(ops), generator.rng), True)


def break_end(ops: list[bytes], generator: Generator) -> None:
    """Something else in place of a payload's LF: the one CR without LF whose meaning doesn't depend on reads."""
    index = int(generator.random() * len(ops))
    if ops[index][:1] in (b"P", b"H") and ops[index].count(b"\r\n") > 1 and ops[index].endswith(b"\r\n"):
        ops[index] = ops[index][:-1] + generator.pick([b"x", b"\r", b"P", b"\x00"])
