"""Command lines that end without a server: the same exit code, stdout and stderr as nats-server's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import natsc as natsc_package
from natsc import cli
from natsc.flags import FLAGS
from natsc.server import info

from .conftest import Answer

Run = Callable[..., Answer]

BAD_INT = [
    "x",
    "",
    "1.5",
    "99999999999999999999",
    "-99999999999999999999",
    "0x",
    "0b2",
    "1__0",
    "_1",
    "1_",
    "0_",
    "+",
    "1 ",
    "٣",
]


@pytest.mark.parametrize("args", [
    ["-h"], ["--help"], ["help"], ["HELP"], ["-help=true"], ["-D", "help"], ["-h=T", "foo"],
    ["foo"], ["-"], ["", "x"], ["ver\"sion"], ["caf\u00e9\n"], ["-D", "--", "-p", "1"], ["-p", "1", "serve"],
    ["-zzz"], ["--zzz=1"], ["---p"], ["--=x"], ["-=x"], ["-v", "-zz"], ["-zz", "-v"], ["-é"], ["-p-1"],
    ["-p"], ["-c"], ["--name"], ["-D", "-signal"],
    ["-D=x"], ["-D="], ["-tls=2"], ["-T=no"], ["-D=TrUe"], ["-js=\x01"],
    ["-log_size_limit", "x"], ["-profile=a"], ["-ms", "0x1g"], ["-connect_retries", "1.5"],
    ["-t"], ["-t", "-c", ""], ["-t", "-c="],
    ["-c", "no-such-file"], ["-c", "no-such-file", "-t"], ["-c", "."],
    ["-sl", "a=b=c"], ["-sl", "quit=abc"], ["-signal", "quit=12 "], ["-sl", "bogus=2147483647"],
    ["-sl=b\"s=2147483647"],
    ["-sl", "quit=99999999999999999999"], ["-sl", "ldm=2147483646"], ["-sl", "reload=2147483646"],
    ["-routes", "nats://127.0.0.1:1"], ["-cluster=", "-routes", "nats://127.0.0.1:1"],
    ["-tls"], ["-tlsverify"], ["-tlscacert", "x"], ["-tls", "-tlscert", "x"], ["-tlskey", "x"],
    ["-tls", "-tlscert", "no-such", "-tlskey", "no-such"],
    ["-p", "-1", "-n", "a b"], ["-p", "-1", "-cluster_name", "a b", "-cluster", "nats://127.0.0.1:-1"],
], ids=repr)  # fmt: skip
def test_same_answer(natsc: Run, reference: Run, args: list[str]) -> None:
    assert natsc(*args) == reference(*args)


@pytest.mark.parametrize("url", [
    "x", "x:1", "foo:-1", ":5", "1.2.3.4:5", "1a://x", "//x", "nats:///x", "nats://x", "nats://x:", "nats://x:1:2",
    "nats://x:zz", "nats://x:0x5", "nats://x:-2", "nats://x:5#f%zz", "nats://x:1/%zz", "nats://x%zz:1",
    "nats://[::1:5", "nats://[::1]:zz", "nats://[::1]5", "nats://a[::1]:5", "nats://[::1]", "nats://x y:1",
    "nats://a@x:1", "nats://a b@x:1", "nats://a:b%zz@x:1", "nats://x\x01:1", "nats://é:zz",
    "nats://x:99999999999999999999",
])  # fmt: skip
def test_bad_cluster_url(natsc: Run, reference: Run, url: str) -> None:
    code, out, err = reference("-p", "-1", "-cluster", url)
    # natsc quotes no passwords.
    assert natsc("-p", "-1", "-cluster", url) == (code, out, err.replace("a:b%zz@", "a:xxxxx@"))


@pytest.mark.parametrize("text", BAD_INT)
def test_bad_number(natsc: Run, reference: Run, text: str) -> None:
    assert natsc("-p", text) == reference("-p", text)


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_every_flag_is_known_to_nats_server(natsc: Run, reference: Run, name: str) -> None:
    args = [f"-{name}=true" if FLAGS[name][0] == "bool" else f"-{name}=1", "-zzz"]
    assert natsc(*args) == reference(*args)


def test_every_flag_of_the_usage_text_is_known(natsc: Run) -> None:
    _, usage, _ = natsc("-h")
    words = {word for line in usage.splitlines() for word in line.replace(",", " ").split() if word.startswith("-")}
    assert len(words) > 60
    assert {word.lstrip("-") for word in words} - {""} <= set(FLAGS)


@pytest.mark.parametrize("args", [["-v"], ["--version"], ["version"], ["VERSION"], ["-v", "-h"], ["-h=0", "-v=1"]])
def test_version(natsc: Run, reference: Run, args: list[str]) -> None:
    code, out, err = natsc(*args)
    first, second = out.splitlines()
    assert (code, first + "\n", err) == reference(*args)
    assert second == f"natsc: v{natsc_package.__version__}"


def test_the_version_is_the_one_that_clients_are_told() -> None:
    assert cli.VERSION == info.VERSION


def test_tls_help_differs_in_order_alone(natsc: Run, reference: Run) -> None:
    code, out, err = natsc("--help_tls")
    expected_code, expected, expected_err = reference("--help_tls")
    assert (code, sorted(out.splitlines()), err) == (expected_code, sorted(expected.splitlines()), expected_err)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "port: 4222\n", "debug: true\nlisten: 127.0.0.1:-1\n", "nope: 1\n"]
)
def test_check_configuration(natsc: Run, reference: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "a.conf").write_text(text)
    assert natsc("-t", "-c", "a.conf") == reference("-t", "-c", "a.conf")


def test_check_of_what_cannot_be_enforced(natsc: Run, reference: Run, tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("ocsp {mode: must}\n")
    code, out, err = natsc("-t", "-c", "a.conf")
    expected_code, expected_out, expected = reference("-t", "-c", "a.conf")
    line = "nats-server: but natsc cannot enforce yet: ocsp. "
    assert (code, out, err.startswith(expected + line)) == (expected_code, expected_out, True)


def test_a_log_that_cannot_be_opened(natsc: Run, reference: Run) -> None:
    code, out, err = natsc("-p", "-1", "-l", "no/such/dir.log")
    expected_code, expected_out, expected_err = reference("-p", "-1", "-l", "no/such/dir.log")
    stamp = len("2026/03/01 12:00:00 ")
    assert (code, out, err[stamp:]) == (expected_code, expected_out, expected_err[stamp:])
    assert [char if not char.isdigit() else "0" for char in err[:stamp]] == list("0000/00/00 00:00:00 ")


@pytest.mark.parametrize("url", ["foo://x", "udp://127.0.0.1", "tcp://127.0.0.1:1", "unix:///no/such/socket"])
def test_a_remote_syslog_that_cannot_be_used(natsc: Run, reference: Run, url: str) -> None:
    code, out, err = natsc("-p", "-1", "-r", url)
    expected_code, expected_out, expected_err = reference("-p", "-1", "-r", url)
    assert (code, out, err.split(" ", 2)[2]) == (expected_code, expected_out, expected_err.split(" ", 2)[2])


def test_a_closed_stdout_is_no_error() -> None:
    reader = subprocess.Popen(
        [sys.executable, "-m", "natsc", "-h"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert reader.stdout is not None
    reader.stdout.close()
    _, err = reader.communicate(timeout=10)
    assert (reader.returncode, err) == (0, b"")


@pytest.mark.parametrize("args", [["-v"], ["-h"], ["-zzz"]])
def test_a_quick_answer_imports_nothing_big(args: list[str]) -> None:
    program = (
        "import sys; from natsc import cli; cli.main(sys.argv[1:]); "
        "print([m for m in ('asyncio', 'argparse', 'logging', 're', 'ssl', 'typing', 'natsc._core', 'natsc.config')"
        " if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", program, *args], capture_output=True, text=True, timeout=10)
    assert done.stderr.splitlines()[-1] == "[]"
