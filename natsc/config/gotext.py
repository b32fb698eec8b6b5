"""Text as Go prints it: %q, %v, %T, durations, floats, JSON.

Operators compare natsc's messages and its configuration digest with nats-server's, so a few of Go's
text rules have to be reproduced. Strings may hold lone surrogates U+DC80..U+DCFF: bytes of the
configuration file that are no UTF-8 (Python's "surrogateescape"); Go sees the bytes themselves.

Everything here is pure: no I/O, no state. Durations are ints in nanoseconds.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)

_ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r",
    "\t": "\\t", "\v": "\\v", "\\": "\\\\", '"': '\\"',
}  # fmt: skip

# Units of time.ParseDuration, in ns. The two micro signs are U+00B5 and U+03BC.
_UNITS = {
    "ns": 1, "us": 1_000, "\u00b5s": 1_000, "\u03bcs": 1_000, "ms": 1_000_000,
    "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip


class GoError(Exception):
    """An error value whose text is what Go's library would have said."""


class Datetime:
    """A configuration value written as YYYY-MM-DDTHH:MM:SSZ (no directive takes one; it must still parse)."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def parse(cls, text: str) -> Datetime | None:
        """`text` has the right shape already; None when a field is out of range."""
        if not text.isascii():
            return None
        year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
        hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
        if not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 59:
            return None
        days = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]
        if month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
            days = 29
        return cls(text) if 1 <= day <= days else None

    def __str__(self) -> str:
        return f"{self.text[:10]} {self.text[11:19]} +0000 UTC"


def quote(text: str) -> str:
    """%q of a string."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    out = []
    for char in text:
        code = ord(char)
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif char.isprintable():
            out.append(char)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def type_name(value: Any) -> str:
    """%T of a configuration value."""
    if value is None:
        return "<nil>"
    kind = _TYPES.get(type(value))
    return kind if kind is not None else "*conf.token"


_TYPES = {
    str: "string", bool: "bool", int: "int64", float: "float64", Datetime: "time.Time",
    dict: "map[string]interface {}", list: "[]interface {}",
}  # fmt: skip


def format_value(value: Any) -> str:
    """%v of a configuration value. For what stands inside maps and arrays Go prints addresses, natsc three dots."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format_float(value)
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:..." for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join("..." for _ in value) + "]"
    return "<nil>" if value is None else str(value)


def quote_value(value: Any) -> str:
    """%q of a configuration value: a number is shown as the character it is the code of."""
    if isinstance(value, (str, Datetime)):
        return quote(str(value))
    if isinstance(value, int) and not isinstance(value, bool):
        char = chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value <= 0xDFFF else "\ufffd"
        escaped = {"'": "\\'", '"': '"'}.get(char, quote(char)[1:-1])
        return f"'{escaped}'"
    if isinstance(value, (list, dict)):
        return format_value(value)
    return f"%!q({type_name(value)}={format_value(value)})"


def format_float(value: float) -> str:
    """%v of a float64: shortest digits, exponent form below 1e-4 and from 1e6."""
    return _float_text(value, 1e-4, 1e6, 2)


def _float_text(value: float, low: float, high: float, exponent_digits: int) -> str:
    """Shortest digits; exponent form outside of `low` to `high`."""
    sign = "-" if value < 0 else ""
    mantissa, _, exponent_text = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    exponent = int(exponent_text or 0) + len(whole) - 1
    if whole == "0":
        exponent -= len(whole + fraction) - len(digits)
        exponent += 1 - len(whole)
    digits = digits.rstrip("0") or "0"
    if value == 0:
        return sign + "0"
    if low <= abs(value) < high:
        if exponent < 0:
            return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
        padded = digits.ljust(exponent + 1, "0")
        tail = padded[exponent + 1 :]
        return f"{sign}{padded[: exponent + 1]}{'.' if tail else ''}{tail}"
    tail = digits[1:]
    exponent_sign = "-" if exponent < 0 else "+"
    return f"{sign}{digits[0]}{'.' if tail else ''}{tail}e{exponent_sign}{abs(exponent):0{exponent_digits}d}"


def _time_quote(text: str) -> str:
    """Package time's own quoting: every byte outside printable ASCII as \\xHH."""
    out = []
    for byte in text.encode("utf-8", "surrogateescape"):
        char = chr(byte)
        if char in '"\\':
            out.append("\\" + char)
        elif 0x20 <= byte < 0x7F:
            out.append(char)
        else:
            out.append(f"\\x{byte:02x}")
    return '"' + "".join(out) + '"'


def parse_duration(text: str) -> int:
    """time.ParseDuration: nanoseconds; GoError with Go's text when `text` is none."""
    invalid = GoError(f"time: invalid duration {_time_quote(text)}")
    rest = text
    negative = rest[:1] == "-"
    if rest[:1] in ("-", "+") and rest:
        rest = rest[1:]
    if rest == "0":
        return 0
    if not rest:
        raise invalid
    total = 0
    while rest:
        if not (rest[0] == "." or "0" <= rest[0] <= "9"):
            raise invalid
        whole_text = _leading_digits(rest)
        rest = rest[len(whole_text) :]
        fraction_text = ""
        if rest[:1] == ".":
            fraction_text = _leading_digits(rest[1:])
            rest = rest[1 + len(fraction_text) :]
        if (not whole_text and not fraction_text) or int(whole_text[:32] or "0") > 1 << 63:
            raise invalid
        end = 0
        while end < len(rest) and rest[end] != "." and not "0" <= rest[end] <= "9":
            end += 1
        if end == 0:
            raise GoError(f"time: missing unit in duration {_time_quote(text)}")
        unit = _UNITS.get(rest[:end])
        if unit is None:
            raise GoError(f"time: unknown unit {_time_quote(rest[:end])} in duration {_time_quote(text)}")
        rest = rest[end:]
        total += _scaled(whole_text, fraction_text, unit)
        if total > 1 << 63:
            raise invalid
    if negative:
        return -total
    if total > INT64_MAX:
        raise invalid
    return total


def _leading_digits(text: str) -> str:
    end = 0
    while end < len(text) and "0" <= text[end] <= "9":
        end += 1
    return text[:end]


def _scaled(whole_text: str, fraction_text: str, unit: int) -> int:
    """The fraction goes through floats, as in Go: the last nanosecond depends on it."""
    value = int(whole_text[:32] or "0") * unit
    fraction, scale = 0, 1.0
    for digit in fraction_text:
        if fraction > INT64_MAX // 10 or fraction * 10 + int(digit) > 1 << 63:
            break
        fraction = fraction * 10 + int(digit)
        scale *= 10
    return value + int(float(fraction) * (float(unit) / scale))


def format_duration(ns: int) -> str:
    """Duration.String(): 2m0s, 1.5s, 50ms, 0s."""
    if ns == 0:
        return "0s"
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    for unit, suffix in ((1_000, "ns"), (1_000_000, "\u00b5s"), (1_000_000_000, "ms")):
        if ns < unit:
            return sign + _fraction(ns, unit // 1_000) + suffix
    seconds, rest = divmod(ns, 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = _fraction(seconds * 1_000_000_000 + rest, 1_000_000_000) + "s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else sign + text


def _fraction(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).rjust(len(str(unit)) - 1, '0').rstrip('0')}"


def atoi(text: str) -> int:
    """strconv.Atoi; GoError with Go's text."""
    return _parse_int(text, "Atoi")


def parse_int(text: str) -> int:
    """strconv.ParseInt(text, 10, 64); GoError with Go's text."""
    return _parse_int(text, "ParseInt")


def _parse_int(text: str, name: str) -> int:
    digits = text[1:] if text[:1] in ("-", "+") else text
    if not (digits.isascii() and digits.isdigit()):
        raise GoError(f"strconv.{name}: parsing {quote(text)}: invalid syntax")
    value = int(digits[:64]) if len(digits) < 64 else INT64_MAX + 2
    value = -value if text[0] == "-" else value
    if not INT64_MIN <= value <= INT64_MAX:
        raise GoError(f"strconv.{name}: parsing {quote(text)}: value out of range")
    return value


def wrap_int64(value: int) -> int:
    """What is left of `value` in a Go int64."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def wrap_int32(value: int) -> int:
    """What is left of `value` in a Go int32."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


_JSON_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
    "<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029",
}  # fmt: skip


def json_string(text: str) -> str:
    """A JSON string as encoding/json writes it (HTML characters escaped, bad UTF-8 as U+FFFD)."""
    out = []
    for char in text:
        if char in _JSON_ESCAPES:
            out.append(_JSON_ESCAPES[char])
        elif char < " ":
            out.append(f"\\u{ord(char):04x}")
        elif "\ud800" <= char <= "\udfff":
            out.append("\ufffd")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def json_float(value: float) -> str:
    """A float64 as encoding/json writes it: exponent form below 1e-6 and from 1e21, e-09 as e-9."""
    return _float_text(value, 1e-6, 1e21, 1 if abs(value) < 1e-6 else 2)
