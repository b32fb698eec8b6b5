"""Consumers as a store's file has them: the keys and records that natsc/jetstream/consumer_acks.pyx writes."""

from __future__ import annotations

import json
import struct

from natsc.jetstream.consumer_config import ConsumerConfig
from natsc.jetstream.layout import checksum, without_checksum
from natsc.jetstream.schema import DecodeError, decode_one, encode
from natsc.jetstream.streams import CONSUMER_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Items = list[tuple[bytes, bytes]]

_STATE_KEY = b"state/"
_OTHERS = (b"source/", b"schedule/")
_FORMAT = 1
# Checksum, format; sequences (stream's, own) of the next, the last delivered, the floor; skip_resume, created.
_HEAD = struct.Struct("<IB3x7Qq")
_PAGE_HEAD = struct.Struct("<IB3x")
# Its place in the page, pending, redelivered, consumer sequence, time.
_SAVED = struct.Struct("<BBIQq")
_PAGE_SEQS = 64


class StoredConsumer:
    """config is None where it can't be read, state where the consumer has none yet, or none that can be read."""

    __slots__ = ("config", "created", "name", "problems", "state")

    def __init__(self, name: str) -> None:
        self.name = name
        self.config: ConsumerConfig | None = None
        self.created = 0
        self.state: dict[str, Any] | None = None
        self.problems: list[str] = []

    def as_entry(self, last_seq: int) -> dict[str, Any] | None:
        """What an archive has of it; None where that isn't known."""
        if self.config is None:
            return None
        nowhere = {"consumer_seq": 0, "stream_seq": 0}
        state = self.state or {"delivered": nowhere, "ack_floor": nowhere}
        for place in ("delivered", "ack_floor"):
            state[place]["stream_seq"] = min(state[place]["stream_seq"], last_seq)
        return {"config": self.config.as_json(), "state": state}


def read_consumers(items: Items) -> tuple[list[StoredConsumer], list[str]]:
    """The consumers in a stream's database, by name, and what is wrong with the database itself."""
    found: dict[bytes, StoredConsumer] = {}
    problems: list[str] = []
    states: dict[bytes, Items] = {}
    for key, value in items:
        if key.startswith(CONSUMER_KEY):
            name = key[len(CONSUMER_KEY) :]
            found[name] = _read_config(name, value)
        elif key.startswith(_STATE_KEY) and b"\0" in key:
            name, _, rest = key[len(_STATE_KEY) :].partition(b"\0")
            states.setdefault(name, []).append((rest, value))
        elif key.startswith(_OTHERS):
            problems += _check_other(key, value)
        else:
            problems.append(f"nobody knows what {key[:80]!r} among the consumers is")
    for name, pages in states.items():
        if name in found:
            _read_state(found[name], pages)
        else:
            problems.append(f"consumer {name.decode('utf-8', 'replace')}: a state without a configuration")
    return [found[name] for name in sorted(found)], problems


def _check_other(key: bytes, value: bytes) -> list[str]:
    """Where a source has come to (JSON), when a scheduled message is due (a number)."""
    try:
        if key.startswith(b"source/"):
            json.loads(without_checksum(value))
        else:
            int(value)
    except (ValueError, RecursionError):
        return [f"{key.decode('utf-8', 'replace')} is damaged"]
    return []


def _read_config(name: bytes, value: bytes) -> StoredConsumer:
    consumer = StoredConsumer(name.decode("utf-8", "surrogateescape"))
    try:
        body = json.loads(without_checksum(value))
        consumer.config = decode_one(encode(body["config"]), ConsumerConfig())
        consumer.created = int(body["created"])
    except (ValueError, KeyError, TypeError, RecursionError, DecodeError) as error:
        consumer.config = None
        consumer.problems.append(f"its configuration can't be read: {error}")
    return consumer


def _read_state(consumer: StoredConsumer, pages: Items) -> None:
    kept = dict(pages)
    head = kept.pop(b"s", b"")
    if len(head) != _HEAD.size or checksum(head[4:]) != int.from_bytes(head[:4], "little"):
        consumer.problems.append("its state is damaged")
        return
    _, version, _, _, delivered_sseq, delivered_dseq, floor_sseq, floor_dseq, _, created = _HEAD.unpack(head)
    if version != _FORMAT:
        consumer.problems.append(f"its state has format {version}")
        return
    if consumer.config is not None and created != consumer.created:
        return  # what an earlier consumer of the name has left; it counts for nothing
    if floor_sseq > delivered_sseq or floor_dseq > delivered_dseq:
        consumer.problems.append("its floor is above what it has delivered")
    pending: dict[str, dict[str, int]] = {}
    redelivered: dict[str, int] = {}
    for key, value in sorted(kept.items()):
        _read_page(consumer, key, value, pending, redelivered)
    consumer.state = {
        "delivered": {"consumer_seq": delivered_dseq, "stream_seq": delivered_sseq},
        "ack_floor": {"consumer_seq": floor_dseq, "stream_seq": floor_sseq},
    }
    if pending:
        consumer.state["pending"] = pending
    if redelivered:
        consumer.state["redelivered"] = redelivered


def _read_page(
    consumer: StoredConsumer, key: bytes, value: bytes, pending: dict[str, dict[str, int]], redelivered: dict[str, int]
) -> None:
    """A page of 64 stream sequences, with those that are pending or were delivered more than once."""
    if len(key) != 9 or key[:1] != b"p":
        consumer.problems.append(f"nobody knows what {key[:80]!r} of its state is")
        return
    first = int.from_bytes(key[1:], "big") * _PAGE_SEQS
    size = len(value) - _PAGE_HEAD.size
    if size < 0 or size % _SAVED.size or checksum(value[4:]) != int.from_bytes(value[:4], "little"):
        consumer.problems.append(f"what it has of messages {first} to {first + _PAGE_SEQS - 1} is damaged")
        return
    for at, is_pending, times, dseq, sent in _SAVED.iter_unpack(value[_PAGE_HEAD.size :]):
        if is_pending:
            pending[str(first + at)] = {"Sequence": dseq, "Timestamp": sent}
        if times:
            redelivered[str(first + at)] = times
