# File storage: one LMDB environment a store directory, one FileStore a stream.
#
# How a server uses it:
#   Store.fileno() is readable -> on_event(): calls on_durable (and on_failure).
#   At the end of every turn -> end_turn(): hands over what was queued and gives up every slice.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.lmdb cimport MDB_cursor, MDB_env, MDB_txn
from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.worker cimport streamdb_t, worker_t

# Called on the loop when everything up to the batch is durable.
ctypedef void (*durable_fn)(void* ctx, uint64_t batch_id) noexcept

cdef struct hot_t:
    uint64_t seq
    uint64_t pos            # in the arena

cdef class Store:
    cdef worker_t* w
    cdef MDB_env* env
    cdef MDB_txn* read      # the loop's read transaction, reset between turns
    cdef bint reading       # it is open, and map_lock held
    cdef bint usable
    cdef uint64_t turn      # counts the read transaction's renewals: cursors are renewed with it
    cdef uint64_t forks
    cdef const char* touched_low    # what was read from the map since the last time its pages were given back
    cdef const char* touched_high
    cdef uint64_t touched_bytes
    cdef durable_fn durable_cb
    cdef void* durable_ctx
    cdef uint64_t reported
    cdef bint failure_reported
    cdef readonly str directory
    cdef readonly str store_id
    cdef readonly dict streams      # encoded name -> FileStore
    cdef int lock_fd
    cdef public object on_durable   # callable(batch_id) or None
    cdef public object on_failure   # callable(text) or None

    cdef void set_durable(self, durable_fn fn, void* ctx) noexcept
    cdef uint64_t submit(self) noexcept nogil
    cdef uint64_t end(self) noexcept nogil
    cdef bint working(self) noexcept nogil
    cdef MDB_txn* read_txn(self) noexcept nogil
    cdef void end_reads(self) noexcept nogil
    cdef void note_read(self, const void* p, size_t n) noexcept nogil
    cdef void give_back(self) noexcept nogil
    cdef uint64_t pending(self) noexcept nogil

cdef class FileStore(MsgStore):
    cdef readonly Store store
    cdef readonly bytes name        # encoded
    cdef readonly str account
    cdef readonly str stream
    cdef streamdb_t* db             # NULL once the stream is dropped or the store closed
    cdef bint opened
    cdef MDB_cursor* cursor
    cdef uint64_t cursor_turn
    cdef uint64_t cursor_seq        # where it stands; 0 = nowhere
    cdef uint64_t removals          # operations queued that removed messages
    cdef uint64_t since_checkpoint  # bytes appended
    cdef bint checkpoint_due        # there is something that the last checkpoint doesn't have
    # Messages that may still be in the arena, by sequence, in a ring.
    cdef hot_t* hot
    cdef uint64_t hot_cap           # a power of 2; 0 = no ring
    cdef uint64_t hot_head
    cdef uint64_t hot_end

    cdef bint hot_room(self) noexcept nogil
    cdef const char* hot_find(self, uint64_t seq) noexcept nogil
    cdef int fetch_cold(self, uint64_t seq, stored_t* out) noexcept nogil
    cdef void queue_removal(self, uint32_t kind, uint64_t first, uint64_t last) noexcept nogil
    cdef bint queue_pair(self, uint32_t kind, const char* key, size_t key_len, const char* value, size_t n) noexcept nogil
    cdef void forget_databases(self) noexcept nogil
    cdef int recover(self) except -1
    cdef int scan(self, MDB_txn* txn, uint64_t start) noexcept nogil
    cdef bint load_checkpoint(self, MDB_txn* txn) noexcept nogil
    cdef bint save_checkpoint(self) noexcept nogil
