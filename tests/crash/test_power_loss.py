"""A few images of what `python -m tests.crash.images` tries by the thousand, and that it would notice a loss.

NATSC_CRASH_IMAGES and NATSC_CRASH_SEED set how many images, and repeat a run.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .disk import PAGE, SECTOR, Disk, File, Op, read_log
from .recording import record

IMAGES = int(os.environ.get("NATSC_CRASH_IMAGES", "60"))
SEED = os.environ.get("NATSC_CRASH_SEED", str(random.SystemRandom().randrange(10**9)))
SHORT = [("random moment", 60)]


def images(count: int, *more: str) -> str:
    """What the command prints, and what the servers in the images do. A process of its own: it forks."""
    done = subprocess.run([sys.executable, "-m", "tests.crash.images", "--seed", SEED, "--images", str(count), *more],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    where = tmp_path_factory.mktemp("recording")
    record(where, SEED, SHORT)
    yield where


@pytest.mark.timeout(120 + IMAGES)
def test_every_image_holds_what_was_acknowledged(recording: Path) -> None:
    said = images(IMAGES, "--keep", str(recording))
    assert f"{IMAGES} images" in said and " 0 failed;" in said, said


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("barrier", "count"), [("F", 20), ("FE", 20), ("E", 200)])
def test_a_missing_sync_is_noticed(recording: Path, barrier: str, count: int) -> None:
    said = images(count, "--keep", str(recording), "--without", barrier)
    assert " 0 failed" not in said, said


@pytest.mark.timeout(120 + IMAGES)
def test_with_a_sync_interval_every_image_holds_what_was_there_at_the_last_sync(tmp_path: Path) -> None:
    record(tmp_path, SEED, SHORT, "sync_interval: 100ms")
    said = images(IMAGES, "--keep", str(tmp_path), "--last-sync")
    assert f"{IMAGES} images" in said and " 0 failed" in said, said
    # And the harness would notice: what was acknowledged since is lost.
    said = images(60, "--keep", str(tmp_path))
    assert "'Lost'" in said and "'StartError'" not in said, said


# The model of a disk

DATA = "/r/data"


def op(kind: str, path: str = DATA, data: bytes = b"", offset: int = 0) -> Op:
    return Op(kind, 0, 0, offset, path, data)


def disk(*ops: Op) -> Disk:
    made = Disk("/r")
    for each in (op("C"), op("F", "/r"), op("G", "/r"), *ops):
        made.apply(each)
    return made


def contents(made: Disk, tmp_path: Path) -> set[bytes | None]:
    """What the file holds in many images; None where it isn't there."""
    found: set[bytes | None] = set()
    for number in range(300):
        where = tmp_path / str(number)
        where.mkdir()
        made.build(where, random.Random(number))
        file = where / "data"
        found.add(file.read_bytes() if file.exists() else None)
    return found


A, B = b"a" * PAGE, b"b" * PAGE
SYNC = (op("F"), op("G"))


def test_what_is_synced_is_there(tmp_path: Path) -> None:
    assert contents(disk(op("W", data=A), *SYNC), tmp_path) == {A}


def test_a_sync_that_has_not_ended_counts_for_nothing(tmp_path: Path) -> None:
    assert {b"", A} <= contents(disk(op("W", data=A), op("F")), tmp_path)


def test_a_sync_counts_for_what_was_written_before_it_began(tmp_path: Path) -> None:
    made = disk(op("W", data=A), op("F"), op("W", data=B), op("G"))
    found = contents(made, tmp_path)
    assert {A, B} <= found and b"" not in found


def test_a_write_may_be_torn_between_sectors(tmp_path: Path) -> None:
    found = contents(disk(op("W", data=A), *SYNC, op("W", data=B)), tmp_path)
    mixed = found - {A, B}
    assert mixed
    for content in mixed:
        assert content is not None
        assert {content[at : at + SECTOR] for at in range(0, PAGE, SECTOR)} == {A[:SECTOR], B[:SECTOR]}


def test_pages_are_written_in_any_order(tmp_path: Path) -> None:
    found = contents(disk(op("W", data=A + A), *SYNC, op("W", data=B), op("W", data=B, offset=PAGE)), tmp_path)
    assert {A + A, A + B, B + A, B + B} <= found


def test_a_write_that_syncs_itself_syncs_no_other(tmp_path: Path) -> None:
    made = disk(op("W", data=A + A), *SYNC, op("W", data=B), op("W", data=B, offset=PAGE), op("E", offset=PAGE))
    assert {content[PAGE:] for content in contents(made, tmp_path) if content is not None} == {B}


def test_a_name_is_there_once_its_directory_is_synced(tmp_path: Path) -> None:
    made = Disk("/r")
    for each in (op("C"), op("W", data=A), *SYNC):
        made.apply(each)
    assert contents(made, tmp_path) == {None, A}


def test_a_rename_is_whole(tmp_path: Path) -> None:
    made = disk(op("W", data=A), *SYNC, op("C", "/r/new"), op("W", "/r/new", B), op("F", "/r/new"), op("G", "/r/new"),
                op("R", "/r/new", b"/r/data"))  # fmt: skip
    assert contents(made, tmp_path) == {A, B}


def test_what_a_killed_process_meant_to_write_is_not_pending() -> None:
    file = File()
    file.write(1, 0, A)
    file.write(2, 0, B)
    file.settle(3, A)
    assert file.versions == {0: [(1, A)]}


def test_a_record_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    whole = struct.pack("<BBHIQQ", ord("W"), 1, 2, 7, 4096, 3) + b"/f" + b"abc"
    (tmp_path / "log").write_bytes(whole + whole[:-1])
    assert list(read_log(tmp_path / "log")) == [Op("W", 1, 7, 4096, "/f", b"abc")]
