"""Names and words of JetStream: as text and as bytes, made up, and hashed as the reference does it."""

from __future__ import annotations

import os

FILE, MEMORY = "file", "memory"  # kinds of storage

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def random_name(length: int) -> str:
    return "".join(_DIGITS[byte % 62] for byte in os.urandom(length))


def short_hash(name: str) -> str:
    """The reference's hash of names: eight digits or letters."""
    try:  # hashlib would load OpenSSL
        from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]
    except ImportError:  # newer Pythons have it elsewhere
        from hashlib import sha256
    return "".join(_DIGITS[byte % 62] for byte in sha256(name.encode()).digest()[:8])
