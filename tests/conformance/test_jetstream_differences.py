"""Where natsc's JetStream answers differently from nats-server's, and docs/differences.md says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from tests.conformance.harness import Server
from tests.jetstream.client import Client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = tmp_path_factory.mktemp("store")
    running = Server("natsc", f'http: 127.0.0.1:-1\njetstream {{ store_dir: "{store}" }}\n')
    yield running
    running.close()


def create(client: Client, name: str, **config: Any) -> dict[str, Any]:
    body = json.dumps({"name": name, **config}).encode()
    found: dict[str, Any] = json.loads(client.request(f"{PREFIX}STREAM.CREATE.{name}", body).payload)
    return found


def test_an_acknowledgement_means_on_disk(server: Server) -> None:
    config = json.loads(server.get("/jsz").body)["config"]
    assert config["sync_always"] is True
    assert "sync_interval" not in config


def test_a_sync_interval_is_told(tmp_path: Path) -> None:
    running = Server("natsc", f'http: 127.0.0.1:-1\njetstream {{ store_dir: "{tmp_path}", sync_interval: 10s }}\n')
    try:
        with Client(running.port) as client:
            create(client, "S")
        running.wait_log("what was acknowledged since the last time is lost in a power failure")
        assert json.loads(running.get("/jsz").body)["config"]["sync_interval"] == 10_000_000_000
    finally:
        running.close()


def test_the_store_is_in_a_folder_of_its_own(server: Server) -> None:
    assert json.loads(server.get("/jsz").body)["config"]["store_dir"].endswith("/natsc")
    server.wait_log(r'Store Directory: ".*/natsc"')


def test_compression_is_taken_and_does_nothing(server: Server) -> None:
    with Client(server.port) as client:
        assert create(client, "PACKED", subjects=["packed"], compression="s2")["config"]["compression"] == "s2"
        client.request("packed", b"x" * 10_000)
        state = json.loads(client.request(f"{PREFIX}STREAM.INFO.PACKED").payload)["state"]
    assert state["bytes"] == 10_000 + 30 + len("packed")
