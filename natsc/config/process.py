"""From a configuration file to Options: the top-level directives, and what is told about them.

A directive is looked up by its lower-case name: in `_SIMPLE` it sets one field, in `_DIRECTIVES` it has a function,
which lives in a module of its own when only some servers need it (`module:function`). A directive function gets
`(last, key, token, value, opts, report)`; see `values` for how errors travel.
"""

from __future__ import annotations

from natsc.config.errors import ConfigError, Finding, GoPanic
from natsc.config.gotext import GoError, format_duration, parse_duration, quote, type_name
from natsc.config.options import SECOND, Options
from natsc.config.parser import parse_file, parse_string
from natsc.config.values import (
    Last,
    Report,
    add_panic,
    as_bool,
    as_int,
    as_str,
    duration,
    listen,
    write_timeout,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc.config.parser import Token

_LAME_DUCK_MIN = 30 * SECOND
_INT32_MAX = (1 << 31) - 1


def process_config_file(path: str, opts: Options | None = None) -> Options:
    """The options a file sets, over those in `opts` if given (which is changed and returned).

    ConfigError when the file can't be used; its text is what nats-server prints after its name. Warnings don't
    make a file unusable: they are in `warnings` of the result.
    """
    opts = opts if opts is not None else Options()
    opts.config_file = path
    mapping, opts.config_digest = parse_file(path)
    report = _process(mapping, path, opts)
    if report.errors:
        raise ConfigError(report.text())
    return opts


def process_config_string(data: str, opts: Options | None = None) -> Options:
    """As `process_config_file`, for a configuration in memory."""
    opts = opts if opts is not None else Options()
    report = _process(parse_string(data), "", opts)
    if report.errors:
        raise ConfigError(report.text())
    return opts


def check_config_file(path: str, prog: str = "nats-server") -> tuple[int, str]:
    """What `-t` does: (exit code, text for stderr). A warning fails the check."""
    opts = Options(config_file=path)
    try:
        mapping, opts.config_digest = parse_file(path)
        report = _process(mapping, path, opts)
    except ConfigError as error:
        return 1, f"{prog}: {error}\n"
    if report.errors or report.warnings:
        return 1, f"{prog}: {report.text()}\n"
    return 0, f"{prog}: configuration file {path} is valid ({opts.config_digest})\n"


def _process(mapping: dict[str, Any], path: str, opts: Options) -> Report:
    report = Report()
    if not mapping:
        report.warnings.append(Finding(None, f"{path}: config has no values or is empty"))
    _system_account(mapping, opts, report)
    for key, value in mapping.items():
        _directive(key, value, opts, report)
    if opts.auth_callout is not None:
        names = {account.name for account in opts.accounts}
        for name in opts.auth_callout.allowed_accounts:
            if name not in names:
                report.error(None, f"auth_callout allowed account {quote(name)} not found in configured accounts")
    opts.warnings = [str(finding) for finding in report.warnings]
    opts.unsupported = list(dict.fromkeys(report.unsupported))
    opts.refused = list(dict.fromkeys(report.refused))
    return report


def _system_account(mapping: dict[str, Any], opts: Options, report: Report) -> None:
    """The system account comes first: other directives ask for it."""
    for key in ("system_account", "system"):
        if key in mapping:
            token, value = Last().unwrap(mapping[key])
            if type(value) is not str:
                report.error(token, "system account name must be a string")
            else:
                opts.system_account = value
            return


def _directive(key: str, value: Any, opts: Options, report: Report) -> None:
    last = Last()
    try:
        token, bare = last.unwrap(value)
        name = key.lower()
        simple = _SIMPLE.get(name)
        if simple is not None:
            field, convert = simple
            setattr(opts, field, convert(bare))
            return
        handler = _DIRECTIVES.get(name)
        if handler is None:
            report.unknown(token, key)
        else:
            (_loaded(handler) if isinstance(handler, str) else handler)(last, key, token, bare, opts, report)
    except Finding as finding:
        report.errors.append(finding)
    except GoPanic as panic:
        add_panic(report, last.token, panic)


def _loaded(place: str) -> Callable[..., None]:
    module, _, function = place.partition(":")
    loaded: Callable[..., None] = getattr(__import__(f"natsc.config.{module}", fromlist=(function,)), function)
    return loaded


# -- directives of their own kind ---------------------------------------------------------------------------


def _listen_into(*fields: str) -> Callable[..., None]:
    def directive(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
        try:
            host_port = listen(value)
        except GoError as error:
            raise Finding(token, str(error)) from None
        for field, part in zip(fields, host_port, strict=True):
            setattr(opts, field, part)

    return directive


def _flag(*names: tuple[str, str]) -> Callable[..., None]:
    """Booleans that reload compares with the command line's: (field, Go's name) each."""

    def directive(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
        on = as_bool(value)
        for field, go_name in names:
            setattr(opts, field, on)
            opts.in_config[go_name] = on

    return directive


def _duration_into(field: str) -> Callable[..., None]:
    def directive(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
        setattr(opts, field, duration(field, token, value, report))

    return directive


def _size_into(field: str) -> Callable[..., None]:
    def directive(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
        if as_int(value) > _INT32_MAX:
            raise Finding(token, f"{key} value is too big")
        setattr(opts, field, (value + (1 << 31)) % (1 << 32) - (1 << 31))

    return directive


def _server_name(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if " " in as_str(value):
        raise Finding(token, "server name cannot contain spaces")
    opts.server_name = value


def _max_conn(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    opts.max_conn = as_int(value) or -1


def _max_sub_tokens(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if as_int(value) > 255:
        raise Finding(token, f"{key} value is too big")
    if value <= 0:
        raise Finding(token, f"{key} value can not be negative")
    opts.max_sub_tokens = value


def _log_format(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    """natsc's own directive."""
    if as_str(value) not in ("text", "json"):
        raise Finding(token, f"log_format should be 'text' or 'json', got {quote(value)}")
    opts.log_format = value


def _store_dir(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if opts.store_dir:
        raise Finding(token, "Duplicate 'store_dir' configuration")
    opts.store_dir = as_str(value)


def _write_timeout(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    opts.write_timeout = write_timeout(token, as_str(value), report)
    if opts.write_timeout == "retry":  # clients are closed, which is the default
        report.unsupported.append("write_timeout: retry")


def _lame_duck_duration(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    ns = _strict_duration("lame_duck_duration", token, as_str(value))
    if ns < _LAME_DUCK_MIN:
        raise Finding(token, f"invalid lame_duck_duration of {format_duration(ns)}, minimum is 30 seconds")
    opts.lame_duck_duration = ns


def _lame_duck_grace(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    ns = _strict_duration("lame_duck_grace_period", token, as_str(value))
    if ns < 0:
        raise Finding(token, "invalid lame_duck_grace_period, needs to be positive")
    opts.lame_duck_grace_period = ns


def _strict_duration(field: str, token: Token | None, value: str) -> int:
    try:
        return parse_duration(value)
    except GoError as error:
        raise Finding(token, f"error parsing {field}: {error}") from None


def _server_tags(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if type(value) is str:
        _add_tag(opts, value)
    elif type(value) is list:
        for entry in value:
            bare = getattr(entry, "value", None)
            if type(bare) is not str:
                where = " where string is expected" if entry is not None and hasattr(entry, "value") else ""
                raise Finding(token, f"error parsing tags: unsupported type {type_name(entry)}{where}")
            _add_tag(opts, bare)
    else:
        raise Finding(token, f"error parsing tags: unsupported type {type_name(value)}")


def _add_tag(opts: Options, tag: str) -> None:
    tag = tag.strip().lower()
    if tag and tag not in opts.tags:
        opts.tags.append(tag)


def _server_metadata(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if type(value) is not dict:
        raise Finding(token, f"error parsing metadata: unsupported type {type_name(value)}")
    for _, name, _, bare in last.items(value):
        opts.metadata[name] = as_str(bare)


def _feature_flags(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if type(value) is not dict:
        raise Finding(token, f"error parsing feature flags: unsupported type {type_name(value)}")
    for _, name, at, bare in last.items(value):
        if type(bare) is not bool:
            raise Finding(at, f"error parsing feature flag {quote(name)}: expected bool, got {type_name(bare)}")
        opts.feature_flags[name] = bare


def _default_js_domain(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if type(value) is not dict:
        raise Finding(token, f"error default_js_domain config: unsupported type {type_name(value)}")
    opts.js_acc_default_domain = {name: as_str(getattr(entry, "value", entry)) for name, entry in value.items()}


def _profiling(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    """Go's profiler: there is none here."""
    setattr(opts, key.lower(), as_int(value))
    if value:
        report.unsupported.append(key.lower())


def _nothing(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    """The system account: done before all others."""


def _mappings(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    from natsc.config.directives_accounts import parse_mappings
    from natsc.config.options import GLOBAL_ACCOUNT, Account

    account = Account(GLOBAL_ACCOUNT)
    opts.accounts.append(account)
    parse_mappings(token, account, report)


def _proxies(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    from natsc.config.directives_auth import parse_proxies

    opts.proxies = parse_proxies(token, report)


_SIMPLE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "client_advertise": ("client_advertise", as_str),
    "port": ("port", as_int),
    "host": ("host", as_str),
    "net": ("host", as_str),
    "disable_sublist_cache": ("no_sublist_cache", as_bool),
    "no_sublist_cache": ("no_sublist_cache", as_bool),
    "default_sentinel": ("default_sentinel", as_str),
    "http_port": ("http_port", as_int),
    "monitor_port": ("http_port", as_int),
    "https_port": ("https_port", as_int),
    "http_base_path": ("http_base_path", as_str),
    "logfile": ("log_file", as_str),
    "log_file": ("log_file", as_str),
    "logfile_size_limit": ("log_size_limit", as_int),
    "log_size_limit": ("log_size_limit", as_int),
    "logfile_max_num": ("log_max_files", as_int),
    "log_max_num": ("log_max_files", as_int),
    "remote_syslog": ("remote_syslog", as_str),
    "pidfile": ("pid_file", as_str),
    "pid_file": ("pid_file", as_str),
    "ports_file_dir": ("ports_file_dir", as_str),
    "max_pending": ("max_pending", as_int),
    "proxy_protocol": ("proxy_protocol", as_bool),
    "max_traced_msg_len": ("max_traced_msg_len", as_int),
    "max_subscriptions": ("max_subs", as_int),
    "max_subs": ("max_subs", as_int),
    "ping_max": ("max_pings_out", as_int),
    "allow_non_tls": ("allow_non_tls", as_bool),
    "no_auth_user": ("no_auth_user", as_str),
    "no_system_account": ("no_system_account", as_bool),
    "no_system": ("no_system_account", as_bool),
    "no_sys_acc": ("no_system_account", as_bool),
    "no_header_support": ("no_header_support", as_bool),
    "connect_error_reports": ("connect_error_reports", as_int),
    "reconnect_error_reports": ("reconnect_error_reports", as_int),
    "no_fast_producer_stall": ("no_fast_producer_stall", as_bool),
    "max_closed_clients": ("max_closed_clients", as_int),
}

_DIRECTIVES: dict[str, str | Callable[..., None]] = {
    "listen": _listen_into("host", "port"),
    "http": _listen_into("http_host", "http_port"),
    "https": _listen_into("http_host", "https_port"),
    "server_name": _server_name,
    "debug": _flag(("debug", "Debug")),
    "trace": _flag(("trace", "Trace")),
    "trace_verbose": _flag(("trace_verbose", "TraceVerbose"), ("trace", "Trace")),
    "trace_headers": _flag(("trace_headers", "TraceHeaders"), ("trace", "Trace")),
    "logtime": _flag(("logtime", "Logtime")),
    "logtime_utc": _flag(("logtime_utc", "LogtimeUTC")),
    "syslog": _flag(("syslog", "Syslog")),
    "max_control_line": _size_into("max_control_line"),
    "max_payload": _size_into("max_payload"),
    "max_connections": _max_conn,
    "max_conn": _max_conn,
    "max_sub_tokens": _max_sub_tokens,
    "max_subscription_tokens": _max_sub_tokens,
    "ping_interval": _duration_into("ping_interval"),
    "write_deadline": _duration_into("write_deadline"),
    "write_timeout": _write_timeout,
    "lame_duck_duration": _lame_duck_duration,
    "lame_duck_grace_period": _lame_duck_grace,
    "prof_port": _profiling,
    "prof_block_rate": _profiling,
    "server_tags": _server_tags,
    "server_metadata": _server_metadata,
    "feature_flags": _feature_flags,
    "default_js_domain": _default_js_domain,
    "log_format": _log_format,
    "store_dir": _store_dir,
    "storedir": _store_dir,
    "system_account": _nothing,
    "system": _nothing,
    "mappings": _mappings,
    "maps": _mappings,
    "proxies": _proxies,
    "accounts": "directives_accounts:accounts",
    "authorization": "directives_auth:authorization",
    "tls": "directives_tls:tls",
    "ocsp": "directives_tls:ocsp",
    "ocsp_cache": "directives_tls:ocsp_cache",
    "cluster": "directives_cluster:cluster",
    "gateway": "directives_cluster:gateway",
    "leaf": "directives_leafnodes:leafnodes",
    "leafnodes": "directives_leafnodes:leafnodes",
    "jetstream": "directives_jetstream:jetstream",
    "websocket": "directives_doors:websocket",
    "ws": "directives_doors:websocket",
    "mqtt": "directives_doors:mqtt",
    "operator": "directives_operator:operator",
    "operators": "directives_operator:operator",
    "root": "directives_operator:operator",
    "roots": "directives_operator:operator",
    "root_operator": "directives_operator:operator",
    "root_operators": "directives_operator:operator",
    "resolver": "directives_operator:resolver",
    "account_resolver": "directives_operator:resolver",
    "accounts_resolver": "directives_operator:resolver",
    "resolver_tls": "directives_operator:resolver_tls",
    "resolver_preload": "directives_operator:resolver_preload",
    "resolver_pinned_accounts": "directives_operator:resolver_pinned_accounts",
    "trusted": "directives_operator:trusted_keys",
    "trusted_keys": "directives_operator:trusted_keys",
}
