/* idle, subs: what connections and subscriptions cost in memory. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "loadgen.h"

/* Waits -t for the server to settle, then prints what `count` units have cost it. */
static void print_growth(struct stopwatch w, long rss_before_kb, long count)
{
    char extra[160];
    stopwatch_stop(&w);
    usleep((useconds_t)(opt.secs * 1e6));
    long grown_kb = server_rss_kb() - rss_before_kb;
    snprintf(extra, sizeof extra, ", \"rss_before_kb\": %ld, \"grown_kb\": %ld, \"bytes_each\": %.1f",
             rss_before_kb, grown_kb, (double)grown_kb * 1024 / (double)count);
    print_result(w, count, 0, extra);
}

void run_idle(const char *mode)
{
    (void)mode;
    char line[64];
    struct stopwatch w = stopwatch_start();
    long before_kb = server_rss_kb();
    for (int i = 0; i < opt.connections; i++) {
        int fd = dial(i);
        if (opt.wildcard) { /* with one subscription each, as devices have */
            int n = snprintf(line, sizeof line, "SUB device.%d.command 1\r\nPING\r\n", i);
            send_all(fd, line, (size_t)n);
            await(fd, "PONG\r\n");
        }
    }
    print_growth(w, before_kb, opt.connections);
}

void run_subs(const char *mode)
{
    (void)mode;
    struct stopwatch w = stopwatch_start();
    long before_kb = server_rss_kb(), each = opt.count / opt.publishers;
    size_t line_cap = 64;
    char *lines = must_alloc(malloc(line_cap * (size_t)each));
    for (int i = 0; i < opt.publishers; i++) {
        char *p = lines;
        for (long k = 0; k < each; k++)
            p += snprintf(p, line_cap, "SUB device.%ld.telemetry.%d %ld\r\n", i * each + k, i, k + 1);
        int fd = dial(i);
        send_all(fd, lines, (size_t)(p - lines));
        send_all(fd, "PING\r\n", 6);
        await(fd, "PONG\r\n");
    }
    free(lines);
    print_growth(w, before_kb, each * opt.publishers);
}
