"""Operator mode at run time: the accounts whose JWTs are known, and what becomes of clients when one changes.

DESIGN. An account is looked up when a user of it comes (or when another account imports from it): what the resolver has
here is taken at once, what is elsewhere is fetched, and the client waits. Fetches of one account are one fetch, FETCHES
run at a time, and whoever connects can cause no more; the others wait in line.

update() takes a JWT over, or raises and changes nothing. Then the engine's account gets its limits, and the clients are
looked at, oldest first: those above the limit of connections, those that are revoked, those whose signing key is gone.
"""

from __future__ import annotations

from collections import deque
from functools import partial

from natsc import errors
from natsc.auth import jwt
from natsc.auth.claims import ClaimAccount, bad_permissions, permissions
from natsc.auth.jwt_check import check_account
from natsc.auth.operator import strict_keys, trusted_keys
from natsc.config.gotext import format_duration, quote
from natsc.config.subject_mapping import check_mapping
from natsc.server.resolvers import MISSING, Resolver, is_account, make_resolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from natsc._core import Client
    from natsc.auth.operator import JWTUser
    from natsc.clock import Timer
    from natsc.config.options import Account, Export, Import
    from natsc.server.server import Server

    Then = Callable[[], object]

FETCHES = 32  # at a time
_SECOND = 1_000_000_000
_SLOW_FETCH_NS = _SECOND
_UPDATE_INTERVAL_NS = _SECOND  # an expired account is asked for no more often
_BOOTSTRAP_INTERVAL = 1.0  # seconds
VALIDATION_FAILED = "account validation failed"


class ClaimsError(Exception):
    """An account's JWT isn't taken over; str() is nats-server's reason."""


class ClaimAccounts:
    """The accounts of one server in operator mode. `accounts` is what natsc.auth.operator decides by."""

    def __init__(self, server: Server) -> None:
        """Raises OSError where the resolver's directory can't be used."""
        self.server = server
        self.accounts: dict[str, ClaimAccount] = {}
        self.resolver: Resolver | None = make_resolver(server, server.options.account_resolver)
        self._expiries: dict[str, Timer] = {}
        self._waiting: dict[str, list[Then]] = {}  # by account, while it is fetched
        self._queue: deque[str] = deque()  # accounts whose fetch hasn't begun
        self._running = 0
        self._links: deque[str] = deque()  # accounts that others import from, to be looked up
        self._linking = False
        self._imported_from: set[str] = set()  # accounts that others have imported from
        self._untied = False  # whether links have changed since they were tied
        self._activations: Timer | None = None  # fires when the next one ends
        self._closed = False
        if self.resolver is not None:
            self.resolver.preload(server.options.resolver_preloads)
            if self.resolver.store is not None:
                self.resolver.store.changed = self._stored
                self.resolver.store.deleted = self.disable

    def close(self) -> None:
        self._closed = True
        if self.resolver is not None:
            self.resolver.close()

    # Looking up

    def want(self, name: str, then: Then) -> bool:
        """Whether all that can be known of an account is known now. If not, then() is called once it is."""
        account = self.accounts.get(name)
        if account is not None:
            if not account.expired:
                return True
            self.server.log.debug(f"Requested account [{name}] has expired")
            if self.server.clock.wall_ns() - account.updated_ns < _UPDATE_INTERVAL_NS:
                self.server.log.debug(f"Requested account update for [{name}] ignored, too soon")
                return True
        if self.resolver is None or not is_account(name):
            return True
        token = self.resolver.lookup(name)
        if token is None and self.resolver.remote:
            self._wait(name, then)
            return False
        self._take(name, token, MISSING)
        return True

    def _wait(self, name: str, then: Then) -> None:
        waiting = self._waiting.get(name)
        if waiting is not None:
            waiting.append(then)
            return
        self._waiting[name] = [then]
        self._queue.append(name)
        self._fetch_next()

    def _fetch_next(self) -> None:
        while self._queue and self._running < FETCHES and not self._closed:
            name = self._queue.popleft()
            self._running += 1
            began = self.server.clock.now_ns()
            assert self.resolver is not None
            self.resolver.fetch(name, partial(self._fetched, name, began))

    def _fetched(self, name: str, began: int, token: str | None, why: str) -> None:
        self._running -= 1
        if self._closed:
            return
        took = self.server.clock.now_ns() - began
        say = self.server.log.warn if took > _SLOW_FETCH_NS else self.server.log.debug
        say(f"Account [{name}] fetch took {format_duration(took)}")
        self._take(name, token, why)
        for then in self._waiting.pop(name, ()):
            then()
        self.server.engine.end_turn()
        self._fetch_next()

    def _take(self, name: str, token: str | None, why: str) -> None:
        """What a resolver says about an account."""
        if token is None:
            self.server.log.warn(f"Account fetch failed: {why}")
            return
        try:
            self.update(name, token)
        except (ClaimsError, jwt.JWTError) as error:
            self.server.log.debug(f"Account [{name}] not usable: {error}")

    # Claims

    def verify(self, token: str) -> jwt.AccountClaims:
        """The claims of a JWT that a trusted operator has signed and that counts now. Raises ClaimsError, JWTError."""
        claims = jwt.decode_account(token)
        if claims.iss not in trusted_keys(self.server.options):
            raise ClaimsError(VALIDATION_FAILED)
        if check_account(claims, self._now()).block(time_checks=True):
            raise ClaimsError(VALIDATION_FAILED)
        if bad_permissions(permissions(claims.nats.default_permissions)):
            raise ClaimsError(VALIDATION_FAILED)
        return claims

    def update(self, name: str, token: str) -> None:
        """Takes over the JWT of an account, new or known. Raises ClaimsError, JWTError: nothing has changed."""
        server = self.server
        account = self.accounts.get(name)
        if account is not None and account.token == token:
            server.log.debug(f"Requested account update for [{name}], same claims detected")
            return
        claims = self.verify(token)
        if claims.sub != name:
            raise ClaimsError(VALIDATION_FAILED)
        server.log.debug(f"Updating account claims: {name}/{claims.name}")
        if account is None:
            account = self.accounts[name] = ClaimAccount(name, claims.iss)
        before, links_before = account.signing_keys, account.options
        strict = claims.iss in strict_keys(server.options)
        account.apply(token, claims, strict=strict, now_ns=server.clock.wall_ns())
        self._expire_later(account)
        server.adopt(account)
        self._note_links(links_before, account.options)
        self._look_at_clients(account, _changed_keys(before, account.signing_keys))
        self._links.extend(entry.account for entry in account.options.imports)
        self._look_up_links()
        if self._untied and not self._linking:
            self.tie()

    def _look_up_links(self) -> None:
        """Accounts that others import from: each is looked up once, however they refer to each other."""
        if self._linking:
            return
        self._linking = True
        while self._links:
            name = self._links.popleft()
            if name not in self.accounts and name not in self._waiting:
                self.want(name, lambda: None)
        self._linking = False

    def _note_links(self, before: Account, now: Account) -> None:
        self._imported_from.update(entry.account for entry in now.imports)
        self._untied |= bool(
            before.imports or before.mappings or now.imports or now.mappings or now.name in self._imported_from
        )

    def tie(self) -> None:
        """Ties accounts together as their imports, exports and activations say by now, and has their mappings count."""
        self._untied = False
        options = [account.options for account in self.accounts.values()]
        tied = any(account.imports for account in self.server.engine.accounts())
        if not tied and not any(one.imports or one.mappings for one in options):
            return
        from natsc.config.account_links import usable
        from natsc.server import imports

        ends: list[int] = []

        def activated(importer: Account, entry: Import, exporter: Account, export: Export) -> bool:
            end = self.accounts[exporter.name].has_activated(entry, export, self._now())
            if end:
                ends.append(end)
            return end is not None

        linked, faults = usable(options, activated)
        for account, entry, why in faults:
            kind = "service" if entry.service else "stream"
            label = self.server.account_label(account.name)
            self.server.log.debug(f"Error adding {kind} import to account [{label}]: {why}")
        for one in linked:
            one.mappings = {subject: to for subject, to in one.mappings.items() if check_mapping(subject, to) is None}
        imports.tie(self.server, linked)
        if self._activations is not None:
            self._activations.cancel()
            self._activations = None
        if ends:
            self._activations = self.server.clock.call_later(min(ends) - self._now(), self._activation_ended)

    def _activation_ended(self) -> None:
        self.tie()
        self.server.engine.end_turn()

    def _now(self) -> int:
        return self.server.clock.wall_ns() // _SECOND

    def _stored(self, name: str) -> None:
        """The resolver's store has another JWT of an account."""
        if name not in self.accounts or self.resolver is None:
            return
        token = self.resolver.lookup(name)
        if token is None:
            self.server.log.error("DirResolver - Update got error on load: file does not exist")
            return
        try:
            self.update(name, token)
        except (ClaimsError, jwt.JWTError) as error:
            self.server.log.error(f"DirResolver - Update for account {quote(name)} resulted in error {error}")

    # The end of an account

    def _expire_later(self, account: ClaimAccount) -> None:
        timer = self._expiries.pop(account.name, None)
        if timer is not None:
            timer.cancel()
        claims = account.claims
        if claims is None or not claims.exp or account.expired:
            return
        seconds = claims.exp - self._now()
        self._expiries[account.name] = self.server.clock.call_later(seconds, lambda: self._expire(account))

    def _expire(self, account: ClaimAccount) -> None:
        """Nobody comes in, and those who are there go."""
        account.expired = True
        for client in self._clients(account.name):
            client.send_err(b"Account Authentication Expired")
            self.server.log_client(client, "debug", "Account Authentication Expired")
            client.close(errors.AUTHENTICATION_EXPIRED)
        self.server.engine.end_turn()

    def disable(self, name: str) -> None:
        """An account was deleted: what it is called stays, and nothing works any more."""
        account = self.accounts.get(name)
        if account is None:
            return
        self.server.log.debug(f"Disable account {name} due to remove")
        account.token = ""
        account.updated_ns = self.server.clock.wall_ns()
        account.options.jetstream = {}
        account.options.imports, account.options.exports, account.options.mappings = [], [], {}
        limits = account.options.limits
        limits.max_connections = limits.max_subscriptions = limits.max_payload = limits.max_leafnodes = 0
        self.server.adopt(account)
        self.tie()
        timer = self._expiries.pop(name, None)
        if timer is not None:
            timer.cancel()
        self._expire(account)

    # Clients

    def _clients(self, name: str) -> list[Client]:
        """The open clients of an account, oldest first."""
        return [client for client in self.server.engine.clients() if client.account.name == name and not client.closing]

    def _look_at_clients(self, account: ClaimAccount, changed_keys: set[str]) -> None:
        limit = account.options.limits.max_connections
        for index, client in enumerate(self._clients(account.name)):
            if 0 <= limit <= index:
                self.server.log_limit(client, errors.TOO_MANY_ACCOUNT_CONNECTIONS)
                client.send_err(errors.TOO_MANY_ACCOUNT_CONNECTIONS)
                client.close(errors.MAX_ACCOUNT_CONNECTIONS_EXCEEDED)
                continue
            self.server.enforce_limits(client)
            user = client.grant.jwt_user if client.grant is not None else None
            if user is not None and not client.closing:
                self._look_at_user(account, client, user, changed_keys)
        self.server.engine.end_turn()

    def _look_at_user(self, account: ClaimAccount, client: Client, user: JWTUser, changed_keys: set[str]) -> None:
        grant = client.grant
        if grant is not None and user.has_default_permissions and grant.permissions != account.default_permissions:
            grant.permissions = account.default_permissions
            self.server.renew_permissions(client, grant)
        if user.bearer and account.disallow_bearer:
            self.server.log_client(client, "debug", "Bearer User JWT not allowed")
            self.server.hooks.refuse(client)
        elif account.has_revoked(user.public_key, user.issued_at):
            self.server.log_client(client, "debug", "User Authentication Revoked")
            client.send_err(b"User Authentication Revoked")
            client.close(errors.REVOCATION)
        elif user.signing_key in changed_keys:
            client.close(errors.AUTHENTICATION_VIOLATION)

    # Start and reload

    def trust_system_account(self) -> None:
        """Lets the system account's users in before its JWT is known: by the account's own key."""
        name = self.server.options.system_account
        account = self.accounts[name] = ClaimAccount(name, self.server.options.trusted_operators[0].iss)
        account.updated_ns = self.server.clock.wall_ns()
        self.server.adopt(account)
        self.server.log.notice("Using bootstrapping system account")
        self.server.clock.call_later(_BOOTSTRAP_INTERVAL, self._bootstrap)

    def _bootstrap(self) -> None:
        name = self.server.options.system_account
        if self._closed or self.accounts[name].token:
            return
        assert self.resolver is not None
        token = self.resolver.lookup(name)
        if token is not None or not self.resolver.remote:
            self._bootstrapped(token)
        else:
            self.resolver.fetch(name, lambda token, _: self._bootstrapped(token))

    def _bootstrapped(self, token: str | None) -> None:
        name = self.server.options.system_account
        if self._closed:
            return
        if token is not None and not self.accounts[name].token:
            try:
                self.update(name, token)
            except (ClaimsError, jwt.JWTError) as error:
                self.server.log.debug(f"Account [{name}] not usable: {error}")
            else:
                self.server.log.notice("System account fetched and updated")
                return
        self.server.clock.call_later(_BOOTSTRAP_INTERVAL, self._bootstrap)

    def check_preloads(self) -> None:
        """Says what is wrong with the JWTs in the configuration."""
        log = self.server.log
        for name, token in self.server.options.resolver_preloads.items():
            try:
                claims = jwt.decode_account(token)
            except jwt.JWTError:
                log.error(f"Preloaded account [{name}] not valid")
                continue
            issues = check_account(claims, self._now())
            if issues.block(time_checks=True):
                log.warn(f"Account [{name}] has validation issues:")
                for issue in issues.found:
                    log.warn(f"  - {issue.description}")

    def reload(self) -> None:
        """The configuration was read again: its JWTs count, and accounts that are in no memory any more are gone."""
        resolver, opts = self.resolver, self.server.options.account_resolver
        if resolver is None or opts is None:
            return
        resolver.opts = opts  # a URL may be another one
        resolver.preload(self.server.options.resolver_preloads)
        if resolver.remote:
            resolver.reload()
            return
        self.check_preloads()
        for name in list(self.accounts):
            try:
                self.update(name, resolver.lookup(name) or "")
            except (ClaimsError, jwt.JWTError):
                self.server.log.notice(f"Reloaded: deleting account [removed]: {quote(name)}")
                del self.accounts[name]
                self.server.abandon(name)


def _changed_keys(before: jwt.SigningKeys, after: jwt.SigningKeys) -> set[str]:
    """Signing keys that are gone, or that give other rights now."""
    return {key for key, scope in before.items() if key not in after or after[key] != scope}
