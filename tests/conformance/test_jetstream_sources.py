"""Mirrors and sources: the same conversation with natsc and with nats-server, and what natsc alone promises."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from tests.jetstream.client import Client

from .harness import Server
from .talk import Talk, both_say_the_same, start_both

SCENARIOS: list[Callable[[Talk], None]] = []
VARYING = ("active", "created", "ts", "first_ts", "last_ts")
WAIT_S = 20


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    yield from start_both(tmp_path_factory)


def scenario(function: Callable[[Talk], None]) -> Callable[[Talk], None]:
    SCENARIOS.append(function)
    return function


def ask(talk: Talk, operation: str, body: Any = "") -> dict[str, Any]:
    """A request to the API whose answer isn't noted."""
    noted = len(talk.record)
    size = 0 if body == "" else len(json.dumps(body))
    talk.write(f"PUB $JS.API.{operation} {talk.inbox}.quiet {size}\r\n{json.dumps(body) if size else ''}\r\n")
    shown, talk.shown = talk.shown, lambda payload: payload  # type: ignore[method-assign]
    talk.expect()
    talk.shown = shown  # type: ignore[method-assign]
    answer = talk.record[-1].split(" | ", 2)[2]
    del talk.record[noted:]
    found: dict[str, Any] = json.loads(answer)
    return found


def steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "VARYING" if name in VARYING else steady(member) for name, member in value.items()}
    return [steady(one) for one in value] if isinstance(value, list) else value


def until(talk: Talk, name: str, done: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until a stream's info is as it should be, and note what it says about its messages and origins."""
    deadline = time.monotonic() + WAIT_S
    while not done(found := ask(talk, f"STREAM.INFO.{name}")):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    talk.note(json.dumps(steady({part: found.get(part) for part in ("state", "mirror", "sources")})))


def until_last(talk: Talk, name: str, last: int) -> None:
    until(talk, name, lambda info: info["state"]["last_seq"] >= last)


def messages(talk: Talk, name: str, last: int) -> None:
    """Note a stream's messages, without the identity of their origin."""
    from base64 import b64decode

    for seq in range(1, last + 1):
        message = ask(talk, f"STREAM.MSG.GET.{name}", {"seq": seq}).get("message", {})
        block = b64decode(message.get("hdrs", "")).decode()
        lines = [line[: -9 if line.startswith("Nats-Stream-Source") else None] for line in block.split("\r\n")]
        talk.note(f"{name} {seq} {message.get('subject')} {lines} {message.get('data')}")


def publish(talk: Talk, subject: str, payload: str = "", **headers: str) -> None:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    talk.publish(subject, payload, "puback", f"NATS/1.0\r\n{lines}\r\n" if lines else "")
    talk.expect()


@scenario
def a_mirror(talk: Talk) -> None:
    talk.stream("MA")
    publish(talk, "MA.a", "1", Nats_Msg_Id="x", Nats_Expected_Stream="MA", A="b")
    publish(talk, "MA.b", "2", Nats_Expected_Last_Sequence="1")
    publish(talk, "MA.c", "3")
    talk.api("STREAM.MSG.DELETE.MA", {"seq": 2})
    talk.stream("MB", subjects=[], mirror={"name": "MA"})
    until_last(talk, "MB", 3)
    messages(talk, "MB", 3)
    publish(talk, "MA.d", "4")
    until_last(talk, "MB", 4)
    talk.api("CONSUMER.NAMES.MA")
    talk.api("STREAM.DELETE.MB")


@scenario
def sources(talk: Talk) -> None:
    talk.stream("SA")
    talk.stream("SB")
    publish(talk, "SA.a", "1", Nats_Msg_Id="x", Nats_Expected_Stream="SA", A="b")
    publish(talk, "SA.b", "2", Nats_Expected_Last_Sequence="1")
    talk.stream("SS", subjects=["SS.>"], sources=[{"name": "SA"}])
    until_last(talk, "SS", 2)
    publish(talk, "SS.a", "3")
    messages(talk, "SS", 3)
    filtered = {"name": "SB", "filter_subject": "SB.a"}
    changed = {
        "name": "SB",
        "subject_transforms": [{"src": "SB.b.*", "dest": "x.{{wildcard(1)}}"}, {"src": "SB.c", "dest": ""}],
    }
    config = {"name": "SS", "subjects": ["SS.>"], "storage": "memory"}
    talk.api("STREAM.UPDATE.SS", {**config, "sources": [filtered]})
    until(talk, "SS", lambda info: info["sources"][0]["active"] != -1)
    publish(talk, "SB.a", "4")
    until_last(talk, "SS", 4)
    talk.api("STREAM.UPDATE.SS", {**config, "sources": [changed]})
    until(talk, "SS", lambda info: info["sources"][0]["active"] != -1)
    publish(talk, "SB.b.9", "5")
    publish(talk, "SB.c", "6")
    until_last(talk, "SS", 6)
    messages(talk, "SS", 6)
    talk.api("STREAM.UPDATE.SS", config)
    talk.api("STREAM.INFO.SS")


@pytest.mark.parametrize(("number", "run"), list(enumerate(SCENARIOS)), ids=[one.__name__ for one in SCENARIOS])
def test_both_say_the_same(servers: list[Server], number: int, run: Callable[[Talk], None]) -> None:
    both_say_the_same(servers, run, number)


def test_direct_gets_are_the_origins(servers: list[Server]) -> None:
    with Client(servers[0].port) as client:

        def make(name: str, **config: Any) -> None:
            body = json.dumps({"name": name, "storage": "memory", "allow_direct": True, **config})
            assert b"did_create" in client.request(f"{PREFIX}STREAM.CREATE.{name}", body.encode()).payload

        def get() -> list[bytes]:
            return client.request(f"{PREFIX}DIRECT.GET.DO", b'{"seq":1}').headers.split(b"\r\n")

        make("DO", subjects=["DO.>"])
        make("DM", mirror={"name": "DO"})
        client.request("DO.a", b"x")
        assert {b"Nats-Stream: DO" in get() for _ in range(20)} == {True}
        client.request(f"{PREFIX}STREAM.DELETE.DO")
        assert b"Nats-Stream: DM" in get()
