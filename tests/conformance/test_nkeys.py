"""Users that are known by a public nkey: they prove it by signing the nonce of INFO."""

from __future__ import annotations

import base64

import nats
import pytest

from tests.jwts import Key

VIOLATION = b"-ERR 'Authorization Violation'"
ALICE, BOB, CAROL, ANYONE = (Key("U", name) for name in ("alice", "bob", "carol", "anyone"))
USERS = f"""
    http: 127.0.0.1:-1
    authorization {{ users [
        {{nkey: {ALICE}}}
        {{nkey: {BOB}, permissions: {{publish: "allowed.>", subscribe: {{deny: "secret"}}}}}}
        {{nkey: {CAROL}, allowed_connection_types: [WEBSOCKET]}}
        {{user: dave, password: dave}}
    ] }}
"""
ACCOUNTS = f"accounts {{ A {{ users [ {{nkey: {ALICE}}} ] }}, B {{ users [ {{nkey: {BOB}}} ] }} }}\n"
ANONYMOUS = f"""
    no_auth_user: {ANYONE}
    authorization {{ users [ {{nkey: {ALICE}}}, {{nkey: {ANYONE}, permissions: {{publish: "anyone"}}}} ] }}
"""


def login(dial, server, key, *, sign=None, **options):
    """CONNECT with a key; sign: what is signed in place of the nonce, or "" for no signature."""
    wire = dial(server)
    signature = key.sign(wire.info["nonce"] if sign is None else sign) if sign != "" else None
    return wire.connect(**{"nkey": str(key), "sig": signature, **options})


class TestNonce:
    def test_each_connection_gets_its_own(self, shared_server, dial):
        server = shared_server(USERS)
        first, second = dial(server).info, dial(server).info
        assert len(first["nonce"]) == len(second["nonce"]) == 15
        assert first["nonce"] != second["nonce"]
        assert first["auth_required"] is True

    def test_there_is_none_without_nkeys(self, shared_server, dial):
        assert "nonce" not in dial(shared_server("authorization { users [ {user: a, password: b} ] }")).info

    def test_the_info_after_the_first_ping_has_none(self, shared_server, dial):
        wire = login(dial, shared_server(USERS), ALICE, protocol=1).lines("PING")
        assert wire.line() == b"PONG"
        info = wire.read_info()
        assert "nonce" not in info
        assert info["connect_info"] is True


class TestLogin:
    def test_accepted(self, shared_server, dial):
        assert login(dial, shared_server(USERS), ALICE).flush() == []

    def test_plain_base64_is_a_signature_too(self, shared_server, dial):
        wire = dial(shared_server(USERS))
        signature = base64.b64encode(ALICE.private.sign(wire.info["nonce"].encode())).decode()
        assert wire.connect(nkey=str(ALICE), sig=signature).flush() == []

    def test_password_users_beside_them(self, shared_server, dial):
        assert dial(shared_server(USERS)).connect(user="dave", **{"pass": "dave"}).flush() == []

    def test_an_nkey_counts_more_than_a_user(self, shared_server, dial):
        assert login(dial, shared_server(USERS), Key("U", "eve"), user="dave", **{"pass": "dave"}).eof() == [VIOLATION]

    @pytest.mark.parametrize("sign", ["", "another nonce", "6BM8nYmBB6n5MAA"])
    def test_refused_without_the_signature(self, shared_server, dial, sign):
        server = shared_server(USERS)
        wire = login(dial, server, ALICE, sign=sign)
        assert wire.eof() == [VIOLATION]
        assert server.closed(wire.cid)["reason"] == "Authentication Failure"

    def test_the_signature_of_another_connection(self, shared_server, dial):
        server = shared_server(USERS)
        nonce = dial(server).info["nonce"]
        assert login(dial, server, ALICE, sign=nonce).eof() == [VIOLATION]

    @pytest.mark.parametrize("nkey", ["U", ALICE.public[:-1], ALICE.public.lower(), str(Key("A", "alice")), "dave"])
    def test_unknown_nkeys(self, shared_server, dial, nkey):
        wire = dial(shared_server(USERS))
        assert wire.connect(nkey=nkey, sig=ALICE.sign(wire.info["nonce"])).eof() == [VIOLATION]

    def test_somebody_elses_key(self, shared_server, dial):
        wire = dial(shared_server(USERS))
        assert wire.connect(nkey=str(ALICE), sig=BOB.sign(wire.info["nonce"])).eof() == [VIOLATION]

    def test_connection_types(self, shared_server, dial):
        assert login(dial, shared_server(USERS), CAROL).eof() == [VIOLATION]

    def test_nobody_gets_in_without_credentials(self, shared_server, dial):
        server = shared_server(f"authorization {{ users [ {{nkey: {ALICE}}} ] }}")
        assert dial(server).connect().eof() == [VIOLATION]
        assert dial(server).lines("PING").eof() == [VIOLATION]

    async def test_the_official_client_with_a_seed(self, shared_server, tmp_path):
        seed = tmp_path / "user.nk"
        seed.write_text(ALICE.seed)
        client = await nats.connect(shared_server(USERS).url, nkeys_seed=str(seed), allow_reconnect=False)
        await client.flush()
        await client.close()


class TestRights:
    def test_permissions(self, shared_server, dial):
        wire = login(dial, shared_server(USERS), BOB).pub("allowed.x").pub("other").sub("secret")
        assert wire.flush() == [
            b"-ERR 'Permissions Violation for Publish to \"other\"'",
            b"-ERR 'Permissions Violation for Subscription to \"secret\"'",
        ]

    def test_accounts_are_apart(self, shared_server, dial):
        server = shared_server(ACCOUNTS)
        listener = login(dial, server, BOB).sub(">")
        listener.flush()
        login(dial, server, ALICE).pub("x").flush()
        assert listener.flush() == []

    def test_the_account_is_told(self, shared_server, dial):
        wire = login(dial, shared_server(ACCOUNTS), BOB, protocol=1).lines("PING")
        assert wire.line() == b"PONG"
        assert wire.read_info()["remote_account"] == "B"

    def test_an_nkey_may_be_the_no_auth_user(self, shared_server, dial):
        wire = dial(shared_server(ANONYMOUS))
        assert "auth_required" not in wire.info
        wire.connect().pub("anyone").pub("other")
        assert wire.flush() == [b"-ERR 'Permissions Violation for Publish to \"other\"'"]

    def test_the_no_auth_user_by_name_needs_no_signature(self, shared_server, dial):
        assert dial(shared_server(ANONYMOUS)).connect(nkey=str(ANYONE)).flush() == []

    def test_an_nkey_as_no_auth_user_needs_connect(self, shared_server, dial):
        assert dial(shared_server(ANONYMOUS)).lines("PING").eof() == [VIOLATION]

    def test_other_nkeys_still_sign(self, shared_server, dial):
        assert dial(shared_server(ANONYMOUS)).connect(nkey=str(ALICE)).eof() == [VIOLATION]


class TestTold:
    def test_connz(self, shared_server, dial):
        server = shared_server(USERS)
        wire = login(dial, server, ALICE)
        wire.flush()
        entry = next(c for c in server.connz("auth=1") if c["cid"] == wire.cid)
        assert entry["authorized_user"] == str(ALICE)

    def test_the_log_names_the_key_and_not_the_signature(self, start, dial):
        server = start(USERS, "-DV")
        signature = ALICE.sign("another nonce")
        wire = login(dial, server, ALICE, sign="another nonce")
        wire.eof()
        line = server.wait_log(r"authentication error.*$").string
        assert line.endswith(f' - cid:{wire.cid} - authentication error - Nkey "{ALICE}"')
        assert signature not in "\n".join(server.log)
        server.wait_log(f"cid:{wire.cid} - Signature not verified")


class TestReload:
    def test_a_key_that_is_gone(self, start, dial):
        server = start(f"authorization {{ users [ {{nkey: {ALICE}}}, {{nkey: {BOB}}} ] }}")
        alice, bob = login(dial, server, ALICE), login(dial, server, BOB)
        assert alice.flush() == bob.flush() == []
        lines = server.reload(f"authorization {{ users [ {{nkey: {ALICE}}} ] }}")
        assert any("Reloaded: authorization nkey users" in line for line in lines)
        assert bob.eof() == []
        assert alice.flush() == []
        assert login(dial, server, BOB).eof() == [VIOLATION]

    def test_nkeys_where_there_were_none(self, start, dial):
        server = start("")
        before = dial(server).ready()
        server.reload(f"authorization {{ users [ {{nkey: {ALICE}}} ] }}")
        assert before.eof() == [VIOLATION]
        assert login(dial, server, ALICE).flush() == []

    def test_permissions_that_changed(self, start, dial):
        server = start(f"authorization {{ users [ {{nkey: {ALICE}}} ] }}")
        wire = login(dial, server, ALICE)
        wire.flush()
        server.reload(f'authorization {{ users [ {{nkey: {ALICE}, permissions: {{publish: "a"}}}} ] }}')
        assert wire.pub("b").flush() == [b"-ERR 'Permissions Violation for Publish to \"b\"'"]
