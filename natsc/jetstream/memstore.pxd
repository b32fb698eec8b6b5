# Memory storage.

from libc.stdint cimport uint32_t, uint64_t

from natsc.jetstream.msgstore cimport MsgStore

cdef enum:
    PAGE_BITS = 8
    PAGE_RECORDS = 256

# Records of 256 sequences in a row.
cdef struct recpage_t:
    uint64_t no             # seq >> PAGE_BITS
    uint32_t count          # records; 0 = records is NULL
    char** records

cdef class MemStore(MsgStore):
    cdef recpage_t* pages   # by number, ascending
    cdef uint64_t head      # first page in use
    cdef uint64_t end       # one past the last
    cdef uint64_t cap
    cdef recpage_t* find(self, uint64_t seq) noexcept nogil
    cdef void free_all(self) noexcept nogil
    cdef void free_records(self) noexcept nogil
