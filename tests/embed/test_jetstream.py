"""JetStream of an embedded server: what tests do with its clock, between each other, and with what it stores."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamSource
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

import natsc

from .conftest import Run

pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")


class Frozen:
    """A server with JetStream whose clock stands, and a client of it."""

    def __init__(self, server: natsc.Server, client: Any) -> None:
        self.server = server
        self.client = client
        self.js: JetStreamContext = client.jetstream()

    def advance(self, seconds: float) -> None:
        self.server.clock.advance(seconds)

    async def messages(self, stream: str = "S") -> int:
        return (await self.js.stream_info(stream)).state.messages


@contextlib.asynccontextmanager
async def frozen(**options: Any) -> AsyncIterator[Frozen]:
    async with natsc.Server(jetstream=True, **options) as server:
        client = await server.connect_nats_py(allow_reconnect=False)
        server.clock.freeze()
        try:
            yield Frozen(server, client)
        finally:
            await client.close()


@pytest.fixture(params=[StorageType.FILE, StorageType.MEMORY])
def storage(request: pytest.FixtureRequest) -> StorageType:
    return request.param  # type: ignore[no-any-return]


# The clock


def test_what_is_not_acknowledged_in_time_comes_again(run: Run, storage: StorageType) -> None:
    async def main() -> None:
        async with frozen() as it:
            await it.js.add_stream(name="S", subjects=["s"], storage=storage)
            await it.js.publish("s", b"")
            sub = await it.js.pull_subscribe("s", "C", config=ConsumerConfig(ack_wait=30))
            await sub.fetch(1)
            it.advance(29.9)
            assert (await sub.consumer_info()).num_ack_pending == 1
            it.advance(0.1)
            assert (await sub.fetch(1))[0].metadata.num_delivered == 2

    run(main())


async def test_it_comes_again_to_a_fetch_that_waits() -> None:
    async with frozen() as it:
        await it.js.add_stream(name="S", subjects=["s"])
        await it.js.publish("s", b"")
        sub = await it.js.pull_subscribe("s", "C", config=ConsumerConfig(ack_wait=5))
        await sub.fetch(1)
        waiting = asyncio.ensure_future(sub.fetch(1, timeout=20))
        while not (await sub.consumer_info()).num_waiting:
            pass
        it.advance(5)
        assert (await waiting)[0].metadata.num_delivered == 2


async def test_messages_expire(storage: StorageType) -> None:
    async with frozen() as it:
        await it.js.add_stream(name="S", subjects=["s"], storage=storage, max_age=60)
        await it.js.publish("s", b"")
        it.advance(30)
        await it.js.publish("s", b"")
        it.advance(29.9)
        assert await it.messages() == 2
        it.advance(0.1)
        assert await it.messages() == 1
        it.advance(30)
        assert await it.messages() == 0


async def test_a_clock_that_stands_holds_up_nobody(storage: StorageType) -> None:
    async with asyncio.timeout(20), frozen() as f:
        await f.js.add_stream(name="S", subjects=["s.*"], storage=storage)
        for _ in range(5):
            await asyncio.gather(*(f.js.publish("s.a", b"") for _ in range(1000)))
        await f.js.add_stream(name="M", mirror=StreamSource(name="S"), storage=storage)
        subscription = await f.js.subscribe("s.*", ordered_consumer=True)
        for _ in range(5000):
            await subscription.next_msg()
        while await f.messages("M") < 5000:
            await asyncio.sleep(0)


async def test_time_to_live() -> None:
    async with frozen() as it:
        await it.js.add_stream(name="S", subjects=["s"], allow_msg_ttl=True)
        await it.js.publish("s", b"", headers={"Nats-TTL": "10"})
        it.advance(9.9)
        assert await it.messages() == 1
        it.advance(0.1)
        assert await it.messages() == 0


async def test_the_dedupe_window() -> None:
    async with frozen() as it:
        await it.js.add_stream(name="S", subjects=["s"], duplicate_window=120)
        for wait, is_duplicate in ((0, None), (119.9, True), (0.1, None)):
            it.advance(wait)
            assert (await it.js.publish("s", b"", headers={"Nats-Msg-Id": "1"})).duplicate is is_duplicate


async def test_consumers_that_nobody_uses_go() -> None:
    async with frozen() as it:
        await it.js.add_stream(name="S", subjects=["s"])
        await it.js.add_consumer("S", ConsumerConfig(durable_name="C", inactive_threshold=300))
        it.advance(299.9)
        await it.js.consumer_info("S", "C")
        it.advance(0.1)
        with pytest.raises(NotFoundError):
            await it.js.consumer_info("S", "C")


async def test_a_pause_ends() -> None:
    async with frozen() as it:
        await it.js.add_stream(name="S", subjects=["s"])
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(it.server.clock.wall_ns() / 1e9 + 3600))
        await it.js.add_consumer("S", ConsumerConfig(durable_name="C", pause_until=until))
        await it.js.publish("s", b"")
        assert (await it.js.consumer_info("S", "C")).paused
        it.advance(3600)
        assert not (await it.js.consumer_info("S", "C")).paused
        sub = await it.js.pull_subscribe_bind("C", "S")
        assert len(await sub.fetch(1)) == 1


async def test_things_happen_in_the_order_of_their_times() -> None:
    async with frozen() as it:
        heard = await it.client.subscribe("$JS.EVENT.ADVISORY.>")
        await it.js.add_stream(name="S", subjects=["s"], max_age=2)
        for name, seconds in (("C3", 3), ("C1", 1)):
            await it.js.add_consumer("S", ConsumerConfig(durable_name=name, inactive_threshold=seconds))
        await it.js.add_stream(name="T", subjects=["t"], subject_delete_marker_ttl=100, allow_msg_ttl=True, max_age=2)
        await it.js.publish("t", b"")
        it.advance(3.5)
        await it.client.flush()
        subjects = [(await heard.next_msg()).subject for _ in range(heard.pending_msgs)]
        assert [s.split(".")[-1] for s in subjects if ".CONSUMER.DELETED." in s] == ["C1", "C3"]
        marker = await it.js.get_last_msg("T", "t")
        assert marker.headers["Nats-Marker-Reason"] == "MaxAge"
        started = it.server.clock.wall_ns() / 1e9 - 3.5
        assert 1.9 < marker.time.timestamp() - started < 2.1


async def test_what_waits_for_the_disk_has_happened_when_the_clock_has_moved() -> None:
    async with frozen() as it:
        await it.js.add_stream(name="S", subjects=["s"], subject_delete_marker_ttl=100, allow_msg_ttl=True, max_age=2)
        inbox = await it.client.subscribe("deliver")
        await it.js.add_consumer("S", ConsumerConfig(durable_name="C", deliver_subject="deliver"))
        await it.js.publish("s", b"")
        await inbox.next_msg()
        it.advance(2)
        await it.client.flush()
        assert inbox.pending_msgs == 1
        assert (await inbox.next_msg()).headers["Nats-Marker-Reason"] == "MaxAge"


def test_from_another_thread() -> None:
    async def talk(server: natsc.ThreadServer) -> None:
        client = await nats.connect(server.url)
        js = client.jetstream()
        await js.add_stream(name="S", subjects=["s"], max_age=60)
        await js.publish("s", b"")
        server.clock.freeze()
        server.clock.advance(60)
        assert (await js.stream_info("S")).state.messages == 0
        await client.close()

    with natsc.run_in_thread(jetstream=True) as server:
        asyncio.run(talk(server))


# Between tests


async def fill(client: Any) -> None:
    js = client.jetstream()
    await js.add_stream(name="S", subjects=["s"], retention=RetentionPolicy.INTEREST)
    await js.add_consumer("S", ConsumerConfig(durable_name="C"))
    await js.publish("s", b"")
    await (await js.create_key_value(bucket="B")).put("k", b"v")


async def test_a_server_that_was_reset_is_empty() -> None:
    async with natsc.Server(jetstream=True, http_port=-1) as server:
        account = server.account()
        for url in (server.url, account.url):
            client = await nats.connect(url, allow_reconnect=False)
            await fill(client)
            await client.close()
        server.clock.freeze()
        server.reset()
        assert not server._core.engine.frozen
        client = await nats.connect(server.url)
        info = await client.jetstream().account_info()
        assert (info.streams, info.consumers, info.storage, info.memory, info.api.total) == (0, 0, 0, 0, 0)
        await fill(client)
        assert (await client.jetstream().publish("s", b"")).seq == 2
        await client.close()
        assert server.account(account.account).account == account.account


async def test_connections_may_stay() -> None:
    async with natsc.Server(jetstream=True) as server:
        client = await server.connect_nats_py(allow_reconnect=False)
        await fill(client)
        sub = await client.subscribe("x")
        server.reset(connections=False)
        await client.publish("x", b"")
        await sub.next_msg(timeout=5)
        assert await client.jetstream().streams_info() == []
        await client.close()


async def test_a_reset_counts_anew() -> None:
    async with natsc.Server() as server:
        client = await server.connect_nats_py(allow_reconnect=False)
        await client.publish("x", b"12345")
        await client.flush()
        await client.close()
        server.reset()
        core = server._core
        assert (core.engine.in_msgs, core.engine.in_bytes, core.total_connections, len(core.closed)) == (0, 0, 0, 0)


async def test_a_reset_is_a_matter_of_milliseconds() -> None:
    async with natsc.Server(jetstream=True) as server:
        client = await server.connect_nats_py(allow_reconnect=False)
        js = client.jetstream()
        for n in range(20):
            await js.add_stream(name=f"S{n}", subjects=[f"s.{n}"])
            for _ in range(20):
                await client.publish(f"s.{n}", bytes(100))
        await client.flush()
        began = time.perf_counter()
        server.reset()
        assert time.perf_counter() - began < 0.5
        await client.close()


# Accounts


async def test_streams_of_an_account_are_its_own_and_go_with_it() -> None:
    async with natsc.Server(jetstream=True) as server:
        account = server.account()
        inside, outside = await nats.connect(account.url, allow_reconnect=False), await nats.connect(server.url)
        for client in (inside, outside):
            await fill(client)
        server.remove_account(account.account)
        inside = await nats.connect(server.account(account.account).url)
        assert await inside.jetstream().streams_info() == []
        assert len(await outside.jetstream().streams_info()) == 2
        await inside.close()
        await outside.close()


# The store


async def test_what_is_stored_goes_with_the_server() -> None:
    async with natsc.Server(jetstream=True) as server:
        client = await server.connect_nats_py(allow_reconnect=False)
        await fill(client)
        folder = server._core.options.store_dir
        assert os.path.exists(folder)
        await client.close()
    assert not os.path.exists(folder)


async def test_a_store_directory_is_kept(tmp_path: Path) -> None:
    for expected in (0, 1):
        async with natsc.Server(jetstream=True, store_dir=tmp_path) as server:
            client = await server.connect_nats_py(allow_reconnect=False)
            assert len(await client.jetstream().streams_info()) == expected
            await client.jetstream().add_stream(name="S", subjects=["s"])
            await client.close()


async def test_reload_keeps_the_store() -> None:
    async with natsc.Server(jetstream=True) as server:
        client = await server.connect_nats_py(allow_reconnect=False)
        await fill(client)
        server.reload(max_payload=2000)
        assert len(await client.jetstream().streams_info()) == 2
        await client.close()


async def test_jetstream_may_come_with_a_reload() -> None:
    async with natsc.Server() as server:
        server.reload(jetstream=True)
        client = await server.connect_nats_py(allow_reconnect=False)
        await fill(client)
        folder = server._core.options.store_dir
        await client.close()
    assert not os.path.exists(folder)


async def test_a_sweep_goes_on_after_a_restart(tmp_path: Path) -> None:
    """A consumer that many messages waited for is gone: they go in steps, and the server is stopped after the first."""
    count = 12_000
    async with natsc.Server(jetstream=True, store_dir=tmp_path) as server:
        client = await server.connect_nats_py(allow_reconnect=False)
        js = client.jetstream()
        await js.add_stream(name="S", subjects=["s.>"], retention=RetentionPolicy.INTEREST)
        for name in ("A", "B"):
            await js.add_consumer("S", ConsumerConfig(durable_name=name, filter_subject=f"s.{name}"))
        for _ in range(count):
            await client.publish("s.A")
        await js.publish("s.B")
        stream = server._core.jetstream.accounts["$G"].stream("S")
        stream.consumer("A").delete()
        left = stream.state().messages
        assert 1 < left <= count
        await client.close()
    async with natsc.Server(jetstream=True, store_dir=tmp_path) as server:
        client = await server.connect_nats_py(allow_reconnect=False)
        while (await client.jetstream().stream_info("S")).state.messages > 1:
            await asyncio.sleep(0)
        stream = server._core.jetstream.accounts["$G"].stream("S")
        assert stream.sweep_at == 0
        await client.close()


async def test_requests_behind_a_long_one_see_it_done() -> None:
    """A purge in steps, and what was asked behind it on the same connection, and on another one."""
    count = 20_000
    async with natsc.Server(jetstream=True) as server:
        client = await server.connect_nats_py(allow_reconnect=False)
        other = await server.connect_nats_py(allow_reconnect=False)
        js = client.jetstream()
        await js.add_stream(name="S", subjects=["s.>"], storage=StorageType.MEMORY)
        for number in range(count):
            await client.publish(f"s.{number % 2}")
        await client.flush()
        purging = asyncio.ensure_future(js.purge_stream("S", subject="s.0"))
        infos = [asyncio.ensure_future(one.jetstream().stream_info("S")) for one in (client, other)]
        await asyncio.sleep(0)  # both have sent what they ask
        await client.publish("s.1")
        assert await purging
        behind, elsewhere = [(await info).state.messages - count // 2 for info in infos]
        assert behind in (0, 1)
        assert elsewhere in (0, 1, count // 2, count // 2 + 1)  # before it, or behind it
        assert (await js.stream_info("S")).state.messages == count // 2 + 1
        for each in (client, other):
            await each.close()
