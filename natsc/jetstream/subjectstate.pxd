# Per-subject state of a stream: first and last sequence and the number of messages of every subject, in memory.

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp

from natsc.engine.subject cimport is_subset_match

cdef enum:
    SUBJECT_STALE_FIRST = 1     # first was removed: the real one is behind it
    SUBJECT_STALE_LAST = 2      # last was removed: the real one is before it
    SUBJECT_DEAD = 4            # the slot is free

# One subject. 32 bytes and its text, rounded up to 8; with its share of the index at most 64 bytes and the text.
cdef struct subject_t:
    uint64_t first          # in a dead slot: the next free one of its size
    uint64_t last
    uint64_t count
    uint32_t len
    uint32_t flags          # SUBJECT_* bits
    char text[1]            # really len bytes

cdef struct subject_block_t:
    char* data
    uint32_t used           # in units of 8 bytes
    uint32_t cap

cdef struct subjects_t:
    uint64_t* slots         # hash << 32 | unit + 1; open addressing; 0 = free
    uint64_t mask           # slots - 1; meaningless while slots is NULL
    uint64_t count          # subjects
    subject_block_t* blocks
    uint32_t num_blocks
    uint32_t cap_blocks
    uint64_t seed
    uint32_t clears         # how often it was emptied
    uint32_t common_len     # all subjects begin with these bytes
    char common[64]
    uint64_t free_lists[65]    # by an entry's size in units, unit + 1; [0] for all longer ones

# A filter: NULL or ">" match everything.
cdef struct filter_t:
    const char* subject
    Py_ssize_t len
    Py_ssize_t prefix       # bytes before the first wildcard
    bint literal
    bint all
    bint tail               # after these comes ">": whatever begins so is in it

# A walk over the subjects, from all zero on. They come in no particular order; those added on the way may be missed. It ends
# where the table is emptied meanwhile.
cdef struct subject_iter_t:
    uint32_t block
    uint32_t unit
    uint32_t clears         # of the table, when it began
    bint done

cdef void subjects_init(subjects_t* t, uint64_t seed) noexcept nogil
cdef void subjects_clear(subjects_t* t) noexcept nogil
cdef subject_t* subjects_find(subjects_t* t, const char* s, Py_ssize_t n) noexcept nogil
cdef subject_t* subjects_add(subjects_t* t, const char* s, Py_ssize_t n) noexcept nogil
cdef bint subjects_reserve(subjects_t* t, uint64_t count) noexcept nogil
cdef void subjects_remove(subjects_t* t, const char* s, Py_ssize_t n) noexcept nogil
cdef subject_t* subjects_next(subjects_t* t, subject_iter_t* it, const filter_t* filters, Py_ssize_t num_filters,
                              Py_ssize_t budget) noexcept nogil
cdef uint64_t subjects_memory(subjects_t* t) noexcept nogil
cdef bint subjects_all_in(subjects_t* t, const filter_t* filters, Py_ssize_t n) noexcept nogil
cdef void filter_init(filter_t* f, const char* subject, Py_ssize_t n) noexcept nogil


cdef inline bint filter_match(const filter_t* f, const char* s, Py_ssize_t n) noexcept nogil:
    """Whether the literal subject s is in f."""
    if f.all:
        return True
    if n < f.prefix or memcmp(s, f.subject, f.prefix) != 0:
        return False
    if f.literal:
        return n == f.len
    if f.tail:
        return n > f.prefix
    return is_subset_match(s, n, f.subject, f.len)


cdef inline bint filters_match(const filter_t* f, Py_ssize_t num, const char* s, Py_ssize_t n) noexcept nogil:
    """Whether s is in one of the filters; no filters at all let everything through."""
    cdef Py_ssize_t i
    if num == 0:
        return True
    for i in range(num):
        if filter_match(&f[i], s, n):
            return True
    return False
