/* pub, fan, pair, queue: publishers that send as fast as the server takes it. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "loadgen.h"

/* The length of the message whose head starts at p: its last number is the payload's. 0 where the head isn't whole. */
static size_t message_length(const uint8_t *p, const uint8_t *end)
{
    const uint8_t *eol = memchr(p, '\n', (size_t)(end - p));
    if (!eol)
        return 0;
    size_t size = 0, scale = 1;
    for (const uint8_t *d = eol - 2; *d != ' '; d--, scale *= 10)
        size += (size_t)(*d - '0') * scale;
    return (size_t)(eol - p) + 1 + size + 2;
}

/* Counts the messages among the n bytes in inbuf and keeps the tail (invariant 2). */
static void count_messages(struct conn *c, size_t n)
{
    const uint8_t *p = inbuf, *end = inbuf + n;
    if (c->missing) { /* the message that the last read ended in */
        size_t k = c->missing < n ? c->missing : n;
        p += k;
        c->missing -= k;
        if (!c->missing) {
            if (p[-1] != '\n')
                fail("a message doesn't end where it should");
            c->msgs++;
        }
    }
    while (p < end) {
        if (*p == 'M' || *p == 'H') {
            if (!c->stride && !(c->stride = message_length(p, end)))
                break;
            if ((size_t)(end - p) < c->stride) {
                c->missing = c->stride - (size_t)(end - p);
                p = end;
            } else {
                if (p[c->stride - 2] != '\r' || p[c->stride - 1] != '\n')
                    fail("a message doesn't end where it should");
                p += c->stride;
                c->msgs++;
            }
        } else {
            const uint8_t *eol = memchr(p, '\n', (size_t)(end - p));
            if (!eol)
                break;
            control_line(c, p, (size_t)(eol - p));
            p = eol + 1;
        }
    }
    keep_tail(c, p, (size_t)(end - p));
}

/* Answers the server's PINGs; false where the socket is full. */
static bool answer_pings(struct conn *c)
{
    for (; c->pongs_owed; c->pongs_owed--)
        if (send(c->fd, "PONG\r\n", 6, MSG_NOSIGNAL) != 6)
            return false;
    return true;
}

long drain_messages(struct conn *c)
{
    long before = c->msgs;
    size_t n;
    do {
        n = receive(c);
        if (n)
            count_messages(c, n);
    } while (n >= READ_CAP / 2);
    if (c->role == SUBSCRIBER) /* publishers answer between two blocks */
        answer_pings(c);
    return c->msgs - before;
}

void build_block(struct conn *c, const char *subject)
{
    static const char HEADER[] = "NATS/1.0\r\nA: b\r\n\r\n";
    char head[256];
    int n;
    if (opt.headers)
        n = snprintf(head, sizeof head, "HPUB %s %zu %zu\r\n%s", subject, sizeof HEADER - 1,
                     sizeof HEADER - 1 + (size_t)opt.size, HEADER);
    else
        n = snprintf(head, sizeof head, "PUB %s %d\r\n", subject, opt.size);
    size_t one = (size_t)n + (size_t)opt.size + 2, k = one < BLOCK_BYTES ? BLOCK_BYTES / one : 1;
    c->block = must_alloc(malloc(one * k));
    for (size_t i = 0; i < k; i++) {
        memcpy(c->block + i * one, head, (size_t)n);
        memcpy(c->block + i * one + n, payload, (size_t)opt.size + 2);
    }
    c->block_len = one * k;
    c->block_msgs = (long)k;
}

void publish(struct conn *c, bool stop)
{
    for (int turn = 0; turn < BLOCKS_A_TURN; turn++) {
        if (c->block_off == 0 && !answer_pings(c))
            return;
        if (c->block_off == 0 && stop) {
            if (send(c->fd, "PING\r\n", 6, MSG_NOSIGNAL) != 6)
                return; /* full: the next EPOLLOUT tries again */
            c->phase = PINGING;
            rewatch(c, EPOLLIN);
            return;
        }
        ssize_t k = send(c->fd, c->block + c->block_off, c->block_len - c->block_off, MSG_NOSIGNAL);
        if (k < 0 && errno == EAGAIN)
            return;
        if (k < 0)
            fail("publish: %s", strerror(errno));
        c->block_off += (size_t)k;
        if (c->block_off < c->block_len)
            return;
        c->block_off = 0;
        c->sent += c->block_msgs;
    }
}

struct flood {
    struct conn *pubs[PEERS_MAX], *subs[PEERS_MAX];
    bool pair, queue;
    int drained;    /* publishers whose closing PONG has come */
    long delivered;
};

static void open_flood(struct flood *f)
{
    char subject[32];
    for (int i = 0; i < opt.subscribers; i++) {
        f->subs[i] = open_conn(SUBSCRIBER, i);
        snprintf(subject, sizeof subject, opt.wildcard ? "bench.*" : "bench.%03d", f->pair ? i % opt.publishers : 0);
        subscribe(f->subs[i], subject, f->queue ? "q" : "");
        watch(f->subs[i], EPOLLIN);
    }
    for (int i = 0; i < opt.publishers; i++) {
        f->pubs[i] = open_conn(PUBLISHER, i);
        snprintf(subject, sizeof subject, "bench.%03d", f->pair || !opt.subscribers ? i : 0);
        build_block(f->pubs[i], subject);
        watch(f->pubs[i], EPOLLIN | EPOLLOUT);
    }
}

/* Messages sent so far, and in *due what must be delivered for them. */
static long flood_sent(const struct flood *f, long *due)
{
    long sent = 0;
    *due = 0;
    for (int i = 0; i < opt.publishers; i++) {
        int listeners = opt.subscribers;
        if (f->queue)
            listeners = 1;
        else if (f->pair)
            listeners = (opt.subscribers + opt.publishers - 1 - i) / opt.publishers;
        sent += f->pubs[i]->sent;
        *due += f->pubs[i]->sent * listeners;
    }
    return sent;
}

static void flood_event(struct flood *f, struct conn *c, uint32_t events, bool stop)
{
    if (c->role == SUBSCRIBER) {
        f->delivered += drain_messages(c);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        drain_messages(c);
    if (c->phase == SENDING && (events & EPOLLOUT))
        publish(c, stop);
    else if (c->phase == PINGING && c->ponged) {
        c->phase = DRAINED;
        f->drained++;
    }
}

void run_flood(const char *mode)
{
    static struct flood f;
    struct epoll_event events[EVENTS];
    long sent = 0, due = 0;
    f.pair = !strcmp(mode, "pair");
    f.queue = !strcmp(mode, "queue");
    if (!strcmp(mode, "pub"))
        opt.subscribers = 0;
    open_flood(&f);

    struct stopwatch w = stopwatch_start();
    double end = w.start_s + opt.secs;
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, 100);
        double t = now_s();
        for (int i = 0; i < n; i++)
            flood_event(&f, events[i].data.ptr, events[i].events, t > end);
        if (f.drained == opt.publishers) { /* invariant 1 */
            sent = flood_sent(&f, &due);
            if (f.delivered >= due)
                break;
        }
        if (t > end + GRACE_S) {
            sent = flood_sent(&f, &due);
            fail("sent %ld, delivered %ld of %ld", sent, f.delivered, due);
        }
    }
    if (f.delivered != due)
        fail("sent %ld, delivered %ld of %ld", sent, f.delivered, due);
    print_result(w, sent, f.delivered, "");
}
