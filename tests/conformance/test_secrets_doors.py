"""Nothing says too much, whichever door a secret came by and whatever kind it is. See test_secrets.py for the rule."""

from __future__ import annotations

import contextlib
import json

import pytest

from tests.jwts import user_jwt

from .doors import PLAIN_WEBSOCKET, WEBSOCKET, WebSocketWire, enter
from .harness import Server
from .test_jwt import ACCOUNT, OPERATOR, SYSTEM, USER, account_jwt
from .test_jwt import config as jwt_config
from .test_secrets import LOGGED, PAGES

VIOLATION = b"-ERR 'Authorization Violation'"
MORE_PAGES = (
    *PAGES, "/", "/debug/vars", "/stacksz", "/jsz?accounts=1&config=1&streams=1", "/healthz", "/leafz", "/gatewayz",
    "/connz?auth=1&state=closed", "/subsz?subs=1&test=a", "/ipqueuesz", "/raftz",
)  # fmt: skip
DOORS = ("tcp", "tls", "websocket", "wss")
WIRE = {
    "pass": "secretpass", "auth_token": "secrettoken", "sig": "secretsig", "jwt": "secretjwt", "nkey": "secretnkey",
}  # fmt: skip


def told(server: Server, pages: tuple[str, ...] = MORE_PAGES) -> str:
    """All that the log and the monitoring port tell."""
    return "\n".join([*server.log, *(server.get(page).body.decode() for page in pages)])


@pytest.fixture
def enters(shared_server, certificates):
    """A connection by door, to a server with this configuration."""
    opened = []

    def get(door: str, config: str, block: str = "", **options: object):
        tls = certificates.config()
        config = LOGGED + config + (tls if door == "tls" else "")
        if door in ("websocket", "wss"):
            config += WEBSOCKET.format(f"{block}\n{tls if door == 'wss' else 'no_tls: true'}")
        server = shared_server(config)
        if "headers" in options:
            wire = WebSocketWire(server, context=certificates.client_context() if door == "wss" else None, **options)
        else:
            wire = enter(door, server, certificates.client_context())
        opened.append(wire)
        return server, wire

    yield get
    for wire in opened:
        wire.close()


class TestDoors:
    @pytest.mark.parametrize("config", ["", "authorization { user: u, password: p }\n", "authorization { token: t }\n"])
    @pytest.mark.parametrize("door", DOORS)
    def test_what_connect_says(self, enters, door, config):
        server, wire = enters(door, config)
        wire.connect(user="somebody", **{name: text for name, text in WIRE.items() if name not in ("jwt", "nkey")})
        with contextlib.suppress(EOFError):
            wire.flush()
        server.wait_log(f"id:{wire.cid} - ")
        said = told(server)
        assert [text for text in WIRE.values() if text in said] == []

    @pytest.mark.parametrize("door", DOORS)
    def test_what_connect_says_in_pieces(self, enters, door):
        """Nor when it comes twice, or is no JSON, or in the middle of something else."""
        server, wire = enters(door, "")
        wire.lines('CONNECT {"user":"u","pass":"secretpass"').lines("PING")
        with contextlib.suppress(EOFError, OSError):
            wire.flush()
        server, wire = enters(door, "")
        wire.connect(user="u", **{"pass": "secretpass"}).connect(user="u", auth_token="secrettoken")
        assert wire.flush() == []
        said = told(server)
        assert [text for text in WIRE.values() if text in said] == []

    COOKIES = "user_cookie: c_user, pass_cookie: c_pass, token_cookie: c_token"
    SAID = "c_user=somebody; c_pass=secretpass; c_token=secrettoken; other=secretother"

    @pytest.mark.parametrize("config", ["", "authorization { user: somebody, password: secretpass }\n"])
    @pytest.mark.parametrize("door", ["websocket", "wss"])
    def test_cookies(self, enters, door, config):
        server, wire = enters(door, config, self.COOKIES, headers={"Cookie": self.SAID})
        assert wire.connect().flush() == []
        server.wait_log(f"wid:{wire.cid} - ")
        said = told(server)
        assert [text for text in (*WIRE.values(), "secretother") if text in said] == []

    @pytest.mark.parametrize("headers", [
        {"Cookie": SAID, "Upgrade": "other"}, {"Cookie": SAID, "Sec-WebSocket-Version": "1"},
        {"Authorization": "Basic secretpass"}, {"Authorization": "Bearer secrettoken", "Connection": "x"},
    ], ids=range(4))  # fmt: skip
    def test_requests_that_are_refused(self, enters, headers):
        server, _ = enters("websocket", "", self.COOKIES)
        with contextlib.suppress(AssertionError):
            WebSocketWire(server, headers=headers, path="/x?auth_token=secrettoken&pass=secretpass").close()
        said = told(server)
        assert [text for text in WIRE.values() if text in said] == []

    def test_of_the_door_itself(self, enters):
        server, wire = enters("websocket", "", "authorization { user: door, password: secretpass }")
        assert wire.connect(user="door", **{"pass": "secretpass"}).flush() == []
        said = told(server)
        assert "secretpass" not in said

    @pytest.mark.parametrize("where", ["cookie", "connect"])
    def test_bearer_tokens(self, shared_server, where, server_kind):
        """A JWT that stands in the request's cookie, or in CONNECT, and alone gets somebody in."""
        more = PLAIN_WEBSOCKET.replace("no_tls: true", "no_tls: true, jwt_cookie: c_jwt") + "debug: true\n"
        more += "trace: true\n" if server_kind == "natsc" else ""  # there, a trace shows CONNECT's jwt
        server = shared_server(jwt_config(account_jwt(ACCOUNT, OPERATOR), more=more))
        token = user_jwt(USER, ACCOUNT, bearer_token=True)
        headers = {"Cookie": f"c_jwt={token}"} if where == "cookie" else {}
        with contextlib.closing(WebSocketWire(server, headers=headers)) as wire:
            assert wire.connect(jwt=token if where == "connect" else None).flush() == []
            assert token not in told(server)
        server.closed(wire.cid)
        assert token not in told(server)


# Secrets that a configuration has, and what a reload that changes one ends with.
KINDS = {
    "authorization": ("authorization { user: u, password: SECRET }", "Reloaded"),
    "a token": ("authorization { token: SECRET }", "Reloaded"),
    "users": ("authorization { users [ {user: a, password: SECRET}, {user: b, password: SECRET} ] }", "Reloaded"),
    "accounts": ("accounts { A { users [ {user: a, password: SECRET} ] } }", "Reloaded"),
    "jetstream key": ('jetstream { store_dir: "STORE", key: SECRET }', "not supported for JetStreamKey"),
    "websocket password": (
        "websocket { listen: 127.0.0.1:-1, no_tls: true, authorization { user: u, password: SECRET } }",
        "not supported for Websocket",
    ),
    "websocket token": (
        "websocket { listen: 127.0.0.1:-1, no_tls: true, authorization { token: SECRET } }",
        "not supported for Websocket",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_configuration_holds(start, tmp_path, server_kind, kind):
    text, outcome = KINDS[kind]
    text = LOGGED + text.replace("STORE", str(tmp_path)) + "\n"
    server = start(text.replace("SECRET", "firstsecret1"))
    server.reload(text.replace("SECRET", "secondsecret2"), outcome)
    said = told(server)
    if server_kind == "natsc":
        assert "firstsecret1" not in said and "secondsecret2" not in said


BROKEN = {
    "an unknown field": "authorization { user: u, password: secretpass, nonsense: secrettoken }",
    "no end": 'authorization { user: u, password: "secretpass',
    "a type": "authorization { user: u, password: [secretpass] }",
    "a map": "authorization { user: u, password: {secretpass: secrettoken} }",
    "user twice": "authorization { users [{user: u, password: secretpass}, {user: u, password: secrettoken}] }",
    "both": "authorization { user: u, password: secretpass, token: secrettoken }",
    "users and one": "authorization { user: u, password: secretpass, users [{user: a, password: secrettoken}] }",
    "nkey": "authorization { users [{nkey: secretpass}] }",
    "a seed": f"authorization {{ users [{{nkey: {USER.seed}}}] }}",
    "jetstream": "jetstream { key: secretpass, cipher: nonsense }",
    "jetstream type": "jetstream { key: 5, prev_key: secretpass, nonsense: 1 }",
    "resolver": f"resolver: URL(http://u:secrettoken@127.0.0.1:1/)\nsystem_account: {SYSTEM}\nnonsense: 1",
    "resolver's URL": f"resolver: URL(http://u:secrettoken@127.0.0.1:x/)\nsystem_account: {SYSTEM}",
    "preload": "resolver: MEMORY\nresolver_preload { A: secretpass }",
    "websocket": "websocket { port: -1, authorization { user: u, password: secretpass, token: secrettoken, x: 1 } }",
    "route twice": "cluster { port: -1, routes: ['nats://u:secretpass@h:1', 'nats://u:secretpass@h:1'], x: 1 }",
    "proxy": "leafnodes { remotes [ {url: 'ws://h:1', proxy {url: 'http://u:secretpass@h:x'}} ] }",
    "gateway": "gateway { name: a, port: -1, gateways: [{name: b, url: 'nats://u:secretpass@127.0.0.1:x'}] }",
    "routes": "cluster { port: -1, routes: ['nats://u:secretpass@127.0.0.1:x'] }",
    "leaf": "leafnodes { remotes [ {url: 'nats://u:secretpass@127.0.0.1:x'} ] }",
    "leaf nkey": "leafnodes { remotes [ {url: 'nats://127.0.0.1:1', nkey: secretpass, nonsense: 1} ] }",
    "a variable": "SECRET: secretpass\nauthorization { user: u, password: $SECRET, nonsense: $SECRET }",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_configuration_that_is_none(start, server_kind, kind):
    server = start(LOGGED + BROKEN[kind] + "\n", wait=False)
    server.wait()
    said = "\n".join(server.log)
    assert said.strip()
    if server_kind == "natsc":
        assert [text for text in (*WIRE.values(), USER.seed) if text in said] == []


def test_urls_with_passwords(start, server_kind):
    """Of a resolver that isn't there."""
    text = jwt_config(account_jwt(ACCOUNT, OPERATOR)).replace(
        "resolver: MEMORY", "resolver: URL(http://u:secretpass@127.0.0.1:1/a/)"
    )
    server = start(text + "debug: true\ntrace: true\n", wait=False)
    with contextlib.suppress(AssertionError):
        server.wait_log("Server is ready")
        with contextlib.closing(enter("tcp", server)) as wire:
            assert wire.connect(jwt=user_jwt(USER, ACCOUNT), sig=USER.sign(wire.info["nonce"])).eof() == [VIOLATION]
        assert "secretpass" not in told(server) or server_kind == "nats-server"
    assert "secretpass" not in "\n".join(server.log) or server_kind == "nats-server"
    assert json.dumps(WIRE)
