"""The clock's place on the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from natsc._core import Engine
from natsc.clock import Clock

STEPS = 20


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_is_done_in_steps_lets_the_loop_go_round_between_them(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> list[str]:
        loop = asyncio.get_running_loop()
        clock = Clock(Engine(object(), seed=1), loop)
        done = loop.create_future()
        seen: list[str] = []

        def step() -> None:
            seen.append("step")
            if len(seen) == 2 * STEPS - 1:
                done.set_result(None)
                return
            loop.call_soon(seen.append, "other")
            clock.call_later(0, step)

        clock.call_later(0, step)
        await done
        clock.close()
        return seen

    loop = make_loop()
    try:
        assert loop.run_until_complete(run()) == ["step", "other"] * (STEPS - 1) + ["step"]
    finally:
        loop.close()
