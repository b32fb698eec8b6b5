# What a consumer has delivered and what of it is still to be acknowledged.
#
# Entries lie in an array in the order of their stream sequences: mostly they come in that order and go near its front.
# A heap of deadlines and a queue of what is to be delivered again point at them by sequence.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    ACK_PENDING = 1         # delivered, neither acknowledged nor given up
    ACK_QUEUED = 2          # in the queue of redeliveries
    ACK_PAGE_BITS = 6       # a page of the persistent state: what is known of 64 sequences

# One message. An entry without ACK_PENDING is kept for its number of redeliveries: it was delivered as often as allowed.
cdef struct pend_t:
    uint64_t seq            # stream sequence
    uint64_t dseq           # consumer sequence of its first delivery
    int64_t sent_ns         # engine clock: when the time for its acknowledgement began; may be below 0
    uint64_t due_ns         # when it is to be delivered again
    uint64_t heap_ns        # the earliest of its deadlines in the heap; 0 = none
    uint64_t queue_pos      # its place in the queue of redeliveries
    uint32_t redelivered    # deliveries after the first
    uint32_t flags          # ACK_* bits; an entry with neither flags nor redeliveries is dead

cdef struct due_t:
    uint64_t when_ns
    uint64_t seq

cdef struct acks_t:
    pend_t* items           # by seq, ascending; dead ones between live ones
    uint64_t head
    uint64_t end
    uint64_t cap
    uint64_t live           # entries that aren't dead
    uint64_t pending
    uint64_t redelivered    # entries with redeliveries
    due_t* heap
    uint64_t heap_len
    uint64_t heap_cap
    uint64_t* queue         # ring
    uint64_t queue_head     # places are counted on for ever
    uint64_t queue_end
    uint64_t queue_cap
    uint64_t queued         # valid ones among them
    uint64_t* dirty         # pages that changed since they were written
    uint64_t dirty_len
    uint64_t dirty_cap
    bint lossy              # memory was out: what is dirty is not known any more
    # Sequences: of the last delivery and of the floor, up to which everything is done with.
    uint64_t delivered_dseq
    uint64_t delivered_sseq
    uint64_t floor_dseq
    uint64_t floor_sseq

cdef pend_t* acks_find(acks_t* a, uint64_t seq) noexcept nogil
cdef pend_t* acks_from(acks_t* a, uint64_t seq) noexcept nogil
cdef pend_t* acks_add(acks_t* a, uint64_t seq, uint64_t dseq) noexcept nogil
cdef void acks_drop(acks_t* a, pend_t* p) noexcept nogil
cdef void acks_give_up(acks_t* a, pend_t* p) noexcept nogil
cdef bint acks_due(acks_t* a, pend_t* p, uint64_t due_ns) noexcept nogil
cdef uint64_t acks_next_due(acks_t* a) noexcept nogil
cdef pend_t* acks_pop_due(acks_t* a, uint64_t now_ns) noexcept nogil
cdef bint acks_enqueue(acks_t* a, pend_t* p) noexcept nogil
cdef void acks_put_back(acks_t* a, pend_t* p) noexcept nogil
cdef void acks_unqueue(acks_t* a, pend_t* p) noexcept nogil
cdef pend_t* acks_dequeue(acks_t* a) noexcept nogil
cdef void acks_redelivered(acks_t* a, pend_t* p, int by) noexcept nogil
cdef void acks_touch(acks_t* a, uint64_t seq) noexcept nogil
cdef uint64_t acks_take_dirty(acks_t* a) noexcept nogil
cdef void acks_delivered(acks_t* a, uint64_t seq, uint64_t dseq) noexcept nogil
cdef void acks_raise_floor(acks_t* a, uint64_t seq, uint64_t dseq) noexcept nogil
cdef void acks_clear(acks_t* a) noexcept nogil
cdef void acks_free(acks_t* a) noexcept nogil
