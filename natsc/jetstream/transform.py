"""Subjects turned into others by a mapping: `orders.*` to `o.{{wildcard(1)}}`.

Whether a mapping is possible is for natsc/config/subject_mapping.py to say.
"""

from __future__ import annotations

from natsc.config.subject_mapping import is_subset, mapping_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Part = Callable[[list[str]], str]


class Transform:
    """A mapping that is possible, applied to literal subjects. `source` may have wildcards."""

    def __init__(self, source: str, dest: str) -> None:
        self.source = source or ">"
        self.dest = dest
        words = self.source.split(".")
        self._wildcards = [index for index, word in enumerate(words) if word == "*"]
        self._parts = [self._part(word) for word in dest.split(".") if word != ">"]
        self._rest = len(words) - 1 if dest.split(".")[-1] == ">" else -1

    def apply(self, subject: bytes) -> bytes | None:
        """What the subject becomes; None where the mapping isn't about it."""
        text = subject.decode("utf-8", "surrogateescape")
        if not is_subset(text, self.source):
            return None
        tokens = text.split(".")
        made = [part(tokens) for part in self._parts]
        if self._rest >= 0:
            made += tokens[self._rest :]
        return ".".join(made).encode("utf-8", "surrogateescape")

    def _part(self, token: str) -> Part:
        name, arguments = mapping_function(token)
        if not name:
            return lambda _: token
        if name == "random":
            return lambda _: _random(int(arguments[0]))
        if name == "partition":
            positions = [self._position(argument) for argument in arguments[1:]]
            return lambda tokens: _partition(tokens, positions, int(arguments[0]))
        position = self._position(arguments[0])
        if name == "wildcard":
            return lambda tokens: tokens[position]
        if name == "split":
            return lambda tokens: _split(tokens[position], arguments[1])
        size, function = int(arguments[1]), _CUTS[name]
        return lambda tokens: function(tokens[position], size) if 0 < size < len(tokens[position]) else tokens[position]

    def _position(self, argument: str) -> int:
        """Which token of the subject a wildcard's number means."""
        return self._wildcards[int(argument) - 1]


def _random(count: int) -> str:
    import os

    return str(int.from_bytes(os.urandom(4), "little") % count) if count else "0"


def _partition(tokens: list[str], positions: list[int], count: int) -> str:
    """FNV-1a of the chosen tokens, or of the whole subject."""
    key = "".join(tokens[position] for position in positions) if positions else ".".join(tokens)
    value = 0x811C9DC5
    for byte in key.encode("utf-8", "surrogateescape"):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return str(value % count) if count else "0"


def _split(token: str, separator: str) -> str:
    return ".".join(part for part in token.split(separator) if part) if separator else ".".join(token)


def _slice_from_left(token: str, size: int) -> str:
    return ".".join(token[at : at + size] for at in range(0, len(token), size))


def _slice_from_right(token: str, size: int) -> str:
    rest = len(token) % size
    return ".".join(([token[:rest]] if rest else []) + [token[at : at + size] for at in range(rest, len(token), size)])


_CUTS: dict[str, Callable[[str, int], str]] = {
    "splitfromleft": lambda token, size: f"{token[:size]}.{token[size:]}",
    "splitfromright": lambda token, size: f"{token[:-size]}.{token[-size:]}",
    "slicefromleft": _slice_from_left,
    "slicefromright": _slice_from_right,
    "left": lambda token, size: token[:size],
    "right": lambda token, size: token[-size:],
}
