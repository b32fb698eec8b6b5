"""Who a connection is: the decision over a CONNECT.

DESIGN. An Authenticator is built from the options, once at start and once a reload, and is not changed after. It
answers in the order of nats-server: no authentication configured, then nkeys, then the users table (by client
certificate, by name, or as no_auth_user), then the token or the single user. (Operator mode has no such tables:
natsc/auth/operator.py.)

1. Every refusal looks the same to the peer; why is told to `debug` alone.
2. As in nats-server, authenticate() writes the user that a connection stands for into its CONNECT dict (a mapped
   certificate's user, the no_auth_user): logs, monitoring and a later reload read it there.
3. A bcrypt comparison takes as long as its cost says, up to seconds. It releases the GIL: where needs_thread() says
   so, call authenticate() on a worker thread. It touches nothing but the CONNECT dict, and of the TLS state what
   needs_thread() has looked at before.
4. So does it with what the server is to know of a connection whatever is decided: `proxy_key`, the trusted proxy that
   it came through; `close_reason`, where that isn't the usual one; `auth_error`, who is told of a refusal, and why.
   Nobody can send these: they aren't among the fields of CONNECT.
5. Where an authentication callout is configured, the verdict on all but its own users is the callout's: a Delegated.
"""

from __future__ import annotations

import os
from _operator import _compare_digest as constant_time_equal  # hmac.compare_digest, without loading hmac and OpenSSL

from natsc import errors
from natsc.auth.permissions import without_callouts
from natsc.client_info import REDACTED, raw_user
from natsc.config.gotext import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from natsc.auth.certificate import Certificate
    from natsc.auth.dn import DistinguishedName
    from natsc.auth.operator import JWTUser
    from natsc.clock import Timer
    from natsc.config.options import Account, AuthCallout, Limits, NkeyUser, Options, Permissions, User

    class PeerCertificates(Protocol):
        """A connection's TLS state: the DER of the peer's certificates, its own first."""

        def peer_certs(self) -> list[bytes]: ...

    Connect = dict[str, Any]
    Sink = Callable[[str], None]

GLOBAL_ACCOUNT = "$G"
SYSTEM_ACCOUNT = "$SYS"
AUTHENTICATION_ERROR = "authentication error"

# bcrypt reads no more than this; the Python package refuses longer passwords where Go's ignores the rest.
_BCRYPT_BYTES_MAX = 72
_BCRYPT_PREFIXES = ("$2a$", "$2b$", "$2x$", "$2y$")
# A connection that gives none of them is the no_auth_user's.
_CREDENTIALS = ("user", "pass", "auth_token", "nkey")
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Grant:
    """What an accepted connection gets.

    account_name: its account. user: the name for logs and monitoring, "" if none. permissions: as configured, None
    for all. expires: wall clock ns at which the connection ends, or None. limits: the account's, or None (-1 in
    it: unlimited). jwt_user: what else its JWT says, None without one. timer: ends the connection, the server's.
    delegated: a callout has decided.
    """

    __slots__ = ("account_name", "delegated", "expires", "jwt_user", "limits", "permissions", "timer", "user")

    def __init__(
        self,
        account_name: str,
        user: str,
        permissions: Permissions | None,
        expires: int | None,
        limits: Limits | None,
        jwt_user: JWTUser | None = None,
    ) -> None:
        self.account_name = account_name
        self.user = user
        self.permissions = permissions
        self.expires = expires
        self.limits = limits
        self.jwt_user = jwt_user
        self.timer: Timer | None = None
        self.delegated = False

    def __repr__(self) -> str:
        return f"Grant(account_name={self.account_name!r}, user={self.user!r})"


class Delegated:
    """What an authentication callout is to decide about a connection.

    account_name: the account in which it asks. own: the account that the connection has proven to belong to, "$G" where
    it has proven nothing. needs_proxy: it must come through a proxy, and hasn't. grant, name: what its JWT is good for
    if it brings one, and the name there.
    """

    __slots__ = ("account_name", "grant", "name", "needs_proxy", "own")

    def __init__(
        self, account_name: str, own: str, *, needs_proxy: bool = False, grant: Grant | None = None, name: str = ""
    ) -> None:
        self.account_name = account_name
        self.own = own
        self.needs_proxy = needs_proxy
        self.grant = grant
        self.name = name

    @property
    def tags(self) -> list[str]:
        """Those of its JWT."""
        user = self.grant.jwt_user if self.grant is not None else None
        return user.tags if user is not None else []


class Refused(Exception):
    """The connection is not let in; the text is for the debug log."""


class Authenticator:
    """Decides over connections with the options of one configuration. `previous` is the one that a reload replaces."""

    reads_jwt = False  # whether CONNECT's jwt means anything
    pinned_failures = 0  # of operator mode

    def __init__(self, opts: Options, previous: Authenticator | None = None) -> None:
        self.no_auth_user: str = opts.no_auth_user or ""
        self._users: dict[str, User] = {user.username: user for user in opts.users or ()}
        self._nkeys: dict[str, NkeyUser] = {user.nkey: user for user in opts.nkeys or ()}
        self._accounts: dict[str, Account] = {account.name: account for account in opts.accounts or ()}
        self._username: str = opts.username or ""
        self._password: str = opts.password or ""
        self._token: str = opts.authorization or ""
        self._proxy_required: bool = bool(opts.proxy_required)
        self.trusted_proxies: list[str] = opts.proxies.trusted if opts.proxies is not None else []
        self._callout: AuthCallout | None = opts.auth_callout
        self._without_callouts: dict[int, tuple[Permissions | None, Permissions]] = {}
        self._tls_map: bool = bool(opts.tls_map)
        self._mapped_types: frozenset[str] = _types_with_mapping(opts)
        self._dns: list[tuple[User, DistinguishedName]] | None = None
        # Users of the system account alone must not shut out everyone else: the others become this user of $G.
        self._anonymous = ""
        if self._only_system_account_has_users(opts):
            self._add_anonymous(previous)
        self.nonce_required = bool(self._nkeys or self.trusted_proxies)
        if self.nonce_required:
            from natsc.auth import nkeys

            nkeys.load()
        self.auth_required: bool = bool(
            self._users or self._nkeys or self._username or self._token or self._callout is not None
        )
        self._has_bcrypt = any(
            map(is_bcrypt, (self._token, self._password, *(user.password or "" for user in self._users.values())))
        )

    # What the server tells and asks

    @property
    def auth_required_in_info(self) -> bool:
        """INFO's auth_required: false where a no_auth_user is configured."""
        return self.auth_required and (not self.no_auth_user or self.no_auth_user == self._anonymous)

    @property
    def plaintext_passwords(self) -> bool:
        """Whether start-up warns "Plaintext passwords detected, use nkeys or bcrypt"."""
        if self._password and not is_bcrypt(self._password):
            return True
        return any(
            not is_bcrypt(user.password or "")
            for name, user in self._users.items()
            if name != self._anonymous and (user.password or not self._can_be_mapped(user))
        )

    def admits_without_connect(self, conn_type: str = "STANDARD") -> bool:
        """Whether a first operation other than CONNECT logs in as no_auth_user: authenticate() an empty dict."""
        user = self._users.get(self.no_auth_user) if self.no_auth_user else None
        return user is not None and not user.proxy_required and _type_allowed(user, conn_type)

    def knows(self, name: str) -> bool:
        """Whether the configuration has this user or nkey."""
        return name in self._users or name in self._nkeys or (bool(name) and name == self._username)

    def needs_thread(
        self, connect: Connect, *, tls: PeerCertificates | None = None, conn_type: str = "STANDARD"
    ) -> bool:
        """Whether authenticate() will compare a bcrypt hash, and so belongs on a worker thread."""
        if not self._has_bcrypt:
            return False
        connect = dict(connect)
        try:
            if self._find_nkey(connect, conn_type) is not None:
                return False
            user = self._find(connect, tls, conn_type, ignore, ignore)
        except Refused:
            return False
        if user is not None:
            return is_bcrypt(user.password or "")
        return is_bcrypt(self._token or self._password)

    def wanted_account(self, connect: Connect) -> str:
        """None has to be fetched: the configuration has them all."""
        return ""

    # The decision

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
        """The Grant for a connection, or None where it is to be closed with -ERR 'Authorization Violation'.

        connect: the fields of CONNECT (may be written to, see the file's top). conn_type: the
        allowed_connection_types name of the door it came through. nonce: what INFO asked to be signed. host: the
        peer's address. debug and error take lines about this connection, warn lines about the server.
        """
        debug = debug or ignore
        user: User | NkeyUser | None = None
        refused = False
        try:
            note_proxy(self.trusted_proxies, connect, nonce, debug)
        except Refused as refusal:
            debug(str(refusal))
            return None
        try:
            if self.auth_required:
                user = nkey_user = self._find_nkey(connect, conn_type)
                if nkey_user is not None:
                    self._check_nkey(nkey_user, connect, nonce)
                else:
                    user = named = self._find(connect, tls, conn_type, debug, warn or ignore)
                    self._check(named, connect)
        except Refused as refusal:
            if str(refusal):
                debug(str(refusal))
            if self._callout is None:
                return None
            refused = True
            user = user or self._nkeys.get(_text(connect, "nkey")) or self._users.get(_text(connect, "user"))
        # Once a way to choose one's account; now an error (CVE-2022-24450).
        if connect.get("account") or connect.get("new_account"):
            return None
        if self._callout is not None:
            delegated = self._delegated(self._callout, connect, user, refused)
            if delegated is not None:
                return delegated
        return None if refused else self._grant(user, connect)

    def _delegated(
        self, callout: AuthCallout, connect: Connect, user: User | NkeyUser | None, refused: bool
    ) -> Delegated | None:
        """What the callout is to decide; None: the verdict stands. An account that isn't allowed keeps its users."""
        own = GLOBAL_ACCOUNT if refused or user is None else _account_name(user)
        if own != GLOBAL_ACCOUNT and callout.allowed_accounts and own not in callout.allowed_accounts:
            return None
        name = ""
        if user is not None:
            name = _user_name(user)
        elif not self._token and _text(connect, "user") == self._username:
            name = self._username
        if name and name in callout.auth_users:  # who can't prove to be one of them isn't asked about
            if refused:
                connect["auth_error"] = (callout.account, errors.CLOSE_REASONS[errors.AUTHENTICATION_VIOLATION])
            return None
        return Delegated(callout.account, own, needs_proxy=connect.get("close_reason") == errors.PROXY_REQUIRED)

    def _find_nkey(self, connect: Connect, conn_type: str) -> NkeyUser | None:
        """The configured nkey that this connection claims to have; None where it names none."""
        if not self._nkeys:
            return None
        if self.no_auth_user in self._nkeys and not any(_text(connect, field) for field in _CREDENTIALS):
            connect["nkey"] = self.no_auth_user
        name = _text(connect, "nkey")
        if not name:
            return None
        user = self._nkeys.get(name)
        if user is None or not _type_allowed(user, conn_type):
            raise Refused
        return user

    def _check_nkey(self, user: NkeyUser, connect: Connect, nonce: bytes) -> None:
        """Raises Refused unless the connection has signed the nonce with this key."""
        if user.proxy_required:
            require_proxy(connect)
        if user.nkey != self.no_auth_user:
            fault = signature_fault(user.nkey, connect, nonce)
            if fault:
                raise Refused(fault)

    def _find(
        self, connect: Connect, tls: PeerCertificates | None, conn_type: str, debug: Sink, warn: Sink
    ) -> User | None:
        """The configured user that this connection claims to be; None: none, so that token or single user decide."""
        if not self._users:
            return None
        if self._tls_map:
            user = self._map_certificate(tls, conn_type, debug)
            if _text(connect, "user"):
                warn(f"User {quote(_text(connect, 'user'))} found in connect proto, but user required from cert")
            connect["user"] = user.username
            return user
        if self.no_auth_user and not any(_text(connect, field) for field in ("user", "pass", "auth_token")):
            anyone = self._users.get(self.no_auth_user)
            if anyone is not None:
                connect["user"] = anyone.username
                connect["pass"] = anyone.password or ""
                # nats-server compares the hash with itself, and refuses; this verdict costs no hashing.
                if is_bcrypt(anyone.password or ""):
                    raise Refused
        name = _text(connect, "user")
        if not name:
            return None
        named = self._users.get(name)
        if named is None or not _type_allowed(named, conn_type):
            raise Refused
        return named

    def _check(self, user: User | None, connect: Connect) -> None:
        """Raises Refused unless the connection proves what it claims to be."""
        if user.proxy_required if user is not None else self._proxy_required:
            require_proxy(connect)
        if user is not None:
            # A user without password is somebody's certificate where any door maps certificates.
            if not (self._tls_map or user.password or user.username == self.no_auth_user) and self._can_be_mapped(user):
                raise Refused(f"User {quote(user.username)} requires a client certificate")
            proven = compare_passwords(user.password or "", _text(connect, "pass"))
        elif self._token:
            proven = compare_passwords(self._token, _text(connect, "auth_token"))
        elif self._username:
            proven = self._username == _text(connect, "user") and compare_passwords(
                self._password, _text(connect, "pass")
            )
        else:
            proven = False
        if not proven:
            raise Refused

    def _grant(self, user: User | NkeyUser | None, connect: Connect) -> Grant:
        if user is None:
            return Grant(GLOBAL_ACCOUNT, raw_user(connect), None, None, None)
        account = self._accounts.get(_account_name(user))
        permissions = user.permissions
        if permissions is None and account is not None:
            permissions = account.default_permissions
        if self._callout is not None and _account_name(user) == self._callout.account:
            permissions = self._guarded(permissions)
        limits = account.limits if account is not None else None
        expires = getattr(user, "connection_deadline", 0) or None
        return Grant(_account_name(user), raw_user(connect), permissions, expires, limits)

    def _guarded(self, permissions: Permissions | None) -> Permissions:
        """without_callouts() of permissions, the same object for all users that share them."""
        known = self._without_callouts.get(id(permissions))
        if known is None:  # keeping permissions keeps its id its own
            known = self._without_callouts[id(permissions)] = (permissions, without_callouts(permissions))
        return known[1]

    # Certificates mapped to users (verify_and_map)

    def _map_certificate(self, tls: PeerCertificates | None, conn_type: str, debug: Sink) -> User:
        """The user that the peer's certificate names. Raises Refused where there is none."""
        if tls is None:
            raise Refused("User required in cert, no TLS connection state")
        chain = tls.peer_certs()
        if not chain:
            raise Refused("User required in cert, no peer certificates found")
        if len(chain) > 1:
            debug("Multiple peer certificates found, selecting first")
        from natsc.auth import certificate, dn

        try:
            peer = certificate.Certificate(chain[0])
        except certificate.MalformedCertificate as error:
            raise Refused(str(error)) from error
        if not (peer.dns_names or peer.emails or peer.uris or certificate.subject_text(peer.subject)):
            raise Refused("User required in cert, none found")
        for kind, names in (("email", peer.emails), ("SAN", peer.dns_names), ("URI", peer.uris)):
            for name in names:
                user = self._user_for(name, conn_type)
                if user is not None:
                    debug(f"Using {kind} found in cert for auth [{quote(name)}]")
                    return user
        return self._map_subject(peer, dn.subject_dn(peer.subject), conn_type, debug)

    def _map_subject(self, peer: Certificate, name: DistinguishedName | None, conn_type: str, debug: Sink) -> User:
        from natsc.auth.certificate import domain_components, rdn_sequence_text

        subject = rdn_sequence_text(peer.subject)
        if name is not None:
            user = self._user_with_dn(name, conn_type)
            if user is not None:
                debug(f"Using DistinguishedNameMatch for auth [{quote(user.username)}]")
                return user
            debug(f"DistinguishedNameMatch could not be used for auth [{quote(subject)}]")
        components = domain_components(peer.subject)
        if components:
            with_components = ",".join([subject, *("DC=" + value for value in components)])
            user = self._user_for(with_components, conn_type)
            if user is not None:
                debug(f"Using RDNSequence for auth [{quote(user.username)}]")
                return user
            debug(f"RDNSequence could not be used for auth [{quote(with_components)}]")
        user = self._user_for(subject, conn_type)
        if user is None:
            raise Refused(f"User in cert [{quote(subject)}], not found")
        debug(f"Using certificate subject for auth [{quote(user.username)}]")
        return user

    def _user_for(self, name: str, conn_type: str) -> User | None:
        user = self._users.get(name) if name else None
        return user if user is not None and _type_allowed(user, conn_type) else None

    def _user_with_dn(self, name: DistinguishedName, conn_type: str) -> User | None:
        """The user whose name is this DN; failing that, the first with the same parts in another order."""
        from natsc.auth import dn

        if self._dns is None:
            self._dns = []
            for user in self._users.values():
                try:
                    self._dns.append((user, dn.parse_dn(user.username)))
                except ValueError:
                    continue  # a plain name
        for matches in (dn.equal, dn.same_relative_names):
            for user, candidate in self._dns:
                if matches(candidate, name) and _type_allowed(user, conn_type):
                    return user
        return None

    def _can_be_mapped(self, user: User) -> bool:
        """Whether some door's verify_and_map could choose this user: then the name alone is no credential."""
        return bool(self._mapped_types if not user.allowed_connection_types else self._mapped_types & _types(user))

    # The user that stands for everyone when only the system account has users

    def _only_system_account_has_users(self, opts: Options) -> bool:
        names = self._accounts.keys() - {GLOBAL_ACCOUNT}
        return names == {opts.system_account or SYSTEM_ACCOUNT} and not (
            self.no_auth_user or opts.auth_block_defined or opts.trusted_operators
        )

    def _add_anonymous(self, previous: Authenticator | None) -> None:
        from natsc.config.options import User

        # A reload keeps the name: connections that carry it stay.
        name = previous._anonymous if previous is not None else ""
        if not name:
            name = "nats-" + "".join(_DIGITS[octet % len(_DIGITS)] for octet in os.urandom(16))
        self._users[name] = User(username=name, password=name)
        self._anonymous = self.no_auth_user = name

    # Reload

    def has_moved(self, connect: Connect, account_name: str) -> bool:
        """Whether a reload closes this connection as "Client Closed": its user is gone or lives in another account."""
        nkey, name = _text(connect, "nkey"), _text(connect, "user")
        if not nkey and not name:
            return False
        user = self._nkeys.get(nkey) if nkey else self._users.get(name)
        return user is None or _account_name(user) != account_name

    def differs(self, new: Any) -> AuthDiff:
        """What changes for connections when `new` takes over from this one."""
        names = self._users.keys() | new._users.keys() | self._nkeys.keys() | new._nkeys.keys()
        users = frozenset(name for name in names if _user_key(self, name) != _user_key(new, name))
        names = self._accounts.keys() | new._accounts.keys()
        accounts = frozenset(name for name in names if _limits_key(self, name) != _limits_key(new, name))
        return AuthDiff(users, accounts, everyone=_server_key(self) != _server_key(new))


class AuthDiff:
    """What a reload changed. users: names added, gone or changed. accounts: names added, gone or with other limits.

    everyone: what applies to all connections changed (token, single user, no_auth_user, certificate mapping).
    """

    __slots__ = ("accounts", "everyone", "users")

    def __init__(self, users: frozenset[str], accounts: frozenset[str], everyone: bool) -> None:
        self.users = users
        self.accounts = accounts
        self.everyone = everyone

    def __bool__(self) -> bool:
        return bool(self.everyone or self.users or self.accounts)

    def concerns(self, connect: Connect) -> bool:
        """Whether this connection is to be authenticated again."""
        return self.everyone or not self.users.isdisjoint((_text(connect, "user"), _text(connect, "nkey")))


def signature_fault(public_key: str, connect: Connect, nonce: bytes) -> str:
    """Why CONNECT's signature doesn't prove that this key signed the nonce; "" where it does."""
    from natsc.auth import nkeys

    text = _text(connect, "sig")
    if not text:
        return "Signature missing"
    signature = nkeys.decode_signature(text)
    if signature is None:
        return "Signature not valid base64"
    if not nonce or not nkeys.verify(public_key, nonce, signature):
        return "Signature not verified"
    return ""


def note_proxy(trusted: list[str], connect: Connect, nonce: bytes, debug: Sink) -> None:
    """Writes down through which trusted proxy a connection came. Raises Refused where none of them has signed.

    Without trusted proxies, a signature says nothing.
    """
    connect.pop("proxy_key", None)
    connect.pop("close_reason", None)
    connect.pop("auth_error", None)
    text = _text(connect, "proxy_sig")
    if not trusted or not text:
        return
    from natsc.auth import nkeys

    signature = nkeys.decode_signature(text) if not any(char in text for char in "+/=") else None
    if signature is None:
        debug("Proxy signature not valid base64")
    elif nonce:
        for key in trusted:
            if nkeys.verify(key, nonce, signature):
                connect["proxy_key"] = key
                return
    connect["close_reason"] = errors.PROXY_NOT_TRUSTED
    raise Refused("proxy is not trusted")


def require_proxy(connect: Connect) -> None:
    """Raises Refused unless the connection came through a trusted proxy."""
    if not connect.get("proxy_key"):
        connect["close_reason"] = errors.PROXY_REQUIRED
        raise Refused("proxy connection required")


def compare_passwords(stored: str, given: str) -> bool:
    """Compares in constant time; a stored bcrypt hash (slow, releases the GIL) is compared as one."""
    stored_bytes, given_bytes = _octets(stored), _octets(given)
    if not is_bcrypt(stored):
        return constant_time_equal(stored_bytes, given_bytes)
    import bcrypt

    try:
        return bcrypt.checkpw(given_bytes[:_BCRYPT_BYTES_MAX], stored_bytes)
    except ValueError:  # no hash after all, though it starts like one
        return False


def is_bcrypt(password: str) -> bool:
    """Whether a configured password or token is a bcrypt hash."""
    cost = password[4:6]
    return password[:4] in _BCRYPT_PREFIXES and password[6:7] == "$" and cost.isascii() and cost.isdigit()


def name_for_log(connect: Connect) -> str:
    """A connection's user as log lines name it: User "x"."""
    if _text(connect, "nkey"):
        return f"Nkey {quote(_text(connect, 'nkey'))}"
    if _text(connect, "user"):
        return f"User {quote(_text(connect, 'user'))}"
    if _text(connect, "jwt"):
        return f"JWT User {quote(_text(connect, 'public_key'))}"
    if _text(connect, "auth_token"):
        return f'Token "{REDACTED}"'
    return 'User "N/A"'


def failure_text(connect: Connect) -> str:
    """The error line for a refused connection."""
    return f"{AUTHENTICATION_ERROR} - {name_for_log(connect)}" if raw_user(connect) else AUTHENTICATION_ERROR


def log_label(connect: Connect) -> str:
    """The user's part of a connection's log prefix ("account/label"); "" where it gave no name."""
    if _text(connect, "nkey"):
        return f"nkey:{_text(connect, 'nkey')}"
    if _text(connect, "user"):
        return f"user:{_text(connect, 'user')}"
    if _text(connect, "jwt"):
        return f"jwt:{_text(connect, 'public_key')}"
    return "token" if _text(connect, "auth_token") else ""


def ignore(_: str) -> None:
    """The sink of those who don't listen."""


def _text(connect: Connect, field: str) -> str:
    value = connect.get(field)
    return value if isinstance(value, str) else ""


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _types(user: User | NkeyUser) -> frozenset[str]:
    return frozenset(name.upper() for name in user.allowed_connection_types or ())


def _type_allowed(user: User | NkeyUser, conn_type: str) -> bool:
    return not user.allowed_connection_types or conn_type in _types(user)


def _account_name(user: User | NkeyUser) -> str:
    return GLOBAL_ACCOUNT if user.account is None else user.account.name


def _user_name(user: User | NkeyUser) -> str:
    return getattr(user, "nkey", "") or getattr(user, "username", "")


def _types_with_mapping(opts: Options) -> frozenset[str]:
    """The connection types whose door maps client certificates onto the users table."""
    types = set()
    if opts.tls_map and not opts.dont_listen:
        types.add("STANDARD")
    websocket, mqtt, leaf = opts.websocket, opts.mqtt, opts.leaf_node
    # MQTT and leaf nodes over WebSocket map by their own switch, with the certificate of the WebSocket's door.
    over_websocket = bool(
        websocket and websocket.port and websocket.tls_config is not None and websocket.tls_config.verify
    )
    if websocket and websocket.port and websocket.tls_map:
        types.add("WEBSOCKET")
    if mqtt and mqtt.port and mqtt.tls_map:
        types.update(("MQTT", "MQTT_WS") if over_websocket else ("MQTT",))
    if leaf and leaf.port and leaf.tls_map and not (leaf.username or leaf.nkey or leaf.users):
        types.update(("LEAFNODE", "LEAFNODE_WS") if over_websocket else ("LEAFNODE",))
    return frozenset(types)


def _user_key(auth: Authenticator, name: str) -> tuple[object, ...] | None:
    """All that makes a user; None where there is none of that name."""
    from natsc.auth.permissions import permission_lists

    user = auth._users.get(name) or auth._nkeys.get(name)
    if user is None:
        return None
    grant = auth._grant(user, {})
    lists = permission_lists(grant.permissions)
    return (
        getattr(user, "password", ""),
        grant.account_name,
        lists,
        grant.expires,
        _types(user),
        bool(user.proxy_required),
    )


def _limits_key(auth: Authenticator, name: str) -> tuple[int, ...] | None:
    account = auth._accounts.get(name)
    if account is None:
        return None
    limits = account.limits
    return (limits.max_connections, limits.max_subscriptions, limits.max_payload, limits.max_leafnodes)


def _server_key(auth: Authenticator) -> tuple[object, ...]:
    return (
        auth.auth_required, auth.no_auth_user, auth._tls_map, auth._mapped_types,
        auth._token, auth._username, auth._password, auth._proxy_required,
    )  # fmt: skip
