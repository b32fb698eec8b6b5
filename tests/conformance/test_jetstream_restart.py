"""What is acknowledged is there after the process was killed: messages, ids, configurations, consumers."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from natsc.jetstream.api_request import header_block
from tests.conformance.harness import Server
from tests.jetstream.client import Client

Start = Callable[[], Server]


@pytest.fixture
def start(tmp_path: Path) -> Any:
    running: list[Server] = []

    def get() -> Server:
        running.append(Server("natsc", f'jetstream {{ store_dir: "{tmp_path}" }}\n'))
        return running[-1]

    yield get
    for server in running:
        server.close()


def create(client: Client, name: str, **config: Any) -> None:
    body = {"name": name, "subjects": [f"{name}.>"], **config}
    assert b"did_create" in client.request(f"{PREFIX}STREAM.CREATE.{name}", json.dumps(body).encode()).payload


def info(client: Client, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(client.request(f"{PREFIX}STREAM.INFO.{name}").payload)
    return found


def kill(server: Server) -> None:
    server.signal(signal.SIGKILL)
    server.wait()


def test_acknowledged_messages_survive_a_kill(start: Start) -> None:
    server = start()
    with Client(server.port) as client:
        create(client, "S")
        waiting = [client.send("S.a", b"%d" % number) for number in range(2000)]
        acked = 0
        while acked < 300:
            assert client.event_or_answer() in waiting
            acked += 1
        kill(server)
    with Client(start().port) as client:
        state = info(client, "S")["state"]
        assert state["messages"] == state["last_seq"] >= acked
        last = client.request(f"{PREFIX}STREAM.MSG.GET.S", json.dumps({"seq": acked}).encode())
        assert json.loads(last.payload)["message"]["seq"] == acked
        answer = json.loads(client.request("S.a", b"x").payload)
        assert answer["seq"] == state["last_seq"] + 1


def test_ids_and_configurations_survive_a_kill(start: Start) -> None:
    server = start()
    block = header_block({"Nats-Msg-Id": "one"})
    with Client(server.port) as client:
        create(client, "S", max_msgs_per_subject=3, metadata={"a": "b"})
        create(client, "M", storage="memory")
        client.request("S.a", b"x", block)
        before = info(client, "S")
        kill(server)
    with Client(start().port) as client:
        assert client.stream_names() == ["S"]
        after = info(client, "S")
        assert (after["config"], after["created"], after["state"]) == (
            before["config"], before["created"], before["state"],
        )  # fmt: skip
        assert b'"duplicate": true' in client.request("S.a", b"x", block).payload


def test_a_deleted_stream_stays_deleted(start: Start) -> None:
    server = start()
    with Client(server.port) as client:
        create(client, "S")
        client.request("S.a", b"x")
        client.request(f"{PREFIX}STREAM.DELETE.S")
        kill(server)
    server = start()
    with Client(server.port) as client:
        assert client.stream_names() == []
        create(client, "S")
        assert json.loads(client.request("S.a", b"x").payload)["seq"] == 1
        kill(server)
    with Client(start().port) as client:
        assert info(client, "S")["state"]["messages"] == 1


def test_confirmed_acknowledgements_survive_a_kill(start: Start) -> None:
    server = start()
    with Client(server.port) as client:
        create(client, "S", retention="workqueue")
        config = {"durable_name": "C", "ack_policy": "explicit", "ack_wait": 100_000_000_000}
        body = json.dumps({"stream_name": "S", "config": config}).encode()
        assert b'"error"' not in client.request(f"{PREFIX}CONSUMER.DURABLE.CREATE.S.C", body).payload
        for number in range(5):
            client.request("S.a", b"%d" % number)
        deliveries = client.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.S.C", b"3", 3)
        for reply in deliveries[:2]:
            client.request(reply)
        kill(server)
    with Client(start().port) as client:
        assert info(client, "S")["state"]["messages"] == 3
        found = json.loads(client.request(f"{PREFIX}CONSUMER.INFO.S.C").payload)
        assert found["ack_floor"]["stream_seq"] == 2
        assert found["num_ack_pending"] <= 1
        assert found["num_pending"] + found["num_ack_pending"] == 3


def test_a_stop_takes_the_last_acknowledgements_along(start: Start) -> None:
    server = start()
    with Client(server.port) as client:
        create(client, "S")
        for number in range(50):
            client.request("S.a", b"%d" % number)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert any("JetStream Shutdown" in line for line in server.log)
    with Client(start().port) as client:
        assert info(client, "S")["state"]["messages"] == 50


def test_a_disk_that_is_too_slow_turns_publishers_away(tmp_path: Path) -> None:
    server = Server("natsc", f'jetstream {{ store_dir: "{tmp_path}", max_buffered_size: 1K }}\n')
    try:
        with Client(server.port) as client:
            create(client, "S")
            size = 500
            client.write(b"".join(b"PUB S.a inbox.%d %d\r\n%b\r\n" % (n, size, b"x" * size) for n in range(100)))
            answers = [json.loads(client.answer()) for _ in range(100)]
            refused = [answer for answer in answers if "error" in answer]
            assert {answer["error"]["err_code"] for answer in refused} == {10167}
            assert info(client, "S")["state"]["messages"] == 100 - len(refused) > 0
    finally:
        server.close()
