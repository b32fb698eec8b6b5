"""natsc fsck and natsc compact on an encrypted store: where its key comes from, and what is found then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from natsc.jetstream import storetools
from natsc.jetstream.store import Store
from tests.conformance.harness import Server
from tests.jetstream.backups import entries, restore
from tests.jetstream.client import Client
from tests.jetstream.test_storetools import COUNT, MARK, fill, meta, of

KEY = "a key, of words"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encrypted store directory that a server has left, with its key and configurations beside it."""
    where = tmp_path_factory.mktemp("original")
    config = f'jetstream {{ store_dir: "{where / "store"}", key: "{KEY}", cipher: aes }}\n'
    (where / "server.conf").write_text(config)
    (where / "changed.conf").write_text(f'jetstream {{ key: "another", prev_key: "{KEY}" }}\n')
    (where / "wrong.conf").write_text('jetstream { key: "wrong" }\n')
    (where / "key").write_text(KEY + "\n")
    server = Server("natsc", config)
    try:
        with Client(server.port) as client:
            fill(client)
    finally:
        server.close()
    return where


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original / "store", tmp_path / "store"))


Tool = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def fsck(store: Path, original: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    def run(*options: str) -> tuple[int, dict[str, Any]]:
        code = storetools.main("fsck", ["--json", "--key-file", str(original / "key"), *options, str(store)])
        return code, json.loads(capsys.readouterr().out)

    return run


def records(env: lmdb.Environment, txn: lmdb.Transaction) -> dict[bytes, dict[bytes, bytes]]:
    """What each database has, by name."""
    names = [name for name, _ in txn.cursor()]
    return {name: dict(txn.cursor(env.open_db(name, txn=txn))) for name in names}


def edit(store: Path, change: Callable[[lmdb.Environment, lmdb.Transaction], Any]) -> Any:
    with lmdb.open(str(store / "natsc"), max_dbs=100, map_size=1 << 30) as env, env.begin(write=True) as txn:
        return change(env, txn)


def flip(store: Path, database: bytes, key: bytes, at: int) -> None:
    """Flip a bit of a value."""

    def change(env: lmdb.Environment, txn: lmdb.Transaction) -> None:
        db = env.open_db(database, txn=txn)
        value = bytearray(txn.get(key, db=db))
        value[at] ^= 1
        txn.put(key, bytes(value), db=db)

    edit(store, change)


def largest(store: Path, kind: bytes) -> bytes:
    """The database of that kind with the most in it: the one of stream S."""
    found = edit(store, records)
    return max((name for name in found if name.startswith(kind)), key=lambda name: len(found[name]))


def test_a_whole_store(fsck: Tool) -> None:
    code, report = fsck()
    assert (code, report["whole"], report["encrypted"], report["problems"]) == (0, True, True, [])
    found = of(report, "S")
    state = {member: found["state"][member] for member in ("messages", "first_seq", "last_seq", "num_deleted")}
    assert state == {"messages": COUNT - 1, "first_seq": 1, "last_seq": COUNT, "num_deleted": 1}
    assert (found["account"], found["consumers"], found["state"]["num_subjects"]) == ("$G", ["C"], 3)


def test_the_configuration_has_the_key_and_the_store(original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tool in storetools.TOOLS:
        assert storetools.main(tool, ["-c", str(original / "server.conf")]) == 0
        assert storetools.main(tool, [f"--config={original / 'changed.conf'}", str(original / "store")]) == 0
    said = capsys.readouterr().out
    assert said.count(", encrypted\n") == 2
    assert said.count("All is whole") == 2
    assert said.count(" bytes before, ") == 2


def test_the_key_may_be_in_the_environment(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "server.conf").write_text(f'jetstream {{ store_dir: "{store}", key: $NATSC_TEST_KEY }}\n')
    assert storetools.main("fsck", ["-c", str(tmp_path / "server.conf")]) == 2
    assert "NATSC_TEST_KEY" in capsys.readouterr().err
    monkeypatch.setenv("NATSC_TEST_KEY", f'"{KEY}"')
    assert storetools.main("fsck", ["-c", str(tmp_path / "server.conf")]) == 0


@pytest.mark.parametrize("tool", storetools.TOOLS)
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "is encrypted: give its key with --key-file, or the server's configuration with -c"),
        (("-c", "wrong.conf"), "can't be opened: the store is encrypted with another key"),
        (("-c", "missing.conf"), "missing.conf"),
        (("--key-file", "missing"), "missing: No such file or directory"),
        (("--key-file", "empty"), "there is no key in"),
        (("--key-file", "key", "-c", "server.conf"), "one file with its key"),
        (("--key-file",), "what is '--key-file'?"),
    ],
)
def test_without_the_key(
    tool: str, options: tuple[str, ...], why: str, original: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (original / "empty").write_text("\n")
    before = (store / "natsc" / "data.mdb").read_bytes()
    args = [arg if arg.startswith("-") else str(original / arg) for arg in options]
    assert storetools.main(tool, [str(store), *args]) == 2
    assert why in capsys.readouterr().err
    assert (store / "natsc" / "data.mdb").read_bytes() == before


def test_a_configuration_without_a_store_directory(original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert storetools.main("fsck", ["-c", str(original / "wrong.conf")]) == 2
    assert "one store is to be named" in capsys.readouterr().err


def test_a_plain_store_needs_no_key_and_may_get_one(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Store(str(tmp_path), sync_interval_ns=-1, map_size=1 << 28)
    kept.close()
    assert storetools.main("fsck", ["--key-file", str(original / "key"), str(tmp_path)]) == 0
    assert "encrypted" not in capsys.readouterr().out


def test_records_that_do_not_decrypt(fsck: Tool, store: Path) -> None:
    flip(store, largest(store, b"m/"), (8).to_bytes(8, "big"), -40)
    code, report = fsck()
    assert code == 1
    assert of(report, "S")["problems"] == ["message 8: doesn't decrypt"]
    assert (of(report, "S")["damaged_messages"], of(report, "S")["state"]["messages"]) == (1, COUNT - 2)
    assert of(report, "OTHER")["problems"] == []


def test_a_record_in_the_place_of_another_one(fsck: Tool, store: Path) -> None:
    def swap(env: lmdb.Environment, txn: lmdb.Transaction) -> None:
        db = env.open_db(name, txn=txn)
        one, two = (3).to_bytes(8, "big"), (4).to_bytes(8, "big")
        first, second = txn.get(one, db=db), txn.get(two, db=db)
        txn.put(one, second, db=db)
        txn.put(two, first, db=db)

    name = largest(store, b"m/")
    edit(store, swap)
    assert of(fsck()[1], "S")["problems"] == ["message 3: doesn't decrypt", "message 4: doesn't decrypt"]


def test_what_consumers_keep_that_does_not_decrypt(fsck: Tool, store: Path) -> None:
    name = largest(store, b"c/")
    config = next(key for key in edit(store, records)[name] if len(key) == 16)
    flip(store, name, config, -1)
    code, report = fsck()
    assert code == 1
    assert of(report, "S")["problems"] == [
        "consumer C: a state without a configuration",
        f"what its consumers have under {config!r} doesn't decrypt",
    ]


def test_a_configuration_that_does_not_decrypt(fsck: Tool, store: Path) -> None:
    kept = edit(store, records)[b"meta"]
    for key in [key for key in kept if key.startswith(b"u/")]:
        flip(store, b"meta", key, -1)
    code, report = fsck()
    assert code == 1
    assert len([problem for problem in report["problems"] if problem.endswith("doesn't decrypt")]) == 2
    assert of(report, "S")["problems"] == of(report, "OTHER")["problems"] == ["it has no configuration"]


def test_a_name_that_does_not_decrypt(fsck: Tool, store: Path, tmp_path: Path) -> None:
    """It is the hash then; what the stream holds can be exported all the same."""
    name = largest(store, b"m/")[2:]
    flip(store, b"meta", b"s/" + name, -1)
    code, report = fsck("--export", str(tmp_path / "saved"))
    assert code == 1
    found = of(report, name.decode())
    assert found["problems"] == ["its own record is damaged", "it has no configuration"]
    assert found["state"]["messages"] == COUNT - 1
    assert report["problems"] == ["%24G/S has a configuration, and no messages"]
    assert len(entries((Path(found["exported"]) / "stream.arc.s2").read_bytes())) == 2 + COUNT - 1


def test_the_key_that_is_damaged_in_the_store_is_read_from_its_file(fsck: Tool, store: Path) -> None:
    flip(store, b"meta", b"key", 3)
    code, report = fsck()
    assert code == 1
    assert report["problems"] == [
        "its key is damaged: it was read from the file 'key'",
        "the file 'key' isn't what the store has: the next start writes it",
    ]
    edit(store, meta(lambda txn, db: txn.delete(b"key", db=db)))
    assert fsck()[1]["problems"][0] == "its key is gone: it was read from the file 'key'"


def test_a_file_of_the_key_that_is_gone(fsck: Tool, store: Path) -> None:
    (store / "natsc" / "key").unlink()
    code, report = fsck()
    assert (code, len(report["streams"])) == (1, 2)
    assert report["problems"] == ["the file 'key' isn't what the store has: the next start writes it"]


def test_a_checkpoint_is_checked_too(tmp_path: Path, original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Store(str(tmp_path), sync_interval_ns=-1, map_size=1 << 28, key=KEY)
    stream = kept.open_stream("A", "S")
    for number in range(20_000):
        stream.append_bytes(b"s.%d" % (number % 5), b"x", ts_ns=1)
    kept.close()
    [name] = [name for name in edit(tmp_path, records) if name.startswith(b"m/")]
    args = ["--key-file", str(original / "key"), str(tmp_path)]
    storetools.main("fsck", args)
    assert "checkpoint:" not in capsys.readouterr().out
    edit(tmp_path, lambda env, txn: txn.delete((777).to_bytes(8, "big"), db=env.open_db(name, txn=txn)))
    assert storetools.main("fsck", args) == 1
    assert "  checkpoint: message 777 is missing" in capsys.readouterr().out


def test_what_is_exported_is_plain_and_is_restored(fsck: Tool, store: Path, tmp_path: Path) -> None:
    flip(store, largest(store, b"m/"), (8).to_bytes(8, "big"), -40)
    _, report = fsck("--export", str(tmp_path / "saved"))
    where = Path(of(report, "S")["exported"])
    assert where == tmp_path / "saved" / "%24G" / "S"
    backup = json.loads((where / "backup.json").read_text())
    server = Server("natsc", f'jetstream {{ store_dir: "{tmp_path / "target"}" }}\n')
    try:
        with Client(server.port) as client:
            answer = restore(client, backup["config"], (where / "stream.arc.s2").read_bytes())
            assert (answer["state"]["messages"], answer["state"]["last_seq"]) == (COUNT - 2, COUNT)
            info = json.loads(client.request("$JS.API.CONSUMER.INFO.S.C").payload)
            assert (info["delivered"]["stream_seq"], info["num_ack_pending"]) == (4, 2)
    finally:
        server.close()


def test_compact_keeps_all_and_the_key(
    fsck: Tool, store: Path, original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Store(str(store), sync_interval_ns=-1, map_size=1 << 28, key=KEY)
    kept.open_stream("$G", "OTHER").purge()
    kept.open_stream("$G", "S").purge(b"", 40)
    kept.close()
    size = (store / "natsc" / "data.mdb").stat().st_size
    before = fsck()
    assert storetools.main("compact", ["--key-file", str(original / "key"), str(store)]) == 0
    capsys.readouterr()
    assert (store / "natsc" / "data.mdb").stat().st_size < size // 2
    assert fsck() == before
    assert MARK % 45 not in (store / "natsc" / "data.mdb").read_bytes()
    kept = Store(str(store), map_size=1 << 28, key=KEY)
    assert kept.open_stream("$G", "S").get_bytes(46)[4].startswith(MARK % 45)
    kept.close()
