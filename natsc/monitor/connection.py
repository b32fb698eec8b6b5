"""One connection to the monitoring port: an asyncio protocol that parses requests and sends answers.

Invariants:
1. One request of a connection is answered a turn of the loop, and none while the peer doesn't read its answers: a
   peer costs one answer's piece, what the transport buffers, and MAX_BUFFERED_BYTES of requests to come.
2. Every connection is bounded in time: HEADER_TIMEOUT for a request's head (and a TLS handshake), WRITE_TIMEOUT for
   progress of an answer, and LINGER after the last answer. Between requests it may idle until its place is needed.
3. A long answer is made in pieces, one a turn of the loop, so that a scrape doesn't hold up messages.
"""

from __future__ import annotations

import time
from itertools import chain

from natsc.monitor.request import Request, RequestFault, RequestParser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Handle, TimerHandle
    from collections.abc import Iterator
    from typing import Any

    from natsc.monitor.endpoints import Headers
    from natsc.monitor.http import Monitor

MAX_BUFFERED_BYTES = 256 * 1024
HEADER_TIMEOUT = 5.0  # seconds
WRITE_TIMEOUT = 60.0  # seconds
LINGER = 0.5  # seconds; the peer gets to read the last answer before the connection is gone

_PHRASES = {
    200: "OK", 307: "Temporary Redirect", 400: "Bad Request", 404: "Not Found", 417: "Expectation Failed",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(seconds: float) -> str:
    """IMF-fixdate, whatever the locale."""
    at = time.gmtime(seconds)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year} "
        f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT"
    )


class MonitorConnection:
    """One connection: an asyncio protocol that parses requests and sends answers."""

    __slots__ = (
        "_body", "_chunked", "_closing", "_eof", "_keep_alive", "_monitor", "_parser", "_paused", "_step", "_timer",
        "_transport", "idle_since",
    )  # fmt: skip

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._parser = RequestParser()
        self._body: Iterator[bytes] | None = None  # what remains of the answer being sent
        self._chunked = False  # how that answer is framed
        self._keep_alive = True  # another request may follow that answer
        self._paused = False  # the transport asked to stop writing
        self._eof = False  # the peer won't send anything more
        self._closing = False
        self._timer: TimerHandle | None = None
        self._step: Handle | None = None
        self._transport: Any = None
        self.idle_since = 0.0  # loop time since when the connection could be dropped without loss, 0 while it can't

    # -- called by the transport -------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """Takes its place among the connections, or closes when there is none."""
        self._transport = transport
        if not self._monitor.admit(self):
            self.close()
            return
        self._arm(HEADER_TIMEOUT)

    def connection_lost(self, error: BaseException | None) -> None:
        """Gives its place back."""
        self._closing = True
        self._disarm()
        if self._step is not None:
            self._step.cancel()
        self._body = self._transport = None
        self._monitor.forget(self)

    def data_received(self, data: bytes) -> None:
        """Takes requests; what follows the last answer is thrown away."""
        if self._closing:
            return
        self._parser.feed(data)
        if self._step is None and self._body is None and not self._paused:
            self._advance()
        elif self._parser.buffered > MAX_BUFFERED_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """What is under way is finished before the connection closes."""
        self._eof = True
        if self._step is None and self._body is None and not self._paused and not self._closing:
            self._cut_off()
        return not self._closing and (self._body is not None or self._step is not None or self._paused)

    def pause_writing(self) -> None:
        """The peer doesn't keep up: nothing more until it does."""
        self._paused = True
        self._arm(WRITE_TIMEOUT)

    def resume_writing(self) -> None:
        """Goes on where `pause_writing` stopped."""
        self._paused = False
        if self._closing:
            return
        self._disarm()
        self._schedule()

    # -- one step a turn ---------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._step is None:
            self._step = self._monitor.loop.call_soon(self._advance)

    def _advance(self) -> None:
        """Sends the next piece of an answer, or answers the next request."""
        self._step = None
        if self._closing or self._paused:
            return
        if self._body is not None:
            self._send_piece(self._body)
            return
        try:
            request = self._parser.next()
        except RequestFault as fault:
            self._finish(fault.reply)
            return
        if request is None:
            self._wait()
            return
        self.idle_since = 0.0
        self._disarm()
        self._answer(request)
        if not self._closing:
            self._schedule()

    def _wait(self) -> None:
        """Nothing complete to answer: idle between requests, or in the middle of one."""
        if self._eof:
            self._cut_off()
            return
        self._transport.resume_reading()
        if self._parser.started:
            self.idle_since = 0.0
            if self._timer is None:
                self._arm(HEADER_TIMEOUT)
        elif not self.idle_since:
            self.idle_since = self._monitor.loop.time()

    def _cut_off(self) -> None:
        """The peer said all that it had to say, and perhaps not to the end of a request."""
        try:
            self._parser.end()
        except RequestFault as fault:
            self._transport.write(fault.reply)
        self._closing = True
        self._transport.close()

    def _answer(self, request: Request) -> None:
        """Sends a short answer at once; of a long one the head, and lets the pieces follow."""
        status, headers, body = self._monitor.respond(request)
        self._keep_alive = request.keep_alive
        whole, pieces = (body, None) if isinstance(body, bytes) else _gather(body)
        if whole is None and request.http10:
            self._keep_alive = False
        self._chunked = whole is None and not request.http10
        head = self._head(request, status, headers, None if whole is None else len(whole))
        if request.method == "HEAD":
            whole = b""
        if whole is None:
            self._transport.write(head)
            self._body = pieces
        elif self._keep_alive:
            self._transport.write(head + whole)
        else:
            self._finish(head + whole)

    def _head(self, request: Request, status: int, headers: Headers, length: int | None) -> bytes:
        lines = [f"HTTP/1.{0 if request.http10 else 1} {status} {_PHRASES[status]}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines.append(f"Date: {http_date(self._monitor.now_seconds())}")
        if length is not None:
            lines.append(f"Content-Length: {length}")
        elif self._chunked:
            lines.append("Transfer-Encoding: chunked")
        if request.says_keep_alive and self._keep_alive:
            lines.append("Connection: keep-alive")
        elif not self._keep_alive and not request.http10:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _send_piece(self, body: Iterator[bytes]) -> None:
        """The next piece of the answer; after the last one, the requests that waited."""
        try:
            piece = next(body, None)
        except Exception as error:  # half an answer must not look like a whole one
            self._monitor.failed(error)
            self.close()
            return
        if piece:
            self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
        elif piece is None:
            self._body = None
            end = b"0\r\n\r\n" if self._chunked else b""
            if not self._keep_alive:
                self._finish(end)
                return
            self._transport.write(end)
        self._schedule()

    # -- the end -----------------------------------------------------------------------------------------------------

    def _finish(self, data: bytes) -> None:
        """Sends the last bytes and closes, leaving the peer time to read them: closing with unread input resets."""
        self._closing = True
        transport = self._transport
        if data:
            transport.write(data)
        if self._eof or not transport.can_write_eof():
            transport.close()
            return
        self.idle_since = self._monitor.loop.time()
        transport.resume_reading()
        transport.write_eof()
        self._arm(WRITE_TIMEOUT if self._paused else LINGER)

    def close(self) -> None:
        """Closes at once: the time is up, the server stops, or another one needs the place."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self._monitor.loop.call_later(seconds, self.close)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _gather(pieces: Iterator[bytes]) -> tuple[bytes | None, Iterator[bytes]]:
    """The whole body if it is one piece; else None, and all the pieces."""
    first = next(pieces, b"")
    if first:
        second = next(pieces, None)
        if second is None:
            return first, pieces
        return None, chain((first, second), pieces)
    return None, pieces
