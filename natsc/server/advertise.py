"""The address that clients are told instead of the one that the server listens on (client_advertise)."""

from __future__ import annotations

from natsc.config.gotext import GoError, atoi

_RANDOM_PORTS = (0, -1)


def parse_host_port(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of "host", "host:port" or "[v6]:port"; port 0, -1 or none is default_port. Raises GoError."""
    if not text:
        raise GoError("no hostport specified")
    try:
        host, port = _split(text)
    except _MissingPort:
        host, port = _split(f"{text}:{default_port}")
    number = atoi(port.strip())
    return host.strip(), default_port if number in _RANDOM_PORTS else number


class _MissingPort(GoError):
    pass


def _split(text: str) -> tuple[str, str]:
    """Go's net.SplitHostPort, with its errors."""
    last = text.rfind(":")
    if last < 0:
        raise _MissingPort(f"address {text}: missing port in address")
    host, opened, closed = text[:last], 0, 0
    if text.startswith("["):
        end = text.find("]")
        if end < 0:
            raise GoError(f"address {text}: missing ']' in address")
        if end + 1 != last:
            if text[end + 1 : end + 2] == ":":
                raise GoError(f"address {text}: too many colons in address")
            raise _MissingPort(f"address {text}: missing port in address")
        host, opened, closed = text[1:end], 1, end + 1
    elif ":" in host:
        raise GoError(f"address {text}: too many colons in address")
    if "[" in text[opened:]:
        raise GoError(f"address {text}: unexpected '[' in address")
    if "]" in text[closed:]:
        raise GoError(f"address {text}: unexpected ']' in address")
    return host, text[last + 1 :]
