"""The wall clock is set back or forward by a day, while a server runs and between two of its runs.

Nothing that is counted goes back: sequences, consumers, what is acknowledged. What is measured from now on (ack_wait)
goes by a clock that isn't set. What depends on the time of day (ages, times to live, the dedupe window) is a day early
after a step forward, and after one back a day late: the time in a stream doesn't go back, it stands until the clock has
come there again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.js.api import ConsumerConfig

import natsc
from natsc import clock

DAY_S = 86400
STEPS = pytest.mark.parametrize("step", [-DAY_S, DAY_S], ids=["back", "forward"])


@contextlib.contextmanager
def clocks_set(seconds: int) -> Iterator[None]:
    """Servers that are made now find a wall clock that was set before."""
    make = clock.Clock.__init__

    def made(self: Any, *args: Any) -> None:
        make(self, *args)
        self.freeze()
        self._wall_offset_ns += seconds * 1_000_000_000

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock.Clock, "__init__", made)
        yield


def set_clock(server: Any, seconds: int) -> None:
    """Somebody sets the wall clock; the time that has passed stays what it is."""
    server.clock._wall_offset_ns += seconds * 1_000_000_000


class Running:
    def __init__(self, server: Any, client: Any) -> None:
        self.server = server
        self.client = client
        self.js = client.jetstream()

    async def state(self, stream: str = "S") -> Any:
        return (await self.js.stream_info(stream)).state


@contextlib.asynccontextmanager
async def running(where: Path, offset_s: int = 0) -> AsyncIterator[Running]:
    with clocks_set(offset_s):
        server = natsc.Server(jetstream=True, store_dir=str(where))
        await server.start()
    async with contextlib.AsyncExitStack() as ending:
        ending.push_async_callback(server.stop)
        client = await server.connect_nats_py(allow_reconnect=False)
        try:
            yield Running(server, client)
        finally:
            await client.close()


async def test_the_step_is_one_of_the_wall_clock_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        monotonic, wall = it.server.clock.now_ns(), it.server.clock.wall_ns()
        set_clock(it.server, DAY_S)
        assert it.server.clock.now_ns() == monotonic
        assert it.server.clock.wall_ns() == wall + DAY_S * 1_000_000_000


@STEPS
@pytest.mark.parametrize("restart", [False, True])
async def test_sequences_go_on(tmp_path: Path, step: int, restart: bool) -> None:
    async with running(tmp_path) as it:
        await it.js.add_stream(name="S", subjects=["s"])
        await it.js.add_stream(name="EMPTY", subjects=["e"], max_msgs=1)
        assert [(await it.js.publish("s", b"")).seq for _ in range(3)] == [1, 2, 3]
        await it.js.publish("e", b"")
        await it.js.purge_stream("EMPTY")
        if not restart:
            set_clock(it.server, step)
            assert (await it.js.publish("s", b"")).seq == 4
            assert (await it.js.publish("e", b"")).seq == 2
    async with running(tmp_path, step if restart else 0) as it:
        state = await it.state()
        assert (state.first_seq, state.last_seq) == (1, 3 if restart else 4)
        assert (await it.js.publish("s", b"")).seq == state.last_seq + 1
        assert (await it.js.publish("e", b"")).seq == (2 if restart else 3)


@STEPS
async def test_what_waits_for_an_acknowledgement_waits_as_long_as_it_should(tmp_path: Path, step: int) -> None:
    async with running(tmp_path) as it:
        await it.js.add_stream(name="S", subjects=["s"])
        await it.js.publish("s", b"")
        consumer = await it.js.pull_subscribe("s", "C", config=ConsumerConfig(ack_wait=30))
        assert len(await consumer.fetch(1, timeout=5)) == 1
        set_clock(it.server, step)
        it.server.clock.advance(29)
        assert (await it.js.consumer_info("S", "C")).num_redelivered == 0
        it.server.clock.advance(2)
        (again,) = await consumer.fetch(1, timeout=5)
        assert again.metadata.num_delivered == 2


@STEPS
async def test_what_waits_for_an_acknowledgement_over_a_restart(tmp_path: Path, step: int) -> None:
    """At most as long as from the start on, also for a message that seems to have been delivered tomorrow."""
    async with running(tmp_path) as it:
        await it.js.add_stream(name="S", subjects=["s"])
        await it.js.publish("s", b"")
        consumer = await it.js.pull_subscribe("s", "C", config=ConsumerConfig(ack_wait=30))
        assert len(await consumer.fetch(1, timeout=5)) == 1
    async with running(tmp_path, step) as it:
        consumer = await it.js.pull_subscribe_bind("C", "S")
        it.server.clock.advance(31)
        (again,) = await consumer.fetch(1, timeout=5)
        assert again.metadata.num_delivered == 2
        await again.ack_sync()
    async with running(tmp_path, step * 2) as it:
        info = await it.js.consumer_info("S", "C")
        assert (info.num_ack_pending, info.ack_floor.stream_seq) == (0, 1)


@STEPS
@pytest.mark.parametrize("restart", [False, True])
async def test_ages(tmp_path: Path, step: int, restart: bool) -> None:
    """What is stored after the step lives as long as it should; what was before it a day more or less, nothing else."""
    async with running(tmp_path) as it:
        await it.js.add_stream(name="S", subjects=["s"], max_age=3600)
        await it.js.publish("s", b"before")
        if not restart:
            set_clock(it.server, step)
            await after_a_step(it, step)
    if restart:
        async with running(tmp_path, step) as it:
            assert (await it.state()).messages == (0 if step > 0 else 1), "looked at once, at the start"
            await after_a_step(it, step)


async def after_a_step(it: Running, step: int) -> None:
    last = (await it.js.publish("s", b"after")).seq
    it.server.clock.advance(3590)
    assert (await it.js.get_msg("S", last)).data == b"after"
    it.server.clock.advance(20)
    if step < 0:  # the message from tomorrow is first, and isn't old
        assert (await it.state()).messages in (1, 2)
        it.server.clock.advance(DAY_S)
    assert (await it.state()).messages == 0
    assert (await it.state()).last_seq == last


@STEPS
async def test_times_to_live(tmp_path: Path, step: int) -> None:
    async with running(tmp_path) as it:
        await it.js.add_stream(name="S", subjects=["s.*"], allow_msg_ttl=True)
        await it.js.publish("s.1", b"", headers={"Nats-TTL": "1h"})
        set_clock(it.server, step)
        await it.js.publish("s.2", b"", headers={"Nats-TTL": "1h"})
        it.server.clock.advance(3590)
        assert (await it.js.get_last_msg("S", "s.2")).seq == 2
        it.server.clock.advance(20)
        with pytest.raises(nats.js.errors.NotFoundError):
            await it.js.get_last_msg("S", "s.2")
        it.server.clock.advance(DAY_S)
        assert (await it.state()).messages == 0


@STEPS
@pytest.mark.parametrize("restart", [False, True])
async def test_what_was_published_twice(tmp_path: Path, step: int, restart: bool) -> None:
    """Ids are forgotten early after a step forward and late after one back; new ones are kept long enough."""
    ids = [{"Nats-Msg-Id": "one"}, {"Nats-Msg-Id": "two"}]
    async with running(tmp_path) as it:
        await it.js.add_stream(name="S", subjects=["s"], duplicate_window=120)
        await it.js.publish("s", b"", headers=ids[0])
        if not restart:
            set_clock(it.server, step)
            await publish_again(it, step, ids)
    if restart:
        async with running(tmp_path, step) as it:
            await publish_again(it, step, ids)


async def publish_again(it: Running, step: int, ids: list[dict[str, str]]) -> None:
    again = await it.js.publish("s", b"", headers=ids[0])
    assert again.duplicate or step > 0
    assert not (await it.js.publish("s", b"", headers=ids[1])).duplicate
    it.server.clock.advance(115)
    assert (await it.js.publish("s", b"", headers=ids[1])).duplicate
    it.server.clock.advance(10 if step > 0 else DAY_S + 120)
    assert not (await it.js.publish("s", b"", headers=ids[1])).duplicate


@STEPS
async def test_consumers_that_are_not_used_go_when_they_should(tmp_path: Path, step: int) -> None:
    async with running(tmp_path) as it:
        await it.js.add_stream(name="S", subjects=["s"])
        await it.js.add_consumer("S", ConsumerConfig(name="E", inactive_threshold=60))
        set_clock(it.server, step)
        it.server.clock.advance(50)
        assert (await it.js.consumer_info("S", "E")).name == "E"
        it.server.clock.advance(20)
        with pytest.raises(nats.js.errors.NotFoundError):
            await it.js.consumer_info("S", "E")
