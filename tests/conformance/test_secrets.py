"""Nothing says too much: what proves who somebody is appears in no log line and on no page, however it came."""

from __future__ import annotations

import json

import pytest

from tests.jwts import Key, user_jwt

from .test_jwt import ACCOUNT, OPERATOR, USER, config
from .test_jwt import account_jwt as signed_account

VIOLATION = b"-ERR 'Authorization Violation'"
NKEY = Key("U", "nkey")
LOGGED = "http: 127.0.0.1:-1\ndebug: true\ntrace: true\n"
USERS = (
    LOGGED
    + f"""
    authorization {{ users [ {{user: alice, password: rightpassword}}, {{nkey: {NKEY}}} ] }}
"""
)
TOKEN = LOGGED + "authorization { token: righttoken }\n"
OPERATORS = config(signed_account(ACCOUNT, OPERATOR)) + "debug: true\ntrace: true\n"
PAGES = ("/varz", "/connz?auth=1&subs=detail&state=all", "/subsz?subs=1", "/accountz", "/accstatz?unused=1", "/routez")


def all_that_is_told(server):
    pages = [server.get(page).body.decode() for page in PAGES]
    return "\n".join([*server.log, *pages])


def check_silent(server, wire, *secrets):
    server.wait_log(f"cid:{wire.cid} - ")
    told = all_that_is_told(server)
    for secret in secrets:
        assert secret not in told


class TestPasswords:
    @pytest.mark.parametrize(
        ("user", "password"), [("alice", "rightpassword"), ("alice", "wrongpassword"), ("bob", "else")]
    )
    def test_of_users(self, shared_server, dial, user, password):
        server = shared_server(USERS)
        wire = dial(server).connect(user=user, **{"pass": password}).lines("PING")
        wire.line()
        check_silent(server, wire, password, "rightpassword")

    @pytest.mark.parametrize("given", ["righttoken", "wrongtoken"])
    def test_tokens(self, shared_server, dial, given):
        server = shared_server(TOKEN)
        wire = dial(server).connect(auth_token=given).lines("PING")
        wire.line()
        check_silent(server, wire, given, "righttoken")

    def test_where_nobody_asked_for_one(self, shared_server, dial):
        server = shared_server(LOGGED)
        wire = dial(server).ready(user="u", **{"pass": "offered1"}, auth_token="offered2", sig="offered3")
        check_silent(server, wire, "offered1", "offered2", "offered3")


class TestSignatures:
    def test_of_nkeys(self, shared_server, dial):
        server = shared_server(USERS)
        for nonce in (None, "another"):
            wire = dial(server)
            signature = NKEY.sign(nonce or wire.info["nonce"])
            wire.connect(nkey=str(NKEY), sig=signature).lines("PING").line()
            check_silent(server, wire, signature, NKEY.seed)


class TestTokens:
    """A JWT says who somebody is; a bearer token is as good as a password."""

    def test_bearer_tokens_on_pages(self, shared_server, dial):
        server = shared_server(OPERATORS.replace("trace: true\n", ""))
        token = user_jwt(USER, ACCOUNT, bearer_token=True)
        wire = dial(server).connect(jwt=token)
        assert wire.flush() == []
        check_silent(server, wire, token)
        wire.close()
        server.closed(wire.cid)
        assert token not in all_that_is_told(server)

    def test_what_is_no_token(self, shared_server, dial):
        server = shared_server(OPERATORS.replace("trace: true\n", ""))
        wire = dial(server).connect(jwt="apassword", sig="asignature")
        assert wire.eof() == [VIOLATION]
        assert "apassword" not in "\n".join(server.log)


def test_a_control_line_that_is_too_long(shared_server, dial):
    server = shared_server(LOGGED)
    wire = dial(server).lines('CONNECT {"pass":"secretword","name":"' + "x" * 5000 + '"}')
    wire.eof()
    server.wait_log(f"cid:{wire.cid} - maximum control line exceeded")
    assert json.dumps(server.varz())
    check_silent(server, wire)
