"""Encryption at rest, as it is configured and logged: the same as nats-server's, but for a wrong key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.jetstream.client import Client

from .harness import KINDS, Server


def run(kind: str, where: Path, encryption: str, *, make: bool = False) -> tuple[list[str], list[str]]:
    """The streams that a server finds, and what it logs of encryption."""
    server = Server(kind, f'jetstream {{ store_dir: "{where}"\n{encryption} }}\n')
    try:
        with Client(server.port) as client:
            if make:
                client.request("$JS.API.STREAM.CREATE.SECRET", b'{"name":"SECRET","subjects":["s"]}')
                assert json.loads(client.request("s", b"hidden-payload").payload)["seq"] == 1
            else:
                got = client.request("$JS.API.STREAM.MSG.GET.SECRET", b'{"seq":1}').payload
                assert json.loads(got)["message"]["data"] == "aGlkZGVuLXBheWxvYWQ="
            names = client.stream_names()
        return names, [line.split("] ", 2)[-1] for line in server.log if "  Encrypt" in line]
    finally:
        server.close()


@pytest.mark.parametrize(
    ("cipher", "called"), [("", "ChaCha20-Poly1305"), ("aes", "AES-GCM"), ("chachapoly", "ChaCha20-Poly1305")]
)
def test_the_same_lines(tmp_path: Path, cipher: str, called: str) -> None:
    chosen = f", cipher: {cipher}" if cipher else ""
    for kind in KINDS:
        assert run(kind, tmp_path / kind, "", make=True) == (["SECRET"], [])
        lines = [f"  Encryption:      {called}", "  Encrypting stream '$G > SECRET'"]
        assert run(kind, tmp_path / kind, f"key: one{chosen}") == (["SECRET"], lines), kind
        assert run(kind, tmp_path / kind, f"ek: one{chosen}") == (["SECRET"], lines[:1]), kind
        assert run(kind, tmp_path / kind, f"encryption_key: two, prev_key: one{chosen}")[0] == ["SECRET"]
        assert run(kind, tmp_path / kind, f"key: two{chosen}") == (["SECRET"], lines[:1]), kind


@pytest.mark.parametrize(
    ("encryption", "why"),
    [("key: wrong", "encrypted with another key"), ("", "is encrypted, and no encryption key is configured")],
)
def test_a_wrong_key_stops_the_start(tmp_path: Path, encryption: str, why: str) -> None:
    assert run("natsc", tmp_path, "key: right", make=True)[0] == ["SECRET"]
    with pytest.raises(AssertionError, match=rf"\[FTL\] Can't start JetStream: .*{why}"):
        run("natsc", tmp_path, encryption)
    assert run("natsc", tmp_path, "key: right")[0] == ["SECRET"]
