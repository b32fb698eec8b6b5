# A stream's sequences and subjects as bytes, so that an open need not read every message.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from natsc.jetstream.seqset cimport seqset_t
from natsc.jetstream.subjectstate cimport subjects_t

# Stands before the parts, under number 0. It holds while the stream's own record has this number of removals.
cdef packed struct checkpoint_head_t:
    uint32_t crc            # over everything behind it
    uint32_t num_parts
    uint64_t last_seq
    int64_t last_ts_ns
    uint64_t msgs
    uint64_t bytes
    uint64_t removals

# Takes one part, which it must copy. False stops the writing.
ctypedef bint (*part_fn)(void* ctx, const char* part, size_t n) noexcept nogil

cdef bint checkpoint_write(seqset_t* present, subjects_t* subjects, part_fn emit, void* ctx) noexcept nogil
cdef bint checkpoint_read(seqset_t* present, subjects_t* subjects, const char* part, size_t n) noexcept nogil
