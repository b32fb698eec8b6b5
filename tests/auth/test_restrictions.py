"""Networks and times of the day."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from natsc.auth import restrictions
from natsc.auth.jwt import UserLimits

HOUR = 3600 * 1_000_000_000


def at(time: str, zone: str = "UTC") -> int:
    """Wall clock ns at that time of a day in summer."""
    moment = datetime.fromisoformat(f"2026-07-01T{time}").replace(tzinfo=UTC if zone == "UTC" else ZoneInfo(zone))
    return int(moment.timestamp()) * 1_000_000_000


def limits(*spans: tuple[str, str], zone: str = "UTC", src: tuple[str, ...] = ()) -> UserLimits:
    times = [{"start": start, "end": end} for start, end in spans]
    return UserLimits({"times": times, "times_location": zone, "src": list(src)})


@pytest.mark.parametrize(
    ("spans", "now", "left"),
    [
        ([], "12:00:00", 0),
        ([("11:00:00", "22:00:00")], "13:00:00", 9 * HOUR),
        ([("11:00:00", "22:00:00")], "10:59:59", None),
        ([("11:00:00", "22:00:00")], "11:00:00", None),
        ([("11:00:00", "22:00:00")], "22:00:00", None),
        ([("22:00:00", "06:00:00")], "05:00:00", HOUR),
        ([("22:00:00", "06:00:00")], "23:00:00", 7 * HOUR),
        ([("22:00:00", "06:00:00")], "12:00:00", None),
        ([("11:00:00", "14:00:00"), ("12:00:00", "20:00:00")], "13:00:00", 7 * HOUR),
        ([("12:00:00", "12:00:00")], "12:00:00", None),
    ],
)
def test_times(spans: list[tuple[str, str]], now: str, left: int | None) -> None:
    assert restrictions.may_come_now(limits(*spans), at(now)) == left


def test_times_of_a_place() -> None:
    assert restrictions.may_come_now(limits(("08:00:00", "09:00:00"), zone="Asia/Tokyo"), at("23:30:00")) == HOUR // 2


@pytest.mark.parametrize("zone", ["Nowhere", "../../etc/passwd", "/etc/passwd", "\0"])
def test_places_that_are_none(zone: str) -> None:
    assert restrictions.zone(zone) is None
    assert restrictions.may_come_now(limits(("00:00:00", "23:59:59"), zone=zone), at("12:00:00")) is None


@pytest.mark.parametrize(
    "text", ["", "1", "24:00:00", "12:60:00", "12:00:60", "12:0:0", "-1:00:00", "１2:00:00", "001:00:00"]
)
def test_what_is_no_time(text: str) -> None:
    assert restrictions.time_of_day(text) is None


@pytest.mark.parametrize(
    ("src", "host", "may"),
    [
        ((), "not even an address", True),
        (("10.0.0.0/8",), "10.1.2.3", True),
        (("10.0.0.0/8",), "11.1.2.3", False),
        (("10.1.2.3/8",), "10.9.9.9", True),
        (("10.0.0.0/8", "192.168.0.0/16"), "192.168.1.1", True),
        (("2001:db8::/32",), "2001:db8::1", True),
        (("2001:db8::/32",), "10.0.0.1", False),
        (("10.0.0.0/8",), "::ffff:10.0.0.1", True),
        (("10.0.0.0/8",), "", False),
        (("0.0.0.0/0",), "nowhere", False),
        (("x", "10.0.0.0/8"), "10.0.0.1", False),
    ],
)
def test_networks(src: tuple[str, ...], host: str, may: bool) -> None:
    assert restrictions.may_come_from(limits(src=src), host) is may


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "10.0.0.0/33", "10.0.0/8", "/8", "10.0.0.0/", "10.0.0.0/8/8", "10.0.0.0/-1", "x"]
)
def test_what_is_no_network(text: str) -> None:
    assert restrictions.network(text) is None
