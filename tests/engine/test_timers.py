"""Timers on a clock that stands still: PING, stale connections, authentication, and their order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from natsc.testing.world import SECOND_NS, User, World

CONNECT = b'CONNECT {"verbose":false,"user":"u"}\r\n'


class TestPing:
    @pytest.fixture
    def world(self) -> World:
        world = World()
        world.engine.configure(ping_interval_ns=60 * SECOND_NS, max_pings_out=2)
        return world

    def test_the_first_comes_early(self, world):
        peer = world.connect()
        peer.say(CONNECT)
        world.advance(2 * SECOND_NS - 1)
        assert peer.take() == b""
        world.advance(SECOND_NS)
        assert peer.take() == b"PING\r\n"

    def test_the_first_is_spread(self, world):
        peers = [world.connect() for _ in range(50)]
        for peer in peers:
            peer.say(CONNECT)
        world.advance(2200 * SECOND_NS // 1000)
        assert 5 < sum(peer.take() == b"PING\r\n" for peer in peers) < 45

    def test_the_round_trip_is_measured(self, world):
        peer = world.connect()
        world.advance(5 * SECOND_NS)
        peer.say(CONNECT)
        assert peer.client.rtt_ns == 5 * SECOND_NS
        world.advance(3 * SECOND_NS)
        at = world.engine.now_ns()
        peer.take()
        world.advance(SECOND_NS)
        peer.say(b"PONG\r\n")
        assert SECOND_NS <= peer.client.rtt_ns <= world.engine.now_ns() - at + SECOND_NS

    def test_who_speaks_is_not_asked(self, world):
        peer = world.connect()
        peer.say(CONNECT)
        world.advance(3 * SECOND_NS)
        peer.say(b"PONG\r\n")
        for _ in range(100):
            world.advance(20 * SECOND_NS)
            peer.say(b"PING\r\n")
            assert b"PING" not in peer.take()

    def test_stale(self, world):
        peer = world.connect("p")
        peer.say(CONNECT)
        world.advance(3 * SECOND_NS)
        world.advance(60 * SECOND_NS)
        assert peer.take() == b"PING\r\nPING\r\n"
        world.advance(60 * SECOND_NS)
        assert (peer.take(), peer.reason) == (b"-ERR 'Stale Connection'\r\n", "Stale Connection")
        assert (world.engine.stale_connections, world.log[-1][:2]) == (1, ("p", "stale"))

    def test_a_pong_is_enough(self, world):
        peer = world.connect()
        peer.say(CONNECT)
        for _ in range(50):
            world.advance(60 * SECOND_NS)
            assert peer.take() in (b"", b"PING\r\n")
            peer.say(b"PONG\r\n")
        assert not peer.closed

    def test_a_jump_of_the_clock_fires_one_after_the_other(self, world):
        peer = world.connect()
        peer.say(CONNECT)
        world.advance(3600 * SECOND_NS)
        assert peer.take() == b"PING\r\nPING\r\n-ERR 'Stale Connection'\r\n"

    def test_nothing_fires_for_a_closed_client(self, world):
        peer = world.connect()
        peer.say(CONNECT)
        peer.client.close(1)
        world.end_turn()
        world.advance(3600 * SECOND_NS)
        assert peer.take() == b""

    def test_a_ping_for_the_round_trip(self, world):
        peer = world.connect()
        peer.say(CONNECT)
        assert not peer.client.send_rtt_ping()  # too early: it may take it for a fault
        peer.say(b"PING\r\n")
        assert peer.client.send_rtt_ping()
        world.collect()
        assert peer.take() == b"PING\r\n"
        peer.client.close(1)
        assert not peer.client.send_rtt_ping()

    def test_first_ping_of_the_client(self, world):
        peer = world.connect("p")
        peer.say(b"PING\r\n")
        assert world.log == []
        peer.say(CONNECT + b"PING\r\nPING\r\n")
        assert world.log == [("p", "first_ping")]


class TestAuthTimeout:
    @pytest.fixture
    def world(self) -> World:
        return World(users={"u": User()}, auth_timeout_ns=2 * SECOND_NS)

    def test_silence(self, world):
        peer = world.connect("p")
        world.advance(2 * SECOND_NS - 1)
        assert not peer.closed
        world.advance(1)
        assert (peer.take(), peer.reason) == (b"-ERR 'Authentication Timeout'\r\n", "Authentication Timeout")
        assert world.log[-1][:2] == ("p", "auth_timeout")

    def test_half_a_connect(self, world):
        peer = world.connect()
        peer.say(CONNECT[:-2])
        world.advance(2 * SECOND_NS)
        assert peer.reason == "Authentication Timeout"

    def test_in_time(self, world):
        peer = world.connect()
        peer.say(CONNECT)
        world.engine.configure(ping_interval_ns=10**18)
        world.advance(3 * SECOND_NS)
        assert not peer.closed

    @pytest.mark.parametrize("text", [b"PING\r\n", b"SUB foo 1\r\n", b"P", b"\x00", b"X"])
    def test_something_else_first(self, world, text):
        peer = world.connect()
        assert (peer.say(text), peer.reason) == (b"-ERR 'Authorization Violation'\r\n", "Authentication Failure")

    def test_a_hook_that_fails_lets_nobody_in(self, world, monkeypatch):
        raised = []
        monkeypatch.setattr("sys.unraisablehook", raised.append)
        world.on_first_op = lambda client: 1 / 0
        peer = world.connect()
        peer.say(b"PING\r\n" * 10)
        assert (len(raised), peer.take(), peer.reason) == (1, b"", "Authentication Failure")

    def test_wrong_user(self, world, step):
        peer = world.connect()
        assert peer.say(b'CONNECT {"user":"x"}\r\nPING\r\n', step) == b"-ERR 'Authorization Violation'\r\n"


class TestPending:
    """Authentication that takes its time elsewhere."""

    @pytest.fixture
    def peer(self):
        world = World(users={"u": User()})
        world.connect_answer = 2
        peer = world.connect()
        peer.say(CONNECT + b"PING\r\nSUB foo 1\r\n")
        return peer

    def test_nothing_is_done_meanwhile(self, peer):
        assert peer.say(b"PUB foo 1\r\nx\r\n", 1) == b""
        assert peer.client.num_subs == 0

    def test_goes_on_where_it_was(self, peer):
        peer.say(b"PUB foo 1\r\nx\r", 1)
        peer.client.accept()
        peer.world.engine.resume(peer.client)
        peer.world.collect()
        assert peer.take() == b"PONG\r\n"
        assert peer.say(b"\n") == b"MSG foo 1 1\r\nx\r\n"

    def test_refused(self, peer):
        peer.client.close(3)
        peer.world.engine.resume(peer.client)
        peer.world.collect()
        assert peer.take() == b""

    def test_the_time_runs_on(self, peer):
        peer.world.advance(2 * SECOND_NS)
        assert peer.reason == "Authentication Timeout"


class TestRearm:
    """The engine says when it wants to be woken."""

    def test_for_the_earliest(self):
        world = World()
        told = []
        world.engine.rearm = told.append
        start = world.engine.now_ns()
        for timeout in (5, 7, 3):
            world.connect().client.expect_connect(timeout * SECOND_NS)
            world.end_turn()
        assert told == [start + 5 * SECOND_NS, start + 3 * SECOND_NS]
        world.advance(3 * SECOND_NS)
        assert told[2:] == [start + 5 * SECOND_NS]


class Heap(RuleBasedStateMachine):
    """The heap of timers against a list: clients with deadlines for authentication, armed, moved,
    cancelled and fired."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.due: dict[int, int] = {}  # cid: deadline
        self.now = 0

    @rule(target=clients, timeout=st.integers(1, 50))
    def connect(self, timeout: int) -> int:
        peer = self.world.connect()
        peer.client.expect_connect(timeout)
        self.due[peer.client.cid] = self.now + timeout
        return peer.client.cid

    @rule(cid=clients, timeout=st.integers(1, 50))
    def move(self, cid: int, timeout: int) -> None:
        if cid in self.due:
            self.world.peers[cid].client.expect_connect(timeout)
            self.due[cid] = self.now + timeout

    @rule(cid=clients)
    def cancel(self, cid: int) -> None:
        if self.due.pop(cid, None):
            self.world.peers[cid].client.accept()

    @rule(cid=clients)
    def close(self, cid: int) -> None:
        if self.due.pop(cid, None):
            self.world.peers[cid].client.close(1)
            self.world.end_turn()

    @rule(ns=st.integers(0, 30))
    def advance(self, ns: int) -> None:
        self.world.log.clear()
        self.world.advance(ns)
        self.now += ns
        fired = {cid: deadline for cid, deadline in self.due.items() if deadline <= self.now}
        order = [int(entry[0][1:]) for entry in self.world.log if entry[1] == "auth_timeout"]
        assert sorted(order) == sorted(fired)
        assert [fired[cid] for cid in order] == sorted(fired.values())
        for cid in fired:
            del self.due[cid]

    @invariant()
    def only_those_are_open(self) -> None:
        for cid in self.due:
            assert not self.world.peers[cid].closed


Heap.TestCase.settings = settings(max_examples=60, stateful_step_count=60)
TestHeap = Heap.TestCase


def test_clock():
    world = World()
    start = world.engine.now_ns()
    assert world.engine.now_ns() == start
    world.advance(5)
    assert world.engine.now_ns() == start + 5
    world.advance(-5)
    assert world.engine.now_ns() == start + 5
    world.engine.unfreeze()
    assert start + 5 <= world.engine.now_ns() < start + 60 * SECOND_NS
    world.engine.freeze()
    assert world.engine.now_ns() == world.engine.now_ns()
