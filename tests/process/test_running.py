"""A server process seen from outside: its files, its signals, its log. Each test runs against natsc and nats-server."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import natsc as natsc_package

TIMEOUT_S = 15.0
# The package under test, whatever directory a server runs in.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(natsc_package.__file__).parent.parent)}

Start = Callable[..., "Running"]


class Running:
    """A server process that logs to `log_file`, ready when made."""

    def __init__(self, command: list[str], directory: Path, *args: str) -> None:
        self.log_file = directory / "server.log"
        self.command = command
        self.process = subprocess.Popen(
            [*command, "-a", "127.0.0.1", "-p", "-1", "-l", str(self.log_file), *args], cwd=directory,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT,
        )  # fmt: skip
        self.wait_for("Server is ready")

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """Everything logged so far, also what was rotated away."""
        files = sorted(self.log_file.parent.glob(self.log_file.name + ".*"))
        return "".join(file.read_text() for file in [*files, self.log_file] if file.exists())

    def wait_for(self, text: str, path: Path | None = None) -> None:
        """Until the log, or the file at `path`, holds `text`."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in (self.log() if path is None else path.read_text() if path.exists() else ""):
            assert time.monotonic() < deadline, f"no {text!r} in {path or 'the log'}:\n{self.log()}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.01)
                raise AssertionError(f"ended: {self.process.communicate()[1]!r}\n{self.log()}")

    def ended(self) -> int:
        return self.process.wait(TIMEOUT_S)

    def ask(self, *args: str) -> subprocess.CompletedProcess[bytes]:
        """Runs the same command with other arguments."""
        return subprocess.run(
            [*self.command, *args], check=False, capture_output=True, timeout=TIMEOUT_S, env=ENVIRONMENT
        )


@pytest.fixture(params=["natsc", "nats-server"])
def start(request: pytest.FixtureRequest, nats_server: str, tmp_path: Path) -> Iterator[Start]:
    command = [nats_server] if request.param == "nats-server" else [sys.executable, "-m", "natsc"]
    running: list[Running] = []

    def run(*args: str) -> Running:
        running.append(Running(command, tmp_path, *args))
        return running[-1]

    yield run
    for server in running:
        server.process.kill()
        server.process.communicate(timeout=TIMEOUT_S)


@pytest.mark.parametrize(("number", "text"), [(signal.SIGINT, "interrupt"), (signal.SIGTERM, "terminated")])
def test_shutdown_by_signal(start: Start, number: int, text: str) -> None:
    server = start()
    os.kill(server.pid, number)
    assert server.ended() == 0
    tail = [re.sub(r".*\[INF\] ", "", line) for line in server.log().splitlines()]
    assert tail[-3:] == [f'Trapped "{text}" signal', "Initiating Shutdown...", "Server Exiting.."]


def test_pid_file(start: Start, tmp_path: Path) -> None:
    server = start("-P", str(tmp_path / "pid"))
    assert (tmp_path / "pid").read_text() == str(server.pid)


def test_ports_file_comes_and_goes(start: Start, tmp_path: Path) -> None:
    server = start("-ports_file_dir", str(tmp_path), "-m", "-1")
    path = tmp_path / f"nats-server_{server.pid}.ports"
    server.wait_for("}", path)
    ports = json.loads(path.read_text())
    client = re.search(r"Listening for client connections on (\S+)", server.log())
    monitor = re.search(r"Starting http monitor on (\S+)", server.log())
    assert client and monitor
    assert ports == {"nats": [f"nats://{client[1]}"], "monitoring": [f"http://{monitor[1]}"]}
    os.kill(server.pid, signal.SIGTERM)
    assert server.ended() == 0
    assert not path.exists()


def test_the_log_file_is_reopened(start: Start, tmp_path: Path) -> None:
    server = start()
    server.log_file.rename(tmp_path / "old.log")
    os.kill(server.pid, signal.SIGUSR1)
    server.wait_for("[INF] File log re-opened")
    assert 'Trapped "user defined signal 1" signal' in (tmp_path / "old.log").read_text()


@pytest.mark.parametrize("through_file", [False, True])
def test_a_signal_by_command(start: Start, tmp_path: Path, through_file: bool) -> None:
    path = tmp_path / "pid"
    server = start("-P", str(path))
    done = server.ask("--signal", f"term={path if through_file else server.pid}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert server.ended() == 0


def test_reload_by_command(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("max_payload: 1024\n")
    server = start("-c", str(path))
    path.write_text("max_payload: 2048\n")
    server.ask("--signal", f"reload={server.pid}")
    server.wait_for("Reloaded server configuration")
    assert 'Trapped "hangup" signal' in server.log() and "[INF] Reloaded: max_payload = 2048" in server.log()


def test_a_failed_reload_changes_nothing(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("max_payload: 1024\n")
    server = start("-c", str(path))
    path.write_text("max_payload: many\n")
    server.ask("--signal", f"reload={server.pid}")
    server.wait_for("[ERR] Failed to reload server configuration: ")
    assert server.process.poll() is None


def test_flags_survive_a_reload(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("debug: false\nmax_payload: 1024\n")
    server = start("-c", str(path), "-D")
    path.write_text("debug: false\nmax_payload: 2048\n")
    server.ask("--signal", f"reload={server.pid}")
    server.wait_for("Reloaded server configuration")
    assert "Reloaded: debug" not in server.log()


def test_lame_duck_by_command(start: Start, tmp_path: Path) -> None:
    server = start()
    server.ask("--signal", f"ldm={server.pid}")
    assert server.ended() == 0
    assert "Entering lame duck mode, stop accepting new clients" in server.log()


def test_log_rotation(start: Start, tmp_path: Path) -> None:
    server = start("-log_size_limit", "200")
    backups = [path for path in tmp_path.iterdir() if path.name.startswith("server.log.")]
    assert backups
    assert all(re.fullmatch(r"server\.log\.\d{4}(\.\d\d){5}\.\d{9}", path.name) for path in backups)
    assert "[INF] Rotated log, backup saved as " in server.log()


def test_a_port_in_use(start: Start, tmp_path: Path) -> None:
    server = start()
    match = re.search(r"Listening for client connections on (\S+):(\d+)", server.log())
    assert match
    done = server.ask("-a", match[1], "-p", match[2])
    assert done.returncode == 1
    address = f"{match[1]}:{match[2]}"
    text = f'[FTL] Error listening on port: {address}, "listen tcp {address}: bind: address already in use"'
    assert done.stderr.decode().splitlines()[-1].endswith(text)


def test_a_pid_file_that_cannot_be_written(start: Start, tmp_path: Path) -> None:
    done = start().ask("-a", "127.0.0.1", "-p", "-1", "-P", str(tmp_path / "no" / "pid"))
    assert done.returncode == 1
    text = f"[FTL] Could not write pidfile: open {tmp_path / 'no' / 'pid'}: no such file or directory"
    assert done.stderr.decode().splitlines()[-1].endswith(text)
