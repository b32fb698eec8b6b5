"""What a stream keeps, and for how long: limits, age, interest, purges; and what its consumers see of it.

Invariants
1. After every change of the store, settle() has brought the account's and the server's usage up to date.
2. Every message that goes is told to the consumers, but to the one whose acknowledgement it was.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from natsc.jetstream.consumer_index cimport PART_ALL, PART_NONE, PART_WIDER, StreamConsumer
from natsc.jetstream.dedupe cimport dedupe_expire
from natsc.jetstream.expiry cimport heap_clear, heap_pop
from natsc.jetstream.headers cimport headers_scan, headers_t, lower_is
from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.msgstore cimport purge_t
from natsc.jetstream.outbox cimport Visible
from natsc.jetstream.seqset cimport seqset_next
from natsc.jetstream.subjectstate cimport (filter_init, filter_t, subject_iter_t, subject_t, subjects_find,
                                           subjects_next)

cdef enum:
    EXPIRE_BUDGET = 2000        # messages that one step of expiry removes
    SWEEP_BUDGET = 4096         # messages that one step of a sweep looks at
    ROLL_UP_BUDGET = 8192       # messages that a rollup looks at at once
    RECLAIM_BUDGET = 128        # pages of 256 messages in memory that one step gives back
    MARKERS_BUDGET = 100        # ... where each may leave a marker
    SCAN_BUDGET = 0x7FFFFFFF


cdef class Usage:
    """What is used of storage, and how much may be; -1 = no limit."""

    def __init__(self, int64_t max_memory=-1, int64_t max_storage=-1):
        self.max_memory = max_memory
        self.max_storage = max_storage


cdef class RetainedStream(Visible):
    """The half of a stream that looks after what is stored."""

    def __dealloc__(self):
        heap_clear(&self.ttls)

    # What a message pushes out.

    cdef void enforce_limits(self, const char* subject, Py_ssize_t n) noexcept:
        """A message has come on subject: remove what that pushes out."""
        cdef subject_t* state
        cdef uint64_t left = 0
        # Where limits are being lowered there may be no end of it: a message then only makes room for itself, and a bit more.
        cdef Py_ssize_t budget = 2 if self.enforcing else SCAN_BUDGET
        if self.max_per_subject > 0:
            state = subjects_find(&self.store.subjects, subject, n)
            left = state.count if state != NULL else 0
            while budget and left > <uint64_t>self.max_per_subject:
                state = self.store.subject_state(subject, n)
                if state == NULL or state.count <= <uint64_t>self.max_per_subject:
                    break
                if not self.remove_seq(state.first, None):
                    break
                left -= 1
                budget -= 1
        while budget and self.is_over() and self.remove_seq(self.store.first_seq, None):
            budget -= 1

    cdef bint is_over(self) noexcept:
        """Whether the oldest messages have to go, for there are too many."""
        if self.discard_new or self.store.msgs == 0:
            return False
        return (0 < self.max_msgs < <int64_t>self.store.msgs) or (0 < self.max_bytes < <int64_t>self.store.bytes)

    cdef bint roll_up(self, const char* subject, Py_ssize_t n, uint64_t seq) noexcept:
        """Remove what came before seq, on its subject or (n 0) on all. False where it is too much for now: see roll_up_later."""
        cdef purge_t p
        cdef Py_ssize_t left = ROLL_UP_BUDGET
        if self.rollups and subject[:n] in self.rollups:
            return False
        self.store.purge_begin(&p, subject, n, seq, 0)
        while not p.done and left > 0:
            self.store.purge_step(&p, SWEEP_BUDGET)
            left -= SWEEP_BUDGET
        if p.done:
            self.tell_purged(subject[:n], p.purged > 0)
        return p.done

    def roll_up_later(self, bytes subject, uint64_t seq, bytes reply, bytes answer, bytes failure) -> None:
        """Go on with a rollup in the next turns, and then answer. See natsc/jetstream/streams.py."""

    cdef bint remove_seq(self, uint64_t seq, StreamConsumer but) noexcept:
        """Remove a message; consumers but one hear of it. False where it isn't there."""
        cdef stored_t m
        self.outbox.touch()
        if not self.store.may_change() or not self.store.get(seq, &m):
            return False
        self.index.tell_removed(seq, m.subject, m.subject_len, but)
        self.store.forget(&m)
        self.store.erase(seq)
        return True

    def tell_purged(self, bytes subject=b"", bint some=True) -> None:
        """Messages in a filter (b"" = all) were purged; some: there were any."""
        cdef StreamConsumer c
        cdef filter_t f
        cdef int part
        cdef uint64_t first = 0
        cdef Py_ssize_t i
        filter_init(&f, subject, len(subject))
        self.outbox.touch()
        if f.literal:
            self.index.find(f.subject, f.len)
        for i in range(self.index.num_found if f.literal else len(self.consumers)):
            c = <StreamConsumer>self.index.found[i] if f.literal else self.consumers[i]
            part = PART_WIDER if f.all else c.part_in(&f)
            if part == PART_ALL and first == 0:
                first = self.first_in(&f)
            c.on_purged(first if part == PART_ALL else self.store.first_seq, part != PART_NONE, some)
        self.settle()

    cdef uint64_t first_in(self, const filter_t* f) noexcept:
        """The first sequence on subjects in a filter; behind the last one where there is none."""
        cdef subject_iter_t it
        cdef subject_t* s
        cdef uint64_t first = self.store.last_seq + 1
        memset(&it, 0, sizeof(it))
        if f.literal:
            s = self.store.subject_state(f.subject, f.len)
            return s.first if s != NULL else first
        while not it.done:
            s = subjects_next(&self.store.subjects, &it, f, 1, SCAN_BUDGET)
            if s != NULL:
                self.store.refresh(s)
                first = min(first, s.first)
        return first

    cdef void settle(self) noexcept:
        """Bring the usages up to date."""
        self.use(<int64_t>(self.store.bytes - self.counted))
        if self.store.unclaimed and not self.reclaiming:
            self.reclaim()

    cdef void use(self, int64_t more) noexcept:
        self.counted += <uint64_t>more
        if self.is_file:
            self.account_usage.storage += more
            self.server_usage.storage += more
        else:
            self.account_usage.memory += more
            self.server_usage.memory += more

    # Age.

    def arm_timer(self) -> None:
        """Have expire called when the first message is due. See natsc/jetstream/streams.py."""

    def next_expiry(self) -> int:
        """When the first message expires, wall clock ns; 0 = never."""
        cdef int64_t when = 0
        cdef int64_t first = 0
        self.outbox.touch()
        if self.max_age_ns and self.next_aged(&first):
            when = first + self.max_age_ns
        if self.ttls.count and (when == 0 or self.ttls.items[0].when_ns < when):
            when = self.ttls.items[0].when_ns
        return when

    def expire(self, int64_t now_ns) -> bool:
        """Remove what is too old, a bounded number of messages. False where there may be more."""
        cdef int left = MARKERS_BUDGET if self.markers else EXPIRE_BUDGET
        cdef int64_t first = 0
        cdef uint64_t seq
        while left and self.ttls.count and self.ttls.items[0].when_ns <= now_ns:
            self.remove_expired(heap_pop(&self.ttls))
            left -= 1
        if self.max_age_ns:
            while left:
                seq = self.next_aged(&first)
                if seq == 0 or first + self.max_age_ns > now_ns or not self.remove_expired(seq):
                    break
                left -= 1
        if self.duplicates_ns > 0:
            dedupe_expire(&self.dedupe, now_ns - self.duplicates_ns)
        self.settle()
        return left > 0

    cdef uint64_t next_aged(self, int64_t* ts_ns) noexcept:
        """The oldest message that grows too old, and its time; 0 = none."""
        cdef uint64_t seq = self.store.first_seq
        cdef uint64_t resume = 0
        cdef stored_t m
        cdef headers_t h
        if not self.ttl_allowed:
            ts_ns[0] = self.store.first_ts()
            return self.store.first_seq if self.store.msgs else 0
        seq = max(seq, self.age_floor)
        while self.store.msgs:
            seq = self.store.next(seq, NULL, 0, SCAN_BUDGET, &m, &resume)
            if seq == 0:
                break
            headers_scan(m.hdr, m.hdr_len, &h)
            if h.ttl.n == 0 or not lower_is(&h.ttl, b"never", 5):
                ts_ns[0] = m.ts_ns
                return seq
            seq += 1
            self.age_floor = seq
        return 0

    cdef bint remove_expired(self, uint64_t seq) noexcept:
        """Remove a message, and leave a marker where it is the last one of its subject. False where it isn't there."""
        cdef stored_t m
        cdef subject_t* state
        cdef bytes subject
        if self.markers and self.store.get(seq, &m):
            state = self.store.subject_state(m.subject, m.subject_len)
            if state != NULL and state.count == 1 and not self.is_marker(m.hdr[:m.hdr_len]):
                subject = m.subject[:m.subject_len]
                self.store_marker(subject)
                if not self.store.has(seq):
                    return True
        return self.remove_seq(seq, None)

    def is_marker(self, bytes headers) -> bool:
        """Whether a message only says that its subject is gone. See natsc/jetstream/streams.py."""
        return False

    def store_marker(self, bytes subject) -> None:
        """Store a marker, which rolls up its subject. See natsc/jetstream/streams.py."""

    # Memory.

    def reclaim(self) -> None:
        """Give back the memory of messages that went all together, much of it in later turns."""
        self.reclaiming = self.store.reclaim(RECLAIM_BUDGET)
        if self.reclaiming:
            self.reclaim_later()

    def reclaim_later(self) -> None:
        """Have reclaim called in the next turn. See natsc/jetstream/streams.py."""

    # For consumers.

    cdef bint load(self, uint64_t seq, stored_t* out) noexcept nogil:
        """The message seq; False where it isn't there (any more), or not visible yet."""
        if seq > self.visible_seq:
            return False
        self.outbox.touch()
        return self.store.get(seq, out)

    cdef uint64_t scan(self, const filter_t* filters, Py_ssize_t n, uint64_t from_seq, Py_ssize_t budget, stored_t* out,
                       uint64_t* resume) noexcept nogil:
        """The first visible message from from_seq on that is in one of the filters (n 0: any), loaded; 0 = none.

        It looks at no more than budget messages. resume: where to go on. With 0 it is above visible_seq where there is
        nothing more, else where the budget ended.
        """
        cdef uint64_t found
        if from_seq > self.visible_seq:
            resume[0] = from_seq
            return 0
        self.outbox.touch()
        found = self.store.next(from_seq, filters, n, budget, out, resume)
        if found > self.visible_seq:
            resume[0] = self.visible_seq + 1
            return 0
        return found

    cdef uint64_t num_pending(self, const filter_t* filters, Py_ssize_t n, uint64_t from_seq) noexcept nogil:
        """How many messages from from_seq on are in one of the filters, those that aren't visible yet included."""
        self.outbox.touch()
        return self.store.num_pending(from_seq, filters, n, False)

    cdef uint64_t first_seq(self) noexcept nogil:
        return self.store.first_seq

    cdef uint64_t last_seq(self) noexcept nogil:
        return self.store.last_seq

    cdef int add_consumer(self, StreamConsumer c) except -1:
        self.index.add(c)
        self.consumers.append(c)
        return 0

    cdef int reindex(self, StreamConsumer c) except -1:
        """c's filters have changed."""
        if c in self.consumers:
            self.index.remove(c)
            self.index.add(c)
        return 0

    cdef void remove_consumer(self, StreamConsumer c):
        """c is gone: with interest retention, so may be what only it needed."""
        if c in self.consumers:
            self.consumers.remove(c)
            self.index.remove(c)
            if self.retention == RETAIN_INTEREST and not self.closed:
                if self.consumers:
                    self.drop_unneeded()
                else:
                    self.store.purge_all()
                    self.settle()

    def drop_unneeded(self) -> None:
        """Interest retention: remove what no consumer needs, much of it in later turns."""
        cdef bint under_way = self.sweep_at > 0
        self.sweep_at = max(self.store.first_seq, <uint64_t>1)
        if not under_way:
            self.sweep()

    def sweep(self) -> None:
        """Go on with drop_unneeded."""
        cdef uint64_t resume = 0, seq = self.sweep_at
        cdef Py_ssize_t left = SWEEP_BUDGET
        cdef stored_t m
        if self.closed:
            return
        self.outbox.touch()
        while seq and left and self.store.msgs:
            seq = self.store.next(seq, NULL, 0, SCAN_BUDGET, &m, &resume)
            if seq == 0:
                break
            if not self.is_needed(seq, None):
                self.remove_seq(seq, None)
            seq += 1
            left -= 1
        self.sweep_at = seq if self.store.msgs else 0
        self.settle()
        if self.sweep_at:
            self.sweep_later()

    def sweep_later(self) -> None:
        """Have sweep called in the next turn. See natsc/jetstream/streams.py."""

    cdef bint has_interest(self, const char* subject, Py_ssize_t n) noexcept:
        return self.index.has(subject, n)

    cdef bint is_needed(self, uint64_t seq, StreamConsumer but) noexcept:
        """Whether a consumer, other than but, still waits for seq."""
        cdef StreamConsumer c
        cdef Py_ssize_t i
        cdef stored_t m
        if (but is not None and len(self.consumers) == 1) or not self.store.get(seq, &m):
            return False
        self.index.find(m.subject, m.subject_len)
        for i in range(self.index.num_found):
            c = <StreamConsumer>self.index.found[i]
            if c is not but and c.needs(seq):
                return True
        return False

    cdef void consumer_acked(self, StreamConsumer c, uint64_t seq) noexcept:
        """c needs seq no more (acknowledged, terminated): where nobody else does, interest and workqueue drop it.

        The removal shares the batch with what c writes in the same turn.
        """
        if self.retention == RETAIN_LIMITS or self.closed or seq < self.store.first_seq:
            return
        self.outbox.touch()
        if self.is_needed(seq, c):
            return
        if self.remove_seq(seq, c):
            self.settle()

    # The outbox.

    cdef uint64_t newest(self) noexcept:
        return self.store.last_seq

    cdef void show(self, uint64_t last_seq) noexcept:
        cdef uint64_t first = self.visible_seq + 1
        if self.closed or last_seq < first:
            return
        self.visible_seq = last_seq
        if self.consumers:
            self.index.tell_new(first, last_seq, self.tell_subjects(first, last_seq))

    cdef uint64_t tell_subjects(self, uint64_t first_seq, uint64_t last_seq) noexcept:
        """Tell consumers with filters what is new that they want. How many of the messages are there."""
        cdef stored_t m
        cdef uint64_t count = 0
        # There may be next to nothing between two sequences that are far apart.
        cdef uint64_t seq = seqset_next(&self.store.present, first_seq)
        while seq and seq <= last_seq:
            count += 1
            if self.index.num_filtered and self.load(seq, &m):
                self.index.touch(m.subject, m.subject_len, seq)
            seq = seqset_next(&self.store.present, seq + 1)
        return count

    # For Python.

    def remove_message(self, uint64_t seq) -> bool:
        """Remove a message. False where it isn't there."""
        cdef bint removed = self.remove_seq(seq, None)
        self.settle()
        return removed

    def enforce(self, bint each_subject) -> None:
        """The limits have changed: remove what is above them, much of it in later turns. each_subject: that of a subject, too.

        What too many messages push out goes first, the oldest ones first.
        """
        self.enforce_at = max(self.store.first_seq, <uint64_t>1) if each_subject and self.max_per_subject > 0 else 0
        if not self.enforcing:
            self.enforcing = True
            self.enforce_more()

    def enforce_more(self) -> None:
        """Go on with enforce."""
        cdef subject_t* state
        cdef uint64_t resume = 0
        cdef Py_ssize_t left = SWEEP_BUDGET
        cdef stored_t m
        if self.closed:
            self.enforcing = False
            return
        self.outbox.touch()
        while left and self.is_over() and self.remove_seq(self.store.first_seq, None):
            left -= 1
        while left and self.enforce_at:
            self.enforce_at = self.store.next(self.enforce_at, NULL, 0, SCAN_BUDGET, &m, &resume)
            if self.enforce_at == 0:
                break
            state = subjects_find(&self.store.subjects, m.subject, m.subject_len)
            if state != NULL and state.count > <uint64_t>self.max_per_subject:
                self.remove_seq(self.enforce_at, None)
            self.enforce_at += 1
            left -= 1
        self.settle()
        if left:
            self.enforcing = False
        else:
            self.enforce_later()

    def enforce_later(self) -> None:
        """Have enforce_more called in the next turn. See natsc/jetstream/streams.py."""

    def purge_step(self, purge, Py_ssize_t budget) -> bool:
        """Go on with a natsc.jetstream.steps.Purge. True when it is done."""
        cdef bint done = purge.step(budget)
        self.outbox.touch()
        self.settle()
        return done

    def set_armed(self, bint armed) -> None:
        """Whether a timer waits for the next expiry."""
        self.expiry_armed = armed

    def count_of(self, bytes subject not None) -> int:
        """How many messages a literal subject has."""
        cdef subject_t* state = subjects_find(&self.store.subjects, subject, len(subject))
        return state.count if state != NULL else 0
