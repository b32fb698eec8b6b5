"""`leafnodes {}`: parsed and checked; natsc has no leafnodes yet."""

from __future__ import annotations

import os

from natsc.config import keys
from natsc.config.directives_auth import Authorization, auth_timeout, bad_subject, parse_subjects
from natsc.config.directives_cluster import listener_field, parse_compression, write_field
from natsc.config.directives_tls import client_tls
from natsc.config.errors import ConfigError, Finding
from natsc.config.gotext import GoError, atoi, format_value, quote, type_name
from natsc.config.options import GLOBAL_ACCOUNT, SYSTEM_ACCOUNT, TLS_TIMEOUT, Account, RemoteLeafOpts, User
from natsc.config.urls import url_field, url_list
from natsc.config.values import (
    Last,
    Report,
    as_bool,
    as_map,
    as_str,
    dereference,
    duration,
    recovers,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.config.options import LeafNodeOpts, Options
    from natsc.config.parser import Token

_REMOTE_FLAGS = {
    "no_randomize": "no_randomize", "dont_randomize": "no_randomize", "hub": "hub",
    "ws_compress": "websocket_compression", "ws_compression": "websocket_compression",
    "websocket_compress": "websocket_compression", "websocket_compression": "websocket_compression",
    "ws_no_masking": "websocket_no_masking", "websocket_no_masking": "websocket_no_masking",
    "isolate_leafnode_interest": "local_isolation", "isolate": "local_isolation",
    "request_isolation": "request_isolation", "disabled": "disabled",
    "ignore_discovered_servers": "ignore_discovered_servers",
}  # fmt: skip
_BOTH_SECRETS = "Remote leafnode can not have both creds and nkey defined"


def leafnodes(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    report.unsupported.append("leafnodes")
    _parse_leafnodes(token, opts, report)


@recovers
def _parse_leafnodes(last: Last, block: Any, opts: Options, report: Report) -> None:
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Expected map to define a leafnode, got {type_name(fields)}")
    part = opts.leaf_node
    for name, key, token, value in last.items(fields):
        try:
            if not (listener_field(part, name, token, value) or write_field(part, name, token, value, report)):
                _leafnode_field(part, name, key, token, value, opts, report)
        except Finding as finding:
            report.errors.append(finding)


def _leafnode_field(
    part: LeafNodeOpts, name: str, key: str, token: Token | None, value: Any, opts: Options, report: Report
) -> None:
    if name == "authorization":
        _authorization(part, token, report)
    elif name == "remotes":
        part.remotes = _parse_remotes(token, report) or []
    elif name in ("reconnect", "reconnect_delay", "reconnect_interval"):
        part.reconnect_interval = duration("reconnect", token, value, report)
    elif name == "dial_timeout":
        part.dial_timeout = duration("dial_timeout", token, value, report)
    elif name == "tls":
        config = client_tls(token, report)
        part.tls_config = config
        part.tls_timeout = config.timeout
        part.tls_map = config.map
        part.tls_pinned_certs = config.pinned_certs
        part.tls_handshake_first = config.handshake_first
        part.tls_handshake_first_fallback = config.fallback_delay
    elif name in ("leafnode_advertise", "advertise"):
        part.advertise = as_str(value)
    elif name == "no_advertise":
        part.no_advertise = opts.in_config["LeafNode.NoAdvertise"] = as_bool(value)
    elif name in ("min_version", "minimum_version"):
        wrong = _bad_min_version(as_str(value))
        if wrong is not None:
            raise Finding(token, wrong)
        part.min_version = value
    elif name == "compression":
        parse_compression(part.compression, "s2_auto", token, key, value)
    elif name in ("isolate_leafnode_interest", "isolate"):
        part.isolate_leafnode_interest = as_bool(value)
    else:
        report.unknown(token, key)


def _authorization(part: LeafNodeOpts, token: Token | None, report: Report) -> None:
    auth = dereference(_parse_authorization(token, report))
    part.username = auth.user
    part.password = auth.password
    part.proxy_required = auth.proxy_required
    part.auth_timeout = auth.timeout
    part.account = auth.account
    part.users = auth.users or []
    part.nkey = auth.nkey
    wrong = _bad_users(part)
    if wrong is not None:
        raise Finding(token, wrong)


def _bad_users(part: LeafNodeOpts) -> str | None:
    if not part.users:
        return None
    if part.username:
        return "can not have a single user/pass and a users array"
    if part.nkey:
        return "can not have a single nkey and a users array"
    names = set()
    for user in part.users:
        if user.username in names:
            return f"duplicate user {quote(user.username)} detected in leafnode authorization"
        names.add(user.username)
    return None


@recovers
def _parse_authorization(last: Last, block: Any, report: Report) -> Authorization:
    auth = Authorization()
    for name, key, token, value in last.items(as_map(last.unwrap(block)[1])):
        if name in ("user", "username"):
            auth.user = as_str(value)
        elif name in ("pass", "password"):
            auth.password = as_str(value)
        elif name == "nkey":
            auth.nkey = as_str(value)
            if not keys.is_public_key(auth.nkey, keys.PREFIX_USER):
                report.error(token, "Not a valid public nkey for leafnode authorization")
        elif name == "timeout":
            auth.timeout = auth_timeout("leafnode authorization", key, token, value, report)
        elif name == "users":
            try:
                auth.users = _parse_users(token, report)
            except Finding as finding:
                report.errors.append(finding)
        elif name == "account":
            auth.account = as_str(value)
        elif name == "proxy_required":
            auth.proxy_required = as_bool(value)
        else:
            report.unknown(token, key)
    return auth


@recovers
def _parse_users(last: Last, block: Any, report: Report) -> list[User]:
    token, entries = last.unwrap(block)
    if type(entries) is not list:
        raise Finding(token, f"Expected users field to be an array, got {format_value(entries)}")
    users = []
    for entry in entries:
        token, fields = last.unwrap(entry)
        if type(fields) is not dict:
            report.error(token, f"Expected user entry to be a map/struct, got {format_value(fields)}")
            continue
        user = User()
        for name, key, token, value in last.items(fields):
            if name in ("user", "username"):
                user.username = as_str(value)
            elif name in ("pass", "password"):
                user.password = as_str(value)
            elif name == "account":
                user.account = Account(as_str(value))
            elif name == "proxy_required":
                user.proxy_required = as_bool(value)
            else:
                report.unknown(token, key)
        users.append(user)
    return users


@recovers
def _parse_remotes(last: Last, block: Any, report: Report) -> list[RemoteLeafOpts]:
    token, entries = last.unwrap(block)
    if type(entries) is not list:
        raise Finding(token, f"Expected remotes field to be an array, got {type_name(entries)}")
    remotes = []
    names = set()
    for entry in entries:
        token, fields = last.unwrap(entry)
        if type(fields) is not dict:
            report.error(token, f"Expected remote leafnode entry to be a map/struct, got {format_value(fields)}")
            continue
        remote = RemoteLeafOpts()
        proxy: list[Token | None] = [None]
        for name, key, token, value in last.items(fields):
            try:
                _remote_field(remote, name, key, token, value, proxy, last, report)
            except Finding as finding:
                report.errors.append(finding)
        wrong = _bad_proxy(remote)
        if wrong is not None:
            report.error(proxy[0], wrong)
            continue
        if remote_name(remote, False) in names:
            report.error(last.token, f"duplicate remote {remote_name(remote, True)}")
            continue
        names.add(remote_name(remote, False))
        remotes.append(remote)
    return remotes


def _remote_field(
    remote: RemoteLeafOpts,
    name: str,
    key: str,
    token: Token | None,
    value: Any,
    proxy: list[Token | None],
    last: Last,
    report: Report,
) -> None:
    if name in _REMOTE_FLAGS:
        setattr(remote, _REMOTE_FLAGS[name], as_bool(value))
    elif name in ("url", "urls"):
        _remote_urls(remote, token, value, report)
    elif name in ("account", "local"):
        remote.local_account = as_str(value)
    elif name in ("creds", "credentials", "nkey", "seed"):
        _remote_secret(remote, name, token, as_str(value))
    elif name == "tls":
        remote.tls_config = client_tls(token, report)
        remote.tls_timeout = remote.tls_config.timeout if remote.tls_config.timeout > 0 else TLS_TIMEOUT
        remote.tls_handshake_first = remote.tls_config.handshake_first
    elif name in ("deny_imports", "deny_import"):
        remote.deny_imports = parse_subjects(token, False, report) or []
    elif name in ("deny_exports", "deny_export"):
        remote.deny_exports = parse_subjects(token, False, report) or []
    elif name in ("jetstream_cluster_migrate", "js_cluster_migrate"):
        _migrate(remote, token, value, report)
    elif name == "compression":
        parse_compression(remote.compression, "s2_auto", token, key, value)
    elif name in ("first_info_timeout", "dial_timeout"):
        setattr(remote, name, duration(key, token, value, report))
    elif name == "proxy":
        if type(value) is not dict:
            raise Finding(token, f"Expected proxy to be a map, got {type_name(value)}")
        proxy[0] = token
        _proxy(remote, value, last, report)
    else:
        report.unknown(token, key)


def _remote_urls(remote: RemoteLeafOpts, token: Token | None, value: Any, report: Report) -> None:
    if type(value) is list:
        urls = url_list(value, "leafnode", report)
        remote.urls = remote.urls if urls is None else urls
    elif type(value) is str:
        remote.urls.append(url_field(token, value, "leafnode"))
    else:
        raise Finding(token, f"Expected remote leafnode url to be an array or string, got {format_value(value)}")


def _remote_secret(remote: RemoteLeafOpts, name: str, token: Token | None, value: str) -> None:
    if name in ("creds", "credentials"):
        try:
            path = expand_path(value)
        except GoError as error:
            raise Finding(token, str(error)) from None
        if remote.nkey_seed:
            raise Finding(token, _BOTH_SECRETS)
        remote.credentials = path
        return
    if not keys.is_user_seed(value):
        raise Finding(token, "Remote leafnode nkey is not a valid seed")
    if remote.credentials:
        raise Finding(token, _BOTH_SECRETS)
    remote.nkey_seed = value


def expand_path(path: str) -> str:
    """Variables of the environment, and `~`."""
    path = os.path.expandvars(path)
    if not path.startswith("~"):
        return path
    home = os.environ.get("HOME", "")
    if not home:
        raise GoError("failed to get home dir, require $HOME")
    return os.path.normpath(home + "/" + path[1:])


def _migrate(remote: RemoteLeafOpts, token: Token | None, value: Any, report: Report) -> None:
    if type(value) is bool:
        remote.jetstream_cluster_migrate = value
    elif type(value) is dict:
        remote.jetstream_cluster_migrate = True
        if "leader_migrate_delay" in value:
            at, bare = Last().unwrap(value["leader_migrate_delay"])
            remote.jetstream_cluster_migrate_delay = duration("leader_migrate_delay", at, bare, report)
    else:
        # The value was unwrapped already: no position, as in nats-server.
        raise Finding(None, f"Expected boolean or map for jetstream_cluster_migrate, got {type_name(value)}")


def _proxy(remote: RemoteLeafOpts, fields: dict[str, Any], last: Last, report: Report) -> None:
    for name, key, token, value in last.items(fields):
        if name in ("url", "username", "password"):
            setattr(remote.proxy, name, as_str(value))
        elif name == "timeout":
            remote.proxy.timeout = duration("proxy timeout", token, value, report)
        else:
            report.unknown(token, key)


def _bad_proxy(remote: RemoteLeafOpts) -> str | None:
    from natsc import gourl

    proxy = remote.proxy
    if not proxy.url:
        if proxy.username or proxy.password or proxy.timeout:
            return "proxy URL must be specified when other proxy options are set"
        return None
    try:
        url = gourl.parse(proxy.url)
    except gourl.URLError as error:
        return f"invalid proxy URL: {error}"
    if url.scheme not in ("http", "https"):
        return f"proxy URL scheme must be http or https, got: {url.scheme}"
    if not url.host:
        return "proxy URL must specify a host"
    if proxy.timeout < 0:
        return "proxy timeout must be >= 0"
    if bool(proxy.username) != bool(proxy.password):
        return "proxy username and password must both be specified or both be empty"
    for target in remote.urls:
        if target.scheme == "wss" and remote.tls_config is None:
            needed = "requires TLS and no TLS configuration is provided"
            advice = "When using proxy with TLS endpoints, ensure TLS is properly configured for the leafnode remote"
            return f"proxy is configured but remote URL {target.redacted()} {needed}. {advice}"
    return None


def remote_name(remote: RemoteLeafOpts, redacted: bool) -> str:
    urls = " ".join(quote(url.redacted() if redacted else str(url)) for url in remote.urls)
    secret = ""
    if remote.credentials:
        secret = f", credentials={quote(remote.credentials)}"
    elif remote.nkey_seed:
        secret = f', nkey="{"[REDACTED]" if redacted else remote.nkey_seed}"'
    return f"urls=[{urls}], account={quote(remote.local_account or GLOBAL_ACCOUNT)}{secret}"


def _bad_min_version(version: str) -> str | None:
    import re

    number = r"(0|[1-9]\d*)"
    word = r"(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    build = r"[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*"
    pattern = rf"{number}\.{number}\.{number}(?:-{word}(?:\.{word})*)?(?:\+{build})?"
    match = re.fullmatch(pattern, version, re.ASCII)
    if match is None:
        return "invalid leafnode's minimum version: invalid semver"
    try:
        too_old = tuple(atoi(part) for part in match.groups()) < (2, 8, 0)
    except GoError as error:
        return f"invalid leafnode's minimum version: {error}"
    if too_old:
        return "the minimum version should be at least 2.8.0"
    return None


def validate_leafnodes(opts: Options) -> None:
    """The rules for leafnodes, checked when the server starts."""
    from natsc.config.validate import normalize_compression, pinned_certs

    part = opts.leaf_node
    wrong = _bad_users(part)
    if wrong is not None:
        raise ConfigError(wrong)
    names = set()
    for remote in part.remotes:
        remote.local_account = remote.local_account or GLOBAL_ACCOUNT
        shown = remote_name(remote, True)
        for field in ("deny_imports", "deny_exports"):
            bad = bad_subject(getattr(remote, field), False)
            if bad is not None:
                raise ConfigError(f"invalid {field} for remote {shown}: {bad}")
        if remote_name(remote, False) in names:
            raise ConfigError(f"duplicate remote {shown}")
        names.add(remote_name(remote, False))
    _accounts_exist(opts)
    if part.compression.mode:
        normalize_compression(part.compression, "s2_auto")
    for remote in part.remotes:
        wrong = _bad_proxy(remote)
        if wrong is not None:
            raise ConfigError(wrong)
        web = {url.scheme.lower().startswith("ws") for url in remote.urls}
        if len(web) > 1:
            urls = " ".join(quote(url.redacted()) for url in remote.urls)
            mix = "a mix of websocket and non-websocket urls"
            raise ConfigError(f"remote leaf node configuration cannot have {mix}: [{urls}]")
        if remote.compression.mode:
            normalize_compression(remote.compression, "s2_auto")
    if not part.port:
        return
    wrong = _bad_min_version(part.min_version) if part.min_version else None
    if wrong is not None:
        raise ConfigError(wrong)
    if opts.gateway.name or opts.gateway.port:
        if not opts.system_account:
            both = "leaf nodes and gateways (both being defined)"
            raise ConfigError(f"{both} require a system account to also be configured")
        pinned_certs(part.tls_pinned_certs, "leafnode: ")


def _accounts_exist(opts: Options) -> None:
    part = opts.leaf_node
    if opts.trusted_operators:
        _operator_accounts(opts)
        return
    known = {account.name for account in opts.accounts} | {GLOBAL_ACCOUNT, ""}
    if not opts.system_account and not opts.no_system_account:
        known.add(SYSTEM_ACCOUNT)
    wanted = [(part.account, "authorization")]
    wanted += [(user.account.name, "authorization") for user in part.users if user.account is not None]
    wanted += [(remote.local_account, "remote") for remote in part.remotes]
    for name, where in wanted:
        if name not in known:
            raise ConfigError(f"cannot find local account {quote(name)} specified in leafnode {where}")


def _operator_accounts(opts: Options) -> None:
    part = opts.leaf_node
    if part.users:
        raise ConfigError("operator mode does not allow specifying users in leafnode config")
    for remote in part.remotes:
        if not keys.is_public_key(remote.local_account, keys.PREFIX_ACCOUNT):
            advice = (
                "Please add an `account` key to each remote in your `leafnodes` section, to assign it to an account. "
                "Each account value should be a 56 character public key, starting with the letter 'A'"
            )
            raise ConfigError(f"operator mode requires account nkeys in remotes. {advice}")
    if part.port and part.account and not keys.is_public_key(part.account, keys.PREFIX_ACCOUNT):
        raise ConfigError("operator mode and non account nkeys are incompatible")
