"""TLS under the monitoring port: an adapter between a TCP transport and a connection, over the ssl module's memory
buffers.

The event loop's own TLS would do but for three things: certificates must be those of the latest reload, a plain HTTP
request deserves an answer that says what is wrong, and a failed handshake belongs in the server's log.
"""

from __future__ import annotations

import ssl
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc.monitor.http import MonitorConnection

_HTTP_STARTS = (b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO")
_PLAIN_ANSWER = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
_RECORD_HEADER_BYTES = 5
_HANDSHAKE_RECORD = 0x16
_READ_BYTES = 64 * 1024


class TLSConnection:
    """Protocol of a TCP transport, and transport of `inner`. `log` takes what went wrong in a handshake."""

    def __init__(self, inner: MonitorConnection, context: ssl.SSLContext, log: Callable[[str], None]) -> None:
        self._inner = inner
        self._log = log
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._start = b""  # what came before there was enough to tell TLS from something else
        self._sniffed = False
        self._ready = False  # the handshake is done
        self._failed = False
        self._transport: Any = None

    # -- protocol of the TCP transport -------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """The handshake falls under the inner connection's time limit for a first request."""
        self._transport = transport
        self._inner.connection_made(self)

    def connection_lost(self, error: BaseException | None) -> None:
        """A handshake that the peer left unfinished is logged."""
        if not self._ready:
            self._fail("unexpected EOF" if self._start or self._sniffed else "EOF")
        self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Deciphers what came and hands it on."""
        if self._failed:
            return
        if not self._sniffed:
            self._start += data
            if len(self._start) < _RECORD_HEADER_BYTES:
                return
            data, self._sniffed = self._start, True
            if data[0] != _HANDSHAKE_RECORD:
                self._refuse_plain(data)
                return
        self._incoming.write(data)
        if self._ready or self._handshake():
            self._read()

    def eof_received(self) -> bool:
        """TLS has no half-closed connections."""
        return False

    def pause_writing(self) -> None:
        """Passed on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Passed on."""
        self._inner.resume_writing()

    def _handshake(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._flush()  # the alert
            self._fail(error.reason or str(error))
            self._transport.close()
            return False
        self._ready = True
        self._flush()
        return True

    def _read(self) -> None:
        while not self._transport.is_closing():
            try:
                data = self._tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError:
                self.abort()
                return
            if not data:
                self.close()
                return
            self._inner.data_received(data)
        self._flush()

    def _refuse_plain(self, data: bytes) -> None:
        if data.startswith(_HTTP_STARTS):
            self._transport.write(_PLAIN_ANSWER)
            self._fail("client sent an HTTP request to an HTTPS server")
        else:
            self._fail("tls: first record does not look like a TLS handshake")
        self._transport.close()

    def _fail(self, reason: str) -> None:
        if self._failed:
            return
        self._failed = True
        peer = self._transport.get_extra_info("peername") or ("", 0)
        host = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
        self._log(f"TLS handshake error from {host}:{peer[1]}: {reason}")

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._transport.write(data)

    # -- transport of the inner connection ---------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Enciphers and sends. Nothing is written after a failed handshake."""
        if self._ready and data:
            self._tls.write(data)
            self._flush()

    def can_write_eof(self) -> bool:
        """TLS has no half-closed connections."""
        return False

    def pause_reading(self) -> None:
        """Passed on."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Passed on."""
        self._transport.resume_reading()

    def close(self) -> None:
        """Says goodbye in TLS, sends what waits and closes."""
        if self._ready:
            with suppress(ssl.SSLError):  # the peer's goodbye hasn't come, and isn't waited for
                self._tls.unwrap()
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._transport.abort()


class ContextSource:
    """Contexts from the server's present options, made anew when a reload brings other ones."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._options: Any = None
        self._context: ssl.SSLContext | None = None

    def __call__(self) -> ssl.SSLContext:
        options = self._server.options
        if self._context is None or options is not self._options:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            for cert, key in certificate_pairs(options):
                context.load_cert_chain(cert, key)
            self._context, self._options = context, options
        return self._context


def certificate_pairs(options: Any) -> list[tuple[str, str]]:
    """The files of the client listener's certificates and keys."""
    tls_options = getattr(options, "tls_config", None)
    if tls_options is None:
        return []
    pairs = [(pair[0], pair[1]) for pair in getattr(tls_options, "certificates", None) or ()]
    if tls_options.cert_file:
        pairs.insert(0, (tls_options.cert_file, tls_options.key_file))
    return pairs
