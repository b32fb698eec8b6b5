"""The key of an encrypted store, and how the configured key opens it.

Every store has a random key of its own, which encrypts what is in it (natsc/jetstream/vault.pyx). It is kept in the
store, encrypted with a key that scrypt makes of the configured one and a random salt. So another configured key means
to write a few bytes anew; and guessing at a weak one costs time and memory for each guess.
"""

from __future__ import annotations

import json
import os
import re

from natsc.errors import StoreError
from natsc.jetstream.layout import with_checksum, without_checksum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CIPHERS = {"chacha": "ChaCha20-Poly1305", "aes": "AES-GCM"}  # as configured: as nats-server calls it in its log
KEY_SIZE = 32
SALT_SIZE = 32
NONCE_SIZE = 12
# scrypt: 32 MiB and a tenth of a second.
WORK = {"n": 1 << 15, "r": 8, "p": 1}
WORK_MAX = 1 << 30  # bytes of memory that a store may ask for


class WrongKeyError(StoreError):
    """The store's key can't be opened with the configured one."""


def aead(cipher: str, key: bytes) -> Any:
    """What encrypts and authenticates, of the package cryptography."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    return AESGCM(key) if cipher == "aes" else ChaCha20Poly1305(key)


def derive(key: bytes, purpose: bytes) -> bytes:
    """A key for a purpose (HKDF with SHA-256)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), KEY_SIZE, salt=None, info=b"natsc " + purpose).derive(key)


def _stretch(configured: str, salt: bytes, work: dict[str, int]) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    return Scrypt(salt=salt, length=KEY_SIZE, **work).derive(configured.encode("utf-8", "surrogateescape"))


def new_key() -> bytes:
    return os.urandom(KEY_SIZE)


def wrap(key: bytes, configured: str, cipher: str, store_id: str) -> bytes:
    """What is kept of a store's key."""
    salt, nonce = os.urandom(SALT_SIZE), os.urandom(NONCE_SIZE)
    wrapped = aead(cipher, _stretch(configured, salt, WORK)).encrypt(nonce, key, _context(cipher, store_id))
    body = {"cipher": cipher, "scrypt": WORK, "salt": salt.hex(), "nonce": nonce.hex(), "key": wrapped.hex()}
    return with_checksum(json.dumps(body).encode())


def unwrap(kept: bytes, configured: str, store_id: str) -> bytes:
    """The store's key. WrongKeyError: the configured key isn't the one; StoreError: what is kept is damaged."""
    from cryptography.exceptions import InvalidTag

    try:
        body = json.loads(without_checksum(kept))
        cipher, work = body["cipher"], {name: int(body["scrypt"][name]) for name in WORK}
        salt, nonce, wrapped = (bytes.fromhex(body[name]) for name in ("salt", "nonce", "key"))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the store's key is damaged: {error}") from None
    if cipher not in CIPHERS or 128 * work["n"] * work["r"] > WORK_MAX:
        raise StoreError(f"the store's key is kept in a way that this natsc doesn't know: {cipher}, {work}")
    try:
        key: bytes = aead(cipher, _stretch(configured, salt, work)).decrypt(nonce, wrapped, _context(cipher, store_id))
    except InvalidTag:
        raise WrongKeyError("the store is encrypted with another key") from None
    return key


def open_kept(kept: list[bytes], key: str, old_key: str, store_id: str) -> tuple[bytes, bool]:
    """The store's key, of the first copy that opens, and whether it took the previous configured key to open it.

    Copies differ after a crash, while one of them was written anew. Raises StoreError.
    """
    whole = [one for one in kept if is_whole(one)] or kept[:1]
    for configured in (key, old_key) if old_key else (key,):
        for one in dict.fromkeys(whole):
            try:
                return unwrap(one, configured, store_id), configured != key
            except WrongKeyError:
                pass
    if old_key:
        raise WrongKeyError("it is encrypted neither with the configured key nor with the previous one")
    raise WrongKeyError("the store is encrypted with another key")


def is_whole(kept: bytes) -> bool:
    """Whether what is kept of a key is undamaged."""
    try:
        return bool(re.match(rb'\{"cipher"', without_checksum(kept)))
    except ValueError:
        return False


def _context(cipher: str, store_id: str) -> bytes:
    return f"natsc store key {cipher} {store_id}".encode()
