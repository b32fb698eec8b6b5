"""From a message to its receivers: who gets it, in which form, and what happens to those that don't keep up."""

from __future__ import annotations

import pytest

from natsc.testing.world import World

HEADER = b"NATS/1.0\r\nA: b\r\n\r\n"


def hpub(subject: bytes, payload: bytes, reply: bytes = b"") -> bytes:
    return b"HPUB %s %s%d %d\r\n%s%s\r\n" % (
        subject, reply + b" " if reply else b"", len(HEADER), len(HEADER) + len(payload), HEADER, payload,
    )  # fmt: skip


class TestReceivers:
    def test_every_plain_subscription(self, world):
        one, two, sender = world.connect(), world.connect(), world.connect()
        one.say(b"SUB foo 1\r\nSUB foo 2\r\nSUB * 3\r\nSUB bar 4\r\n")
        two.say(b"SUB > 5\r\n")
        sender.say(b"PUB foo 1\r\nx\r\n")
        assert sorted(one.take().split(b"MSG ")[1:]) == [b"foo %d 1\r\nx\r\n" % sid for sid in (1, 2, 3)]
        assert two.take() == b"MSG foo 5 1\r\nx\r\n"
        assert sender.take() == b""

    def test_echo(self, world):
        peer = world.connect()
        assert peer.say(b"SUB foo 1\r\nPUB foo 0\r\n\r\n") == b"MSG foo 1 0\r\n\r\n"
        assert peer.say(b'CONNECT {"verbose":false,"echo":false}\r\nSUB foo 1\r\nPUB foo 0\r\n\r\n') == b""

    def test_without_echo_the_other_member_gets_it(self, world):
        one, two = world.connect(), world.connect()
        one.say(b'CONNECT {"verbose":false,"echo":false}\r\nSUB foo q 1\r\n')
        two.say(b"SUB foo q 2\r\n")
        one.say(b"PUB foo 0\r\n\r\n" * 10)
        assert (one.take(), two.take()) == (b"", b"MSG foo 2 0\r\n\r\n" * 10)

    def test_order_of_one_publisher(self, world):
        receiver, sender = world.connect(), world.connect()
        receiver.say(b"SUB a.* 1\r\nSUB b 2\r\n")
        sender.say(
            b"".join(b"PUB %s %d\r\n%d\r\n" % (b"b" if n % 3 else b"a.x", len(b"%d" % n), n) for n in range(100))
        )
        assert [int(line) for line in receiver.take().split(b"\r\n")[1::2]] == list(range(100))

    def test_who_closes_in_the_same_turn_gets_nothing_more(self, world):
        receiver, sender = world.connect(), world.connect()
        receiver.say(b"SUB foo 1\r\n")
        receiver.client.close(1)
        world.engine.receive(sender.client, b"PUB foo 0\r\n\r\n")
        world.end_turn()
        assert receiver.take() == b""


class TestQueues:
    def test_one_member_of_each_group(self, world):
        peers = [world.connect() for _ in range(4)]
        for i, peer in enumerate(peers):
            peer.say(b"SUB foo %s %d\r\nSUB foo.> other 9\r\n" % (b"q" if i % 2 else b"r", i))
        sender = world.connect()
        for _ in range(50):
            sender.say(b"PUB foo 0\r\n\r\n")
            got = [peer.take() for peer in peers]
            assert sum(data.count(b"MSG ") for data in got[::2]) == 1
            assert sum(data.count(b"MSG ") for data in got[1::2]) == 1

    @pytest.mark.parametrize("seed", [1, 2, 3])
    @pytest.mark.parametrize("members", [2, 3, 7])
    def test_fairness(self, seed, members):
        world = World(seed=seed)
        peers = [world.connect() for _ in range(members)]
        for peer in peers:
            peer.say(b"SUB foo q 1\r\n")
        total = 700 * members
        world.connect().say(b"PUB foo 0\r\n\r\n" * total)
        counts = [peer.take().count(b"MSG ") for peer in peers]
        assert sum(counts) == total
        assert all(abs(count - 700) < 140 for count in counts), counts  # five standard deviations and more

    def test_a_group_is_named_by_its_queue_not_by_its_subject(self, world):
        one, two, sender = world.connect(), world.connect(), world.connect()
        one.say(b"SUB foo.* q 1\r\n")
        two.say(b"SUB foo.bar q 2\r\n")
        sender.say(b"PUB foo.bar 0\r\n\r\n" * 20)
        assert one.take().count(b"MSG ") + two.take().count(b"MSG ") == 20

    def test_the_last_member_leaves(self, world):
        one, sender = world.connect(), world.connect()
        one.say(b"SUB foo q 1\r\nSUB foo q 2\r\nUNSUB 1\r\n")
        sender.say(b"PUB foo 0\r\n\r\n" * 5)
        assert one.take() == b"MSG foo 2 0\r\n\r\n" * 5
        one.say(b"UNSUB 2\r\n")
        sender.say(b"PUB foo 0\r\n\r\n")
        assert one.take() == b""


class TestHeaders:
    def test_stripped_for_who_has_none(self):
        world = World(headers=True)
        with_headers, without, sender = world.connect(), world.connect(), world.connect()
        without.client.set_connect(False, False, True, False)
        for peer in (with_headers, without):
            peer.say(b"SUB foo 1\r\n")
        for _ in range(3):
            sender.say(hpub(b"foo", b"hi", b"re"))
            assert with_headers.take() == b"HMSG foo 1 re 18 20\r\n" + HEADER + b"hi\r\n"
            assert without.take() == b"MSG foo 1 re 2\r\nhi\r\n"
        assert (without.client.out_bytes, with_headers.client.out_bytes) == (6, 60)

    def test_stripped_of_all_that_there_is(self):
        world = World(headers=True)
        without, sender = world.connect(), world.connect()
        without.client.set_connect(False, False, True, False)
        without.say(b"SUB foo 1\r\n")
        sender.say(hpub(b"foo", b""))
        assert without.take() == b"MSG foo 1 0\r\n\r\n"


class TestAutoUnsub:
    @pytest.mark.parametrize("size", [1, 100, 20000])
    def test_after_so_many(self, world, size):
        receiver, sender = world.connect(), world.connect()
        receiver.say(b"SUB foo 1\r\nUNSUB 1 3\r\n")
        message = b"%d\r\n%s\r\n" % (size, b"x" * size)
        sender.say(b"PUB foo " + message + b"PUB foo " + message)
        assert receiver.client.subscriptions() == [(b"foo", None, b"1", 2, 3)]
        sender.say((b"PUB foo " + message) * 3)
        assert receiver.take() == (b"MSG foo 1 " + message) * 3
        assert receiver.client.num_subs == 0

    def test_what_came_before_counts(self, world):
        receiver, sender = world.connect(), world.connect()
        receiver.say(b"SUB foo 1\r\n")
        sender.say(b"PUB foo 0\r\n\r\n" * 3)
        receiver.say(b"UNSUB 1 3\r\n")
        assert receiver.client.num_subs == 0
        receiver.say(b"SUB foo 2\r\n")
        sender.say(b"PUB foo 0\r\n\r\n" * 3)
        receiver.take()
        receiver.say(b"UNSUB 2 4\r\n")
        sender.say(b"PUB foo 0\r\n\r\n" * 3)
        assert receiver.take() == b"MSG foo 2 0\r\n\r\n"

    def test_of_a_queue_member(self, world):
        one, two, sender = world.connect(), world.connect(), world.connect()
        one.say(b"SUB foo q 1\r\nUNSUB 1 5\r\n")
        two.say(b"SUB foo q 2\r\n")
        sender.say(b"PUB foo 0\r\n\r\n" * 100)
        assert (one.take().count(b"MSG "), two.take().count(b"MSG ")) == (5, 95)

    def test_the_log_says_so_where_asked(self, world):
        world.engine.configure(debug=True)
        receiver = world.connect("r")
        receiver.say(b"SUB foo 7\r\nUNSUB 7 1\r\nPUB foo 0\r\n\r\n")
        assert world.log == [("r", "auto_unsub", "b'7'", "1", "0")]


class TestNoResponders:
    def client(self, world: World, **options: bool):
        peer = world.connect()
        peer.say(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB inbox.* 1\r\n')
        return peer

    def test_nobody_is_there(self, world, step):
        peer = self.client(world)
        status = b"NATS/1.0 503\r\nNats-Subject: foo\r\n\r\n"
        assert len(status) == 35
        assert peer.say(b"PUB foo inbox.9 2\r\nhi\r\n", step) == b"HMSG inbox.9 1 35 35\r\n" + status + b"\r\n"

    def test_somebody_is_there(self, world):
        peer, other = self.client(world), world.connect()
        other.say(b"SUB foo 1\r\n")
        assert peer.say(b"PUB foo inbox.9 2\r\nhi\r\n") == b""

    def test_only_a_request_is_answered(self, world):
        assert self.client(world).say(b"PUB foo 2\r\nhi\r\n") == b""

    def test_only_where_it_listens_itself(self, world):
        peer, other = self.client(world), world.connect()
        other.say(b"SUB reply 1\r\n")
        assert peer.say(b"PUB foo reply 2\r\nhi\r\n") == b""
        assert other.take() == b""

    def test_the_only_subscriber_has_no_echo(self, world):
        peer = world.connect()
        peer.say(
            b'CONNECT {"verbose":false,"headers":true,"no_responders":true,"echo":false}\r\n'
            b"SUB inbox 1\r\nSUB foo 2\r\n"
        )
        assert b"503" in peer.say(b"PUB foo inbox 2\r\nhi\r\n")


class TestSlow:
    """Receivers that take nothing."""

    def test_max_pending(self):
        world = World(max_pending=1000)
        receiver, sender = world.connect(), world.connect()
        receiver.blocked = True
        receiver.say(b"SUB foo 1\r\n")
        for _ in range(10):
            sender.say(b"PUB foo 80\r\n%s\r\n" % (b"x" * 80))
        assert not receiver.closed
        assert receiver.client.pending_bytes == 960
        sender.say(b"PUB foo 80\r\n%s\r\n" % (b"x" * 80))
        assert receiver.reason == "Slow Consumer (Pending Bytes)"
        assert receiver.client.pending_bytes == 0
        assert (world.engine.slow_consumers, world.account().slow_consumers) == (1, 1)
        assert not sender.closed

    @pytest.mark.parametrize("text", [b"PING\r\n", b"PUB a 0\r\n\r\n", b"SUB > 1\r\n"])
    def test_answers_that_nobody_reads(self, text):
        """They count against max_pending as messages do, or a peer could fill the memory with them."""
        world = World(max_pending=1000, verbose=True)
        peer = world.connect()
        peer.blocked = True
        for _ in range(1000):
            peer.world.receive(peer, text)
        assert peer.reason == "Slow Consumer (Pending Bytes)"
        assert peer.client.pending_bytes == 0

    def test_errors_that_nobody_reads(self):
        world = World(max_pending=1000)
        peer = world.connect()
        peer.blocked = True
        for _ in range(1000):
            peer.world.receive(peer, b"SUB a..b 1\r\n")
        assert peer.reason == "Slow Consumer (Pending Bytes)"

    def test_an_answer_bigger_than_max_pending(self):
        world = World(max_pending=1000)
        peer = world.connect()
        peer.say(b"SUB foo 1\r\nPUB foo 2000\r\n%s\r\n" % (b"x" * 2000))
        assert peer.reason == "Slow Consumer (Pending Bytes)"


class TestTrace:
    def test_operations_and_messages(self, world):
        world.engine.configure(trace=True)
        peer = world.connect("p")
        peer.say(b"SUB foo 1\r\nPUB foo re 2\r\nhi\r\nUNSUB 1\r\nPING\r\nPONG\r\n")
        assert [entry[1:] for entry in world.log] == [
            ("<<-", "b'SUB'", "b'foo 1'"),
            ("<<-", "b'PUB'", "b'foo re 2'"),
            ("<<-", "b'hi'", "-1"),
            ("->>", "b'MSG foo 1 re 2'", "None"),
            ("->>", "b'hi'", "-1"),
            ("<<-", "b'UNSUB'", "b'1'"),
            ("<->", "b'DELSUB'", "b'1'"),
            ("<<-", "b'PING'", "None"),
            ("->>", "b'PONG'", "None"),
            ("<<-", "b'PONG'", "None"),
        ]

    def test_what_else_is_said(self):
        world = World(headers=True)
        world.engine.configure(trace=True)
        peer = world.connect("p")
        peer.say(b'CONNECT {"headers":true}\r\nHPUB a 2 2\r\nhh\r\nSUB a.. 1\r\n')
        world.advance(3 * 10**9)
        assert [entry[1:3] for entry in world.log] == [
            ("<<-", "b'CONNECT'"),
            ("<<-", "b'HPUB'"),
            ("<<-", "b'hh'"),
            ("->>", "b'OK'"),
            ("<<-", "b'SUB'"),
            ("->>", "b'-ERR'"),
            ("->>", "b'PING'"),
        ]

    def test_once_where_the_payload_comes_late(self, world, step):
        world.engine.configure(trace=True)
        peer = world.connect("p")
        peer.say(b"PUB foo 2\r\nhi\r\n", step)
        assert len(world.log) == 2


def test_counters(world):
    receiver, other, sender = world.connect(), world.connect(), world.connect()
    receiver.say(b"SUB > 1\r\n")
    other.say(b"SUB foo 1\r\n")
    sender.say(b"PUB foo 3\r\nabc\r\nPUB bar 4\r\nabcd\r\n")
    for counted in (world.engine, world.account()):
        assert (counted.in_msgs, counted.in_bytes, counted.out_msgs, counted.out_bytes) == (2, 7, 3, 10)
    assert (sender.client.in_msgs, sender.client.in_bytes, sender.client.out_msgs) == (2, 7, 0)
    assert (receiver.client.out_msgs, receiver.client.out_bytes) == (2, 7)


def test_a_message_of_the_server(world):
    receiver = world.connect()
    receiver.say(b"SUB $SYS.> 1\r\n")
    assert world.engine.publish(world.account(), b"$SYS.x", b"hi")
    assert not world.engine.publish(world.account(), b"other", b"hi")
    world.collect()
    assert receiver.take() == b"MSG $SYS.x 1 2\r\nhi\r\n"
