"""The server's options: what the command line and the configuration file decide.

Names are those of nats-server's Options in snake case, so that its documentation applies. Units: durations are ints
in nanoseconds; the fields named *_timeout that nats-server keeps as float seconds (auth, TLS) are float seconds;
sizes are bytes; 0, "" and None mean "not set" until `set_baseline_options` fills the defaults in.

A class lists its fields as annotations; an instance starts with the zero value of each: 0, 0.0, False, "",
None for `X | None`, and a new list, dict, set or struct for the others.
"""

from __future__ import annotations

from natsc.config.goaddress import join_host_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND

DEFAULT_HOST = "0.0.0.0"
DEFAULT_PORT = 4222
RANDOM_PORT = -1
DEFAULT_LEAFNODE_PORT = 7422
GLOBAL_ACCOUNT = "$G"
SYSTEM_ACCOUNT = "$SYS"
TLS_TIMEOUT = 2.0  # seconds
AUTH_TIMEOUT = 2.0  # seconds
HANDSHAKE_FIRST_FALLBACK = 50 * MILLISECOND
SYNC_INTERVAL = 2 * MINUTE
NO_LIMIT = -1


class Struct:
    """Fields with zero values. Two structs are equal when their fields are; reload compares them."""

    __slots__ = ()
    _zeros: ClassVar[tuple[tuple[str, Any], ...]] = ()

    def __init_subclass__(cls) -> None:
        cls._zeros = tuple((name, _zero(kind)) for name, kind in cls.__annotations__.items())

    def __init__(self, **fields: Any) -> None:
        for name, zero in self._zeros:
            setattr(self, name, zero() if type(zero) is type else zero)
        for name, value in fields.items():
            setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name, _ in self._zeros)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Only what isn't zero, and nothing secret."""
        shown = []
        for name, _ in self._zeros:
            value = getattr(self, name)
            if value:
                shown.append(f"{name}={'[REDACTED]' if name in _SECRET else value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def copy(self) -> Any:
        """A copy that shares nothing mutable with this one, except accounts: users refer to them by identity."""
        clone = type(self)()
        for name, _ in self._zeros:
            setattr(clone, name, _copied(getattr(self, name)))
        return clone


_SECRET = frozenset((
    "password", "authorization", "token", "jetstream_key", "jetstream_old_key", "key_password", "srk_password",
    "nkey_seed", "operator_jwt", "resolver_preloads", "default_sentinel", "routes_str", "in_cmdline",
))  # fmt: skip


def _copied(value: Any) -> Any:
    if isinstance(value, Account):
        return value
    if isinstance(value, Struct):
        return value.copy()
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value.copy() if isinstance(value, (dict, set)) else value


def _zero(kind: str) -> Any:
    if kind.endswith("| None"):
        return None
    simple = {"int": 0, "str": "", "bool": False, "float": 0.0, "list": list, "dict": dict, "set": set}
    base = kind.partition("[")[0]
    return simple[base] if base in simple else globals()[base]


class URL(Struct):
    """Of a route, gateway or leafnode remote. `host` keeps brackets and port; `password` None: none was given;
    `path`: all that follows the host, as written."""

    scheme: str
    username: str
    password: str | None
    host: str
    path: str
    __slots__ = tuple(__annotations__)

    @property
    def port(self) -> str:
        _, colon, port = self.host.rpartition(":")
        return port if colon and "]" not in port else ""

    def __str__(self) -> str:
        return self.text(self.password)

    def redacted(self) -> str:
        return self.text("xxxxx" if self.password is not None else None)

    def text(self, password: str | None) -> str:
        user = self.username + ("" if password is None else f":{password}")
        slashes = "//" if self.host or user or self.path.startswith("//") else ""
        return f"{self.scheme}{':' if self.scheme else ''}{slashes}{user}{'@' if user else ''}{self.host}{self.path}"


class SubjectPermission(Struct):
    """`allow` None: everything not denied; []: nothing."""

    allow: list[str] | None
    deny: list[str] | None
    __slots__ = tuple(__annotations__)


class ResponsePermission(Struct):
    max_msgs: int  # negative: unlimited
    expires: int  # ns; negative: never
    __slots__ = tuple(__annotations__)


class Permissions(Struct):
    publish: SubjectPermission | None
    subscribe: SubjectPermission | None
    response: ResponsePermission | None
    __slots__ = tuple(__annotations__)


class RoutePermissions(Struct):
    import_: SubjectPermission | None
    export: SubjectPermission | None
    __slots__ = tuple(__annotations__)


class User(Struct):
    username: str
    password: str
    permissions: Permissions | None
    account: Account | None  # None: the global account
    connection_deadline: int  # wall ns; only users made by an authentication callout or a JWT have one
    allowed_connection_types: set[str] | None  # None: all
    proxy_required: bool
    __slots__ = tuple(__annotations__)


class NkeyUser(Struct):
    nkey: str  # public
    permissions: Permissions | None
    account: Account | None
    signing_key: str
    allowed_connection_types: set[str] | None
    proxy_required: bool
    __slots__ = tuple(__annotations__)


class Limits(Struct):
    """Of an account; -1: unlimited."""

    max_connections: int
    max_subscriptions: int
    max_payload: int
    max_leafnodes: int
    __slots__ = tuple(__annotations__)


class JetStreamAccountLimits(Struct):
    """-1: what the server has."""

    max_memory: int
    max_store: int
    max_streams: int
    max_consumers: int
    max_ack_pending: int
    memory_max_stream_bytes: int
    store_max_stream_bytes: int
    max_bytes_required: bool
    __slots__ = tuple(__annotations__)


def unlimited_jetstream() -> JetStreamAccountLimits:
    """An account that may use all that the server has."""
    limits = JetStreamAccountLimits()
    for field in JetStreamAccountLimits.__slots__:
        if field != "max_bytes_required":
            setattr(limits, field, NO_LIMIT)
    return limits


class MapDest(Struct):
    subject: str
    weight: int  # percent
    cluster: str
    __slots__ = tuple(__annotations__)


class ServiceLatency(Struct):
    subject: str
    sampling: int  # percent; 0: as the request's headers say
    __slots__ = tuple(__annotations__)


class Export(Struct):
    subject: str
    service: bool  # False: a stream
    accounts: list[str] | None  # None: public
    response_type: str  # "Singleton", "Streamed", "Chunked"
    latency: ServiceLatency | None
    response_threshold: int  # ns
    account_token_position: int
    allow_trace: bool
    token_required: bool  # of a JWT: who imports has an activation
    revocations: dict[str, int]  # of a JWT: activations of that account ("*": of all) up to that time (seconds)
    __slots__ = tuple(__annotations__)


class Import(Struct):
    account: str
    subject: str
    service: bool
    to: str
    prefix: str
    share: bool
    allow_trace: bool
    token: str  # of a JWT: the activation
    __slots__ = tuple(__annotations__)


class Account(Struct):
    name: str
    nkey: str
    users: list[User]
    nkeys: list[NkeyUser]
    limits: Limits
    default_permissions: Permissions | None
    exports: list[Export]
    imports: list[Import]
    mappings: dict[str, list[MapDest]]
    jetstream: dict[str, JetStreamAccountLimits]  # by tier (R1, R3), or under "" for all; empty: disabled
    nrg_account: str  # "" : the system account carries the account's RAFT traffic
    trace_dest: str
    trace_dest_sampling: int  # percent
    __slots__ = tuple(__annotations__)

    def __init__(self, name: str = "", **fields: Any) -> None:
        super().__init__(name=name, **fields)
        self.limits = Limits(
            max_connections=NO_LIMIT, max_subscriptions=NO_LIMIT, max_payload=NO_LIMIT, max_leafnodes=NO_LIMIT
        )

    def __repr__(self) -> str:
        return f"Account({self.name!r})"  # its users refer back to it

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Account) and self.name == other.name and self.same_as(other))

    __hash__ = None

    def copy_links(self) -> Account:
        """An account of that name with the same exports and mappings, and no imports."""
        return Account(self.name, exports=self.exports, mappings=self.mappings)

    def same_as(self, other: Account) -> bool:
        """Everything but the users is equal: they have the account as a field and are compared on their own."""
        skipped = ("users", "nkeys")
        return all(getattr(self, n) == getattr(other, n) for n, _ in self._zeros if n not in skipped)


class OCSPPeerConfig(Struct):
    verify: bool
    timeout: float  # seconds
    clock_skew: float  # seconds
    warn_only: bool
    unknown_is_good: bool
    allow_when_ca_unreachable: bool
    ttl_unset_next_update: float  # seconds
    __slots__ = tuple(__annotations__)


class OCSPConfig(Struct):
    mode: str  # "auto", "always", "never", "must"
    override_urls: list[str]
    __slots__ = tuple(__annotations__)


class OCSPCacheConfig(Struct):
    type: str  # "none", "local"
    local_store: str
    preserve_revoked: bool
    save_interval: float  # seconds
    __slots__ = tuple(__annotations__)


class TLSConfigOpts(Struct):
    """A `tls {}` block whose files were read and fit together (certificate and key match, CAs parse)."""

    cert_file: str
    key_file: str
    ca_file: str
    certificates: list[tuple[str, str]]  # (cert_file, key_file), instead of the single pair
    verify: bool
    insecure: bool
    map: bool
    check_known_urls: bool
    handshake_first: bool
    fallback_delay: int  # ns; >0: INFO goes out in clear when no handshake began by then
    timeout: float  # seconds; 0: default
    rate_limit: int
    allow_insecure_ciphers: bool
    ciphers: list[str] | None  # Go's names; None: default
    curve_preferences: list[str] | None
    pinned_certs: set[str] | None  # lower hex sha256 of the SubjectPublicKeyInfo
    min_version: str  # "", "1.2", "1.3"
    ocsp_peer_config: OCSPPeerConfig | None
    client_auth_required: bool  # clusters and gateways always require the peer's certificate
    __slots__ = tuple(__annotations__)


class CompressionOpts(Struct):
    mode: str
    rtt_thresholds: list[int]  # ns
    __slots__ = tuple(__annotations__)


class ClusterOpts(Struct):
    name: str
    host: str
    port: int
    username: str
    password: str
    auth_timeout: float
    permissions: RoutePermissions | None
    tls_timeout: float
    tls_config: TLSConfigOpts | None
    tls_map: bool
    tls_check_known_urls: bool
    tls_pinned_certs: set[str] | None
    listen_str: str
    advertise: str
    no_advertise: bool
    connect_retries: int
    connect_backoff: bool
    pool_size: int
    pinned_accounts: list[str]
    compression: CompressionOpts
    ping_interval: int
    max_pings_out: int
    write_deadline: int
    write_timeout: str
    __slots__ = tuple(__annotations__)


class RemoteGatewayOpts(Struct):
    name: str
    urls: list[URL]
    tls_config: TLSConfigOpts | None
    tls_timeout: float
    __slots__ = tuple(__annotations__)


class GatewayOpts(Struct):
    name: str
    host: str
    port: int
    username: str
    password: str
    auth_timeout: float
    tls_config: TLSConfigOpts | None
    tls_timeout: float
    tls_map: bool
    tls_check_known_urls: bool
    tls_pinned_certs: set[str] | None
    advertise: str
    connect_retries: int
    connect_backoff: bool
    gateways: list[RemoteGatewayOpts]
    reject_unknown: bool
    write_deadline: int
    write_timeout: str
    __slots__ = tuple(__annotations__)


class LeafProxy(Struct):
    url: str
    username: str
    password: str
    timeout: int
    __slots__ = tuple(__annotations__)


class RemoteLeafOpts(Struct):
    local_account: str
    no_randomize: bool
    urls: list[URL]
    credentials: str
    nkey_seed: str
    tls_config: TLSConfigOpts | None
    tls_timeout: float
    tls_handshake_first: bool
    hub: bool
    deny_imports: list[str]
    deny_exports: list[str]
    first_info_timeout: int
    dial_timeout: int
    compression: CompressionOpts
    websocket_compression: bool
    websocket_no_masking: bool
    proxy: LeafProxy
    jetstream_cluster_migrate: bool
    jetstream_cluster_migrate_delay: int
    local_isolation: bool
    request_isolation: bool
    disabled: bool
    ignore_discovered_servers: bool
    __slots__ = tuple(__annotations__)


class LeafNodeOpts(Struct):
    host: str
    port: int
    username: str
    password: str
    proxy_required: bool
    nkey: str
    account: str
    users: list[User]
    auth_timeout: float
    tls_config: TLSConfigOpts | None
    tls_timeout: float
    tls_map: bool
    tls_pinned_certs: set[str] | None
    tls_handshake_first: bool
    tls_handshake_first_fallback: int
    advertise: str
    no_advertise: bool
    reconnect_interval: int
    write_deadline: int
    write_timeout: str
    compression: CompressionOpts
    remotes: list[RemoteLeafOpts]
    min_version: str
    isolate_leafnode_interest: bool
    dial_timeout: int
    __slots__ = tuple(__annotations__)


class WebsocketOpts(Struct):
    host: str
    port: int
    advertise: str
    no_auth_user: str
    jwt_cookie: str
    username_cookie: str
    password_cookie: str
    token_cookie: str
    username: str
    password: str
    token: str
    auth_timeout: float
    no_tls: bool
    tls_config: TLSConfigOpts | None
    tls_map: bool
    tls_pinned_certs: set[str] | None
    same_origin: bool
    allowed_origins: list[str]
    compression: bool
    handshake_timeout: int
    ping_interval: int
    headers: dict[str, str]
    __slots__ = tuple(__annotations__)


class MQTTOpts(Struct):
    host: str
    port: int
    no_auth_user: str
    username: str
    password: str
    token: str
    js_domain: str
    stream_replicas: int
    consumer_replicas: int
    consumer_memory_storage: bool
    consumer_inactive_threshold: int
    auth_timeout: float
    tls_config: TLSConfigOpts | None
    tls_map: bool
    tls_timeout: float
    tls_pinned_certs: set[str] | None
    ack_wait: int
    js_api_timeout: int
    max_ack_pending: int
    reject_qos2_pub: bool
    downgrade_qos2_sub: bool
    __slots__ = tuple(__annotations__)


class JSLimitOpts(Struct):
    max_request_batch: int
    max_ack_pending: int
    max_ha_assets: int
    duplicates: int
    max_batch_inflight_per_stream: int
    max_batch_inflight_total: int
    max_batch_size: int
    max_batch_timeout: int
    default_max_consumers: int  # of a stream, where neither it nor its account has a limit; -1: unlimited
    __slots__ = tuple(__annotations__)


class JSTpmOpts(Struct):
    keys_file: str
    key_password: str
    srk_password: str
    pcr: int
    __slots__ = tuple(__annotations__)


class AuthCallout(Struct):
    issuer: str
    account: str
    auth_users: list[str]
    xkey: str
    allowed_accounts: list[str]
    __slots__ = tuple(__annotations__)


class AccountResolverOpts(Struct):
    kind: str  # "MEM", "URL", "FULL", "CACHE"
    url: str
    dir: str
    allow_delete: bool
    hard_delete: bool
    limit: int
    ttl: int
    interval: int
    timeout: int
    __slots__ = tuple(__annotations__)


class ProxiesConfig(Struct):
    trusted: list[str]  # public keys
    __slots__ = tuple(__annotations__)


class Options(Struct):
    config_file: str
    config_digest: str  # "sha256:" and 64 hex digits
    check_config: bool
    server_name: str
    host: str
    port: int
    dont_listen: bool
    client_advertise: str
    trace: bool
    debug: bool
    trace_verbose: bool
    trace_headers: bool
    no_log: bool
    no_sigs: bool
    no_sublist_cache: bool
    no_header_support: bool
    disable_short_first_ping: bool
    logtime: bool
    logtime_utc: bool
    max_conn: int  # 0: default; negative: nobody may connect
    max_subs: int
    max_sub_tokens: int
    nkeys: list[NkeyUser]
    users: list[User]
    accounts: list[Account]
    no_auth_user: str
    default_sentinel: str
    system_account: str
    no_system_account: bool
    username: str
    password: str
    proxy_required: bool
    proxy_protocol: bool
    authorization: str  # token
    auth_callout: AuthCallout | None
    auth_block_defined: bool
    ping_interval: int
    max_pings_out: int
    http_host: str
    http_port: int
    http_base_path: str
    https_port: int
    auth_timeout: float
    max_control_line: int
    max_payload: int
    max_pending: int
    no_fast_producer_stall: bool
    cluster: ClusterOpts
    gateway: GatewayOpts
    leaf_node: LeafNodeOpts
    jetstream: bool
    no_jetstream_strict: bool
    jetstream_max_memory: int
    jetstream_max_store: int
    jetstream_domain: str
    jetstream_ext_hint: str
    jetstream_key: str
    jetstream_old_key: str
    jetstream_cipher: str  # "", "chacha", "aes"
    jetstream_unique_tag: str
    jetstream_limits: JSLimitOpts
    jetstream_tpm: JSTpmOpts
    jetstream_max_catchup: int
    jetstream_request_queue_limit: int
    jetstream_info_queue_limit: int
    jetstream_meta_compact: int
    jetstream_meta_compact_size: int
    jetstream_meta_compact_sync: bool
    jetstream_concurrent_ios: int
    stream_max_buffered_msgs: int
    stream_max_buffered_size: int
    store_dir: str
    sync_interval: int
    sync_always: bool
    js_acc_default_domain: dict[str, str]
    websocket: WebsocketOpts
    mqtt: MQTTOpts
    prof_port: int
    prof_block_rate: int
    pid_file: str
    ports_file_dir: str
    log_file: str
    log_size_limit: int
    log_max_files: int
    log_format: str  # "" or "text": nats-server's lines; "json": natsc's own
    syslog: bool
    remote_syslog: str
    routes: list[URL]
    routes_str: str
    tls_timeout: float
    tls: bool
    tls_verify: bool
    tls_map: bool
    tls_cert: str
    tls_key: str
    tls_ca_cert: str
    tls_config: TLSConfigOpts | None  # None: no TLS
    tls_pinned_certs: set[str] | None
    tls_rate_limit: int
    tls_handshake_first: bool
    tls_handshake_first_fallback: int
    allow_non_tls: bool
    write_deadline: int
    write_timeout: str  # "", "default", "close", "retry"
    max_closed_clients: int
    lame_duck_duration: int
    lame_duck_grace_period: int
    max_traced_msg_len: int
    trusted_keys: list[str]
    trusted_operators: list[Any]  # natsc.auth.jwt.OperatorClaims
    operator_jwt: list[str]
    account_resolver: AccountResolverOpts | None
    account_resolver_tls_config: TLSConfigOpts | None
    resolver_preloads: dict[str, str]
    resolver_pinned_accounts: set[str]
    connect_error_reports: int
    reconnect_error_reports: int
    tags: list[str]
    metadata: dict[str, str]
    feature_flags: dict[str, bool]
    ocsp_config: OCSPConfig | None
    ocsp_cache_config: OCSPCacheConfig | None
    proxies: ProxiesConfig | None
    in_config: dict[str, bool]  # booleans that the file sets, by Go's field name
    in_cmdline: dict[str, bool | int | str]  # the flags; a reload lays them over the file again
    max_mem_set: bool
    max_store_set: bool
    sync_set: bool
    warnings: list[str]  # of the file
    unsupported: list[str]  # directives of the file that are accepted and have no effect yet
    refused: list[str]  # directives that restrict or protect and have no effect yet: the server must not start
    __slots__ = tuple(__annotations__)

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.logtime = fields.get("logtime", True)  # the command line's default


def set_baseline_options(opts: Options) -> None:
    """Fills in what neither file nor command line decided. Port -1 (any free port) becomes 0."""
    opts.host = opts.host or DEFAULT_HOST
    opts.http_host = opts.http_host or opts.host
    opts.port = {0: DEFAULT_PORT, RANDOM_PORT: 0}.get(opts.port, opts.port)
    opts.tls_timeout = opts.tls_timeout or TLS_TIMEOUT
    opts.auth_timeout = opts.auth_timeout or _auth_timeout(opts.tls_config, opts.tls_timeout)
    for name, default in _DEFAULTS:
        if not getattr(opts, name):
            setattr(opts, name, default)
    if opts.cluster.port or opts.cluster.listen_str:
        _cluster_baseline(opts)
    if opts.leaf_node.port:
        _listener_baseline(opts.leaf_node)
        opts.leaf_node.compression.mode = opts.leaf_node.compression.mode or "s2_auto"
    for remote in opts.leaf_node.remotes:
        for url in remote.urls:
            if not url.port:
                url.host = join_host_port(url.host, DEFAULT_LEAFNODE_PORT)
        remote.compression.mode = remote.compression.mode or "s2_auto"
        if remote.first_info_timeout <= 0:
            remote.first_info_timeout = SECOND
    opts.leaf_node.reconnect_interval = opts.leaf_node.reconnect_interval or SECOND
    if opts.gateway.port:
        _listener_baseline(opts.gateway)
    if opts.websocket.port:
        opts.websocket.host = opts.websocket.host or DEFAULT_HOST
    if opts.mqtt.port:
        opts.mqtt.host = opts.mqtt.host or DEFAULT_HOST
        opts.mqtt.tls_timeout = opts.mqtt.tls_timeout or TLS_TIMEOUT
    _jetstream_baseline(opts)


_DEFAULTS: tuple[tuple[str, int], ...] = (
    ("max_conn", 64 << 10),
    ("ping_interval", 2 * MINUTE),
    ("max_pings_out", 2),
    ("max_control_line", 4096),
    ("max_payload", 1 << 20),
    ("max_pending", 64 << 20),
    ("write_deadline", 10 * SECOND),
    ("max_closed_clients", 10_000),
    ("lame_duck_duration", 2 * MINUTE),
    ("lame_duck_grace_period", 10 * SECOND),
    ("connect_error_reports", 3600),
    ("reconnect_error_reports", 1),
)


def _auth_timeout(tls_config: TLSConfigOpts | None, tls_timeout: float) -> float:
    return AUTH_TIMEOUT if tls_config is None else tls_timeout + 1.0


def _listener_baseline(part: ClusterOpts | GatewayOpts | LeafNodeOpts) -> None:
    part.host = part.host or DEFAULT_HOST
    part.tls_timeout = part.tls_timeout or TLS_TIMEOUT
    part.auth_timeout = part.auth_timeout or _auth_timeout(part.tls_config, part.tls_timeout)


def _cluster_baseline(opts: Options) -> None:
    cluster = opts.cluster
    _listener_baseline(cluster)
    cluster.pool_size = cluster.pool_size or 3
    if cluster.pool_size > 0:  # the system account always has a route of its own
        system = opts.system_account or ("" if opts.no_system_account else SYSTEM_ACCOUNT)
        if system and system not in cluster.pinned_accounts:
            cluster.pinned_accounts.append(system)
    cluster.compression.mode = cluster.compression.mode or "accept"


def _jetstream_baseline(opts: Options) -> None:
    if not opts.jetstream_max_memory and not opts.max_mem_set:
        opts.jetstream_max_memory = -1
    if not opts.jetstream_max_store and not opts.max_store_set:
        opts.jetstream_max_store = -1
    if not opts.sync_interval and not opts.sync_set:
        opts.sync_interval = SYNC_INTERVAL
    if opts.jetstream_request_queue_limit <= 0:
        opts.jetstream_request_queue_limit = 10_000
    if opts.jetstream_info_queue_limit <= 0:
        opts.jetstream_info_queue_limit = opts.jetstream_request_queue_limit
    if opts.jetstream_concurrent_ios <= 0:
        opts.jetstream_concurrent_ios = 4096
    opts.jetstream_limits.default_max_consumers = opts.jetstream_limits.default_max_consumers or 1000
