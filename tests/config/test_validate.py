"""Rules between options, checked when a server starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from natsc.config import ConfigError, process_config_file, set_baseline_options, validate_options
from natsc.config.validate import check_system_account
from tests.reference import nats_server

PIN = "ab" * 32

# (configuration, what a server says when it starts with it)
CASES = {
    'lame_duck_duration: "30s"\nlame_duck_grace_period: "30s"': (
        "lame duck grace period (30s) should be strictly lower than lame duck duration (30s)"
    ),
    "max_payload: 2MB\nmax_pending: 1MB": "max_payload (2097152) cannot be higher than max_pending (1048576)",
    "no_auth_user: x": 'no_auth_user: "x" present, but users/nkeys are not defined',
    "no_auth_user: x\nauthorization {users: [{user: a}]}": (
        'no_auth_user: "x" not present as user or nkey in authorization block or account configuration'
    ),
    "system_account: SYS": "error resolving system account: account missing",
    "default_sentinel: x": "default sentinel requires operators and accounts",
    "websocket {port: -1}": "websocket requires TLS configuration",
    "websocket {port: -1, no_tls: true, headers {Host: a}}": 'websocket: invalid header "Host" not allowed',
    "websocket {port: -1, no_tls: true, headers {Sec-WebSocket-X: a}}": (
        'websocket: invalid header "Sec-WebSocket-X", "Sec-WebSocket-" prefix not allowed'
    ),
    "websocket {port: -1, no_tls: true, allowed_origins: [x]}": (
        'unable to parse allowed origin: parse "x": invalid URI for request'
    ),
    'websocket {port: -1, no_tls: true, allowed_origins: ["ftp://x"]}': (
        'unable to parse allowed origin "ftp://x": allowed origins must be absolute URLs with http or https scheme'
    ),
    "websocket {port: -1, no_tls: true, jwt_cookie: c}": (
        'trusted operators or trusted keys configuration is required for JWT authentication via cookie "c"'
    ),
    "websocket {port: -1, no_tls: true, authorization {user: a}}\nauthorization {users: [{user: b}]}": (
        "websocket authentication username not compatible with presence of users/nkeys"
    ),
    "mqtt {port: -1}": "mqtt requires JetStream to be enabled if running in standalone mode",
    "mqtt {port: -1}\ncluster {port: -1}": "mqtt requires server name to be explicitly set",
    "mqtt {port: -1, authorization {token: t}}\nserver_name: n\nauthorization {users: [{user: a}]}": (
        "mqtt authentication token not compatible with presence of users/nkeys"
    ),
    "jetstream {domain: 'a.b'}": "invalid domain name: may not contain ., * or >",
    "jetstream {domain: 'a b'}": 'invalid domain name: derived "$JS.a b.API.>" is not a valid subject',
    "jetstream: true\ncluster {port: -1}": "jetstream cluster requires `server_name` to be set",
    "jetstream: true\nserver_name: n\ncluster {port: -1}": "jetstream cluster requires `cluster.name` to be set",
    "default_js_domain {A: d}": 'in non operator mode, `default_js_domain` references non existing account "A"',
    'default_js_domain {"$SYS": d}\naccounts {"$SYS" {}}': 'system account "$SYS" can not be in default_js_domain',
    "gateway {port: 5}": "gateway has no name",
    "gateway {name: a}": 'gateway "a" has no port specified (select -1 for random port)',
    "gateway {name: a, port: -1, gateways: [{url: 'nats://a:1'}]}": "gateway in the list 0 has no name",
    "gateway {name: a, port: -1, gateways: [{name: b}]}": 'gateway "b" has no URL',
    "gateway {name: a, port: -1}\ncluster {name: b, port: -1}": (
        "cluster name conflicts between cluster and gateway definitions"
    ),
    "gateway {name: a, port: -1}\nleafnodes {port: -1}": (
        "leaf nodes and gateways (both being defined) require a system account to also be configured"
    ),
    "cluster {port: -1, compression: x}": 'unsupported compression mode "x"',
    "cluster {port: -1, compression {mode: auto, rtt_thresholds: ['2ms', '1ms']}}": (
        "RTT threshold values [2ms 1ms] should be in ascending order"
    ),
    "cluster {port: -1, compression {mode: auto, rtt_thresholds: ['0ms']}}": (
        'compression mode "auto" requires at least one RTT threshold'
    ),
    "cluster {port: -1, accounts: [A, A]}": (
        'found duplicate account name "A" in pinned accounts list ["A" "A" "$SYS"]'
    ),
    "cluster {port: -1, accounts: [A], pool_size: -1}": (
        "pool_size cannot be negative if pinned accounts are specified"
    ),
    "leafnodes {remotes: [{url: 'nats://a:1', account: A}]}": (
        'cannot find local account "A" specified in leafnode remote'
    ),
    "leafnodes {port: -1, authorization {account: A}}": (
        'cannot find local account "A" specified in leafnode authorization'
    ),
    "leafnodes {remotes: [{urls: ['nats://a:1', 'ws://b:1']}]}": (
        'remote leaf node configuration cannot have a mix of websocket and non-websocket urls: ["nats://a:1" "ws://b:1"]'
    ),
    "leafnodes {port: -1, compression: x}": 'unsupported compression mode "x"',
}


@pytest.mark.parametrize("text", CASES, ids=lambda text: text.replace("\n", " ")[:80])
def test_natsc_refuses(text: str, tmp_path: Path) -> None:
    path = tmp_path / "main.conf"
    path.write_text(text)
    opts = process_config_file(str(path))
    set_baseline_options(opts)
    with pytest.raises(ConfigError) as raised:
        validate_options(opts)
        check_system_account(opts)
    assert str(raised.value) == CASES[text]


@pytest.mark.parametrize("text", CASES, ids=lambda text: text.replace("\n", " ")[:80])
def test_nats_server_refuses(text: str, tmp_path: Path) -> None:
    """The table above is right: a server dies with these words before it listens."""
    (tmp_path / "main.conf").write_text(text)
    command = [nats_server(), "-c", "main.conf", "-a", "127.0.0.1", "-p", "-1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == f"nats-server: {CASES[text]}\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no_auth_user: a\nauthorization {users: [{user: a}]}",
        'lame_duck_duration: "30s"',
        "websocket {port: -1, no_tls: true, allowed_origins: ['http://a', 'https://b:5']}",
        "cluster {port: -1, compression {mode: s2_auto, rtt_thresholds: ['0ms', '5ms', '0s']}}",
        "leafnodes {remotes: [{url: 'nats://a', account: A}]}\naccounts: [A]",
        f"tls {{pinned_certs: [{PIN}]}}",
    ],
)
def test_valid(text: str, tmp_path: Path) -> None:
    path = tmp_path / "main.conf"
    path.write_text(text)
    opts = process_config_file(str(path))
    set_baseline_options(opts)
    validate_options(opts)


def test_compression_modes_get_one_spelling(tmp_path: Path) -> None:
    path = tmp_path / "main.conf"
    path.write_text("cluster {port: -1, compression: on}\nleafnodes {remotes: [{url: 'nats://a'}]}")
    opts = process_config_file(str(path))
    set_baseline_options(opts)
    validate_options(opts)
    assert opts.cluster.compression.mode == "s2_fast"
    assert opts.leaf_node.remotes[0].compression.mode == "s2_auto"
    assert opts.leaf_node.remotes[0].compression.rtt_thresholds == [10_000_000, 50_000_000, 100_000_000]
    assert opts.leaf_node.remotes[0].urls[0].host == "a:7422"
    assert opts.cluster.pinned_accounts == ["$SYS"]
