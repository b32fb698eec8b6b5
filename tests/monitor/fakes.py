"""A server, its engine, accounts and connections as the monitoring endpoints see them, with values chosen by the
test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

NOW_NS = 1_800_000_000_123_456_789
SECOND = 1_000_000_000


class Clock:
    """Stands still."""

    def wall_ns(self) -> int:
        return NOW_NS


class Log:
    """Keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def notice(self, text: str) -> None:
        self.lines.append("INF " + text)

    def warn(self, text: str) -> None:
        self.lines.append("WRN " + text)

    def error(self, text: str) -> None:
        self.lines.append("ERR " + text)


class Account:
    def __init__(self, name: str) -> None:
        self.name = name
        self.options = self.imports = None
        self.num_clients = self.num_subs = self.slow_consumers = 0
        self.in_msgs = self.in_bytes = self.out_msgs = self.out_bytes = 0
        self.counters = {"num_inserts": 0, "num_removes": 0, "num_matches": 0, "num_cache_hits": 0}

    def sublist_stats(self) -> dict[str, int]:
        return self.counters


class Conn:
    """An open connection; `stop_ns` and `reason` make it a closed one."""

    def __init__(self, cid: int, account: Account | None = None, subs: Any = (), **values: Any) -> None:
        self.cid = cid
        self.account = account
        self.opts: dict[str, Any] = {}
        self.user = self.name = self.lang = self.version = ""
        self.ip, self.port = "127.0.0.1", 40000 + cid
        self.start_ns = self.last_activity_ns = NOW_NS - 10 * SECOND + cid
        self.rtt_ns = self.pending_bytes = self.stalls = 0
        self.in_msgs = self.in_bytes = self.out_msgs = self.out_bytes = 0
        self.conn: Any = None
        self.tls_names: tuple[str, str] | None = None
        self.tls_first = False
        self.door = "STANDARD"
        self.num_subs = len(subs)
        self._subs = list(subs)
        for name, value in values.items():
            setattr(self, name, value)

    def subscriptions(self) -> list[Any]:
        return self._subs


class Engine:
    def __init__(self, clients: list[Conn], accounts: list[Account]) -> None:
        self._clients, self._accounts = clients, accounts
        self.in_msgs = self.in_bytes = self.out_msgs = self.out_bytes = 0
        self.slow_consumers = self.stale_connections = self.stalled_clients = 0
        self.cached_matches = 0

    @property
    def num_subs(self) -> int:
        return sum(account.num_subs for account in self._accounts)

    @property
    def num_clients(self) -> int:
        return len(self._clients)

    def clients(self) -> list[Conn]:
        return list(self._clients)

    def client(self, cid: int) -> Conn | None:
        return next((conn for conn in self._clients if conn.cid == cid), None)

    def accounts(self) -> list[Account]:
        return list(self._accounts)


def options(**values: Any) -> SimpleNamespace:
    base: dict[str, Any] = {
        "http_host": "127.0.0.1",
        "http_port": -1,
        "http_base_path": "",
        "https_port": 0,
        "max_conn": 65536,
        "max_subs": 0,
        "ping_interval": 120 * SECOND,
        "max_pings_out": 2,
        "auth_timeout": 2.0,
        "max_control_line": 4096,
        "max_payload": 1048576,
        "max_pending": 67108864,
        "tls_timeout": 2.0,
        "write_deadline": 10 * SECOND,
        "write_timeout": "",
        "config_digest": "",
        "tags": [],
        "metadata": {},
        "feature_flags": {},
        "system_account": "",
        "no_system_account": False,
        "jetstream": False,
        "tls_config": None,
        "proxies": None,
    }
    base.update(values)
    return SimpleNamespace(**base)


class Server:
    """Two clients' worth of defaults: none, and the global account."""

    def __init__(self, clients: Any = (), closed: Any = (), accounts: Any = None, **opts: Any) -> None:
        self.options = options(**opts)
        if accounts is None:
            accounts = [Account("$G")]
        self.engine = Engine(list(clients), list(accounts))
        self.closed = list(closed)
        self.log = Log()
        self.clock = Clock()
        self.websocket = self.jetstream = self.system = None
        self.server_id = self.server_name = "NABC"
        self.info = {
            "server_id": "NABC",
            "server_name": "NABC",
            "version": "2.15.1",
            "proto": 1,
            "go": "go1.27.2",
            "host": "127.0.0.1",
            "port": 4222,
            "git_commit": "b2fd3ef",
        }
        self.start_ns = self.config_load_ns = NOW_NS - 12 * SECOND
        self.total_connections = len(self.engine.clients()) + len(self.closed)
        self.http_req_stats: dict[str, int] = {}
        self.accepting, self.lame_duck = True, False


def get(
    server: Server, path: str, query: str = "", base: str = "/", method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the whole body of one request to an endpoint."""
    from natsc.monitor.endpoints import answer

    status, headers, body = answer(server, base, method, path, query)
    return status, dict(headers), body if isinstance(body, bytes) else b"".join(body)
