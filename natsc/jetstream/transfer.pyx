"""What a snapshot takes from a stream, and a restore puts into one, beside the messages.

The state of a consumer is a dict, as the reference's JSON: delivered and ack_floor, each with consumer_seq and
stream_seq; pending, by stream sequence, with the consumer sequence and the time (wall clock, ns) of the delivery;
redelivered, by stream sequence, with the number of deliveries after the first.
"""

from libc.stdint cimport int64_t, uint64_t

from natsc.jetstream.ackstate cimport (ACK_PENDING, acks_add, acks_clear, acks_due, acks_from, acks_give_up,
                                       acks_redelivered, pend_t)
from natsc.jetstream.consumer cimport Consumer
from natsc.jetstream.stream cimport Stream

cdef int64_t MS = 1000000


def count_usage(Stream stream not None) -> None:
    """Messages were put into its store directly: count what they take."""
    stream.settle()


def reveal(Stream stream not None) -> None:
    """Everything it has may be seen. What is made of it from here on waits for the disk behind that."""
    stream.visible_seq = stream.store.last_seq


def take_state(Consumer c not None, uint64_t last_seq) -> dict:
    """The state, as far as the stream's messages up to last_seq go."""
    cdef int64_t wall_offset = c.outbox.wall_ns() - <int64_t>c.e.now_ns
    cdef dict pending = {}, redelivered = {}
    cdef pend_t* p
    if not c.closed:
        c.read_inbox()
        c.outbox.touch()
    p = acks_from(&c.acks, 0)
    while p != NULL and p.seq <= last_seq:
        if p.flags & ACK_PENDING:
            pending[p.seq] = {"Sequence": p.dseq, "Timestamp": p.sent_ns + wall_offset}
        if p.redelivered:
            redelivered[p.seq] = p.redelivered
        p = acks_from(&c.acks, p.seq + 1)
    state = {
        "delivered": {"consumer_seq": c.acks.delivered_dseq, "stream_seq": min(c.acks.delivered_sseq, last_seq)},
        "ack_floor": {"consumer_seq": c.acks.floor_dseq, "stream_seq": min(c.acks.floor_sseq, last_seq)},
    }
    if pending:
        state["pending"] = {str(seq): entry for seq, entry in pending.items()}
    if redelivered:
        state["redelivered"] = {str(seq): count for seq, count in redelivered.items()}
    return state


def set_created(Consumer c not None, int64_t created_ns) -> None:
    """It is older than this server's: wall clock, ns."""
    c.created = created_ns
    c.changed = True


def put_state(Consumer c not None, uint64_t delivered_dseq, uint64_t delivered_sseq, uint64_t floor_dseq,
              uint64_t floor_sseq, list pending, dict redelivered) -> None:
    """Let a consumer that has delivered nothing yet go on from there. It is kept with what it does next.

    pending: (sequence, consumer sequence, time) of each, redelivered: {sequence: number}. All of them checked: floors
    not above what was delivered, and what is pending in between.
    """
    cdef int64_t wall_offset = c.outbox.wall_ns() - <int64_t>c.e.now_ns
    cdef int64_t now = <int64_t>c.e.now_ns
    cdef int64_t wait, sent
    cdef uint64_t seq, dseq
    cdef pend_t* p
    acks_clear(&c.acks)
    c.next_sseq = delivered_sseq + 1
    c.next_dseq = delivered_dseq + 1
    c.acks.delivered_sseq, c.acks.delivered_dseq = delivered_sseq, delivered_dseq
    c.acks.floor_sseq, c.acks.floor_dseq = floor_sseq, floor_dseq
    for seq, dseq, sent in pending:
        p = acks_add(&c.acks, seq, dseq)
        if p == NULL:
            raise MemoryError
        if seq in redelivered:
            acks_redelivered(&c.acks, p, <int>redelivered[seq])
        p.sent_ns = sent - wall_offset
        wait = c.wait_of(p)
        if wait > 0:
            # What is overdue is delivered again soon, not at once: its receiver may still be there.
            acks_due(&c.acks, p, <uint64_t>max(p.sent_ns + wait, now + min(wait, 500 * MS)))
    waiting = {entry[0] for entry in pending}
    for seq, count in redelivered.items():
        if seq not in waiting:
            p = acks_add(&c.acks, seq, 0)
            if p == NULL:
                raise MemoryError
            acks_redelivered(&c.acks, p, <int>count)
            acks_give_up(&c.acks, p)
    if c.skip_resume:
        c.skip_at = c.skip_count = 0
        if delivered_sseq < c.skip_resume:
            c.find_last_per_subject(delivered_sseq + 1)
        else:
            c.skip_resume = 0
    c.pending_stale = not c.skip_count
    c.changed = True
    c.purged_first = max(c.stream.first_seq(), <uint64_t>1)
    c.wake()
