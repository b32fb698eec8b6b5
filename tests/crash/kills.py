"""Kills a server again and again under load, and checks after each start that no promise was broken.

    python -m tests.crash.kills --rounds 500 --seed 1

A round: the server runs, everything in scenarios.py works on it, and it is killed (SIGKILL) at a random moment, at one
of natsc's failpoints, or while it stops, and now and then once more while it starts; then it is started and all is
checked. Now and then the store is compacted meanwhile, and that is killed too. With --encrypted each start has another
key than the last one. The recorder is this process: it needs no disk. The same works on nats-server (--server
nats-server), without failpoints.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence

from natsc.jetstream.failpoint import VARIABLE
from tests.conformance.harness import Server

from .consuming import all_scenarios
from .scenarios import Lost, Restored, Scenario
from .wire import Closed, Wire

ROUND_S = 20.0  # a server that isn't dead after so much longer than that is an error
HOW = ("random moment", "failpoint", "while it stops")

# How often a failpoint is passed in a round, roughly: the kill comes at a random one of these.
FAILPOINTS = {
    "commit.begin": 60, "commit.applied": 60, "commit.done": 60, "commit.reported": 60, "release.begin": 60,
    "release.end": 60, "consumer.pages": 60, "stream.made": 6, "stream.saved": 6, "stream.dropped": 6,
    "stream.deleted": 6, "stream.purged": 12, "checkpoint": 1,
    "restore.begun": 3, "restore.saved": 3,
}  # fmt: skip


class Kills:
    """The test, in the directory `where`. `figures` counts what happened."""

    def __init__(
        self, where: str, seed: str, kind: str = "natsc", config: str = "", burst: int = 200, duplicates_s: int = 120,
        encrypted: bool = False,
    ) -> None:  # fmt: skip
        self.rng = random.Random(seed)
        self.kind = kind
        self.where_stored = where
        self.more_config = config
        self.encrypted = encrypted
        self.keys_used = 0
        self.scenarios = all_scenarios(self.rng)
        if kind != "natsc":  # nats-server keeps the name of a stream whose restore was cut off
            self.scenarios = [each for each in self.scenarios if not isinstance(each, Restored)]
        self.window = 3 * burst  # unanswered requests at which no more are sent
        for scenario in self.scenarios:
            scenario.burst, scenario.duplicates_s = burst, duplicates_s
            scenario.in_order = kind == "natsc"
        self.patience_s = 2 * ROUND_S
        self.compacting = kind == "natsc"
        self.armed = ""  # the failpoint at which the server will die
        self.figures: dict[str, int] = {"rounds": 0}
        self.server: Server
        self.wire: Wire

    @property
    def config(self) -> str:
        used = self.keys_used
        keys = f'key: "key {used + 1}", prev_key: "key {used}", cipher: aes' if self.encrypted else ""
        return f'jetstream {{ store_dir: "{self.where_stored}"\n{self.more_config}\n{keys} }}\n'

    def count(self, what: str) -> None:
        self.figures[what] = self.figures.get(what, 0) + 1

    @property
    def acked(self) -> int:
        return sum(scenario.acked for scenario in self.scenarios)

    @property
    def confirmed(self) -> int:
        return sum(scenario.confirmed for scenario in self.scenarios)

    @property
    def redelivered_confirmed(self) -> int:
        return sum(scenario.redelivered_confirmed for scenario in self.scenarios)

    # What tests/crash/images.py does otherwise, to write down what happens, and to repeat it.

    def launch(self, failpoint: str = "", wait: bool = True) -> Server:
        return Server(self.kind, self.config, wait=wait, environment={VARIABLE: failpoint} if failpoint else None)

    def start(self, failpoint: str = "") -> None:
        """Start the server; it dies at the failpoint. Raises Closed where that comes too early to connect."""
        self.server = self.launch(failpoint, wait=not failpoint)
        self.armed = failpoint
        try:
            self.server.wait_log("Server is ready")
            self.keys_used += 1  # one that was killed before that may have changed the key, or not
            self.wire = Wire(self.server.port)
        except (AssertionError, ConnectionError):
            if failpoint and self.server.wait() == -signal.SIGKILL:
                raise Closed from None
            raise

    def gone(self) -> None:
        """The connection is closed: wait for the server's end."""
        self.server.wait()

    def stop(self) -> None:
        self.wire.close()
        self.server.close()

    def kill_at_start(self, delay: float) -> None:
        server = self.launch(wait=False)
        time.sleep(delay)
        server.signal(signal.SIGKILL)
        server.wait()
        server.close()

    def compact(self, delay: float) -> None:
        """Compact the store, and kill that a while after it has begun, if it isn't done."""
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
            config.write(self.config)
            config.flush()
            tool = subprocess.Popen([sys.executable, "-m", "natsc", "compact", "-c", config.name],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
            try:
                said, _ = tool.communicate(timeout=delay)
            except subprocess.TimeoutExpired:
                tool.kill()
                said, _ = tool.communicate()
        if tool.returncode not in (0, -signal.SIGKILL):
            raise Lost(f"the store can't be compacted: {said}")
        self.count("compacted" if tool.returncode == 0 else "killed while it was compacted")

    def kill_later(self, acked: int, stop_first: bool, busy: Sequence[Scenario] = ()) -> threading.Thread:
        """Kill the server a random while after that many more messages are acknowledged, or after ROUND_S.

        busy: of each of these something must have been acknowledged too.
        """
        server, goal, delay = self.server, self.acked + acked, self.rng.random() * 0.05
        deadline = time.monotonic() + ROUND_S
        before = [scenario.acked + scenario.confirmed for scenario in busy]

        def reached() -> bool:
            return self.acked >= goal and all(s.acked + s.confirmed > was for s, was in zip(busy, before, strict=True))

        def run() -> None:
            while not reached() and time.monotonic() < deadline and not self.wire.closed:
                time.sleep(0.001)
            if stop_first:
                server.signal(signal.SIGTERM)
            time.sleep(delay)
            server.signal(signal.SIGKILL)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    # The test

    def setup(self) -> None:
        self.start()
        for scenario in self.scenarios:
            scenario.setup(self.wire)
            scenario.connect(self.wire)
            scenario.ready = True

    def work(self) -> None:
        """Work until the server is gone and all that it sent is read."""
        deadline = time.monotonic() + self.patience_s
        while not self.wire.closed:
            if self.wire.in_flight < self.window:
                for scenario in self.scenarios:
                    scenario.act(self.wire)
            self.wire.pump(0.02)
            if time.monotonic() > deadline:
                raise Lost(f"the server is still there, {self.wire.in_flight} requests are unanswered")
        self.gone()

    def round(self, how: str, acked: int, next_failpoint: str = "") -> None:
        """Load, kill, start, check. How a failpoint kills was said when the server was started."""
        self.count("rounds")
        self.count(how)
        # Checkpoints are written now and then, and when the server stops.
        stop = how == "while it stops" or self.armed.startswith("checkpoint")
        killer = self.kill_later(1 << 60 if self.armed and not stop else acked, stop)
        try:
            self.work()
        finally:
            killer.join()
        self.stop()
        if self.rng.random() < 0.1:
            self.count("and again while it starts")
            self.kill_at_start(self.rng.random() * (0.3 if self.encrypted else 0.15))
        if self.compacting and self.rng.random() < 0.2:
            self.compact(self.rng.random() * 2)
        try:
            self.start(next_failpoint)
            self.check()
        except Closed:  # the failpoint came already: nothing wrong with that
            self.stop()
            self.count("and again before there was work")
            self.start()
            self.check()
        for scenario in self.scenarios:
            scenario.connect(self.wire)

    def check(self) -> None:
        for scenario in self.scenarios:
            try:
                scenario.check(self.wire)
            except Lost:
                if scenario.strict:
                    raise
                self.count(f"checks of {type(scenario).__name__} that failed")

    def run(self, rounds: int, acked: int, report: Callable[[], None] = lambda: None) -> None:
        """So many rounds, of about so many acknowledged messages each, then a check of everything."""
        self.setup()
        how = "random moment"
        for _ in range(rounds):
            next_how = self.rng.choices(HOW, (5, 4 * (self.kind == "natsc"), 1))[0]
            failpoint = ""
            if next_how == "failpoint":
                name = self.rng.choice(list(FAILPOINTS))
                failpoint = f"{name}:kill@{self.rng.randrange(FAILPOINTS[name]) + 1}"
            self.round(how, int(acked * self.rng.uniform(0.2, 1.8)), failpoint)
            how = next_how
            report()
        if self.armed:
            self.stop()
            self.start()
            for scenario in self.scenarios:
                scenario.connect(self.wire)
        if all(scenario.strict for scenario in self.scenarios):
            for scenario in self.scenarios:
                scenario.finish(self.wire)
        self.stop()

    def summary(self) -> str:
        figures = ", ".join(f"{what}: {count}" for what, count in self.figures.items())
        return (
            f"{figures}; messages acknowledged: {self.acked:,}, acknowledgements confirmed: {self.confirmed:,}, "
            f"confirmed and delivered again: {self.redelivered_confirmed}"
        )


def main(args: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.kills", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**9)))
    parser.add_argument("--acked", type=int, default=2500, help="messages acknowledged in a round, about")
    parser.add_argument("--server", choices=("natsc", "nats-server"), default="natsc")
    parser.add_argument("--count", action="store_true", help="count what is broken, and go on")
    parser.add_argument("--encrypted", action="store_true")
    parser.add_argument("--config", default="", help="more of the jetstream block, such as 'sync_interval: always'")
    options = parser.parse_args(args)
    with tempfile.TemporaryDirectory(prefix="natsc-kills-") as where:
        kills = Kills(where, options.seed, options.server, options.config, encrypted=options.encrypted)
        for scenario in kills.scenarios:
            scenario.strict = not options.count
        began = time.monotonic()

        def report() -> None:
            if kills.figures["rounds"] % 20 == 0:
                print(f"{time.monotonic() - began:6.0f} s  {kills.summary()}", flush=True)

        print(f"seed {options.seed}", flush=True)
        try:
            kills.run(options.rounds, options.acked, report)
        except Lost as error:
            print(f"LOST, seed {options.seed}: {error}\n{kills.summary()}", flush=True)
            kills.stop()
            return 1
        print(f"{time.monotonic() - began:6.0f} s  {kills.summary()}", flush=True)
        if not options.count:
            print("nothing was lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
