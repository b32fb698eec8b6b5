"""Archives of nats-server before 2.15: their hash, their blocks, and what is wrong with them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from natsc.jetstream.archive import ArchiveError, ArchiveReader
from natsc.jetstream.blocks import BlockReader, highway_hash
from natsc.jetstream.memstore import MemStore
from tests.jetstream.backups import decoded, encoded

TESTDATA = Path(__file__).parent / "testdata"
KEY = bytes(number * 7 & 255 for number in range(32))
# By github.com/minio/highwayhash, of so many bytes.
HASHES = {
    0: "790e0c4775d7e257", 1: "043f98fc80839aa7", 3: "1c5add1f712780b9", 8: "2cf22cde8631d511", 16: "e75582d5c396ad9f",
    17: "c88c4749495b35bf", 31: "fa0fdfa4a663ab24", 32: "5206e6c67998dab3", 33: "ee46bb4c65b7de56",
    64: "8d1d0da42c0adc6b", 100: "8fae8633fdbb8377",
}  # fmt: skip
ERASED, TOMBSTONE, HEADERS = 1 << 63, 1 << 62, 1 << 31
BLOCK_KEY = sha256(b"OLD-1").digest()


def record(seq: int, subject: bytes = b"s", body: bytes = b"x", headers: bytes = b"", ts: int = 5) -> bytes:
    size = 30 + len(subject) + len(body) + (len(headers) + 4 if headers else 0)
    numbers = seq.to_bytes(8, "little") + ts.to_bytes(8, "little")
    head = (size | (HEADERS if headers else 0)).to_bytes(4, "little") + numbers + len(subject).to_bytes(2, "little")
    middle = len(headers).to_bytes(4, "little") + headers if headers else b""
    return head + subject + middle + body + highway_hash(BLOCK_KEY, numbers + subject + headers + body)


def read(block: bytes, step: int = 1 << 30) -> tuple[MemStore, BlockReader]:
    reader, blocks, store = ArchiveReader(), BlockReader(), MemStore()
    blocks.begin(BLOCK_KEY, len(block))
    stream = encoded(block)
    for start in range(0, len(stream), step):
        reader.feed(stream[start : start + step])
        blocks.step(reader, store, 1 << 20, -1, 0, 1 << 40, 1 << 30, int)
    assert blocks.left == 0
    return store, blocks


@pytest.mark.parametrize("size", HASHES)
def test_the_hash(size: int) -> None:
    data = bytes(number * number + 3 & 255 for number in range(size))
    assert highway_hash(KEY, data).hex() == HASHES[size]


@pytest.mark.parametrize("step", [1, 1 << 20])
def test_a_block(step: int) -> None:
    block = b"NATS/1.0\r\nA: b\r\n\r\n"
    store, blocks = read(
        record(3, b"a.b", b"one", ts=7) + record(5, b"c", b"two", block) + record(6 | ERASED, b"", b""), step
    )
    assert store.get_bytes(3) == (3, 7, b"a.b", b"", b"one")
    assert store.get_bytes(5) == (5, 5, b"c", block, b"two")
    assert store.state_dict()["msgs"] == 2
    assert blocks.last_seq == 6


def test_messages_that_were_removed() -> None:
    store, blocks = read(
        record(1) + record(2) + record(3) + record(2 | TOMBSTONE, b"", b"") + record(9 | TOMBSTONE, b"", b"")
    )
    assert [seq for seq in range(1, 10) if store.get_bytes(seq)] == [1, 3]
    assert blocks.last_seq == 9


def test_what_comes_twice_counts_once() -> None:
    store, _ = read(record(4, body=b"first") + record(4, body=b"second") + record(3))
    assert store.get_bytes(4)[4] == b"first"
    assert store.state_dict()["msgs"] == 1


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (record(1)[:-1] + b"\0", "invalid checksum"),
        (record(1)[:30], "sanity check failed"),
        (record(1)[:20], "record too short"),
        (b"\x05" + record(1)[1:], "sanity check failed"),
        (b"\xff\xff\xff\x7f" + record(1)[4:], "sanity check failed"),
        (record(1)[:20] + b"\xff\xff" + record(1)[22:], "sanity check failed"),
        (record(1)[:3] + b"\x80" + record(1)[4:], "sanity check failed"),
        (record(1, b"s s"), "message sequence 1 has an invalid subject"),
        (record(1, b""), "message sequence 1 has an invalid subject"),
        (record(1, body=bytes(2 << 20)), "message sequence 1 exceeds maximum payload size"),
    ],
)
def test_a_block_that_is_damaged(block: bytes, text: str) -> None:
    with pytest.raises(ArchiveError, match=text):
        read(block)


# -- the tar file: for tests/conformance/test_jetstream_snapshot.py too ----------------------------------------------


def repacked(name: str, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes] | None]) -> bytes:
    """An archive of testdata with its files changed, or left out where there is None."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(decoded((TESTDATA / name).read_bytes()))) as given,
        tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as changed,
    ):
        for info in given:
            file = given.extractfile(info)
            assert file is not None
            found = change(info, file.read())
            if found is not None:
                found[0].size = len(found[1])
                changed.addfile(found[0], io.BytesIO(found[1]))
    return encoded(out.getvalue())
