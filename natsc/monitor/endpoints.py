"""Which function answers which path.

An endpoint takes (server, query) and returns a Response: status, content type (empty: decided from the body) and the
body, bytes or an iterator of pieces. It raises BadRequest for what the caller got wrong. Paths are matched as Go's
ServeMux matches them: exactly, after a redirect to the clean form of a path with doubled slashes or dots.
"""

from __future__ import annotations

import posixpath

from natsc.monitor import absent, accounts, connz, debug, health, jsz, root, subsz, varz
from natsc.monitor.params import BadRequest, parse_query, percent_decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from natsc.monitor.params import Query

    Body = bytes | Iterator[bytes]
    Response = tuple[int, str, Body]
    Endpoint = Callable[[Any, Query], Response]
    Headers = list[tuple[str, str]]

ENDPOINTS: dict[str, Endpoint] = {
    "/varz": varz.varz,
    "/connz": connz.connz,
    "/routez": absent.routez,
    "/gatewayz": absent.gatewayz,
    "/leafz": absent.leafz,
    "/subsz": subsz.subsz,
    "/subscriptionsz": subsz.subsz,
    "/stacksz": debug.stacksz,
    "/accountz": accounts.accountz,
    "/accstatz": accounts.accstatz,
    "/jsz": jsz.jsz,
    "/healthz": health.healthz,
    "/ipqueuesz": absent.ipqueuesz,
    "/raftz": absent.raftz,
    "/debug/vars": debug.expvars,
}

_TEXT = "text/plain; charset=utf-8"
_BINARY = frozenset((*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)))


def normalize_base_path(path: str) -> str:
    """/ for none, else a clean path that starts with a slash and doesn't end in one."""
    return clean_path(path, keep_slash=False)


def clean_path(path: str, keep_slash: bool = True) -> str:
    """`path` without empty segments, dots and double dots; a slash at its end stays if `keep_slash`."""
    if not path:
        return "/"
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if keep_slash and path.endswith("/") and cleaned != "/" else cleaned


def answer(server: Any, base_path: str, method: str, path: str, raw_query: str) -> tuple[int, Headers, Body]:
    """Status, headers (but those about length and connection) and body for a request.

    `path` is as received, still percent-encoded. `base_path` is normalized.
    """
    if method != "CONNECT" and (cleaned := clean_path(path)) != path:
        return _redirect(method, cleaned + ("?" + raw_query if raw_query else ""))
    decoded = percent_decode(path)
    if decoded == base_path:
        status, kind, body = root.root(server, base_path)
        return status, [("Content-Type", kind)], body
    endpoint = None
    if decoded is not None and (base_path == "/" or decoded.startswith(base_path + "/")):
        endpoint = ENDPOINTS.get(decoded if base_path == "/" else decoded[len(base_path) :])
    if endpoint is None:
        return 404, [("Content-Type", _TEXT), ("X-Content-Type-Options", "nosniff")], b"404 page not found\n"
    try:
        status, kind, body = endpoint(server, parse_query(raw_query))
    except BadRequest as fault:
        status, kind, body = 400, "", str(fault).encode("utf-8", "surrogateescape")
    if not kind:
        return status, [("Content-Type", _sniff(body))], body
    headers = [("Content-Type", kind)]
    if kind == "application/json":
        headers.insert(0, ("Access-Control-Allow-Origin", "*"))
    return status, headers, body


def _sniff(body: Body) -> str:
    """Text, unless a byte says otherwise: error texts repeat what they were sent."""
    if isinstance(body, bytes) and not _BINARY.isdisjoint(body[:512]):
        return "application/octet-stream"
    return _TEXT


def _redirect(method: str, location: str) -> tuple[int, Headers, Body]:
    location = "".join(
        [char if " " < char < "\x7f" else "".join([f"%{b:02x}" for b in _raw(char)]) for char in location]
    )
    if method not in ("GET", "HEAD"):
        return 307, [("Location", location)], b""
    shown = location
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        shown = shown.replace(char, entity)
    body = f'<a href="{shown}">Temporary Redirect</a>.\n\n'
    return 307, [("Content-Type", "text/html; charset=utf-8"), ("Location", location)], body.encode()


def _raw(char: str) -> bytes:
    return char.encode("utf-8", "surrogateescape")
