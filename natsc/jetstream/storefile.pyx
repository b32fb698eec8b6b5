"""A store's file, opened to be looked at: by fsck, which must not change it, and by compact, which copies it.

Streams are read through as a server's start does it, but every byte of every record counts, and what is damaged is put
down in words. What is whole can then be read like any other MsgStore.

Invariants
1. The file isn't written: LMDB has it read-only and without its lock file; the caller has the store's own lock.
2. A page of nonsense, or one that isn't there, is an error here, not the end of the process.
"""

import os

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from natsc.jetstream.checkpoint cimport checkpoint_head_t, checkpoint_read
from natsc.jetstream.layout cimport (RECORD_MISSING, RECORD_OK, RECORD_SEALED, RECORD_UNREADABLE, STORE_FORMAT,
                                     crc32c, key_to_seq, record_check_body, record_check_head, record_view, seq_to_key,
                                     state_head_t, stored_t)
from natsc.jetstream.layout import RECORD_REASONS
from natsc.jetstream.lmdb cimport (MDB_CORRUPTED, MDB_CP_COMPACT, MDB_NEXT, MDB_NOLOCK, MDB_NOTFOUND, MDB_NOTLS,
                                   MDB_RDONLY, MDB_SET_RANGE, MDB_cursor, MDB_dbi, MDB_envinfo, MDB_txn, MDB_val,
                                   cursor_get_trapped, cursor_open_trapped, find_map, mdb, note_map, readable,
                                   trap_assert, trapped, trapped_any)
from natsc.jetstream.lmdb import load as load_lmdb
from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.seqset cimport seqset_has, seqset_next
from natsc.jetstream.store import StoreError, data_path, key_file, lmdb_text
from natsc.jetstream.subjectstate cimport subject_iter_t, subject_t, subjects_find, subjects_next
from natsc.jetstream.syncpoint import check_meta_pages
from natsc.jetstream.vault cimport Vault

cdef enum:
    DATABASES_MAX = 16384
    OPENED_MAX = 16
    PROBLEMS_MAX = 1000         # put down of one stream
    WHOLE = 1 << 31             # of a record's bytes, so many must be readable


class FileError(Exception):
    """The file can't be read at all; the text says why."""


cdef struct call_t:
    MDB_txn* txn
    const char* name
    MDB_dbi dbi
    int fd
    void* env


cdef int call_open(void* arg) noexcept nogil:
    cdef call_t* c = <call_t*>arg
    return mdb.dbi_open(c.txn, c.name, 0, &c.dbi)


cdef int call_copy(void* arg) noexcept nogil:
    cdef call_t* c = <call_t*>arg
    return mdb.env_copyfd2(<MDB_env*>c.env, c.fd, MDB_CP_COMPACT)


cdef struct get_t:
    MDB_txn* txn
    MDB_dbi dbi
    MDB_val key
    MDB_val value


cdef int call_get(void* arg) noexcept nogil:
    """A record, as long as it was found whole it still is."""
    cdef get_t* g = <get_t*>arg
    return mdb.get(g.txn, g.dbi, &g.key, &g.value)


cdef class StoreFile:
    """directory: where data.mdb is. vault: what opens what is encrypted; or see unlock. Raises FileError."""

    def __init__(self, directory: str, Vault vault=None):
        cdef MDB_envinfo info
        cdef bytes where = os.fsencode(directory)
        cdef int rc
        load_lmdb()
        self.vault = vault
        self.path = data_path(directory)
        try:
            check_meta_pages(directory, strict=False)
        except StoreError as error:
            raise FileError(str(error)) from None
        rc = mdb.env_create(&self.env)
        if rc == 0:
            mdb.env_set_maxdbs(self.env, DATABASES_MAX)
            rc = mdb.env_open(self.env, where, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0o600)
        if rc == 0:
            mdb.env_set_assert(self.env, trap_assert)
            mdb.env_info(self.env, &info)
            rc = mdb.txn_begin(self.env, NULL, MDB_RDONLY, &self.txn)
        if rc == 0:
            try:
                rc = find_map(self.env, self.database(b"meta", True), &self.map)
            except KeyError:
                rc = MDB_NOTFOUND
        if rc == MDB_NOTFOUND:
            raise FileError(f"{self.path} is no store of natsc")
        if rc:
            raise FileError(f"{self.path} can't be opened: {lmdb_text(rc)}")
        if not note_map(NULL, self.map, info.mapsize):
            self.map = NULL
            raise FileError("too many stores are open in this process")

    def close(self) -> None:
        if self.txn != NULL:
            mdb.txn_abort(self.txn)
            self.txn = NULL
        if self.env != NULL:
            if self.map != NULL:
                note_map(self.map, NULL, 0)
            mdb.env_close(self.env)
            self.env = NULL

    def __dealloc__(self):
        self.close()

    cdef bint renew(self) noexcept:
        """After an error, which makes a transaction useless."""
        mdb.txn_reset(self.txn)
        return mdb.txn_renew(self.txn) == 0

    cdef MDB_dbi database(self, bytes name, bint unmapped=False) except? 0:
        """The handle of a database; None for the main one. Raises KeyError, FileError. unmapped: the map isn't known."""
        cdef call_t c
        cdef int rc
        c.name = NULL
        if name is not None:
            c.name = name
        # A handle outlives the transaction that opened it only where that was committed.
        mdb.txn_reset(self.txn)
        rc = mdb.txn_begin(self.env, NULL, MDB_RDONLY, &c.txn)
        if rc == 0:
            rc = trapped_any(&call_open, &c) if unmapped else trapped(&call_open, &c)
            if rc:
                mdb.txn_abort(c.txn)
            else:
                rc = mdb.txn_commit(c.txn)
        if mdb.txn_renew(self.txn):
            raise FileError(f"{self.path} can't be read any more")
        if rc == MDB_NOTFOUND:
            raise KeyError(name)
        if rc:
            raise FileError(f"the database {name!r} can't be opened: {lmdb_text(rc)}")
        return c.dbi

    def items(self, bytes name, bytes prefix=b"") -> tuple[list[tuple[bytes, bytes]], str]:
        """What a database (None: the main one) has under keys with that prefix, and what kept it from being read on."""
        cdef MDB_dbi dbi = self.database(name)
        cdef MDB_cursor* c
        cdef MDB_val k, v
        cdef int rc = cursor_open_trapped(self.txn, dbi, &c)
        cdef list found = []
        if rc:
            return found, lmdb_text(rc)
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
        if rc == 0 or rc == MDB_NOTFOUND:
            return found, ""
        self.renew()
        return found, lmdb_text(rc)

    def meta(self, bytes prefix) -> tuple[list[tuple[bytes, bytes]], str]:
        return self.items(b"meta", prefix)

    def unlock(self, key: str, old_key: str = "") -> None:
        """Open the store's own key, where it has one, with the configured one. Raises FileError."""
        from natsc.jetstream.storekey import open_kept
        items, _ = self.meta(b"key")
        copies = [value for name, value in items if name == b"key"] + key_file(os.path.dirname(self.path))
        if not copies:
            return
        if not key:
            raise FileError(f"{self.path} is encrypted: give its key with --key-file, or the server's configuration with -c")
        try:
            own, _ = open_kept(copies, key, old_key, self.identity()[1])
        except StoreError as error:
            raise FileError(f"{self.path} can't be opened: {error}") from None
        self.vault = Vault(own, "chacha")       # the cipher of what would be sealed

    def kept(self) -> tuple[dict[bytes, bytes], list[str]]:
        """What the store's own database has, under plain keys, and what is wrong with it. Checkpoints stay encrypted."""
        items, error = self.meta(b"")
        problems = [f"its own database can't be read to the end: {error}"] if error else []
        if self.vault is None:
            return dict(items), problems
        found = {}
        for key, value in items:
            if key.startswith((b"u/", b"q/")):
                plain = self.vault.open(b"M" + key, value)
                if plain is None:
                    problems.append(f"what it has under {key!r} doesn't decrypt")
                    continue
                value = plain
                if key.startswith(b"u/"):
                    n = 2 + int.from_bytes(plain[:2], "little")
                    key, value = b"u/" + plain[2:n], plain[n:]
            found[key] = value
        return found, problems

    def consumer_items(self, bytes name) -> tuple[list[tuple[bytes, bytes]], list[str]]:
        """What a stream's consumers keep, under plain keys, and what is wrong with it. Raises KeyError, FileError."""
        items, error = self.items(b"c/" + name)
        problems = [f"its consumers can't be read to the end: {error}"] if error else []
        if self.vault is None:
            return items, problems
        found = []
        for key, value in items:
            plain = self.vault.open(b"c" + name + b"\0" + key, value)
            if plain is None:
                problems.append(f"what its consumers have under {key!r} doesn't decrypt")
                continue
            n = 2 + int.from_bytes(plain[:2], "little")
            found.append((plain[2:n], plain[n:]))
        return found, problems

    def identity(self) -> tuple[int, str]:
        """The store's format and its id. Raises FileError where it is no store, or one of another format."""
        kept = dict(self.meta(b"")[0])
        version = int.from_bytes(kept.get(b"format", b""), "little")
        if version != STORE_FORMAT:
            raise FileError(f"{self.path} has format {version}, and this natsc knows {STORE_FORMAT}")
        return version, kept.get(b"id", b"").hex()

    def copy_compact(self, int fd) -> None:
        """Write a copy without free pages. Raises FileError."""
        cdef call_t c
        cdef int rc
        c.env = self.env
        c.fd = fd
        with nogil:
            rc = trapped(&call_copy, &c)
        if rc:
            raise FileError(f"{self.path} can't be copied: {lmdb_text(rc)}")


cdef class StoredStream(MsgStore):
    """One stream of a file, read through at once.

    name: encoded, as in the key of its own record, which is value.
    """

    def __init__(self, StoreFile file not None, bytes name not None, bytes value not None):
        cdef state_head_t head
        self.is_file = True
        self.file = file
        self.name = name
        self.problems = []
        self.opened = []
        if len(value) >= <Py_ssize_t>sizeof(head):
            memcpy(&head, <char*>value, sizeof(head))
            self.has_head = head.crc == crc32c(0, <char*>value + 4, len(value) - 4)
        label = value[sizeof(head):]
        if file.vault is not None:
            label = file.vault.open(b"s" + name, label)
        if label is None:
            self.has_head = False
            label = b"\0" + name
        account, _, stream = label.partition(b"\0")
        self.account = account.decode("utf-8", "surrogateescape")
        self.stream = stream.decode("utf-8", "surrogateescape")
        if not self.has_head:
            self.problems.append("its own record is damaged")
        try:
            self.dbi = file.database(b"m/" + name)
        except KeyError:
            self.problems.append("its messages are missing")
            return
        except FileError as error:
            self.problems.append(str(error))
            return
        self.read_through()
        if self.has_head:
            if head.last_seq > self.last_seq:
                self.last_seq = head.last_seq
                self.last_ts_ns = head.last_ts_ns
            self.removals = head.removals
            if self.msgs == 0 and (self.last_seq or self.removals):
                self.first_seq = self.last_seq + 1
            self.check_checkpoint()

    def put_down(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)
        elif len(self.problems) == PROBLEMS_MAX:
            self.problems.append("and more")

    cdef void note_bad(self, uint64_t seq, int reason):
        self.damaged += 1
        self.put_down(f"message {seq}: {RECORD_REASONS[reason]}")

    def read_through(self) -> None:
        """Check every record, and count in what is whole."""
        cdef MDB_cursor* c
        cdef MDB_val k, v
        cdef uint64_t start = 0, seq, key
        cdef int rc
        while True:
            rc = cursor_open_trapped(self.file.txn, self.dbi, &c)
            if rc:
                self.put_down(lmdb_text(rc))
                return
            key = seq_to_key(start)
            k.size = 8
            k.data = &key
            rc = cursor_get_trapped(c, &k, &v, MDB_SET_RANGE, WHOLE)
            while rc == 0:
                if k.size != 8 or key_to_seq(k.data) < start:
                    rc = MDB_CORRUPTED          # keys out of order
                    break
                seq = key_to_seq(k.data)
                start = seq + 1
                self.take(seq, &v, 0)
                rc = cursor_get_trapped(c, &k, &v, MDB_NEXT, WHOLE)
            mdb.cursor_close(c)
            if rc == MDB_NOTFOUND:
                return
            self.file.renew()
            seq = self.resume_after(start)
            if seq == 0:
                self.put_down(f"from message {start} on: {RECORD_REASONS[RECORD_UNREADABLE]}")
                return
            self.damaged += seq - start
            self.put_down(f"messages {start} to {seq - 1}: {RECORD_REASONS[RECORD_UNREADABLE]}")
            start = seq

    cdef int open_record(self, uint64_t seq, MDB_val* v) except -1:
        """Decrypt a record, where the store is encrypted: RECORD_OK, or why it can't be used."""
        cdef uint64_t key = seq_to_key(seq)
        if self.file.vault is None:
            return RECORD_OK
        plain = self.file.vault.open(b"m" + self.name + b"\0" + (<char*>&key)[:8], (<char*>v.data)[:v.size])
        if plain is None:
            return RECORD_SEALED
        if len(self.opened) >= OPENED_MAX:
            del self.opened[0]
        self.opened.append(plain)
        v.data = <char*>plain
        v.size = len(plain)
        return RECORD_OK

    cdef int take(self, uint64_t seq, MDB_val* v, uint64_t previous) except -1:
        """Check one record; it is counted in if it is whole."""
        cdef stored_t m
        cdef subject_t* e
        cdef int bad = self.open_record(seq, v)
        if bad == RECORD_OK:
            bad = record_check_head(<char*>v.data, v.size, seq)
        if bad == RECORD_OK:
            bad = record_check_body(<char*>v.data)
        if bad != RECORD_OK:
            self.note_bad(seq, bad)
            return 0
        record_view(<char*>v.data, &m)
        e = subjects_find(&self.subjects, m.subject, m.subject_len)
        previous = e.last if e != NULL else 0
        if m.prev >= seq or (m.prev and m.prev < previous) or (m.prev > previous and seqset_has(&self.present, m.prev)):
            self.put_down(f"message {seq}: it names {m.prev} as the one before it on its subject, which is {previous}")
        if not self.learn(seq, m.ts_ns, m.subject, m.subject_len, self.size_of(m.subject_len, m.hdr_len, m.msg_len)):
            raise MemoryError
        return 0

    cdef uint64_t resume_after(self, uint64_t start):
        """The first message behind pages that can't be read; 0 = there is none."""
        cdef MDB_cursor* c
        cdef MDB_val k, v
        cdef uint64_t key, probe = start, step = 1, low = start, high = 0, found = 0
        cdef int rc
        while high == 0 or low < high:
            if cursor_open_trapped(self.file.txn, self.dbi, &c):
                return 0
            key = seq_to_key(probe)
            k.size = 8
            k.data = &key
            rc = cursor_get_trapped(c, &k, &v, MDB_SET_RANGE, WHOLE)
            if rc == 0 and k.size == 8 and key_to_seq(k.data) >= probe:
                high = probe
                found = key_to_seq(k.data)
            else:
                low = probe + 1
            mdb.cursor_close(c)
            if rc == MDB_NOTFOUND and high == 0:
                return 0
            if rc:
                self.file.renew()
            if high == 0:
                if step > <uint64_t>1 << 62:
                    return 0
                step *= 2
                probe = start + step
            else:
                probe = low + ((high - low) >> 1)
        return found

    def check_checkpoint(self) -> None:
        """The checkpoint, where there is one that a start would use, must say what the messages say."""
        cdef checkpoint_head_t head
        cdef StoredStream kept
        cdef subject_iter_t it
        cdef subject_t* e
        cdef subject_t* mine
        cdef uint64_t seq
        cdef bytes value
        items, error = self.file.meta(b"k/" + self.name + b"/")
        if error:
            self.put_down(f"checkpoint: {error}")
            return
        if self.file.vault is not None:
            items = [(key, self.file.vault.open(b"M" + key, value) or b"") for key, value in items]
        if not items or len(items[0][1]) != sizeof(head):
            return
        value = items[0][1]
        memcpy(&head, <char*>value, sizeof(head))
        if head.crc != crc32c(0, <char*>value + 4, len(value) - 4) or head.removals != self.removals:
            return      # a start doesn't use it
        kept = StoredStream.__new__(StoredStream)
        for _, value in items[1:]:
            if not checkpoint_read(&kept.present, &kept.subjects, <char*>value, len(value)):
                self.put_down("checkpoint: a part of it is damaged")
                return
        if <uint32_t>(len(items) - 1) != head.num_parts or kept.present.count != head.msgs:
            self.put_down("checkpoint: it isn't all there")
            return
        seq = seqset_next(&kept.present, 1)
        while seq:
            if not seqset_has(&self.present, seq) and not self.damaged:
                self.put_down(f"checkpoint: message {seq} is missing")
                return
            seq = seqset_next(&kept.present, seq + 1)
        seq = seqset_next(&self.present, 1)
        while seq and seq <= head.last_seq:
            if not seqset_has(&kept.present, seq):
                self.put_down(f"checkpoint: message {seq} isn't in it")
                return
            seq = seqset_next(&self.present, seq + 1)
        it.block = it.unit = it.done = 0
        while not it.done:
            e = subjects_next(&kept.subjects, &it, NULL, 0, 0x7FFFFFFFFFFFFFFF)
            mine = subjects_find(&self.subjects, e.text, e.len) if e != NULL else NULL
            if e != NULL and not self.damaged and (mine == NULL or mine.count < e.count):
                self.put_down(f"checkpoint: the number of messages on {e.text[:e.len]!r} is wrong")
                return

    cdef int fetch(self, uint64_t seq, stored_t* out) noexcept nogil:
        """A message that was found whole."""
        cdef get_t g
        cdef uint64_t key = seq_to_key(seq)
        out.subject = NULL
        g.txn = self.file.txn
        g.dbi = self.dbi
        g.key.size = 8
        g.key.data = &key
        if trapped(&call_get, &g) or not readable(g.value.data, g.value.size):
            return RECORD_MISSING
        if self.file.vault is not None:
            with gil:
                return self.view_sealed(seq, &g.value, out)
        record_view(<char*>g.value.data, out)
        return RECORD_OK

    cdef int view_sealed(self, uint64_t seq, MDB_val* v, stored_t* out) noexcept:
        cdef int bad = self.open_record(seq, v)
        if bad == RECORD_OK:
            record_view(<char*>v.data, out)
        return bad
