"""Log lines to the system's log, local or remote, in the form that nats-server's own syslog client sends.

Priorities are nats-server's: facility daemon locally, kern to a remote server; trace goes out as notice.
"""

from __future__ import annotations

import os
import socket
import time

from natsc.config.goaddress import join_host_port, split_host_port
from natsc.config.gotext import GoError, quote
from natsc.oserrors import errno_text
from natsc.server.log_sinks import LogError, Sink, StderrSink
from natsc.server.process import SERVER_NAME

_KERN, _DAEMON = 0 << 3, 3 << 3
_SEVERITIES = {"FTL": 2, "ERR": 3, "WRN": 4, "INF": 5, "TRC": 5, "DBG": 7}

_LOCAL_PATHS = ("/dev/log", "/var/run/syslog", "/var/run/log")

# A remote server may hold up start-up this long, but the event loop only this long, and not again before the pause is
# over.
_START_TIMEOUT_S = 5.0
_SEND_TIMEOUT_S = 0.25
_RETRY_PAUSE_NS = 5_000_000_000


class SyslogSink(Sink):
    """A connection to syslog; `url` is udp://host:port, tcp://host:port, unix:///path, or "" for this machine's."""

    plain_text = True

    def __init__(self, url: str) -> None:
        """Raises LogError."""
        super().__init__(-1)
        self._facility = _KERN if url else _DAEMON
        self._host = socket.gethostname() if url else ""
        self._address = _remote_address(url) if url else None
        self._retry_ns = 0
        try:
            self._socket: socket.socket | None = self._connect(_START_TIMEOUT_S)
        except OSError as error:
            raise LogError(f"error connecting to syslog: {quote(self._dial_error(error))}") from None

    def write(self, level: str, line: bytes) -> None:
        data = self._header(level) + line.removesuffix(b"\n") + b"\n"
        try:
            self._send(data)
        except OSError as error:
            self._lose(error)
            return
        self._losing = 0

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, error: OSError) -> None:
        text = f"{SERVER_NAME}: log lines are being lost: {self._dial_error(error)}\n"
        StderrSink().write("ERR", text.encode("utf-8", "replace"))

    def _header(self, level: str) -> bytes:
        priority = self._facility | _SEVERITIES[level]
        now = time.localtime()
        if not self._host:
            stamp = f"{time.strftime('%b', now)} {now.tm_mday:2d} {time.strftime('%H:%M:%S', now)}"
            return f"<{priority}>{stamp} {SERVER_NAME}[{os.getpid()}]: ".encode()
        return f"<{priority}>{_rfc3339(now)} {self._host} {SERVER_NAME}[{os.getpid()}]: ".encode()

    def _send(self, data: bytes) -> None:
        """One try on the connection at hand, one on a new one. Raises OSError."""
        if self._socket is not None:
            try:
                self._socket.sendall(data)
                return
            except OSError:
                self.close()
        now = time.monotonic_ns()
        if now < self._retry_ns:
            raise ConnectionError
        self._retry_ns = now + _RETRY_PAUSE_NS
        self._socket = self._connect(_SEND_TIMEOUT_S)
        self._socket.sendall(data)
        self._retry_ns = 0

    def _connect(self, timeout_s: float) -> socket.socket:
        if self._address is None:
            return _connect_local()
        family, kind, address = self._address
        connection = socket.socket(family, kind)
        try:
            connection.settimeout(timeout_s)
            connection.connect(address)
            connection.settimeout(_SEND_TIMEOUT_S)
        except OSError:
            connection.close()
            raise
        return connection

    def _dial_error(self, error: OSError) -> str:
        if self._address is None:
            return "Unix syslog delivery error"
        family, kind, address = self._address
        if family == socket.AF_UNIX:
            return f"dial unix {address}: connect: {errno_text(error)}"
        network = "tcp" if kind == socket.SOCK_STREAM else "udp"
        return f"dial {network} {join_host_port(*address)}: connect: {errno_text(error)}"


def _connect_local() -> socket.socket:
    error = OSError("no syslog")
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        for path in _LOCAL_PATHS:
            connection = socket.socket(socket.AF_UNIX, kind)
            try:
                connection.settimeout(_SEND_TIMEOUT_S)
                connection.connect(path)
            except OSError as failed:
                connection.close()
                error = failed
                continue
            return connection
    raise error


def _remote_address(url: str) -> tuple[int, int, str | tuple[str, int]]:
    """(family, socket type, address), the name looked up once: the event loop never asks a name server.

    Raises LogError.
    """
    from natsc import gourl

    try:
        parsed = gourl.parse(url)
    except gourl.URLError as error:
        raise LogError(str(error)) from None
    network = parsed.scheme
    if network == "unix":
        return socket.AF_UNIX, socket.SOCK_STREAM, parsed.path
    if network not in ("udp", "tcp"):
        raise LogError(f"error invalid network type: {quote(network)}")
    try:
        host, port = split_host_port(parsed.host)
    except GoError as error:
        raise LogError(f"error connecting to syslog: {quote(f'dial {network}: {error}')}") from None
    kind = socket.SOCK_STREAM if network == "tcp" else socket.SOCK_DGRAM
    try:
        family, _, _, _, address = socket.getaddrinfo(host or "localhost", port or 0, type=kind)[0]
    except OSError as error:
        text = f"dial {network}: lookup {host}: {errno_text(error)}"
        raise LogError(f"error connecting to syslog: {quote(text)}") from None
    return family, kind, (str(address[0]), int(address[1]))


def _rfc3339(now: time.struct_time) -> str:
    offset = now.tm_gmtoff
    if offset == 0:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
    minutes = abs(offset) // 60
    sign = "+" if offset > 0 else "-"
    return time.strftime("%Y-%m-%dT%H:%M:%S", now) + f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"
