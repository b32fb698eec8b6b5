/* The command line of loadgen, which drives a NATS server over loopback TCP and prints one
 * line of JSON.
 *
 *     cd loadgen && cc -O2 -o loadgen *.c
 *     loadgen MODE -p PORT [-P SERVER_PID] [options]
 *
 * Modes (the options each one reads are in brackets)
 *     pub    publishers, nobody listens                                  [-n -s -H -t]
 *     fan    publishers on one subject, every subscriber gets everything [-n -m -s -H -W -o -r -t]
 *     pair   publisher i and subscribers i, i+n, ... share subject i     [-n -m -s -H -t]
 *     queue  publishers on one subject, one queue group                  [-n -m -s -H -t]
 *     rtt    requesters with a window of open requests, responders       [-n -m -w -s -o -r -t]
 *     conn   connect, CONNECT, PING, PONG, close, and again              [-w -t]
 *     idle   connections that do nothing: memory                         [-C -W -t]
 *     subs   subscriptions on a few connections: memory                  [-N -n -t]
 *     slow   one fast subscriber beside subscribers that never read      [-m -s -t]
 *     js-publish  publishers with a window of unacknowledged messages    [-n -w -s -S -D -f -a -o -k -t, or -F -N]
 *     js-consume  a pull consumer reads the stream, acknowledging        [-A -N]
 *
 * Design
 * One thread and one epoll set: the generator takes one core and leaves the others to the server. It must not be the
 * bottleneck: a flooding publisher sends one prebuilt block of identical PUBs again and again, a subscriber knows the
 * length of its messages after the first one and steps from head to head without parsing, and all connections read into
 * one shared buffer that stays in the cache. "generator_busy" in the result (share of one core) tells whether it was
 * the bottleneck all the same.
 *
 * Invariants
 * 1. A flood counts as done when its last message has arrived everywhere, not when it was sent.
 * 2. Every message's first byte and its closing CR LF are checked; one byte astray ends the run.
 * 3. Whatever goes wrong (connection closed, -ERR, no responders, a stall) ends the run with exit status 1 and
 *    {"error": ...}: a run never reports a rate for work that was refused.
 * 4. Everything is bounded in time: no run outlasts -t by more than GRACE_S.
 *
 * Files: loadgen.h (options, the connection), common.c (time, the server's figures, the result), conn.c (connections);
 * then the modes: flood.c (pub, fan, pair, queue), slow.c, latency.c, talk.c and rtt.c (rtt), dial.c (conn), memory.c
 * (idle, subs), jetstream.c (js-publish, js-consume).
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "loadgen.h"

struct options opt = {.port = 4222, .secs = 1, .size = 128, .publishers = 1, .subscribers = 1, .window = 1,
                      .connections = 1000, .count = 100000, .storage = "file", .subjects = 1};

static const struct {
    const char *name;
    void (*run)(const char *mode);
} MODES[] = {
    {"pub", run_flood}, {"fan", run_flood}, {"pair", run_flood}, {"queue", run_flood}, {"rtt", run_rtt},
    {"conn", run_conn}, {"idle", run_idle}, {"subs", run_subs}, {"slow", run_slow}, {"js-publish", run_js_publish},
    {"js-consume", run_js_consume},
};

static int usage(void)
{
    fprintf(stderr, "usage: loadgen MODE -p PORT [-P server_pid] [-t secs] [-s bytes] [-n publishers]\n"
                    "               [-m subscribers] [-w window] [-C connections] [-N count]\n"
                    "               [-S file|memory] [-D subjects] [-f consumers] [-H (headers)] [-W (wildcard)]\n"
                    "               [-a (accounts)] [-r (by role)] [-o (one account)] [-k (keep the stream)] [-F (fill)] [-A (no acks)]\n"
                    "modes:");
    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++)
        fprintf(stderr, " %s", MODES[i].name);
    fprintf(stderr, "\n");
    return 2;
}

static bool parse_options(int argc, char **argv)
{
    for (int o; (o = getopt(argc, argv, "p:P:t:s:n:m:w:C:N:S:D:f:HWaorkFA")) != -1;)
        switch (o) {
        case 'p': opt.port = atoi(optarg); break;
        case 'P': opt.server_pid = atoi(optarg); break;
        case 't': opt.secs = atof(optarg); break;
        case 's': opt.size = atoi(optarg); break;
        case 'n': opt.publishers = atoi(optarg); break;
        case 'm': opt.subscribers = atoi(optarg); break;
        case 'w': opt.window = atoi(optarg); break;
        case 'C': opt.connections = atoi(optarg); break;
        case 'N': opt.count = atol(optarg); break;
        case 'H': opt.headers = true; break;
        case 'S': opt.storage = optarg; break;
        case 'D': opt.subjects = atoi(optarg); break;
        case 'f': opt.filtered = atoi(optarg); break;
        case 'W': opt.wildcard = true; break;
        case 'a': opt.accounts = true; break;
        case 'o': opt.one_account = true; break;
        case 'r': opt.by_role = true; break;
        case 'k': opt.keep = true; break;
        case 'F': opt.fill = true; break;
        case 'A': opt.no_acks = true; break;
        default: return false;
        }
    return opt.publishers >= 1 && opt.publishers <= PEERS_MAX && opt.subscribers >= 0 && opt.subscribers <= PEERS_MAX &&
           opt.window >= 1 && opt.window <= 100000 && opt.size >= 0 && opt.size + LINE_MAX_BYTES < READ_CAP &&
           opt.connections >= 1 && opt.count >= opt.publishers && opt.subjects >= 1;
}

int main(int argc, char **argv)
{
    if (argc < 2 || !parse_options(argc - 1, argv + 1))
        return usage();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(0);
    payload = must_alloc(malloc((size_t)opt.size + 2));
    for (int i = 0; i < opt.size; i++)
        payload[i] = (uint8_t)('a' + i % 26);
    memcpy(payload + opt.size, "\r\n", 2);
    for (size_t i = 0; i < sizeof MODES / sizeof *MODES; i++)
        if (!strcmp(argv[1], MODES[i].name)) {
            MODES[i].run(argv[1]);
            return 0;
        }
    return usage();
}
