"""File storage.

One LMDB environment under <store_dir>/natsc holds every stream of every account, so one transaction, and one flush, commits
what all of them have waiting. All writing is the storage worker's (worker.pyx); this is the loop's side: it queues, and it
reads, from the arena what is still there and else from LMDB.

Invariants:
1. At most one read transaction is open, from the first cold read of a turn to its end: a reader that stays makes the file
   grow without bound.
2. What is not known to be durable is in the arena; so whatever must be read from LMDB is in the snapshot of this turn.
3. Nothing is used in a process forked from the one that opened it.
"""

import os

from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from natsc.jetstream.checkpoint cimport checkpoint_read, checkpoint_write
from natsc.jetstream.layout cimport (MAX_KEY, MAX_NAME, RECORD_MISSING, RECORD_NOT_NOW, RECORD_OK, RECORD_UNREADABLE,
                                     STORE_FORMAT, crc32c, key_to_seq, record_check_body, record_check_head, record_size,
                                     record_view, record_write, seq_to_key, state_head_t, stored_t)
from natsc.jetstream.layout import KEY_FORMAT, KEY_ID, META_DB, stream_name
from natsc.jetstream.lmdb cimport (MDB_CREATE, MDB_NEXT, MDB_NOSYNC, MDB_NOTFOUND, MDB_NOTLS, MDB_RDONLY, MDB_SET_KEY,
                                   MDB_SET_RANGE, MDB_cursor, MDB_env, MDB_envinfo, MDB_txn, MDB_val, forks_seen, mdb)
from natsc.jetstream.lmdb import load as load_lmdb
from natsc.jetstream.msgstore cimport STORE_CLOSED, STORE_FAILED, MsgStore
from natsc.jetstream.seqset cimport seqset_clear, seqset_next
from natsc.jetstream.subjectstate cimport subjects_clear
from natsc.jetstream.worker cimport (OP_APPEND, OP_CLEAR, OP_CONSUMER_DELETE, OP_CONSUMER_DELETE_PREFIX, OP_CONSUMER_PUT,
                                     OP_CREATE, OP_DELETE, OP_DELETE_RANGE, OP_DROP, OP_LAST, OP_META_DELETE,
                                     OP_META_DELETE_PREFIX, OP_META_PUT, UNIT_SHIFT, arena_at, bell_clear_done, op_add,
                                     op_put, op_t, streamdb_new, streamdb_open, streamdb_t, worker_durable, worker_evict,
                                     worker_fail, worker_failed, worker_free, worker_lock_env, worker_lock_map, worker_new,
                                     worker_start, worker_stop, worker_submit, worker_t, worker_unlock_env,
                                     worker_unlock_map)

cdef extern from "sys/mman.h" nogil:
    int madvise(void* p, size_t n, int advice)
    int MADV_DONTNEED

DIRECTORY = "natsc"         # below the store directory
MAP_SIZE = 64 << 30         # to begin with: address space, not disk
MAP_SIZE_MIN = 256 << 20
MAX_DBS = 16384             # two a stream, and meta

cdef enum:
    PAGE = 4096
    GIVE_BACK_BYTES = 16777216          # hand the map's pages back after that much was read
    CHECKPOINT_BYTES = 67108864         # appended, before a stream writes a checkpoint on its own
    CHECKPOINT_SUBJECTS = 16384         # and it does so only below that many subjects: it happens on the loop
    CHECKPOINT_MSGS = 10000             # a stream with fewer messages is scanned instead

cdef packed struct checkpoint_head_t:
    uint32_t crc            # over everything behind it
    uint32_t num_parts
    uint64_t last_seq
    int64_t last_ts_ns
    uint64_t msgs
    uint64_t bytes
    uint64_t removals


class StoreError(Exception):
    """A store that can't be opened or used."""


class ForeignStoreError(StoreError):
    """The directory holds streams that nats-server wrote."""


cdef str lmdb_text(int rc):
    return mdb.strerror(rc).decode("utf-8", "replace")


def foreign_streams(store_dir: str) -> str | None:
    """The first stream of nats-server's own file storage below a store directory, as account/stream; None without one."""
    base = os.path.join(store_dir, "jetstream")
    try:
        for account in sorted(os.listdir(base)):
            streams = os.path.join(base, account, "streams")
            if os.path.isdir(streams):
                for stream in sorted(os.listdir(streams)):
                    return f"{account}/{stream}"
    except OSError:
        return None
    return None


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


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


cdef class Store:
    """The environment of a store directory, and its worker.

    sync_interval_ns 0: every batch is on disk before it counts as durable. Above 0: batches count when the operating system
    has them, and are synced at that interval: they survive the death of the process, not that of the machine. Below 0: never
    synced, for stores that are thrown away.
    """

    def __cinit__(self):
        self.lock_fd = -1
        self.streams = {}

    def __init__(self, store_dir: str, *, int64_t sync_interval_ns=0, map_size: int = MAP_SIZE, hot_bytes: int = 8 << 20):
        load_lmdb()
        stream = foreign_streams(store_dir)
        if stream is not None:
            raise ForeignStoreError(
                f"store directory {store_dir!r} holds streams that nats-server wrote (such as {stream!r}), which natsc does "
                "not read: start nats-server on it and run 'nats account backup' (or 'nats stream backup' for one stream), "
                "move its 'jetstream' directory away, then start natsc and run 'nats account restore'")
        self.directory = os.path.join(os.path.abspath(store_dir), DIRECTORY)
        made = not os.path.exists(os.path.join(self.directory, "data.mdb"))
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        self.lock_fd = lock_directory(self.directory)
        self.forks = forks_seen()
        try:
            self.w = worker_new()
            if self.w == NULL:
                raise MemoryError
            self.w.hot_units = max(hot_bytes >> UNIT_SHIFT, 1)
            self.w.nosync = sync_interval_ns != 0
            self.w.sync_interval_ns = max(sync_interval_ns, 0)
            self.open_env(map_size, MDB_NOTLS | (MDB_NOSYNC if self.w.nosync else 0))
            self.open_meta()
            if made:
                sync_directory(self.directory)
                sync_directory(os.path.dirname(self.directory))
            rc = worker_start(self.w)
            if rc:
                raise StoreError(f"can't start the storage worker: {os.strerror(rc)}")
            self.usable = True
        except BaseException:
            self.release()
            raise

    def open_env(self, map_size: int, unsigned int flags) -> None:
        """Open the environment with the largest map that the address space has room for, up to map_size."""
        cdef int rc
        cdef int dead
        cdef MDB_envinfo info
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
        mdb.reader_check(self.env, &dead)
        mdb.env_info(self.env, &info)
        self.w.map_size = info.mapsize
        self.w.env = self.env

    def open_meta(self) -> None:
        """Open the meta database; a new store gets its format and its id, an old one must have a format that is known."""
        cdef MDB_txn* txn
        cdef MDB_val k, v
        cdef uint32_t version = STORE_FORMAT
        cdef int rc = mdb.txn_begin(self.env, NULL, 0, &txn)
        cdef bytes key = KEY_FORMAT
        cdef bytes meta = META_DB
        cdef bytes new_id = os.urandom(16)
        if rc:
            raise StoreError(f"can't open the store {self.directory!r}: {lmdb_text(rc)}")
        rc = mdb.dbi_open(txn, meta, MDB_CREATE, &self.w.meta_dbi)
        k.size = len(key)
        k.data = <char*>key
        if rc == 0:
            rc = mdb.get(txn, self.w.meta_dbi, &k, &v)
        if rc == 0:
            if v.size == 4:
                memcpy(&version, v.data, 4)
            if v.size != 4 or version != STORE_FORMAT:
                mdb.txn_abort(txn)
                raise StoreError(f"the store {self.directory!r} has format {version}, and this natsc knows {STORE_FORMAT}")
        elif rc == MDB_NOTFOUND:
            v.size = 4
            v.data = &version
            rc = mdb.put(txn, self.w.meta_dbi, &k, &v, 0)
            key = KEY_ID
            k.size = len(key)
            k.data = <char*>key
            v.size = 16
            v.data = <char*>new_id
            if rc == 0:
                rc = mdb.put(txn, self.w.meta_dbi, &k, &v, 0)
        key = KEY_ID
        k.size = len(key)
        k.data = <char*>key
        if rc == 0:
            rc = mdb.get(txn, self.w.meta_dbi, &k, &v)
        if rc:
            mdb.txn_abort(txn)
            raise StoreError(f"can't read the store {self.directory!r}: {lmdb_text(rc)}")
        self.store_id = (<char*>v.data)[:v.size].hex()
        rc = mdb.txn_commit(txn)
        if rc:
            raise StoreError(f"can't write the store {self.directory!r}: {lmdb_text(rc)}")

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

    # Streams and meta. Between turns, not within one.

    def open_stream(self, account: str, stream: str) -> FileStore:
        """The store of a stream, with what it holds; a new one where there is none. Raises StoreError."""
        name = stream_name(account, stream)
        if name in self.streams:
            raise StoreError(f"stream {stream!r} of account {account!r} is open already")
        if not self.working():
            raise StoreError(self.failure or "the store is closed")
        if len(self.streams) >= (MAX_DBS - 1) // 2:
            raise StoreError(f"a store holds at most {(MAX_DBS - 1) // 2} streams")
        s = FileStore(self, account, stream)
        self.streams[name] = s
        return s

    def stream_names(self) -> list[tuple[str, str]]:
        """(account, stream) of everything durable in the store."""
        names = []
        for _, value in self.items(b"s/"):
            account, _, stream = value[sizeof(state_head_t):].partition(b"\0")
            names.append((account.decode("utf-8", "surrogateescape"), stream.decode("utf-8", "surrogateescape")))
        return names

    def meta_put(self, bytes key, bytes value) -> None:
        """Keep a value with the next batch."""
        if len(key) > MAX_KEY:
            raise ValueError("key too long")
        key = b"u/" + key
        if not self.working() or not op_put(self.w, OP_META_PUT, NULL, key, len(key), value, len(value)):
            raise StoreError(self.failure or "the store is closed")

    def meta_delete(self, bytes key) -> None:
        key = b"u/" + key
        if not self.working() or not op_put(self.w, OP_META_DELETE, NULL, key, len(key), NULL, 0):
            raise StoreError(self.failure or "the store is closed")

    def meta_items(self, bytes prefix=b"") -> list[tuple[bytes, bytes]]:
        """What is kept under keys with that prefix, in their order, as far as it is durable."""
        return [(key[2:], value) for key, value in self.items(b"u/" + prefix)]

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
        rc = mdb.cursor_open(txn, dbi if dbi else self.w.meta_dbi, &c)
        if rc == 0:
            k.size = len(prefix)
            k.data = <char*>prefix
            rc = mdb.cursor_get(c, &k, &v, MDB_SET_RANGE if len(prefix) else MDB_NEXT)
            while rc == 0:
                key = (<char*>k.data)[:k.size]
                if not key.startswith(prefix):
                    break
                found.append((key, (<char*>v.data)[:v.size]))
                rc = mdb.cursor_get(c, &k, &v, MDB_NEXT)
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
                (<FileStore>s).save_if_worth()
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
                (<FileStore>s).forget_databases()
            self.streams.clear()
            if self.read != NULL:
                mdb.txn_abort(self.read)
                self.read = NULL
            if self.env != NULL:
                mdb.env_close(self.env)
                self.env = NULL
            worker_free(self.w)
            self.w = NULL
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

cdef struct checkpoint_writer_t:
    worker_t* w
    char key[512]
    size_t key_len          # with the part's number, the last 4 bytes
    uint32_t parts


cdef bint queue_part(void* ctx, const char* part, size_t n) noexcept nogil:
    """Parts are numbered from 1, big-endian; the head is number 0."""
    cdef checkpoint_writer_t* out = <checkpoint_writer_t*>ctx
    cdef char* number = out.key + out.key_len - 4
    out.parts += 1
    number[0] = <char>(out.parts >> 24)
    number[1] = <char>(out.parts >> 16)
    number[2] = <char>(out.parts >> 8)
    number[3] = <char>out.parts
    return op_put(out.w, OP_META_PUT, NULL, out.key, out.key_len, part, n)


cdef class FileStore(MsgStore):
    """One stream's messages. Made by Store.open_stream."""

    def __cinit__(self, Store store not None, account: str, stream: str):
        cdef bytes label = account.encode("utf-8", "surrogateescape") + b"\0" + stream.encode("utf-8", "surrogateescape")
        self.is_file = True
        self.store = store
        self.account = account
        self.stream = stream
        self.name = stream_name(account, stream)
        if len(self.name) > MAX_NAME:
            raise StoreError(f"the name {stream!r} is too long")
        self.db = streamdb_new(self.name, len(self.name), label, len(label))
        if self.db == NULL:
            raise MemoryError
        self.recover()
        self.opened = True

    def __dealloc__(self):
        # From its opening on, a stream's databases are the store's to free: when it closes, or when their drop is durable.
        if not self.opened:
            free(self.db)
        free(self.hot)

    cdef void forget_databases(self) noexcept nogil:
        """The store is closing; its worker has stopped."""
        if self.cursor != NULL:
            mdb.cursor_close(self.cursor)
            self.cursor = NULL
        free(self.db)
        self.db = NULL
        self.error = STORE_CLOSED
        self.hot_head = self.hot_end = 0

    def drop(self) -> None:
        """Delete the stream: its databases go with the next batch, its memory now."""
        cdef op_t* op
        if self.error == STORE_CLOSED:
            return
        self.store.end_reads()
        if self.cursor != NULL:
            mdb.cursor_close(self.cursor)
            self.cursor = NULL
        op = op_add(self.store.w, OP_DROP, self.db, 0, 0)
        if op == NULL:
            worker_fail(self.store.w, ENOMEM)
        self.db.drop_op = self.store.w.queued
        self.db.next_grave = self.store.w.graves
        self.store.w.graves = self.db
        self.db = NULL
        self.error = STORE_CLOSED
        self.store.streams.pop(self.name, None)
        seqset_clear(&self.present)
        subjects_clear(&self.subjects)
        self.msgs = self.bytes = 0
        self.hot_head = self.hot_end = 0

    # Opening.

    cdef int recover(self) except -1:
        """Read what the store holds of this stream, or queue the making of its databases."""
        cdef MDB_txn* txn
        cdef MDB_val k, v
        cdef state_head_t* head
        cdef bytes key = b"s/" + self.name
        cdef uint64_t known_last = 0
        cdef int64_t known_ts = 0
        cdef int rc
        cdef int rc2
        self.store.end_reads()
        with nogil:
            worker_lock_env(self.store.w)
        rc = mdb.txn_begin(self.store.env, NULL, MDB_RDONLY, &txn)
        if rc:
            worker_unlock_env(self.store.w)
            raise StoreError(f"stream {self.stream!r} can't be read: {lmdb_text(rc)}")
        k.size = len(key)
        k.data = <char*>key
        rc = mdb.get(txn, self.store.w.meta_dbi, &k, &v)
        if rc == 0:
            head = <state_head_t*>v.data
            if v.size >= sizeof(state_head_t) and head.crc == crc32c(0, <char*>v.data + 4, v.size - 4):
                known_last = head.last_seq
                known_ts = head.last_ts_ns
                self.removals = head.removals
            else:
                rc = RECORD_UNREADABLE
        if rc == 0:
            rc = streamdb_open(self.store.w, txn, self.db, 0)
        if rc == 0:
            with nogil:
                rc = self.scan(txn, self.last_seq + 1 if self.load_checkpoint(txn) else 0)
        rc2 = mdb.txn_commit(txn)       # an abort would close the handles
        worker_unlock_env(self.store.w)
        self.store.give_back()
        if rc == MDB_NOTFOUND:
            if op_add(self.store.w, OP_CREATE, self.db, 0, 0) == NULL:
                raise MemoryError
            return 0
        if rc or rc2:
            raise StoreError(f"stream {self.stream!r} of account {self.account!r} can't be read: "
                             + ("its own record is damaged" if rc == RECORD_UNREADABLE else lmdb_text(rc or rc2)))
        if known_last >= self.last_seq:
            self.last_seq = known_last
            self.last_ts_ns = known_ts
        if self.msgs == 0 and (self.last_seq or self.removals):
            self.first_seq = self.last_seq + 1
        self.db.last_seq = self.last_seq
        self.db.last_ts_ns = self.last_ts_ns
        self.db.removals = self.removals
        return 0

    cdef int scan(self, MDB_txn* txn, uint64_t start) noexcept nogil:
        """Take in the messages from start on. Bad ones are put aside."""
        cdef MDB_cursor* c
        cdef MDB_val k, v
        cdef stored_t m
        cdef uint64_t key = seq_to_key(start)
        cdef uint64_t seq
        cdef int bad
        cdef int rc = mdb.cursor_open(txn, self.db.msgs_dbi, &c)
        if rc:
            return rc
        k.size = 8
        k.data = &key
        rc = mdb.cursor_get(c, &k, &v, MDB_SET_RANGE)
        while rc == 0:
            seq = key_to_seq(k.data)
            bad = record_check_head(<char*>v.data, v.size, seq)
            self.store.note_read(v.data, min(v.size, <size_t>PAGE))
            if bad != RECORD_OK:
                self.quarantine(seq, bad, NULL)
                self.last_seq = seq
            else:
                record_view(<char*>v.data, &m)
                if not self.learn(seq, m.ts_ns, m.subject, m.subject_len,
                                  self.size_of(m.subject_len, m.hdr_len, m.msg_len)):
                    rc = ENOMEM
                    break
            self.checkpoint_due = True
            rc = mdb.cursor_get(c, &k, &v, MDB_NEXT)
        mdb.cursor_close(c)
        return 0 if rc == MDB_NOTFOUND else rc

    cdef bint load_checkpoint(self, MDB_txn* txn) noexcept nogil:
        """Take in the checkpoint, where there is one that still holds. False leaves everything empty."""
        cdef MDB_cursor* c
        cdef MDB_val k, v
        cdef char key[512]
        cdef size_t n = self.db.name_len + 7
        cdef checkpoint_head_t head
        cdef uint32_t parts = 0
        cdef int rc
        key[0] = b"k"
        key[1] = b"/"
        memcpy(key + 2, self.db.name, self.db.name_len)
        key[n - 5] = b"/"
        memset(key + n - 4, 0, 4)
        k.size = n
        k.data = key
        rc = mdb.cursor_open(txn, self.store.w.meta_dbi, &c)
        if rc:
            return False
        rc = mdb.cursor_get(c, &k, &v, MDB_SET_KEY)
        if rc or v.size != sizeof(head):
            mdb.cursor_close(c)
            return False
        memcpy(&head, v.data, sizeof(head))
        if head.crc != crc32c(0, <char*>v.data + 4, v.size - 4) or head.removals != self.removals:
            mdb.cursor_close(c)
            return False
        while parts < head.num_parts:
            rc = mdb.cursor_get(c, &k, &v, MDB_NEXT)
            if rc or k.size != n or memcmp(k.data, key, n - 4) != 0:
                break
            self.store.note_read(v.data, v.size)
            if not checkpoint_read(&self.present, &self.subjects, <char*>v.data, v.size):
                break
            parts += 1
        mdb.cursor_close(c)
        if parts != head.num_parts or self.present.count != head.msgs:
            seqset_clear(&self.present)
            subjects_clear(&self.subjects)
            return False
        self.msgs = head.msgs
        self.bytes = head.bytes
        self.last_seq = head.last_seq
        self.last_ts_ns = head.last_ts_ns
        self.first_seq = seqset_next(&self.present, 1) if self.msgs else self.last_seq + 1
        self.stale_first_ts = self.msgs > 0
        return True

    cdef bint save_checkpoint(self) noexcept nogil:
        """Queue a checkpoint of everything appended and removed so far, in place of the old one."""
        cdef checkpoint_writer_t w
        cdef checkpoint_head_t head
        cdef size_t n = self.db.name_len + 7
        w.w = self.store.w
        w.key[0] = b"k"
        w.key[1] = b"/"
        memcpy(w.key + 2, self.db.name, self.db.name_len)
        w.key[n - 5] = b"/"
        w.key_len = n
        w.parts = 0
        if not op_put(w.w, OP_META_DELETE_PREFIX, NULL, w.key, n - 4, NULL, 0):
            return False
        if not checkpoint_write(&self.present, &self.subjects, &queue_part, &w):
            return False
        memset(&head, 0, sizeof(head))
        head.num_parts = w.parts
        head.last_seq = self.last_seq
        head.last_ts_ns = self.last_ts_ns
        head.msgs = self.msgs
        head.bytes = self.bytes
        head.removals = self.removals
        head.crc = crc32c(0, <char*>&head + 4, sizeof(head) - 4)
        memset(w.key + n - 4, 0, 4)
        self.since_checkpoint = 0
        self.checkpoint_due = False
        return op_put(w.w, OP_META_PUT, NULL, w.key, n, <char*>&head, sizeof(head))

    def save_if_worth(self) -> bool:
        """Queue a checkpoint where it saves the next open more than it costs now."""
        if not self.checkpoint_due or self.msgs < CHECKPOINT_MSGS or self.subjects.count * 4 > self.msgs:
            return False
        return self.save_checkpoint()

    # What MsgStore asks for.

    cdef bint hot_room(self) noexcept nogil:
        """Room for one more message in the ring."""
        cdef hot_t* grown
        cdef uint64_t i
        while (self.hot_head != self.hot_end
               and arena_at(self.store.w, self.hot[self.hot_head & (self.hot_cap - 1)].pos) == NULL):
            self.hot_head += 1
        if self.hot_end - self.hot_head < self.hot_cap:
            return True
        grown = <hot_t*>realloc(NULL, max(self.hot_cap * 2, <uint64_t>16) * sizeof(hot_t))
        if grown == NULL:
            return False
        for i in range(self.hot_head, self.hot_end):
            grown[i & (max(self.hot_cap * 2, <uint64_t>16) - 1)] = self.hot[i & (self.hot_cap - 1)]
        free(self.hot)
        self.hot = grown
        self.hot_cap = max(self.hot_cap * 2, <uint64_t>16)
        return True

    cdef const char* hot_find(self, uint64_t seq) noexcept nogil:
        """The record, where it is still in the arena."""
        cdef uint64_t lo = self.hot_head
        cdef uint64_t hi = self.hot_end
        cdef uint64_t mask = self.hot_cap - 1
        cdef uint64_t mid
        cdef uint64_t last
        if lo == hi:
            return NULL
        last = self.hot[(hi - 1) & mask].seq
        if seq > last or seq < self.hot[lo & mask].seq:
            return NULL
        # Without gaps its place follows from the last one's; with gaps it lies behind that.
        if last - seq < hi - lo:
            lo = hi - 1 - (last - seq)
        while lo < hi:
            mid = lo if self.hot[lo & mask].seq == seq else (lo + hi) >> 1
            if self.hot[mid & mask].seq == seq:
                return arena_at(self.store.w, self.hot[mid & mask].pos)
            if self.hot[mid & mask].seq < seq:
                lo = mid + 1
            else:
                hi = mid
        return NULL

    cdef bint put(self, uint64_t seq, int64_t ts_ns, uint64_t prev, const char* subject, Py_ssize_t subject_len,
                  const char* hdr, Py_ssize_t hdr_len, const char* msg, Py_ssize_t msg_len) noexcept nogil:
        cdef worker_t* w = self.store.w
        cdef op_t* op
        if not self.store.working():
            self.error = STORE_FAILED
            return False
        if self.since_checkpoint > CHECKPOINT_BYTES and self.subjects.count <= CHECKPOINT_SUBJECTS:
            self.save_checkpoint()
        if not self.hot_room():
            return False
        op = op_add(w, OP_APPEND, self.db, seq, record_size(subject_len, hdr_len, msg_len))
        if op == NULL:
            return False
        record_write(op.data, seq, ts_ns, prev, subject, subject_len, hdr, hdr_len, msg, msg_len)
        self.hot[self.hot_end & (self.hot_cap - 1)].seq = seq
        self.hot[self.hot_end & (self.hot_cap - 1)].pos = w.pos
        self.hot_end += 1
        self.since_checkpoint += op.len
        self.checkpoint_due = True
        return True

    cdef int fetch(self, uint64_t seq, stored_t* out) noexcept nogil:
        cdef const char* rec
        if self.db == NULL:
            return RECORD_NOT_NOW
        rec = self.hot_find(seq)
        if rec == NULL:
            return self.fetch_cold(seq, out)
        record_view(rec, out)
        return RECORD_OK

    cdef int fetch_cold(self, uint64_t seq, stored_t* out) noexcept nogil:
        """From LMDB. A walk upwards takes the cursor's next record, anything else looks the key up."""
        cdef MDB_txn* txn = self.store.read_txn()
        cdef MDB_val k, v
        cdef uint64_t key
        cdef int rc = 0
        cdef int bad
        out.subject = NULL
        if txn == NULL or self.db.msgs_dbi == 0:
            return RECORD_NOT_NOW
        if self.cursor == NULL:
            rc = mdb.cursor_open(txn, self.db.msgs_dbi, &self.cursor)
        elif self.cursor_turn != self.store.turn:
            rc = mdb.cursor_renew(txn, self.cursor)
        if rc:
            return RECORD_NOT_NOW
        if self.cursor_turn != self.store.turn:
            self.cursor_turn = self.store.turn
            self.cursor_seq = 0
        rc = MDB_NOTFOUND
        if self.cursor_seq and seqset_next(&self.present, self.cursor_seq + 1) == seq:
            rc = mdb.cursor_get(self.cursor, &k, &v, MDB_NEXT)
        if rc != 0 or key_to_seq(k.data) != seq:
            key = seq_to_key(seq)
            k.size = 8
            k.data = &key
            rc = mdb.cursor_get(self.cursor, &k, &v, MDB_SET_KEY)
        self.cursor_seq = seq if rc == 0 else 0
        if rc == MDB_NOTFOUND:
            return RECORD_MISSING
        if rc:
            return RECORD_UNREADABLE
        self.store.note_read(v.data, v.size)
        bad = record_check_head(<char*>v.data, v.size, seq)
        if bad == RECORD_OK:
            record_view(<char*>v.data, out)
            bad = record_check_body(<char*>v.data)
        return bad

    cdef void queue_removal(self, uint32_t kind, uint64_t first, uint64_t last) noexcept nogil:
        """An operation that removes messages. Memory and disk must not part: without memory for it the store fails."""
        cdef op_t* op
        if not self.store.working():
            self.error = STORE_FAILED
            return
        op = op_add(self.store.w, kind, self.db, first, 0)
        if op == NULL:
            worker_fail(self.store.w, ENOMEM)
            self.error = STORE_FAILED
            return
        op.seq2 = last
        self.removals += kind != OP_LAST
        self.checkpoint_due = True

    cdef void erase(self, uint64_t seq) noexcept nogil:
        self.queue_removal(OP_DELETE, seq, seq)

    cdef void erase_range(self, uint64_t first, uint64_t last) noexcept nogil:
        self.queue_removal(OP_DELETE_RANGE, first, last)

    cdef void erase_all(self) noexcept nogil:
        self.hot_head = self.hot_end
        self.queue_removal(OP_CLEAR, 0, 0)

    cdef void note_last(self) noexcept nogil:
        self.queue_removal(OP_LAST, self.last_seq, <uint64_t>self.last_ts_ns)

    # Consumers.

    cdef bint queue_pair(self, uint32_t kind, const char* key, size_t key_len, const char* value,
                         size_t n) noexcept nogil:
        if key_len > MAX_KEY or self.db == NULL or not self.store.working():
            return False
        return op_put(self.store.w, kind, self.db, key, key_len, value, n)

    cdef bint consumer_put(self, const char* key, size_t key_len, const char* value, size_t n) noexcept nogil:
        return self.queue_pair(OP_CONSUMER_PUT, key, key_len, value, n)

    cdef bint consumer_delete(self, const char* key, size_t key_len) noexcept nogil:
        return self.queue_pair(OP_CONSUMER_DELETE, key, key_len, NULL, 0)

    cdef bint consumer_delete_prefix(self, const char* prefix, size_t n) noexcept nogil:
        return self.queue_pair(OP_CONSUMER_DELETE_PREFIX, prefix, n, NULL, 0)

    def consumer_items(self, bytes prefix=b"") -> list[tuple[bytes, bytes]]:
        """What consumers keep under keys with that prefix, as far as it is durable: for recovery."""
        if self.db == NULL or self.db.consumers_dbi == 0:
            return []
        return self.store.items(prefix, self.db.consumers_dbi)

    def consumer_put_bytes(self, bytes key, bytes value) -> bool:
        return self.consumer_put(key, len(key), value, len(value))

    def consumer_delete_bytes(self, bytes key) -> bool:
        return self.consumer_delete(key, len(key))

    def consumer_delete_prefix_bytes(self, bytes prefix) -> bool:
        return self.consumer_delete_prefix(prefix, len(prefix))

