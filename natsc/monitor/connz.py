"""/connz: the connections, open, closed or both, filtered, sorted and paged."""

from __future__ import annotations

from natsc.monitor import snapshot
from natsc.monitor.gojson import duration, indented, stream, timestamp, uptime
from natsc.monitor.params import BadRequest, decode_bool, decode_int, decode_subs, decode_uint64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from natsc.monitor.endpoints import Response
    from natsc.monitor.params import Query

DEFAULT_LIMIT = 1024
SORT_OPTIONS = frozenset(
    ("", "cid", "start", "subs", "pending", "msgs_to", "msgs_from", "bytes_to", "bytes_from", "last", "idle", "uptime",
     "stop", "reason", "rtt")
)  # fmt: skip
_STATES = {"": "open", "open": "open", "closed": "closed", "any": "all", "all": "all"}


class ConnzOptions:
    """What to show. The defaults are those of a request without a query."""

    __slots__ = (
        "account",
        "auth",
        "cid",
        "filter_subject",
        "limit",
        "mqtt_client",
        "offset",
        "sort",
        "state",
        "subs",
        "subs_detail",
        "user",
    )

    def __init__(self, query: Query) -> None:
        """Decodes a query in the order in which the reference finds its errors. Raises BadRequest."""
        self.sort = query.get("sort", "")
        self.auth = decode_bool(query, "auth")
        self.subs, self.subs_detail = decode_subs(query)
        self.offset = max(decode_int(query, "offset"), 0)
        limit = decode_int(query, "limit")
        self.limit = limit if limit > 0 else DEFAULT_LIMIT
        self.cid = decode_uint64(query, "cid")
        state = query.get("state", "")
        if state.lower() not in _STATES:
            raise BadRequest(f"Error decoding state for {state}")
        self.state = _STATES[state.lower()]
        self.user = query.get("user", "")
        self.account = query.get("acc", "")
        self.mqtt_client = query.get("mqtt_client", "")
        self.filter_subject = ""  # only a message's options have it

    def check(self) -> None:
        """Refuses what contradicts itself. Raises BadRequest."""
        if self.sort not in SORT_OPTIONS:
            raise BadRequest(f"invalid sorting option: {self.sort}")
        if self.sort in ("stop", "reason") and self.state != "closed":
            raise BadRequest(f"sort by {self.sort} only valid on closed connections")
        if self.cid > 0:
            self.limit = 1
        if self.filter_subject == ">":
            self.filter_subject = ""
        if self.filter_subject and not self.account:
            raise BadRequest("filter by subject only valid with account filtering")


def connz(server: Any, query: Query) -> Response:
    """Raises BadRequest. A request whose query can't be decoded isn't counted."""
    options = ConnzOptions(query)
    snapshot.count_request(server, "/connz")
    return respond(server, options)


def respond(server: Any, options: ConnzOptions) -> Response:
    """Raises BadRequest. An unknown account has no list at all."""
    options.check()
    if options.account and snapshot.account(server, options.account) is None:
        head = _head("", snapshot.now_ns(server), 0, 0, options)
        return 200, "application/json", indented({**head, "connections": None}).encode()
    head, entries = build(server, options)
    return 200, "application/json", stream(head, "connections", entries)


def build(server: Any, options: ConnzOptions) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """The members before the list, and the list's entries, made as they are asked for."""
    now = snapshot.now_ns(server)
    opened, closed = _candidates(server, options)
    total = len(opened) + len(closed)
    chosen = _select(server, options, opened, closed)
    chosen = _sort(chosen, options.sort, now)
    page = chosen[options.offset : options.offset + options.limit]
    entries = (_entry(server, conn, now, options) for conn in page)
    return _head(server.server_id, now, len(page), total, options), entries


def _head(server_id: str, now: int, count: int, total: int, options: ConnzOptions) -> dict[str, Any]:
    return {
        "server_id": server_id,
        "now": timestamp(now),
        "num_connections": count,
        "total": total,
        "offset": options.offset,
        "limit": options.limit,
    }


def _listens(conn: Any, subject: str) -> bool:
    """Whether a connection has a subscription that a message to the subject, or one of its subjects, would meet."""
    from natsc.config.subject_mapping import collide

    return any(collide(subject, _text(sub[0])) for sub in snapshot.subscriptions(conn))


def _candidates(server: Any, options: ConnzOptions) -> tuple[list[Any], list[Any]]:
    """Open and closed connections in the wanted state and account: what `total` counts."""
    opened = snapshot.connections(server) if options.state != "closed" else []
    closed = snapshot.closed_connections(server) if options.state != "open" else []
    if options.account:
        opened = [conn for conn in opened if snapshot.account_name(conn) == options.account]
        closed = [conn for conn in closed if _closed_account(conn) == options.account]
    return opened, closed


def _closed_account(conn: Any) -> str:
    """The account of a closed connection, which the reference forgets when it is the global one."""
    name = snapshot.account_name(conn)
    return "" if name == snapshot.GLOBAL_ACCOUNT else name


def _select(server: Any, options: ConnzOptions, opened: list[Any], closed: list[Any]) -> list[Any]:
    """The connections that all filters let through."""
    if options.cid > 0:
        # An open connection with this id is shown whatever its account or user is.
        found = snapshot.connection(server, options.cid) if options.state != "closed" else None
        if found is not None:
            return [found]
        return [conn for conn in closed if conn.cid == options.cid and _matches(conn, options)][:1]
    if options.filter_subject:
        opened = [conn for conn in opened if _listens(conn, options.filter_subject)]
    if not options.user and not options.mqtt_client:
        return opened + closed
    return [conn for conn in opened + closed if _matches(conn, options)]


def _matches(conn: Any, options: ConnzOptions) -> bool:
    if options.mqtt_client:  # no connection is an MQTT client
        return False
    return not options.user or snapshot.authorized_user(conn) == options.user


def _sort(chosen: list[Any], by: str, now: int) -> list[Any]:
    """Sorted by cid, and stably by what was asked for, so that equal entries keep one order from page to page."""
    chosen.sort(key=snapshot.SORT_BY["cid"][0])
    if by == "idle":
        chosen.sort(key=lambda conn: now - conn.last_activity_ns, reverse=True)
    elif by == "uptime":
        chosen.sort(key=lambda conn: (getattr(conn, "stop_ns", 0) or now) - conn.start_ns)
    elif by not in ("", "cid", "start"):
        key, descending = snapshot.SORT_BY[by]
        chosen.sort(key=key, reverse=descending)
    return chosen


def _entry(server: Any, conn: Any, now: int, options: ConnzOptions) -> dict[str, Any]:
    """One connection. Start, last activity and stop are in local time, as the reference prints them."""
    stop = getattr(conn, "stop_ns", 0)
    seen = stop or now
    entry: dict[str, Any] = {
        "cid": conn.cid,
        "kind": "Client",
        "type": "websocket" if conn.door == "WEBSOCKET" else "nats",
        "ip": conn.ip if conn.port else "",
        "port": conn.port,
        "start": timestamp(conn.start_ns, local=True),
        "last_activity": timestamp(conn.last_activity_ns, local=True),
    }
    if stop:
        entry["stop"] = timestamp(stop, local=True)
        if conn.reason:
            entry["reason"] = conn.reason
    entry["rtt"] = duration(conn.rtt_ns if stop else snapshot.rtt_ns(conn))
    entry["uptime"] = uptime(seen - conn.start_ns)
    entry["idle"] = uptime(seen - conn.last_activity_ns)
    entry["pending_bytes"] = conn.pending_bytes
    entry["in_msgs"] = conn.in_msgs
    entry["out_msgs"] = conn.out_msgs
    entry["in_bytes"] = conn.in_bytes
    entry["out_bytes"] = conn.out_bytes
    if conn.stalls:
        entry["stalls"] = conn.stalls
    entry["subscriptions"] = conn.num_subs
    for name in ("name", "lang", "version"):
        value = getattr(conn, name)
        if value:
            entry[name] = value
    _add_tls(entry, conn, options.auth and not stop)
    if options.auth:
        _add_identity(entry, conn)
    if conn.num_subs and (options.subs or options.subs_detail):
        _add_subscriptions(entry, conn, options.subs_detail, bool(stop))
    if options.auth:
        _add_jwt(entry, server, conn)
    proxy = snapshot.proxy_key(conn)
    if proxy:
        entry["proxy"] = {"key": proxy}
    return entry


def _add_jwt(entry: dict[str, Any], server: Any, conn: Any) -> None:
    """What a JWT says of user and account; an account without one has its own name for a tag."""
    user = snapshot.jwt_user(conn)
    if user is not None:
        token = snapshot.shown_jwt(conn)
        if token:
            entry["jwt"] = token
        entry["issuer_key"] = user.signing_key or snapshot.account_name(conn)
    if _named_account(conn):
        entry["name_tag"] = snapshot.account_tag(server, snapshot.account_name(conn))
    if user is not None and user.tags:
        entry["tags"] = user.tags


def _named_account(conn: Any) -> bool:
    """A closed connection of the global account has lost its account's name."""
    name = snapshot.account_name(conn)
    return bool(name) and not (getattr(conn, "stop_ns", 0) and name == snapshot.GLOBAL_ACCOUNT)


def _add_identity(entry: dict[str, Any], conn: Any) -> None:
    user, account = snapshot.authorized_user(conn), snapshot.account_name(conn)
    if user:
        entry["authorized_user"] = user
    if account and account != snapshot.GLOBAL_ACCOUNT:
        entry["account"] = account


def _add_subscriptions(entry: dict[str, Any], conn: Any, detail: bool, closed: bool) -> None:
    listed = snapshot.subscriptions(conn)
    if not listed:
        return
    if not detail:
        entry["subscriptions_list"] = [_text(sub[0]) for sub in listed]
        return
    account = snapshot.account_name(conn) if closed else ""
    entry["subscriptions_list_detail"] = [subscription_detail(sub, conn.cid, account) for sub in listed]


def subscription_detail(sub: tuple[Any, ...], cid: int, account: str = "") -> dict[str, Any]:
    """One subscription of connection `cid`; with its account where the list spans accounts."""
    subject, queue, sid, msgs, limit = sub
    detail: dict[str, Any] = {}
    if account:
        detail["account"] = detail["account_tag"] = account
    detail["subject"] = _text(subject)
    if queue:
        detail["qgroup"] = _text(queue)
    detail["sid"] = _text(sid)
    detail["msgs"] = msgs
    if limit and limit > 0:
        detail["max"] = limit
    detail["cid"] = cid
    return detail


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _add_tls(entry: dict[str, Any], conn: Any, certificates: bool) -> None:
    names = snapshot.tls_names(conn)
    if names is None:
        return
    entry["tls_version"], entry["tls_cipher_suite"] = names
    peers = snapshot.peer_certificates(conn) if certificates else []
    if peers:
        from natsc.monitor import certs

        entry["tls_peer_certs"] = [certs.describe(der) for der in peers]
    if snapshot.tls_came_first(conn):
        entry["tls_first"] = True
