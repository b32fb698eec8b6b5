"""Streams in an engine whose clock stands still: expiry, windows, visibility, what consumers are told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from natsc.jetstream.backend import finish
from natsc.jetstream.rare import INVALID, NEVER, count, parse_ttl, stripped, with_ttl_at_least
from natsc.jetstream.stream_config import StreamConfig
from tests.jetstream.jsworld import MS, SECOND, START_NS, JsWorld

BLOCK = b"NATS/1.0\r\n%b: %b\r\n\r\n"


class Clock:
    """Timers of Python's that fire when the world's clock is advanced."""

    def __init__(self, world: JsWorld) -> None:
        self.world = world
        self.timers: list[Any] = []

    def wall_ns(self) -> int:
        return START_NS + self.world.engine.now_ns() - SECOND

    def call_later(self, delay: float, callback: Callable[[], object]) -> Any:
        timer = [self.world.engine.now_ns() + int(delay * SECOND), callback]
        self.timers.append(timer)
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def advance(self, seconds: float) -> None:
        end = self.world.engine.now_ns() + int(seconds * SECOND)
        while due := [timer for timer in self.timers if timer[0] <= end]:
            timer = min(due, key=lambda one: one[0])
            self.timers.remove(timer)
            self.world.engine.advance(max(timer[0] - self.world.engine.now_ns(), 0))
            timer[1]()
        self.world.engine.advance(end - self.world.engine.now_ns())


@pytest.fixture
def js() -> JsWorld:
    world = JsWorld()
    world.js.clock = world.service.clock = Clock(world)  # type: ignore[assignment]
    world.service.outbox = world.js.outbox = type(world.js.outbox)(world.engine, world.js.clock)
    return world


def publish(js: JsWorld, subject: str, data: bytes = b"x", header: tuple[bytes, bytes] | None = None) -> bytes:
    """The answer to a message."""
    js.publish(subject, data, BLOCK % header if header else b"", "_INBOX.ack")
    return js.messages()[-1].payload


def held(js: JsWorld, name: str = "S") -> list[int]:
    stream = js.js.stream(name)
    assert stream is not None
    return [seq for seq in range(1, stream.store.last_seq + 1) if stream.message(seq) is not None]


class TestAge:
    def test_messages_grow_too_old(self, js: JsWorld) -> None:
        js.stream("S", "s.>", max_age=10 * SECOND, duplicate_window=10 * SECOND)
        publish(js, "s.a")
        js.js.clock.advance(6)
        publish(js, "s.b")
        js.js.clock.advance(3.9)
        assert held(js) == [1, 2]
        js.js.clock.advance(0.2)
        assert held(js) == [2]
        js.js.clock.advance(6)
        assert held(js) == []
        assert publish(js, "s.a") == b'{"stream":"S","seq":3}'

    def test_a_ttl_of_its_own(self, js: JsWorld) -> None:
        js.stream("S", "s.>", allow_msg_ttl=True)
        publish(js, "s.a", header=(b"Nats-TTL", b"5"))
        publish(js, "s.b")
        publish(js, "s.c", header=(b"Nats-TTL", b"2s"))
        js.js.clock.advance(2.1)
        assert held(js) == [1, 2]
        js.js.clock.advance(3)
        assert held(js) == [2]

    def test_never_is_longer_than_max_age(self, js: JsWorld) -> None:
        js.stream("S", "s.>", allow_msg_ttl=True, max_age=SECOND)
        publish(js, "s.a", header=(b"Nats-TTL", b"never"))
        publish(js, "s.b")
        publish(js, "s.c", header=(b"Nats-TTL", b"never"))
        publish(js, "s.d", header=(b"Nats-TTL", b"9s"))
        js.js.clock.advance(1.1)
        assert held(js) == [1, 3]

    @pytest.mark.parametrize("config", [{"max_age": SECOND}, {}])
    def test_a_marker_takes_the_place_of_the_last(self, js: JsWorld, config: dict[str, int]) -> None:
        js.stream(
            "S", "s.>", allow_msg_ttl=True, allow_rollup_hdrs=True, subject_delete_marker_ttl=20 * SECOND, **config
        )
        header = None if config else (b"Nats-TTL", b"20s")
        publish(js, "s.a", header=header)
        publish(js, "s.a", header=header)
        js.js.clock.advance(1.1 if config else 20.1)
        assert held(js) == [3]
        marker = js.js.stream("S").message(3)  # type: ignore[union-attr]
        assert marker is not None
        assert (marker.subject, marker.data) == ("s.a", b"")
        assert marker.headers == b"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: 20s\r\nNats-Rollup: sub\r\n\r\n"
        js.js.clock.advance(30)
        assert held(js) == []


class TestDuplicates:
    def test_the_window_ends(self, js: JsWorld) -> None:
        js.stream("S", "s.>", duplicate_window=2 * SECOND)
        first = publish(js, "s.a", header=(b"Nats-Msg-Id", b"1"))
        assert first == b'{"stream":"S","seq":1}'
        js.js.clock.advance(1.9)
        assert publish(js, "s.a", header=(b"Nats-Msg-Id", b"1")) == b'{"stream":"S","seq":1,"duplicate": true}'
        js.js.clock.advance(0.2)
        assert publish(js, "s.a", header=(b"Nats-Msg-Id", b"1")) == b'{"stream":"S","seq":2}'

    def test_the_other_id_of_the_same_hash_slot(self, js: JsWorld) -> None:
        stream = js.stream("S", "s.>", duplicate_window=SECOND)
        for number in range(500):
            publish(js, "s.a", header=(b"Nats-Msg-Id", b"%d" % number))
        assert stream.message_ids == 500
        assert publish(js, "s.a", header=(b"Nats-Msg-Id", b"77")).endswith(b'"seq":78,"duplicate": true}')


class TestInterest:
    def test_a_message_goes_with_the_last_acknowledgement(self, js: JsWorld) -> None:
        js.stream("S", "s.>", retention="interest")
        js.consumer("S", "A", filter_subject="s.a")
        js.consumer("S", "B")
        publish(js, "s.a")
        publish(js, "s.b")
        assert held(js) == [1, 2]
        for consumer in ("A", "B"):
            js.pull("S", consumer, b"5")
            for message in js.messages():
                js.ack(message)
            if consumer == "A":
                assert held(js) == [1, 2]
        assert held(js) == []

    def test_a_consumer_that_goes_takes_what_only_it_needed(self, js: JsWorld) -> None:
        js.stream("S", "s.>", retention="interest")
        js.consumer("S", "A", filter_subject="s.a")
        consumer = js.consumer("S", "B")
        publish(js, "s.a")
        publish(js, "s.b")
        consumer.delete()
        js.end_turn()
        assert held(js) == [1]

    def test_a_work_queue_drops_what_is_acknowledged(self, js: JsWorld) -> None:
        js.stream("S", "s.>", retention="workqueue")
        js.consumer("S", "A")
        for _ in range(3):
            publish(js, "s.a")
        js.pull("S", "A", b"2")
        for message in js.messages():
            js.ack(message)
        assert held(js) == [3]


class TestAdvisories:
    def test_what_happens_to_a_stream(self, js: JsWorld) -> None:
        js.say(b"SUB $JS.EVENT.ADVISORY.STREAM.> 2\r\n")
        stream = js.stream("S", "s.>")
        changed = stream.config.clone()
        changed.description = "d"
        stream.update(changed)
        stream.delete()
        js.end_turn()
        assert [one.subject.split(".")[4] for one in js.messages()] == ["CREATED", "UPDATED", "DELETED"]


def test_a_deleted_stream_receives_nothing(js: JsWorld) -> None:
    stream = js.stream("S", "s.>")
    js.publish("s.a", reply="_INBOX.1")
    stream.delete()
    js.end_turn()
    js.messages()
    js.publish("s.a", reply="_INBOX.1")
    assert js.messages() == []
    assert js.service.space.memory == 0


def test_an_account_that_is_full(js: JsWorld) -> None:
    js.stream("S", "s.>")
    js.js.space.max_memory = 100
    assert publish(js, "s.a", b"x" * 50) == b'{"stream":"S","seq":1}'
    assert b'"err_code":10002' in publish(js, "s.a", b"x" * 50)
    finish(js.js.stream("S").purge("", 0, 0))  # type: ignore[union-attr]
    js.end_turn()
    assert publish(js, "s.a", b"x" * 50) == b'{"stream":"S","seq":2}'


def test_a_server_that_is_full(js: JsWorld) -> None:
    js.stream("S", "s.>")
    js.service.space.max_memory = 10
    publish(js, "s.a", b"x" * 50)
    assert b'"err_code":10023' in publish(js, "s.a", b"x" * 50)


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1", SECOND), ("1s", SECOND), ("1.9s", SECOND), ("1m", 60 * SECOND), ("never", NEVER), ("NeVer", NEVER),
     ("0", INVALID), ("999ms", INVALID), ("-1", INVALID), ("x", INVALID), ("", INVALID), ("1 ", INVALID)],
)  # fmt: skip
def test_ttls(text: str, ns: int) -> None:
    assert parse_ttl(text) == ns


def test_what_of_headers_is_not_stored() -> None:
    assert stripped(b"NATS/1.0 503\r\n\r\n") == b""
    assert stripped(b"NATS/1.0\r\n\r\n") == b""
    assert stripped(b"NATS/1.0 100 x\r\nA: b\r\n\r\n") == b"NATS/1.0\r\nA: b\r\n\r\n"
    assert stripped(b"NATS/1.0\r\nA: b\r\nNats-Request-Info: {}\r\nC: d\r\n\r\n") == b"NATS/1.0\r\nA: b\r\nC: d\r\n\r\n"


def test_a_marker_must_outlive_what_it_marks() -> None:
    assert with_ttl_at_least(BLOCK % (b"Nats-TTL", b"1s"), 5 * SECOND) == BLOCK % (b"Nats-TTL", b"5")
    for text in (b"6s", b"never", b"x"):
        assert with_ttl_at_least(BLOCK % (b"Nats-TTL", text), 5 * SECOND) == BLOCK % (b"Nats-TTL", text)
    assert with_ttl_at_least(b"", 500 * MS) == b""


def test_counters_keep_where_they_count_from() -> None:
    last = (BLOCK % (b"Nats-Counter-Sources", b'{"a":{"b":"1"}}'), b'{"val":"9"}')
    counted = count(BLOCK % (b"Nats-Incr", b"-10"), last)
    wanted = b'NATS/1.0\r\nNats-Incr: -10\r\nNats-Counter-Sources: {"a":{"b":"1"}}\r\n\r\n'
    assert counted == (wanted, b'{"val":"-1"}', b',"val":"-1"')
    assert count(BLOCK % (b"Nats-Incr", b"1"), (b"", b"x")) == 10172


def test_schedules_wait_for_their_stream(js: JsWorld) -> None:
    config = StreamConfig()
    config.name, config.subjects, config.storage, config.num_replicas = "S", ["s.>"], "memory", 1
    config.allow_msg_schedules = config.allow_rollup_hdrs = True
    stream = js.js.open_stream(config, js.js.now(), listed=False)  # as one that is being restored
    block = b"NATS/1.0\r\nNats-Schedule: @at 2020-01-01T00:00:00Z\r\nNats-Schedule-Target: s.out\r\n\r\n"
    stream.store_special(b"s.plan", block, b"x", b"")
    js.js.clock.advance(1)  # type: ignore[attr-defined]
    assert stream.store.last_seq == 1
    stream.start()
    js.js.clock.advance(1)  # type: ignore[attr-defined]
    assert stream.store.last_seq == 2
