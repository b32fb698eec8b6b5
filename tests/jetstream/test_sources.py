"""Mirrors and sources, in an engine whose clock stands still: what is stored, where and when reading goes on."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from natsc._core import Request as Received
from natsc.jetstream import api
from natsc.jetstream.api_request import Request, header
from natsc.jetstream.backend import finish
from natsc.jetstream.names import short_hash
from natsc.jetstream.sources import index_name, read_source_header
from natsc.jetstream.stream_config import (
    ExternalStream,
    StreamConsumerSource,
    StreamSource,
    SubjectTransform,
)
from natsc.jetstream.streams import ManagedStream
from tests.jetstream.jsworld import SECOND, START_NS, JsWorld


class SourceWorld(JsWorld):
    """A JsWorld with a door to the API, through which streams ask for consumers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []  # subjects of requests to the API
        self.warnings: list[str] = []
        self.js.warn = self.warnings.append  # type: ignore[method-assign]
        self.deaf = False  # nobody answers
        self.engine.subscribe(self.account(), b"$JS.API.CONSUMER.CREATE.>", self.answer)
        self.engine.subscribe(self.account(), b"$JS.API.CONSUMER.DELETE.>", self.answer)

    def answer(self, received: Received) -> None:
        self.asked.append(received.subject.decode())
        if self.deaf:
            return
        request = Request(received.subject.decode(), received.payload, received.headers or b"")
        reply = api.dispatch(request, self.js)
        assert reply is not None
        if received.reply is not None:
            self.service.outbox.reply_bytes(self.account(), received.reply, reply.payload, reply.headers)

    def mirror(self, name: str, origin: str, **members: Any) -> ManagedStream:
        return self.stream(name, mirror=source(origin, **members), duplicate_window=0)

    def sourcing(self, name: str, *sources: StreamSource, **config: Any) -> ManagedStream:
        return self.stream(name, sources=list(sources), duplicate_window=0, **config)


def source(name: str, **members: Any) -> StreamSource:
    made = StreamSource()
    made.name = name
    for member, value in members.items():
        setattr(made, member, value)
    return made


def transform(src: str, dest: str) -> SubjectTransform:
    made = SubjectTransform()
    made.src, made.dest = src, dest
    return made


def stored(stream: ManagedStream) -> list[tuple[int, str, bytes]]:
    found = [stream.message(seq) for seq in range(1, stream.store.last_seq + 1)]
    return [(one.seq, one.subject, one.data) for one in found if one is not None]


def source_headers(stream: ManagedStream) -> list[str | None]:
    found = [stream.message(seq) for seq in range(1, stream.store.last_seq + 1)]
    return [header(one.headers, "Nats-Stream-Source") for one in found if one is not None]


@pytest.fixture
def js() -> SourceWorld:
    world = SourceWorld()
    world.stream("O", "o.>")
    return world


# -- mirrors ----------------------------------------------------------------------------------------------------------


def test_a_mirror_has_what_its_origin_has(js: SourceWorld) -> None:
    js.fill(2, "o.a")
    mirror = js.mirror("M", "O")
    js.advance(SECOND)
    js.fill(1, "o.b")
    assert stored(mirror) == stored(js.js.by_name["O"])
    assert [mirror.message(seq).time for seq in (1, 2, 3)] == [START_NS, START_NS, START_NS + SECOND]  # type: ignore[union-attr]


def test_nothing_waits_for_a_clock_that_stands(js: SourceWorld) -> None:
    js.fill(5000, "o.a")
    mirror = js.mirror("M", "O")
    js.advance(1)
    assert mirror.state().messages == 5000


def test_a_mirror_keeps_gaps(js: SourceWorld) -> None:
    js.fill(5, "o.a")
    for seq in (1, 3, 5):
        js.js.by_name["O"].remove(seq, False)
    mirror = js.mirror("M", "O")
    js.fill(1, "o.b")
    assert [seq for seq, _, _ in stored(mirror)] == [2, 4, 6]
    assert mirror.state().first_seq == 2


def test_a_mirror_keeps_headers_but_expectations_and_batches(js: SourceWorld) -> None:
    block = (
        b"NATS/1.0\r\nA: b\r\nNats-Expected-Stream: O\r\nNats-Msg-Id: x\r\nNats-Batch-Sequence: 1\r\n"
        b"Nats-TTLs: 1\r\n\r\n"
    )
    js.publish("o.a", b"", block)
    js.publish("o.b", b"", b"NATS/1.0\r\nNats-Expected-Stream: O\r\n\r\n")
    mirror = js.mirror("M", "O")
    assert mirror.message(1).headers == b"NATS/1.0\r\nA: b\r\nNats-Msg-Id: x\r\nNats-TTLs: 1\r\n\r\n"  # type: ignore[union-attr]
    assert mirror.message(2).headers == b""  # type: ignore[union-attr]


def test_a_mirror_begins_where_it_is_told(js: SourceWorld) -> None:
    js.fill(5, "o.a")
    mirror = js.mirror("M", "O", opt_start_seq=4)
    assert [seq for seq, _, _ in stored(mirror)] == [4, 5]
    assert mirror.state().first_seq == 4


def test_a_mirror_of_an_empty_stream_with_a_first_sequence(js: SourceWorld) -> None:
    js.stream("F", "f.>", first_seq=1000)
    mirror = js.mirror("M", "F")
    js.fill(1, "f.a")
    assert [seq for seq, _, _ in stored(mirror)] == [1000]


def test_a_mirror_filters_and_changes_subjects(js: SourceWorld) -> None:
    js.publish("o.a.1", b"x")
    js.publish("o.b.1", b"y")
    js.publish("o.a.2", b"z")
    assert stored(js.mirror("M", "O", filter_subject="o.b.>")) == [(2, "o.b.1", b"y")]
    changed = js.mirror("T", "O", subject_transforms=[transform("o.a.*", "t.{{wildcard(1)}}")])
    assert stored(changed) == [(1, "t.1", b"x"), (3, "t.2", b"z")]


def test_a_mirror_is_its_own_stream_once_it_is_none(js: SourceWorld) -> None:
    mirror = js.mirror("M", "O")
    js.fill(1, "o.a")
    config = mirror.config.clone()
    config.mirror, config.subjects = None, ["m.>"]
    mirror.update(config)
    js.fill(1, "o.b")
    js.fill(1, "m.a")
    assert stored(mirror) == [(1, "o.a", b"0"), (2, "m.a", b"0")]
    assert mirror.mirror_info() is None
    assert js.asked[1:] == ["$JS.API.CONSUMER.DELETE.O.JS_MIRROR_ih8eMwqr"]


def test_a_mirrors_consumers_see_what_comes(js: SourceWorld) -> None:
    js.mirror("M", "O")
    js.consumer("M", "C")
    js.fill(1, "o.a")
    js.pull("M", "C")
    assert [one.subject for one in js.messages()] == ["o.a"]


def test_a_mirror_rolls_up_only_where_it_may(js: SourceWorld) -> None:
    rollup = b"NATS/1.0\r\nNats-Rollup: sub\r\n\r\n"
    js.stream("R", "r.>", allow_rollup_hdrs=True)
    kept, rolled = js.mirror("K", "R"), js.stream("L", mirror=source("R"), allow_rollup_hdrs=True)
    js.publish("r.a", b"1")
    js.publish("r.a", b"2", rollup)
    assert [seq for seq, _, _ in stored(kept)] == [1, 2]
    assert [seq for seq, _, _ in stored(rolled)] == [2]


# -- sources ----------------------------------------------------------------------------------------------------------


def test_a_source_says_where_a_message_is_from(js: SourceWorld) -> None:
    js.publish("o.a", b"x", b"NATS/1.0\r\nA: b\r\n\r\n")
    js.publish("o.b", b"y")
    sink = js.sourcing("S", source("O"))
    identity = js.js.by_name["O"].identity
    assert stored(sink) == [(1, "o.a", b"x"), (2, "o.b", b"y")]
    first, second = sink.message(1), sink.message(2)
    assert first is not None and second is not None
    assert first.headers == f"NATS/1.0\r\nA: b\r\nNats-Stream-Source: O 1 > > o.a {identity}\r\n\r\n".encode()
    assert second.headers == f"NATS/1.0\r\nNats-Stream-Source: O 2 > > o.b {identity}\r\n\r\n".encode()


def test_of_a_chain_the_last_origin_is_told(js: SourceWorld) -> None:
    js.sourcing("S", source("O"))
    last = js.sourcing("L", source("S"))
    js.publish("o.a", b"x")
    assert source_headers(last) == [f"S 1 > > o.a {js.js.by_name['S'].identity}"]


def test_sources_of_several_streams_and_own_subjects(js: SourceWorld) -> None:
    js.stream("P", "p.>")
    sink = js.sourcing("S", source("O"), source("P"), subjects=["s.>"])
    for subject in ("o.a", "p.a", "s.a", "o.b"):
        js.publish(subject, subject.encode())
    assert [subject for _, subject, _ in stored(sink)] == ["o.a", "p.a", "s.a", "o.b"]
    assert [(one.name, one.seq, one.lag) for one in sink.sources_info()] == [("O", 2, 0), ("P", 1, 0)]


def test_one_stream_is_read_twice_with_other_filters(js: SourceWorld) -> None:
    sink = js.sourcing(
        "S",
        source("O", filter_subject="o.a"),
        source("O", subject_transforms=[transform("o.b", "x.b"), transform("o.c", "")]),
    )
    for subject in ("o.a", "o.b", "o.c", "o.d"):
        js.publish(subject)
    identity = js.js.by_name["O"].identity
    assert sorted(subject for _, subject, _ in stored(sink)) == ["o.a", "o.c", "x.b"]
    assert sorted(source_headers(sink), key=str) == [
        f"O 1 o.a > o.a {identity}",
        f"O 2 o.b\fo.c x.b\f> o.b {identity}",
        f"O 3 o.b\fo.c x.b\f> o.c {identity}",
    ]


def test_a_known_id_is_left_out(js: SourceWorld) -> None:
    js.stream("P", "p.>")
    sink = js.stream("S", sources=[source("O"), source("P")], duplicate_window=60 * SECOND)
    for subject, message_id in (("o.a", b"1"), ("p.a", b"1"), ("o.c", b"2")):
        js.publish(subject, b"", b"NATS/1.0\r\nNats-Msg-Id: %b\r\n\r\n" % message_id)
    assert [subject for _, subject, _ in stored(sink)] == ["o.a", "o.c"]
    assert [one.seq for one in sink.sources_info()] == [2, 0]  # the last ones stored


def test_a_source_begins_where_it_is_told(js: SourceWorld) -> None:
    js.fill(5, "o.a")
    assert len(stored(js.sourcing("S", source("O", opt_start_seq=4)))) == 2


def test_counters_add_up(js: SourceWorld) -> None:
    for name in ("C1", "C2"):
        js.stream(name, f"{name}.>", allow_msg_counter=True)
    sink = js.sourcing(
        "SUM",
        *(source(name, subject_transforms=[transform(f"{name}.>", "sum.>")]) for name in ("C1", "C2")),
        allow_msg_counter=True,
    )
    for name, increment in (("C1", 5), ("C2", 10), ("C1", -2)):
        js.publish(f"{name}.a", b"", b"NATS/1.0\r\nNats-Incr: %d\r\n\r\n" % increment)
    assert [data for _, _, data in stored(sink)] == [b'{"val":"5"}', b'{"val":"15"}', b'{"val":"13"}']
    last = sink.message(3)
    assert last is not None
    assert header(last.headers, "Nats-Incr") == "-2"
    assert json.loads(header(last.headers, "Nats-Counter-Sources") or "") == {"C1": {"C1.a": "3"}, "C2": {"C2.a": "10"}}


def test_a_full_sink_goes_on_when_there_is_room(js: SourceWorld) -> None:
    sink = js.sourcing("S", source("O"), max_msgs=2, discard="new")
    js.fill(4, "o.a")
    assert [data for _, _, data in stored(sink)] == [b"0", b"1"]
    finish(sink.purge("", 0, 0))
    js.advance(3 * SECOND)
    assert [data for _, _, data in stored(sink)] == [b"2", b"3"]
    assert js.warnings == []


def test_a_work_queue_gives_away_what_it_had(js: SourceWorld) -> None:
    queue = js.stream("Q", "q.>", retention="workqueue")
    sink = js.sourcing("S", source("Q"))
    js.fill(3, "q.a")
    js.advance(2 * SECOND)  # its consumer acknowledges by flow control
    assert [data for _, _, data in stored(sink)] == [b"0", b"1", b"2"]
    assert queue.state().messages == 0
    assert [one.config.durable_name for one in queue.consumers()] == [f"JS_SRC_{short_hash(short_hash('S $G'))}"]


def test_a_work_queue_is_read_again(js: SourceWorld) -> None:
    queue = js.stream("Q", "q.>", retention="workqueue")
    sink = js.sourcing("S", source("Q"))
    js.fill(3, "q.a")
    js.advance(5 * SECOND)
    assert sink.sourcing is not None
    js.say(b"SUB $JS.S.> 9\r\n")  # somebody who hears everything is no reason to refuse a stream its consumer
    sink.sourcing.sources["Q > >"]._retry()
    js.fill(2, "q.a")
    for _ in range(3):
        js.advance(SECOND)
    assert [data for _, _, data in stored(sink)] == [b"0", b"1", b"2", b"0", b"1"]
    assert queue.state().messages == 0
    assert js.warnings == []


def test_a_work_queue_has_no_consumer_too_many(js: SourceWorld) -> None:
    queue = js.stream("Q", "q.>", retention="workqueue")
    sink = js.sourcing("S", source("Q", filter_subject="q.a"), source("Q", filter_subject="q.b"))
    config = sink.config.clone()
    config.sources = [source("Q", filter_subject="q.a")]
    sink.update(config)
    js.fill(1, "q.a")
    for _ in range(4):
        js.advance(SECOND)
    assert [one.name for one in queue.consumers()] == [f"JS_SRC_{short_hash(short_hash('S $G'))}"]
    assert (queue.state().messages, sink.state().messages) == (0, 1)


def test_sources_come_and_go_with_the_configuration(js: SourceWorld) -> None:
    sink = js.sourcing("S", source("O"), subjects=["s.>"])
    js.fill(2, "o.a")
    config = sink.config.clone()
    config.sources = []
    sink.update(config)
    js.fill(3, "o.a")
    assert len(stored(sink)) == 2
    config = sink.config.clone()
    config.sources = [source("O")]
    sink.update(config)
    js.end_turn()
    assert [header(sink.message(seq).headers, "Nats-Stream-Source").split()[1] for seq in range(1, 6)] == list("12345")  # type: ignore[union-attr]


# -- when it doesn't go well ------------------------------------------------------------------------------------------


def test_an_origin_that_is_not_there_is_waited_for(js: SourceWorld) -> None:
    mirror = js.mirror("M", "LATER")
    info = mirror.mirror_info()
    assert info is not None and info.active == -1
    assert info.error == {"code": 404, "err_code": 10059, "description": "stream not found"}
    js.stream("LATER", "later.>")
    js.fill(1, "later.a")
    assert len(stored(mirror)) == 1
    assert mirror.mirror_info().error is None  # type: ignore[union-attr]


def test_each_failure_is_waited_for_longer(js: SourceWorld) -> None:
    js.deaf = True
    js.mirror("M", "O")
    asked = []
    for second in range(200):
        if len(js.asked) > len(asked):
            asked.append(second)
        js.advance(SECOND)
    # An answer is waited for 30 s, then 2 s between requests are over already, then 10 s more for each failure.
    assert asked == [0, 40, 90, 150]


def test_a_given_consumer_that_speaks_is_asked_at_once(js: SourceWorld) -> None:
    durable = StreamConsumerSource()
    durable.name, durable.deliver_subject = "C", "to.here"
    resets: list[Received] = []
    js.engine.subscribe(js.account(), b"$JS.API.CONSUMER.RESET.NONE.C", resets.append)
    js.stream("S", sources=[source("NONE", consumer=durable)])
    js.advance(6 * SECOND)  # the answer to a reset is waited for 5 s
    assert len(resets) == 1
    js.advance(SECOND)
    assert len(resets) == 1
    js.publish("to.here", b"", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n")
    js.advance(0)
    assert len(resets) == 2


def test_silence_ends_in_a_new_consumer(js: SourceWorld) -> None:
    mirror = js.mirror("M", "O")
    js.fill(1, "o.a")
    for consumer in js.js.by_name["O"].consumers():
        consumer.delete()
    js.fill(1, "o.a")
    assert len(stored(mirror)) == 1
    js.advance(25 * SECOND)
    assert len(stored(mirror)) == 2


def test_heartbeats_keep_a_consumer(js: SourceWorld) -> None:
    js.mirror("M", "O")
    js.advance(60 * SECOND)
    assert len(js.asked) == 1


def test_a_gap_in_what_is_delivered_ends_in_a_new_consumer(js: SourceWorld) -> None:
    sink = js.sourcing("S", source("O"))
    js.fill(1, "o.a")
    consumer = js.js.by_name["O"].consumers()[0]
    assert sink.sourcing is not None
    sink.sourcing.sources["O > >"].cancel()  # what comes now is lost
    deliver = consumer.config.deliver_subject.encode()
    sink.sourcing.sources["O > >"].read(deliver, consumer.name.encode(), 1)
    js.fill(1, "o.a")
    assert len(js.asked) == 1
    js.advance(3 * SECOND)
    assert [data for _, _, data in stored(sink)] == [b"0", b"0"]
    assert len(js.asked) == 2


def test_a_stream_made_anew_is_read_from_its_beginning(js: SourceWorld) -> None:
    sink = js.sourcing("S", source("O"))
    js.fill(3, "o.a")
    js.js.by_name["O"].delete()
    js.advance(SECOND)
    js.stream("O", "o.>")
    js.fill(1, "o.b")
    js.advance(5 * SECOND)
    assert [subject for _, subject, _ in stored(sink)] == ["o.a", "o.a", "o.a", "o.b"]
    assert "was recreated, resetting source state" in js.warnings[-1]


def test_an_answer_that_is_none(js: SourceWorld) -> None:
    js.deaf = True
    mirror = js.mirror("M", "O")
    assert mirror.sourcing is not None and mirror.sourcing.mirror is not None
    reply = mirror.sourcing.mirror._reply.decode()
    js.publish(reply, b'{"config":[]}')
    assert mirror.mirror_info().error["err_code"] == 10029  # type: ignore[union-attr,index]


def test_an_older_server_is_asked_for_less(js: SourceWorld) -> None:
    js.deaf = True
    sink = js.sourcing("S", source("O"))
    assert sink.sourcing is not None
    origin = sink.sourcing.sources["O > >"]
    for _ in range(2):
        js.publish(origin._reply.decode(), b'{"error":{"code":412,"err_code":10185,"description":"x"}}')
    assert len(js.asked) == 3
    assert not origin._config.sourcing and origin._config.name.count("_") == 3


def test_a_deleted_stream_reads_no_more(js: SourceWorld) -> None:
    mirror = js.mirror("M", "O")
    mirror.delete()
    js.fill(1, "o.a")
    js.advance(60 * SECOND)
    assert js.asked[1:] == ["$JS.API.CONSUMER.DELETE.O.JS_MIRROR_ih8eMwqr"]
    assert js.js.by_name["O"].consumers() == []


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_nothing_is_missing_or_there_twice(js: SourceWorld, seed: int) -> None:
    """Messages come and go, consumers and deliveries are lost: in the end all of the origin is here, in order."""
    chance = random.Random(seed)
    origin = js.js.by_name["O"]
    mirror, sink = js.mirror("M", "O"), js.sourcing("S", source("O"))
    filtered = js.sourcing("F", source("O", filter_subject="o.a"), source("O", filter_subject="o.b"))

    def lose_a_delivery() -> None:
        for stream in (mirror, sink):
            assert stream.sourcing is not None
            reader = chance.choice(stream.sourcing.origins())
            reader.probe(b"nowhere")  # what comes until it reads again is lost to it
            js.fill(1, "o.a")
            reader.start()

    for _ in range(60):
        what = chance.random()
        if what < 0.6:
            js.fill(chance.randrange(5), chance.choice(("o.a", "o.b", "o.c")))
        elif what < 0.7:
            origin.remove(chance.randint(1, origin.store.last_seq + 1), False)
        elif what < 0.75:
            finish(origin.purge(chance.choice(("", "o.b")), 0, chance.randrange(3)))
        elif what < 0.85 and origin.consumers():
            chance.choice(origin.consumers()).delete()
        elif what < 0.9:
            lose_a_delivery()
        else:
            js.advance(chance.randrange(15) * SECOND)
    js.advance(60 * SECOND)
    there = {seq: (subject, data) for seq, subject, data in stored(origin)}
    assert there.items() <= {seq: (subject, data) for seq, subject, data in stored(mirror)}.items()
    for stream, wanted in ((sink, there), (filtered, {seq for seq, (subject, _) in there.items() if subject != "o.c"})):
        taken = [int((value or "").split(" ")[1]) for value in source_headers(stream)]
        assert len(taken) == len(set(taken)) and set(wanted) <= set(taken)
        assert stream is filtered or taken == sorted(taken)
    assert mirror.store.last_seq == origin.store.last_seq or not there


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "x",
        "$JS.ACK.",
        "$JS.ACK.O.{}.1.1.1.1",
        "$JS.ACK.O.{}.1.18446744073709551615.1.1.0",
        "$JS.ACK.O.{}.1.1.18446744073709551616.1.0",
        "$JS.ACK.O.{}.1.99999999999999999999999999999999.2.1.0",
        "$JS.ACK.O.{}.1.-1.1.1.0",
        "$JS.ACK.O.{}.1.x.y.z.w",
        "$JS.ACK.O.another.1.1.1.1.0",
        "$JS.ACK.O.{}.2.1.1.1.0",
        "$JS.ACK......................................",
    ],
)
def test_forged_deliveries_are_ignored(js: SourceWorld, reply: str) -> None:
    mirror, sink = js.mirror("M", "O"), js.sourcing("S", source("O"))
    for consumer in js.js.by_name["O"].consumers():
        forged = reply.format(consumer.name)
        js.publish(consumer.config.deliver_subject, b"x", b"", forged)
        js.publish(consumer.config.deliver_subject, b"", b"NATS/1.0 100 x\r\nNats-Last-Consumer: 99x\r\n\r\n")
    js.fill(2, "o.a")
    js.advance(3 * SECOND)
    assert stored(mirror) == stored(sink) == [(1, "o.a", b"0"), (2, "o.a", b"1")]


# -- names ------------------------------------------------------------------------------------------------------------


def test_index_names() -> None:
    external = ExternalStream()
    external.api, external.deliver = "$JS.hub.API", ""
    durable = StreamConsumerSource()
    durable.name = "C"
    assert index_name(source("O")) == "O > >"
    assert index_name(source("O", filter_subject="a.*")) == "O a.* >"
    assert index_name(source("O", external=external)) == f"O:{short_hash('$JS.hub.API')} > >"
    assert index_name(source("O", consumer=durable)) == f"O:C={short_hash('C')} > >"
    assert index_name(source("O", subject_transforms=[transform("a", "b"), transform("", "")])) == "O a\f> b\f>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("O 7 > > o.a abcdefgh", ("O", "O > >", 7, "abcdefgh")),
        ("O 7 > > o.a", ("O", "O > >", 7, "")),
        ("O 7", ("O", "", 7, "")),
        ("O 7 x", ("", "", 0, "")),
        ("$JS.ACK.O.C.1.7.3.1700000000000000000.0", ("O", "", 7, "")),
        ("$JS.ACK._.hash.O.C.1.7.3.1700000000000000000.0", ("O", "", 7, "")),
        ("", ("", "", 0, "")),
        ("O 99999999999999999999999 > > o", ("O", "O > >", 0, "")),
    ],
)
def test_source_headers_are_read(value: str, expected: tuple[str, str, int, str]) -> None:
    assert read_source_header(value) == expected
