"""An engine without sockets and without a running clock: bytes in, bytes out.

World holds an Engine, the hooks that a server would give it, and the peers that connected. Everything that happens is
caused by a call, so the same calls give the same bytes.

    world = World()
    a, b = world.connect(), world.connect()
    a.say(b"SUB foo 1\\r\\n")
    b.say(b"PUB foo 2\\r\\nhi\\r\\n")
    assert a.take() == b"MSG foo 1 2\\r\\nhi\\r\\n"

Peers that said no CONNECT are what the engine makes of a new client: not verbose, without headers, unless World is told
otherwise.
"""

from __future__ import annotations

from natsc import errors
from natsc._core import Engine
from natsc.engine.permissions import Permissions
from natsc.server.handshake import ACCEPTED, PENDING, REFUSED, BadConnect, parse_connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from natsc._core import Client
    from natsc.engine.account import Account

SECOND_NS = 1_000_000_000

# What on_violation's numbers mean (natsc/engine/hooks.pxd), as the -ERR says it.
VIOLATIONS = ("Publish to", "Publish with Reply of", "Subscription to", "Subscription to")


class User:
    """Whom CONNECT may name: an account's name and the rules."""

    def __init__(self, account: str = "$G", permissions: Permissions | None = None) -> None:
        self.account = account
        self.permissions = permissions


class Peer:
    """One connection: what it sends and what it was sent."""

    def __init__(self, world: World, client: Client, name: str) -> None:
        self.world = world
        self.client = client
        self.name = name
        self.out = bytearray()
        self.blocked = False  # keeps what it is sent in the engine

    def say(self, data: bytes, step: int | None = None) -> bytes:
        """Send, step bytes at a time where that is given, ending the turn after each; returns what came back."""
        for at in range(0, len(data), step or len(data) or 1):
            self.world.receive(self, data[at : at + (step or len(data))])
        return self.take()

    def say_pieces(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.world.receive(self, piece)

    def take(self) -> bytes:
        """What came since the last time."""
        if self.blocked:
            self.out += self.client.take_output()
        data = bytes(self.out)
        self.out.clear()
        return data

    @property
    def closed(self) -> bool:
        return self.client.closing

    @property
    def reason(self) -> str:
        return self.client.reason


class World:
    """An engine with a clock that stands still, and its peers.

    users: whom CONNECT may name; where that is given, CONNECT must come first (auth_timeout_ns after connecting at the
    latest). headers: whether peers may use them without having said so. The other options are the server's, in its
    units; -1 is no limit.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        users: dict[str, User] | None = None,
        auth_timeout_ns: int = 2 * SECOND_NS,
        headers: bool = False,
        verbose: bool = False,
        pedantic: bool = False,
        max_payload: int = 1 << 20,
        max_control_line: int = 4096,
        max_pending: int = 64 << 20,
        max_subs: int = -1,
        max_sub_tokens: int = 0,
    ) -> None:
        self.engine = Engine(self, seed=seed, frozen=True)
        self.engine.set_client_defaults(
            verbose=verbose, pedantic=pedantic, max_payload=max_payload, max_control_line=max_control_line,
            max_pending=max_pending, max_subs=max_subs, max_sub_tokens=max_sub_tokens,
        )  # fmt: skip
        self.users = users
        self.auth_timeout_ns = auth_timeout_ns
        self.headers = headers
        self.peers: dict[int, Peer] = {}  # every peer that there ever was, by cid
        self.log: list[tuple[str, ...]] = []  # (peer, what, ...) of each hook that only reports
        self.connect_answer: int | None = None  # what on_connect answers, in place of what it should

    def connect(self, name: str | None = None, account: str = "$G") -> Peer:
        client = self.engine.connect(self.engine.account(account), None, "127.0.0.1", 4000)
        peer = Peer(self, client, name or f"c{client.cid}")
        self.peers[client.cid] = peer
        if self.headers:
            client.set_connect(client.verbose, client.pedantic, client.echo, True)
        if self.users is not None:
            client.expect_connect(self.auth_timeout_ns)
        return peer

    def account(self, name: str = "$G") -> Account:
        return self.engine.account(name)

    def receive(self, peer: Peer, data: bytes) -> None:
        """One read of one peer, and the end of the turn."""
        self.engine.receive(peer.client, data)
        self.end_turn()

    def end_turn(self) -> None:
        self.engine.end_turn()
        self.collect()

    def collect(self) -> None:
        for peer in self.peers.values():
            if not peer.blocked:
                peer.out += peer.client.take_output()

    def advance(self, ns: int) -> None:
        self.engine.advance(ns)
        self.collect()

    def name(self, client: Client) -> str:
        return self.peers[client.cid].name

    # The engine's hooks: the server's answers (natsc/server/handshake.py) with the least around them.

    def on_connect(self, client: Client, arg: bytes) -> int:
        if self.connect_answer == PENDING:
            return PENDING
        try:
            said = {"verbose": True, "pedantic": True, "echo": True, **(client.opts or {}), **parse_connect(arg)}
        except BadConnect:
            client.close(errors.PROTOCOL_VIOLATION)
            return REFUSED
        client.begin_connect()
        client.opts = said
        client.set_connect(said["verbose"], said["pedantic"], said["echo"], bool(said.get("headers")))
        client.set_no_responders(bool(said.get("no_responders")))
        if client.connected:
            client.drop_subscriptions()
        if self.users is not None:
            user = self.users.get(said.get("user", ""))
            if user is None:
                return self._refuse(client)
            client.join(self.engine.account(user.account))
            client.set_permissions(user.permissions)
        client.accept()
        if said["verbose"]:
            client.send(b"+OK\r\n")
        return ACCEPTED

    def _refuse(self, client: Client) -> int:
        client.send_err(errors.AUTHORIZATION_VIOLATION)
        client.close(errors.AUTHENTICATION_VIOLATION)
        return REFUSED

    def on_first_op(self, client: Client) -> int:
        return bool(self._refuse(client))

    def on_info(self, client: Client, arg: bytes) -> bool:
        return arg.startswith(b"{")

    def on_first_ping(self, client: Client) -> None:
        self.log.append((self.name(client), "first_ping"))

    def on_violation(self, client: Client, which: int, subject: bytes, queue: bytes, sid: bytes) -> None:
        text = b'Permissions Violation for %s "%s"' % (VIOLATIONS[which].encode(), subject)
        text += b' using queue "%s"' % queue if queue and which == 2 else b""
        text += b", too many tokens" if which == 3 else b""
        client.send_err(text)

    def on_error(self, client: Client, what: str, detail: bytes, first: int, second: int) -> None:
        self.log.append((self.name(client), what, repr(detail), str(first), str(second)))

    def on_trace(self, client: Client, arrow: str, op: bytes, arg: bytes | None) -> None:
        self.log.append((self.name(client), arrow, repr(op), repr(arg)))

    def on_payload(self, client: Client, arrow: str, message: bytes, hdr_len: int) -> None:
        self.log.append((self.name(client), arrow, repr(message), str(hdr_len)))
