"""Events in the system account: clients that come, go, or are refused."""

from __future__ import annotations

import json

from natsc import errors
from natsc.client_info import client_info
from natsc.monitor import snapshot
from natsc.monitor.gojson import timestamp
from natsc.server.system_answers import about, account_statistics, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc._core import Client
    from natsc.server.system import System


_ACCOUNT_ERROR = b"$SYS.ACCOUNT.CLIENT.AUTH.ERR"


def connected(system: System, client: Client) -> None:
    """A client has come into its account."""
    name = client.account.name
    _tell_statistics(system, client.account)
    system.tell(f"$SYS.ACCOUNT.{name}.CONNECT", _connect, client)


def disconnected(system: System, client: Client) -> None:
    """A client has gone; one that wasn't let in is told twice, as nats-server does."""
    name = client.account.name
    if client.close_reason in errors.REFUSALS:
        system.tell(f"$SYS.SERVER.{system.server.server_id}.CLIENT.AUTH.ERR", _disconnect, client)
        _tell_account(system, client)
    elif client.connected:
        _tell_statistics(system, client.account)
    system.tell(f"$SYS.ACCOUNT.{name}.DISCONNECT", _disconnect, client)


def _tell_account(system: System, client: Client) -> None:
    """Tells those of the account that a client wanted into, or whose callout has refused it, and why."""
    name, reason = (client.opts or {}).get("auth_error", (client.account.name, client.reason))
    engine, account = system.server.engine, system.server.account(name)
    if engine.match(account, _ACCOUNT_ERROR):
        body = json.loads(_disconnect(system, client))
        body["client"]["acc"] = name
        engine.publish(account, _ACCOUNT_ERROR, encode({**body, "reason": reason}))


def _tell_statistics(system: System, account: Any) -> None:
    for subject in (f"$SYS.SERVER.ACCOUNT.{account.name}.CONNS", f"$SYS.ACCOUNT.{account.name}.SERVER.CONNS"):
        system.tell(subject, account_statistics, account)


def _head(system: System, kind: str) -> dict[str, Any]:
    server = system.server
    return {
        "type": f"io.nats.server.advisory.v1.{kind}", "id": server.event_id(),
        "timestamp": timestamp(server.clock.wall_ns()), "server": about(system),
    }  # fmt: skip


def _client(system: System, client: Client, stopped: bool) -> dict[str, Any]:
    shown = client_info(system.server, client, True)
    shown.pop("server", None)
    tail: dict[str, Any] = {name: shown.pop(name) for name in ("kind", "client_type") if name in shown}
    if stopped:
        shown["stop"] = timestamp(system.server.clock.wall_ns())
    user = snapshot.jwt_user(client)
    if user is not None:
        shown["issuer_key"] = user.signing_key or client.account.name
    shown["name_tag"] = snapshot.account_tag(system.server, client.account.name)
    if user is not None and user.tags:
        shown["tags"] = user.tags
    return {**shown, **tail}


def _connect(system: System, client: Client) -> bytes:
    return encode({**_head(system, "client_connect"), "client": _client(system, client, False)})


def _disconnect(system: System, client: Client) -> bytes:
    body = {**_head(system, "client_disconnect"), "client": _client(system, client, True)}
    body["sent"] = {"msgs": client.out_msgs, "bytes": client.out_bytes}
    body["received"] = {"msgs": client.in_msgs, "bytes": client.in_bytes}
    body["reason"] = client.reason
    return encode(body)
