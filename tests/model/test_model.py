"""A few seconds of the model test, always with the same programs; see natsc's tests/model/run.py for more of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.compared import compared
from tests.model.peer import Peer, Process
from tests.model.run import run_batch
from tests.model.timed import Embedded, timed


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Peer]]:
    processes = [Process(kind, tmp_path_factory.mktemp(kind)) for kind in ("natsc", "nats-server")]
    peers = [Peer(process) for process in processes]
    yield peers
    for one in (*peers, *processes):
        one.close()


@pytest.fixture(scope="module")
def embedded() -> Iterator[Peer]:
    server = Embedded()
    peer = Peer(server)
    yield peer
    peer.close()
    server.close()


def test_natsc_nats_server_and_the_model_agree(pair: list[Peer]) -> None:
    # What nats-server has written when it is killed is a matter of time.
    assert run_batch(compared(pair, kill_both=False), number=1, steps=25, size=30, shrink_s=20) == ""


def test_natsc_and_the_model_agree_about_time(embedded: Peer) -> None:
    assert run_batch(timed(embedded), number=1, steps=25, size=50, shrink_s=20) == ""
