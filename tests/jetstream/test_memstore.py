"""Memory storage, against a dict."""

import pytest
from hypothesis import given, settings

from natsc.jetstream.memstore import MemStore

from .storemodel import Model, apply, compare, operations


@settings(max_examples=150, deadline=None)
@given(operations)
def test_like_a_dict(ops):
    store, model = MemStore(), Model(is_file=False)
    for clock, op in enumerate(ops, 1):
        if op[0] not in ("commit", "reopen"):
            apply(store, model, op, clock)
            assert store.state_dict() == model.state_dict()
    compare(store, model)


def test_bytes_are_accounted_as_in_nats_server():
    store = MemStore()
    store.append_bytes(b"abc", b"12345")
    assert store.bytes == 16 + 3 + 5
    store.append_bytes(b"abc", b"12345", b"NATS/1.0\r\n\r\n")
    assert store.bytes == 2 * 24 + 12


def test_a_sequence_never_goes_back():
    store = MemStore()
    store.append_bytes(b"a", b"")
    store.purge()
    assert store.append_bytes(b"a", b"") == 2
    with pytest.raises(OSError, match="not above"):
        store.append_bytes(b"a", b"", seq=2)
    assert store.state_dict()["msgs"] == 1


def test_a_search_stops_at_its_budget():
    store = MemStore()
    for i in range(100):
        store.append_bytes(b"a.%d" % i, b"")
    assert store.next_bytes(1, b"*.50", budget=20) == (None, 21)
    assert store.next_bytes(41, b"*.50", budget=20)[0][0] == 51
    assert store.next_bytes(90, b"*.50", budget=20) == (None, 101)


def test_the_first_of_a_subject_is_found_again():
    store = MemStore()
    for i in range(3000):
        store.append_bytes(b"a.%d" % (i % 3), b"")
    store.remove_seq(1)
    store.remove_seq(1501)
    store.remove_seq(3000)
    assert store.subjects_state() == {b"a.0": (4, 2998, 998), b"a.1": (2, 2999, 1000), b"a.2": (3, 2997, 999)}


def test_a_long_stream_with_few_left():
    store = MemStore()
    for i in range(3000):
        store.append_bytes(b"a", b"%d" % i)
    for seq in range(1, 3001):
        if seq % 1000:
            store.remove_seq(seq)
    assert [store.next_bytes(seq)[0][0] for seq in (1, 1001, 2001)] == [1000, 2000, 3000]
    assert store.state_dict()["num_deleted"] == 2001 - 3


def test_a_closed_store_takes_nothing():
    store = MemStore()
    store.append_bytes(b"a", b"")
    store.close()
    with pytest.raises(OSError, match="closed"):
        store.append_bytes(b"a", b"")
    assert store.get_bytes(1) is None


SIDES = 5000


@pytest.mark.parametrize(
    "subjects",
    [[b"a.0", b"a.1"], [b"a.%d" % n for n in range(50)], [b"%c.%d" % (97 + n % 3, n) for n in range(1000)]],
    ids=["few", "some", "many"],
)
@pytest.mark.parametrize("removed", [0, 3, 500])
def test_what_is_pending_from_a_sequence_on(subjects, removed):
    store, model = MemStore(), Model(is_file=False)
    for number in range(2 * SIDES):
        for each in (store, model):
            each.append_bytes(subjects[number % len(subjects)], b"")
    for number in range(removed):
        for each in (store, model):
            each.remove_seq(1 + number * 7919 % (2 * SIDES))
    for patterns in ([b"a.>"], [b"*.1"], [b"a.1"], [b"a.1", b"a.2"], [b"a.1", b"b.>"], [b"a.1", b"c.2", b"zz"]):
        for seq in (0, 1, 2, SIDES // 4, SIDES, 2 * SIDES - 9, 2 * SIDES, 2 * SIDES + 1, 3 * SIDES):
            assert store.pending(seq, patterns) == model.pending(seq, patterns), (patterns, seq)
