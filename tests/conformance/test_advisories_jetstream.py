"""Advisories about what JetStream takes from its clients: a test for each, named after it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from tests.jetstream.backups import END, archive_of, entry, restore
from tests.jetstream.test_blocks import repacked

from .saving import Saver, both, config_of, create  # noqa: F401
from .test_jetstream_older_backups import OLD, renamed

NAMES = [
    "../../evil",
    "/tmp/natsc-evil",
    "msgs/../../../../evil",
    "..",
    "natsc/data.mdb",
    "data.mdb",
    "lock.mdb",
    "\\..\\x",
]


def files(client: Saver) -> set[str]:
    """What an archive may have put somewhere."""
    root = client.folder.parents[2]
    places = (*root.rglob("*"), *root.parent.glob("*evil*"), *Path("/tmp").glob("natsc-evil*"))
    return {
        str(path) for path in places
        if path.is_symlink() or ("evil" in path.name and not path.is_relative_to(client.folder))
    }  # fmt: skip


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
@pytest.mark.parametrize("name", NAMES)
def test_cve_2022_26652(clients: dict[str, Saver], name: str, kind: bytes) -> None:
    """A name in an archive is no path: nothing is written where it points to."""
    for client in clients.values():
        answer = restore(client, OLD, repacked("filled.tar.s2", renamed("msgs/1.blk", name, kind)))
        if client.server.kind == "natsc" and (kind != tarfile.REGTYPE or name[0] in "./" or "/.." in name):
            assert answer["error"]["description"] == "restore failed: unexpected content (account=$G)", answer
            assert client.stream_names() == []
        assert files(client) == set()
        if "OLD" in client.stream_names():
            client.delete("OLD")


@pytest.mark.parametrize("name", NAMES)
def test_cve_2022_26652_of_todays_archives(clients: dict[str, Saver], name: str) -> None:
    for client in clients.values():
        for archive in (
            archive_of(entry(name.encode(), b"x" * 100), END),
            archive_of(entry(b"consumers/" + name.encode(), b'{"config":{}}'), END, state={"consumer_count": 1}),
        ):
            answer = restore(client, {"name": "S", "subjects": ["s.>"]}, archive)
            assert "error" in answer
            assert files(client) == set()
            if "S" in client.stream_names():
                client.delete("S")


def test_cve_2019_16224_to_16228(clients: dict[str, Saver]) -> None:
    """Of LMDB: its functions crash on files made to do that. Nobody hands it any: what looks like one is refused."""
    client = clients["natsc"]
    page = b"\0" * 16 + (0xBEEFC0DE).to_bytes(4, "little") + (1).to_bytes(4, "little") + b"\xff" * 4072
    for archive in (
        page * 4,
        archive_of(entry(b"data.mdb", page), END),
        archive_of(entry(b"s.a", page, seq=1), END, state={"messages": 1, "first_seq": 1, "last_seq": 1}),
    ):
        answer = restore(client, {"name": "S", "subjects": ["s.>"]}, archive)
        if "error" not in answer:  # to be a message's payload is its right
            assert answer["state"]["messages"] == 1
            client.delete("S")
    assert client.stream_names() == []


REPLICAS = [-1, -2, 2, 5, 6, 100, 2**31, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**63, 1.5, "3"]


@pytest.mark.parametrize("replicas", REPLICAS)
def test_cve_2022_42708(clients: dict[str, Saver], replicas: Any) -> None:
    """A number of replicas that no server has."""

    to = f"R{REPLICAS.index(replicas)}"  # a restore that has begun keeps its name

    def ask(client: Saver) -> Any:
        found = []
        create(client, name="OTHER", subjects=["o.>"])
        for operation, body in (
            ("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "num_replicas": replicas}),
            ("STREAM.UPDATE.OTHER", {"name": "OTHER", "subjects": ["o.>"], "num_replicas": replicas}),
            ("CONSUMER.CREATE.OTHER.C", {"stream_name": "OTHER", "config": {"name": "C", "num_replicas": replicas}}),
            (f"STREAM.RESTORE.{to}", {"config": {"name": to, "subjects": [to], "num_replicas": replicas}, "state": {}}),
        ):
            answer = json.loads(client.request(PREFIX + operation, json.dumps(body).encode()).payload)
            error = answer.get("error")
            found.append((operation, (error["code"], error["err_code"]) if error else None))
        for name in client.stream_names():
            client.delete(name)
        return found

    answers = dict(both(clients, ask))
    assert answers["STREAM.CREATE.S"] is not None
