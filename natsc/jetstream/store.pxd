# File storage: one LMDB environment a store directory. Its streams are FileStores.
#
# How a server uses it:
#   Store.fileno() is readable -> on_event(): calls on_durable (and on_failure).
#   At the end of every turn -> end_turn(): hands over what was queued and gives up every slice.

from libc.stdint cimport uint32_t, uint64_t

from natsc.jetstream.lmdb cimport MDB_env, MDB_txn, MDB_val
from natsc.jetstream.vault cimport Vault
from natsc.jetstream.worker cimport streamdb_t, worker_t

# Called on the loop when everything up to the batch is durable.
ctypedef void (*durable_fn)(void* ctx, uint64_t batch_id) noexcept

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
    cdef uint64_t told_skipped
    cdef bint found_damage          # tell_damage has something to tell
    cdef Vault vault                # None: nothing is encrypted
    cdef list opened                # what was decrypted and slices point into: the last OPENED_MAX, to the turn's end
    cdef readonly str directory
    cdef readonly str store_id
    cdef readonly bint went_back    # the machine has stopped since the last sync: what came after it is lost
    cdef readonly str cipher        # how the log calls it; "" = nothing is encrypted
    cdef readonly dict streams      # encoded name -> FileStore
    cdef int lock_fd
    cdef public object on_durable   # callable(batch_id) or None
    cdef public object on_failure   # callable(text) or None
    cdef public object on_skipped   # callable(count) or None: removals that a damaged page prevents
    cdef public object on_damage    # callable(account, stream, [(sequence, reason)]) or None

    cdef void set_durable(self, durable_fn fn, void* ctx) noexcept
    cdef bytes name_of(self, str account, str stream)
    cdef bytes open_bytes(self, bytes context, bytes sealed)
    cdef bint put_value(self, uint32_t kind, streamdb_t* db, const char* key, size_t key_len, const char* value,
                        size_t n) noexcept nogil
    cdef bint put_sealed(self, uint32_t kind, streamdb_t* db, bytes key, bytes value) noexcept
    cdef bint open_value(self, streamdb_t* db, const char* key, size_t key_len, MDB_val* v) noexcept nogil
    cdef bint open_sealed(self, streamdb_t* db, bytes key, MDB_val* v) noexcept
    cdef uint64_t submit(self) noexcept nogil
    cdef uint64_t end(self) noexcept nogil
    cdef bint working(self) noexcept nogil
    cdef bint dropping(self, bytes name) noexcept
    cdef MDB_txn* read_txn(self) noexcept nogil
    cdef bint renew_read(self) noexcept nogil
    cdef void end_reads(self) noexcept nogil
    cdef void note_read(self, const void* p, size_t n) noexcept nogil
    cdef void give_back(self) noexcept nogil
    cdef uint64_t pending(self) noexcept nogil
