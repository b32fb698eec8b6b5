"""What a disk may hold after a power failure, from the log that shim.c wrote.

A page of a file (4 KiB) that was written and not synced is on the disk in any of its versions since the last sync, the
old one included, or torn: some of its sectors (512 bytes) from one version, the others from another. Each page is on
its own: that covers every order in which a disk may write. A file may have grown without its data (zeros). A name is
there for certain once its directory was synced. A sync counts only when it has ended, and only for what was written
before it began; a write to a file that is open with O_DSYNC is a sync of its own, and of its own pages alone.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PAGE = 4096
SECTOR = 512
HEAD = struct.Struct("<BBHIQQ")
# Whose content means nothing: LMDB makes a new lock file where it is alone, and the other one is only locked.
MEANINGLESS = ("lock.mdb", "owner")


class Op(NamedTuple):
    kind: str
    flags: int
    number: int
    offset: int
    path: str
    data: bytes


def read_log(path: Path) -> Iterator[Op]:
    """The operations of one process. What the kill cut off at the end is left out."""
    data = path.read_bytes()
    at = 0
    while at + HEAD.size <= len(data):
        kind, flags, path_len, number, offset, data_len = HEAD.unpack_from(data, at)
        at += HEAD.size
        if at + path_len + data_len > len(data):
            return
        name = os.fsdecode(data[at : at + path_len])
        at += path_len
        yield Op(chr(kind), flags, number, offset, name, data[at : at + data_len])
        at += data_len


class File:
    def __init__(self) -> None:
        self.base = bytearray()  # what is on the disk for certain
        self.size = 0  # with what is not
        self.versions: dict[int, list[tuple[int, bytes]]] = {}  # by page: (time of the write, content), not synced

    def durable(self, page: int) -> bytes:
        return bytes(self.base[page * PAGE : (page + 1) * PAGE]).ljust(PAGE, b"\0")

    def current(self, page: int) -> bytes:
        versions = self.versions.get(page)
        return versions[-1][1] if versions else self.durable(page)

    def write(self, time: int, offset: int, data: bytes) -> None:
        end = offset + len(data)
        for page in range(offset // PAGE, (end + PAGE - 1) // PAGE):
            low, high = max(offset, page * PAGE), min(end, (page + 1) * PAGE)
            content = bytearray(self.current(page))
            content[low - page * PAGE : high - page * PAGE] = data[low - offset : high - offset]
            self.versions.setdefault(page, []).append((time, bytes(content)))
        self.size = max(self.size, end)

    def sync(self, before: int, pages: range | None = None) -> None:
        """Everything written before that time is on the disk; of these pages only, if any are named."""
        for page in [each for each in self.versions if pages is None or each in pages]:
            versions = self.versions[page]
            done = [content for time, content in versions if time < before]
            if done:
                end = (page + 1) * PAGE
                self.base.extend(bytes(max(end - len(self.base), 0)))
                self.base[page * PAGE : end] = done[-1]
                if len(done) == len(versions):
                    del self.versions[page]
                else:
                    del versions[: len(done)]
        if pages is None:
            del self.base[max(self.size, 0) :]

    def settle(self, time: int, content: bytes) -> None:
        """The process is dead: this is what the file holds, so what it only meant to write isn't pending."""
        for page in range((max(len(content), self.size) + PAGE - 1) // PAGE):
            real = content[page * PAGE : (page + 1) * PAGE].ljust(PAGE, b"\0")
            versions = self.versions.get(page, [])
            while versions and versions[-1][1] != real:
                versions.pop()
            if not versions:
                self.versions.pop(page, None)
                if real != self.durable(page):
                    self.versions[page] = [(time, real)]
        self.size = len(content)

    @property
    def pending(self) -> int:
        return len(self.versions)

    def image(self, rng: random.Random, how: str) -> bytes:
        """What may be on the disk."""
        out = bytearray(self.base)
        pages = sorted(self.versions)
        single = rng.choice(pages) if pages else 0
        chance = rng.random()
        for page in pages:
            versions = [self.durable(page), *(content for _, content in self.versions[page])]
            last = len(versions) - 1
            chosen = {
                "none": 0, "all": last, "one": last * (page == single), "all but one": last * (page != single),
                "up to one": last * (page <= single), "from one": last * (page >= single), "torn": last,
                "some": rng.randrange(last + 1) if rng.random() < chance else 0,
            }[how]  # fmt: skip
            content = versions[chosen]
            if (how == "torn" and page == single) or (how == "some" and rng.random() < 0.15):
                content = torn(rng, content, versions[rng.randrange(last + 1) if last else 0])
            if chosen or content != versions[0]:
                out.extend(bytes(max(page * PAGE - len(out), 0)))
                out[page * PAGE : (page + 1) * PAGE] = content
        if rng.random() < 0.3:
            out.extend(bytes(max(self.size - len(out), 0)))
        return bytes(out[: max(self.size, len(self.base))])


HOW = ("none", "all", "one", "all but one", "up to one", "from one", "torn", "some", "some", "some")


def torn(rng: random.Random, new: bytes, old: bytes) -> bytes:
    """Some sectors of one, the others of the other: the first few, or any."""
    count = PAGE // SECTOR
    if rng.random() < 0.5:
        taken = set(range(rng.randrange(1, count)))
    else:
        taken = {number for number in range(count) if rng.random() < 0.5}
    parts = ((new if number in taken else old)[number * SECTOR : (number + 1) * SECTOR] for number in range(count))
    return b"".join(parts)


class Disk:
    """Everything below `root`, as far as the operations applied so far have come. `time` counts them."""

    def __init__(self, root: str, barriers: str = "FE") -> None:
        self.root = root
        self.barriers = barriers  # which syncs count: without F or E a test asks what would happen without them
        self.time = 0
        self.files: dict[str, File] = {}  # by the names of now
        self.entries: dict[str, File | None] = {root: None}  # names that are on the disk; None for directories
        self.pending: list[tuple[int, Op, File | None]] = []  # what was done to names and may not be on the disk
        self.begun: dict[str, int] = {}  # when the sync of a path began

    def apply(self, op: Op) -> None:
        self.time += 1
        if op.kind in "CMRU":
            self.name(op)
        elif op.kind == "W":
            self.files[op.path].write(self.time, op.offset, op.data)
        elif op.kind == "E" and "E" in self.barriers:
            page = op.offset // PAGE
            self.files[op.path].sync(self.time, range(page, page + 1))
        elif op.kind == "F":
            self.begun[op.path] = self.time
        elif op.kind == "G" and "F" in self.barriers:
            before = self.begun.pop(op.path)
            if op.path in self.files:
                self.files[op.path].sync(before)
            else:
                self.sync_names(op.path, before)
        elif op.kind == "T" and os.path.basename(op.path) not in MEANINGLESS:
            raise NotImplementedError(f"the model of a disk doesn't know {op}")

    def name(self, op: Op) -> None:
        file = None
        if op.kind == "C":
            file = self.files[op.path] = File()
        elif op.kind == "R":
            file = self.files[os.fsdecode(op.data)] = self.files.pop(op.path)
        elif op.kind == "U":
            del self.files[op.path]
        self.pending.append((self.time, op, file))

    @staticmethod
    def rename(entries: dict[str, File | None], op: Op, file: File | None) -> None:
        """Do to the names on a disk what an operation says."""
        if op.kind in "CM":
            entries[op.path] = file
        else:
            entries.pop(op.path, None)
        if op.kind == "R":
            entries[os.fsdecode(op.data)] = file

    def sync_names(self, path: str, before: int) -> None:
        left = []
        for time, op, file in self.pending:
            last = os.fsdecode(op.data) if op.kind == "R" else op.path
            if time < before and os.path.dirname(last) == path:
                self.rename(self.entries, op, file)
            else:
                left.append((time, op, file))
        self.pending = left

    def settle(self, path: str, content: bytes) -> None:
        """The process is dead, and that is what a file of its holds."""
        self.time += 1
        if path in self.files:
            self.files[path].settle(self.time, content)

    def build(self, where: Path, rng: random.Random) -> str:
        """An image in the directory `where`, which stands for root; what was chosen, as text."""
        entries = dict(self.entries)
        if rng.random() < 0.7:  # as a journal has it, in order
            done = self.pending[: rng.randrange(len(self.pending) + 1)]
        else:
            done = [each for each in self.pending if rng.random() < 0.5]
        for _, op, file in done:
            self.rename(entries, op, file)
        how = rng.choice(HOW)
        for path in sorted(entries):
            target = where / os.path.relpath(path, self.root)
            file = entries[path]
            if path == self.root or not target.parent.is_dir():
                continue
            if file is None:
                target.mkdir()
            elif os.path.basename(path) in MEANINGLESS:
                target.write_bytes(rng.choice((b"", bytes(8192), rng.randbytes(8192))))
            else:
                target.write_bytes(file.image(rng, how))
        return how
