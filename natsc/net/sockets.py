"""Listening sockets, bound as nats-server binds them."""

from __future__ import annotations

import errno
import socket

from natsc.config.goaddress import join_host_port
from natsc.oserrors import errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BACKLOG = 4096
_UNSPECIFIED = ("", "0.0.0.0", "::")
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class ListenError(Exception):
    """A port that can't be listened on; str() is Go's text: "listen tcp 1.2.3.4:4222: bind: address already in use"."""


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """open_listener, and for "localhost" a socket for each of its addresses, with one port. Raises ListenError."""
    first = open_listener(host, port)
    sockets = [first]
    if host == "localhost":
        for family, address in _addresses(host, first.getsockname()[1])[1:]:
            try:
                sockets.append(_bind(family, address))
            except OSError:
                continue  # a bonus: it may not exist here
    return sockets


def open_listener(host: str, port: int) -> socket.socket:
    """A socket that listens on port (0 = any) of host's first address, IPv4 before others. Raises ListenError.

    An unspecified host is reached over IPv4 and IPv6.
    """
    candidates: list[tuple[int, Any]]
    if host in _UNSPECIFIED:
        candidates = [(socket.AF_INET6, ("::", port)), (socket.AF_INET, ("0.0.0.0", port))]
    else:
        candidates = _addresses(host, port)[:1]
    try:
        return _bind_first(candidates)
    except OSError as error:
        raise ListenError(f"listen tcp {join_host_port(host, port)}: bind: {errno_text(error)}") from None


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    try:
        # As bytes, for a str is encoded with IDNA, whose import is worth a millisecond.
        name = host.encode() if host.isascii() else host
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise ListenError(f"listen tcp: lookup {host}: no such host") from None
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return list(dict.fromkeys((entry[0], entry[4]) for entry in found))


def _bind_first(candidates: list[tuple[int, Any]]) -> socket.socket:
    """A socket on the first of the addresses that this system has."""
    for family, address in candidates[:-1]:
        try:
            return _bind(family, address)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    return _bind(*candidates[-1])


def _bind(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
