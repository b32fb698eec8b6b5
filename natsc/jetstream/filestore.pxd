# One stream in file storage.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.lmdb cimport MDB_cursor, MDB_txn, MDB_val
from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.store cimport Store
from natsc.jetstream.worker cimport op_t, streamdb_t

cdef struct hot_t:
    uint64_t seq
    uint64_t pos            # in the arena

cdef class FileStore(MsgStore):
    cdef readonly Store store
    cdef readonly bytes name        # encoded
    cdef readonly str account
    cdef readonly str stream
    cdef streamdb_t* db             # NULL once the stream is dropped or the store closed
    cdef bint opened
    cdef uint64_t create_op         # the operation that makes the databases; 0 = they were there
    cdef MDB_cursor* cursor
    cdef uint64_t cursor_turn
    cdef uint64_t cursor_seq        # where it stands; 0 = nowhere
    cdef uint32_t told              # damaged records that take_lost gave out already
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
    cdef int look_up(self, MDB_txn* txn, MDB_val* k, MDB_val* v, bint damaged) noexcept nogil
    cdef int fetch_cold(self, uint64_t seq, stored_t* out) noexcept nogil
    cdef int open_record(self, uint64_t seq, MDB_val* v) noexcept nogil
    cdef op_t* add_sealed(self, uint64_t seq, int64_t ts_ns, uint64_t prev, const char* subject, Py_ssize_t subject_len,
                          const char* hdr, Py_ssize_t hdr_len, const char* msg, Py_ssize_t msg_len) noexcept
    cdef bytes hidden_key(self, bytes key)
    cdef bint queue_sealed(self, uint32_t kind, bytes key, bytes value) noexcept
    cdef void queue_removal(self, uint32_t kind, uint64_t first, uint64_t last) noexcept nogil
    cdef bint queue_pair(self, uint32_t kind, const char* key, size_t key_len, const char* value,
                         size_t n) noexcept nogil
    cdef int recover(self) except -1
    cdef int recall_damage(self) except -1
    cdef int make(self) except -1
    cdef int skip_damage(self, MDB_txn* txn, uint64_t start, uint64_t* resume) noexcept nogil
    cdef int check_end(self, MDB_txn* txn) noexcept nogil
    cdef int scan(self, MDB_txn* txn, uint64_t start) noexcept nogil
    cdef bint load_checkpoint(self, MDB_txn* txn) noexcept nogil
    cdef bint save_checkpoint(self) noexcept nogil
