"""Records that travel as JSON: declared once, then read and written just as the reference does it.

A `Record` lists its fields in FIELDS; `decode` fills one from a request, `Record.as_json` gives the members in order,
and `encode` makes the bytes. Reading follows Go's encoding/json: names match in any case, `null` changes nothing, a
member given twice counts twice, the first thing that is wrong is what the client is told, in Go's words.

Requests are parsed by the C decoder of Python's json; only what it refuses is parsed again to say why.
"""

from __future__ import annotations

import json
import re

from natsc.config.gotext import GoError, quote
from natsc.jetstream.gotime import ZERO, Time, parse_time
from natsc.jetstream.json_syntax import SyntaxFault, at_end, raw_member, skip_value, unexpected

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ClassVar, TypeVar

    R = TypeVar("R", bound="Record")

_MAX_DEPTH_TEXT = "exceeded max depth"
# Bytes of a request up to which its faults are looked for as Go does, one by one; that takes about 0.3 µs a byte.
_EXPLAINED_MAX = 64 * 1024
_ROUGHLY = (
    ("Expecting property name", "looking for beginning of object key string"),
    ("Expecting ':'", "after object key"),
    ("Expecting ','", "after object key:value pair"),
    ("Invalid", "in string"),
)
_HTML = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_HTML_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANKS = re.compile(r"[ \t\r\n]*")


class DecodeError(GoError):
    """A request that can't be read; the text is Go's."""


class Pairs(list):  # type: ignore[type-arg]
    """A JSON object as its members in order, so that one given twice is seen twice."""

    __slots__ = ()


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


_parse = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant
).raw_decode
_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


def encode(value: Any) -> bytes:
    """`value` as compact JSON, with what is dangerous in HTML escaped and what was no UTF-8 as U+FFFD."""
    text = _write(value)
    if _HTML.search(text) is not None:
        text = _HTML.sub(lambda found: _HTML_ESCAPES.get(found[0], "\ufffd"), text)
    return text.encode()


# -- kinds of values --------------------------------------------------------------------------------------------------


class Site:
    """Where in a request a value stands, for messages."""

    __slots__ = ("data", "path", "root")

    def __init__(self, root: str, data: bytes, path: list[str]) -> None:
        self.root = root
        self.data = data
        self.path = path

    def mismatch(self, value: Any, go_type: str) -> DecodeError:
        return DecodeError(f"json: cannot unmarshal {_kind_name(value)} into {self._place()} of type {go_type}")

    def bad_number(self, value: str, go_type: str) -> DecodeError:
        return DecodeError(f"json: cannot unmarshal number {value} into {self._place()} of type {go_type}")

    def _place(self) -> str:
        if not self.path:
            return "Go value"
        place = ".".join((self.root, *self.path))
        return place if self.path[-1].isdigit() else f"Go struct field {place}"


def _kind_name(value: Any) -> str:
    if isinstance(value, Number):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Pairs):
        return "object"
    return "array" if isinstance(value, list) else "null"


def _clean(text: str) -> str:
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


class Kind:
    """How a field's value is read and written. `go_type` names it in messages."""

    __slots__ = ("go_type",)

    def __init__(self, go_type: str) -> None:
        self.go_type = go_type

    def zero(self) -> Any:
        return None

    def read(self, value: Any, current: Any, site: Reader) -> Any:
        raise NotImplementedError

    def written(self, value: Any) -> Any:
        return value


class _String(Kind):
    __slots__ = ()

    def zero(self) -> Any:
        return ""

    def read(self, value: Any, current: Any, site: Reader) -> Any:
        if value is None:
            return current
        if not isinstance(value, str) or isinstance(value, Number):
            raise site.mismatch(value, self.go_type)
        return _clean(value)


class _Bool(Kind):
    __slots__ = ()

    def zero(self) -> Any:
        return False

    def read(self, value: Any, current: Any, site: Reader) -> Any:
        if value is None:
            return current
        if not isinstance(value, bool):
            raise site.mismatch(value, self.go_type)
        return value


class _Int(Kind):
    __slots__ = ("high", "low")

    def __init__(self, go_type: str, bits: int, signed: bool = True) -> None:
        super().__init__(go_type)
        self.low = -(1 << (bits - 1)) if signed else 0
        self.high = (1 << (bits - 1 if signed else bits)) - 1

    def zero(self) -> Any:
        return 0

    def read(self, value: Any, current: Any, site: Reader) -> Any:
        if value is None:
            return current
        if not isinstance(value, Number):
            raise site.mismatch(value, self.go_type)
        try:
            number = int(value) if len(value) < 24 else self.high + 1
        except ValueError:
            raise site.bad_number(value, self.go_type) from None
        if not self.low <= number <= self.high or (value[0] == "-" and self.low == 0):
            raise site.bad_number(value, self.go_type)
        return number


class Choice(Kind):
    """A word out of a few, that the reference reads with code of its own: `null` and other types are wrong words too.

    `default` is what the field holds when it isn't given; `refusal` makes the message from the value's JSON text.
    """

    __slots__ = ("default", "fold", "refusal", "words")

    def __init__(
        self, words: dict[str, str], default: str, refusal: Callable[[Any, str], str] | None = None, fold: bool = False
    ) -> None:
        super().__init__("")
        self.words = words
        self.default = default
        self.refusal = refusal
        self.fold = fold

    def zero(self) -> Any:
        return self.default

    def read(self, value: Any, current: Any, site: Reader) -> Any:
        if isinstance(value, str) and not isinstance(value, Number):
            found = self.words.get(value.lower() if self.fold else value)
            if found is not None:
                return found
        raw = site.raw_text(value)
        if self.refusal is not None:
            raise DecodeError(self.refusal(value, raw))
        raise DecodeError(f"can not unmarshal {quote(raw)}")


class _Time(Kind):
    """A time; with `pointer` it may be absent, else it is Go's zero time then."""

    __slots__ = ("pointer",)

    def __init__(self, pointer: bool) -> None:
        super().__init__("time.Time")
        self.pointer = pointer

    def zero(self) -> Any:
        return None if self.pointer else Time(ZERO)

    def read(self, value: Any, current: Any, site: Reader) -> Any:
        if value is None:
            return None if self.pointer else current
        if not isinstance(value, str) or isinstance(value, Number):
            raise site.mismatch(value, self.go_type)
        try:
            return parse_time(_clean(value))
        except GoError as error:
            raise DecodeError(str(error)) from None

    def written(self, value: Any) -> Any:
        return str(value)


class ListOf(Kind):
    __slots__ = ("item",)

    def __init__(self, item: Kind, go_type: str = "") -> None:
        super().__init__(go_type or f"[]{item.go_type}")
        self.item = item

    def zero(self) -> Any:
        return []

    def read(self, value: Any, current: Any, site: Reader) -> Any:
        if value is None:
            return []
        if not isinstance(value, list) or isinstance(value, Pairs):
            raise site.mismatch(value, self.go_type)
        items = []
        for index, item in enumerate(value):
            with site.at(str(index), str(index)):
                items.append(self.item.read(item, self.item.zero(), site))
        return items

    def written(self, value: Any) -> Any:
        return [self.item.written(item) for item in value]


class MapOf(Kind):
    """An object of any members, all of one kind; written in the order of their names."""

    __slots__ = ("item",)

    def __init__(self, item: Kind) -> None:
        super().__init__(f"map[string]{item.go_type}")
        self.item = item

    def zero(self) -> Any:
        return {}

    def read(self, value: Any, current: Any, site: Reader) -> Any:
        if value is None:
            return {}
        if not isinstance(value, Pairs):
            raise site.mismatch(value, self.go_type)
        members = dict(current)
        for key, item in value:
            with site.at(_clean(key), key):
                members[_clean(key)] = self.item.read(item, self.item.zero(), site)
        return members

    def written(self, value: Any) -> Any:
        return {key: self.item.written(value[key]) for key in sorted(value)}


class Nested(Kind):
    """Another record: part of this one, or with `pointer` absent until it is given."""

    __slots__ = ("pointer", "record")

    def __init__(self, record: type[Record], pointer: bool = False) -> None:
        super().__init__(f"server.{record.GO_NAME}")
        self.record = record
        self.pointer = pointer

    def zero(self) -> Any:
        return None if self.pointer else self.record()

    def read(self, value: Any, current: Any, site: Reader) -> Any:
        if value is None:
            return None if self.pointer else current
        if not isinstance(value, Pairs):
            raise site.mismatch(value, self.go_type)
        target = self.record() if current is None else current
        site.fill(target, value)
        return target

    def written(self, value: Any) -> Any:
        return value.as_json()


STRING = _String("string")
BOOL = _Bool("bool")
INT = _Int("int", 64)
INT32 = _Int("int32", 32)
INT64 = _Int("int64", 64)
UINT64 = _Int("uint64", 64, signed=False)
DURATION = _Int("time.Duration", 64)
STRINGS = ListOf(STRING)
TIME = _Time(pointer=False)
OPTIONAL_TIME = _Time(pointer=True)


class Field:
    """One member: its JSON name, which is the attribute's too, its kind, and whether it is left out when empty."""

    __slots__ = ("kind", "name", "omit_empty")

    def __init__(self, name: str, kind: Kind, omit_empty: bool = True) -> None:
        self.name = name
        self.kind = kind
        self.omit_empty = omit_empty


# -- records ----------------------------------------------------------------------------------------------------------


class Record:
    """The base of what FIELDS describes; a subclass has a slot a field. Records are equal when all their fields are."""

    __slots__ = ()
    GO_NAME = ""
    FIELDS: tuple[Field, ...] = ()
    _by_name: ClassVar[dict[str, Field]]
    _writing: ClassVar[tuple[tuple[str, bool, Any, Callable[[Any], Any] | None], ...]]

    def __init_subclass__(cls) -> None:
        cls._by_name = {field.name: field for field in cls.FIELDS}
        cls._writing = tuple(
            (
                field.name,
                field.omit_empty,
                field.kind.zero() if isinstance(field.kind, Choice) else None,
                field.kind.written if type(field.kind).written is not Kind.written else None,
            )
            for field in cls.FIELDS
        )

    def __init__(self, **values: Any) -> None:
        for field in self.FIELDS:
            setattr(self, field.name, values.pop(field.name) if field.name in values else field.kind.zero())
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(
            getattr(self, field.name) == getattr(other, field.name) for field in self.FIELDS
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({_write(self.as_json())})"

    def clone(self: R) -> R:
        """A deep copy."""
        copy = type(self).__new__(type(self))
        for field in self.FIELDS:
            setattr(copy, field.name, _copied(getattr(self, field.name)))
        return copy

    def as_json(self) -> dict[str, Any]:
        """The members in the reference's order, without the empty ones that it leaves out."""
        members = {}
        for name, omit_empty, default, written in self._writing:
            value = getattr(self, name)
            if not omit_empty or (value and value != default):
                members[name] = value if written is None else written(value)
        return members

    @classmethod
    def field(cls, name: str) -> Field | None:
        """The field that a member's name means: the very same one, or else one that differs in case only."""
        found = cls._by_name.get(name)
        return found if found is not None else cls._by_name.get(name.lower())


def _copied(value: Any) -> Any:
    if isinstance(value, Record):
        return value.clone()
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return dict(value) if isinstance(value, dict) else value


class Reader(Site):
    """Fills records from parsed JSON. `keys` is `path` with the names as the client wrote them."""

    __slots__ = ("_steps", "keys", "strict")

    def __init__(self, root: str, data: bytes, strict: bool) -> None:
        super().__init__(root, data, [])
        self.keys: list[str] = []
        self.strict = strict
        self._steps = _Step(self)

    def at(self, name: str, key: str) -> _Step:
        self.path.append(name)
        self.keys.append(key)
        return self._steps

    def raw_text(self, value: Any) -> str:
        """The text of the value that is being read; in a large request, much like it."""
        if len(self.data) > _EXPLAINED_MAX:
            return _write(value)
        return raw_member(self.data, self.keys).decode("utf-8", "surrogateescape")

    def fill(self, target: Record, members: Pairs) -> None:
        for key, value in members:
            field = target.field(key)
            if field is None:
                if self.strict:
                    raise DecodeError(f"json: unknown field {quote(_clean(key))}")
                continue
            with self.at(field.name, key):
                setattr(target, field.name, field.kind.read(value, getattr(target, field.name), self))


class _Step:
    """Leaves the path as it was before Reader.at. On errors too: what was raised has its text already."""

    __slots__ = ("reader",)

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        self.reader.path.pop()
        self.reader.keys.pop()


# -- requests ---------------------------------------------------------------------------------------------------------


def decode(data: bytes, target: R, strict: bool = True) -> R:
    """Fill `target` from a request: any number of JSON objects, one after the other. DecodeError says what is wrong.

    Not `strict`, what can't be read so is read again as just one object, whose unknown members are skipped.
    """
    if not strict:
        try:
            return decode(data, target)
        except DecodeError:
            return decode_one(data, target)
    root = type(target).GO_NAME
    try:
        for value, start, end in _values(data):
            _fill(target, value, Reader(root, data[start:end], True))
    except SyntaxFault as fault:
        at_end = fault.offset < 0
        raise DecodeError("unexpected EOF" if at_end else f"{fault.text} at offset {fault.offset}") from None
    return target


def decode_one(data: bytes, target: R) -> R:
    """Fill `target` from exactly one JSON object, skipping unknown members. DecodeError says what is wrong."""
    text = data.decode("utf-8", "surrogateescape")
    start = _skip(text, 0)
    try:
        value, end = _parsed(text, start, data, _size(text[:start]))
        end = _skip(text, end)
        if end != len(text):
            raise unexpected(data, _size(text[:end]), "after top-level value")
    except SyntaxFault as fault:
        raise DecodeError(fault.text) from None
    _fill(target, value, Reader(type(target).GO_NAME, data, False))
    return target


def _fill(target: Record, value: Any, reader: Reader) -> None:
    if value is None:
        return
    if not isinstance(value, Pairs):
        raise reader.mismatch(value, f"server.{type(target).GO_NAME}")
    reader.fill(target, value)


def _values(data: bytes) -> Iterator[tuple[Any, int, int]]:
    """Each JSON value in `data` with where it starts and ends, in bytes. SyntaxFault when there is something else."""
    text = data.decode("utf-8", "surrogateescape")
    end = end_byte = 0
    while True:
        start = _skip(text, end)
        start_byte = end_byte + start - end
        if start == len(text):
            return
        value, end = _parsed(text, start, data, start_byte)
        end_byte = start_byte + _size(text[start:end])
        yield value, start_byte, end_byte


def _skip(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return at if found is None else found.end()


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


def _parsed(text: str, start: int, data: bytes, start_byte: int) -> tuple[Any, int]:
    """The JSON value that starts at `start` and where it ends. SyntaxFault when there is none."""
    try:
        return _parse(text, start)
    except json.JSONDecodeError as error:
        if len(data) > _EXPLAINED_MAX:
            raise _roughly(data, _size(text[: error.pos]), error.msg) from None
    except ValueError:
        pass
    except RecursionError:
        raise DecodeError(_MAX_DEPTH_TEXT) from None
    skip_value(data, start_byte)
    raise DecodeError("invalid JSON")


def _roughly(data: bytes, at: int, message: str) -> SyntaxFault:
    """What is wrong at `at`, by what Python's decoder says."""
    if at >= len(data) or message.startswith("Unterminated"):
        return at_end()
    for beginning, where in _ROUGHLY:
        if message.startswith(beginning):
            return unexpected(data, at, where)
    return unexpected(data, at, "looking for beginning of value")


def is_object_or_list(data: bytes) -> bool:
    """Does a request look like a JSON object or list? What doesn't is taken for an empty one."""
    return data.lstrip(b" \t\r\n")[:1] in (b"{", b"[")


def is_empty_request(data: bytes) -> bool:
    """Is a request nothing, or an object without members?"""
    bare = data.strip(b" \t\r\n")
    return not data or (bare[:1] == b"{" and bare[1:].strip(b" \t\r\n") == b"}")
