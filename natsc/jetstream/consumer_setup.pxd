# What a consumer is told to do, and where it begins.

from libc.stdint cimport int64_t, uint64_t

from natsc.jetstream.consumer_pulls cimport PullingConsumer

cdef class ConfiguredConsumer(PullingConsumer):
    cdef uint64_t purged_first          # messages below it went; 0 = no purge since the last job
    cdef bint purged_told               # and the consumer is at purged_first then
    cdef bint headers_only
    cdef bytes deliver_subject
    cdef bytes deliver_group            # b"" = none
    cdef readonly bint active           # somebody listens
    cdef bytes asked                    # its subject; b"" = none is waited for
    cdef bytes flow_prefix              # "$JS.FC.[<domain>.<account>.]<stream>.<consumer>."
    cdef double rate                    # bytes per ns; 0 = no limit
    cdef double rate_burst
    cdef double rate_tokens
    cdef uint64_t rate_at_ns
    # Time.
    cdef uint64_t paused_until_ns       # engine clock; 0 = not paused
    cdef int64_t threshold_ns           # unused for so long, it is deleted; 0 = never
    cdef uint64_t inactive_ns           # when that is; 0 = never
