"""The pending table of a consumer: which messages are out, since when, how often, and which are to be delivered again.

Invariants
1. items[head:end] ascend strictly by seq, dead entries included. Entries move only in acks_add, so a pointer is good until
   the next acks_add.
2. Every pending entry that has a deadline and isn't queued has one in the heap that is not later than it. Deadlines in the
   heap that no entry has any more are skipped where they come up; the heap is rebuilt before they are most of it.
3. A place in the queue counts only where its entry says that it is there.
4. The floor is below every pending entry, and at the last delivery where nothing is pending.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memmove, memset

from natsc.engine.types cimport likely


cdef inline bint is_dead(pend_t* p) noexcept nogil:
    return p.flags == 0 and p.redelivered == 0


cdef uint64_t lower_bound(acks_t* a, uint64_t seq) noexcept nogil:
    """The index of the first entry, dead ones included, whose sequence isn't below seq."""
    cdef uint64_t lo = a.head
    cdef uint64_t hi = a.end
    cdef uint64_t mid
    if lo == hi or a.items[hi - 1].seq < seq:
        return hi
    if a.items[lo].seq >= seq:
        return lo
    # Sequences ascend by at least one an entry, which bounds the place from both sides.
    hi = min(hi - 1, lo + (seq - a.items[lo].seq))
    if likely(a.items[hi].seq == seq):
        return hi
    while lo < hi:
        mid = (lo + hi) >> 1
        if a.items[mid].seq < seq:
            lo = mid + 1
        else:
            hi = mid
    return lo


cdef pend_t* acks_find(acks_t* a, uint64_t seq) noexcept nogil:
    """The entry of seq, or NULL."""
    cdef uint64_t i = lower_bound(a, seq)
    if i == a.end or a.items[i].seq != seq or is_dead(&a.items[i]):
        return NULL
    return &a.items[i]


cdef pend_t* acks_from(acks_t* a, uint64_t seq) noexcept nogil:
    """The first entry at or after seq, or NULL. For a walk: acks_from(p.seq + 1)."""
    cdef uint64_t i = lower_bound(a, seq)
    while i < a.end and is_dead(&a.items[i]):
        i += 1
    return &a.items[i] if i < a.end else NULL


cdef bint make_room(acks_t* a) noexcept nogil:
    """Room for one more at the end: without the dead entries, or with a bigger array."""
    cdef uint64_t i, n = 0, cap
    cdef pend_t* grown
    if a.end < a.cap:
        return True
    if a.cap and a.live <= a.cap - (a.cap >> 2):
        for i in range(a.head, a.end):
            if not is_dead(&a.items[i]):
                if n != i:
                    a.items[n] = a.items[i]
                n += 1
        a.head = 0
        a.end = n
        return True
    cap = a.cap * 2 if a.cap else 64
    grown = <pend_t*>realloc(a.items, cap * sizeof(pend_t))
    if grown == NULL:
        return False
    a.items = grown
    a.cap = cap
    return True


cdef pend_t* acks_add(acks_t* a, uint64_t seq, uint64_t dseq) noexcept nogil:
    """The entry of seq, made where there is none, pending. dseq is that of its first delivery. NULL where memory is out."""
    cdef pend_t* p
    cdef uint64_t i = lower_bound(a, seq)
    if i == a.end or a.items[i].seq != seq:
        if not make_room(a):
            return NULL
        i = lower_bound(a, seq)     # the dead ones may have gone
        if i < a.end:
            memmove(&a.items[i + 1], &a.items[i], (a.end - i) * sizeof(pend_t))
        a.end += 1
        memset(&a.items[i], 0, sizeof(pend_t))
        a.items[i].seq = seq
    p = &a.items[i]
    if is_dead(p):
        a.live += 1
        p.dseq = dseq
        p.heap_ns = 0
    if not p.flags & ACK_PENDING:
        p.flags |= ACK_PENDING
        a.pending += 1
    acks_touch(a, seq)
    return p


cdef void trim(acks_t* a) noexcept nogil:
    while a.head < a.end and is_dead(&a.items[a.head]):
        a.head += 1
    while a.end > a.head and is_dead(&a.items[a.end - 1]):
        a.end -= 1
    if a.head == a.end:
        a.head = a.end = 0


cdef void acks_drop(acks_t* a, pend_t* p) noexcept nogil:
    """Forget an entry."""
    acks_unqueue(a, p)
    acks_touch(a, p.seq)
    if p.flags & ACK_PENDING:
        a.pending -= 1
    if p.redelivered:
        a.redelivered -= 1
    p.flags = 0
    p.redelivered = 0
    p.heap_ns = 0
    a.live -= 1
    trim(a)


cdef void acks_give_up(acks_t* a, pend_t* p) noexcept nogil:
    """Deliver it no more, but remember how often it was delivered."""
    if not p.redelivered:
        acks_drop(a, p)
        return
    acks_unqueue(a, p)
    if p.flags & ACK_PENDING:
        p.flags &= ~ACK_PENDING
        a.pending -= 1
        acks_touch(a, p.seq)


cdef void acks_redelivered(acks_t* a, pend_t* p, int by) noexcept nogil:
    """Count a redelivery, or take back one that didn't come about. The entry must be pending."""
    if by < 0 and p.redelivered == 0:
        return
    if p.redelivered == 0:
        a.redelivered += 1
    p.redelivered += by
    if p.redelivered == 0:
        a.redelivered -= 1
    acks_touch(a, p.seq)


# ---------------------------------------------------------------------------------------------------- deadlines

cdef inline bint before(due_t* x, due_t* y) noexcept nogil:
    return x.when_ns < y.when_ns or (x.when_ns == y.when_ns and x.seq < y.seq)


cdef void heap_up(acks_t* a, uint64_t i) noexcept nogil:
    cdef due_t item = a.heap[i]
    cdef uint64_t parent
    while i > 0:
        parent = (i - 1) >> 1
        if not before(&item, &a.heap[parent]):
            break
        a.heap[i] = a.heap[parent]
        i = parent
    a.heap[i] = item


cdef void heap_down(acks_t* a, uint64_t i) noexcept nogil:
    cdef due_t item = a.heap[i]
    cdef uint64_t child
    while True:
        child = 2 * i + 1
        if child >= a.heap_len:
            break
        if child + 1 < a.heap_len and before(&a.heap[child + 1], &a.heap[child]):
            child += 1
        if not before(&a.heap[child], &item):
            break
        a.heap[i] = a.heap[child]
        i = child
    a.heap[i] = item


cdef void heap_pop(acks_t* a) noexcept nogil:
    a.heap_len -= 1
    if a.heap_len:
        a.heap[0] = a.heap[a.heap_len]
        heap_down(a, 0)


cdef void heap_rebuild(acks_t* a) noexcept nogil:
    """Only one deadline an entry, its own."""
    cdef uint64_t i, n = 0
    cdef pend_t* p
    for i in range(a.head, a.end):
        p = &a.items[i]
        p.heap_ns = 0
        if p.flags & ACK_PENDING and not p.flags & ACK_QUEUED and p.due_ns and n < a.heap_cap:
            a.heap[n].when_ns = p.heap_ns = p.due_ns
            a.heap[n].seq = p.seq
            n += 1
    a.heap_len = n
    i = n >> 1
    while i > 0:
        i -= 1
        heap_down(a, i)


cdef bint acks_due(acks_t* a, pend_t* p, uint64_t due_ns) noexcept nogil:
    """Set when p is to be delivered again. False where memory is out: it then stays pending without a deadline."""
    cdef due_t* grown
    p.due_ns = due_ns
    if p.heap_ns and p.heap_ns <= due_ns:
        return True
    if a.heap_len == a.heap_cap:
        if a.heap_len > 64 and a.heap_len > 2 * a.pending:
            heap_rebuild(a)
            if p.heap_ns:
                return True
        else:
            grown = <due_t*>realloc(a.heap, (a.heap_cap * 2 + 64) * sizeof(due_t))
            if grown == NULL:
                return False
            a.heap = grown
            a.heap_cap = a.heap_cap * 2 + 64
    p.heap_ns = due_ns
    a.heap[a.heap_len].when_ns = due_ns
    a.heap[a.heap_len].seq = p.seq
    a.heap_len += 1
    heap_up(a, a.heap_len - 1)
    return True


cdef bint settle_top(acks_t* a) noexcept nogil:
    """Make the heap's first deadline one that an entry really has. False where there is none."""
    cdef pend_t* p
    while a.heap_len:
        p = acks_find(a, a.heap[0].seq)
        if p == NULL or p.heap_ns != a.heap[0].when_ns or p.flags & (ACK_PENDING | ACK_QUEUED) != ACK_PENDING:
            if p != NULL and p.heap_ns == a.heap[0].when_ns:
                p.heap_ns = 0
            # Those that no entry has any more mostly come together, where a client acknowledges what it got.
            if a.heap_len > 64 and a.heap_len > 2 * a.pending and a.heap_len * 4 > a.end - a.head:
                heap_rebuild(a)
            else:
                heap_pop(a)
        elif p.due_ns > p.heap_ns:      # it was put off
            a.heap[0].when_ns = p.heap_ns = p.due_ns
            heap_down(a, 0)
        else:
            return True
    return False


cdef uint64_t acks_next_due(acks_t* a) noexcept nogil:
    """The earliest deadline, 0 where there is none."""
    return a.heap[0].when_ns if settle_top(a) else 0


cdef pend_t* acks_pop_due(acks_t* a, uint64_t now_ns) noexcept nogil:
    """A pending entry whose deadline has come, which it loses; NULL where there is none. Earliest first."""
    cdef pend_t* p
    if not settle_top(a) or a.heap[0].when_ns > now_ns:
        return NULL
    p = acks_find(a, a.heap[0].seq)
    p.heap_ns = 0
    p.due_ns = 0
    heap_pop(a)
    return p


# ---------------------------------------------------------------------------------------------------- redeliveries

cdef bint acks_enqueue(acks_t* a, pend_t* p) noexcept nogil:
    """Queue a pending entry for another delivery; nothing happens where it is queued. False where memory is out."""
    cdef uint64_t* grown
    cdef uint64_t i, n = 0, cap
    cdef pend_t* other
    if p.flags & ACK_QUEUED:
        return True
    if a.queue_end - a.queue_head == a.queue_cap:
        cap = a.queue_cap
        if cap == 0 or a.queued > cap >> 1:
            cap = cap * 2 if cap else 64
        grown = <uint64_t*>malloc(cap * sizeof(uint64_t))
        if grown == NULL:
            return False
        for i in range(a.queue_head, a.queue_end):
            other = acks_find(a, a.queue[i & (a.queue_cap - 1)])
            if other != NULL and other.flags & ACK_QUEUED and other.queue_pos == i:
                grown[n] = other.seq
                other.queue_pos = n
                n += 1
        free(a.queue)
        a.queue = grown
        a.queue_cap = cap
        a.queue_head = 0
        a.queue_end = n
    p.flags |= ACK_QUEUED
    p.queue_pos = a.queue_end
    a.queue[a.queue_end & (a.queue_cap - 1)] = p.seq
    a.queue_end += 1
    a.queued += 1
    return True


cdef void acks_unqueue(acks_t* a, pend_t* p) noexcept nogil:
    """Take p out of the queue of redeliveries; its deadline is the caller's business."""
    if p.flags & ACK_QUEUED:
        p.flags &= ~ACK_QUEUED
        a.queued -= 1
        if a.queued == 0:
            a.queue_head = a.queue_end


cdef pend_t* acks_dequeue(acks_t* a) noexcept nogil:
    """The entry that is to be delivered again first, out of the queue; NULL where there is none."""
    cdef pend_t* p
    cdef uint64_t pos
    while a.queue_head < a.queue_end:
        pos = a.queue_head
        a.queue_head += 1
        p = acks_find(a, a.queue[pos & (a.queue_cap - 1)])
        if p != NULL and p.flags & ACK_QUEUED and p.queue_pos == pos:
            p.flags &= ~ACK_QUEUED
            a.queued -= 1
            return p
    return NULL


cdef void acks_put_back(acks_t* a, pend_t* p) noexcept nogil:
    """Undo acks_dequeue, before anything else was queued: p is the first again."""
    if p.flags & ACK_QUEUED or a.queue_head == 0 or a.queue_end - a.queue_head == a.queue_cap:
        acks_enqueue(a, p)
        return
    a.queue_head -= 1
    a.queue[a.queue_head & (a.queue_cap - 1)] = p.seq
    p.flags |= ACK_QUEUED
    p.queue_pos = a.queue_head
    a.queued += 1


# ---------------------------------------------------------------------------------------------------- the floor

cdef void acks_delivered(acks_t* a, uint64_t seq, uint64_t dseq) noexcept nogil:
    """A delivery went out."""
    a.delivered_dseq = max(a.delivered_dseq, dseq)
    a.delivered_sseq = max(a.delivered_sseq, seq)


cdef void acks_raise_floor(acks_t* a, uint64_t seq, uint64_t dseq) noexcept nogil:
    """The entry of seq, first delivered as dseq, is no longer pending: move the floor if it held it."""
    cdef pend_t* p
    if a.pending == 0:
        a.floor_dseq = a.delivered_dseq
        a.floor_sseq = a.delivered_sseq
    elif dseq == a.floor_dseq + 1:
        a.floor_dseq = dseq
        a.floor_sseq = seq
        p = acks_from(a, seq + 1)
        while p != NULL and not p.flags & ACK_PENDING:
            p = acks_from(a, p.seq + 1)
        if p != NULL and p.dseq > 0:
            a.floor_dseq = p.dseq - 1
            a.floor_sseq = p.seq - 1


# ---------------------------------------------------------------------------------------------------- what changed

cdef int compare(const void* x, const void* y) noexcept nogil:
    return (<uint64_t*>x)[0] > (<uint64_t*>y)[0] or -((<uint64_t*>x)[0] < (<uint64_t*>y)[0])


cdef void sort_dirty(acks_t* a) noexcept nogil:
    cdef uint64_t i, n = 0
    qsort(a.dirty, a.dirty_len, sizeof(uint64_t), compare)
    for i in range(a.dirty_len):
        if n == 0 or a.dirty[i] != a.dirty[n - 1]:
            a.dirty[n] = a.dirty[i]
            n += 1
    a.dirty_len = n


cdef void acks_touch(acks_t* a, uint64_t seq) noexcept nogil:
    """What is known of seq has changed and is to be written."""
    cdef uint64_t page = seq >> ACK_PAGE_BITS
    cdef uint64_t* grown
    if a.dirty_len and a.dirty[a.dirty_len - 1] == page:
        return
    if a.dirty_len == a.dirty_cap:
        if a.dirty_len:
            sort_dirty(a)
        if a.dirty_len > a.dirty_cap >> 1 or a.dirty_cap == 0:
            grown = <uint64_t*>realloc(a.dirty, (a.dirty_cap * 2 + 16) * sizeof(uint64_t))
            if grown == NULL:
                a.lossy = a.lossy or a.dirty_len == a.dirty_cap
                if a.lossy:
                    return
            else:
                a.dirty = grown
                a.dirty_cap = a.dirty_cap * 2 + 16
    a.dirty[a.dirty_len] = page
    a.dirty_len += 1


cdef uint64_t acks_take_dirty(acks_t* a) noexcept nogil:
    """How many pages changed: dirty[:n], ascending, each once. The list then starts anew; read it before the next change."""
    cdef uint64_t n
    sort_dirty(a)
    n = a.dirty_len
    a.dirty_len = 0
    return n


cdef void acks_clear(acks_t* a) noexcept nogil:
    """Forget every entry. Floor and last delivery are the caller's business."""
    cdef pend_t* p = acks_from(a, 0)
    while p != NULL:
        acks_touch(a, p.seq)
        p = acks_from(a, p.seq + 1)
    a.head = a.end = a.live = a.pending = a.redelivered = 0
    a.heap_len = 0
    a.queue_head = a.queue_end = a.queued = 0


cdef void acks_free(acks_t* a) noexcept nogil:
    free(a.items)
    free(a.heap)
    free(a.queue)
    free(a.dirty)
    memset(a, 0, sizeof(acks_t))


cdef class AckTable:
    """The table for Python: tests."""
    cdef acks_t a

    def __dealloc__(self):
        acks_free(&self.a)

    def deliver(self, uint64_t seq, uint64_t dseq, uint64_t due_ns):
        """A delivery of seq, the first or another one."""
        cdef pend_t* p = acks_add(&self.a, seq, dseq)
        acks_due(&self.a, p, due_ns)
        acks_delivered(&self.a, seq, dseq)

    def ack(self, uint64_t seq):
        cdef pend_t* p = acks_find(&self.a, seq)
        cdef uint64_t dseq
        cdef bint pending
        if p == NULL:
            return False
        dseq = p.dseq
        pending = p.flags & ACK_PENDING
        acks_drop(&self.a, p)
        if pending:
            acks_raise_floor(&self.a, seq, dseq)
        return bool(pending)

    def postpone(self, uint64_t seq, uint64_t due_ns):
        cdef pend_t* p = acks_find(&self.a, seq)
        if p != NULL and p.flags & (ACK_PENDING | ACK_QUEUED) == ACK_PENDING:
            acks_due(&self.a, p, due_ns)

    def expire(self, uint64_t now_ns):
        """Queue what is due; the sequences in the order of their deadlines."""
        cdef pend_t* p
        cdef list found = []
        while True:
            p = acks_pop_due(&self.a, now_ns)
            if p == NULL:
                return found
            found.append(p.seq)
            acks_enqueue(&self.a, p)

    def redeliver(self, uint64_t due_ns):
        """Take the next from the queue and deliver it again. Returns (seq, deliveries), or None."""
        cdef pend_t* p = acks_dequeue(&self.a)
        if p == NULL:
            return None
        acks_redelivered(&self.a, p, 1)
        acks_due(&self.a, p, due_ns)
        return p.seq, p.redelivered + 1

    def put_back(self):
        """Take the next from the queue and put it back. Returns its sequence, or None."""
        cdef pend_t* p = acks_dequeue(&self.a)
        if p == NULL:
            return None
        acks_put_back(&self.a, p)
        return p.seq

    def give_up(self, uint64_t seq):
        cdef pend_t* p = acks_find(&self.a, seq)
        cdef uint64_t dseq
        if p != NULL and p.flags & ACK_PENDING:
            dseq = p.dseq
            acks_give_up(&self.a, p)
            acks_raise_floor(&self.a, seq, dseq)

    def unqueue(self, uint64_t seq, uint64_t due_ns):
        cdef pend_t* p = acks_find(&self.a, seq)
        if p != NULL and p.flags & ACK_QUEUED:
            acks_unqueue(&self.a, p)
            acks_due(&self.a, p, due_ns)

    def take_dirty(self):
        cdef uint64_t n = acks_take_dirty(&self.a)
        return [self.a.dirty[i] for i in range(n)]

    def clear(self):
        acks_clear(&self.a)

    def entries(self):
        """(seq, dseq, pending, queued, redelivered) of each."""
        cdef pend_t* p = acks_from(&self.a, 0)
        cdef list found = []
        while p != NULL:
            found.append((p.seq, p.dseq, bool(p.flags & ACK_PENDING), bool(p.flags & ACK_QUEUED), p.redelivered))
            p = acks_from(&self.a, p.seq + 1)
        return found

    @property
    def next_due(self):
        return acks_next_due(&self.a)

    @property
    def floor(self):
        return self.a.floor_dseq, self.a.floor_sseq

    @property
    def counts(self):
        return self.a.pending, self.a.queued, self.a.redelivered
