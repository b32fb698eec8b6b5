"""natsc.Server in a loop of the caller's: life, addresses, configuration, log, and what it leaves alone."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from pathlib import Path

import pytest

import natsc

from .conftest import Run, dial, dial_in_process


async def hold(**options: object) -> None:
    async with natsc.Server(**options) as server:
        line = await dial(server)
        assert await line.until_pong() == []
        await line.close()


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_ready_means_that_clients_are_answered(run: Run) -> None:
    async def main() -> None:
        async with natsc.Server() as server:
            with socket.create_connection(("127.0.0.1", server.ports["nats"]), 5) as sock:
                sock.setblocking(False)
                assert (await asyncio.get_running_loop().sock_recv(sock, 4096)).startswith(b"INFO {")

    run(main())


def test_a_stopped_server_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        await hold(http_port=-1)  # what loops and libraries open once
        before, tasks = descriptors(), asyncio.all_tasks()
        server = await natsc.Server(http_port=-1).start()
        lines = [await dial(server) for _ in range(3)]
        for line in lines:
            await line.until_pong()
        await server.stop()
        for line in lines:
            await line.rest()
            await line.close()
        await asyncio.sleep(0)
        assert descriptors() == before
        assert asyncio.all_tasks() == tasks

    run(main())


def test_its_port_can_be_used_again_at_once(run: Run) -> None:
    async def main() -> None:
        async with natsc.Server() as server:
            port = server.ports["nats"]
        await hold(port=port)

    run(main())


def test_stopping_twice(run: Run) -> None:
    async def main() -> None:
        server = await natsc.Server().start()
        await server.stop()
        await server.stop()

    run(main())


def test_clients_are_told_of_the_end(run: Run) -> None:
    async def main() -> None:
        async with natsc.Server() as server:
            line = await dial(server)
            await line.until_pong()
        assert await line.rest() == b""
        await line.close()

    run(main())


def test_two_servers_in_one_loop_know_nothing_of_each_other(run: Run) -> None:
    async def main() -> None:
        async with natsc.Server() as one, natsc.Server() as two:
            a, b = await dial(one), await dial(two)
            a.send("SUB x 1")
            b.send("SUB x 1")
            await a.until_pong()
            await b.until_pong()
            b.send("PUB x 2", "hi")
            assert await b.until_pong() == [b"MSG x 1 2", b"hi"]
            assert await a.until_pong() == []
            assert a.info["server_id"] != b.info["server_id"]
            await a.close()
            await b.close()

    run(main())


def test_what_belongs_to_the_program_is_left_alone(run: Run) -> None:
    async def main() -> None:
        signals = [signal.getsignal(number) for number in signal.valid_signals() if number not in (9, 19)]
        collector, frozen, policy = gc.get_threshold(), gc.get_freeze_count(), asyncio.get_event_loop_policy()
        root = logging.getLogger()
        handlers = list(root.handlers)
        async with natsc.Server():
            assert [signal.getsignal(number) for number in signal.valid_signals() if number not in (9, 19)] == signals
            assert (gc.get_threshold(), gc.get_freeze_count(), gc.isenabled()) == (collector, frozen, True)
            assert asyncio.get_event_loop_policy() is policy
            assert root.handlers == handlers

    run(main())


def test_the_first_connection_is_served_however_early_it_comes(run: Run) -> None:
    async def main() -> None:
        with socket.socket() as held:  # a port that is free once it is closed
            held.bind(("127.0.0.1", 0))
            port = held.getsockname()[1]
        server = natsc.Server(port=port)
        starting = asyncio.create_task(server.start())
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0)
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"INFO ")
        await starting
        writer.close()
        await server.stop()

    run(main())


def test_stopping_while_a_password_is_compared(run: Run) -> None:
    async def main() -> None:
        hashed = "$2b$11$om5YZQrDtFJzUfJsFC.AuO8jkdu3YzgzCTb.DvFIKp6xwQ6.NpaEG"
        async with natsc.Server(authorization={"user": "a", "password": hashed}) as server:
            line = await dial_in_process(server, user="a", **{"pass": "secret"})
            await asyncio.sleep(0)  # it arrives
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await line.close()

    run(main())


# Addresses


async def test_it_listens_on_this_machine_alone_unless_told_otherwise() -> None:
    async with natsc.Server() as server:
        assert server.url == f"nats://127.0.0.1:{server.ports['nats']}"
        assert server.urls == {"nats": server.url}


async def test_every_port_has_a_url() -> None:
    async with natsc.Server(http_port=-1, host="0.0.0.0") as server:
        assert set(server.ports) == {"nats", "monitoring"}
        assert server.urls["monitoring"] == f"http://127.0.0.1:{server.ports['monitoring']}"


async def test_a_port_that_is_taken() -> None:
    async with natsc.Server() as server:
        with pytest.raises(natsc.StartError, match="address already in use"):
            await natsc.Server(port=server.ports["nats"]).start()


async def test_a_failed_start_gives_back_the_other_ports() -> None:
    async with natsc.Server() as server:
        before = descriptors()
        with pytest.raises(natsc.StartError):
            await natsc.Server(port=server.ports["nats"], http_port=-1).start()
        assert descriptors() == before


async def test_nothing_is_known_of_a_server_that_is_not_running() -> None:
    with pytest.raises(RuntimeError, match="not running"):
        natsc.Server().url  # noqa: B018


# Configuration


async def test_text_file_and_keywords_in_this_order(tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("max_payload: 111\nmax_connections: 5\nserver_name: from-file\n")
    async with natsc.Server(
        "max_payload: 222\nserver_name: from-text", path=path, server_name="from-keyword"
    ) as server:
        line = await dial(server)
        assert (line.info["max_payload"], line.info["server_name"]) == (222, "from-keyword")
        await line.close()


async def test_keywords_are_whole_directives() -> None:
    users = {
        "users": [{"user": 'an "a"', "password": "back\\slash", "permissions": {"publish": ["x.>"]}}],
        "timeout": 0.5,
    }
    async with natsc.Server(authorization=users) as server:
        line = await dial(server, user='an "a"', **{"pass": "back\\slash"})
        line.send("PUB y 0", "")
        assert await line.until_pong() == [b"-ERR 'Permissions Violation for Publish to \"y\"'"]
        await line.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"config": "max_payload: big"}, "interface conversion"),
        ({"config": "no_such_directive: 1"}, "unknown field"),
        ({"max_payload": 2 << 20, "max_pending": 1 << 20}, "cannot be higher than max_pending"),
        ({"path": "/nowhere/at/all.conf"}, "no such file"),
    ],
)
async def test_a_bad_configuration(options: dict[str, object], text: str) -> None:
    with pytest.raises(natsc.ConfigError, match=text):
        await natsc.Server(**options).start()


def test_a_directive_that_protects_and_is_not_had_yet_is_refused() -> None:
    with pytest.raises(natsc.ConfigError, match="cannot enforce yet: ocsp"):
        natsc.Server("ocsp: true")


@pytest.mark.parametrize("value", [None, object(), {'"': 1}])
def test_a_keyword_that_no_directive_can_have(value: object) -> None:
    with pytest.raises(TypeError):
        natsc.Server(server_name=value)


# Log


async def test_quiet_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    async with natsc.Server(debug=True):
        pass
    assert capfd.readouterr() == ("", "")


async def test_log_lines_for_a_callable() -> None:
    lines: list[tuple[str, str]] = []
    async with natsc.Server(log=lambda level, text: lines.append((level, text))):
        pass
    assert ("INF", "Server is ready") in lines
    assert lines[-1] == ("INF", "Server Exiting..")


async def test_a_callable_that_fails_stops_nothing() -> None:
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    def log(level: str, text: str) -> None:
        raise OSError("full")

    await hold(log=log)
    assert isinstance(failures[0]["exception"], OSError)


async def test_a_log_file(tmp_path: Path) -> None:
    await hold(log=tmp_path / "server.log")
    assert "[INF] Server is ready" in (tmp_path / "server.log").read_text()


async def test_log_lines_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    await hold(log="stderr")
    assert "[INF] Server is ready" in capfd.readouterr().err


async def test_a_log_that_cannot_be_opened() -> None:
    with pytest.raises(natsc.StartError, match="no such file"):
        await natsc.Server(log="/nowhere/at/all.log").start()
