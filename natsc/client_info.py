"""What others are told of a connection: nats-server's ClientInfo."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc._core import Client

REDACTED = "[REDACTED]"


def client_info(server: Any, client: Client | None, detailed: bool, service: str = "") -> dict[str, Any]:
    """nats-server's ClientInfo of a connection; not detailed: its account and round-trip time alone."""
    if client is None:
        return {}
    from natsc.jetstream.gotime import format_time

    info: dict[str, Any] = {}
    if detailed:
        info.update(start=format_time(client.start_ns), host=client.ip, id=client.cid)
    info["acc"] = client.account.name
    if service:
        info["svc"] = service
    if detailed:
        info.update(
            user=client.user or raw_user(client.opts or {}), name=client.name, lang=client.lang, ver=client.version
        )
    info["rtt"] = client.rtt_ns
    if detailed:
        info.update(server=server.server_name, cluster=server.options.cluster.name)
        info.update(kind="Client", client_type="nats")
    return {name: value for name, value in info.items() if value}


def raw_user(connect: dict[str, Any]) -> str:
    """The name that monitoring shows for a connection; "" where it gave none."""
    if _text(connect, "nkey") or _text(connect, "user"):
        return _text(connect, "nkey") or _text(connect, "user")
    if _text(connect, "jwt"):
        return _text(connect, "public_key")
    return REDACTED if _text(connect, "auth_token") else ""


def _text(connect: dict[str, Any], field: str) -> str:
    value = connect.get(field)
    return value if isinstance(value, str) else ""
