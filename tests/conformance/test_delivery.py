"""Who gets a message, how often, and in which order."""

from __future__ import annotations

import pytest


class TestPlain:
    def test_payload_and_reply(self, wire):
        wire.sub("foo", "sid-1").pub("foo", "hello", reply="inbox.22")
        assert wire.flush() == [b"MSG foo sid-1 inbox.22 5\r\nhello"]

    def test_no_subscriber(self, wire):
        wire.pub("nobody", "hello")
        assert wire.flush() == []

    def test_each_matching_subscription_gets_a_copy(self, wire):
        wire.sub("a.b", 1).sub("a.*", 2).sub("a.>", 3).sub(">", 4).sub("*.b", 5).sub("a.c", 6).pub("a.b", "x")
        assert sorted(wire.flush()) == [b"MSG a.b %d 1\r\nx" % sid for sid in (1, 2, 3, 4, 5)]

    def test_same_subject_twice(self, wire):
        wire.sub("foo", 1).sub("foo", 2).pub("foo")
        assert sorted(wire.flush()) == [b"MSG foo 1 0\r\n", b"MSG foo 2 0\r\n"]

    def test_every_connection_gets_a_copy(self, server, dial, wire):
        others = [dial(server).ready().sub("fan.out") for _ in range(5)]
        for other in others:
            other.flush()
        wire.pub("fan.out", "x")
        assert [other.op() for other in others] == [b"MSG fan.out 1 1\r\nx"] * 5

    @pytest.mark.parametrize("sid", ["1", "a", "sid:with-odd_chars", "0", "00", "-1", "x" * 200, "é"])
    def test_sid_is_any_token(self, wire, sid):
        wire.lines(f"SUB foo {sid}").pub("foo")
        assert wire.flush() == [f"MSG foo {sid} 0\r\n".encode()]

    def test_duplicate_sid_is_ignored(self, wire):
        wire.sub("foo", 1).sub("bar", 1).pub("foo").pub("bar")
        assert wire.flush() == [b"MSG foo 1 0\r\n"]

    def test_sids_of_two_connections_are_independent(self, server, dial):
        one, two = dial(server).ready(), dial(server).ready()
        one.sub("sids.one", 1).flush()
        two.sub("sids.two", 1).flush()
        one.pub("sids.two", "x")
        assert two.op() == b"MSG sids.two 1 1\r\nx"
        assert one.flush() == []

    def test_order_of_one_publisher(self, server, dial, wire):
        other = dial(server).ready().sub("order.>")
        other.flush()
        for i in range(500):
            wire.pub(f"order.{i % 7}", str(i))
        got = [op.split(b"\r\n")[1] for op in other.ops(500)]
        assert got == [str(i).encode() for i in range(500)]

    def test_a_disconnected_subscriber_is_gone(self, server, dial, wire):
        other = dial(server).ready().sub("gone")
        other.flush()
        other.close()
        server.closed(other.cid)
        wire.pub("gone")
        assert wire.flush() == []


class TestUnsub:
    def test_stops_delivery(self, wire):
        wire.sub("foo").pub("foo", "1").lines("UNSUB 1").pub("foo", "2")
        assert wire.flush() == [b"MSG foo 1 1\r\n1"]

    def test_unknown_sid(self, wire):
        wire.lines("UNSUB 42", "UNSUB 42 5")
        assert wire.flush() == []

    def test_before_sub_has_no_effect(self, wire):
        wire.lines("UNSUB 1 1").sub("foo").pub("foo", "a").pub("foo", "b")
        assert len(wire.flush()) == 2

    def test_max(self, wire):
        wire.sub("foo").lines("UNSUB 1 3")
        for i in range(5):
            wire.pub("foo", str(i))
        assert wire.flush() == [b"MSG foo 1 1\r\n%d" % i for i in range(3)]

    def test_max_counts_from_the_subscription(self, wire):
        wire.sub("foo").pub("foo", "0").pub("foo", "1").lines("UNSUB 1 3")
        for i in range(2, 5):
            wire.pub("foo", str(i))
        assert wire.flush() == [b"MSG foo 1 1\r\n%d" % i for i in range(3)]

    def test_max_already_reached_removes_at_once(self, wire):
        wire.sub("foo").pub("foo", "0").pub("foo", "1").lines("UNSUB 1 2").pub("foo", "2")
        assert wire.flush() == [b"MSG foo 1 1\r\n0", b"MSG foo 1 1\r\n1"]

    def test_max_zero_removes_at_once(self, wire):
        wire.sub("foo").lines("UNSUB 1 0").pub("foo")
        assert wire.flush() == []

    def test_max_can_be_raised(self, wire):
        wire.sub("foo").lines("UNSUB 1 1", "UNSUB 1 2")
        for i in range(4):
            wire.pub("foo", str(i))
        assert len(wire.flush()) == 2

    def test_max_can_be_cancelled_by_plain_unsub(self, wire):
        wire.sub("foo").lines("UNSUB 1 5", "UNSUB 1").pub("foo")
        assert wire.flush() == []

    def test_sid_is_free_after_auto_unsub(self, wire):
        wire.sub("foo").lines("UNSUB 1 1").pub("foo", "a").pub("foo", "b").sub("bar").pub("bar", "c").pub("bar", "d")
        assert wire.flush() == [b"MSG foo 1 1\r\na", b"MSG bar 1 1\r\nc", b"MSG bar 1 1\r\nd"]

    def test_sid_is_free_after_unsub(self, wire):
        wire.sub("foo").lines("UNSUB 1").sub("bar").pub("foo").pub("bar")
        assert wire.flush() == [b"MSG bar 1 0\r\n"]

    def test_auto_unsub_of_a_queue_member(self, wire):
        wire.sub("foo", 1, "q").lines("UNSUB 1 2")
        for i in range(4):
            wire.pub("foo", str(i))
        assert wire.flush() == [b"MSG foo 1 1\r\n0", b"MSG foo 1 1\r\n1"]

    def test_auto_unsub_leaves_the_other_queue_members(self, wire):
        wire.sub("foo", 1, "q").sub("foo", 2, "q").lines("UNSUB 1 1")
        for i in range(40):
            wire.pub("foo", str(i))
        got = wire.flush()
        assert len(got) == 40
        assert sum(op.startswith(b"MSG foo 1 ") for op in got) <= 1

    def test_drain(self, server, dial, wire):
        """UNSUB then PING: what was queued before comes before the PONG, and nothing after it."""
        other = dial(server).ready().sub("drain")
        other.flush()
        for i in range(200):
            wire.pub("drain", str(i))
        wire.flush()
        other.lines("UNSUB 1", "PING")
        assert [op.split(b"\r\n")[1] for op in other.until_pong()] == [str(i).encode() for i in range(200)]
        wire.pub("drain", "late").flush()
        assert other.flush() == []


class TestQueues:
    def test_one_member_gets_each_message(self, wire):
        for sid in range(1, 6):
            wire.sub("foo", sid, "workers")
        for _ in range(100):
            wire.pub("foo")
        assert len(wire.flush()) == 100

    def test_every_member_gets_some(self, wire):
        for sid in range(1, 4):
            wire.sub("foo", sid, "workers")
        for _ in range(300):
            wire.pub("foo")
        counts = dict.fromkeys((b"1", b"2", b"3"), 0)
        for op in wire.flush():
            counts[op.split(b" ")[2]] += 1
        assert all(count > 30 for count in counts.values()), counts

    def test_every_connection_gets_some(self, server, dial, wire):
        members = [dial(server).ready().sub("work", 1, "workers") for _ in range(3)]
        for member in members:
            member.flush()
        for _ in range(300):
            wire.pub("work")
        wire.flush()
        counts = [len(member.flush()) for member in members]
        assert sum(counts) == 300
        assert all(count > 30 for count in counts), counts

    def test_each_group_gets_a_copy(self, wire):
        wire.sub("foo", 1, "a").sub("foo", 2, "b").sub("foo", 3, "a").pub("foo")
        got = {op.split(b" ")[2] for op in wire.flush()}
        assert len(got) == 2 and b"2" in got

    def test_beside_plain_subscriptions(self, wire):
        wire.sub("foo", 1).sub("foo", 2, "q").sub("foo", 3, "q")
        for _ in range(10):
            wire.pub("foo")
        got = [op.split(b" ")[2] for op in wire.flush()]
        assert got.count(b"1") == 10
        assert len(got) == 20

    def test_a_group_spans_wildcards(self, wire):
        wire.sub("q.a", 1, "g").sub("q.*", 2, "g").sub("q.>", 3, "g")
        for _ in range(50):
            wire.pub("q.a")
        assert len(wire.flush()) == 50

    def test_same_member_twice(self, wire):
        wire.sub("foo", 1, "q").sub("foo", 1, "q").pub("foo")
        assert len(wire.flush()) == 1

    @pytest.mark.parametrize("queue", [">", "*", "q*.x>", "a..b", ".", "$x", "_sys", "é"])
    def test_queue_name_is_any_token(self, wire, queue):
        wire.lines(f"SUB foo {queue} 1").pub("foo")
        assert wire.flush() == [b"MSG foo 1 0\r\n"]

    def test_unsub_leaves_the_group(self, wire):
        wire.sub("foo", 1, "q").sub("foo", 2, "q").lines("UNSUB 1")
        for _ in range(20):
            wire.pub("foo")
        assert wire.flush() == [b"MSG foo 2 0\r\n"] * 20

    def test_last_member_gone(self, wire):
        wire.sub("foo", 1, "q").lines("UNSUB 1").pub("foo")
        assert wire.flush() == []

    def test_own_member_is_passed_over_without_echo(self, server, dial):
        other = dial(server).ready().sub("eq", 1, "g")
        other.flush()
        wire = dial(server).ready(echo=False).sub("eq", 1, "g")
        for _ in range(50):
            wire.pub("eq")
        assert wire.flush() == []
        assert len(other.flush()) == 50


class TestFlush:
    def test_pong_follows_everything_before_it(self, wire):
        wire.sub("foo")
        wire.send(b"PUB foo 1\r\nx\r\nPING\r\nPUB foo 1\r\ny\r\nPING\r\n")
        assert wire.ops(4) == [b"MSG foo 1 1\r\nx", b"PONG", b"MSG foo 1 1\r\ny", b"PONG"]

    def test_a_flushed_publish_is_already_with_the_subscriber(self, server, dial, wire):
        other = dial(server).ready().sub("flushed")
        other.flush()
        wire.pub("flushed", "x").flush()
        assert other.flush() == [b"MSG flushed 1 1\r\nx"]

    def test_a_flushed_subscription_sees_the_next_publish(self, server, dial, wire):
        other = dial(server).ready().sub("sub.flushed")
        other.flush()
        wire.pub("sub.flushed", "x")
        assert other.op() == b"MSG sub.flushed 1 1\r\nx"

    def test_many_pings(self, wire):
        wire.send(b"PING\r\n" * 1000)
        assert wire.ops(1000) == [b"PONG"] * 1000


class TestSizes:
    @pytest.mark.parametrize("size", [1, 9, 10, 99, 100, 1000, 4096, 65535, 65536, 300_000, 1_048_576])
    def test_payloads(self, wire, size):
        payload = bytes(i * 7 % 256 for i in range(1024)) * (size // 1024 + 1)
        wire.sub("foo").pub("foo", payload[:size])
        assert wire.op() == b"MSG foo 1 %d\r\n" % size + payload[:size]

    def test_a_large_backlog_arrives_whole(self, server, dial, wire):
        other = dial(server).ready().sub("backlog")
        other.flush()
        payload = b"z" * 100_000
        for _ in range(100):
            wire.pub("backlog", payload)
        assert wire.flush() == []
        assert [len(op) for op in other.ops(100)] == [len(b"MSG backlog 1 100000\r\n") + 100_000] * 100

    def test_echo_of_a_large_backlog(self, wire):
        wire.sub("foo")
        for _ in range(20):
            wire.pub("foo", b"y" * 200_000)
        assert len(wire.flush()) == 20
