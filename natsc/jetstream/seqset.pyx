"""The set of sequences that a stream holds.

Sequences are added in ascending order and removed in any. A chunk of 4096 sequences that are all there is the shared
FULL chunk, and one that is empty is none at all: a stream of ten million messages without gaps takes 40 KB, and one
with a few messages spread over a wide range takes half a KB a message at most.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

cdef extern from *:
    int __builtin_ctzll(unsigned long long) noexcept nogil
    int __builtin_clzll(unsigned long long) noexcept nogil
    int __builtin_popcountll(unsigned long long) noexcept nogil

cdef seqchunk_t FULL
memset(&FULL, 0xFF, sizeof(FULL))
FULL.count = CHUNK_SEQS


cdef uint64_t find_run(seqset_t* s, uint64_t no) noexcept nogil:
    """Index of the first run with that number or a higher one; s.end where there is none."""
    cdef uint64_t lo = s.head
    cdef uint64_t hi = s.end
    cdef uint64_t mid
    if lo == hi or no <= s.runs[lo].no:
        return lo
    # Without gaps its place follows from the first run's number.
    mid = lo + (no - s.runs[lo].no)
    if mid < hi and s.runs[mid].no == no:
        return mid
    while lo < hi:
        mid = (lo + hi) >> 1
        if s.runs[mid].no < no:
            lo = mid + 1
        else:
            hi = mid
    return lo


cdef void squeeze(seqset_t* s) noexcept nogil:
    """Drop the runs that have become empty."""
    cdef uint64_t i
    cdef uint64_t n = 0
    for i in range(s.head, s.end):
        if s.runs[i].chunk != NULL:
            s.runs[n] = s.runs[i]
            n += 1
    s.head = 0
    s.end = n
    s.holes = 0


cdef bint seqset_add(seqset_t* s, uint64_t seq) noexcept nogil:
    """Add a sequence higher than any before. False where memory is out."""
    cdef uint64_t no = seq >> CHUNK_BITS
    cdef uint64_t bit = seq & (CHUNK_SEQS - 1)
    cdef seqrun_t* grown
    cdef seqrun_t* run
    if s.end == s.head or s.runs[s.end - 1].no != no or s.runs[s.end - 1].chunk == NULL:
        if s.end == s.cap:
            if s.head > s.cap >> 1 or s.holes > s.cap >> 1:
                squeeze(s)
            else:
                grown = <seqrun_t*>realloc(s.runs, (s.cap * 2 + 8) * sizeof(seqrun_t))
                if grown == NULL:
                    return False
                s.runs = grown
                s.cap = s.cap * 2 + 8
        if s.end > s.head and s.runs[s.end - 1].no == no:
            s.end -= 1      # emptied a moment ago: it becomes a chunk again
            s.holes -= 1
        run = &s.runs[s.end]
        run.chunk = <seqchunk_t*>calloc(1, sizeof(seqchunk_t))
        if run.chunk == NULL:
            return False
        run.no = no
        s.end += 1
    run = &s.runs[s.end - 1]
    run.chunk.words[bit >> 6] |= <uint64_t>1 << (bit & 63)
    run.chunk.count += 1
    s.count += 1
    if run.chunk.count == CHUNK_SEQS:
        free(run.chunk)
        run.chunk = &FULL
    return True


cdef bint seqset_is_full(const seqchunk_t* chunk) noexcept nogil:
    """Whether a run's chunk is the one where everything is there."""
    return chunk == &FULL


cdef bint seqset_restore(seqset_t* s, uint64_t no, const uint64_t* words) noexcept nogil:
    """Add a whole chunk, numbered higher than any before; words NULL: all of it. False where memory is out."""
    cdef uint64_t w
    cdef seqchunk_t* chunk
    if not seqset_add(s, no << CHUNK_BITS):
        return False
    chunk = s.runs[s.end - 1].chunk
    s.count -= 1
    if words == NULL:
        free(chunk)
        s.runs[s.end - 1].chunk = &FULL
        s.count += CHUNK_SEQS
        return True
    chunk.count = 0
    for w in range(CHUNK_WORDS):
        chunk.words[w] = words[w]
        chunk.count += __builtin_popcountll(words[w])
    s.count += chunk.count
    return True


cdef bint seqset_has(seqset_t* s, uint64_t seq) noexcept nogil:
    cdef uint64_t i = find_run(s, seq >> CHUNK_BITS)
    cdef uint64_t bit = seq & (CHUNK_SEQS - 1)
    if i == s.end or s.runs[i].no != seq >> CHUNK_BITS or s.runs[i].chunk == NULL:
        return False
    return (s.runs[i].chunk.words[bit >> 6] >> (bit & 63)) & 1


cdef bint seqset_remove(seqset_t* s, uint64_t seq) noexcept nogil:
    """False where seq is not in the set (or memory is out, in which case nothing changed)."""
    cdef uint64_t i = find_run(s, seq >> CHUNK_BITS)
    cdef uint64_t bit = seq & (CHUNK_SEQS - 1)
    cdef seqrun_t* run
    cdef seqchunk_t* own
    if i == s.end or s.runs[i].no != seq >> CHUNK_BITS or s.runs[i].chunk == NULL:
        return False
    run = &s.runs[i]
    if not (run.chunk.words[bit >> 6] >> (bit & 63)) & 1:
        return False
    if run.chunk == &FULL:
        own = <seqchunk_t*>malloc(sizeof(seqchunk_t))
        if own == NULL:
            return False
        own[0] = FULL
        run.chunk = own
    run.chunk.words[bit >> 6] &= ~(<uint64_t>1 << (bit & 63))
    run.chunk.count -= 1
    s.count -= 1
    if run.chunk.count == 0:
        free(run.chunk)
        run.chunk = NULL
        s.holes += 1
        while s.head < s.end and s.runs[s.head].chunk == NULL:
            s.head += 1
            s.holes -= 1
        if s.holes > 64 and s.holes > (s.end - s.head) >> 1:
            squeeze(s)
    return True


cdef uint64_t seqset_next(seqset_t* s, uint64_t seq) noexcept nogil:
    """The lowest sequence from seq on; 0 where there is none."""
    cdef uint64_t i = find_run(s, seq >> CHUNK_BITS)
    cdef uint64_t bit
    cdef uint64_t word
    cdef uint64_t w
    while i < s.end:
        if s.runs[i].chunk != NULL:
            bit = seq & (CHUNK_SEQS - 1) if s.runs[i].no == seq >> CHUNK_BITS else 0
            w = bit >> 6
            word = s.runs[i].chunk.words[w] & (~<uint64_t>0 << (bit & 63))
            while True:
                if word:
                    return (s.runs[i].no << CHUNK_BITS) + (w << 6) + <uint64_t>__builtin_ctzll(word)
                w += 1
                if w == CHUNK_WORDS:
                    break
                word = s.runs[i].chunk.words[w]
        i += 1
    return 0


cdef uint64_t seqset_next_missing(seqset_t* s, uint64_t seq) noexcept nogil:
    """The lowest sequence from seq on that isn't in the set: full chunks are passed in one step."""
    cdef uint64_t i = find_run(s, seq >> CHUNK_BITS)
    cdef uint64_t bit, word
    while i < s.end and s.runs[i].no == seq >> CHUNK_BITS and s.runs[i].chunk != NULL:
        if s.runs[i].chunk != &FULL:
            bit = seq & (CHUNK_SEQS - 1)
            word = ~s.runs[i].chunk.words[bit >> 6] & (~<uint64_t>0 << (bit & 63))
            while word == 0 and bit >> 6 < CHUNK_WORDS - 1:
                bit = ((bit >> 6) + 1) << 6
                word = ~s.runs[i].chunk.words[bit >> 6]
            if word:
                return (s.runs[i].no << CHUNK_BITS) + (bit >> 6 << 6) + <uint64_t>__builtin_ctzll(word)
        seq = (s.runs[i].no + 1) << CHUNK_BITS
        i += 1
    return seq


cdef uint64_t seqset_prev(seqset_t* s, uint64_t seq) noexcept nogil:
    """The highest sequence up to seq; 0 where there is none."""
    cdef uint64_t i = find_run(s, seq >> CHUNK_BITS)
    cdef uint64_t bit
    cdef uint64_t word
    cdef int64_t w
    if i == s.end or s.runs[i].no > seq >> CHUNK_BITS:
        if i == s.head:
            return 0
        i -= 1
    while True:
        if s.runs[i].chunk != NULL:
            bit = seq & (CHUNK_SEQS - 1) if s.runs[i].no == seq >> CHUNK_BITS else CHUNK_SEQS - 1
            w = bit >> 6
            word = s.runs[i].chunk.words[w] & (~<uint64_t>0 >> (63 - (bit & 63)))
            while True:
                if word:
                    return (s.runs[i].no << CHUNK_BITS) + (<uint64_t>w << 6) + 63 - <uint64_t>__builtin_clzll(word)
                w -= 1
                if w < 0:
                    break
                word = s.runs[i].chunk.words[w]
        if i == s.head:
            return 0
        i -= 1


cdef uint64_t seqset_count_from(seqset_t* s, uint64_t seq) noexcept nogil:
    """How many sequences there are from seq on."""
    cdef uint64_t i = find_run(s, seq >> CHUNK_BITS)
    cdef uint64_t bit = seq & (CHUNK_SEQS - 1)
    cdef uint64_t n = 0
    cdef uint64_t w
    if i == s.head and (i == s.end or s.runs[i].no > seq >> CHUNK_BITS):
        return s.count
    if i < s.end and s.runs[i].no == seq >> CHUNK_BITS:
        if s.runs[i].chunk != NULL:
            n += __builtin_popcountll(s.runs[i].chunk.words[bit >> 6] & (~<uint64_t>0 << (bit & 63)))
            for w in range((bit >> 6) + 1, CHUNK_WORDS):
                n += __builtin_popcountll(s.runs[i].chunk.words[w])
        i += 1
    while i < s.end:
        if s.runs[i].chunk != NULL:
            n += s.runs[i].chunk.count
        i += 1
    return n


cdef void seqset_clear(seqset_t* s) noexcept nogil:
    """Empty the set and give its memory back."""
    cdef uint64_t i
    for i in range(s.head, s.end):
        if s.runs[i].chunk != NULL and s.runs[i].chunk != &FULL:
            free(s.runs[i].chunk)
    free(s.runs)
    memset(s, 0, sizeof(seqset_t))


cdef class SeqSet:
    """The same for tests."""
    cdef seqset_t s

    def __dealloc__(self):
        seqset_clear(&self.s)

    def add(self, uint64_t seq):
        return seqset_add(&self.s, seq)

    def remove(self, uint64_t seq):
        return seqset_remove(&self.s, seq)

    def has(self, uint64_t seq):
        return seqset_has(&self.s, seq)

    def next(self, uint64_t seq):
        return seqset_next(&self.s, seq)

    def next_missing(self, uint64_t seq):
        return seqset_next_missing(&self.s, seq)

    def prev(self, uint64_t seq):
        return seqset_prev(&self.s, seq)

    def count_from(self, uint64_t seq):
        return seqset_count_from(&self.s, seq)

    def clear(self):
        seqset_clear(&self.s)

    def __len__(self):
        return self.s.count
