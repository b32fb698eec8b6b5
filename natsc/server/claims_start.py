"""Operator mode when a server starts: what it says, and that its system account can be had."""

from __future__ import annotations

import time

from natsc.auth import jwt
from natsc.config.gotext import quote
from natsc.server.claims import VALIDATION_FAILED, ClaimAccounts, ClaimsError
from natsc.server.resolvers import MISSING, DirectoryResolver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future

    from natsc.server.server import Server


def announce(server: Server) -> None:
    """The operators, after the configuration file's line."""
    opts, log = server.options, server.log
    if not opts.trusted_operators:
        return
    log.notice("Trusted Operators")
    for claims in opts.trusted_operators:
        log.notice(f"  System  : {quote(claims.aud)}")
        log.notice(f"  Operator: {quote(claims.name)}")
        log.notice(f"  Issued  : {_go_time(claims.iat)}")
        log.notice(f"  Expires : {_go_time(claims.exp) if claims.exp else 'Never'}")
    if not opts.system_account:
        log.warn("Trusted Operators should utilize a System Account")


def _go_time(seconds: int) -> str:
    """As Go prints a time (%v)."""
    try:
        local = time.localtime(seconds)
    except (OverflowError, ValueError, OSError):
        return str(seconds)
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", local)


async def start(server: Server, claims: ClaimAccounts) -> None:
    """Raises StartError where the system account, or the resolver, can't be had."""
    from natsc.server.server import StartError

    opts, resolver = server.options, claims.resolver
    claims.check_preloads()
    if resolver is None:
        return
    if resolver.remote and resolver.store is None:
        # Is anyone at home?
        token, why = await _fetched(server, claims, "")
        if token is None:
            raise StartError(why)
    if opts.system_account:
        await _find_system_account(server, claims)
    if not server.system_account_name:
        return
    from natsc.server.claims_service import DirectoryService, UpdateService

    if isinstance(resolver, DirectoryResolver):
        if not opts.trusted_operators:
            raise StartError("Could not start resolver: no operator key found")
        DirectoryService(server, claims, resolver).start()
    else:
        UpdateService(server, claims).start()


async def _find_system_account(server: Server, claims: ClaimAccounts) -> None:
    """Raises StartError: the account is known, and no good. One that is elsewhere may come later."""
    from natsc.server.server import StartError

    name, resolver = server.options.system_account, claims.resolver
    assert resolver is not None
    token, why = resolver.lookup(name), MISSING
    if token is None and resolver.remote and resolver.store is None:
        token, why = await _fetched(server, claims, name)
    if token is None:
        if resolver.remote and len(server.options.trusted_operators) == 1:
            claims.trust_system_account()
            return
        raise StartError(f"error resolving system account: {why}")
    try:
        claims.update(name, token)
    except (ClaimsError, jwt.JWTError) as error:
        raise StartError(f"error resolving system account: {error}") from None
    if claims.accounts[name].expired:
        raise StartError(f"error resolving system account: {VALIDATION_FAILED}")


async def _fetched(server: Server, claims: ClaimAccounts, name: str) -> tuple[str | None, str]:
    """(JWT, "") or (None, why)."""
    answer: Future[tuple[str | None, str]] = server.loop.create_future()

    def then(token: str | None, why: str) -> None:
        if not answer.done():
            answer.set_result((token, why))

    assert claims.resolver is not None
    claims.resolver.fetch(name, then)
    return await answer
