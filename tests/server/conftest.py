"""Fixtures of the server tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from .bench import Bench


@pytest.fixture
def bench() -> Iterator[Callable[[str], Bench]]:
    """Makes a server without sockets from a configuration."""
    loop = asyncio.new_event_loop()
    made: list[Bench] = []

    def make(config: str = "") -> Bench:
        made.append(Bench(loop, config))
        return made[-1]

    yield make
    for each in made:
        each.server.clock.close()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
