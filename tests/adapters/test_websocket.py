"""The WebSocket door, embedded: what takes time."""

from __future__ import annotations

import asyncio

import natsc


async def test_an_upgrade_that_does_not_come_is_waited_for_no_longer_than_this() -> None:
    config = "websocket { host: 127.0.0.1, port: -1, no_tls: true }"
    async with natsc.Server(config=config) as server:
        server.clock.freeze()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["websocket"])
        server.clock.advance(59)
        await asyncio.sleep(0)
        assert not reader.at_eof()
        server.clock.advance(2)
        assert await reader.read() == b""
        writer.close()
