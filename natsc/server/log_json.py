"""Log lines as JSON objects, one a line, made by structlog (`log_format: json`, an option of natsc's own).

    {"timestamp": "2026-03-01T12:00:00.123456Z", "level": "info", "pid": 4711, "event": "Server is ready"}

Lines about a connection ("127.0.0.1:4000 - cid:7 - Client connection created") carry `client` and `cid` as fields of
their own.
"""

from __future__ import annotations

import os
import re

import structlog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

_NAMES = {"INF": "info", "WRN": "warning", "ERR": "error", "FTL": "critical", "DBG": "debug", "TRC": "trace"}
# "<address> - <kind of connection>id:<number> - text"
_CONNECTION = re.compile(r"(\S+) - ([a-z]+id):(\d+) - ", re.ASCII)


class JSONLines:
    """Formats lines; the sink writes them, so structlog's own output and configuration stay out of it."""

    def __init__(self, stamp_time: bool, utc: bool) -> None:
        processors: list[Processor] = [_add_pid, _split_connection, structlog.processors.JSONRenderer()]
        if stamp_time:
            processors.insert(0, structlog.processors.TimeStamper(fmt="iso", utc=utc))
        self._processors = processors

    def line(self, level: str, text: str) -> str:
        event: EventDict = {"level": _NAMES[level], "event": text}
        rendered: EventDict | str = event
        for processor in self._processors:
            rendered = processor(None, level, rendered)  # type: ignore[arg-type,assignment]
        return f"{rendered}\n"


def _add_pid(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["pid"] = os.getpid()
    return event


def _split_connection(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    match = _CONNECTION.match(event["event"])
    if match:
        event["client"] = match[1]
        event[match[2]] = int(match[3])
        event["event"] = event["event"][match.end() :]
    return event
