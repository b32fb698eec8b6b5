"""Callouts inside of one server: how many at a time, who waits how long, and what is left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import bcrypt
import pytest

from natsc.server import callouts
from tests.conformance.callout import ISSUER, Asked, response, user

CONFIG = f"""
    accounts {{
        AUTH {{ users [ {{user: auth, password: p}} ] }}
        BAR {{}}
    }}
    authorization {{ timeout: 2, auth_callout {{ issuer: {ISSUER}, account: AUTH, auth_users: [auth] }} }}
"""
VIOLATION = "-ERR 'Authorization Violation'"


class Service:
    """Answers when it is told to."""

    def __init__(self, made: Any) -> None:
        self.made = made
        self.peer = made.login("auth")
        assert self.peer.client.connected
        self.peer.say("SUB $SYS.REQ.USER.AUTH 1")
        self.asked: list[Asked] = []

    def hear(self) -> list[Asked]:
        """All questions so far."""
        self.made.server.loop.run_until_complete(asyncio.sleep(0))
        lines = self.peer.hears()
        for head, payload in zip(lines[::2], lines[1::2], strict=True):
            _, subject, _, reply, _ = head.split()
            self.asked.append(Asked(subject, reply, b"", payload.encode(), None))
        return self.asked

    def answer(self, asked: Asked, payload: bytes | None = None) -> None:
        payload = response(asked, jwt=user(asked, "BAR")) if payload is None else payload
        self.peer.say(f"PUB {asked.reply} {len(payload)}", payload.decode())


def until(made: Any, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        made.server.loop.run_until_complete(asyncio.sleep(0.001))


@pytest.fixture
def made(bench):
    return bench(CONFIG)


@pytest.fixture
def service(made):
    return Service(made)


def idle(made) -> bool:
    """Whether nothing is left of any question."""
    asking = made.server.callouts
    return not (asking._waiting or asking._queue or asking._inboxes or asking._in_flight)


def test_let_in(made, service):
    peer = made.login("u")
    assert not peer.client.connected
    [asked] = service.hear()
    service.answer(asked)
    assert peer.client.connected
    assert (peer.client.account.name, peer.client.user) == ("BAR", "u")
    assert idle(made)


def test_so_many_are_asked_about_and_no_more(made, service, monkeypatch):
    monkeypatch.setattr(callouts, "IN_FLIGHT_MAX", 3)
    peers = [made.login(f"u{number}") for number in range(8)]
    assert [asked.options["user"] for asked in service.hear()] == ["u0", "u1", "u2"]
    service.answer(service.asked[1])
    service.answer(service.asked[0], b"")
    assert [asked.options["user"] for asked in service.hear()] == ["u0", "u1", "u2", "u3", "u4"]
    for _ in range(4):
        for asked in service.hear()[2:]:
            service.answer(asked)
    assert [peer.client.connected for peer in peers] == [False] + [True] * 7
    assert peers[0].hears() == [VIOLATION]
    assert idle(made)


def test_who_waits_in_line_has_no_more_time_than_others(made, service, monkeypatch):
    monkeypatch.setattr(callouts, "IN_FLIGHT_MAX", 1)
    peers = [made.login(f"u{number}") for number in range(3)]
    assert len(service.hear()) == 1
    made.server.clock.advance(2.1)
    assert [peer.hears() for peer in peers] == [[VIOLATION]] * 3
    assert len(service.hear()) == 1
    assert idle(made)


def test_who_leaves_the_line(made, service, monkeypatch):
    monkeypatch.setattr(callouts, "IN_FLIGHT_MAX", 1)
    peers = [made.login(f"u{number}") for number in range(3)]
    service.hear()
    for peer in peers[:2]:
        peer.client.close(1)
    made.server.engine.end_turn()
    assert [asked.options["user"] for asked in service.hear()] == ["u0", "u2"]
    service.answer(service.asked[0])  # nobody's any more
    service.answer(service.asked[1])
    assert [peer.client.connected for peer in peers] == [False, False, True]
    assert idle(made)


def test_late_answers(made, service):
    peer = made.login("u")
    [asked] = service.hear()
    made.server.clock.advance(2.1)
    assert peer.reason == "Authentication Failure"
    service.answer(asked)
    assert not peer.client.connected


def test_answers_to_questions_that_nobody_asked(made, service):
    peer = made.login("u")
    [asked] = service.hear()
    prefix, _, token = asked.reply.rpartition(".")
    for reply in (f"{prefix}.{token[::-1]}", f"{prefix}.x", f"{prefix}.{token}.x"):
        other = Asked(asked.subject, reply, b"", asked.payload, None)
        service.answer(other)
    assert not peer.client.connected
    assert peer.reason == ""


def test_the_end_of_the_server(made, service):
    peer = made.login("u")
    service.hear()
    made.server.callouts.close()
    assert idle(made)
    made.server.clock.advance(2.1)
    assert not peer.client.connected


def test_any_answer_is_one(made, service):
    """Nothing that a service may send gets further than a refusal."""
    peers = []
    answers = [b"", b"x", b"eyJ", b"eyJ.eyJ.eyJ", b"\xff\xfe", b"..", b"eyJ" * 1000, b"null.null.null", b"e30.e30.e30"]
    for payload in answers:
        peers.append(made.login("u"))
        asked = service.hear()[-1]
        service.peer.server.engine.receive(service.peer.client, b"PUB %b %d\r\n%b\r\n" % (
            asked.reply.encode(), len(payload), payload
        ))  # fmt: skip
        made.server.engine.end_turn()
    assert [peer.hears() for peer in peers] == [[VIOLATION]] * len(answers)
    assert idle(made)


def test_a_password_that_is_compared_on_a_thread_before(bench):
    """Both wait; what came behind CONNECT waits for both."""
    hashed = bcrypt.hashpw(b"p", bcrypt.gensalt(4)).decode()
    made = bench(CONFIG.replace("BAR {}", f'BAR {{ users [ {{user: b, password: "{hashed}"}} ] }}'))
    service = Service(made)
    resumed = []
    peers = [made.peer(), made.peer()]
    for peer, password in zip(peers, ("p", "wrong"), strict=True):
        peer.client.conn.resume = lambda: resumed.append(1)
        peer.connect("b", password)
    until(made, lambda: len(service.hear()) == 2)
    assert resumed == []
    for asked in service.asked:
        service.answer(asked)
    assert [peer.client.connected for peer in peers] == [True, True]
    assert len(resumed) == 2
    assert idle(made)


def test_logins_that_need_none_are_decided_at_once(made, service):
    peer = made.login("auth")
    assert peer.client.connected
    assert service.hear() == []
