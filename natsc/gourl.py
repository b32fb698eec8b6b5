"""Reads a URL with a host the way Go's net/url does, with its error texts.

Only what nats-server asks of such a URL: scheme, user, password, host and port. urllib.parse accepts much of what Go
refuses.
"""

from __future__ import annotations

import re

from natsc.config.gotext import GoError, quote

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_USERINFO = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*\Z")
_PORT = re.compile(r"(:[0-9]*)?\Z")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_HOST_ASCII = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:\[\]<>\"%\x80-\U0010ffff]*\Z")


class URLError(GoError):
    """A URL or an address that Go refuses; str() is Go's text."""


class HostURL:
    """The parts of a URL up to its path. `host` keeps brackets and port; `user` is None where the URL names none."""

    __slots__ = ("host", "password", "path", "scheme", "user")

    def __init__(
        self, scheme: str, user: str | None = None, password: str | None = None, host: str = "", path: str = ""
    ) -> None:
        self.scheme = scheme
        self.user = user
        self.password = password
        self.host = host
        self.path = path


def redacted(url: str) -> str:
    """A URL without the password in it, which may be no URL."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, user = head.partition("://")
    name, colon, _ = user.partition(":")
    if not at or not slashes or "/" in name:
        return url
    return f"{scheme}://{name}{':xxxxx' if colon else ''}@{tail}"


def parse(raw: str) -> HostURL:
    """url.Parse. Raises URLError, in whose text there is no password."""
    url, _, fragment = raw.partition("#")
    try:
        parsed = _parse(url)
    except URLError as error:
        raise URLError(f"parse {quote(redacted(url))}: {error}") from None
    try:
        _unescape(fragment)
    except URLError as error:
        raise URLError(f"parse {quote(redacted(raw))}: {error}") from None
    return parsed


def _parse(url: str) -> HostURL:
    if any(char < " " or char == "\x7f" for char in url):
        raise URLError("net/url: invalid control character in URL")
    scheme, rest = _split_scheme(url)
    rest = rest.partition("?")[0]
    if not rest.startswith("/"):
        if not scheme and ":" in rest.partition("/")[0]:
            raise URLError("first path segment in URL cannot contain colon")
        if not scheme:
            _unescape(rest)
        return HostURL(scheme)
    if not rest.startswith("//") or (not scheme and rest.startswith("///")):
        return HostURL(scheme, path=_unescape(rest))
    authority, slash, path = rest[2:].partition("/")
    parsed = _parse_authority(scheme, authority)
    parsed.path = _unescape(slash + path)
    return parsed


def _split_scheme(url: str) -> tuple[str, str]:
    if url.startswith(":"):
        raise URLError("missing protocol scheme")
    match = _SCHEME.match(url)
    return (match[1].lower(), url[match.end() :]) if match else ("", url)


def _parse_authority(scheme: str, authority: str) -> HostURL:
    userinfo, at, host = authority.rpartition("@")
    host = _parse_host(scheme, host)
    if not at:
        return HostURL(scheme, host=host)
    if not _USERINFO.match(userinfo):
        raise URLError("net/url: invalid userinfo")
    user, colon, password = userinfo.partition(":")
    return HostURL(scheme, _unescape(user), _unescape(password) if colon else None, host)


def _parse_host(scheme: str, host: str) -> str:
    bracket = host.rfind("[")
    if bracket > 0:
        raise URLError("invalid IP-literal")
    if bracket == 0:
        end = host.rfind("]")
        if end < 0:
            raise URLError("missing ']' in host")
        _check_port(host[end + 1 :])
        return "[" + _ipv6(_unescape_host(host[1:end])) + "]" + host[end + 1 :]
    colon = host.find(":") if scheme in ("http", "https") else host.rfind(":")
    if colon >= 0:
        _check_port(host[colon:])
    return _unescape_host(host)


def _check_port(text: str) -> None:
    if not _PORT.match(text):
        raise URLError(f"invalid port {quote(text)} after host")


def _ipv6(text: str) -> str:
    import socket

    try:
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except OSError:
        raise URLError(f"invalid host: ParseAddr({quote(text)}): unable to parse IP") from None
    return text


def _unescape_host(text: str) -> str:
    if not _HOST_ASCII.match(text):
        bad = next(char for char in text if not _HOST_ASCII.match(char))
        raise URLError(f"invalid character {quote(bad)} in host name")
    return _unescape(text)


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    parts = text.encode("utf-8", "surrogateescape").split(b"%")
    out = [parts[0]]
    for part in parts[1:]:
        if not _ESCAPE.match("%" + part[:2].decode("latin-1")):
            raise URLError(f"invalid URL escape {quote('%' + part[:2].decode('utf-8', 'surrogateescape'))}")
        out.append(bytes((int(part[:2], 16),)) + part[2:])
    return b"".join(out).decode("utf-8", "surrogateescape")
