"""Authentication callouts in operator mode: an account's JWT says who answers, and into which accounts."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.jwts import Key, account_jwt, operator_jwt, user_jwt

from .callout import SUBJECT, Service, XKey, event, response, user

VIOLATION = b"-ERR 'Authorization Violation'"
OPERATOR, SYSTEM = Key("O", "operator"), Key("A", "sys")
AUTH, FOO, BAR = Key("A", "auth"), Key("A", "foo"), Key("A", "bar")
AUTH_KEY, FOO_KEY, FOO_SCOPED, STRANGER = (
    Key("A", "auth key"),
    Key("A", "foo key"),
    Key("A", "foo scoped"),
    Key("A", "x"),
)
SERVICE, SENTINEL, NOBODY = Key("U", "service"), Key("U", "sentinel"), Key("U", "nobody")
CURVE = XKey("operator's service")
TEMPLATE = {"pub": {"allow": ["{{name()}}.>"]}, "sub": {"allow": ["_INBOX.>"]}, "subs": -1, "data": -1, "payload": -1}


def scope(**template):
    return {
        "kind": "user_scope", "key": str(FOO_SCOPED), "role": "r", "description": "",
        "template": {**TEMPLATE, **template},
    }  # fmt: skip


def config(more="", timeout="5s", allowed=(FOO,), template=None, **authorization):
    authorization = {"auth_users": [str(SERVICE)], "allowed_accounts": list(map(str, allowed)), **authorization}
    auth = account_jwt(AUTH, OPERATOR, signing_keys=[str(AUTH_KEY)], authorization=authorization)
    foo_keys = [str(FOO_KEY), scope(**(template or {}))]
    tokens = {
        AUTH: auth, BAR: account_jwt(BAR, OPERATOR), SYSTEM: account_jwt(SYSTEM, OPERATOR),
        FOO: account_jwt(FOO, OPERATOR, claims={"name": "FOO"}, signing_keys=foo_keys),
    }  # fmt: skip
    preload = ", ".join(f"{key}: {token}" for key, token in tokens.items())
    operator = operator_jwt(OPERATOR, system_account=str(SYSTEM))
    return f"""
        http: 127.0.0.1:-1
        server_name: SRV
        operator: {operator}
        resolver: MEMORY
        resolver_preload {{ {preload} }}
        authorization {{ timeout: {timeout} }}
        {more}
    """


BEARER = user_jwt(
    SENTINEL,
    AUTH,
    claims={"name": "sentinel"},
    bearer_token=True,
    pub={"deny": [">"]},
    sub={"deny": [">"]},
    tags=["a:b"],
)


def signed(wire, key, token):
    return wire.connect(jwt=token, sig=key.sign(wire.info["nonce"]))


@pytest.fixture
def serve(dial):
    running = []

    def get(server, handler, xkey=None):
        running.append(Service(signed(dial(server), SERVICE, user_jwt(SERVICE, AUTH)), handler, xkey))
        return running[-1]

    yield get
    for service in running:
        service.close()


def by(signer, *, responder=AUTH, **options):
    """A handler: users signed by that key."""
    return lambda asked: response(asked, jwt=user(asked, signer=signer, **options), signer=responder)


def scoped(asked):
    token = user_jwt(
        NOBODY, FOO_SCOPED, claims={"sub": asked.user, "name": "sue"}, scoped=True, issuer_account=str(FOO)
    )
    return response(asked, jwt=token, signer=AUTH)


def login(dial, server, token=BEARER, **said):
    return dial(server).ready(jwt=token, **said)


def entry_of(server, wire):
    return server.connz(f"auth=1&cid={wire.cid}")[0]


def check_refused(server, wire, why, mark):
    assert wire.eof() == [VIOLATION]
    assert server.closed(wire.cid)["reason"] == "Authentication Failure"
    server.wait_log(re.escape(f"[WRN] {why}") + "$", after=mark)


class TestAsked:
    def test_the_request(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, by(AUTH))
        wire = login(dial, server, user="u", **{"pass": "p"})
        asked = service.wait()
        assert (asked.subject, asked.claims["sub"]) == (SUBJECT, str(AUTH))
        assert asked.options == {"jwt": BEARER, "user": "u", "pass": "p", "protocol": 0}
        assert asked.client == {
            "host": "127.0.0.1", "id": wire.cid, "user": "u", "kind": "Client", "type": "nats",
            "tags": ["a:b"], "name_tag": "sentinel",
        }  # fmt: skip

    def test_the_sentinel_alone(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, by(AUTH))
        login(dial, server)
        assert service.wait().client["user"] == str(SENTINEL)

    def test_the_default_sentinel(self, start, serve, dial):
        server = start(config(more=f"default_sentinel: {BEARER}"))
        service = serve(server, by(FOO))
        wire = dial(server).ready(user="u", **{"pass": "p"})
        assert service.wait().options["jwt"] == BEARER
        assert entry_of(server, wire)["account"] == str(FOO)

    def test_who_signs_the_nonce(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, by(AUTH))
        wire = dial(server)
        assert signed(wire, SENTINEL, user_jwt(SENTINEL, AUTH)).flush() == []
        assert service.wait().client["nonce"] == wire.info["nonce"]

    def test_who_may_ask(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, by(AUTH))
        line = f"-ERR 'Permissions Violation for Publish to \"{SUBJECT}\"'".encode()
        assert login(dial, server).pub(SUBJECT).flush() == [line]
        wire = signed(dial(server), SERVICE, user_jwt(SERVICE, AUTH))
        assert wire.pub(SUBJECT).flush() == [line]

    def test_accounts_without_a_callout(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, by(AUTH))
        wire = login(dial, server, user_jwt(NOBODY, BAR, bearer_token=True))
        assert entry_of(server, wire)["account"] == str(BAR)
        assert service.asked == []

    def test_the_service_has_to_prove_it(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, by(AUTH))
        assert dial(server).connect(jwt=user_jwt(SERVICE, AUTH)).eof() == [VIOLATION]
        login(dial, server, nkey=str(SERVICE))
        assert len(service.asked) == 1


class TestLetIn:
    def test_into_the_callouts_account(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, by(AUTH))
        wire = login(dial, server, user="u").sub("a").pub("a", "x")
        assert wire.flush() == [b"MSG a 1 1\r\nx"]
        entry = entry_of(server, wire)
        assert (entry["account"], entry["authorized_user"], entry["tags"]) == (str(AUTH), "u", ["a:b"])
        assert "jwt" not in entry

    @pytest.mark.parametrize(("signer", "account"), [(AUTH_KEY, AUTH), (FOO_KEY, FOO)])
    def test_by_signing_keys(self, shared_server, serve, dial, signer, account):
        server = shared_server(config())
        serve(server, by(signer, issuer_account=str(account)))
        wire = login(dial, server)
        entry = entry_of(server, wire)
        assert (entry["account"], entry["issuer_key"]) == (str(account), str(signer))
        assert "authorized_user" not in entry

    def test_into_an_allowed_account(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, by(FOO, claims={"name": "alice", "aud": "ignored"}))
        wire = login(dial, server)
        entry = entry_of(server, wire)
        assert (entry["account"], entry["name_tag"], entry["authorized_user"]) == (str(FOO), "FOO", "alice")

    def test_into_any_account(self, shared_server, serve, dial):
        server = shared_server(config(allowed=("*",)))
        serve(server, by(BAR))
        assert entry_of(server, login(dial, server))["account"] == str(BAR)

    def test_a_scoped_user(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, scoped)
        wire = login(dial, server).pub("sue.x").pub("bob.x").sub("b")
        assert wire.flush() == [
            b"-ERR 'Permissions Violation for Publish to \"bob.x\"'",
            b"-ERR 'Permissions Violation for Subscription to \"b\"'",
        ]

    def test_the_response_may_be_a_signing_keys(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, lambda a: response(a, jwt=user(a, signer=FOO), signer=AUTH_KEY, issuer_account=str(AUTH)))
        login(dial, server)

    def test_both_times_count(self, shared_server, serve, dial):
        """The connection ends with the JWT that it was asked with, too."""
        server = shared_server(config())
        serve(server, by(FOO))
        token = user_jwt(SENTINEL, AUTH, claims={"exp": int(time.time()) + 2}, bearer_token=True)
        assert login(dial, server, token).eof() == [b"-ERR 'User Authentication Expired'"]

    def test_revoked_later(self, start, serve, dial):
        server = start(config())
        serve(server, by(FOO))
        wire = login(dial, server)
        foo = account_jwt(FOO, OPERATOR, revocations={"*": int(time.time()) + 100})
        system = signed(dial(server), NOBODY, user_jwt(NOBODY, SYSTEM))
        system.sub("r").pub(f"$SYS.REQ.ACCOUNT.{FOO}.CLAIMS.UPDATE", foo, reply="r")
        assert event(system)["data"]["code"] == 200
        assert wire.eof() == [b"-ERR 'User Authentication Revoked'"]


class TestRefused:
    @pytest.mark.parametrize(("answer", "why"), [
        (by(BAR), f'Account "{BAR}" not permitted as valid account option for auth callout for account "{AUTH}"'),
        (by(STRANGER, issuer_account=str(FOO)), f'User JWT issuer "{STRANGER}" is not known'),
        (by(FOO_SCOPED),
         f'Account "{FOO_SCOPED}" not permitted as valid account option for auth callout for account "{AUTH}"'),
        (by(FOO_SCOPED, issuer_account=str(FOO)),
         "User JWT is not valid: scoped users require no permissions or limits set"),
        (by(FOO, responder=FOO), "Auth callout signing key is unknown"),
        (by(FOO, responder=STRANGER), "Auth callout signing key is unknown"),
        (lambda a: response(a, jwt=user(a, signer=FOO), signer=AUTH_KEY, issuer_account=str(FOO)),
         f'Auth callout response issuer account "{FOO}" is not the callout account'),
        (lambda a: response(a, error="go away", signer=AUTH), "Auth callout service returned an error: go away"),
        (lambda a: b"", f'Auth callout violation: "no reason supplied" on account "{AUTH}"'),
    ], ids=[str(number) for number in range(9)])  # fmt: skip
    def test_answers_that_let_nobody_in(self, shared_server, serve, dial, answer, why):
        server = shared_server(config())
        serve(server, answer)
        mark = len(server.log)
        check_refused(server, dial(server).connect(jwt=BEARER, user="u"), why, mark)

    def test_a_scope_that_needs_a_proxy(self, shared_server, serve, dial):
        server = shared_server(config(template={"proxy_required": True}))
        serve(server, scoped)
        wire = dial(server).connect(jwt=BEARER)
        assert wire.eof() == [VIOLATION]
        assert server.closed(wire.cid)["reason"] == "Proxy Required"

    def test_nobody_to_answer(self, start, dial):
        server = start(config(timeout="300ms", more="debug: true"))
        assert dial(server).connect(jwt=BEARER).eof() == [VIOLATION]
        server.wait_log(f'Authorization callout response not received in time on account "{AUTH}"$')

    def test_a_jwt_that_is_not_good(self, start, server_kind, serve, dial):
        server = start(config(timeout="300ms"))
        service = serve(server, by(FOO))
        began = time.monotonic()
        assert dial(server).connect(jwt=user_jwt(SENTINEL, AUTH)).eof() == [VIOLATION]
        assert server_kind == "natsc" or time.monotonic() - began > 0.25
        assert service.asked == []

    def test_events(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, lambda a: response(a, error="go away", signer=AUTH))
        owner = signed(dial(server), SERVICE, user_jwt(SERVICE, AUTH)).sub("$SYS.ACCOUNT.CLIENT.AUTH.ERR")
        owner.flush()
        system = signed(dial(server), NOBODY, user_jwt(NOBODY, SYSTEM)).sub("$SYS.SERVER.*.CLIENT.AUTH.ERR")
        system.flush()
        wire = dial(server).connect(jwt=BEARER, user="u")
        assert wire.eof() == [VIOLATION]
        told, owned = event(system), event(owner)
        assert (told["reason"], owned["reason"]) == (
            "Authentication Failure", "Auth callout service returned an error: go away",
        )  # fmt: skip
        for client in (told["client"], owned["client"]):
            assert (client["acc"], client["user"], client["tags"]) == (str(AUTH), "u", ["a:b"])
            assert client["issuer_key"] == str(AUTH)


class TestEncrypted:
    def test_both_ways(self, shared_server, serve, dial):
        server = shared_server(config(xkey=str(CURVE)))
        service = serve(server, lambda a: CURVE.seal(by(FOO)(a), a.server_xkey), CURVE)
        wire = login(dial, server, user="u")
        assert entry_of(server, wire)["account"] == str(FOO)
        assert service.wait().server_xkey == wire.info["xkey"]

    def test_an_encrypted_answer_needs_no_known_signer(self, shared_server, serve, dial):
        server = shared_server(config(xkey=str(CURVE)))
        serve(server, lambda a: CURVE.seal(by(FOO, responder=STRANGER)(a), a.server_xkey), CURVE)
        login(dial, server)

    def test_a_plain_answer(self, shared_server, serve, dial):
        server = shared_server(config(xkey=str(CURVE)))
        serve(server, by(FOO), CURVE)
        login(dial, server)


class TestChanges:
    def test_a_reload(self, start, server_kind, serve, dial):
        text = config()
        server = start(text)
        serve(server, by(FOO))
        wires = [login(dial, server, user="u"), login(dial, server)]
        server.reload(f"{text}ping_max: 5\n")
        for wire in wires:
            if server_kind == "natsc":
                assert wire.flush() == []
            else:
                assert wire.eof() == [VIOLATION]

    def test_an_account_that_gets_a_callout(self, start, dial, serve):
        """And one that loses it."""
        server = start(config(auth_users=[], allowed_accounts=[]))
        token = user_jwt(SENTINEL, AUTH, bearer_token=True)
        assert entry_of(server, login(dial, server, token))["account"] == str(AUTH)
        system = signed(dial(server), NOBODY, user_jwt(NOBODY, SYSTEM)).sub("r")
        for authorization, count in (({"auth_users": [str(SERVICE)], "allowed_accounts": [str(FOO)]}, 1), ({}, 1)):
            auth = account_jwt(AUTH, OPERATOR, authorization=authorization)
            system.pub(f"$SYS.REQ.ACCOUNT.{AUTH}.CLAIMS.UPDATE", auth, reply="r")
            assert event(system)["data"]["code"] == 200
            if authorization:
                service = serve(server, by(FOO))
            wire = login(dial, server, token)
            assert entry_of(server, wire)["account"] == str(FOO if authorization else AUTH)
            assert len(service.asked) == count

    def test_an_account_that_has_to_be_fetched(self, start, serve, dial, tmp_path):
        """The user's account is looked for when it is needed."""
        for key in (AUTH, FOO, SYSTEM):
            authorization = {"auth_users": [str(SERVICE)], "allowed_accounts": [str(FOO)]} if key is AUTH else {}
            (tmp_path / f"{key}.jwt").write_text(account_jwt(key, OPERATOR, authorization=authorization))
        operator = operator_jwt(OPERATOR, system_account=str(SYSTEM))
        server = start(
            f'http: 127.0.0.1:-1\noperator: {operator}\nresolver {{ type: full, dir: "{tmp_path}" }}\n'
            f"resolver_preload {{ {SYSTEM}: {account_jwt(SYSTEM, OPERATOR)} }}\n"
        )
        serve(server, by(FOO))
        assert entry_of(server, login(dial, server))["account"] == str(FOO)


def test_configured_directly(start, server_kind):
    """Not in operator mode."""
    from .harness import Server

    callout = f"auth_callout {{ issuer: {AUTH}, auth_users: [a] }}"
    text = config().replace("authorization {", f"authorization {{ {callout},")
    server = Server(server_kind, text, wait=False)
    try:
        assert server.wait() == 1
        assert "operators do not allow authorization callouts to be configured directly" in "\n".join(server.log)
    finally:
        server.close()


def test_the_claims_of_a_request_are_json_that_everybody_reads(shared_server, serve, dial):
    server = shared_server(config())
    service = serve(server, by(AUTH))
    login(dial, server, user='ü "quoted"\u2028 <&>', name="\U0001f600")
    assert service.wait().options["user"] == 'ü "quoted"\u2028 <&>'
    assert json.dumps(service.asked[0].client["name"]) == '"\\ud83d\\ude00"'
