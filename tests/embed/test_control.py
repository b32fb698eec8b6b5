"""An embedded server that changes while it runs: its clock, its configuration, its accounts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nats
import pytest

import natsc
from natsc.server.reload import ReloadError

from .conftest import Run, dial, dial_in_process

# Clock


def test_a_frozen_clock_moves_when_it_is_told_to(run: Run) -> None:
    async def main() -> None:
        async with natsc.Server(authorization={"token": "t", "timeout": 5}) as server:
            server.clock.freeze()
            late = await dial(server, auth_token="t")
            assert (await late.until_pong()) == []
            reader, writer = await server.connect_in_process()
            await reader.readline()
            server.clock.advance(4.9)
            await late.until_pong()
            assert not reader.at_eof()
            server.clock.advance(0.2)
            assert await asyncio.wait_for(reader.read(), 10) == b"-ERR 'Authentication Timeout'\r\n"
            writer.close()
            await late.close()

    run(main())


async def test_it_stands_still_when_frozen() -> None:
    async with natsc.Server() as server:
        server.clock.freeze()
        monotonic, wall = server.clock.now_ns(), server.clock.wall_ns()
        server.clock.advance(1.5)
        assert server.clock.now_ns() - monotonic == server.clock.wall_ns() - wall == 1_500_000_000


async def test_pings_and_stale_connections_follow_the_clock() -> None:
    async with natsc.Server(ping_interval="60s", ping_max=1) as server:
        server.clock.freeze()
        line = await dial(server)
        await line.until_pong()
        for _ in range(2):
            server.clock.advance(61)
        assert await line.rest() == b"PING\r\n-ERR 'Stale Connection'\r\n"
        await line.close()


def test_timers_keep_up_with_a_clock_that_was_moved_and_runs(run: Run) -> None:
    async def main() -> None:
        async with natsc.Server(authorization={"token": "t", "timeout": 60}) as server:
            reader, writer = await server.connect_in_process()
            await reader.readline()
            server.clock.advance(59.99)
            assert await asyncio.wait_for(reader.read(), 10)  # 10 ms later, not 60 s
            writer.close()

    run(main())


async def test_the_clock_runs_on_from_where_it_stands() -> None:
    async with natsc.Server() as server:
        before = server.clock.now_ns()
        server.clock.freeze()
        server.clock.advance(100)
        server.clock.unfreeze()
        assert 100e9 <= server.clock.now_ns() - before < 110e9


# Reload


async def test_reload_takes_over_keywords_and_keeps_the_others() -> None:
    async with natsc.Server(max_payload=1000, server_name="same") as server:
        port = server.ports["nats"]
        server.reload(max_payload=2000)
        line = await dial(server)
        assert (line.info["max_payload"], line.info["server_name"], server.ports["nats"]) == (2000, "same", port)
        await line.close()


async def test_reload_reads_its_file_again(tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("max_payload: 100")
    async with natsc.Server(path=path) as server:
        path.write_text("max_payload: 200")
        server.reload()
        line = await dial(server)
        assert line.info["max_payload"] == 200
        await line.close()


@pytest.mark.parametrize(
    ("change", "error"), [({"server_name": "x"}, ReloadError), ({"config": "what"}, natsc.ConfigError)]
)
async def test_a_reload_that_is_refused_changes_nothing(change: dict[str, str], error: type[Exception]) -> None:
    async with natsc.Server(max_payload=1000) as server:
        with pytest.raises(error):
            server.reload(max_payload=2000, **change)
        server.reload()
        line = await dial(server)
        assert line.info["max_payload"] == 1000
        await line.close()


# Accounts


async def test_accounts_are_subject_spaces_of_their_own() -> None:
    async with natsc.Server() as server:
        one, two = server.account(), server.account()
        assert one.account != two.account
        a, b, outside = await nats.connect(one.url), await nats.connect(two.url), await nats.connect(server.url)
        in_a, in_b, in_global = await a.subscribe(">"), await b.subscribe(">"), await outside.subscribe(">")
        for client in (a, b, outside):
            await client.flush()
        await a.publish("x", b"1")
        await a.flush()
        assert (await in_a.next_msg(timeout=5)).data == b"1"
        for client, sub in ((b, in_b), (outside, in_global)):
            await client.flush()
            assert sub.pending_msgs == 0
        for client in (a, b, outside):
            await client.close()


async def test_an_account_as_it_is_wanted() -> None:
    async with natsc.Server() as server:
        made = server.account("ORDERS", user="me", password="secret")
        assert (made.account, made.user, made.password) == ("ORDERS", "me", "secret")
        client = await nats.connect(made.url)
        await client.close()


async def test_a_url_with_credentials_is_escaped() -> None:
    async with natsc.Server() as server:
        made = server.account(user="me@home", password="p/w:1")
        assert made.url == f"nats://me%40home:p%2Fw%3A1@127.0.0.1:{server.ports['nats']}"


async def test_a_wrong_password_is_refused() -> None:
    async with natsc.Server() as server:
        made = server.account()
        line = await dial_in_process(server, user=made.user, **{"pass": "wrong"})
        assert await line.rest() == b"-ERR 'Authorization Violation'\r\n"
        await line.close()


async def test_the_password_is_not_shown() -> None:
    async with natsc.Server() as server:
        made = server.account()
        assert made.password not in repr(made)


async def test_who_needed_no_credentials_still_needs_none() -> None:
    async with natsc.Server() as server:
        before = await dial(server)
        name = server.account().account
        after = await dial(server)
        for line in (before, after):
            assert await line.until_pong() == []
        server.remove_account(name)
        for line in (before, after):
            assert await line.until_pong() == []
            await line.close()


@pytest.mark.parametrize(
    ("authorization", "connect"),
    [({"user": "u", "password": "p"}, {"user": "u", "pass": "p"}), ({"token": "t"}, {"auth_token": "t"})],
)
async def test_who_needed_credentials_still_needs_them(authorization: dict[str, str], connect: dict[str, str]) -> None:
    async with natsc.Server(authorization=authorization) as server:
        server.account()
        good, bad = await dial(server, **connect), await dial(server)
        assert await good.until_pong() == []
        assert await bad.rest() == b"-ERR 'Authorization Violation'\r\n"
        await good.close()
        await bad.close()


async def test_names_that_are_taken() -> None:
    async with natsc.Server(accounts={"A": {"users": [{"user": "a", "password": "a"}]}}) as server:
        server.account("B", user="b")
        for options in ({"name": "A"}, {"name": "B"}, {"name": "$G"}, {"user": "a"}, {"user": "b"}):
            with pytest.raises(ValueError, match="exists already"):
                server.account(**options)


async def test_a_removed_account_closes_its_connections() -> None:
    async with natsc.Server() as server:
        made = server.account()
        line = await dial(server, user=made.user, **{"pass": made.password})
        await line.until_pong()
        server.remove_account(made.account)
        assert await line.rest() == b""
        await line.close()


async def test_accounts_survive_a_reload() -> None:
    async with natsc.Server() as server:
        made = server.account()
        line = await dial(server, user=made.user, **{"pass": made.password})
        await line.until_pong()
        server.reload(max_payload=1000)
        await line.until_pong()
        await line.close()


async def test_reset_closes_connections_and_forgets_accounts() -> None:
    async with natsc.Server() as server:
        made = server.account()
        line = await dial(server)
        await line.until_pong()
        server.reset()
        assert await line.rest() == b""
        again = await dial(server, user=made.user, **{"pass": made.password})
        assert await again.rest() == b"-ERR 'Authorization Violation'\r\n"
        for each in (line, again):
            await each.close()
