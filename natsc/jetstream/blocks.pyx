"""Message blocks of nats-server's file storage, as archives made before 2.15 have them.

A record is, little-endian:

    length with itself (32 bits; the highest bit: it has headers), sequence (64), time in ns (64), length of subject (16)
    subject, [length of headers (32), headers,] payload, HighwayHash of all but the lengths (64)

The highest bit of a sequence says that the message was erased, the second that the record removes the message of the
sequence. The key of the hash is the SHA-256 of "<stream>-<number of the block>".
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from natsc.jetstream.archive cimport ArchiveReader
from natsc.jetstream.archive import ArchiveError
from natsc.jetstream.headers cimport headers_scan, headers_t
from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.msgstore import ERRORS
from natsc.jetstream.seqset cimport seqset_next

cdef enum:
    RECORD_HEAD = 22
    RECORD_SUM = 8
    RECORD_MAX = 32 << 20

cdef uint64_t ERASED = <uint64_t>1 << 63
cdef uint64_t TOMBSTONE = <uint64_t>1 << 62
cdef uint32_t HAS_HEADERS = <uint32_t>1 << 31

cdef uint64_t[4] MUL0 = [0xdbe6d5d5fe4cce2f, 0xa4093822299f31d0, 0x13198a2e03707344, 0x243f6a8885a308d3]
cdef uint64_t[4] MUL1 = [0x3bd39e10cb0ef593, 0xc0acf169b5f18a8c, 0xbe5466cf34e90c6c, 0x452821e638d01377]


cdef inline uint64_t swapped(uint64_t x) noexcept nogil:
    return x >> 32 | x << 32


cdef void highway_start(highway_t* h, const uint8_t* key) noexcept nogil:
    """key: 32 bytes."""
    cdef uint64_t part
    cdef int i
    for i in range(4):
        memcpy(&part, key + 8 * i, 8)
        h.mul0[i] = MUL0[i]
        h.mul1[i] = MUL1[i]
        h.v0[i] = MUL0[i] ^ part
        h.v1[i] = MUL1[i] ^ swapped(part)
    h.rest_len = 0


cdef inline void zipper(uint64_t high, uint64_t low, uint64_t* to_high, uint64_t* to_low) noexcept nogil:
    to_low[0] += (((low & <uint64_t>0xff000000) | (high & <uint64_t>0xff00000000)) >> 24
                  | ((low & <uint64_t>0xff0000000000) | (high & <uint64_t>0xff000000000000)) >> 16
                  | (low & <uint64_t>0xff0000) | (low & <uint64_t>0xff00) << 32
                  | (high & <uint64_t>0xff00000000000000) >> 8 | low << 56)
    to_high[0] += (((high & <uint64_t>0xff000000) | (low & <uint64_t>0xff00000000)) >> 24
                   | (high & <uint64_t>0xff0000) | (high & <uint64_t>0xff0000000000) >> 16
                   | (high & <uint64_t>0xff00) << 24 | (low & <uint64_t>0xff000000000000) >> 8
                   | (high & <uint64_t>0xff) << 48 | (low & <uint64_t>0xff00000000000000))


cdef void highway_packet(highway_t* h, const uint64_t* lanes) noexcept nogil:
    cdef int i
    for i in range(4):
        h.v1[i] += h.mul0[i] + lanes[i]
        h.mul0[i] ^= (h.v1[i] & <uint64_t>0xffffffff) * (h.v0[i] >> 32)
        h.v0[i] += h.mul1[i]
        h.mul1[i] ^= (h.v0[i] & <uint64_t>0xffffffff) * (h.v1[i] >> 32)
    for i in range(0, 4, 2):
        zipper(h.v1[i + 1], h.v1[i], &h.v0[i + 1], &h.v0[i])
    for i in range(0, 4, 2):
        zipper(h.v0[i + 1], h.v0[i], &h.v1[i + 1], &h.v1[i])


cdef void highway_add(highway_t* h, const uint8_t* p, Py_ssize_t n) noexcept nogil:
    cdef uint64_t lanes[4]
    cdef Py_ssize_t part
    while n > 0:
        part = min(n, 32 - h.rest_len)
        memcpy(h.rest + h.rest_len, p, part)
        h.rest_len += <int>part
        p += part
        n -= part
        if h.rest_len == 32:
            memcpy(lanes, h.rest, 32)
            highway_packet(h, lanes)
            h.rest_len = 0


cdef uint64_t highway_end(highway_t* h) noexcept nogil:
    cdef uint64_t lanes[4]
    cdef uint8_t packet[32]
    cdef uint32_t half[2]
    cdef int n = h.rest_len, whole = h.rest_len & ~3, last = h.rest_len & 3, i, k
    if n:
        for i in range(4):
            h.v0[i] += (<uint64_t>n << 32) + n
            memcpy(half, &h.v1[i], 8)
            for k in range(2):
                half[k] = half[k] << n | half[k] >> (32 - n)
            memcpy(&h.v1[i], half, 8)
        memset(packet, 0, 32)
        memcpy(packet, h.rest, whole)
        if n & 16:
            for i in range(4):
                packet[28 + i] = h.rest[whole + i + last - 4]
        elif last:
            packet[16] = h.rest[whole]
            packet[17] = h.rest[whole + (last >> 1)]
            packet[18] = h.rest[whole + last - 1]
        memcpy(lanes, packet, 32)
        highway_packet(h, lanes)
    for _ in range(4):
        lanes[0] = swapped(h.v0[2])
        lanes[1] = swapped(h.v0[3])
        lanes[2] = swapped(h.v0[0])
        lanes[3] = swapped(h.v0[1])
        highway_packet(h, lanes)
    return h.v0[0] + h.v1[0] + h.mul0[0] + h.mul1[0]


def highway_hash(bytes key not None, bytes data not None) -> bytes:
    """HighwayHash with 64 bits, as nats-server writes it. key: 32 bytes."""
    cdef highway_t h
    cdef uint64_t found
    assert len(key) == 32
    highway_start(&h, key)
    highway_add(&h, data, len(data))
    found = highway_end(&h)
    return (<char*>&found)[:8]


cdef class BlockReader:
    """Takes the messages of a stream's blocks, one block after another."""

    def begin(self, bytes key not None, uint64_t size) -> None:
        """The next block has so many bytes. key: 32 bytes."""
        assert len(key) == 32
        highway_start(&self.seed, key)
        self.left = size

    def step(self, ArchiveReader reader not None, MsgStore store not None, uint64_t max_payload, int64_t max_msg_size,
             int64_t now_ns, uint64_t room, uint64_t budget, read_ttl) -> bool:
        """Store what the block has, about budget bytes of it. False where more must be fed first.

        As ArchiveReader.read_messages: that has the arguments. The block is read when left is 0.
        """
        cdef uint32_t size
        cdef uint64_t stop = reader.decoded + budget
        while self.left and reader.decoded < stop and store.bytes <= room:
            if self.left < RECORD_HEAD + RECORD_SUM:
                raise ArchiveError("message block: record too short")
            if not reader.want(RECORD_HEAD):
                return False
            memcpy(&size, reader.data + reader.head, 4)
            size &= ~HAS_HEADERS
            if size < RECORD_HEAD + RECORD_SUM or size > self.left or size > RECORD_MAX:
                raise ArchiveError("message block: sanity check failed")
            if not reader.want(size):
                return False
            self.take(store, <uint8_t*>reader.data + reader.head, size, max_payload, max_msg_size, now_ns, read_ttl)
            reader.head += size
            self.left -= size
        return True

    cdef int take(self, MsgStore store, const uint8_t* rec, Py_ssize_t n, uint64_t max_payload, int64_t max_msg_size,
                  int64_t now_ns, read_ttl) except -1:
        """One whole record."""
        cdef highway_t hash = self.seed
        cdef headers_t h
        cdef uint32_t length, hdr_len = 0
        cdef uint64_t seq, wanted
        cdef int64_t ts, ttl
        cdef uint16_t subject_len
        cdef const uint8_t* body = rec + RECORD_HEAD
        cdef Py_ssize_t size
        memcpy(&length, rec, 4)
        memcpy(&seq, rec + 4, 8)
        memcpy(&ts, rec + 12, 8)
        memcpy(&subject_len, rec + 20, 2)
        memcpy(&wanted, rec + n - RECORD_SUM, 8)
        size = n - RECORD_HEAD - RECORD_SUM - subject_len
        if size < 0 or (length & HAS_HEADERS and size < 4):
            raise ArchiveError("message block: sanity check failed")
        body += subject_len
        if length & HAS_HEADERS:
            memcpy(&hdr_len, body, 4)
            body += 4
            size -= 4
            if hdr_len > size:
                raise ArchiveError("message block: sanity check failed")
        highway_add(&hash, rec + 4, 16)
        highway_add(&hash, rec + RECORD_HEAD, subject_len)
        highway_add(&hash, body, size)
        if highway_end(&hash) != wanted:
            raise ArchiveError("message block: invalid checksum")
        self.last_sum = (<char*>rec)[n - RECORD_SUM:n]
        if seq & TOMBSTONE and not seq & ERASED:
            seq &= ~TOMBSTONE
            store.remove(seq)
            self.note_last(seq, ts)
            return 0
        if seq & ERASED or seq == 0:
            self.note_last(seq & ~ERASED, ts)
            return 0
        if seq <= store.last_seq:
            return 0        # it was counted already, and is gone
        if <uint64_t>size > max_payload:
            raise ArchiveError(f"message sequence {seq} exceeds maximum payload size")
        if max_msg_size >= 0 and size > max_msg_size:
            raise ArchiveError(f"message sequence {seq} exceeds maximum message size")
        ArchiveReader.check_subject(rec[RECORD_HEAD:RECORD_HEAD + subject_len], seq)
        self.note_last(seq, ts)
        headers_scan(<char*>body, hdr_len, &h)
        if h.ttl.n:
            ttl = read_ttl(h.ttl.p[:h.ttl.n])
            if ttl > 0 and ts + ttl < now_ns:
                store.skip_to(seq + 1, ts)
                return 0
        if store.append(seq, ts, <char*>rec + RECORD_HEAD, subject_len, <char*>body, hdr_len, <char*>body + hdr_len,
                        size - hdr_len) == 0:
            raise ArchiveError(f"failed to store message sequence {seq}: {ERRORS.get(store.error)}")
        return 0

    def note_last(self, uint64_t seq, int64_t ts) -> None:
        if self.last_seq < seq < TOMBSTONE:
            self.last_seq = seq
            self.last_ts_ns = ts


cdef enum:
    INDEX_MAGIC = 11
    INDEX_VERSION_MAX = 4
    SET_MAGIC = 22
    SET_HEAD = 10               # magic, version, number of nodes (32), of sequences (32)


cdef struct bytes_t:
    const uint8_t* at
    const uint8_t* end
    bint short                  # it ended where something was expected


cdef uint64_t read_varint(bytes_t* b) noexcept nogil:
    cdef uint64_t n = 0
    cdef int shift = 0
    while b.at < b.end and shift < 64:
        n |= <uint64_t>(b.at[0] & 127) << shift
        shift += 7
        b.at += 1
        if b.at[-1] < 128:
            return n
    b.short = True
    return 0


cdef void drop_range(MsgStore store, uint64_t first, uint64_t last) noexcept nogil:
    """Remove what there is of these sequences."""
    cdef uint64_t seq = seqset_next(&store.present, first) if first <= last else 0
    while seq and seq <= last:
        store.remove(seq)
        seq = seqset_next(&store.present, seq + 1)


cdef void read_set(bytes_t* b, MsgStore store) noexcept nogil:
    """A set of sequences: what is in it was removed. store: None to only read over it."""
    cdef uint32_t nodes, words
    cdef uint64_t base, bits, k, bit
    if b.end - b.at < SET_HEAD or b.at[0] != SET_MAGIC or not 1 <= b.at[1] <= 2:
        b.short = True
        return
    words = 64 if b.at[1] == 1 else 32
    memcpy(&nodes, b.at + 2, 4)
    b.at += SET_HEAD
    if <uint64_t>nodes * (8 + words * 8 + 2) > <uint64_t>(b.end - b.at):
        b.short = True
        return
    for _ in range(nodes):
        memcpy(&base, b.at, 8)
        for k in range(words):
            memcpy(&bits, b.at + 8 + 8 * k, 8)
            bit = 0
            while bits and store is not None:
                if bits & 1:
                    store.remove(base + 64 * k + bit)
                bits >>= 1
                bit += 1
        b.at += 8 + words * 8 + 2


cdef bint read_index(bytes_t* b, uint64_t* last_seq, uint64_t last_block, const uint8_t* last_sum,
                     MsgStore store) noexcept nogil:
    """The state of a stream, without its checksum. False where it is damaged, or older than the last block.

    store: what it says to have been removed is removed from it; None to only look.
    """
    cdef uint64_t i, n, first, last, behind = 1
    cdef int version
    if b.end - b.at < 2 or b.at[0] != INDEX_MAGIC or not 1 <= b.at[1] <= INDEX_VERSION_MAX:
        return False
    version = b.at[1]
    b.at += 2
    for _ in range(4):              # messages, bytes, first sequence, its time
        read_varint(b)
    last_seq[0] = read_varint(b)
    read_varint(b)
    n = read_varint(b)
    i = 0
    while i < n and not b.short:    # subjects: text, messages, first block, last block
        first = read_varint(b)
        i += 1
        if first == 0:
            continue
        if first > <uint64_t>(b.end - b.at):
            return False
        b.at += first
        first = read_varint(b)
        read_varint(b)
        if first > 1 or version >= 4:
            read_varint(b)
    n = read_varint(b)
    i = 0
    while i < n and not b.short:    # blocks: number, bytes, first sequence, its time, last, its time, removed ones
        read_varint(b)
        read_varint(b)
        first = read_varint(b)
        read_varint(b)
        last = read_varint(b)
        read_varint(b)
        if store is not None and first > behind:
            drop_range(store, behind, first - 1)
        if last >= behind:
            behind = last + 1
        first = read_varint(b)
        for _ in range(min(version - 1, 2)):
            read_varint(b)          # how many have a time to live, a schedule
        if first:
            read_set(b, store)
        i += 1
    n = read_varint(b)
    if b.short or b.end - b.at < 8 or n != last_block or memcmp(b.at, last_sum, 8) != 0:
        return False
    if store is not None and store.last_seq >= behind:
        drop_range(store, behind, store.last_seq)
    return True


def apply_index(MsgStore store not None, bytes key not None, bytes data not None, uint64_t last_block,
                bytes last_sum not None) -> int | None:
    """Remove what the state of a stream (index.db) says is gone. Its last sequence; None where it says nothing.

    key: of the hash at its end. last_block, last_sum: which block was the last one, and the checksum at its end.
    """
    cdef bytes_t b
    cdef uint64_t last_seq = 0
    if len(data) < 32 or len(last_sum) != 8 or highway_hash(key, data[:-8]) != data[-8:]:
        return None
    b.at = data
    b.end = b.at + len(data) - 8
    b.short = False
    if not read_index(&b, &last_seq, last_block, last_sum, None):
        return None
    b.at = data
    b.short = False
    read_index(&b, &last_seq, last_block, last_sum, store)
    return last_seq
