"""/accountz?acc= and $SYS.REQ.ACCOUNT.<name>.INFO: mappings, exports, imports, responses that are waited for."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from natsc.jetstream.s2 import Decoder

CONFIG = """
    http: 127.0.0.1:-1
    server_name: srv
    system_account: SYS
    accounts {
        A {
            users [{user: a, password: p}]
            exports [
                {stream: "news.>"}, {stream: "priv.>", accounts: [B, C]}
                {service: "add.*"}, {service: "many.*", response_type: stream, accounts: [B], threshold: 3s}
                {service: "lat", latency: {sampling: 50%, subject: "l.s"}}
                {service: "hlat", latency: {sampling: headers, subject: "l.h"}}, {service: "swap.*.*"}
            ]
            mappings {
                "old": "new"
                "w.*": [
                    {destination: "x.$1", weight: 30%}, {destination: "y.$1", weight: 20%}
                    {destination: "z.$1", weight: 100%, cluster: "c"}
                ]
                "lost": [{destination: "lost", weight: 10}]
            }
        }
        B {
            users [{user: b, password: p}]
            imports [
                {stream: {account: A, subject: "news.>"}, to: "from.a.news.>", allow_trace: true}
                {stream: {account: A, subject: "priv.>"}, prefix: pre}
                {service: {account: A, subject: "add.*"}, to: "sum.*"}
                {service: {account: A, subject: "many.*"}, share: true}
                {service: {account: A, subject: "lat"}}, {service: {account: A, subject: "hlat"}, to: "my.hlat"}
                {service: {account: A, subject: "swap.*.*"}, to: "swapped.$2.$1"}
            ]
        }
        C {users [{user: c, password: p}], imports [{stream: {account: A, subject: "priv.*"}, to: "p.$1"}]}
        SYS {users [{user: s, password: p}]}
    }
"""


@pytest.fixture
def server(shared_server):
    return shared_server(CONFIG)


@pytest.fixture
def login(server, dial):
    def get(user: str, **options: object):
        return dial(server).ready(**{"user": user, "pass": "p", "headers": True, "no_responders": True, **options})

    return get


def detail(server, account: str) -> dict:
    return server.get(f"/accountz?acc={account}").json()["account_detail"]


def by_name(entries: list[dict]) -> list[dict]:
    return sorted(entries, key=lambda one: (one["subject"], one.get("local_subject", "")))


def service(subject: str, account: str, here: str, *, share: bool = False, **more: object) -> dict:
    return {
        "subject": subject, "account": account, "to": here, "local_subject": here, "type": "service",
        "invalid": False, "share": share, "tracking": False, **more,
    }  # fmt: skip


def stream(subject: str, here: str) -> dict:
    return {
        "subject": subject, "account": "A", "local_subject": here, "type": "stream",
        "invalid": False, "share": False, "tracking": False,
    }  # fmt: skip


def of_system(account: str) -> list[dict]:
    return [
        service(f"$SYS.REQ.ACCOUNT.{account}.CONNZ", "SYS", "$SYS.REQ.ACCOUNT.PING.CONNZ"),
        service(f"$SYS.REQ.ACCOUNT.{account}.CONNZ", "SYS", "$SYS.REQ.SERVER.PING.CONNZ"),
        service(f"$SYS.REQ.ACCOUNT.{account}.STATZ", "SYS", "$SYS.REQ.ACCOUNT.PING.STATZ"),
        service(f"$SYS.REQ.USER.{account}.INFO", "SYS", "$SYS.REQ.USER.INFO", share=True),
    ]


def test_its_form(server):
    assert list(detail(server, "A")) == [
        "account_name", "update_time", "expired", "complete", "jetstream_enabled", "leafnode_connections",
        "client_connections", "subscriptions", "mappings", "exports", "imports", "name_tag", "sublist_stats",
    ]  # fmt: skip


def test_mappings(server):
    shown = detail(server, "A")["mappings"]
    assert shown == {
        "lost": [{"subject": "lost", "weight": 10}],
        "old": [{"subject": "new", "weight": 100}],
        "w.*": [
            {"subject": "y.$1", "weight": 20}, {"subject": "x.$1", "weight": 50}, {"subject": "w.$1", "weight": 100},
            {"subject": "z.$1", "weight": 100, "cluster": "c"},
        ],
    }  # fmt: skip
    assert list(shown) == ["lost", "old", "w.*"]


def test_exports(server):
    shown = by_name(detail(server, "A")["exports"])
    for one in shown:
        one.get("approved_accounts", []).sort()
    single = {"type": "service", "response_type": "Singleton"}
    assert shown == [
        {"subject": "add.*", **single},
        {"subject": "hlat", **single, "service_latency": {"sampling": "headers", "results": "l.h"}},
        {"subject": "lat", **single, "service_latency": {"sampling": 50, "results": "l.s"}},
        {"subject": "many.*", "type": "service", "response_type": "Streamed", "approved_accounts": ["B"]},
        {"subject": "news.>", "type": "stream"},
        {"subject": "priv.>", "type": "stream", "approved_accounts": ["B", "C"]},
        {"subject": "swap.*.*", **single},
    ]


def test_imports(server):
    shown = by_name(detail(server, "B")["imports"])
    assert shown == by_name([
        stream("news.>", "from.a.news.>"), stream("priv.>", "pre.priv.>"),
        service("add.*", "A", "sum.*"), service("many.*", "A", "many.*", share=True),
        service("lat", "A", "lat", latency={"sampling": 50, "results": "l.s"}),
        service("hlat", "A", "my.hlat", latency={"sampling": "headers", "results": "l.h"}),
        service("swap.*.*", "A", "swapped.*.*"), *of_system("B"),
    ])  # fmt: skip
    assert all(list(one) == [name for name in shown[4] if name in one] for one in shown[:4])
    assert by_name(detail(server, "C")["imports"]) == by_name([stream("priv.*", "p.*"), *of_system("C")])


def test_the_system_account(server):
    shown = detail(server, "SYS")
    kinds = {one["subject"]: (one["type"], one["response_type"]) for one in shown["exports"]}
    assert kinds == {
        "$SYS.DEBUG.SUBSCRIBERS": ("service", "Singleton"),
        "$SYS.REQ.ACCOUNT.*.CONNZ": ("service", "Streamed"),
        "$SYS.REQ.ACCOUNT.*.STATZ": ("service", "Streamed"),
        "$SYS.REQ.USER.*.INFO": ("service", "Singleton"),
    }
    assert shown["imports"] == [service("$SYS.REQ.USER.SYS.INFO", "SYS", "$SYS.REQ.USER.INFO", share=True)]


def test_responses(server, login):
    responder, asker = login("a").sub("add.*").sub("hlat", 2).sub("many.*", 3), login("b").sub("inbox")
    responder.flush()
    asker.pub("sum.1", reply="inbox").pub("many.1", reply="inbox").flush()
    asker.hpub("my.hlat", b"NATS/1.0\r\nUber-Trace-Id: 1:2:3:1\r\n\r\n", reply="inbox").flush()
    shown = detail(server, "A")["responses"]
    assert len(shown) == 3 and all(re.fullmatch(r"_R_\.\w{6}\.\w{6}(\.\w+\.T)?", name) for name in shown)
    for name, one in shown.items():
        assert (one["subject"], one["account"], one["to"], one["local_subject"]) == ("inbox", "B", name, name)
        assert (one["type"], one["invalid"]) == (2, False)
    assert sorted((one["share"], one["tracking"]) for one in shown.values()) == [
        (False, False), (False, True), (True, False)
    ]  # fmt: skip
    (tracked,) = (one for one in shown.values() if one["tracking"])
    assert tracked["tracking_header"] == {"Uber-Trace-Id": ["1:2:3:1"]}
    assert tracked["latency"] == {"sampling": "headers", "results": "l.h"}
    asker.close()
    login("b").flush()
    for _ in range(1000):
        if "responses" not in detail(server, "A"):
            return
    raise AssertionError("responses are waited for although nobody listens")


def test_by_the_system_account(server, login):
    asker = login("s").sub("inbox").pub("$SYS.REQ.ACCOUNT.B.INFO", reply="inbox")
    data = json.loads(asker.op().split(b"\r\n", 1)[1])["data"]
    assert by_name(data["imports"]) == by_name(detail(server, "B")["imports"])


@pytest.mark.parametrize(
    ("accepted", "encoding"), [("gzip", b"gzip"), ("snappy", b"snappy"), ("S2", b"snappy"), ("br", b"identity")]
)
@pytest.mark.parametrize(
    "subject", ["$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.ACCOUNT.A.INFO", "$SYS.REQ.SERVER.PING.CONNZ"]
)
def test_compressed_answers(login, subject, accepted, encoding):
    asker = login("s").sub("inbox")
    op = asker.hpub(subject, f"NATS/1.0\r\nAccept-Encoding: {accepted}\r\n\r\n".encode(), reply="inbox").op()
    head, _, payload = op.split(b"\r\n", 1)[1].partition(b"\r\n\r\n")
    assert head == b"NATS/1.0\r\nContent-Encoding: " + encoding
    if encoding == b"gzip":
        payload = gzip.decompress(payload)
    elif encoding == b"snappy":
        decoder = Decoder()
        decoder.feed(payload)
        payload = b"".join(iter(lambda: decoder.next_block() or b"", b""))
    assert json.loads(payload)["server"]["name"] == "srv"


def test_what_is_not_compressed(login):
    asker = login("s").sub("inbox")
    packed = b"NATS/1.0\r\nAccept-Encoding: gzip\r\n\r\n"
    for subject, body in (("$SYS.REQ.SERVER.PING.CONNZ", b"x"), ("$SYS.REQ.SERVER.PING.STATSZ", b"")):
        assert asker.hpub(subject, packed, body, reply="inbox").op().startswith(b"MSG inbox 1 ")
