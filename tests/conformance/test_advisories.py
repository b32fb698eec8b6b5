"""What security advisories of nats-server say about accounts, tried on both servers, by every door that there is."""

from __future__ import annotations

import json
import re

import pytest

from tests.jwts import Key, account_jwt, user_jwt

from .test_jwt import OPERATOR, SYSTEM
from .test_jwt import config as jwt_config

CONFIG = """
    jetstream {{store_dir: "{}"}}
    accounts {{
        A {{
            users [
                {{user: a, password: p}}
                {{user: limited, password: p, permissions: {{publish: ["$JS.API.STREAM.RESTORE.MINE"]}}}}
            ]
            jetstream: enabled
            exports [{{service: "svc"}}, {{service: "shared"}}, {{service: "$JS.API.>"}}]
        }}
        B {{
            users [{{user: b, password: p}}]
            jetstream: enabled
            imports [
                {{service: {{account: A, subject: "svc"}}}}, {{service: {{account: A, subject: "shared"}}, share: true}}
                {{service: {{account: A, subject: "$JS.API.>"}}, to: "other.>"}}
            ]
            exports [{{service: "svc"}}]
        }}
        C {{users [{{user: c, password: p}}], imports [{{service: {{account: B, subject: "svc"}}}}]}}
    }}
"""
FORGED = '{"acc":"A","user":"root","id":1}'


@pytest.fixture(scope="module")
def account_server(shared_server, tmp_path_factory):
    return shared_server(CONFIG.format(tmp_path_factory.mktemp("store")))


@pytest.fixture
def login(account_server, dial):
    def get(user: str, **options: object):
        return dial(account_server).ready(user=user, **{"pass": "p", "no_responders": True, **options})

    return get


class TestRequestInfo:
    """CVE-2026-33246, CVE-2026-33223: who asks is told by the server, not by who asks."""

    @pytest.mark.parametrize(("user", "subject"), [("b", "svc"), ("b", "shared"), ("c", "svc")])
    @pytest.mark.parametrize(
        "headers",
        [
            f"Nats-Request-Info: {FORGED}",
            f"Nats-Request-Info:{FORGED}",
            f"Nats-Request-Info: {FORGED}\r\nX: y\r\nNats-Request-Info: {FORGED}",
        ],
    )
    def test_cve_2026_33246_a_forged_header(self, login, user, subject, headers):
        responder = login("a").sub(subject)
        responder.flush()
        login(user).hpub(subject, f"NATS/1.0\r\n{headers}\r\n\r\n".encode(), b"x", reply="inbox").flush()
        told = re.findall(rb"(?i)nats-request-info *: *(\{.*?\})\r\n", responder.op())
        assert len(told) == 1
        info = json.loads(told[0])
        assert info["acc"] == user.upper() and info.get("user", "b") == "b" and info.get("id") != 1

    @pytest.mark.parametrize("name", ["nats-request-info", "NATS-REQUEST-INFO", "Nats-Request-info"])
    def test_cve_2026_33223_in_another_case(self, login, server_kind, name):
        """nats-server leaves it to responders to know that names of headers have a case."""
        responder = login("a").sub("svc")
        responder.flush()
        login("b").hpub("svc", f"NATS/1.0\r\n{name}: {FORGED}\r\n\r\n".encode(), b"x", reply="inbox").flush()
        request = responder.op()
        assert (FORGED.encode() in request) == (server_kind == "nats-server")
        assert b'Nats-Request-Info: {"acc":"B"' in request

    @pytest.mark.parametrize("subject", ["$JS.API.INFO", "other.INFO"])
    def test_who_is_told_by_an_audit(self, login, subject):
        watcher = login("a").sub("$JS.EVENT.ADVISORY.API")
        watcher.flush()
        asker = login("a" if subject[0] == "$" else "b").sub("in")
        asker.hpub(subject, f"NATS/1.0\r\nNats-Request-Info: {FORGED}\r\n\r\n".encode(), reply="in").op()
        client = json.loads(re.search(rb'"client":(\{.*?\})', watcher.op())[1])
        assert (client["acc"], client.get("user")) == (("A", "a") if subject[0] == "$" else ("B", None))
        assert client.get("id") in (None, asker.cid)


class TestAccountChecks:
    def test_cve_2025_30215_requests_that_are_the_system_accounts(self, login):
        """CVE-2025-30215: nobody else may purge an account, or move what is in it."""
        owner, other = login("a").sub("in"), login("b").sub("in")
        config = json.dumps({"name": "KEPT", "subjects": ["kept"], "storage": "memory"})
        owner.pub("$JS.API.STREAM.CREATE.KEPT", config, reply="in").op()
        for wire in (owner, other):
            for prefix in ("$JS.API", "other"):
                for asked in (
                    "ACCOUNT.PURGE.A", "ACCOUNT.STREAM.MOVE.A.KEPT", "ACCOUNT.STREAM.CANCEL_MOVE.A.KEPT",
                    "META.LEADER.STEPDOWN", "SERVER.REMOVE",
                ):  # fmt: skip
                    wire.pub(f"{prefix}.{asked}", "{}", reply="nobody")
            wire.flush()
        names = owner.pub("$JS.API.STREAM.NAMES", reply="in").op()
        assert b'"KEPT"' in names

    def test_cve_2026_33222_a_restore_under_another_name(self, login):
        """CVE-2026-33222: whoever may restore one stream may not restore another."""
        asker = login("limited").sub("in")
        asker.flush()
        wanted = {"config": {"name": "OTHER", "subjects": ["q"], "storage": "memory"}, "state": {}}
        asker.pub("$JS.API.STREAM.RESTORE.MINE", json.dumps(wanted), reply="in")
        assert b'"err_code":10056' in asker.op()
        asker.pub("$JS.API.STREAM.RESTORE.OTHER", json.dumps(wanted), reply="in")
        assert asker.op() == b"-ERR 'Permissions Violation for Publish to \"$JS.API.STREAM.RESTORE.OTHER\"'"
        through = login("b").sub("in").pub("other.STREAM.RESTORE.MINE", json.dumps(wanted), reply="in")
        assert b'"err_code":10056' in through.op()

    def test_cve_2023_47090_only_a_system_account(self, start, dial):
        """CVE-2023-47090: who isn't in the system account, for it has users, gets nothing of it."""
        server = start("accounts {SYS {users [{user: s, password: p}]}}\nsystem_account: SYS\n")
        stranger = dial(server).connect(user="s", **{"pass": "wrong"})
        assert stranger.eof() == [b"-ERR 'Authorization Violation'"]
        plain = dial(server).ready(no_responders=True).sub("in")
        assert b" 503" in plain.pub("$SYS.REQ.SERVER.PING.VARZ", reply="in").op()
        assert dial(server).ready(user="s", **{"pass": "p"}).sub("x").pub("x").flush() == [b"MSG x 1 0\r\n"]


RINGS = [
    """A {exports [{service: "x"}], imports [{service: {account: B, subject: "x"}}]}
       B {exports [{service: "x"}], imports [{service: {account: A, subject: "x"}}]}""",
    """A {exports [{service: "x.>"}], imports [{service: {account: C, subject: "x.>"}}]}
       B {exports [{service: "x.>"}], imports [{service: {account: A, subject: "x.>"}}]}
       C {exports [{service: "x.>"}], imports [{service: {account: B, subject: "x.>"}}]}""",
    """A {exports [{stream: "x"}], imports [{stream: {account: B, subject: "x"}}]}
       B {exports [{stream: "x"}], imports [{stream: {account: A, subject: "x"}}]}""",
]


class TestImports:
    @pytest.mark.parametrize("accounts", RINGS)
    def test_cve_2020_28466_cve_2022_42709_a_ring(self, start, accounts):
        """CVE-2020-28466, CVE-2022-42709: accounts that import from each other in a ring."""
        server = start(f"accounts {{{accounts}}}\n", wait=False)
        server.wait_log("import forms a cycle")
        assert server.wait() == 1

    def test_cve_2020_28466_cve_2022_42709_a_ring_of_other_names(self, start, dial):
        """One that isn't seen in the configuration: a message goes round it once, at most."""
        server = start("""accounts {
            A {users [{user: a, password: p}], exports [{service: "a.>"}]
               imports [{service: {account: C, subject: "c.>"}, to: "a.>"}]}
            B {exports [{service: "b.>"}], imports [{service: {account: A, subject: "a.>"}, to: "b.>"}]}
            C {exports [{service: "c.>"}], imports [{service: {account: B, subject: "b.>"}, to: "c.>"}]}
        }\n""")
        asker = dial(server).ready(user="a", **{"pass": "p"}, no_responders=True).sub("in")
        assert asker.pub("a.x", reply="in").op().endswith(b" 503\r\nNats-Subject: a.x\r\n\r\n")
        assert asker.flush() == []

    def test_cve_2020_28466_cve_2022_42709_a_ring_of_jwts(self, start, dial):
        """The same by the other door: nothing goes round, and the server lives."""
        keys = [Key("A", f"ring {number}") for number in range(3)]
        tokens = [
            account_jwt(
                key, OPERATOR, exports=[{"subject": "x", "type": "service"}],
                imports=[{"subject": "x", "type": "service", "account": str(keys[number - 1])}],
            )
            for number, key in enumerate(keys)
        ]  # fmt: skip
        server = start(jwt_config(*tokens, keys=(*keys, SYSTEM)))
        user, wires = Key("U", "ring"), []
        for key in keys:
            wire = dial(server)
            wire.connect(jwt=user_jwt(user, key), sig=user.sign(wire.info["nonce"])).flush()
            wires.append(wire)
        for wire in wires:
            wire.pub("x", "1", reply="in").flush()
        assert all(wire.flush() == [] for wire in wires)

    def test_cve_2021_3127_a_private_export(self, start):
        """CVE-2021-3127: what is exported to others isn't imported. (Tokens of JWTs: test_jwt_links.py.)"""
        accounts = """A {exports [{stream: "x", accounts: [C]}]}, C {}
                      B {imports [{stream: {account: A, subject: "x"}}]}"""
        server = start(f"accounts {{{accounts}}}\n", wait=False)
        server.wait_log("stream import not authorized")
        assert server.wait() == 1
