"""Output buffers of the clients.

A client holds a buffer only while it has something to send. Buffers come from free lists by size class (4 KiB, 8 KiB,
...), last in first out so that they are warm in the cache, and a client starts with the class that its last turn needed.
The free lists keep at most pool.max_bytes; what is beyond goes back to the allocator.
"""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from natsc.engine.types cimport client_t, engine_t, pool_t


cdef inline int class_for(Py_ssize_t n) noexcept nogil:
    """The smallest size class of n bytes or more; CLASS_MAX + 1 where there is none."""
    cdef int k = 0
    while k <= CLASS_MAX and (<Py_ssize_t>CLASS_BASE << k) < n:
        k += 1
    return k


cdef char* pool_get(pool_t* pool, int k) noexcept nogil:
    cdef void* b = pool.free_lists[k]
    if b != NULL:
        pool.free_lists[k] = (<void**>b)[0]
        pool.bytes -= <Py_ssize_t>CLASS_BASE << k
        return <char*>b
    return <char*>malloc(<Py_ssize_t>CLASS_BASE << k)


cdef void pool_put(pool_t* pool, char* b, Py_ssize_t cap) noexcept nogil:
    cdef int k = class_for(cap)
    if pool.bytes + cap > pool.max_bytes:
        free(b)
        return
    (<void**>b)[0] = pool.free_lists[k]
    pool.free_lists[k] = b
    pool.bytes += cap


cdef void pool_clear(pool_t* pool) noexcept nogil:
    """Give every pooled buffer back to the allocator."""
    cdef int k
    cdef void* b
    for k in range(CLASS_MAX + 1):
        while pool.free_lists[k] != NULL:
            b = pool.free_lists[k]
            pool.free_lists[k] = (<void**>b)[0]
            free(b)
    pool.bytes = 0


cdef bint out_grow(engine_t* e, client_t* c, Py_ssize_t n) noexcept nogil:
    """Make room for n more bytes. False where memory is out or the client would owe more than the largest class."""
    cdef int k = class_for(c.out.len - c.out.off + n)
    cdef char* b
    if c.out.cap == 0 and k < c.out_class:
        k = c.out_class
    if k > CLASS_MAX:
        return False
    b = pool_get(&e.pool, k)
    if b == NULL:
        return False
    if c.out.len > c.out.off:
        memcpy(b, c.out.data + c.out.off, c.out.len - c.out.off)
    c.out.len -= c.out.off
    c.out.off = 0
    if c.out.data != NULL:
        pool_put(&e.pool, c.out.data, c.out.cap)
    c.out.data = b
    c.out.cap = <Py_ssize_t>CLASS_BASE << k
    c.out_class = <unsigned char>k
    return True


cdef void out_release(engine_t* e, client_t* c) noexcept nogil:
    """Drop c's output, sent or not, and its buffer."""
    if c.out.data != NULL:
        # Where this turn needed a quarter of the buffer or less, the next one starts a class lower.
        if c.out_class > 0 and c.out.len <= c.out.cap >> 2:
            c.out_class -= 1
        pool_put(&e.pool, c.out.data, c.out.cap)
        c.out.data = NULL
    c.out.len = 0
    c.out.cap = 0
    c.out.off = 0


cdef void mark_dirty(engine_t* e, client_t* c) noexcept nogil:
    """Put c on the list of clients that end_turn flushes."""
    cdef client_t** grown
    if e.num_dirty == e.cap_dirty:
        grown = <client_t**>realloc(e.dirty, (e.cap_dirty * 2 + 64) * sizeof(client_t*))
        if grown == NULL:
            return      # it is flushed with its next output
        e.dirty = grown
        e.cap_dirty = e.cap_dirty * 2 + 64
    e.dirty[e.num_dirty] = c
    e.num_dirty += 1
    c.dirty = True
