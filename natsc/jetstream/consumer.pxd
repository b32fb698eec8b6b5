# A consumer of a stream: finds what is to be delivered, delivers it, and takes what its clients say.
#
# It is four classes one behind the other, each in a file of its own: AckingConsumer (acknowledgements, persistence),
# PullingConsumer (pull requests), ConfiguredConsumer (its configuration, where it begins), Consumer (the next message, push,
# time).

from libc.stdint cimport int64_t, uint32_t, uint64_t

from natsc.engine.types cimport match_t, msg_t, timer_node_t, watch_t
from natsc.jetstream.consumer_setup cimport ConfiguredConsumer
from natsc.jetstream.delivery cimport ack_info_t
from natsc.jetstream.layout cimport stored_t

# What came for a consumer this turn; then its reply subject, headers and body.
cdef struct letter_t:
    uint32_t kind
    uint32_t reply_len
    uint32_t hdr_len
    uint32_t body_len
    uint32_t size           # of the record
    uint32_t unused
    ack_info_t ack          # of a removed message: its sequence

# The message that is to be delivered next.
cdef struct next_t:
    uint64_t seq
    uint64_t deliveries     # with this one
    uint64_t before         # next_sseq before it was taken
    int source

cdef class Consumer(ConfiguredConsumer):
    cdef timer_node_t timer
    cdef watch_t watch                  # push: who listens to the deliver subject
    cdef bint interest_changed
    cdef char* inbox                    # of letter_t
    cdef Py_ssize_t inbox_len
    cdef Py_ssize_t inbox_cap
    cdef uint64_t begin_op              # what must be on disk before it delivers; 0 = not known yet
    cdef bint begun                     # it delivers
    cdef bint stalled                   # the last delivery stopped at max_ack_pending
    cdef uint64_t kick_ns               # when to go on delivering; 0 = not later
    # Push.
    cdef int64_t heartbeat_ns           # 0 = none
    cdef uint64_t heartbeat_at_ns
    cdef int64_t window                 # flow control: bytes that may be out; 0 = no flow control
    cdef int64_t out_bytes              # delivered since the last answer
    cdef int64_t asked_bytes            # what the answer that is waited for is about
    cdef bint replay                    # in the rhythm in which they were stored, until replay_end
    cdef uint64_t replay_end
    cdef int64_t replay_last_ts
    cdef uint64_t held_seq              # the message that waits for held_until_ns
    cdef uint64_t held_until_ns

    cdef void take_message(self, int kind, match_t* m, msg_t* msg) noexcept
    cdef bint put_letter(self, letter_t* head, const char* reply, const char* body) noexcept
    cdef void read_inbox(self) noexcept
    cdef void read_letter(self, letter_t* letter) noexcept
    cdef void take_ack(self, ack_info_t* info, const char* reply, Py_ssize_t n, const char* body, Py_ssize_t len) noexcept
    cdef void take_flow_answer(self, const char* subject, Py_ssize_t n, bytes headers) noexcept
    cdef bint level_ok(self, const char* reply, Py_ssize_t n, const char* hdr, Py_ssize_t len)
    cdef void work(self) noexcept
    cdef void take_purge(self) noexcept
    cdef void deliver_ready(self) noexcept
    cdef bint may_begin(self) noexcept
    cdef bint may_deliver(self) noexcept
    cdef int next_message(self, stored_t* m, next_t* c) noexcept
    cdef bint next_redelivery(self, stored_t* m, next_t* c) noexcept
    cdef void put_back(self, next_t* c) noexcept
    cdef bint is_held(self, stored_t* m, Py_ssize_t size) noexcept
    cdef int deliver_next(self, Py_ssize_t* sent) noexcept
    cdef int send_message(self, const char* subject, Py_ssize_t n, msg_t* msg) noexcept
    cdef void delivered(self, next_t* c, Py_ssize_t size) noexcept
    cdef void ask_flow(self) noexcept
    cdef void heartbeat(self) noexcept
    cdef bint has_push_interest(self) noexcept
    cdef void check_interest(self) noexcept
    cdef void check_inactive(self) noexcept
    cdef void arm(self) noexcept
    cdef void sleep_until(self, uint64_t* due, uint64_t when) noexcept
