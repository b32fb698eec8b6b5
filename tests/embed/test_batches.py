"""Batches that are given up, with a clock that stands still."""

from __future__ import annotations

import json
from pathlib import Path

import nats
from nats.aio.client import Client

import natsc


async def ask(client: Client, number: int, operation: int) -> dict[str, object]:
    inbox = client.new_inbox()
    answers = await client.subscribe(f"{inbox}.>")
    await client.publish("s.a", b"x", reply=f"{inbox}.one.10.fail.{number}.{operation}.$FI")
    found: dict[str, object] = json.loads((await answers.next_msg()).data)
    await answers.unsubscribe()
    return found


async def test_a_fast_batch_is_given_up_ten_seconds_after_its_last_message(tmp_path: Path) -> None:
    async with natsc.Server(jetstream={"store_dir": str(tmp_path)}, ping_interval="1000h") as server:
        client = await nats.connect(server.url)
        config = {"name": "S", "subjects": ["s.>"], "allow_batched": True}
        await client.request("$JS.API.STREAM.CREATE.S", json.dumps(config).encode(), timeout=10)
        server.clock.freeze()
        assert await ask(client, 1, 0) == {"type": "ack", "seq": 0, "msgs": 10}
        server.clock.advance(9)
        assert await ask(client, 1, 4) == {"type": "ack", "seq": 0, "msgs": 10}  # a ping keeps it
        server.clock.advance(9)
        assert await ask(client, 2, 3) == {"stream": "S", "seq": 1, "batch": "one", "count": 1}
        assert await ask(client, 1, 0) == {"type": "ack", "seq": 0, "msgs": 10}
        server.clock.advance(11)
        answer = await ask(client, 2, 1)
        assert answer["error"] == {"code": 400, "err_code": 10208, "description": "batch publish ID unknown"}
        await client.close()


async def test_messages_that_nobody_looks_at_keep_a_batch(tmp_path: Path) -> None:
    async with natsc.Server(jetstream={"store_dir": str(tmp_path)}, ping_interval="1000h") as server:
        client = await nats.connect(server.url)
        config = {"name": "S", "subjects": ["s.>"], "allow_batched": True}
        await client.request("$JS.API.STREAM.CREATE.S", json.dumps(config).encode(), timeout=10)
        server.clock.freeze()
        await ask(client, 1, 0)
        for number in (2, 3, 4):
            server.clock.advance(9)
            await client.publish("s.a", b"x", reply=f"_INBOX.x.one.10.fail.{number}.1.$FI")
            await client.flush()
        server.clock.advance(9)
        assert await ask(client, 5, 3) == {"stream": "S", "seq": 4, "batch": "one", "count": 4}
        await client.close()
