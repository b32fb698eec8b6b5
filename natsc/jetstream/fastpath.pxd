# The short way of fast batches: messages that nothing is said about, neither by headers nor by an acknowledgement.
#
# natsc/jetstream/fastbatch.py looks at every message that is more than that; what it says here of the batch it has just had
# in hand lets the messages behind it be stored without it, until it is asked again.

from libc.stdint cimport uint64_t

cdef enum:
    PREFIX_MAX = 512            # bytes of a reply subject; those of longer ones take the long way

cdef class FastPath:
    cdef char prefix[PREFIX_MAX]        # what the batch's reply subjects begin with, the dot before the number included
    cdef Py_ssize_t prefix_len
    cdef readonly uint64_t seq          # of the last message of the batch that came
    cdef readonly uint64_t stream_seq   # ... and where the stream has it
    cdef readonly uint64_t time_ns      # ... and when that was
    cdef readonly uint64_t left         # messages that may still come this way; 0 = no batch is known

    cdef bint is_next(self, const char* reply, Py_ssize_t n) noexcept nogil
    cdef void took(self, uint64_t stream_seq, uint64_t now_ns) noexcept nogil
