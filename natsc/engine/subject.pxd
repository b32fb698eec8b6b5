# Subjects: tokens between dots, "*" and ">" as whole tokens are wildcards.

cdef bint is_valid_subject(const char* s, Py_ssize_t n) noexcept nogil
cdef bint is_valid_literal(const char* s, Py_ssize_t n) noexcept nogil
cdef bint has_wildcard(const char* s, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t count_tokens(const char* s, Py_ssize_t n) noexcept nogil
cdef bint is_subset_match(const char* s, Py_ssize_t n, const char* pattern, Py_ssize_t m) noexcept nogil
