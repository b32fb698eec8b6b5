"""A consumer as the API sees it: what is asked about it, and the rare things that a client may say to it.

The path of a message is in natsc/jetstream/consumer.pyx, which this extends.
"""

from __future__ import annotations

from natsc.jetstream.consumer import Consumer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.jetstream.consumer_config import ConsumerState
    from natsc.jetstream.pull_request import Pull


class ManagedConsumer(Consumer):
    """A consumer of a stream of an account's JetStream."""

    def state(self) -> ConsumerState:
        from natsc.jetstream.consumer_config import ConsumerState, SequenceInfo
        from natsc.jetstream.gotime import ZERO

        numbers = self.numbers()
        state = ConsumerState()
        state.delivered = SequenceInfo(
            numbers["delivered_dseq"], numbers["delivered_sseq"], numbers["last_delivered_ns"]
        )
        state.ack_floor = SequenceInfo(numbers["floor_dseq"], numbers["floor_sseq"], numbers["last_ack_ns"])
        state.num_ack_pending = numbers["ack_pending"]
        state.num_redelivered = numbers["redelivered"]
        state.num_waiting = numbers["waiting"]
        state.num_pending = numbers["pending"]
        state.push_bound = self.active
        state.pinned_client_id = self.pinned_client
        state.pinned_ts = numbers["pinned_at_ns"] or ZERO
        return state

    def make_event(self, kind: str, args: tuple[Any, ...]) -> tuple[bytes, bytes]:
        from natsc.jetstream import advisories

        subject, payload = getattr(advisories, kind)(self.backend, *args)
        return subject.encode("utf-8", "surrogateescape"), payload

    def read_pull(self, body: bytes) -> Pull | str:
        from natsc.jetstream.pull_request import read_pull

        return read_pull(body)

    def read_delay(self, text: bytes) -> int | None:
        from natsc.jetstream.pull_request import read_delay

        return read_delay(text)

    def limit_exceeded(self, batch: int, max_bytes: int) -> bytes:
        from natsc.config.gotext import format_duration

        config = self.config
        if 0 < config.max_batch < batch:
            return b"409 Exceeded MaxRequestBatch of %d" % config.max_batch
        if 0 < config.max_bytes < max_bytes:
            return b"409 Exceeded MaxRequestMaxBytes of %d" % config.max_bytes
        return f"409 Exceeded MaxRequestExpires of {format_duration(config.max_expires)}".encode()

    def level_too_high(self, headers: bytes) -> bool:
        from natsc.jetstream.api_request import header
        from natsc.jetstream.versioning import REQUIRED_LEVEL_HEADER, level_too_high

        return level_too_high(header(headers, REQUIRED_LEVEL_HEADER))

    def read_flow_answer(self, headers: bytes) -> tuple[int, int]:
        from natsc.jetstream.api_request import header

        sseq, dseq = (header(headers, name) or "" for name in ("Nats-Last-Stream", "Nats-Last-Consumer"))
        return int(sseq) if sseq.isdecimal() else 0, int(dseq) if dseq.isdecimal() else 0
