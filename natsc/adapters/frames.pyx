"""WebSocket frames (RFC 6455) without I/O: what a client sends taken apart and unmasked, and headers for what it gets.

Payload of messages is given out as it comes, so a frame may be of any size and is never held. Control frames are at most
125 bytes and are given out whole. Which frames are errors, and with which text, is nats-server's.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy, memset

from cpython.bytes cimport PyBytes_FromStringAndSize

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

cdef enum:
    FINAL = 0x80
    RSV1 = 0x40
    RSV23 = 0x30
    MASKED = 0x80
    CONTROL_MAX = 125
    HEADER_MAX = 14


class FrameError(Exception):
    """The peer broke the protocol; the text goes into the close frame."""


cdef void unmask(const char* data, Py_ssize_t n, const uint8_t* key, int at, char* out) noexcept nogil:
    """out = data ^ key, of which the first byte meets key[at]."""
    cdef uint64_t wide, word
    cdef uint8_t turned[8]
    cdef Py_ssize_t i = 0
    cdef int k
    for k in range(8):
        turned[k] = key[(at + k) & 3]
    memcpy(&wide, turned, 8)
    while i + 8 <= n:
        memcpy(&word, data + i, 8)
        word ^= wide
        memcpy(out + i, &word, 8)
        i += 8
    while i < n:
        out[i] = <char>(<uint8_t>data[i] ^ turned[i & 7])
        i += 1


cdef class FrameReader:
    """A client's frames. compress: permessage-deflate was agreed on. masked: all must be."""
    cdef bint compress
    cdef bint masked
    cdef bytes head             # of a header, what has come
    cdef bytes control          # of a control frame's payload, what has come; None outside of one
    cdef int control_kind
    cdef uint64_t left          # of the frame's payload
    cdef uint8_t key[4]
    cdef int key_at
    cdef bint inside            # of a frame
    cdef bint ended             # the last message has ended: the next frame must begin one
    cdef bint deflated          # the message at hand is compressed

    def __init__(self, bint compress, bint masked=True):
        self.compress = compress
        self.masked = masked
        self.head = b""
        self.control = None
        self.ended = True

    def feed(self, bytes data) -> list:
        """What data brings: (BINARY, payload, compressed, last of its message) and (CLOSE, PING or PONG, payload).

        Raises FrameError; what came before is lost then, and so is the connection.
        """
        cdef list found = []
        cdef const char* p = data
        cdef Py_ssize_t n = len(data), at = 0, taken
        while at < n or (self.inside and self.left == 0):
            if not self.inside:
                taken = self.take_header(p + at, n - at)
                at += taken
                if not self.inside:
                    break
            taken = <Py_ssize_t>min(self.left, <uint64_t>(n - at))
            if taken == 0 and self.left:
                break
            piece = PyBytes_FromStringAndSize(NULL, taken)
            unmask(p + at, taken, self.key, self.key_at, <char*>piece)
            self.key_at = (self.key_at + taken) & 3
            at += taken
            self.left -= taken
            self.inside = self.left != 0
            if self.control is None:
                if taken or self.deflated:
                    found.append((BINARY, piece, self.deflated, self.ended and not self.inside))
                continue
            self.control += piece
            if not self.inside:
                found.append((self.control_kind, self.control))
                self.control = None
        return found

    cdef Py_ssize_t take_header(self, const char* p, Py_ssize_t n) except -1:
        """Take what there is of a header; self.inside is set once it is whole. Returns how many bytes were taken."""
        cdef Py_ssize_t have = len(self.head), taken = min(n, HEADER_MAX - have), size, key_at
        cdef bytes head = self.head + p[:taken]
        cdef const uint8_t* h = head
        cdef uint64_t left
        cdef int i
        if have < 2:
            self.check_start(h, len(head))
        if len(head) < 2:
            self.head = head
            return taken
        left = h[1] & 0x7F
        key_at = 2 + (2 if left == 126 else 8 if left == 127 else 0)
        size = key_at + (4 if h[1] & MASKED else 0)
        if len(head) < size:
            self.head = head
            return taken
        if left > CONTROL_MAX:
            left = 0
            for i in range(2, key_at):
                left = left << 8 | h[i]
            if left >> 63:
                raise FrameError("invalid 64-bit payload length")
        memset(self.key, 0, 4)
        memcpy(self.key, h + key_at, size - key_at)
        self.key_at = 0
        self.left = left
        self.inside = True
        self.head = b""
        return size - have

    cdef int check_start(self, const uint8_t* h, Py_ssize_t n) except -1:
        """Check the first two bytes, in nats-server's order, and learn what kind of frame it is."""
        cdef int kind = h[0] & 0x0F
        cdef bint final = h[0] & FINAL, deflated = h[0] & RSV1
        if h[0] & RSV23:
            raise FrameError("RSV2 and RSV3 must be clear")
        if deflated and not self.compress:
            raise FrameError("compressed frame received without negotiated permessage-deflate")
        if n < 2:
            return 0
        if not h[1] & MASKED and self.masked:
            raise FrameError("mask bit missing")
        if kind >= 8 and kind <= 10:
            if (h[1] & 0x7F) > CONTROL_MAX:
                raise FrameError(f"control frame length bigger than maximum allowed of {CONTROL_MAX} bytes")
            if not final:
                raise FrameError("control frame does not have final bit set")
            if deflated:
                raise FrameError("control frame must not be compressed")
            self.control = b""
            self.control_kind = kind
            return 0
        self.control = None
        if kind == 1 or kind == 2:
            if not self.ended:
                raise FrameError("new message started before final frame for previous message was received")
            self.deflated = deflated
        elif kind == 0:
            if self.ended or deflated:
                raise FrameError("invalid continuation frame")
        else:
            raise FrameError(f"unknown opcode {kind}")
        self.ended = final
        return 0


def frame_header(int kind, Py_ssize_t size, bint first=True, bint final=True, bint compressed=False) -> bytes:
    """The header of a frame that the server sends, which is never masked."""
    cdef int b = (kind if first else 0) | (FINAL if final else 0) | (RSV1 if compressed else 0)
    if size <= CONTROL_MAX:
        return bytes((b, size))
    if size < 65536:
        return bytes((b, 126)) + size.to_bytes(2, "big")
    return bytes((b, 127)) + size.to_bytes(8, "big")
