# A stream's sequences and subjects as bytes, so that an open need not read every message.

from natsc.jetstream.seqset cimport seqset_t
from natsc.jetstream.subjectstate cimport subjects_t

# Takes one part, which it must copy. False stops the writing.
ctypedef bint (*part_fn)(void* ctx, const char* part, size_t n) noexcept nogil

cdef bint checkpoint_write(seqset_t* present, subjects_t* subjects, part_fn emit, void* ctx) noexcept nogil
cdef bint checkpoint_read(seqset_t* present, subjects_t* subjects, const char* part, size_t n) noexcept nogil
