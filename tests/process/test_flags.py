"""What flags do to the options, and that they win over the configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest

from natsc import cli, flags, goflag
from natsc.config import ConfigError, Options, process_config_file
from natsc.config.options import TLSConfigOpts


def options(args: str, config: Path | None = None) -> Options:
    """What a server would get from the command line `args`, before defaults are filled in."""
    given, rest = goflag.parse(flags.KINDS, args.split())
    assert not rest
    opts = Options()
    flags.assign(opts, given)
    if config is not None:
        process_config_file(str(config), opts)
    flags.apply(opts, given)
    return opts


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "server.conf"
    path.write_text(
        "listen: 127.0.0.1:4333\nserver_name: file\ndebug: true\ntrace: true\nlogtime: false\nmonitor_port: 8333\n"
        "log_file: file.log\npid_file: file.pid\nauthorization { user: file, password: file }\n"
    )
    return path


@pytest.mark.parametrize(("args", "field", "value"), [
    ("-p 1", "port", 1), ("-port 0x10", "port", 16), ("-p 1_000", "port", 1000), ("-p 010", "port", 8),
    ("-p -1", "port", -1), ("-p=+5", "port", 5), ("-p 0b11", "port", 3), ("-p 0o17", "port", 15),
    ("-p 1 -port 2", "port", 2), ("-port 2 -p 1", "port", 1), ("-p 1 -port 2 -p 3", "port", 3),
    ("-a h", "host", "h"), ("--net h", "host", "h"), ("-addr=h", "host", "h"), ("-addr=", "host", ""),
    ("-name=a=b", "server_name", "a=b"), ("-n -x", "server_name", "-x"),
    ("-user u", "username", "u"), ("-pass p", "password", "p"), ("-auth t", "authorization", "t"),
    ("-D", "debug", True), ("-debug=F", "debug", False), ("-V", "trace", True), ("-T=false", "logtime", False),
    ("", "logtime", True), ("-logtime_utc", "logtime_utc", True), ("-s", "syslog", True),
    ("-m 1", "http_port", 1), ("-ms 2", "https_port", 2), ("-P f", "pid_file", "f"), ("-l f", "log_file", "f"),
    ("-log_size_limit 9223372036854775807", "log_size_limit", 9223372036854775807),
    ("-ports_file_dir d", "ports_file_dir", "d"), ("-client_advertise a:1", "client_advertise", "a:1"),
    ("-r udp://x:1", "remote_syslog", "udp://x:1"), ("-max_traced_msg_len 5", "max_traced_msg_len", 5),
    ("-js", "jetstream", True), ("-sd d", "store_dir", "d"), ("-profile 7", "prof_port", 7),
])  # fmt: skip
def test_a_flag_sets_its_option(args: str, field: str, value: object) -> None:
    assert getattr(options(args), field) == value


@pytest.mark.parametrize(("args", "debug", "trace", "verbose"), [
    ("-DV", True, True, False), ("-VV", False, True, True), ("-DVV", True, True, True),
    ("-DV=false -D", False, False, False), ("-VV=0 -V", False, False, False), ("-DV -DVV=false", False, False, False),
    ("-D -V", True, True, False),
])  # fmt: skip
def test_combined_log_flags(args: str, debug: bool, trace: bool, verbose: bool) -> None:
    opts = options(args)
    assert (opts.debug, opts.trace, opts.trace_verbose) == (debug, trace, verbose)


def test_the_file_holds_where_no_flag_is_given(config: Path) -> None:
    opts = options("", config)
    assert (opts.port, opts.server_name, opts.debug, opts.logtime) == (4333, "file", True, False)


@pytest.mark.parametrize(("args", "field", "value"), [
    ("-p 1", "port", 1), ("-a h", "host", "h"), ("-n flag", "server_name", "flag"), ("-m 9", "http_port", 9),
    ("-D=false", "debug", False), ("-V=false", "trace", False), ("-DV=false", "debug", False), ("-T", "logtime", True),
    ("-l flag.log", "log_file", "flag.log"), ("-l=", "log_file", ""), ("-P x", "pid_file", "x"),
    ("-user flag", "username", "flag"), ("-pass flag", "password", "flag"), ("-auth t", "authorization", "t"),
])  # fmt: skip
def test_a_flag_wins_over_the_file(config: Path, args: str, field: str, value: object) -> None:
    assert getattr(options(args, config), field) == value


def test_the_flags_are_kept_for_a_reload(config: Path) -> None:
    opts = options("-p 1 -D=false -n flag", config)
    config.write_text("port: 4444\ndebug: true\nserver_name: other\nmax_payload: 100\n")
    again = flags.read_again(opts)
    assert (again.port, again.debug, again.server_name, again.max_payload) == (1, False, "flag", 100)


def test_cluster_url() -> None:
    cluster = options("-cluster nats://u:p%40w@127.0.0.1:6222").cluster
    assert (cluster.host, cluster.port, cluster.username, cluster.password) == ("127.0.0.1", 6222, "u", "p@w")


def test_cluster_url_with_any_port() -> None:
    cluster = options("-cluster_listen nats://[::1]:-1").cluster
    assert (cluster.host, cluster.port, cluster.username) == ("::1", -1, "")


def test_an_empty_cluster_flag_turns_clustering_off(tmp_path: Path) -> None:
    path = tmp_path / "cluster.conf"
    path.write_text("cluster { listen: 127.0.0.1:6222 }\n")
    assert options("-cluster=", path).cluster.port == 0


def test_routes() -> None:
    routes = options("-cluster nats://127.0.0.1:-1 -routes nats://u:p@a:1,nats://b:2").routes
    assert [(route.username, route.host) for route in routes] == [("u", "a:1"), ("", "b:2")]


def test_a_route_that_is_no_url() -> None:
    with pytest.raises(ConfigError, match="error parsing route url"):
        options("-cluster nats://127.0.0.1:-1 -routes nats://a:b")


def test_tls_can_be_turned_off_by_flag() -> None:
    given, _ = goflag.parse(flags.KINDS, ["-tls=false", "-tlscert", "x"])
    opts = Options(tls_config=TLSConfigOpts())
    flags.apply(opts, given)
    assert opts.tls_config is None


def test_what_natsc_lacks_is_named() -> None:
    given, _ = goflag.parse(flags.KINDS, ["-js", "-profile", "0", "-D", "-no_advertise", "-cluster", "nats://h:1"])
    assert flags.unsupported(given) == ["-no_advertise", "-cluster"]


@pytest.mark.parametrize(("args", "shown"), [
    ("-user u -pass p -p 1", "-user [REDACTED] -pass [REDACTED] -p 1"),
    ("--auth=s3cret", "--auth=[REDACTED]"),
    ("-auth", "-auth"),
    ("-routes nats://u:p@a:1,nats://b:2/x@y", "-routes nats://[REDACTED]@a:1,nats://b:2/x@y"),
    ("--cluster=nats://u:p@a:-1", "--cluster=nats://[REDACTED]@a:-1"),
    ("---pass x", "---pass x"),
])  # fmt: skip
def test_secrets_are_not_shown(args: str, shown: str) -> None:
    assert flags.redact(args.split()) == shown.split()


def test_refused_directives_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "refused.conf"
    path.write_text("port: -1\n")

    def refuse(name: str, opts: Options) -> Options:
        opts.refused.extend(("operator", "trusted_keys"))
        return opts

    monkeypatch.setattr("natsc.config.process_config_file", refuse)
    assert cli.main(["-c", str(path)]) == 1
    assert "operator, trusted_keys" in capfd.readouterr().err
