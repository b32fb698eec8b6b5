"""Host and port as Go's net package splits and joins them, with its error texts."""

from __future__ import annotations

from natsc.config.gotext import GoError


class MissingPort(GoError):
    """A host alone, where a port was to follow."""


def split_host_port(address: str) -> tuple[str, str]:
    """net.SplitHostPort: "host:port" or "[v6]:port", the port not looked at. Raises GoError."""
    last = address.rfind(":")
    if last < 0:
        raise MissingPort(_wrong(address, "missing port in address"))
    host, opened, closed = address[:last], 0, 0
    if address.startswith("["):
        end = address.find("]")
        if end < 0:
            raise GoError(_wrong(address, "missing ']' in address"))
        if end + 1 != last:
            if address[end + 1 : end + 2] == ":":
                raise GoError(_wrong(address, "too many colons in address"))
            raise MissingPort(_wrong(address, "missing port in address"))
        host, opened, closed = address[1:end], 1, end + 1
    elif ":" in host:
        raise GoError(_wrong(address, "too many colons in address"))
    if "[" in address[opened:]:
        raise GoError(_wrong(address, "unexpected '[' in address"))
    if "]" in address[closed:]:
        raise GoError(_wrong(address, "unexpected ']' in address"))
    return host, address[last + 1 :]


def _wrong(address: str, why: str) -> str:
    return f"address {address}: {why}" if address else why


def join_host_port(host: str, port: int) -> str:
    """net.JoinHostPort: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
