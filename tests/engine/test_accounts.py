"""Accounts: isolated subjects, limits, who is in them; and how clients go."""

from __future__ import annotations

import gc
import weakref

import pytest

from natsc.errors import CLOSE_REASONS
from natsc.testing.world import User, World


class TestIsolation:
    def test_subjects(self, world):
        a, b, also_a = world.connect(account="A"), world.connect(account="B"), world.connect(account="A")
        for peer in (a, b, also_a):
            peer.say(b"SUB > 1\r\nSUB foo q 2\r\n")
        received = [a.say(b"PUB foo 0\r\n\r\n"), b.take(), also_a.take()]
        assert received[1] == b""
        assert b"".join(received).count(b"MSG foo") == 3

    def test_counters(self, world):
        world.connect(account="A").say(b"SUB foo 1\r\nPUB foo 1\r\nx\r\n")
        a, b = world.account("A"), world.account("B")
        assert (a.in_msgs, a.out_msgs, a.num_subs, a.num_clients, a.total_conns) == (1, 1, 1, 1, 1)
        assert (b.in_msgs, b.out_msgs, b.num_subs, b.num_clients, b.total_conns) == (0, 0, 0, 0, 0)
        assert world.engine.num_subs == 1

    def test_two_engines_know_nothing_of_each_other(self):
        one, two = World(), World()
        a, b = one.connect(), two.connect()
        a.say(b"SUB foo 1\r\n")
        b.say(b"PUB foo 0\r\n\r\n")
        assert (a.take(), two.engine.num_subs, one.engine.in_msgs) == (b"", 0, 0)


class TestJoin:
    def test_drops_subscriptions(self, world):
        peer = world.connect(account="A")
        peer.say(b"SUB foo 1\r\n")
        peer.client.join(world.account("B"))
        assert (peer.client.num_subs, world.account("A").num_subs, world.engine.num_subs) == (0, 0, 0)
        assert (world.account("A").num_clients, world.account("B").num_clients) == (0, 1)
        assert peer.say(b"SUB foo 1\r\nPUB foo 0\r\n\r\n") == b"MSG foo 1 0\r\n\r\n"

    def test_where_it_is_already(self, world):
        peer = world.connect(account="A")
        peer.say(b"SUB foo 1\r\n")
        peer.client.join(world.account("A"))
        assert (peer.client.num_subs, world.account("A").total_conns) == (1, 1)

    def test_within_one_read(self):
        """CONNECT moves the client in mid-input: what came before counts where it was, the rest where it is."""
        world = World(users={"b": User("B")})
        world.on_first_op = lambda client: not client.accept()
        peer = world.connect(account="A")
        publish = b"PUB foo 1\r\nx\r\n"
        peer.say(publish + b'CONNECT {"verbose":false,"user":"b"}\r\nSUB foo 1\r\n' + publish * 2)
        assert peer.take() == b""
        assert [world.account(name).in_msgs for name in "AB"] == [1, 2]
        assert [world.account(name).out_msgs for name in "AB"] == [0, 2]

    def test_the_same_subject_before_and_after(self, world):
        """The remembered match of the last publish belongs to the old account."""
        old, new = world.connect(account="A"), world.connect(account="B")
        for peer in (old, new):
            peer.say(b"SUB foo 1\r\n")
        mover = world.connect(account="A")
        mover.say(b"PUB foo 0\r\n\r\n")
        mover.client.join(world.account("B"))
        mover.say(b"PUB foo 0\r\n\r\n")
        assert (old.take().count(b"MSG"), new.take().count(b"MSG")) == (1, 1)


class TestLimits:
    def test_connections(self, world):
        account = world.account("A")
        account.set_limits(2, -1, -1)
        first = world.connect(account="A")
        assert not account.at_connection_limit
        world.connect(account="A")
        assert account.at_connection_limit
        first.client.close(1)
        world.end_turn()
        assert not account.at_connection_limit

    def test_of_a_client(self, world):
        peer = world.connect()
        peer.client.configure(max_payload=10, max_subs=1, max_control_line=20)
        assert peer.say(b"SUB a 1\r\nSUB b 2\r\n") == b"-ERR 'maximum subscriptions exceeded'\r\n"
        assert peer.say(b"PUB a 11\r\n").startswith(b"-ERR 'Maximum Payload")
        assert world.connect().say(b"PUB a 11\r\n") == b""

    def test_no_limit(self, world):
        peer = world.connect()
        peer.client.configure(max_payload=-1, max_subs=-1)
        peer.say(b"PUB a 2000000\r\n%s\r\n" % (b"x" * 2000000))
        assert not peer.closed


class TestClosing:
    @pytest.mark.parametrize("reason", range(1, len(CLOSE_REASONS)))
    def test_reasons(self, world, reason):
        peer = world.connect()
        peer.client.close(reason)
        peer.client.close(1)  # the first one counts
        world.end_turn()
        assert (peer.client.close_reason, peer.reason) == (reason, CLOSE_REASONS[reason])

    def test_what_is_queued_still_goes_out(self, world):
        peer = world.connect()
        assert peer.say(b"PING\r\nX") == b"PONG\r\n-ERR 'Unknown Protocol Operation'\r\n"

    def test_nothing_more_is_read(self, world):
        peer = world.connect()
        peer.say(b"X")
        assert peer.say(b"PING\r\n") == b""
        assert world.engine.client(peer.client.cid) is None

    def test_is_told_once_while_all_still_stands(self, world):
        seen = []
        world.engine.release = lambda client: seen.append((client.cid, client.num_subs, client.account.num_clients))
        peer = world.connect()
        peer.say(b"SUB foo 1\r\nX")
        world.end_turn()
        assert seen == [(peer.client.cid, 1, 1)]

    def test_what_it_had_stays_readable(self, world):
        peer = world.connect()
        peer.say(b"SUB foo 1\r\nSUB bar q 2\r\nPUB foo 1\r\nx\r\nX")
        client = peer.client
        assert sorted(client.subscriptions()) == [(b"bar", b"q", b"2", 0, 0), (b"foo", None, b"1", 1, 0)]
        assert (client.num_subs, client.in_msgs, client.out_msgs, world.engine.num_subs) == (2, 1, 1, 0)

    def test_clients_that_nobody_holds_go(self, world):
        peer = world.connect()
        peer.say(b"SUB foo 1\r\nPUB foo 1\r\nx\r\nPUB foo 100\r\nx")
        gone = []
        weakref.finalize(peer, gone.append, True)
        peer.client.close(1)
        world.end_turn()
        world.peers.clear()
        del peer
        gc.collect()
        assert gone
        assert world.engine.clients() == []
        other = world.connect()
        assert other.say(b"SUB foo 2\r\nPUB foo 0\r\n\r\n") == b"MSG foo 2 0\r\n\r\n"

    def test_an_engine_with_open_clients_goes(self):
        for _ in range(20):
            world = World()
            peers = [world.connect(account=name) for name in "ABA"]
            for peer in peers:
                peer.say(b"SUB foo.* 1\r\nSUB foo.> q 2\r\nPUB foo.x reply 3\r\nabc\r\nPUB foo 10\r\nx")
                peer.client.expect_connect(10**9)
                peer.client.send(b"x")
            del world, peers, peer
        gc.collect()

    def test_during_a_delivery(self):
        """A receiver overflows while its message is written: the others get theirs, it is closed at the turn's end."""
        world = World(max_pending=200)
        peers = [world.connect() for _ in range(5)]
        for peer in peers:
            peer.say(b"SUB foo 1\r\nSUB foo 2\r\n")
        peers[2].blocked = True
        sender = world.connect()
        sender.say(b"PUB foo 60\r\n%s\r\n" % (b"x" * 60))
        sender.say(b"PUB foo 60\r\n%s\r\n" % (b"y" * 60))
        assert [peer.closed for peer in peers] == [False, False, True, False, False]
        assert [peer.take().count(b"MSG ") for peer in peers] == [4, 4, 0, 4, 4]
        assert world.account().num_subs == 8


def test_ids_count_up(world):
    assert [world.connect().client.cid for _ in range(3)] == [1, 2, 3]
    assert world.engine.next_cid() == 4
    assert world.connect().client.cid == 5


def test_names_of_hooks_that_fail(world, monkeypatch):
    """What a hook raises goes to sys.unraisablehook; the connection goes on as if the hook had said nothing."""
    raised = []
    monkeypatch.setattr("sys.unraisablehook", raised.append)
    world.on_violation = world.on_connect = lambda *_: 1 / 0
    peer = world.connect()
    assert peer.say(b"PUB $NRG.x 0\r\n\r\nCONNECT {}\r\nPING\r\n") == b"PONG\r\n"
    assert len(raised) == 2
    assert not peer.client.connected
