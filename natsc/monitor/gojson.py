"""Values to text exactly as Go prints them: JSON (two-space indented or compact), times, durations, quoted strings.

Why not json.dumps: Go escapes <, > and &, prints 2.0 as 2, marks bytes that are no UTF-8 with an escape, and
json.dumps with an indent is the slow pure-Python encoder anyway. `stream` renders a long list piece by piece, so that
a scrape of a hundred thousand connections neither blocks the event loop nor holds the whole text in memory.

Text that came from the network is expected as str decoded with `surrogateescape`.
"""

from __future__ import annotations

import math
import re
import time
from json.encoder import encode_basestring as _quote_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    JSON = dict[str, "JSON"] | list["JSON"] | tuple["JSON", ...] | str | int | float | bool | None

# Runs of list items are joined until they have this many characters, then handed on.
PIECE_CHARS = 32 * 1024

_HTML_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_HTML_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_NS = 1_000_000_000


def quote(text: str) -> str:
    """`text` as a JSON string, with what is dangerous in HTML escaped; a byte that was no UTF-8 becomes \\ufffd."""
    quoted = _quote_json(text)
    if _HTML_UNSAFE.search(quoted) is None:
        return quoted
    return _HTML_UNSAFE.sub(lambda found: _HTML_ESCAPES.get(found.group(), "\\ufffd"), quoted)


def number(value: float) -> str:
    """A float64 as Go's encoding/json prints it: shortest digits, exponents only below 1e-6 and from 1e21 on."""
    if not math.isfinite(value):
        raise ValueError(f"json: unsupported value: {value}")
    size = abs(value)
    if size != 0 and (size < 1e-6 or size >= 1e21):
        # Go writes 1e-7 where Python writes 1e-07; two-digit exponents are alike.
        return re.sub(r"e([+-])0(\d)$", r"e\1\2", repr(value))
    text = repr(value)
    if "e" in text:
        text = _positional(text)
    return text[:-2] if text.endswith(".0") else text


def _positional(text: str) -> str:
    """Undoes the exponent of a float's repr."""
    from decimal import Decimal

    return format(Decimal(text), "f")


def _scalar(value: JSON) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    if value is None:
        return "null"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    raise TypeError(f"json: unsupported type: {type(value).__name__}")


def indented(value: JSON, pad: str = "\n") -> str:
    """`value` with two spaces of indentation a level; `pad` is the line break and indentation of the line it starts
    on."""
    if isinstance(value, dict):
        if not value:
            return "{}"
        inner = pad + "  "
        body = ("," + inner).join([f"{quote(key)}: {indented(item, inner)}" for key, item in value.items()])
        return f"{{{inner}{body}{pad}}}"
    if isinstance(value, (list, tuple)):
        if not value:
            return "[]"
        inner = pad + "  "
        return f"[{inner}{(',' + inner).join([indented(item, inner) for item in value])}{pad}]"
    return _scalar(value)


def compact(value: JSON) -> str:
    """`value` without any blanks."""
    if isinstance(value, dict):
        return "{" + ",".join([f"{quote(key)}:{compact(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([compact(item) for item in value]) + "]"
    return _scalar(value)


def stream(head: dict[str, JSON], key: str, items: Iterable[JSON]) -> Iterator[bytes]:
    """The object `head` with one more member at its end, the list `items`, in pieces of about PIECE_CHARS
    characters."""
    opening = indented(head)[:-2]  # without the closing line break and brace
    parts = [opening, "," if head else "", "\n  ", quote(key), ": ["]
    size = len(opening)
    separator = "\n    "
    for item in items:
        text = indented(item, "\n    ")
        parts += (separator, text)
        separator = ",\n    "
        size += len(text)
        if size >= PIECE_CHARS:
            yield "".join(parts).encode()
            parts, size = [], 0
    parts.append("]\n}" if separator == "\n    " else "\n  ]\n}")
    yield "".join(parts).encode()


# -- time -------------------------------------------------------------------------------------------------------------


def timestamp(wall_ns: int, local: bool = False) -> str:
    """RFC 3339 with up to nine decimals, none at the end that are zero. In UTC, or with `local` in the process's time
    zone."""
    seconds, fraction = divmod(wall_ns, _NS)
    broken = time.localtime(seconds) if local else time.gmtime(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", broken)
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    offset = broken.tm_gmtoff // 60 if local else 0
    if offset == 0:
        return text + "Z"
    sign = "-" if offset < 0 else "+"
    return f"{text}{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"


def uptime(elapsed_ns: int) -> str:
    """Whole seconds spelled as 1y2d3h4m5s from the largest unit that isn't zero."""
    total = abs(elapsed_ns) // _NS * (-1 if elapsed_ns < 0 else 1)
    if total < 60:
        return f"{total}s"
    minutes, seconds = divmod(total, 60)
    if minutes < 60:
        return f"{minutes}m{seconds}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes}m{seconds}s"
    days, hours = divmod(hours, 24)
    if days < 365:
        return f"{days}d{hours}h{minutes}m{seconds}s"
    years, days = divmod(days, 365)
    return f"{years}y{days}d{hours}h{minutes}m{seconds}s"


def duration(ns: int) -> str:
    """A time.Duration's String: 0s, 442µs, 6.708625ms, 1m30.5s."""
    if ns == 0:
        return "0s"
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    if ns < 1_000:
        return f"{sign}{ns}ns"
    if ns < 1_000_000:
        return f"{sign}{_decimal(ns, 1_000, 3)}µs"
    if ns < _NS:
        return f"{sign}{_decimal(ns, 1_000_000, 6)}ms"
    minutes, rest = divmod(ns, 60 * _NS)
    text = _decimal(rest, _NS, 9) + "s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{minutes}m{text}" if not hours else f"{hours}h{minutes}m{text}"
    return sign + text


def _decimal(value: int, unit: int, digits: int) -> str:
    whole, fraction = divmod(value, unit)
    return f"{whole}.{fraction:0{digits}d}".rstrip("0") if fraction else str(whole)


# -- strconv.Quote ----------------------------------------------------------------------------------------------------

_GO_ESCAPES = {
    '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip


def go_quote(text: str) -> str:
    """`text` (decoded with surrogateescape) as a Go string literal, as error texts show what was wrong."""
    return '"' + "".join([_go_char(char) for char in text]) + '"'


def _go_char(char: str) -> str:
    known = _GO_ESCAPES.get(char)
    if known is not None:
        return known
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # one byte that was no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
