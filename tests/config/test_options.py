"""What the directives set, the defaults, and what natsc says it can't do."""

from __future__ import annotations

from pathlib import Path

import pytest

from natsc.config import ConfigError, Options, process_config_file, process_config_string, set_baseline_options
from natsc.config.options import MINUTE, SECOND, Account, Permissions, ResponsePermission, SubjectPermission, User

ISSUER = "ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA"
NKEY = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_baseline() -> None:
    opts = Options()
    set_baseline_options(opts)
    assert (opts.host, opts.port, opts.http_host, opts.http_port) == ("0.0.0.0", 4222, "0.0.0.0", 0)
    assert (opts.max_conn, opts.max_control_line) == (65536, 4096)
    assert (opts.max_payload, opts.max_pending) == (1 << 20, 64 << 20)
    assert (opts.ping_interval, opts.max_pings_out, opts.write_deadline) == (2 * MINUTE, 2, 10 * SECOND)
    assert (opts.lame_duck_duration, opts.lame_duck_grace_period) == (2 * MINUTE, 10 * SECOND)
    assert (opts.auth_timeout, opts.tls_timeout, opts.max_closed_clients) == (2.0, 2.0, 10_000)
    assert opts.logtime


def test_any_port_becomes_0() -> None:
    opts = process_config_string("port: -1")
    set_baseline_options(opts)
    assert opts.port == 0


def test_simple_directives() -> None:
    opts = process_config_string(
        """
        listen: "127.0.0.1:5222"
        server_name: n
        max_payload: 2kb
        max_connections: 0
        ping_interval: "30s"
        write_deadline: "1m"
        lame_duck_duration: "1m"
        debug: true
        trace_verbose: on
        logtime: false
        server_tags: [A, " b ", a]
        server_metadata { K: v }
        http: 8222
        """
    )
    assert (opts.host, opts.port, opts.server_name, opts.http_port) == ("127.0.0.1", 5222, "n", 8222)
    assert (opts.max_payload, opts.max_conn) == (2048, -1)
    assert (opts.ping_interval, opts.write_deadline, opts.lame_duck_duration) == (30 * SECOND, MINUTE, MINUTE)
    assert (opts.debug, opts.trace, opts.trace_verbose, opts.logtime) == (True, True, True, False)
    assert (opts.tags, opts.metadata) == (["a", "b"], {"K": "v"})
    assert opts.in_config == {"Debug": True, "TraceVerbose": True, "Trace": True, "Logtime": False}


def test_the_file_goes_over_given_options() -> None:
    opts = process_config_string("port: 5", Options(port=6, debug=True))
    assert (opts.port, opts.debug) == (5, True)


def test_file_name_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("port: 16001\n")
    opts = process_config_file(str(path))
    assert opts.config_file == str(path)
    assert opts.config_digest == "sha256:f7b216923dd8cd0ef3494246dddac44241a49125abcb155961e603a7f6296ffa"


def test_warnings_do_not_stop_a_server() -> None:
    opts = process_config_string("ping_interval: 5")
    assert opts.ping_interval == 5 * SECOND
    text = 'invalid use of field "ping_interval": ping_interval should be converted to a duration'
    assert opts.warnings == [f":1:0: {text}"]


def test_all_errors_are_told_after_the_warnings() -> None:
    with pytest.raises(ConfigError) as raised:
        process_config_string('port: "x"\nping_interval: 5\nnonesuch: 1')
    assert [line.split(": ", 1)[0] for line in str(raised.value).splitlines()] == [":2:1", ":1:0", ":3:1"]


def test_single_user_and_token() -> None:
    opts = process_config_string("authorization { user: a, password: b, timeout: 5 }")
    assert (opts.username, opts.password, opts.auth_timeout, opts.auth_block_defined) == ("a", "b", 5.0, True)
    assert process_config_string("authorization { token: t }").authorization == "t"


def test_users_with_permissions() -> None:
    opts = process_config_string(
        """
        authorization {
          default_permissions { publish: "d.>" }
          users: [
            { user: a, password: b, permissions { publish { allow: ["x", "y"], deny: "z" }, subscribe: "s q" } }
            { user: c, password: d }
            { user: e, permissions { allow_responses { max: 5, expires: "1s" } } }
          ]
        }
        """
    )
    a, c, e = opts.users
    assert a.permissions == Permissions(
        publish=SubjectPermission(allow=["x", "y"], deny=["z"]), subscribe=SubjectPermission(allow=["s q"])
    )
    assert c.permissions == Permissions(publish=SubjectPermission(allow=["d.>"]))
    assert e.permissions == Permissions(
        publish=SubjectPermission(allow=[]), response=ResponsePermission(max_msgs=5, expires=SECOND)
    )


def test_accounts() -> None:
    opts = process_config_string(
        """
        accounts {
          A { users: [{ user: a, password: b }], limits { max_conn: 3, max_payload: 1kb } }
          B { default_permissions { subscribe: "x" }, users: [{ user: c }] }
        }
        """
    )
    a, b = opts.accounts
    assert (a.name, b.name) == ("A", "B")
    assert (a.limits.max_connections, a.limits.max_subscriptions, a.limits.max_payload) == (3, -1, 1024)
    assert opts.users[0].account is a
    assert a.users == [opts.users[0]]
    assert opts.users[1].permissions == Permissions(subscribe=SubjectPermission(allow=["x"]))


def test_a_list_of_accounts() -> None:
    assert [account.name for account in process_config_string("accounts: [A, B]").accounts] == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cluster {}", "cluster"),
        ("gateway {}", "gateway"),
        ("leafnodes {}", "leafnodes"),
        ("mqtt {}", "mqtt"),
    ],
)
def test_what_natsc_lacks_is_named(text: str, name: str) -> None:
    opts = process_config_string(text)
    assert opts.unsupported == [name]
    assert opts.refused == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ocsp: true", "ocsp"),
        ("ocsp {mode: must}", "ocsp"),
        ("tls {ocsp_peer: true}", "ocsp_peer"),
        ("jetstream {tpm {keys_file: f}}", "jetstream tpm"),
    ],
)
def test_what_protects_and_cannot_be_enforced_is_refused(text: str, name: str) -> None:
    assert process_config_string(text).refused == [name]


@pytest.mark.parametrize("text", ["ocsp: false", "ocsp {mode: never}", "tls {ocsp_peer: false}", "jetstream: false"])
def test_what_is_switched_off_is_not_refused(text: str) -> None:
    opts = process_config_string(text)
    assert (opts.refused, opts.unsupported) == ([], [])


def test_options_do_not_show_secrets() -> None:
    opts = process_config_string("authorization { user: a, password: hunter2 }\njetstream {key: hunter3}")
    assert "hunter" not in repr(opts)


def test_copies_are_equal_and_apart() -> None:
    opts = process_config_string("accounts {A {users: [{user: a}]}}\nserver_tags: [a]")
    copy = opts.copy()
    assert copy == opts
    copy.tags.append("b")
    copy.users.append(User(username="b"))
    assert copy != opts
    assert (opts.tags, len(opts.users)) == (["a"], 1)


def test_accounts_differ_by_what_they_hold() -> None:
    one, other = Account("A"), Account("A")
    assert one == other
    other.limits.max_connections = 5
    assert one != other
