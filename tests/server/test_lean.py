"""The server process's own event loop: what it doesn't import, and that what was put off is there when it's needed.

Each test has an interpreter of its own: in pytest's everything is imported already.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import bcrypt
import pytest

from natsc.server import lean
from tests.certs import Authority

pytestmark = pytest.mark.skipif(
    find_spec("uvloop") is None or sys.version_info[:2] not in lean._VERSIONS, reason="the loop is a plain one here"
)

TIMEOUT_S = 20.0

# What no plain server needs. json and re come with the first CONNECT.
HEAVY = {
    "asyncio", "asyncio.base_events", "asyncio.sslproto", "bcrypt", "concurrent.futures", "cryptography", "dataclasses",
    "http", "inspect", "lmdb", "logging", "selectors", "signal", "ssl", "structlog", "subprocess", "traceback",
    "typing", "urllib", "uvloop", "natsc.config.parser", "natsc.net.tls", "natsc.monitor",
}  # fmt: skip


def run(program: str) -> str:
    """What a program prints."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom natsc.server import lean\n{program}"],
        capture_output=True, text=True, timeout=TIMEOUT_S, env=_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(lean.__file__).parent.parent.parent)}


class Process:
    """A server; `lines` collects what it writes to stderr."""

    def __init__(self, *args: str, options: tuple[str, ...] = ()) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *options, "-m", "natsc", "-a", "127.0.0.1", "-p", "-1", *args],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=_environment(),
        )  # fmt: skip
        self.lines: list[str] = []

    def wait_for(self, text: str) -> str:
        """The line with that text."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if text in line:
                return line
        raise AssertionError(f"no {text!r} in {''.join(self.lines)}")

    def port(self, text: str = "Listening for client connections on") -> int:
        return int(self.wait_for(text).rstrip().rpartition(":")[2])

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.wait_for("Server Exiting..")
        return self.process.wait(TIMEOUT_S)


@contextlib.contextmanager
def serving(*args: str, options: tuple[str, ...] = ()) -> Iterator[Process]:
    server = Process(*args, options=options)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate(timeout=TIMEOUT_S)


def imported(lines: list[str]) -> set[str]:
    """The modules in the report of -X importtime, without those that natsc found there."""
    names = [line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")]
    return set(names[names.index("natsc") :])


def test_a_plain_server_imports_nothing_heavy() -> None:
    with serving(options=("-X", "importtime")) as server:
        port = server.port()
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client:
            client.sendall(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n')
            received = b""
            while b"PONG" not in received:
                received += client.recv(65536)
        assert b"MSG a 1 2\r\nhi\r\n" in received
        assert server.end() == 0
        names = imported(server.lines)
        assert {"uvloop.loop", "asyncio.events", "natsc.server.server"} <= names
        assert not names & HEAVY


def test_jetstream_without_streams_imports_little_more(tmp_path: Path) -> None:
    with serving("-js", "-sd", str(tmp_path), options=("-X", "importtime")) as server:
        server.port()
        assert server.end() == 0
        names = imported(server.lines)
        assert "natsc.jetstream.service" in names
        assert not names & (HEAVY | {"hashlib", "json", "natsc.jetstream.api", "natsc.jetstream.schema"})


def test_the_table_has_the_real_values() -> None:
    for module, attributes in lean._TABLE.items():
        real = __import__(module, fromlist=["*"])
        for name, value in attributes.items():
            if not callable(value):
                assert value == getattr(real, name), f"{module}.{name}"
            else:
                assert callable(getattr(real, name)), f"{module}.{name}"


def test_no_stand_in_is_left_behind() -> None:
    assert run(
        "loop = lean.new_loop(); left = [m for m in sys.modules.values() if isinstance(m, lean.StandIn)]\n"
        "import ssl, subprocess, logging, concurrent.futures\n"
        "print(left, ssl.SSLContext.__module__, subprocess.Popen.__name__, logging.INFO)"
    ).split() == ["[]", "ssl", "Popen", "20"]


def test_asyncio_is_whole_once_it_is_imported() -> None:
    program = """
loop = lean.new_loop()
future = sys.modules["asyncio.futures"].Future
import asyncio, asyncio.queues, uvloop
assert asyncio.Future is future and asyncio.events is sys.modules["asyncio.events"]
assert asyncio.queues.Queue is asyncio.Queue and asyncio.base_events.BaseEventLoop
assert isinstance(loop, asyncio.AbstractEventLoop) and isinstance(loop, sys.modules["uvloop.loop"].Loop)
assert isinstance(uvloop.new_event_loop(), asyncio.AbstractEventLoop)
assert not any(isinstance(finder, lean._Rest) for finder in sys.meta_path)
async def main():
    queue = asyncio.Queue()
    async with asyncio.timeout(5):
        await asyncio.gather(queue.put(1), asyncio.sleep(0))
        for done in asyncio.as_completed([queue.get()]):
            print(await done)
    try:
        await asyncio.wait_for(asyncio.Event().wait(), 0.001)
    except asyncio.TimeoutError:
        print("timeout")
loop.run_until_complete(main())
"""
    assert run(program).split() == ["1", "timeout"]


def test_a_submodule_of_asyncio_may_be_the_first_import() -> None:
    program = "lean.new_loop(); from asyncio.locks import Lock; import asyncio; print(asyncio.Lock is Lock)"
    assert run(program).split() == ["True"]


def test_work_in_threads() -> None:
    program = """
loop = lean.new_loop()
async def main():
    return await loop.run_in_executor(None, sum, (1, 2))
print(loop.run_until_complete(main()), "concurrent.futures" in sys.modules)
"""
    assert run(program).split() == ["3", "True"]


def test_a_failing_callback_is_logged() -> None:
    program = """
loop = lean.new_loop()
loop.call_soon(lambda: 1 / 0)
loop.call_soon(loop.stop)
loop.run_forever()
"""
    assert "ZeroDivisionError" in run(program)


def test_a_coroutine_function_is_no_signal_handler() -> None:
    program = """
import functools, signal
loop = lean.new_loop()
async def handler(): pass
for bad in (handler, functools.partial(handler)):
    try:
        loop.add_signal_handler(signal.SIGUSR1, bad)
    except TypeError as error:
        print(error)
"""
    assert run(program).splitlines() == ["coroutines cannot be used with add_signal_handler()"] * 2


def test_debug_mode() -> None:
    program = """
loop = lean.new_loop()
loop.set_debug(True)
async def main():
    handle = loop.call_later(10, print)
    future = loop.create_future()
    future.set_exception(ValueError("lost"))
    return repr(handle), repr(future)
print(*loop.run_until_complete(main()))
"""
    assert "<string>" in run(program)


def test_the_loop_does_no_tls() -> None:
    program = """
loop = lean.new_loop()
import ssl
from asyncio.protocols import Protocol
try:
    loop.run_until_complete(loop.create_server(Protocol, "127.0.0.1", 0, ssl=ssl.create_default_context()))
except RuntimeError as error:
    print(error)
"""
    assert run(program).strip() == "the event loop of the server process does no TLS"


@pytest.mark.parametrize(
    "setup",
    [
        "lean._TABLE['ssl'].clear()",
        "for attributes in lean._TABLE.values(): attributes.clear()",
        "lean._ASYNCIO += ('no_such_module',)",
        "lean._VERSIONS = ()",
        "import asyncio",
    ],
)
def test_what_is_unknown_gets_the_plain_import(setup: str) -> None:
    program = f"""
{setup}
loop = lean.new_loop()
import asyncio, uvloop
async def main():
    await asyncio.sleep(0)
    return await loop.run_in_executor(None, sum, (1, 2))
print(loop.run_until_complete(main()), isinstance(loop, asyncio.AbstractEventLoop), type(loop).__mro__[1].__module__)
"""
    assert run(program).split() == ["3", "True", "uvloop.loop"]


@pytest.mark.parametrize("module", ["uvloop", "uvloop.loop"])
def test_without_uvloop(module: str) -> None:
    program = f"""
import builtins
find = lean._find_spec
lean._find_spec = lambda name: None if name == {module!r} else find(name)
sys.modules[{module!r}] = None
loop = lean.new_loop()
import asyncio
print(type(loop).__module__, loop.run_until_complete(asyncio.sleep(0, 5)))
"""
    assert run(program).split() == ["asyncio.unix_events", "5"]


CONFIGURATION = """
tls: {{ cert_file: {cert!r}, key_file: {key!r} }}
https: "127.0.0.1:-1"
authorization: {{ user: ada, password: {password!r} }}
"""


def _login(port: int, context: ssl.SSLContext, password: str) -> bytes:
    """The answer to CONNECT and PING."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as plain:
        assert plain.recv(65536).startswith(b"INFO ")
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b'CONNECT {"verbose":false,"user":"ada","pass":"%s"}\r\nPING\r\n' % password.encode())
            received = b""
            while b"\r\n" not in received:
                received += client.recv(65536)
            return received


def test_tls_bcrypt_https_and_reload(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.server()
    file = tmp_path / "server.conf"

    def configure(password: str) -> None:
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4, b"2a")).decode()
        file.write_text(CONFIGURATION.format(cert=pair.cert_file, key=pair.key_file, password=hashed))

    configure("first")
    context = ssl.create_default_context(cafile=authority.ca_file)
    with serving("-c", str(file)) as server:
        monitor = server.port("Starting https monitor on")
        port = server.port()
        server.wait_for("Server is ready")
        assert _login(port, context, "first") == b"PONG\r\n"
        assert b"Authorization Violation" in _login(port, context, "second")
        url = f"https://localhost:{monitor}/varz"
        with urllib.request.urlopen(url, context=context, timeout=TIMEOUT_S) as answer:
            assert b'"server_id"' in answer.read()
        configure("second")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reloaded server configuration")
        assert _login(port, context, "second") == b"PONG\r\n"
        assert server.end() == 0
