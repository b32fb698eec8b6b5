"""NKeys that sign and verify: Ed25519 by cryptography, which is loaded where a configuration needs it.

natsc/config/keys.py has their texts. Whatever comes from a peer is checked in full before it reaches the library: a key
or a signature of a wrong length is a signature that doesn't fit, and nothing else.
"""

from __future__ import annotations

import os

from natsc.config import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NONCE_BYTES = 11
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
# What a signature may take as text; more is none, and isn't decoded.
_SIGNATURE_TEXT_MAX = 128

_URL_DIGITS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_STANDARD_DIGITS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def load() -> None:
    """Imports the library, so that the first connection doesn't wait for it."""
    import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401


def new_nonce() -> bytes:
    """The challenge of one connection: 15 characters."""
    from binascii import b2a_base64

    return b2a_base64(os.urandom(NONCE_BYTES), newline=False).rstrip(b"=").translate(_TO_URL)


_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def decode_signature(text: str) -> bytes | None:
    """The bytes of a signature in URL-safe base64 without padding, or in plain base64 with it; None: it is neither."""
    from binascii import Error, a2b_base64

    if len(text) > _SIGNATURE_TEXT_MAX or not text.isascii():
        return None
    data = text.encode().translate(None, b"\r\n")
    if _URL_DIGITS.issuperset(data) and len(data) % 4 != 1:
        return a2b_base64(data.translate(_FROM_URL) + b"=" * (-len(data) % 4))
    digits = data.rstrip(b"=")
    if len(data) % 4 or len(data) - len(digits) > 2 or not _STANDARD_DIGITS.issuperset(digits):
        return None
    try:
        return a2b_base64(data)
    except Error:
        return None


def verify(public_key: str, message: bytes, signature: bytes) -> bool:
    """Whether the owner of this public nkey, of any kind, has signed the message."""
    raw = keys.public_key_bytes(public_key)
    if raw is None or len(raw) != _KEY_BYTES or len(signature) != _SIGNATURE_BYTES:
        return False
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class KeyPair:
    """A key that signs. `prefix` is one of natsc.config.keys.PREFIX_*."""

    __slots__ = ("_key", "prefix", "public_key")

    def __init__(self, prefix: int, raw_seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key: Ed25519PrivateKey = Ed25519PrivateKey.from_private_bytes(raw_seed)
        self.prefix = prefix
        self.public_key = keys.encode_public(prefix, self._key.public_key().public_bytes_raw())

    @classmethod
    def create(cls, prefix: int) -> KeyPair:
        """A new key of that kind."""
        return cls(prefix, os.urandom(_KEY_BYTES))

    @classmethod
    def from_seed(cls, seed: str) -> KeyPair:
        """The key of a seed ("SU..."). Raises ValueError where the text is none."""
        decoded = keys.decode_seed(seed)
        if decoded is None:
            raise ValueError("invalid seed")
        return cls(*decoded)

    def __repr__(self) -> str:
        return f"KeyPair({self.public_key!r})"

    @property
    def seed(self) -> str:
        return keys.encode_seed(self.prefix, self._key.private_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)
