"""Fixtures of the conformance tests: each test runs once against natsc and once against nats-server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from .certificates import Certificates
from .harness import KINDS, Server, Wire, server_command
from .saving import clients, saving_servers  # noqa: F401 (fixtures)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", choices=KINDS, default=None, help="run the conformance tests against this server only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server_kind" in metafunc.fixturenames:
        only = metafunc.config.getoption("--server", default=None) or os.environ.get("NATSC_CONFORMANCE_SERVER")
        metafunc.parametrize("server_kind", [only] if only else KINDS, scope="session", indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "natsc_lacks(reason): what natsc doesn't have yet; the test fails when natsc has it"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    lacking = item.get_closest_marker("natsc_lacks")
    if lacking and item.callspec.params.get("server_kind") == "natsc":
        item.add_marker(pytest.mark.xfail(reason=lacking.args[0], strict=True))


@pytest.fixture(scope="session")
def server_kind(request: pytest.FixtureRequest) -> str:
    """The server under test. A missing nats-server is an error: a suite run against one server proves nothing."""
    server_command(request.param)
    return request.param


@pytest.fixture(scope="module")
def shared_server(server_kind: str) -> Iterator[Callable[..., Server]]:
    """A server by its configuration, started at the first call and shared by the tests of a module."""
    running: dict[str, Server] = {}

    def get(config: str = "") -> Server:
        if config not in running:
            running[config] = Server(server_kind, config)
        assert running[config].process.poll() is None, "the shared server died:\n" + "\n".join(running[config].log)
        return running[config]

    yield get
    for server in running.values():
        server.close()


@pytest.fixture
def start(server_kind: str) -> Iterator[Callable[..., Server]]:
    """Starts a server of the test's own."""
    running: list[Server] = []

    def get(config: str | None = "", *flags: str, **options: object) -> Server:
        running.append(Server(server_kind, config, *flags, **options))
        return running[-1]

    yield get
    for server in running:
        server.close()


@pytest.fixture
def server(shared_server: Callable[..., Server]) -> Server:
    """The module's server with nothing configured but its monitoring port."""
    return shared_server("http: 127.0.0.1:-1\n")


@pytest.fixture
def dial() -> Iterator[Callable[..., Wire]]:
    """Opens raw connections and closes them after the test."""
    opened: list[Wire] = []

    def get(server: Server | int, *args: str, **options: object) -> Wire:
        opened.append(Wire(server, *args, **options))
        return opened[-1]

    yield get
    for wire in opened:
        wire.close()


@pytest.fixture
def wire(server: Server, dial: Callable[..., Wire]) -> Wire:
    """A quiet, connected client of the module's default server."""
    return dial(server).ready()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))
