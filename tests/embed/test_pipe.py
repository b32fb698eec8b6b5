"""Connections in process: the same protocol as over TCP, without a socket."""

from __future__ import annotations

import asyncio
import os

import pytest

import natsc

from .conftest import Run, dial, dial_in_process


def test_it_speaks_the_protocol(run: Run) -> None:
    async def main() -> None:
        async with natsc.Server() as server:
            inside, outside = await dial_in_process(server), await dial(server)
            inside.send("SUB a.* q 1")
            await inside.until_pong()
            outside.send("PUB a.b reply 2", "hi")
            await outside.until_pong()
            assert await inside.until_pong() == [b"MSG a.b 1 reply 2", b"hi"]
            await inside.close()
            await outside.close()

    run(main())


def test_no_descriptor_is_used(run: Run) -> None:
    async def main() -> None:
        async with natsc.Server() as server:
            before = os.listdir("/proc/self/fd")
            line = await dial_in_process(server)
            await line.until_pong()
            assert os.listdir("/proc/self/fd") == before
            await line.close()

    run(main())


def test_big_messages_both_ways(run: Run) -> None:
    async def main() -> None:
        async with natsc.Server(max_payload=8 << 20) as server:
            line = await dial_in_process(server)
            payload = os.urandom(1 << 22).hex()
            line.send("SUB x 1", f"PUB x {len(payload)}", payload)
            assert await line.line() == f"MSG x 1 {len(payload)}".encode()
            assert await line.reader.readexactly(len(payload) + 2) == payload.encode() + b"\r\n"
            assert await line.until_pong() == []
            await line.close()

    run(main())


async def test_both_ends_close_when_the_client_does() -> None:
    async with natsc.Server() as server:
        line = await dial_in_process(server)
        await line.until_pong()
        await line.close()
        other = await dial_in_process(server)
        other.send("SUB x 1")
        await other.until_pong()
        assert len(server._core.engine.clients()) == 1
        await other.close()


async def test_the_end_of_the_clients_stream_closes_it() -> None:
    async with natsc.Server() as server:
        line = await dial_in_process(server)
        line.send("PING")
        line.writer.write_eof()
        assert await line.rest() == b"PONG\r\n"
        await line.close()


async def test_what_was_sent_before_the_close_arrives() -> None:
    async with natsc.Server() as server:
        line = await dial_in_process(server)
        line.send("NONSENSE")
        assert await line.rest() == b"-ERR 'Unknown Protocol Operation'\r\n"
        await line.close()


async def test_a_client_that_does_not_read_is_a_slow_consumer() -> None:
    async with natsc.Server(max_pending=1 << 20) as server:
        slow, fast = await dial_in_process(server), await dial(server)
        slow.send("SUB x 1")
        await slow.until_pong()
        payload = "x" * 100_000
        for _ in range(30):
            fast.send(f"PUB x {len(payload)}", payload)
        await fast.until_pong()
        assert server._core.engine.slow_consumers == 1
        await slow.rest()
        for line in (slow, fast):
            await line.close()


async def test_a_server_that_asks_for_tls_does_not_ask_here(tls_files: dict[str, str]) -> None:
    async with natsc.Server(tls=tls_files) as server:
        assert server.url.startswith("tls://")
        line = await dial_in_process(server)
        assert "tls_required" not in line.info
        assert await line.until_pong() == []
        await line.close()


async def test_the_server_stops() -> None:
    async with natsc.Server() as server:
        line = await dial_in_process(server)
        await line.until_pong()
    assert await line.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await server.connect_in_process()


def test_nats_py(run: Run) -> None:
    async def main() -> None:
        async with natsc.Server() as server:
            client = await server.connect_nats_py(name="inside")

            async def answer(message: object) -> None:
                await message.respond(b"pong")

            await client.subscribe("ping", cb=answer)
            assert (await client.request("ping", b"", timeout=5)).data == b"pong"
            assert server._core.engine.clients()[0].name == "inside"
            await client.drain()

    run(main())


async def test_nats_py_comes_back() -> None:
    async with natsc.Server() as server:
        back = asyncio.Event()

        async def on_reconnect() -> None:
            back.set()

        client = await server.connect_nats_py(reconnected_cb=on_reconnect, reconnect_time_wait=0.01)
        server.reset()
        await asyncio.wait_for(back.wait(), 10)
        await client.flush()
        await client.close()
