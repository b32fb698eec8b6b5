# The subject tree and its match cache.

from libc.stdint cimport uint64_t

from natsc.engine.types cimport client_t, engine_t, hash_bytes, likely, match_t, shadow_t, sub_t, sublist_t, target_t
from libc.string cimport memcmp

ctypedef bint (*sub_visitor)(sub_t* s, void* ctx) noexcept nogil

cdef void sublist_init(sublist_t* sl, uint64_t seed, uint64_t* gens) noexcept nogil
cdef void sublist_clear(sublist_t* sl) noexcept nogil
cdef sub_t* sub_new(client_t* c, const char* sid, Py_ssize_t sid_len, const char* queue, Py_ssize_t queue_len,
                    uint64_t seed) noexcept nogil
cdef bint sublist_insert(sublist_t* sl, sub_t* s, const char* subject, Py_ssize_t n) noexcept nogil
cdef void sublist_remove(sublist_t* sl, sub_t* s) noexcept nogil
cdef bint sublist_match(sublist_t* sl, const char* subject, Py_ssize_t n, sub_visitor visit, void* ctx) noexcept nogil
cdef void sublist_visit(sublist_t* sl, sub_visitor visit, void* ctx) noexcept nogil
cdef bint sublist_has_match(sublist_t* sl, const char* subject, Py_ssize_t n) noexcept nogil
cdef uint64_t sublist_nodes(sublist_t* sl) noexcept nogil
cdef Py_ssize_t sub_subject(sub_t* s, char* out, Py_ssize_t cap) noexcept nogil
cdef shadow_t* shadow_of(match_t* m, target_t* t) noexcept nogil
cdef void build_prefix(target_t* t, const char* subject, Py_ssize_t n) noexcept nogil
cdef bint cache_init(engine_t* e, int bits) noexcept nogil
cdef void cache_free(engine_t* e) noexcept nogil
cdef int cache_count(engine_t* e) noexcept nogil
cdef match_t* cache_fill(engine_t* e, sublist_t* sl, const char* subject, Py_ssize_t n, uint64_t h) noexcept nogil
cdef match_t* ack_lookup(engine_t* e, sublist_t* sl, const char* subject, Py_ssize_t n) noexcept nogil


cdef inline bint match_valid(match_t* m) noexcept nogil:
    return m.gen == m.first_gen[0] + m.sublist.wild_gen


cdef inline match_t* cache_lookup(engine_t* e, sublist_t* sl, const char* subject, Py_ssize_t n) noexcept nogil:
    """Who receives subject. Valid until the next cache_lookup of this engine; NULL where memory is out."""
    cdef uint64_t h = hash_bytes(subject, n, sl.seed)
    cdef match_t* m = &e.cache[h & e.cache_mask]
    sl.num_matches += 1
    if likely(m.hash == h and m.sublist == sl and m.subject_len == n and match_valid(m)
              and memcmp(m.subject, subject, n) == 0):
        m.hits += 1
        sl.num_cache_hits += 1
        return m
    return cache_fill(e, sl, subject, n, h)
