"""What the trace of a message (natsc/engine/msgtrace.pyx) says of a stream that it comes to.

What is wrong with a message is told as nats-server's store tells it, which isn't always what the publisher is answered.
"""

from __future__ import annotations

from natsc.config.gotext import quote
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.api_request import header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.jetstream.streams import ManagedStream

_DEST = b"\r\nNats-Trace-Dest:"
_DUPLICATE = 1  # REFUSED_DUPLICATE of natsc/jetstream/stream.pxd
_LATE = (errors.STREAM_STORE_FAILED, errors.MESSAGE_TTL_INVALID)  # found when all else was checked
_TEXTS = {
    _DUPLICATE: "msgid is duplicate",
    errors.STREAM_MESSAGE_EXCEEDS_MAXIMUM: "maximum payload exceeded",
    errors.STREAM_NOT_MATCH: "expected stream does not match",
    errors.MESSAGE_TTL_DISABLED: "message TTL disabled",
}


def take(stream: ManagedStream, trace: Any, subject: bytes, headers: bytes, body: bytes, reply: bytes | None) -> None:
    """Takes a message that is traced, or only checks it, and tells the trace."""
    stream.batch_error = None
    kept = headers if trace.only else muted(headers)
    code, values = stream.take_again(subject, kept, body, reply, trace.only)
    error = str(stream.batch_error) if stream.batch_error is not None else _error(stream, code, values, headers)
    if error and code not in _LATE:
        trace.stored(stream.name, error=error)
        return
    stored_as = stream.transformed(subject)
    trace.stored(stream.name, stored_as, no_interest=not stream.interests(stored_as), error=error)


def muted(headers: bytes) -> bytes:
    """A header block that says that nobody is to trace the message any more."""
    at = headers.find(_DEST)
    if at < 0:
        return headers.removesuffix(b"\r\n") + b"Nats-Trace-Dest: trace disabled\r\n\r\n"
    return headers[:at] + _DEST + b" trace disabled" + headers[headers.index(b"\r\n", at + 2) :]


def _error(stream: ManagedStream, code: int, values: dict[str, Any], headers: bytes) -> str:
    """Why a stream didn't take a message; "" where it did."""
    if not code:
        return ""
    if code == errors.STREAM_WRONG_LAST_SEQUENCE:
        by_subject = header(headers, "Nats-Expected-Last-Subject-Sequence")
        in_stream = header(headers, "Nats-Expected-Last-Sequence")
        if by_subject is not None and (in_stream is None or values["seq"] != stream.store.last_seq):
            return f"last sequence by subject mismatch: {by_subject} vs {values['seq']}"
        return f"last sequence mismatch: {in_stream} vs {values['seq']}"
    if code == errors.STREAM_WRONG_LAST_MSG_ID:
        expected = header(headers, "Nats-Expected-Last-Msg-Id") or ""
        return f"last msgid mismatch: {quote(expected)} vs {quote(values['id'])}"
    if code == errors.STREAM_ROLLUP_FAILED and "rollup" in values:
        from natsc.jetstream.streams import rollup_error

        return rollup_error(values["rollup"].decode("utf-8", "replace"))
    if code in (errors.STREAM_ROLLUP_FAILED, errors.STREAM_STORE_FAILED):
        return str(values["err"])
    return _TEXTS.get(code) or str(ApiError(code, **values))
