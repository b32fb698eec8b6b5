"""Every scenario of requests to the JetStream API, played to natsc and to nats-server: the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from natsc.jetstream.api import PREFIX
from natsc.jetstream.api_request import header_block
from tests.conformance.harness import Server
from tests.jetstream.client import Client
from tests.jetstream.exchanges import SCENARIOS, SILENT, Step
from tests.jetstream.test_api_reference import CONFIG, LIMITED, body_of, comparable, headers_of

LACKING = b"natsc does not support"
# What a stream that natsc doesn't have yet is answered with afterwards.
GONE = b'"err_code":10059'


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    running = {kind: Server(kind, CONFIG % tmp_path_factory.mktemp("store")) for kind in ("nats-server", "natsc")}
    yield running
    for server in running.values():
        server.close()


def play(scenario: list[Step], reference: Client, ours: Client) -> list[str]:
    """What is answered differently, in words; what follows a refusal of what natsc lacks aside."""
    for client in (reference, ours):
        for name in client.stream_names():
            client.request(f"{PREFIX}STREAM.DELETE.{name}")
    wrong = []
    lacking: set[str] = set()
    for step in scenario:
        if step[0] == "PUB":
            for subject, data, *more in step[1]:
                block = header_block(more[0]) if more else b""
                wanted, got = (client.request(subject, data.encode(), block) for client in (reference, ours))
                if wanted.payload != got.payload:
                    wrong.append(f"{subject} {data}\n  wanted {wanted.payload!r}\n  got    {got.payload!r}")
            continue
        subject, body, headers = PREFIX + step[0], body_of(step), headers_of(step)
        wanted = reference.request(subject, body, headers)
        while b"error creating store for stream" in wanted.payload:
            wanted = reference.request(subject, body, headers)
        got = ours.request(subject, body, headers)
        name = step[0].split(".")[-1]
        if LACKING in got.payload:
            lacking.add(name)
        elif GONE in got.payload and name in lacking:
            continue
        elif b'"$JS.EVENT' in body and b"did_create" in wanted.payload + got.payload:
            # The stream may have stored the news of its own creation already, or not yet.
            assert b"did_create" in wanted.payload and b"did_create" in got.payload
        elif comparable(got.payload) != comparable(wanted.payload) or got.headers != wanted.headers:
            shown = f"{step[0]} {body[:300]!r}"
            wrong.append(
                f"{shown}\n  wanted {wanted.headers + wanted.payload!r}\n  got    {got.headers + got.payload!r}"
            )
        elif step[0].startswith("STREAM.CREATE"):
            lacking.discard(name)
    return wrong


@pytest.mark.parametrize("name", SCENARIOS)
def test_answers_are_the_references(name: str, servers: dict[str, Server]) -> None:
    with Client(servers["nats-server"].port) as reference, Client(servers["natsc"].port) as ours:
        wrong = play(SCENARIOS[name], reference, ours)
        assert not wrong, f"{len(wrong)} of {len(SCENARIOS[name])} differ:\n" + "\n".join(wrong)
        assert ours.unexpected == reference.unexpected


def test_account_limits(servers: dict[str, Server]) -> None:
    with Client(servers["nats-server"].port, "l") as reference, Client(servers["natsc"].port, "l") as ours:
        assert play(LIMITED, reference, ours) == []


def test_what_nobody_answers(servers: dict[str, Server]) -> None:
    with Client(servers["natsc"].port) as ours:
        for operation in SILENT:
            ours.send(PREFIX + operation)
        assert b"account_info" in ours.request(f"{PREFIX}INFO").payload
        assert ours.unexpected == []


@pytest.mark.parametrize("user", ["o", "s"])
@pytest.mark.parametrize("operation", ["INFO", "STREAM.NAMES", "STREAM.INFO.S", "CONSUMER.CREATE.S.C"])
def test_accounts_without_jetstream(servers: dict[str, Server], user: str, operation: str) -> None:
    with Client(servers["nats-server"].port, user) as reference, Client(servers["natsc"].port, user) as ours:
        assert ours.request(PREFIX + operation).payload == reference.request(PREFIX + operation).payload


@pytest.mark.parametrize(
    "subject",
    ["$JS.API.CONSUMER.MSG.NEXT.X.Y", "$JS.API.DIRECT.GET.X", "$JS.API.DIRECT.GET.X.y.z", "$JS.API", "$JS.ACK.a.b"],
)
def test_nobody_is_there(servers: dict[str, Server], subject: str) -> None:
    with Client(servers["nats-server"].port) as reference, Client(servers["natsc"].port) as ours:
        assert ours.request(subject).headers == reference.request(subject).headers


def test_a_store_of_nats_server_is_refused(tmp_path: Path) -> None:
    config = f"jetstream {{ store_dir: {str(tmp_path)!r} }}\n"
    before = Server("nats-server", config)
    try:
        with Client(before.port) as client:
            assert b"did_create" in client.request(f"{PREFIX}STREAM.CREATE.S", b'{"name":"S"}').payload
    finally:
        before.close()
    after = Server("natsc", config, wait=False)
    try:
        after.wait_log(r"\[FTL\] Can't start JetStream: the store directory .* holds streams of nats-server \(\$G/S\)")
        after.wait_log("nats account backup DIR.*nats account restore DIR")
        assert after.wait() == 1
    finally:
        after.close()
