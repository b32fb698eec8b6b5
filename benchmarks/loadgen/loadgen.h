/* Shared declarations of loadgen. A mode is a function that sets up connections, loads the server for opt.secs and
 * prints its result. */
#ifndef LOADGEN_H
#define LOADGEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    READ_CAP = 256 * 1024,  /* bytes one read may bring */
    BLOCK_BYTES = 128 * 1024, /* a publisher's prebuilt block, unless one message is larger */
    BLOCKS_A_TURN = 4,      /* blocks a publisher may write before the others get their turn */
    LINE_MAX_BYTES = 4096,  /* longest protocol line that is expected, INFO included */
    EVENTS = 256,           /* epoll events fetched at once */
    PEERS_MAX = 4096,       /* publishers, or subscribers */
    GRACE_S = 20,           /* time for what is under way when -t is over */
    STALL_S = 5,            /* longest silence in a run that should be busy */
    WARM_UP_MS = 200,       /* start of a latency run that isn't counted */
};

extern struct options {
    int port, server_pid;
    double secs;                /* -t: how long to load */
    int size;                   /* -s: payload, bytes */
    int publishers, subscribers; /* -n, -m */
    int window;                 /* -w: open requests a requester, or connects at once */
    int connections;            /* -C */
    long count;                 /* -N: subscriptions, or messages */
    bool headers, wildcard;     /* -H, -W */
    const char *storage;        /* -S: file or memory */
    int subjects;               /* -D: subjects a stream's messages are spread over */
    int filtered;               /* -f: consumers of the stream, each of one subject */
    bool accounts;              /* -a: connection i logs in as user u<i>, password p */
    bool one_account;           /* -o: every connection logs in as u0 */
    bool by_role;               /* -r: who publishes and requests logs in as u0, who receives and responds as u1 */
    bool keep;                  /* -k: the stream is there already */
    bool fill;                  /* -F: publish -N messages and leave the stream, however long it takes */
    bool no_acks;               /* -A: the consumer needs no acknowledgements */
} opt;

/* ---- common.c ---- */

/* Prints {"error": ...} and exits with 1. */
void fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void *must_alloc(void *p);
uint64_t now_ns(void);
double now_s(void);
long server_rss_kb(void); /* 0 without -P */

/* The span that a result speaks of, and the CPU time spent in it. */
struct stopwatch {
    double start_s, server_cpu_s, own_cpu_s;
    double secs; /* 0 while it runs */
};

struct stopwatch stopwatch_start(void);
void stopwatch_stop(struct stopwatch *w);

/* Prints the run's line: `count` units of work done while the stopwatch ran (it is stopped where it still runs),
 * `delivered` messages received, then the mode's own fields, each as ", \"key\": value". */
void print_result(struct stopwatch w, long count, long delivered, const char *extra);

/* ---- conn.c ---- */

enum role { PUBLISHER, SUBSCRIBER, REQUESTER, RESPONDER, DIALER, CALLER };

struct conn {
    int fd;
    enum role role;
    int id;
    long msgs;          /* messages received whole */
    bool ponged;        /* a PONG has come */
    int pongs_owed;     /* PINGs of the server to be answered, where the outgoing stream is between two ops */

    uint8_t *tail;      /* bytes read that are no whole line or message yet; owned */
    size_t tail_len, tail_cap;
    size_t stride;      /* flood subscribers: bytes of each message, 0 until the first was seen */
    size_t missing;     /* flood subscribers: bytes of the current message still to come */

    uint8_t *block;     /* publishers: the PUBs to send again and again; owned */
    size_t block_len, block_off;
    long block_msgs, sent;
    enum { SENDING, PINGING, DRAINED } phase;

    uint8_t *out;       /* requesters, responders: bytes to send; owned */
    size_t out_len, out_off, out_cap;
    bool want_write;    /* EPOLLOUT is asked for */
    uint64_t *sent_ns;  /* requesters: when the request in each slot left; owned */
    uint64_t dial_ns;   /* dialers: when the connect began */
    bool greeted;       /* dialers: INFO was seen and CONNECT sent */
};

extern int epoll_fd;
extern uint8_t inbuf[READ_CAP]; /* every connection reads into it; see receive() */
extern uint8_t *payload;        /* opt.size letters and CR LF */
extern const char HELLO[];      /* CONNECT and PING */

struct sockaddr_in server_address(void);
void send_all(int fd, const void *data, size_t n); /* waits where the socket is full */
void await(int fd, const char *text);              /* blocks until text has come; drops what comes before it */
void await_text(int fd, const char *text, char buf[LINE_MAX_BYTES + 1]); /* and leaves what came last in buf */
int dial(int id);                                  /* a blocking socket that has said CONNECT and seen PONG */
struct conn *open_conn(enum role role, int id);    /* a struct around dial() */
void subscribe(struct conn *c, const char *subject, const char *queue); /* returns when the server has taken it in */
void watch(struct conn *c, uint32_t events);       /* makes it non-blocking and adds it to the epoll set */
void rewatch(struct conn *c, uint32_t events);

/* Reads once into inbuf, behind the tail of the last read. Returns the bytes there are, 0 when nothing new came. They
 * are valid until the next receive() of any connection; keep_tail() saves what isn't used up. Fails when closed. */
size_t receive(struct conn *c);
void keep_tail(struct conn *c, const uint8_t *p, size_t n);

/* Acts on a line that is no message: counts PINGs to be answered, notes a PONG, fails on -ERR. */
void control_line(struct conn *c, const uint8_t *line, size_t n);

/* ---- flood.c, for slow.c too ---- */

/* Reads and counts messages until a read comes back short. Returns how many came. */
long drain_messages(struct conn *c);
void build_block(struct conn *c, const char *subject);

/* Writes blocks until the socket is full or the turn is over; with `stop`, a PING after the current block. */
void publish(struct conn *c, bool stop);

/* ---- talk.c: for modes that talk message by message ---- */

/* A MSG line taken apart; the slices point into the line. */
struct head {
    const uint8_t *subject, *reply;
    size_t subject_len, reply_len, size;
};

/* Sends what is queued in c->out; the rest when EPOLLOUT comes. */
void flush_out(struct conn *c);
uint8_t *reserve(struct conn *c, size_t n); /* room for n more bytes at the end of c->out */
uint8_t *put(uint8_t *p, const void *data, size_t n);

/* Queues "PUB subject[ reply] size" and the payload. */
void queue_pub(struct conn *c, const void *subject, size_t subject_len, const void *reply, size_t reply_len);

/* A connection that is subscribed to its inbox. The reply of the request in slot i goes to the inbox's subject i. */
struct conn *open_requester(int id);
void queue_request(struct conn *c, long slot, const char *subject, size_t subject_len);
long reply_slot(const struct head *h);

/* Waits for events once; acts on every whole message that came, and sends what was queued meanwhile. */
void talk(void (*on_message)(struct conn *c, const struct head *h, const uint8_t *body));

/* ---- latency.c ---- */

void record_ns(uint64_t ns);
const char *latency_fields(void); /* for print_result */

/* ---- modes ---- */

void run_flood(const char *mode);
void run_rtt(const char *mode);
void run_conn(const char *mode);
void run_idle(const char *mode);
void run_subs(const char *mode);
void run_slow(const char *mode);
void run_js_publish(const char *mode);
void run_js_consume(const char *mode);

#endif
