"""/subsz and /subscriptionsz: counters of the subscription tables, and on request the subscriptions themselves."""

from __future__ import annotations

from natsc.monitor import snapshot
from natsc.monitor.connz import subscription_detail
from natsc.monitor.gojson import indented, stream, timestamp
from natsc.monitor.params import BadRequest, decode_bool, decode_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from natsc.monitor.endpoints import Response
    from natsc.monitor.params import Query

DEFAULT_LIMIT = 1024


def subsz(server: Any, query: Query) -> Response:
    """Raises BadRequest. Counted even then."""
    snapshot.count_request(server, "/subsz")
    listed = decode_bool(query, "subs")
    offset = max(decode_int(query, "offset"), 0)
    limit = decode_int(query, "limit")
    limit = limit if limit > 0 else DEFAULT_LIMIT
    subject = query.get("test", "")
    if subject and not is_literal_subject(subject):
        raise BadRequest(f"invalid test subject, must be valid publish subject: {subject}")
    account = query.get("acc", "")
    head = _head(server, account)
    if listed:
        return 200, "application/json", _with_list(server, head, account, subject, offset, limit)
    head.update(total=0, offset=offset, limit=limit)
    return 200, "application/json", indented(head).encode()


def _head(server: Any, account: str) -> dict[str, Any]:
    stats = snapshot.SublistStats()
    for found in snapshot.accounts(server):
        if not account or found.name == account:
            stats.add(found)
    if not account:
        stats.num_cache = snapshot.cached_results(server)
    return {"server_id": server.server_id, "now": timestamp(snapshot.now_ns(server)), **stats.as_json()}


def _with_list(
    server: Any, head: dict[str, Any], account: str, subject: str, offset: int, limit: int
) -> Iterator[bytes]:
    """The pieces of the answer. Empty pieces give the event loop its turn while many connections are searched."""
    page: list[dict[str, Any]] = []
    total = 0
    for conn in snapshot.connections(server):
        owner = snapshot.account_name(conn)
        if account and owner != account:
            continue
        count = conn.num_subs
        if not count:
            continue
        if subject or (total < offset + limit and total + count > offset):
            found = snapshot.subscriptions(conn)
            if subject:
                found = [sub for sub in found if matches_literal(subject, sub[0])]
            first, last = max(offset - total, 0), offset + limit - total
            page += [subscription_detail(sub, conn.cid, owner) for sub in found[first : max(last, 0)]]
            count = len(found)
            yield b""
        total += count
    head.update(total=total, offset=offset, limit=limit)
    if page:
        yield from stream(head, "subscriptions_list", page)
    else:
        yield indented(head).encode()


def is_literal_subject(subject: str) -> bool:
    """Tokens without blanks, none of them empty and none a wildcard."""
    tokens = subject.split(".")
    if any(char in " \t\n\r\f" for char in subject):
        return False
    return all(token and token not in ("*", ">") for token in tokens)


def matches_literal(literal: str, subject: str | bytes) -> bool:
    """A message published on `literal` reaches a subscription of `subject`."""
    pattern = subject.decode("utf-8", "surrogateescape") if isinstance(subject, bytes) else subject
    wanted, tokens = pattern.split("."), literal.split(".")
    if wanted[-1] == ">":
        if len(tokens) < len(wanted):
            return False
        wanted = wanted[:-1]
        tokens = tokens[: len(wanted)]
    return len(tokens) == len(wanted) and all(
        want == "*" or want == token for want, token in zip(wanted, tokens, strict=True)
    )
