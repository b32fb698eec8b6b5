/* rtt: requesters keep a window of requests open, responders answer them; the time of each. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/epoll.h>

#include "loadgen.h"

static const char SERVICE[] = "bench.service";
static uint64_t counted_from_ns;

static void on_message(struct conn *c, const struct head *h, const uint8_t *body)
{
    (void)body;
    if (c->role == RESPONDER) {
        queue_pub(c, h->reply, h->reply_len, NULL, 0);
        return;
    }
    long slot = reply_slot(h);
    uint64_t t = now_ns();
    if (t >= counted_from_ns) {
        record_ns(t - c->sent_ns[slot]);
        c->msgs++;
    }
    queue_request(c, slot, SERVICE, strlen(SERVICE));
}

void run_rtt(const char *mode)
{
    (void)mode;
    static struct conn *requesters[PEERS_MAX];
    for (int i = 0; i < opt.subscribers; i++) {
        struct conn *c = open_conn(RESPONDER, i);
        subscribe(c, SERVICE, opt.subscribers > 1 ? "q" : "");
        watch(c, EPOLLIN);
    }
    for (int i = 0; i < opt.publishers; i++) {
        struct conn *c = requesters[i] = open_requester(i);
        watch(c, EPOLLIN);
        for (long slot = 0; slot < opt.window; slot++)
            queue_request(c, slot, SERVICE, strlen(SERVICE));
        flush_out(c);
    }
    uint64_t warm_ns = now_ns() + WARM_UP_MS * 1000000ull, end_ns = warm_ns + (uint64_t)(opt.secs * 1e9);
    counted_from_ns = warm_ns;
    struct stopwatch w = stopwatch_start();
    bool warm = false;
    for (uint64_t t = now_ns(); t < end_ns; t = now_ns()) {
        if (!warm && t >= warm_ns) {
            warm = true;
            w = stopwatch_start();
        }
        talk(on_message);
    }
    long done = 0;
    for (int i = 0; i < opt.publishers; i++)
        done += requesters[i]->msgs;
    print_result(w, done, done, latency_fields());
}
