"""Taking typed values out of tokens, with nats-server's error texts.

nats-server asserts types as it goes and turns the resulting panics into findings at the last token it unwrapped.
`Last` is that token; `recovers` is the place where the panic stops: which function catches it decides which of the
remaining directives are still looked at, so directive functions carry the decorator where nats-server has its `defer`.
"""

from __future__ import annotations

from natsc.config.errors import NIL_DEREFERENCE, Finding, GoPanic, misused_field, unknown_field
from natsc.config.goaddress import split_host_port
from natsc.config.gotext import GoError, parse_duration, quote, type_name, wrap_int64
from natsc.config.gotext import atoi as _atoi
from natsc.config.options import SECOND
from natsc.config.parser import Token

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    T = TypeVar("T")


class Last:
    """The token that was unwrapped last."""

    __slots__ = ("token",)

    def __init__(self) -> None:
        self.token: Token | None = None

    def unwrap(self, value: Any) -> tuple[Token | None, Any]:
        """(token, bare value); token None for a value that has none."""
        if type(value) is Token:
            self.token = value
            return value, value.value
        return None, value

    def items(self, mapping: dict[str, Any]) -> Iterator[tuple[str, str, Token | None, Any]]:
        """(key in lower case, key as written, token, bare value) of each entry; this object follows along."""
        for key, value in mapping.items():
            token, bare = self.unwrap(value)
            yield key.lower(), key, token, bare


class Report:
    """Everything found wrong so far. `errors` keep the server from starting, `warnings` only fail a check."""

    __slots__ = ("errors", "refused", "unsupported", "warnings")

    def __init__(self) -> None:
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []
        self.unsupported: list[str] = []
        self.refused: list[str] = []

    def error(self, token: Token | None, reason: str) -> None:
        self.errors.append(Finding(token, reason))

    def unknown(self, token: Token | None, field: str) -> None:
        """An unknown field is fine where it only is the source of a variable."""
        if token is None:
            raise GoPanic(NIL_DEREFERENCE)
        if not token.used_variable:
            self.errors.append(unknown_field(token, field))

    def text(self) -> str:
        return "".join(f"{finding}\n" for finding in (*self.warnings, *self.errors))


def recovers(function: Callable[..., T]) -> Callable[..., T | None]:
    """For `function(last, value, ..., report)`, called without `last`: a panic becomes a finding, the result None."""

    def guarded(*args: Any) -> T | None:
        last = Last()
        try:
            return function(last, *args)
        except GoPanic as panic:
            add_panic(args[-1], last.token, panic)
            return None

    return guarded


def recovers_as_finding(function: Callable[..., T]) -> Callable[..., T]:
    """For `function(last, ...)`, called without `last`: a panic is raised as the finding it amounts to."""

    def guarded(*args: Any) -> T:
        last = Last()
        try:
            return function(last, *args)
        except GoPanic as panic:
            raise Finding(last.token, str(panic)) from None

    return guarded


def add_panic(report: Report, token: Token | None, panic: GoPanic) -> None:
    text = str(panic)
    report.error(token, text if token is not None else f"encountered panic without a token {text}")


def dereference(value: T | None) -> T:
    """What a function that recovered returns is nil, and its caller uses it."""
    if value is None:
        raise GoPanic(NIL_DEREFERENCE)
    return value


def _mismatch(value: Any, wanted: str) -> GoPanic:
    got = "nil" if value is None else type_name(value)
    return GoPanic(f"interface conversion: interface {{}} is {got}, not {wanted}")


def as_str(value: Any) -> str:
    if type(value) is str:
        return value
    raise _mismatch(value, "string")


def as_bool(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise _mismatch(value, "bool")


def as_int(value: Any) -> int:
    if type(value) is int:
        return value
    raise _mismatch(value, "int64")


def as_map(value: Any) -> dict[str, Any]:
    if type(value) is dict:
        return value
    raise _mismatch(value, "map[string]interface {}")


def as_list(value: Any) -> list[Any]:
    if type(value) is list:
        return value
    raise _mismatch(value, "[]interface {}")


def duration(field: str, token: Token | None, value: Any, report: Report) -> int:
    """Nanoseconds of "2s"; a number means seconds and is warned about."""
    if type(value) is str:
        try:
            return parse_duration(value)
        except GoError as error:
            report.error(token, f"error parsing {field}: {error}")
            return 0
    report.warnings.append(misused_field(token, field, f"{field} should be converted to a duration"))
    return wrap_int64(as_int(value) * SECOND)


def seconds(value: Any) -> float | None:
    """Float seconds of a number or a duration string; None for another type. GoError for a bad string."""
    if type(value) is int or type(value) is float:
        return float(value)
    return parse_duration(value) / SECOND if type(value) is str else None


def write_timeout(token: Token | None, value: str, report: Report) -> str:
    if value not in ("default", "close", "retry"):
        report.error(token, "write_timeout must be 'default', 'close' or 'retry'")
        return "default"
    return value


def listen(value: Any) -> tuple[str, int]:
    """(host, port) of a port or "host:port"; GoError when it is neither."""
    if type(value) is int:
        return "", value
    if type(value) is not str:
        raise GoError(f"expected port or host:port, got {type_name(value)}")
    try:
        host, port = split_host_port(value)
    except GoError:
        raise GoError(f"could not parse address string {quote(value)}") from None
    try:
        return host, _atoi(port)
    except GoError:
        raise GoError(f"could not parse port {quote(port)}") from None


def string_array(what: str, token: Token | None, last: Last, value: Any, report: Report) -> list[str] | None:
    """A string or a list of strings; None after an error about the whole."""
    if type(value) is str:
        return [value]
    if type(value) is not list:
        report.error(token, f"error parsing {what}: unsupported type {type_name(value)}")
        return None
    found = []
    for entry in value:
        at, bare = last.unwrap(entry)
        if type(bare) is str:
            found.append(bare)
        else:
            report.error(at, f"error parsing {what}: unsupported type in array {type_name(bare)}")
    return found
