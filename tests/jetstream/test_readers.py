"""Whoever reads slowly, or not at all, neither makes the store's file grow nor holds writers up.

A read transaction of LMDB keeps every page that was used when it began; natsc has none beyond a turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from tests.conformance.harness import Server
from tests.jetstream.backups import archive_of, begin_restore
from tests.jetstream.client import Client

CHURN = 800  # messages of 20,000 bytes, of which ten stay: 16 MB
GROWTH_MAX = 4 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server("natsc", f'jetstream {{ store_dir: "{tmp_path}" }}\n')
    yield running
    running.close()


def api(client: Client, operation: str, **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(client.request(PREFIX + operation, json.dumps(body).encode()).payload)
    assert "error" not in answer, answer
    return answer


def fill(client: Client) -> None:
    api(client, "STREAM.CREATE.BIG", name="BIG", subjects=["big"])
    api(client, "STREAM.CREATE.CHURN", name="CHURN", subjects=["churn"], max_msgs=10)
    for _ in range(200):
        client.request("big", b"x" * 20_000)


def churn(client: Client, where: Path) -> int:
    """By how much the file has grown, while every message was answered."""
    data = where / "natsc" / "data.mdb"
    for _ in range(50):
        client.request("churn", b"y" * 20_000)
    before = data.stat().st_size
    for number in range(CHURN):
        assert json.loads(client.request("churn", b"y" * 20_000).payload)["seq"] == 51 + number
    return data.stat().st_size - before


def test_a_snapshot_that_nobody_acknowledges(server: Server, tmp_path: Path) -> None:
    with Client(server.port) as client, Client(server.port) as slow:
        fill(client)
        slow.write(b"SUB backup 77\r\nPING\r\n")
        request = {"deliver_subject": "backup", "chunk_size": 65536, "window_size": 65536}
        body = json.dumps(request).encode()
        slow.write(b"PUB $JS.API.STREAM.SNAPSHOT.BIG slow %d\r\n%b\r\n" % (len(body), body))
        server.wait_log("Starting snapshot for stream")
        assert churn(client, tmp_path) < GROWTH_MAX


def test_a_restore_that_gets_no_further(server: Server, tmp_path: Path) -> None:
    with Client(server.port) as client:
        fill(client)
        config = api(client, "STREAM.INFO.BIG")["config"]
        subject = begin_restore(client, {**config, "name": "NEW", "subjects": ["new"]})
        client.request(subject, archive_of()[:10])
        assert churn(client, tmp_path) < GROWTH_MAX


def test_a_consumer_that_reads_nothing_and_acknowledges_nothing(server: Server, tmp_path: Path) -> None:
    with Client(server.port) as client, Client(server.port) as slow:
        fill(client)
        config = {"durable_name": "C", "ack_policy": "explicit", "deliver_subject": "deliver", "max_ack_pending": 1000}
        slow.write(b"SUB deliver 77\r\nPING\r\n")
        api(client, "CONSUMER.CREATE.BIG.C", stream_name="BIG", config=config)
        assert churn(client, tmp_path) < GROWTH_MAX
        assert api(client, "CONSUMER.INFO.BIG.C")["num_ack_pending"] > 0


def test_a_batch_of_direct_gets_that_is_not_read(server: Server, tmp_path: Path) -> None:
    with Client(server.port) as client, Client(server.port) as slow:
        fill(client)
        api(client, "STREAM.UPDATE.BIG", name="BIG", subjects=["big"], allow_direct=True)
        request = b'{"seq":1,"batch":200,"next_by_subj":"big"}'
        slow.write(b"SUB slow 77\r\nPUB $JS.API.DIRECT.GET.BIG slow %d\r\n%b\r\n" % (len(request), request))
        assert churn(client, tmp_path) < GROWTH_MAX
