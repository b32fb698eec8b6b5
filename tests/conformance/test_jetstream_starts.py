"""Where consumers begin, and where they begin again (CONSUMER.RESET), as nats-server has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .harness import Server
from .talk import Talk, both_say_the_same, start_both

STARTS: dict[str, dict[str, Any]] = {
    "all": {}, "last": {"deliver_policy": "last"}, "new": {"deliver_policy": "new"},
    "last_per_subject": {"deliver_policy": "last_per_subject", "filter_subject": "S.*"},
    "sequence": {"deliver_policy": "by_start_sequence", "opt_start_seq": 4},
    "sequence ahead": {"deliver_policy": "by_start_sequence", "opt_start_seq": 30},
    "time": {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
    "time ahead": {"deliver_policy": "by_start_time", "opt_start_time": "2090-01-01T00:00:00Z"},
    "time, filtered": {
        "deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z", "filter_subject": "S.c",
    },
    "time, filters": {
        "deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z", "filter_subjects": ["S.b", "S.c"],
    },
    "time out of reach": {"deliver_policy": "by_start_time", "opt_start_time": "2300-01-01T00:00:00Z"},
}  # fmt: skip


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    yield from start_both(tmp_path_factory)


@pytest.mark.parametrize("name", STARTS)
def test_starts(name: str, servers: list[Server]) -> None:
    def run(talk: Talk) -> None:
        talk.api("STREAM.DELETE.S")
        del talk.record[:]
        talk.stream("S")
        talk.fill("S.a", "S.a", "S.b", "S.b", "S.c", "S.a", "S.c")
        talk.consumer("S", "C", **STARTS[name])
        talk.info("S", "C")
        talk.fill("S.a", "S.c")
        talk.info("S", "C")
        talk.pull("S", "C", {"batch": 1, "no_wait": True})
        talk.info("S", "C")
        for body in ({"seq": 2}, {"seq": 0}, {"seq": 5}, {"seq": 50}):
            talk.api("CONSUMER.RESET.S.C", body)
            talk.pull("S", "C", {"batch": 1, "no_wait": True})
        talk.info("S", "C")

    both_say_the_same(servers, run, list(STARTS).index(name))
