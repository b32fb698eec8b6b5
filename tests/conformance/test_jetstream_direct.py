"""Direct gets, and STREAM.MSG.GET with the same bodies: every answer as nats-server gives it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from natsc.jetstream.api_request import header_block
from tests.jetstream.client import Client

from .harness import Server
from .publishing import TIMES, start_both, steady

Body = dict[str, Any]
Answers = list[tuple[bytes, bytes]]

FILTERS = (
    "s.a", "s.b", "s.*", "s.>", ">", "s.a.>", "*.a", "s.none", "t.x", "", "s..a", "s", "*",
)  # fmt: skip
NUMBERS = (0, 1, 3, 4, 12, 13, 1000)
SINGLE: list[Body] = [
    {}, *({"seq": seq} for seq in NUMBERS), *({"last_by_subj": name} for name in FILTERS),
    *({"next_by_subj": name, "seq": seq} for name in FILTERS for seq in (0, 4, 13)),
    {"seq": 1, "no_hdr": True}, {"last_by_subj": "s.a", "no_hdr": True}, {"seq": 3, "last_by_subj": "s.a"},
    {"seq": 3, "start_time": "2020-01-01T00:00:00Z"}, {"last_by_subj": "s.a", "next_by_subj": "s.a"},
    {"last_by_subj": "s.a", "batch": 2}, {"last_by_subj": "s.a", "multi_last": ["s.a"]}, {"batch": 3},
    {"next_by_subj": "s.a", "multi_last": ["s.a"]}, {"up_to_seq": 3, "up_to_time": "2020-01-01T00:00:00Z"},
    *({"start_time": text} for text in (
        "2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z", "1677-01-01T00:00:00Z", "2300-01-01T00:00:00Z", "bad",
        "0001-01-01T00:00:00Z",
    )),
]  # fmt: skip
BATCHES: list[Body] = [
    *({"seq": seq, "batch": count} for seq in NUMBERS for count in (1, 3, 100, -1)),
    *({"next_by_subj": name, "seq": 2, "batch": 4} for name in FILTERS), {"next_by_subj": "s.*", "batch": 100},
    *({"seq": 1, "batch": 10, "max_bytes": size} for size in (0, 1, 20, 1000, 1011, -1)),
    {"seq": 1, "batch": 3, "no_hdr": True}, {"start_time": "2020-01-01T00:00:00Z", "batch": 3},
    {"start_time": "2090-01-01T00:00:00Z", "batch": 3},
]  # fmt: skip
MULTI: list[Body] = [
    *({"multi_last": [name]} for name in FILTERS), {"multi_last": []}, {"multi_last": ["", "s.b"]},
    {"multi_last": ["s.*", "s.a", "s.*"]}, {"multi_last": ["s.none", "s.a"]},
    *({"multi_last": ["s.>"], "seq": seq} for seq in NUMBERS), {"multi_last": ["s.>"], "seq": 1000, "up_to_seq": 3},
    *({"multi_last": ["s.>"], "up_to_seq": seq} for seq in (0, 1, 2, 4, 12)),
    *({"multi_last": ["s.>"], "batch": count} for count in (0, 1, 2, 100, -1)),
    *({"multi_last": ["s.>"], "max_bytes": size} for size in (0, 1, 1000, -1)),
    {"multi_last": ["s.>"], "no_hdr": True}, {"multi_last": ["s.>"], "up_to_time": "2020-01-01T00:00:00Z"},
    {"multi_last": ["s.>"], "up_to_time": "2090-01-01T00:00:00Z"},
    {"multi_last": ["s.>"], "start_time": "2090-01-01T00:00:00Z"},
]  # fmt: skip


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    yield from start_both(tmp_path_factory)


def fill(client: Client, storage: str) -> dict[int, str]:
    """A stream with gaps, and the times of its messages."""
    config = {"name": "S", "subjects": ["s.>"], "storage": storage, "allow_direct": True}
    client.request(f"{PREFIX}STREAM.DELETE.S")
    while b"did_create" not in client.request(f"{PREFIX}STREAM.CREATE.S", json.dumps(config).encode()).payload:
        pass  # the folder of streams went away in this moment, with the last stream before
    for number, subject in enumerate("a b a.b c a b a.b x.y a c b b".split()):
        headers = header_block({"A": number}) if number % 3 == 0 else b""
        client.request(f"s.{subject}", b"d" * (number % 4 * 500), headers)
    times = {}
    for seq in range(1, 13):
        message = json.loads(client.request(f"{PREFIX}STREAM.MSG.GET.S", b'{"seq":%d}' % seq).payload)["message"]
        times[seq] = message["time"]
    for seq in (4, 7, 12):
        client.request(f"{PREFIX}STREAM.MSG.DELETE.S", b'{"seq":%d}' % seq)
    return times


def answers(client: Client, subject: str, body: bytes, headers: bytes = b"") -> Answers:
    """All of them: one to a request behind it ends them."""
    inbox, end = client.send(subject, body, headers), client.send(f"{PREFIX}DIRECT.GET.S", b'{"seq":99999}')
    found: Answers = []
    while True:
        to, _, block, payload = client.message()
        if to == end:
            return found
        assert to == inbox
        found.append((TIMES.sub(b"T", block), steady(payload)))


@pytest.mark.parametrize("storage", ["file", "memory"])
def test_direct_gets(storage: str, servers: list[Server]) -> None:
    with Client(servers[0].port) as reference, Client(servers[1].port) as ours:
        times = [fill(client, storage) for client in (reference, ours)]
        bodies = [SINGLE + BATCHES + MULTI] * 2
        for index, each in enumerate(times):
            bodies[index] = bodies[index] + [
                body
                for seq in (1, 4, 5, 12)
                for body in (
                    {"start_time": each[seq]}, {"start_time": each[seq], "batch": 3, "next_by_subj": "s.a"},
                    {"multi_last": ["s.>"], "up_to_time": each[seq]},
                )
            ]  # fmt: skip
        for wanted, got in zip(*bodies, strict=True):
            subject = f"{PREFIX}DIRECT.GET.S"
            assert answers(ours, subject, json.dumps(got).encode()) == answers(
                reference, subject, json.dumps(wanted).encode()
            ), got
            get = f"{PREFIX}STREAM.MSG.GET.S"
            replies = [
                client.request(get, json.dumps(body).encode()) for client, body in ((reference, wanted), (ours, got))
            ]
            assert steady(replies[1].payload) == steady(replies[0].payload), got


def test_direct_gets_of_a_subject(servers: list[Server]) -> None:
    with Client(servers[0].port) as reference, Client(servers[1].port) as ours:
        for client in (reference, ours):
            fill(client, "file")
        bodies = (b"", b"{}", b'{"no_hdr":true}', b'{"seq":1}', b'{"batch":1}', b"{x", b'{"last_by_subj":"s.a"}')
        for subject in ("s.a", "s.none", "s.x.y", "s.c"):
            for body in bodies:
                for level in ("", "1", "9", "x"):
                    headers = header_block({"Nats-Required-Api-Level": level}) if level else b""
                    request = f"{PREFIX}DIRECT.GET.S.{subject}", body, headers
                    assert answers(ours, *request) == answers(reference, *request), request
