# What is in the store's files: the record of a message, the names of the databases, the keys of the meta database.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <stdint.h>
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "natsc's store is little-endian"
    #endif
    static inline uint64_t natsc_bswap64(uint64_t x) { return __builtin_bswap64(x); }
    """
    uint64_t natsc_bswap64(uint64_t x) noexcept nogil

cdef enum:
    STORE_FORMAT = 1        # of the whole store
    RECORD_FORMAT = 1       # of one record
    MAX_NAME = 400          # bytes of a stream's encoded name: with its prefix it must fit into a key of LMDB
    MAX_KEY = 480           # bytes of a consumer's or meta key

# Why a record can't be used.
cdef enum:
    RECORD_NOT_NOW = -1     # nothing is wrong with it, but it can't be read
    RECORD_OK = 0
    RECORD_MISSING = 1      # the key is not there
    RECORD_SHORT = 2
    RECORD_HEAD = 3         # checksum over numbers and subject
    RECORD_BODY = 4         # checksum over headers and payload
    RECORD_UNREADABLE = 5   # LMDB reports a broken page
    RECORD_SEALED = 6       # it doesn't decrypt

# A record: this head, then subject, headers, payload. LMDB aligns values to 2 bytes only, so it is packed.
cdef packed struct record_t:
    uint32_t body_crc       # CRC-32C of headers and payload, continued from head_crc
    uint32_t head_crc       # CRC-32C of everything from seq to the subject's end
    uint64_t seq
    int64_t ts_ns           # wall clock
    uint64_t prev           # the message before it on the same subject; 0 = none or not known
    uint32_t hdr_len
    uint32_t body_len       # headers and payload
    uint16_t subject_len
    uint8_t format
    uint8_t flags           # none yet

# A stream's own record in meta: this head, then its label (account, NUL, stream).
cdef packed struct state_head_t:
    uint32_t crc            # over everything behind it
    uint32_t format
    uint64_t last_seq
    int64_t last_ts_ns
    uint64_t removals       # operations that removed messages

# A stored message as slices into a record: valid until the turn ends or the store changes, whichever comes first.
cdef struct stored_t:
    uint64_t seq
    int64_t ts_ns
    uint64_t prev
    const char* subject
    Py_ssize_t subject_len
    const char* hdr
    Py_ssize_t hdr_len      # 0 = no headers
    const char* msg
    Py_ssize_t msg_len

cdef uint32_t crc32c(uint32_t crc, const char* p, size_t n) noexcept nogil
cdef void record_write(char* out, uint64_t seq, int64_t ts_ns, uint64_t prev, const char* subject,
                       Py_ssize_t subject_len, const char* hdr, Py_ssize_t hdr_len, const char* msg,
                       Py_ssize_t msg_len) noexcept nogil
cdef void record_seal(char* rec) noexcept nogil
cdef int record_check_head(const char* rec, size_t n, uint64_t seq) noexcept nogil
cdef int record_check_body(const char* rec) noexcept nogil
cdef void record_view(const char* rec, stored_t* out) noexcept nogil


cdef inline size_t record_size(Py_ssize_t subject_len, Py_ssize_t hdr_len, Py_ssize_t msg_len) noexcept nogil:
    return sizeof(record_t) + subject_len + hdr_len + msg_len


cdef inline uint64_t seq_to_key(uint64_t seq) noexcept nogil:
    """Big-endian, so that the order of keys is the order of sequences."""
    return natsc_bswap64(seq)


cdef inline uint64_t key_to_seq(const void* key) noexcept nogil:
    return natsc_bswap64((<uint64_t*>key)[0])
