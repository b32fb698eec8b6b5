"""Log lines and where they go."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from natsc.config import ConfigError, Options, process_config_file
from natsc.server.log import Log, LogError
from natsc.server.log_sinks import StderrSink

STAMP = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6}"
PID = rf"\[{os.getpid()}\]"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def file_options(path: Path, **fields: object) -> Options:
    return Options(log_file=str(path), **fields)


@pytest.mark.parametrize(("method", "label"), [
    ("notice", "INF"), ("warn", "WRN"), ("error", "ERR"), ("debug", "DBG"), ("trace", "TRC"),
])  # fmt: skip
def test_a_line_on_stderr(capfd: pytest.CaptureFixture[str], method: str, label: str) -> None:
    getattr(Log(Options(debug=True, trace=True)), method)("Server is ready")
    assert re.fullmatch(rf"{PID} {STAMP} \[{label}\] Server is ready\n", capfd.readouterr().err)


def test_the_same_line_as_nats_server(nats_server: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = [nats_server, "-p", "70000", "-P", str(tmp_path / "pid")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    Log(Options()).notice("Starting nats-server")
    ours, theirs = capfd.readouterr().err, done.stderr.splitlines(keepends=True)[0]
    assert re.sub(r"\d", "0", re.sub(r"\[\d+\]", "[]", ours)) == re.sub(r"\d", "0", re.sub(r"\[\d+\]", "[]", theirs))


def test_without_time(capfd: pytest.CaptureFixture[str]) -> None:
    Log(Options(logtime=False)).notice("x")
    assert re.fullmatch(rf"{PID} \[INF\] x\n", capfd.readouterr().err)


def test_time_in_utc(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_123_456_789)
    Log(Options(logtime_utc=True)).notice("x")
    assert "2001/09/09 01:46:40.123456 [INF] x" in capfd.readouterr().err


def test_debug_and_trace_are_off_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(Options())
    log.debug("x")
    log.trace("x")
    assert capfd.readouterr().err == ""
    assert not (log.debug_on or log.trace_on or log.trace_system_on)


def test_fatal_ends_the_process_with_1(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Log(Options()).fatal("no more")
    assert ended.value.code == 1
    assert "[FTL] no more\n" in capfd.readouterr().err


def test_bytes_of_a_peer_pass_through(tmp_path: Path) -> None:
    log = Log(file_options(tmp_path / "a.log"))
    log.notice(b"\xff\xc3\xa9".decode("utf-8", "surrogateescape"))
    log.notice("\ud800")
    first, second = (tmp_path / "a.log").read_bytes().splitlines()
    assert first.endswith(b"[INF] \xff\xc3\xa9") and second.endswith(b"[INF] ?")


def test_colours_on_a_terminal() -> None:
    parent, child = os.openpty()
    program = "from natsc.config import Options; from natsc.server.log import Log; Log(Options()).warn('x')"
    subprocess.run([sys.executable, "-c", program], stderr=child, timeout=10, check=True)
    os.close(child)
    assert b" [\x1b[0;93mWRN\x1b[0m] x\r\n" in os.read(parent, 4096)
    os.close(parent)


def test_the_same_text_once_a_second(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(Options())
    now = [10**12]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    for _ in range(3):
        log.warn_once("x")
        log.error_once("y")
    now[0] += 1_000_000_000
    log.warn_once("x")
    assert [line[-3:] for line in capfd.readouterr().err.splitlines()] == ["] x", "] y", "] x"]


# --- file


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n")
    Log(file_options(path)).notice("x")
    assert lines(path)[0] == "before"
    assert re.fullmatch(rf"{PID} {STAMP} \[INF\] x", lines(path)[1])


def test_a_file_is_not_for_everybody(tmp_path: Path) -> None:
    Log(file_options(tmp_path / "a.log"))
    assert (tmp_path / "a.log").stat().st_mode & 0o137 == 0


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "no" / "a.log"
    with pytest.raises(LogError, match=f"^error opening file: open {path}: no such file or directory$"):
        Log(file_options(path))


def test_reopen_follows_a_rename(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = Log(file_options(path))
    log.notice("old")
    path.rename(tmp_path / "b.log")
    log.reopen()
    log.notice("new")
    assert [line.split("[INF] ")[1] for line in lines(path)] == ["File log re-opened", "new"]
    assert lines(tmp_path / "b.log")[0].endswith("old")


def test_reopen_keeps_the_file_when_it_must(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    directory.mkdir()
    log = Log(file_options(directory / "a.log"))
    directory.rename(tmp_path / "e")
    log.reopen()
    assert "[ERR] error opening file: open" in lines(tmp_path / "e" / "a.log")[0]


def test_reopen_without_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    Log(Options()).reopen()
    assert capfd.readouterr().err.endswith("[INF] File log re-open ignored, not a file logger\n")


def test_reconfigure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(Options())
    log.reconfigure(file_options(tmp_path / "a.log", debug=True))
    log.debug("x")
    assert capfd.readouterr().err == ""
    assert lines(tmp_path / "a.log")[0].endswith("[DBG] x")


def test_a_failed_reconfigure_changes_nothing(tmp_path: Path) -> None:
    log = Log(file_options(tmp_path / "a.log"))
    with pytest.raises(LogError):
        log.reconfigure(file_options(tmp_path / "no" / "b.log", debug=True))
    log.notice("x")
    assert lines(tmp_path / "a.log")[0].endswith("x") and not log.debug_on


def test_close_lets_the_file_go(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    log = Log(file_options(tmp_path / "a.log"))
    log.close()
    log.close()
    assert len(os.listdir("/proc/self/fd")) == before


# --- rotation


def backups(path: Path) -> list[Path]:
    return sorted(entry for entry in path.parent.iterdir() if entry.name.startswith(path.name + "."))


def test_rotation_by_size(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = Log(file_options(path, log_size_limit=200))
    for number in range(6):
        log.notice(f"line {number}: {'x' * 100}")
    written = "".join(backup.read_text() for backup in backups(path)) + path.read_text()
    assert re.findall(r"line (\d)", written) == list("012345")
    assert all(re.fullmatch(r"a\.log(\.\d\d\d\d)(\.\d\d){5}\.\d{9}", backup.name) for backup in backups(path))
    assert lines(path)[0].endswith(f'[INF] Rotated log, backup saved as "{backups(path)[-1]}"')


def test_a_file_already_too_big_is_rotated_at_start(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("x" * 1000)
    Log(file_options(path, log_size_limit=500))
    assert backups(path)[0].read_text().endswith("[INF] Rotating logfile...\n")


@pytest.mark.parametrize(("keep", "left"), [(0, 9), (1, 0), (3, 2)])
def test_old_backups_are_purged(tmp_path: Path, keep: int, left: int) -> None:
    path = tmp_path / "a.log"
    (tmp_path / "a.log.gz").write_text("not one of ours")
    log = Log(file_options(path, log_size_limit=300, log_max_files=keep))
    for _ in range(9):
        log.notice("x" * 300)
    assert len(backups(path)) - 1 == left
    assert (tmp_path / "a.log.gz").exists()
    assert ('[INF] Purged log file "a.log.' in path.read_text()) == bool(keep)


def test_a_file_that_cannot_be_renamed_grows_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.log"
    log = Log(file_options(path, log_size_limit=100))
    monkeypatch.setattr(os, "rename", refuse)
    log.notice("x" * 100)
    assert lines(path)[1].endswith(
        "[ERR] Unable to rotate logfile (permission denied), will attempt next rotation at size 200"
    )
    assert not backups(path)
    monkeypatch.undo()
    log.notice("next")
    assert len(backups(path)) == 1


def test_what_is_no_file_is_never_renamed(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = Log(file_options(path, log_size_limit=10))
    log.notice("x" * 100)
    assert b"x" * 100 in os.read(reader, 4096)
    assert not backups(path)
    os.close(reader)


# --- losses


def test_a_full_disk_loses_lines_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(file_options(Path("/dev/full")))
    log.notice("x")
    log.notice("y")
    assert log.lost == 2
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].endswith("[ERR] Log lines are being lost: write /dev/full: no space left on device")


def test_the_number_of_lost_lines_is_told_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    log = Log(file_options(path))
    real = os.write

    def torn(fd: int, data: bytes) -> int:
        if fd > 2 and data.startswith(b"[") and b"torn" in data:
            return real(fd, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", torn)
    log.notice("torn")
    log.notice("lost")
    monkeypatch.undo()
    log.notice("found")
    head, told, found = lines(path)
    assert len(head) == 5
    assert told.endswith("[WRN] 2 log lines were lost") and found.endswith("[INF] found")


def test_a_reader_that_stops_reading_does_not_stop_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    saved = os.dup(2)
    try:
        os.dup2(writer, 2)
        monkeypatch.setattr("natsc.server.log_sinks._STALL_MS", 1)
        log = Log(Options())
        for _ in range(3000):
            log.notice("x" * 100)
        assert 0 < log.lost < 3000
        os.set_blocking(reader, False)
        with contextlib.suppress(BlockingIOError):
            while os.read(reader, 65536):
                pass
        log.notice("again")
        tail = os.read(reader, 65536).decode().splitlines()
    finally:
        os.dup2(saved, 2)
        for fd in (saved, reader, writer):
            os.close(fd)
    assert re.search(r"\[WRN\] \d+ log lines were lost", tail[-2]) and tail[-1].endswith("again")


def test_a_closed_stderr_is_survived() -> None:
    program = (
        "import os; os.close(2)\nfrom natsc.config import Options; from natsc.server.log import Log\n"
        "log = Log(Options()); log.notice('x'); print(log.lost)"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=10, check=True)
    assert done.stdout == b"1\n"


def test_a_line_longer_than_a_pipe_holds_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    sink = StderrSink()
    sink.write("INF", b"x" * 50_000 + b"\n")
    assert capfd.readouterr().err == "x" * 50_000 + "\n"


# --- syslog


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """A syslog daemon's socket at the local path."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(tmp_path / "log"))
    server.settimeout(5)
    monkeypatch.setattr("natsc.server.log_syslog._LOCAL_PATHS", (str(tmp_path / "log"),))
    return server


@pytest.mark.parametrize(("method", "priority"), [
    ("notice", 29), ("warn", 28), ("error", 27), ("debug", 31), ("trace", 29),
])  # fmt: skip
def test_local_syslog(daemon: socket.socket, method: str, priority: int) -> None:
    getattr(Log(Options(syslog=True, debug=True, trace=True)), method)("x")
    line = daemon.recv(4096).decode()
    assert re.fullmatch(rf"<{priority}>[A-Z][a-z]{{2}} [ \d]\d \d\d:\d\d:\d\d nats-server\[{os.getpid()}\]: x\n", line)


def test_syslog_comes_back_after_the_daemon_did(
    daemon: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [10**12]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    log = Log(Options(syslog=True))
    daemon.close()
    (tmp_path / "log").unlink()
    log.notice("lost")
    log.notice("lost")
    assert log.lost == 2 and len(capfd.readouterr().err.splitlines()) == 1
    now[0] += 10_000_000_000
    again = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    again.bind(str(tmp_path / "log"))
    again.settimeout(5)
    log.notice("found")
    assert again.recv(4096).endswith(b"found\n")


def test_remote_syslog_over_udp() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(5)
    Log(Options(remote_syslog=f"udp://127.0.0.1:{server.getsockname()[1]}")).error("x")
    line = server.recv(4096).decode()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)"
    assert re.fullmatch(rf"<3>{stamp} {re.escape(socket.gethostname())} nats-server\[{os.getpid()}\]: x\n", line)


def test_remote_syslog_over_tcp() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    log = Log(Options(remote_syslog=f"tcp://127.0.0.1:{server.getsockname()[1]}"))
    connection = server.accept()[0]
    connection.settimeout(5)
    log.notice("x")
    log.close()
    with connection.makefile() as reader:
        assert reader.readline().endswith(": x\n")


def test_no_local_syslog(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("natsc.server.log_syslog._LOCAL_PATHS", (str(tmp_path / "none"),))
    with pytest.raises(LogError, match=r'^error connecting to syslog: "Unix syslog delivery error"$'):
        Log(Options(syslog=True))


# --- JSON


def test_json_lines(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log(Options(log_format="json"))
    log.notice("Server is ready")
    log.error("127.0.0.1:4000 - cid:7 - Stale \ud8ff")
    first, second = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert first.pop("timestamp").startswith("20")
    assert first == {"level": "info", "pid": os.getpid(), "event": "Server is ready"}
    assert (second["level"], second["client"], second["cid"]) == ("error", "127.0.0.1:4000", 7)


def test_the_format_is_a_directive(tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("log_format: json\n")
    assert process_config_file(str(path)).log_format == "json"


def test_a_format_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("log_format: xml\n")
    with pytest.raises(ConfigError, match=f"{path}:1:0: log_format should be 'text' or 'json', got \"xml\""):
        process_config_file(str(path))


def test_structlog_is_imported_for_json_alone() -> None:
    program = (
        "import sys; from natsc.config import Options; from natsc.server.log import Log; Log(Options()).notice('x')\n"
        "print([m for m in ('structlog', 'logging', 'asyncio', 'typing') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, timeout=10)
    assert done.stdout == "[]\n"
