# Accounts: isolated subject spaces, the clients in them and those clients' subscriptions.

from libc.stdint cimport uint64_t

from natsc.engine.types cimport account_t, client_t, engine_t, sub_t, watch_t

cdef class Account:
    cdef account_t a
    cdef readonly str name
    cdef bytes json_name            # a.json_name points into it
    cdef object kept_streams        # what a.stream_imports and a.mappings point into
    cdef object kept_mappings
    cdef public object imports      # what it imports (natsc.server.imports.Imports), or None
    cdef public object replies      # natsc.imports.Replies, once a service is imported from it or by it
    cdef public object limits       # configured limits (natsc.config), or None
    cdef object configured

cdef enum sub_result_t:
    SUB_ADDED = 0
    SUB_EXISTS = 1          # the sid is taken: nothing changes
    SUB_BAD_SUBJECT = 2

cdef sub_result_t add_sub(engine_t* e, client_t* c, const char* subject, Py_ssize_t n, const char* queue,
                          Py_ssize_t queue_len, const char* sid, Py_ssize_t sid_len) noexcept nogil
cdef sub_t* find_sub(engine_t* e, client_t* c, const char* sid, Py_ssize_t sid_len) noexcept nogil
cdef tuple describe(sub_t* s)
cdef void remove_sub(engine_t* e, client_t* c, sub_t* s) noexcept nogil
cdef void remove_all_subs(engine_t* e, client_t* c) noexcept nogil
cdef void join_account(engine_t* e, client_t* c, account_t* a) noexcept nogil
cdef void leave_account(engine_t* e, client_t* c) noexcept nogil
cdef void close_client(engine_t* e, client_t* c, int reason) noexcept nogil
cdef void free_graves(engine_t* e) noexcept nogil
cdef bint watch_add(engine_t* e, watch_t* w, account_t* a, const char* subject, Py_ssize_t n) noexcept nogil
cdef void watch_remove(engine_t* e, watch_t* w) noexcept nogil
cdef void watches_notify(engine_t* e) noexcept nogil
