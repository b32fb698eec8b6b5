"""Where natsc's JetStream answers differently from nats-server's, and docs/differences.md says so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from natsc.jetstream.api_request import header_block
from tests.conformance.harness import TIMEOUT_S, Server
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
        running.wait_log("what was acknowledged since the last time is lost in a power failure$")
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


@pytest.mark.parametrize("storage", ["file", "memory"])
def test_answers_are_the_same_for_files_and_memory(storage: str, server: Server) -> None:
    name = f"UPTO-{storage}"
    with Client(server.port) as client:
        create(client, name, storage=storage, allow_direct=True)
        info = client.request(f"{PREFIX}STREAM.INFO.{name}", b'{"deleted_details":true}')
        assert b"deleted" not in info.payload
        client.request(name, b"x")
        body = json.dumps({"multi_last": [name], "up_to_seq": 9}).encode()
        found, end = client.exchange(f"{PREFIX}DIRECT.GET.{name}", body, b"", 2)
    assert found.payload == b"x"
    assert end.headers.startswith(b"NATS/1.0 204 EOB") and b"Nats-UpTo-Sequence: 9\r\n" in end.headers


def test_a_counter_of_very_many_digits_is_refused(server: Server) -> None:
    with Client(server.port) as client:
        create(client, "COUNTER", allow_msg_counter=True)
        for digits, is_taken in ((4000, True), (4001, False)):
            answer = client.request("COUNTER", b"", header_block({"Nats-Incr": "9" * digits}))
            assert (b'"err_code":10171' not in answer.payload) is is_taken
        answer = client.request("COUNTER", b"", header_block({"Nats-Incr": "9" * 4000}))
        assert b'"err_code":10171' in answer.payload


@pytest.mark.parametrize("limit", [{"max_msgs": 1}, {"max_bytes": 110}], ids=["messages", "bytes"])
@pytest.mark.parametrize("storage", ["file", "memory"])
def test_what_expires_in_a_full_stream_goes_without_a_marker(
    storage: str, limit: dict[str, int], server: Server
) -> None:
    name = f"FULL-{storage}-{next(iter(limit))}"
    markers = {"subject_delete_marker_ttl": 1_000_000_000, "discard": "new"}
    with Client(server.port) as client:
        create(client, name, subjects=[f"{name}.>"], storage=storage, **markers, **limit)
        client.request(f"{name}.a", b"x" * 20, header_block({"Nats-TTL": "1s"}))
        assert b"exceeded" in client.request(f"{name}.b", b"x" * 20).payload
        deadline = time.monotonic() + TIMEOUT_S
        while b"exceeded" in client.request(f"{name}.b", b"x" * 20).payload:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        state = json.loads(client.request(f"{PREFIX}STREAM.INFO.{name}").payload)["state"]
    assert (state["messages"], state["last_seq"]) == (1, 2)
