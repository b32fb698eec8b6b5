"""Operator mode through the WebSocket door: the same rules, and a JWT may come in a cookie."""

from __future__ import annotations

import json

import pytest

from tests.jwts import account_jwt, user_jwt

from .test_jwt import ACCOUNT, OPERATOR, USER, config
from .test_websocket import Door

VIOLATION = b"-ERR 'Authorization Violation'\r\n"
CONFIG = config(account_jwt(ACCOUNT, OPERATOR)) + (
    "websocket { listen: 127.0.0.1:-1, no_tls: true, jwt_cookie: token, handshake_timeout: 5s }\n"
)


@pytest.fixture
def port(shared_server):
    server = shared_server(CONFIG)
    return int(server.wait_log(r"Listening for websocket clients on ws://127\.0\.0\.1:(\d+)")[1])


def login(port, *, cookie=None, **fields):
    """The answer to CONNECT and PING; a `sig` that is true becomes the nonce's signature."""
    door = Door(port, **({"Cookie": f"other=1; token={cookie}"} if cookie else {}))
    info = json.loads(door.frame()[1][5:])
    if fields.get("sig"):
        fields["sig"] = USER.sign(info["nonce"])
    door.say(b"CONNECT " + json.dumps({"verbose": False, **fields}).encode() + b"\r\nPING\r\n")
    return door.frame()[1]


def test_a_jwt_and_a_signature(port):
    assert login(port, jwt=user_jwt(USER, ACCOUNT), sig=True) == b"PONG\r\n"


def test_a_bearer_token_in_a_cookie(port):
    assert login(port, cookie=user_jwt(USER, ACCOUNT, bearer_token=True)) == b"PONG\r\n"


def test_a_jwt_in_a_cookie_still_wants_a_signature(port):
    assert login(port, cookie=user_jwt(USER, ACCOUNT)) == VIOLATION
    assert login(port, cookie=user_jwt(USER, ACCOUNT), sig=True) == b"PONG\r\n"


def test_a_cookie_that_is_none(port):
    assert login(port, cookie="rubbish") == VIOLATION
    assert login(port) == VIOLATION


@pytest.mark.parametrize(("kind", "answer"), [("WEBSOCKET", b"PONG\r\n"), ("STANDARD", VIOLATION)])
def test_connection_types(port, kind, answer):
    token = user_jwt(USER, ACCOUNT, bearer_token=True, allowed_connection_types=[kind])
    assert login(port, cookie=token) == answer
