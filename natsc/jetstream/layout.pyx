"""The store's format.

Databases: `m/<name>` holds a stream's messages (key: big-endian sequence, value: a record), `c/<name>` what its
consumers keep (keys are theirs), `meta` the rest. <name> is "<account>/<stream>", each part percent-encoded but for
letters, digits, "_", "-" and "."; a part that gets too long keeps its start and a digest.

Keys of meta: `format`, `id`; `s/<name>` a stream's own record (state_head, then account, NUL, stream);
`k/<name>/<part>` a checkpoint of its subjects; `q/<name>` the sequences of records that were found damaged (8 bytes
and why, behind a checksum); `u/<key>` whatever the layers above keep.

In an encrypted store (natsc/jetstream/vault.pyx) records, values and labels are sealed, <name> is a hash, and so are the
keys below `u/` and in `c/<name>`: there the value begins with the length of the key (2 bytes) and the key. `key` in meta
is the store's own key, as natsc/jetstream/storekey.py keeps it.

Every record carries two checksums: one over its numbers and subject, which a scan at open verifies without touching big
payloads, and one over the rest, continued from the first. The values don't depend on the hardware, only the speed does.
"""

from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static uint32_t crc_tables[8][256];
    static int crc_hardware;

    static uint32_t crc_soft(uint32_t crc, const unsigned char *p, size_t n) {
        uint64_t w;
        while (n >= 8) {
            memcpy(&w, p, 8);
            w ^= crc;
            crc = crc_tables[7][w & 255] ^ crc_tables[6][(w >> 8) & 255] ^ crc_tables[5][(w >> 16) & 255] ^
                  crc_tables[4][(w >> 24) & 255] ^ crc_tables[3][(w >> 32) & 255] ^ crc_tables[2][(w >> 40) & 255] ^
                  crc_tables[1][(w >> 48) & 255] ^ crc_tables[0][w >> 56];
            p += 8;
            n -= 8;
        }
        while (n--)
            crc = crc_tables[0][(crc ^ *p++) & 255] ^ (crc >> 8);
        return crc;
    }

    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>
    /* A CRC step waits for the one before it, so three stretches side by side go about as fast as one. A stretch's sum
       is carried over what follows it by a multiplication with x^(bits - 33) modulo the polynomial: see crc_detect. */
    #define LANE_MAX 128        /* words of a stretch */
    static uint32_t crc_shifts[2 * LANE_MAX + 1];

    __attribute__((target("sse4.2,pclmul")))
    static inline uint64_t crc_shift(uint64_t crc, size_t words) {
        __m128i x = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi64_si128(crc_shifts[words]), 0);
        return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(x));
    }

    __attribute__((target("sse4.2,pclmul")))
    static uint32_t crc_hard(uint32_t crc, const unsigned char *p, size_t n) {
        uint64_t a = crc, b, c, w, x, y;
        while (n >= 192) {
            size_t words = n / 24 < LANE_MAX ? n / 24 : LANE_MAX;
            const unsigned char *q = p + 8 * words, *r = q + 8 * words, *end = q;
            for (b = c = 0; p < end; p += 8, q += 8, r += 8) {
                memcpy(&w, p, 8);
                memcpy(&x, q, 8);
                memcpy(&y, r, 8);
                a = _mm_crc32_u64(a, w);
                b = _mm_crc32_u64(b, x);
                c = _mm_crc32_u64(c, y);
            }
            a = crc_shift(a, 2 * words) ^ crc_shift(b, words) ^ c;
            p = r;
            n -= 24 * words;
        }
        while (n >= 8) {
            memcpy(&w, p, 8);
            a = _mm_crc32_u64(a, w);
            p += 8;
            n -= 8;
        }
        while (n--)
            a = _mm_crc32_u8((uint32_t)a, *p++);
        return (uint32_t)a;
    }
    static int crc_detect(void) {
        uint32_t v = 0x80000000u;
        int words, bits = 0;
        for (words = 1; words <= 2 * LANE_MAX; words++) {
            for (; bits < 64 * words - 33; bits++)
                v = v & 1 ? 0x82f63b78u ^ v >> 1 : v >> 1;
            crc_shifts[words] = v;
        }
        __builtin_cpu_init();
        return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
    }
    #else
    static uint32_t crc_hard(uint32_t crc, const unsigned char *p, size_t n) { return crc_soft(crc, p, n); }
    static int crc_detect(void) { return 0; }
    #endif

    static void crc_start(void) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++)
                c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
            crc_tables[0][i] = c;
        }
        for (uint32_t i = 0; i < 256; i++)
            for (int k = 1; k < 8; k++)
                crc_tables[k][i] = crc_tables[0][crc_tables[k - 1][i] & 255] ^ (crc_tables[k - 1][i] >> 8);
        crc_hardware = crc_detect();
    }
    """
    uint32_t crc_soft(uint32_t crc, const unsigned char* p, size_t n) noexcept nogil
    uint32_t crc_hard(uint32_t crc, const unsigned char* p, size_t n) noexcept nogil
    void crc_start() noexcept nogil
    int crc_hardware

crc_start()


cdef uint32_t crc32c(uint32_t crc, const char* p, size_t n) noexcept nogil:
    """CRC-32C (Castagnoli) of n bytes, continued from crc (0 to begin)."""
    if crc_hardware:
        return ~crc_hard(~crc, <const unsigned char*>p, n)
    return ~crc_soft(~crc, <const unsigned char*>p, n)


cdef void record_write(char* out, uint64_t seq, int64_t ts_ns, uint64_t prev, const char* subject,
                       Py_ssize_t subject_len, const char* hdr, Py_ssize_t hdr_len, const char* msg,
                       Py_ssize_t msg_len) noexcept nogil:
    """Fill out with a record of record_size() bytes. Its checksums are left to record_seal."""
    cdef record_t* r = <record_t*>out
    cdef char* p = out + sizeof(record_t)
    r.body_crc = 0
    r.head_crc = 0
    r.seq = seq
    r.ts_ns = ts_ns
    r.prev = prev
    r.hdr_len = <uint32_t>hdr_len
    r.body_len = <uint32_t>(hdr_len + msg_len)
    r.subject_len = <uint16_t>subject_len
    r.format = RECORD_FORMAT
    r.flags = 0
    memcpy(p, subject, subject_len)
    p += subject_len
    if hdr_len:
        memcpy(p, hdr, hdr_len)
        p += hdr_len
    if msg_len:
        memcpy(p, msg, msg_len)


cdef void record_seal(char* rec) noexcept nogil:
    """Fill in the checksums: the storage worker's part, so that it costs the loop nothing."""
    cdef record_t* r = <record_t*>rec
    r.head_crc = crc32c(0, rec + 8, sizeof(record_t) - 8 + r.subject_len)
    r.body_crc = crc32c(r.head_crc, rec + sizeof(record_t) + r.subject_len, r.body_len)


cdef int record_check_head(const char* rec, size_t n, uint64_t seq) noexcept nogil:
    """Whether the n bytes of rec are a record of seq, as far as numbers and subject tell."""
    cdef record_t* r = <record_t*>rec
    if n < sizeof(record_t) or n < sizeof(record_t) + r.subject_len:
        return RECORD_SHORT
    if r.head_crc != crc32c(0, rec + 8, sizeof(record_t) - 8 + r.subject_len):
        return RECORD_HEAD
    if r.seq != seq or r.format != RECORD_FORMAT or r.hdr_len > r.body_len:
        return RECORD_HEAD
    if n != sizeof(record_t) + r.subject_len + r.body_len:
        return RECORD_SHORT
    return RECORD_OK


cdef int record_check_body(const char* rec) noexcept nogil:
    """Whether headers and payload are whole; the head must have been checked."""
    cdef record_t* r = <record_t*>rec
    if r.body_crc != crc32c(r.head_crc, rec + sizeof(record_t) + r.subject_len, r.body_len):
        return RECORD_BODY
    return RECORD_OK


cdef void record_view(const char* rec, stored_t* out) noexcept nogil:
    """The record as slices."""
    cdef record_t* r = <record_t*>rec
    out.seq = r.seq
    out.ts_ns = r.ts_ns
    out.prev = r.prev
    out.subject = rec + sizeof(record_t)
    out.subject_len = r.subject_len
    out.hdr = out.subject + r.subject_len
    out.hdr_len = r.hdr_len
    out.msg = out.hdr + r.hdr_len
    out.msg_len = r.body_len - r.hdr_len


# Names, and what tests and tools use.

RECORD_REASONS = {
    RECORD_MISSING: "record missing",
    RECORD_SHORT: "wrong length",
    RECORD_HEAD: "checksum of the head",
    RECORD_BODY: "checksum of the body",
    RECORD_UNREADABLE: "unreadable page",
    RECORD_SEALED: "doesn't decrypt",
}


def encode_name(name: str) -> bytes:
    """One part of a database's name: plain ASCII without "/", never longer than 190 bytes, one to one."""
    plain = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
    encoded = b"".join(b"%c" % c if c in plain else b"%%%02X" % c for c in name.encode("utf-8", "surrogateescape"))
    if len(encoded) <= 190:
        return encoded
    from hashlib import sha256
    return encoded[:120] + b"~" + sha256(encoded).hexdigest().encode()


def stream_name(account: str, stream: str) -> bytes:
    """The name under which a stream's databases are found."""
    return encode_name(account) + b"/" + encode_name(stream)


def checksum(data: bytes, crc: int = 0, hardware: bool = True) -> int:
    """CRC-32C of data; hardware=False computes it from tables."""
    if hardware:
        return crc32c(crc, data, len(data))
    return ~crc_soft(~<uint32_t>crc, data, len(data)) & 0xFFFFFFFF


def with_checksum(data: bytes) -> bytes:
    """What without_checksum gives back, or not at all."""
    return checksum(data).to_bytes(4, "little") + data


def without_checksum(data: bytes) -> bytes:
    """ValueError where it isn't what it was."""
    if len(data) < 4 or int.from_bytes(data[:4], "little") != checksum(data[4:]):
        raise ValueError("wrong checksum")
    return data[4:]


def pack_record(uint64_t seq, int64_t ts_ns, bytes subject, bytes hdr, bytes msg, uint64_t prev=0) -> bytes:
    """A sealed record."""
    cdef size_t n = record_size(len(subject), len(hdr), len(msg))
    out = bytearray(n)
    cdef char* p = out
    record_write(p, seq, ts_ns, prev, subject, len(subject), hdr, len(hdr), msg, len(msg))
    record_seal(p)
    return bytes(out)


def unpack_record(bytes rec, uint64_t seq) -> tuple[int, int, bytes, bytes, bytes]:
    """(timestamp, previous on the subject, subject, headers, payload); ValueError says what is wrong."""
    cdef stored_t s
    cdef const char* p = rec
    cdef int rc = record_check_head(p, len(rec), seq)
    if rc == RECORD_OK:
        rc = record_check_body(p)
    if rc != RECORD_OK:
        raise ValueError(RECORD_REASONS[rc])
    record_view(p, &s)
    return s.ts_ns, s.prev, s.subject[:s.subject_len], s.hdr[:s.hdr_len], s.msg[:s.msg_len]
