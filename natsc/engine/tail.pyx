"""Input that is no whole operation yet, kept per connection until more comes.

What an operation can be is bounded (max_control_line, max_payload), so this is too: what such a tail doesn't need is given
back, and blanks that never end are squeezed out of it.
"""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from natsc.engine.parser cimport squeeze
from natsc.engine.types cimport client_t

cdef enum:
    TAIL_MIN = 512
    TAIL_KEEP = 4096            # a longer tail's memory goes back once it is consumed
    TAIL_SQUEEZE = 1024         # a longer tail that is no payload is looked through for what can be dropped


cdef bint reserve_tail(client_t* c, Py_ssize_t n) noexcept nogil:
    """Room for n bytes in all; at most twice what is asked for. False where memory is out."""
    cdef char* grown
    if n > c.tail_cap:
        n = max(n, min(c.tail_cap * 2, n * 2), TAIL_MIN)
        grown = <char*>realloc(c.tail, n)
        if grown == NULL:
            return False
        c.tail = grown
        c.tail_cap = n
    return True


cdef bint keep_tail(client_t* c, const char* p, Py_ssize_t n) noexcept nogil:
    """Make n bytes at p the tail. False where memory is out: the tail is empty then."""
    c.tail_len = 0
    if n and not reserve_tail(c, n):
        return False
    if n:
        memcpy(c.tail, p, n)
    c.tail_len = n
    return True


cdef void drop_from_tail(client_t* c, Py_ssize_t n) noexcept nogil:
    """The first n bytes were consumed."""
    if c.tail != NULL and n:
        memmove(c.tail, c.tail + n, c.tail_len - n)
        c.tail_len -= n


cdef void trim_tail(client_t* c) noexcept nogil:
    """Give back what the tail doesn't need: an operation that never ends must not pile up."""
    cdef char* less
    if c.tail_len > TAIL_SQUEEZE and c.need == 0 and not c.suspended:
        c.tail_len = squeeze(c.tail, c.tail_len)
        if c.tail_len <= TAIL_SQUEEZE < c.tail_cap:
            less = <char*>realloc(c.tail, TAIL_SQUEEZE)
            if less != NULL:
                c.tail = less
                c.tail_cap = TAIL_SQUEEZE
    if c.tail_len == 0 and c.tail_cap > TAIL_KEEP:
        free(c.tail)
        c.tail = NULL
        c.tail_cap = 0
