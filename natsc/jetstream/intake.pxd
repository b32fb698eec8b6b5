# What a stream reads from another one: the path of a message from the other's consumer into the stream's store.

from libc.stdint cimport int64_t, uint64_t

from natsc._core cimport Client, Engine
from natsc.engine.types cimport engine_t, job_t, match_t, msg_t, timer_node_t
from natsc.jetstream.delivery cimport scratch_t
from natsc.jetstream.stream cimport Stream

# What a delivered message's reply subject says.
cdef struct origin_t:
    const char* consumer
    Py_ssize_t consumer_len
    const char* sseq_text       # the sequence as it stands there
    Py_ssize_t sseq_len
    uint64_t deliveries
    uint64_t sseq               # in the stream that is read
    uint64_t dseq               # in its consumer
    int64_t ts_ns
    uint64_t pending            # with this message

cdef class Intake:
    cdef readonly Stream stream         # where the messages go
    cdef readonly Engine engine
    cdef engine_t* e
    cdef Client client                  # holds the subscription to what the consumer delivers; None = not reading
    cdef job_t job
    cdef Intake held                    # itself, until a job that is posted has run
    cdef timer_node_t timer
    cdef Client timer_client            # what the timer fires for
    cdef uint64_t due_ns                # when on_time is to be called; 0 = not
    cdef readonly bint is_mirror        # sequences, times and headers are kept
    cdef readonly bytes consumer        # name of the consumer that is read; b"" = what comes is ignored
    cdef public uint64_t sseq           # last sequence seen of the stream that is read
    cdef uint64_t dseq                  # last one of its consumer
    cdef public uint64_t stored_sseq    # last sequence of it that was stored
    cdef readonly uint64_t lag          # messages that waited behind the last one
    cdef readonly uint64_t last_ns      # engine time of the last sign of life; 0 = never
    cdef bytes head                     # Nats-Stream-Source: what stands before the sequence
    cdef bytes middle                   # what stands behind it, before the subject
    cdef bytes tail                     # what stands behind the subject: the identity of the stream that is read
    cdef bint transforms                # subjects are changed: see transform
    cdef bint kept_due                  # where it stands is to be written
    cdef bint probing                   # whatever comes only says that the consumer is there: see probe
    cdef bint probed                    # it has come
    cdef bint broken                    # reading can't go on
    cdef int refused                    # because of a message that couldn't be stored (Stream.refused); 0 = it was missed
    cdef dict refused_values
    cdef scratch_t scratch

    cdef Client internal_client(self)
    cdef void take(self, match_t* m, msg_t* msg) noexcept
    cdef void take_control(self, msg_t* msg) noexcept
    cdef void answer_flow(self, const char* subject, Py_ssize_t n, bint with_numbers) noexcept
    cdef void take_mirrored(self, match_t* m, msg_t* msg, origin_t* o) noexcept
    cdef void take_sourced(self, match_t* m, msg_t* msg, origin_t* o) noexcept
    cdef int store(self, uint64_t seq, int64_t ts, const char* subject, Py_ssize_t n, const char* hdr, Py_ssize_t hdr_len,
                   const char* body, Py_ssize_t body_len) noexcept
    cdef Py_ssize_t rewrite(self, match_t* m, msg_t* msg, origin_t* o) noexcept
    cdef void post(self) noexcept
    cdef void stop_reading(self, int refused) noexcept
    cdef void work(self) noexcept
