"""INFO: what the server tells a client about itself. The order of its fields and what is left out are nats-server's."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc._core import Client

VERSION = "2.15.1"
GIT_COMMIT = "b2fd3ef"
GO_VERSION = "go1.27.2"  # clients print it, nobody parses it
PROTO = 1
API_LEVEL = 5

# The wire order, with the fields of one client in their places.
_ORDER = (
    "server_id", "server_name", "version", "proto", "git_commit", "go", "host", "port", "headers", "auth_required",
    "tls_required", "tls_verify", "tls_available", "max_payload", "jetstream", "ip", "client_id", "client_ip", "nonce",
    "cluster", "cluster_dynamic", "domain", "connect_urls", "ws_connect_urls", "ldm", "compression", "connect_info",
    "remote_account", "acc_is_sys", "api_lvl", "xkey",
)  # fmt: skip
_ALWAYS = frozenset(("server_id", "server_name", "version", "proto", "go", "host", "port", "headers", "max_payload"))
_ESCAPED = frozenset('"\\<>&')


def connection_type(client: Client) -> str:
    """The allowed_connection_types name of the door that a client came through."""
    return "IN_PROCESS" if getattr(client.conn, "in_process", False) else client.door


def render(fields: dict[str, Any]) -> bytes:
    """The INFO line. A field that is empty, zero or false is left out, but for those that are always there."""
    members = []
    for name in _ORDER:
        value = fields.get(name)
        if name in _ALWAYS or value:
            members.append(f'"{name}":{_encode(value)}')
    return b"INFO {%s} \r\n" % ",".join(members).encode("utf-8", "replace")


def _encode(value: Any) -> str:
    """JSON as Go writes it. Most values don't take the json module, whose import is a tenth of the server's start."""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is str and value.isascii() and value.isprintable() and not _ESCAPED.intersection(value):
        return f'"{value}"'
    import json

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


class InfoTemplate:
    """INFO with places for the fields that differ between clients, so that a new connection costs no JSON encoding."""

    __slots__ = ("_head", "_tail")

    def __init__(self, fields: dict[str, Any]) -> None:
        line = render({**fields, "client_id": 999_999_999_999_999_999})
        self._head, self._tail = line.split(b'"client_id":999999999999999999', 1)

    def fill(self, cid: int, client_ip: str | None, nonce: bytes = b"") -> bytes:
        """The line for one client. client_ip None leaves the address out (PROXY protocol: it isn't known yet)."""
        own = b'"client_id":%d' % cid
        if client_ip:
            own += b',"client_ip":"%s"' % client_ip.encode()
        if nonce:
            own += b',"nonce":"%s"' % nonce
        return self._head + own + self._tail
