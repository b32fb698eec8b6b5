"""Which messages of a fast batch are stored without a look at more than their reply subject. See fastpath.pxd."""

from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy

from natsc.engine.text cimport put_number

cdef enum:
    END = 6     # bytes of ".1.$FI", which says that a message is one more


cdef class FastPath:
    def begin(self, bytes prefix not None, uint64_t seq, uint64_t left) -> None:
        """Let the next `left` messages come this way; the last one that came was `seq`."""
        if len(prefix) > PREFIX_MAX:
            left = 0
        else:
            memcpy(self.prefix, <const char*>prefix, len(prefix))
        self.prefix_len = len(prefix)
        self.seq = seq
        self.left = left

    def end(self) -> None:
        self.left = 0

    cdef bint is_next(self, const char* reply, Py_ssize_t n) noexcept nogil:
        """Whether the reply subject is that of the message behind the last one."""
        cdef char digits[20]
        cdef Py_ssize_t size
        if self.left == 0 or n <= self.prefix_len + END or memcmp(reply, self.prefix, self.prefix_len) != 0:
            return False
        size = put_number(digits, self.seq + 1) - digits
        return (
            n == self.prefix_len + size + END
            and memcmp(reply + self.prefix_len, digits, size) == 0
            and memcmp(reply + n - END, b".1.$FI", END) == 0
        )

    cdef void took(self, uint64_t stream_seq, uint64_t now_ns) noexcept nogil:
        """That message was stored."""
        self.seq += 1
        self.left -= 1
        self.stream_seq = stream_seq
        self.time_ns = now_ns
