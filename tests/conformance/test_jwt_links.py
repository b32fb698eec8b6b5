"""Imports, exports and mappings that stand in JWTs: what they allow is what arrives."""

from __future__ import annotations

import time

import pytest

from tests.jwts import Key, account_jwt, encode, user_jwt

from .test_jwt import OPERATOR, SYSTEM, config

A, B, SIGNING = Key("A", "exporter"), Key("A", "importer"), Key("A", "exporter's signing key")
USER = Key("U", "user")
NOW = int(time.time())
STREAM, SERVICE = {"subject": "news.>", "type": "stream"}, {"subject": "add.*", "type": "service"}
PRIVATE = {"subject": "secret.*", "type": "stream", "token_req": True}


def imported(export, **more):
    return {"subject": export["subject"], "type": export["type"], "account": str(A), **more}


def activation(subject="secret.*", *, signer=A, to=B, claims=None, **nats):
    nats = {"type": "activation", "version": 2, "subject": subject, "kind": "stream", **nats}
    return encode({"sub": str(to), **(claims or {}), "nats": nats}, signer)


def world(exports, imports, **exporter):
    return config(
        account_jwt(A, OPERATOR, exports=exports, signing_keys=[str(SIGNING)], **exporter),
        account_jwt(B, OPERATOR, imports=imports),
        keys=(A, B, SYSTEM),
    )


@pytest.fixture
def login(dial):
    def get(server, account):
        wire = dial(server)
        wire.connect(jwt=user_jwt(USER, account), sig=USER.sign(wire.info["nonce"]), no_responders=True)
        assert wire.flush() == []
        return wire

    return get


def arrives(login, server, published, subscribed):
    """What a subscriber of the importer gets of a message to the exporter."""
    listener = login(server, B).sub(subscribed)
    assert listener.flush() == []
    login(server, A).pub(published, "x").flush()
    return listener.flush()


class TestStreams:
    def test_public(self, shared_server, login):
        server = shared_server(world([STREAM], [imported(STREAM)]))
        assert arrives(login, server, "news.today", "news.>") == [b"MSG news.today 1 1\r\nx"]

    def test_under_another_name(self, shared_server, login):
        server = shared_server(world([STREAM], [imported(STREAM, local_subject="from.a.>")]))
        assert arrives(login, server, "news.today", "from.a.>") == [b"MSG from.a.today 1 1\r\nx"]

    def test_with_a_prefix(self, shared_server, login):
        server = shared_server(world([STREAM], [imported(STREAM, to="pre")]))
        assert arrives(login, server, "news.today", "pre.>") == [b"MSG pre.news.today 1 1\r\nx"]

    @pytest.mark.parametrize(
        "imports", [[], [{"subject": "other", "type": "stream", "account": str(A)}], [imported(SERVICE)]]
    )
    def test_what_is_not_imported(self, shared_server, login, imports):
        assert arrives(login, shared_server(world([STREAM], imports)), "news.today", ">") == []

    def test_what_is_not_exported(self, shared_server, login):
        assert arrives(login, shared_server(world([], [imported(STREAM)])), "news.today", ">") == []


class TestActivations:
    @pytest.mark.parametrize("token", [
        activation(), activation("secret.>"), activation(signer=SIGNING, issuer_account=str(A)),
        activation(claims={"exp": NOW + 3600}),
    ], ids=["plain", "wider", "signing key", "with an end"])  # fmt: skip
    def test_that_count(self, shared_server, login, token):
        server = shared_server(world([PRIVATE], [imported(PRIVATE, token=token)]))
        assert arrives(login, server, "secret.x", "secret.*") == [b"MSG secret.x 1 1\r\nx"]

    @pytest.mark.parametrize("token", [
        None, activation(claims={"exp": NOW - 60}), activation(claims={"nbf": NOW + 3600}),
    ], ids=["none", "expired", "not yet valid"])  # fmt: skip
    def test_that_do_not(self, shared_server, login, token):
        entry = imported(PRIVATE, token=token) if token else imported(PRIVATE)
        server = shared_server(world([PRIVATE], [entry]))
        assert arrives(login, server, "secret.x", ">") == []

    # CVE-2021-3127
    @pytest.mark.parametrize("token", [
        activation("other"), activation(to=A), activation(signer=SIGNING), activation(kind="service"), "rubbish",
        activation(signer=SIGNING, issuer_account=str(SYSTEM)),
    ], ids=["subject", "importer", "issuer", "kind", "rubbish", "account"])  # fmt: skip
    def test_that_spoil_the_account(self, shared_server, dial, token):
        server = shared_server(world([PRIVATE], [imported(PRIVATE, token=token)]))
        wire = dial(server)
        wire.connect(jwt=user_jwt(USER, B), sig=USER.sign(wire.info["nonce"]))
        assert wire.eof() == [b"-ERR 'Authorization Violation'"]

    @pytest.mark.parametrize("who", [str(B), "*"])
    def test_revoked(self, shared_server, login, who):
        token = activation(claims={"iat": NOW - 10})
        server = shared_server(world([{**PRIVATE, "revocations": {who: NOW}}], [imported(PRIVATE, token=token)]))
        assert arrives(login, server, "secret.x", ">") == []

    def test_ends_during_the_connection(self, shared_server, login):
        token = activation(claims={"exp": int(time.time()) + 4})
        server = shared_server(world([PRIVATE], [imported(PRIVATE, token=token)]))
        listener, publisher = login(server, B).sub("secret.*"), login(server, A)
        assert listener.flush() == []
        publisher.pub("secret.x", "x").flush()
        assert listener.flush() == [b"MSG secret.x 1 1\r\nx"]
        deadline = time.monotonic() + 15
        while True:
            publisher.pub("secret.x", "y").flush()
            if listener.flush() == []:
                return
            assert time.monotonic() < deadline


class TestServices:
    def test_public(self, shared_server, login):
        server = shared_server(world([SERVICE], [imported(SERVICE)]))
        responder = login(server, A).sub("add.*")
        responder.flush()
        asker = login(server, B).sub("answer", 2).pub("add.x", "1", "answer")
        request = responder.op().split(b"\r\n")[0].split()
        assert request[1] == b"add.x"
        responder.pub(request[3].decode(), "2")
        assert asker.op() == b"MSG answer 2 1\r\n2"

    def test_under_another_name(self, shared_server, login):
        server = shared_server(world([SERVICE], [imported(SERVICE, local_subject="sum.*")]))
        responder = login(server, A).sub("add.*")
        responder.flush()
        login(server, B).pub("sum.x", "1").flush()
        assert responder.op().split()[1] == b"add.x"

    def test_the_importers_name_in_the_subject(self, shared_server, login):
        export = {"subject": "for.*", "type": "service", "account_token_position": 2}
        entry = {"subject": f"for.{B}", "type": "service", "account": str(A), "local_subject": "mine"}
        server = shared_server(world([export], [entry]))
        responder = login(server, A).sub("for.*")
        responder.flush()
        login(server, B).pub("mine", "1").flush()
        assert responder.op().split()[1] == f"for.{B}".encode()

    def test_another_ones_name_in_the_subject(self, shared_server, login):
        export = {"subject": "for.*", "type": "service", "account_token_position": 2}
        entry = {"subject": f"for.{SYSTEM}", "type": "service", "account": str(A), "local_subject": "mine"}
        server = shared_server(world([export], [entry]))
        responder = login(server, A).sub("for.*")
        login(server, B).pub("mine", "1").flush()
        assert responder.flush() == []


class TestMappings:
    def test_in_a_jwt(self, shared_server, login):
        server = shared_server(world([], [], mappings={"old.*": [{"subject": "new.$1"}]}))
        wire = login(server, A).sub("new.*").pub("old.x", "1")
        assert wire.flush() == [b"MSG new.x 1 1\r\n1"]

    def test_that_make_no_sense(self, shared_server, login):
        server = shared_server(world([], [], mappings={"old.*": [{"subject": "new.$7"}], "a": [{"subject": "b"}]}))
        wire = login(server, A).sub("b").sub("old.*", 2).pub("a", "1").pub("old.x", "2")
        assert wire.flush() == [b"MSG b 1 1\r\n1", b"MSG old.x 2 1\r\n2"]


class TestReload:
    def test_a_mapping_that_is_gone(self, start, login):
        server = start(world([], [], mappings={"old": [{"subject": "new"}]}))
        wire = login(server, A).sub(">").pub("old", "1")
        assert wire.flush() == [b"MSG new 1 1\r\n1"]
        server.reload(world([], []))
        assert wire.pub("old", "2").flush() == [b"MSG old 1 1\r\n2"]

    def test_an_export_that_is_gone(self, start, login):
        server = start(world([STREAM], [imported(STREAM)]))
        listener, publisher = login(server, B).sub("news.>"), login(server, A)
        listener.flush()
        server.reload(world([], [imported(STREAM)]))
        publisher.pub("news.today", "x").flush()
        assert listener.flush() == []

    def test_an_export_that_is_new(self, start, login):
        server = start(world([], [imported(STREAM)]))
        listener, publisher = login(server, B).sub("news.>"), login(server, A)
        listener.flush()
        server.reload(world([STREAM], [imported(STREAM)]))
        publisher.pub("news.today", "x").flush()
        assert listener.flush() == [b"MSG news.today 1 1\r\nx"]

    def test_imports_in_a_ring(self, start, login):
        """CVE-2020-28466, CVE-2022-42709"""
        exports = [{"subject": "a.>", "type": "stream"}, {"subject": "s.>", "type": "service"}]
        tokens = [
            account_jwt(key, OPERATOR, exports=exports,
                        imports=[{**export, "account": str(other)} for export in exports])
            for key, other in ((A, B), (B, A))
        ]  # fmt: skip
        server = start(config(*tokens, keys=(A, B, SYSTEM)))
        wire = login(server, A).sub("a.>").pub("a.x", "1")
        assert wire.flush() == [b"MSG a.x 1 1\r\n1"]
        assert login(server, B).flush() == []
