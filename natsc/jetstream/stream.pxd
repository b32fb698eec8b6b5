# A stream: what comes in on its subjects is checked, numbered, stored, answered, and shown to its consumers.
#
# Life of a message: ingest (in the publisher's turn) appends it to the store; at the end of the turn the outbox hands the
# turn's operations to the storage worker; once they are durable the PubAck leaves and consumers hear of it (on_new). In
# memory streams both happen at the end of the turn.
#
# What costs nothing per message (configurations, API requests) is in natsc/jetstream/streams.py, which extends Stream.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from natsc._core cimport Client
from natsc.engine.types cimport engine_t, match_t, msg_t
from natsc.jetstream.fastpath cimport FastPath
from natsc.jetstream.headers cimport headers_t
from natsc.jetstream.retained cimport RetainedStream

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

cdef class Stream(RetainedStream):
    cdef Client client                      # holds the subscriptions to the stream's subjects
    cdef int32_t max_msg_size
    cdef bint discard_new_per_subject
    cdef bint no_ack
    cdef bint sealed
    cdef bint rollup_allowed
    cdef bint special                       # something that Python does for every message: see on_special
    cdef bytes ack_prefix                   # {"stream":"S",["domain":"D",]"seq":
    cdef bytes ack_failure                  # the answer where the store fails before the message is durable
    cdef readonly bytes last_msg_id
    cdef bint copied                        # messages come from other streams
    cdef public dict scheduled              # subjects that have a schedule, None = messages can't be scheduled
    cdef public FastPath fast               # the fast batch at hand, None = there were none
    cdef bint unchecked                     # the message in hand was checked already
    cdef readonly bint checked_only         # the message in hand is checked, and not taken
    cdef bint sourced                       # the message in hand comes from another stream, which has checked it
    cdef uint64_t given_seq                 # ... and keeps its sequence and time, in a mirror; 0 = not
    cdef int64_t given_ts
    cdef int refused                        # why the message in hand wasn't stored: ERR_* or REFUSED_DUPLICATE; 0 = it was
    cdef dict refused_values                # what the error's text says beside
    cdef bytes ack_more                     # what stands behind the sequence in the answer to the message in hand

    cdef void ingest(self, match_t* m, msg_t* msg) noexcept
    cdef void ingest_traced(self, engine_t* e, match_t* m, msg_t* msg) noexcept
    cdef bint take_fast(self, match_t* m, msg_t* msg, headers_t* h) noexcept
    cdef void accept(self, const char* subject, Py_ssize_t n, const char* hdr, Py_ssize_t hdr_len, const char* body,
                     Py_ssize_t body_len, const char* reply, Py_ssize_t reply_len, headers_t* h) noexcept
    cdef bint rolls_up_later(self, const char* subject, Py_ssize_t n, uint64_t seq, const char* reply,
                             Py_ssize_t reply_len) noexcept
    cdef bint check_expected(self, const char* subject, Py_ssize_t n, const char* reply, Py_ssize_t reply_len,
                             headers_t* h) noexcept
    cdef bint check_headers(self, const char* subject, Py_ssize_t n, const char* reply, Py_ssize_t reply_len,
                            headers_t* h) noexcept
    cdef bint check_size(self, Py_ssize_t hdr_len, Py_ssize_t body_len, const char* reply, Py_ssize_t reply_len) noexcept
    cdef bint check_limits(self, Py_ssize_t n, Py_ssize_t hdr_len, Py_ssize_t body_len, const char* reply,
                           Py_ssize_t reply_len) noexcept
    cpdef bint is_behind(self) noexcept
    cdef const char* refuses_new(self, const char* subject, Py_ssize_t n, int64_t size, bint rolls_up) noexcept
    cdef void refuse(self, const char* reply, Py_ssize_t n, int err_code, dict values) noexcept
    cdef void acknowledge(self, const char* reply, Py_ssize_t n, uint64_t seq, const char* more, Py_ssize_t more_len) noexcept
