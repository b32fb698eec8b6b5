# Message blocks of nats-server's file storage, as archives made before 2.15 have them.

from libc.stdint cimport int64_t, uint8_t, uint64_t

from natsc.jetstream.archive cimport ArchiveReader
from natsc.jetstream.msgstore cimport MsgStore

# HighwayHash with 64 bits.
cdef struct highway_t:
    uint64_t v0[4]
    uint64_t v1[4]
    uint64_t mul0[4]
    uint64_t mul1[4]
    uint8_t rest[32]        # what isn't a whole packet yet
    int rest_len

cdef class BlockReader:
    cdef highway_t seed         # of the block's key
    cdef readonly uint64_t left         # bytes of the block that are still to come
    cdef readonly uint64_t last_seq     # the highest sequence seen, of messages or of what is gone
    cdef readonly int64_t last_ts_ns    # when that was
    cdef readonly bytes last_sum        # checksum of the last record
    cdef int take(self, MsgStore store, const uint8_t* rec, Py_ssize_t n, uint64_t max_payload, int64_t max_msg_size,
                  int64_t now_ns, read_ttl) except -1
