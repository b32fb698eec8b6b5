"""The Engine: the composition root of the compiled half.

Bytes and the time go in, one output buffer per dirty client comes out per turn. Python sees two kinds of handles: a Client
per connection and an Account per subject space. The engine does no I/O: natsc/net reads into its shared buffer, calls
feed, and gives it a flush function per client.

A turn is: feed (or tick, or a control call), then end_turn, which flushes the dirty clients, closes those that are
closing, frees what was removed, and says when the next timer is due.

Invariants
1. Every entry point is called on the loop's thread, and none is re-entered: hooks must not call feed or end_turn.
2. Memory that a turn may point at (subscriptions, clients) is freed at end_turn or when the last handle goes.
3. Nothing here belongs to the module: two engines live in one process.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from cpython.ref cimport PyObject

from natsc.engine.account cimport (SUB_ADDED, Account, add_sub, close_client, describe, free_graves, join_account,
                                   leave_account, remove_sub, watches_notify)
from natsc.engine.buffer cimport out_release, pending_bytes, pool_clear
from natsc.engine.client cimport (detach, publish_own, receive, send_bytes, send_err, send_ping, start_auth_timer,
                                  start_ping)
from natsc.engine.close cimport READ_ERROR
from natsc.engine.msgtrace cimport trace_asked
from natsc.engine.permissions cimport Permissions, may_subscribe, replies_free
from natsc.engine.service cimport responses_prune
from natsc.engine.sublist cimport cache_count, cache_free, cache_init, sublist_init, sublist_match
from natsc.engine.tail cimport drop_from_tail, keep_tail, reserve_tail, trim_tail
from natsc.engine.timers cimport timer_cancel, timers_fire
from natsc.engine.types cimport (KIND_CLIENT, KIND_SYSTEM, SLOW_AUTH, SLOW_PEDANTIC, SLOW_TRACE, SLOW_VERBOSE, SPECIAL_DENY,
                                 SPECIAL_INTERNAL, SPECIAL_NO_HEADERS, SPECIAL_REPLIES, SPECIAL_TRACE, client_t, counters_t,
                                 engine_t, job_t, match_t, msg_t, sub_t)

from natsc.errors import CLOSE_REASONS

cdef extern from "time.h" nogil:
    ctypedef int clockid_t
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t, timespec*)
    clockid_t CLOCK_MONOTONIC
    clockid_t CLOCK_REALTIME

cdef enum:
    SHARED_SIZE = 262144        # one read buffer for all connections
    TICK_LIMIT = 100000         # timers fired in one tick: bounds a jump of the clock
    CACHE_BITS = 13             # 8192 cached matches
    RTT_PING_AFTER_NS = 2000000000

cdef int64_t NO_LIMIT = 1 << 40


cdef inline uint64_t read_ns(clockid_t clock) noexcept nogil:
    cdef timespec t
    clock_gettime(clock, &t)
    return <uint64_t>t.tv_sec * 1000000000ULL + <uint64_t>t.tv_nsec


cdef class Engine:
    """The data plane of one server.

    hooks: what the engine asks of Python (natsc/engine/hooks.pyx lists the methods). seed: of the hashes and of the choice
    among queue members; the same seed and inputs give the same outputs.
    """

    def __cinit__(self, object hooks, *, uint64_t seed, bint frozen=False):
        cdef engine_t* e = &self.e
        memset(e, 0, sizeof(engine_t))
        e.seed = seed * 0x9E3779B97F4A7C15ULL + 0x1234567
        e.random = e.seed | 1
        e.pool.max_bytes = 64 << 20
        e.stall_at = 1 << 20
        e.ping_interval_ns = 120000000000ULL
        e.max_pings_out = 2
        e.write_deadline_ns = 10000000000ULL
        self.hooks = hooks
        e.hooks = <PyObject*>hooks
        self.accounts_by_name = {}
        self.clients_by_cid = {}
        self.internal_clients = set()
        self.requests = []
        self.frozen = frozen
        e.now_ns = 1000000000ULL if frozen else read_ns(CLOCK_MONOTONIC)
        self.defaults.max_payload = 1 << 20
        self.defaults.max_control_line = 4096
        self.defaults.max_pending = 64 << 20
        self.defaults.max_subs = -1
        self.defaults.special = SPECIAL_NO_HEADERS
        self.shared = <char*>malloc(SHARED_SIZE)
        if self.shared == NULL or not cache_init(e, CACHE_BITS):
            raise MemoryError

    def __dealloc__(self):
        cache_free(&self.e)
        free_graves(&self.e)
        pool_clear(&self.e.pool)
        free(self.e.dirty)
        free(self.e.timers.items)
        free(self.e.scratch)
        free(self.shared)

    def configure(self, *, ping_interval_ns=None, max_pings_out=None, write_deadline_ns=None, no_stall=None, trace=None,
                  debug=None):
        """Set options that hold for all clients; None leaves one as it is."""
        if ping_interval_ns is not None:
            self.e.ping_interval_ns = ping_interval_ns
        if max_pings_out is not None:
            self.e.max_pings_out = max_pings_out
        if write_deadline_ns is not None:
            self.e.write_deadline_ns = write_deadline_ns
        if no_stall is not None:
            self.e.no_stall = no_stall
        if debug is not None:
            self.e.debug = debug
        if trace is not None:
            self.e.trace = trace
            for c in self.clients_by_cid.values():
                (<Client>c).set_trace(trace)

    def set_client_defaults(self, *, bint verbose, bint pedantic, int64_t max_payload, int max_control_line,
                            Py_ssize_t max_pending, int max_subs, int max_sub_tokens):
        """What holds for a new client before it says anything; -1 is no limit, for max_sub_tokens 0."""
        cdef client_t* d = &self.defaults
        d.slow = (SLOW_VERBOSE if verbose else 0) | (SLOW_PEDANTIC if pedantic else 0)
        d.max_payload = max_payload if max_payload >= 0 else NO_LIMIT
        d.max_control_line = max_control_line
        d.max_pending = max_pending
        d.max_subs = max_subs
        d.max_sub_tokens = max_sub_tokens

    # -------------------------------------------------------------------------------------------- time

    cdef uint64_t read_clock(self) noexcept:
        if not self.frozen:
            self.e.now_ns = read_ns(CLOCK_MONOTONIC) + <uint64_t>self.offset_ns
        return self.e.now_ns

    def now_ns(self) -> int:
        """The engine's monotonic clock, in ns."""
        return self.read_clock()

    def freeze(self) -> None:
        """Stop the clock: only advance moves it."""
        self.read_clock()
        self.frozen = True

    def unfreeze(self) -> None:
        """Let the clock run on from where it stands."""
        if self.frozen:
            self.offset_ns = <int64_t>(self.e.now_ns - read_ns(CLOCK_MONOTONIC))
            self.frozen = False

    @property
    def next_due_ns(self) -> int:
        """When the engine's next timer is due; 0 = none is armed."""
        return self.e.timers.items[0].when_ns if self.e.timers.count else 0

    def set_jumping(self, bint on) -> None:
        """While it is on, advance moves the clock past what clients could answer: it isn't held against them."""
        self.e.jump_ns = self.read_clock() if on else 0

    def advance(self, int64_t ns) -> None:
        """Move the clock forward (0: it went on by itself) and fire what is due, in the order of the deadlines."""
        cdef uint64_t target = self.read_clock() + <uint64_t>max(ns, 0)
        if not self.frozen:
            self.offset_ns += max(ns, 0)
        self.fire_until(target)

    def fire_until(self, uint64_t target):
        cdef engine_t* e = &self.e
        cdef int left = TICK_LIMIT
        while left > 0:
            if e.jobs != NULL and e.now_ns < target and (not e.timers.count or e.timers.items[0].when_ns > e.now_ns):
                self.run_jobs()     # what the deadlines so far have caused comes before the clock goes on
                continue
            if not e.timers.count or e.timers.items[0].when_ns > target:
                break
            if e.timers.items[0].when_ns > e.now_ns or self.frozen:
                e.now_ns = max(e.now_ns, e.timers.items[0].when_ns)
            timers_fire(e, e.now_ns, 1)
            left -= 1
        self.e.now_ns = max(self.e.now_ns, target)
        self.armed_ns = 0
        self.end_turn_c()

    # -------------------------------------------------------------------------------------------- accounts, clients

    def account(self, str name) -> Account:
        """The account of that name, made at its first use."""
        cdef Account a = self.accounts_by_name.get(name)
        if a is None:
            a = Account(name)
            sublist_init(&a.a.sublist, self.e.seed + <uint64_t>(len(self.accounts_by_name) + 1) * 0xD1B54A32D192ED03ULL,
                         self.e.gens)
            a.a.handle = <PyObject*>a
            self.accounts_by_name[name] = a
        return a

    def accounts(self) -> list:
        return list(self.accounts_by_name.values())

    def clients(self) -> list:
        """The open clients, oldest first."""
        return list(self.clients_by_cid.values())

    def client(self, uint64_t cid):
        """The open client of that id, or None."""
        return self.clients_by_cid.get(cid)

    def next_cid(self) -> int:
        """Take a connection id without a client: internal clients of the reference have some too."""
        self.last_cid += 1
        return self.last_cid

    cdef Client new_client(self, Account account, bint internal):
        cdef Client h = Client.__new__(Client)
        cdef client_t* c = <client_t*>calloc(1, sizeof(client_t))
        if c == NULL:
            raise MemoryError
        c[0] = self.defaults
        h.c = c
        h.engine = self
        h.name = h.lang = h.version = h.user = h.forwarded_for = ""
        h.door = "STANDARD"
        h.account = account
        self.read_clock()
        c.kind = KIND_SYSTEM if internal else KIND_CLIENT
        c.handle = <PyObject*>h
        c.start_ns = c.last_ns = c.last_in_ns = self.e.now_ns
        h.start_wall_ns = <int64_t>read_ns(CLOCK_REALTIME) + self.offset_ns
        h.wall_offset_ns = h.start_wall_ns - <int64_t>self.e.now_ns
        if internal:
            c.special = SPECIAL_INTERNAL
        join_account(&self.e, c, &account.a)
        return h

    def connect(self, Account account not None, object conn, str ip, int port) -> Client:
        """A new client in account. conn carries it: a net/ protocol, or a test."""
        cdef Client h = self.new_client(account, False)
        self.last_cid += 1
        h.c.cid = self.last_cid
        h.conn = conn
        h.ip = ip
        h.port = port
        if self.e.trace:
            h.set_trace(True)
        self.clients_by_cid[h.c.cid] = h
        return h

    # -------------------------------------------------------------------------------------------- turns

    cdef Py_ssize_t feed(self, client_t* c, Py_ssize_t n) noexcept:
        """n bytes were read behind c's tail: in the shared buffer, or in the tail itself where that is long."""
        cdef Py_ssize_t total = c.tail_len + n, used
        cdef bint in_tail = c.tail_len > SHARED_SIZE // 2
        cdef char* base = c.tail if in_tail else self.shared
        self.read_clock()
        used = receive(&self.e, c, base, total)
        if in_tail:
            c.tail_len = total
            drop_from_tail(c, used)
        elif not keep_tail(c, base + used, total - used):
            close_client(&self.e, c, READ_ERROR)
        trim_tail(c)
        return used

    def receive(self, Client client not None, const uint8_t[::1] data not None) -> None:
        """Input of a client that doesn't read into the shared buffer. end_turn is the caller's business."""
        cdef client_t* c = client.c
        cdef Py_ssize_t n = data.shape[0], used
        if n == 0 or c.closing:
            return
        self.read_clock()
        if c.tail_len == 0 and not c.suspended:
            used = receive(&self.e, c, <const char*>&data[0], n)
            if not keep_tail(c, <const char*>&data[0] + used, n - used):
                raise MemoryError
            trim_tail(c)
            return
        if not reserve_tail(c, c.tail_len + n):
            raise MemoryError
        memcpy(c.tail + c.tail_len, &data[0], n)
        c.tail_len += n
        self.consume_tail(c)

    cdef void consume_tail(self, client_t* c) noexcept:
        drop_from_tail(c, receive(&self.e, c, c.tail, c.tail_len))
        trim_tail(c)

    def resume(self, Client client not None) -> None:
        """Go on with the input that came while authentication was pending."""
        cdef client_t* c = client.c
        c.suspended = False
        if c.tail_len and not c.closing:
            self.read_clock()
            self.consume_tail(c)
        self.end_turn_c()

    def end_turn(self) -> None:
        self.end_turn_c()

    def run_due_turn(self) -> None:
        """The end of a turn that small reads have put off (natsc/net/protocol.pyx)."""
        self.turn_due = False
        self.end_turn_c()

    cdef bint has_work(self) noexcept:
        """Whether end_turn would do anything."""
        cdef engine_t* e = &self.e
        return (e.num_dirty != 0 or e.jobs != NULL or e.sub_graves != NULL or len(self.requests) != 0
                or (e.subs_changed and e.watches != NULL))

    cdef void end_turn_c(self):
        cdef engine_t* e = &self.e
        while True:
            if e.subs_changed:
                watches_notify(e)
            if e.jobs != NULL or self.requests:
                self.run_jobs()
            self.flush_dirty()
            responses_prune(e)
            # What a client had subscribed to goes when it is closed out: somebody may wait for that.
            if not (e.subs_changed and e.watches != NULL) and e.jobs == NULL and not self.requests:
                break
        free_graves(e)
        if e.timers.count and (self.armed_ns == 0 or e.timers.items[0].when_ns < self.armed_ns):
            self.armed_ns = e.timers.items[0].when_ns
            if self.rearm is not None:
                self.rearm(self.armed_ns)

    cdef void flush_dirty(self):
        cdef engine_t* e = &self.e
        cdef client_t* c
        cdef uint32_t i = 0
        while i < e.num_dirty:
            c = e.dirty[i]
            i += 1
            c.dirty = False
            if c.flush != NULL:
                c.flush(e, c)
            if c.closing and not c.detached:
                self.close_out(<Client>c.handle)
        e.num_dirty = 0

    cdef void run_jobs(self):
        """What messages of this turn have caused, and what that causes, until nothing is left."""
        cdef engine_t* e = &self.e
        cdef job_t* job
        cdef list requests
        while e.jobs != NULL or self.requests:
            while e.jobs != NULL:
                job = e.jobs
                e.jobs = job.next
                job.posted = False
                job.run(e, job.owner)
            requests = self.requests
            self.requests = []
            for callback, request in requests:
                callback(request)

    cdef void close_out(self, Client h):
        """The end of a closing client: Python hears of it while everything still stands, then it gives back all it has."""
        if h.c.num_subs:
            h.last_subs = h.subscriptions()
        h.stop_ns = <int64_t>self.read_clock() + h.wall_offset_ns
        if self.release is not None:
            self.release(h)
        detach(&self.e, h.c)
        self.clients_by_cid.pop(h.c.cid, None)

    # -------------------------------------------------------------------------------------------- messages of our own

    def publish(self, Account account not None, bytes subject, bytes payload, *, bytes reply=None,
                bytes headers=None) -> int:
        """Publish into an account, as the server. Returns how many received it. end_turn is the caller's business.

        headers: the whole block ("NATS/1.0\\r\\n...\\r\\n\\r\\n"), or None.
        """
        cdef bytes head = b"" if reply is None else reply + b" "
        cdef msg_t msg
        if headers is not None:
            head += b"%d %d\r\n" % (len(headers), len(headers) + len(payload))
            payload = headers + payload
        else:
            head += b"%d\r\n" % len(payload)
        cdef bytes tail = head + payload + b"\r\n"
        msg.subject = subject
        msg.subject_len = len(subject)
        msg.reply = NULL
        msg.reply_len = 0
        if reply is not None:
            msg.reply = reply
            msg.reply_len = len(reply)
        msg.tail = tail
        msg.tail_len = len(tail)
        msg.payload = <const char*>tail + len(head)
        msg.size = len(payload)
        msg.hdr_len = len(headers) if headers is not None else -1
        return publish_own(&self.e, &account.a, &msg)

    def subscribe(self, Account account not None, bytes subject, callback, *, tuple declined=()) -> Client:
        """Have callback called with a Request for each message on subject in account, at the end of its turn.

        declined: beginnings of subjects that nobody is there for, as far as this subscription goes.
        Returns the internal client that holds the subscription; its close() ends it. Raises ValueError for a bad subject.
        """
        cdef Client h = self.new_client(account, True)
        h.callback = callback
        h.declined = declined
        h.c.on_msg = collect_request
        self.internal_clients.add(h)
        if add_sub(&self.e, h.c, subject, len(subject), NULL, 0, b"1", 1) != SUB_ADDED:
            self.unsubscribe(h)
            raise ValueError(f"invalid subject {subject!r}")
        return h

    def unsubscribe(self, Client client not None) -> None:
        """End an internal subscription."""
        detach(&self.e, client.c)
        self.internal_clients.discard(client)

    # -------------------------------------------------------------------------------------------- counters

    def clear_counters(self) -> None:
        """Count anew, for all accounts; the clients' own counters stay."""
        memset(&self.e.counters, 0, sizeof(counters_t))
        self.e.slow_consumers = self.e.slow_consumers_write = self.e.stale_connections = self.e.stalls = 0
        for a in self.accounts_by_name.values():
            a.clear_counters()

    @property
    def in_msgs(self) -> int:
        return self.e.counters.in_msgs

    @property
    def in_bytes(self) -> int:
        return self.e.counters.in_bytes

    @property
    def out_msgs(self) -> int:
        return self.e.counters.out_msgs

    @property
    def out_bytes(self) -> int:
        return self.e.counters.out_bytes

    @property
    def num_subs(self) -> int:
        return self.e.total_subs

    @property
    def num_clients(self) -> int:
        return len(self.clients_by_cid)

    @property
    def slow_consumers(self) -> int:
        return self.e.slow_consumers

    @property
    def stale_connections(self) -> int:
        return self.e.stale_connections

    @property
    def stalled_clients(self) -> int:
        return self.e.stalls

    @property
    def cached_matches(self) -> int:
        """How many matches the cache holds, valid or not."""
        return cache_count(&self.e)

    def match(self, Account account not None, bytes subject) -> list:
        """The subscriptions that match subject: (cid, subject, queue or None, sid). For monitoring and tests."""
        cdef list found = []
        sublist_match(&account.a.sublist, subject, len(subject), collect, <void*>found)
        return found


cdef class Request:
    """A message that an internal subscription received: bytes of the server's own, whole."""
    cdef readonly bytes subject
    cdef readonly bytes reply           # None = none
    cdef readonly bytes headers         # the block, None = none
    cdef readonly bytes payload
    cdef readonly Client client         # who published it, None = the server
    cdef readonly Account account       # where it was published


cdef void collect_request(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept with gil:
    """client_t.on_msg of Engine.subscribe: keep the message for the end of the turn."""
    cdef Client h = <Client>c.handle
    cdef Request r
    cdef Py_ssize_t hdr = msg.hdr_len if msg.hdr_len > 0 else 0
    cdef bytes start
    if e.traced != NULL and not trace_asked(e, c.account, m.subject, m.subject_len):
        return
    for start in h.declined:
        if m.subject_len >= len(start) and memcmp(m.subject, <const char*>start, len(start)) == 0:
            e.declined = True
            return
    r = Request.__new__(Request)
    r.subject = m.subject[:m.subject_len]
    if msg.reply != NULL:
        r.reply = msg.reply[:msg.reply_len]
    if hdr:
        r.headers = msg.payload[:hdr]
    r.payload = msg.payload[hdr:msg.size]
    r.client = <Client>src.handle if src != NULL else None
    r.account = h.account
    h.engine.requests.append((h.callback, r))


cdef bint collect(sub_t* s, void* found) noexcept with gil:
    (<list>found).append((s.client.cid,) + describe(s)[:3])
    return True


@cython.no_gc_clear     # __dealloc__ needs the engine
cdef class Client:
    """A connection in the engine. Made by Engine.connect; owns its client_t."""

    def __dealloc__(self):
        cdef client_t* c = self.c
        cdef engine_t* e
        cdef uint32_t i
        if c == NULL:
            return
        e = &self.engine.e
        detach(e, c)
        free_graves(e)
        timer_cancel(&e.timers, &c.write_timer)
        if c.dirty:
            for i in range(e.num_dirty):
                if e.dirty[i] == c:
                    e.num_dirty -= 1
                    e.dirty[i] = e.dirty[e.num_dirty]
                    break
        out_release(e, c)
        free(c)
        self.c = NULL

    # -------------------------------------------------------------------------------------------- control

    def configure(self, *, max_payload=None, max_subs=None, max_control_line=None):
        """Set limits of this client; None leaves one as it is; -1 is no limit."""
        cdef client_t* c = self.c
        if max_payload is not None:
            c.max_payload = max_payload if max_payload >= 0 else NO_LIMIT
        if max_subs is not None:
            c.max_subs = max_subs
        if max_control_line is not None:
            c.max_control_line = max_control_line

    def set_connect(self, bint verbose, bint pedantic, bint echo, bint headers) -> None:
        """What CONNECT says about the protocol."""
        cdef client_t* c = self.c
        self.set_slow(SLOW_VERBOSE, verbose)
        self.set_slow(SLOW_PEDANTIC, pedantic)
        self.set_special(SPECIAL_NO_HEADERS, not headers)
        c.no_echo = not echo
        c.headers = headers

    cdef void set_slow(self, uint32_t bit, bint on) noexcept:
        self.c.slow = self.c.slow | bit if on else self.c.slow & ~bit

    cdef void set_special(self, uint32_t bit, bint on) noexcept:
        self.c.special = self.c.special | bit if on else self.c.special & ~bit

    def set_trace(self, bint on):
        self.set_slow(SLOW_TRACE, on)
        self.set_special(SPECIAL_TRACE, on)

    def expect_connect(self, Py_ssize_t timeout_ns) -> None:
        """Let nothing but CONNECT through, and close the client where authentication isn't done in time."""
        self.set_slow(SLOW_AUTH, True)
        if timeout_ns > 0:
            start_auth_timer(&self.engine.e, self.c, timeout_ns)

    def begin_connect(self) -> None:
        """CONNECT has come: its time is the first measure of the round trip, and the early PING counts from here."""
        cdef client_t* c = self.c
        timer_cancel(&self.engine.e.timers, &c.auth_timer)
        c.rtt_ns = max(self.engine.e.now_ns - c.start_ns, 1)
        start_ping(&self.engine.e, c, True)

    def set_no_responders(self, bint on) -> None:
        self.c.no_responders = on

    def accept(self) -> None:
        """CONNECT was accepted: authentication is over."""
        self.set_slow(SLOW_AUTH, False)
        timer_cancel(&self.engine.e.timers, &self.c.auth_timer)
        self.c.connected = True

    def set_ping_interval(self, uint64_t ns) -> None:
        """Between PINGs from the next one on, in the place of the server's interval; 0 = that one."""
        self.c.ping_interval_ns = ns

    def start_ping(self, bint first) -> None:
        """Arm the PING timer; first: the early one that measures the round trip."""
        start_ping(&self.engine.e, self.c, first)

    def send_rtt_ping(self) -> bool:
        """Send a PING that measures the round trip, and end the turn. Returns whether it was sent.

        Not before the client's own first PING or two seconds have passed: waiting for PONG, it may take a PING for a fault.
        """
        cdef uint64_t age = self.engine.read_clock() - self.c.start_ns
        if self.c.closing or not (self.c.first_pong_sent or age > RTT_PING_AFTER_NS):
            return False
        send_ping(&self.engine.e, self.c)
        self.engine.end_turn_c()
        return True

    def join(self, Account account not None) -> None:
        """Move to an account; subscriptions in the old one are dropped."""
        join_account(&self.engine.e, self.c, &account.a)
        self.account = account

    def drop_subscriptions(self) -> None:
        cdef Account a = self.account
        leave_account(&self.engine.e, self.c)
        join_account(&self.engine.e, self.c, &a.a)
        a.a.total_conns -= 1

    def set_permissions(self, Permissions permissions) -> None:
        """Rules for what comes; None = everything is allowed. prune_subscriptions looks at what is there already.

        Replies that the client might still have given are forgotten.
        """
        cdef client_t* c = self.c
        replies_free(c)
        self.permissions = permissions
        c.perms = &permissions.p if permissions is not None else NULL
        self.set_special(SPECIAL_REPLIES, permissions is not None and permissions.p.has_response)
        self.set_special(SPECIAL_DENY, permissions is not None and permissions.p.has_sub_deny and c.num_subs > 0)

    def prune_subscriptions(self) -> list:
        """Remove the subscriptions that the permissions don't allow (any more). Returns (subject, queue or None, sid)s."""
        cdef client_t* c = self.c
        cdef sub_t* s
        cdef uint32_t i
        cdef list gone = []
        cdef bytes subject
        for i in range(c.sids_cap):
            s = c.sids[i]
            if <size_t>s > 1:
                found = describe(s)
                subject = found[0]
                if not may_subscribe(c, subject, len(subject), s.text + s.sid_len, s.queue_len):
                    gone.append(found[:3])
                    remove_sub(&self.engine.e, c, s)
        return gone

    def send(self, bytes data not None) -> None:
        """Queue protocol text, line end included; it leaves at the end of the turn."""
        send_bytes(&self.engine.e, self.c, data, len(data))

    def send_err(self, bytes text not None) -> None:
        """Queue -ERR '<text>'."""
        send_err(&self.engine.e, self.c, text, len(text))

    def close(self, int reason) -> None:
        """Close at the end of the turn, after what is queued; reason is a close reason of natsc.errors."""
        close_client(&self.engine.e, self.c, reason)

    def take_output(self) -> bytes:
        """What is queued, and drop it. For connections that don't send from the buffer: tests, TLS, in-process."""
        cdef client_t* c = self.c
        cdef bytes data = c.out.data[c.out.off:c.out.len] if c.out.data != NULL else b""
        out_release(&self.engine.e, c)
        return data

    def subscriptions(self) -> list:
        """(subject, queue or None, sid, delivered, max) of each, as bytes and integers; max 0 = no maximum.

        Of a closed client: what it had when it closed.
        """
        cdef uint32_t i
        cdef list found = []
        if self.c.detached:
            return self.last_subs or found
        for i in range(self.c.sids_cap):
            if <size_t>self.c.sids[i] > 1:
                found.append(describe(self.c.sids[i]))
        return found

    # -------------------------------------------------------------------------------------------- what monitoring shows

    @property
    def cid(self) -> int:
        return self.c.cid

    @property
    def kind(self) -> int:
        return self.c.kind

    @property
    def start_ns(self) -> int:
        """When it connected: wall clock, ns."""
        return self.start_wall_ns

    @property
    def last_activity_ns(self) -> int:
        """Wall clock, ns."""
        return <int64_t>self.c.last_ns + self.wall_offset_ns

    @property
    def rtt_ns(self) -> int:
        return self.c.rtt_ns

    @property
    def pending_bytes(self) -> int:
        return pending_bytes(self.c)

    @property
    def held_bytes(self) -> int:
        """Memory for input that is no whole operation yet."""
        return self.c.tail_cap

    @property
    def max_pending(self) -> int:
        return self.c.max_pending

    @property
    def in_msgs(self) -> int:
        return self.c.counters.in_msgs

    @property
    def in_bytes(self) -> int:
        return self.c.counters.in_bytes

    @property
    def out_msgs(self) -> int:
        return self.c.counters.out_msgs

    @property
    def out_bytes(self) -> int:
        return self.c.counters.out_bytes

    @property
    def num_subs(self) -> int:
        if self.c.detached:
            return len(self.last_subs) if self.last_subs is not None else 0
        return self.c.num_subs

    @property
    def max_payload(self) -> int:
        return self.c.max_payload

    @property
    def stalls(self) -> int:
        return self.c.stalls

    @property
    def echo(self) -> bool:
        return not self.c.no_echo

    @property
    def verbose(self) -> bool:
        return bool(self.c.slow & SLOW_VERBOSE)

    @property
    def pedantic(self) -> bool:
        return bool(self.c.slow & SLOW_PEDANTIC)

    @property
    def headers(self) -> bool:
        return self.c.headers

    @property
    def protocol(self) -> int:
        return self.opts.get("protocol", 0) if self.opts else 0

    @property
    def connected(self) -> bool:
        return self.c.connected

    @property
    def first_pong_sent(self) -> bool:
        return self.c.first_pong_sent

    @property
    def closing(self) -> bool:
        return self.c.closing

    @property
    def close_reason(self) -> int:
        return self.c.close_reason

    @property
    def reason(self) -> str:
        """Why it closed, as monitoring says it; "" while it is open."""
        return CLOSE_REASONS[self.c.close_reason]
