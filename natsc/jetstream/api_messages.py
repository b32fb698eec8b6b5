"""The $JS.API operations on single messages: STREAM.MSG.GET, STREAM.MSG.DELETE and the direct gets.

A direct get is answered with messages instead of JSON: `direct_get` yields them, in order, the last one being a status
where the request asked for more than one.
"""

from __future__ import annotations

from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError, api_error
from natsc.jetstream.api_request import Reply, Request, find_stream, header_block, read_required
from natsc.jetstream.backend import StoreError
from natsc.jetstream.gotime import Time, format_time
from natsc.jetstream.schema import (
    BOOL,
    INT,
    OPTIONAL_TIME,
    STRING,
    STRINGS,
    UINT64,
    DecodeError,
    Field,
    Record,
    decode_one,
)
from natsc.jetstream.versioning import REQUIRED_LEVEL_HEADER, level_too_high

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from natsc.jetstream.backend import Backend, Stream
    from natsc.jetstream.stream_config import StoredMessage

MULTI_LIMIT = 1024


class GetRequest(Record):
    __slots__ = (
        "batch", "last_by_subj", "max_bytes", "multi_last", "next_by_subj", "no_hdr", "seq", "start_time",
        "up_to_seq", "up_to_time",
    )  # fmt: skip
    GO_NAME = "JSApiMsgGetRequest"
    FIELDS = (
        Field("seq", UINT64),
        Field("last_by_subj", STRING),
        Field("next_by_subj", STRING),
        Field("batch", INT),
        Field("max_bytes", INT),
        Field("start_time", OPTIONAL_TIME),
        Field("multi_last", STRINGS),
        Field("up_to_seq", UINT64),
        Field("up_to_time", OPTIONAL_TIME),
        Field("no_hdr", BOOL),
    )
    seq: int
    last_by_subj: str
    next_by_subj: str
    batch: int
    max_bytes: int
    start_time: Time | None
    multi_last: list[str]
    up_to_seq: int
    up_to_time: Time | None
    no_hdr: bool

    def conflicts(self) -> bool:
        """Says it in two ways at once which message is meant?"""
        return bool(
            (self.seq > 0 and (self.last_by_subj or self.start_time is not None))
            or (self.last_by_subj and (self.next_by_subj or self.start_time is not None))
        )


class DeleteRequest(Record):
    __slots__ = ("no_erase", "seq")
    GO_NAME = "JSApiMsgDeleteRequest"
    FIELDS = (Field("seq", UINT64, omit_empty=False), Field("no_erase", BOOL))
    seq: int
    no_erase: bool


def get(request: Request, backend: Backend) -> dict[str, Any]:
    body = read_required(request, backend, GetRequest())
    nothing = not (body.seq or body.last_by_subj or body.next_by_subj or body.start_time is not None)
    if body.batch > 0 or body.max_bytes > 0 or nothing or body.conflicts():
        raise ApiError(errors.BAD_REQUEST)
    stream = find_stream(backend, request.names[0])
    seq = body.seq if body.start_time is None else stream.seq_from_time(body.start_time.ns)
    if body.next_by_subj:
        message = stream.next_message(body.next_by_subj, seq)
    elif seq > 0:
        message = stream.message(seq)
    else:
        message = stream.last_message(body.last_by_subj)
    if message is None:
        raise ApiError(errors.NO_MESSAGE_FOUND)
    return {"message": message.as_json(not body.no_hdr)}


def delete(request: Request, backend: Backend) -> dict[str, Any]:
    body = read_required(request, backend, DeleteRequest())
    stream = find_stream(backend, request.names[0])
    if stream.config.sealed:
        raise ApiError(errors.STREAM_SEALED)
    if stream.config.deny_delete:
        raise ApiError(errors.STREAM_MSG_DELETE_FAILED, err="message delete not permitted")
    # These failures are told as an answer like any other: the statistics count no error.
    try:
        removed = stream.remove(body.seq, not body.no_erase)
    except (StoreError, ApiError) as error:
        return {"error": api_error(errors.STREAM_MSG_DELETE_FAILED, error).as_json()}
    if not removed:
        return {"error": ApiError(errors.SEQUENCE_NOT_FOUND, seq=body.seq).as_json()}
    return {"success": True}


# -- direct gets ------------------------------------------------------------------------------------------------------


def _status(text: str) -> Reply:
    return Reply(b"", f"NATS/1.0 {text}\r\n\r\n".encode())


def direct_get(stream: Stream, request: Request, key: str, backend: Backend) -> Iterator[Reply]:
    """The answer to DIRECT.GET.<stream> or, with a `key`, to DIRECT.GET.<stream>.<key>."""
    if level_too_high(request.header(REQUIRED_LEVEL_HEADER)):
        yield _status("412 Required Api Level")
        return
    if not request.payload and not key:
        yield _status("408 Empty Request")
        return
    body = GetRequest()
    if request.payload:
        try:
            decode_one(request.payload, body)
        except DecodeError:
            yield _status("408 Malformed Request")
            return
    wrong = _wrong_with_key(body) if key else _wrong_without_key(body)
    if wrong:
        yield _status(wrong)
        return
    body.last_by_subj = key or body.last_by_subj
    size_max = body.max_bytes or backend.max_pending
    if body.multi_last:
        yield from _multi(stream, body, size_max)
    elif body.batch:
        yield from _batch(stream, body, size_max)
    else:
        yield _single(stream, body)


def _wrong_with_key(body: GetRequest) -> str:
    given = body.as_json()
    given.pop("no_hdr", None)
    given.pop("max_bytes", None)
    return "408 Bad Request" if given else ""


def _wrong_without_key(body: GetRequest) -> str:
    if not (body.seq or body.last_by_subj or body.next_by_subj or body.multi_last or body.start_time is not None):
        return "408 Empty Request"
    if (
        body.conflicts()
        or (body.last_by_subj and (body.batch > 0 or body.multi_last))
        or (body.next_by_subj and body.multi_last)
        or (body.up_to_seq > 0 and body.up_to_time is not None)
    ):
        return "408 Bad Request"
    return ""


def _headers(stream: Stream, message: StoredMessage, pending: int | None = None, last: int = 0) -> bytes:
    """The message's own headers, and behind them where it comes from."""
    own: dict[str, object] = {
        "Nats-Stream": stream.config.name,
        "Nats-Subject": message.subject,
        "Nats-Sequence": message.seq,
        "Nats-Time-Stamp": format_time(message.time),
    }
    if pending is not None:
        own["Nats-Num-Pending"] = pending
        own["Nats-Last-Sequence"] = last
    block = header_block(own)
    return message.headers[:-2] + block[len(b"NATS/1.0\r\n") :] if message.headers else block


def _size(message: StoredMessage) -> int:
    return len(message.subject.encode("utf-8", "surrogateescape")) + len(message.headers) + len(message.data)


def _single(stream: Stream, body: GetRequest) -> Reply:
    seq = body.seq if body.start_time is None else stream.seq_from_time(body.start_time.ns)
    if body.next_by_subj:
        message = stream.next_message(body.next_by_subj, seq)
    elif seq > 0:
        message = stream.message(seq)
    else:
        message = stream.last_message(body.last_by_subj)
    if message is None:
        return _status("404 Message Not Found")
    return Reply(message.data, b"" if body.no_hdr else _headers(stream, message))


def _batch(stream: Stream, body: GetRequest, size_max: int) -> Iterator[Reply]:
    seq = body.seq if body.start_time is None else stream.seq_from_time(body.start_time.ns)
    pending = stream.num_pending(seq, body.next_by_subj)
    last = size = 0
    for sent in range(body.batch):
        if body.next_by_subj or seq > 0:
            message = stream.next_message(body.next_by_subj or ">", seq)
        else:
            message = stream.last_message(body.last_by_subj)
        if message is None:
            if body.batch > 1 and sent > 0:
                break
            yield _status("404 Message Not Found")
            return
        seq = message.seq + 1
        if not body.no_hdr:
            pending = max(pending - 1, 0)
        yield Reply(message.data, b"" if body.no_hdr else _headers(stream, message, pending, last))
        last = message.seq
        size += _size(message)
        if size >= size_max:
            break
    yield _status(f"204 EOB\r\nNats-Num-Pending: {pending}\r\nNats-Last-Sequence: {last}")


def _multi(stream: Stream, body: GetRequest, size_max: int) -> Iterator[Reply]:
    state = stream.state()
    up_to = body.up_to_seq
    if body.up_to_time is not None:
        up_to = stream.seq_from_time(body.up_to_time.ns)
        if up_to <= state.first_seq:
            yield _status("404 No Results")
            return
        up_to -= 1
    up_to = up_to or state.last_seq
    found = stream.last_messages(body.multi_last, up_to, MULTI_LIMIT)
    if found is None:
        yield _status("413 Too Many Results")
        return
    if not found:
        yield _status("404 No Results")
        return
    pending = len(found)
    last = size = sent = 0
    for message in found:
        pending -= 1
        if message.seq < body.seq:
            continue
        sent += 1
        yield Reply(message.data, _headers(stream, message, pending, last))
        last = message.seq
        size += _size(message)
        if size >= size_max or sent == body.batch:
            break
    eob = f"Nats-Num-Pending: {pending}\r\nNats-Last-Sequence: {last}\r\nNats-UpTo-Sequence: {up_to}"
    yield _status(f"204 EOB\r\n{eob}")
