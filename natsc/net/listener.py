"""The client port: accepts connections and makes clients of them."""

from __future__ import annotations

from natsc import errors
from natsc.config.gotext import format_duration
from natsc.net.protocol import ClientProtocol
from natsc.net.sockets import BACKLOG, open_listeners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, AbstractServer
    from typing import Any

    from natsc._core import Client, Engine
    from natsc.server.server import Server

# Closed for these reasons, a connection isn't waited for: what it was to get is lost anyhow.
_ABORTED = (4, 5, 6, 7, 8)  # TLS handshake, slow consumers, write and read errors


class ClientListener:
    """Listens for clients of one server. Its connections call accepted, opened and lost."""

    door = "STANDARD"  # by its name in allowed_connection_types
    auth: Any = None  # what decides over its connections; None = the server's

    def __init__(self, server: Server, loop: AbstractEventLoop) -> None:
        self.server = server
        self.loop = loop
        self.engine: Engine = server.engine
        self.port = 0
        self.write_deadline_text = format_duration(server.options.write_deadline)
        self.connections: set[ClientProtocol] = set()
        self._servers: list[AbstractServer] = []

    async def open(self, host: str, port: int) -> None:
        """Binds and listens; nothing is accepted before start(). Raises ListenError."""
        sockets = open_listeners(host, max(port, 0))
        self.port = sockets[0].getsockname()[1]
        for sock in sockets:
            server = await self.loop.create_server(self._make, sock=sock, backlog=BACKLOG, start_serving=False)
            self._servers.append(server)

    async def start(self) -> None:
        for server in self._servers:
            await server.start_serving()

    def _make(self) -> ClientProtocol:
        return ClientProtocol(self)

    def stop(self) -> None:
        """Accepts nothing any more; connections go on."""
        for server in self._servers:
            server.close()
        self._servers.clear()

    # What connections tell

    def accepted(self, conn: ClientProtocol) -> None:
        """A connection was made: give it a client, greet it, and find out what it speaks."""
        server = self.server
        peer = conn.peer()
        if peer is None or not server.accepting:
            conn.abort()
            return
        self.connections.add(conn)
        client = self.make_client(conn, peer)
        if server.log.debug_on:
            server.log_client(client, "debug", "Client connection created")
        if server.options.max_conn < 0 or 0 < server.options.max_conn < self.engine.num_clients:
            self._send_info(client)
            self.admitted(client)
            self.engine.end_turn()
            return
        if conn.in_process:  # there is nothing between the two that TLS could protect
            fields: dict[str, Any] = dict.fromkeys(("tls_required", "tls_verify", "tls_available"), False)
            client.send(server.info_line(client, nonce=(client.nonce or b"").decode(), **fields))
            self.opened(client)
        elif server.tls_context is not None or server.options.proxy_protocol:
            from natsc.net.opening import Opening

            Opening(conn, client, self).start()
        else:
            self._send_info(client)
            self.opened(client)
        self.engine.end_turn()

    def make_client(self, conn: ClientProtocol, peer: tuple[str, int]) -> Client:
        """The engine's client of a connection."""
        server = self.server
        client = self.engine.connect(server.global_account, conn, *peer)
        client.door = self.door
        conn.attach(client)
        if (self.auth or server.auth).nonce_required:
            from natsc.auth.nkeys import new_nonce

            client.nonce = new_nonce()
        server.total_connections += 1
        return client

    def admitted(self, client: Client) -> bool:
        """False where there are too many clients: this one is closing then. It has got its INFO already."""
        limit = self.server.options.max_conn
        if limit >= 0 and not 0 < limit < self.engine.num_clients:
            return True
        self.server.log_limit(client, errors.TOO_MANY_CONNECTIONS)
        client.send_err(errors.TOO_MANY_CONNECTIONS)
        client.close(errors.MAX_CONNECTIONS_EXCEEDED)
        return False

    def _send_info(self, client: Client) -> None:
        client.send(self.server.info_line(client))

    def opened(self, client: Client) -> None:
        """The protocol begins: TLS and what else comes first is done."""
        if (self.auth or self.server.auth).auth_required:
            client.expect_connect(int(self.auth_timeout * 1_000_000_000))
        client.start_ping(False)

    @property
    def auth_timeout(self) -> float:
        """Seconds for CONNECT."""
        return float(self.server.options.auth_timeout)

    def closing(self, client: Client) -> None:
        """The engine has closed a client."""
        if client.close_reason in _ABORTED:
            client.conn.abort()
        else:
            client.conn.close()

    def lost(self, conn: ClientProtocol, exc: Exception | None) -> None:
        """The connection is gone."""
        self.connections.discard(conn)
        client = conn.client
        if client is None:
            return
        if not client.closing:
            client.close(errors.READ_ERROR if exc is not None else errors.CLIENT_CLOSED)
            self.engine.end_turn()
        client.conn = None
