"""Input through the engine's shared read buffer, as connections read it: natsc/net's protocol on a fake transport."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsc.net.protocol import ClientProtocol
from natsc.testing.world import Peer, World


class Transport:
    def __init__(self) -> None:
        self.out = bytearray()
        self.reading = True
        self.closed = False

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def write(self, data: bytes) -> None:
        self.out += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    abort = close


class Connection:
    """A client of a world that reads and writes through a protocol. Also what that takes for listener and loop."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.engine = world.engine
        self.loop = self
        self.transport = Transport()
        self.protocol = ClientProtocol(self)
        self.protocol.connection_made(self.transport)
        client = world.engine.connect(world.account(), self.protocol, "127.0.0.1", 1)
        self.protocol.attach(client)
        self.client = client
        world.peers[client.cid] = Peer(world, client, "c")
        world.peers[client.cid].blocked = True

    def call_soon(self, callback: Callable[[], None]) -> None:
        """A loop that has nothing else to do."""
        callback()

    def accepted(self, protocol: ClientProtocol) -> None:
        pass

    def lost(self, protocol: ClientProtocol, error: Exception | None) -> None:
        pass

    def read(self, data: bytes, size: int = 1 << 30) -> bytes:
        """The socket has these bytes and gives size of them at most at a time. Returns what was written meanwhile."""
        at = 0
        while at < len(data) and not self.client.closing:
            buffer = memoryview(self.protocol.get_buffer(-1))
            n = min(size, len(buffer), len(data) - at)
            buffer[:n] = data[at : at + n]
            self.protocol.buffer_updated(n)
            at += n
        out = bytes(self.transport.out)
        self.transport.out.clear()
        return out


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 4096, 100_000, 1 << 30])
def test_operations_and_messages(world, size):
    connection = Connection(world)
    text = b"PING\r\nSUB foo 1\r\nPUB foo 5\r\nhello\r\nUNSUB 1\r\nPUB foo 1\r\nx\r\nPING\r\n"
    assert connection.read(text * 3, size) == b"PONG\r\nMSG foo 1 5\r\nhello\r\nPONG\r\n" * 3
    assert connection.client.in_msgs == 6


@pytest.mark.parametrize("length", [1000, 131_000, 131_072, 200_000, 262_144, 300_000, 1_000_000])
@pytest.mark.parametrize("size", [4096, 50_000, 131_073, 1 << 30])
def test_payloads_around_the_size_of_the_buffer(world, length, size):
    """From half of the buffer on, an operation that isn't whole is read into memory of its own."""
    connection = Connection(world)
    payload = bytes(i * 7 % 251 for i in range(1000)) * (length // 1000 + 1)
    message = b"foo %d\r\n%s\r\n" % (length, payload[:length])
    answer = b"MSG foo 1 " + message[4:]
    got = connection.read(b"SUB foo 1\r\n" + (b"PUB " + message + b"PING\r\n") * 2 + b"PUB foo 1\r\nx\r\n", size)
    assert got == (answer + b"PONG\r\n") * 2 + b"MSG foo 1 1\r\nx\r\n"
    assert connection.client.held_bytes <= 4096


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [b"PING\r\n", b"SUB foo 1\r\n", b"UNSUB 1\r\n", b"PUB foo 5\r\nhello\r\n", b"X", b"PUB foo 3\r\nabcd"]
        ),
        st.integers(100_000, 300_000).map(lambda n: b"PUB foo %d\r\n%s\r\n" % (n, b"z" * n)),
        st.binary(max_size=3),
    ),
    max_size=8,
)


@settings(max_examples=150)
@given(PIECES, st.lists(st.one_of(st.integers(1, 50), st.integers(1, 200_000)), min_size=1, max_size=6))
def test_the_same_answers_as_without_it(pieces, sizes):
    text = b"".join(pieces)
    plain = World().connect()
    connection = Connection(World())
    got = b""
    at = turn = 0
    while at < len(text) and not connection.client.closing:
        size = max(sizes[turn % len(sizes)], len(text) // 300)
        got += connection.read(text[at : at + size])
        at += size
        turn += 1
    assert (got, connection.client.reason) == (plain.say(text), plain.reason)


def test_authentication_elsewhere_stops_the_reading(world):
    connection = Connection(world)
    world.connect_answer = 2
    assert connection.read(b"CONNECT {}\r\nPING\r\n") == b""
    assert not connection.transport.reading
    connection.client.accept()
    connection.protocol.resume()
    assert connection.transport.reading
    assert connection.transport.out == b"PONG\r\n"


def test_what_closes_flushes_first(world):
    connection = Connection(world)
    world.engine.release = lambda client: client.conn.close()
    assert connection.read(b"PING\r\nX") == b"PONG\r\n-ERR 'Unknown Protocol Operation'\r\n"
    assert connection.transport.closed
