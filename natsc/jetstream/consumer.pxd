# A consumer of a stream: finds what is to be delivered, delivers it, and takes what its clients say.
#
# It is a row of classes, each in a file of its own: AckingConsumer (acknowledgements, persistence), PullingConsumer (pull
# requests), ConfiguredConsumer (its configuration, where it begins), PushingConsumer (interest, flow control), Consumer (the
# next message, time), and in Python ManagedConsumer (what the API asks, and what is rare).

from libc.stdint cimport int64_t, uint32_t, uint64_t

from natsc.engine.types cimport match_t, msg_t, timer_node_t
from natsc.jetstream.consumer_push cimport PushingConsumer
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

cdef class Consumer(PushingConsumer):
    cdef timer_node_t timer
    cdef char* inbox                    # of letter_t
    cdef Py_ssize_t inbox_len
    cdef Py_ssize_t inbox_cap
    cdef uint64_t begin_op              # what must be on disk before it delivers; 0 = not known yet
    cdef bint begun                     # it delivers
    cdef uint64_t fresh                 # of the messages that are new, those in the filters: see on_subject
    cdef bint stalled                   # the last delivery stopped at max_ack_pending
    cdef uint64_t kick_ns               # when to go on delivering; 0 = not later
    cdef bint replay                    # in the rhythm in which they were stored, until replay_end
    cdef uint64_t replay_end
    cdef int64_t replay_last_ts
    cdef uint64_t held_seq              # the message that waits for held_until_ns
    cdef uint64_t held_until_ns

    cdef void take_message(self, int kind, match_t* m, msg_t* msg) noexcept
    cdef bint put_letter(self, letter_t* head, const char* reply, const char* body) noexcept
    cdef bint is_skipped_to(self, uint64_t seq) noexcept
    cdef void read_inbox(self) noexcept
    cdef void read_letter(self, letter_t* letter) noexcept
    cdef void take_ack(self, ack_info_t* info, const char* reply, Py_ssize_t n, const char* body, Py_ssize_t len) noexcept
    cdef void work(self) noexcept
    cdef void take_purge(self) noexcept
    cdef void deliver_ready(self) noexcept
    cdef uint64_t soon(self) noexcept
    cdef bint may_begin(self) noexcept
    cdef bint may_deliver(self) noexcept
    cdef int next_message(self, stored_t* m, next_t* c) noexcept
    cdef bint next_redelivery(self, stored_t* m, next_t* c) noexcept
    cdef void put_back(self, next_t* c) noexcept
    cdef bint is_held(self, stored_t* m, Py_ssize_t size) noexcept
    cdef int deliver_next(self, Py_ssize_t* sent) noexcept
    cdef int send_message(self, match_t* m, const char* to, Py_ssize_t n, msg_t* msg) noexcept
    cdef void delivered(self, next_t* c, Py_ssize_t size) noexcept
    cdef void check_inactive(self) noexcept
    cdef void arm(self) noexcept
    cdef void sleep_until(self, uint64_t* due, uint64_t when) noexcept
