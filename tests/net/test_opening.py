"""What comes before the protocol, on connections without sockets and a clock that stands still."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from natsc.net.listener import ClientListener
from natsc.net.protocol import ClientProtocol
from tests.certs import Authority
from tests.server.bench import Bench

PEER, LOCAL = ("127.0.0.1", 5555), ("127.0.0.1", 4222)
PATH = "127.0.0.1:4222->127.0.0.1:5555"
ADDRESS = "127.0.0.1:5555 - cid:5"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
PROXY = "proxy_protocol: true\n"


class Transport:
    """Takes the place of a TCP transport; `sent` is what was written."""

    def __init__(self, protocol: ClientProtocol) -> None:
        self.sent = bytearray()
        self._protocol: ClientProtocol | None = protocol
        protocol.connection_made(self)

    def get_extra_info(self, name: str) -> Any:
        return {"peername": PEER, "sockname": LOCAL}.get(name)

    def set_write_buffer_limits(self, **limits: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._protocol is None

    def close(self) -> None:
        self.lose(None)

    abort = close

    def lose(self, error: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)

    def receive(self, data: bytes) -> None:
        assert self._protocol is not None
        memoryview(self._protocol.get_buffer(-1))[: len(data)] = data
        self._protocol.buffer_updated(len(data))


class Peer:
    """The other end of the first connection of a server."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.server = bench, bench.server
        self.server.listener = ClientListener(self.server, self.server.loop)
        protocol = ClientProtocol(self.server.listener)
        self.transport = Transport(protocol)
        self.client = protocol.client

    def send(self, data: bytes) -> Peer:
        self.transport.receive(data)
        self.server.engine.end_turn()  # the loop, which would do it after a small read, stands still
        return self

    def leave(self, error: Exception | None = None) -> Peer:
        self.transport.lose(error)
        return self

    def reset(self) -> Peer:
        return self.leave(ConnectionResetError(104, "Connection reset by peer"))

    def wait(self, seconds: float) -> Peer:
        self.server.clock.advance(seconds)
        return self

    @property
    def reason(self) -> str:
        return self.client.reason

    @property
    def log(self) -> list[tuple[str, str]]:
        """What was logged between the first line of a connection and the last."""
        lines = [(level, text.removeprefix(ADDRESS + " - ")) for level, text in self.bench.log.entries]
        assert lines.pop(0) == ("debug", "Client connection created")
        if self.reason:
            assert lines.pop() == ("debug", f"Client connection closed: {self.reason}")
        return lines


@pytest.fixture
def connect(authority: Authority) -> Iterator[Callable[..., Peer]]:
    loop = asyncio.new_event_loop()
    made: list[Bench] = []

    def get(config: str = "", *, tls: str | None = None) -> Peer:
        if tls is not None:
            pair = authority.server()
            config += f'tls {{ cert_file: "{pair.cert_file}", key_file: "{pair.key_file}"\n{tls}\n}}\n'
        made.append(Bench(loop, config))
        return Peer(made[-1])

    yield get
    for bench in made:
        bench.server.clock.close()
    loop.close()


@pytest.fixture
def hello(authority: Authority) -> bytes:
    """A client's first record."""
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context(cafile=authority.ca_file).wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


STARTING = ("debug", "Starting TLS client connection handshake")


class TestHandshake:
    def test_silence(self, connect):
        peer = connect(tls="timeout: 2").wait(1.9)
        assert not peer.reason
        peer.wait(0.1)
        assert peer.reason == "TLS Handshake Failure"
        assert peer.log == [
            STARTING,
            ("debug", "TLS handshake timeout"),
            ("debug", f"TLS handshake error: read tcp {PATH}: i/o timeout"),
        ]
        assert bytes(peer.transport.sent).count(b"\r\n") == 1  # nothing but INFO

    @pytest.mark.parametrize(
        ("size", "cause"),
        [(0, "EOF"), (1, "unexpected EOF"), (5, "unexpected EOF"), (99, "unexpected EOF"), (None, "EOF")],
    )
    def test_a_peer_that_leaves(self, connect, hello, size, cause):
        peer = connect(tls="")
        if size != 0:
            peer.send(hello[:size])
        peer.leave()
        assert peer.log == [STARTING, ("error", f"TLS handshake error: {cause}")]
        assert peer.reason == "TLS Handshake Failure"

    @pytest.mark.parametrize("size", [0, 5, None])
    def test_a_reset(self, connect, hello, size):
        peer = connect(tls="")
        if size != 0:
            peer.send(hello[:size])
        peer.reset()
        text = f"TLS handshake error: read tcp {PATH}: read: connection reset by peer"
        assert peer.log == [STARTING, ("error", text)]

    def test_plain_text(self, connect):
        peer = connect(tls="").send(b"CONNECT {}\r\n")
        text = "TLS handshake error: tls: first record does not look like a TLS handshake"
        assert peer.log == [STARTING, ("debug", text)]

    @pytest.mark.parametrize("config", ["", "allow_non_tls: true\n"])
    def test_a_peer_that_leaves_before_a_fallback(self, connect, config):
        peer = connect(config, tls='handshake_first: "5s"').leave()
        if config:
            assert (peer.log, peer.reason) == ([], "Client Closed")
        else:
            assert peer.log == [STARTING, ("error", "TLS handshake error: EOF")]

    def test_silence_is_plain_where_that_is_allowed(self, connect):
        peer = connect("allow_non_tls: true\n", tls="timeout: 2").wait(2).send(b"PING\r\n")
        assert bytes(peer.transport.sent).endswith(b"PONG\r\n")


class TestProxyTimeout:
    """What nats-server was measured to do."""

    def refused(self, peer: Peer, after: float, text: str) -> None:
        peer.wait(after - 0.001)
        assert not peer.reason
        peer.wait(0.001)
        assert peer.reason == "Protocol Violation"
        assert peer.log == [("warn", f"Error reading PROXY protocol header from 127.0.0.1:5555: {text}")]

    @pytest.mark.parametrize(
        ("config", "tls", "after"),
        [("", None, 5), ("", "", 5), ("allow_non_tls: true\n", "timeout: 1", 6), ("", 'handshake_first: "2s"', 7)],
        ids=["plain", "tls", "either", "fallback"],
    )
    def test_silence(self, connect, config, tls, after):
        self.refused(connect(PROXY + config, tls=tls), after, "failed to read protocol version: EOF")

    @pytest.mark.parametrize(
        ("config", "tls", "after"),
        [("", None, 10), ("", "", 10), ("allow_non_tls: true\n", "timeout: 1", 6), ("", "handshake_first: true", 10)],
        ids=["plain", "tls", "either", "first"],
    )
    def test_too_few_bytes_to_tell(self, connect, config, tls, after):
        text = f"failed to read protocol version: read tcp {PATH}: i/o timeout"
        self.refused(connect(PROXY + config, tls=tls).send(b"PRO"), after, text)

    @pytest.mark.parametrize(
        ("begun", "what"),
        [
            (b"PROXY ", "failed to read v1 line"),
            (b"PROXY TCP4 1", "failed to read v1 line"),
            (V2[:10], "failed to read v2 signature"),
            (V2[:14], "failed to read v2 header"),
            (V2, "failed to read IPv4 address data"),
        ],
    )
    @pytest.mark.parametrize("tls", [None, ""], ids=["plain", "tls"])
    def test_a_header_begun(self, connect, begun, what, tls):
        self.refused(connect(PROXY, tls=tls).send(begun), 5, f"{what}: read tcp {PATH}: i/o timeout")

    def test_the_time_begins_with_the_sixth_byte(self, connect):
        peer = connect(PROXY).send(b"PROXY").wait(4).send(b" ").wait(4).send(b"T")
        self.refused(peer, 1, f"failed to read v1 line: read tcp {PATH}: i/o timeout")

    def test_no_timeout_after_the_header(self, connect):
        peer = connect(PROXY).send(b"PROXY TCP4 1.2.3.4 127.0.0.1 1 2\r\n").wait(30).send(b"PING\r\n")
        assert bytes(peer.transport.sent).endswith(b"PONG\r\n")


class TestProxyCutShort:
    @pytest.mark.parametrize(
        ("sent", "text"),
        [
            (b"", "failed to read protocol version: EOF"),
            (b"PRO", "failed to read protocol version: unexpected EOF"),
            (b"PROXY ", "failed to read v1 line: EOF"),
            (V2[:10], "failed to read v2 signature: unexpected EOF"),
            (V2 + b"xx", "failed to read IPv4 address data: unexpected EOF"),
        ],
    )
    def test_a_peer_that_leaves(self, connect, sent, text):
        peer = connect(PROXY)
        if sent:
            peer.send(sent)
        peer.leave()
        assert peer.log == [("warn", f"Error reading PROXY protocol header from 127.0.0.1:5555: {text}")]
        assert peer.reason == "Protocol Violation"

    @pytest.mark.parametrize(
        ("sent", "text"),
        [
            (b"PRO", "failed to read protocol version: unexpected EOF"),
            (b"PROXY ", f"failed to read v1 line: read tcp {PATH}: read: connection reset by peer"),
        ],
    )
    def test_a_reset(self, connect, sent, text):
        peer = connect(PROXY).send(sent).reset()
        assert peer.log == [("warn", f"Error reading PROXY protocol header from 127.0.0.1:5555: {text}")]

    def test_tls_after_the_header(self, connect):
        peer = connect(PROXY, tls="").send(b"PROXY TCP4 1.2.3.4 127.0.0.1 1 2\r\n").leave()
        label = "1.2.3.4:1 - cid:5 - "
        assert [text.removeprefix(label) for _, text in peer.bench.log.entries[1:]] == [
            STARTING[1],
            "TLS handshake error: EOF",
            "Client connection closed: TLS Handshake Failure",
        ]


class TestRateLimit:
    def test_refusals_are_reported_once_a_second(self, connect):
        peer = connect(tls="connection_rate_limit: 1")
        warnings = lambda: peer.bench.log.texts("warn")  # noqa: E731
        for _ in range(3):
            Transport(ClientProtocol(peer.server.listener))
        assert warnings() == []
        peer.wait(1)
        assert warnings() == ["Rejected 3 connections due to TLS rate limiting"]
        peer.wait(5)
        assert len(warnings()) == 1
