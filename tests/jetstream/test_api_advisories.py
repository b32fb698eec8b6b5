"""The events that requests cause are those of nats-server, member by member; and the JSON of those that need more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from natsc.jetstream import advisories
from natsc.jetstream.api import PREFIX, dispatch
from natsc.jetstream.api_request import Request
from natsc.jetstream.consumer_config import ConsumerConfig
from natsc.jetstream.gotime import Time
from natsc.jetstream.stream_config import StreamState
from tests.conformance.harness import Server
from tests.jetstream.client import Client
from tests.jetstream.exchanges import Step, change, consumer, stream
from tests.jetstream.fake import START, FakeBackend

CONFIG = """
server_name: srv
jetstream { store_dir: "%s", domain: D }
"""

STEPS: list[Step] = [
    stream(),
    change(description="x"),
    consumer(ack_policy="explicit"),
    ("CONSUMER.DELETE.S.C", ""),
    ("CONSUMER.INFO.S.C", ""),
    ("STREAM.INFO.S", {"x": 1}),
    ("STREAM.MSG.GET.S", {"seq": 1}),
    ("STREAM.DELETE.S", ""),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server("nats-server", CONFIG % tmp_path_factory.mktemp("jetstream"))
    yield running
    running.close()


def comparable(payload: bytes) -> Any:
    return json.loads(payload, object_pairs_hook=lambda pairs: [(key, _steady(key, value)) for key, value in pairs])


def _steady(key: str, value: Any) -> Any:
    if key in ("id", "timestamp"):
        return "of the moment"
    if key == "client":
        return "somebody"
    if key == "response":
        return re.sub(r'"\d{4}-[^"]*Z"', '"a time"', value)
    return value


def test_what_requests_cause(server: Server) -> None:
    backend = FakeBackend()
    backend.domain = "D"
    backend.listening.add("*")
    wrong = []
    with Client(server.port) as client, Client(server.port) as listener:
        listener.subscribe("$JS.EVENT.>")
        for step in STEPS:
            body = step[1].encode() if isinstance(step[1], str) else json.dumps(step[1]).encode()
            client.request(PREFIX + step[0], body)
            backend.published.clear()
            dispatch(Request(PREFIX + step[0], body, client={"acc": "$G"}), backend)
            expected = [listener.event() for _ in backend.published]
            got = sorted((subject, comparable(payload)) for subject, payload in backend.published)
            wanted = sorted((subject, comparable(payload)) for subject, payload in expected)
            if got != wanted:
                wrong.append(f"{step}\n  wanted {wanted}\n  got    {got}")
    assert not wrong, "\n".join(wrong)


def event(made: tuple[str, bytes]) -> tuple[str, dict[str, Any]]:
    subject, payload = made
    body = json.loads(payload)
    assert body.pop("id") == "ID"
    assert body.pop("timestamp").startswith("2023-11-14T22:13:20.")
    return subject, body


def test_a_type_comes_first_and_the_domain_last() -> None:
    backend = FakeBackend()
    backend.domain = "D"
    _, payload = advisories.max_deliver(backend, "S", "C", 3, 4)
    assert list(json.loads(payload)) == [
        "type", "id", "timestamp", "stream", "consumer", "stream_seq", "deliveries", "domain",
    ]  # fmt: skip


def test_max_deliver() -> None:
    assert event(advisories.max_deliver(FakeBackend(), "S", "C", 3, 4)) == (
        "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C",
        {
            "type": "io.nats.jetstream.advisory.v1.max_deliver",
            "stream": "S",
            "consumer": "C",
            "stream_seq": 3,
            "deliveries": 4,
        },
    )


def test_terminated_with_a_reason() -> None:
    subject, body = event(advisories.message_terminated(FakeBackend(), "S", "C", 1, 2, 3, "why"))
    assert subject == "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C"
    assert body["reason"] == "why"
    assert list(body) == ["type", "stream", "consumer", "consumer_seq", "stream_seq", "deliveries", "reason"]


def test_terminated_without_a_reason() -> None:
    assert "reason" not in event(advisories.message_terminated(FakeBackend(), "S", "C", 1, 2, 3, ""))[1]


def test_ack_metric() -> None:
    subject, body = event(advisories.ack_metric(FakeBackend(), "S", "C", 1, 2, 5000, 3))
    assert subject == "$JS.EVENT.METRIC.CONSUMER.ACK.S.C"
    assert (body["type"], body["ack_time"]) == ("io.nats.jetstream.metric.v1.consumer_ack", 5000)


def test_pause_and_its_end() -> None:
    config = ConsumerConfig(pause_until=Time(START + 10**9))
    assert event(advisories.consumer_pause(FakeBackend(), "S", "C", config))[1]["paused"] is True
    body = event(advisories.consumer_pause(FakeBackend(), "S", "C", ConsumerConfig()))[1]
    assert (body["paused"], body["pause_until"]) == (False, "0001-01-01T00:00:00Z")


def test_the_domain_stands_before_the_group() -> None:
    backend = FakeBackend()
    backend.domain = "D"
    subject, payload = advisories.consumer_unpinned(backend, "A", "S", "C", "g", "admin")
    assert subject == "$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.S.C"
    assert list(json.loads(payload))[3:] == ["account", "stream", "consumer", "domain", "group", "reason"]


def test_credentials_stay_out_of_advisories() -> None:
    client = {"acc": "A", "jwt": "secret", "alts": ["x"]}
    _, body = event(advisories.snapshot_create(FakeBackend(), "S", StreamState(), client))
    assert body["client"] == {"acc": "A"}


def test_restore_complete() -> None:
    subject, body = event(advisories.restore_complete(FakeBackend(), "S", START, START + 10**9, 77, None))
    assert subject == "$JS.EVENT.ADVISORY.STREAM.RESTORE_COMPLETE.S"
    assert (body["start"], body["end"], body["bytes"]) == ("2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z", 77)


def test_a_batch_given_up_is_told_to_the_system_with_its_account() -> None:
    backend = FakeBackend()
    assert "account" not in event(advisories.batch_abandoned(backend, "", "S", "b", advisories.BATCH_TIMEOUT))[1]
    assert event(advisories.batch_abandoned(backend, "A", "S", "b", "large"))[1]["account"] == "A"
