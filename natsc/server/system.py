"""The system account: which of its subjects the server listens to, and what is needed where events are told.

What answers (system_answers.py) and what composes events (system_events.py) is loaded when it is first needed.
"""

from __future__ import annotations

from natsc.errors import REFUSALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc._core import Client, Request
    from natsc.engine.account import Account
    from natsc.server.server import Server

SERVER_NAMES = (
    "IDZ", "STATSZ", "VARZ", "SUBSZ", "CONNZ", "ROUTEZ", "GATEWAYZ", "LEAFZ", "ACCOUNTZ", "JSZ", "HEALTHZ", "EXPVARZ",
    "IPQUEUESZ", "RAFTZ", "PROFILEZ",
)  # fmt: skip
SERVER_ACTIONS = ("RELOAD", "KICK", "LDM")
ACCOUNT_NAMES = ("SUBSZ", "CONNZ", "LEAFZ", "JSZ", "INFO", "STATZ", "CONNS")
# What every other account may ask: its subject there, and the system account's; the account's name is in its place.
IMPORTS = (
    ("$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.ACCOUNT.{}.CONNZ", False),
    ("$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.{}.CONNZ", False),
    ("$SYS.REQ.ACCOUNT.PING.STATZ", "$SYS.REQ.ACCOUNT.{}.STATZ", False),
    ("$SYS.REQ.USER.INFO", "$SYS.REQ.USER.{}.INFO", True),
)
STATSZ_SECONDS = 10.0
RESPONSE_THRESHOLD = 120_000_000_000


class System:
    """One server's part in its system account."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.account = server.account(server.system_account_name)
        self.sequence = 0  # of messages with a `server` block
        self._imports: dict[str, list[Any]] = {}
        self._statsz: Any = None

    def start(self) -> None:
        """Listens. Accounts that come later are told to serve()."""
        engine, ident = self.server.engine, self.server.server_id
        subjects = ["$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.*.INFO", "$SYS.REQ.USER.INFO", "$SYS.DEBUG.SUBSCRIBERS"]
        subjects += [f"$SYS.REQ.SERVER.PING.{name}" for name in SERVER_NAMES]
        subjects += [f"$SYS.REQ.SERVER.{ident}.{name}" for name in SERVER_NAMES + SERVER_ACTIONS]
        subjects += [f"$SYS.REQ.ACCOUNT.*.{name}" for name in ACCOUNT_NAMES]
        for subject in subjects:
            engine.subscribe(self.account, subject.encode(), self._answer)
        for account in engine.accounts():
            self.serve(account)
        self._statsz = self.server.clock.call_later(STATSZ_SECONDS, self._tell_statistics)

    def close(self) -> None:
        """Tells nothing any more."""
        if self._statsz is not None:
            self._statsz.cancel()

    def serve(self, account: Account) -> None:
        """Lets an account ask what every account may ask."""
        if account is self.account or account.name in self._imports:
            return
        from natsc.imports import Replies, ServiceImport

        engine = self.server.engine
        if self.account.replies is None:
            self.account.replies = Replies(engine, self.account)
        self._imports[account.name] = [
            ServiceImport(
                engine, account, self.account, subject, there.format(account.name), None,
                exported=there, many=False, share=share, threshold_ns=RESPONSE_THRESHOLD,
            )
            for subject, there, share in IMPORTS
        ]  # fmt: skip

    def imports_of(self, account: Account) -> list[Any]:
        """The services that an account has from here."""
        return self._imports.get(account.name, [])

    def _answer(self, request: Request) -> None:
        from natsc.server.system_answers import answer

        answer(self, request)

    def imported(self, name: str) -> list[tuple[str, str, bool]]:
        """What the account of that name may ask: its own subject, the system account's, whether it says who asks."""
        found = [(subject, there.format(name), share) for subject, there, share in IMPORTS]
        if self.server.jetstream is not None:
            found.append(("$JS.API.>", "$JS.API.>", True))
        return found[3:4] if name == self.account.name else found

    # Events

    def tell(self, subject: str, make: Any, *arguments: Any) -> None:
        """Publishes make(*arguments) in the system account, where anybody listens."""
        engine, name = self.server.engine, subject.encode("utf-8", "surrogateescape")
        if engine.match(self.account, name):
            engine.publish(self.account, name, make(self, *arguments))

    def connected(self, client: Client) -> None:
        """A client has come into its account."""
        if self.account.num_clients:  # who else should hear it
            self.server.loop.call_soon(self._tell_of, "connected", client)

    def disconnected(self, client: Client) -> None:
        """A client has gone. Of refusals others may want to hear, too."""
        if self.account.num_clients or client.close_reason in REFUSALS:
            self.server.loop.call_soon(self._tell_of, "disconnected", client)

    def _tell_of(self, what: str, client: Client) -> None:
        from natsc.server import system_events

        getattr(system_events, what)(self, client)
        self.server.engine.end_turn()

    def _tell_statistics(self) -> None:
        self._statsz = self.server.clock.call_later(STATSZ_SECONDS, self._tell_statistics)
        if not self.account.num_clients:
            return
        from natsc.server import system_answers

        self.tell(f"$SYS.SERVER.{self.server.server_id}.STATSZ", system_answers.statistics)
        self.server.engine.end_turn()

    def stopping(self, what: str) -> None:
        """SHUTDOWN or LAMEDUCK."""
        if not self.account.num_clients:
            return
        from natsc.server import system_answers

        self.tell(f"$SYS.SERVER.{self.server.server_id}.{what}", system_answers.bare)
