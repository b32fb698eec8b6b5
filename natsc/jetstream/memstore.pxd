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

# Pages of messages that are gone, on their way back to the allocator.
cdef struct grave_t:
    recpage_t* pages
    uint64_t head
    uint64_t end
    grave_t* next

cdef class MemStore(MsgStore):
    cdef recpage_t* pages   # by number, ascending
    cdef uint64_t head      # first page in use
    cdef uint64_t end       # one past the last
    cdef uint64_t cap
    cdef recpage_t* find(self, uint64_t seq) noexcept nogil
    cdef grave_t* graves
    cdef void bury(self) noexcept nogil
