# The Engine and its Client handles, for natsc/net.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from natsc.engine.account cimport Account
from natsc.engine.types cimport client_t, engine_t

cdef class Client

cdef class Engine:
    cdef engine_t e
    cdef client_t defaults              # what a new client starts as
    cdef readonly object hooks          # what the engine asks of Python: see engine/hooks.pyx
    cdef dict accounts_by_name
    cdef dict clients_by_cid
    cdef set internal_clients
    cdef uint64_t last_cid
    cdef public object rearm            # called when the earliest timer moved forward: rearm(when_ns)
    cdef uint64_t armed_ns              # what rearm was told last; 0 = nothing
    cdef readonly bint frozen           # tests: the clock stands still
    cdef int64_t offset_ns              # tests: how far the clock was advanced
    cdef char* shared                   # the read buffer of all connections
    cdef bint turn_due                  # run_due_turn will be called
    cdef list requests                  # what internal subscriptions received this turn
    cdef public object release          # called with a Client that end_turn closed

    cdef uint64_t read_clock(self) noexcept
    cdef Client new_client(self, Account account, bint internal)
    cdef Py_ssize_t feed(self, client_t* c, Py_ssize_t n) noexcept
    cdef void consume_tail(self, client_t* c) noexcept
    cdef bint has_work(self) noexcept
    cdef void end_turn_c(self)
    cdef void flush_dirty(self)
    cdef void close_out(self, Client h)
    cdef void run_jobs(self)

cdef class Client:
    cdef client_t* c
    cdef readonly Engine engine
    cdef public object conn             # the net/ protocol object that carries it
    cdef object callback                # of an internal client: gets a Request
    cdef tuple declined                 # of an internal client: what begins so is for others
    cdef public dict opts               # what CONNECT said
    cdef public str name
    cdef public str lang
    cdef public str version
    cdef public str user                # the authorized user, "" = none
    cdef public str door                # the allowed_connection_types name of how it came
    cdef public dict cookies            # CONNECT's fields that an HTTP request brought, or None
    cdef public str forwarded_for       # whom a proxy spoke for, "" = nobody
    cdef public str ip
    cdef public int port
    cdef public bytes nonce
    cdef public str label               # for log lines, made when one is written after CONNECT; None until then
    cdef readonly int64_t stop_ns         # when it closed, wall clock
    cdef list last_subs                 # what it had subscribed to when it closed, None = nothing
    cdef public object tls_names        # protocol version and cipher suite, kept for monitoring after it closed; None = plain
    cdef public bint tls_first          # the TLS handshake came before INFO
    cdef public object permissions      # engine.permissions.Permissions or None; c.perms points into it
    cdef public object grant            # what authentication granted, or None
    cdef readonly object account
    cdef readonly int64_t start_wall_ns
    cdef int64_t wall_offset_ns         # wall clock minus engine clock when it connected

    cdef void set_slow(self, uint32_t bit, bint on) noexcept
    cdef void set_special(self, uint32_t bit, bint on) noexcept
