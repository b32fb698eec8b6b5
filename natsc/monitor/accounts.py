"""/accountz and /accstatz: the accounts, and what went through each of them."""

from __future__ import annotations

from natsc.monitor import snapshot
from natsc.monitor.gojson import indented, stream, timestamp
from natsc.monitor.links import links, responses
from natsc.monitor.params import BadRequest, decode_bool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.monitor.endpoints import Response
    from natsc.monitor.params import Query


def accountz(server: Any, query: Query) -> Response:
    """All names, or with `acc` one account in detail. Raises BadRequest."""
    snapshot.count_request(server, "/accountz")
    body: dict[str, Any] = {"server_id": server.server_id, "now": timestamp(snapshot.now_ns(server))}
    system = snapshot.system_account(server)
    if system:
        body["system_account"] = system
    name = query.get("acc", "")
    if not name:
        names = [account.name for account in snapshot.accounts(server)]
        if names:
            body["accounts"] = names
        return 200, "application/json", indented(body).encode()
    account = snapshot.account(server, name)
    if account is None:
        raise BadRequest(f"Account {name} does not exist")
    body["account_detail"] = _detail(server, account, name == system)
    return 200, "application/json", indented(body).encode()


def _detail(server: Any, account: Any, is_system: bool) -> dict[str, Any]:
    claimed = snapshot.claims(server, account.name)
    updated = (claimed.updated_ns if claimed is not None else 0) or server.config_load_ns
    body: dict[str, Any] = {"account_name": account.name, "update_time": timestamp(updated)}
    if is_system:
        body["is_system"] = True
    stats = snapshot.SublistStats()
    stats.add(account)
    body.update(
        expired=claimed is not None and claimed.expired,
        complete=True,
        jetstream_enabled=snapshot.has_jetstream(server, account.name),
        leafnode_connections=0,
        client_connections=account.num_clients,
        subscriptions=account.num_subs,
        **links(server, account.name),
    )
    if claimed is not None:
        _add_claims(body, claimed)
    else:
        body["name_tag"] = account.name
    body["sublist_stats"] = stats.as_json()
    waiting = responses(server, account)
    if waiting:
        body["responses"] = waiting
    return body


def _add_claims(body: dict[str, Any], account: Any) -> None:
    """What an account's JWT says, and what is wrong with it by now."""
    if account.token:
        body["jwt"] = account.token
    body.update(issuer_key=account.issuer, name_tag=account.name_tag or account.name)
    if account.tags:
        body["tags"] = account.tags
    if account.claims is None:
        return
    from natsc.auth import jwt

    body["decoded_jwt"] = jwt.payload(account.token) if account.token else None
    if account.revocations:
        times = sorted(account.revocations.items())
        body["revoked_user"] = {user: timestamp(seconds * 1_000_000_000) for user, seconds in times}


def accstatz(server: Any, query: Query) -> Response:
    """Accounts that are in use, or with `unused` all of them. Raises BadRequest."""
    snapshot.count_request(server, "/accstatz")
    unused = decode_bool(query, "unused")
    head = {"server_id": server.server_id, "now": timestamp(snapshot.now_ns(server))}
    shown = [statistics(account) for account in snapshot.accounts(server) if unused or account.num_clients]
    return 200, "application/json", stream(head, "account_statz", shown)


def statistics(account: Any) -> dict[str, Any]:
    return {
        "acc": account.name,
        "name": account.name,
        "conns": account.num_clients,
        "leafnodes": 0,
        "total_conns": account.num_clients,
        "num_subscriptions": account.num_subs,
        "sent": _data(account.out_msgs, account.out_bytes),
        "received": _data(account.in_msgs, account.in_bytes),
        "slow_consumers": account.slow_consumers,
    }


def _data(msgs: int, size: int) -> dict[str, Any]:
    nothing = {"msgs": 0, "bytes": 0}
    return {"msgs": msgs, "bytes": size, "gateways": nothing, "routes": nothing, "leafs": nothing}
