"""What takes long is done in steps, each of a bounded number of messages, between which everything else goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import copy
from typing import Any
from unittest.mock import Mock

import pytest

from natsc.jetstream.api import begin
from natsc.jetstream.api_request import Request
from natsc.jetstream.streams import STEP, ManagedStream
from tests.jetstream.jsworld import SECOND, JsWorld

COUNT = 5 * STEP


@pytest.fixture
def js() -> JsWorld:
    return JsWorld()


def publish(js: JsWorld, subjects: list[str]) -> None:
    """In one turn."""
    js.say(b"".join(b"PUB %b 0\r\n\r\n" % subject.encode() for subject in subjects))


def filled(js: JsWorld, **config: Any) -> ManagedStream:
    """A stream with messages on s.a and s.b in turn."""
    stream = js.stream("S", "s.>", **config)
    publish(js, ["s.a", "s.b"] * (COUNT // 2))
    assert stream.state().messages == COUNT
    return stream


def ask(js: JsWorld, operation: str, body: dict[str, Any], between: Callable[[], object]) -> tuple[dict[str, Any], int]:
    """The answer to an API request, and in how many steps it came; `between` is called between these."""
    steps = begin(Request(f"$JS.API.{operation}", json.dumps(body).encode()), js.js)
    count = 1
    while True:
        try:
            next(steps)
        except StopIteration as done:
            js.end_turn()
            return json.loads(done.value.payload), count
        js.end_turn()
        count += 1
        between()


def messages(stream: ManagedStream, subject: str) -> int:
    return stream.count_of(subject.encode())


@pytest.mark.parametrize(
    ("body", "purged", "left"),
    [
        ({"filter": "s.a"}, COUNT // 2, (0, COUNT // 2)),
        ({"filter": "s.*"}, COUNT, (0, 0)),
        ({"filter": "s.a", "keep": 7}, COUNT // 2 - 7, (7, COUNT // 2)),
        ({"filter": "*.a", "keep": 7}, COUNT // 2 - 7, (7, COUNT // 2)),
        ({"filter": "s.b", "seq": COUNT - 3}, COUNT // 2 - 2, (COUNT // 2, 2)),
        ({"seq": COUNT - 3}, COUNT - 4, (2, 2)),
        ({"keep": 10}, COUNT - 10, (5, 5)),
    ],
)
def test_a_purge(js: JsWorld, body: dict[str, Any], purged: int, left: tuple[int, int]) -> None:
    stream = filled(js)
    new = [0, 0]
    before = [COUNT]

    def between() -> None:
        assert before[0] - stream.state().messages <= STEP
        publish(js, ["s.a", "s.b"])
        new[0] += 1
        new[1] += 1
        before[0] = stream.state().messages

    answer, steps = ask(js, "STREAM.PURGE.S", body, between)
    assert (answer["success"], answer["purged"]) == (True, purged)
    assert purged // STEP <= steps <= COUNT // STEP + 2
    # What came meanwhile stays, whatever its subject.
    assert (messages(stream, "s.a"), messages(stream, "s.b")) == (left[0] + new[0], left[1] + new[1])


def test_a_purge_meets_the_removal_of_what_it_would_take(js: JsWorld) -> None:
    stream = filled(js)
    gone = iter(range(COUNT, 0, -2))

    def between() -> None:
        for _ in range(10):
            stream.remove(next(gone), False)

    answer, steps = ask(js, "STREAM.PURGE.S", {"filter": "s.b"}, between)
    assert answer["purged"] == COUNT // 2 - 10 * (steps - 1)
    assert messages(stream, "s.b") == 0


def test_a_purge_of_a_stream_that_goes_meanwhile(js: JsWorld) -> None:
    stream = filled(js)
    answer, _ = ask(js, "STREAM.PURGE.S", {"filter": "s.b"}, stream.delete)
    assert answer["error"]["description"] == "stream closed"


@pytest.mark.parametrize("body", [{}, {"keep": 1}, {"seq": COUNT}])
def test_what_leaves_nothing_or_one_message_takes_no_steps(js: JsWorld, body: dict[str, Any]) -> None:
    stream = filled(js)
    answer, steps = ask(js, "STREAM.PURGE.S", body, lambda: None)
    left = 1 if body else 0
    assert (answer["purged"], steps, stream.state().messages) == (COUNT - left, 1, left)


def test_a_rollup_of_all_looks_at_no_message(js: JsWorld) -> None:
    stream = filled(js, allow_rollup_hdrs=True)
    js.consumer("S", "C")
    js.publish("s.c", b"one", b"NATS/1.0\r\nNats-Rollup: all\r\n\r\n")
    state = stream.state()
    assert (state.messages, state.first_seq, state.last_seq, state.num_subjects) == (1, COUNT + 1, COUNT + 1, 1)
    assert state.bytes == 16 + 3 + 30 + 3
    js.publish("s.c", b"two")
    js.pull("S", "C", b"5")
    assert [one.payload for one in js.messages() if one.reply] == [b"one", b"two"]


def test_rollups_of_a_subject(js: JsWorld) -> None:
    stream = filled(js, allow_rollup_hdrs=True)
    later = Later(js)
    js.consumer("S", "C", filter_subject="s.a")
    rollup = b"NATS/1.0\r\nNats-Rollup: sub\r\n\r\n"
    js.say(b"HPUB s.a _INBOX.1 %d %d\r\n%b\r\n" % (len(rollup), len(rollup), rollup))
    assert (js.messages(), messages(stream, "s.b")) == ([], COUNT // 2)
    assert COUNT // 2 > messages(stream, "s.a") >= COUNT // 2 - 2 * STEP
    # A second one needs no walk of its own; what comes behind it stays.
    js.publish("s.a", b"gone")
    js.say(b"HPUB s.a _INBOX.2 %d %d\r\n%b\r\n" % (len(rollup), len(rollup), rollup))
    js.publish("s.a", b"stays")
    turns = 0
    while later.waiting:
        before = messages(stream, "s.a")
        later.run()
        js.end_turn()
        assert before - messages(stream, "s.a") <= STEP
        turns += 1
    assert COUNT // STEP - 3 <= turns <= COUNT // STEP + 1
    acks = [(one.subject, json.loads(one.payload)["seq"]) for one in js.messages()]
    assert acks == [("_INBOX.1", COUNT + 1), ("_INBOX.2", COUNT + 3)]
    assert (messages(stream, "s.a"), messages(stream, "s.b")) == (2, COUNT // 2)
    assert js.info("S", "C")["pending"] == 2
    assert not stream.rollups


class Later:
    """What is to be called in later turns."""

    def __init__(self, js: JsWorld) -> None:
        self.waiting: list[Callable[[], object]] = []
        js.service.clock.call_later = self.call_later  # type: ignore[method-assign]

    def call_later(self, delay: float, callback: Callable[[], object]) -> Any:
        if delay == 0:
            self.waiting.append(callback)
        return Mock()  # of what comes at a time of its own, nothing does

    def run(self) -> None:
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()


@pytest.mark.parametrize(
    ("config", "left"),
    [({"max_msgs": 10}, 10), ({"max_bytes": 19 * 10}, 10), ({"max_msgs_per_subject": 3}, 6)],
    ids=["messages", "bytes", "of a subject"],
)
def test_lower_limits(js: JsWorld, config: dict[str, int], left: int) -> None:
    stream = filled(js)
    later = Later(js)
    changed = copy(stream.config)
    for name, value in config.items():
        setattr(changed, name, value)
    before = [COUNT]

    def between() -> None:
        assert before[0] - stream.state().messages <= STEP
        publish(js, ["s.a", "s.b"])
        later.run()
        before[0] = stream.state().messages + 4

    answer, steps = ask(js, "STREAM.UPDATE.S", changed.as_json(), between)
    assert "error" not in answer
    assert answer["state"]["messages"] == left
    assert steps >= COUNT // STEP
    assert (stream.enforcing, later.waiting) == (False, [])
    publish(js, ["s.a", "s.b"])
    assert stream.state().messages == left
    assert stream.state().last_seq - stream.state().first_seq < COUNT // 2  # the newest ones stay


@pytest.mark.parametrize("more", [{}, {"allow_msg_schedules": True}], ids=["ttl", "ttl and schedules"])
def test_headers_that_are_read_now(js: JsWorld, more: dict[str, bool]) -> None:
    stream = filled(js)
    old = b"NATS/1.0\r\nNats-TTL: 1h\r\nNats-Schedule: @at 2030-01-01T00:00:00Z\r\nNats-Schedule-Target: s.b\r\n\r\n"
    stream.store_checked(b"s.old", old, b"", b"", b"")
    stream.store_checked(b"s.over", old, b"", b"", b"")
    js.end_turn()
    later = Later(js)
    changed = copy(stream.config)
    changed.allow_rollup_hdrs = changed.allow_msg_ttl = True
    for name, value in more.items():
        setattr(changed, name, value)

    def between() -> None:
        js.publish("s.c", b"", b"NATS/1.0\r\nNats-TTL: 1m\r\n\r\n")
        js.publish("s.over", b"no schedule any more")
        later.run()

    answer, steps = ask(js, "STREAM.UPDATE.S", changed.as_json(), between)
    assert "error" not in answer
    assert steps >= COUNT // 1024
    assert list(stream.scheduled or ()) == ([b"s.old"] if more else [])
    new = messages(stream, "s.c")
    assert new == messages(stream, "s.over") - 1 == steps - 1
    while not stream.expire(js.service.clock.wall_ns() + 60 * SECOND + SECOND):
        pass
    assert (messages(stream, "s.c"), messages(stream, "s.old")) == (0, 1)
    stream.expire(js.service.clock.wall_ns() + 3601 * SECOND)
    assert (messages(stream, "s.old"), messages(stream, "s.over")) == (0, new)


@pytest.mark.parametrize("how", ["purge", "keep", "rollup", "delete"])
def test_memory_is_given_back_while_others_go_on(js: JsWorld, how: str) -> None:
    stream = js.stream("S", "s.>", allow_rollup_hdrs=True)
    count = 40 * STEP
    for _ in range(40):
        js.say(b"PUB s.a 0\r\n\r\n" * STEP)
    later = Later(js)
    if how == "rollup":
        js.publish("s.c", b"", b"NATS/1.0\r\nNats-Rollup: all\r\n\r\n")
    elif how == "delete":
        stream.delete()
    else:
        ask(js, "STREAM.PURGE.S", {"keep": 1} if how == "keep" else {}, lambda: None)
    left = {"purge": 0, "keep": 1, "rollup": 1, "delete": 0}[how]
    assert stream.state().messages == left
    turns = 0
    while later.waiting:
        if how != "delete":
            js.publish("s.b", b"new")
        assert stream.store.unclaimed
        later.run()
        turns += 1
    assert turns >= count // (8 * STEP) - 1
    assert not stream.store.unclaimed
    if how != "delete":
        assert stream.state().messages == left + turns
        assert [stream.message(stream.store.last_seq - n).data for n in range(turns)] == [b"new"] * turns


def test_subjects_in_the_answer(js: JsWorld) -> None:
    stream = js.stream("S", "s.>")
    publish(js, [f"s.{number}" for number in range(COUNT)])
    count = [0]

    def between() -> None:
        publish(js, [f"s.new.{count[0]}"])
        count[0] += 1

    answer, steps = ask(js, "STREAM.INFO.S", {"subjects_filter": "s.*"}, between)
    assert answer["total"] == COUNT
    assert list(answer["state"]["subjects"]) == sorted(f"s.{number}" for number in range(COUNT))
    assert steps > COUNT // STEP
    answer, _ = ask(js, "STREAM.INFO.S", {"subjects_filter": "s.*", "offset": COUNT - 2}, between)
    assert list(answer["state"]["subjects"]) == sorted(f"s.{number}" for number in range(COUNT))[-2:]
    assert stream.state().num_subjects == COUNT + count[0]


def test_a_walk_over_subjects_ends_where_all_of_them_go(js: JsWorld) -> None:
    js.stream("S", "s.>")
    publish(js, [f"s.{number}" for number in range(COUNT)])

    def between() -> None:
        ask(js, "STREAM.PURGE.S", {}, lambda: None)
        publish(js, [f"s.with-a-longer-name.{number}" for number in range(100)])

    answer, _ = ask(js, "STREAM.INFO.S", {"subjects_filter": ">"}, between)
    assert 0 < answer["total"] <= COUNT


def test_missing_sequences_are_found_among_many(js: JsWorld) -> None:
    stream = filled(js)
    for seq in (2, 4096, 4097, 8191, COUNT - 1):
        stream.remove(seq, False)
    js.end_turn()
    assert stream.state(True).deleted == [2, 4096, 4097, 8191, COUNT - 1]
