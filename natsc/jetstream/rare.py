"""Headers of published messages that are looked at in Python: rare ones, and those of features that aren't had yet."""

from __future__ import annotations

import re

from natsc.config.gotext import GoError, parse_duration
from natsc.config.values import is_valid_literal
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_request import header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.jetstream.stream_config import StreamConfig

_SECOND = 1_000_000_000
NEVER, INVALID = -1, -2
_LINE = b"NATS/1.0"
_NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
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


def refusal(subject: str, headers: bytes, config: StreamConfig) -> int:
    """The number of the error that a rare header is answered with; 0 where the message may be stored."""
    if not config.allow_atomic and header(headers, "Nats-Batch-Id"):
        return errors.ATOMIC_PUBLISH_DISABLED
    increment = header(headers, "Nats-Incr")
    if increment:
        return errors.MESSAGE_INCR_DISABLED if _NUMBER.fullmatch(increment) else errors.MESSAGE_INCR_INVALID
    if header(headers, "Nats-Schedule"):
        return errors.MESSAGE_SCHEDULES_DISABLED
    following, scheduler = header(headers, "Nats-Schedule-Next"), header(headers, "Nats-Scheduler")
    if following or scheduler:
        return _schedule_refusal(subject, following, scheduler)
    if header(headers, "Nats-Stream-Source"):
        return errors.MESSAGE_SOURCE_HDR_NOT_ALLOWED
    return 0


def _schedule_refusal(subject: str, following: str | None, scheduler: str | None) -> int:
    """Only whoever ends a schedule names it; and there are no schedules."""
    if following != "purge" or not scheduler or scheduler == subject or not is_valid_literal(scheduler):
        return errors.MESSAGE_SCHEDULES_SCHEDULER_INVALID
    return errors.MESSAGE_SCHEDULES_DISABLED


def parse_ttl(text: str) -> int:
    """A TTL header in ns: seconds, a duration of at least one, or "never" (NEVER); INVALID for anything else."""
    if text.lower() == "never":
        return NEVER
    try:
        duration = parse_duration(text)
    except GoError:
        return int(text) * _SECOND if text.isascii() and text.isdigit() else INVALID
    return duration // _SECOND * _SECOND if duration >= _SECOND else INVALID
