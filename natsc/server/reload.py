"""A changed configuration for a server that runs (SIGHUP).

DESIGN. All or nothing: everything that can fail (reading and checking the file, what natsc/server/reload_fields.py
refuses, loading certificates, opening a new log) is done first; what comes then doesn't fail. Then each connection is
looked at:

1. Its user is gone, or lives in another account, or it named a user where there is no table of users (whether or not
   anything changed): closed as "Client Closed", it comes back where it belongs.
2. It would not be let in any more, or hasn't sent CONNECT yet where it must: closed with -ERR 'Authorization
   Violation'.
3. Otherwise, where the change concerns it, it gets its new permissions and loses the subscriptions that they don't
   allow.
4. It has as many subscriptions as it may, or more: closed with -ERR 'maximum subscriptions exceeded'.

A password that is compared with a bcrypt hash is compared on a thread: until that is done the connection keeps what it
had.
"""

from __future__ import annotations

from natsc import errors
from natsc.auth.users import Delegated
from natsc.config import ConfigError, set_baseline_options, validate_options
from natsc.config.gotext import format_duration
from natsc.server.handshake import DEFAULTS
from natsc.server.info import connection_type
from natsc.server.reload_fields import ReloadError, differences

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc._core import Client
    from natsc.auth.operator import OperatorAuthenticator
    from natsc.auth.users import AuthDiff, Authenticator, Grant
    from natsc.config.options import Options, TLSConfigOpts
    from natsc.server.callouts import Callouts
    from natsc.server.log_sinks import Sink
    from natsc.server.server import Server

__all__ = ["ReloadError", "reload", "reload_from_file"]

_LOGGING = frozenset((
    "trace", "debug", "trace_verbose", "trace_headers", "logtime", "logtime_utc", "log_file", "log_format", "syslog",
    "remote_syslog",
))  # fmt: skip
# Set by programs that embed a server, never by a configuration file: a reload keeps them.
_KEPT = ("disable_short_first_ping", "in_cmdline", "no_log", "no_sigs")


def reload_from_file(server: Server) -> bool:
    """Reads the configuration file again, with the flags over it. Returns whether it was taken over, and logs it."""
    from natsc import flags

    old = server.options
    try:
        if not old.config_file:
            raise ReloadError("can only reload config when a file is provided using -c or --config")
        new = flags.read_again(old)
        new.unsupported.extend(flags.unsupported(old.in_cmdline))
        reload(server, new)
    except (ConfigError, ReloadError) as error:
        text = str(error).removesuffix("\n")  # where several lines are
        server.log.error(f"Failed to reload server configuration: {text}")
        return False
    return True


def reload(server: Server, new: Options, *, everyone: bool = True) -> None:
    """Makes a running server work by new, which it completes and keeps. Raises ReloadError: nothing has changed.

    everyone: whether connections that the change doesn't concern are judged again too, as nats-server judges them.
    """
    old = server.options
    _complete(server, new)
    try:
        validate_options(new)
    except ConfigError as error:
        raise ReloadError(str(error)) from None
    changes = differences(old, new)
    if new.refused:
        names = ", ".join(new.refused)
        raise ReloadError(f"natsc cannot enforce yet: {names}. What restricts access or protects data is not ignored")
    context = _tls_context(new.tls_config)
    _tls_context(new.websocket.tls_config)
    sink = _log_sink(server, new) if any(field in _LOGGING for field, _ in changes) else None
    auth = server.make_authenticator(new, server.auth)

    _take_over(server, old, new, changes, sink)
    if server.claims is not None:
        server.claims.reload()
    server.configure(context)
    server.reload_jetstream()
    _reauthorize(server, auth, everyone)
    if server.callouts is not None:
        server.callouts.check()
    server.refresh_info()
    _apply_limits(server, everyone)
    server.engine.end_turn()
    server.config_load_ns = server.clock.wall_ns()
    if new.unsupported and new.unsupported != old.unsupported:
        server.log.warn(f"Not available in natsc yet, ignored: {', '.join(new.unsupported)}")
    server.log.notice(f"Reloaded server configuration {f'({new.config_digest})' if new.config_digest else ''}")
    if old.tls_pinned_certs != new.tls_pinned_certs:
        _close_unpinned(server)


# What can fail


def _complete(server: Server, new: Options) -> None:
    """Defaults, and what the configuration leaves as it is."""
    old = server.options
    for field in _KEPT:
        setattr(new, field, getattr(old, field))
    if not old.port and server.listener is not None:
        old.port = server.listener.port  # any free port became this one
    set_baseline_options(new)
    new.port = new.port or old.port


def _tls_context(config: TLSConfigOpts | None) -> Any:
    if config is None:
        return None
    from natsc.net import tls

    try:
        return tls.server_context(config)
    except tls.TLSConfigError as error:
        raise ReloadError(str(error)) from None


def _log_sink(server: Server, new: Options) -> Sink:
    from natsc.server.log import LogError

    try:
        return server.log.prepare(new)
    except LogError as error:
        raise ReloadError(str(error)) from None


# What can't


def _take_over(server: Server, old: Options, new: Options, changes: list[tuple[str, str]], sink: Sink | None) -> None:
    """Puts new in place, does what single options need, and says in the old log what changed."""
    server.options = new
    if server.listener is not None:
        server.listener.write_deadline_text = format_duration(new.write_deadline)
    for field, line in changes:
        if field == "max_conn":
            _close_surplus(server)
        elif field == "pid_file":
            _write_pid_file(server)
        elif field == "ports_file_dir":
            server.move_ports_file(old.ports_file_dir)
        if line:
            server.log.notice(line)
    if sink is not None:
        server.log.reconfigure(new, sink)


def _close_surplus(server: Server) -> None:
    """Closes the youngest connections above max_connections."""
    clients = [client for client in server.engine.clients() if not client.closing]
    surplus = clients[max(server.options.max_conn, 0) :]
    if not surplus:
        return
    server.log_limit(surplus[0], errors.TOO_MANY_CONNECTIONS)
    for client in surplus:
        client.send_err(errors.TOO_MANY_CONNECTIONS)
        client.close(errors.MAX_CONNECTIONS_EXCEEDED)
    server.engine.end_turn()
    server.log.notice(f"Closed {len(surplus)} connections to fall within max_connections")


def _write_pid_file(server: Server) -> None:
    from natsc.server import process

    try:
        process.write_pid_file(server.options.pid_file)
    except process.FileError as error:
        server.log.error(f"Failed to write pidfile: {error}")


def _apply_limits(server: Server, everyone: bool) -> None:
    """The limits of server and accounts, for the connections that are there already."""
    opts = server.options
    members: dict[str, list[Client]] = {}
    for client in server.engine.clients():
        if client.closing:
            continue
        client.configure(max_control_line=opts.max_control_line)
        subs_max = server.apply_limits(client)
        if not client.user:
            subs_max = client.account.max_subs  # the server's own limit is looked at again with a user alone
        if everyone and 0 <= subs_max <= client.num_subs:
            server.log_client(client, "error", errors.TOO_MANY_SUBSCRIPTIONS.decode())
            client.send_err(errors.TOO_MANY_SUBSCRIPTIONS)
            client.close(errors.MAX_SUBSCRIPTIONS_EXCEEDED)
        else:
            members.setdefault(client.account.name, []).append(client)
    for configured in opts.accounts:
        limit = configured.limits.max_connections
        for client in members.get(configured.name, ())[limit:] if limit >= 0 else ():
            server.log_limit(client, errors.TOO_MANY_ACCOUNT_CONNECTIONS)
            client.send_err(errors.TOO_MANY_ACCOUNT_CONNECTIONS)
            client.close(errors.MAX_ACCOUNT_CONNECTIONS_EXCEEDED)


def _close_unpinned(server: Server) -> None:
    """Closes the connections whose certificate isn't among the pinned ones any more."""
    from natsc.net.tls import TLSError

    pinned = server.options.tls_pinned_certs
    gone = []
    for client in server.engine.clients() if pinned else ():
        tls = client.conn.tls
        if tls is None or client.door == "WEBSOCKET":
            continue  # nobody asked it for a certificate, or its door has pinned ones of its own
        try:
            tls.require_pinned(pinned, server.client_debug(client))
        except TLSError:
            gone.append(client)
    if gone:
        server.log.notice(f"Disconnect {len(gone)} clients due to pinned certs reload")
        for client in gone:
            client.close(errors.TLS_HANDSHAKE_ERROR)
        server.engine.end_turn()


# Authentication


def _reauthorize(server: Server, auth: Authenticator | OperatorAuthenticator, everyone: bool) -> None:
    """Makes auth decide from now on, and over the connections that are there."""
    before = server.auth
    diff = before.differs(auth)
    changed = bool(diff.users or diff.everyone)
    server.auth = auth
    distrusted = set(before.trusted_proxies).difference(auth.trusted_proxies)
    slow = []
    for client in server.engine.clients():
        if client.closing or _is_opening(client):
            continue
        own = server.auth_of(client)
        connect = client.opts or {}
        if connect.get("proxy_key") in distrusted:
            client.opts = {**connect, "close_reason": errors.PROXY_NOT_TRUSTED}
            server.hooks.refuse(client)
            continue
        if server.callouts is not None and _is_decided_elsewhere(server.callouts, client, server.claims is not None):
            continue
        concerned = changed and _concerns(diff, server, client)
        if client.connected:
            if (everyone or concerned) and own.has_moved(connect, client.account.name):
                client.close(errors.CLIENT_CLOSED)
                continue
            if not concerned:
                continue
        elif (before.auth_required or (own is not auth and own.auth_required)) and not everyone:
            continue  # its CONNECT is judged by the new rules
        # The decision may write into it, and clients may share one.
        client.opts = dict(connect or DEFAULTS)
        if own.needs_thread(client.opts, tls=client.conn.tls, conn_type=connection_type(client)):
            slow.append(client)
        else:
            _judge(server, client, server.authenticate(client, own, debug=server.client_debug(client)))
    if slow:
        server.loop.create_task(_compare_in_thread(server, slow))


def _is_opening(client: Client) -> bool:
    """Whether something comes before the protocol still: a PROXY header, a TLS handshake."""
    return client.door != "WEBSOCKET" and client.conn.stage is not None and client.conn.tls is None


def _is_decided_elsewhere(callouts: Callouts, client: Client, by_jwt: bool) -> bool:
    """Whether a service is deciding, or has decided, and nothing changes that. by_jwt: the server is in operator mode,
    where what a connection may depends on JWTs alone, and these are looked after."""
    return client in callouts or (by_jwt and client.grant is not None and client.grant.delegated)


def _concerns(diff: AuthDiff, server: Server, client: Client) -> bool:
    # A new user's name may fit a certificate better than the one that was found for it.
    return diff.concerns(client.opts or {}) or bool(server.options.tls_map or server.options.websocket.tls_map)


async def _compare_in_thread(server: Server, clients: list[Client]) -> None:
    """Authenticates connections whose bcrypt hash changed, off the loop and one after the other."""
    for client in clients:
        while not client.closing:
            auth = server.auth_of(client)
            verdict = await server.loop.run_in_executor(None, server.authenticate, client, auth)
            if auth is not server.auth_of(client):
                continue  # reloaded again meanwhile
            if not client.closing:
                _judge(server, client, verdict)
                server.engine.end_turn()
            break


def _judge(server: Server, client: Client, verdict: Grant | Delegated | None) -> None:
    """What follows from the server's own verdict: a callout may decide again, and takes its time."""
    if not isinstance(verdict, Delegated):
        _settle(server, client, verdict)
    elif client.connected:  # others say in their own time who they are
        assert server.callouts is not None
        server.callouts.ask(client, verdict, lambda client, grant: _settle(server, client, grant))


def _settle(server: Server, client: Client, grant: Grant | None) -> None:
    """What becomes of a connection that stays in its account: refused, or with new permissions."""
    if grant is None:
        server.hooks.refuse(client)
        return
    if grant.account_name != client.account.name:
        client.close(errors.CLIENT_CLOSED)
        return
    if client.grant is not None and client.grant.timer is not None:
        client.grant.timer.cancel()
    client.grant = grant
    client.user = grant.user
    server.expire_later(client, grant)
    server.renew_permissions(client, grant)
