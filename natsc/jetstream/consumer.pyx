"""Consumers: the next message, to whom it goes, when, and what a client says to it.

What comes for a consumer (acknowledgements, pull requests, answers to flow control, removals in the stream) is copied
into its inbox and handled in its job at the end of the turn, as is everything that a deadline causes. The job reads the
inbox, expires what is overdue, delivers what it may, writes what has changed, and arms the timer.

Invariants
1. Nothing is published but from the job, and from what Python calls between deliveries.
2. A job delivers a bounded number of messages and bytes; the timer lets it go on in the next turn.
3. pending counts the matching messages from next_sseq to pending_seq, unless it is stale. With filters nothing that
   matches lies between pending_seq and what the stream shows: the consumer would have been told.
4. A closed consumer does nothing: no timer is armed, no subscription left, and nothing of it is on disk if it was deleted.
"""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from natsc.engine.account cimport SUB_ADDED, add_sub, watch_remove
from natsc.engine.client cimport detach
from natsc.engine.deliver cimport deliver_as
from natsc.engine.timers cimport timer_arm, timer_cancel
from natsc.engine.types cimport (KIND_JETSTREAM, client_t, engine_t, match_t, msg_t, sub_t, timer_fn)
from natsc.jetstream.ackstate cimport (ACK_PENDING, ACK_QUEUED, acks_add, acks_clear, acks_delivered, acks_dequeue, acks_drop,
                                       acks_enqueue, acks_find, acks_from, acks_next_due, acks_put_back,
                                       acks_redelivered, pend_t)
from natsc.jetstream.consumer_acks cimport POLICY_ALL, POLICY_EXPLICIT, POLICY_FLOW_CONTROL, POLICY_NONE
from natsc.jetstream.consumer_index cimport PART_ALL, PART_NONE, PART_WIDER
from natsc.jetstream.consumer_pulls cimport PIN_LEN, PRIORITY_PINNED
from natsc.jetstream.consumer_push cimport PushingConsumer
from natsc.jetstream.delivery cimport ACK_NUMBERS_MAX, ack_info_t, compose, read_ack_subject, write_ack_numbers
from natsc.jetstream.layout cimport stored_t
from natsc.jetstream.retained cimport RETAIN_INTEREST, RETAIN_LIMITS
from natsc.jetstream.seqset cimport seqset_next
from natsc.jetstream.stream cimport Stream
from natsc.jetstream.subjectstate cimport filter_match, filter_t, filters_match
from natsc.jetstream.waiting cimport wait_t
from natsc.jetstream.worker cimport worker_durable

ctypedef void (*on_msg_fn)(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept nogil

cdef enum:
    # letter_t.kind; the first four are the sids of the subscriptions.
    LETTER_ACK = 65             # "A"
    LETTER_LONG_ACK = 76        # "L": its subject has domain and account too; it becomes LETTER_ACK
    LETTER_PULL = 80            # "P"
    LETTER_FLOW = 70            # "F"
    LETTER_REMOVED = 82         # "R"
    # next_message
    FOUND = 0
    NOTHING = 1
    STALLED = 2                 # max_ack_pending is reached
    BUSY = 3                    # enough messages were looked at for now
    # next_t.source
    FROM_STREAM = 0
    FROM_SKIP = 1
    FROM_QUEUE = 2
    # deliver_next
    SENT = 0
    DONE = 1                    # nothing more for now
    FULL = 2                    # a receiver can't take more now
    MSGS_PER_JOB = 2048
    SCAN_BUDGET = 16384         # messages that a job looks at to find one in the filters
    BYTES_PER_JOB = 2 << 20
    INBOX_KEEP = 65536          # bytes of an empty inbox that are kept
    ADDRESS_MAX = 900           # bytes of an acknowledgement subject without its numbers

cdef int64_t MS = 1000000


cdef void run_job(engine_t* e, void* owner) noexcept:
    cdef Consumer c = <Consumer>owner
    c.keep = None
    c.work()


# These are called where nogil is declared, by an engine that always runs with the GIL held.

cdef void on_message(engine_t* e, client_t* c, sub_t* s, client_t* src, match_t* m, msg_t* msg) noexcept:
    (<Consumer>c.owner).take_message(s.text[0], m, msg)


cdef void on_timer(engine_t* e, client_t* c) noexcept:
    (<Consumer>c.owner).post()


@cython.no_gc_clear     # __dealloc__ needs the engine
cdef class Consumer(PushingConsumer):
    """A consumer of stream, which begins to work at once; of one that was there before, what was kept is taken over.

    config: a checked ConsumerConfig. created_ns: wall clock. Raises MemoryError.
    """

    def __init__(self, Stream stream not None, config, str name not None, int64_t created_ns):
        self.stream = stream
        self.name = name
        self.created = created_ns
        self.engine = stream.engine
        self.e = &self.engine.e
        self.account = &stream.account.a
        self.outbox = stream.outbox
        self.kept = stream.is_file and not config.mem_storage and not config.direct
        self.job.run = run_job
        self.job.owner = <void*>self
        self.set_names()
        self.configure(config)
        if not self.recover():
            self.choose_start()
        self.pending_stale = not self.skip_count
        self.start_work()

    def __dealloc__(self):
        if self.e != NULL:
            timer_cancel(&self.e.timers, &self.timer)
            watch_remove(self.e, &self.watch)
            if self.client is not None:
                detach(self.e, self.client.c)
        free(self.inbox)

    # ------------------------------------------------------------------------------------------------ what comes

    cdef void take_message(self, int kind, match_t* m, msg_t* msg) noexcept:
        """A message on one of the consumer's own subjects: into the inbox."""
        cdef letter_t head
        memset(&head, 0, sizeof(letter_t))
        head.kind = kind
        head.reply_len = <uint32_t>msg.reply_len if msg.reply != NULL else 0
        head.hdr_len = <uint32_t>msg.hdr_len if msg.hdr_len > 0 else 0
        head.body_len = <uint32_t>(msg.size - head.hdr_len)
        if kind == LETTER_ACK:
            read_ack_subject(m.subject, m.subject_len, 4, &head.ack)
        elif kind == LETTER_LONG_ACK:
            head.kind = LETTER_ACK
            read_ack_subject(m.subject, m.subject_len, 6, &head.ack)
        elif kind == LETTER_FLOW:       # what counts is the subject
            head.reply_len = m.subject_len
            self.put_letter(&head, m.subject, msg.payload)
            return
        elif head.reply_len == 0:
            return
        self.put_letter(&head, msg.reply, msg.payload)

    cdef bint put_letter(self, letter_t* head, const char* reply, const char* body) noexcept:
        cdef Py_ssize_t n = (sizeof(letter_t) + head.reply_len + head.hdr_len + head.body_len + 7) & ~<Py_ssize_t>7
        cdef char* grown
        if self.closed:
            return False
        if self.inbox_len + n > self.inbox_cap:
            grown = <char*>realloc(self.inbox, max(self.inbox_len + n, self.inbox_cap * 2, <Py_ssize_t>1024))
            if grown == NULL:
                return False
            self.inbox_cap = max(self.inbox_len + n, self.inbox_cap * 2, <Py_ssize_t>1024)
            self.inbox = grown
        head.size = <uint32_t>n
        grown = self.inbox + self.inbox_len
        memcpy(grown, head, sizeof(letter_t))
        grown += sizeof(letter_t)
        if head.reply_len:
            memcpy(grown, reply, head.reply_len)
        if head.hdr_len + head.body_len:
            memcpy(grown + head.reply_len, body, head.hdr_len + head.body_len)
        self.inbox_len += n
        self.post()
        return True

    cdef void read_inbox(self) noexcept:
        """Handle what came. What comes meanwhile goes into a new inbox."""
        cdef char* data = self.inbox
        cdef Py_ssize_t n = self.inbox_len, cap = self.inbox_cap, at = 0
        cdef letter_t* letter
        if n == 0:
            return
        self.inbox = NULL
        self.inbox_len = self.inbox_cap = 0
        while at < n and not self.closed:
            letter = <letter_t*>(data + at)
            self.read_letter(letter)
            at += letter.size
        if self.inbox == NULL and cap <= INBOX_KEEP:
            self.inbox = data
            self.inbox_cap = cap
        else:
            free(data)

    cdef void read_letter(self, letter_t* letter) noexcept:
        cdef const char* reply = <const char*>letter + sizeof(letter_t)
        cdef const char* hdr = reply + letter.reply_len
        cdef const char* body = hdr + letter.hdr_len
        if letter.kind == LETTER_ACK:
            self.take_ack(&letter.ack, reply, letter.reply_len, body, letter.body_len)
        elif letter.kind == LETTER_PULL:
            if letter.hdr_len and self.level_too_high(hdr[:letter.hdr_len]):
                self.send_status(reply, letter.reply_len, b"412 Required Api Level")
            else:
                self.process_pull(reply, letter.reply_len, body, letter.body_len)
        elif letter.kind == LETTER_FLOW:
            self.take_flow_answer(reply, letter.reply_len, hdr[:letter.hdr_len])
        else:
            self.forget(letter.ack.sseq)

    # What a subclass in Python knows.

    def level_too_high(self, headers: bytes) -> bool:
        """Whether a request's headers ask for a higher API level than this server has."""
        raise NotImplementedError

    cdef void take_ack(self, ack_info_t* info, const char* reply, Py_ssize_t n, const char* body, Py_ssize_t len) noexcept:
        """What a client says about a message."""
        cdef bint answer = info.sseq != 0
        cdef bint taken = answer or self.stream.retention == RETAIN_LIMITS     # so the reference has it
        if len == 0 or (len == 4 and memcmp(body, b"+ACK", 4) == 0) or (len == 3 and memcmp(body, b"+OK", 3) == 0):
            answer = self.process_ack(info.sseq, info.dseq, info.deliveries, True) and taken
        elif len >= 4 and memcmp(body, b"+NXT", 4) == 0:
            self.process_ack(info.sseq, info.dseq, info.deliveries, True)
            if n:
                self.process_pull(reply, n, body + 4, len - 4)
            answer = False
        elif len >= 4 and memcmp(body, b"-NAK", 4) == 0:
            self.process_nak(info.sseq, info.dseq, info.deliveries, body + 4, len - 4)
        elif len == 4 and memcmp(body, b"+WPI", 4) == 0:
            self.process_progress(info.sseq)
        elif len >= 5 and memcmp(body, b"+TERM", 5) == 0:
            answer = self.process_term(info.sseq, info.dseq, info.deliveries, body[5:len].strip()) and taken
        if n and answer:
            self.queue_reply(reply, n)

    cdef list wanted(self):
        return self.filter_texts

    cdef void on_wanted(self, uint64_t seq) noexcept:
        if seq > self.pending_seq and seq >= self.next_sseq:
            self.fresh += 1

    cdef void on_new(self, uint64_t first_seq, uint64_t last_seq, uint64_t count) noexcept:
        cdef uint64_t seq, n = self.fresh
        cdef bint relevant = self.pending_stale
        self.fresh = 0
        if self.closed:
            return
        if self.num_filters == 0:
            if max(self.pending_seq + 1, self.next_sseq) <= first_seq:
                n = count
            else:
                seq = seqset_next(&self.stream.store.present, max(self.pending_seq + 1, self.next_sseq))
                while seq and seq <= last_seq:
                    n += 1
                    seq = seqset_next(&self.stream.store.present, seq + 1)
        if not self.pending_stale:
            self.pending += <int64_t>n
        self.pending_seq = max(self.pending_seq, last_seq)
        # What was there before it could be seen is counted already.
        if n or relevant or self.pending > 0 or self.no_wait_requests:
            if self.active if self.is_push else self.waiting.count > 0:
                self.wake()

    cdef void on_removed(self, uint64_t seq, const char* subject, Py_ssize_t n) noexcept:
        cdef letter_t head
        if self.closed:
            return
        if not self.pending_stale and self.next_sseq <= seq <= self.pending_seq:
            if self.skip_at < self.skip_count and seq <= self.skip_resume:
                self.pending -= self.is_skipped_to(seq) and filters_match(self.filters, self.num_filters, subject, n)
            else:
                self.pending -= filters_match(self.filters, self.num_filters, subject, n)
        if acks_find(&self.acks, seq) != NULL:
            memset(&head, 0, sizeof(letter_t))
            head.kind = LETTER_REMOVED
            head.ack.sseq = seq
            self.put_letter(&head, NULL, NULL)

    cdef bint is_skipped_to(self, uint64_t seq) noexcept:
        """Whether seq is in what is left of the list of last messages, which is sorted."""
        cdef uint64_t low = self.skip_at, high = self.skip_count, middle
        while low < high:
            middle = (low + high) >> 1
            if self.skip[middle] < seq:
                low = middle + 1
            else:
                high = middle
        return low < self.skip_count and self.skip[low] == seq

    cdef int part_in(self, const filter_t* f) noexcept nogil:
        cdef Py_ssize_t i, inside = 0
        for i in range(self.num_filters):
            inside += filter_match(f, self.filters[i].subject, self.filters[i].len)
        if inside and inside == self.num_filters:
            return PART_ALL
        return PART_WIDER if filters_match(self.filters, self.num_filters, f.subject, f.len) else PART_NONE

    cdef void on_purged(self, uint64_t first_seq, bint told, bint some) noexcept:
        self.purged_first = max(self.purged_first, first_seq if told else 1, <uint64_t>1)
        self.purged_told = self.purged_told or told
        self.pending_stale = self.pending_stale or some
        self.post()

    cdef void take_purge(self) noexcept:
        """Forget what went, without a word."""
        cdef uint64_t first = self.purged_first
        cdef pend_t* p = acks_from(&self.acks, 0)
        cdef uint64_t seq
        cdef bint moved = False
        cdef bint told = self.purged_told
        self.purged_first = 0
        self.purged_told = False
        while p != NULL:
            seq = p.seq
            if not self.stream.store.has(seq):
                self.acks.floor_dseq = max(self.acks.floor_dseq, p.dseq) if seq < first else self.acks.floor_dseq
                acks_drop(&self.acks, p)
                self.last_ack_ns = self.outbox.wall_ns()
                moved = True
            p = acks_from(&self.acks, seq + 1)
        if self.next_sseq < first:
            self.next_sseq = first
            moved = True
        if self.acks.floor_sseq + 1 < first:
            self.acks.floor_sseq = first - 1
            moved = True
        if (told or moved) and self.acks.pending == 0:
            self.acks.floor_sseq = max(self.acks.delivered_sseq, self.next_sseq - 1)
            self.acks.floor_dseq = self.next_dseq - 1
            moved = True
        if told or moved:
            self.acks.delivered_sseq = max(self.acks.delivered_sseq, self.next_sseq - 1)
            self.acks.delivered_dseq = self.next_dseq - 1
        self.changed = self.changed or moved
        self.woken = True

    # ------------------------------------------------------------------------------------------------ the job

    cdef void work(self) noexcept:
        cdef uint64_t now = self.e.now_ns
        cdef uint64_t due
        if self.closed:
            return
        self.read_inbox()
        if self.purged_first:
            self.take_purge()
        due = acks_next_due(&self.acks)
        if due and due <= now:
            self.expire()
        if self.interest_changed:
            self.check_interest()
        if self.pin_due_ns and self.pin_due_ns <= now:
            self.drop_pin()
            self.announce_pin("", "timeout")
            self.woken = True
        if self.paused_until_ns and self.paused_until_ns <= now:
            self.paused_until_ns = 0
            self.announce_pause()
            self.woken = True
        if self.kick_ns and self.kick_ns <= now:
            self.kick_ns = 0
            self.woken = True
        if self.woken:
            self.woken = False
            self.deliver_ready()
        if self.wait_due_ns and self.wait_due_ns <= now:
            self.process_waiting(True)
        if self.heartbeat_at_ns and self.heartbeat_at_ns <= now:
            self.heartbeat()
        self.answer(self.save())
        if self.inactive_ns and self.inactive_ns <= now:
            self.check_inactive()
        if not self.closed:
            self.arm()

    cdef void sleep_until(self, uint64_t* due, uint64_t when) noexcept:
        if when and (due[0] == 0 or when < due[0]):
            due[0] = when

    cdef void arm(self) noexcept:
        """Have the job run at the next deadline. A timer that fires too early does no harm."""
        cdef uint64_t due = acks_next_due(&self.acks)
        if due and not self.engine.frozen:
            due += <uint64_t>MS     # what is due at about the same time goes together
        self.sleep_until(&due, self.wait_due_ns)
        self.sleep_until(&due, self.heartbeat_at_ns)
        self.sleep_until(&due, self.pin_due_ns)
        self.sleep_until(&due, self.paused_until_ns)
        self.sleep_until(&due, self.kick_ns)
        self.sleep_until(&due, self.inactive_ns)
        if due and (self.timer.when_ns == 0 or due < self.timer.when_ns):
            timer_arm(&self.e.timers, &self.timer, due, <timer_fn>on_timer, self.client.c)

    cdef uint64_t soon(self) noexcept:
        """When to look again whether the disk or a receiver has got on, which it does while a test's clock stands, too."""
        return self.e.now_ns if self.engine.frozen else self.e.now_ns + <uint64_t>MS

    cdef bint may_begin(self) noexcept:
        """Whether whoever made the consumer has had the answer: only then messages follow."""
        if self.begin_op == 0:
            self.begin_op = self.outbox.current_op() + 1
            self.kick_ns = self.e.now_ns
        elif self.kept and worker_durable(self.outbox.worker) + 1 < self.begin_op:
            self.kick_ns = self.soon()
        else:
            self.begun = True
        return self.begun

    cdef bint may_deliver(self) noexcept:
        if self.paused_until_ns:
            return False
        if self.is_push:
            return self.active and not (self.window and self.out_bytes > self.window)
        return self.waiting.count > 0

    cdef void deliver_ready(self) noexcept:
        """Deliver what there is and what may go, up to a limit."""
        cdef int left = MSGS_PER_JOB, result = DONE
        cdef Py_ssize_t octets = 0
        self.stalled = False
        if not self.begun and not self.may_begin():
            return
        while self.may_deliver():
            if left == 0 or octets > BYTES_PER_JOB:
                self.kick_ns = self.e.now_ns
                break
            result = self.deliver_next(&octets)
            if result != SENT:
                break
            left -= 1
        if left < MSGS_PER_JOB:
            self.last_delivered_ns = self.outbox.wall_ns()
            self.changed = True
        if result == FULL:
            self.kick_ns = self.soon()
        elif self.no_wait_requests and not self.kick_ns:
            # What is stored and can't be seen yet is worth waiting for.
            self.process_waiting(not self.stalled and self.stream.visible_seq >= self.stream.last_seq())
            if self.no_wait_requests and self.stream.visible_seq < self.stream.last_seq():
                self.stream.index.tell_next(self)

    cdef int deliver_next(self, Py_ssize_t* octets) noexcept:
        """Deliver one message. SENT, DONE or FULL."""
        cdef stored_t m
        cdef next_t c
        cdef msg_t msg
        cdef wait_t* w = NULL
        cdef char address[ADDRESS_MAX + ACK_NUMBERS_MAX]
        cdef Py_ssize_t n = len(self.ack_prefix), size
        cdef int found = self.next_message(&m, &c)
        if found != FOUND:
            self.stalled = found == STALLED
            if found == BUSY:
                self.kick_ns = self.e.now_ns
            return DONE
        memcpy(address, <char*>self.ack_prefix, n)
        n += write_ack_numbers(address + n, c.deliveries, c.seq, self.next_dseq, m.ts_ns, self.count_pending())
        if not compose(&self.scratch, &m, address, n, self.headers_only, NULL, 0, &msg):
            self.put_back(&c)
            return DONE
        size = msg.subject_len + n + msg.size
        if self.is_held(&m, size):
            self.put_back(&c)
            return DONE
        if not self.is_push:
            w = self.next_waiting(size)
            if w == NULL:
                self.put_back(&c)
                return DONE
            if self.priority == PRIORITY_PINNED and not compose(&self.scratch, &m, address, n, self.headers_only, self.pin,
                                                                PIN_LEN, &msg):
                self.put_back(&c)
                return DONE
            found = self.send_message(self.receiver, w.text, w.reply_len, &msg)
        else:
            found = self.send_message(self.interest(self.deliver_subject, len(self.deliver_subject)), self.deliver_subject,
                                      len(self.deliver_subject), &msg)
        if found == DONE:
            self.put_back(&c)
            self.kick_ns = self.e.now_ns + 10 * <uint64_t>MS
            self.check_interest()
            return DONE
        octets[0] += size
        self.delivered(&c, size)
        if w != NULL:
            self.sent_to(w)
        return found

    cdef int send_message(self, match_t* m, const char* to, Py_ssize_t n, msg_t* msg) noexcept:
        """Deliver to m, the match of `to`. SENT; FULL: it was sent, but more must wait; DONE: nobody got it."""
        cdef client_t* stalled = self.e.stalled_on
        cdef uint32_t sent
        cdef bint full
        if m == NULL:
            return DONE
        self.e.stalled_on = NULL
        sent = deliver_as(self.e, m, to, n, msg)
        full = self.e.stalled_on != NULL
        self.e.stalled_on = stalled
        self.account.counters.out_msgs += sent - self.e.internal
        self.account.counters.out_bytes += (sent - self.e.internal) * msg.size
        if sent == 0:
            return DONE
        return FULL if full else SENT

    cdef void delivered(self, next_t* c, Py_ssize_t size) noexcept:
        """A message has left."""
        cdef pend_t* p
        cdef uint64_t dseq = self.next_dseq
        self.next_dseq += 1
        acks_delivered(&self.acks, c.seq, dseq)
        if self.policy == POLICY_NONE:
            self.acks.floor_dseq = self.acks.delivered_dseq
            self.acks.floor_sseq = self.acks.delivered_sseq
            if self.stream.retention != RETAIN_LIMITS:
                self.stream.consumer_acked(self, c.seq)
        else:
            p = acks_add(&self.acks, c.seq, dseq)
            if p != NULL:
                self.set_due(p, <int64_t>self.e.now_ns)
        if not self.is_push:
            self.waiting.last_ns = self.e.now_ns
            return
        if self.heartbeat_ns:
            self.heartbeat_at_ns = self.e.now_ns + <uint64_t>self.heartbeat_ns
        if self.window:
            self.out_bytes += size
            if self.asked:
                if self.out_bytes - self.asked_bytes >= self.window:
                    self.asked_bytes += size
            elif self.out_bytes > self.window // 2 or (
                    self.policy == POLICY_FLOW_CONTROL and self.max_pending and self.acks.pending >= self.max_pending):
                self.ask_flow()

    # ------------------------------------------------------------------------------------------------ the next message

    cdef bint next_redelivery(self, stored_t* m, next_t* c) noexcept:
        """The first in the queue of redeliveries that is there and may be delivered again."""
        cdef pend_t* p
        cdef uint64_t seq, times
        while True:
            p = acks_dequeue(&self.acks)
            if p == NULL:
                return False
            seq = p.seq
            acks_redelivered(&self.acks, p, 1)
            times = p.redelivered + 1
            if 0 < self.max_deliver < <int64_t>times:
                if <int64_t>times == self.max_deliver + 1:
                    self.exceeded(seq, times - 1)
                self.give_up(p)
                continue
            if self.stream.load(seq, m):
                c.seq = seq
                c.deliveries = times
                c.source = FROM_QUEUE
                return True
            acks_redelivered(&self.acks, p, -1)
            self.forget(seq)

    cdef int next_message(self, stored_t* m, next_t* c) noexcept:
        """Take the message that is to be delivered next. FOUND, NOTHING, STALLED or BUSY."""
        cdef uint64_t resume = 0
        if self.acks.queued and self.next_redelivery(m, c):
            return FOUND
        if self.max_pending and self.acks.pending >= self.max_pending:
            return STALLED
        c.deliveries = 1
        c.before = self.next_sseq
        while self.skip_at < self.skip_count:
            c.seq = self.skip[self.skip_at]
            self.skip_at += 1
            self.next_sseq = self.skip_resume + 1 if self.skip_at == self.skip_count else c.seq + 1
            # What has gone, or isn't wanted any more, isn't counted either.
            if self.stream.load(c.seq, m) and filters_match(self.filters, self.num_filters, m.subject, m.subject_len):
                self.pending -= 1
                c.source = FROM_SKIP
                return FOUND
        c.source = FROM_STREAM
        c.seq = 0
        if self.num_filters == 0 or self.pending_stale or self.pending > 0:
            c.seq = self.stream.scan(self.filters, self.num_filters, self.next_sseq, SCAN_BUDGET, m, &resume)
            if c.seq == 0 and resume <= self.stream.visible_seq:
                self.next_sseq = resume         # there may be something further on
                return BUSY
        if c.seq:
            self.next_sseq = c.seq + 1
            if not self.pending_stale:
                self.pending -= 1
            return FOUND
        self.next_sseq = max(self.next_sseq, self.stream.visible_seq + 1)
        if self.replay and self.next_sseq > self.replay_end:
            self.replay = False
        if self.next_sseq > self.stream.last_seq():
            self.pending = 0
            self.pending_stale = False
            self.pending_seq = self.stream.last_seq()
        return NOTHING

    cdef void put_back(self, next_t* c) noexcept:
        """It wasn't delivered: it is the next again."""
        cdef pend_t* p
        if c.source == FROM_QUEUE:
            p = acks_find(&self.acks, c.seq)
            acks_redelivered(&self.acks, p, -1)
            acks_put_back(&self.acks, p)
            return
        if c.source == FROM_SKIP:
            self.skip_at -= 1
            self.next_sseq = c.before
        else:
            self.next_sseq = c.seq
        if not self.pending_stale:
            self.pending += 1

    cdef bint is_held(self, stored_t* m, Py_ssize_t size) noexcept:
        """Whether m must wait: for the rhythm of the stream, or for the rate limit."""
        cdef uint64_t now = self.e.now_ns
        cdef double missing
        if self.replay and self.held_seq != m.seq and self.replay_last_ts and m.ts_ns - self.replay_last_ts > MS:
            self.held_seq = m.seq
            self.held_until_ns = now + <uint64_t>(m.ts_ns - self.replay_last_ts)
        if self.held_seq == m.seq and now < self.held_until_ns:
            self.kick_ns = self.held_until_ns
            return True
        if self.rate > 0:
            self.rate_tokens = min(self.rate_burst, self.rate_tokens + self.rate * <double>(now - self.rate_at_ns))
            self.rate_at_ns = now
            missing = min(<double>size, self.rate_burst) - self.rate_tokens
            if missing > 0:
                self.kick_ns = now + <uint64_t>(missing / self.rate) + 1
                return True
            self.rate_tokens -= size
        self.replay_last_ts = m.ts_ns
        return False

    # ------------------------------------------------------------------------------------------------ time

    cdef void check_inactive(self) noexcept:
        """Delete a consumer that nobody has used for so long."""
        cdef uint64_t now = self.e.now_ns
        if self.is_push:
            self.check_interest()
            if self.active:
                return
        elif now < self.waiting.last_ns + <uint64_t>self.threshold_ns:
            self.inactive_ns = self.waiting.last_ns + <uint64_t>self.threshold_ns
            return
        else:
            self.process_waiting(True)
            if self.waiting.count:
                self.inactive_ns = now + <uint64_t>self.threshold_ns
                return
        self.delete()

    def announce_pause(self) -> None:
        if self.listened(f"$JS.EVENT.ADVISORY.CONSUMER.PAUSE.{self.stream.name}.{self.name}".encode()):
            self.event("consumer_pause", (self.stream.name, self.name, self.config))

    # ------------------------------------------------------------------------------------------------ for Python

    def start_work(self) -> None:
        """Subscribe, watch, join the stream."""
        cdef bytes both = f"{self.stream.name}.{self.name}".encode()
        self.client = self.engine.new_client(self.stream.account, True)
        self.client.c.kind = KIND_JETSTREAM
        self.client.c.on_msg = <on_msg_fn>on_message
        self.client.c.owner = <void*>self
        if self.policy == POLICY_ALL or self.policy == POLICY_EXPLICIT:
            self.subscribe(b"$JS.ACK.%b.*.*.*.*.*" % both, b"A")
            self.subscribe(b"$JS.ACK.%b.%b.*.*.*.*.>" % (self.backend.ack_space, both), b"L")
        self.subscribe(b"$JS.API.CONSUMER.MSG.NEXT.%b" % both, b"P")
        if self.config.flow_control:
            self.begin_flow()
            self.subscribe(b"$JS.FC.%b.*" % both, b"F")
            self.subscribe(b"$JS.FC.%b.%b.*" % (self.backend.ack_space, both), b"FL")
        if self.config.replay_policy == "original":
            self.replay = True
            self.replay_end = self.stream.last_seq()
        if self.is_push:
            self.heartbeat_ns = self.config.idle_heartbeat
            self.heartbeat_at_ns = self.e.now_ns + <uint64_t>self.heartbeat_ns if self.heartbeat_ns else 0
            self.set_deliver_subject(self.config.deliver_subject.encode("utf-8", "surrogateescape"))
        self.stream.add_consumer(self)
        self.wake()

    def subscribe(self, bytes subject, bytes sid) -> None:
        if add_sub(self.e, self.client.c, subject, len(subject), NULL, 0, sid, len(sid)) != SUB_ADDED:
            raise ValueError(f"invalid subject {subject!r}")

    def numbers(self) -> dict[str, int]:
        """Where the consumer is, for natsc.jetstream.consumer_config.ConsumerState. Times are wall clock ns."""
        if not self.closed:
            self.read_inbox()
            if not self.is_push:
                self.process_waiting(False)
        self.outbox.touch()
        return {
            "delivered_dseq": self.acks.delivered_dseq, "delivered_sseq": self.acks.delivered_sseq,
            "floor_dseq": self.acks.floor_dseq, "floor_sseq": self.acks.floor_sseq,
            "last_delivered_ns": self.last_delivered_ns, "last_ack_ns": self.last_ack_ns,
            "ack_pending": self.acks.pending, "redelivered": self.acks.redelivered, "waiting": self.waiting.count,
            "pending": self.count_pending(), "pinned_at_ns": self.pinned_at_ns,
        }

    @property
    def pinned_client(self) -> str:
        """The id of the pinned client, "" = none."""
        return self.pin[:PIN_LEN].decode() if self.pinned else ""

    def update(self, config) -> None:
        """Work by a changed configuration, and keep it. Raises StoreError."""
        cdef pend_t* p
        old = self.config
        filters = self.filter_texts
        self.configure(config)
        p = acks_from(&self.acks, 0)
        while p != NULL:
            if p.flags & (ACK_PENDING | ACK_QUEUED) == ACK_PENDING and (
                    config.ack_wait != old.ack_wait or config.backoff != old.backoff):
                self.set_due(p, p.sent_ns)
            p = acks_from(&self.acks, p.seq + 1)
        if config.sourcing:     # whoever reads takes nothing that is delivered again
            self.reset(self.acks.floor_sseq + 1)
        if config.deliver_subject != old.deliver_subject:
            self.deliver_all_again()
            self.set_deliver_subject(config.deliver_subject.encode("utf-8", "surrogateescape"))
        self.stream.save_consumer(self)
        if config.pause_until != old.pause_until:
            self.announce_pause()
        if filters != self.filter_texts:
            self.stream.reindex(self)
            if self.stream.retention == RETAIN_INTEREST:
                self.stream.drop_unneeded()
        self.wake()

    def deliver_all_again(self) -> None:
        """Those that listen now have got nothing of what is pending."""
        cdef pend_t* p = acks_from(&self.acks, 0)
        cdef uint64_t seq
        while p != NULL:
            seq = p.seq
            if p.flags & (ACK_PENDING | ACK_QUEUED) == ACK_PENDING and not self.gave_up(p):
                acks_enqueue(&self.acks, p)
            p = acks_from(&self.acks, seq + 1)

    def reset(self, uint64_t seq) -> None:
        """Begin anew at stream sequence seq, with nothing pending."""
        acks_clear(&self.acks)
        self.next_sseq = max(seq, <uint64_t>1)
        self.next_dseq = 1
        self.acks.delivered_sseq = self.acks.floor_sseq = self.next_sseq - 1
        self.acks.delivered_dseq = self.acks.floor_dseq = 0
        self.last_delivered_ns = self.last_ack_ns = 0
        if self.skip_at >= self.skip_count:     # else what is left of the last ones of each subject comes before
            self.skip_at = self.skip_count = self.skip_resume = 0
        self.pending_stale = self.changed = True
        if self.stream.retention == RETAIN_INTEREST:
            self.stream.drop_unneeded()
        self.wake()

    def unpin(self, group: str, reason: str) -> None:
        """Take the pin from the client that has it."""
        if self.pinned:
            self.drop_pin()
            self.announce_pin("", reason)
            self.wake()

    def delete(self) -> None:
        """Leave the stream, and keep nothing."""
        if self.closed:
            return
        self.leave(b"409 Consumer Deleted", False)
        if self.kept:
            self.stream.store.consumer_delete_prefix(self.key, len(self.key))
        self.stream.remove_consumer(self)
        self.stream.forget_consumer(self)

    def leave(self, bytes status, bint with_pending) -> None:
        """End what waits, and hear of nothing any more."""
        if self.closed:
            return
        self.end_requests(status, with_pending)
        self.closed = True
        timer_cancel(&self.e.timers, &self.timer)
        watch_remove(self.e, &self.watch)
        detach(self.e, self.client.c)
        self.inbox_len = 0

    cdef void on_stream_deleted(self):
        self.leave(b"409 Consumer Deleted", False)

    cdef void on_shutdown(self):
        if self.closed:
            return
        self.read_inbox()
        self.answer(self.save())
        self.leave(b"409 Server Shutdown", True)
