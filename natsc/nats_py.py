"""nats-py clients of an embedded server, connected without a socket.

nats-py has no public way to bring a transport along, so this sets the one that it would make itself; all else,
reconnects included, is nats-py's.
"""

from __future__ import annotations

from nats.aio.client import Client
from nats.aio.transport import TcpTransport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
    from urllib.parse import ParseResult

    from natsc.embed import Server


class InProcessTransport(TcpTransport):
    """Connects to a server in this process, whatever the URL says."""

    def __init__(self, server: Server) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._server = server

    def __bool__(self) -> bool:
        return True  # the client makes its own where this is false

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        streams = await self._server.connect_in_process(limit=buffer_size)
        self._io_reader, self._io_writer = self._bare_io_reader, self._bare_io_writer = streams


async def connect(server: Server, **options: Any) -> Client:
    """A connected client; options are those of nats.connect. Raises what it raises."""
    client = Client()
    client._transport = InProcessTransport(server)
    port = server.ports["nats"]
    await client.connect(servers=[f"nats://127.0.0.1:{port}"], **options)
    return client
