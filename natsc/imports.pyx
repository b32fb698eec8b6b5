"""What accounts import from each other, and their mappings: the handles that Python makes and drops.

One Imports an account holds its stream imports, its service imports and its mappings; a new one takes the old one's place
as a whole. The engine's side is in engine/shadow.pyx (streams), engine/service.pyx (services) and engine/transform.pyx
(mappings).
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from cpython.ref cimport PyObject

from natsc._core cimport Client, Engine
from natsc.engine.account cimport SUB_ADDED, Account, add_sub
from natsc.engine.client cimport detach
from natsc.engine.service cimport reply_prefix_choose, responses_clear, take_request, take_response
from natsc.engine.shadow cimport shadows_add, shadows_remove
from natsc.engine.sublist cimport sub_subject, sublist_visit
from natsc.engine.transform cimport Mappings, Transform, copy_text
from natsc.engine.types cimport SPECIAL_LOCAL, engine_t, response_t, service_t, stream_import_t, sub_t


@cython.no_gc_clear     # __dealloc__ needs engine and client
cdef class ServiceImport:
    """A service that an account imports. exported: the subject of its export; latency: what its latency is told for, or None.

    It works until close() or until it is dropped; then no response is waited for any more.
    """
    cdef service_t s
    cdef Engine engine
    cdef Client client
    cdef Transform transform
    cdef readonly Account account
    cdef readonly Account dest
    cdef readonly str subject
    cdef readonly str exported
    cdef readonly bint share
    cdef readonly object latency

    def __init__(self, Engine engine not None, Account account not None, Account dest not None, str subject, str to,
                 Transform transform, *, str exported, bint many, bint share, uint64_t threshold_ns, object latency=None,
                 bint allow_trace=False):
        cdef bytes text = subject.encode("utf-8", "surrogateescape")
        self.engine = engine
        self.account = account
        self.dest = dest
        self.subject = subject
        self.exported = exported
        self.share = share
        self.latency = latency
        self.transform = transform
        self.s.e = &engine.e
        self.s.account = &account.a
        self.s.dest = &dest.a
        self.s.transform = &transform.t if transform is not None else NULL
        self.s.many = many
        self.s.share = share
        self.s.allow_trace = allow_trace
        self.s.threshold_ns = threshold_ns
        self.s.sampling = latency.sampling if latency is not None else -1
        self.s.handle = <PyObject*>self
        if to != subject and transform is None:
            self.s.to = copy_text(to.encode("utf-8", "surrogateescape"))
            self.s.to_len = <uint32_t>len(to.encode("utf-8", "surrogateescape"))
        self.client = engine.new_client(account, True)
        self.client.c.special |= SPECIAL_LOCAL
        self.client.c.on_msg = take_request
        self.client.c.owner = &self.s
        self.s.client = self.client.c
        if add_sub(&engine.e, self.client.c, text, len(text), NULL, 0, b"1", 1) != SUB_ADDED:
            raise ValueError(f"invalid subject {subject!r}")

    def __dealloc__(self):
        if self.client is not None:
            self.close()
        free(self.s.to)

    @property
    def num_responses(self) -> int:
        """How many responses it waits for."""
        return self.s.num_responses

    def responses(self) -> list:
        """Those that are waited for: (account where it comes, subject there, account where it goes, subject there, Measured)."""
        cdef list found = []
        cdef response_t* r = self.s.first
        while r != NULL:
            found.append((
                <object>r.dest.handle, r.text[:r.subject_len].decode("utf-8", "surrogateescape"), <object>r.account.handle,
                r.text[r.subject_len:r.subject_len + r.to_len].decode("utf-8", "surrogateescape"),
                <object>r.measured if r.measured != NULL else None))
            r = r.next
        return found

    def close(self) -> None:
        responses_clear(&self.engine.e, &self.s)
        detach(&self.engine.e, self.client.c)


cdef class Replies:
    """An account's internal subscription for the responses to services that others import from it."""
    cdef Engine engine
    cdef Client client

    def __init__(self, Engine engine not None, Account account not None):
        cdef bytes subject
        self.engine = engine
        if account.a.reply_prefix[0] == 0:
            reply_prefix_choose(&engine.e, &account.a)
        subject = account.a.reply_prefix[:11] + b">"
        self.client = engine.new_client(account, True)
        self.client.c.special |= SPECIAL_LOCAL
        self.client.c.on_msg = take_response
        if add_sub(&engine.e, self.client.c, subject, len(subject), NULL, 0, b"1", 1) != SUB_ADDED:
            raise ValueError(f"invalid subject {subject!r}")

    def close(self) -> None:
        detach(&self.engine.e, self.client.c)


@cython.no_gc_clear     # shadows are taken out of the sources' trees to the very end
cdef class StreamImports:
    """The streams that an account imports.

    items: (source Account, subject there, subject here, Transform there from here, Transform here from there, whether its
    messages may be traced further); the transforms are None where both subjects are the same.
    """
    cdef stream_import_t* items
    cdef uint32_t count
    cdef tuple kept             # what items point into

    def __init__(self, list items):
        cdef stream_import_t* item
        cdef Account source
        cdef Transform there
        cdef Transform here
        cdef bytes subject, to
        kept = []
        self.items = <stream_import_t*>calloc(max(len(items), 1), sizeof(stream_import_t))
        if self.items == NULL:
            raise MemoryError
        for source, text, to_text, there, here, allow_trace in items:
            subject = text.encode("utf-8", "surrogateescape")
            to = to_text.encode("utf-8", "surrogateescape")
            item = &self.items[self.count]
            self.count += 1
            item.source = &source.a
            item.allow_trace = allow_trace
            item.subject = subject
            item.subject_len = <uint32_t>len(subject)
            item.to = to
            item.to_len = <uint32_t>len(to)
            item.there = &there.t if there is not None else NULL
            item.here = &here.t if here is not None else NULL
            kept.append((source, subject, to, there, here))
        self.kept = tuple(kept)

    def __dealloc__(self):
        free(self.items)


cdef bint shadow_one(sub_t* s, void* ctx) noexcept nogil:
    cdef char subject[4096]
    cdef Py_ssize_t n
    if s.client.special & SPECIAL_LOCAL or (s.shadow != NULL and s.shadow.sub == s):
        return True
    n = sub_subject(s, subject, sizeof(subject))
    if 0 < n <= <Py_ssize_t>sizeof(subject):
        shadows_add(<engine_t*>ctx, s, subject, n)
    return True


cdef bint unshadow_one(sub_t* s, void* ctx) noexcept nogil:
    if s.shadow != NULL and s.shadow.sub != s:
        shadows_remove(<engine_t*>ctx, s)
    return True


def set_streams(Engine engine not None, Account account not None, StreamImports streams) -> None:
    """What the account imports from now on, for subscriptions that exist too; None = nothing."""
    if account.a.stream_imports != NULL:
        sublist_visit(&account.a.sublist, unshadow_one, &engine.e)
    account.kept_streams = streams
    account.a.num_stream_imports = streams.count if streams is not None else 0
    account.a.stream_imports = streams.items if account.a.num_stream_imports else NULL
    if account.a.stream_imports != NULL:
        sublist_visit(&account.a.sublist, shadow_one, &engine.e)


def set_mappings(Account account not None, Mappings mappings) -> None:
    """How the subjects that the account's clients publish to are mapped; None = not."""
    account.kept_mappings = mappings
    account.a.num_mappings = mappings.count if mappings is not None else 0
    account.a.mappings = mappings.items if account.a.num_mappings else NULL
