"""What a subject may be."""

from __future__ import annotations

_SUBJECT_SPACE = frozenset(" \t\n\r\f")


def is_valid_subject(subject: str) -> bool:
    """Tokens between dots aren't empty and hold no space; `>` only as the last one."""
    if not subject:
        return False
    tokens = subject.split(".")
    if not all(tokens) or not _SUBJECT_SPACE.isdisjoint(subject):
        return False
    return ">" not in tokens[:-1]


def is_valid_literal(subject: str) -> bool:
    """A valid subject without wildcards."""
    return is_valid_subject(subject) and not any(token in ("*", ">") for token in subject.split("."))
