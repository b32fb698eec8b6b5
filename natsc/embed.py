"""A server inside another program, in the event loop that is running there (asyncio's or uvloop's).

    async with natsc.Server(max_payload=65536) as server:
        nc = await nats.connect(server.url)

Configuration is nats-server's: a file (`path`), its text (`config`), and keywords, which are directives by their names
and come after the file, as flags do on the command line. Two things differ from the command line, because an embedded
server is mostly one of many: where nothing says otherwise it listens on 127.0.0.1 alone, on any free port, and it logs
nothing.

JetStream (jetstream=True) keeps what it stores for as long as the server runs: in a private directory that is never
synced and goes when the server stops. With a store_dir it is kept there, and is as durable as that of `natsc`.

Invariants
1. Nothing that belongs to the program is touched: no signal handler, logging, collector, loop policy or limit.
2. start() returns when the server listens and answers; stop(), when every port, file and task is given back.
3. All methods are for the loop's thread. natsc/embed_thread.py is for synchronous code.
"""

from __future__ import annotations

import asyncio
import os

from natsc import errors
from natsc.config import (
    ConfigError,
    Options,
    process_config_file,
    process_config_string,
    set_baseline_options,
    validate_options,
)
from natsc.config.validate import check_system_account
from natsc.server.log import Log, LogError
from natsc.server.log_sinks import Sink
from natsc.server.server import Server as Core
from natsc.server.server import StartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Callable
    from tempfile import TemporaryDirectory
    from typing import Any, Self

    from natsc.clock import Clock
    from natsc.config.options import Account, User

    LogSink = Callable[[str, str], object] | str | os.PathLike[str] | None

__all__ = ["ConfigError", "Credentials", "Server", "StartError"]

_LOOPBACK = "127.0.0.1"
_ANY_PORT = -1
_STREAM_LIMIT = 64 << 10  # bytes, as asyncio.open_connection has it
_CLOSING_TURNS = 5  # of the loop, after which sockets that were closed are gone on uvloop too


class Credentials:
    """What a client needs for an account: `url` has user and password in it."""

    __slots__ = ("account", "password", "url", "user")

    def __init__(self, account: str, user: str, password: str, url: str) -> None:
        self.account = account
        self.user = user
        self.password = password
        self.url = url

    def __repr__(self) -> str:
        return f"Credentials(account={self.account!r}, user={self.user!r})"


class Server:
    """One embedded server; see the file's top.

    config: a configuration's text. path: a configuration file. log: where log lines go: a callable (level, text) with
    nats-server's levels ("INF", "WRN", "ERR", "DBG", "TRC"), a file's path, "stderr", or None for where the
    configuration says, if it does. Raises ConfigError.
    """

    def __init__(
        self,
        config: str | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        log: LogSink = None,
        **directives: Any,
    ) -> None:
        self._log_to = log
        self._path = path
        self._config = config
        self._directives = directives
        self._configured = self._read()
        self._made: dict[str, Account] = {}  # accounts made at run time, by name
        self._anonymous: User | None = None  # for those who give no credentials, once there are run-time accounts
        self._core: Core | None = None
        self._log: Log | None = None
        self._store: TemporaryDirectory[str] | None = None  # where JetStream's is thrown away

    # Life

    async def start(self) -> Self:
        """Returns once clients are answered. Raises StartError, and ConfigError for what only shows together."""
        if self._core is not None:
            raise RuntimeError("the server was started already")
        from natsc.net.tls import TLSConfigError

        opts = self._complete(self._with_store(self._configured.copy()))
        try:
            log = _open_log(opts, self._log_to)
            core = Core(opts, log, asyncio.get_running_loop())
        except (LogError, TLSConfigError) as error:
            self._drop_store()
            raise StartError(str(error)) from None
        self._core, self._log = core, log
        core.store_thrown_away = self._store is not None
        for warning in opts.warnings:
            log.warn(warning)
        if opts.unsupported:
            log.warn(f"Not available in natsc yet, ignored: {', '.join(opts.unsupported)}")
        try:
            await core.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        """Closes every connection and gives back every port, file and task. Twice is fine."""
        if self._core is None or self._log is None:
            return
        await self._core.shutdown()
        for _ in range(_CLOSING_TURNS):
            await asyncio.sleep(0)
        self._log.close()
        self._drop_store()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # Where it is

    @property
    def ports(self) -> dict[str, int]:
        """The ports it listens on: "nats", and "monitoring" and "websocket" where these are on."""
        core = self._running()
        assert core.listener is not None
        ports = {"nats": core.listener.port}
        if core.monitor is not None:
            ports["monitoring"] = core.monitor.port
        if core.websocket is not None:
            ports["websocket"] = core.websocket.port
        return ports

    @property
    def urls(self) -> dict[str, str]:
        """A URL for each of `ports`, that a client on this machine can use."""
        core, opts = self._running(), self._running().options
        schemes = {
            "nats": ("tls" if core.info["tls_required"] else "nats", opts.host),
            "monitoring": ("http" if opts.http_port else "https", opts.http_host),
            "websocket": ("ws" if opts.websocket.tls_config is None else "wss", opts.websocket.host),
        }
        return {
            name: f"{schemes[name][0]}://{_reachable(schemes[name][1])}:{port}" for name, port in self.ports.items()
        }

    @property
    def url(self) -> str:
        """For clients, without credentials."""
        return self.urls["nats"]

    # Clients without a socket

    async def connect_in_process(self, *, limit: int = _STREAM_LIMIT) -> tuple[StreamReader, StreamWriter]:
        """A connection that doesn't use the network: streams as asyncio.open_connection gives them, INFO first.

        Raises ConnectionRefusedError where the server isn't running.
        """
        from natsc.net.pipe import connect

        core = self._core
        if core is None or not core.accepting or core.listener is None:
            raise ConnectionRefusedError("the server is not running")
        return connect(core.listener, asyncio.get_running_loop(), limit)

    async def connect_nats_py(self, **options: Any) -> Any:
        """A client of nats-py (which must be installed) connected in process; options are those of nats.connect."""
        from natsc.nats_py import connect

        return await connect(self, **options)

    # Time

    @property
    def clock(self) -> Clock:
        """freeze(), advance(seconds) and unfreeze() move every timer at once: PING and authentication, and JetStream's
        ack_wait, max_age, TTLs, the dedupe window, inactive thresholds, pauses."""
        return self._running().clock

    # Change

    def reload(
        self, config: str | None = None, *, path: str | os.PathLike[str] | None = None, **directives: Any
    ) -> None:
        """Takes over another configuration, or the same file's new contents; keywords of before hold unless given anew.

        Raises ConfigError, or natsc.server.reload.ReloadError for what can't change while the server runs: nothing has
        changed then. Accounts made by account() stay.
        """
        self._running()
        before = self._path, self._config, self._directives, self._configured
        if config is not None or path is not None:
            self._config, self._path = config, path
        self._directives = {**self._directives, **directives}
        try:
            self._configured = self._read()
            self._reload()
        except BaseException:
            self._path, self._config, self._directives, self._configured = before
            raise

    def account(self, name: str | None = None, *, user: str | None = None, password: str | None = None) -> Credentials:
        """Makes an account with one user while the server runs; what isn't given is made up.

        An account is a subject space of its own: messages in it reach nobody outside, and its streams, where there is
        JetStream, are its own too. Where the server asked nobody for credentials, clients without any stay in the
        global account. Raises ValueError where account or user exists.
        """
        from natsc.config.options import Account, User, unlimited_jetstream

        opts = self._running().options
        name = name or f"account-{os.urandom(6).hex()}"
        user = user or f"user-{os.urandom(6).hex()}"
        password = password or os.urandom(16).hex()
        if name in ("$G", opts.system_account or "$SYS") or any(account.name == name for account in opts.accounts):
            raise ValueError(f"account {name!r} exists already")
        if any(entry.username == user for entry in opts.users) or user == opts.username:
            raise ValueError(f"user {user!r} exists already")
        account = Account(name)
        account.users.append(User(username=user, password=password, account=account))
        account.jetstream = {"": unlimited_jetstream()}
        self._made[name] = account
        try:
            self._reload(everyone=False)
        except BaseException:
            del self._made[name]
            raise
        return Credentials(name, user, password, _with_credentials(self.url, user, password))

    def remove_account(self, name: str) -> None:
        """Forgets an account that account() made: its streams, and its connections, which are closed.

        Raises KeyError where there is none.
        """
        del self._made[name]
        self._forget_streams(name)
        self._reload(everyone=False)

    def reset(self, *, connections: bool = True) -> None:
        """For the next test: the server is as if it had just started, on the same ports.

        Deletes every stream with its consumers, forgets the accounts made at run time, counts anew, lets the clock run.
        connections: closes every connection, so that nothing of the last test hears what the next one does; False keeps
        those that aren't in an account that goes, with their subscriptions. Configuration and connection ids go on.
        """
        core = self._running()
        core.clock.unfreeze()
        if connections:
            kicked = errors.CLOSE_REASONS.index("Kicked")
            for client in core.engine.clients():
                client.close(kicked)
            core.engine.end_turn()
        if core.jetstream is not None:
            core.jetstream.clear()
        if self._made:
            for name in self._made:
                self._forget_streams(name)
            self._made.clear()
            self._reload(everyone=False)
        core.clear_statistics()

    def _drop_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.cleanup()

    def _forget_streams(self, account: str) -> None:
        core = self._running()
        if core.jetstream is not None:
            core.jetstream.forget_account(account)

    # Options

    def _running(self) -> Core:
        if self._core is None or self._core.stopping:
            raise RuntimeError("the server is not running")
        return self._core

    def _reload(self, *, everyone: bool = True) -> None:
        from natsc.server.reload import reload

        core, new = self._running(), self._with_made(self._with_store(self._configured.copy()))
        core.store_thrown_away = self._store is not None
        if self._anonymous is not None and self._anonymous.username in (core.options.no_auth_user, new.no_auth_user):
            core.options.no_auth_user = new.no_auth_user  # a file couldn't change it: this one is ours
        reload(core, new, everyone=everyone)

    def _read(self) -> Options:
        """The options that path, config and keywords give. Raises ConfigError."""
        opts = Options()
        found: dict[str, list[str]] = {"warnings": [], "unsupported": [], "refused": []}
        for source in (self._read_file, self._read_text, self._read_keywords):
            source(opts)
            for field, entries in found.items():  # each source sets its own
                entries += getattr(opts, field)
                setattr(opts, field, [])
        for field, entries in found.items():
            setattr(opts, field, list(dict.fromkeys(entries)))
        if opts.refused:
            raise ConfigError(
                f"natsc cannot enforce yet: {', '.join(opts.refused)}. "
                "It does not start, rather than serve without what restricts access or protects data"
            )
        opts.port = opts.port or _ANY_PORT
        opts.host = opts.host or _LOOPBACK
        opts.no_sigs = True
        _log_options(opts, self._log_to)
        return opts

    def _read_file(self, opts: Options) -> None:
        if self._path is not None:
            process_config_file(os.fspath(self._path), opts)

    def _read_text(self, opts: Options) -> None:
        if self._config is not None:
            process_config_string(self._config, opts)

    def _read_keywords(self, opts: Options) -> None:
        if self._directives:
            process_config_string("".join(f"{k}: {config_text(v)}\n" for k, v in self._directives.items()), opts)

    @staticmethod
    def _complete(opts: Options) -> Options:
        set_baseline_options(opts)
        validate_options(opts)
        check_system_account(opts)
        return opts

    def _with_store(self, opts: Options) -> Options:
        """opts, with a directory for JetStream where they name none."""
        if opts.jetstream and not opts.store_dir:
            if self._store is None:
                from tempfile import TemporaryDirectory

                self._store = TemporaryDirectory(prefix="natsc-", ignore_cleanup_errors=True)
            opts.store_dir = self._store.name
        return opts

    def _with_made(self, opts: Options) -> Options:
        """opts and the accounts made at run time. Who needed no credentials before needs none now."""
        if not self._made and self._anonymous is None:  # connections have that name from its first use on
            return opts
        from natsc.auth.users import Authenticator
        from natsc.config.options import Account, User, unlimited_jetstream

        auth = Authenticator(opts)
        if not auth.auth_required or (auth.no_auth_user and not opts.no_auth_user):
            if self._anonymous is None:
                self._anonymous = User(username=f"natsc-{os.urandom(8).hex()}", password=os.urandom(16).hex())
            opts.users.append(self._anonymous)
            opts.no_auth_user = self._anonymous.username
        elif opts.username:  # the single user and others don't go together
            opts.users.append(User(username=opts.username, password=opts.password))
            opts.username = opts.password = ""
        if all(account.name == (opts.system_account or "$SYS") for account in opts.accounts):
            # Who is in no account has JetStream where there are none: so it stays.
            opts.accounts.append(Account("$G", jetstream={"": unlimited_jetstream()}))
        for account in self._made.values():
            opts.accounts.append(account)
            opts.users += account.users
        return opts


def config_text(value: Any) -> str:
    """A value in the configuration's language. Raises TypeError for what it has no form for."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"{value:f}" if isinstance(value, float) else str(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, dict):
        if any(not isinstance(key, str) or '"' in key for key in value):
            raise TypeError(f"keys of a block are strings without quotes: {list(value)!r}")
        return "{" + ", ".join(f'"{key}": {config_text(entry)}' for key, entry in value.items()) + "}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return "[" + ", ".join(map(config_text, value)) + "]"
    raise TypeError(f"no configuration value: {value!r}")


# Log


class _CallSink(Sink):
    """Log lines for a callable; None: for nobody."""

    plain_text = True

    def __init__(self, call: Callable[[str, str], object] | None) -> None:
        super().__init__(-1)
        self._call = call

    def write(self, level: str, line: bytes) -> None:
        if self._call is None:
            return
        try:
            self._call(level, line.decode("utf-8", "replace").rstrip("\n"))
        except Exception as error:  # the program's own: told to its loop, and no reason for the server to stumble
            self.lost += 1
            asyncio.get_running_loop().call_exception_handler({"message": "natsc: log failed", "exception": error})


class _CallLog(Log):
    __slots__ = ("_call",)

    def __init__(self, opts: Options, call: Callable[[str, str], object] | None) -> None:
        self._call = call
        super().__init__(opts)

    def prepare(self, opts: Options) -> Sink:
        return _CallSink(self._call)

    def close(self) -> None:
        """Later lines go where all lines went."""


def _log_options(opts: Options, to: LogSink) -> None:
    """Lays log= over what the configuration says."""
    if to is None:
        return
    opts.syslog, opts.remote_syslog = False, ""
    opts.log_file = "" if callable(to) or to == "stderr" else os.fspath(to)


def _open_log(opts: Options, to: LogSink) -> Log:
    if callable(to):
        return _CallLog(opts, to)
    if to is None and not (opts.log_file or opts.syslog or opts.remote_syslog):
        return _CallLog(opts, None)
    return Log(opts)


# URLs


def _reachable(host: str) -> str:
    """A host to connect to, for one that is listened on."""
    if host in ("0.0.0.0", "::"):
        return _LOOPBACK
    return f"[{host}]" if ":" in host else host


def _with_credentials(url: str, user: str, password: str) -> str:
    from urllib.parse import quote

    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"
