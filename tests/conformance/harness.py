"""Server processes and raw clients for tests that drive a whole server from outside.

Server starts natsc or nats-server as a process of its own and learns its ports from its log, so nothing here picks a
port. Wire is a blocking raw socket client: it knows where an operation ends, and nothing else about the protocol. Every
wait has a deadline (NATSC_TEST_TIMEOUT seconds) and is ended by an event: a log line, a byte, a closed socket.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.reference import nats_server

KINDS = ("natsc", "nats-server")
TIMEOUT_S = float(os.environ.get("NATSC_TEST_TIMEOUT", "10"))
BASE_CONFIG = "listen: 127.0.0.1:-1\n"


def server_command(kind: str) -> list[str]:
    """The command line that starts a server of this kind; raises RuntimeError where there is no nats-server."""
    if kind == "natsc":
        return [sys.executable, "-m", "natsc"]
    return [nats_server()]


class Server:
    """One server process. `log` holds its lines so far, without their ends; `port` and `http_port` come from them."""

    def __init__(
        self,
        kind: str,
        config: str | None = "",
        *flags: str,
        base: str = BASE_CONFIG,
        wait: bool = True,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.log: list[str] = []
        self._news = threading.Condition()
        self._dir = tempfile.TemporaryDirectory(prefix="natsc-conformance-")
        self.dir = Path(self._dir.name)
        self.config_path = self.dir / "server.conf"
        self._base = base
        command = [*server_command(kind), *flags]
        if config is not None:
            self.write_config(config)
            command += ["-c", str(self.config_path)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if wait:
            try:
                self.wait_log(r"Server is ready")
            except BaseException:
                self.close()
                raise

    def write_config(self, config: str) -> None:
        """Replace the configuration file's text; a running server sees it at its next reload."""
        self.config_path.write_text(self._base + config)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.log.append(line.decode(errors="replace").rstrip("\r\n"))
                self._news.notify_all()
        with self._news:
            self.log.append("")
            self._news.notify_all()

    def wait_log(self, pattern: str, *, after: int = 0, timeout: float = TIMEOUT_S) -> re.Match[str]:
        """The first match of pattern in the log from line `after` on; AssertionError with the log if none comes."""
        deadline = time.monotonic() + timeout
        seen = after
        compiled = re.compile(pattern)
        with self._news:
            while True:
                for line in self.log[seen:]:
                    if match := compiled.search(line):
                        return match
                seen = len(self.log)
                ended = self.process.poll() is not None and not self._reader.is_alive()
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    why = "the server ended" if ended else f"not within {timeout} s"
                    raise AssertionError(
                        f"{self.kind}: no log line matches {pattern!r}: {why}; log:\n" + "\n".join(self.log)
                    )
                self._news.wait(min(left, 0.2))

    @property
    def pid(self) -> int:
        return self.process.pid

    @functools.cached_property
    def port(self) -> int:
        return int(self.wait_log(r"Listening for client connections on .*:(\d+)$")[1])

    @functools.cached_property
    def http_port(self) -> int:
        return int(self.wait_log(r"Starting https? monitor on .*:(\d+)$")[1])

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def reload(self, config: str, expect: str = r"Reloaded server configuration") -> list[str]:
        """Write the configuration, send SIGHUP, wait for the line `expect`, and return what was logged meanwhile."""
        self.write_config(config)
        mark = len(self.log)
        self.signal(signal.SIGHUP)
        self.wait_log(expect, after=mark)
        return self.log[mark:]

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        """Wait for the process to end by itself; its exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def close(self) -> None:
        """Stop the process (SIGINT, which counts in lame duck mode too, then SIGKILL) and remove its folder."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        self._reader.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self._dir.cleanup()

    def get(self, path: str) -> HTTPAnswer:
        """GET from the monitoring port."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return HTTPAnswer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def varz(self) -> dict:
        return self.get("/varz").json()

    def connz(self, query: str = "") -> list[dict]:
        return self.get(f"/connz?{query}").json()["connections"]

    def closed(self, cid: int, timeout: float = TIMEOUT_S) -> dict:
        """The /connz entry of a closed connection, asked for until it is there."""
        deadline = time.monotonic() + timeout
        while True:
            for entry in self.connz("state=closed&auth=1&limit=1000"):
                if entry["cid"] == cid:
                    return entry
            assert time.monotonic() < deadline, f"{self.kind}: connection {cid} isn't among the closed ones"


class HTTPAnswer:
    """Status, headers (lower-case names) and body of a monitoring answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> dict:
        return json.loads(self.body)


class Wire:
    """A raw client connection. Operations are returned whole and as bytes, payload and line ends included.

    Server PINGs are answered and left out, unless keep_pings is set. read=False leaves the first INFO on the socket.
    """

    def __init__(
        self,
        server: Server | int,
        host: str = "127.0.0.1",
        *,
        read: bool = True,
        preface: bytes = b"",
        timeout: float = TIMEOUT_S,
    ) -> None:
        port = server if isinstance(server, int) else server.port
        self.timeout = timeout
        self.keep_pings = False
        self._buffer = bytearray()
        self.sock: socket.socket = socket.create_connection((host, port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.info: dict = {}
        if preface:
            self.sock.sendall(preface)
        if read:
            self.read_info()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    @property
    def cid(self) -> int:
        return self.info["client_id"]

    def read_info(self) -> dict:
        line = self.line()
        assert line.startswith(b"INFO "), line
        self.info = json.loads(line[5:])
        return self.info

    def start_tls(self, context: ssl.SSLContext, server_hostname: str = "127.0.0.1") -> None:
        """Run the TLS handshake on this connection; ssl.SSLError if it fails."""
        assert not self._buffer, bytes(self._buffer)
        self.sock = context.wrap_socket(self.sock, server_hostname=server_hostname)

    def send(self, *parts: bytes | str) -> Wire:
        """Send the parts as they are, each followed by nothing."""
        self.sock.sendall(b"".join(p.encode() if isinstance(p, str) else p for p in parts))
        return self

    def lines(self, *lines: bytes | str) -> Wire:
        """Send each line followed by CR LF."""
        return self.send(*(x for line in lines for x in (line, b"\r\n")))

    def connect(self, **options: object) -> Wire:
        """CONNECT, quiet unless told otherwise; the answer isn't read."""
        options = {"verbose": False, "pedantic": False, "headers": True, **options}
        return self.lines("CONNECT " + json.dumps({k: v for k, v in options.items() if v is not None}))

    def ready(self, **options: object) -> Wire:
        """CONNECT and PING; returns once the PONG is in."""
        self.connect(**options)
        assert self.flush() == []
        return self

    def sub(self, subject: str, sid: object = 1, queue: str | None = None) -> Wire:
        return self.lines(f"SUB {subject} {queue + ' ' if queue else ''}{sid}")

    def pub(self, subject: str, payload: bytes | str = b"", reply: str | None = None) -> Wire:
        data = payload.encode() if isinstance(payload, str) else payload
        return self.send(f"PUB {subject} {reply + ' ' if reply else ''}{len(data)}\r\n", data, b"\r\n")

    def hpub(self, subject: str, header: bytes, payload: bytes = b"", reply: str | None = None) -> Wire:
        sizes = f"{len(header)} {len(header) + len(payload)}"
        return self.send(f"HPUB {subject} {reply + ' ' if reply else ''}{sizes}\r\n", header, payload, b"\r\n")

    def _fill(self, deadline: float) -> bool:
        """Read some bytes; False at the end of the stream."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"nothing more within {self.timeout} s; unread: {bytes(self._buffer)!r}")
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(1 << 18)
        except TimeoutError:
            raise TimeoutError(f"nothing more within {self.timeout} s; unread: {bytes(self._buffer)!r}") from None
        except (ConnectionResetError, ssl.SSLEOFError):
            return False
        self._buffer += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def _raw_line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if not self._fill(deadline):
                raise EOFError(f"closed; unread: {bytes(self._buffer)!r}")
        return self._take(end + 1)

    def line(self) -> bytes:
        """The next line without its CR LF; EOFError if the server closed."""
        deadline = time.monotonic() + self.timeout
        while True:
            line = self._raw_line(deadline)
            if line == b"PING\r\n" and not self.keep_pings:
                with contextlib.suppress(OSError):
                    self.send(b"PONG\r\n")
                continue
            assert line.endswith(b"\r\n"), line
            return line[:-2]

    def op(self) -> bytes:
        """The next operation, a message with its payload; without the last CR LF. EOFError if the server closed."""
        line = self.line()
        if not line.startswith((b"MSG ", b"HMSG ")):
            return line
        need = int(line.rsplit(b" ", 1)[1]) + 2
        deadline = time.monotonic() + self.timeout
        while len(self._buffer) < need:
            if not self._fill(deadline):
                raise EOFError(f"closed inside a payload; unread: {bytes(self._buffer)!r}")
        data = self._take(need)
        assert data.endswith(b"\r\n"), data
        return line + b"\r\n" + data[:-2]

    def ops(self, count: int) -> list[bytes]:
        return [self.op() for _ in range(count)]

    def flush(self) -> list[bytes]:
        """PING; everything that came before its PONG."""
        self.send(b"PING\r\n")
        return self.until_pong()

    def until_pong(self) -> list[bytes]:
        got = []
        while (op := self.op()) != b"PONG":
            got.append(op)
        return got

    def eof(self) -> list[bytes]:
        """Everything up to the server's closing of the connection; TimeoutError if it stays open."""
        got = []
        while True:
            try:
                got.append(self.op())
            except EOFError:
                assert not self._buffer, bytes(self._buffer)
                return got
