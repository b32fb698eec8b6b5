# Text that is written by hand, because formatting per message would cost.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef inline char* put_number(char* o, uint64_t n) noexcept nogil:
    """Write n in decimal at o, at most 20 digits; returns the end."""
    cdef char digits[20]
    cdef int k = 20
    while True:
        k -= 1
        digits[k] = <char>(48 + n % 10)
        n //= 10
        if n == 0:
            break
    memcpy(o, digits + k, 20 - k)
    return o + 20 - k
