"""Times as text, both ways, against Python's own calendar."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsc.config.gotext import GoError
from natsc.jetstream.gotime import ZERO, Time, format_time, parse_time

SECOND = 1_000_000_000


@given(st.integers(min_value=ZERO // SECOND, max_value=253_402_300_799))
def test_dates_are_those_of_the_calendar(seconds: int) -> None:
    moment = date.fromordinal(719_163 + seconds // 86_400)
    text = format_time(seconds * SECOND)
    assert text.startswith(f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}T")
    assert parse_time(text) == Time(seconds * SECOND)


@given(st.integers(min_value=0, max_value=1 << 62), st.integers(min_value=-720, max_value=840))
def test_what_is_written_is_read_again(ns: int, offset: int) -> None:
    assert parse_time(format_time(ns, offset)) == Time(ns, offset)


@pytest.mark.parametrize(
    ("ns", "offset", "text"),
    [
        (ZERO, 0, "0001-01-01T00:00:00Z"),
        (0, 0, "1970-01-01T00:00:00Z"),
        (1, 0, "1970-01-01T00:00:00.000000001Z"),
        (1_500_000_000, 0, "1970-01-01T00:00:01.5Z"),
        (0, 90, "1970-01-01T01:30:00+01:30"),
        (0, -90, "1969-12-31T22:30:00-01:30"),
    ],
)
def test_texts(ns: int, offset: int, text: str) -> None:
    assert format_time(ns, offset) == text
    assert parse_time(text) == Time(ns, offset)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x", 'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"'),
        ("2020-13-01T00:00:00Z", 'parsing time "2020-13-01T00:00:00Z": month out of range'),
        ("2021-02-29T00:00:00Z", 'parsing time "2021-02-29T00:00:00Z": day out of range'),
        ("2020-02-29T00:00:00Zx", 'parsing time "2020-02-29T00:00:00Zx": extra text: "x"'),
    ],
)
def test_what_is_no_time(text: str, why: str) -> None:
    with pytest.raises(GoError) as caught:
        parse_time(text)
    assert str(caught.value) == why


def test_leap_days() -> None:
    assert str(parse_time("2020-02-29T00:00:00Z")) == "2020-02-29T00:00:00Z"


def test_in_utc() -> None:
    assert str(parse_time("2020-01-01T00:00:00+02:00").utc()) == "2019-12-31T22:00:00Z"
