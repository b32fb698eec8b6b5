"""Publishers wait for a subscriber that is behind, as long as it moves."""

from __future__ import annotations

import asyncio
import socket

import pytest

import natsc
from natsc.net import protocol

STALL_AT = 1 << 20  # bytes that a blocked client may owe before publishers wait for it
MESSAGE = b"PUB foo 65536\r\n" + b"x" * 65536 + b"\r\n"


async def subscriber(port: int) -> tuple[socket.socket, int]:
    """A subscriber whose kernel takes little, its input read up to PONG; and its client id."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB foo 1\r\nPING\r\n')
    said = b""
    while not said.endswith(b"PONG\r\n"):
        said += await loop.sock_recv(sock, 65536)
    return sock, int(said.split(b'"client_id":')[1].split(b",")[0])


async def publish(port: int, messages: int) -> None:
    """Publishes, and returns once the server has read all of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
    for _ in range(messages):
        writer.write(MESSAGE)
        await writer.drain()
    writer.write(b"PING\r\n")
    await reader.readuntil(b"PONG\r\n")
    writer.close()


async def test_a_subscriber_that_moves_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALL_PROBE", 5)  # however long a loaded machine and a small window take
    async with natsc.Server() as server:
        port, engine = server.ports["nats"], server._core.engine
        loop = asyncio.get_running_loop()
        sock, cid = await subscriber(port)
        publishing = asyncio.create_task(publish(port, 128))
        client = next(client for client in engine.clients() if client.cid == cid)
        owed = 0
        missing = 128 * len(b"MSG foo 1 65536\r\n" + MESSAGE.partition(b"\n")[2])
        while missing:
            missing -= len(await loop.sock_recv(sock, 8192))
            owed = max(owed, client.pending_bytes)
            await asyncio.sleep(0)  # where there is something to read, sock_recv lets nobody else go on
        await publishing
        assert client.stalls > 0
        assert STALL_AT < owed < 2 * STALL_AT
        sock.close()


async def test_a_subscriber_that_does_not_move_is_not_waited_for() -> None:
    async with natsc.Server() as server:
        port, engine = server.ports["nats"], server._core.engine
        sock, cid = await subscriber(port)
        await publish(port, 128)
        client = next(client for client in engine.clients() if client.cid == cid)
        assert client.pending_bytes > 2 * STALL_AT
        sock.close()
