"""Pull requests, as clients write them in the body of $JS.API.CONSUMER.MSG.NEXT, and their queue.

The parser takes what client libraries write: nothing, a number, or a flat JSON object whose names are exact and whose
values are integers, booleans and plain strings. Anything else is PULL_UNUSUAL, and Python's decoder, which knows all
of the reference's rules and error texts, has the word.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

cdef enum:
    PIN_ID_LEN = 22         # of an id that the server makes

cdef int64_t INT64_MAX = 0x7FFFFFFFFFFFFFFF


# ---------------------------------------------------------------------------------------------------- parsing

cdef inline bint is_blank(char c) noexcept nogil:
    return c == 32 or 9 <= c <= 13


cdef bint parse_int(const char** at, const char* end, int64_t* out) noexcept nogil:
    """An integer without leading zeros, and nothing like a fraction behind it. False where it isn't one."""
    cdef const char* p = at[0]
    cdef bint negative = p < end and p[0] == 45
    cdef int64_t n = 0
    cdef const char* digits
    p += negative
    digits = p
    while p < end and 48 <= p[0] <= 57:
        if n > (INT64_MAX - 9) // 10:
            return False
        n = n * 10 + (p[0] - 48)
        p += 1
    if p == digits or (digits[0] == 48 and p - digits > 1):
        return False
    if p < end and (p[0] == 46 or p[0] == 101 or p[0] == 69):
        return False
    out[0] = -n if negative else n
    at[0] = p
    return True


cdef bint parse_text(const char** at, const char* end, const char** out, Py_ssize_t* n) noexcept nogil:
    """A string of printable ASCII without escapes. False where it isn't one."""
    cdef const char* p = at[0]
    if p == end or p[0] != 34:
        return False
    p += 1
    out[0] = p
    while p < end and p[0] != 34:
        if p[0] < 32 or p[0] == 92 or p[0] == 127:      # bytes above 127 are negative
            return False
        p += 1
    if p == end:
        return False
    n[0] = p - out[0]
    at[0] = p + 1
    return True


cdef inline bint is_name(const char* name, Py_ssize_t n, const char* text, Py_ssize_t m) noexcept nogil:
    return n == m and memcmp(name, text, m) == 0


cdef bint parse_member(const char** at, const char* end, const char* name, Py_ssize_t n, pull_t* r) noexcept nogil:
    """The value behind a name. False where either is unusual."""
    if is_name(name, n, b"batch", 5):
        return parse_int(at, end, &r.batch)
    if is_name(name, n, b"expires", 7):
        return parse_int(at, end, &r.expires_ns)
    if is_name(name, n, b"idle_heartbeat", 14):
        return parse_int(at, end, &r.heartbeat_ns)
    if is_name(name, n, b"max_bytes", 9):
        return parse_int(at, end, &r.max_bytes)
    if is_name(name, n, b"min_pending", 11):
        return parse_int(at, end, &r.min_pending)
    if is_name(name, n, b"min_ack_pending", 15):
        return parse_int(at, end, &r.min_ack_pending)
    if is_name(name, n, b"priority", 8):
        return parse_int(at, end, &r.priority)
    if is_name(name, n, b"group", 5):
        return parse_text(at, end, &r.group, &r.group_len)
    if is_name(name, n, b"id", 2):
        return parse_text(at, end, &r.id, &r.id_len)
    if is_name(name, n, b"no_wait", 7):
        r.no_wait = end - at[0] >= 4 and memcmp(at[0], b"true", 4) == 0
        if not r.no_wait and (end - at[0] < 5 or memcmp(at[0], b"false", 5) != 0):
            return False
        at[0] += 4 if r.no_wait else 5
        return True
    return False


cdef const char* skip_blanks(const char* p, const char* end) noexcept nogil:
    while p < end and (p[0] == 32 or p[0] == 9 or p[0] == 10 or p[0] == 13):
        p += 1
    return p


cdef bint parse_object(const char* p, const char* end, pull_t* r) noexcept nogil:
    cdef const char* name
    cdef Py_ssize_t n
    p = skip_blanks(p + 1, end)
    if p < end and p[0] == 125:
        return p + 1 == end
    while True:
        p = skip_blanks(p, end)
        if not parse_text(&p, end, &name, &n):
            return False
        p = skip_blanks(p, end)
        if p == end or p[0] != 58:
            return False
        p = skip_blanks(p + 1, end)
        if not parse_member(&p, end, name, n, r):
            return False
        p = skip_blanks(p, end)
        if p == end:
            return False
        if p[0] == 125:
            return p + 1 == end
        if p[0] != 44:
            return False
        p += 1


cdef int pull_parse(const char* p, Py_ssize_t n, pull_t* r) noexcept nogil:
    """What the body of a pull request says. PULL_OK, or PULL_UNUSUAL."""
    cdef const char* end = p + n
    memset(r, 0, sizeof(pull_t))
    while p < end and is_blank(p[0]):
        p += 1
    while end > p and is_blank(end[-1]):
        end -= 1
    if p == end:
        r.batch = 1
        return PULL_OK
    if p[0] == 123:
        r.has_group = True
        return PULL_OK if parse_object(p, end, r) else PULL_UNUSUAL
    if 49 <= p[0] <= 57 and parse_int(&p, end, &r.batch) and p == end:
        return PULL_OK
    return PULL_UNUSUAL


# ---------------------------------------------------------------------------------------------------- the queue

cdef wait_t* wait_new(const char* reply, Py_ssize_t n, pull_t* r, uint64_t now_ns) noexcept nogil:
    """A request for the queue, with a copy of all that counts. NULL where memory is out."""
    cdef Py_ssize_t id_cap = max(r.id_len, <Py_ssize_t>PIN_ID_LEN)
    cdef wait_t* w = <wait_t*>malloc(sizeof(wait_t) + n + id_cap)
    if w == NULL:
        return NULL
    memset(w, 0, sizeof(wait_t))
    w.left = r.batch
    w.bytes_left = r.max_bytes
    w.expires_ns = now_ns + <uint64_t>r.expires_ns if r.expires_ns != 0 else 0
    if r.expires_ns < 0:
        w.expires_ns = 1
    if r.heartbeat_ns > 0:
        w.heartbeat_ns = r.heartbeat_ns
        w.heartbeat_at_ns = now_ns + <uint64_t>r.heartbeat_ns
    w.no_wait = r.no_wait
    w.has_group = r.has_group
    w.min_pending = r.min_pending
    w.min_ack_pending = r.min_ack_pending
    w.priority = r.priority if r.has_group else PRIORITY_NO_GROUP
    w.reply_len = <uint32_t>n
    w.id_len = <uint32_t>r.id_len
    w.id_cap = <uint32_t>id_cap
    memcpy(w.text, reply, n)
    if r.id_len:
        memcpy(w.text + n, r.id, r.id_len)
    return w


cdef void waitq_add(waitq_t* q, wait_t* w) noexcept nogil:
    """At the end."""
    w.next = NULL
    if q.tail == NULL:
        q.head = w
    else:
        q.tail.next = w
    q.tail = w
    q.count += 1


cdef void waitq_add_sorted(waitq_t* q, wait_t* w) noexcept nogil:
    """Behind the last whose priority isn't worse."""
    cdef wait_t* before = NULL
    cdef wait_t* at = q.head
    while at != NULL and at.priority <= w.priority:
        before = at
        at = at.next
    w.next = at
    if before == NULL:
        q.head = w
    else:
        before.next = w
    if at == NULL:
        q.tail = w
    q.count += 1


cdef wait_t* waitq_remove(waitq_t* q, wait_t* before, wait_t* w) noexcept nogil:
    """Take w out and free it; before is the one in front of it, NULL where it is the first. Returns the one behind it."""
    cdef wait_t* after = w.next
    if before == NULL:
        q.head = after
    else:
        before.next = after
    if q.tail == w:
        q.tail = before
    q.count -= 1
    free(w)
    return after


cdef wait_t* waitq_take_head(waitq_t* q) noexcept nogil:
    """Take the first out, without freeing it. There must be one."""
    cdef wait_t* w = q.head
    q.head = w.next
    if q.head == NULL:
        q.tail = NULL
    q.count -= 1
    w.next = NULL
    return w


cdef void waitq_free(waitq_t* q) noexcept nogil:
    while q.head != NULL:
        waitq_remove(q, NULL, q.head)


# ---------------------------------------------------------------------------------------------------- for Python

def parse(bytes body not None):
    """What pull_parse makes of body, as a dict; None where it is unusual. For tests."""
    cdef pull_t r
    if pull_parse(body, len(body), &r) != PULL_OK:
        return None
    return {
        "batch": r.batch, "max_bytes": r.max_bytes, "expires": r.expires_ns, "idle_heartbeat": r.heartbeat_ns,
        "no_wait": bool(r.no_wait), "min_pending": r.min_pending, "min_ack_pending": r.min_ack_pending,
        "priority": r.priority, "group": r.group[:r.group_len] if r.group_len else b"",
        "id": r.id[:r.id_len] if r.id_len else b"",
    }
