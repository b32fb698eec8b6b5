# The archive of a stream snapshot: entries one after another, within an S2 stream.

from libc.stdint cimport int64_t, uint64_t

from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.s2 cimport Decoder, Encoder

# What stands before an entry's bytes.
cdef struct entry_t:
    const char* name        # in the reader's buffer, until it reads on
    Py_ssize_t name_len
    int64_t ts_ns
    uint64_t seq            # 0 = no message
    uint64_t hdr_len
    uint64_t body_len       # behind the headers
    Py_ssize_t size         # of all this

cdef class ArchiveWriter:
    cdef Encoder encoder
    cdef MsgStore store
    cdef uint64_t next_seq      # to look at
    cdef uint64_t last_seq      # the last that is written
    cdef readonly bint done     # the end is written

    cdef bint put_head(self, const char* name, Py_ssize_t n, int64_t ts_ns, uint64_t seq, uint64_t hdr_len,
                       uint64_t body_len) noexcept nogil
    cdef bint put_message(self, const stored_t* m) noexcept nogil

cdef class ArchiveReader:
    cdef Decoder decoder
    cdef char* data             # decoded, from head to end not read yet
    cdef Py_ssize_t head
    cdef Py_ssize_t end
    cdef Py_ssize_t cap
    cdef bint begun             # the magic word was read
    cdef readonly uint64_t decoded      # bytes, since the beginning
    cdef readonly bint done     # the end marker was read
    cdef readonly uint64_t last_seq     # of the last message

    cdef int want(self, Py_ssize_t n) except -1
    cdef int read_head(self, entry_t* e) except -1
    cdef int store_message(self, MsgStore store, entry_t* e, const char* at, int64_t now_ns, read_ttl) except -1
