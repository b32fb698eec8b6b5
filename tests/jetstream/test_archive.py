"""The archive of a snapshot: what is written is read, what breaks a rule is refused."""

from __future__ import annotations

import pytest

from natsc.jetstream.archive import MAGIC, ArchiveError, ArchiveReader, ArchiveWriter
from natsc.jetstream.memstore import MemStore
from natsc.jetstream.s2 import S2Error
from tests.jetstream.backups import END, Entry, encoded, entries, entry

HEADERS = b"NATS/1.0\r\nA: b\r\n\r\n"
SECOND = 1_000_000_000


def written(store: MemStore, want: int = 1 << 30) -> bytes:
    writer = ArchiveWriter(store)
    found = b""
    while not writer.done:
        assert writer.write_messages(want, 1 << 30)
        found += writer.take(want)
    return found + writer.take(1 << 30)


def read(
    data: bytes, *, step: int = 1 << 30, max_payload: int = 1 << 20, max_msg_size: int = -1, now: int = 0
) -> MemStore:
    """What is made of an archive's messages, which come in pieces of `step` bytes."""
    store, reader = MemStore(), ArchiveReader()
    stream = encoded(data)
    for start in range(0, len(stream), step):
        reader.feed(stream[start : start + step])
        while reader.read_messages(store, max_payload, max_msg_size, now, 1 << 40, 1 << 16, int):
            if reader.done:
                return store
    assert reader.done, "truncated"
    return store


def filled() -> MemStore:
    store = MemStore()
    store.append_bytes(b"a", b"one", ts_ns=1_700_000_000 * SECOND)
    store.append_bytes(b"a.b", b"two", HEADERS, ts_ns=1_700_000_001 * SECOND, seq=7)
    store.append_bytes(b"c", b"", ts_ns=1_700_000_002 * SECOND, seq=300)
    return store


def test_messages_are_entries() -> None:
    assert entries(written(filled())) == [
        Entry(b"a", 1_700_000_000 * SECOND, 1, b"one"),
        Entry(b"a.b", 1_700_000_001 * SECOND, 7, HEADERS + b"two"),
        Entry(b"c", 1_700_000_002 * SECOND, 300, b""),
    ]


def test_an_empty_store() -> None:
    assert entries(written(MemStore())) == []


def test_other_entries_are_in_front() -> None:
    writer = ArchiveWriter(filled())
    writer.write_entry(b"state.json", 5, b"{}")
    assert writer.write_messages(1 << 20, 1 << 20)
    assert entries(writer.take(1 << 20))[0] == Entry(b"state.json", 5, 0, b"{}")


def test_what_comes_later_is_not_written() -> None:
    store = filled()
    writer = ArchiveWriter(store)
    store.append_bytes(b"later", b"", ts_ns=1)
    store.remove_seq(7)
    assert writer.write_messages(1 << 20, 1 << 20)
    assert [one.seq for one in entries(writer.take(1 << 20))] == [1, 300]


def test_no_more_is_made_than_was_asked_for() -> None:
    store = MemStore()
    for number in range(2_000):
        store.append_bytes(b"s", b"%d" % number * 100, ts_ns=1)
    writer = ArchiveWriter(store)
    assert not writer.write_messages(1 << 30, 10_000)  # the budget
    assert writer.write_messages(4_096, 1 << 30)
    assert not writer.done
    assert len(writer.take(1_000)) == 1_000
    assert len(writer.take(1 << 30)) < 200_000
    assert written(store, 1_000) == written(store)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_what_is_written_is_read(step: int) -> None:
    store = filled()
    reader, copy = ArchiveReader(), MemStore()
    stream = written(store)
    for start in range(0, len(stream), step):
        reader.feed(stream[start : start + step])
        reader.read_messages(copy, 1 << 20, -1, 0, 1 << 40, 1 << 20, int)
    assert reader.done
    assert [copy.get_bytes(seq) for seq in (1, 7, 300)] == [store.get_bytes(seq) for seq in (1, 7, 300)]
    assert copy.state_dict() == store.state_dict()


def test_numbers_of_every_length() -> None:
    seq = (1 << 62) - 1
    store = read(MAGIC + entry(b"s", b"x", seq=seq, time=-1) + END)
    assert store.get_bytes(seq) == (seq, -1, b"s", b"", b"x")


def test_what_a_time_to_live_ended_leaves_its_sequence() -> None:
    block = b"NATS/1.0\r\nNats-TTL: 1000\r\n\r\n"
    data = MAGIC + b"".join(
        entry(b"s", block, time=time, seq=seq, headers=len(block)) for seq, time in ((1, 5), (2, 10))
    )
    store = read(data + END, now=1_007)
    assert store.get_bytes(1) is None
    assert store.get_bytes(2) is not None
    assert store.last_seq == 2
    assert read(data + END, now=5_000).last_seq == 2


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"NATSARC2" + END, "archive: invalid archive stream"),
        (b"not an archive, but long", "archive: invalid archive stream"),
        (MAGIC + b"\xff" * 10, "archive: invalid archive stream"),  # a number without an end
        (MAGIC + b"\x80\x80\x08" + b"\0" * 4, "archive: invalid archive stream"),  # a name of 128 KiB
        (MAGIC + entry(b"s", seq=1 << 63), "archive: invalid archive stream"),
        (MAGIC + b"\x01\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00s", "archive: invalid archive stream"),
        (MAGIC + entry(b"s", seq=2) + entry(b"s", seq=2), "message sequence 2 out of order"),
        (MAGIC + entry(b"s", seq=2) + entry(b"s", seq=1), "message sequence 1 out of order"),
        (MAGIC + entry(b"state.json", b"{}"), "expected message sequence"),
        (MAGIC + entry(b"s", b"x" * 1001, seq=3), "message sequence 3 exceeds maximum payload size"),
        (MAGIC + entry(b"s", b"x" * 501, seq=3), "message sequence 3 exceeds maximum message size"),
        (MAGIC + entry(b"s s\r\nMSG", seq=4), "message sequence 4 has an invalid subject"),
        (MAGIC + entry(b"a.*", seq=4), "message sequence 4 has an invalid subject"),
        (MAGIC + entry(b"", seq=4), "message sequence 4 has an invalid subject"),
    ],
)
def test_what_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        read(data, max_payload=1000, max_msg_size=500 if "message size" in text else -1)
    assert str(caught.value) == text


def test_a_size_that_is_not_there_takes_no_memory() -> None:
    reader = ArchiveReader()
    reader.feed(encoded(MAGIC + b"\x0a\x00\x00\x00\xff\xff\xff\xff\x0fstate.json"))
    with pytest.raises(ArchiveError, match="entry too large"):
        reader.read_entry(1 << 20)


def test_no_more_than_there_is_room_for() -> None:
    reader, store = ArchiveReader(), MemStore()
    reader.feed(encoded(MAGIC + b"".join(entry(b"s", b"x" * 1000, seq=seq) for seq in range(1, 100)) + END))
    assert reader.read_messages(store, 1 << 20, -1, 0, 5_000, 1 << 20, int)
    assert 5_000 < store.bytes < 7_000
    assert not reader.done


def test_damage_below_is_told() -> None:
    stream = bytearray(written(filled()))
    stream[-3] ^= 1
    reader = ArchiveReader()
    reader.feed(bytes(stream))
    with pytest.raises(S2Error):
        reader.read_messages(MemStore(), 1 << 20, -1, 0, 1 << 40, 1 << 20, int)
