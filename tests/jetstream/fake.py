"""A JetStream that keeps everything in plain lists and never forgets: what the API is tested against."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from natsc.config.subject_mapping import is_subset
from natsc.jetstream.advisories import CREATE, DELETE, MODIFY, consumer_action, stream_action
from natsc.jetstream.backend import StoreError
from natsc.jetstream.consumer_config import ConsumerConfig, ConsumerState, SequenceInfo
from natsc.jetstream.gotime import ZERO, Time
from natsc.jetstream.limits import tier_name
from natsc.jetstream.quota import AccountLimits, ServerLimits
from natsc.jetstream.stream_config import FILE, MEMORY, SourceInfo, StoredMessage, StreamConfig, StreamState

if TYPE_CHECKING:
    from natsc.jetstream.backend import SnapshotRequest, Steps

START = 1_700_000_000_000_000_000
RECORD_OVERHEAD = {FILE: 30, MEMORY: 16}


class FakeConsumer:
    def __init__(self, stream: FakeStream, name: str, config: ConsumerConfig) -> None:
        self.stream = stream
        self.name = name
        self.config = config
        self.created = stream.backend.now()
        self.next_seq = self._start()

    def _start(self) -> int:
        config, messages = self.config, self.stream.messages
        matching = [seq for seq, message in messages.items() if self._matches(message)]
        if config.deliver_policy == "by_start_sequence":
            return config.opt_start_seq
        if config.deliver_policy == "by_start_time":
            assert config.opt_start_time is not None
            return self.stream.seq_from_time(config.opt_start_time.ns)
        if config.deliver_policy == "new":
            return self.stream.last_seq + 1
        if config.deliver_policy == "last":
            return matching[-1] if matching else self.stream.last_seq + 1
        if config.deliver_policy == "last_per_subject":
            last = {messages[seq].subject: seq for seq in matching}
            return min(last.values(), default=self.stream.last_seq + 1)
        return next(iter(messages), 1)

    def _matches(self, message: StoredMessage) -> bool:
        filters = self.config.filters()
        return not filters or any(is_subset(message.subject, filter) for filter in filters)

    def state(self) -> ConsumerState:
        state = ConsumerState()
        state.delivered = SequenceInfo(0, max(self.next_seq - 1, 0))
        state.ack_floor = SequenceInfo(0, max(self.next_seq - 1, 0))
        pending = [
            seq for seq, message in self.stream.messages.items() if seq >= self.next_seq and self._matches(message)
        ]
        if self.config.deliver_policy == "last_per_subject":
            pending = list({self.stream.messages[seq].subject: seq for seq in pending}.values())
        state.num_pending = len(pending)
        return state

    def update(self, config: ConsumerConfig) -> None:
        self.config = config

    def delete(self) -> None:
        del self.stream.by_name[self.name]
        self.stream.backend.announce(
            lambda: consumer_action(self.stream.backend, self.stream.config.name, self.name, DELETE)
        )

    def reset(self, seq: int) -> None:
        self.next_seq = seq

    def unpin(self, group: str, reason: str) -> None:
        pass


class FakeStream:
    def __init__(self, backend: FakeBackend, config: StreamConfig) -> None:
        self.backend = backend
        self.config = config
        self.created = backend.now()
        self.identity = "IDENTITY"
        self.messages: dict[int, StoredMessage] = {}
        self.by_name: dict[str, FakeConsumer] = {}
        self.last_seq = max(config.first_seq - 1, 0)
        self.last_time = ZERO

    def store(self, subject: str, data: bytes, headers: bytes = b"") -> None:
        self.last_seq += 1
        self.last_time = self.backend.now()
        self.messages[self.last_seq] = StoredMessage(subject, self.last_seq, headers, data, self.last_time)

    def state(self, deleted: bool = False) -> StreamState:
        held = list(self.messages.values())
        state = StreamState(last_seq=self.last_seq, last_ts=Time(self.last_time), consumer_count=len(self.by_name))
        state.messages = len(held)
        state.bytes = sum(self._size(message) for message in held)
        state.first_seq = held[0].seq if held else self.last_seq + 1 if self.last_seq else 0
        state.first_ts = Time(held[0].time if held else ZERO)
        state.num_subjects = len({message.subject for message in held})
        missing = [seq for seq in range(state.first_seq or 1, self.last_seq + 1) if seq not in self.messages]
        state.num_deleted = len(missing)
        state.deleted = missing if deleted else []
        return state

    def _size(self, message: StoredMessage) -> int:
        size = RECORD_OVERHEAD[self.config.storage] + len(message.subject) + len(message.data) + len(message.headers)
        return size + 4 if message.headers and self.config.storage == FILE else size

    enforcing = False
    unread = 0

    def subjects_totals(self, filter: str) -> Steps[dict[str, int]]:
        yield
        totals: dict[str, int] = {}
        for message in self.messages.values():
            if is_subset(message.subject, filter):
                totals[message.subject] = totals.get(message.subject, 0) + 1
        return totals

    def mirror_info(self) -> SourceInfo | None:
        return SourceInfo(self.config.mirror, without_filter=True) if self.config.mirror is not None else None

    def sources_info(self) -> list[SourceInfo]:
        return [SourceInfo(source) for source in self.config.sources]

    def consumers(self) -> list[FakeConsumer]:
        return list(self.by_name.values())

    def consumer(self, name: str) -> FakeConsumer | None:
        return self.by_name.get(name)

    def create_consumer(self, name: str, config: ConsumerConfig) -> FakeConsumer:
        consumer = self.by_name[name] = FakeConsumer(self, name, config)
        self.backend.announce(lambda: consumer_action(self.backend, self.config.name, name, CREATE))
        return consumer

    def update(self, config: StreamConfig) -> None:
        self.config = config
        self.backend.announce(lambda: stream_action(self.backend, config.name, MODIFY))

    def delete(self) -> None:
        del self.backend.by_name[self.config.name]
        self.backend.announce(lambda: stream_action(self.backend, self.config.name, DELETE))

    def purge(self, filter: str, seq: int, keep: int) -> Steps[int]:
        yield
        matching = [at for at, message in self.messages.items() if is_subset(message.subject, filter or ">")]
        chosen = [at for at in matching if not seq or at < seq]
        chosen = chosen[: len(chosen) - keep] if keep else chosen
        for at in chosen:
            del self.messages[at]
        return len(chosen)

    def remove(self, seq: int, erase: bool) -> bool:
        if seq > self.last_seq and self.config.storage == FILE:
            raise StoreError("stream store EOF")
        return self.messages.pop(seq, None) is not None

    def message(self, seq: int) -> StoredMessage | None:
        return self.messages.get(seq)

    def next_message(self, filter: str, seq: int) -> StoredMessage | None:
        found = (one for at, one in self.messages.items() if at >= seq and is_subset(one.subject, filter))
        return next(found, None)

    def last_message(self, subject: str) -> StoredMessage | None:
        found = [one for one in self.messages.values() if is_subset(one.subject, subject or ">")]
        return found[-1] if found else None

    def last_messages(self, filters: list[str], up_to: int, limit: int) -> list[StoredMessage] | None:
        last = {
            one.subject: one
            for at, one in self.messages.items()
            if at <= up_to and any(is_subset(one.subject, filter) for filter in filters)
        }
        found = sorted(last.values(), key=lambda one: one.seq)
        return found if len(found) <= limit else None

    def seq_from_time(self, time: int) -> int:
        return next((at for at, one in self.messages.items() if one.time >= time), self.last_seq + 1)

    def snapshot(self, request: SnapshotRequest, client: dict[str, Any] | None) -> StreamState:
        return self.state()

    def num_pending(self, seq: int, filter: str) -> int:
        return sum(at >= seq and is_subset(one.subject, filter or ">") for at, one in self.messages.items())


class FakeBackend:
    def __init__(self, limits: dict[str, AccountLimits] | None = None, server: ServerLimits | None = None) -> None:
        self.enabled = True
        self.alone = True
        self.strict = True
        self.server_name = "srv"
        self.cluster_name = ""
        self.domain = ""
        self.failure = ""
        self.max_pending = 64 << 20
        self.limits = limits if limits is not None else {"": AccountLimits()}
        self.server_limits = server or ServerLimits()
        self.api_total = 0
        self.api_errors = 0
        self.by_name: dict[str, FakeStream] = {}
        self.clock = START
        self.names = 0
        self.listening: set[str] = set()
        self.published: list[tuple[str, bytes]] = []

    @property
    def memory_reserved(self) -> int:
        return self._reserved(MEMORY)

    @property
    def storage_reserved(self) -> int:
        return self._reserved(FILE)

    def _reserved(self, storage: str) -> int:
        configs = [stream.config for stream in self.by_name.values()]
        return sum(config.max_bytes for config in configs if config.storage == storage and config.max_bytes > 0)

    def now(self) -> int:
        self.clock += 1000
        return self.clock

    def usage(self) -> dict[str, tuple[int, int]]:
        usage: dict[str, tuple[int, int]] = {}
        for stream in self.by_name.values():
            tier = "" if "" in self.limits else tier_name(stream.config.num_replicas)
            memory, storage = usage.get(tier, (0, 0))
            size = stream.state().bytes
            usage[tier] = (memory + size, storage) if stream.config.storage == MEMORY else (memory, storage + size)
        return usage

    def streams(self) -> list[FakeStream]:
        return list(self.by_name.values())

    def stream(self, name: str) -> FakeStream | None:
        return self.by_name.get(name)

    def create_stream(self, config: StreamConfig) -> FakeStream:
        stream = self.by_name[config.name] = FakeStream(self, config)
        self.announce(lambda: stream_action(self, config.name, CREATE))
        return stream

    def consumer_name(self) -> str:
        self.names += 1
        return f"random{self.names:02d}"

    def has_interest(self, subject: str) -> bool:
        return subject in self.listening or "*" in self.listening

    def publish(self, subject: str, payload: bytes) -> None:
        self.published.append((subject, payload))

    def announce(self, event: Callable[[], tuple[str, bytes]]) -> None:
        if self.listening:
            self.publish(*event())

    def event_id(self) -> str:
        return "ID"

    def count_request(self, failed: bool) -> None:
        self.api_total += 1
        self.api_errors += failed

    def restore(self, config: StreamConfig, client: dict[str, Any] | None) -> str:
        return f"$JS.SNAPSHOT.RESTORE.{config.name}.ID"
