"""A PROXY header or a TLS handshake before the protocol: what is logged where it fails, what monitoring keeps."""

from __future__ import annotations

import re

import pytest

MONITOR = "http: 127.0.0.1:-1\ndebug: true\n"


def lines_of(server, wire) -> list[str]:
    """The log lines about a connection, without time, level and address, once it is closed."""
    server.closed(wire.cid)
    server.wait_log(rf"cid:{wire.cid} .*Client connection closed")
    found = (re.search(rf"(\[[A-Z]{{3}}\]) .*cid:{wire.cid} - (.*)", line) for line in server.log)
    return [f"{match[1]} {match[2]}" for match in found if match]


class TestHandshake:
    @pytest.fixture
    def server(self, shared_server, certificates):
        return shared_server(MONITOR + certificates.config())

    @pytest.mark.parametrize(
        ("sent", "cause"),
        [
            (b"", "EOF"),
            (b"\x16", "unexpected EOF"),
            (b"\x16\x03\x01\x02\x00", "unexpected EOF"),
            (b"\x16\x03\x01\x02\x00\x01", "unexpected EOF"),
        ],
    )
    def test_a_peer_that_leaves(self, server, dial, sent, cause):
        wire = dial(server).send(sent)
        wire.close()
        assert server.closed(wire.cid)["reason"] == "TLS Handshake Failure"
        assert lines_of(server, wire) == [
            "[DBG] Client connection created",
            "[DBG] Starting TLS client connection handshake",
            f"[ERR] TLS handshake error: {cause}",
            "[DBG] Client connection closed: TLS Handshake Failure",
        ]

    def test_silence(self, start, dial, certificates):
        """nats-server logs the two in any order, and sometimes leaves the first out: it is closing already."""
        server = start(MONITOR + certificates.config("timeout: 0.1"))
        wire = dial(server)
        local, peer = f"127.0.0.1:{server.port}", f"127.0.0.1:{wire.sock.getsockname()[1]}"
        assert wire.eof() == []
        server.wait_log("Client connection closed: TLS Handshake Failure")
        assert set(lines_of(server, wire)) - {"[DBG] TLS handshake timeout"} == {
            "[DBG] Client connection created",
            "[DBG] Starting TLS client connection handshake",
            f"[DBG] TLS handshake error: read tcp {local}->{peer}: i/o timeout",
            "[DBG] Client connection closed: TLS Handshake Failure",
        }

    def test_a_closed_connection_is_remembered_with_its_cipher_suite(self, server, dial, certificates):
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        wire.ready().close()
        entry = server.closed(wire.cid)
        assert entry["tls_version"] == "1.3" and entry["tls_cipher_suite"].startswith("TLS_")
        assert "tls_first" not in entry

    def test_a_closed_connection_whose_handshake_came_first(self, shared_server, dial, certificates):
        server = shared_server(MONITOR + certificates.config("handshake_first: true"))
        wire = dial(server, read=False)
        wire.start_tls(certificates.client_context())
        wire.read_info()
        wire.ready().close()
        assert server.closed(wire.cid)["tls_first"] is True

    @pytest.mark.parametrize("field", ["verify", "verify_and_map"])
    def test_varz_says_that_certificates_are_asked_for(self, shared_server, certificates, field):
        config = "authorization { users [ {user: x, password: p} ] }\n" + certificates.config(f"{field}: true", ca=True)
        assert shared_server(MONITOR + config).varz()["tls_verify"] is True

    def test_varz_without(self, server):
        assert "tls_verify" not in server.varz()

    def test_the_log_counts_what_is_throttled(self, start, dial, certificates):
        server = start(MONITOR + certificates.config("connection_rate_limit: 1"))
        for _ in range(3):
            dial(server)
        server.wait_log(r"\[WRN\] Rejected 2 connections due to TLS rate limiting$")


class TestProxyHeader:
    @pytest.mark.parametrize(
        ("sent", "text"),
        [
            (b"", "failed to read protocol version: EOF"),
            (b"PRO", "failed to read protocol version: unexpected EOF"),
            (b"PROXY ", "failed to read v1 line: EOF"),
            (b"\r\n\r\n\x00\r\nQUI", "failed to read v2 signature: unexpected EOF"),
            (b"\r\n\r\n\x00\r\nQUIT\n\x21", "failed to read v2 header: unexpected EOF"),
            (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", "failed to read IPv4 address data: EOF"),
            (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c1", "failed to read IPv4 address data: unexpected EOF"),
        ],
    )
    def test_a_peer_that_leaves(self, shared_server, dial, sent, text):
        server = shared_server(MONITOR + "proxy_protocol: true\n")
        wire = dial(server).send(sent)
        port = wire.sock.getsockname()[1]
        wire.close()
        assert server.closed(wire.cid)["reason"] == "Protocol Violation"
        server.wait_log(re.escape(f"[WRN] Error reading PROXY protocol header from 127.0.0.1:{port}: {text}") + "$")
