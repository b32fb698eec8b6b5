"""Backups that nats-server made before 2.15: what the same archive becomes on both servers, and what is refused."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.saving import (
    Saver,
    both,
    consumer_of,
    messages,
    state_of,
)  # fmt: skip
from tests.jetstream.backups import restore
from tests.jetstream.test_blocks import TESTDATA, repacked

OLD = {"name": "OLD", "subjects": ["old.>"], "storage": "file"}


@pytest.mark.parametrize("name", ["filled", "purged", "empty", "skipped"])
def test_an_older_archive(name: str, clients: dict[str, Saver]) -> None:
    """Messages, holes, those that a limit removed, and consumers: what the same archive becomes on both."""

    def put(client: Saver) -> Any:
        answer = restore(client, OLD, (TESTDATA / f"{name}.tar.s2").read_bytes(), 500)
        assert "error" not in answer, answer
        state = state_of(client, "OLD")
        state.pop("last_ts")  # where the last one was removed
        if not state["messages"]:
            state.pop("deleted", None)  # of a stream that never had one nats-server says that 0 is missing
            state.pop("num_deleted", None)
        found = [consumer_of(client, "OLD", "DUR")] if state["consumer_count"] else []
        for one in found:
            one["config"].pop("pause_until", None)
        return answer["created"], state, messages(client, "OLD") if state["messages"] else [], found

    created, state, _, _ = both(clients, put)
    assert created.startswith("2026-11-24T17:22:40")
    assert state["messages"] == {"filled": 35, "purged": 0, "empty": 0, "skipped": 17}[name]


def test_an_older_archive_without_the_streams_state(clients: dict[str, Saver]) -> None:
    """Then the records of what was removed say it."""
    archive = repacked("skipped.tar.s2", lambda info, data: None if info.name == "msgs/index.db" else (info, data))

    def put(client: Saver) -> Any:
        answer = restore(client, OLD, archive)
        return {**answer["state"], "last_ts": ""}

    assert both(clients, put)["last_seq"] == 25


def damaged(info: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return info, data[:100] + bytes([data[100] ^ 1]) + data[101:] if info.name == "msgs/1.blk" else data


def renamed(old: str, new: str, kind: bytes = tarfile.REGTYPE) -> Callable[[tarfile.TarInfo, bytes], Any]:
    def change(info: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if info.name == old:
            info.name, info.type = new, kind
            info.pax_headers = {}
        return info, data

    return change


OLDER_BROKEN: dict[str, tuple[Callable[[tarfile.TarInfo, bytes], Any], str]] = {
    "a record": (damaged, "message block: invalid checksum"),
    "another name": (
        lambda info, data: (info, data.replace(b'"OLD"', b'"NEW"') if info.name == "meta.inf" else data),
        "stream names do not match",
    ),
    "no configuration": (lambda info, data: None if info.name == "meta.inf" else (info, data), "backup was truncated"),
    "a consumer's state": (
        lambda info, data: (info, b"\x17" + data[1:] if info.name.endswith("o.dat") else data),
        'error restoring consumer ["DUR"]: corrupt state file',
    ),
    "an error": (renamed("meta.sum", "errors.txt"), "the backup failed: 088be350b0d5e87b"),
    "a server before 2.10": (
        renamed("meta.sum", "msgs/1.idx"),
        "a backup of nats-server before 2.10: ",
    ),
}


@pytest.mark.parametrize("name", OLDER_BROKEN)
def test_an_older_archive_that_is_broken(name: str, clients: dict[str, Saver]) -> None:
    client = clients["natsc"]
    change, text = OLDER_BROKEN[name]
    answer = restore(client, OLD, repacked("filled.tar.s2", change))
    assert answer["error"]["description"].startswith(f"restore failed: {text}"), answer
    assert client.stream_names() == []


@pytest.mark.parametrize("cut", [10, 600, 1500, 2500, 3000])
def test_an_older_archive_that_is_cut_off(cut: int, clients: dict[str, Saver]) -> None:
    client = clients["natsc"]
    answer = restore(client, OLD, (TESTDATA / "filled.tar.s2").read_bytes()[:cut])
    assert answer["error"]["err_code"] == 10062
    assert client.stream_names() == []
