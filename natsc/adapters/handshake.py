"""The request that begins a WebSocket connection (RFC 6455, 4.2): which ones are refused, and what is answered.

The order of the checks, the statuses and the texts for the log are nats-server's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re

from natsc.config.goaddress import MissingPort, split_host_port
from natsc.config.gotext import GoError
from natsc.monitor.connection import http_date

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.monitor.request import Request

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_REASONS = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}
_COMPRESSION = b"permessage-deflate"
_COOKIE_VALUE = re.compile(r"[ !#-\[\]-~]*\Z")
_COOKIES = {
    "jwt_cookie": "jwt", "username_cookie": "user", "password_cookie": "pass", "token_cookie": "auth_token",
}  # fmt: skip


class Refused(Exception):
    """No upgrade: the text is for the log, status for the answer (0: none, the connection is closed)."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Upgrade:
    """What was agreed on. credentials: CONNECT's fields from cookies. client_ip: X-Forwarded-For, or ""."""

    def __init__(
        self, reply: bytes, compress: bool, masked: bool, agent: str, credentials: dict[str, str], client_ip: str
    ) -> None:
        self.reply = reply
        self.compress = compress
        self.masked = masked  # the client's frames are
        self.browser = agent.startswith("Mozilla/")
        # Safari can't read compressed messages in several frames; Chrome on macOS says Safari too, but not Version.
        self.whole_compressed = "Version/" in agent and "Safari/" in agent
        self.credentials = credentials
        self.client_ip = client_ip


def parse_upgrade(request: Request, options: Any, *, secure: bool, mqtt: bool, early: bool) -> Upgrade:
    """What a request asks for. early: the client has sent more than the request. Raises Refused."""
    if request.path.endswith("/mqtt") and not mqtt:
        raise Refused(404, "mqtt websocket endpoint not enabled")
    if request.method != "GET":
        raise Refused(405, "request method must be GET")
    headers = request.headers
    host = _first(headers, b"host")
    if not host:
        raise Refused(400, "'Host' missing in request")
    for name, token in ((b"Upgrade", b"websocket"), (b"Connection", b"upgrade")):
        if not _has_token(headers, name.lower(), token):
            raise Refused(400, f"invalid value for header '{name.decode()}'")
    key = _first(headers, b"sec-websocket-key")
    if not key:
        raise Refused(400, "key missing")
    if not _is_key(key):
        raise Refused(400, "invalid websocket key")
    if not _has_token(headers, b"sec-websocket-version", b"13"):
        raise Refused(400, "invalid version")
    check_origin(headers, options, host.decode("latin-1"), secure)
    if request.path.endswith("/leafnode"):
        raise Refused(0, "Not configured to accept leaf node connections")
    if early:
        raise Refused(0, "client sent data before handshake is complete")
    compress = bool(options.compression) and _wants_compression(headers)
    reply = [
        b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()),
    ]  # fmt: skip
    if compress:
        extension = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        reply.append(b"Sec-WebSocket-Extensions: " + extension)
    masked = _first(headers, b"nats-no-masking") != b"true"
    if not masked:
        reply.append(b"Nats-No-Masking: true")
    reply += [f"{name}: {value}".encode() for name, value in (options.headers or {}).items()]
    agent = _first(headers, b"user-agent").decode("latin-1")
    credentials = _credentials(headers, options)
    return Upgrade(b"\r\n".join([*reply, b"", b""]), compress, masked, agent, credentials, _client_ip(headers))


def answer(status: int, wall_ns: int) -> bytes:
    """A refusal as Go's net/http writes it."""
    reason = _REASONS[status]
    return (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nSec-Websocket-Version: 13\r\n"
        f"X-Content-Type-Options: nosniff\r\nDate: {http_date(wall_ns // 1_000_000_000)}\r\n"
        f"Content-Length: {len(reason) + 1}\r\n\r\n{reason}\n"
    ).encode()


def check_origin(headers: list[tuple[bytes, bytes]], options: Any, host: str, secure: bool) -> None:
    """Whether the page that a browser's request comes from may connect. Raises Refused."""
    if not options.same_origin and not options.allowed_origins:
        return
    origin = (_first(headers, b"origin") or _first(headers, b"sec-websocket-origin")).decode("latin-1")
    if not origin:  # no browser, or none that says: then an origin would mean nothing
        return
    scheme, name, port = _origin(origin)
    if options.same_origin:
        own_name, own_port = _host_and_port(host, secure)
        if (name, port) != (own_name, own_port) or scheme != ("https" if secure else "http"):
            raise Refused(403, "origin not allowed: not same origin")
    if options.allowed_origins and (scheme, name, port) not in map(_origin, options.allowed_origins):
        raise Refused(403, "origin not allowed: not in the allowed list")


def _origin(text: str) -> tuple[str, str, str]:
    """Scheme, host and port in lower case. Raises Refused."""
    scheme, mark, rest = text.partition("://")
    if not mark or not scheme.isascii() or not scheme.replace("+", "").replace("-", "").replace(".", "").isalnum():
        raise Refused(403, f'origin not allowed: parse "{text}": invalid URI for request')
    scheme = scheme.lower()
    authority = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return scheme, *_host_and_port(authority, scheme == "https")


def _host_and_port(text: str, secure: bool) -> tuple[str, str]:
    try:
        host, port = split_host_port(text)
    except MissingPort:
        host, port = text, "443" if secure else "80"
    except GoError as error:
        raise Refused(403, f"origin not allowed: {error}") from None
    return host.lower(), port


def _first(headers: list[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _has_token(headers: list[tuple[bytes, bytes]], name: bytes, token: bytes) -> bool:
    return any(
        part.strip(b" \t").lower() == token for key, value in headers if key == name for part in value.split(b",")
    )


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


def _wants_compression(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(
        parameter.strip(b" \t").lower() == _COMPRESSION
        for key, value in headers
        if key == b"sec-websocket-extensions"
        for extension in value.split(b",")
        for parameter in extension.split(b";")
    )


def _credentials(headers: list[tuple[bytes, bytes]], options: Any) -> dict[str, str]:
    """What the configured cookies say, by CONNECT's fields."""
    wanted: dict[str, str] = {}
    for option, field in _COOKIES.items():
        if name := getattr(options, option):
            wanted.setdefault(name, field)
    found: dict[str, str] = {}
    for key, value in headers:
        if key != b"cookie" or not wanted:
            continue
        for part in value.decode("latin-1").split(";"):
            name, _, text = part.strip(" \t").partition("=")
            if len(text) > 1 and text[0] == text[-1] == '"':
                text = text[1:-1]
            if (name := name.strip(" \t")) in wanted and _COOKIE_VALUE.match(text) is not None:
                found[wanted[name]] = text
    return found


def _client_ip(headers: list[tuple[bytes, bytes]]) -> str:
    """Whom a proxy speaks for, where it names an address."""
    text = _first(headers, b"x-forwarded-for").decode("latin-1")
    if not text or "%" in text:  # a zone may be any text, and this one goes into the log
        return ""
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return ""
    return text
