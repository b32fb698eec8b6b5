"""Who of a stream's consumers wants a subject: their filters in a subject tree, as the engine has subscriptions.

A message that comes or goes costs what its receivers cost, however many other consumers the stream has.

Invariants
1. A consumer is in `broad`, or all of its filters are in the tree; where memory for that is out it is in `broad` too, and
   is told of more than it wants: on_new and on_removed are right all the same.
2. find names a consumer once, however many of its filters match.
3. Nothing is added or removed while a stream walks over what find has found: what it calls there posts jobs.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

from natsc.engine.sublist cimport (sub_new, sub_visitor, sublist_clear, sublist_has_match, sublist_init, sublist_insert,
                                   sublist_match, sublist_remove)
from natsc.engine.types cimport sub_t
from natsc.jetstream.subjectstate cimport filter_t

# A visitor is called where nogil is declared, by an engine that always runs with the GIL held.


cdef class StreamConsumer:
    cdef list wanted(self):
        return []

    cdef void on_new(self, uint64_t first_seq, uint64_t last_seq, uint64_t count) noexcept:
        pass

    cdef void on_wanted(self, uint64_t seq) noexcept:
        pass

    cdef void on_removed(self, uint64_t seq, const char* subject, Py_ssize_t n) noexcept:
        pass

    cdef bint has_delivered(self) noexcept:
        return False

    cdef void on_purged(self, uint64_t first_seq, bint told, bint some) noexcept:
        pass

    cdef int part_in(self, const filter_t* f) noexcept nogil:
        return PART_WIDER

    cdef void on_stream_deleted(self):
        pass

    cdef void on_shutdown(self):
        pass

    cdef bint needs(self, uint64_t seq) noexcept nogil:
        return False


cdef bint visit_found(sub_t* s, void* ctx) noexcept:
    cdef ConsumerIndex index = <ConsumerIndex>ctx
    cdef void* c
    memcpy(&c, s.text, sizeof(void*))
    index.name(c)
    return True


cdef class ConsumerIndex:
    """The consumers of a stream."""

    def __cinit__(self, uint64_t seed):
        sublist_init(&self.tree, seed, NULL)
        self.broad = []
        self.mixed = []
        self.curious = []

    def __dealloc__(self):
        sublist_clear(&self.tree)
        free(self.found)
        free(self.touched)

    # Who there is.

    cdef int add(self, StreamConsumer c) except -1:
        """Take in a consumer. Raises MemoryError."""
        cdef Py_ssize_t cap = self.num_filtered + len(self.broad) + 1
        cdef void** grown
        if cap > self.cap:
            cap *= 2
            grown = <void**>realloc(self.found, cap * sizeof(void*))
            if grown != NULL:
                self.found = grown
                grown = <void**>realloc(self.touched, cap * sizeof(void*))
            if grown == NULL:
                raise MemoryError
            self.touched = grown
            self.cap = cap
        if self.add_filters(c, c.wanted()):
            self.num_filtered += 1
        else:
            self.broad.append(c)
        self.mix(c)
        return 0

    cdef bint add_filters(self, StreamConsumer c, list wanted):
        """Put filters into the tree. False where everything is wanted, or memory is out."""
        cdef bytes text
        cdef void* pointer = <void*>c
        cdef sub_t* s
        if not wanted or b">" in wanted:
            return False
        c.subs = <sub_t**>calloc(len(wanted), sizeof(sub_t*))
        if c.subs == NULL:
            return False
        for text in wanted:
            s = sub_new(NULL, <char*>&pointer, sizeof(void*), NULL, 0, 0)
            if s == NULL or not sublist_insert(&self.tree, s, text, len(text)):
                free(s)
                self.drop_filters(c)
                return False
            c.subs[c.num_subs] = s
            c.num_subs += 1
        return True

    cdef void drop_filters(self, StreamConsumer c):
        cdef Py_ssize_t i
        for i in range(c.num_subs):
            sublist_remove(&self.tree, c.subs[i])
            free(c.subs[i])
        free(c.subs)
        c.subs = NULL
        c.num_subs = 0

    cdef void remove(self, StreamConsumer c):
        """Let a consumer go that is here."""
        if c.num_subs:
            self.num_filtered -= 1
            self.drop_filters(c)
        else:
            self.broad.remove(c)
        if c in self.mixed:
            self.mixed.remove(c)
        if c in self.curious:
            self.curious.remove(c)

    cdef void mix(self, StreamConsumer c):
        """c may have had other filters: until nothing is pending it must hear of messages that aren't in those, too."""
        if c.num_subs and c.has_delivered() and c not in self.mixed:
            self.mixed.append(c)

    # Who wants what.

    cdef void name(self, void* c) noexcept:
        """c is one of those that find finds."""
        if (<StreamConsumer>c).asked != self.finds:
            (<StreamConsumer>c).asked = self.finds
            self.found[self.num_found] = c
            self.num_found += 1

    cdef void find_filtered(self, const char* subject, Py_ssize_t n) noexcept:
        self.finds += 1
        self.num_found = 0
        if self.num_filtered:
            sublist_match(&self.tree, subject, n, <sub_visitor>visit_found, <void*>self)

    cdef void find(self, const char* subject, Py_ssize_t n) noexcept:
        """Have found name those who want a literal subject."""
        cdef StreamConsumer c
        self.find_filtered(subject, n)
        for c in self.broad:
            self.name(<void*>c)

    cdef bint has(self, const char* subject, Py_ssize_t n) noexcept:
        """Whether anybody wants a literal subject."""
        return len(self.broad) > 0 or sublist_has_match(&self.tree, subject, n)

    # What they are told.

    cdef void touch(self, const char* subject, Py_ssize_t n, uint64_t seq) noexcept:
        """A message is new: those with filters that want it count it, and are told with tell_new."""
        cdef StreamConsumer c
        cdef Py_ssize_t i
        self.find_filtered(subject, n)
        for i in range(self.num_found):
            c = <StreamConsumer>self.found[i]
            c.on_wanted(seq)
            if c.touched != self.rounds + 1:
                c.touched = self.rounds + 1
                self.touched[self.num_touched] = self.found[i]
                self.num_touched += 1

    cdef void tell_new(self, uint64_t first_seq, uint64_t last_seq, uint64_t count) noexcept:
        """Those messages are visible now, count of them are there."""
        cdef StreamConsumer c
        cdef list curious = self.curious
        cdef Py_ssize_t i, n = self.num_touched
        self.rounds += 1
        self.num_touched = 0
        for c in self.broad:
            c.on_new(first_seq, last_seq, count)
        for i in range(n):
            (<StreamConsumer>self.touched[i]).on_new(first_seq, last_seq, count)
        if curious:
            self.curious = []
            for c in curious:
                c.on_new(first_seq, last_seq, count)

    cdef void tell_next(self, StreamConsumer c) noexcept:
        """c wants to hear of the next messages that become visible."""
        if c.num_subs and c not in self.curious:
            self.curious.append(c)

    cdef void tell_removed(self, uint64_t seq, const char* subject, Py_ssize_t n, StreamConsumer but) noexcept:
        """A message is removed; but, whose acknowledgement it was, knows."""
        cdef StreamConsumer c
        cdef Py_ssize_t i
        self.find(subject, n)
        for i in range(self.num_found):
            c = <StreamConsumer>self.found[i]
            if c is not but:
                c.on_removed(seq, subject, n)
        if not self.mixed:
            return
        for c in list(self.mixed):
            if not c.has_delivered():
                self.mixed.remove(c)
            elif c.asked != self.finds and c is not but:
                c.on_removed(seq, subject, n)
