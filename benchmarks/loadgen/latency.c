/* Latencies: a histogram with 64 steps a power of two (error under 1.6 %). */
#include <stdio.h>

#include "loadgen.h"

enum { STEPS = 64, BUCKETS = STEPS * 59 };
static uint64_t histogram[BUCKETS], histogram_total, histogram_max;

void record_ns(uint64_t ns)
{
    int power = ns < STEPS ? 0 : 63 - __builtin_clzll(ns) - 5; /* ns >> (power - 1) is in [64, 128) */
    histogram[power ? (size_t)power * STEPS + ((ns >> (power - 1)) & (STEPS - 1)) : ns]++;
    histogram_total++;
    if (ns > histogram_max)
        histogram_max = ns;
}

static double quantile_us(double q)
{
    uint64_t rank = (uint64_t)(q * (double)histogram_total), seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > rank) {
            size_t power = i / STEPS;
            return (double)(power ? (STEPS + i % STEPS) << (power - 1) : i) / 1e3;
        }
    }
    return (double)histogram_max / 1e3;
}

const char *latency_fields(void)
{
    static char text[256];
    snprintf(text, sizeof text,
             ", \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f",
             quantile_us(.5), quantile_us(.9), quantile_us(.99), quantile_us(.999), (double)histogram_max / 1e3);
    return text;
}
