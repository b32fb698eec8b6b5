"""Who may publish and subscribe to what.

A Permissions object holds four subject trees (publish and subscribe, allow and deny) and the allow_responses rule; all
connections of one user share it. Rules, as nats-server has them:

- no allow list allows everything; an empty one nothing; deny wins;
- a subscribe entry "subject queue" speaks of that queue only, and the queue may have wildcards;
- a wildcard subscription must be covered by an allow entry; what deny takes out of it is filtered at delivery;
- with allow_responses, the reply subject of a delivered message may be published to for a while.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from natsc.engine.sublist cimport sub_new, sublist_clear, sublist_has_match, sublist_init, sublist_insert, sublist_match
from natsc.engine.subject cimport has_wildcard, is_subset_match, is_valid_subject
from natsc.engine.types cimport (client_t, engine_t, hash_bytes, match_t, node_t, perms_t, replies_t, reply_t, sub_t,
                                 sublist_t)

cdef enum:
    REPLIES_MAX = 4096                  # remembered before old ones are looked for
    REPLY_PRUNE_NS = 1000000000         # and at least this often

cdef uint32_t next_perms_id = 1         # an identity, not state: match_t.perms_id compares it


cdef void fill(sublist_t* sl, list entries, uint64_t seed) except *:
    cdef bytes subject, queue
    cdef sub_t* s
    sublist_init(sl, seed, NULL)
    for subject, queue in entries:
        if not is_valid_subject(subject, len(subject)):
            raise ValueError(f"invalid subject {subject!r}")
        s = sub_new(NULL, b"", 0, queue, len(queue), seed)
        if s == NULL or not sublist_insert(sl, s, subject, len(subject)):
            free(s)
            raise MemoryError


cdef class Permissions:
    """The compiled rules of one user.

    publish_allow, publish_deny: lists of subjects (bytes), None = no such list.
    subscribe_allow, subscribe_deny: lists of (subject, queue), queue b"" where the entry names none; None = no such list.
    response: (max_msgs, ttl_ns) where allow_responses is set; zero or less means no limit.
    Raises ValueError for an invalid subject.
    """

    def __cinit__(self, list publish_allow, list publish_deny, list subscribe_allow, list subscribe_deny,
                  tuple response, uint64_t seed=0):
        global next_perms_id
        self.p.id = next_perms_id
        next_perms_id += 1
        self.p.has_pub_allow = publish_allow is not None
        self.p.has_pub_deny = bool(publish_deny)
        self.p.has_sub_allow = bool(subscribe_allow)
        self.p.has_sub_deny = bool(subscribe_deny)
        fill(&self.p.pub_allow, [(s, b"") for s in publish_allow or ()], seed)
        fill(&self.p.pub_deny, [(s, b"") for s in publish_deny or ()], seed)
        fill(&self.p.sub_allow, subscribe_allow or [], seed)
        fill(&self.p.sub_deny, subscribe_deny or [], seed)
        if response is not None:
            self.p.has_response = True
            self.p.response_max_msgs, self.p.response_ttl_ns = response

    def __dealloc__(self):
        sublist_clear(&self.p.pub_allow)
        sublist_clear(&self.p.pub_deny)
        sublist_clear(&self.p.sub_allow)
        sublist_clear(&self.p.sub_deny)

    def can_publish(self, bytes subject) -> bool:
        """Whether the lists allow it, responses aside."""
        return may_publish_subject(&self.p, subject, len(subject))


cdef bint may_publish_subject(perms_t* p, const char* subject, Py_ssize_t n) noexcept nogil:
    if p.has_pub_allow and not sublist_has_match(&p.pub_allow, subject, n):
        return False
    return not (p.has_pub_deny and sublist_has_match(&p.pub_deny, subject, n))


cdef bint may_publish(engine_t* e, client_t* c, match_t* m) noexcept nogil:
    """Whether c may publish to m.subject. The match remembers the verdict for the last permissions that asked."""
    cdef perms_t* p = c.perms
    if not (p.has_pub_allow or p.has_pub_deny):
        return True
    if m.perms_id != p.id:
        m.perms_ok = may_publish_subject(p, m.subject, m.subject_len)
        m.perms_id = p.id
    if m.perms_ok:
        return True
    return p.has_response and reply_allowed(e, c, m.subject, m.subject_len)


# ---------------------------------------------------------------------------------------------------- subscribe

cdef struct queue_query_t:
    const char* queue
    Py_ssize_t queue_len
    bint plain          # an entry without a queue matched
    bint any_queue      # an entry with a queue matched
    bint this_queue     # one that speaks of our queue


cdef bint look_at_entry(sub_t* s, void* ctx) noexcept nogil:
    cdef queue_query_t* q = <queue_query_t*>ctx
    cdef const char* name = s.text + s.sid_len
    if s.queue_len == 0:
        q.plain = True
        return True
    q.any_queue = True
    if s.queue_len == q.queue_len and memcmp(name, q.queue, q.queue_len) == 0:
        q.this_queue = True
    elif q.queue_len and has_wildcard(name, s.queue_len) and is_subset_match(q.queue, q.queue_len, name, s.queue_len):
        q.this_queue = True
    return True


cdef inline void query(sublist_t* sl, const char* subject, Py_ssize_t n, queue_query_t* q) noexcept nogil:
    q.plain = q.any_queue = q.this_queue = False
    sublist_match(sl, subject, n, look_at_entry, q)


cdef bint may_subscribe(client_t* c, const char* subject, Py_ssize_t n, const char* queue, Py_ssize_t queue_len) noexcept nogil:
    cdef perms_t* p = c.perms
    cdef queue_query_t q
    cdef bint allowed = True
    if p == NULL:
        return True
    q.queue = queue
    q.queue_len = queue_len
    if p.has_sub_allow:
        query(&p.sub_allow, subject, n, &q)
        allowed = q.plain
        if queue_len and q.any_queue:
            allowed = q.this_queue
    if allowed and p.has_sub_deny:
        query(&p.sub_deny, subject, n, &q)
        allowed = not q.plain
        if allowed and queue_len and q.any_queue:
            allowed = not q.this_queue
    return allowed


cdef bint overlaps_below(node_t* n, const char* p, const char* end) noexcept nogil:
    """Whether a subject at or under n can be matched by the pattern p..end too. Depth: one call a token."""
    cdef const char* dot = p
    cdef node_t* child
    cdef uint32_t i
    cdef bint wild
    if n.fwc != NULL:
        return True
    while dot < end and dot[0] != 46:
        dot += 1
    if dot - p == 1 and p[0] == 62:
        return n.pwc != NULL or n.num_children != 0
    wild = dot - p == 1 and p[0] == 42
    if n.pwc != NULL and overlaps_child(n.pwc, dot, end):
        return True
    if n.cap == 0:
        child = <node_t*>n.children
        return child != NULL and (wild or same_token(child, p, dot - p)) and overlaps_child(child, dot, end)
    for i in range(n.cap):
        child = (<node_t**>n.children)[i]
        if child != NULL and (wild or same_token(child, p, dot - p)) and overlaps_child(child, dot, end):
            return True
    return False


cdef inline bint same_token(node_t* n, const char* t, Py_ssize_t len) noexcept nogil:
    return n.token_len == len and memcmp(n.token, t, len) == 0


cdef bint overlaps_child(node_t* child, const char* dot, const char* end) noexcept nogil:
    if dot == end:
        return child.subs != NULL
    return overlaps_below(child, dot + 1, end)


cdef bint overlaps_denied(client_t* c, const char* subject, Py_ssize_t n) noexcept nogil:
    """Whether a subscription to subject can be sent messages that a deny entry forbids."""
    return c.perms != NULL and c.perms.has_sub_deny and overlaps_below(&c.perms.sub_deny.root, subject, subject + n)


cdef bint denied_delivery(client_t* c, const char* subject, Py_ssize_t n, const char* queue,
                          Py_ssize_t queue_len) noexcept nogil:
    """Whether c may not be sent a message on subject through a subscription in queue (length 0: a plain one)."""
    cdef queue_query_t q
    if c.perms == NULL or not c.perms.has_sub_deny:
        return False
    q.queue = queue
    q.queue_len = queue_len
    query(&c.perms.sub_deny, subject, n, &q)
    return q.plain or (queue_len and q.this_queue)


# ---------------------------------------------------------------------------------------------------- allow_responses

cdef reply_t* reply_find(replies_t* r, uint64_t h, const char* subject, Py_ssize_t n) noexcept nogil:
    cdef uint32_t i
    if r == NULL or r.cap == 0:
        return NULL
    i = <uint32_t>h & (r.cap - 1)
    while r.items[i].hash != 0:
        if r.items[i].subject != NULL and r.items[i].hash == h and r.items[i].len == n and memcmp(
                r.items[i].subject, subject, n) == 0:
            return &r.items[i]
        i = (i + 1) & (r.cap - 1)
    return NULL


cdef void reply_drop(replies_t* r, reply_t* x) noexcept nogil:
    free(x.subject)
    x.subject = NULL
    x.hash = 1
    r.count -= 1


cdef inline uint64_t reply_hash(const char* subject, Py_ssize_t n) noexcept nogil:
    return hash_bytes(subject, n, 0) | 2     # 0 marks a free slot, 1 a deleted one


cdef bint expired(perms_t* p, reply_t* x, uint64_t now_ns) noexcept nogil:
    return p.response_ttl_ns > 0 and <int64_t>(now_ns - x.time_ns) > p.response_ttl_ns


cdef bint reply_allowed(engine_t* e, client_t* c, const char* subject, Py_ssize_t n) noexcept nogil:
    cdef reply_t* x = reply_find(c.replies, reply_hash(subject, n), subject, n)
    if x == NULL:
        return False
    x.used += 1
    if (c.perms.response_max_msgs > 0 and x.used > c.perms.response_max_msgs) or expired(c.perms, x, e.now_ns):
        reply_drop(c.replies, x)
        return False
    return True


cdef void prune_replies(engine_t* e, client_t* c) noexcept nogil:
    cdef replies_t* r = c.replies
    cdef uint32_t i
    for i in range(r.cap):
        if r.items[i].subject != NULL and (expired(c.perms, &r.items[i], e.now_ns) or (
                c.perms.response_max_msgs > 0 and r.items[i].used >= c.perms.response_max_msgs)):
            reply_drop(r, &r.items[i])
    r.since_prune = 0
    r.last_prune_ns = e.now_ns


cdef bint rehash_replies(replies_t* r) noexcept nogil:
    cdef uint32_t cap = 64, i, j
    cdef reply_t* items
    while cap < r.count * 3:
        cap *= 2
    items = <reply_t*>calloc(cap, sizeof(reply_t))
    if items == NULL:
        return False
    for i in range(r.cap):
        if r.items[i].subject != NULL:
            j = <uint32_t>r.items[i].hash & (cap - 1)
            while items[j].hash != 0:
                j = (j + 1) & (cap - 1)
            items[j] = r.items[i]
    free(r.items)
    r.items = items
    r.cap = cap
    r.used_slots = r.count
    return True


cdef void reply_remember(engine_t* e, client_t* c, const char* reply, Py_ssize_t n) noexcept nogil:
    """Let c publish to reply, as far as its allow_responses rule goes; nothing to do where it may anyhow.

    As with the reference, a request on a reply subject that c may answer already starts no new count: it takes one answer
    away from the old one.
    """
    cdef replies_t* r = c.replies
    cdef reply_t* x
    cdef uint64_t h
    cdef uint32_t i
    if may_publish_subject(c.perms, reply, n) or reply_allowed(e, c, reply, n):
        return
    if r == NULL:
        r = c.replies = <replies_t*>calloc(1, sizeof(replies_t))
        if r == NULL:
            return
        r.last_prune_ns = e.now_ns
    h = reply_hash(reply, n)
    if (r.used_slots + 1) * 3 > r.cap * 2 and not rehash_replies(r):
        return
    i = <uint32_t>h & (r.cap - 1)
    while r.items[i].hash > 1:
        i = (i + 1) & (r.cap - 1)
    x = &r.items[i]
    x.subject = <char*>malloc(n)
    if x.subject == NULL:
        return
    memcpy(x.subject, reply, n)
    r.used_slots += x.hash == 0
    x.hash = h
    x.len = <uint32_t>n
    r.count += 1
    x.time_ns = e.now_ns
    x.used = 0
    r.since_prune += 1
    if r.since_prune > REPLIES_MAX or e.now_ns - r.last_prune_ns > REPLY_PRUNE_NS:
        prune_replies(e, c)


cdef void replies_free(client_t* c) noexcept nogil:
    cdef uint32_t i
    if c.replies == NULL:
        return
    for i in range(c.replies.cap):
        free(c.replies.items[i].subject)
    free(c.replies.items)
    free(c.replies)
    c.replies = NULL
