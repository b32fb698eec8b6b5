"""What a consumer is told to do, and where it begins.

A configuration has been checked before it comes here (natsc/jetstream/consumer_check.py).
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, qsort, realloc
from libc.string cimport memset

from natsc.engine.random cimport random_below
from natsc.jetstream.consumer_acks cimport POLICY_NONE
from natsc.jetstream.consumer_pulls cimport PullingConsumer
from natsc.jetstream.subjectstate cimport filter_init, filter_t, subject_iter_t, subject_t, subjects_next

cdef int64_t MS = 1000000


cdef int ascending(const void* x, const void* y) noexcept nogil:
    return (<uint64_t*>x)[0] > (<uint64_t*>y)[0] or -((<uint64_t*>x)[0] < (<uint64_t*>y)[0])


cdef class ConfiguredConsumer(PullingConsumer):
    def __dealloc__(self):
        free(self.skip)

    def set_names(self) -> None:
        """The subjects and keys that begin with the consumer's name."""
        cdef str both = f"{self.stream.name}.{self.name}"
        self.key = b"state/" + self.name.encode() + b"\0"
        cdef bytes whole = self.backend.ack_space + b"." + both.encode() if self.backend.long_acks else both.encode()
        self.ack_prefix = b"$JS.ACK." + whole + b"."
        self.flow_prefix = b"$JS.FC." + whole + b"."
        self.nak_subject = f"$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.{both}".encode()
        self.term_subject = f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{both}".encode()
        self.exceeded_subject = f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{both}".encode()
        self.sample_subject = f"$JS.EVENT.METRIC.CONSUMER.ACK.{both}".encode()
        self.asked = self.deliver_subject = self.deliver_group = self.group = b""

    def configure(self, config) -> None:
        """Work by a configuration from now on."""
        cdef list filters = [one.encode("utf-8", "surrogateescape") for one in config.filters()]
        cdef filter_t* fresh = <filter_t*>calloc(len(filters) + 1, sizeof(filter_t))
        cdef int64_t* waits = <int64_t*>calloc(len(config.backoff) + 1, sizeof(int64_t))
        if fresh == NULL or waits == NULL:
            raise MemoryError
        for i, text in enumerate(filters):
            filter_init(&fresh[i], text, len(text))
        for i, wait in enumerate(config.backoff):
            waits[i] = wait
        free(self.filters)
        free(self.backoff)
        self.filters, self.num_filters, self.filter_texts = fresh, len(filters), filters
        self.backoff, self.num_backoff = waits, len(config.backoff)
        self.pending_stale = True
        self.policy = ("none", "all", "explicit", "flow_control").index(config.ack_policy)
        self.ack_wait_ns = config.ack_wait
        self.max_deliver = config.max_deliver
        self.max_pending = max(config.max_ack_pending, 0) if self.policy != POLICY_NONE else 0
        self.headers_only = config.headers_only
        self.sample_percent = int(config.sample_freq.removesuffix("%") or 0)
        self.is_push = bool(config.deliver_subject)
        self.waiting.max = config.max_waiting
        self.max_batch, self.max_bytes, self.max_expires_ns = config.max_batch, config.max_bytes, config.max_expires
        self.priority = ("none", "overflow", "pinned_client", "prioritized").index(config.priority_policy)
        self.group = config.priority_groups[0].encode() if config.priority_groups else b""
        self.pin_ttl_ns = config.priority_timeout
        self.deliver_group = config.deliver_group.encode("utf-8", "surrogateescape")
        self.set_rate(config.rate_limit_bps)
        self.set_threshold(config)
        self.set_pause(config)
        self.config = config

    def set_rate(self, bits: int) -> None:
        limit = self.stream.config.max_msg_size
        if limit <= 0:
            limit = self.stream.account.max_payload
        self.rate_burst = limit if limit > 0 else 1 << 20
        self.rate = bits / 8 / 1e9
        self.rate_tokens = min(self.rate_tokens, self.rate_burst) if self.rate_at_ns else self.rate_burst
        self.rate_at_ns = self.e.now_ns

    def set_threshold(self, config) -> None:
        """After how long without use it is deleted. Some time is added, at random: not all come at once.

        Not while the clock stands: tests want to know when.
        """
        cdef int64_t threshold = config.inactive_threshold
        cdef int64_t more = 0 if self.engine.frozen else (100 + <int64_t>random_below(&self.e.random, 900)) * MS
        if threshold > 0 and (not config.deliver_subject or (not config.durable_name and threshold == 5000 * MS)):
            threshold += more
        self.threshold_ns = threshold
        self.inactive_ns = 0
        self.waiting.last_ns = self.e.now_ns
        if threshold > 0 and not (self.is_push and self.active):
            self.inactive_ns = self.e.now_ns + <uint64_t>threshold

    def set_pause(self, config) -> None:
        left = config.pause_until.ns - self.outbox.wall_ns() if config.pause_until is not None else 0
        self.paused_until_ns = self.e.now_ns + min(left, 1 << 62) if left > 0 else 0

    def recover(self) -> bool:
        """Take over what was kept. False where nothing was."""
        if not self.kept:
            return False
        if not self.load_state(self.stream.store.consumer_items(self.key)):
            self.stream.store.consumer_delete_prefix_bytes(self.key)
            return False
        if self.skip_resume and self.acks.delivered_sseq < self.skip_resume:
            self.find_last_per_subject(self.acks.delivered_sseq + 1)
        # A stream that has lost messages begins anew behind what it still has.
        last = self.stream.last_seq()
        if self.next_sseq > last + 1:
            self.acks.floor_sseq = min(self.acks.floor_sseq, last)
            self.acks.delivered_sseq = min(self.acks.delivered_sseq, last)
            self.next_sseq = last + 1
        self.purged_first = max(self.stream.first_seq(), 1)
        return True

    def choose_start(self) -> None:
        """Where a new consumer begins."""
        policy = self.config.deliver_policy
        cdef uint64_t first = self.stream.first_seq(), last = self.stream.last_seq(), seq = last + 1
        if self.config.opt_start_seq:
            seq = self.config.opt_start_seq
        elif policy == "all":
            seq = first
        elif policy == "last":
            seq = self.last_matching() if self.num_filters else last
        elif policy == "by_start_time":
            seq = self.first_from(self.stream.seq_from_time(self.config.opt_start_time.ns))
        elif policy == "last_per_subject":
            seq = first if self.stream.max_per_subject == 1 else self.find_last_per_subject(0)
        if first == 0 and not self.config.opt_start_seq:
            seq = 1
        elif seq > last and not self.config.opt_start_seq:
            seq = last + 1
        elif seq < first:
            seq = first
        self.next_sseq = max(seq, <uint64_t>1)
        self.next_dseq = 1
        self.acks.delivered_sseq = self.acks.floor_sseq = self.next_sseq - 1
        self.changed = True

    def first_from(self, uint64_t seq) -> int:
        """seq, or the first message that passes a filter, where all that pass it are above seq."""
        cdef subject_iter_t it
        cdef subject_t* s
        cdef uint64_t first, last = self.stream.last_seq(), best = last
        for i in range(self.num_filters):
            memset(&it, 0, sizeof(it))
            first = best
            while not it.done:
                s = subjects_next(&self.stream.store.subjects, &it, &self.filters[i], 1, 1 << 20)
                if s != NULL:
                    self.stream.store.refresh(s)
                    first = min(first, s.first)
            if first >= seq:
                best = first
        return best if seq < best < last else seq

    def last_matching(self) -> int:
        """The last sequence in the filters, 0 = none."""
        cdef subject_iter_t it
        cdef subject_t* s
        cdef uint64_t last = 0
        memset(&it, 0, sizeof(it))
        while not it.done:
            s = subjects_next(&self.stream.store.subjects, &it, self.filters, self.num_filters, 1 << 20)
            if s != NULL:
                self.stream.store.refresh(s)
                last = max(last, s.last)
        return last

    def find_last_per_subject(self, uint64_t from_seq) -> int:
        """List the last message of each subject, of those from from_seq on; the stream is read on behind them.

        Returns where delivery begins.
        """
        cdef subject_iter_t it
        cdef subject_t* s
        cdef uint64_t* grown
        cdef uint64_t cap = 0
        memset(&it, 0, sizeof(it))
        self.skip_at = self.skip_count = 0
        if not self.skip_resume:
            self.skip_resume = self.stream.last_seq()
        while not it.done:
            s = subjects_next(&self.stream.store.subjects, &it, self.filters, self.num_filters, 1 << 20)
            if s == NULL:
                continue
            self.stream.store.refresh(s)
            if not from_seq <= s.last <= self.skip_resume:
                continue
            if self.skip_count == cap:
                cap = cap * 2 + 64
                grown = <uint64_t*>realloc(self.skip, cap * sizeof(uint64_t))
                if grown == NULL:
                    raise MemoryError
                self.skip = grown
            self.skip[self.skip_count] = s.last
            self.skip_count += 1
        qsort(self.skip, self.skip_count, sizeof(uint64_t), ascending)
        self.pending = <int64_t>(self.skip_count + self.stream.num_pending(self.filters, self.num_filters,
                                                                           self.skip_resume + 1))
        self.pending_seq = self.stream.last_seq()
        return self.skip[0] if self.skip_count else self.skip_resume
