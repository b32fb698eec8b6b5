# A stream: what comes in on its subjects is checked, numbered, stored, answered, and shown to its consumers.
#
# Life of a message: ingest (in the publisher's turn) appends it to the store; at the end of the turn the outbox hands the
# turn's operations to the storage worker; once they are durable the PubAck leaves and consumers hear of it (on_new). In
# memory streams both happen at the end of the turn.
#
# What costs nothing per message (configurations, API requests) is in natsc/jetstream/streams.py, which extends Stream.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from natsc._core cimport Client, Engine
from natsc.engine.account cimport Account
from natsc.engine.types cimport match_t, msg_t
from natsc.jetstream.dedupe cimport dedupe_t
from natsc.jetstream.expiry cimport heap_t
from natsc.jetstream.headers cimport headers_t
from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.outbox cimport Outbox, Visible
from natsc.jetstream.subjectstate cimport filter_t

cdef enum:
    RETAIN_LIMITS = 0
    RETAIN_INTEREST = 1
    RETAIN_WORK_QUEUE = 2

# Numbers of JetStream errors (natsc/jetstream/api_errors.py has their texts).
cdef enum:
    ERR_SEALED = 10109
    ERR_MESSAGE_TTL_INVALID = 10165
    ERR_STORE_FAILED = 10077
    ERR_NOT_MATCH = 10060
    ERR_MESSAGE_TTL_DISABLED = 10166
    ERR_WRONG_LAST_SEQUENCE = 10071
    ERR_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID = 10193
    ERR_WRONG_LAST_MSG_ID = 10070
    ERR_ROLLUP_FAILED = 10111
    ERR_MESSAGE_EXCEEDS_MAXIMUM = 10054
    ERR_HEADER_EXCEEDS_MAXIMUM = 10097
    ERR_INSUFFICIENT_RESOURCES = 10023
    ERR_ACCOUNT_RESOURCES_EXCEEDED = 10002
    ERR_TOO_MANY_REQUESTS = 10167
    ERR_INCR_DISABLED = 10168
    ERR_INCR_MISSING = 10169
    ERR_INCR_PAYLOAD = 10170
    ERR_INCR_INVALID = 10171
    ERR_COUNTER_BROKEN = 10172
    REFUSED_DUPLICATE = 1   # no error: Stream.refused where the message's id is known already

cdef class Stream

# What a stream calls of a consumer; natsc/jetstream/consumer.pyx extends it. Nothing here may publish: a consumer posts a job
# (engine.deliver.job_post) and works there, or uses the outbox.
cdef class StreamConsumer:
    cdef Stream stream

    # Messages first_seq to last_seq are visible now (some of them may be gone again).
    cdef void on_new(self, uint64_t first_seq, uint64_t last_seq) noexcept
    # The message seq was removed; it was not this consumer's acknowledgement.
    cdef void on_removed(self, uint64_t seq) noexcept
    # A purge or a jump: many messages went; those below first_seq are gone for sure, others perhaps.
    cdef void on_purged(self, uint64_t first_seq) noexcept
    # The stream is being deleted: forget everything, answer what waits ("Consumer Deleted"), keep nothing on disk.
    cdef void on_stream_deleted(self)
    # The server stops: answer what waits ("Server Shutdown"), write what must survive a clean stop.
    cdef void on_shutdown(self)
    # Interest retention: does the subject pass the filters?
    cdef bint wants(self, const char* subject, Py_ssize_t n) noexcept nogil
    # Interest retention: is seq, which passes the filters, still to be delivered or acknowledged?
    cdef bint needs(self, uint64_t seq) noexcept nogil

# Bytes that streams take: of an account, or of the whole server.
cdef class Usage:
    cdef public int64_t memory
    cdef public int64_t storage
    cdef public int64_t max_memory          # -1 = no limit
    cdef public int64_t max_storage

cdef class Stream(Visible):
    cdef readonly Engine engine
    cdef readonly Account account
    cdef readonly Outbox outbox
    cdef readonly str name
    cdef public object config               # StreamConfig: never changed in place, see apply()
    cdef readonly MsgStore store
    cdef readonly list consumers            # of StreamConsumer
    cdef Client client                      # holds the subscriptions to the stream's subjects
    cdef uint64_t visible_seq               # last sequence that consumers may see
    cdef readonly bint closed               # deleted, or the server stops
    # The configuration, as ingest reads it; sizes and counts: -1 = no limit.
    cdef int retention                      # RETAIN_*
    cdef int64_t max_msgs
    cdef int64_t max_bytes
    cdef int64_t max_per_subject
    cdef int64_t max_age_ns                 # 0 = no limit
    cdef int32_t max_msg_size
    cdef int64_t duplicates_ns              # 0 = no deduplication
    cdef bint discard_new
    cdef bint discard_new_per_subject
    cdef bint no_ack
    cdef bint sealed
    cdef bint is_file
    cdef bint rollup_allowed
    cdef bint ttl_allowed
    cdef bint special                       # something that Python does for every message: see on_special
    cdef bytes ack_prefix                   # {"stream":"S",["domain":"D",]"seq":
    cdef bytes ack_failure                  # the answer where the store fails before the message is durable
    cdef dedupe_t dedupe
    cdef readonly bytes last_msg_id
    cdef heap_t ttls                        # when messages with a TTL expire
    cdef bint expiry_armed
    cdef public dict scheduled              # subjects that have a schedule, None = messages can't be scheduled
    cdef bint unchecked                     # the message in hand was checked already
    cdef bint sourced                       # the message in hand comes from another stream, which has checked it
    cdef uint64_t given_seq                 # ... and keeps its sequence and time, in a mirror; 0 = not
    cdef int64_t given_ts
    cdef int refused                        # why the message in hand wasn't stored: ERR_* or REFUSED_DUPLICATE; 0 = it was
    cdef dict refused_values                # what the error's text says beside
    cdef bint markers                       # where a subject's last message expires a marker takes its place
    cdef uint64_t age_floor                 # messages below never expire (TTL "never")
    cdef bytes ack_more                     # what stands behind the sequence in the answer to the message in hand
    cdef Usage account_usage
    cdef Usage server_usage
    cdef uint64_t counted                   # bytes that the usages have of this stream

    # For consumers. Slices are valid until the job that asked returns, or the store changes. from_seq counts.
    cdef bint load(self, uint64_t seq, stored_t* out) noexcept nogil
    cdef uint64_t next_match(self, const filter_t* filters, Py_ssize_t n, uint64_t from_seq, stored_t* out) noexcept nogil
    cdef uint64_t scan(self, const filter_t* filters, Py_ssize_t n, uint64_t from_seq, Py_ssize_t budget, stored_t* out,
                       uint64_t* resume) noexcept nogil
    cdef uint64_t num_pending(self, const filter_t* filters, Py_ssize_t n, uint64_t from_seq) noexcept nogil
    cdef uint64_t first_seq(self) noexcept nogil
    cdef uint64_t last_seq(self) noexcept nogil
    cdef void consumer_acked(self, StreamConsumer c, uint64_t seq) noexcept
    cdef void add_consumer(self, StreamConsumer c)
    cdef void remove_consumer(self, StreamConsumer c)

    # Inside.
    cdef void ingest(self, match_t* m, msg_t* msg) noexcept
    cdef void accept(self, const char* subject, Py_ssize_t n, const char* hdr, Py_ssize_t hdr_len, const char* body,
                     Py_ssize_t body_len, const char* reply, Py_ssize_t reply_len, headers_t* h) noexcept
    cdef bint check_expected(self, const char* subject, Py_ssize_t n, const char* reply, Py_ssize_t reply_len,
                             headers_t* h) noexcept
    cdef bint check_headers(self, const char* subject, Py_ssize_t n, const char* reply, Py_ssize_t reply_len,
                            headers_t* h) noexcept
    cdef bint check_size(self, Py_ssize_t hdr_len, Py_ssize_t body_len, const char* reply, Py_ssize_t reply_len) noexcept
    cdef bint check_limits(self, Py_ssize_t n, Py_ssize_t hdr_len, Py_ssize_t body_len, const char* reply,
                           Py_ssize_t reply_len) noexcept
    cdef const char* refuses_new(self, const char* subject, Py_ssize_t n, int64_t size, bint rolls_up) noexcept
    cdef bint remove_expired(self, uint64_t seq) noexcept
    cdef uint64_t next_aged(self, int64_t* ts_ns) noexcept
    cdef void enforce_limits(self, const char* subject, Py_ssize_t n) noexcept
    cdef void roll_up(self, const char* subject, Py_ssize_t n, bint all, uint64_t seq) noexcept
    cdef bint has_interest(self, const char* subject, Py_ssize_t n) noexcept
    cdef bint is_needed(self, uint64_t seq, StreamConsumer but) noexcept
    cdef bint remove_seq(self, uint64_t seq, StreamConsumer but) noexcept
    cdef void refuse(self, const char* reply, Py_ssize_t n, int err_code, dict values) noexcept
    cdef void acknowledge(self, const char* reply, Py_ssize_t n, uint64_t seq, const char* more, Py_ssize_t more_len) noexcept
    cdef void settle(self) noexcept
    cdef void use(self, int64_t more) noexcept
