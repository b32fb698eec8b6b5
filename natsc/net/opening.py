"""What may come before the protocol: a PROXY header, the choice between TLS and plain, the handshake; then TLS itself.

An Opening is the Stage of a connection (natsc/net/protocol.pyx). It goes away where the connection turns out plain, and
stays where it is TLS. The order is the reference's: INFO in clear, unless the handshake comes first; a PROXY header;
then TLS where it is required or, with allow_non_tls, where the client's first byte begins a handshake. So are the
timeouts, and what is logged where one of these fails.
"""

from __future__ import annotations

from natsc import errors
from natsc.config.goaddress import join_host_port
from natsc.net.proxy_protocol import READ_TIMEOUT_S, ProxyError, ProxyParser
from natsc.net.tls import FEED_BYTES_MAX, TLSError, TLSLayer
from natsc.oserrors import errno_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from natsc._core import Client
    from natsc.clock import Timer
    from natsc.net.listener import ClientListener
    from natsc.net.protocol import ClientProtocol

_HANDSHAKE_RECORD = 0x16
_STARTING = "Starting TLS client connection handshake"
_NS = 1_000_000_000


class Opening:
    """The stage before (PROXY, sniffing) and beneath (TLS) the protocol of one connection."""

    def __init__(self, conn: ClientProtocol, client: Client, listener: ClientListener) -> None:
        server = listener.server
        options = server.options
        self._conn = conn
        self._client = client
        self._listener = listener
        self._server = server
        self._buffer = bytearray()
        self._timer: Timer | None = None
        self._proxy = bool(options.proxy_protocol)
        self._parser = ProxyParser()
        self._has_tls = server.tls_context is not None
        self._tls_first = self._has_tls and bool(options.tls_handshake_first)
        self._fallback = self._tls_first and options.tls_handshake_first_fallback > 0
        # In these the client's first byte decides between TLS and plain.
        self._sniff = self._has_tls and not self._tls_first and bool(options.allow_non_tls)
        self._tls: TLSLayer | None = None
        transport = conn.transport
        self._peer = _address(transport.get_extra_info("peername"))
        self._path = f"{_address(transport.get_extra_info('sockname'))}->{self._peer}"

    def start(self) -> None:
        """Sends INFO, or waits with it, and arms the first timeout."""
        self._conn.stage = self
        if self._fallback:
            self._wait(self._server.options.tls_handshake_first_fallback / _NS, self._fall_back)
        elif not self._tls_first:
            self._send_info()
            self._wait_for_first_bytes()
        else:
            self._wait_for_first_bytes()

    def _wait_for_first_bytes(self) -> None:
        if self._sniff:
            self._wait(self._server.options.tls_timeout, self._sniffed_nothing)
        elif self._proxy:
            self._wait(READ_TIMEOUT_S, self._no_proxy_header)
        else:
            self._begin_tls(b"")

    def _send_info(self) -> None:
        self._client.send(self._server.info_line(self._client, with_ip=not self._proxy))

    def _wait(self, seconds: float, then: Callable[[], object]) -> None:
        self._stop_timer()
        self._timer = self._server.clock.call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Input

    def feed(self, data: bytes) -> None:
        """Raw input."""
        if self._tls is not None:
            self._feed_tls(data)
            return
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        if self._client.closing:
            return
        if self._fallback:
            self._fallback = False
            self._stop_timer()
            if self._proxy:
                self._wait(READ_TIMEOUT_S, self._proxy_late)
        if self._proxy and not self._take_proxy_header():
            return
        if self._sniff:
            if not self._buffer:
                self._wait(self._server.options.tls_timeout, self._sniffed_nothing)
                return
            if self._buffer[0] != _HANDSHAKE_RECORD:
                self._go_plain()
                return
        if self._has_tls:
            data = bytes(self._buffer)
            self._buffer.clear()
            self._begin_tls(data)
        else:
            self._go_plain()

    def _take_proxy_header(self) -> bool:
        """Whether the opening may go on: the header is there, or there is none."""
        data = bytes(self._buffer)
        self._buffer.clear()
        began = self._parser.detected
        try:
            if not self._parser.feed(data):
                if self._parser.detected and not began:
                    self._wait(READ_TIMEOUT_S, self._proxy_late)
                return False
        except ProxyError as error:
            self._refuse_proxy(str(error))
            return False
        self._stop_timer()
        self._proxy = False
        header = self._parser.header
        if header is not None and header.src_ip:
            self._client.ip, self._client.port = header.src_ip, header.src_port
        self._buffer += self._parser.rest
        return True

    def _refuse_proxy(self, why: str) -> None:
        self._server.log.warn(f"Error reading PROXY protocol header from {self._peer}: {why}")
        self._stop_timer()
        self._client.close(errors.PROTOCOL_VIOLATION)
        self._server.engine.end_turn()

    def _no_proxy_header(self) -> None:
        """Bytes too few to tell whether they are a header get as much time again."""
        if self._parser.is_empty:
            self._proxy_late()
        else:
            self._wait(READ_TIMEOUT_S, self._proxy_late)

    def _proxy_late(self) -> None:
        self._refuse_proxy(self._parser.cut_short(f"read tcp {self._path}: i/o timeout"))

    # Plain after all

    def _fall_back(self) -> None:
        """handshake_first with a delay: nothing came, so this client waits for INFO."""
        self._fallback = self._tls_first = False
        self._send_info()
        self._sniff = bool(self._server.options.allow_non_tls)
        self._wait_for_first_bytes()
        self._server.engine.end_turn()

    def _sniffed_nothing(self) -> None:
        """Who is silent for so long doesn't begin a handshake. A PROXY header may come yet."""
        if self._proxy:
            self._wait(READ_TIMEOUT_S, self._proxy_late)
        else:
            self._go_plain()

    def _go_plain(self) -> None:
        self._stop_timer()
        self._conn.stage = None
        self._listener.opened(self._client)
        if self._buffer:
            self._conn.feed_plain(bytes(self._buffer))
        self._server.engine.end_turn()

    # TLS

    def _begin_tls(self, data: bytes) -> None:
        server = self._server
        self._stop_timer()
        limiter = server.tls_rate_limiter
        if limiter is not None and not limiter.allow(server.clock.now_ns()):
            self._client.send_err(errors.CONNECTION_THROTTLED)
            self._client.close(errors.MAX_CONNECTIONS_EXCEEDED)
            server.engine.end_turn()
            server.report_throttling()
            return
        server.log_client(self._client, "debug", _STARTING)
        self._tls = TLSLayer(server.tls_context, server.tls_scratch)
        self._conn.use_transport()
        self._wait(server.options.tls_timeout, self._handshake_late)
        if data:
            self._feed_tls(data)

    def _handshake_late(self) -> None:
        self._server.log_client(self._client, "debug", "TLS handshake timeout")
        self._fail_handshake(f"read tcp {self._path}: i/o timeout", level="debug")

    def _fail_handshake(self, cause: str, *, level: str = "error") -> None:
        self._stop_timer()
        self._server.log_client(self._client, level, f"TLS handshake error: {cause}")
        self._client.close(errors.TLS_HANDSHAKE_ERROR)
        self._server.engine.end_turn()

    def _feed_tls(self, data: bytes) -> None:
        tls = self._tls
        assert tls is not None
        was_done = tls.handshake_done
        view = memoryview(data)
        try:
            for at in range(0, len(data), FEED_BYTES_MAX):
                plain = tls.feed(view[at : at + FEED_BYTES_MAX])
                self._conn.write_raw(tls.take_output())
                if tls.handshake_done and not was_done:
                    was_done = True
                    if not self._handshake_done(tls):
                        return
                if plain:
                    self._conn.feed_plain(plain)
        except TLSError as error:
            self._conn.write_raw(tls.take_output())
            if not was_done:
                self._fail_handshake(str(error), level="debug" if error.probe else "error")
            else:
                self._client.close(errors.READ_ERROR)
                self._server.engine.end_turn()
            return
        if tls.peer_closed and not self._client.closing:
            self._client.close(errors.CLIENT_CLOSED)
            self._server.engine.end_turn()

    def _handshake_done(self, tls: TLSLayer) -> bool:
        """Whether the connection may go on: its certificate is one of the pinned ones, where there are any."""
        server, client = self._server, self._client
        self._stop_timer()
        pinned = server.options.tls_pinned_certs
        if pinned:
            try:
                tls.require_pinned(pinned, server.client_debug(client))
            except TLSError as error:
                self._fail_handshake(str(error))
                return False
        self._conn.tls = tls
        server.log_client(client, "debug", "TLS handshake complete")
        client.tls_names = version, suite = tls.version(), tls.cipher()
        server.log_client(client, "debug", f"TLS version {version}, cipher suite {suite}")
        if self._tls_first:
            client.tls_first = True
            self._client.send(server.info_line(client))
        self._listener.opened(client)
        server.engine.end_turn()
        return True

    # Output

    def wrap(self, data: bytes) -> bytes:
        """What goes out for data: itself before TLS, records with it."""
        tls = self._tls
        if tls is None or not tls.handshake_done:
            return data
        try:
            tls.write(data)
        except TLSError:
            self._client.close(errors.WRITE_ERROR)
            return b""
        return tls.take_output()

    def closing(self) -> bytes:
        """The last thing to send: TLS says goodbye."""
        if self._tls is None:
            return b""
        self._tls.close_notify()
        return self._tls.take_output()

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone: where the opening isn't over, its end is a failure of what was going on."""
        self._stop_timer()
        if self._client.closing:
            return
        if self._proxy:
            # Why the first few bytes weren't more is lost in nats-server, which reads again then.
            self._refuse_proxy(self._parser.cut_short(self._cause(exc) if self._parser.detected else "EOF"))
        elif self._tls is not None and not self._tls.handshake_done:
            cause = self._cause(exc)
            self._fail_handshake("unexpected EOF" if cause == "EOF" and self._tls.inside_record else cause)
        elif self._fallback and not self._server.options.allow_non_tls:
            self._server.log_client(self._client, "debug", _STARTING)
            self._fail_handshake(self._cause(exc))

    def _cause(self, exc: Exception | None) -> str:
        """Why nothing more comes, in Go's words."""
        if isinstance(exc, OSError):
            return f"read tcp {self._path}: read: {errno_text(exc)}"
        return "EOF"


def _address(address: tuple[str, int]) -> str:
    """A socket's address as Go prints it."""
    return join_host_port(address[0].removeprefix("::ffff:"), address[1])
