"""Consumers: the same conversation with natsc and with nats-server, message by message.

A scenario talks over one connection and records all it gets: API answers, messages with their reply subjects, statuses
with their headers. What differs from run to run (times, random names) is replaced. Both records must be equal.
"""

from __future__ import annotations

import difflib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .harness import Server

MS = 1_000_000
SECOND = 1_000_000_000
TIMEOUT_S = 5
CONFIG = 'server_name: srv\njetstream {{ store_dir: "{}", max_mem: 1G, max_file: 10G }}\n'
VARYING = {
    "created", "ts", "last_active", "timestamp", "id", "pinned_ts", "pause_remaining", "ack_time", "pause_until",
    "pinned_client_id", "pinned_id", "first_ts", "last_ts",
}  # fmt: skip

SCENARIOS: list[Callable[[Talk], None]] = []


class Talk:
    """A connection and the record of what came over it. number: of the scenario, for inboxes of its own."""

    def __init__(self, port: int, number: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.data = bytearray()
        self.inbox = f"_INBOX.{number}"
        self.record: list[str] = []
        self.replies: list[str] = []  # reply subjects of the messages that came, in order
        self.last_headers = ""
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
        return [self.steady(one) for one in value] if isinstance(value, list) else value

    def ping(self) -> None:
        """Read all that the server has sent by now."""
        self.write("PING\r\n")
        while self.read():
            pass

    def expect(self, count: int = 1, mixed: bool = False) -> None:
        """Read so many messages. mixed: in an order that isn't fixed."""
        start = len(self.record)
        for _ in range(count):
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
        self.publish(f"$JS.API.{operation}", body if isinstance(body, str) else json.dumps(body), "api")
        self.expect()

    def stream(self, name: str, **config: Any) -> None:
        self.api(
            f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.>"], "storage": "memory", **config}
        )

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


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    running = [Server(kind, CONFIG.format(tmp_path_factory.mktemp(kind))) for kind in ("natsc", "nats-server")]
    yield running
    for server in running:
        server.close()


def scenario(function: Callable[[Talk], None]) -> Callable[[Talk], None]:
    SCENARIOS.append(function)
    return function


@scenario
def pull_one_by_one(talk: Talk) -> None:
    talk.stream("PA")
    talk.consumer("PA", "C")
    talk.fill("PA.a", "PA.b", "PA.c")
    talk.info("PA", "C")
    talk.pull("PA", "C")
    talk.pull("PA", "C", "1")
    talk.ack(-2)
    talk.info("PA", "C")
    talk.ack(-3, "+ACK")
    talk.info("PA", "C")
    talk.ack(-5, "+OK")
    talk.info("PA", "C")


@scenario
def batches_and_statuses(talk: Talk) -> None:
    talk.stream("PB")
    talk.consumer("PB", "C")
    talk.fill(*["PB.a"] * 5)
    talk.pull("PB", "C", {"batch": 3}, 3)
    talk.pull("PB", "C", {"batch": 10, "no_wait": True}, 3)
    talk.pull("PB", "C", {"batch": 10, "no_wait": True})
    talk.pull("PB", "C", {"batch": 1, "no_wait": True, "expires": 100 * MS})
    talk.pull("PB", "C", {"batch": 2, "expires": 50 * MS})
    talk.pull("PB", "C", {"batch": 2, "expires": 200 * MS, "idle_heartbeat": 90 * MS}, 3)
    talk.info("PB", "C")


@scenario
def strange_requests(talk: Talk) -> None:
    talk.stream("PC")
    talk.consumer("PC", "C")
    talk.fill(*["PC.a"] * 9)
    for body in ("0", "-1", "abc", " 2 ", '{"batch":2}', '{"Batch":1}', '{"batch":1,"zzz":{}}', "{}"):
        talk.pull("PC", "C", body)
    talk.nothing()
    for body in (
        '{"batch":"x"}', "{batch", '{"batch":1', '{"batch":1.5}', '{"expires":"1s"}', '{"no_wait":1}',
        {"batch": 1, "expires": SECOND, "idle_heartbeat": 600 * MS}, {"batch": 1, "idle_heartbeat": 1},
        {"batch": 1, "min_pending": 1}, {"batch": 1, "id": "x"}, {"batch": 1, "priority": 10},
        {"batch": 1, "priority": -1},
    ):  # fmt: skip
        talk.pull("PC", "C", body)
    talk.pull("PC", "C", "1", headers="NATS/1.0\r\nNats-Required-Api-Level: 99\r\n\r\n")
    talk.pull("PC", "C", "1", headers="NATS/1.0\r\nNats-Required-Api-Level: 1\r\n\r\n")
    talk.info("PC", "C")


@scenario
def request_limits(talk: Talk) -> None:
    talk.stream("PD")
    talk.consumer("PD", "C", max_batch=5, max_expires=2 * SECOND, max_bytes=1024, max_waiting=2)
    talk.pull("PD", "C", {"batch": 6})
    talk.pull("PD", "C", {"batch": 1, "expires": 2500 * MS})
    talk.pull("PD", "C", {"batch": 1, "max_bytes": 1025})
    for _ in range(2):
        talk.pull("PD", "C", {"batch": 1, "expires": SECOND}, 0)
    talk.pull("PD", "C", {"batch": 1, "expires": SECOND})
    talk.pull("PD", "C", {"batch": 1, "expires": SECOND, "idle_heartbeat": 400 * MS}, 0)
    talk.nothing()
    talk.info("PD", "C")


@scenario
def max_bytes(talk: Talk) -> None:
    talk.stream("PE")
    talk.consumer("PE", "C", ack_policy="none")
    talk.fill(*["PE.a"] * 4, payload="x" * 100)
    talk.pull("PE", "C", {"batch": 1, "max_bytes": 50, "expires": SECOND})
    talk.pull("PE", "C", {"batch": 2, "max_bytes": 1000, "expires": SECOND}, 3)
    talk.pull("PE", "C", {"batch": 3, "max_bytes": 320, "expires": SECOND}, 3)
    talk.info("PE", "C")


@scenario
def kinds_of_acks(talk: Talk) -> None:
    talk.stream("PF")
    talk.consumer("PF", "C", ack_wait=SECOND)
    talk.fill(*["PF.a"] * 4)
    talk.pull("PF", "C", {"batch": 4}, 4)
    first = len(talk.replies) - 4
    talk.ack(first, "-NAK")
    talk.info("PF", "C")
    talk.pull("PF", "C", "1")
    talk.ack(first, "+WPI")
    talk.ack(first + 1, "+TERM")
    talk.info("PF", "C")
    talk.ack(first + 2, "+TERM no good")
    talk.ack(first + 2, "+TERM again")
    talk.ack(first + 3, "-NAK 50ms")
    talk.pull("PF", "C", {"batch": 1, "no_wait": True})
    talk.pull("PF", "C", {"batch": 1, "expires": SECOND})
    talk.ack(first + 3, '-NAK {"delay": 20000000}')
    talk.pull("PF", "C", {"batch": 1, "expires": SECOND})
    talk.ack(first + 3, "-NAK nonsense")
    talk.pull("PF", "C", {"batch": 1, "expires": SECOND})
    talk.ack(first + 3, "what is this")
    talk.info("PF", "C")
    talk.ack(first)
    talk.info("PF", "C")
    talk.ack(first + 3)
    talk.ack(first + 3)
    talk.info("PF", "C")


@scenario
def acks_for_what_was_never_delivered(talk: Talk) -> None:
    talk.stream("PG")
    talk.consumer("PG", "C")
    talk.fill("PG.a", "PG.a")
    talk.pull("PG", "C")
    talk.publish("$JS.ACK.PG.C.1.2.2.1700000000000000000.0", "", "ack")
    talk.nothing()
    talk.publish("$JS.ACK.PG.C.1.x.2.1700000000000000000.0", "", "ack")
    talk.nothing()
    talk.publish("$JS.ACK.PG.C.1.0.0.1700000000000000000.0", "", "ack")
    talk.nothing()
    talk.publish("$JS.ACK.PG.C.1.1.1.1700000000000000000.0", "", "ack")
    talk.expect()
    talk.publish("$JS.ACK.PG.C.1.1.1", "", "ack")
    talk.expect()
    talk.publish("$JS.ACK.PG.NONE.1.1.1.1.0", "", "ack")
    talk.expect()
    talk.info("PG", "C")


@scenario
def ack_and_next(talk: Talk) -> None:
    talk.stream("PH")
    talk.consumer("PH", "C")
    talk.fill(*["PH.a"] * 6)
    talk.pull("PH", "C")
    talk.ack(-1, "+NXT")
    talk.ack(-1, "+NXT 2")
    talk.expect()
    talk.ack(-1, '+NXT {"batch":1,"no_wait":true}')
    talk.info("PH", "C")


@scenario
def ack_all(talk: Talk) -> None:
    talk.stream("PI")
    talk.consumer("PI", "C", ack_policy="all", max_ack_pending=5)
    talk.fill(*["PI.a"] * 8)
    talk.pull("PI", "C", {"batch": 8, "expires": 300 * MS}, 5)
    talk.info("PI", "C")
    talk.publish(talk.replies[-4], "", "ack")
    talk.expect(4, mixed=True)
    talk.info("PI", "C")


@scenario
def ack_none(talk: Talk) -> None:
    talk.stream("PJ")
    talk.consumer("PJ", "C", ack_policy="none")
    talk.fill(*["PJ.a"] * 3)
    talk.pull("PJ", "C", "2", 2)
    talk.info("PJ", "C")
    talk.publish(talk.replies[-2], "", "ack")
    talk.expect()


@scenario
def max_ack_pending(talk: Talk) -> None:
    talk.stream("PK")
    talk.consumer("PK", "C", max_ack_pending=2)
    talk.fill(*["PK.a"] * 4)
    talk.pull("PK", "C", {"batch": 4, "expires": 5 * SECOND}, 2)
    talk.nothing()
    talk.ack(-1, confirmed=False)
    talk.expect()
    talk.ack(-1, confirmed=False)
    talk.expect()
    talk.info("PK", "C")
    talk.pull("PK", "C", {"batch": 1, "no_wait": True})
    talk.nothing()


@scenario
def redelivery(talk: Talk) -> None:
    talk.stream("PL")
    talk.consumer("PL", "C", ack_wait=100 * MS)
    talk.fill(*["PL.a"] * 3)
    talk.pull("PL", "C", "3", 3)
    talk.pull("PL", "C", {"batch": 3, "expires": 5 * SECOND}, 3)
    talk.ack(-2, confirmed=False)
    talk.pull("PL", "C", {"batch": 2, "expires": 5 * SECOND}, 2)
    talk.info("PL", "C")


@scenario
def max_deliver(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.> 9\r\n")
    talk.stream("PM")
    talk.consumer("PM", "C", ack_wait=50 * MS, max_deliver=2)
    talk.fill("PM.a", "PM.b")
    talk.pull("PM", "C", "2", 2)
    talk.pull("PM", "C", {"batch": 2, "expires": 5 * SECOND}, 2)
    talk.nothing(0.2)
    talk.info("PM", "C")
    talk.pull("PM", "C", {"batch": 2, "expires": 200 * MS}, 3)
    talk.info("PM", "C")
    talk.fill("PM.c")
    talk.pull("PM", "C")
    talk.ack(-1)
    talk.info("PM", "C")


@scenario
def max_deliver_once(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.> 9\r\n")
    talk.stream("PN")
    talk.consumer("PN", "C", ack_wait=50 * MS, max_deliver=1)
    talk.fill("PN.a", "PN.b")
    talk.pull("PN", "C", "1")
    talk.expect()
    talk.info("PN", "C")


@scenario
def backoff(talk: Talk) -> None:
    talk.stream("PO")
    talk.consumer("PO", "C", backoff=[50 * MS, 100 * MS], max_deliver=4)
    talk.fill("PO.a")
    talk.pull("PO", "C")
    for _ in range(3):
        talk.pull("PO", "C", {"batch": 1, "expires": 5 * SECOND})
    talk.info("PO", "C")


@scenario
def deliver_policies(talk: Talk) -> None:
    talk.stream("PP")
    talk.fill("PP.a", "PP.b", "PP.a", "PP.c", "PP.b")
    for name, config in {
        "ALL": {},
        "LAST": {"deliver_policy": "last"},
        "LASTB": {"deliver_policy": "last", "filter_subject": "PP.a"},
        "NEW": {"deliver_policy": "new"},
        "SEQ": {"deliver_policy": "by_start_sequence", "opt_start_seq": 3},
        "SEQ9": {"deliver_policy": "by_start_sequence", "opt_start_seq": 9},
        "TIME": {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
        "FUTURE": {"deliver_policy": "by_start_time", "opt_start_time": "2099-01-01T00:00:00Z"},
        "PER": {"deliver_policy": "last_per_subject", "filter_subject": "PP.>"},
        "PERF": {"deliver_policy": "last_per_subject", "filter_subjects": ["PP.a", "PP.b"]},
    }.items():
        talk.consumer("PP", name, **config)
        talk.info("PP", name)
    talk.fill("PP.a", "PP.d")
    for name, count in {
        "ALL": 7, "LAST": 3, "LASTB": 2, "NEW": 2, "SEQ": 5, "TIME": 7, "FUTURE": 2, "PER": 5, "PERF": 3,
    }.items():  # fmt: skip
        talk.pull("PP", name, {"batch": 10, "no_wait": True}, count + 1)
        talk.info("PP", name)
    talk.pull("PP", "SEQ9", {"batch": 10, "no_wait": True})
    talk.fill("PP.a", "PP.d", "PP.a")
    talk.pull("PP", "SEQ9", {"batch": 10, "no_wait": True}, 3)


@scenario
def empty_streams(talk: Talk) -> None:
    talk.stream("PQ")
    for policy in ("all", "last", "new"):
        talk.consumer("PQ", policy, deliver_policy=policy)
    talk.consumer("PQ", "per", deliver_policy="last_per_subject", filter_subject="PQ.>")
    talk.fill("PQ.a")
    for policy in ("all", "last", "new", "per"):
        talk.pull("PQ", policy)
        talk.info("PQ", policy)


@scenario
def filters(talk: Talk) -> None:
    talk.stream("PR")
    talk.consumer("PR", "ONE", filter_subject="PR.a.*")
    talk.consumer("PR", "TWO", filter_subjects=["PR.a.1", "PR.b.>"])
    talk.fill("PR.a.1", "PR.b.1", "PR.c", "PR.a.2", "PR.b.2.x", "PR.c")
    talk.info("PR", "ONE")
    talk.info("PR", "TWO")
    talk.pull("PR", "ONE", {"batch": 9, "no_wait": True}, 3)
    talk.pull("PR", "TWO", {"batch": 9, "no_wait": True}, 4)
    talk.info("PR", "ONE")
    talk.info("PR", "TWO")
    talk.consumer("PR", "ONE", filter_subject="PR.c")
    talk.info("PR", "ONE")
    talk.fill("PR.c")
    talk.pull("PR", "ONE", {"batch": 9, "no_wait": True}, 2)


@scenario
def removed_messages(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.> 9\r\n")
    talk.stream("PS")
    talk.consumer("PS", "C")
    talk.fill(*["PS.a"] * 6)
    talk.pull("PS", "C", "2", 2)
    talk.api("STREAM.MSG.DELETE.PS", {"seq": 1})
    talk.expect()
    talk.record[-2:] = sorted(talk.record[-2:])
    talk.info("PS", "C")
    talk.api("STREAM.MSG.DELETE.PS", {"seq": 4})
    talk.info("PS", "C")
    talk.pull("PS", "C", {"batch": 5, "no_wait": True}, 4)
    talk.info("PS", "C")


@scenario
def purges(talk: Talk) -> None:
    talk.stream("PT")
    talk.consumer("PT", "C")
    talk.fill(*["PT.a"] * 6)
    talk.pull("PT", "C", "3", 3)
    talk.api("STREAM.PURGE.PT", {"seq": 3})
    talk.info("PT", "C")
    talk.api("STREAM.PURGE.PT")
    talk.info("PT", "C")
    talk.fill("PT.a")
    talk.pull("PT", "C")
    talk.info("PT", "C")


@scenario
def events(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.> 9\r\nSUB $JS.EVENT.METRIC.> 9m\r\n")
    talk.stream("PU")
    talk.consumer("PU", "C", sample_freq="100%")
    talk.expect()
    talk.record[-2:] = sorted(talk.record[-2:])
    talk.fill("PU.a", "PU.a")
    talk.pull("PU", "C", "2", 2)
    talk.ack(-1)
    talk.expect()
    talk.publish("$JS.ACK.PU.C.1.1.1.1700000000000000000.0", "-NAK")
    talk.expect()
    talk.publish("$JS.ACK.PU.C.1.1.1.1700000000000000000.0", "+TERM because")
    talk.expect()
    talk.api("CONSUMER.DELETE.PU.C")
    talk.expect()
    talk.record[-2:] = sorted(talk.record[-2:])


@scenario
def deleted_while_somebody_waits(talk: Talk) -> None:
    talk.stream("PV")
    talk.consumer("PV", "C")
    talk.pull("PV", "C", {"batch": 1, "expires": 5 * SECOND}, 0)
    talk.info("PV", "C")
    talk.publish("$JS.API.CONSUMER.DELETE.PV.C", "", "api")
    talk.expect(2, mixed=True)
    talk.pull("PV", "C")
    talk.info("PV", "C")


@scenario
def requests_take_turns(talk: Talk) -> None:
    talk.stream("PW")
    talk.consumer("PW", "C")
    for inbox in ("one", "two"):
        talk.subscribe(f"{inbox}.PW", inbox)
        talk.write(f'PUB $JS.API.CONSUMER.MSG.NEXT.PW.C {inbox}.PW 33\r\n{{"batch":2,"expires": 5000000000}}\r\n')
        talk.nothing(0.05)
    talk.info("PW", "C")
    for number in range(4):
        talk.publish("PW.1", str(number))
        talk.expect()
    talk.info("PW", "C")


@scenario
def headers_only(talk: Talk) -> None:
    talk.stream("PX")
    talk.consumer("PX", "C", headers_only=True)
    talk.fill("PX.a")
    talk.publish("PX.b", "hello", "puback", "NATS/1.0\r\nA: b\r\n\r\n")
    talk.expect()
    talk.pull("PX", "C", "2", 2)


@scenario
def push(talk: Talk) -> None:
    talk.subscribe("push.QA")
    talk.stream("QA")
    talk.fill(*["QA.a"] * 3)
    talk.consumer("QA", "C", deliver_subject="push.QA")
    talk.expect(3)
    talk.info("QA", "C")
    talk.fill("QA.b")
    talk.expect()
    talk.ack(-1)
    talk.pull("QA", "C")
    talk.info("QA", "C")


@scenario
def push_waits_for_somebody(talk: Talk) -> None:
    talk.stream("QB")
    talk.fill(*["QB.a"] * 3)
    talk.consumer("QB", "C", deliver_subject="deliver.qb")
    talk.info("QB", "C")
    talk.nothing()
    talk.write("SUB deliver.* 7\r\n")
    talk.nothing()
    talk.write("SUB deliver.qb 8\r\n")
    talk.expect(6)
    talk.info("QB", "C")
    talk.write("UNSUB 8\r\nUNSUB 7\r\n")
    talk.ping()
    talk.nothing(0.05)
    talk.info("QB", "C")


@scenario
def push_group(talk: Talk) -> None:
    talk.stream("QC")
    talk.fill("QC.a")
    talk.consumer("QC", "C", deliver_subject="deliver.qc", deliver_group="g")
    talk.write("SUB deliver.qc 7\r\n")
    talk.nothing()
    talk.info("QC", "C")
    talk.write("UNSUB 7\r\nSUB deliver.qc g 8\r\n")
    talk.expect()
    talk.info("QC", "C")


@scenario
def push_heartbeats(talk: Talk) -> None:
    talk.subscribe("push.QD")
    talk.stream("QD")
    talk.consumer("QD", "C", deliver_subject="push.QD", idle_heartbeat=100 * MS)
    talk.expect(2)
    talk.fill("QD.a")
    talk.expect(2)


@scenario
def push_flow_control(talk: Talk) -> None:
    talk.subscribe("push.QE")
    talk.stream("QE")
    talk.fill(*["QE.a"] * 3, payload="x" * 600_000)
    talk.consumer(
        "QE", "C", ack_policy="none", deliver_subject="push.QE", flow_control=True, idle_heartbeat=200 * MS
    )
    talk.expect(5)
    talk.publish(next(reply for reply in reversed(talk.replies) if reply.startswith("$JS.FC.")))
    talk.fill(*["QE.a"] * 3, payload="x" * 600_000)
    talk.expect(3)
    talk.info("QE", "C")


@scenario
def ordered(talk: Talk) -> None:
    talk.subscribe("push.QF")
    talk.stream("QF")
    talk.fill(*["QF.a"] * 2)
    talk.consumer(
        "QF", "eph", durable_name="", ack_policy="none", max_deliver=1, mem_storage=True, num_replicas=1,
        flow_control=True, idle_heartbeat=5 * SECOND, deliver_subject="push.QF", ack_wait=79200 * SECOND,
        inactive_threshold=300 * MS,
    )  # fmt: skip
    talk.expect(2)
    talk.info("QF", "eph")
    talk.api("CONSUMER.NAMES.QF")
    talk.write("UNSUB 7\r\n")
    talk.nothing(0.5)
    talk.api("CONSUMER.NAMES.QF")


@scenario
def work_queue(talk: Talk) -> None:
    talk.stream("QG", retention="workqueue")
    talk.consumer("QG", "C")
    talk.fill(*["QG.a"] * 3)
    talk.pull("QG", "C", "2", 2)
    talk.ack(-1)
    talk.api("STREAM.INFO.QG")
    talk.ack(-3, "+TERM")
    talk.api("STREAM.INFO.QG")
    talk.info("QG", "C")


@scenario
def interest(talk: Talk) -> None:
    talk.stream("QH", retention="interest")
    talk.fill("QH.a")
    talk.consumer("QH", "A", filter_subject="QH.a")
    talk.consumer("QH", "B", ack_policy="none")
    talk.fill("QH.a", "QH.b", "QH.a")
    talk.api("STREAM.INFO.QH")
    talk.pull("QH", "B", "2", 2)
    talk.nothing(0.05)
    talk.api("STREAM.INFO.QH")
    talk.pull("QH", "A", "2", 2)
    talk.ack(-1)
    talk.info("QH", "A")
    talk.api("STREAM.INFO.QH")
    talk.api("CONSUMER.DELETE.QH.A")
    talk.nothing(0.05)
    talk.api("STREAM.INFO.QH")


@scenario
def pause(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.PAUSE.> 9\r\n")
    talk.stream("QI")
    talk.consumer("QI", "C")
    talk.fill("QI.a")
    talk.publish("$JS.API.CONSUMER.PAUSE.QI.C", '{"pause_until": "2099-01-01T00:00:00Z"}', "api")
    talk.expect(2, mixed=True)
    talk.pull("QI", "C", {"batch": 1, "no_wait": True})
    talk.pull("QI", "C", {"batch": 1, "expires": 100 * MS})
    talk.info("QI", "C")
    talk.publish("$JS.API.CONSUMER.PAUSE.QI.C", "", "api")
    talk.expect(2, mixed=True)
    talk.pull("QI", "C")


@scenario
def reset(talk: Talk) -> None:
    talk.stream("QJ")
    talk.consumer("QJ", "C")
    talk.fill(*["QJ.a"] * 5)
    talk.pull("QJ", "C", "4", 4)
    talk.ack(-4)
    talk.api("CONSUMER.RESET.QJ.C")
    talk.pull("QJ", "C")
    talk.api("CONSUMER.RESET.QJ.C", {"seq": 4})
    talk.pull("QJ", "C")
    talk.info("QJ", "C")


@scenario
def updates(talk: Talk) -> None:
    talk.stream("QK")
    talk.consumer("QK", "C", max_ack_pending=1)
    talk.fill(*["QK.a"] * 3)
    talk.pull("QK", "C", {"batch": 3, "expires": 5 * SECOND})
    talk.publish(
        "$JS.API.CONSUMER.CREATE.QK.C",
        json.dumps({
            "stream_name": "QK",
            "config": {"durable_name": "C", "name": "C", "ack_policy": "explicit", "max_ack_pending": 3, "max_waiting": 512},
        }),
    )  # fmt: skip
    talk.expect(2)
    talk.info("QK", "C")
    talk.consumer("QK", "C", ack_policy="all")
    talk.consumer("QK", "C", deliver_subject="x")


@scenario
def overflow_groups(talk: Talk) -> None:
    talk.stream("QL")
    talk.consumer("QL", "C", priority_policy="overflow", priority_groups=["g"])
    talk.info("QL", "C")
    talk.fill(*["QL.a"] * 3)
    talk.pull("QL", "C", {"batch": 1})
    talk.pull("QL", "C", {"batch": 1, "group": "zzz"})
    talk.pull("QL", "C", "1")
    talk.pull("QL", "C", {"batch": 1, "group": "g"})
    talk.pull("QL", "C", {"batch": 5, "group": "g", "min_pending": 5, "expires": 5 * SECOND}, 0)
    talk.nothing()
    talk.pull("QL", "C", {"batch": 1, "group": "g", "min_ack_pending": 2, "expires": 5 * SECOND})
    talk.info("QL", "C")


@scenario
def prioritized_groups(talk: Talk) -> None:
    talk.stream("QM")
    talk.consumer("QM", "C", priority_policy="prioritized", priority_groups=["g"])
    for inbox, priority in (("low", 5), ("high", 1), ("high2", 1)):
        talk.subscribe(f"{inbox}.QM", inbox)
        body = json.dumps({"batch": 2, "group": "g", "priority": priority, "expires": 5 * SECOND})
        talk.write(f"PUB $JS.API.CONSUMER.MSG.NEXT.QM.C {inbox}.QM {len(body)}\r\n{body}\r\n")
    talk.nothing(0.05)
    talk.info("QM", "C")
    for number in range(6):
        talk.publish("QM.a", str(number))
        talk.expect()
    talk.info("QM", "C")


@scenario
def pinned_groups(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.PINNED.> 9\r\nSUB $JS.EVENT.ADVISORY.CONSUMER.UNPINNED.> 9u\r\n")
    talk.stream("QN")
    talk.consumer("QN", "C", priority_policy="pinned_client", priority_groups=["g"], priority_timeout=SECOND)
    talk.fill(*["QN.a"] * 4)
    talk.pull("QN", "C", {"batch": 1, "group": "g", "expires": 5 * SECOND}, 2)
    pin = re.search(r"Nats-Pin-Id: (\w+)", talk.last_headers)
    if pin is None:
        talk.ping()
        pin = re.search(r"Nats-Pin-Id: (\w+)", talk.last_headers)
    talk.info("QN", "C")
    talk.pull("QN", "C", {"batch": 1, "group": "g", "expires": 5 * SECOND}, 0)
    talk.nothing()
    talk.pull("QN", "C", {"batch": 1, "group": "g", "id": "wrong"})
    assert pin is not None
    talk.pull("QN", "C", {"batch": 1, "group": "g", "id": pin[1]})
    talk.publish("$JS.API.CONSUMER.UNPIN.QN.C", '{"group":"g"}', "x")
    talk.expect(4, mixed=True)
    talk.pull("QN", "C", {"batch": 1, "group": "g", "id": pin[1]})
    talk.info("QN", "C")


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda function: function.__name__)
def test_both_say_the_same(servers: list[Server], run: Callable[[Talk], None]) -> None:
    records = []
    for server in servers:
        talk = Talk(server.port, SCENARIOS.index(run))
        try:
            run(talk)
            talk.ping()
        except TimeoutError:
            talk.note("timeout")
        finally:
            talk.close()
        records.append(talk.record)
    difference = difflib.unified_diff(records[1], records[0], "nats-server", "natsc", lineterm="", n=2)
    assert not (text := "\n".join(difference)), text
