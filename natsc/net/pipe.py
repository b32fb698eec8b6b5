"""A connection without a socket: two asyncio transports back to back, for clients in the server's own process.

The server's end carries the same ClientProtocol as a TCP connection, so everything behaves as it does there:
back-pressure, slow consumers, limits, drain. TLS and PROXY headers are left out: INFO doesn't ask for them.

Invariant: a write never calls the other end's protocol; bytes and closes are handed over by the loop, in order. So
neither protocol is re-entered, and what is written in one turn arrives in one piece.
"""

from __future__ import annotations

import asyncio

from natsc.net.protocol import ClientProtocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, BaseProtocol, StreamReader, StreamWriter
    from typing import Any

    from natsc.net.listener import ClientListener

_WRITE_HIGH = 64 << 10  # bytes that wait for the other end before pause_writing; as asyncio's transports
_EXTRA: dict[str, Any] = {"in_process": True, "peername": ("", 0), "sockname": ("", 0)}


class PipeTransport(asyncio.Transport):
    """One end. What it writes waits in `_buffer` until the loop hands it to the other end's protocol."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        super().__init__(_EXTRA)
        self._loop = loop
        self._protocol: Any = None
        self._peer: PipeTransport | None = None
        self._buffer = bytearray()
        self._high, self._low = _WRITE_HIGH, _WRITE_HIGH // 4
        self._scheduled = False
        self._writing_paused = False
        self._reading_paused = False
        self._closing = False
        self._eof = False  # nothing is written any more
        self._lost = False

    def link(self, peer: PipeTransport) -> None:
        self._peer = peer

    # What protocols ask of transports

    def set_protocol(self, protocol: BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> BaseProtocol:
        protocol: BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        if self._peer is not None:
            self._peer._schedule()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._eof or self._lost or not data:
            return
        self._buffer += data
        if len(self._buffer) > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()
        self._schedule()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._eof = True
        self._schedule()

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = high if high is not None else (4 * low if low is not None else _WRITE_HIGH)
        self._low = low if low is not None else self._high // 4

    def close(self) -> None:
        """Ends both ends once what was written has arrived."""
        self._closing = True
        self._schedule()

    def abort(self) -> None:
        """Ends both ends now, dropping what hasn't arrived."""
        self._closing = True
        self._buffer.clear()
        self._schedule()

    # Handing over

    def _schedule(self) -> None:
        if not self._scheduled and not self._lost:
            self._scheduled = True
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """On the loop: gives the peer what was written, then what that means for both."""
        self._scheduled = False
        peer = self._peer
        if self._lost or peer is None:
            return
        if self._buffer and not peer._lost:
            self._give(peer)
        if self._writing_paused and len(self._buffer) <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if self._buffer and not peer._lost:
            return
        if self._closing:
            self._end()
            peer._end()
        elif self._eof and not peer._closing and not peer._protocol.eof_received():
            peer.close()

    def _give(self, peer: PipeTransport) -> None:
        protocol = peer._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            if not peer._reading_paused:
                data = bytes(self._buffer)
                self._buffer.clear()
                protocol.data_received(data)
            return
        taken = 0
        while taken < len(self._buffer) and not peer._reading_paused and not peer._closing:
            into = memoryview(protocol.get_buffer(-1))
            size = min(len(into), len(self._buffer) - taken)
            into[:size] = self._buffer[taken : taken + size]
            taken += size
            protocol.buffer_updated(size)
        if peer._closing:  # it reads nothing any more
            taken = len(self._buffer)
        del self._buffer[:taken]

    def _end(self) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._buffer.clear()
            self._protocol.connection_lost(None)
            self._peer = None


def connect(listener: ClientListener, loop: AbstractEventLoop, limit: int) -> tuple[StreamReader, StreamWriter]:
    """A client's streams to the server of `listener`; limit: as in asyncio.open_connection."""
    theirs, ours = PipeTransport(loop), PipeTransport(loop)
    theirs.link(ours)
    ours.link(theirs)
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    stream = asyncio.StreamReaderProtocol(reader, loop=loop)
    ours.set_protocol(stream)
    server = ClientProtocol(listener)
    theirs.set_protocol(server)
    stream.connection_made(ours)
    server.connection_made(theirs)
    return reader, asyncio.StreamWriter(ours, stream, reader, loop)
