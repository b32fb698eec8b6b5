"""Trusted proxies, and users that must come through one. A proxy signs INFO's nonce, as `proxy_sig` of CONNECT."""

from __future__ import annotations

import base64
import re
import signal

import pytest

from tests.jwts import Key, account_jwt, base64url, user_jwt

from .callout import event
from .test_jwt import ACCOUNT, OPERATOR, USER
from .test_jwt import config as jwt_config

VIOLATION = b"-ERR 'Authorization Violation'"
FIRST, SECOND, THIRD = Key("U", "first proxy"), Key("N", "second proxy"), Key("A", "third proxy")
NKEY = Key("U", "proxied nkey")
ANYONE = {"user": "a", "pass": "p"}
PROXIED = {"user": "b", "pass": "p"}


def trusted(*keys):
    return f"proxies {{ trusted = [ {', '.join(f'{{key: {key}}}' for key in keys)} ] }}\n"


def config(*keys, more="", a=""):
    """a needs no proxy; b and the nkey do."""
    return f"""
        http: 127.0.0.1:-1
        debug: true
        accounts {{
            A {{ users [
                {{user: a, password: p{a}}}
                {{user: b, password: p, proxy_required: true}}
                {{nkey: {NKEY}, proxy_required: true}}
            ] }}
            SYS {{ users [ {{user: sys, password: p}} ] }}
        }}
        system_account: SYS
        {trusted(*keys) if keys else ""}
        {more}
    """


BOTH = config(FIRST, SECOND)


def login(dial, server, proxy=None, nkey=None, **said):
    wire = dial(server)
    if proxy is not None:
        said["proxy_sig"] = proxy.sign(wire.info["nonce"])
    if nkey is not None:
        said.update(nkey=str(nkey), sig=nkey.sign(wire.info["nonce"]))
    return wire.connect(**said)


def check_refused(server, wire, reason):
    assert wire.eof() == [VIOLATION]
    assert server.closed(wire.cid)["reason"] == reason
    why = {"Proxy Required": "proxy connection required", "Proxy Not Trusted": "proxy is not trusted"}[reason]
    server.wait_log(rf"\[DBG\] .*cid:{wire.cid} - .*{why}$")
    server.wait_log(rf"\[ERR\] .*cid:{wire.cid} - .*authentication error")


class TestLogin:
    @pytest.mark.parametrize("proxy", [FIRST, SECOND])
    @pytest.mark.parametrize("said", [ANYONE, PROXIED, {"nkey": NKEY}], ids=["anyone", "proxied", "nkey"])
    def test_through_a_proxy(self, shared_server, dial, proxy, said):
        server = shared_server(BOTH)
        wire = login(dial, server, proxy, **said)
        assert wire.flush() == []
        for query in ("", "auth=1&"):
            assert server.connz(f"{query}cid={wire.cid}")[0]["proxy"] == {"key": str(proxy)}

    def test_without_a_proxy(self, shared_server, dial):
        server = shared_server(BOTH)
        wire = login(dial, server, **ANYONE)
        assert wire.flush() == []
        assert "proxy" not in server.connz(f"cid={wire.cid}")[0]

    @pytest.mark.parametrize("said", [PROXIED, {"nkey": NKEY}], ids=["user", "nkey"])
    def test_who_needs_a_proxy(self, shared_server, dial, said):
        server = shared_server(BOTH)
        check_refused(server, login(dial, server, **said), "Proxy Required")

    @pytest.mark.parametrize("said", [ANYONE, PROXIED], ids=["anyone", "proxied"])
    def test_a_proxy_that_nobody_trusts(self, shared_server, dial, said):
        server = shared_server(BOTH)
        check_refused(server, login(dial, server, THIRD, **said), "Proxy Not Trusted")

    @pytest.mark.parametrize("spoil", [
        lambda nonce: "!!",
        lambda nonce: base64.b64encode(FIRST.private.sign(nonce.encode())).decode(),
        lambda nonce: FIRST.sign(nonce)[:-2],
        lambda nonce: FIRST.sign("another nonce"),
        lambda nonce: base64url(bytes(64)),
        lambda nonce: "A" * 2000,
    ], ids=["junk", "padded", "short", "of another nonce", "zeros", "long"])  # fmt: skip
    def test_signatures_that_are_none(self, shared_server, dial, spoil):
        server = shared_server(BOTH)
        wire = dial(server)
        wire.connect(proxy_sig=spoil(wire.info["nonce"]), **ANYONE)
        check_refused(server, wire, "Proxy Not Trusted")

    def test_one_of_another_connection(self, shared_server, dial):
        server = shared_server(BOTH)
        other = dial(server)
        wire = dial(server).connect(proxy_sig=FIRST.sign(other.info["nonce"]), **PROXIED)
        check_refused(server, wire, "Proxy Not Trusted")

    def test_a_wrong_password_through_a_proxy(self, shared_server, dial):
        server = shared_server(BOTH)
        wire = login(dial, server, FIRST, user="b", **{"pass": "no"})
        assert wire.eof() == [VIOLATION]
        entry = server.closed(wire.cid)
        assert (entry["reason"], entry["proxy"]) == ("Authentication Failure", {"key": str(FIRST)})

    def test_what_a_client_calls_itself_proves_nothing(self, shared_server, dial):
        server = shared_server(BOTH)
        wire = dial(server).connect(proxy_key=str(FIRST), proxy={"key": str(FIRST)}, close_reason=1, **PROXIED)
        check_refused(server, wire, "Proxy Required")

    def test_a_second_connect(self, shared_server, dial):
        """Once more without a signature is once more with the old one, which is still good."""
        server = shared_server(BOTH)
        wire = login(dial, server, FIRST, **PROXIED)
        assert wire.flush() == []
        assert wire.connect(**PROXIED).flush() == []
        wire.connect(proxy_sig="x", **PROXIED)
        assert wire.eof() == [VIOLATION]

    def test_the_log_has_no_signature(self, start, dial):
        server = start(BOTH + "trace: true\n")
        wire = login(dial, server, FIRST, **PROXIED)
        assert wire.flush() == []
        server.wait_log(r'"proxy_sig": ?"?\[REDACTED\]')
        assert not any(FIRST.sign(wire.info["nonce"]) in line for line in server.log)

    def test_no_signature_means_anything_without_proxies(self, start, dial):
        server = start(config())
        assert dial(server).connect(proxy_sig="x", **ANYONE).flush() == []
        check_refused(server, dial(server).connect(proxy_sig="x", **PROXIED), "Proxy Required")


class TestOtherUsers:
    def test_without_authentication(self, start, dial):
        server = start("http: 127.0.0.1:-1\ndebug: true\n" + trusted(FIRST))
        assert dial(server).connect().flush() == []
        wire = login(dial, server, FIRST)
        assert wire.flush() == []
        assert server.connz(f"cid={wire.cid}")[0]["proxy"] == {"key": str(FIRST)}
        check_refused_silently(server, login(dial, server, THIRD))

    @pytest.mark.parametrize(("block", "said"), [
        ("user: a, password: p", ANYONE), ("token: t", {"auth_token": "t"}),
    ], ids=["user", "token"])  # fmt: skip
    def test_of_the_whole_server(self, start, dial, block, said):
        server = start(
            f"http: 127.0.0.1:-1\ndebug: true\nauthorization {{ {block}, proxy_required: true }}\n" + trusted(FIRST)
        )
        check_refused(server, login(dial, server, **said), "Proxy Required")
        assert login(dial, server, FIRST, **said).flush() == []

    def test_of_the_whole_server_is_not_for_users_of_a_table(self, start, dial):
        users = "users [ {user: a, password: p} ], proxy_required: true"
        server = start(f"http: 127.0.0.1:-1\nauthorization {{ {users} }}\n" + trusted(FIRST))
        assert login(dial, server, **ANYONE).flush() == []

    def test_the_no_auth_user(self, start, dial):
        server = start(config(FIRST, more="no_auth_user: b"))
        check_refused(server, login(dial, server), "Proxy Required")
        assert login(dial, server, FIRST).flush() == []
        assert dial(server).lines("PING").eof() == [VIOLATION]

    def test_jwts(self, shared_server, dial):
        server = shared_server(jwt_config(account_jwt(ACCOUNT, OPERATOR)) + "debug: true\n" + trusted(FIRST))
        token = user_jwt(USER, ACCOUNT, proxy_required=True)
        for proxy, reason in ((None, "Proxy Required"), (THIRD, "Proxy Not Trusted"), (FIRST, "")):
            wire = dial(server)
            signature = {"proxy_sig": proxy.sign(wire.info["nonce"])} if proxy is not None else {}
            wire.connect(jwt=token, sig=USER.sign(wire.info["nonce"]), **signature)
            if reason:
                check_refused(server, wire, reason)
            else:
                assert wire.flush() == []
                assert server.connz(f"cid={wire.cid}")[0]["proxy"] == {"key": str(FIRST)}


def check_refused_silently(server, wire):
    assert wire.eof() == [VIOLATION]
    assert server.closed(wire.cid)["reason"] == "Proxy Not Trusted"


class TestReload:
    def test_a_key_that_is_trusted_no_more(self, start, dial):
        server = start(BOTH)
        first, second, none = (login(dial, server, proxy, **ANYONE) for proxy in (FIRST, SECOND, None))
        for wire in (first, second, none):
            assert wire.flush() == []
        lines = "\n".join(server.reload(config(SECOND, THIRD)))
        assert f'[INF] Reloaded: proxies trusted keys ["{FIRST}"] were removed' in lines
        assert f'[INF] Reloaded: proxies trusted keys ["{THIRD}"] were added' in lines
        assert first.eof() == [VIOLATION]
        assert server.closed(first.cid)["reason"] == "Proxy Not Trusted"
        assert (second.flush(), none.flush()) == ([], [])
        assert login(dial, server, THIRD, **PROXIED).flush() == []
        check_refused(server, login(dial, server, FIRST, **PROXIED), "Proxy Not Trusted")

    def test_a_user_that_needs_a_proxy_now(self, start, dial):
        server = start(BOTH)
        proxied, plain = login(dial, server, FIRST, **ANYONE), login(dial, server, **ANYONE)
        assert (proxied.flush(), plain.flush()) == ([], [])
        server.reload(config(FIRST, SECOND, a=", proxy_required: true"))
        assert proxied.flush() == []
        check_refused(server, plain, "Proxy Required")

    def test_proxies_that_come_with_a_reload(self, start, server_kind, dial):
        server = start(config())
        wire = login(dial, server, **ANYONE)
        assert wire.flush() == []
        if server_kind == "nats-server":
            server.write_config(BOTH)
            server.signal(signal.SIGHUP)
            assert server.wait() == 2
            server.wait_log("nil pointer dereference")
            return
        server.reload(BOTH)
        assert login(dial, server, FIRST, **PROXIED).flush() == []
        proxied = login(dial, server, FIRST, **ANYONE)
        assert proxied.flush() == []
        server.reload(config())
        assert proxied.eof() == [VIOLATION]
        assert wire.flush() == []
        assert dial(server).info.get("nonce")  # for nkeys

    def test_nothing_changed(self, start, dial):
        server = start(BOTH)
        wire = login(dial, server, FIRST, **PROXIED)
        assert wire.flush() == []
        assert not any("proxies" in line for line in server.reload(BOTH))
        assert wire.flush() == []

    def test_of_the_whole_server(self, start):
        text = "authorization { user: a, password: p, proxy_required: %s }\n" + trusted(FIRST)
        start(text % "false").reload(
            text % "true", "config reload not supported for ProxyRequired: old=false, new=true"
        )


class TestMonitoring:
    def test_varz(self, shared_server, server):
        assert shared_server(BOTH).varz()["proxies"] == {"trusted": [{"key": str(FIRST)}, {"key": str(SECOND)}]}
        assert "proxies" not in server.varz()

    @pytest.mark.parametrize(("proxy", "reason"), [(None, "Proxy Required"), (THIRD, "Proxy Not Trusted")])
    def test_events(self, shared_server, dial, proxy, reason):
        server = shared_server(BOTH)
        system = dial(server).ready(user="sys", **{"pass": "p"}).sub("$SYS.SERVER.*.CLIENT.AUTH.ERR")
        system.flush()
        wire = login(dial, server, proxy, **PROXIED)
        assert wire.eof() == [VIOLATION]
        told = event(system)
        assert (told["reason"], told["client"]["id"]) == (reason, wire.cid)

    def test_the_nonce_is_there_for_proxies(self, start, dial, server):
        assert len(dial(start(trusted(FIRST))).info["nonce"]) == 15
        assert "nonce" not in dial(server).info


@pytest.mark.parametrize(("text", "why"), [
    ("proxies { trusted: [ {key: x} ] }", 'invalid proxy key "x"'),
    (f"proxies {{ trusted: [ {{key: {Key('U', 'x').seed}}} ] }}", "invalid proxy key"),
])  # fmt: skip
def test_keys_that_are_none(server_kind, text, why):
    from .harness import Server

    failing = Server(server_kind, text, wait=False)
    try:
        assert failing.wait() == 1
        assert re.search(rf"server.conf:\d+:\d+: {why}", "\n".join(failing.log))
    finally:
        failing.close()
