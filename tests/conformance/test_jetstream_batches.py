"""Batches: fast ones, message by message as nats-server answers them, and what ends atomic ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from natsc.jetstream.api_request import header_block
from tests.jetstream.client import Client

from .harness import Server
from .talk import Talk, both_say_the_same, start_both

START, APPEND, COMMIT, AT_END, PING = range(5)
ON = {"allow_batched": True}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    yield from start_both(tmp_path_factory)


class Batch:
    """A fast batch that is published into the stream F."""

    def __init__(self, talk: Talk, id: str = "one", flow: int | str = 10, gaps: str = "fail") -> None:
        self.talk, self.id, self.flow, self.gaps = talk, id, flow, gaps

    def send(
        self, seq: int | str, operation: int | str = APPEND, count: int = 0, data: str = "x", subject: str = "F.a",
        **headers: str,
    ) -> None:  # fmt: skip
        """A message that `count` messages answer."""
        block = header_block({name.replace("_", "-"): value for name, value in headers.items()}).decode()
        reply = f"{self.id}.{self.flow}.{self.gaps}.{seq}.{operation}.$FI"
        self.talk.publish(subject, data, reply, block if headers else "")
        self.talk.expect(count)

    def fill(self, first: int, last: int, **options: Any) -> None:
        for seq in range(first, last + 1):
            self.send(seq, **options)


def small(talk: Talk) -> None:
    talk.stream("F", **ON)
    batch = Batch(talk)
    batch.send(1, START, 1)
    batch.send(2)
    batch.send(3, COMMIT, 1, A="b")
    batch.send(1, COMMIT, 1)
    batch.send(1, START, 1)
    batch.send(2, AT_END, 1)
    batch.send(2, APPEND, 1)
    batch.send(1, PING, 1)
    batch.send(2, AT_END, 1)
    talk.api("STREAM.MSG.GET.F", {"seq": 3})


def on_disk(talk: Talk) -> None:
    talk.stream("F", storage="file", **ON)
    batch = Batch(talk, flow=5)
    batch.send(1, START, 1)
    batch.fill(2, 4)
    batch.send(5, APPEND, 1)
    batch.send(6, COMMIT, 1)


def flow(talk: Talk) -> None:
    talk.stream("F", **ON)
    for wanted in (1, 3, 5, 0, -1, "x", 1000, 70000):
        batch = Batch(talk, flow=wanted)
        batch.send(1, START, 1 + (wanted == 1))
        every = {1: 1, 3: 3, 5: 5, 1000: 500, 70000: 500}.get(wanted, 10)  # type: ignore[call-overload]
        for seq in range(2, 26):
            batch.send(seq, APPEND, int(seq % every == 0))
        batch.send(26, COMMIT, 1)


def several(talk: Talk) -> None:
    """The second of two begins slowly."""
    talk.stream("F", **ON)
    first, second = Batch(talk, "one", 400), Batch(talk, "two", 400)
    first.send(1, START, 1)
    second.send(1, START, 2)
    seq = 1
    for every in (2, 4, 8, 16):
        second.fill(seq + 1, seq + every - 1)
        seq += every
        second.send(seq, APPEND, 1)
    first.fill(2, 399)
    first.send(400, APPEND, 1)
    first.fill(401, 649)
    first.send(650, APPEND, 1)
    first.send(651, COMMIT, 1)
    second.send(seq + 1, COMMIT, 1)


def mixed(talk: Talk) -> None:
    """Other things come between the messages of a batch."""
    talk.stream("F", max_msg_size=100, max_msgs=20, **ON)
    batch = Batch(talk, "one", 50)
    batch.send(1, START, 1)
    batch.fill(2, 5)
    talk.fill("F.a", "F.b")
    batch.fill(6, 7, subject="F.c")
    other = Batch(talk, "two", 50)
    other.send(1, COMMIT, 1)
    batch.fill(8, 9)
    batch.send(10, APPEND, 0, A="b")
    batch.fill(11, 12)
    batch.send(12, PING, 1)
    batch.send(13)
    batch.send(14, APPEND, 1, data="x" * 101)
    batch.fill(14, 15)
    batch.send(17, APPEND, 2)
    batch.send(1, START, 1)
    batch.fill(2, 49)
    batch.send(50, APPEND, 1)
    batch.fill(51, 60)
    batch.send(61, AT_END, 1)
    batch.send(62, APPEND, 1)
    batch.send(1, START, 1)
    batch.fill(2, 4)
    batch.send(4, PING, 1)  # nats-server has them all now
    talk.api("STREAM.UPDATE.F", {"name": "F", "subjects": ["F.>"], "storage": "memory", "sealed": True, **ON})
    batch.send(5, APPEND, 1)


def gaps(talk: Talk) -> None:
    talk.stream("F", **ON)
    batch = Batch(talk)
    batch.send(1, START, 1)
    batch.send(3, APPEND, 2)
    batch.send(4, APPEND, 1)
    batch.send(1, START, 1)
    batch.send(1, START, 2)
    batch.send(1, START, 1)
    batch.send(3, COMMIT, 2)
    batch.send(1, START, 1)
    batch.send(3, AT_END, 2)
    batch.send(1, START, 1)
    batch.send(1, COMMIT, 2)


def gaps_that_are_fine(talk: Talk) -> None:
    talk.stream("F", **ON)
    batch = Batch(talk, gaps="ok", flow=3)
    batch.send(1, START, 1)
    batch.send(3, APPEND, 2)
    batch.send(8, APPEND, 2)
    batch.send(10, COMMIT, 2)
    batch.send(1, START, 1)
    batch.send(4, AT_END, 2)
    batch.send(1, START, 1)
    batch.send(2)
    batch.send(2, APPEND, 2)
    batch.send(3, APPEND, 1)


def pings(talk: Talk) -> None:
    talk.stream("F", **ON)
    batch = Batch(talk, flow=2)
    batch.send(1, START, 1)
    batch.send(1, PING, 1)
    batch.send(2, APPEND, 1)
    batch.send(2, PING, 1)
    batch.send(1, PING, 1)
    batch.send(5, PING, 2)
    batch.send(6, PING, 1)
    fine = Batch(talk, gaps="ok", flow=2)
    fine.send(1, START, 1)
    fine.send(4, PING, 2)
    fine.send(5, PING, 2)
    fine.send(6, COMMIT, 1)


PATTERNS = (
    "$FI", "1.$FI", "0.$FI", "1.0.$FI", "fail.1.0.$FI", "10.fail.1.0.$FI", "one.10.fail.1.5.$FI",
    "one.10.fail.1.x.$FI", "one.10.fail.1.-1.$FI", "one.10.fail.0.0.$FI", "one.10.fail.x.0.$FI", "one.10.fail.2.0.$FI",
    "one.10.fail.1.1.$FI", "one.10.fail.1.3.$FI", "one.10.FAIL.1.0.$FI", "one.10.maybe.1.0.$FI",
    "one.10.fail.18446744073709551615.1.$FI", "one.10.fail.18446744073709551614.1.$FI", f"{'i' * 64}.10.fail.1.2.$FI",
    f"{'i' * 65}.10.fail.1.2.$FI", "one.10.fail.01.02.$FI", "one.10.fail.1.2.$fi",
)  # fmt: skip


def patterns(talk: Talk) -> None:
    talk.stream("F", **ON)
    for text in PATTERNS:
        talk.publish("F.a", "x", text)
        talk.expect()


def off(talk: Talk) -> None:
    talk.stream("F")
    for text in ("one.10.fail.1.2.$FI", "one.10.fail.1.9.$FI"):
        talk.publish("F.a", "x", text)
        talk.expect()
    talk.api("STREAM.UPDATE.F", {"name": "F", "subjects": ["F.>"], "storage": "memory", **ON})
    batch = Batch(talk)
    batch.send(1, START, 1)
    talk.api("STREAM.UPDATE.F", {"name": "F", "subjects": ["F.>"], "storage": "memory"})
    batch.send(2, APPEND, 1)
    talk.api("STREAM.UPDATE.F", {"name": "F", "subjects": ["F.>"], "storage": "memory", **ON})
    batch.send(2, APPEND, 1)
    talk.api("STREAM.UPDATE.F", {"name": "F", "subjects": ["F.>"], "storage": "memory", **ON, "sealed": True})
    batch.send(1, START, 1)


WRONG = {"Nats_Expected_Last_Sequence": "99"}


def refusals(talk: Talk) -> None:
    talk.stream("F", max_msg_size=200, **ON)
    for mode in ("fail", "ok"):
        batch = Batch(talk, gaps=mode)
        batch.send(1, START, 1 if mode == "fail" else 2, **WRONG)
        batch.send(1, COMMIT, 1, **WRONG)
        batch = Batch(talk, "two", gaps=mode)
        batch.send(1, START, 1)
        batch.send(2, APPEND, 2 if mode == "fail" else 1, **WRONG)
        batch.send(3, COMMIT, 1)
        batch.send(1, START, 1)
        batch.send(2, COMMIT, 2, **WRONG)
        batch.send(1, START, 1)
        batch.send(2, APPEND, 1, data="x" * 201)
        batch.send(2, COMMIT, 1)


HEADERS = (
    {"Nats_Expected_Stream": "X"}, {"Nats_TTL": "1s"}, {"Nats_TTL": "x"}, {"Nats_Stream_Source": "x"},
    {"Nats_Incr": "1"}, {"Nats_Incr": "x"}, {"Nats_Rollup": "sub"}, {"Nats_Rollup": "x"},
    {"Nats_Schedule": "x"}, {"Nats_Scheduler": "x"},
    {"Nats_Expected_Last_Subject_Sequence": "9"}, {"Nats_Expected_Last_Subject_Sequence_Subject": "F.a"},
    {"Nats_Expected_Last_Msg_Id": "x"}, {"Nats_Required_Api_Level": "9"}, {"Nats_Required_Api_Level": "x"},
    {"Nats_Required_Api_Level": "1"}, {"Nats_Batch_Id": "x"},
)  # fmt: skip


def headers(talk: Talk) -> None:
    talk.stream("F", **ON)
    for one in HEADERS:
        Batch(talk).send(1, COMMIT, 1, **one)
    batch = Batch(talk)
    batch.send(1, START, 1)
    batch.send(2, APPEND, 1, Nats_Expected_Last_Msg_Id="x")
    batch.send(3, APPEND)
    batch.send(4, COMMIT, 1)
    batch.send(1, START, 1)
    batch.send(2, APPEND, 1, Nats_Required_Api_Level="9")
    batch.send(3, APPEND, 1)


def duplicates(talk: Talk) -> None:
    talk.stream("F", **ON)
    talk.publish("F.a", "x", "puback", header_block({"Nats-Msg-Id": "a"}).decode())
    talk.expect()
    batch = Batch(talk, flow=3)
    batch.send(1, COMMIT, 1, Nats_Msg_Id="a")
    batch.send(1, START, 1, Nats_Msg_Id="a")
    batch.send(2, APPEND, 0, Nats_Msg_Id="a")
    batch.send(3, APPEND, 1, Nats_Msg_Id="a")
    batch.send(4, APPEND, 0, Nats_Msg_Id="a")
    batch.send(5, COMMIT, 1, Nats_Msg_Id="a")
    batch.send(1, START, 1, Nats_Msg_Id="b")
    batch.send(2, APPEND, 0, Nats_Msg_Id="b")
    batch.send(3, COMMIT, 2, Nats_Msg_Id="b")
    batch.send(1, START, 1)
    batch.send(2, APPEND, 0, Nats_Msg_Id="a")
    batch.send(3, AT_END, 1)
    fine = Batch(talk, gaps="ok")
    fine.send(1, COMMIT, 1, Nats_Msg_Id="a")


def counters(talk: Talk) -> None:
    talk.stream("F", allow_msg_counter=True, **ON)
    batch = Batch(talk)
    batch.send(1, START, 1, "", Nats_Incr="1")
    batch.send(2, APPEND, 0, "", Nats_Incr="5")
    batch.send(3, APPEND, 2, "")
    batch.send(1, COMMIT, 1, "", Nats_Incr="-1")
    talk.api("STREAM.MSG.GET.F", {"seq": 3})


def full(talk: Talk) -> None:
    talk.stream("F", max_msgs=3, discard="new", **ON)
    batch = Batch(talk)
    batch.send(1, START, 1)
    batch.send(2)
    batch.send(3)
    batch.send(4, APPEND, 2)


def nobody_is_interested(talk: Talk) -> None:
    talk.stream("F", retention="interest", **ON)
    batch = Batch(talk, flow=2)
    batch.send(1, START, 1)
    batch.send(2, APPEND, 1)
    batch.send(3, COMMIT, 1)


def transformed(talk: Talk) -> None:
    talk.stream("F", subject_transform={"src": "F.*", "dest": "G.{{wildcard(1)}}"}, **ON)
    batch = Batch(talk)
    batch.send(1, START, 1)
    batch.send(2, COMMIT, 1, Nats_Expected_Last_Subject_Sequence="1")
    talk.api("STREAM.MSG.GET.F", {"seq": 2})


def no_acks(talk: Talk) -> None:
    talk.stream("F", no_ack=True, **ON)
    batch = Batch(talk, flow=2)
    batch.send(1, START)
    batch.send(2, APPEND, 1)
    batch.send(3, COMMIT, 1)
    batch.send(4)
    batch.send(1, COMMIT, 1, **WRONG)


CONVERSATIONS: tuple[Callable[[Talk], None], ...] = (
    small, on_disk, flow, several, mixed, gaps, gaps_that_are_fine, pings, patterns, off, refusals, headers, duplicates,
    counters, full, nobody_is_interested, transformed, no_acks,
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(CONVERSATIONS)), ids=[one.__name__ for one in CONVERSATIONS])
def test_fast_batches(number: int, servers: list[Server]) -> None:
    def run(talk: Talk) -> None:
        talk.api("STREAM.DELETE.F")
        del talk.record[:]
        try:
            CONVERSATIONS[number](talk)
        except TimeoutError:
            raise AssertionError(f"that was all: {talk.record}") from None
        talk.nothing(0.02)
        talk.api("STREAM.INFO.F")

    both_say_the_same(servers, run, number)


ACCOUNTS = """server_name: srv
jetstream {{ store_dir: "{}" }}
accounts {{
    A {{ jetstream: enabled, users: [ {{ user: a, password: p }} ], exports: [ {{ service: "F.a" }} ] }}
    B {{ users: [ {{ user: b, password: p }} ], imports: [ {{ service: {{ subject: "F.a", account: A }} }} ] }}
}}
"""


def test_over_an_import(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The reply subject that the stream sees is another one than the publisher's."""
    answers = []
    for server in (running := start_both(tmp_path_factory, ACCOUNTS)).__next__():
        with Client(server.port, "a") as owner, Client(server.port, "b") as client:
            body = json.dumps({"name": "F", "subjects": ["F.>"], **ON}).encode()
            owner.request(f"{PREFIX}STREAM.CREATE.F", body)
            client.subscribe("reply.>")
            client.write(b"PUB F.a reply.one.10.fail.1.2.$FI 1\r\nx\r\nPUB F.a reply.one 1\r\nx\r\n")
            answers.append([client.answer(), client.answer()])
    running.close()
    assert answers[0] == answers[1]


LIMITS = "{ max_inflight_per_stream: 2, max_inflight_total: 3, max_msgs: 3, timeout: 1s }"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    # The time is long enough for slow machines where it isn't waited for.
    config = f'server_name: srv\njetstream {{{{ store_dir: "{{}}", limits {{{{ batch {{{LIMITS}}} }}}} }}}}\n'
    yield from start_both(tmp_path_factory, config)


def atomic(talk: Talk, id: str, seq: int, stream: str = "F", commit: str = "", count: int = 1) -> None:
    members: dict[str, object] = {"Nats-Batch-Id": id, "Nats-Batch-Sequence": seq}
    if commit:
        members["Nats-Batch-Commit"] = commit
    talk.publish(f"{stream}.a", "x", f"{id}-{seq}", header_block(members).decode())
    talk.expect(count, mixed=True)


def open_batches(talk: Talk) -> None:
    talk.stream("G", allow_atomic=True, **ON)
    for subject, id in (("F.a", "one"), ("F.a", "two"), ("F.a", "three"), ("G.a", "one"), ("G.a", "two")):
        Batch(talk, id).send(1, START, 2 if (subject, id) == ("F.a", "two") else 1, subject=subject)
    for stream, id in (("F", "one"), ("F", "two"), ("F", "three"), ("G", "one"), ("G", "two")):
        atomic(talk, id, 1, stream)
    talk.api("STREAM.DELETE.F")
    Batch(talk, "two").send(1, START, 2, subject="G.a")
    atomic(talk, "two", 1, "G")


def too_long(talk: Talk) -> None:
    talk.subscribe("$JS.EVENT.ADVISORY.STREAM.>")
    for seq in (1, 2, 3):
        atomic(talk, "large", seq)
    atomic(talk, "large", 4, commit="eob")
    for seq in (1, 2, 3):
        atomic(talk, "larger", seq)
    atomic(talk, "larger", 4, commit="1", count=2)
    atomic(talk, "largest", 5)
    atomic(talk, "gap", 1)
    atomic(talk, "gap", 3, count=2)


def too_late(talk: Talk) -> None:
    talk.subscribe("$JS.EVENT.ADVISORY.STREAM.>")
    Batch(talk, "late").send(1, START, 1)
    atomic(talk, "late", 1)
    talk.expect()  # of the atomic one, and so behind the other one's end
    atomic(talk, "late", 2, commit="1")
    Batch(talk, "later").send(1, START, 1)
    atomic(talk, "later", 1)
    talk.expect()
    Batch(talk, "late").send(2, APPEND, 1)


@pytest.mark.parametrize("run", [open_batches, too_long, too_late], ids=lambda run: run.__name__)
def test_limits(run: Callable[[Talk], None], limited: list[Server]) -> None:
    def checked(talk: Talk) -> None:
        for name in ("F", "G"):
            talk.api(f"STREAM.DELETE.{name}")
        del talk.record[:]
        talk.stream("F", allow_atomic=True, **ON)
        try:
            run(talk)
        except TimeoutError:
            raise AssertionError(f"that was all: {talk.record}") from None
        talk.api("STREAM.INFO.F")

    both_say_the_same(limited, checked, 100)
