"""For all tests."""

from __future__ import annotations

import os

import pytest


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Three workers on two cores: many tests wait for a server's timers."""
    return max(len(os.sched_getaffinity(0)) * 3 // 2, 1)
