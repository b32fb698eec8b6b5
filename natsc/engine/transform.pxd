# Subjects turned into others: transforms, and an account's weighted mappings.

from libc.stdint cimport uint32_t, uint64_t

from natsc.engine.types cimport account_t, mapping_t, transform_t

cdef char* transform_apply(transform_t* t, uint64_t* random, const char* s, Py_ssize_t n, Py_ssize_t* made) noexcept nogil
cdef char* mappings_apply(account_t* a, uint64_t* random, const char* s, Py_ssize_t n, Py_ssize_t* made) noexcept nogil

cdef char* copy_text(bytes text) except NULL

cdef class Transform:
    cdef transform_t t
    cdef uint64_t random
    cdef readonly str source
    cdef readonly str dest

cdef class Mappings:
    cdef mapping_t* items
    cdef uint32_t count
    cdef list transforms        # keeps what items point at
