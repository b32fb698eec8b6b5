"""Headers of published messages that are looked at in Python: rare ones, and those of features that aren't had yet."""

from __future__ import annotations

import json
import re

from natsc.config.gotext import GoError, parse_duration, wrap_int64
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_request import header
from natsc.jetstream.schema import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.jetstream.stream_config import StreamConfig

_SECOND = 1_000_000_000
_TTL_MAX = 200 * 365 * 24 * 3600 * _SECOND  # so far from now that it may as well be never
SEQ_MAX = (1 << 64) - 1
NEVER, INVALID = -1, -2
_LINE = b"NATS/1.0"
_NOT_WITH_COUNTERS = (
    "Nats-Rollup", "Nats-Expected-Stream", "Nats-Expected-Last-Msg-Id", "Nats-Expected-Last-Subject-Sequence-Subject",
    "Nats-Expected-Last-Sequence", "Nats-Expected-Last-Subject-Sequence",
)  # fmt: skip
_NUMBER = re.compile(r"[+-]?\d{1,4000}", re.ASCII)
_LARGEST = 10**4000  # of a counter: Python writes no number that is much longer
FAST = b".$FI"
_SERVICE_REPLY = b"_R_."
_CLIENT_INFO = b"\r\nNats-Request-Info:"


def stripped(headers: bytes) -> bytes:
    """A header block without what isn't stored: a status behind the version, and who sent a request."""
    end = headers.find(b"\r")
    if headers.startswith(_LINE) and end > len(_LINE):
        headers = _LINE + headers[end:]
    start = headers.find(_CLIENT_INFO)
    if start >= 0:
        stop = headers.find(b"\r\n", start + 2)
        headers = headers[:start] + headers[stop:]
    return b"" if headers == _LINE + b"\r\n\r\n" else headers


def fast_batch(headers: bytes, reply: bytes) -> bytes:
    """The reply subject that makes a message part of a fast batch, b"" for none."""
    if reply.endswith(FAST):
        return reply if len(reply) > len(FAST) else b""
    if not reply.startswith(_SERVICE_REPLY) or not (info := header(headers, "Nats-Request-Info")):
        return b""
    # It came over an import: who sent it says where it is to be answered.
    try:
        original = json.loads(info).get("reply") or ""
    except (ValueError, AttributeError):
        return b""
    given = original.encode("utf-8", "surrogateescape") if isinstance(original, str) else b""
    return given if given.endswith(FAST) and len(given) > len(FAST) else b""


def refusal(headers: bytes, body: bytes, config: StreamConfig) -> int:
    """The number of the error that a wrong increment is answered with, before all else; 0 where nothing is wrong."""
    increment = header(headers, "Nats-Incr")
    if not increment:
        return 0
    if not _NUMBER.fullmatch(increment):
        return errors.MESSAGE_INCR_INVALID
    if not config.allow_msg_counter:
        return errors.MESSAGE_INCR_DISABLED
    if body:
        return errors.MESSAGE_INCR_PAYLOAD
    return errors.MESSAGE_INCR_INVALID if any(header(headers, name) for name in _NOT_WITH_COUNTERS) else 0


def is_sourced(headers: bytes) -> bool:
    """Does a message say that it comes from another stream?"""
    return b"\r\nNats-Stream-Source:" in headers and bool(header(headers, "Nats-Stream-Source"))


def count(headers: bytes, last: tuple[bytes, bytes] | None) -> tuple[bytes, bytes, bytes] | int:
    """(headers, body, what the answer adds) of a message that increments a counter, or the number of an error.

    `last`: headers and body of the counter's last message, None where there is none.
    """
    increment = header(headers, "Nats-Incr")
    if not increment:
        return errors.MESSAGE_INCR_MISSING
    value = 0
    if last is not None:
        try:
            value = int(json.loads(last[1])["val"])
        except (ValueError, KeyError, TypeError):
            return errors.MESSAGE_COUNTER_BROKEN
        counted = header(last[0], "Nats-Counter-Sources")
        if counted:
            sources = _sources(counted)
            if sources is None:
                return errors.MESSAGE_COUNTER_BROKEN
            if sources:
                headers = with_value(headers, "Nats-Counter-Sources", _in_order(sources))
    value += int(increment)
    if abs(value) > _LARGEST:
        return errors.MESSAGE_INCR_INVALID
    return headers, b'{"val":"%d"}' % value, b',"val":"%d"' % value


def _sources(text: str) -> dict[str, dict[str, str]] | None:
    """What a counter has of which subjects of other streams; None where the header doesn't say that."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if found is None:
        return {}
    if not isinstance(found, dict):
        return None
    for of_stream in found.values():
        if not isinstance(of_stream, dict) or not all(isinstance(value, str) for value in of_stream.values()):
            return None
    return found


def _in_order(sources: dict[str, dict[str, str]]) -> bytes:
    return encode({stream: dict(sorted(subjects.items())) for stream, subjects in sorted(sources.items())})


def count_sourced(
    subject: bytes, headers: bytes, body: bytes, last: tuple[bytes, bytes] | None
) -> tuple[bytes, bytes] | int:
    """(headers, body) of a counter's message that came from another stream, or the number of an error.

    It counts for what its counter there has more than the last time, which is kept in a header, by stream and subject.
    """
    if not header(headers, "Nats-Incr"):
        return errors.MESSAGE_INCR_MISSING
    fields = (header(headers, "Nats-Stream-Source") or "").split(" ")
    origin, name = fields[0], fields[4] if len(fields) >= 5 else subject.decode("utf-8", "surrogateescape")
    try:
        value = int(json.loads(last[1])["val"]) if last is not None else 0
        counted = (header(last[0], "Nats-Counter-Sources") if last is not None else None) or "{}"
        sources: dict[str, dict[str, str]] = json.loads(counted)
        there = int(json.loads(body)["val"])
        before = int(sources.setdefault(origin, {}).get(name, "0"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return errors.MESSAGE_COUNTER_BROKEN
    if max(abs(value), abs(there), abs(before)) > _LARGEST:
        return errors.MESSAGE_COUNTER_BROKEN
    sources[origin][name] = str(there)
    headers = with_value(headers, "Nats-Incr", b"%d" % (there - before))
    headers = with_value(headers, "Nats-Counter-Sources", _in_order(sources))
    return headers, b'{"val":"%d"}' % (value + there - before)


def with_ttl_at_least(headers: bytes, least: int) -> bytes:
    """A header block whose TTL, if it has one, isn't below `least` ns: markers must outlive what they mark."""
    given = header(headers, "Nats-TTL")
    if not given or not 0 < parse_ttl(given) < least // _SECOND * _SECOND:
        return headers
    return with_header(without(headers, "Nats-TTL"), "Nats-TTL", str(least // _SECOND))


def with_value(headers: bytes, name: str, value: bytes) -> bytes:
    """A header block in which the header of that name has this value: in its place, or at the end."""
    start = headers.find(f"\r\n{name}:".encode())
    if start < 0:
        return headers[:-2] + f"{name}: ".encode() + value + b"\r\n\r\n"
    start += len(name) + 3
    return headers[:start] + b" " + value + headers[headers.find(b"\r\n", start) :]


def without(headers: bytes, name: str) -> bytes:
    """A header block without the headers of that name."""
    while (start := headers.find(f"\r\n{name}:".encode())) >= 0:
        headers = headers[:start] + headers[headers.find(b"\r\n", start + 2) :]
    return b"" if headers == _LINE + b"\r\n\r\n" else headers


def with_header(headers: bytes, name: str, value: str) -> bytes:
    """A header block with one more header, at its end."""
    value = value.replace("\r", " ").replace("\n", " ").strip(" \t")
    line = f"{name}: {value}\r\n\r\n".encode("utf-8", "surrogateescape")
    return (headers[:-2] if headers else _LINE + b"\r\n") + line


def parse_ttl(text: str) -> int:
    """A TTL header in ns: seconds, a duration of at least one, or "never" (NEVER); INVALID for anything else."""
    if text.lower() == "never":
        return NEVER
    try:
        duration = parse_duration(text)
    except (GoError, UnicodeError):
        seconds = wrap_int64(parse_number(text))
        return min(seconds * _SECOND, _TTL_MAX) if seconds >= 0 else INVALID
    return min(duration // _SECOND * _SECOND, _TTL_MAX) if duration >= _SECOND else INVALID


def parse_number(text: str) -> int:
    """A decimal number without a sign, or what is left of it in 64 bits; the largest one for anything else."""
    if not text.isascii() or not text.isdigit():
        return SEQ_MAX
    number = 0
    for digit in text:
        number = (number * 10 + int(digit)) & SEQ_MAX
    return number
