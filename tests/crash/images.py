"""Power failures: a run is recorded, then every moment of it is one at which the power may have failed.

    python -m tests.crash.images --seed 1 --images 10000

For each image (a moment, and one of the things that the disk may hold then: disk.py) natsc is started on it in this
process, and everything in scenarios.py is checked that the client knew at that moment; then it works on for a while,
with the clock moved on, so that what is delivered once more is delivered. A failed image is named, and --only repeats
it. --without F pretends that fsync does nothing, --without E that O_DSYNC doesn't: what is found then shows that
this would be noticed.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

from natsc.embed_thread import run_in_thread
from natsc.jetstream import syncpoint

from .consuming import all_scenarios
from .disk import Disk, Op, read_log
from .recording import Replay, perform, record
from .scenarios import Scenario, need
from .wire import Wire

ROUNDS = [("random moment", 150), ("while it stops", 80), ("random moment", 120)]
IMAGE_S = 60  # one that takes longer has failed
LATER_S = 2.0  # moves the clock beyond every ack_wait and what a restart adds


class Point(NamedTuple):
    life: int
    op: int  # number of the last operation before the power fails
    known_life: int  # what must be there is what the client knew in that life
    sent: int  # when it had been sent so many bytes


class Cut(Exception):
    """In the process of an image: the power has failed."""


class Images:
    """The images of the recording in `where`. `failed` has (image, what is wrong)."""

    def __init__(self, where: Path, seed: str, barriers: str = "FE", jobs: int = 1, *, last_sync: bool = False) -> None:
        self.where = where
        self.seed = seed
        self.jobs = jobs
        self.root = str(where / "disk")
        self.logs: list[list[Op]] = []
        while (path := where / f"log.{len(self.logs)}").exists():
            self.logs.append(list(read_log(path)))
        self.disk = Disk(self.root, barriers)
        self.at = (0, 0)  # life and number of operations that the disk has seen
        self.points = [point for life in range(len(self.logs)) for point in self.points_of(life)]
        if last_sync:
            self.points = list(self.points_of_syncs())
        self.chosen: dict[Point, list[int]] = {}
        self.running: dict[int, tuple[str, int]] = {}  # by process: image, pipe
        self.tried = 0
        self.kinds: dict[str, int] = {}
        self.failed: list[tuple[str, str]] = []
        self.image: tuple[Path, str]

    def points_of(self, life: int) -> list[Point]:
        found, sent, client = [], 0, None
        for index, op in enumerate(self.logs[life]):
            if op.kind == "S" and client is None and op.data.startswith(b"INFO "):
                client = op.number
            if op.kind == "S" and op.number == client:
                sent += len(op.data)
            if op.kind in "CMRUWEGS":
                found.append(Point(life, index, life, sent))
        return found

    def points_of_syncs(self) -> Iterator[Point]:
        """The points, with what the client knew when the last sync before them began."""
        points = {(point.life, point.op): point for point in self.points}
        sent = begun = synced = (0, 0)
        writing = False
        for life, log in enumerate(self.logs):
            for index, op in enumerate(log):
                point = points.get((life, index))
                sent = (life, point.sent) if point else sent
                name = os.path.basename(op.path)
                if op.kind == "F" and name == "data.mdb":
                    begun = sent
                elif name == "synced":
                    writing = op.kind == "W"  # either counts then, the one before or this one
                    if op.kind == "E":
                        synced = begun
                if point and not writing:
                    yield point._replace(known_life=synced[0], sent=synced[1])

    # The disk

    def advance(self, point: Point) -> None:
        while self.at < (point.life, point.op + 1):
            life, done = self.at
            if done < len(self.logs[life]):
                self.disk.apply(self.logs[life][done])
                self.at = (life, done + 1)
                continue
            kept = self.where / f"data.{life}"
            if kept.exists():
                self.disk.settle(os.path.join(self.root, "store", "natsc", "data.mdb"), kept.read_bytes())
            self.at = (life + 1, 0)

    # Running

    def choose(self, count: int) -> None:
        """So many images, spread over the points evenly, at random where there are more points."""
        rng = random.Random(f"{self.seed}/points")
        times = [count // len(self.points)] * len(self.points)
        for number in rng.sample(range(len(self.points)), count % len(self.points)):
            times[number] += 1
        self.chosen = {point: list(range(n)) for point, n in zip(self.points, times, strict=True) if n}

    def moments(self, life: int) -> list[tuple[int, Callable[[], None]]]:
        return [(point.sent, partial(self.fork, point)) for point in self.chosen if point.known_life == life]

    def fork(self, point: Point) -> None:
        self.advance(point)
        for number in self.chosen[point]:
            while len(self.running) >= self.jobs:
                self.collect()
            name = f"{point.life}.{point.op}.{number}"
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(reading)
                self.become(name, writing)  # and up to run(), with all that the client knows
            os.close(writing)
            self.running[child] = (name, reading)

    def become(self, name: str, pipe: int) -> NoReturn:
        """This process is the image's now."""
        signal.alarm(IMAGE_S)
        syncpoint.BOOT_ID = os.devnull  # the machine is another one
        self.pipe = pipe
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        where = Path(tempfile.mkdtemp(prefix="natsc-image-", dir=place))
        self.image = (where, self.disk.build(where, random.Random(f"{self.seed}/{name}")))
        raise Cut

    def collect(self) -> None:
        child, status = os.wait()
        name, pipe = self.running.pop(child)
        with os.fdopen(pipe, errors="replace") as reader:
            how, _, text = reader.read().partition("\n")
        self.tried += 1
        if self.tried % 500 == 0:
            print(f"{self.tried} images, {len(self.failed)} failed", file=sys.stderr, flush=True)
        self.kinds[how] = self.kinds.get(how, 0) + 1
        if status or text:
            self.failed.append((name, text or f"ended with {status}"))

    def run(self) -> None:
        warm_up()
        gc.collect()
        gc.freeze()
        replay = Replay(self.where, self.moments)
        try:
            perform(replay, replay.rounds)
        except Cut:
            self.check(replay.scenarios)
        while self.running:
            self.collect()

    # One image

    def check(self, scenarios: list[Scenario]) -> NoReturn:
        where, how = self.image
        text = ""
        try:
            check_image(where, [scenario for scenario in scenarios if scenario.ready])
        except BaseException as error:  # whatever it is, this image has failed
            text = f"{how}: {type(error).__name__}: {error}"
        os.write(self.pipe, f"{how}\n{text[:3000]}".encode("utf-8", "replace"))
        shutil.rmtree(where, ignore_errors=True)
        os._exit(0)


def warm_up() -> None:
    """Import what a server imports when it is used, once for all images."""
    with tempfile.TemporaryDirectory() as where:
        scenarios = all_scenarios(random.Random(0))
        with run_in_thread(f'jetstream {{ store_dir: "{where}" }}\n') as server:
            wire = Wire(server.ports["nats"])
            for scenario in scenarios:
                scenario.setup(wire)
        check_image(Path(where), [])


def check_image(where: Path, scenarios: list[Scenario]) -> None:
    """Start natsc on the image and check all that must hold. Raises Lost."""
    errors: list[str] = []

    def log(level: str, text: str) -> None:
        if level not in ("INF", "WRN"):
            errors.append(text)

    with run_in_thread(f'jetstream {{ store_dir: "{where}/store" }}\n', log=log) as server:
        need(not errors, f"the log says {errors}")
        wire = Wire(server.ports["nats"])
        for scenario in scenarios:
            scenario.connect(wire)
        for scenario in scenarios:
            scenario.check(wire)
        for _ in range(2):
            for scenario in scenarios:
                scenario.act(wire)
            wire.until(lambda: not wire.in_flight)
            server.clock.advance(LATER_S)
        for scenario in scenarios:
            scenario.check(wire)
        wire.close()
    need(not errors, f"the log says {errors}")


def reasons(failed: list[tuple[str, str]]) -> dict[str, int]:
    """How many images failed in which way: 'Lost' is a promise that was broken, all else a server that didn't work."""
    kinds = [text.split(": ")[1] if text.count(": ") else text for _, text in failed]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.images", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**9)))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--config", default="", help="more of the jetstream block, such as 'sync_interval: 2m'")
    parser.add_argument("--last-sync", action="store_true", help="check what was there at the last sync")
    parser.add_argument("--without", default="", help="barriers that don't count: F, E or FE")
    parser.add_argument("--keep", type=Path, help="keep the recording there, or use the one that is there")
    parser.add_argument("--only", help="the name of one image of a kept recording")
    options = parser.parse_args(args)
    with tempfile.TemporaryDirectory(prefix="natsc-images-") as temporary:
        where = options.keep or Path(temporary)
        if not (where / "recording").exists():
            where.mkdir(exist_ok=True)
            record(where, options.seed, ROUNDS, options.config)
        barriers = "".join(each for each in "FE" if each not in options.without)
        images = Images(where, options.seed, barriers, options.jobs, last_sync=options.last_sync)
        if options.only:
            life, index, number = map(int, options.only.split("."))
            images.chosen = {p: [number] for p in images.points if (p.life, p.op) == (life, index)}
        else:
            images.choose(options.images)
        began = time.monotonic()
        images.run()
        took = time.monotonic() - began
        print(f"seed {options.seed}: {images.tried} images of {len(images.points)} moments in {took:.0f} s, "
              f"{len(images.failed)} failed; {images.kinds}; {reasons(images.failed)}")  # fmt: skip
        for name, text in images.failed[:10]:
            print(f"  {name}: {text[:2000]}")
    return 1 if images.failed else 0


if __name__ == "__main__":
    sys.exit(main())
