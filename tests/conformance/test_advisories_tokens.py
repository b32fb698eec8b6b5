"""Advisories about keys, tokens and signatures: a test for each, named after it, through every door of a client."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import time

import pytest

from tests.jwts import ACCOUNT_LIMITS, Key, account_jwt, base32, base64url, encode, user_jwt

from .doors import PLAIN_WEBSOCKET, enter
from .test_jwt import ACCOUNT, ACCOUNT_KEY, HOUR, NOW, OPERATOR, SYSTEM, USER, config
from .test_resolvers import Admin, full

VIOLATION = b"-ERR 'Authorization Violation'"
NO_JWT = "Authentication requires a user JWT"
EXPIRED = "User JWT no longer valid: .*claim is expired"
DOORS = ("tcp", "websocket")
DEBUG = PLAIN_WEBSOCKET + "debug: true\n"
PLAIN = config(account_jwt(ACCOUNT, OPERATOR, signing_keys=[str(ACCOUNT_KEY)]), more=DEBUG)
CLAIMS = {"sub": str(USER), "nats": {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}}


@pytest.fixture
def present():
    """CONNECT with a token through a door; the signature is good, unless told otherwise."""
    opened = []

    def get(door, server, token, *, sig=None, **options):
        wire = enter(door, server)
        opened.append(wire)
        return wire.connect(**{"jwt": token, "sig": USER.sign(wire.info["nonce"]) if sig is None else sig, **options})

    yield get
    for wire in opened:
        wire.close()


def check_refused(server, wire, why) -> None:
    mark = f"id:{wire.cid} - "
    assert wire.eof() == [VIOLATION]
    assert server.closed(wire.cid)["reason"] == "Authentication Failure"
    server.wait_log(mark + why)
    assert "Traceback" not in "\n".join(server.log)


def check_serves(server, present) -> None:
    assert present("tcp", server, user_jwt(USER, ACCOUNT)).flush() == []


@pytest.mark.parametrize("door", DOORS)
class TestUsers:
    @pytest.fixture
    def server(self, shared_server):
        return shared_server(PLAIN)

    @pytest.mark.parametrize("nats", [
        None, [], {"type": "user", "version": 2, "pub": None, "sub": None, "resp": None, "src": None, "times": None},
        {"type": "user", "version": 2, "pub": {"allow": None, "deny": [None]}}, {"type": None, "version": None},
        {"type": "user", "version": 2, "times": [None]}, {"type": "user", "version": 2, "tags": [None], "src": [None]},
    ], ids=range(7))  # fmt: skip
    def test_cve_2020_26521(self, server, present, door, nats):
        """Claims full of nothing."""
        wire = present(door, server, encode({"sub": str(USER), "nats": nats}, ACCOUNT))
        with contextlib.suppress(EOFError):
            wire.flush()
        check_serves(server, present)

    @pytest.mark.parametrize(
        ("claims", "why"),
        [
            ({"exp": NOW - HOUR}, EXPIRED),
            ({"exp": 1}, EXPIRED),
            ({"nbf": NOW + HOUR}, r"User JWT no longer valid: .*claim is not yet valid"),
        ],
    )
    def test_cve_2020_26892(self, server, present, door, claims, why):
        """What has ended counts no more."""
        check_refused(server, present(door, server, user_jwt(USER, ACCOUNT, claims=claims)), why)
        check_refused(server, present(door, server, user_jwt(USER, ACCOUNT_KEY, claims=claims,
                                                             issuer_account=str(ACCOUNT))), why)  # fmt: skip

    @pytest.mark.parametrize("who", [str(USER), "*"])
    def test_cve_2020_26892_revoked(self, shared_server, present, door, who):
        account = account_jwt(ACCOUNT, OPERATOR, revocations={who: NOW + HOUR})
        server = shared_server(config(account, more=DEBUG))
        check_refused(server, present(door, server, user_jwt(USER, ACCOUNT)), "User authentication revoked")

    def test_cve_2020_26892_during_the_connection(self, server, present, door):
        wire = present(door, server, user_jwt(USER, ACCOUNT, claims={"exp": int(time.time()) + 2}))
        assert wire.eof() == [b"-ERR 'User Authentication Expired'"]
        assert server.closed(wire.cid)["reason"] == "Authentication Expired"

    @pytest.mark.parametrize("length", [0, 1, 16, 31, 33, 64])
    @pytest.mark.parametrize("field", ["sub", "iss", "issuer_account"])
    def test_ghsa_g33f_6538_grxh(self, server, present, door, field, length):
        """A key that is cut off, or too long, with a checksum that is right."""
        raw = (USER if field == "sub" else ACCOUNT).private.public_key().public_bytes_raw()
        short = base32(bytes([20 << 3 if field == "sub" else 0]) + (raw + b"x" * 32)[:length])
        claims = json.loads(json.dumps(CLAIMS))
        if field == "issuer_account":
            claims["nats"][field] = short
        else:
            claims[field] = short
        check_refused(server, present(door, server, encode(claims, ACCOUNT)), "")
        check_serves(server, present)

    @pytest.mark.parametrize("signature", ["", "AAAA", "!", "A" * 86, "é", "A" * 200, base64url(b"x" * 63)])
    def test_ghsa_g33f_6538_grxh_signatures(self, server, present, door, signature):
        check_refused(server, present(door, server, user_jwt(USER, ACCOUNT), sig=signature), "")
        check_serves(server, present)

    @pytest.mark.parametrize("header", [
        {"typ": "JWT", "alg": "none"}, {"typ": "JWT", "alg": "NONE"}, {"typ": "JWT", "alg": "HS256"},
        {"typ": "JWT", "alg": ""}, {"alg": "ed25519-nkey"}, {"typ": "JWT"}, {"typ": "JWE", "alg": "ed25519-nkey"},
        {"typ": "JWT", "alg": "EdDSA"}, {},
    ], ids=range(9))  # fmt: skip
    def test_cve_2015_9235(self, server, present, door, header):
        """The token doesn't choose how it is verified: signed as it should be, with another name for that."""
        header = header or {"typ": ""}
        check_refused(server, present(door, server, encode(CLAIMS, ACCOUNT, header=header)), NO_JWT)

    @pytest.mark.parametrize("secret", [ACCOUNT.public.encode(), ACCOUNT.private.public_key().public_bytes_raw(), b""])
    @pytest.mark.parametrize("name", ["HS256", "ed25519-nkey", "none"])
    def test_cve_2016_10555(self, server, present, door, secret, name):
        """The public key isn't the secret of another algorithm."""
        head = base64url(json.dumps({"typ": "JWT", "alg": name}).encode())
        signed = f"{head}.{user_jwt(USER, ACCOUNT).split('.')[1]}"
        signature = base64url(hmac.new(secret, signed.encode(), hashlib.sha256).digest()) if secret else ""
        check_refused(server, present(door, server, f"{signed}.{signature}"), NO_JWT)

    @pytest.mark.parametrize("more", [
        {"jwk": {"kty": "OKP", "crv": "Ed25519"}}, {"kid": "forger"}, {"jku": "http://127.0.0.1:1/"}, {"x5c": ["x"]},
    ], ids=["jwk", "kid", "jku", "x5c"])  # fmt: skip
    def test_cve_2018_0114(self, server, present, door, more):
        """A key that the token brings along isn't used."""
        forger = Key("A", "forger")
        if "jwk" in more:
            more = {"jwk": {**more["jwk"], "x": base64url(forger.private.public_key().public_bytes_raw())}}
        header = {"typ": "JWT", "alg": "ed25519-nkey", **more}
        check_refused(server, present(door, server, encode(CLAIMS, ACCOUNT, header=header, forged=forger)), NO_JWT)
        assert present(door, server, encode(CLAIMS, ACCOUNT, header=header)).flush() == []


class TestNKeys:
    USERS = PLAIN_WEBSOCKET + f"http: 127.0.0.1:-1\nauthorization {{ users [ {{nkey: {USER}}} ] }}\n"

    @pytest.mark.parametrize("signature", ["AAAA", "!", "A" * 86, "é", "A" * 200, ""])
    @pytest.mark.parametrize("door", DOORS)
    def test_ghsa_g33f_6538_grxh(self, shared_server, door, signature):
        server = shared_server(self.USERS)
        with contextlib.closing(enter(door, server)) as wire:
            assert wire.connect(nkey=str(USER), sig=signature).eof() == [VIOLATION]


class TestAccounts:
    # What an account is called ends in a path.
    @pytest.mark.parametrize("name", ["../../evil", "..", "", "/etc/passwd", "A" * 55, "a/../../b", "\0", "A" * 5000])
    def test_cve_2022_28357(self, start, dial, tmp_path, name):
        nats = {"type": "account", "version": 2, "limits": {"imports": -1, "exports": -1}}
        admin = Admin(dial, start(full(tmp_path / "store")))
        answer = admin.update(encode({"sub": name, "nats": nats}, OPERATOR))
        assert answer["error"]["description"] == "jwt update resulted in error - invalid public key"
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{SYSTEM}.jwt"]

    @pytest.mark.parametrize("name", ["../../evil", "..", "/etc/passwd", "*", ">"])
    def test_cve_2022_28357_in_subjects(self, start, dial, tmp_path, name):
        """Nor does it come by the subjects of requests: what is looked up and deleted is a key."""
        (tmp_path / "evil.jwt").write_text("secret")
        server = start(full(tmp_path / "store", allow_delete="true"))
        admin = Admin(dial, server)
        admin.wire.pub(f"$SYS.REQ.ACCOUNT.{name}.CLAIMS.LOOKUP", "", "inbox")
        admin.wire.pub("$SYS.REQ.CLAIMS.DELETE", user_jwt(USER, OPERATOR), "inbox")
        assert b"secret" not in b"".join(admin.wire.flush())
        assert (tmp_path / "evil.jwt").exists()

    @pytest.mark.parametrize("nats", [
        {"imports": [None]}, {"exports": [None]}, {"signing_keys": [None]}, {"imports": None, "exports": None},
        {"limits": None}, {"limits": {"tiered_limits": {"R1": None}}}, {"revocations": {"*": None}},
        {"mappings": {"a": [None]}}, {"mappings": {"a": None}}, {"default_permissions": None}, {"authorization": None},
        {"trace": None},
        {"exports": [{"subject": "a", "type": "service", "service_latency": None, "revocations": None}]},
        {"imports": [{"subject": "a", "type": "service", "account": None, "token": None}]},
    ], ids=range(14))  # fmt: skip
    def test_cve_2020_26521(self, start, dial, tmp_path, nats):
        """Accounts full of nothing."""
        server = start(full(tmp_path))
        admin = Admin(dial, server)
        claims = {"type": "account", "version": 2, "limits": ACCOUNT_LIMITS, **nats}
        answer = admin.update(encode({"sub": str(ACCOUNT), "nats": claims}, OPERATOR))
        assert "error" in answer or "data" in answer
        wire = dial(server)
        wire.connect(jwt=user_jwt(USER, ACCOUNT), sig=USER.sign(wire.info["nonce"]))
        with contextlib.suppress(EOFError):
            wire.flush()
        assert admin.wire.flush() == []
        assert "Traceback" not in "\n".join(server.log)
