"""Endpoints of what natsc doesn't have: they answer as the reference does where the feature isn't in use.

Routes, leaf nodes, gateways, JetStream, Raft groups, and queues between goroutines. Their parameters are still checked.
"""

from __future__ import annotations

from natsc.monitor import snapshot
from natsc.monitor.gojson import indented, timestamp
from natsc.monitor.params import BadRequest, decode_bool, decode_int, decode_subs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.monitor.endpoints import Response
    from natsc.monitor.params import Query


def _json(body: dict[str, Any]) -> Response:
    return 200, "application/json", indented(body).encode()


def _who(server: Any) -> dict[str, Any]:
    return {"server_id": server.server_id, "now": timestamp(snapshot.now_ns(server))}


def routez(server: Any, query: Query) -> Response:
    """No routes. Raises BadRequest, and isn't counted then."""
    decode_subs(query)
    snapshot.count_request(server, "/routez")
    return _json(
        {
            "server_id": server.server_id,
            "server_name": server.server_name,
            "now": timestamp(snapshot.now_ns(server)),
            "num_routes": 0,
            "routes": [],
        }
    )


def leafz(server: Any, query: Query) -> Response:
    """No leaf nodes. Raises BadRequest."""
    snapshot.count_request(server, "/leafz")
    decode_bool(query, "subs")
    return _json({**_who(server), "leafnodes": 0, "leafs": []})


def gatewayz(server: Any, query: Query) -> Response:
    """No gateways. Raises BadRequest."""
    snapshot.count_request(server, "/gatewayz")
    decode_subs(query)
    decode_bool(query, "accs")
    return _json({**_who(server), "outbound_gateways": {}, "inbound_gateways": {}})


def jsz(server: Any, query: Query) -> Response:
    """JetStream is disabled. Raises BadRequest."""
    snapshot.count_request(server, "/jsz")
    for name in ("accounts", "streams", "consumers", "direct-consumers", "config"):
        decode_bool(query, name)
    for name in ("offset", "limit"):
        decode_int(query, name)
    leader_only = decode_bool(query, "leader-only")
    for name in ("raft", "stream-leader-only"):
        decode_bool(query, name)
    if leader_only:
        raise BadRequest("filtered response: not leader")
    usage = {"memory": 0, "storage": 0, "reserved_memory": 0, "reserved_storage": 0, "accounts": 0, "ha_assets": 0}
    return _json(
        {
            **usage,
            "api": {"level": 0, "total": 0, "errors": 0},
            **_who(server),
            "disabled": True,
            "config": {"max_memory": 0, "max_storage": 0},
            "streams": 0,
            "consumers": 0,
            "messages": 0,
            "bytes": 0,
            "total": 0,
        }
    )


def ipqueuesz(server: Any, query: Query) -> Response:
    """No queues. Raises BadRequest."""
    decode_bool(query, "all")
    return _json({})


def raftz(server: Any, query: Query) -> Response:
    """No Raft groups."""
    return 404, "", b"No Raft nodes registered"
