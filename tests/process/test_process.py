"""Pid file, ports file, interface addresses, and which processes --signal reaches."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from natsc.server import interfaces, process

SELF = 4000

Proc = Callable[..., str]


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    """Makes a /proc of the given processes: pid -> command line."""

    def make(commands: dict[int, list[str]]) -> str:
        root = tmp_path / "proc"
        for pid, command in commands.items():
            (root / str(pid)).mkdir(parents=True)
            (root / str(pid) / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in command))
        (root / "sys").mkdir(parents=True, exist_ok=True)
        (root / "77").mkdir()  # gone before it could be read
        return str(root)

    return make


class Signals:
    """Takes signals instead of the system; some pids can't be signalled."""

    def __init__(self, **failing: OSError) -> None:
        self.sent: list[tuple[int, int]] = []
        self._failing = {int(pid[1:]): error for pid, error in failing.items()}

    def __call__(self, pid: int, number: int) -> None:
        if pid in self._failing:
            raise self._failing[pid]
        self.sent.append((pid, number))


def send(request: str, proc: str = "/nowhere", kill: Signals | None = None) -> list[tuple[int, int]]:
    kill = kill or Signals()
    process.signal_servers(request, proc=proc, kill=kill, own_pid=SELF)
    return kill.sent


# --- which processes


@pytest.mark.parametrize("command", [
    ["/usr/local/bin/nats-server", "-c", "x"], ["nats-server"], ["natsc", "-p", "1"],
    ["/usr/bin/python3", "/usr/local/bin/natsc", "-c", "x"], ["python3.11", "-I", "-X", "dev", "/opt/bin/nats-server"],
    ["/venv/bin/python", "-m", "natsc"], ["python", "-S", "-m", "natsc", "-p", "1"],
], ids=" ".join)  # fmt: skip
def test_a_server(proc: Proc, command: list[str]) -> None:
    assert process.server_pids(proc({5: command}), SELF) == [5]


@pytest.mark.parametrize("command", [
    ["vi", "nats-server"], ["/bin/sh", "/opt/bin/nats-server"], ["python", "-m", "pytest", "natsc"], ["python", "-m"],
    ["python", "-c", "import natsc", "natsc"], ["python"], ["python", "app.py", "natsc"], ["nats-server-exporter"], [],
], ids=" ".join)  # fmt: skip
def test_no_server(proc: Proc, command: list[str]) -> None:
    assert process.server_pids(proc({5: command}), SELF) == []


def test_the_asking_process_is_left_out(proc: Proc) -> None:
    assert process.server_pids(proc({5: ["natsc"], SELF: ["natsc"]}), SELF) == [5]


# --- requests


@pytest.mark.parametrize(("command", "number"), [
    ("stop", 9), ("quit", 2), ("term", 15), ("reopen", 10), ("reload", 1), ("ldm", 12),
])  # fmt: skip
def test_a_command_reaches_the_only_server(proc: Proc, command: str, number: int) -> None:
    assert send(command, proc({5: ["natsc"], 6: ["bash"]})) == [(5, number)]


def test_a_pid_needs_no_search() -> None:
    assert send("reload=123") == [(123, 1)]


def test_a_pid_file(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("123")
    assert send(f"reload={tmp_path / 'pid'}") == [(123, 1)]


def test_a_pid_file_with_more_than_a_pid(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("123\n")
    with pytest.raises(process.SignalError, match=r"^invalid pid: 123\n$"):
        send(f"reload={tmp_path / 'pid'}")


def test_a_glob(proc: Proc) -> None:
    servers = proc({12: ["natsc"], 120: ["nats-server"], 13: ["natsc"], 1200: ["bash"]})
    assert send("quit=12*", servers) == [(12, 2), (120, 2)]


def test_every_server(proc: Proc) -> None:
    assert send("quit=*", proc({12: ["natsc"], 13: ["natsc"]})) == [(12, 2), (13, 2)]


@pytest.mark.parametrize("request_text", ["quit", "quit=", "bogus"])
def test_no_server_is_running(proc: Proc, request_text: str) -> None:
    with pytest.raises(process.SignalError, match=r"^no nats-server processes running$"):
        send(request_text, proc({5: ["bash"]}))


def test_several_servers_are_running(proc: Proc) -> None:
    with pytest.raises(process.SignalError, match=r"^multiple nats-server processes running:\n12\n13$"):
        send("quit", proc({13: ["natsc"], 12: ["nats-server"]}))


@pytest.mark.parametrize("pid", ["x", "1x", "0x1", "-1", "0", "-0", "99999999999999999999", " 1"])
def test_what_is_no_pid(pid: str) -> None:
    with pytest.raises(process.SignalError, match=f"^invalid pid: {re.escape(pid)}$"):
        send(f"quit={pid}")


def test_no_list_of_processes() -> None:
    with pytest.raises(process.SignalError, match=r"^unable to resolve pid, try providing one$"):
        send("quit")


def test_failures_are_told_one_a_line(proc: Proc) -> None:
    kill = Signals(p12=ProcessLookupError(3, "No such process"), p13=PermissionError(1, "Operation not permitted"))
    servers = proc({12: ["natsc"], 13: ["natsc"], 14: ["natsc"]})
    with pytest.raises(process.SignalError) as failed:
        send("ldm=*", servers, kill)
    assert str(failed.value) == '\nsignal "ldm" 12: no such process\nsignal "ldm" 13: operation not permitted'
    assert kill.sent == [(14, 12)]


# --- files


def test_pid_file(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("something longer than a pid")
    path.unlink()
    process.write_pid_file(str(path))
    assert path.read_text() == str(os.getpid())
    assert path.stat().st_mode & 0o777 == 0o600


def test_pid_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("something longer than a pid")
    process.write_pid_file(str(path))
    assert path.read_text() == str(os.getpid())


def test_pid_file_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "no" / "pid"
    with pytest.raises(process.FileError, match=f"^open {path}: no such file or directory$"):
        process.write_pid_file(str(path))


def test_ports_file(tmp_path: Path) -> None:
    ports = {"nats": ["nats://127.0.0.1:1"], "monitoring": [], "cluster": ["nats://127.0.0.1:2"]}
    path = Path(process.write_ports_file(str(tmp_path), ports))
    assert path == tmp_path / f"nats-server_{os.getpid()}.ports"
    assert path.read_text() == '{"nats":["nats://127.0.0.1:1"],"cluster":["nats://127.0.0.1:2"]}'
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    process.remove_ports_file(str(tmp_path))
    assert not path.exists()


def test_ports_file_that_cannot_be_written(tmp_path: Path) -> None:
    directory = tmp_path / "no"
    path = directory / f"nats-server_{os.getpid()}.ports"
    with pytest.raises(process.FileError, match=f"^open {path}: no such file or directory$"):
        process.write_ports_file(str(directory), {})


def test_ports_file_that_has_gone(tmp_path: Path) -> None:
    path = tmp_path / f"nats-server_{os.getpid()}.ports"
    with pytest.raises(process.FileError, match=f"^remove {path}: no such file or directory$"):
        process.remove_ports_file(str(tmp_path))


# --- addresses


def test_a_bound_address_is_its_own_url() -> None:
    assert process.listener_urls("tls", "127.0.0.1", 4222) == ["tls://127.0.0.1:4222"]
    assert process.listener_urls("nats", "::1", 4222) == ["nats://[::1]:4222"]


def test_an_unspecified_address_is_every_interface() -> None:
    urls = process.listener_urls("nats", "0.0.0.0", 4222)
    assert "nats://127.0.0.1:4222" in urls
    assert len(urls) == len(interfaces.interface_addresses())


def test_without_a_list_of_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refuse)
    assert process.listener_urls("nats", "0.0.0.0", 4222) == ["nats://0.0.0.0:4222"]


def test_interfaces_are_those_of_nats_server(nats_server: str, tmp_path: Path) -> None:
    command = [nats_server, "-a", "0.0.0.0", "-p", "-1", "-ports_file_dir", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            path = tmp_path / f"nats-server_{server.pid}.ports"
            deadline = time.monotonic() + 10
            while not (path.exists() and path.read_text()):
                assert time.monotonic() < deadline
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(0.01)
                    raise AssertionError("nats-server ended")
            urls = json.loads(path.read_text())["nats"]
        finally:
            server.kill()
            server.communicate(timeout=10)
    port = int(urls[0].rpartition(":")[2])
    assert process.listener_urls("nats", "0.0.0.0", port) == urls


def test_a_server_run_by_the_interpreter_has_a_name() -> None:
    program = (
        "from natsc.server.process import set_process_name; set_process_name(); print(open('/proc/self/comm').read())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=10, check=True)
    assert done.stdout.strip() == "natsc"
