"""/debug/vars and /stacksz: the process from inside, as text for people."""

from __future__ import annotations

import sys

from natsc.monitor import process
from natsc.monitor.gojson import compact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from natsc.monitor.endpoints import Response
    from natsc.monitor.params import Query


def expvars(server: Any, query: Query) -> Response:
    """The program's name and its memory.

    Arguments stay out: they may hold passwords, tokens and URLs with both, and no list of what to hide keeps up with
    them.
    """
    import gc

    resident = process.rss_bytes()
    memory = {
        "Alloc": resident,
        "Sys": process.vss_bytes(),
        "HeapObjects": sum(gc.get_count()),
        "NumGC": sum(generation["collections"] for generation in gc.get_stats()),
        "EnableGC": gc.isenabled(),
    }
    program = sys.argv[0] if sys.argv else ""
    text = f'{{\n"cmdline": {compact([program])},\n"memstats": {compact(memory)}\n}}\n'
    return 200, "application/json; charset=utf-8", text.encode()


def stacksz(server: Any, query: Query) -> Response:
    """The stack of every thread, innermost call first: names and places, neither values nor source text."""
    lines: list[str] = []
    for ident, innermost in sys._current_frames().items():
        lines.append(f"thread {ident} [running]:")
        frame: FrameType | None = innermost
        while frame is not None:
            code = frame.f_code
            lines.append(f"{code.co_qualname}\n\t{code.co_filename}:{frame.f_lineno}")
            frame = frame.f_back
        lines.append("")
    return 200, "application/json", "\n".join(lines).encode("utf-8", "backslashreplace")
