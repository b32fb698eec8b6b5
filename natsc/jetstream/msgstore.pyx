"""What file and memory storage have in common: the account that a stream's messages are kept by.

The set of sequences, the table of subjects and the totals live here, in memory, and are the authority: a message is
there if `present` says so, whatever a file still holds. The kinds of storage only keep records (put, fetch, erase).

Every record names the message before it on its subject. So the first message of a subject, after the old first one was
removed, is found by walking back from the last; only where removals broke that chain must messages be scanned. The
state of a subject is brought up to date when it is asked for (subject_state), not when a message is removed.

Invariants:
1. last_seq never goes back, by no removal and no purge.
2. first_seq is the lowest sequence present, or last_seq + 1.
3. An entry of the table has count > 0; its first (last) is exact unless it is marked stale, and then it is a lower
   (upper) bound that is itself no longer present.
"""

import os

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memset

from natsc.jetstream.layout cimport RECORD_NOT_NOW, RECORD_OK, stored_t
from natsc.jetstream.layout import RECORD_REASONS
from natsc.jetstream.seqset cimport (seqset_add, seqset_clear, seqset_count_from, seqset_has, seqset_next,
                                     seqset_next_missing, seqset_prev, seqset_remove, seqset_t)
from natsc.jetstream.subjectstate cimport (SUBJECT_DEAD, SUBJECT_STALE_FIRST, SUBJECT_STALE_LAST, filter_init, filter_t,
                                           filters_match, subject_iter_t, subject_t, subjects_add, subjects_all_in,
                                           subjects_clear, subjects_find, subjects_init, subjects_memory,
                                           subjects_next, subjects_remove, subjects_t)

cdef extern from "Python.h":
    Py_ssize_t NO_BUDGET "PY_SSIZE_T_MAX"

cdef enum:
    CHAIN_MAX = 1024        # messages of a subject up to which its chain is walked back
    MAX_SUBJECT = 65535
    MAX_BODY = 1 << 30

# Nobody can choose subjects that collide; nothing that is seen depends on it.
cdef uint64_t SUBJECT_SEED = int.from_bytes(os.urandom(8), "little")

ERRORS = {
    STORE_FAILED: "the store has failed",
    STORE_NO_MEMORY: "out of memory",
    STORE_BAD_SEQ: "sequence not above the last one",
    STORE_CLOSED: "the store is closed",
    STORE_TOO_LARGE: "message too large for the store",
}


cdef class MsgStore:
    def __cinit__(self):
        memset(&self.present, 0, sizeof(self.present))
        subjects_init(&self.subjects, SUBJECT_SEED)

    def __dealloc__(self):
        seqset_clear(&self.present)
        subjects_clear(&self.subjects)
        free(self.lost_seqs)
        free(self.lost_reasons)

    # What a kind of storage provides.

    cdef bint put(self, uint64_t seq, int64_t ts_ns, uint64_t prev, const char* subject, Py_ssize_t subject_len,
                  const char* hdr, Py_ssize_t hdr_len, const char* msg, Py_ssize_t msg_len) noexcept nogil:
        """Keep a record. False, with self.error set, where that can't be done."""
        return False

    cdef int fetch(self, uint64_t seq, stored_t* out) noexcept nogil:
        """The record as slices, or RECORD_*: why not. out.subject is NULL where not even the subject is known."""
        return RECORD_NOT_NOW

    cdef void erase(self, uint64_t seq) noexcept nogil:
        """Drop the record of a message that was there until now."""

    cdef void erase_range(self, uint64_t first, uint64_t last) noexcept nogil:
        """Drop the records from first to last."""

    cdef void erase_all(self) noexcept nogil:
        """Drop every record, but keep last_seq."""

    cdef void erase_but(self, const stored_t* m) noexcept nogil:
        """Drop every record but that of m, the last one."""

    cdef void note_last(self) noexcept nogil:
        """last_seq went up without a message."""

    cdef bint reclaim(self, Py_ssize_t pages) noexcept nogil:
        """Give back that many pages of the memory of what was erased all together. True where there is more of it."""
        return False

    cdef bint consumer_put(self, const char* key, size_t key_len, const char* value, size_t n) noexcept nogil:
        """Keep a consumer's value with the next batch. False where that can't be done."""
        return True

    cdef bint consumer_delete(self, const char* key, size_t key_len) noexcept nogil:
        return True

    cdef bint consumer_delete_prefix(self, const char* prefix, size_t n) noexcept nogil:
        """Drop every value whose key begins so: a consumer is deleted."""
        return True

    # Bookkeeping.

    cdef uint64_t size_of(self, Py_ssize_t subject_len, Py_ssize_t hdr_len, Py_ssize_t msg_len) noexcept nogil:
        """What a message counts for, as in nats-server: limits and reports depend on it."""
        if not self.is_file:
            return 16 + subject_len + hdr_len + msg_len
        if hdr_len:
            return 34 + subject_len + hdr_len + msg_len
        return 30 + subject_len + msg_len

    cdef bint learn(self, uint64_t seq, int64_t ts_ns, const char* subject, Py_ssize_t subject_len,
                    uint64_t size) noexcept nogil:
        """Count a message in. False where memory is out, and then nothing changed."""
        cdef subject_t* e = subjects_add(&self.subjects, subject, subject_len)
        if e == NULL:
            return False
        if not seqset_add(&self.present, seq):
            if e.count == 0:
                subjects_remove(&self.subjects, subject, subject_len)
            return False
        if e.count == 0:
            e.first = seq
        e.count += 1
        e.last = seq
        e.flags &= ~<uint32_t>SUBJECT_STALE_LAST
        if self.msgs == 0:
            self.first_seq = seq
            self.first_ts_ns = ts_ns
            self.stale_first_ts = False
        self.msgs += 1
        self.bytes += size
        self.last_seq = seq
        self.last_ts_ns = ts_ns
        return True

    cdef void forget(self, const stored_t* m) noexcept nogil:
        """Count a message out. Its record must still be readable."""
        cdef subject_t* e
        seqset_remove(&self.present, m.seq)
        self.msgs -= 1
        self.deletes += 1
        self.bytes -= self.size_of(m.subject_len, m.hdr_len, m.msg_len)
        if m.seq == self.first_seq:
            if self.msgs == 0:
                self.first_seq = self.last_seq + 1
                self.first_ts_ns = 0
                self.stale_first_ts = False
            else:
                self.first_seq = seqset_next(&self.present, m.seq + 1)
                self.stale_first_ts = True
        e = subjects_find(&self.subjects, m.subject, m.subject_len)
        if e == NULL:
            return
        e.count -= 1
        if e.count == 0:
            subjects_remove(&self.subjects, m.subject, m.subject_len)
            return
        if m.seq == e.last:
            if m.prev and seqset_has(&self.present, m.prev):
                e.last = m.prev
            else:
                e.flags |= SUBJECT_STALE_LAST
        if m.seq == e.first:
            e.flags |= SUBJECT_STALE_FIRST
        if e.count == 1 and e.flags == SUBJECT_STALE_FIRST:
            e.first = e.last
            e.flags = 0
        elif e.count == 1 and e.flags == SUBJECT_STALE_LAST:
            e.last = e.first
            e.flags = 0

    cdef void quarantine(self, uint64_t seq, int reason, const stored_t* m) noexcept nogil:
        """A record is bad: it stays where it is, and the stream goes on without it."""
        cdef uint64_t* seqs
        cdef int* reasons
        if self.num_lost == self.cap_lost:
            seqs = <uint64_t*>realloc(self.lost_seqs, (self.cap_lost * 2 + 16) * sizeof(uint64_t))
            if seqs != NULL:
                self.lost_seqs = seqs
            reasons = <int*>realloc(self.lost_reasons, (self.cap_lost * 2 + 16) * sizeof(int))
            if reasons != NULL:
                self.lost_reasons = reasons
            if seqs != NULL and reasons != NULL:
                self.cap_lost = self.cap_lost * 2 + 16
        if self.num_lost < self.cap_lost:
            self.lost_seqs[self.num_lost] = seq
            self.lost_reasons[self.num_lost] = reason
            self.num_lost += 1
        if not seqset_has(&self.present, seq):
            return
        if m != NULL and m.subject != NULL:
            self.forget(m)
            return
        seqset_remove(&self.present, seq)
        self.msgs -= 1
        self.deletes += 1
        if seq == self.first_seq:
            self.first_seq = seqset_next(&self.present, seq + 1) if self.msgs else self.last_seq + 1
            self.stale_first_ts = self.msgs > 0
            if self.msgs == 0:
                self.first_ts_ns = 0
        if self.msgs == 0:
            self.bytes = 0
            subjects_clear(&self.subjects)

    # What a stream uses.

    cdef uint64_t append(self, uint64_t seq, int64_t ts_ns, const char* subject, Py_ssize_t subject_len,
                         const char* hdr, Py_ssize_t hdr_len, const char* msg, Py_ssize_t msg_len) noexcept nogil:
        """Store a message under seq, or under the next sequence where that is 0. Everything is copied.

        The sequence, or 0 with self.error set. It is in the store from here on, and durable when the batch is.
        """
        cdef subject_t* e
        cdef uint64_t prev = 0
        if self.error == STORE_FAILED or self.error == STORE_CLOSED:
            return 0
        if seq == 0:
            seq = self.last_seq + 1
        elif seq <= self.last_seq:
            self.error = STORE_BAD_SEQ
            return 0
        if subject_len > MAX_SUBJECT or hdr_len + msg_len > MAX_BODY:
            self.error = STORE_TOO_LARGE
            return 0
        e = subjects_find(&self.subjects, subject, subject_len)
        if e != NULL and e.flags & SUBJECT_STALE_LAST == 0:
            prev = e.last
        self.error = STORE_NO_MEMORY
        if not self.put(seq, ts_ns, prev, subject, subject_len, hdr, hdr_len, msg, msg_len):
            return 0
        if not self.learn(seq, ts_ns, subject, subject_len, self.size_of(subject_len, hdr_len, msg_len)):
            self.erase(seq)
            return 0
        self.error = STORE_OK
        return seq

    cdef void skip_to(self, uint64_t seq, int64_t ts_ns) noexcept nogil:
        """Let the next message have seq: those before it count as deleted. Nothing where it would go back."""
        if seq <= self.last_seq + 1:
            return
        self.last_seq = seq - 1
        if self.last_ts_ns == 0:
            self.last_ts_ns = ts_ns
        if self.msgs == 0:
            self.first_seq = seq
        self.note_last()

    cdef bint has(self, uint64_t seq) noexcept nogil:
        return seqset_has(&self.present, seq)

    cdef bint get(self, uint64_t seq, stored_t* out) noexcept nogil:
        """The message as slices, or False. A bad record is put into quarantine and counts as not there."""
        cdef int rc
        if not seqset_has(&self.present, seq):
            return False
        rc = self.fetch(seq, out)
        if rc == RECORD_OK:
            return True
        if rc != RECORD_NOT_NOW:
            self.quarantine(seq, rc, out)
        return False

    cdef uint64_t next(self, uint64_t seq, const filter_t* filters, Py_ssize_t num_filters, Py_ssize_t budget,
                       stored_t* out, uint64_t* resume) noexcept nogil:
        """The first message from seq on that is in one of the filters (none: any).

        Its sequence, or 0. resume is where to go on: behind the message; or, with 0, above last_seq where there are no
        more, else where the search stopped after it looked at budget messages.
        """
        cdef subject_t* e
        cdef uint64_t found, steps
        if num_filters == 1 and filters.literal and not filters.all:
            resume[0] = self.last_seq + 1
            e = self.subject_state(filters.subject, filters.len)
            if e == NULL or seq > e.last:
                return 0
            if seq < e.first:
                seq = e.first
            elif seq > e.first and e.count <= 64:
                found = self.step_back(e, seq, &steps)
                if found:
                    seq = found
        while True:
            found = seqset_next(&self.present, seq)
            if found == 0:
                resume[0] = self.last_seq + 1
                return 0
            if budget <= 0:
                resume[0] = found
                return 0
            budget -= 1
            if self.get(found, out) and filters_match(filters, num_filters, out.subject, out.subject_len):
                resume[0] = found + 1
                return found
            seq = found + 1

    cdef bint may_change(self) noexcept nogil:
        return self.error != STORE_FAILED and self.error != STORE_CLOSED

    cdef bint remove(self, uint64_t seq) noexcept nogil:
        """Remove a message. False where it is not there."""
        cdef stored_t m
        if not self.may_change() or not self.get(seq, &m):
            return False
        self.forget(&m)
        self.erase(seq)
        return True

    # Purges.

    cdef uint64_t purge_all(self) noexcept nogil:
        """Remove everything, at a cost that doesn't depend on how much there is."""
        cdef uint64_t n = self.msgs
        seqset_clear(&self.present)
        subjects_clear(&self.subjects)
        self.deletes += n
        self.msgs = 0
        self.bytes = 0
        self.first_seq = self.last_seq + 1
        self.first_ts_ns = 0
        self.stale_first_ts = False
        self.erase_all()
        return n

    cdef bint purge_but_last(self, purge_t* p) noexcept nogil:
        """Remove everything but the last message, like purge_all. False, and nothing is changed, where that isn't there."""
        cdef stored_t m
        cdef seqset_t present
        cdef subjects_t subjects
        cdef subject_t* e
        if not self.get(self.last_seq, &m):
            return False
        memset(&present, 0, sizeof(present))
        subjects_init(&subjects, self.subjects.seed)
        e = subjects_add(&subjects, m.subject, m.subject_len)
        if e == NULL or not seqset_add(&present, m.seq):
            subjects_clear(&subjects)
            return False
        e.first = e.last = m.seq
        e.count = 1
        p.purged = self.msgs - 1
        if p.purged == 0:
            seqset_clear(&present)
            subjects_clear(&subjects)
            return True
        subjects.clears = self.subjects.clears + 1
        seqset_clear(&self.present)
        subjects_clear(&self.subjects)
        self.present = present
        self.subjects = subjects
        self.deletes += p.purged
        self.msgs = 1
        self.bytes = self.size_of(m.subject_len, m.hdr_len, m.msg_len)
        self.first_seq = m.seq
        self.first_ts_ns = m.ts_ns
        self.stale_first_ts = False
        self.erase_but(&m)
        return True

    cdef void purge_begin(self, purge_t* p, const char* subject, Py_ssize_t n, uint64_t seq,
                          uint64_t keep) noexcept nogil:
        """Begin to remove messages in the filter (n 0: all), those below seq (0: any), but for the newest keep of them.

        purge_step does it, in steps; p.done says whether there is anything left to do. Other operations may come
        between the steps. As in nats-server, a seq beyond the last one moves last_seq up to seq - 1.
        """
        memset(p, 0, sizeof(purge_t))
        filter_init(&p.filter, subject, n)
        p.mode = PURGE_RANGE
        p.at = self.first_seq
        p.stop = self.last_seq
        if seq == 1 or self.error == STORE_FAILED or self.error == STORE_CLOSED:
            p.done = True
        elif not p.filter.all:
            self.purge_filtered(p, seq, keep)
        elif seq == 0 and keep == 0:
            p.purged = self.purge_all()
            p.done = True
        elif (keep == 1 if seq == 0 else seq == self.last_seq) and self.purge_but_last(p):
            p.done = True
        elif seq == 0:
            p.max_msgs = self.msgs - keep if self.msgs > keep else 0
            p.done = p.max_msgs == 0
        elif seq > self.last_seq:
            if self.first_seq <= seq:
                p.purged = self.purge_all()
                self.last_seq = seq - 1
                self.first_seq = seq
                self.note_last()
            p.done = True
        else:
            p.stop = seq - 1
            p.done = self.first_seq > seq

    cdef void purge_filtered(self, purge_t* p, uint64_t seq, uint64_t keep) noexcept nogil:
        """The rest of purge_begin, for a filter."""
        cdef subject_t* e
        p.mode = PURGE_COUNT
        p.at = self.last_seq + 1
        p.stop = 0
        p.keep = keep
        p.last = min(self.last_seq, seq - 1) if seq else self.last_seq
        if not p.filter.literal:
            return
        e = self.subject_state(p.filter.subject, p.filter.len)
        p.it.done = True
        if e != NULL:
            p.total = e.count
            p.at = e.first
            p.stop = e.last
        self.purge_count(p, 0)
        if not p.done and p.total <= CHAIN_MAX:
            p.done = self.purge_chain(p, subjects_find(&self.subjects, p.filter.subject, p.filter.len))

    cdef void purge_count(self, purge_t* p, Py_ssize_t budget) noexcept nogil:
        """Go on finding out which messages a filtered purge may take; then it takes them."""
        cdef subject_t* e
        while not p.it.done and budget > 0:
            e = subjects_next(&self.subjects, &p.it, &p.filter, 1, budget)
            if e == NULL:
                break
            budget -= 1
            p.total += e.count
            p.at = min(p.at, e.first)
            p.stop = max(p.stop, e.last)
        if not p.it.done:
            return
        p.mode = PURGE_FILTER
        p.stop = min(p.stop, p.last)
        if p.keep:
            p.max_msgs = p.total - p.keep if p.total > p.keep else 0
        p.done = p.total == 0 or p.at > p.stop or (p.keep > 0 and p.max_msgs == 0)

    cdef bint purge_chain(self, purge_t* p, subject_t* e) noexcept nogil:
        """Purge one subject's few messages by its chain: they may lie far apart. False where the chain is broken."""
        cdef uint64_t seqs[1024]
        cdef stored_t m
        cdef uint64_t n = e.count
        cdef uint64_t i = n
        cdef uint64_t seq = e.last
        while True:
            i -= 1
            seqs[i] = seq
            if i == 0:
                break
            if not self.get(seq, &m) or m.prev == 0 or not seqset_has(&self.present, m.prev):
                return False
            seq = m.prev
        for i in range(n):
            if seqs[i] > p.stop or (p.max_msgs and p.purged >= p.max_msgs):
                break
            if seqs[i] >= p.at and self.remove(seqs[i]):
                p.purged += 1
        return True

    cdef bint purge_step(self, purge_t* p, Py_ssize_t budget) noexcept nogil:
        """Look at up to budget more messages, or subjects. True when the purge is done."""
        cdef stored_t m
        cdef uint64_t seq
        cdef uint64_t first = 0
        cdef uint64_t last = 0
        if p.mode == PURGE_COUNT and not p.done:
            self.purge_count(p, budget)
            return p.done
        while not p.done and budget > 0:
            seq = seqset_next(&self.present, p.at)
            if seq == 0 or seq > p.stop or (p.max_msgs and p.purged >= p.max_msgs):
                p.done = True
                break
            budget -= 1
            p.at = seq + 1
            if not self.get(seq, &m):
                continue
            if p.mode == PURGE_RANGE:
                self.forget(&m)
                first = first if first else seq
                last = seq
                p.purged += 1
            elif filters_match(&p.filter, 1, m.subject, m.subject_len):
                self.forget(&m)
                self.erase(seq)
                p.purged += 1
        if first:
            self.erase_range(first, last)
        return p.done

    # State.

    cdef int64_t first_ts(self) noexcept nogil:
        """When the first message was stored; 0 where there is none. What expiry by age waits for."""
        cdef stored_t m
        cdef uint64_t seq
        while self.stale_first_ts and self.msgs:
            seq = self.first_seq
            if self.get(seq, &m):
                self.first_ts_ns = m.ts_ns
                self.stale_first_ts = False
            elif seq == self.first_seq:
                break               # it can't be read now
        return self.first_ts_ns

    cdef void state(self, state_t* out) noexcept nogil:
        out.first_ts_ns = self.first_ts()
        out.msgs = self.msgs
        out.bytes = self.bytes
        out.first_seq = self.first_seq
        out.last_seq = self.last_seq
        out.last_ts_ns = self.last_ts_ns
        out.num_deleted = self.last_seq - self.first_seq + 1 - self.msgs if self.last_seq > self.first_seq else 0
        out.num_subjects = self.subjects.count

    cdef subject_t* subject_state(self, const char* subject, Py_ssize_t n) noexcept nogil:
        """A subject's state, up to date; NULL where it has no message. Valid until the store changes."""
        cdef subject_t* e = subjects_find(&self.subjects, subject, n)
        if e != NULL and e.flags:
            self.refresh(e)
            e = subjects_find(&self.subjects, subject, n)   # a bad record may have taken it away
        return e

    cdef uint64_t step_back(self, subject_t* e, uint64_t target, uint64_t* steps) noexcept nogil:
        """Walk back from e.last to the lowest message from target on; 0 where the chain is broken before that.

        e.last must not be below target. steps: how many messages of the subject are above the one found. Where the chain is
        broken e may have gone, for a record may have turned out bad.
        """
        cdef stored_t m
        cdef uint64_t seq = e.last
        cdef uint64_t first = e.first
        cdef uint64_t left = e.count
        steps[0] = 0
        while left > 1 and self.get(seq, &m):
            if m.prev == 0:
                return 0
            if m.prev < target:
                return seq
            if not seqset_has(&self.present, m.prev) or m.prev < first:
                return 0
            seq = m.prev
            left -= 1
            steps[0] += 1
        return seq if left == 1 else 0

    cdef void refresh(self, subject_t* e) noexcept nogil:
        """Bring an entry's first and last up to date. It may remove the entry where a record turns out bad."""
        cdef stored_t m
        cdef uint64_t seq, steps
        cdef uint64_t deletes = self.deletes
        if e.flags & SUBJECT_STALE_LAST:
            seq = seqset_prev(&self.present, e.last)
            while seq > e.first:
                if self.get(seq, &m) and m.subject_len == e.len and memcmp(m.subject, e.text, e.len) == 0:
                    break
                if self.deletes != deletes:
                    return
                seq = seqset_prev(&self.present, seq - 1)
            e.last = max(seq, e.first)
            e.flags &= ~<uint32_t>SUBJECT_STALE_LAST
        if e.flags & SUBJECT_STALE_FIRST:
            seq = 0
            if e.count <= CHAIN_MAX:
                seq = self.step_back(e, 0, &steps)
                if self.deletes != deletes:
                    return
            if seq == 0:
                seq = seqset_next(&self.present, e.first + 1)
                while seq and seq < e.last:
                    if self.get(seq, &m) and m.subject_len == e.len and memcmp(m.subject, e.text, e.len) == 0:
                        break
                    if self.deletes != deletes:
                        return
                    seq = seqset_next(&self.present, seq + 1)
            e.first = seq if seq else e.last
            e.flags &= ~<uint32_t>SUBJECT_STALE_FIRST

    cdef uint64_t seq_from_time(self, int64_t ts_ns) noexcept nogil:
        """The first message stored at ts_ns or later; last_seq + 1 where there is none."""
        cdef stored_t m
        cdef uint64_t lo = self.first_seq
        cdef uint64_t hi = self.last_seq + 1
        cdef uint64_t mid
        cdef uint64_t seq
        while lo < hi:
            mid = lo + ((hi - lo) >> 1)
            seq = seqset_next(&self.present, mid)
            if seq == 0 or seq >= hi:
                hi = mid
            elif not self.get(seq, &m):
                if seqset_has(&self.present, seq):
                    return seq      # it can't be read now
                continue            # bad, and gone from the set: look again
            elif m.ts_ns >= ts_ns:
                hi = mid
            else:
                lo = seq + 1
        seq = seqset_next(&self.present, lo)
        return seq if seq else self.last_seq + 1

    cdef subject_t* next_state(self, subject_iter_t* it, const filter_t* filters, Py_ssize_t n,
                               bint literal) noexcept nogil:
        """The next subject in one of the filters, up to date; NULL = no more. literal: all filters are."""
        cdef subject_t* e
        if literal:     # it.unit counts them
            while it.unit < <uint64_t>n:
                e = self.subject_state(filters[it.unit].subject, filters[it.unit].len)
                it.unit += 1
                if e != NULL:
                    return e
            return NULL
        while True:
            e = subjects_next(&self.subjects, it, filters, n, NO_BUDGET)
            if e != NULL and e.flags:
                self.refresh(e)
            if e == NULL or e.flags & SUBJECT_DEAD == 0:    # a bad record may have taken it away
                return e

    cdef uint64_t num_pending(self, uint64_t seq, const filter_t* filters, Py_ssize_t num_filters,
                              bint last_per_subject) noexcept nogil:
        """How many messages from seq on are in one of the filters, which don't overlap (none: any); if asked, one a subject.

        Messages are looked at only where subjects in the filters, but not all of the stream's, have some on both sides of
        seq: those of these subjects, or all on one side, whatever are fewer.
        """
        cdef subject_iter_t it
        cdef subject_t* e
        cdef uint64_t subjects = 0, total = 0, above = 0, astride = 0, steps, side
        cdef bint literal = num_filters > 0
        cdef Py_ssize_t i
        if not last_per_subject and subjects_all_in(&self.subjects, filters, num_filters):
            return seqset_count_from(&self.present, seq)
        for i in range(num_filters):
            literal = literal and filters[i].literal and not filters[i].all
        memset(&it, 0, sizeof(it))
        while True:
            e = self.next_state(&it, filters, num_filters, literal)
            if e == NULL:
                break
            subjects += 1
            total += e.count
            if e.last < seq:
                continue
            if last_per_subject:
                above += 1
            elif e.first < seq:
                astride += e.count
            else:
                above += e.count
        if last_per_subject or astride == 0:
            return above
        if subjects == self.subjects.count:
            return seqset_count_from(&self.present, seq)
        side = min(self.last_seq - seq, seq - self.first_seq)
        memset(&it, 0, sizeof(it))
        while astride <= side >> 3:     # these lie apart, and cost so much more
            e = self.next_state(&it, filters, num_filters, literal)
            if e == NULL:
                return above
            if e.first < seq <= e.last:
                if self.step_back(e, seq, &steps) == 0:
                    break
                above += steps + 1
        if self.last_seq - seq < seq - self.first_seq:
            return self.count_in(seq, self.last_seq + 1, filters, num_filters)
        return total - self.count_in(self.first_seq, seq, filters, num_filters)

    cdef uint64_t count_in(self, uint64_t seq, uint64_t stop, const filter_t* filters, Py_ssize_t n) noexcept nogil:
        """How many messages from seq on and below stop are in one of the filters: each is looked at."""
        cdef stored_t m
        cdef uint64_t total = 0
        seq = seqset_next(&self.present, seq)
        while seq and seq < stop:
            total += self.get(seq, &m) and filters_match(filters, n, m.subject, m.subject_len)
            seq = seqset_next(&self.present, seq + 1)
        return total

    # For tests and tools: the same with Python objects.

    def append_bytes(self, bytes subject, bytes msg, bytes hdr=b"", int64_t ts_ns=0, uint64_t seq=0) -> int:
        """The sequence of a message; OSError says why there is none."""
        seq = self.append(seq, ts_ns, subject, len(subject), hdr, len(hdr), msg, len(msg))
        if seq == 0:
            raise OSError(ERRORS[self.error])
        return seq

    def get_bytes(self, uint64_t seq) -> tuple | None:
        """(seq, timestamp, subject, headers, payload) or None."""
        cdef stored_t m
        if not self.get(seq, &m):
            return None
        return m.seq, m.ts_ns, m.subject[:m.subject_len], m.hdr[:m.hdr_len], m.msg[:m.msg_len]

    def next_bytes(self, uint64_t seq, bytes pattern=b"", Py_ssize_t budget=NO_BUDGET) -> tuple[tuple | None, int]:
        """The first message from seq on in pattern, and where to go on."""
        cdef stored_t m
        cdef filter_t f
        cdef uint64_t resume = 0
        filter_init(&f, pattern, len(pattern))
        if self.next(seq, &f, 1, budget, &m, &resume) == 0:
            return None, resume
        return (m.seq, m.ts_ns, m.subject[:m.subject_len], m.hdr[:m.hdr_len], m.msg[:m.msg_len]), resume

    def remove_seq(self, uint64_t seq) -> bool:
        return self.remove(seq)

    def skip(self, uint64_t seq, int64_t ts_ns=0) -> None:
        self.skip_to(seq, ts_ns)

    def purge(self, bytes subject=b"", uint64_t seq=0, uint64_t keep=0, Py_ssize_t budget=4096) -> int:
        """Purge to the end, budget messages a step. How many went."""
        cdef purge_t p
        self.purge_begin(&p, subject, len(subject), seq, keep)
        while not p.done:
            self.purge_step(&p, budget)
        return p.purged

    def state_dict(self) -> dict[str, int]:
        cdef state_t s
        self.state(&s)
        return dict(s)

    def subjects_state(self, bytes pattern=b"") -> dict[bytes, tuple[int, int, int]]:
        """{subject: (first, last, count)}."""
        cdef subject_iter_t it
        cdef subject_t* e
        cdef filter_t f
        memset(&it, 0, sizeof(it))
        filter_init(&f, pattern, len(pattern))
        found = {}
        while True:
            e = subjects_next(&self.subjects, &it, &f, 1, NO_BUDGET)
            if e == NULL:
                return found
            if e.flags:
                self.refresh(e)
            found[e.text[:e.len]] = (e.first, e.last, e.count)

    def last_at_most(self, bytes subject not None, uint64_t up_to) -> int:
        """The last sequence up to up_to on a literal subject; 0 = none."""
        cdef subject_t* state = self.subject_state(subject, len(subject))
        cdef uint64_t seq = state.last if state != NULL else 0
        cdef stored_t m
        while seq > up_to and self.get(seq, &m):
            if m.prev == 0 or not self.has(m.prev):
                seq -= 1        # the chain is broken: look at what lies between
                break
            seq = m.prev
        seq = seqset_prev(&self.present, min(seq, up_to)) if seq else 0
        while seq and self.get(seq, &m):
            if m.subject_len == len(subject) and memcmp(m.subject, <const char*>subject, m.subject_len) == 0:
                return seq
            seq = seqset_prev(&self.present, seq - 1)
        return 0

    def missing_seqs(self, uint64_t limit=100000) -> list:
        """Sequences between the first and the last that have no message, not more than limit of them."""
        cdef uint64_t seq = seqset_next_missing(&self.present, self.first_seq)
        cdef list missing = []
        while seq <= self.last_seq and <uint64_t>len(missing) < limit:
            missing.append(seq)
            seq = seqset_next_missing(&self.present, seq + 1)
        return missing

    def from_time(self, int64_t ts_ns) -> int:
        return self.seq_from_time(ts_ns)

    def pending(self, uint64_t seq, patterns=(), bint last_per_subject=False) -> int:
        """num_pending."""
        cdef filter_t f[16]
        cdef Py_ssize_t i
        patterns = list(patterns)[:16]
        for i, pattern in enumerate(patterns):
            filter_init(&f[i], pattern, len(pattern))
        return self.num_pending(seq, f, len(patterns), last_per_subject)

    @property
    def lost(self) -> list[tuple[int, str]]:
        """Sequences whose records were found bad, and what was bad about them."""
        return [(self.lost_seqs[i], RECORD_REASONS[self.lost_reasons[i]]) for i in range(self.num_lost)]

    @property
    def memory(self) -> int:
        """Bytes of memory that the subjects take."""
        return subjects_memory(&self.subjects)
