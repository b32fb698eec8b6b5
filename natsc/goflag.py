"""Command line flags with the syntax and the error texts of Go's flag package.

`-x`, `--x`, `-x=v` and `-x v` are the same; a bool takes its value only after `=`; `--` or the first word without a
dash ends the flags. argparse knows neither these rules nor these texts, and importing it costs more than a whole run
needs.
"""

from __future__ import annotations

BOOL = "bool"
INT = "int"
STRING = "string"

_PARSE_ERROR = "parse error"
_RANGE_ERROR = "value out of range"
_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_BASES = {"x": 16, "X": 16, "o": 8, "O": 8, "b": 2, "B": 2}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    FlagValue = bool | int | str


class FlagError(Exception):
    """A flag that can't be read; str() is Go's message for it."""


def parse(kinds: Mapping[str, str], args: Sequence[str]) -> tuple[dict[str, FlagValue], list[str]]:
    """The flags of `args` by name, in the order of their last appearance, and the words that follow the flags.

    `kinds` maps a flag's name to BOOL, INT or STRING. Raises FlagError.
    """
    found: dict[str, FlagValue] = {}
    at = 0
    while at < len(args):
        arg = args[at]
        if len(arg) < 2 or arg[0] != "-":
            break
        at += 1
        if arg == "--":
            break
        name, text = _split(arg)
        kind = kinds.get(name)
        if kind is None:
            raise FlagError(f"flag provided but not defined: -{name}")
        if text is None and kind != BOOL:
            if at == len(args):
                raise FlagError(f"flag needs an argument: -{name}")
            text = args[at]
            at += 1
        value = _value(name, kind, text)
        # A repeated flag moves to the end: among aliases of one option the last one given wins.
        found.pop(name, None)
        found[name] = value
    return found, list(args[at:])


def _split(arg: str) -> tuple[str, str | None]:
    name = arg[2:] if arg[1] == "-" else arg[1:]
    if name[0] in "-=":
        raise FlagError(f"bad flag syntax: {arg}")
    name, equals, text = name.partition("=")
    return name, text if equals else None


def _value(name: str, kind: str, text: str | None) -> FlagValue:
    if text is None:
        return True
    if kind == STRING:
        return text
    try:
        return _parse_bool(text) if kind == BOOL else parse_int(text)
    except ValueError as error:
        from natsc.config.gotext import quote

        if kind == BOOL:
            raise FlagError(f"invalid boolean value {quote(text)} for -{name}: {error}") from None
        raise FlagError(f"invalid value {quote(text)} for flag -{name}: {error}") from None


def _parse_bool(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(_PARSE_ERROR)


def parse_int(text: str) -> int:
    """A 64 bit number as strconv.ParseInt(text, 0, 64) reads it: a sign, a base prefix and underscores are allowed.

    Raises ValueError with the words of Go's flag package.
    """
    digits = text[1:] if text[:1] in ("+", "-") else text
    base = 10
    if digits[:1] == "0" and len(digits) > 1:
        base = _BASES.get(digits[1], 8)
        # Go takes 017 and 0_17 for 0o17.
        prefix = 1 if base == 8 and digits[1] not in "oO" else 2
        digits = digits[prefix:].removeprefix("_")
    if not digits.isascii() or not digits[:1].isalnum() or not digits.replace("_", "").isalnum():
        raise ValueError(_PARSE_ERROR)
    try:
        value = int(digits, base)
    except ValueError:
        raise ValueError(_PARSE_ERROR) from None
    if text[0] == "-":
        value = -value
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(_RANGE_ERROR)
    return value
