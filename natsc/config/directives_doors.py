"""`websocket {}` and `mqtt {}`; natsc has no MQTT yet."""

from __future__ import annotations

from natsc.config.directives_auth import parse_simple_auth
from natsc.config.directives_cluster import listener_field
from natsc.config.directives_tls import client_tls
from natsc.config.errors import ConfigError, Finding, misused_field
from natsc.config.goaddress import MissingPort, split_host_port
from natsc.config.gotext import GoError, parse_duration, quote, type_name, wrap_int64
from natsc.config.options import SECOND
from natsc.config.values import (
    Last,
    Report,
    as_bool,
    as_int,
    as_str,
    dereference,
    duration,
    recovers,
    string_array,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.config.options import MQTTOpts, Options, WebsocketOpts
    from natsc.config.parser import Token

_WEBSOCKET_STRINGS = {
    "advertise": "advertise", "jwt_cookie": "jwt_cookie", "user_cookie": "username_cookie",
    "pass_cookie": "password_cookie", "token_cookie": "token_cookie", "no_auth_user": "no_auth_user",
}  # fmt: skip
_WEBSOCKET_FLAGS = {
    "no_tls": "no_tls", "same_origin": "same_origin", "compress": "compression", "compression": "compression",
}  # fmt: skip
_ORIGINS = ("allowed_origins", "allowed_origin", "allow_origins", "allow_origin", "origins", "origin")
_RESERVED_HEADERS = ("host", "content-length", "connection", "upgrade", "nats-no-masking")


def websocket(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    _parse_websocket(token, opts.websocket, report)


@recovers
def _parse_websocket(last: Last, block: Any, part: WebsocketOpts, report: Report) -> None:
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Expected websocket to be a map, got {type_name(fields)}")
    for name, key, token, value in last.items(fields):
        try:
            if not listener_field(part, name, token, value):
                _websocket_field(part, name, key, token, value, last, report)
        except Finding as finding:
            report.errors.append(finding)


def _websocket_field(
    part: WebsocketOpts, name: str, key: str, token: Token | None, value: Any, last: Last, report: Report
) -> None:
    if name in _WEBSOCKET_STRINGS:
        setattr(part, _WEBSOCKET_STRINGS[name], as_str(value))
    elif name in _WEBSOCKET_FLAGS:
        setattr(part, _WEBSOCKET_FLAGS[name], as_bool(value))
    elif name == "tls":
        part.tls_config = client_tls(token, report)
        part.tls_map = part.tls_config.map
        part.tls_pinned_certs = part.tls_config.pinned_certs
    elif name in _ORIGINS:
        part.allowed_origins = string_array("allowed origins", token, last, value, report) or []
    elif name == "handshake_timeout":
        part.handshake_timeout = _handshake_timeout(token, value, report)
    elif name in ("authorization", "authentication"):
        simple_authorization(part, token, report)
    elif name == "headers":
        _headers(part, token, value, last, report)
    elif name == "ping_interval":
        part.ping_interval = duration("ping_interval", token, value, report)
    else:
        report.unknown(token, key)


def simple_authorization(part: WebsocketOpts | MQTTOpts, token: Token | None, report: Report) -> None:
    auth = dereference(parse_simple_auth(token, report))
    part.username = auth.user
    part.password = auth.password
    part.token = auth.token
    part.auth_timeout = auth.timeout


def _handshake_timeout(token: Token | None, value: Any, report: Report) -> int:
    if type(value) is int:
        return wrap_int64(value * SECOND)
    if type(value) is not str:
        report.error(token, f"error parsing handshake timeout: unsupported type {type_name(value)}")
        return 0
    try:
        return parse_duration(value)
    except GoError as error:
        raise Finding(token, str(error)) from None


def _headers(part: WebsocketOpts, token: Token | None, value: Any, last: Last, report: Report) -> None:
    if type(value) is not dict:
        raise Finding(token, f"error parsing headers: unsupported type {type_name(value)}")
    part.headers = {}
    for _, name, at, text in last.items(value):
        if type(text) is str:
            part.headers[name] = text
        else:
            report.error(at, f"error parsing header key {name}: unsupported type {type_name(text)}")


def validate_websocket(opts: Options) -> None:
    """The rules for a websocket listener, checked when the server starts."""
    from natsc.config.validate import no_auth_user, pinned_certs

    part = opts.websocket
    if part.tls_config is None and not part.no_tls:
        raise ConfigError("websocket requires TLS configuration")
    for origin in part.allowed_origins:
        _origin(origin)
    no_auth_user(opts, part.no_auth_user)
    if opts.users or opts.nkeys:
        for what in ("username", "token"):
            if getattr(part, what):
                raise ConfigError(f"websocket authentication {what} not compatible with presence of users/nkeys")
    if part.jwt_cookie and not opts.trusted_operators and not opts.trusted_keys:
        needed = "trusted operators or trusted keys configuration is required for JWT authentication"
        raise ConfigError(f"{needed} via cookie {quote(part.jwt_cookie)}")
    pinned_certs(part.tls_pinned_certs, "websocket: ")
    for name in part.headers:
        if name.lower() in _RESERVED_HEADERS:
            raise ConfigError(f"websocket: invalid header {quote(name)} not allowed")
        if name.lower().startswith("sec-websocket-"):
            raise ConfigError(f'websocket: invalid header {quote(name)}, "Sec-WebSocket-" prefix not allowed')


def _origin(origin: str) -> None:
    from natsc import gourl

    wrong = "unable to parse allowed origin"
    try:
        if not origin:
            raise gourl.URLError('parse "": empty url')
        parsed = gourl.parse(origin)
        if not parsed.scheme and not origin.startswith("/"):
            raise gourl.URLError(f"parse {quote(origin)}: invalid URI for request")
    except gourl.URLError as error:
        raise ConfigError(f"{wrong}: {error}") from None
    if parsed.scheme not in ("http", "https"):
        needed = "allowed origins must be absolute URLs with http or https scheme"
        raise ConfigError(f"{wrong} {quote(origin)}: {needed}")
    if not parsed.host:
        raise ConfigError(f"{wrong} {quote(origin)}: host is required")
    try:
        split_host_port(parsed.host)
    except MissingPort:
        return
    except GoError as error:
        raise ConfigError(f"{wrong}: {error}") from None


_MQTT_DURATIONS = {
    "ack_wait": "ack_wait", "ackwait": "ack_wait", "js_api_timeout": "js_api_timeout", "api_timeout": "js_api_timeout",
    "consumer_inactive_threshold": "consumer_inactive_threshold",
    "consumer_auto_cleanup": "consumer_inactive_threshold",
}  # fmt: skip
_MQTT_FLAGS = {
    "consumer_memory_storage": "consumer_memory_storage", "reject_qos2_publish": "reject_qos2_pub",
    "downgrade_qos2_subscribe": "downgrade_qos2_sub",
}  # fmt: skip


def mqtt(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    report.unsupported.append("mqtt")
    _parse_mqtt(token, opts.mqtt, report)


@recovers
def _parse_mqtt(last: Last, block: Any, part: MQTTOpts, report: Report) -> None:
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Expected mqtt to be a map, got {type_name(fields)}")
    for name, key, token, value in last.items(fields):
        try:
            if not listener_field(part, name, token, value):
                _mqtt_field(part, name, key, token, value, report)
        except Finding as finding:
            report.errors.append(finding)


def _mqtt_field(part: MQTTOpts, name: str, key: str, token: Token | None, value: Any, report: Report) -> None:
    if name in _MQTT_DURATIONS:
        setattr(part, _MQTT_DURATIONS[name], duration(_MQTT_DURATIONS[name], token, value, report))
    elif name in _MQTT_FLAGS:
        setattr(part, _MQTT_FLAGS[name], as_bool(value))
    elif name in ("no_auth_user", "js_domain"):
        setattr(part, name, as_str(value))
    elif name == "tls":
        config = client_tls(token, report)
        part.tls_config = config
        part.tls_timeout = config.timeout
        part.tls_map = config.map
        part.tls_pinned_certs = config.pinned_certs
    elif name in ("authorization", "authentication"):
        simple_authorization(part, token, report)
    elif name in ("max_ack_pending", "max_pending", "max_inflight"):
        if not 0 <= as_int(value) <= 0xFFFF:
            raise Finding(token, f"invalid value {value}, should in [0..65535] range")
        part.max_ack_pending = value
    elif name == "stream_replicas":
        part.stream_replicas = as_int(value)
    elif name == "consumer_replicas":
        text = "consumer replicas setting ignored in this server version"
        report.warnings.append(misused_field(token, key, text))
    else:
        report.unknown(token, key)
