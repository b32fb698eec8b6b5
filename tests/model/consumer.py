"""A consumer of the model's stream: lists that are searched from their beginnings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.jetstream.storemodel import matches

if TYPE_CHECKING:
    from tests.model.stream import Message, Stream

RESTART_WAIT = 500_000_000  # ns after a start before what is overdue is delivered again


class Pull:
    """A pull request that waits; key: the subscription of its inbox."""

    def __init__(self, key: int, batch: int, max_bytes: int, no_wait: bool, expires: int) -> None:
        self.key = key
        self.left = batch
        self.bytes_left = max_bytes
        self.no_wait = no_wait
        self.expires = expires
        self.sent = 0


class Consumer:
    """push_key: the subscription of its deliver subject."""

    def __init__(self, stream: Stream, config: dict[str, Any], push_key: int = 0, active: bool = False) -> None:
        self.stream = stream
        self.name: str = config["name"]
        self.push_key = push_key
        self.active = active
        self.waiting: list[Pull] = []
        self.pending: dict[int, int] = {}  # stream sequence: consumer sequence
        self.began: dict[int, int] = {}  # stream sequence: when the time for its acknowledgement began
        self.held: dict[int, int] = {}  # the same: a time before which it isn't delivered again
        self.redelivered: dict[int, int] = {}  # stream sequence: times after the first
        self.queue: list[int] = []  # to be delivered again
        self.skip: list[int] = []  # the last ones of subjects, before the stream is read on
        self.delivered: list[tuple[int, int, int]] = []  # for tests: deliveries, stream and consumer sequence
        self.next_dseq = 1
        self.floor_unknown = False  # whether what was pending was purged, and something still is pending
        self.looked = False  # whether it has looked for messages to deliver
        self.place_unknown = False  # whether it may have looked further than it has delivered
        self.paused_until = 0
        self.start_time = 0
        self.floor = 0  # ack policy all: up to here everything is acknowledged
        self.floor_dseq = 0  # the same: consumer sequence
        self.config: dict[str, Any] = {}
        self.configure(config)

    def configure(self, config: dict[str, Any]) -> None:
        if any(config.get(name) != self.config.get(name) for name in ("ack_wait", "backoff")):
            self.held = {}
        self.config = config
        one = config.get("filter_subject")
        self.filters = config.get("filter_subjects") or ([one] if one else [])
        self.policy = config["ack_policy"]
        self.max_deliver = config.get("max_deliver", -1)
        self.max_pending = config.get("max_ack_pending", 0) if self.policy != "none" else 0

    # What it wants

    def wants(self, subject: str) -> bool:
        return not self.filters or any(matches(f.encode(), subject.encode()) for f in self.filters)

    def needs(self, seq: int) -> bool:
        """Whether a message that it wants is still to be delivered or acknowledged."""
        if seq in self.redelivered or seq in self.pending or seq >= self.next_seq or seq in self.skip:
            return True
        return self.policy == "all" and seq > self.floor

    def num_pending(self) -> int:
        skipped = sum(self.wants(self.stream.messages[s].subject) for s in self.skip)
        return skipped + sum(self.wants(m.subject) for s, m in self.stream.messages.items() if s >= self.resume)

    def counts_subjects(self) -> bool:
        """Whether nats-server would be wrong if it counted anew: it counts subjects, as at its beginning."""
        if self.config["deliver_policy"] != "last_per_subject":
            return False
        pending = [m.subject for s, m in self.stream.messages.items() if s >= self.next_seq and self.wants(m.subject)]
        return len(pending) != len(set(pending))

    @property
    def resume(self) -> int:
        """Where it reads on behind what it skips to."""
        return self.skip_resume + 1 if self.skip else self.next_seq

    def info(self) -> dict[str, Any]:
        return {
            "num_pending": self.num_pending(),
            "num_ack_pending": len(self.pending),
            "num_redelivered": len(self.redelivered) if self.max_deliver != 1 else 0,
            "num_waiting": len(self.waiting),
            "delivered": {"consumer_seq": self.next_dseq - 1},
        }

    def begin(self) -> None:
        """Where it begins."""
        stream, policy = self.stream, self.config["deliver_policy"]
        wanted = sorted(s for s, m in stream.messages.items() if self.wants(m.subject))
        self.skip_resume = stream.last_seq
        self.next_seq = stream.last_seq + 1
        if policy == "all":
            self.next_seq = stream.first_seq
        elif policy == "by_start_sequence":
            self.next_seq = max(self.config["opt_start_seq"], stream.first_seq)
        elif policy == "by_start_time":
            later = [s for s, m in stream.messages.items() if m.ts >= self.start_time]
            self.next_seq = min(later, default=stream.last_seq + 1)
            firsts = [min((s for s in stream.matching(one)), default=0) for one in self.filters]
            first = min((s for s in firsts if s >= self.next_seq), default=stream.last_seq)
            if first < stream.last_seq:
                self.next_seq = first
        elif policy == "last":
            self.next_seq = max(wanted, default=0) if self.filters else stream.last_seq
        elif policy == "last_per_subject":
            last = {m.subject: s for s, m in sorted(stream.messages.items()) if s in wanted}
            self.skip = sorted(last.values())
            self.next_seq = self.skip[0] if self.skip else stream.last_seq + 1
        if stream.first_seq > self.next_seq:
            self.next_seq = stream.first_seq
        self.next_seq = max(self.next_seq, 1)
        self.floor = self.next_seq - 1

    # What happens to messages

    def removed(self, seq: int) -> None:
        if seq in self.skip:
            self.skip_one(seq)
        if seq in self.pending:
            self.ack(seq, self.pending[seq])
        if seq not in self.pending:
            self.redelivered.pop(seq, None)

    def skip_one(self, seq: int) -> None:
        self.skip.remove(seq)
        if not self.skip:
            self.next_seq = self.skip_resume + 1

    def purged(self) -> None:
        there = self.stream.messages
        for seq in [s for s in self.skip if s not in there]:
            self.skip_one(seq)
        for seq in [s for s in {*self.pending, *self.redelivered} if s not in there]:
            self.floor_unknown = self.floor_unknown or seq in self.pending
            self.finish(seq)
        self.floor_unknown = self.floor_unknown and bool(self.pending)
        self.next_seq = max(self.next_seq, self.stream.first_seq)

    def finish(self, seq: int) -> None:
        """Nothing more is expected for this one."""
        self.pending.pop(seq, None)
        self.began.pop(seq, None)
        self.redelivered.pop(seq, None)
        self.floor_unknown = self.floor_unknown and bool(self.pending)
        if seq in self.queue:
            self.queue.remove(seq)

    # What clients say

    def ack(self, sseq: int, dseq: int) -> bool:
        """Whether it is answered."""
        if sseq >= self.next_seq and sseq not in self.pending:
            return False
        if self.policy == "explicit":
            self.finish(sseq)
        elif self.policy == "all":
            # By the number that it was first delivered with: what was there before one that was delivered again and
            # acknowledged can't be acknowledged by the stream when it goes, and waits for the time that is up.
            if sseq <= self.floor or dseq <= self.floor_dseq:
                return True
            self.floor_dseq = dseq
            before = [s for s in self.pending if s < sseq]
            for seq in [s for s in self.pending if s <= sseq]:  # what was given up stays
                self.finish(seq)
            self.floor = sseq
            for seq in before:
                self.stream.acked(self, seq)
        self.stream.acked(self, sseq)
        return True

    def nak(self, sseq: int) -> None:
        if sseq in self.pending and sseq not in self.queue:
            self.queue.append(sseq)

    def pull(self, request: Pull) -> None:
        if request.no_wait:
            there = self.num_pending() + len(self.queue)
            if there == 0 and not request.expires:
                self.status(request.key, b"404 No Messages")
                return
            if 0 < there < sum(w.left for w in self.waiting_now()):
                self.status(request.key, b"408 Requests Pending")
                return
        self.waiting.append(request)

    def waiting_now(self) -> list[Pull]:
        """The requests that wait; those whose clients have gone are forgotten."""
        self.waiting = [w for w in self.waiting if w.key not in self.stream.silent]
        return self.waiting

    def status(self, key: int, text: bytes, request: Pull | None = None) -> None:
        more = b""
        if request is not None:
            more = b"Nats-Pending-Messages: %d\r\nNats-Pending-Bytes: %d\r\n" % (request.left, request.bytes_left)
        self.stream.emit(key, ("status", b"NATS/1.0 " + text + b"\r\n" + more + b"\r\n"))

    def end(self, text: bytes) -> None:
        for request in self.waiting:
            self.status(request.key, text)
        self.waiting = []

    # Delivery

    def deliver(self) -> bool:
        """Deliver what there is and may go. Whether there was something."""
        some = False
        if self.paused_until:
            self.stalled = False
            self.waiting_now()
            self.end_no_wait()
            return False
        while self.active if self.push_key else self.waiting:
            taken = self.take()
            if taken is None:
                break
            if not self.hand_out(*taken):
                break
            some = True
        self.waiting_now()
        if not self.stalled:
            self.end_no_wait()
        return some

    def end_no_wait(self) -> None:
        for request in [w for w in self.waiting if w.no_wait and (not w.expires or w.sent)]:
            self.status(request.key, b"404 No Messages")
            self.waiting.remove(request)

    stalled = False

    def take(self) -> tuple[Message, int] | None:
        """The next message and how often it has been delivered with this time; it is still where it was."""
        self.stalled = False
        self.looked = True
        while self.queue:
            seq = self.queue[0]
            if seq not in self.stream.messages:
                self.finish(seq)
                continue
            times = self.redelivered.get(seq, 0) + 2
            if 0 < self.max_deliver < times:
                self.give_up(seq)
                continue
            return self.stream.messages[seq], times
        if 0 < self.max_pending <= len(self.pending):
            self.stalled = True
            return None
        while self.skip and not self.wants(self.stream.messages[self.skip[0]].subject):
            self.skip_one(self.skip[0])
        if self.skip:
            return self.stream.messages[self.skip[0]], 1
        for seq in sorted(self.stream.messages):
            if seq >= self.next_seq and self.wants(self.stream.messages[seq].subject):
                return self.stream.messages[seq], 1
        self.next_seq = max(self.next_seq, self.stream.last_seq + 1)
        return None

    def give_up(self, seq: int) -> None:
        """It was delivered as often as allowed."""
        self.redelivered[seq] = self.redelivered.get(seq, 0) + 1
        del self.pending[seq]
        self.began.pop(seq, None)
        if seq in self.queue:
            self.queue.remove(seq)

    def hand_out(self, message: Message, times: int) -> bool:
        """Deliver it, if somebody can have it."""
        from tests.model.stream import header_block

        seq, pending = message.seq, self.num_pending() - (times == 1)
        shown = None if self.stream.by_chance else pending
        headers, body = header_block(message.headers), message.body
        if self.config.get("headers_only"):
            headers, body = (headers[:-2] or b"NATS/1.0\r\n") + b"Nats-Msg-Size: %d\r\n\r\n" % len(body), b""
        reply = f"$JS.ACK.{self.stream.name}.{self.name}.{times}.{seq}.{self.next_dseq}.{10**18}.{pending}"
        size = len(message.subject) + len(reply) + len(headers) + len(body)
        key, request = self.push_key, None
        if not key:
            request = self.next_request(size)
            if request is None:
                return False
            key = request.key
        self.stream.emit(key, ("msg", message.subject.encode(), headers, body, times, seq, self.next_dseq, shown))
        self.sent(seq, times)
        if request is not None:
            request.sent += 1
            request.left -= 1
            self.waiting.remove(request)
            if request.left > 0:
                self.waiting.append(request)
            elif request.bytes_left > 0:
                self.status(key, b"409 Batch Completed", request)
        return True

    def next_request(self, size: int) -> Pull | None:
        for request in list(self.waiting_now()):
            if 0 < request.bytes_left < size:
                self.status(request.key, b"409 Message Size Exceeds MaxBytes", request)
                self.waiting.remove(request)
                continue
            if request.bytes_left > 0:
                request.bytes_left -= size
                if request.bytes_left == 0:
                    request.left = 1
            return request
        return None

    def sent(self, seq: int, times: int) -> None:
        if times > 1:
            self.redelivered[seq] = times - 1
            self.queue.remove(seq)
        elif self.skip:
            self.skip.pop(0)
            self.next_seq = seq + 1 if self.skip else self.skip_resume + 1
        else:
            self.next_seq = seq + 1
        self.place_unknown = False
        self.delivered.append((times, seq, self.next_dseq))
        dseq = self.next_dseq
        self.next_dseq += 1
        if self.policy == "none":
            self.stream.acked(self, seq)
        else:
            self.pending.setdefault(seq, dseq)
            self.set_due(seq)

    # Time

    def set_due(self, seq: int) -> None:
        """It is to be acknowledged from now on within a time."""
        self.began[seq] = self.stream.now
        self.held.pop(seq, None)

    def due(self, seq: int) -> int:
        """When the time for its acknowledgement is up."""
        return max(self.began[seq] + self.wait(seq), self.held.get(seq, 0))

    def wait(self, seq: int) -> int:
        """How long it may take to be acknowledged."""
        backoff = self.config.get("backoff")
        if backoff:
            return int(backoff[min(self.redelivered.get(seq, 0), len(backoff) - 1)])
        return int(self.config["ack_wait"])

    def overdue(self) -> list[int]:
        """What isn't queued to be delivered again and might be."""
        return sorted(seq for seq in self.pending if seq not in self.queue)

    def deadlines(self) -> list[int]:
        ends = [w.expires for w in self.waiting_now() if w.expires]
        return [self.due(seq) for seq in self.overdue()] + ends + [self.paused_until] * (self.paused_until > 0)

    def expire(self) -> None:
        if self.paused_until <= self.stream.now:
            self.paused_until = 0
        expired = [w for w in self.waiting_now() if 0 < w.expires <= self.stream.now]
        for request in expired:
            self.status(request.key, b"408 Request Timeout", request)
            self.waiting.remove(request)
        if expired:
            self.end_no_wait()  # also where they wait for acknowledgements
        for seq in [seq for seq in self.overdue() if self.due(seq) <= self.stream.now]:
            times = max(self.redelivered.get(seq, 0), 1)
            if 0 < self.max_deliver <= times:
                self.redelivered[seq] = times - 1
                self.give_up(seq)
            else:
                self.queue.append(seq)

    def delay(self, seq: int, delay: int) -> None:
        """Deliver it again after a delay: as if its time had begun so that it is up then."""
        if seq in self.pending:
            if seq in self.queue:
                self.queue.remove(seq)
            self.began[seq] = self.stream.now - int(self.config["ack_wait"]) + delay
            self.held.pop(seq, None)

    def restarted(self) -> None:
        self.waiting = []
        self.queue = []  # what was given back comes again when its time is up
        self.held = {seq: self.stream.now + min(self.wait(seq), RESTART_WAIT) for seq in self.pending}
        self.active = False
        self.stalled = False
        self.place_unknown = True
        # What the stream has no more counts as acknowledged with natsc then.
        self.floor_unknown = (
            self.floor_unknown or not self.delivered or (bool(self.pending) and self.stream.first_seq > 1)
        )
        if self.skip:
            last = {m.subject: s for s, m in sorted(self.stream.messages.items()) if self.wants(m.subject)}
            self.skip = sorted(s for s in last.values() if self.next_seq <= s <= self.skip_resume)
            if not self.skip:
                self.next_seq = self.skip_resume + 1
