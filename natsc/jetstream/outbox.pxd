# What waits for the disk: replies that may leave only when something is durable, and messages that consumers may see then.
#
# One Outbox an engine. Everything is queued with the number of the storage operation that it waits for (0: the end of the
# turn). The Outbox's job at the end of the turn hands the turn's operations to the storage worker; when the worker reports,
# release() lets go what is durable, in the order in which it was queued.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from natsc._core cimport Engine
from natsc.engine.types cimport account_t, engine_t, job_t
from natsc.jetstream.store cimport Store
from natsc.jetstream.worker cimport worker_t

# A reply in the queue; then its subject, then its payload.
cdef struct waiting_t:
    uint64_t op             # goes once this operation is durable
    account_t* account
    uint32_t reply_len
    uint32_t hdr_len        # of the payload, 0 = no headers
    uint32_t len            # payload, with headers
    uint32_t failure_len    # of the bytes behind it that are sent instead where the store fails; 0 = nothing is
    uint32_t size           # of the record

# Bytes in order: records are added at the end and taken from the front.
cdef struct fifo_t:
    char* data
    Py_ssize_t head
    Py_ssize_t end
    Py_ssize_t cap

# What has new messages for consumers. Stream is one.
cdef class Visible:
    cdef bint marked                    # in the outbox's list of those with new messages this turn
    cdef bint durable                   # whether they wait for the disk
    cdef uint64_t newest(self) noexcept
    cdef void show(self, uint64_t last_seq) noexcept

cdef class Outbox:
    cdef readonly Engine engine
    cdef readonly Store store           # of the file streams, None while there is none
    cdef readonly object clock          # natsc.clock.Clock
    cdef worker_t* worker               # its worker, NULL while there is none
    cdef job_t job
    cdef fifo_t now                     # replies that wait for the end of the turn
    cdef fifo_t durable                 # replies that wait for the disk
    cdef list new                       # Visibles with new messages this turn
    cdef list marks                     # (op, Visible, last_seq) that wait for the disk, oldest first
    cdef readonly uint64_t handed       # last operation that was handed to the worker
    cdef public uint64_t pending_max    # bytes that may wait for the disk before publishers are turned away
    cdef readonly bint failed           # the store has failed: nothing is durable any more
    cdef public object on_failure       # called once when that happens
    cdef char* scratch
    cdef Py_ssize_t scratch_cap

    cdef void touch(self) noexcept nogil
    cdef uint64_t current_op(self) noexcept nogil
    cdef bint reply(self, uint64_t op, account_t* account, const char* subject, Py_ssize_t n, const char* payload,
                    Py_ssize_t len, Py_ssize_t hdr_len, const char* failure, Py_ssize_t failure_len) noexcept nogil
    cdef bint send(self, account_t* account, const char* subject, Py_ssize_t n, const char* payload, Py_ssize_t len,
                   Py_ssize_t hdr_len) noexcept
    cdef int64_t wall_ns(self) noexcept
    cdef void mark(self, Visible v)
    cdef void drain(self, fifo_t* f, uint64_t op) noexcept
    cdef void show_until(self, uint64_t op)
    cdef void fail(self)
