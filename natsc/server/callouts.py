"""Authentication callouts: a service in an account is asked about each connection that isn't the server's own to judge.

DESIGN. The connection waits, its input with it; nothing else does. A question is published on $SYS.REQ.USER.AUTH in the
callout's account, as a JWT that the server signs; the answer comes to an inbox (natsc/auth/callout.py reads it). From
CONNECT on a connection has auth_timeout, whether it waits for its turn, for the answer, or for an operator's account to
be fetched.

Whoever connects causes a question before it has proven anything, so IN_FLIGHT_MAX are asked at a time. Those behind
wait in order and cost no more than their connection; who leaves, leaves the line.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from natsc.auth.callout import CalloutRefused, Peer, ProxyRequired, Question
from natsc.auth.jwt import encode
from natsc.auth.nkeys import KeyPair
from natsc.auth.permissions import CALLOUT_SUBJECT
from natsc.auth.xkeys import CurvePair, XKeyError
from natsc.client_info import raw_user
from natsc.config.gotext import quote
from natsc.config.keys import PREFIX_SERVER, PREFIX_USER, random_public_key
from natsc.errors import PROXY_REQUIRED
from natsc.server import info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc._core import Client, Request
    from natsc.auth import jwt
    from natsc.auth.claims import ClaimAccount
    from natsc.auth.users import Delegated, Grant
    from natsc.config.options import Account
    from natsc.server.server import Server

    Then = Callable[[Client, Grant | None], object]

IN_FLIGHT_MAX = 1024
_SECOND = 1_000_000_000
_AUDIENCE = "nats-authorization-request"
_XKEY_HEADER = "Nats-Server-Xkey"
_DOORS = {"WEBSOCKET": "websocket"}


class Identity:
    """The server's keys: it signs its questions, and what is sealed for it can be opened."""

    def __init__(self) -> None:
        self.signer = KeyPair.create(PREFIX_SERVER)
        self.curve = CurvePair()


class _Asked:
    """A connection that waits. question, inbox: once it was asked. answered: the answer is here, its account isn't."""

    __slots__ = ("answered", "client", "delegated", "inbox", "question", "then", "timer", "token")

    def __init__(self, client: Client, delegated: Delegated, then: Then) -> None:
        self.client = client
        self.delegated = delegated
        self.then = then
        self.question: Question | None = None
        self.inbox: _Inbox | None = None
        self.token = b""
        self.answered = False
        self.timer: Any = None


class _Inbox:
    """Where answers come to in one account, while there are questions."""

    def __init__(self, name: str, subscription: Client) -> None:
        self.account_name = name
        self.subscription = subscription
        self.waiting: dict[bytes, _Asked] = {}


class Callouts:
    """The callouts of one server."""

    def __init__(self, server: Server, identity: Identity) -> None:
        self._server = server
        self._identity = identity
        self._waiting: dict[Client, _Asked] = {}
        self._queue: deque[_Asked] = deque()
        self._in_flight = 0
        self._inboxes: dict[str, _Inbox] = {}
        self._prefix = f"$SYS._INBOX.{server.event_id()[:8]}"
        self._pumping = False

    def __contains__(self, client: Client) -> bool:
        return client in self._waiting

    def ask(self, client: Client, delegated: Delegated, then: Then) -> None:
        """Asks about a connection, and calls then(client, grant) unless it has gone meanwhile; None: it is refused."""
        asked = self._waiting[client] = _Asked(client, delegated, then)
        timeout = float(self._server.options.auth_timeout)
        asked.timer = self._server.clock.call_later(timeout, partial(self._late, asked))
        self._queue.append(asked)
        self._pump_soon()

    def forget(self, client: Client) -> None:
        """A connection is gone."""
        asked = self._waiting.get(client)
        if asked is not None:
            self._end(asked)

    def close(self) -> None:
        """Nobody is asked any more, and nobody is let in."""
        self._queue.clear()
        for client in list(self._waiting):
            self.forget(client)

    def check(self) -> None:
        """Says what of the configuration can't work."""
        callout, log = self._server.options.auth_callout, self._server.log
        if callout is None:
            return
        known = self._server.configured_account(callout.account) is not None
        if not known:
            log.error(f"Authorization callout account {quote(callout.account)} not valid")
        own = self._server.options.websocket.username
        for name in callout.auth_users:
            if name != own and not self._server.auth.knows(name):
                why = "<nil>" if known else "account missing"
                log.error(f"Authorization callout user {quote(name)} not valid: {why}")

    # Asking

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._server.loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        while self._queue and self._in_flight < IN_FLIGHT_MAX:
            asked = self._queue.popleft()
            if asked.client in self._waiting:
                self._send(asked)
        self._server.engine.end_turn()

    def _send(self, asked: _Asked) -> None:
        server, name = self._server, asked.delegated.account_name
        claimed = server.claims.accounts.get(name) if server.claims is not None else None
        callout = server.options.auth_callout
        xkey = claimed.callout_xkey if claimed is not None else callout.xkey if callout is not None else ""
        asked.question = question = Question(
            name, claimed, "" if callout is None else callout.issuer, random_public_key(PREFIX_USER), server.server_id,
            self._identity.curve, xkey,
        )  # fmt: skip
        if claimed is None and (callout is None or server.configured_account(name) is None):
            why = f"No valid account {quote(name)} for auth callout request: account missing"
            self._refuse(asked, CalloutRefused(why))
            return
        payload = encode(self._claims(asked, question), self._identity.signer).encode()
        headers = None
        if xkey:
            try:
                payload = self._identity.curve.seal(payload, xkey)
            except XKeyError as error:
                why = f"Error encrypting auth request claim on account {quote(name)}: {error}"
                self._refuse(asked, CalloutRefused(why))
                return
            headers = f"NATS/1.0\r\n{_XKEY_HEADER}: {self._identity.curve.public_key}\r\n\r\n".encode()
        self._in_flight += 1
        asked.inbox = inbox = self._inbox(name)
        asked.token = server.event_id().encode()
        inbox.waiting[asked.token] = asked
        reply = f"{self._prefix}.".encode() + asked.token
        server.engine.publish(server.account(name), CALLOUT_SUBJECT.encode(), payload, reply=reply, headers=headers)

    def _inbox(self, name: str) -> _Inbox:
        inbox = self._inboxes.get(name)
        if inbox is None:
            engine, account = self._server.engine, self._server.account(name)
            subject = f"{self._prefix}.*".encode()
            inbox = _Inbox(name, engine.subscribe(account, subject, partial(self._on_answer, name)))
            self._inboxes[name] = inbox
        return inbox

    def _claims(self, asked: _Asked, question: Question) -> dict[str, Any]:
        """The question, with members in nats-server's order; empty ones are left out."""
        server, client, delegated = self._server, asked.client, asked.delegated
        opts, now_ns = client.opts or {}, server.clock.wall_ns()
        signature = opts.get("sig", "")
        here = {
            "name": server.server_name, "host": server.options.host, "id": server.server_id, "version": info.VERSION,
            "cluster": server.options.cluster.name, "tags": server.options.tags,
            "xkey": self._identity.curve.public_key if question.xkey else "",
        }  # fmt: skip
        about = {
            "host": client.ip, "id": client.cid, "user": raw_user(opts), "name": client.name, "tags": delegated.tags,
            "name_tag": delegated.name, "kind": "Client", "type": _DOORS.get(client.door, "nats"),
            "nonce": (client.nonce or b"").decode() if signature else "",
        }  # fmt: skip
        said = {name: opts.get(name) for name in ("jwt", "nkey", "sig", "auth_token", "user", "pass")}
        said.update(name=client.name, lang=client.lang, version=client.version)
        nats: dict[str, Any] = {
            "server_id": _given(here), "user_nkey": question.user, "client_info": _given(about),
            "connect_opts": {**_given(said), "protocol": opts.get("protocol", 0)},
        }  # fmt: skip
        tls = client.conn.tls if client.conn is not None else None
        if tls is not None:
            nats["client_tls"] = _tls(tls)
        nats.update(type="authorization_request", version=2)
        return {
            "aud": _AUDIENCE, "exp": (now_ns + int(server.options.auth_timeout * _SECOND)) // _SECOND, "jti": "",
            "iat": now_ns // _SECOND, "iss": "", "sub": question.issuer or question.account, "nats": nats,
        }  # fmt: skip

    # Answers

    def _on_answer(self, name: str, request: Request) -> None:
        inbox = self._inboxes.get(name)
        asked = inbox.waiting.get(request.subject.rpartition(b".")[2]) if inbox is not None else None
        if asked is None or asked.answered:
            return
        asked.answered = True
        question = asked.question
        assert question is not None
        now = self._server.clock.wall_ns() // _SECOND
        try:
            claims = question.read(request.payload, now)
            question.check_user(claims, self._peer(asked), now)
            target = question.target(claims)
        except CalloutRefused as refusal:
            self._refuse(asked, refusal)
            return
        accounts = self._server.claims
        if accounts is None or accounts.want(target, partial(self._place, asked, claims, target)):
            self._place(asked, claims, target)

    def _peer(self, asked: _Asked) -> Peer:
        server, client = self._server, asked.client
        return Peer(
            info.connection_type(client), client.ip, server.client_debug(client),
            partial(server.log_client, client, "error"), proxied=bool((client.opts or {}).get("proxy_key")),
            needs_proxy=asked.delegated.needs_proxy,
        )  # fmt: skip

    def _place(self, asked: _Asked, claims: jwt.UserClaims, name: str) -> None:
        """Puts the user into its account, about which all is known that can be."""
        client, question, server = asked.client, asked.question, self._server
        if client not in self._waiting or question is None:
            return
        try:
            target = self._account(name)
            if target is None:
                raise question.no_account(name)
            grant = question.grant(claims, target, self._peer(asked), server.clock.wall_ns())
        except CalloutRefused as refusal:
            self._refuse(asked, refusal)
            return
        opts = client.opts = dict(client.opts or {})
        opts.pop("jwt", None)  # it was the one that was asked with
        if claims.name:
            for field in ("nkey", "auth_token", "public_key"):
                opts.pop(field, None)
            opts["user"] = claims.name
        grant.user, grant.delegated = raw_user(opts), True
        if grant.jwt_user is not None:
            grant.jwt_user.tags = asked.delegated.tags
        before = asked.delegated.grant
        ends = [one.expires for one in (grant, before) if one is not None and one.expires is not None]
        grant.expires = min(ends, default=None)  # what it was asked with ends it too
        self._conclude(asked, grant)

    def _account(self, name: str) -> ClaimAccount | Account | None:
        server = self._server
        if server.claims is not None:
            return server.claims.accounts.get(name)
        return server.configured_account(name)

    # Ends

    def _late(self, asked: _Asked) -> None:
        name = asked.delegated.account_name
        self._server.log.debug(f"Authorization callout response not received in time on account {quote(name)}")
        self._refuse(asked, None)

    def _refuse(self, asked: _Asked, why: CalloutRefused | None) -> None:
        """None: there was no answer."""
        opts = asked.client.opts = dict(asked.client.opts or {})
        opts["auth_error"] = (asked.delegated.account_name, str(why or ""))
        if isinstance(why, ProxyRequired):
            opts["close_reason"] = PROXY_REQUIRED
        self._conclude(asked, None)
        if why is not None:
            self._server.log.warn(str(why))

    def _conclude(self, asked: _Asked, grant: Grant | None) -> None:
        self._end(asked)
        asked.then(asked.client, grant)
        if asked.client.conn is not None:
            asked.client.conn.resume()
        self._server.engine.end_turn()

    def _end(self, asked: _Asked) -> None:
        """It waits no more."""
        self._waiting.pop(asked.client, None)
        asked.timer.cancel()
        inbox = asked.inbox
        if inbox is None:
            return
        self._in_flight -= 1
        inbox.waiting.pop(asked.token, None)
        if not inbox.waiting:
            self._server.engine.unsubscribe(inbox.subscription)
            del self._inboxes[inbox.account_name]
        if self._queue:
            self._pump_soon()


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}


def _tls(layer: Any) -> dict[str, Any]:
    """The connection's TLS, with all certificates: those of a verified peer up to who has signed them."""
    chain = layer.verified_chain()
    shown: dict[str, Any] = {"version": layer.version(), "cipher": layer.cipher()}
    if chain:
        shown["verified_chains"] = [[_pem(der) for der in chain]]
    elif certs := layer.peer_certs():
        shown["certs"] = [_pem(der) for der in certs]
    return shown


def _pem(der: bytes) -> str:
    from base64 import b64encode

    text = b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))
