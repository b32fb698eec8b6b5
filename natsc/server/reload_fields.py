"""What may change while a server runs: a table of the options, and what differs between two of them.

The order is that of nats-server's Options: it decides which refusal is told where there are several, and in which order
a reload logs what it changed.
"""

from __future__ import annotations

from natsc.config.gotext import GoError, format_duration, format_float, quote
from natsc.config.options import SYSTEM_ACCOUNT, Account, Options, Struct
from natsc.server.advertise import parse_host_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Rule = str | Callable[[Options, Options], list[str]] | None


class ReloadError(Exception):
    """The new configuration is refused, and nothing has changed; str() is why, as nats-server says it."""


_SECRET = frozenset((
    "password", "authorization", "token", "jetstream_key", "jetstream_old_key", "key_password", "srk_password",
    "operator_jwt", "resolver_preloads", "default_sentinel", "routes_str",
))  # fmt: skip
_DURATIONS = frozenset((
    "ping_interval", "write_deadline", "lame_duck_duration", "lame_duck_grace_period", "tls_handshake_first_fallback",
    "sync_interval", "handshake_timeout", "ack_wait", "js_api_timeout", "consumer_inactive_threshold",
    "reconnect_interval", "fallback_delay", "dial_timeout",
))  # fmt: skip


def differences(old: Options, new: Options) -> list[tuple[str, str]]:
    """(field, log line) of what a reload from old to new changes; a line may be empty. Raises ReloadError.

    users and accounts are always among them, as in nats-server.
    """
    found = []
    for field, name, rule in FIELDS:
        before, after = getattr(old, field), getattr(new, field)
        if before == after and field not in _ALWAYS and not (field == "tls_config" and after is not None):
            continue
        if rule is None:
            raise _refused(name, field, before, after)
        if not isinstance(rule, str):
            found += [(field, line) for line in rule(old, new)]
        else:
            found.append((field, rule.format(go_text(field, after)) if "{}" in rule else rule))
    return found


def go_text(field: str, value: Any) -> str:
    """An option's value as Go prints it (%v), but for secrets."""
    if field in _SECRET and value:
        return "[REDACTED]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return format_duration(value) if field in _DURATIONS else str(value)
    if isinstance(value, float):
        return format_float(value)
    if value is None:
        return "<nil>"
    if isinstance(value, list):
        return f"[{' '.join(go_text('', item) for item in value)}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_text(field, value[key])}' for key in sorted(value))}]"
    if isinstance(value, (set, frozenset)):
        return f"map[{' '.join(f'{item}:{{}}' for item in sorted(value))}]"
    if isinstance(value, Account):
        return value.name  # it and its users refer to each other
    if isinstance(value, Struct):
        names: tuple[str, ...] = value.__slots__
        fields = [go_text(name, getattr(value, name)) for name in names]
        return f"{'&' if field == 'auth_callout' else ''}{{{' '.join(fields)}}}"  # Go has a pointer there
    return str(value)


def _refused(name: str, field: str, before: Any, after: Any) -> ReloadError:
    shown = f"old={go_text(field, before)}, new={go_text(field, after)}"
    return ReloadError(f"config reload not supported for {name}: {shown}")


# Rules of single options


def _client_advertise(_: Options, new: Options) -> list[str]:
    value = new.client_advertise
    if value:
        try:
            parse_host_port(value, 0)
        except GoError as error:
            raise ReloadError(f"invalid ClientAdvertise value of {value}, err={error}") from None
    return [f"Reload: client_advertise = {value}"]


def _no_auth_user(old: Options, new: Options) -> list[str]:
    """It may go together with its user, and not change otherwise."""
    if new.no_auth_user or any(user.username == old.no_auth_user for user in new.users):
        raise _refused("NoAuthUser", "no_auth_user", old.no_auth_user, new.no_auth_user)
    return [""]


def _system_account(old: Options, new: Options) -> list[str]:
    if old.system_account != SYSTEM_ACCOUNT or new.system_account:
        raise _refused("SystemAccount", "system_account", old.system_account, new.system_account)
    return []


def _port(old: Options, new: Options) -> list[str]:
    if new.port:
        raise _refused("Port", "port", old.port, new.port)
    return []


def _max_conn(_: Options, new: Options) -> list[str]:
    return [f"Reloaded: max_connections = {new.max_conn}"]


def _no_stall(_: Options, new: Options) -> list[str]:
    return [f"Reloaded: fast producers will {'not ' if new.no_fast_producer_stall else ''}be stalled"]


def _pid_file(_: Options, new: Options) -> list[str]:
    return [f"Reloaded: pid_file = {new.pid_file}"] if new.pid_file else []


def _tls(_: Options, new: Options) -> list[str]:
    """The files may have changed where the paths have not, so TLS is always loaded anew."""
    return [f"Reloaded: tls = {'disabled' if new.tls_config is None else 'enabled'}"]


def _pinned_certs(_: Options, new: Options) -> list[str]:
    return [f"Reloaded: {len(new.tls_pinned_certs or ())} pinned_certs"]


def _cluster(old: Options, new: Options) -> list[str]:
    for field in ("host", "port"):
        before, after = getattr(old.cluster, field), getattr(new.cluster, field)
        if before != after:
            raise ReloadError(f"config reload not supported for cluster {field}: old={before}, new={after}")
    if new.cluster.advertise:
        try:
            parse_host_port(new.cluster.advertise, 0)
        except GoError as error:
            raise ReloadError(f"invalid Cluster.Advertise value of {new.cluster.advertise}, err={error}") from None
    return []


def _leaf_node(old: Options, new: Options) -> list[str]:
    allowed = ("compression", "remotes", "tls_handshake_first", "tls_handshake_first_fallback", "tls_config", "users")
    for field in old.leaf_node.__slots__:
        before, after = getattr(old.leaf_node, field), getattr(new.leaf_node, field)
        if before != after and field not in allowed:
            name = _CAMEL.get(field) or "".join(part.capitalize() for part in field.split("_"))
            shown = f'field "{name}": old={go_text(field, before)}, new={go_text(field, after)}'
            raise ReloadError(f"config reload not supported for LeafNode: {shown}")
    return []


_CAMEL = {
    "nkey": "Nkey", "tls_timeout": "TLSTimeout", "tls_map": "TLSMap", "tls_pinned_certs": "TLSPinnedCerts",
}  # fmt: skip


def _all_but(field: str, name: str, *allowed: str) -> Callable[[Options, Options], list[str]]:
    """The rule of a nested block in which only `allowed` may change."""

    def rule(old: Options, new: Options) -> list[str]:
        before, after = getattr(old, field), getattr(new, field)
        if any(getattr(before, key) != getattr(after, key) for key in before.__slots__ if key not in allowed):
            raise _refused(name, field, before, after)
        return []

    return rule


def _websocket(old: Options, new: Options) -> list[str]:
    """Its certificates, and the order of the origins."""
    for part in (old.websocket, new.websocket):
        part.allowed_origins.sort()
    return _all_but("websocket", "Websocket", "tls_config")(old, new)


def _jetstream(_: Options, __: Options) -> list[str]:
    return ["Reloaded: JetStream"]


def _jetstream_space(field: str, name: str) -> Callable[[Options, Options], list[str]]:
    """A limit that was given may grow while JetStream runs, and go with it."""

    def rule(old: Options, new: Options) -> list[str]:
        before, after = getattr(old, field), getattr(new, field)
        if not old.jetstream or not new.jetstream:
            return []
        if before == -1:
            raise ReloadError("config reload not supported for jetstream dynamic max memory and store")
        if after == -1:
            raise ReloadError("config reload not supported for jetstream max memory and max store")
        if after < before:
            raise ReloadError("config reload not supported for decreasing jetstream max memory and store")
        from natsc.jetstream.banner import friendly_bytes

        return [f"Reloaded: JetStream {name} = {friendly_bytes(after)}"]

    return rule


def _store_dir(old: Options, new: Options) -> list[str]:
    if old.jetstream and new.jetstream:
        raise ReloadError("config reload not supported for jetstream storage directory")
    return []


def _concurrent_ios(old: Options, new: Options) -> list[str]:
    if new.jetstream:
        before, after = old.jetstream_concurrent_ios, new.jetstream_concurrent_ios
        raise _refused("JetStreamConcurrentIOs", "jetstream_concurrent_ios", before, after)
    new.jetstream_concurrent_ios = old.jetstream_concurrent_ios
    return []


def _resolver(old: Options, new: Options) -> list[str]:
    if (old.account_resolver is None) != (new.account_resolver is None):
        raise ReloadError("config reload does not support moving to or from an account resolver")
    before, after = old.account_resolver, new.account_resolver
    if before is not None and after is not None and (before.kind != "URL" or after.kind != "URL"):
        shown = f"old={before.kind} {before.dir}, new={after.kind} {after.dir}"
        raise ReloadError(f"config reload not supported for AccountResolver: {shown}")
    return ["Reloaded: accounts"]


def _proxies(old: Options, new: Options) -> list[str]:
    before, after = (opts.proxies.trusted if opts.proxies is not None else [] for opts in (old, new))
    lines = []
    for what, these, others in (("removed", before, after), ("added", after, before)):
        keys = [quote(key) for key in these if key not in others]
        if keys:
            lines.append(f"Reloaded: proxies trusted keys [{' '.join(keys)}] were {what}")
    return lines


def _accepted(_: Options, __: Options) -> list[str]:
    """Of no effect while the server runs."""
    return []


_ALWAYS = frozenset(("users", "accounts"))

# (field, nats-server's name for it, what to log). None: not while the server runs.
FIELDS: tuple[tuple[str, str, Rule], ...] = (
    ("config_file", "ConfigFile", None),
    ("server_name", "ServerName", None),
    ("host", "Host", None),
    ("port", "Port", _port),
    ("dont_listen", "DontListen", None),
    ("client_advertise", "ClientAdvertise", _client_advertise),
    ("trace", "Trace", "Reloaded: trace = {}"),
    ("debug", "Debug", "Reloaded: debug = {}"),
    ("trace_verbose", "TraceVerbose", "Reloaded: trace_verbose = {}"),
    ("trace_headers", "TraceHeaders", "Reloaded: trace_headers = {}"),
    ("no_sublist_cache", "NoSublistCache", None),
    ("no_header_support", "NoHeaderSupport", None),
    ("logtime", "Logtime", "Reloaded: logtime = {}"),
    ("logtime_utc", "LogtimeUTC", "Reloaded: logtime_utc = {}"),
    ("max_conn", "MaxConn", _max_conn),
    ("max_subs", "MaxSubs", None),
    ("max_sub_tokens", "MaxSubTokens", None),
    ("nkeys", "Nkeys", "Reloaded: authorization nkey users"),
    ("users", "Users", "Reloaded: authorization users"),
    ("accounts", "Accounts", "Reloaded: accounts"),
    ("no_auth_user", "NoAuthUser", _no_auth_user),
    ("default_sentinel", "DefaultSentinel", "Reloaded: default_sentinel = {}"),
    ("system_account", "SystemAccount", _system_account),
    ("no_system_account", "NoSystemAccount", None),
    ("username", "Username", "Reloaded: authorization username"),
    ("password", "Password", "Reloaded: authorization password"),
    ("proxy_required", "ProxyRequired", None),
    ("proxy_protocol", "ProxyProtocol", None),
    ("authorization", "Authorization", "Reloaded: authorization token"),
    ("auth_callout", "AuthCallout", None),
    ("ping_interval", "PingInterval", "Reloaded: ping_interval = {}"),
    ("max_pings_out", "MaxPingsOut", "Reloaded: ping_max = {}"),
    ("http_host", "HTTPHost", None),
    ("http_port", "HTTPPort", None),
    ("http_base_path", "HTTPBasePath", None),
    ("https_port", "HTTPSPort", None),
    ("auth_timeout", "AuthTimeout", "Reloaded: authorization timeout = {}"),
    ("max_control_line", "MaxControlLine", "Reloaded: max_control_line = {}"),
    ("max_payload", "MaxPayload", "Reloaded: max_payload = {}"),
    ("max_pending", "MaxPending", None),
    ("no_fast_producer_stall", "NoFastProducerStall", _no_stall),
    ("cluster", "Cluster", _cluster),
    ("gateway", "Gateway", _all_but("gateway", "Gateway", "tls_config", "tls_pinned_certs")),
    ("leaf_node", "LeafNode", _leaf_node),
    ("jetstream", "JetStream", _jetstream),
    ("no_jetstream_strict", "NoJetStreamStrict", None),
    ("jetstream_max_memory", "JetStreamMaxMemory", _jetstream_space("jetstream_max_memory", "max_mem_store")),
    ("jetstream_max_store", "JetStreamMaxStore", _jetstream_space("jetstream_max_store", "max_file_store")),
    ("jetstream_domain", "JetStreamDomain", None),
    ("jetstream_ext_hint", "JetStreamExtHint", None),
    ("jetstream_key", "JetStreamKey", None),
    ("jetstream_old_key", "JetStreamOldKey", None),
    ("jetstream_cipher", "JetStreamCipher", None),
    ("jetstream_unique_tag", "JetStreamUniqueTag", None),
    ("jetstream_limits", "JetStreamLimits", None),
    ("jetstream_tpm", "JetStreamTpm", None),
    ("jetstream_max_catchup", "JetStreamMaxCatchup", None),
    ("jetstream_request_queue_limit", "JetStreamRequestQueueLimit", None),
    ("jetstream_info_queue_limit", "JetStreamInfoQueueLimit", None),
    ("jetstream_meta_compact", "JetStreamMetaCompact", _accepted),
    ("jetstream_meta_compact_size", "JetStreamMetaCompactSize", _accepted),
    ("jetstream_meta_compact_sync", "JetStreamMetaCompactSync", _accepted),
    ("jetstream_concurrent_ios", "JetStreamConcurrentIOs", _concurrent_ios),
    ("stream_max_buffered_msgs", "StreamMaxBufferedMsgs", None),
    ("stream_max_buffered_size", "StreamMaxBufferedSize", None),
    ("store_dir", "StoreDir", _store_dir),
    ("sync_interval", "SyncInterval", None),
    ("sync_always", "SyncAlways", None),
    ("js_acc_default_domain", "JsAccDefaultDomain", None),
    ("websocket", "Websocket", _websocket),
    (
        "mqtt",
        "MQTT",
        _all_but(
            "mqtt", "MQTT", "tls_config", "ack_wait", "max_ack_pending", "stream_replicas", "consumer_replicas",
            "consumer_memory_storage", "consumer_inactive_threshold",
        ),
    ),
    ("prof_port", "ProfPort", None),
    ("prof_block_rate", "ProfBlockRate", _accepted),
    ("pid_file", "PidFile", _pid_file),
    ("ports_file_dir", "PortsFileDir", "Reloaded: ports_file_dir = {}"),
    ("log_file", "LogFile", "Reloaded: log_file = {}"),
    ("log_size_limit", "LogSizeLimit", None),
    ("log_max_files", "LogMaxFiles", None),
    ("log_format", "LogFormat", "Reloaded: log_format = {}"),
    ("syslog", "Syslog", "Reloaded: syslog = {}"),
    ("remote_syslog", "RemoteSyslog", "Reloaded: remote_syslog = {}"),
    ("routes", "Routes", _accepted),
    ("routes_str", "RoutesStr", None),
    ("tls_timeout", "TLSTimeout", "Reloaded: tls timeout = {}"),
    ("tls", "TLS", None),
    ("tls_verify", "TLSVerify", None),
    ("tls_map", "TLSMap", None),
    ("tls_cert", "TLSCert", None),
    ("tls_key", "TLSKey", None),
    ("tls_ca_cert", "TLSCaCert", None),
    ("tls_config", "TLSConfig", _tls),
    ("tls_pinned_certs", "TLSPinnedCerts", _pinned_certs),
    ("tls_rate_limit", "TLSRateLimit", None),
    ("tls_handshake_first", "TLSHandshakeFirst", "Reloaded: Client TLS handshake first: {}"),
    (
        "tls_handshake_first_fallback",
        "TLSHandshakeFirstFallback",
        "Reloaded: Client TLS handshake first fallback delay: {}",
    ),
    ("allow_non_tls", "AllowNonTLS", None),
    ("write_deadline", "WriteDeadline", "Reloaded: write_deadline = {}"),
    ("write_timeout", "WriteTimeout", None),
    ("max_closed_clients", "MaxClosedClients", None),
    ("lame_duck_duration", "LameDuckDuration", None),
    ("lame_duck_grace_period", "LameDuckGracePeriod", None),
    ("max_traced_msg_len", "MaxTracedMsgLen", "Reloaded: max_traced_msg_len = {}"),
    ("trusted_keys", "TrustedKeys", None),
    ("trusted_operators", "TrustedOperators", None),
    ("account_resolver", "AccountResolver", _resolver),
    ("account_resolver_tls_config", "AccountResolverTLSConfig", "Reloaded: accounts"),
    ("connect_error_reports", "ConnectErrorReports", "Reloaded: connect_error_reports = {}"),
    ("reconnect_error_reports", "ReconnectErrorReports", "Reloaded: reconnect_error_reports = {}"),
    ("tags", "Tags", "Reloaded: tags"),
    ("metadata", "Metadata", "Reloaded: metadata"),
    ("feature_flags", "FeatureFlags", None),
    ("ocsp_config", "OCSPConfig", "Reloaded: OCSP"),
    ("ocsp_cache_config", "OCSPCacheConfig", "Reloaded OCSP peer cache"),
    ("proxies", "Proxies", _proxies),
)  # fmt: skip

# What is no setting of a running server, or belongs to a field above.
NOT_COMPARED = frozenset((
    "auth_block_defined", "check_config", "config_digest", "disable_short_first_ping", "in_cmdline", "in_config",
    "max_mem_set", "max_store_set", "no_log", "no_sigs", "operator_jwt", "refused",
    "resolver_pinned_accounts", "resolver_preloads", "sync_set", "unsupported", "warnings",
))  # fmt: skip
