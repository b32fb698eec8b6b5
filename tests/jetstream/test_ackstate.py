"""The pending table of a consumer, against a model that keeps everything in dicts and lists."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from natsc.jetstream.ackstate import AckTable


class Model:
    def __init__(self) -> None:
        self.entries: dict[int, list[int]] = {}  # seq -> [dseq, due, pending, redelivered]
        self.queue: list[int] = []
        self.delivered = (0, 0)
        self.floor = (0, 0)

    def deliver(self, seq: int, dseq: int, due: int) -> None:
        entry = self.entries.setdefault(seq, [dseq, 0, 0, 0])
        entry[1:3] = [due, 1]
        self.delivered = (max(self.delivered[0], dseq), max(self.delivered[1], seq))

    def pending(self) -> list[int]:
        return sorted(seq for seq, entry in self.entries.items() if entry[2])

    def done(self, seq: int, dseq: int) -> None:
        pending = self.pending()
        if not pending:
            self.floor = self.delivered
        elif dseq == self.floor[0] + 1:
            later = [one for one in pending if one > seq]
            self.floor = (self.entries[later[0]][0] - 1, later[0] - 1) if later else (dseq, seq)

    def ack(self, seq: int) -> bool:
        entry = self.entries.pop(seq, None)
        if seq in self.queue:
            self.queue.remove(seq)
        if entry is None or not entry[2]:
            return False
        self.done(seq, entry[0])
        return True

    def postpone(self, seq: int, due: int) -> None:
        if seq in self.entries and self.entries[seq][2] and seq not in self.queue:
            self.entries[seq][1] = due

    def waiting(self) -> list[tuple[int, int]]:
        """(deadline, seq) of what is pending and not queued."""
        return sorted((self.entries[seq][1], seq) for seq in self.pending() if seq not in self.queue)

    def expire(self, now: int) -> list[int]:
        found = [seq for due, seq in self.waiting() if due <= now]
        self.queue += found
        return found

    def redeliver(self, due: int) -> tuple[int, int] | None:
        if not self.queue:
            return None
        seq = self.queue.pop(0)
        self.entries[seq][3] += 1
        self.entries[seq][1] = due
        return seq, self.entries[seq][3] + 1

    def put_back(self) -> int | None:
        return self.queue[0] if self.queue else None

    def give_up(self, seq: int) -> None:
        entry = self.entries.get(seq)
        if entry is None or not entry[2]:
            return
        if seq in self.queue:
            self.queue.remove(seq)
        entry[2] = 0
        if not entry[3]:
            del self.entries[seq]
        self.done(seq, entry[0])

    def unqueue(self, seq: int, due: int) -> None:
        if seq in self.queue:
            self.queue.remove(seq)
            self.entries[seq][1] = due


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["deliver"] * 4 + ["ack"] * 3 + ["expire", "redeliver"] * 2 + ["postpone", "give_up", "unqueue", "put_back"]
        ),
        st.integers(0, 40),
        st.integers(1, 30),
    ),
    max_size=200,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_the_table_agrees_with_the_model(steps: list[tuple[str, int, int]]) -> None:
    table, model = AckTable(), Model()
    now, next_seq, dseq = 1000, 1, 1
    for what, number, amount in steps:
        known = sorted(model.entries)
        seq = known[number % len(known)] if known else number
        if what == "deliver":
            next_seq += 1 + number % 3
            for one in (table, model):
                one.deliver(next_seq, dseq, now + amount)
            dseq += 1
        elif what == "expire":
            now += amount
            assert table.expire(now) == model.expire(now)
        elif what == "redeliver":
            assert table.redeliver(now + amount) == model.redeliver(now + amount)
        elif what == "put_back":
            assert table.put_back() == model.put_back()
        elif what in ("ack", "give_up"):
            assert getattr(table, what)(seq) == getattr(model, what)(seq)
        else:
            for one in (table, model):
                getattr(one, what)(seq, now + amount)
        check(table, model)
    assert set(model.entries) <= {page * 64 + i for page in table.take_dirty() for i in range(64)}


def check(table: AckTable, model: Model) -> None:
    assert table.entries() == [
        (seq, entry[0], bool(entry[2]), seq in model.queue, entry[3]) for seq, entry in sorted(model.entries.items())
    ]
    assert table.floor == model.floor
    waiting = model.waiting()
    assert table.next_due == (waiting[0][0] if waiting else 0)
    assert table.counts == (len(model.pending()), len(model.queue), sum(1 for e in model.entries.values() if e[3]))


def test_a_thousand_in_order_leave_nothing_behind() -> None:
    table = AckTable()
    for seq in range(1, 1001):
        table.deliver(seq, seq, 5)
    for seq in range(1000, 0, -1):
        assert table.ack(seq)
    assert table.entries() == []
    assert table.floor == (1000, 1000)
    assert table.next_due == 0


def test_a_steady_window_stays_small_and_in_order() -> None:
    table = AckTable()
    for seq in range(1, 5001):
        table.deliver(seq, seq, seq)
        if seq > 100:
            assert table.ack(seq - 100)
    assert [entry[0] for entry in table.entries()] == list(range(4901, 5001))
    assert table.floor == (4900, 4900)


def test_redelivery_keeps_the_order_of_expiry() -> None:
    table = AckTable()
    for seq in (1, 2, 3):
        table.deliver(seq, seq, 10 - seq)
    assert table.expire(100) == [3, 2, 1]
    assert [table.redeliver(200) for _ in range(4)] == [(3, 2), (2, 2), (1, 2), None]


def test_each_changed_page_is_named_once() -> None:
    table = AckTable()
    for seq in range(60, 70):
        table.deliver(seq, seq, 5)
    assert table.take_dirty() == [0, 1]
    table.ack(65)
    assert table.take_dirty() == [1]
    assert table.take_dirty() == []


def test_clear_names_what_goes() -> None:
    table = AckTable()
    table.deliver(100, 1, 5)
    table.take_dirty()
    table.clear()
    assert table.take_dirty() == [1]
    assert table.entries() == []
