"""What surrounds a server's run: its options and log on the way in, its exit code on the way out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import natsc.server
from natsc import cli
from natsc.config import Options
from natsc.server.log import Log


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Options]:
    """Takes the place of the server: collects the options of each run."""
    runs: list[Options] = []

    def run(opts: Options, log: Log) -> int:
        log.notice("running")
        runs.append(opts)
        return 0

    monkeypatch.setattr(natsc.server, "run", run, raising=False)
    monkeypatch.setattr("natsc.server.process.set_process_name", lambda: None)
    return runs


def failing(error: BaseException) -> Callable[[Options, Log], int]:
    def run(opts: Options, log: Log) -> int:
        raise error

    return run


def test_a_server_gets_complete_options(served: list[Options]) -> None:
    assert cli.main(["-p", "-1", "-a", "127.0.0.1", "-n", "one"]) == 0
    assert (served[0].host, served[0].port, served[0].server_name, served[0].max_payload) == (
        "127.0.0.1",
        0,
        "one",
        1 << 20,
    )


def test_the_exit_code_is_the_servers(monkeypatch: pytest.MonkeyPatch, served: list[Options]) -> None:
    monkeypatch.setattr(natsc.server, "run", lambda opts, log: 3, raising=False)
    assert cli.main(["-p", "-1"]) == 3


def test_what_is_not_available_is_one_warning(served: list[Options], tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    cli.main(["-p", "-1", "-profile", "1", "-cluster", "nats://127.0.0.1:-1", "-l", str(path)])
    warnings = [line for line in path.read_text().splitlines() if "[WRN]" in line]
    assert len(warnings) == 1
    assert "-profile" in warnings[0] and "-cluster" in warnings[0]


def test_a_fatal_error_exits_with_1(monkeypatch: pytest.MonkeyPatch, served: list[Options]) -> None:
    monkeypatch.setattr(natsc.server, "run", lambda opts, log: log.fatal("no"), raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(["-p", "-1"])
    assert ended.value.code == 1


def test_an_unexpected_failure_reaches_the_log(
    monkeypatch: pytest.MonkeyPatch, served: list[Options], tmp_path: Path
) -> None:
    monkeypatch.setattr(natsc.server, "run", failing(ValueError("broken")), raising=False)
    with pytest.raises(ValueError, match="broken"):
        cli.main(["-p", "-1", "-l", str(tmp_path / "a.log")])
    assert "[FTL] Unexpected failure: ValueError: broken" in (tmp_path / "a.log").read_text()


def test_secrets_leave_the_command_line(monkeypatch: pytest.MonkeyPatch, served: list[Options]) -> None:
    monkeypatch.setattr(sys, "argv", ["natsc", "-p", "-1", "-user", "u", "-pass", "p"])
    cli.main()
    assert sys.argv == ["natsc", "-p", "-1", "-user", "[REDACTED]", "-pass", "[REDACTED]"]
    assert (served[0].username, served[0].password) == ("u", "p")


def test_warnings_of_the_file_go_to_stderr(
    served: list[Options], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "empty.conf"
    path.write_text("")
    assert cli.main(["-c", str(path), "-p", "-1"]) == 0
    assert capfd.readouterr().err.startswith(f"{path}: config has no values or is empty\n")
