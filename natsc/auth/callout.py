"""What an authentication service answers a callout, and what comes of it.

The service decides about a connection that natsc.auth.users or natsc.auth.operator leaves to it. The answer is a JWT
for the key that was made for this one question, and for this server; in it, the JWT of a user for the same key. That
must be signed in configuration mode by the callout's issuer, in operator mode by the account that the callout was asked
in, one that it allows, or a signing key of these. natsc/server/callouts.py asks and waits.

1. What an answer can't do: name another account than those, outlive its times, be used for a second connection.
2. Every reason is nats-server's, in its words; the peer hears none of them.
"""

from __future__ import annotations

from natsc.auth import jwt
from natsc.auth.claims import ClaimAccount
from natsc.auth.jwt_check import check_authorization_response, check_user
from natsc.auth.operator import check_connection_type, effective_limits, expiry, grant_user
from natsc.auth.permissions import without_callouts
from natsc.auth.users import Refused
from natsc.auth.xkeys import XKeyError
from natsc.config.gotext import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.auth.users import Grant, Sink
    from natsc.auth.xkeys import CurvePair
    from natsc.config.options import Account, Permissions

_SECOND = 1_000_000_000
_JWT_PREFIX = b"eyJ"


class CalloutRefused(Exception):
    """The connection isn't let in; str() is why, for the log and for the account's event."""

    def __str__(self) -> str:
        text = super().__str__()
        return text[:1].upper() + text[1:]


class ProxyRequired(CalloutRefused):
    """It didn't come through a trusted proxy, as it must."""


class Peer:
    """A connection, as far as it matters here: its door's type and its address; debug and error take lines about it.

    proxied: it came through a trusted proxy. needs_proxy: it must, whatever the answer says.
    """

    __slots__ = ("conn_type", "debug", "error", "host", "needs_proxy", "proxied")

    def __init__(
        self, conn_type: str, host: str, debug: Sink, error: Sink, *, proxied: bool, needs_proxy: bool
    ) -> None:
        self.conn_type = conn_type
        self.host = host
        self.debug = debug
        self.error = error
        self.proxied = proxied
        self.needs_proxy = needs_proxy

    def require_proxy(self) -> None:
        """Raises ProxyRequired."""
        if not self.proxied:
            raise ProxyRequired("proxy connection required")


class Question:
    """What an answer has to fit.

    account: the name of the account in which it was asked; claimed: the same with its JWT, in operator mode. issuer:
    who signs users, in configuration mode. user: the key made for this question. xkey: who may encrypt the answer for
    `pair`; "" where it wasn't asked to.
    """

    __slots__ = ("account", "claimed", "issuer", "pair", "server_id", "user", "xkey")

    def __init__(
        self, account: str, claimed: ClaimAccount | None, issuer: str, user: str, server_id: str, pair: CurvePair,
        xkey: str,
    ) -> None:  # fmt: skip
        self.account = account
        self.claimed = claimed
        self.issuer = issuer
        self.user = user
        self.server_id = server_id
        self.pair = pair
        self.xkey = xkey

    def read(self, answer: bytes, now: int) -> jwt.UserClaims:
        """The user that the service has made; now: seconds since the epoch. Raises CalloutRefused."""
        if not answer:
            raise CalloutRefused(f'auth callout violation: "no reason supplied" on account {quote(self.account)}')
        sealed = False
        if self.xkey and not answer.startswith(_JWT_PREFIX):
            try:
                answer, sealed = self.pair.open(answer, self.xkey), True
            except XKeyError as error:
                where = f"on account {quote(self.account)}: {error}"
                raise CalloutRefused(f"error decrypting auth callout response {where}") from None
        try:
            claims = jwt.decode_authorization_response(answer.decode("utf-8", "replace"))
            self._check(claims, sealed, now)
            return jwt.decode_user(claims.nats.jwt)
        except jwt.JWTError as error:
            raise CalloutRefused(str(error)) from None

    def _check(self, claims: jwt.AuthorizationResponseClaims, sealed: bool, now: int) -> None:
        issues = check_authorization_response(claims, now).found
        if issues:
            raise CalloutRefused(f"authorization response had validation errors: {issues[0].description}")
        if claims.sub != self.user:
            raise CalloutRefused("auth callout violation: auth callout response is not for expected user")
        if claims.aud != self.server_id:
            raise CalloutRefused("auth callout violation: auth callout response is not for server")
        if not sealed:  # nobody but the service can encrypt
            self._check_signer(claims)
        if claims.nats.error:
            raise CalloutRefused(f"auth callout service returned an error: {claims.nats.error}")

    def _check_signer(self, claims: jwt.AuthorizationResponseClaims) -> None:
        issuer_account = claims.nats.issuer_account
        known = claims.iss == (self.account if self.claimed is not None else self.issuer)
        if self.claimed is not None:
            if issuer_account and issuer_account != self.account:
                what = f"issuer account {quote(issuer_account)} is not the callout account"
                raise CalloutRefused(f"auth callout response {what}")
            known = known or claims.iss in self.claimed.signing_keys
        if not known:
            raise CalloutRefused("auth callout signing key is unknown")

    def check_user(self, claims: jwt.UserClaims, peer: Peer, now: int) -> None:
        """Raises CalloutRefused for a user that is none, or another one."""
        if claims.nats.proxy_required or peer.needs_proxy:
            peer.require_proxy()
        issues = check_user(claims, now).found
        if issues:
            raise CalloutRefused(f"Error validating user JWT: {issues[0].description}")
        if claims.sub != self.user:
            got = f"{quote(self.user)} but got {quote(claims.sub)}"
            raise CalloutRefused(f"Expected authorized user of {got} on account {quote(self.account)}")

    def target(self, claims: jwt.UserClaims) -> str:
        """The name of the account that the user is put into. Raises CalloutRefused."""
        here, issuer_account = quote(self.account), claims.nats.issuer_account
        if self.claimed is None:
            if issuer_account:
                raise CalloutRefused(f"error non operator mode account {here}: attempted to use issuer_account")
            if claims.iss != self.issuer:
                what = f"expected {quote(self.issuer)} got {quote(claims.iss)}"
                raise CalloutRefused(f"wrong issuer for auth callout response on account {here}, {what}")
            return claims.aud
        issuer = issuer_account or claims.iss
        if not self.claimed.lets_into(issuer):
            what = "not permitted as valid account option for auth callout for account"
            raise CalloutRefused(f"account {quote(claims.iss)} {what} {here}")
        return issuer

    def no_account(self, name: str) -> CalloutRefused:
        """There is no account to put the user into."""
        where = f"for auth callout response on account {quote(self.account)}: account missing"
        return CalloutRefused(f"no valid account {quote(name)} {where}")

    def grant(self, claims: jwt.UserClaims, target: ClaimAccount | Account, peer: Peer, now_ns: int) -> Grant:
        """What the user gets in its account; now_ns: wall clock. Raises CalloutRefused."""
        limits: jwt.UserLimits = claims.nats
        defaults: Permissions | None = None
        try:
            if isinstance(target, ClaimAccount):
                account_limits, answers_callouts = target.options.limits, bool(target.auth_users)
                defaults = target.default_permissions
                limits = self._claimed_limits(claims, target)
                if limits.proxy_required:
                    peer.require_proxy()
            else:  # its default permissions are for the users that the configuration gives it
                account_limits, answers_callouts = target.limits, target.name == self.account
                defaults = without_callouts(None) if answers_callouts else None
            expires = self._restrict(claims, limits, peer, now_ns)
            grant = grant_user(
                claims, limits, target.name, account_limits, defaults, expires, answers_callouts=answers_callouts
            )
        except Refused as refusal:
            raise CalloutRefused(str(refusal)) from None
        user = grant.jwt_user
        if limits is claims.nats and user is not None:  # who leaves a limit out doesn't mean nothing at all
            user.subs, user.payload = user.subs or jwt.NO_LIMIT, user.payload or jwt.NO_LIMIT
        return grant

    @staticmethod
    def _claimed_limits(claims: jwt.UserClaims, account: ClaimAccount) -> jwt.UserLimits:
        """In operator mode. Raises CalloutRefused, Refused."""
        if claims.iss not in account.signing_keys:
            raise CalloutRefused(f"user JWT issuer {quote(claims.iss)} is not known")
        limits = effective_limits(claims, account)
        if account.expired:
            raise CalloutRefused("account JWT has expired")
        if account.has_revoked(claims.sub, claims.iat):
            raise CalloutRefused("user authentication revoked")
        return limits

    def _restrict(self, claims: jwt.UserClaims, limits: jwt.UserLimits, peer: Peer, now_ns: int) -> int | None:
        """When the user must go, in ns of the wall clock. Raises CalloutRefused where it may not come."""
        who = f"authorized user on account {quote(self.account)}"
        try:
            check_connection_type(limits.allowed_connection_types, peer.conn_type)
        except Refused as refusal:
            peer.debug(str(refusal))
            raise CalloutRefused(f"{who} using invalid connection type") from None
        try:
            return expiry(claims, limits, peer.host, now_ns, peer.error)
        except Refused as refusal:
            late = str(refusal) == "Outside connect times"
            raise CalloutRefused(
                f"{who} {'outside of valid connect times' if late else 'from a bad address'}"
            ) from None
