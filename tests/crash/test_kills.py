"""A few rounds of what `python -m tests.crash.kills` does for hours, each failpoint once, and that losses are noticed.

NATSC_CRASH_ROUNDS and NATSC_CRASH_SEED set how many rounds, and repeat a run.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path

import pytest

from natsc.jetstream.failpoint import VARIABLE, parse
from tests.conformance.harness import Server

from .kills import FAILPOINTS, Kills
from .scenarios import Lost
from .wire import Wire

ROUNDS = int(os.environ.get("NATSC_CRASH_ROUNDS", "4"))
SEED = os.environ.get("NATSC_CRASH_SEED", str(random.SystemRandom().randrange(10**9)))


@pytest.fixture
def kills(tmp_path: Path) -> Kills:
    print(f"seed {SEED}")
    return Kills(str(tmp_path), SEED)


@pytest.mark.timeout(60 + ROUNDS * 30)
def test_killed_again_and_again(kills: Kills) -> None:
    kills.run(ROUNDS, 1000)
    assert kills.acked > ROUNDS * 100
    assert kills.redelivered_confirmed == 0


@pytest.mark.timeout(60 + ROUNDS * 30)
def test_an_encrypted_store_with_another_key_at_each_start(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    kills = Kills(str(tmp_path), SEED, encrypted=True)
    kills.run(ROUNDS, 1000)
    assert kills.acked > ROUNDS * 100
    assert kills.redelivered_confirmed == 0


@pytest.mark.timeout(300)
def test_killed_at_each_place_of_a_batchs_way(kills: Kills) -> None:
    kills.setup()
    how = "random moment"
    for name in [each for each in FAILPOINTS if each != "checkpoint"]:  # which needs many messages
        kills.round(how, 100, f"{name}:kill@2" if name.startswith("commit") else f"{name}:kill")
        how = "failpoint"
    kills.stop()


@pytest.mark.parametrize("place", ["store.made", "store.formatted", "store.named"])
def test_killed_while_the_store_is_made(tmp_path: Path, place: str) -> None:
    config = f'jetstream {{ store_dir: "{tmp_path}" }}\n'
    made = b'{"name":"S","subjects":["s"]}'
    server = Server("natsc", config, environment={VARIABLE: f"{place}:kill"})
    wire = Wire(server.port)
    wire.ask(b"$JS.API.STREAM.CREATE.S", made, lambda *_: None)
    while not wire.closed:
        wire.pump()
    assert server.wait() == -signal.SIGKILL
    wire.close()
    server.close()
    server = Server("natsc", config)
    wire = Wire(server.port)
    assert b"did_create" in wire.request("$JS.API.STREAM.CREATE.S", made)
    wire.close()
    server.close()


def test_no_answer_tells_of_what_is_not_on_disk(tmp_path: Path) -> None:
    server = Server("natsc", f'jetstream {{ store_dir: "{tmp_path}" }}\n', environment={VARIABLE: "commit.done:kill"})
    wire = Wire(server.port)
    answers: list[bytes] = []
    made = b'{"name":"S","subjects":["s"]}'
    for subject, request in ((b"CREATE", made), (b"CREATE", made), (b"INFO", b""), (b"PURGE", b"")):
        wire.ask(b"$JS.API.STREAM.%b.S" % subject, request, lambda _, answer: answers.append(answer))
    while not wire.closed:
        wire.pump()
    assert answers == []
    assert server.wait() == -signal.SIGKILL
    wire.close()
    server.close()


@pytest.mark.parametrize("text", ["nonsense:kill", "commit.done", "commit.done:stop", "commit.done:kill@0"])
def test_a_failpoint_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NATSC_FAILPOINT"):
        parse(text)


@pytest.mark.timeout(120)
def test_every_check_notices_that_the_store_is_older_than_it_should_be(tmp_path: Path) -> None:
    kills = Kills(str(tmp_path / "store"), "7")
    kills.setup()
    kills.round("while it stops", 500)
    kills.stop()
    shutil.copytree(tmp_path / "store", tmp_path / "older")
    kills.start()
    for scenario in kills.scenarios:
        scenario.connect(kills.wire)
    # Nobody was told anything about a mirror; streams that come and go may happen to be as they were.
    unsure = {"Mirrored", "Reborn", "Restored"}
    kills.kill_later(2500, False, [s for s in kills.scenarios if type(s).__name__ not in unsure])
    kills.work()
    kills.stop()
    shutil.rmtree(tmp_path / "store")
    shutil.move(tmp_path / "older", tmp_path / "store")
    kills.start()
    silent = []
    for scenario in kills.scenarios:
        try:
            scenario.check(kills.wire)
            silent.append(type(scenario).__name__)
        except Lost:
            pass
    kills.stop()
    assert set(silent) <= unsure
