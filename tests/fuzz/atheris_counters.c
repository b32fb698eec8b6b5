/* Coverage of natively compiled modules for atheris, where the compiler is gcc: it calls __sanitizer_cov_trace_pc at every
   edge, and libFuzzer wants an array of counters. This gives each place its counter, in the order of a hash. Comparisons are
   passed on: atheris's libFuzzer can't be loaded globally, for its other names are in the way then.

   Compiled and loaded by tests/fuzz/atheris_engine.py, before the modules that call it. */

#include <dlfcn.h>
#include <stdint.h>
#include <stddef.h>

#define SIZE (1u << 16) /* natsc has some ten thousand places */

static uintptr_t places[SIZE];
static uint8_t counters[SIZE];
static struct { uintptr_t pc, flags; } table[SIZE]; /* libFuzzer wants an address for every counter */

void __sanitizer_cov_trace_pc(void) {
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    uint32_t i = (uint32_t)((pc * 0x9E3779B97F4A7C15ull) >> 48);
    for (uint32_t probes = 0; places[i] != pc; probes++, i = (i + 1) & (SIZE - 1)) {
        if (places[i] == 0) {
            places[i] = pc;
            break;
        }
        if (probes == 64)
            return;
    }
    counters[i]++;
}

/* A jump each, so that the caller stays the place that compares. */
#define PASS_ON(name, type)                                                                                            \
    static void (*pass_##name)(type, type);                                                                            \
    void __sanitizer_cov_trace_##name(type a, type b) {                                                                \
        if (pass_##name)                                                                                               \
            pass_##name(a, b);                                                                                         \
    }
PASS_ON(cmp1, uint8_t)
PASS_ON(cmp2, uint16_t)
PASS_ON(cmp4, uint32_t)
PASS_ON(cmp8, uint64_t)
PASS_ON(const_cmp1, uint8_t)
PASS_ON(const_cmp2, uint16_t)
PASS_ON(const_cmp4, uint32_t)
PASS_ON(const_cmp8, uint64_t)
static void (*pass_switch)(uint64_t, uint64_t *);
void __sanitizer_cov_trace_switch(uint64_t value, uint64_t *cases) {
    if (pass_switch)
        pass_switch(value, cases);
}

/* libFuzzer has no use for these. */
void __sanitizer_cov_trace_cmpf(float a, float b) { (void)a, (void)b; }
void __sanitizer_cov_trace_cmpd(double a, double b) { (void)a, (void)b; }

/* Tell libFuzzer, in a library that dlopen gave, of the counters. */
void natsc_register(void *library) {
    void (*init)(uint8_t *, uint8_t *) = dlsym(library, "__sanitizer_cov_8bit_counters_init");
    void (*pcs_init)(const uintptr_t *, const uintptr_t *) = dlsym(library, "__sanitizer_cov_pcs_init");
    pass_cmp1 = dlsym(library, "__sanitizer_cov_trace_cmp1");
    pass_cmp2 = dlsym(library, "__sanitizer_cov_trace_cmp2");
    pass_cmp4 = dlsym(library, "__sanitizer_cov_trace_cmp4");
    pass_cmp8 = dlsym(library, "__sanitizer_cov_trace_cmp8");
    pass_const_cmp1 = dlsym(library, "__sanitizer_cov_trace_const_cmp1");
    pass_const_cmp2 = dlsym(library, "__sanitizer_cov_trace_const_cmp2");
    pass_const_cmp4 = dlsym(library, "__sanitizer_cov_trace_const_cmp4");
    pass_const_cmp8 = dlsym(library, "__sanitizer_cov_trace_const_cmp8");
    pass_switch = dlsym(library, "__sanitizer_cov_trace_switch");
    for (uint32_t i = 0; i < SIZE; i++)
        table[i].pc = (uintptr_t)&places[i];
    init(counters, counters + SIZE);
    pcs_init((const uintptr_t *)table, (const uintptr_t *)(table + SIZE));
}
