"""Every directive, by the block it stands in, and values of every kind to try with it."""

from __future__ import annotations

# One value of each kind the language has, and some that are at an edge. Each directive is tried with all of them.
VALUES = (
    "x", "5", "-1", "0", "true", "off", "1.5", '"2s"', '"-3s"', '""', "'a b'", "[1 ]", '["a"]', "[]", "{a: 1}", "{}",
    "[{a: 1}]", "4096000000", "9223372036854775807", "2024-01-31T00:00:00Z", "1k", "12kb", '"10G"', "a.b.>", '"*"',
    "[foo, 5 ]", "[true]", '"127.0.0.1:4222"', '"host"', "enabled", '"50%"',
)  # fmt: skip

# What random texts are made of.
PIECES = (
    "port", "host", "include", "$x", "x", "y", '"', "'", "{", "}", "[", "]", "(", ")", "=", ":", ",", ";", "\n",
    " ", "\r\n", "\t", "#", "//", "/", "1", "-", "5k", "5kbb", "1.5", "1.2.3", "2024-01-02T03:04:05Z", "2024-",
    "true", "off", "\\", "\\x41", "\\xff", "é", "\x00", "\xa0", "٣", "\udcff", "(\n", "\n)\n",
    "99999999999999999999", "accounts", "users", "authorization", "cluster", "tls", "a.b", "server_tags",
)  # fmt: skip

# Those that a test run has time for.
SOME_VALUES = ("x", "5", "true", "1.5", '"2s"', '["a"]', "{a: 1}", "[]")

# They get in each other's way: what is told then depends on which comes first.
NOT_AT_ONCE = frozenset((
    "accounts", "authorization", "mappings", "maps", "store_dir", "storedir", "jetstream", "system", "system_account",
))  # fmt: skip

BLOCKS: dict[str, tuple[str, str]] = {
    "top": (
        "%s\n",
        """listen client_advertise port server_name host net debug trace trace_verbose trace_headers logtime
        logtime_utc mappings maps disable_sublist_cache no_sublist_cache accounts default_sentinel
        authorization http https http_port monitor_port https_port http_base_path cluster gateway leaf
        leafnodes store_dir storedir jetstream logfile log_file logfile_size_limit log_size_limit
        logfile_max_num log_max_num syslog remote_syslog pidfile pid_file ports_file_dir prof_port
        prof_block_rate max_control_line max_payload max_pending proxy_protocol max_connections max_conn
        max_traced_msg_len max_subscriptions max_subs max_sub_tokens max_subscription_tokens ping_interval
        ping_max tls ocsp allow_non_tls write_deadline write_timeout lame_duck_duration
        lame_duck_grace_period operator operators roots root root_operators root_operator resolver
        account_resolver accounts_resolver resolver_tls resolver_preload resolver_pinned_accounts
        no_auth_user system_account system no_system_account no_system no_sys_acc no_header_support trusted
        trusted_keys connect_error_reports reconnect_error_reports websocket ws mqtt server_tags
        server_metadata feature_flags default_js_domain ocsp_cache no_fast_producer_stall max_closed_clients
        proxies nonesuch Port MAX_PAYLOAD""",
    ),
    "ocsp": ("ocsp { %s }\n", "mode url urls Mode nonesuch"),
    "ocsp_cache": ("ocsp_cache { %s }\n", "type local_store preserve_revoked save_interval nonesuch"),
    "resolver": ("resolver { type: mem, %s }\n", "dir allow_delete hard_delete limit ttl interval timeout nonesuch"),
    "authorization": (
        "authorization { %s }\n",
        """user username pass password token timeout users default_permission default_permissions permissions
        auth_callout auth_hook proxy_required nonesuch""",
    ),
    "user": (
        "authorization { users: [ { user: u, %s } ] }\n",
        """pass password permission permissions authorization allowed_connection_types connection_types clients
        proxy_required nkey nonesuch""",
    ),
    "account user": (
        "accounts { A { users: [ { %s } ] } }\n",
        "user username pass nkey permissions clients proxy_required nonesuch",
    ),
    "permissions": (
        "authorization { users: [ { user: u, permissions { %s } } ] }\n",
        "pub publish import sub subscribe export publish_allow_responses allow_responses nonesuch",
    ),
    "publish": ("authorization { permissions { publish { %s } } }\n", "allow deny nonesuch"),
    "subscribe": ("authorization { permissions { subscribe { %s } } }\n", "allow deny nonesuch"),
    "responses": (
        "authorization { permissions { allow_responses { %s } } }\n",
        "max max_msgs max_messages max_responses expires expiration ttl nonesuch",
    ),
    "callout": (
        "authorization { auth_callout { %s } }\n",
        "issuer account acc auth_users users xkey key allowed_accounts nonesuch",
    ),
    "proxies": ("proxies { %s }\n", "trusted nonesuch"),
    "proxy": ("proxies { trusted [ { %s } ] }\n", "key public_key nonesuch"),
    "tls": (
        "tls { %s }\n",
        """cert_file key_file ca_file insecure verify verify_and_map verify_cert_and_check_known_urls
        allow_insecure_cipher_suites cipher_suites curve_preferences timeout connection_rate_limit
        pinned_certs cert_store cert_match_by cert_match ca_certs_match handshake_first first immediate
        cert_match_skip_invalid ocsp_peer certs certificates min_version nonesuch""",
    ),
    "certs": ("tls { certs [ { %s } ] }\n", "cert_file key_file nonesuch"),
    "ocsp_peer": (
        "tls { ocsp_peer { %s } }\n",
        """verify allowed_clockskew ca_timeout cache_ttl_when_next_update_unset warn_only unknown_is_good
        allow_when_ca_unreachable nonesuch""",
    ),
    "cluster": (
        "cluster { %s }\n",
        """name listen port host net authorization routes tls cluster_advertise advertise no_advertise connect_retries
        connect_backoff permissions pool_size accounts compression ping_interval ping_max write_deadline
        write_timeout nonesuch""",
    ),
    "cluster authorization": (
        "cluster { authorization { %s } }\n",
        "user pass token timeout users permissions auth_hook",
    ),
    "compression": ("cluster { compression { %s } }\n", "mode rtt_thresholds thresholds rtts rtt nonesuch"),
    "gateway": (
        "gateway { %s }\n",
        """name listen port host net authorization tls advertise connect_retries connect_backoff gateways
        reject_unknown reject_unknown_cluster write_deadline write_timeout nonesuch""",
    ),
    "remote gateway": ("gateway { gateways [ { %s } ] }\n", "name tls url urls nonesuch"),
    "jetstream": (
        "jetstream { %s }\n",
        """strict store store_dir storedir sync sync_interval max_memory_store max_mem_store max_mem max_file_store
        max_file domain enable enabled key ek encryption_key prev_key prev_ek prev_encryption_key cipher
        extension_hint limits tpm unique_tag max_outstanding_catchup max_buffered_size max_buffered_msgs
        request_queue_limit info_queue_limit meta_compact meta_compact_size meta_compact_sync
        max_concurrent_io nonesuch""",
    ),
    "jetstream limits": (
        "jetstream { limits { %s } }\n",
        "max_ack_pending max_ha_assets max_request_batch default_max_consumers duplicate_window batch nonesuch",
    ),
    "batch limits": (
        "jetstream { limits { batch { %s } } }\n",
        "max_inflight_per_stream max_inflight_total max_msgs timeout nonesuch",
    ),
    "tpm": ("jetstream { tpm { %s } }\n", "keys_file encryption_password srk_password pcr cipher nonesuch"),
    "leafnodes": (
        "leafnodes { %s }\n",
        """listen port host net authorization remotes reconnect reconnect_delay reconnect_interval dial_timeout tls
        leafnode_advertise advertise no_advertise min_version minimum_version compression
        isolate_leafnode_interest isolate write_deadline write_timeout nonesuch""",
    ),
    "leafnode authorization": (
        "leafnodes { authorization { %s } }\n",
        "user username pass password nkey timeout users account proxy_required nonesuch",
    ),
    "leafnode user": (
        "leafnodes { authorization { users [ { %s } ] } }\n",
        "user username pass password account proxy_required nonesuch",
    ),
    "remote": (
        "leafnodes { remotes [ { %s } ] }\n",
        """no_randomize dont_randomize url urls account local creds credentials nkey seed tls hub deny_imports
        deny_import deny_exports deny_export ws_compress ws_compression websocket_compress
        websocket_compression ws_no_masking websocket_no_masking jetstream_cluster_migrate
        js_cluster_migrate isolate_leafnode_interest isolate request_isolation compression
        first_info_timeout dial_timeout disabled proxy ignore_discovered_servers nonesuch""",
    ),
    "migrate": (
        "leafnodes { remotes [ { jetstream_cluster_migrate { %s } } ] }\n",
        "leader_migrate_delay nonesuch",
    ),
    "remote proxy": (
        "leafnodes { remotes [ { url: 'ws://a:1', proxy { %s } } ] }\n",
        "url username password timeout nonesuch",
    ),
    "websocket": (
        "websocket { %s }\n",
        """listen port host net advertise no_tls tls same_origin allowed_origins allowed_origin allow_origins
        allow_origin origins origin handshake_timeout compress compression authorization authentication
        jwt_cookie user_cookie pass_cookie token_cookie no_auth_user headers ping_interval nonesuch""",
    ),
    "websocket authorization": (
        "websocket { authorization { %s } }\n",
        "user username pass password token timeout nonesuch",
    ),
    "mqtt": (
        "mqtt { %s }\n",
        """listen port host net tls authorization authentication no_auth_user ack_wait ackwait js_api_timeout
        api_timeout max_ack_pending max_pending max_inflight js_domain stream_replicas consumer_replicas
        consumer_memory_storage consumer_inactive_threshold consumer_auto_cleanup reject_qos2_publish
        downgrade_qos2_subscribe nonesuch""",
    ),
    "account": (
        "accounts { A { %s } }\n",
        """nkey imports exports jetstream users default_permissions mappings maps limits msg_trace trace_dest
        nonesuch""",
    ),
    "account jetstream": (
        "accounts { A { jetstream { %s } } }\n",
        """max_memory max_mem mem memory max_store max_file max_disk store disk max_streams streams max_consumers
        consumers max_bytes_required max_stream_bytes max_bytes mem_max_stream_bytes memory_max_stream_bytes
        disk_max_stream_bytes store_max_stream_bytes max_ack_pending cluster_traffic nonesuch""",
    ),
    "account limits": (
        "accounts { A { limits { %s } } }\n",
        "max_connections max_conn max_subscriptions max_subs max_payload max_pay max_leafnodes max_leafs nonesuch",
    ),
    "msg_trace": ("accounts { A { msg_trace { %s } } }\n", "dest sampling nonesuch"),
    "mapping": (
        "accounts { A { mappings { foo: { weight: 50, %s } } } }\n",
        "dest destination weight cluster nonesuch",
    ),
    "mapping list": ("accounts { A { mappings { foo: [ { %s } ] } } }\n", "dest weight nonesuch"),
    "stream export": (
        "accounts { A { exports [ { stream: a.*, %s } ] } }\n",
        """stream service response response_type threshold response_threshold accounts latency account_token_position
        allow_trace nonesuch""",
    ),
    "service export": (
        "accounts { A { exports [ { service: a.*, %s } ] } }\n",
        """stream service response response_type threshold response_threshold response_max_time response_time accounts
        latency account_token_position allow_trace nonesuch""",
    ),
    "bare export": ("accounts { A { exports [ { %s } ] } }\n", "stream service response latency allow_trace threshold"),
    "latency": ("accounts { A { exports [ { service: a, latency { %s } } ] } }\n", "subject sampling nonesuch"),
    "full latency": ("accounts { A { exports [ { service: a, latency { subject: lat, %s } } ] } }\n", "sampling"),
    "stream import": (
        "accounts { B { exports [{ stream: a.> }] }, A { imports [{ stream: { account: B, subject: a.b }, %s }] } }\n",
        "stream service prefix to share allow_trace nonesuch",
    ),
    "service import": (
        "accounts { B { exports [{ service: a.> }] }, A { imports [{ service: {account: B, subject: a.b}, %s }] } }\n",
        "stream service prefix to share allow_trace nonesuch",
    ),
    "import account": ("accounts { A { imports [ { stream: { %s } } ] } }\n", "account subject nonesuch"),
}
