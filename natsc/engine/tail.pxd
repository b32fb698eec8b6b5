# Input that is no whole operation yet: client_t.tail.

from natsc.engine.types cimport client_t

cdef bint reserve_tail(client_t* c, Py_ssize_t n) noexcept nogil
cdef bint keep_tail(client_t* c, const char* p, Py_ssize_t n) noexcept nogil
cdef void drop_from_tail(client_t* c, Py_ssize_t n) noexcept nogil
cdef void trim_tail(client_t* c) noexcept nogil
