"""Rules of subjects: what is valid, what is literal, which subjects match or overlap.

The rules are those of nats-server's sublist: a publish subject is not validated (unless the client is pedantic), a
subscription's subject has no empty token and nothing behind ">", and a "*" inside a longer token is an ordinary character.
"""

from libc.string cimport memchr, memcmp

cdef inline const char* token_end(const char* s, const char* end) noexcept nogil:
    cdef const char* dot = <const char*>memchr(s, 46, end - s) if end > s else NULL
    return dot if dot != NULL else end


cdef bint is_valid_subject(const char* s, Py_ssize_t n) noexcept nogil:
    """Whether a subscription may have this subject: no empty token, ">" only as the last token, no blanks."""
    cdef const char* end = s + n
    cdef const char* t
    cdef Py_ssize_t i
    if n == 0:
        return False
    for i in range(n):
        if s[i] == 32 or 9 <= s[i] <= 10 or 12 <= s[i] <= 13:
            return False
    while True:
        t = token_end(s, end)
        if t == s:
            return False
        if t - s == 1 and s[0] == 62 and t != end:
            return False
        if t == end:
            return True
        s = t + 1


cdef bint is_valid_literal(const char* s, Py_ssize_t n) noexcept nogil:
    """Whether a pedantic client may publish to it: no empty token and no wildcard token."""
    cdef const char* end = s + n
    cdef const char* t
    while True:
        t = token_end(s, end)
        if t == s or (t - s == 1 and (s[0] == 42 or s[0] == 62)):
            return False
        if t == end:
            return True
        s = t + 1


cdef bint has_wildcard(const char* s, Py_ssize_t n) noexcept nogil:
    cdef const char* end = s + n
    cdef const char* t
    while True:
        t = token_end(s, end)
        if t - s == 1 and (s[0] == 42 or s[0] == 62):
            return True
        if t == end:
            return False
        s = t + 1


cdef Py_ssize_t count_tokens(const char* s, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t count = 1, i
    for i in range(n):
        if s[i] == 46:
            count += 1
    return count


cdef bint is_subset_match(const char* s, Py_ssize_t n, const char* pattern, Py_ssize_t m) noexcept nogil:
    """Whether everything that s matches is matched by pattern too; both may have wildcards."""
    cdef const char* s_end = s + n
    cdef const char* p_end = pattern + m
    cdef const char* t
    cdef const char* q
    while True:
        t = token_end(s, s_end)
        q = token_end(pattern, p_end)
        if q == pattern:
            return False
        if q - pattern == 1 and pattern[0] == 62:
            return True
        if t == s or (t - s == 1 and s[0] == 62):
            return False
        if q - pattern == 1 and pattern[0] == 42:
            pass
        elif t - s == 1 and s[0] == 42:
            return False
        elif t - s != q - pattern or memcmp(s, pattern, t - s) != 0:
            return False
        if t == s_end or q == p_end:
            return t == s_end and q == p_end
        s = t + 1
        pattern = q + 1
