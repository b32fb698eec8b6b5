# The first half of a consumer: what it is, how far it has come, acknowledgements, and what of that is kept on disk.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from natsc._core cimport Client, Engine
from natsc.engine.types cimport account_t, engine_t, job_t
from natsc.jetstream.ackstate cimport acks_t, pend_t
from natsc.jetstream.consumer_index cimport StreamConsumer
from natsc.jetstream.delivery cimport scratch_t
from natsc.jetstream.outbox cimport Outbox
from natsc.jetstream.retained cimport RetainedStream
from natsc.jetstream.subjectstate cimport filter_t

cdef enum:
    POLICY_NONE = 0
    POLICY_ALL = 1
    POLICY_EXPLICIT = 2
    POLICY_FLOW_CONTROL = 3     # as all, but acknowledged by answers to flow control

cdef class AckingConsumer(StreamConsumer):
    cdef RetainedStream stream
    cdef readonly str name
    cdef readonly object config             # ConsumerConfig: never changed in place
    cdef readonly int64_t created           # wall clock, ns
    cdef Engine engine
    cdef engine_t* e
    cdef account_t* account
    cdef Outbox outbox
    cdef Client client                      # holds the subscriptions
    cdef readonly bint closed
    cdef bint kept                          # its state is kept on disk
    cdef bint woken                         # there may be something to deliver
    cdef job_t job
    cdef scratch_t scratch
    cdef bytes key                          # of what it keeps: "state/<name>\0"
    cdef bytes ack_prefix                   # "$JS.ACK.[<domain>.<account>.]<stream>.<consumer>."
    cdef bytes nak_subject                  # of events
    cdef bytes term_subject
    cdef bytes sample_subject
    cdef bytes exceeded_subject
    # The configuration, as C reads it.
    cdef int policy                         # POLICY_*
    cdef int64_t ack_wait_ns
    cdef int64_t max_deliver                # <= 0 = no limit
    cdef uint64_t max_pending               # 0 = no limit
    cdef int64_t* backoff
    cdef Py_ssize_t num_backoff
    cdef int sample_percent
    cdef filter_t* filters
    cdef Py_ssize_t num_filters
    cdef list filter_texts                  # what filters point at
    # Where it is.
    cdef acks_t acks
    cdef uint64_t next_sseq                 # the stream sequence to look at next
    cdef uint64_t next_dseq                 # the number of the next delivery
    cdef int64_t last_delivered_ns          # wall clock; 0 = never
    cdef int64_t last_ack_ns
    cdef uint64_t last_ack_at_ns            # the same on the engine's clock
    cdef uint64_t skip_resume               # last_per_subject: the last sequence that the list of messages is of; 0 = none
    cdef bint changed                       # the head of the state is to be written
    # Replies to confirmed acknowledgements, until what they say is queued for the disk: lengths and subjects.
    cdef char* replies
    cdef Py_ssize_t replies_len
    cdef Py_ssize_t replies_cap

    cdef object keep                        # itself while its job is posted

    cdef void post(self) noexcept
    cdef void wake(self) noexcept
    cdef bint listened(self, bytes subject) noexcept
    cdef void event(self, str kind, tuple args)
    cdef int64_t wait_of(self, pend_t* p) noexcept nogil
    cdef void set_due(self, pend_t* p, int64_t base_ns) noexcept nogil
    cdef bint process_ack(self, uint64_t sseq, uint64_t dseq, uint64_t deliveries, bint sample) noexcept
    cdef void ack_explicit(self, uint64_t sseq, uint64_t dseq, uint64_t deliveries, bint sample) noexcept
    cdef void ack_up_to(self, uint64_t sseq, uint64_t dseq) noexcept
    cdef void process_nak(self, uint64_t sseq, uint64_t dseq, uint64_t deliveries, const char* body, Py_ssize_t n) noexcept
    cdef bint unusual_delay(self, const char* body, Py_ssize_t n, int64_t* out) noexcept
    cdef bint process_term(self, uint64_t sseq, uint64_t dseq, uint64_t deliveries, bytes reason) noexcept
    cdef void process_progress(self, uint64_t sseq) noexcept
    cdef void sample(self, pend_t* p, uint64_t dseq, uint64_t deliveries) noexcept
    cdef bint gave_up(self, pend_t* p) noexcept
    cdef void give_up(self, pend_t* p) noexcept
    cdef void expire(self) noexcept
    cdef void forget(self, uint64_t seq) noexcept
    cdef void queue_reply(self, const char* reply, Py_ssize_t n) noexcept
    cdef void answer(self, bint saved) noexcept
    cdef bint save(self) noexcept
    cdef bint save_page(self, uint64_t page, int64_t wall_offset) noexcept
    cdef bint save_head(self) noexcept
    cdef void load_page(self, bytes value, uint64_t page, int64_t wall_offset)
