# A purge in steps, and a walk over subjects in steps, for Python.

from natsc.jetstream.msgstore cimport MsgStore, purge_t
from natsc.jetstream.subjectstate cimport filter_t, subject_iter_t

cdef class Purge:
    cdef MsgStore store
    cdef bytes subject
    cdef purge_t p

cdef class SubjectWalk:
    cdef MsgStore store
    cdef bytes pattern
    cdef filter_t filter
    cdef subject_iter_t it
    cdef readonly dict found        # messages by subject
