"""NKeys as texts. Prefix and checksum, nothing cryptographic: natsc/auth/nkeys.py signs and verifies.

An nkey is base32 (no padding) of prefix byte(s), key and CRC-16/XMODEM, little endian. A seed has two prefix bytes.
"""

from __future__ import annotations

import os

PREFIX_SEED = 18 << 3  # S
PREFIX_SERVER = 13 << 3  # N
PREFIX_CLUSTER = 2 << 3  # C
PREFIX_OPERATOR = 14 << 3  # O
PREFIX_ACCOUNT = 0  # A
PREFIX_USER = 20 << 3  # U
PREFIX_CURVE = 23 << 3  # X

_PUBLIC = frozenset((PREFIX_SERVER, PREFIX_CLUSTER, PREFIX_OPERATOR, PREFIX_ACCOUNT, PREFIX_USER, PREFIX_CURVE))
_PUBLIC_BYTES = 33  # prefix and key
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_DIGITS = {char: value for value, char in enumerate(_BASE32)}


def random_public_key(prefix: int) -> str:
    """A public key of that kind, 56 characters. Nothing signs with it, so it is random bytes that have no seed."""
    return encode_public(prefix, os.urandom(32))


def encode_public(prefix: int, key: bytes) -> str:
    """The text of a public key."""
    return _encode(bytes((prefix,)) + key)


def encode_seed(prefix: int, seed: bytes) -> str:
    """The text of a private key of that kind."""
    return _encode(bytes((PREFIX_SEED | prefix >> 5, (prefix & 31) << 3)) + seed)


def decode_seed(text: str) -> tuple[int, bytes] | None:
    """(prefix, private key) of a seed; None where the text is none."""
    raw = _decode(text)
    if raw is None or len(raw) != 34 or raw[0] & 0xF8 != PREFIX_SEED:
        return None
    prefix = (raw[0] & 7) << 5 | (raw[1] & 0xF8) >> 3
    return (prefix, raw[2:]) if prefix in _PUBLIC else None


def _encode(raw: bytes) -> str:
    raw += _crc16(raw).to_bytes(2, "little")
    bits = 8 * len(raw)
    number = int.from_bytes(raw, "big") << (-bits % 5)
    top = bits + -bits % 5 - 5
    return "".join(_BASE32[number >> shift & 31] for shift in range(top, -1, -5))  # without base64, which imports re


def is_public_key(text: str, prefix: int | None = None) -> bool:
    """A public key of any kind, or of the kind that `prefix` says."""
    raw = _decode(text)
    if raw is None or len(raw) != _PUBLIC_BYTES:
        return False
    return raw[0] in _PUBLIC if prefix is None else raw[0] == prefix


def public_key_bytes(text: str) -> bytes | None:
    """The key inside a public nkey."""
    raw = _decode(text)
    return raw[1:] if raw is not None and len(raw) == _PUBLIC_BYTES and raw[0] in _PUBLIC else None


def is_user_seed(text: str) -> bool:
    decoded = decode_seed(text)
    return decoded is not None and decoded[0] == PREFIX_USER


def _decode(text: str) -> bytes | None:
    """The bytes in front of a matching checksum."""
    bits = 0
    out = bytearray()
    value = 0
    for char in text:
        digit = _DIGITS.get(char)
        if digit is None:
            return None
        value = (value << 5 | digit) & 0xFFF
        bits += 5
        if bits >= 8:
            bits -= 8
            out.append(value >> bits & 0xFF)
    if len(out) < 4 or len(text) % 8 in (1, 3, 6):
        return None
    body = bytes(out[:-2])
    return body if _crc16(body) == out[-2] | out[-1] << 8 else None


def _crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc
