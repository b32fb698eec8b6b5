# Where a store that is synced at intervals goes back to when the machine has stopped: see syncpoint.pyx.

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SYNCED_HEAD = 152       # of a page of LMDB's with a transaction's number and roots: all that counts of it
    SYNCED_BOOT = 36        # of the machine's run, as text

# A record in the file, little-endian as all else in a store.
cdef packed struct syncpoint_t:
    uint32_t crc            # CRC-32C of everything behind it
    uint32_t page_size
    uint64_t count          # of the records of this store: the higher one counts
    char boot[36]
    char head[152]

cdef int syncpoint_write(int fd, uint64_t count, const char* boot, const char* map, size_t page_size) noexcept nogil
