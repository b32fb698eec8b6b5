"""What can be wrong with a configuration, and how it is told.

A finding is `<file>:<line>:<column>: <reason>`; all findings of a file are reported together, warnings first,
one a line. The texts are nats-server's: operators search for them.
"""

from __future__ import annotations

from natsc.config.gotext import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.config.parser import Token


class ConfigError(Exception):
    """The configuration can't be used. str() is the whole text to show, without program name."""


class Finding(Exception):
    """One thing wrong at one place. `token` None: the place is unknown (a value from the environment)."""

    def __init__(self, token: Token | None, reason: str) -> None:
        super().__init__(reason)
        self.token = token
        self.reason = reason

    def __str__(self) -> str:
        if self.token is None:
            return self.reason
        return f"{self.token.source_file}:{self.token.line}:{self.token.column}: {self.reason}"


def unknown_field(token: Token | None, field: str) -> Finding:
    return Finding(token, f"unknown field {quote(field)}")


def misused_field(token: Token | None, field: str, reason: str) -> Finding:
    """A warning about a field that is accepted."""
    return Finding(token, f"invalid use of field {quote(field)}: {reason}")


class GoPanic(Exception):
    """nats-server would panic here, recover, and report the panic's text at the last token it looked at."""


NIL_DEREFERENCE = "runtime error: invalid memory address or nil pointer dereference"
