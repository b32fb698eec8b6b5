"""HTTP GET of something small, on a thread of its own: the loop goes on meanwhile.

Redirects are followed within HTTP, no proxy is asked, and neither time nor size has to be trusted to the other side.
"""

from __future__ import annotations

import time
from threading import Thread

from natsc.auth.jwt import SIZE_MAX
from natsc.config.gotext import quote
from natsc.gourl import redacted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from ssl import SSLContext

    from natsc.config.options import TLSConfigOpts

_PIECE = 65536


def fetch(
    loop: AbstractEventLoop,
    url: str,
    timeout: float,
    context: SSLContext | None,
    then: Callable[[str | None, str], object],
) -> None:
    """Calls then(text, "") or then(None, why) on the loop, once."""

    def run() -> None:
        answer: tuple[str | None, str]
        try:
            answer = get(url, timeout, context), ""
        except (OSError, ValueError) as error:
            answer = None, f"could not fetch <{quote(redacted(url))}>: {_reason(error)}"
        try:
            loop.call_soon_threadsafe(then, *answer)
        except RuntimeError:
            return  # the loop is closed: nobody waits for it

    Thread(target=run, name="natsc-fetch", daemon=True).start()


def get(url: str, timeout: float, context: SSLContext | None) -> str:
    """The text at a URL. Blocks for about `timeout` seconds at most. Raises OSError, ValueError."""
    import http.client
    from urllib import request

    asked = request.Request(_without_user(url))  # noqa: S310
    if asked.full_url != url:
        # Not for whom the answer may refer to.
        asked.add_unredirected_header("Authorization", _basic(url))
    opener = request.OpenerDirector()
    for handler in (
        request.HTTPHandler(), request.HTTPSHandler(context=context), request.HTTPDefaultErrorHandler(),
        request.HTTPRedirectHandler(), request.HTTPErrorProcessor(), request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    deadline = time.monotonic() + timeout
    pieces: list[bytes] = []
    size = 0
    try:
        with opener.open(asked, timeout=timeout) as answer:
            if answer.status != 200:
                raise OSError(f"{answer.status} {answer.reason}")
            while piece := answer.read1(_PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > SIZE_MAX:
                    raise ValueError("the answer is too large")
                if time.monotonic() > deadline:
                    raise TimeoutError("the answer took too long")
    except http.client.HTTPException as error:
        raise ValueError(f"malformed HTTP response: {error!r}") from None
    return b"".join(pieces).decode("utf-8", "surrogateescape").strip()


def _reason(error: Exception) -> str:
    """The reason without the library's words around it."""
    from urllib.error import HTTPError

    if isinstance(error, HTTPError):
        return f"{error.code} {error.reason}"
    return str(getattr(error, "reason", error))


def _without_user(url: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _basic(url: str) -> str:
    """The header for the user and password in a URL."""
    from base64 import b64encode
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(pair.encode()).decode()}"


def client_context(tls: TLSConfigOpts) -> SSLContext:
    """The TLS of `resolver_tls`. Raises OSError."""
    import ssl

    context = ssl.create_default_context(cafile=tls.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file or None)
    return context
