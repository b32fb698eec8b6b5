"""Streams: the path of a message from its publisher into the store, in C.

ingest is what an internal client calls for every message on the stream's subjects. A message without headers, or with
those that JetStream users send all the time (ids, expectations, rollups, TTLs), makes no Python object; what is rare goes
through on_special. Errors are answers too, and cost what Python costs.

Invariants
1. Nothing is published from here: answers go through the outbox, consumers hear of messages from it (show).
2. An acknowledgement is queued behind the operation that stores its message; that of a duplicate behind everything that
   was queued before it, so that it never says more than is durable.
3. Sequences only go up; visible_seq never passes what is durable (memory streams: what the last turn stored).

What is kept and for how long: natsc/jetstream/retained.pyx.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from natsc.engine.account cimport SUB_ADDED, Account, add_sub, remove_all_subs
from natsc.engine.client cimport detach
from natsc.engine.text cimport put_number
from natsc.engine.types cimport KIND_JETSTREAM, client_t, engine_t, match_t, msg_t, sub_t, unlikely
from natsc.jetstream.consumer_index cimport ConsumerIndex, StreamConsumer
from natsc.jetstream.dedupe cimport dedupe_add, dedupe_clear, dedupe_expire, dedupe_find, dedupe_init, msgid_t
from natsc.jetstream.expiry cimport heap_clear, heap_push
from natsc.jetstream.headers cimport headers_scan, headers_t, lower_is, parse_number
from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.outbox cimport Outbox
from natsc.jetstream.retained cimport RETAIN_INTEREST, RETAIN_LIMITS, RETAIN_WORK_QUEUE, RetainedStream, Usage
from natsc.jetstream.subjectstate cimport subject_t, subjects_find

ctypedef void (*on_msg_fn)(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept nogil

cdef enum:
    ACK_MAX = 2048              # bytes of a PubAck
    MORE_MAX = 200              # ... of what it adds
    MAX_HEADERS = 65535         # bytes of a header block that can be stored
    SCAN_BUDGET = 0x7FFFFFFF

cdef void take_message(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept:
    """client_t.on_msg of a stream. The engine runs with the GIL held, so it needn't be taken again."""
    if unlikely(e.traced != NULL):
        (<Stream>c.owner).ingest_traced(e, m, msg)
    else:
        (<Stream>c.owner).ingest(m, msg)


cdef class Stream(RetainedStream):
    """A stream over a store that is open. Starts to receive with listen()."""

    def __cinit__(self, Outbox outbox not None, Account account not None, str name not None, MsgStore store not None,
                  Usage account_usage not None, Usage server_usage not None, *args, **kwargs):
        self.outbox = outbox
        self.engine = outbox.engine
        self.account = account
        self.name = name
        self.store = store
        self.is_file = store.is_file
        self.durable = store.is_file
        self.visible_seq = store.last_seq
        self.consumers = []
        self.index = ConsumerIndex(self.engine.e.seed)
        self.account_usage = account_usage
        self.server_usage = server_usage
        dedupe_init(&self.dedupe, self.engine.e.seed)
        self.last_msg_id = self.ack_more = b""
        self.refused_values = {}
        self.settle()

    def __dealloc__(self):
        dedupe_clear(&self.dedupe)

    # Configuration.

    def apply(self, config, bytes ack_prefix not None, bytes ack_failure not None, bint special) -> None:
        """Work by this StreamConfig from now on. ack_prefix, ack_failure: see stream.pxd; special: on_special is asked."""
        if len(ack_prefix) > ACK_MAX - 256:
            raise ValueError("name too long")
        self.config = config
        self.ack_prefix = ack_prefix
        self.ack_failure = ack_failure
        self.special = special
        self.retention = {"limits": RETAIN_LIMITS, "interest": RETAIN_INTEREST, "workqueue": RETAIN_WORK_QUEUE}[
            config.retention]
        self.max_msgs = config.max_msgs or -1
        self.max_bytes = config.max_bytes or -1
        self.max_per_subject = config.max_msgs_per_subject or -1
        self.max_age_ns = config.max_age
        self.max_msg_size = config.max_msg_size or -1
        self.duplicates_ns = config.duplicate_window
        self.discard_new = config.discard == "new"
        self.discard_new_per_subject = config.discard_new_per_subject
        self.no_ack = config.no_ack
        self.sealed = config.sealed
        self.copied = config.mirror is not None or bool(config.sources)
        self.rollup_allowed = config.allow_rollup_hdrs and not config.deny_purge
        self.ttl_allowed = config.allow_msg_ttl
        self.markers = config.subject_delete_marker_ttl > 0
        if self.duplicates_ns <= 0:
            dedupe_clear(&self.dedupe)

    def listen(self, list subjects not None) -> None:
        """Receive what is published on these subjects (bytes), and nothing else any more."""
        cdef engine_t* e = &self.engine.e
        cdef bytes subject, sid
        if self.client is None:
            self.client = self.engine.new_client(self.account, True)
            self.client.c.kind = KIND_JETSTREAM
            self.client.c.on_msg = <on_msg_fn>take_message
            self.client.c.owner = <void*>self
        remove_all_subs(e, self.client.c)
        for number, subject in enumerate(subjects):
            sid = b"%d" % number
            if add_sub(e, self.client.c, subject, len(subject), NULL, 0, sid, len(sid)) != SUB_ADDED:
                raise ValueError(f"invalid subject {subject!r}")

    def stop(self) -> None:
        """Receive nothing any more, and let consumers see nothing."""
        self.closed = True
        if self.client is not None:
            detach(&self.engine.e, self.client.c)
            self.client = None

    def forget_usage(self) -> None:
        """The store is gone: it uses nothing any more."""
        self.use(-<int64_t>self.counted)

    # A message comes in.

    cdef void ingest(self, match_t* m, msg_t* msg) noexcept:
        cdef headers_t h
        cdef Py_ssize_t hdr_len = msg.hdr_len if msg.hdr_len > 0 else 0
        if self.closed:
            return
        headers_scan(msg.payload, hdr_len, &h)
        if h.rare or self.special or (hdr_len > 8 and msg.payload[8] != 13) or (
                msg.reply != NULL and msg.reply_len > 4 and memcmp(msg.reply + msg.reply_len - 4, b".$FI", 4) == 0):
            if hdr_len == 0 and not self.special and self.fast is not None and self.take_fast(m, msg, &h):
                return
            self.ingest_special(m.subject[:m.subject_len], msg.payload[:hdr_len], msg.payload[hdr_len:msg.size],
                                msg.reply[:msg.reply_len] if msg.reply != NULL else b"")
            return
        self.accept(m.subject, m.subject_len, msg.payload, hdr_len, msg.payload + hdr_len, msg.size - hdr_len, msg.reply,
                    msg.reply_len if msg.reply != NULL else 0, &h)

    cdef void ingest_traced(self, engine_t* e, match_t* m, msg_t* msg) noexcept:
        """A message whose way is told. What is kept of it says that nobody is to trace it."""
        cdef Py_ssize_t hdr_len = msg.hdr_len if msg.hdr_len > 0 else 0
        if not self.closed:
            self.on_traced(<object>e.traced, m.subject[:m.subject_len], msg.payload[:hdr_len],
                           msg.payload[hdr_len:msg.size], msg.reply[:msg.reply_len] if msg.reply != NULL else None)

    def on_traced(self, trace, bytes subject, bytes headers, bytes body, bytes reply) -> None:
        """Tell a trace what becomes of a message, and do that. See natsc/jetstream/streams.py."""

    def take_again(self, bytes subject, bytes headers, bytes body, bytes reply, bint checked_only):
        """Take a message; or with checked_only check it, and answer what is wrong with it.

        Returns (number of the error for which it wasn't taken, what is told beside it); 0 = none.
        """
        cdef bytes payload = headers + body
        cdef match_t m
        cdef msg_t msg
        memset(&m, 0, sizeof(match_t))
        memset(&msg, 0, sizeof(msg_t))
        m.subject, m.subject_len = subject, <uint32_t>len(subject)
        msg.payload, msg.size, msg.hdr_len = payload, len(payload), len(headers) or -1
        if reply is not None:
            msg.reply, msg.reply_len = reply, len(reply)
        self.refused = 0
        self.checked_only = checked_only
        self.ingest(&m, &msg)
        self.checked_only = False
        return self.refused, self.refused_values

    def interests(self, bytes subject not None) -> bool:
        """Whether a message on subject would be kept, as far as its consumers go."""
        return self.retention != RETAIN_INTEREST or self.has_interest(subject, len(subject))

    cdef bint take_fast(self, match_t* m, msg_t* msg, headers_t* h) noexcept:
        """Store the next message of the fast batch at hand. False where it is none, or something may have to be said."""
        cdef uint64_t before = self.store.last_seq
        if self.discard_new or not self.fast.is_next(msg.reply, msg.reply_len):
            return False
        if not self.check_size(0, msg.size, NULL, 0) or not self.check_limits(m.subject_len, 0, msg.size, NULL, 0):
            return False
        self.unchecked = True
        self.accept(m.subject, m.subject_len, msg.payload, 0, msg.payload, msg.size, NULL, 0, h)
        self.unchecked = False
        if self.store.last_seq == before:
            return False
        self.fast.took(self.store.last_seq, self.engine.e.now_ns)
        return True

    def ingest_special(self, bytes subject, bytes headers, bytes body, bytes reply) -> None:
        """A message that isn't stored as it came, or that may have to be refused for rare reasons."""
        changed = self.on_special(subject, headers, body)
        if type(changed) is int:
            self.refuse_special(subject, headers, body, reply, changed)
            return
        subject, headers, body, self.ack_more = changed
        self.store_special(subject, headers, body, reply)
        self.ack_more = b""

    def refuse_special(self, bytes subject, bytes headers, bytes body, bytes reply, int err_code) -> None:
        """Answer with an error of on_special, or with what is told before it."""
        cdef headers_t h
        cdef Py_ssize_t n = len(reply)
        headers_scan(headers, len(headers), &h)
        if not self.check_size(len(headers), len(body), reply, n):
            return
        if err_code in (ERR_INCR_MISSING, ERR_COUNTER_BROKEN):
            if not self.check_headers(subject, len(subject), reply, n, &h):
                return
        elif err_code not in (ERR_INCR_DISABLED, ERR_INCR_PAYLOAD, ERR_INCR_INVALID):
            if not self.check_expected(subject, len(subject), reply, n, &h):
                return
        self.refuse(reply, n, err_code, {})

    def store_special(self, bytes subject, bytes headers, bytes body, bytes reply) -> None:
        """Take a message as it is, whoever made it."""
        cdef headers_t h
        headers_scan(headers, len(headers), &h)
        self.accept(subject, len(subject), headers, len(headers), body, len(body), reply, len(reply), &h)

    def store_checked(self, bytes subject, bytes headers, bytes body, bytes reply, bytes more) -> None:
        """Store a message that was checked; the answer adds more."""
        self.unchecked = True
        self.ack_more = more
        self.store_special(subject, headers, body, reply)
        self.ack_more = b""
        self.unchecked = False

    def seq_of_id(self, bytes id not None) -> int:
        """The sequence of a message id of the window; 0 = unknown."""
        cdef msgid_t* known
        if self.duplicates_ns <= 0:
            return 0
        dedupe_expire(&self.dedupe, self.outbox.wall_ns() - self.duplicates_ns)
        known = dedupe_find(&self.dedupe, id, len(id))
        return known.seq if known != NULL else 0

    def stored_size(self, Py_ssize_t subject_len, Py_ssize_t hdr_len, Py_ssize_t body_len) -> int:
        """What a message counts for."""
        return self.store.size_of(subject_len, hdr_len, body_len)

    def answer_text(self, bytes reply, bytes payload, bytes failure=b"") -> None:
        """Queue an answer of any kind, behind what is answered already; failure is sent instead where the store fails."""
        if reply and not self.no_ack:
            self.outbox.reply_bytes(self.account, reply, payload, durable=self.is_file, failure=failure)

    def on_special(self, bytes subject, bytes headers, bytes body):
        """(subject, headers, body, what the answer adds) to store, or the number of an error.

        See natsc/jetstream/streams.py.
        """
        return subject, headers, body, b""

    cdef void accept(self, const char* subject, Py_ssize_t n, const char* hdr, Py_ssize_t hdr_len, const char* body,
                     Py_ssize_t body_len, const char* reply, Py_ssize_t reply_len, headers_t* h) noexcept:
        """Check a message, store it and queue the answer."""
        cdef int64_t now = self.given_ts or self.outbox.wall_ns()
        cdef int64_t ts = now
        cdef int64_t ttl_ns = 0
        cdef uint64_t seq
        cdef uint64_t before = 0
        cdef subject_t* state
        cdef bint has_headers = hdr_len > 0
        cdef bint kept = self.retention != RETAIN_INTEREST or self.has_interest(subject, n)
        cdef const char* full
        if not self.unchecked and not self.check_size(hdr_len, body_len, reply, reply_len):
            return
        if has_headers and not self.unchecked:
            if self.duplicates_ns > 0 and self.dedupe.count:
                dedupe_expire(&self.dedupe, ts - self.duplicates_ns)
            if not self.check_headers(subject, n, reply, reply_len, h):
                return
        if not self.unchecked and not self.check_limits(n, hdr_len, body_len, reply, reply_len):
            return
        if unlikely(self.checked_only):
            return
        if ts < self.store.last_ts_ns:
            ts = self.store.last_ts_ns      # the wall clock went back: time in a stream doesn't
        if not kept:
            self.store.skip_to((self.given_seq or self.store.last_seq + 1) + 1, ts)
            seq = self.store.last_seq
        else:
            if h.ttl.n:
                ttl_ns = self.read_ttl(h.ttl.p[:h.ttl.n])
                if ttl_ns < -1:
                    self.refuse(reply, reply_len, ERR_MESSAGE_TTL_INVALID, {})
                    return
            if self.discard_new and not self.unchecked:
                full = self.refuses_new(subject, n, self.store.size_of(n, hdr_len, body_len), h.rollup.n > 0)
                if full != NULL:
                    self.refuse(reply, reply_len, ERR_STORE_FAILED, {"err": full.decode()})
                    return
            if self.special:
                state = self.store.subject_state(subject, n)
                before = state.last if state != NULL else 0
                self.outbox.touch()
            seq = self.store.append(self.given_seq, ts, subject, n, hdr, hdr_len, body, body_len)
            if seq == 0:
                self.refuse(reply, reply_len, ERR_STORE_FAILED, {"err": self.store_error()})
                return
            if ttl_ns > 0 and self.ttl_allowed and heap_push(&self.ttls, now + ttl_ns, seq):
                self.arm_timer()
            if self.max_per_subject > 0 or self.max_msgs > 0 or self.max_bytes > 0:
                self.enforce_limits(subject, n)
            if self.max_age_ns and not self.expiry_armed:
                self.arm_timer()
        self.last_msg_id = h.msg_id.p[:h.msg_id.n] if has_headers and h.msg_id.n else b""
        if has_headers:
            if h.msg_id.n and self.duplicates_ns > 0:
                dedupe_add(&self.dedupe, h.msg_id.p, h.msg_id.n, seq, ts)
            if h.rollup.n and self.rollup_allowed and self.rolls_up_later(
                    subject, 0 if lower_is(&h.rollup, b"all", 3) else n, seq, reply, reply_len):
                reply_len = 0       # it is answered then
        if (h.rare and self.copied and self.rollup_allowed) or (
                self.scheduled is not None and (h.rare or subject[:n] in self.scheduled)):
            self.on_scheduling(subject[:n], hdr[:hdr_len], seq, ts)
        self.settle()
        if not self.marked:
            self.outbox.mark(self)
        if self.special and kept:
            self.on_stored(subject[:n], hdr[:hdr_len], body[:body_len], seq, ts, before)
        if reply_len and not self.no_ack:
            self.acknowledge(reply, reply_len, seq, self.ack_more, len(self.ack_more))

    cdef bint rolls_up_later(self, const char* subject, Py_ssize_t n, uint64_t seq, const char* reply,
                             Py_ssize_t reply_len) noexcept:
        """Roll up a subject (n 0: all). True where it takes more turns, and the answer comes at the end."""
        if self.roll_up(subject, n, seq):
            return False
        self.roll_up_later(subject[:n], seq, reply[:reply_len] if reply_len else b"",
                           self.ack_prefix + b"%d" % seq + self.ack_more + b"}", self.ack_failure)
        return True

    def on_scheduling(self, bytes subject, bytes headers, uint64_t seq, int64_t ts) -> None:
        """A message that may be, end or replace a schedule came, or was read again. See natsc/jetstream/streams.py."""

    def on_stored(self, bytes subject, bytes headers, bytes body, uint64_t seq, int64_t ts, uint64_t before) -> None:
        """A message was stored in a stream that is special; before: the last one on its subject until then."""

    def read_ttl(self, bytes text) -> int:
        """A TTL header in ns; -1 = never, -2 = no TTL that one may give."""
        return -2

    # What a message must satisfy. Each answers what it refuses, and then returns False.

    cdef bint check_expected(self, const char* subject, Py_ssize_t n, const char* reply, Py_ssize_t reply_len,
                             headers_t* h) noexcept:
        """What the publisher expects of the stream, and of TTLs."""
        cdef bytes name
        cdef subject_t* state
        cdef uint64_t last = 0
        if h.expected_stream.n:
            name = h.expected_stream.p[:h.expected_stream.n]
            if name != self.name.encode():
                self.refuse(reply, reply_len, ERR_NOT_MATCH, {})
                return False
        if h.ttl.n and not self.ttl_allowed and not self.sourced and self.read_ttl(h.ttl.p[:h.ttl.n]) >= -1:
            self.refuse(reply, reply_len, ERR_MESSAGE_TTL_DISABLED, {})
            return False
        if h.expected_last_subject_seq.n:
            if h.expected_last_subject.n:
                last = self.last_of(h.expected_last_subject.p[:h.expected_last_subject.n])
            else:
                state = self.store.subject_state(subject, n)
                last = state.last if state != NULL else 0
                self.outbox.touch()
            if last != <uint64_t>parse_number(&h.expected_last_subject_seq):
                self.refuse(reply, reply_len, ERR_WRONG_LAST_SEQUENCE, {"seq": last})
                return False
        elif h.expected_last_subject.n:
            self.refuse(reply, reply_len, ERR_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID, {})
            return False
        if h.expected_last_seq.n and self.store.last_seq != <uint64_t>parse_number(&h.expected_last_seq):
            self.refuse(reply, reply_len, ERR_WRONG_LAST_SEQUENCE, {"seq": self.store.last_seq})
            return False
        return True

    cdef bint check_headers(self, const char* subject, Py_ssize_t n, const char* reply, Py_ssize_t reply_len,
                            headers_t* h) noexcept:
        cdef msgid_t* known
        if not self.check_expected(subject, n, reply, reply_len, h):
            return False
        if h.msg_id.n and not self.given_seq:       # a mirror has what its origin has
            known = dedupe_find(&self.dedupe, h.msg_id.p, h.msg_id.n)
            if known != NULL:
                self.refused = REFUSED_DUPLICATE
                if reply_len and not self.no_ack:
                    self.acknowledge(reply, reply_len, known.seq, b',"duplicate": true', 18)
                return False
        if h.expected_last_msg_id.n:
            if h.expected_last_msg_id.p[:h.expected_last_msg_id.n] != self.last_msg_id:
                self.refuse(reply, reply_len, ERR_WRONG_LAST_MSG_ID,
                            {"id": self.last_msg_id.decode("utf-8", "replace")})
                return False
        if h.rollup.n:
            if not self.rollup_allowed and not self.sourced:
                self.refuse(reply, reply_len, ERR_ROLLUP_FAILED, {"err": "rollup not permitted"})
                return False
            if not lower_is(&h.rollup, b"sub", 3) and not lower_is(&h.rollup, b"all", 3):
                self.refuse(reply, reply_len, ERR_ROLLUP_FAILED, {"rollup": h.rollup.p[:h.rollup.n]})
                return False
        return True

    cdef bint check_size(self, Py_ssize_t hdr_len, Py_ssize_t body_len, const char* reply, Py_ssize_t reply_len) noexcept:
        """What is looked at first: whether anything is taken, and of this size."""
        if self.sealed:
            self.refuse(reply, reply_len, ERR_SEALED, {})
        elif self.max_msg_size >= 0 and hdr_len + body_len > self.max_msg_size:
            self.refuse(reply, reply_len, ERR_MESSAGE_EXCEEDS_MAXIMUM, {})
        elif hdr_len > MAX_HEADERS:
            self.refuse(reply, reply_len, ERR_HEADER_EXCEEDS_MAXIMUM, {})
        else:
            return True
        return False

    cdef bint check_limits(self, Py_ssize_t n, Py_ssize_t hdr_len, Py_ssize_t body_len, const char* reply,
                           Py_ssize_t reply_len) noexcept:
        cdef int64_t size = <int64_t>self.store.size_of(n, hdr_len, body_len)
        cdef int64_t server_used, server_max, used, most
        if self.is_file:
            used, most = self.account_usage.storage, self.account_usage.max_storage
            server_used, server_max = self.server_usage.storage, self.server_usage.max_storage
        else:
            used, most = self.account_usage.memory, self.account_usage.max_memory
            server_used, server_max = self.server_usage.memory, self.server_usage.max_memory
        if server_max >= 0 and server_used > server_max:
            self.refuse(reply, reply_len, ERR_INSUFFICIENT_RESOURCES, {})
            return False
        if most >= 0 and used + size > most:
            self.refuse(reply, reply_len, ERR_ACCOUNT_RESOURCES_EXCEEDED, {})
            return False
        # Who reads from another stream waits for the disk before it asks for more.
        if not self.sourced and self.is_behind():
            self.refuse(reply, reply_len, ERR_TOO_MANY_REQUESTS, {})
            return False
        return True

    cpdef bint is_behind(self) noexcept:
        """Whether too much waits for the disk already."""
        return self.is_file and self.outbox.worker != NULL and self.outbox.store.pending() > self.outbox.pending_max

    cdef const char* refuses_new(self, const char* subject, Py_ssize_t n, int64_t size, bint rolls_up) noexcept:
        """Discard policy "new": why a message of that size isn't taken; NULL = it is."""
        cdef subject_t* state
        cdef stored_t first
        cdef bint replaces = False
        if self.max_per_subject > 0:
            state = subjects_find(&self.store.subjects, subject, n)
            if state != NULL and state.count >= <uint64_t>self.max_per_subject:
                if self.discard_new_per_subject and not rolls_up:
                    return b"maximum messages per subject exceeded"
                replaces = True     # it takes the place of its subject's first one
        if self.max_msgs > 0 and self.store.msgs >= <uint64_t>self.max_msgs and not replaces:
            return b"maximum messages exceeded"
        if self.max_bytes > 0 and <int64_t>self.store.bytes + size > self.max_bytes:
            if not replaces:
                return b"maximum bytes exceeded"
            state = self.store.subject_state(subject, n)
            self.outbox.touch()
            if state == NULL or not self.store.get(state.first, &first) or <int64_t>self.store.size_of(
                    first.subject_len, first.hdr_len, first.msg_len) < size:
                return b"maximum bytes exceeded"
        return NULL

    cdef void refuse(self, const char* reply, Py_ssize_t n, int err_code, dict values) noexcept:
        """Answer with an error, behind what is answered already."""
        cdef bytes text
        self.refused, self.refused_values = err_code, values
        if n == 0 or self.no_ack:
            return
        text = self.error_answer(err_code, values)
        self.outbox.reply(self.outbox.current_op() if self.is_file else 0, &self.account.a, reply, n, text, len(text), 0,
                          text, len(text))

    def error_answer(self, int err_code, dict values) -> bytes:
        """A PubAck that tells an error. See natsc/jetstream/streams.py."""
        return b""

    cdef void acknowledge(self, const char* reply, Py_ssize_t n, uint64_t seq, const char* more, Py_ssize_t more_len) noexcept:
        """Queue a PubAck; more stands behind the sequence."""
        cdef char text[ACK_MAX]
        cdef Py_ssize_t size = len(self.ack_prefix)
        cdef char* o = text
        if more_len > MORE_MAX:     # a counter of many digits
            self.answer_text(reply[:n], self.ack_prefix + b"%d" % seq + more[:more_len] + b"}")
            return
        memcpy(o, <const char*>self.ack_prefix, size)
        o = put_number(o + size, seq)
        if more_len:
            memcpy(o, more, more_len)
            o += more_len
        o[0] = 125
        self.outbox.reply(self.outbox.current_op() if self.is_file else 0, &self.account.a, reply, n, text, o + 1 - text, 0,
                          <const char*>self.ack_failure, len(self.ack_failure))

    # For Python.

    def show_all(self) -> None:
        """Sequences moved without messages (purge to a sequence, recovery): nothing to wait for."""
        if not self.marked:
            self.outbox.mark(self)

    def recover(self, int64_t now_ns) -> None:
        """Learn from the messages what isn't kept beside them: ids of the window, times to live."""
        self.learn(self.begin_learning(now_ns), now_ns, SCAN_BUDGET)

    def begin_learning(self, int64_t now_ns) -> int:
        """Forget what was learnt. The sequence to learn from."""
        cdef uint64_t seq = self.store.last_seq + 1
        self.outbox.touch()
        if self.duplicates_ns > 0 and self.store.last_ts_ns > now_ns - self.duplicates_ns:
            seq = self.store.seq_from_time(now_ns - self.duplicates_ns)
        if self.ttl_allowed or self.scheduled is not None:
            seq = self.store.first_seq
        heap_clear(&self.ttls)
        return seq

    def learn(self, uint64_t seq, int64_t now_ns, Py_ssize_t budget) -> int:
        """Learn from the messages from seq on, at most budget of them. Where to go on; 0 = all are read."""
        cdef uint64_t resume = 0
        cdef stored_t m
        cdef headers_t h
        cdef int64_t ttl_ns
        self.outbox.touch()
        while self.store.msgs:
            if budget <= 0:
                return seq
            budget -= 1
            seq = self.store.next(seq, NULL, 0, SCAN_BUDGET, &m, &resume)
            if seq == 0:
                break
            headers_scan(m.hdr, m.hdr_len, &h)
            if h.msg_id.n and self.duplicates_ns > 0 and m.ts_ns > now_ns - self.duplicates_ns:
                if dedupe_find(&self.dedupe, h.msg_id.p, h.msg_id.n) == NULL:
                    dedupe_add(&self.dedupe, h.msg_id.p, h.msg_id.n, seq, m.ts_ns)
            if h.ttl.n and self.ttl_allowed:
                ttl_ns = self.read_ttl(h.ttl.p[:h.ttl.n])
                if ttl_ns > 0:
                    heap_push(&self.ttls, m.ts_ns + ttl_ns, seq)
            if self.scheduled is not None and (h.rare or m.subject[:m.subject_len] in self.scheduled):
                self.on_scheduling(m.subject[:m.subject_len], m.hdr[:m.hdr_len], seq, m.ts_ns)
            seq += 1
        if self.store.msgs and self.store.get(self.store.last_seq, &m):
            headers_scan(m.hdr, m.hdr_len, &h)
            self.last_msg_id = h.msg_id.p[:h.msg_id.n] if h.msg_id.n else b""
        return 0

    @property
    def message_ids(self) -> int:
        """How many ids the deduplication window has."""
        return self.dedupe.count


def consumers_told_deleted(Stream stream not None) -> None:
    """The stream is being deleted."""
    cdef StreamConsumer c
    for c in list(stream.consumers):
        c.on_stream_deleted()
        stream.index.remove(c)
    stream.consumers.clear()


def consumers_told_shutdown(Stream stream not None) -> None:
    """The server stops."""
    cdef StreamConsumer c
    for c in list(stream.consumers):
        c.on_shutdown()
