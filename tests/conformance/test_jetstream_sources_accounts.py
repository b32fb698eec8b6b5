"""Mirrors and sources of streams of another account, through imports: the same with natsc and with nats-server."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from tests.conformance.harness import KINDS, Server
from tests.jetstream.client import Client

WAIT_S = 20
CONFIG = """
accounts {{
  A {{
    jetstream: enabled, users: [{{ user: a, password: p }}]
    exports: [
      {{ service: "$JS.API.CONSUMER.>" }}, {{ service: "$JS.FC.>" }}, {{ stream: "to.b.>" }}
    ]
  }}
  B {{
    jetstream: enabled, users: [{{ user: b, password: p }}]
    imports: [
      {{ service: {{ account: A, subject: "$JS.API.CONSUMER.>" }}, to: "A.API.CONSUMER.>" }},
      {{ service: {{ account: A, subject: "$JS.FC.>" }} }},
      {{ stream: {{ account: A, subject: "to.b.>" }} }}
    ]
  }}
}}
jetstream {{ store_dir: "{}" }}
"""
EXTERNAL = {"api": "A.API", "deliver": "to.b"}


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    running = Server(request.param, CONFIG.format(tmp_path_factory.mktemp(request.param)))
    yield running
    running.close()


def api(client: Client, operation: str, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        client.request(PREFIX + operation, json.dumps(body).encode() if body else b"").payload
    )
    assert "error" not in found, found
    return found


def until_last(client: Client, name: str, last: int) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    while (info := api(client, f"STREAM.INFO.{name}"))["state"]["last_seq"] < last:
        assert time.monotonic() < deadline, info
        time.sleep(0.05)
    return info


def test_a_mirror_and_a_source(server: Server) -> None:
    with Client(server.port, "a") as a, Client(server.port, "b") as b:
        api(a, "STREAM.CREATE.O", name="O", subjects=["o.>"])
        for number in range(3):
            a.request("o.a", b"%d" % number)
        api(b, "STREAM.CREATE.M", name="M", mirror={"name": "O", "external": EXTERNAL})
        api(b, "STREAM.CREATE.S", name="S", sources=[{"name": "O", "external": EXTERNAL}])
        info = until_last(b, "M", 3)["mirror"]
        assert (info["name"], info["lag"], info["external"]) == ("O", 0, EXTERNAL)
        assert until_last(b, "S", 3)["sources"][0]["seq"] == 3
        for _ in range(2):
            a.request("o.b", b"x" * 400_000)
        until_last(b, "M", 5)
        until_last(b, "S", 5)
        assert api(a, "INFO")["consumers"] == 2
        assert api(b, "INFO")["consumers"] == 0
        # Many bytes: flow control is answered through the import, too.
        for _ in range(20):
            a.request("o.c", b"x" * 400_000)
        until_last(b, "M", 25)
        until_last(b, "S", 25)


def test_a_work_queue(server: Server) -> None:
    with Client(server.port, "a") as a, Client(server.port, "b") as b:
        api(a, "STREAM.CREATE.Q", name="Q", subjects=["q.>"], retention="workqueue")
        a.request("q.a", b"x")
        api(b, "STREAM.CREATE.W", name="W", sources=[{"name": "Q", "external": EXTERNAL}])
        until_last(b, "W", 1)
        deadline = time.monotonic() + WAIT_S
        while api(a, "STREAM.INFO.Q")["state"]["messages"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
