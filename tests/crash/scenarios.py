"""What the crash tests do to a server, and what must hold afterwards: one class for each kind of use.

A scenario lives as long as the test: its model knows what was sent and what was acknowledged. `setup` makes what it
needs, `act` sends a few requests without waiting, `check` is called when the server was started again, on an idle one.
What was sent but not acknowledged may be there or not, but never twice and never damaged.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from array import array
from functools import partial
from typing import Any

from .wire import Wire

MS = 1_000_000
SEQ = re.compile(rb'"seq": ?(\d+)')


class Lost(AssertionError):
    """The server broke a promise."""


def need(condition: object, what: str) -> None:
    if not condition:
        raise Lost(what)


def body(number: int) -> bytes:
    """The payload of message `number`: 16 bytes to a few thousand, all of which follow from it."""
    size = (0, 0, 30, 100, 100, 400, 5000, 120)[number % 8] if number % 64 else 20000
    digest = hashlib.blake2b(b"%d" % number, digest_size=16).hexdigest().encode()
    return (b"%d:" % number + digest * (size // 32 + 1))[: size + 16]


def number_of(payload: bytes) -> int:
    """Which message a payload is of; Lost where it isn't exactly that message's."""
    digits = payload.partition(b":")[0]
    need(digits.isdigit() and payload == body(int(digits)), f"payload damaged: {payload[:60]!r}")
    return int(digits)


def stored_at(answer: bytes) -> int:
    """The sequence in a PubAck, which must not be an error."""
    found = SEQ.search(answer)
    need(found and b'"error"' not in answer, f"a publish was refused: {answer!r}")
    assert found is not None
    return int(found[1])


class Flags:
    """A byte for each number, as many as are needed."""

    def __init__(self) -> None:
        self.bytes = bytearray(1 << 16)

    def __getitem__(self, number: int) -> int:
        return self.bytes[number] if number < len(self.bytes) else 0

    def set(self, number: int) -> None:
        while number >= len(self.bytes):
            self.bytes += bytes(len(self.bytes))
        self.bytes[number] = 1


class Scenario:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.burst = 200  # messages sent at once, at most
        self.duplicates_s = 120  # ids are remembered so long
        self.strict = True  # a promise that was broken ends the test
        self.in_order = True  # natsc works on API requests in their order, nats-server on some side by side
        self.ready = False  # once all of setup was answered
        self.acked = 0  # acknowledged messages
        self.confirmed = 0  # acknowledgements that were confirmed
        self.redelivered_confirmed = 0

    def setup(self, wire: Wire) -> None:
        """Create what is needed."""

    def connect(self, wire: Wire) -> None:
        """There is a new connection."""

    def act(self, wire: Wire) -> None:
        """Do something, without waiting."""

    def check(self, wire: Wire) -> None:
        """The server was started again and is idle."""

    def finish(self, wire: Wire) -> None:
        """The last check: of everything."""

    def make(self, wire: Wire, name: str, subject: str, **config: Any) -> None:
        made = wire.api(f"STREAM.CREATE.{name}", {
            "name": name, "subjects": [subject], "storage": "file", "num_replicas": 1, "allow_direct": True, **config,
        })  # fmt: skip
        need("error" not in made, f"{made}")

    def state(self, wire: Wire, name: str) -> dict[str, Any]:
        found = wire.api(f"STREAM.INFO.{name}")
        need("error" not in found, f"stream {name} is gone: {found.get('error')}")
        state: dict[str, Any] = found["state"]
        return state


class Bulk(Scenario):
    """A stream from which nothing is removed. Half of the messages have an id and are sent again when in doubt."""

    name = "BULK"

    def setup(self, wire: Wire) -> None:
        self.sent = 0
        self.seq_of = array("Q", [0])  # by number: where its PubAck says it is, 0 = not acknowledged
        self.found = array("Q", [0])  # by number: where it was found
        self.number_at = array("Q", [0])  # by sequence: what was found there
        self.recent: list[int] = []  # acknowledged since the last check
        self.last_seen = 0  # the highest sequence that was ever told
        self.doubtful: list[int] = []  # numbers with an id that were not acknowledged
        self.make(wire, self.name, "b.*", duplicate_window=self.duplicates_s * 1000 * MS)

    def send(self, wire: Wire, number: int) -> None:
        headers = b"NATS/1.0\r\nNats-Msg-Id: m%d\r\n\r\n" % number if number % 2 else b""
        wire.ask(b"b.%d" % (number % 7), body(number), partial(self.on_ack, number), headers)

    def on_ack(self, number: int, _: bytes, answer: bytes) -> None:
        seq = stored_at(answer)
        known = self.seq_of[number] or self.found[number]
        need(known in (0, seq), f"message {number} was at {known} and is said to be at {seq}")
        need(b"duplicate" in answer or seq > self.last_seen, f"sequence {seq} was given before: {self.last_seen}")
        self.last_seen = max(self.last_seen, seq)
        if not self.seq_of[number]:
            self.acked += 1
            self.seq_of[number] = seq
            self.recent.append(number)

    def act(self, wire: Wire) -> None:
        for _ in range(min(self.rng.choice((1, 5, 40, 200)), self.burst)):
            self.sent += 1
            self.seq_of.append(0)
            self.found.append(0)
            self.send(wire, self.sent)
        if self.doubtful:
            for number in self.doubtful:
                self.send(wire, number)
            self.doubtful = []

    def take(self, seq: int, payload: bytes) -> None:
        number = number_of(payload)
        need(number <= self.sent, f"message {number} was never sent")
        need(self.found[number] in (0, seq), f"message {number} is there twice: {self.found[number]} and {seq}")
        need(self.seq_of[number] in (0, seq), f"message {number}, acknowledged at {self.seq_of[number]}, is at {seq}")
        self.found[number] = seq
        if seq == len(self.number_at):
            self.number_at.append(number)
        need(self.number_at[seq] == number, f"sequence {seq} held {self.number_at[seq]} and now {number}")

    def check(self, wire: Wire) -> None:
        state = self.state(wire, self.name)
        last = state["last_seq"]
        need(last >= self.last_seen, f"the last sequence went back from {self.last_seen} to {last}")
        need(state["messages"] == last, f"{state['messages']} messages up to sequence {last}")
        self.last_seen = last
        first = len(self.number_at)
        messages = wire.everything(self.name, first, last)
        need([each[0] for each in messages] == list(range(first, last + 1)), f"not all from {first} to {last}")
        for seq, _, _, payload in messages:
            self.take(seq, payload)
        for number in self.recent:
            need(self.found[number] == self.seq_of[number], f"message {number} is lost, was at {self.seq_of[number]}")
        if last > 300:
            for seq, _, _, payload in wire.batch(self.name, self.rng.randrange(1, last - 200), 100):
                self.take(seq, payload)
        oldest = max(self.sent - 3000, 1)
        self.doubtful = [n for n in range(oldest, self.sent + 1) if n % 2 and not self.seq_of[n]]
        self.doubtful += [n for n in self.recent[-20:] if n % 2]  # duplicates for certain
        self.recent.clear()

    def finish(self, wire: Wire) -> None:
        self.check(wire)
        last = self.last_seen
        messages = wire.everything(self.name, 1, last)
        need([each[0] for each in messages] == list(range(1, last + 1)), f"not all of {last}")
        for seq, _, _, payload in messages:
            self.take(seq, payload)


class KeyValue(Scenario):
    """A key-value bucket as clients make it: history of 3, deletes, purges."""

    name = "KV_k"

    def setup(self, wire: Wire) -> None:
        self.sent = 0
        self.writes: dict[bytes, list[list[Any]]] = {}  # by key, in order: [number, kind, revision or 0]
        self.make(wire, self.name, "$KV.k.>", max_msgs_per_subject=3, allow_rollup_hdrs=True, deny_delete=True,
                  discard="new", max_bytes=-1)  # fmt: skip

    def act(self, wire: Wire) -> None:
        for _ in range(self.rng.choice((1, 3, 10))):
            key = b"$KV.k.%d" % self.rng.randrange(12)
            self.sent += 1
            chance = self.rng.random()
            kind = "PUT" if chance < 0.8 else "DEL" if chance < 0.9 else "PURGE"
            write = [self.sent, kind, 0]
            self.writes.setdefault(key, []).append(write)
            headers = b""
            if kind != "PUT":
                headers = b"NATS/1.0\r\nKV-Operation: %b\r\n" % kind.encode()
                headers += b"Nats-Rollup: sub\r\n\r\n" if kind == "PURGE" else b"\r\n"
            wire.ask(key, body(self.sent) if kind == "PUT" else b"", partial(self.on_ack, write), headers)

    def on_ack(self, write: list[Any], _: bytes, answer: bytes) -> None:
        write[2] = stored_at(answer)
        self.acked += 1

    def check(self, wire: Wire) -> None:
        state = self.state(wire, self.name)
        found: dict[bytes, list[tuple[int, bytes, bytes]]] = {}
        for seq, subject, headers, payload in wire.everything(self.name, state["first_seq"] or 1, state["last_seq"]):
            found.setdefault(subject, []).append((seq, headers, payload))
        for key, writes in self.writes.items():
            there = found.get(key, [])
            need(len(there) <= 3, f"{key!r} has {len(there)} values")
            acked = [at for at, write in enumerate(writes) if write[2]]
            if not there:
                need(not acked, f"{key!r} is gone, written at {writes[acked[-1]] if acked else 0}")
                writes.clear()
                continue
            at = self.which(writes, *there[-1])
            need(at is not None, f"{key!r} has a value that was never written: {there[-1]}")
            assert at is not None
            newest = acked[-1] if acked else 0
            need(at >= newest, f"{key!r} went back to {writes[at]} from {writes[newest]}")
            if writes[at][1] == "PURGE":
                need(len(there) == 1, f"{key!r} was purged and has a history: {there}")
            writes[at][2] = there[-1][0]
            del writes[at + 1 :], writes[:at]

    @staticmethod
    def which(writes: list[list[Any]], seq: int, headers: bytes, payload: bytes) -> int | None:
        """Which write a stored value is of: told by its revision, or by what it says."""
        for at in range(len(writes) - 1, -1, -1):
            number, kind, revision = writes[at]
            if revision == seq:
                return at
            if revision == 0 and (payload == body(number) if kind == "PUT" else f": {kind}\r\n".encode() in headers):
                return at
        return None


class Objects(Scenario):
    """An object store as clients make it: chunks, then the description, which replaces the one before."""

    stream = "OBJ_o"

    def setup(self, wire: Wire) -> None:
        self.made = 0
        self.current: dict[int, int] = {}  # name: version whose description was acknowledged
        self.newest: dict[int, int] = {}  # name: version that was sent last
        self.make(wire, self.stream, "$O.o.>", allow_rollup_hdrs=True, discard="new", max_bytes=-1)

    def act(self, wire: Wire) -> None:
        name = self.rng.randrange(4)
        if self.rng.random() < 0.3 and self.newest.get(name, 0) == self.current.get(name, 0):
            self.made += 1
            self.newest[name] = self.made
            self.put(wire, name, self.made)

    def put(self, wire: Wire, name: int, version: int) -> None:
        chunks = [hashlib.blake2b(b"%d.%d" % (version, number)).digest() * 128 for number in range(version % 5 + 1)]
        left = [len(chunks)]

        def on_chunk(_: bytes, answer: bytes) -> None:
            stored_at(answer)
            self.acked += 1
            left[0] -= 1
            if not left[0]:
                headers = b"NATS/1.0\r\nNats-Rollup: sub\r\n\r\n"
                wire.ask(b"$O.o.M.%d" % name, json.dumps(meta).encode(), on_meta, headers)

        def on_meta(_: bytes, answer: bytes) -> None:
            stored_at(answer)
            self.acked += 1
            old = self.current.get(name)
            self.current[name] = version
            if old is not None:
                wire.ask(b"$JS.API.STREAM.PURGE.OBJ_o", b'{"filter":"$O.o.C.v%d"}' % old, lambda *_: None)

        digest = hashlib.sha256(b"".join(chunks)).digest()
        meta = {"name": str(name), "nuid": f"v{version}", "chunks": len(chunks),
                "digest": "SHA-256=" + base64.urlsafe_b64encode(digest).decode()}  # fmt: skip
        for chunk in chunks:
            wire.ask(b"$O.o.C.v%d" % version, chunk, on_chunk)

    def check(self, wire: Wire) -> None:
        state = self.state(wire, self.stream)
        by_subject: dict[bytes, list[bytes]] = {}
        for _, subject, _, payload in wire.everything(self.stream, state["first_seq"] or 1, state["last_seq"]):
            by_subject.setdefault(subject, []).append(payload)
        for name, version in list(self.newest.items()):
            described = by_subject.get(b"$O.o.M.%d" % name, [])
            need(len(described) <= 1, f"object {name} is described {len(described)} times")
            acked = self.current.get(name)
            need(described or acked is None, f"object {name} is gone")
            if not described:
                del self.newest[name]
                continue
            meta = json.loads(described[0])
            found = int(meta["nuid"][1:])
            need(found in (acked, version), f"object {name} is {found}, not {acked} or {version}")
            chunks = by_subject.get(b"$O.o.C.v%d" % found, [])
            digest = base64.urlsafe_b64encode(hashlib.sha256(b"".join(chunks)).digest()).decode()
            need(meta["digest"] == f"SHA-256={digest}", f"object {name} is damaged: {len(chunks)} of {meta['chunks']}")
            self.current[name] = self.newest[name] = found


class Emptied(Scenario):
    """A stream that is emptied again and again: its sequences never go back."""

    name = "EMPTY"

    def setup(self, wire: Wire) -> None:
        self.last_seen = 0
        self.sent = 0
        self.make(wire, self.name, "e.*")

    def act(self, wire: Wire) -> None:
        for _ in range(self.rng.randrange(4)):
            self.sent += 1
            wire.ask(b"e.%d" % (self.sent % 2), body(self.sent), self.on_ack)
        if self.rng.random() < 0.5:
            wire.ask(b"$JS.API.STREAM.PURGE.EMPTY", b"", self.on_purged)

    def on_ack(self, _: bytes, answer: bytes) -> None:
        seq = stored_at(answer)
        need(seq > self.last_seen, f"sequence {seq} was given before: {self.last_seen}")
        self.last_seen = seq
        self.acked += 1

    def on_purged(self, _: bytes, answer: bytes) -> None:
        need(b'"success":true' in answer.replace(b" ", b""), f"a purge was refused: {answer!r}")

    def check(self, wire: Wire) -> None:
        state = self.state(wire, self.name)
        need(state["last_seq"] >= self.last_seen, f"the last sequence went back from {self.last_seen}: {state}")
        need(state["messages"] or not state["last_seq"] or state["first_seq"] == state["last_seq"] + 1, f"{state}")
        self.last_seen = state["last_seq"]


class Deletes(Scenario):
    """Messages that are deleted one by one and by subject: what is gone stays gone, the rest is there."""

    name = "DEL"

    def setup(self, wire: Wire) -> None:
        self.sent = 0
        self.there: dict[int, int] = {}  # sequence: number, stored for certain, not asked to be removed
        self.gone: set[int] = set()  # removed for certain
        self.before: dict[int, int] = {}  # what the last check found
        self.checked = 0  # up to this sequence
        self.uncertain = 0  # messages up to this number were on their way when their subject was purged
        self.purging = -1  # the subject that is being purged: what is sent now may come before it
        self.last_seen = 0
        self.make(wire, self.name, "d.*")

    def act(self, wire: Wire) -> None:
        for _ in range(self.rng.randrange(min(12, self.burst + 1))):
            self.sent += 1
            if self.sent % 6 != self.purging:
                wire.ask(b"d.%d" % (self.sent % 6), body(self.sent), partial(self.on_ack, self.sent))
        if self.there and self.rng.random() < 0.6:
            seq = self.rng.choice(list(self.there))
            del self.there[seq]
            request = b'{"seq":%d%b}' % (seq, self.rng.choice((b"", b',"no_erase":true')))
            wire.ask(b"$JS.API.STREAM.MSG.DELETE.DEL", request, partial(self.on_gone, [seq]))
        if self.rng.random() < 0.05 and self.purging < 0:
            subject = self.purging = self.rng.randrange(6)
            gone = [seq for seq, number in self.there.items() if number % 6 == subject]
            for seq in gone:
                del self.there[seq]
            self.uncertain = self.sent
            wire.ask(b"$JS.API.STREAM.PURGE.DEL", b'{"filter":"d.%d"}' % subject, partial(self.on_purged, gone))

    def on_ack(self, number: int, _: bytes, answer: bytes) -> None:
        seq = stored_at(answer)
        need(seq > self.last_seen, f"sequence {seq} was given before: {self.last_seen}")
        self.last_seen = seq
        self.acked += 1
        if number > self.uncertain:
            self.there[seq] = number

    def on_purged(self, seqs: list[int], _: bytes, answer: bytes) -> None:
        self.purging = -1
        self.on_gone(seqs, _, answer)

    def on_gone(self, seqs: list[int], _: bytes, answer: bytes) -> None:
        need(b'"success":true' in answer.replace(b" ", b""), f"a removal of {seqs} was refused: {answer!r}")
        self.gone.update(seqs)

    def check(self, wire: Wire) -> None:
        state = self.state(wire, self.name)
        need(state["last_seq"] >= self.last_seen, f"the last sequence went back from {self.last_seen}: {state}")
        self.last_seen = state["last_seq"]
        found = {}
        for seq, subject, _, payload in wire.everything(self.name, state["first_seq"] or 1, state["last_seq"]):
            number = number_of(payload)
            need(subject == b"d.%d" % (number % 6), f"message {number} is on {subject!r}")
            found[seq] = number
        for seq, number in self.there.items():
            need(found.get(seq) == number, f"message {number} at {seq} is lost: {found.get(seq)}")
        back = (self.gone & found.keys()) | {seq for seq in found if seq <= self.checked and seq not in self.before}
        need(not back, f"what was removed is there again: {sorted(back)[:10]}")
        need(state["messages"] == len(found), f"{state['messages']} messages are counted, {len(found)} there")
        self.gone.clear()
        self.uncertain, self.purging = 0, -1
        self.there = found
        self.before = dict(found)
        self.checked = state["last_seq"]


class Step:
    """A stream is made (a generation of its name), or deleted (0). What the answers have said so far."""

    def __init__(self, generation: int, answered: bool = False) -> None:
        self.generation = generation
        self.answered = answered
        self.has_consumer = False
        self.stored = 0


class Reborn(Scenario):
    """Streams with consumers that are created and deleted all the time, the next request sent before the answer."""

    def setup(self, wire: Wire) -> None:
        self.count = 0
        self.steps: dict[int, list[Step]] = {name: [Step(0, True)] for name in range(4)}

    def act(self, wire: Wire) -> None:
        if self.rng.random() > 0.3:
            return
        name = self.rng.randrange(4)
        steps = self.steps[name]
        if not self.in_order and not steps[-1].answered:
            return
        if steps[-1].generation:
            steps.append(Step(0))
            wire.ask(b"$JS.API.STREAM.DELETE.R%d" % name, b"", partial(self.on_answer, steps[-1]))
            return
        self.count += 1
        step = Step(self.count)
        steps.append(step)
        config = json.dumps({"name": f"R{name}", "subjects": [f"r{name}.*"], "storage": "file", "num_replicas": 1,
                             "allow_direct": True, "description": str(self.count)})  # fmt: skip
        wire.ask(b"$JS.API.STREAM.CREATE.R%d" % name, config.encode(), partial(self.on_made, wire, name, step))
        if self.in_order:
            self.add_consumer(wire, name, step)

    def on_answer(self, step: Step, _: bytes, answer: bytes) -> None:
        need(b'"error"' not in answer, f"refused: {answer!r}")
        step.answered = True

    def on_made(self, wire: Wire, name: int, step: Step, headers: bytes, answer: bytes) -> None:
        self.on_answer(step, headers, answer)
        if not self.in_order:
            self.add_consumer(wire, name, step)
        if self.steps[name][-1] is step:
            for number in range(3):
                wire.ask(b"r%d.a" % name, b"%d.%d" % (step.generation, number), partial(self.on_stored, step, number))

    def add_consumer(self, wire: Wire, name: int, step: Step) -> None:
        consumer = json.dumps({"stream_name": f"R{name}", "config": {"durable_name": "C", "ack_policy": "explicit"}})
        wire.ask(b"$JS.API.CONSUMER.DURABLE.CREATE.R%d.C" % name, consumer.encode(), partial(self.on_consumer, step))

    def on_consumer(self, step: Step, _: bytes, answer: bytes) -> None:
        need(b'"error"' not in answer, f"refused: {answer!r}")
        step.has_consumer = True

    def on_stored(self, step: Step, number: int, headers: bytes, answer: bytes) -> None:
        if headers.startswith(b"NATS/1.0 503"):
            return  # deleted meanwhile
        need(stored_at(answer) == number + 1, f"message {number} of a new stream is at {answer!r}")
        self.acked += 1
        step.stored = number + 1

    def check(self, wire: Wire) -> None:
        for name, steps in self.steps.items():
            info = wire.api(f"STREAM.INFO.R{name}")
            generation = 0 if "error" in info else int(info["config"]["description"])
            answered = max(at for at, step in enumerate(steps) if step.answered)
            allowed = {step.generation: step for step in steps[answered:]}
            need(generation in allowed, f"stream R{name} is of generation {generation}, not of {list(allowed)}")
            step = allowed[generation]
            if generation:
                stored = [payload for *_, payload in wire.everything(f"R{name}", 1, info["state"]["last_seq"])]
                need(stored == [b"%d.%d" % (generation, number) for number in range(len(stored))], f"R{name}: {stored}")
                need(len(stored) >= step.stored, f"stream R{name} holds {len(stored)} of {step.stored}")
                consumer = wire.api(f"CONSUMER.INFO.R{name}.C")
                need("error" not in consumer or not step.has_consumer, f"stream R{name} has lost its consumer")
            step.answered = True
            self.steps[name] = [step]


class Restored(Scenario):
    """Streams that are restored from a snapshot and deleted: such a stream is there as a whole, or not at all."""

    source = "ORIGIN"

    def setup(self, wire: Wire) -> None:
        self.wire = wire
        self.make(wire, self.source, "o.*")
        for number in range(40):
            stored_at(wire.request(f"o.{number % 3}", body(number)))
        for seq in (5, 17, 18):
            wire.api(f"STREAM.MSG.DELETE.{self.source}", {"seq": seq})
        config = {
            "durable_name": "C",
            "ack_policy": "explicit",
            "opt_start_seq": 9,
            "deliver_policy": "by_start_sequence",
        }
        wire.api(f"CONSUMER.DURABLE.CREATE.{self.source}.C", {"stream_name": self.source, "config": config})
        self.chunks: list[bytes] = []
        self.taken = False
        wire.subscribe(b"_SNAPSHOT", self.on_chunk)
        taken = wire.api(f"STREAM.SNAPSHOT.{self.source}", {"deliver_subject": "_SNAPSHOT", "chunk_size": 1024})
        need("error" not in taken, f"{taken}")
        self.about = {"config": taken["config"], "state": taken["state"]}
        wire.until(lambda: self.taken)
        self.whole = [each[:2] + each[3:] for each in wire.everything(self.source, 1, 40)]
        self.steps: dict[int, list[Step]] = {name: [Step(0, True)] for name in range(2)}
        self.busy: set[int] = set()
        wire.api(f"STREAM.DELETE.{self.source}")

    def on_chunk(self, reply: bytes, headers: bytes, payload: bytes) -> None:
        need(headers[:12] in (b"", b"NATS/1.0 204"), f"the snapshot ended with {headers!r}")
        self.taken = not payload
        if payload:
            self.chunks.append(payload)
        if reply:
            self.wire.publish(reply, b"")

    def connect(self, wire: Wire) -> None:
        self.wire = wire
        self.busy = set()

    def act(self, wire: Wire) -> None:
        name = self.rng.randrange(2)
        if self.rng.random() > 0.2 or name in self.busy:
            return
        steps = self.steps[name]
        step = Step(0 if steps[-1].generation else 1)
        steps.append(step)
        self.busy.add(name)
        if not step.generation:
            wire.ask(b"$JS.API.STREAM.DELETE.B%d" % name, b"", partial(self.on_answer, name, step))
            return
        config = {**self.about["config"], "name": f"B{name}", "subjects": [f"b{name}.*"]}
        request = json.dumps({**self.about, "config": config}).encode()
        wire.ask(b"$JS.API.STREAM.RESTORE.B%d" % name, request, partial(self.on_begun, name, step))

    def on_begun(self, name: int, step: Step, _: bytes, answer: bytes) -> None:
        need(b'"error"' not in answer, f"refused: {answer!r}")
        subject = json.loads(answer)["deliver_subject"].encode()
        for chunk in self.chunks:
            self.wire.ask(subject, chunk, lambda _, said: need(not said, f"a chunk was refused: {said!r}"))
        self.wire.ask(subject, b"", partial(self.on_answer, name, step))

    def on_answer(self, name: int, step: Step, _: bytes, answer: bytes) -> None:
        need(b'"error"' not in answer, f"refused: {answer!r}")
        step.answered = True
        self.busy.discard(name)

    def check(self, wire: Wire) -> None:
        for name, steps in self.steps.items():
            info = wire.api(f"STREAM.INFO.B{name}")
            there = "error" not in info
            answered = max(at for at, step in enumerate(steps) if step.answered)
            allowed = [bool(step.generation) for step in steps[answered:]]
            need(there in allowed, f"stream B{name} is {'there' if there else 'gone'}, {allowed}")
            if there:
                last = info["state"]["last_seq"]
                found = [each[:2] + each[3:] for each in wire.everything(f"B{name}", 1, last)]
                need(last == 40 and found == self.whole, f"stream B{name} is there in part: {len(found)} up to {last}")
                consumer = wire.api(f"CONSUMER.INFO.B{name}.C")
                need(consumer.get("num_pending") == 32 - 2, f"stream B{name} has lost its consumer: {consumer}")
            self.steps[name] = [Step(int(there), True)]


class Batches(Scenario):
    """Atomic batches: all of one is there, or nothing."""

    name = "ATOMIC"

    def setup(self, wire: Wire) -> None:
        self.sent = 0
        self.done: set[int] = set()
        self.make(wire, self.name, "a.*", allow_atomic=True)

    def act(self, wire: Wire) -> None:
        if self.rng.random() > 0.2:
            return
        self.sent += 1
        size = self.sent % 7 + 2
        for number in range(1, size + 1):
            headers = b"NATS/1.0\r\nNats-Batch-Id: b%d\r\nNats-Batch-Sequence: %d\r\n" % (self.sent, number)
            if number == size:
                headers += b"Nats-Batch-Commit: 1\r\n\r\n"
                wire.ask(b"a.x", b"%d %d" % (self.sent, size), partial(self.on_ack, self.sent), headers)
            elif number == 1:
                wire.ask(b"a.x", b"%d %d" % (self.sent, size), lambda *_: None, headers + b"\r\n")
            else:
                wire.publish(b"a.x", b"%d %d" % (self.sent, size), b"", headers + b"\r\n")

    def on_ack(self, number: int, _: bytes, answer: bytes) -> None:
        stored_at(answer)
        self.acked += number % 7 + 2
        self.done.add(number)

    def check(self, wire: Wire) -> None:
        state = self.state(wire, self.name)
        found: dict[int, int] = {}
        for *_, payload in wire.everything(self.name, state["first_seq"] or 1, state["last_seq"]):
            number, size = map(int, payload.split())
            need(size == number % 7 + 2, f"payload damaged: {payload!r}")
            found[number] = found.get(number, 0) + 1
        for number, count in found.items():
            need(count == number % 7 + 2, f"batch {number} is there in part: {count}")
        need(self.done <= found.keys(), f"batches are lost: {sorted(self.done - found.keys())[:10]}")
