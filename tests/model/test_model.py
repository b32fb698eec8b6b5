"""A few seconds of the model test, always with the same programs; see natsc's tests/model/run.py for more of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.peer import Peer, Process
from tests.model.run import programs, run_batch


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Peer]]:
    processes = [Process(kind, tmp_path_factory.mktemp(kind)) for kind in ("natsc", "nats-server")]
    peers = [Peer(process.port, process.kind) for process in processes]
    yield peers
    for one in (*peers, *processes):
        one.close()


def test_natsc_nats_server_and_the_model_agree(peers: list[Peer]) -> None:
    assert run_batch(programs(peers), number=1, steps=25, size=40, shrink_s=20) == ""
