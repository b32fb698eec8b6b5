"""Cron expressions of six fields, seconds first: when one matches next.

Times are ns since 1970 in UTC. A zone says how many seconds east of UTC it is at a point in time; None is UTC itself.
Where a clock change makes a local time happen twice, or never, the same point in time is chosen as nats-server does.
"""

from __future__ import annotations

from natsc.config.gotext import GoError, atoi
from natsc.jetstream.gotime import civil, days_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Zone = Callable[[int], int] | None
    Test = Callable[["_Local"], bool]
    Field = tuple[int, bool]  # a bit for every value that matches; whether it says "any"

_NS = 1_000_000_000
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_YEARS = 5  # one that matches nothing for longer is refused
_MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_WEEK = {name: number for number, name in enumerate("sun mon tue wed thu fri sat".split())}
# (least, most, names) of every field, in order.
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}), (0, 59, {}), (0, 23, {}), (1, 31, {}), (1, 12, _MONTHS), (0, 6, _WEEK),
)  # fmt: skip


class CronError(Exception):
    """Not a cron expression, or one that never matches."""


class _Local:
    """A point in time, whole seconds, taken apart in a zone."""

    __slots__ = ("day", "hour", "minute", "month", "second", "time", "weekday", "year", "zone")

    def __init__(self, time: int, zone: Zone) -> None:
        self.time, self.zone = time, zone
        days, rest = divmod(time + (zone(time) if zone else 0), _DAY)
        self.year, self.month, self.day = civil(days)
        self.hour, rest = divmod(rest, _HOUR)
        self.minute, self.second = divmod(rest, _MINUTE)
        self.weekday = (days + 4) % 7

    def plus(self, seconds: int) -> _Local:
        return _Local(self.time + seconds, self.zone)

    def at(self, year: int, month: int, day: int, hour: int, minute: int, second: int) -> _Local:
        """That local time; a month or a day that is too large runs over into the next."""
        year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
        time = (days_of(year, month, 1) + day - 1) * _DAY + hour * _HOUR + minute * _MINUTE + second
        if self.zone is not None and (offset := self.zone(time)):
            time -= self.zone(time - offset)
        return _Local(time, self.zone)

    def next_month(self) -> _Local:
        return self.at(self.year, self.month + 1, self.day, self.hour, self.minute, self.second)

    def next_day(self) -> _Local:
        return self.at(self.year, self.month, self.day + 1, self.hour, self.minute, self.second)

    def cut(self, unit: int) -> _Local:
        """The begin of this month, day, hour, minute or second."""
        if unit <= _MINUTE:
            return _Local(self.time - self.time % unit, self.zone)
        if unit == _HOUR:
            return self.at(self.year, self.month, self.day, self.hour, 0, 0)
        return self.at(self.year, self.month, self.day if unit == _DAY else 1, 0, 0, 0)


def next_match(expression: str, zone: Zone, after: int) -> int:
    """The first time behind `after` that matches. Raises CronError."""
    texts = expression.split()
    if len(texts) != len(_FIELDS):
        raise CronError(f"{len(texts)} fields")
    fields = [_field(text, *bounds) for text, bounds in zip(texts, _FIELDS, strict=True)]
    if not all(bits for bits, _ in fields):
        raise CronError("never")
    return _search(fields, _Local(after // _NS + 1, zone)).time * _NS


def _search(fields: list[Field], now: _Local) -> _Local:
    """From the month down to the second: move on until it matches, and begin again where that wraps around."""
    (second, _), (minute, _), (hour, _), day, (month, _), weekday = fields
    # (does the field match, what is cut off before it moves, how it moves, has it wrapped around)
    units: tuple[tuple[Test, int, Callable[[_Local], _Local], Test], ...] = (
        (lambda t: bool(month >> t.month & 1), 31 * _DAY, _Local.next_month, lambda t: t.month == 1),
        (lambda t: _is_day(day, weekday, t), _DAY, _Local.next_day, lambda t: t.day == 1),
        (lambda t: bool(hour >> t.hour & 1), _HOUR, lambda t: t.plus(_HOUR), lambda t: t.hour == 0),
        (lambda t: bool(minute >> t.minute & 1), _MINUTE, lambda t: t.plus(_MINUTE), lambda t: t.minute == 0),
        (lambda t: bool(second >> t.second & 1), 1, lambda t: t.plus(1), lambda t: t.second == 0),
    )
    year_max = now.year + _YEARS
    cut = False  # what is cut off once stays so
    while now.year <= year_max:
        wrapped = False
        for matches, unit, move, has_wrapped in units:
            while not wrapped and not matches(now):
                now, cut = move(now if cut else now.cut(unit)), True
                wrapped = has_wrapped(now)
        if not wrapped:
            return now
    raise CronError("never")


def _is_day(day: Field, weekday: Field, now: _Local) -> bool:
    """Both must match where one of them is "any", else one is enough."""
    in_month, in_week = bool(day[0] >> now.day & 1), bool(weekday[0] >> now.weekday & 1)
    return in_month and in_week if day[1] or weekday[1] else in_month or in_week


def _field(text: str, least: int, most: int, names: dict[str, int]) -> Field:
    bits, is_any = 0, False
    for part in text.split(","):
        if part:
            more, every = _range(part, least, most, names)
            bits |= more
            is_any = is_any or every
    return bits, is_any


def _range(text: str, least: int, most: int, names: dict[str, int]) -> Field:
    """N, N-M, * or ?, each perhaps with /STEP; N/STEP goes on to the end."""
    span, *steps = text.split("/")
    start, *ends = span.split("-")
    every = start in ("*", "?")
    first, last = least, most
    if not every:
        first = _number(start, names)
        last = _number(ends[0], names) if ends else most if steps else first
        if len(ends) > 1:
            raise CronError(text)
    step = _number(steps[0], {}) if steps else 1
    if len(steps) > 1 or not least <= first <= last <= most or step == 0:
        raise CronError(text)
    return sum(1 << value for value in range(first, last + 1, step)), every and step == 1


def _number(text: str, names: dict[str, int]) -> int:
    named = names.get(text.lower())
    if named is not None:
        return named
    try:
        number = atoi(text)
    except GoError:
        raise CronError(text) from None
    if number < 0:
        raise CronError(text)
    return number
