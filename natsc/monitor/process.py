"""Memory and processor time of this process, as varz shows them."""

from __future__ import annotations

import os
import time

# A window shorter than this says more about the scrape than about the server.
WINDOW_NS = 1_000_000_000


def rss_bytes() -> int:
    """Resident memory, 0 where the system doesn't tell."""
    return _statm(1)


def vss_bytes() -> int:
    """Virtual memory, 0 where the system doesn't tell."""
    return _statm(0)


def _statm(field: int) -> int:
    try:
        with open("/proc/self/statm", "rb", buffering=0) as statm:
            return int(statm.read(256).split()[field]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no /proc: not Linux
        return 0


def cores() -> int:
    """Processors that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class CPUMeter:
    """Processor use between one reading and the next, in percent of one core with one decimal.

    The first reading covers the time since the meter was made; readings within WINDOW_NS of each other repeat the
    last value.
    """

    __slots__ = ("_last_cpu_ns", "_last_ns", "_percent")

    def __init__(self) -> None:
        self._last_ns = time.monotonic_ns()
        self._last_cpu_ns = time.process_time_ns()
        self._percent = 0.0

    def percent(self) -> float:
        """The latest value; see the class."""
        now, cpu = time.monotonic_ns(), time.process_time_ns()
        elapsed = now - self._last_ns
        if elapsed >= WINDOW_NS:
            self._percent = (cpu - self._last_cpu_ns) * 1000 // elapsed / 10
            self._last_ns, self._last_cpu_ns = now, cpu
        return self._percent


# Processor time is the process's, however many servers live in it.
_METER = CPUMeter()


def cpu_percent() -> float:
    """Processor use since the reading before, or since this module was loaded."""
    return _METER.percent()
