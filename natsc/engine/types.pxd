# The data plane's structs, in one place: read this first.
#
# Ownership: an engine owns its clients, accounts, buffers and match cache; a sublist owns its nodes; a client owns its
# subscriptions. A removed subscription is freed at end_turn, a client with its handle: a turn may still point at them.
# Times are nanoseconds of the engine's monotonic clock, sizes are bytes.

from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #ifndef NATSC_TYPES_H
    #define NATSC_TYPES_H
    #define likely(x) __builtin_expect(!!(x), 1)
    #define unlikely(x) __builtin_expect(!!(x), 0)
    /* Multiply-and-fold over 8-byte words: a subject of 16 bytes costs two rounds. Seeded per engine, so that
       nobody can choose subjects that collide. */
    static inline uint64_t hash_bytes(const char *p, size_t n, uint64_t seed) {
        uint64_t h = seed ^ (n * 0x9E3779B97F4A7C15ull), w;
        while (n >= 8) {
            memcpy(&w, p, 8);
            h = (h ^ w) * 0xff51afd7ed558ccdull;
            h ^= h >> 32;
            p += 8;
            n -= 8;
        }
        if (n) {
            w = 0;
            memcpy(&w, p, n);
            h = (h ^ w) * 0xff51afd7ed558ccdull;
            h ^= h >> 32;
        }
        h *= 0xc4ceb9fe1a85ec53ull;
        return h ^ (h >> 29);
    }
    #endif
    """
    uint64_t hash_bytes(const char* p, size_t n, uint64_t seed) noexcept nogil
    bint likely(bint) noexcept nogil
    bint unlikely(bint) noexcept nogil

# Client kinds, in nats-server's order: they appear in monitoring and, later, in traces.
cdef enum:
    KIND_CLIENT = 0
    KIND_ROUTER = 1
    KIND_GATEWAY = 2
    KIND_SYSTEM = 3
    KIND_LEAF = 4
    KIND_JETSTREAM = 5
    KIND_ACCOUNT = 6

# client_t.slow: any bit set sends an inbound PUB down the full path instead of the shortcut.
cdef enum:
    SLOW_VERBOSE = 1        # answer +OK
    SLOW_PEDANTIC = 2       # check the publish subject
    SLOW_AUTH = 4           # CONNECT must come first
    SLOW_TRACE = 8          # log every operation
    SLOW_CLOSING = 16       # consume nothing more

# client_t.special: any bit set sends an outbound message down the full path of deliver.
cdef enum:
    SPECIAL_CLOSED = 1      # marked dead: deliver nothing
    SPECIAL_NO_HEADERS = 2  # strip the header block
    SPECIAL_DENY = 4        # has a subscription that overlaps a denied subject
    SPECIAL_REPLIES = 8     # allow_responses: remember reply subjects
    SPECIAL_TRACE = 16      # log every message
    SPECIAL_INTERNAL = 32   # no connection: client_t.on_msg takes the message
    SPECIAL_LOCAL = 64      # internal, and its subscriptions have no shadows

cdef struct counters_t:
    uint64_t in_msgs
    uint64_t in_bytes
    uint64_t out_msgs
    uint64_t out_bytes

# A token of a transform's result, or a run of them.
cdef struct part_t:
    int kind                # PART_*: see transform.pyx
    int32_t token           # index of the subject's token that it is made of
    int64_t number          # size, position or number of partitions
    uint32_t len
    uint32_t num_tokens     # partitions: of how many tokens; 0 = of the whole subject
    int32_t* tokens
    char* text              # a word, or the separator of a split

# How literal subjects that match source become others. Wildcards and rest are resolved to indexes of tokens.
cdef struct transform_t:
    char* source            # with wildcards
    uint32_t source_len
    uint32_t num_parts
    part_t* parts
    int32_t rest            # index of the first token that ">" stands for; -1 = no ">"

# A weighted destination of a mapping, and a mapping.
cdef struct dest_t:
    uint32_t upto           # chosen where a random number below 100 is less
    transform_t* transform

cdef struct mapping_t:
    char* source
    uint32_t source_len
    uint32_t num_dests
    dest_t* dests

# A stream that an account imports: subscriptions in it that overlap `to` get a shadow in the source's tree.
cdef struct stream_import_t:
    account_t* source
    char* subject           # in the source
    uint32_t subject_len
    char* to                # here
    uint32_t to_len
    bint allow_trace        # its messages may be traced further
    transform_t* there      # from here to the source; NULL where both are the same
    transform_t* here       # and back

# What a subscription has in another account.
cdef struct shadow_t:
    sub_t* sub              # in the other account's tree
    sub_t* origin           # the client's own
    stream_import_t* rule
    shadow_t* next          # the origin's next shadow

# One subscription. It sits in its node's list and in its client's table of sids.
cdef struct sub_t:
    client_t* client
    node_t* node            # where in the sublist; NULL once removed
    sub_t* next             # in the node's list; once removed, in the engine's list to free at end_turn
    sub_t* prev
    shadow_t* shadow        # the first of its shadows; of a shadow, its own struct
    uint64_t max_msgs       # UNSUB <sid> <max>; 0 = no limit
    uint64_t delivered
    uint32_t queue_hash
    uint32_t sid_len
    uint32_t queue_len      # 0 = a plain subscription
    char text[1]            # sid, then queue; really sid_len + queue_len bytes

# A level of the subject tree. Most nodes have one child, so one child is held directly and only more get a table.
cdef struct node_t:
    node_t* parent
    node_t* pwc             # child "*"
    node_t* fwc             # child ">"
    void* children          # cap == 0: the only child or NULL; else node_t*[cap], open addressing
    sub_t* subs
    uint32_t num_children
    uint32_t cap
    uint32_t hash
    uint32_t token_len
    char token[1]           # really token_len bytes

# The subject tree of one account (or of one permission list).
cdef struct sublist_t:
    node_t root
    uint64_t seed
    uint64_t wild_gen       # bumped by a change under a leading "*" or ">": it may touch any subject
    uint64_t* gens          # 256 generations, by hash of the first token; NULL where nothing caches
    uint64_t num_subs
    uint64_t num_inserts
    uint64_t num_removes
    uint64_t num_matches
    uint64_t num_cache_hits

# One receiver of a cached match. Plain subscriptions first, then the members of each queue group side by side.
cdef struct target_t:
    sub_t* sub
    client_t* client
    char* prefix            # "HMSG <subject> <sid> ", built at the second use; MSG starts one byte later
    uint32_t prefix_len
    uint32_t group          # 0 = plain; in a group's first member the number of members, in the others 1

# A cached match: who receives <subject> in <account>. Valid while its generation is.
cdef struct match_t:
    uint64_t hash
    uint64_t gen
    uint64_t* first_gen     # the generation of the first token
    sublist_t* sublist
    char* subject           # with a blank behind it
    target_t* targets
    uint32_t subject_len
    uint32_t subject_cap
    uint32_t num_targets
    uint32_t cap_targets
    uint32_t hits
    uint32_t perms_id       # whose publish permission was looked up last, and what it said
    bint perms_ok

# Who receives acknowledgements. Their subjects never repeat, but often nobody tells them apart by more than their first
# tokens and the number of all.
cdef struct ack_match_t:
    match_t m               # of the subject that was asked for last
    uint32_t key_len        # bytes of its first tokens, with the dot behind them; 0 = none
    uint32_t tokens

# A message on its way through deliver. Slices into the read buffer, valid until deliver returns.
cdef struct msg_t:
    const char* subject
    Py_ssize_t subject_len
    const char* reply       # NULL = none
    Py_ssize_t reply_len
    const char* tail        # "[reply ][hdr ]size\r\n<payload>\r\n": what MSG and PUB have in common
    Py_ssize_t tail_len
    const char* payload
    Py_ssize_t size         # headers and payload
    Py_ssize_t hdr_len      # -1 = PUB

# Timers: an intrusive binary heap, so arming and cancelling allocates nothing.
ctypedef void (*timer_fn)(engine_t* e, client_t* c) noexcept nogil

cdef struct timer_node_t:
    uint64_t when_ns        # 0 = not armed
    uint32_t pos
    timer_fn fire
    client_t* client

cdef struct timer_heap_t:
    timer_node_t** items
    uint32_t count
    uint32_t cap

# Publish and subscribe rules of one user, shared by its connections.
cdef struct perms_t:
    uint32_t id             # unique in the process's life: match_t.perms_id names it
    bint has_pub_allow
    bint has_pub_deny
    bint has_sub_allow
    bint has_sub_deny
    sublist_t pub_allow
    sublist_t pub_deny
    sublist_t sub_allow
    sublist_t sub_deny
    bint has_response
    int64_t response_max_msgs   # <= 0 = no limit
    int64_t response_ttl_ns     # <= 0 = no limit

# A reply subject that a client may answer (allow_responses).
cdef struct reply_t:
    uint64_t hash
    uint64_t time_ns
    int64_t used
    uint32_t len
    char* subject

cdef struct replies_t:
    reply_t* items          # open addressing, a deleted slot has subject == NULL and hash == 1
    uint32_t count
    uint32_t used_slots
    uint32_t cap
    uint64_t last_prune_ns
    uint32_t since_prune

# Output of a client for this turn, from the engine's pool; off bytes of it are sent.
cdef struct outbuf_t:
    char* data
    Py_ssize_t len
    Py_ssize_t cap
    Py_ssize_t off

cdef struct account_t:
    sublist_t sublist
    mapping_t* mappings     # of published subjects; NULL = none
    uint32_t num_mappings
    uint32_t num_stream_imports
    stream_import_t* stream_imports     # NULL = none
    char* json_name         # the name as a JSON string; the Account owns it
    uint32_t json_name_len
    char reply_prefix[12]   # "_R_.<six>." of responses to services that it exports; "" = none were imported yet
    counters_t counters
    uint64_t slow_consumers
    uint64_t total_conns
    uint32_t num_clients
    bint traces_parents     # messages with a W3C traceparent may be traced
    int32_t max_conns       # -1 = no limit, as are the next two
    int32_t max_subs
    int32_t max_payload
    PyObject* handle        # the Account that owns this struct (borrowed)

cdef struct client_t:
    # Hot: read for every message.
    uint32_t slow           # SLOW_* bits
    uint32_t special        # SPECIAL_* bits
    match_t* last           # the match of the last publish
    account_t* account
    perms_t* perms          # NULL = everything is allowed
    outbuf_t out
    Py_ssize_t handed       # bytes given to the transport that it has not sent yet
    Py_ssize_t max_pending
    int64_t max_payload     # -1 = no limit
    counters_t counters
    bint dirty              # in the engine's list of clients to flush
    bint blocked            # the socket is full: the transport will call
    bint headers            # both sides speak headers
    bint no_echo
    bint no_responders
    bint stuck              # blocked and without progress for some time: nobody waits for it
    uint8_t kind
    uint8_t out_class       # size class of the buffer that the last turn needed
    # Input.
    Py_ssize_t need         # bytes that the operation at the front of the input has in all; 0 = not known yet
    char* tail              # input that is no whole operation yet
    Py_ssize_t tail_len
    Py_ssize_t tail_cap
    int32_t max_control_line
    # Subscriptions: a table by sid, open addressing.
    sub_t** sids
    uint32_t num_subs
    uint32_t sids_used      # with the deleted slots
    uint32_t sids_cap
    int32_t max_subs        # -1 = no limit
    int32_t max_sub_tokens  # 0 = no limit
    replies_t* replies
    # Life.
    uint64_t cid
    uint64_t start_ns
    uint64_t last_ns        # last activity, either way
    uint64_t last_in_ns     # last input that counts against sending a PING
    uint64_t rtt_start_ns
    uint64_t rtt_ns
    uint64_t progress       # bytes sent so far: whether a blocked client still moves
    uint64_t stalls
    int32_t pings_out
    uint64_t ping_interval_ns   # 0 = the server's
    bint connected          # CONNECT was accepted
    bint first_pong_sent
    bint closing
    bint detached           # subscriptions and account given back
    bint suspended          # authentication is under way elsewhere
    uint8_t close_reason
    timer_node_t ping_timer
    timer_node_t auth_timer
    timer_node_t write_timer
    void (*flush)(engine_t* e, client_t* c) noexcept   # set by net/: sends c.out
    # Set by net/ on plain TCP: sends c.out, then the two slices, and returns how many bytes the socket took.
    Py_ssize_t (*send_through)(client_t* c, const char* a, Py_ssize_t n, const char* b, Py_ssize_t m) noexcept nogil
    int fd                  # for send_through
    PyObject* handle        # the Client (borrowed; the engine's dict owns it)
    # Internal clients: takes a message, and must not deliver anything itself (job_post does it after the operation).
    void (*on_msg)(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept nogil
    void* owner             # on_msg's own

# Work that a message has caused and that waits for the end of the turn. Lives in its owner; posted at most once at a time.
cdef struct job_t:
    void (*run)(engine_t* e, void* owner) noexcept
    void* owner
    job_t* next
    bint posted

# Somebody who must know when the subscriptions that match a subject may have changed. Lives in its owner.
cdef struct watch_t:
    watch_t* next
    watch_t* prev
    sublist_t* sublist
    uint64_t* first_gen     # the generation of the subject's first token
    uint64_t gen            # what it and the wildcards' were when it was looked at last
    void (*changed)(engine_t* e, void* owner) noexcept nogil   # at the end of the turn; it may post a job, not deliver
    void* owner

# A service that an account imports: what is published on the subject that `client` listens to goes to another account.
cdef struct service_t:
    engine_t* e
    account_t* account      # the importer
    account_t* dest         # the exporter
    client_t* client        # internal, in the importer
    transform_t* transform  # NULL: to `to`, or where that is NULL too, to the subject that was published
    char* to
    uint32_t to_len
    bint many               # a request may get many responses (stream, chunked)
    bint share              # tell the responder all about the requester
    bint allow_trace        # requests may be traced further
    uint64_t threshold_ns   # how long a response is waited for
    int32_t sampling        # latency: -1 = never measured, 0 = as headers say, else percent
    PyObject* handle        # the ServiceImport that owns this struct (borrowed)
    response_t* first       # responses waited for, the longest first
    response_t* last
    uint32_t num_responses
    timer_node_t timer

# A response that is waited for: what is published on subject, in the exporter's account, goes to `to` in the importer's.
cdef struct response_t:
    uint64_t hash
    response_t* chain       # of the hash table
    response_t* next        # of the service, later ones
    response_t* prev
    service_t* service
    account_t* account      # of the requester
    account_t* dest         # of the responder
    uint64_t time_ns
    PyObject* measured      # latency: what Python remembers of the request (owned); NULL = not sampled
    bint wanted             # somebody listened for it when it was asked for
    uint32_t subject_len
    uint32_t to_len
    char text[1]            # subject, then to

# A message that a delivery sends on to another account: a service's request or response. Slices as in msg_t.
cdef struct forward_t:
    void (*run)(engine_t* e, client_t* src, forward_t* f) noexcept nogil  # sets delivered
    void* owner
    msg_t msg
    const char* shown       # the subject that receivers are to see; NULL = the one it goes to
    Py_ssize_t shown_len
    bint delivered

cdef struct pool_t:
    void* free_lists[16]    # by size class: 4 KiB << class
    Py_ssize_t bytes        # held in the free lists
    Py_ssize_t max_bytes

cdef struct engine_t:
    # Match cache, direct-mapped.
    match_t* cache
    uint32_t cache_mask
    uint16_t* seen          # by slot, a fingerprint of the subject that missed last
    match_t once            # the match of a subject that hasn't been seen before: most of those are inboxes
    ack_match_t* acks       # by hash of account and first tokens
    uint64_t cached_targets
    uint64_t gens[256]
    uint64_t seed
    uint64_t random         # state of the PRNG (xorshift64*)
    uint64_t now_ns
    uint64_t jump_ns        # while the clock is moved by hand, where it stood: nobody can answer since. 0 = it runs
    # Clients to flush this turn.
    client_t** dirty
    uint32_t num_dirty
    uint32_t cap_dirty
    sub_t* sub_graves
    job_t* jobs             # oldest first
    job_t* last_job
    uint32_t internal       # of the receivers of the message in hand, how many are internal
    bint declined           # on_msg says by this that the message isn't for it: it counts as not delivered
    forward_t* forwards     # caused by the message in hand and not run yet
    uint32_t num_forwards
    uint32_t cap_forwards
    uint32_t forward_depth  # how many accounts the message in hand has crossed
    response_t** responses  # by hash of the subject
    uint32_t num_responses
    uint32_t cap_responses
    bint interest_lost      # subscriptions have gone while responses were waited for
    timer_node_t prune_timer
    const char* shown       # while deliver_as delivers: forward_t.shown of what that causes
    Py_ssize_t shown_len
    PyObject* traced        # the trace of the message in hand (owned), NULL = it isn't traced: see msgtrace.pyx
    bint trace_only         # ... and it is not to be delivered
    client_t* stalled_on    # set by deliver: the publisher should wait for this client
    pool_t pool
    timer_heap_t timers
    counters_t counters
    uint64_t slow_consumers
    uint64_t slow_consumers_write
    uint64_t stale_connections
    uint64_t stalls
    uint64_t total_subs
    char* scratch           # for a message that must be put together again
    Py_ssize_t scratch_cap
    # Options.
    uint64_t ping_interval_ns
    int32_t max_pings_out
    uint64_t write_deadline_ns
    Py_ssize_t stall_at     # pending bytes of a blocked client from which publishers wait
    bint no_stall           # no_fast_producer_stall: drop instead
    bint trace
    bint debug
    PyObject* hooks         # what Python does for the engine (borrowed; see hooks.pyx)
    watch_t* watches
    bint subs_changed       # since the watches were looked at
