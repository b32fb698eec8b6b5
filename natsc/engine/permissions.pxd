# Publish and subscribe permissions, compiled from a user's allow and deny lists.

from libc.stdint cimport uint64_t

from natsc.engine.types cimport client_t, engine_t, match_t, perms_t, replies_t

cdef class Permissions:
    cdef perms_t p

cdef bint may_publish(engine_t* e, client_t* c, match_t* m) noexcept nogil
cdef bint may_publish_subject(perms_t* p, const char* subject, Py_ssize_t n) noexcept nogil
cdef bint may_subscribe(client_t* c, const char* subject, Py_ssize_t n, const char* queue, Py_ssize_t queue_len) noexcept nogil
cdef bint overlaps_denied(client_t* c, const char* subject, Py_ssize_t n) noexcept nogil
cdef bint denied_delivery(client_t* c, const char* subject, Py_ssize_t n, const char* queue,
                          Py_ssize_t queue_len) noexcept nogil
cdef void reply_remember(engine_t* e, client_t* c, const char* reply, Py_ssize_t n) noexcept nogil
cdef void replies_free(client_t* c) noexcept nogil
