"""Fixtures of the engine's tests: no sockets, no sleeps, a clock that stands still."""

from __future__ import annotations

import hypothesis
import pytest

from natsc.testing.world import World

# Deadlines would fail on a busy machine, and a sanitized build is slow.
# A busy machine is no failure.
SLOW = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile(
    "engine", deadline=None, max_examples=100, derandomize=True, suppress_health_check=SLOW
)
hypothesis.settings.register_profile("long", deadline=None, max_examples=5000, suppress_health_check=SLOW)
hypothesis.settings.load_profile("engine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write what the scripts' cases gave as what they expect")
    parser.addoption("--long", action="store_true", help="many more random cases, other ones each time")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--long", False):
        hypothesis.settings.load_profile("long")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture(params=[None, 1, 3], ids=["whole", "bytes", "threes"])
def step(request: pytest.FixtureRequest) -> int | None:
    """How many bytes a read brings; None = everything at once."""
    return request.param
