"""Cron expressions: when they match next, also where clocks are changed."""

from __future__ import annotations

import pytest

from natsc.jetstream.cron import CronError, next_match
from natsc.jetstream.gotime import format_time, parse_time
from natsc.jetstream.schedules import zone_of

NOW = "2026-11-24T16:30:12.5Z"  # a Tuesday


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("* * * * * *", "2026-11-24T16:30:13Z"),
        ("12 30 16 * * *", "2026-11-25T16:30:12Z"),
        ("0 */15 * * * *", "2026-11-24T16:45:00Z"),
        ("5/20 * * * * *", "2026-11-24T16:30:25Z"),
        ("30 5 4 1 jan *", "2027-01-01T04:05:30Z"),
        ("0 0 0 29 2 *", "2028-02-29T00:00:00Z"),
        ("0 0 9 * * sat,SUN", "2026-11-28T09:00:00Z"),
        ("0 0 0 13 * fri", "2026-11-27T00:00:00Z"),  # either day will do
        ("0 0 0 13 * *", "2026-12-13T00:00:00Z"),
        ("0 0 0 */2 * mon", "2026-11-25T00:00:00Z"),  # a step is no longer "any" day
        ("0 0 0 */5 * wed", "2026-11-25T00:00:00Z"),
        ("0 59 23 31 12 ?", "2026-12-31T23:59:00Z"),
    ],
)
def test_the_next_time(expression: str, wanted: str) -> None:
    assert format_time(next_match(expression, None, parse_time(NOW).ns)) == wanted


@pytest.mark.parametrize(
    "expression",
    ["", "* * * * *", "* * * * * * *", "60 * * * * *", "* * * 0 * *", "* * * * * 7", "0 0 0 30 2 *", ", * * * * *",
     "1-2-3 * * * * *", "1/2/3 * * * * *", "*/0 * * * * *", "5-1 * * * * *", "x * * * * *", "-1 * * * * *"],
)  # fmt: skip
def test_what_never_matches(expression: str) -> None:
    with pytest.raises(CronError):
        next_match(expression, None, parse_time(NOW).ns)


@pytest.mark.parametrize(
    ("expression", "zone", "since", "wanted"),
    [
        ("0 0 9 * * *", "Europe/Berlin", NOW, "2026-11-25T08:00:00Z"),
        ("0 0 9 * * *", "America/New_York", NOW, "2026-11-25T14:00:00Z"),
        ("0 30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00Z", "2027-03-29T00:30:00Z"),  # no 02:30 on that day
        ("0 30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),  # the first of two
        ("0 0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", "2018-11-05T02:00:00Z"),  # no midnight
    ],
)
def test_time_zones(expression: str, zone: str, since: str, wanted: str) -> None:
    assert format_time(next_match(expression, zone_of(zone), parse_time(since).ns)) == wanted
