"""The bytes of what a consumer sends: a stored message behind its acknowledgement subject, and NATS/1.0 status lines.

The subject of a message's reply is $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport realloc
from libc.string cimport memcpy

from natsc.engine.text cimport put_number
from natsc.engine.types cimport msg_t
from natsc.jetstream.layout cimport stored_t

cdef uint64_t NO_NUMBER = 0xFFFFFFFFFFFFFFFFULL


cdef Py_ssize_t write_ack_numbers(char* out, uint64_t deliveries, uint64_t sseq, uint64_t dseq, int64_t ts_ns,
                                  uint64_t pending) noexcept nogil:
    """What stands behind "$JS.ACK.<stream>.<consumer>."; at most ACK_NUMBERS_MAX bytes. Returns the length."""
    cdef char* o = out
    o = put_number(o, deliveries)
    o[0] = 46
    o = put_number(o + 1, sseq)
    o[0] = 46
    o = put_number(o + 1, dseq)
    o[0] = 46
    o = put_number(o + 1, <uint64_t>ts_ns)
    o[0] = 46
    o = put_number(o + 1, pending)
    return o - out


cdef uint64_t read_number(const char* p, const char* end) noexcept nogil:
    cdef uint64_t n = 0
    if p == end:
        return NO_NUMBER
    while p < end:
        if not 48 <= p[0] <= 57:
            return NO_NUMBER
        n = n * 10 + (p[0] - 48)
        p += 1
    return n


cdef bint read_ack_subject(const char* subject, Py_ssize_t n, int first, ack_info_t* out) noexcept nogil:
    """The numbers of an acknowledgement subject, from the token first on. False where there are fewer."""
    cdef const char* end = subject + n
    cdef const char* p = subject
    cdef const char* start
    cdef uint64_t[3] found
    cdef int i
    while first > 0 and p < end:
        first -= p[0] == 46
        p += 1
    for i in range(3):
        start = p
        while p < end and p[0] != 46:
            p += 1
        if p == end:
            return False
        found[i] = read_number(start, p)
        p += 1
    out.deliveries = found[0]
    out.sseq = found[1]
    out.dseq = found[2]
    return True


cdef char* scratch_reserve(scratch_t* s, Py_ssize_t n) noexcept nogil:
    """n bytes; NULL where memory is out."""
    cdef char* grown
    if n > s.cap:
        grown = <char*>realloc(s.data, max(n, s.cap * 2, <Py_ssize_t>1024))
        if grown == NULL:
            return NULL
        s.data = grown
        s.cap = max(n, s.cap * 2, <Py_ssize_t>1024)
    return s.data


cdef bint compose(scratch_t* s, const stored_t* m, const char* reply, Py_ssize_t reply_len, bint headers_only,
                  const char* pin, Py_ssize_t pin_len, msg_t* out) noexcept nogil:
    """Put m together as it is delivered. out then points into s, a blank behind the subject. False where memory is out.

    headers_only: without the payload, whose size a header tells. pin: the id of the pinned client, for a header too.
    """
    cdef char size_line[40]
    cdef char pin_line[160]
    cdef Py_ssize_t size_n = 0, pin_n = 0, hdr = m.hdr_len, body = m.msg_len
    cdef char* o
    if headers_only:
        size_n = snprintf(size_line, 40, b"Nats-Msg-Size: %zd\r\n", m.msg_len)
        body = 0
    if pin_len:
        pin_n = snprintf(pin_line, 160, b"Nats-Pin-Id: %.*s\r\n", <int>min(pin_len, <Py_ssize_t>128), pin)
    if hdr == 0 and size_n + pin_n:
        hdr = 12        # "NATS/1.0\r\n" and the last line end
    hdr += size_n + pin_n
    o = scratch_reserve(s, m.subject_len + reply_len + hdr + body + 64)
    if o == NULL:
        return False
    memcpy(o, m.subject, m.subject_len)
    o[m.subject_len] = 32
    out.subject = o
    out.subject_len = m.subject_len
    o += m.subject_len + 1
    out.tail = o
    memcpy(o, reply, reply_len)
    out.reply = o
    out.reply_len = reply_len
    o[reply_len] = 32
    o += reply_len + 1
    if hdr:
        o = put_number(o, hdr)
        o[0] = 32
        o += 1
    o = put_number(o, hdr + body)
    memcpy(o, b"\r\n", 2)
    o += 2
    out.payload = o
    out.size = hdr + body
    out.hdr_len = hdr if hdr else -1
    if hdr:
        if m.hdr_len >= 2:
            memcpy(o, m.hdr, m.hdr_len - 2)
            o += m.hdr_len - 2
        else:
            memcpy(o, b"NATS/1.0\r\n", 10)
            o += 10
        memcpy(o, size_line, size_n)
        memcpy(o + size_n, pin_line, pin_n)
        o += size_n + pin_n
        memcpy(o, b"\r\n", 2)
        o += 2
    memcpy(o, m.msg, body)
    memcpy(o + body, b"\r\n", 2)
    out.tail_len = o + body + 2 - out.tail
    return True


cdef Py_ssize_t write_status(char* out, const char* status, bint with_pending, int64_t msgs, int64_t octets) noexcept nogil:
    """A header block with a status ("404 No Messages"), and what a pull request still wanted. At most STATUS_MAX bytes."""
    cdef int n
    if with_pending:
        n = snprintf(out, STATUS_MAX, b"NATS/1.0 %s\r\nNats-Pending-Messages: %lld\r\nNats-Pending-Bytes: %lld\r\n\r\n", status,
                     <long long>msgs, <long long>octets)
    else:
        n = snprintf(out, STATUS_MAX, b"NATS/1.0 %s\r\n\r\n", status)
    return min(n, STATUS_MAX - 1)


cdef Py_ssize_t write_heartbeat(char* out, uint64_t dseq, uint64_t sseq, const char* stalled, Py_ssize_t n) noexcept nogil:
    """An idle heartbeat: the last sequences that were delivered, and the flow control request that nobody answers."""
    cdef int used = snprintf(out, STATUS_MAX, b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: %llu\r\n"
                             b"Nats-Last-Stream: %llu\r\n", <unsigned long long>dseq, <unsigned long long>sseq)
    if n and n < STATUS_MAX - 200:
        used += snprintf(out + used, STATUS_MAX - used, b"Nats-Consumer-Stalled: %.*s\r\n", <int>n, stalled)
    used += snprintf(out + used, STATUS_MAX - used, b"\r\n")
    return min(used, STATUS_MAX - 1)
