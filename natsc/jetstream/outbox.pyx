"""What leaves only when something else has happened: replies after a commit, new messages for consumers.

A turn queues here; end_turn, the outbox's job, hands the turn's storage operations to the worker and lets go what waits
for nothing; release, called when the worker reports, lets go what is durable now.

Where the store fails, what waits for it is answered with the failure that was queued beside it, or not at all: nothing
is ever said to be durable that isn't.

Invariants
1. Replies that wait for the disk leave in the order in which they were queued.
2. Nothing is published from within a delivery: only the job and release publish.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

from natsc._core cimport Engine
from natsc.engine.account cimport Account
from natsc.engine.client cimport publish_own
from natsc.engine.deliver cimport job_post
from natsc.engine.text cimport put_number
from natsc.engine.types cimport account_t, engine_t, msg_t
from natsc.jetstream.failpoint cimport FAIL_RELEASE_BEGIN, FAIL_RELEASE_END, failpoint
from natsc.jetstream.store cimport Store
from natsc.jetstream.worker cimport worker_durable, worker_failed

cdef extern from "time.h" nogil:
    ctypedef int clockid_t
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t, timespec*)
    clockid_t CLOCK_REALTIME

cdef enum:
    KEEP = 1 << 20          # an emptied queue gives back memory beyond this
    PENDING_MAX = 128 << 20

cdef uint64_t ALL = 0xFFFFFFFFFFFFFFFFULL


cdef void run_end_turn(engine_t* e, void* owner) noexcept:
    (<Outbox>owner).end_turn()


cdef char* fifo_reserve(fifo_t* f, Py_ssize_t n) noexcept nogil:
    """Room for n bytes at the end; the caller then adds to f.end. NULL where memory is out."""
    cdef char* data
    cdef Py_ssize_t cap
    if f.end + n > f.cap and f.head > f.cap // 2:
        memmove(f.data, f.data + f.head, f.end - f.head)
        f.end -= f.head
        f.head = 0
    if f.end + n > f.cap:
        cap = max(f.cap * 2, f.end + n, 4096)
        data = <char*>realloc(f.data, cap)
        if data == NULL:
            return NULL
        f.data = data
        f.cap = cap
    return f.data + f.end


cdef class Visible:
    cdef uint64_t newest(self) noexcept:
        """The last sequence there is."""
        return 0

    cdef void show(self, uint64_t last_seq) noexcept:
        """Let consumers see messages up to last_seq."""


cdef class Outbox:
    """The outbox of an engine. clock: its natsc.clock.Clock."""

    def __cinit__(self, Engine engine not None, clock):
        self.engine = engine
        self.clock = clock
        self.new = []
        self.marks = []
        self.pending_max = PENDING_MAX
        self.job.run = run_end_turn
        self.job.owner = <void*>self

    def __dealloc__(self):
        free(self.now.data)
        free(self.durable.data)
        free(self.scratch)

    cdef void touch(self) noexcept nogil:
        """Have the job run at the end of the turn: operations were queued for the storage worker."""
        job_post(&self.engine.e, &self.job)

    def end_soon(self) -> None:
        """touch, for Python: something was read from the store, or queued for it."""
        self.touch()

    cdef uint64_t current_op(self) noexcept nogil:
        """The storage operation that was queued last: what is queued for it waits for all there is so far."""
        return self.worker.queued if self.worker != NULL else 0

    cdef int64_t wall_ns(self) noexcept:
        """The wall clock, ns. Tests that freeze the clock freeze it too."""
        cdef timespec t
        if self.engine.frozen:
            return self.clock.wall_ns()
        clock_gettime(CLOCK_REALTIME, &t)
        return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec + self.engine.offset_ns

    def attach(self, Store store not None) -> None:
        """Use this store for what is durable; its worker runs. release() is to be called when its fileno() is readable."""
        self.store = store
        self.worker = store.w

    def detach(self) -> None:
        """The store closes: nothing waits for it any more, and nothing is durable."""
        self.worker = NULL
        self.store = None
        self.marks.clear()
        self.durable.head = self.durable.end = 0

    # Queueing.

    cdef bint reply(self, uint64_t op, account_t* account, const char* subject, Py_ssize_t n, const char* payload,
                    Py_ssize_t len, Py_ssize_t hdr_len, const char* failure, Py_ssize_t failure_len) noexcept nogil:
        """Queue a message to subject that leaves once op is durable (0: at the end of the turn). Everything is copied.

        hdr_len: bytes of headers at the front of payload, 0 = none. failure: the payload (without headers) to send
        instead where the store fails; NULL = send nothing then. False where memory is out.
        """
        cdef fifo_t* f = &self.durable if op else &self.now
        cdef Py_ssize_t size = (sizeof(waiting_t) + n + len + failure_len + 7) & ~<Py_ssize_t>7
        cdef waiting_t* w = <waiting_t*>fifo_reserve(f, size)
        cdef char* o
        if w == NULL:
            return False
        w.op = op
        w.account = account
        w.reply_len = <uint32_t>n
        w.hdr_len = <uint32_t>hdr_len
        w.len = <uint32_t>len
        w.failure_len = <uint32_t>failure_len
        w.size = <uint32_t>size
        o = <char*>w + sizeof(waiting_t)
        memcpy(o, subject, n)
        memcpy(o + n, payload, len)
        if failure_len:
            memcpy(o + n + len, failure, failure_len)
        f.end += size
        self.touch()
        return True

    def reply_bytes(self, Account account not None, bytes subject not None, bytes payload not None, bytes headers=b"",
                    *, bint durable=True, bytes failure=b"") -> None:
        """reply, with Python objects; durable: after all that was queued for the disk so far."""
        cdef bytes whole = headers + payload
        cdef uint64_t op = self.current_op() if durable else 0
        if not self.reply(op, &account.a, subject, len(subject), whole, len(whole), len(headers), failure,
                          len(failure)):
            raise MemoryError

    cdef void mark(self, Visible v):
        """v has new messages this turn."""
        if not v.marked:
            v.marked = True
            self.new.append(v)
            self.touch()

    # Letting go.

    cdef bint send(self, account_t* account, const char* subject, Py_ssize_t n, const char* payload, Py_ssize_t len,
                   Py_ssize_t hdr_len) noexcept:
        """Publish now. Never from within a delivery. False where memory is out."""
        cdef msg_t msg
        cdef Py_ssize_t need = n + len + 64
        cdef char* o
        if need > self.scratch_cap:
            o = <char*>realloc(self.scratch, need)
            if o == NULL:
                return False
            self.scratch = o
            self.scratch_cap = need
        memcpy(self.scratch, subject, n)
        msg.subject = self.scratch
        msg.subject_len = n
        msg.reply = NULL
        msg.reply_len = 0
        o = self.scratch + n
        msg.tail = o
        if hdr_len:
            o = put_number(o, hdr_len)
            o[0] = 32
            o += 1
        o = put_number(o, len)
        o[0] = 13
        o[1] = 10
        o += 2
        msg.payload = o
        memcpy(o, payload, len)
        o += len
        o[0] = 13
        o[1] = 10
        msg.tail_len = o + 2 - msg.tail
        msg.size = len
        msg.hdr_len = hdr_len if hdr_len else -1
        publish_own(&self.engine.e, account, &msg)
        return True

    cdef void drain(self, fifo_t* f, uint64_t op) noexcept:
        """Send what waits for op or less."""
        cdef waiting_t* w
        cdef char* p
        while f.head < f.end:
            w = <waiting_t*>(f.data + f.head)
            if w.op > op:
                return
            p = <char*>w + sizeof(waiting_t)
            f.head += w.size
            if not self.failed or w.op == 0:
                self.send(w.account, p, w.reply_len, p + w.reply_len, w.len, w.hdr_len)
            elif w.failure_len:
                self.send(w.account, p, w.reply_len, p + w.reply_len + w.len, w.failure_len, 0)
        f.head = f.end = 0
        if f.cap > KEEP:
            free(f.data)
            f.data = NULL
            f.cap = 0

    cdef void show_until(self, uint64_t op):
        cdef Py_ssize_t n = 0
        cdef Visible v
        for waiting, v, last_seq in self.marks:
            if waiting > op:
                break
            n += 1
            v.show(last_seq)
        if n:
            del self.marks[:n]

    def end_turn(self) -> None:
        """Hand over what the turn queued for the disk, and let go what doesn't wait for it."""
        cdef list new = self.new
        cdef Visible v
        cdef uint64_t durable = 0
        if self.engine.e.jobs != NULL:
            self.touch()        # the last of all: others may still read and write
            return
        if self.worker != NULL:
            self.handed = self.store.end()
            durable = worker_durable(self.worker)
            if self.store.found_damage:
                self.store.tell_damage()
        if new:
            self.new = []
            for v in new:
                v.marked = False
                if v.durable and not self.failed:
                    self.marks.append((self.handed, v, v.newest()))
                else:
                    v.show(v.newest())
        self.drain(&self.now, ALL)
        if self.failed:
            self.drain(&self.durable, ALL)
        elif self.durable.head < self.durable.end:
            self.drain(&self.durable, durable)

    def release(self) -> None:
        """The worker has reported: let go what is durable now. The caller ends the turn."""
        cdef uint64_t durable
        if self.worker == NULL:
            return
        self.store.on_event()
        durable = worker_durable(self.worker)
        failpoint(FAIL_RELEASE_BEGIN)
        self.drain(&self.durable, durable)
        self.show_until(durable)
        failpoint(FAIL_RELEASE_END)
        if worker_failed(self.worker) and not self.failed:
            self.fail()

    cdef void fail(self):
        """Nothing more becomes durable: those who wait hear of it, or nothing."""
        self.failed = True
        self.marks.clear()
        self.drain(&self.durable, ALL)
        if self.on_failure is not None:
            self.on_failure()

    @property
    def queued(self) -> int:
        """The last storage operation that was queued: it tells whether something was written in between."""
        return self.current_op()

    @property
    def waiting(self) -> int:
        """Bytes of replies that wait for the disk."""
        return self.durable.end - self.durable.head
