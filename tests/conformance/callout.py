"""An authentication service as a callout asks it, and what is in its requests and answers: all the tests' own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from nacl.public import Box, PrivateKey, PublicKey

from tests.jwts import Key, base32, encode, user_jwt

from .harness import TIMEOUT_S, Server, Wire

SUBJECT = "$SYS.REQ.USER.AUTH"
ISSUER = Key("A", "callout issuer")


def claims_of(token: str) -> dict[str, Any]:
    """What a JWT says, whoever signed it."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class XKey:
    """A curve key pair, always the same one for a name; str() is the public key."""

    def __init__(self, name: str) -> None:
        self.private = PrivateKey(Key("X", name).raw)
        self.public = base32(bytes([23 << 3]) + bytes(self.private.public_key))

    def __str__(self) -> str:
        return self.public

    @staticmethod
    def _key(text: str) -> PublicKey:
        return PublicKey(base64.b32decode(text + "=" * (-len(text) % 8))[1:33])

    def open(self, sealed: bytes, sender: str) -> bytes:
        assert sealed[:4] == b"xkv1"
        return Box(self.private, self._key(sender)).decrypt(sealed[28:], sealed[4:28])

    def seal(self, plain: bytes, recipient: str) -> bytes:
        nonce = os.urandom(24)
        return b"xkv1" + nonce + Box(self.private, self._key(recipient)).encrypt(plain, nonce).ciphertext


class Asked:
    """One request: its JWT's claims, and the parts of them that matter."""

    def __init__(self, subject: str, reply: str, headers: bytes, payload: bytes, xkey: XKey | None) -> None:
        self.subject, self.reply, self.headers, self.payload = subject, reply, headers, payload
        self.server_xkey = ""
        for line in headers.decode().split("\r\n"):
            name, _, value = line.partition(":")
            if name == "Nats-Server-Xkey":
                self.server_xkey = value.strip()
        self.token = (xkey.open(payload, self.server_xkey) if xkey is not None else payload).decode()
        self.claims = claims_of(self.token)
        self.nats: dict[str, Any] = self.claims["nats"]
        self.user: str = self.nats["user_nkey"]
        self.server_id: str = self.nats["server_id"]["id"]
        self.options: dict[str, Any] = self.nats["connect_opts"]
        self.client: dict[str, Any] = self.nats["client_info"]


def user(
    asked: Asked, account: str = "", *, signer: Key = ISSUER, claims: dict[str, Any] | None = None, **nats: Any
) -> str:
    """The JWT of a user for whom it was asked; account: where it goes, in configuration mode."""
    said = {"sub": asked.user, "name": "", **({"aud": account} if account else {}), **(claims or {})}
    return user_jwt(Key("U", "unused"), signer, claims=said, **nats)


def response(
    asked: Asked,
    *,
    jwt: str = "",
    error: str = "",
    signer: Key = ISSUER,
    claims: dict[str, Any] | None = None,
    forged: Key | None = None,
    header: dict[str, str] | None = None,
    **nats: Any,
) -> bytes:
    """An answer: the JWT of a user, or an error."""
    said = {"type": "authorization_response", "version": 2}
    said.update({name: value for name, value in (("jwt", jwt), ("error", error)) if value})
    body = {"sub": asked.user, "aud": asked.server_id, **(claims or {}), "nats": {**said, **nats}}
    return encode(body, signer, forged=forged, header=header).encode()


Handler = Callable[[Asked], "bytes | None"]


class Service:
    """Answers callouts over a raw connection, in a thread; `asked` has them in order. handler: None for no answer."""

    def __init__(self, wire: Wire, handler: Handler, xkey: XKey | None = None) -> None:
        self.wire = wire
        self.handler = handler
        self.xkey = xkey
        self.asked: list[Asked] = []
        self.faults: list[BaseException] = []
        self._news = threading.Condition()
        wire.timeout = 3600
        wire.sub(SUBJECT)
        assert wire.flush() == []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                op = self.wire.op()
                try:
                    self._answer(op)
                except (OSError, EOFError):
                    raise
                except BaseException as fault:
                    self.faults.append(fault)

    def _answer(self, op: bytes) -> None:
        head, _, data = op.partition(b"\r\n")
        words = head.decode().split()
        assert words[0] in ("MSG", "HMSG"), op
        size = int(words[-2]) if words[0] == "HMSG" else 0
        asked = Asked(words[1], words[3], data[:size], data[size:], self.xkey)
        with self._news:
            self.asked.append(asked)
            self._news.notify_all()
        answer = self.handler(asked)
        if answer is not None:
            self.wire.pub(asked.reply, answer)

    def wait(self, count: int = 1) -> Asked:
        """The count-th request, once it is there."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.asked) >= count, TIMEOUT_S), "nobody asked"
            return self.asked[count - 1]

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the server may have closed it
            self.wire.sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads; close() doesn't
        self._thread.join(TIMEOUT_S)
        self.wire.close()
        assert not self.faults, self.faults


def system_listener(dial: Callable[..., Wire], server: Server, subject: str, **login: Any) -> Wire:
    wire = dial(server).ready(**login).sub(subject)
    assert wire.flush() == []
    return wire


def event(wire: Wire) -> dict[str, Any]:
    """The JSON of the next message."""
    op = wire.op()
    return json.loads(op.partition(b"\r\n")[2])
