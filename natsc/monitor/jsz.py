"""/jsz: JetStream, as far down as it is asked for, and what /varz and /healthz show of it."""

from __future__ import annotations

from natsc.monitor import absent, snapshot
from natsc.monitor.gojson import indented, timestamp
from natsc.monitor.params import decode_bool, decode_int

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.monitor.endpoints import Response
    from natsc.monitor.params import Query

_ACCOUNTS = 1024  # in one answer, unless it is asked for another number
_LIMITS = {
    "max_request_batch": "max_request_batch", "max_ack_pending": "max_ack_pending", "max_ha_assets": "max_ha_assets",
    "max_duplicate_window": "duplicates", "max_batch_inflight_per_stream": "max_batch_inflight_per_stream",
    "max_batch_inflight_total": "max_batch_inflight_total", "max_batch_size": "max_batch_size",
    "max_batch_timeout": "max_batch_timeout", "default_max_consumers": "default_max_consumers",
}  # fmt: skip


def jsz(server: Any, query: Query) -> Response:
    """The server's JetStream; accounts, streams and consumers where they are asked for. Raises BadRequest."""
    jetstream = snapshot.jetstream(server)
    if jetstream is None:
        return absent.jsz(server, query)
    snapshot.count_request(server, "/jsz")
    asked = {
        name: decode_bool(query, name) for name in ("accounts", "streams", "consumers", "direct-consumers", "config")
    }
    offset, limit = decode_int(query, "offset"), decode_int(query, "limit")
    for name in ("leader-only", "raft", "stream-leader-only"):
        decode_bool(query, name)  # a single server leads everything, and has no Raft groups
    name = query.get("acc", "")
    streams = [stream for backend in jetstream.accounts.values() for stream in backend.streams()]
    body: dict[str, Any] = {
        **jetstream.figures(),
        "server_id": server.server_id,
        "now": timestamp(snapshot.now_ns(server)),
        "config": jetstream.config_figures(),
        "limits": limits(server),
        **_counts(streams, decode_bool(query, "raft")),
        "messages": sum(stream.store.msgs for stream in streams),
        "bytes": sum(stream.store.bytes for stream in streams),
    }
    enabled = {backend.account.name: backend for backend in jetstream.accounts.values() if backend.enabled}
    with_streams = asked["streams"] or asked["consumers"]
    if name in enabled:
        chosen = [name]
    elif asked["accounts"] or (with_streams and not name):
        chosen = sorted(enabled)[max(offset, 0) :][: limit if limit > 0 else _ACCOUNTS if limit == 0 else None]
    else:
        chosen = []
    if chosen:
        body["account_details"] = [_account(enabled[each], with_streams, asked) for each in chosen]
    body["total"] = len(enabled)
    return 200, "application/json", indented(body).encode()


def _counts(streams: list[Any], raft: bool) -> dict[str, int]:
    """How many there are; with raft also of how many this server is the leader, which is all of them."""
    found = {}
    consumers = sum(not one.config.direct for stream in streams for one in stream.consumers())
    for name, number in (("streams", len(streams)), ("consumers", consumers)):
        found[name] = number
        if raft and number:
            found[f"{name}_leader"] = number
    return found


def varz(server: Any) -> dict[str, Any]:
    """The jetstream block of /varz."""
    jetstream = snapshot.jetstream(server)
    if jetstream is None:
        return {}
    return {"config": jetstream.config_figures(), "stats": jetstream.figures(), "limits": limits(server)}


def limits(server: Any) -> dict[str, Any]:
    """The configured limits, those that are set."""
    given = server.options.jetstream_limits
    return {name: value for name, attribute in _LIMITS.items() if (value := getattr(given, attribute))}


def _account(backend: Any, with_streams: bool, asked: dict[str, bool]) -> dict[str, Any]:
    memory, storage = backend.space.memory, backend.space.storage
    limits = backend.limits.get("")
    body: dict[str, Any] = {
        "name": backend.account.name,
        "id": backend.account.name,
        "memory": memory,
        "storage": storage,
        # Unsigned, as the reference shows a limit of -1; nothing where there are tiers.
        "reserved_memory": limits.max_memory % (1 << 64) if limits is not None else 0,
        "reserved_storage": limits.max_storage % (1 << 64) if limits is not None else 0,
        "accounts": 0,
        "ha_assets": 0,
        "api": {"level": 0, "total": backend.api_total, "errors": backend.api_errors},
    }
    if with_streams and backend.by_name:
        body["stream_detail"] = [_stream(backend, stream, asked) for stream in backend.streams()]
    return body


def _consumers(backend: Any, stream: Any, asked: dict[str, bool], direct: bool) -> list[dict[str, Any]]:
    """Those by which other streams read this one (direct), or all others."""
    from natsc.jetstream.consumer_config import consumer_info_json

    details = []
    for consumer in stream.consumers():
        if consumer.config.direct != direct:
            continue
        detail = consumer_info_json(
            stream.name, consumer.name, consumer.created, consumer.config, consumer.state(), backend.now()
        )
        if not asked["config"]:
            detail.pop("config", None)
        details.append(detail)
    return details


def _stream(backend: Any, stream: Any, asked: dict[str, bool]) -> dict[str, Any]:
    body: dict[str, Any] = {"name": stream.name, "created": timestamp(stream.created)}
    body["cluster"] = {"leader": backend.server_name}
    if asked["config"]:
        body["config"] = stream.config.as_json()
    body["state"] = stream.state().as_json()
    if asked["consumers"]:
        details = _consumers(backend, stream, asked, direct=False)
        if details:
            body["consumer_detail"] = details
    if asked["consumers"] and asked["direct-consumers"]:
        details = _consumers(backend, stream, asked, direct=True)
        if details:
            body["direct_consumer_detail"] = details
    mirror, sources = stream.mirror_info(), stream.sources_info()
    if mirror is not None:
        body["mirror"] = mirror.as_json()
    if sources:
        body["sources"] = [source.as_json() for source in sources]
    return body
