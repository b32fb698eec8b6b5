"""A connection's input: operations in, effects on the engine out.

receive takes what a read brought (behind what the last one left), acts on every whole operation and says how much it
consumed. PUB as clients write it goes down a shortcut; everything else, and every PUB of a connection with a SLOW_ bit,
goes through step.

Invariants
1. Output depends on the bytes, not on how reads split them: an operation acts when it is whole. (The arguments of PUB act
   when their line is: max_payload is checked before the payload comes. client_t.need remembers that they have. What of the
   payload is there by then may ask for a trace of it.)
2. A closing client consumes nothing more.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from natsc.engine.account cimport (SUB_BAD_SUBJECT, add_sub, close_client, find_sub, leave_account, remove_sub,
                                   sub_result_t)
from natsc.engine.buffer cimport out_reserve, pending_bytes
from natsc.engine.close cimport (AUTHENTICATION_TIMEOUT, AUTHENTICATION_VIOLATION, MAX_CONTROL_LINE_EXCEEDED,
                                 MAX_PAYLOAD_EXCEEDED, PARSE_ERROR, PROTOCOL_VIOLATION, STALE_CONNECTION)
from natsc.engine.deliver cimport deliver_msg, overflow, send_no_responders
from natsc.engine.hooks cimport (CONNECT_PENDING, CONNECT_REFUSED, VIOLATION_PUBLISH, VIOLATION_REPLY, VIOLATION_SUBSCRIBE,
                                 VIOLATION_TOKENS, hook_connect, hook_error, hook_first_op, hook_first_ping, hook_info,
                                 hook_trace, hook_trace_payload, hook_violation)
from natsc.engine.msgtrace cimport (TRACE_MUTE, TRACE_SKIP, TRACED, asks_for_trace, trace_begin, trace_end, trace_mapped,
                                    with_trace_dest)
from natsc.engine.parser cimport (OP_BAD, OP_CONNECT, OP_ERR, OP_HMSG, OP_HPUB, OP_INFO, OP_LINE_TOO_LONG, OP_MORE, OP_PING,
                                  OP_PONG, OP_PUB, OP_SUB, OP_UNSUB, arg_t, op_t, parse_op, parse_pub_args,
                                  parse_pub_fast, parse_size, pub_t, split_args)
from natsc.engine.permissions cimport may_publish, may_subscribe, replies_free
from natsc.engine.random cimport random_below
from natsc.engine.sublist cimport ack_lookup, cache_lookup, match_valid
from natsc.engine.subject cimport count_tokens, is_valid_literal
from natsc.engine.timers cimport timer_arm, timer_cancel
from natsc.engine.transform cimport mappings_apply
from natsc.engine.types cimport (SLOW_AUTH, SLOW_PEDANTIC, SLOW_TRACE, SLOW_VERBOSE, account_t, client_t,
                                 counters_t, engine_t, likely, match_t, msg_t, sub_t, unlikely)

cdef enum:
    FIRST_PING_NS = 2000000000          # the first PING comes early, to measure the round trip
    PAYLOAD_STATE = 40                  # the reference parser's MSG_PAYLOAD; MSG_END_R and MSG_END_N follow

cdef uint64_t RTT_INTERVAL_NS = 3600000000000ULL    # and again after an hour


# ---------------------------------------------------------------------------------------------------- output

cdef void send_bytes(engine_t* e, client_t* c, const char* text, Py_ssize_t n) noexcept nogil:
    cdef char* o = out_reserve(e, c, n)
    if o != NULL:
        memcpy(o, text, n)
        c.out.len += n
    if unlikely(o == NULL or pending_bytes(c) > c.max_pending):
        overflow(e, c)      # it asks and asks, and doesn't read the answers


cdef void send_err(engine_t* e, client_t* c, const char* text, Py_ssize_t n) noexcept nogil:
    """-ERR '<text>'"""
    cdef char* o
    if c.slow & SLOW_TRACE:
        hook_trace(e, c, b"->>", b"-ERR", text, n)
    o = out_reserve(e, c, n + 9)
    if o != NULL:
        memcpy(o, b"-ERR '", 6)
        memcpy(o + 6, text, n)
        memcpy(o + 6 + n, b"'\r\n", 3)
        c.out.len += n + 9
    if unlikely(o == NULL or pending_bytes(c) > c.max_pending):
        overflow(e, c)


cdef void send_ok(engine_t* e, client_t* c) noexcept nogil:
    if c.slow & SLOW_TRACE:
        hook_trace(e, c, b"->>", b"OK", NULL, -1)
    send_bytes(e, c, b"+OK\r\n", 5)


cdef void send_ping(engine_t* e, client_t* c) noexcept nogil:
    c.rtt_start_ns = e.now_ns
    c.pings_out += 1
    if c.slow & SLOW_TRACE:
        hook_trace(e, c, b"->>", b"PING", NULL, -1)
    send_bytes(e, c, b"PING\r\n", 6)


# ---------------------------------------------------------------------------------------------------- timers

cdef uint64_t ping_interval(engine_t* e, client_t* c) noexcept nogil:
    return c.ping_interval_ns or e.ping_interval_ns


cdef void on_ping_timer(engine_t* e, client_t* c) noexcept nogil:
    cdef bint need_rtt = c.rtt_start_ns == 0 or e.now_ns - c.rtt_start_ns > RTT_INTERVAL_NS
    if e.jump_ns and c.pings_out and c.rtt_start_ns >= e.jump_ns:
        start_ping(e, c, False)     # it had no chance to answer
        return
    if need_rtt or e.now_ns - c.last_in_ns >= ping_interval(e, c):
        if c.pings_out + 1 > e.max_pings_out:
            e.stale_connections += 1
            hook_error(e, c, b"stale", NULL, 0, 0, 0)
            send_err(e, c, b"Stale Connection", 16)
            close_client(e, c, STALE_CONNECTION)
            return
        send_ping(e, c)
    start_ping(e, c, False)


cdef void start_ping(engine_t* e, client_t* c, bint first) noexcept nogil:
    """Arm the PING timer; the first one is early and spread over a fifth of its time, so that clients don't align."""
    cdef uint64_t d = ping_interval(e, c)
    if first:
        if d > FIRST_PING_NS:
            d = FIRST_PING_NS
        d += random_below(&e.random, <uint32_t>(d // 5) + 1)
    timer_arm(&e.timers, &c.ping_timer, e.now_ns + d, on_ping_timer, c)


cdef void on_auth_timer(engine_t* e, client_t* c) noexcept nogil:
    hook_error(e, c, b"auth_timeout", NULL, 0, 0, 0)
    send_err(e, c, b"Authentication Timeout", 22)
    close_client(e, c, AUTHENTICATION_TIMEOUT)


cdef void start_auth_timer(engine_t* e, client_t* c, Py_ssize_t timeout_ns) noexcept nogil:
    timer_arm(&e.timers, &c.auth_timer, e.now_ns + timeout_ns, on_auth_timer, c)


cdef void detach(engine_t* e, client_t* c) noexcept nogil:
    """Give back everything that c has in the engine but its struct and its unsent output."""
    if c.detached:
        return
    c.detached = True
    timer_cancel(&e.timers, &c.ping_timer)
    timer_cancel(&e.timers, &c.auth_timer)
    leave_account(e, c)
    replies_free(c)
    c.perms = NULL
    free(c.tail)
    c.tail = NULL
    c.tail_len = 0
    c.tail_cap = 0


# ---------------------------------------------------------------------------------------------------- publish

cdef bint is_gateway(const char* s, Py_ssize_t n) noexcept nogil:
    """A reply as gateways write it, in the new form or the old one."""
    return (n > 5 and memcmp(s, b"_GR_.", 5) == 0) or (n > 4 and memcmp(s, b"$GR.", 4) == 0)


cdef inline bint is_ack(const char* s, Py_ssize_t n) noexcept nogil:
    """What acknowledges a message of JetStream."""
    return n > 8 and memcmp(s, b"$JS.ACK.", 8) == 0


cdef inline bint is_reserved_reply(const char* r, Py_ssize_t n) noexcept nogil:
    """Replies that only the server hands out: service imports, JetStream acks, gateways."""
    if likely(r[0] != 95 and r[0] != 36):
        return False
    return (n >= 4 and memcmp(r, b"_R_.", 4) == 0) or is_ack(r, n) or is_gateway(r, n)


cdef bint is_reserved_subject(const char* s, Py_ssize_t n) noexcept nogil:
    return (n >= 5 and memcmp(s, b"$NRG.", 5) == 0) or is_gateway(s, n)


cdef inline void publish_as_is(engine_t* e, client_t* c, msg_t* msg, bint same) noexcept nogil:
    """Check a message, deliver it, answer it."""
    cdef match_t* m = c.last
    cdef uint32_t sent
    c.counters.in_msgs += 1
    c.counters.in_bytes += msg.size
    if not (same and match_valid(m) and m.sublist == &c.account.sublist):
        if unlikely(msg.subject_len and (msg.subject[0] == 36 or msg.subject[0] == 95)):
            if is_reserved_subject(msg.subject, msg.subject_len):
                hook_violation(e, c, VIOLATION_PUBLISH, msg.subject, msg.subject_len, NULL, 0, NULL, 0)
                return
            if is_ack(msg.subject, msg.subject_len):
                m = ack_lookup(e, &c.account.sublist, msg.subject, msg.subject_len)
            else:
                m = cache_lookup(e, &c.account.sublist, msg.subject, msg.subject_len)
        else:
            m = cache_lookup(e, &c.account.sublist, msg.subject, msg.subject_len)
        if unlikely(m == NULL):
            return
        c.last = m
    else:
        m.hits += 1
    if unlikely(c.perms != NULL) and not may_publish(e, c, m):
        hook_violation(e, c, VIOLATION_PUBLISH, msg.subject, msg.subject_len, NULL, 0, NULL, 0)
        return
    if msg.reply != NULL and unlikely(is_reserved_reply(msg.reply, msg.reply_len)):
        hook_violation(e, c, VIOLATION_REPLY, msg.reply, msg.reply_len, NULL, 0, NULL, 0)
        return
    if unlikely(c.slow & SLOW_VERBOSE):
        send_ok(e, c)
    sent = deliver_msg(e, c, m, msg) if m.num_targets else 0
    if sent:
        sent -= e.internal
        e.counters.out_msgs += sent
        e.counters.out_bytes += sent * msg.size
        c.account.counters.out_msgs += sent
        c.account.counters.out_bytes += sent * msg.size
    elif msg.reply != NULL and c.no_responders:
        send_no_responders(e, c, msg)


cdef void publish_mapped(engine_t* e, client_t* c, msg_t* msg) noexcept nogil:
    """A message of a client whose account has mappings. Only after them its subject means anything."""
    cdef Py_ssize_t n
    cdef char* mapped = mappings_apply(c.account, &e.random, msg.subject, msg.subject_len, &n)
    if mapped != NULL:
        msg.subject = mapped
        msg.subject_len = n
        if e.traced != NULL:
            trace_mapped(e, mapped, n)
    publish_as_is(e, c, msg, False)
    free(mapped)


cdef void publish_traced(engine_t* e, client_t* c, msg_t* msg) noexcept nogil:
    """A message whose headers may ask for its way to be told."""
    cdef int verdict = trace_begin(e, c, msg.payload, msg.hdr_len, msg.subject, msg.subject_len, msg.size, NULL)
    cdef msg_t out = msg[0]
    cdef char* data = NULL
    if verdict == TRACE_SKIP:
        return
    if verdict == TRACE_MUTE:
        data = with_trace_dest(msg, b"trace disabled", 14, &out)
        if data == NULL:
            return
    if c.account.mappings != NULL:
        publish_mapped(e, c, &out)
    else:
        publish_as_is(e, c, &out, False)
    free(data)
    if verdict == TRACED:
        trace_end(e)


cdef inline void publish(engine_t* e, client_t* c, msg_t* msg, bint same) noexcept nogil:
    """A message of a client. same: the subject is that of c.last."""
    if unlikely(msg.hdr_len > 0) and unlikely(asks_for_trace(c.account, msg.payload, msg.hdr_len)):
        publish_traced(e, c, msg)
    elif unlikely(c.account.mappings != NULL):
        publish_mapped(e, c, msg)
    else:
        publish_as_is(e, c, msg, same)


cdef uint32_t publish_own(engine_t* e, account_t* a, msg_t* msg) noexcept nogil:
    """A message of the server itself into a. Returns how many received it."""
    cdef match_t* m = cache_lookup(e, &a.sublist, msg.subject, msg.subject_len)
    cdef uint32_t sent
    if m == NULL or m.num_targets == 0:
        return 0
    sent = deliver_msg(e, NULL, m, msg)
    e.counters.out_msgs += sent - e.internal
    e.counters.out_bytes += (sent - e.internal) * msg.size
    a.counters.out_msgs += sent - e.internal
    a.counters.out_bytes += (sent - e.internal) * msg.size
    return sent


cdef bint compose(engine_t* e, pub_t* pub, const char* payload, msg_t* msg) noexcept nogil:
    """Put the tail of a message together as it would have come over the shortcut. False where memory is out."""
    cdef Py_ssize_t n = pub.reply_len + pub.hdr_text_len + pub.size_text_len + pub.size + 8
    cdef char* o
    if n > e.scratch_cap:
        o = <char*>realloc(e.scratch, n)
        if o == NULL:
            return False
        e.scratch = o
        e.scratch_cap = n
    o = e.scratch
    msg.reply = NULL
    if pub.reply != NULL:
        memcpy(o, pub.reply, pub.reply_len)
        msg.reply = o
        o += pub.reply_len
        o[0] = 32
        o += 1
    if pub.hdr_len > 0:
        memcpy(o, pub.hdr_text, pub.hdr_text_len)
        o += pub.hdr_text_len
        o[0] = 32
        o += 1
    memcpy(o, pub.size_text, pub.size_text_len)
    o += pub.size_text_len
    memcpy(o, b"\r\n", 2)
    msg.payload = o + 2
    memcpy(o + 2, payload, pub.size + 2)
    msg.tail = e.scratch
    msg.tail_len = o + 2 + pub.size + 2 - e.scratch
    msg.subject = pub.subject
    msg.subject_len = pub.subject_len
    msg.reply_len = pub.reply_len
    msg.size = pub.size
    msg.hdr_len = pub.hdr_len if pub.hdr_len else -1     # HPUB with no header block is delivered as MSG
    return True


# ---------------------------------------------------------------------------------------------------- operations

cdef void parse_error(engine_t* e, client_t* c, int state, const char* at, const char* base, const char* end) noexcept nogil:
    # The reference quotes 32 bytes, or one less than there are.
    hook_error(e, c, b"parse", at, 32 if end - at >= 32 else end - at - 1, state, at - base)
    send_err(e, c, b"Unknown Protocol Operation", 26)
    close_client(e, c, PROTOCOL_VIOLATION)


cdef void violation(engine_t* e, client_t* c, const char* what, op_t* op) noexcept nogil:
    """Bad arguments: the connection is closed without a word, as the reference does."""
    hook_error(e, c, what, op.arg, op.arg_len, 0, 0)
    close_client(e, c, PROTOCOL_VIOLATION)


cdef void payload_violation(engine_t* e, client_t* c, Py_ssize_t size) noexcept nogil:
    hook_error(e, c, b"max_payload", NULL, 0, size, c.max_payload)
    send_err(e, c, b"Maximum Payload Violation", 25)
    close_client(e, c, MAX_PAYLOAD_EXCEEDED)


cdef void trace_too_big(engine_t* e, client_t* c, pub_t* pub, const char* hdr, Py_ssize_t have) noexcept nogil:
    """Tell the way of a message that ends here, as far as its headers have come by now."""
    if have > 0 and asks_for_trace(c.account, hdr, have) and trace_begin(
            e, c, hdr, have, pub.subject, pub.subject_len, pub.size, b"maximum payload exceeded") == TRACED:
        trace_end(e)


cdef bint check_pub(engine_t* e, client_t* c, int code, op_t* op, Py_ssize_t have, pub_t* pub) noexcept nogil:
    """Act on the arguments of PUB or HPUB, behind which there are `have` bytes. False where the client is closing now."""
    if code == OP_HPUB and not c.headers:
        violation(e, c, b"no_headers", op)
        return False
    if not parse_pub_args(op.arg, op.arg_len, code == OP_HPUB, pub):
        violation(e, c, b"pub_args", op)
        return False
    if pub.size > c.max_payload:
        trace_too_big(e, c, pub, op.end, min(have, pub.hdr_len))
        payload_violation(e, c, pub.size)
        return False
    if c.slow & SLOW_PEDANTIC and not is_valid_literal(pub.subject, pub.subject_len):
        send_err(e, c, b"Invalid Publish Subject", 23)
    return True


cdef const char* on_pub(engine_t* e, client_t* c, int code, op_t* op, const char* p, const char* end,
                        bint resumed) noexcept nogil:
    """PUB or HPUB, whose control line is whole. Returns where the next operation starts, NULL to wait or stop.

    HMSG too: no client may send it, but the reference takes it for an empty message to the empty subject.
    """
    cdef pub_t pub
    cdef msg_t msg
    cdef Py_ssize_t have = end - op.end
    cdef int bad = 0
    if code == OP_HMSG:
        memset(&pub, 0, sizeof(pub_t))
        pub.subject = pub.size_text = op.end
        pub.hdr_len = -1
    elif resumed:
        parse_pub_args(op.arg, op.arg_len, code == OP_HPUB, &pub)
    elif not check_pub(e, c, code, op, have, &pub):
        return NULL
    if have > pub.size and op.end[pub.size] != 13:
        bad = 1
    elif have > pub.size + 1 and op.end[pub.size + 1] != 10:
        bad = 2
    if bad:
        parse_error(e, c, PAYLOAD_STATE + bad, op.end + pub.size + bad - 1, p, end)
        return NULL
    if have < pub.size + 2:
        c.need = op.end - p + pub.size + 2
        return NULL
    if c.slow & SLOW_TRACE:
        hook_trace_payload(e, c, op.end, pub.size, pub.hdr_len)
    if compose(e, &pub, op.end, &msg):
        publish(e, c, &msg, False)
    return op.end + pub.size + 2


cdef void on_sub(engine_t* e, client_t* c, op_t* op) noexcept nogil:
    cdef arg_t a[3]
    cdef arg_t queue
    cdef int n = split_args(op.arg, op.arg_len, True, a, 3)
    cdef sub_result_t r
    if n != 2 and n != 3:
        violation(e, c, b"sub_args", op)
        return
    queue.p = a[1].p
    queue.n = a[1].n if n == 3 else 0
    if c.perms != NULL and not may_subscribe(c, a[0].p, a[0].n, queue.p, queue.n) or (
            queue.n == 5 and memcmp(queue.p, b"_sys_", 5) == 0):
        hook_violation(e, c, VIOLATION_SUBSCRIBE, a[0].p, a[0].n, queue.p, queue.n, a[n - 1].p, a[n - 1].n)
        return
    if c.max_sub_tokens > 0 and count_tokens(a[0].p, a[0].n) > c.max_sub_tokens:
        hook_violation(e, c, VIOLATION_TOKENS, a[0].p, a[0].n, queue.p, queue.n, a[n - 1].p, a[n - 1].n)
        return
    if c.max_subs >= 0 and c.num_subs >= <uint64_t>c.max_subs:
        hook_error(e, c, b"max_subs", NULL, 0, 0, 0)
        send_err(e, c, b"maximum subscriptions exceeded", 30)
        return
    r = add_sub(e, c, a[0].p, a[0].n, queue.p, queue.n, a[n - 1].p, a[n - 1].n)
    if r == SUB_BAD_SUBJECT:
        send_err(e, c, b"Invalid Subject", 15)
    elif c.slow & SLOW_VERBOSE:
        send_ok(e, c)


cdef void on_unsub(engine_t* e, client_t* c, op_t* op) noexcept nogil:
    cdef arg_t a[2]
    cdef int n = split_args(op.arg, op.arg_len, True, a, 2)
    cdef Py_ssize_t max_msgs = -1
    cdef sub_t* s
    if n != 1 and n != 2:
        violation(e, c, b"unsub_args", op)
        return
    if n == 2:
        max_msgs = parse_size(a[1].p, a[1].n)
    s = find_sub(e, c, a[0].p, a[0].n)
    if s != NULL:
        if max_msgs > 0 and <uint64_t>max_msgs > s.delivered:
            s.max_msgs = max_msgs
        else:
            remove_sub(e, c, s)
    if c.slow & SLOW_VERBOSE:
        send_ok(e, c)


cdef void on_ping(engine_t* e, client_t* c) noexcept nogil:
    c.last_in_ns = e.now_ns
    if c.slow & SLOW_TRACE:
        hook_trace(e, c, b"<<-", b"PING", NULL, -1)
        hook_trace(e, c, b"->>", b"PONG", NULL, -1)
    send_bytes(e, c, b"PONG\r\n", 6)
    if c.connected and not c.first_pong_sent:
        c.first_pong_sent = True
        hook_first_ping(e, c)


cdef void on_pong(engine_t* e, client_t* c) noexcept nogil:
    if c.slow & SLOW_TRACE:
        hook_trace(e, c, b"<<-", b"PONG", NULL, -1)
    c.pings_out = 0
    c.rtt_ns = e.now_ns - c.rtt_start_ns if c.rtt_start_ns else 0
    if c.rtt_ns == 0:
        c.rtt_ns = 1


cdef void trace_op(engine_t* e, client_t* c, int code, op_t* op) noexcept nogil:
    if code == OP_PUB:
        hook_trace(e, c, b"<<-", b"PUB", op.arg, op.arg_len)
    elif code == OP_HPUB:
        hook_trace(e, c, b"<<-", b"HPUB", op.arg, op.arg_len)
    elif code == OP_SUB:
        hook_trace(e, c, b"<<-", b"SUB", op.arg, op.arg_len)
    elif code == OP_UNSUB:
        hook_trace(e, c, b"<<-", b"UNSUB", op.arg, op.arg_len)
    elif code == OP_CONNECT:
        hook_trace(e, c, b"<<-", b"CONNECT", op.arg, op.arg_len)


cdef const char* step(engine_t* e, client_t* c, const char* p, const char* end) noexcept nogil:
    """One operation at p, with everything that may come up. Returns where the next starts, NULL to wait or stop."""
    cdef op_t op
    cdef int code
    cdef bint resumed = c.need != 0
    if c.slow & SLOW_AUTH and p[0] != 67 and p[0] != 99:
        code = hook_first_op(e, c)
        if code == CONNECT_PENDING:
            c.suspended = True      # the operation comes again with what is behind it
            return NULL
        if code == CONNECT_REFUSED:
            close_client(e, c, AUTHENTICATION_VIOLATION)    # the hook has done so, unless it failed
            return NULL
    code = parse_op(p, end, c.max_control_line, &op)
    if code == OP_MORE:
        return NULL
    c.need = 0
    if code == OP_BAD:
        parse_error(e, c, op.state, op.at, p, end)
        return NULL
    if code == OP_LINE_TOO_LONG:
        hook_error(e, c, b"max_control_line", op.arg, min(op.arg_len, 128), c.max_control_line, op.arg_len)
        send_err(e, c, b"maximum control line exceeded", 29)
        close_client(e, c, MAX_CONTROL_LINE_EXCEEDED)
        return NULL
    if c.slow & SLOW_TRACE and not resumed:
        trace_op(e, c, code, &op)
    if code == OP_PUB or code == OP_HPUB or code == OP_HMSG:
        return on_pub(e, c, code, &op, p, end, resumed)
    if code == OP_SUB:
        c.last_in_ns = c.last_ns = e.now_ns
        on_sub(e, c, &op)
    elif code == OP_UNSUB:
        c.last_in_ns = c.last_ns = e.now_ns
        on_unsub(e, c, &op)
    elif code == OP_PING:
        on_ping(e, c)
    elif code == OP_PONG:
        on_pong(e, c)
    elif code == OP_CONNECT:
        c.last_ns = e.now_ns
        if hook_connect(e, c, op.arg, op.arg_len) == CONNECT_PENDING:
            c.suspended = True
    elif code == OP_INFO:
        if not hook_info(e, c, op.arg, op.arg_len):
            violation(e, c, b"info_args", &op)
    elif code == OP_ERR:
        hook_error(e, c, b"client_err", op.arg, op.arg_len, 0, 0)
        close_client(e, c, PARSE_ERROR)
    return op.end


cdef const char* publish_run(engine_t* e, client_t* c, const char* p, const char* end) noexcept nogil:
    """The shortcut: publishes as long as they come, whole and well formed. Returns where something else starts."""
    cdef pub_t pub
    cdef msg_t msg
    cdef const char* body
    cdef match_t* last
    while end - p >= c.need:
        last = c.last
        if likely(last != NULL):
            body = parse_pub_fast(p, end, last.subject, last.subject_len, &pub)
        else:
            body = parse_pub_fast(p, end, NULL, 0, &pub)
        if unlikely(body == NULL or pub.size > c.max_payload or (pub.hdr_len >= 0 and not c.headers)
                    or pub.subject_len + pub.reply_len > c.max_control_line - 24):
            return p
        if end - body < pub.size + 2:
            if end - body > pub.size:
                return p
            c.need = body - p + pub.size + 2
            return p
        if unlikely(body[pub.size] != 13 or body[pub.size + 1] != 10):
            return p
        c.need = 0
        msg.subject = pub.subject
        msg.subject_len = pub.subject_len
        msg.reply = pub.reply
        msg.reply_len = pub.reply_len
        msg.tail = pub.rest
        msg.tail_len = body + pub.size + 2 - pub.rest
        msg.payload = body
        msg.size = pub.size
        msg.hdr_len = pub.hdr_len
        publish(e, c, &msg, pub.same)
        p = body + pub.size + 2
        if c.slow:
            break
    return p


cdef void settle(engine_t* e, client_t* c, account_t* account, counters_t* before) noexcept nogil:
    """Add what c published since before to the engine's and the account's counters."""
    cdef uint64_t msgs = c.counters.in_msgs - before.in_msgs
    cdef uint64_t octets = c.counters.in_bytes - before.in_bytes
    if msgs == 0:
        return
    c.last_in_ns = c.last_ns = e.now_ns
    e.counters.in_msgs += msgs
    e.counters.in_bytes += octets
    account.counters.in_msgs += msgs
    account.counters.in_bytes += octets
    before[0] = c.counters


cdef inline bint needs_more(client_t* c, const char* p, const char* end) noexcept nogil:
    """Whether the operation at p isn't whole. A wrong byte where a CR must be is an error before the last one comes."""
    return end - p < c.need and not (end - p == c.need - 1 and end[-1] != 13)


cdef Py_ssize_t receive(engine_t* e, client_t* c, const char* base, Py_ssize_t n) noexcept nogil:
    """Act on n bytes of input at base. Returns how many were consumed; the rest must come again with more behind it.

    All of a closing client's input counts as consumed.
    """
    cdef const char* p = base
    cdef const char* end = base + n
    cdef const char* q
    cdef counters_t before = c.counters
    cdef account_t* account = c.account
    while p < end and not c.suspended and not c.closing:
        if c.slow == 0:
            q = p
            p = publish_run(e, c, p, end)
            if c.closing or p == end or needs_more(c, p, end):
                break
        elif needs_more(c, p, end):
            break
        q = step(e, c, p, end)
        if q == NULL:
            break
        p = q
        if c.account != account:
            settle(e, c, account, &before)
            account = c.account
    settle(e, c, account, &before)
    return n if c.closing else p - base
