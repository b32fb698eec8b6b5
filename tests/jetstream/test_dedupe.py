"""The window of message ids against a dict."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from natsc.jetstream.dedupe import Window


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), st.booleans()), max_size=300))
def test_it_knows_what_a_dict_knows(steps: list[tuple[int, int, bool]]) -> None:
    window, model = Window(), {}
    now = 0
    for seq, (number, passed, long) in enumerate(steps, 1):
        now += passed
        window.expire(now - 20)
        model = {id: (at, when) for id, (at, when) in model.items() if when > now - 20}
        id = b"id-%d" % number * (40 if long else 1)
        assert window.find(id) == model.get(id, (0, 0))[0]
        if id not in model:
            window.add(id, seq, now)
            model[id] = (seq, now)
        assert len(window) == len(model)


def test_memory_comes_back() -> None:
    window = Window()
    for number in range(10_000):
        window.add(b"%d" % number, number + 1, number)
    window.expire(9_998)
    assert (len(window), window.find(b"9999"), window.find(b"5")) == (1, 10_000, 0)
    window.expire(9_999)
    assert len(window) == 0
    window.add(b"5", 7, 20_000)
    assert window.find(b"5") == 7
