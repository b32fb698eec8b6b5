"""The storage worker.

The loop appends operations to a queue, with their bytes in an arena, and publishes the queue's end once a turn. The
worker takes whatever is published, applies it in one write transaction, commits (which syncs), stores the number of the
last operation in `durable` and wakes the loop. While one commit runs the next batch forms: that is the group commit,
and it needs no timer.

Errors: where anything fails, the transaction is given up and the worker stops for good. `durable` does not move any
more, so nothing that failed is ever acknowledged, and nothing is tried again: after a failed sync the kernel may have
dropped the pages, and a second one would report success. Only a full map is not an error, as long as it can be made
larger.

The arena is a line of units of 256 KiB. What was appended stays readable there until it is durable, and then for as
long as hot_units allows: consumers that keep up never touch LMDB. A position on the line stays comparable for ever, so
that "is it still there" is one comparison.

Invariants:
1. Operations are applied in the order of the queue, and those of one turn in one transaction.
2. A block of operations is freed only once the worker is in a later one; a stretch of the arena only once every
   operation that points into it is durable.
3. Handles of databases are opened and dropped by the worker only, or by the loop while it holds env_lock.
"""

from libc.errno cimport EIO, ENOMEM
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from natsc.jetstream.failpoint cimport (FAIL_COMMIT_APPLIED, FAIL_COMMIT_BEGIN, FAIL_COMMIT_DONE, FAIL_COMMIT_REPORTED,
                                        FAIL_ENLARGE, FAIL_SYNC, FAIL_SYNCED, failpoint)
from natsc.jetstream.bell cimport (bell_clear, bell_close, bell_open, bell_ring, bell_wait, monotonic_ns, mutex_free,
                                   mutex_new, pthread_mutex_lock, pthread_mutex_unlock, thread_join, thread_start)
from natsc.jetstream.layout cimport (STORE_FORMAT, crc32c, record_seal, seq_to_key, key_to_seq, state_head_t)
from natsc.jetstream.lmdb cimport (MDB_APPEND, MDB_CORRUPTED, MDB_CREATE, MDB_LAST, MDB_MAP_FULL, MDB_NEXT, MDB_NOTFOUND,
                                   MDB_RDONLY, MDB_SET_KEY, MDB_SET_RANGE, TRAPPED_ASSERT, TRAPPED_FAULT, MDB_cursor, MDB_dbi,
                                   MDB_envinfo, MDB_txn, MDB_val, find_map, leaf_whole, mdb, note_map, trapped)
from natsc.jetstream.syncpoint cimport syncpoint_write

cdef extern from *:
    """
    #include <stdint.h>
    #include <sys/mman.h>

    static inline uint64_t load64(uint64_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline void store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
    static inline uint32_t load32(uint32_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline void store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
    static inline int load_int(int *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline void store_int(int *p, int v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }

    /* Whether that much more address space is to be had. */
    static int space_left(size_t n) {
        void *p = mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0);
        if (p == MAP_FAILED)
            return 0;
        munmap(p, n);
        return 1;
    }
    """
    uint64_t load64(uint64_t*) noexcept nogil
    void store64(uint64_t*, uint64_t) noexcept nogil
    uint32_t load32(uint32_t*) noexcept nogil
    void store32(uint32_t*, uint32_t) noexcept nogil
    int load_int(int*) noexcept nogil
    void store_int(int*, int) noexcept nogil
    bint space_left(size_t) noexcept nogil

cdef enum:
    UNIT = 262144           # 1 << UNIT_SHIFT
    GROWTH_MAX = 67108864   # by which a file may grow between two syncs: nothing that was freed since is used again
    KEY_BUFFER = 512


# Queue and arena: the loop's side.

cdef worker_t* worker_new() noexcept nogil:
    """A worker that does not run yet; NULL where memory or file descriptors are out."""
    cdef worker_t* w = <worker_t*>calloc(1, sizeof(worker_t))
    if w == NULL:
        return NULL
    w.wake_fd[0] = w.wake_fd[1] = w.done_fd[0] = w.done_fd[1] = -1
    w.synced_fd = -1
    w.first_block = <opblock_t*>calloc(1, sizeof(opblock_t))
    w.first_block_op = 1
    w.last_block = w.first_block
    w.work_block = w.first_block
    w.units = <char**>calloc(64, sizeof(char*))
    w.units_mask = 63
    w.hot_units = 32
    w.env_lock = mutex_new()
    w.map_lock = mutex_new()
    if (w.first_block == NULL or w.units == NULL or w.env_lock == NULL or w.map_lock == NULL
            or bell_open(w.wake_fd) != 0 or bell_open(w.done_fd) != 0):
        worker_free(w)
        return NULL
    return w


cdef void worker_free(worker_t* w) noexcept nogil:
    """Free a worker that has stopped. The environment must be closed already."""
    cdef opblock_t* b
    cdef stretch_t* s
    cdef streamdb_t* g
    cdef void* u
    while w.first_block != NULL:
        b = w.first_block
        w.first_block = b.next
        free(b)
    while w.first_stretch != NULL:
        s = w.first_stretch
        w.first_stretch = s.next
        free(s.data)
        free(s)
    while w.pool != NULL:
        u = w.pool
        w.pool = (<void**>u)[0]
        free(u)
    while w.graves != NULL:
        g = w.graves
        w.graves = g.next_grave
        free(g)
    free(w.units)
    bell_close(w.wake_fd)
    bell_close(w.done_fd)
    mutex_free(w.env_lock)
    mutex_free(w.map_lock)
    free(w)


cdef char* arena_grow(worker_t* w, size_t n) noexcept nogil:
    """A new stretch with room for n bytes at its start."""
    cdef uint64_t num_units = (n + UNIT - 1) >> UNIT_SHIFT
    cdef uint64_t i
    cdef char** grown
    cdef stretch_t* s
    while w.end_unit + num_units - w.floor_unit > w.units_mask + 1:
        grown = <char**>calloc((w.units_mask + 1) * 2, sizeof(char*))
        if grown == NULL:
            return NULL
        for i in range(w.floor_unit, w.end_unit):
            grown[i & (w.units_mask * 2 + 1)] = w.units[i & w.units_mask]
        free(w.units)
        w.units = grown
        w.units_mask = w.units_mask * 2 + 1
    s = <stretch_t*>calloc(1, sizeof(stretch_t))
    if s == NULL:
        return NULL
    if num_units == 1 and w.pool != NULL:
        s.data = <char*>w.pool
        w.pool = (<void**>w.pool)[0]
        w.pool_count -= 1
    else:
        s.data = <char*>malloc(num_units << UNIT_SHIFT)
    if s.data == NULL:
        free(s)
        return NULL
    s.first_unit = w.end_unit
    s.num_units = num_units
    for i in range(num_units):
        w.units[(w.end_unit + i) & w.units_mask] = s.data + (i << UNIT_SHIFT)
    w.end_unit += num_units
    if w.last_stretch != NULL:
        w.last_stretch.last_op = w.queued
        w.last_stretch.next = s
    else:
        w.first_stretch = s
    w.last_stretch = s
    w.used = 0
    return s.data


cdef void bell_clear_done(worker_t* w) noexcept nogil:
    """Take note that done_fd was readable. Before worker_durable(), or a commit in between would go unseen."""
    bell_clear(w.done_fd)


cdef void worker_evict(worker_t* w) noexcept nogil:
    """Give up the oldest stretches whose operations are durable, beyond the hot ones. At the end of a turn only."""
    cdef stretch_t* s = w.first_stretch
    while (s != NULL and w.end_unit - w.floor_unit > w.hot_units
           and (s.last_op if s.next != NULL else w.queued) <= w.seen):
        w.first_stretch = s.next
        if s.next == NULL:
            w.last_stretch = NULL
        w.floor_unit = s.first_unit + s.num_units
        if s.num_units == 1 and w.pool_count < POOL_MAX:
            (<void**>s.data)[0] = w.pool
            w.pool = s.data
            w.pool_count += 1
        else:
            free(s.data)
        free(s)
        s = w.first_stretch


cdef op_t* op_add(worker_t* w, uint32_t kind, streamdb_t* stream, uint64_t seq, size_t bytes) noexcept nogil:
    """Queue an operation with that many bytes for the caller to fill in. NULL where memory is out."""
    cdef uint64_t i = (w.queued + 1 - w.first_block_op) & (OPS_PER_BLOCK - 1)
    cdef opblock_t* block = w.last_block
    cdef op_t* op
    cdef char* data = NULL
    cdef size_t n = (bytes + 7) & ~<size_t>7
    if i == 0 and w.queued + 1 != w.first_block_op and block.next == NULL:
        block.next = <opblock_t*>calloc(1, sizeof(opblock_t))
        if block.next == NULL:
            return NULL
    if n:
        if w.last_stretch == NULL or w.used + n > w.last_stretch.num_units << UNIT_SHIFT:
            if arena_grow(w, n) == NULL:
                return NULL
        data = w.last_stretch.data + w.used
        w.pos = (w.last_stretch.first_unit << UNIT_SHIFT) + w.used
        w.used += n
        w.total += n
    if block.next != NULL:
        block = block.next
        w.last_block = block
    op = &block.ops[i]
    w.queued += 1
    op.kind = kind
    op.key_len = 0
    op.len = <uint32_t>bytes
    op.stream = stream
    op.seq = seq
    op.seq2 = 0
    op.data = data
    op.total = w.total
    return op


cdef bint op_put(worker_t* w, uint32_t kind, streamdb_t* stream, const char* key, size_t key_len, const char* value,
                 size_t len) noexcept nogil:
    """Queue an operation with a key and a value, which are copied."""
    cdef op_t* op = op_add(w, kind, stream, 0, key_len + len)
    if op == NULL:
        return False
    memcpy(op.data, key, key_len)
    if len:
        memcpy(op.data + key_len, value, len)
    op.key_len = <uint32_t>key_len
    op.len = <uint32_t>len
    return True


cdef uint64_t worker_submit(worker_t* w) noexcept nogil:
    """Hand over what is queued. The batch's id: it is durable once worker_durable() says as much or more."""
    if w.published != w.queued:
        store64(&w.published, w.queued)
        if load32(&w.sleeping):
            bell_ring(w.wake_fd)
    return w.queued


cdef uint64_t worker_durable(worker_t* w) noexcept nogil:
    """The last durable operation. Frees what only waited for it."""
    cdef opblock_t* b = w.first_block
    cdef streamdb_t** link = &w.graves
    cdef streamdb_t* g
    cdef uint64_t durable = load64(&w.durable)
    cdef uint64_t k
    if durable == w.seen:
        return durable
    w.seen = durable
    while w.first_block_op + OPS_PER_BLOCK <= durable:
        b = w.first_block
        w.first_block = b.next
        w.first_block_op += OPS_PER_BLOCK
        free(b)
    k = durable - w.first_block_op
    w.durable_total = w.first_block.ops[k].total if k < OPS_PER_BLOCK else w.total
    while link[0] != NULL:
        g = link[0]
        if g.drop_op <= durable:
            link[0] = g.next_grave
            free(g)
        else:
            link = &g.next_grave
    return durable


cdef int worker_failed(worker_t* w) noexcept nogil:
    """0, or why the worker stopped."""
    return load_int(&w.failed)


cdef void worker_fail(worker_t* w, int rc) noexcept nogil:
    """The loop's side can't go on: an operation could not even be queued. What is durable stays so."""
    if load_int(&w.failed) == 0:
        w.failed_in = b"queue"
        store_int(&w.failed, rc)
        bell_ring(w.done_fd)


cdef void worker_lock_env(worker_t* w) noexcept nogil:
    pthread_mutex_lock(w.env_lock)


cdef void worker_unlock_env(worker_t* w) noexcept nogil:
    pthread_mutex_unlock(w.env_lock)


cdef void worker_lock_map(worker_t* w) noexcept nogil:
    pthread_mutex_lock(w.map_lock)


cdef void worker_unlock_map(worker_t* w) noexcept nogil:
    pthread_mutex_unlock(w.map_lock)


# Streams' databases.

cdef streamdb_t* streamdb_new(const char* name, size_t name_len, const char* label, size_t label_len) noexcept nogil:
    cdef streamdb_t* s = <streamdb_t*>calloc(1, sizeof(streamdb_t) + name_len + label_len + 1)
    if s == NULL:
        return NULL
    s.name = <char*>s + sizeof(streamdb_t)
    memcpy(s.name, name, name_len)
    memcpy(s.name + name_len, label, label_len)
    s.name_len = <uint32_t>name_len
    s.label_len = <uint32_t>label_len
    return s


cdef size_t stream_key(streamdb_t* s, char prefix, char* out) noexcept nogil:
    """`<prefix>/<name>` with a NUL behind it. out has KEY_BUFFER bytes."""
    out[0] = prefix
    out[1] = b"/"
    memcpy(out + 2, s.name, s.name_len)
    out[2 + s.name_len] = 0
    return 2 + s.name_len


cdef int streamdb_open(worker_t* w, MDB_txn* txn, streamdb_t* s, unsigned int flags) noexcept nogil:
    """Open a stream's databases in a transaction; flags may be MDB_CREATE."""
    cdef char key[KEY_BUFFER]
    cdef MDB_dbi msgs = 0
    cdef MDB_dbi consumers = 0
    cdef int rc
    stream_key(s, b"m", key)
    rc = mdb.dbi_open(txn, key, flags, &msgs)
    if rc:
        return rc
    key[0] = b"c"
    rc = mdb.dbi_open(txn, key, flags, &consumers)
    if rc:
        return rc
    s.msgs_dbi = msgs
    s.consumers_dbi = consumers
    s.opened = True
    return 0


# The worker's side: one transaction.

cdef int touch(worker_t* w, MDB_txn* txn, streamdb_t* s) noexcept nogil:
    """The stream takes part in this transaction."""
    if not s.touched:
        s.touched = True
        s.opened = False
        s.dropped = False
        s.state_dirty = False
        s.cursor = NULL
        s.undo[0] = s.last_seq
        s.undo[1] = <uint64_t>s.last_ts_ns
        s.undo[2] = s.removals
        s.next_touched = w.touched
        w.touched = s
    if s.msgs_dbi == 0:
        return streamdb_open(w, txn, s, MDB_CREATE)
    return 0


cdef void untouch(worker_t* w, bint undo) noexcept nogil:
    """The transaction is over."""
    cdef streamdb_t* s = w.touched
    while s != NULL:
        s.touched = False
        s.cursor = NULL
        if undo:
            s.last_seq = s.undo[0]
            s.last_ts_ns = <int64_t>s.undo[1]
            s.removals = s.undo[2]
            if s.opened or s.dropped:
                s.msgs_dbi = 0
                s.consumers_dbi = 0
        s = s.next_touched
    w.touched = NULL


cdef int delete_at(worker_t* w, MDB_cursor* c, MDB_val* k) noexcept nogil:
    """Delete where the cursor stands, at key k. On a damaged page nothing is changed any more: that is counted."""
    if not leaf_whole(k.data, w.page_size):
        store64(&w.skipped, w.skipped + 1)
        return 0
    return mdb.cursor_del(c, 0)


cdef int delete_key(worker_t* w, MDB_txn* txn, MDB_dbi dbi, const char* key, size_t n) noexcept nogil:
    cdef MDB_cursor* c
    cdef MDB_val k, v
    cdef int rc = mdb.cursor_open(txn, dbi, &c)
    if rc:
        return rc
    k.size = n
    k.data = <void*>key
    rc = mdb.cursor_get(c, &k, &v, MDB_SET_KEY)
    if rc == 0:
        rc = delete_at(w, c, &k)
    mdb.cursor_close(c)
    return 0 if rc == MDB_NOTFOUND else rc


cdef int delete_range(worker_t* w, MDB_txn* txn, MDB_dbi dbi, uint64_t first, uint64_t last) noexcept nogil:
    cdef MDB_cursor* c
    cdef MDB_val k, v
    cdef uint64_t key = seq_to_key(first)
    cdef int rc = mdb.cursor_open(txn, dbi, &c)
    if rc:
        return rc
    k.size = 8
    k.data = &key
    rc = mdb.cursor_get(c, &k, &v, MDB_SET_RANGE)
    while rc == 0 and k.size == 8 and key_to_seq(k.data) <= last:
        rc = delete_at(w, c, &k)
        if rc == 0:
            rc = mdb.cursor_get(c, &k, &v, MDB_NEXT)
    mdb.cursor_close(c)
    return 0 if rc == MDB_NOTFOUND else rc


cdef int delete_prefix(worker_t* w, MDB_txn* txn, MDB_dbi dbi, const char* prefix, size_t n) noexcept nogil:
    cdef MDB_cursor* c
    cdef MDB_val k, v
    cdef int rc = mdb.cursor_open(txn, dbi, &c)
    if rc:
        return rc
    k.size = n
    k.data = <void*>prefix
    rc = mdb.cursor_get(c, &k, &v, MDB_SET_RANGE)
    while rc == 0 and k.size >= n and memcmp(k.data, prefix, n) == 0:
        rc = delete_at(w, c, &k)
        if rc == 0:
            rc = mdb.cursor_get(c, &k, &v, MDB_NEXT)
    mdb.cursor_close(c)
    return 0 if rc == MDB_NOTFOUND else rc


cdef int append_record(worker_t* w, MDB_txn* txn, op_t* op) noexcept nogil:
    cdef streamdb_t* s = op.stream
    cdef uint64_t key = seq_to_key(op.seq)
    cdef MDB_val k, v
    cdef int rc
    if s.cursor == NULL:
        rc = mdb.cursor_open(txn, s.msgs_dbi, &s.cursor)
        if rc:
            return rc
        rc = mdb.cursor_get(s.cursor, &k, &v, MDB_LAST)
        if rc == 0 and not leaf_whole(k.data, w.page_size):
            rc = MDB_CORRUPTED
        if rc and rc != MDB_NOTFOUND:
            return rc
    if not w.sealed:
        record_seal(op.data)
    k.size = 8
    k.data = &key
    v.size = op.len
    v.data = op.data
    s.last_seq = op.seq
    s.last_ts_ns = <int64_t>op.seq2
    return mdb.cursor_put(s.cursor, &k, &v, MDB_APPEND)


cdef int drop_stream(worker_t* w, MDB_txn* txn, streamdb_t* s) noexcept nogil:
    cdef char key[KEY_BUFFER]
    cdef size_t n
    cdef int rc
    if s.cursor != NULL:
        mdb.cursor_close(s.cursor)
        s.cursor = NULL
    s.dropped = True
    rc = mdb.drop(txn, s.msgs_dbi, 1)
    if rc == 0:
        rc = mdb.drop(txn, s.consumers_dbi, 1)
    if rc:
        return rc
    n = stream_key(s, b"s", key)
    rc = delete_key(w, txn, w.meta_dbi, key, n)
    if rc:
        return rc
    key[0] = b"q"
    rc = delete_key(w, txn, w.meta_dbi, key, n)
    if rc:
        return rc
    key[0] = b"k"
    key[n] = b"/"
    return delete_prefix(w, txn, w.meta_dbi, key, n + 1)


cdef int put_pair(MDB_txn* txn, MDB_dbi dbi, op_t* op) noexcept nogil:
    cdef MDB_val k, v
    k.size = op.key_len
    k.data = op.data
    v.size = op.len
    v.data = op.data + op.key_len
    return mdb.put(txn, dbi, &k, &v, 0)


cdef int apply_to_stream(worker_t* w, MDB_txn* txn, op_t* op) noexcept nogil:
    """Any operation that names a stream."""
    cdef streamdb_t* s = op.stream
    cdef uint64_t key
    cdef int rc = touch(w, txn, s)
    if rc:
        return rc
    if op.kind == OP_APPEND:
        return append_record(w, txn, op)
    if op.kind == OP_CONSUMER_PUT:
        return put_pair(txn, s.consumers_dbi, op)
    if op.kind == OP_CONSUMER_DELETE:
        return delete_key(w, txn, s.consumers_dbi, op.data, op.key_len)
    if op.kind == OP_CONSUMER_DELETE_PREFIX:
        return delete_prefix(w, txn, s.consumers_dbi, op.data, op.key_len)
    if op.kind == OP_DROP:
        return drop_stream(w, txn, s)
    s.state_dirty = True
    if op.kind == OP_LAST:
        s.last_seq = max(s.last_seq, op.seq)
        if s.last_ts_ns == 0:
            s.last_ts_ns = <int64_t>op.seq2
        return 0
    if op.kind == OP_CREATE:
        return 0
    s.removals += 1
    if op.kind == OP_DELETE:
        key = seq_to_key(op.seq)
        return delete_key(w, txn, s.msgs_dbi, <char*>&key, 8)
    if op.kind == OP_DELETE_RANGE:
        return delete_range(w, txn, s.msgs_dbi, op.seq, op.seq2)
    return mdb.drop(txn, s.msgs_dbi, 0)


cdef int apply_op(worker_t* w, MDB_txn* txn, op_t* op) noexcept nogil:
    if op.stream != NULL:
        return apply_to_stream(w, txn, op)
    if op.kind == OP_META_PUT:
        return put_pair(txn, w.meta_dbi, op)
    if op.kind == OP_META_DELETE:
        return delete_key(w, txn, w.meta_dbi, op.data, op.key_len)
    return delete_prefix(w, txn, w.meta_dbi, op.data, op.key_len)


cdef int put_state(worker_t* w, MDB_txn* txn, streamdb_t* s) noexcept nogil:
    """Write a stream's own record: what its messages alone would not tell."""
    cdef char key[KEY_BUFFER]
    cdef MDB_val k, v
    cdef state_head_t* head
    cdef int rc
    k.size = stream_key(s, b"s", key)
    k.data = key
    v.size = sizeof(state_head_t) + s.label_len
    v.data = malloc(v.size)
    if v.data == NULL:
        return ENOMEM
    head = <state_head_t*>v.data
    head.format = STORE_FORMAT
    head.last_seq = s.last_seq
    head.last_ts_ns = s.last_ts_ns
    head.removals = s.removals
    memcpy(<char*>v.data + sizeof(state_head_t), s.name + s.name_len, s.label_len)
    head.crc = crc32c(0, <char*>v.data + 4, v.size - 4)
    rc = mdb.put(txn, w.meta_dbi, &k, &v, 0)
    free(v.data)
    return rc


cdef int apply_all(worker_t* w, MDB_txn* txn, uint64_t last) noexcept nogil:
    """Apply the operations after w.done, up to last."""
    cdef opblock_t* b = w.work_block
    cdef uint64_t n
    cdef uint64_t i
    cdef streamdb_t* s
    cdef int rc
    for n in range(w.done, last):           # operation n + 1 has index n
        i = n & (OPS_PER_BLOCK - 1)
        if i == 0 and n > 0:
            b = b.next
        rc = apply_op(w, txn, &b.ops[i])
        if rc:
            return rc
    s = w.touched
    while s != NULL:
        if s.cursor != NULL:
            mdb.cursor_close(s.cursor)
            s.cursor = NULL
        if s.state_dirty and not s.dropped:
            rc = put_state(w, txn, s)
            if rc:
                return rc
        s = s.next_touched
    w.work_block = b
    return 0


cdef int sync(void* arg) noexcept nogil:
    """Everything committed is put on disk, and is what the store goes back to, should the machine stop. In a trap."""
    cdef worker_t* w = <worker_t*>arg
    cdef MDB_txn* pin
    cdef MDB_envinfo info
    cdef int rc
    w.failed_in = b"sync"
    if w.synced_fd < 0:
        return mdb.env_sync(w.env, 1)
    rc = mdb.txn_begin(w.env, NULL, MDB_RDONLY, &pin)
    if rc:
        return rc
    rc = mdb.env_sync(w.env, 1)
    if rc == 0:
        failpoint(FAIL_SYNCED)
        rc = syncpoint_write(w.synced_fd, w.synced_count, w.boot, w.map, w.page_size)
    if rc:
        mdb.txn_abort(pin)
        return rc
    w.synced_count += 1
    if w.pin != NULL:
        mdb.txn_abort(w.pin)
    w.pin = pin
    mdb.env_info(w.env, &info)
    w.synced_pages = info.last_pgno
    return 0


cdef int worker_sync(worker_t* w) noexcept nogil:
    """sync() in a trap. By the worker, or before it runs. 0 or what failed."""
    cdef int rc = trapped(&sync, w)
    if rc == TRAPPED_ASSERT or rc == TRAPPED_FAULT:
        w.stuck = True
    return rc


cdef bint has_grown(worker_t* w) noexcept nogil:
    """Whether the file has become so much larger since the last sync that it is time for one."""
    cdef MDB_envinfo info
    if w.pin == NULL:
        return False
    mdb.env_info(w.env, &info)
    return (info.last_pgno - w.synced_pages) * w.page_size > GROWTH_MAX


cdef int enlarge(worker_t* w) noexcept nogil:
    """Double the map. No transaction is open: not the worker's, and map_lock keeps the loop from having one."""
    cdef uint64_t size = w.map_size * 2
    cdef char* moved
    cdef int rc
    if not space_left(size - w.map_size):
        return MDB_MAP_FULL
    failpoint(FAIL_ENLARGE)
    if w.pin != NULL:
        rc = sync(w)                    # so that giving up the pin for a moment, with no write in it, gives up nothing
        if rc:
            return rc
        mdb.txn_reset(w.pin)
    pthread_mutex_lock(w.map_lock)
    rc = mdb.env_set_mapsize(w.env, size)
    if rc == 0 and w.pin != NULL:
        rc = mdb.txn_renew(w.pin)
    if rc == 0:
        w.map_size = size
        rc = find_map(w.env, w.meta_dbi, &moved)
    if rc == 0:
        note_map(w.map, moved, size)
        w.map = moved
    else:
        w.unmapped = True
    pthread_mutex_unlock(w.map_lock)
    return rc


cdef int commit(worker_t* w, uint64_t last) noexcept nogil:
    """Everything up to operation last in one transaction. 0 or what failed, as w.failed_in says."""
    cdef MDB_txn* txn
    cdef opblock_t* block = w.work_block
    cdef int rc
    while True:
        failpoint(FAIL_COMMIT_BEGIN)
        w.failed_in = b"begin"
        rc = mdb.txn_begin(w.env, NULL, 0, &txn)
        if rc:
            return rc
        w.failed_in = b"write"
        rc = apply_all(w, txn, last)
        if rc == 0:
            failpoint(FAIL_COMMIT_APPLIED)
            w.failed_in = b"commit"
            rc = mdb.txn_commit(txn)
        else:
            mdb.txn_abort(txn)
        untouch(w, rc != 0)
        if rc == 0:
            w.done = last
            w.commits += 1
            return 0
        w.work_block = block
        if rc != MDB_MAP_FULL:
            return rc
        w.failed_in = b"enlarge"
        rc = enlarge(w)
        if rc:
            return rc


cdef int commit_published(void* arg) noexcept nogil:
    cdef worker_t* w = <worker_t*>arg
    return commit(w, w.taking)


cdef void fail(worker_t* w, int rc) noexcept nogil:
    store_int(&w.failed, rc if rc else EIO)
    bell_ring(w.done_fd)


cdef void* worker_run(void* arg) noexcept nogil:
    """The thread: until it is told to stop, or something fails."""
    cdef worker_t* w = <worker_t*>arg
    cdef uint64_t last
    cdef uint64_t synced_ns = monotonic_ns()
    cdef uint64_t now
    cdef bint unsynced = False
    cdef int timeout
    cdef int rc
    while True:
        last = load64(&w.published)
        if load_int(&w.failed):
            return NULL
        if last != w.done:
            pthread_mutex_lock(w.env_lock)
            w.taking = last
            rc = trapped(&commit_published, w)
            pthread_mutex_unlock(w.env_lock)
            w.stuck = rc == TRAPPED_ASSERT or rc == TRAPPED_FAULT
            if rc:
                fail(w, rc)
                return NULL
            failpoint(FAIL_COMMIT_DONE)
            unsynced = w.nosync
            store64(&w.durable, last)
            bell_ring(w.done_fd)
            failpoint(FAIL_COMMIT_REPORTED)
        elif load32(&w.stopping):
            break
        timeout = -1
        if unsynced and w.sync_interval_ns:
            now = monotonic_ns()
            if now - synced_ns >= w.sync_interval_ns or has_grown(w):
                failpoint(FAIL_SYNC)
                rc = worker_sync(w)
                if rc:
                    fail(w, rc)
                    return NULL
                synced_ns = monotonic_ns()
                unsynced = False
            else:
                timeout = <int>min((w.sync_interval_ns - (now - synced_ns)) // 1000000 + 1, <uint64_t>3600000)
        store32(&w.sleeping, 1)
        if load64(&w.published) == w.done and not load32(&w.stopping):
            bell_wait(w.wake_fd, timeout)
        store32(&w.sleeping, 0)
        bell_clear(w.wake_fd)
    if w.nosync and w.sync_interval_ns:
        rc = worker_sync(w)
        if rc:
            fail(w, rc)
    return NULL


cdef int worker_start(worker_t* w) noexcept nogil:
    """Start the thread. 0 or an errno."""
    cdef int rc = thread_start(&w.thread, &worker_run, w)
    w.running = rc == 0
    return rc


cdef void worker_stop(worker_t* w) noexcept nogil:
    """Let the thread commit what is published, and wait for its end."""
    if w.running:
        store32(&w.stopping, 1)
        bell_ring(w.wake_fd)
        thread_join(w.thread)
        w.running = False
