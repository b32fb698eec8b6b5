"""The address that clients are told instead of the one that the server listens on (client_advertise)."""

from __future__ import annotations

from natsc.config.goaddress import MissingPort, split_host_port
from natsc.config.gotext import GoError, atoi

_RANDOM_PORTS = (0, -1)


def parse_host_port(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of "host", "host:port" or "[v6]:port"; port 0, -1 or none is default_port. Raises GoError."""
    if not text:
        raise GoError("no hostport specified")
    try:
        host, port = split_host_port(text)
    except MissingPort:
        host, port = split_host_port(f"{text}:{default_port}")
    number = atoi(port.strip())
    return host.strip(), default_port if number in _RANDOM_PORTS else number
