"""The rules between options, checked when a server starts (`-t` doesn't check them, as in nats-server).

Expects the defaults to be filled in. Options that have several spellings are put in their one form on the way.
"""

from __future__ import annotations

from natsc.config import keys
from natsc.config.errors import ConfigError
from natsc.config.gotext import format_duration, quote
from natsc.config.options import GLOBAL_ACCOUNT, MILLISECOND, SYSTEM_ACCOUNT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.config.options import CompressionOpts, Options, Permissions, SubjectPermission

_S2_AUTO_THRESHOLDS = (10 * MILLISECOND, 50 * MILLISECOND, 100 * MILLISECOND)
_COMPRESSION_MODES = {
    "not supported": "not supported", "not_supported": "not supported", "disabled": "off", "off": "off",
    "false": "off", "accept": "accept", "fast": "s2_fast", "s2_fast": "s2_fast", "better": "s2_better",
    "s2_better": "s2_better", "best": "s2_best", "s2_best": "s2_best", "auto": "s2_auto", "s2_auto": "s2_auto",
}  # fmt: skip


def check_system_account(opts: Options) -> None:
    """The system account must be there when a server starts; a reload has its own rule. Raises ConfigError."""
    name = opts.system_account
    if opts.trusted_operators or (opts.trusted_keys and opts.account_resolver is not None):
        return  # its JWT is looked for when the server starts
    if name and name != GLOBAL_ACCOUNT and name not in (account.name for account in opts.accounts or ()):
        raise ConfigError("error resolving system account: account missing")


def validate_options(opts: Options) -> None:
    """ConfigError with the text that nats-server dies with."""
    if 0 < opts.lame_duck_duration <= opts.lame_duck_grace_period:
        grace, whole = format_duration(opts.lame_duck_grace_period), format_duration(opts.lame_duck_duration)
        text = f"lame duck grace period ({grace}) should be strictly lower than lame duck duration ({whole})"
        raise ConfigError(text)
    if opts.max_payload > opts.max_pending:
        raise ConfigError(f"max_payload ({opts.max_payload}) cannot be higher than max_pending ({opts.max_pending})")
    if " " in opts.server_name:
        raise ConfigError("server name cannot contain spaces")
    if opts.trusted_operators or opts.default_sentinel:
        from natsc.config.directives_operator import validate_operators

        validate_operators(opts)
    if opts.leaf_node.port or opts.leaf_node.remotes or opts.leaf_node.users or opts.leaf_node.account:
        from natsc.config.directives_leafnodes import validate_leafnodes

        validate_leafnodes(opts)
    elif opts.leaf_node.compression.mode:
        normalize_compression(opts.leaf_node.compression, "s2_auto")
    _users(opts)
    for key in opts.proxies.trusted if opts.proxies is not None else ():
        if not keys.is_public_key(key):
            raise ConfigError(f"proxy trusted key {quote(key)} is invalid")
    _gateway(opts)
    _cluster(opts)
    _mqtt(opts)
    _jetstream(opts)
    if opts.websocket.port:
        from natsc.config.directives_doors import validate_websocket

        validate_websocket(opts)


def _users(opts: Options) -> None:
    pinned_certs(opts.tls_pinned_certs, "")
    for user in opts.users:
        _permissions(user.permissions, f"user {quote(user.username)}")
    for nkey_user in opts.nkeys:
        _permissions(nkey_user.permissions, f"nkey {quote(nkey_user.nkey)}")
    no_auth_user(opts, opts.no_auth_user)


def _permissions(permissions: Permissions | None, who: str) -> None:
    if permissions is None:
        return
    from natsc.config.directives_auth import bad_subject

    for verb, part in (("publish", permissions.publish), ("subscribe", permissions.subscribe)):
        for what in ("allow", "deny") if part is not None else ():
            bad = bad_subject(getattr(part, what), verb == "subscribe")
            if bad is not None:
                raise ConfigError(f"invalid permissions for {who}: {verb} {what}: {bad}")


def no_auth_user(opts: Options, name: str) -> None:
    """The user that connections without credentials become must exist."""
    if not name:
        return
    if opts.trusted_operators:
        raise ConfigError("no_auth_user not compatible with Trusted Operator")
    if not opts.nkeys and not opts.users:
        raise ConfigError(f'no_auth_user: "{name}" present, but users/nkeys are not defined')
    if name not in {user.username for user in opts.users} | {user.nkey for user in opts.nkeys}:
        where = "as user or nkey in authorization block or account configuration"
        raise ConfigError(f'no_auth_user: "{name}" not present {where}')


def pinned_certs(pins: set[str] | None, where: str) -> None:
    if not pins:
        return
    from natsc.config.directives_tls import is_pin

    for pin in pins:
        if not is_pin(pin.lower()):
            what = "does not look like lower case hex-encoded sha256 of DER encoded SubjectPublicKeyInfo"
            raise ConfigError(f"{where}error parsing 'pinned_certs' key {pin.lower()} {what}")


def _gateway(opts: Options) -> None:
    gateway = opts.gateway
    if not gateway.name and not gateway.port:
        return
    if not gateway.name:
        raise ConfigError("gateway has no name")
    if " " in gateway.name:
        raise ConfigError("gateway name cannot contain spaces")
    if not gateway.port:
        raise ConfigError(f"gateway {quote(gateway.name)} has no port specified (select -1 for random port)")
    for index, remote in enumerate(gateway.gateways):
        if not remote.name:
            raise ConfigError(f"gateway in the list {index} has no name")
        if not remote.urls:
            raise ConfigError(f"gateway {quote(remote.name)} has no URL")
    pinned_certs(gateway.tls_pinned_certs, f"gateway {quote(gateway.name)}: ")


def _cluster(opts: Options) -> None:
    cluster = opts.cluster
    if " " in cluster.name:
        raise ConfigError("cluster name cannot contain spaces")
    if cluster.permissions is not None:
        cluster_permissions(cluster.permissions.import_, cluster.permissions.export)
    if cluster.compression.mode:
        normalize_compression(cluster.compression, "s2_fast")
    pinned_certs(cluster.tls_pinned_certs, "cluster: ")
    if opts.gateway.name and opts.gateway.name != cluster.name:
        if cluster.name:
            raise ConfigError("cluster name conflicts between cluster and gateway definitions")
        cluster.name = opts.gateway.name
    accounts = cluster.pinned_accounts
    if accounts and cluster.pool_size < 0:
        raise ConfigError("pool_size cannot be negative if pinned accounts are specified")
    for index, name in enumerate(accounts):
        if name in accounts[:index]:
            names = " ".join(quote(account) for account in accounts)
            text = f"found duplicate account name {quote(name)} in pinned accounts list [{names}]"
            raise ConfigError(text)


def cluster_permissions(imported: SubjectPermission | None, exported: SubjectPermission | None) -> None:
    from natsc.config.directives_auth import bad_subject

    for verb, part in (("import", imported), ("export", exported)):
        for what in ("allow", "deny") if part is not None else ():
            bad = bad_subject(getattr(part, what), False)
            if bad is not None:
                raise ConfigError(f"cluster {verb} {what}: {bad}")


def normalize_compression(compression: CompressionOpts, on: str) -> None:
    """Puts the mode in its one spelling; `on` is what "on" means here."""
    word = compression.mode.lower()
    mode = _COMPRESSION_MODES.get(on if word in ("on", "enabled", "true") else word)
    if mode is None:
        raise ConfigError(f"unsupported compression mode {quote(compression.mode)}")
    if mode == "s2_auto":
        given = compression.rtt_thresholds
        thresholds = list(_S2_AUTO_THRESHOLDS) if not given else _thresholds(compression)
        compression.rtt_thresholds = thresholds
    compression.mode = mode


def _thresholds(compression: CompressionOpts) -> list[int]:
    """0 skips a level; zeros at the end are dropped."""
    given = compression.rtt_thresholds
    shown = f"[{' '.join(format_duration(threshold) for threshold in given)}]"
    thresholds: list[int] = []
    for threshold in given:
        threshold = max(threshold, 0)
        if threshold and any(threshold < earlier for earlier in thresholds):
            raise ConfigError(f"RTT threshold values {shown} should be in ascending order")
        thresholds.append(threshold)
    while thresholds and not thresholds[-1]:
        thresholds.pop()
    mode = quote(compression.mode)
    if len(thresholds) > 4:
        raise ConfigError(f"compression mode {mode} should have no more than 4 RTT thresholds: {shown}")
    if not thresholds:
        raise ConfigError(f"compression mode {mode} requires at least one RTT threshold")
    return thresholds


def _mqtt(opts: Options) -> None:
    mqtt = opts.mqtt
    if not mqtt.port:
        return
    if not opts.server_name and (opts.cluster.port or opts.gateway.port):
        raise ConfigError("mqtt requires server name to be explicitly set")
    no_auth_user(opts, mqtt.no_auth_user)
    if opts.users or opts.nkeys:
        if mqtt.username:
            raise ConfigError("mqtt authentication username not compatible with presence of users/nkeys")
        if mqtt.token:
            raise ConfigError("mqtt authentication token not compatible with presence of users/nkeys")
    if mqtt.ack_wait < 0:
        raise ConfigError("ack wait must be a positive value")
    if mqtt.js_api_timeout < 0:
        raise ConfigError("JS API timeout must be a positive value")
    alone = not (opts.cluster.port or opts.gateway.port or opts.leaf_node.port or opts.leaf_node.remotes)
    if not opts.jetstream and alone:
        raise ConfigError("mqtt requires JetStream to be enabled if running in standalone mode")
    pinned_certs(mqtt.tls_pinned_certs, "mqtt: ")


def _jetstream(opts: Options) -> None:
    if opts.js_acc_default_domain:
        _default_domains(opts)
    domain = opts.jetstream_domain
    if domain:
        from natsc.config.subjects import is_valid_subject

        subject = f"$JS.{domain}.API.>"
        if not is_valid_subject(subject):
            raise ConfigError(f"invalid domain name: derived {quote(subject)} is not a valid subject")
        if any(char in " \t\r\n\f.*>" for char in domain):
            raise ConfigError("invalid domain name: may not contain ., * or >")
    if not opts.jetstream or not opts.cluster.port:
        return
    if not opts.server_name:
        raise ConfigError("jetstream cluster requires `server_name` to be set")
    if not opts.cluster.name:
        raise ConfigError("jetstream cluster requires `cluster.name` to be set")
    opts.jetstream_ext_hint = opts.jetstream_ext_hint.lower()
    if opts.jetstream_ext_hint not in ("will_extend", "no_extend", ""):
        raise ConfigError(f"expected 'no_extend' for string value, got '{opts.jetstream_ext_hint}'")
    if opts.jetstream_max_catchup < 0:
        raise ConfigError("jetstream max catchup cannot be negative")


def _default_domains(opts: Options) -> None:
    domains = opts.js_acc_default_domain
    accounts = {account.name: account for account in opts.accounts}
    for name, domain in domains.items():
        if opts.trusted_operators:
            if not keys.is_public_key(name, keys.PREFIX_ACCOUNT):
                what = "which is not a valid public account nkey"
                raise ConfigError(f"default_js_domain contains account name {quote(name)}, {what}")
        elif name != GLOBAL_ACCOUNT:
            if name not in accounts:
                what = f"`default_js_domain` references non existing account {quote(name)}"
                raise ConfigError(f"in non operator mode, {what}")
            if accounts[name].jetstream and domain:
                raise ConfigError(f"default_js_domain contains account name {quote(name)} with enabled JetStream")
    from natsc.config.subjects import is_valid_subject

    system = opts.system_account or SYSTEM_ACCOUNT
    for name, domain in domains.items():
        if name == system:
            raise ConfigError(f"system account {quote(name)} can not be in default_js_domain")
        if domain and not is_valid_subject(f"$JS.{domain}.API.>"):
            text = f"default_js_domain contains account {quote(name)} with invalid domain name {quote(domain)}"
            raise ConfigError(text)
