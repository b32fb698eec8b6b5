# Message tracing: which messages ask for it, and what is told of their way.

from libc.string cimport memchr, memcmp

from natsc.engine.types cimport account_t, client_t, engine_t, msg_t, sub_t

# What becomes of a message that may have to be traced.
cdef enum:
    TRACE_NONE = 0          # it goes on as it is
    TRACE_SKIP = 1          # it goes nowhere
    TRACE_MUTE = 2          # it goes on, and says that nobody is to trace it
    TRACED = 3              # it goes on, traced: engine_t.traced

cdef extern from "strings.h" nogil:
    int strncasecmp(const char* a, const char* b, size_t n)

cdef int trace_begin(engine_t* e, client_t* c, const char* hdr, Py_ssize_t hdr_len, const char* subject, Py_ssize_t n,
                     Py_ssize_t size, const char* error) noexcept with gil
cdef void trace_end(engine_t* e) noexcept with gil
cdef void trace_mapped(engine_t* e, const char* to, Py_ssize_t n) noexcept with gil
cdef void trace_exported(engine_t* e, client_t* c, const char* to, Py_ssize_t n) noexcept with gil
cdef void trace_imported(engine_t* e, account_t* dest, const char* came, Py_ssize_t n, const char* to,
                         Py_ssize_t m) noexcept with gil
cdef void trace_egress(engine_t* e, client_t* c, sub_t* s, const char* why) noexcept with gil
cdef bint trace_asked(engine_t* e, account_t* a, const char* subject, Py_ssize_t n) noexcept with gil
cdef char* with_trace_dest(msg_t* msg, const char* dest, Py_ssize_t n, msg_t* out) noexcept nogil


cdef inline bint asks_for_trace(account_t* a, const char* hdr, Py_ssize_t n) noexcept nogil:
    """Whether a header block has a line that may ask for tracing. All that a message with headers pays for it."""
    cdef const char* end = hdr + n
    cdef const char* p = hdr + 10       # behind "NATS/1.0", which a block that counts begins with
    if n < 29 or hdr[9] != 10:
        return False
    while True:
        if p[0] == 78 and p[5] == 84 and memcmp(p, b"Nats-Trace-Dest:", 16) == 0:
            return True
        if a.traces_parents and p[11] == 58 and strncasecmp(p, b"traceparent", 11) == 0:
            return True
        p = <const char*>memchr(p, 10, end - p)
        if p == NULL or end - p < 18:
            return False
        p += 1
