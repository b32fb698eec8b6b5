"""What is wrong with a text that isn't JSON, said as Go says it, and where a value of a JSON text begins and ends.

Slow and only for what was found to be wrong: requests are read by the C decoder of Python's json module.
"""

from __future__ import annotations

import re

from natsc.config.gotext import quote

_BLANKS = frozenset(b" \t\r\n")
_LITERALS = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_NOT_TEXT = re.compile(rb'["\\\x00-\x1f]')
_DIGITS = frozenset(b"0123456789")
_NOT_PLAIN = re.compile("[`\\s\ufffd\udc80-\udcff]")
_HEX = frozenset(b"0123456789abcdefABCDEF")


class SyntaxFault(Exception):
    """`text` is Go's message; `offset` counts the bytes up to and with the offending one; at the end it is -1."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.text = text
        self.offset = offset


def skip_blanks(data: bytes, at: int) -> int:
    while at < len(data) and data[at] in _BLANKS:
        at += 1
    return at


def skip_value(data: bytes, at: int) -> int:
    """Where the value that starts at `at` (after blanks) ends; SyntaxFault when it is none. Of any depth."""
    closers: list[int] = []
    while True:
        at = _scalar_or_open(data, at, closers)
        while closers:
            at = skip_blanks(data, at)
            char = _at(data, at)
            if char == closers[-1]:
                closers.pop()
                at += 1
                continue
            in_object = closers[-1] == 0x7D
            if char != 0x2C:
                raise unexpected(data, at, "after object key:value pair" if in_object else "after array element")
            at = skip_blanks(data, at + 1)
            if in_object:
                at = _key(data, at)
            break
        else:
            return at


def fault_of(data: bytes) -> str:
    """What is wrong with a text that should be one value, empty for nothing."""
    try:
        at = skip_blanks(data, skip_value(data, skip_blanks(data, 0)))
        if at < len(data):
            raise unexpected(data, at, "after top-level value")
    except SyntaxFault as fault:
        return fault.text
    return ""


def _scalar_or_open(data: bytes, at: int, closers: list[int]) -> int:
    """Past one scalar, one empty container, or everything up to the first scalar inside of containers."""
    while True:
        at = skip_blanks(data, at)
        char = _at(data, at)
        if char == 0x7B:
            at = skip_blanks(data, at + 1)
            if _at(data, at) == 0x7D:
                return at + 1
            closers.append(0x7D)
            at = _key(data, at)
        elif char == 0x5B:
            at = skip_blanks(data, at + 1)
            if _at(data, at) == 0x5D:
                return at + 1
            closers.append(0x5D)
        elif char == 0x22:
            return skip_string(data, at)
        elif char in _LITERALS:
            return _literal(data, at, _LITERALS[char])
        elif char == 0x2D or char in _DIGITS:
            return _number(data, at)
        else:
            raise unexpected(data, at, "looking for beginning of value")


def _key(data: bytes, at: int) -> int:
    if _at(data, at) != 0x22:
        raise unexpected(data, at, "looking for beginning of object key string")
    at = skip_blanks(data, skip_string(data, at))
    if _at(data, at) != 0x3A:
        raise unexpected(data, at, "after object key")
    return at + 1


def skip_string(data: bytes, at: int) -> int:
    """Where the string that starts at `at` ends."""
    at += 1
    while True:
        found = _NOT_TEXT.search(data, at)
        if found is None:
            raise at_end()
        at = found.start()
        if data[at] == 0x22:
            return at + 1
        if data[at] != 0x5C:
            raise unexpected(data, at, "in string")
        at = _escape(data, at)


def _escape(data: bytes, at: int) -> int:
    char = _at(data, at + 1)
    if char != 0x75:
        if char not in b'"\\/bfnrt':
            raise _escape_fault(data, at, at + 2)
        return at + 2
    for index in range(at + 2, at + 6):
        if _at(data, index) not in _HEX:
            raise _escape_fault(data, at, min(at + 6, len(data)))
    return at + 6


def _escape_fault(data: bytes, start: int, end: int) -> SyntaxFault:
    sequence = data[start:end].decode("utf-8", "surrogateescape")
    plain = sequence.isprintable() and _NOT_PLAIN.search(sequence) is None
    return SyntaxFault(f"invalid escape sequence {f'`{sequence}`' if plain else quote(sequence)} in string", end)


def _literal(data: bytes, at: int, word: bytes) -> int:
    for index, wanted in enumerate(word):
        if _at(data, at + index) != wanted:
            raise unexpected(data, at + index, f"in literal {word.decode()} (expecting {_quoted(chr(wanted))})")
    return at + len(word)


def _number(data: bytes, at: int) -> int:
    if data[at] == 0x2D:
        at += 1
        if _at(data, at) not in _DIGITS:
            raise unexpected(data, at, "in numeric literal")
    if data[at] == 0x30:
        at += 1
    else:
        at = _digits(data, at)
    if at < len(data) and data[at] == 0x2E:
        at = _digits(data, _needs_digit(data, at + 1))
    if at < len(data) and data[at] in b"eE":
        at += 1
        if _at(data, at) in b"+-":
            at += 1
        at = _digits(data, _needs_digit(data, at))
    return at


def _needs_digit(data: bytes, at: int) -> int:
    if _at(data, at) not in _DIGITS:
        raise unexpected(data, at, "in numeric literal")
    return at


def _digits(data: bytes, at: int) -> int:
    while at < len(data) and data[at] in _DIGITS:
        at += 1
    return at


def _at(data: bytes, at: int) -> int:
    if at >= len(data):
        raise at_end()
    return data[at]


def at_end() -> SyntaxFault:
    return SyntaxFault("unexpected end of JSON input", -1)


def unexpected(data: bytes, at: int, where: str) -> SyntaxFault:
    """The character at `at` has no business there."""
    char, width = _rune(data, at)
    return SyntaxFault(f"invalid character {_quoted(char)} {where}", at + width)


def _rune(data: bytes, at: int) -> tuple[str, int]:
    for width in range(1, 5):
        try:
            return data[at : at + width].decode(), width
        except UnicodeDecodeError:
            continue
    return data[at : at + 1].decode("utf-8", "surrogateescape"), 1


def _quoted(char: str) -> str:
    if char == "'":
        return "'\\''"
    if char == '"':
        return "'\"'"
    return f"'{quote(char)[1:-1]}'"


def raw_member(data: bytes, path: list[str]) -> bytes:
    """The text of the value at `path` (keys and list indexes) in a valid JSON object; of keys given twice the first."""
    at = skip_blanks(data, 0)
    for step in path:
        at = skip_blanks(data, at)
        is_object = data[at] == 0x7B
        at = skip_blanks(data, at + 1)
        index = 0
        while True:
            if is_object:
                end = skip_string(data, at)
                name = _text(data[at:end])
                at = skip_blanks(data, skip_blanks(data, end) + 1)
            else:
                name = str(index)
            if name == step:
                break
            at = skip_blanks(data, skip_blanks(data, skip_value(data, at)) + 1)
            index += 1
    return data[at : skip_value(data, at)]


def _text(literal: bytes) -> str:
    import json

    text: str = json.loads(literal.decode("utf-8", "surrogateescape"))
    return text
