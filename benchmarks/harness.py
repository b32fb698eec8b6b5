"""What every benchmark needs: servers on free loopback ports, and the load generator, built on first use.

Standard library only, Linux only (/proc, epoll).
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
START_LIMIT_S = 10.0
"""Longest wait for a server's first INFO."""
RUN_GRACE_S = 300.0
"""Time that a run of the load generator may take beyond its load."""


class BenchmarkError(Exception):
    """A server that didn't start, or a run that didn't do its work; the text says which."""


def find_command(name: str) -> str:
    """The command `name` beside this interpreter or on the PATH, quoted for a shell; just `name` if there is none."""
    beside = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")
    return shlex.quote(shutil.which(name, path=beside) or name)


def free_port() -> int:
    """A TCP port that was free a moment ago on 127.0.0.1."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Server:
    """A server process. `start_ns` is the time from exec to its first INFO, in nanoseconds."""

    def __init__(self, command: str, *arguments: str, start_limit_s: float = START_LIMIT_S) -> None:
        self.port = free_port()
        argv = [*shlex.split(command), "-a", "127.0.0.1", "-p", str(self.port), *arguments]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in stop)
        start_ns = time.perf_counter_ns()
        try:
            self.process = subprocess.Popen(argv, stdout=self._log, stderr=self._log)
        except OSError as e:
            self._log.close()
            raise BenchmarkError(f"could not start {shlex.join(argv)}: {e}") from e
        try:
            self._await_info(shlex.join(argv), start_limit_s)
        except BaseException:
            self.stop()
            raise
        self.start_ns = time.perf_counter_ns() - start_ns

    def _await_info(self, command: str, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self._log.seek(0)
                last = self._log.read().strip().rpartition("\n")[2]
                raise BenchmarkError(f"{command} exited with {self.process.returncode}: {last}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1.0) as s:
                    if s.recv(4) == b"INFO":
                        return
            except OSError:
                pass  # not listening yet
            time.sleep(0.0002)
        raise BenchmarkError(f"{command} sent no INFO in {limit_s:.0f} s")

    @property
    def rss_bytes(self) -> int:
        """Resident memory now."""
        return self.memory_bytes("VmRSS")

    def memory_bytes(self, field: str) -> int:
        """A field of /proc/<pid>/status that is in kilobytes: VmRSS, RssAnon, ..."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise BenchmarkError("the server has gone")

    def load(self, arguments: str, secs: float) -> dict[str, Any]:
        """One run of the load generator against this server; its result line. Raises BenchmarkError where it failed."""
        argv = [str(loadgen()), *arguments.split(), "-p", str(self.port), "-P", str(self.process.pid), "-t", str(secs)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=secs + RUN_GRACE_S)
            result: dict[str, Any] = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, ValueError) as e:
            raise BenchmarkError(f"loadgen {arguments}: {e}") from e
        if "error" in result:
            raise BenchmarkError(f"loadgen {arguments}: {result['error']}")
        return result

    def stop(self) -> None:
        """Kills the server; a benchmark has nothing to save."""
        self.process.kill()
        self.process.wait()
        self._log.close()


@contextmanager
def serving(command: str, *arguments: str) -> Iterator[Server]:
    """A server for the length of a with block."""
    server = Server(command, *arguments)
    try:
        yield server
    finally:
        server.stop()


def alternate(rounds: int, sides: Sequence[str] = ("natsc", "reference")) -> Iterator[str]:
    """A B B A A B ...: so that a machine that slows down slows both sides."""
    for i in range(rounds):
        yield from sides if i % 2 == 0 else reversed(sides)


def loadgen() -> Path:
    """The load generator's binary, compiled when its source has changed. Needs a C compiler (`cc`, or $CC)."""
    sources = sorted((HERE / "loadgen").glob("*.c"))
    newest = max(p.stat().st_mtime_ns for p in (HERE / "loadgen").iterdir())
    binary = Path(tempfile.gettempdir()) / f"natsc-loadgen-{os.getuid()}-{newest}"
    if not binary.exists():
        fresh = binary.with_suffix(f".{os.getpid()}")
        subprocess.run([*shlex.split(os.environ.get("CC", "cc")), "-O2", "-o", fresh, *sources], check=True)
        fresh.rename(binary)
    return binary


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, memory, kernel, Python."""
    cpu = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 1e9),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def version(command: str) -> str:
    """The last line of `command -v`, which for natsc is its own version and for nats-server its only one."""
    done = subprocess.run([*shlex.split(command), "-v"], capture_output=True, text=True, timeout=START_LIMIT_S)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[-1] if lines else "unknown"


def commit() -> str:
    """The work tree's commit, or "" outside a repository."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()
