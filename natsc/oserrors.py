"""Operating system errors in the words of Go, which nats-server's messages carry."""

from __future__ import annotations


def errno_text(error: OSError) -> str:
    """What went wrong: "no such file or directory". Go writes the first letter small."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def path_error(operation: str, path: str, error: OSError) -> str:
    """A failed operation on a file: "open /x: no such file or directory"."""
    return f"{operation} {path}: {errno_text(error)}"
