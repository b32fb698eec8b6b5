"""A stream as the API sees it: its configuration and life, and what is asked about its messages.

The path of a message is in natsc/jetstream/stream.pyx, which this extends.
"""

from __future__ import annotations

from natsc.config.gotext import wrap_int64
from natsc.config.subject_mapping import has_wildcard
from natsc.jetstream import advisories
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.backend import StoreError
from natsc.jetstream.failpoint import here as failpoint
from natsc.jetstream.gotime import ZERO, Time, format_time
from natsc.jetstream.layout import stream_name, with_checksum
from natsc.jetstream.names import raw, short_hash, text
from natsc.jetstream.schema import encode
from natsc.jetstream.steps import Purge, SubjectWalk
from natsc.jetstream.stream import Stream, consumers_told_deleted, consumers_told_shutdown
from natsc.jetstream.stream_config import (
    FILE,
    INTEREST,
    LostStreamData,
    SourceInfo,
    StoredMessage,
    StreamConfig,
    StreamState,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc.clock import Timer
    from natsc.jetstream.account import AccountJetStream
    from natsc.jetstream.backend import Steps
    from natsc.jetstream.batch import Batches
    from natsc.jetstream.consumer_config import ConsumerConfig
    from natsc.jetstream.fastbatch import FastBatches
    from natsc.jetstream.schedules import Schedules
    from natsc.jetstream.sources import Sourcing

_NS = 1_000_000_000
STEP = 4096
"""Messages, or subjects, that one turn looks at in what takes several."""
_READ_STEP = 1024  # the same, where each may take Python's time
CONSUMER_KEY = b"config/"


def stream_key(account: str, stream: str) -> bytes:
    """Where a stream's configuration is in the store's meta database."""
    return b"stream/" + stream_name(account, stream)


def rollup_error(value: str) -> str:
    """What is wrong with a rollup that is none."""
    from natsc.config.gotext import quote

    return f"rollup value invalid: {quote(value.lower())}"


class ManagedStream(Stream):
    """A stream of an account's JetStream. Made by AccountJetStream."""

    def __init__(self, *_: Any, owner: AccountJetStream, config: StreamConfig, created: int) -> None:
        self.owner = owner
        self.created = created
        self.identity = identity(created)
        self.by_name: dict[str, Any] = {}
        self._timer: Timer | None = None
        self._batches: Batches | None = None
        self._fast: FastBatches | None = None
        self.batch_error: ApiError | None = None  # the last one that a message of a batch was answered
        self._schedules: Schedules | None = None
        self.sourcing: Sourcing | None = None
        self._transform: Any = None
        self._republish: Any = None
        self.unread = 0  # where messages are read on for headers that have a meaning now; 0 = they were
        self.rollups: dict[bytes, tuple[Purge, list[tuple[bytes, bytes, bytes]]]] = {}
        self._unfinished = False  # messages are being removed in steps: a restart is to go on with it
        self.configure(config)

    # Configuration

    def configure(self, config: StreamConfig) -> None:
        """Works by a checked configuration from now on."""
        self._transform = self._republish = None
        if config.subject_transform is not None:
            from natsc.config.transform import Transform

            self._transform = Transform(config.subject_transform.src or ">", config.subject_transform.dest)
        if config.republish is not None:
            from natsc.config.transform import Transform

            self._republish = Transform(config.republish.src or ">", config.republish.dest)
        domain = self.owner.domain
        prefix = encode({"stream": config.name, **({"domain": domain} if domain else {})})[:-1] + b',"seq":'
        self._ack_prefix = prefix
        failure = self._error(config.name, ApiError(errors.STREAM_STORE_FAILED, err="store failed"))
        special = (
            self._transform is not None
            or self._republish is not None
            or config.subject_delete_marker_ttl > 0
            or config.allow_msg_counter
        )
        self.apply(config, prefix, failure, special)
        if config.allow_msg_schedules and self._schedules is None:
            from natsc.jetstream.schedules import Schedules

            self._schedules = Schedules(self)
            self.scheduled = self._schedules.by_subject

    @staticmethod
    def _error(name: str, error: ApiError) -> bytes:
        return encode({"error": error.as_json(), "stream": name, "seq": 0})

    def error_answer(self, err_code: int, values: dict[str, object]) -> bytes:
        rollup = values.get("rollup")
        if isinstance(rollup, bytes):
            values = {"err": rollup_error(rollup.decode("utf-8", "replace"))}
        if err_code == errors.ACCOUNT_RESOURCES_EXCEEDED:
            err_code = self.owner.full
        return self._error(self.name, ApiError(err_code, **values))

    def start(self) -> None:
        """Receives from now on, and expires what is old."""
        self.listen([raw(subject) for subject in self.config.subjects])
        self.owner.listen_direct(self)
        self.arm_timer()
        if self._schedules is not None:
            self._schedules.start()
        self._follow_origins()

    def _follow_origins(self) -> None:
        """Reads from the streams that the configuration names."""
        if self.sourcing is not None:
            self.sourcing.follow(self.config)
            self.sourcing.answer_direct()
        elif self.config.mirror is not None or self.config.sources:
            from natsc.jetstream.sources import Sourcing

            self.sourcing = Sourcing(self)
            self.sourcing.start()

    def save(self) -> None:
        """Keeps the configuration, with the next batch. Streams in memory are not kept. Raises StoreError."""
        if self.config.storage == FILE:
            body = {"config": self.config.as_json(), "created": self.created}
            if self._unfinished:
                body["unfinished"] = True
            self.owner.meta_put(stream_key(self.account.name, self.name), with_checksum(encode(body)))

    def update(self, config: StreamConfig) -> None:
        unread = (config.allow_msg_ttl and not self.config.allow_msg_ttl) or (
            config.allow_msg_schedules and not self.config.allow_msg_schedules
        )
        before, most = self.config.max_msgs_per_subject, config.max_msgs_per_subject
        self._close_batches(not config.allow_atomic, not config.allow_batched)
        self.configure(config)
        if unread:
            self._read_again()
        elif self._schedules is not None and not self.unread:
            self._schedules.start()
        self.save()
        self.listen([raw(subject) for subject in config.subjects])
        self.owner.listen_direct(self)
        self.enforce(most > 0 and (before <= 0 or most < before))
        self.arm_timer()
        self._follow_origins()
        self.owner.announce(lambda: advisories.stream_action(self.owner, self.name, advisories.MODIFY))

    def delete(self) -> None:
        consumers_told_deleted(self)
        for name in self.by_name:
            self._tell_of_consumer(name, advisories.DELETE)
        self.by_name.clear()
        if self.sourcing is not None:
            self.sourcing.end(deleted=True)
        self._leave()
        if self.config.storage == FILE:
            self.store.drop()
            failpoint("stream.dropped")
            self.owner.meta_delete(stream_key(self.account.name, self.name))
            failpoint("stream.deleted")
        else:
            self.store.close()
            self.reclaim()
        self.forget_usage()
        self.outbox.end_soon()
        self.owner.forget(self)
        self.owner.announce(lambda: advisories.stream_action(self.owner, self.name, advisories.DELETE))

    def shutdown(self) -> None:
        """The server stops."""
        consumers_told_shutdown(self)
        if self.sourcing is not None:
            self.sourcing.end(deleted=False)
        self._leave()

    def abandon(self) -> None:
        """It turned out that it can't be opened: what is kept of it stays."""
        self.shutdown()
        self.forget_usage()
        self.owner.forget(self)

    def _leave(self) -> None:
        self.stop()
        self._close_batches(True, True)
        self.owner.unlisten_direct(self)
        if self._schedules is not None:
            self._schedules.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Messages on their way in

    def ingest_special(self, subject: bytes, headers: bytes, body: bytes, reply: bytes) -> None:
        from natsc.jetstream import rare
        from natsc.jetstream.api_request import header

        part_of = rare.fast_batch(headers, reply)
        if part_of and not (self.checked_only and self.config.allow_batched):
            if self._fast is None:
                from natsc.jetstream.fastbatch import FastBatches

                self._fast = FastBatches(self)
            self._fast.take((subject, headers, body), reply, part_of)
            return
        batch_id = header(headers, "Nats-Batch-Id") if headers else None
        if batch_id and not (self.checked_only and self.config.allow_atomic):
            if self._batches is None:
                from natsc.jetstream.batch import Batches

                self._batches = Batches(self)
            self._batches.take(batch_id, (subject, headers, body), reply)
            return
        super().ingest_special(subject, headers, body, reply)

    def _close_batches(self, atomic: bool, fast: bool) -> None:
        """Forgets the batches that are open."""
        if atomic and self._batches is not None:
            self._batches.close()
        if fast and self._fast is not None:
            self._fast.close()

    def on_traced(self, trace: Any, subject: bytes, headers: bytes, body: bytes, reply: bytes | None) -> None:
        from natsc.jetstream.traced import take

        take(self, trace, subject, headers, body, reply)

    def answer_error(self, reply: bytes, error: ApiError) -> None:
        self.batch_error = error
        text = self.error_text(error)
        self.answer_text(reply, text, text)

    def error_text(self, error: ApiError) -> bytes:
        """A PubAck that tells an error."""
        return self._error(self.name, error)

    def store_error(self) -> str:
        """What the store says about an append that failed."""
        from natsc.jetstream.msgstore import ERRORS

        return self.owner.failure or ERRORS.get(self.store.error, "store failed")

    def ack_text(self, seq: int, more: bytes) -> bytes:
        """A PubAck."""
        return self._ack_prefix + b"%d" % seq + more + b"}"

    def send_behind(self, reply: bytes, answer: bytes) -> None:
        """Says something behind all that is stored, also where nothing is acknowledged."""
        if reply:
            self.outbox.reply_bytes(self.account, reply, answer, durable=self.config.storage == FILE)

    def on_special(self, subject: bytes, headers: bytes, body: bytes) -> tuple[bytes, bytes, bytes, bytes] | int:
        from natsc.jetstream import rare

        subject = self.transformed(subject)
        headers = rare.stripped(headers)
        refused = rare.refusal(headers, body, self.config)
        if refused:
            return refused
        try:
            headers = self.with_schedule(subject, headers, {})
        except ApiError as error:
            return error.err_code
        if rare.is_sourced(headers):
            return errors.MESSAGE_SOURCE_HDR_NOT_ALLOWED
        more = b""
        if self.config.allow_msg_counter:
            counted = rare.count(headers, self.last_of_counter(subject))
            if isinstance(counted, int):
                return counted
            headers, body, more = counted
        return subject, self.with_marker_ttl(headers), body, more

    def transformed(self, subject: bytes) -> bytes:
        """What a message that comes on `subject` is stored under."""
        return self._transform.apply(subject) or subject if self._transform is not None else subject

    def with_schedule(self, subject: bytes, headers: bytes, written: dict[bytes, bool]) -> bytes:
        """A message's headers with what a schedule needs. Raises ApiError. `written`: see schedules.checked."""
        if b"\r\nNats-Schedule" not in headers:
            return headers
        from natsc.jetstream.schedules import checked

        return checked(self, subject, headers, written)

    def on_sourced(self, subject: bytes, headers: bytes, body: bytes) -> tuple[bytes, bytes, bytes] | int:
        """What becomes of a message of another stream: all but what was checked there."""
        from natsc.jetstream import rare

        subject = self.transformed(subject)
        if self.config.allow_msg_counter:
            counted = rare.count_sourced(subject, headers, body, self.last_of_counter(subject))
            if isinstance(counted, int):
                return counted
            headers, body = counted
        return subject, self.with_marker_ttl(headers), body

    def with_marker_ttl(self, headers: bytes) -> bytes:
        from natsc.jetstream.rare import with_ttl_at_least

        marker_ttl = self.config.subject_delete_marker_ttl
        return (
            with_ttl_at_least(headers, marker_ttl)
            if marker_ttl > 0 and self.config.max_msgs_per_subject != 1
            else headers
        )

    def last_of_counter(self, subject: bytes) -> tuple[bytes, bytes] | None:
        """Headers and body of a counter's last message."""
        found = self.store.get_bytes(self.last_of(subject))
        self.outbox.end_soon()
        return found[3:] if found is not None else None

    def is_marker(self, headers: bytes) -> bool:
        from natsc.jetstream.api_request import header

        return bool(header(headers, "Nats-Marker-Reason")) or header(headers, "KV-Operation") == "PURGE"

    def store_marker(self, subject: bytes) -> None:
        from natsc.config.gotext import format_duration

        ttl = format_duration(self.config.subject_delete_marker_ttl // _NS * _NS)
        block = f"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: {ttl}\r\nNats-Rollup: sub\r\n\r\n"
        self.store_special(subject, raw(block), b"", b"")

    def on_stored(self, subject: bytes, headers: bytes, body: bytes, seq: int, ts: int, before: int) -> None:
        if self._republish is None:
            return
        target = self._republish.apply(subject)
        if target is None:
            return
        size = f"Nats-Msg-Size: {len(body)}\r\n" if self.config.republish.headers_only else ""
        more = (
            f"Nats-Stream: {self.name}\r\nNats-Subject: {text(subject)}\r\nNats-Sequence: {seq}\r\n"
            f"Nats-Time-Stamp: {format_time(ts)}\r\nNats-Last-Sequence: {before}\r\n{size}\r\n"
        )
        block = (headers[:-2] if headers else b"NATS/1.0\r\n") + raw(more)
        self.outbox.reply_bytes(self.account, target, b"" if size else body, block, durable=self.config.storage == FILE)

    def on_scheduling(self, subject: bytes, headers: bytes, seq: int, ts: int) -> None:
        if self._schedules is not None:
            self._schedules.take(subject, headers, seq, ts)
            return
        from natsc.jetstream.schedules import ended_by

        ended = ended_by(headers)  # of a stream that is copied, where this is the last message of it
        if ended is not None:
            self.purge_before(ended, seq)

    def store_copy(self, subject: bytes, headers: bytes, body: bytes) -> None:
        """Takes what a schedule makes."""
        self.store_special(self.transformed(subject), self.with_marker_ttl(headers), body, b"")

    def learn(self, seq: int, now: int, budget: int) -> int:
        seq = super().learn(seq, now, budget)
        if seq == 0 and self._schedules is not None:
            self._schedules.load()
        return seq

    def read_ttl(self, value: bytes) -> int:
        from natsc.jetstream.rare import parse_ttl

        return parse_ttl(text(value))

    def last_of(self, filter: bytes) -> int:
        """The last sequence on subjects in a filter, 0 for none."""
        self.outbox.end_soon()
        if not has_wildcard(text(filter)):
            return int(self.store.last_at_most(filter, self.store.last_seq))
        return max((last for _, last, _ in self.store.subjects_state(filter).values()), default=0)

    # Age

    def arm_timer(self) -> None:
        when = self.next_expiry()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.set_armed(when > 0)
        if when:
            clock = self.owner.clock
            self._timer = clock.call_later(max(when - clock.wall_ns(), 0) / _NS, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self.expire(self.owner.clock.wall_ns())
        self.arm_timer()
        self.owner.engine.end_turn()

    # What takes several turns

    def sweep_later(self) -> None:
        self._go_on_with(self.sweep)

    def enforce_later(self) -> None:
        self._go_on_with(self.enforce_more)

    def roll_up_later(self, subject: bytes, seq: int, reply: bytes, answer: bytes, failure: bytes) -> None:
        begun = self.rollups.get(subject)
        if begun is None:
            begun = self.rollups[subject] = (Purge(self.store, subject, seq, 0), [])
            if len(self.rollups) == 1:
                self.owner.clock.call_later(0, self._roll_on)
        else:
            begun[0].reach(seq)
        begun[1].append((reply, answer, failure))

    def _roll_on(self) -> None:
        """Goes on with the rollup that came first. It is acknowledged when all that it removes has gone."""
        if self.closed:
            return
        subject, (purge, answers) = next(iter(self.rollups.items()))
        if self.purge_step(purge, STEP):
            del self.rollups[subject]
            self.tell_purged(subject)
            for reply, answer, failure in answers:
                self.answer_text(reply, answer, failure)
        if self.rollups:
            self.owner.clock.call_later(0, self._roll_on)
        self.owner.engine.end_turn()

    def _read_again(self) -> None:
        """Learns from the messages what they weren't asked for until now. Nothing is scheduled until all are read."""
        under_way = self.unread > 0
        self.unread = max(self.begin_learning(self.owner.now()), 1)
        if not under_way:
            self._read_on()

    def _read_on(self) -> None:
        if self.closed:
            return
        self.unread = self.learn(self.unread, self.owner.now(), _READ_STEP)
        self.outbox.end_soon()
        if self.unread:
            self.owner.clock.call_later(0, self._read_on)
            return
        if self._schedules is not None:
            self._schedules.start()
        self.arm_timer()
        self.owner.engine.end_turn()

    def reclaim_later(self) -> None:
        self.owner.clock.call_later(0, self.reclaim)

    def _go_on_with(self, step: Callable[[], None]) -> None:
        """Has a step of what takes several turns done in the next one; a restart goes on with it too."""

        def run() -> None:
            step()
            self._note_unfinished(self.enforcing or self.sweep_at > 0)
            self.owner.engine.end_turn()

        self._note_unfinished(True)
        self.owner.clock.call_later(0, run)

    def _note_unfinished(self, unfinished: bool) -> None:
        if unfinished != self._unfinished and not self.closed and not self.store.error:
            self._unfinished = unfinished
            self.save()

    def finish(self) -> None:
        """Goes on with what a restart has cut short."""
        self._unfinished = True
        self.enforce(True)
        if self.config.retention == INTEREST:
            self.drop_unneeded()
        self._note_unfinished(self.enforcing or self.sweep_at > 0)

    # Consumers

    def consumers(self) -> list[Any]:
        return list(self.by_name.values())

    def consumer(self, name: str) -> Any:
        return self.by_name.get(name)

    def create_consumer(self, name: str, config: ConsumerConfig) -> Any:
        created = self.owner.now()
        consumer = self.open_consumer(name, config, created)
        self.save_consumer(consumer)
        if self.owner.stream(self.name) is self:  # while it is restored, nobody hears of it
            self._tell_of_consumer(name, advisories.CREATE)
        return consumer

    def open_consumer(self, name: str, config: ConsumerConfig, created: int) -> Any:
        """A consumer with what is kept of it."""
        try:
            from natsc.jetstream.consumers import ManagedConsumer
        except ImportError:
            raise StoreError("natsc does not support consumers yet") from None
        consumer = self.by_name[name] = ManagedConsumer(self, config, name, created)
        return consumer

    def save_consumer(self, consumer: Any) -> None:
        """Keeps a consumer's configuration, with the next batch."""
        if self.config.storage == FILE and not consumer.config.mem_storage and not consumer.config.direct:
            body = with_checksum(encode({"config": consumer.config.as_json(), "created": consumer.created}))
            if not self.store.consumer_put_bytes(CONSUMER_KEY + raw(consumer.name), body):
                raise StoreError("the store has failed")
            self.outbox.end_soon()

    def forget_consumer(self, consumer: Any) -> None:
        """A consumer is deleted: called by it, once it has left."""
        self.by_name.pop(consumer.name, None)
        if self.config.storage == FILE and not self.closed:
            failpoint("consumer.deleted")
            self.store.consumer_delete_bytes(CONSUMER_KEY + raw(consumer.name))
            self.outbox.end_soon()
        self._tell_of_consumer(consumer.name, advisories.DELETE)

    def _tell_of_consumer(self, name: str, action: str) -> None:
        self.owner.announce(lambda: advisories.consumer_action(self.owner, self.name, name, action))

    # What is asked about messages

    def state(self, deleted: bool = False) -> StreamState:
        now = self.store.state_dict()
        state = StreamState(
            messages=now["msgs"],
            bytes=now["bytes"],
            first_seq=now["first_seq"],
            first_ts=Time(now["first_ts_ns"] or ZERO),
            last_seq=now["last_seq"],
            last_ts=Time(now["last_ts_ns"] or ZERO),
            num_subjects=now["num_subjects"],
            num_deleted=now["num_deleted"],
            consumer_count=sum(not one.config.direct for one in self.by_name.values()),
        )
        if deleted and state.num_deleted:
            state.deleted = self.store.missing_seqs()
        if self.store.num_lost:
            state.lost = LostStreamData(msgs=sorted({seq for seq, _ in self.store.lost}))
        self.outbox.end_soon()
        return state

    def subjects_totals(self, filter: str) -> Steps[dict[str, int]]:
        if not has_wildcard(filter):
            count = self.count_of(raw(filter))
            return {filter: count} if count else {}
        walk = SubjectWalk(self.store, raw(filter))
        while not walk.step(STEP):
            yield
        return {text(subject): count for subject, count in walk.found.items()}

    def mirror_info(self) -> SourceInfo | None:
        mirror = self.sourcing.mirror if self.sourcing is not None else None
        return mirror.info() if mirror is not None else None

    def sources_info(self) -> list[SourceInfo]:
        return [origin.info() for origin in self.sourcing.sources.values()] if self.sourcing is not None else []

    def purge_before(self, subject: bytes, seq: int) -> None:
        """Removes what a literal subject has below a sequence."""
        purge = Purge(self.store, subject, seq, 0)
        if not self.purge_step(purge, STEP):
            self.roll_up_later(subject, seq, b"", b"", b"")
        elif purge.purged:
            self.tell_purged(subject)

    def purge(self, filter: str, seq: int, keep: int) -> Steps[int]:
        if self.closed:
            raise StoreError("stream closed")
        purge = Purge(self.store, raw(filter), seq, keep)
        while not self.purge_step(purge, STEP):
            yield
            if self.closed:
                raise StoreError("stream closed")
        failpoint("stream.purged")
        self.tell_purged(raw(filter))
        self.show_all()
        return purge.purged

    def remove(self, seq: int, erase: bool) -> bool:
        store = self.store
        if self.config.storage == FILE and not (store.msgs and 0 < store.first_seq <= seq <= store.last_seq):
            raise StoreError("stream store EOF" if seq > store.last_seq else "no message found")
        return self.remove_message(seq)

    def _message(self, found: tuple[int, int, bytes, bytes, bytes] | None) -> StoredMessage | None:
        self.outbox.end_soon()
        if found is None:
            return None
        seq, time, subject, headers, data = found
        return StoredMessage(text(subject), seq, headers, data, time)

    def message(self, seq: int) -> StoredMessage | None:
        return self._message(self.store.get_bytes(seq))

    def next_message(self, filter: str, seq: int) -> StoredMessage | None:
        found, _ = self.store.next_bytes(max(seq, 1), raw(filter or ">"))
        return self._message(found)

    def last_message(self, subject: str) -> StoredMessage | None:
        # Of everything it is the one with the last sequence, or none.
        seq = self.store.last_seq if subject in ("", ">") else self.last_of(raw(subject))
        return self._message(self.store.get_bytes(seq)) if seq else None

    def last_messages(self, filters: list[str], up_to: int, limit: int) -> list[StoredMessage] | None:
        self.outbox.end_soon()
        chosen: set[int] = set()
        for filter in filters:
            for subject, (first, last, _) in self.store.subjects_state(raw(filter)).items() if filter else ():
                if last > up_to:
                    last = self.store.last_at_most(subject, up_to) if first <= up_to else 0
                if last:
                    chosen.add(last)
            if len(chosen) > limit:
                return None
        found = (self.message(each) for each in sorted(chosen))
        return [message for message in found if message is not None]

    def seq_from_time(self, time: int) -> int:
        self.outbox.end_soon()
        return int(self.store.from_time(wrap_int64(time)))

    def num_pending(self, seq: int, filter: str) -> int:
        self.outbox.end_soon()
        return int(self.store.pending(seq, (raw(filter),) if filter else ()))

    def snapshot(self, request: Any, client: dict[str, Any] | None) -> StreamState:
        from natsc.jetstream.snapshot import Snapshot

        return Snapshot(self, request, client).state


def identity(created: int) -> str:
    """Eight characters that tell a stream from an earlier one of its name: a hash of when it was made."""
    return short_hash(format_time(created))
