# What a stream keeps its messages in: the interface that file and memory storage share.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.seqset cimport seqset_t
from natsc.jetstream.subjectstate cimport filter_t, subject_iter_t, subject_t, subjects_t

# MsgStore.error: why an append returned 0.
cdef enum:
    STORE_OK = 0
    STORE_FAILED = 1        # the storage worker stopped: nothing more becomes durable (sticky)
    STORE_NO_MEMORY = 2
    STORE_BAD_SEQ = 3       # the sequence is not above the last one
    STORE_CLOSED = 4        # closed, dropped, or used after a fork (sticky)
    STORE_TOO_LARGE = 5     # a subject above 65535 bytes, or headers and payload above 1 GiB

cdef enum:
    PURGE_RANGE = 0         # the oldest messages
    PURGE_FILTER = 1        # those in a filter
    PURGE_COUNT = 2         # at first it is to be found where those in a filter are, and how many

# A purge under way: purge_begin fills it, purge_step goes on with it.
cdef struct purge_t:
    filter_t filter         # its text must live as long as the purge
    uint64_t at             # the next sequence to look at
    uint64_t stop           # the last one
    uint64_t max_msgs       # 0 = no limit
    uint64_t keep           # PURGE_COUNT: how many are to stay
    uint64_t last           # ... and the last sequence that may go
    uint64_t total
    subject_iter_t it
    uint64_t purged
    int mode
    bint done

cdef struct state_t:
    uint64_t msgs
    uint64_t bytes
    uint64_t first_seq      # last_seq + 1 where there is no message; 0 in a stream that never had one
    uint64_t last_seq
    int64_t first_ts_ns     # 0 = no message
    int64_t last_ts_ns      # 0 = never had one
    uint64_t num_deleted
    uint64_t num_subjects

cdef class MsgStore:
    cdef readonly uint64_t msgs
    cdef readonly uint64_t bytes        # as nats-server accounts them
    cdef readonly uint64_t first_seq
    cdef readonly uint64_t last_seq
    cdef readonly int64_t last_ts_ns
    cdef readonly int error             # STORE_*: of the last append that returned 0
    cdef readonly uint64_t deletes      # messages removed since the store was made or opened
    cdef int64_t first_ts_ns
    cdef bint stale_first_ts            # first_ts_ns is to be read again
    cdef bint is_file
    cdef readonly bint unclaimed        # there is something for reclaim
    cdef seqset_t present
    cdef subjects_t subjects
    cdef uint64_t* lost_seqs            # records that were found bad
    cdef int* lost_reasons
    cdef readonly uint32_t num_lost
    cdef uint32_t cap_lost

    # What a kind of storage provides.
    cdef bint put(self, uint64_t seq, int64_t ts_ns, uint64_t prev, const char* subject, Py_ssize_t subject_len,
                  const char* hdr, Py_ssize_t hdr_len, const char* msg, Py_ssize_t msg_len) noexcept nogil
    cdef int fetch(self, uint64_t seq, stored_t* out) noexcept nogil
    cdef void erase(self, uint64_t seq) noexcept nogil
    cdef void erase_range(self, uint64_t first, uint64_t last) noexcept nogil
    cdef void erase_all(self) noexcept nogil
    cdef void erase_but(self, const stored_t* m) noexcept nogil
    cdef void note_last(self) noexcept nogil
    cdef bint reclaim(self, Py_ssize_t pages) noexcept nogil

    # What consumers keep: nothing in memory storage.
    cdef bint consumer_put(self, const char* key, size_t key_len, const char* value, size_t n) noexcept nogil
    cdef bint consumer_delete(self, const char* key, size_t key_len) noexcept nogil
    cdef bint consumer_delete_prefix(self, const char* prefix, size_t n) noexcept nogil

    # What a stream uses.
    cdef uint64_t append(self, uint64_t seq, int64_t ts_ns, const char* subject, Py_ssize_t subject_len,
                         const char* hdr, Py_ssize_t hdr_len, const char* msg, Py_ssize_t msg_len) noexcept nogil
    cdef void skip_to(self, uint64_t seq, int64_t ts_ns) noexcept nogil
    cdef bint has(self, uint64_t seq) noexcept nogil
    cdef bint get(self, uint64_t seq, stored_t* out) noexcept nogil
    cdef uint64_t next(self, uint64_t seq, const filter_t* filters, Py_ssize_t num_filters, Py_ssize_t budget,
                       stored_t* out, uint64_t* resume) noexcept nogil
    cdef bint may_change(self) noexcept nogil
    cdef bint remove(self, uint64_t seq) noexcept nogil
    cdef void purge_begin(self, purge_t* p, const char* subject, Py_ssize_t n, uint64_t seq,
                          uint64_t keep) noexcept nogil
    cdef bint purge_step(self, purge_t* p, Py_ssize_t budget) noexcept nogil
    cdef void state(self, state_t* out) noexcept nogil
    cdef int64_t first_ts(self) noexcept nogil
    cdef subject_t* subject_state(self, const char* subject, Py_ssize_t n) noexcept nogil
    cdef void refresh(self, subject_t* e) noexcept nogil
    cdef uint64_t seq_from_time(self, int64_t ts_ns) noexcept nogil
    cdef uint64_t num_pending(self, uint64_t seq, const filter_t* filters, Py_ssize_t num_filters,
                              bint last_per_subject) noexcept nogil

    # Their common parts.
    cdef uint64_t size_of(self, Py_ssize_t subject_len, Py_ssize_t hdr_len, Py_ssize_t msg_len) noexcept nogil
    cdef bint learn(self, uint64_t seq, int64_t ts_ns, const char* subject, Py_ssize_t subject_len,
                    uint64_t size) noexcept nogil
    cdef void forget(self, const stored_t* m) noexcept nogil
    cdef void quarantine(self, uint64_t seq, int reason, const stored_t* m) noexcept nogil
    cdef uint64_t purge_all(self) noexcept nogil
    cdef bint purge_but_last(self, purge_t* p) noexcept nogil
    cdef void purge_count(self, purge_t* p, Py_ssize_t budget) noexcept nogil
    cdef uint64_t step_back(self, subject_t* e, uint64_t target, uint64_t* steps) noexcept nogil
    cdef subject_t* next_state(self, subject_iter_t* it, const filter_t* filters, Py_ssize_t n, bint literal) noexcept nogil
    cdef uint64_t count_in(self, uint64_t seq, uint64_t stop, const filter_t* filters, Py_ssize_t n) noexcept nogil
    cdef bint purge_chain(self, purge_t* p, subject_t* e) noexcept nogil
    cdef void purge_filtered(self, purge_t* p, uint64_t seq, uint64_t keep) noexcept nogil
