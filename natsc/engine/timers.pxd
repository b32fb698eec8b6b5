# Timers of the clients: a binary heap of nodes that live inside the clients.

from libc.stdint cimport uint64_t

from natsc.engine.types cimport client_t, engine_t, timer_fn, timer_heap_t, timer_node_t

cdef bint timer_arm(timer_heap_t* h, timer_node_t* t, uint64_t when_ns, timer_fn fire, client_t* c) noexcept nogil
cdef void timer_cancel(timer_heap_t* h, timer_node_t* t) noexcept nogil
cdef int timers_fire(engine_t* e, uint64_t now_ns, int limit) noexcept nogil
