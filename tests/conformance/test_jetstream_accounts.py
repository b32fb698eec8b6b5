"""JetStream across accounts: its API, its consumers and its advisories through imports and exports."""

from __future__ import annotations

import json
import re
import time

import pytest

CONFIG = """
    jetstream {{store_dir: "{}"}}
    server_name: srv
    accounts {{
        JS {{
            users [{{user: js, password: p}}]
            jetstream: enabled
            exports [
                {{service: "ORDERS.*"}}
                {{service: "$JS.API.CONSUMER.MSG.NEXT.*.*", response: stream}}
                {{service: "$JS.API.>"}}
                {{service: "$JS.ACK.ORDERS.*.>"}}
                {{stream: "deliver.*"}}
                {{stream: "foo.*"}}
                {{stream: "$JS.EVENT.ADVISORY.>"}}
            ]
            imports [{{service: {{account: AGG, subject: "$JS.EVENT.ADVISORY.ACC.JS.>"}}, to: "$JS.EVENT.ADVISORY.>"}}]
        }}
        IU {{
            users [{{user: iu, password: p}}]
            imports [
                {{service: {{account: JS, subject: "ORDERS.*"}}, to: "my.orders.$1"}}
                {{service: {{account: JS, subject: "$JS.API.CONSUMER.MSG.NEXT.ORDERS.d"}}, to: "nxt.msg"}}
                {{service: {{account: JS, subject: "$JS.API.CONSUMER.MSG.NEXT.*.*"}}}}
                {{service: {{account: JS, subject: "$JS.ACK.ORDERS.*.>"}}}}
                {{stream: {{account: JS, subject: "deliver.ORDERS"}}, to: "d"}}
                {{stream: {{account: JS, subject: "foo.*"}}, to: "bar.*"}}
                {{stream: {{account: JS, subject: "$JS.EVENT.ADVISORY.>"}}, to: "adv.>"}}
            ]
        }}
        ALL {{
            users [{{user: all, password: p}}]
            imports [{{service: {{account: JS, subject: "$JS.API.>"}}, to: "jsapi.>"}}]
            exports [{{service: "jsapi.>"}}]
        }}
        CH {{
            users [{{user: ch, password: p}}]
            imports [{{service: {{account: ALL, subject: "jsapi.>"}}, to: "chapi.>"}}]
        }}
        AGG {{
            users [{{user: agg, password: p}}]
            exports [{{service: "$JS.EVENT.ADVISORY.ACC.*.>", account_token_position: 5}}]
        }}
    }}
"""
STREAM = {"name": "ORDERS", "subjects": ["ORDERS.*"], "storage": "memory"}


@pytest.fixture(scope="module")
def stream_server(shared_server, tmp_path_factory):
    return shared_server(CONFIG.format(tmp_path_factory.mktemp("store")))


@pytest.fixture
def login(stream_server, dial):
    def get(user: str, **options: object):
        return dial(stream_server).ready(user=user, **{"pass": "p", "no_responders": True, **options}).sub("in")

    return get


def ask(wire, subject: str, body: object = None) -> dict:
    wire.pub(subject, json.dumps(body) if body is not None else "", reply="in")
    return json.loads(wire.op().split(b"\r\n", 1)[1])


@pytest.fixture
def owner(login):
    """A client of the account with JetStream, where there is a new stream."""
    wire = login("js", name="js")
    ask(wire, "$JS.API.STREAM.DELETE.ORDERS")
    assert ask(wire, "$JS.API.STREAM.CREATE.ORDERS", STREAM)["did_create"]
    return wire


def consumer(owner, name: str, **config: object) -> None:
    config = {"name": name, "durable_name": name, "ack_policy": "explicit", **config}
    answer = ask(owner, f"$JS.API.CONSUMER.CREATE.ORDERS.{name}", {"stream_name": "ORDERS", "config": config})
    assert "error" not in answer, answer


def event(op: bytes) -> tuple[str, dict]:
    """(subject, what an advisory says)."""
    return op.split()[1].decode(), json.loads(op[op.index(b'{"type"') :])


class TestStream:
    def test_publishing_into_it(self, owner, login):
        user = login("iu").pub("my.orders.x", "1", reply="in")
        assert user.op().endswith(b'{"stream":"ORDERS","seq":1}')

    def test_pulling_and_acknowledging(self, owner, login):
        consumer(owner, "d")
        user = login("iu")
        user.pub("my.orders.foo", "O1", reply="in").op()
        got = user.pub("nxt.msg", reply="in").op()
        assert re.fullmatch(rb"MSG ORDERS\.foo 1 \$JS\.ACK\.ORDERS\.d\.1\.1\.1\.\d+\.0 2\r\nO1", got)
        assert user.pub(got.split()[3].decode(), "+ACK", reply="in").op() == b"MSG in 1 0\r\n"
        assert ask(owner, "$JS.API.CONSUMER.INFO.ORDERS.d")["num_ack_pending"] == 0

    def test_many_at_once(self, owner, login):
        consumer(owner, "d")
        for _ in range(3):
            owner.pub("ORDERS.x", "m", reply="in").op()
        user = login("iu").sub("many", 2)
        user.pub("$JS.API.CONSUMER.MSG.NEXT.ORDERS.d", '{"batch":3}', reply="many")
        assert [op.split()[:3] for op in user.ops(3)] == [[b"MSG", b"ORDERS.x", b"2"]] * 3

    def test_who_waits_and_goes(self, owner, login):
        consumer(owner, "d")
        user = login("iu").sub("many", 2)
        user.pub("$JS.API.CONSUMER.MSG.NEXT.ORDERS.d", '{"batch":3}', reply="many").flush()
        assert ask(owner, "$JS.API.CONSUMER.INFO.ORDERS.d")["num_waiting"] == 1
        user.lines("UNSUB 2").flush()
        deadline = time.monotonic() + user.timeout
        while ask(owner, "$JS.API.CONSUMER.INFO.ORDERS.d")["num_waiting"]:
            assert time.monotonic() < deadline
        owner.pub("ORDERS.x", "m", reply="in").op()
        assert ask(owner, "$JS.API.CONSUMER.INFO.ORDERS.d")["num_ack_pending"] == 0

    @pytest.mark.parametrize(("subject", "listened"), [("deliver.ORDERS", "d"), ("foo.ORDERS", "bar.ORDERS")])
    @pytest.mark.parametrize("queue", [None, "q"])
    def test_pushing(self, owner, login, subject, listened, queue):
        user = login("iu").sub(listened, 2, queue)
        user.flush()
        owner.pub("ORDERS.x", "m", reply="in").op()
        consumer(owner, "p", deliver_subject=subject, **({"deliver_group": queue} if queue else {}))
        assert re.fullmatch(rb"MSG ORDERS\.x 2 \$JS\.ACK\.ORDERS\.p\.1\.1\.1\.\d+\.0 1\r\nm", user.op())
        assert ask(owner, "$JS.API.CONSUMER.INFO.ORDERS.p")["push_bound"]

    def test_pushing_waits_for_a_listener(self, owner, login):
        consumer(owner, "p", deliver_subject="deliver.ORDERS")
        owner.pub("ORDERS.x", "m", reply="in").op()
        info = ask(owner, "$JS.API.CONSUMER.INFO.ORDERS.p")
        assert info["num_pending"] == 1 and not info.get("push_bound")
        user = login("iu").sub("d", 2)
        assert user.op().startswith(b"MSG ORDERS.x 2 ")


class TestAPI:
    def test_of_another_account(self, owner, login):
        user = login("all")
        assert ask(user, "jsapi.INFO")["streams"] == 1
        assert ask(user, "jsapi.STREAM.NAMES")["streams"] == ["ORDERS"]

    def test_through_two_accounts(self, owner, login):
        assert ask(login("ch"), "chapi.STREAM.NAMES")["streams"] == ["ORDERS"]

    def test_of_an_account_without_it(self, login):
        assert ask(login("iu"), "$JS.API.INFO")["error"]["err_code"] == 10039

    @pytest.mark.parametrize(("user", "subject"), [("all", "jsapi.INFO"), ("ch", "chapi.INFO")])
    def test_who_asks_in_the_audit(self, owner, login, user, subject):
        watcher = login("js").sub("$JS.EVENT.ADVISORY.API", 2)
        watcher.flush()
        ask(login(user, name="me", lang="x"), subject)
        client = event(watcher.op())[1]["client"]
        assert client.pop("rtt") > 0
        assert client == {"acc": user.upper(), "svc": "JS", "server": "srv"}


class TestAdvisories:
    def test_as_a_service(self, owner, login):
        watcher = login("agg").sub("$JS.EVENT.ADVISORY.ACC.JS.>", 2)
        watcher.flush()
        ask(owner, "$JS.API.STREAM.DELETE.ORDERS")
        got = watcher.ops(2)
        assert all(b"\r\nNats-Request-Info: {" in op and b'"acc":"JS"' in op for op in got)
        assert sorted(event(op)[0] for op in got) == [
            "$JS.EVENT.ADVISORY.ACC.JS.API", "$JS.EVENT.ADVISORY.ACC.JS.STREAM.DELETED.ORDERS"
        ]  # fmt: skip
        told = dict(event(op) for op in got)["$JS.EVENT.ADVISORY.ACC.JS.API"]
        assert told["client"]["name"] == "js" and told["client"]["host"] == "127.0.0.1"

    def test_as_a_stream(self, owner, login):
        watcher = login("iu").sub("adv.>", 2)
        watcher.flush()
        ask(owner, "$JS.API.STREAM.DELETE.ORDERS")
        assert sorted(event(op)[0] for op in watcher.ops(2)) == ["adv.API", "adv.STREAM.DELETED.ORDERS"]


def test_a_stream_of_what_is_imported(start, dial, tmp_path):
    config = """
        jetstream {{store_dir: "{0}"}}
        accounts {{
            A {{users [{{user: a, password: p}}] {1}}}
            B {{users [{{user: b, password: p}}], jetstream: enabled {2}}}
        }}
    """
    exports, imports = ', exports: [{stream: "news.>"}]', ', imports: [{stream: {account: A, subject: "news.>"}}]'
    server = start(config.format(tmp_path, exports, imports))
    owner = dial(server).ready(user="b", **{"pass": "p"}).sub("in")
    ask(owner, "$JS.API.STREAM.CREATE.news", {"name": "news", "subjects": ["news.>"], "storage": "memory"})
    sender = dial(server).ready(user="a", **{"pass": "p"}, no_responders=True)
    sender.pub("news.article", "1").flush()
    deadline = time.monotonic() + owner.timeout
    while ask(owner, "$JS.API.STREAM.INFO.news")["state"]["messages"] != 1:
        assert time.monotonic() < deadline
    server.reload(config.format(tmp_path, "", ""))
    dial(server).ready(user="a", **{"pass": "p"}, no_responders=True).pub("news.article", "2").flush()
    again = dial(server).ready(user="b", **{"pass": "p"}).sub("in")
    assert ask(again, "$JS.API.STREAM.INFO.news")["state"]["messages"] == 1
