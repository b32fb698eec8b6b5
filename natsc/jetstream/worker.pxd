# The storage worker: one thread that commits what the loop hands over, and the queue and arena between them.
#
# Who touches what: the loop owns the queue's end, the arena and everything marked (loop); the worker owns what is
# marked (worker). They meet in `published`, `durable` and `failed`, which are atomic, and in two mutexes.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from natsc.jetstream.lmdb cimport MDB_cursor, MDB_dbi, MDB_env, MDB_txn

cdef enum:
    OP_APPEND = 0           # seq, record; seq2: its time
    OP_DELETE = 1           # seq
    OP_DELETE_RANGE = 2     # seq to seq2
    OP_CLEAR = 3            # every message
    OP_LAST = 4             # seq: last_seq without a message
    OP_CREATE = 5           # make the stream's databases
    OP_DROP = 6             # and drop them: the stream's last operation
    OP_CONSUMER_PUT = 7     # key, value
    OP_CONSUMER_DELETE = 8  # key
    OP_CONSUMER_DELETE_PREFIX = 9
    OP_META_PUT = 10
    OP_META_DELETE = 11
    OP_META_DELETE_PREFIX = 12

# A stream's databases. The loop makes it and frees it once its drop is durable.
cdef struct streamdb_t:
    char* name              # encoded name, then the label (see layout)
    uint32_t name_len
    uint32_t label_len
    MDB_dbi msgs_dbi        # (worker) 0 = not open
    MDB_dbi consumers_dbi   # (worker)
    uint64_t last_seq       # (worker) of the operations seen
    int64_t last_ts_ns      # (worker)
    uint64_t removals       # (worker) operations that removed messages: a checkpoint names how many it knows of
    uint64_t undo[3]        # (worker) the three of them before this transaction
    MDB_cursor* cursor      # (worker) for appends in this transaction
    bint touched            # (worker) in the list of this transaction
    bint opened             # (worker) its databases were opened in this transaction
    bint state_dirty        # (worker) its record in meta is to be written
    bint dropped            # (worker)
    streamdb_t* next_touched
    streamdb_t* next_grave  # (loop)
    uint64_t drop_op        # (loop) the operation after which it can be freed

cdef struct op_t:
    uint32_t kind
    uint32_t key_len        # the key lies before the value
    uint32_t len            # of the value or record
    streamdb_t* stream
    uint64_t seq
    uint64_t seq2
    char* data
    uint64_t total          # arena bytes handed out so far, with this operation's

cdef enum:
    OPS_PER_BLOCK = 1024
    UNIT_SHIFT = 18         # the arena's unit: 256 KiB
    POOL_MAX = 8            # units kept for reuse

cdef struct opblock_t:
    opblock_t* next
    op_t ops[1024]

# A stretch of the arena, one or more units long.
cdef struct stretch_t:
    stretch_t* next
    char* data
    uint64_t first_unit
    uint64_t num_units
    uint64_t last_op        # operations up to this one point into it

cdef struct worker_t:
    MDB_env* env
    MDB_dbi meta_dbi
    uint64_t sync_interval_ns   # 0 with nosync = never
    bint sealed             # records come encrypted: their checksums are inside
    bint nosync             # commit without a sync
    MDB_txn* pin            # with a sync interval: a reader of what is on disk, whose pages are not used anew
    int synced_fd           # of the file with its head page (syncpoint.pyx); -1 = none is kept
    uint64_t synced_count   # records in it so far
    char boot[36]           # of the machine's run
    size_t synced_pages     # of the data file, at the last sync
    # The queue: operation numbers begin with 1.
    opblock_t* first_block  # (loop) holds operation first_block_op and the next
    uint64_t first_block_op
    opblock_t* last_block   # (loop)
    uint64_t queued         # (loop) number of the last operation
    uint64_t published      # atomic: the worker may take operations up to this one
    uint64_t durable        # atomic: committed, and synced unless nosync
    uint64_t seen           # (loop) durable as of the last look
    opblock_t* work_block   # (worker) holds operation done + 1
    uint64_t done           # (worker) last operation committed
    uint64_t taking         # (worker) last operation of the batch at hand
    # The arena.
    stretch_t* first_stretch
    stretch_t* last_stretch
    char** units            # ring of the units' addresses
    uint64_t units_mask
    uint64_t floor_unit     # units below are gone
    uint64_t end_unit
    uint64_t used           # of the last stretch, in bytes
    uint64_t hot_units      # how many units to keep when everything in them is durable
    uint64_t pos            # position of the last piece handed out
    uint64_t total          # bytes handed out
    uint64_t durable_total  # of these, durable as of seen
    void* pool              # free units
    int pool_count
    streamdb_t* graves
    # Waking up.
    int wake_fd[2]          # read end, write end (the same where there is eventfd)
    int done_fd[2]
    uint32_t sleeping       # atomic
    uint32_t stopping       # atomic
    int failed              # atomic: 0, an MDB_* code or an errno
    const char* failed_in   # what failed
    bint running
    unsigned long thread
    bint stuck              # a write transaction was interrupted: the environment can't be used or closed any more
    char* map               # where it is, under map_lock; NULL = not known yet
    bint unmapped           # under map_lock: the map could not be made again, nothing can be read
    void* env_lock          # held while the worker is inside LMDB
    void* map_lock          # held by the loop while its read transaction is open, by the worker to resize the map
    streamdb_t* touched     # (worker)
    size_t page_size
    uint64_t skipped        # atomic: removals that were left out because their page is damaged
    # For measurements.
    uint64_t commits
    uint64_t map_size

cdef worker_t* worker_new() noexcept nogil
cdef void worker_free(worker_t* w) noexcept nogil
cdef int worker_start(worker_t* w) noexcept nogil
cdef int worker_sync(worker_t* w) noexcept nogil
cdef void worker_stop(worker_t* w) noexcept nogil
cdef op_t* op_add(worker_t* w, uint32_t kind, streamdb_t* stream, uint64_t seq, size_t bytes) noexcept nogil
cdef bint op_put(worker_t* w, uint32_t kind, streamdb_t* stream, const char* key, size_t key_len, const char* value,
                 size_t len) noexcept nogil
cdef uint64_t worker_submit(worker_t* w) noexcept nogil
cdef uint64_t worker_durable(worker_t* w) noexcept nogil
cdef int worker_failed(worker_t* w) noexcept nogil
cdef void bell_clear_done(worker_t* w) noexcept nogil
cdef void worker_fail(worker_t* w, int rc) noexcept nogil
cdef void worker_evict(worker_t* w) noexcept nogil
cdef void worker_lock_env(worker_t* w) noexcept nogil
cdef void worker_unlock_env(worker_t* w) noexcept nogil
cdef void worker_lock_map(worker_t* w) noexcept nogil
cdef void worker_unlock_map(worker_t* w) noexcept nogil
cdef streamdb_t* streamdb_new(const char* name, size_t name_len, const char* label, size_t label_len) noexcept nogil
cdef int streamdb_open(worker_t* w, MDB_txn* txn, streamdb_t* s, unsigned int flags) noexcept nogil


cdef inline char* arena_at(worker_t* w, uint64_t pos) noexcept nogil:
    """What lies at a position of the arena; NULL where it is gone."""
    if pos >> UNIT_SHIFT < w.floor_unit:
        return NULL
    return w.units[(pos >> UNIT_SHIFT) & w.units_mask] + (pos & ((<uint64_t>1 << UNIT_SHIFT) - 1))
