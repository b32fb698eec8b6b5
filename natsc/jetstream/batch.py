"""Atomic batches: messages that are stored all together, or not at all.

A batch is collected in memory until its commit; then every message is checked against the stream and against those of
the batch before it, and only if all may be stored they are, in one turn, and so in one transaction of the store.
"""

from __future__ import annotations

from natsc.jetstream import advisories, rare
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.api_request import header
from natsc.jetstream.stream_config import FILE
from natsc.jetstream.versioning import REQUIRED_LEVEL_HEADER, level_too_high

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from natsc.clock import Timer
    from natsc.jetstream.streams import ManagedStream

    Message = tuple[bytes, bytes, bytes]  # subject, headers, body

ID, SEQUENCE, COMMIT = "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"
_NS = 1_000_000_000
ID_MAX = 64
_HEADERS_MAX = 65535
TIMEOUT_NS = 10 * _NS
_PER_STREAM, _IN_ALL, _SIZE = 50, 1000, 1000


class Expiry:
    """Calls back once nothing has pushed it back for so long. `look`: asked before, whether something has."""

    __slots__ = ("_callback", "_clock", "_due", "_look", "_stream", "_timeout_ns", "_timer")

    def __init__(
        self,
        stream: ManagedStream,
        timeout_ns: int,
        callback: Callable[[], object],
        look: Callable[[], object] = lambda: None,
    ) -> None:
        self._stream = stream
        self._clock = stream.owner.clock
        self._timeout_ns = timeout_ns
        self._callback = callback
        self._look = look
        self._timer: Timer | None = None
        self._due = 0
        self.push_back()

    def push_back(self, since_ns: int = 0) -> None:
        """`since_ns`: what has happened then does so, now if 0."""
        self._due = (since_ns or self._clock.now_ns()) + self._timeout_ns
        if self._timer is None:
            self._timer = self._clock.call_later(self._timeout_ns / _NS, self._fire)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _fire(self) -> None:
        self._look()
        left = self._due - self._clock.now_ns()
        if left > 0:
            self._timer = self._clock.call_later(left / _NS, self._fire)
            return
        self._callback()
        self._stream.engine.end_turn()


def check_room(stream: ManagedStream, message: Message) -> None:
    """What is looked at before all else: is there room for the message at all? Raises ApiError."""
    subject, headers, body = message
    config = stream.config
    if config.sealed:
        raise ApiError(errors.STREAM_SEALED)
    server, account = stream.owner.service.space, stream.owner.space
    if config.storage == FILE:
        in_server, in_account = (server.storage, server.max_storage), (account.storage, account.max_storage)
    else:
        in_server, in_account = (server.memory, server.max_memory), (account.memory, account.max_memory)
    if 0 <= in_server[1] < in_server[0]:
        raise ApiError(errors.INSUFFICIENT_RESOURCES)
    if 0 <= in_account[1] < in_account[0] + stream.stored_size(len(subject), len(headers), len(body)):
        raise ApiError(stream.owner.full)
    if 0 <= config.max_msg_size < len(headers) + len(body):
        raise ApiError(errors.STREAM_MESSAGE_EXCEEDS_MAXIMUM)
    if stream.is_behind():
        raise ApiError(errors.STREAM_TOO_MANY_REQUESTS)


class Batch:
    """One that isn't committed yet."""

    __slots__ = ("expiry", "messages", "seq")

    def __init__(self, expiry: Expiry) -> None:
        self.messages: list[Message] = []
        self.seq = 0
        self.expiry = expiry


class Batches:
    """The open batches of a stream."""

    def __init__(self, stream: ManagedStream) -> None:
        self.stream = stream
        self.open: dict[str, Batch] = {}
        limits = stream.owner.batch_limits
        self.size_max: int = limits.max_batch_size or _SIZE
        self.per_stream: int = limits.max_batch_inflight_per_stream or _PER_STREAM
        self.in_all: int = limits.max_batch_inflight_total or _IN_ALL
        self.timeout_ns: int = limits.max_batch_timeout or TIMEOUT_NS

    def take(self, batch_id: str, message: Message, reply: bytes) -> None:
        """A message of a batch: keeps it, or stores the whole batch, and answers."""
        try:
            committed = self._take(batch_id, message, reply)
        except ApiError as error:
            self.stream.answer_error(reply, error)
            return
        if not committed:
            self.stream.answer_text(reply, b"")

    def close(self) -> None:
        """Forgets them all."""
        for batch_id in list(self.open):
            self._drop(batch_id)

    def _take(self, batch_id: str, message: Message, reply: bytes) -> bool:
        subject, headers, body = message
        check_room(self.stream, message)
        if not self.stream.config.allow_atomic:
            raise ApiError(errors.ATOMIC_PUBLISH_DISABLED)
        if len(batch_id.encode("utf-8", "surrogateescape")) > ID_MAX:
            raise ApiError(errors.ATOMIC_PUBLISH_INVALID_BATCH_ID)
        number = header(headers, SEQUENCE) or ""
        digits = number.lstrip("0") or number[:1]
        if not digits.isascii() or not digits.isdigit() or len(digits) > 20 or int(digits) > rare.SEQ_MAX:
            raise ApiError(errors.ATOMIC_PUBLISH_MISSING_SEQ)
        seq = int(digits)
        commit = header(headers, COMMIT)
        at_end = commit == "eob"
        batch = self._find(batch_id, seq, seq - at_end)
        if commit is not None and commit not in ("1", "eob"):
            self._drop(batch_id)
            raise ApiError(errors.ATOMIC_PUBLISH_INVALID_BATCH_COMMIT)
        if header(headers, REQUIRED_LEVEL_HEADER):
            if level_too_high(header(headers, REQUIRED_LEVEL_HEADER)):
                self._abandon(batch_id, advisories.BATCH_UNSUPPORTED)
                raise ApiError(errors.REQUIRED_API_LEVEL)
            headers = rare.without(headers, REQUIRED_LEVEL_HEADER)
        batch.expiry.push_back()
        batch.seq += 1
        if batch.seq != seq or (seq == 1 and at_end):
            self._abandon(batch_id, advisories.BATCH_INCOMPLETE)
            raise ApiError(errors.ATOMIC_PUBLISH_INCOMPLETE_BATCH)
        if seq - at_end > self.size_max:
            self._abandon(batch_id, advisories.BATCH_LARGE)
            raise ApiError(errors.ATOMIC_PUBLISH_TOO_LARGE_BATCH, size=self.size_max)
        if not at_end:
            batch.messages.append((subject, headers, body))
        if commit is None:
            return False
        self._drop(batch_id)
        self._commit(batch_id, batch, reply, at_end)
        return True

    def _find(self, batch_id: str, seq: int, size: int) -> Batch:
        """The open batch, or a new one. Raises ApiError."""
        batch = self.open.get(batch_id)
        if batch is not None:
            return batch
        if seq != 1:
            if not 0 <= size <= self.size_max:
                raise ApiError(errors.ATOMIC_PUBLISH_TOO_LARGE_BATCH, size=self.size_max)
            raise ApiError(errors.ATOMIC_PUBLISH_INCOMPLETE_BATCH)
        if len(self.open) >= self.per_stream or self.stream.owner.service.open_batches >= self.in_all:
            raise ApiError(errors.ATOMIC_PUBLISH_TOO_MANY_INFLIGHT)
        expiry = Expiry(self.stream, self.timeout_ns, lambda: self._abandon(batch_id, advisories.BATCH_TIMEOUT))
        batch = self.open[batch_id] = Batch(expiry)
        self.stream.owner.service.open_batches += 1
        return batch

    def _drop(self, batch_id: str) -> None:
        batch = self.open.pop(batch_id)
        self.stream.owner.service.open_batches -= 1
        batch.expiry.cancel()

    def _abandon(self, batch_id: str, reason: str) -> None:
        self._drop(batch_id)
        owner = self.stream.owner
        owner.announce(lambda: advisories.batch_abandoned(owner, "", self.stream.name, batch_id, reason))

    def _commit(self, batch_id: str, batch: Batch, reply: bytes, at_end: bool) -> None:
        """Raises ApiError where one of the messages may not be stored: then none is."""
        stream = self.stream
        staged = Staged(stream)
        checked = []
        for message in batch.messages:
            if header(message[1], "Nats-Expected-Last-Msg-Id"):
                raise ApiError(errors.ATOMIC_PUBLISH_UNSUPPORTED_HEADER_BATCH, header="Nats-Expected-Last-Msg-Id")
            checked.append(staged.check(message))
        count = len(checked)
        for number, (subject, headers, body) in enumerate(checked, 1):
            more, answer = b"", b""
            if number == count:
                from natsc.jetstream.schema import encode

                answer, more = reply, b',"batch":%b,"count":%d' % (encode(batch_id), count)
                if at_end:
                    headers = headers[:-2] + f"{COMMIT}: 1\r\n\r\n".encode()
            stream.store_checked(subject, headers, body, answer, more)


class Staged:
    """What the stream would be like with the messages of a batch that are checked already."""

    def __init__(self, stream: ManagedStream) -> None:
        self.stream = stream
        self.ids: set[str] = set()
        self.written: dict[bytes, int] = {}  # messages by subject
        self.counters: dict[bytes, tuple[bytes, bytes]] = {}  # the last headers and body of a counter
        self.schedules: dict[bytes, bool] = {}  # subjects: whether their last message is a schedule
        self.size = 0
        self.count = 0

    def check(self, message: Message) -> Message:
        """The message as it is stored. Raises ApiError."""
        stream, (subject, headers, body) = self.stream, message
        subject = stream.transformed(subject)
        headers = rare.stripped(headers)
        if headers:
            self._check_first(headers, body)
        if stream.config.allow_msg_counter:
            counted = rare.count(headers, self.counters.get(subject) or stream.last_of_counter(subject))
            if isinstance(counted, int):
                raise ApiError(counted)
            headers, body, _ = counted
            self.counters[subject] = headers, body
        if headers:
            self._check_expectations(subject, headers)
            headers = stream.with_schedule(subject, headers, self.schedules)
            self._check_rollup(subject, header(headers, "Nats-Rollup"))
        self.count += 1
        self.schedules[subject] = bool(header(headers, "Nats-Schedule"))
        self.written[subject] = self.written.get(subject, 0) + 1
        self.size += stream.stored_size(len(subject), len(headers), len(body))
        self._check_room(subject, bool(header(headers, "Nats-Rollup")))
        return subject, stream.with_marker_ttl(headers), body

    def _check_first(self, headers: bytes, body: bytes) -> None:
        config = self.stream.config
        if len(headers) > _HEADERS_MAX:
            raise ApiError(errors.STREAM_HEADER_EXCEEDS_MAXIMUM)
        refused = rare.refusal(headers, body, config)
        if refused:
            raise ApiError(refused)
        if (header(headers, "Nats-Expected-Stream") or config.name) != config.name:
            raise ApiError(errors.STREAM_NOT_MATCH)
        ttl = header(headers, "Nats-TTL")
        if ttl:
            if not config.allow_msg_ttl:
                raise ApiError(errors.MESSAGE_TTL_DISABLED)
            if rare.parse_ttl(ttl) == rare.INVALID:
                raise ApiError(errors.MESSAGE_TTL_INVALID)
        self._check_id(header(headers, "Nats-Msg-Id"))
        if rare.is_sourced(headers):
            raise ApiError(errors.MESSAGE_SOURCE_HDR_NOT_ALLOWED)

    def _check_id(self, message_id: str | None) -> None:
        if not message_id:
            return
        if message_id in self.ids or self.stream.seq_of_id(message_id.encode("utf-8", "surrogateescape")):
            raise ApiError(errors.ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE)
        self.ids.add(message_id)

    def _check_expectations(self, subject: bytes, headers: bytes) -> None:
        expected = header(headers, "Nats-Expected-Last-Sequence")
        if expected:
            last = self.stream.store.last_seq + self.count
            if rare.parse_number(expected) != last:
                raise ApiError(errors.STREAM_WRONG_LAST_SEQUENCE, seq=last)
            if self.written:
                raise ApiError(errors.STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
        expected = header(headers, "Nats-Expected-Last-Subject-Sequence")
        filter = header(headers, "Nats-Expected-Last-Subject-Sequence-Subject")
        if expected:
            asked = filter.encode("utf-8", "surrogateescape") if filter else subject
            if asked in self.written:
                raise ApiError(errors.STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
            last = self.stream.last_of(asked)
            if rare.parse_number(expected) != last:
                raise ApiError(errors.STREAM_WRONG_LAST_SEQUENCE, seq=last)
        elif filter:
            raise ApiError(errors.STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID)

    def _check_rollup(self, subject: bytes, rollup: str | None) -> None:
        if not rollup:
            return
        config, kind, wrong = self.stream.config, rollup.lower(), ""
        if not config.allow_rollup_hdrs or config.deny_purge:
            wrong = "rollup not permitted"
        elif kind == "sub":
            wrong = "batch rollup sub invalid" if subject in self.written else ""
        elif kind == "all":
            wrong = "batch rollup all invalid" if self.written else ""
        else:
            from natsc.jetstream.streams import rollup_error

            wrong = rollup_error(rollup.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        if wrong:
            raise ApiError(errors.STREAM_ROLLUP_FAILED, err=wrong)

    def _check_room(self, subject: bytes, rolls_up: bool) -> None:
        stream, config = self.stream, self.stream.config
        if config.discard != "new":
            return
        full = ""
        if 0 < config.max_msgs < stream.store.msgs + self.count:
            full = "maximum messages exceeded"
        elif 0 < config.max_bytes < stream.store.bytes + self.size:
            full = "maximum bytes exceeded"
        elif (
            config.discard_new_per_subject
            and not rolls_up
            and 0 < config.max_msgs_per_subject < stream.count_of(subject) + self.written[subject]
        ):
            full = "maximum messages per subject exceeded"
        if full:
            raise ApiError(errors.STREAM_STORE_FAILED, err=full)
