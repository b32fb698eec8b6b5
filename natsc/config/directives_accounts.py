"""`accounts {}`: users, limits, permissions, JetStream limits, tracing; exports, imports and mappings as written.

What exports and imports of different accounts must fulfil together is checked in `account_links`, once all accounts
are known and nothing else was wrong.
"""

from __future__ import annotations

from natsc.config import keys
from natsc.config.directives_auth import apply_default_permissions, names_in_use, parse_permissions, parse_users
from natsc.config.errors import Finding
from natsc.config.gotext import GoError, atoi, format_value, quote, quote_value, type_name, wrap_int32
from natsc.config.options import GLOBAL_ACCOUNT, Account, JetStreamAccountLimits, MapDest, unlimited_jetstream
from natsc.config.subjects import is_valid_literal, is_valid_subject
from natsc.config.values import (
    Last,
    Report,
    as_int,
    as_map,
    as_str,
    recovers,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.config.options import Export, Import, NkeyUser, Options, User
    from natsc.config.parser import Token


class _Links:
    """Exports and imports of all accounts, in the order in which they are to be tied together."""

    __slots__ = ("exports", "imports")

    def __init__(self) -> None:
        self.exports: list[tuple[Account, Export]] = []
        self.imports: list[tuple[Account, Import]] = []


def accounts(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    _parse_accounts(token, opts, report)


@recovers
def _parse_accounts(last: Last, block: Any, opts: Options, report: Report) -> None:
    token, value = last.unwrap(block)
    links = _Links()
    if type(value) is list:
        _account_names(last, value, opts, report)
    elif type(value) is dict:
        names = names_in_use(opts)
        for name, entry in value.items():
            at, fields = last.unwrap(entry)
            if at is not None and at.used_variable:
                continue
            if at is None:
                report.unknown(at, name)
            if type(fields) is not dict:
                report.error(at, "Expected map entries for accounts")
            elif name == GLOBAL_ACCOUNT:
                report.error(at, f"{quote(name)} is a Reserved Account")
            else:
                _account(last, name, fields, names, links, opts, report)
    last.token = token
    if (links.exports or links.imports) and not report.errors:
        from natsc.config.account_links import tie

        tie(token, links.exports, links.imports, opts, report)


def _account_names(last: Last, entries: list[Any], opts: Options, report: Report) -> None:
    seen = set()
    for entry in entries:
        token, name = last.unwrap(entry)
        if as_str(name) == GLOBAL_ACCOUNT:
            report.error(token, f"{quote(name)} is a Reserved Account")
        elif name in seen:
            report.error(token, f"Duplicate Account Entry: {name}")
        else:
            opts.accounts.append(Account(name))
            seen.add(name)


def _account(
    last: Last, name: str, fields: dict[str, Any], names: set[str], links: _Links, opts: Options, report: Report
) -> None:
    account = Account(name)
    opts.accounts.append(account)
    users: list[User] = []
    nkeys: list[NkeyUser] = []
    users_token: Token | None = None
    for field, key, token, value in last.items(fields):
        try:
            if field == "users":
                users_token = token
                nkeys, users = [], []
                nkeys, users = parse_users(value, report) or ([], [])
            else:
                _account_field(account, field, key, token, value, links, report)
        except Finding as finding:
            report.errors.append(finding)
    if users or nkeys:
        if opts.username:
            report.error(users_token, "Can not have a single user/pass and accounts")
            return
        if opts.authorization:
            report.error(users_token, "Can not have a token and accounts")
            return
    apply_default_permissions(users, nkeys, account.default_permissions)
    for nkey_user in nkeys:
        _claim(nkey_user, nkey_user.nkey, "nkey", account, users_token, names, report)
    for user in users:
        _claim(user, user.username, "user", account, users_token, names, report)
    account.users, account.nkeys = users, nkeys
    opts.nkeys += nkeys
    opts.users += users


def _claim(
    user: User | NkeyUser,
    name: str,
    what: str,
    account: Account,
    token: Token | None,
    names: set[str],
    report: Report,
) -> None:
    """Puts a user into its account, unless another one has its name."""
    if name in names:
        report.error(token, f"Duplicate {what} {quote(name)} detected")
        return
    names.add(name)
    user.account = account


def _account_field(
    account: Account, field: str, key: str, token: Token | None, value: Any, links: _Links, report: Report
) -> None:
    if field == "nkey":
        if type(value) is not str or not keys.is_public_key(value, keys.PREFIX_ACCOUNT):
            raise Finding(token, f"Not a valid public nkey for an account: {quote_value(value)}")
        account.nkey = value
    elif field in ("imports", "exports"):
        from natsc.config import directives_links

        if field == "imports":
            account.imports += directives_links.parse_imports(token, report) or ()
            links.imports += [(account, entry) for entry in account.imports]
        else:
            account.exports += directives_links.parse_exports(token, report) or ()
            links.exports += [(account, entry) for entry in account.exports]
    elif field == "jetstream":
        parse_account_jetstream(value, account, report)
    elif field == "default_permissions":
        account.default_permissions = parse_permissions(token, report)
    elif field in ("mappings", "maps"):
        parse_mappings(token, account, report)
    elif field == "limits":
        _parse_limits(token, account, report)
    elif field in ("msg_trace", "trace_dest"):
        _msg_trace(token, key, account, report)
    else:
        report.unknown(token, key)


# -- JetStream limits -----------------------------------------------------------------------------------------

_JETSTREAM_SIZES = {
    "max_memory": "max_memory", "max_mem": "max_memory", "mem": "max_memory", "memory": "max_memory",
    "max_store": "max_store", "max_file": "max_store", "max_disk": "max_store", "store": "max_store",
    "disk": "max_store", "max_streams": "max_streams", "streams": "max_streams", "max_consumers": "max_consumers",
    "consumers": "max_consumers", "mem_max_stream_bytes": "memory_max_stream_bytes",
    "memory_max_stream_bytes": "memory_max_stream_bytes", "disk_max_stream_bytes": "store_max_stream_bytes",
    "store_max_stream_bytes": "store_max_stream_bytes", "max_ack_pending": "max_ack_pending",
}  # fmt: skip


def parse_account_jetstream(value: Any, account: Account, report: Report) -> None:
    """`value` is bare, so what is wrong with it as a whole has no position (as in nats-server)."""
    if type(value) is bool:
        if value:
            account.jetstream = {"": unlimited_jetstream()}
    elif type(value) is str:
        if value.lower() not in ("enabled", "enable", "disabled", "disable"):
            raise Finding(None, f"Expected 'enabled' or 'disabled' for string value, got '{value}'")
        account.jetstream = {"": unlimited_jetstream()} if value.lower().startswith("enable") else {}
    elif type(value) is dict:
        account.jetstream = {"": _jetstream_limits(value, account, report)}
    else:
        raise Finding(None, f"Expected map, bool or string to define JetStream, got {type_name(value)}")


def _jetstream_limits(fields: dict[str, Any], account: Account, report: Report) -> JetStreamAccountLimits:
    limits = unlimited_jetstream()
    for name, key, token, value in Last().items(fields):
        if name in _JETSTREAM_SIZES:
            if type(value) is not int:
                raise Finding(token, f"Expected a parseable size for {quote(key)}, got {format_value(value)}")
            setattr(limits, _JETSTREAM_SIZES[name], value)
        elif name in ("max_bytes_required", "max_stream_bytes", "max_bytes"):
            if type(value) is not bool:
                raise Finding(token, f"Expected a parseable bool for {quote(key)}, got {format_value(value)}")
            limits.max_bytes_required = value
        elif name == "cluster_traffic":
            if type(value) is not str:
                wanted = "Expected either 'system' or 'owner' string value"
                raise Finding(token, f"{wanted} for {quote(key)}, got {format_value(value)}")
            if value not in ("system", "", "owner"):
                raise Finding(token, f"Expected 'system' or 'owner' string value for {quote(key)}, got {value}")
            account.nrg_account = account.name if value == "owner" else ""
        else:
            report.unknown(token, key)
    return limits


# -- limits and tracing -----------------------------------------------------------------------------------------

_LIMITS = {
    "max_connections": "max_connections", "max_conn": "max_connections", "max_subscriptions": "max_subscriptions",
    "max_subs": "max_subscriptions", "max_payload": "max_payload", "max_pay": "max_payload",
    "max_leafnodes": "max_leafnodes", "max_leafs": "max_leafnodes",
}  # fmt: skip


@recovers
def _parse_limits(last: Last, block: Any, account: Account, report: Report) -> None:
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Expected account limits to be a map/struct, got {format_value(fields)}")
    for name, key, token, value in last.items(fields):
        if name in _LIMITS:
            setattr(account.limits, _LIMITS[name], wrap_int32(as_int(value)))
        elif token is None or not token.used_variable:
            report.error(token, f"Unknown field {quote(key)} parsing account limits")


def _msg_trace(block: Token | None, top_key: str, account: Account, report: Report) -> None:
    token, value = Last().unwrap(block)
    if type(value) is str:
        _trace_dest(token, top_key, value, account)
    elif type(value) is dict:
        for name, key, at, bare in Last().items(value):
            if name == "dest":
                _trace_dest(at, key, bare, account)
            elif name == "sampling":
                account.trace_dest_sampling = _trace_sampling(at, key, bare)
            elif at is None or not at.used_variable:
                where = f"parsing account message trace map/struct {quote(top_key)}"
                raise Finding(at, f"Unknown field {quote(key)} {where}")
    else:
        wanted = f"Expected account message trace {quote(top_key)} to be a string or a map/struct"
        raise Finding(token, f"{wanted}, got {type_name(value)}")
    if account.trace_dest:
        account.trace_dest_sampling = account.trace_dest_sampling or 100
    elif account.trace_dest_sampling > 0:
        report.warnings.append(Finding(block, "Trace destination sampling ignored since no destination was set"))
        account.trace_dest_sampling = 0


def _trace_dest(token: Token | None, key: str, value: Any, account: Account) -> None:
    if type(value) is not str:
        raise Finding(token, f"Field {quote(key)} should be a string, got {type_name(value)}")
    if not is_valid_literal(value):
        raise Finding(token, f"Trace destination {quote(value)} is not valid")
    account.trace_dest = value


def _trace_sampling(token: Token | None, key: str, value: Any) -> int:
    if type(value) is str:
        try:
            percent = atoi(value.removesuffix("%"))
        except GoError:
            raise Finding(token, f"Invalid trace destination sampling value {quote(value)}") from None
    elif type(value) is int:
        percent = value
    else:
        wanted = f"Trace destination sampling field {quote(key)} should be an integer or a percentage"
        raise Finding(token, f"{wanted}, got {type_name(value)}")
    if not 0 < percent <= 100:
        text = "Ttrace destination sampling value"  # sic
        raise Finding(token, f"{text} {percent} is invalid, needs to be [1..100]")
    return percent


# -- mappings -------------------------------------------------------------------------------------------------------


@recovers
def parse_mappings(last: Last, block: Any, account: Account, report: Report) -> None:
    from natsc.config.subject_mapping import check_mapping

    token, value = last.unwrap(block)
    for subject, entry in as_map(value).items():
        if not is_valid_subject(subject):
            report.error(token, f"Subject {quote(subject)} is not a valid subject")
            continue
        token, target = last.unwrap(entry)
        where = f"Error adding mapping for {quote(subject)}"
        if type(target) is str:
            dests = [MapDest(subject=target, weight=100)]
            where += f" to {quote(target)}"
        elif type(target) is list:
            dests = []
            for item in target:
                at, bare = last.unwrap(item)
                dest = _map_dest(bare, at, report)
                if dest is not None:
                    dests.append(dest)
        else:
            dest = _map_dest(target, token, report)
            if dest is None:
                continue
            dests = [dest]
        wrong = check_mapping(subject, dests)
        if wrong is not None:
            report.error(token, f"{where} : {wrong}")
            continue
        account.mappings[subject] = dests


def _map_dest(value: Any, token: Token | None, report: Report) -> MapDest | None:
    """None after an error."""
    if type(value) is not dict:
        report.error(token, "Expected an entry for the mapping destination")
        return None
    dest = MapDest()
    weighted = False
    at = token
    for name, key, at, bare in Last().items(value):
        if name in ("dest", "destination"):
            dest.subject = as_str(bare)
        elif name == "weight":
            weight = _weight(bare, at, report)
            if weight is None:
                return None
            dest.weight = weight
            weighted = True
        elif name == "cluster":
            dest.cluster = as_str(bare)
        else:
            report.error(at, f"Unknown field {quote(key)} for mapping destination")
            return None
    if not weighted:
        report.error(token, f"Missing weight for mapping destination {quote(dest.subject)}")
        return None
    return dest


def _weight(value: Any, token: Token | None, report: Report) -> int | None:
    if type(value) is str:
        digits = value.removesuffix("%")
        try:
            weight = atoi(digits)
        except GoError:
            report.error(token, f"Invalid weight {quote(digits)} for mapping destination")
            return None
    elif type(value) is int:
        weight = value
    else:
        report.error(token, f"Unknown entry type for weight of {format_value(value)}\n")
        return None
    if not 0 <= weight <= 100:
        report.error(token, f"Invalid weight {weight} for mapping destination")
        return None
    return weight
