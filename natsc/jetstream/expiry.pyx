"""A heap of expiry times. A message that goes before its time stays in the heap until then: it isn't there any more then."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, realloc


cdef bint heap_push(heap_t* h, int64_t when_ns, uint64_t seq) noexcept nogil:
    """False where memory is out."""
    cdef uint64_t cap, i, parent
    cdef expiring_t* items
    if h.count == h.cap:
        cap = h.cap * 2 if h.cap else 64
        items = <expiring_t*>realloc(h.items, cap * sizeof(expiring_t))
        if items == NULL:
            return False
        h.items = items
        h.cap = cap
    i = h.count
    h.count += 1
    while i:
        parent = (i - 1) >> 1
        if h.items[parent].when_ns <= when_ns:
            break
        h.items[i] = h.items[parent]
        i = parent
    h.items[i].when_ns = when_ns
    h.items[i].seq = seq
    return True


cdef uint64_t heap_pop(heap_t* h) noexcept nogil:
    """The sequence that expires first; the heap must not be empty."""
    cdef uint64_t seq = h.items[0].seq
    cdef expiring_t last
    cdef uint64_t i = 0
    cdef uint64_t child
    h.count -= 1
    last = h.items[h.count]
    while True:
        child = 2 * i + 1
        if child >= h.count:
            break
        if child + 1 < h.count and h.items[child + 1].when_ns < h.items[child].when_ns:
            child += 1
        if last.when_ns <= h.items[child].when_ns:
            break
        h.items[i] = h.items[child]
        i = child
    if h.count:
        h.items[i] = last
    else:
        heap_clear(h)
    return seq


cdef void heap_clear(heap_t* h) noexcept nogil:
    free(h.items)
    h.items = NULL
    h.count = h.cap = 0
