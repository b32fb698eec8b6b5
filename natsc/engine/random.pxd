# The engine's randomness: its own, seeded, so that the same inputs give the same outputs.

from libc.stdint cimport uint32_t, uint64_t


cdef inline uint32_t random_below(uint64_t* state, uint32_t n) noexcept nogil:
    """A number below n (xorshift64*, high bits)."""
    cdef uint64_t x = state[0]
    x ^= x >> 12
    x ^= x << 25
    x ^= x >> 27
    state[0] = x
    return <uint32_t>((((x * 0x2545F4914F6CDD1DULL) >> 32) * n) >> 32)
