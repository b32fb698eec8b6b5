"""auth_callout: a service in an account decides who comes in (configuration mode)."""

from __future__ import annotations

import json
import re
import time

import nats
import pytest

from tests.jwts import Key, base32

from .callout import ISSUER, SUBJECT, Service, event, response, user
from .harness import TIMEOUT_S, Server

VIOLATION = b"-ERR 'Authorization Violation'"
STRANGER = Key("A", "stranger")
NKEY = Key("U", "callout nkey")


def config(callout: str = "", more: str = "", timeout: str = "5s") -> str:
    """AUTH answers; FOO has a user of its own, BAR has none."""
    return f"""
        http: 127.0.0.1:-1
        server_name: SRV
        accounts {{
            AUTH {{ users [ {{user: auth, password: p}}, {{user: auth2, password: p}} ] }}
            FOO {{ users [ {{user: foo, password: p}}, {{nkey: {NKEY}}} ] }}
            BAR {{ default_permissions: {{ publish: {{ deny: "no" }} }} }}
            SYS {{ users [ {{user: sys, password: p}} ] }}
        }}
        system_account: SYS
        authorization {{
            timeout: {timeout}
            auth_callout {{ issuer: {ISSUER}, account: AUTH, auth_users: [auth, sys], {callout} }}
        }}
        {more}
    """


@pytest.fixture
def serve(dial):
    """Starts a service of the test's own on a server."""
    running = []

    def get(server, handler, xkey=None, **login):
        login = login or {"user": "auth", "pass": "p"}
        running.append(Service(dial(server).connect(**login), handler, xkey))
        return running[-1]

    yield get
    for service in running:
        service.close()


def into(account, **options):
    """A handler that puts everybody into that account."""
    return lambda asked: response(asked, jwt=user(asked, account, **options))


def account_of(wire):
    """The account and the user that a connection has become, by the server's word."""
    wire.sub("info", 90).pub("$SYS.REQ.USER.INFO", reply="info")
    return event(wire)["data"]


def check_refused(server, wire, why, mark):
    assert wire.eof() == [VIOLATION]
    assert server.closed(wire.cid)["reason"] == "Authentication Failure"
    server.wait_log(re.escape(f"[WRN] {why}") + "$", after=mark)


class TestAsked:
    def test_the_request(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, into("BAR"))
        wire = dial(server)
        wire.ready(user="u", **{"pass": "secret"}, name="cli", lang="go", version="1.2", protocol=1)
        asked = service.wait()
        assert asked.subject == SUBJECT
        assert asked.headers == b""
        claims = asked.claims
        assert {"aud": claims["aud"], "sub": claims["sub"], "iss": claims["iss"]} == {
            "aud": "nats-authorization-request", "sub": str(ISSUER), "iss": wire.info["server_id"],
        }  # fmt: skip
        assert 0 < claims["exp"] - claims["iat"] <= 6
        assert asked.nats == {
            "server_id": {
                "name": "SRV", "host": "127.0.0.1", "id": wire.info["server_id"], "version": wire.info["version"],
            },
            "user_nkey": asked.user,
            "client_info": {
                "host": "127.0.0.1", "id": wire.cid, "user": "u", "name": "cli", "kind": "Client", "type": "nats",
            },
            "connect_opts": {
                "user": "u", "pass": "secret", "name": "cli", "lang": "go", "version": "1.2", "protocol": 1,
            },
            "type": "authorization_request", "version": 2,
        }  # fmt: skip
        assert list(asked.nats) == ["server_id", "user_nkey", "client_info", "connect_opts", "type", "version"]
        assert asked.user.startswith("U")

    def test_the_server_has_signed_it(self, shared_server, serve, dial):
        from nacl.signing import VerifyKey

        server = shared_server(config())
        service = serve(server, into("BAR"))
        dial(server).ready(user="u")
        head, body, signature = service.wait().token.split(".")
        assert json.loads(_decoded(head)) == {"typ": "JWT", "alg": "ed25519-nkey"}
        VerifyKey(_key(service.asked[0].claims["iss"])).verify(f"{head}.{body}".encode(), _decoded(signature))

    def test_each_question_is_for_another_user(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, into("BAR"))
        dial(server).ready(user="u")
        dial(server).ready(user="u")
        assert service.wait(1).user != service.wait(2).user
        assert service.wait(1).reply != service.wait(2).reply

    @pytest.mark.parametrize(("said", "shown", "name"), [
        ({"auth_token": "t"}, {"auth_token": "t"}, "[REDACTED]"),
        ({"nkey": "U", "sig": "s"}, {"nkey": "U", "sig": "s"}, None),
        ({"jwt": "j", "user": "u"}, {"user": "u"}, "u"),
        ({}, {}, None),
    ])  # fmt: skip
    def test_what_connect_said(self, start, serve, dial, said, shown, name):
        server = start(config().replace(f", {{nkey: {NKEY}}}", ""))
        service = serve(server, into("BAR"))
        dial(server).ready(**said)
        options = service.wait().options
        assert options == {**shown, "protocol": 0}
        if "nkey" not in said:
            assert service.asked[0].client.get("user") == name

    def test_a_signature_comes_with_its_nonce(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, into("BAR"))
        wire = dial(server)
        wire.ready(nkey=str(NKEY), sig=NKEY.sign(wire.info["nonce"]))
        assert service.wait().client["nonce"] == wire.info["nonce"]

    def test_tags_and_cluster_of_the_server(self, start, serve, dial):
        more = 'server_tags: ["a:1", "b"]\ncluster { name: C, listen: "127.0.0.1:-1" }'
        server = start(config(more=more))
        service = serve(server, into("BAR"))
        dial(server).ready(user="u")
        here = service.wait().nats["server_id"]
        assert (here["cluster"], here["tags"]) == ("C", ["a:1", "b"])

    def test_who_may_ask(self, shared_server, serve, dial):
        """Nobody but the server publishes there in the callout's account."""
        server = shared_server(config())
        service = serve(server, into("AUTH"))
        line = f"-ERR 'Permissions Violation for Publish to \"{SUBJECT}\"'".encode()
        assert dial(server).ready(user="auth2", **{"pass": "p"}).pub(SUBJECT).flush() == [line]
        assert dial(server).ready(user="auth", **{"pass": "p"}).pub(SUBJECT).flush() == [line]
        assert len(service.asked) == 1

    def test_in_other_accounts_it_is_a_subject_like_others(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, into("BAR"))
        wire = dial(server).ready(user="u").sub(SUBJECT).pub(SUBJECT, "x")
        assert wire.flush() == [f"MSG {SUBJECT} 1 1\r\nx".encode()]
        assert len(service.asked) == 1

    def test_a_service_of_another_account(self, start, serve, dial):
        """The callout's account may import what answers."""
        server = start(config().replace("AUTH {", f"""
            SVC {{ users [ {{user: svc, password: p}} ], exports [ {{service: "{SUBJECT}"}} ] }}
            AUTH {{ imports [ {{service: {{account: SVC, subject: "{SUBJECT}"}}}} ],
        """).replace("[auth, sys]", "[auth, svc, sys]"))  # fmt: skip
        service = serve(server, into("BAR"), user="svc", **{"pass": "p"})
        assert account_of(dial(server).ready(user="u"))["account"] == "BAR"
        assert len(service.asked) == 1


def _decoded(part):
    import base64

    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _key(text):
    import base64

    return base64.b32decode(text + "=" * (-len(text) % 8))[1:33]


class TestLetIn:
    def test_into_an_account(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR", pub={"allow": ["a", "$SYS.REQ.USER.INFO"], "deny": ["b"]}, sub={"allow": ["info"]}))
        wire = dial(server).ready(user="u")
        assert account_of(wire) == {
            "user": "u", "account": "BAR", "account_name": "BAR",
            "permissions": {
                "publish": {"allow": ["a", "$SYS.REQ.USER.INFO"], "deny": ["b"]}, "subscribe": {"allow": ["info"]},
            },
        }  # fmt: skip
        assert wire.pub("c").flush() == [b"-ERR 'Permissions Violation for Publish to \"c\"'"]

    def test_default_permissions_are_for_users_of_the_configuration(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR"))
        assert dial(server).ready(user="u").pub("no").flush() == []

    @pytest.mark.parametrize("account", ["$G", "AUTH", "SYS", "FOO"])
    def test_into_any_account_that_there_is(self, shared_server, serve, dial, account):
        server = shared_server(config())
        serve(server, into(account))
        assert account_of(dial(server).ready(user="u"))["account"] == account

    def test_another_name(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR", claims={"name": "alice"}))
        wire = dial(server).ready(auth_token="t")
        assert account_of(wire)["user"] == "alice"
        entry = server.connz(f"auth=1&cid={wire.cid}")[0]
        assert (entry["authorized_user"], entry["account"], entry["issuer_key"]) == ("alice", "BAR", "BAR")
        assert "jwt" not in entry
        assert "tags" not in entry

    def test_the_log_names_it_so(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR", claims={"name": "alice"}, pub={"deny": ["x"]}))
        dial(server).ready(user="u", name="cli").pub("x").flush()
        server.wait_log(r'- "cli" - "BAR/user:alice" - Publish Violation - Subject "x"$')

    def test_verbose(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR"))
        assert dial(server).connect(verbose=True, user="u").flush() == [b"+OK"]

    def test_what_comes_behind_connect_waits(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR"))
        wire = dial(server).connect(user="u").sub("s").pub("s", "x")
        assert wire.flush() == [b"MSG s 1 1\r\nx"]

    def test_expiry(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, lambda asked: into("BAR", claims={"exp": int(time.time()) + 2})(asked))
        wire = dial(server).ready(user="u")
        assert wire.eof() == [b"-ERR 'User Authentication Expired'"]
        assert server.closed(wire.cid)["reason"] == "Authentication Expired"

    def test_times(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR", times=[{"start": "00:00:00", "end": "23:59:59"}]))
        wire = dial(server).ready(user="u")
        assert account_of(wire)["expires"] > 0

    def test_an_answer_with_headers(self, shared_server, serve, dial):
        server = shared_server(config())

        def answer(asked):
            service.wire.hpub(asked.reply, b"NATS/1.0\r\nNats-Service: x\r\n\r\n", into("BAR")(asked))

        service = serve(server, answer)
        assert account_of(dial(server).ready(user="u"))["account"] == "BAR"

    def test_allowed_responses(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR", sub={"allow": ["q"]}, resp={"max": 1, "ttl": 0}))
        responder = dial(server).ready(user="u").sub("q")
        responder.flush()
        dial(server).ready(user="u").pub("x").flush()
        assert responder.pub("r1").flush() == [b"-ERR 'Permissions Violation for Publish to \"r1\"'"]

    async def test_the_official_client_and_service(self, shared_server):
        """Both ends are nats-py."""
        from .callout import Asked

        server = shared_server(config())
        options = {"allow_reconnect": False, "connect_timeout": TIMEOUT_S}
        service = await nats.connect(server.url, user="auth", password="p", **options)

        async def answer(msg):
            asked = Asked(msg.subject, msg.reply, b"", msg.data, None)
            if asked.options.get("pass") == "right":
                await msg.respond(response(asked, jwt=user(asked, "BAR")))
            else:
                await msg.respond(response(asked, error="wrong password"))

        await service.subscribe(SUBJECT, cb=answer)
        await service.flush()
        client = await nats.connect(server.url, user="u", password="right", **options)
        info = json.loads((await client.request("$SYS.REQ.USER.INFO", timeout=TIMEOUT_S)).data)
        assert info["data"]["account"] == "BAR"
        with pytest.raises(nats.errors.Error):
            await nats.connect(server.url, user="u", password="wrong", **options)
        await client.close()
        await service.close()


class TestWhoIsAskedAbout:
    def test_not_the_services_users(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, into("BAR"))
        assert account_of(dial(server).ready(user="auth", **{"pass": "p"}))["account"] == "AUTH"
        assert account_of(dial(server).ready(user="sys", **{"pass": "p"}))["account"] == "SYS"
        wire = dial(server).connect(user="auth", **{"pass": "wrong"})
        assert wire.eof() == [VIOLATION]
        assert service.asked == []

    def test_users_of_the_configuration(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, into("BAR"))
        assert account_of(dial(server).ready(user="foo", **{"pass": "p"}))["account"] == "BAR"
        assert account_of(dial(server).ready(user="foo", **{"pass": "wrong"}))["account"] == "BAR"
        assert len(service.asked) == 2

    def test_allowed_accounts(self, shared_server, serve, dial):
        """Of other accounts, who has a user of the configuration is let in without a question."""
        server = shared_server(config("allowed_accounts: [BAR]"))
        service = serve(server, into("BAR"))
        assert account_of(dial(server).ready(user="foo", **{"pass": "p"}))["account"] == "FOO"
        assert service.asked == []
        assert account_of(dial(server).ready(user="foo", **{"pass": "wrong"}))["account"] == "BAR"
        assert account_of(dial(server).ready(user="u"))["account"] == "BAR"
        assert len(service.asked) == 2

    def test_a_name_that_somebody_else_has_proven(self, shared_server, serve, dial):
        """The service's name in a field that doesn't count isn't its credential."""
        server = shared_server(config().replace(f", {{nkey: {NKEY}}}", ""))
        service = serve(server, into("BAR"))
        assert account_of(dial(server).ready(user="foo", **{"pass": "p"}, nkey="auth"))["account"] == "BAR"
        assert len(service.asked) == 1

    def test_the_no_auth_user(self, start, serve, dial):
        server = start(config(more="no_auth_user: foo"))
        service = serve(server, into("BAR"))
        assert account_of(dial(server).ready())["account"] == "BAR"
        assert service.wait().options == {"user": "foo", "pass": "p", "protocol": 0}

    def test_the_no_auth_user_before_connect(self, start, serve, dial):
        server = start(config(more="no_auth_user: foo"))
        service = serve(server, lambda asked: b"")
        assert dial(server).lines("PING").eof() == [VIOLATION]
        service.handler = into("BAR")
        wire = dial(server).lines("PING", "SUB a 1")
        assert (wire.line(), wire.line()) == (b"PONG", b"+OK")
        assert server.connz(f"auth=1&cid={wire.cid}")[0]["account"] == "BAR"
        assert len(service.asked) == 2

    def test_the_no_auth_user_before_connect_expires(self, start, serve, dial):
        server = start(config(more="no_auth_user: foo"))
        serve(server, lambda asked: into("BAR", claims={"exp": int(time.time()) + 2})(asked))
        assert dial(server).lines("PING").eof() == [b"PONG", b"-ERR 'User Authentication Expired'"]

    def test_again_with_a_second_connect(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, lambda asked: into(asked.options["name"])(asked))
        wire = dial(server).ready(user="u", name="BAR").sub("s", 5)
        assert account_of(wire)["account"] == "BAR"
        assert wire.connect(user="u", name="FOO").flush() == []
        assert account_of(wire)["account"] == "FOO"
        assert wire.pub("s").flush() == []  # subscriptions don't move along
        assert len(service.asked) == 2

    def test_a_full_account_asks_nobody(self, start, serve, dial):
        server = start(config().replace("FOO {", "FOO { limits { max_connections: 0 },"))
        service = serve(server, into("BAR"))
        wire = dial(server).connect(user="foo", **{"pass": "p"})
        assert wire.eof() == [b"-ERR 'maximum account active connections exceeded'"]
        assert service.asked == []

    def test_into_a_full_account(self, start, serve, dial):
        server = start(config().replace("BAR {", "BAR { limits { max_connections: 1 },"))
        serve(server, into("BAR"))
        dial(server).ready(user="u")
        assert b"-ERR 'maximum account active connections exceeded'" in dial(server).connect(user="u").eof()


class TestRefused:
    @pytest.mark.parametrize(("answer", "why"), [
        (lambda a: b"", 'Auth callout violation: "no reason supplied" on account "AUTH"'),
        (lambda a: response(a, error="go away"), "Auth callout service returned an error: go away"),
        (lambda a: b"junk", "Expected 3 chunks"),
        (lambda a: user(a, "BAR").encode(), "Not an authorization request claim"),
        (lambda a: response(a), "Authorization response had validation errors: Error or Jwt is required"),
        (lambda a: response(a, jwt="x", error="y"),
         "Authorization response had validation errors: Only Error or Jwt can be set"),
        (lambda a: response(a, jwt=user(a, "BAR"), claims={"exp": 5}),
         "Authorization response had validation errors: claim is expired"),
        (lambda a: response(a, jwt=user(a, "BAR"), claims={"sub": str(NKEY)}),
         "Auth callout violation: auth callout response is not for expected user"),
        (lambda a: response(a, jwt=user(a, "BAR"), claims={"aud": str(Key("N", "other"))}),
         "Auth callout violation: auth callout response is not for server"),
        (lambda a: response(a, jwt=user(a, "BAR"), claims={"aud": ""}),
         "Authorization response had validation errors: Audience must be a server public key"),
        (lambda a: response(a, jwt=user(a, "BAR"), signer=STRANGER), "Auth callout signing key is unknown"),
        (lambda a: response(a, error="x", signer=STRANGER), "Auth callout signing key is unknown"),
        (lambda a: response(a, jwt=user(a, "BAR"), signer=Key("U", "o")),
         "Unable to validate expected prefixes - [account]"),
        (lambda a: response(a, jwt=user(a, "BAR"), forged=STRANGER), "Claim failed V2 signature verification"),
        (lambda a: response(a, jwt=user(a, "BAR"), header={"typ": "JWT", "alg": "none"}),
         'Unexpected "none" algorithm'),
        (lambda a: response(a, jwt=user(a, "BAR"), header={"typ": "JWT", "alg": "HS256"}),
         'Unexpected "HS256" algorithm'),
        (lambda a: response(a, jwt="junk"), "Expected 3 chunks"),
        (lambda a: response(a, jwt=user(a, "BAR", signer=STRANGER)),
         f'Wrong issuer for auth callout response on account "AUTH", expected "{ISSUER}" got "{STRANGER}"'),
        (lambda a: response(a, jwt=user(a, "BAR", issuer_account=str(STRANGER))),
         'Error non operator mode account "AUTH": attempted to use issuer_account'),
        (lambda a: response(a, jwt=user(a, "BAR", claims={"exp": 5})), "Error validating user JWT: claim is expired"),
        (lambda a: response(a, jwt=user(a, "BAR", claims={"nbf": int(time.time()) + 1000})),
         "Error validating user JWT: claim is not yet valid"),
        (lambda a: response(a, jwt=user(a, "BAR", pub={"allow": ["a..b"]})),
         'Error validating user JWT: subject "a..b" cannot contain consecutive `.`'),
        (lambda a: response(a, jwt=user(a, "NONE")),
         'No valid account "NONE" for auth callout response on account "AUTH": account missing'),
        (lambda a: response(a, jwt=user(a)),
         'No valid account "" for auth callout response on account "AUTH": account missing'),
        (lambda a: response(a, jwt=user(a, "BAR", allowed_connection_types=["PIGEON"])),
         'Authorized user on account "AUTH" using invalid connection type'),
        (lambda a: response(a, jwt=user(a, "BAR", times=[{"start": "00:00:00", "end": "00:00:00"}])),
         'Authorized user on account "AUTH" outside of valid connect times'),
        (lambda a: response(a, jwt=user(a, "BAR", proxy_required=True)), "Proxy connection required"),
    ], ids=[str(number) for number in range(27)])  # fmt: skip
    def test_answers_that_let_nobody_in(self, shared_server, serve, dial, answer, why):
        server = shared_server(config())
        serve(server, answer)
        mark = len(server.log)
        wire = dial(server).connect(user="u")
        assert wire.eof() == [VIOLATION]
        reason = "Proxy Required" if "Proxy" in why else "Authentication Failure"
        assert server.closed(wire.cid)["reason"] == reason
        server.wait_log(re.escape(f"[WRN] {why}") + "$", after=mark)
        server.wait_log(f'cid:{wire.cid} - authentication error - User "u"$', after=mark)

    def test_a_user_for_somebody_else(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, into("BAR", claims={"sub": str(NKEY)}))
        mark = len(server.log)
        wire = dial(server).connect(user="u")
        why = f'Expected authorized user of "{service.wait().user}" but got "{NKEY}" on account "AUTH"'
        check_refused(server, wire, why, mark)

    def test_an_answer_of_yesterday(self, shared_server, serve, dial):
        """What let one in lets in no other."""
        server = shared_server(config())
        answers = []

        def once(asked):
            answers.append(response(asked, jwt=user(asked, "BAR")))
            return answers[0]

        serve(server, once)
        dial(server).ready(user="u")
        mark = len(server.log)
        wire = dial(server).connect(user="u")
        check_refused(server, wire, "Auth callout violation: auth callout response is not for expected user", mark)

    def test_the_first_answer_counts(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, lambda asked: b"")
        late = serve(server, lambda asked: None)
        wire = dial(server).connect(user="u")
        assert wire.eof() == [VIOLATION]
        asked = late.wait()
        late.wire.pub(asked.reply, into("BAR")(asked))
        assert server.closed(wire.cid)["reason"] == "Authentication Failure"

    def test_no_answer(self, start, serve, dial):
        server = start(config(timeout="300ms", more="debug: true"))
        serve(server, lambda asked: None)
        wire = dial(server).connect(user="u")
        assert wire.eof() == [VIOLATION]
        server.wait_log(r'\[DBG\] Authorization callout response not received in time on account "AUTH"$')
        assert server.closed(wire.cid)["reason"] == "Authentication Failure"

    def test_nobody_to_answer(self, start, dial):
        server = start(config(timeout="300ms"))
        began = time.monotonic()
        assert dial(server).connect(user="u").eof() == [VIOLATION]
        assert time.monotonic() - began >= 0.25

    def test_the_service_goes_before_it_answers(self, start, serve, dial):
        server = start(config(timeout="300ms"))
        service = serve(server, lambda asked: None)
        wire = dial(server).connect(user="u")
        service.wait()
        service.wire.sock.shutdown(2)
        assert wire.eof() == [VIOLATION]

    def test_who_wants_an_account_by_connect(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR"))
        assert dial(server).connect(user="u", account="BAR").eof() == [VIOLATION]

    def test_nothing_of_a_refused_connection_happens(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, lambda asked: b"" if asked.options["user"] == "bad" else into("BAR")(asked))
        listener = dial(server).ready(user="u").sub(">")
        listener.flush()
        assert dial(server).connect(user="bad").pub("x", "y").eof() == [VIOLATION]
        assert listener.flush() == []


class TestEvents:
    def check(self, server, dial, why, said="u"):
        system = dial(server).ready(user="sys", **{"pass": "p"}).sub("$SYS.SERVER.*.CLIENT.AUTH.ERR")
        system.flush()
        owner = dial(server).ready(user="auth", **{"pass": "p"}).sub("$SYS.ACCOUNT.CLIENT.AUTH.ERR")
        owner.flush()
        wire = dial(server).connect(user=said, **{"pass": "p"})
        assert wire.eof() == [VIOLATION]
        told = event(system)
        assert (told["reason"], told["client"]["user"]) == ("Authentication Failure", said)
        assert told["client"]["id"] == wire.cid
        owned = event(owner)
        assert owned["type"] == "io.nats.server.advisory.v1.client_disconnect"
        assert (owned["reason"], owned["client"]["acc"]) == (why, "AUTH")
        assert owned["client"]["id"] == wire.cid
        return told

    def test_a_refusal(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, lambda asked: response(asked, error="go away"))
        told = self.check(server, dial, "Auth callout service returned an error: go away")
        assert told["client"]["acc"] == "$G"

    def test_of_a_user_of_the_configuration(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, lambda asked: b"")
        told = self.check(server, dial, 'Auth callout violation: "no reason supplied" on account "AUTH"', "foo")
        assert told["client"]["acc"] == "FOO"

    def test_no_answer(self, start, dial):
        self.check(start(config(timeout="300ms")), dial, "")

    def test_of_the_services_own_user(self, shared_server, serve, dial):
        server = shared_server(config())
        owner = dial(server).ready(user="auth", **{"pass": "p"}).sub("$SYS.ACCOUNT.CLIENT.AUTH.ERR")
        owner.flush()
        assert dial(server).connect(user="auth", **{"pass": "no"}).eof() == [VIOLATION]
        assert event(owner)["reason"] == "Authentication Failure"

    def test_who_comes_in(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR", claims={"name": "alice"}))
        system = dial(server).ready(user="sys", **{"pass": "p"}).sub("$SYS.ACCOUNT.BAR.*")
        system.flush()
        wire = dial(server).ready(user="u")
        told = event(system)["client"]
        assert {name: told[name] for name in ("id", "acc", "user", "issuer_key", "name_tag")} == {
            "id": wire.cid, "acc": "BAR", "user": "alice", "issuer_key": "BAR", "name_tag": "BAR",
        }  # fmt: skip
        wire.close()
        assert event(system)["client"]["user"] == "alice"

    def test_without_a_callout_it_is_the_accounts(self, start, dial):
        server = start("authorization { users [ {user: a, password: p} ] }")
        listener = dial(server).ready(user="a", **{"pass": "p"}).sub("$SYS.ACCOUNT.CLIENT.AUTH.ERR")
        listener.flush()
        assert dial(server).connect(user="a", **{"pass": "no"}).eof() == [VIOLATION]
        assert event(listener)["reason"] == "Authentication Failure"


class TestDifferent:
    def test_limits_of_the_user(self, shared_server, server_kind, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR", subs=1, payload=5))
        wire = dial(server).ready(user="u").sub("a", 1).sub("b", 2)
        few, many = [b"-ERR 'maximum subscriptions exceeded'"], []
        assert wire.flush() == {"natsc": few, "nats-server": many}[server_kind]
        wire.pub("x", "123456")
        if server_kind == "natsc":
            assert wire.eof() == [b"-ERR 'Maximum Payload Violation'"]
        else:
            assert wire.flush() == []

    def test_limits_that_are_not_given(self, shared_server, serve, dial):
        server = shared_server(config())
        serve(server, into("BAR", subs=0, payload=0, data=0))
        assert dial(server).ready(user="u").sub("a").pub("a", "x").flush() == [b"MSG a 1 1\r\nx"]

    @pytest.mark.parametrize("restriction", [
        {"allowed_connection_types": ["WEBSOCKET"]}, {"src": ["10.0.0.0/8"]},
    ])  # fmt: skip
    def test_where_the_user_may_come_from(self, shared_server, server_kind, serve, dial, restriction):
        server = shared_server(config())
        serve(server, into("BAR", **restriction))
        wire = dial(server).connect(user="u")
        if server_kind == "natsc":
            assert wire.eof() == [VIOLATION]
        else:
            assert wire.flush() == []

    def test_no_users_at_all(self, start, server_kind, dial):
        text = f"authorization {{ timeout: 300ms, auth_callout {{ issuer: {ISSUER}, auth_users: [nobody] }} }}"
        server = start(text)
        assert dial(server).connect(user="u").eof() == [VIOLATION]
        assert dial(server).connect(user="nobody").eof() == [VIOLATION]
        wire = dial(server).lines("PING")
        assert wire.line() == {"natsc": VIOLATION, "nats-server": b"PONG"}[server_kind]

    def test_questions_in_a_trace(self, start, server_kind, serve, dial):
        server = start(config(more="trace: true"))
        service = serve(server, into("BAR"))
        mark = len(server.log)
        dial(server).ready(user="u", **{"pass": "secret"}).pub("after", "shown").flush()
        server.wait_log(r"MSG_PAYLOAD: \[\"shown\"\]", after=mark)
        log = "\n".join(server.log)
        assert (service.wait().token in log) == (server_kind == "nats-server")
        if server_kind == "natsc":
            assert re.search(r"->> \[MSG \$SYS.REQ.USER.AUTH 1 .*\n.* ->> MSG_PAYLOAD: \[\"\[REDACTED\]\"\]", log)

    def test_what_the_log_has_at_the_start(self, start, server_kind):
        server = start(config().replace("[auth, sys]", "[auth, nobody]"))
        said = any("Authorization callout user" in line for line in server.log)
        assert said == (server_kind == "natsc")

    def test_an_xkey_that_is_none(self, server_kind):
        """The all-zero key, for which CVE-2023-46129 had everything encrypted."""
        zero = base32(bytes([23 << 3]) + bytes(32))
        server = Server(server_kind, config(f"xkey: {zero}"), wait=False)
        try:
            if server_kind == "nats-server":
                server.wait_log("Server is ready")
            else:
                assert server.wait() == 1
                assert re.search(r"server.conf:\d+:\d+: callout xkey .* is of small order", "\n".join(server.log))
        finally:
            server.close()


class TestReload:
    def test_the_block_stays_as_it_is(self, start, dial):
        server = start(config())
        before, after = (rf"&\{{{ISSUER} AUTH \[auth sys\]  \[{allowed}\]\}}" for allowed in ("", "BAR"))
        failed = rf"config reload not supported for AuthCallout: old={before}, new={after}$"
        server.reload(config("allowed_accounts: [BAR]"), failed)
        server.reload(config().replace("auth_callout", "#"), r"config reload not supported|Failed to reload")

    def test_another_timeout(self, start, serve, dial):
        server = start(config(timeout="30s"))
        serve(server, lambda asked: None)
        server.reload(config(timeout="300ms"))
        assert dial(server).connect(user="u").eof() == [VIOLATION]

    def test_with_a_name(self, start, serve, dial):
        """Its user is in no table: it comes back, and is asked about again."""
        server = start(config())
        serve(server, into("BAR"))
        wire = dial(server).ready(user="u")
        server.reload(config(more="ping_max: 5"))
        assert wire.eof() == []
        assert server.closed(wire.cid)["reason"] == "Client Closed"

    def test_asked_again_after_a_reload(self, start, server_kind, serve, dial):
        """Without a name it stays, for nothing that concerns it has changed, or after another question."""
        server = start(config())
        service = serve(server, into("BAR"))
        wire = dial(server).ready(auth_token="t")
        server.reload(config(more="ping_max: 5"))
        assert wire.flush() == []
        assert account_of(wire)["account"] == "BAR"
        assert len(service.asked) == {"natsc": 1, "nats-server": 2}[server_kind]

    def test_without_a_name_where_it_concerns_everybody(self, start, serve, dial):
        text = """authorization { timeout: 300ms, user: auth, password: p, auth_callout {
            issuer: ISSUER, auth_users: [auth] } }"""
        text = text.replace("ISSUER", str(ISSUER))
        server = start(text)
        serve(server, into("$G"))
        wire = dial(server).ready(auth_token="t")
        server.reload(text.replace("password: p", "password: q"))
        assert wire.eof() == [VIOLATION]  # the service had to go, so nobody answers

    def test_who_waits(self, start, serve, dial):
        """An answer that comes after a reload counts."""
        server = start(config())
        service = serve(server, lambda asked: None)
        wire = dial(server).connect(user="u")
        asked = service.wait()
        if server.kind == "natsc":  # nats-server asks a second time
            server.reload(config(more="ping_max: 5"))
        service.wire.pub(asked.reply, into("BAR")(asked))
        assert account_of(wire)["account"] == "BAR"


class TestLeaving:
    def test_before_the_answer(self, shared_server, serve, dial):
        server = shared_server(config())
        service = serve(server, lambda asked: None)
        wire = dial(server).connect(user="u")
        asked = service.wait()
        wire.close()
        deadline = time.monotonic() + TIMEOUT_S
        service.wire.pub(asked.reply, into("BAR")(asked))
        while any(entry["cid"] == wire.cid for entry in server.connz()):
            assert time.monotonic() < deadline
        assert server.varz()["connections"] >= 1

    def test_many_at_a_time(self, shared_server, serve, dial):
        server = shared_server(config())
        waiting = []
        service = serve(server, lambda asked: waiting.append(asked))
        wires = [dial(server).connect(user=f"u{number}") for number in range(50)]
        service.wait(50)
        for asked in reversed(waiting):
            service.wire.pub(asked.reply, into("BAR")(asked))
        for number, wire in enumerate(wires):
            assert account_of(wire)["user"] == f"u{number}"

    def test_nobody_else_waits(self, shared_server, serve, dial):
        """While one login is undecided, others and messages go on."""
        server = shared_server(config("allowed_accounts: [BAR]"))
        service = serve(server, lambda asked: None)
        dial(server).connect(user="u")
        service.wait()
        wire = dial(server).ready(user="foo", **{"pass": "p"}).sub("a").pub("a", "x")
        assert wire.flush() == [b"MSG a 1 1\r\nx"]


class TestStart:
    def test_an_account_and_users_that_there_are_not(self, start):
        """nats-server finds out before it has a log, and says so when it looks again."""
        text = config().replace("account: AUTH", "account: NONE").replace("[auth, sys]", "[auth, nobody]")
        lines = "\n".join(start(text).reload(text))
        assert '[ERR] Authorization callout account "NONE" not valid\n' in lines
        assert '[ERR] Authorization callout user "nobody" not valid: account missing\n' in lines

    def test_a_user_that_there_is_not(self, start):
        text = config().replace("[auth, sys]", "[auth, nobody]")
        lines = "\n".join(start(text).reload(text))
        assert '[ERR] Authorization callout user "nobody" not valid: <nil>\n' in lines
        assert 'user "auth"' not in lines

    def test_the_single_user(self, start, serve, dial):
        text = f"authorization {{ user: auth, password: p, auth_callout {{ issuer: {ISSUER}, auth_users: [auth] }} }}"
        server = start(text)
        service = serve(server, into("$G"))
        assert account_of(dial(server).ready(user="u"))["account"] == "$G"
        assert len(service.asked) == 1
        assert dial(server).connect(user="auth", **{"pass": "no"}).eof() == [VIOLATION]
