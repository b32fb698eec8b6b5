"""bcrypt hashes are compared off the loop, a few at a time, and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time

import bcrypt
import pytest

from natsc.server import auth_threads

HASH = bcrypt.hashpw(b"p", bcrypt.gensalt(4)).decode()
CONFIG = f'authorization {{ timeout: 2, users [{{user: a, password: "{HASH}"}}] }}\n'
VIOLATION = "-ERR 'Authorization Violation'"


class Held:
    """An authenticator whose verdicts wait until they are released. `running` counts those that were asked for."""

    def __init__(self, auth, monkeypatch):
        self.gate = threading.Semaphore(0)
        self.running = 0
        self.answer = auth.authenticate
        monkeypatch.setattr(auth, "authenticate", self.authenticate)

    def authenticate(self, *args, **kwargs):
        self.running += 1
        assert self.gate.acquire(timeout=10)
        return self.answer(*args, **kwargs)


@pytest.fixture
def made(bench):
    return bench(CONFIG)


@pytest.fixture
def held(made, monkeypatch):
    return Held(made.server.auth, monkeypatch)


def until(made, done) -> None:
    """Runs the loop until done() holds."""

    async def wait():
        deadline = time.monotonic() + 10
        while not done():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.001)

    made.server.loop.run_until_complete(wait())


def test_the_right_password(made):
    peer = made.login("a")
    assert not peer.client.connected
    until(made, lambda: peer.client.connected)
    assert peer.client.user == "a"


def test_a_wrong_one(made):
    peer = made.login("a", "wrong")
    until(made, lambda: peer.reason)
    assert (peer.hears(), peer.reason) == ([VIOLATION], "Authentication Failure")


def test_no_more_than_a_few_at_a_time(made, held, monkeypatch):
    monkeypatch.setattr(auth_threads, "THREADS", 2)
    peers = [made.login("a") for _ in range(5)]
    until(made, lambda: held.running == 2)
    held.gate.release()
    until(made, lambda: held.running == 3)
    held.gate.release(4)
    until(made, lambda: all(peer.client.connected for peer in peers))


def test_in_order(made, held, monkeypatch):
    monkeypatch.setattr(auth_threads, "THREADS", 1)
    peers = [made.login("a") for _ in range(3)]
    for count in range(1, 4):
        held.gate.release()
        until(made, lambda: peers[count - 1].client.connected)  # noqa: B023
        assert [peer.client.connected for peer in peers] == [True] * count + [False] * (3 - count)


def test_who_waits_too_long_is_closed(made, held, monkeypatch):
    monkeypatch.setattr(auth_threads, "THREADS", 1)
    first, second = made.login("a"), made.login("a")
    made.server.clock.advance(2)
    assert (second.hears(), second.reason) == (["-ERR 'Authentication Timeout'"], "Authentication Timeout")
    assert not first.reason  # its comparison runs: that may take as long as it takes
    held.gate.release()
    until(made, lambda: first.client.connected)
    assert held.running == 1


def test_who_left_costs_no_comparison(made, held, monkeypatch):
    monkeypatch.setattr(auth_threads, "THREADS", 1)
    peers = [made.login("a") for _ in range(3)]
    peers[1].client.close(1)
    made.server.engine.end_turn()
    held.gate.release(3)
    until(made, lambda: peers[2].client.connected)
    assert held.running == 2


def test_who_leaves_meanwhile(made, held):
    peer = made.login("a")
    peer.client.close(1)
    made.server.engine.end_turn()
    held.gate.release()
    until(made, lambda: not made.server._auth_threads._running)
    assert not peer.client.connected


def test_a_failure_refuses_and_is_logged(made, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("bad salt")

    monkeypatch.setattr(made.server.auth, "authenticate", fail)
    peer = made.login("a")
    until(made, lambda: peer.reason)
    assert peer.hears() == [VIOLATION]
    assert "127.0.0.1:1 - cid:5 - authentication failed: ValueError: bad salt" in made.log.texts("error")


def test_reasons_are_logged(made, monkeypatch):
    def refuse(connect, *, debug, warn, **_):
        debug("why")
        warn("look")

    monkeypatch.setattr(made.server.auth, "authenticate", refuse)
    peer = made.login("a")
    until(made, lambda: peer.reason)
    assert "127.0.0.1:1 - cid:5 - why" in made.log.texts("debug")
    assert made.log.texts("warn")[-1] == "look"


def test_after_a_reload_its_rules_count(made, held):
    peer = made.login("a")
    until(made, lambda: held.running)
    made.reload(CONFIG.replace("user: a", "user: b"))
    held.gate.release()
    until(made, lambda: peer.reason)
    assert peer.reason == "Authentication Failure"


def test_no_verdict_after_shutdown(made, held):
    peer = made.login("a")
    until(made, lambda: held.running)
    made.server.loop.run_until_complete(made.server.shutdown())
    held.gate.release()
    until(made, lambda: not made.server._auth_threads._running)
    assert (peer.reason, peer.client.connected) == ("Server Shutdown", False)
