"""The client protocol's lexer.

Design: parse_op looks at the input from the start of an operation and says what it is and where its control line ends. It
keeps nothing: an operation that isn't whole is looked at again when more input has come (a control line is short, and
bounded by max_control_line; what doesn't count against that, squeeze drops). So how the input is split can't change what
is parsed.

Oddities that are the reference's too, and that clients may see:
- the first byte behind the blanks belongs to the arguments, whatever it is, a line feed included;
- a carriage return anywhere in the arguments takes one byte off their end;
- PING, PONG and +OK take anything up to the line feed.
"""

from libc.string cimport memchr, memmove

# The verbs, with the number that nats-server's parser gives to the state behind the first letter (its log lines show it).
cdef struct verb_t:
    const char* upper
    int len
    int first_state
    int op
    bint arguments      # else anything up to the line feed is skipped

cdef verb_t[11] VERBS
VERBS[0] = verb_t(b"PUB", 3, 29, OP_PUB, True)
VERBS[1] = verb_t(b"HPUB", 4, 18, OP_HPUB, True)
VERBS[2] = verb_t(b"SUB", 3, 43, OP_SUB, True)
VERBS[3] = verb_t(b"UNSUB", 5, 59, OP_UNSUB, True)
VERBS[4] = verb_t(b"PING", 4, 34, OP_PING, False)
VERBS[5] = verb_t(b"PONG", 4, 37, OP_PONG, False)
VERBS[6] = verb_t(b"CONNECT", 7, 10, OP_CONNECT, True)
VERBS[7] = verb_t(b"INFO", 4, 71, OP_INFO, True)
VERBS[8] = verb_t(b"+OK", 3, 1, OP_OK, False)
VERBS[9] = verb_t(b"-ERR", 4, 4, OP_ERR, True)
VERBS[10] = verb_t(b"HMSG", 4, 24, OP_HMSG, True)


cdef inline char upper(char b) noexcept nogil:
    return b - 32 if 97 <= b <= 122 else b


cdef int state_of(verb_t* v, int matched) noexcept nogil:
    """The reference's state after so many letters of v. P and H alone are taken for PUB and HPUB: they come first."""
    if matched == 0:
        return 0
    if v.op == OP_PING or v.op == OP_PONG or v.op == OP_HMSG:
        return v.first_state + matched - 2
    return v.first_state + matched - 1


cdef int parse_op(const char* p, const char* end, Py_ssize_t max_control_line, op_t* op) noexcept nogil:
    """The operation at p. Returns an OP_ code and fills op.

    OP_MORE where the input ends within the operation's verb or control line; op is undefined then.
    """
    cdef verb_t* v
    cdef verb_t* best = NULL
    cdef int i, k, matched = -1
    cdef Py_ssize_t n = end - p
    for i in range(11):
        v = &VERBS[i]
        k = 0
        while k < v.len and k < n and upper(p[k]) == v.upper[k]:
            k += 1
        if k > matched:
            matched = k
            best = v
        if k == v.len or k == n:
            break
    if matched == n and matched < best.len:
        return OP_MORE
    if matched < best.len:
        op.state = state_of(best, matched)
        op.at = p + matched
        return OP_BAD
    p += best.len
    if best.arguments:
        return parse_arguments(best, p, end, max_control_line, op)
    p = <const char*>memchr(p, 10, end - p)
    if p == NULL:
        return OP_MORE
    op.arg = p
    op.arg_len = 0
    op.end = p + 1
    return best.op


cdef int parse_arguments(verb_t* v, const char* p, const char* end, Py_ssize_t max_control_line,
                         op_t* op) noexcept nogil:
    cdef const char* nl
    # CONNECT and INFO may be followed by their JSON at once, the others need a blank.
    if v.op != OP_CONNECT and v.op != OP_INFO:
        if p == end:
            return OP_MORE
        if p[0] != 32 and p[0] != 9:
            op.state = state_of(v, v.len)
            op.at = p
            return OP_BAD
    while p < end and (p[0] == 32 or p[0] == 9):
        p += 1
    if p == end:
        return OP_MORE
    op.arg = p
    nl = <const char*>memchr(p + 1, 10, end - p - 1)
    if nl == NULL:
        op.arg_len = end - p - (memchr(p + 1, 13, end - p - 1) != NULL)
        return OP_LINE_TOO_LONG if op.arg_len > max_control_line else OP_MORE
    op.arg_len = nl - p
    if memchr(p + 1, 13, nl - p - 1) != NULL:
        op.arg_len -= 1
    op.end = nl + 1
    return OP_LINE_TOO_LONG if op.arg_len > max_control_line else v.op


cdef Py_ssize_t squeeze(char* p, Py_ssize_t n) noexcept nogil:
    """Drop from an operation that isn't whole what has no meaning and no bound: blanks before arguments, all behind PING.

    Returns the new length.
    """
    cdef verb_t* v
    cdef int i, k
    cdef char* q
    if memchr(p, 10, n) != NULL:
        return n
    for i in range(11):
        v = &VERBS[i]
        k = 0
        while k < v.len and k < n and upper(p[k]) == v.upper[k]:
            k += 1
        if k < v.len:
            continue
        if not v.arguments:
            return v.len
        q = p + v.len
        while q < p + n and (q[0] == 32 or q[0] == 9):
            q += 1
        if q - p <= v.len + 1:
            return n
        memmove(p + v.len + 1, q, p + n - q)
        return n - (q - p - v.len - 1)
    return n


cdef int split_args(const char* p, Py_ssize_t n, bint line_ends, arg_t* out, int cap) noexcept nogil:
    """Split at blanks and tabs, and at CR and LF where line_ends. Returns how many; cap + 1 for more than cap."""
    cdef const char* end = p + n
    cdef const char* start
    cdef int count = 0
    while True:
        while p < end and (p[0] == 32 or p[0] == 9 or (line_ends and (p[0] == 13 or p[0] == 10))):
            p += 1
        if p == end:
            return count
        if count == cap:
            return cap + 1
        start = p
        while p < end and not (p[0] == 32 or p[0] == 9 or (line_ends and (p[0] == 13 or p[0] == 10))):
            p += 1
        out[count].p = start
        out[count].n = p - start
        count += 1


cdef Py_ssize_t parse_size(const char* p, Py_ssize_t n) noexcept nogil:
    """A decimal number of at most nine digits, or -1."""
    cdef Py_ssize_t value = 0, i
    if n == 0 or n > 9:
        return -1
    for i in range(n):
        if not 48 <= p[i] <= 57:
            return -1
        value = value * 10 + (p[i] - 48)
    return value


cdef bint parse_pub_args(const char* arg, Py_ssize_t n, bint with_headers, pub_t* pub) noexcept nogil:
    """The arguments of PUB, or of HPUB. False where their number is wrong or a size is none; rest is left unset."""
    cdef arg_t a[4]
    cdef int want = 3 + with_headers
    cdef int count = split_args(arg, n, False, a, want)
    if count != want and count != want - 1:
        return False
    pub.subject = a[0].p
    pub.subject_len = a[0].n
    pub.reply = NULL
    pub.reply_len = 0
    if count == want:
        pub.reply = a[1].p
        pub.reply_len = a[1].n
    pub.size_text = a[count - 1].p
    pub.size_text_len = a[count - 1].n
    pub.size = parse_size(pub.size_text, pub.size_text_len)
    pub.hdr_len = -1
    pub.hdr_text = NULL
    pub.hdr_text_len = 0
    if with_headers:
        pub.hdr_text = a[count - 2].p
        pub.hdr_text_len = a[count - 2].n
        pub.hdr_len = parse_size(pub.hdr_text, pub.hdr_text_len)
        if pub.hdr_len < 0 or pub.hdr_len > pub.size:
            return False
    return pub.size >= 0
