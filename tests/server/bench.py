"""A whole server without sockets: its clock stands still, its log is a list, its connections are buffers."""

from __future__ import annotations

import json
from asyncio import AbstractEventLoop
from types import SimpleNamespace
from typing import Any

from natsc._core import Client
from natsc.config import Options, process_config_string, set_baseline_options, validate_options
from natsc.server.log import LogError
from natsc.server.reload import reload
from natsc.server.server import Server


class ListLog:
    """Keeps what is logged: (level, text)."""

    debug_on = True
    trace_on = False

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []
        self.reconfigured: list[Options] = []
        self.unusable = ""  # why no log can be opened

    def __getattr__(self, level: str) -> Any:
        if level not in ("notice", "warn", "error", "debug", "trace"):
            raise AttributeError(level)
        return lambda text: self.entries.append((level, text))

    def error_once(self, text: str, prefix: str = "") -> None:
        self.entries.append(("error", prefix + text))

    def prepare(self, opts: Options) -> object:
        if self.unusable:
            raise LogError(self.unusable)
        return object()

    def reconfigure(self, opts: Options, sink: object) -> None:
        self.reconfigured.append(opts)

    def texts(self, *levels: str) -> list[str]:
        return [text for level, text in self.entries if level in (levels or ("notice", "warn", "error"))]


class Listener:
    """Where the sockets would be."""

    port = 4321
    write_deadline_text = "10s"

    def __init__(self) -> None:
        self.stopped = False
        self.connections: set[object] = set()

    def stop(self) -> None:
        self.stopped = True

    def closing(self, client: Client) -> None:
        pass


class Peer:
    """The other end of a connection."""

    def __init__(self, server: Server, **tls: Any) -> None:
        self.server = server
        conn = SimpleNamespace(tls=None, stage=None, resume=lambda: None)
        self.client = server.engine.connect(server.global_account, conn, "127.0.0.1", 1)
        if server.auth.auth_required:
            self.client.expect_connect(0)

    def say(self, *lines: str) -> Peer:
        self.server.engine.receive(self.client, "".join(f"{line}\r\n" for line in lines).encode())
        self.server.engine.end_turn()
        return self

    def hears(self) -> list[str]:
        """The lines that came since the last call."""
        return self.client.take_output().decode().splitlines()

    def connect(self, user: str = "", password: str = "p", **fields: Any) -> Peer:
        fields = {"verbose": False, "pedantic": False, **fields}
        if user:
            fields |= {"user": user, "pass": password}
        self.say(f"CONNECT {json.dumps(fields)}", "PING")
        self.hears()
        return self

    @property
    def reason(self) -> str:
        """Why it was closed; "" where it wasn't."""
        return self.client.reason


def options(config: str) -> Options:
    opts = process_config_string(config)
    set_baseline_options(opts)
    validate_options(opts)
    return opts


class Bench:
    def __init__(self, loop: AbstractEventLoop, config: str = "") -> None:
        self.log = ListLog()
        self.server = Server(options(config), self.log, loop, seed=1)
        self.server.listener = self.listener = Listener()
        self.server.accepting = True
        self.server.clock.freeze()
        self.server.refresh_info()

    def peer(self) -> Peer:
        return Peer(self.server)

    def login(self, user: str = "", password: str = "p", **fields: Any) -> Peer:
        return self.peer().connect(user, password, **fields)

    def reload(self, config: str, *, everyone: bool = True) -> list[str]:
        """Reloads and returns what was logged meanwhile, but for debug lines."""
        mark = len(self.log.entries)
        reload(self.server, process_config_string(config), everyone=everyone)
        return [text for level, text in self.log.entries[mark:] if level != "debug"]
