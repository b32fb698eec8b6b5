"""Push: who listens to the deliver subject, idle heartbeats, flow control.

Flow control asks the client, in the middle of its messages, to say when it has got so far; no more than a window of bytes
is out before it answers. The window starts small and doubles with each answer.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp

from natsc.engine.account cimport watch_add, watch_remove
from natsc.engine.random cimport random_below
from natsc.engine.sublist cimport shadow_of, sub_subject
from natsc.engine.types cimport SPECIAL_CLOSED, engine_t, match_t, shadow_t, sub_t
from natsc.jetstream.consumer_acks cimport POLICY_FLOW_CONTROL
from natsc.jetstream.consumer_setup cimport ConfiguredConsumer
from natsc.jetstream.delivery cimport STATUS_MAX, write_heartbeat

ctypedef void (*changed_fn)(engine_t* e, void* owner) noexcept nogil

cdef int64_t FLOW_WINDOW_MAX = 32 << 20
cdef const char* FLOW_DIGITS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


cdef void on_interest(engine_t* e, void* owner) noexcept:
    cdef PushingConsumer c = <PushingConsumer>owner
    c.interest_changed = True
    c.post()


cdef class PushingConsumer(ConfiguredConsumer):
    def __dealloc__(self):
        if self.e != NULL:
            watch_remove(self.e, &self.watch)

    def set_deliver_subject(self, bytes subject) -> None:
        """Push: deliver there from now on, and watch who listens."""
        watch_remove(self.e, &self.watch)
        self.deliver_subject = subject
        self.watch.changed = <changed_fn>on_interest
        self.watch.owner = <void*>self
        if subject and not watch_add(self.e, &self.watch, self.account, subject, len(subject)):
            raise MemoryError
        self.check_interest()

    def begin_flow(self) -> None:
        """Use flow control."""
        self.window = FLOW_WINDOW_MAX // 16

    # What a subclass in Python knows.

    def read_flow_answer(self, headers: bytes) -> tuple[int, int]:
        """Stream and consumer sequence that an answer to flow control acknowledges; 0 = none."""
        raise NotImplementedError

    cdef bint has_push_interest(self) noexcept:
        """Whether somebody has subscribed to just the deliver subject, in its group if it has one."""
        cdef match_t* m = self.interest(self.deliver_subject, len(self.deliver_subject))
        cdef Py_ssize_t n = len(self.deliver_subject), group_len = len(self.deliver_group)
        cdef char text[256]
        cdef sub_t* s
        cdef shadow_t* shadow
        cdef uint32_t i
        if m == NULL:
            return False
        for i in range(m.num_targets):
            s = m.targets[i].sub
            if m.targets[i].client.account != self.account:  # in another account, by a stream import
                shadow = shadow_of(m, &m.targets[i])
                s = shadow.sub if shadow != NULL else s
            if s.client.special & SPECIAL_CLOSED or <Py_ssize_t>s.queue_len != group_len or memcmp(
                    s.text + s.sid_len, <char*>self.deliver_group, group_len) != 0:
                continue
            if sub_subject(s, text, 256) == n and (n > 256 or memcmp(text, <char*>self.deliver_subject, n) == 0):
                return True
        return False

    cdef void check_interest(self) noexcept:
        """Push: whether anybody listens; nothing is delivered while nobody does."""
        cdef bint before = self.active
        self.interest_changed = False
        if not self.is_push:
            return
        self.active = self.has_push_interest()
        if self.active:
            self.inactive_ns = 0
            if not before:
                self.woken = True
        elif self.threshold_ns and not self.inactive_ns:
            self.inactive_ns = self.e.now_ns + <uint64_t>self.threshold_ns

    cdef void ask_flow(self) noexcept:
        """Ask the client to say that it has got everything up to here."""
        cdef char name[4]
        cdef bytes head = b"NATS/1.0 100 FlowControl Request\r\n\r\n"
        cdef int i
        for i in range(4):
            name[i] = FLOW_DIGITS[random_below(&self.e.random, 62)]
        self.asked = self.flow_prefix + name[:4]
        self.asked_bytes = self.out_bytes
        self.engine.publish(self.stream.account, self.deliver_subject, b"", reply=self.asked, headers=head)

    cdef void take_flow_answer(self, const char* subject, Py_ssize_t n, bytes headers) noexcept:
        if n != len(self.asked) or memcmp(subject, <char*>self.asked, n) != 0:
            return
        self.asked = b""
        self.window = min(self.window * 2, FLOW_WINDOW_MAX)
        self.out_bytes = max(self.out_bytes - self.asked_bytes, 0)
        self.asked_bytes = 0
        self.woken = True
        if self.policy == POLICY_FLOW_CONTROL and headers:
            sseq, dseq = self.read_flow_answer(headers)
            if sseq:
                self.process_ack(sseq, dseq, 1, False)

    cdef void heartbeat(self) noexcept:
        cdef char text[STATUS_MAX]
        cdef Py_ssize_t n
        self.heartbeat_at_ns = self.e.now_ns + <uint64_t>self.heartbeat_ns
        if not self.active:
            return
        n = write_heartbeat(text, self.next_dseq - 1, self.next_sseq - 1, self.asked, len(self.asked))
        self.outbox.send(self.account, self.deliver_subject, len(self.deliver_subject), text, n, n)
        if self.policy == POLICY_FLOW_CONTROL and self.acks.pending and not self.asked:
            self.ask_flow()
