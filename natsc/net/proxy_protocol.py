"""PROXY protocol, versions 1 and 2: a load balancer's word about who is really connecting.

The header comes in clear before anything else, TLS included. It is optional: a connection that starts with other
bytes is an ordinary one, and its bytes are handed back. Bounds: 107 bytes for version 1, 16 + 65535 for version 2,
and READ_TIMEOUT_S.
https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt; texts and verdicts are nats-server's.
"""

from __future__ import annotations

import socket

from natsc.config.gotext import quote

# How long a peer may take for its first bytes, and again for the header where those show that there is one.
READ_TIMEOUT_S = 5.0

# What tells the versions apart; fewer bytes decide nothing.
DETECT_BYTES = 6

_V1_PREFIX = b"PROXY "
_V1_LINE_BYTES_MAX = 107 - len(_V1_PREFIX)
_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEADER_BYTES = len(_V2_SIGNATURE) + 4

_COMMAND_LOCAL, _COMMAND_PROXY = 0x00, 0x01
_FAMILY_UNSPEC, _FAMILY_INET, _FAMILY_INET6 = 0x00, 0x10, 0x20
_PROTOCOL_STREAM = 0x01

_INVALID = "invalid PROXY protocol header"
_UNSUPPORTED = "unsupported PROXY protocol feature"


class ProxyError(Exception):
    """A PROXY header began and is no good: the connection is closed, a protocol violation. The text is for the log."""


Endpoint = tuple[str, int]
Octets = bytes | bytearray


class ProxyHeader:
    """What a header says.

    source, destination: address and port, None where the balancer speaks for itself (LOCAL, UNKNOWN) and where there
    is no header. length: how many bytes the header has, 0 where there is none; what follows belongs to the
    connection.
    """

    __slots__ = ("destination", "length", "source")

    def __init__(self, length: int, source: Endpoint | None = None, destination: Endpoint | None = None) -> None:
        self.length = length
        self.source = source
        self.destination = destination

    def __repr__(self) -> str:
        return f"ProxyHeader({self.length}, {self.source}, {self.destination})"


def parse_proxy_header(data: Octets) -> ProxyHeader | None:
    """Reads the beginning of a connection: `data` is all so far. None: more is needed. Raises ProxyError."""
    if len(data) < DETECT_BYTES:
        return None
    if data.startswith(_V1_PREFIX):
        return _read_v1(data)
    if data.startswith(_V2_SIGNATURE[:DETECT_BYTES]):
        return _read_v2(data)
    return ProxyHeader(0)


def cut_short(data: Octets, cause: str) -> str:
    """The log's text for a peer that left or fell silent after `data`. cause: as Go words it, "EOF" at the end."""
    size = len(data)
    # What is read, where it starts, and whether by Go's io.ReadFull: that calls the end unexpected once it has a part.
    if size < DETECT_BYTES:
        reading, start, exact = "failed to read protocol version", 0, True
    elif data.startswith(_V1_PREFIX):
        reading, start, exact = "failed to read v1 line", size, False
    elif size < len(_V2_SIGNATURE):
        reading, start, exact = "failed to read v2 signature", DETECT_BYTES, True
    elif size < _V2_HEADER_BYTES:
        reading, start, exact = "failed to read v2 header", len(_V2_SIGNATURE), True
    else:
        _, reading = _check_v2(data)
        start, exact = _V2_HEADER_BYTES, "discard" not in reading
    if cause == "EOF" and exact and size > start:
        cause = "unexpected EOF"
    return f"{reading}: {cause}"


def _read_v1(data: Octets) -> ProxyHeader | None:
    start = len(_V1_PREFIX)
    end = data.find(b"\r\n", start, start + _V1_LINE_BYTES_MAX)
    if end >= 0:
        return _parse_v1(data[start:end].decode("utf-8", "surrogateescape").split(), end + 2)
    if len(data) - start >= _V1_LINE_BYTES_MAX:
        raise ProxyError(f"{_INVALID}: v1 line too long")
    return None


def _read_v2(data: Octets) -> ProxyHeader | None:
    if len(data) < len(_V2_SIGNATURE):
        return None
    if not data.startswith(_V2_SIGNATURE):
        raise ProxyError(f"{_INVALID}: invalid signature")
    if len(data) < _V2_HEADER_BYTES:
        return None
    address_bytes, _ = _check_v2(data)
    length = _V2_HEADER_BYTES + (data[14] << 8 | data[15])
    return None if len(data) < length else _parse_v2(bytes(data[_V2_HEADER_BYTES:length]), address_bytes, length)


def _parse_v1(words: list[str], length: int) -> ProxyHeader:
    """The words after "PROXY" of a header of `length` bytes."""
    if not words:
        raise ProxyError(f"{_INVALID}: invalid v1 format")
    protocol = words[0]
    if protocol == "UNKNOWN":
        return ProxyHeader(length)
    if len(words) != 5:
        raise ProxyError(f"{_INVALID}: invalid v1 format")
    source, destination = _parse_ip(words[1]), _parse_ip(words[2])
    if source is None or destination is None:
        raise ProxyError(f"{_INVALID}: invalid address")
    source_port = _parse_port("source", words[3])
    destination_port = _parse_port("dest", words[4])
    # The text decides the family: "::ffff:192.0.2.1" is TCP6's.
    colons = ":" in words[1], ":" in words[2]
    if protocol == "TCP4" and any(colons):
        raise ProxyError(f"{_INVALID}: TCP4 with IPv6 address")
    if protocol == "TCP6" and not all(colons):
        raise ProxyError(f"{_INVALID}: TCP6 with IPv4 address")
    if protocol not in ("TCP4", "TCP6"):
        raise ProxyError(f"{_INVALID}: invalid protocol {protocol}")
    return ProxyHeader(length, (_ip_text(source), source_port), (_ip_text(destination), destination_port))


def _check_v2(data: Octets) -> tuple[int, str]:
    """The bytes of one address (0: none of interest), and what reading the rest is called in the log."""
    version, kind, size = data[12], data[13], data[14] << 8 | data[15]
    if version & 0xF0 != 0x20:
        raise ProxyError(f"{_INVALID}: invalid version 0x{version & 0xF0:02x}")
    command = version & 0x0F
    if command == _COMMAND_LOCAL:
        return 0, "failed to discard LOCAL command address data"
    if command != _COMMAND_PROXY:
        raise ProxyError(f"unknown PROXY protocol command: 0x{command:02x}")
    if kind & 0x0F != _PROTOCOL_STREAM:
        raise ProxyError(f"{_UNSUPPORTED}: only STREAM protocol supported")
    family = kind & 0xF0
    if family == _FAMILY_UNSPEC:
        return 0, "failed to discard UNSPEC address address data"
    if family not in (_FAMILY_INET, _FAMILY_INET6):
        raise ProxyError(f"{_UNSUPPORTED}: unsupported address family 0x{family:02x}")
    address_bytes, name = (4, "IPv4") if family == _FAMILY_INET else (16, "IPv6")
    if size < 2 * address_bytes + 4:
        raise ProxyError(f"{name} address data too short: {size} bytes")
    return address_bytes, f"failed to read {name} address data"


def _parse_v2(data: bytes, address_bytes: int, length: int) -> ProxyHeader:
    """Source and destination address, source and destination port, then extensions that nobody reads."""
    if not address_bytes:
        return ProxyHeader(length)
    at = 2 * address_bytes
    ports = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
    return ProxyHeader(length, (_ip_text(data[:address_bytes]), ports[0]), (_ip_text(data[address_bytes:at]), ports[1]))


def _parse_ip(text: str) -> bytes | None:
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return None


def _ip_text(address: bytes) -> str:
    """The address as Go prints it: an IPv4 address inside an IPv6 one as IPv4."""
    if len(address) == 4:
        return socket.inet_ntop(socket.AF_INET, address)
    if address.startswith(bytes(10) + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    text = socket.inet_ntop(socket.AF_INET6, address)
    if "." not in text:
        return text
    # The C library prints ::1.2.3.4 where Go prints ::102:304.
    return f"::{int.from_bytes(address[12:14], 'big'):x}:{int.from_bytes(address[14:], 'big'):x}"


def _parse_port(which: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        problem = "invalid syntax"
    elif len(text.lstrip("0")) > 5 or int(text) > 0xFFFF:
        problem = "value out of range"
    else:
        return int(text)
    raise ProxyError(f"invalid {which} port: strconv.ParseUint: parsing {quote(text)}: {problem}")
