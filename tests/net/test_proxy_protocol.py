"""PROXY headers, whole and one byte at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsc.net.proxy_protocol import ProxyError, ProxyHeader, ProxyParser

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(version_command: int, family_protocol: int, data: bytes = b"", size: int | None = None) -> bytes:
    return SIGNATURE + bytes((version_command, family_protocol)) + (size or len(data)).to_bytes(2, "big") + data


def ports(source: int, destination: int) -> bytes:
    return source.to_bytes(2, "big") + destination.to_bytes(2, "big")


def feed(data: bytes, step: int) -> ProxyParser:
    """A parser that was fed `step` bytes at a time; what it left over together with what it was not fed is its rest."""
    parser = ProxyParser()
    for at in range(0, len(data), step):
        if parser.feed(data[at : at + step]):
            parser.rest += data[at + step :]
            return parser
    raise AssertionError("needs more")


IPV4 = bytes((192, 0, 2, 1, 10, 0, 0, 1)) + ports(5555, 4222)
IPV6 = bytes.fromhex("20010db8" + "00" * 11 + "01") + bytes(15) + b"\x01" + ports(5555, 4222)
MAPPED = bytes(10) + b"\xff\xff\x01\x02\x03\x04" + bytes(12) + b"\x01\x02\x03\x04" + ports(1, 2)


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 5555 4222\r\n", ("192.0.2.1", 5555, "10.0.0.1", 4222)),
        (b"PROXY TCP6 2001:DB8:0::1 ::1 5555 4222\r\n", ("2001:db8::1", 5555, "::1", 4222)),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1.2.3.4 5 0\r\n", ("192.0.2.1", 5, "::102:304", 0)),
        (b"PROXY  TCP4\t1.1.1.1 2.2.2.2 00001 65535 \r\n", ("1.1.1.1", 1, "2.2.2.2", 65535)),
        (b"PROXY UNKNOWN\r\n", ("", 0, "", 0)),
        (b"PROXY UNKNOWN whatever follows\r\n", ("", 0, "", 0)),
        (b"PROXY UNKNOWN " + b"x" * 85 + b"\r\n", ("", 0, "", 0)),
        (v2(0x21, 0x11, IPV4), ("192.0.2.1", 5555, "10.0.0.1", 4222)),
        (v2(0x21, 0x11, IPV4 + b"extension"), ("192.0.2.1", 5555, "10.0.0.1", 4222)),
        (v2(0x21, 0x21, IPV6), ("2001:db8::1", 5555, "::1", 4222)),
        (v2(0x21, 0x21, MAPPED), ("1.2.3.4", 1, "::102:304", 2)),
        (v2(0x20, 0x00), ("", 0, "", 0)),
        (v2(0x20, 0xFF, b"skipped"), ("", 0, "", 0)),
        (v2(0x21, 0x01, b"skipped"), ("", 0, "", 0)),
    ],
)
def test_header(header: bytes, expected: tuple[str, int, str, int], step: int) -> None:
    parser = feed(header + b"CONNECT {}\r\n", step)
    found = parser.header
    assert isinstance(found, ProxyHeader)
    assert (found.src_ip, found.src_port, found.dst_ip, found.dst_port) == expected
    assert parser.rest == b"CONNECT {}\r\n"


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    "data", [b"CONNECT {}\r\nPING\r\n", b"\x16\x03\x01\x02\x00\x01", b"PROXYX", b"PING\r\nPING\r\n"]
)
def test_a_connection_without_header_keeps_its_bytes(data: bytes, step: int) -> None:
    parser = feed(data, step)
    assert parser.header is None
    assert parser.rest == data


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"PROXY \r\n", "invalid PROXY protocol header: invalid v1 format"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", "invalid PROXY protocol header: invalid v1 format"),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", "invalid PROXY protocol header: invalid v1 format"),
        (b"PROXY unknown\r\n", "invalid PROXY protocol header: invalid v1 format"),
        (b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", "invalid PROXY protocol header: invalid address"),
        (b"PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n", "invalid PROXY protocol header: invalid address"),
        (b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "invalid PROXY protocol header: invalid address"),
        (b"PROXY TCP4 1.1.1.1\x00 2.2.2.2 1 2\r\n", "invalid PROXY protocol header: invalid address"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "invalid PROXY protocol header: TCP4 with IPv6 address"),
        (b"PROXY TCP6 ::1 1.1.1.1 1 2\r\n", "invalid PROXY protocol header: TCP6 with IPv4 address"),
        (b"PROXY UDP4 1.1.1.1 1.1.1.1 1 2\r\n", "invalid PROXY protocol header: invalid protocol UDP4"),
        (
            b"PROXY TCP4 1.1.1.1 1.1.1.1 x 2\r\n",
            'invalid source port: strconv.ParseUint: parsing "x": invalid syntax',
        ),
        (
            b"PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n",
            'invalid dest port: strconv.ParseUint: parsing "65536": value out of range',
        ),
        (b"PROXY " + b"x" * 101, "invalid PROXY protocol header: v1 line too long"),
        (b"PROXY " + b"x" * 100 + b"\r\n", "invalid PROXY protocol header: v1 line too long"),
        (SIGNATURE[:11] + b"X" + bytes(4), "invalid PROXY protocol header: invalid signature"),
        (v2(0x11, 0x11, IPV4), "invalid PROXY protocol header: invalid version 0x10"),
        (v2(0x22, 0x11, IPV4), "unknown PROXY protocol command: 0x02"),
        (v2(0x21, 0x12, IPV4), "unsupported PROXY protocol feature: only STREAM protocol supported"),
        (v2(0x21, 0x31, IPV4), "unsupported PROXY protocol feature: unsupported address family 0x30"),
        (v2(0x21, 0x11, IPV4[:8]), "IPv4 address data too short: 8 bytes"),
        (v2(0x21, 0x21, IPV4), "IPv6 address data too short: 12 bytes"),
    ],
)
def test_bad_header(data: bytes, text: str, step: int) -> None:
    with pytest.raises(ProxyError) as error:
        feed(data, step)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "failed to read protocol version: EOF"),
        (b"PRO", "failed to read protocol version: unexpected EOF"),
        (b"PROXY TCP4 ", "failed to read v1 line: EOF"),
        (SIGNATURE[:6], "failed to read v2 signature: EOF"),
        (SIGNATURE[:8], "failed to read v2 signature: unexpected EOF"),
        (SIGNATURE + b"\x21", "failed to read v2 header: unexpected EOF"),
        (v2(0x20, 0x11, b"x", 12), "failed to discard LOCAL command address data: EOF"),
        (v2(0x21, 0x11, b"", 12), "failed to read IPv4 address data: EOF"),
        (v2(0x21, 0x11, IPV4[:2], 12), "failed to read IPv4 address data: unexpected EOF"),
    ],
)
def test_what_the_log_says_when_the_peer_leaves(data: bytes, text: str) -> None:
    parser = ProxyParser()
    assert not parser.feed(data)
    assert parser.cut_short("EOF") == text


def test_a_peer_that_sends_nothing_in_time_is_logged_as_gone() -> None:
    assert ProxyParser().cut_short("i/o timeout") == "failed to read protocol version: EOF"


def test_what_the_log_says_when_the_peer_is_silent() -> None:
    parser = ProxyParser()
    parser.feed(b"PROXY ")
    assert parser.detected
    assert parser.cut_short("i/o timeout") == "failed to read v1 line: i/o timeout"


@given(st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x0c"]))
def test_any_bytes_give_one_verdict_however_they_are_split(data: bytes, prefix: bytes) -> None:
    def verdict(step: int) -> object:
        try:
            parser = feed(prefix + data, step)
        except (ProxyError, AssertionError) as error:
            return str(error)
        return repr(parser.header), parser.rest

    assert verdict(1) == verdict(1000)
