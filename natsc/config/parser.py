"""The parser of nats-server's configuration language: text to nested maps of tokens.

Values are str, int (64 bits, wrapping like Go's), float, bool, Datetime, list and dict. In a file every value is
wrapped in a Token that knows where its key stands; a value taken from the environment is bare.

Invariants
1. Nothing recurses on the input: nesting is bounded by NESTING_MAX, includes by INCLUDE_DEPTH_MAX and a check
   for cycles, expansion of variables by EXPANSIONS_MAX and EXPANDED_BYTES_MAX.
2. Any bytes give maps or a ConfigError.
3. Keys and contexts are two separate stacks, as in nats-server: a value that is dropped (an unknown size suffix)
   leaves its key for the next value to take.
"""

from __future__ import annotations

import os

from natsc.config import lexer
from natsc.config.errors import ConfigError
from natsc.config.gotext import Datetime, json_float, json_string, wrap_int64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NESTING_MAX = 200  # maps and arrays within each other
INCLUDE_DEPTH_MAX = 50
EXPANSIONS_MAX = 10_000  # variables looked up in the environment for one file, includes and other variables counted
EXPANDED_BYTES_MAX = 16 << 20  # beyond 8 times the files: variables can repeat a value that repeats a value

_BCRYPT_START = "2a$"  # `$2a$...` unquoted is a hash, no variable

_SIZES = {"": 1}
for _power, _letter in enumerate("kmgtpe", 1):
    _SIZES[_letter] = 1000**_power
    _SIZES[_letter + "b"] = _SIZES[_letter + "i"] = _SIZES[_letter + "ib"] = 1024**_power


class Token:
    """A value and where it comes from: the position of its key, or its own inside an array."""

    __slots__ = ("column", "line", "source_file", "used_variable", "value")

    def __init__(self, value: Any, line: int, column: int, source_file: str) -> None:
        self.value = value
        self.line = line
        self.column = column
        self.source_file = source_file
        self.used_variable = False  # referenced as $name: then it needn't be a known field


class _Shared:
    """What the parsers of one configuration have in common: limits, and what is being looked up."""

    __slots__ = ("bytes_read", "expansions", "files", "variables")

    def __init__(self) -> None:
        self.bytes_read = 0
        self.expansions = 0
        self.files: list[str] = []  # the include chain
        self.variables: set[str] = set()  # environment variables being expanded


def parse_file(path: str) -> tuple[dict[str, Any], str]:
    """The tokens of a configuration file, and its digest ("sha256:" and 64 hex digits). ConfigError otherwise."""
    shared = _Shared()
    mapping = _parse_file(path, shared, positions=True)
    return mapping, digest(mapping, EXPANDED_BYTES_MAX + 8 * shared.bytes_read)


def parse_string(data: str) -> dict[str, Any]:
    """The tokens of a configuration held in memory; their source file is the empty string."""
    return _Parser(data, "", _Shared(), positions=True).parse("")


def _parse_file(path: str, shared: _Shared, positions: bool) -> dict[str, Any]:
    data = read_file(path)
    shared.bytes_read += len(data)
    real = os.path.realpath(path)
    if real in shared.files:
        raise ConfigError(f"include cycle: {path} includes itself")
    if len(shared.files) >= INCLUDE_DEPTH_MAX:
        raise ConfigError(f"includes are nested more than {INCLUDE_DEPTH_MAX} deep")
    shared.files.append(real)
    mapping = _Parser(data.decode("utf-8", "surrogateescape"), path, shared, positions).parse(path)
    shared.files.pop()
    return mapping


def read_file(path: str) -> bytes:
    """The bytes of a file; ConfigError with Go's text when it can't be read."""
    try:
        with open(path, "rb", buffering=0) as file:
            try:
                return file.read()
            except OSError as error:
                raise ConfigError(f"read {path}: {_reason(error)}") from None
    except IsADirectoryError as error:
        raise ConfigError(f"read {path}: {_reason(error)}") from None
    except OSError as error:
        raise ConfigError(f"open {path}: {_reason(error)}") from None
    except ValueError:  # a NUL in the path
        raise ConfigError(f"open {path}: invalid argument") from None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


class _Parser:
    __slots__ = ("_contexts", "_directory", "_keys", "_lexer", "_positions", "_shared", "_steps")

    def __init__(self, data: str, path: str, shared: _Shared, positions: bool) -> None:
        self._lexer = lexer.Lexer(data)
        self._contexts: list[Any] = []
        self._keys: list[tuple[str, int, int]] = []
        self._directory = os.path.dirname(path)
        self._shared = shared
        self._positions = positions  # False: bare values, for the environment
        self._steps = 0

    def parse(self, path: str) -> dict[str, Any]:
        root: dict[str, Any] = {}
        self._contexts.append(root)
        previous_kind, previous_text = lexer.TEXT, ""
        next_item = self._lexer.next_item
        while True:
            kind, text, line, column = next_item()
            if kind == lexer.EOF:
                # A lone "}" at the end is what closes a file wrapped in braces.
                if previous_kind == lexer.KEY and previous_text != "}":
                    raise ConfigError(f"config is invalid ({path}:{line}:{column})")
                return root
            previous_kind, previous_text = kind, text
            self._item(kind, text, line, column, path)

    def _item(self, kind: int, text: str, line: int, column: int, path: str) -> None:
        if kind == lexer.KEY:
            self._keys.append((text, line, column))
            return
        if kind == lexer.TEXT:
            return
        if kind == lexer.MAP_START or kind == lexer.ARRAY_START:
            if len(self._contexts) > NESTING_MAX:
                raise ConfigError(f"maps and arrays are nested more than {NESTING_MAX} deep ({path}:{line}:{column})")
            self._contexts.append({} if kind == lexer.MAP_START else [])
            return
        value: Any
        if kind == lexer.STRING:
            value = text
        elif kind == lexer.MAP_END or kind == lexer.ARRAY_END:
            value = self._contexts.pop()
            if not self._contexts:
                raise ConfigError(f"config is invalid ({path}:{line}:{column})")
        elif kind == lexer.BOOL:
            value = text.lower() in ("true", "yes", "on")
        elif kind == lexer.INTEGER:
            value = _integer(text)
            if value is None:
                return
        elif kind == lexer.FLOAT:
            value = _float(text)
        elif kind == lexer.DATETIME:
            value = Datetime.parse(text)
            if value is None:
                raise ConfigError(f"expected Zulu formatted DateTime, but got '{text}'")
        elif kind == lexer.VARIABLE:
            value = self._variable(text, line)
        elif kind == lexer.INCLUDE:
            self._include(text)
            return
        else:
            raise ConfigError(f"Parse error on line {line}: '{text}'")
        self._set(Token(value, line, column, path) if self._positions else value, path)

    def _set(self, value: Any, path: str) -> None:
        context = self._contexts[-1]
        if type(context) is list:
            context.append(value)
            return
        if not self._keys:
            raise ConfigError(f"config is invalid ({path}:1:0)")
        key, line, column = self._keys.pop()
        if type(value) is Token:
            value.line = line  # the key's place says more than the value's
            value.column = column
        context[key] = value

    def _include(self, name: str) -> None:
        path = _join(self._directory, name)
        try:
            included = _parse_file(path, self._shared, self._positions)
        except ConfigError as error:
            text = str(error)
            if not self._positions and text.startswith(("open ", "read ")):
                text = f"error opening config file: {text}"
            raise ConfigError(f"error parsing include file '{name}', {text}") from None
        for key, value in included.items():
            self._keys.append((key, value.line, value.column) if type(value) is Token else (key, 0, 0))
            self._set(value, path)

    def _variable(self, name: str, line: int) -> Any:
        try:
            found, value = self._lookup(name)
        except ConfigError as error:
            raise ConfigError(f"variable reference for '{name}' on line {line} could not be parsed: {error}") from None
        if not found:
            raise ConfigError(f"variable reference for '{name}' on line {line} can not be found")
        if type(value) is Token:
            value.used_variable = True
            return value.value
        return value

    def _lookup(self, name: str) -> tuple[bool, Any]:
        """(found, value): from the enclosing maps, innermost first, then from the environment."""
        if name.startswith(_BCRYPT_START):
            return True, "$" + name
        for context in reversed(self._contexts):
            if type(context) is dict and name in context:
                return True, context[name]
        shared = self._shared
        if name in shared.variables:
            raise ConfigError(f"variable reference cycle for '{name}'")
        shared.expansions += 1
        if shared.expansions > EXPANSIONS_MAX:
            raise ConfigError(f"more than {EXPANSIONS_MAX} variables to expand")
        text = os.environ.get(name) if name and "\0" not in name else None
        if text is None:
            return False, None
        if len(shared.variables) >= INCLUDE_DEPTH_MAX:
            raise ConfigError(f"variables are nested more than {INCLUDE_DEPTH_MAX} deep")
        shared.variables.add(name)
        try:
            mapping = _Parser(f"pk={text}", "", shared, positions=False).parse("")
        finally:
            shared.variables.discard(name)
        return "pk" in mapping, mapping.get("pk")


def _join(directory: str, name: str) -> str:
    """filepath.Join: an absolute `name` is taken relative to `directory` too."""
    path = f"{directory}/{name}" if directory else name
    if not path:
        return "."
    if not directory and name.startswith("/"):
        path = "." + name
    joined = os.path.normpath(path)
    return joined[1:] if joined.startswith("//") else joined


def _integer(text: str) -> int | None:
    """None when the suffix is none: the value is dropped."""
    end = 0
    while end < len(text) and (text[end].isdecimal() or text[end] == "-"):
        end += 1
    digits = text[:end]
    if not digits.isascii():
        raise ConfigError(f"expected integer, but got '{text}'")
    value = int(digits) if len(digits) < 64 else 1 << 64
    if value != wrap_int64(value):
        raise ConfigError(f"integer '{text}' is out of the range")
    factor = _SIZES.get(text[end:].strip().lower())
    return None if factor is None else wrap_int64(value * factor)


def _float(text: str) -> float:
    if not text.isascii():
        raise ConfigError(f"expected float, but got '{text}'")
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ConfigError(f"float '{text}' is out of the range")
    return value


def digest(mapping: dict[str, Any], bytes_max: int) -> str:
    """sha256 of the JSON that Go's encoder writes for `mapping`: compact, sorted keys, a newline at the end.
    ConfigError when that is more than `bytes_max`."""
    sha256 = _sha256()
    out: list[str] = []
    _encode(mapping, out, [bytes_max], 0)
    out.append("\n")
    return "sha256:" + str(sha256("".join(out).encode("utf-8", "surrogateescape")).hexdigest())


def _sha256() -> Any:
    """The interpreter's own SHA-256: hashlib would load OpenSSL, 4 MB that a server without TLS doesn't need."""
    try:
        from _sha2 import sha256  # type: ignore[import-not-found,unused-ignore]  # Python 3.12 and later
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            from hashlib import sha256
    return sha256


def _encode(value: Any, out: list[str], left: list[int], depth: int) -> None:
    """Appends the JSON of `value`; `left` counts the bytes that it may still have. `depth` is checked here again:
    variables and includes put values that were checked on their own into each other."""
    if depth > NESTING_MAX:
        raise ConfigError(f"maps and arrays are nested more than {NESTING_MAX} deep")
    if type(value) is Token:
        value = value.value
    if type(value) is dict:
        text = "{"
        for key in sorted(value, key=_go_order):
            out.append(f"{text}{json_string(key)}:")
            _encode(value[key], out, left, depth + 1)
            text = ","
        text = "}" if value else "{}"
    elif type(value) is list:
        text = "["
        for item in value:
            out.append(text)
            _encode(item, out, left, depth + 1)
            text = ","
        text = "]" if value else "[]"
    elif type(value) is str:
        text = json_string(value)
    elif type(value) is bool:
        text = "true" if value else "false"
    elif type(value) is float:
        text = json_float(value)
    elif type(value) is Datetime:
        text = f'"{value.text}"'
    else:
        text = str(value)
    left[0] -= len(text)
    if left[0] < 0:
        raise ConfigError(f"variables add more than {EXPANDED_BYTES_MAX >> 20} MB to the configuration")
    out.append(text)


def _go_order(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")
