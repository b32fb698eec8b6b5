"""A conversation with JetStream over one connection, and its record: what natsc and nats-server must say alike.

What differs from run to run (times, random names) is replaced in the record.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .harness import Server

MS = 1_000_000
SECOND = 1_000_000_000
TIMEOUT_S = 5
CONFIRMATIONS = 2
CONFIG = 'server_name: srv\njetstream {{ store_dir: "{}", max_mem: 1G, max_file: 10G }}\n'
VARYING = {
    "created", "ts", "last_active", "timestamp", "id", "pinned_ts", "pause_remaining", "ack_time", "pause_until",
    "pinned_client_id", "pinned_id", "first_ts", "last_ts", "time",
}  # fmt: skip


class Talk:
    """A connection and the record of what came over it. number: of the scenario, for inboxes of its own."""

    def __init__(self, port: int, number: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.data = bytearray()
        self.inbox = f"_INBOX.{number}"
        self.record: list[str] = []
        self.replies: list[str] = []  # reply subjects of the messages that came, in order
        self.last_headers = ""
        self.early = 0  # messages that came before an API's answer and are expected behind it
        self.line()
        options = {"verbose": False, "headers": True, "no_responders": True}
        self.write(f"CONNECT {json.dumps(options)}\r\nSUB {self.inbox}.> 1\r\n")
        self.ping()

    def close(self) -> None:
        self.socket.close()

    def write(self, text: str) -> None:
        self.socket.sendall(text.encode())

    def publish(self, subject: str, payload: str = "", reply: str = "", headers: str = "") -> None:
        """reply: the last token of an inbox."""
        size = f"{len(headers)} {len(headers) + len(payload)}" if headers else f"{len(payload)}"
        inbox = f"{self.inbox}.{reply} " if reply else ""
        self.write(f"{'HPUB' if headers else 'PUB'} {subject} {inbox}{size}\r\n{headers}{payload}\r\n")

    def take(self, count: int) -> bytes:
        """That many bytes, or with 0 a line, its end included."""
        while len(self.data) < count or (count == 0 and b"\n" not in self.data):
            got = self.socket.recv(65536)
            assert got, "the connection was closed"
            self.data += got
        count = count or self.data.index(b"\n") + 1
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken

    def line(self) -> str:
        return self.take(0).decode().rstrip("\r\n")

    def read(self) -> bool:
        """One line, and the message it begins. False where it was PONG."""
        line = self.line()
        words = line.split()
        if words[0] == "PING":
            self.write("PONG\r\n")
            return self.read()
        if words[0] == "PONG":
            return False
        assert words[0] in ("MSG", "HMSG"), line
        size, hdr = int(words[-1]), int(words[-2]) if words[0] == "HMSG" else 0
        reply = words[3] if len(words) > (5 if hdr else 4) else ""
        data = self.take(size + 2)[:-2].decode()
        self.replies.append(reply)
        self.last_headers = data[:hdr]
        self.note(f"{words[1]} [{words[2]}] <- {reply} | {data[:hdr]!r} | {self.shown(data[hdr:])}")
        return True

    def note(self, text: str) -> None:
        text = text.replace(self.inbox, "_INBOX")
        text = re.sub(r"(\$JS\.ACK(?:\.[^. ]+){5})\.\d{19}\.", r"\1.TIME.", text)
        text = re.sub(r"(\$JS\.FC\.[^. ]+\.[^. ]+)\.[0-9A-Za-z]{4}\b", r"\1.FLOW", text)
        text = re.sub(r"(Nats-Pin-Id: )[0-9A-Za-z]{22}", r"\1PIN", text)
        self.record.append(text)

    def shown(self, payload: str) -> str:
        if not payload.startswith("{"):
            return payload if len(payload) < 100 else f"{len(payload)} bytes"
        value = self.steady(json.loads(payload))
        if value.get("type", "").endswith(("consumer_info_response", "stream_info_response")):
            value.pop("config", None)
        return json.dumps(value)

    def steady(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: "VARYING" if name in VARYING else self.steady(member) for name, member in value.items()}
        if isinstance(value, list) and value and isinstance(value[0], dict) and "lag" in value[0]:
            value = sorted(value, key=json.dumps)  # how sources go, in an order that isn't fixed
        return [self.steady(one) for one in value] if isinstance(value, list) else value

    def ping(self) -> None:
        """Read all that the server has sent by now."""
        self.write("PING\r\n")
        while self.read():
            pass

    def expect(self, count: int = 1, mixed: bool = False) -> None:
        """Read so many messages. mixed: in an order that isn't fixed."""
        start = len(self.record)
        early, self.early = min(self.early, count), max(self.early - count, 0)
        for _ in range(count - early):
            while not self.read():
                pass
        if mixed:
            self.record[start:] = sorted(self.record[start:])

    def nothing(self, seconds: float = 0.1) -> None:
        """Nothing comes for so long."""
        self.socket.settimeout(seconds)
        try:
            while self.read():
                pass
            self.note("something")
        except TimeoutError:
            self.note("nothing")
        finally:
            self.socket.settimeout(TIMEOUT_S)

    # JetStream

    def api(self, operation: str, body: Any = "") -> None:
        """A request and its answer. What nats-server now and then delivers before the answer is noted behind it."""
        self.publish(f"$JS.API.{operation}", body if isinstance(body, str) else json.dumps(body), "api")
        start = len(self.record)
        while not self.record[start:] or not self.record[-1].startswith("_INBOX.api "):
            while not self.read():
                pass
        self.record.insert(start, self.record.pop())
        self.early += len(self.record) - start - 1

    def stream(self, name: str, **config: Any) -> None:
        self.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.>"], "storage": "memory", **config})

    def consumer(self, stream: str, name: str, **config: Any) -> None:
        made = {"durable_name": name, "name": name, "ack_policy": "explicit", **config}
        if not made["durable_name"]:
            del made["durable_name"]
        self.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": made})

    def fill(self, *subjects: str, payload: str = "hello") -> None:
        for subject in subjects:
            self.publish(subject, payload, "puback")
            self.expect()
        time.sleep(0.02)  # nats-server tells consumers of messages behind their PubAcks

    def subscribe(self, subject: str, sid: str = "7") -> None:
        self.write(f"SUB {subject} {sid}\r\n")
        self.ping()

    def info(self, stream: str, name: str) -> None:
        self.api(f"CONSUMER.INFO.{stream}.{name}")

    def pull(self, stream: str, name: str, body: Any = "", count: int = 1, headers: str = "") -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", text, "pull", headers)
        self.expect(count)

    def ack(self, index: int, body: str = "", confirmed: bool = True) -> None:
        """Acknowledge the message that came as the index-th (negative: from the end)."""
        self.publish(self.replies[index], body, "ack" if confirmed else "")
        if confirmed:
            self.expect()


def start_both(tmp_path_factory: pytest.TempPathFactory, config: str = CONFIG) -> Iterator[list[Server]]:
    """For a fixture: natsc and nats-server, each with a store of its own."""
    running = [Server(kind, config.format(tmp_path_factory.mktemp(kind))) for kind in ("natsc", "nats-server")]
    yield running
    for server in running:
        server.close()


def both_say_the_same(servers: list[Server], run: Callable[[Talk], None], number: int) -> None:
    """Have the conversation with each, and compare the records.

    Which of nats-server's goroutines comes first is chance on a loaded machine: a difference counts if new servers,
    configured like these, show it again each time."""
    text = difference(servers, run, number)
    for _ in range(CONFIRMATIONS):
        if not text:
            return
        with contextlib.ExitStack() as stack:
            text = difference([stack.enter_context(afresh(server)) for server in servers], run, number)
    assert not text, text


@contextlib.contextmanager
def afresh(server: Server) -> Iterator[Server]:
    """Another server with this one's configuration, but for an empty store."""
    with tempfile.TemporaryDirectory() as store:
        config = re.sub(r'store_dir: "[^"]*"', f'store_dir: "{store}"', server.config_path.read_text())
        new = Server(server.kind, config, base="")
        try:
            yield new
        finally:
            new.close()


def difference(servers: list[Server], run: Callable[[Talk], None], number: int) -> str:
    """Of the records of natsc and nats-server, as a diff; empty where there is none."""
    records = []
    for server in servers:
        talk = Talk(server.port, number)
        try:
            run(talk)
            talk.ping()
        except TimeoutError:
            talk.note("timeout")
        finally:
            talk.close()
        records.append(talk.record)
    return "\n".join(difflib.unified_diff(records[1], records[0], "nats-server", "natsc", lineterm="", n=2))
