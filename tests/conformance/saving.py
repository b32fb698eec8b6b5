"""Two servers, and clients that save streams on one and restore them on the other."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from tests.conformance.harness import KINDS, TIMEOUT_S, Server
from tests.jetstream.backups import Backup
from tests.jetstream.client import Client


class Saver(Client):
    """A client that knows its server."""

    def __init__(self, server: Server, store: Path) -> None:
        super().__init__(server.port)
        self.server = server
        self.folder = store / "jetstream" / "$G" / "streams"

    def delete(self, stream: str) -> None:
        """Delete a stream. nats-server answers before its files are gone, and they'd be in the way of the next one."""
        assert b"true" in self.request(f"{PREFIX}STREAM.DELETE.{stream}").payload
        deadline = time.monotonic() + TIMEOUT_S
        while (self.folder / f".{stream}").exists() or (self.folder / stream).exists():
            assert time.monotonic() < deadline
            time.sleep(0.002)


CONFIG = 'http: 127.0.0.1:-1\njetstream {{ store_dir: "{}", max_file_store: 200MB, max_memory_store: 100MB }}\n'


@pytest.fixture(scope="module")
def saving_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Server, Path]]]:
    running = {}
    for kind in KINDS:
        store = tmp_path_factory.mktemp("store")
        running[kind] = Server(kind, CONFIG.format(store)), store
    yield running
    for server, _ in running.values():
        server.close()


@pytest.fixture
def clients(saving_servers: dict[str, tuple[Server, Path]]) -> Iterator[dict[str, Saver]]:
    """A client of each server, which has no streams."""
    found = {kind: Saver(*place) for kind, place in saving_servers.items()}
    for client in found.values():
        for name in client.stream_names():
            client.delete(name)
    yield found
    for client in found.values():
        client.__exit__()


def api(client: Client, operation: str, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        client.request(PREFIX + operation, json.dumps(body).encode() if body else b"").payload
    )
    assert "error" not in found, found
    return found


def create(client: Client, **config: Any) -> None:
    """nats-server can't, now and then, shortly after a stream of that name was deleted."""
    for _ in range(100):
        answer = json.loads(
            client.request(f"{PREFIX}STREAM.CREATE.{config['name']}", json.dumps(config).encode()).payload
        )
        if "error" not in answer:
            return
        assert answer["error"]["description"] == "error creating store for stream", answer
        time.sleep(0.01)
    raise AssertionError("no stream")


def consumer(client: Client, stream: str, name: str, **config: Any) -> None:
    body = {"name": name, "durable_name": name, "ack_policy": "explicit", **config}
    api(client, f"CONSUMER.CREATE.{stream}.{name}", stream_name=stream, config=body)


def publish(client: Client, subject: str, count: int, size: int = 0, headers: bytes = b"") -> None:
    for number in range(count):
        assert b'"seq"' in client.request(subject, b"%d " % number + b"x" * size, headers).payload


def publish_noise(client: Client, count: int) -> None:
    """What can't be compressed."""
    noise = random.Random(5)
    for _ in range(count):
        client.request("s.a", noise.randbytes(997))


def messages(client: Client, stream: str) -> list[dict[str, Any]]:
    """Every message with all that is stored of it."""
    state = api(client, f"STREAM.INFO.{stream}")["state"]
    found = []
    for seq in range(state["first_seq"], state["last_seq"] + 1):
        answer = json.loads(client.request(f"{PREFIX}STREAM.MSG.GET.{stream}", b'{"seq":%d}' % seq).payload)
        found.append(answer.get("message", {"seq": seq}))
    return found


def state_of(client: Client, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = api(client, f"STREAM.INFO.{stream}", deleted_details=True)["state"]
    return found


def consumer_of(client: Client, stream: str, name: str) -> dict[str, Any]:
    found = api(client, f"CONSUMER.INFO.{stream}.{name}")
    for member in ("type", "created", "ts", "num_waiting"):
        found.pop(member)
    for member in ("delivered", "ack_floor"):
        found[member].pop("last_active", None)
    return found


def both(clients: dict[str, Saver], ask: Callable[[Saver], Any]) -> Any:
    """What both servers answer."""
    wanted, got = ask(clients["nats-server"]), ask(clients["natsc"])
    assert got == wanted
    return got


def filled(client: Client, **config: Any) -> None:
    """A stream with headers, several subjects, and holes."""
    create(client, name="S", subjects=["s.>"], **config)
    publish(client, "s.a", 20, 50)
    publish(client, "s.b.c", 10, 10, b"NATS/1.0\r\nA: b\r\nNats-Msg-Id: 7\r\n\r\n"[:0])
    publish(client, "s.h", 5, 0, b"NATS/1.0\r\nA: b\r\n\r\n")
    for seq in (1, 2, 7, 8, 35):
        api(client, "STREAM.MSG.DELETE.S", seq=seq)


def config_of(saved: Backup) -> dict[str, Any]:
    found: dict[str, Any] = saved.answer["config"]
    return found
