"""The subject tree (sublist) and the engine's cache of matches.

Design: a tree of tokens; each node has a child "*" (pwc), a child ">" (fwc) and its literal children, one held directly,
more in a table. A subscription knows its node, so removing it costs no walk, and its subject is read off the path.

The cache is direct-mapped by a hash of account and subject. An entry is valid while the generation of its first token and
the account's generation for leading wildcards stand where they stood: a SUB or UNSUB under one first token leaves the
matches of all others alone.

Invariants
1. Tokens "*" and ">" never stand among the literal children: a published "a.*" matches subscriptions to "a.*", not "a.b".
2. Generations only grow, so their sum never repeats.
3. A subject is cached when it is asked for the second time; what is asked for once (an inbox) only passes through `once`.
4. Acknowledgements of JetStream, which are never published twice, have a cache of their own, by their first tokens.
5. The cache holds at most CACHED_TARGETS_MAX receivers; beyond it is emptied, so it can't grow with fan-out.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from natsc.engine.transform cimport transform_apply
from natsc.engine.types cimport (ack_match_t, client_t, engine_t, hash_bytes, match_t, node_t, shadow_t, sub_t, sublist_t,
                                 target_t, unlikely)

cdef enum:
    CACHED_TARGETS_MAX = 1 << 18
    ACKS = 64               # matches of acknowledgements that are kept
    ACK_KEY_TOKENS = 4      # $JS.ACK.<stream>.<consumer>
    TOKENS_MAX = 4096       # a control line has at most this many by default; deeper subjects match nothing


cdef void sublist_init(sublist_t* sl, uint64_t seed, uint64_t* gens) noexcept nogil:
    """An empty tree. gens are the engine's generations by first token, or NULL where nothing caches its matches."""
    memset(sl, 0, sizeof(sublist_t))
    sl.seed = seed
    sl.gens = gens


cdef sub_t* sub_new(client_t* c, const char* sid, Py_ssize_t sid_len, const char* queue, Py_ssize_t queue_len,
                    uint64_t seed) noexcept nogil:
    """A subscription that stands nowhere yet; NULL where memory is out. Texts are copied."""
    cdef sub_t* s = <sub_t*>calloc(1, sizeof(sub_t) + sid_len + queue_len)
    if s == NULL:
        return NULL
    s.client = c
    s.sid_len = <uint32_t>sid_len
    s.queue_len = <uint32_t>queue_len
    memcpy(s.text, sid, sid_len)
    if queue_len:
        memcpy(s.text + sid_len, queue, queue_len)
        s.queue_hash = <uint32_t>hash_bytes(queue, queue_len, seed)
    return s


# ---------------------------------------------------------------------------------------------------- nodes

cdef node_t* find_child(sublist_t* sl, node_t* n, const char* t, uint32_t len) noexcept nogil:
    """The literal child, or NULL."""
    cdef uint32_t h, i, mask
    cdef node_t* c
    cdef node_t** table
    if n.cap == 0:
        c = <node_t*>n.children
        if c != NULL and c.token_len == len and memcmp(c.token, t, len) == 0:
            return c
        return NULL
    h = <uint32_t>hash_bytes(t, len, sl.seed)
    table = <node_t**>n.children
    mask = n.cap - 1
    i = h & mask
    while table[i] != NULL:
        c = table[i]
        if c.hash == h and c.token_len == len and memcmp(c.token, t, len) == 0:
            return c
        i = (i + 1) & mask
    return NULL


cdef inline void table_put(node_t** table, uint32_t mask, node_t* c) noexcept nogil:
    cdef uint32_t i = c.hash & mask
    while table[i] != NULL:
        i = (i + 1) & mask
    table[i] = c


cdef bint grow_children(node_t* n) noexcept nogil:
    cdef uint32_t cap = n.cap * 2 if n.cap else 4, i
    cdef node_t** table = <node_t**>calloc(cap, sizeof(node_t*))
    if table == NULL:
        return False
    if n.cap == 0:
        table_put(table, cap - 1, <node_t*>n.children)
    else:
        for i in range(n.cap):
            if (<node_t**>n.children)[i] != NULL:
                table_put(table, cap - 1, (<node_t**>n.children)[i])
        free(n.children)
    n.children = table
    n.cap = cap
    return True


cdef node_t* node_new(node_t* parent, const char* t, uint32_t len) noexcept nogil:
    cdef node_t* c = <node_t*>calloc(1, sizeof(node_t) + len)
    if c != NULL:
        c.parent = parent
        c.token_len = len
        memcpy(c.token, t, len)
    return c


cdef node_t* add_child(sublist_t* sl, node_t* n, const char* t, uint32_t len) noexcept nogil:
    """The child for a token, made where it is missing; NULL where memory is out."""
    cdef node_t* c
    if len == 1 and t[0] == 42:
        if n.pwc == NULL:
            n.pwc = node_new(n, t, len)
        return n.pwc
    if len == 1 and t[0] == 62:
        if n.fwc == NULL:
            n.fwc = node_new(n, t, len)
        return n.fwc
    c = find_child(sl, n, t, len)
    if c != NULL:
        return c
    if n.num_children and (n.cap == 0 or (n.num_children + 1) * 4 > n.cap * 3):
        if not grow_children(n):
            return NULL
    c = node_new(n, t, len)
    if c == NULL:
        return NULL
    c.hash = <uint32_t>hash_bytes(t, len, sl.seed)
    if n.cap == 0:
        n.children = c
    else:
        table_put(<node_t**>n.children, n.cap - 1, c)
    n.num_children += 1
    return c


cdef void table_remove(node_t* n, node_t* c) noexcept nogil:
    """Take c out of n's table and close the gap, so that probes need no marks of deletion."""
    cdef node_t** table = <node_t**>n.children
    cdef uint32_t mask = n.cap - 1
    cdef uint32_t i = c.hash & mask, j, home
    while table[i] != c:
        i = (i + 1) & mask
    j = i
    while True:
        j = (j + 1) & mask
        if table[j] == NULL:
            break
        home = table[j].hash & mask
        # table[j] may move into the gap unless its home lies behind the gap.
        if ((j - home) & mask) >= ((j - i) & mask):
            table[i] = table[j]
            i = j
    table[i] = NULL


cdef void prune(sublist_t* sl, node_t* n) noexcept nogil:
    """Free n and its ancestors as far as nothing hangs on them."""
    cdef node_t* parent
    while n != &sl.root and n.subs == NULL and n.pwc == NULL and n.fwc == NULL and n.num_children == 0:
        parent = n.parent
        if parent.pwc == n:
            parent.pwc = NULL
        elif parent.fwc == n:
            parent.fwc = NULL
        else:
            if parent.cap == 0:
                parent.children = NULL
            else:
                table_remove(parent, n)
            parent.num_children -= 1
        if n.cap:
            free(n.children)
        free(n)
        n = parent


cdef void free_below(node_t* n) noexcept nogil:
    """Free everything under n, subscriptions too, without recursion: subjects may be deep."""
    cdef node_t* top = n
    cdef node_t* c
    cdef sub_t* s
    cdef uint32_t i
    while True:
        c = NULL
        if n.pwc != NULL:
            c = n.pwc
            n.pwc = NULL
        elif n.fwc != NULL:
            c = n.fwc
            n.fwc = NULL
        elif n.cap == 0 and n.children != NULL:
            c = <node_t*>n.children
            n.children = NULL
        elif n.cap:
            while n.num_children and c == NULL:     # num_children counts the slots not looked at yet
                i = n.hash % n.cap                  # hash is free for use as a cursor: the node is going
                c = (<node_t**>n.children)[i]
                (<node_t**>n.children)[i] = NULL
                n.hash = i + 1
                if c != NULL:
                    n.num_children -= 1
        if c != NULL:
            n = c
            continue
        while n.subs != NULL:
            s = n.subs
            n.subs = s.next
            if s.shadow != NULL and s.shadow.sub == s:
                free(s.shadow)
            free(s)
        if n.cap:
            free(n.children)
        if n == top:
            return
        c = n.parent
        free(n)
        n = c


cdef void sublist_clear(sublist_t* sl) noexcept nogil:
    """Free the tree with all its subscriptions. Only where no client holds one of them (permission lists)."""
    free_below(&sl.root)
    memset(&sl.root, 0, sizeof(node_t))
    sl.num_subs = 0


# ---------------------------------------------------------------------------------------------------- insert, remove

cdef inline void bump(sublist_t* sl, const char* token, Py_ssize_t len) noexcept nogil:
    if sl.gens == NULL:
        return
    if len == 1 and (token[0] == 42 or token[0] == 62):
        sl.wild_gen += 1
    else:
        sl.gens[hash_bytes(token, len, sl.seed) & 255] += 1


cdef bint sublist_insert(sublist_t* sl, sub_t* s, const char* subject, Py_ssize_t n) noexcept nogil:
    """Put s under subject. False for a subject with an empty token or one behind ">", or where memory is out."""
    cdef const char* p = subject
    cdef const char* end = subject + n
    cdef const char* dot
    cdef node_t* at = &sl.root
    cdef node_t* child
    while True:
        dot = <const char*>memchr(p, 46, end - p) if p < end else NULL
        if dot == NULL:
            dot = end
        child = NULL
        if dot > p and not (dot - p == 1 and p[0] == 62 and dot != end):
            child = add_child(sl, at, p, <uint32_t>(dot - p))
        if child == NULL:
            prune(sl, at)
            return False
        at = child
        if dot == end:
            break
        p = dot + 1
    s.node = at
    s.next = at.subs
    s.prev = NULL
    if at.subs != NULL:
        at.subs.prev = s
    at.subs = s
    sl.num_subs += 1
    sl.num_inserts += 1
    dot = <const char*>memchr(subject, 46, n)
    bump(sl, subject, dot - subject if dot != NULL else n)
    return True


cdef void sublist_remove(sublist_t* sl, sub_t* s) noexcept nogil:
    """Take s out of the tree; s itself stays for whoever still points at it."""
    cdef node_t* n = s.node
    cdef node_t* first
    if n == NULL:
        return
    if s.prev != NULL:
        s.prev.next = s.next
    else:
        n.subs = s.next
    if s.next != NULL:
        s.next.prev = s.prev
    s.node = NULL
    s.next = NULL
    s.prev = NULL
    sl.num_subs -= 1
    sl.num_removes += 1
    first = n
    while first.parent != &sl.root:
        first = first.parent
    bump(sl, first.token, first.token_len)
    prune(sl, n)


cdef Py_ssize_t sub_subject(sub_t* s, char* out, Py_ssize_t cap) noexcept nogil:
    """Write the subject of s to out. Returns its length; nothing is written where that is more than cap."""
    cdef node_t* n = s.node
    cdef Py_ssize_t len = -1
    cdef char* p
    if n == NULL:
        return 0
    while n.parent != NULL:
        len += n.token_len + 1
        n = n.parent
    if len > cap:
        return len
    p = out + len
    n = s.node
    while True:
        p -= n.token_len
        memcpy(p, n.token, n.token_len)
        n = n.parent
        if n.parent == NULL:
            return len
        p -= 1
        p[0] = 46


cdef uint64_t count_below(node_t* n) noexcept nogil:
    cdef uint64_t count = 0
    cdef uint32_t i
    if n.pwc != NULL:
        count += 1 + count_below(n.pwc)
    if n.fwc != NULL:
        count += 1 + count_below(n.fwc)
    if n.cap == 0:
        return count + (1 + count_below(<node_t*>n.children) if n.children != NULL else 0)
    for i in range(n.cap):
        if (<node_t**>n.children)[i] != NULL:
            count += 1 + count_below((<node_t**>n.children)[i])
    return count


cdef uint64_t sublist_nodes(sublist_t* sl) noexcept nogil:
    """How many nodes hang on the root. Looks at all of them, one call a level: for tests."""
    return count_below(&sl.root)


# ---------------------------------------------------------------------------------------------------- match

cdef bint visit_subs(sub_t* s, sub_visitor visit, void* ctx) noexcept nogil:
    while s != NULL:
        if not visit(s, ctx):
            return False
        s = s.next
    return True


cdef void visit_below(node_t* n, sub_visitor visit, void* ctx) noexcept nogil:
    cdef uint32_t i
    visit_subs(n.subs, visit, ctx)
    if n.pwc != NULL:
        visit_below(n.pwc, visit, ctx)
    if n.fwc != NULL:
        visit_below(n.fwc, visit, ctx)
    if n.cap == 0:
        if n.children != NULL:
            visit_below(<node_t*>n.children, visit, ctx)
        return
    for i in range(n.cap):
        if (<node_t**>n.children)[i] != NULL:
            visit_below((<node_t**>n.children)[i], visit, ctx)


cdef void sublist_visit(sublist_t* sl, sub_visitor visit, void* ctx) noexcept nogil:
    """Call visit for every subscription. It must leave this tree as it is. One call a level: for control, not for messages."""
    visit_below(&sl.root, visit, ctx)


cdef bint match_level(sublist_t* sl, node_t* n, const char* p, const char* end, sub_visitor visit,
                      void* ctx) noexcept nogil:
    """Visit what matches the tokens p..end below n. Recurses only into "*" children: at most one level a token."""
    cdef const char* dot
    while True:
        if n.fwc != NULL and not visit_subs(n.fwc.subs, visit, ctx):
            return False
        dot = <const char*>memchr(p, 46, end - p)
        if dot == NULL:
            dot = end
        if n.pwc != NULL:
            if dot == end:
                if not visit_subs(n.pwc.subs, visit, ctx):
                    return False
            elif not match_level(sl, n.pwc, dot + 1, end, visit, ctx):
                return False
        n = find_child(sl, n, p, <uint32_t>(dot - p))
        if n == NULL:
            return True
        if dot == end:
            return visit_subs(n.subs, visit, ctx)
        p = dot + 1


cdef bint sublist_match(sublist_t* sl, const char* subject, Py_ssize_t n, sub_visitor visit, void* ctx) noexcept nogil:
    """Call visit for each subscription that matches subject, until it returns False; returns whether it never did.

    A subject with an empty token matches nothing.
    """
    cdef const char* p = subject
    cdef const char* end = subject + n
    cdef Py_ssize_t tokens = 1
    if n == 0 or subject[0] == 46 or subject[n - 1] == 46:
        return True
    while p < end:
        p = <const char*>memchr(p, 46, end - p)
        if p == NULL:
            break
        if p[1] == 46:
            return True
        tokens += 1
        p += 1
    if tokens > TOKENS_MAX:
        return True
    return match_level(sl, &sl.root, subject, end, visit, ctx)


cdef bint stop_at_plain(sub_t* s, void* ctx) noexcept nogil:
    return s.queue_len != 0


cdef bint sublist_has_match(sublist_t* sl, const char* subject, Py_ssize_t n) noexcept nogil:
    """Whether a plain subscription matches."""
    return not sublist_match(sl, subject, n, stop_at_plain, NULL)


# ---------------------------------------------------------------------------------------------------- cache

cdef bint cache_init(engine_t* e, int bits) noexcept nogil:
    e.cache = <match_t*>calloc(<size_t>1 << bits, sizeof(match_t))
    e.cache_mask = (<uint32_t>1 << bits) - 1
    e.seen = <uint16_t*>calloc(<size_t>1 << bits, sizeof(uint16_t))
    e.acks = <ack_match_t*>calloc(ACKS, sizeof(ack_match_t))
    return e.cache != NULL and e.seen != NULL and e.acks != NULL


cdef void forget(engine_t* e, match_t* m) noexcept nogil:
    cdef uint32_t i
    for i in range(m.num_targets):
        free(m.targets[i].prefix)
    e.cached_targets -= m.num_targets
    m.num_targets = 0
    m.hash = 0
    m.subject_len = 0
    if m.cap_targets > 64:
        free(m.targets)
        m.targets = NULL
        m.cap_targets = 0


cdef int cache_count(engine_t* e) noexcept nogil:
    """How many matches the cache holds, valid or not."""
    cdef uint32_t i
    cdef int n = 0
    for i in range(e.cache_mask + 1):
        n += e.cache[i].subject_len != 0
    return n


cdef void match_free(engine_t* e, match_t* m) noexcept nogil:
    forget(e, m)
    free(m.targets)
    free(m.subject)


cdef void cache_free(engine_t* e) noexcept nogil:
    cdef uint32_t i
    if e.cache == NULL:
        return
    for i in range(e.cache_mask + 1):
        match_free(e, &e.cache[i])
    free(e.cache)
    e.cache = NULL
    free(e.seen)
    match_free(e, &e.once)
    for i in range(ACKS if e.acks != NULL else 0):
        match_free(e, &e.acks[i].m)
    free(e.acks)


cdef void build_prefix(target_t* t, const char* subject, Py_ssize_t n) noexcept nogil:
    """Cache "HMSG <subject> <sid> " for t; it stays NULL where memory is out. A blank stands behind the subject."""
    cdef sub_t* s = t.sub
    cdef char* p = <char*>malloc(5 + n + 1 + s.sid_len + 1)
    if p == NULL:
        return
    memcpy(p, b"HMSG ", 5)
    memcpy(p + 5, subject, n + 1)
    memcpy(p + 6 + n, s.text, s.sid_len)
    p[6 + n + s.sid_len] = 32
    t.prefix = p
    t.prefix_len = <uint32_t>(7 + n + s.sid_len)


cdef bint import_target(match_t* m, target_t* t) noexcept nogil:
    """t leads to a shadow: make it lead to the origin, with the subject that it has there. False where memory is out."""
    cdef shadow_t* shadow = t.sub.shadow
    cdef char* here
    cdef Py_ssize_t n
    t.sub = shadow.origin
    if shadow.rule.here == NULL:
        build_prefix(t, m.subject, m.subject_len)
        return t.prefix != NULL
    here = transform_apply(shadow.rule.here, NULL, m.subject, m.subject_len, &n)
    if here != NULL:
        build_prefix(t, here, n)
    free(here)
    return t.prefix != NULL


cdef shadow_t* shadow_of(match_t* m, target_t* t) noexcept nogil:
    """Which of its shadows led a match to an origin: import_target backwards. NULL where it is gone by now."""
    cdef shadow_t* shadow = t.sub.shadow
    cdef char* here
    cdef Py_ssize_t n
    cdef bint same
    while shadow != NULL:
        if shadow.rule.here == NULL:
            same = matches_sub(m, shadow.sub, m.subject, m.subject_len, t)
        else:
            here = transform_apply(shadow.rule.here, NULL, m.subject, m.subject_len, &n)
            same = here != NULL and matches_sub(m, shadow.sub, here, n, t)
            free(here)
        if same:
            return shadow
        shadow = shadow.next
    return NULL


cdef bint is_sub(sub_t* s, void* wanted) noexcept nogil:
    return s != <sub_t*>wanted


cdef bint matches_sub(match_t* m, sub_t* s, const char* here, Py_ssize_t n, target_t* t) noexcept nogil:
    """Whether shadow s matches m's subject, which is `here` in the account of t: what its prefix says."""
    return n == t.prefix_len - 7 - t.sub.sid_len and memcmp(here, t.prefix + 5, n) == 0 and not sublist_match(
        m.sublist, m.subject, m.subject_len, is_sub, s)


cdef bint add_target(sub_t* s, void* ctx) noexcept nogil:
    cdef match_t* m = <match_t*>ctx
    cdef target_t* grown
    if m.num_targets == m.cap_targets:
        grown = <target_t*>realloc(m.targets, (m.cap_targets * 2 if m.cap_targets else 2) * sizeof(target_t))
        if grown == NULL:
            return False
        m.targets = grown
        m.cap_targets = m.cap_targets * 2 if m.cap_targets else 2
    grown = &m.targets[m.num_targets]
    grown.sub = s
    grown.client = s.client
    grown.prefix = NULL
    grown.prefix_len = 0
    grown.group = 0
    if unlikely(s.shadow != NULL) and s.shadow.sub == s and not import_target(m, grown):
        return True         # memory is out: this one misses the message
    m.num_targets += 1
    return True


cdef void group_queues(match_t* m) noexcept nogil:
    """Plain subscriptions to the front, then each queue group's members side by side."""
    cdef uint32_t i = 0, j, members
    cdef target_t t
    cdef sub_t* a
    cdef sub_t* b
    for j in range(m.num_targets):
        if m.targets[j].sub.queue_len == 0:
            if i != j:
                t = m.targets[i]
                m.targets[i] = m.targets[j]
                m.targets[j] = t
            i += 1
    while i < m.num_targets:
        members = 1
        a = m.targets[i].sub
        for j in range(i + 1, m.num_targets):
            b = m.targets[j].sub
            if (b.queue_hash == a.queue_hash and b.queue_len == a.queue_len
                    and memcmp(a.text + a.sid_len, b.text + b.sid_len, a.queue_len) == 0):
                t = m.targets[i + members]
                m.targets[i + members] = m.targets[j]
                m.targets[j] = t
                m.targets[i + members].group = 1
                members += 1
        m.targets[i].group = members
        i += members


cdef match_t* fill(engine_t* e, match_t* m, sublist_t* sl, const char* subject, Py_ssize_t n, uint64_t h) noexcept nogil:
    """Make m the match of subject. NULL where memory is out."""
    cdef const char* dot
    cdef char* grown
    cdef uint32_t i
    if e.cached_targets > CACHED_TARGETS_MAX:
        for i in range(e.cache_mask + 1):
            if e.cache[i].num_targets:
                forget(e, &e.cache[i])
        for i in range(ACKS):
            forget(e, &e.acks[i].m)
            e.acks[i].key_len = 0
    forget(e, m)
    if m.subject_cap < n + 1:
        grown = <char*>realloc(m.subject, n + 32)
        if grown == NULL:
            return NULL
        m.subject = grown
        m.subject_cap = <uint32_t>(n + 32)
    memcpy(m.subject, subject, n)
    m.subject[n] = 32
    m.subject_len = <uint32_t>n
    m.hash = h
    m.sublist = sl
    dot = <const char*>memchr(subject, 46, n)
    m.first_gen = &sl.gens[hash_bytes(subject, dot - subject if dot != NULL else n, sl.seed) & 255]
    m.gen = m.first_gen[0] + sl.wild_gen
    m.hits = 0
    m.perms_id = 0
    if not sublist_match(sl, subject, n, add_target, m):
        forget(e, m)
        return NULL
    group_queues(m)
    e.cached_targets += m.num_targets
    return m


cdef match_t* cache_fill(engine_t* e, sublist_t* sl, const char* subject, Py_ssize_t n, uint64_t h) noexcept nogil:
    """Match subject against the tree; keep the result in its slot of the cache where the subject was asked for before.

    NULL where memory is out.
    """
    cdef uint16_t* seen = &e.seen[h & e.cache_mask]
    if seen[0] != <uint16_t>(h >> 48):
        seen[0] = <uint16_t>(h >> 48)
        return fill(e, &e.once, sl, subject, n, h)
    return fill(e, &e.cache[h & e.cache_mask], sl, subject, n, h)


cdef bint any_behind(sublist_t* sl, node_t* n, const char* p, const char* end, int tokens) noexcept nogil:
    """Whether subscriptions below n tell subjects apart by their first tokens only, those at p, and by how many follow."""
    cdef const char* dot
    cdef node_t* child
    if tokens == 0:
        while n != NULL:
            if n.num_children:
                return False
            n = n.pwc
        return True
    dot = <const char*>memchr(p, 46, end - p)
    if n.pwc != NULL and not any_behind(sl, n.pwc, dot + 1, end, tokens - 1):
        return False
    child = find_child(sl, n, p, <uint32_t>(dot - p))
    return child == NULL or any_behind(sl, child, dot + 1, end, tokens - 1)


cdef match_t* ack_lookup(engine_t* e, sublist_t* sl, const char* subject, Py_ssize_t n) noexcept nogil:
    """cache_lookup for the subject of an acknowledgement."""
    cdef Py_ssize_t i, start = 0, key_len = 0
    cdef uint32_t tokens = 1, k
    cdef ack_match_t* a
    cdef match_t* m
    for i in range(n):
        if subject[i] == 46:
            if i == start:
                return cache_lookup(e, sl, subject, n)      # an empty token
            start = i + 1
            if tokens == ACK_KEY_TOKENS:
                key_len = start
            tokens += 1
    if key_len == 0 or start == n or tokens > TOKENS_MAX:
        return cache_lookup(e, sl, subject, n)
    a = &e.acks[hash_bytes(subject, key_len, sl.seed) & (ACKS - 1)]
    m = &a.m
    if (a.key_len == key_len and a.tokens == tokens and m.sublist == sl and m.hits == 0 and match_valid(m)
            and n < m.subject_cap and memcmp(m.subject, subject, key_len) == 0):
        memcpy(m.subject + key_len, subject + key_len, n - key_len)
        m.subject[n] = 32
        m.subject_len = <uint32_t>n
        m.perms_id = 0
        sl.num_matches += 1
        sl.num_cache_hits += 1
        return m
    if not any_behind(sl, &sl.root, subject, subject + n, ACK_KEY_TOKENS):
        return cache_lookup(e, sl, subject, n)
    sl.num_matches += 1
    m = fill(e, m, sl, subject, n, 0)
    a.key_len = <uint32_t>key_len if m != NULL else 0
    a.tokens = tokens
    for k in range(m.num_targets if m != NULL else 0):
        if m.targets[k].prefix != NULL:
            a.key_len = 0       # in another account the subject is another one
    return m
