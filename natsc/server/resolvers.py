"""Where account JWTs come from: memory, a URL, a directory, or other servers asked over NATS.

A resolver answers lookup() from what it has here. Where it can ask elsewhere (`remote`), fetch() does so and calls back
once, later, with the JWT or with None and the reason: nothing waits on the loop. How many fetches run at a time is
natsc/server/claims.py's business; each ends after `timeout`.
"""

from __future__ import annotations

import os

from natsc.auth.dirstore import KEEP, REMOVE, RENAME, DirStore
from natsc.config import keys
from natsc.config.gotext import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc._core import Request
    from natsc.config.options import AccountResolverOpts
    from natsc.server.server import Server

    Answer = Callable[[str | None, str], object]  # (JWT, "") or (None, why)

FETCH_TIMEOUT = 1.9  # seconds
MISSING = "account missing"
_NOT_FOUND = "account jwt not found"
_SECOND = 1_000_000_000
_CACHE_LIMIT = 1000
_LOOKUP = "$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP"


class Resolver:
    """One that has nothing; the others are made by make_resolver."""

    remote = False  # whether fetch() can find what lookup() doesn't
    read_only = True
    store: DirStore | None = None

    def __init__(self, server: Server, opts: AccountResolverOpts) -> None:
        self.server = server
        self.opts = opts
        self.timeout = opts.timeout / _SECOND or FETCH_TIMEOUT

    def lookup(self, name: str) -> str | None:
        """The JWT of an account, if it is here."""
        return None

    def fetch(self, name: str, then: Answer) -> None:
        """Asks elsewhere."""
        then(None, MISSING)

    def preload(self, tokens: dict[str, str]) -> None:
        """Takes over the JWTs of the configuration, at start and at each reload."""

    def reload(self) -> None:
        """The configuration was read again."""

    def close(self) -> None:
        """Gives everything back."""


class MemoryResolver(Resolver):
    """What the configuration has, and nothing else."""

    read_only = False

    def __init__(self, server: Server, opts: AccountResolverOpts) -> None:
        super().__init__(server, opts)
        self._tokens: dict[str, str] = {}

    def lookup(self, name: str) -> str | None:
        return self._tokens.get(name)

    def preload(self, tokens: dict[str, str]) -> None:
        self._tokens = dict(tokens)


class URLResolver(Resolver):
    """GET <url><account>."""

    remote = True

    def fetch(self, name: str, then: Answer) -> None:
        from natsc.gourl import redacted
        from natsc.server.http_fetch import fetch

        url = self.opts.url + name
        waits = True

        def once(token: str | None, why: str) -> None:
            nonlocal waits
            if waits:
                waits = False
                timer.cancel()
                then(token, why)

        # Whatever the other side does to its connection.
        late = f"could not fetch <{quote(redacted(url))}>: the time is up"
        timer = self.server.clock.call_later(self.timeout, lambda: once(None, late))
        fetch(self.server.loop, url, self.timeout, self._tls_context(), once)

    def _tls_context(self) -> Any:
        tls = self.server.options.account_resolver_tls_config
        if tls is None:
            return None
        from natsc.server.http_fetch import client_context

        return client_context(tls)


class DirectoryResolver(Resolver):
    """A directory of all accounts (`full`), or of those used last (`cache`); other servers are asked for the rest."""

    remote = True
    read_only = False

    def __init__(self, server: Server, opts: AccountResolverOpts) -> None:
        """Raises OSError where the directory can't be used."""
        super().__init__(server, opts)
        wall_ns = server.clock.wall_ns
        self.is_cache = opts.kind == "CACHE"
        if self.is_cache:
            limit = opts.limit if opts.limit > 0 else _CACHE_LIMIT
            store = DirStore(opts.dir, wall_ns, limit=limit, evict=True, ttl_ns=opts.ttl, on_delete=REMOVE)
        else:
            on_delete = KEEP if not opts.allow_delete else REMOVE if opts.hard_delete else RENAME
            store = DirStore(opts.dir, wall_ns, limit=max(opts.limit, 0), on_delete=on_delete)
        self.store: DirStore = store
        self._closed = False
        self._expire_later()

    def lookup(self, name: str) -> str | None:
        return self.store.load(name)

    def preload(self, tokens: dict[str, str]) -> None:
        from natsc.auth.dirstore import StoreError

        for name, token in tokens.items():
            try:
                self.store.save_if_newer(name, token)
            except StoreError as error:
                self.server.log.error(f"Preloaded account [{name}] not stored: {error}")

    def reload(self) -> None:
        self.store.reload()

    def close(self) -> None:
        self._closed = True

    def _expire_later(self) -> None:
        self.server.clock.call_later(self.store.check_seconds, self._expire)

    def _expire(self) -> None:
        if not self._closed:
            self.store.expire()
            self._expire_later()

    def fetch(self, name: str, then: Answer) -> None:
        if self._closed:
            then(None, "fetching jwt failed due to shutdown")
            return
        _Lookup(self, name, then)


class _Lookup:
    """One question to all who may know: the first JWT counts. Whoever has none says so with an empty answer."""

    def __init__(self, resolver: DirectoryResolver, name: str, then: Answer) -> None:
        server = resolver.server
        self._resolver = resolver
        self._name = name
        self._then: Answer | None = then
        engine, system = server.engine, server.account(server.system_account_name)
        inbox = f"$SYS._INBOX.{os.urandom(11).hex()}".encode()
        self._subscription = engine.subscribe(system, inbox, self._answered)
        self._timer = server.clock.call_later(resolver.timeout, lambda: self._end(None, "fetching jwt timed out"))
        self._left = engine.publish(system, _LOOKUP.format(name).encode(), b"", reply=inbox)
        if not self._left:
            self._timer.cancel()
            self._timer = server.clock.call_later(0, lambda: self._end(None, _NOT_FOUND))

    def _answered(self, request: Request) -> None:
        token = request.payload.decode("utf-8", "surrogateescape")
        self._left -= 1
        if not token:
            if self._left <= 0:
                self._end(None, _NOT_FOUND)
            return
        from natsc.auth.dirstore import StoreError

        try:
            self._resolver.store.save_if_newer(self._name, token)
        except StoreError as error:
            self._end(None, str(error))
            return
        self._end(token, "")

    def _end(self, token: str | None, why: str) -> None:
        then, self._then = self._then, None
        if then is None:
            return
        self._timer.cancel()
        self._resolver.server.engine.unsubscribe(self._subscription)
        then(token, why)
        self._resolver.server.engine.end_turn()


_KINDS: dict[str, type[Resolver]] = {
    "MEM": MemoryResolver, "URL": URLResolver, "FULL": DirectoryResolver, "CACHE": DirectoryResolver,
}  # fmt: skip


def make_resolver(server: Server, opts: AccountResolverOpts | None) -> Resolver | None:
    """The configured one, None where there is none. Raises OSError where its directory can't be used."""
    return None if opts is None else _KINDS[opts.kind](server, opts)


def is_account(name: str) -> bool:
    """Whether it makes sense to ask for an account of that name."""
    return keys.is_public_key(name, keys.PREFIX_ACCOUNT)
