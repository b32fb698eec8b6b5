"""What monitoring shows of JetStream, by HTTP and in the system account: both servers say the same."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .harness import TIMEOUT_S, Server, Wire

CONFIG = """
server_name: srv
http: 127.0.0.1:-1
jetstream { store_dir: "STORE", max_memory_store: 64MB, max_file_store: 256MB, limits { max_ack_pending: 100 } }
accounts {
    A { users: [{user: a, password: p}]
        jetstream { max_memory: 10MB, max_file: 100MB, max_streams: 9, max_consumers: 20, max_ack_pending: 77 } }
    B { jetstream: enabled, users: [{user: b, password: p}] }
    C { users: [{user: c, password: p}] }
    SYS { users: [{user: s, password: p}] }
}
system_account: SYS
"""
STREAMS: list[tuple[str, dict[str, Any]]] = [
    ("a", {"name": "F", "subjects": ["f.>"], "storage": "file", "max_bytes": 1 << 20, "metadata": {"x": "y"}}),
    ("a", {"name": "M", "subjects": ["m"], "storage": "memory", "max_msgs": 50, "max_age": 3600_000_000_000}),
    ("a", {"name": "MIR", "storage": "memory", "mirror": {"name": "F"}}),
    ("a", {"name": "SRC", "storage": "file", "sources": [{"name": "M", "filter_subject": "m"}, {"name": "GONE"}]}),
    ("b", {"name": "K", "subjects": ["k.*"], "storage": "file", "max_msgs_per_subject": 1, "allow_direct": True}),
    ("b", {"name": "E", "subjects": ["e"], "storage": "file"}),
]
CONSUMERS: list[tuple[str, str, dict[str, Any]]] = [
    ("a", "F", {"name": "PULL", "durable_name": "PULL", "ack_policy": "explicit", "max_ack_pending": 10}),
    ("a", "F", {"name": "PUSH", "durable_name": "PUSH", "ack_policy": "none", "deliver_subject": "there"}),
    ("a", "F", {"name": "EPH", "ack_policy": "all", "filter_subject": "f.b", "inactive_threshold": 3600_000_000_000}),
    ("a", "M", {"name": "GRP", "ack_policy": "explicit", "priority_groups": ["g"], "priority_policy": "overflow"}),
    ("b", "K", {"name": "LAST", "durable_name": "LAST", "ack_policy": "explicit", "deliver_policy": "last"}),
]
VARYING = {
    "server_id", "id", "now", "start", "uptime", "mem", "cpu", "cores", "gomaxprocs", "created", "ts", "first_ts",
    "last_ts", "last_active", "active", "time", "timestamp", "config_load_time", "port", "http_port", "config_digest",
    "pid", "max_pending_bytes", "update_time", "error",
}  # fmt: skip
# What differs and is named in docs/differences.md.
NAMED = {
    "store_dir", "sync_always", "sync_interval",
    "num_cache", "num_inserts", "num_matches", "num_removes", "cache_hit_rate", "max_fanout", "avg_fanout",
}  # fmt: skip
MIXED = {"lag", "share", "response_type", "cluster", "num_waiting", "acc", "token_req"}


class Asker:
    """A client of one server for each of its users."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.wires = {user: Wire(server).ready(user=user, **{"pass": "p"}, no_responders=True) for user in "abcs"}
        for wire in self.wires.values():
            wire.sub("_INBOX.>", 1)
            wire.flush()

    def ask(self, user: str, subject: str, body: Any = "") -> dict[str, Any] | None:
        """The answer to a request; None for "no responders"."""
        payload = body if isinstance(body, str) else json.dumps(body)
        head, _, text = self.wires[user].pub(subject, payload, "_INBOX.x").op().partition(b"\r\n")
        if head.startswith(b"HMSG"):
            text = text[int(head.split()[-2]) :]
        return json.loads(text) if text else None

    def api(self, user: str, operation: str, body: Any = "") -> dict[str, Any]:
        answer = self.ask(user, f"$JS.API.{operation}", body)
        assert answer is not None and "error" not in answer, answer
        return answer

    def until(self, stream: str, messages: int) -> None:
        """Until a stream of account A has so many messages; not by the API, whose requests are counted."""

        def has() -> bool:
            [account] = self.server.get("/jsz?acc=A&streams=1").json()["account_details"]
            return any(
                one["name"] == stream and one["state"]["messages"] == messages for one in account["stream_detail"]
            )

        self.wait(has, f"{stream} has {messages} messages")

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not is_so():
            assert time.monotonic() < deadline, f"never: {what}"
            time.sleep(0.02)


def furnish(asker: Asker) -> None:
    for user, config in STREAMS:
        asker.api(user, f"STREAM.CREATE.{config['name']}", config)
    for user, stream, config in CONSUMERS:
        asker.api(user, f"CONSUMER.CREATE.{stream}.{config['name']}", {"stream_name": stream, "config": config})
    for subject in ("f.a", "f.b", "f.b", "f.c", "f.c"):
        assert "seq" in (asker.ask("a", subject, "12345") or {})
    asker.ask("a", "m", "x")
    for subject in ("k.a", "k.a", "k.b"):
        asker.ask("b", subject, "value")
    asker.until("MIR", 5)
    asker.until("SRC", 1)
    asker.api("a", "STREAM.MSG.DELETE.F", {"seq": 4})
    # Three are delivered, one of them is acknowledged.
    wire = asker.wires["a"].pub("$JS.API.CONSUMER.MSG.NEXT.F.PULL", "3", "_INBOX.m")
    replies = [op.split(b"\r\n")[0].split()[3].decode() for op in wire.ops(3)]
    asker.ask("a", replies[1], "+ACK")
    asker.ask("a", "$JS.API.STREAM.INFO.NONE")
    # nats-server asks for a consumer of GONE some time after the stream was made.
    asker.wait(lambda: asker.server.varz()["jetstream"]["stats"]["api"]["errors"] == 2, "GONE is refused")


@pytest.fixture(scope="module")
def askers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Asker]]:
    """Of natsc and of nats-server; both have the same streams, consumers and messages."""
    running = [
        Server(kind, CONFIG.replace("STORE", str(tmp_path_factory.mktemp("store"))))
        for kind in ("natsc", "nats-server")
    ]
    found = [Asker(server) for server in running]
    for asker in found:
        furnish(asker)
    yield found
    for server in running:
        server.close()


def steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: "VARYING" if name in VARYING and not isinstance(member, dict) else steady(member)
            for name, member in value.items()
            if name not in NAMED
        }
    if isinstance(value, list):
        shown = [steady(one) for one in value]
        # Sources, streams, accounts, imports and exports come in an order that isn't fixed.
        if value and (
            isinstance(value[0], str)
            or (isinstance(value[0], dict) and any(MIXED & one.keys() for one in value if isinstance(one, dict)))
        ):
            shown.sort(key=json.dumps)
        return shown
    if isinstance(value, str):
        return re.sub(r"(JS_MIRROR_|JS_SRC_|\$JS\.[MS]\.)([0-9A-Za-z]{8}-)?[0-9A-Za-z]{8}$", r"\1\2RANDOM", value)
    return value


def shown(value: Any) -> list[str]:
    """A line a member, in order."""
    return json.dumps(steady(value), indent=1).splitlines()


def compare(askers: list[Asker], ask: Any) -> Any:
    ours, theirs = (ask(asker) for asker in askers)
    assert shown(ours) == shown(theirs)
    return theirs


def compare_http(askers: list[Asker], path: str) -> Any:
    def get(asker: Asker) -> Any:
        answer = asker.server.get(path)
        text = answer.body.decode()
        body = json.loads(text) if text.startswith(("{", "[")) else text
        return {"status": answer.status, "type": answer.headers.get("content-type"), "body": body}

    return compare(askers, get)


def products(*options: str) -> list[str]:
    return ["&".join(filter(None, chosen)) for chosen in itertools.product(*(("", one) for one in options))]


QUERIES = [
    *products("accounts=1", "streams=1", "consumers=1", "config=1", "direct-consumers=1"),
    *products("acc=A", "streams=true", "consumers=true", "config=true"),
    "acc=B&consumers=1&config=1", "acc=C", "acc=SYS", "acc=NONE", "acc=NONE&streams=1", "acc=A&accounts=1",
    "accounts=1&offset=1", "accounts=1&limit=1", "accounts=1&offset=1&limit=1", "accounts=1&offset=9",
    "accounts=1&limit=0", "streams=1&offset=1", "streams=1&offset=-1", "consumers=1&limit=1",
    "raft=1", "raft=1&streams=1&consumers=1", "leader-only=1", "leader-only=1&accounts=1", "stream-leader-only=1",
    "stream-leader-only=1&streams=1&consumers=1", "accounts=x", "limit=x", "offset=x", "streams=2", "config=yes",
    "leader_only=1", "bogus=1",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_jsz(askers, query):
    compare_http(askers, f"/jsz?{query}")


def test_jsz_shows_what_there_is(askers):
    [account_a, account_b] = compare_http(askers, "/jsz?accounts=1&consumers=1")["body"]["account_details"]
    streams = {stream["name"]: stream for stream in account_a["stream_detail"]}
    assert sorted(streams) == ["F", "M", "MIR", "SRC"]
    pull = next(one for one in streams["F"]["consumer_detail"] if one["name"] == "PULL")
    assert (pull["num_ack_pending"], pull["num_pending"]) == (2, 1)
    assert account_b["name"] == "B"


HEALTH = [
    "", "js-enabled=1", "js-enabled-only=1", "js-server-only=1", "js-meta-only=1", "account=A", "account=NONE",
    "account=C", "account=A&stream=F", "account=A&stream=NONE", "account=A&stream=F&consumer=PULL",
    "account=A&stream=F&consumer=NONE", "account=B&stream=F", "stream=F", "account=A&consumer=PULL", "consumer=PULL",
    "account=NONE&stream=F&consumer=PULL", "account=A&stream=NONE&consumer=PULL", "js-server-only=1&account=NONE",
    "js-enabled-only=1&account=NONE", "js-meta-only=1&account=NONE", "account=SYS", "js-enabled=x", "details=x",
]  # fmt: skip


@pytest.mark.parametrize("query", [*HEALTH, *(f"details=true&{query}" for query in HEALTH[:-1])])
def test_healthz(askers, query):
    def get(asker: Asker) -> Any:
        answer = asker.server.get(f"/healthz?{query}")
        return [answer.status, answer.headers.get("content-type"), answer.body.decode()]

    compare(askers, get)


def test_varz(askers):
    compare(askers, lambda asker: asker.server.varz()["jetstream"])


@pytest.mark.parametrize("query", ["", "unused=1", "unused=true&accounts=A", "accounts=A"])
def test_accstatz(askers, query):
    """But for subscriptions, and bytes: those of messages with names in them that differ in length."""

    def ask(asker: Asker) -> Any:
        found = asker.server.get(f"/accstatz?{query}").json()["account_statz"]
        for entry in found:
            entry["num_subscriptions"] = entry["sent"]["bytes"] = entry["received"]["bytes"] = 0
        return found

    compare(askers, ask)


@pytest.mark.parametrize("account", ["A", "B", "C", "SYS", "$G"])
def test_accountz(askers, account):
    """But for the number of subscriptions."""
    compare(askers, lambda asker: {**asker.server.get(f"/accountz?acc={account}").json()["account_detail"],
                                   "subscriptions": 0, "sublist_stats": 0})  # fmt: skip


def test_accountz_names_accounts(askers):
    compare_http(askers, "/accountz")


# -- in the system account --------------------------------------------------------------------------------------------


def without_server(answer: Any) -> Any:
    """`seq` counts what nobody heard, too."""
    if isinstance(answer, dict) and "server" in answer:
        return {**answer, "server": {**answer["server"], "seq": 0}}
    return answer


REQUESTS: list[tuple[str, Any]] = [
    ("SERVER.PING.JSZ", ""), ("SERVER.PING.JSZ", {"accounts": True}), ("SERVER.PING.JSZ", {"streams": True}),
    ("SERVER.PING.JSZ", {"consumer": True, "config": True}), ("SERVER.PING.JSZ", {"account": "A"}),
    ("SERVER.PING.JSZ", {"account": "A", "streams": True, "consumer": True, "config": True, "direct_consumer": True}),
    ("SERVER.PING.JSZ", {"account": "NONE"}), ("SERVER.PING.JSZ", {"accounts": True, "offset": 1}),
    ("SERVER.PING.JSZ", {"accounts": True, "limit": 1}), ("SERVER.PING.JSZ", {"leader_only": True}),
    ("SERVER.PING.JSZ", {"raft": True, "stream_leader_only": True, "accounts": True}),
    ("SERVER.PING.JSZ", {"account": 7}), ("SERVER.PING.JSZ", "{"),
    ("SERVER.PING.JSZ", {"server_name": "srv", "exact_match": True}),
    ("SERVER.PING.HEALTHZ", ""), ("SERVER.PING.HEALTHZ", {"account": "NONE"}),
    ("SERVER.PING.HEALTHZ", {"account": "NONE", "details": True}), ("SERVER.PING.HEALTHZ", {"stream": "F"}),
    ("SERVER.PING.HEALTHZ", {"account": "A", "stream": "NONE", "details": True}),
    ("SERVER.PING.HEALTHZ", {"account": "A", "stream": "F", "consumer": "NONE", "details": True}),
    ("SERVER.PING.HEALTHZ", {"js-enabled": True}), ("SERVER.PING.HEALTHZ", {"js-server-only": True}),
    ("SERVER.PING.RAFTZ", ""), ("SERVER.PING.RAFTZ", {"account": "A"}), ("SERVER.PING.RAFTZ", {"group": "g"}),
    ("ACCOUNT.A.JSZ", ""), ("ACCOUNT.B.JSZ", {"streams": True, "consumer": True, "config": True}),
    ("ACCOUNT.A.JSZ", {"account": "B", "consumer": True}), ("ACCOUNT.C.JSZ", ""), ("ACCOUNT.NONE.JSZ", ""),
    ("ACCOUNT.SYS.JSZ", ""), ("ACCOUNT.$G.JSZ", ""),
    ("SERVER.PING.CONNZ", {"filter_subject": "x"}), ("SERVER.PING.CONNZ", {"filter_subject": ">"}),
    ("SERVER.PING.CONNZ", {"filter_subject": "_INBOX.x", "acc": "B", "subscriptions": True}),
    ("SERVER.PING.CONNZ", {"filter_subject": "nothing", "acc": "B"}),
    ("ACCOUNT.B.CONNZ", {"filter_subject": "_INBOX.>"}),
    ("ACCOUNT.B.CONNZ", {"filter_subject": "nothing"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "body"), REQUESTS, ids=lambda part: part if isinstance(part, str) else json.dumps(part)
)
def test_requests(askers, subject, body):
    def ask(asker: Asker) -> Any:
        answer = without_server(asker.ask("s", f"$SYS.REQ.{subject}", body))
        if "CONNZ" in subject:
            for entry in ((answer or {}).get("data") or {}).get("connections") or ():
                for name in ("rtt", "idle", "last_activity", "out_bytes", "pending_bytes"):
                    entry.pop(name, None)
        return answer

    compare(askers, ask)


@pytest.mark.parametrize("user", ["a", "c"], ids=["JetStream", "no JetStream"])
def test_requests_of_accounts_with_jetstream_are_counted(askers, user):
    def ask(asker: Asker) -> Any:
        before = asker.server.varz()["jetstream"]["stats"]["api"]
        assert "error" in (asker.ask(user, "$JS.API.INFO" if user == "c" else "$JS.API.STREAM.INFO.NONE") or {})
        after = asker.server.varz()["jetstream"]["stats"]["api"]
        return [after["total"] - before["total"], after["errors"] - before["errors"]]

    compare(askers, ask)


def test_statsz(askers):
    """Its jetstream block, and who is counted as active."""

    def ask(asker: Asker) -> Any:
        found = asker.ask("s", "$SYS.REQ.SERVER.PING.STATSZ")
        assert found is not None
        return [found["server"] | {"seq": 0}, found["statsz"]["jetstream"], found["statsz"]["active_accounts"]]

    compare(askers, ask)


def test_varz_by_message(askers):
    def ask(asker: Asker) -> Any:
        found = asker.ask("s", "$SYS.REQ.SERVER.PING.VARZ")
        assert found is not None
        return [list(found["data"]), found["data"]["jetstream"]]

    compare(askers, ask)


@pytest.mark.parametrize(
    ("user", "subject", "body"),
    [("s", "$SYS.REQ.ACCOUNT.B.STATZ", ""), ("s", "$SYS.REQ.ACCOUNT.PING.STATZ", {"accounts": ["B", "C"]}),
     ("s", "$SYS.REQ.ACCOUNT.NONE.STATZ", {"include_unused": True}), ("b", "$SYS.REQ.ACCOUNT.PING.STATZ", "")],
)  # fmt: skip
def test_account_statistics(askers, user, subject, body):
    """But for bytes of messages with names in them that differ in length."""

    def ask(asker: Asker) -> Any:
        found = without_server(asker.ask(user, subject, body))
        for entry in ((found or {}).get("data") or {}).get("account_statz") or ():
            entry["sent"]["bytes"] = entry["received"]["bytes"] = entry["num_subscriptions"] = 0
        if found:
            found["data"]["account_statz"] = sorted(found["data"]["account_statz"], key=lambda entry: entry["acc"])
        return found

    compare(askers, ask)


def test_account_connections(askers):
    def ask(asker: Asker) -> Any:
        found = without_server(asker.ask("s", "$SYS.REQ.ACCOUNT.C.CONNS"))
        assert found is not None
        return {**found, "num_subscriptions": 0, "sent": 0, "received": 0}

    compare(askers, ask)


LINKS = """
server_name: srv
http: 127.0.0.1:-1
accounts {
    X { users: [{user: a, password: p}]
        exports: [{stream: "s.>"}, {stream: "private.*", accounts: [Y]}, {service: "svc.*"},
            {service: "many", response_type: stream, accounts: [Y]},
            {service: "measured", latency: {sampling: 50%, subject: "lat"}},
            {service: "traced", latency: {sampling: headers, subject: "lat"}}]
        mappings { one: two, "w.*": [{destination: "x.$1", weight: 20%}, {destination: "y.$1", weight: 30%}]
            full: [{destination: f1, weight: 60%}, {destination: f2, weight: 40%}]
            there: [{destination: c1, weight: 100%, cluster: C}, {destination: c2, weight: 100%}] } }
    Y { users: [{user: b, password: p}]
        imports: [{stream: {account: X, subject: "s.>"}}, {stream: {account: X, subject: "private.a"}, prefix: "pre"},
            {stream: {account: X, subject: "s.a.*"}, to: "mine.*"}, {service: {account: X, subject: "svc.x"}},
            {service: {account: X, subject: many}, to: "all.of.them", share: true}] }
    SYS { users: [{user: s, password: p}] }
}
system_account: SYS
"""


@pytest.mark.parametrize("account", ["X", "Y", "SYS", "$G"])
def test_accountz_has_exports_imports_and_mappings(account):
    """JetStream or not."""
    found = []
    for kind in ("natsc", "nats-server"):
        server = Server(kind, LINKS)
        try:
            found.append({**server.get(f"/accountz?acc={account}").json()["account_detail"], "subscriptions": 0})
        finally:
            server.close()
    for detail in found:
        del detail["sublist_stats"]
        if "mappings" in detail:
            detail["mappings"] = dict(sorted(detail["mappings"].items()))
    assert shown(found[0]) == shown(found[1])


def test_the_health_of_a_stream_in_memory(askers):
    """nats-server looks for streams on the disk."""
    ours, theirs = (asker.server.get("/healthz?account=A&stream=M") for asker in askers)
    assert (ours.status, theirs.status) == (200, 404)


# -- limits that monitoring shows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("default", "stream", "account", "allowed"),
    [(2, -1, -1, 2), (2, 3, -1, 3), (2, -1, 4, 4), (-1, -1, -1, 5), (2, 1, -1, 1)],
)
def test_the_default_number_of_consumers(server_kind, start, tmp_path, default, stream, account, allowed):
    """It counts where neither the stream nor its account has a limit."""
    server = start(
        f"""jetstream {{ store_dir: "{tmp_path}", limits {{ default_max_consumers: {default} }} }}
        http: 127.0.0.1:-1
        accounts {{ A {{ jetstream: {{ max_consumers: {account} }}, users: [{{user: a, password: p}}] }} }}"""
    )
    assert server.varz()["jetstream"]["limits"] == {"default_max_consumers": default}
    wire = Wire(server).ready(user="a", **{"pass": "p"}).sub("_INBOX.x", 1)
    config = {"name": "S", "subjects": ["s"], "max_consumers": stream}
    wire.pub("$JS.API.STREAM.CREATE.S", json.dumps(config), "_INBOX.x").op()
    for number in range(5):
        body = {"stream_name": "S", "config": {"name": f"C{number}", "ack_policy": "none"}}
        answer = wire.pub(f"$JS.API.CONSUMER.CREATE.S.C{number}", json.dumps(body), "_INBOX.x").op()
        assert (b'"err_code":10026' in answer) == (number >= allowed), answer
    wire.close()
