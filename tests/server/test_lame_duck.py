"""The slow goodbye: who is told, who is closed when, and when it is over."""

from __future__ import annotations

import json

import pytest

from natsc.server import lame_duck

CONFIG = 'lame_duck_duration: "40s"\nlame_duck_grace_period: "10s"\n'
ENTERING = "Entering lame duck mode, stop accepting new clients"
CLOSING = "Closing existing clients"


class Goodbye:
    """A server in lame duck mode; pick always takes the longest gap."""

    def __init__(self, bench, peers, *, pick=lambda n: n - 1):
        self.bench, self.peers, self.ends = bench, peers, 0
        lame_duck.begin(bench.server, self.end, pick=pick)

    def end(self):
        self.ends += 1

    def advance(self, seconds):
        self.bench.server.clock.advance(seconds)
        return self

    @property
    def open(self):
        return [not peer.reason for peer in self.peers].count(True)


@pytest.fixture
def goodbye(bench):
    def make(count, config=CONFIG, **options):
        made = bench(config)
        return Goodbye(made, [made.login() for _ in range(count)], **options)

    return make


def test_without_clients_it_is_over_at_once(goodbye):
    leaving = goodbye(0)
    assert leaving.ends == 1
    assert leaving.bench.log.texts() == [ENTERING]


def test_nothing_is_accepted_any_more(goodbye):
    leaving = goodbye(1)
    assert leaving.bench.listener.stopped
    assert not leaving.bench.server.accepting


def test_begins_once(goodbye):
    leaving = goodbye(1)
    lame_duck.begin(leaving.bench.server, leaving.end)
    assert leaving.bench.log.texts() == [ENTERING]


@pytest.mark.parametrize("state", ["stopping", "listener"])
def test_does_not_begin_where_nobody_listens(bench, state):
    made = bench(CONFIG)
    setattr(made.server, state, True if state == "stopping" else None)
    lame_duck.begin(made.server, pytest.fail)
    assert made.log.texts() == []
    assert not made.server.lame_duck


def test_nobody_is_closed_in_the_grace_period(goodbye):
    leaving = goodbye(2).advance(9.9)
    assert leaving.open == 2
    assert CLOSING not in leaving.bench.log.texts()


def test_the_first_is_closed_when_it_is_over(goodbye):
    leaving = goodbye(2).advance(10)
    assert leaving.open == 1
    assert leaving.bench.log.texts() == [ENTERING, CLOSING]
    assert leaving.peers[0].reason == "Server Shutdown"


def test_no_more_than_a_second_apart(goodbye):
    leaving = goodbye(3).advance(10)
    assert leaving.advance(1).open == 1
    assert leaving.ends == 0
    assert leaving.advance(1).open == 0
    assert leaving.ends == 1


def test_at_least_half_of_the_gap(goodbye):
    leaving = goodbye(2, pick=lambda n: 0).advance(10)
    assert leaving.advance(0.4999).open == 1
    assert leaving.advance(0.0001).open == 0


def test_many_clients_share_what_is_left_of_the_duration(goodbye):
    leaving = goodbye(60).advance(10)  # 30 s for 60
    assert leaving.open == 59
    assert leaving.advance(0.5).open == 58
    assert leaving.advance(29).open == 0


def test_those_that_go_by_themselves_take_no_time(goodbye):
    leaving = goodbye(3)
    for peer in leaving.peers[:2]:
        peer.client.close(1)
    leaving.bench.server.engine.end_turn()
    leaving.advance(10)
    assert leaving.open == 0
    assert leaving.ends == 1


def test_over_after_the_grace_period_where_all_went_by_themselves(goodbye):
    leaving = goodbye(1)
    leaving.peers[0].client.close(1)
    leaving.bench.server.engine.end_turn()
    assert leaving.advance(9.9).ends == 0
    assert leaving.advance(0.1).ends == 1


def test_more_clients_than_nanoseconds_go_several_at_once(bench):
    made = bench(CONFIG)
    made.server.options.lame_duck_duration = made.server.options.lame_duck_grace_period + 2
    leaving = Goodbye(made, [made.login() for _ in range(5)]).advance(10)
    assert leaving.open < 4
    assert leaving.advance(0.001).open == 0


def test_a_negative_grace_period_may_be_longer_than_the_duration(bench):
    made = bench(CONFIG)
    made.server.options.lame_duck_grace_period = -60_000_000_000
    leaving = Goodbye(made, [made.login() for _ in range(2)])
    assert leaving.advance(59).open == 2
    assert leaving.advance(1).open == 1
    assert leaving.advance(1).open == 0


def test_a_shutdown_meanwhile_ends_it(goodbye):
    leaving = goodbye(2)
    leaving.bench.server.stopping = True
    assert leaving.advance(60).open == 2
    assert leaving.ends == 0


class TestInfo:
    def lines(self, bench, prepare):
        made = bench(CONFIG)
        peer = made.peer()
        prepare(peer)
        peer.hears()
        lame_duck.begin(made.server, pytest.fail)
        return peer.hears()

    def test_for_protocol_1_after_the_first_pong(self, bench):
        line = self.lines(bench, lambda peer: peer.connect(protocol=1))[0]
        assert line.startswith("INFO ")
        info = json.loads(line[5:])
        assert info["ldm"] is True
        assert "connect_info" not in info
        assert "connect_urls" not in info

    def test_not_for_protocol_0(self, bench):
        assert self.lines(bench, lambda peer: peer.connect()) == []

    def test_not_before_the_first_pong(self, bench):
        assert self.lines(bench, lambda peer: peer.say('CONNECT {"protocol":1,"verbose":false}')) == []

    def test_not_again_in_later_ones(self, bench):
        made = bench(CONFIG)
        peer = made.login(protocol=1)
        lame_duck.begin(made.server, pytest.fail)
        assert b"ldm" not in made.server.info_line(peer.client)
