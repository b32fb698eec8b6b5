"""What a consumer knows after its server was killed, and after it was stopped."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.harness import Server
from tests.conformance.talk import Talk

CONFIG = 'server_name: srv\njetstream {{ store_dir: "{}" }}\n'


class Restartable:
    """A natsc whose store outlives it, and a connection to it."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.server = self.talk = None
        self.start()

    def start(self) -> None:
        self.server: Any = Server("natsc", CONFIG.format(self.store))
        self.talk: Any = Talk(self.server.port, 1)

    def restart(self, number: int) -> None:
        self.talk.close()
        self.server.process.send_signal(number)
        self.server.process.wait(10)
        self.server.close()
        self.start()

    def info(self) -> dict[str, Any]:
        self.talk.info("S", "C")
        return json.loads(self.talk.record[-1].split(" | ")[2])

    def payloads(self, body: dict[str, Any], count: int) -> list[str]:
        start = len(self.talk.record)
        self.talk.pull("S", "C", body, count)
        return [line.rsplit(" | ", 1)[1] for line in self.talk.record[start:]]

    def close(self) -> None:
        self.talk.close()
        self.server.close()


@pytest.fixture
def natsc(tmp_path: Path) -> Iterator[Restartable]:
    running = Restartable(tmp_path)
    running.talk.stream("S", storage="file")
    for number in range(200):
        running.talk.publish("S.a", str(number), "puback")
        running.talk.expect()
    yield running
    running.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_what_was_confirmed_never_comes_again(natsc: Restartable, number: int) -> None:
    natsc.talk.consumer("S", "C", ack_wait=500_000_000)
    natsc.payloads({"batch": 150}, 150)
    replies = natsc.talk.replies[-150:]
    for reply in replies[::2]:
        natsc.talk.publish(reply, "", "ack")
        natsc.talk.expect()
    natsc.restart(number)
    assert natsc.info()["num_ack_pending"] == 75
    got = natsc.payloads({"batch": 125, "expires": 5_000_000_000}, 125)
    assert sorted(map(int, got)) == [*range(1, 150, 2), *range(150, 200)]


def test_a_clean_stop_loses_no_acknowledgement(natsc: Restartable) -> None:
    natsc.talk.consumer("S", "C")
    natsc.payloads({"batch": 100}, 100)
    for reply in natsc.talk.replies[-100:]:
        natsc.talk.publish(reply)
    natsc.talk.ping()
    before = natsc.info()
    natsc.restart(signal.SIGTERM)
    after = natsc.info()
    for one in (before, after):
        for part in ("delivered", "ack_floor"):
            one[part].pop("last_active", None)
    assert after == before
    assert after["ack_floor"] == {"consumer_seq": 100, "stream_seq": 100}


def test_what_the_stream_has_no_more_is_below_the_floor(natsc: Restartable) -> None:
    natsc.talk.consumer("S", "C")
    natsc.payloads({"batch": 1}, 1)
    natsc.talk.api("STREAM.MSG.DELETE.S", {"seq": 1})
    natsc.talk.api("STREAM.MSG.DELETE.S", {"seq": 2})
    natsc.payloads({"batch": 1}, 1)
    assert natsc.info()["ack_floor"] == {"consumer_seq": 1, "stream_seq": 1, "last_active": "VARYING"}
    natsc.restart(signal.SIGTERM)
    assert natsc.info()["ack_floor"]["stream_seq"] == 2


def test_deliveries_are_counted_on(natsc: Restartable) -> None:
    natsc.talk.stream("T", storage="file")
    natsc.talk.consumer("T", "C", ack_wait=200_000_000, max_deliver=3)
    natsc.talk.fill("T.a")
    request = {"batch": 1, "expires": 5_000_000_000}
    for deliveries in ("1", "2"):
        natsc.talk.pull("T", "C", request)
        assert natsc.talk.replies[-1].split(".")[4] == deliveries
    natsc.restart(signal.SIGTERM)
    natsc.talk.pull("T", "C", request)
    assert natsc.talk.replies[-1].split(".")[4] == "3"


def test_the_last_of_each_subject_goes_on(natsc: Restartable) -> None:
    for subject in ("S.b", "S.c", "S.d"):
        natsc.talk.fill(subject)
    natsc.talk.consumer("S", "C", deliver_policy="last_per_subject", filter_subject="S.>", ack_wait=60_000_000_000)
    natsc.payloads({"batch": 2}, 2)
    natsc.talk.fill("S.b")
    natsc.restart(signal.SIGTERM)
    natsc.payloads({"batch": 9, "no_wait": True}, 4)
    assert [reply.split(".")[5] for reply in natsc.talk.replies[-4:-1]] == ["202", "203", "204"]


def test_a_new_consumer_of_an_old_name_begins_anew(natsc: Restartable) -> None:
    natsc.talk.consumer("S", "C")
    natsc.payloads({"batch": 70}, 70)
    natsc.talk.api("CONSUMER.DELETE.S.C")
    natsc.talk.consumer("S", "C")
    assert natsc.info()["num_ack_pending"] == 0
    natsc.restart(signal.SIGKILL)
    assert natsc.info()["num_ack_pending"] == 0
    assert natsc.payloads({"batch": 1}, 1) == ["0"]


def test_a_deleted_consumer_stays_deleted(natsc: Restartable) -> None:
    natsc.talk.consumer("S", "C")
    natsc.payloads({"batch": 1}, 1)
    natsc.talk.api("CONSUMER.DELETE.S.C")
    natsc.restart(signal.SIGKILL)
    assert natsc.info()["error"]["err_code"] == 10014
