"""The table of subjects, against a plain dict."""

import random

from hypothesis import given
from hypothesis import strategies as st

from natsc.jetstream.subjectstate import SubjectTable

subjects = st.lists(st.sampled_from(["a", "b", "cc", "long-token" * 3, "x" * 700]), min_size=1, max_size=4).map(
    lambda tokens: ".".join(tokens).encode()
)


def matches(pattern, subject):
    p, s = pattern.split(b"."), subject.split(b".")
    for i, token in enumerate(p):
        if token == b">":
            return len(s) > i
        if i >= len(s) or token not in (b"*", s[i]):
            return False
    return len(p) == len(s)


@given(st.lists(st.tuples(subjects, st.booleans()), max_size=80), st.integers(0, 2**64 - 1))
def test_like_a_plain_dict(ops, seed):
    table, model = SubjectTable(seed), {}
    for i, (subject, put) in enumerate(ops):
        if put:
            table.set(subject, i, i + 1, i + 2)
            model[subject] = (i, i + 1, i + 2)
        else:
            table.remove(subject)
            model.pop(subject, None)
        assert table.get(subject) == model.get(subject)
    assert len(table) == len(model)
    for pattern in (b"", b">", b"a", b"*", b"a.>", b"a.*", b"*.b.>", b"cc.*.cc", b"a.b"):
        expected = {s: v for s, v in model.items() if not pattern or matches(pattern, s)}
        assert table.match(pattern) == expected
        assert table.match(pattern, budget=3) == expected


def test_a_wildcard_is_a_whole_token():
    table = SubjectTable()
    table.set(b"a.b", 1, 1, 1)
    assert table.match(b"a*.b") == {}
    assert table.match(b"a.b>") == {}


def test_many_come_and_go():
    table, model = SubjectTable(1), {}
    rng = random.Random(5)
    for i in range(30000):
        subject = b"orders.%d.new" % rng.randrange(8000)
        if rng.random() < 0.5:
            table.set(subject, i, i, 1)
            model[subject] = (i, i, 1)
        else:
            table.remove(subject)
            model.pop(subject, None)
    assert table.match() == model
    memory = table.memory
    for subject in model:
        table.remove(subject)
        table.set(subject, 9, 9, 1)
    assert table.memory == memory
    table.clear()
    assert len(table) == 0
    assert table.get(b"orders.1.new") is None


def test_a_subject_takes_at_most_96_bytes_and_its_text():
    table = SubjectTable()
    for n in (1, 10, 100, 1000, 10000, 50000, 100000):
        for i in range(len(table), n):
            table.set(b"%08d" % i, 1, 1, 1)
        assert table.memory <= n * (96 + 8) + 1100000
