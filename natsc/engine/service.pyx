"""Service imports: requests that cross into another account, and their responses.

The importer's account has an internal subscription on the imported subject. What it receives is sent on right behind the
delivery in hand: on the exporter's subject, with a reply subject "_R_.<account>.<request>" in the exporter's account, and
with a header that tells who asks. The response comes to an internal subscription on "_R_.<account>.>", and is sent back
to the reply subject that the requester gave.

Invariants
1. A response that is waited for is in the engine's hash table and in its service's list, oldest first. It goes when it
   was answered (many: with an empty message), when nobody received the request, or threshold_ns after the last sign of
   life, or when nobody listens for it any more: then nothing is left of a request that is never answered.
2. Between the delivery and the sending on, slices of the message stay valid: both happen within one publish.
3. What has a reply subject of JetStream's acknowledgements keeps it, request or response.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from cpython.ref cimport PyObject, Py_XDECREF

from natsc.engine.deliver cimport deliver_as, deliver_msg, forward_push
from natsc.engine.hooks cimport hook_requester, hook_service_begins, hook_service_ends
from natsc.engine.msgtrace cimport strncasecmp, trace_imported, with_trace_dest
from natsc.engine.random cimport random_below
from natsc.engine.sublist cimport cache_lookup, sublist_match
from natsc.engine.text cimport put_number
from natsc.engine.timers cimport timer_arm, timer_cancel
from natsc.engine.transform cimport mappings_apply, transform_apply
from natsc.engine.types cimport (account_t, client_t, engine_t, forward_t, hash_bytes, match_t, msg_t, response_t,
                                 service_t, sub_t)

cdef enum:
    REPLY_SIZE = 17         # "_R_.<six>.<six>"
    REQUESTER_SIZE = 4096   # room for what is told of a requester, beside the names of accounts
    SERVED = 0              # how a measured request ended: as natsc/server's metrics name it
    NOBODY_THERE = 1
    TIMED_OUT = 2
    INTEREST_LOST = 3
    PRUNE_AT_ONCE = 256     # with more responses it is looked only now and then whether somebody still listens for them
    PRUNE_NS = 100000000
    CHAIN_MAX = 16          # services that a response goes through: deliver.pyx's FORWARD_DEPTH_MAX

cdef char* DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
cdef char* INFO_KEY = b"Nats-Request-Info:"


# ---------------------------------------------------------------------------------------------------- responses

cdef void random_name(engine_t* e, char* out) noexcept nogil:
    """Six digits of base 62."""
    cdef int i
    for i in range(6):
        out[i] = DIGITS[random_below(&e.random, 62)]


cdef void reply_prefix_choose(engine_t* e, account_t* a) noexcept nogil:
    """The first two tokens of the reply subjects in an exporter's account."""
    memcpy(a.reply_prefix, b"_R_.", 4)
    random_name(e, a.reply_prefix + 4)
    a.reply_prefix[10] = 46


cdef bint table_grow(engine_t* e) noexcept nogil:
    cdef uint32_t cap = e.cap_responses * 2 if e.cap_responses else 64
    cdef uint32_t i
    cdef response_t** table = <response_t**>calloc(cap, sizeof(response_t*))
    cdef response_t* r
    if table == NULL:
        return False
    for i in range(e.cap_responses):
        while e.responses[i] != NULL:
            r = e.responses[i]
            e.responses[i] = r.chain
            r.chain = table[r.hash & (cap - 1)]
            table[r.hash & (cap - 1)] = r
    free(e.responses)
    e.responses = table
    e.cap_responses = cap
    return True


cdef response_t* response_find(engine_t* e, const char* subject, Py_ssize_t n) noexcept nogil:
    cdef uint64_t h = hash_bytes(subject, n, e.seed)
    cdef response_t* r = e.responses[h & (e.cap_responses - 1)] if e.cap_responses else NULL
    while r != NULL and not (r.hash == h and r.subject_len == n and memcmp(r.text, subject, n) == 0):
        r = r.chain
    return r


cdef void list_append(service_t* s, response_t* r) noexcept nogil:
    r.prev = s.last
    r.next = NULL
    if s.last != NULL:
        s.last.next = r
    else:
        s.first = r
    s.last = r


cdef void list_remove(service_t* s, response_t* r) noexcept nogil:
    if r.prev != NULL:
        r.prev.next = r.next
    else:
        s.first = r.next
    if r.next != NULL:
        r.next.prev = r.prev
    else:
        s.last = r.prev


cdef void arm(service_t* s) noexcept nogil:
    """Wake when the oldest response has been waited for long enough."""
    if s.first == NULL:
        timer_cancel(&s.e.timers, &s.timer)
    else:
        timer_arm(&s.e.timers, &s.timer, s.first.time_ns + s.threshold_ns, on_timer, s.client)


cdef void on_timer(engine_t* e, client_t* c) noexcept nogil:
    cdef service_t* s = <service_t*>c.owner
    while s.first != NULL and s.first.time_ns + s.threshold_ns <= e.now_ns:
        response_end(e, s.first, NULL, TIMED_OUT)
    arm(s)


cdef response_t* response_new(engine_t* e, service_t* s, account_t* account, account_t* dest, msg_t* msg) noexcept nogil:
    """Wait for the response to a request of account that goes to dest. NULL where memory is out."""
    cdef response_t* r
    if e.num_responses >= e.cap_responses and not table_grow(e):
        return NULL
    r = <response_t*>calloc(1, sizeof(response_t) + REPLY_SIZE + msg.reply_len)
    if r == NULL:
        return NULL
    memcpy(r.text, dest.reply_prefix, 11)
    random_name(e, r.text + 11)
    memcpy(r.text + REPLY_SIZE, msg.reply, msg.reply_len)
    r.subject_len = REPLY_SIZE
    r.to_len = <uint32_t>msg.reply_len
    r.hash = hash_bytes(r.text, r.subject_len, e.seed)
    r.service = s
    r.account = account
    r.dest = dest
    r.time_ns = e.now_ns
    r.wanted = is_wanted(e, r)
    r.chain = e.responses[r.hash & (e.cap_responses - 1)]
    e.responses[r.hash & (e.cap_responses - 1)] = r
    e.num_responses += 1
    s.num_responses += 1
    list_append(s, r)
    if s.first == r:
        arm(s)
    return r


cdef inline bint is_reply(const char* s, Py_ssize_t n) noexcept nogil:
    return n > 4 and memcmp(s, b"_R_.", 4) == 0


cdef bint stop_at_any(sub_t* s, void* ctx) noexcept nogil:
    return False


cdef bint is_wanted(engine_t* e, response_t* r) noexcept nogil:
    """Whether anybody listens where r is to go, behind all the services between."""
    cdef int depth = 0
    while r != NULL and depth < CHAIN_MAX:
        if not is_reply(r.text + r.subject_len, r.to_len):
            return not sublist_match(&r.account.sublist, r.text + r.subject_len, r.to_len, stop_at_any, NULL)
        r = response_find(e, r.text + r.subject_len, r.to_len)
        depth += 1
    return False


cdef bint response_wanted(engine_t* e, const char* subject, Py_ssize_t n) noexcept nogil:
    """Whether anybody gets what is sent to subject: where it is that of a response, whoever listens for that."""
    return not is_reply(subject, n) or is_wanted(e, response_find(e, subject, n))


cdef void prune(engine_t* e) noexcept nogil:
    """Wait for no response that nobody listens for any more."""
    cdef response_t* r
    cdef response_t* chain
    cdef uint32_t i
    for i in range(e.cap_responses):
        r = e.responses[i]
        while r != NULL:
            chain = r.chain
            if r.wanted and not is_wanted(e, r):
                response_end(e, r, NULL, INTEREST_LOST)
            r = chain


cdef void on_prune_timer(engine_t* e, client_t* c) noexcept nogil:
    prune(e)


cdef void responses_prune(engine_t* e) noexcept nogil:
    """Where subscriptions have gone, look whether anybody still listens for the responses that are waited for."""
    if not e.interest_lost:
        return
    e.interest_lost = False
    if e.num_responses <= PRUNE_AT_ONCE:
        prune(e)
    elif e.prune_timer.when_ns == 0:
        timer_arm(&e.timers, &e.prune_timer, e.now_ns + PRUNE_NS + random_below(&e.random, PRUNE_NS // 4), on_prune_timer, NULL)


cdef void response_free(engine_t* e, response_t* r) noexcept nogil:
    """Wait for it no more."""
    cdef response_t** link = &e.responses[r.hash & (e.cap_responses - 1)]
    while link[0] != r:
        link = &link[0].chain
    link[0] = r.chain
    list_remove(r.service, r)
    e.num_responses -= 1
    r.service.num_responses -= 1
    if r.measured != NULL:
        with gil:
            Py_XDECREF(r.measured)
    free(r)


cdef void response_end(engine_t* e, response_t* r, client_t* responder, int how) noexcept nogil:
    if r.measured != NULL:
        hook_service_ends(e, r.measured, responder, how)
    response_free(e, r)


cdef void responses_clear(engine_t* e, service_t* s) noexcept nogil:
    """The service is going: wait for none of its responses."""
    while s.first != NULL:
        response_free(e, s.first)
    timer_cancel(&e.timers, &s.timer)


# ---------------------------------------------------------------------------------------------------- messages

cdef inline char* put(char* o, const char* s, Py_ssize_t n) noexcept nogil:
    memcpy(o, s, n)
    return o + n


cdef Py_ssize_t put_info(client_t* src, service_t* s, char* out) noexcept nogil:
    """Who asks, as JSON: the account, the account that it came through where there is one, the round-trip time."""
    cdef char* o = put(out, b'{"acc":', 7)
    cdef account_t* account = src.account if src != NULL and src.account != NULL else s.account
    o = put(o, account.json_name, account.json_name_len)
    if account != s.account:
        o = put(o, b',"svc":', 7)
        o = put(o, s.account.json_name, s.account.json_name_len)
    if src != NULL and src.rtt_ns:
        o = put_number(put(o, b',"rtt":', 7), src.rtt_ns)
    return put(o, b"}", 1) - out


cdef Py_ssize_t put_reply(msg_t* msg, char* info, Py_ssize_t n) noexcept nogil:
    """Add the reply subject that the requester gave, where it says what the message is: of a fast batch."""
    cdef char* o = info + n - 1
    cdef Py_ssize_t i
    if msg.reply_len < 5 or memcmp(msg.reply + msg.reply_len - 4, b".$FI", 4) != 0:
        return n
    for i in range(msg.reply_len):
        if msg.reply[i] < 32 or msg.reply[i] == 34 or msg.reply[i] == 92:
            return n        # JSON would have to escape it
    o = put(o, b',"reply":"', 10)
    o = put(o, msg.reply, msg.reply_len)
    return put(o, b'"}', 2) - info


cdef Py_ssize_t copy_headers(const char* hdr, Py_ssize_t n, char* out) noexcept nogil:
    """Header lines without any that tells who asks, and without the empty line at the end.

    In whatever case: there are responders whose headers have none.
    """
    cdef char* o = out
    cdef const char* end = hdr + n - 2
    cdef const char* line
    while hdr < end:
        line = hdr
        while hdr < end and hdr[0] != 10:
            hdr += 1
        if hdr < end:
            hdr += 1
        if hdr - line > 18 and strncasecmp(line, INFO_KEY, 18) == 0:
            continue
        o = put(o, line, hdr - line)
    return o - out


cdef char* compose_request(client_t* src, service_t* s, msg_t* msg, const char* info, Py_ssize_t info_len,
                           response_t* r, msg_t* out) noexcept nogil:
    """The request as the exporter's account sees it, in memory for the caller to free; NULL where that is out.

    r: where the response is to go; NULL: the reply subject stays.
    """
    cdef Py_ssize_t hdr_len = msg.hdr_len if msg.hdr_len > 0 else 0
    cdef Py_ssize_t reply_len = r.subject_len if r != NULL else msg.reply_len
    cdef char* data = <char*>malloc(reply_len + 48 + 2 * (hdr_len + info_len + 48) + msg.size)
    cdef char* o = data
    cdef char* head
    cdef Py_ssize_t n
    if data == NULL:
        return NULL
    head = data + reply_len + 48       # the header block is put together here, and then moved
    if hdr_len:
        n = copy_headers(msg.payload, hdr_len, head)
    else:
        n = put(head, b"NATS/1.0\r\n", 10) - head
    n = put(head + n, INFO_KEY, 18) - head
    head[n] = 32
    n = put(head + n + 1, info, info_len) - head
    n = put(head + n, b"\r\n\r\n", 4) - head
    if reply_len:
        o = put(o, <char*>r.text if r != NULL else <char*>msg.reply, reply_len)
        out.reply = data
        o[0] = 32
        o += 1
    else:
        out.reply = NULL
    out.reply_len = reply_len
    out.hdr_len = n
    out.size = n + msg.size - hdr_len
    o = put_number(o, n)
    o[0] = 32
    o = put(put_number(o + 1, out.size), b"\r\n", 2)
    out.payload = o
    o = move(o, head, n)
    o = put(o, msg.payload + hdr_len, msg.size - hdr_len)
    o = put(o, b"\r\n", 2)
    out.tail = data
    out.tail_len = o - data
    return data


cdef inline char* move(char* o, const char* s, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):      # o lies before s
        o[i] = s[i]
    return o + n


cdef bint send_on(engine_t* e, client_t* src, account_t* account, msg_t* msg, forward_t* f, bint allow_trace) noexcept nogil:
    """Deliver what f caused in another account. Returns whether anybody received it."""
    cdef match_t* m
    cdef uint32_t sent
    cdef Py_ssize_t n
    cdef char* mapped = NULL
    if account.mappings != NULL:
        mapped = mappings_apply(account, &e.random, msg.subject, msg.subject_len, &n)
        if mapped != NULL:
            msg.subject = mapped
            msg.subject_len = n
    if e.traced != NULL:
        sent = send_traced(e, src, account, msg, f, allow_trace)
    else:
        m = cache_lookup(e, &account.sublist, msg.subject, msg.subject_len)
        sent = deliver_msg(e, src, m, msg) if m != NULL else 0
    free(mapped)
    if sent == 0:
        return False
    e.counters.out_msgs += sent - e.internal
    e.counters.out_bytes += (sent - e.internal) * msg.size
    account.counters.out_msgs += sent - e.internal
    account.counters.out_bytes += (sent - e.internal) * msg.size
    return True


cdef bint send_as(engine_t* e, account_t* account, msg_t* msg, forward_t* f) noexcept nogil:
    """Deliver a response that receivers are to see on another subject. Returns whether anybody received it."""
    cdef match_t* m = cache_lookup(e, &account.sublist, msg.subject, msg.subject_len)
    cdef const char* to = msg.subject
    cdef Py_ssize_t n = msg.subject_len
    cdef uint32_t sent
    if m == NULL:
        return False
    msg.subject = f.shown
    msg.subject_len = f.shown_len
    sent = deliver_as(e, m, to, n, msg)
    account.counters.out_msgs += sent - e.internal
    account.counters.out_bytes += (sent - e.internal) * msg.size
    return sent != 0


cdef inline bint is_ack(const char* reply, Py_ssize_t n) noexcept nogil:
    return n >= 8 and memcmp(reply, b"$JS.ACK.", 8) == 0


cdef uint32_t send_traced(engine_t* e, client_t* src, account_t* account, msg_t* msg, forward_t* f,
                          bint allow_trace) noexcept nogil:
    """Deliver a traced message in another account, where its trace ends unless that account allows more.

    There the destination of the trace means nothing: the message bears a reply subject that nobody waits on, as
    servers would that have others to hear from.
    """
    cdef PyObject* traced = e.traced
    cdef uint32_t sent = 0
    cdef char dest[REPLY_SIZE]
    cdef char* data
    cdef match_t* m
    cdef msg_t out
    trace_imported(e, account, f.msg.subject, f.msg.subject_len, msg.subject, msg.subject_len)
    if not allow_trace and e.trace_only:
        return 0
    if allow_trace:
        if account.reply_prefix[0] == 0:
            reply_prefix_choose(e, account)
        memcpy(dest, account.reply_prefix, 11)
        random_name(e, dest + 11)
        data = with_trace_dest(msg, dest, REPLY_SIZE, &out)
    else:
        data = with_trace_dest(msg, b"trace disabled", 14, &out)
        e.traced = NULL
    m = cache_lookup(e, &account.sublist, msg.subject, msg.subject_len)
    if data != NULL and m != NULL:
        sent = deliver_msg(e, src, m, &out)
    e.traced = traced
    free(data)
    return sent


cdef void take_request(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept nogil:
    """client_t.on_msg of a service import."""
    cdef forward_t f
    f.run = run_request
    f.owner = c.owner
    f.msg = msg[0]
    f.shown = NULL
    forward_push(e, &f)


cdef void run_request(engine_t* e, client_t* src, forward_t* f) noexcept nogil:
    cdef service_t* s = <service_t*>f.owner
    cdef msg_t out
    cdef response_t* r = NULL
    cdef char* subject = NULL
    cdef char* data
    cdef char* info
    cdef Py_ssize_t cap = s.account.json_name_len + REQUESTER_SIZE
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t room = 0
    cdef bint answered = f.msg.reply != NULL and not is_ack(f.msg.reply, f.msg.reply_len)
    out.subject = f.msg.subject
    out.subject_len = f.msg.subject_len
    if s.transform != NULL:
        out.subject = subject = transform_apply(s.transform, &e.random, f.msg.subject, f.msg.subject_len, &out.subject_len)
        if subject == NULL:
            return
    elif s.to != NULL:
        out.subject = s.to
        out.subject_len = s.to_len
    if src != NULL and src.account != NULL:
        cap += src.account.json_name_len
    if answered:
        room = f.msg.reply_len + 16
    info = <char*>malloc(cap + room)
    if answered and info != NULL:
        r = response_new(e, s, s.account, s.dest, &f.msg)
    if info == NULL or (answered and r == NULL):
        free(subject)
        free(info)
        return
    if s.share and src != NULL:
        n = hook_requester(e, src, s.handle, info, cap)
    if n == 0:
        n = put_info(src, s, info)
    if answered:
        n = put_reply(&f.msg, info, n)
    if s.sampling >= 0:
        measure(e, src, s, r, &f.msg)
    data = compose_request(src, s, &f.msg, info, n, r, &out)
    f.delivered = data != NULL and send_on(e, src, s.dest, &out, f, s.allow_trace)
    if r != NULL and (not f.delivered or e.trace_only):
        r = response_find(e, out.reply, out.reply_len) if data != NULL else r
        if r != NULL and f.delivered:
            response_free(e, r)     # it was only traced
        elif r != NULL:
            response_end(e, r, NULL, NOBODY_THERE)
    free(data)
    free(subject)
    free(info)


cdef void measure(engine_t* e, client_t* src, service_t* s, response_t* r, msg_t* msg) noexcept nogil:
    """Have Python remember a request whose latency is to be told: by chance, or because its headers ask for it."""
    cdef bint drawn = s.sampling >= 100 or (s.sampling > 0 and random_below(&e.random, 100) <= <uint32_t>s.sampling)
    cdef PyObject* measured
    if not drawn and msg.hdr_len <= 0:
        return
    measured = hook_service_begins(e, src, s.handle, msg.payload, max(msg.hdr_len, 0), drawn, r != NULL)
    if r != NULL:
        r.measured = measured
    elif measured != NULL:
        with gil:
            Py_XDECREF(measured)


cdef void take_response(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept nogil:
    """client_t.on_msg of the internal subscription on an exporter's "_R_.<account>.>"."""
    cdef forward_t f
    f.run = run_response
    f.owner = NULL
    f.msg = msg[0]
    f.shown = e.shown
    f.shown_len = e.shown_len
    forward_push(e, &f)


cdef void run_response(engine_t* e, client_t* src, forward_t* f) noexcept nogil:
    cdef response_t* r = response_find(e, f.msg.subject, f.msg.subject_len)
    cdef response_t* back = NULL
    cdef service_t* s
    cdef msg_t out = f.msg
    cdef char* data
    cdef Py_ssize_t n
    if r == NULL:
        return
    s = r.service
    data = <char*>malloc(r.to_len + 1 + REPLY_SIZE + f.msg.tail_len)
    if data == NULL:
        return
    memcpy(data, r.text + r.subject_len, r.to_len)
    data[r.to_len] = 32
    out.subject = data
    out.subject_len = r.to_len
    if f.msg.reply != NULL and not is_ack(f.msg.reply, f.msg.reply_len):    # an answer to the answer is to come
        back = response_new(e, s, r.dest, r.account, &f.msg)
        if back != NULL:
            n = f.msg.reply_len
            out.reply = out.tail = data + r.to_len + 1
            out.reply_len = back.subject_len
            memcpy(<char*>out.tail, back.text, back.subject_len)
            memcpy(<char*>out.tail + back.subject_len, f.msg.tail + n, f.msg.tail_len - n)
            out.payload = out.tail + back.subject_len + (f.msg.payload - f.msg.tail - n)
            out.tail_len = f.msg.tail_len - n + back.subject_len
    if f.shown != NULL:
        f.delivered = send_as(e, r.account, &out, f)
    else:
        f.delivered = send_on(e, src, r.account, &out, f, False)
    free(data)
    r = response_find(e, f.msg.subject, f.msg.subject_len)
    if r == NULL:
        return
    if not f.delivered or not s.many or f.msg.size == 0:
        response_end(e, r, src, SERVED)     # by the responder: whether somebody still listens isn't its business
        return
    r.time_ns = e.now_ns
    list_remove(s, r)
    list_append(s, r)
