"""Listening sockets, bound as nats-server binds them."""

from __future__ import annotations

import errno
import socket

from natsc.oserrors import errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BACKLOG = 4096
_UNSPECIFIED = ("", "0.0.0.0", "::")
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class ListenError(Exception):
    """A port that can't be listened on; str() is Go's text: "listen tcp 127.0.0.1:4222: bind: address already in use"."""


def host_port(host: str, port: int) -> str:
    """As Go joins them: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on host and port (0 = any, the same for all). Raises ListenError.

    An unspecified host is reached over IPv4 and IPv6, and so is "localhost", by a socket for each of its addresses.
    """
    if host in _UNSPECIFIED:
        groups: list[list[tuple[int, Any]]] = [[(socket.AF_INET6, ("::", port)), (socket.AF_INET, ("0.0.0.0", port))]]
    else:
        try:
            # As bytes, for a str is encoded with IDNA, whose import is worth a millisecond.
            name = host.encode() if host.isascii() else host
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError:
            raise ListenError(f"listen tcp: lookup {host}: no such host") from None
        found.sort(key=lambda entry: entry[0] != socket.AF_INET)
        addresses = list(dict.fromkeys((entry[0], entry[4]) for entry in found))
        groups = [[address] for address in (addresses if host == "localhost" else addresses[:1])]
    sockets: list[socket.socket] = []
    for group in groups:
        try:
            sock = _bind_first(group, sockets[0].getsockname()[1] if sockets else port)
        except OSError as error:
            if sockets:
                continue  # the second address of localhost is a bonus: it may not exist here
            raise ListenError(f"listen tcp {host_port(host, port)}: bind: {errno_text(error)}") from None
        sockets.append(sock)
    return sockets


def _bind_first(candidates: list[tuple[int, Any]], port: int) -> socket.socket:
    """A socket on the first of the addresses that this system has."""
    for family, address in candidates[:-1]:
        try:
            return _bind(family, (address[0], port, *address[2:]))
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    family, address = candidates[-1]
    return _bind(family, (address[0], port, *address[2:]))


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
