"""proxy_protocol: the header of version 1 and 2 that a load balancer puts before the first byte."""

from __future__ import annotations

import socket
import struct

import pytest

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
CONFIG = "http: 127.0.0.1:-1\nproxy_protocol: true\n"


def v2(family: int, body: bytes, command: int = 1, version: int = 2) -> bytes:
    return SIGNATURE + bytes([version << 4 | command, family]) + struct.pack("!H", len(body)) + body


def v2_tcp4(source: str = "203.0.113.50", port: int = 54321) -> bytes:
    return v2(0x11, socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack("!HH", port, 4222))


def v2_tcp6(source: str = "2001:db8::1", port: int = 54321) -> bytes:
    pack = socket.inet_pton
    return v2(0x21, pack(socket.AF_INET6, source) + pack(socket.AF_INET6, "::1") + struct.pack("!HH", port, 4222))


@pytest.fixture
def server(shared_server):
    return shared_server(CONFIG)


class TestGood:
    @pytest.mark.parametrize(
        ("header", "ip", "port"),
        [
            (b"PROXY TCP4 203.0.113.50 127.0.0.1 54321 4222\r\n", "203.0.113.50", 54321),
            (b"PROXY TCP6 2001:db8::1 ::1 54321 4222\r\n", "2001:db8::1", 54321),
            (v2_tcp4(), "203.0.113.50", 54321),
            (v2_tcp6(), "2001:db8::1", 54321),
            (
                v2(0x11, socket.inet_aton("192.0.2.1") * 2 + struct.pack("!HH", 1, 2) + b"\x04\x00\x01\x00"),
                "192.0.2.1",
                1,
            ),
        ],
        ids=["v1-tcp4", "v1-tcp6", "v2-tcp4", "v2-tcp6", "v2-tlv"],
    )
    def test_the_address_is_the_proxied_one(self, server, dial, header, ip, port):
        wire = dial(server, preface=header).ready()
        entry = next(c for c in server.connz() if c["cid"] == wire.cid)
        assert (entry["ip"], entry["port"]) == (ip, port)

    @pytest.mark.parametrize(
        "header",
        [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN whatever else\r\n", v2(0x00, b"", command=0)],
        ids=["v1", "v1-rest", "v2-local"],
    )
    def test_no_address_keeps_the_own_one(self, server, dial, header):
        wire = dial(server, preface=header).ready()
        assert next(c for c in server.connz() if c["cid"] == wire.cid)["ip"] == "127.0.0.1"

    def test_the_first_info_does_not_show_an_address(self, server, dial):
        info = dial(server).info
        assert "client_ip" not in info
        assert "client_id" in info

    def test_the_second_info_shows_it(self, server, dial):
        wire = dial(server, preface=v2_tcp4()).connect(protocol=1).lines("PING")
        assert wire.op() == b"PONG"
        assert wire.read_info()["client_ip"] == "203.0.113.50"

    def test_the_header_is_optional(self, server, dial):
        wire = dial(server).ready().sub("foo").pub("foo", "x")
        assert wire.flush() == [b"MSG foo 1 1\r\nx"]
        assert next(c for c in server.connz() if c["cid"] == wire.cid)["ip"] == "127.0.0.1"

    def test_header_and_connect_in_one_piece(self, server, dial):
        wire = dial(
            server, preface=b'PROXY TCP4 203.0.113.50 127.0.0.1 54321 4222\r\nCONNECT {"verbose":false}\r\nPING\r\n'
        )
        assert wire.op() == b"PONG"

    @pytest.mark.parametrize(
        "header", [b"PROXY TCP4 203.0.113.50 127.0.0.1 54321 4222\r\n", v2_tcp4()], ids=["v1", "v2"]
    )
    def test_one_byte_at_a_time(self, server, dial, header):
        wire = dial(server)
        for i in range(len(header)):
            wire.send(header[i : i + 1])
        wire.ready()
        assert next(c for c in server.connz() if c["cid"] == wire.cid)["ip"] == "203.0.113.50"

    def test_one_byte_at_a_time_without_header(self, server, dial):
        wire = dial(server)
        for byte in b"PING\r\nPUB foo 0\r\n\r\nPING\r\n":
            wire.send(bytes([byte]))
        assert [op for op in wire.ops(3) if op != b"+OK"] == [b"PONG", b"PONG"]

    def test_with_tls(self, shared_server, dial, certificates):
        server = shared_server(CONFIG + certificates.config())
        wire = dial(server, preface=v2_tcp4())
        wire.start_tls(certificates.client_context())
        wire.ready()
        assert next(c for c in server.connz() if c["cid"] == wire.cid)["ip"] == "203.0.113.50"

    def test_the_start_says_so(self, server):
        server.wait_log(r"\[INF\] PROXY protocol enabled for client connections$")


class TestBad:
    @pytest.mark.parametrize(
        "header",
        [
            b"PROXY TCP4 203.0.113.50 127.0.0.1 54321\r\n",
            b"PROXY TCP4 203.0.113.50 127.0.0.1 x 4222\r\n",
            b"PROXY TCP4 nonsense 127.0.0.1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 127.0.0.1 99999 2\r\n",
            b"PROXY TCP9 1.2.3.4 127.0.0.1 1 2\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            b"PROXY \r\n",
            b"PROXY " + b"x" * 200 + b"\r\n",
            v2(0x11, b"short"),
            v2(0x31, b"\x00" * 216),
            v2(0x12, b"\x00" * 12),
            v2(0x11, b"\x00" * 12, version=1),
            v2(0x11, b"\x00" * 12, command=5),
        ],
        ids=[
            "v1-few", "v1-port", "v1-address", "v1-range", "v1-family", "v1-mismatch", "v1-empty", "v1-long",
            "v2-short", "v2-unix", "v2-udp",
            "v2-version", "v2-command",
        ],
    )  # fmt: skip
    def test_closes(self, server, dial, header):
        wire = dial(server, preface=header)
        assert wire.eof() == []
        assert server.closed(wire.cid)["reason"] == "Protocol Violation"

    def test_without_the_option_it_is_no_protocol(self, shared_server, dial):
        wire = dial(shared_server(""), preface=b"PROXY TCP4 203.0.113.50 127.0.0.1 54321 4222\r\n")
        assert wire.eof() == [b"-ERR 'Unknown Protocol Operation'"]
