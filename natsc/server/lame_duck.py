"""Lame duck mode: the slow goodbye that lets the clients of a server find another one, a few at a time (SIGUSR2).

1. Nothing is accepted any more; clients that understand it learn so with INFO's ldm.
2. The grace period passes: of several servers that stop at once, none sends its clients to another.
3. The clients are closed one by one, spread over what is left of lame_duck_duration, no more than a second apart.
4. The server shuts down.

All of it runs on the server's clock, and ends where the server is shut down meanwhile.
"""

from __future__ import annotations

from random import randrange

from natsc import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from natsc._core import Client
    from natsc.server.server import Server

_SECOND = 1_000_000_000
GAP_NS_MAX = _SECOND


def begin(server: Server, end: Callable[[], object], *, pick: Callable[[int], int] = randrange) -> None:
    """Starts the goodbye; end() is called once, when nobody is left to wait for. A second call does nothing.

    pick(n) gives a number from 0 to n - 1; tests pass one that isn't random.
    """
    if server.stopping or server.lame_duck or server.listener is None:
        return
    server.log.notice("Entering lame duck mode, stop accepting new clients")
    server.lame_duck = True
    server.accepting = False
    server.listener.stop()
    if server.websocket is not None:
        server.websocket.stop()
    if server.system is not None:
        server.system.stopping("LAMEDUCK")
    clients = server.engine.clients()
    if not clients:
        end()
        return
    _tell(server, clients)
    _Goodbye(server, clients, end, pick).start()


def _tell(server: Server, clients: list[Client]) -> None:
    """INFO for the clients that expect more than one: those of protocol 1, once they had their first PONG."""
    for client in clients:
        if client.protocol >= 1 and client.first_pong_sent and not client.closing:
            client.send(server.info_line(client, ldm=True))
    server.engine.end_turn()


class _Goodbye:
    """The clients that are still to be closed, and the gap between two of them."""

    def __init__(
        self, server: Server, clients: list[Client], end: Callable[[], object], pick: Callable[[int], int]
    ) -> None:
        self._server = server
        self._clients = iter(clients)
        self._end = end
        self._pick = pick
        opts = server.options
        # As in nats-server, a negative grace period is one that may be longer than the duration: for tests.
        self._grace = abs(opts.lame_duck_grace_period)
        left = opts.lame_duck_duration - self._grace
        if left <= 0:
            left = _SECOND
        self._gap = min(left // len(clients), GAP_NS_MAX)
        # More clients than ns: several at once.
        self._batch = 1 if self._gap else max(len(clients) // left, 1)

    def start(self) -> None:
        self._server.clock.call_later(self._grace / _SECOND, self._grace_over)

    def _grace_over(self) -> None:
        if self._server.stopping:
            return
        self._server.log.notice("Closing existing clients")
        self._close_next()

    def _close_next(self) -> None:
        """Closes the next clients that are still there; the end where there are none."""
        server = self._server
        if server.stopping:
            return
        closed = 0
        for client in self._clients:
            if client.closing:
                continue  # went by itself
            client.close(errors.SERVER_SHUTDOWN)
            closed += 1
            if closed == self._batch:
                break
        server.engine.end_turn()
        if not closed or not server.engine.num_clients:
            self._end()
            return
        # A random gap, at least half of what is meant: servers that stop together must not do so in step.
        gap = max(self._pick(self._gap) if self._gap else 0, self._gap // 2)
        server.clock.call_later(gap / _SECOND, self._close_next)
