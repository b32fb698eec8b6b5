"""The set of sequences, against a plain set."""

from hypothesis import given
from hypothesis import strategies as st

from natsc.jetstream.seqset import SeqSet


def ascending(steps):
    seq = 0
    for step in steps:
        seq += step
        yield seq


@given(st.lists(st.one_of(st.integers(1, 3), st.integers(1, 20000)), max_size=60), st.data())
def test_like_a_plain_set(steps, data):
    s, model = SeqSet(), set()
    for seq in ascending(steps):
        assert s.add(seq)
        model.add(seq)
        if data.draw(st.booleans()):
            victim = data.draw(st.sampled_from(sorted(model)))
            assert s.remove(victim)
            model.remove(victim)
            assert not s.remove(victim)
    assert len(s) == len(model)
    for seq in {1, 5, 4096, 70000, 2000000, *model, *(m + 1 for m in model), *(m - 1 for m in model if m > 1)}:
        assert s.has(seq) == (seq in model)
        assert s.next(seq) == min((m for m in model if m >= seq), default=0)
        assert s.prev(seq) == max((m for m in model if m <= seq), default=0)
        assert s.count_from(seq) == sum(m >= seq for m in model)


def test_full_chunks_and_holes():
    s = SeqSet()
    for seq in range(1, 20001):
        s.add(seq)
    for seq in range(2, 20001, 3):
        assert s.remove(seq)
    assert len(s) == 20000 - len(range(2, 20001, 3))
    assert [seq for seq in range(1, 20001) if s.has(seq)] == [seq for seq in range(1, 20001) if seq % 3 != 2]
    assert s.next(8192) == 8193 if 8192 % 3 == 2 else 8192
    assert s.count_from(10000) == sum(seq % 3 != 2 for seq in range(10000, 20001))


def test_what_is_left_of_a_wide_range():
    s = SeqSet()
    for seq in range(1, 400001):
        s.add(seq)
    for seq in range(1, 400001):
        if seq % 50000:
            s.remove(seq)
    assert [s.next(seq + 1) for seq in [0, 50000, 100000, 349999, 350000]] == [50000, 100000, 150000, 350000, 400000]
    assert s.add(400001)
    assert s.prev(400000) == 400000
    assert len(s) == 9


def test_emptied_and_used_again():
    s = SeqSet()
    for seq in range(1, 10000):
        s.add(seq)
        s.remove(seq)
    assert len(s) == 0
    assert s.next(1) == 0
    s.add(10000)
    assert s.next(1) == s.prev(99999) == 10000
    s.clear()
    assert s.next(1) == 0
    assert s.add(3)
