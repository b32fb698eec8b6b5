"""Headers with a meaning for JetStream, found in one pass over a block.

The first header of a name counts; names are matched in their exact case, and blanks before the value are skipped.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr, memcmp, memset


cdef inline bint named(const char* p, Py_ssize_t n, const char* name, Py_ssize_t m) noexcept nogil:
    return n == m and memcmp(p, name, m) == 0


cdef bint is_rare(const char* p, Py_ssize_t n) noexcept nogil:
    """Headers of features that aren't on the fast path: counters, batches, schedules, sources."""
    return (
        named(p, n, b"Nats-Incr", 9)
        or named(p, n, b"Nats-Batch-Id", 13)
        or named(p, n, b"Nats-Schedule", 13)
        or named(p, n, b"Nats-Schedule-Next", 18)
        or named(p, n, b"Nats-Schedule-Time-Zone", 23)
        or named(p, n, b"Nats-Scheduler", 14)
        or named(p, n, b"Nats-Stream-Source", 18)
        or named(p, n, b"Nats-Request-Info", 17)
    )


cdef slice_t* field_of(headers_t* h, const char* p, Py_ssize_t n) noexcept nogil:
    if named(p, n, b"Nats-Msg-Id", 11):
        return &h.msg_id
    if named(p, n, b"Nats-Expected-Stream", 20):
        return &h.expected_stream
    if named(p, n, b"Nats-Expected-Last-Sequence", 27):
        return &h.expected_last_seq
    if named(p, n, b"Nats-Expected-Last-Subject-Sequence", 35):
        return &h.expected_last_subject_seq
    if named(p, n, b"Nats-Expected-Last-Subject-Sequence-Subject", 43):
        return &h.expected_last_subject
    if named(p, n, b"Nats-Expected-Last-Msg-Id", 25):
        return &h.expected_last_msg_id
    if named(p, n, b"Nats-Rollup", 11):
        return &h.rollup
    if named(p, n, b"Nats-TTL", 8):
        return &h.ttl
    return NULL


cdef inline const char* line_end(const char* p, const char* end) noexcept nogil:
    """The line feed that ends the line at p, with a carriage return before it; NULL where there is none."""
    cdef const char* start = p
    while True:
        p = <const char*>memchr(p, 10, end - p)
        if p == NULL or (p > start and p[-1] == 13):
            return p
        p += 1


cdef void headers_scan(const char* p, Py_ssize_t n, headers_t* h) noexcept nogil:
    """Fill h from a block ("NATS/1.0\\r\\n..."); n may be 0."""
    cdef const char* end = p + n
    cdef const char* line
    cdef const char* colon
    cdef slice_t* field
    memset(h, 0, sizeof(headers_t))
    if n == 0:
        return
    line = line_end(p, end)
    while line != NULL and end - line > 6:
        line += 1
        p = line_end(line, end)
        if p == NULL:
            return
        if line[0] == 78 and memcmp(line, b"Nats-", 5) == 0:
            colon = <const char*>memchr(line, 58, p - line)
            if colon != NULL:
                field = field_of(h, line, colon - line)
                if field == NULL:
                    h.rare = h.rare or is_rare(line, colon - line)
                elif field.p == NULL:
                    colon += 1
                    while colon < p - 1 and colon[0] == 32:
                        colon += 1
                    field.p = colon
                    field.n = p - 1 - colon
        line = p


cdef int64_t parse_number(slice_t* s) noexcept nogil:
    """A decimal number without a sign, or what is left of it in 64 bits; -1 for anything else."""
    cdef uint64_t n = 0
    cdef Py_ssize_t i
    if s.n == 0:
        return -1
    for i in range(s.n):
        if not 48 <= s.p[i] <= 57:
            return -1
        n = n * 10 + <uint64_t>(s.p[i] - 48)
    return <int64_t>n


cdef bint lower_is(slice_t* s, const char* word, Py_ssize_t n) noexcept nogil:
    """Whether s is word, in any case."""
    cdef Py_ssize_t i
    if s.n != n:
        return False
    for i in range(n):
        if s.p[i] != word[i] and not (65 <= s.p[i] <= 90 and s.p[i] + 32 == word[i]):
            return False
    return True
