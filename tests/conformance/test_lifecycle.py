"""Start, log lines, signals, files, listeners, lame duck, stop."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time

import pytest

from .harness import Server, Wire, server_command

LINE = re.compile(r"^\[(\d+)\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} \[(INF|WRN|ERR|FTL|DBG|TRC)\] (.*)$")


def texts(log: list[str]) -> list[str]:
    """The log without pid, time and level."""
    return [match[3] for line in log if (match := LINE.match(line))]


def path_exists(path, timeout: float = 10) -> bool:
    deadline = time.monotonic() + timeout
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class TestStartLog:
    def test_every_line_has_the_form(self, server):
        for line in server.log:
            if line:
                match = LINE.match(line)
                assert match and int(match[1]) == server.pid, line

    def test_the_order(self, start, dial):
        server = start("http: 127.0.0.1:-1\n")
        server_id = dial(server).info["server_id"]
        got = [
            re.sub(r"\(sha256:[0-9a-f]{64}\)", "(sha256:X)", text)
            for text in texts(server.log)
            if not text.startswith("  Git:")
        ]
        assert got == [
            "Starting nats-server",
            "  Version:  2.15.1",
            f"  Name:     {server_id}",
            f"  ID:       {server_id}",
            f"Using configuration file: {server.config_path} (sha256:X)",
            f"Starting http monitor on 127.0.0.1:{server.http_port}",
            f"Listening for client connections on 127.0.0.1:{server.port}",
            "Server is ready",
        ]

    def test_the_name(self, shared_server):
        assert "  Name:     bee" in texts(shared_server("server_name: bee").log)

    def test_without_timestamps(self, start):
        server = start("", "-T=false")
        assert f"[{server.pid}] [INF] Server is ready" in server.log

    def test_logtime_in_the_file(self, start):
        server = start("logtime: false")
        assert f"[{server.pid}] [INF] Server is ready" in server.log

    def test_tls_is_mentioned(self, start, certificates):
        assert "TLS required for client connections" in texts(start(certificates.config()).log)

    def test_log_file(self, start, tmp_path):
        log = tmp_path / "server.log"
        ports = tmp_path / "ports"
        ports.mkdir()
        server = start(f'log_file: "{log}"\nports_file_dir: "{ports}"\n', wait=False)
        assert path_exists(ports / f"nats-server_{server.pid}.ports") or list(ports.iterdir())
        assert texts(log.read_text().splitlines())[0] == "Starting nats-server"

    def test_reopen(self, start, tmp_path):
        log = tmp_path / "server.log"
        server = start(f'log_file: "{log}"\nports_file_dir: "{tmp_path}"\n', wait=False)
        assert path_exists(tmp_path / f"nats-server_{server.pid}.ports") or list(tmp_path.glob("*.ports"))
        log.rename(tmp_path / "old.log")
        server.signal(signal.SIGUSR1)
        assert path_exists(log)

    def test_busy_port(self, start, server_kind):
        first = start()
        other = start("", "-a", "127.0.0.1", "-p", str(first.port), wait=False)
        assert other.wait() == 1
        last = other.log[-2] if other.log[-1] == "" else other.log[-1]
        assert LINE.match(last)[2] == "FTL"
        assert LINE.match(last)[3] == (
            f"Error listening on port: 127.0.0.1:{first.port}, "
            f'"listen tcp 127.0.0.1:{first.port}: bind: address already in use"'
        )

    def test_bad_client_advertise(self, start):
        server = start('client_advertise: "a:b"\n', wait=False)
        assert server.wait() == 1
        text = (
            'Error setting server INFO with ClientAdvertise value of a:b, err=strconv.Atoi: parsing "b": invalid syntax'
        )
        assert text in texts(server.log)

    def test_bad_configuration(self, start):
        server = start("nonsense: true\n", wait=False)
        assert server.wait() == 1
        assert server.log[0] == f'nats-server: {server.config_path}:2:1: unknown field "nonsense"'


class TestClientLog:
    """Debug and trace lines of connections."""

    @pytest.fixture
    def loud(self, start):
        return start("debug: true\ntrace: true\n")

    @staticmethod
    def of(server: Server, wire: Wire) -> list[str]:
        """The lines of this connection, without its address."""
        wire.close()
        server.wait_log(rf"cid:{wire.cid} - .*Client connection closed")
        return [text.split(f"cid:{wire.cid} - ", 1)[1] for text in texts(server.log) if f"cid:{wire.cid} - " in text]

    def test_trace(self, loud, dial):
        wire = dial(loud).lines('CONNECT {"verbose":false,"pedantic":false,"headers":true}')
        wire.sub("foo", 1).pub("foo", "hi").hpub("foo", b"NATS/1.0\r\nA: b\r\n\r\n", b"x", reply="inbox").lines(
            "UNSUB 1"
        )
        wire.flush()
        lines = self.of(loud, wire)
        assert lines == [
            "Client connection created",
            '<<- [CONNECT {"verbose":false,"pedantic":false,"headers":true}]',
            "<<- [SUB foo 1]",
            "<<- [PUB foo 2]",
            '<<- MSG_PAYLOAD: ["hi"]',
            "->> [MSG foo 1 2]",
            '->> MSG_PAYLOAD: ["hi"]',
            "<<- [HPUB foo inbox 18 19]",
            '<<- MSG_PAYLOAD: ["NATS/1.0\\r\\nA: b\\r\\n\\r\\nx"]',
            "->> [HMSG foo 1 inbox 18 19]",
            '->> MSG_PAYLOAD: ["NATS/1.0\\r\\nA: b\\r\\n\\r\\nx"]',
            "<<- [UNSUB 1]",
            "<-> [DELSUB 1]",
            "<<- [PING]",
            "->> [PONG]",
            "Client connection closed: Client Closed",
        ]

    def test_errors_and_ok(self, loud, dial):
        wire = dial(loud).lines("CONNECT {}", "SUB a..b 1", "PING")
        wire.until_pong()
        lines = self.of(loud, wire)
        assert "->> [OK]" in lines
        assert "->> [-ERR Invalid Subject]" in lines

    @pytest.mark.parametrize(
        ("body", "shown"),
        [
            ('{"user":"u","pass":"hunter2"}', '{"user":"u","pass":"[REDACTED]"}'),
            ('{"sig":"hunter2", "nkey": "hunter2"}', '{"sig":"[REDACTED]", "nkey": "[REDACTED]"}'),
            ('{"auth_token":"hunter2","verbose":false}', '{"auth_token":"[REDACTED]","verbose":false}'),
        ],
    )
    def test_secrets_are_not_traced(self, loud, dial, body, shown):
        wire = dial(loud).lines("CONNECT " + body, "PING")
        wire.until_pong()
        assert f"<<- [CONNECT {shown}]" in self.of(loud, wire)

    def test_name_and_version(self, loud, dial):
        wire = dial(loud).ready(name="bee", lang="py", version="1.0")
        assert '"v1.0:py:bee" - Client connection closed: Client Closed' in self.of(loud, wire)

    @pytest.mark.parametrize(
        ("options", "shown"),
        [
            ({"user": "u"}, '"$G/user:u" - '),
            ({"name": "n"}, '"n" - '),
            ({"version": "1"}, '"v1" - '),
            ({"name": "n", "user": "u"}, '"n" - "$G/user:u" - '),
            ({"lang": "py"}, '"py" - '),
        ],
    )
    def test_who_it_is(self, loud, dial, options, shown):
        assert f"{shown}Client connection closed: Client Closed" in self.of(loud, dial(loud).ready(**options))

    def test_auto_unsubscribe(self, loud, dial):
        wire = dial(loud).ready().sub("foo", 2, "q").lines("UNSUB 2 1").pub("foo", "x")
        wire.flush()
        lines = self.of(loud, wire)
        assert lines[lines.index("<<- [UNSUB 2 1]") :][:6] == [
            "<<- [UNSUB 2 1]",
            "<<- [PUB foo 1]",
            '<<- MSG_PAYLOAD: ["x"]',
            "Auto-unsubscribe limit of 1 reached for sid '2'",
            "->> [MSG foo 2 1]",
            '->> MSG_PAYLOAD: ["x"]',
        ]

    def test_err_from_a_client(self, loud, dial):
        wire = dial(loud).ready().lines("-ERR 'x y'")
        wire.eof()
        assert "Client Error 'x y'" in self.of(loud, wire)

    def test_max_traced_msg_len(self, start, dial):
        server = start("trace: true\nmax_traced_msg_len: 5\n")
        wire = dial(server).ready().pub("foo", "0123456789")
        wire.flush()
        server.wait_log(r'<<- MSG_PAYLOAD: \["01234\.\.\."\]$')

    def test_quiet_by_default(self, start, dial):
        server = start()
        wire = dial(server).ready().sub("foo").pub("foo")
        wire.flush()
        wire.close()
        assert not [text for text in texts(server.log) if "cid:" in text]


class TestStop:
    @pytest.mark.parametrize(
        ("number", "name"), [(signal.SIGINT, "interrupt"), (signal.SIGTERM, "terminated")], ids=["SIGINT", "SIGTERM"]
    )
    def test_signal(self, start, dial, number, name):
        server = start("debug: true\n")
        wire = dial(server).ready()
        server.signal(number)
        assert wire.eof() == []
        assert server.wait() == 0
        log = texts(server.log)
        assert f'Trapped "{name}" signal' in log
        assert [text for text in log if text in ("Initiating Shutdown...", "Server Exiting..")] == [
            "Initiating Shutdown...",
            "Server Exiting..",
        ]

    def test_the_port_is_free_again(self, start):
        server = start()
        port = server.port
        server.signal(signal.SIGINT)
        server.wait()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)

    def test_while_messages_wait(self, start, dial):
        server = start('write_deadline: "1s"\n')
        slow, fast = dial(server).ready().sub("s"), dial(server).ready()
        slow.flush()
        for _ in range(100):
            fast.pub("s", b"x" * 100_000)
        fast.flush()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


class TestFiles:
    def test_pid_file(self, start, tmp_path):
        path = tmp_path / "pid"
        server = start(f'pid_file: "{path}"\n')
        assert path.read_text() == str(server.pid)

    def test_ports_file(self, start, tmp_path, server_kind):
        server = start(f'http: 127.0.0.1:-1\nports_file_dir: "{tmp_path}"\n')
        path = tmp_path / f"nats-server_{server.pid}.ports"
        assert path_exists(path), list(tmp_path.iterdir())
        deadline = time.monotonic() + 5
        while not (text := path.read_text()) and time.monotonic() < deadline:
            pass
        assert json.loads(text) == {
            "nats": [f"nats://127.0.0.1:{server.port}"],
            "monitoring": [f"http://127.0.0.1:{server.http_port}"],
        }
        server.signal(signal.SIGINT)
        server.wait()
        assert not path.exists()


class TestListeners:
    def test_all_addresses(self, start):
        server = start("listen: 0.0.0.0:-1\n", base="")
        assert f"Listening for client connections on 0.0.0.0:{server.port}" in texts(server.log)
        for host in ("127.0.0.1", "localhost"):
            with Wire(server, host) as wire:
                assert wire.info["host"] == "0.0.0.0"

    def test_all_addresses_reach_ipv6(self, start):
        server = start("listen: 0.0.0.0:-1\n", base="")
        with Wire(server, "::1") as wire:
            assert wire.info["client_ip"] == "::1"

    def test_ipv4_clients_show_as_ipv4(self, start):
        server = start("listen: 0.0.0.0:-1\n", base="")
        with Wire(server, "127.0.0.1") as wire:
            assert wire.info["client_ip"] == "127.0.0.1"

    def test_ipv6_only(self, start):
        server = start('listen: "[::1]:-1"\n', base="")
        with Wire(server, "::1") as wire:
            assert wire.ready().flush() == []
        assert any(re.fullmatch(r"Listening for client connections on \[::1\]:\d+", text) for text in texts(server.log))

    def test_localhost(self, start):
        server = start("listen: localhost:-1\n", base="")
        with Wire(server, "localhost") as wire:
            assert wire.info["host"] == "localhost"

    def test_the_default_host_is_all(self, start):
        server = start("port: -1\n", base="")
        with Wire(server) as wire:
            assert wire.info["host"] == "0.0.0.0"

    def test_flags_win_over_the_file(self, start):
        server = start("listen: 0.0.0.0:1\n", "-a", "127.0.0.1", "-p", "-1", base="")
        with Wire(server) as wire:
            assert wire.info["host"] == "127.0.0.1"

    def test_no_configuration_file(self, start):
        server = start(None, "-a", "127.0.0.1", "-p", "-1")
        with Wire(server) as wire:
            assert wire.ready().flush() == []


class TestLameDuck:
    CONFIG = 'lame_duck_duration: 30s\nlame_duck_grace_period: "1ms"\n'

    def test_new_connections_are_refused(self, start, dial):
        server = start(self.CONFIG)
        port = server.port
        wire = dial(server).connect(protocol=1).lines("PING")
        wire.op(), wire.read_info()
        server.signal(signal.SIGUSR2)
        assert wire.read_info()["ldm"] is True
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
        server.signal(signal.SIGINT)  # SIGTERM is ignored now

    def test_the_info(self, start, dial):
        server = start(self.CONFIG)
        wire = dial(server).connect(protocol=1).lines("PING")
        first = wire.info
        wire.op(), wire.read_info()
        server.signal(signal.SIGUSR2)
        assert wire.read_info() == {**first, "ldm": True}
        server.signal(signal.SIGINT)  # SIGTERM is ignored now

    def test_no_info_for_protocol_0(self, start, dial):
        server = start("lame_duck_duration: 40s\nlame_duck_grace_period: 30s\n")
        wire = dial(server).ready()
        server.signal(signal.SIGUSR2)
        server.wait_log("Entering lame duck mode")
        assert wire.flush() == []
        server.signal(signal.SIGINT)  # SIGTERM is ignored now

    def test_no_info_before_the_first_pong(self, start, dial):
        server = start("trace: true\nlame_duck_duration: 40s\nlame_duck_grace_period: 30s\n")
        wire = dial(server).connect(protocol=1).sub("x")
        server.wait_log(r"<<- \[SUB x 1\]$")
        server.signal(signal.SIGUSR2)
        server.wait_log("Entering lame duck mode")
        wire.lines("PING")
        assert wire.op() == b"PONG"
        server.signal(signal.SIGINT)  # SIGTERM is ignored now

    def test_several_clients_are_closed_one_after_the_other(self, start, dial):
        server = start(self.CONFIG)
        wires = [dial(server).ready() for _ in range(3)]
        server.signal(signal.SIGUSR2)
        begun = time.monotonic()
        assert [wire.eof() for wire in wires] == [[]] * 3
        assert server.wait() == 0
        assert 0.9 <= time.monotonic() - begun <= 4

    def test_a_second_signal_changes_nothing(self, start, dial):
        server = start("lame_duck_duration: 40s\nlame_duck_grace_period: 30s\n")
        wire = dial(server).ready()
        server.signal(signal.SIGUSR2)
        server.wait_log("Entering lame duck mode")
        mark = len(server.log)
        server.signal(signal.SIGUSR2)
        server.wait_log("user defined signal 2", after=mark)
        assert wire.flush() == []
        assert [text for text in texts(server.log) if text.startswith("Entering lame")] == [
            "Entering lame duck mode, stop accepting new clients"
        ]
        server.signal(signal.SIGINT)  # SIGTERM is ignored now

    def test_the_log(self, start, dial):
        server = start(self.CONFIG)
        dial(server).ready()
        server.signal(signal.SIGUSR2)
        server.wait_log("Closing existing clients")
        log = texts(server.log)
        wanted = [
            'Trapped "user defined signal 2" signal',
            "Entering lame duck mode, stop accepting new clients",
            "Closing existing clients",
        ]
        assert [text for text in log if text in wanted] == wanted

    def test_clients_are_closed_within_a_second_each(self, start, dial):
        server = start(self.CONFIG)
        wire = dial(server).ready()
        server.signal(signal.SIGUSR2)
        assert wire.eof() == []
        assert server.wait() == 0
        assert texts(server.log)[-2:] == ["Initiating Shutdown...", "Server Exiting.."]

    def test_without_clients_it_stops_at_once(self, start):
        server = start(self.CONFIG)
        server.signal(signal.SIGUSR2)
        assert server.wait() == 0

    def test_sigterm_is_ignored_meanwhile_and_sigint_is_not(self, start, dial):
        server = start("lame_duck_duration: 40s\nlame_duck_grace_period: 30s\n")
        wire = dial(server).ready()
        server.signal(signal.SIGUSR2)
        server.wait_log("Entering lame duck mode")
        server.signal(signal.SIGTERM)
        server.wait_log('Trapped "terminated" signal')
        assert wire.flush() == []
        server.signal(signal.SIGINT)
        assert wire.eof() == []
        assert server.wait() == 0


class TestCommandLine:
    def test_version(self, server_kind):
        done = subprocess.run(
            [*server_command(server_kind), "-v"], capture_output=True, text=True, timeout=20, check=False
        )
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, "nats-server: v2.15.1")

    def test_help_names_the_program(self, server_kind):
        done = subprocess.run(
            [*server_command(server_kind), "--help"], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == 0
        assert "Usage: nats-server [options]" in done.stdout + done.stderr

    def test_configuration_check(self, server_kind, tmp_path):
        path = tmp_path / "server.conf"
        path.write_text("port: 4222\n")
        done = subprocess.run(
            [*server_command(server_kind), "-t", "-c", str(path)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0
        assert re.fullmatch(
            rf"nats-server: configuration file {re.escape(str(path))} is valid \(sha256:[0-9a-f]{{64}}\)\n", done.stderr
        ), done.stderr
