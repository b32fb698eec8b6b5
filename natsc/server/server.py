"""One server: its engine, its listeners, its accounts, and what they share.

Reading order: `start` and `shutdown` are its life; `greet`, `apply_limits` and `info_line` are what a new client gets;
natsc/server/handshake.py has CONNECT, natsc/server/reload.py a changed configuration, natsc/server/lame_duck.py the
slow goodbye.
"""

from __future__ import annotations

import os
from collections import deque

from natsc import errors
from natsc._core import Engine
from natsc.auth.permissions import permission_lists
from natsc.auth.users import Authenticator, log_label, name_for_log
from natsc.clock import Clock
from natsc.config.goaddress import join_host_port
from natsc.config.gotext import GoError, format_duration, quote
from natsc.config.keys import PREFIX_CURVE, PREFIX_SERVER, random_public_key
from natsc.engine.permissions import Permissions
from natsc.net.listener import ClientListener
from natsc.net.sockets import ListenError
from natsc.server import info
from natsc.server.handshake import DEFAULTS, Handshake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from typing import Any

    from natsc._core import Client
    from natsc.auth.claims import ClaimAccount
    from natsc.auth.operator import OperatorAuthenticator
    from natsc.auth.users import Delegated, Grant
    from natsc.clock import Timer
    from natsc.config.options import Account as ConfiguredAccount
    from natsc.config.options import Options
    from natsc.config.options import Permissions as ConfiguredPermissions
    from natsc.engine.account import Account
    from natsc.server.auth_threads import AuthThreads
    from natsc.server.callouts import Callouts
    from natsc.server.claims import ClaimAccounts
    from natsc.server.log import Log
    from natsc.server.system import System

GLOBAL_ACCOUNT = "$G"
SYSTEM_ACCOUNT = "$SYS"
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
THROTTLING_REPORT = 1.0  # seconds between two log lines about refused TLS handshakes


class StartError(Exception):
    """The server can't start; str() is what is logged as fatal."""


class Server:
    """A server on one event loop, which it doesn't own. start() returns when it listens; shutdown() gives all back."""

    def __init__(self, opts: Options, log: Log, loop: AbstractEventLoop, *, seed: int | None = None) -> None:
        self.options = opts
        self.log = log
        self.loop = loop
        self.hooks = Handshake(self)
        self.engine = Engine(self.hooks, seed=int.from_bytes(os.urandom(7), "little") if seed is None else seed)
        self.engine.release = self._on_closed
        self.clock = Clock(self.engine, loop)
        self.callouts: Callouts | None = None  # where authentication may be delegated
        self.server_id, self.xkey = self._make_keys(opts)
        self.server_name = opts.server_name or self.server_id
        self.start_ns = self.config_load_ns = self.clock.wall_ns()
        self.closed: deque[Client] = deque(maxlen=max(opts.max_closed_clients, 0))
        self.total_connections = 0
        self.http_req_stats: dict[str, int] = {}
        self.system: System | None = None  # once it has started, where there is a system account
        self.global_account = self.account(GLOBAL_ACCOUNT)
        if self.system_account_name:
            self.account(self.system_account_name)
            self.engine.next_cid()
            self.engine.next_cid()
        self.claims: ClaimAccounts | None = self._make_claims(opts)  # in operator mode
        self.auth: Authenticator | OperatorAuthenticator = self.make_authenticator(opts)
        self.accepting = False
        self.stopping = False
        self.lame_duck = False
        self.listener: ClientListener | None = None
        self.websocket: Any = None  # natsc.adapters.websocket.WebSocketListener, where it is configured
        self.monitor: Any = None
        self.jetstream: Any = None  # natsc.jetstream.service.JetStream, where it is enabled
        self.store_thrown_away = False  # what JetStream stores needn't outlive the server
        self.tls_context: Any = None
        self.tls_scratch: Any = None
        self.tls_rate_limiter: Any = None
        self.info: dict[str, Any] = {}
        self._template: info.InfoTemplate | None = None
        self._account_templates: dict[tuple[str, int], info.InfoTemplate] = {}
        self._permissions: dict[int, tuple[object, Permissions | None]] = {}
        self._accounts: set[str] = set()  # which there are by the configuration
        self.gone_accounts: set[str] = set()  # configured once, and not after a reload
        self._throttling_timer: Timer | None = None
        self._auth_threads: AuthThreads | None = None
        self._ports_file = False
        self.configure()

    # Configuration

    def _make_keys(self, opts: Options) -> tuple[str, str]:
        """Public keys by which others know the server. Only callouts need it to have the private ones."""
        if not (opts.auth_callout or opts.trusted_operators or opts.trusted_keys):
            return random_public_key(PREFIX_SERVER), random_public_key(PREFIX_CURVE)
        from natsc.server.callouts import Callouts, Identity

        identity = Identity()
        self.callouts = Callouts(self, identity)
        return identity.signer.public_key, identity.curve.public_key

    def _make_claims(self, opts: Options) -> ClaimAccounts | None:
        if not (opts.trusted_operators or opts.trusted_keys):
            return None
        from natsc.server.claims import ClaimAccounts

        return ClaimAccounts(self)

    def make_authenticator(
        self, opts: Options, previous: Authenticator | OperatorAuthenticator | None = None
    ) -> Authenticator | OperatorAuthenticator:
        """Who decides over connections under these options; previous: who does so now."""
        if self.claims is None:
            assert previous is None or isinstance(previous, Authenticator)
            return Authenticator(opts, previous)
        from natsc.auth.operator import OperatorAuthenticator

        auth = OperatorAuthenticator(opts, self.claims.accounts, self.clock.wall_ns)
        auth.pinned_failures = previous.pinned_failures if previous is not None else 0
        return auth

    def adopt(self, account: ClaimAccount) -> None:
        """Makes the engine's account what its JWT says."""
        name, limits = account.name, account.options.limits
        handle = self.account(name)
        handle.options, handle.limits = account.options, limits
        handle.set_limits(limits.max_connections, limits.max_subscriptions, limits.max_payload)
        self.gone_accounts.discard(name)
        if name not in self._accounts:
            self._accounts.add(name)
            self._skip_cids({name})
        if self.jetstream is not None:
            self.jetstream.reload()

    def abandon(self, name: str) -> None:
        """An operator's account is no more."""
        self._accounts.discard(name)
        self.gone_accounts.add(name)

    def account_label(self, name: str) -> str:
        """An account as log lines name it: with the name that its JWT has for it, too."""
        known = self.claims.accounts.get(name) if self.claims is not None else None
        return f"{name}/{known.name_tag}" if known is not None and known.name_tag else name

    def configured_accounts(self) -> list[ConfiguredAccount]:
        """All accounts with settings, by whoever made them, in the form of the configuration."""
        claimed = [account.options for account in self.claims.accounts.values()] if self.claims is not None else []
        return [*self.options.accounts, *claimed]

    def configured_account(self, name: str) -> ConfiguredAccount | None:
        """One of them; None: there is no account of that name."""
        if name not in self._accounts:
            return None
        from natsc.config.options import Account

        found: ConfiguredAccount = self.account(name).options or Account(name)
        return found

    def configure(self, tls_context: Any = None) -> None:
        """Takes over the options into the engine; at start and, with the context made before, after a reload."""
        opts = self.options
        self.engine.configure(
            ping_interval_ns=opts.ping_interval,
            max_pings_out=opts.max_pings_out,
            write_deadline_ns=opts.write_deadline,
            no_stall=bool(opts.no_fast_producer_stall),
            trace=bool(opts.trace or opts.trace_verbose),
            debug=bool(opts.debug),
        )
        self.engine.set_client_defaults(
            verbose=DEFAULTS["verbose"],
            pedantic=DEFAULTS["pedantic"],
            max_payload=opts.max_payload or -1,
            max_control_line=opts.max_control_line,
            max_pending=opts.max_pending,
            max_subs=opts.max_subs or -1,
            max_sub_tokens=opts.max_sub_tokens,
        )
        self._permissions.clear()
        for configured in opts.accounts or ():
            account = self.account(configured.name)
            account.options = configured
            limits = configured.limits
            account.limits = limits
            if limits is not None:
                account.set_limits(limits.max_connections, limits.max_subscriptions, limits.max_payload)
        if self.claims is not None:
            self.claims.tie()
        elif any(account.imports for account in self.engine.accounts()) or any(
            configured.imports or configured.mappings for configured in opts.accounts or ()
        ):
            from natsc.server import imports

            imports.tie(self, opts.accounts)
        before = self._accounts
        self._accounts = {GLOBAL_ACCOUNT, *(configured.name for configured in self.configured_accounts())}
        if self.system_account_name:
            self._accounts.add(self.system_account_name)
        self._skip_cids(self._accounts - before)
        self.gone_accounts = {account.name for account in self.engine.accounts()} - self._accounts
        self._load_tls(tls_context)
        if self.websocket is not None:
            self.websocket.configure()

    def _skip_cids(self, new_accounts: set[str]) -> None:
        """Takes the connection ids that the reference gives to internal clients.

        Two are the system account's (that makes 5 the first client of a plain server), and one belongs to each account
        that imports services, as all do from a system account.
        """
        if self.system_account_name:
            count = len(new_accounts)
        else:
            count = sum(
                account.name in new_accounts and any(entry.service for entry in account.imports)
                for account in self.options.accounts
            )
        for _ in range(count):
            self.engine.next_cid()

    def _load_tls(self, context: Any) -> None:
        opts = self.options
        if opts.tls_config is None:
            self.tls_context = None
            return
        from natsc.net import tls

        self.tls_context = context or tls.server_context(opts.tls_config)
        if self.tls_scratch is None:
            self.tls_scratch = tls.make_scratch()
        rate = opts.tls_config.rate_limit
        self.tls_rate_limiter = tls.RateLimiter(rate) if rate > 0 else None

    def account(self, name: str) -> Account:
        """The engine's account of that name."""
        account = self.engine.account(name)
        if self.system is not None:
            self.system.serve(account)
        return account

    def event_id(self) -> str:
        """A new id for an event, as nats-server's: 22 letters and digits."""
        return "".join(_LETTERS[byte % 62] for byte in os.urandom(22))

    def refresh_info(self) -> None:
        """Makes INFO from what is known now. client_advertise counts once the server listens.

        Raises natsc.config.gotext.GoError where that is no address.
        """
        opts = self.options
        host, port = opts.host, self.listener.port if self.listener is not None else max(opts.port, 0)
        if opts.client_advertise and self.listener is not None:
            from natsc.server.advertise import parse_host_port

            host, port = parse_host_port(opts.client_advertise, port)
        self.info = {
            "server_id": self.server_id,
            "server_name": self.server_name,
            "version": info.VERSION,
            "proto": info.PROTO,
            "git_commit": info.GIT_COMMIT,
            "go": info.GO_VERSION,
            "host": host,
            "port": port,
            "headers": not opts.no_header_support,
            "auth_required": self.auth.auth_required,
            "tls_required": self.tls_context is not None and not opts.allow_non_tls,
            "tls_verify": opts.tls_config is not None and bool(opts.tls_config.verify),
            "tls_available": self.tls_context is not None and bool(opts.allow_non_tls),
            "max_payload": opts.max_payload,
            "jetstream": self.jetstream is not None,
            "domain": self.jetstream.domain if self.jetstream is not None else "",
            "api_lvl": info.API_LEVEL,
            "xkey": self.xkey,
        }
        fields = {**self.info, "auth_required": self.auth.auth_required_in_info}
        if opts.tls_handshake_first and self.tls_context is not None:
            fields["tls_required"] = True
        self._template = info.InfoTemplate(fields)
        self._account_templates.clear()

    def info_line(self, client: Client, *, with_ip: bool = True, connect_info: bool = False, **more: object) -> bytes:
        """INFO for one client: the first one, or a later one with connect_info or other fields."""
        ip = client.ip if with_ip else None
        if client.door == "WEBSOCKET" and self.websocket is not None:
            more = {**self.websocket.info_fields(), **more}
        if not more:
            if connect_info:
                return self._account_template(client.account.name, client.max_payload).fill(client.cid, ip)
            if self._template is not None:
                return self._template.fill(client.cid, ip, client.nonce or b"")
        fields: dict[str, Any] = {
            **self.info, "client_id": client.cid, "client_ip": ip, "max_payload": _wire_limit(client.max_payload),
            **(self._connect_fields(client.account.name) if connect_info else {}), **more,
        }  # fmt: skip
        return info.render(fields)

    def _connect_fields(self, account: str) -> dict[str, object]:
        return {"connect_info": True, "remote_account": account, "acc_is_sys": account == self.system_account_name}

    def _account_template(self, account: str, max_payload: int) -> info.InfoTemplate:
        """INFO with connect_info for the clients of one account: the answer to their first PING."""
        key = (account, max_payload)
        template = self._account_templates.get(key)
        if template is None:
            fields = {**self.info, "max_payload": _wire_limit(max_payload), **self._connect_fields(account)}
            template = self._account_templates[key] = info.InfoTemplate(fields)
        return template

    @property
    def system_account_name(self) -> str:
        """Empty where no_system_account is set."""
        return self.options.system_account or ("" if self.options.no_system_account else SYSTEM_ACCOUNT)

    # Life

    async def start(self) -> None:
        """Opens what the options say, accepts clients. Raises StartError: a port is taken, a file can't be written."""
        from natsc.server import process

        opts = self.options
        self._announce()
        if opts.pid_file:
            try:
                process.write_pid_file(opts.pid_file)
            except process.FileError as error:
                raise StartError(f"Could not write pidfile: {error}") from None
        if self.callouts is not None:
            self.callouts.check()
        await self._start_claims()
        if self.system_account_name:
            from natsc.server.system import System

            self.system = System(self)
            self.system.start()
        self.refresh_info()  # what monitoring shows until the server listens
        if opts.http_port or opts.https_port:
            from natsc.monitor.http import MonitorError, start_monitor

            try:
                self.monitor = await start_monitor(self, self.loop)
            except MonitorError as error:
                raise StartError(f"Can't start monitoring: {error}") from None
        if opts.jetstream:
            self._start_jetstream()
        if opts.websocket.port:
            await self._start_websocket()
        self.listener = ClientListener(self, self.loop)
        try:
            await self.listener.open(opts.host, opts.port)
        except ListenError as error:
            shown = join_host_port(opts.host, max(opts.port, 0))
            raise StartError(f'Error listening on port: {shown}, "{error}"') from None
        try:
            self.refresh_info()
        except GoError as error:
            self._announce_listener()
            text = f"Error setting server INFO with ClientAdvertise value of {opts.client_advertise}, err={error}"
            raise StartError(text) from None
        self._announce_listener()
        self.accepting = True  # the first may be accepted before start() returns
        await self.listener.start()
        if self.websocket is not None:
            await self.websocket.start()
        if opts.ports_file_dir:
            self._write_ports_file()
        self.log.notice("Server is ready")

    async def _start_websocket(self) -> None:
        """Raises StartError."""
        from natsc.adapters.websocket import WebSocketListener

        part = self.options.websocket
        self.websocket = WebSocketListener(self, self.loop)
        try:
            await self.websocket.open(part.host, part.port)
        except ListenError as error:
            raise StartError(f"Unable to listen for websocket connections: {error}") from None
        scheme = self.websocket.scheme
        self.log.notice(f"Listening for websocket clients on {scheme}://{part.host}:{self.websocket.port}")
        if scheme == "ws":
            self.log.warn("Websocket not configured with TLS. DO NOT USE IN PRODUCTION!")
        if part.advertise:
            from natsc.server.advertise import parse_host_port

            try:
                parse_host_port(part.advertise, self.websocket.port)
            except GoError as error:
                raise StartError(f"Unable to get websocket connect URLs: {error}") from None

    def auth_of(self, client: Client) -> Authenticator | OperatorAuthenticator:
        """What decides over a client: its door's own where the configuration gives it one."""
        if client.door == "WEBSOCKET" and self.websocket is not None and self.websocket.auth is not None:
            found: Authenticator = self.websocket.auth
            return found
        return self.auth

    def _start_jetstream(self) -> None:
        """Raises StartError."""
        from natsc.jetstream import service

        began = self.clock.now_ns()
        self.log.notice("Starting JetStream")
        self.jetstream = service.JetStream(self, self.loop)
        service.announce(self, self.jetstream)
        try:
            self.jetstream.start()
        except service.JetStreamError as error:
            raise StartError(f"Can't start JetStream: {error}") from None
        self.log.notice(f"Took {format_duration(self.clock.now_ns() - began)} to start JetStream")

    def reload_jetstream(self) -> None:
        """Starts or stops JetStream as the options now say, or tells it of the accounts there are."""
        if not self.options.jetstream:
            if self.jetstream is not None:
                self.jetstream.shutdown()
                self.jetstream = None
        elif self.jetstream is not None:
            self.jetstream.reload()
        elif self.listener is not None:
            try:
                self._start_jetstream()
            except StartError as error:
                self.jetstream = None
                self.log.error(str(error))

    def _announce(self) -> None:
        opts, log = self.options, self.log
        log.notice("Starting nats-server")
        log.notice(f"  Version:  {info.VERSION}")
        log.notice(f"  Git:      [{info.GIT_COMMIT}]")
        log.debug(f"  Go build: {info.GO_VERSION}")
        log.notice(f"  Name:     {self.server_name}")
        if opts.jetstream:
            from natsc.jetstream.service import node_name

            log.notice(f"  Node:     {node_name(self.server_name)}")
        log.notice(f"  ID:       {self.server_id}")
        if self.auth.plaintext_passwords:
            log.warn("Plaintext passwords detected, use nkeys or bcrypt")
        if opts.config_file:
            log.notice(f"Using configuration file: {opts.config_file} ({opts.config_digest})")
        if self.claims is not None:
            from natsc.server.claims_start import announce

            announce(self)
        if opts.max_payload > 8 << 20:
            log.warn("Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance")

    def _announce_listener(self) -> None:
        opts, log = self.options, self.log
        assert self.listener is not None
        log.notice(f"Listening for client connections on {join_host_port(opts.host, self.listener.port)}")
        if opts.proxy_protocol:
            log.notice("PROXY protocol enabled for client connections")
        if self.tls_context is not None:
            first_only = opts.tls_handshake_first and not opts.tls_handshake_first_fallback
            available = opts.allow_non_tls and not first_only
            log.notice(f"TLS {'available' if available else 'required'} for client connections")
            if first_only:
                log.warn('Clients that are not using "TLS Handshake First" option will fail to connect')

    def _write_ports_file(self) -> None:
        from natsc.server import process

        opts = self.options
        assert self.listener is not None
        ports = {"nats": process.listener_urls("nats", opts.host, self.listener.port)}
        if self.websocket is not None:
            ports["websocket"] = process.listener_urls(self.websocket.scheme, opts.websocket.host, self.websocket.port)
        if self.monitor is not None:
            scheme = "http" if opts.http_port else "https"
            ports["monitoring"] = process.listener_urls(scheme, opts.http_host, self.monitor.port)
        try:
            process.write_ports_file(opts.ports_file_dir, ports)
            self._ports_file = True
        except process.FileError as error:
            self.log.error(f"Error writing ports file: {error}")

    def _remove_ports_file(self, directory: str) -> None:
        from natsc.server import process

        if not self._ports_file:
            return
        self._ports_file = False
        try:
            process.remove_ports_file(directory)
        except process.FileError as error:
            self.log.error(f"Error cleaning up ports file {process.ports_file_path(directory)}: {error}")

    def move_ports_file(self, old_directory: str) -> None:
        """Writes the ports file where the options now say, and removes the old one."""
        self._remove_ports_file(old_directory)
        if self.options.ports_file_dir and self.listener is not None:
            self._write_ports_file()

    async def _start_claims(self) -> None:
        """Raises StartError."""
        if self.claims is None:
            return
        from natsc.server.claims_start import start

        await start(self, self.claims)

    async def shutdown(self) -> None:
        """Closes every connection and listener and gives back every file; safe to call twice."""
        if self.stopping:
            return
        self.stopping = True
        self.accepting = False
        self.log.notice("Initiating Shutdown...")
        if self.system is not None:
            self.system.stopping("SHUTDOWN")
            self.system.close()
        if self.jetstream is not None:
            self.jetstream.shutdown()
        if self.websocket is not None:
            self.websocket.stop()
        if self.listener is not None:
            self.listener.stop()
            for client in self.engine.clients():
                client.close(errors.SERVER_SHUTDOWN)
            self.engine.end_turn()
        if self.monitor is not None:
            self.monitor.close()
        if self._auth_threads is not None:
            self._auth_threads.close()
        if self.callouts is not None:
            self.callouts.close()
        if self.claims is not None:
            self.claims.close()
        self._remove_ports_file(self.options.ports_file_dir)
        await self._wait_for_connections()
        self.clock.close()
        self.log.notice("Server Exiting..")

    async def _wait_for_connections(self) -> None:
        """Until the transports are closed, but no longer than a client that reads nothing deserves."""
        from asyncio.tasks import sleep  # not from asyncio: see natsc/server/lean.py

        listeners = [listener for listener in (self.listener, self.websocket) if listener is not None]
        for _ in range(100):
            if not any(listener.connections for listener in listeners):
                return
            await sleep(0.002)
        for listener in listeners:
            for conn in list(listener.connections):
                conn.abort()
        await sleep(0)

    def clear_statistics(self) -> None:
        """Forgets what happened so far, all but the connections that are open."""
        self.engine.clear_counters()
        self.total_connections = self.engine.num_clients
        self.closed.clear()
        self.http_req_stats.clear()

    # Clients

    def apply_limits(self, client: Client) -> int:
        """The smaller of the account's and the server's limits. Returns the one of subscriptions; -1: there is none."""
        opts, account = self.options, client.account
        user = client.grant.jwt_user if client.grant is not None else None
        max_subs = _least(opts.max_subs or -1, account.max_subs, user.subs if user is not None else -1)
        max_payload = _least(opts.max_payload or -1, account.max_payload, user.payload if user is not None else -1)
        client.configure(max_payload=max_payload, max_subs=max_subs)
        return max_subs

    def enforce_limits(self, client: Client) -> None:
        """apply_limits, and the end of a client that has as many subscriptions as it may already."""
        if 0 <= self.apply_limits(client) <= client.num_subs:
            self.log_client(client, "error", errors.TOO_MANY_SUBSCRIPTIONS.decode())
            client.send_err(errors.TOO_MANY_SUBSCRIPTIONS)
            client.close(errors.MAX_SUBSCRIPTIONS_EXCEEDED)

    def compiled_permissions(self, grant: Grant) -> Permissions | None:
        """The engine's rules for what was granted; connections of one user share them."""
        granted = grant.permissions
        if granted is None:
            return None
        known = self._permissions.get(id(granted))
        if known is not None:
            return known[1]
        compiled = _compiled(granted)
        if grant.jwt_user is None:  # there is no end of JWTs
            self._permissions[id(granted)] = (granted, compiled)  # holding granted keeps its id its own
        return compiled

    def authenticate(
        self, client: Client, auth: Any, connect: dict[str, Any] | None = None, **sinks: Callable[[str], None]
    ) -> Grant | Delegated | None:
        """What auth grants to a client for its CONNECT (or for another one); sinks: debug and warn."""
        conn = client.conn
        grant: Grant | Delegated | None = auth.authenticate(
            (client.opts or {}) if connect is None else connect,
            tls=conn.tls if conn is not None else None,
            conn_type=info.connection_type(client),
            nonce=client.nonce or b"",
            host=client.ip,
            error=lambda text: self.log_client(client, "error", text),
            **sinks,
        )
        return grant

    def authenticate_in_thread(self, client: Client, then: Callable[[Client, Grant | Delegated | None], int]) -> None:
        """Compares a bcrypt hash off the loop; the client's input waits."""
        if self._auth_threads is None:
            from natsc.server.auth_threads import AuthThreads

            self._auth_threads = AuthThreads(self)
        self._auth_threads.submit(client, then)

    def report_throttling(self) -> None:
        """A TLS handshake was refused because there are too many: says so, once for all those of a second."""
        if self._throttling_timer is None:
            self._throttling_timer = self.clock.call_later(THROTTLING_REPORT, self._report_throttling)

    def _report_throttling(self) -> None:
        self._throttling_timer = None
        blocked = self.tls_rate_limiter.take_blocked() if self.tls_rate_limiter is not None else 0
        if blocked:
            self.log.warn(f"Rejected {blocked} connections due to TLS rate limiting")

    def expire_later(self, client: Client, grant: Grant) -> None:
        """Closes a client when its credentials end, where they do."""
        if grant.expires is None:
            return

        def expire() -> None:
            if not client.closing:
                self.log_client(client, "debug", "User Authentication Expired")
                client.send_err(b"User Authentication Expired")
                client.close(errors.AUTHENTICATION_EXPIRED)
                self.engine.end_turn()

        grant.timer = self.clock.call_later(max(0, grant.expires - self.clock.wall_ns()) / 1e9, expire)

    def renew_permissions(self, client: Client, grant: Grant) -> None:
        """What was granted to a client that is there already: it loses what isn't allowed any more."""
        client.set_permissions(self.compiled_permissions(grant))
        for subject, queue, sid in client.prune_subscriptions():
            what = _quoted(subject)
            if queue is not None:
                what += f" using queue {_quoted(queue)}"
            what += f" (sid {_quoted(sid)})"
            client.send_err(f"Permissions Violation for Subscription to {what}".encode("utf-8", "surrogateescape"))
            self.log.notice(f"Removed sub {what} for {name_for_log(client.opts or {})} - not authorized")

    def _on_closed(self, client: Client) -> None:
        self.closed.append(client)
        if self.callouts is not None:
            self.callouts.forget(client)
        if self.system is not None:
            self.system.disconnected(client)
        if client.grant is not None and client.grant.timer is not None:
            client.grant.timer.cancel()
        if self.log.debug_on:
            self.log_client(client, "debug", f"Client connection closed: {client.reason}")
        if self.listener is not None and client.conn is not None:
            self.listener.closing(client)

    # Log lines about clients

    def address(self, client: Client) -> str:
        """A client as log lines begin with it before it has a name."""
        kind = "wid" if client.door == "WEBSOCKET" else "cid"
        address = join_host_port(client.ip, client.port)
        if client.forwarded_for:
            source = client.forwarded_for
            address = f"{f'[{source}]' if ':' in source else source}/{address}"
        return f"{address} - {kind}:{client.cid}"

    def log_client(self, client: Client, level: str, text: str) -> None:
        """A line about a client; level is a method of Log."""
        log = self.log
        if (level == "debug" and not log.debug_on) or (level == "trace" and not log.trace_on):
            return
        getattr(log, level)(f"{client.label or self.hooks.label(client)} - {text}")

    def log_limit(self, client: Client, error: bytes) -> None:
        """A limit on connections was met: a line at most once a second, with the account at its end after CONNECT."""
        text = error.decode()
        if client.connected:
            label = log_label(client.opts or {})
            text += f" - Account:{client.account.name}{f' - {label}' if label else ''}"
        self.log.error_once(text, f"{client.label or self.hooks.label(client)} - ")

    def client_debug(self, client: Client) -> Callable[[str], None]:
        """A sink for debug lines about a client."""
        return lambda text: self.log_client(client, "debug", text)


def _compiled(granted: ConfiguredPermissions) -> Permissions:
    lists = permission_lists(granted)
    assert lists is not None
    return Permissions(
        lists.publish_allow,
        lists.publish_deny,
        _with_queues(lists.subscribe_allow),
        _with_queues(lists.subscribe_deny),
        lists.response,
    )


def _least(*limits: int) -> int:
    """The smallest limit; -1 is none."""
    return min((limit for limit in limits if limit >= 0), default=-1)


def _wire_limit(max_payload: int) -> int:
    """The limit as INFO says it: 32 bits, -1 for none."""
    return max_payload if max_payload < 1 << 31 else -1


def _quoted(octets: bytes) -> str:
    return quote(octets.decode("utf-8", "surrogateescape"))


def _with_queues(rules: list[Any] | None) -> list[tuple[bytes, bytes]] | None:
    return None if rules is None else [(subject, queue or b"") for subject, queue in rules]
