/* Failing, time, what the server uses (from /proc), and the result line. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <string.h>

#include "loadgen.h"

void fail(const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *p = text; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ')
            *p = ' ';
    printf("{\"error\": \"%s\"}\n", text);
    exit(1);
}

void *must_alloc(void *p)
{
    if (!p)
        fail("out of memory");
    return p;
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double now_s(void)
{
    return (double)now_ns() * 1e-9;
}

/* CPU seconds that the server's process has used, all threads; 0 without -P. */
static double server_cpu_s(void)
{
    char path[64], text[2048];
    snprintf(path, sizeof path, "/proc/%d/stat", opt.server_pid);
    FILE *f = opt.server_pid ? fopen(path, "r") : NULL;
    if (!f)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    unsigned long user = 0, sys = 0;
    char *p = strrchr(text, ')'); /* proc(5): fields 14 and 15; the name in field 2 may hold spaces */
    if (p)
        sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static double own_cpu_s(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

struct memory {
    long rss_kb, peak_kb;
};

static struct memory server_memory(void)
{
    struct memory m = {0, 0};
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/status", opt.server_pid);
    FILE *f = opt.server_pid ? fopen(path, "r") : NULL;
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "VmRSS: %ld", &m.rss_kb);
        sscanf(line, "VmHWM: %ld", &m.peak_kb);
    }
    if (f)
        fclose(f);
    return m;
}

long server_rss_kb(void)
{
    return server_memory().rss_kb;
}

struct stopwatch stopwatch_start(void)
{
    return (struct stopwatch){now_s(), server_cpu_s(), own_cpu_s(), 0};
}

void stopwatch_stop(struct stopwatch *w)
{
    w->secs = now_s() - w->start_s;
    w->server_cpu_s = server_cpu_s() - w->server_cpu_s;
    w->own_cpu_s = own_cpu_s() - w->own_cpu_s;
}

void print_result(struct stopwatch w, long count, long delivered, const char *extra)
{
    if (!w.secs)
        stopwatch_stop(&w);
    struct memory m = server_memory();
    printf("{\"secs\": %.3f, \"count\": %ld, \"rate\": %.1f, \"delivered\": %ld, \"delivered_rate\": %.1f, "
           "\"server_cpu_us\": %.4f, \"server_busy\": %.2f, \"generator_busy\": %.2f, \"rss_kb\": %ld, "
           "\"peak_rss_kb\": %ld%s}\n",
           w.secs, count, (double)count / w.secs, delivered, (double)delivered / w.secs,
           w.server_cpu_s * 1e6 / (double)(count ? count : 1), w.server_cpu_s / w.secs, w.own_cpu_s / w.secs,
           m.rss_kb, m.peak_kb, extra);
}
