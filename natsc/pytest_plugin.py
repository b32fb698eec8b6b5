"""Fixtures for pytest: NATS servers and accounts for tests, of any style, in a thread of the test process.

    natsc_server            a server of the test's own; @pytest.mark.natsc(max_payload=1024) configures it
    natsc_shared_server     one server for the whole session (with pytest-xdist: one a worker)
    natsc_account           a fresh account on the shared server: .url has its credentials, .user and .password too
    natsc_server_factory    natsc_server_factory(config=..., path=..., port=..., ...) starts any number of servers
    natsc_options           to override: what the shared server is configured with

All of them have JetStream, unless a configuration (its text, or its path) or jetstream=False says otherwise. What it
stores is gone with the server; a server that is given a store_dir keeps it there, synced.

pytest loads this file at every start of every project that has natsc installed: it imports nothing of natsc before a
test asks for a server.
"""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from natsc.embed import Credentials
    from natsc.embed_thread import ThreadServer


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "natsc(config, **directives): how the natsc_server of this test is configured")


def _with_jetstream(config: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """A server's arguments; where no configuration is among them, JetStream is on."""
    return {"jetstream": True, **options} if config is None and options.get("path") is None else options


@pytest.fixture
def natsc_server_factory() -> Iterator[Callable[..., ThreadServer]]:
    """Starts servers with the arguments of natsc.Server, and stops them after the test."""
    from natsc.embed_thread import run_in_thread

    running: list[ThreadServer] = []

    def start(config: str | None = None, **options: Any) -> ThreadServer:
        server = run_in_thread(config, **_with_jetstream(config, options)).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def natsc_server(request: pytest.FixtureRequest, natsc_server_factory: Callable[..., ThreadServer]) -> ThreadServer:
    """A server that only this test uses."""
    marker = request.node.get_closest_marker("natsc")
    return natsc_server_factory(*marker.args, **marker.kwargs) if marker is not None else natsc_server_factory()


@pytest.fixture(scope="session")
def natsc_options() -> dict[str, Any]:
    """The shared server's arguments, those of natsc.Server; override it in conftest.py."""
    return {}


@pytest.fixture(scope="session")
def natsc_shared_server(natsc_options: dict[str, Any]) -> Iterator[ThreadServer]:
    """A server that the session's tests share; natsc_account keeps them out of each other's way."""
    from natsc.embed_thread import run_in_thread

    with run_in_thread(**_with_jetstream(natsc_options.get("config"), natsc_options)) as server:
        yield server


@pytest.fixture
def natsc_account(natsc_shared_server: ThreadServer) -> Iterator[Credentials]:
    """An account of the test's own on the shared server: nothing that happens in it is seen outside."""
    credentials = natsc_shared_server.account()
    yield credentials
    natsc_shared_server.remove_account(credentials.account)
