"""Encryption at rest: what is in the files, which keys open them, what a wrong one does."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsc.errors import StoreError
from natsc.jetstream import storekey
from natsc.jetstream.encrypt import open_encrypted
from natsc.jetstream.store import PlainStoreError, Store
from natsc.jetstream.vault import Vault

from .storemodel import Model

KINDS = (b"account", b"stream", b"subject", b"header", b"payload", b"consumer", b"meta")
SECRETS = [b"SECRET-" + what for what in KINDS]


@pytest.fixture(autouse=True)
def light_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """scrypt is meant to take its time: not in tests."""
    monkeypatch.setattr(storekey, "WORK", {"n": 16, "r": 8, "p": 1})


def sealed(where, key="k", **more):
    return Store(str(where), sync_interval_ns=-1, key=key, map_size=16 << 20, **more)


def fill(store, stream="SECRET-stream"):
    f = store.open_stream("SECRET-account", stream)
    for i in range(300):
        subject, payload = b"SECRET-subject.%d" % (i % 3), b"SECRET-payload %d" % i
        f.append_bytes(subject, payload, b"NATS/1.0\r\nA: SECRET-header\r\n\r\n", i + 1)
    f.consumer_put_bytes(b"config/SECRET-consumer", b"SECRET-consumer")
    f.consumer_put_bytes(b"state/SECRET-consumer\0s", b"SECRET-consumer state")
    store.meta_put(b"stream/SECRET-meta", b"SECRET-meta")
    f.save_if_worth()
    store.wait_durable()
    return f


def contents(store):
    f = store.open_stream("SECRET-account", "SECRET-stream")
    assert f.lost == []
    return (
        [f.get_bytes(seq) for seq in range(1, f.last_seq + 1)], f.state_dict(), f.subjects_state(),
        f.consumer_items(), f.consumer_items(b"state/SECRET-consumer\0"),
        store.meta_items(b"stream/"), store.stream_names(),
    )  # fmt: skip


def plaintext_in(where: Path):
    files = [path.read_bytes() for path in (where / "natsc").rglob("*") if path.is_file()]
    assert files
    return [secret for secret in SECRETS if any(secret in data for data in files)]


@pytest.mark.parametrize("cipher", ["chacha", "aes"])
def test_nothing_readable_is_in_the_files_and_everything_comes_back(tmp_path, cipher):
    plain = Store(str(tmp_path / "plain"), sync_interval_ns=-1)
    fill(plain)
    plain.close()
    plain = Store(str(tmp_path / "plain"), sync_interval_ns=-1)
    assert len(plaintext_in(tmp_path / "plain")) == len(SECRETS)

    s = sealed(tmp_path / "sealed", cipher=cipher)
    fill(s)
    s.close()
    s = sealed(tmp_path / "sealed", cipher=cipher)
    assert contents(s) == contents(plain)
    s.close()
    plain.close()
    assert plaintext_in(tmp_path / "sealed") == []


def test_a_checkpoint_is_sealed_too(tmp_path):
    s = sealed(tmp_path)
    f = s.open_stream("A", "S")
    for i in range(12000):
        f.append_bytes(b"SECRET-subject.%d" % (i % 7), b"x")
    s.close()
    assert plaintext_in(tmp_path) == []
    s = sealed(tmp_path)
    f = s.open_stream("A", "S")
    assert f.msgs == 12000
    assert f.subjects_state()[b"SECRET-subject.6"] == (7, 11998, 1714)
    s.close()


def test_what_is_hot_is_read_as_well_as_what_is_not(tmp_path):
    s = sealed(tmp_path, hot_bytes=1)
    f = s.open_stream("A", "S")
    for i in range(2000):
        f.append_bytes(b"a", b"%04d" % i * 300)
    assert f.get_bytes(2000)[4] == b"1999" * 300
    s.wait_durable()
    assert [f.get_bytes(seq)[4] for seq in range(1, 2001)] == [b"%04d" % i * 300 for i in range(2000)]
    f.remove_seq(7)
    f.purge(b"a", 100)
    s.close()
    s = sealed(tmp_path)
    assert s.open_stream("A", "S").first_seq == 100
    s.close()


@pytest.mark.parametrize("seed", range(4))
def test_like_a_plain_store(tmp_path, seed):
    from .crashing import operations

    model = Model(is_file=True)
    s = sealed(tmp_path, cipher=random.Random(seed).choice(["aes", "chacha"]))
    f = s.open_stream("A", "S")
    for step in range(1, 40):
        for method, args in operations(str(seed), step, model.first_seq, model.last_seq):
            getattr(f, method)(*args)
            getattr(model, method)(*args)
        s.wait_durable()
        if step % 10 == 0:
            s.close()
            s = sealed(tmp_path)
            f = s.open_stream("A", "S")
            assert f.state_dict() == model.state_dict()
            assert f.subjects_state() == model.subjects_state()
            assert {seq: f.get_bytes(seq) for seq in model.all} == model.all
            assert f.lost == []
    s.close()


def test_what_consumers_keep(tmp_path):
    s = sealed(tmp_path)
    f = s.open_stream("A", "S")
    for name in (b"one", b"two"):
        f.consumer_put_bytes(b"config/" + name, name)
        for part in (b"s", b"p\0\0\0\0\0\0\0\1", b"p\0\0\0\0\0\0\0\2"):
            f.consumer_put_bytes(b"state/" + name + b"\0" + part, part)
    f.consumer_delete_bytes(b"state/two\0p\0\0\0\0\0\0\0\1")
    f.consumer_delete_prefix_bytes(b"state/one\0")
    s.wait_durable()
    assert f.consumer_items(b"config/") == [(b"config/one", b"one"), (b"config/two", b"two")]
    assert f.consumer_items(b"state/one\0") == []
    assert [value[0] for _, value in f.consumer_items(b"state/two\0")] == [ord("p"), ord("s")]
    s.meta_put(b"a/1", b"x")
    s.meta_put(b"b/1", b"y")
    s.meta_put(b"a/1", b"z")
    s.meta_put(b"a/0", b"0")
    s.meta_delete(b"b/1")
    s.wait_durable()
    assert s.meta_items() == [(b"a/0", b"0"), (b"a/1", b"z")]
    s.close()


# Keys


def test_a_wrong_key_opens_nothing_and_changes_nothing(tmp_path):
    s = sealed(tmp_path)
    fill(s)
    s.close()
    before = (tmp_path / "natsc" / "data.mdb").read_bytes()
    with pytest.raises(StoreError, match="encrypted with another key"):
        sealed(tmp_path, key="other")
    with pytest.raises(StoreError, match="neither with the configured key nor with the previous one"):
        sealed(tmp_path, key="other", old_key="another")
    with pytest.raises(StoreError, match="is encrypted, and no encryption key is configured"):
        sealed(tmp_path, key="")
    with pytest.raises(StoreError, match="no encryption key is configured"):
        sealed(tmp_path, key="", old_key="k")
    after = (tmp_path / "natsc" / "data.mdb").read_bytes()
    assert before[8192:] == after[8192:]
    s = sealed(tmp_path)
    assert len(contents(s)[0]) == 300
    s.close()


def test_the_key_changes_with_the_previous_one(tmp_path):
    s = sealed(tmp_path)
    fill(s)
    s.close()
    s = sealed(tmp_path, key="new", old_key="k")
    assert len(contents(s)[0]) == 300
    s.close()
    s = sealed(tmp_path, key="new")
    assert len(contents(s)[0]) == 300
    s.close()
    with pytest.raises(StoreError, match="another key"):
        sealed(tmp_path)


def test_the_cipher_may_change(tmp_path):
    s = sealed(tmp_path, cipher="aes")
    fill(s)
    s.close()
    s = sealed(tmp_path, cipher="chacha")
    f = s.open_stream("SECRET-account", "SECRET-stream")
    f.append_bytes(b"a", b"with the other cipher")
    s.close()
    s = sealed(tmp_path, cipher="aes")
    f = s.open_stream("SECRET-account", "SECRET-stream")
    assert (f.get_bytes(1)[4], f.get_bytes(301)[4]) == (b"SECRET-payload 0", b"with the other cipher")
    s.close()


def test_the_stores_key_is_there_twice(tmp_path):
    s = sealed(tmp_path)
    fill(s)
    s.close()
    data = tmp_path / "natsc" / "data.mdb"
    data.write_bytes(data.read_bytes().replace(b'{"cipher"', b'{"cipheR"'))
    s = sealed(tmp_path)
    assert len(contents(s)[0]) == 300
    s.close()
    copy = tmp_path / "natsc" / "key"
    copy.unlink()
    sealed(tmp_path).close()
    assert copy.read_bytes() in data.read_bytes()
    data.write_bytes(data.read_bytes().replace(b'{"cipher"', b'{"cipheR"'))
    copy.write_bytes(b"nonsense")
    with pytest.raises(StoreError, match="the store's key is damaged"):
        sealed(tmp_path)


def test_a_copy_of_the_key_that_a_crash_left_behind_is_written_anew(tmp_path):
    """The store has the new one, the file not yet: should the store's be damaged, the new key must open the file's."""
    s = sealed(tmp_path, key="old")
    fill(s)
    s.close()
    copy = tmp_path / "natsc" / "key"
    kept = copy.read_bytes()
    sealed(tmp_path, key="new", old_key="old").close()
    copy.write_bytes(kept)
    sealed(tmp_path, key="new").close()
    data = tmp_path / "natsc" / "data.mdb"
    data.write_bytes(data.read_bytes().replace(b'{"cipher"', b'{"cipheR"'))
    s = sealed(tmp_path, key="new")
    assert len(contents(s)[0]) == 300
    s.close()


def test_damage_costs_one_message(tmp_path):
    s = sealed(tmp_path)
    f = s.open_stream("A", "S")
    for i in range(50):
        f.append_bytes(b"a", b"%02d" % i * 2500)
    s.close()
    data = tmp_path / "natsc" / "data.mdb"
    pages = bytearray(data.read_bytes())
    long_records = [at for at in range(0, len(pages), 4096) if pages[at + 10] == 4]
    pages[long_records[9] + 3000] ^= 1
    data.write_bytes(pages)
    s = sealed(tmp_path)
    f = s.open_stream("A", "S")
    assert [why for _, why in f.lost] == ["doesn't decrypt"]
    assert (f.msgs, f.last_seq) == (49, 50)
    s.close()


# A plain store that gets a key


@pytest.mark.parametrize("cipher", ["chacha", "aes"])
def test_a_plain_store_is_encrypted(tmp_path, cipher):
    plain = Store(str(tmp_path), sync_interval_ns=-1)
    f = fill(plain)
    f.remove_seq(17)
    f.purge(b"", 10)
    f.skip(500, 7)
    empty = plain.open_stream("A", "EMPTY")
    empty.append_bytes(b"a", b"")
    empty.remove_seq(1)
    plain.close()
    plain = Store(str(tmp_path), sync_interval_ns=-1)
    before = contents(plain)
    plain.close()
    with pytest.raises(PlainStoreError):
        sealed(tmp_path)
    told: list[str] = []
    s = open_encrypted(str(tmp_path), told.append, key="k", cipher=cipher)
    after = contents(s)
    assert s.open_stream("A", "EMPTY").last_seq == 1
    assert (after[0], after[2:-1]) == (before[0], before[2:-1])
    assert {**after[1], "last_ts_ns": 0} == {**before[1], "last_ts_ns": 0}
    s.close()
    assert "  Encrypting stream 'SECRET-account > SECRET-stream'" in told
    assert plaintext_in(tmp_path) == []
    assert sorted(os.listdir(tmp_path / "natsc")) == ["data.mdb", "id", "key", "lock.mdb", "owner"]


def test_encrypting_that_was_stopped_begins_again(tmp_path, monkeypatch):
    plain = Store(str(tmp_path), sync_interval_ns=-1)
    fill(plain)
    plain.close()

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            open_encrypted(str(tmp_path), print, key="k")
    plain = Store(str(tmp_path), sync_interval_ns=-1)
    assert len(contents(plain)[0]) == 300
    plain.close()
    s = open_encrypted(str(tmp_path), print, key="k")
    assert len(contents(s)[0]) == 300
    s.close()


def test_what_is_damaged_in_a_plain_store_is_kept(tmp_path):
    plain = Store(str(tmp_path), sync_interval_ns=-1)
    fill(plain)
    plain.close()
    data = tmp_path / "natsc" / "data.mdb"
    data.write_bytes(data.read_bytes().replace(b"SECRET-payload 42", b"SECRET-payload 43"))
    told: list[str] = []
    s = open_encrypted(str(tmp_path), told.append, key="k")
    assert s.open_stream("SECRET-account", "SECRET-stream").get_bytes(43) is None
    s.close()
    assert told[-1].startswith("  1 damaged messages could not be encrypted")
    assert b"SECRET-payload 43" in (tmp_path / "natsc" / "data.mdb.plain").read_bytes()


# The vault


@pytest.mark.parametrize("cipher", ["chacha", "aes"])
def test_what_is_sealed_opens_in_its_place_only(cipher):
    vault = Vault(bytes(32), cipher)

    @given(st.binary(max_size=50), st.binary(max_size=20))
    def check(text, place):
        sealed = vault.seal_bytes(place, text)
        assert vault.open_bytes(place, sealed) == text
        assert vault.open_bytes(place + b"x", sealed) is None
        assert Vault(b"\1" * 32, cipher).open_bytes(place, sealed) is None
        for at in range(len(sealed)):
            assert vault.open_bytes(place, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]) is None
        assert all(vault.open_bytes(place, sealed[:n]) is None for n in range(len(sealed)))

    check()


@pytest.mark.parametrize("cipher", ["chacha", "aes"])
def test_it_is_the_standard_cipher(cipher):
    """What is in the store can be opened with nothing but the package cryptography."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

    sealed = Vault(b"\2" * 32, cipher).seal_bytes(b"place", b"text")
    assert sealed[:1] == cipher[:1].encode()
    key = storekey.derive(b"\2" * 32, b"run " + sealed[:17])
    kind = AESGCM if cipher == "aes" else ChaCha20Poly1305
    assert kind(key).decrypt(bytes(4) + sealed[17:25], sealed[25:], b"place") == b"text"


def test_no_nonce_is_used_twice():
    """Neither within a run nor by another one with the same key: not after a restart, nor by a copy of the store."""
    vaults = [Vault(bytes(32), "chacha") for _ in range(50)]
    seen = {vault.seal_bytes(b"", b"")[:25] for vault, _ in itertools.product(vaults, range(50))}
    assert len(seen) == 2500


def test_names_are_hidden_by_the_stores_key():
    one, other = Vault(bytes(32), "chacha"), Vault(b"\1" * 32, "aes")
    assert one.hide_bytes(b"ORDERS") == Vault(bytes(32), "aes").hide_bytes(b"ORDERS")
    assert len({one.hide_bytes(b"ORDERS"), other.hide_bytes(b"ORDERS"), one.hide_bytes(b"orders")}) == 3


def test_a_store_cannot_ask_for_endless_work():
    kept = storekey.wrap(bytes(32), "k", "aes", "id")
    assert storekey.unwrap(kept, "k", "id") == bytes(32)
    import json

    from natsc.jetstream.layout import with_checksum, without_checksum

    body = json.loads(without_checksum(kept))
    body["scrypt"]["n"] = 1 << 40
    with pytest.raises(StoreError, match="doesn't know"):
        storekey.unwrap(with_checksum(json.dumps(body).encode()), "k", "id")
    with pytest.raises(storekey.WrongKeyError):
        storekey.unwrap(kept, "k", "of another store")
