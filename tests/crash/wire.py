"""A raw NATS client for crash tests: many requests in flight, and all is read that a dying server still sent."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable
from typing import Any

Answer = Callable[[bytes, bytes], None]  # headers, payload
Deliver = Callable[[bytes, bytes, bytes], None]  # reply, headers, payload

CHUNK = 1 << 18
TIMEOUT_S = 30.0


class Closed(Exception):
    """The server is gone."""


class Wire:
    """`closed` once the server has gone and everything that it sent is read; `in_flight` counts unanswered requests."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.out = bytearray(
            b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\nSUB _R.* 1\r\n'
        )
        self.socket.setblocking(False)
        self.patience_s = TIMEOUT_S
        self.data = b""
        self.closed = False
        self.info = b""
        self._count = 0
        self._waiting: dict[bytes, Answer] = {}
        self._delivers: dict[bytes, Deliver] = {}

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        self.socket.close()
        self.closed = True

    # Sending

    def publish(self, subject: bytes, payload: bytes, reply: bytes = b"", headers: bytes = b"") -> None:
        if headers:
            self.out += b"HPUB %b %b %d %d\r\n%b%b\r\n" % (
                subject, reply, len(headers), len(headers) + len(payload), headers, payload,
            )  # fmt: skip
        else:
            self.out += b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)

    def ask(self, subject: bytes, payload: bytes, answer: Answer, headers: bytes = b"") -> None:
        """A request whose (one) answer goes to `answer`."""
        self._count += 1
        reply = b"_R.%d" % self._count
        self._waiting[reply] = answer
        self.publish(subject, payload, reply, headers)

    def subscribe(self, subject: bytes, deliver: Deliver) -> None:
        sid = b"%d" % (len(self._delivers) + 2)
        self._delivers[sid] = deliver
        self.out += b"SUB %b %b\r\n" % (subject, sid)

    # Receiving

    def pump(self, timeout: float = 0.05) -> None:
        """Send and receive what can be without waiting, or after waiting so long; answers are called from here."""
        if self.closed:
            return
        data = self.receive(timeout)
        if data == b"":
            self.closed = True
        elif data:
            self.parse(data)

    def receive(self, timeout: float) -> bytes | None:
        """What came, None for nothing, empty for the end; what waits is sent meanwhile."""
        readable, writable, _ = select.select([self.socket], [self.socket] if self.out else [], [], timeout)
        try:
            if writable:
                del self.out[: self.socket.send(memoryview(self.out)[:CHUNK])]
        except (BrokenPipeError, ConnectionResetError):
            self.out.clear()  # what it sent before it died is still to be read
            readable = [self.socket]
        if not readable:
            return None
        try:
            return self.socket.recv(CHUNK)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""

    def parse(self, data: bytes) -> None:
        """Take what the server sent: whole operations at once, the rest when more comes."""
        data = self.data + data
        at = 0
        while True:
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            line = data[at:end]
            if line[:4] in (b"MSG ", b"HMSG"):
                words = line.split(b" ")
                size = int(words[-1])
                if len(data) < end + size + 4:
                    break
                hdr = int(words[-2]) if words[0] == b"HMSG" else 0
                body = data[end + 2 : end + 2 + size]
                at = end + size + 4
                reply = words[3] if len(words) == (6 if hdr else 5) else b""
                if words[2] == b"1":
                    answer = self._waiting.pop(words[1], None)
                    if answer is not None:
                        answer(body[:hdr], body[hdr:])
                else:
                    self._delivers[words[2]](reply, body[:hdr], body[hdr:])
                continue
            at = end + 2
            if line == b"PING":
                self.out += b"PONG\r\n"
            elif line.startswith(b"INFO"):
                self.info = line
            elif line.startswith(b"-ERR"):
                raise AssertionError(line.decode())
        self.data = data[at:]

    # Waiting

    def until(self, done: Callable[[], object]) -> None:
        """Pump until done() holds. Raises Closed."""
        deadline = time.monotonic() + self.patience_s
        while not done():
            if self.closed:
                raise Closed
            if time.monotonic() > deadline:
                raise AssertionError(f"the server did not answer in {self.patience_s} s")
            self.pump()

    def request(self, subject: str, payload: bytes = b"", headers: bytes = b"") -> bytes:
        found: list[bytes] = []
        self.ask(subject.encode(), payload, lambda _, body: found.append(body), headers)
        self.until(lambda: found)
        return found[0]

    def api(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request to JetStream's API, which must succeed unless the caller looks for "error"."""
        found: dict[str, Any] = json.loads(
            self.request(f"$JS.API.{subject}", json.dumps(body).encode() if body is not None else b"")
        )
        return found

    def batch(self, stream: str, seq: int, count: int) -> list[tuple[int, bytes, bytes, bytes]]:
        """(sequence, subject, headers, payload) of up to `count` messages from `seq` on, by direct get."""
        found: list[tuple[int, bytes, bytes, bytes]] = []
        ended: list[bytes] = []
        self._count += 1
        reply = b"_R.%d" % self._count

        def answer(headers: bytes, body: bytes) -> None:
            if headers.startswith((b"NATS/1.0 204", b"NATS/1.0 4")):
                ended.append(headers)
                return
            fields = dict(line.split(b": ", 1) for line in headers.split(b"\r\n")[1:] if b": " in line)
            found.append((int(fields[b"Nats-Sequence"]), fields[b"Nats-Subject"], headers, body))
            self._waiting[reply] = answer

        self._waiting[reply] = answer
        request = json.dumps({"seq": seq, "batch": count}).encode()
        self.publish(f"$JS.API.DIRECT.GET.{stream}".encode(), request, reply)
        self.until(lambda: ended)
        assert ended[0].startswith((b"NATS/1.0 204", b"NATS/1.0 404")), ended[0]
        return found

    def everything(self, stream: str, seq: int, last: int) -> list[tuple[int, bytes, bytes, bytes]]:
        """All messages from `seq` to `last`."""
        found: list[tuple[int, bytes, bytes, bytes]] = []
        while seq <= last:
            some = self.batch(stream, seq, 500)
            if not some:
                break
            found += some
            seq = some[-1][0] + 1
        return found
