"""HTTP/1.x requests from bytes, without I/O.

Invariants:
1. A request is given out as soon as its head is complete; its body is skipped afterwards, never stored.
2. What is buffered before a request is complete is at most MAX_HEAD_BYTES and what one read brings.
3. Once `next` has raised, the connection is lost: the fault's answer, if it has one, is the last thing to send.

Which requests are refused, and with which text, follows Go's net/http, which the reference uses (RFC 9112 where it is
silent).
"""

from __future__ import annotations

import re

from natsc.monitor.params import percent_decode

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 500
MAX_BODY_BYTES = 256 * 1024
_MAX_CHUNK_LINE = 256
_NEXT_BYTES = 4

# A name with blanks in it isn't malformed to Go, only invalid: it has another text for that.
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z ]+\Z")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])\Z")
_HOST = re.compile(rb"[!$%&'()*+,\-.:;=@\[\]_~0-9A-Za-z]*\Z")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TARGET_CONTROL = re.compile(rb"[\x00-\x20\x7f]")
# scheme://authority, or scheme: alone before a path; what follows a scheme otherwise is no path.
_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+\-.]*:(//[^/?#]*|(?=/)|[^?]*)")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}\Z")
_DIGITS = re.compile(rb"[0-9]{1,18}\Z")


class RequestFault(Exception):
    """A request that can't be served. `reply` is the whole answer, empty to close without one."""

    def __init__(self, status: str, text: str = "", details: str = "") -> None:
        super().__init__(status, details)
        line = f"{status}: {details}" if details else status
        body = text or line
        head = f"HTTP/1.1 {line}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
        self.reply = (head + body).encode() if status else b""


def _bad(details: str = "") -> RequestFault:
    return RequestFault("400 Bad Request", details=details)


class Request:
    """A request's head. `path` and `query` are as received, decoded with surrogateescape."""

    __slots__ = (
        "headers",
        "http10",
        "keep_alive",
        "method",
        "path",
        "query",
        "says_keep_alive",
        "unexpected",
        "version",
        "whole_server",
    )

    def __init__(self, method: str, path: str, query: str, version: tuple[int, int]) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.version = version
        self.headers: list[tuple[bytes, bytes]] = []  # names in lower case
        self.http10 = version == (1, 0)
        self.keep_alive = version > (1, 0) and method != "CONNECT"  # nobody tunnels through here
        self.says_keep_alive = False  # an HTTP/1.0 client asked for it and expects to read that it was granted
        self.unexpected = False  # it has an Expect that nobody can meet
        self.whole_server = path == "*"


class RequestParser:
    """Feed bytes, then call `next` until it gives None."""

    __slots__ = ("_buffer", "_chunked", "_line", "_remaining", "_scanned", "_skipped", "_taken")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # no end of the head before here
        self._line: Request | None = None  # the request line once it is complete
        self._remaining = 0  # bytes of a body still to skip
        self._taken = 0  # requests given out
        self._skipped = 0  # bytes of a chunked body skipped so far
        self._chunked = ""  # what comes next in a chunked body: size, data, end, trailer

    @property
    def started(self) -> bool:
        """A request has begun to arrive and isn't complete."""
        return bool(self._buffer) or self._remaining > 0 or bool(self._chunked)

    @property
    def buffered(self) -> int:
        """Bytes that wait to be parsed."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Takes what was read from the connection."""
        self._buffer += data

    def end(self) -> None:
        """Nothing more will come. Raises RequestFault where a request was cut off in its head."""
        if self._buffer and not self._remaining and not self._chunked and not self._too_short():
            raise _bad()

    def _too_short(self) -> bool:
        """A few bytes behind a request aren't the next one yet: old clients end bodies with a line break."""
        return self._taken > 0 and self._line is None and len(self._buffer) < _NEXT_BYTES

    def next(self) -> Request | None:
        """The next request, None if it isn't complete. Raises RequestFault."""
        if not self._skip_body():
            return None
        if self._line is None and (self._too_short() or not self._take_request_line()):
            return None
        end = self._head_end()
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise RequestFault("431 Request Header Fields Too Large")
            return None
        if end > MAX_HEAD_BYTES:
            raise RequestFault("431 Request Header Fields Too Large")
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._taken += 1
        request, self._line, self._scanned = self._line, None, 0
        if request is None:
            raise AssertionError("a head without a request line")
        request.headers = _parse_headers(head)
        self._apply_headers(request, request.headers)
        return request

    def _take_request_line(self) -> bool:
        """Parses the first line as soon as it is there: a peer that speaks another protocol learns at once."""
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            if self._scanned > MAX_HEAD_BYTES:
                raise RequestFault("431 Request Header Fields Too Large")
            return False
        if end > MAX_HEAD_BYTES:
            raise RequestFault("431 Request Header Fields Too Large")
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        # The line break stays: it is the first half of the mark that ends the head.
        del self._buffer[:end]
        self._scanned = 0
        self._line = _parse_request_line(line)
        return True

    def _head_end(self) -> int:
        """Where the head ends in the buffer, behind its empty line; -1 when that isn't there yet."""
        start = max(self._scanned - 3, 0)
        self._scanned = len(self._buffer)
        ends = [at + len(mark) for mark in (b"\n\r\n", b"\n\n") if (at := self._buffer.find(mark, start)) >= 0]
        return min(ends, default=-1)

    def _apply_headers(self, request: Request, headers: list[tuple[bytes, bytes]]) -> None:
        """What the headers say about the connection and the body. Raises RequestFault, in the reference's order."""
        hosts = _values(headers, b"host")
        if len(hosts) > 1:
            raise _bad()
        self._expect_body(request, headers)
        if request.version[0] != 1:
            raise RequestFault("505 HTTP Version Not Supported", details="unsupported protocol version")
        if not hosts and not request.http10 and request.method != "CONNECT":
            raise _bad("missing required Host header")
        if hosts and _HOST.match(hosts[0]) is None:
            raise _bad("malformed Host header")
        if any(_TOKEN.match(name) is None for name, _ in headers):
            raise _bad("invalid header name")
        connection = re.split(rb"[ \t,]+", b",".join(_values(headers, b"connection")).lower())
        if b"close" in connection:
            request.keep_alive = False
        elif request.http10 and b"keep-alive" in connection:
            request.keep_alive = request.says_keep_alive = True
        for expectation in _values(headers, b"expect")[:1]:
            if expectation.lower() != b"100-continue" and expectation:
                request.unexpected = True
            request.keep_alive = request.keep_alive and not expectation

    def _expect_body(self, request: Request, headers: list[tuple[bytes, bytes]]) -> None:
        lengths = _values(headers, b"content-length")
        if len(set(lengths)) > 1 or (lengths and _DIGITS.match(lengths[0]) is None):
            raise _bad()
        codings = _values(headers, b"transfer-encoding")
        if codings:
            if len(codings) > 1 or codings[0].lower() != b"chunked":
                raise RequestFault("501 Not Implemented", "Unsupported transfer encoding")
            self._chunked, self._skipped = "size", 0
            if lengths:  # two lengths: where the next request begins is a matter of opinion
                request.keep_alive = False
        elif lengths:
            self._remaining = int(lengths[0])
            if self._remaining > MAX_BODY_BYTES:
                request.keep_alive = False

    # -- bodies ------------------------------------------------------------------------------------------------------

    def _skip_body(self) -> bool:
        """Drops the body of the request before. True when it is gone. Raises RequestFault without a reply."""
        while True:
            if self._remaining:
                taken = min(self._remaining, len(self._buffer))
                del self._buffer[:taken]
                self._remaining -= taken
                if self._remaining:
                    return False
            if not self._chunked:
                return True
            if not self._skip_chunk_line():
                return False

    def _skip_chunk_line(self) -> bool:
        """Takes one line of a chunked body, and moves on to what it announces."""
        end = self._buffer.find(b"\n")
        if end < 0 or end > _MAX_CHUNK_LINE:
            if len(self._buffer) > _MAX_CHUNK_LINE:
                raise RequestFault("")
            return False
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        self._skipped += end + 1
        if self._chunked == "size":
            size = line.split(b";", 1)[0].strip(b" \t")
            if _HEX.match(size) is None:
                raise RequestFault("")
            self._remaining = int(size, 16)
            self._chunked = "end" if self._remaining else "trailer"
            self._skipped += self._remaining
        elif self._chunked == "end":
            if line:
                raise RequestFault("")
            self._chunked = "size"
        elif not line:
            self._chunked = ""
        elif _NAME.match(line.partition(b":")[0]) is None or b":" not in line or _CONTROL.search(line):
            raise RequestFault("")
        if self._skipped > MAX_BODY_BYTES:
            raise RequestFault("")
        return True


def _parse_request_line(line: bytes) -> Request:
    """Raises RequestFault."""
    method, _, rest = line.partition(b" ")
    target, _, proto = rest.partition(b" ")
    version = _VERSION.match(proto)
    if version is None or _TOKEN.match(method) is None or not target or _TARGET_CONTROL.search(target):
        raise _bad()
    numbers = int(version.group(1)), int(version.group(2))
    text = target.decode("utf-8", "surrogateescape")
    if target == b"*":
        return Request(method.decode(), text, "", numbers)
    if method == b"CONNECT" and not target.startswith(b"/"):
        if _HOST.match(target.split(b"/", 1)[0]) is None:
            raise _bad()
        return Request(method.decode(), text, "", numbers)
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            raise _bad()
        text = target[absolute.end() :].decode("utf-8", "surrogateescape")
    path, _, query = text.partition("?")
    if percent_decode(path) is None:
        raise _bad()
    return Request(method.decode(), path, query, numbers)


def _parse_headers(head: bytes) -> list[tuple[bytes, bytes]]:
    """Names in lower case and values. `head` begins with the line break of the request line. Raises RequestFault."""
    headers: list[tuple[bytes, bytes]] = []
    for raw in head.split(b"\n")[1:]:
        line = raw.removesuffix(b"\r")
        if not line:
            break
        if _CONTROL.search(line):
            raise _bad()
        if line[:1] in (b" ", b"\t"):  # a folded line: it goes on with the value before
            if not headers:
                raise _bad()
            name, value = headers[-1]
            headers[-1] = name, (value + b" " + line.strip(b" \t")).strip(b" ")
            continue
        name, colon, value = line.partition(b":")
        if not colon or _NAME.match(name) is None:
            raise _bad()
        headers.append((name.lower(), value.strip(b" \t")))
        if len(headers) > MAX_HEADERS:
            raise RequestFault("431 Request Header Fields Too Large")
    return headers


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key == name]
