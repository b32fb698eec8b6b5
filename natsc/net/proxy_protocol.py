"""PROXY protocol, versions 1 and 2: a load balancer's word about who is really connecting.

The header comes in clear before anything else, TLS included. It is optional: a connection that starts with other
bytes is an ordinary one, and its bytes are handed back. Bounds: 107 bytes for version 1, 16 + 65535 for version 2,
and READ_TIMEOUT_S.
https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt; texts and verdicts are nats-server's.
"""

from __future__ import annotations

import socket

from natsc.config.gotext import quote

# How long a peer may take for its first bytes, and again for the rest where those are few.
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


class ProxyHeader:
    """What a header says. Addresses are texts; "" and 0 where the balancer speaks for itself (LOCAL, UNKNOWN)."""

    __slots__ = ("dst_ip", "dst_port", "src_ip", "src_port")

    def __init__(self, src_ip: str = "", src_port: int = 0, dst_ip: str = "", dst_port: int = 0) -> None:
        self.src_ip = src_ip
        self.src_port = src_port
        self.dst_ip = dst_ip
        self.dst_port = dst_port

    def __repr__(self) -> str:
        return f"ProxyHeader({self.src_ip!r}, {self.src_port}, {self.dst_ip!r}, {self.dst_port})"


class ProxyParser:
    """Reads the beginning of one connection. Feed it until feed() returns True, then go on with `rest`.

    header: None where the connection has no header. rest: what was fed and is not of the header.
    """

    __slots__ = ("_buffer", "_reading", "_reading_from", "header", "rest")

    def __init__(self) -> None:
        self.header: ProxyHeader | None = None
        self.rest = b""
        self._buffer = bytearray()
        self._reading = "failed to read protocol version"
        self._reading_from = 0

    @property
    def detected(self) -> bool:
        """Whether the bytes so far are the start of a header."""
        return len(self._buffer) >= DETECT_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come yet."""
        return not self._buffer

    def feed(self, data: bytes) -> bool:
        """Takes the next bytes; True once it is known what they are. Raises ProxyError for a bad header."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < DETECT_BYTES:
            return False
        if buffer.startswith(_V1_PREFIX):
            used = self._read_v1()
        elif buffer.startswith(_V2_SIGNATURE[:DETECT_BYTES]):
            used = self._read_v2()
        else:
            used = 0
        if used is None:
            return False
        self.rest = bytes(buffer[used:])
        return True

    def cut_short(self, cause: str) -> str:
        """The log's text for a peer that left or was silent too long; `cause` as Go words it: "EOF", "i/o timeout"."""
        if not self._buffer:
            cause = "EOF"  # nothing at all in time is the end to nats-server
        # Go's io.ReadFull calls it unexpected once it has a part; lines and discarded bytes are read by other means.
        exact = not self._reading.startswith(("failed to read v1 line", "failed to discard"))
        if cause == "EOF" and exact and len(self._buffer) > self._reading_from:
            cause = "unexpected EOF"
        return f"{self._reading}: {cause}"

    def _read_v1(self) -> int | None:
        self._reading = "failed to read v1 line"
        start = len(_V1_PREFIX)
        end = self._buffer.find(b"\r\n", start, start + _V1_LINE_BYTES_MAX)
        if end < 0:
            if len(self._buffer) - start >= _V1_LINE_BYTES_MAX:
                raise ProxyError(f"{_INVALID}: v1 line too long")
            return None
        self.header = _parse_v1(self._buffer[start:end].decode("utf-8", "surrogateescape").split())
        return end + 2

    def _read_v2(self) -> int | None:
        buffer = self._buffer
        self._reading, self._reading_from = "failed to read v2 signature", DETECT_BYTES
        if len(buffer) < len(_V2_SIGNATURE):
            return None
        if not buffer.startswith(_V2_SIGNATURE):
            raise ProxyError(f"{_INVALID}: invalid signature")
        self._reading, self._reading_from = "failed to read v2 header", len(_V2_SIGNATURE)
        if len(buffer) < _V2_HEADER_BYTES:
            return None
        version, kind = buffer[12], buffer[13]
        size = buffer[14] << 8 | buffer[15]
        address_bytes, self._reading = _check_v2(version, kind, size)
        self._reading_from = _V2_HEADER_BYTES
        used = _V2_HEADER_BYTES + size
        if len(buffer) < used:
            return None
        self.header = _parse_v2(bytes(buffer[_V2_HEADER_BYTES:used]), address_bytes)
        return used


def _parse_v1(words: list[str]) -> ProxyHeader:
    """The words after "PROXY"."""
    if not words:
        raise ProxyError(f"{_INVALID}: invalid v1 format")
    protocol = words[0]
    if protocol == "UNKNOWN":
        return ProxyHeader()
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
    return ProxyHeader(_ip_text(source), source_port, _ip_text(destination), destination_port)


def _check_v2(version: int, kind: int, size: int) -> tuple[int, str]:
    """The bytes of one address (0: none of interest), and what reading the rest is called in the log."""
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


def _parse_v2(data: bytes, address_bytes: int) -> ProxyHeader:
    """Source and destination address, source and destination port, then extensions that nobody reads."""
    if not address_bytes:
        return ProxyHeader()
    ports = 2 * address_bytes
    return ProxyHeader(
        _ip_text(data[:address_bytes]),
        int.from_bytes(data[ports : ports + 2], "big"),
        _ip_text(data[address_bytes:ports]),
        int.from_bytes(data[ports + 2 : ports + 4], "big"),
    )


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
