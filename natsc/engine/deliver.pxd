# From a message to the outputs of its receivers.

from libc.stdint cimport uint32_t

from natsc.engine.types cimport client_t, engine_t, forward_t, job_t, match_t, msg_t

cdef void overflow(engine_t* e, client_t* c) noexcept nogil
cdef uint32_t deliver_msg(engine_t* e, client_t* src, match_t* m, msg_t* msg) noexcept nogil
cdef uint32_t deliver_as(engine_t* e, match_t* m, const char* to, Py_ssize_t to_len, msg_t* msg) noexcept nogil
cdef void send_no_responders(engine_t* e, client_t* c, msg_t* msg) noexcept nogil
cdef void job_post(engine_t* e, job_t* job) noexcept nogil
cdef bint forward_push(engine_t* e, forward_t* f) noexcept nogil
