"""Message schedules: messages that say when, and on which subject, a copy of them is to be stored.

The last message of a subject is its schedule, or it has none. What is due is stored as if it had been published, with
headers that say who made it and when the next one comes; a schedule that is over goes with its last copy.

When a schedule fires next can be read from the messages: from its own, and from the last copy. Copies go (acknowledged,
limits), so in file streams the time is also kept, in the batch that stores the copy.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from natsc.config.gotext import GoError, parse_duration
from natsc.config.subject_mapping import collide
from natsc.config.subjects import is_valid_literal
from natsc.jetstream import api_errors as errors
from natsc.jetstream import rare
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.api_request import header
from natsc.jetstream.cron import CronError, next_match
from natsc.jetstream.gotime import ZERO, format_time, parse_time
from natsc.jetstream.stream_config import FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.clock import Timer
    from natsc.jetstream.cron import Zone
    from natsc.jetstream.streams import ManagedStream

PREFIX = b"\r\nNats-Schedule"
SCHEDULE, NEXT, SCHEDULER = "Nats-Schedule", "Nats-Schedule-Next", "Nats-Scheduler"
PURGE = "purge"
_KEY = b"schedule/"
_SECOND = 1_000_000_000
_SOONEST = 250_000_000  # between two rounds of what is due
_ROUND = 1000  # schedules that fire in one; the next one comes at once where there may be more
_PREDEFINED = {
    "@yearly": "0 0 0 1 1 *", "@annually": "0 0 0 1 1 *", "@monthly": "0 0 0 1 * *", "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *", "@hourly": "0 0 * * * *",
}  # fmt: skip
_NOT_COPIED = (b"Nats-Msg-Id:", b"Nats-TTL:", b"Nats-Rollup:")
_NOT_COPIED_PREFIXES = (b"Nats-Schedule", b"Nats-Expected-")


class Plan:
    """When a schedule fires next; `text` is that time as it is told to others."""

    __slots__ = ("repeats", "text", "time")

    def __init__(self, time: int, repeats: bool, zone: Zone = None) -> None:
        self.time = time
        self.repeats = repeats
        self.text = format_time(time, zone(time // _SECOND) // 60 if zone else 0)


def zone_of(name: str) -> Zone:
    """The time zone of that name. Raises ApiError."""
    from datetime import datetime
    from time import localtime
    from zoneinfo import ZoneInfo

    if name == "UTC":
        return None
    if name == "Local":
        return lambda time: localtime(time).tm_gmtoff
    try:
        if ".." in name or name.startswith("\\"):
            raise ValueError(name)
        zone = ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ApiError(errors.MESSAGE_SCHEDULES_TIME_ZONE_INVALID) from None

    def offset(time: int) -> int:
        return round(datetime.fromtimestamp(time, zone).utcoffset().total_seconds())  # type: ignore[union-attr]

    return offset


def plan_of(headers: bytes, since: int, now: int) -> Plan | None:
    """When what `headers` schedule fires next, behind `since`; None without a schedule. Raises ApiError.

    Times that are over (before `now`) are passed over, all but one time given with @at.
    """
    zone_name = header(headers, "Nats-Schedule-Time-Zone")
    zone = None
    if zone_name is not None:
        if not zone_name:
            raise ApiError(errors.MESSAGE_SCHEDULES_TIME_ZONE_INVALID)
        zone = zone_of(zone_name)
    pattern = header(headers, SCHEDULE)
    if not pattern:
        return None
    try:
        plan = _plan(pattern, zone_name is not None, zone, since, now)
    except (CronError, GoError, UnicodeError):
        raise ApiError(errors.MESSAGE_SCHEDULES_PATTERN_INVALID) from None
    return plan if plan.time != ZERO else None


def _plan(pattern: str, has_zone: bool, zone: Zone, since: int, now: int) -> Plan:
    kind, _, value = pattern.partition(" ")
    if kind in ("@at", "@every") and value:
        if has_zone:
            raise CronError("these have no time zone")
        if kind == "@at":
            return Plan(parse_time(value).ns, False)
        every = parse_duration(value)
        if every < _SECOND:
            raise CronError("too often")
        time = _rounded(since) + every
        return Plan(time if time >= now else _rounded(now) + every, True)
    expression = _PREDEFINED.get(pattern, pattern)
    time = next_match(expression, zone, since)
    return Plan(time if time >= now else next_match(expression, zone, _rounded(now)), True, zone)


def _rounded(time: int) -> int:
    return (time + _SECOND // 2) // _SECOND * _SECOND


def checked(stream: ManagedStream, subject: bytes, headers: bytes, written: dict[bytes, bool]) -> bytes:
    """The headers that a message is stored with. Raises ApiError.

    `written`: of subjects that messages before it in a batch are on, whether the last one is a schedule.
    """
    now = stream.owner.now()
    try:
        plan = plan_of(headers, now, now)
    except ApiError:
        if stream.config.allow_msg_schedules:
            raise
        raise ApiError(errors.MESSAGE_SCHEDULES_DISABLED) from None
    if plan is not None:
        _check_schedule(stream, _text(subject), headers)
        rollup = (header(headers, "Nats-Rollup") or "").lower()
        if rollup not in ("", "sub"):
            raise ApiError(errors.MESSAGE_SCHEDULES_ROLLUP_INVALID)
        if not rollup:
            headers = rare.with_header(headers, "Nats-Rollup", "sub")
    _check_end(stream, subject, headers, written)
    return headers


def _check_schedule(stream: ManagedStream, subject: str, headers: bytes) -> None:
    config = stream.config
    if not config.allow_msg_schedules:
        raise ApiError(errors.MESSAGE_SCHEDULES_DISABLED)
    ttl = header(headers, "Nats-Schedule-TTL")
    if ttl and rare.parse_ttl(ttl) == rare.INVALID:
        raise ApiError(errors.MESSAGE_SCHEDULES_TTL_INVALID)
    if header(headers, "Nats-Schedule-Rollup") not in (None, "", "sub"):
        raise ApiError(errors.MESSAGE_SCHEDULES_ROLLUP_INVALID)
    if ttl and not config.allow_msg_ttl:
        raise ApiError(errors.MESSAGE_TTL_DISABLED)
    target = header(headers, "Nats-Schedule-Target") or ""
    if not is_valid_literal(target) or target == subject:
        raise ApiError(errors.MESSAGE_SCHEDULES_TARGET_INVALID)
    source = header(headers, "Nats-Schedule-Source") or ""
    if source and (source in (target, subject) or not is_valid_literal(source)):
        raise ApiError(errors.MESSAGE_SCHEDULES_SOURCE_INVALID)
    if not any(collide(own, target) for own in config.subjects):
        raise ApiError(errors.MESSAGE_SCHEDULES_TARGET_INVALID)
    if source and not any(collide(own, source) for own in config.subjects):
        raise ApiError(errors.MESSAGE_SCHEDULES_SOURCE_INVALID)


def _check_end(stream: ManagedStream, subject: bytes, headers: bytes, written: dict[bytes, bool]) -> None:
    """A client names a schedule only to end it."""
    following, scheduler = header(headers, NEXT), header(headers, SCHEDULER)
    if not following and not scheduler:
        return
    if following != PURGE or not scheduler or scheduler == _text(subject) or not is_valid_literal(scheduler):
        raise ApiError(errors.MESSAGE_SCHEDULES_SCHEDULER_INVALID)
    if not stream.config.allow_msg_schedules:
        raise ApiError(errors.MESSAGE_SCHEDULES_DISABLED)
    name = _raw(scheduler)
    is_schedule = written.get(name)
    if is_schedule is None:
        last = stream.last_message(scheduler)
        is_schedule = last is None or bool(header(last.headers, SCHEDULE))
    if not is_schedule:
        raise ApiError(errors.MESSAGE_SCHEDULES_SCHEDULER_INVALID)


def ended_by(headers: bytes) -> bytes | None:
    """The subject of the schedule that a message ends."""
    scheduler = header(headers, SCHEDULER)
    return _raw(scheduler) if scheduler and header(headers, NEXT) == PURGE else None


class Entry:
    """The schedule of a subject: its message, and when it fires next. `kept`: that time is in the store."""

    __slots__ = ("kept", "seq", "when")

    def __init__(self, seq: int, when: int) -> None:
        self.seq = seq
        self.when = when
        self.kept = False


class Schedules:
    """The schedules of a stream.

    Entries whose message is gone stay until they are due. The queue may have times that no entry has any more, and an
    entry's more than once.
    """

    def __init__(self, stream: ManagedStream) -> None:
        self.stream = stream
        self.by_subject: dict[bytes, Entry] = {}
        self._queue: list[tuple[int, int, bytes]] = []  # (when, sequence, subject), a heap
        self._timer: Timer | None = None
        self._fires_at = 0
        self._started = False  # nothing fires in a stream that isn't there yet (it is read, or being restored)

    def start(self) -> None:
        self._started = True
        self._arm()

    def take(self, subject: bytes, headers: bytes, seq: int, time: int) -> None:
        """A message was stored, or left out because nobody is interested in it, or was found in the store."""
        following, scheduler = header(headers, NEXT), header(headers, SCHEDULER)
        if self.stream.message(seq) is not None:
            self._note(subject, headers, seq, time)
            if scheduler and following and following != PURGE and _raw(scheduler) in self.by_subject:
                try:
                    self._move(_raw(scheduler), parse_time(following).ns)
                except (GoError, UnicodeError):
                    return  # it says nothing of when
        ended = ended_by(headers)
        if ended is not None:
            self.stream.purge_before(ended, seq)

    def _note(self, subject: bytes, headers: bytes, seq: int, time: int) -> None:
        """A message is the last one of its subject now."""
        try:
            plan = plan_of(headers, time, time)
        except ApiError:
            plan = None
        if plan is not None:
            self._drop(subject)
            self.by_subject[subject] = Entry(seq, plan.time)
            self._wait(subject)
        elif not header(headers, SCHEDULER):
            self._drop(subject)

    def load(self) -> None:
        """What is kept of when they fire next, where the messages don't say it any more."""
        if not self._is_kept:
            return
        by_seq = {entry.seq: subject for subject, entry in self.by_subject.items()}
        for key, value in self.stream.store.consumer_items(_KEY):
            subject = by_seq.get(int(key[len(_KEY) :]))
            if subject is None:
                self.stream.store.consumer_delete_bytes(key)
                continue
            entry = self.by_subject[subject]
            entry.when, entry.kept = int(value), True
            self._wait(subject)

    @property
    def _is_kept(self) -> bool:
        return bool(self.stream.config.storage == FILE)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _move(self, subject: bytes, when: int) -> None:
        """Fires next at that time."""
        entry, store = self.by_subject[subject], self.stream.store
        entry.when = when
        if self._is_kept:
            entry.kept = True
            store.consumer_put_bytes(_KEY + b"%d" % entry.seq, b"%d" % when)
        self._wait(subject)

    def _drop(self, subject: bytes) -> None:
        entry = self.by_subject.pop(subject, None)
        if entry is not None and entry.kept:
            self.stream.store.consumer_delete_bytes(_KEY + b"%d" % entry.seq)

    def _wait(self, subject: bytes) -> None:
        entry = self.by_subject[subject]
        if len(self._queue) > 2 * len(self.by_subject) + 64:
            self._queue = [(each.when, each.seq, name) for name, each in self.by_subject.items()]
            heapify(self._queue)
        else:
            heappush(self._queue, (entry.when, entry.seq, subject))
        self._arm()

    def _arm(self) -> None:
        """Have what is due looked at when the first one is, but not too often."""
        if not self._queue or not self._started:
            return
        clock = self.stream.owner.clock
        now = clock.wall_ns()
        when = max(self._queue[0][0], now + _SOONEST)
        if self._timer is not None:
            if when >= self._fires_at:
                return
            self._timer.cancel()
        self._fires_at = when
        self._timer = clock.call_later((when - now) / _SECOND, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self.stream.owner.now()
        due: set[tuple[int, bytes]] = set()
        while self._queue and self._queue[0][0] <= now and len(due) < _ROUND:
            when, seq, subject = heappop(self._queue)
            entry = self.by_subject.get(subject)
            if entry is not None and (entry.when, entry.seq) == (when, seq):
                due.add((seq, subject))
        # All are made before the first one is stored: none has another one's copy as its source.
        copies = [(seq, subject, self._copy(subject, now)) for seq, subject in sorted(due)]
        for seq, subject, copy in copies:
            self._store(seq, subject, copy)
        if len(due) == _ROUND:
            self.close()
            self._fires_at = now
            self._timer = self.stream.owner.clock.call_later(0, self._fire)
        else:
            self._arm()
        self.stream.outbox.end_soon()
        self.stream.engine.end_turn()

    def _store(self, seq: int, subject: bytes, copy: tuple[bytes, bytes, bytes, Plan] | None) -> None:
        """Stores a copy; None: the schedule's message is gone, or is none any more."""
        if copy is None:
            self._drop(subject)
            return
        target, headers, body, plan = copy
        entry = self.by_subject.get(subject)
        when = entry.when if entry is not None else 0
        self.stream.store_copy(target, headers, body)
        entry = self.by_subject.get(subject)
        if entry is None or entry.seq != seq or entry.when != when:
            return
        # Nobody is interested in it, or a limit has refused it: there is no copy that says when the next one comes.
        if plan.repeats:
            self._move(subject, plan.time)
        else:
            self._drop(subject)

    def _copy(self, subject: bytes, now: int) -> tuple[bytes, bytes, bytes, Plan] | None:
        """(subject, headers, body) of what a schedule that is due stores, and when it does so next."""
        entry = self.by_subject[subject]
        message = self.stream.message(entry.seq)
        if message is None:
            return None
        try:
            plan = plan_of(message.headers, entry.when, now)
        except ApiError:
            return None
        ttl, target = header(message.headers, "Nats-Schedule-TTL"), header(message.headers, "Nats-Schedule-Target")
        if plan is None or not target or (ttl and rare.parse_ttl(ttl) == rare.INVALID):
            return None
        rollup = header(message.headers, "Nats-Schedule-Rollup")
        source = header(message.headers, "Nats-Schedule-Source")
        if source:
            message = self.stream.last_message(source) or message
        more = {SCHEDULER: _text(subject), NEXT: plan.text if plan.repeats else PURGE}
        if ttl:
            more["Nats-TTL"] = ttl
        if rollup:
            more["Nats-Rollup"] = rollup
        headers = _copied(message.headers)
        for name, value in more.items():
            headers = rare.with_header(headers, name, value)
        return _raw(target), headers, message.data, plan


def _copied(headers: bytes) -> bytes:
    """Without what is said of a schedule, and what could keep a copy from being stored."""
    line, *fields = headers.split(b"\r\n")[:-2] if headers else [b"NATS/1.0"]
    kept = [field for field in fields if not field.startswith(_NOT_COPIED + _NOT_COPIED_PREFIXES)]
    return b"\r\n".join([line, *kept, b"", b""])


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
