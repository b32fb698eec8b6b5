# Text that is written by hand, because formatting per message would cost.

from libc.stdint cimport uint64_t


cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Two digits a step: a timestamp has nineteen. */
    static inline char *put_number(char *o, uint64_t n) {
        static const char pairs[] =
            "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
            "49505152535455565758596061626364656667686970717273747576777879808182838485868788899091929394959697"
            "9899";
        char digits[20];
        int k = 20;
        while (n >= 100) {
            memcpy(digits + (k -= 2), pairs + n % 100 * 2, 2);
            n /= 100;
        }
        if (n >= 10)
            memcpy(digits + (k -= 2), pairs + n * 2, 2);
        else
            digits[--k] = (char)(48 + n);
        memcpy(o, digits + k, 20 - k);
        return o + 20 - k;
    }
    """
    char* put_number(char* o, uint64_t n) noexcept nogil        # n in decimal, at most 20 digits; returns the end
