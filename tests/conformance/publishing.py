"""Steps of a conversation with one stream, S on s.>, and its comparison: every answer, and the stream's state."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from natsc.jetstream.api_request import header_block
from tests.jetstream.client import Client

from .harness import Server

CONFIG = 'server_name: srv\njetstream {{ store_dir: "{}" }}\n'
PATIENCE_S = 10
TIMES = re.compile(rb'"(ts|created|first_ts|last_ts|time)":"2[^"]*"|(Nats-Time-Stamp: |Nats-Schedule-Next: )2[^ \r]+')
HEADERS = re.compile(rb'"hdrs":"([^"]*)"')

Step = tuple[str, bytes, bytes]  # subject, payload, headers

INFO: Step = (f"{PREFIX}STREAM.INFO.S", b"", b"")


def put(subject: str = "s.a", data: bytes = b"x", **headers: str) -> Step:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return subject, data, header_block(names) if names else b""


def api(operation: str, **body: Any) -> Step:
    return f"{PREFIX}{operation}", json.dumps(body).encode() if body else b"", b""


def get(seq: int) -> Step:
    return api("STREAM.MSG.GET.S", seq=seq)


def each(count: int, subjects: int, size: int = 0) -> list[Step]:
    return [put(f"s.{number % subjects}", b"q" * number * size or b"x") for number in range(count)]


def block(headers: bytes, data: bytes = b"x") -> Step:
    return "s.a", data, headers


def batch(
    seq: int, subject: str = "s.a", data: bytes = b"x", id: str = "one", commit: str = "", **headers: str
) -> Step:
    """A message of an atomic batch."""
    if commit:
        headers["Nats_Batch_Commit"] = commit
    return put(subject, data, Nats_Batch_Id=id, Nats_Batch_Sequence=str(seq), **headers)


def stored(last_seq: int) -> Callable[[Client], None]:
    """Wait until the stream has come to a sequence."""

    def wait(client: Client) -> None:
        end = time.monotonic() + PATIENCE_S
        while json.loads(client.request(*INFO).payload)["state"]["last_seq"] < last_seq:
            assert time.monotonic() < end, "the message never came"
            time.sleep(0.01)

    return wait


def steady(payload: bytes) -> bytes:
    """Without times; headers in clear."""
    return TIMES.sub(b"T", HEADERS.sub(lambda found: base64.b64decode(found[1]), payload))


def start_both(tmp_path_factory: pytest.TempPathFactory, more: str = "") -> Iterator[list[Server]]:
    """For a fixture: nats-server and natsc, each with a store of its own."""
    running = [
        Server(kind, CONFIG.format(tmp_path_factory.mktemp("store")) + more) for kind in ("nats-server", "natsc")
    ]
    yield running
    for server in running:
        server.close()


def same_answers(servers: list[Server], config: dict[str, Any], steps: list[Any]) -> None:
    """A stream is made and the steps are taken with both servers. A dict among them updates the stream's configuration,
    a callable waits for something."""
    config = {"name": "S", "subjects": ["s.>"], **config}
    with Client(servers[0].port) as reference, Client(servers[1].port) as ours:
        for client in (reference, ours):
            client.request(f"{PREFIX}STREAM.DELETE.S")
            while b"did_create" not in client.request(f"{PREFIX}STREAM.CREATE.S", json.dumps(config).encode()).payload:
                pass  # the folder of streams went away in this moment, with the last stream before
        for step in (*steps, INFO):
            if callable(step):
                step(reference)
                step(ours)
                continue
            if isinstance(step, dict):
                config.update(step)
                step = (f"{PREFIX}STREAM.UPDATE.S", json.dumps(config).encode(), b"")
            wanted, got = (client.request(*step) for client in (reference, ours))
            shown = f"{step[0]} {step[1]!r} {step[2]!r}"
            assert steady(got.payload) == steady(wanted.payload), shown
            assert TIMES.sub(b"T", got.headers) == TIMES.sub(b"T", wanted.headers), shown
        assert ours.unexpected == reference.unexpected
