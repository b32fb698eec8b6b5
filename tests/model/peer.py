"""A server under the model test, and one raw connection to it that sorts what comes by whom it is for.

Whatever a server sends is an event in `got`, under the number of the request that it answers (negative: -number) or of
the subscription that it came on:

    ("json", {...})                                     a JSON answer
    ("raw", subject, headers, body)                     any other answer
    ("msg", subject, headers, body, deliveries, stream sequence, consumer sequence, pending)
    ("status", headers)                                 a status on a pull request's or deliver subject
"""

from __future__ import annotations

import json
import signal
import socket
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.conformance.harness import Server

TIMEOUT_S = 10.0
# Syncing costs time that a test about answers needn't spend; a killed process loses nothing by that.
CONFIG = 'server_name: srv\njetstream {{ store_dir: "{}", max_mem: 1G, max_file: 10G, sync_interval: "2m" }}\n'
Event = tuple[Any, ...]


class Peer:
    """One connection. Inboxes are _R.<number> for answers; others are subscribed to as they are needed."""

    def __init__(self, process: Process) -> None:
        self.name = process.kind
        self.process = process
        self.got: dict[int, list[Event]] = defaultdict(list)
        self.data = b""
        self.connect()

    def connect(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.process.port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        self.got.clear()
        self.pongs = 0
        self.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB _R.* 1\r\n')
        self.fence()

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def fence(self) -> None:
        """Read what the server has sent by now."""
        self.write(b"PING\r\n")
        pongs = self.pongs
        deadline = time.monotonic() + TIMEOUT_S
        while self.pongs == pongs:
            assert self.fill(deadline - time.monotonic()), f"{self.name}: no PONG"

    def wait(self, wanted: dict[int, int], seconds: float) -> None:
        """Read until there are so many events, or the time is up."""
        deadline = time.monotonic() + seconds
        while any(len(self.got[key]) < count for key, count in wanted.items()):
            if not self.fill(deadline - time.monotonic()):
                return

    def fill(self, seconds: float) -> bool:
        """Read something. False where nothing comes within the time."""
        if seconds <= 0:
            return False
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(1 << 18)
        except TimeoutError:
            return False
        assert data, f"{self.name}: the connection was closed; unread: {self.data!r}"
        self.data = self.parse(self.data + data)
        return True

    def parse(self, data: bytes) -> bytes:
        """Take in what is whole; the rest."""
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            words = data[at:end].split()
            if words[0] == b"PONG":
                self.pongs += 1
            elif words[0] == b"PING":
                self.write(b"PONG\r\n")
            elif words[0] in (b"MSG", b"HMSG"):
                size = int(words[-1])
                if len(data) < end + 4 + size:
                    break
                hdr_len = int(words[-2]) if words[0] == b"HMSG" else 0
                reply = words[3] if len(words) > (5 if hdr_len else 4) else b""
                payload = data[end + 2 : end + 2 + size]
                self.take(words[1], int(words[2]), reply, payload[:hdr_len], payload[hdr_len:])
                end += 2 + size
            else:
                assert words[0] == b"INFO", f"{self.name}: {data[at:end]!r}"
            at = end + 2
        return data[at:]

    def take(self, subject: bytes, sid: int, reply: bytes, headers: bytes, body: bytes) -> None:
        if sid == 1:
            event: Event = ("raw", subject, headers, body)
            if body[:1] == b"{" and not headers:
                event = ("json", json.loads(body))
            self.got[-int(subject[3:])].append(event)
        elif reply.startswith(b"$JS.ACK."):
            dc, sseq, dseq, _, pending = map(int, reply.split(b".")[4:])
            self.got[sid].append(("msg", subject, headers, body, dc, sseq, dseq, pending))
        else:
            self.got[sid].append(("status", headers) if headers else ("raw", subject, headers, body))

    def begin_anew(self) -> None:
        """With a new connection, and a new process if there is none any more."""
        self.close()
        self.process.revive()
        self.connect()

    def restart(self, number: int) -> None:
        """End the server by a signal and start it again, with nobody connected meanwhile."""
        self.close()
        self.process.restart(number)
        self.connect()

    def close(self) -> None:
        self.socket.close()


class Process:
    """A server with a store that outlives it."""

    def __init__(self, kind: str, store: Path) -> None:
        self.kind = kind
        self.store = store
        self.start()

    def start(self) -> None:
        self.server = Server(self.kind, CONFIG.format(self.store))
        self.port = self.server.port

    def restart(self, number: int = signal.SIGTERM) -> None:
        """End it, by a signal, and start it again on the same store."""
        self.server.signal(number)
        self.server.wait()
        self.server.close()
        self.start()

    def revive(self) -> None:
        if self.server.process.poll() is not None:
            print(f"{self.kind} has ended:", *self.server.log[-30:], sep="\n", flush=True)
            self.server.close()
            self.start()

    def close(self) -> None:
        self.server.close()
