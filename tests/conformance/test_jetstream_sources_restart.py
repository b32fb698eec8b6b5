"""Mirrors and sources after a restart: they go on where they were, without a gap and without a repetition."""

from __future__ import annotations

import json
import signal
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from natsc.jetstream.names import short_hash
from tests.conformance.harness import KINDS, Server
from tests.jetstream.client import Client

Start = Callable[[], Server]
WAIT_S = 30


@pytest.fixture(params=KINDS)
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    running: list[Server] = []

    def get() -> Server:
        running.append(Server(request.param, f'jetstream {{ store_dir: "{tmp_path}", domain: hub }}\n'))
        return running[-1]

    yield get
    for server in running:
        server.close()


def api(client: Client, operation: str, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        client.request(PREFIX + operation, json.dumps(body).encode() if body else b"").payload
    )
    return found


def create(client: Client, name: str, **config: Any) -> None:
    assert "error" not in api(client, f"STREAM.CREATE.{name}", name=name, **config)


def fill(client: Client, count: int, subject: str = "O.a") -> None:
    for number in range(count):
        assert b'"seq"' in client.request(subject, b"%d" % number).payload


def until_last(client: Client, name: str, last: int) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    while (info := api(client, f"STREAM.INFO.{name}"))["state"]["last_seq"] < last:
        assert time.monotonic() < deadline, info
        time.sleep(0.05)
    return info


def stop(server: Server, number: int = signal.SIGTERM) -> None:
    server.signal(number)
    server.wait()


def origins(client: Client, name: str, last: int) -> list[str]:
    """The sequences that a stream's messages had where they are from."""
    found = []
    for seq in range(1, last + 1):
        message = api(client, f"STREAM.MSG.GET.{name}", seq=seq).get("message")
        if message is not None:
            found.append(b64decode(message["hdrs"]).decode().partition("Nats-Stream-Source: ")[2].split(" ")[1])
    return found


def test_they_go_on(start: Start) -> None:
    server = start()
    with Client(server.port) as client:
        create(client, "O", subjects=["O.>"])
        fill(client, 3)
        create(client, "M", mirror={"name": "O"})
        create(client, "S", sources=[{"name": "O"}])
        for name in "MS":
            until_last(client, name, 3)
    stop(server)
    with Client(start().port) as client:
        fill(client, 2)
        for name in "MS":
            assert until_last(client, name, 5)["state"]["messages"] == 5
        assert origins(client, "S", 5) == list("12345")
        assert api(client, "INFO")["consumers"] == 2  # those before are gone


def test_what_was_purged_does_not_come_again(start: Start) -> None:
    server = start()
    with Client(server.port) as client:
        create(client, "O", subjects=["O.>"])
        fill(client, 3)
        create(client, "S", sources=[{"name": "O"}])
        until_last(client, "S", 3)
        api(client, "STREAM.PURGE.S")
    stop(server)
    with Client(start().port) as client:
        fill(client, 1)
        assert until_last(client, "S", 4)["state"]["messages"] == 1
        assert origins(client, "S", 4) == ["4"]


@pytest.mark.parametrize("start", ["natsc"], indirect=True)
def test_what_nobody_wanted_does_not_come_again(start: Start) -> None:
    server = start()
    with Client(server.port) as client:
        create(client, "O", subjects=["O.>"])
        create(client, "S", sources=[{"name": "O"}], retention="interest")
        fill(client, 3)
        assert until_last(client, "S", 3)["state"]["messages"] == 0
    stop(server)
    with Client(start().port) as client:
        fill(client, 1)
        assert until_last(client, "S", 4)["state"]["last_seq"] == 4


@pytest.mark.parametrize("start", ["natsc"], indirect=True)
def test_an_external_of_the_own_domain(start: Start) -> None:
    external = {"api": "$JS.hub.API", "deliver": ""}
    with Client(start().port) as client:
        create(client, "O", subjects=["O.>"])
        fill(client, 2)
        create(client, "M", mirror={"name": "O", "external": external})
        create(client, "S", sources=[{"name": "O", "external": {**external, "deliver": "to.here"}}])
        mirror = until_last(client, "M", 2)["mirror"]
        source = until_last(client, "S", 2)["sources"][0]
        assert (mirror["external"], mirror["lag"]) == (external, 0)
        assert (source["external"]["deliver"], source["seq"]) == ("to.here", 2)
        block = api(client, "STREAM.MSG.GET.S", seq=1)["message"]["hdrs"]
        assert f"Nats-Stream-Source: O:{short_hash('$JS.hub.API')} 1 > > O.a ".encode() in b64decode(block)


@pytest.mark.parametrize("start", ["natsc"], indirect=True)
def test_nothing_twice_after_a_kill(start: Start) -> None:
    server = start()
    with Client(server.port) as client:
        create(client, "O", subjects=["O.>"])
        create(client, "Q", subjects=["Q.>"], retention="workqueue")
        create(client, "M", mirror={"name": "O"})
        create(client, "S", sources=[{"name": "O"}])
        create(client, "W", sources=[{"name": "Q"}])
        for number in range(3000):
            client.send("O.a" if number % 2 else "Q.a", b"%d" % number)
        until_last(client, "S", 400)
        stop(server, signal.SIGKILL)
    with Client(start().port) as client:
        last = api(client, "STREAM.INFO.O")["state"]["last_seq"]
        taken = api(client, "STREAM.INFO.Q")["state"]["last_seq"]
        fill(client, 1)
        fill(client, 1, "Q.a")
        assert until_last(client, "M", last + 1)["state"]["messages"] == last + 1
        assert until_last(client, "S", last + 1)["state"]["messages"] == last + 1
        assert until_last(client, "W", taken + 1)["state"]["messages"] == taken + 1
        assert origins(client, "S", last + 1) == [str(seq) for seq in range(1, last + 2)]
        assert origins(client, "W", taken + 1) == [str(seq) for seq in range(1, taken + 2)]
