"""Acknowledgements, redelivery and persistence of a consumer.

What is kept, under keys that begin with "state/<name>": the head of the state ("s": sequences and floor) and a page ("p")
for every 64 stream sequences of which one is pending or was delivered more than once. save writes the head and the
pages that have changed since the last time, into the same batch as everything else of the turn.

Invariants
1. A confirmed acknowledgement is answered through the outbox, behind the operations that save wrote for it.
2. An acknowledged entry is gone from the table before anybody hears of it.
3. All of this runs in the consumer's job: never within a delivery.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp, memcpy, memset

from natsc.engine.deliver cimport job_post
from natsc.engine.random cimport random_below
from natsc.engine.sublist cimport cache_lookup
from natsc.engine.types cimport match_t
from natsc.jetstream.ackstate cimport (ACK_PAGE_BITS, ACK_PENDING, ACK_QUEUED, acks_add, acks_drop, acks_due, acks_enqueue,
                                       acks_find, acks_free, acks_from, acks_give_up, acks_pop_due, acks_raise_floor,
                                       acks_redelivered, acks_take_dirty, acks_touch, acks_unqueue, pend_t)
from natsc.jetstream.consumer_index cimport StreamConsumer
from natsc.jetstream.failpoint cimport FAIL_CONSUMER_PAGES, failpoint
from natsc.jetstream.layout cimport crc32c, seq_to_key

cdef enum:
    STATE_FORMAT = 1
    PAGE_SEQS = 64
    KEY_MAX = 400
    PAGE_MAX = 8 + 64 * 22          # bytes of a page: 22 are sizeof(saved_t)
    RESTART_WAIT_NS = 500000000     # what is overdue at a restart is delivered again after this

# The head of a consumer's state.
cdef packed struct head_t:
    uint32_t crc            # of what follows
    uint8_t format
    uint8_t unused[3]
    uint64_t next_sseq
    uint64_t next_dseq
    uint64_t delivered_sseq
    uint64_t delivered_dseq
    uint64_t floor_sseq
    uint64_t floor_dseq
    uint64_t skip_resume
    int64_t created         # of the consumer: another one may have had the name

# A page: crc, format, then one of these for each sequence that counts.
cdef packed struct saved_t:
    uint8_t at              # seq & 63
    uint8_t pending
    uint32_t redelivered
    uint64_t dseq
    int64_t base_ns         # wall clock: when the time for its acknowledgement began


cdef int ascending(const void* x, const void* y) noexcept nogil:
    return (<uint64_t*>x)[0] > (<uint64_t*>y)[0] or -((<uint64_t*>x)[0] < (<uint64_t*>y)[0])


cdef bint parse_delay(const char* p, Py_ssize_t n, int64_t* out) noexcept nogil:
    """{"delay": <ns>} as clients write it. False for anything else."""
    cdef const char* end = p + n
    cdef int64_t v = 0
    cdef const char* digits
    if n < 10 or memcmp(p, b'{"delay":', 9) != 0:
        return False
    p += 9
    while p < end and p[0] == 32:
        p += 1
    digits = p
    while p < end and 48 <= p[0] <= 57 and p - digits < 18:
        v = v * 10 + (p[0] - 48)
        p += 1
    while p < end and p[0] == 32:
        p += 1
    if p == digits or p + 1 != end or p[0] != 125:
        return False
    out[0] = v
    return True


cdef class AckingConsumer(StreamConsumer):
    def __dealloc__(self):
        acks_free(&self.acks)
        free(self.backoff)
        free(self.filters)
        free(self.replies)
        free(self.scratch.data)

    cdef void post(self) noexcept:
        """Have the job run at the end of the turn."""
        if not self.closed and not self.job.posted:
            self.keep = self
            job_post(self.e, &self.job)

    cdef void wake(self) noexcept:
        """Look for something to deliver, in the job."""
        self.woken = True
        self.post()

    # Events.

    cdef bint listened(self, bytes subject) noexcept:
        """Does anybody in the account receive this subject?"""
        cdef match_t* m = cache_lookup(self.e, &self.account.sublist, subject, len(subject))
        return m != NULL and m.num_targets > 0

    cdef void event(self, str kind, tuple args):
        """Publish an event about this consumer."""
        cdef bytes subject, payload
        subject, payload = self.make_event(kind, args)
        self.outbox.send(self.account, subject, len(subject), payload, len(payload), 0)

    @property
    def backend(self):
        """Whose stream it is: the account's JetStream."""
        return (<object>self.stream).owner

    # What a subclass in Python knows: rare things, whose rules are long.

    def make_event(self, kind: str, args: tuple) -> tuple[bytes, bytes]:
        """Subject and payload of an event of that name in natsc.jetstream.advisories."""
        raise NotImplementedError

    def read_delay(self, text: bytes) -> int | None:
        """The delay of a NAK that isn't written as clients write it, ns. None where it is none."""
        raise NotImplementedError

    # Deadlines.

    cdef int64_t wait_of(self, pend_t* p) noexcept nogil:
        """How long p may take to be acknowledged; 0 = for ever."""
        if self.num_backoff:
            return self.backoff[min(<Py_ssize_t>p.redelivered, self.num_backoff - 1)]
        return self.ack_wait_ns

    cdef void set_due(self, pend_t* p, int64_t base_ns) noexcept nogil:
        """The time for p's acknowledgement begins at base_ns (engine clock)."""
        cdef int64_t wait = self.wait_of(p)
        p.sent_ns = base_ns
        if wait > 0:
            acks_due(&self.acks, p, <uint64_t>max(base_ns + wait, <int64_t>1))

    # Acknowledgements.

    cdef bint process_ack(self, uint64_t sseq, uint64_t dseq, uint64_t deliveries, bint sample) noexcept:
        """Take an acknowledgement. False where it is for something that was never delivered: that isn't answered."""
        if sseq >= self.next_sseq and self.policy != POLICY_FLOW_CONTROL:
            return False
        if self.policy == POLICY_EXPLICIT:
            self.ack_explicit(sseq, dseq, deliveries, sample)
        elif self.policy != POLICY_NONE:
            if dseq <= self.acks.floor_dseq or sseq <= self.acks.floor_sseq:
                return True
            self.ack_up_to(sseq, dseq)
        if self.last_ack_at_ns != self.e.now_ns or self.last_ack_ns == 0:     # the clock costs more than the rest
            self.last_ack_at_ns = self.e.now_ns
            self.last_ack_ns = self.outbox.wall_ns()
        self.changed = True
        self.stream.consumer_acked(self, sseq)
        return True

    cdef void ack_explicit(self, uint64_t sseq, uint64_t dseq, uint64_t deliveries, bint sample) noexcept:
        cdef pend_t* p = acks_find(&self.acks, sseq)
        cdef bint pending
        if p == NULL:
            return
        pending = p.flags & ACK_PENDING
        if pending:
            if sample and self.sample_percent:
                self.sample(p, dseq, deliveries)
            if self.max_pending and self.acks.pending >= self.max_pending:
                self.wake()
        dseq = p.dseq
        acks_drop(&self.acks, p)
        if pending:
            acks_raise_floor(&self.acks, sseq, dseq)

    cdef void ack_up_to(self, uint64_t sseq, uint64_t dseq) noexcept:
        """Everything up to sseq is done with, but for what was given up: it stays for who looks at the stream for it."""
        cdef pend_t* p = acks_from(&self.acks, self.acks.floor_sseq + 1)
        cdef uint64_t seq
        if self.max_pending and self.acks.pending >= self.max_pending:
            self.wake()
        self.acks.floor_dseq = dseq
        self.acks.floor_sseq = sseq
        while p != NULL and p.seq <= sseq:
            seq = p.seq
            if p.flags & ACK_PENDING:
                acks_drop(&self.acks, p)
                if seq != sseq:
                    self.stream.consumer_acked(self, seq)
            p = acks_from(&self.acks, seq + 1)

    cdef void process_nak(self, uint64_t sseq, uint64_t dseq, uint64_t deliveries, const char* body, Py_ssize_t n) noexcept:
        """Deliver it again, at once or after the delay that stands in body (behind "-NAK")."""
        cdef pend_t* p = acks_find(&self.acks, sseq)
        cdef int64_t delay
        if dseq <= self.acks.floor_dseq or dseq > self.next_dseq or p == NULL or not p.flags & ACK_PENDING:
            return
        if self.listened(self.nak_subject):
            self.event("message_naked", (self.stream.name, self.name, dseq, sseq, deliveries))
            p = acks_find(&self.acks, sseq)
        while n and (body[0] == 32 or 9 <= body[0] <= 13):
            body += 1
            n -= 1
        while n and (body[n - 1] == 32 or 9 <= body[n - 1] <= 13):
            n -= 1
        if n and (parse_delay(body, n, &delay) or self.unusual_delay(body, n, &delay)):
            acks_unqueue(&self.acks, p)
            # As if it had been sent so long ago that its time is up after the delay.
            self.set_due(p, <int64_t>self.e.now_ns - self.ack_wait_ns + delay)
            acks_touch(&self.acks, sseq)
            return
        acks_enqueue(&self.acks, p)
        self.wake()

    cdef bint unusual_delay(self, const char* body, Py_ssize_t n, int64_t* out) noexcept:
        """The delay of a NAK where it isn't JSON as clients write it. False where it is none."""
        delay = self.read_delay(body[:n])
        if delay is None:
            return False
        out[0] = delay
        return True

    cdef bint process_term(self, uint64_t sseq, uint64_t dseq, uint64_t deliveries, bytes reason) noexcept:
        """Deliver it no more. False as process_ack says it."""
        cdef bint known = self.process_ack(sseq, dseq, deliveries, False)
        if self.listened(self.term_subject):
            self.event("message_terminated", (self.stream.name, self.name, dseq, sseq, deliveries,
                                              reason.decode("utf-8", "replace")))
        return known

    cdef void process_progress(self, uint64_t sseq) noexcept:
        """Its time begins anew."""
        cdef pend_t* p = acks_find(&self.acks, sseq)
        if p == NULL or not p.flags & ACK_PENDING:
            return
        if p.flags & ACK_QUEUED:
            p.sent_ns = <int64_t>self.e.now_ns
        else:
            self.set_due(p, <int64_t>self.e.now_ns)
        acks_touch(&self.acks, sseq)

    cdef void sample(self, pend_t* p, uint64_t dseq, uint64_t deliveries) noexcept:
        """Say how long the acknowledgement took, as often as configured."""
        cdef uint64_t seq = p.seq
        cdef int64_t took = <int64_t>self.e.now_ns - p.sent_ns
        if self.sample_percent < 100 and <int>random_below(&self.e.random, 100) > self.sample_percent:
            return
        if self.listened(self.sample_subject):
            self.event("ack_metric", (self.stream.name, self.name, dseq, seq, took, deliveries))

    # Giving up, expiry.

    cdef bint gave_up(self, pend_t* p) noexcept:
        """Whether p, whose time is up, was delivered as often as allowed; it is then given up."""
        cdef uint32_t times = max(p.redelivered, <uint32_t>1)
        if self.max_deliver <= 0 or times < self.max_deliver:
            return False
        if times == self.max_deliver:
            self.exceeded(p.seq, times)
        if self.max_pending and self.acks.pending >= self.max_pending:
            self.wake()
        acks_redelivered(&self.acks, p, <int>(times - p.redelivered))
        self.give_up(p)
        return True

    def exceeded(self, uint64_t seq, uint64_t deliveries) -> None:
        """Say that a message was delivered as often as allowed."""
        if self.listened(self.exceeded_subject):
            self.event("max_deliver", (self.stream.name, self.name, seq, deliveries))

    cdef void give_up(self, pend_t* p) noexcept:
        """Deliver p no more; it still counts as redelivered. The floor stays until the next acknowledgement."""
        acks_give_up(&self.acks, p)
        self.changed = True

    cdef void expire(self) noexcept:
        """Queue what wasn't acknowledged in time, in the order of the stream."""
        cdef uint64_t* found = NULL
        cdef uint64_t* grown
        cdef uint64_t n = 0, cap = 0, i
        cdef pend_t* p
        while True:
            if n == cap:
                grown = <uint64_t*>realloc(found, (cap * 2 + 64) * sizeof(uint64_t))
                if grown == NULL:
                    break
                found = grown
                cap = cap * 2 + 64
            p = acks_pop_due(&self.acks, self.e.now_ns)
            if p == NULL:
                break
            found[n] = p.seq
            n += 1
        if n:
            qsort(found, n, sizeof(uint64_t), ascending)
        for i in range(n):
            p = acks_find(&self.acks, found[i])
            if not self.gave_up(p) and acks_enqueue(&self.acks, p):
                self.woken = True
        free(found)

    cdef void forget(self, uint64_t seq) noexcept:
        """The message is gone from the stream: there is nothing to acknowledge any more."""
        cdef pend_t* p = acks_find(&self.acks, seq)
        if p == NULL:
            return
        if p.flags & ACK_PENDING:
            self.process_term(seq, p.dseq, max(p.redelivered, <uint32_t>1), b"Unacknowledged message was deleted")
        else:
            acks_drop(&self.acks, p)

    # Interest retention.

    cdef bint has_delivered(self) noexcept:
        return self.acks.live > 0

    cdef bint needs(self, uint64_t seq) noexcept nogil:
        cdef pend_t* p
        if seq > self.acks.floor_sseq:
            if self.policy != POLICY_EXPLICIT or seq >= self.next_sseq:
                return True
        p = acks_find(&self.acks, seq)
        return p != NULL

    # Replies to confirmed acknowledgements.

    cdef void queue_reply(self, const char* reply, Py_ssize_t n) noexcept:
        cdef char* grown
        cdef uint32_t size = <uint32_t>n
        if self.replies_len + n + 4 > self.replies_cap:
            grown = <char*>realloc(self.replies, (self.replies_len + n + 4) * 2)
            if grown == NULL:
                return
            self.replies = grown
            self.replies_cap = (self.replies_len + n + 4) * 2
        memcpy(self.replies + self.replies_len, &size, 4)
        memcpy(self.replies + self.replies_len + 4, reply, n)
        self.replies_len += n + 4

    cdef void answer(self, bint saved) noexcept:
        """Answer confirmed acknowledgements once they are on disk. saved: what they say is queued for it."""
        cdef Py_ssize_t at = 0
        cdef uint32_t n
        cdef uint64_t op = self.outbox.current_op() if self.stream.is_file else 0
        while at < self.replies_len and saved:
            memcpy(&n, self.replies + at, 4)
            self.outbox.reply(op, self.account, self.replies + at + 4, n, b"", 0, 0, NULL, 0)
            at += n + 4
        self.replies_len = 0

    # What is kept.

    cdef bint save(self) noexcept:
        """Queue what has changed for the disk. False where the store takes nothing any more."""
        cdef uint64_t n = acks_take_dirty(&self.acks), i
        cdef int64_t wall_offset
        cdef bint ok = True
        cdef pend_t* p
        if not self.kept or (n == 0 and not self.changed):
            self.changed = False
            return True
        wall_offset = self.outbox.wall_ns() - <int64_t>self.e.now_ns
        if self.acks.lossy:
            self.acks.lossy = False
            p = acks_from(&self.acks, 0)
            while p != NULL and ok:
                ok = self.save_page(p.seq >> ACK_PAGE_BITS, wall_offset)
                p = acks_from(&self.acks, ((p.seq >> ACK_PAGE_BITS) + 1) << ACK_PAGE_BITS)
        for i in range(n):
            ok = ok and self.save_page(self.acks.dirty[i], wall_offset)
        self.changed = False
        failpoint(FAIL_CONSUMER_PAGES)
        ok = ok and self.save_head()
        self.outbox.touch()
        return ok

    cdef bint save_page(self, uint64_t page, int64_t wall_offset) noexcept:
        cdef char key[KEY_MAX]
        cdef char value[PAGE_MAX]
        cdef Py_ssize_t n = len(self.key)
        cdef uint64_t big = seq_to_key(page)
        cdef saved_t* s = <saved_t*>(value + 8)
        cdef pend_t* p = acks_from(&self.acks, page << ACK_PAGE_BITS)
        cdef uint32_t crc
        memcpy(key, <char*>self.key, n)
        key[n] = b"p"
        memcpy(key + n + 1, &big, 8)
        while p != NULL and p.seq >> ACK_PAGE_BITS == page:
            s.at = <uint8_t>(p.seq & (PAGE_SEQS - 1))
            s.pending = 1 if p.flags & ACK_PENDING else 0
            s.redelivered = p.redelivered
            s.dseq = p.dseq
            s.base_ns = p.sent_ns + wall_offset
            s += 1
            p = acks_from(&self.acks, p.seq + 1)
        if <char*>s == value + 8:
            return self.stream.store.consumer_delete(key, n + 9)
        memset(value, 0, 8)
        value[4] = STATE_FORMAT
        crc = crc32c(0, value + 4, <char*>s - value - 4)
        memcpy(value, &crc, 4)
        return self.stream.store.consumer_put(key, n + 9, value, <char*>s - value)

    cdef bint save_head(self) noexcept:
        cdef char key[KEY_MAX]
        cdef head_t h
        cdef Py_ssize_t n = len(self.key)
        memcpy(key, <char*>self.key, n)
        key[n] = b"s"
        memset(&h, 0, sizeof(head_t))
        h.format = STATE_FORMAT
        h.next_sseq = self.next_sseq
        h.next_dseq = self.next_dseq
        h.delivered_sseq = self.acks.delivered_sseq
        h.delivered_dseq = self.acks.delivered_dseq
        h.floor_sseq = self.acks.floor_sseq
        h.floor_dseq = self.acks.floor_dseq
        h.skip_resume = self.skip_resume
        h.created = self.created
        h.crc = crc32c(0, <char*>&h + 4, sizeof(head_t) - 4)
        return self.stream.store.consumer_put(key, n + 1, <char*>&h, sizeof(head_t))

    def load_state(self, list items) -> bool:
        """Take over what was kept: (key, value) of each. False where there is no usable head: it starts anew then."""
        cdef bytes key, value
        cdef head_t h
        cdef Py_ssize_t n = len(self.key)
        cdef dict found = {key[n:]: value for key, value in items if key.startswith(self.key)}
        cdef int64_t wall_offset = self.outbox.wall_ns() - <int64_t>self.e.now_ns
        value = found.get(b"s", b"")
        if len(value) != sizeof(head_t):
            return False
        memcpy(&h, <char*>value, sizeof(head_t))
        if h.format != STATE_FORMAT or h.created != self.created or h.crc != crc32c(0, <char*>&h + 4, sizeof(head_t) - 4):
            return False
        self.next_sseq = h.next_sseq
        self.next_dseq = h.next_dseq
        self.acks.delivered_sseq = h.delivered_sseq
        self.acks.delivered_dseq = h.delivered_dseq
        self.acks.floor_sseq = h.floor_sseq
        self.acks.floor_dseq = h.floor_dseq
        self.skip_resume = h.skip_resume
        for key, value in sorted(found.items()):
            if len(key) == 9 and key[:1] == b"p":
                self.load_page(value, int.from_bytes(key[1:], "big"), wall_offset)
        acks_take_dirty(&self.acks)
        return True

    cdef void load_page(self, bytes value, uint64_t page, int64_t wall_offset):
        cdef const char* at = value
        cdef const char* end = at + len(value)
        cdef saved_t s
        cdef uint32_t crc
        cdef pend_t* p
        cdef int64_t now = <int64_t>self.e.now_ns
        cdef int64_t sent_ns, wait
        if end - at < 8 or at[4] != STATE_FORMAT:
            return
        memcpy(&crc, at, 4)
        if crc != crc32c(0, at + 4, end - at - 4):
            return
        at += 8
        while end - at >= <Py_ssize_t>sizeof(saved_t):
            memcpy(&s, at, sizeof(saved_t))
            at += sizeof(saved_t)
            p = acks_add(&self.acks, (page << ACK_PAGE_BITS) + s.at, s.dseq)
            if p == NULL:
                raise MemoryError
            if s.redelivered:
                acks_redelivered(&self.acks, p, <int>s.redelivered)
            sent_ns = min(s.base_ns - wall_offset, now)     # in the future only where the wall clock was set back
            p.sent_ns = sent_ns
            wait = self.wait_of(p)
            if not s.pending:
                acks_give_up(&self.acks, p)
            elif wait > 0:
                wait = max(sent_ns + wait, now + min(wait, <int64_t>RESTART_WAIT_NS))
                acks_due(&self.acks, p, <uint64_t>wait)
