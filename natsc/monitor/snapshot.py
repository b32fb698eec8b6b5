"""What monitoring reads of the server, its engine, accounts and connections: the one place that knows their shapes.

Counters are read where they stand, without copying: one thread runs both the data plane and the monitoring port, so
whatever is read between two turns of the loop is consistent. Nothing here changes the server but the request counters
and the PING that measures a round trip nobody has measured yet.
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

GLOBAL_ACCOUNT = "$G"
DEFAULT_SYSTEM_ACCOUNT = "$SYS"

# The reference's flags for behaviour in transition, with its defaults; a configuration may set known ones only.
FEATURE_FLAGS = {
    "js_ack_fc_v2": False,
    "js_api_reply_v2": False,
    "js_raft_delete_range": True,
    "js_snapshot_sources": False,
}

# connz's sort option -> (what to sort by, descending). `idle`, `uptime`, `stop` and `reason` need more than an
# attribute.
SORT_BY: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "": (attrgetter("cid"), False),
    "cid": (attrgetter("cid"), False),
    "start": (attrgetter("cid"), False),
    "subs": (attrgetter("num_subs"), True),
    "pending": (attrgetter("pending_bytes"), True),
    "msgs_to": (attrgetter("out_msgs"), True),
    "msgs_from": (attrgetter("in_msgs"), True),
    "bytes_to": (attrgetter("out_bytes"), True),
    "bytes_from": (attrgetter("in_bytes"), True),
    "last": (attrgetter("last_activity_ns"), True),
    "rtt": (attrgetter("rtt_ns"), True),
    "stop": (attrgetter("stop_ns"), True),
    "reason": (attrgetter("reason"), False),
}


# Names of an account's subscription counters -> attributes of SublistStats.
_COUNTERS = {
    "num_inserts": "num_inserts",
    "num_removes": "num_removes",
    "num_matches": "num_matches",
    "num_cache_hits": "cache_hits",
}


class SublistStats:
    """The counters of one account's subscriptions, or the sum over several accounts. How far results fan out isn't
    kept."""

    __slots__ = ("cache_hits", "num_cache", "num_inserts", "num_matches", "num_removes", "num_subscriptions")

    def __init__(self) -> None:
        self.num_subscriptions = 0
        self.num_cache = 0  # cached results; one cache serves all accounts
        self.num_inserts = 0
        self.num_removes = 0
        self.num_matches = 0
        self.cache_hits = 0

    def add(self, account: Any) -> None:
        """Adds an account's counters."""
        counters = account.sublist_stats()
        self.num_subscriptions += account.num_subs
        for name, attribute in _COUNTERS.items():
            setattr(self, attribute, getattr(self, attribute) + counters[name])

    def as_json(self) -> dict[str, Any]:
        """The members that subsz and accountz show."""
        return {
            "num_subscriptions": self.num_subscriptions,
            "num_cache": self.num_cache,
            "num_inserts": self.num_inserts,
            "num_removes": self.num_removes,
            "num_matches": self.num_matches,
            "cache_hit_rate": self.cache_hits / self.num_matches if self.num_matches else 0.0,
            "max_fanout": 0,
            "avg_fanout": 0.0,
        }


# -- the server -------------------------------------------------------------------------------------------------------


def now_ns(server: Any) -> int:
    """Wall time in nanoseconds."""
    return server.clock.wall_ns()  # type: ignore[no-any-return]


def count_request(server: Any, path: str) -> None:
    """One more request for an endpoint that varz counts."""
    stats = server.http_req_stats
    stats[path] = stats.get(path, 0) + 1


def system_account(server: Any) -> str:
    """The system account's name, empty without one."""
    options = server.options
    return options.system_account or ("" if options.no_system_account else DEFAULT_SYSTEM_ACCOUNT)


def feature_flags(server: Any) -> dict[str, bool]:
    """All known flags, a configuration's values first."""
    chosen = getattr(server.options, "feature_flags", None) or {}
    return {name: bool(chosen.get(name, default)) for name, default in FEATURE_FLAGS.items()}


def not_ready(server: Any) -> str:
    """The listeners that don't accept connections, empty when all do. A lame duck takes no new clients."""
    return "" if server.accepting and not server.lame_duck else "server"


def jetstream(server: Any) -> Any:
    """natsc.jetstream.service.JetStream, None where it isn't enabled."""
    return getattr(server, "jetstream", None)


def lacks_jetstream(server: Any) -> bool:
    """The configuration asks for JetStream, and it doesn't run."""
    return bool(getattr(server.options, "jetstream", False)) and jetstream(server) is None


def write_timeout_name(policy: Any) -> str:
    """close, retry, or empty for the default policy."""
    return policy if isinstance(policy, str) and policy != "default" else ""


def certificate_expiry(server: Any) -> str:
    """When the certificate of the client listener ends, empty without one."""
    from natsc.monitor import certs

    path = certificate_path(server.options)
    return certs.not_after_of_file(path, server.config_load_ns) if path else ""


def certificate_path(options: Any) -> str:
    """The PEM file of the client listener's first certificate, empty without TLS."""
    tls_options = getattr(options, "tls_config", None)
    if tls_options is None:
        return ""
    if getattr(tls_options, "cert_file", ""):
        return tls_options.cert_file  # type: ignore[no-any-return]
    pairs = getattr(tls_options, "certificates", None) or ()
    return pairs[0][0] if pairs else ""


def cached_results(server: Any) -> int:
    """Subjects whose subscribers are cached."""
    return server.engine.cached_matches  # type: ignore[no-any-return]


# -- accounts ---------------------------------------------------------------------------------------------------------


def accounts(server: Any) -> Iterable[Any]:
    """Handles of all accounts but those that a reload took away: the engine keeps them, empty."""
    gone = getattr(server, "gone_accounts", ())
    return [found for found in server.engine.accounts() if found.name not in gone]


def account(server: Any, name: str) -> Any | None:
    """An account's handle, None where there is no such account."""
    for found in accounts(server):
        if found.name == name:
            return found
    return None


def system(server: Any) -> Any | None:
    """natsc.server.system.System, where there is a system account."""
    return getattr(server, "system", None)


def configured_account(server: Any, name: str) -> Any | None:
    """natsc.config.options.Account of an account: as the configuration has it, or its JWT."""
    claimed = claims(server, name)
    if claimed is not None:
        return claimed.options
    return next((one for one in getattr(server.options, "accounts", None) or () if one.name == name), None)


def has_jetstream(server: Any, name: str) -> bool:
    """Whether an account may have streams."""
    running = jetstream(server)
    backend = running.accounts.get(name) if running is not None else None
    return backend is not None and backend.enabled


def is_active(server: Any, account: Any) -> bool:
    """Whether an account has clients, its streams counting as such."""
    running = jetstream(server)
    backend = running.accounts.get(account.name) if running is not None else None
    return account.num_clients > 0 or (backend is not None and bool(backend.by_name))


# -- connections ------------------------------------------------------------------------------------------------------


def connections(server: Any) -> list[Any]:
    """Handles of the clients that are connected."""
    return list(server.engine.clients())


def num_connections(server: Any) -> int:
    """How many clients are connected."""
    return server.engine.num_clients  # type: ignore[no-any-return]


def connection(server: Any, cid: int) -> Any | None:
    """The handle of a connected client, None if there is none with this id."""
    return server.engine.client(cid)


def closed_connections(server: Any) -> list[Any]:
    """Records of the latest closed connections, oldest first."""
    return list(server.closed)


def account_name(conn: Any) -> str:
    """The account that a connection, open or closed, belongs to; empty before it has one."""
    holder = conn.account
    if holder is None:
        return ""
    return holder if isinstance(holder, str) else holder.name


def authorized_user(conn: Any) -> str:
    """Who a connection says to be: nkey, user name, the JWT's key, or a placeholder in place of a token. Never a
    secret."""
    opts = conn.opts or {}
    for name in ("nkey", "user"):
        value = opts.get(name)
        if isinstance(value, str) and value:
            return value
    user = conn.user
    name = user if isinstance(user, str) else getattr(user, "username", "") or getattr(user, "nkey", "")
    if opts.get("jwt"):
        return opts.get("public_key", "")  # type: ignore[no-any-return]
    if opts.get("auth_token"):
        return "[REDACTED]"
    return name or ""


def proxy_key(conn: Any) -> str:
    """The trusted proxy that a connection came through, "" where it came through none."""
    return (conn.opts or {}).get("proxy_key", "")  # type: ignore[no-any-return]


def jwt_user(conn: Any) -> Any | None:
    """natsc.auth.operator.JWTUser of a connection that came with a JWT."""
    grant = getattr(conn, "grant", None)
    return grant.jwt_user if grant is not None else None


def shown_jwt(conn: Any) -> str:
    """The JWT that a connection came with; a bearer token is as good as a password, and isn't shown."""
    user = jwt_user(conn)
    return "" if user is None or user.bearer else (conn.opts or {}).get("jwt", "")


def claims(server: Any, name: str) -> Any | None:
    """natsc.auth.claims.ClaimAccount of an account that has a JWT."""
    known = getattr(server, "claims", None)
    return known.accounts.get(name) if known is not None else None


def pinned_failures(server: Any) -> int:
    """Logins of accounts that resolver_pinned_accounts leaves out."""
    return getattr(getattr(server, "auth", None), "pinned_failures", 0)


def account_tag(server: Any, name: str) -> str:
    """The name that an account's JWT has for it, its own name otherwise."""
    known = claims(server, name)
    return known.name_tag if known is not None and known.name_tag else name


def rtt_ns(conn: Any) -> int:
    """The last round trip in nanoseconds, 0 while unknown; asks real clients for one then."""
    rtt = conn.rtt_ns
    if rtt == 0 and conn.lang:
        conn.send_rtt_ping()
    if 1_000 < rtt < 1_000_000:
        rtt -= rtt % 1_000
    return rtt  # type: ignore[no-any-return]


def subscriptions(conn: Any) -> list[tuple[Any, ...]]:
    """(subject, queue or None, sid, messages, limit) of each subscription."""
    return conn.subscriptions()  # type: ignore[no-any-return]


def tls_names(conn: Any) -> tuple[str, str] | None:
    """Protocol version and cipher suite of a connection with TLS once its handshake is done, closed or not."""
    return conn.tls_names  # type: ignore[no-any-return]


def peer_certificates(conn: Any) -> list[bytes]:
    """The DER of the certificates that the peer of an open connection sent, its own first."""
    layer = tls_layer(conn)
    return layer.peer_certs() if layer is not None else []


def tls_layer(conn: Any) -> Any | None:
    """The TLS layer of an open connection once its handshake is done."""
    layer = getattr(conn.conn, "tls", None)
    return layer if layer is not None and layer.handshake_done else None


def tls_came_first(conn: Any) -> bool:
    """The handshake was done before INFO was sent."""
    return conn.tls_first  # type: ignore[no-any-return]
