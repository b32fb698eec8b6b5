"""Who is there for a subject of JetStream (API, consumers, streams, nobody), and the long form of acknowledgements."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from .harness import Server, Wire

CONFIG = """
server_name: srv
jetstream {{ store_dir: {store!r}, domain: hub }}
feature_flags {{ js_ack_fc_v2: {long} }}
"""
STREAM = {"name": "S", "subjects": ["s"], "storage": "memory", "allow_direct": True}
CONSUMER = {"durable_name": "C", "ack_policy": "explicit"}

API = """
FOO FOO.x STREAM STREAM.FOO STREAM.FOO.x STREAM.INFO STREAM.INFO.a.b STREAM.CREATE.a.b STREAM.NAMES.x
STREAM.MSG.GET.S.x STREAM.TEMPLATE.NAMES CONSUMER CONSUMER.FOO CONSUMER.FOO.a.b CONSUMER.MSG
CONSUMER.MSG.NEXT CONSUMER.MSG.NEXT.S
CONSUMER.MSG.NEXT.S.D CONSUMER.MSG.NEXT.S.C.x CONSUMER.CREATE CONSUMER.DURABLE.CREATE.S CONSUMER.INFO.S
CONSUMER.RESET.S.D INFO.x DIRECT DIRECT.FOO.x DIRECT.GET DIRECT.GET.T DIRECT.GET.T.s META META.LEADER.STEPDOWN
SERVER.REMOVE ACCOUNT.PURGE.A
""".split()
SUBJECTS = [
    *(f"$JS.API.{operation}" for operation in API),
    *(f"$JS.hub.API.{operation}" for operation in API),
    "$JS.API", "$JS.hub.API", "$JS.FLUSH", "$JS.other.API.INFO", "$JS.hub.API.$KV.B.k", "$JS.hub.API.$OBJ.B.C.x",
    "$JS.ACK.S.C.1.1.1.1.1", "$JS.ACK.S.C.1.1.1.1", "$JS.ACK.S.C.1.1.1.1.1.1", "$JS.ACK.S.D.1.1.1.1.1",
    "$JS.ACK.a.b.S.C.1.1.1.1.1", "$JS.ACK.hub.szMpdrwD.S.C.1.1.1.1.1", "$JS.ACK.hub.szMpdrwD.S.C.1.1.1.1.1.more.still",
    "$JS.FC.S.C.x", "$JSC.CI.S.C", "$JS.EVENT.ADVISORY.x", "$JS.SNAPSHOT.ACK.S.x",
]  # fmt: skip


@pytest.fixture(scope="module", params=["false", "true"], ids=["short", "long"])
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    running = [
        Server(kind, CONFIG.format(store=str(tmp_path_factory.mktemp(kind)), long=request.param))
        for kind in ("natsc", "nats-server")
    ]
    for server in running:
        with connected(server) as wire:
            ask(wire, "STREAM.CREATE.S", STREAM)
            ask(wire, "CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": CONSUMER})
            wire.pub("s", "hello").flush()
    yield running
    for server in running:
        server.close()


def connected(server: Server) -> Wire:
    return Wire(server).ready(headers=True, no_responders=True).sub("r.>")


def ask(wire: Wire, operation: str, body: dict[str, object]) -> dict[str, object]:
    wire.pub(f"$JS.API.{operation}", json.dumps(body), "r.api")
    while not (op := wire.op()).startswith(b"MSG r.api "):
        pass
    answer: dict[str, object] = json.loads(op.split(b"\r\n")[-1])
    assert "error" not in answer, answer
    return answer


def nobody_is_there(server: Server) -> dict[str, str]:
    """Subjects, with what says that nobody is there."""
    with connected(server) as wire:
        for number, subject in enumerate(SUBJECTS):
            wire.pub(subject, "", f"r.{number}")
        found = [op.decode() for op in wire.flush() + wire.flush() if b"NATS/1.0 503" in op]
    return {SUBJECTS[int(op.split(" ")[1][2:])]: op.split("\r\n", 2)[2] for op in found}


def test_who_is_there(servers: list[Server]) -> None:
    ours, reference = (nobody_is_there(server) for server in servers)
    assert len(reference) > 20
    assert ours == reference


def pull(wire: Wire) -> list[str]:
    """The tokens of the acknowledgement subject of the next message."""
    wire.pub("$JS.API.CONSUMER.MSG.NEXT.S.C", "1", "r.next")
    return wire.op().split(b"\r\n")[0].decode().split(" ")[3].split(".")


@pytest.mark.parametrize("form", ["as it came", "long", "longer", "short"])
def test_acknowledgements_of_either_form(servers: list[Server], form: str) -> None:
    seen = []
    for server in servers:
        with connected(server) as wire:
            ask(wire, "CONSUMER.DELETE.S.C", {})
            ask(wire, "CONSUMER.DURABLE.CREATE.S.C", {"stream_name": "S", "config": CONSUMER})
            tokens = pull(wire)
            seen.append([*tokens[:-2], tokens[-1]])
            numbers = [*tokens[-7:]]
            space = ["$JS", "ACK", "hub", "szMpdrwD"]
            forms = {
                "as it came": tokens, "long": space + numbers, "longer": [*space, *numbers, "7", "8"],
                "short": ["$JS", "ACK", *numbers],
            }  # fmt: skip
            wire.pub(".".join(forms[form]), "", "r.ack")
            wire.op()
            assert ask(wire, "CONSUMER.INFO.S.C", {})["ack_floor"]["stream_seq"] == 1  # type: ignore[index]
    assert seen[0] == seen[1]


def test_flow_control(servers: list[Server]) -> None:
    seen = []
    for server in servers:
        with connected(server) as wire:
            wire.sub("deliver", 2)
            config = {
                "deliver_subject": "deliver",
                "flow_control": True,
                "idle_heartbeat": 10**10,
                "ack_policy": "none",
            }
            ask(wire, "STREAM.CREATE.F", {"name": "F", "subjects": ["f"], "storage": "memory"})
            ask(wire, "CONSUMER.CREATE.F", {"stream_name": "F", "config": config})
            for _ in range(8):
                wire.pub("f", bytes(200_000))
            while b"FlowControl" not in (op := wire.op()):
                pass
            subject = op.split(b"\r\n")[0].decode().split(" ")[3]
            seen.append(re.sub(r"\.\w+\.\w+$", ".CONSUMER.ID", subject))
            ask(wire, "STREAM.DELETE.F", {})
    assert seen[0] == seen[1]
