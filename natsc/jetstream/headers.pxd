# What a publisher's header block says to JetStream.

from libc.stdint cimport int64_t

cdef struct slice_t:
    const char* p           # NULL = no such header
    Py_ssize_t n

# The headers that ingest acts on itself. Slices into the block.
cdef struct headers_t:
    slice_t msg_id
    slice_t expected_stream
    slice_t expected_last_seq
    slice_t expected_last_subject_seq
    slice_t expected_last_subject
    slice_t expected_last_msg_id
    slice_t rollup
    slice_t ttl
    bint rare               # one that is looked at in Python: see RARE in headers.pyx

cdef void headers_scan(const char* p, Py_ssize_t n, headers_t* h) noexcept nogil
cdef int64_t parse_number(slice_t* s) noexcept nogil
cdef bint lower_is(slice_t* s, const char* word, Py_ssize_t n) noexcept nogil
