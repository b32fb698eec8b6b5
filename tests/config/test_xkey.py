"""xkey of auth_callout: what is said where it can't encrypt."""

from __future__ import annotations

from pathlib import Path

import pytest

from natsc.auth import xkeys
from natsc.config import ConfigError, process_config_file, process_config_string
from tests.jwts import Key, base32

ISSUER = Key("A", "issuer")
GOOD = base32(bytes([23 << 3]) + bytes(Key("X", "service").raw))
# Points of small order: whatever they are multiplied with, it is zero.
WEAK = (
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
)


def text(key: str) -> str:
    return f"authorization {{\n  auth_callout {{ issuer: {ISSUER}, auth_users: [a],\n    xkey: {key} }}\n}}\n"


def test_a_key_that_can_encrypt() -> None:
    opts = process_config_string(text(GOOD))
    assert opts.auth_callout is not None
    assert opts.auth_callout.xkey == GOOD


@pytest.mark.parametrize("raw", WEAK)
def test_keys_that_encrypt_for_everybody(raw: bytes) -> None:
    with pytest.raises(ConfigError, match=r":3:5: callout xkey \"X.*\" is of small order"):
        process_config_string(text(base32(bytes([23 << 3]) + raw)))


def test_without_pynacl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(xkeys, "available", lambda: False)
    path = tmp_path / "x.conf"
    path.write_text(text(GOOD))
    with pytest.raises(ConfigError) as found:
        process_config_file(str(path))
    assert str(found.value).strip() == (
        f"{path}:3:5: callout xkey needs PyNaCl, which isn't installed: pip install 'natsc[xkey]'"
    )
