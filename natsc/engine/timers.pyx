"""A binary heap of timers, fired in the order of their deadlines.

The nodes live inside the clients (timer_node_t), so arming and cancelling allocates nothing but the heap's own array.
A node with when_ns == 0 is not armed.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport realloc

from natsc.engine.types cimport client_t, engine_t, timer_fn, timer_heap_t, timer_node_t


cdef void sift_up(timer_heap_t* h, timer_node_t* t, uint32_t pos) noexcept nogil:
    cdef uint32_t parent
    while pos > 0:
        parent = (pos - 1) >> 1
        if h.items[parent].when_ns <= t.when_ns:
            break
        h.items[pos] = h.items[parent]
        h.items[pos].pos = pos
        pos = parent
    h.items[pos] = t
    t.pos = pos


cdef void sift_down(timer_heap_t* h, timer_node_t* t, uint32_t pos) noexcept nogil:
    cdef uint32_t child
    while True:
        child = 2 * pos + 1
        if child >= h.count:
            break
        if child + 1 < h.count and h.items[child + 1].when_ns < h.items[child].when_ns:
            child += 1
        if t.when_ns <= h.items[child].when_ns:
            break
        h.items[pos] = h.items[child]
        h.items[pos].pos = pos
        pos = child
    h.items[pos] = t
    t.pos = pos


cdef bint timer_arm(timer_heap_t* h, timer_node_t* t, uint64_t when_ns, timer_fn fire, client_t* c) noexcept nogil:
    """Arm t, or move it where it is armed already. False where memory is out."""
    cdef timer_node_t** grown
    cdef uint32_t pos
    timer_cancel(h, t)
    if h.count == h.cap:
        grown = <timer_node_t**>realloc(h.items, (h.cap * 2 + 64) * sizeof(timer_node_t*))
        if grown == NULL:
            return False
        h.items = grown
        h.cap = h.cap * 2 + 64
    t.when_ns = when_ns if when_ns else 1
    t.fire = fire
    t.client = c
    pos = h.count
    h.count += 1
    sift_up(h, t, pos)
    return True


cdef void timer_cancel(timer_heap_t* h, timer_node_t* t) noexcept nogil:
    """Disarm t; nothing happens where it is not armed."""
    cdef timer_node_t* last
    cdef uint32_t pos
    if t.when_ns == 0:
        return
    pos = t.pos
    t.when_ns = 0
    h.count -= 1
    last = h.items[h.count]
    if last == t:
        return
    if pos > 0 and h.items[(pos - 1) >> 1].when_ns > last.when_ns:
        sift_up(h, last, pos)
    else:
        sift_down(h, last, pos)


cdef int timers_fire(engine_t* e, uint64_t now_ns, int limit) noexcept nogil:
    """Fire what is due, at most limit timers, earliest first. Returns how many fired."""
    cdef timer_heap_t* h = &e.timers
    cdef timer_node_t* t
    cdef int fired = 0
    while h.count and h.items[0].when_ns <= now_ns and fired < limit:
        t = h.items[0]
        timer_cancel(h, t)
        t.fire(e, t.client)
        fired += 1
    return fired
