"""Message traces: what their headers ask for, and the event that tells a message's way.

The engine finds messages that may have to be traced and says what happens to them (natsc/engine/msgtrace.pyx); the
event is nats-server's, published on the subject that the message, or its account's `msg_trace`, names.
"""

from __future__ import annotations

from natsc.config.gotext import quote
from natsc.config.subjects import is_valid_literal
from natsc.monitor.gojson import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc._core import Client
    from natsc.engine.account import Account
    from natsc.server.server import Server

_HEAD = b"NATS/1.0\r\n"
_DEST, _ONLY, _ORIGIN = "Nats-Trace-Dest", "Nats-Trace-Only", "Nats-Trace-Origin-Account"
_DISABLED = "trace disabled"
# Verdicts: see natsc/engine/msgtrace.pxd.
_NONE, _SKIP, _MUTE = 0, 1, 2
# The API of streams and consumers; what is asked of one of them itself is no service of the system account.
_API = "$JS.API."
_NO_SERVICES = ("$JS.API.DIRECT.GET.", "$JS.API.CONSUMER.MSG.NEXT.")


class MessageTrace:
    """The way of one message. `only`: it is not to be delivered."""

    def __init__(self, server: Server, client: Client, dest: str, headers: dict[str, list[str]], only: bool) -> None:
        self.only = only
        self._server = server
        self._account: Account = client.account
        self._dest = dest
        self._headers = headers
        self._size = 0
        self._events: list[dict[str, Any]] = []

    # What happened: see natsc/engine/msgtrace.pyx.

    def came(self, client: Client, subject: bytes, size: int, error: str | None) -> None:
        self._size = size
        self._add("in", kind=0, cid=client.cid, **_named(client), acc=self._account.name, subj=_text(subject))
        if error:
            self.fail(error)

    def fail(self, text: str) -> None:
        self._events[0]["error"] = text

    def mapped(self, to: bytes) -> None:
        self._add("sm", to=_text(to))

    def exported(self, account: str, to: bytes) -> None:
        self._add("se", acc=account, to=_text(to))

    def imported(self, account: str, came: bytes, to: bytes) -> None:
        self._add("si", acc=account, **{"from": _text(came)}, to=_text(to))

    def stored(self, stream: str, subject: bytes = b"", *, no_interest: bool = False, error: str = "") -> None:
        told: dict[str, Any] = {"subject": _text(subject), "nointerest": no_interest, "error": error}
        self._add("js", stream=stream, **{name: value for name, value in told.items() if value})

    def egress(self, client: Client, subject: bytes, queue: bytes, error: str | None) -> None:
        account = client.account.name
        told = {
            "acc": account if account != self._account.name else "",
            "sub": _text(subject), "queue": _text(queue), "error": error,
        }  # fmt: skip
        self._add("eg", kind=0, cid=client.cid, **_named(client), **{name: text for name, text in told.items() if text})

    def asked(self, account: str, subject: bytes) -> bool:
        """The server itself is asked something. Whether it is to answer."""
        name = _text(subject)
        if account == self._server.system_account_name or name.startswith(_NO_SERVICES) or not name.startswith(_API):
            return True
        self.imported(self._server.system_account_name, subject, subject)
        return not self.only

    def _add(self, what: str, **told: Any) -> None:
        self._events.append({"type": what, "ts": timestamp(self._server.clock.wall_ns()), **told})

    # The event.

    def end(self) -> None:
        """Nothing more happens: the event is published."""
        self._server.loop.call_soon(self._publish)

    def _publish(self) -> None:
        from natsc.server.encoding import encoded
        from natsc.server.system_answers import about, encode

        system = self._server.system
        if system is None:
            return
        request = {"header": dict(sorted(self._headers.items())), "msgsize": self._size}
        event = encode({"server": about(system), "request": request, "events": self._events})
        payload, block = encoded(event, self._headers.get("Accept-Encoding", [""])[0])
        dest = self._dest.encode("utf-8", "surrogateescape")
        self._server.engine.publish(self._account, dest, payload, headers=block)
        self._server.engine.end_turn()


def begin(
    server: Server, client: Client, block: bytes, subject: bytes, size: int, error: str | None
) -> MessageTrace | int:
    """The trace of a message, or what becomes of one that isn't traced: see natsc/engine/msgtrace.pxd."""
    headers, parent = asked_headers(block)
    if not headers:
        return _NONE
    only = not parent and headers.get(_ONLY, [""])[0].lower() in ("1", "true", "on")
    refused = _SKIP if only else _NONE
    if _ORIGIN in headers and not parent:
        origin = headers[_ORIGIN][0]
        text = f"Message tracing disabled because of header {quote(_ORIGIN)} with value={quote(origin)}"
        server.log_client(client, "error", text)
        return _SKIP if only else _MUTE
    if server.system is None:
        return refused
    dest = headers[_DEST][0] if not parent else ""
    if parent:
        configured = client.account.options
        if configured is None or not configured.trace_dest:
            return _NONE
        dest = configured.trace_dest
        if not _is_sampled(configured.trace_dest_sampling):
            return _NONE if error else _MUTE
    if not is_valid_literal(dest):
        server.log_client(client, "error", f"Destination {quote(dest)} is not valid, won't be able to trace events")
        return refused
    if not _may_publish(server, client, dest):
        server.hooks.on_violation(client, 0, dest.encode("utf-8", "surrogateescape"), b"", b"")
        return _SKIP
    trace = MessageTrace(server, client, dest, headers, only)
    trace.came(client, subject, size, error)
    return trace


def asked_headers(block: bytes) -> tuple[dict[str, list[str]], bool]:
    """The headers of a block that asks for a trace, and whether it is a W3C traceparent alone that does.

    Nothing where it doesn't ask, or says that nobody is to trace the message.
    """
    found: dict[str, list[str]] = {}
    parent = False
    at = len(_HEAD)
    if not block.startswith(_HEAD):
        return {}, False
    while (colon := block.find(b":", at)) >= 0 and (end := block.find(b"\r\n", colon)) >= 0:
        name, value = block[at:colon], block[colon + 1 : end].strip(b" \t")
        at = end + 2
        if not name or not value:
            continue
        if name.lower() == b"traceparent":
            parent = parent or _is_sampling(value)
        elif name == b"Nats-Trace-Dest" and value == b"trace disabled" and _DEST not in found:
            return {}, False
        found.setdefault(_text(name), []).append(_text(value))
    if _DEST in found:
        return found, False
    return (found, True) if parent else ({}, False)


def _is_sampling(value: bytes) -> bool:
    """Whether a traceparent has its sampled bit set."""
    parts = value.split(b"-")
    if len(parts) != 4 or len(parts[3]) != 2:
        return False
    try:
        flags = int(parts[3], 16)
    except ValueError:
        return False
    return flags & 1 == 1 and flags < 0x80


def _is_sampled(percent: int) -> bool:
    from secrets import randbelow

    return not 0 < percent < 100 or randbelow(100) <= percent


def _may_publish(server: Server, client: Client, dest: str) -> bool:
    """Whether a client may have a trace published on a subject: as if it published there itself."""
    if dest.startswith(("_GR_.", "$GR.")):
        return False
    if dest.startswith("$NRG.") and client.account.name != server.system_account_name:
        return False
    return client.permissions is None or client.permissions.can_publish(dest.encode("utf-8", "surrogateescape"))


def _named(client: Client) -> dict[str, str]:
    return {"name": client.name} if client.name else {}


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")
