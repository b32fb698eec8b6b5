"""Points in time as JetStream's JSON carries them: RFC 3339 with up to nine decimals, of the years 0 to 9999.

Wall clock times are ints, nanoseconds since 1970 in UTC. A time that a client sent keeps its offset from UTC, for it is
sent back as it came; ZERO is Go's zero time, which stands for "never".
"""

from __future__ import annotations

import re

from natsc.config.gotext import GoError

_NS = 1_000_000_000
_DAY = 86_400
ZERO = -62_135_596_800 * _NS  # 0001-01-01T00:00:00Z

_LAYOUT = "2006-01-02T15:04:05Z07:00"
# (what it matches, its name in the layout), in order; a fraction may follow the seconds. As loose as the reference: an
# hour of one digit and a comma in the fraction pass.
_STEPS = (
    (re.compile(r"\d{4}"), "2006"), (re.compile("-"), "-"), (re.compile(r"\d\d"), "01"), (re.compile("-"), "-"),
    (re.compile(r"\d\d"), "02"), (re.compile("T"), "T"), (re.compile(r"\d\d?"), "15"), (re.compile(":"), ":"),
    (re.compile(r"\d\d"), "04"), (re.compile(":"), ":"), (re.compile(r"\d\d(?:[.,]\d+)?"), "05"),
    (re.compile(r"Z|[+-]\d\d:\d\d"), "Z07:00"),
)  # fmt: skip
_RANGES = {"01": (1, 12, "month"), "15": (0, 23, "hour"), "04": (0, 59, "minute"), "05": (0, 59, "second")}


class Time:
    """A point in time and the offset from UTC, in minutes, that it is shown with."""

    __slots__ = ("ns", "offset")

    def __init__(self, ns: int, offset: int = 0) -> None:
        self.ns = ns
        self.offset = offset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Time) and self.ns == other.ns and self.offset == other.offset

    def __hash__(self) -> int:
        return hash((self.ns, self.offset))

    def __str__(self) -> str:
        return format_time(self.ns, self.offset)

    def __repr__(self) -> str:
        return f"Time({self})"

    def utc(self) -> Time:
        return Time(self.ns)

    @property
    def is_zero(self) -> bool:
        return self.ns == ZERO


def format_time(ns: int, offset: int = 0) -> str:
    """`ns` at `offset` minutes east of UTC."""
    seconds, fraction = divmod(ns, _NS)
    days, rest = divmod(seconds + offset * 60, _DAY)
    year, month, day = civil(days)
    text = f"{year:04d}-{month:02d}-{day:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    if not offset:
        return text + "Z"
    minutes = abs(offset)
    return f"{text}{'-' if offset < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"


def parse_time(text: str) -> Time:
    """The time that `text` says; GoError with Go's text when it says none."""
    parts = []
    at = 0
    for pattern, name in _STEPS:
        found = pattern.match(text, at)
        if found is None:
            raise _wrong(text, f'cannot parse {_quoted(text[at:])} as "{name}"')
        parts.append(found[0])
        at = found.end()
        if name in _RANGES:
            low, high, spoken = _RANGES[name]
            if not low <= int(found[0][:2]) <= high:
                raise _wrong(text, f"{spoken} out of range")
    if at != len(text):
        raise _wrong(text, f"extra text: {_quoted(text[at:])}")
    year, month, day, hour, minute = (int(parts[index]) for index in (0, 2, 4, 6, 8))
    second = int(parts[10][:2])
    if not 1 <= day <= _month_days(year, month):
        raise _wrong(text, "day out of range")
    offset = _offset(text, parts[11])
    seconds = days_of(year, month, day) * _DAY + hour * 3600 + minute * 60 + second - offset * 60
    return Time(seconds * _NS + int(parts[10][3:12].ljust(9, "0")), offset)


def _offset(text: str, zone: str) -> int:
    if zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 24:
        raise _wrong(text, "time zone offset hour out of range")
    if minutes > 60:
        raise _wrong(text, "time zone offset minute out of range")
    total = hours * 60 + minutes
    return -total if zone[0] == "-" else total


def _wrong(text: str, why: str) -> GoError:
    within = f' as "{_LAYOUT}"' if why.startswith("cannot") else ""
    return GoError(f"parsing time {_quoted(text)}{within}: {why}")


def _quoted(text: str) -> str:
    """As package time quotes: control characters, and what isn't ASCII byte by byte."""
    shown = []
    for byte in text.encode():
        if byte in b'"\\':
            shown.append(f"\\{byte:c}")
        else:
            shown.append(chr(byte) if 0x20 <= byte < 0x80 else f"\\x{byte:02x}")
    return '"' + "".join(shown) + '"'


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _month_days(year: int, month: int) -> int:
    return 29 if month == 2 and _is_leap(year) else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def days_of(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date of the Gregorian calendar, carried on into the past."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def civil(days: int) -> tuple[int, int, int]:
    """The inverse of days_of."""
    era, of_era = divmod(days + 719_468, 146_097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + (3 if shifted < 10 else -9)
    return year_of_era + era * 400 + (month <= 2), month, day
