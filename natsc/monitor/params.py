"""The query string of a monitoring request, and its values decoded with the reference's error texts.

A query is a dict of the first value of each name. Pairs with a semicolon or a bad percent escape are left out, as Go's
url.ParseQuery does when its error is ignored.
"""

from __future__ import annotations

import re

from natsc.monitor.gojson import go_quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Query = Mapping[str, str]

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_DIGITS = re.compile(r"[0-9]+\Z")
_SIGNED = re.compile(r"[+-]?[0-9]+\Z")
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


class BadRequest(Exception):
    """The request can't be answered as asked: status 400 with this text as the body."""


def percent_decode(text: str) -> str | None:
    """`text` with its percent escapes undone; None when one of them is malformed. Bytes that are no UTF-8 become
    surrogates."""
    if "%" not in text:
        return text
    if _BAD_ESCAPE.search(text) is not None:
        return None
    raw = _ESCAPE.sub(lambda found: bytes((int(found.group(1), 16),)), text.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")


def parse_query(raw: str) -> dict[str, str]:
    """Names to first values."""
    query: dict[str, str] = {}
    for pair in raw.split("&"):
        if not pair or ";" in pair:
            continue
        name, _, value = pair.partition("=")
        decoded_name = percent_decode(name.replace("+", " "))
        decoded_value = percent_decode(value.replace("+", " "))
        if decoded_name is not None and decoded_value is not None:
            query.setdefault(decoded_name, decoded_value)
    return query


def decode_bool(query: Query, name: str) -> bool:
    """False when absent or empty. Raises BadRequest."""
    text = query.get(name, "")
    if not text or text in _FALSE:
        return False
    if text in _TRUE:
        return True
    raise BadRequest(
        f"Error decoding boolean for '{name}': strconv.ParseBool: parsing {go_quote(text)}: invalid syntax"
    )


def decode_int(query: Query, name: str) -> int:
    """A signed 64-bit number, 0 when absent or empty. Raises BadRequest."""
    text = query.get(name, "")
    if not text:
        return 0
    return _integer("int", "strconv.Atoi", name, text, _SIGNED, -(1 << 63), (1 << 63) - 1)


def decode_uint64(query: Query, name: str) -> int:
    """An unsigned 64-bit number, 0 when absent or empty. Raises BadRequest."""
    text = query.get(name, "")
    if not text:
        return 0
    return _integer("uint64", "strconv.ParseUint", name, text, _DIGITS, 0, (1 << 64) - 1)


def _integer(kind: str, func: str, name: str, text: str, form: re.Pattern[str], low: int, high: int) -> int:
    problem = "invalid syntax"
    if form.match(text) is not None:
        problem = "value out of range"
        # int() is quadratic and itself refuses very long texts; no 64-bit value needs more than 20 digits.
        significant = text.lstrip("+-0") or "0"
        if len(significant) <= 20 and low <= (value := int(("-" if text[0] == "-" else "") + significant)) <= high:
            return value
    raise BadRequest(f"Error decoding {kind} for '{name}': {func}: parsing {go_quote(text)}: {problem}")


def decode_subs(query: Query) -> tuple[bool, bool]:
    """The parameter `subs`: (names wanted, details wanted). Raises BadRequest."""
    if query.get("subs", "").lower() == "detail":
        return False, True
    return decode_bool(query, "subs"), False
