"""NKeys: texts, signatures, and what isn't one."""

from __future__ import annotations

import base64

import nkeys as reference
import pytest

from natsc.auth import nkeys
from natsc.config import keys
from tests.jwts import Key

NONCE = b"6BM8nYmBB6n5MAA"
PREFIXES = {
    "O": keys.PREFIX_OPERATOR, "A": keys.PREFIX_ACCOUNT, "U": keys.PREFIX_USER, "N": keys.PREFIX_SERVER,
    "C": keys.PREFIX_CLUSTER,
}  # fmt: skip


@pytest.mark.parametrize("kind", PREFIXES)
def test_the_same_as_the_nkeys_package(kind: str) -> None:
    ours = nkeys.KeyPair.create(PREFIXES[kind])
    theirs = reference.from_seed(ours.seed.encode())
    assert ours.public_key == theirs.public_key.decode()
    assert ours.public_key.startswith(kind)
    assert nkeys.verify(ours.public_key, NONCE, theirs.sign(NONCE))
    assert theirs.verify(NONCE, ours.sign(NONCE))


def test_a_seed_gives_its_key_back() -> None:
    key = Key("U", "a")
    pair = nkeys.KeyPair.from_seed(key.seed)
    assert (pair.public_key, pair.seed, pair.prefix) == (key.public, key.seed, keys.PREFIX_USER)
    assert key.seed not in repr(pair)


@pytest.mark.parametrize(
    "text", ["", "SU", "no seed", Key("U", "a").public, Key("U", "a").seed[:-1], Key("U", "a").seed.lower()]
)
def test_what_is_no_seed(text: str) -> None:
    with pytest.raises(ValueError, match="invalid seed"):
        nkeys.KeyPair.from_seed(text)


def test_signatures() -> None:
    key, other = Key("U", "a"), Key("U", "b")
    signature = key.private.sign(NONCE)
    assert nkeys.verify(key.public, NONCE, signature)
    assert not nkeys.verify(other.public, NONCE, signature)
    assert not nkeys.verify(key.public, NONCE + b"x", signature)


# GHSA-g33f-6538-grxh: a key or a signature of another length must not reach the library.
@pytest.mark.parametrize("cut", [0, 1, 31, 33, 63, 65])
def test_signatures_and_keys_of_a_wrong_length(cut: int) -> None:
    key = Key("U", "a")
    signature = key.private.sign(NONCE)
    assert not nkeys.verify(key.public, NONCE, (signature + b"x")[:cut])
    short = keys.encode_public(keys.PREFIX_USER, (key.private.public_key().public_bytes_raw() + b"x" * 40)[:cut])
    assert nkeys.verify(short, NONCE, signature) is False


@pytest.mark.parametrize("text", ["", "U", "not an nkey", "A" * 56, Key("U", "a").seed])
def test_what_is_no_public_key(text: str) -> None:
    assert not nkeys.verify(text, NONCE, b"x" * 64)


@pytest.mark.parametrize("data", [b"", b"x", b"xy", b"xyz", bytes(range(64)), b"\xff" * 64, b"\xfb\xef" * 32])
def test_both_forms_of_base64(data: bytes) -> None:
    assert nkeys.decode_signature(base64.urlsafe_b64encode(data).decode().rstrip("=")) == data
    assert nkeys.decode_signature(base64.b64encode(data).decode()) == data


@pytest.mark.parametrize("text", ["a", "a===", "ab-/", "é", "a b", "=", "====", "abc=d", "A" * 129, "\udcff"])
def test_what_is_no_base64(text: str) -> None:
    assert nkeys.decode_signature(text) is None


def test_nonces_differ() -> None:
    nonces = {nkeys.new_nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert all(len(nonce) == 15 and nonce.decode().replace("-", "").replace("_", "").isalnum() for nonce in nonces)
