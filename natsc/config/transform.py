"""Subjects turned into others by a mapping: `orders.*` to `o.{{wildcard(1)}}`.

Whether a mapping is possible is for natsc/config/subject_mapping.py to say.
"""

from __future__ import annotations

from natsc.config.subject_mapping import mapping_function
from natsc.engine import transform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Transform(transform.Transform):
    """A mapping that is possible, applied to literal subjects. `source` may have wildcards."""

    def __init__(self, source: str, dest: str) -> None:
        source = source or ">"
        words = source.split(".")
        wildcards = [index for index, word in enumerate(words) if word == "*"]
        parts = [_part(word, wildcards) for word in dest.split(".") if word != ">"]
        rest = len(words) - 1 if dest.split(".")[-1] == ">" else -1
        super().__init__(source, dest, parts, rest)


def _part(word: str, wildcards: list[int]) -> tuple[str, Any, Any]:
    """A word of the destination, its wildcards resolved to the tokens that they stand for."""
    name, arguments = mapping_function(word)
    if not name:
        return "", word, 0
    if name == "random":
        return name, 0, int(arguments[0])
    if name == "partition":
        return name, tuple(wildcards[int(argument) - 1] for argument in arguments[1:]), int(arguments[0])
    token = wildcards[int(arguments[0]) - 1]
    if name == "wildcard":
        return name, token, 0
    return name, token, arguments[1] if name == "split" else int(arguments[1])
