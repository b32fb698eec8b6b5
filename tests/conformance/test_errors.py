"""The -ERR texts: what each says, whether the connection closes, and the reason that /connz gives."""

from __future__ import annotations

import signal

import pytest


class TestClosing:
    """-ERR, then the server closes."""

    @pytest.mark.parametrize(
        ("send", "text", "reason"),
        [
            (b"FOO\r\n", "Unknown Protocol Operation", "Protocol Violation"),
            (b"PUB foo 1048577\r\n", "Maximum Payload Violation", "Maximum Message Payload Exceeded"),
            (b"HPUB foo 12 1048577\r\n", "Maximum Payload Violation", "Maximum Message Payload Exceeded"),
            (b"SUB " + b"x" * 4100 + b" 1\r\n", "maximum control line exceeded", "Maximum Control Line Exceeded"),
            (b'CONNECT {"protocol":7}\r\n', "invalid client protocol", "Bad Client Protocol Version"),
            (
                b'CONNECT {"no_responders":true}\r\n',
                "no responders requires headers support",
                "No Responders Requires Headers",
            ),
        ],
    )
    def test_text_and_reason(self, server, wire, send, text, reason):
        wire.lines('CONNECT {"verbose":false,"pedantic":false,"headers":false}')
        if send.startswith(b"HPUB"):
            wire.connect()
        wire.send(send)
        assert wire.eof() == [f"-ERR '{text}'".encode()]
        assert server.closed(wire.cid)["reason"] == reason

    def test_authorization_violation(self, shared_server, dial):
        server = shared_server("http: 127.0.0.1:-1\nauthorization { token: t }")
        wire = dial(server).connect(auth_token="x")
        assert wire.eof() == [b"-ERR 'Authorization Violation'"]
        assert server.closed(wire.cid)["reason"] == "Authentication Failure"

    def test_authentication_timeout(self, shared_server, dial):
        server = shared_server("http: 127.0.0.1:-1\nauthorization { token: t, timeout: 0.1 }")
        wire = dial(server)
        assert wire.eof() == [b"-ERR 'Authentication Timeout'"]
        assert server.closed(wire.cid)["reason"] == "Authentication Timeout"

    def test_stale_connection(self, shared_server, dial):
        server = shared_server('http: 127.0.0.1:-1\nping_interval: "50ms"\nping_max: 1\n')
        wire = dial(server).ready()
        wire.keep_pings = True
        got = wire.eof()
        assert got[-1] == b"-ERR 'Stale Connection'"
        assert set(got[:-1]) == {b"PING"}
        assert server.closed(wire.cid)["reason"] == "Stale Connection"

    def test_maximum_connections(self, shared_server, dial):
        server = shared_server("http: 127.0.0.1:-1\nmax_connections: 1\n")
        first = dial(server).ready()
        wire = dial(server)
        assert wire.eof() == [b"-ERR 'maximum connections exceeded'"]
        assert server.closed(wire.cid)["reason"] == "Maximum Connections Exceeded"
        assert first.flush() == []

    def test_maximum_account_connections(self, shared_server, dial):
        config = 'accounts { A { users [{user: a, password: "a"}], limits { max_connections: 1 } } }'
        server = shared_server("http: 127.0.0.1:-1\n" + config)
        first = dial(server).ready(user="a", **{"pass": "a"})
        wire = dial(server).connect(user="a", **{"pass": "a"})
        assert wire.eof() == [b"-ERR 'maximum account active connections exceeded'"]
        assert server.closed(wire.cid)["reason"] == "Maximum Account Connections Exceeded"
        assert first.flush() == []


class TestStayingOpen:
    """-ERR, and the connection goes on."""

    @pytest.mark.parametrize(
        ("send", "text"),
        [
            (b"SUB a..b 1\r\n", "Invalid Subject"),
            (b"SUB foo _sys_ 1\r\n", 'Permissions Violation for Subscription to "foo" using queue "_sys_"'),
            (b"PUB _GR_.x 0\r\n\r\n", 'Permissions Violation for Publish to "_GR_.x"'),
            (b"PUB $GR.x 0\r\n\r\n", 'Permissions Violation for Publish to "$GR.x"'),
            (b"PUB $NRG.x 0\r\n\r\n", 'Permissions Violation for Publish to "$NRG.x"'),
            (b"PUB foo _R_.x 0\r\n\r\n", 'Permissions Violation for Publish with Reply of "_R_.x"'),
            (b"PUB foo $JS.ACK.x 0\r\n\r\n", 'Permissions Violation for Publish with Reply of "$JS.ACK.x"'),
            (b"PUB foo $GR.x 0\r\n\r\n", 'Permissions Violation for Publish with Reply of "$GR.x"'),
            (b"PUB foo _R_. 0\r\n\r\n", 'Permissions Violation for Publish with Reply of "_R_."'),
            (b"PUB foo _GR_.x 0\r\n\r\n", 'Permissions Violation for Publish with Reply of "_GR_.x"'),
        ],
    )
    def test_text(self, wire, send, text):
        wire.send(send)
        assert wire.flush() == [f"-ERR '{text}'".encode()]

    def test_every_violation_is_reported(self, wire):
        for _ in range(5):
            wire.lines("SUB a..b 1")
        assert wire.flush() == [b"-ERR 'Invalid Subject'"] * 5

    def test_a_refused_publish_is_not_delivered(self, wire):
        wire.sub(">")
        wire.pub("foo", reply="_R_.x").pub("_GR_.x")
        assert [op for op in wire.flush() if op.startswith(b"MSG")] == []

    @pytest.mark.parametrize(
        "subject",
        ["$SYS.x", "$JS.API.x", "$G.x", "$GNR.x", "_GR_", "_INBOX.x", "$KV.b.k", "$MQTT.sub.x", "$O.x", "$JSC.x"],
    )
    def test_these_subjects_are_open_to_clients(self, wire, subject):
        wire.sub(subject).pub(subject)
        assert wire.flush() == [f"MSG {subject} 1 0\r\n".encode()]

    @pytest.mark.parametrize("reply", ["$GNR.x", "$NRG.x", "$SYS.x", "_INBOX.x", "_R_", "$JS.ACK", "_GR_", "_GR_."])
    def test_these_replies_are_open_to_clients(self, wire, reply):
        wire.sub("foo").pub("foo", reply=reply)
        assert wire.flush() == [f"MSG foo 1 {reply} 0\r\n".encode()]


class TestSilentClosing:
    def test_shutdown_sends_no_error(self, start, dial):
        server = start()
        wire = dial(server).ready()
        server.signal(signal.SIGTERM)
        assert wire.eof() == []

    def test_client_closed(self, server, dial):
        wire = dial(server).ready()
        wire.close()
        assert server.closed(wire.cid)["reason"] == "Client Closed"

    def test_client_closed_before_connect(self, server, dial):
        wire = dial(server)
        wire.close()
        assert server.closed(wire.cid)["reason"] == "Client Closed"

    def test_headers_without_support(self, server, dial):
        wire = dial(server).ready(headers=False).lines("HPUB foo 12 12", "NATS/1.0\r\n\r\n")
        assert wire.eof() == []
        assert server.closed(wire.cid)["reason"] == "Protocol Violation"
