"""The supervisor: a server's life, its handshake with clients, its log and its process."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.config.options import Options
    from natsc.server.log import Log


def run(opts: Options, log: Log) -> int:
    """Runs a server until it is told to stop; returns the exit code."""
    from natsc.server.main import run as run_server

    return run_server(opts, log)
