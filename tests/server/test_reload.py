"""A changed configuration: what is refused, what is logged, what connections notice."""

from __future__ import annotations

import asyncio

import bcrypt
import pytest

from natsc.config import Options
from natsc.server import reload as reload_module
from natsc.server.reload import ReloadError, reload_from_file
from natsc.server.reload_fields import FIELDS, NOT_COMPARED, differences, go_text

from .bench import options

ALWAYS = ["Reloaded: authorization users", "Reloaded: accounts"]
USERS = """authorization { users [
    {user: a, password: "p", permissions {publish: "pub.>", subscribe: "sub.>"}}
    {user: b, password: "p"}
] }
"""
VIOLATION = "-ERR 'Authorization Violation'"


def changed(log: list[str]) -> list[str]:
    """The lines between those that every reload logs."""
    assert log[-1].startswith("Reloaded server configuration ")
    return [text for text in log[:-1] if text not in ALWAYS]


class TestTable:
    def test_every_option_is_in_it(self):
        assert {field for field, _, _ in FIELDS} | NOT_COMPARED == set(Options.__slots__)

    def test_once(self):
        fields = [field for field, _, _ in FIELDS]
        assert len(fields) == len(set(fields))
        assert not set(fields) & NOT_COMPARED

    def test_nothing_changed(self):
        assert differences(options(USERS), options(USERS)) == [("users", ALWAYS[0]), ("accounts", ALWAYS[1])]

    @pytest.mark.parametrize(
        ("field", "value", "text"),
        [
            ("max_subs", 5, "5"),
            ("auth_timeout", 2.5, "2.5"),
            ("auth_timeout", 2.0, "2"),
            ("debug", True, "true"),
            ("ping_interval", 90_000_000_000, "1m30s"),
            ("auth_callout", None, "<nil>"),
            ("tags", ["a", "b"], "[a b]"),
            ("feature_flags", {"y": True, "x": False}, "map[x:false y:true]"),
            ("tls_pinned_certs", {"ab"}, "map[ab:{}]"),
            ("password", "hunter2", "[REDACTED]"),
            ("password", "", ""),
        ],
    )
    def test_values_read_as_in_go(self, field, value, text):
        assert go_text(field, value) == text

    def test_nested_secrets_are_not_shown(self):
        websocket = options("").websocket
        websocket.password = "hunter2"
        assert "hunter2" not in go_text("websocket", websocket)


class TestLog:
    @pytest.mark.parametrize(
        ("config", "lines"),
        [
            ("", []),
            ("max_connections: 10", ["Reloaded: max_connections = 10"]),
            ('ping_interval: "1m"', ["Reloaded: ping_interval = 1m0s"]),
            ("max_payload: 2KB", ["Reloaded: max_payload = 2048"]),
            ("client_advertise: 'a:1'", ["Reload: client_advertise = a:1"]),
            ("no_fast_producer_stall: true", ["Reloaded: fast producers will not be stalled"]),
            ("authorization { token: t }", ["Reloaded: authorization token"]),
            ("authorization { timeout: 5 }", ["Reloaded: authorization timeout = 5"]),
            ("server_tags: [x]", ["Reloaded: tags"]),
            ("server_metadata { x: y }", ["Reloaded: metadata"]),
            ("connect_error_reports: 7", ["Reloaded: connect_error_reports = 7"]),
            ("log_format: json", ["Reloaded: log_format = json"]),
            ("debug: true\nclient_advertise: 'a:1'", ["Reload: client_advertise = a:1", "Reloaded: debug = true"]),
        ],
    )
    def test_what_changed(self, bench, config, lines):
        assert changed(bench().reload(config)) == lines

    def test_unsupported_directives_are_named_once(self, bench):
        made = bench()
        made.reload("jetstream: true")
        assert changed(made.reload("jetstream: true\nmax_payload: 1KB")) == ["Reloaded: max_payload = 1024"]

    @pytest.mark.parametrize("config", ["debug: true", "trace: true", "logtime: false", "log_format: json"])
    def test_the_log_follows(self, bench, config):
        made = bench()
        made.reload(config)
        assert made.log.reconfigured == [made.server.options]

    def test_the_log_is_left_alone_otherwise(self, bench):
        made = bench()
        made.reload("max_payload: 1KB")
        assert made.log.reconfigured == []


class TestRefused:
    @pytest.mark.parametrize(
        ("before", "after", "text"),
        [
            ("", "server_name: x", "config reload not supported for ServerName: old=, new=x"),
            ("port: 1234", "port: 1235", "config reload not supported for Port: old=1234, new=1235"),
            ("port: -1", "port: 1235", "config reload not supported for Port: old=4321, new=1235"),
            ("host: localhost", "host: other", "config reload not supported for Host: old=localhost, new=other"),
            ("", "http_port: 1", "config reload not supported for HTTPPort: old=0, new=1"),
            ("max_subs: 5", "max_subs: 6", "config reload not supported for MaxSubs: old=5, new=6"),
            ("", "max_pending: 10MB", "config reload not supported for MaxPending: old=67108864, new=10485760"),
            ("", 'lame_duck_duration: "40s"', "config reload not supported for LameDuckDuration: old=2m0s, new=40s"),
            ("", "max_payload: 100MB", "max_payload (104857600) cannot be higher than max_pending (67108864)"),
            ("", "system_account: A\naccounts { A {} }", "config reload not supported for SystemAccount: old=, new=A"),
            ("", "leafnodes { port: -1 }", 'config reload not supported for LeafNode: field "Host": old=, new=0.0.0.0'),
            ("", "cluster { port: -1 }", "config reload not supported for cluster host: old=, new=0.0.0.0"),
            (
                "feature_flags { a: true }", "feature_flags { a: false }",
                "config reload not supported for FeatureFlags: old=map[a:true], new=map[a:false]",
            ),
        ],
    )  # fmt: skip
    def test_texts(self, bench, before, after, text):
        made = bench(before)
        with pytest.raises(ReloadError) as caught:
            made.reload(after)
        assert str(caught.value) == text

    def test_the_first_in_order_is_told(self, bench):
        with pytest.raises(ReloadError, match="for ServerName"):
            bench().reload("max_pending: 10MB\nserver_name: x")

    def test_nothing_has_changed(self, bench):
        made = bench()
        before, load_ns = made.server.options, made.server.config_load_ns
        made.server.clock.advance(1)
        peer = made.login()
        with pytest.raises(ReloadError):
            made.reload("max_payload: 1KB\nmax_connections: 0\nauthorization { token: t }\nserver_name: x")
        assert made.server.options is before
        assert made.server.config_load_ns == load_ns
        assert (peer.reason, peer.client.max_payload, made.server.info["max_payload"]) == ("", 1 << 20, 1 << 20)
        assert made.log.texts() == []

    def test_what_natsc_cannot_enforce(self, bench):
        made = bench()
        with pytest.raises(ReloadError, match="natsc cannot enforce yet: ocsp"):
            made.reload("ocsp: true\nauthorization { token: t }")
        assert not made.server.auth.auth_required

    def test_a_log_that_cannot_be_opened(self, bench):
        made = bench()
        made.log.unusable = "error opening file: no"
        with pytest.raises(ReloadError, match="error opening file: no"):
            made.reload("debug: true")
        assert not made.server.options.debug

    @pytest.mark.parametrize(
        ("after", "refused"),
        [
            ("authorization { users [{user: a, password: p}, {user: b, password: p}] }", True),
            ("no_auth_user: b\nauthorization { users [{user: a, password: p}, {user: b, password: p}] }", True),
            ("authorization { users [{user: b, password: p}] }", False),
        ],
    )
    def test_no_auth_user_goes_with_its_user_alone(self, bench, after, refused):
        made = bench("no_auth_user: a\nauthorization { users [{user: a, password: p}, {user: b, password: p}] }")
        if refused:
            with pytest.raises(ReloadError, match=r"config reload not supported for NoAuthUser: old=a, new=b?$"):
                made.reload(after)
        else:
            made.reload(after)


class TestFile:
    @pytest.fixture
    def running(self, bench, tmp_path):
        made = bench()
        path = tmp_path / "server.conf"
        path.write_text("")
        made.server.options.config_file = str(path)
        made.path = path
        return made

    def test_is_read_again(self, running):
        running.path.write_text("max_payload: 1KB\n")
        assert reload_from_file(running.server)
        assert running.server.options.max_payload == 1024
        assert running.server.options.config_digest.startswith("sha256:")

    def test_flags_win(self, running):
        running.server.options.in_cmdline = {"debug": True}
        running.server.options.debug = True
        running.path.write_text("debug: false\nmax_payload: 1KB\n")
        assert reload_from_file(running.server)
        assert running.server.options.debug
        assert running.server.options.in_cmdline == {"debug": True}

    @pytest.mark.parametrize(
        ("config", "text"),
        [("\nnonsense: 1", ':2:1: unknown field "nonsense"'), ("server_name: x", "for ServerName: old=, new=x")],
    )
    def test_failures_are_logged(self, running, config, text):
        running.path.write_text(config)
        assert not reload_from_file(running.server)
        (line,) = running.log.texts()
        assert line.startswith("Failed to reload server configuration: ")
        assert line.endswith(text)

    def test_none_was_given(self, bench):
        made = bench()
        assert not reload_from_file(made.server)
        (line,) = made.log.texts("error")
        assert line.endswith("can only reload config when a file is provided using -c or --config")


class TestWhatIsTakenOver:
    def test_the_port_that_was_found(self, bench):
        made = bench("port: -1")
        for _ in range(2):
            made.reload("port: -1")
            assert (made.server.options.port, made.server.info["port"]) == (4321, 4321)

    def test_the_time(self, bench):
        made = bench()
        made.server.clock.advance(5)
        made.reload("")
        assert made.server.config_load_ns == made.server.clock.wall_ns() > made.server.start_ns

    def test_info(self, bench):
        made = bench()
        made.reload("max_payload: 1KB\nclient_advertise: 'example.com'\nauthorization { token: t }")
        info = made.server.info
        assert (info["max_payload"], info["host"], info["port"], info["auth_required"]) == (
            1024,
            "example.com",
            4321,
            True,
        )
        assert b'"host":"example.com"' in made.server.info_line(made.peer().client)

    def test_no_info_for_those_who_are_there(self, bench):
        made = bench()
        peer = made.login(protocol=1)
        made.reload("max_payload: 1KB\nclient_advertise: 'example.com'")
        assert peer.hears() == []

    def test_max_payload(self, bench):
        made = bench()
        peer = made.login()
        made.reload("max_payload: 1KB")
        assert peer.say("PUB a 1025").reason == "Maximum Message Payload Exceeded"

    def test_max_control_line(self, bench):
        made = bench()
        peer = made.login()
        made.reload("max_control_line: 64")
        assert peer.say("SUB " + "s" * 100 + " 1").reason == "Maximum Control Line Exceeded"

    def test_write_deadline_in_the_log(self, bench):
        made = bench()
        made.reload('write_deadline: "3s"')
        assert made.listener.write_deadline_text == "3s"

    def test_the_youngest_connections_above_max_connections_are_closed(self, bench):
        made = bench()
        peers = [made.login() for _ in range(4)]
        log = made.reload("max_connections: 2")
        assert [peer.reason for peer in peers] == ["", "", *["Maximum Connections Exceeded"] * 2]
        assert peers[3].hears() == ["-ERR 'maximum connections exceeded'"]
        assert changed(log)[1:] == [
            "Closed 2 connections to fall within max_connections",
            "Reloaded: max_connections = 2",
        ]
        assert changed(log)[0].endswith(" - maximum connections exceeded - Account:$G")

    def test_pid_file(self, bench, tmp_path):
        path = tmp_path / "pid"
        bench().reload(f"pid_file: '{path}'")
        assert path.read_text().isdigit()

    def test_a_pid_file_that_cannot_be_written(self, bench, tmp_path):
        log = bench().reload(f"pid_file: '{tmp_path}/none/pid'")
        assert changed(log)[0].startswith("Failed to write pidfile: open ")

    def test_the_ports_file_moves(self, bench, tmp_path):
        made = bench()
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            made.reload(f"ports_file_dir: '{tmp_path / name}'")
        assert (list((tmp_path / "one").iterdir()), len(list((tmp_path / "two").iterdir()))) == ([], 1)
        made.reload("")
        assert list((tmp_path / "two").iterdir()) == []


class TestAccounts:
    ONE = "accounts {{ A {{ limits {{ {} }}, users [{{user: a, password: p}}] }} }}"

    def test_gone(self, bench):
        made = bench(self.ONE.format("max_subs: 3"))
        peer = made.login("a")
        made.reload("")
        assert (peer.hears(), peer.reason) == ([], "Client Closed")
        assert made.server.gone_accounts == {"A"}
        made.reload(self.ONE.format("max_subs: 3"))
        assert made.server.gone_accounts == set()

    def test_a_user_that_moved(self, bench):
        made = bench("accounts { A { users [{user: a, password: p}] }, B { } }")
        peer = made.login("a")
        made.reload("accounts { A { }, B { users [{user: a, password: p}] } }")
        assert (peer.hears(), peer.reason) == ([], "Client Closed")
        assert made.login("a").client.account.name == "B"

    def test_fewer_connections(self, bench):
        made = bench(self.ONE.format("max_connections: 3"))
        peers = [made.login("a") for _ in range(3)]
        made.reload(self.ONE.format("max_connections: 2"))
        assert [peer.reason for peer in peers] == ["", "", "Maximum Account Connections Exceeded"]
        assert peers[2].hears() == ["-ERR 'maximum account active connections exceeded'"]

    def test_fewer_subscriptions(self, bench):
        made = bench(self.ONE.format("max_subs: 3"))
        full, half = made.login("a").say("SUB a 1", "SUB b 2", "SUB c 3"), made.login("a").say("SUB a 1")
        made.reload(self.ONE.format("max_subs: 2"))
        assert (full.reason, half.reason) == ("Maximum Subscriptions Exceeded", "")
        assert full.hears() == ["-ERR 'maximum subscriptions exceeded'"]

    def test_as_many_subscriptions_as_allowed_are_too_many_for_a_reload(self, bench):
        config = self.ONE.format("max_subs: 2")
        made = bench(config)
        full = made.login("a").say("SUB a 1", "SUB b 2")
        made.reload(config)
        assert full.reason == "Maximum Subscriptions Exceeded"

    def test_a_smaller_payload(self, bench):
        made = bench(self.ONE.format("max_payload: 100"))
        peer = made.login("a")
        made.reload(self.ONE.format("max_payload: 10"))
        assert peer.say("PUB a 11").reason == "Maximum Message Payload Exceeded"

    def test_limits_taken_away(self, bench):
        made = bench(self.ONE.format("max_payload: 100"))
        peer = made.login("a")
        made.reload("accounts { A { users [{user: a, password: p}] } }")
        assert peer.client.max_payload == 1 << 20


class TestAuthentication:
    @pytest.mark.parametrize(
        ("config", "user", "reason"),
        [
            (USERS, "a", ""),
            ("", "", ""),
            ("authorization { user: a, password: p }", "a", "Client Closed"),
            ("", "a", "Client Closed"),
        ],
    )
    def test_unchanged_it_closes_those_who_named_a_user_that_no_table_has(self, bench, config, user, reason):
        made = bench(config)
        peer = made.login(user)
        made.reload(config + "\nmax_payload: 1KB")
        assert (peer.reason, peer.hears()) == (reason, [])

    @pytest.mark.parametrize("config", ["authorization { user: a, password: p }", ""])
    def test_those_can_be_spared(self, bench, config):
        made = bench(config)
        peer = made.login("a")
        made.reload(config, everyone=False)
        assert (peer.reason, peer.hears()) == ("", [])

    @pytest.mark.parametrize("after", ["authorization { token: t }", USERS, "authorization { user: x, password: y }"])
    def test_switched_on(self, bench, after):
        made = bench()
        peer = made.login()
        made.reload(after)
        assert (peer.hears(), peer.reason) == ([VIOLATION], "Authentication Failure")

    def test_switched_off(self, bench):
        made = bench("authorization { token: t }")
        peer = made.login(auth_token="t")
        made.reload("")
        assert peer.say("PING").hears() == ["PONG"]

    def test_another_token(self, bench):
        made = bench("authorization { token: t }")
        peer = made.login(auth_token="t")
        made.reload("authorization { token: u }")
        assert (peer.hears(), peer.reason) == ([VIOLATION], "Authentication Failure")
        (line,) = made.log.texts("error")
        assert line.endswith(' - authentication error - Token "[REDACTED]"')

    def test_another_password(self, bench):
        made = bench(USERS)
        a, b = made.login("a"), made.login("b")
        made.reload(USERS.replace('b, password: "p"', 'b, password: "q"'))
        assert (a.reason, b.reason) == ("", "Authentication Failure")
        assert b.hears() == [VIOLATION]

    def test_a_user_that_is_gone(self, bench):
        made = bench(USERS)
        a, b = made.login("a"), made.login("b")
        made.reload("authorization { users [{user: b, password: p}] }")
        assert (a.reason, b.reason) == ("Client Closed", "")
        assert a.hears() == []

    @pytest.mark.parametrize("after", [USERS, "authorization { token: t }"])
    def test_who_has_not_sent_connect_is_refused(self, bench, after):
        made = bench(USERS)
        peer = made.peer()
        made.reload(after)
        assert (peer.hears(), peer.reason) == ([VIOLATION], "Authentication Failure")

    def test_who_has_not_sent_connect_can_be_spared(self, bench):
        made = bench(USERS)
        old, new = made.peer(), made.peer()
        made.reload('authorization { users [{user: c, password: "p"}] }', everyone=False)
        assert (old.reason, new.reason) == ("", "")
        assert old.say('CONNECT {"user":"a","pass":"p","verbose":false}').hears() == [VIOLATION]
        assert new.say('CONNECT {"user":"c","pass":"p","verbose":false}', "PING").hears() == ["PONG"]

    def test_who_needed_no_connect_is_refused(self, bench):
        made = bench()
        peer = made.peer().say("SUB a 1")
        peer.hears()
        made.reload(USERS)
        assert (peer.hears(), peer.reason) == ([VIOLATION], "Authentication Failure")

    def test_connections_that_are_still_opening_are_left_alone(self, bench):
        made = bench()
        peer = made.peer()
        peer.client.conn.stage = object()
        made.reload(USERS)
        assert (peer.hears(), peer.reason) == ([], "")


class TestHashes:
    @staticmethod
    def users(password):
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        return f"authorization {{ users [{{user: a, password: '{hashed}'}}] }}"

    @staticmethod
    def reload_and_wait(made, config, meanwhile=None):
        async def run():
            made.reload(config)
            if meanwhile is not None:
                meanwhile()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*tasks)

        made.server.loop.run_until_complete(run())

    @pytest.mark.parametrize(("password", "reason"), [("p", ""), ("q", "Authentication Failure")])
    def test_compared_on_a_thread(self, bench, password, reason):
        made = bench('authorization { users [{user: a, password: "p"}] }')
        peer = made.login("a")
        self.reload_and_wait(made, self.users(password), lambda: assert_open(peer))
        assert peer.reason == reason

    def test_a_second_reload_meanwhile_counts(self, bench):
        made = bench('authorization { users [{user: a, password: "p"}] }')
        peer = made.login("a")
        self.reload_and_wait(made, self.users("q"), lambda: made.reload(self.users("p")))
        assert peer.reason == ""

    def test_an_unchanged_hash_is_not_compared(self, bench, monkeypatch):
        made = bench('authorization { users [{user: a, password: "p"}] }')
        peer = made.login("a")
        config = self.users("p")
        self.reload_and_wait(made, config)
        monkeypatch.setattr(bcrypt, "checkpw", lambda *_: pytest.fail("compared"))
        self.reload_and_wait(made, config + "\nmax_payload: 1KB")
        assert peer.reason == ""


def assert_open(peer):
    assert peer.reason == ""


class TestPermissions:
    def test_publish(self, bench):
        made = bench(USERS)
        peer = made.login("a")
        made.reload(USERS.replace("pub.>", "other.>"))
        assert peer.say("PUB other.x 0", "", "PUB pub.x 0", "").hears() == [
            "-ERR 'Permissions Violation for Publish to \"pub.x\"'"
        ]

    def test_subscriptions_that_are_not_allowed_any_more(self, bench):
        made = bench(USERS)
        peer = made.login("a").say("SUB sub.x 1", "SUB sub.y q 2", "SUB sub.z 3")
        log = made.reload(USERS.replace("sub.>", "sub.z"))
        said = ['"sub.x" (sid "1")', '"sub.y" using queue "q" (sid "2")']
        assert sorted(peer.hears()) == [f"-ERR 'Permissions Violation for Subscription to {what}'" for what in said]
        assert sorted(changed(log)) == [f'Removed sub {what} for User "a" - not authorized' for what in said]
        assert [sid for _, _, sid, *_ in peer.client.subscriptions()] == [b"3"]

    def test_given(self, bench):
        made = bench(USERS)
        peer = made.login("b").say("SUB free 1")
        made.reload(USERS.replace('b, password: "p"', 'b, password: "p", permissions {subscribe: "b.>"}'))
        assert peer.hears() == ['-ERR \'Permissions Violation for Subscription to "free" (sid "1")\'']

    def test_taken_away(self, bench):
        made = bench(USERS)
        peer = made.login("a")
        made.reload("authorization { users [{user: a, password: p}, {user: b, password: p}] }")
        assert peer.say("SUB anything 1", "PUB anything 0", "").hears() == ["MSG anything 1 0", ""]

    def test_of_others_leave_a_connection_as_it_is(self, bench):
        made = bench(USERS)
        peer = made.login("b")
        before = peer.client.grant
        made.reload(USERS.replace("pub.>", "other.>"))
        assert peer.client.grant is before


class TestPinnedCertificates:
    class TLS:
        def __init__(self, key):
            self.key = key

        def peer_certs(self):
            return []

        def require_pinned(self, pinned, debug):
            from natsc.net.tls import TLSError

            if self.key not in pinned:
                raise TLSError("certificate not pinned")

    def test_who_is_not_among_them_is_closed(self, bench):
        made = bench()
        peers = [made.login() for _ in range(3)]
        for peer, key in zip(peers, ("aa", "bb"), strict=False):
            peer.client.conn.tls = self.TLS(key)
        made.server.options.tls_pinned_certs = {"aa"}
        reload_module._close_unpinned(made.server)
        assert [peer.reason for peer in peers] == ["", "TLS Handshake Failure", ""]
        assert made.log.texts() == ["Disconnect 1 clients due to pinned certs reload"]

    def test_none_pinned_any_more(self, bench):
        made = bench()
        peer = made.login()
        peer.client.conn.tls = self.TLS("bb")
        made.server.options.tls_pinned_certs = None
        reload_module._close_unpinned(made.server)
        assert peer.reason == ""
