"""Passwords that are compared with a bcrypt hash: off the loop, for one comparison takes as long as its cost says.

Whoever connects can ask for such work before it has proven anything, so it is bounded. THREADS comparisons run at a
time, each on a short-lived daemon thread (which keeps no process from ending). The clients behind them wait in order:
one that leaves takes its work with it, and one that waits longer than auth_timeout is closed as if it had never sent
CONNECT.
"""

from __future__ import annotations

import os
from collections import deque
from threading import Thread

from natsc import errors
from natsc.server.handshake import PENDING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc._core import Client
    from natsc.auth.users import Delegated, Grant
    from natsc.clock import Timer
    from natsc.server.server import Server

THREADS = max(1, min(4, os.cpu_count() or 1))


class AuthThreads:
    """The comparisons of one server. All but _compare runs on the loop's thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._waiting: deque[_Comparison] = deque()
        self._running = 0
        self._closed = False

    def submit(self, client: Client, then: Callable[[Client, Grant | Delegated | None], int]) -> None:
        """Authenticates a client by what it sent, and calls then(client, grant) unless it has gone meanwhile."""
        job = _Comparison(self._server, client, then)
        if self._running < THREADS:
            self._start(job)
            return
        self._waiting.append(job)
        job.timer = self._server.clock.call_later(self._server.options.auth_timeout, lambda: self._late(client))

    def _late(self, client: Client) -> None:
        """It has waited too long, and is dropped when its turn comes."""
        if not client.closing:
            self._server.log_client(client, "debug", "Authentication Timeout")
            client.send_err(errors.AUTHENTICATION_TIMED_OUT)
            client.close(errors.AUTHENTICATION_TIMEOUT)
            self._server.engine.end_turn()

    def close(self) -> None:
        """Drops what waits, and the verdicts of what runs."""
        self._closed = True
        self._waiting.clear()

    def _start_next(self) -> None:
        while self._waiting and self._running < THREADS:
            job = self._waiting.popleft()
            if job.timer is not None:
                job.timer.cancel()
            if not job.client.closing:
                self._start(job)

    def _start(self, job: _Comparison) -> None:
        self._running += 1
        job.begin(self._server.auth_of(job.client))
        Thread(target=self._compare, args=(job,), name="natsc-auth", daemon=True).start()

    def _compare(self, job: _Comparison) -> None:
        job.run()
        try:
            self._server.loop.call_soon_threadsafe(self._done, job)
        except RuntimeError:
            return  # the loop is closed: nobody waits for the verdict

    def _done(self, job: _Comparison) -> None:
        self._running -= 1
        if self._closed:
            return
        if not job.client.closing:
            if job.auth is not self._server.auth_of(job.client):  # a reload meanwhile: its rules count
                self._start(job)
                return
            self._conclude(job)
            self._server.engine.end_turn()
        self._start_next()

    def _conclude(self, job: _Comparison) -> None:
        server, client = self._server, job.client
        for text in job.debug:
            server.log_client(client, "debug", text)
        for text in job.warnings:
            server.log.warn(text)
        if job.failure is not None:
            server.log_client(client, "error", f"authentication failed: {type(job.failure).__name__}: {job.failure}")
        if job.then(client, job.grant) != PENDING:
            client.conn.resume()


class _Comparison:
    """One client's authentication, and what came of it."""

    __slots__ = ("auth", "client", "connect", "debug", "failure", "grant", "server", "then", "timer", "warnings")

    def __init__(self, server: Server, client: Client, then: Callable[[Client, Grant | Delegated | None], int]) -> None:
        self.server = server
        self.client = client
        self.then = then
        self.connect: dict[str, Any] = client.opts or {}
        self.timer: Timer | None = None  # while it waits

    def begin(self, auth: Any) -> None:
        self.auth = auth
        self.debug: list[str] = []
        self.warnings: list[str] = []
        self.failure: Exception | None = None
        self.grant: Grant | Delegated | None = None

    def run(self) -> None:
        """On a thread. Whatever goes wrong refuses."""
        try:
            self.grant = self.server.authenticate(
                self.client, self.auth, self.connect, debug=self.debug.append, warn=self.warnings.append
            )
        except Exception as error:  # logged when it is back on the loop
            self.failure = error
