# Which of a stream's consumers want a subject, without asking each of them.

from libc.stdint cimport uint64_t

from natsc.engine.types cimport sub_t, sublist_t
from natsc.jetstream.subjectstate cimport filter_t

cdef enum:
    PART_NONE = 0           # nothing, or something beside other things
    PART_ALL = 1
    PART_WIDER = 2          # all that is in the filter, and more

# What a stream calls of a consumer; natsc/jetstream/consumer.pyx extends it. Nothing here may publish: a consumer posts a job
# (engine.deliver.job_post) and works there, or uses the outbox.
cdef class StreamConsumer:
    # Of the ConsumerIndex that has it.
    cdef sub_t** subs               # its filters in the tree
    cdef Py_ssize_t num_subs
    cdef uint64_t asked             # number of the last find that found it
    cdef uint64_t touched           # number of the last round of new messages that touched it

    # The subjects that it wants (bytes); empty = all.
    cdef list wanted(self)
    # Messages first_seq to last_seq are visible now (some of them may be gone again): count of them are there. Only where it
    # wants one of them, or has asked for it (ConsumerIndex.tell_next).
    cdef void on_new(self, uint64_t first_seq, uint64_t last_seq, uint64_t count) noexcept
    # Before it, for each that is there and that it wants. Only where it doesn't want all.
    cdef void on_wanted(self, uint64_t seq) noexcept
    # The message seq, which it wants, is removed; it was not this consumer's acknowledgement.
    cdef void on_removed(self, uint64_t seq, const char* subject, Py_ssize_t n) noexcept
    # Whether it waits for acknowledgements, or remembers deliveries.
    cdef bint has_delivered(self) noexcept
    # A purge or a jump: many messages went, if some did. Where told, the consumer moves on: up to first_seq there is
    # nothing for it.
    cdef void on_purged(self, uint64_t first_seq, bint told, bint some) noexcept
    # Of what the consumer wants, how much is in a filter: PART_*.
    cdef int part_in(self, const filter_t* f) noexcept nogil
    # The stream is being deleted: forget everything, answer what waits ("Consumer Deleted"), keep nothing on disk.
    cdef void on_stream_deleted(self)
    # The server stops: answer what waits ("Server Shutdown"), write what must survive a clean stop.
    cdef void on_shutdown(self)
    # Interest retention: is seq, which passes the filters, still to be delivered or acknowledged?
    cdef bint needs(self, uint64_t seq) noexcept nogil

cdef class ConsumerIndex:
    cdef sublist_t tree             # of filters; the text of a subscription is a pointer to its consumer
    cdef list broad                 # of those that want everything
    cdef list mixed                 # of those that may have delivered what they don't want any more
    cdef list curious               # of those that want to hear of the next messages, whatever they are
    cdef Py_ssize_t num_filtered
    cdef uint64_t finds
    cdef uint64_t rounds            # of new messages
    # Room for all consumers. They are borrowed: the stream's list owns them.
    cdef void** found
    cdef Py_ssize_t num_found
    cdef void** touched
    cdef Py_ssize_t num_touched
    cdef Py_ssize_t cap

    cdef int add(self, StreamConsumer c) except -1
    cdef bint add_filters(self, StreamConsumer c, list wanted)
    cdef void drop_filters(self, StreamConsumer c)
    cdef void remove(self, StreamConsumer c)
    cdef void name(self, void* c) noexcept
    cdef void find_filtered(self, const char* subject, Py_ssize_t n) noexcept
    cdef void find(self, const char* subject, Py_ssize_t n) noexcept
    cdef bint has(self, const char* subject, Py_ssize_t n) noexcept
    cdef void touch(self, const char* subject, Py_ssize_t n, uint64_t seq) noexcept
    cdef void tell_new(self, uint64_t first_seq, uint64_t last_seq, uint64_t count) noexcept
    cdef void tell_next(self, StreamConsumer c) noexcept
    cdef void tell_removed(self, uint64_t seq, const char* subject, Py_ssize_t n, StreamConsumer but) noexcept
    cdef void mix(self, StreamConsumer c)
