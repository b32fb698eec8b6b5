# A store's file, opened to be looked at: nothing is written, and no server may have it.

from libc.stdint cimport uint64_t

from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.lmdb cimport MDB_cursor, MDB_dbi, MDB_env, MDB_txn, MDB_val
from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.vault cimport Vault

cdef class StoreFile:
    cdef MDB_env* env
    cdef MDB_txn* txn
    cdef char* map                  # where it is mapped; NULL = not yet
    cdef readonly str path          # of the file
    cdef readonly Vault vault       # None: nothing in it is encrypted

    cdef MDB_dbi database(self, bytes name, bint unmapped=*) except? 0
    cdef bint renew(self) noexcept

cdef class StoredStream(MsgStore):
    cdef StoreFile file
    cdef MDB_dbi dbi
    cdef list opened                # what was decrypted and slices point into: the last OPENED_MAX
    cdef readonly bytes name        # encoded
    cdef readonly str account
    cdef readonly str stream
    cdef readonly list problems     # what is wrong, in words
    cdef readonly uint64_t damaged  # how many messages can't be used
    cdef uint64_t removals          # of the stream's own record
    cdef bint has_head

    cdef int open_record(self, uint64_t seq, MDB_val* v) except -1
    cdef int view_sealed(self, uint64_t seq, MDB_val* v, stored_t* out) noexcept
    cdef void note_bad(self, uint64_t seq, int reason)
    cdef uint64_t resume_after(self, uint64_t start)
    cdef int take(self, uint64_t seq, MDB_val* v, uint64_t previous) except -1
