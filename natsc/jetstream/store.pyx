"""File storage.

One LMDB environment under <store_dir>/natsc holds every stream of every account, so one transaction, and one flush,
commits what all of them have waiting. All writing is the storage worker's (worker.pyx); this is the loop's side: it
queues, and it reads, from the arena what is still there and else from LMDB.

Invariants:
1. At most one read transaction is open, from the first cold read of a turn to its end: a reader that stays makes the
   file grow without bound.
2. What is not known to be durable is in the arena; so whatever must be read from LMDB is in the snapshot of this turn.
3. Nothing is used in a process forked from the one that opened it.
"""

import os
import shutil

from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

from natsc.errors import StoreError
from natsc.jetstream.failpoint cimport FAIL_KEY_KEPT, FAIL_STORE_FORMATTED, FAIL_STORE_MADE, FAIL_STORE_NAMED, failpoint
from natsc.jetstream.layout cimport MAX_KEY, STORE_FORMAT, state_head_t
from natsc.jetstream.layout import stream_name
from natsc.jetstream.lmdb cimport (MDB_CORRUPTED, MDB_CREATE, MDB_NEXT, MDB_NOSYNC, MDB_NOTFOUND, MDB_NOTLS, MDB_RDONLY,
                                   MDB_SET_RANGE, TRAPPED_ASSERT, TRAPPED_FAULT, MDB_cursor, MDB_envinfo, MDB_stat, MDB_txn,
                                   MDB_val,
                                   cursor_get_trapped, cursor_open_trapped, find_map, forks_seen, mdb, note_map,
                                   trap_assert, trapped_any)
from natsc.jetstream.lmdb import load as load_lmdb
from natsc.jetstream.syncpoint import FILE as SYNCED
from natsc.jetstream.syncpoint import boot_id, check_meta_pages, forget, go_back, open_file
from natsc.jetstream.vault cimport Vault
from natsc.jetstream.worker cimport (OP_META_DELETE, OP_META_PUT, UNIT_SHIFT, bell_clear_done, op_put, streamdb_t,
                                     worker_durable, worker_evict, worker_failed, worker_free, worker_lock_map, worker_new,
                                     worker_start, worker_stop, worker_submit, worker_sync, worker_unlock_map)

cdef extern from "sys/mman.h" nogil:
    int madvise(void* p, size_t n, int advice)
    int MADV_DONTNEED

DIRECTORY = "natsc"         # below the store directory
MAP_SIZE = 64 << 30         # to begin with: address space, not disk
MAP_SIZE_MIN = 256 << 20
MAX_DBS = 16384             # two a stream, and meta
UNFINISHED = ("compact", "encrypting")     # folders that a crash may have left, with copies of what there is
UNFINISHED_MAX = 65536      # a data file without an id beside it isn't larger

cdef enum:
    ID_SIZE = 16
    OPENED_MAX = 16
    PAGE = 4096
    GIVE_BACK_BYTES = 16777216  # hand the map's pages back after that much was read
    WHOLE = 1 << 31


cdef struct meta_t:
    worker_t* w
    uint32_t version
    char id[16]             # of a new store; then that of the store


cdef int meta_open(void* arg) noexcept nogil:
    """Open the meta database and read format and id, or write them in a new store."""
    cdef meta_t* m = <meta_t*>arg
    cdef MDB_txn* txn
    cdef MDB_val k, v
    cdef int rc = mdb.txn_begin(m.w.env, NULL, 0, &txn)
    if rc:
        return rc
    m.version = STORE_FORMAT
    rc = mdb.dbi_open(txn, b"meta", MDB_CREATE, &m.w.meta_dbi)
    if rc == 0:
        k.size = 6
        k.data = b"format"
        rc = mdb.get(txn, m.w.meta_dbi, &k, &v)
        if rc == MDB_NOTFOUND:
            v.size = 4
            v.data = &m.version
            rc = mdb.put(txn, m.w.meta_dbi, &k, &v, 0)
            k.size = 2
            k.data = b"id"
            v.size = ID_SIZE
            v.data = m.id
            if rc == 0:
                rc = mdb.put(txn, m.w.meta_dbi, &k, &v, 0)
        elif rc == 0:
            memset(&m.version, 0, 4)
            memcpy(&m.version, v.data, min(v.size, <size_t>4))
            k.size = 2
            k.data = b"id"
            rc = mdb.get(txn, m.w.meta_dbi, &k, &v)
            if rc == 0 and v.size != ID_SIZE:
                rc = MDB_CORRUPTED
            if rc == 0:
                memcpy(m.id, v.data, ID_SIZE)
    if rc:
        mdb.txn_abort(txn)
        return rc
    return mdb.txn_commit(txn)


class PlainStoreError(StoreError):
    """A key is configured, and the store was made without."""


class ForeignStoreError(StoreError):
    """The directory holds streams that nats-server wrote."""


def lmdb_text(int rc) -> str:
    """What an error of LMDB or the operating system says."""
    if rc == TRAPPED_ASSERT:
        return "a page of the data file is damaged"
    if rc == TRAPPED_FAULT:
        return "a page of the data file can't be read"
    return mdb.strerror(rc).decode("utf-8", "replace")


def foreign_streams(store_dir: str) -> str | None:
    """The first stream of nats-server's file storage below a store directory, as account/stream, or None.

    Raises OSError where there may be one and it can't be looked at.
    """
    base = os.path.join(store_dir, "jetstream")
    try:
        for account in sorted(os.listdir(base)):
            streams = os.path.join(base, account, "streams")
            if os.path.isdir(streams):
                for stream in sorted(os.listdir(streams)):
                    if not stream.startswith("."):      # so is one called that is being deleted
                        return f"{account}/{stream}"
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None


def foreign_text(store_dir: str, stream: str) -> str:
    """What an operator is told who has named such a directory."""
    return (f"the store directory {store_dir!r} holds streams of nats-server ({stream}), which natsc can't read. To move "
            "them, run `nats account backup DIR` while nats-server runs on it, take its folder 'jetstream' away, and run "
            "`nats account restore DIR` while natsc does. Or name another store_dir")


def lock_directory(directory: str) -> int:
    """Take the directory for this process, until the descriptor is closed. Raises StoreError where another has it."""
    from fcntl import LOCK_EX, LOCK_NB, flock
    fd = os.open(os.path.join(directory, "owner"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except OSError:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise StoreError(f"store directory {directory!r} is in use by process {owner or 'unknown'}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def make_directory(path: str, mode: int) -> None:
    """os.makedirs, and the names of what was made are durable. Nothing happens where it is there."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if not os.path.exists(parent):
        make_directory(parent, mode)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
    sync_directory(parent)


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def data_path(directory: str) -> str:
    return os.path.join(directory, "data.mdb")


def key_file(directory: str) -> list[bytes]:
    """The copy of an encrypted store's key that lies beside it; nothing where there is none."""
    try:
        with open(os.path.join(directory, "key"), "rb") as file:
            return [file.read()]
    except FileNotFoundError:
        return []


def kept_id(directory: str) -> str | None:
    """The id that a store of that directory has, None of a new one. Raises StoreError where its data are gone."""
    try:
        with open(os.path.join(directory, "id"), encoding="ascii", errors="replace") as file:
            kept = file.read().strip()
    except FileNotFoundError:
        return None
    path = data_path(directory)
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        raise StoreError(f"the data file {path!r} of the store {kept} is gone or empty. Bring it back from a backup; "
                         f"or move {directory!r} away to begin anew, with nothing in it")
    return kept


cdef class Store:
    """The environment of a store directory, and its worker.

    sync_interval_ns 0: every batch is on disk before it counts as durable. Above 0: batches count when the operating
    system has them, and are synced at that interval: they survive the death of the process, not that of the machine.
    After a stop of the machine the store is what it was at the last sync (went_back says so: syncpoint.pyx).
    Below 0: never synced, for stores that are thrown away.
    """

    def __cinit__(self):
        self.lock_fd = -1
        self.streams = {}
        self.opened = []
        self.cipher = ""

    def __init__(self, store_dir: str, *, int64_t sync_interval_ns=0, map_size: int = MAP_SIZE,
                 hot_bytes: int = 8 << 20, key: str = "", old_key: str = "", cipher: str = "", store_id: str = ""):
        load_lmdb()
        stream = foreign_streams(store_dir)
        if stream is not None:
            raise ForeignStoreError(foreign_text(store_dir, stream))
        self.directory = os.path.join(os.path.abspath(store_dir), DIRECTORY)
        make_directory(self.directory, 0o700)
        self.lock_fd = lock_directory(self.directory)
        self.forks = forks_seen()
        try:
            self.w = worker_new()
            if self.w == NULL:
                raise MemoryError
            self.w.hot_units = max(hot_bytes >> UNIT_SHIFT, 1)
            self.w.nosync = sync_interval_ns != 0
            self.w.sync_interval_ns = max(sync_interval_ns, 0)
            known_id = kept_id(self.directory)
            for left in UNFINISHED:
                shutil.rmtree(os.path.join(self.directory, left), ignore_errors=True)
            self.went_back = known_id is not None and go_back(self.directory)
            try:
                check_meta_pages(self.directory, strict=sync_interval_ns == 0)
            except StoreError:
                if known_id is not None or os.path.getsize(data_path(self.directory)) > UNFINISHED_MAX:
                    raise
                # Its making was interrupted: nobody has stored anything yet.
                os.replace(data_path(self.directory), data_path(self.directory) + ".unfinished")
            self.open_env(map_size, MDB_NOTLS | (MDB_NOSYNC if self.w.nosync else 0))
            failpoint(FAIL_STORE_MADE)
            self.open_meta(bytes.fromhex(store_id) or os.urandom(ID_SIZE))
            failpoint(FAIL_STORE_FORMATTED)
            if known_id is None:
                self.keep_id(sync_interval_ns >= 0)
            elif known_id != self.store_id:
                raise StoreError(f"the data file in {self.directory!r} is that of another store: its id is "
                                 f"{self.store_id}, and the file 'id' says {known_id}")
            self.begin_syncs(sync_interval_ns)
            rc = worker_start(self.w)
            if rc:
                raise StoreError(f"can't start the storage worker: {os.strerror(rc)}")
            self.usable = True
            self.open_vault(key, old_key, cipher or "chacha", known_id is None)
        except BaseException:
            if self.w != NULL:
                with nogil:
                    worker_stop(self.w)
            self.release()
            raise

    def open_env(self, map_size: int, unsigned int flags) -> None:
        """Open the environment with the largest map that the address space has room for, up to map_size."""
        cdef int rc
        cdef int dead
        cdef MDB_envinfo info
        cdef MDB_stat stat
        cdef bytes path = os.fsencode(self.directory)
        while True:
            rc = mdb.env_create(&self.env)
            if rc:
                raise StoreError(f"can't open the store {self.directory!r}: {lmdb_text(rc)}")
            mdb.env_set_maxdbs(self.env, MAX_DBS)
            mdb.env_set_maxreaders(self.env, 16)
            mdb.env_set_mapsize(self.env, map_size)
            rc = mdb.env_open(self.env, path, flags, 0o600)
            if rc == 0:
                break
            mdb.env_close(self.env)
            self.env = NULL
            if rc != ENOMEM or map_size // 2 < MAP_SIZE_MIN:
                raise StoreError(f"can't open the store {self.directory!r}: {lmdb_text(rc)}")
            map_size //= 2
        mdb.env_set_assert(self.env, trap_assert)
        mdb.reader_check(self.env, &dead)
        mdb.env_info(self.env, &info)
        self.w.map_size = info.mapsize
        mdb.env_stat(self.env, &stat)
        self.w.page_size = stat.psize
        self.w.env = self.env

    def open_meta(self, bytes new_id) -> None:
        """Open the meta database; a new store gets its format and its id, an old one must have a known format."""
        cdef meta_t m
        cdef int rc
        m.w = self.w
        memcpy(m.id, <char*>new_id, ID_SIZE)
        rc = trapped_any(&meta_open, &m)
        if rc in (TRAPPED_ASSERT, TRAPPED_FAULT):
            self.w.stuck = True
        elif rc == 0:
            rc = find_map(self.env, self.w.meta_dbi, &self.w.map)
        if rc == 0 and m.version != STORE_FORMAT:
            raise StoreError(
                f"the store {self.directory!r} has format {m.version}, and this natsc knows {STORE_FORMAT}")
        if rc:
            raise StoreError(f"can't open the store {self.directory!r}: {lmdb_text(rc)}")
        if not note_map(NULL, self.w.map, self.w.map_size):
            raise StoreError("too many stores are open in this process")
        self.store_id = m.id[:ID_SIZE].hex()

    def keep_id(self, durably: bool) -> None:
        """Once the store is on disk, write its id beside it: should the data file be lost, that isn't taken for new."""
        if durably:
            rc = mdb.env_sync(self.env, 1)
            if rc:
                raise StoreError(f"can't write the store {self.directory!r}: {lmdb_text(rc)}")
            sync_directory(self.directory)      # the name of the data file, before there is an id that asks for it
        failpoint(FAIL_STORE_NAMED)
        self.write_file("id", self.store_id.encode() + b"\n", durably)
        if durably:
            sync_directory(os.path.dirname(self.directory))

    def begin_syncs(self, int64_t interval_ns) -> None:
        """Before the first write: keep what to go back to, or nothing any more where each commit is synced."""
        cdef bytes boot = boot_id()
        cdef int rc = 0
        if interval_ns > 0 and boot:
            memcpy(self.w.boot, <char*>boot, len(boot))
            self.w.synced_fd, self.w.synced_count = open_file(self.directory)
            sync_directory(self.directory)
            rc = worker_sync(self.w)
        elif os.path.exists(os.path.join(self.directory, SYNCED)):
            rc = mdb.env_sync(self.env, 1)
            if rc == 0:
                forget(self.directory)
        if rc:
            raise StoreError(f"can't write the store {self.directory!r}: {lmdb_text(rc)}")

    def write_file(self, name: str, content: bytes, durably: bool) -> None:
        """Write a small file beside the data file, whole or not at all."""
        path = os.path.join(self.directory, name)
        with open(path + ".new", "wb") as file:
            file.write(content)
            file.flush()
            if durably:
                os.fsync(file.fileno())
        os.rename(path + ".new", path)
        if durably:
            sync_directory(self.directory)

    # Encryption.

    def open_vault(self, key: str, old_key: str, cipher: str, made: bool) -> None:
        """Open the store's key, where it has one, or make it in a new store that is to be encrypted."""
        kept = self.kept_keys()
        if not key:
            if kept:
                raise StoreError(f"the store {self.directory!r} is encrypted, and no encryption key is configured")
            return
        from natsc.jetstream.storekey import CIPHERS, new_key, open_kept
        if not kept:
            if not made and (self.stream_names() or self.meta_items()):
                raise PlainStoreError(f"the store {self.directory!r} isn't encrypted")
            own, anew = new_key(), True
        else:
            try:
                own, anew = open_kept(kept, key, old_key, self.store_id)
            except StoreError as error:
                raise StoreError(f"can't open the store {self.directory!r}: {error}") from None
        # What differs was left by a crash while it was written, or is damaged.
        if anew or len(kept) < 2 or kept[0] != kept[1]:
            self.keep_key(own, key, cipher)
        self.vault = Vault(own, cipher)
        self.cipher = CIPHERS[cipher]
        self.w.sealed = True

    def kept_keys(self) -> list[bytes]:
        """The store's key as it is kept: in the store, and in a file beside it, should the other one be damaged."""
        return [value for name, value in self.items(b"key") if name == b"key"] + key_file(self.directory)

    def keep_key(self, own: bytes, key: str, cipher: str) -> None:
        """Write the store's key, encrypted with the configured one, and a copy of that into a file."""
        from natsc.jetstream.storekey import wrap
        kept = wrap(own, key, cipher, self.store_id)
        if not op_put(self.w, OP_META_PUT, NULL, b"key", 3, kept, len(kept)):
            raise MemoryError
        self.wait_durable()
        failpoint(FAIL_KEY_KEPT)
        self.write_file("key", kept, not self.w.nosync or self.w.sync_interval_ns > 0)

    cdef bytes name_of(self, str account, str stream):
        """The name under which a stream's databases are found."""
        if self.vault is None:
            return stream_name(account, stream)
        return self.vault.hide(f"{account}\0{stream}".encode("utf-8", "surrogateescape")).hex().encode()

    cdef bytes open_bytes(self, bytes context, bytes sealed):
        """What stands at a place of the store; None where it doesn't decrypt."""
        return sealed if self.vault is None else self.vault.open(context, sealed)

    cdef bint put_value(self, uint32_t kind, streamdb_t* db, const char* key, size_t key_len, const char* value,
                        size_t n) noexcept nogil:
        """op_put, with the value sealed where the store is encrypted."""
        if not self.w.sealed:
            return op_put(self.w, kind, db, key, key_len, value, n)
        with gil:
            return self.put_sealed(kind, db, key[:key_len], value[:n])

    cdef bint put_sealed(self, uint32_t kind, streamdb_t* db, bytes key, bytes value) noexcept:
        cdef bytes context = b"M" + key if db == NULL else b"c" + db.name[:db.name_len] + b"\0" + key
        cdef bytes sealed = self.vault.seal(context, value)
        return op_put(self.w, kind, db, key, len(key), sealed, len(sealed))

    cdef bint open_value(self, streamdb_t* db, const char* key, size_t key_len, MDB_val* v) noexcept nogil:
        """Decrypt what was read where the store is encrypted: a record, or without db a value of meta. False if it can't be.

        It can be read for a while then: to the turn's end, and until OPENED_MAX others were decrypted.
        """
        if not self.w.sealed:
            return True
        with gil:
            return self.open_sealed(db, key[:key_len], v)

    cdef bint open_sealed(self, streamdb_t* db, bytes key, MDB_val* v) noexcept:
        cdef bytes context = (b"M" if db == NULL else b"m" + db.name[:db.name_len] + b"\0") + key
        cdef bytes plain = self.vault.open(context, (<char*>v.data)[:v.size])
        if plain is None:
            return False
        if len(self.opened) >= OPENED_MAX:
            del self.opened[0]
        self.opened.append(plain)
        v.data = <char*>plain
        v.size = len(plain)
        return True

    # The loop.

    cdef bint working(self) noexcept nogil:
        """Whether anything can still become durable."""
        return self.usable and self.forks == forks_seen() and worker_failed(self.w) == 0

    cdef void set_durable(self, durable_fn fn, void* ctx) noexcept:
        """Whom on_event tells."""
        self.durable_cb = fn
        self.durable_ctx = ctx

    cdef uint64_t submit(self) noexcept nogil:
        """Hand over what is queued, within a turn too. The batch's id."""
        if not self.usable or self.forks != forks_seen():
            return 0
        return worker_submit(self.w)

    cdef uint64_t end(self) noexcept nogil:
        """End of a turn: hand over, give up the read transaction and with it every slice. The batch's id."""
        cdef uint64_t batch = self.submit()
        if batch or self.reading:
            if self.w.sealed:
                with gil:
                    self.opened.clear()
            self.end_reads()
            worker_evict(self.w)
        return batch

    def end_turn(self) -> int:
        """end() for Python."""
        return self.end()

    def fileno(self) -> int:
        """Readable when something became durable, or failed: call on_event()."""
        return self.w.done_fd[0] if self.usable else -1

    def on_event(self) -> int:
        """Report what became durable. The last durable batch."""
        cdef uint64_t durable
        if not self.usable or self.forks != forks_seen():
            return 0
        bell_clear_done(self.w)
        durable = worker_durable(self.w)
        if durable > self.reported:
            self.reported = durable
            if self.durable_cb != NULL:
                self.durable_cb(self.durable_ctx, durable)
            if self.w.skipped != self.told_skipped and self.on_skipped is not None:
                self.on_skipped(self.w.skipped - self.told_skipped)
                self.told_skipped = self.w.skipped
            if self.on_durable is not None:
                self.on_durable(durable)
        if worker_failed(self.w) and not self.failure_reported:
            self.failure_reported = True
            if self.on_failure is not None:
                self.on_failure(self.failure)
        return durable

    @property
    def failure(self) -> str | None:
        """Why nothing becomes durable any more, or None. It stays so until the store is opened again."""
        cdef int rc
        if self.w == NULL:
            return None
        rc = worker_failed(self.w)
        if rc == 0:
            return None
        return f"storage failed ({self.w.failed_in.decode()}): {lmdb_text(rc)}"

    def wait_durable(self, timeout: float = 30.0) -> int:
        """End the turn and wait until all of it is durable. StoreError where that will not happen. Not for the loop."""
        from select import select
        from time import monotonic
        batch = self.end_turn()
        deadline = monotonic() + timeout
        while True:
            durable = self.on_event()
            if durable >= batch:
                self.end_turn()     # gives up what is not hot any more
                return durable
            if self.failure is not None:
                raise StoreError(self.failure)
            left = deadline - monotonic()
            if left <= 0 or not self.usable:
                raise StoreError("not durable in time")
            select([self.w.done_fd[0]], [], [], left)

    cdef uint64_t pending(self) noexcept nogil:
        """Bytes queued that are not durable yet: when to hold publishers back."""
        return self.w.total - self.w.durable_total if self.usable else 0

    @property
    def pending_bytes(self) -> int:
        return self.pending()

    @property
    def commits(self) -> int:
        """Transactions committed."""
        return self.w.commits if self.usable else 0

    @property
    def map_size(self) -> int:
        return self.w.map_size if self.usable else 0

    # Reading.

    cdef MDB_txn* read_txn(self) noexcept nogil:
        """This turn's read transaction; NULL where there can't be one."""
        cdef int rc
        if self.reading:
            return self.read
        if not self.usable or self.forks != forks_seen():
            return NULL
        worker_lock_map(self.w)
        if self.w.unmapped:
            rc = ENOMEM
        elif self.read == NULL:
            rc = mdb.txn_begin(self.env, NULL, MDB_RDONLY, &self.read)
        else:
            rc = mdb.txn_renew(self.read)
        if rc:
            worker_unlock_map(self.w)
            return NULL
        self.reading = True
        self.turn += 1
        return self.read

    cdef bint renew_read(self) noexcept nogil:
        """After an error, which makes a transaction useless: go on with the newest snapshot. False where that fails."""
        if not self.reading:
            return False
        mdb.txn_reset(self.read)
        self.turn += 1
        if mdb.txn_renew(self.read) == 0:
            return True
        self.reading = False
        worker_unlock_map(self.w)
        return False

    cdef void end_reads(self) noexcept nogil:
        """Slices end here."""
        if self.reading:
            mdb.txn_reset(self.read)
            self.reading = False
            worker_unlock_map(self.w)

    cdef void note_read(self, const void* p, size_t n) noexcept nogil:
        """n bytes at p were read from the map: their pages count as this process's memory until they are given back."""
        if self.touched_bytes == 0 or <const char*>p < self.touched_low:
            self.touched_low = <const char*>p
        if self.touched_bytes == 0 or <const char*>p + n > self.touched_high:
            self.touched_high = <const char*>p + n
        self.touched_bytes += n + 64
        if self.touched_bytes > GIVE_BACK_BYTES:
            self.give_back()

    cdef void give_back(self) noexcept nogil:
        """Unmap the pages that reads have touched. They come back when they are read again."""
        cdef uintptr_t low = <uintptr_t>self.touched_low & ~<uintptr_t>(PAGE - 1)
        if self.touched_bytes:
            madvise(<void*>low, <uintptr_t>self.touched_high - low, MADV_DONTNEED)
            self.touched_bytes = 0

    def tell_damage(self) -> None:
        """Keep and tell what was found damaged since the last time. Between turns."""
        self.found_damage = False
        for s in list(self.streams.values()):
            lost = s.take_lost()
            if lost and self.on_damage is not None:
                self.on_damage(s.account, s.stream, lost)

    # Streams and meta. Between turns, not within one.

    def open_stream(self, account: str, stream: str):
        """The FileStore of a stream, with what it holds; a new one where there is none. Raises StoreError."""
        from natsc.jetstream.filestore import FileStore
        name = self.name_of(account, stream)
        if name in self.streams:
            raise StoreError(f"stream {stream!r} of account {account!r} is open already")
        if not self.working():
            raise StoreError(self.failure or "the store is closed")
        if len(self.streams) >= (MAX_DBS - 1) // 2:
            raise StoreError(f"a store holds at most {(MAX_DBS - 1) // 2} streams")
        s = FileStore(self, account, stream)
        self.streams[name] = s
        return s

    cdef bint dropping(self, bytes name) noexcept:
        """Whether the drop of a stream of that (encoded) name is queued: what LMDB still holds of it counts no more."""
        cdef uint64_t durable = worker_durable(self.w)
        cdef streamdb_t* g = self.w.graves
        while g != NULL:
            if g.drop_op > durable and g.name[:g.name_len] == name:
                return True
            g = g.next_grave
        return False

    def stream_names(self) -> list[tuple[str, str]]:
        """(account, stream) of everything durable in the store."""
        names = []
        for key, value in self.items(b"s/"):
            label = self.open_bytes(b"s" + key[2:], value[sizeof(state_head_t):])
            if label is None:
                continue
            account, _, stream = label.partition(b"\0")
            names.append((account.decode("utf-8", "surrogateescape"), stream.decode("utf-8", "surrogateescape")))
        return names

    def meta_put(self, bytes key, bytes value) -> None:
        """Keep a value with the next batch."""
        if len(key) > MAX_KEY:
            raise ValueError("key too long")
        if self.vault is not None:
            value = len(key).to_bytes(2, "little") + key + value
        key = self.meta_key(key)
        if not self.working() or not self.put_value(OP_META_PUT, NULL, key, len(key), value, len(value)):
            raise StoreError(self.failure or "the store is closed")

    def meta_key(self, bytes key) -> bytes:
        return b"u/" + (key if self.vault is None else self.vault.hide(b"u/" + key))

    def meta_delete(self, bytes key) -> None:
        key = self.meta_key(key)
        if not self.working() or not op_put(self.w, OP_META_DELETE, NULL, key, len(key), NULL, 0):
            raise StoreError(self.failure or "the store is closed")

    def meta_items(self, bytes prefix=b"") -> list[tuple[bytes, bytes]]:
        """What is kept under keys with that prefix, in their order, as far as it is durable."""
        if self.vault is None:
            return [(key[2:], value) for key, value in self.items(b"u/" + prefix)]
        found = []
        for key, value in self.items(b"u/"):
            plain = self.open_bytes(b"M" + key, value)
            if plain is not None:           # else its stream will be told to have no configuration
                n = 2 + int.from_bytes(plain[:2], "little")
                if plain[2:n].startswith(prefix):
                    found.append((plain[2:n], plain[n:]))
        return sorted(found)

    def items(self, bytes prefix, unsigned int dbi=0) -> list[tuple[bytes, bytes]]:
        """Keys and values of a database (meta), as of the last batch."""
        cdef MDB_cursor* c
        cdef MDB_val k, v
        cdef MDB_txn* txn
        cdef int rc
        found = []
        self.end_reads()
        txn = self.read_txn()
        if txn == NULL:
            raise StoreError("the store can't be read")
        rc = cursor_open_trapped(txn, dbi if dbi else self.w.meta_dbi, &c)
        if rc == 0:
            k.size = len(prefix)
            k.data = <char*>prefix
            rc = cursor_get_trapped(c, &k, &v, MDB_SET_RANGE if len(prefix) else MDB_NEXT, WHOLE)
            while rc == 0:
                key = (<char*>k.data)[:k.size]
                if not key.startswith(prefix):
                    break
                found.append((key, (<char*>v.data)[:v.size]))
                rc = cursor_get_trapped(c, &k, &v, MDB_NEXT, WHOLE)
            mdb.cursor_close(c)
        self.end_reads()
        if rc and rc != MDB_NOTFOUND:
            raise StoreError(f"the store {self.directory!r} can't be read: {lmdb_text(rc)}")
        return found

    # The end.

    def close(self) -> None:
        """Commit what is queued, write checkpoints, stop. Raises StoreError where not everything became durable."""
        if not self.usable:
            return
        if self.forks != forks_seen():
            self.usable = False     # a forked child: the parent's threads and locks are not here
            return
        for s in list(self.streams.values()):
            if self.working():
                s.save_if_worth()
        batch = self.submit()
        with nogil:
            worker_stop(self.w)
        self.on_event()
        failure = self.failure
        durable = worker_durable(self.w)
        self.release()
        if failure is not None or durable < batch:
            raise StoreError(failure or "not everything became durable")

    def __del__(self):
        # What was handed over is committed; there is nobody to tell.
        if self.w != NULL and self.forks == forks_seen():
            with nogil:
                worker_stop(self.w)
            self.release()

    def release(self) -> None:
        """Give everything back; the worker has stopped."""
        self.usable = False
        if self.w != NULL:
            self.end_reads()
            for s in self.streams.values():
                s.forget_databases()
            self.streams.clear()
            if self.read != NULL:
                mdb.txn_abort(self.read)
                self.read = NULL
            # A write transaction that was interrupted still holds LMDB's lock: the environment is left as it is.
            if self.w.pin != NULL and not self.w.stuck:
                mdb.txn_abort(self.w.pin)
            if self.w.synced_fd >= 0:
                os.close(self.w.synced_fd)
            if self.env != NULL and not self.w.stuck:
                mdb.env_close(self.env)
                if self.w.map != NULL:
                    note_map(self.w.map, NULL, 0)
            self.env = NULL
            worker_free(self.w)
            self.w = NULL
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1
