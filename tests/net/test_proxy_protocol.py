"""PROXY headers, whole and one byte at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsc.net.proxy_protocol import ProxyError, ProxyHeader, cut_short, parse_proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(version_command: int, family_protocol: int, data: bytes = b"", size: int | None = None) -> bytes:
    return SIGNATURE + bytes((version_command, family_protocol)) + (size or len(data)).to_bytes(2, "big") + data


def ports(source: int, destination: int) -> bytes:
    return source.to_bytes(2, "big") + destination.to_bytes(2, "big")


def feed(data: bytes, step: int) -> ProxyHeader:
    """The verdict on a connection whose bytes arrive `step` at a time."""
    for end in range(step, len(data) + step, step):
        found = parse_proxy_header(bytearray(data[:end]))
        if found is not None:
            return found
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
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN whatever follows\r\n", None),
        (b"PROXY UNKNOWN " + b"x" * 85 + b"\r\n", None),
        (v2(0x21, 0x11, IPV4), ("192.0.2.1", 5555, "10.0.0.1", 4222)),
        (v2(0x21, 0x11, IPV4 + b"extension"), ("192.0.2.1", 5555, "10.0.0.1", 4222)),
        (v2(0x21, 0x21, IPV6), ("2001:db8::1", 5555, "::1", 4222)),
        (v2(0x21, 0x21, MAPPED), ("1.2.3.4", 1, "::102:304", 2)),
        (v2(0x20, 0x00), None),
        (v2(0x20, 0xFF, b"skipped"), None),
        (v2(0x21, 0x01, b"skipped"), None),
    ],
)
def test_header(header: bytes, expected: tuple[str, int, str, int] | None, step: int) -> None:
    found = feed(header + b"CONNECT {}\r\n", step)
    assert found.length == len(header)
    if expected is None:
        assert found.source is found.destination is None
    else:
        assert (found.source, found.destination) == (expected[:2], expected[2:])


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    "data", [b"CONNECT {}\r\nPING\r\n", b"\x16\x03\x01\x02\x00\x01", b"PROXYX", b"PING\r\nPING\r\n"]
)
def test_a_connection_without_header_keeps_its_bytes(data: bytes, step: int) -> None:
    found = feed(data, step)
    assert found.length == 0
    assert found.source is None


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
    assert parse_proxy_header(data) is None
    assert cut_short(data, "EOF") == text


def test_what_the_log_says_when_the_peer_is_silent() -> None:
    assert cut_short(b"PROXY ", "read tcp a->b: i/o timeout") == "failed to read v1 line: read tcp a->b: i/o timeout"


@given(st.binary(max_size=200), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x0c"]))
def test_any_bytes_give_one_verdict_however_they_are_split(data: bytes, prefix: bytes) -> None:
    def verdict(step: int) -> object:
        try:
            return repr(feed(prefix + data, step))
        except (ProxyError, AssertionError) as error:
            return str(error)

    assert verdict(1) == verdict(1000)
