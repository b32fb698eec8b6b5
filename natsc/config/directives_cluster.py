"""`cluster {}` and `gateway {}`: parsed and checked; natsc has neither yet."""

from __future__ import annotations

from natsc.config.directives_auth import parse_authorization, parse_permissions
from natsc.config.directives_tls import peer_tls
from natsc.config.errors import ConfigError, Finding, misused_field
from natsc.config.gotext import GoError, format_duration, format_value, parse_duration, quote, type_name
from natsc.config.options import SECOND, CompressionOpts, RemoteGatewayOpts, RoutePermissions
from natsc.config.urls import url_field, url_list
from natsc.config.validate import cluster_permissions
from natsc.config.values import (
    Last,
    Report,
    as_bool,
    as_int,
    as_list,
    as_str,
    dereference,
    duration,
    listen,
    recovers,
    recovers_as_finding,
    string_array,
    write_timeout,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.config.options import ClusterOpts, GatewayOpts, LeafNodeOpts, MQTTOpts, Options, WebsocketOpts
    from natsc.config.parser import Token

_ROUTE_PING_MAX = 30 * SECOND


def cluster(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    report.unsupported.append("cluster")
    _parse_cluster(token, opts, report)


@recovers
def _parse_cluster(last: Last, block: Any, opts: Options, report: Report) -> None:
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Expected map to define cluster, got {type_name(fields)}")
    for name, key, token, value in last.items(fields):
        try:
            _cluster_field(name, key, token, value, last, opts, report)
        except Finding as finding:
            report.errors.append(finding)


def _cluster_field(
    name: str, key: str, token: Token | None, value: Any, last: Last, opts: Options, report: Report
) -> None:
    part = opts.cluster
    if listener_field(part, name, token, value) or peer_field(part, name, token, value, report):
        return
    if name == "name":
        if " " in as_str(value):
            raise Finding(token, "cluster name cannot contain spaces")
        part.name = value
    elif name == "authorization":
        _cluster_authorization(part, key, token, report)
    elif name == "routes":
        routes = url_list(as_list(value), "route", report)
        opts.routes = opts.routes if routes is None else routes
    elif name in ("cluster_advertise", "advertise"):
        part.advertise = as_str(value)
    elif name == "no_advertise":
        part.no_advertise = opts.in_config["Cluster.NoAdvertise"] = as_bool(value)
    elif name == "permissions":
        permissions = dereference(parse_permissions(value, report))
        if permissions.response is not None:
            raise Finding(token, "Cluster permissions do not support dynamic responses")
        part.permissions = _route_permissions(token, permissions)
    elif name == "pool_size":
        part.pool_size = as_int(value)
    elif name == "accounts":
        part.pinned_accounts = string_array("accounts", token, last, value, report) or []
    elif name == "compression":
        parse_compression(part.compression, "s2_fast", token, key, value)
    elif name == "ping_interval":
        part.ping_interval = duration("ping_interval", token, value, report)
        if part.ping_interval > _ROUTE_PING_MAX:
            limit = format_duration(_ROUTE_PING_MAX)
            text = f"Cluster 'ping_interval' will reset to {limit} which is the max for routes"
            report.warnings.append(Finding(token, text))
    elif name == "ping_max":
        part.max_pings_out = as_int(value)
    else:
        report.unknown(token, key)


def listener_field(
    part: ClusterOpts | GatewayOpts | LeafNodeOpts | WebsocketOpts | MQTTOpts,
    name: str,
    token: Token | None,
    value: Any,
) -> bool:
    """Where a listener listens; False when `name` is something else."""
    if name == "listen":
        try:
            part.host, part.port = listen(value)
        except GoError as error:
            raise Finding(token, str(error)) from None
    elif name == "port":
        part.port = as_int(value)
    elif name in ("host", "net"):
        part.host = as_str(value)
    else:
        return False
    return True


def peer_field(part: ClusterOpts | GatewayOpts, name: str, token: Token | None, value: Any, report: Report) -> bool:
    """What clusters and gateways have in common; False when `name` is something else."""
    if name == "tls":
        config = peer_tls(token, report)
        part.tls_config = config
        part.tls_timeout = config.timeout
        part.tls_map = config.map
        part.tls_pinned_certs = config.pinned_certs
        part.tls_check_known_urls = config.check_known_urls
    elif name == "connect_retries":
        part.connect_retries = as_int(value)
    elif name == "connect_backoff":
        part.connect_backoff = as_bool(value)
    else:
        return write_field(part, name, token, value, report)
    return True


def write_field(
    part: ClusterOpts | GatewayOpts | LeafNodeOpts, name: str, token: Token | None, value: Any, report: Report
) -> bool:
    """How long a write may take; False when `name` is something else."""
    if name == "write_deadline":
        part.write_deadline = duration("write_deadline", token, value, report)
    elif name == "write_timeout":
        part.write_timeout = write_timeout(token, as_str(value), report)
    else:
        return False
    return True


def _peer_authorization(part: ClusterOpts | GatewayOpts, what: str, token: Token | None, report: Report) -> Any:
    before = len(report.refused)
    auth = dereference(parse_authorization(token, report))
    del report.refused[before:]  # nobody can connect there: nothing is left unprotected
    if auth.users is not None:
        raise Finding(token, f"{what} authorization does not allow multiple users")
    if auth.token:
        raise Finding(token, f"{what} authorization does not support tokens")
    if auth.callout is not None:
        raise Finding(token, f"{what} authorization does not support callouts")
    part.username = auth.user
    part.password = auth.password
    part.auth_timeout = auth.timeout
    return auth


def _cluster_authorization(part: ClusterOpts, key: str, token: Token | None, report: Report) -> None:
    auth = _peer_authorization(part, "Cluster", token, report)
    if auth.default_permissions is None:
        return
    permissions = _route_permissions(token, auth.default_permissions)
    text = 'setting "permissions" within cluster authorization block is deprecated'
    report.warnings.append(misused_field(token, key, text))
    if part.permissions is None:
        part.permissions = permissions


def _route_permissions(token: Token | None, permissions: Any) -> RoutePermissions:
    try:
        cluster_permissions(permissions.publish, permissions.subscribe)
    except ConfigError as error:
        raise Finding(token, str(error)) from None
    return RoutePermissions(import_=permissions.publish, export=permissions.subscribe)


@recovers_as_finding
def parse_compression(
    last: Last, compression: CompressionOpts, on: str, token: Token | None, key: str, value: Any
) -> None:
    """A mode, a boolean or {mode, rtt_thresholds}; modes are checked at the start of the server."""
    if type(value) is str:
        compression.mode = value
    elif type(value) is bool:
        compression.mode = on if value else "off"
    elif type(value) is dict:
        for name, field, at, bare in last.items(value):
            if name == "mode":
                compression.mode = as_str(bare)
            elif name in ("rtt_thresholds", "thresholds", "rtts", "rtt"):
                for entry in as_list(bare):
                    threshold = as_str(last.unwrap(entry)[1])
                    try:
                        compression.rtt_thresholds.append(parse_duration(threshold))
                    except GoError as error:
                        raise Finding(at, str(error)) from None
            elif at is None or not at.used_variable:
                raise Finding(at, f"unknown field {quote(field)}")
    else:
        raise Finding(token, f"field {quote(key)} should be a boolean or a structure, got {type_name(value)}")


def gateway(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    report.unsupported.append("gateway")
    _parse_gateway(token, opts, report)


@recovers
def _parse_gateway(last: Last, block: Any, opts: Options, report: Report) -> None:
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Expected gateway to be a map, got {type_name(fields)}")
    part = opts.gateway
    for name, key, token, value in last.items(fields):
        if name == "gateways":
            part.gateways = _parse_gateways(value, report) or []  # an error here spoils the whole block
            continue
        try:
            if not (listener_field(part, name, token, value) or peer_field(part, name, token, value, report)):
                _gateway_field(part, name, key, token, value, report)
        except Finding as finding:
            report.errors.append(finding)


def _gateway_field(part: GatewayOpts, name: str, key: str, token: Token | None, value: Any, report: Report) -> None:
    if name == "name":
        if " " in as_str(value):
            raise Finding(token, "gateway name cannot contain spaces")
        part.name = value
    elif name == "authorization":
        _peer_authorization(part, "Gateway", token, report)
    elif name == "advertise":
        part.advertise = as_str(value)
    elif name in ("reject_unknown", "reject_unknown_cluster"):
        part.reject_unknown = as_bool(value)
    else:
        report.unknown(token, key)


@recovers
def _parse_gateways(last: Last, block: Any, report: Report) -> list[RemoteGatewayOpts]:
    token, entries = last.unwrap(block)
    if type(entries) is not list:
        raise Finding(token, f"Expected gateways field to be an array, got {type_name(entries)}")
    gateways = []
    for entry in entries:
        token, fields = last.unwrap(entry)
        if type(fields) is not dict:
            report.error(token, f"Expected gateway entry to be a map/struct, got {format_value(fields)}")
            continue
        remote = RemoteGatewayOpts()
        for name, key, token, value in last.items(fields):
            try:
                _remote_gateway_field(remote, name, key, token, value, report)
            except Finding as finding:
                report.errors.append(finding)
        gateways.append(remote)
    return gateways


def _remote_gateway_field(
    remote: RemoteGatewayOpts, name: str, key: str, token: Token | None, value: Any, report: Report
) -> None:
    if name == "name":
        remote.name = as_str(value)
    elif name == "tls":
        remote.tls_config = peer_tls(token, report)
        remote.tls_timeout = remote.tls_config.timeout
    elif name == "url":
        remote.urls.append(url_field(token, value, "gateway"))
    elif name == "urls":
        urls = url_list(as_list(value), "gateway", report)
        remote.urls = remote.urls if urls is None else urls
    else:
        report.unknown(token, key)
