"""What the engine asks of Python about a client (natsc/engine/hooks.pyx): CONNECT, first PING, violations, log, trace.

CONNECT's JSON is read as Go reads it: keys in any case, unknown ones ignored, a value of the wrong type refuses the
connection, and a second CONNECT changes only what it names.
"""

from __future__ import annotations

from natsc import errors
from natsc.auth.users import AUTHENTICATION_ERROR, Delegated, failure_text, log_label
from natsc.client_info import raw_user
from natsc.config.gotext import quote
from natsc.server.info import connection_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc._core import Client
    from natsc.auth.users import Grant
    from natsc.imports import ServiceImport
    from natsc.server.msgtrace import MessageTrace
    from natsc.server.server import Server
    from natsc.server.services import Measured

REFUSED, ACCEPTED, PENDING = range(3)  # natsc/engine/hooks.pxd

PROTO_MAX = 1
_INT64_MAX = 2**63 - 1


class _Pairs(list["tuple[str, Any]"]):
    """A JSON object with all its members: each one's type counts, also that of one which a later member replaces."""


# CONNECT's fields and their types. _Pairs: an object.
FIELDS: dict[str, type] = {
    "verbose": bool, "pedantic": bool, "echo": bool, "tls_required": bool, "headers": bool, "no_responders": bool,
    "new_account": bool, "protocol": int, "name": str, "lang": str, "version": str, "user": str, "pass": str,
    "auth_token": str, "jwt": str, "nkey": str, "sig": str, "account": str, "proxy_sig": str, "remote_account": str,
    "import": _Pairs, "export": _Pairs,
}  # fmt: skip

# What a client is before it says anything: the reference's defaults.
DEFAULTS = {"verbose": True, "pedantic": True, "echo": True}

# How many different CONNECTs are remembered, and up to which length.
_SEEN_MAX = 64
_SEEN_BYTES_MAX = 512

# How the delivery of a callout's question begins.
_CALLOUTS = (b"MSG $SYS.REQ.USER.AUTH ", b"HMSG $SYS.REQ.USER.AUTH ")

# A field whose value stays out of trace lines, up to the value; then the value, which may be a string.
_SECRET = (
    rb'(?i)((?:(?:auth_token|pass)[^\s:=]{0,32}|(?<![a-z0-9_])(?:proxy_sig|nkey|sig|jwt)"?)\s*[:=]\s*)'
    rb'(?:(")(?:[^"\\]|\\.)*|[^",\r\n}]*)'
)


class BadConnect(ValueError):
    """CONNECT's argument isn't JSON, or a field has the wrong type."""


def parse_connect(arg: bytes) -> dict[str, Any]:
    """The known fields that CONNECT's argument sets. Raises BadConnect."""
    import json  # late: the server's start needs none

    try:
        parsed = json.loads(arg.decode("utf-8", "replace"), parse_constant=_refuse_constant, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise BadConnect(str(error)) from None
    if parsed is None:
        return {}
    if not isinstance(parsed, _Pairs):
        raise BadConnect("not an object")
    fields: dict[str, Any] = {}
    for key, value in parsed:
        name = key.lower().replace("\u017f", "s")  # Go folds the long s too
        kind: Any = FIELDS.get(name)
        if kind is None or value is None:
            continue
        # bool is an int to Python, not to JSON
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadConnect(f"wrong type of {name}")
        if kind is _Pairs and not all(_is_subject_list(key, item) for key, item in value):
            raise BadConnect(f"wrong type in {name}")
        if kind is int and not -_INT64_MAX - 1 <= value <= _INT64_MAX:
            raise BadConnect(f"{name} out of range")
        fields[name] = _without_surrogates(value) if kind is str else value
    return fields


def _without_surrogates(text: str) -> str:
    """As Go has it: U+FFFD for what is half of a pair."""
    if text.isascii():
        return text
    return "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in text)


def _is_subject_list(key: str, value: object) -> bool:
    """Whether a member of import and export is as it should be: lists of subjects by the names allow and deny."""
    if key.lower() not in ("allow", "deny") or value is None:
        return True
    return type(value) is list and all(item is None or isinstance(item, str) for item in value)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


class Connect:
    """What one CONNECT says, read once. opts is shared between the clients that said it, and read only."""

    __slots__ = ("flags", "headers", "names", "opts", "wants_account")

    def __init__(self, opts: dict[str, Any], reads_jwt: bool) -> None:
        if not reads_jwt:
            opts.pop("jwt", None)  # means something in operator mode only
        self.opts = opts
        self.names: tuple[str, str, str] = (opts.get("name", ""), opts.get("lang", ""), opts.get("version", ""))
        self.flags: tuple[bool, bool, bool] = (opts["verbose"], opts["pedantic"], opts["echo"])
        self.headers = bool(opts.get("headers"))
        self.wants_account = bool(opts.get("new_account") or opts.get("account"))  # nobody gets what it wants


class Handshake:
    """The engine's hooks of one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._seen: dict[bytes, Connect] = {}
        self._is_secret = False  # of the message whose operation was traced last: what somebody logs in with is in it

    # CONNECT

    def on_connect(self, client: Client, arg: bytes) -> int:
        """The first CONNECT or a later one; see natsc/engine/hooks.pyx for the answer."""
        server = self.server
        client.begin_connect()
        again = client.connected
        try:
            said = self._read_connect(client, arg)
        except BadConnect as error:
            server.log_client(client, "error", f"invalid CONNECT: {error}")
            client.close(errors.PROTOCOL_VIOLATION)
            return REFUSED
        auth = server.auth_of(client)
        opts = said.opts
        if client.cookies:  # what CONNECT doesn't say, the request for the upgrade may have
            opts = {**opts, **{name: text for name, text in client.cookies.items() if not opts.get(name)}}
        client.name, client.lang, client.version = said.names
        client.set_connect(*said.flags, said.headers and not server.options.no_header_support)
        if again:
            client.drop_subscriptions()
        if not auth.auth_required and not said.wants_account and not auth.trusted_proxies:
            client.opts = opts
            return self._accept(client, opts)
        client.opts = opts = dict(opts)  # authentication writes into it
        if server.claims is not None and not self._knows_account(client, opts):
            return PENDING
        tls = client.conn.tls if client.conn is not None else None
        if auth.needs_thread(opts, tls=tls, conn_type=connection_type(client)):
            server.authenticate_in_thread(client, self._decided)
            return PENDING
        verdict = server.authenticate(client, auth, debug=server.client_debug(client), warn=server.log.warn)
        return self._decided(client, verdict)

    def _knows_account(self, client: Client, opts: dict[str, Any]) -> bool:
        """Whether the account of a user JWT is known. If not, the client waits until it has been asked for."""
        server = self.server
        assert server.claims is not None
        name = server.auth.wanted_account(opts)
        return not name or server.claims.want(name, lambda: self._go_on(client))

    def _go_on(self, client: Client) -> None:
        """What can be known of the client's account is known now."""
        if client.closing:
            return
        server = self.server
        debug = server.client_debug(client)
        verdict = server.authenticate(client, server.auth_of(client), debug=debug, warn=server.log.warn)
        if self._decided(client, verdict) != PENDING:
            client.conn.resume()

    def _read_connect(self, client: Client, arg: bytes) -> Connect:
        """What CONNECT says, over what was said before and the defaults. Raises BadConnect.

        Clients of one program say the same, so the last ones are remembered.
        """
        reads_jwt = self.server.auth.reads_jwt
        if client.opts is not None:
            self.label(client)  # stays what the first CONNECT made it
            return Connect({**client.opts, **parse_connect(arg)}, reads_jwt)
        said = self._seen.get(arg)
        if said is None:
            said = Connect({**DEFAULTS, **parse_connect(arg)}, reads_jwt)
            if len(arg) <= _SEEN_BYTES_MAX and "sig" not in said.opts:
                if len(self._seen) >= _SEEN_MAX:
                    self._seen.clear()
                self._seen[arg] = said
        return said

    def _decided(self, client: Client, verdict: Grant | Delegated | None) -> int:
        """What follows from the server's own verdict on a CONNECT."""
        if isinstance(verdict, Delegated):
            return self._delegate(client, verdict, self._finish)
        return self._finish(client, verdict)

    def _delegate(self, client: Client, delegated: Delegated, then: Callable[[Client, Grant | None], object]) -> int:
        """Has a callout decide; the client is in its own account meanwhile, if that has room."""
        server = self.server
        if client.closing:
            return REFUSED
        account = server.account(delegated.own)
        if account is not client.account and not client.connected:
            if account.at_connection_limit:
                return self._refuse_surplus(client)
            client.join(account)
            client.grant = delegated.grant  # for monitoring alone: it gets nothing yet
        assert server.callouts is not None
        server.callouts.ask(client, delegated, then)
        return PENDING

    def _finish(self, client: Client, grant: Grant | None) -> int:
        """The rest of CONNECT, once it is known who the client is."""
        if client.closing:
            return REFUSED
        if grant is None:
            return self.refuse(client)
        if not self.admit(client, grant):
            return REFUSED
        return self._accept(client, client.opts or {})

    def _accept(self, client: Client, opts: dict[str, Any]) -> int:
        """The end of CONNECT: the client is in, but for what it asks of the protocol."""
        client.accept()
        if "protocol" in opts and not 0 <= opts["protocol"] <= PROTO_MAX:
            client.send_err(errors.INVALID_CLIENT_PROTOCOL)
            client.close(errors.BAD_CLIENT_PROTOCOL_VERSION)
            return REFUSED
        no_responders = "no_responders" in opts and opts["no_responders"]
        if no_responders and not client.headers:
            client.send_err(errors.NO_RESPONDERS_NEED_HEADERS)
            client.close(errors.NO_RESPONDERS_REQUIRES_HEADERS)
            return REFUSED
        client.set_no_responders(no_responders)
        if opts["verbose"]:
            if self.server.log.trace_on:
                self.on_trace(client, "->>", b"OK", None)
            client.send(b"+OK\r\n")
        if self.server.system is not None:
            self.server.system.connected(client)
        return ACCEPTED

    def admit(self, client: Client, grant: Grant) -> bool:
        """Gives a client what it was granted. False where its account is full: the client is closing then."""
        server = self.server
        account = server.account(grant.account_name)
        if account is not client.account and account.at_connection_limit:
            self._refuse_surplus(client)
            return False
        client.join(account)
        if client.grant is not None and client.grant.timer is not None:
            client.grant.timer.cancel()
        client.grant = grant
        client.user = grant.user
        if grant.jwt_user is not None:
            server.enforce_limits(client)
        else:
            server.apply_limits(client)
        if grant.permissions is not None or client.permissions is not None:
            client.set_permissions(server.compiled_permissions(grant))
        server.expire_later(client, grant)
        return not client.closing

    def _refuse_surplus(self, client: Client) -> int:
        """Its account is full."""
        self.server.log_limit(client, errors.TOO_MANY_ACCOUNT_CONNECTIONS)
        client.send_err(errors.TOO_MANY_ACCOUNT_CONNECTIONS)
        client.close(errors.MAX_ACCOUNT_CONNECTIONS_EXCEEDED)
        return REFUSED

    def refuse(self, client: Client) -> int:
        """Authorization Violation."""
        connect = client.opts or {}
        self.server.log_client(client, "error", failure_text(connect) if raw_user(connect) else AUTHENTICATION_ERROR)
        client.send_err(errors.AUTHORIZATION_VIOLATION)
        client.close(connect.get("close_reason", errors.AUTHENTICATION_VIOLATION))
        return REFUSED

    def label(self, client: Client) -> str:
        """How log lines name the client: after its first CONNECT with what it said there."""
        label = self.server.address(client)
        if not client.connected:
            return label
        parts = []
        if client.version:
            parts.append(f"v{client.version}")
        parts += [part for part in (client.lang, client.name) if part]
        if parts:
            label += f" - {quote(':'.join(parts))}"
        user = log_label(client.opts or {})
        if user:
            label += f" - {quote(f'{self.server.account_label(client.account.name)}/{user}')}"
        client.label = label
        return label

    def on_first_op(self, client: Client) -> int:
        """Something before CONNECT although it is required: fine for a no_auth_user, a violation otherwise."""
        server = self.server
        auth = server.auth_of(client)
        if not auth.admits_without_connect(connection_type(client)):
            return self.refuse(client)
        client.opts = dict(client.opts or DEFAULTS)
        verdict = server.authenticate(client, auth)
        if isinstance(verdict, Delegated):
            client.begin_connect()  # its time is the callout's from here
            return self._delegate(client, verdict, self._let_in)
        return self._let_in(client, verdict)

    def _let_in(self, client: Client, grant: Grant | None) -> int:
        """The end of a login without CONNECT."""
        if client.closing:
            return REFUSED
        if grant is None:
            return self.refuse(client)
        if not self.admit(client, grant):
            return REFUSED
        client.accept()
        return ACCEPTED

    def on_info(self, client: Client, arg: bytes) -> bool:
        """INFO from a client says nothing, but has to be JSON."""
        import json

        try:
            value = json.loads(arg.decode("utf-8", "replace"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return False
        return value is None or isinstance(value, dict)

    def on_first_ping(self, client: Client) -> None:
        """Clients of protocol 1 learn with the first PONG which account they are in."""
        if client.protocol >= 1:
            client.send(self.server.info_line(client, connect_info=True))

    # Violations

    def on_violation(self, client: Client, which: int, subject: bytes, queue: bytes, sid: bytes) -> str:
        """which: 0 publish, 1 reply, 2 subscribe, 3 tokens (natsc/engine/hooks.pxd). Returns what it is told."""
        name = go_quote(subject)
        if which == 0:
            text, line = f"Permissions Violation for Publish to {name}", f"Publish Violation - Subject {name}"
        elif which == 1:
            text, line = f"Permissions Violation for Publish with Reply of {name}", f"Publish Violation - Reply {name}"
        elif which == 2:
            text = f"Permissions Violation for Subscription to {name}"
            line = f"Subscription Violation - Subject {name}, SID {go_text(sid)}"
            if queue:
                text += f" using queue {go_quote(queue)}"
                line = f"Subscription Violation - Subject {name}, Queue: {go_quote(queue)}, SID {go_text(sid)}"
        else:
            text = f"Permissions Violation for Subscription to {name}, too many tokens"
            line = f"Subscription Violation Too Many Tokens - Subject {name}, SID {go_text(sid)}"
        client.send_err(text.encode("utf-8", "surrogateescape"))
        self.server.log_client(client, "error", line)
        return text

    def on_error(self, client: Client, what: str, detail: bytes, first: int, second: int) -> None:
        """Something about a client that is to be logged; what is a name that natsc/engine gives."""
        level, line = _ERROR_LINES[what](client, detail, first, second)
        self.server.log_client(client, level, line)

    # Services of other accounts

    def on_requester(self, client: Client | None, service: ServiceImport) -> bytes:
        """What a responder is told of a requester that shares it."""
        from natsc.server import services

        return services.requester(self.server, client, service)

    def on_service_begins(
        self, client: Client | None, service: ServiceImport, header: bytes, drawn: bool, answered: bool
    ) -> Measured | None:
        """A request to a service whose latency may be told."""
        from natsc.server import services

        return services.begins(self.server, client, service, header, drawn, answered)

    def on_service_ends(self, measured: Measured, client: Client | None, how: int) -> None:
        """The end of one that on_service_begins returned something for."""
        from natsc.server import services

        services.ends(measured, client, how)

    # Tracing

    def on_msg_trace(
        self, client: Client, header: bytes, subject: bytes, size: int, error: str | None
    ) -> MessageTrace | int:
        """A message may have to be traced: its trace, or what becomes of it (natsc/engine/msgtrace.pxd)."""
        from natsc.server import msgtrace

        return msgtrace.begin(self.server, client, header, subject, size, error)

    def on_trace(self, client: Client, arrow: str, op: bytes, arg: bytes | None) -> None:
        """An operation, in or out."""
        text = go_text(op)
        if arg is not None:
            text += " " + (redact_connect(arg) if op == b"CONNECT" else go_text(arg))
        self.server.log_client(client, "trace", f"{arrow} [{text}]")
        self._is_secret = op.startswith(_CALLOUTS)

    def on_payload(self, client: Client, arrow: str, message: bytes, hdr_len: int) -> None:
        """A message's payload, in or out; trace_headers shows the header block alone, max_traced_msg_len cuts it."""
        options = self.server.options
        if options.trace_headers:
            if hdr_len <= 0:
                return
            message = message[: hdr_len - 4]
        if not message:
            return
        if self._is_secret:
            message = b"[REDACTED]"
        limit = options.max_traced_msg_len
        cut = 0 < limit < len(message)
        text = go_quote(message[:limit])[:-1] + '..."' if cut else go_quote(message)
        self.server.log_client(client, "trace", f"{arrow} MSG_PAYLOAD: [{text}]")


def go_text(octets: bytes) -> str:
    """Octets as Go prints a string (%s)."""
    return octets.decode("utf-8", "surrogateescape")


def go_quote(octets: bytes) -> str:
    """Octets as Go quotes a string (%q)."""
    return quote(go_text(octets))


def redact_connect(arg: bytes) -> str:
    """CONNECT's argument for the log: as it came, JSON or not, but for the values of secrets.

    nats-server shows what follows a quotation mark or a comma inside of one; here all of it is hidden.
    """
    return go_text(_redacted(arg))


def _redacted(arg: bytes) -> bytes:
    import re

    return re.sub(_SECRET, rb"\1\2[REDACTED]", arg, flags=re.DOTALL)


# What is logged for hook_error's names: level and text of (client, detail, first, second).
_ERROR_LINES: dict[str, Callable[[Client, bytes, int, int], tuple[str, str]]] = {
    "parse": lambda c, d, state, i: ("error", f"Client parser ERROR, state={state}, i={i}: proto='{go_quote(d)}...'"),
    "no_headers": lambda c, d, a, b: ("error", "message headers not supported"),
    "pub_args": lambda c, d, a, b: ("error", f"processPub Parse Error: {go_quote(d)}"),
    "sub_args": lambda c, d, a, b: ("error", f"processSub Parse Error: {go_quote(d)}"),
    "unsub_args": lambda c, d, a, b: ("error", f"processUnsub Parse Error: {go_quote(d)}"),
    "info_args": lambda c, d, a, b: ("error", f"invalid INFO: {go_quote(d)}"),
    "auto_unsub": lambda c, d, limit, b: ("debug", f"Auto-unsubscribe limit of {limit} reached for sid '{go_text(d)}'"),
    "max_payload": lambda c, d, size, limit: ("error", f"maximum payload exceeded: {size} vs {limit}"),
    "max_control_line": lambda c, d, limit, size: (
        "error",
        f"maximum control line exceeded: max_control_line {limit}, Buffer len {size} "
        f"(snip: {go_quote(_redacted(d))}...)",
    ),
    "max_subs": lambda c, d, a, b: ("error", "maximum subscriptions exceeded"),
    "client_err": lambda c, d, a, b: ("error", f"Client Error {go_text(d)}"),
    "auth_timeout": lambda c, d, a, b: ("debug", "Authentication Timeout"),
    "stale": lambda c, d, a, b: ("debug", "Stale Client Connection - Closing"),
    "write_deadline": lambda c, d, chunks, size: (
        "notice",
        f"Slow Consumer Detected: WriteDeadline of {c.conn.listener.write_deadline_text} exceeded with {chunks} chunks "
        f"of {size} total bytes.",
    ),
    "max_pending": lambda c, d, a, b: ("notice", f"Slow Consumer Detected: MaxPending of {c.max_pending} Exceeded"),
}
