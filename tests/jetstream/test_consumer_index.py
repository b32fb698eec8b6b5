"""Consumers with filters are found by subject; what they get and count is what asking each of them would give."""

from __future__ import annotations

import random

import pytest

from natsc.testing.oracle import matches
from tests.jetstream.jsworld import JsWorld

TOKENS = ("a", "b", "c")
FILTERS = ("a", "a.b", "a.*", "*.b", "a.>", "*.*.c", "b.c.a", "*", ">", "c.>", "b.*", "c.c")


def wants(filters: list[str], subject: str) -> bool:
    return not filters or any(matches(subject.encode(), one.encode()) for one in filters)


class Plain:
    """A consumer that is asked for every message: what it has got, what it waits to be acknowledged."""

    def __init__(self, name: str, filters: list[str]) -> None:
        self.name = name
        self.filters = filters
        self.next_seq = 1
        self.got = 0
        self.out: dict[int, str] = {}


class Twin:
    """A stream and its consumers, and the same in plain lists."""

    def __init__(self, seed: int, retention: str) -> None:
        self.chance = random.Random(seed)
        self.js = JsWorld()
        self.stream = self.js.stream("S", "t.>", retention=retention, allow_rollup_hdrs=True)
        self.interest = retention == "interest"
        self.there: dict[int, str] = {}
        self.last = 0
        self.consumers: list[Plain] = []
        self.made = 0

    def subject(self) -> str:
        return ".".join(["t", *self.chance.choices(TOKENS, k=self.chance.randint(1, 3))])

    def filters(self) -> list[str]:
        chosen = self.chance.sample(FILTERS, k=self.chance.choice((0, 1, 1, 1, 2, 3)))
        chosen = [f"t.{one}" for one in chosen]
        apart = all(
            not wants([one], other.replace("*", "a").replace(">", "a")) and not wants([other], one) and one != other
            for one in chosen
            for other in chosen
            if one is not other
        )
        return chosen if apart and len(chosen) < 2 else chosen[:1]

    def add(self) -> None:
        self.made += 1
        plain = Plain(f"C{self.made}", self.filters())
        self.js.consumer("S", plain.name, filter_subjects=plain.filters, max_ack_pending=-1)
        self.consumers.append(plain)

    def publish(self) -> None:
        subject = self.subject()
        self.js.publish(subject)
        self.last += 1
        if not self.interest or any(wants(one.filters, subject) for one in self.consumers):
            self.there[self.last] = subject

    def remove(self) -> None:
        if self.there:
            seq = self.chance.choice(list(self.there))
            assert self.stream.remove(seq, False)
            self.js.end_turn()
            self.forget([seq])

    def forget(self, seqs: list[int]) -> None:
        for seq in seqs:
            del self.there[seq]
            for one in self.consumers:
                one.out.pop(seq, None)

    def roll_up(self) -> None:
        subject = self.subject()
        self.js.publish(subject, headers=b"NATS/1.0\r\nNats-Rollup: sub\r\n\r\n")
        self.last += 1
        before = [seq for seq, other in self.there.items() if other == subject]
        if not self.interest or any(wants(one.filters, subject) for one in self.consumers):
            self.there[self.last] = subject
            self.forget(before)

    def change(self) -> None:
        if self.consumers:
            plain = self.chance.choice(self.consumers)
            plain.filters = self.filters()
            self.js.consumer("S", plain.name, filter_subjects=plain.filters, max_ack_pending=-1)

    def pull(self) -> None:
        if not self.consumers:
            return
        plain = self.chance.choice(self.consumers)
        batch = self.chance.randint(1, 4)
        self.js.pull("S", plain.name, b'{"batch":%d,"no_wait":true}' % batch)
        found = [m for m in self.js.messages() if m.reply]
        due = [s for s, subject in sorted(self.there.items()) if s >= plain.next_seq and wants(plain.filters, subject)]
        assert [one.ack[1] for one in found] == due[:batch]
        for one in found:
            plain.got += 1
            plain.out[one.ack[1]] = one.reply
            plain.next_seq = one.ack[1] + 1
        if 0 < len(due) < batch:  # it has looked at all there is
            plain.next_seq = self.last + 1

    def ack(self) -> None:
        plain = self.chance.choice(self.consumers) if self.consumers else None
        if plain is None or not plain.out:
            return
        seq = self.chance.choice(list(plain.out))
        self.js.publish(plain.out.pop(seq), b"")
        if self.interest and seq in self.there and not self.is_needed(seq):
            del self.there[seq]

    def is_needed(self, seq: int) -> bool:
        return any(
            wants(one.filters, self.there[seq]) and (seq in one.out or seq >= one.next_seq) for one in self.consumers
        )

    def check(self) -> None:
        assert self.stream.state().messages == len(self.there)
        for plain in self.consumers:
            info = self.js.info("S", plain.name)
            due = sum(s >= plain.next_seq and wants(plain.filters, subject) for s, subject in self.there.items())
            assert (info["pending"], info["ack_pending"]) == (due, len(plain.out)), plain.name


# What a purge does to a consumer that had other filters before is a matter of its own: not both.
@pytest.mark.parametrize(("retention", "changing"), [("limits", True), ("limits", False), ("interest", False)])
@pytest.mark.parametrize("seed", range(8))
def test_it_is_as_if_each_consumer_was_asked(seed: int, retention: str, changing: bool) -> None:
    twin = Twin(seed, retention)
    gone = twin.remove if changing else twin.roll_up
    for _ in range(6):
        twin.add()
    for step in range(250):
        twin.chance.choice(
            (twin.publish, twin.publish, twin.publish, twin.remove, gone, twin.pull, twin.pull, twin.ack)
        )()
        if changing and step % 10 == 0:
            twin.change()
        if step % 25 == 0:
            twin.add()
        twin.check()


def test_a_request_that_does_not_wait_ends_when_what_was_not_visible_is_for_others() -> None:
    """It is asked for in the turn in which a message for others is stored."""
    js = JsWorld()
    js.stream("S", "t.>")
    js.consumer("S", "C", filter_subject="t.a")
    js.fill(1, "t.a")
    js.pull("S", "C", b"1")
    assert len(js.messages()) == 1
    request = b'{"batch":1,"no_wait":true,"expires":1000000000}'
    data = b"PUB t.b 0\r\n\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.C _INBOX.1 %d\r\n%b\r\n" % (len(request), request)
    js.say(data)
    js.fill(1, "t.a")
    assert [one.payload for one in js.messages() if one.reply] == [b"0"]


def test_a_message_that_a_filter_no_longer_has_is_told_when_it_goes() -> None:
    js = JsWorld()
    stream = js.stream("S", "t.>")
    js.consumer("S", "C", filter_subject="t.a")
    js.fill(2, "t.a")
    js.pull("S", "C", b"2")
    assert len(js.messages()) == 2
    js.consumer("S", "C", filter_subject="t.b")
    assert stream.remove(1, False)
    js.end_turn()
    assert js.info("S", "C")["ack_pending"] == 1
    assert stream.remove(2, False)
    js.end_turn()
    assert js.info("S", "C")["ack_pending"] == 0


def test_a_consumer_that_is_deleted_is_found_no_more() -> None:
    js = JsWorld()
    js.stream("S", "t.>", retention="interest")
    js.consumer("S", "C", filter_subject="t.a")
    js.consumer("S", "D", filter_subject="t.*")
    js.js.stream("S").consumer("D").delete()  # type: ignore[union-attr]
    js.publish("t.a")
    js.publish("t.b")
    assert js.js.stream("S").state().messages == 1  # type: ignore[union-attr]
    js.js.stream("S").consumer("C").delete()  # type: ignore[union-attr]
    js.publish("t.a")
    assert js.js.stream("S").state().messages == 0  # type: ignore[union-attr]
