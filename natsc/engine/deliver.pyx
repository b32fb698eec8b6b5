"""Delivery: a message goes to every plain subscription that matches and to one member of every queue group.

What stands behind the subject in PUB stands behind the sid in MSG too, so a delivery is a prefix ("MSG <subject> <sid> ")
and one copy of the message's tail. The prefix of a receiver is cached at its second use.

Invariants
1. Nothing is delivered inside the loop over a message's receivers: what a delivery causes is done after it, at the latest
   at the end of the turn. (Requests and responses that cross into another account are sent on right behind the loop.)
2. A subscription that fires its last message is taken out of the tree at once and freed at end_turn, so the targets in
   hand stay readable.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from natsc.engine.buffer cimport out_release, out_reserve, pending_bytes
from natsc.engine.close cimport SLOW_CONSUMER_PENDING_BYTES
from natsc.engine.hooks cimport hook_error, hook_trace_delivery
from natsc.engine.account cimport close_client, remove_sub
from natsc.engine.msgtrace cimport trace_egress, trace_exported
from natsc.engine.permissions cimport denied_delivery, reply_remember
from natsc.engine.random cimport random_below
from natsc.engine.sublist cimport build_prefix, cache_lookup, shadow_of
from natsc.engine.text cimport put_number
from cpython.ref cimport PyObject

from natsc.engine.types cimport (SPECIAL_CLOSED, SPECIAL_DENY, SPECIAL_INTERNAL, SPECIAL_NO_HEADERS, SPECIAL_REPLIES,
                                 SPECIAL_TRACE, client_t, engine_t, forward_t, job_t, match_t, msg_t, shadow_t, sub_t,
                                 target_t, unlikely)


cdef enum:
    FORWARD_DEPTH_MAX = 16  # accounts that a request may cross
    BIG_MESSAGE = 16384     # from here on a system call costs less than the copy
    # Output of one client that isn't kept until the end of the turn, where so many wait for it: together they outgrow the cache.
    FLUSH_AT = 65536
    FLUSH_AT_CLIENTS = 32


cdef void overflow(engine_t* e, client_t* c) noexcept nogil:
    """The client owes more than max_pending: drop what it was to get, and it."""
    if c.closing:
        return
    e.slow_consumers += 1
    c.account.slow_consumers += 1
    hook_error(e, c, b"max_pending", NULL, 0, 0, 0)
    out_release(e, c)
    close_client(e, c, SLOW_CONSUMER_PENDING_BYTES)


cdef Py_ssize_t put_stripped(char* o, match_t* m, sub_t* s, msg_t* msg) noexcept nogil:
    """Write the message without its header block, for a receiver that speaks no headers. Returns the length."""
    cdef char* start = o
    memcpy(o, b"MSG ", 4)
    memcpy(o + 4, m.subject, m.subject_len + 1)
    o += 5 + m.subject_len
    memcpy(o, s.text, s.sid_len)
    o += s.sid_len
    o[0] = 32
    o += 1
    if msg.reply != NULL:
        memcpy(o, msg.reply, msg.reply_len)
        o += msg.reply_len
        o[0] = 32
        o += 1
    o = put_number(o, msg.size - msg.hdr_len)
    memcpy(o, b"\r\n", 2)
    memcpy(o + 2, msg.payload + msg.hdr_len, msg.size - msg.hdr_len + 2)
    return o + 2 + msg.size - msg.hdr_len + 2 - start


cdef inline bint is_imported(match_t* m, client_t* c) noexcept nogil:
    """Whether a match of one account leads to a client of another, by a shadow. Its prefix is there from the start."""
    return c.account == NULL or m.sublist != &c.account.sublist


cdef inline match_t* see_from_there(match_t* m, target_t* t, match_t* seen) noexcept nogil:
    """A match with the subject as it is in the account of a receiver that is_imported."""
    seen[0] = m[0]
    seen.subject = t.prefix + 5
    seen.subject_len = t.prefix_len - 7 - t.sub.sid_len
    return seen


cdef bint deliver_special(engine_t* e, client_t* src, match_t* m, target_t* t, msg_t* msg) noexcept nogil:
    """The receivers that need more than a copy. Returns whether the message counts as delivered."""
    cdef client_t* c = t.client
    cdef sub_t* s = t.sub
    cdef match_t seen
    cdef char* o
    cdef Py_ssize_t n, size = msg.size
    if c.special & SPECIAL_CLOSED:
        return False
    if is_imported(m, c) and t.prefix != NULL:
        m = see_from_there(m, t, &seen)
    if c.special & SPECIAL_INTERNAL:
        c.on_msg(e, c, s, src, m, msg)
        if e.declined:
            e.declined = False
            return False
        s.delivered += 1
        e.internal += 1
        return True
    if c.special & SPECIAL_DENY and denied_delivery(c, m.subject, m.subject_len, s.text + s.sid_len, s.queue_len):
        return False
    if not count_delivery(e, c, s):
        return False
    if c.special & SPECIAL_NO_HEADERS and msg.hdr_len > 0:
        size = msg.size - msg.hdr_len
        o = out_reserve(e, c, m.subject_len + s.sid_len + msg.reply_len + size + 64)
        n = put_stripped(o, m, s, msg) if o != NULL else 0
    else:
        n = write_msg(e, c, m, t, msg)
    if n == 0:
        overflow(e, c)
        return False
    c.out.len += n
    c.counters.out_msgs += 1
    c.counters.out_bytes += size
    if c.special & SPECIAL_REPLIES and msg.reply != NULL:
        reply_remember(e, c, msg.reply, msg.reply_len)
    if c.special & SPECIAL_TRACE:
        hook_trace_delivery(e, c, c.out.data + c.out.len - n, n, size, msg.hdr_len if size == msg.size else -1)
    after_delivery(e, c, s)
    return True


cdef bint count_delivery(engine_t* e, client_t* c, sub_t* s) noexcept nogil:
    """Count against UNSUB's maximum. False where the subscription has had its last message."""
    s.delivered += 1
    if s.max_msgs == 0 or s.delivered < s.max_msgs:
        return True
    if s.delivered == s.max_msgs:
        if e.debug:
            hook_error(e, c, b"auto_unsub", s.text, s.sid_len, s.max_msgs, 0)
        return True
    remove_sub(e, c, s)
    return False


cdef inline void after_delivery(engine_t* e, client_t* c, sub_t* s) noexcept nogil:
    if unlikely(s.max_msgs != 0) and s.delivered >= s.max_msgs:
        remove_sub(e, c, s)


cdef bint write_through(engine_t* e, client_t* c, const char* prefix, Py_ssize_t n, msg_t* msg) noexcept nogil:
    """Send a big message from the read buffer, without a copy but for what the socket doesn't take. False: no memory."""
    cdef Py_ssize_t pending = c.out.len - c.out.off
    cdef Py_ssize_t sent = c.send_through(c, prefix, n, msg.tail, msg.tail_len)
    cdef Py_ssize_t left
    cdef char* o
    if sent >= pending + n + msg.tail_len:
        out_release(e, c)
        return True
    if sent < pending:
        c.out.off += sent
        sent = 0
    else:
        c.out.off = c.out.len = 0
        sent -= pending
    left = n + msg.tail_len - sent
    o = out_reserve(e, c, left)
    if o == NULL:
        return False
    if sent < n:
        memcpy(o, prefix + sent, n - sent)
        memcpy(o + n - sent, msg.tail, msg.tail_len)
    else:
        memcpy(o, msg.tail + sent - n, left)
    c.out.len += left
    return True


cdef void flush_early(engine_t* e, client_t* c) noexcept nogil:
    """Send within the turn where many clients have output: less memory, and a buffer used again is warm."""
    if e.num_dirty < FLUSH_AT_CLIENTS or c.send_through == NULL or c.blocked:
        return
    c.out.off += c.send_through(c, NULL, 0, NULL, 0)
    if c.out.off == c.out.len:
        c.out.off = c.out.len = 0


cdef inline Py_ssize_t write_msg(engine_t* e, client_t* c, match_t* m, target_t* t, msg_t* msg) noexcept nogil:
    """Write prefix and tail at the end of c's output. Returns the length (not added yet), 0 where memory is out."""
    cdef bint hdr = msg.hdr_len >= 0
    cdef Py_ssize_t n
    cdef char* o
    if unlikely(t.prefix == NULL):
        if m.hits == 0:     # a subject seen once (an inbox) isn't worth a prefix
            n = 6 + hdr + m.subject_len + t.sub.sid_len
            o = out_reserve(e, c, n + msg.tail_len)
            if o == NULL:
                return 0
            if hdr:
                memcpy(o, b"HMSG ", 5)
            else:
                memcpy(o, b"MSG ", 4)
            o += 4 + hdr
            memcpy(o, m.subject, m.subject_len + 1)
            o += m.subject_len + 1
            memcpy(o, t.sub.text, t.sub.sid_len)
            o[t.sub.sid_len] = 32
            memcpy(o + t.sub.sid_len + 1, msg.tail, msg.tail_len)
            return n + msg.tail_len
        build_prefix(t, m.subject, m.subject_len)
        if t.prefix == NULL:
            return 0
    n = t.prefix_len - 1 + hdr
    o = out_reserve(e, c, n + msg.tail_len)
    if unlikely(o == NULL):
        return 0
    memcpy(o, t.prefix + 1 - hdr, n)
    memcpy(o + n, msg.tail, msg.tail_len)
    return n + msg.tail_len


cdef inline bint deliver_one(engine_t* e, client_t* src, match_t* m, target_t* t, msg_t* msg) noexcept nogil:
    """Hand the message to one receiver. Returns whether it counts as delivered."""
    cdef client_t* c = t.client
    cdef Py_ssize_t n
    if unlikely(c == src and c.no_echo):
        return False
    if unlikely(e.forward_depth != 0) and is_imported(m, c):
        return False        # what came for a service isn't exported as a stream
    if unlikely(c.blocked):
        if e.no_stall and pending_bytes(c) > (c.max_pending >> 2) * 3:
            return False
        if c.out.len - c.out.off > e.stall_at and not c.stuck:
            e.stalled_on = c
    if unlikely(c.special != 0):
        if not deliver_special(e, src, m, t, msg):
            return False
    else:
        if unlikely(t.sub.max_msgs != 0):
            if not count_delivery(e, c, t.sub):
                return False
        else:
            t.sub.delivered += 1
        if unlikely(msg.tail_len >= BIG_MESSAGE and t.prefix != NULL and c.send_through != NULL) and not c.blocked:
            n = write_through(e, c, t.prefix + (msg.hdr_len < 0), t.prefix_len - (msg.hdr_len < 0), msg)
        else:
            n = write_msg(e, c, m, t, msg)
            c.out.len += n
            if unlikely(c.out.len - c.out.off >= FLUSH_AT) and c.out.len - c.out.off - n < FLUSH_AT:
                flush_early(e, c)
        if unlikely(n == 0):
            overflow(e, c)
            return False
        c.counters.out_msgs += 1
        c.counters.out_bytes += msg.size
        after_delivery(e, c, t.sub)
    if unlikely(pending_bytes(c) > c.max_pending):
        overflow(e, c)
    return True


cdef bint forward_push(engine_t* e, forward_t* f) noexcept nogil:
    """Have f run when the message in hand is delivered. False where memory is out."""
    cdef forward_t* grown
    if e.num_forwards == e.cap_forwards:
        grown = <forward_t*>realloc(e.forwards, (e.cap_forwards * 2 + 8) * sizeof(forward_t))
        if grown == NULL:
            return False
        e.forwards = grown
        e.cap_forwards = e.cap_forwards * 2 + 8
    e.forwards[e.num_forwards] = f[0]
    e.num_forwards += 1
    return True


cdef uint32_t run_forwards(engine_t* e, client_t* src, uint32_t first) noexcept nogil:
    """Send on what the message in hand caused. Returns how many of those nobody received."""
    cdef uint32_t i, lost = 0, internal = e.internal, last = e.num_forwards
    cdef forward_t f
    e.forward_depth += 1
    for i in range(first, last):
        f = e.forwards[i]           # a copy: the array moves when it grows
        f.delivered = False
        if e.forward_depth <= FORWARD_DEPTH_MAX:
            f.run(e, src, &f)
        lost += not f.delivered
    e.forward_depth -= 1
    e.num_forwards = first
    e.internal = internal - lost
    return lost


cdef uint32_t deliver_msg(engine_t* e, client_t* src, match_t* m, msg_t* msg) noexcept nogil:
    """Deliver msg to everybody in m. Returns how many received it. src is NULL for the server's own.

    e.internal says how many of them are internal clients: they don't count as messages sent. m isn't valid any more.
    """
    cdef uint32_t i = 0, k, group, start, sent = 0
    cdef uint32_t n = m.num_targets, first = e.num_forwards
    if unlikely(e.traced != NULL):
        return deliver_traced(e, src, m, msg)
    e.internal = 0
    while i < n:
        group = m.targets[i].group
        if group == 0:
            sent += deliver_one(e, src, m, &m.targets[i], msg)
            i += 1
            continue
        start = random_below(&e.random, group) if group > 1 else 0
        for k in range(group):
            if deliver_one(e, src, m, &m.targets[i + (start + k) % group], msg):
                sent += 1
                break
        i += group
    if unlikely(e.num_forwards != first):
        sent -= run_forwards(e, src, first)
    return sent


cdef const char* why_not(engine_t* e, client_t* src, match_t* m, target_t* t) noexcept nogil:
    """Why a receiver doesn't get a message; NULL where nothing speaks against it."""
    cdef client_t* c = t.client
    if c == src and c.no_echo:
        return b"Not delivered because of no echo"
    if c.special & SPECIAL_DENY and denied_delivery(c, m.subject, m.subject_len, t.sub.text + t.sub.sid_len,
                                                    t.sub.queue_len):
        return b"Not delivered because subscription denies this subject"
    if c.special & SPECIAL_CLOSED:
        return b"Not delivered because client is closed"
    if e.trace_only:
        return NULL
    if t.sub.max_msgs != 0 and t.sub.delivered >= t.sub.max_msgs:
        return b"Not delivered because auto-unsubscribe exceeded"
    if c.blocked and e.no_stall and pending_bytes(c) > (c.max_pending >> 2) * 3:
        return b"Not delivered because fast producer not stalled and consumer is slow"
    return NULL


cdef bint deliver_one_traced(engine_t* e, client_t* src, match_t* m, target_t* t, msg_t* msg) noexcept nogil:
    """deliver_one of a message that is traced. What is internal tells itself what it does."""
    cdef PyObject* traced = e.traced
    cdef client_t* c = t.client
    cdef match_t* there = m
    cdef match_t seen
    cdef shadow_t* shadow = NULL
    cdef const char* why
    cdef bint delivered
    if is_imported(m, c):
        if e.forward_depth != 0 or c.account == NULL:
            return False
        there = see_from_there(m, t, &seen)
        shadow = shadow_of(m, t)
        trace_exported(e, c, there.subject, there.subject_len)
        if shadow == NULL or not shadow.rule.allow_trace:
            if e.trace_only:
                return True
            e.traced = NULL
            delivered = deliver_one(e, src, m, t, msg)
            e.traced = traced
            return delivered
    if c.special & SPECIAL_INTERNAL:
        return deliver_one(e, src, m, t, msg)
    why = why_not(e, src, there, t)
    trace_egress(e, c, shadow.sub if shadow != NULL else t.sub, why)
    if e.trace_only:
        return why == NULL
    return deliver_one(e, src, m, t, msg)


cdef uint32_t deliver_traced(engine_t* e, client_t* src, match_t* m, msg_t* msg) noexcept nogil:
    """deliver_msg of a message that is traced."""
    cdef uint32_t i = 0, k, group, start, sent = 0, first = e.num_forwards
    e.internal = 0
    while i < m.num_targets:
        group = max(m.targets[i].group, <uint32_t>1)
        start = random_below(&e.random, group) if group > 1 else 0
        for k in range(group):
            if deliver_one_traced(e, src, m, &m.targets[i + (start + k) % group], msg):
                sent += 1
                break
        i += group
    if e.num_forwards != first:
        sent -= run_forwards(e, src, first)
    return sent


cdef uint32_t deliver_as(engine_t* e, match_t* m, const char* to, Py_ssize_t to_len, msg_t* msg) noexcept nogil:
    """Deliver a message of the server to everybody in m, the match of `to`, as one on its own subject.

    A blank must stand behind the message's subject. It is the one that is seen in other accounts too, whether an import
    or a service led there. Counts what was sent. Returns how many received it.
    """
    cdef match_t seen = m[0]
    cdef msg_t sent_to = msg[0]
    cdef const char* shown = e.shown
    cdef Py_ssize_t shown_len = e.shown_len
    cdef target_t t
    cdef uint32_t i = 0, k, group, start, sent = 0, first = e.num_forwards
    seen.subject = <char*>msg.subject
    seen.subject_len = <uint32_t>msg.subject_len
    seen.hits = 0           # what prefixes there are carry the matched subject
    sent_to.subject = to
    sent_to.subject_len = to_len
    e.shown = msg.subject
    e.shown_len = msg.subject_len
    e.internal = 0
    while i < m.num_targets:
        group = max(m.targets[i].group, <uint32_t>1)
        start = random_below(&e.random, group) if group > 1 else 0
        for k in range(group):
            t = m.targets[i + (start + k) % group]
            t.prefix = NULL
            if deliver_one(e, NULL, &seen, &t, &sent_to):
                sent += 1
                break
        i += group
    e.shown = shown
    e.shown_len = shown_len
    if unlikely(e.num_forwards != first):
        sent -= run_forwards(e, NULL, first)
    e.counters.out_msgs += sent - e.internal
    e.counters.out_bytes += (sent - e.internal) * msg.size
    return sent


cdef void send_no_responders(engine_t* e, client_t* c, msg_t* msg) noexcept nogil:
    """Answer a request that nobody received: status 503 to the client's own plain subscription on the reply subject."""
    cdef match_t* m = cache_lookup(e, &c.account.sublist, msg.reply, msg.reply_len)
    cdef sub_t* s = NULL
    cdef uint32_t i
    cdef Py_ssize_t hdr = 32 + msg.subject_len
    cdef char* o
    cdef char* start
    if m == NULL:
        return
    for i in range(m.num_targets):
        if m.targets[i].client == c and m.targets[i].group == 0:
            s = m.targets[i].sub
            break
    if s == NULL:
        return
    start = o = out_reserve(e, c, msg.reply_len + s.sid_len + msg.subject_len + 128)
    if o == NULL:
        return
    memcpy(o, b"HMSG ", 5)
    o += 5
    memcpy(o, msg.reply, msg.reply_len)
    o += msg.reply_len
    o[0] = 32
    memcpy(o + 1, s.text, s.sid_len)
    o += 1 + s.sid_len
    o[0] = 32
    o = put_number(o + 1, hdr)
    o[0] = 32
    o = put_number(o + 1, hdr)
    memcpy(o, b"\r\nNATS/1.0 503\r\nNats-Subject: ", 30)
    o += 30
    memcpy(o, msg.subject, msg.subject_len)
    o += msg.subject_len
    memcpy(o, b"\r\n\r\n\r\n", 6)
    c.out.len += o + 6 - start


cdef void job_post(engine_t* e, job_t* job) noexcept nogil:
    """Have job run at the end of the turn; nothing happens where it is posted already."""
    if job.posted:
        return
    job.posted = True
    job.next = NULL
    if e.jobs == NULL:
        e.jobs = job
    else:
        e.last_job.next = job
    e.last_job = job
