"""A run of kills.py that is written down, and repeated from what was written down.

What the server did to its files and sent is in a log for each of its lives (shim.c). What the client read is kept call
by call; everything else about the client follows from the seed and from that. So the client's side, with all that it
knows of what was acknowledged, can be repeated up to any moment of the server's log.
"""

from __future__ import annotations

import math
import pickle
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from natsc.jetstream.failpoint import VARIABLE
from tests.conformance.harness import Server

from .kills import Kills
from .wire import Answer, Deliver, Wire

DUPLICATES_S = 86400  # images of a recording are tried long after it was made
BURST = 5  # few messages at once: many commits
SHIM = Path(__file__).with_name("shim.c")


class RecordingWire(Wire):
    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.received: list[bytes | None] = []

    def receive(self, timeout: float) -> bytes | None:
        data = super().receive(timeout)
        self.received.append(data)
        return data


class Recorder(Kills):
    """The run. `where` is a directory for everything; the store is `root`."""

    def __init__(self, where: Path, seed: str, config: str = "") -> None:
        self.where = where
        # Not there yet: making it is a part of what is written down.
        self.root = where / "disk"
        self.seed = seed
        super().__init__(str(self.root / "store"), seed, config=config, burst=BURST, duplicates_s=DUPLICATES_S)
        self.compacting = False
        self.lives: list[list[bytes | None] | None] = []  # what the client read; None where there was none
        self.shim = where / "shim.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(self.shim), str(SHIM), "-ldl", "-lpthread"],
                       check=True)  # fmt: skip
        self.root.mkdir()

    def launch(self, failpoint: str = "", wait: bool = True) -> Server:
        self.keep()
        self.lives.append(None)
        environment = {"LD_PRELOAD": str(self.shim), "NATSC_SHIM_DIR": str(self.root),
                       "NATSC_SHIM_LOG": str(self.where / f"log.{len(self.lives) - 1}")}  # fmt: skip
        if failpoint:
            environment[VARIABLE] = failpoint
        return Server("natsc", self.config, wait=wait, environment=environment)

    def start(self, failpoint: str = "") -> None:
        self.server = self.launch(failpoint)
        wire = self.wire = RecordingWire(self.server.port)
        self.lives[-1] = wire.received

    def keep(self) -> None:
        """The server is dead: keep what its file holds."""
        data = self.root / "store" / "natsc" / "data.mdb"
        if data.exists():
            shutil.copy(data, self.where / f"data.{len(self.lives) - 1}")

    def save(self, rounds: list[tuple[str, int]]) -> None:
        (self.where / "recording").write_bytes(pickle.dumps((self.seed, self.lives, rounds)))


class Replayed:
    """Stands for a server."""

    port = 0

    def close(self) -> None:
        pass


class ReplayWire(Wire):
    """Reads what a RecordingWire read. `reach(n)` is called before byte n of all that the server sent in this life."""

    def __init__(self, received: list[bytes | None], bounds: Callable[[int], list[int]], reach: Callable[[int], None]):
        self.out = bytearray()
        self.patience_s = math.inf  # images are tried meanwhile
        self.data = b""
        self.closed = False
        self.info = b""
        self._count = 0
        self._waiting: dict[bytes, Answer] = {}
        self._delivers: dict[bytes, Deliver] = {}
        self.received = iter(received)
        self.bounds = bounds
        self.reach = reach
        self.position = 0

    def close(self) -> None:
        self.reach(1 << 62)
        self.closed = True

    def pump(self, timeout: float = 0.05) -> None:
        self.out.clear()
        if self.closed:
            return
        data = next(self.received)
        if data == b"":
            self.reach(1 << 62)
            self.closed = True
        elif data:
            end = self.position + len(data)
            for bound in [*self.bounds(end), end]:
                self.reach(self.position)
                self.parse(data[len(data) - (end - self.position) : len(data) - (end - bound)])
                self.position = bound


class Replay(Kills):
    """Repeats a recording. `moments(life)` are (bytes sent, what to call) in the order of the log."""

    def __init__(self, where: Path, moments: Callable[[int], list[tuple[int, Callable[[], None]]]]) -> None:
        seed, lives, self.rounds = pickle.loads((where / "recording").read_bytes())
        super().__init__(str(where / "disk" / "store"), seed, burst=BURST, duplicates_s=DUPLICATES_S)
        self.where = where
        self.compacting = False
        self.lives: list[list[bytes | None] | None] = lives
        self.patience_s = math.inf
        self.moments = moments
        self.life = -1

    def next_life(self) -> list[bytes | None] | None:
        self.life += 1
        return self.lives[self.life]

    def start(self, failpoint: str = "") -> None:
        received = self.next_life()
        assert received is not None
        waiting = self.moments(self.life)

        def reach(position: int) -> None:
            while waiting and waiting[0][0] <= position:
                waiting.pop(0)[1]()

        def bounds(end: int) -> list[int]:
            return sorted({sent for sent, _ in waiting if self.wire.position < sent < end})  # type: ignore[attr-defined]

        self.server = Replayed()  # type: ignore[assignment]
        self.wire = ReplayWire(received, bounds, reach)

    def gone(self) -> None:
        pass

    def kill_at_start(self, delay: float) -> None:
        assert self.next_life() is None
        for _, call in self.moments(self.life):
            call()

    def kill_later(self, acked: int, stop_first: bool) -> threading.Thread:
        self.rng.random()
        thread = threading.Thread(target=int)
        thread.start()
        return thread


def perform(kills: Kills, rounds: list[tuple[str, int]]) -> None:
    """What is recorded, and repeated: rounds of (how it is killed, acknowledged messages), then a clean stop."""
    kills.setup()
    for how, acked in rounds:
        kills.round(how, acked)
    kills.stop()


def record(where: Path, seed: str, rounds: list[tuple[str, int]], config: str = "") -> None:
    """Do it, and leave the recording in `where`."""
    recorder = Recorder(where, seed, config)
    perform(recorder, rounds)
    recorder.keep()
    recorder.save(rounds)
