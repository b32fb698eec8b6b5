"""Pull requests of a consumer: taken, refused, kept waiting, served in turn, ended with a status.

Invariants
1. Requests are looked at one by one only where one of them can be due: a new one, one that wants an answer at the end of
   the stream, a deadline. Those whose client has gone are dropped where they come up, and by those walks.
2. A pointer to a request is good until the queue changes.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from natsc.engine.random cimport random_below
from natsc.engine.service cimport response_wanted
from natsc.engine.sublist cimport cache_lookup
from natsc.engine.types cimport match_t
from natsc.jetstream.consumer_acks cimport AckingConsumer
from natsc.jetstream.delivery cimport STATUS_MAX, write_heartbeat, write_status
from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.subjectstate cimport filters_match
from natsc.jetstream.waiting cimport (PULL_OK, pull_parse, pull_t, wait_id, wait_new, wait_t, waitq_add, waitq_add_sorted,
                                      waitq_free, waitq_remove, waitq_take_head)

cdef enum:
    USE = 0             # check_pin: the request may have the message
    PASS = 1            # it is for the pinned client
    ENDED = 2           # the request was of a client that isn't pinned any more

cdef uint64_t SECOND = 1000000000
cdef const char* ID_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


cdef class PullingConsumer(AckingConsumer):
    def __dealloc__(self):
        waitq_free(&self.waiting)

    cdef uint64_t count_pending(self) noexcept:
        """How many messages are still to be delivered for the first time."""
        cdef uint64_t i
        cdef stored_t m
        if self.pending_stale:
            self.pending_stale = False
            if self.skip_at < self.skip_count:
                self.pending = <int64_t>self.stream.num_pending(self.filters, self.num_filters, self.skip_resume + 1)
                for i in range(self.skip_at, self.skip_count):
                    self.pending += self.stream.store.get(self.skip[i], &m) and filters_match(
                        self.filters, self.num_filters, m.subject, m.subject_len)
            else:
                self.pending = <int64_t>self.stream.num_pending(self.filters, self.num_filters, self.next_sseq)
            self.pending_seq = max(self.stream.last_seq(), self.next_sseq - 1)
        return <uint64_t>max(self.pending, 0)

    # Statuses.

    cdef void send_status(self, const char* reply, Py_ssize_t n, const char* status) noexcept:
        cdef char text[STATUS_MAX]
        cdef Py_ssize_t len = write_status(text, status, False, 0, 0)
        self.outbox.send(self.account, reply, n, text, len, len)

    cdef void end_request(self, wait_t* w, const char* status, bint with_pending) noexcept:
        """Say why a request ends. Taking it out of the queue is the caller's business."""
        cdef char text[STATUS_MAX]
        cdef Py_ssize_t len = write_status(text, status, with_pending, w.left, w.bytes_left)
        self.outbox.send(self.account, w.text, w.reply_len, text, len, len)

    cdef void end_requests(self, const char* status, bint with_pending) noexcept:
        """End all that wait."""
        cdef wait_t* w
        while self.waiting.count:
            w = waitq_take_head(&self.waiting)
            if self.interest(w.text, w.reply_len) != NULL:
                self.end_request(w, status, with_pending)
            free(w)
        self.no_wait_requests = 0
        self.wait_due_ns = 0

    cdef match_t* interest(self, const char* subject, Py_ssize_t n) noexcept:
        """Who receives subject; NULL where nobody does."""
        cdef match_t* m
        if not response_wanted(self.e, subject, n):
            return NULL
        m = cache_lookup(self.e, &self.account.sublist, subject, n)
        return m if m != NULL and m.num_targets else NULL

    # New requests.

    cdef void process_pull(self, const char* reply, Py_ssize_t n, const char* body, Py_ssize_t len) noexcept:
        """A request for messages, whose reply subject they are to go to."""
        cdef pull_t r
        if self.is_push:
            self.send_status(reply, n, b"409 Consumer is push based")
            return
        if pull_parse(body, len, &r) == PULL_OK:
            self.queue_pull(reply, n, &r)
        else:
            self.unusual_pull(reply, n, body[:len])

    cdef void unusual_pull(self, const char* reply, Py_ssize_t n, bytes body):
        """A request that isn't written as clients write it: Python's decoder knows what it says, or what is wrong."""
        cdef pull_t r
        cdef bytes group, pin
        wanted = self.read_pull(body)
        if type(wanted) is str:
            self.send_status(reply, n, f"400 Bad Request - {wanted}".encode())
            return
        r.batch, r.max_bytes, r.expires_ns, r.heartbeat_ns, r.no_wait = wanted[:5]
        r.has_group = wanted[5] is not None
        r.min_pending = r.min_ack_pending = r.priority = 0
        group = pin = b""
        if r.has_group:
            group, r.min_pending, r.min_ack_pending, pin, r.priority = wanted[5]
        r.group = group
        r.group_len = len(group)
        r.id = pin
        r.id_len = len(pin)
        self.queue_pull(reply, n, &r)

    cdef void queue_pull(self, const char* reply, Py_ssize_t n, pull_t* r) noexcept:
        """Refuse a request, or let it wait."""
        cdef wait_t* w
        cdef const char* refusal = self.refuse_pull(r)
        if refusal == NULL:
            refusal = self.refuse_group(r)
        if refusal != NULL:
            if refusal[0]:
                self.send_status(reply, n, refusal)
            else:
                self.send_status(reply, n, self.limit_exceeded(r.batch, r.max_bytes))
            return
        if self.waiting.count >= self.waiting.max and self.e.now_ns > self.full_checked_ns + SECOND:
            self.process_waiting(False)
            self.full_checked_ns = self.e.now_ns
        if r.no_wait and self.refuse_no_wait(reply, n, r):
            return
        if self.waiting.count >= self.waiting.max:
            # A client that has heartbeats misses them and asks again then, instead of at once and for ever.
            if r.heartbeat_ns <= 0:
                self.send_status(reply, n, b"409 Exceeded MaxWaiting")
            return
        w = wait_new(reply, n, r, self.e.now_ns)
        if w == NULL:
            return
        if self.priority == PRIORITY_PRIORITIZED:
            waitq_add_sorted(&self.waiting, w)
        else:
            waitq_add(&self.waiting, w)
        self.waiting.last_ns = self.e.now_ns
        if w.no_wait:
            self.no_wait_requests += 1
        if w.expires_ns and (self.wait_due_ns == 0 or w.expires_ns < self.wait_due_ns):
            self.wait_due_ns = w.expires_ns
        if w.heartbeat_at_ns and (self.wait_due_ns == 0 or w.heartbeat_at_ns < self.wait_due_ns):
            self.wait_due_ns = w.heartbeat_at_ns
        self.woken = True

    # What a subclass in Python knows.

    def read_pull(self, body: bytes):
        """What a request says (natsc.jetstream.pull_request.Pull), or the text of what is wrong with it."""
        raise NotImplementedError

    def limit_exceeded(self, batch: int, max_bytes: int) -> bytes:
        """The refusal of a request that asks for more than the configuration allows."""
        raise NotImplementedError

    cdef const char* refuse_pull(self, pull_t* r) noexcept:
        """Why a request can't be taken; NULL = it can. An empty text: limit_exceeded has it."""
        if r.heartbeat_ns > 0 and r.heartbeat_ns * 2 > r.expires_ns:
            return b"400 Bad Request - heartbeat value too large"
        if self.max_batch > 0 and r.batch > self.max_batch:
            return b""
        if self.max_expires_ns > 0 and r.expires_ns > self.max_expires_ns:
            return b""
        if self.max_bytes > 0 and r.max_bytes > self.max_bytes:
            return b""
        return NULL

    cdef const char* refuse_group(self, pull_t* r) noexcept:
        """Why a request doesn't fit the consumer's priority policy; NULL = it does."""
        if not r.has_group:
            return NULL
        if (r.min_pending != 0 or r.min_ack_pending != 0) and self.priority != PRIORITY_OVERFLOW:
            return b"400 Bad Request - Not a Overflow Priority consumer"
        if r.id_len and self.priority != PRIORITY_PINNED:
            return b"400 Bad Request - Not a Pinned Client Priority consumer"
        if r.priority < 0 or r.priority > 9:
            return b"400 Bad Request - Priority must be between 0 and 9"
        if self.priority == PRIORITY_NONE:
            return NULL
        if r.group_len == 0:
            return b"400 Bad Request - Priority Group missing"
        if r.group_len != len(self.group) or memcmp(r.group, <char*>self.group, r.group_len) != 0:
            return b"400 Bad Request - Invalid Priority Group"
        if self.pinned and r.id_len:
            if r.id_len != PIN_LEN or memcmp(r.id, self.pin, PIN_LEN) != 0:
                return b"423 Nats-Pin-Id mismatch"
            self.keep_pin()
        return NULL

    cdef bint refuse_no_wait(self, const char* reply, Py_ssize_t n, pull_t* r) noexcept:
        """A request that doesn't wait: refuse it where nothing is there for it."""
        cdef int64_t there = <int64_t>(self.count_pending() + self.acks.queued)
        if there == 0 and r.expires_ns == 0:
            self.waiting.last_ns = self.e.now_ns
            self.pending_seq = min(self.pending_seq, self.stream.last_seq())    # counted anew, as in the reference
            self.send_status(reply, n, b"404 No Messages")
            return True
        if there > 0 and there < self.process_waiting(False):
            self.waiting.last_ns = self.e.now_ns
            self.send_status(reply, n, b"408 Requests Pending")
            return True
        return False

    # Serving.

    cdef int check_pin(self, wait_t* w, bint* assigned) noexcept:
        """Whether w may have a message of a consumer with pinned clients. The first that asks is pinned."""
        assigned[0] = False
        if not self.pinned:
            if w.id_len == 0:
                self.assign_pin(w)
                assigned[0] = True
                return USE
        elif w.id_len == PIN_LEN and memcmp(wait_id(w), self.pin, PIN_LEN) == 0:
            return USE
        elif w.id_len == 0:
            return PASS
        self.end_request(w, b"423 Nats-Wrong-Pin-Id", True)
        return ENDED

    cdef wait_t* next_waiting(self, Py_ssize_t size) noexcept:
        """The request that gets the next message, of that size; NULL where there is none. It is the queue's first.

        receiver then says who gets what goes to its reply subject.
        """
        cdef wait_t* w
        cdef int64_t passed = 0
        cdef int pin
        cdef bint assigned = False
        while self.waiting.count:
            w = self.waiting.head
            pin = USE
            if w.expires_ns and self.e.now_ns >= w.expires_ns:
                self.end_request(w, b"408 Request Timeout", True)
                waitq_remove(&self.waiting, NULL, w)
                continue
            if self.priority == PRIORITY_PINNED:
                pin = self.check_pin(w, &assigned)
                if pin == ENDED:
                    waitq_remove(&self.waiting, NULL, w)
                    continue
            if pin == PASS or (self.priority == PRIORITY_OVERFLOW and not self.overflows(w.min_pending, w.min_ack_pending)):
                waitq_add(&self.waiting, waitq_take_head(&self.waiting))
                passed += 1
                if passed >= self.waiting.count:
                    return NULL
                continue
            if w.bytes_left > 0 and size > w.bytes_left:
                self.end_request(w, b"409 Message Size Exceeds MaxBytes", True)
                if assigned:
                    self.drop_pin()
                waitq_remove(&self.waiting, NULL, w)
                continue
            self.receiver = self.interest(w.text, w.reply_len)
            if self.receiver != NULL:
                if w.bytes_left > 0:
                    w.bytes_left -= size
                    if w.bytes_left == 0:
                        w.left = 1      # this one, and no more
                return w
            waitq_remove(&self.waiting, NULL, w)
        return NULL

    cdef bint overflows(self, int64_t min_pending, int64_t min_ack_pending) noexcept nogil:
        """Whether there is so much to do that a request that wants to help only then gets messages."""
        if min_pending <= 0 and min_ack_pending <= 0:
            return True
        # The message in hand isn't counted as pending any more.
        return 0 < min_pending <= self.pending + 1 or 0 < min_ack_pending <= <int64_t>self.acks.pending

    cdef void sent_to(self, wait_t* w) noexcept:
        """w, the queue's first, has got a message: others come first now, or it has all it wanted."""
        w.sent += 1
        w.left -= 1
        if w.left <= 0:
            if w.bytes_left > 0:
                self.end_request(w, b"409 Batch Completed", True)
            waitq_remove(&self.waiting, NULL, w)
            return
        if w.heartbeat_ns:
            w.heartbeat_at_ns = self.e.now_ns + <uint64_t>w.heartbeat_ns
        if self.waiting.count > 1:
            waitq_take_head(&self.waiting)
            if self.priority == PRIORITY_PRIORITIZED:
                waitq_add_sorted(&self.waiting, w)
            else:
                waitq_add(&self.waiting, w)

    cdef int64_t process_waiting(self, bint end_of_stream) noexcept:
        """End the requests whose time has come, send heartbeats. Returns how many messages those left want in all.

        end_of_stream: there is nothing to deliver now; requests that don't wait end.
        """
        cdef wait_t* w = self.waiting.head
        cdef wait_t* before = NULL
        cdef char text[STATUS_MAX]
        cdef Py_ssize_t len
        cdef int64_t wanted = 0
        cdef uint64_t now = self.e.now_ns
        cdef uint64_t due = 0
        self.no_wait_requests = 0
        while w != NULL:
            if w.expires_ns and now >= w.expires_ns:
                self.end_request(w, b"408 Request Timeout", True)
                w = waitq_remove(&self.waiting, before, w)
                continue
            if end_of_stream and w.no_wait and (w.expires_ns == 0 or w.sent > 0):
                self.end_request(w, b"404 No Messages", False)
                w = waitq_remove(&self.waiting, before, w)
                continue
            if self.interest(w.text, w.reply_len) == NULL:
                w = waitq_remove(&self.waiting, before, w)
                continue
            wanted += w.left
            self.no_wait_requests += w.no_wait
            if w.heartbeat_ns:
                if now >= w.heartbeat_at_ns:
                    len = write_heartbeat(text, self.next_dseq - 1, self.next_sseq - 1, NULL, 0)
                    self.outbox.send(self.account, w.text, w.reply_len, text, len, len)
                    w.heartbeat_at_ns = now + <uint64_t>w.heartbeat_ns
                if due == 0 or w.heartbeat_at_ns < due:
                    due = w.heartbeat_at_ns
            if w.expires_ns and (due == 0 or w.expires_ns < due):
                due = w.expires_ns
            before = w
            w = w.next
        self.wait_due_ns = due
        return wanted

    # Pinned clients.

    cdef void keep_pin(self) noexcept:
        self.pin_due_ns = self.e.now_ns + <uint64_t>self.pin_ttl_ns if self.pin_ttl_ns > 0 else 0

    cdef void assign_pin(self, wait_t* w) noexcept:
        """Messages go to w's client from now on."""
        cdef int i
        for i in range(PIN_LEN):
            self.pin[i] = ID_DIGITS[random_below(&self.e.random, 62)]
        memcpy(w.text + w.reply_len, self.pin, PIN_LEN)
        w.id_len = PIN_LEN
        self.pinned = True
        self.pinned_at_ns = self.outbox.wall_ns()
        self.keep_pin()
        self.announce_pin(self.pin[:PIN_LEN].decode(), "")

    cdef void drop_pin(self) noexcept:
        self.pinned = False
        self.pinned_at_ns = 0
        self.pin_due_ns = 0

    def announce_pin(self, pin: str, reason: str) -> None:
        """Say who is pinned now, or why nobody is."""
        account = self.stream.account.name
        group = self.group.decode()
        what = "UNPINNED" if reason else "PINNED"
        if self.listened(f"$JS.EVENT.ADVISORY.CONSUMER.{what}.{self.stream.name}.{self.name}".encode()):
            self.event("consumer_unpinned" if reason else "consumer_pinned",
                       (account, self.stream.name, self.name, group, reason or pin))
