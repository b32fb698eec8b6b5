# Stream imports: a subscription's shadows in other accounts.

from natsc.engine.types cimport engine_t, sub_t

cdef void shadows_add(engine_t* e, sub_t* s, const char* subject, Py_ssize_t n) noexcept nogil
cdef void shadows_remove(engine_t* e, sub_t* s) noexcept nogil
