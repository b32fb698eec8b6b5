"""NKeys that encrypt (X...): curve25519 boxes, by PyNaCl, in nkeys' frame.

A sealed message is b"xkv1", a random nonce of 24 bytes, and NaCl's box (X25519, XSalsa20, Poly1305). PyNaCl is an
extra, natsc[xkey]: nothing else needs it.

A peer's key of small order, the all-zero one among them, makes one key for everybody out of any two (what came of
CVE-2023-46129): it is refused.
"""

from __future__ import annotations

import os

from natsc.config import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nacl.public import Box

EXTRA = "natsc[xkey]"
_VERSION = b"xkv1"
_NONCE_BYTES = 24
_HEAD_BYTES = len(_VERSION) + _NONCE_BYTES
_BOXES_MAX = 64


class XKeyError(ValueError):
    """A message can't be sealed or opened; str() is nats-server's reason, where it has one."""


def available() -> bool:
    """Whether PyNaCl is installed."""
    from importlib.util import find_spec

    return find_spec("nacl") is not None


def is_weak(public_key: str) -> bool:
    """Whether what is sealed for this curve key could be opened by anybody."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    raw = keys.public_key_bytes(public_key)
    if raw is None:
        return True
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(raw))
    except ValueError:
        return True
    return False


class CurvePair:
    """A key that seals for others and opens what was sealed for it. PyNaCl isn't needed before that."""

    __slots__ = ("_boxes", "_private", "public_key")

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._private = os.urandom(32)
        public = X25519PrivateKey.from_private_bytes(self._private).public_key().public_bytes_raw()
        self.public_key = keys.encode_public(keys.PREFIX_CURVE, public)
        self._boxes: dict[str, Box] = {}  # what two keys share, by the peer's

    def __repr__(self) -> str:
        return f"CurvePair({self.public_key!r})"

    def seal(self, plain: bytes, recipient: str) -> bytes:
        """Raises XKeyError."""
        nonce = os.urandom(_NONCE_BYTES)
        box = self._box(recipient, "nkeys: not a valid recipient public curve key")
        return _VERSION + nonce + box.encrypt(plain, nonce).ciphertext

    def open(self, sealed: bytes, sender: str) -> bytes:
        """Raises XKeyError."""
        if len(sealed) <= _HEAD_BYTES:
            raise XKeyError("nkeys: encrypted input is not valid")
        if sealed[: len(_VERSION)] != _VERSION:
            raise XKeyError("nkeys: encrypted input wrong version")
        box = self._box(sender, "nkeys: not a valid sender public curve key")
        from nacl.exceptions import CryptoError

        try:
            return box.decrypt(sealed[_HEAD_BYTES:], sealed[len(_VERSION) : _HEAD_BYTES])
        except (CryptoError, ValueError):
            raise XKeyError("nkeys: could not decrypt input") from None

    def _box(self, peer: str, fault: str) -> Box:
        box = self._boxes.get(peer)
        if box is not None:
            return box
        if not available():
            raise XKeyError(f"encryption needs PyNaCl: pip install {EXTRA!r}")
        from nacl.exceptions import CryptoError
        from nacl.public import Box, PrivateKey, PublicKey

        raw = keys.public_key_bytes(peer) if keys.is_public_key(peer, keys.PREFIX_CURVE) else None
        if raw is None:
            raise XKeyError(fault)
        try:
            box = Box(PrivateKey(self._private), PublicKey(raw))
        except CryptoError:  # of small order
            raise XKeyError(fault) from None
        if len(self._boxes) >= _BOXES_MAX:
            self._boxes.clear()
        self._boxes[peer] = box
        return box
