# What a connection's input does to the engine.

from libc.stdint cimport uint32_t

from natsc.engine.types cimport account_t, client_t, engine_t, msg_t

cdef Py_ssize_t receive(engine_t* e, client_t* c, const char* base, Py_ssize_t n) noexcept nogil
cdef void send_bytes(engine_t* e, client_t* c, const char* text, Py_ssize_t n) noexcept nogil
cdef void send_err(engine_t* e, client_t* c, const char* text, Py_ssize_t n) noexcept nogil
cdef void send_ping(engine_t* e, client_t* c) noexcept nogil
cdef void start_ping(engine_t* e, client_t* c, bint first) noexcept nogil
cdef void start_auth_timer(engine_t* e, client_t* c, Py_ssize_t timeout_ns) noexcept nogil
cdef void detach(engine_t* e, client_t* c) noexcept nogil
cdef uint32_t publish_own(engine_t* e, account_t* a, msg_t* msg) noexcept nogil
