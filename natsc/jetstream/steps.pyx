"""What Python does with a store in steps, between which other things may happen."""

from libc.stdint cimport uint64_t
from libc.string cimport memset

from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.subjectstate cimport filter_init, subject_t, subjects_next


cdef class Purge:
    """A purge of a store in steps, between which other things may happen. See MsgStore.purge_begin."""

    def __init__(self, MsgStore store not None, bytes subject not None, uint64_t seq, uint64_t keep):
        self.store = store
        self.subject = subject
        store.purge_begin(&self.p, subject, len(subject), seq, keep)

    def step(self, Py_ssize_t budget) -> bool:
        """Look at so many more messages. True when the purge is done."""
        return self.p.done or self.store.purge_step(&self.p, budget)

    def reach(self, uint64_t seq) -> None:
        """Take what is below seq too. The purge must not be done, and be of all or of a literal subject."""
        self.p.stop = max(self.p.stop, seq - 1)

    @property
    def purged(self) -> int:
        """How many messages went."""
        return self.p.purged


cdef class SubjectWalk:
    """A walk over the subjects in a pattern in steps; found has those that it came by, with their messages."""

    def __init__(self, MsgStore store not None, bytes pattern not None):
        self.store = store
        self.pattern = pattern
        self.found = {}
        memset(&self.it, 0, sizeof(self.it))
        filter_init(&self.filter, self.pattern, len(self.pattern))

    def step(self, Py_ssize_t budget) -> bool:
        """Look at so many more subjects. True when it is over: also where all that there was has gone."""
        cdef subject_t* e
        while not self.it.done and budget > 0:
            e = subjects_next(&self.store.subjects, &self.it, &self.filter, 1, budget)
            if e == NULL:
                break
            self.found[e.text[:e.len]] = e.count
            budget -= 1
        return self.it.done
