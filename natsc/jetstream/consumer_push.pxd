# Push consumers: who listens, heartbeats, flow control.

from libc.stdint cimport int64_t, uint64_t

from natsc.engine.types cimport watch_t
from natsc.jetstream.consumer_setup cimport ConfiguredConsumer

cdef class PushingConsumer(ConfiguredConsumer):
    cdef watch_t watch                  # push: who listens to the deliver subject
    cdef bint interest_changed
    cdef int64_t heartbeat_ns           # 0 = none
    cdef uint64_t heartbeat_at_ns
    cdef int64_t window                 # flow control: bytes that may be out; 0 = no flow control
    cdef int64_t out_bytes              # delivered since the last answer
    cdef int64_t asked_bytes            # what the answer that is waited for is about

    cdef void take_flow_answer(self, const char* subject, Py_ssize_t n, bytes headers) noexcept
    cdef void ask_flow(self) noexcept
    cdef void heartbeat(self) noexcept
    cdef bint has_push_interest(self) noexcept
    cdef void check_interest(self) noexcept
