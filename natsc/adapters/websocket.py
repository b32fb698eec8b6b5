"""WebSocket clients: connections that begin with an HTTP upgrade and then carry the client protocol in frames.

A Door is the Stage of a connection (natsc/net/protocol.pyx): TLS where it is configured, the request for the
upgrade (handshake.py), frames. The client of the engine begins with the upgrade; before it a connection has nothing
but what it has sent so far, at most the 64 KiB of a request's head, and no longer than the handshake's time.

1. What a frame brings is given to the engine as it comes. A compressed message is inflated as it comes too, in pieces
   of at most INFLATED_BYTES: neither its size nor what it inflates to is ever held.
2. A close frame is sent once, with nats-server's status and text for the reason that the connection ends.
"""

from __future__ import annotations

import zlib

from natsc import errors
from natsc.adapters import frames
from natsc.adapters.handshake import Refused, Upgrade, answer, parse_upgrade
from natsc.config.goaddress import join_host_port
from natsc.monitor.request import RequestFault, RequestParser
from natsc.net.listener import ClientListener
from natsc.net.tls import FEED_BYTES_MAX, TLSError, TLSLayer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from typing import Any

    from natsc._core import Client
    from natsc.clock import Timer
    from natsc.net.protocol import ClientProtocol
    from natsc.server.server import Server

HANDSHAKE_SECONDS = 60.0  # for TLS and upgrade, where handshake_timeout isn't configured
INFLATED_BYTES = 32 * 1024
BROWSER_FRAME_BYTES = 4096  # of a frame to a browser
BEHIND_BYTES = 64 * 1024  # of answers that wait for the socket: no PONG is added, no request answered
COMPRESS_BYTES = 64  # what is shorter isn't compressed
_MULTIPLE, _LIMIT = 8, 64 << 20  # of max_payload, and of bytes: how long a compressed message may be
_CONTROL_TEXT_MAX = 123
_LAST_BLOCK = b"\x00\x00\xff\xff"  # what permessage-deflate leaves out at the end of a message
_NS = 1_000_000_000

_PROTOCOL, _BAD_DATA, _INTERNAL = 1002, 1007, 1011
_STATUS = {
    "Client Closed": 1000, "Write Error": 1001, "Read Error": 1001, "Stale Connection": 1001, "Server Shutdown": 1001,
    "Parse Error": 1002, "Protocol Violation": 1002, "Bad Client Protocol Version": 1002,
    "Authentication Timeout": 1008, "Authentication Failure": 1008, "Slow Consumer (Pending Bytes)": 1008,
    "Slow Consumer (Write Deadline)": 1008, "Maximum Account Connections Exceeded": 1008,
    "Maximum Connections Exceeded": 1008, "Maximum Control Line Exceeded": 1008,
    "Maximum Subscriptions Exceeded": 1008, "Missing Account": 1008, "Authentication Expired": 1008,
    "Credentials Revoked": 1008, "Maximum Message Payload Exceeded": 1009, "TLS Handshake Failure": 1015,
}  # fmt: skip


class WebSocketListener(ClientListener):
    """Listens for WebSocket clients of one server."""

    door = "WEBSOCKET"

    def __init__(self, server: Server, loop: AbstractEventLoop) -> None:
        super().__init__(server, loop)
        self.tls_context: Any = None
        self.scheme = "ws"
        self.configure()

    def configure(self) -> None:
        """Takes over the options, at start and after a reload."""
        server, part = self.server, self.server.options.websocket
        self.options = part
        own = server.claims is None and (_overrides(part) or part.tls_map != server.options.tls_map)
        self.auth = server.make_authenticator(_own_options(server.options), None) if own else None
        if part.tls_config is not None:
            from natsc.net import tls

            self.tls_context = tls.server_context(part.tls_config)
            self.scheme = "wss"
            if server.tls_scratch is None:
                server.tls_scratch = tls.make_scratch()

    def accepted(self, conn: ClientProtocol) -> None:
        """A connection was made: TLS and the upgrade come first."""
        peer = conn.peer()
        if peer is None or not self.server.accepting:
            conn.abort()
            return
        self.connections.add(conn)
        conn.stage = Door(conn, self, peer)

    def info_fields(self) -> dict[str, Any]:
        """What INFO says to the clients of this door instead of what it says to others."""
        secure = self.tls_context is not None
        return {
            "host": self.options.host, "port": self.port, "tls_required": secure, "tls_available": secure,
            "connect_urls": None, "auth_required": self.server.auth.auth_required_in_info or _overrides(self.options),
        }  # fmt: skip

    def greet(self, client: Client) -> None:
        """Sends INFO as it is for this door."""
        client.send(self.server.info_line(client, nonce=(client.nonce or b"").decode()))

    @property
    def auth_timeout(self) -> float:
        """Seconds for CONNECT."""
        return self.options.auth_timeout or self.server.options.auth_timeout


def _overrides(part: Any) -> bool:
    return bool(part.username or part.token or part.no_auth_user)


def _own_options(opts: Any) -> Any:
    """The options with the door's own credentials, where it has some, and its own mapping of certificates."""
    import copy

    part, own = opts.websocket, copy.copy(opts)
    own.tls_map = part.tls_map
    if _overrides(part):
        own.username, own.password, own.authorization = part.username, part.password, part.token
        own.no_auth_user = part.no_auth_user
    return own


class Door:
    """The stage of one connection: TLS, upgrade, frames."""

    def __init__(self, conn: ClientProtocol, listener: WebSocketListener, peer: tuple[str, int]) -> None:
        self._conn = conn
        self._listener = listener
        self._server = listener.server
        self._peer = peer
        self._tls: TLSLayer | None = None
        self._requests: RequestParser | None = RequestParser()
        self._upgrade: Upgrade | None = None
        self._reader: Any = None
        self._inflater: Any = None
        self._inflated = 0  # bytes of the message at hand
        self._deflated = 0
        self._close_sent = False
        self._ended = False
        if listener.tls_context is not None:
            self._tls = TLSLayer(listener.tls_context, self._server.tls_scratch)
        conn.use_transport()
        seconds = listener.options.handshake_timeout / _NS or HANDSHAKE_SECONDS
        self._timer: Timer | None = self._server.clock.call_later(seconds, self._too_late)

    # Input

    def feed(self, data: bytes) -> None:
        """Raw input."""
        if self._tls is None:
            self._take(data)
            return
        tls, view = self._tls, memoryview(data)
        try:
            for at in range(0, len(data), FEED_BYTES_MAX):
                plain = bytes(tls.feed(view[at : at + FEED_BYTES_MAX]))
                self._conn.write_raw(tls.take_output())
                if tls.handshake_done and self._conn.tls is None and not self._pinned(tls):
                    return
                if plain:
                    self._take(plain)
        except TLSError as error:
            self._conn.write_raw(tls.take_output())
            self._tls_failed(str(error))
            return
        if tls.peer_closed:
            self._end(errors.CLIENT_CLOSED)

    def _pinned(self, tls: TLSLayer) -> bool:
        """Whether the peer's certificate is one of the pinned ones, where there are any."""
        self._conn.tls = tls
        pinned = self._listener.options.tls_pinned_certs
        if pinned:
            try:
                tls.require_pinned(pinned, self._server.log.debug)
            except TLSError as error:
                self._tls_failed(str(error))
                return False
        return True

    def _tls_failed(self, why: str) -> None:
        if self._conn.client is None:
            self._server.log.error(f"websocket: http: TLS handshake error from {self._address}: {why}")
        self._end(errors.TLS_HANDSHAKE_ERROR)

    @property
    def _address(self) -> str:
        return join_host_port(*self._peer)

    def _take(self, data: bytes) -> None:
        """Plain input."""
        if self._requests is not None:
            self._take_request(data)
        elif self._conn.client is not None and not self._conn.client.closing:
            self._take_frames(data)

    def _too_late(self) -> None:
        self._timer = None
        self._conn.close()

    def _end(self, reason: int) -> None:
        """The connection is over."""
        self._ended = True
        client = self._conn.client
        if client is None:
            self._conn.close()
        elif not client.closing:
            client.close(reason)
            self._server.engine.end_turn()

    # The upgrade

    def _take_request(self, data: bytes) -> None:
        requests = self._requests
        assert requests is not None
        requests.feed(data)
        try:
            while (request := requests.next()) is not None:
                early = bool(requests.buffered)
                try:
                    upgrade = parse_upgrade(request, self._listener.options, secure=self._tls is not None,
                                            mqtt=bool(self._server.options.mqtt.port), early=early)  # fmt: skip
                except Refused as refusal:
                    self._server.log.error(f"{self._address} - websocket handshake error: {refusal}")
                    if not refusal.status:
                        self._conn.close()
                        return
                    self._write(answer(refusal.status, self._server.clock.wall_ns()))
                    if not request.keep_alive or self._behind():
                        self._conn.close()
                        return
                    continue
                self._begin(upgrade)
                return
        except RequestFault as fault:
            self._write(fault.reply)
            self._conn.close()

    def _begin(self, upgrade: Upgrade) -> None:
        """The connection is a client's from here on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._requests = None
        self._write(upgrade.reply)
        self._upgrade = upgrade
        self._reader = frames.FrameReader(upgrade.compress, upgrade.masked)
        listener = self._listener
        client = listener.make_client(self._conn, self._peer)
        client.cookies = upgrade.credentials or None
        client.forwarded_for = upgrade.client_ip
        client.set_ping_interval(max(listener.options.ping_interval, 0))
        if self._server.log.debug_on:
            self._server.log_client(client, "debug", "Client connection created")
        listener.greet(client)
        if listener.admitted(client):
            listener.opened(client)
        self._server.engine.end_turn()

    # Frames

    def _take_frames(self, data: bytes) -> None:
        try:
            for kind, payload, *more in self._reader.feed(data):
                if self._conn.client is None or self._conn.client.closing:
                    return
                if kind == frames.BINARY:
                    deflated, last = more
                    if deflated:
                        self._inflate(payload, last)
                    else:
                        self._conn.feed_plain(payload)
                elif kind == frames.PING and not self._behind():
                    self._write(frames.frame_header(frames.PONG, len(payload)) + payload)
                elif kind == frames.CLOSE:
                    self._closed_by_peer(payload)
                    return
        except frames.FrameError as error:
            self._broken(str(error))

    def _inflate(self, data: bytes, last: bool) -> None:
        """A piece of a compressed message: inflated no further than a payload may be long."""
        max_payload = self._server.options.max_payload
        self._deflated += len(data)
        if self._inflater is None:
            self._inflater = zlib.decompressobj(-15)
        if self._deflated > min(max_payload * _MULTIPLE, _LIMIT):
            self._broken("maximum payload exceeded")
            return
        rest = data + _LAST_BLOCK if last else data
        try:
            while rest:
                plain = self._inflater.decompress(rest, INFLATED_BYTES)
                rest = self._inflater.unconsumed_tail
                if self._inflater.eof:  # a final block, which is none of permessage-deflate's: a new stream may follow
                    self._inflater = zlib.decompressobj(-15)
                    rest = b""
                self._inflated += len(plain)
                if self._inflated > max_payload:
                    self._broken("maximum payload exceeded")
                    return
                if plain:
                    self._conn.feed_plain(plain)
                elif not rest:
                    break
        except zlib.error:
            self._broken("flate: corrupt input")
            return
        if last:
            self._inflater, self._inflated, self._deflated = None, 0, 0

    def _closed_by_peer(self, payload: bytes) -> None:
        """A close frame: its status goes back, and that is it."""
        if len(payload) == 1:
            self._broken("close frame payload cannot be 1 byte")
            return
        if payload:
            status, text = int.from_bytes(payload[:2], "big"), payload[2:]
            if not _is_status(status):
                self._broken(f"invalid close status code {status}")
                return
            try:
                text.decode()
            except UnicodeDecodeError:
                status, text = _BAD_DATA, b"invalid utf8 body in close frame"
            self._write(_close_frame(status, text))
        else:
            self._write(frames.frame_header(frames.CLOSE, 0))
        self._close_sent = True
        self._end(errors.CLIENT_CLOSED)

    def _broken(self, why: str) -> None:
        """The peer broke the protocol of frames."""
        client = self._conn.client
        self._server.log_client(client, "error", f"read error: {why}")
        self._write(_close_frame(_PROTOCOL, why.encode()))
        self._close_sent = True
        self._end(errors.READ_ERROR)

    # Output

    def _behind(self) -> bool:
        """Whether the peer doesn't read what it makes the server answer."""
        transport = self._conn.transport
        return transport is not None and transport.get_write_buffer_size() > BEHIND_BYTES

    def _write(self, data: bytes) -> None:
        self._conn.write_raw(self._protected(data))

    def _protected(self, data: bytes) -> bytes:
        if self._tls is None or not data:
            return data
        if not self._tls.handshake_done:
            return b""
        try:
            self._tls.write(data)
        except TLSError:
            return b""
        return self._tls.take_output()

    def wrap(self, data: bytes) -> bytes:
        """Frames around what the engine sends."""
        upgrade = self._upgrade
        if upgrade is None:
            return b""
        compressed = upgrade.compress and len(data) > COMPRESS_BYTES
        if compressed:
            deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
            data = (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        most = BROWSER_FRAME_BYTES if upgrade.browser and not (compressed and upgrade.whole_compressed) else 0
        if not most or len(data) <= most:
            return self._protected(frames.frame_header(frames.BINARY, len(data), compressed=compressed) + data)
        pieces = []
        for at in range(0, len(data), most):
            piece = data[at : at + most]
            if compressed:  # one message in several frames
                final = at + most >= len(data)
                header = frames.frame_header(frames.BINARY, len(piece), at == 0, final, at == 0)
            else:
                header = frames.frame_header(frames.BINARY, len(piece))
            pieces += [header, piece]
        return self._protected(b"".join(pieces))

    def closing(self) -> bytes:
        """The last thing to send: why, and TLS's goodbye."""
        client = self._conn.client
        output = b""
        if client is not None and not self._close_sent:
            self._close_sent = True
            status = _STATUS.get(client.reason, _INTERNAL)
            output = self._protected(_close_frame(status, client.reason.encode()))
        if self._tls is not None:
            self._tls.close_notify()
            output += self._tls.take_output()
        return output

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer has gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._tls is not None and not self._tls.handshake_done and not self._ended:
            why = str(exc) if exc is not None else "EOF"
            self._server.log.error(f"websocket: http: TLS handshake error from {self._address}: {why}")


def _is_status(status: int) -> bool:
    """Whether a peer may close with it (RFC 6455, 7.4)."""
    return 1000 <= status < 5000 and status not in (1004, 1005, 1006, 1015) and not 1016 <= status <= 2999


def _close_frame(status: int, text: bytes) -> bytes:
    if len(text) > _CONTROL_TEXT_MAX:
        text = text[: _CONTROL_TEXT_MAX - 3] + b"..."
    return frames.frame_header(frames.CLOSE, 2 + len(text)) + status.to_bytes(2, "big") + text
