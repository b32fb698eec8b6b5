# The engine's calls into Python: per connection, per error and per traced line, never per message.

from cpython.ref cimport PyObject

from natsc.engine.types cimport client_t, engine_t

# Which rule an operation broke; hooks.on_violation gets it.
cdef enum:
    VIOLATION_PUBLISH = 0
    VIOLATION_REPLY = 1
    VIOLATION_SUBSCRIBE = 2
    VIOLATION_TOKENS = 3

# What on_connect and on_first_op answered.
cdef enum:
    CONNECT_REFUSED = 0
    CONNECT_ACCEPTED = 1
    CONNECT_PENDING = 2

cdef int hook_connect(engine_t* e, client_t* c, const char* arg, Py_ssize_t n) noexcept with gil
cdef int hook_first_op(engine_t* e, client_t* c) noexcept with gil
cdef bint hook_info(engine_t* e, client_t* c, const char* arg, Py_ssize_t n) noexcept with gil
cdef void hook_first_ping(engine_t* e, client_t* c) noexcept with gil
cdef void hook_violation(engine_t* e, client_t* c, int which, const char* subject, Py_ssize_t n, const char* queue,
                         Py_ssize_t queue_len, const char* sid, Py_ssize_t sid_len) noexcept with gil
cdef void hook_error(engine_t* e, client_t* c, const char* what, const char* detail, Py_ssize_t n, long a,
                     long b) noexcept with gil
cdef void hook_trace(engine_t* e, client_t* c, const char* arrow, const char* op, const char* arg,
                     Py_ssize_t n) noexcept with gil
cdef void hook_trace_payload(engine_t* e, client_t* c, const char* msg, Py_ssize_t n, Py_ssize_t hdr_len) noexcept with gil
cdef void hook_trace_delivery(engine_t* e, client_t* c, const char* msg, Py_ssize_t n, Py_ssize_t size,
                              Py_ssize_t hdr_len) noexcept with gil
cdef Py_ssize_t hook_requester(engine_t* e, client_t* c, PyObject* service, char* out, Py_ssize_t cap) noexcept with gil
cdef PyObject* hook_service_begins(engine_t* e, client_t* c, PyObject* service, const char* hdr, Py_ssize_t n,
                                   bint drawn, bint answered) noexcept with gil
cdef void hook_service_ends(engine_t* e, PyObject* measured, client_t* responder, int how) noexcept with gil
