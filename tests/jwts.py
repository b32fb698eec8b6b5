"""NKeys and JWTs of the tests' own, made without natsc: what operators, accounts and users would hand in."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIXES = {"O": 14 << 3, "A": 0, "U": 20 << 3, "N": 13 << 3, "C": 2 << 3, "X": 23 << 3}
NO_LIMITS = {"subs": -1, "data": -1, "payload": -1}
ACCOUNT_LIMITS = {**NO_LIMITS, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}


def crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def base32(data: bytes) -> str:
    return base64.b32encode(data + crc16(data).to_bytes(2, "little")).decode().rstrip("=")


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Key:
    """A key pair of a kind ("O", "A", "U", ...), always the same one for a name; str() is the public key."""

    def __init__(self, kind: str, name: str) -> None:
        self.raw = hashlib.sha256(f"{kind} {name}".encode()).digest()
        self.private = Ed25519PrivateKey.from_private_bytes(self.raw)
        prefix = PREFIXES[kind]
        self.public = base32(bytes([prefix]) + self.private.public_key().public_bytes_raw())
        self.seed = base32(bytes([18 << 3 | prefix >> 5, (prefix & 31) << 3]) + self.raw)

    def __str__(self) -> str:
        return self.public

    def sign(self, nonce: str) -> str:
        """The signature of INFO's nonce, as CONNECT carries it."""
        return base64url(self.private.sign(nonce.encode()))


def encode(
    claims: dict[str, Any], signer: Key, *, header: dict[str, str] | None = None, forged: Key | None = None
) -> str:
    """A signed JWT; forged: the key that signs in place of the issuer that it names."""
    claims = {"iat": int(time.time()), "iss": str(signer), **claims}
    digest = hashlib.new("sha512_256", json.dumps(claims).encode()).digest()
    claims["jti"] = base64.b32encode(digest).decode().rstrip("=")
    head = base64url(json.dumps(header or {"typ": "JWT", "alg": "ed25519-nkey"}).encode())
    signed = f"{head}.{base64url(json.dumps(claims).encode())}"
    return f"{signed}.{base64url((forged or signer).private.sign(signed.encode()))}"


def operator_jwt(key: Key, *, claims: dict[str, Any] | None = None, **nats: Any) -> str:
    return encode(
        {"sub": str(key), "name": "O", **(claims or {}), "nats": {"type": "operator", "version": 2, **nats}}, key
    )


def account_jwt(key: Key, signer: Key, *, claims: dict[str, Any] | None = None, **nats: Any) -> str:
    """An account without limits but those given."""
    limits = {**ACCOUNT_LIMITS, **nats.pop("limits", {})}
    nats = {"type": "account", "version": 2, "limits": limits, **nats}
    return encode({"sub": str(key), "name": "acct", **(claims or {}), "nats": nats}, signer)


def user_jwt(key: Key, signer: Key, *, claims: dict[str, Any] | None = None, scoped: bool = False, **nats: Any) -> str:
    """A user without limits but those given; scoped: with none at all, as users of scoped signing keys must be."""
    nats = {"type": "user", "version": 2, **({} if scoped else NO_LIMITS), **nats}
    return encode({"sub": str(key), "name": "usr", **(claims or {}), "nats": nats}, signer)
