"""The monitoring port: its listener, its connections and who answers them. The entry point is `start_monitor`.

It runs on the server's own event loop. What serves requests is loaded with the first connection, so that a monitoring
port costs a starting server nothing but a socket.

At most MAX_CONNECTIONS are open: then the one idle for longest makes room for a new one, and if none is idle the
newcomer is closed.
"""

from __future__ import annotations

from natsc.config.goaddress import join_host_port
from natsc.net.sockets import BACKLOG, ListenError, open_listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from asyncio import AbstractEventLoop, AbstractServer
    from collections.abc import Callable
    from typing import Any

    from natsc.monitor.connection import MonitorConnection
    from natsc.monitor.endpoints import Body, Headers
    from natsc.monitor.request import Request

MAX_CONNECTIONS = 1024


class MonitorError(Exception):
    """The monitoring port can't be opened; the text says why, as the reference says it."""


class Monitor:
    """The listener and its connections. `close` releases all of them."""

    def __init__(self, server: Any, loop: AbstractEventLoop, secure: bool) -> None:
        self.loop = loop
        self.scheme = "https" if secure else "http"
        self.port = 0
        self.urls: list[str] = []
        self._server = server
        self._connections: set[MonitorConnection] = set()
        self._listener: AbstractServer | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Starts to accept on a listening socket. Raises MonitorError where TLS is wanted and its files can't be
        used."""
        factory: Callable[[], Any] = self._connection
        if self.scheme == "https":
            from natsc.monitor.tls import LayerSource, TLSConnection
            from natsc.net.tls import TLSConfigError

            try:
                layer = LayerSource(self._server)
            except TLSConfigError as error:
                raise MonitorError(str(error)) from None
            factory = lambda: TLSConnection(self._connection(), layer(), self.log_error)  # noqa: E731
        self._listener = await self.loop.create_server(factory, sock=sock, backlog=BACKLOG)

    def _connection(self) -> MonitorConnection:
        from natsc.monitor.connection import MonitorConnection

        return MonitorConnection(self)

    def close(self) -> None:
        """Stops listening and drops every connection."""
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.close()

    def now_seconds(self) -> float:
        """Wall time, for the Date header."""
        return self._server.clock.wall_ns() / 1e9  # type: ignore[no-any-return]

    # -- connections -------------------------------------------------------------------------------------------------

    def admit(self, connection: MonitorConnection) -> bool:
        """Counts a connection in, after dropping the one idle for longest if there are too many."""
        if len(self._connections) >= MAX_CONNECTIONS:
            idle = [other for other in self._connections if other.idle_since]
            if not idle:
                return False
            longest = min(idle, key=lambda other: other.idle_since)
            self._connections.discard(longest)
            longest.close()
        self._connections.add(connection)
        return True

    def forget(self, connection: MonitorConnection) -> None:
        """Counts a connection out."""
        self._connections.discard(connection)

    # -- answers -----------------------------------------------------------------------------------------------------

    def respond(self, request: Request) -> tuple[int, Headers, Body]:
        """Status, headers and body. What goes wrong inside an endpoint is logged and answered with status 500."""
        if request.unexpected:
            request.keep_alive = False
            return 417, [], b""
        if request.whole_server and request.method == "OPTIONS":
            return 200, [], b""
        if request.whole_server:
            request.keep_alive = False
            return 400, [], b""
        from natsc.monitor import endpoints

        base_path = endpoints.normalize_base_path(self._server.options.http_base_path)
        try:
            return endpoints.answer(self._server, base_path, request.method, request.path, request.query)
        except Exception as error:  # a fault of one endpoint must not take the data plane down
            self.failed(error)
            return 500, [("Content-Type", "text/plain; charset=utf-8")], b"Internal Server Error\n"

    def failed(self, error: Exception) -> None:
        """Logs a fault of an endpoint with the place where it happened."""
        import traceback

        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        self.log_error(f"{type(error).__name__}: {error}{place}")

    def log_error(self, text: str) -> None:
        """One line in the server's log."""
        self._server.log.error(f"monitoring: {text}")


async def start_monitor(server: Any, loop: AbstractEventLoop) -> Monitor | None:
    """Opens the configured monitoring port, None if there isn't one. Raises MonitorError."""
    options = server.options
    if options.http_port and options.https_port:
        raise MonitorError(f"can't specify both HTTP ({options.http_port}) and HTTPs ({options.https_port}) ports")
    if not options.http_port and not options.https_port:
        return None
    if not options.http_port and options.tls_config is None:
        raise MonitorError("TLS cert and key required for HTTPS")
    monitor = Monitor(server, loop, secure=not options.http_port)
    host = options.http_host
    try:
        sock = open_listener(host, max(options.http_port or options.https_port, 0))
    except ListenError as error:
        raise MonitorError(f"can't listen to the monitor port: {error}") from None
    monitor.port = sock.getsockname()[1]
    shown = join_host_port(host, monitor.port)
    monitor.urls = [f"{monitor.scheme}://{shown}"]
    try:
        await monitor.listen(sock)
    except MonitorError:
        sock.close()
        raise
    server.log.notice(f"Starting {monitor.scheme} monitor on {shown}")
    return monitor
