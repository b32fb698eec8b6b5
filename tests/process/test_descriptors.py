"""A server at its limit of open files: it turns connections away, and serves again once some are gone."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

LIMIT = 64


@pytest.fixture
def port() -> Iterator[int]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))

    command = [sys.executable, "-m", "natsc", "-a", "127.0.0.1", "-p", "-1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=limit) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Listening for client connections on" in line:
                yield int(line.rsplit(":", 1)[1])
                break
        process.terminate()
        assert process.wait() == 0


def greeting(sock: socket.socket) -> bytes:
    """What the server says first; nothing where it closes."""
    with contextlib.suppress(ConnectionResetError):
        return sock.recv(4)
    return b""


def dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def test_the_limit_of_open_files(port: int) -> None:
    socks = [dial(port) for _ in range(LIMIT + 20)]
    greetings = [greeting(sock) for sock in socks]
    assert 0 < greetings.count(b"INFO") < LIMIT
    assert set(greetings) == {b"INFO", b""}
    served = next(sock for sock, said in zip(socks, greetings, strict=True) if said).makefile("rwb")
    served.readline()  # the rest of INFO
    served.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
    served.flush()
    assert served.readline() == b"PONG\r\n"
    for sock in socks:
        sock.close()
    while greeting(late := dial(port)) != b"INFO":
        late.close()
    late.close()
