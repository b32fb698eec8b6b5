"""`authorization {}` and what other blocks share with it: users, permissions, callout, proxies."""

from __future__ import annotations

from natsc.config import keys
from natsc.config.errors import Finding, misused_field
from natsc.config.gotext import GoError, format_value, parse_duration, quote, type_name
from natsc.config.options import (
    GLOBAL_ACCOUNT,
    MINUTE,
    AuthCallout,
    NkeyUser,
    Permissions,
    ProxiesConfig,
    ResponsePermission,
    Struct,
    SubjectPermission,
    User,
)
from natsc.config.subjects import is_valid_subject
from natsc.config.values import (
    Last,
    Report,
    as_bool,
    as_int,
    as_map,
    as_str,
    dereference,
    recovers,
    seconds,
    string_array,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.config.options import Options
    from natsc.config.parser import Token

RESPONSE_MAX_MSGS = 1
RESPONSE_EXPIRES = 2 * MINUTE
_TIMEOUT_HIGH = 60.0  # seconds; above it a duration was probably meant
_CONNECTION_TYPES = frozenset(("STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS", "IN_PROCESS"))


class Authorization(Struct):
    """An authorization block; `users` None: there was no list of users."""

    user: str
    password: str
    token: str
    nkey: str
    account: str
    proxy_required: bool
    nkeys: list[NkeyUser]
    users: list[User] | None
    timeout: float
    default_permissions: Permissions | None
    callout: AuthCallout | None
    __slots__ = tuple(__annotations__)


def authorization(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    auth = dereference(parse_authorization(token, report))
    opts.auth_block_defined = True
    opts.username = auth.user
    opts.password = auth.password
    opts.proxy_required = auth.proxy_required
    opts.authorization = auth.token
    opts.auth_timeout = auth.timeout
    opts.auth_callout = auth.callout
    if (auth.user or auth.password) and auth.token:
        raise Finding(token, "Cannot have a user/pass and token")
    names = names_in_use(opts)  # of users in accounts{}, if those came first
    if auth.users is not None or names:
        if auth.user:
            raise Finding(token, "Can not have a single user/pass and a users array")
        if auth.token:
            raise Finding(token, "Can not have a token and a users array")
        for user in auth.users or ():
            if user.username in names:
                raise Finding(token, f"Duplicate user {quote(user.username)} detected")
            names.add(user.username)
        opts.users += auth.users or ()
    for nkey_user in auth.nkeys:
        if nkey_user.nkey in names:
            raise Finding(token, f"Duplicate nkey {quote(nkey_user.nkey)} detected")
        names.add(nkey_user.nkey)
    opts.nkeys += auth.nkeys


def names_in_use(opts: Options) -> set[str]:
    """User names and nkeys so far: they share one name space."""
    return {user.username for user in opts.users} | {user.nkey for user in opts.nkeys}


@recovers
def parse_authorization(last: Last, block: Any, report: Report) -> Authorization:
    """A full authorization block (top level, cluster, gateway)."""
    auth = Authorization()
    for name, key, token, value in last.items(as_map(last.unwrap(block)[1])):
        try:
            if not _authorization_field(auth, name, key, token, value, report):
                continue
        except Finding as finding:
            if name == "timeout":
                raise  # a bad timeout spoils the whole block, the others only themselves
            report.errors.append(finding)
            continue
        apply_default_permissions(auth.users or (), auth.nkeys, auth.default_permissions)
    return auth


def _authorization_field(
    auth: Authorization, name: str, key: str, token: Token | None, value: Any, report: Report
) -> bool:
    if name in ("user", "username"):
        auth.user = as_str(value)
    elif name in ("pass", "password"):
        auth.password = as_str(value)
    elif name == "token":
        auth.token = as_str(value)
    elif name == "timeout":
        auth.timeout = auth_timeout("authorization", key, token, value, report)
    elif name == "users":
        auth.nkeys, auth.users = parse_users(token, report) or ([], None)
    elif name in ("default_permission", "default_permissions", "permissions"):
        auth.default_permissions = parse_permissions(token, report)
    elif name in ("auth_callout", "auth_hook"):
        auth.callout = parse_auth_callout(token, report)
    elif name == "proxy_required":
        auth.proxy_required = as_bool(value)
    else:
        report.unknown(token, key)
        return False
    return True


def auth_timeout(block: str, key: str, token: Token | None, value: Any, report: Report) -> float:
    """Seconds; warns when they are so many that "1m" was probably meant."""
    try:
        timeout = seconds(value)
    except GoError as error:
        raise Finding(token, f"error parsing {block} config, 'timeout' {error}") from None
    if timeout is None:
        raise Finding(token, f"error parsing {block} config, 'timeout' wrong type")
    if timeout > _TIMEOUT_HIGH:
        reason = (
            f"timeout of {format_value(value)} ({timeout:f} seconds) is high, consider keeping it under 60 seconds. "
            "possibly caused by unquoted duration; use '1m' instead of 1m, for example"
        )
        report.warnings.append(misused_field(token, key, reason))
    return timeout


def apply_default_permissions(
    users: list[User] | tuple[()], nkeys: list[NkeyUser], permissions: Permissions | None
) -> None:
    """For those that have none of their own."""
    for user in (*users, *nkeys):
        if user.permissions is None:
            user.permissions = permissions


@recovers
def parse_users(last: Last, block: Any, report: Report) -> tuple[list[NkeyUser], list[User]]:
    token, entries = last.unwrap(block)
    if type(entries) is not list:
        raise Finding(token, f"Expected users field to be an array, got {format_value(entries)}")
    nkeys: list[NkeyUser] = []
    users: list[User] = []
    for entry in entries:
        token, fields = last.unwrap(entry)
        if type(fields) is not dict:
            report.error(token, f"Expected user entry to be a map/struct, got {format_value(fields)}")
            continue
        user, nkey_user = User(), NkeyUser()
        permissions = None
        for name, key, token, value in last.items(fields):
            if name == "nkey":
                nkey_user.nkey = as_str(value)
            elif name in ("user", "username"):
                user.username = as_str(value)
            elif name in ("pass", "password"):
                user.password = as_str(value)
            elif name in ("permission", "permissions", "authorization"):
                try:
                    permissions = parse_permissions(token, report)
                except Finding as finding:
                    permissions = None
                    report.errors.append(finding)
            elif name in ("allowed_connection_types", "connection_types", "clients"):
                types = _connection_types(token, last, value, report)
                nkey_user.allowed_connection_types = user.allowed_connection_types = types
            elif name == "proxy_required":
                nkey_user.proxy_required = user.proxy_required = as_bool(value)
            else:
                report.unknown(token, key)
        if nkey_user.nkey:
            if not keys.is_public_key(nkey_user.nkey, keys.PREFIX_USER):
                raise Finding(token, "Not a valid public nkey for a user")
            if user.username or user.password:
                raise Finding(token, "Nkey users do not take usernames or passwords")
            nkey_user.permissions = permissions
            nkeys.append(nkey_user)
        elif user.username:
            user.permissions = permissions
            users.append(user)
        else:
            raise Finding(token, "User entry requires a user")
    return nkeys, users


def _connection_types(token: Token | None, last: Last, value: Any, report: Report) -> set[str] | None:
    names = string_array("allowed connection types", token, last, value, report)
    if names is None:
        return None
    types = {name.upper() for name in names}
    bad = [name.upper() for name in names if name.upper() not in _CONNECTION_TYPES]
    if bad:
        report.error(token, f"invalid connection types [{' '.join(quote(name) for name in bad)}]")
        types &= _CONNECTION_TYPES
    return types


@recovers
def parse_auth_callout(last: Last, block: Any, report: Report) -> AuthCallout:
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Expected authorization callout to be a map/struct, got {format_value(fields)}")
    callout = AuthCallout()
    for name, key, token, value in last.items(fields):
        if name == "issuer":
            callout.issuer = as_str(value)
            if not keys.is_public_key(value, keys.PREFIX_ACCOUNT):
                raise Finding(token, f"Expected callout user to be a valid public account nkey, got {quote(value)}")
        elif name in ("account", "acc"):
            callout.account = as_str(value)
        elif name in ("auth_users", "users"):
            callout.auth_users += _names("auth_users", token, last, value)
        elif name in ("xkey", "key"):
            callout.xkey = as_str(value)
            if not keys.is_public_key(value, keys.PREFIX_CURVE):
                raise Finding(token, f"Expected callout xkey to be a valid public xkey, got {quote(value)}")
            _check_xkey(token, callout.xkey)
        elif name == "allowed_accounts":
            callout.allowed_accounts += _names("allowed accounts", token, last, value)
        elif token is None or not token.used_variable:
            report.error(token, f"Unknown field {quote(key)} parsing authorization callout")
    callout.account = callout.account or GLOBAL_ACCOUNT
    if not callout.issuer:
        raise Finding(token, "Authorization callouts require an issuer to be specified")
    if not callout.auth_users:
        raise Finding(token, "Authorization callouts require authorized users to be specified")
    return callout


def _names(what: str, token: Token | None, last: Last, value: Any) -> list[str]:
    if type(value) is not list:
        got = "*conf.token" if token is not None else type_name(value)
        raise Finding(token, f"Expected {what} field to be an array, got {got}")
    return [as_str(last.unwrap(entry)[1]) for entry in value]


@recovers
def parse_permissions(last: Last, block: Any, report: Report) -> Permissions:
    """Of a user, or of a cluster, where publish and subscribe are called import and export."""
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Expected permissions to be a map/struct, got {format_value(fields)}")
    permissions = Permissions()
    for name, key, token, value in last.items(fields):
        try:
            if name in ("pub", "publish", "import"):
                permissions.publish = _subject_permission(value, report, queues=False)
            elif name in ("sub", "subscribe", "export"):
                permissions.subscribe = _subject_permission(value, report, queues=True)
            elif name in ("publish_allow_responses", "allow_responses"):
                _allow_responses(permissions, fields[key], value, report)
            elif token is None or not token.used_variable:
                report.error(token, f"Unknown field {quote(key)} parsing permissions")
        except Finding as finding:
            report.errors.append(finding)
    return permissions


def _allow_responses(permissions: Permissions, entry: Any, value: Any, report: Report) -> None:
    if type(value) is bool:
        if value:
            permissions.response = ResponsePermission(max_msgs=RESPONSE_MAX_MSGS, expires=RESPONSE_EXPIRES)
    else:
        permissions.response = _parse_responses(entry, report)
    if permissions.response is not None:
        if permissions.publish is None:
            permissions.publish = SubjectPermission()
        if permissions.publish.allow is None:
            permissions.publish.allow = []  # only to reply subjects


@recovers
def _parse_responses(last: Last, block: Any, report: Report) -> ResponsePermission | None:
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        report.error(token, "error parsing response permissions, expected a boolean or a map")
        return None
    response = ResponsePermission(max_msgs=RESPONSE_MAX_MSGS, expires=RESPONSE_EXPIRES)
    for name, key, token, value in last.items(fields):
        if name in ("max", "max_msgs", "max_messages", "max_responses"):
            response.max_msgs = as_int(value) or response.max_msgs
        elif name in ("expires", "expiration", "ttl"):
            if type(value) is not str:
                report.error(token, "error parsing expires, not a duration string")
                return None
            try:
                response.expires = parse_duration(value) or response.expires
            except GoError as error:
                report.error(token, f"error parsing expires: {error}")
                return None
        elif token is None or not token.used_variable:
            report.error(token, f"Unknown field {quote(key)} parsing permissions")
    return response


def _subject_permission(value: Any, report: Report, queues: bool) -> SubjectPermission | None:
    """A subject, a list of subjects, or {allow, deny}."""
    if type(value) is dict:
        return _parse_allow_deny(value, queues, report)
    return SubjectPermission(allow=parse_subjects(value, queues, report))


@recovers
def _parse_allow_deny(last: Last, fields: dict[str, Any], queues: bool, report: Report) -> SubjectPermission | None:
    if not fields:
        return None
    permission = SubjectPermission()
    for name, key, token, _ in last.items(fields):
        if name in ("allow", "deny"):
            try:
                setattr(permission, name, parse_subjects(token, queues, report))
            except Finding as finding:
                report.errors.append(finding)
        elif token is None or not token.used_variable:
            text = "parsing subject permissions, only 'allow' or 'deny' are permitted"
            report.error(token, f"Unknown field name {quote(key)} {text}")
    return permission


@recovers
def parse_subjects(last: Last, block: Any, queues: bool, report: Report) -> list[str] | None:
    """A subject or a list of them; with `queues`, "subject queue" is allowed."""
    token, value = last.unwrap(block)
    if type(value) is str:
        subjects = [value]
    elif type(value) is list:
        subjects = []
        for entry in value:
            at, subject = last.unwrap(entry)
            if type(subject) is not str:
                raise Finding(at, "Subject in permissions array cannot be cast to string")
            subjects.append(subject)
    else:
        got = type_name(value)
        raise Finding(token, f"Expected subject permissions to be a subject, or array of subjects, got {got}")
    bad = bad_subject(subjects, queues)
    if bad is not None:
        raise Finding(token, bad)
    return subjects or None


def bad_subject(subjects: list[str] | None, queues: bool) -> str | None:
    """What is wrong with the first bad one."""
    for subject in subjects or ():
        if is_valid_subject(subject):
            continue
        parts = subject.split() if queues else []
        if len(parts) != 2:
            return f"subject {quote(subject)} is not a valid subject"
        if not is_valid_subject(parts[0]):
            return f"subject {quote(parts[0])} is not a valid subject"
        if not is_valid_subject(parts[1]):
            return f"queue {quote(parts[1])} is not a valid queue"
    return None


@recovers
def parse_simple_auth(last: Last, block: Any, report: Report) -> Authorization:
    """The authorization block of websocket and mqtt."""
    auth = Authorization()
    for name, key, _, value in last.items(as_map(last.unwrap(block)[1])):
        if name in ("user", "username"):
            auth.user = as_str(value)
        elif name in ("pass", "password"):
            auth.password = as_str(value)
        elif name == "token":
            auth.token = as_str(value)
        elif name == "timeout":
            auth.timeout = float(value) if type(value) in (int, float) else 1.0
        else:
            report.unknown(last.token, key)
    return auth


def _check_xkey(token: Token | None, key: str) -> None:
    """What nats-server doesn't check: that callouts can be encrypted, and that not everybody could read them."""
    from natsc.auth import xkeys

    if not xkeys.available():
        raise Finding(token, f"callout xkey needs PyNaCl, which isn't installed: pip install {xkeys.EXTRA!r}")
    if xkeys.is_weak(key):
        raise Finding(token, f"callout xkey {quote(key)} is of small order: anybody could read what is meant for it")


@recovers
def parse_proxies(last: Last, block: Any, report: Report) -> ProxiesConfig:
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"expected proxies to be a map/struct, got {type_name(fields)}")
    proxies = ProxiesConfig()
    for name, key, token, _ in last.items(fields):
        if name != "trusted":
            report.unknown(token, key)
            continue
        try:
            proxies.trusted = _parse_trusted(token, report) or []
        except Finding as finding:
            report.errors.append(finding)
    return proxies


@recovers
def _parse_trusted(last: Last, block: Any, report: Report) -> list[str]:
    token, entries = last.unwrap(block)
    if type(entries) is not list:
        raise Finding(token, f"expected proxies' trusted field to be an array, got {type_name(entries)}")
    trusted = []
    for entry in entries:
        token, fields = last.unwrap(entry)
        if type(fields) is not dict:
            report.error(token, f"expected proxies' trusted entry to be a map/struct, got {type_name(fields)}")
            continue
        proxy_key = ""
        for name, key, token, value in last.items(fields):
            if name not in ("key", "public_key"):
                report.unknown(token, key)
                continue
            proxy_key = as_str(value)
            if not keys.is_public_key(proxy_key):
                report.error(token, f"invalid proxy key {quote(proxy_key)}")
        trusted.append(proxy_key)
    return trusted
