"""The table of a stream's subjects.

Entries lie one behind the other in blocks, so that a walk over all of them (a wildcard filter) reads memory in order;
an open-addressed index of 8-byte slots finds one by its text. A slot holds 32 bits of the hash and the entry's place in
units of 8 bytes, so growing the index touches no entry. Removal shifts the slots behind it back: there are no
tombstones.

Invariants:
1. A pointer to an entry is valid until the next add or clear (the first block moves while it grows).
2. An entry never straddles blocks, and blocks never move once there are two.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from natsc.engine.types cimport hash_bytes

cdef enum:
    HEAD = 32               # offsetof(subject_t, text)
    BLOCK_SHIFT = 17        # 1 MiB in units of 8 bytes
    BLOCK_UNITS = 131072
    FIRST_BLOCK_UNITS = 128
    MAX_BLOCKS = 32767
    FREE_LISTS = 65
    NO_UNIT = 0xFFFFFFFF


cdef inline uint32_t units_for(Py_ssize_t n) noexcept nogil:
    return <uint32_t>((HEAD + n + 7) >> 3)


cdef inline subject_t* entry_at(subjects_t* t, uint32_t unit) noexcept nogil:
    return <subject_t*>(t.blocks[unit >> BLOCK_SHIFT].data + (<size_t>(unit & (BLOCK_UNITS - 1)) << 3))


cdef inline uint32_t hash32(subjects_t* t, const char* s, Py_ssize_t n) noexcept nogil:
    return <uint32_t>hash_bytes(s, n, t.seed)


cdef void subjects_init(subjects_t* t, uint64_t seed) noexcept nogil:
    memset(t, 0, sizeof(subjects_t))
    t.seed = seed


cdef void subjects_clear(subjects_t* t) noexcept nogil:
    """Forget every subject and give the memory back: as fast for ten million as for one."""
    cdef uint32_t i
    cdef uint64_t seed = t.seed
    cdef uint32_t clears = t.clears
    for i in range(t.num_blocks):
        free(t.blocks[i].data)
    free(t.blocks)
    free(t.slots)
    subjects_init(t, seed)
    t.clears = clears + 1


cdef subject_t* subjects_find(subjects_t* t, const char* s, Py_ssize_t n) noexcept nogil:
    cdef uint32_t h = hash32(t, s, n)
    cdef uint64_t i = h & t.mask
    cdef uint64_t slot
    cdef subject_t* e
    if t.slots == NULL:
        return NULL
    while True:
        slot = t.slots[i]
        if slot == 0:
            return NULL
        if slot >> 32 == h:
            e = entry_at(t, <uint32_t>slot - 1)
            if e.len == n and memcmp(e.text, s, n) == 0:
                return e
        i = (i + 1) & t.mask


cdef bint subjects_reserve(subjects_t* t, uint64_t count) noexcept nogil:
    """Make the index large enough for that many subjects at once. False where memory is out."""
    cdef uint64_t cap = 16
    while cap * 3 <= count * 4:
        cap *= 2
    return (t.slots != NULL and cap <= t.mask + 1) or resize_index(t, cap)


cdef bint grow_index(subjects_t* t) noexcept nogil:
    return resize_index(t, (t.mask + 1) * 2 if t.slots != NULL else 16)


cdef bint resize_index(subjects_t* t, uint64_t cap) noexcept nogil:
    cdef uint64_t* slots = <uint64_t*>calloc(cap, sizeof(uint64_t))
    cdef uint64_t i
    cdef uint64_t k
    if slots == NULL:
        return False
    if t.slots != NULL:
        for i in range(t.mask + 1):
            if t.slots[i]:
                k = (t.slots[i] >> 32) & (cap - 1)
                while slots[k]:
                    k = (k + 1) & (cap - 1)
                slots[k] = t.slots[i]
        free(t.slots)
    t.slots = slots
    t.mask = cap - 1
    return True


cdef subject_block_t* room(subjects_t* t, uint32_t units) noexcept nogil:
    """A block with that much room at its end; NULL where memory is out."""
    cdef subject_block_t* b = &t.blocks[t.num_blocks - 1] if t.num_blocks else NULL
    cdef subject_block_t* grown
    cdef uint32_t cap
    cdef char* data
    if b != NULL and b.used + units <= b.cap:
        return b
    if t.num_blocks == 1 and b.cap < BLOCK_UNITS:
        cap = b.cap
        while cap < b.used + units and cap < BLOCK_UNITS:
            cap *= 2
        if b.used + units <= cap:
            data = <char*>realloc(b.data, <size_t>cap << 3)
            if data == NULL:
                return NULL
            b.data = data
            b.cap = cap
            return b
    if t.num_blocks == t.cap_blocks:
        if t.num_blocks == MAX_BLOCKS:
            return NULL
        grown = <subject_block_t*>realloc(t.blocks, (t.cap_blocks * 2 + 1) * sizeof(subject_block_t))
        if grown == NULL:
            return NULL
        t.blocks = grown
        t.cap_blocks = t.cap_blocks * 2 + 1
    b = &t.blocks[t.num_blocks]
    b.used = 0
    b.cap = BLOCK_UNITS
    if t.num_blocks == 0:
        b.cap = FIRST_BLOCK_UNITS
        while b.cap < units:
            b.cap *= 2
    b.data = <char*>calloc(b.cap, 8) if t.num_blocks == 0 else <char*>realloc(NULL, <size_t>b.cap << 3)
    if b.data == NULL:
        return NULL
    t.num_blocks += 1
    return b


cdef uint32_t take_free(subjects_t* t, uint32_t units) noexcept nogil:
    """A dead entry of exactly that size, off its list; NO_UNIT where there is none. Long ones share list 0."""
    cdef uint64_t* link = &t.free_lists[units if units < FREE_LISTS else 0]
    cdef uint64_t unit
    cdef int _i
    for _i in range(64):
        unit = link[0]
        if unit == 0:
            break
        if units_for(entry_at(t, <uint32_t>unit - 1).len) == units:
            link[0] = entry_at(t, <uint32_t>unit - 1).first
            return <uint32_t>unit - 1
        link = &entry_at(t, <uint32_t>unit - 1).first
    return NO_UNIT


cdef subject_t* subjects_add(subjects_t* t, const char* s, Py_ssize_t n) noexcept nogil:
    """The subject's entry; a new one has count 0 and no first. NULL where memory is out."""
    cdef uint32_t h = hash32(t, s, n)
    cdef uint32_t units = units_for(n)
    cdef uint32_t unit
    cdef uint64_t i
    cdef subject_block_t* b
    cdef subject_t* e = subjects_find(t, s, n)
    if e != NULL:
        return e
    if t.slots == NULL or t.count * 4 >= (t.mask + 1) * 3:
        if not grow_index(t):
            return NULL
    unit = take_free(t, units)
    if unit != NO_UNIT:
        e = entry_at(t, unit)
    else:
        b = room(t, units)
        if b == NULL:
            return NULL
        unit = ((t.num_blocks - 1) << BLOCK_SHIFT) + b.used
        b.used += units
        e = entry_at(t, unit)
    e.first = 0
    e.last = 0
    e.count = 0
    e.len = <uint32_t>n
    e.flags = 0
    memcpy(e.text, s, n)
    note_common(t, s, n)
    i = h & t.mask
    while t.slots[i]:
        i = (i + 1) & t.mask
    t.slots[i] = <uint64_t>h << 32 | (unit + 1)
    t.count += 1
    return e


cdef void subjects_remove(subjects_t* t, const char* s, Py_ssize_t n) noexcept nogil:
    """Forget a subject. s may be the entry's own text."""
    cdef uint32_t h = hash32(t, s, n)
    cdef uint64_t i = h & t.mask
    cdef uint64_t k
    cdef uint32_t unit = 0
    cdef uint32_t units
    cdef subject_t* e = NULL
    if t.slots == NULL:
        return
    while t.slots[i]:
        if t.slots[i] >> 32 == h:
            unit = <uint32_t>t.slots[i] - 1
            e = entry_at(t, unit)
            if e.len == n and memcmp(e.text, s, n) == 0:
                break
        i = (i + 1) & t.mask
    if t.slots[i] == 0:
        return
    # Close the gap: move back every slot behind it that may lie here.
    k = (i + 1) & t.mask
    while t.slots[k]:
        if ((k - (t.slots[k] >> 32)) & t.mask) >= ((k - i) & t.mask):
            t.slots[i] = t.slots[k]
            i = k
        k = (k + 1) & t.mask
    t.slots[i] = 0
    t.count -= 1
    e.flags = SUBJECT_DEAD
    units = units_for(e.len)
    if units >= FREE_LISTS:
        units = 0
    e.first = t.free_lists[units]
    t.free_lists[units] = <uint64_t>unit + 1


cdef subject_t* subjects_next(subjects_t* t, subject_iter_t* it, const filter_t* filters, Py_ssize_t num_filters,
                              Py_ssize_t budget) noexcept nogil:
    """The next subject in one of the filters (none: every subject).

    NULL with it.done where there are no more, NULL without where budget entries were looked at: call again.
    """
    cdef subject_block_t* b
    cdef subject_t* e
    if it.block == 0 and it.unit == 0:
        it.clears = t.clears
    while it.block < t.num_blocks and it.clears == t.clears:
        b = &t.blocks[it.block]
        while it.unit < b.used:
            if budget <= 0:
                return NULL
            budget -= 1
            e = <subject_t*>(b.data + (<size_t>it.unit << 3))
            it.unit += units_for(e.len)
            if e.flags & SUBJECT_DEAD == 0 and filters_match(filters, num_filters, e.text, e.len):
                return e
        it.block += 1
        it.unit = 0
    it.done = True
    return NULL


cdef void note_common(subjects_t* t, const char* s, Py_ssize_t n) noexcept nogil:
    """A subject is new."""
    cdef uint32_t i = 0
    if t.count == 0:
        t.common_len = <uint32_t>min(n, <Py_ssize_t>sizeof(t.common))
        memcpy(t.common, s, t.common_len)
    elif n < t.common_len or memcmp(s, t.common, t.common_len) != 0:
        while i < n and i < t.common_len and s[i] == t.common[i]:
            i += 1
        t.common_len = i


cdef bint subjects_all_in(subjects_t* t, const filter_t* filters, Py_ssize_t n) noexcept nogil:
    """Whether it is plain that every subject is in one of the filters (none: it is); False where it would take a walk."""
    cdef Py_ssize_t i
    for i in range(n):
        if filters[i].all or (filters[i].tail and filters[i].prefix <= t.common_len
                              and memcmp(filters[i].subject, t.common, filters[i].prefix) == 0):
            return True
    return n == 0


cdef uint64_t subjects_memory(subjects_t* t) noexcept nogil:
    """Bytes held."""
    cdef uint64_t n = t.cap_blocks * sizeof(subject_block_t)
    cdef uint32_t i
    if t.slots != NULL:
        n += (t.mask + 1) * sizeof(uint64_t)
    for i in range(t.num_blocks):
        n += <uint64_t>t.blocks[i].cap << 3
    return n


cdef void filter_init(filter_t* f, const char* subject, Py_ssize_t n) noexcept nogil:
    """Prepare a filter; the text must outlive it. subject NULL or n 0: everything."""
    cdef Py_ssize_t i
    cdef bint at_start = True
    f.subject = subject
    f.len = n
    f.prefix = n
    f.literal = n > 0
    f.tail = False
    f.all = n == 0 or (n == 1 and subject[0] == b">")
    for i in range(n):
        if at_start and (subject[i] == b"*" or subject[i] == b">") and (i + 1 == n or subject[i + 1] == b"."):
            f.prefix = i
            f.literal = False
            f.tail = subject[i] == b">" and i + 1 == n
            return
        at_start = subject[i] == b"."


cdef class SubjectTable:
    """The table for tests."""
    cdef subjects_t t

    def __cinit__(self, uint64_t seed=0):
        subjects_init(&self.t, seed)

    def __dealloc__(self):
        subjects_clear(&self.t)

    def set(self, bytes subject, uint64_t first, uint64_t last, uint64_t count):
        """Insert or overwrite."""
        cdef subject_t* e = subjects_add(&self.t, subject, len(subject))
        if e == NULL:
            raise MemoryError
        e.first = first
        e.last = last
        e.count = count

    def get(self, bytes subject):
        """(first, last, count) or None."""
        cdef subject_t* e = subjects_find(&self.t, subject, len(subject))
        return None if e == NULL else (e.first, e.last, e.count)

    def remove(self, bytes subject):
        subjects_remove(&self.t, subject, len(subject))

    def match(self, bytes pattern=b"", Py_ssize_t budget=1 << 62):
        """{subject: (first, last, count)} of the subjects in pattern, budget entries at a time."""
        cdef filter_t f
        cdef subject_iter_t it
        cdef subject_t* e
        found = {}
        filter_init(&f, pattern, len(pattern))
        memset(&it, 0, sizeof(it))
        while not it.done:
            e = subjects_next(&self.t, &it, &f, 1, budget)
            if e != NULL:
                found[e.text[:e.len]] = (e.first, e.last, e.count)
        return found

    def clear(self):
        subjects_clear(&self.t)

    @property
    def memory(self):
        """Bytes held."""
        return subjects_memory(&self.t)

    def __len__(self):
        return self.t.count
