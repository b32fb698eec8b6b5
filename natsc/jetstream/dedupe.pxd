# The message ids of a stream's deduplication window: id -> sequence, oldest first.

from libc.stdint cimport int64_t, uint32_t, uint64_t

# An id in the ring, then its text; padded to 8 bytes.
cdef struct msgid_t:
    uint64_t seq
    int64_t ts_ns
    uint64_t hash
    uint32_t len
    uint32_t size           # of the record

cdef struct dedupe_t:
    char* data              # records, oldest first
    Py_ssize_t start        # of the oldest
    Py_ssize_t end
    Py_ssize_t cap
    uint64_t base           # position of data[0]: positions never go back
    uint64_t* slots         # position + 1; 0 = free, 1 = deleted (no record lies at position 0)
    uint64_t mask
    uint64_t used           # slots that aren't free
    uint64_t count          # ids
    uint64_t seed

cdef void dedupe_init(dedupe_t* d, uint64_t seed) noexcept nogil
cdef void dedupe_clear(dedupe_t* d) noexcept nogil
cdef msgid_t* dedupe_find(dedupe_t* d, const char* id, Py_ssize_t n) noexcept nogil
cdef bint dedupe_add(dedupe_t* d, const char* id, Py_ssize_t n, uint64_t seq, int64_t ts_ns) noexcept nogil
cdef void dedupe_expire(dedupe_t* d, int64_t before_ns) noexcept nogil
cdef int64_t dedupe_oldest(dedupe_t* d) noexcept nogil
