"""Buckets that read from other buckets, with the official Python client: against natsc and nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import pytest
from nats.js.api import StreamConfig, StreamSource, SubjectTransform
from nats.js.errors import KeyNotFoundError

from tests.conformance.harness import KINDS, Server

WAIT_S = 20


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    running = Server(request.param, f'jetstream {{ store_dir: "{tmp_path_factory.mktemp(request.param)}" }}\n')
    yield running
    running.close()


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Any]:
    client = await nats.connect(server.url, allow_reconnect=False)
    try:
        async with asyncio.timeout(WAIT_S):
            yield client.jetstream()
    finally:
        await client.close()


async def until(check: Callable[[], Any]) -> None:
    while not await check():
        await asyncio.sleep(0.02)


def bucket_source(origin: str, copy: str, prefix: str) -> StreamSource:
    transform = SubjectTransform(src=f"{prefix}.{origin}.>", dest=f"{prefix}.{copy}.>")
    return StreamSource(name=f"{'KV' if prefix == '$KV' else 'OBJ'}_{origin}", subject_transforms=[transform])


async def messages(js: Any, stream: str) -> int:
    return (await js.stream_info(stream)).state.messages


def test_a_key_value_bucket_with_a_source(server: Server) -> None:
    async def go() -> None:
        async with connected(server) as js:
            origin = await js.create_key_value(bucket="A", history=2)
            await origin.put("one", b"1")
            config = StreamConfig(
                name="KV_B", subjects=["$KV.B.>"], sources=[bucket_source("A", "B", "$KV")], max_msgs_per_subject=2,
                allow_rollup_hdrs=True, allow_direct=True, deny_delete=True,
            )  # fmt: skip
            await js.add_stream(config)
            copy = await js.key_value("B")
            await copy.put("own", b"x")

            async def has_one() -> bool:
                return await messages(js, "KV_B") == 2

            await until(has_one)
            assert (await copy.get("one")).value == b"1"
            await origin.put("one", b"2")
            await origin.put("one", b"3")
            await origin.delete("one")

            async def is_deleted() -> bool:
                try:
                    await copy.get("one")
                except KeyNotFoundError:
                    return True
                return False

            await until(is_deleted)
            assert sorted(await copy.keys()) == ["own"]
            assert [entry.operation for entry in await copy.history("one")] == [None, "DEL"]

    asyncio.run(go())


def test_a_mirrored_key_value_bucket(server: Server) -> None:
    async def go() -> None:
        async with connected(server) as js:
            origin = await js.create_key_value(bucket="MA", direct=True)
            await origin.put("one", b"1")
            await js.add_stream(StreamConfig(name="KV_MB", mirror=StreamSource(name="KV_MA"), allow_rollup_hdrs=True))

            async def has_one() -> bool:
                return await messages(js, "KV_MB") == 1

            await until(has_one)
            message = await js.get_last_msg("KV_MB", "$KV.MA.one")
            assert (message.data, message.seq) == (b"1", 1)
            await origin.purge("one")
            await until(has_one)
            await origin.put("two", b"2")

            async def has_two() -> bool:
                return await messages(js, "KV_MB") == 2

            await until(has_two)
            assert (await js.stream_info("KV_MB")).config.mirror_direct
            await js.delete_stream("KV_MA")
            assert (await origin.get("two")).value == b"2"  # the mirror answers

    asyncio.run(go())


def test_an_object_store_with_a_source(server: Server) -> None:
    async def go() -> None:
        async with connected(server) as js:
            origin = await js.create_object_store("A")
            content = bytes(range(256)) * 2000
            await origin.put("thing", content)
            config = StreamConfig(
                name="OBJ_B", subjects=["$O.B.C.>", "$O.B.M.>"], sources=[bucket_source("A", "B", "$O")],
                allow_rollup_hdrs=True, allow_direct=True,
            )  # fmt: skip
            await js.add_stream(config)
            whole = await messages(js, "OBJ_A")

            async def is_there() -> bool:
                return await messages(js, "OBJ_B") == whole

            await until(is_there)
            copy = await js.object_store("B")
            assert (await copy.get("thing")).data == content

    asyncio.run(go())
