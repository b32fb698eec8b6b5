# S2 streams, the framing and compression of snapshots: the Snappy framing format with S2's extensions.

from libc.stdint cimport uint16_t, uint32_t

cdef enum:
    S2_OK = 0
    S2_MORE = 1             # the rest is still to come
    S2_CORRUPT = 2
    S2_CHECKSUM = 3
    S2_UNSUPPORTED = 4      # a chunk that may not be skipped, and that nobody knows
    S2_NO_MEMORY = 5

cdef class Encoder:
    cdef char* block        # what is put in, until it is a block
    cdef Py_ssize_t block_len
    cdef char* out          # framed, not taken yet
    cdef Py_ssize_t out_head
    cdef Py_ssize_t out_end
    cdef Py_ssize_t out_cap
    cdef uint16_t* table    # of compress: where in the block four bytes were seen
    cdef bint begun         # the stream's identifier is written

    cdef Py_ssize_t waiting(self) noexcept nogil
    cdef bint put(self, const char* p, Py_ssize_t n) noexcept nogil
    cdef bint flush(self) noexcept nogil
    cdef bint reserve(self, Py_ssize_t n) noexcept nogil

cdef class Decoder:
    cdef char* input        # what was fed, from input_head to input_end not decoded yet
    cdef Py_ssize_t input_head
    cdef Py_ssize_t input_end
    cdef Py_ssize_t input_cap
    cdef Py_ssize_t skip    # bytes of a chunk nobody needs that are still to come
    cdef bint begun         # the stream's identifier was seen
    cdef char* block        # the block decoded last
    cdef Py_ssize_t block_len
    cdef Py_ssize_t block_cap
    cdef int failed         # S2_*: corrupt once is corrupt for ever

    cdef bint push(self, const char* p, Py_ssize_t n) noexcept nogil
    cdef int pull(self) noexcept nogil
    cdef int take_chunk(self, int kind, const unsigned char* p, Py_ssize_t n) noexcept nogil
