# What leaves a consumer, as bytes: messages with their acknowledgement subject, and status messages.

from libc.stdint cimport int64_t, uint64_t

from natsc.engine.types cimport msg_t
from natsc.jetstream.layout cimport stored_t

cdef enum:
    ACK_NUMBERS_MAX = 110   # bytes of the five numbers of an acknowledgement subject, with their dots
    STATUS_MAX = 1024       # bytes of a status message

# A buffer that is used again and again.
cdef struct scratch_t:
    char* data
    Py_ssize_t cap

# What an acknowledgement subject says; a number that is none is UINT64_MAX.
cdef struct ack_info_t:
    uint64_t deliveries
    uint64_t sseq
    uint64_t dseq

cdef Py_ssize_t write_ack_numbers(char* out, uint64_t deliveries, uint64_t sseq, uint64_t dseq, int64_t ts_ns,
                                  uint64_t pending) noexcept nogil
cdef bint read_ack_subject(const char* subject, Py_ssize_t n, int first, ack_info_t* out) noexcept nogil
cdef char* scratch_reserve(scratch_t* s, Py_ssize_t n) noexcept nogil
cdef bint compose(scratch_t* s, const stored_t* m, const char* reply, Py_ssize_t reply_len, bint headers_only,
                  const char* pin, Py_ssize_t pin_len, msg_t* out) noexcept nogil
cdef Py_ssize_t write_status(char* out, const char* status, bint with_pending, int64_t msgs, int64_t octets) noexcept nogil
cdef Py_ssize_t write_heartbeat(char* out, uint64_t dseq, uint64_t sseq, const char* stalled, Py_ssize_t n) noexcept nogil
