"""Accounts are subject spaces of their own, with limits of their own."""

from __future__ import annotations

import pytest

CONFIG = """
    http: 127.0.0.1:-1
    accounts {
        A { users [{user: a, password: "p"}, {user: a2, password: "p"}] }
        B { users [{user: b, password: "p"}] }
        SYS { users [{user: s, password: "p"}] }
    }
    system_account: SYS
"""


@pytest.fixture
def server(shared_server):
    return shared_server(CONFIG)


@pytest.fixture
def login(server, dial):
    def get(user: str, **options: object):
        return dial(server).ready(**{"user": user, "pass": "p", **options})

    return get


class TestIsolation:
    def test_same_account(self, login):
        listener = login("a2").sub("foo")
        listener.flush()
        login("a").pub("foo", "x").flush()
        assert listener.flush() == [b"MSG foo 1 1\r\nx"]

    def test_other_account(self, login):
        listener = login("b").sub(">")
        listener.flush()
        login("a").pub("foo", "x").flush()
        assert listener.flush() == []

    def test_queues_do_not_span_accounts(self, login):
        a, b = login("a").sub("work", 1, "q"), login("b").sub("work", 1, "q")
        a.flush(), b.flush()
        sender = login("a2")
        for _ in range(20):
            sender.pub("work")
        sender.flush()
        assert (len(a.flush()), len(b.flush())) == (20, 0)

    def test_no_responders_is_per_account(self, login):
        listener = login("b").sub("svc")
        listener.flush()
        asker = login("a", no_responders=True).sub("inbox").pub("svc", reply="inbox")
        assert [op.split(b"\r\n")[1] for op in asker.flush()] == [b"NATS/1.0 503"]

    def test_sys_subjects_of_a_normal_account_stay_inside(self, login):
        system = login("s").sub("$SYS.FAKE.>")
        system.flush()
        login("a").pub("$SYS.FAKE.x").flush()
        assert system.flush() == []

    def test_server_requests_are_not_for_normal_accounts(self, login):
        asker = login("a", no_responders=True).sub("inbox").pub("$SYS.REQ.SERVER.PING", reply="inbox")
        assert b"503" in asker.op()

    def test_there_is_no_default_account_any_more(self, server, dial):
        assert dial(server).connect().eof() == [b"-ERR 'Authorization Violation'"]

    def test_connz_shows_the_account(self, server, login):
        a, b = login("a"), login("b")
        accounts = {c["cid"]: c["account"] for c in server.connz("auth=1")}
        assert (accounts[a.cid], accounts[b.cid]) == ("A", "B")

    def test_connz_filters_by_account(self, server, login):
        a, b = login("a"), login("b")
        cids = {c["cid"] for c in server.connz("acc=A")}
        assert a.cid in cids and b.cid not in cids


class TestForms:
    def test_a_list_of_names(self, shared_server, dial):
        server = shared_server("accounts: [A, B]\n")
        assert dial(server).connect().flush() == []

    def test_users_of_authorization_are_in_the_default_account(self, shared_server, dial):
        config = (
            'authorization { users [{user: g, password: "p"}] }\naccounts { A { users [{user: a, password: "p"}] } }\n'
        )
        server = shared_server("http: 127.0.0.1:-1\n" + config)
        wire = dial(server).ready(user="g", **{"pass": "p"})
        assert "account" not in next(c for c in server.connz("auth=1") if c["cid"] == wire.cid)
        wire = dial(server).connect(user="g", protocol=1, **{"pass": "p"}).lines("PING")
        assert wire.op() == b"PONG"
        assert wire.read_info()["remote_account"] == "$G"


class TestLimits:
    def test_connections_are_counted_per_account(self, shared_server, dial):
        config = """accounts {
            A { users [{user: a, password: "p"}], limits { max_connections: 2 } }
            B { users [{user: b, password: "p"}] }
        }"""
        server = shared_server("http: 127.0.0.1:-1\n" + config)
        first = [dial(server).ready(user="a", **{"pass": "p"}) for _ in range(2)]
        assert dial(server).connect(user="a", **{"pass": "p"}).eof() == [
            b"-ERR 'maximum account active connections exceeded'"
        ]
        assert dial(server).connect(user="b", **{"pass": "p"}).flush() == []
        first[0].close()
        server.closed(first[0].cid)
        assert dial(server).connect(user="a", **{"pass": "p"}).flush() == []

    def test_subscriptions_are_counted_per_account(self, shared_server, dial):
        config = """accounts {
            A { users [{user: a, password: "p"}], limits { max_subscriptions: 3 } }
            B { users [{user: b, password: "p"}] }
        }"""
        server = shared_server(config)
        a, b = (dial(server).ready(user=name, **{"pass": "p"}) for name in ("a", "b"))
        for sid in range(3):
            a.sub(f"s.{sid}", sid)
        assert a.flush() == []
        assert a.sub("s.3", 3).flush() == [b"-ERR 'maximum subscriptions exceeded'"]
        for sid in range(5):
            b.sub(f"s.{sid}", sid)
        assert b.flush() == []


class TestSystemServices:
    """What every account gets from the system account."""

    @pytest.fixture
    def login(self, login, server_kind):
        def get(user: str, **options: object):
            wire = login(user, **options)
            if server_kind == "natsc":
                wire.timeout = 0.3  # nobody answers
            return wire

        return get

    def test_user_info(self, login):
        asker = login("a", no_responders=True).sub("inbox").pub("$SYS.REQ.USER.INFO", reply="inbox")
        (answer,) = asker.ops(1)
        assert b'"user":"a"' in answer and b'"account":"A"' in answer

    def test_the_system_account_answers_ping(self, login):
        asker = login("s").sub("inbox").pub("$SYS.REQ.SERVER.PING.IDZ", reply="inbox")
        assert b'"id":"N' in asker.op()

    def test_connect_events(self, server, login):
        system = login("s").sub("$SYS.ACCOUNT.B.CONNECT").sub("$SYS.ACCOUNT.B.DISCONNECT", 2)
        system.flush()
        wire = login("b")
        assert system.op().startswith(b"MSG $SYS.ACCOUNT.B.CONNECT 1 ")
        wire.close()
        assert system.op().startswith(b"MSG $SYS.ACCOUNT.B.DISCONNECT 2 ")
