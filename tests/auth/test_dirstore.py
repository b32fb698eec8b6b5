"""Account JWTs in a directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from natsc.auth.dirstore import REMOVE, RENAME, DirStore, StoreError
from tests.jwts import Key, account_jwt

OPERATOR = Key("O", "op")
KEYS = [Key("A", str(number)) for number in range(4)]
A, B, C = map(str, KEYS[:3])
SECOND = 1_000_000_000


class Clock:
    now = 1_800_000_000

    def __call__(self) -> int:
        return self.now * SECOND


def token(number: int, **claims: int) -> str:
    return account_jwt(KEYS[number], OPERATOR, claims=claims)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_stored_and_loaded(tmp_path: Path, clock: Clock) -> None:
    store = DirStore(str(tmp_path / "a" / "b"), clock)
    stored = token(0)
    store.save(A, stored)
    assert store.load(A) == stored
    assert store.load(B) is None
    path = tmp_path / "a" / "b" / f"{A}.jwt"
    assert path.read_text() == stored
    assert oct(path.stat().st_mode & 0o777) == "0o640"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("key", ["", "..", "../x", "/etc/passwd", A[:-1], A.lower()])
def test_what_is_no_key_reaches_no_path(tmp_path: Path, clock: Clock, key: str) -> None:
    store = DirStore(str(tmp_path / "store"), clock, on_delete=REMOVE)
    with pytest.raises(StoreError, match="invalid public key"):
        store.save(key, "x")
    with pytest.raises(StoreError, match="invalid public key"):
        store.save_if_newer(key, "x")
    assert store.load(key) is None
    store.delete(key)
    assert os.listdir(tmp_path) == ["store"]
    assert os.listdir(tmp_path / "store") == []


def test_found_again(tmp_path: Path, clock: Clock) -> None:
    first = DirStore(str(tmp_path), clock)
    first.save(A, token(0))
    first.save(B, token(1))
    (tmp_path / "notes.txt").write_text("x")
    second = DirStore(str(tmp_path), clock)
    assert len(second) == 2
    assert second.hash() == first.hash() != bytes(32)


def test_changes_are_told_once(tmp_path: Path, clock: Clock) -> None:
    store = DirStore(str(tmp_path), clock)
    told: list[str] = []
    store.changed = told.append
    stored = token(0)
    store.save(A, stored)
    store.save(A, stored)
    store.save(A, token(0, iat=5))
    assert told == [A, A]


def test_only_newer_ones(tmp_path: Path, clock: Clock) -> None:
    store = DirStore(str(tmp_path), clock)
    new, old = token(0, iat=20), token(0, iat=10)
    store.save_if_newer(A, new)
    store.save_if_newer(A, old)
    assert store.load(A) == new
    with pytest.raises(StoreError, match="do not match"):
        store.save_if_newer(A, token(1, iat=30))


def test_a_full_store(tmp_path: Path, clock: Clock) -> None:
    store = DirStore(str(tmp_path), clock, limit=1)
    store.save(A, token(0))
    with pytest.raises(StoreError, match="jwt store is full"):
        store.save(B, token(1))
    store.save(A, token(0, iat=5))


def test_a_cache_forgets_what_was_used_longest_ago(tmp_path: Path, clock: Clock) -> None:
    store = DirStore(str(tmp_path), clock, limit=2, evict=True)
    store.save(A, token(0))
    store.save(B, token(1))
    store.load(A)
    store.save(C, token(2))
    assert [key for key in (A, B, C) if store.load(key)] == [A, C]
    assert sorted(os.listdir(tmp_path)) == sorted([f"{A}.jwt", f"{C}.jwt"])


def test_expired_with_the_token(tmp_path: Path, clock: Clock) -> None:
    store = DirStore(str(tmp_path), clock)
    store.save(A, token(0, exp=clock.now + 10))
    store.save(B, token(1))
    clock.now += 9
    store.expire()
    assert len(store) == 2
    clock.now += 2
    assert [key for key, _ in store.pack()] == [B]
    store.expire()
    assert os.listdir(tmp_path) == [f"{B}.jwt"]


def test_a_time_to_live_begins_anew_with_each_use(tmp_path: Path, clock: Clock) -> None:
    store = DirStore(str(tmp_path), clock, ttl_ns=10 * SECOND)
    assert store.check_seconds == 5
    store.save(A, token(0))
    store.save(B, token(1))
    clock.now += 9
    store.load(A)
    clock.now += 2
    store.expire()
    assert os.listdir(tmp_path) == [f"{A}.jwt"]


@pytest.mark.parametrize(("how", "left"), [(RENAME, [f"{A}.jwt.deleted"]), (REMOVE, [])])
def test_deleted(tmp_path: Path, clock: Clock, how: str, left: list[str]) -> None:
    store = DirStore(str(tmp_path), clock, on_delete=how)
    told: list[str] = []
    store.deleted = told.append
    store.save(A, token(0))
    store.delete(A)
    store.delete(A)
    assert (told, os.listdir(tmp_path), store.load(A), store.hash()) == ([A], left, None, bytes(32))


def test_not_deleted_where_it_isnt_allowed(tmp_path: Path, clock: Clock) -> None:
    store = DirStore(str(tmp_path), clock)
    store.save(A, token(0))
    with pytest.raises(StoreError):
        store.delete(A)
    assert store.load(A)


def test_two_stores_become_the_same(tmp_path: Path, clock: Clock) -> None:
    one, other = DirStore(str(tmp_path / "1"), clock), DirStore(str(tmp_path / "2"), clock)
    one.save(A, token(0))
    one.save(B, token(1))
    other.merge("\n".join(f"{key}|{jwt}" for key, jwt in one.pack()))
    assert other.hash() == one.hash()


@pytest.mark.parametrize("pack", ["x", f"{A}|a|b", "../../x|y", f"{OPERATOR}|x"])
def test_packs_that_are_none(tmp_path: Path, clock: Clock, pack: str) -> None:
    store = DirStore(str(tmp_path), clock)
    with pytest.raises(StoreError):
        store.merge(pack)
    assert os.listdir(tmp_path) == []


def test_looked_at_again(tmp_path: Path, clock: Clock) -> None:
    store = DirStore(str(tmp_path), clock)
    store.save(A, token(0))
    store.save(B, token(1))
    told: list[str] = []
    store.changed = told.append
    (tmp_path / f"{A}.jwt").write_text(token(0, iat=5))
    (tmp_path / f"{C}.jwt").write_text(token(2))
    store.reload()
    assert (told, len(store)) == ([A], 3)


def test_a_directory_that_cannot_be_written(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirStore(str(tmp_path), clock)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StoreError, match="No space left"):
        store.save(A, token(0))
    assert (os.listdir(tmp_path), len(store)) == ([], 0)
