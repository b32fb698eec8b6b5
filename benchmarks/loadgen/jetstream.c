/* js-publish, js-consume: publishers that await their PubAcks, and a pull consumer.
 *
 * A PubAck counts when it names a sequence and no error; a run in which one doesn't ends with an error. The stream is
 * BENCH; with -a every connection has one in an account of its own.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "loadgen.h"

enum { BATCH = 500, MAX_ACK_PENDING = 50000 };

static uint64_t counted_from_ns;
static long published, acknowledged; /* all publishers together */

static struct conn *open_caller(int id)
{
    struct conn *c = open_conn(CALLER, id);
    subscribe(c, "_INBOX.api", "");
    return c;
}

/* An API request; fails unless its reply has `want` in it. */
static void call(struct conn *c, const char *subject, const char *json, const char *want)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "PUB $JS.API.%s _INBOX.api %zu\r\n%s\r\n", subject, strlen(json), json);
    send_all(c->fd, text, (size_t)n);
    await(c->fd, want);
}

static void create_stream(int id)
{
    char json[256];
    struct conn *c = open_caller(id);
    snprintf(json, sizeof json, "{\"name\":\"BENCH\",\"subjects\":[\"bench.>\"],\"storage\":\"%s\"}", opt.storage);
    call(c, "STREAM.DELETE.BENCH", "", "}"); /* success or "not found" */
    call(c, "STREAM.CREATE.BENCH", json, "did_create");
    for (int i = 0; i < opt.filtered; i++) {
        char subject[64];
        snprintf(subject, sizeof subject, "CONSUMER.DURABLE.CREATE.BENCH.C%d", i);
        snprintf(json, sizeof json,
                 "{\"stream_name\":\"BENCH\",\"config\":{\"durable_name\":\"C%d\",\"ack_policy\":\"explicit\","
                 "\"filter_subject\":\"bench.%d\"}}", i, i);
        call(c, subject, json, "num_ack_pending");
    }
    close(c->fd);
}

static void publish_next(struct conn *c, long slot)
{
    char subject[32];
    int n = snprintf(subject, sizeof subject, "bench.%ld", published++ % opt.subjects);
    queue_request(c, slot, subject, (size_t)n);
}

static void on_puback(struct conn *c, const struct head *h, const uint8_t *body)
{
    if (!memmem(body, h->size, "\"seq\":", 6) || memmem(body, h->size, "\"error\"", 7))
        fail("PubAck %.*s", (int)h->size, (const char *)body);
    long slot = reply_slot(h);
    uint64_t t = now_ns();
    if (t >= counted_from_ns) {
        record_ns(t - c->sent_ns[slot]);
        acknowledged++;
    }
    if (!opt.fill || published < opt.count)
        publish_next(c, slot);
}

void run_js_publish(const char *mode)
{
    (void)mode;
    static struct conn *publishers[PEERS_MAX];
    for (int i = 0; i < opt.publishers; i++) {
        if ((i == 0 || opt.accounts) && !opt.keep)
            create_stream(i);
        publishers[i] = open_requester(i);
        watch(publishers[i], EPOLLIN);
    }
    uint64_t warm_ns = now_ns() + (opt.fill ? 0 : WARM_UP_MS * 1000000ull);
    uint64_t end_ns = warm_ns + (uint64_t)(opt.secs * 1e9);
    counted_from_ns = warm_ns;
    struct stopwatch w = stopwatch_start();
    for (int i = 0; i < opt.publishers; i++) {
        for (long slot = 0; slot < opt.window && (!opt.fill || published < opt.count); slot++)
            publish_next(publishers[i], slot);
        flush_out(publishers[i]);
    }
    bool warm = opt.fill;
    for (uint64_t t = now_ns(); opt.fill ? acknowledged < opt.count : t < end_ns; t = now_ns()) {
        if (!warm && t >= warm_ns) {
            warm = true;
            w = stopwatch_start();
        }
        talk(on_puback);
    }
    print_result(w, acknowledged, acknowledged, latency_fields());
}

static long received;

static void ask(struct conn *c)
{
    char json[64], request[160];
    int n = snprintf(json, sizeof json, "{\"batch\":%d,\"expires\":30000000000}", BATCH);
    n = snprintf(request, sizeof request, "PUB $JS.API.CONSUMER.MSG.NEXT.BENCH.C _INBOX.pull %d\r\n%s\r\n", n, json);
    c->out_len = (size_t)(put(reserve(c, (size_t)n), request, (size_t)n) - c->out);
}

static void on_delivery(struct conn *c, const struct head *h, const uint8_t *body)
{
    (void)body;
    if (!h->reply_len) /* a status */
        return;
    if (!opt.no_acks) {
        uint8_t *p = put(reserve(c, h->reply_len + 20), "PUB ", 4);
        p = put(p, h->reply, h->reply_len);
        c->out_len = (size_t)(put(p, " 4\r\n+ACK\r\n", 10) - c->out);
    }
    if (++received % BATCH == 0) /* two requests are always open */
        ask(c);
}

static const char INFO[] = "PUB $JS.API.CONSUMER.INFO.BENCH.C _INBOX.api 0\r\n\r\n";

void run_js_consume(const char *mode)
{
    (void)mode;
    char json[256];
    struct conn *api = open_caller(0), *c = open_conn(SUBSCRIBER, 0);
    snprintf(json, sizeof json,
             "{\"stream_name\":\"BENCH\",\"config\":{\"durable_name\":\"C\",\"ack_policy\":\"%s\",\"max_ack_pending\":%d}}",
             opt.no_acks ? "none" : "explicit", MAX_ACK_PENDING);
    call(api, "CONSUMER.DURABLE.CREATE.BENCH.C", json, "num_ack_pending");
    subscribe(c, "_INBOX.pull", "");
    watch(c, EPOLLIN);
    struct stopwatch w = stopwatch_start();
    ask(c);
    ask(c);
    flush_out(c);
    while (received < opt.count)
        talk(on_delivery);
    if (!opt.no_acks) { /* the run is over when the server has dealt with every ack */
        while (c->out_len)
            flush_out(c);
        for (double end = now_s() + GRACE_S;;) {
            char reply[LINE_MAX_BYTES + 1];
            send_all(api->fd, INFO, strlen(INFO));
            await_text(api->fd, "num_pending", reply);
            if (strstr(reply, "\"num_ack_pending\":0,"))
                break;
            if (now_s() > end)
                fail("acks are not dealt with after %d s", GRACE_S);
        }
    }
    print_result(w, received, received, "");
}
