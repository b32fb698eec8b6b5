"""Operator mode: users prove by JWTs who they are, and what they may stands there."""

from __future__ import annotations

import json
import time

import nats
import pytest

from tests.jwts import Key, account_jwt, base64url, encode, operator_jwt, user_jwt

VIOLATION = b"-ERR 'Authorization Violation'"
OPERATOR, OPERATOR_KEY, OTHER_OPERATOR = Key("O", "operator"), Key("O", "signing"), Key("O", "other")
ACCOUNT, ACCOUNT_KEY, SCOPED_KEY, SYSTEM = Key("A", "acct"), Key("A", "signing"), Key("A", "scoped"), Key("A", "sys")
SECOND = Key("A", "second")
USER, USER_2 = Key("U", "user"), Key("U", "user 2")
NOW = int(time.time())
HOUR = 3600
OPERATOR_JWT = operator_jwt(OPERATOR, system_account=str(SYSTEM), signing_keys=[str(OPERATOR_KEY)])


def config(*tokens, operator=None, more="", keys=(ACCOUNT, SYSTEM)):
    """A memory resolver with these accounts, the system account beside them."""
    tokens = (*tokens, account_jwt(SYSTEM, OPERATOR))
    preload = ", ".join(f"{key}: {token}" for key, token in zip(keys, tokens, strict=True))
    operator = operator or OPERATOR_JWT
    return f"http: 127.0.0.1:-1\noperator: {operator}\nresolver: MEMORY\nresolver_preload {{ {preload} }}\n{more}"


def scope(**template):
    return {"kind": "user_scope", "key": str(SCOPED_KEY), "role": "r", "description": "", "template": template}


PLAIN = config(account_jwt(ACCOUNT, OPERATOR, signing_keys=[str(ACCOUNT_KEY)]))


def login(dial, server, token, key=USER, *, sign=None, **options):
    """CONNECT with a JWT; sign: what is signed in place of the nonce, or "" for no signature."""
    wire = dial(server)
    signature = key.sign(wire.info["nonce"] if sign is None else sign) if sign != "" else None
    return wire.connect(**{"jwt": token, "sig": signature, **options})


def check_refused(dial, server, token, why=None, **options):
    mark = len(server.log)
    wire = login(dial, server, token, **options)
    assert wire.eof() == [VIOLATION]
    assert server.closed(wire.cid)["reason"] == "Authentication Failure"
    if why is not None:
        server.wait_log(f"cid:{wire.cid} - {why}", after=mark)


@pytest.fixture
def debugged(shared_server):
    """A server that says why it refuses."""
    return lambda config: shared_server(config + "debug: true\n")


class TestLogin:
    def test_accepted(self, shared_server, dial):
        assert login(dial, shared_server(PLAIN), user_jwt(USER, ACCOUNT)).flush() == []

    def test_by_a_signing_key(self, shared_server, dial):
        token = user_jwt(USER, ACCOUNT_KEY, issuer_account=str(ACCOUNT))
        assert login(dial, shared_server(PLAIN), token).flush() == []

    def test_an_account_that_an_operators_signing_key_signed(self, shared_server, dial):
        server = shared_server(config(account_jwt(ACCOUNT, OPERATOR_KEY)))
        assert login(dial, server, user_jwt(USER, ACCOUNT)).flush() == []

    def test_info(self, shared_server, dial):
        info = dial(shared_server(PLAIN)).info
        assert len(info["nonce"]) == 15
        assert info["auth_required"] is True

    def test_the_account_is_told(self, shared_server, dial):
        wire = login(dial, shared_server(PLAIN), user_jwt(USER, ACCOUNT), protocol=1).lines("PING")
        assert wire.line() == b"PONG"
        info = wire.read_info()
        assert info["remote_account"] == str(ACCOUNT)
        assert not info.get("acc_is_sys")

    def test_the_user_is_told_its_name(self, shared_server, dial):
        server = shared_server(PLAIN)
        for name in ("her", ""):
            wire = login(dial, server, user_jwt(USER, ACCOUNT, claims={"name": name}))
            op = wire.sub("_INBOX.x", 1).pub("$SYS.REQ.USER.INFO", reply="_INBOX.x").op()
            expected = {"user": str(USER), "account": str(ACCOUNT), "account_name": "acct"}
            found = json.loads(op.split(b"\r\n", 1)[1])["data"]
            assert list(found.items()) == list((expected | ({"user_name": name} if name else {})).items())

    def test_the_system_account(self, shared_server, dial):
        wire = login(dial, shared_server(PLAIN), user_jwt(USER, SYSTEM), protocol=1).lines("PING")
        assert wire.line() == b"PONG"
        assert wire.read_info()["acc_is_sys"] is True

    def test_a_bearer_token_needs_no_signature(self, shared_server, dial):
        assert login(dial, shared_server(PLAIN), user_jwt(USER, ACCOUNT, bearer_token=True), sign="").flush() == []

    def test_accounts_are_apart(self, shared_server, dial):
        keys = (ACCOUNT, SECOND, SYSTEM)
        server = shared_server(config(account_jwt(ACCOUNT, OPERATOR), account_jwt(SECOND, OPERATOR), keys=keys))
        listener = login(dial, server, user_jwt(USER, SECOND)).sub(">")
        listener.flush()
        login(dial, server, user_jwt(USER, ACCOUNT)).pub("x").flush()
        assert listener.flush() == []

    def test_a_token_of_version_1(self, shared_server, dial):
        claims = {"iat": NOW, "iss": str(ACCOUNT), "sub": str(USER), "name": "old", "type": "user", "nats": {}}
        body = base64url(json.dumps(claims).encode())
        head = base64url(b'{"typ":"jwt","alg":"ed25519"}')
        token = f"{head}.{body}.{base64url(ACCOUNT.private.sign(body.encode()))}"
        assert login(dial, shared_server(PLAIN), token).sub("x").flush() == []

    async def test_the_official_client_with_creds(self, shared_server, tmp_path):
        token = user_jwt(USER, ACCOUNT)
        creds = tmp_path / "user.creds"
        creds.write_text(
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{USER.seed}\n------END USER NKEY SEED------\n"
        )
        client = await nats.connect(shared_server(PLAIN).url, user_credentials=str(creds), allow_reconnect=False)
        await client.flush()
        await client.close()


class TestRefused:
    def test_nothing_but_a_jwt_counts(self, debugged, dial):
        server = debugged(PLAIN)
        for options in ({}, {"user": "a", "pass": "b"}, {"auth_token": "t"}, {"nkey": str(USER)}):
            wire = dial(server).connect(**options)
            assert wire.eof() == [VIOLATION]
            server.wait_log(f"cid:{wire.cid} - Authentication requires a user JWT")

    def test_something_else_before_connect(self, shared_server, dial):
        assert dial(shared_server(PLAIN)).lines("PING").eof() == [VIOLATION]

    @pytest.mark.parametrize("sign", ["", "another nonce"])
    def test_without_the_signature(self, debugged, dial, sign):
        why = "Signature not verified" if sign else "Signature missing"
        check_refused(dial, debugged(PLAIN), user_jwt(USER, ACCOUNT), why, sign=sign)

    def test_signed_by_somebody_else(self, debugged, dial):
        check_refused(dial, debugged(PLAIN), user_jwt(USER, ACCOUNT), "Signature not verified", key=USER_2)

    def test_no_base64(self, debugged, dial):
        wire = dial(debugged(PLAIN)).connect(jwt=user_jwt(USER, ACCOUNT), sig="!")
        assert wire.eof() == [VIOLATION]

    @pytest.mark.parametrize("spoil", [
        lambda token: token[:-4],
        lambda token: token.rsplit(".", 1)[0],
        lambda token: token.rsplit(".", 1)[0] + ".",
        lambda token: token + ".x",
        lambda token: token.replace(".", ".A", 1),
        lambda token: "x",
        lambda token: "..",
        lambda token: "eyJ." * 300,
    ])  # fmt: skip
    def test_truncated_and_spoilt(self, debugged, dial, spoil):
        token = spoil(user_jwt(USER, ACCOUNT))
        check_refused(dial, debugged(PLAIN), token, "Authentication requires a user JWT")

    def test_signed_again_by_another_key(self, debugged, dial):
        claims = {"sub": str(USER), "nats": {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}}
        token = encode(claims, ACCOUNT, forged=Key("A", "forger"))
        check_refused(dial, debugged(PLAIN), token, "Authentication requires a user JWT")

    def test_of_an_account_that_nobody_knows(self, debugged, dial):
        check_refused(dial, debugged(PLAIN), user_jwt(USER, SECOND), "Account JWT lookup error: account missing")

    def test_of_a_signing_key_of_another_account(self, debugged, dial):
        token = user_jwt(USER, SECOND, issuer_account=str(ACCOUNT))
        check_refused(dial, debugged(PLAIN), token, "User JWT issuer is not known")

    @pytest.mark.parametrize("token", [
        account_jwt(ACCOUNT, OPERATOR), operator_jwt(OPERATOR), user_jwt(USER, OPERATOR), user_jwt(USER, USER),
        encode({"sub": str(USER), "nats": {"type": "other", "version": 2}}, ACCOUNT),
        encode({"sub": str(USER), "nats": {"type": "user", "version": 3}}, ACCOUNT),
        encode({"sub": str(USER), "nats": {"type": "user"}}, ACCOUNT),
        encode({"sub": str(USER), "nats": {"type": "user", "version": 2, "subs": "all"}}, ACCOUNT),
        encode({"sub": str(USER), "nats": []}, ACCOUNT),
        encode({"sub": str(USER)}, ACCOUNT),
    ], ids=[str(number) for number in range(10)])  # fmt: skip
    def test_of_another_kind(self, debugged, dial, token):
        check_refused(dial, debugged(PLAIN), token, "Authentication requires a user JWT")

    def test_a_giant(self, shared_server, dial):
        token = user_jwt(USER, ACCOUNT, tags=["x" * 100] * 100)
        wire = login(dial, shared_server(PLAIN), token)
        assert wire.eof() == [b"-ERR 'maximum control line exceeded'"]

    def test_a_giant_that_fits(self, debugged, dial):
        server = debugged(PLAIN + "max_control_line: 4mb\n")
        token = "A" * (2 * 1024 * 1024)
        check_refused(dial, server, token, "Authentication requires a user JWT")
        head, _, signature = user_jwt(USER, ACCOUNT).split(".")
        check_refused(dial, server, f"{head}.{'W1tb' * 500_000}.{signature}", "Authentication requires a user JWT")
        assert login(dial, server, user_jwt(USER, ACCOUNT)).flush() == []

    def test_an_account_cant_be_chosen(self, shared_server, dial):
        wire = login(dial, shared_server(PLAIN), user_jwt(USER, ACCOUNT), account=str(SYSTEM))
        assert wire.eof() == [VIOLATION]


class TestTimes:
    def test_expired(self, debugged, dial):
        token = user_jwt(USER, ACCOUNT, claims={"exp": NOW - HOUR})
        check_refused(dial, debugged(PLAIN), token, "User JWT no longer valid")

    def test_not_yet_valid(self, debugged, dial):
        token = user_jwt(USER, ACCOUNT, claims={"nbf": NOW + HOUR})
        check_refused(dial, debugged(PLAIN), token, "User JWT no longer valid")

    def test_expires_during_the_connection(self, shared_server, dial):
        server = shared_server(PLAIN)
        wire = login(dial, server, user_jwt(USER, ACCOUNT, claims={"exp": int(time.time()) + 4}))
        assert wire.flush() == []
        assert wire.eof() == [b"-ERR 'User Authentication Expired'"]
        assert server.closed(wire.cid)["reason"] == "Authentication Expired"

    def test_the_account_expires(self, start, dial):
        server = start(config(account_jwt(ACCOUNT, OPERATOR, claims={"exp": int(time.time()) + 4})))
        wire = login(dial, server, user_jwt(USER, ACCOUNT))
        assert wire.flush() == []
        assert wire.eof() == [b"-ERR 'Account Authentication Expired'"]
        assert server.closed(wire.cid)["reason"] == "Authentication Expired"
        assert login(dial, server, user_jwt(USER, ACCOUNT)).eof() == [VIOLATION]

    def test_an_expired_account(self, start, dial):
        server = start(config(account_jwt(ACCOUNT, OPERATOR, claims={"exp": NOW - HOUR})))
        server.wait_log(rf"\[WRN\] Account \[{ACCOUNT}\] has validation issues:")
        server.wait_log(r"\[WRN\]   - claim is expired")
        assert login(dial, server, user_jwt(USER, ACCOUNT)).eof() == [VIOLATION]

    def test_outside_of_the_day(self, debugged, dial):
        never = [{"start": "00:00:00", "end": "00:00:00"}]
        check_refused(dial, debugged(PLAIN), user_jwt(USER, ACCOUNT, times=never), "Outside connect times")

    def test_all_day(self, shared_server, dial):
        spans = [{"start": "00:00:00", "end": "12:00:00"}, {"start": "11:59:00", "end": "00:01:00"}]
        token = user_jwt(USER, ACCOUNT, times=spans, times_location="Europe/Berlin")
        assert login(dial, shared_server(PLAIN), token).flush() == []

    @pytest.mark.parametrize("limits", [
        {"times": [{"start": "25:00:00", "end": "26:00:00"}]}, {"times": [{"start": "00:00:00"}]},
        {"times_location": "Nowhere/Land"}, {"src": ["no network"]},
    ])  # fmt: skip
    def test_limits_that_are_none(self, debugged, dial, limits):
        check_refused(dial, debugged(PLAIN), user_jwt(USER, ACCOUNT, **limits), "User JWT no longer valid")


class TestWhere:
    @pytest.mark.parametrize("src", [["127.0.0.0/8"], ["10.0.0.0/8", "127.0.0.1/32"], "10.0.0.0/8, 127.0.0.1/32"])
    def test_from_a_network(self, shared_server, dial, src):
        assert login(dial, shared_server(PLAIN), user_jwt(USER, ACCOUNT, src=src)).flush() == []

    def test_from_elsewhere(self, debugged, dial):
        token = user_jwt(USER, ACCOUNT, src=["10.0.0.0/8", "::1/128"])
        check_refused(dial, debugged(PLAIN), token, "Bad src Ip 127.0.0.1")

    @pytest.mark.parametrize("types", [["STANDARD"], ["standard", "MQTT"], ["TELEPATHY", "STANDARD"], []])
    def test_connection_types(self, shared_server, dial, types):
        token = user_jwt(USER, ACCOUNT, allowed_connection_types=types)
        assert login(dial, shared_server(PLAIN), token).flush() == []

    @pytest.mark.parametrize(
        ("types", "why"),
        [
            (["WEBSOCKET", "MQTT"], "Connection type not allowed"),
            (["TELEPATHY"], r'invalid connection types \["TELEPATHY"\]'),
            (["TELEPATHY", "MQTT"], "Connection type not allowed"),
        ],
    )
    def test_other_connection_types(self, debugged, dial, types, why):
        check_refused(dial, debugged(PLAIN), user_jwt(USER, ACCOUNT, allowed_connection_types=types), why)


class TestRights:
    def test_permissions(self, shared_server, dial):
        token = user_jwt(USER, ACCOUNT, pub={"allow": ["a.>"], "deny": ["a.b"]}, sub={"deny": ["secret"]})
        wire = login(dial, shared_server(PLAIN), token).pub("a.c").pub("a.b").pub("b").sub("secret").sub("x", 2)
        assert wire.flush() == [
            b"-ERR 'Permissions Violation for Publish to \"a.b\"'",
            b"-ERR 'Permissions Violation for Publish to \"b\"'",
            b"-ERR 'Permissions Violation for Subscription to \"secret\"'",
        ]

    def test_queues(self, shared_server, dial):
        token = user_jwt(USER, ACCOUNT, sub={"allow": ["a q"]})
        wire = login(dial, shared_server(PLAIN), token).sub("a", 1, queue="q").sub("a", 2)
        assert wire.flush() == [b"-ERR 'Permissions Violation for Subscription to \"a\"'"]

    def test_replies(self, shared_server, dial):
        server = shared_server(PLAIN)
        token = user_jwt(USER, ACCOUNT, resp={"max": 1, "ttl": 60_000_000_000}, sub={"allow": ["ask"]})
        responder = login(dial, server, token).sub("ask")
        responder.flush()
        asker = login(dial, server, user_jwt(USER_2, ACCOUNT), key=USER_2).sub("answer")
        asker.pub("ask", reply="answer").flush()
        assert responder.op()[:1] != []
        responder.pub("answer").pub("answer")
        assert responder.flush() == [b"-ERR 'Permissions Violation for Publish to \"answer\"'"]

    def test_what_the_account_says_of_those_who_have_none(self, shared_server, dial):
        server = shared_server(config(account_jwt(ACCOUNT, OPERATOR, default_permissions={"pub": {"deny": ["no"]}})))
        assert login(dial, server, user_jwt(USER, ACCOUNT)).pub("no").flush() == [
            b"-ERR 'Permissions Violation for Publish to \"no\"'"
        ]
        assert login(dial, server, user_jwt(USER, ACCOUNT, pub={"allow": ["no"]})).pub("no").flush() == []

    def test_payload(self, shared_server, dial):
        wire = login(dial, shared_server(PLAIN), user_jwt(USER, ACCOUNT, payload=4)).pub("x", "1234").pub("x", "12345")
        assert wire.eof() == [b"-ERR 'Maximum Payload Violation'"]

    def test_payload_of_the_account(self, shared_server, dial):
        server = shared_server(config(account_jwt(ACCOUNT, OPERATOR, limits={"payload": 4})))
        wire = login(dial, server, user_jwt(USER, ACCOUNT, payload=8)).pub("x", "12345")
        assert wire.eof() == [b"-ERR 'Maximum Payload Violation'"]

    def test_subscriptions(self, shared_server, dial):
        wire = login(dial, shared_server(PLAIN), user_jwt(USER, ACCOUNT, subs=1)).sub("a", 1).sub("b", 2)
        assert wire.flush() == [b"-ERR 'maximum subscriptions exceeded'"]

    def test_no_subscriptions_at_all(self, shared_server, dial):
        server = shared_server(PLAIN)
        wire = login(dial, server, user_jwt(USER, ACCOUNT, subs=0))
        assert wire.eof() == [b"-ERR 'maximum subscriptions exceeded'"]
        assert server.closed(wire.cid)["reason"] == "Maximum Subscriptions Exceeded"

    def test_connections(self, shared_server, dial):
        server = shared_server(config(account_jwt(ACCOUNT, OPERATOR, limits={"conn": 1})))
        first = login(dial, server, user_jwt(USER, ACCOUNT))
        assert first.flush() == []
        second = login(dial, server, user_jwt(USER, ACCOUNT))
        assert second.eof()[0] == b"-ERR 'maximum account active connections exceeded'"

    def test_no_bearer_tokens(self, debugged, dial):
        server = debugged(config(account_jwt(ACCOUNT, OPERATOR, limits={"disallow_bearer": True})))
        token = user_jwt(USER, ACCOUNT, bearer_token=True)
        check_refused(dial, server, token, "Account does not allow bearer tokens")
        assert login(dial, server, user_jwt(USER, ACCOUNT)).flush() == []


class TestRevoked:
    @pytest.mark.parametrize("who", [str(USER), "*"])
    def test_refused(self, debugged, dial, who):
        server = debugged(config(account_jwt(ACCOUNT, OPERATOR, revocations={who: NOW})))
        token = user_jwt(USER, ACCOUNT, claims={"iat": NOW - 1})
        check_refused(dial, server, token, "User authentication revoked")
        assert login(dial, server, user_jwt(USER, ACCOUNT, claims={"iat": NOW + 1})).flush() == []

    def test_somebody_else_is(self, shared_server, dial):
        server = shared_server(config(account_jwt(ACCOUNT, OPERATOR, revocations={str(USER_2): NOW + HOUR})))
        assert login(dial, server, user_jwt(USER, ACCOUNT)).flush() == []


TEMPLATE = {
    "pub": {"allow": ["users.{{name()}}.>", "key.{{subject()}}", "team.{{tag(team)}}", "none.{{tag(none)}}"]},
    "sub": {"allow": ["{{account-name()}}.x", "{{account-subject()}}.y", "of.{{account-tag(region)}}.z"]},
    "subs": 3, "payload": -1, "data": -1,
}  # fmt: skip


class TestScoped:
    def server(self, started, **template):
        return started(config(account_jwt(ACCOUNT, OPERATOR, signing_keys=[scope(**template)], tags=["region:eu"])))

    def token(self, **nats):
        return user_jwt(USER, SCOPED_KEY, issuer_account=str(ACCOUNT), scoped=True, **nats)

    def test_templates(self, debugged, dial):
        server = self.server(debugged, **TEMPLATE)
        wire = login(dial, server, self.token(tags=["team:red", "team:blue"]))
        wire.pub("users.usr.a").pub(f"key.{USER}").pub("team.red").pub("team.blue")
        wire.sub("acct.x", 1).sub(f"{ACCOUNT}.y", 2).sub("of.eu.z", 3)
        assert wire.flush() == []
        wire.pub("team.green").pub("users.other.a").sub("acct.y", 4)
        assert wire.flush() == [
            b"-ERR 'Permissions Violation for Publish to \"team.green\"'",
            b"-ERR 'Permissions Violation for Publish to \"users.other.a\"'",
            b"-ERR 'Permissions Violation for Subscription to \"acct.y\"'",
        ]

    def test_limits(self, debugged, dial):
        server = self.server(debugged, subs=1, payload=3)
        wire = login(dial, server, self.token()).sub("a", 1).sub("b", 2)
        assert wire.flush() == [b"-ERR 'maximum subscriptions exceeded'"]
        assert wire.pub("x", "1234").eof() == [b"-ERR 'Maximum Payload Violation'"]

    def test_nothing_is_left_of_what_was_allowed(self, debugged, dial):
        server = self.server(debugged, pub={"allow": ["{{tag(none)}}"]})
        assert login(dial, server, self.token()).pub("x").flush() == [
            b"-ERR 'Permissions Violation for Publish to \"x\"'"
        ]

    def test_a_tag_that_is_missing_in_what_is_denied(self, debugged, dial):
        server = self.server(debugged, pub={"deny": ["{{tag(none)}}"]})
        check_refused(dial, server, self.token(), "User JWT generated invalid permissions")

    def test_too_many_expansions(self, debugged, dial):
        server = self.server(debugged, pub={"allow": ["{{tag(a)}}.{{tag(b)}}"]})
        tags = [f"{name}:{number}" for name in "ab" for number in range(65)]
        check_refused(dial, server, self.token(tags=tags), "User JWT generated invalid permissions")
        assert login(dial, server, self.token(tags=tags[:64] + tags[65:-1])).flush() == []

    def test_an_unknown_operation(self, debugged, dial):
        server = self.server(debugged, pub={"allow": ["{{sesame()}}"]})
        check_refused(dial, server, self.token(), "User JWT generated invalid permissions")

    def test_a_tag_has_one_value_in_a_subject(self, debugged, dial):
        server = self.server(debugged, pub={"allow": ["{{tag(t)}}.{{tag(t)}}"]})
        wire = login(dial, server, self.token(tags=["t:1", "t:2"])).pub("1.1").pub("2.2").pub("1.2")
        assert wire.flush() == [b"-ERR 'Permissions Violation for Publish to \"1.2\"'"]

    @pytest.mark.parametrize("nats", [{"subs": -1}, {"pub": {"allow": ["x"]}}, {"bearer_token": True}])
    def test_users_have_no_limits_of_their_own(self, debugged, dial, nats):
        server = self.server(debugged)
        check_refused(dial, server, self.token(**nats), "User JWT is not valid: scoped users require no permissions")

    def test_bearer_and_connection_types(self, debugged, dial):
        server = self.server(debugged, bearer_token=True)
        assert login(dial, server, self.token(), sign="").flush() == []
        server = self.server(debugged, allowed_connection_types=["MQTT"])
        check_refused(dial, server, self.token(), "Connection type not allowed")


class TestTrust:
    def test_an_account_of_another_operator(self, start, dial):
        server = start(config(account_jwt(ACCOUNT, OTHER_OPERATOR)))
        assert login(dial, server, user_jwt(USER, ACCOUNT)).eof() == [VIOLATION]

    def test_a_self_signed_account(self, start, dial):
        server = start(config(account_jwt(ACCOUNT, ACCOUNT)))
        assert login(dial, server, user_jwt(USER, ACCOUNT)).eof() == [VIOLATION]

    def test_an_account_under_another_name(self, start, dial):
        server = start(config(account_jwt(SECOND, OPERATOR)))
        assert login(dial, server, user_jwt(USER, ACCOUNT)).eof() == [VIOLATION]

    def test_strict_signing_keys(self, start, dial):
        operator = operator_jwt(
            OPERATOR, system_account=str(SYSTEM), signing_keys=[str(OPERATOR_KEY)], strict_signing_key_usage=True
        )
        tokens = (
            account_jwt(ACCOUNT, OPERATOR_KEY, signing_keys=[str(ACCOUNT_KEY)]), account_jwt(SECOND, OPERATOR),
        )  # fmt: skip
        preload = f"{ACCOUNT}: {tokens[0]}, {SECOND}: {tokens[1]}, {SYSTEM}: {account_jwt(SYSTEM, OPERATOR_KEY)}"
        server = start(f"operator: {operator}\nresolver: MEMORY\nresolver_preload {{ {preload} }}")
        assert login(dial, server, user_jwt(USER, ACCOUNT)).eof() == [VIOLATION]
        assert login(dial, server, user_jwt(USER, ACCOUNT_KEY, issuer_account=str(ACCOUNT))).flush() == []
        assert login(dial, server, user_jwt(USER, SECOND)).eof() == [VIOLATION]

    def test_trusted_keys_without_an_operator(self, start, dial):
        server = start(f"trusted_keys: {OPERATOR}\nresolver: MEMORY\n"
                       f"resolver_preload {{ {ACCOUNT}: {account_jwt(ACCOUNT, OPERATOR)} }}")  # fmt: skip
        assert login(dial, server, user_jwt(USER, ACCOUNT)).flush() == []
        assert dial(server).connect().eof() == [VIOLATION]

    def test_pinned_accounts(self, start, dial):
        keys = (ACCOUNT, SECOND, SYSTEM)
        tokens = account_jwt(ACCOUNT, OPERATOR), account_jwt(SECOND, OPERATOR)
        server = start(config(*tokens, keys=keys, more=f"resolver_pinned_accounts: [{ACCOUNT}]\n"), "-D")
        assert login(dial, server, user_jwt(USER, ACCOUNT)).flush() == []
        assert login(dial, server, user_jwt(USER, SYSTEM)).flush() == []
        check_refused(dial, server, user_jwt(USER, SECOND), f"Account {SECOND} not listed as operator pinned account")
        assert server.varz()["pinned_account_fails"] == 1

    def test_the_default_sentinel(self, start, dial):
        sentinel = user_jwt(USER, ACCOUNT, bearer_token=True, pub={"allow": ["sentinel"]})
        server = start(config(account_jwt(ACCOUNT, OPERATOR), more=f"default_sentinel: {sentinel}\n"))
        for options in ({}, {"jwt": "rubbish"}, {"user": "a", "pass": "b"}):
            wire = dial(server).connect(**options).pub("sentinel").pub("x")
            assert wire.flush() == [b"-ERR 'Permissions Violation for Publish to \"x\"'"]

    @pytest.mark.parametrize("sentinel", ["rubbish", user_jwt(USER, ACCOUNT)])
    def test_a_sentinel_must_be_a_bearer_token(self, start, sentinel):
        server = start(config(account_jwt(ACCOUNT, OPERATOR), more=f"default_sentinel: {sentinel}\n"), wait=False)
        assert server.wait() == 1
        assert "nats-server: default sentinel" in "\n".join(server.log)

    def test_a_system_account_that_is_missing(self, start):
        operator = operator_jwt(OPERATOR, system_account=str(SYSTEM))
        server = start(f"operator: {operator}\nresolver: MEMORY\n", wait=False)
        assert server.wait() == 1
        assert "error resolving system account: account missing" in "\n".join(server.log)

    def test_a_newer_server_is_expected(self, start):
        operator = operator_jwt(OPERATOR, system_account=str(SYSTEM), assert_server_version="2.99.0")
        server = start(config(account_jwt(ACCOUNT, OPERATOR), operator=operator), wait=False)
        assert server.wait() == 1
        assert "expected minor version 99 > server minor version 15" in "\n".join(server.log)


class TestTold:
    def entry(self, server, wire, query="auth=1"):
        return next(entry for entry in server.connz(query) if entry["cid"] == wire.cid)

    def test_connz(self, shared_server, dial):
        server = shared_server(PLAIN)
        token = user_jwt(USER, ACCOUNT_KEY, issuer_account=str(ACCOUNT), tags=["a", "b"])
        wire = login(dial, server, token)
        wire.flush()
        entry = self.entry(server, wire)
        fields = ("authorized_user", "account", "jwt", "issuer_key", "name_tag", "tags")
        assert [entry[field] for field in fields] == [
            str(USER), str(ACCOUNT), token, str(ACCOUNT_KEY), "acct", ["a", "b"],
        ]  # fmt: skip

    def test_the_issuer_is_the_account_itself(self, shared_server, dial):
        server = shared_server(PLAIN)
        wire = login(dial, server, user_jwt(USER, ACCOUNT))
        wire.flush()
        assert self.entry(server, wire)["issuer_key"] == str(ACCOUNT)

    def test_bearer_tokens_are_not_shown(self, shared_server, dial):
        server = shared_server(PLAIN)
        token = user_jwt(USER, ACCOUNT, bearer_token=True)
        wire = login(dial, server, token, sign="")
        wire.flush()
        assert "jwt" not in self.entry(server, wire)
        assert token not in json.dumps(server.connz("auth=1&state=all"))
        wire.close()
        assert "jwt" not in server.closed(wire.cid)

    def test_the_log_names_the_user(self, start, dial):
        server = start(config(account_jwt(ACCOUNT, OPERATOR)), "-D")
        wire = login(dial, server, user_jwt(USER, ACCOUNT), name="app").sub("foo", 1).pub("x", "", "_R_.1.2")
        wire.flush()
        server.wait_log(f'cid:{wire.cid} - "app" - "{ACCOUNT}/acct/jwt:{USER}" - Publish Violation')

    def test_varz(self, shared_server):
        server = shared_server(PLAIN)
        varz = server.varz()
        assert varz["system_account"] == str(SYSTEM)
        assert [len(token.split(".")) for token in varz["trusted_operators_jwt"]] == [3]
        assert [claims["sub"] for claims in varz["trusted_operators_claim"]] == [str(OPERATOR)]

    def test_accountz(self, shared_server, dial):
        server = shared_server(PLAIN)
        login(dial, server, user_jwt(USER, ACCOUNT)).flush()
        detail = server.get(f"/accountz?acc={ACCOUNT}").json()["account_detail"]
        assert (detail["issuer_key"], detail["name_tag"]) == (str(OPERATOR), "acct")
        assert detail["decoded_jwt"]["sub"] == str(ACCOUNT)
        assert detail["jwt"].count(".") == 2
        assert sorted(server.get("/accountz").json()["accounts"]) == sorted(["$G", str(ACCOUNT), str(SYSTEM)])


class TestReload:
    def test_a_changed_account(self, start, dial):
        server = start(config(account_jwt(ACCOUNT, OPERATOR)))
        old, new = (login(dial, server, user_jwt(key, ACCOUNT, claims={"iat": NOW}), key=key) for key in (USER, USER_2))
        assert old.flush() == new.flush() == []
        server.reload(config(account_jwt(ACCOUNT, OPERATOR, revocations={str(USER): NOW + 1})))
        assert old.eof() == [b"-ERR 'User Authentication Revoked'"]
        assert server.closed(old.cid)["reason"] == "Credentials Revoked"
        assert new.flush() == []

    def test_an_account_that_is_gone(self, start, dial):
        keys = (ACCOUNT, SECOND, SYSTEM)
        tokens = account_jwt(ACCOUNT, OPERATOR), account_jwt(SECOND, OPERATOR)
        server = start(config(*tokens, keys=keys))
        first, second = (login(dial, server, user_jwt(USER, account)) for account in (ACCOUNT, SECOND))
        assert first.flush() == second.flush() == []
        lines = server.reload(config(tokens[0]))
        assert any(f'Reloaded: deleting account [removed]: "{SECOND}"' in line for line in lines)
        assert second.eof() == [VIOLATION]
        assert first.flush() == []

    def test_fewer_connections(self, start, dial):
        server = start(config(account_jwt(ACCOUNT, OPERATOR)))
        wires = [login(dial, server, user_jwt(USER, ACCOUNT)) for _ in range(3)]
        assert [wire.flush() for wire in wires] == [[], [], []]
        server.reload(config(account_jwt(ACCOUNT, OPERATOR, limits={"conn": 1})))
        assert wires[0].flush() == []
        for wire in wires[1:]:
            assert wire.eof()[0] == b"-ERR 'maximum account active connections exceeded'"

    def test_a_signing_key_that_is_gone(self, start, dial):
        server = start(config(account_jwt(ACCOUNT, OPERATOR, signing_keys=[str(ACCOUNT_KEY)])))
        wire = login(dial, server, user_jwt(USER, ACCOUNT_KEY, issuer_account=str(ACCOUNT)))
        stays = login(dial, server, user_jwt(USER_2, ACCOUNT), key=USER_2)
        assert wire.flush() == stays.flush() == []
        server.reload(config(account_jwt(ACCOUNT, OPERATOR)))
        wire.eof()
        assert server.closed(wire.cid)["reason"] == "Authentication Failure"
        assert stays.flush() == []

    def test_operators_stay(self, start, dial):
        server = start(config(account_jwt(ACCOUNT, OPERATOR)))
        other = operator_jwt(OTHER_OPERATOR, system_account=str(SYSTEM))
        server.reload(
            config(account_jwt(ACCOUNT, OPERATOR), operator=other), expect="Failed to reload server configuration"
        )
        assert login(dial, server, user_jwt(USER, ACCOUNT)).flush() == []
