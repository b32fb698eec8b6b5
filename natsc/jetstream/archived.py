"""What an archive of a stream says beside its messages: the state of the stream, and its consumers."""

from __future__ import annotations

import json

from natsc.jetstream.consumer_config import ConsumerConfig
from natsc.jetstream.schema import DecodeError, decode_one, encode
from natsc.jetstream.staging import RestoreError
from natsc.jetstream.stream_config import StreamState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SEQ_MAX = 1 << 62


class ArchivedConsumer:
    """A consumer as an archive has it.

    `position`: delivered (consumer's and stream's sequence), then the floor's; None where it begins as a new one.
    `created` in ns, 0 where that isn't known.
    """

    __slots__ = ("config", "created", "name", "pending", "position", "redelivered")

    def __init__(
        self,
        name: str,
        config: ConsumerConfig,
        position: tuple[int, int, int, int] | None,
        pending: list[tuple[int, int, int]],
        redelivered: dict[int, int],
        last_seq: int,
    ) -> None:
        """last_seq: of the stream. Raises RestoreError."""
        config.name = config.name or name
        if config.pause_until is not None and config.pause_until.utc().is_zero:
            config.pause_until = None
        self.name = name
        self.config = config
        self.created = 0
        self.position = position
        self.pending: list[tuple[int, int, int]] = []
        self.redelivered: dict[int, int] = {}
        if position is None:
            return
        delivered_dseq, delivered_sseq, floor_dseq, floor_sseq = position
        delivered_sseq, floor_sseq = min(delivered_sseq, last_seq), min(floor_sseq, last_seq)
        if not 0 <= floor_dseq <= delivered_dseq < SEQ_MAX or not 0 <= floor_sseq <= delivered_sseq:
            raise RestoreError(f'failed to set consumer "{name}" state: bad ack floor for consumer')
        self.position = delivered_dseq, delivered_sseq, floor_dseq, floor_sseq
        # Messages that came after the stream's state was taken, or were acknowledged meanwhile, aren't its business.
        self.pending = [entry for entry in sorted(pending) if floor_sseq < entry[0] <= delivered_sseq]
        self.redelivered = {seq: count for seq, count in redelivered.items() if floor_sseq < seq <= delivered_sseq}


def _number(value: Any, most: int = SEQ_MAX) -> int:
    if type(value) is not int or not 0 <= value < most:
        raise ValueError
    return value


def _pair(value: Any) -> tuple[int, int]:
    return _number(value["consumer_seq"]), _number(value["stream_seq"])


def read_consumer(name: bytes, body: bytes, last_seq: int) -> ArchivedConsumer:
    """The entry consumers/<name>. Raises RestoreError."""
    label = name.decode("utf-8", "surrogateescape").removeprefix("consumers/")
    if label.encode("utf-8", "surrogateescape") == name:
        raise RestoreError(f'expected consumer, found "{label}"')
    try:
        both = json.loads(body)
        missing = [part for part in ("config", "state") if both.get(part) is None]
        if missing:
            raise RestoreError(f'consumer "{label}" is missing {missing[0]}')
        config = decode_one(encode(both["config"]), ConsumerConfig())
        state = both["state"]
        position = (*_pair(state["delivered"]), *_pair(state["ack_floor"]))
        pending = [
            (_number(int(seq)), _number(entry["Sequence"]), _number(entry["Timestamp"], 1 << 63))
            for seq, entry in (state.get("pending") or {}).items()
        ]
        redelivered = {
            _number(int(seq)): _number(count, 1 << 31) for seq, count in (state.get("redelivered") or {}).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DecodeError) as error:
        detail = f": {error}" if isinstance(error, (json.JSONDecodeError, DecodeError)) else ""
        raise RestoreError(f'failed to decode consumer "{label}" state{detail}') from None
    return ArchivedConsumer(label, config, position, pending, redelivered, last_seq)


def read_state(name: bytes, body: bytes) -> StreamState:
    """The entry state.json. Raises RestoreError."""
    if name != b"state.json":
        raise RestoreError("expected state.json first")
    try:
        state = decode_one(body, StreamState())
    except DecodeError as error:
        raise RestoreError(f"error in state.json: {error}") from None
    if state.first_seq > SEQ_MAX or state.last_seq > SEQ_MAX or state.first_seq > state.last_seq + 1:
        raise RestoreError("error in state.json: sequences out of range")
    return state
