"""Operator mode: `operator`, `resolver`, `trusted_keys`: read and checked."""

from __future__ import annotations

import os

from natsc.auth import jwt
from natsc.config import keys
from natsc.config.directives_tls import client_tls
from natsc.config.errors import ConfigError, Finding
from natsc.config.gotext import GoError, parse_duration, quote, type_name
from natsc.config.options import AccountResolverOpts
from natsc.config.values import Last, Report, as_bool, as_int, as_str
from natsc.oserrors import path_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.config.options import Options
    from natsc.config.parser import Token

_JWT_START = "eyJ"
_WRONG_RESOLVER = (
    'error parsing account resolver, should be MEM or  URL("url") or a map containing dir and type state=[FULL|CACHE])'
)


def operator(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    names: list[str] = []
    if type(value) is str:
        names.append(value)
    elif type(value) is list:
        for entry in value:
            bare = getattr(entry, "value", None)
            if type(bare) is str:
                names.append(bare)
            elif hasattr(entry, "value"):
                text = "unsupported type *conf.token where string is expected"
                report.error(token, f"error parsing operators: {text}")
            else:
                report.error(token, f"error parsing operators: unsupported type {type_name(entry)}")
    else:
        report.error(token, f"error parsing operators: unsupported type {type_name(value)}")
    opts.trusted_operators = []
    for name in names:
        try:
            token_text, claims = _read_operator(name)
        except (GoError, jwt.JWTError) as error:
            report.error(token, f"error parsing operator JWT: {error}")
            continue
        opts.operator_jwt.append(token_text)
        opts.trusted_operators.append(claims)
    if len(opts.trusted_operators) == 1:
        only = opts.trusted_operators[0].nats
        if opts.account_resolver is None and only.account_server_url:
            opts.account_resolver = AccountResolverOpts(kind="URL", url=f"{only.account_server_url}/accounts/")
        opts.system_account = opts.system_account or only.system_account


def _read_operator(name: str) -> tuple[str, jwt.OperatorClaims]:
    """(JWT, claims) of a file, or of the JWT itself."""
    from natsc.config.parser import read_file

    try:
        text = read_file(name).decode("utf-8", "surrogateescape")
    except ConfigError as error:
        if not name.startswith(_JWT_START):
            raise GoError(str(error)) from None
        text = name
    token = jwt.undecorated(text)
    return token, jwt.decode_operator(token)


def resolver(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if type(value) is str:
        opts.account_resolver = None
        _resolver_text(token, value, opts)
    elif type(value) is dict:
        opts.account_resolver = _resolver_map(last, token, value, report)
    else:
        raise Finding(token, f"error parsing operator resolver, wrong type {type_name(value)}")
    if opts.account_resolver is None:
        report.error(token, _WRONG_RESOLVER)


def _resolver_text(token: Token | None, value: str, opts: Options) -> None:
    import re

    from natsc.config.urls import parse_url

    if re.search(r"(?i)(MEM|MEMORY)\s*", value):
        opts.account_resolver = AccountResolverOpts(kind="MEM")
        return
    found = re.search(r'(?i)(?:URL){1}(?:\({1}\s*"?([^\s"]*)"?\s*\){1})?\s*', value)
    if found is None:
        return
    url = found[1] or ""
    try:
        parse_url(url, "account resolver")
    except GoError as error:
        raise Finding(token, str(error)) from None
    opts.account_resolver = AccountResolverOpts(kind="URL", url=url if url.endswith("/") else url + "/")


def _resolver_map(
    last: Last, token: Token | None, fields: dict[str, Any], report: Report
) -> AccountResolverOpts | None:
    def field(name: str, convert: Any, otherwise: Any) -> Any:
        return convert(last.unwrap(fields[name])[1]) if name in fields else otherwise

    found = AccountResolverOpts(
        dir=field("dir", as_str, ""),
        kind=field("type", as_str, "").upper(),
        allow_delete=field("allow_delete", as_bool, False),
        hard_delete=field("hard_delete", as_bool, False),
        limit=field("limit", as_int, 0),
    )
    try:
        for name in ("ttl", "interval", "timeout"):
            if name in fields:
                setattr(found, name, parse_duration(as_str(last.unwrap(fields[name])[1])))
    except GoError as error:
        raise Finding(token, str(error)) from None
    if found.kind == "CACHE":
        _check_dir(found.dir, token, report)
        for name, given in (
            ("sync", found.interval),
            ("allow_delete", found.allow_delete),
            ("hard_delete", "hard_delete" in fields),
        ):
            if given:
                report.error(token, f"CACHE does not accept {name}")
    elif found.kind == "FULL":
        _check_dir(found.dir, token, report)
        if found.ttl:
            report.error(token, "FULL does not accept ttl")
        if "hard_delete" in fields and not found.allow_delete:
            report.error(token, "hard_delete has no effect without delete")
    elif found.kind in ("MEM", "MEMORY"):
        found.kind = "MEM"
        return found
    else:
        return None
    _check_store(found.dir, token)
    return found


def _check_dir(path: str, token: Token | None, report: Report) -> None:
    if not path:
        report.error(token, "dir has no value and needs to point to a directory")
    elif os.path.exists(path) and not (os.path.isdir(path) and os.stat(path).st_mode & 0o200):
        report.error(token, "dir needs to point to an accessible directory")


def _check_store(path: str, token: Token | None) -> None:
    """Makes the directory, as nats-server does when it reads of it."""
    if not path:
        raise Finding(token, "mkdir : no such file or directory")
    try:
        os.makedirs(path, 0o750, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        while not os.path.isfile(path):
            path = os.path.dirname(path)
        raise Finding(token, f"mkdir {path}: not a directory") from None
    except OSError as error:
        raise Finding(token, path_error("mkdir", error.filename, error)) from None


def resolver_tls(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    opts.account_resolver_tls_config = client_tls(token, report)


def resolver_preload(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if type(value) is not dict:
        raise Finding(token, "preload should be a map of account_public_key:account_jwt")
    opts.resolver_preloads = {}
    for _, name, at, text in last.items(value):
        if type(text) is not str:
            report.error(at, "preload map value should be a string JWT")
            continue
        try:
            jwt.decode_account(text)
        except jwt.JWTError:
            report.error(at, "invalid account JWT")
            continue
        opts.resolver_preloads[name] = text


def resolver_pinned_accounts(
    last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report
) -> None:
    what = "error parsing resolver_pinned_accounts: unsupported type"
    opts.resolver_pinned_accounts = set(_strings(what, last, token, value, report))


def trusted_keys(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    what = "error parsing trusted: unsupported type"
    try:
        opts.trusted_keys = _strings(what, last, token, value, report)
    except Finding as finding:
        report.errors.append(finding)
    at = last.token if type(value) is list else token
    for trusted in opts.trusted_keys:
        if not keys.is_public_key(trusted, keys.PREFIX_OPERATOR):
            report.error(at, f"trust key {quote(trusted)} required to be a valid public operator nkey")


def _strings(what: str, last: Last, token: Token | None, value: Any, report: Report) -> list[str]:
    if type(value) is str:
        return [value]
    if type(value) is not list:
        raise Finding(token, f"{what} {type_name(value)}")
    found = []
    for entry in value:
        at, bare = last.unwrap(entry)
        if type(bare) is str:
            found.append(bare)
        else:
            report.error(at, f"{what} in array {type_name(bare)}")
    return found


def validate_operators(opts: Options) -> None:
    """The rules of operator mode. Puts the trusted operators' system account among the pinned ones."""
    if not opts.trusted_operators:
        raise ConfigError("default sentinel requires operators and accounts")
    if opts.default_sentinel:
        _check_sentinel(opts.default_sentinel)
    resolver = opts.account_resolver
    if resolver is None:
        raise ConfigError("operators require an account resolver to be configured")
    if opts.accounts:
        raise ConfigError("operators do not allow Accounts to be configured directly")
    if opts.users or opts.nkeys:
        raise ConfigError("operators do not allow users to be configured directly")
    if opts.trusted_keys:
        raise ConfigError("conflicting options for 'TrustedKeys' and 'TrustedOperators'")
    systems = [claims.nats.system_account for claims in opts.trusted_operators]
    if opts.system_account:
        if any(systems) and opts.system_account not in systems:
            raise ConfigError("system_account in config and operator JWT must be identical")
    elif not systems[0] and resolver.kind in ("FULL", "CACHE"):
        needed = "the system account needs to be specified in configuration or the operator jwt"
        raise ConfigError(f"using nats based account resolver - {needed}")
    for claims in opts.trusted_operators:
        _check_version(claims)
    for key in (key for claims in opts.trusted_operators for key in (claims.sub, *claims.nats.signing_keys)):
        if not keys.is_public_key(key, keys.PREFIX_OPERATOR):
            raise ConfigError(f"trusted Keys {quote(key)} are required to be a valid public operator nkey")
    for pinned in opts.resolver_pinned_accounts:
        if not keys.is_public_key(pinned, keys.PREFIX_ACCOUNT):
            raise ConfigError(f"pinned account key {quote(pinned)} is not a valid public account nkey")
    if opts.resolver_pinned_accounts and opts.system_account:
        opts.resolver_pinned_accounts.add(opts.system_account)
    if opts.auth_callout is not None:
        raise ConfigError("operators do not allow authorization callouts to be configured directly")
    if opts.resolver_preloads and resolver.kind == "URL":
        raise ConfigError("resolver preloads only available for writeable resolver types MEM/DIR/CACHE_DIR")


def _check_sentinel(token: str) -> None:
    """It lets anybody in, so that it must be a bearer token, or of a scoped signing key that may say so."""
    try:
        user = jwt.decode_user(token).nats
    except jwt.JWTError:
        raise ConfigError("default sentinel JWT not valid") from None
    if not user.bearer_token and not (user.issuer_account and user.has_no_limits_of_its_own()):
        raise ConfigError("default sentinel must be a bearer token")


_SERVER_VERSION = (2, 15, 1)


def _check_version(claims: jwt.OperatorClaims) -> None:
    """The oldest server that the operator accepts."""
    wanted = claims.nats.assert_server_version
    if not wanted:
        return
    parts = wanted.split(".")
    wrong = ""
    if len(parts) != 3:
        wrong = "asserted server version must be of the form <major>.<minor>.<update>"
    for part in parts if not wrong else ():
        if not part.removeprefix("-").removeprefix("+").isdecimal():
            wrong = f"asserted server version cant parse {part} to int"
            break
    if not wrong and any(int(part) < 0 for part in parts):
        wrong = f"asserted server version can'b contain negative values: {wanted}"
    if wrong:
        raise ConfigError(f"operator {claims.sub} expects version {wanted} got error instead: {wrong}")
    for name, part, have in zip(("major", "minor", "update"), parts, _SERVER_VERSION, strict=True):
        if int(part) > have:
            raise ConfigError(
                f"operator {claims.sub} expected {name} version {int(part)} > server {name} version {have}"
            )
        if int(part) < have:
            return
