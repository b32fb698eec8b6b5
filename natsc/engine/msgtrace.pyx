"""Message tracing: a message whose headers ask for it has its way told, on the subject that they name.

From trace_begin to trace_end engine_t.traced is the trace of the message in hand, an object of Python's
(natsc/server/msgtrace.py) that collects what is told; whoever handles the message looks whether it is set. It is not
set for what the message merely causes: that is done after it. With trace_only nobody is to get the message, but all is
told as if they did.

Only the header's names are looked for here; what they say is read in Python, for who traces pays for it.
"""

from libc.stdlib cimport malloc
from libc.string cimport memchr, memcmp, memcpy

from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject

from natsc.engine.text cimport put_number
from natsc.engine.types cimport account_t, client_t, engine_t, msg_t, sub_t


cdef inline bytes as_bytes(const char* p, Py_ssize_t n):
    return p[:n]


cdef int trace_begin(engine_t* e, client_t* c, const char* hdr, Py_ssize_t hdr_len, const char* subject, Py_ssize_t n,
                     Py_ssize_t size, const char* error) noexcept with gil:
    """A message of c may have to be traced. Returns TRACE_*; TRACED: e.traced is set until trace_end.

    error: why it isn't taken at all, NULL = it may be.
    """
    cdef object found = (<object>e.hooks).on_msg_trace(
        <object>c.handle, as_bytes(hdr, hdr_len), as_bytes(subject, n), size, None if error == NULL else error.decode())
    if type(found) is int:
        return found
    Py_INCREF(found)
    e.traced = <PyObject*>found
    e.trace_only = found.only
    return TRACED


cdef void trace_end(engine_t* e) noexcept with gil:
    """The message was handled: have its trace sent."""
    cdef object trace = <object>e.traced
    Py_DECREF(trace)
    e.traced = NULL
    e.trace_only = False
    trace.end()


cdef void trace_mapped(engine_t* e, const char* to, Py_ssize_t n) noexcept with gil:
    """A mapping of the account made its subject another."""
    (<object>e.traced).mapped(as_bytes(to, n))


cdef void trace_exported(engine_t* e, client_t* c, const char* to, Py_ssize_t n) noexcept with gil:
    """It goes to c in another account, by a stream import."""
    (<object>e.traced).exported((<object>c.account.handle).name, as_bytes(to, n))


cdef void trace_imported(engine_t* e, account_t* dest, const char* came, Py_ssize_t n, const char* to,
                         Py_ssize_t m) noexcept with gil:
    """It goes into account dest, as a request or response of a service."""
    (<object>e.traced).imported((<object>dest.handle).name, as_bytes(came, n), as_bytes(to, m))


cdef void trace_egress(engine_t* e, client_t* c, sub_t* s, const char* why) noexcept with gil:
    """It goes to c, or would if it weren't for why. s: the subscription in the tree that it matched in."""
    (<object>e.traced).egress(
        <object>c.handle, subject_of(s), as_bytes(s.text + s.sid_len, s.queue_len), None if why == NULL else why.decode())


cdef bint trace_asked(engine_t* e, account_t* a, const char* subject, Py_ssize_t n) noexcept with gil:
    """The server itself is asked something in account a. Returns whether it is to answer; else it has declined."""
    cdef bint answers = (<object>e.traced).asked((<object>a.handle).name, as_bytes(subject, n))
    e.declined = not answers
    return answers


cdef bytes subject_of(sub_t* s):
    cdef list tokens = []
    n = s.node
    while n != NULL and n.parent != NULL:
        tokens.append(n.token[:n.token_len])
        n = n.parent
    return b".".join(reversed(tokens))


cdef inline const char* next_line(const char* p, const char* end) noexcept nogil:
    cdef const char* found = <const char*>memchr(p, 10, end - p)
    return found + 1 if found != NULL else end


cdef inline bint names_dest(const char* line, const char* stop) noexcept nogil:
    return stop - line >= 16 and memcmp(line, b"Nats-Trace-Dest:", 16) == 0


cdef char* with_trace_dest(msg_t* msg, const char* dest, Py_ssize_t n, msg_t* out) noexcept nogil:
    """A copy of a message with headers whose Nats-Trace-Dest is dest, in its last line; for the caller to free.

    NULL where memory is out. out gets everything but the subject, which stays the caller's.
    """
    cdef const char* line = msg.payload
    cdef const char* end = msg.payload + msg.hdr_len
    cdef const char* stop
    cdef Py_ssize_t kept = 0
    cdef char* data
    cdef char* o
    if msg.hdr_len >= 2 and end[-1] == 10 and end[-2] == 13:
        end -= 2        # the empty line
    while line < end:
        stop = next_line(line, end)
        kept += 0 if names_dest(line, stop) else stop - line
        line = stop
    out[0] = msg[0]
    out.hdr_len = kept + 21 + n
    out.size = msg.size - msg.hdr_len + out.hdr_len
    data = <char*>malloc(msg.reply_len + out.size + 48)
    if data == NULL:
        return NULL
    o = data
    if msg.reply != NULL:
        memcpy(o, msg.reply, msg.reply_len)
        o[msg.reply_len] = 32
        o += msg.reply_len + 1
        out.reply = data
    o = put_number(o, out.hdr_len)
    o[0] = 32
    o = put_number(o + 1, out.size)
    memcpy(o, b"\r\n", 2)
    out.tail = data
    out.payload = o + 2
    o += 2
    line = msg.payload
    while line < end:
        stop = next_line(line, end)
        if not names_dest(line, stop):
            memcpy(o, line, stop - line)
            o += stop - line
        line = stop
    memcpy(o, b"Nats-Trace-Dest: ", 17)
    memcpy(o + 17, dest, n)
    memcpy(o + 17 + n, b"\r\n\r\n", 4)
    o += 21 + n
    memcpy(o, msg.payload + msg.hdr_len, msg.size - msg.hdr_len + 2)
    out.tail_len = o + msg.size - msg.hdr_len + 2 - data
    return data
