"""Headers of published messages that are looked at in Python: rare ones, and those of features that aren't had yet."""

from __future__ import annotations

from natsc.config.gotext import GoError, parse_duration
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_request import header

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.jetstream.stream_config import StreamConfig

_SECOND = 1_000_000_000
NEVER, INVALID, NONE = -1, -2, 0
_LINE = b"NATS/1.0"
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


def refusal(headers: bytes, config: StreamConfig) -> int:
    """The number of the error that a rare header is answered with; 0 where the message may be stored."""
    for name, allowed, error in (
        ("Nats-Batch-Id", config.allow_atomic, errors.ATOMIC_PUBLISH_DISABLED),
        ("Nats-Incr", config.allow_msg_counter, errors.MESSAGE_INCR_DISABLED),
        ("Nats-Schedule", config.allow_msg_schedules, errors.MESSAGE_SCHEDULES_DISABLED),
        ("Nats-Schedule-Next", False, errors.MESSAGE_SCHEDULES_SCHEDULER_INVALID),
        ("Nats-Scheduler", False, errors.MESSAGE_SCHEDULES_SCHEDULER_INVALID),
        ("Nats-Stream-Source", False, errors.MESSAGE_SOURCE_HDR_NOT_ALLOWED),
    ):
        if not allowed and header(headers, name):
            return error
    return 0


def parse_ttl(text: str) -> int:
    """A TTL header in ns: seconds, a duration of at least one, or "never" (NEVER); INVALID for anything else."""
    if text.lower() == "never":
        return NEVER
    try:
        duration = parse_duration(text)
    except GoError:
        return int(text) * _SECOND if text.isascii() and text.isdigit() else INVALID
    if duration == 0 and text.isdigit():
        return NONE
    return duration // _SECOND * _SECOND if duration >= _SECOND else INVALID
