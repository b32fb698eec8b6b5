"""Crash tests of consumers and of what they leave in streams: see scenarios.py.

What was confirmed (acknowledged with a reply, which came) is never delivered again; nothing is skipped.
"""

from __future__ import annotations

import random
import re
from functools import partial
from typing import Any

from .scenarios import (
    MS,
    Batches,
    Bulk,
    Deletes,
    Emptied,
    Flags,
    KeyValue,
    Lost,
    Objects,
    Reborn,
    Restored,
    Scenario,
    body,
    need,
    number_of,
    stored_at,
)
from .wire import Wire


class Pulling(Scenario):
    """Something that pulls from a consumer and acknowledges."""

    stream = ""
    consumer = ""

    def consume(self, wire: Wire) -> None:
        self.left = 0  # messages asked for and not yet here
        self.inbox = f"_{self.stream}.{self.consumer}".encode()
        wire.subscribe(self.inbox, self.deliver)
        self.wire = wire

    def add_consumer(self, wire: Wire, **config: Any) -> None:
        config = {"durable_name": self.consumer, "ack_policy": "explicit", "ack_wait": 1000 * MS,
                  "max_ack_pending": 20000, **config}  # fmt: skip
        made = wire.api(f"CONSUMER.DURABLE.CREATE.{self.stream}.{self.consumer}",
                        {"stream_name": self.stream, "config": config})  # fmt: skip
        need("error" not in made, f"{made}")

    def pull(self, wire: Wire, count: int) -> None:
        if self.left < count:
            self.left += count
            request = b'{"batch":%d,"expires":%d}' % (count, 400 * MS)
            wire.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.consumer}".encode(), request, self.inbox)

    def deliver(self, reply: bytes, headers: bytes, payload: bytes) -> None:
        if headers.startswith((b"NATS/1.0 4", b"NATS/1.0 5")):
            left = re.search(rb"Nats-Pending-Messages: (\d+)", headers)
            self.left = max(self.left - int(left[1]), 0) if left else 0
            return
        self.left = max(self.left - 1, 0)
        words = reply.split(b".")
        need(words[:2] == [b"$JS", b"ACK"], f"not a message of a consumer: {reply!r}")
        self.on_message(int(words[5]), reply, payload)

    def on_message(self, seq: int, reply: bytes, payload: bytes) -> None:
        raise NotImplementedError

    def again(self, what: str) -> None:
        """Something was delivered that was confirmed."""
        self.redelivered_confirmed += 1
        if self.strict:
            raise Lost(what)

    def info(self, wire: Wire) -> dict[str, Any]:
        found = wire.api(f"CONSUMER.INFO.{self.stream}.{self.consumer}")
        need("error" not in found, f"consumer {self.consumer} is gone: {found.get('error')}")
        return found


class Explicit(Pulling):
    """A durable consumer of BULK with explicit acknowledgements, most of them confirmed."""

    stream, consumer = "BULK", "EXPLICIT"

    def __init__(self, rng: random.Random, bulk: Bulk) -> None:
        super().__init__(rng)
        self.bulk = bulk
        self.done = Flags()
        self.delivered = Flags()
        self.confirmed_last = 0
        self.floor = 0

    def setup(self, wire: Wire) -> None:
        self.add_consumer(wire)

    def connect(self, wire: Wire) -> None:
        self.consume(wire)

    def act(self, wire: Wire) -> None:
        self.pull(wire, 250)

    def on_message(self, seq: int, reply: bytes, payload: bytes) -> None:
        number = number_of(payload)
        known = self.bulk.seq_of[number] or self.bulk.found[number]
        need(known in (0, seq), f"message {number} of {known} was delivered as {seq}")
        if self.done[seq]:
            self.again(f"message {seq}, whose acknowledgement was confirmed, was delivered again: {reply!r}")
        self.delivered.set(seq)
        chance = self.rng.random()
        if chance < 0.7:
            self.wire.ask(reply, b"", partial(self.on_confirmed, seq))
        elif chance < 0.95:
            self.wire.publish(reply, b"+ACK")

    def on_confirmed(self, seq: int, headers: bytes, _: bytes) -> None:
        need(not headers, f"the confirmation is {headers!r}")
        self.done.set(seq)
        self.confirmed += 1
        self.confirmed_last = max(self.confirmed_last, seq)

    def check(self, wire: Wire) -> None:
        info = self.info(wire)
        while self.done[self.floor + 1]:
            self.floor += 1
        need(info["ack_floor"]["stream_seq"] >= self.floor, f"confirmed up to {self.floor}, floor {info['ack_floor']}")
        need(info["delivered"]["stream_seq"] >= self.confirmed_last, f"{self.confirmed_last} confirmed: {info}")

    def finish(self, wire: Wire) -> None:
        """Nothing was skipped: what has not been confirmed comes again until it is."""
        self.check(wire)
        last = self.bulk.last_seen

        def drained() -> bool:
            self.pull(wire, 500)
            return bool(self.info(wire)["ack_floor"]["stream_seq"] >= last)

        rounds = 0
        while not drained():
            rounds += 1
            need(rounds < 20000, "the consumer isn't drained")
            wire.pump(0.02)
        missing = [seq for seq in range(1, last + 1) if not self.delivered[seq]]
        need(not missing, f"never delivered: {missing[:10]} of {len(missing)}")


class UpTo(Pulling):
    """A durable consumer of BULK whose acknowledgements are for everything before, too."""

    stream, consumer = "BULK", "UPTO"

    def __init__(self, rng: random.Random, bulk: Bulk) -> None:
        super().__init__(rng)
        self.bulk = bulk
        self.floor = 0
        self.first = 0  # lowest sequence delivered since the connection was made

    def setup(self, wire: Wire) -> None:
        self.add_consumer(wire, ack_policy="all")

    def connect(self, wire: Wire) -> None:
        self.first = 0
        self.consume(wire)

    def act(self, wire: Wire) -> None:
        self.pull(wire, 250)

    def on_message(self, seq: int, reply: bytes, payload: bytes) -> None:
        number_of(payload)
        if seq <= self.floor:
            self.again(f"message {seq} was delivered again, all up to {self.floor} are confirmed")
        if self.rng.random() < 0.02:
            self.wire.ask(reply, b"+ACK", partial(self.on_confirmed, seq))

    def on_confirmed(self, seq: int, headers: bytes, _: bytes) -> None:
        need(not headers, f"the confirmation is {headers!r}")
        self.floor = max(self.floor, seq)
        self.confirmed += 1

    def check(self, wire: Wire) -> None:
        info = self.info(wire)
        need(info["ack_floor"]["stream_seq"] >= self.floor, f"confirmed up to {self.floor}, floor {info['ack_floor']}")


class WorkQueue(Pulling):
    """A work queue: what is acknowledged is removed, what is confirmed never comes again."""

    stream, consumer = "WORK", "WORKER"

    def setup(self, wire: Wire) -> None:
        self.sent = 0
        self.stored: dict[int, int] = {}  # number: sequence, of what was stored for certain
        self.finished: set[int] = set()  # numbers that were acknowledged, confirmed or not
        self.done = Flags()  # numbers whose acknowledgement was confirmed
        self.last_seen = 0
        self.make(wire, self.stream, "w.*", retention="workqueue")
        self.add_consumer(wire)

    def connect(self, wire: Wire) -> None:
        self.consume(wire)

    def act(self, wire: Wire) -> None:
        for _ in range(min(self.rng.choice((1, 10, 60)), self.burst)):
            self.sent += 1
            wire.ask(b"w.%d" % (self.sent % 5), body(self.sent), partial(self.on_ack, self.sent))
        self.pull(wire, 150)

    def on_ack(self, number: int, _: bytes, answer: bytes) -> None:
        seq = stored_at(answer)
        need(seq > self.last_seen, f"sequence {seq} was given before: {self.last_seen}")
        self.last_seen = seq
        self.acked += 1
        if number not in self.finished:
            self.stored[number] = seq

    def on_message(self, seq: int, reply: bytes, payload: bytes) -> None:
        number = number_of(payload)
        need(number <= self.sent, f"message {number} was never sent")
        if self.done[number]:
            self.again(f"work {number}, whose acknowledgement was confirmed, was delivered again: {reply!r}")
        chance = self.rng.random()
        if chance < 0.9:
            self.finished.add(number)
            self.stored.pop(number, None)
        if chance < 0.6:
            self.wire.ask(reply, b"", partial(self.on_confirmed, number))
        elif chance < 0.9:
            self.wire.publish(reply, b"+ACK")
        elif chance < 0.95:
            self.wire.publish(reply, b"-NAK")

    def on_confirmed(self, number: int, headers: bytes, _: bytes) -> None:
        need(not headers, f"the confirmation is {headers!r}")
        self.done.set(number)
        self.confirmed += 1

    def check(self, wire: Wire) -> None:
        state = self.state(wire, self.stream)
        need(state["last_seq"] >= self.last_seen, f"the last sequence went back from {self.last_seen}: {state}")
        self.last_seen = state["last_seq"]
        there = set()
        for seq, _, _, payload in wire.everything(self.stream, state["first_seq"] or 1, state["last_seq"]):
            number = number_of(payload)
            need(number not in there, f"work {number} is there twice")
            need(not self.done[number], f"work {number} at {seq} is confirmed and still there")
            there.add(number)
        missing = [number for number in self.stored if number not in there]
        need(not missing, f"work that was stored and never acknowledged is gone: {missing[:10]} of {len(missing)}")
        self.finished &= there

    def finish(self, wire: Wire) -> None:
        self.check(wire)
        rounds = 0
        while self.state(wire, self.stream)["messages"]:
            rounds += 1
            need(rounds < 20000, "the work queue isn't drained")
            self.pull(wire, 500)
            wire.pump(0.02)


class Interested(Pulling):
    """One of two consumers of a stream that keeps what one of them still needs. The first one also publishes."""

    stream = "INTEREST"

    def __init__(self, rng: random.Random, other: Interested | None = None) -> None:
        super().__init__(rng)
        self.consumer = "B" if other else "A"
        self.all: list[Interested] = [*other.all, self] if other else [self]
        if other:
            other.all = self.all
        self.done = Flags()  # sequences whose acknowledgement was confirmed
        self.sent_ack = Flags()  # or at least sent
        self.confirmed_last = 0
        self.sent = 0
        self.stored: set[int] = set()  # sequences that were stored for certain and are not known to be done with
        self.last_seen = 0

    def setup(self, wire: Wire) -> None:
        if self.consumer == "A":
            self.make(wire, self.stream, "i.*", retention="interest")
        self.add_consumer(wire)

    def connect(self, wire: Wire) -> None:
        self.consume(wire)

    def act(self, wire: Wire) -> None:
        if self.consumer == "A" and self.all[-1].ready:
            for _ in range(self.rng.randrange(min(30, self.burst) + 1)):
                self.sent += 1
                wire.ask(b"i.%d" % (self.sent % 3), body(self.sent), self.on_ack)
        self.pull(wire, 100)

    def on_ack(self, _: bytes, answer: bytes) -> None:
        seq = stored_at(answer)
        need(seq > self.last_seen, f"sequence {seq} was given before: {self.last_seen}")
        self.last_seen = seq
        self.acked += 1
        self.stored.add(seq)

    def on_message(self, seq: int, reply: bytes, payload: bytes) -> None:
        number_of(payload)
        if self.done[seq]:
            self.again(f"{self.consumer}: message {seq}, whose acknowledgement was confirmed, was delivered again")
        chance = self.rng.random()
        if chance < 0.9:
            self.sent_ack.set(seq)
        if chance < 0.6:
            self.wire.ask(reply, b"", partial(self.on_confirmed, seq))
        elif chance < 0.9:
            self.wire.publish(reply, b"+ACK")

    def on_confirmed(self, seq: int, headers: bytes, _: bytes) -> None:
        need(not headers, f"the confirmation is {headers!r}")
        self.done.set(seq)
        self.confirmed += 1
        self.confirmed_last = max(self.confirmed_last, seq)

    def check(self, wire: Wire) -> None:
        delivered = self.info(wire)["delivered"]
        need(delivered["stream_seq"] >= self.confirmed_last, f"{self.confirmed_last} was confirmed: {delivered}")
        if self.consumer == "B":
            return
        state = self.state(wire, self.stream)
        need(state["last_seq"] >= self.last_seen, f"the last sequence went back from {self.last_seen}: {state}")
        self.last_seen = state["last_seq"]
        there = {each[0] for each in wire.everything(self.stream, state["first_seq"] or 1, state["last_seq"])}
        kept = [seq for seq in there if all(each.done[seq] for each in self.all)]
        need(not kept, f"both have confirmed {kept[:10]}, and it is still there")
        gone = [seq for seq in self.stored - there if not all(each.sent_ack[seq] for each in self.all)]
        need(not gone, f"not both have acknowledged {gone[:10]}, and it is gone")
        self.stored &= there


class Mirrored(Scenario):
    """A mirror of BULK: never ahead of it, never different, and in the end complete."""

    name = "MIRROR"

    def __init__(self, rng: random.Random, bulk: Bulk) -> None:
        super().__init__(rng)
        self.bulk = bulk
        self.seen = 0

    def setup(self, wire: Wire) -> None:
        made = wire.api(f"STREAM.CREATE.{self.name}", {"name": self.name, "storage": "file", "num_replicas": 1,
                                                       "allow_direct": True, "mirror": {"name": "BULK"}})  # fmt: skip
        need("error" not in made, f"{made}")

    def check(self, wire: Wire) -> None:
        last = self.state(wire, self.name)["last_seq"]
        origin = self.state(wire, "BULK")["last_seq"]
        need(self.seen <= last <= origin, f"a mirror that was at {self.seen} is at {last}, its origin at {origin}")
        first = max(self.seen - 100, 1)
        found = wire.everything(self.name, first, last)
        need([each[0] for each in found] == list(range(first, last + 1)), f"the mirror has gaps from {first} to {last}")
        for seq, _, _, payload in found:
            if seq < len(self.bulk.number_at):  # which the check of BULK has just filled
                need(number_of(payload) == self.bulk.number_at[seq], f"the mirror differs at {seq}: {payload[:60]!r}")
        self.seen = last

    def finish(self, wire: Wire) -> None:
        rounds = 0
        while self.state(wire, self.name)["last_seq"] < self.bulk.last_seen:
            rounds += 1
            need(rounds < 20000, "the mirror doesn't come near its origin")
            wire.pump(0.02)
        self.seen = 0
        self.check(wire)


def all_scenarios(rng: random.Random) -> list[Scenario]:
    bulk = Bulk(rng)
    interested = Interested(rng)
    return [bulk, Explicit(rng, bulk), UpTo(rng, bulk), WorkQueue(rng), interested, Interested(rng, interested),
            Mirrored(rng, bulk), KeyValue(rng), Objects(rng), Emptied(rng), Deletes(rng), Reborn(rng), Restored(rng),
            Batches(rng)]  # fmt: skip
