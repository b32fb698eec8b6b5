"""The system account: requests that the server answers, and events that it tells."""

from __future__ import annotations

import json

import pytest

CONFIG = """
    server_name: srv
    http: 127.0.0.1:-1
    accounts {
        SYS { users: [{user: s, password: p}] }
        A { users: [{user: a, password: p}, {user: limited, password: p, permissions: {
            publish: ["x", "$SYS.REQ.USER.INFO"], subscribe: {allow: ["y", "_INBOX.>"], deny: "z"}
            allow_responses: {max: 2, ttl: "1m"}}}] }
    }
    system_account: SYS
"""
SERVER = ["name", "host", "id", "ver", "feature_flags", "jetstream", "flags", "seq", "time"]


@pytest.fixture
def server(shared_server):
    return shared_server(CONFIG)


@pytest.fixture
def login(server, dial):
    def get(user: str, **options: object):
        return dial(server).ready(**{"user": user, "pass": "p", "headers": True, "no_responders": True, **options})

    return get


def ask(wire, subject: str, body: object = "") -> dict | None:
    """The answer to a request; None for "no responders"."""
    payload = body if isinstance(body, str) else json.dumps(body)
    op = wire.sub("_INBOX.x", 77).pub(subject, payload, reply="_INBOX.x").op()
    wire.lines("UNSUB 77")
    return None if b" 503" in op.split(b"\r\n")[1][:20] else json.loads(op.split(b"\r\n", 1)[1])


def silent(wire, subject: str, body: object = "") -> bool:
    """Whether a request gets no answer, while one that was sent later does."""
    payload = body if isinstance(body, str) else json.dumps(body)
    wire.sub("_INBOX.x", 77).pub(subject, payload, reply="_INBOX.x").sub("_INBOX.y", 78)
    wire.pub("$SYS.REQ.SERVER.PING.IDZ", reply="_INBOX.y")
    found = wire.op().startswith(b"MSG _INBOX.y")
    wire.lines("UNSUB 77", "UNSUB 78")
    return found


class TestServer:
    def test_idz(self, server, login):
        assert ask(login("s"), "$SYS.REQ.SERVER.PING.IDZ") == {
            "name": "srv", "host": "127.0.0.1", "id": server.varz()["server_id"],
        }  # fmt: skip

    @pytest.mark.parametrize("name", ["PING", "PING.STATSZ", "ID.STATSZ"])
    def test_statistics(self, server, login, name):
        found = ask(login("s"), f"$SYS.REQ.SERVER.{name.replace('ID', server.varz()['server_id'])}")
        assert list(found) == ["server", "statsz"] and list(found["server"]) == SERVER
        assert list(found["statsz"]) == [
            "start", "mem", "cores", "cpu", "connections", "total_connections", "active_accounts", "subscriptions",
            "sent", "sent_to_clients", "received", "received_from_clients", "slow_consumers", "active_servers",
            "gomaxprocs",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("name", "path"),
        [("VARZ", "/varz"), ("CONNZ", "/connz"), ("SUBSZ", "/subsz"), ("ROUTEZ", "/routez"), ("GATEWAYZ", "/gatewayz"),
         ("LEAFZ", "/leafz"), ("ACCOUNTZ", "/accountz"), ("JSZ", "/jsz")],
    )  # fmt: skip
    def test_endpoints_say_what_http_says(self, server, login, name, path):
        found = ask(login("s"), f"$SYS.REQ.SERVER.PING.{name}")
        assert list(found) == ["server", "data"]
        assert list(found["data"]) == list(json.loads(server.get(path).body))

    def test_http_requests_alone_are_counted(self, server, login):
        before = server.varz()["http_req_stats"]
        ask(login("s"), "$SYS.REQ.SERVER.PING.CONNZ")
        assert {**server.varz()["http_req_stats"], "/varz": 0} == {**before, "/varz": 0}

    def test_healthz_has_its_code(self, login):
        assert ask(login("s"), "$SYS.REQ.SERVER.PING.HEALTHZ")["data"] == {"status": "ok", "status_code": 200}

    def test_options(self, login):
        wire = login("s")
        options = {"auth": True, "subscriptions_detail": True, "acc": "SYS", "limit": 1}
        data = ask(wire, "$SYS.REQ.SERVER.PING.CONNZ", options)["data"]
        assert data["limit"] == 1 and data["connections"][0]["account"] == "SYS"
        assert "subscriptions_list_detail" in data["connections"][0]

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ({"auth": 7}, "json: cannot unmarshal number into Go struct field ConnzEventOptions.auth of type bool"),
            ({"sort": True}, None),
            ({"limit": "x"}, None),
        ],
    )
    def test_options_of_the_wrong_type(self, login, body, error):
        found = ask(login("s"), "$SYS.REQ.SERVER.PING.CONNZ", body)
        assert list(found) == ["server", "error"] and found["error"]["code"] == 400
        assert error is None or found["error"]["description"] == error

    def test_options_that_mean_nothing(self, login):
        found = ask(login("s"), "$SYS.REQ.SERVER.PING.CONNZ", {"sort": "bogus"})
        assert (found["data"], found["error"]) == (None, {"code": 500, "description": "invalid sorting option: bogus"})

    @pytest.mark.parametrize(
        ("filters", "answered"),
        [({"server_name": "sr"}, True), ({"server_name": "sr", "exact_match": True}, False), ({"host": "127"}, True),
         ({"server_name": "nope"}, False), ({"cluster": "c"}, False), ({"tags": ["t"]}, False),
         ({"domain": "d"}, False)],
    )  # fmt: skip
    def test_filters(self, login, filters, answered):
        assert silent(login("s"), "$SYS.REQ.SERVER.PING.VARZ", filters) != answered

    def test_unknown_requests_have_no_responders(self, login):
        wire = login("s")
        for subject in ("$SYS.REQ.SERVER.PING.FOO", "$SYS.REQ.ACCOUNT.A.FOO", "$SYS.REQ.FOO"):
            assert ask(wire, subject) is None

    def test_kick(self, server, login):
        wire, victim = login("s"), login("a")
        subject = f"$SYS.REQ.SERVER.{server.varz()['server_id']}.KICK"
        assert list(ask(wire, subject, {"cid": victim.cid})) == ["server"]
        assert victim.eof() == [] and server.closed(victim.cid)["reason"] == "Kicked"

    def test_ldm_of_one_client(self, server, login):
        wire, chosen = login("s"), login("a", protocol=1)
        chosen.flush()
        subject = f"$SYS.REQ.SERVER.{server.varz()['server_id']}.LDM"
        assert list(ask(wire, subject, {"cid": chosen.cid})) == ["server"]
        assert b'"ldm":true' in chosen.op()

    @pytest.mark.parametrize(
        ("what", "text"), [("KICK", "no such client or leafnode id"), ("LDM", "no such client id")]
    )
    def test_clients_that_are_not_there(self, server, login, what, text):
        found = ask(login("s"), f"$SYS.REQ.SERVER.{server.varz()['server_id']}.{what}", {"cid": 99999})
        assert list(found) == ["server", "error"] and found["error"] == {"code": 500, "description": text}

    def test_reload(self, start, dial):
        server = start(CONFIG)
        wire = dial(server).ready(user="s", **{"pass": "p"})
        server.write_config(CONFIG.replace("user: a,", "user: b,"))
        assert list(ask(wire, f"$SYS.REQ.SERVER.{server.varz()['server_id']}.RELOAD")) == ["server"]
        assert dial(server).ready(user="b", **{"pass": "p"}).flush() == []


class TestAccounts:
    def test_connections_of_an_account(self, login):
        wire, one = login("s"), login("a")
        data = ask(wire, "$SYS.REQ.ACCOUNT.A.CONNZ")["data"]
        assert one.cid in [c["cid"] for c in data["connections"]] and wire.cid not in [
            c["cid"] for c in data["connections"]
        ]

    def test_statistics_of_an_account(self, login):
        wire, _ = login("s"), login("a")
        (entry,) = ask(wire, "$SYS.REQ.ACCOUNT.A.STATZ")["data"]["account_statz"]
        assert list(entry) == [
            "acc", "name", "conns", "leafnodes", "total_conns", "num_subscriptions", "sent", "received",
            "slow_consumers",
        ]  # fmt: skip

    def test_connection_counts(self, login):
        wire, _ = login("s"), login("a")
        found = ask(wire, "$SYS.REQ.ACCOUNT.A.CONNS")
        assert list(found)[:6] == ["type", "id", "timestamp", "server", "acc", "name"]
        assert found["type"] == "io.nats.server.advisory.v1.account_connections"

    def test_info(self, login):
        data = ask(login("s"), "$SYS.REQ.ACCOUNT.A.INFO")["data"]
        assert (data["account_name"], data["jetstream_enabled"], data["complete"]) == ("A", False, True)

    def test_an_account_that_is_not_there(self, login):
        found = ask(login("s"), "$SYS.REQ.ACCOUNT.X.INFO")
        assert found["error"] == {"code": 500, "description": "Account X does not exist"}

    def test_all_accounts(self, login):
        data = ask(login("s"), "$SYS.REQ.ACCOUNT.PING.STATZ", {"include_unused": True})["data"]
        assert {entry["acc"] for entry in data["account_statz"]} == {"A", "SYS", "$G"}


class TestOrdinaryAccounts:
    def test_own_user(self, login):
        assert ask(login("a"), "$SYS.REQ.USER.INFO")["data"] == {"user": "a", "account": "A", "account_name": "A"}

    def test_own_permissions(self, login):
        permissions = ask(login("limited"), "$SYS.REQ.USER.INFO")["data"]["permissions"]
        permissions["subscribe"]["allow"].sort(reverse=True)  # nats-server has them in any order
        permissions["publish"]["allow"].sort(reverse=True)
        assert permissions == {
            "publish": {"allow": ["x", "$SYS.REQ.USER.INFO"]},
            "subscribe": {"allow": ["y", "_INBOX.>"], "deny": ["z"]},
            "responses": {"max": 2, "ttl": 60_000_000_000},
        }

    @pytest.mark.parametrize("subject", ["$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.SERVER.PING.CONNZ"])
    def test_own_connections(self, login, subject):
        wire, other = login("a"), login("s")
        cids = [c["cid"] for c in ask(wire, subject)["data"]["connections"]]
        assert wire.cid in cids and other.cid not in cids

    def test_own_statistics(self, login):
        (entry,) = ask(login("a"), "$SYS.REQ.ACCOUNT.PING.STATZ")["data"]["account_statz"]
        assert entry["acc"] == "A"

    def test_nothing_else(self, login):
        wire = login("a")
        for subject in ("$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.SYS.CONNZ"):
            assert ask(wire, subject) is None


class TestEvents:
    def events(self, wire, count: int) -> dict[str, dict]:
        found = {}
        for _ in range(count):
            op = wire.op()
            found[op.split()[1].decode()] = json.loads(op.split(b"\r\n", 1)[1])
        return found

    def test_a_client_that_comes_and_goes(self, start, dial):
        server = start(CONFIG)
        watcher = dial(server).ready(user="s", **{"pass": "p"}).sub("$SYS.ACCOUNT.A.>")
        watcher.flush()
        client = dial(server).ready(user="a", name="me", lang="x", version="1", **{"pass": "p"})
        event = self.events(watcher, 2)["$SYS.ACCOUNT.A.CONNECT"]
        assert list(event) == ["type", "id", "timestamp", "server", "client"]
        assert event["type"] == "io.nats.server.advisory.v1.client_connect" and list(event["server"]) == SERVER
        shown = {name: event["client"][name] for name in ("acc", "user", "name", "lang", "ver", "kind", "client_type")}
        assert shown == {
            "acc": "A", "user": "a", "name": "me", "lang": "x", "ver": "1", "kind": "Client", "client_type": "nats"
        }  # fmt: skip
        client.close()
        events = self.events(watcher, 2)
        assert events["$SYS.ACCOUNT.A.SERVER.CONNS"]["conns"] == 0
        event = events["$SYS.ACCOUNT.A.DISCONNECT"]
        assert list(event) == ["type", "id", "timestamp", "server", "client", "sent", "received", "reason"]
        assert (event["reason"], event["client"]["id"]) == ("Client Closed", client.cid)

    def test_a_client_that_is_refused(self, start, dial):
        server = start(CONFIG)
        watcher = dial(server).ready(user="s", **{"pass": "p"}).sub("$SYS.SERVER.*.CLIENT.AUTH.ERR")
        watcher.flush()
        dial(server).connect(user="nobody", **{"pass": "p"}).eof()
        (event,) = self.events(watcher, 1).values()
        assert (event["reason"], event["client"]["user"]) == ("Authentication Failure", "nobody")

    def test_shutdown(self, start, dial):
        server = start(CONFIG)
        watcher = dial(server).ready(user="s", **{"pass": "p"}).sub("$SYS.SERVER.*.SHUTDOWN")
        watcher.flush()
        server.signal(15)
        (event,) = self.events(watcher, 1).values()
        assert list(event.get("server", event)) == SERVER
