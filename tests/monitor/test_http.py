"""The HTTP server: keep-alive, framing, limits and time, on an event loop with real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from natsc.monitor import connection, endpoints, http
from natsc.monitor.http import Monitor, MonitorError, start_monitor
from natsc.net.sockets import open_listener
from tests.monitor.fakes import Account, Conn, Server

HOST = b"Host: x\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def running(server: Server | None = None) -> AsyncIterator[Monitor]:
    monitor = await start_monitor(server or Server(), asyncio.get_running_loop())
    assert monitor is not None
    try:
        yield monitor
    finally:
        monitor.close()


async def exchange(port: int, data: bytes, eof: bool = False) -> bytes:
    """Everything that the server says to `data` until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    if eof:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server closes the connection, orderly or with a reset."""
    received = b""
    try:
        while data := await asyncio.wait_for(reader.read(65536), 10):
            received += data
    except ConnectionResetError:
        pass
    return received


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def say(data: bytes, server: Server | None = None, eof: bool = False) -> bytes:
    async def main() -> bytes:
        async with running(server) as monitor:
            return await exchange(monitor.port, data, eof)

    return run(main())  # type: ignore[no-any-return]


def test_an_answer() -> None:
    head, _, body = say(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[:3] == [b"HTTP/1.1 200 OK", b"Access-Control-Allow-Origin: *", b"Content-Type: application/json"]
    assert lines[3] == b"Date: Fri, 15 Jan 2027 08:00:00 GMT"
    assert lines[4:] == [b"Content-Length: 15", b"Connection: close"]
    assert body == b'{"status":"ok"}'


def test_pipelined_requests_are_answered_in_order() -> None:
    answer = say(GET + b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n" + GET, eof=True)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


def test_http_1_0_closes() -> None:
    head, _, body = say(b"GET /varz HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    assert b"Connection" not in head
    assert body.endswith(b"\n}")


def test_http_1_0_with_keep_alive() -> None:
    answer = say(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET, eof=True)
    assert b"\r\nConnection: keep-alive\r\n" in answer
    assert answer.count(b'{"status":"ok"}') == 2


def test_head_has_the_length_and_no_body() -> None:
    answer = say(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"\r\nContent-Length: 15\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_options_for_the_whole_server() -> None:
    assert say(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    answer = say(b"GET * HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Content-Length: 0\r\nConnection: close" in answer


def test_an_unmet_expectation() -> None:
    assert say(b"GET / HTTP/1.1\r\nHost: x\r\nExpect: foo\r\n\r\n").startswith(b"HTTP/1.1 417 Expectation Failed\r\n")


def test_a_fault_is_answered_and_closes() -> None:
    assert say(b"nonsense\r\n\r\n" + GET).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def many() -> Server:
    account = Account("A")
    return Server([Conn(cid, account, name="x" * 100) for cid in range(1, 1001)], accounts=[account])


def dechunk(body: bytes) -> bytes:
    whole = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        count = int(size, 16)
        if not count:
            assert rest == b"\r\n"
            return whole
        whole += rest[:count]
        assert rest[count : count + 2] == b"\r\n"
        body = rest[count + 2 :]


def test_a_long_answer_is_chunked() -> None:
    import json

    answer = say(b"GET /connz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", many())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert len(json.loads(dechunk(body))["connections"]) == 1000


def test_a_long_answer_over_http_1_0_ends_with_the_connection() -> None:
    head, _, body = say(b"GET /connz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", many()).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"keep-alive" not in head
    assert body.endswith(b"\n}")


def test_the_next_request_waits_for_a_long_answer() -> None:
    answer = say(b"GET /connz HTTP/1.1\r\nHost: x\r\n\r\n" + GET, many(), eof=True)
    assert answer.endswith(b'{"status":"ok"}')
    assert b"\r\n0\r\n\r\nHTTP/1.1 200" in answer


def test_head_of_a_long_answer() -> None:
    answer = say(b"HEAD /connz HTTP/1.1\r\nHost: x\r\n\r\n" + GET, many(), eof=True)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.count(b"{") == 1


def test_a_fault_of_an_endpoint_is_logged_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(server: Any, query: Any) -> Any:
        raise KeyError("gone")

    monkeypatch.setitem(endpoints.ENDPOINTS, "/varz", broken)
    server = Server()
    answer = say(b"GET /varz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", server)
    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert server.log.lines[-1].startswith("ERR monitoring: KeyError: 'gone' at ")


def test_a_fault_in_the_middle_of_an_answer_cuts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x"
        yield b"y"
        raise KeyError("gone")

    monkeypatch.setitem(endpoints.ENDPOINTS, "/varz", lambda server, query: (200, "application/json", pieces()))
    server = Server()

    async def main() -> bytes:
        async with running(server) as monitor:
            reader, writer = await asyncio.open_connection("127.0.0.1", monitor.port)
            writer.write(b"GET /varz HTTP/1.1\r\nHost: x\r\n\r\n")
            received = await rest(reader)
            writer.close()
            return received

    assert b"\r\n0\r\n\r\n" not in run(main())
    assert "KeyError" in server.log.lines[-1]


def test_a_slow_head_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_TIMEOUT", 0.02)

    async def main() -> None:
        async with running() as monitor:
            for start, answers in ((b"", 0), (b"GET /healthz HTTP/1.1\r\n", 0), (GET + b"GET", 1)):
                reader, writer = await asyncio.open_connection("127.0.0.1", monitor.port)
                writer.write(start)
                assert (await rest(reader)).count(b"HTTP/1.1 ") == answers
                writer.close()

    run(main())


def test_an_idle_connection_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEADER_TIMEOUT", 0.02)

    async def main() -> None:
        async with running() as monitor:
            reader, writer = await asyncio.open_connection("127.0.0.1", monitor.port)
            for _ in range(3):
                writer.write(GET)
                assert (await reader.readuntil(b"}")).endswith(b'{"status":"ok"}')
                await asyncio.sleep(0.03)
            writer.close()

    run(main())


def test_at_the_limit_the_idle_make_room_and_the_busy_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)

    async def main() -> None:
        async with running() as monitor:
            busy_reader, busy = await asyncio.open_connection("127.0.0.1", monitor.port)
            busy.write(b"GET /healthz HTTP/1.1\r\n")
            idle_reader, idle = await asyncio.open_connection("127.0.0.1", monitor.port)
            idle.write(GET)
            await idle_reader.readuntil(b"}")
            third_reader, third = await asyncio.open_connection("127.0.0.1", monitor.port)
            third.write(b"GET /healthz HTTP/1.1\r\n")
            assert await rest(idle_reader) == b""
            fourth_reader, fourth = await asyncio.open_connection("127.0.0.1", monitor.port)
            assert await rest(fourth_reader) == b""
            for reader, writer in ((busy_reader, busy), (third_reader, third)):
                writer.write(HOST + b"\r\n")
                assert (await reader.readuntil(b"}")).endswith(b'{"status":"ok"}')
            for writer in (busy, idle, third, fourth):
                writer.close()

    run(main())


def test_a_flood_of_requests_is_not_read_ahead() -> None:
    async def main() -> int:
        async with running() as monitor:
            _, writer = await asyncio.open_connection("127.0.0.1", monitor.port)
            # Nobody reads the answers: the server stops reading too, and this never all fits into the kernel.
            writer.write(GET * 400_000)
            for _ in range(200):
                await asyncio.sleep(0)
            (flooded,) = monitor._connections
            buffered = flooded._parser.buffered
            writer.transport.abort()
            return buffered

    assert run(main()) <= connection.MAX_BUFFERED_BYTES + 256 * 1024


def test_closing_releases_the_port_and_drops_connections() -> None:
    async def main() -> None:
        async with running() as monitor:
            reader, writer = await asyncio.open_connection("127.0.0.1", monitor.port)
            writer.write(GET)
            await reader.readuntil(b"}")
            port = monitor.port
            monitor.close()
            assert await rest(reader) == b""
            writer.close()
        await asyncio.sleep(0)
        open_listener("127.0.0.1", port).close()

    run(main())


def test_the_log_and_the_urls_name_the_port() -> None:
    server = Server()

    async def main() -> Monitor:
        async with running(server) as monitor:
            return monitor

    monitor = run(main())
    assert server.log.lines == [f"INF Starting http monitor on 127.0.0.1:{monitor.port}"]
    assert monitor.urls == [f"http://127.0.0.1:{monitor.port}"]


def test_no_port_no_monitor() -> None:
    async def main() -> Any:
        return await start_monitor(Server(http_port=0), asyncio.get_running_loop())

    assert run(main()) is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"http_port": 1, "https_port": 2}, r"can't specify both HTTP \(1\) and HTTPs \(2\) ports"),
        ({"http_port": 0, "https_port": 2}, "TLS cert and key required for HTTPS"),
    ],
)
def test_contradicting_options(values: dict[str, int], text: str) -> None:
    async def main() -> Any:
        return await start_monitor(Server(**values), asyncio.get_running_loop())

    with pytest.raises(MonitorError, match=text):
        run(main())


def test_a_port_in_use() -> None:
    taken = open_listener("127.0.0.1", 0)
    port = taken.getsockname()[1]
    text = f"can't listen to the monitor port: listen tcp 127.0.0.1:{port}: bind: address already in use"

    async def main() -> None:
        await start_monitor(Server(http_port=port), asyncio.get_running_loop())

    with pytest.raises(MonitorError, match=text):
        run(main())
    taken.close()


def test_all_addresses() -> None:
    import socket

    listener = open_listener("0.0.0.0", 0)
    for host in ("127.0.0.1", "::1") if listener.family == socket.AF_INET6 else ("127.0.0.1",):
        socket.create_connection((host, listener.getsockname()[1])).close()
    listener.close()
