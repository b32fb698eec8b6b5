"""Snapshots: a stream's archive on its way to whoever asked for it, chunk by chunk.

So many chunks may be on their way as the request's window allows; each is acknowledged by a message to its reply
subject, which makes room for the next one. A chunk is made when it can leave, so that a snapshot takes no more memory
than one of them, and other clients are served between two of them.

The protocol is nats-server's: the last, shorter chunk has no reply subject, and an empty message is behind it, with a
status in its headers if there was a full chunk at all, or if something went wrong.
"""

from __future__ import annotations

from natsc.config.gotext import format_duration
from natsc.jetstream import advisories
from natsc.jetstream.archive import ArchiveError, ArchiveWriter
from natsc.jetstream.banner import friendly_bytes
from natsc.jetstream.schema import encode
from natsc.jetstream.transfer import take_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.clock import Timer
    from natsc.jetstream.backend import SnapshotRequest
    from natsc.jetstream.stream_config import StreamState
    from natsc.jetstream.streams import ManagedStream

_NS = 1_000_000_000
_ACK_TIMEOUT_NS = 5 * _NS
_INTEREST_NS = 2 * _NS  # so long somebody may take to listen
_TICK_S = 0.25
_INTEREST_TICK_S = 0.01
_STEP_BYTES = 4 << 20  # of messages, before others get their turn


def write_head(writer: ArchiveWriter, stream: ManagedStream, state: StreamState, consumers: bool, now: int) -> None:
    """What stands before the messages: the state of the stream, and those of its consumers. `now` in ns."""
    kept = [one for one in stream.consumers() if not one.config.direct] if consumers else []
    state.consumer_count = len(kept)
    writer.write_entry(b"state.json", now, encode(state.as_json()))
    for consumer in kept:
        body = {"config": consumer.config.as_json(), "state": take_state(consumer, state.last_seq)}
        writer.write_entry(f"consumers/{consumer.name}".encode("utf-8", "surrogateescape"), now, encode(body))


class Snapshot:
    """One snapshot. It begins in a turn of its own, behind the answer to who asked for it."""

    def __init__(self, stream: ManagedStream, request: SnapshotRequest, client: dict[str, Any] | None) -> None:
        self.stream = stream
        self.owner = owner = stream.owner
        self.client = client
        self.subject = request.deliver_subject.encode("utf-8", "surrogateescape")
        self.chunk_size, self.slots_max = request.sizes()
        self.slots = self.slots_max
        self.started = owner.now()
        self.state = stream.state()
        self.writer = ArchiveWriter(stream.store)
        head = stream.state()
        write_head(self.writer, stream, head, not request.no_consumers, self.started)
        self.ack_subject = f"$JS.SNAPSHOT.ACK.{stream.name}.{owner.event_id()}".encode("utf-8", "surrogateescape")
        self.index = 0  # of the last full chunk
        self.ended = False
        self._scheduled = False
        self._interested = False
        self._sent_ns = 0
        self._door: Any = None
        self._timer: Timer | None = None
        checked = "health check and " if request.jsck else ""
        self._log("notice", f"Starting {checked}snapshot for stream '{owner.account.name} > {stream.name}'")
        owner.snapshots.add(self)
        self._schedule(self._begin)

    def _log(self, level: str, text: str) -> None:
        getattr(self.owner.service.server.log, level)(text)

    def _schedule(self, step: Any) -> None:
        self._scheduled = True
        self.owner.service.loop.call_soon(self._run, step)

    def _run(self, step: Any) -> None:
        """A step in a turn of its own."""
        self._scheduled = False
        if not self.ended and not self.owner.service.ended:
            step()
            self.owner.engine.end_turn()

    def _begin(self) -> None:
        owner, name = self.owner, self.stream.name
        owner.announce(lambda: advisories.snapshot_create(owner, name, self.state, self.client))
        self._door = owner.engine.subscribe(owner.account, self.ack_subject + b".>", self._on_ack)
        self._sent_ns = owner.clock.now_ns()
        self._await_interest()

    def _has_interest(self) -> bool:
        """Does anybody listen to just this subject? A wildcard over all of a client's inboxes means nothing."""
        return any(
            subject == self.subject for _, subject, _, _ in self.owner.engine.match(self.owner.account, self.subject)
        )

    def _await_interest(self) -> None:
        self._interested = self._has_interest()
        waited = self.owner.clock.now_ns() - self._sent_ns
        if not self._interested and waited < _INTEREST_NS:
            self._timer = self.owner.clock.call_later(_INTEREST_TICK_S, lambda: self._run(self._await_interest))
            return
        self._sent_ns = self.owner.clock.now_ns()
        self._timer = self.owner.clock.call_later(_TICK_S, self._tick)
        self._send()

    def _tick(self) -> None:
        """Is anybody there, and does he take what he gets?"""
        self._run(self._check)
        if not self.ended:
            self._timer = self.owner.clock.call_later(_TICK_S, self._tick)

    def _check(self) -> None:
        interested = self._has_interest()
        if self._interested and not interested:
            self._end("no interest", b"408 No Interest")
        elif self.slots == 0 and self.owner.clock.now_ns() - self._sent_ns >= _ACK_TIMEOUT_NS:
            self._end("no flow response", b"408 No Flow Response")
        else:
            self._interested = interested

    def _on_ack(self, _: object) -> None:
        if not self.ended and not self.owner.service.ended:
            self.slots = min(self.slots + 1, self.slots_max)
            if not self._scheduled:
                self._send()

    def _send(self) -> None:
        """One chunk, if it is ready and may leave; the next one in a turn to come."""
        if self.slots == 0:
            return
        self.owner.outbox.end_soon()
        try:
            if self.stream.closed:
                raise ArchiveError("store is closed")
            ready = self.writer.write_messages(self.chunk_size, _STEP_BYTES)
        except ArchiveError as error:
            self._end(str(error), f"500 {error}".encode())
            return
        if not ready:
            self._schedule(self._send)
            return
        chunk = self.writer.take(self.chunk_size)
        publish, account = self.owner.engine.publish, self.owner.account
        if len(chunk) < self.chunk_size:
            if chunk:
                publish(account, self.subject, chunk)
            self._end("", b"204" if self.index else b"")
            return
        self.index += 1
        self.slots -= 1
        self._sent_ns = self.owner.clock.now_ns()
        publish(account, self.subject, chunk, reply=b"%b.%d.%d" % (self.ack_subject, len(chunk), self.index))
        if self.slots:
            self._schedule(self._send)

    def _end(self, error: str, status: bytes) -> None:
        owner, name = self.owner, self.stream.name
        self.cancel()
        headers = b"NATS/1.0 %b\r\n\r\n" % status if status else None
        owner.engine.publish(owner.account, self.subject, b"", headers=headers)
        end = owner.now()
        owner.announce(lambda: advisories.snapshot_complete(owner, name, self.started, end, self.client, error))
        where, took = f"'{owner.account.name} > {name}'", format_duration(end - self.started)
        if error:
            self._log("warn", f"Snapshot for stream {where} failed after {took}: {error}")
        else:
            size = friendly_bytes(self.state.bytes)
            self._log("notice", f"Completed snapshot of {size} for stream {where} in {took}")

    def cancel(self) -> None:
        """Send nothing any more."""
        self.ended = True
        self.owner.snapshots.discard(self)
        if self._door is not None:
            self.owner.engine.unsubscribe(self._door)
        if self._timer is not None:
            self._timer.cancel()
