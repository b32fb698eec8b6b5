"""Programs for natsc and the model alone, with a clock that is moved: nats-server has none that could be."""

from __future__ import annotations

import tempfile
from asyncio import AbstractEventLoop
from datetime import UTC, datetime
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

import natsc
from natsc._core import Engine
from natsc.clock import Clock
from tests.model.draw import bodies, tokens, which_consumer
from tests.model.machine import Programs, consumers_there, counts
from tests.model.peer import Peer

TICK_S = 1e-6  # between steps, so that what they cause isn't due at the same moment
NS = 1_000_000_000


class StandingClock(Clock):
    """One that stands from the beginning, for a server that goes on where another one was stopped."""

    wall: int | None = None  # ns; None = the real time

    def __init__(self, engine: Engine, loop: AbstractEventLoop) -> None:
        super().__init__(engine, loop)
        self.freeze()
        if self.wall is not None:
            self._wall_offset_ns = self.wall - self.now_ns()


class Embedded:
    """A server in a thread, whose clock stands: while the server restarts, too."""

    kind = "natsc"

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="natsc-model-")
        self.start(None)

    def start(self, wall_ns: int | None) -> None:
        jetstream = {"store_dir": self.folder.name, "sync_interval": "2m"}
        StandingClock.wall = wall_ns
        with mock.patch("natsc.server.server.Clock", StandingClock):
            self.server = natsc.run_in_thread(jetstream=jetstream, ping_interval="1000h").start()
        self.port = self.server.ports["nats"]

    @property
    def wall_ns(self) -> int:
        return self.server._server.clock.wall_ns()

    def advance(self, seconds: float) -> None:
        self.server.clock.advance(seconds)

    def restart(self, number: int) -> None:
        """As if no time passed meanwhile."""
        wall_ns = self.wall_ns
        self.server.stop()
        self.start(wall_ns)
        assert self.wall_ns == wall_ns

    def revive(self) -> None:
        pass  # it lives as long as this process

    def close(self) -> None:
        self.server.stop()
        self.folder.cleanup()


def timed(peer: Peer) -> type[Programs]:
    class Bound(Timed):
        pass

    Bound.peers = [peer]
    return Bound


class Timed(Programs):
    timed = True
    passed = 0  # ns since the program began

    def now(self) -> int:
        return self.passed

    def time_of(self, now: int) -> str:
        wall_ns = self.peers[0].process.wall_ns + now - self.passed
        return f"{datetime.fromtimestamp(wall_ns // NS, UTC):%Y-%m-%dT%H:%M:%S}.{wall_ns % NS:09}Z"

    @rule(seconds=st.sampled_from([0.4, 1.0, 1.5, 2.5, 4.0, 11.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.time_passes(seconds)

    @rule(words=tokens, body=bodies, ttl=st.sampled_from(["2", "5", "never"]), seconds=st.sampled_from([0, 1.5, 4.0]))
    def publish_for_a_while(self, words: str, body: bytes, ttl: str, seconds: float) -> None:
        self.messages((words, {"Nats-TTL": ttl}, body))
        self.time_passes(seconds)

    def time_passes(self, seconds: float) -> None:
        self.advance(seconds)
        counts["clock steps"] += 1
        self.settle()

    @rule(chance=st.integers(0, 5))
    def restart(self, chance: int) -> None:
        if chance == 0:
            self.peers[0].restart(0)
            counts["restarts with the clock"] += 1
            self.go_on()

    @precondition(consumers_there)
    @rule(one=which_consumer, seconds=st.sampled_from([0, 1.7, 6.6]))
    def pause(self, one: int, seconds: float) -> None:
        """For a while, or no longer."""
        consumer, ns = self.consumer(one), int(seconds * NS)
        text = self.time_of(self.passed + ns)
        consumer.paused_until = self.passed + ns if ns else 0
        self.model.deliver()
        operation = f"CONSUMER.PAUSE.{self.model.name}.{consumer.name}"
        self.api(operation, {"pause_until": text} if ns else None, {"paused": ns > 0})
        self.settle()

    def advance(self, seconds: float) -> None:
        self.peers[0].process.advance(seconds)
        self.passed += int(seconds * NS)
        for stream in self.streams:
            stream.advance(self.passed)

    def settle(self) -> None:
        self.advance(0)  # what an update makes too old goes in the loop's next turn
        super().settle()
        self.advance(TICK_S)
