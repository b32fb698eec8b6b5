"""A stream as a dict of messages: slow, and obviously right.

It predicts answers to publishers, what is stored, and (with consumer.py) what is delivered to whom. Whether a
configuration is accepted isn't predicted: the servers must agree on that, and the model takes over what they say the
configuration is. Time is a number that the caller sets; nothing here happens by itself.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from tests.jetstream.storemodel import matches
from tests.model.consumer import Consumer
from tests.model.peer import Event

Out = dict[int, list[Event]]
SECOND = 1_000_000_000
NO_END = 1 << 62
NEVER = -1
INVALID = -2


class Message(NamedTuple):
    seq: int
    ts: int
    subject: str
    headers: dict[str, str]
    body: bytes


def header_block(headers: dict[str, str]) -> bytes:
    if not headers:
        return b""
    return b"NATS/1.0\r\n" + b"".join(f"{k}: {v}\r\n".encode() for k, v in headers.items()) + b"\r\n"


def ttl_of(text: str) -> int:
    """A time to live in ns."""
    if text == "never":
        return NEVER
    return int(text) * SECOND if text.isdigit() else INVALID


def within(inner: str, outer: str) -> bool:
    """Whether all subjects in one pattern are in the other."""
    one, two = inner.split("."), outer.split(".")
    if two[-1] == ">" and len(one) >= len(two):
        one, two = one[: len(two) - 1], two[:-1]
    return len(one) == len(two) and all(o == t or (t == "*" and o != ">") for o, t in zip(one, two, strict=True))


def error(code: int) -> dict[str, Any]:
    return {"error": {"err_code": code}}


class Stream:
    """`out`: what is to reach clients, by subscription; streams of one server share it. base: of its subjects."""

    def __init__(self, config: dict[str, Any], now: int = 0, base: str = "", out: Out | None = None) -> None:
        self.config = config
        self.name: str = config["name"]
        self.base = base
        self.now = now
        self.out: Out = defaultdict(list) if out is None else out
        self.silent: set[int] = set()  # subscriptions that nobody has any more
        self.consumers: dict[str, Consumer] = {}
        self.messages: dict[int, Message] = {}
        first = config.get("first_seq", 0)
        self.last_seq = first - 1 if first else 0
        self.first_seq = first
        self.limited = False  # whether a limit has removed messages
        self.cut = False  # and others have gone since then, or the limit has
        self.by_chance = False  # whether what is delivered now may see the newest message or not
        self.ids: dict[str, tuple[int, int]] = {}
        self.last_id = ""
        self.expires: dict[int, int] = {}  # of messages with a time to live

    # What is asked

    def get(self, name: str) -> Any:
        return self.config.get(name, 0)

    def size(self, subject: str, headers: dict[str, str], body: bytes) -> int:
        block = len(header_block(headers))
        if self.config["storage"] == "memory":
            return 16 + len(subject) + block + len(body)
        return 30 + (4 if block else 0) + len(subject) + block + len(body)

    @property
    def size_of_all(self) -> int:
        return sum(self.size(m.subject, m.headers, m.body) for m in self.messages.values())

    def on(self, subject: str) -> list[int]:
        """The sequences of a subject's messages."""
        return sorted(m.seq for m in self.messages.values() if m.subject == subject)

    def matching(self, pattern: str) -> list[int]:
        return sorted(m.seq for m in self.messages.values() if matches(pattern.encode(), m.subject.encode()))

    def last_on(self, pattern: str) -> int:
        return max(self.matching(pattern), default=0)

    def state(self) -> dict[str, Any]:
        gone = self.last_seq - self.first_seq + 1 - len(self.messages) if self.last_seq > self.first_seq else 0
        state = {
            "messages": len(self.messages),
            "bytes": self.size_of_all,
            "first_seq": self.first_seq,
            "last_seq": self.last_seq,
            "consumer_count": len(self.consumers),
        }
        if self.messages:
            state["num_subjects"] = len({m.subject for m in self.messages.values()})
        if gone:
            state["num_deleted"] = gone
        return state

    # A message comes in

    def publish(self, subject: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        """The answer to the publisher."""
        # Whoever waited for a message to go may go on before the one that pushed it out is there, or afterwards.
        stalled = [c for c in self.consumers.values() if c.stalled]
        self.by_chance = bool(stalled)
        refused = self.refusal(subject, headers, body)
        if refused is not None:
            return refused
        ttl = ttl_of(headers["Nats-TTL"]) if "Nats-TTL" in headers else 0
        if self.get("retention") == "interest" and not any(c.wants(subject) for c in self.consumers.values()):
            self.last_seq += 1
            if not self.messages:
                self.first_seq = self.last_seq + 1
        elif ttl == INVALID:
            return error(10165)
        elif self.get("discard") == "new" and self.is_full(subject, headers, body):
            return error(10077)
        else:
            self.store(subject, headers, body, ttl)
        seq = self.last_seq
        self.last_id = headers.get("Nats-Msg-Id", "")
        if self.last_id and self.get("duplicate_window"):
            self.ids[self.last_id] = (seq, self.now)
        if "Nats-Rollup" in headers:
            wanted = ">" if headers["Nats-Rollup"] == "all" else subject
            self.remove_all([s for s in self.matching(wanted) if s < seq])
        self.deliver()
        self.by_chance = False
        for consumer in stalled:
            consumer.floor_unknown = bool(consumer.pending)
        return {"stream": self.name, "seq": seq}

    def refusal(self, subject: str, headers: dict[str, str], body: bytes) -> dict[str, Any] | None:
        if self.get("sealed"):
            return error(10109)
        if 0 <= (self.get("max_msg_size") or -1) < len(header_block(headers)) + len(body):
            return error(10054)
        if headers.get("Nats-Expected-Stream", self.name) != self.name:
            return error(10060)
        if "Nats-TTL" in headers and not self.get("allow_msg_ttl") and ttl_of(headers["Nats-TTL"]) != INVALID:
            return error(10166)
        expected = headers.get("Nats-Expected-Last-Subject-Sequence")
        other = headers.get("Nats-Expected-Last-Subject-Sequence-Subject")
        if expected is not None and int(expected) != self.last_on(other or subject):
            return error(10071)
        if expected is None and other is not None:
            return error(10193)
        if int(headers.get("Nats-Expected-Last-Sequence", self.last_seq)) != self.last_seq:
            return error(10071)
        known = self.ids.get(headers.get("Nats-Msg-Id", ""))
        if known is not None and self.now - known[1] <= self.get("duplicate_window"):
            return {"stream": self.name, "seq": known[0], "duplicate": True}
        if headers.get("Nats-Expected-Last-Msg-Id", self.last_id) != self.last_id:
            return error(10070)
        rollup = headers.get("Nats-Rollup")
        if rollup and (not self.get("allow_rollup_hdrs") or self.get("deny_purge") or rollup not in ("sub", "all")):
            return error(10111)
        return None

    def is_full(self, subject: str, headers: dict[str, str], body: bytes) -> bool:
        """Whether a stream that refuses new messages refuses this one."""
        size, replaced = self.size(subject, headers, body), 0
        before = self.on(subject)
        if 0 < self.get("max_msgs_per_subject") <= len(before):
            if self.get("discard_new_per_subject") and "Nats-Rollup" not in headers:
                return True
            replaced = before[0]
        if 0 < self.get("max_msgs") <= len(self.messages) and not replaced:
            return True
        if 0 < self.get("max_bytes") < self.size_of_all + size:
            if not replaced:
                return True
            old = self.messages[replaced]
            return self.size(old.subject, old.headers, old.body) < size
        return False

    def store(self, subject: str, headers: dict[str, str], body: bytes, ttl: int = 0) -> None:
        self.last_seq += 1
        seq = self.last_seq
        if not self.messages:
            self.first_seq = seq
        self.messages[seq] = Message(seq, self.now, subject, headers, body)
        if ttl > 0:
            self.expires[seq] = self.now + ttl
        self.enforce([subject])

    def enforce(self, subjects: list[str] | None = None) -> None:
        """Remove the oldest above the limits: for a new message, or because the limits have changed."""
        most, there, cut = self.get("max_msgs_per_subject"), len(self.messages), self.cut
        if subjects is None:
            self.enforce_totals()
        for subject in subjects or sorted({m.subject for m in self.messages.values()}):
            while 0 < most < len(self.on(subject)):
                self.remove(self.on(subject)[0])
        self.enforce_totals()
        self.limited = self.limited or len(self.messages) < there
        self.cut = cut

    def enforce_totals(self) -> None:
        if self.get("discard") == "old":
            while 0 < self.get("max_msgs") < len(self.messages) or 0 < self.get("max_bytes") < self.size_of_all:
                self.remove(min(self.messages))

    # Messages go

    def remove(self, seq: int, but: Consumer | None = None) -> bool:
        if seq not in self.messages:
            return False
        self.drop(seq)
        for consumer in list(self.consumers.values()):
            if consumer is not but:
                consumer.removed(seq)
        return True

    def remove_all(self, seqs: list[int]) -> None:
        """Remove many at once: consumers forget them without a word."""
        for seq in seqs:
            self.drop(seq)
        for consumer in self.consumers.values():
            consumer.purged()

    def drop(self, seq: int) -> None:
        del self.messages[seq]
        self.cut = self.cut or self.limited
        self.expires.pop(seq, None)
        self.first_seq = min(self.messages, default=self.last_seq + 1)

    def purge(self, filter: str = "", seq: int = 0, keep: int = 0) -> dict[str, Any]:
        if self.get("sealed"):
            return error(10109)
        if self.get("deny_purge"):
            return error(10110)
        everything = filter in ("", ">")
        doomed = self.matching(filter or ">")
        if seq == 1 and not keep:
            doomed = []
        elif everything and seq > self.last_seq:
            if self.first_seq <= seq:
                self.last_seq = seq - 1
                self.first_seq = seq
            else:
                doomed = []
        elif seq:
            doomed = [s for s in doomed if s < seq]
        elif keep:
            doomed = doomed[: max(len(doomed) - keep, 0)]
        self.remove_all(doomed)
        if not everything:
            left = self.matching(filter)
            for consumer in self.consumers.values():
                if consumer.filters and all(within(f, filter) for f in consumer.filters):
                    consumer.next_seq = max(consumer.next_seq, left[0] if left else self.last_seq + 1)
        if everything and not seq and not keep and not self.messages:
            self.first_seq = self.last_seq + 1
        self.deliver()
        return {"success": True, "purged": len(doomed)}

    def delete(self, seq: int) -> dict[str, Any]:
        if self.get("sealed"):
            return error(10109)
        if self.get("deny_delete"):
            return error(10057)
        if seq not in self.messages:
            return {"error": {}}
        self.remove(seq)
        self.deliver()
        return {"success": True}

    def is_needed(self, seq: int, but: Consumer | None = None) -> bool:
        message = self.messages[seq]
        return any(c is not but and c.wants(message.subject) and c.needs(seq) for c in self.consumers.values())

    def acked(self, consumer: Consumer, seq: int) -> None:
        """The consumer needs it no more."""
        if self.get("retention") != "limits" and seq in self.messages and not self.is_needed(seq, consumer):
            self.remove(seq, consumer)

    def drop_unneeded(self) -> None:
        if self.get("retention") == "interest":
            for seq in sorted(self.messages):
                if not self.is_needed(seq):
                    self.remove(seq)

    # Consumers

    def add(self, consumer: Consumer) -> None:
        self.consumers[consumer.name] = consumer
        consumer.begin()
        self.deliver()

    def delete_consumer(self, name: str) -> None:
        consumer = self.consumers.pop(name)
        consumer.end(b"409 Consumer Deleted")
        self.drop_unneeded()
        if not self.consumers and self.get("retention") == "interest":
            self.first_seq = self.last_seq + 1
        self.deliver()

    # Time, and the end of the server

    def advance(self, now: int) -> None:
        """Time passes; what is due happens in its order."""
        while 0 < (due := self.next_due()) <= now:
            self.now = max(due, self.now)
            self.expire()
            for consumer in list(self.consumers.values()):
                consumer.expire()
            self.deliver()
        self.now = now

    def next_due(self) -> int:
        """When something happens by itself; 0 = never."""
        due = [when for c in self.consumers.values() for when in c.deadlines()]
        return min([*due, *(self.ends(m) for m in self.messages.values())], default=NO_END) % NO_END

    def ends(self, message: Message) -> int:
        """When a message is too old."""
        ttl = self.expires.get(message.seq, NO_END)
        age = self.get("max_age")
        if not age or (self.get("allow_msg_ttl") and message.headers.get("Nats-TTL") == "never"):
            return ttl
        return min(ttl, message.ts + age)

    def expire(self) -> None:
        for message in sorted(self.messages.values()):
            if self.ends(message) <= self.now:
                self.remove(message.seq)

    @property
    def has_limits(self) -> int:
        """How many: nats-server, which enforces them again after a kill, may remove for one what went for another."""
        return sum(self.get(name) > 0 for name in ("max_msgs", "max_bytes", "max_msgs_per_subject"))

    def restarted(self) -> None:
        """The server has ended and begun again, after all clients had gone."""
        for name, consumer in list(self.consumers.items()):
            if consumer.config.get("mem_storage"):
                del self.consumers[name]
            else:
                consumer.restarted()
        last = self.messages.get(self.last_seq)
        self.last_id = last.headers.get("Nats-Msg-Id", "") if last else ""
        self.ids = {id: known for id, known in self.ids.items() if known[0] in self.messages}
        self.advance(self.now)

    def deliver(self) -> None:
        """Deliver what can be delivered; that may make room for more."""
        while [consumer for consumer in list(self.consumers.values()) if consumer.deliver()]:
            pass

    def emit(self, key: int, event: Event) -> None:
        if key not in self.silent:
            self.out[key].append(event)
