"""A server for synchronous code: in a thread of its own, with a loop of its own.

    with natsc.run_in_thread() as server:
        print(server.url)

Its methods may be called from any thread but the server's; each waits until it is done there.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from natsc.embed import Credentials, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from typing import Any, Self, TypeVar

    from natsc.embed import LogSink

    T = TypeVar("T")

_CALL_TIMEOUT = 30.0  # seconds a call into the server's thread may take


class ThreadServer:
    """A natsc.Server in a thread; arguments and methods are the same, but for connections in process."""

    def __init__(
        self,
        config: str | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        log: LogSink = None,
        **directives: Any,
    ) -> None:
        self._server = Server(config, path=path, log=log, **directives)
        self._loop: AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.url = ""
        self.urls: dict[str, str] = {}
        self.ports: dict[str, int] = {}
        self.clock = ThreadClock(self)

    # Life

    def start(self) -> Self:
        """Returns once clients are answered. Raises StartError or ConfigError."""
        if self._thread is not None:
            raise RuntimeError("the server was started already")
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="natsc", daemon=True)
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def stop(self) -> None:
        """Closes every connection, gives back every port and file, and ends the thread. Twice is fine."""
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _run(self, started: Future[None]) -> None:
        loop = _new_loop()
        try:
            try:
                loop.run_until_complete(self._server.start())
                self.url, self.urls, self.ports = self._server.url, self._server.urls, self._server.ports
                self._loop = loop
            except BaseException as error:  # goes to the thread that waits for the start
                started.set_exception(error)
                return
            started.set_result(None)
            loop.run_forever()
            loop.run_until_complete(self._server.stop())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    def _call(self, function: Callable[[], T]) -> T:
        """The function's result, or what it raised, from the server's thread."""
        if self._loop is None:
            raise RuntimeError("the server is not running")
        done: Future[T] = Future()

        def call() -> None:
            try:
                done.set_result(function())
            except BaseException as error:  # goes to the thread that called
                done.set_exception(error)

        self._loop.call_soon_threadsafe(call)
        return done.result(_CALL_TIMEOUT)

    # What natsc.Server has

    def reload(
        self, config: str | None = None, *, path: str | os.PathLike[str] | None = None, **directives: Any
    ) -> None:
        """See natsc.Server.reload."""
        self._call(lambda: self._server.reload(config, path=path, **directives))

    def account(self, name: str | None = None, *, user: str | None = None, password: str | None = None) -> Credentials:
        """See natsc.Server.account."""
        return self._call(lambda: self._server.account(name, user=user, password=password))

    def remove_account(self, name: str) -> None:
        """See natsc.Server.remove_account."""
        self._call(lambda: self._server.remove_account(name))

    def reset(self, *, connections: bool = True) -> None:
        """See natsc.Server.reset."""
        self._call(lambda: self._server.reset(connections=connections))


class ThreadClock:
    """The clock of a server in a thread: freeze, advance and unfreeze."""

    def __init__(self, owner: ThreadServer) -> None:
        self._owner = owner

    def freeze(self) -> None:
        """Stops the clock: from now on only advance() moves it."""
        self._owner._call(lambda: self._owner._server.clock.freeze())

    def unfreeze(self) -> None:
        """Lets the clock run on from where it stands."""
        self._owner._call(lambda: self._owner._server.clock.unfreeze())

    def advance(self, seconds: float) -> None:
        """Moves the clock forward at once and fires everything that became due, in order of time."""
        self._owner._call(lambda: self._owner._server.clock.advance(seconds))


def _new_loop() -> AbstractEventLoop:
    """uvloop's where it is installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run_in_thread(
    config: str | None = None, *, path: str | os.PathLike[str] | None = None, log: LogSink = None, **directives: Any
) -> ThreadServer:
    """A server for `with`, or for start() and stop(). Arguments are those of natsc.Server. Raises ConfigError."""
    return ThreadServer(config, path=path, log=log, **directives)
