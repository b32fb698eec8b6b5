"""Restores: a stream's archive that a client sends chunk by chunk, each answered once it is on disk.

The protocol is nats-server's: chunks are requests to a subject of the restore's own, an empty one ends them and is
answered with the new stream; what goes wrong is told in answer to the chunk in hand, and ends the restore.

A chunk may decode to much more than it is, so it is worked on in steps, between which other clients are served. What
has come and was not worked on yet is bounded: a client that doesn't wait for answers is refused, not stored in memory.
"""

from __future__ import annotations

from collections import deque

from natsc.config.gotext import format_duration
from natsc.jetstream import advisories
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.api_stream import restored
from natsc.jetstream.archive import MAGIC, ArchiveError, ArchiveReader
from natsc.jetstream.archived import read_consumer, read_state
from natsc.jetstream.backend import StoreError
from natsc.jetstream.banner import friendly_bytes
from natsc.jetstream.rare import parse_ttl
from natsc.jetstream.s2 import S2Error
from natsc.jetstream.staging import RestoreError, Staging
from natsc.jetstream.transfer import count_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.clock import Timer
    from natsc.jetstream.account import AccountJetStream
    from natsc.jetstream.older import OlderArchive
    from natsc.jetstream.stream_config import StreamConfig, StreamState

_STALLED_S = 5.0
_STEP_BYTES = 2 << 20  # decoded, before others get their turn
_QUEUED_MAX = 32 << 20  # bytes of chunks that wait
_WRITING_MAX = 64 << 20  # bytes that may wait for the disk before more are decoded
_WRITING_WAIT_S = 0.01
_STATE_MAX = 1 << 20
_CONSUMERS_MAX = 64 << 20  # bytes of all consumers' entries

_REFUSALS = (RestoreError, ArchiveError, S2Error, StoreError, ApiError, MemoryError)


class Archive:
    """The entries of an archive, put into a stream step by step."""

    def __init__(self, owner: AccountJetStream, config: StreamConfig, reader: ArchiveReader) -> None:
        self.owner = owner
        self.config = config
        self.reader = reader
        self.staging: Staging | None = None
        self._state: StreamState | None = None
        self._consumers_left = 0
        self._consumers_room = _CONSUMERS_MAX

    @property
    def done(self) -> bool:
        return bool(self.reader.done)

    def step(self, budget: int) -> bool:
        """Work on what was fed, about `budget` bytes of it. False where more must come first."""
        if self._state is None and not self._take_state():
            return False
        while self._consumers_left:
            if not self._take_consumer():
                return False
        return self._take_messages(budget)

    def _take_state(self) -> bool:
        entry = self.reader.read_entry(_STATE_MAX)
        if entry is None:
            return False
        state = read_state(entry[0], entry[3])
        self.staging = Staging(self.owner, self.config, state.bytes)
        self.staging.stream.store.skip(state.first_seq, 0)
        self._consumers_left = state.consumer_count
        self._state = state
        return True

    def _take_consumer(self) -> bool:
        assert self.staging is not None and self._state is not None
        entry = self.reader.read_entry(self._consumers_room)
        if entry is None:
            return False
        name, _, _, body = entry
        self.staging.consumers.append(read_consumer(name, body, self._state.last_seq))
        self._consumers_left -= 1
        self._consumers_room -= len(name) + len(body)
        return True

    def _take_messages(self, budget: int) -> bool:
        assert self.staging is not None
        store = self.staging.stream.store
        room = self.staging.room() + store.bytes
        payload_max = self.owner.service.server.options.max_payload
        more: bool = self.reader.read_messages(
            store, payload_max, self.config.max_msg_size or -1, self.owner.now(), room, budget, _read_ttl
        )
        self.owner.outbox.end_soon()
        if store.bytes > room:
            raise self.staging.limit
        count_usage(self.staging.stream)
        return more

    def finish(self) -> Staging:
        """Everything was fed. Raises RestoreError where that wasn't all."""
        if self.staging is None or self._state is None or not self.reader.done:
            raise RestoreError("backup was truncated")
        self.staging.stream.store.skip(self._state.last_seq + 1, max(self._state.last_ts.ns, 0))
        return self.staging


def _read_ttl(value: bytes) -> int:
    ttl = parse_ttl(value.decode("utf-8", "surrogateescape"))
    if ttl < -1:
        raise RestoreError("failed to parse message TTL: invalid per-message TTL")
    return ttl


class Restore:
    """One restore, from the request for it to the answer to its last chunk."""

    def __init__(self, owner: AccountJetStream, config: StreamConfig, client: dict[str, Any] | None) -> None:
        self.owner = owner
        self.config = config
        self.client = client
        self.started = owner.now()
        self.received = 0
        self.ended = False
        self.subject = f"$JS.SNAPSHOT.RESTORE.{config.name}.{owner.event_id()}"
        self._reader = ArchiveReader()
        self._archive: Archive | OlderArchive | None = None
        self._queue: deque[tuple[bytes, bytes]] = deque()  # payload, reply
        self._queued = 0
        self._fed = False  # the first of the queue is in the reader
        self._staging: Staging | None = None  # complete
        self._scheduled = False
        self._log("notice", f"Starting restore for stream {self._where}")
        owner.announce(lambda: advisories.restore_create(owner, config.name, client))
        self._door = owner.engine.subscribe(
            owner.account, self.subject.encode("utf-8", "surrogateescape"), self._on_chunk
        )
        self._timer: Timer = owner.clock.call_later(_STALLED_S, self._stalled)

    @property
    def _where(self) -> str:
        return f"'{self.owner.account.name} > {self.config.name}'"

    def _log(self, level: str, text: str) -> None:
        getattr(self.owner.service.server.log, level)(text)

    def _on_chunk(self, received: Any) -> None:
        if self.ended or self.owner.service.ended:
            return
        if not received.reply:
            self._fail(RestoreError(f"restore for stream {self._where} requires reply subject for each chunk"), None)
            return
        self._queue.append((received.payload, received.reply))
        self._queued += len(received.payload)
        if self._queued > _QUEUED_MAX:
            self._fail(RestoreError("too many chunks before the first one was answered"), received.reply)
        elif not self._scheduled:
            self._work()

    def _schedule(self, delay: float = 0.0) -> None:
        self._scheduled = True
        loop = self.owner.service.loop
        if delay:
            loop.call_later(delay, self._run)
        else:
            loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        if not self.ended and not self.owner.service.ended:
            self._work()
            self.owner.engine.end_turn()

    def _work(self) -> None:
        """Work on what waits for one step."""
        self._timer.cancel()
        self._timer = self.owner.clock.call_later(_STALLED_S, self._stalled)
        reply: bytes | None = None
        try:
            while self._queue:
                payload, reply = self._queue[0]
                if not payload:
                    self._finish(reply)
                    return
                store = self.owner.service.store
                if store is not None and store.pending_bytes > _WRITING_MAX:
                    self._schedule(_WRITING_WAIT_S)
                    return
                if not self._take(payload):
                    self._schedule()
                    return
                self._queue.popleft()
                self._queued -= len(payload)
                self._fed = False
                self.received += len(payload)
                self._answer(reply, b"")
        except _REFUSALS as error:
            self._fail(error, reply)

    def _take(self, payload: bytes) -> bool:
        """A step of work on a chunk. True when it is done with."""
        if self._archive is not None and self._archive.done:
            return True
        if not self._fed:
            self._reader.feed(payload)
            self._fed = True
        if self._archive is None:
            magic = self._reader.preamble()
            if magic is None:
                return True
            self._archive = self._open(magic)
        return not self._archive.step(_STEP_BYTES) or self._archive.done

    def _open(self, magic: bytes) -> Archive | OlderArchive:
        if magic == MAGIC:
            return Archive(self.owner, self.config, self._reader)
        from natsc.jetstream.older import OlderArchive as Older

        return Older(self.owner, self.config, self._reader, _read_ttl)

    def _finish(self, reply: bytes) -> None:
        if self._archive is None:
            raise RestoreError("unexpected EOF" if self.received else "EOF")
        if self._staging is None:
            self._staging = self._archive.finish()
        if not self._staging.learn():
            self._schedule()
            return
        stream = self._staging.commit()
        self._close()
        took = self._announce_end()
        answer = restored(stream, self.owner)
        self._log("notice", f"Completed restore of {friendly_bytes(self.received)} for stream {self._where} in {took}")
        self._answer(reply, answer.payload)

    def _answer(self, reply: bytes, payload: bytes) -> None:
        """Once all is on disk so far; where that fails, the sender is told."""
        failure = restored(StoreError("store failed"), self.owner).payload
        self.owner.outbox.reply_bytes(self.owner.account, reply, payload, failure=failure)

    def _fail(self, error: Exception, reply: bytes | None) -> None:
        self.cancel()
        took = self._announce_end()
        if isinstance(error, MemoryError):
            error = RestoreError("out of memory")
        self._log(
            "warn", f"Restore failed for {friendly_bytes(self.received)} for stream {self._where} in {took}: {error}"
        )
        if reply is not None:
            self.owner.outbox.reply_bytes(self.owner.account, reply, restored(error, self.owner).payload, durable=False)

    def _announce_end(self) -> str:
        owner, end = self.owner, self.owner.now()
        name, size = self.config.name, self.received
        owner.announce(lambda: advisories.restore_complete(owner, name, self.started, end, size, self.client))
        return format_duration((end - self.started) // 1_000_000 * 1_000_000)

    def _stalled(self) -> None:
        """Nothing has come for a while. Nobody is told: there is nobody who waits."""
        if self._scheduled or self.ended:
            self._timer = self.owner.clock.call_later(_STALLED_S, self._stalled)
            return
        self.cancel()
        self._log("warn", f"restore for stream {self._where} is stalled")
        self.owner.engine.end_turn()

    def cancel(self) -> None:
        """Take nothing any more, and leave nothing."""
        self._close()
        if self._archive is not None and self._archive.staging is not None:
            self._archive.staging.abort()

    def _close(self) -> None:
        self.ended = True
        self._timer.cancel()
        self._queue.clear()
        self.owner.engine.unsubscribe(self._door)
        self.owner.restoring.pop(self.config.name, None)
