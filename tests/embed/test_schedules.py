"""Message schedules with a clock that stands still, and over restarts."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nats
import pytest
from nats.aio.client import Client

import natsc

HOUR = 3600.0
EVERY = {"Nats-Schedule": "@every 1h", "Nats-Schedule-Target": "s.out"}


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[natsc.Server, Client]]:
    async with natsc.Server(jetstream={"store_dir": str(folder)}, ping_interval="1000h") as server:
        client = await nats.connect(server.url)
        yield server, client
        await client.close()


async def api(client: Client, operation: str, **body: Any) -> dict[str, Any]:
    answer = await client.request(f"$JS.API.{operation}", json.dumps(body).encode() if body else b"", timeout=10)
    found: dict[str, Any] = json.loads(answer.data)
    return found


async def make(client: Client) -> None:
    await api(client, "STREAM.CREATE.S", name="S", subjects=["s.>"], allow_msg_schedules=True)


async def count(client: Client) -> int:
    """Messages on s.out."""
    state = (await api(client, "STREAM.INFO.S", subjects_filter="s.out"))["state"]
    return int(state.get("subjects", {}).get("s.out", 0))


async def test_the_clock_makes_messages(tmp_path: Path) -> None:
    async with running(tmp_path) as (server, client):
        await make(client)
        server.clock.freeze()
        await client.jetstream().publish("s.plan", b"x", headers=EVERY)
        server.clock.advance(HOUR - 1)
        assert await count(client) == 0
        server.clock.advance(2)
        assert await count(client) == 1
        server.clock.advance(3 * HOUR)
        assert await count(client) == 4
        await client.jetstream().publish("s.plan", b"no schedule any more")
        server.clock.advance(3 * HOUR)
        assert await count(client) == 4


async def test_a_purged_schedule_is_off(tmp_path: Path) -> None:
    async with running(tmp_path) as (server, client):
        await make(client)
        server.clock.freeze()
        await client.jetstream().publish("s.plan", b"x", headers=EVERY)
        await api(client, "STREAM.PURGE.S", filter="s.plan")
        server.clock.advance(3 * HOUR)
        assert await count(client) == 0


async def test_the_next_time_survives_where_copies_are_gone(tmp_path: Path) -> None:
    async with running(tmp_path) as (server, client):
        await make(client)
        server.clock.freeze()
        await client.jetstream().publish("s.plan", b"x", headers=EVERY)
        server.clock.advance(HOUR + 1)
        assert await count(client) == 1
        await api(client, "STREAM.PURGE.S", filter="s.out")
    async with running(tmp_path) as (server, client):
        server.clock.freeze()
        server.clock.advance(HOUR + 60)
        assert await count(client) == 0
        server.clock.advance(HOUR)
        assert await count(client) == 1


async def test_what_was_missed_comes_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as (server, client):
        await make(client)
        await client.jetstream().publish("s.plan", b"x", headers=EVERY)
        at = time.strftime("@at %Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2 * HOUR))
        await client.jetstream().publish("s.once", b"y", headers={**EVERY, "Nats-Schedule": at})
    later = SimpleNamespace(time_ns=lambda: time.time_ns() + int(10 * HOUR * 1e9))
    monkeypatch.setattr("natsc.clock.time", later)
    async with running(tmp_path) as (server, client):
        server.clock.freeze()
        server.clock.advance(0.25)
        assert await count(client) == 2
        server.clock.advance(HOUR - 10)
        assert await count(client) == 2
        server.clock.advance(20)
        assert await count(client) == 3


async def test_an_update_changes_nothing_about_schedules(tmp_path: Path) -> None:
    async with running(tmp_path) as (server, client):
        await make(client)
        server.clock.freeze()
        await client.jetstream().publish("s.plan", b"x", headers=EVERY)
        config = {"name": "S", "subjects": ["s.>"], "allow_msg_schedules": True, "allow_msg_ttl": True}
        await api(client, "STREAM.UPDATE.S", **config)  # reads all messages again, for their TTLs
        server.clock.advance(HOUR + 1)
        assert await count(client) == 1


async def test_very_many_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as (server, client):
        await make(client)
        server.clock.freeze()
        for number in range(1200):
            await client.publish(f"s.plan.{number}", b"x", headers=EVERY)
        await client.flush()
        server.clock.advance(HOUR + 1)
        assert await count(client) == 1200
        server.clock.advance(HOUR)
        assert await count(client) == 2400
