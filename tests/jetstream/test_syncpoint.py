"""A store that is synced at intervals goes back to the last sync when the machine has stopped, and only then.

That a disk may hold anything of what came since is tests/crash/images.py's business (--last-sync).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from natsc.errors import StoreError
from natsc.jetstream import storekey, storetools, syncpoint
from natsc.jetstream.store import Store

HOUR = 3600 * 10**9
GROWTH_MAX = 64 << 20  # worker.pyx


@pytest.fixture
def other_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From now on the machine is one that has been started again."""
    (tmp_path / "boot_id").write_text("00000000-0000-4000-8000-000000000000\n")
    monkeypatch.setattr(syncpoint, "BOOT_ID", str(tmp_path / "boot_id"))


def relaxed(where: Path, **more: object) -> Store:
    return Store(str(where), sync_interval_ns=HOUR, **more)  # type: ignore[arg-type]


def store_messages(store: Store, count: int) -> None:
    stream = store.streams.get(b"A/S") or store.open_stream("A", "S")
    for _ in range(count):
        stream.append_bytes(b"s", b"x" * 100, ts_ns=1)
        store.wait_durable()


def copy(where: Path) -> Path:
    """What is there while a store is open: as if the process, or the machine, had stopped now."""
    return Path(shutil.copytree(where, where.with_name(where.name + "-then")))


def last(store: Store) -> int:
    found = store.open_stream("A", "S").last_seq
    store.close()
    return int(found)


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """A store with 10 messages."""
    store = relaxed(tmp_path / "store")
    store_messages(store, 10)
    store.close()
    return tmp_path / "store"


def test_after_a_kill_all_is_there(where: Path) -> None:
    store = relaxed(where)
    store_messages(store, 5)
    then = copy(where)
    store.close()
    again = relaxed(then)
    assert (again.went_back, last(again)) == (False, 15)


def test_after_a_stop_of_the_machine_what_was_synced_is_there(where: Path, tmp_path: Path) -> None:
    store = relaxed(where)
    store_messages(store, 5)
    then, second = copy(where), Path(shutil.copytree(where, tmp_path / "second"))
    store.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syncpoint, "BOOT_ID", os.devnull)
        always = Store(str(second))
        assert (always.went_back, last(always)) == (True, 10)
        again = relaxed(then)
        assert (again.went_back, last(again)) == (True, 10)
        once_more = relaxed(then)
        assert (once_more.went_back, last(once_more)) == (False, 10)


def test_after_a_clean_stop_there_is_nothing_to_go_back_to(where: Path, other_boot: None) -> None:
    store = relaxed(where)
    assert (store.went_back, last(store)) == (False, 10)


def test_each_commit_that_is_synced_counts_afterwards(where: Path) -> None:
    """A store that was synced at intervals and isn't any more never goes back."""
    relaxed_once = relaxed(where)
    store_messages(relaxed_once, 1)
    then = copy(where)
    relaxed_once.close()
    assert (then / "natsc" / "synced").exists()
    store = Store(str(then))
    assert not (then / "natsc" / "synced").exists()
    store_messages(store, 5)
    later = copy(then)
    store.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syncpoint, "BOOT_ID", os.devnull)
        store = Store(str(later))
        assert (store.went_back, last(store)) == (False, 16)


@pytest.mark.parametrize("slot", [0, 4096])
def test_a_record_that_is_damaged_leaves_the_other_one(where: Path, slot: int, other_boot: None) -> None:
    """The records are of the start and of the stop before it: the store goes back to one of them, as it was."""
    with open(where / "natsc" / "synced", "r+b") as file:
        file.seek(slot + 60)
        file.write(b"\xff" * 8)
    store = relaxed(where)
    assert last(store) in (0, 10)


def test_pages_of_what_was_synced_are_not_used_again(where: Path) -> None:
    """Ten thousand commits later, the state of the last sync is whole, though all of it was removed since."""
    store = relaxed(where)
    stream = store.open_stream("A", "S")
    for number in range(2000):
        stream.append_bytes(b"s", b"y" * 1000, ts_ns=1)
        stream.remove_seq(number + 1)
        if number % 4 == 0:
            store.wait_durable()
    stream.purge()
    store.wait_durable()
    then = copy(where)
    store.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syncpoint, "BOOT_ID", os.devnull)
        store = relaxed(then)
        stream = store.open_stream("A", "S")
        assert (stream.msgs, stream.last_seq, stream.lost) == (10, 10, [])
        assert [stream.get_bytes(seq)[4] for seq in range(1, 11)] == [b"x" * 100] * 10
        store.close()


def test_the_file_grows_up_to_a_limit_between_syncs(tmp_path: Path) -> None:
    store = relaxed(tmp_path)
    stream = store.open_stream("A", "S")
    for number in range(1500):
        stream.append_bytes(b"s", b"y" * 200_000, ts_ns=1)
        stream.remove_seq(number)
        if number % 4 == 0:
            store.wait_durable()
    store.close()
    assert (tmp_path / "natsc" / "data.mdb").stat().st_size < 3 * GROWTH_MAX


def test_a_map_that_becomes_larger(tmp_path: Path) -> None:
    store = relaxed(tmp_path / "store", map_size=1 << 20)
    stream = store.open_stream("A", "S")
    for _ in range(300):
        stream.append_bytes(b"s", b"y" * 20_000, ts_ns=1)
        store.wait_durable()
    assert store.map_size >= 8 << 20
    then = copy(tmp_path / "store")
    store.close()
    assert last(relaxed(tmp_path / "store")) == 300
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syncpoint, "BOOT_ID", os.devnull)
        store = relaxed(then)
        assert store.went_back
        assert 100 <= last(store) < 300


def test_a_key_that_was_changed_since(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has gone back to the old one, the file beside it has the new one: that opens it."""
    monkeypatch.setattr(storekey, "WORK", {"n": 16, "r": 8, "p": 1})
    store = relaxed(tmp_path / "store", key="old")
    store_messages(store, 3)
    store.close()
    store = relaxed(tmp_path / "store", key="new", old_key="old")
    then = copy(tmp_path / "store")
    store.close()
    monkeypatch.setattr(syncpoint, "BOOT_ID", os.devnull)
    store = relaxed(then, key="new")
    assert (store.went_back, last(store)) == (True, 3)
    assert last(relaxed(then, key="new")) == 3


def test_a_machine_that_cannot_be_told_from_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncpoint, "BOOT_ID", os.devnull)
    assert syncpoint.boot_id() == b""
    store = relaxed(tmp_path)
    store_messages(store, 3)
    assert not (tmp_path / "natsc" / "synced").exists()
    store.close()
    assert last(relaxed(tmp_path)) == 3


@pytest.mark.parametrize("tool", storetools.TOOLS)
def test_tools_leave_it_to_the_server(
    tool: str, where: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = relaxed(where)
    store_messages(store, 1)
    then = copy(where)
    store.close()
    monkeypatch.setattr(syncpoint, "BOOT_ID", os.devnull)
    before = (then / "natsc" / "data.mdb").read_bytes()
    assert storetools.main(tool, [str(then)]) == 2
    assert "the next start of the server brings it back to that" in capsys.readouterr().err
    assert (then / "natsc" / "data.mdb").read_bytes() == before


def test_a_file_that_was_compacted_is_not_taken_back(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from natsc.jetstream.layout import with_checksum

    store = relaxed(where)
    store.meta_put(b"stream/A/S", with_checksum(b'{"config":{"name":"S"},"created":1}'))
    store_messages(store, 1)
    then = copy(where)
    store.close()
    assert storetools.main("compact", [str(then)]) == 0
    monkeypatch.setattr(syncpoint, "BOOT_ID", os.devnull)
    store = relaxed(then)
    assert (store.went_back, last(store)) == (False, 11)


def test_a_file_that_cannot_be_written(where: Path) -> None:
    """It is a directory: the store doesn't open, rather than promise what it can't keep."""
    (where / "natsc" / "synced").unlink()
    (where / "natsc" / "synced").mkdir()
    with pytest.raises((StoreError, OSError)):
        relaxed(where)
