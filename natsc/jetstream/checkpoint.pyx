"""Checkpoints.

A checkpoint is a list of parts, each a CRC-32C over what follows it and then items:
    F no                    a chunk of sequences that are all there
    B no words[64]          a chunk, bit by bit
    S first last count flags(u16) len(u16) text     a subject
Numbers are little-endian, 64 bits unless said otherwise. Parts stay below 200 KiB.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from natsc.jetstream.layout cimport crc32c
from natsc.jetstream.seqset cimport CHUNK_WORDS, seqset_is_full, seqset_restore, seqset_t
from natsc.jetstream.subjectstate cimport subject_iter_t, subject_t, subjects_add, subjects_next, subjects_t

cdef enum:
    PART_SIZE = 131072      # a part is passed on when it has grown beyond this
    ITEM_MAX = 65600
    RUN_SIZE = 9
    SUBJECT_SIZE = 29

cdef packed struct subject_item_t:
    uint8_t tag
    uint64_t first
    uint64_t last
    uint64_t count
    uint16_t flags
    uint16_t len

cdef struct writer_t:
    char* buf
    size_t n
    part_fn emit
    void* ctx


cdef bint flush(writer_t* out) noexcept nogil:
    cdef uint32_t crc
    cdef size_t n = out.n
    if n <= 4:
        return True
    crc = crc32c(0, out.buf + 4, n - 4)
    memcpy(out.buf, &crc, 4)
    out.n = 4
    return out.emit(out.ctx, out.buf, n)


cdef bint write_runs(writer_t* out, seqset_t* present) noexcept nogil:
    cdef uint64_t i
    cdef char* p
    for i in range(present.head, present.end):
        if present.runs[i].chunk == NULL:
            continue
        p = out.buf + out.n
        memcpy(p + 1, &present.runs[i].no, 8)
        if seqset_is_full(present.runs[i].chunk):
            p[0] = b"F"
            out.n += RUN_SIZE
        else:
            p[0] = b"B"
            memcpy(p + RUN_SIZE, present.runs[i].chunk.words, CHUNK_WORDS * 8)
            out.n += RUN_SIZE + CHUNK_WORDS * 8
        if out.n >= PART_SIZE and not flush(out):
            return False
    return True


cdef bint write_subjects(writer_t* out, subjects_t* subjects) noexcept nogil:
    cdef subject_iter_t it
    cdef subject_t* e
    cdef subject_item_t* item
    memset(&it, 0, sizeof(it))
    while True:
        e = subjects_next(subjects, &it, NULL, 0, 0x7FFFFFFFFFFFFFFF)
        if e == NULL:
            return True
        item = <subject_item_t*>(out.buf + out.n)
        item.tag = b"S"
        item.first = e.first
        item.last = e.last
        item.count = e.count
        item.flags = <uint16_t>e.flags
        item.len = <uint16_t>e.len
        memcpy(out.buf + out.n + SUBJECT_SIZE, e.text, e.len)
        out.n += SUBJECT_SIZE + e.len
        if out.n >= PART_SIZE and not flush(out):
            return False


cdef bint checkpoint_write(seqset_t* present, subjects_t* subjects, part_fn emit, void* ctx) noexcept nogil:
    """Pass on all parts. False where one was not taken or memory is out."""
    cdef writer_t out
    cdef bint ok
    out.buf = <char*>malloc(PART_SIZE + ITEM_MAX)
    if out.buf == NULL:
        return False
    out.n = 4
    out.emit = emit
    out.ctx = ctx
    ok = write_runs(&out, present) and write_subjects(&out, subjects) and flush(&out)
    free(out.buf)
    return ok


cdef bint checkpoint_read(seqset_t* present, subjects_t* subjects, const char* part, size_t n) noexcept nogil:
    """Take one part in. False where it is damaged or memory is out: then both tables must be cleared."""
    cdef uint32_t crc
    cdef uint64_t no
    cdef uint64_t words[64]
    cdef size_t i = 4
    cdef const subject_item_t* item
    cdef subject_t* e
    if n < 4:
        return False
    memcpy(&crc, part, 4)
    if crc != crc32c(0, part + 4, n - 4):
        return False
    while i < n:
        if part[i] == b"S" and i + SUBJECT_SIZE <= n:
            item = <const subject_item_t*>(part + i)
            if i + SUBJECT_SIZE + item.len > n:
                return False
            e = subjects_add(subjects, part + i + SUBJECT_SIZE, item.len)
            if e == NULL:
                return False
            e.first = item.first
            e.last = item.last
            e.count = item.count
            e.flags = item.flags
            i += SUBJECT_SIZE + item.len
        elif part[i] == b"F" and i + RUN_SIZE <= n:
            memcpy(&no, part + i + 1, 8)
            if not seqset_restore(present, no, NULL):
                return False
            i += RUN_SIZE
        elif part[i] == b"B" and i + RUN_SIZE + CHUNK_WORDS * 8 <= n:
            memcpy(&no, part + i + 1, 8)
            memcpy(words, part + i + RUN_SIZE, CHUNK_WORDS * 8)
            if not seqset_restore(present, no, words):
                return False
            i += RUN_SIZE + CHUNK_WORDS * 8
        else:
            return False
    return True
