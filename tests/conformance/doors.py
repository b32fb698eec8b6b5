"""The doors into a server as one kind of client: plain TCP, TLS, and WebSocket with and without TLS and compression.

What holds for one must hold for all of them: tests of who may do what take `enter` and run once a door.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import struct
import time
import zlib

from .harness import TIMEOUT_S, Server, Wire
from .test_websocket import DEFLATE, UPGRADE, frame

LISTENING = r"Listening for websocket clients on wss?://127\.0\.0\.1:(\d+)"
WEBSOCKET = "websocket {{ listen: 127.0.0.1:-1, compression: true, {} }}\n"
PLAIN_WEBSOCKET = WEBSOCKET.format("no_tls: true")
_CLOSE, _PING = 8, 9


def websocket_port(server: Server) -> int:
    return int(server.wait_log(LISTENING)[1])


class WebSocketWire(Wire):
    """Wire through the WebSocket port. goodbye: the payload of the server's close frame. head: what it answered."""

    def __init__(
        self,
        server: Server,
        *,
        context: ssl.SSLContext | None = None,
        path: str = "/",
        headers: dict[str, str] | None = None,
        compress: bool = False,
        timeout: float = TIMEOUT_S,
    ) -> None:
        super().__init__(websocket_port(server), read=False, timeout=timeout)
        if context is not None:
            self.start_tls(context)
        said = {**UPGRADE, **(DEFLATE if compress else {}), **(headers or {})}
        lines = "\r\n".join([f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items()), "", ""])
        self.sock.sendall(lines.encode())
        self._raw = bytearray()
        self.goodbye: bytes | None = None
        deadline = time.monotonic() + timeout
        while (end := self._raw.find(b"\r\n\r\n")) < 0:
            assert self._receive(deadline), f"closed before an answer: {bytes(self._raw)!r}"
        self.head = bytes(self._raw[:end]).decode()
        del self._raw[: end + 4]
        assert self.head.startswith("HTTP/1.1 101 "), self.head
        self.read_info()

    def send(self, *parts: bytes | str) -> Wire:
        data = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
        return self.frames(frame(2, data))

    def frames(self, *frames: bytes) -> Wire:
        """Send frames as they are."""
        self.sock.sendall(b"".join(frames))
        return self

    def deflated(self, data: bytes) -> Wire:
        """Send a compressed message."""
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        return self.frames(frame(2, (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4], 0xC0))

    def _receive(self, deadline: float) -> bool:
        self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self.sock.recv(1 << 18)
        except (ConnectionResetError, ssl.SSLEOFError):
            return False
        except TimeoutError:
            raise TimeoutError(f"nothing more within {self.timeout} s; unread: {bytes(self._buffer)!r}") from None
        self._raw += data
        return bool(data)

    def _fill(self, deadline: float) -> bool:
        while (found := self._next_frame()) is None:
            if not self._receive(deadline):
                return False
        first, payload = found
        if first & 15 == _CLOSE:
            self.goodbye = payload
        elif first & 15 == _PING:
            with contextlib.suppress(OSError):
                self.frames(frame(10, payload))
        elif first & 15 in (0, 1, 2):
            if first & 0x40:
                payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
            self._buffer += payload
        return True

    def _next_frame(self) -> tuple[int, bytes] | None:
        raw = self._raw
        if len(raw) < 2:
            return None
        size, at = raw[1], 2
        if size > 125:
            at = 4 if size == 126 else 10
            if len(raw) < at:
                return None
            [size] = struct.unpack(">H" if at == 4 else ">Q", raw[2:at])
        if len(raw) < at + size:
            return None
        first, payload = raw[0], bytes(raw[at : at + size])
        del raw[: at + size]
        return first, payload


def enter(door: str, server: Server, context: ssl.SSLContext | None = None) -> Wire:
    """A connection that has had its INFO."""
    if door == "tcp":
        return Wire(server)
    if door == "tls":
        wire = Wire(server)
        wire.start_tls(context or ssl.create_default_context())
        return wire
    return WebSocketWire(server, context=context if door == "wss" else None, compress=door == "deflated")


def clear(kind: int, payload: bytes, first: int = 0x80) -> bytes:
    """A client's frame whose mask changes nothing: much payload costs a test no time."""
    size = len(payload)
    head = bytes([first | kind, 0x80 | (size if size < 126 else 126 if size < 65536 else 127)])
    head += b"" if size < 126 else struct.pack(">H", size) if size < 65536 else struct.pack(">Q", size)
    return head + bytes(4) + payload


def check_memory(server: Server, before: int, most_mb: int) -> None:
    """The server has no more than so much more than it had. Go collects when it likes."""
    grown = (resident(server) - before) >> 20
    assert grown < most_mb * (1 if server.kind == "natsc" else 4), f"{grown} MB more"


def resident(server: Server) -> int:
    """How much memory the server has, in bytes."""
    with open(f"/proc/{server.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
