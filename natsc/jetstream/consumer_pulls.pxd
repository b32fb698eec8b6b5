# The second half of a consumer: pull requests, and to whom the next message goes.

from libc.stdint cimport int64_t, uint64_t

from natsc.engine.types cimport match_t
from natsc.jetstream.consumer_acks cimport AckingConsumer
from natsc.jetstream.waiting cimport pull_t, wait_t, waitq_t

cdef enum:
    PRIORITY_NONE = 0
    PRIORITY_OVERFLOW = 1
    PRIORITY_PINNED = 2
    PRIORITY_PRIORITIZED = 3
    PIN_LEN = 22

cdef class PullingConsumer(AckingConsumer):
    cdef bint is_push
    cdef waitq_t waiting
    cdef match_t* receiver                  # of the request that next_waiting returned: good until the next look-up
    cdef int64_t no_wait_requests           # among those waiting, roughly: may be too many, never too few
    cdef uint64_t wait_due_ns               # when one of them is to be looked at; 0 = never
    cdef uint64_t full_checked_ns           # when the full queue was searched for dead requests last
    cdef int64_t pending                    # messages still to be delivered for the first time
    cdef bint pending_stale                 # pending is to be counted again
    cdef uint64_t pending_seq               # last sequence that pending knows of
    # last_per_subject: what is to be delivered before the stream is read on from skip_resume.
    cdef uint64_t* skip
    cdef uint64_t skip_at
    cdef uint64_t skip_count
    cdef int priority
    cdef bytes group                        # b"" = none
    cdef int64_t max_batch                  # 0 = no limit, as are the next two
    cdef int64_t max_expires_ns
    cdef int64_t max_bytes
    # The client that messages are pinned to.
    cdef char pin[22]
    cdef bint pinned
    cdef int64_t pinned_at_ns               # wall clock
    cdef uint64_t pin_due_ns                # engine clock: when the pin is lost; 0 = never
    cdef int64_t pin_ttl_ns

    cdef uint64_t count_pending(self) noexcept
    cdef void send_status(self, const char* reply, Py_ssize_t n, const char* status) noexcept
    cdef void end_request(self, wait_t* w, const char* status, bint with_pending) noexcept
    cdef match_t* interest(self, const char* subject, Py_ssize_t n) noexcept
    cdef void process_pull(self, const char* reply, Py_ssize_t n, const char* body, Py_ssize_t len) noexcept
    cdef const char* refuse_pull(self, pull_t* r) noexcept
    cdef const char* refuse_group(self, pull_t* r) noexcept
    cdef bint refuse_no_wait(self, const char* reply, Py_ssize_t n, pull_t* r) noexcept
    cdef void unusual_pull(self, const char* reply, Py_ssize_t n, bytes body)
    cdef void queue_pull(self, const char* reply, Py_ssize_t n, pull_t* r) noexcept
    cdef wait_t* next_waiting(self, Py_ssize_t size) noexcept
    cdef int check_pin(self, wait_t* w, bint* assigned) noexcept
    cdef bint overflows(self, int64_t min_pending, int64_t min_ack_pending) noexcept nogil
    cdef void sent_to(self, wait_t* w) noexcept
    cdef int64_t process_waiting(self, bint end_of_stream) noexcept
    cdef void assign_pin(self, wait_t* w) noexcept
    cdef void keep_pin(self) noexcept
    cdef void drop_pin(self) noexcept
    cdef void end_requests(self, const char* status, bint with_pending) noexcept
