"""What resolvers answer on the system account: $SYS.REQ.CLAIMS.* and $SYS.REQ.ACCOUNT.*.CLAIMS.*.

Every one takes new JWTs of accounts that are known. A `full` resolver takes every good JWT, and tells its content to
whoever asks. Only who may publish on the system account comes here, and still everything that is stored was signed by
a trusted operator, or does nothing: what was not is refused when it is used.
"""

from __future__ import annotations

import os

from natsc.auth import jwt
from natsc.auth.dirstore import KEEP, StoreError
from natsc.auth.jwt_check import check_account
from natsc.config import keys
from natsc.server.claims import ClaimsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc._core import Request
    from natsc.server.claims import ClaimAccounts
    from natsc.server.resolvers import DirectoryResolver
    from natsc.server.server import Server

_SECOND = 1_000_000_000
_SYNC_INTERVAL = 60.0  # seconds
_UPDATE_OLD, _UPDATE_NEW = b"$SYS.ACCOUNT.*.CLAIMS.UPDATE", b"$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE"
_UPDATE, _LOOKUP = b"$SYS.REQ.CLAIMS.UPDATE", b"$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP"
_PACK, _LIST, _DELETE = b"$SYS.REQ.CLAIMS.PACK", b"$SYS.REQ.CLAIMS.LIST", b"$SYS.REQ.CLAIMS.DELETE"


class _Service:
    """Requests on the system account of one server, and their answers."""

    def __init__(self, server: Server, claims: ClaimAccounts) -> None:
        self.server = server
        self.claims = claims
        self.system = server.account(server.system_account_name)
        self._answers = 0

    def _subscribe(self, handlers: dict[bytes, Callable[[Request], None]]) -> None:
        for subject, handler in handlers.items():
            self.server.engine.subscribe(self.system, subject, handler)

    def _publish(self, subject: bytes, payload: bytes, reply: bytes | None = None) -> None:
        self.server.engine.publish(self.system, subject, payload, reply=reply)

    # Answers

    def _respond(self, request: Request, account: str, message: str, error: str = "") -> None:
        parts = [message, *filter(None, (account, error))]
        (self.server.log.error if error else self.server.log.debug)(" - ".join(parts))
        if request.reply is None:
            return
        shown: dict[str, Any] = {"account": account} if account else {}
        if error:
            answer = {"error": {**shown, "code": 500, "description": f"{message} - {error}"}}
        else:
            answer = {"data": {**shown, "code": 200, "message": message}}
        self._answer(request, answer)

    def _answer(self, request: Request, answer: dict[str, Any], *, server_last: bool = False) -> None:
        from natsc.monitor.gojson import compact

        assert request.reply is not None
        about = {"server": self._about()}
        fields = {**answer, **about} if server_last else {**about, **answer}
        self._publish(request.reply, compact(fields).encode())

    def _about(self) -> dict[str, Any]:
        """The server, as messages of the system account name it."""
        from natsc.monitor.gojson import timestamp
        from natsc.server import info

        server, opts = self.server, self.server.options
        about: dict[str, Any] = {"name": server.server_name, "host": opts.host, "id": server.server_id}
        if server.jetstream is not None and server.jetstream.domain:
            about["domain"] = server.jetstream.domain
        about["ver"] = info.VERSION
        if opts.tags:
            about["tags"] = opts.tags
        if opts.metadata:
            about["metadata"] = opts.metadata
        about["jetstream"] = server.jetstream is not None
        about["flags"] = 3 if server.jetstream is not None else 0
        about["seq"] = self._answers
        self._answers += 1
        about["time"] = timestamp(server.clock.wall_ns())
        return about


class UpdateService(_Service):
    """Of a resolver that keeps nothing: the JWT of an account that is known is taken over until the server ends."""

    def start(self) -> None:
        self._subscribe({_UPDATE_OLD: self._update, _UPDATE_NEW: self._update})

    def _update(self, request: Request) -> None:
        name = _named_account(request)
        failed = "jwt update resulted in error"
        token = request.payload.decode("utf-8", "surrogateescape")
        if not token:
            self._respond(request, name, "jwt update error", "request body is empty")
            return
        try:
            if jwt.decode_account(token).sub != name:
                self._respond(request, name, failed, "subject does not match jwt content")
            elif name not in self.claims.accounts:
                self._respond(request, name, "jwt update skipped")
            else:
                self.claims.update(name, token)
                self._respond(request, name, "jwt updated")
        except (ClaimsError, jwt.JWTError) as error:
            self._respond(request, name, failed, str(error))


class DirectoryService(_Service):
    """Of a directory resolver."""

    def __init__(self, server: Server, claims: ClaimAccounts, resolver: DirectoryResolver) -> None:
        super().__init__(server, claims)
        self.resolver = resolver
        self.store = resolver.store
        self._inbox = f"$SYS._INBOX.{os.urandom(11).hex()}".encode()
        self._word = " cache" if resolver.is_cache else ""

    def start(self) -> None:
        """Subscribes."""
        handlers: dict[bytes, Callable[[Request], None]] = {
            _UPDATE_OLD: self._update_of, _UPDATE_NEW: self._update_of, _UPDATE: self._update, _LIST: self._list,
            _DELETE: self._delete,
        }  # fmt: skip
        which = "some" if self.resolver.is_cache else "all"
        if not self.resolver.is_cache:
            handlers |= {_LOOKUP: self._lookup, _PACK: self._pack, self._inbox: self._merge}
            self._sync_later()
        self._subscribe(handlers)
        self.server.log.notice(f"Managing {which} jwt in exclusive directory {self.store.directory}")

    # UPDATE

    def _update_of(self, request: Request) -> None:
        """An account's JWT, for the account that the subject names."""
        self._take(request, _named_account(request))

    def _update(self, request: Request) -> None:
        self._take(request, None)

    def _take(self, request: Request, name: str | None) -> None:
        """name: the account that it must be, None: any."""
        failed = f"jwt update{self._word} resulted in error"
        token = request.payload.decode("utf-8", "surrogateescape")
        try:
            claims = jwt.decode_account(token)
        except jwt.JWTError as error:
            shown = name if self.resolver.is_cache and name is not None else "n/a"
            self._respond(request, shown, failed, str(error))
            return
        account = name if name is not None else claims.sub
        fault = self._fault(claims, name)
        if fault is not None:
            self._respond(request, account, *fault)
            return
        if self.resolver.is_cache and account not in self.claims.accounts:
            self._respond(request, account, "jwt update cache skipped")
            return
        try:
            self.store.save(account, token)
        except StoreError as error:
            self._respond(request, account, failed, str(error))
            return
        self._respond(request, account, "jwt updated" + self._word)

    def _fault(self, claims: jwt.AccountClaims, name: str | None) -> tuple[str, str] | None:
        """(message, error) where a JWT isn't to be stored."""
        failed = f"jwt update{self._word} resulted in error"
        if name is not None and claims.sub != name:
            return failed, "subject does not match jwt content"
        operators = self.server.options.trusted_operators
        if operators and operators[0].nats.strict_signing_key_usage and claims.iss == operators[0].sub:
            return failed, "operator requires issuer to be a signing key"
        if self.resolver.is_cache and claims.sub not in self.claims.accounts:
            return None
        issues = check_account(claims, self.server.clock.wall_ns() // _SECOND)
        if issues.block(time_checks=False):
            message = "jwt update cache validation failed" if self.resolver.is_cache else "jwt validation failed"
            return message, f"validation errors: [{' '.join(issues.errors())}]"
        return None

    # LOOKUP, LIST, PACK

    def _lookup(self, request: Request) -> None:
        if request.reply is None:
            return
        name = request.subject.split(b".")[3].decode("utf-8", "surrogateescape")
        token = self.store.load(name)
        if token is None:
            self.server.log.debug(f'DirResolver - Could not find account "{name}"')
        self._publish(request.reply, (token or "").encode("utf-8", "surrogateescape"))

    def _list(self, request: Request) -> None:
        if request.reply is None:
            return
        names = [name for name, _ in self.store.pack()]
        self.server.log.debug(f"list request responded with {len(names)} account ids")
        self._answer(request, {"data": names}, server_last=True)

    def _pack(self, request: Request) -> None:
        """All JWTs, a message each, and an empty one at the end; the end alone where the other has the same."""
        if request.reply is None:
            return
        if request.payload != self.store.hash():
            for name, token in self.store.pack():
                self._publish(request.reply, f"{name}|{token}".encode("utf-8", "surrogateescape"))
        self._publish(request.reply, b"")

    def _merge(self, request: Request) -> None:
        """A part of what another server has."""
        if not request.payload:
            return
        try:
            self.store.merge(request.payload.decode("utf-8", "surrogateescape"))
        except StoreError as error:
            self.server.log.error(f"DirResolver - Merging resulted in error: {error}")

    def _sync_later(self) -> None:
        seconds = self.resolver.opts.interval / _SECOND or _SYNC_INTERVAL
        self.server.clock.call_later(seconds, self._sync)

    def _sync(self) -> None:
        """Asks one of the others for what it has."""
        if self.server.stopping:
            return
        self._publish(_PACK, self.store.hash(), reply=self._inbox)
        self.server.engine.end_turn()
        self._sync_later()

    # DELETE

    def _delete(self, request: Request) -> None:
        subject, names, error = self._to_delete(request.payload.decode("utf-8", "surrogateescape"))
        if error:
            self._respond(request, "", f"delete accounts request by {subject} failed", error)
            return
        faults = []
        for name in names:
            try:
                self.store.delete(name)
            except StoreError as fault:
                faults.append(str(fault))
        passed = len(names) - len(faults)
        if faults:
            message = f"deleted {passed} accounts, failed for {len(faults)}"
            self._respond(request, "", message, "\n".join(faults))
        else:
            self._respond(request, "", f"deleted {passed} accounts")

    def _to_delete(self, token: str) -> tuple[str, list[str], str]:
        """(who asks, accounts, error). Only an operator's key may, and it has signed for itself."""
        try:
            claims = jwt.decode_generic(token)
        except jwt.JWTError as error:
            return "", [], str(error)
        names = claims.nats.get("accounts")
        if self.store.on_delete == KEEP:
            error_text = "delete must be enabled in server config"
        elif claims.sub != claims.iss:
            error_text = "not self signed"
        elif claims.iss not in self._operator_keys():
            error_text = "not trusted"
        elif not isinstance(names, list) or not all(
            isinstance(name, str) and keys.is_public_key(name, keys.PREFIX_ACCOUNT) for name in names
        ):
            error_text = "malformed request"
        elif self.server.system_account_name in names:
            error_text = "not allowed to delete system account"
        else:
            return claims.sub, names, ""
        return claims.sub, [], error_text

    def _operator_keys(self) -> set[str]:
        """Of the first operator."""
        operator = self.server.options.trusted_operators[0]
        own = set() if operator.nats.strict_signing_key_usage else {operator.sub}
        return own | set(operator.nats.signing_keys)


def _named_account(request: Request) -> str:
    """The account in the subject of an update: $SYS...<account>.CLAIMS.UPDATE."""
    return request.subject.split(b".")[-3].decode("utf-8", "surrogateescape")
