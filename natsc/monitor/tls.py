"""TLS under the monitoring port: an adapter between a TCP transport and a connection, around the TLS layer of client
connections.

The event loop's own TLS would do but for three things: certificates must be those of the latest reload, a plain HTTP
request deserves an answer that says what is wrong, and a failed handshake belongs in the server's log.
"""

from __future__ import annotations

import ssl

from natsc.config.goaddress import join_host_port
from natsc.net.tls import FEED_BYTES_MAX, TLSError, TLSLayer, make_scratch, server_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc.monitor.connection import MonitorConnection

_HTTP_STARTS = (b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO")
_START_BYTES = 5
_PLAIN_ANSWER = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class TLSConnection:
    """Protocol of a TCP transport, and transport of `inner`. `log` takes what went wrong in a handshake."""

    __slots__ = ("_failed", "_inner", "_layer", "_log", "_start", "_transport")

    def __init__(self, inner: MonitorConnection, layer: TLSLayer, log: Callable[[str], None]) -> None:
        self._inner = inner
        self._layer = layer
        self._log = log
        self._start = b""  # the first bytes, until there are enough to tell TLS from HTTP
        self._failed = False
        self._transport: Any = None

    # -- protocol of the TCP transport -------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        """The handshake falls under the inner connection's time limit for a first request."""
        self._transport = transport
        self._inner.connection_made(self)

    def connection_lost(self, error: BaseException | None) -> None:
        """A handshake that the peer left unfinished is logged."""
        if not self._layer.handshake_done:
            self._fail("unexpected EOF" if self._start else "EOF")
        self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """Decrypts what came and hands it on."""
        if self._failed:
            return
        if len(self._start) < _START_BYTES:
            self._start += data
            if len(self._start) < _START_BYTES:
                return
            data = self._start
            if data.startswith(_HTTP_STARTS):
                self._transport.write(_PLAIN_ANSWER)
                self._fail("client sent an HTTP request to an HTTPS server")
                self._transport.close()
                return
        view = memoryview(data)
        for at in range(0, len(view), FEED_BYTES_MAX):
            if not self._feed(view[at : at + FEED_BYTES_MAX]):
                return

    def eof_received(self) -> bool:
        """TLS has no half-closed connections."""
        return False

    def pause_writing(self) -> None:
        """Passed on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Passed on."""
        self._inner.resume_writing()

    def _feed(self, data: memoryview) -> bool:
        """Whether the connection goes on."""
        try:
            plain = bytes(self._layer.feed(data))
        except TLSError as error:
            self._flush()  # the alert
            if not self._layer.handshake_done:
                self._fail(str(error))
            self._transport.close()
            return False
        self._flush()
        if plain:
            self._inner.data_received(plain)
        if self._layer.peer_closed and not self._transport.is_closing():
            self.close()
        return not self._transport.is_closing()

    def _fail(self, reason: str) -> None:
        if self._failed:
            return
        self._failed = True
        peer = self._transport.get_extra_info("peername") or ("", 0)
        self._log(f"TLS handshake error from {join_host_port(peer[0], peer[1])}: {reason}")

    def _flush(self) -> None:
        data = self._layer.take_output()
        if data:
            self._transport.write(data)

    # -- transport of the inner connection ---------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Encrypts and sends. Nothing is written without a handshake."""
        if not self._layer.handshake_done or not data:
            return
        try:
            self._layer.write(data)
        except TLSError:
            self.abort()
            return
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
        self._layer.close_notify()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._transport.abort()


class LayerSource:
    """Makes a TLS layer for each connection, from the server's options of that moment."""

    __slots__ = ("_context", "_options", "_scratch", "_server")

    def __init__(self, server: Any) -> None:
        """Raises TLSConfigError where the options' certificates can't be used."""
        self._server = server
        shared = getattr(server, "tls_scratch", None)  # what is decrypted is copied at once
        self._scratch = make_scratch() if shared is None else shared
        self._options = server.options
        self._context = _context(self._options)

    def __call__(self) -> TLSLayer:
        options = self._server.options
        if options is not self._options:
            self._options, self._context = options, _context(options)
        return TLSLayer(self._context, self._scratch)


def _context(options: Any) -> ssl.SSLContext:
    """That of the client listener, but nobody is asked for a certificate."""
    context = server_context(options.tls_config)
    context.verify_mode = ssl.CERT_NONE
    return context
