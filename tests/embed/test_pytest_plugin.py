"""The pytest plugin, as another project sees it: in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CLIENT = '''
import socket

def lines(url_or_port, connect="{}", *more):
    """What a server answers, without INFO."""
    with socket.create_connection(("127.0.0.1", url_or_port), 10) as sock:
        sock.sendall("".join(f"{line}\\r\\n" for line in (f"CONNECT {connect}", *more, "PING")).encode())
        got = b""
        while not got.endswith(b"PONG\\r\\n") and (data := sock.recv(65536)):
            got += data
        return got

QUIET = '{"verbose":false}'
'''


def pytest_run(folder: Path, tests: str, *args: str, conftest: str = "") -> str:
    """Runs pytest over a file of tests; its output where all pass, AssertionError otherwise."""
    (folder / "test_project.py").write_text(CLIENT + tests)
    (folder / "conftest.py").write_text(conftest)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pytest_starts_without_loading_the_server(tmp_path: Path) -> None:
    tests = """
import sys

def test_nothing_is_loaded():
    assert sorted(m for m in sys.modules if m.startswith("natsc")) == ["natsc", "natsc.pytest_plugin"]
"""
    pytest_run(tmp_path, tests, "-p", "no:asyncio")


def test_a_server_of_the_tests_own(tmp_path: Path) -> None:
    tests = """
import pytest
seen = []

def test_it_serves(natsc_server):
    seen.append(natsc_server.url)
    got = lines(natsc_server.ports["nats"], QUIET, "SUB x 1", "PUB x 0", "")
    assert got.endswith(b"MSG x 1 0\\r\\n\\r\\nPONG\\r\\n")

def test_the_next_test_has_another(natsc_server):
    assert natsc_server.url not in seen

@pytest.mark.natsc(max_payload=77)
def test_it_is_configured_by_the_marker(natsc_server):
    assert b'"max_payload":77,' in lines(natsc_server.ports["nats"])

@pytest.mark.natsc("max_payload: 78")
class TestClass:
    def test_or_by_the_classes(self, natsc_server):
        assert b'"max_payload":78,' in lines(natsc_server.ports["nats"])
"""
    pytest_run(tmp_path, tests)


def test_jetstream_is_on_unless_it_is_said_to_be_off(tmp_path: Path) -> None:
    tests = """
import pytest

def has_jetstream(server):
    return b'"jetstream":true' in lines(server.ports["nats"], QUIET)

def test_on(natsc_server, natsc_shared_server):
    assert has_jetstream(natsc_server) and has_jetstream(natsc_shared_server)

@pytest.mark.natsc(jetstream=False)
def test_off(natsc_server):
    assert not has_jetstream(natsc_server)

@pytest.mark.natsc("max_payload: 10")
def test_a_configuration_says_itself(natsc_server):
    assert not has_jetstream(natsc_server)

def test_a_store_of_its_own(natsc_server_factory, tmp_path):
    assert has_jetstream(natsc_server_factory(store_dir=tmp_path))
"""
    pytest_run(tmp_path, tests)


def test_accounts_on_the_shared_server(tmp_path: Path) -> None:
    tests = """
def login(account):
    return f'{{"verbose":false,"user":"{account.user}","pass":"{account.password}"}}'

accounts = []

def test_one(natsc_shared_server, natsc_account):
    accounts.append(natsc_account)
    assert natsc_account.url.startswith(f"nats://{natsc_account.user}:{natsc_account.password}@127.0.0.1:")
    assert lines(natsc_shared_server.ports["nats"], login(natsc_account)).endswith(b"PONG\\r\\n")

def test_another(natsc_shared_server, natsc_account):
    port = natsc_shared_server.ports["nats"]
    assert lines(port, login(natsc_account)).endswith(b"PONG\\r\\n")
    assert lines(port, login(accounts[0])).endswith(b"-ERR 'Authorization Violation'\\r\\n")
    assert b'"max_payload":99,' in lines(port)
"""
    conftest = """
import pytest

@pytest.fixture(scope="session")
def natsc_options():
    return {"max_payload": 99}
"""
    pytest_run(tmp_path, tests, conftest=conftest)


def test_any_number_of_servers(tmp_path: Path) -> None:
    tests = """
def test_two(natsc_server_factory):
    one, two = natsc_server_factory(), natsc_server_factory("max_payload: 55", http_port=-1)
    assert one.url != two.url and "monitoring" in two.ports
    assert b'"max_payload":55,' in lines(two.ports["nats"])
"""
    pytest_run(tmp_path, tests)


def test_asynchronous_tests(tmp_path: Path) -> None:
    tests = """
import nats

async def test_nats_py(natsc_account):
    client = await nats.connect(natsc_account.url)
    await client.flush()
    await client.close()
"""
    pytest_run(tmp_path, tests, "-o", "asyncio_mode=auto")


def test_with_xdist_each_worker_has_its_own(tmp_path: Path) -> None:
    tests = """
import pytest

@pytest.mark.parametrize("n", range(4))
def test_it(natsc_shared_server, natsc_account, n):
    assert lines(natsc_shared_server.ports["nats"]).endswith(b"PONG\\r\\n")
"""
    assert "4 passed" in pytest_run(tmp_path, tests, "-n", "2")
