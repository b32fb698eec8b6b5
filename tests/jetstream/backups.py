"""Backups and restores as a client does them, and archives as Python values."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from natsc.jetstream.api import PREFIX
from natsc.jetstream.archive import MAGIC, ArchiveReader
from natsc.jetstream.s2 import Decoder, Encoder
from tests.jetstream.client import Client


class Backup(NamedTuple):
    """answer: to the request. replies: reply subject and size of each chunk. status: headers of the last message."""

    answer: dict[str, Any]
    archive: bytes
    replies: list[tuple[bytes, int]]
    status: bytes


class Entry(NamedTuple):
    name: bytes
    time: int
    seq: int
    body: bytes


def backup(client: Client, stream: str, **request: Any) -> Backup:
    """Takes a snapshot, acknowledging every chunk."""
    subject = f"backup.{stream}"
    client.subscribe(subject)
    body = json.dumps({"deliver_subject": subject, **request}).encode()
    inbox = client.send(f"{PREFIX}STREAM.SNAPSHOT.{stream}", body)
    answer: dict[str, Any] = {}
    archive, replies = b"", []
    status: bytes | None = None
    while status is None or not answer:  # nats-server may answer last
        where, reply, headers, payload = client.message()
        if where == inbox:
            answer = json.loads(payload)
            assert "error" not in answer, answer
        elif where == subject.encode() and not payload:
            status = headers
        elif where == subject.encode():
            archive += payload
            replies.append((reply, len(payload)))
            if reply:
                client.write(b"PUB %b 0\r\n\r\n" % reply)
    client.write(b"UNSUB 2\r\n")
    return Backup(answer, archive, replies, status)


def begin_restore(client: Client, config: dict[str, Any], state: dict[str, Any] | None = None) -> str:
    """The subject that chunks go to."""
    body = json.dumps({"config": config, "state": state or {}}).encode()
    answer = json.loads(client.request(f"{PREFIX}STREAM.RESTORE.{config['name']}", body).payload)
    assert "error" not in answer, answer
    subject: str = answer["deliver_subject"]
    return subject


def restore(client: Client, config: dict[str, Any], archive: bytes, chunk: int = 64 * 1024) -> dict[str, Any]:
    """Sends an archive; the answer at the end, or the first one that isn't empty."""
    subject = begin_restore(client, config)
    for start in range(0, len(archive), chunk):
        payload = client.request(subject, archive[start : start + chunk]).payload
        if payload:
            refused: dict[str, Any] = json.loads(payload)
            return refused
    final: dict[str, Any] = json.loads(client.request(subject, b"").payload)
    return final


def decoded(stream: bytes) -> bytes:
    decoder = Decoder()
    decoder.feed(stream)
    found = b""
    while (block := decoder.next_block()) is not None:
        found += block
    assert decoder.between_chunks
    return found


def encoded(data: bytes) -> bytes:
    encoder = Encoder()
    encoder.write(data)
    encoder.finish()
    return encoder.take()


def entries(archive: bytes) -> list[Entry]:
    """Every entry of an archive but the end marker."""
    reader = ArchiveReader()
    reader.feed(archive)
    found = []
    while True:
        entry = reader.read_entry(1 << 30)
        assert entry is not None, "truncated"
        if reader.done:
            return found
        found.append(Entry(*entry))


def varint(number: int) -> bytes:
    out = b""
    while number >= 128:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def entry(name: bytes, body: bytes = b"", *, time: int = 0, seq: int = 0, headers: int = 0) -> bytes:
    """headers: how many bytes of the body they are."""
    zigzag = time << 1 if time >= 0 else (-time << 1) - 1
    numbers = (len(name), zigzag, seq, headers, len(body) - headers)
    return b"".join(varint(number) for number in numbers) + name + body


END = entry(b"")


def archive_of(*parts: bytes, state: dict[str, Any] | None = None) -> bytes:
    """An archive of these entries behind the state; END is to be given."""
    whole = {
        "messages": 0, "bytes": 0, "first_seq": 1, "first_ts": "2026-01-01T00:00:00Z", "last_seq": 0,
        "last_ts": "2026-01-01T00:00:00Z", "consumer_count": 0, **(state or {}),
    }  # fmt: skip
    return encoded(MAGIC + entry(b"state.json", json.dumps(whole).encode(), time=1) + b"".join(parts))
