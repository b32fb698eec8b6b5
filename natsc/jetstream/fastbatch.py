"""Fast batches: messages stored one by one as they come, and acknowledged many at a time.

Most of them never come here: see natsc/jetstream/fastpath.pxd.

Where a batch is, which message of it this is, and how its publisher wants it, stands in the reply subject:
<inbox>.<batch>.<flow>.<gaps>.<number>.<operation>.$FI. The server says how often it acknowledges (flow), what went
missing, and at the end how many messages it has. With gaps "fail" the batch ends where one is missing or refused.
"""

from __future__ import annotations

from natsc.jetstream import api_errors as errors
from natsc.jetstream import rare
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.api_request import header
from natsc.jetstream.batch import ID_MAX, TIMEOUT_NS, Expiry, Staged, check_room
from natsc.jetstream.fastpath import FastPath
from natsc.jetstream.schema import encode
from natsc.jetstream.versioning import REQUIRED_LEVEL_HEADER, level_too_high

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.jetstream.batch import Message
    from natsc.jetstream.streams import ManagedStream

_START, _APPEND, _COMMIT, _COMMIT_AT_END, _PING = range(5)
_PER_STREAM, _IN_ALL = 1000, 50_000
# Messages between two acknowledgements: where nothing is said, at most, and for all batches of a stream together.
_FLOW, _FLOW_MAX, _FLOW_SHARED = 10, 0xFFFF, 500
_SEQ_MAX = (1 << 64) - 1


class Part:
    """What a reply subject says about its message."""

    __slots__ = ("at_end", "commits", "flow", "gaps", "id", "pings", "seq")

    def __init__(self, batch_id: bytes, flow: int, gaps: bool, seq: int, operation: int) -> None:
        self.id = batch_id
        self.flow = flow
        self.gaps = gaps
        self.seq = seq
        self.commits = operation in (_COMMIT, _COMMIT_AT_END)
        self.at_end = operation == _COMMIT_AT_END
        self.pings = operation == _PING


def parse(reply: bytes) -> Part | None:
    """None where it isn't of that form."""
    tokens = reply[: -len(rare.FAST)].rsplit(b".", 5)
    if len(tokens) != 6:
        return None
    _, batch_id, flow, gaps, number, kind = tokens
    operation, seq = _number(kind), _number(number)
    if not 0 <= operation <= _PING or not 0 < seq < _SEQ_MAX or gaps not in (b"ok", b"fail"):
        return None
    if (seq == 1 and operation in (_APPEND, _COMMIT_AT_END)) or (operation == _START and seq != 1):
        return None
    every = _number(flow)
    return Part(batch_id, min(every, _FLOW_MAX) if every > 0 else _FLOW, gaps == b"ok", seq, operation)


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) <= 20 else -1


class Batch:
    """One that isn't committed yet."""

    __slots__ = (
        "commits", "every", "every_max", "expiry", "flow_seq", "gaps", "seq", "stored_seq", "stream_seq", "waiting",
    )  # fmt: skip

    def __init__(self, part: Part, every: int, expiry: Expiry) -> None:
        self.gaps = part.gaps
        self.every = every  # messages between two acknowledgements
        self.every_max = part.flow
        self.expiry = expiry
        self.seq = 0  # of the last message that came
        self.stored_seq = 0  # of the last one that was stored
        self.flow_seq = 0  # of the last one that was acknowledged
        self.stream_seq = 0  # the last sequence of the stream that is the batch's
        self.waiting = 0  # messages that were to be stored, and haven't been
        self.commits = False


class FastBatches:
    """The open fast batches of a stream."""

    def __init__(self, stream: ManagedStream) -> None:
        self.stream = stream
        self.open: dict[bytes, Batch] = {}
        self._at_hand: Batch | None = None  # the one whose messages may take the short way
        self._path = FastPath()
        limits = stream.owner.batch_limits
        self.per_stream: int = limits.max_batch_inflight_per_stream or _PER_STREAM
        self.in_all: int = limits.max_batch_inflight_total or _IN_ALL
        self.timeout_ns: int = limits.max_batch_timeout or TIMEOUT_NS

    def take(self, message: Message, reply: bytes, part_of: bytes) -> None:
        """A message whose reply subject, as its publisher gave it, is `part_of`."""
        self._catch_up()
        part = parse(part_of)
        try:
            check_room(self.stream, message)
            if not self.stream.config.allow_batched:
                raise ApiError(errors.BATCH_PUBLISH_DISABLED)
            if part is None:
                raise ApiError(errors.BATCH_PUBLISH_INVALID_PATTERN)
            if len(part.id) > ID_MAX:
                raise ApiError(errors.BATCH_PUBLISH_INVALID_BATCH_ID)
            batch = self._find(part)
            message = self._without_level(part, message)
        except ApiError as error:
            self.stream.answer_error(reply, error)
            return
        batch.expiry.push_back()
        if part.pings:
            self._ping(part, batch, reply)
        elif not batch.commits:
            self._add(part, batch, message, reply)
        if reply == part_of and self.open.get(part.id) is batch:
            self._go_on(part, batch, reply)

    def _go_on(self, part: Part, batch: Batch, reply: bytes) -> None:
        """Lets messages take the short way until there is something to say."""
        if part.seq != batch.seq or batch.seq != batch.stored_seq or batch.waiting or batch.commits:
            return
        prefix = reply.rsplit(b".", 3)[0] + b"."
        self._path.begin(prefix, batch.seq, batch.flow_seq + batch.every - batch.seq - 1)
        self._at_hand = batch
        self.stream.fast = self._path

    def _catch_up(self) -> None:
        """Learns what has taken the short way."""
        batch, path = self._at_hand, self._path
        if batch is None:
            return
        self._at_hand = None
        path.end()
        if path.seq > batch.seq:
            batch.seq = batch.stored_seq = path.seq
            batch.stream_seq = path.stream_seq
            batch.expiry.push_back(path.time_ns)

    def close(self) -> None:
        """Forgets them all."""
        self._catch_up()
        for batch_id in list(self.open):
            self._drop(batch_id)

    def _find(self, part: Part) -> Batch:
        batch = self.open.get(part.id)
        if batch is not None:
            return batch
        if part.seq != 1 or part.pings:
            raise ApiError(errors.BATCH_PUBLISH_UNKNOWN_BATCH_ID)
        service = self.stream.owner.service
        if len(self.open) >= self.per_stream or service.open_fast_batches >= self.in_all:
            raise ApiError(errors.BATCH_PUBLISH_TOO_MANY_INFLIGHT)
        # The first may have it as it likes; others get faster as they go.
        every = 1 if self.open else min(part.flow, _FLOW_SHARED)
        expiry = Expiry(self.stream, self.timeout_ns, lambda: self._drop(part.id), self._catch_up)
        batch = self.open[part.id] = Batch(part, every, expiry)
        service.open_fast_batches += 1
        return batch

    def _drop(self, batch_id: bytes) -> None:
        batch = self.open.pop(batch_id, None)
        if batch is not None:
            self.stream.owner.service.open_fast_batches -= 1
            batch.expiry.cancel()

    def _without_level(self, part: Part, message: Message) -> Message:
        subject, headers, body = message
        level = header(headers, REQUIRED_LEVEL_HEADER) if headers else None
        if not level:
            return message
        if level_too_high(level):
            self._drop(part.id)
            raise ApiError(errors.REQUIRED_API_LEVEL)
        return subject, rare.without(headers, REQUIRED_LEVEL_HEADER), body

    def _ping(self, part: Part, batch: Batch, reply: bytes) -> None:
        """Says again how far it is; and what has gone missing until now."""
        told = False
        if part.seq > batch.seq:
            self._tell_gap(reply, batch.seq + 1, part.seq + 1)
            if batch.gaps:
                batch.seq = part.seq
                if not batch.waiting:
                    batch.stored_seq = batch.seq
                told = self._tell_flow(batch, reply)
            else:
                told = self._commit(part, batch, reply)
        if not told:
            self._tell(reply, {"type": "ack", "seq": batch.flow_seq, "msgs": batch.every})

    def _add(self, part: Part, batch: Batch, message: Message, reply: bytes) -> None:
        expected = batch.seq + 1
        if part.seq != expected:
            self._tell_gap(reply, expected, part.seq)
            if not batch.gaps or part.seq < expected:
                self._commit(part, batch, reply)
                return
        batch.seq = part.seq
        if part.commits:
            if part.at_end:
                batch.seq -= 1
                if not batch.waiting:
                    batch.stored_seq = batch.seq
            self._commit(part, batch, reply)
            if part.at_end:
                return
        elif part.seq == 1 and not self.stream.config.no_ack:
            self._tell(reply, {"type": "ack", "seq": 0, "msgs": batch.every})
        try:
            message = Staged(self.stream).check(message)
        except ApiError as error:
            self._refuse(part, batch, message, reply, error)
            return
        batch.waiting += 1
        self._store(part, batch, message, reply)

    def _refuse(self, part: Part, batch: Batch, message: Message, reply: bytes, error: ApiError) -> None:
        """A message that isn't stored; one that is known already is passed over."""
        known = 0
        is_duplicate = error.err_code == errors.ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE
        if is_duplicate:
            known = self.stream.seq_of_id(_raw(header(message[1], "Nats-Msg-Id") or ""))
            if not batch.waiting:
                batch.stored_seq = part.seq
                self._tell_flow(batch, reply)
            if not part.commits:
                return
        if not part.gaps and batch.seq == 1:
            self._drop(part.id)
            if is_duplicate:
                more = b',"duplicate": true,"batch":%b,"count":%d' % (encode(_text(part.id)), part.seq)
                self._send(reply, self.stream.ack_text(known, more))
            else:
                self._send(reply, self.stream.error_text(error))
            return
        if not is_duplicate:
            self._tell(reply, {"type": "err", "seq": part.seq, "error": error.as_json()})
            if part.gaps and not part.commits:
                return
            batch.seq -= 1
            if not batch.waiting:
                batch.stored_seq = batch.seq
        self._commit(part, batch, reply)

    def _store(self, part: Part, batch: Batch, message: Message, reply: bytes) -> None:
        stream, (subject, headers, body) = self.stream, message
        expected = header(headers, "Nats-Expected-Last-Msg-Id") if headers else None
        if expected and _raw(expected) != stream.last_msg_id:
            stream.answer_error(reply, ApiError(errors.STREAM_WRONG_LAST_MSG_ID, id=_text(stream.last_msg_id)))
            return
        before = stream.store.last_seq
        stream.store_checked(subject, headers, body, b"", b"")
        if stream.store.last_seq == before:
            stream.answer_error(reply, ApiError(errors.STREAM_STORE_FAILED, err=stream.store_error()))
            return
        batch.waiting -= 1
        batch.stream_seq = stream.store.last_seq
        batch.stored_seq = part.seq if batch.waiting else batch.seq
        if batch.commits and batch.seq == batch.stored_seq:
            self._finish(part, batch, reply)
        else:
            self._tell_flow(batch, reply)

    def _commit(self, part: Part, batch: Batch, reply: bytes) -> bool:
        """Ends the batch: at once where all of it is stored, else with its last message. Whether it has ended."""
        batch.commits = True
        if batch.seq == batch.stored_seq:
            self._finish(part, batch, reply)
            return True
        return False

    def _finish(self, part: Part, batch: Batch, reply: bytes) -> None:
        self._drop(part.id)
        more = b',"batch":%b,"count":%d' % (encode(_text(part.id)), batch.seq)
        self._send(reply, self.stream.ack_text(batch.stream_seq, more))

    def _tell_flow(self, batch: Batch, reply: bytes) -> bool:
        """Acknowledges where it is time to, and adapts how often that is. Whether it did."""
        steps = (batch.stored_seq - batch.flow_seq) // batch.every
        if steps < 1:
            return False
        batch.flow_seq += steps * batch.every
        most = min(max(_FLOW_SHARED // max(len(self.open), 1), 1), batch.every_max)
        if batch.every < most:
            batch.every = min(batch.every * 2, most)
        elif batch.every > most:
            batch.every = max(batch.every // 2, most)
        self._tell(reply, {"type": "ack", "seq": batch.flow_seq, "msgs": batch.every})
        return True

    def _tell_gap(self, reply: bytes, expected: int, got: int) -> None:
        self._tell(reply, {"type": "gap", "last_seq": expected, "seq": got})

    def _tell(self, reply: bytes, members: dict[str, object]) -> None:
        self._send(reply, encode(members))

    def _send(self, reply: bytes, text: bytes) -> None:
        """Behind what is stored; also in streams that acknowledge nothing."""
        self.stream.send_behind(reply, text)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
