"""S2 streams: the framing and compression of stream snapshots.

A stream is a row of chunks: one byte for the kind, three for the length, then the content. Data chunks begin with a
masked CRC-32C of what they hold. S2 is the Snappy framing format, whose blocks may have up to 4 MiB, whose copies may
repeat the last offset, and whose lengths may be longer. What is written here is plain Snappy within that: blocks of
64 KiB, found with a table of 4-byte groups.

Invariants
1. Nothing that is fed can make the decoder take more memory than one block, one encoded block and what was fed last.
2. A block is handed out only once its checksum was right.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset

from natsc.jetstream.layout cimport crc32c

cdef enum:
    BLOCK_BYTES = 65536         # of one block that is written
    BLOCK_BYTES_MAX = 4 << 20   # of one block that is read
    ENCODED_MAX = (4 << 20) + (4 << 20) // 6 + 64
    TABLE_BITS = 14
    CHUNK_COMPRESSED = 0x00
    CHUNK_PLAIN = 0x01
    CHUNK_SKIPPABLE = 0x80      # from here on
    CHUNK_IDENTIFIER = 0xff
    TAG_LITERAL = 0
    TAG_COPY_1 = 1
    TAG_COPY_2 = 2
    TAG_COPY_4 = 3
    INPUT_KEEP = 1 << 20

_TEXTS = {
    S2_CORRUPT: "s2: corrupt input",
    S2_CHECKSUM: "s2: corrupt input, crc mismatch",
    S2_UNSUPPORTED: "s2: unsupported input",
    S2_NO_MEMORY: "out of memory",
}


class S2Error(ValueError):
    """What is read is no S2 stream, or a damaged one; the text says which."""


def s2_error(int code) -> Exception:
    """What is to be raised for S2_*."""
    return MemoryError() if code == S2_NO_MEMORY else S2Error(_TEXTS[code])


cdef inline uint32_t masked(uint32_t crc) noexcept nogil:
    return ((crc >> 15) | (crc << 17)) + <uint32_t>0xa282ead8


cdef inline uint32_t load32(const char* p) noexcept nogil:
    cdef uint32_t word
    memcpy(&word, p, 4)
    return word


cdef inline char* put_literal(char* o, const char* p, Py_ssize_t n) noexcept nogil:
    if n <= 60:
        o[0] = <char>((n - 1) << 2)
        o += 1
    elif n <= 256:
        o[0] = <char>(60 << 2)
        o[1] = <char>(n - 1)
        o += 2
    else:
        o[0] = <char>(61 << 2)
        o[1] = <char>(n - 1)
        o[2] = <char>((n - 1) >> 8)
        o += 3
    memcpy(o, p, n)
    return o + n


cdef inline char* put_copy(char* o, Py_ssize_t offset, Py_ssize_t n) noexcept nogil:
    """A match of n >= 4 bytes, in pieces of at most 64; what is left is never below 4."""
    cdef Py_ssize_t part
    while n > 0:
        part = n if n <= 64 else (64 if n >= 68 else n - 4)
        if part <= 11 and offset < 2048:
            o[0] = <char>(TAG_COPY_1 | (part - 4) << 2 | (offset >> 8) << 5)
            o[1] = <char>offset
            o += 2
        else:
            o[0] = <char>(TAG_COPY_2 | (part - 1) << 2)
            o[1] = <char>offset
            o[2] = <char>(offset >> 8)
            o += 3
        n -= part
    return o


cdef Py_ssize_t compress(const char* p, Py_ssize_t n, char* out, uint16_t* table) noexcept nogil:
    """Compress a block of at most 65536 bytes into out, which has room for 32 + n + n / 6. The bytes it took."""
    cdef char* o = out
    cdef Py_ssize_t at = 1, done = 0, candidate, end, step = 32
    cdef Py_ssize_t rest = n
    cdef uint32_t word, slot
    while rest >= 128:
        o[0] = <char>(rest | 128)
        o += 1
        rest >>= 7
    o[0] = <char>rest
    o += 1
    memset(table, 0, sizeof(uint16_t) << TABLE_BITS)
    while at + 4 <= n:
        word = load32(p + at)
        slot = (word * <uint32_t>0x1e35a7bd) >> (32 - TABLE_BITS)
        candidate = table[slot]
        table[slot] = <uint16_t>at
        if load32(p + candidate) != word or candidate >= at:
            at += step >> 5         # what can't be compressed is passed over faster and faster
            step += 1
            continue
        step = 32
        end = at + 4
        while end < n and p[end] == p[candidate + end - at]:
            end += 1
        if at > done:
            o = put_literal(o, p + done, at - done)
        o = put_copy(o, at - candidate, end - at)
        at = done = end
    if done < n:
        o = put_literal(o, p + done, n - done)
    return o - out


cdef class Encoder:
    """Makes an S2 stream of what is put in."""

    def __cinit__(self):
        self.block = <char*>malloc(BLOCK_BYTES)
        self.table = <uint16_t*>malloc(sizeof(uint16_t) << TABLE_BITS)
        if self.block == NULL or self.table == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.block)
        free(self.table)
        free(self.out)

    cdef Py_ssize_t waiting(self) noexcept nogil:
        """Bytes that can be taken."""
        return self.out_end - self.out_head

    cdef bint reserve(self, Py_ssize_t n) noexcept nogil:
        cdef char* grown
        if self.out_head == self.out_end:
            self.out_head = self.out_end = 0
        if self.out_end + n <= self.out_cap:
            return True
        memmove(self.out, self.out + self.out_head, self.out_end - self.out_head)
        self.out_end -= self.out_head
        self.out_head = 0
        if self.out_end + n <= self.out_cap:
            return True
        grown = <char*>realloc(self.out, max(self.out_cap * 2, self.out_end + n))
        if grown == NULL:
            return False
        self.out_cap = max(self.out_cap * 2, self.out_end + n)
        self.out = grown
        return True

    cdef bint put(self, const char* p, Py_ssize_t n) noexcept nogil:
        """Add n bytes. False where memory is out."""
        cdef Py_ssize_t part
        while n > 0:
            part = min(n, BLOCK_BYTES - self.block_len)
            memcpy(self.block + self.block_len, p, part)
            self.block_len += part
            p += part
            n -= part
            if self.block_len == BLOCK_BYTES and not self.flush():
                return False
        return True

    cdef bint flush(self) noexcept nogil:
        """Make a chunk of what was put in since the last one. False where memory is out."""
        cdef Py_ssize_t n = self.block_len, size
        cdef uint32_t crc
        cdef char* o
        if not self.reserve(10 + 8 + 32 + n + n // 6):
            return False
        o = self.out + self.out_end
        if not self.begun:
            memcpy(o, b"\xff\x06\x00\x00S2sTwO", 10)
            self.begun = True
            self.out_end += 10
            o += 10
        if n == 0:
            return True
        crc = masked(crc32c(0, self.block, n))
        size = compress(self.block, n, o + 8, self.table)
        o[0] = CHUNK_COMPRESSED
        if size >= n - n // 8:
            memcpy(o + 8, self.block, n)
            size = n
            o[0] = CHUNK_PLAIN
        size += 4
        o[1] = <char>size
        o[2] = <char>(size >> 8)
        o[3] = <char>(size >> 16)
        memcpy(o + 4, &crc, 4)
        self.out_end += 4 + size
        self.block_len = 0
        return True

    # The same for Python.

    def write(self, bytes data not None) -> None:
        if not self.put(data, len(data)):
            raise MemoryError

    def finish(self) -> None:
        """Everything was put in."""
        if not self.flush():
            raise MemoryError

    def take(self, Py_ssize_t most=0x7fffffff) -> bytes:
        """The next bytes of the stream, at most so many, as far as they are made."""
        cdef Py_ssize_t n = min(most, self.waiting())
        cdef bytes taken = self.out[self.out_head:self.out_head + n]
        self.out_head += n
        return taken


cdef int decompress(const uint8_t* p, const uint8_t* end, uint8_t* out, uint8_t* out_end) noexcept nogil:
    """Decode the elements of a block into out, which they must fill."""
    cdef uint8_t* o = out
    cdef Py_ssize_t length, offset = 0, size
    cdef uint64_t word
    cdef int tag
    while p < end:
        tag = p[0] & 3
        length = p[0] >> 2
        # How many bytes belong to the tag.
        if tag == TAG_LITERAL:
            size = length - 59 if length >= 60 else 0
        elif tag == TAG_COPY_1:
            size = 1
        else:
            size = 2 if tag == TAG_COPY_2 else 4
        if end - p <= size:
            return S2_CORRUPT
        word = 0
        memcpy(&word, p + 1, size)
        p += 1 + size
        if tag == TAG_LITERAL:
            length = <Py_ssize_t>(word if size else length) + 1
            if length > end - p or length > out_end - o:
                return S2_CORRUPT
            memcpy(o, p, length)
            p += length
            o += length
            continue
        if tag != TAG_COPY_1:
            offset = <Py_ssize_t>word
            length += 1
        elif word or length >> 3:
            offset = (length >> 3) << 8 | <Py_ssize_t>word
            length = (length & 7) + 4
        else:
            # The last offset again. Long lengths have bytes of their own.
            size = max(length - 4, 0)
            if end - p < size:
                return S2_CORRUPT
            memcpy(&word, p, size)
            p += size
            if size:
                length = <Py_ssize_t>word + (4 if size == 1 else 256 if size == 2 else 65536)
            length += 4
        if offset <= 0 or offset > o - out or length > out_end - o:
            return S2_CORRUPT
        if offset >= length:
            memcpy(o, o - offset, length)
            o += length
        else:
            for _ in range(length):
                o[0] = (o - offset)[0]
                o += 1
    return S2_OK if o == out_end else S2_CORRUPT


cdef class Decoder:
    """Reads an S2 stream that comes in pieces, a block at a time."""

    def __dealloc__(self):
        free(self.input)
        free(self.block)

    cdef bint push(self, const char* p, Py_ssize_t n) noexcept nogil:
        """The next n bytes of the stream. False where memory is out."""
        cdef char* grown
        cdef Py_ssize_t left = self.input_end - self.input_head
        if self.input_end + n > self.input_cap:
            memmove(self.input, self.input + self.input_head, left)
            self.input_head = 0
            self.input_end = left
        if left + n > self.input_cap or (left + n <= INPUT_KEEP < self.input_cap):
            grown = <char*>realloc(self.input, max(left + n, 65536))
            if grown == NULL:
                return False
            self.input = grown
            self.input_cap = max(left + n, 65536)
        memcpy(self.input + self.input_end, p, n)
        self.input_end += n
        return True

    cdef int pull(self) noexcept nogil:
        """Decode the next block: it is in block, block_len bytes, until the next call. S2_MORE where it isn't there yet."""
        cdef Py_ssize_t left, n
        cdef const uint8_t* p
        while self.failed == S2_OK:
            left = self.input_end - self.input_head
            n = min(self.skip, left)
            self.skip -= n
            self.input_head += n
            left -= n
            p = <uint8_t*>self.input + self.input_head
            if left < 4 or self.skip:
                return S2_MORE
            n = p[1] | <Py_ssize_t>p[2] << 8 | <Py_ssize_t>p[3] << 16
            if not self.begun and p[0] != CHUNK_IDENTIFIER:
                self.failed = S2_CORRUPT
                break
            if p[0] >= CHUNK_SKIPPABLE and p[0] != CHUNK_IDENTIFIER:
                self.input_head += 4
                self.skip = n
                continue
            if CHUNK_PLAIN < p[0] < CHUNK_SKIPPABLE:
                self.failed = S2_UNSUPPORTED
                break
            if n > (6 if p[0] == CHUNK_IDENTIFIER else BLOCK_BYTES_MAX + 4 if p[0] == CHUNK_PLAIN else ENCODED_MAX):
                self.failed = S2_CORRUPT
                break
            if left < 4 + n:
                return S2_MORE
            self.input_head += 4 + n
            self.failed = self.take_chunk(p[0], p + 4, n)
            if self.failed == S2_OK and p[0] != CHUNK_IDENTIFIER and self.block_len:
                return S2_OK
        return self.failed

    cdef int take_chunk(self, int kind, const unsigned char* p, Py_ssize_t n) noexcept nogil:
        cdef const uint8_t* end = p + n
        cdef uint32_t crc
        cdef uint64_t size = 0
        cdef int shift = 0
        cdef char* grown
        if kind == CHUNK_IDENTIFIER:
            if n != 6 or (memcmp(p, b"S2sTwO", 6) != 0 and memcmp(p, b"sNaPpY", 6) != 0):
                return S2_CORRUPT
            self.begun = True
            return S2_OK
        if n < 4:
            return S2_CORRUPT
        memcpy(&crc, p, 4)
        p += 4
        size = n - 4
        if kind == CHUNK_COMPRESSED:
            size = 0
            while True:
                if p == end or shift > 28:
                    return S2_CORRUPT
                size |= <uint64_t>(p[0] & 127) << shift
                shift += 7
                p += 1
                if p[-1] < 128:
                    break
        if size > BLOCK_BYTES_MAX:
            return S2_CORRUPT
        if <Py_ssize_t>size > self.block_cap:
            grown = <char*>realloc(self.block, size)
            if grown == NULL:
                return S2_NO_MEMORY
            self.block = grown
            self.block_cap = size
        self.block_len = size
        if kind == CHUNK_PLAIN:
            memcpy(self.block, p, size)
        elif decompress(p, end, <uint8_t*>self.block, <uint8_t*>self.block + size) != S2_OK:
            return S2_CORRUPT
        return S2_OK if masked(crc32c(0, self.block, size)) == crc else S2_CHECKSUM

    # The same for Python.

    def feed(self, bytes data not None) -> None:
        if not self.push(data, len(data)):
            raise MemoryError

    def next_block(self) -> bytes | None:
        """The next block, None where it isn't there yet. Raises S2Error."""
        cdef int code = self.pull()
        if code == S2_MORE:
            return None
        if code != S2_OK:
            raise s2_error(code)
        return self.block[:self.block_len]

    @property
    def between_chunks(self) -> bool:
        """The stream may end here."""
        return self.begun and self.input_head == self.input_end and self.skip == 0


def decompress_block(bytes data not None, Py_ssize_t size) -> bytes:
    """The elements of one block that stands alone, without its length, which is size. Raises S2Error."""
    cdef bytearray out = bytearray(size)
    cdef const uint8_t* p = data
    if decompress(p, p + len(data), <uint8_t*><char*>out, <uint8_t*><char*>out + size) != S2_OK:
        raise S2Error(_TEXTS[S2_CORRUPT])
    return bytes(out)
