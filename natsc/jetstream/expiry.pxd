# When messages expire that have a time to live of their own: a binary heap of (time, sequence).

from libc.stdint cimport int64_t, uint64_t

cdef struct expiring_t:
    int64_t when_ns
    uint64_t seq

cdef struct heap_t:
    expiring_t* items
    uint64_t count
    uint64_t cap

cdef bint heap_push(heap_t* h, int64_t when_ns, uint64_t seq) noexcept nogil
cdef uint64_t heap_pop(heap_t* h) noexcept nogil
cdef void heap_clear(heap_t* h) noexcept nogil
