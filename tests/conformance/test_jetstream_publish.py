"""What streams do with what is published to them: every answer, and the stream's state afterwards, as nats-server's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from natsc.jetstream.api_request import header_block
from tests.jetstream.client import Client

from .harness import Server
from .publishing import INFO, api, batch, block, each, get, put, same_answers, start_both

ROLL_UP = {"allow_rollup_hdrs": True}

# name: (configuration, steps); the configuration is updated by a step that is a dict.
CASES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "plain": ({}, [put(), put(data=b""), put(data=b"z" * 100), put("s.b"), put("t.a")]),
    "message ids": ({}, [
        put(Nats_Msg_Id="a"), put(Nats_Msg_Id="a"), put(Nats_Msg_Id="b"),
        put(Nats_Msg_Id="a", Nats_Expected_Last_Sequence="9"), put(Nats_Msg_Id="a", Nats_Expected_Last_Msg_Id="9"),
        put(Nats_Expected_Last_Msg_Id="b"), put(Nats_Expected_Last_Msg_Id="b"), put(Nats_Expected_Last_Msg_Id="z<>"),
    ]),
    "expectations": ({}, [
        put(), put(Nats_Expected_Stream="S"), put(Nats_Expected_Stream="T"), put(Nats_Expected_Last_Sequence="2"),
        put(Nats_Expected_Last_Sequence="2"), put(Nats_Expected_Last_Sequence="0"),
        put(Nats_Expected_Last_Sequence="x"), put(Nats_Expected_Last_Sequence=""),
        put(Nats_Expected_Last_Sequence="-1"), put(Nats_Expected_Last_Subject_Sequence="0"),
        put("s.b", Nats_Expected_Last_Subject_Sequence="0"), put("s.b", Nats_Expected_Last_Subject_Sequence="5"),
        put("s.b", Nats_Expected_Last_Subject_Sequence="x"),
        put("s.c", Nats_Expected_Last_Subject_Sequence="6", Nats_Expected_Last_Subject_Sequence_Subject="s.*"),
        put("s.c", Nats_Expected_Last_Subject_Sequence="0", Nats_Expected_Last_Subject_Sequence_Subject="s.z"),
        put("s.c", Nats_Expected_Last_Subject_Sequence_Subject="s.z"),
        put("s.c", Nats_Expected_Last_Subject_Sequence="6", Nats_Expected_Last_Subject_Sequence_Subject="s.b.>"),
    ]),
    "max_msgs": ({"max_msgs": 3}, each(5, 5)),
    "max_msgs, new ones refused": ({"max_msgs": 3, "discard": "new"}, each(5, 5)),
    "max_bytes": ({"max_bytes": 200}, [*each(9, 9, 9), put(data=b"z" * 300)]),
    "max_bytes, new ones refused": ({"max_bytes": 200, "discard": "new"}, each(9, 9, 9)),
    "max_msgs_per_subject": ({"max_msgs_per_subject": 2}, each(9, 2)),
    "max_msgs_per_subject, new ones refused": (
        {"max_msgs_per_subject": 2, "discard": "new", "discard_new_per_subject": True, **ROLL_UP},
        [*each(6, 2), put("s.0", Nats_Rollup="sub")],
    ),
    "a message takes its subject's place": (
        {"max_msgs_per_subject": 2, "discard": "new", "max_msgs": 3}, [*each(6, 2), put("s.9"), put("s.0")],
    ),
    "a message takes its subject's bytes": (
        {"max_msgs_per_subject": 1, "discard": "new", "max_bytes": 100}, each(9, 3, 5),
    ),
    "max_msg_size": ({"max_msg_size": 10}, [put(data=b"x" * 10), put(data=b"x" * 11), put(data=b"", A="b")]),
    "headers of 64 KiB": ({}, [put(A="x" * 66000)]),
    "rollups": (ROLL_UP, [
        *each(9, 3), put("s.1", Nats_Rollup="sub"), INFO, put("s.1", Nats_Rollup="SUB"), put("s.2", Nats_Rollup="all"),
        INFO, put(Nats_Rollup="bad"), put(Nats_Rollup=""),
    ]),
    "rollups that are none": ({"allow_atomic": True, **ROLL_UP}, [
        *(step for text in (b'a"b', b"\x00", b"A\xc2\xa0", b"\xff", b"\xc3\x84", b"a\nNats-Rollup: all") for step in (
            block(b"NATS/1.0\r\nNats-Rollup: %b\r\n\r\n" % text),
            block(b"NATS/1.0\r\nNats-Batch-Id: 1\r\nNats-Batch-Sequence: 1\r\nNats-Batch-Commit: 1\r\n"
                  b"Nats-Rollup: %b\r\n\r\n" % text),
        )),
        block(b"NATS/1.0\r\nA: b\nNats-Rollup: x\r\n\r\n"), block(b"NATS/1.0\r\nA: b\nNats-TTL: 1s\r\n\r\n"), get(1),
    ]),
    "no rollups": ({}, [put(Nats_Rollup="sub"), put(Nats_Rollup="x")]),
    "no purges": ({"deny_purge": True}, [put(Nats_Rollup="sub"), api("STREAM.PURGE.S")]),
    "TTLs are off": ({}, [put(Nats_TTL=text) for text in ("1s", "x", "0", "never")]),
    "TTLs are on": ({"allow_msg_ttl": True}, [
        put(Nats_TTL=text)
        for text in ("100s", "x", "0", "never", "10ms", "-1", "5", "-5s", "1500ms", "NEVER", "0s", "")
    ]),
    "features that are off": ({}, [
        put(Nats_Incr="1"), put(Nats_Incr="x"), put(Nats_Batch_Id="1"), put(Nats_Schedule="@at 2020-01-01T00:00:00Z"),
        put(Nats_Schedule="x"), put(Nats_Schedule_Next="purge"), put(Nats_Schedule_Next="x"), put(Nats_Scheduler="x"),
        put(Nats_Stream_Source="x"), put(Nats_Schedule_Next="purge", Nats_Scheduler="s.q"),
        put(Nats_Request_Info="{}"), get(1), put(Nats_Request_Info="{}", A="b"), get(2),
    ]),
    "statuses in headers": ({}, [
        block(b"NATS/1.0 503 Foo\r\n\r\n"), get(1), block(b"NATS/1.0 503\r\nA: b\r\n\r\n"), get(2),
        block(b"NATS/1.0\r\n\r\n"), get(3),
    ]),
    "sealed": ({}, [
        put(), {"sealed": True}, put(), api("STREAM.PURGE.S"), api("STREAM.MSG.DELETE.S", seq=1), {"sealed": False},
    ]),
    "nobody is interested": ({"retention": "interest"}, [put(), put(Nats_Msg_Id="1"), put(Nats_Msg_Id="1")]),
    "a transform": (
        {"subject_transform": {"src": "s.*.x", "dest": "t.{{wildcard(1)}}"}},
        [put("s.q.x"), put("s.z"), get(1), get(2)],
    ),
    "republished": (
        {"republish": {"src": "s.*", "dest": "inbox.{{wildcard(1)}}"}},
        [put("s.q"), put("s.q", A="b"), put("s.q.z")],
    ),
    "republished where nobody is interested": (
        {"republish": {"src": "s.*", "dest": "inbox.{{wildcard(1)}}"}, "retention": "interest"}, [put("s.q")],
    ),
    "first_seq": ({"first_seq": 100}, [
        INFO, put(), put(), INFO, api("STREAM.PURGE.S"), INFO, put(), INFO, api("STREAM.PURGE.S", seq=200), INFO, put(),
    ]),
    "purges": ({}, [
        *each(20, 3), api("STREAM.PURGE.S", filter="s.1", keep=2), INFO, api("STREAM.PURGE.S", seq=9), INFO,
        api("STREAM.PURGE.S", filter="s.0", seq=14), INFO, api("STREAM.PURGE.S", keep=3), INFO,
        api("STREAM.PURGE.S", filter="nope"), api("STREAM.PURGE.S", seq=10, filter="s.*"), INFO, api("STREAM.PURGE.S"),
        INFO, put(),
    ]),
    "deletes": ({}, [
        *each(9, 3), *(api("STREAM.MSG.DELETE.S", seq=seq) for seq in (1, 2, 9, 5, 5, 99, 0)), INFO,
        api("STREAM.INFO.S", deleted_details=True, subjects_filter=">"),
        api("STREAM.MSG.DELETE.S", seq=3, no_erase=True), INFO,
        *(api("STREAM.MSG.GET.S", last_by_subj=subject) for subject in ("s.2", "s.1", ">")),
        api("STREAM.MSG.GET.S", next_by_subj="s.1", seq=3),
    ]),
    "counters": ({"allow_msg_counter": True}, [
        put(data=b"", Nats_Incr="1"), put(data=b"", Nats_Incr="+41"), put(data=b"", Nats_Incr="-50"),
        put(data=b"", Nats_Incr="x"), put(data=b"x", Nats_Incr="1"), put(data=b""),
        put(data=b"", Nats_Incr="1", Nats_Rollup="sub"), put(data=b"", Nats_Incr="1", Nats_Expected_Last_Sequence="3"),
        put("s.b", b"", Nats_Incr="100000000000000000000000000000"), put("s.b", b"", Nats_Incr="1"),
        put("s.b", b"", Nats_Incr="1", Nats_Msg_Id="a"), put("s.b", b"", Nats_Incr="1", Nats_Msg_Id="a"),
        get(1), get(2), get(3), get(5),
    ]),
    "atomic batches": ({"allow_atomic": True, **ROLL_UP}, [
        batch(1), batch(2, "s.b"), batch(3, commit="1"), get(1), get(3), INFO,
        batch(1), batch(2, commit="eob"), get(4), INFO, batch(2), batch(1), batch(3), batch(2), INFO,
        batch(1), batch(2, commit="x"), batch(1001), batch(1, id="i" * 65), put(Nats_Batch_Id="b"),
        put(Nats_Batch_Id="b", Nats_Batch_Sequence="x"), batch(1, commit="eob"), INFO,
        batch(1, Nats_Expected_Last_Sequence="4"), batch(2, commit="1"), INFO,
        batch(1, Nats_Expected_Last_Sequence="4"), batch(2, commit="1"), INFO,
        batch(1), batch(2, Nats_Expected_Last_Sequence="7", commit="1"), INFO,
        batch(1), batch(2, Nats_Expected_Last_Subject_Sequence="6", commit="1"), INFO,
        batch(1, "s.b", Nats_Expected_Last_Subject_Sequence="2"), batch(2, commit="1"), INFO,
        batch(1, Nats_Msg_Id="1"), batch(2, Nats_Msg_Id="1", commit="1"), INFO,
        batch(1, Nats_Msg_Id="1"), batch(2, Nats_Msg_Id="2", commit="1"), INFO,
        batch(1, Nats_Msg_Id="3"), batch(2, Nats_Msg_Id="2", commit="1"), INFO,
        batch(1, Nats_Expected_Last_Msg_Id="2", commit="1"), batch(1, Nats_Expected_Stream="T", commit="1"),
        batch(1, Nats_TTL="1s", commit="1"), batch(1, Nats_TTL="x", commit="1"), batch(1, Nats_Incr="1", commit="1"),
        batch(1), batch(2, Nats_Rollup="sub", commit="1"), batch(1), batch(2, Nats_Rollup="all", commit="1"),
        batch(1, Nats_Rollup="x", commit="1"), batch(1, "s.b", Nats_Rollup="sub"), batch(2, commit="1"), INFO,
        batch(1, Nats_Required_Api_Level="9"), batch(1, Nats_Required_Api_Level="2", commit="1"),
        put(Nats_Expected_Last_Msg_Id=""), get(11), get(12), INFO,
    ]),
    "atomic batches are off": ({}, [batch(1), batch(1, commit="1")]),
    "atomic batches where new messages are refused": ({"allow_atomic": True, "discard": "new", "max_msgs": 3}, [
        batch(1), batch(2), batch(3), batch(4, commit="1"), INFO, batch(1), batch(2, commit="1"), INFO,
        batch(1), batch(2, commit="1"), batch(1, commit="1"),
    ]),
    "atomic batches of counters": ({"allow_atomic": True, "allow_msg_counter": True}, [
        batch(1, data=b"", Nats_Incr="1"), batch(2, data=b"", Nats_Incr="5"),
        batch(3, data=b"", Nats_Incr="7", commit="1"),
        get(3), batch(1, data=b"", Nats_Incr="1"), batch(2, data=b"x", Nats_Incr="5", commit="1"), INFO,
    ]),
    "markers": ({"subject_delete_marker_ttl": 60_000_000_000}, [
        put(Nats_TTL="1s"), get(1), put(Nats_TTL="61s"), get(2), put(Nats_TTL="never"), get(3), put(Nats_TTL="x"),
    ]),
    "what is told first": ({"max_msg_size": 100, "allow_msg_ttl": True, "discard": "new", "max_msgs": 1}, [
        put(), put(),
        *(put(data=b"x" * size, **{name: value})
          for size in (1, 200) for name, value in (
              ("Nats_Expected_Stream", "T"), ("Nats_Expected_Last_Sequence", "9"), ("Nats_TTL", "x"),
              ("Nats_Incr", "x"), ("Nats_Schedule", "x"), ("Nats_Stream_Source", "x"),
              ("Nats_Rollup", "sub"), ("Nats_Batch_Id", "b"),
              ("Nats_Expected_Last_Msg_Id", "x"), ("Nats_Scheduler", "x"),
          )),
        {"sealed": True}, put(data=b"x" * 200), put(Nats_Incr="x"),
    ]),
    "numbers of more than 64 bits": ({"allow_msg_ttl": True, "allow_atomic": True}, [
        *(put(Nats_Expected_Last_Sequence=text) for text in (f"{2**64}", f"{2**64 + 1}", "9" * 19, "0" * 30 + "1")),
        *(put(Nats_Expected_Last_Subject_Sequence=text) for text in (f"{2**64}", "9" * 19, "9" * 5000)),
        *(put(Nats_TTL=text) for text in ("9" * 14, "2562047h", "0" * 30 + "1", "9" * 5000, "9" * 19)),
        *(batch(seq, commit="1") for seq in (2**64 - 1, 2**64, 10**30)), batch(0, commit="eob"), batch(0),
        *(put(Nats_Batch_Id="b", Nats_Batch_Sequence=text) for text in ("9" * 5000, "0" * 30 + "1")),
    ]),
    "counters that say where they count from": ({"allow_msg_counter": True}, [
        step for number, text in enumerate((
            "x", "{}", "null", "[]", '{"b":{"z":"2","y":"1"},"a":{"x":"<"}}', '{"a":1}', "",
        ))
        for step in (
            put(f"s.{number}", b"", Nats_Incr="1", Nats_Counter_Sources=text, A="b"),
            put(f"s.{number}", b"", Nats_Incr="1"),
            put(f"s.{number}", b"", Nats_Counter_Sources="{}", Nats_Incr="1"),
            api("STREAM.MSG.GET.S", last_by_subj=f"s.{number}"),
        )
    ]),
    "counters of many digits": ({"allow_msg_counter": True}, [
        put(data=b"", Nats_Incr="9" * 3000), put(data=b"", Nats_Incr="1"), get(2),
        put(data=b"", Nats_Incr="-" + "9" * 3000),
    ]),
    "what is told first of a batch": ({"allow_atomic": True, "allow_msg_schedules": True}, [
        batch(1, Nats_TTL="x", Nats_Schedule="x", commit="1"), batch(1, Nats_Incr="1", Nats_Schedule="x", commit="1"),
        batch(1, Nats_Expected_Last_Sequence="9", Nats_Scheduler="x", commit="1"),
        batch(1, Nats_Stream_Source="x", Nats_Expected_Last_Sequence="9", commit="1"),
        batch(1, Nats_Stream_Source="x", Nats_Expected_Stream="T", commit="1"),
        batch(1, Nats_Rollup="x", Nats_Schedule="x", commit="1"), batch(1, A="x" * 66000, commit="1"),
    ]),
    "deletes where there is nothing": ({}, [
        *(api("STREAM.MSG.DELETE.S", seq=seq) for seq in (0, 1)), *each(6, 1),
        *(api("STREAM.MSG.DELETE.S", seq=seq) for seq in (1, 1, 3, 3, 6, 6, 7)), api("STREAM.PURGE.S", seq=4),
        *(api("STREAM.MSG.DELETE.S", seq=seq) for seq in (2, 3)), api("STREAM.PURGE.S"),
        *(api("STREAM.MSG.DELETE.S", seq=seq) for seq in (2, 6, 7)),
    ]),
    "limits that come later, new messages refused": ({"discard": "new"}, [
        *each(9, 3), {"max_msgs": 5}, INFO, {"max_bytes": 50}, INFO, {"max_msgs_per_subject": 2}, INFO,
        {"discard": "old"},
    ]),
    "first_seq 1": ({"first_seq": 1}, [INFO, put()]),
    "limits that come later": ({}, [*each(9, 3), {"max_msgs_per_subject": 1}, INFO, {"max_msgs": 2}]),
}  # fmt: skip


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    yield from start_both(tmp_path_factory)


@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("name", CASES)
def test_answers_and_state(name: str, storage: str, servers: list[Server]) -> None:
    given, steps = CASES[name]
    same_answers(servers, {"storage": storage, **given}, steps)


def test_a_stream_without_acknowledgements(servers: list[Server]) -> None:
    with Client(servers[1].port) as ours:
        ours.request(f"{PREFIX}STREAM.DELETE.S")
        config = {"name": "S", "subjects": ["s.>"], "no_ack": True}
        ours.request(f"{PREFIX}STREAM.CREATE.S", json.dumps(config).encode())
        ours.send("s.a", b"x")
        ours.send("s.a", b"x", header_block({"Nats-Expected-Last-Sequence": "7"}))
        assert b'"messages":1,' in ours.request(f"{PREFIX}STREAM.INFO.S").payload
        assert ours.unexpected == []
