"""The addresses of this machine, from the kernel (Linux's rtnetlink)."""

from __future__ import annotations

import socket
import struct

_NETLINK_ROUTE = 0
_RTM_GETADDR = 22
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NETLINK_TIMEOUT_S = 1.0
_NLMSGHDR = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTATTR = struct.Struct("=HH")


def interface_addresses() -> list[str]:
    """Every IP address of this machine, by interface, IPv4 before IPv6. Empty where the system doesn't tell."""
    if not hasattr(socket, "AF_NETLINK"):
        return []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as netlink:
            netlink.settimeout(_NETLINK_TIMEOUT_S)
            request = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
            size = _NLMSGHDR.size + len(request)
            netlink.send(_NLMSGHDR.pack(size, _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0) + request)
            found = _read_addresses(netlink)
    except OSError:
        return []
    found.sort(key=lambda entry: entry[0])
    return [address for _, address in found]


def _read_addresses(netlink: socket.socket) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    while True:
        data = netlink.recv(65536)
        at = 0
        while at + _NLMSGHDR.size <= len(data):
            size, kind = _NLMSGHDR.unpack_from(data, at)[:2]
            if kind in (_NLMSG_DONE, _NLMSG_ERROR) or size < _NLMSGHDR.size:
                return found
            entry = _read_address(data[at + _NLMSGHDR.size : at + size])
            if entry is not None:
                found.append(entry)
            at += (size + 3) & ~3


def _read_address(message: bytes) -> tuple[int, str] | None:
    """(interface index, address) of one netlink message.

    On a point-to-point link the own address is the "local" one.
    """
    family, _, _, _, index = _IFADDRMSG.unpack_from(message)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    raw: dict[int, bytes] = {}
    at = _IFADDRMSG.size
    while at + _RTATTR.size <= len(message):
        size, kind = _RTATTR.unpack_from(message, at)
        if size < _RTATTR.size:
            break
        raw[kind] = message[at + _RTATTR.size : at + size]
        at += (size + 3) & ~3
    address = raw.get(_IFA_LOCAL) or raw.get(_IFA_ADDRESS)
    return (index, socket.inet_ntop(family, address)) if address else None
