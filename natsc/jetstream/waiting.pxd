# Pull requests: what one says, and the queue of those that wait for messages.

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    PULL_OK = 0
    PULL_UNUSUAL = 1        # JSON that the short parser doesn't take: Python decides
    PRIORITY_NO_GROUP = 0x7FFFFFFF  # sorts behind every request that has a priority

# A pull request. Slices point into the request.
cdef struct pull_t:
    int64_t batch
    int64_t max_bytes       # 0 = no limit
    int64_t expires_ns      # from now; 0 = never
    int64_t heartbeat_ns    # 0 = none
    bint no_wait
    bint has_group          # written as JSON: the members below count
    int64_t min_pending
    int64_t min_ack_pending
    int64_t priority
    const char* group
    Py_ssize_t group_len
    const char* id          # of the client that messages are pinned to
    Py_ssize_t id_len

# A request in the queue; then its reply subject and its pin id.
cdef struct wait_t:
    wait_t* next
    int64_t left            # messages still wanted
    int64_t sent
    int64_t bytes_left      # 0 = no limit, unless some were sent
    uint64_t expires_ns     # engine clock; 0 = never
    uint64_t heartbeat_at_ns    # 0 = no heartbeats
    int64_t heartbeat_ns
    int64_t min_pending
    int64_t min_ack_pending
    int64_t priority
    bint no_wait
    bint has_group
    uint32_t reply_len
    uint32_t id_len
    uint32_t id_cap
    char text[1]            # really reply_len + id_cap bytes

cdef struct waitq_t:
    wait_t* head
    wait_t* tail
    int64_t count
    int64_t max
    uint64_t last_ns        # when something was last asked or sent

cdef int pull_parse(const char* p, Py_ssize_t n, pull_t* r) noexcept nogil
cdef wait_t* wait_new(const char* reply, Py_ssize_t n, pull_t* r, uint64_t now_ns) noexcept nogil
cdef void waitq_add(waitq_t* q, wait_t* w) noexcept nogil
cdef void waitq_add_sorted(waitq_t* q, wait_t* w) noexcept nogil
cdef wait_t* waitq_remove(waitq_t* q, wait_t* before, wait_t* w) noexcept nogil
cdef wait_t* waitq_take_head(waitq_t* q) noexcept nogil
cdef void waitq_free(waitq_t* q) noexcept nogil


cdef inline const char* wait_id(wait_t* w) noexcept nogil:
    return w.text + w.reply_len
