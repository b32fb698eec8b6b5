"""The archive of a stream snapshot, as nats-server 2.15 writes and reads it.

An S2 stream of: the word NATSARC1; an entry state.json (the stream's state); an entry consumers/<name> for each of its
consumers (configuration and state as JSON); an entry for each message; an entry of which everything is 0. An entry is:

    name's length, time in ns (zigzag), sequence, length of headers, length of payload     varints
    name (of a message: its subject), headers, payload

The messages are read from a store and written into one here, in C; what an entry of another kind says is for Python
(natsc/jetstream/snapshot.py, restore.py).

Invariants
1. A reader holds one block of the S2 stream and one entry, whose size its caller bounds, whatever it is fed.
2. Sequences in an archive go up. What breaks that, or any other rule, is an ArchiveError.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memmove

from natsc.engine.subject cimport is_valid_literal
from natsc.jetstream.headers cimport headers_scan, headers_t
from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.msgstore cimport MsgStore
from natsc.jetstream.msgstore import ERRORS
from natsc.jetstream.s2 cimport S2_MORE, S2_OK, Decoder, Encoder
from natsc.jetstream.s2 import s2_error
from natsc.jetstream.seqset cimport seqset_next

MAGIC = b"NATSARC1"

cdef enum:
    MORE = 0                # the rest is still to come
    READY = 1
    NAME_MAX = 65535        # bytes of a name: no subject may be longer
    HEAD_MAX = 50           # bytes of five varints
    KEEP = 1 << 20          # an emptied buffer gives back what it has beyond that

cdef uint64_t SEQ_MAX = <uint64_t>1 << 62


class ArchiveError(ValueError):
    """What is read is no archive, a damaged one, or has what can't be restored; the text says so."""


INVALID = "archive: invalid archive stream"


cdef bint is_subject(const char* s, Py_ssize_t n) noexcept nogil:
    """Whether it may stand in the line before a message."""
    cdef Py_ssize_t i
    for i in range(n):
        if <uint8_t>s[i] <= 32 or s[i] == 127:
            return False
    return is_valid_literal(s, n)


cdef class ArchiveWriter:
    """Writes what a store has, up to the sequence that is its last one now."""

    def __cinit__(self, MsgStore store not None):
        self.encoder = Encoder()
        self.store = store
        self.next_seq = store.first_seq
        self.last_seq = store.last_seq
        self.encoder.write(MAGIC)

    cdef bint put_head(self, const char* name, Py_ssize_t n, int64_t ts_ns, uint64_t seq, uint64_t hdr_len,
                       uint64_t body_len) noexcept nogil:
        cdef uint8_t text[HEAD_MAX]
        cdef uint64_t numbers[5]
        cdef int size = 0
        cdef int i
        numbers[0] = n
        numbers[1] = <uint64_t>(ts_ns << 1) ^ <uint64_t>(ts_ns >> 63)
        numbers[2] = seq
        numbers[3] = hdr_len
        numbers[4] = body_len
        for i in range(5):
            while numbers[i] >= 128:
                text[size] = <uint8_t>(numbers[i] | 128)
                numbers[i] >>= 7
                size += 1
            text[size] = <uint8_t>numbers[i]
            size += 1
        return self.encoder.put(<char*>text, size) and self.encoder.put(name, n)

    cdef bint put_message(self, const stored_t* m) noexcept nogil:
        return (self.put_head(m.subject, m.subject_len, m.ts_ns, m.seq, m.hdr_len, m.msg_len)
                and self.encoder.put(m.hdr, m.hdr_len) and self.encoder.put(m.msg, m.msg_len))

    def write_entry(self, bytes name not None, int64_t ts_ns, bytes body not None) -> None:
        """An entry that is no message."""
        if not self.put_head(name, len(name), ts_ns, 0, 0, len(body)) or not self.encoder.put(body, len(body)):
            raise MemoryError

    def write_messages(self, Py_ssize_t want, Py_ssize_t budget) -> bool:
        """Write messages, at most budget bytes of them, until `want` bytes can be taken or all is written.

        True where either is so. Raises ArchiveError where a message can't be read.
        """
        cdef stored_t m
        cdef uint64_t seq
        while not self.done and self.encoder.waiting() < want:
            seq = seqset_next(&self.store.present, self.next_seq)
            if seq == 0 or seq > self.last_seq:
                if not self.put_head(b"", 0, 0, 0, 0, 0) or not self.encoder.flush():
                    raise MemoryError
                self.done = True
                break
            if budget <= 0:
                return False
            if not self.store.get(seq, &m):
                raise ArchiveError(f"message {seq} can't be read")
            if not self.put_message(&m):
                raise MemoryError
            budget -= m.subject_len + m.hdr_len + m.msg_len + 16
            self.next_seq = seq + 1
        return True

    def take(self, Py_ssize_t most) -> bytes:
        """The next bytes of the archive, as far as they are made."""
        return self.encoder.take(most)


cdef class ArchiveReader:
    """Reads an archive that comes in pieces."""

    def __cinit__(self):
        self.decoder = Decoder()

    def __dealloc__(self):
        free(self.data)

    def feed(self, bytes piece not None) -> None:
        """The next piece of the S2 stream."""
        self.decoder.feed(piece)

    cdef int want(self, Py_ssize_t n) except -1:
        """Have n bytes decoded. MORE where they aren't there yet. Raises S2Error."""
        cdef char* grown
        cdef Py_ssize_t left, cap
        cdef int code
        while self.end - self.head < n:
            code = self.decoder.pull()
            if code == S2_MORE:
                return MORE
            if code != S2_OK:
                raise s2_error(code)
            left = self.end - self.head
            if self.head:
                memmove(self.data, self.data + self.head, left)
                self.head = 0
                self.end = left
            cap = left + self.decoder.block_len
            if cap > self.cap or cap <= KEEP < self.cap:
                cap = max(cap, 65536)
                grown = <char*>realloc(self.data, cap)
                if grown == NULL:
                    raise MemoryError
                self.data = grown
                self.cap = cap
            memcpy(self.data + self.end, self.decoder.block, self.decoder.block_len)
            self.end += self.decoder.block_len
            self.decoded += self.decoder.block_len
        return READY

    @staticmethod
    def check_subject(bytes subject not None, uint64_t seq) -> None:
        """Raises ArchiveError where a message can't have this subject."""
        if not is_subject(subject, len(subject)):
            raise ArchiveError(f"message sequence {seq} has an invalid subject")

    def preamble(self) -> bytes | None:
        """The first eight bytes, which stay to be read; None where they aren't there yet. Raises S2Error."""
        return self.data[self.head:self.head + 8] if self.want(8) else None

    def read_bytes(self, Py_ssize_t n) -> bytes | None:
        """The next n decoded bytes; None where they aren't there yet. Raises S2Error."""
        if not self.want(n):
            return None
        self.head += n
        return self.data[self.head - n:self.head]

    cdef int read_head(self, entry_t* e) except -1:
        """Look at the next entry's head, which stays to be read. MORE where it isn't there yet."""
        cdef uint64_t numbers[5]
        cdef Py_ssize_t at
        cdef int i, shift
        cdef uint8_t byte
        if not self.begun:
            if not self.want(8):
                return MORE
            if memcmp(self.data + self.head, b"NATSARC1", 8) != 0:
                raise ArchiveError(INVALID)
            self.head += 8
            self.begun = True
        at = 0
        for i in range(5):
            numbers[i] = 0
            shift = 0
            while True:
                if not self.want(at + 1):
                    return MORE
                byte = <uint8_t>self.data[self.head + at]
                at += 1
                if shift == 63 and byte > 1:
                    raise ArchiveError(INVALID)
                numbers[i] |= <uint64_t>(byte & 127) << shift
                shift += 7
                if byte < 128:
                    break
        if numbers[0] > NAME_MAX or numbers[2] > SEQ_MAX or numbers[3] > SEQ_MAX or numbers[4] > SEQ_MAX:
            raise ArchiveError(INVALID)
        if not self.want(at + <Py_ssize_t>numbers[0]):
            return MORE
        e.name = self.data + self.head + at
        e.name_len = numbers[0]
        e.ts_ns = <int64_t>((numbers[1] >> 1) ^ (0 - (numbers[1] & 1)))
        e.seq = numbers[2]
        e.hdr_len = numbers[3]
        e.body_len = numbers[4]
        e.size = at + e.name_len
        return READY

    def read_entry(self, uint64_t most) -> tuple[bytes, int, int, bytes] | None:
        """(name, time, sequence, bytes) of the next entry, of at most so many bytes; None where it isn't there yet.

        The end marker sets done and is returned as an entry too. Raises ArchiveError, S2Error.
        """
        cdef entry_t e
        if not self.read_head(&e):
            return None
        if e.hdr_len + e.body_len > most:
            raise ArchiveError("archive: entry too large")
        name = e.name[:e.name_len]
        if not self.want(e.size + e.hdr_len + e.body_len):
            return None
        body = self.read_bytes(e.size + e.hdr_len + e.body_len)[e.size:]
        self.done = not (e.seq or e.ts_ns or body)
        return name, e.ts_ns, e.seq, body

    def read_messages(self, MsgStore store not None, uint64_t max_payload, int64_t max_msg_size, int64_t now_ns,
                      uint64_t room, uint64_t budget, read_ttl) -> bool:
        """Store messages, about budget bytes of them. False where more must be fed first.

        max_msg_size < 0: no limit. room: once the store has more bytes it is enough. Those whose time to live
        (read_ttl(value), in ns) has ended leave their sequences behind. Raises ArchiveError, S2Error.
        """
        cdef entry_t e
        cdef uint64_t stop = self.decoded + budget
        cdef uint64_t size
        while not self.done and self.decoded < stop:
            if not self.read_head(&e):
                return False
            if e.seq == 0:
                if e.ts_ns or e.hdr_len or e.body_len:
                    raise ArchiveError("expected message sequence")
                self.head += e.size
                self.done = True
                break
            size = e.hdr_len + e.body_len
            if size > max_payload:
                raise ArchiveError(f"message sequence {e.seq} exceeds maximum payload size")
            if max_msg_size >= 0 and size > <uint64_t>max_msg_size:
                raise ArchiveError(f"message sequence {e.seq} exceeds maximum message size")
            if e.seq <= self.last_seq:
                raise ArchiveError(f"message sequence {e.seq} out of order")
            if not is_subject(e.name, e.name_len):
                raise ArchiveError(f"message sequence {e.seq} has an invalid subject")
            if not self.want(e.size + <Py_ssize_t>size):
                return False
            # The buffer may have moved.
            e.name = self.data + self.head + e.size - e.name_len
            self.store_message(store, &e, e.name + e.name_len, now_ns, read_ttl)
            self.head += e.size + size
            self.last_seq = e.seq
            if store.bytes > room:
                return True
        return True

    cdef int store_message(self, MsgStore store, entry_t* e, const char* at, int64_t now_ns, read_ttl) except -1:
        cdef headers_t h
        cdef int64_t ttl
        headers_scan(at, e.hdr_len, &h)
        if h.ttl.n:
            ttl = read_ttl(h.ttl.p[:h.ttl.n])
            if ttl > 0 and e.ts_ns + ttl < now_ns:
                store.skip_to(e.seq + 1, e.ts_ns)
                return 0
        if store.append(e.seq, e.ts_ns, e.name, e.name_len, at, e.hdr_len, at + e.hdr_len, e.body_len) == 0:
            raise ArchiveError(f"failed to store message sequence {e.seq}: {ERRORS.get(store.error)}")
        return 0
