# The client protocol's lexer: where one operation ends, and what its arguments are. It changes no state and answers
# nothing; engine/client.pyx acts on what it finds.

from libc.string cimport memchr, memcmp
from natsc.engine.types cimport likely, unlikely

# What parse_op found. MORE and BAD are no operations.
cdef enum:
    OP_MORE = 0             # the operation isn't whole yet
    OP_BAD = 1              # no such operation: op.state and op.at say where
    OP_PUB = 2
    OP_HPUB = 3
    OP_SUB = 4
    OP_UNSUB = 5
    OP_PING = 6
    OP_PONG = 7
    OP_CONNECT = 8
    OP_INFO = 9
    OP_OK = 10
    OP_ERR = 11
    OP_HMSG = 12            # nothing that a client may send, but see on_pub in engine/client.pyx
    OP_LINE_TOO_LONG = 13   # op.arg is longer than max_control_line

# One operation. Slices point into the input.
cdef struct op_t:
    const char* arg         # arguments, without leading blanks and line end
    Py_ssize_t arg_len
    const char* end         # behind the control line
    int state               # OP_BAD: the number of nats-server's parser state, for the log line
    const char* at          # OP_BAD: the first byte that doesn't fit

# Arguments of PUB and HPUB.
cdef struct pub_t:
    const char* subject
    Py_ssize_t subject_len
    const char* reply       # NULL = none
    Py_ssize_t reply_len
    const char* rest        # behind subject and one blank
    bint same               # the subject is the hint's
    Py_ssize_t hdr_len      # -1 = PUB
    Py_ssize_t size
    const char* hdr_text    # the numbers as they were written: deliver repeats them
    Py_ssize_t hdr_text_len
    const char* size_text
    Py_ssize_t size_text_len

cdef struct arg_t:
    const char* p
    Py_ssize_t n

cdef int parse_op(const char* p, const char* end, Py_ssize_t max_control_line, op_t* op) noexcept nogil
cdef bint parse_pub_args(const char* arg, Py_ssize_t n, bint with_headers, pub_t* pub) noexcept nogil
cdef int split_args(const char* p, Py_ssize_t n, bint line_ends, arg_t* out, int cap) noexcept nogil
cdef Py_ssize_t parse_size(const char* p, Py_ssize_t n) noexcept nogil
cdef Py_ssize_t squeeze(char* p, Py_ssize_t n) noexcept nogil


cdef inline const char* parse_pub_fast(const char* p, const char* end, const char* hint, Py_ssize_t hint_len,
                                       pub_t* pub) noexcept nogil:
    """PUB or HPUB as every client library writes it: upper case, one blank between arguments, CR LF.

    hint is the subject of the publish before, mostly the same again. Fills subject, rest, hdr_len and size, and reply
    where there is one. Returns the first byte behind the control line, or NULL for anything else, incomplete lines
    included: parse_op decides then.
    """
    cdef const char* s
    cdef const char* q
    cdef const char* d
    cdef Py_ssize_t n = 0, hdr = -1
    cdef bint with_headers
    if unlikely(end - p < 11):
        return NULL
    if memcmp(p, b"PUB ", 4) == 0:
        with_headers = False
        s = p + 4
    elif memcmp(p, b"HPUB ", 5) == 0:
        with_headers = True
        s = p + 5
    else:
        return NULL
    if likely(hint_len < end - s and s[hint_len] == 32 and hint_len > 0 and memcmp(s, hint, hint_len) == 0):
        q = s + hint_len
        pub.same = True
    else:
        q = s
        pub.same = False
        while q < end and <unsigned char>q[0] > 32:
            q += 1
        if q == end or q[0] != 32 or q == s:
            return NULL
    pub.subject = s
    pub.subject_len = q - s
    q += 1
    pub.rest = q
    pub.reply = NULL
    pub.reply_len = 0
    # A number, or the reply and then a number: a reply may begin with digits too.
    d = q
    while d < end and <unsigned char>(d[0] - 48) < 10:
        n = n * 10 + (d[0] - 48)
        d += 1
    if d == q or d == end or d - q > 9 or (d[0] != 13 and not (with_headers and d[0] == 32)):
        while d < end and <unsigned char>d[0] > 32:
            d += 1
        if d == end or d[0] != 32 or d == q:
            return NULL
        pub.reply = q
        pub.reply_len = d - q
        d += 1
        q = d
        n = 0
        while d < end and <unsigned char>(d[0] - 48) < 10:
            n = n * 10 + (d[0] - 48)
            d += 1
        if d == q or d - q > 9:
            return NULL
    if with_headers:
        if d == end or d[0] != 32:
            return NULL
        hdr = n
        n = 0
        d += 1
        q = d
        while d < end and <unsigned char>(d[0] - 48) < 10:
            n = n * 10 + (d[0] - 48)
            d += 1
        if d == q or d - q > 9 or hdr > n or hdr == 0:
            return NULL
    if end - d < 2 or d[0] != 13 or d[1] != 10:
        return NULL
    pub.hdr_len = hdr
    pub.size = n
    return d + 2
