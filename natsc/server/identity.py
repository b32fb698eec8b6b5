"""Who a server is: its public keys, new at every start.

A public NKey is base32 of a prefix byte, 32 key bytes and a CRC-16 of both (little-endian). Nothing signs with these keys
yet, so they are random bytes, and no cryptography is loaded to make them.
"""

from __future__ import annotations

import os

PREFIX_SERVER = 13 << 3  # "N"
PREFIX_CURVE = 23 << 3  # "X"

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def crc16(data: bytes) -> int:
    """CRC-16/XMODEM: polynomial 0x1021, start 0."""
    crc = 0
    for octet in data:
        crc ^= octet << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def random_public_key(prefix: int) -> str:
    """A public key of that kind, 56 characters."""
    raw = bytes((prefix,)) + os.urandom(32)
    number = int.from_bytes(raw + crc16(raw).to_bytes(2, "little"), "big")
    return "".join(_BASE32[number >> shift & 31] for shift in range(275, -1, -5))  # without base64, which imports re
