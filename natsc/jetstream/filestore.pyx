"""One stream in file storage.

What was appended is found in the worker's arena for as long as it is there (`hot`, a ring of sequences and positions),
and in LMDB afterwards, through one cursor a stream that is renewed with the turn's read transaction.

At open, the messages are scanned: heads only, 40 to 60 ns each. A checkpoint of sequences and subjects spares that for
what it covers. It holds as long as no message was removed since: it names the number of removals that it knows of, and
a stream's own record in meta has the present one.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from natsc.jetstream.checkpoint cimport checkpoint_head_t, checkpoint_read, checkpoint_write
from natsc.jetstream.failpoint cimport FAIL_CHECKPOINT, failpoint
from natsc.jetstream.layout cimport (MAX_KEY, MAX_NAME, RECORD_MISSING, RECORD_NOT_NOW, RECORD_OK, RECORD_SEALED,
                                     RECORD_UNREADABLE, crc32c, key_to_seq, record_check_body, record_check_head, record_seal,
                                     record_size, record_view, record_write, seq_to_key, state_head_t, stored_t)
from natsc.jetstream.layout import with_checksum, without_checksum
from natsc.jetstream.lmdb cimport (MDB_CORRUPTED, MDB_LAST, MDB_NEXT, MDB_NOTFOUND, MDB_RDONLY, MDB_SET_KEY, MDB_SET_RANGE,
                                   MDB_cursor, MDB_stat, MDB_txn, MDB_val, cursor_get_trapped, cursor_open_trapped,
                                   cursor_renew_trapped, leaf_whole, mdb, readable, trapped)
from natsc.jetstream.msgstore cimport STORE_CLOSED, STORE_FAILED, MsgStore
from natsc.jetstream.seqset cimport seqset_clear, seqset_next
from natsc.jetstream.store cimport Store
from natsc.jetstream.store import StoreError, lmdb_text
from natsc.jetstream.subjectstate cimport subjects_clear, subjects_reserve
from natsc.jetstream.worker cimport (OP_APPEND, OP_CLEAR, OP_CONSUMER_DELETE, OP_CONSUMER_DELETE_PREFIX,
                                     OP_CONSUMER_PUT, OP_CREATE, OP_DELETE, OP_DELETE_RANGE, OP_DROP, OP_LAST,
                                     OP_META_DELETE_PREFIX, OP_META_PUT, arena_at, op_add, op_put, op_t, streamdb_new,
                                     streamdb_open, streamdb_t, worker_durable, worker_fail, worker_lock_env, worker_t,
                                     worker_unlock_env)

cdef extern from *:
    """
    /* The pages of a stream mostly follow each other, but no processor looks ahead beyond the end of one. */
    static inline void prefetch_next_page(const char *p, size_t n) {
        size_t i;
        for (i = 0; i < n && i < 2048; i += 64)
            __builtin_prefetch(p + 4096 + i);
    }
    """
    void prefetch_next_page(const char* p, size_t n) noexcept nogil

cdef enum:
    SCAN_READ = 4096        # of a long record, a scan touches about that much
    HEAD_MAX = 65600        # a record's head and subject
    WHOLE = 1 << 31
    HASH_SIZE = 16
    RESERVE_AT = 65536      # subjects, when a scan considers how many there will be
    LOST_REPORTED = 65536   # sequences reported of one damaged range
    CHECKPOINT_BYTES = 67108864         # appended, before a stream writes a checkpoint on its own
    CHECKPOINT_SUBJECTS = 16384         # and it does so only below that many subjects: it happens on the loop
    CHECKPOINT_MSGS = 10000             # a stream with fewer messages is scanned instead

cdef struct checkpoint_writer_t:
    void* store
    char key[512]
    size_t key_len          # with the part's number, the last 4 bytes
    uint32_t parts


cdef struct opening_t:
    worker_t* w
    MDB_txn* txn
    streamdb_t* db
    MDB_val key             # of the stream's own record
    state_head_t state


cdef int find_stream(void* arg) noexcept nogil:
    """Read a stream's own record and open its databases. MDB_NOTFOUND where there is neither."""
    cdef opening_t* o = <opening_t*>arg
    cdef MDB_val v
    cdef int rc = mdb.get(o.txn, o.w.meta_dbi, &o.key, &v)
    if rc == MDB_NOTFOUND:
        rc = streamdb_open(o.w, o.txn, o.db, 0)
        return RECORD_UNREADABLE if rc == 0 else rc
    if rc:
        return rc
    if v.size < sizeof(state_head_t) or not readable(v.data, v.size):
        return RECORD_UNREADABLE
    memcpy(&o.state, v.data, sizeof(state_head_t))
    if o.state.crc != crc32c(0, <char*>v.data + 4, v.size - 4):
        return RECORD_UNREADABLE
    return streamdb_open(o.w, o.txn, o.db, 0)


cdef bint queue_part(void* ctx, const char* part, size_t n) noexcept with gil:
    """Parts are numbered from 1, big-endian; the head is number 0."""
    cdef checkpoint_writer_t* out = <checkpoint_writer_t*>ctx
    cdef char* number = out.key + out.key_len - 4
    out.parts += 1
    number[0] = <char>(out.parts >> 24)
    number[1] = <char>(out.parts >> 16)
    number[2] = <char>(out.parts >> 8)
    number[3] = <char>out.parts
    return (<Store>out.store).put_value(OP_META_PUT, NULL, out.key, out.key_len, part, n)


cdef class FileStore(MsgStore):
    """One stream's messages: a MsgStore. Made by Store.open_stream."""

    def __cinit__(self, Store store not None, account: str, stream: str):
        cdef bytes label = f"{account}\0{stream}".encode("utf-8", "surrogateescape")
        self.is_file = True
        self.store = store
        self.account = account
        self.stream = stream
        self.name = store.name_of(account, stream)
        if store.vault is not None:
            label = store.vault.seal(b"s" + self.name, label)
        if len(self.name) > MAX_NAME:
            raise StoreError(f"the name {stream!r} is too long")
        self.db = streamdb_new(self.name, len(self.name), label, len(label))
        if self.db == NULL:
            raise MemoryError
        self.recover()
        self.opened = True

    def __dealloc__(self):
        # From its opening on, a stream's databases are the store's to free: when it closes, or when their drop is
        # durable.
        if not self.opened:
            free(self.db)
        free(self.hot)

    def forget_databases(self) -> None:
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
        cdef opening_t o
        cdef bytes key = b"s/" + self.name
        cdef int rc
        if self.store.dropping(self.name):
            return self.make()
        self.store.end_reads()
        memset(&o, 0, sizeof(o))
        o.w = self.store.w
        o.db = self.db
        o.key.size = len(key)
        o.key.data = <char*>key
        with nogil:
            worker_lock_env(self.store.w)
        rc = mdb.txn_begin(self.store.env, NULL, MDB_RDONLY, &o.txn)
        if rc == 0:
            rc = trapped(&find_stream, &o)
            if rc == 0:
                rc = mdb.txn_commit(o.txn)      # an abort would close the handles
            else:
                mdb.txn_abort(o.txn)
        if rc == 0:
            self.removals = o.state.removals
            rc = mdb.txn_begin(self.store.env, NULL, MDB_RDONLY, &txn)
            if rc == 0:
                with nogil:
                    rc = self.check_end(txn)
                    if rc == 0:
                        rc = self.scan(txn, self.last_seq + 1 if self.load_checkpoint(txn) else 0)
                mdb.txn_abort(txn)
        worker_unlock_env(self.store.w)
        self.store.give_back()
        if rc == MDB_NOTFOUND:
            return self.make()
        if rc:
            raise StoreError(f"stream {self.stream!r} of account {self.account!r} can't be read: "
                             + ("its own record is damaged" if rc == RECORD_UNREADABLE else lmdb_text(rc)))
        if o.state.last_seq >= self.last_seq:
            self.last_seq = o.state.last_seq
            self.last_ts_ns = o.state.last_ts_ns
        if self.msgs == 0 and (self.last_seq or self.removals):
            self.first_seq = self.last_seq + 1
        self.db.last_seq = self.last_seq
        self.db.last_ts_ns = self.last_ts_ns
        self.db.removals = self.removals
        return self.recall_damage()

    cdef int make(self) except -1:
        """Queue the making of the stream's databases."""
        if op_add(self.store.w, OP_CREATE, self.db, 0, 0) == NULL:
            raise MemoryError
        self.create_op = self.store.w.queued
        return 0

    cdef int check_end(self, MDB_txn* txn) noexcept nogil:
        """Whether messages can be appended. An error where the last page is damaged, which would be changed by it."""
        cdef MDB_cursor* c
        cdef MDB_val k, v
        cdef int rc = cursor_open_trapped(txn, self.db.msgs_dbi, &c)
        if rc:
            return rc
        rc = cursor_get_trapped(c, &k, &v, MDB_LAST, 0)
        if rc == 0 and not leaf_whole(k.data, self.store.w.page_size):
            rc = MDB_CORRUPTED
        mdb.cursor_close(c)
        return 0 if rc == MDB_NOTFOUND else rc

    cdef int scan(self, MDB_txn* txn, uint64_t start) noexcept nogil:
        """Take in the messages from start on. Bad ones, and those on pages that can't be read, are put aside.

        An error where the end can't be read: with the last sequence unknown, the next could be one that was given
        before.
        """
        cdef MDB_cursor* c
        cdef MDB_stat stat
        cdef MDB_val k, v
        cdef stored_t m
        cdef uint64_t key
        cdef uint64_t seq
        cdef int bad
        cdef int rc
        cdef bint sealed = self.store.w.sealed
        while True:
            rc = cursor_open_trapped(txn, self.db.msgs_dbi, &c)
            if rc:
                return rc
            mdb.stat(txn, self.db.msgs_dbi, &stat)
            key = seq_to_key(start)
            k.size = 8
            k.data = &key
            rc = cursor_get_trapped(c, &k, &v, MDB_SET_RANGE, SCAN_READ)
            while rc == 0:
                seq = key_to_seq(k.data) if k.size == 8 else 0
                if seq < start:
                    rc = MDB_CORRUPTED          # keys out of order
                    break
                start = seq + 1
                bad = RECORD_UNREADABLE
                if v.size <= SCAN_READ or readable(v.data, v.size if sealed else min(v.size, <size_t>HEAD_MAX)):
                    self.store.note_read(v.data, v.size if sealed else min(v.size, <size_t>SCAN_READ))
                    bad = self.open_record(seq, &v)
                    if bad == RECORD_OK:
                        bad = record_check_head(<char*>v.data, v.size, seq)
                self.checkpoint_due = True
                if bad != RECORD_OK:
                    self.quarantine(seq, bad, NULL)
                    self.last_seq = seq
                else:
                    record_view(<char*>v.data, &m)
                    if not self.learn(seq, m.ts_ns, m.subject, m.subject_len,
                                      self.size_of(m.subject_len, m.hdr_len, m.msg_len)):
                        mdb.cursor_close(c)
                        return ENOMEM
                    if self.subjects.count == RESERVE_AT and self.msgs < 2 * RESERVE_AT:
                        # About every message has a subject of its own.
                        subjects_reserve(&self.subjects, stat.entries // self.msgs * RESERVE_AT)
                rc = cursor_get_trapped(c, &k, &v, MDB_NEXT, SCAN_READ)
            mdb.cursor_close(c)
            if rc == MDB_NOTFOUND:
                return 0
            mdb.txn_reset(txn)
            rc = mdb.txn_renew(txn)
            if rc == 0:
                rc = self.skip_damage(txn, start, &start)
            if rc:
                return rc

    cdef int skip_damage(self, MDB_txn* txn, uint64_t start, uint64_t* resume) noexcept nogil:
        """The records from start on can't be read: find the next one that can. An error where there is none."""
        cdef MDB_cursor* c
        cdef MDB_val k, v
        cdef uint64_t key
        cdef uint64_t probe = start
        cdef uint64_t step = 1
        cdef uint64_t low = start
        cdef uint64_t high = 0
        cdef int rc
        while high == 0 or low < high:
            rc = cursor_open_trapped(txn, self.db.msgs_dbi, &c)
            if rc:
                return rc
            key = seq_to_key(probe)
            k.size = 8
            k.data = &key
            rc = cursor_get_trapped(c, &k, &v, MDB_SET_RANGE, 0)
            if rc == 0 and (k.size != 8 or key_to_seq(k.data) < probe):
                rc = MDB_CORRUPTED
            if rc == 0:
                high = probe
                resume[0] = key_to_seq(k.data)
            else:
                low = probe + 1
            mdb.cursor_close(c)
            if rc == MDB_NOTFOUND and high == 0:
                return MDB_CORRUPTED            # the damage reaches the end
            if rc:
                mdb.txn_reset(txn)              # an error makes a transaction useless
                rc = mdb.txn_renew(txn)
                if rc:
                    return rc
            if high == 0:
                if step > <uint64_t>1 << 62:
                    return MDB_CORRUPTED
                step *= 2
                probe = start + step
            else:
                probe = low + ((high - low) >> 1)
        for key in range(start, min(resume[0], start + LOST_REPORTED)):
            self.quarantine(key, RECORD_UNREADABLE, NULL)
        return 0

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
        rc = cursor_open_trapped(txn, self.store.w.meta_dbi, &c)
        if rc:
            return False
        rc = cursor_get_trapped(c, &k, &v, MDB_SET_KEY, WHOLE)
        if rc or not self.store.open_value(NULL, key, n, &v) or v.size != sizeof(head):
            mdb.cursor_close(c)
            return False
        memcpy(&head, v.data, sizeof(head))
        if head.crc != crc32c(0, <char*>v.data + 4, v.size - 4) or head.removals != self.removals:
            mdb.cursor_close(c)
            return False
        while parts < head.num_parts:
            rc = cursor_get_trapped(c, &k, &v, MDB_NEXT, WHOLE)
            if rc or k.size != n or memcmp(k.data, key, n - 4) != 0:
                break
            self.store.note_read(v.data, v.size)
            if not self.store.open_value(NULL, <char*>k.data, n, &v):
                break
            if not checkpoint_read(&self.present, &self.subjects, <char*>v.data, v.size):
                break
            parts += 1
        mdb.cursor_close(c)
        if rc and rc != MDB_NOTFOUND:
            mdb.txn_reset(txn)
            mdb.txn_renew(txn)
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
        w.store = <void*>self.store
        w.key[0] = b"k"
        w.key[1] = b"/"
        memcpy(w.key + 2, self.db.name, self.db.name_len)
        w.key[n - 5] = b"/"
        w.key_len = n
        w.parts = 0
        if not op_put(self.store.w, OP_META_DELETE_PREFIX, NULL, w.key, n - 4, NULL, 0):
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
        failpoint(FAIL_CHECKPOINT)
        self.since_checkpoint = 0
        self.checkpoint_due = False
        return self.store.put_value(OP_META_PUT, NULL, w.key, n, <char*>&head, sizeof(head))

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
        grown = <hot_t*>malloc(max(self.hot_cap * 2, <uint64_t>16) * sizeof(hot_t))
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
        if w.sealed:
            with gil:
                op = self.add_sealed(seq, ts_ns, prev, subject, subject_len, hdr, hdr_len, msg, msg_len)
        else:
            op = op_add(w, OP_APPEND, self.db, seq, record_size(subject_len, hdr_len, msg_len))
            if op != NULL:
                record_write(op.data, seq, ts_ns, prev, subject, subject_len, hdr, hdr_len, msg, msg_len)
        if op == NULL:
            return False
        op.seq2 = <uint64_t>ts_ns
        self.hot[self.hot_end & (self.hot_cap - 1)].seq = seq
        self.hot[self.hot_end & (self.hot_cap - 1)].pos = w.pos
        self.hot_end += 1
        self.since_checkpoint += op.len
        self.checkpoint_due = True
        return True

    cdef op_t* add_sealed(self, uint64_t seq, int64_t ts_ns, uint64_t prev, const char* subject, Py_ssize_t subject_len,
                          const char* hdr, Py_ssize_t hdr_len, const char* msg, Py_ssize_t msg_len) noexcept:
        """Queue a record for an encrypted store: first as it is, for those who read it while it is hot, then sealed."""
        cdef size_t n = record_size(subject_len, hdr_len, msg_len)
        cdef size_t gap = (n + 7) & ~<size_t>7
        cdef uint64_t key = seq_to_key(seq)
        cdef bytes record = PyBytes_FromStringAndSize(NULL, n)
        cdef bytes sealed
        cdef op_t* op
        record_write(record, seq, ts_ns, prev, subject, subject_len, hdr, hdr_len, msg, msg_len)
        record_seal(record)
        sealed = self.store.vault.seal(b"m" + self.name + b"\0" + (<char*>&key)[:8], record)
        op = op_add(self.store.w, OP_APPEND, self.db, seq, gap + len(sealed))
        if op != NULL:
            memcpy(op.data, <char*>record, n)
            op.data += gap
            op.len = <uint32_t>len(sealed)
            memcpy(op.data, <char*>sealed, len(sealed))
        return op

    cdef int fetch(self, uint64_t seq, stored_t* out) noexcept nogil:
        cdef const char* rec
        if self.db == NULL:
            return RECORD_NOT_NOW
        rec = self.hot_find(seq)
        if rec == NULL:
            return self.fetch_cold(seq, out)
        record_view(rec, out)
        return RECORD_OK

    cdef int look_up(self, MDB_txn* txn, MDB_val* k, MDB_val* v, bint damaged) noexcept nogil:
        """Put the cursor on a key; on a fresh one if that fails, for the damage may be where the old one stood."""
        cdef MDB_val key = k[0]
        cdef int rc
        if not damaged:
            rc = cursor_get_trapped(self.cursor, k, v, MDB_SET_KEY, WHOLE)
            if rc == 0 or rc == MDB_NOTFOUND:
                return rc
        mdb.cursor_close(self.cursor)
        self.cursor = NULL
        if not self.store.renew_read():
            return RECORD_NOT_NOW
        self.cursor_turn = self.store.turn
        rc = cursor_open_trapped(txn, self.db.msgs_dbi, &self.cursor)
        if rc:
            self.cursor = NULL
            return RECORD_NOT_NOW
        k[0] = key
        rc = cursor_get_trapped(self.cursor, k, v, MDB_SET_KEY, WHOLE)
        if rc and rc != MDB_NOTFOUND:
            mdb.cursor_close(self.cursor)
            self.cursor = NULL
            self.store.renew_read()
        return rc

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
        if self.cursor != NULL and self.cursor_turn != self.store.turn:
            rc = cursor_renew_trapped(txn, self.cursor)
            if rc:
                mdb.cursor_close(self.cursor)
                self.cursor = NULL
        if self.cursor == NULL:
            rc = cursor_open_trapped(txn, self.db.msgs_dbi, &self.cursor)
        if rc:
            return RECORD_NOT_NOW
        if self.cursor_turn != self.store.turn:
            self.cursor_turn = self.store.turn
            self.cursor_seq = 0
        rc = MDB_NOTFOUND
        if self.cursor_seq and seqset_next(&self.present, self.cursor_seq + 1) == seq:
            rc = cursor_get_trapped(self.cursor, &k, &v, MDB_NEXT, WHOLE)
        if rc != 0 or k.size != 8 or key_to_seq(k.data) != seq:
            key = seq_to_key(seq)
            k.size = 8
            k.data = &key
            rc = self.look_up(txn, &k, &v, rc != 0 and rc != MDB_NOTFOUND)
        elif v.size <= 2048:
            prefetch_next_page(<char*>v.data, v.size)
        self.cursor_seq = seq if rc == 0 else 0
        if rc == MDB_NOTFOUND:
            return RECORD_MISSING
        if rc == RECORD_NOT_NOW:
            return RECORD_NOT_NOW
        if rc:
            return RECORD_UNREADABLE
        self.store.note_read(v.data, v.size)
        bad = self.open_record(seq, &v)
        if bad == RECORD_OK:
            bad = record_check_head(<char*>v.data, v.size, seq)
        if bad == RECORD_OK:
            record_view(<char*>v.data, out)
            bad = record_check_body(<char*>v.data)
        if bad != RECORD_OK:
            self.store.found_damage = True
        return bad

    cdef int open_record(self, uint64_t seq, MDB_val* v) noexcept nogil:
        """Decrypt a record, where the store is encrypted."""
        cdef uint64_t key = seq_to_key(seq)
        return RECORD_OK if self.store.open_value(self.db, <char*>&key, 8, v) else RECORD_SEALED

    # Damage.

    def take_lost(self) -> list[tuple[int, str]]:
        """What was found damaged since the last time. All of it is written down for the next open."""
        cdef uint32_t since = self.told
        if self.num_lost == since or self.db == NULL:
            return []
        self.told = self.num_lost
        found = {self.lost_seqs[i]: self.lost_reasons[i] for i in range(min(self.num_lost, <uint32_t>LOST_REPORTED))}
        value = with_checksum(b"".join(seq.to_bytes(8, "little") + bytes([found[seq]]) for seq in sorted(found)))
        key = b"q/" + self.name
        if self.store.working():
            self.store.put_value(OP_META_PUT, NULL, key, len(key), value, len(value))
        return self.lost[since:]

    cdef int recall_damage(self) except -1:
        """Look at once at the records that were found damaged earlier, so that they don't count."""
        cdef stored_t m
        cdef uint64_t seq
        key = b"q/" + self.name
        known = {self.lost_seqs[i] for i in range(self.num_lost)}
        for found, value in self.store.items(key):
            if found != key:
                continue
            try:
                kept = without_checksum(self.store.open_bytes(b"M" + key, value) or b"")
            except ValueError:
                continue                # each will be found again when it is read
            for i in range(0, len(kept), 9):
                seq = int.from_bytes(kept[i:i + 8], "little")
                if self.has(seq):
                    self.get(seq, &m)
                elif seq >= self.first_seq and seq not in known:
                    self.quarantine(seq, kept[i + 8], NULL)
        self.store.end_reads()
        self.store.found_damage = self.store.found_damage or self.num_lost > 0
        return 0

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

    cdef void erase_but(self, const stored_t* m) noexcept nogil:
        # Slices stay readable until the end of the turn: m may be one of what is dropped.
        self.erase_all()
        if self.error == 0 and not self.put(m.seq, m.ts_ns, 0, m.subject, m.subject_len, m.hdr, m.hdr_len, m.msg,
                                            m.msg_len):
            worker_fail(self.store.w, ENOMEM)   # memory and disk must not part
            self.error = STORE_FAILED

    cdef void note_last(self) noexcept nogil:
        self.queue_removal(OP_LAST, self.last_seq, <uint64_t>self.last_ts_ns)

    # Consumers.

    cdef bint queue_pair(self, uint32_t kind, const char* key, size_t key_len, const char* value,
                         size_t n) noexcept nogil:
        if key_len > MAX_KEY or self.db == NULL or not self.store.working():
            return False
        if self.store.w.sealed:
            with gil:
                return self.queue_sealed(kind, key[:key_len], value[:n])
        return op_put(self.store.w, kind, self.db, key, key_len, value, n)

    cdef bytes hidden_key(self, bytes key):
        """A consumer's key in an encrypted store: what identifies the consumer, up to the first NUL or all, is a hash."""
        head, nul, rest = key.partition(b"\0")
        return self.store.vault.hide(b"c" + self.name + b"\0" + head) + nul + rest

    cdef bint queue_sealed(self, uint32_t kind, bytes key, bytes value) noexcept:
        cdef bytes hidden = self.hidden_key(key)
        if kind != OP_CONSUMER_PUT:
            return op_put(self.store.w, kind, self.db, hidden, len(hidden), NULL, 0)
        return self.store.put_sealed(kind, self.db, hidden, len(key).to_bytes(2, "little") + key + value)

    def sealed_items(self, bytes prefix) -> list[tuple[bytes, bytes]]:
        """consumer_items of an encrypted store. A value that doesn't decrypt is an empty one of an unknown name."""
        found = []
        hidden = self.hidden_key(prefix) if b"\0" in prefix else b""
        for key, value in self.store.items(hidden, self.db.consumers_dbi):
            plain = self.store.open_bytes(b"c" + self.name + b"\0" + key, value)
            if plain is None:
                if b"\0" not in prefix and b"\0" not in key[HASH_SIZE:]:
                    found.append((prefix + key.hex().encode(), b""))
                continue
            n = 2 + int.from_bytes(plain[:2], "little")
            if plain[2:n].startswith(prefix):
                found.append((plain[2:n], plain[n:]))
        return sorted(found)

    cdef bint consumer_put(self, const char* key, size_t key_len, const char* value, size_t n) noexcept nogil:
        return self.queue_pair(OP_CONSUMER_PUT, key, key_len, value, n)

    cdef bint consumer_delete(self, const char* key, size_t key_len) noexcept nogil:
        return self.queue_pair(OP_CONSUMER_DELETE, key, key_len, NULL, 0)

    cdef bint consumer_delete_prefix(self, const char* prefix, size_t n) noexcept nogil:
        return self.queue_pair(OP_CONSUMER_DELETE_PREFIX, prefix, n, NULL, 0)

    def consumer_items(self, bytes prefix=b"") -> list[tuple[bytes, bytes]]:
        """What consumers keep under keys with that prefix, as far as it is durable: for recovery."""
        if self.db == NULL or worker_durable(self.store.w) < self.create_op:
            return []
        if self.store.vault is not None:
            return self.sealed_items(prefix)
        return self.store.items(prefix, self.db.consumers_dbi)

    def consumer_put_bytes(self, bytes key, bytes value) -> bool:
        return self.consumer_put(key, len(key), value, len(value))

    def consumer_delete_bytes(self, bytes key) -> bool:
        return self.consumer_delete(key, len(key))

    def consumer_delete_prefix_bytes(self, bytes prefix) -> bool:
        return self.consumer_delete_prefix(prefix, len(prefix))
