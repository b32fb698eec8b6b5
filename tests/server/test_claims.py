"""Operator mode at run time: time that is moved, accounts that are fetched, and how much of that there may be."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from natsc.server import claims as claims_module
from natsc.server.reload import ReloadError
from natsc.server.resolvers import Resolver
from tests.jwts import Key, account_jwt, operator_jwt, user_jwt

from .bench import Peer

OPERATOR, ACCOUNT, SYSTEM, USER = Key("O", "op"), Key("A", "a"), Key("A", "sys"), Key("U", "u")
NONCE = "6BM8nYmBB6n5MAA"
SECOND = 1_000_000_000


def config(account: str = "", *, preload: bool = True) -> str:
    operator = operator_jwt(OPERATOR, claims={"iat": 1}, system_account=str(SYSTEM))
    accounts = f"resolver_preload {{ {ACCOUNT}: {account or account_jwt(ACCOUNT, OPERATOR)} }}\n" if preload else ""
    return f"operator: {operator}\nresolver: MEMORY\n{accounts}"


def login(made: Any, token: str, key: Key = USER, **fields: Any) -> Peer:
    peer = made.peer()
    peer.client.nonce = NONCE.encode()
    return peer.connect(jwt=token, sig=key.sign(NONCE), **fields)


def now(made: Any) -> int:
    return made.server.clock.wall_ns() // SECOND


class Elsewhere(Resolver):
    """Accounts that have to be asked for; the test answers."""

    remote = True

    def __init__(self, server: Any) -> None:
        super().__init__(server, server.options.account_resolver)
        self.asked: dict[str, Any] = {}

    def fetch(self, name: str, then: Any) -> None:
        self.asked[name] = then


@pytest.fixture
def remote(bench: Any) -> Any:
    made = bench(config(preload=False))
    made.server.claims.resolver = Elsewhere(made.server)
    return made


class TestExpiry:
    def test_of_the_user(self, bench: Any) -> None:
        made = bench(config())
        peer = login(made, user_jwt(USER, ACCOUNT, claims={"exp": now(made) + 60}))
        assert peer.reason == ""
        made.server.clock.advance(59.5)
        assert peer.reason == ""
        made.server.clock.advance(1)
        assert peer.hears()[-1] == "-ERR 'User Authentication Expired'"
        assert peer.reason == "Authentication Expired"

    def test_of_the_account(self, bench: Any) -> None:
        made = bench(config(account_jwt(ACCOUNT, OPERATOR, claims={"exp": int(time.time()) + 60})))
        peer = login(made, user_jwt(USER, ACCOUNT))
        assert peer.reason == ""
        made.server.clock.advance(61)
        assert peer.hears()[-1] == "-ERR 'Account Authentication Expired'"
        assert login(made, user_jwt(USER, ACCOUNT)).reason == "Authentication Failure"

    def test_an_account_that_lives_longer_after_all(self, bench: Any) -> None:
        made = bench(config())
        for more in (60, 600):
            claims = {"exp": now(made) + more}
            made.server.claims.update(str(ACCOUNT), account_jwt(ACCOUNT, OPERATOR, claims=claims))
        peer = login(made, user_jwt(USER, ACCOUNT))
        made.server.clock.advance(61)
        assert peer.reason == ""

    def test_the_end_of_the_hours(self, bench: Any) -> None:
        made = bench(config())
        second = now(made) % 86400
        end = second + 60
        if end >= 86400:
            made.server.clock.advance(120)
            second, end = now(made) % 86400, now(made) % 86400 + 60
        clock = ":".join(f"{part:02}" for part in (end // 3600, end // 60 % 60, end % 60))
        peer = login(made, user_jwt(USER, ACCOUNT, times=[{"start": "00:00:00", "end": clock}], times_location="UTC"))
        assert peer.reason == ""
        made.server.clock.advance(61)
        assert peer.reason == "Authentication Expired"

    def test_a_second_connect_has_its_own_time(self, bench: Any) -> None:
        made = bench(config())
        peer = login(made, user_jwt(USER, ACCOUNT, claims={"exp": now(made) + 60}))
        peer.connect(jwt=user_jwt(USER, ACCOUNT), sig=USER.sign(NONCE))
        made.server.clock.advance(61)
        assert peer.reason == ""

    def test_a_closed_connection_leaves_nothing(self, bench: Any) -> None:
        made = bench(config())
        peer = login(made, user_jwt(USER, ACCOUNT, claims={"exp": now(made) + 600}))
        timer = peer.client.grant.timer
        peer.client.close(1)
        made.server.engine.end_turn()
        assert timer.callback is None


class TestReload:
    def test_another_resolver(self, bench: Any, tmp_path: Path) -> None:
        made = bench(config())
        with pytest.raises(ReloadError, match="config reload not supported for AccountResolver: old=MEM , new=FULL"):
            made.reload(config().replace("MEMORY", f'{{type: full, dir: "{tmp_path}"}}'))
        assert login(made, user_jwt(USER, ACCOUNT)).reason == ""


class TestFetch:
    def test_the_client_waits(self, remote: Any) -> None:
        peer = login(remote, user_jwt(USER, ACCOUNT))
        assert (peer.reason, peer.client.connected) == ("", False)
        remote.server.claims.resolver.asked[str(ACCOUNT)](account_jwt(ACCOUNT, OPERATOR), "")
        assert peer.client.connected
        assert peer.client.account.name == str(ACCOUNT)

    def test_one_fetch_for_all_who_wait(self, remote: Any) -> None:
        peers = [login(remote, user_jwt(USER, ACCOUNT)) for _ in range(5)]
        asked = remote.server.claims.resolver.asked
        assert list(asked) == [str(ACCOUNT)]
        asked[str(ACCOUNT)](None, "nobody knows it")
        assert {peer.reason for peer in peers} == {"Authentication Failure"}
        assert remote.log.texts("warn") == ["Account fetch failed: nobody knows it"]

    def test_those_that_leave_are_forgotten(self, remote: Any) -> None:
        peer = login(remote, user_jwt(USER, ACCOUNT))
        peer.client.close(1)
        remote.server.engine.end_turn()
        remote.server.claims.resolver.asked[str(ACCOUNT)](account_jwt(ACCOUNT, OPERATOR), "")
        assert not peer.client.connected

    def test_strangers_cause_so_many_and_no_more(self, remote: Any) -> None:
        strangers = [Key("A", f"stranger {number}") for number in range(claims_module.FETCHES + 5)]
        for key in strangers:
            login(remote, user_jwt(USER, key))
        asked = remote.server.claims.resolver.asked
        assert len(asked) == claims_module.FETCHES
        asked[str(strangers[0])](None, "no")
        assert len(asked) == claims_module.FETCHES + 1

    def test_a_token_without_a_good_signature_causes_none(self, remote: Any) -> None:
        assert login(remote, user_jwt(USER, ACCOUNT)[:-8] + "AAAAAAAA").reason == "Authentication Failure"
        assert remote.server.claims.resolver.asked == {}

    def test_an_expired_account_is_asked_for_again_but_not_at_once(self, remote: Any) -> None:
        claims = {"exp": now(remote) + 60}
        remote.server.claims.update(str(ACCOUNT), account_jwt(ACCOUNT, OPERATOR, claims=claims))
        asked = remote.server.claims.resolver.asked
        remote.server.clock.advance(61)
        peer = login(remote, user_jwt(USER, ACCOUNT))
        asked[str(ACCOUNT)](account_jwt(ACCOUNT, OPERATOR), "")
        assert peer.reason == ""

    def test_accounts_that_import_from_each_other(self, bench: Any) -> None:
        keys = [Key("A", f"ring {number}") for number in range(3)]
        tokens = {}
        for at, key in enumerate(keys):
            other = keys[(at + 1) % 3]
            entry = {"subject": "a", "account": str(other), "type": "stream"}
            exports = [{"subject": "a", "type": "stream"}]
            tokens[str(key)] = account_jwt(key, OPERATOR, imports=[entry], exports=exports)
        preload = ", ".join(f"{key}: {token}" for key, token in tokens.items())
        operator = operator_jwt(OPERATOR, claims={"iat": 1})
        made = bench(f"operator: {operator}\nresolver: MEMORY\nresolver_preload {{ {preload} }}\n")
        assert login(made, user_jwt(USER, keys[0])).reason == ""
        assert sorted(made.server.claims.accounts) == sorted(tokens)


class TestAccounts:
    def test_kept_in_the_form_of_a_configuration(self, bench: Any) -> None:
        made = bench(config(account_jwt(
            ACCOUNT, OPERATOR, limits={"conn": 7, "disk_storage": 1000, "mem_storage": -1},
            exports=[{"subject": "a.>", "type": "service", "response_type": "Stream", "token_req": True}],
            imports=[{"subject": "b.*", "account": str(SYSTEM), "type": "stream", "local_subject": "c.$1"}],
            mappings={"m": [{"subject": "n"}]}, trace={"dest": "t"},
        )))  # fmt: skip
        login(made, user_jwt(USER, ACCOUNT))
        options = made.server.account(str(ACCOUNT)).options
        export, imported = options.exports[0], options.imports[0]
        assert (options.limits.max_connections, options.limits.max_subscriptions) == (7, -1)
        assert (export.subject, export.service, export.accounts, export.response_type) == ("a.>", True, [], "Streamed")
        assert (imported.account, imported.subject, imported.to) == (str(SYSTEM), "b.*", "c.$1")
        assert [(dest.subject, dest.weight) for dest in options.mappings["m"]] == [("n", 100)]
        assert (options.trace_dest, options.trace_dest_sampling) == ("t", 100)
        assert (options.jetstream[""].max_store, options.jetstream[""].max_memory) == (1000, -1)
        assert options in made.server.configured_accounts()

    def test_who_comes_through_no_proxy(self, bench: Any) -> None:
        made = bench(config())
        assert login(made, user_jwt(USER, ACCOUNT, proxy_required=True)).reason == "Proxy Required"

    def test_default_permissions_that_are_none(self, bench: Any) -> None:
        made = bench(config(account_jwt(ACCOUNT, OPERATOR, default_permissions={"pub": {"deny": ["a.>.b"]}})))
        assert login(made, user_jwt(USER, ACCOUNT)).reason == "Authentication Failure"

    def test_permissions_of_many_users_are_not_kept(self, bench: Any) -> None:
        made = bench(config())
        for number in range(20):
            login(made, user_jwt(USER, ACCOUNT, pub={"allow": [f"a.{number}"]}))
        assert made.server._permissions == {}
