"""Operator mode in a configuration: JWTs are verified, and its rules hold."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from natsc.config import ConfigError, keys, process_config_string, set_baseline_options, validate_options

from .reference import comparable, natsc_says, reference_says, write

KEY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"\2" * 32)


def nkey(prefix: int, key: Ed25519PrivateKey) -> str:
    body = bytes([prefix]) + key.public_key().public_bytes_raw()
    crc = 0
    for byte in body:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return base64.b32encode(body + crc.to_bytes(2, "little")).decode().rstrip("=")


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def jwt(
    kind: str = "operator", algorithm: str = "ed25519-nkey", signer: Ed25519PrivateKey = KEY, **nats: object
) -> str:
    prefix = keys.PREFIX_OPERATOR
    subject = nkey(prefix if kind == "operator" else keys.PREFIX_ACCOUNT, KEY)
    claims = {
        "jti": "X", "iat": 1, "iss": nkey(prefix, KEY), "name": "n", "sub": subject,
        "nats": {"type": kind, "version": 2, **nats},
    }  # fmt: skip
    header = encode(json.dumps({"typ": "JWT", "alg": algorithm}).encode())
    signed = f"{header}.{encode(json.dumps(claims).encode())}"
    return f"{signed}.{encode(signer.sign(signed.encode()))}"


GOOD = jwt()
CONFIGS = {
    "good": f"operator: {GOOD}\nresolver: MEM",
    "in a file": "operator: op.jwt\nresolver: MEM",
    "decorated": "operator: decorated.jwt",
    "two": f"operators: [{GOOD}, op.jwt]",
    "other signer": f"operator: {jwt(signer=OTHER_KEY)}",
    "an account": f"operator: {jwt('account')}",
    "algorithm": f"operator: {jwt(algorithm='ed448')}",
    "two chunks": "operator: eyJ.eyJ",
    "base64": f"operator: {GOOD.replace('.', '.=', 1)}",
    "no type": f"operator: {encode(b'{}')}.{GOOD.split('.', 1)[1]}",
    "missing file": "operator: nonesuch.jwt",
    "full": "resolver { type: full, dir: store }",
    "full in a file": "resolver { type: full, dir: op.jwt }",
    "full below a file": "resolver { type: full, dir: op.jwt/a/b }",
    "full without a directory": "resolver { type: full }",
    "full with a ttl": "resolver { type: full, dir: store, ttl: 5s }",
    "cache": "resolver { type: cache, dir: store, limit: 5, ttl: 5s }",
    "cache that is synchronized": "resolver { type: cache, dir: store, interval: 5s, allow_delete: true }",
    "preload": f"resolver_preload {{ A: {jwt('account')} }}",
    "preload of an operator": f"resolver_preload {{ A: {GOOD} }}",
    "preload, other signer": f"resolver_preload {{ A: {jwt('account', signer=OTHER_KEY)} }}",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_same_words_as_nats_server(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("op.jwt", GOOD)
    write("decorated.jwt", f"-----BEGIN NATS OPERATOR JWT-----\n{GOOD}\n------END NATS OPERATOR JWT------\n")
    write("main.conf", CONFIGS[name])
    assert comparable(natsc_says("main.conf")) == comparable(reference_says("main.conf"))


def test_an_operator_is_read() -> None:
    opts = process_config_string(CONFIGS["good"])
    assert (opts.refused, opts.unsupported) == ([], [])
    assert opts.operator_jwt == [GOOD]
    assert [claims.name for claims in opts.trusted_operators] == ["n"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "operators require an account resolver to be configured"),
        ("resolver: MEM\naccounts: [A]", "operators do not allow Accounts to be configured directly"),
        (
            "resolver: MEM\nauthorization {users: [{user: a}]}",
            "operators do not allow users to be configured directly",
        ),
        (
            f"resolver: MEM\ntrusted_keys: {nkey(keys.PREFIX_OPERATOR, KEY)}",
            "conflicting options for 'TrustedKeys' and 'TrustedOperators'",
        ),
        (
            "resolver: MEM\nno_auth_user: x\n",
            "no_auth_user not compatible with Trusted Operator",
        ),
        (
            "resolver: MEM\nresolver_pinned_accounts: x",
            'pinned account key "x" is not a valid public account nkey',
        ),
    ],
)
def test_rules_of_operator_mode(text: str, error: str) -> None:
    opts = process_config_string(f"operator: {GOOD}\n{text}")
    set_baseline_options(opts)
    with pytest.raises(ConfigError) as raised:
        validate_options(opts)
    assert str(raised.value) == error


@pytest.mark.parametrize("prefix", [keys.PREFIX_OPERATOR, keys.PREFIX_ACCOUNT, keys.PREFIX_USER, keys.PREFIX_CURVE])
def test_nkeys(prefix: int) -> None:
    key = nkey(prefix, KEY)
    assert keys.is_public_key(key)
    assert keys.is_public_key(key, prefix)
    assert not keys.is_public_key(key, keys.PREFIX_SERVER)
    assert not keys.is_public_key(key[:-1] + ("A" if key[-1] != "A" else "B"))
    assert not keys.is_public_key(key.lower())
    assert keys.public_key_bytes(key) == KEY.public_key().public_bytes_raw()
