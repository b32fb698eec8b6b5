"""Where accounts come from in operator mode: directories, which are changed by requests, other servers, and URLs."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.jwts import Key, account_jwt, encode, operator_jwt, user_jwt

VIOLATION = b"-ERR 'Authorization Violation'"
OPERATOR, ACCOUNT, SECOND, SYSTEM, SIGNING = (
    Key("O", "operator"), Key("A", "acct"), Key("A", "second"), Key("A", "sys"), Key("A", "signing")
)  # fmt: skip
USER, ADMIN = Key("U", "user"), Key("U", "admin")
NOW = int(time.time())
OPERATOR_JWT = operator_jwt(OPERATOR, system_account=str(SYSTEM))
SYSTEM_JWT = account_jwt(SYSTEM, OPERATOR)


def config(resolver, *, preload=True):
    system = f"resolver_preload {{ {SYSTEM}: {SYSTEM_JWT} }}\n" if preload else ""
    return f"http: 127.0.0.1:-1\noperator: {OPERATOR_JWT}\nresolver {{ {resolver} }}\n{system}"


def full(directory, **more):
    fields = {"type": "full", "dir": f'"{directory}"', **more}
    return config(", ".join(f"{key}: {value}" for key, value in fields.items()))


def login(dial, server, account=ACCOUNT, key=USER, **user):
    wire = dial(server)
    return wire.connect(jwt=user_jwt(key, account, **user), sig=key.sign(wire.info["nonce"]))


class Admin:
    """A user of the system account."""

    def __init__(self, dial, server):
        self.wire = login(dial, server, SYSTEM, ADMIN).sub("inbox")
        assert self.wire.flush() == []

    def request(self, subject, payload=""):
        """The payload of the answer."""
        self.wire.pub(subject, payload, "inbox")
        return self.wire.op().partition(b"\r\n")[2].removesuffix(b"\r\n")

    def ask(self, subject, payload=""):
        """The answer without what tells of the server."""
        answer = json.loads(self.request(subject, payload))
        assert {"name", "host", "id", "ver", "seq", "time"} <= answer.pop("server").keys()
        return answer

    def update(self, token):
        return self.ask("$SYS.REQ.CLAIMS.UPDATE", token)


def updated(account, message="jwt updated"):
    return {"data": {"account": str(account), "code": 200, "message": message}}


def failed(account, description):
    return {"error": {"account": str(account), "code": 500, "description": description}}


class TestUpdate:
    def test_a_new_account(self, start, dial, tmp_path):
        server = start(full(tmp_path))
        server.wait_log(f"Managing all jwt in exclusive directory {tmp_path}$")
        assert login(dial, server).eof() == [VIOLATION]
        token = account_jwt(ACCOUNT, OPERATOR)
        assert Admin(dial, server).update(token) == updated(ACCOUNT)
        assert login(dial, server).flush() == []
        assert (tmp_path / f"{ACCOUNT}.jwt").read_text() == token

    def test_it_is_there_after_a_restart(self, start, dial, tmp_path):
        server = start(full(tmp_path))
        Admin(dial, server).update(account_jwt(ACCOUNT, OPERATOR))
        server.close()
        assert login(dial, start(full(tmp_path))).flush() == []

    @pytest.mark.parametrize("subject", ["$SYS.REQ.ACCOUNT.{}.CLAIMS.UPDATE", "$SYS.ACCOUNT.{}.CLAIMS.UPDATE"])
    def test_by_the_accounts_own_subject(self, start, dial, tmp_path, subject):
        server = start(full(tmp_path))
        admin = Admin(dial, server)
        token = account_jwt(ACCOUNT, OPERATOR)
        assert admin.ask(subject.format(ACCOUNT), token) == updated(ACCOUNT)
        assert admin.ask(subject.format(SECOND), token) == failed(
            SECOND, "jwt update resulted in error - subject does not match jwt content"
        )
        assert login(dial, server).flush() == []

    def test_what_is_no_account(self, start, dial, tmp_path):
        admin = Admin(dial, start(full(tmp_path)))
        assert admin.update("rubbish") == failed("n/a", "jwt update resulted in error - expected 3 chunks")
        assert admin.update(user_jwt(USER, ACCOUNT)) == failed(
            "n/a", "jwt update resulted in error - not account claim"
        )
        forged = encode(
            {"sub": str(ACCOUNT), "nats": {"type": "account", "version": 2}}, OPERATOR, forged=Key("O", "x")
        )
        assert admin.update(forged) == failed(
            "n/a", "jwt update resulted in error - claim failed V2 signature verification"
        )
        bad = account_jwt(ACCOUNT, OPERATOR, signing_keys=["x"])
        assert admin.update(bad) == failed(
            ACCOUNT, 'jwt validation failed - validation errors: ["x" is not a valid account signing key]'
        )
        assert [path for path in tmp_path.rglob("*.jwt") if str(SYSTEM) not in path.name] == []

    def test_an_untrusted_account_is_of_no_use(self, start, dial, tmp_path):
        server = start(full(tmp_path))
        Admin(dial, server).update(account_jwt(ACCOUNT, Key("O", "other")))
        assert login(dial, server).eof() == [VIOLATION]

    def test_strict_operators(self, start, dial, tmp_path):
        key = Key("O", "signing")
        operator = operator_jwt(
            OPERATOR, system_account=str(SYSTEM), signing_keys=[str(key)], strict_signing_key_usage=True
        )
        system = account_jwt(SYSTEM, key, signing_keys=[str(SIGNING)])
        server = start(full(tmp_path).replace(OPERATOR_JWT, operator).replace(SYSTEM_JWT, system))
        wire = dial(server)
        wire.connect(jwt=user_jwt(ADMIN, SIGNING, issuer_account=str(SYSTEM)), sig=ADMIN.sign(wire.info["nonce"])).sub(
            "inbox"
        ).pub("$SYS.REQ.CLAIMS.UPDATE", account_jwt(ACCOUNT, OPERATOR), "inbox")
        answer = json.loads(wire.op().partition(b"\r\n")[2])
        assert answer["error"]["description"] == (
            "jwt update resulted in error - operator requires issuer to be a signing key"
        )

    def test_a_full_store(self, start, dial, tmp_path):
        admin = Admin(dial, start(full(tmp_path, limit=2)))
        assert admin.update(account_jwt(ACCOUNT, OPERATOR)) == updated(ACCOUNT)
        assert admin.update(account_jwt(SECOND, OPERATOR)) == failed(
            SECOND, "jwt update resulted in error - jwt store is full"
        )

    def test_others_than_the_system_account_cant(self, start, dial, tmp_path):
        server = start(full(tmp_path))
        Admin(dial, server).update(account_jwt(ACCOUNT, OPERATOR))
        wire = login(dial, server).sub("inbox").pub("$SYS.REQ.CLAIMS.UPDATE", account_jwt(SECOND, OPERATOR), "inbox")
        assert wire.flush() == []
        assert login(dial, server, SECOND).eof() == [VIOLATION]


class TestFiles:
    def test_files_that_are_new(self, start, dial, tmp_path):
        server = start(full(tmp_path))
        (tmp_path / f"{ACCOUNT}.jwt").write_text(account_jwt(ACCOUNT, OPERATOR))
        assert login(dial, server).flush() == []


class TestLive:
    """What an update does to the clients that are there."""

    @pytest.fixture
    def world(self, start, dial, tmp_path):
        server = start(full(tmp_path))
        admin = Admin(dial, server)
        admin.update(account_jwt(ACCOUNT, OPERATOR, claims={"iat": NOW}, signing_keys=[str(SIGNING)]))
        return server, admin

    def test_revoked(self, world, dial):
        server, admin = world
        wire = login(dial, server, claims={"iat": NOW - 5})
        other = login(dial, server, claims={"iat": NOW + 5})
        assert wire.flush() == other.flush() == []
        admin.update(account_jwt(ACCOUNT, OPERATOR, revocations={"*": NOW}))
        assert wire.eof() == [b"-ERR 'User Authentication Revoked'"]
        assert server.closed(wire.cid)["reason"] == "Credentials Revoked"
        assert other.flush() == []

    def test_no_bearer_tokens_any_more(self, world, dial):
        server, admin = world
        wire = login(dial, server, bearer_token=True)
        wire.flush()
        admin.update(account_jwt(ACCOUNT, OPERATOR, limits={"disallow_bearer": True}))
        assert wire.eof() == [VIOLATION]

    def test_a_signing_key_that_is_gone(self, world, dial):
        server, admin = world
        wire = login(dial, server, SIGNING, issuer_account=str(ACCOUNT))
        wire.flush()
        admin.update(account_jwt(ACCOUNT, OPERATOR))
        wire.eof()
        assert server.closed(wire.cid)["reason"] == "Authentication Failure"

    def test_a_scope_that_changed(self, start, dial, tmp_path):
        def scoped(**template):
            scope = {"kind": "user_scope", "key": str(SIGNING), "role": "", "description": "", "template": template}
            return account_jwt(ACCOUNT, OPERATOR, signing_keys=[scope])

        server = start(full(tmp_path))
        admin = Admin(dial, server)
        admin.update(scoped(pub={"allow": ["a"]}))
        wire = dial(server)
        token = user_jwt(USER, SIGNING, scoped=True, issuer_account=str(ACCOUNT))
        assert wire.connect(jwt=token, sig=USER.sign(wire.info["nonce"])).flush() == []
        admin.update(scoped(pub={"allow": ["b"]}))
        wire.eof()
        assert server.closed(wire.cid)["reason"] == "Authentication Failure"

    def test_payload(self, world, dial):
        server, admin = world
        wire = login(dial, server)
        assert wire.pub("x", "12345").flush() == []
        admin.update(account_jwt(ACCOUNT, OPERATOR, limits={"payload": 4}))
        assert wire.pub("x", "12345").eof() == [b"-ERR 'Maximum Payload Violation'"]

    def test_subscriptions(self, world, dial):
        server, admin = world
        many, few = login(dial, server).sub("a", 1).sub("b", 2), login(dial, server).sub("a", 1)
        assert many.flush() == few.flush() == []
        admin.update(account_jwt(ACCOUNT, OPERATOR, limits={"subs": 2}))
        assert many.eof() == [b"-ERR 'maximum subscriptions exceeded'"]
        assert few.flush() == []

    def test_connections(self, world, dial):
        server, admin = world
        first, second = login(dial, server), login(dial, server)
        assert first.flush() == second.flush() == []
        admin.update(account_jwt(ACCOUNT, OPERATOR, limits={"conn": 1}))
        assert second.eof()[0] == b"-ERR 'maximum account active connections exceeded'"
        assert first.flush() == []

    def test_default_permissions(self, world, dial):
        server, admin = world
        plain = login(dial, server).sub("secret", 7)
        own = login(dial, server, sub={"allow": ["secret"]}).sub("secret", 7)
        assert plain.flush() == own.flush() == []
        admin.update(account_jwt(ACCOUNT, OPERATOR, default_permissions={"sub": {"deny": ["secret"]}}))
        assert plain.op() == b'-ERR \'Permissions Violation for Subscription to "secret" (sid "7")\''
        assert own.flush() == []

    def test_the_account_expires_sooner(self, world, dial):
        server, admin = world
        wire = login(dial, server)
        wire.flush()
        admin.update(account_jwt(ACCOUNT, OPERATOR, claims={"exp": int(time.time()) + 4}))
        assert wire.eof() == [b"-ERR 'Account Authentication Expired'"]

    def test_an_expired_account_comes_back(self, start, dial, tmp_path):
        server = start(full(tmp_path))
        admin = Admin(dial, server)
        admin.update(account_jwt(ACCOUNT, OPERATOR, claims={"exp": int(time.time()) + 4}))
        wire = login(dial, server)
        assert wire.flush() == []
        wire.eof()
        admin.update(account_jwt(ACCOUNT, OPERATOR))
        assert login(dial, server).flush() == []


class TestAsked:
    def test_list(self, start, dial, tmp_path):
        admin = Admin(dial, start(full(tmp_path)))
        admin.update(account_jwt(ACCOUNT, OPERATOR))
        assert sorted(admin.ask("$SYS.REQ.CLAIMS.LIST")["data"]) == sorted([str(ACCOUNT), str(SYSTEM)])

    def test_lookup(self, start, dial, tmp_path):
        admin = Admin(dial, start(full(tmp_path)))
        token = account_jwt(ACCOUNT, OPERATOR)
        admin.update(token)
        assert admin.request(f"$SYS.REQ.ACCOUNT.{ACCOUNT}.CLAIMS.LOOKUP") == token.encode()

    def test_pack(self, start, dial, tmp_path):
        admin = Admin(dial, start(full(tmp_path)))
        token = account_jwt(ACCOUNT, OPERATOR)
        admin.update(token)
        admin.wire.pub("$SYS.REQ.CLAIMS.PACK", "", "inbox")
        packs = [admin.wire.op().partition(b"\r\n")[2].strip().decode() for _ in range(3)]
        assert sorted(packs) == sorted(["", f"{ACCOUNT}|{token}", f"{SYSTEM}|{SYSTEM_JWT}"])
        assert packs[-1] == ""

    def test_pack_of_the_same(self, start, dial, tmp_path):
        admin = Admin(dial, start(full(tmp_path)))
        admin.wire.pub("$SYS.REQ.CLAIMS.PACK", hashlib.sha256(SYSTEM_JWT.encode()).digest(), "inbox")
        assert admin.wire.op().split() == [b"MSG", b"inbox", b"1", b"0"]
        assert admin.wire.flush() == []

    def test_synchronized(self, start, dial, tmp_path):
        server = start(full(tmp_path, interval='"1s"'))
        admin = Admin(dial, server)
        admin.wire.sub("$SYS.REQ.CLAIMS.PACK", 2)
        asked = admin.wire.op().split(b"\r\n")[0].split()
        admin.wire.pub(asked[3].decode(), f"{ACCOUNT}|{account_jwt(ACCOUNT, OPERATOR)}")
        admin.wire.pub(asked[3].decode(), "../../x|rubbish")
        admin.wire.pub(asked[3].decode())
        assert login(dial, server).flush() == []


class TestDelete:
    def deletion(self, *accounts, signer=OPERATOR, subject=OPERATOR, **nats):
        claims = {"accounts": [str(account) for account in accounts], "type": "generic", "version": 2, **nats}
        return encode({"sub": str(subject), "nats": claims}, signer)

    @pytest.fixture
    def world(self, start, dial, tmp_path):
        server = start(full(tmp_path, allow_delete="true"))
        admin = Admin(dial, server)
        admin.update(account_jwt(ACCOUNT, OPERATOR))
        return server, admin, tmp_path / f"{ACCOUNT}.jwt"

    def test_deleted(self, world, dial):
        server, admin, path = world
        wire = login(dial, server)
        assert wire.flush() == []
        answer = admin.ask("$SYS.REQ.CLAIMS.DELETE", self.deletion(ACCOUNT))
        assert answer == {"data": {"code": 200, "message": "deleted 1 accounts"}}
        assert wire.eof() == [b"-ERR 'Account Authentication Expired'"]
        assert not path.exists()
        assert path.with_name(f"{ACCOUNT}.jwt.deleted").exists()
        assert login(dial, server).eof() == [VIOLATION]
        assert admin.ask("$SYS.REQ.CLAIMS.LIST")["data"] == [str(SYSTEM)]

    def test_and_made_again(self, world, dial):
        server, admin, _ = world
        login(dial, server).flush()
        admin.ask("$SYS.REQ.CLAIMS.DELETE", self.deletion(ACCOUNT))
        admin.update(account_jwt(ACCOUNT, OPERATOR, tags=["again"]))
        assert login(dial, server).flush() == []

    def test_refused(self, world):
        _, admin, path = world
        other = Key("O", "other")
        for token, error in (
            (self.deletion(ACCOUNT, signer=other, subject=other), "not trusted"),
            (self.deletion(ACCOUNT, signer=other), "not self signed"),
            (self.deletion(SYSTEM), "not allowed to delete system account"),
            (self.deletion("../../x"), "malformed request"),
            (self.deletion(accounts="all"), "malformed request"),
        ):
            subject = other if error == "not trusted" else OPERATOR
            answer = admin.ask("$SYS.REQ.CLAIMS.DELETE", token)
            expected = f"delete accounts request by {subject} failed - {error}"
            assert answer == {"error": {"code": 500, "description": expected}}
        assert path.exists()

    def test_not_where_it_isnt_allowed(self, start, dial, tmp_path):
        admin = Admin(dial, start(full(tmp_path)))
        answer = admin.ask("$SYS.REQ.CLAIMS.DELETE", self.deletion(ACCOUNT))
        assert answer["error"]["description"].endswith("failed - delete must be enabled in server config")


class TestCache:
    @pytest.fixture
    def world(self, start, dial, tmp_path):
        server = start(config(f'type: cache, dir: "{tmp_path}", timeout: "1500ms"'))
        server.wait_log(f"Managing some jwt in exclusive directory {tmp_path}$")
        return server, Admin(dial, server)

    def test_asked_for_when_it_is_needed(self, world, dial, tmp_path):
        server, admin = world
        admin.wire.sub("$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP", 2)
        admin.wire.flush()
        token = account_jwt(ACCOUNT, OPERATOR)
        wire = login(dial, server)
        question = admin.wire.op().split(b"\r\n")[0].split()
        assert question[1].decode() == f"$SYS.REQ.ACCOUNT.{ACCOUNT}.CLAIMS.LOOKUP"
        admin.wire.pub(question[3].decode(), token)
        assert wire.flush() == []
        assert (tmp_path / f"{ACCOUNT}.jwt").read_text() == token
        assert login(dial, server).flush() == []

    def test_nobody_knows_it(self, world, dial):
        server, _ = world
        assert login(dial, server).eof() == [VIOLATION]
        server.wait_log("Account fetch failed: ")

    def test_nobody_waits_for_another_ones_account(self, world, dial):
        server, admin = world
        admin.wire.sub("$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP", 2)
        admin.wire.flush()
        waits = login(dial, server)
        admin.wire.op()
        assert login(dial, server, SYSTEM).flush() == []
        assert waits.eof() == [VIOLATION]

    def test_updates_are_for_known_accounts(self, world):
        _, admin = world
        assert admin.update(account_jwt(ACCOUNT, OPERATOR)) == updated(ACCOUNT, "jwt update cache skipped")
        assert admin.update(account_jwt(SYSTEM, OPERATOR, tags=["x"])) == updated(SYSTEM, "jwt updated cache")
        assert admin.update("rubbish") == failed("n/a", "jwt update cache resulted in error - expected 3 chunks")


class Accounts:
    """An account server. tokens: by account. wait: is set, or it doesn't answer. context: of TLS."""

    def __init__(self, context=None):
        self.tokens: dict[str, str] = {str(SYSTEM): SYSTEM_JWT}
        self.asked: list[str] = []
        self.wait = threading.Event()
        self.wait.set()
        accounts = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.rpartition("/")[2]
                accounts.asked.append(self.path)
                accounts.wait.wait(10)
                token = accounts.tokens.get(name) if name else ""
                self.send_response(200 if token is not None else 404)
                self.end_headers()
                self.wfile.write((token or "").encode())

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.server.server_port}/jwt/v1/accounts/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self):
        self.wait.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def accounts():
    made = Accounts()
    yield made
    made.close()


class TestURL:
    def config(self, url):
        return f"http: 127.0.0.1:-1\noperator: {OPERATOR_JWT}\nresolver: URL({url})\n"

    def test_fetched_when_it_is_needed(self, start, dial, accounts):
        server = start(self.config(accounts.url))
        accounts.tokens[str(ACCOUNT)] = account_jwt(ACCOUNT, OPERATOR)
        assert login(dial, server).flush() == []
        assert login(dial, server).flush() == []
        assert accounts.asked.count(f"/jwt/v1/accounts/{ACCOUNT}") == 1

    def test_unknown_there(self, start, dial, accounts):
        server = start(self.config(accounts.url))
        assert login(dial, server).eof() == [VIOLATION]
        server.wait_log(r'\[WRN\] Account fetch failed: could not fetch <"http.*">: 404 Not Found')

    def test_an_untrusted_account(self, start, dial, accounts):
        server = start(self.config(accounts.url))
        accounts.tokens[str(ACCOUNT)] = account_jwt(ACCOUNT, Key("O", "other"))
        assert login(dial, server).eof() == [VIOLATION]

    def test_another_account_than_asked_for(self, start, dial, accounts):
        server = start(self.config(accounts.url))
        accounts.tokens[str(ACCOUNT)] = account_jwt(SECOND, OPERATOR)
        assert login(dial, server).eof() == [VIOLATION]

    def test_it_takes_its_time(self, start, dial, accounts):
        server = start(self.config(accounts.url))
        accounts.wait.clear()
        accounts.tokens[str(ACCOUNT)] = account_jwt(ACCOUNT, OPERATOR)
        waits = login(dial, server)
        assert login(dial, server, SYSTEM).flush() == []
        accounts.wait.set()
        assert waits.flush() == []

    def test_it_takes_too_long(self, start, dial, accounts):
        server = start(self.config(accounts.url))
        accounts.wait.clear()
        assert login(dial, server).eof() == [VIOLATION]

    def test_nobody_at_home(self, start, accounts):
        url = accounts.url
        accounts.close()
        server = start(self.config(url), wait=False)
        assert server.wait() == 1
        assert f'could not fetch <"{url}">' in "\n".join(server.log)
        accounts.__init__()

    def test_another_one_after_a_reload(self, start, dial, accounts):
        server = start(self.config(accounts.url))
        accounts.tokens[str(ACCOUNT)] = account_jwt(ACCOUNT, OPERATOR)
        server.reload(self.config(accounts.url.replace("accounts", "others")))
        assert login(dial, server).flush() == []
        assert f"/jwt/v1/others/{ACCOUNT}" in accounts.asked

    def test_over_tls(self, start, dial, certificates):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.path("server"), certificates.key_path("server"))
        accounts = Accounts(context)
        try:
            accounts.tokens[str(ACCOUNT)] = account_jwt(ACCOUNT, OPERATOR)
            ca = certificates.path("ca")
            server = start(self.config(accounts.url) + f'resolver_tls {{ ca_file: "{ca}" }}\n')
            assert login(dial, server).flush() == []
            untrusting = start(self.config(accounts.url), wait=False)
            assert untrusting.wait() == 1
        finally:
            accounts.close()

    def test_the_operators_account_server(self, start, dial, accounts):
        operator = operator_jwt(OPERATOR, account_server_url=accounts.url.removesuffix("/accounts/"))
        accounts.tokens[str(ACCOUNT)] = account_jwt(ACCOUNT, OPERATOR)
        assert login(dial, start(f"operator: {operator}\n")).flush() == []


class TestMemory:
    @pytest.fixture
    def world(self, start, dial):
        preload = f"{SYSTEM}: {SYSTEM_JWT}, {ACCOUNT}: {account_jwt(ACCOUNT, OPERATOR, claims={'iat': NOW})}"
        server = start(f"operator: {OPERATOR_JWT}\nresolver: MEMORY\nresolver_preload {{ {preload} }}")
        return server, Admin(dial, server)

    def test_updated_until_the_server_ends(self, world, dial):
        server, admin = world
        wire = login(dial, server)
        assert wire.pub("x", "12345").flush() == []
        subject = f"$SYS.REQ.ACCOUNT.{ACCOUNT}.CLAIMS.UPDATE"
        token = account_jwt(ACCOUNT, OPERATOR, limits={"payload": 4})
        assert admin.ask(subject, token) == updated(ACCOUNT)
        assert wire.pub("x", "12345").eof() == [b"-ERR 'Maximum Payload Violation'"]

    def test_refused(self, world, dial):
        server, admin = world
        assert login(dial, server).flush() == []
        subject = f"$SYS.ACCOUNT.{ACCOUNT}.CLAIMS.UPDATE"
        assert admin.ask(subject) == failed(ACCOUNT, "jwt update error - request body is empty")
        for token, error in (
            ("rubbish", "expected 3 chunks"),
            (account_jwt(SECOND, OPERATOR), "subject does not match jwt content"),
            (account_jwt(ACCOUNT, Key("O", "other")), "account validation failed"),
            (account_jwt(ACCOUNT, OPERATOR, claims={"exp": NOW - 60}), "account validation failed"),
        ):
            assert admin.ask(subject, token) == failed(ACCOUNT, f"jwt update resulted in error - {error}")

    def test_of_an_account_that_nobody_asked_for(self, world):
        _, admin = world
        subject = f"$SYS.REQ.ACCOUNT.{SECOND}.CLAIMS.UPDATE"
        assert admin.ask(subject, account_jwt(SECOND, OPERATOR)) == updated(SECOND, "jwt update skipped")


class TestSystemAccount:
    def test_a_directory_needs_an_operator(self, start, tmp_path):
        server = start(
            f'trusted_keys: {OPERATOR}\nsystem_account: {SYSTEM}\nresolver {{ type: full, dir: "{tmp_path}" }}\n'
            f"resolver_preload {{ {SYSTEM}: {SYSTEM_JWT} }}",
            wait=False,
        )
        assert server.wait() == 1
        server.wait_log(r"\[FTL\] Could not start resolver: no operator key found")

    def test_it_is_trusted_before_it_is_known(self, start, dial, tmp_path):
        server = start(full(tmp_path).replace(SYSTEM_JWT, "").split("resolver_preload")[0])
        server.wait_log("Using bootstrapping system account")
        admin = Admin(dial, server)
        assert admin.update(SYSTEM_JWT) == updated(SYSTEM)
        assert login(dial, server, SYSTEM).flush() == []

    def test_a_preload_cant_be_put_into_a_url(self, start, accounts):
        server = start(
            f"operator: {OPERATOR_JWT}\nresolver: URL({accounts.url})\nresolver_preload {{ {SYSTEM}: {SYSTEM_JWT} }}",
            wait=False,
        )
        assert server.wait() == 1
        assert "resolver preloads only available for writeable resolver types" in "\n".join(server.log)
