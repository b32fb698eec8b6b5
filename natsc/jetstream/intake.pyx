"""Reading from another stream, message by message: what its consumer delivers is checked, rewritten and stored, in C.

An Intake is one mirror or one source of a stream. It reads what a push consumer of the other stream (its origin) delivers,
wherever that is, and answers the consumer's flow control once everything before it is on disk: so neither more is under
way than a window, nor does a consumer that acknowledges by flow control say more than is durable.

What costs nothing per message (making the consumer, trying again, reports) is in natsc/jetstream/sources.py.

Invariants
1. Nothing is published from here but through the outbox.
2. What isn't the next message of the consumer in hand is never stored: it is either a repetition, or reading begins anew.
3. Where a source stands is written in the turn that stores its messages.
"""

cimport cython
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memchr, memcmp, memcpy

from natsc._core cimport Client
from natsc.engine.account cimport SUB_ADDED, add_sub
from natsc.engine.client cimport detach
from natsc.engine.deliver cimport job_post
from natsc.engine.timers cimport timer_arm, timer_cancel
from natsc.engine.types cimport KIND_JETSTREAM, client_t, engine_t, match_t, msg_t, sub_t, timer_fn
from natsc.jetstream.delivery cimport scratch_reserve
from natsc.jetstream.headers cimport headers_scan, headers_t
from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.seqset cimport seqset_prev
from natsc.jetstream.stream cimport ERR_TOO_MANY_REQUESTS, REFUSED_DUPLICATE, Stream

ctypedef void (*on_msg_fn)(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept nogil

cdef enum:
    TOKENS_V1 = 9               # of a delivered message's reply subject
    TOKENS_V2 = 11
    FLOOD = 128 << 20           # bytes that wait for the disk before reading stops for a while

cdef uint64_t SEQ_MAX = <uint64_t>1 << 62   # no stream gets so far

cdef extern from "string.h" nogil:
    void* memmem(const void* haystack, size_t n, const void* needle, size_t m)


cdef void run_job(engine_t* e, void* owner) noexcept:
    cdef Intake i = <Intake>owner
    i.held = None
    i.work()


cdef void on_message(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept:
    (<Intake>c.owner).take(m, msg)


cdef void on_timer(engine_t* e, client_t* c) noexcept:
    (<Intake>c.owner).post()


cdef uint64_t read_number(const char* p, Py_ssize_t n) noexcept nogil:
    """A decimal number; 0 for anything else."""
    cdef uint64_t value = 0
    cdef Py_ssize_t i
    for i in range(n):
        if not 48 <= p[i] <= 57:
            return 0
        value = value * 10 + <uint64_t>(p[i] - 48)
    return value


cdef bint read_origin(const char* reply, Py_ssize_t n, origin_t* o) noexcept nogil:
    """The parts of $JS.ACK.[<domain>.<account>.]<stream>.<consumer>.<5 numbers>[...]. False for anything else."""
    cdef const char* starts[TOKENS_V2]
    cdef Py_ssize_t lens[TOKENS_V2]
    cdef const char* end = reply + n
    cdef const char* p = reply
    cdef const char* dot
    cdef int count = 0, at
    if n < 8 or memcmp(reply, b"$JS.ACK.", 8) != 0:
        return False
    while count < TOKENS_V2 and p <= end:
        dot = <const char*>memchr(p, 46, end - p)
        starts[count] = p
        lens[count] = (dot if dot != NULL else end) - p
        count += 1
        if dot == NULL:
            break
        p = dot + 1
    if count == TOKENS_V1:
        at = 3
    elif count == TOKENS_V2:
        at = 5
    else:
        return False
    o.consumer, o.consumer_len = starts[at], lens[at]
    o.deliveries = read_number(starts[at + 1], lens[at + 1])
    o.sseq_text, o.sseq_len = starts[at + 2], lens[at + 2]
    o.sseq = read_number(o.sseq_text, o.sseq_len)
    o.dseq = read_number(starts[at + 3], lens[at + 3])
    o.ts_ns = <int64_t>read_number(starts[at + 4], lens[at + 4])
    o.pending = read_number(starts[at + 5], lens[at + 5])
    return o.sseq < SEQ_MAX and o.dseq < SEQ_MAX


cdef const char* find_header(const char* block, Py_ssize_t n, const char* name, Py_ssize_t m, Py_ssize_t* size) noexcept nogil:
    """The value of a header without blanks before it; name begins with a line end and ends with a colon. NULL = none."""
    cdef const char* p = <const char*>memmem(block, n, name, m)
    cdef const char* end
    if p == NULL:
        return NULL
    p += m
    while p < block + n and p[0] == 32:
        p += 1
    end = <const char*>memchr(p, 13, block + n - p)
    size[0] = (end if end != NULL else block + n) - p
    return p


cdef bint is_dropped(const char* line, Py_ssize_t n, bint is_mirror) noexcept nogil:
    """Whether a header line of the origin isn't kept: what was expected of it, its batches, its own origin."""
    return n > 5 and memcmp(line, b"Nats-", 5) == 0 and (
        (n > 14 and memcmp(line + 5, b"Expected-", 9) == 0)
        or (n > 11 and memcmp(line + 5, b"Batch-", 6) == 0)
        or (n > 18 and memcmp(line + 5, b"Request-Info:", 13) == 0)
        or (not is_mirror and n > 19 and memcmp(line + 5, b"Stream-Source:", 14) == 0)
    )


@cython.no_gc_clear     # __dealloc__ needs the engine
cdef class Intake:
    """One mirror or source of a stream. head, middle: see intake.pxd."""

    def __cinit__(self, Stream stream not None, *args, **kwargs):
        self.stream = stream
        self.engine = stream.engine
        self.e = &self.engine.e
        self.job.run = run_job
        self.job.owner = <void*>self
        self.timer_client = self.internal_client()
        self.consumer = self.head = self.middle = self.tail = b""
        self.refused_values = {}

    def __dealloc__(self):
        if self.e != NULL:
            timer_cancel(&self.e.timers, &self.timer)
            if self.client is not None:
                detach(self.e, self.client.c)
            if self.timer_client is not None:
                detach(self.e, self.timer_client.c)
        free(self.scratch.data)

    cdef Client internal_client(self):
        cdef Client made = self.engine.new_client(self.stream.account, True)
        made.c.kind = KIND_JETSTREAM
        made.c.on_msg = <on_msg_fn>on_message
        made.c.owner = <void*>self
        return made

    def set_up(self, bint is_mirror, bytes head not None, bytes middle not None, bint transforms) -> None:
        """What it is. transforms: transform is asked for every subject."""
        self.is_mirror = is_mirror
        self.head, self.middle = head, middle
        self.transforms = transforms

    # Reading.

    def read(self, bytes subject not None, bytes consumer not None, uint64_t sseq) -> None:
        """Take what a new consumer delivers on subject, behind its stream's sequence sseq. Raises ValueError."""
        self.cancel()
        self.client = self.internal_client()
        if add_sub(self.e, self.client.c, subject, len(subject), NULL, 0, b"1", 1) != SUB_ADDED:
            self.cancel()
            raise ValueError(f"invalid subject {subject!r}")
        self.consumer = consumer
        self.broken = False
        self.sseq = sseq
        self.dseq = 0
        if consumer:
            self.last_ns = self.e.now_ns

    def probe(self, bytes subject not None) -> None:
        """Have on_probe called once something comes on subject. Raises ValueError."""
        self.read(subject, b"", self.sseq)
        self.probing = True

    def cancel(self) -> None:
        """Read nothing."""
        self.consumer = b""
        self.probing = self.probed = False
        if self.client is not None:
            detach(self.e, self.client.c)
            self.client = None

    cdef void take(self, match_t* m, msg_t* msg) noexcept:
        cdef origin_t o
        if self.probing:
            self.probed = True
            self.post()
            return
        self.last_ns = self.e.now_ns
        if msg.hdr_len == msg.size and msg.size > 13 and memcmp(msg.payload, b"NATS/1.0 100 ", 13) == 0:
            self.take_control(msg)
            return
        if not self.consumer or self.stream.closed or msg.reply == NULL:
            return
        if not read_origin(msg.reply, msg.reply_len, &o):
            return
        if o.consumer_len != len(self.consumer) or memcmp(o.consumer, <const char*>self.consumer, o.consumer_len) != 0:
            return      # of an earlier consumer
        if o.deliveries > 1:
            return
        if o.sseq <= self.sseq:
            if o.dseq == self.dseq + 1:
                self.dseq += 1
            return
        self.lag = o.pending - 1 if o.pending else 0
        if self.is_mirror:
            self.take_mirrored(m, msg, &o)
        else:
            self.take_sourced(m, msg, &o)

    cdef void take_control(self, msg_t* msg) noexcept:
        """A heartbeat, or a request of flow control."""
        cdef Py_ssize_t n = 0
        cdef const char* value
        if not self.consumer:
            return
        if msg.reply != NULL:
            self.answer_flow(msg.reply, msg.reply_len, True)
            return
        value = find_header(msg.payload, msg.hdr_len, b"\r\nNats-Last-Consumer:", 21, &n)
        if value != NULL and read_number(value, n) not in (0, self.dseq):
            self.stop_reading(0)
            return
        value = find_header(msg.payload, msg.hdr_len, b"\r\nNats-Consumer-Stalled:", 24, &n)
        if value != NULL and n:
            self.answer_flow(value, n, False)

    cdef void answer_flow(self, const char* subject, Py_ssize_t n, bint with_numbers) noexcept:
        """Let the consumer go on, once all that came is on disk. with_numbers: say how far it got."""
        cdef bytes block = b""
        if with_numbers:
            block = b"NATS/1.0\r\nNats-Last-Consumer: %d\r\nNats-Last-Stream: %d\r\n\r\n" % (self.dseq, self.sseq)
        self.stream.outbox.reply(
            self.stream.outbox.current_op() if self.stream.is_file else 0, &self.stream.account.a, subject, n, block,
            len(block), len(block), NULL, 0)

    cdef void take_mirrored(self, match_t* m, msg_t* msg, origin_t* o) noexcept:
        """A message that is stored under its own sequence. What the origin has removed isn't delivered: a gap."""
        cdef Py_ssize_t n = self.rewrite(m, msg, o)
        cdef Py_ssize_t hdr_len = msg.hdr_len if msg.hdr_len > 0 else 0
        cdef const char* subject = m.subject
        cdef Py_ssize_t subject_len = m.subject_len
        cdef bytes changed
        cdef int refused
        if n < 0 or (o.sseq != self.sseq + 1 and o.dseq != self.dseq + 1) or (
                self.stream.store.last_seq != self.sseq and self.stream.store.first_seq):
            self.stop_reading(0)
            return
        if self.transforms:
            changed = self.transform(m.subject[:m.subject_len])
            subject, subject_len = changed, len(changed)
        refused = self.store(o.sseq, o.ts_ns, subject, subject_len, self.scratch.data, n, msg.payload + hdr_len,
                             msg.size - hdr_len)
        if refused:
            self.stop_reading(refused)
            return
        self.dseq, self.sseq = o.dseq, o.sseq

    cdef void take_sourced(self, match_t* m, msg_t* msg, origin_t* o) noexcept:
        """A message that is stored as a new one, with a header that says where it is from."""
        cdef Py_ssize_t n = self.rewrite(m, msg, o)
        cdef Py_ssize_t hdr_len = msg.hdr_len if msg.hdr_len > 0 else 0
        cdef const char* subject = m.subject
        cdef Py_ssize_t subject_len = m.subject_len
        cdef bytes changed
        cdef int refused
        if o.dseq <= self.dseq:
            return
        if n < 0 or o.dseq != self.dseq + 1:
            self.stop_reading(0)
            return
        if self.transforms:
            changed = self.transform(m.subject[:m.subject_len])
            subject, subject_len = changed, len(changed)
        refused = self.store(0, 0, subject, subject_len, self.scratch.data, n, msg.payload + hdr_len, msg.size - hdr_len)
        if refused and refused != REFUSED_DUPLICATE:
            self.stop_reading(refused)
            return
        self.dseq, self.sseq = o.dseq, o.sseq
        if not refused and self.stream.store.has(self.stream.store.last_seq):
            self.stored_sseq = o.sseq       # else it is known already, or nobody is interested in it
        self.kept_due = True
        self.post()

    cdef int store(self, uint64_t seq, int64_t ts, const char* subject, Py_ssize_t n, const char* hdr, Py_ssize_t hdr_len,
                   const char* body, Py_ssize_t body_len) noexcept:
        """Store a message; seq and ts: what it keeps, 0 = a new one's. What stands in Stream.refused."""
        cdef headers_t h
        cdef bytes changed_subject, headers, payload
        cdef Stream s = self.stream
        s.refused = 0
        # Flow control waits for the disk, but many origins may each have a window under way.
        if s.is_file and s.outbox.worker != NULL and s.outbox.store.pending() > max(s.outbox.pending_max, <uint64_t>FLOOD):
            s.refused, s.refused_values = ERR_TOO_MANY_REQUESTS, {}
            return s.refused
        if s.special:
            changed = s.on_sourced(subject[:n], hdr[:hdr_len], body[:body_len])
            if type(changed) is int:
                s.refused, s.refused_values = changed, {}
                return s.refused
            changed_subject, headers, payload = changed
            subject, n, hdr, hdr_len = changed_subject, len(changed_subject), headers, len(headers)
            body, body_len = payload, len(payload)
        headers_scan(hdr, hdr_len, &h)
        s.sourced, s.given_seq, s.given_ts = True, seq, ts
        s.accept(subject, n, hdr, hdr_len, body, body_len, NULL, 0, &h)
        s.sourced, s.given_seq, s.given_ts = False, 0, 0
        return s.refused

    cdef Py_ssize_t rewrite(self, match_t* m, msg_t* msg, origin_t* o) noexcept:
        """Put the header block that is stored into scratch. Its length, 0 = no headers, -1 = memory is out."""
        cdef const char* line = msg.payload
        cdef const char* end = msg.payload + (msg.hdr_len if msg.hdr_len > 0 else 0)
        cdef const char* stop
        cdef char* start = scratch_reserve(&self.scratch, (end - line) + len(self.head) + len(self.middle) + m.subject_len
                                           + o.sseq_len + len(self.tail) + 64)
        cdef char* p = start
        cdef bint first = True
        if start == NULL:
            return -1
        while line < end:
            stop = <const char*>memchr(line, 10, end - line)
            stop = stop + 1 if stop != NULL else end
            if stop - line > 2 and (first or not is_dropped(line, stop - line, self.is_mirror)):
                memcpy(p, line, stop - line)
                p += stop - line
            first = False
            line = stop
        if self.is_mirror:
            if p - start <= 10:
                return 0
        else:
            if p == start:
                p = put(p, b"NATS/1.0\r\n", 10)
            p = put(p, b"Nats-Stream-Source: ", 20)
            p = put(p, self.head, len(self.head))
            p = put(p, o.sseq_text, o.sseq_len)
            p = put(p, self.middle, len(self.middle))
            p = put(p, m.subject, m.subject_len)
            p = put(p, self.tail, len(self.tail))
            p = put(p, b"\r\n", 2)
        return put(p, b"\r\n", 2) - start

    # What a subclass in Python knows.

    def transform(self, subject: bytes) -> bytes:
        """What the subject of a message becomes."""
        raise NotImplementedError

    def on_time(self) -> None:
        """What wake_at was asked for."""
        raise NotImplementedError

    def on_broken(self, refused: int, values: dict) -> None:
        """Reading has stopped: a message was missed, or (refused, an error's number) couldn't be stored."""
        raise NotImplementedError

    def on_probe(self) -> None:
        """Something has come to probe."""
        raise NotImplementedError

    def keep(self) -> None:
        """Write where it stands: messages were stored this turn."""
        raise NotImplementedError

    # The job.

    cdef void post(self) noexcept:
        if not self.job.posted:
            self.held = self
            job_post(self.e, &self.job)

    cdef void stop_reading(self, int refused) noexcept:
        """What comes from now on is ignored; the rest is the job's."""
        self.consumer = b""
        self.broken = True
        self.refused = refused
        self.refused_values = self.stream.refused_values
        self.post()

    cdef void work(self) noexcept:
        cdef bint broken = self.broken and self.client is not None
        self.broken = False
        if self.kept_due:
            self.kept_due = False
            self.keep()
        if self.probed:
            self.cancel()
            self.on_probe()
        if broken:
            self.on_broken(self.refused, self.refused_values)
        if self.due_ns and self.due_ns <= self.e.now_ns:
            self.due_ns = 0
            self.on_time()

    def wake_at(self, uint64_t when_ns) -> None:
        """Have on_time called then (engine time), and at no other time; 0 = not at all."""
        timer_cancel(&self.e.timers, &self.timer)
        self.due_ns = when_ns
        if when_ns:
            timer_arm(&self.e.timers, &self.timer, when_ns, <timer_fn>on_timer, self.timer_client.c)

    def soon(self) -> None:
        """Have on_time called at the end of the turn."""
        self.wake_at(0)
        self.due_ns = self.e.now_ns
        self.post()

    @property
    def identity(self) -> str:
        """The identity of the stream that is read, "" = not known."""
        return self.tail[1:].decode("utf-8", "surrogateescape")

    @identity.setter
    def identity(self, str text) -> None:
        self.tail = b" " + text.encode("utf-8", "surrogateescape") if text else b""

    @property
    def now_ns(self) -> int:
        """The engine's time."""
        return self.e.now_ns


cdef inline char* put(char* o, const char* text, Py_ssize_t n) noexcept nogil:
    memcpy(o, text, n)
    return o + n


def last_source_header(Stream stream not None, uint64_t seq, uint64_t down_to) -> tuple[int, bytes]:
    """The last message up to seq, not below down_to, that has a Nats-Stream-Source: its sequence and the header.

    (0, b"") where there is none.
    """
    cdef stored_t m
    cdef Py_ssize_t n = 0
    cdef const char* value
    stream.outbox.touch()
    seq = seqset_prev(&stream.store.present, seq)
    while seq and seq >= down_to:
        if stream.store.get(seq, &m) and m.hdr_len:
            value = find_header(m.hdr, m.hdr_len, b"\r\nNats-Stream-Source:", 21, &n)
            if value != NULL:
                return seq, value[:n]
        seq = seqset_prev(&stream.store.present, seq - 1)
    return 0, b""
