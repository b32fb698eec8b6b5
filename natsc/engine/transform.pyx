"""Subjects turned into others.

A transform takes a literal subject (or, for imports, a subscription's pattern) that matches its source apart and puts a
new one together from words, tokens and functions of tokens. Whether a transform is possible is for
natsc/config/subject_mapping.py to say; here the parts come resolved to indexes of tokens.

mappings of an account: the first one whose source matches decides; one of its destinations is drawn by weight, or none,
and then the subject stays.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from natsc.engine.random cimport random_below
from natsc.engine.subject cimport is_subset_match
from natsc.engine.text cimport put_number
from natsc.engine.types cimport account_t, dest_t, mapping_t, part_t, transform_t

cdef enum:
    PART_WORD
    PART_WILDCARD
    PART_PARTITION
    PART_RANDOM
    PART_SPLIT              # at every separator, empty pieces left out
    PART_SPLIT_LEFT         # in two, number bytes from the left
    PART_SPLIT_RIGHT
    PART_SLICE_LEFT         # in pieces of number bytes, the last one shorter
    PART_SLICE_RIGHT        # the first one shorter
    PART_LEFT               # the first number bytes
    PART_RIGHT

_KINDS = {
    "wildcard": PART_WILDCARD, "partition": PART_PARTITION, "random": PART_RANDOM, "split": PART_SPLIT,
    "splitfromleft": PART_SPLIT_LEFT, "splitfromright": PART_SPLIT_RIGHT, "slicefromleft": PART_SLICE_LEFT,
    "slicefromright": PART_SLICE_RIGHT, "left": PART_LEFT, "right": PART_RIGHT, "": PART_WORD,
}


cdef struct writer_t:
    char* data
    Py_ssize_t len
    Py_ssize_t cap
    bint failed             # memory is out


cdef void put(writer_t* w, const char* s, Py_ssize_t n) noexcept nogil:
    cdef char* grown
    if w.len + n + 1 > w.cap:
        grown = <char*>realloc(w.data, (w.len + n + 1) * 2)
        if grown == NULL:
            w.failed = True
            return
        w.data = grown
        w.cap = (w.len + n + 1) * 2
    memcpy(w.data + w.len, s, n)
    w.len += n


cdef void put_digits(writer_t* w, uint64_t n) noexcept nogil:
    cdef char digits[20]
    put(w, digits, put_number(digits, n) - digits)


cdef const char* find_token(const char* s, Py_ssize_t n, int32_t index, Py_ssize_t* len) noexcept nogil:
    """The token with that index, counted from 0; its length is 0 where there is none."""
    cdef const char* end = s + n
    cdef const char* dot
    while True:
        dot = <const char*>memchr(s, 46, end - s) if end > s else NULL
        if dot == NULL:
            dot = end
        if index == 0:
            len[0] = dot - s
            return s
        if dot == end:
            len[0] = 0
            return end
        index -= 1
        s = dot + 1


cdef uint32_t fnv(uint32_t h, const char* s, Py_ssize_t n) noexcept nogil:
    """FNV-1a, 32 bits."""
    cdef Py_ssize_t i
    for i in range(n):
        h = (h ^ <unsigned char>s[i]) * <uint32_t>0x01000193
    return h


cdef uint64_t partition_of(part_t* p, const char* s, Py_ssize_t n) noexcept nogil:
    cdef uint32_t h = 0x811C9DC5
    cdef uint32_t i
    cdef const char* t
    cdef Py_ssize_t len
    if p.number <= 0:
        return 0
    if p.num_tokens == 0:
        return fnv(h, s, n) % <uint64_t>p.number
    for i in range(p.num_tokens):
        t = find_token(s, n, p.tokens[i], &len)
        h = fnv(h, t, len)
    return h % <uint64_t>p.number


cdef void put_pieces(writer_t* w, const char* t, Py_ssize_t len, Py_ssize_t first, Py_ssize_t size) noexcept nogil:
    """A first piece, where that isn't empty, then pieces of that size, with dots between them."""
    cdef Py_ssize_t at = 0, piece = first if first else size
    while at < len:
        if at:
            put(w, b".", 1)
        piece = min(piece, len - at)
        put(w, t + at, piece)
        at += piece
        piece = size


cdef void put_split(writer_t* w, part_t* p, const char* t, Py_ssize_t len) noexcept nogil:
    """What lies between separators, without empty pieces. An empty separator splits everywhere."""
    cdef Py_ssize_t at = 0, start = 0
    cdef bint some = False
    if p.len == 0:
        put_pieces(w, t, len, 0, 1)
        return
    while at <= len:
        if at == len or (at + p.len <= len and memcmp(t + at, p.text, p.len) == 0):
            if at > start:
                if some:
                    put(w, b".", 1)
                put(w, t + start, at - start)
                some = True
            at += p.len
            start = at
        else:
            at += 1


cdef void put_cut(writer_t* w, part_t* p, const char* t, Py_ssize_t len) noexcept nogil:
    """A function that cuts a token in pieces; one that is too short stays whole."""
    cdef Py_ssize_t size = p.number
    if size <= 0 or size >= len:
        put(w, t, len)
    elif p.kind == PART_SPLIT_LEFT:
        put_pieces(w, t, len, size, len - size)
    elif p.kind == PART_SPLIT_RIGHT:
        put_pieces(w, t, len, len - size, size)
    elif p.kind == PART_SLICE_LEFT:
        put_pieces(w, t, len, 0, size)
    elif p.kind == PART_SLICE_RIGHT:
        put_pieces(w, t, len, len % size, size)
    elif p.kind == PART_LEFT:
        put(w, t, size)
    else:
        put(w, t + len - size, size)


cdef void put_part(writer_t* w, part_t* p, uint64_t* random, const char* s, Py_ssize_t n) noexcept nogil:
    cdef const char* t
    cdef Py_ssize_t len
    if p.kind == PART_WORD:
        put(w, p.text, p.len)
        return
    if p.kind == PART_PARTITION:
        put_digits(w, partition_of(p, s, n))
        return
    if p.kind == PART_RANDOM:
        put_digits(w, random_below(random, <uint32_t>p.number) if p.number > 0 else 0)
        return
    t = find_token(s, n, p.token, &len)
    if p.kind == PART_WILDCARD:
        put(w, t, len)
    elif p.kind == PART_SPLIT:
        put_split(w, p, t, len)
    else:
        put_cut(w, p, t, len)


cdef char* transform_apply(transform_t* t, uint64_t* random, const char* s, Py_ssize_t n, Py_ssize_t* made) noexcept nogil:
    """What a subject becomes, with a blank behind it, for the caller to free. NULL: not its source, or memory is out."""
    cdef writer_t w
    cdef uint32_t i
    cdef const char* rest
    cdef Py_ssize_t len
    if not is_subset_match(s, n, t.source, t.source_len):
        return NULL
    memset(&w, 0, sizeof(w))
    for i in range(t.num_parts):
        if i:
            put(&w, b".", 1)
        put_part(&w, &t.parts[i], random, s, n)
    if t.rest >= 0:
        if t.num_parts:
            put(&w, b".", 1)
        rest = find_token(s, n, t.rest, &len)
        put(&w, rest, s + n - rest)
    made[0] = w.len
    put(&w, b" ", 1)
    if w.failed:
        free(w.data)
        return NULL
    return w.data


cdef char* mappings_apply(account_t* a, uint64_t* random, const char* s, Py_ssize_t n, Py_ssize_t* made) noexcept nogil:
    """What an account's mappings make of a published subject, as transform_apply gives it. NULL: it stays."""
    cdef mapping_t* m
    cdef uint32_t i, k, drawn
    for i in range(a.num_mappings):
        m = &a.mappings[i]
        if not is_subset_match(s, n, m.source, m.source_len):
            continue
        drawn = random_below(random, 100) if m.num_dests != 1 or m.dests[0].upto != 100 else 0
        for k in range(m.num_dests):
            if drawn < m.dests[k].upto:
                return transform_apply(m.dests[k].transform, random, s, n, made)
        return NULL
    return NULL


cdef char* copy_text(bytes text) except NULL:
    """A copy that C may keep, with a NUL behind it, for the caller to free."""
    cdef char* p = <char*>malloc(len(text) + 1)
    if p == NULL:
        raise MemoryError
    memcpy(p, <const char*>text, len(text) + 1)
    return p


cdef class Transform:
    """A transform that is possible. source and dest are for display.

    parts: (name of the function or "" for a word, argument, number or separator) for each part of the destination:
    ("", text, 0), ("wildcard", token, 0), ("partition", (tokens, ...), count), ("random", 0, count),
    ("split", token, separator) and (name of a cut, token, size), where a token is its index in the subject.
    rest: index of the first token that the source's ">" stands for, -1 where it has none.
    """

    def __init__(self, str source, str dest, list parts, int32_t rest):
        cdef part_t* p
        cdef bytes text = source.encode("utf-8", "surrogateescape")
        self.source = source
        self.dest = dest
        self.random = <uint64_t>id(self) * 0x9E3779B97F4A7C15ULL | 1
        self.t.source = copy_text(text)
        self.t.source_len = <uint32_t>len(text)
        self.t.rest = rest
        self.t.parts = <part_t*>calloc(max(len(parts), 1), sizeof(part_t))
        if self.t.parts == NULL:
            raise MemoryError
        for kind, argument, extra in parts:
            p = &self.t.parts[self.t.num_parts]
            self.t.num_parts += 1
            p.kind = _KINDS[kind]
            if p.kind == PART_WORD or p.kind == PART_SPLIT:
                text = (argument if p.kind == PART_WORD else extra).encode("utf-8", "surrogateescape")
                p.text = copy_text(text)
                p.len = <uint32_t>len(text)
            else:
                p.number = extra
            if p.kind == PART_PARTITION:
                p.tokens = <int32_t*>calloc(max(len(argument), 1), sizeof(int32_t))
                if p.tokens == NULL:
                    raise MemoryError
                for token in argument:
                    p.tokens[p.num_tokens] = token
                    p.num_tokens += 1
            elif p.kind != PART_WORD:
                p.token = argument

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.t.num_parts):
            free(self.t.parts[i].text)
            free(self.t.parts[i].tokens)
        free(self.t.parts)
        free(self.t.source)

    def apply(self, bytes subject):
        """What the subject becomes; None where the transform isn't about it."""
        cdef Py_ssize_t n
        cdef char* made = transform_apply(&self.t, &self.random, subject, len(subject), &n)
        if made == NULL:
            return None
        result = made[:n]
        free(made)
        return result


cdef class Mappings:
    """An account's mappings: (source, [(weight in percent, Transform), ...]), in their order."""

    def __init__(self, list mappings):
        cdef mapping_t* m
        cdef bytes source
        cdef uint32_t upto
        cdef Transform transform
        self.transforms = []
        self.items = <mapping_t*>calloc(max(len(mappings), 1), sizeof(mapping_t))
        if self.items == NULL:
            raise MemoryError
        for text, dests in mappings:
            m = &self.items[self.count]
            self.count += 1
            source = text.encode("utf-8", "surrogateescape")
            m.source = copy_text(source)
            m.source_len = <uint32_t>len(source)
            m.dests = <dest_t*>calloc(max(len(dests), 1), sizeof(dest_t))
            if m.dests == NULL:
                raise MemoryError
            upto = 0
            for weight, transform in dests:
                upto += weight
                m.dests[m.num_dests].upto = upto
                m.dests[m.num_dests].transform = &transform.t
                m.num_dests += 1
                self.transforms.append(transform)

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.count):
            free(self.items[i].source)
            free(self.items[i].dests)
        free(self.items)
