"""Delivery over real sockets: what is sent early, big or in pieces arrives whole and in order."""

from __future__ import annotations

import asyncio

import pytest

import natsc

# (subscribers, messages, bytes of a message): few and many receivers, small and big messages
SHAPES = [(2, 3000, 16), (40, 3000, 100), (40, 40, 20_000), (3, 60, 200_000)]


async def _receive(port: int, ready: asyncio.Event, expected: int, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB foo 1\r\nPING\r\n')
    assert await reader.readline() == b"PONG\r\n"
    ready.set()
    for number in range(expected):
        payload = (b"%d " % number).ljust(size, b"x")
        assert await reader.readline() == b"MSG foo 1 %d\r\n" % size
        assert await reader.readexactly(size + 2) == payload + b"\r\n"
    writer.close()


@pytest.mark.parametrize(("subscribers", "messages", "size"), SHAPES)
async def test_every_subscriber_gets_every_message_in_order(subscribers: int, messages: int, size: int) -> None:
    async with natsc.Server() as server:
        port = server.ports["nats"]
        ready = [asyncio.Event() for _ in range(subscribers)]
        tasks = [asyncio.create_task(_receive(port, event, messages, size)) for event in ready]
        await asyncio.gather(*(event.wait() for event in ready))
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
        for number in range(messages):
            writer.write(b"PUB foo %d\r\n%s\r\n" % (size, (b"%d " % number).ljust(size, b"x")))
        await writer.drain()
        await asyncio.gather(*tasks)
        writer.close()


async def test_what_several_clients_say_at_once_all_arrives() -> None:
    """Small reads of one turn of the loop leave together; none is forgotten."""
    async with natsc.Server() as server:
        port = server.ports["nats"]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB foo 1\r\nPING\r\n')
        await reader.readuntil(b"PONG\r\n")
        senders = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        for number, (_, sender) in enumerate(senders):
            sender.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nPUB foo 1\r\n%d\r\n' % number)
        said = [await reader.readline() + await reader.readline() for _ in senders]
        assert sorted(said) == [b"MSG foo 1 1\r\n%d\r\n" % number for number in range(5)]
        for _, closing in [*senders, (reader, writer)]:
            closing.close()
