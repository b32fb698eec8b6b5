"""Accounts, and what a client has in its account: its subscriptions and its place in the count of connections.

Invariant: a removed subscription leaves the tree at once, but its memory only at end_turn (free_graves), because a match
that is being delivered may point at it. The same goes for clients.
"""

cimport cython
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset

from cpython.bytes cimport PyBytes_FromStringAndSize

from natsc.engine.buffer cimport mark_dirty
from natsc.engine.hooks cimport hook_trace
from natsc.engine.permissions cimport overlaps_denied
from natsc.engine.shadow cimport shadows_add, shadows_remove
from natsc.engine.sublist cimport (cache_lookup, sub_new, sub_subject, sublist_clear, sublist_insert, sublist_nodes,
                                   sublist_remove)
from natsc.engine.subject cimport has_wildcard
from natsc.engine.types cimport (SLOW_CLOSING, SPECIAL_CLOSED, SPECIAL_DENY, SPECIAL_INTERNAL, SPECIAL_LOCAL,
                                 SPECIAL_TRACE, account_t, client_t, counters_t, engine_t, hash_bytes, match_t, sub_t,
                                 unlikely, watch_t)

from _json import encode_basestring_ascii

cdef sub_t* DELETED = <sub_t*>1     # a slot of a sid table that probing passes over


@cython.no_gc_clear     # its clients' subscriptions point into what it keeps until they are gone
cdef class Account:
    """One account. Engine.account makes it; counters are totals since then, in messages and bytes."""

    def __cinit__(self, str name):
        self.name = name
        self.a.max_conns = -1
        self.a.max_subs = -1
        self.a.max_payload = -1
        self.json_name = encode_basestring_ascii(name).encode()
        self.a.json_name = self.json_name
        self.a.json_name_len = <uint32_t>len(self.json_name)

    def __dealloc__(self):
        sublist_clear(&self.a.sublist)

    @property
    def options(self):
        """The configured account (natsc.config), or None."""
        return self.configured

    @options.setter
    def options(self, configured):
        self.configured = configured
        self.a.traces_parents = configured is not None and bool(configured.trace_dest)

    def set_limits(self, int32_t max_conns, int32_t max_subs, int32_t max_payload):
        """Limits per account (connections) and per client (subscriptions, payload bytes); -1 = none."""
        self.a.max_conns = max_conns
        self.a.max_subs = max_subs
        self.a.max_payload = max_payload

    @property
    def num_clients(self) -> int:
        return self.a.num_clients

    @property
    def total_conns(self) -> int:
        return self.a.total_conns

    @property
    def at_connection_limit(self) -> bool:
        return self.a.max_conns >= 0 and self.a.num_clients >= <uint32_t>self.a.max_conns

    @property
    def max_payload(self) -> int:
        return self.a.max_payload

    @property
    def max_subs(self) -> int:
        return self.a.max_subs

    @property
    def num_subs(self) -> int:
        return self.a.sublist.num_subs

    @property
    def slow_consumers(self) -> int:
        return self.a.slow_consumers

    @property
    def in_msgs(self) -> int:
        return self.a.counters.in_msgs

    @property
    def in_bytes(self) -> int:
        return self.a.counters.in_bytes

    @property
    def out_msgs(self) -> int:
        return self.a.counters.out_msgs

    @property
    def out_bytes(self) -> int:
        return self.a.counters.out_bytes

    @property
    def num_nodes(self) -> int:
        """Nodes of the subject tree: none are left behind once there is no subscription. Counts them all: for tests."""
        return sublist_nodes(&self.a.sublist)

    def clear_counters(self) -> None:
        memset(&self.a.counters, 0, sizeof(counters_t))
        self.a.slow_consumers = 0
        self.a.total_conns = self.a.num_clients

    def sublist_stats(self) -> dict:
        """Counters of the subject tree since the account was made."""
        return {
            "num_subscriptions": self.a.sublist.num_subs, "num_inserts": self.a.sublist.num_inserts,
            "num_removes": self.a.sublist.num_removes, "num_matches": self.a.sublist.num_matches,
            "num_cache_hits": self.a.sublist.num_cache_hits,
        }


# ---------------------------------------------------------------------------------------------------- subscriptions

cdef inline bint has_sid(sub_t* s, const char* sid, Py_ssize_t n) noexcept nogil:
    return s.sid_len == n and memcmp(s.text, sid, n) == 0


cdef sub_t** sid_slot(engine_t* e, client_t* c, const char* sid, Py_ssize_t n) noexcept nogil:
    """The slot that holds sid, or NULL."""
    cdef uint32_t i
    if c.sids_cap == 0:
        return NULL
    i = <uint32_t>hash_bytes(sid, n, e.seed) & (c.sids_cap - 1)
    while c.sids[i] != NULL:
        if c.sids[i] != DELETED and has_sid(c.sids[i], sid, n):
            return &c.sids[i]
        i = (i + 1) & (c.sids_cap - 1)
    return NULL


cdef inline void sid_put(engine_t* e, sub_t** table, uint32_t cap, sub_t* s) noexcept nogil:
    cdef uint32_t i = <uint32_t>hash_bytes(s.text, s.sid_len, e.seed) & (cap - 1)
    while table[i] != NULL:
        i = (i + 1) & (cap - 1)
    table[i] = s


cdef bint sid_grow(engine_t* e, client_t* c) noexcept nogil:
    """A table with room for one more, without the deleted slots of the old one."""
    cdef uint32_t cap = 4, i
    cdef sub_t** table
    while cap * 3 < (c.num_subs + 1) * 5:
        cap *= 2
    table = <sub_t**>calloc(cap, sizeof(sub_t*))
    if table == NULL:
        return False
    for i in range(c.sids_cap):
        if c.sids[i] != NULL and c.sids[i] != DELETED:
            sid_put(e, table, cap, c.sids[i])
    free(c.sids)
    c.sids = table
    c.sids_cap = cap
    c.sids_used = c.num_subs
    return True


cdef sub_t* find_sub(engine_t* e, client_t* c, const char* sid, Py_ssize_t sid_len) noexcept nogil:
    cdef sub_t** slot = sid_slot(e, c, sid, sid_len)
    return slot[0] if slot != NULL else NULL


cdef sub_result_t add_sub(engine_t* e, client_t* c, const char* subject, Py_ssize_t n, const char* queue,
                          Py_ssize_t queue_len, const char* sid, Py_ssize_t sid_len) noexcept nogil:
    """Subscribe c. Permissions and limits are the caller's business."""
    cdef sub_t* s
    if sid_slot(e, c, sid, sid_len) != NULL:
        return SUB_EXISTS
    if (c.sids_used + 1) * 4 > c.sids_cap * 3 and not sid_grow(e, c):
        return SUB_BAD_SUBJECT
    s = sub_new(c, sid, sid_len, queue, queue_len, e.seed)
    if s == NULL:
        return SUB_BAD_SUBJECT
    if not sublist_insert(&c.account.sublist, s, subject, n):
        free(s)
        return SUB_BAD_SUBJECT
    sid_put(e, c.sids, c.sids_cap, s)
    c.sids_used += 1
    c.num_subs += 1
    e.total_subs += 1
    e.subs_changed = True
    if unlikely(c.account.stream_imports != NULL) and not c.special & SPECIAL_LOCAL:
        shadows_add(e, s, subject, n)
    if not c.special & SPECIAL_DENY and (queue_len or has_wildcard(subject, n)) and overlaps_denied(c, subject, n):
        c.special |= SPECIAL_DENY
    return SUB_ADDED


cdef void bury_sub(engine_t* e, client_t* c, sub_t* s) noexcept nogil:
    if unlikely(s.shadow != NULL):
        shadows_remove(e, s)
    sublist_remove(&c.account.sublist, s)
    e.total_subs -= 1
    e.subs_changed = True
    e.interest_lost = e.num_responses != 0
    s.next = e.sub_graves
    e.sub_graves = s


cdef void remove_sub(engine_t* e, client_t* c, sub_t* s) noexcept nogil:
    """Unsubscribe; s may be read until end_turn."""
    cdef sub_t** slot = sid_slot(e, c, s.text, s.sid_len)
    if slot == NULL or slot[0] != s:
        return
    slot[0] = DELETED
    c.num_subs -= 1
    if c.special & SPECIAL_TRACE:
        hook_trace(e, c, b"<->", b"DELSUB", s.text, s.sid_len)
    bury_sub(e, c, s)


cdef void remove_all_subs(engine_t* e, client_t* c) noexcept nogil:
    cdef uint32_t i
    for i in range(c.sids_cap):
        if c.sids[i] != NULL and c.sids[i] != DELETED:
            bury_sub(e, c, c.sids[i])
    free(c.sids)
    c.sids = NULL
    c.sids_cap = 0
    c.sids_used = 0
    c.num_subs = 0


cdef tuple describe(sub_t* s):
    """(subject, queue or None, sid, delivered, max)"""
    cdef char[256] small
    cdef Py_ssize_t n = sub_subject(s, small, 256)
    cdef bytes subject
    if n <= 256:
        subject = small[:n]
    else:
        subject = PyBytes_FromStringAndSize(NULL, n)
        sub_subject(s, <char*>subject, n)
    return (subject, s.text[s.sid_len:s.sid_len + s.queue_len] if s.queue_len else None, s.text[:s.sid_len], s.delivered,
            s.max_msgs)


# ---------------------------------------------------------------------------------------------------- watches

cdef bint watch_add(engine_t* e, watch_t* w, account_t* a, const char* subject, Py_ssize_t n) noexcept nogil:
    """Call w.changed when the subscriptions that match a literal subject may have changed. False where memory is out."""
    cdef match_t* m = cache_lookup(e, &a.sublist, subject, n)
    if m == NULL:
        return False
    w.sublist = &a.sublist
    w.first_gen = m.first_gen
    w.gen = w.first_gen[0] + w.sublist.wild_gen
    w.prev = NULL
    w.next = e.watches
    if w.next != NULL:
        w.next.prev = w
    e.watches = w
    return True


cdef void watch_remove(engine_t* e, watch_t* w) noexcept nogil:
    """Call it no more; nothing happens where it isn't called."""
    if w.first_gen == NULL:
        return
    if w.prev != NULL:
        w.prev.next = w.next
    else:
        e.watches = w.next
    if w.next != NULL:
        w.next.prev = w.prev
    w.first_gen = NULL


cdef void watches_notify(engine_t* e) noexcept nogil:
    """Tell those whose subject's subscriptions may have changed since the last time."""
    cdef watch_t* w = e.watches
    cdef uint64_t gen
    e.subs_changed = False
    while w != NULL:
        gen = w.first_gen[0] + w.sublist.wild_gen
        if gen != w.gen:
            w.gen = gen
            w.changed(e, w.owner)
        w = w.next


# ---------------------------------------------------------------------------------------------------- clients

cdef void join_account(engine_t* e, client_t* c, account_t* a) noexcept nogil:
    """Count c among a's connections, leaving where it was."""
    if c.account == a:
        return
    leave_account(e, c)
    c.account = a
    c.last = NULL
    if not c.special & SPECIAL_INTERNAL:
        a.num_clients += 1
        a.total_conns += 1


cdef void leave_account(engine_t* e, client_t* c) noexcept nogil:
    if c.account == NULL:
        return
    remove_all_subs(e, c)
    if not c.special & SPECIAL_INTERNAL:
        c.account.num_clients -= 1
    c.account = NULL
    c.last = NULL


cdef void close_client(engine_t* e, client_t* c, int reason) noexcept nogil:
    """Mark c closed: it gets no more messages and consumes no more input. end_turn flushes what it has and closes it."""
    if c.closing:
        return
    c.closing = True
    c.close_reason = <unsigned char>reason
    c.slow |= SLOW_CLOSING
    c.special |= SPECIAL_CLOSED
    if not c.dirty:
        mark_dirty(e, c)


cdef void free_graves(engine_t* e) noexcept nogil:
    """Free the subscriptions that were removed this turn."""
    cdef sub_t* s
    while e.sub_graves != NULL:
        s = e.sub_graves
        e.sub_graves = s.next
        free(s.shadow)      # a shadow's own struct: an origin's shadows are gone before it is
        free(s)
