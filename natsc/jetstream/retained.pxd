# The half of a stream that looks after what is stored: limits, age, purges, interest, and what its consumers see.
#
# natsc/jetstream/stream.pyx extends it by the path of a message into the store.

from libc.stdint cimport int64_t, uint64_t

from natsc._core cimport Engine
from natsc.engine.account cimport Account
from natsc.jetstream.consumer_index cimport ConsumerIndex, StreamConsumer
from natsc.jetstream.dedupe cimport dedupe_t
from natsc.jetstream.expiry cimport heap_t
from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.outbox cimport Outbox, Visible
from natsc.jetstream.subjectstate cimport filter_t

cdef enum:
    RETAIN_LIMITS = 0
    RETAIN_INTEREST = 1
    RETAIN_WORK_QUEUE = 2

# Bytes that streams take: of an account, or of the whole server.
cdef class Usage:
    cdef public int64_t memory
    cdef public int64_t storage
    cdef public int64_t max_memory          # -1 = no limit
    cdef public int64_t max_storage

cdef class RetainedStream(Visible):
    cdef readonly Engine engine
    cdef readonly Account account
    cdef readonly Outbox outbox
    cdef readonly str name
    cdef public object config               # StreamConfig: never changed in place, see apply()
    cdef readonly MsgStore store
    cdef readonly list consumers            # of StreamConsumer
    cdef ConsumerIndex index                # of them, by what they want
    cdef uint64_t visible_seq               # last sequence that consumers may see
    cdef readonly bint closed               # deleted, or the server stops
    # The configuration, as ingest reads it; sizes and counts: -1 = no limit.
    cdef int retention                      # RETAIN_*
    cdef int64_t max_msgs
    cdef int64_t max_bytes
    cdef int64_t max_per_subject
    cdef int64_t max_age_ns                 # 0 = no limit
    cdef int64_t duplicates_ns              # 0 = no deduplication
    cdef bint discard_new
    cdef bint is_file
    cdef bint ttl_allowed
    cdef dedupe_t dedupe
    cdef heap_t ttls                        # when messages with a TTL expire
    cdef bint expiry_armed
    cdef readonly uint64_t sweep_at         # where drop_unneeded goes on; 0 = it has nothing to do
    cdef readonly bint enforcing            # changed limits are being applied, in steps
    cdef bint reclaiming                    # memory is being given back, in steps
    cdef public dict rollups                # those that take several turns, by subject (b"" = of all)
    cdef uint64_t enforce_at                # where that looks for subjects with too many messages; 0 = it doesn't
    cdef bint markers                       # where a subject's last message expires a marker takes its place
    cdef uint64_t age_floor                 # messages below never expire (TTL "never")
    cdef Usage account_usage
    cdef Usage server_usage
    cdef uint64_t counted                   # bytes that the usages have of this stream

    # For consumers. Slices are valid until the job that asked returns, or the store changes. from_seq counts.
    cdef bint load(self, uint64_t seq, stored_t* out) noexcept nogil
    cdef uint64_t scan(self, const filter_t* filters, Py_ssize_t n, uint64_t from_seq, Py_ssize_t budget, stored_t* out,
                       uint64_t* resume) noexcept nogil
    cdef uint64_t num_pending(self, const filter_t* filters, Py_ssize_t n, uint64_t from_seq) noexcept nogil
    cdef uint64_t first_seq(self) noexcept nogil
    cdef uint64_t last_seq(self) noexcept nogil
    cdef void consumer_acked(self, StreamConsumer c, uint64_t seq) noexcept
    cdef int add_consumer(self, StreamConsumer c) except -1
    cdef int reindex(self, StreamConsumer c) except -1
    cdef void remove_consumer(self, StreamConsumer c)
    cdef bint remove_expired(self, uint64_t seq) noexcept
    cdef uint64_t next_aged(self, int64_t* ts_ns) noexcept
    cdef void enforce_limits(self, const char* subject, Py_ssize_t n) noexcept
    cdef bint is_over(self) noexcept
    cdef bint roll_up(self, const char* subject, Py_ssize_t n, uint64_t seq) noexcept
    cdef bint has_interest(self, const char* subject, Py_ssize_t n) noexcept
    cdef bint is_needed(self, uint64_t seq, StreamConsumer but) noexcept
    cdef uint64_t first_in(self, const filter_t* f) noexcept
    cdef uint64_t tell_subjects(self, uint64_t first_seq, uint64_t last_seq) noexcept
    cdef bint remove_seq(self, uint64_t seq, StreamConsumer but) noexcept
    cdef void settle(self) noexcept
    cdef void use(self, int64_t more) noexcept
