# Which sequences of a stream are there: a bitmap in chunks, so that a run without gaps costs next to nothing.

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    CHUNK_BITS = 12
    CHUNK_SEQS = 4096
    CHUNK_WORDS = 64

cdef struct seqchunk_t:
    uint32_t count
    uint64_t words[64]

cdef struct seqrun_t:
    uint64_t no             # seq >> CHUNK_BITS
    seqchunk_t* chunk       # NULL = none of its sequences

cdef struct seqset_t:
    seqrun_t* runs          # by number, ascending
    uint64_t head           # first run in use
    uint64_t end            # one past the last
    uint64_t cap
    uint64_t holes          # runs between head and end whose chunk is NULL
    uint64_t count          # sequences in the set

cdef bint seqset_add(seqset_t* s, uint64_t seq) noexcept nogil
cdef bint seqset_remove(seqset_t* s, uint64_t seq) noexcept nogil
cdef bint seqset_has(seqset_t* s, uint64_t seq) noexcept nogil
cdef uint64_t seqset_next(seqset_t* s, uint64_t seq) noexcept nogil
cdef uint64_t seqset_next_missing(seqset_t* s, uint64_t seq) noexcept nogil
cdef uint64_t seqset_prev(seqset_t* s, uint64_t seq) noexcept nogil
cdef uint64_t seqset_count_from(seqset_t* s, uint64_t seq) noexcept nogil
cdef bint seqset_restore(seqset_t* s, uint64_t no, const uint64_t* words) noexcept nogil
cdef bint seqset_is_full(const seqchunk_t* chunk) noexcept nogil
cdef void seqset_clear(seqset_t* s) noexcept nogil
