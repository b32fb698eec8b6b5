"""Every request of the table is answered as nats-server answers it: the same members, in the same order.

What differs from run to run is compared by kind: times, random names, how long ago something was.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX, dispatch
from natsc.jetstream.api_messages import direct_get
from natsc.jetstream.api_request import Request, header_block
from natsc.jetstream.api_system import dispatch_system
from natsc.jetstream.quota import AccountLimits, ServerLimits
from tests.conformance.harness import Server
from tests.jetstream.client import Client
from tests.jetstream.exchanges import MALFORMED, SCENARIOS, SILENT, Step, consumer, stream
from tests.jetstream.fake import FakeBackend

CONFIG = """
server_name: srv
jetstream { store_dir: "%s", max_mem: 1G, max_file: 10G }
accounts {
  A { jetstream: enabled, users [{user: a, password: p}] }
  LIMITED { jetstream { max_mem: 1000, max_file: 2000, max_streams: 3, max_consumers: 2, max_ack_pending: 50,
                        memory_max_stream_bytes: 500, disk_max_stream_bytes: 1500, max_bytes_required: true },
            users [{user: l, password: p}] }
  TIERED { jetstream { max_mem: 1M, max_file: 1M }, users [{user: t, password: p}] }
  OFF { users [{user: o, password: p}] }
  $SYS { users [{user: s, password: p}] }
}
no_auth_user: a
"""

ZERO = "0001-01-01T00:00:00Z"
TIMES = {"created", "ts", "time", "last_active", "first_ts", "last_ts", "pinned_ts"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server("nats-server", CONFIG % tmp_path_factory.mktemp("jetstream"))
    yield running
    running.close()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.port) as connected:
        yield connected


def body_of(step: Step) -> bytes:
    body = step[1]
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def headers_of(step: Step) -> bytes:
    return header_block(step[2]) if len(step) > 2 else b""


def comparable(payload: bytes) -> Any:
    """The JSON as nested lists of pairs, so that order counts, without what can't be alike."""
    return json.loads(payload, object_pairs_hook=lambda pairs: [(key, _steady(key, value)) for key, value in pairs])


def _steady(key: str, value: Any) -> Any:
    if key in TIMES and value != ZERO:
        return "a time"
    if key == "pause_remaining" or (key == "active" and value != -1):
        return "a while"
    if key == "name" and isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9]{8}|random\d\d", value):
        return "a random name"
    if key == "deliver_subject" and isinstance(value, str):
        return re.sub(r"^(\$JS\.SNAPSHOT\.RESTORE\.\w+)\.\w+$", r"\1.ID", value)
    if key == "consumers" and isinstance(value, list):
        return ["a random name" if isinstance(one, str) and len(one) == 8 else one for one in value]
    if key == "api" and isinstance(value, list):
        return [(name, count) for name, count in value if name == "level"]
    return value


def run(scenario: list[Step], client: Client, backend: FakeBackend) -> list[str]:
    """Play the scenario to both; what they answer differently, in words."""
    for name in client.stream_names():
        client.request(f"{PREFIX}STREAM.DELETE.{name}")
    wrong = []
    for step in scenario:
        if step[0] == "PUB":
            for subject, data, *headers in step[1]:
                block = header_block(headers[0]) if headers else b""
                client.request(subject, data.encode(), block)
                _store(backend, subject, data.encode(), block)
            continue
        subject, body, headers = PREFIX + step[0], body_of(step), headers_of(step)
        expected = client.request(subject, body, headers)
        while b"error creating store for stream" in expected.payload:
            # The folder of streams went away in this moment, with the last stream before.
            expected = client.request(subject, body, headers)
        reply = dispatch(Request(subject, body, headers), backend)
        assert reply is not None, f"no answer to {step}"
        if comparable(reply.payload) != comparable(expected.payload) or reply.headers != expected.headers:
            shown = f"{step[0]} {body[:300]!r}"
            wrong.append(
                f"{shown}\n  wanted {expected.headers + expected.payload!r}\n  got    {reply.headers + reply.payload!r}"
            )
    return wrong


def _store(backend: FakeBackend, subject: str, data: bytes, headers: bytes) -> None:
    from natsc.config.subject_mapping import is_subset

    for held in backend.streams():
        if any(is_subset(subject, filter) for filter in held.config.subjects):
            held.store(subject, data, headers)


@pytest.mark.parametrize("name", SCENARIOS)
def test_answers_are_the_references(name: str, client: Client) -> None:
    wrong = run(SCENARIOS[name], client, FakeBackend())
    assert not wrong, f"{len(wrong)} of {len(SCENARIOS[name])} differ:\n" + "\n".join(wrong)


def test_the_table_is_long_enough() -> None:
    assert sum(step[0] != "PUB" for steps in SCENARIOS.values() for step in steps) >= 300


def test_what_nobody_answers(client: Client) -> None:
    backend = FakeBackend()
    for operation in SILENT:
        client.send(PREFIX + operation)
        assert dispatch(Request(PREFIX + operation, b""), backend) is None, operation
    # An answer to one of those would have come before this one.
    assert b"account_info" in client.request(f"{PREFIX}INFO").payload
    assert client.unexpected == []


def test_without_strictness(tmp_path: Path) -> None:
    backend = FakeBackend()
    backend.strict = False
    running = Server("nats-server", f'server_name: srv\njetstream {{ store_dir: "{tmp_path}", strict: false }}\n')
    try:
        with Client(running.port) as loose:
            wrong = run([("STREAM.CREATE.S", body) for body in MALFORMED], loose, backend)
    finally:
        running.close()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("operation", ["INFO", "STREAM.NAMES", "STREAM.INFO.S", "CONSUMER.CREATE.S.C"])
def test_an_account_without_jetstream(server: Server, operation: str) -> None:
    backend = FakeBackend()
    backend.enabled = False
    with Client(server.port, "o") as off:
        expected = off.request(PREFIX + operation)
    reply = dispatch(Request(PREFIX + operation, b""), backend)
    assert reply is not None
    assert reply.payload == expected.payload


@pytest.mark.parametrize("operation", ["INFO", "STREAM.NAMES", "FOO", "META.X", "ACCOUNT.PURGE.NONE"])
def test_the_system_account(server: Server, operation: str) -> None:
    with Client(server.port, "s") as system:
        expected = system.request(PREFIX + operation)
    reply = dispatch_system(Request(PREFIX + operation, b""), lambda account: None)
    assert reply is not None
    assert reply.payload == expected.payload


LIMITED: list[Step] = [
    ("INFO", ""),
    stream("A"),
    stream("A", max_bytes=2500),
    stream("A", max_bytes=1600),
    stream("A", max_bytes=1000),
    stream("B", max_bytes=1200),
    stream("B", max_bytes=900, max_consumers=3),
    stream("B", max_bytes=900, max_consumers=2),
    stream("M", max_bytes=600, storage="memory"),
    stream("M", max_bytes=500, storage="memory"),
    stream("N", max_bytes=1, storage="memory"),
    ("INFO", ""),
    ("STREAM.UPDATE.A", {"name": "A", "max_bytes": 1101}),
    ("STREAM.UPDATE.A", {"name": "A", "max_bytes": 1100}),
    ("STREAM.UPDATE.A", {"name": "A", "max_bytes": 100}),
    ("STREAM.UPDATE.A", {"name": "A"}),
    ("STREAM.RESTORE.Z", {"config": {"name": "Z", "max_bytes": 100}, "state": {}}),
    consumer("C", "A", ack_policy="explicit"),
    consumer("D", "A", ack_policy="explicit", max_ack_pending=51),
    consumer("D", "A", ack_policy="explicit", max_ack_pending=49),
    consumer("E", "A", ack_policy="explicit"),
    ("INFO", ""),
]


def test_account_limits(server: Server) -> None:
    limits = AccountLimits(1000, 2000, 3, 2, 50, 500, 1500, True)
    server_limits = ServerLimits(max_memory=1 << 30, max_storage=10 << 30)
    with Client(server.port, "l") as limited:
        wrong = run(LIMITED, limited, FakeBackend({"": limits}, server_limits))
    assert not wrong, "\n".join(wrong)


GETS: list[Step] = [
    ("S", ""), ("S", "x"), ("S", "{}"), ("S", {"seq": 1}), ("S", {"seq": 3}), ("S", {"seq": 3, "no_hdr": True}),
    ("S", {"seq": 99}), ("S", {"last_by_subj": "a.2"}), ("S", {"next_by_subj": "a.*", "seq": 2}),
    ("S", {"seq": 1, "last_by_subj": "a.2"}), ("S", {"last_by_subj": "a.2", "batch": 2}), ("S", {"x": 1, "seq": 1}),
    ("S", {"seq": 1, "start_time": "2020-01-01T00:00:00Z"}), ("S", {"seq": "x"}),
    ("S", {"multi_last": ["a.*"], "next_by_subj": "a"}),
    ("S", {"up_to_seq": 5, "seq": 1, "up_to_time": "2020-01-01T00:00:00Z"}), ("S", {"seq": 1, "batch": 2}),
    ("S", {"seq": 1, "batch": 20}), ("S", {"seq": 2, "batch": 20, "next_by_subj": "a.1"}),
    ("S", {"seq": 1, "batch": 20, "max_bytes": 10}), ("S", {"seq": 50, "batch": 3}),
    ("S", {"seq": 1, "batch": 2, "no_hdr": True}), ("S", {"start_time": "2020-01-01T00:00:00Z", "batch": 2}),
    ("S", {"multi_last": ["a.1", "a.2"]}), ("S", {"multi_last": ["a.>"]}), ("S", {"multi_last": ["a.>"], "batch": 2}),
    ("S", {"multi_last": ["a.>"], "up_to_seq": 3}), ("S", {"multi_last": ["b"]}),
    ("S", {"multi_last": ["a.>"], "up_to_time": "2020-01-01T00:00:00Z"}), ("S", {"multi_last": ["a.>"], "seq": 3}),
    ("S", {"multi_last": ["a.>"], "max_bytes": 5}), ("S", {"seq": 1}, {"Nats-Required-Api-Level": "6"}),
    ("S.a.1", ""), ("S.a.9", ""), ("S.a.1", {"seq": 1}), ("S.a.1", {"no_hdr": True}), ("S.a.1", "x"), ("S.a.1", "{}"),
    ("S.a.1", "", {"Nats-Required-Api-Level": "6"}),
]  # fmt: skip


def test_direct_gets(client: Client) -> None:
    backend = FakeBackend()
    messages = [("a.1", "1"), ("a.2", "2"), ("a.1", "3", {"K": "v"}), ("a.3", "4"), ("a.2", "5"), ("a.4", "")]
    assert run([stream(subjects=["a.>"], allow_direct=True), ("PUB", messages)], client, backend) == []
    held = backend.stream("S")
    assert held is not None
    wrong = []
    for step in GETS:
        body, headers = body_of(step), headers_of(step)
        key = step[0].partition(".")[2]
        subject = f"{PREFIX}DIRECT.GET.{step[0]}"
        got = [
            _timeless(reply.headers) + reply.payload
            for reply in direct_get(held, Request(subject, body, headers), key, backend)
        ]
        wanted = [_timeless(one.headers) + one.payload for one in client.exchange(subject, body, headers, len(got))]
        if got != wanted:
            wrong.append(f"{step}\n  wanted {wanted}\n  got    {got}")
    assert not wrong, "\n".join(wrong)
    assert client.unexpected == []


def _timeless(block: bytes) -> bytes:
    return re.sub(rb"(Nats-Time-Stamp: )\S+", rb"\1T", block)
