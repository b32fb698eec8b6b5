"""The server's clock: the engine's time, and Python callbacks on it.

All of a server's timers (PING, authentication, write deadline, lame duck, ...) run on one clock, so a test that freezes
or advances it moves them all. Times are ns; `call_later` takes seconds, as asyncio does.
"""

from __future__ import annotations

import time
from heapq import heappop, heappush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Handle
    from collections.abc import Callable

    from natsc._core import Engine

_NS = 1_000_000_000
_STEPS_MAX = 100_000  # deadlines that one advance() stops at: what is due then comes later


class Timer:
    """A callback that waits for its time; cancel() is final."""

    __slots__ = ("callback", "order", "when_ns")

    def __init__(self, when_ns: int, order: int, callback: Callable[[], object]) -> None:
        self.when_ns = when_ns
        self.order = order
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return (self.when_ns, self.order) < (other.when_ns, other.order)


class Clock:
    """Monotonic and wall time of one server, and the one loop timer that drives its engine and its callbacks."""

    def __init__(self, engine: Engine, loop: AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop
        self._timers: list[Timer] = []
        self._order = 0
        self._handle: Handle | None = None
        self._due_ns = 0  # what _handle waits for; 0 = nothing
        self._wall_offset_ns = 0  # to the real time; while the clock stands, to the monotonic one
        self.settle: Callable[[], object] | None = None  # lets what waits for the disk happen; see advance()
        engine.rearm = self._arm

    def now_ns(self) -> int:
        """Monotonic time."""
        return self._engine.now_ns()

    def wall_ns(self) -> int:
        """Time since the epoch."""
        return (self._engine.now_ns() if self._engine.frozen else time.time_ns()) + self._wall_offset_ns

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Calls callback on the loop once the clock has moved by so many seconds."""
        self._order += 1
        timer = Timer(self.now_ns() + int(seconds * _NS), self._order, callback)
        heappush(self._timers, timer)
        self._arm(timer.when_ns)
        return timer

    # What tests do with it

    def freeze(self) -> None:
        """Stops the clock: from now on only advance() moves it."""
        if self._engine.frozen:
            return
        wall_ns = self.wall_ns()
        self._engine.freeze()
        self._wall_offset_ns = wall_ns - self._engine.now_ns()
        self._disarm()

    def unfreeze(self) -> None:
        """Lets the clock run on from where it stands."""
        if self._engine.frozen:
            self._wall_offset_ns += self._engine.now_ns() - time.time_ns()
            self._engine.unfreeze()
            self._fire()

    def advance(self, seconds: float) -> None:
        """Moves the clock forward at once and fires everything that became due, in order of time.

        At each deadline the clock stands at it, and what it causes is done, also what waits for the disk, before the
        next. Clients can't answer meanwhile: it isn't held against them that they answer no PING and read nothing.
        """
        ran = not self._engine.frozen
        self.freeze()
        target = self.now_ns() + max(0, int(seconds * _NS))
        self._engine.set_jumping(True)
        for _ in range(_STEPS_MAX):
            self._settle()
            due = self._next_due_ns()
            if due == 0 or due > target:
                break
            self._move_to(due)
            self._run_due()
        self._move_to(target)
        self._engine.set_jumping(False)
        self._settle()
        if ran:
            self.unfreeze()

    def _next_due_ns(self) -> int:
        """When the next of all timers is due, 0 = there is none."""
        due: int = self._engine.next_due_ns
        if self._timers and (due == 0 or self._timers[0].when_ns < due):
            return self._timers[0].when_ns
        return due

    def _move_to(self, when_ns: int) -> None:
        self._engine.advance(max(0, when_ns - self.now_ns()))

    def _settle(self) -> None:
        if self.settle is not None:
            self.settle()

    # The loop's side

    def _arm(self, when_ns: int) -> None:
        if self._engine.frozen:
            # What is due already only waits for the loop, and that goes on while the clock stands.
            if when_ns <= self.now_ns() and self._handle is None:
                self._handle = self._loop.call_soon(self._wake)
            return
        if self._due_ns and self._due_ns <= when_ns:
            return
        self._disarm()
        self._due_ns = when_ns
        self._handle = self._loop.call_later(max(0, when_ns - self.now_ns()) / _NS, self._wake)

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._due_ns = 0

    def _wake(self) -> None:
        self._handle = None
        self._due_ns = 0
        self._fire()

    def _fire(self) -> None:
        self._engine.advance(0)
        self._run_due()
        self._arm_next()

    def _run_due(self) -> None:
        """Fires what is due. What it makes due at once, as what is done in steps does, lets the loop go round first."""
        last = self._order
        while self._timers and self._timers[0].when_ns <= self.now_ns() and self._timers[0].order <= last:
            timer = heappop(self._timers)
            if timer.callback is not None:
                timer.callback()

    def _arm_next(self) -> None:
        if self._timers:
            self._arm(self._timers[0].when_ns)

    def close(self) -> None:
        """Forgets every callback."""
        self._disarm()
        self._timers.clear()
        self.settle = None
        self._engine.rearm = None
