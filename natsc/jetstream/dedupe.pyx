"""Deduplication: which message ids a stream has seen within its window, and what sequences they got.

Ids live in one buffer in the order in which they came, so that those that leave the window are taken from its front; a
table with open addressing finds them. An id that comes again after its window is a new record.

Invariants
1. A slot holds the position of a record that is still in the buffer, plus one.
2. Times in the buffer don't go back.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memmove

from natsc.engine.types cimport hash_bytes

cdef enum:
    FIRST_POSITION = 8      # so that no position plus one is a mark
    MIN_SLOTS = 64
    FREE_SLOT = 0
    DELETED_SLOT = 1


cdef void dedupe_init(dedupe_t* d, uint64_t seed) noexcept nogil:
    """An empty window; d is zeroed."""
    d.base = FIRST_POSITION
    d.seed = seed


cdef void dedupe_clear(dedupe_t* d) noexcept nogil:
    free(d.data)
    free(d.slots)
    d.data = NULL
    d.slots = NULL
    d.base += d.end
    d.start = d.end = d.cap = 0
    d.mask = d.used = d.count = 0


cdef inline msgid_t* at(dedupe_t* d, uint64_t position) noexcept nogil:
    return <msgid_t*>(d.data + (position - d.base))


cdef msgid_t* dedupe_find(dedupe_t* d, const char* id, Py_ssize_t n) noexcept nogil:
    """The record of an id, or NULL. Valid until the next dedupe_add or dedupe_expire."""
    cdef uint64_t h, i, slot
    cdef msgid_t* r
    if d.count == 0:
        return NULL
    h = hash_bytes(id, n, d.seed)
    i = h & d.mask
    while True:
        slot = d.slots[i]
        if slot == FREE_SLOT:
            return NULL
        if slot != DELETED_SLOT:
            r = at(d, slot - 1)
            if r.hash == h and r.len == <uint32_t>n and memcmp(<char*>r + sizeof(msgid_t), id, n) == 0:
                return r
        i = (i + 1) & d.mask


cdef bint rehash(dedupe_t* d) noexcept nogil:
    """A table with room for one id more than there are. False where memory is out, and then nothing changed."""
    cdef uint64_t cap = MIN_SLOTS
    cdef uint64_t i, k
    cdef uint64_t* slots
    while cap < (d.count + 1) * 2 + 2:
        cap *= 2
    slots = <uint64_t*>calloc(cap, sizeof(uint64_t))
    if slots == NULL:
        return False
    if d.slots != NULL:
        for i in range(d.mask + 1):
            if d.slots[i] > DELETED_SLOT:
                k = at(d, d.slots[i] - 1).hash & (cap - 1)
                while slots[k]:
                    k = (k + 1) & (cap - 1)
                slots[k] = d.slots[i]
        free(d.slots)
    d.slots = slots
    d.mask = cap - 1
    d.used = d.count
    return True


cdef bint reserve(dedupe_t* d, Py_ssize_t n) noexcept nogil:
    """Room for n more bytes at the end of the buffer."""
    cdef Py_ssize_t cap
    cdef char* data
    if d.end + n <= d.cap:
        return True
    if d.start > d.cap // 2:
        memmove(d.data, d.data + d.start, d.end - d.start)
        d.base += d.start
        d.end -= d.start
        d.start = 0
        if d.end + n <= d.cap:
            return True
    cap = max(d.cap * 2, d.end + n, 4096)
    data = <char*>realloc(d.data, cap)
    if data == NULL:
        return False
    d.data = data
    d.cap = cap
    return True


cdef bint dedupe_add(dedupe_t* d, const char* id, Py_ssize_t n, uint64_t seq, int64_t ts_ns) noexcept nogil:
    """Remember an id that isn't there yet. False where memory is out."""
    cdef Py_ssize_t size = (sizeof(msgid_t) + n + 7) & ~<Py_ssize_t>7
    cdef msgid_t* r
    cdef uint64_t i
    if d.slots == NULL or (d.used + 1) * 4 > (d.mask + 1) * 3:
        if not rehash(d):
            return False
    if not reserve(d, size):
        return False
    r = <msgid_t*>(d.data + d.end)
    r.seq = seq
    r.ts_ns = ts_ns
    r.hash = hash_bytes(id, n, d.seed)
    r.len = <uint32_t>n
    r.size = <uint32_t>size
    memcpy(<char*>r + sizeof(msgid_t), id, n)
    i = r.hash & d.mask
    while d.slots[i] > DELETED_SLOT:
        i = (i + 1) & d.mask
    d.used += d.slots[i] == FREE_SLOT
    d.slots[i] = d.base + d.end + 1
    d.end += size
    d.count += 1
    return True


cdef void dedupe_expire(dedupe_t* d, int64_t before_ns) noexcept nogil:
    """Forget what came at before_ns or earlier."""
    cdef msgid_t* r
    cdef uint64_t i, position
    while d.start < d.end:
        r = <msgid_t*>(d.data + d.start)
        if r.ts_ns > before_ns:
            return
        position = d.base + d.start + 1
        i = r.hash & d.mask
        while d.slots[i] != position:
            i = (i + 1) & d.mask
        d.slots[i] = DELETED_SLOT
        d.count -= 1
        d.start += r.size
    if d.cap:
        dedupe_clear(d)


cdef int64_t dedupe_oldest(dedupe_t* d) noexcept nogil:
    """When the oldest id came; 0 where there is none."""
    return (<msgid_t*>(d.data + d.start)).ts_ns if d.start < d.end else 0


cdef class Window:
    """A window on its own, for tests."""
    cdef dedupe_t d

    def __cinit__(self):
        dedupe_init(&self.d, 7)

    def __dealloc__(self):
        dedupe_clear(&self.d)

    def find(self, bytes id) -> int:
        """The sequence of an id, 0 where it isn't known."""
        cdef msgid_t* r = dedupe_find(&self.d, id, len(id))
        return r.seq if r != NULL else 0

    def add(self, bytes id, uint64_t seq, int64_t ts_ns) -> None:
        if not dedupe_add(&self.d, id, len(id), seq, ts_ns):
            raise MemoryError

    def expire(self, int64_t before_ns) -> None:
        dedupe_expire(&self.d, before_ns)

    def __len__(self):
        return self.d.count
