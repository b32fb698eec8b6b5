"""Stream imports: a subscription's shadows in other accounts.

A subscription that overlaps what its account imports (stream_import_t.to) gets a shadow in the exporter's tree, on as
much of the exported subject as the subscription covers. A match there leads to the origin: it counts, it is unsubscribed
and its sid is shown; sublist.pyx writes the subject as it is in the importer's account.

Invariant: a shadow has no shadows. What an account imports it does not export again to a third one by a chain.
"""

from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy

from natsc.engine.sublist cimport sub_new, sublist_insert, sublist_remove
from natsc.engine.subject cimport has_wildcard, is_subset_match
from natsc.engine.transform cimport transform_apply
from natsc.engine.types cimport engine_t, shadow_t, stream_import_t, sub_t


cdef inline Py_ssize_t token_len(const char* s, const char* end) noexcept nogil:
    cdef const char* dot = <const char*>memchr(s, 46, end - s) if end > s else NULL
    return (dot if dot != NULL else end) - s


cdef char* overlap(const char* s, Py_ssize_t n, const char* to, Py_ssize_t m, Py_ssize_t* made) noexcept nogil:
    """What a pattern s has in common with the pattern `to`, for the caller to free; NULL where memory is out.

    Where s says "*", `to` may be more specific; where s ends in ">", `to` may go on. It may still not be part of `to`.
    """
    cdef char* out = <char*>malloc(n + m + 2)
    cdef char* o = out
    cdef const char* end = s + n
    cdef const char* to_end = to + m
    cdef Py_ssize_t a, b
    if out == NULL:
        return NULL
    while True:
        a = token_len(s, end)
        b = token_len(to, to_end) if to < to_end else 0
        if a == 1 and s[0] == 62 and b:
            memcpy(o, to, to_end - to)      # ">" stands for all the rest of `to`
            o += to_end - to
            break
        if a == 1 and s[0] == 42 and b and not (b == 1 and to[0] == 62):
            memcpy(o, to, b)
            o += b
        else:
            memcpy(o, s, a)
            o += a
        s += a
        if s == end:
            break
        s += 1
        if to < to_end:
            to = min(to + b + 1, to_end)
        o[0] = 46
        o += 1
    made[0] = o - out
    return out


cdef void shadow_insert(engine_t* e, sub_t* s, stream_import_t* rule, const char* subject, Py_ssize_t n) noexcept nogil:
    cdef shadow_t* shadow = <shadow_t*>calloc(1, sizeof(shadow_t))
    if shadow == NULL:
        return
    shadow.sub = sub_new(s.client, s.text, s.sid_len, s.text + s.sid_len, s.queue_len, e.seed)
    if shadow.sub == NULL or not sublist_insert(&rule.source.sublist, shadow.sub, subject, n):
        free(shadow.sub)
        free(shadow)
        return
    shadow.sub.shadow = shadow
    shadow.origin = s
    shadow.rule = rule
    shadow.next = s.shadow
    s.shadow = shadow
    e.total_subs += 1


cdef void shadow_insert_part(engine_t* e, sub_t* s, stream_import_t* rule, const char* part, Py_ssize_t n) noexcept nogil:
    """Shadow a part of what the rule imports."""
    cdef char* there
    cdef Py_ssize_t made
    if rule.there == NULL:
        shadow_insert(e, s, rule, part, n)
        return
    there = transform_apply(rule.there, NULL, part, n, &made)
    if there != NULL:
        shadow_insert(e, s, rule, there, made)
    free(there)


cdef void shadows_add(engine_t* e, sub_t* s, const char* subject, Py_ssize_t n) noexcept nogil:
    """Give a subscription that was just made its shadows, one for each import that it overlaps."""
    cdef stream_import_t* rule
    cdef uint32_t i
    cdef char* part
    cdef Py_ssize_t made
    cdef bint wild = has_wildcard(subject, n)
    for i in range(s.client.account.num_stream_imports):
        rule = &s.client.account.stream_imports[i]
        if n == rule.to_len and memcmp(subject, rule.to, n) == 0:
            shadow_insert(e, s, rule, rule.subject, rule.subject_len)
        elif is_subset_match(subject, n, rule.to, rule.to_len):
            shadow_insert_part(e, s, rule, subject, n)
        elif not wild:
            continue
        elif is_subset_match(rule.to, rule.to_len, subject, n):
            shadow_insert(e, s, rule, rule.subject, rule.subject_len)
        else:
            part = overlap(subject, n, rule.to, rule.to_len, &made)
            if part != NULL and is_subset_match(part, made, rule.to, rule.to_len):
                shadow_insert_part(e, s, rule, part, made)
            free(part)


cdef void shadows_remove(engine_t* e, sub_t* s) noexcept nogil:
    """Take a subscription's shadows out of the other accounts. They are freed at end_turn: a match may point at them."""
    cdef shadow_t* shadow
    while s.shadow != NULL:
        shadow = s.shadow
        s.shadow = shadow.next
        sublist_remove(&shadow.rule.source.sublist, shadow.sub)
        e.total_subs -= 1
        shadow.sub.next = e.sub_graves
        e.sub_graves = shadow.sub
