"""Operator mode: who a connection is by its user JWT.

DESIGN. The chain is operator, account, user: a key that the configuration trusts has signed the account's JWT, a key
of the account the user's, and the user's key the nonce of INFO. `accounts` holds the accounts whose JWTs are known and
checked (natsc/server/claims.py looks after them); the Authenticator only reads it. It answers at once: an account that
isn't known yet is told by wanted_account(), so that it can be fetched before.

1. Every refusal looks the same to the peer; why is told to `debug` alone.
2. As elsewhere, authenticate() writes what it found into the CONNECT dict: `jwt`, where the default sentinel stands in
   for it, and `public_key`, the user's. Neither is there unless the JWT was good.
   An account whose JWT names auth_users has everybody else judged by a callout, once their JWT is good: a Delegated.
3. What a signature costs is paid once for a token: those that were verified last are remembered. Whether it still
   counts is looked at every time.
"""

from __future__ import annotations

from natsc import errors
from natsc.auth import jwt
from natsc.auth.claims import bad_permissions, limit32, permissions
from natsc.auth.jwt_check import check_user
from natsc.auth.permissions import without_callouts
from natsc.auth.users import AuthDiff, Delegated, Grant, Refused, ignore, note_proxy, require_proxy, signature_fault
from natsc.config.gotext import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from natsc.auth.claims import ClaimAccount
    from natsc.auth.users import Connect, PeerCertificates, Sink
    from natsc.config.options import Limits, Options, Permissions

_SECOND = 1_000_000_000
_REMEMBERED = 256  # user JWTs
_REMEMBERED_BYTES_MAX = 8192
_CONNECTION_TYPES = frozenset(("STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS", "IN_PROCESS"))


class JWTUser:
    """What a connection got from its user JWT. subs, payload: limits, -1 is none. issued_at: seconds. signing_key: the
    one that signed, "" where the account itself did. has_default_permissions: those of the account, whatever they are.
    """

    __slots__ = (
        "bearer", "has_default_permissions", "issued_at", "name", "payload", "public_key", "signing_key", "subs",
        "tags",
    )  # fmt: skip

    def __init__(self, claims: jwt.UserClaims, limits: jwt.UserLimits) -> None:
        self.public_key = claims.sub
        self.name = claims.name
        self.issued_at = claims.iat
        self.signing_key = claims.iss if claims.nats.issuer_account else ""
        self.tags = claims.nats.tags
        self.bearer = limits.bearer_token
        self.subs = limit32(limits.subs)
        self.payload = limit32(limits.payload)
        self.has_default_permissions = False


class OperatorAuthenticator:
    """Decides over connections where operators are trusted. Reads as natsc.auth.users.Authenticator does."""

    auth_required = auth_required_in_info = nonce_required = reads_jwt = True
    plaintext_passwords = False
    no_auth_user = ""

    def __init__(self, opts: Options, accounts: Mapping[str, ClaimAccount], wall_ns: Callable[[], int]) -> None:
        self.accounts = accounts
        self.pinned_failures = 0
        self._wall_ns = wall_ns
        self._sentinel: str = opts.default_sentinel
        self._pinned: set[str] = opts.resolver_pinned_accounts
        self.trusted_keys: frozenset[str] = trusted_keys(opts)
        self.trusted_proxies: list[str] = opts.proxies.trusted if opts.proxies is not None else []
        self._known: dict[str, jwt.UserClaims] = {}

    def admits_without_connect(self, conn_type: str = "STANDARD") -> bool:
        """Never: everybody has a JWT to show."""
        return False

    def knows(self, name: str) -> bool:
        """No user is known beforehand."""
        return False

    def needs_thread(
        self, connect: Connect, *, tls: PeerCertificates | None = None, conn_type: str = "STANDARD"
    ) -> bool:
        """Never: there are no passwords."""
        return False

    def wanted_account(self, connect: Connect) -> str:
        """The account whose JWT must be known to authenticate this connection; "": none would help it."""
        claims = self._claims(connect)
        if claims is None:
            return ""
        name = _account_name(claims)
        return name if not self._pinned or name in self._pinned else ""

    def authenticate(
        self,
        connect: Connect,
        *,
        tls: PeerCertificates | None = None,
        conn_type: str = "STANDARD",
        nonce: bytes = b"",
        host: str = "",
        debug: Sink | None = None,
        warn: Sink | None = None,
        error: Sink | None = None,
    ) -> Grant | Delegated | None:
        """As Authenticator.authenticate; host: the peer's address. error: takes lines about this connection."""
        connect.pop("public_key", None)
        try:
            note_proxy(self.trusted_proxies, connect, nonce, debug or ignore)
            grant = self._authenticate(connect, conn_type, nonce, host, debug or ignore, error or ignore)
        except Refused as refusal:
            if debug is not None:
                debug(str(refusal))
            self._note_refusal(connect)
            return None
        if connect.get("account") or connect.get("new_account"):
            return None
        return grant

    def _authenticate(
        self, connect: Connect, conn_type: str, nonce: bytes, host: str, debug: Sink, error: Sink
    ) -> Grant | Delegated:
        claims = self._claims(connect)
        if claims is None:
            raise Refused("Authentication requires a user JWT")
        now_ns = self._wall_ns()
        if claims.nats.proxy_required:
            require_proxy(connect)
        issues = check_user(claims, now_ns // _SECOND)
        if issues.block(time_checks=True):
            raise Refused(f"User JWT no longer valid: {'; '.join(issue.description for issue in issues.found)}")
        account = self._account(claims)
        limits = effective_limits(claims, account)
        if account.expired:
            raise Refused("Account JWT has expired")
        if limits.bearer_token and account.disallow_bearer:
            raise Refused("Account does not allow bearer tokens")
        check_connection_type(limits.allowed_connection_types, conn_type)
        if limits.proxy_required:
            require_proxy(connect)
        if not limits.bearer_token:
            fault = signature_fault(claims.sub, connect, nonce)
            if fault:
                raise Refused(fault)
        if account.has_revoked(claims.sub, claims.iat):
            raise Refused("User authentication revoked")
        expires = expiry(claims, limits, host, now_ns, error)
        connect["jwt"] = connect.get("jwt") if self._decoded(connect.get("jwt")) is not None else self._sentinel
        connect["public_key"] = claims.sub
        debug(
            f"Authenticated JWT: Client {_described(claims.sub, claims.name, claims.nats.tags)} signed with "
            f"{quote(claims.iss)} by Account {_described(account.name, account.name_tag, account.tags)} signed with "
            f"{quote(account.issuer)}"
        )
        grant = grant_user(
            claims, limits, account.name, account.options.limits, account.default_permissions, expires,
            answers_callouts=bool(account.auth_users),
        )  # fmt: skip
        if account.auth_users and claims.sub not in account.auth_users:
            return Delegated(account.name, account.name, grant=grant, name=claims.name)
        return grant

    def _note_refusal(self, connect: Connect) -> None:
        """An account with a callout hears of those who don't get as far as to be asked about."""
        claims = self._claims(connect)
        account = self.accounts.get(_account_name(claims)) if claims is not None else None
        if account is not None and account.auth_users:
            connect["auth_error"] = (account.name, errors.CLOSE_REASONS[errors.AUTHENTICATION_VIOLATION])

    def _claims(self, connect: Connect) -> jwt.UserClaims | None:
        """The claims of the connection's JWT, or of the default sentinel where it has no good one."""
        found = self._decoded(connect.get("jwt"))
        return found if found is not None else self._decoded(self._sentinel)

    def _decoded(self, token: object) -> jwt.UserClaims | None:
        if not isinstance(token, str) or not token:
            return None
        known = self._known.get(token)
        if known is not None:
            return known
        try:
            claims = jwt.decode_user(token)
        except jwt.JWTError:
            return None
        if len(token) <= _REMEMBERED_BYTES_MAX:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[token] = claims
        return claims

    def _account(self, claims: jwt.UserClaims) -> ClaimAccount:
        name = _account_name(claims)
        if self._pinned and name not in self._pinned:
            self.pinned_failures += 1
            raise Refused(f"Account {name} not listed as operator pinned account")
        account = self.accounts.get(name)
        if account is None:
            raise Refused("Account JWT lookup error: account missing")
        if account.issuer not in self.trusted_keys:
            raise Refused("Account JWT not signed by trusted operator")
        if claims.iss not in account.signing_keys:
            raise Refused("User JWT issuer is not known")
        return account

    # Reload

    def has_moved(self, connect: Connect, account_name: str) -> bool:
        """Whether a reload closes this connection as "Client Closed": it names a user or an nkey; there are none."""
        return bool(connect.get("nkey") or connect.get("user"))

    def differs(self, new: Any) -> AuthDiff:
        """Everybody is looked at again: who may come in stands in the JWTs."""
        return AuthDiff(frozenset(), frozenset(), everyone=True)


def trusted_keys(opts: Options) -> frozenset[str]:
    """The operators' keys that may sign accounts."""
    found = set(opts.trusted_keys)
    for operator in opts.trusted_operators:
        if not operator.nats.strict_signing_key_usage:
            found.add(operator.sub)
        found.update(operator.nats.signing_keys)
    return frozenset(found)


def strict_keys(opts: Options) -> frozenset[str]:
    """Those whose accounts must use signing keys for their users."""
    return frozenset(
        key
        for operator in opts.trusted_operators
        if operator.nats.strict_signing_key_usage
        for key in operator.nats.signing_keys
    )


def _described(key: str, name: str, tags: list[str]) -> str:
    return f"{quote(key)} (claim-name: {quote(name)}, claim-tags: [{' '.join(map(quote, tags))}])"


def _account_name(claims: jwt.UserClaims) -> str:
    return claims.nats.issuer_account or claims.iss


def effective_limits(claims: jwt.UserClaims, account: ClaimAccount) -> jwt.UserLimits:
    """What the user may do: as its JWT says, or as the scope of the key that signed it. Raises Refused."""
    scope = account.signing_keys[claims.iss]
    if scope is None:
        return claims.nats
    if not claims.nats.has_no_limits_of_its_own():
        raise Refused("User JWT is not valid: scoped users require no permissions or limits set")
    from copy import deepcopy

    from natsc.auth.templates import TemplateError, fill

    limits = deepcopy(scope.template)
    try:
        fill(limits, claims, account.name_tag, account.tags)
    except TemplateError:
        raise Refused("User JWT generated invalid permissions") from None
    return limits


def check_connection_type(allowed: list[str], conn_type: str) -> None:
    """Types that nobody knows are left out, unless there are no others. Raises Refused."""
    if not allowed:
        return
    names = {name.upper() for name in allowed}
    known = names & _CONNECTION_TYPES
    if not known:
        raise Refused(f"invalid connection types [{' '.join(map(quote, sorted(names)))}]")
    if conn_type not in known:
        raise Refused("Connection type not allowed")


def expiry(claims: jwt.UserClaims, limits: jwt.UserLimits, host: str, now_ns: int, error: Sink) -> int | None:
    """When the connection ends (wall clock ns), where it must. Refuses at a wrong place or time."""
    valid_ns = 0
    if limits.src or limits.times:
        from natsc.auth import restrictions

        if not restrictions.may_come_from(limits, host):
            error(f"Bad src Ip {host}")
            raise Refused("Bad src Ip")
        left = restrictions.may_come_now(limits, now_ns)
        if left is None:
            error("Outside connect times")
            raise Refused("Outside connect times")
        valid_ns = left
    ends = [now_ns + valid_ns] if valid_ns else []
    if claims.exp:
        # Whole seconds from now on, as nats-server counts.
        ends.append(now_ns + max(0, claims.exp - now_ns // _SECOND) * _SECOND)
    return min(ends, default=None)


def grant_user(
    claims: jwt.UserClaims,
    limits: jwt.UserLimits,
    account_name: str,
    account_limits: Limits | None,
    default_permissions: Permissions | None,
    expires: int | None,
    *,
    answers_callouts: bool,
) -> Grant:
    """What a user gets in an account. answers_callouts: where the account does. Raises Refused."""
    user = JWTUser(claims, limits)
    allowed = permissions(limits)
    if allowed is None:
        user.has_default_permissions = True
        allowed = default_permissions
    bad = bad_permissions(allowed)
    if bad:
        raise Refused(f"User JWT has permissions that are none: {bad}")
    if answers_callouts and not user.has_default_permissions:  # the account's default ones are as they must be
        allowed = without_callouts(allowed)
    return Grant(account_name, claims.sub, allowed, expires, account_limits, user)
