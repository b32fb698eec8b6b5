"""The state of a store as it is certain to be on disk, for stores that are synced at intervals.

Between two syncs LMDB's file is in no order on the disk: its head pages may be there without the pages that they name.
So after each sync the head page of that moment is kept in a file of its own, `synced`, and until the next one is kept
no page of that state is used anew (worker.pyx holds a read transaction on it). When the machine has stopped since, which
the kernel's boot id tells, the store goes back to it at the next start: what came after the last sync is lost, and nothing
else. When only the process has ended, everything is still in the kernel, and the newest state is the one.

The file has two records, written in turn through a descriptor with O_DSYNC, on pages of their own: whatever happens while
one is written, the other one is whole. It is there while a store may be ahead of its disk, and only then: what replaces
the data file, or opens it to sync each commit, first makes sure of the data and then removes it (forget).
"""

import os

from libc.errno cimport EIO, errno
from libc.string cimport memcpy

from natsc.errors import StoreError
from natsc.jetstream.layout cimport crc32c

cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int fd, const void* p, size_t n, long long offset)

cdef enum:
    META_TXN = 144
    SLOT = 4096

# LMDB's first two pages, as far as they are checked here: offsets.
LMDB_MAGIC = b"\xde\xc0\xef\xbe\x01\0\0\0"
META_FLAGS = 10
META_MAGIC = 16
META_PAGE_SIZE = 40
META_SIZE = 152

BOOT_ID = "/proc/sys/kernel/random/boot_id"
FILE = "synced"


def check_meta_pages(directory: str, *, strict: bool) -> None:
    """Check the two pages with which LMDB's file begins, which have no checksum. Raises StoreError.

    Transaction n writes page n % 2, so the two numbers differ by one; not strict: they may differ by more, for after a
    power failure an unsynced file has either page or none. The file's length tells nothing: pages at its end that are
    free may never have been written.
    """
    path = os.path.join(directory, "data.mdb")
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return
    with open(path, "rb") as file:
        data = file.read(2 * 65536)
    page_size = int.from_bytes(data[META_PAGE_SIZE:META_PAGE_SIZE + 4], "little")
    ids = []
    for number in range(2):
        page = data[number * page_size:][:META_SIZE] if page_size in (4096, 8192, 16384, 32768, 65536) else b""
        if (len(page) < META_SIZE or page[META_MAGIC:META_MAGIC + 8] != LMDB_MAGIC or page[META_FLAGS] != 8
                or int.from_bytes(page[META_PAGE_SIZE:META_PAGE_SIZE + 4], "little") != page_size):
            raise StoreError(f"page {number} of the data file {path!r} is damaged: it doesn't begin as LMDB's do")
        ids.append(int.from_bytes(page[META_TXN:META_TXN + 8], "little"))
    if ids != [0, 0] and (ids[0] % 2 != 0 or ids[1] % 2 != 1 or (strict and abs(ids[0] - ids[1]) != 1)):
        raise StoreError(f"page 0 or 1 of the data file {path!r} is damaged: they are of transactions {ids[0]} and "
                         f"{ids[1]}")


cdef uint64_t txn_of(const char* page) noexcept nogil:
    cdef uint64_t txn
    memcpy(&txn, page + META_TXN, 8)
    return txn


cdef int syncpoint_write(int fd, uint64_t count, const char* boot, const char* map, size_t page_size) noexcept nogil:
    """Keep the newest head page of a map whose file has just been synced. 0 or an errno."""
    cdef syncpoint_t point
    cdef const char* newest = map if txn_of(map) > txn_of(map + page_size) else map + page_size
    cdef ssize_t n
    point.page_size = <uint32_t>page_size
    point.count = count
    memcpy(point.boot, boot, SYNCED_BOOT)
    memcpy(point.head, newest, SYNCED_HEAD)
    point.crc = crc32c(0, <char*>&point + 4, sizeof(point) - 4)
    n = pwrite(fd, &point, sizeof(point), (count & 1) * SLOT)
    if n == <ssize_t>sizeof(point):
        return 0
    return errno if n < 0 else EIO


def boot_id() -> bytes:
    """What tells this run of the machine from others; b"" where nothing does (the kernel isn't Linux)."""
    try:
        with open(BOOT_ID, "rb") as file:
            found = file.read(SYNCED_BOOT + 1).strip()
    except OSError:
        return b""
    return found if len(found) == SYNCED_BOOT else b""


cdef bint read_point(directory: str, syncpoint_t* newest):
    """The record that counts. False where there is none."""
    cdef syncpoint_t point
    cdef bint found = False
    try:
        with open(os.path.join(directory, FILE), "rb") as file:
            data = file.read(2 * SLOT)
    except FileNotFoundError:
        return False
    for at in (0, SLOT):
        text = data[at:at + sizeof(point)]
        if len(text) < <Py_ssize_t>sizeof(point):
            continue
        memcpy(&point, <char*>text, sizeof(point))
        if point.crc == crc32c(0, <char*>&point + 4, sizeof(point) - 4) and (not found or point.count > newest.count):
            newest[0] = point
            found = True
    return found


def is_behind(directory: str) -> bool:
    """Whether the machine has stopped since the data file in that directory was synced, with something in it since."""
    cdef syncpoint_t point
    if not read_point(directory, &point) or point.boot[:SYNCED_BOOT] == boot_id():
        return False
    with open(os.path.join(directory, "data.mdb"), "rb") as file:
        heads = [os.pread(file.fileno(), SYNCED_HEAD, number * point.page_size) for number in (0, 1)]
    newest = max(heads, key=lambda head: int.from_bytes(head[META_TXN:], "little"))
    return newest != point.head[:SYNCED_HEAD]


def go_back(directory: str) -> bool:
    """Where is_behind(): make the data file what it was at the last sync. The directory is locked."""
    cdef syncpoint_t point
    cdef uint64_t txn
    if not is_behind(directory):
        return False
    read_point(directory, &point)
    txn = txn_of(point.head)
    with open(os.path.join(directory, "data.mdb"), "r+b") as file:
        for number in (txn, txn - 1):   # the other page: the same, as of the transaction before
            head = point.head[:8] + point.head[8:META_TXN] + int(number).to_bytes(8, "little")
            os.pwrite(file.fileno(), (number & 1).to_bytes(8, "little") + head[8:], (number & 1) * point.page_size)
            os.fsync(file.fileno())
    return True


def open_file(directory: str) -> tuple[int, int]:
    """A descriptor for syncpoint_write, and the number of the next record. The name is durable once the directory is."""
    cdef syncpoint_t point
    fd = os.open(os.path.join(directory, FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_DSYNC, 0o600)
    return fd, point.count + 1 if read_point(directory, &point) else 1


def forget(directory: str) -> None:
    """Remove the file, durably: the data are on disk, and what is written from now on is synced at once."""
    try:
        os.unlink(os.path.join(directory, FILE))
    except FileNotFoundError:
        return
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
