"""A small blocking NATS client for requests: one connection, one inbox, answers in order."""

from __future__ import annotations

import json
import socket
from typing import Self

from natsc.jetstream.api_request import Reply

TIMEOUT_S = 15  # some answers come when nats-server has waited for five seconds


class Client:
    """`unexpected` holds the subjects of messages that nobody waited for."""

    def __init__(self, port: int, user: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._file = self._socket.makefile("rb")
        self._count = 0
        self.unexpected: list[bytes] = []
        self.last_reply = b""
        self._file.readline()
        options: dict[str, object] = {"verbose": False, "headers": True, "no_responders": True}
        if user:
            options.update(user=user, **{"pass": "p"})
        self._socket.sendall(f"CONNECT {json.dumps(options)}\r\nSUB inbox.* 1\r\nPING\r\n".encode())
        assert self._file.readline() == b"PONG\r\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, subject: str, payload: bytes = b"", headers: bytes = b"") -> bytes:
        """Send a request; the subject that it is to be answered on."""
        self._count += 1
        inbox = f"inbox.{self._count}"
        size = f"{len(headers)} {len(headers) + len(payload)}" if headers else f"{len(payload)}"
        verb = "HPUB" if headers else "PUB"
        self._socket.sendall(f"{verb} {subject} {inbox} {size}\r\n".encode() + headers + payload + b"\r\n")
        return inbox.encode()

    def request(self, subject: str, payload: bytes = b"", headers: bytes = b"") -> Reply:
        return self._receive(self.send(subject, payload, headers))

    def exchange(self, subject: str, payload: bytes, headers: bytes, count: int) -> list[Reply]:
        """A request that `count` messages answer; more of them end up among the unexpected ones."""
        inbox = self.send(subject, payload, headers)
        return [self._receive(inbox) for _ in range(count)]

    def subscribe(self, subject: str) -> None:
        self._socket.sendall(f"SUB {subject} 2\r\nPING\r\n".encode())
        assert self._file.readline() == b"PONG\r\n"

    def event(self) -> tuple[str, bytes]:
        """The next message that isn't an answer: its subject and payload."""
        while True:
            subject, _, payload = self._message()
            if not subject.startswith(b"inbox."):
                return subject.decode(), payload

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> bytes:
        """The payload of whatever comes next."""
        return self._message()[2]

    def event_or_answer(self) -> bytes:
        """The subject of whatever comes next."""
        return self._message()[0]

    def deliveries(self, subject: str, payload: bytes, count: int) -> list[str]:
        """The replies of `count` messages that a request brings."""
        self.send(subject, payload)
        found = []
        for _ in range(count):
            self._message()
            found.append(self.last_reply.decode())
        return found

    def message(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Whatever comes next: subject, reply, headers, payload."""
        subject, headers, payload = self._message()
        return subject, self.last_reply, headers, payload

    def stream_names(self) -> list[str]:
        return json.loads(self.request("$JS.API.STREAM.NAMES").payload).get("streams") or []

    def _receive(self, inbox: bytes) -> Reply:
        while True:
            subject, headers, payload = self._message()
            if subject == inbox:
                return Reply(payload, headers)
            self.unexpected.append(subject)

    def _message(self) -> tuple[bytes, bytes, bytes]:
        while True:
            line = self._file.readline()
            words = line.split()
            assert words, "the connection was closed"
            if words[0] == b"PING":
                self._socket.sendall(b"PONG\r\n")
                continue
            assert words[0] in (b"MSG", b"HMSG"), line
            size = int(words[-1])
            content = self._file.read(size + 2)[:size]
            split = int(words[-2]) if words[0] == b"HMSG" else 0
            self.last_reply = words[3] if len(words) > (5 if words[0] == b"HMSG" else 4) else b""
            return words[1], content[:split], content[split:]
