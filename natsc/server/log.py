"""The server's log: nats-server's lines, one write(2) each, to stderr, a file, or syslog.

    [4711] 2026/03/01 12:00:00.123456 [INF] Server is ready

Lines are written on the event loop's thread, so a sink must neither raise nor wait. A line that can't be written is
lost and counted; the first loss is told once, on stderr where the log is elsewhere, and the number of lost lines when
writing works again. Only a log that can't be opened is an error (LogError): at start and at reload, before anything has
changed.
"""

from __future__ import annotations

import os
import time

from natsc.server.log_sinks import FileSink, LogError, Sink, StderrSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from natsc.config import Options

__all__ = ["Log", "LogError"]

_LEVELS = ("INF", "WRN", "ERR", "FTL", "DBG", "TRC")
_COLOURS = {"INF": "32", "WRN": "0;93", "ERR": "31", "FTL": "31", "DBG": "36", "TRC": "33"}

# Texts that were logged within the last second and are not repeated: see Log.error_once and Log.warn_once.
_RECENT_MAX = 4096
_RECENT_NS = 1_000_000_000


class Log:
    """Where a server says what happens.

    Text arrives formatted; check `debug_on` and `trace_on` before formatting costly text.
    """

    __slots__ = (
        "_format",
        "_labels",
        "_prefix",
        "_recent",
        "_recent_ns",
        "_second",
        "_sink",
        "_stamp",
        "_time",
        "_utc",
        "debug_on",
        "trace_on",
        "trace_system_on",
    )

    def __init__(self, opts: Options) -> None:
        """Opens what `opts` ask for. Raises LogError."""
        self._recent: set[str] = set()
        self._recent_ns = 0
        self._configure(opts, self.prepare(opts))

    def _configure(self, opts: Options, sink: Sink) -> None:
        self._sink = sink
        self.debug_on = bool(opts.debug)
        self.trace_on = bool(opts.trace)
        self.trace_system_on = bool(opts.trace_verbose)
        self._prefix = f"[{os.getpid()}] "
        self._time = bool(opts.logtime)
        self._utc = bool(opts.logtime_utc)
        self._second = -1
        self._stamp = ""
        labels = {level: f"[{level}] " for level in _LEVELS}
        if sink.coloured:
            labels = {level: f"[\x1b[{_COLOURS[level]}m{level}\x1b[0m] " for level in _LEVELS}
        self._labels = labels
        self._format: Callable[[str, str], str] = self._plain_line
        if opts.log_format == "json":
            from natsc.server.log_json import JSONLines

            self._format = JSONLines(self._time, self._utc).line
        elif sink.plain_text:
            self._format = _bare_text
        sink.start(self)

    # --- levels

    def notice(self, text: str) -> None:
        self.write("INF", text)

    def warn(self, text: str) -> None:
        self.write("WRN", text)

    def error(self, text: str) -> None:
        self.write("ERR", text)

    def fatal(self, text: str) -> NoReturn:
        """Logs and ends the process with exit code 1, by SystemExit."""
        self.write("FTL", text)
        raise SystemExit(1)

    def debug(self, text: str) -> None:
        if self.debug_on:
            self.write("DBG", text)

    def trace(self, text: str) -> None:
        if self.trace_on:
            self.write("TRC", text)

    def warn_once(self, text: str) -> None:
        """Like warn, but the same text at most once a second."""
        if self._is_new(text):
            self.write("WRN", text)

    def error_once(self, text: str, prefix: str = "") -> None:
        """Like error, but the same text at most once a second, whoever (prefix) it is about."""
        if self._is_new(text):
            self.write("ERR", prefix + text)

    def _is_new(self, text: str) -> bool:
        now = time.monotonic_ns()
        if now - self._recent_ns >= _RECENT_NS or len(self._recent) >= _RECENT_MAX:
            self._recent.clear()
            self._recent_ns = now
        if text in self._recent:
            return False
        self._recent.add(text)
        return True

    # --- control

    @property
    def lost(self) -> int:
        """How many lines could not be written since the log was opened."""
        return self._sink.lost

    def reopen(self) -> None:
        """Opens the log file anew, so that one that was renamed is let go (SIGUSR1).

        Keeps the old one where that fails.
        """
        if not self._sink.is_file:
            self.notice("File log re-open ignored, not a file logger")
            return
        try:
            self._sink.reopen()
        except LogError as error:
            self.error(str(error))
            return
        self.notice("File log re-opened")

    def prepare(self, opts: Options) -> Sink:
        """Opens where the reloaded `opts` want their log, for `reconfigure`. Raises LogError."""
        return _open_sink(opts)

    def reconfigure(self, opts: Options, sink: Sink | None = None) -> None:
        """Goes on as the reloaded `opts` say, in `sink` where it was prepared.

        Raises LogError where it can't be opened, and then nothing has changed.
        """
        sink = sink or self.prepare(opts)
        self._sink.close()
        self._configure(opts, sink)

    def close(self) -> None:
        """Lets go of files and sockets; stderr stays open, and is where later lines go."""
        if not isinstance(self._sink, StderrSink):
            self._sink.close()
            self._sink = StderrSink()

    # --- lines

    def write(self, level: str, text: str) -> None:
        """Writes one line; `level` is "INF", "WRN", "ERR", "FTL", "DBG" or "TRC"."""
        self._sink.write(level, _encode(self._format(level, text)))

    def line(self, level: str, text: str) -> bytes:
        """The bytes that write() would write."""
        return _encode(self._format(level, text))

    def _plain_line(self, level: str, text: str) -> str:
        if not self._time:
            return f"{self._prefix}{self._labels[level]}{text}\n"
        now = time.time_ns()
        second = now // 1_000_000_000
        if second != self._second:
            self._stamp = time.strftime("%Y/%m/%d %H:%M:%S", (time.gmtime if self._utc else time.localtime)(second))
            self._second = second
        return f"{self._prefix}{self._stamp}.{now // 1000 % 1_000_000:06d} {self._labels[level]}{text}\n"


def _bare_text(_level: str, text: str) -> str:
    return text


def _encode(text: str) -> bytes:
    """Bytes of a peer that are not UTF-8 arrive as surrogate escapes and leave as they came."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _open_sink(opts: Options) -> Sink:
    if opts.log_file:
        return FileSink(opts.log_file, opts.log_size_limit, opts.log_max_files)
    if opts.remote_syslog or opts.syslog:
        from natsc.server.log_syslog import SyslogSink

        return SyslogSink(opts.remote_syslog)
    return StderrSink()
