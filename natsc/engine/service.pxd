# Service imports: requests that cross into another account, and their responses.

from natsc.engine.types cimport account_t, client_t, engine_t, match_t, msg_t, service_t, sub_t

cdef void reply_prefix_choose(engine_t* e, account_t* a) noexcept nogil
cdef void take_request(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept nogil
cdef void take_response(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept nogil
cdef void responses_prune(engine_t* e) noexcept nogil
cdef bint response_wanted(engine_t* e, const char* subject, Py_ssize_t n) noexcept nogil
cdef void responses_clear(engine_t* e, service_t* service) noexcept nogil
