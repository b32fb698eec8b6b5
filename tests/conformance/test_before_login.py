"""Those who connect and don't log in: they take little memory, and no longer than they are given, through each door."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import pytest

from .doors import WEBSOCKET, check_memory, clear, enter, resident, websocket_port
from .harness import TIMEOUT_S

MB = 1 << 20
MANY = 200
DOORS = ("tcp", "tls", "websocket", "wss")
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def place(shared_server, certificates):
    """A server by its door, whose clients have a second for each step, and the port to knock at."""

    def get(door: str):
        tls = certificates.config("timeout: 1")
        block = "handshake_timeout: 1s\n" + (tls if door == "wss" else "no_tls: true")
        server = shared_server(
            "authorization { user: u, password: p, timeout: 1 }\nhttp: 127.0.0.1:-1\n"
            + (tls if door == "tls" else "")
            + (WEBSOCKET.format(block) if door in ("websocket", "wss") else "")
        )
        return server, websocket_port(server) if door in ("websocket", "wss") else server.port

    return get


def check_serves(server, door, certificates) -> None:
    with contextlib.closing(enter(door, server, certificates.client_context())) as wire:
        assert wire.connect(**{"user": "u", "pass": "p"}).flush() == []


def ended(sock: socket.socket) -> float:
    """When the server has closed the connection, whatever it said before."""
    sock.settimeout(TIMEOUT_S)
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):
            pass
    return time.monotonic()


@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01", REQUEST, b"CONNECT {"], ids=["nothing", "tls", "http", "connect"]
)
@pytest.mark.parametrize("door", DOORS)
def test_many_that_go_no_further(place, certificates, door, said):
    """Each is closed when its time is over, and others are served meanwhile."""
    server, port = place(door)
    check_serves(server, door, certificates)
    before = resident(server)
    began = time.monotonic()
    socks = [socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) for _ in range(MANY)]
    try:
        for sock in socks:
            with contextlib.suppress(ConnectionError):
                sock.sendall(said)
        check_memory(server, before, 20)
        check_serves(server, door, certificates)
        assert max(ended(sock) for sock in socks) - began < TIMEOUT_S
    finally:
        for sock in socks:
            sock.close()
    check_serves(server, door, certificates)


@pytest.mark.parametrize("door", DOORS)
def test_a_byte_now_and_then_buys_no_time(place, certificates, door):
    server, port = place(door)
    text = {"tcp": b'CONNECT {"name":"' + b"x" * 1000, "websocket": REQUEST + b"X: " + b"x" * 1000}
    hello = ssl_hello(certificates)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as sock:
        over = threading.Event()

        def trickle() -> None:
            for octet in text.get(door, hello):
                if over.wait(0.05):
                    return
                try:
                    sock.send(bytes([octet]))
                except OSError:
                    return

        began = time.monotonic()
        sender = threading.Thread(target=trickle, daemon=True)
        sender.start()
        took = ended(sock) - began
        over.set()
        sender.join(TIMEOUT_S)
    assert took < 6  # each byte for itself would make it fifty seconds
    check_serves(server, door, certificates)


def ssl_hello(certificates) -> bytes:
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = certificates.client_context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("door", DOORS)
def test_after_the_handshake_the_time_of_connect_begins(place, certificates, door):
    server, _ = place(door)
    with contextlib.closing(enter(door, server, certificates.client_context())) as wire:
        assert wire.eof() == [b"-ERR 'Authentication Timeout'"]
        assert server.closed(wire.cid)["reason"] == "Authentication Timeout"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "first", [b'CONNECT {"name":"', b"CONNECT ", b"", b"PUB a ", b"SUB ", b"HPUB a 1 1000000000\r\n"]
)
def test_an_operation_without_an_end(place, certificates, door, first):
    """It ends the connection as soon as it can't be good any more, and is never collected."""
    server, _ = place(door)
    check_serves(server, door, certificates)
    before = resident(server)
    with contextlib.closing(enter(door, server, certificates.client_context())) as wire:
        with contextlib.suppress(OSError):
            wire.send(first)
            for _ in range(200):
                if door in ("tcp", "tls"):
                    wire.send(b"x" * 65536)
                else:
                    wire.frames(clear(2, b"x" * 65536))
        with contextlib.suppress(OSError, AssertionError, EOFError):
            wire.eof()
    check_memory(server, before, 8)
    check_serves(server, door, certificates)


@pytest.mark.parametrize("door", ["websocket", "wss"])
@pytest.mark.parametrize("line", [b"X: y\r\n", b"X: " + b"y" * 60000 + b"\r\n", b"y" * 65536, b"Cookie: a=b\r\n"])
def test_a_flood_of_headers(place, certificates, door, line):
    server, port = place(door)
    check_serves(server, door, certificates)
    before = resident(server)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as raw:
        sock = certificates.client_context().wrap_socket(raw, server_hostname="127.0.0.1") if door == "wss" else raw
        with contextlib.suppress(OSError):
            sock.sendall(REQUEST)
            for _ in range(16 * MB // 65536):
                sock.sendall(line * (65536 // len(line)))
        with contextlib.suppress(OSError):
            ended(sock)
        sock.close()
    check_memory(server, before, 8)
    check_serves(server, door, certificates)


@pytest.mark.parametrize("door", ["tls", "wss"])
@pytest.mark.parametrize("said", [
    b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(65535), b"\x80\xff" + bytes(300),
    b"\x15\x03\x01\x00\x02\x02\x28",
    bytes(100_000), b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + bytes(16380),
], ids=["http", "a record", "version 2", "an alert", "noughts", "a long hello"])  # fmt: skip
def test_what_is_no_hello(place, certificates, door, said):
    server, port = place(door)
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(said)
        ended(sock)
    check_serves(server, door, certificates)
    assert "Traceback" not in "\n".join(server.log)
