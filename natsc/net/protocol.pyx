"""One client connection on an asyncio (uvloop) transport.

A plain TCP connection reads into the engine's shared buffer and sends from its own output buffer with send(2), straight
on the descriptor; what the socket doesn't take goes to the transport, which calls when it is through. Everything else (a
PROXY header, TLS, an in-process pipe) puts a Stage in front: it gets the raw input, gives plaintext, and wraps output.

A turn of the engine ends after a big read, but after small ones only when the loop has read all that was there: what many
connections say to one (requests, answers) leaves in one system call.

Back-pressure: a publisher stops being read while a client that it sent to owes more than the engine's stall_at and still
makes progress; after two times STALL_PROBE without it nobody waits for that client any more (until it moves again). A
client whose socket takes nothing for write_deadline is closed.

Invariant: send(2) is used only on plain TCP, with nothing in the transport's own buffer, and never after the transport
began to close; the descriptor is forgotten in connection_lost.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcmp, memcpy, memset

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_FromStringAndSize

from natsc._core cimport Client, Engine
from natsc.engine.account cimport close_client
from natsc.engine.buffer cimport out_release, pending_bytes
from natsc.engine.close cimport SLOW_CONSUMER_WRITE_DEADLINE
from natsc.engine.hooks cimport hook_error
from natsc.engine.timers cimport timer_arm, timer_cancel
from natsc.engine.types cimport client_t, engine_t, unlikely

from asyncio.protocols import BufferedProtocol   # not from asyncio: see natsc/server/lean.py

cdef extern from "sys/uio.h" nogil:
    cdef struct iovec:
        void* iov_base
        size_t iov_len

cdef extern from "sys/socket.h" nogil:
    ssize_t c_send "send"(int fd, const void* data, size_t n, int flags)
    cdef struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr* msg, int flags)
    int MSG_NOSIGNAL
    int MSG_DONTWAIT

cdef extern from "arpa/inet.h" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    struct sockaddr_storage:
        unsigned short ss_family
    struct sockaddr_in:
        unsigned short sin_port
        unsigned int sin_addr       # really struct in_addr: only its address is taken
    struct sockaddr_in6:
        unsigned short sin6_port
        unsigned int sin6_addr
    int AF_INET
    int AF_INET6
    int getpeername(int fd, sockaddr* address, socklen_t* size)
    const char* inet_ntop(int family, const void* address, char* text, socklen_t size)
    unsigned short ntohs(unsigned short port)

cdef enum:
    SHARED_SIZE = 262144        # the engine's read buffer
    SMALL_READ = 16384          # bytes; below it the turn waits for what else the loop has to read
STALL_PROBE = 0.025             # seconds between looks at a blocked client; after two in vain publishers go on without it
CLOSE_GRACE = 0.1               # seconds a closing connection has to take what is queued


cdef class ReadBuffer:
    """The memory that the transport reads into next."""
    cdef char* data
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 0, flags)

    def __releasebuffer__(self, Py_buffer* view):
        pass

    def __len__(self):
        return self.size        # asyncio's own loop asks; uvloop doesn't


cdef ReadBuffer READ = ReadBuffer()     # handed to the transport and read at once: no state survives the call


cdef class Connection:
    """The compiled base of ClientProtocol: state and the three functions that run for every read and write."""
    cdef readonly Client client
    cdef client_t* c                    # NULL until attach: a stage may come long before it
    cdef Engine engine
    cdef readonly object transport
    cdef readonly object listener       # what made it (natsc.net.listener)
    cdef public object stage            # None = plain: input goes straight to the engine
    cdef public object tls              # the TLSLayer, for monitoring
    cdef list waiters                   # connections that don't read while this one is behind
    cdef object probe                   # the pending stall check
    cdef bint idle                      # the last one saw no progress
    cdef object closer                  # the pending end of CLOSE_GRACE
    cdef uint64_t progress_seen
    cdef int fd                         # for send(2); -1 = use the transport
    cdef bint waiting                   # in somebody's waiters
    cdef bint closed

    def __cinit__(self, listener not None):
        self.listener = listener
        self.engine = listener.engine
        self.fd = -1

    # -------------------------------------------------------------------------------------------- transport

    def connection_made(self, transport):
        cdef object sock = transport.get_extra_info("socket")
        self.transport = transport
        transport.set_write_buffer_limits(high=0)
        if sock is not None:
            self.fd = sock.fileno()
        self.listener.accepted(self)

    @property
    def in_process(self) -> bool:
        """Whether nothing but memory is between the two ends (natsc.net.pipe)."""
        return self.fd < 0 and self.transport.get_extra_info("in_process") is not None

    def peer(self):
        """(address, port) of the other end; an IPv4 address is one also where it came to an IPv6 socket."""
        cdef sockaddr_storage storage
        cdef socklen_t size = sizeof(storage)
        cdef sockaddr_in* v4 = <sockaddr_in*>&storage
        cdef sockaddr_in6* v6 = <sockaddr_in6*>&storage
        cdef char[46] text
        cdef const char* address = NULL
        if self.fd < 0:
            return self.transport.get_extra_info("peername")
        if getpeername(self.fd, <sockaddr*>&storage, &size) != 0:
            return None         # it has gone already
        if storage.ss_family == AF_INET:
            address = inet_ntop(AF_INET, &v4.sin_addr, text, 46)
            size = v4.sin_port
        elif storage.ss_family == AF_INET6:
            if memcmp(&v6.sin6_addr, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0:
                address = inet_ntop(AF_INET, <char*>&v6.sin6_addr + 12, text, 46)
            else:
                address = inet_ntop(AF_INET6, &v6.sin6_addr, text, 46)
            size = v6.sin6_port
        return ((<bytes>address).decode("ascii"), ntohs(<unsigned short>size)) if address != NULL else None

    def attach(self, Client client not None):
        """Carry this client of the engine from now on."""
        self.client = client
        self.c = client.c
        client.c.flush = flush_client
        client.c.fd = self.fd
        if self.fd >= 0:
            client.c.send_through = send_through

    def use_transport(self):
        """Never send on the descriptor again: what leaves isn't the plain output, or the transport is closing."""
        self.fd = -1
        if self.c != NULL:
            self.c.send_through = NULL

    def get_buffer(self, sizehint):
        cdef client_t* c = self.c
        cdef char* grown
        if c == NULL or self.stage is not None:
            READ.data = self.engine.shared
            READ.size = SHARED_SIZE
            return READ
        if c.tail_len > SHARED_SIZE // 2:
            if c.tail_cap < c.tail_len + SHARED_SIZE // 2:
                grown = <char*>realloc(c.tail, c.tail_len * 2)
                if grown == NULL:
                    raise MemoryError
                c.tail = grown
                c.tail_cap = c.tail_len * 2
            READ.data = c.tail + c.tail_len
            READ.size = c.tail_cap - c.tail_len
            return READ
        if c.tail_len:
            memcpy(self.engine.shared, c.tail, c.tail_len)
        READ.data = self.engine.shared + c.tail_len
        READ.size = SHARED_SIZE - c.tail_len
        return READ

    def buffer_updated(self, Py_ssize_t n):
        cdef client_t* c = self.c
        if c == NULL or self.stage is not None:
            if self.stage is not None and not self.closed:
                self.stage.feed(PyBytes_FromStringAndSize(self.engine.shared, n))
            return
        if unlikely(c.closing):
            return
        self.engine.feed(c, n)
        if n >= SMALL_READ:
            self.engine.end_turn_c()
        elif not self.engine.turn_due and self.engine.has_work():
            self.engine.turn_due = True
            self.listener.loop.call_soon(self.engine.run_due_turn)
        if unlikely(c.suspended) and self.transport is not None:
            self.transport.pause_reading()
        if unlikely(self.engine.e.stalled_on != NULL):
            self.stall()

    def feed_plain(self, data):
        """Input that a stage has decoded."""
        if self.c == NULL or self.c.closing:
            return
        self.engine.receive(self.client, data)
        self.engine.end_turn_c()
        if self.c.suspended and self.transport is not None:
            self.transport.pause_reading()
        if self.engine.e.stalled_on != NULL:
            self.stall()

    def resume(self):
        """Authentication is over: go on with the input."""
        if self.c != NULL and self.c.suspended:
            self.engine.resume(self.client)
            if self.transport is not None and not self.closed and not self.waiting:
                self.transport.resume_reading()

    def eof_received(self):
        if self.engine.turn_due:
            self.engine.end_turn_c()        # the answers to what the peer said before
        return False

    def connection_lost(self, exc):
        self.use_transport()
        self.closed = True
        self.release_waiters()
        for handle in (self.probe, self.closer):
            if handle is not None:
                handle.cancel()
        self.probe = self.closer = None
        if self.stage is not None:
            self.stage.connection_lost(exc)
        self.listener.lost(self, exc)
        self.transport = None
        self.stage = None

    # -------------------------------------------------------------------------------------------- output

    cdef void flush(self, engine_t* e, client_t* c):
        """Send what is queued; what the socket doesn't take waits in the transport, and more in c.out."""
        cdef ssize_t k
        if self.closed or self.transport is None or c.out.len == c.out.off:
            out_release(e, c)
            return
        if c.blocked:
            return
        c.last_ns = e.now_ns
        if self.fd >= 0 and self.stage is None and not self.transport.is_closing():
            while c.out.off < c.out.len:
                k = c_send(self.fd, c.out.data + c.out.off, c.out.len - c.out.off, MSG_NOSIGNAL | MSG_DONTWAIT)
                if k > 0:
                    c.out.off += k
                    c.progress += k
                elif errno == EINTR:
                    continue
                else:
                    break       # EAGAIN waits below; the transport finds any other error again and reports it
            if c.out.off == c.out.len:
                out_release(e, c)
                return
        self.hand_over(e, c)

    cdef void hand_over(self, engine_t* e, client_t* c):
        cdef bytes data = PyBytes_FromStringAndSize(c.out.data + c.out.off, c.out.len - c.out.off)
        out_release(e, c)
        if self.stage is not None:
            data = self.stage.wrap(data)
        if not data:
            return
        self.transport.write(data)
        c.handed = self.transport.get_write_buffer_size()
        if c.handed:
            c.blocked = True
            timer_arm(&e.timers, &c.write_timer, e.now_ns + e.write_deadline_ns, on_write_deadline, c)

    def write_raw(self, data):
        """Bytes that go out as they are: TLS records, what precedes the engine."""
        if self.transport is not None and not self.closed and data:
            self.transport.write(data)

    def pause_writing(self):
        pass            # c.blocked says it already

    def resume_writing(self):
        cdef client_t* c = self.c
        if c == NULL:
            return
        c.progress += c.handed
        c.handed = 0
        c.blocked = False
        c.stuck = False
        timer_cancel(&self.engine.e.timers, &c.write_timer)
        self.flush(&self.engine.e, c)
        if c.out.len - c.out.off < self.engine.e.stall_at // 2:
            self.release_waiters()

    def close(self):
        """Send what is queued and close; abort where that takes longer than CLOSE_GRACE."""
        cdef client_t* c = self.c
        if self.closed or self.transport is None:
            return
        if c != NULL:
            self.flush(&self.engine.e, c)
            if c.blocked and c.out.len > c.out.off:
                data = PyBytes_FromStringAndSize(c.out.data + c.out.off, c.out.len - c.out.off)
                out_release(&self.engine.e, c)
                self.transport.write(self.stage.wrap(data) if self.stage is not None else data)
            timer_cancel(&self.engine.e.timers, &c.write_timer)
        if self.stage is not None:
            self.write_raw(self.stage.closing())
        self.use_transport()
        self.transport.close()
        if self.closer is None and self.transport is not None and self.transport.get_write_buffer_size():
            self.closer = self.listener.loop.call_later(CLOSE_GRACE, self.abort)

    def abort(self):
        """Close at once, dropping what is queued."""
        self.use_transport()
        if self.transport is not None and not self.closed:
            self.transport.abort()

    # -------------------------------------------------------------------------------------------- back-pressure

    cdef stall(self):
        """Stop reading until the client that this one's messages pile up at has caught up."""
        cdef client_t* slow = self.engine.e.stalled_on
        cdef Connection other
        self.engine.e.stalled_on = NULL
        if slow.closing or slow.handle == NULL or self.waiting or self.transport is None:
            return
        other = (<Client>slow.handle).conn
        if other is self or other is None:
            return
        slow.stalls += 1
        self.engine.e.stalls += 1
        self.waiting = True
        self.transport.pause_reading()
        if other.waiters is None:
            other.waiters = []
        other.waiters.append(self)
        if other.probe is None:
            other.progress_seen = other.progress()
            other.idle = False
            other.probe = self.listener.loop.call_later(STALL_PROBE, other.check_progress)

    cdef uint64_t progress(self):
        """Grows whenever the socket takes something."""
        cdef int64_t left = self.transport.get_write_buffer_size() if self.transport is not None else 0
        return self.c.progress + self.c.handed - left

    def check_progress(self):
        self.probe = None
        if not self.waiters or self.c == NULL or self.closed:
            return
        seen = self.progress()
        # Twice nothing: a loop that comes late looks before it has seen what the socket took meanwhile.
        if seen != self.progress_seen or not self.idle:
            self.idle = seen == self.progress_seen
            self.progress_seen = seen
            self.probe = self.listener.loop.call_later(STALL_PROBE, self.check_progress)
        else:
            self.c.stuck = True
            self.release_waiters()

    cdef release_waiters(self):
        cdef Connection w
        cdef list waiters = self.waiters
        self.waiters = None
        if waiters:
            for w in waiters:
                w.waiting = False
                if w.transport is not None and not w.closed and not (w.c != NULL and w.c.suspended):
                    w.transport.resume_reading()


class ClientProtocol(Connection, BufferedProtocol):
    """A client connection. asyncio asks for BufferedProtocol by class, so the compiled base can't stand alone."""

    __slots__ = ()


cdef bint is_open(client_t* c) noexcept with gil:
    """Whether the descriptor is still the transport's: after a read error it closes it before it tells us."""
    cdef Connection conn = (<Client>c.handle).conn
    return conn is not None and conn.transport is not None and not conn.transport.is_closing()


cdef Py_ssize_t send_through(client_t* c, const char* a, Py_ssize_t n, const char* b, Py_ssize_t m) noexcept nogil:
    """client_t.send_through: what is queued, then a and b, in one system call."""
    cdef iovec[3] parts
    cdef msghdr msg
    cdef ssize_t k
    if not is_open(c):
        return 0
    parts[0].iov_base = c.out.data + c.out.off
    parts[0].iov_len = c.out.len - c.out.off
    parts[1].iov_base = <void*>a
    parts[1].iov_len = n
    parts[2].iov_base = <void*>b
    parts[2].iov_len = m
    memset(&msg, 0, sizeof(msg))
    msg.msg_iov = parts
    msg.msg_iovlen = 3
    k = sendmsg(c.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT)
    if k <= 0:
        return 0        # full, or broken: flush finds out which
    c.progress += k
    return k


cdef void flush_client(engine_t* e, client_t* c) noexcept:
    cdef object conn = (<Client>c.handle).conn
    if conn is not None:
        (<Connection>conn).flush(e, c)


cdef void on_write_deadline(engine_t* e, client_t* c) noexcept nogil:
    with gil:
        write_deadline(e, c)


cdef void write_deadline(engine_t* e, client_t* c):
    """Close a client whose socket took nothing for write_deadline; wait on where it did."""
    cdef Connection conn = (<Client>c.handle).conn
    cdef Py_ssize_t left
    if conn is None or conn.transport is None or not c.blocked or c.closing:
        return
    left = conn.transport.get_write_buffer_size()
    if left < c.handed or (e.jump_ns and e.now_ns >= e.jump_ns + e.write_deadline_ns):   # or it had no chance to take any
        c.progress += c.handed - left
        c.handed = left
        timer_arm(&e.timers, &c.write_timer, e.now_ns + e.write_deadline_ns, on_write_deadline, c)
        return
    e.slow_consumers += 1
    e.slow_consumers_write += 1
    c.account.slow_consumers += 1
    hook_error(e, c, b"write_deadline", NULL, 0, 1, pending_bytes(c))
    out_release(e, c)
    close_client(e, c, SLOW_CONSUMER_WRITE_DEADLINE)
    conn.abort()
