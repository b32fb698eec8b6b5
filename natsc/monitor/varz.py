"""/varz: the server as a whole.

cluster, gateway, leaf and mqtt are empty objects: what these blocks would show is not had yet.
"""

from __future__ import annotations

from natsc.monitor import jsz, process, snapshot
from natsc.monitor.gojson import indented, timestamp, uptime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.monitor.endpoints import Response
    from natsc.monitor.params import Query


def varz(server: Any, query: Query) -> Response:
    """Ignores its query, as the reference does."""
    snapshot.count_request(server, "/varz")
    return 200, "application/json", indented(build(server)).encode()


def build(server: Any) -> dict[str, Any]:
    """The members in order, those left out that the reference leaves out when empty."""
    body = _identity(server)
    body.update(_limits(server))
    for absent in ("cluster", "gateway", "leaf", "mqtt"):
        body[absent] = {}
    body["websocket"] = _websocket(server)
    body["jetstream"] = jsz.varz(server)
    body.update(_runtime(server))
    body.update(_traffic(server))
    body.update(_configuration(server))
    body.update(_failures(server))
    _add_tail(server, body)
    return body


def _websocket(server: Any) -> dict[str, Any]:
    if server.websocket is None:
        return {}
    part = server.options.websocket
    found = {
        "host": part.host, "port": server.websocket.port, "advertise": part.advertise,
        "no_auth_user": part.no_auth_user, "jwt_cookie": part.jwt_cookie, "handshake_timeout": part.handshake_timeout,
        "auth_timeout": part.auth_timeout, "no_tls": part.no_tls, "tls_map": part.tls_map,
        "tls_pinned_certs": sorted(part.tls_pinned_certs or ()), "same_origin": part.same_origin,
        "allowed_origins": part.allowed_origins, "compression": part.compression,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


def _identity(server: Any) -> dict[str, Any]:
    info = server.info
    body: dict[str, Any] = {
        "server_id": server.server_id,
        "server_name": server.server_name,
        "version": info["version"],
        "proto": info["proto"],
    }
    if info.get("git_commit"):
        body["git_commit"] = info["git_commit"]
    body["go"] = info["go"]
    body["host"] = info["host"]
    body["port"] = info["port"]
    for name in ("auth_required", "tls_required", "tls_verify", "ip"):
        if info.get(name):
            body[name] = info[name]
    for name in ("connect_urls", "ws_connect_urls"):
        if info.get(name):
            body[name] = list(info[name])
    return body


def _limits(server: Any) -> dict[str, Any]:
    options = server.options
    body: dict[str, Any] = {"max_connections": options.max_conn}
    if options.max_subs:
        body["max_subscriptions"] = options.max_subs
    body.update(
        ping_interval=options.ping_interval,
        ping_max=options.max_pings_out,
        http_host=options.http_host,
        http_port=options.http_port,
        http_base_path=options.http_base_path,
        https_port=options.https_port,
        auth_timeout=float(options.auth_timeout),
        max_control_line=options.max_control_line,
        max_payload=options.max_payload,
        max_pending=options.max_pending,
    )
    return body


def _runtime(server: Any) -> dict[str, Any]:
    options, now = server.options, snapshot.now_ns(server)
    body: dict[str, Any] = {"tls_timeout": float(options.tls_timeout), "write_deadline": options.write_deadline}
    policy = snapshot.write_timeout_name(getattr(options, "write_timeout", ""))
    if policy:
        body["write_timeout"] = policy
    body.update(
        start=timestamp(server.start_ns),
        now=timestamp(now),
        uptime=uptime(now - server.start_ns),
        mem=process.rss_bytes(),
        cores=process.cores(),
        gomaxprocs=1,  # one event loop runs everything
        cpu=process.cpu_percent(),
    )
    return body


def _traffic(server: Any) -> dict[str, Any]:
    engine = server.engine
    counts = (engine.in_msgs, engine.in_bytes)
    sent = (engine.out_msgs, engine.out_bytes)
    return {
        "connections": snapshot.num_connections(server),
        "total_connections": server.total_connections,
        "routes": 0,
        "remotes": 0,
        "leafnodes": 0,
        "in_msgs": counts[0],
        "in_bytes": counts[1],
        "in_client_msgs": counts[0],
        "in_client_bytes": counts[1],
        "out_msgs": sent[0],
        "out_bytes": sent[1],
        "out_client_msgs": sent[0],
        "out_client_bytes": sent[1],
        "slow_consumers": engine.slow_consumers,
        "stale_connections": engine.stale_connections,
        "stalled_clients": engine.stalled_clients,
        "subscriptions": engine.num_subs,
        "http_req_stats": dict(sorted(server.http_req_stats.items())),
    }


def _configuration(server: Any) -> dict[str, Any]:
    options = server.options
    body: dict[str, Any] = {
        "config_load_time": timestamp(server.config_load_ns),
        "config_digest": options.config_digest,
    }
    if getattr(options, "tags", None):
        body["tags"] = list(options.tags)
    if getattr(options, "metadata", None):
        body["metadata"] = dict(sorted(options.metadata.items()))
    body["feature_flags"] = snapshot.feature_flags(server)
    if getattr(options, "operator_jwt", None):
        from natsc.auth import jwt

        body["trusted_operators_jwt"] = list(options.operator_jwt)
        body["trusted_operators_claim"] = [jwt.payload(token) for token in options.operator_jwt]
    system = snapshot.system_account(server)
    if system:
        body["system_account"] = system
    failures = snapshot.pinned_failures(server)
    if failures:
        body["pinned_account_fails"] = failures
    return body


def _failures(server: Any) -> dict[str, Any]:
    engine = server.engine
    return {
        "slow_consumer_stats": {"clients": engine.slow_consumers, "routes": 0, "gateways": 0, "leafs": 0},
        "stale_connection_stats": {"clients": engine.stale_connections, "routes": 0, "gateways": 0, "leafs": 0},
        "disk_io_wait_stats": {"waiters": 0, "waits": 0, "wait_time": 0, "max_wait_time": 0},
    }


def _add_tail(server: Any, body: dict[str, Any]) -> None:
    """The trusted proxies and the day that the server's certificate ends, where there are any."""
    proxies = getattr(server.options, "proxies", None)
    if proxies is not None:
        trusted = [{"key": key} for key in getattr(proxies, "trusted", None) or ()]
        body["proxies"] = {"trusted": trusted} if trusted else {}
    expiry = snapshot.certificate_expiry(server)
    if expiry:
        body["tls_cert_not_after"] = expiry
