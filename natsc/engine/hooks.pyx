"""The engine's calls into Python.

Python gives the engine one object, its hooks (natsc/server/handshake.py has the server's), with the methods called below.
None of them is called per message unless tracing is on. What a hook raises can't travel through the engine: it goes to
sys.unraisablehook, and the connection that it was about is refused or goes on as if the hook had said nothing.
"""

from cpython.ref cimport Py_INCREF, PyObject
from libc.string cimport memcpy

from natsc.engine.types cimport client_t, engine_t


cdef inline bytes as_bytes(const char* p, Py_ssize_t n):
    return p[:n] if n > 0 else b""


cdef int hook_connect(engine_t* e, client_t* c, const char* arg, Py_ssize_t n) noexcept with gil:
    """CONNECT <arg> came. Returns CONNECT_ACCEPTED, CONNECT_REFUSED (the hook has closed the client) or CONNECT_PENDING."""
    return (<object>e.hooks).on_connect(<object>c.handle, as_bytes(arg, n))


cdef int hook_first_op(engine_t* e, client_t* c) noexcept with gil:
    """Something other than CONNECT came first although authentication is required. Returns what hook_connect does."""
    return (<object>e.hooks).on_first_op(<object>c.handle)


cdef bint hook_info(engine_t* e, client_t* c, const char* arg, Py_ssize_t n) noexcept with gil:
    """INFO <arg> came, which means nothing from a client. Returns whether it could be read."""
    return (<object>e.hooks).on_info(<object>c.handle, as_bytes(arg, n))


cdef void hook_first_ping(engine_t* e, client_t* c) noexcept with gil:
    """The first PING after CONNECT was answered: clients of protocol 1 get an INFO with connect_info."""
    (<object>e.hooks).on_first_ping(<object>c.handle)


cdef void hook_violation(engine_t* e, client_t* c, int which, const char* subject, Py_ssize_t n, const char* queue,
                         Py_ssize_t queue_len, const char* sid, Py_ssize_t sid_len) noexcept with gil:
    """A permission, a reserved subject or a limit on tokens was violated: the hook sends the -ERR and logs it.

    A message that isn't taken for it says so in its trace.
    """
    cdef object text = (<object>e.hooks).on_violation(
        <object>c.handle, which, as_bytes(subject, n), as_bytes(queue, queue_len), as_bytes(sid, sid_len))
    if e.traced != NULL:
        (<object>e.traced).fail(text)


cdef void hook_error(engine_t* e, client_t* c, const char* what, const char* detail, Py_ssize_t n, long a,
                     long b) noexcept with gil:
    """Something to log about a client: what names it, detail and two numbers depend on what."""
    (<object>e.hooks).on_error(<object>c.handle, what.decode(), as_bytes(detail, n), a, b)


cdef void hook_trace(engine_t* e, client_t* c, const char* arrow, const char* op, const char* arg,
                     Py_ssize_t n) noexcept with gil:
    """An operation came in ("<<-"), went out ("->>") or happened here ("<->"); n < 0 where it has no arguments."""
    (<object>e.hooks).on_trace(<object>c.handle, arrow.decode(), op, None if n < 0 else as_bytes(arg, n))


cdef void hook_trace_payload(engine_t* e, client_t* c, const char* msg, Py_ssize_t n, Py_ssize_t hdr_len) noexcept with gil:
    (<object>e.hooks).on_payload(<object>c.handle, "<<-", as_bytes(msg, n), hdr_len)


cdef void hook_trace_delivery(engine_t* e, client_t* c, const char* msg, Py_ssize_t n, Py_ssize_t size,
                              Py_ssize_t hdr_len) noexcept with gil:
    """n bytes of MSG or HMSG were written, of which the last size + 2 are payload and line end."""
    (<object>e.hooks).on_trace(<object>c.handle, "->>", as_bytes(msg, n - size - 4), None)
    (<object>e.hooks).on_payload(<object>c.handle, "->>", as_bytes(msg + n - size - 2, size), hdr_len)


cdef Py_ssize_t hook_requester(engine_t* e, client_t* c, PyObject* service, char* out, Py_ssize_t cap) noexcept with gil:
    """All about a requester, as JSON, for a service that it is shared with. Returns the length, 0 where it is too long."""
    cdef bytes info = (<object>e.hooks).on_requester(<object>c.handle if c.handle != NULL else None, <object>service)
    if len(info) > cap:
        return 0
    memcpy(out, <const char*>info, len(info))
    return len(info)


cdef PyObject* hook_service_begins(engine_t* e, client_t* c, PyObject* service, const char* hdr, Py_ssize_t n,
                                   bint drawn, bint answered) noexcept with gil:
    """A request whose latency may be told (drawn: will be). What hook_service_ends is to get (a new reference), or NULL."""
    cdef object requester = <object>c.handle if c != NULL and c.handle != NULL else None
    cdef object measured = (<object>e.hooks).on_service_begins(requester, <object>service, as_bytes(hdr, n), drawn, answered)
    if measured is None:
        return NULL
    Py_INCREF(measured)
    return <PyObject*>measured


cdef void hook_service_ends(engine_t* e, PyObject* measured, client_t* responder, int how) noexcept with gil:
    """A measured request was answered, or will not be: see service.pyx for how."""
    (<object>e.hooks).on_service_ends(
        <object>measured, <object>responder.handle if responder != NULL and responder.handle != NULL else None, how
    )
