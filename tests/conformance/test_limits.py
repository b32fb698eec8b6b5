"""What a server bounds: payload, control line, subscriptions, connections, pings, pending bytes."""

from __future__ import annotations

import socket
import struct

import pytest

MONITOR = "http: 127.0.0.1:-1\n"


class TestMaxPayload:
    @pytest.fixture
    def small(self, shared_server):
        return shared_server(MONITOR + "max_payload: 100\n")

    def test_at_the_limit(self, small, dial):
        wire = dial(small).ready().sub("foo").pub("foo", b"x" * 100)
        assert wire.flush() == [b"MSG foo 1 100\r\n" + b"x" * 100]

    def test_above_it(self, small, dial):
        wire = dial(small).ready().lines("PUB foo 101")
        assert wire.eof() == [b"-ERR 'Maximum Payload Violation'"]
        assert small.closed(wire.cid)["reason"] == "Maximum Message Payload Exceeded"

    def test_header_bytes_count(self, small, dial):
        wire = dial(small).ready().lines("HPUB foo 50 101")
        assert wire.eof() == [b"-ERR 'Maximum Payload Violation'"]

    def test_the_payload_is_not_waited_for(self, small, dial):
        wire = dial(small).ready().lines("PUB foo 999999999")
        assert wire.eof() == [b"-ERR 'Maximum Payload Violation'"]

    def test_before_connect(self, small, dial):
        wire = dial(small).lines("PUB foo 101")
        assert wire.eof() == [b"-ERR 'Maximum Payload Violation'"]

    @pytest.mark.parametrize("size", ["1000000000", "2147483648", "4294967301", "9223372036854775807", "0000000001"])
    def test_more_than_nine_digits_are_no_size(self, small, dial, size):
        wire = dial(small).ready().lines(f"PUB foo {size}")
        assert wire.eof() == []
        assert small.closed(wire.cid)["reason"] == "Protocol Violation"

    def test_of_the_account(self, shared_server, dial):
        config = 'accounts { A { users [{user: a, password: "a"}], limits { max_payload: 10 } } }'
        server = shared_server(config)
        assert dial(server).ready(user="a", **{"pass": "a"}).pub("foo", b"x" * 10).flush() == []
        wire = dial(server).ready(user="a", **{"pass": "a"}).lines("PUB foo 11")
        assert wire.eof() == [b"-ERR 'Maximum Payload Violation'"]


class TestMaxControlLine:
    def test_at_the_limit(self, wire):
        subject = "s" * (4096 - 2)
        wire.sub(subject).pub(subject[: 4096 - 5])
        assert wire.flush() == []

    @pytest.mark.parametrize("verb", ["SUB", "UNSUB", "PUB", "HPUB", "CONNECT", "INFO"])
    def test_above_it(self, server, wire, verb):
        wire.lines(f"{verb} " + "s" * 4097)
        assert wire.eof() == [b"-ERR 'maximum control line exceeded'"]
        assert server.closed(wire.cid)["reason"] == "Maximum Control Line Exceeded"

    @pytest.mark.parametrize("verb", ["SUB", "PUB"])
    def test_an_endless_line_is_cut_off(self, wire, verb):
        wire.send(f"{verb} " + "s" * 10_000)
        assert wire.eof() == [b"-ERR 'maximum control line exceeded'"]

    def test_configured(self, shared_server, dial):
        server = shared_server("max_control_line: 64\n")
        assert dial(server).ready(verbose=False).sub("s" * 62).flush() == []
        wire = dial(server).ready()
        wire.sub("s" * 63)
        assert wire.eof() == [b"-ERR 'maximum control line exceeded'"]

    def test_a_long_connect_needs_a_long_limit(self, shared_server, dial):
        server = shared_server("max_control_line: 16KB\n")
        assert dial(server).connect(name="n" * 10_000).flush() == []


class TestMaxSubscriptions:
    def test_one_too_many(self, shared_server, dial):
        wire = dial(shared_server("max_subscriptions: 2\n")).ready().sub("a", 1).sub("b", 2).sub("c", 3)
        assert wire.flush() == [b"-ERR 'maximum subscriptions exceeded'"]
        wire.pub("a").pub("c")
        assert wire.flush() == [b"MSG a 1 0\r\n"]

    def test_a_place_becomes_free(self, shared_server, dial):
        wire = (
            dial(shared_server("max_subscriptions: 2\n")).ready().sub("a", 1).sub("b", 2).lines("UNSUB 1").sub("c", 3)
        )
        assert wire.flush() == []

    def test_is_per_connection(self, shared_server, dial):
        server = shared_server("max_subscriptions: 2\n")
        for _ in range(2):
            assert dial(server).ready().sub("a", 1).sub("b", 2).flush() == []

    def test_of_the_account(self, shared_server, dial):
        server = shared_server('accounts { A { users [{user: a, password: "a"}], limits { max_subscriptions: 2 } } }')
        one, two = (dial(server).ready(user="a", **{"pass": "a"}) for _ in range(2))
        assert one.sub("a", 1).sub("b", 2).sub("c", 3).flush() == [b"-ERR 'maximum subscriptions exceeded'"]
        assert two.sub("a", 1).flush() in ([], [b"-ERR 'maximum subscriptions exceeded'"])


class TestMaxSubTokens:
    @pytest.fixture
    def server(self, shared_server):
        return shared_server("max_sub_tokens: 3\n")

    def test_at_the_limit(self, server, dial):
        assert dial(server).ready().sub("a.b.c").sub("a.*.>", 2).flush() == []

    def test_above_it(self, server, dial):
        wire = dial(server).ready().sub("a.b.c.d")
        assert wire.flush() == [b"-ERR 'Permissions Violation for Subscription to \"a.b.c.d\", too many tokens'"]

    def test_with_a_queue(self, server, dial):
        wire = dial(server).ready().sub("a.b.c.d", 1, "q")
        assert wire.flush() == [b"-ERR 'Permissions Violation for Subscription to \"a.b.c.d\", too many tokens'"]

    def test_publishing_is_free(self, server, dial):
        wire = dial(server).ready().sub("a.>").pub("a.b.c.d.e")
        assert wire.flush() == [b"MSG a.b.c.d.e 1 0\r\n"]


class TestMaxConnections:
    def test_info_comes_first(self, start, dial):
        server = start("max_connections: 1\n")
        dial(server).ready()
        wire = dial(server)
        assert wire.info["server_id"]
        assert wire.eof() == [b"-ERR 'maximum connections exceeded'"]

    def test_the_log_repeats_nothing(self, start, dial):
        server = start("max_connections: 1\n")
        dial(server).ready()
        for _ in range(3):
            dial(server).eof()
        server.wait_log(r"cid:\d+ - maximum connections exceeded$")
        assert sum("maximum connections" in line for line in server.log) == 1

    def test_a_place_becomes_free(self, start, dial):
        server = start(MONITOR + "max_connections: 1\n")
        first = dial(server).ready()
        first.close()
        server.closed(first.cid)
        assert dial(server).ready().flush() == []

    @pytest.mark.parametrize("value", [0, -1])
    def test_none_at_all(self, start, dial, value):
        server = start(f"max_connections: {value}\n")
        wire = dial(server)
        assert wire.eof() == [b"-ERR 'maximum connections exceeded'"]


class TestPing:
    def test_first_ping_comes_after_about_two_seconds(self, server, dial):
        wire = dial(server).ready()
        wire.keep_pings = True
        assert wire.op() == b"PING"

    def test_before_connect_too(self, shared_server, dial):
        wire = dial(shared_server('ping_interval: "50ms"\nping_max: 100\n'))
        wire.keep_pings = True
        assert wire.op() == b"PING"

    def test_interval(self, shared_server, dial):
        wire = dial(shared_server('ping_interval: "50ms"\nping_max: 100\n')).ready()
        wire.keep_pings = True
        assert wire.ops(3) == [b"PING"] * 3

    def test_stale_after_ping_max(self, shared_server, dial):
        wire = dial(shared_server('ping_interval: "50ms"\nping_max: 2\n')).ready()
        wire.keep_pings = True
        assert wire.eof() == [b"PING", b"PING", b"-ERR 'Stale Connection'"]

    def test_answered_pings_keep_it_open(self, shared_server, dial):
        wire = dial(shared_server('ping_interval: "50ms"\nping_max: 1\n')).ready()
        wire.keep_pings = True
        for _ in range(5):
            assert wire.op() == b"PING"
            wire.lines("PONG")
        wire.keep_pings = False
        assert wire.flush() == []

    def test_stale_is_logged(self, start, dial):
        server = start('debug: true\nping_interval: "50ms"\nping_max: 1\n')
        wire = dial(server).ready()
        server.wait_log(rf"cid:{wire.cid} - Stale Client Connection - Closing")

    def test_rtt_is_shown(self, shared_server, dial):
        server = shared_server(MONITOR + 'ping_interval: "50ms"\n')
        wire = dial(server).ready()
        wire.keep_pings = True
        assert wire.op() == b"PING"
        wire.lines("PONG")
        wire.keep_pings = False
        wire.flush()
        assert "rtt" in next(c for c in server.connz() if c["cid"] == wire.cid)


class TestAuthTimeout:
    def test_fires(self, shared_server, dial):
        wire = dial(shared_server("authorization { token: t, timeout: 0.1 }"))
        assert wire.eof() == [b"-ERR 'Authentication Timeout'"]

    def test_pings_do_not_help(self, shared_server, dial):
        wire = dial(shared_server("authorization { token: t, timeout: 0.1 }")).lines("PING")
        assert wire.eof()[-1] in (b"-ERR 'Authentication Timeout'", b"-ERR 'Authorization Violation'")

    def test_not_after_connect(self, shared_server, dial):
        wire = dial(shared_server('ping_interval: "150ms"\nauthorization { token: t, timeout: 0.1 }')).ready(
            auth_token="t"
        )
        wire.keep_pings = True
        assert wire.op() == b"PING"

    def test_not_without_authorization(self, shared_server, dial):
        wire = dial(shared_server('ping_interval: "150ms"\nauthorization { timeout: 0.1 }'))
        wire.keep_pings = True
        assert wire.op() == b"PING"


class TestSlowConsumer:
    @staticmethod
    def stuck(server, dial):
        """A subscriber of "slow" which never reads, with a small receive buffer."""
        wire = dial(server).ready().sub("slow")
        wire.flush()
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return wire

    def test_max_pending(self, start, dial):
        server = start(MONITOR + "max_pending: 1MB\nmax_payload: 256KB\n")
        slow = self.stuck(server, dial)
        fast = dial(server).ready()
        for _ in range(120):
            fast.pub("slow", b"x" * 200_000)
        assert fast.flush() == []
        server.wait_log(rf"cid:{slow.cid}.* - Slow Consumer Detected: MaxPending of 1048576 Exceeded")
        assert server.closed(slow.cid)["reason"] == "Slow Consumer (Pending Bytes)"
        varz = server.varz()
        assert varz["slow_consumers"] == 1
        assert varz["slow_consumer_stats"] == {"clients": 1, "routes": 0, "gateways": 0, "leafs": 0}

    def test_write_deadline(self, start, dial):
        server = start(MONITOR + 'write_deadline: "100ms"\nmax_payload: 256KB\n')
        slow = self.stuck(server, dial)
        fast = dial(server).ready()
        for _ in range(100):
            fast.pub("slow", b"x" * 200_000)
        fast.flush()
        server.wait_log(
            rf"cid:{slow.cid}.* - Slow Consumer Detected: "
            r"WriteDeadline of 100ms exceeded with \d+ chunks of \d+ total bytes\."
        )
        assert server.closed(slow.cid)["reason"] == "Slow Consumer (Write Deadline)"

    def test_others_go_on(self, start, dial):
        server = start("max_pending: 1MB\nmax_payload: 256KB\n")
        slow = self.stuck(server, dial)
        fast = dial(server).ready().sub("slow")
        for _ in range(60):
            fast.pub("slow", b"x" * 200_000)
            assert len(fast.op()) > 200_000
        server.wait_log(rf"cid:{slow.cid}.* - Slow Consumer Detected")
        assert fast.flush() == []


class TestResets:
    """Connections that end badly don't harm the server."""

    @staticmethod
    def reset(wire):
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()

    @pytest.mark.parametrize("data", [b"", b"PUB foo 10\r\nhal", b"SUB fo", b"CONNECT {", b"PUB foo 5\r\nhello"])
    def test_reset_in_the_middle(self, server, dial, wire, data):
        other = dial(server).ready().send(data)
        self.reset(other)
        assert server.closed(other.cid)["reason"] in ("Client Closed", "Read Error")
        assert wire.flush() == []

    def test_half_closed(self, server, dial):
        wire = dial(server).ready().sub("foo").pub("foo", "x").send(b"PING\r\n")
        wire.sock.shutdown(socket.SHUT_WR)
        assert wire.eof() in ([b"MSG foo 1 1\r\nx", b"PONG"], [])
        assert server.closed(wire.cid)["reason"] == "Client Closed"

    def test_close_with_unread_output(self, server, dial, wire):
        other = dial(server).ready().sub("unread")
        other.flush()
        for _ in range(50):
            wire.pub("unread", b"x" * 100_000)
        self.reset(other)
        assert wire.flush() == []
        server.closed(other.cid)
