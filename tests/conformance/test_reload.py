"""SIGHUP: what changes at once, whom it closes, what is refused, and what the log says of it."""

from __future__ import annotations

import signal
import ssl
import time

import bcrypt
import pytest

USERS = """
    http: 127.0.0.1:-1
    authorization { users [
        {user: a, password: "p", permissions {publish: "pub.>", subscribe: "sub.>"}}
        {user: b, password: "p"}
    ] }
"""


def login(dial, server, user, **options):
    return dial(server).ready(**{"user": user, "pass": "p", **options})


def texts(lines: list[str]) -> list[str]:
    return [line.split("] ", 2)[2] for line in lines if line.count("] ") >= 2]


class TestLog:
    def test_success(self, start):
        server = start("max_payload: 1KB\n")
        log = texts(server.reload("max_payload: 2KB\n"))
        assert log[0] == 'Trapped "hangup" signal'
        assert "Reloaded: max_payload = 2048" in log
        assert log[-1].startswith("Reloaded server configuration (sha256:")

    def test_nothing_changed(self, start):
        log = texts(start("").reload(""))
        assert set(log[1:-1]) <= {"Reloaded: authorization users", "Reloaded: accounts"}
        assert log[-1].startswith("Reloaded server configuration (sha256:")

    @pytest.mark.parametrize(
        ("before", "after", "line"),
        [
            ("", "max_connections: 10", "Reloaded: max_connections = 10"),
            ("", "max_control_line: 2048", "Reloaded: max_control_line = 2048"),
            ("", 'ping_interval: "1m"', "Reloaded: ping_interval = 1m0s"),
            ("", "ping_max: 5", "Reloaded: ping_max = 5"),
            ("", 'write_deadline: "3s"', "Reloaded: write_deadline = 3s"),
            ("", "debug: true", "Reloaded: debug = true"),
            ("", "trace: true", "Reloaded: trace = true"),
            ("debug: true", "debug: false", "Reloaded: debug = false"),
            ("", "max_traced_msg_len: 7", "Reloaded: max_traced_msg_len = 7"),
            ("", "client_advertise: example.com:1", "Reload: client_advertise = example.com:1"),
            ("", "authorization { token: t }", "Reloaded: authorization token"),
            ("", "authorization { user: u, password: p }", "Reloaded: authorization username"),
            ("", "authorization { user: u, password: p }", "Reloaded: authorization password"),
            ("", "authorization { users [{user: u, password: p}] }", "Reloaded: authorization users"),
            ("", "accounts { A { users [{user: u, password: p}] } }", "Reloaded: accounts"),
            ("", "no_fast_producer_stall: true", "Reloaded: fast producers will not be stalled"),
            ("", "authorization { timeout: 5 }", "Reloaded: authorization timeout"),
        ],
    )
    def test_what_changed(self, start, before, after, line):
        assert any(text.startswith(line) for text in texts(start(before + "\n").reload(after + "\n")))

    @pytest.mark.parametrize(
        ("before", "after", "text"),
        [
            ("", "server_name: other", "config reload not supported for ServerName: old=, new=other"),
            ("max_subscriptions: 5", "max_subscriptions: 6", "config reload not supported for MaxSubs: old=5, new=6"),
            ("", "max_pending: 10MB", "config reload not supported for MaxPending: old=67108864, new=10485760"),
            ("", "http_port: 1", "config reload not supported for HTTPPort: old=0, new=1"),
            ("", 'lame_duck_duration: "40s"', "config reload not supported for LameDuckDuration: old=2m0s, new=40s"),
            ("", "proxy_protocol: true", "config reload not supported for ProxyProtocol: old=false, new=true"),
            ("", "max_sub_tokens: 4", "config reload not supported for MaxSubTokens: old=0, new=4"),
            ("", "nonsense: 1", 'unknown field "nonsense"'),
            ("", "max_sub_tokens: x", "interface conversion: interface {} is string, not int64"),
        ],
    )
    def test_refused(self, start, before, after, text):
        server = start(before + "\n")
        log = texts(server.reload(after + "\nmax_payload: 1KB\n", r"Failed to reload server configuration: "))
        assert text in log[-1] and log[-1].startswith("Failed to reload server configuration: ")

    def test_refused_means_nothing_changed(self, start, dial):
        server = start("")
        server.reload("max_payload: 1KB\nserver_name: other\n", "Failed to reload")
        assert dial(server).info["max_payload"] == 1048576

    def test_reload_after_a_refusal(self, start, dial):
        server = start("")
        server.reload("nonsense: 1\n", "Failed to reload")
        server.reload("max_payload: 1KB\n")
        assert dial(server).info["max_payload"] == 1024

    def test_a_server_without_a_file_cannot_reload(self, start):
        server = start(None, "-a", "127.0.0.1", "-p", "-1")
        server.signal(signal.SIGHUP)
        server.wait_log(
            r"\[ERR\] Failed to reload server configuration: "
            r"can only reload config when a file is provided using -c or --config"
        )


class TestLimits:
    def test_max_payload_counts_at_once(self, start, dial):
        server = start("max_payload: 1KB\n")
        wire = dial(server).ready()
        server.reload("max_payload: 10\n")
        wire.lines("PUB foo 11")
        assert wire.eof() == [b"-ERR 'Maximum Payload Violation'"]

    def test_max_payload_sends_no_info(self, start, dial):
        server = start("max_payload: 1KB\n")
        wire = dial(server).connect(protocol=1).lines("PING")
        wire.op(), wire.read_info()
        server.reload("max_payload: 2KB\n")
        assert wire.flush() == []
        assert wire.pub("foo", b"x" * 2048).flush() == []
        assert dial(server).info["max_payload"] == 2048

    def test_max_connections_closes_the_surplus(self, start, dial):
        server = start("http: 127.0.0.1:-1\n")
        wires = [dial(server).ready() for _ in range(4)]
        server.reload("http: 127.0.0.1:-1\nmax_connections: 2\n")
        closed = 0
        for wire in wires:
            try:
                wire.flush()
            except (EOFError, OSError, AssertionError):
                closed += 1
        assert closed == 2
        assert server.varz()["connections"] == 2

    def test_max_connections_says_why(self, start, dial):
        server = start("")
        wire = dial(server).ready()
        server.reload("max_connections: 0\n")
        assert wire.eof() == [b"-ERR 'maximum connections exceeded'"]

    def test_max_control_line(self, start, dial):
        server = start("")
        wire = dial(server).ready()
        server.reload("max_control_line: 64\n")
        wire.sub("s" * 100)
        assert wire.eof() == [b"-ERR 'maximum control line exceeded'"]

    def test_ping_interval(self, start, dial):
        server = start("")
        server.reload('ping_interval: "50ms"\n')
        wire = dial(server).ready()
        wire.keep_pings = True
        assert wire.op() == b"PING"

    def test_config_load_time_and_digest(self, start):
        server = start("http: 127.0.0.1:-1\n")
        before = server.varz()
        server.reload("http: 127.0.0.1:-1\nmax_payload: 1KB\n")
        deadline = time.monotonic() + 5
        while (after := server.varz())["config_load_time"] == before[
            "config_load_time"
        ] and time.monotonic() < deadline:
            pass  # nats-server sets it after it logs
        assert after["config_load_time"] > before["config_load_time"]
        assert after["config_digest"] != before["config_digest"]
        assert after["max_payload"] == 1024


class TestServer:
    """What isn't about connections."""

    def test_lines_come_in_the_order_of_the_options(self, start, tmp_path):
        config = f"""
            server_tags: [a], write_deadline: "3s", pid_file: "{tmp_path / "pid"}", max_payload: 1KB
            ping_interval: "1m", max_connections: 10, client_advertise: "example.com:1", connect_error_reports: 3
        """
        lines = [text for text in texts(start("").reload(config)) if text.startswith("Reload")]
        assert lines[:-1] == [
            "Reload: client_advertise = example.com:1",
            "Reloaded: max_connections = 10",
            "Reloaded: authorization users",
            "Reloaded: accounts",
            "Reloaded: ping_interval = 1m0s",
            "Reloaded: max_payload = 1024",
            f"Reloaded: pid_file = {tmp_path / 'pid'}",
            "Reloaded: write_deadline = 3s",
            "Reloaded: connect_error_reports = 3",
            "Reloaded: tags",
        ]

    def test_the_first_refusal_is_told(self, start):
        log = texts(start("").reload("max_pending: 10MB\nserver_name: other\n", "Failed to reload"))
        assert log[-1].endswith("config reload not supported for ServerName: old=, new=other")

    def test_several_errors_take_several_lines(self, start):
        server = start("")
        server.reload("one: 1\ntwo: 2\n", r'unknown field "one"')
        server.wait_log(r'unknown field "two"$')
        assert "" not in server.log

    def test_a_port_of_its_own_choice_stays(self, start, dial):
        server = start("")
        for _ in range(2):
            server.reload("max_payload: 1KB\n")
            assert dial(server).info["port"] == server.port

    @pytest.mark.parametrize(
        ("advertise", "host", "port"),
        [("example.com:7", "example.com", 7), ("example.com", "example.com", None), ("[::1]:0", "::1", None)],
    )
    def test_client_advertise(self, start, dial, advertise, host, port):
        server = start("")
        server.reload(f'client_advertise: "{advertise}"\n')
        info = dial(server).info
        assert (info["host"], info["port"]) == (host, port or server.port)

    @pytest.mark.parametrize("advertise", ["a:b", "a:b:c", "[a"])
    def test_client_advertise_that_is_none(self, start, advertise):
        log = texts(start("").reload(f'client_advertise: "{advertise}"\n', "Failed to reload"))
        error = {
            "a:b": 'strconv.Atoi: parsing "b": invalid syntax',
            "a:b:c": "address a:b:c: too many colons in address",
            "[a": "address [a:0: missing ']' in address",
        }[advertise]
        assert log[-1].endswith(f"invalid ClientAdvertise value of {advertise}, err={error}")

    def test_pid_file(self, start, tmp_path):
        server = start("")
        server.reload(f'pid_file: "{tmp_path / "pid"}"\n')
        assert (tmp_path / "pid").read_text() == str(server.pid)

    def test_log_file(self, start, tmp_path):
        server = start("")
        mark = len(server.log)
        server.write_config(f'log_file: "{tmp_path / "log"}"\n')
        server.signal(signal.SIGHUP)
        server.wait_log(r"Reloaded: log_file = ", after=mark)
        deadline = time.monotonic() + 5
        while "Reloaded server configuration" not in (text := _read(tmp_path / "log")) and time.monotonic() < deadline:
            pass
        assert "Reloaded server configuration (sha256:" in text

    def test_tags_and_metadata(self, start):
        server = start("http: 127.0.0.1:-1\n")
        server.reload("http: 127.0.0.1:-1\nserver_tags: [x]\nserver_metadata { y: z }\n")
        assert (server.varz()["tags"], server.varz()["metadata"]) == (["x"], {"y": "z"})

    def test_flags_win(self, start):
        server = start("", "-D")
        server.reload("debug: false\nmax_payload: 1KB\n")
        assert not [text for text in texts(server.log) if text.startswith("Reloaded: debug")]

    def test_an_account_that_is_gone(self, start):
        server = start("http: 127.0.0.1:-1\naccounts { A { } }\n")
        assert "A" in server.get("/accountz").json()["accounts"]
        server.reload("http: 127.0.0.1:-1\n")
        assert "A" not in server.get("/accountz").json()["accounts"]

    def test_no_auth_user_stays_while_its_user_does(self, start):
        users = "authorization { users [{user: a, password: p}] }\n"
        log = texts(start("no_auth_user: a\n" + users).reload(users, "Failed to reload"))
        assert log[-1].endswith("config reload not supported for NoAuthUser: old=a, new=")


def _read(path):
    return path.read_text() if path.exists() else ""


class TestAccountLimits:
    CONFIG = "http: 127.0.0.1:-1\naccounts {{ A {{ limits {{ {} }}, users [{{user: a, password: p}}] }} }}\n"

    def test_connections(self, start, dial):
        server = start(self.CONFIG.format("max_connections: 3"))
        wires = [login(dial, server, "a") for _ in range(3)]
        server.reload(self.CONFIG.format("max_connections: 2"))
        assert server.varz()["connections"] == 2
        reasons = [entry["reason"] for entry in server.connz("state=closed")]
        assert reasons == ["Maximum Account Connections Exceeded"]
        assert len(wires) == 3

    def test_subscriptions(self, start, dial):
        server = start(self.CONFIG.format("max_subs: 3"))
        a = login(dial, server, "a").sub("x", 1).sub("y", 2).sub("z", 3)
        a.flush()
        server.reload(self.CONFIG.format("max_subs: 2"))
        assert a.eof() == [b"-ERR 'maximum subscriptions exceeded'"]
        assert server.closed(a.cid)["reason"] == "Maximum Subscriptions Exceeded"

    def test_as_many_subscriptions_as_allowed_are_too_many(self, start, dial):
        server = start(self.CONFIG.format("max_subs: 2"))
        a, b = login(dial, server, "a").sub("x", 1), login(dial, server, "a").sub("x", 1).sub("y", 2)
        a.flush(), b.flush()
        server.reload(self.CONFIG.format("max_subs: 2"))
        assert b.eof() == [b"-ERR 'maximum subscriptions exceeded'"]
        assert a.flush() == []

    def test_payload(self, start, dial):
        server = start(self.CONFIG.format("max_payload: 100"))
        a = login(dial, server, "a")
        server.reload(self.CONFIG.format("max_payload: 10"))
        a.lines("PUB foo 11")
        assert a.eof() == [b"-ERR 'Maximum Payload Violation'"]


class TestUsers:
    def test_unchanged_users_stay(self, start, dial):
        server = start(USERS)
        wire = login(dial, server, "b").sub("x")
        wire.flush()
        server.reload(USERS + "max_payload: 1KB\n")
        assert wire.pub("x").flush() == [b"MSG x 1 0\r\n"]

    @pytest.mark.parametrize("config", ["", 'authorization { user: u, password: "p" }\n'])
    def test_who_named_a_user_that_is_in_no_table_is_closed(self, start, dial, config):
        server = start("http: 127.0.0.1:-1\n" + config)
        wire = login(dial, server, "u")
        server.reload("http: 127.0.0.1:-1\n" + config)
        assert wire.eof() == []
        assert server.closed(wire.cid)["reason"] == "Client Closed"

    def test_who_has_not_sent_connect_is_refused(self, start, dial):
        server = start(USERS)
        wire = dial(server)
        server.reload(USERS)
        assert wire.eof() == [b"-ERR 'Authorization Violation'"]
        assert server.closed(wire.cid)["reason"] == "Authentication Failure"

    def test_a_removed_user_is_closed(self, start, dial):
        server = start(USERS)
        a, b = login(dial, server, "a"), login(dial, server, "b")
        server.reload('http: 127.0.0.1:-1\nauthorization { users [{user: b, password: "p"}] }\n')
        assert a.eof() == []
        assert b.flush() == []
        assert server.closed(a.cid)["reason"] == "Client Closed"

    def test_a_changed_password_closes(self, start, dial):
        server = start(USERS)
        b = login(dial, server, "b")
        server.reload(USERS.replace('{user: b, password: "p"}', '{user: b, password: "q"}'))
        assert b.eof() == [b"-ERR 'Authorization Violation'"]
        assert server.closed(b.cid)["reason"] == "Authentication Failure"
        server.wait_log(r'"\$G/user:b" - authentication error - User "b"$')
        assert dial(server).connect(user="b", **{"pass": "q"}).flush() == []

    @pytest.mark.parametrize("password", ["p", "q"])
    def test_a_hash_instead_of_a_password(self, start, dial, password):
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        server = start(USERS)
        b = login(dial, server, "b")
        server.reload(USERS.replace('{user: b, password: "p"}', f'{{user: b, password: "{hashed}"}}'))
        assert b.flush() == [] if password == "p" else b.eof() == [b"-ERR 'Authorization Violation'"]

    def test_a_new_user_may_come(self, start, dial):
        server = start(USERS)
        assert dial(server).connect(user="c", **{"pass": "p"}).eof() == [b"-ERR 'Authorization Violation'"]
        server.reload(USERS.replace("{user: b,", '{user: c, password: "p"}, {user: b,'))
        assert login(dial, server, "c").flush() == []

    def test_a_changed_token_closes(self, start, dial):
        server = start("authorization { token: one }")
        wire = dial(server).ready(auth_token="one")
        server.reload("authorization { token: two }")
        assert wire.eof() == [b"-ERR 'Authorization Violation'"]
        assert dial(server).connect(auth_token="two").flush() == []

    def test_authorization_taken_away(self, start, dial):
        server = start("authorization { token: one }")
        server.reload("")
        assert "auth_required" not in dial(server).info
        assert dial(server).connect().flush() == []

    def test_authorization_added(self, start, dial):
        server = start("")
        wire = dial(server).ready()
        server.reload("authorization { token: one }")
        assert dial(server).info["auth_required"] is True
        assert wire.eof() == [b"-ERR 'Authorization Violation'"]

    def test_an_account_added(self, start, dial):
        server = start('accounts { A { users [{user: a, password: "p"}] } }')
        a = login(dial, server, "a")
        server.reload('accounts { A { users [{user: a, password: "p"}] }, B { users [{user: b, password: "p"}] } }')
        assert a.flush() == []
        b = login(dial, server, "b").sub("x")
        b.flush()
        a.pub("x").flush()
        assert b.flush() == []

    def test_a_user_moved_to_another_account_is_closed(self, start, dial):
        server = start('accounts { A { users [{user: a, password: "p"}] }, B { users [{user: b, password: "p"}] } }')
        a = login(dial, server, "a")
        server.reload(
            'accounts { A { users [{user: z, password: "p"}] },'
            ' B { users [{user: b, password: "p"}, {user: a, password: "p"}] } }'
        )
        assert a.eof() == []


class TestPermissions:
    OTHER = USERS.replace('publish: "pub.>", subscribe: "sub.>"', 'publish: "neu.>", subscribe: "neu.>"')

    def test_publish(self, start, dial):
        server = start(USERS)
        a = login(dial, server, "a")
        assert a.pub("pub.x").flush() == []
        server.reload(self.OTHER)
        assert a.pub("neu.x").pub("pub.x").flush() == [b"-ERR 'Permissions Violation for Publish to \"pub.x\"'"]

    def test_subscriptions_no_longer_allowed_are_removed(self, start, dial):
        server = start(USERS)
        a, b = login(dial, server, "a").sub("sub.x", 1), login(dial, server, "b")
        a.flush()
        server.reload(self.OTHER)
        assert a.op() == b'-ERR \'Permissions Violation for Subscription to "sub.x" (sid "1")\''
        b.pub("sub.x").flush()
        assert a.flush() == []

    def test_with_a_queue(self, start, dial):
        server = start(USERS)
        a = login(dial, server, "a").sub("sub.x", 2, "grp")
        a.flush()
        server.reload(self.OTHER)
        assert a.op() == b'-ERR \'Permissions Violation for Subscription to "sub.x" using queue "grp" (sid "2")\''
        server.wait_log(r'Removed sub "sub.x" using queue "grp" \(sid "2"\) for User "a" - not authorized$')

    def test_allowed_subscriptions_stay(self, start, dial):
        server = start(USERS)
        a, b = login(dial, server, "a").sub("sub.x", 1).sub("sub.y", 2), login(dial, server, "b")
        a.flush()
        server.reload(USERS.replace('subscribe: "sub.>"', 'subscribe: "sub.y"'))
        a.op()
        b.pub("sub.x").pub("sub.y").flush()
        assert a.flush() == [b"MSG sub.y 2 0\r\n"]

    def test_permissions_taken_away(self, start, dial):
        server = start(USERS)
        a = login(dial, server, "a")
        server.reload(
            'http: 127.0.0.1:-1\nauthorization { users [ {user: a, password: "p"}, {user: b, password: "p"} ] }\n'
        )
        assert a.pub("anything").sub("anything").flush() == []

    def test_permissions_added(self, start, dial):
        server = start(USERS)
        b = login(dial, server, "b").sub("free")
        b.flush()
        server.reload(
            USERS.replace(
                '{user: b, password: "p"}', '{user: b, password: "p", permissions {publish: "b.>", subscribe: "b.>"}}'
            )
        )
        assert b.op() == b'-ERR \'Permissions Violation for Subscription to "free" (sid "1")\''
        assert b.pub("free").flush() == [b"-ERR 'Permissions Violation for Publish to \"free\"'"]


class TestTLS:
    def test_new_certificate_for_new_connections(self, start, dial, certificates):
        server = start(certificates.config())
        old = dial(server)
        old.start_tls(certificates.client_context())
        old.ready()
        server.reload(certificates.config(server="server-two"))
        new = dial(server)
        new.start_tls(certificates.client_context())
        assert int(new.sock.getpeercert()["serialNumber"], 16) == certificates.serial("server-two")
        assert old.flush() == []

    def test_same_path_new_file(self, start, dial, certificates, tmp_path):
        cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
        config = f'tls {{ cert_file: "{cert}", key_file: "{key}" }}\n'

        def put(name):
            cert.write_bytes(certificates.path(name).read_bytes())
            key.write_bytes(certificates.key_path(name).read_bytes())

        put("server")
        server = start(config)
        put("server-two")
        log = texts(server.reload(config))
        assert any(text.startswith("Reloaded: tls") for text in log)
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        assert int(wire.sock.getpeercert()["serialNumber"], 16) == certificates.serial("server-two")

    def test_a_bad_certificate_is_refused(self, start, dial, certificates):
        server = start(certificates.config())
        server.reload(
            'tls { cert_file: "/nonexistent.pem", key_file: "/nonexistent-key.pem" }\n',
            "Failed to reload server configuration",
        )
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        assert wire.connect().flush() == []

    def test_tls_added(self, start, dial, certificates):
        server = start("")
        plain = dial(server).ready()
        server.reload(certificates.config())
        wire = dial(server)
        assert wire.info["tls_required"] is True
        wire.start_tls(certificates.client_context())
        assert wire.connect().flush() == []
        assert plain.flush() == []

    def test_verify_added(self, start, dial, certificates):
        server = start(certificates.config(ca=True))
        server.reload(certificates.config("verify: true", ca=True))
        wire = dial(server)
        try:
            wire.start_tls(certificates.client_context())
            assert wire.connect().eof() == []
        except (ssl.SSLError, ConnectionError):
            pass

    def test_pinned_certs_close_who_is_not_pinned(self, start, dial, certificates):
        server = start(certificates.config("verify: true", ca=True))
        wires = {}
        for name in ("client", "client-two"):
            wires[name] = dial(server)
            wires[name].start_tls(certificates.client_context(name))
            wires[name].ready()
        server.reload(certificates.config(f'verify: true\npinned_certs: ["{certificates.pin("client")}"]', ca=True))
        assert wires["client-two"].eof() == []
        assert wires["client"].flush() == []
