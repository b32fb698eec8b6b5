"""natsc.run_in_thread: the same server for synchronous code."""

from __future__ import annotations

import os
import socket
import threading

import pytest

import natsc


def talk(port: int, *lines: str, until: bytes = b"PONG\r\n") -> bytes:
    """Sends lines and returns what comes up to `until`, or the end."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall("".join(f"{line}\r\n" for line in lines).encode())
        got = b""
        while not got.endswith(until):
            data = sock.recv(1 << 16)
            if not data:
                break
            got += data
        return got


QUIET = 'CONNECT {"verbose":false}'


def test_it_serves_blocking_code() -> None:
    with natsc.run_in_thread() as server:
        got = talk(server.ports["nats"], QUIET, "SUB x 1", "PUB x 2", "hi", "PING")
        assert got.partition(b"\r\n")[2] == b"MSG x 1 2\r\nhi\r\nPONG\r\n"
        assert server.url == server.urls["nats"] == f"nats://127.0.0.1:{server.ports['nats']}"


def test_nothing_is_left() -> None:
    with natsc.run_in_thread(http_port=-1):
        pass  # what libraries open once
    before, threads = os.listdir("/proc/self/fd"), threading.active_count()
    with natsc.run_in_thread(http_port=-1) as server:
        talk(server.ports["nats"], QUIET, "PING")
    assert os.listdir("/proc/self/fd") == before
    assert threading.active_count() == threads


def test_start_and_stop_without_with() -> None:
    server = natsc.run_in_thread().start()
    server.stop()
    server.stop()
    with pytest.raises(RuntimeError, match="not running"):
        server.account()


def test_errors_come_to_the_caller() -> None:
    with pytest.raises(natsc.ConfigError):
        natsc.run_in_thread("no_such_directive: 1")
    with natsc.run_in_thread() as server, pytest.raises(natsc.StartError, match="address already in use"):
        natsc.run_in_thread(port=server.ports["nats"]).start()


def test_accounts_reload_and_reset() -> None:
    with natsc.run_in_thread() as server:
        made = server.account()
        login = f'CONNECT {{"verbose":false,"user":"{made.user}","pass":"{made.password}"}}'
        port = server.ports["nats"]
        assert talk(port, login, "PING").endswith(b"PONG\r\n")
        server.reload(max_payload=100)
        assert b'"max_payload":100,' in talk(port, QUIET, "PING")
        with pytest.raises(ValueError, match="exists already"):
            server.account(made.account)
        server.remove_account(made.account)
        assert talk(port, login, "PING").endswith(b"-ERR 'Authorization Violation'\r\n")
        server.reset()
        assert talk(port, QUIET, "PING").endswith(b"PONG\r\n")


def test_its_clock() -> None:
    with natsc.run_in_thread(authorization={"token": "t", "timeout": 30}) as server:
        server.clock.freeze()
        with socket.create_connection(("127.0.0.1", server.ports["nats"]), 10) as sock:
            assert sock.recv(4096).startswith(b"INFO ")
            server.clock.advance(31)
            assert sock.recv(4096) == b"-ERR 'Authentication Timeout'\r\n"
        server.clock.unfreeze()


def test_two_at_once() -> None:
    with natsc.run_in_thread() as one, natsc.run_in_thread() as two:
        assert one.url != two.url
