"""From where and when a user of a JWT may connect: source networks, and spans of the day."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import tzinfo
    from ipaddress import IPv4Network, IPv6Network

    from natsc.auth.jwt import UserLimits

_SECOND = 1_000_000_000
_DAY = 24 * 60 * 60


def network(cidr: str) -> IPv4Network | IPv6Network | None:
    """The network of "address/length"; None where the text is none."""
    import ipaddress

    address, slash, length = cidr.partition("/")
    if not slash or not length.isascii() or not length.isdigit() or "%" in address:
        return None
    try:
        return ipaddress.ip_network(cidr, strict=False)
    except ValueError:
        return None


def may_come_from(limits: UserLimits, host: str) -> bool:
    """Whether a peer at this address is in one of the networks, where there are any."""
    if not limits.src:
        return True
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    for cidr in limits.src:
        found = network(cidr)
        if found is None:
            return False
        if (mapped or address) in found:
            return True
    return False


def time_of_day(text: str) -> int | None:
    """Seconds since midnight of "15:04:05"; None where the text is no time."""
    parts = text.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    hours, minutes, seconds = map(int, parts)
    # Go takes an hour of one digit, minutes and seconds of two.
    if len(parts[0]) > 2 or len(parts[1]) != 2 or len(parts[2]) != 2 or hours > 23 or minutes > 59 or seconds > 59:
        return None
    return hours * 3600 + minutes * 60 + seconds


def zone(name: str) -> tzinfo | None:
    """A time zone by its IANA name; None where there is none."""
    if name == "Local":
        return _local()
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _local() -> tzinfo | None:
    from datetime import datetime

    return datetime.now().astimezone().tzinfo


def may_come_now(limits: UserLimits, now_ns: int) -> int | None:
    """For how long the user may stay, in ns; 0: for ever; None: it may not come now. now_ns: wall clock."""
    if not limits.times:
        return 0
    from datetime import datetime

    where = zone(limits.times_location) if limits.times_location else None
    if limits.times_location and where is None:
        return None
    now = datetime.fromtimestamp(now_ns // _SECOND, where)
    seconds = (now.hour * 3600 + now.minute * 60 + now.second) * _SECOND + now_ns % _SECOND
    longest: int | None = None
    for span in limits.times:
        start, end = time_of_day(span.start), time_of_day(span.end)
        if start is None or end is None:
            return None
        left = _left(start * _SECOND, end * _SECOND, seconds)
        if left is not None and (longest is None or left > longest):
            longest = left
    return longest


def _left(start: int, end: int, now: int) -> int | None:
    """Time until end, where now is between start and end, which may be on the next day."""
    if start < now < end:
        return end - now
    if start > end:
        if now < end:
            return end - now
        if now > start:
            return end + _DAY * _SECOND - now
    return None
