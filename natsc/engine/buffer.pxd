# Output buffers: pooled by size class, because a fresh big buffer costs a page fault every 4 KiB.

from natsc.engine.types cimport client_t, engine_t, outbuf_t, pool_t, unlikely

cdef enum:
    CLASS_BASE = 4096       # class 0; each class doubles
    CLASS_MAX = 15          # 128 MiB: beyond max_pending's default, so beyond what a client may owe

cdef bint out_grow(engine_t* e, client_t* c, Py_ssize_t n) noexcept nogil
cdef void out_release(engine_t* e, client_t* c) noexcept nogil
cdef void mark_dirty(engine_t* e, client_t* c) noexcept nogil
cdef void pool_clear(pool_t* pool) noexcept nogil


cdef inline char* out_reserve(engine_t* e, client_t* c, Py_ssize_t n) noexcept nogil:
    """Room for n bytes at the end of c's output; the caller then adds what it wrote to c.out.len.

    Marks the client dirty. NULL where memory is out.
    """
    if unlikely(c.out.len + n > c.out.cap):
        if not out_grow(e, c, n):
            return NULL
    if not c.dirty:
        mark_dirty(e, c)
    return c.out.data + c.out.len


cdef inline Py_ssize_t pending_bytes(client_t* c) noexcept nogil:
    """What the client has not received yet."""
    return c.out.len - c.out.off + c.handed
