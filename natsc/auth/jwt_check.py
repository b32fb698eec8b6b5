"""What is wrong with claims: nats-server's checks of a token whose signature is fine, in its words.

Whoever signs may sign nonsense; what is blocking here never takes effect.
"""

from __future__ import annotations

from natsc.auth import jwt
from natsc.config import keys
from natsc.config.gotext import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Report = Callable[[str], None]

INFO_MAX = 8 * 1024
COMPARISONS_MAX = 1_000_000  # of subjects of one account with each other: about a second


class Issue:
    """blocking: the claims can't be used. time_check: they can't be used now."""

    __slots__ = ("blocking", "description", "time_check")

    def __init__(self, description: str, blocking: bool, time_check: bool) -> None:
        self.description = description
        self.blocking = blocking
        self.time_check = time_check


class Issues:
    """All that was found, in order."""

    def __init__(self) -> None:
        self.found: list[Issue] = []

    def error(self, text: str) -> None:
        self.found.append(Issue(text, blocking=True, time_check=False))

    def warning(self, text: str) -> None:
        self.found.append(Issue(text, blocking=False, time_check=False))

    def late(self, text: str) -> None:
        self.found.append(Issue(text, blocking=False, time_check=True))

    def block(self, *, time_checks: bool) -> bool:
        """Whether the claims can't be used; time_checks: neither later nor sooner than they say."""
        return any(issue.blocking or (time_checks and issue.time_check) for issue in self.found)

    def errors(self) -> list[str]:
        return [issue.description for issue in self.found if issue.blocking]


def check_user(claims: jwt.UserClaims, now: int) -> Issues:
    """now: seconds since the epoch."""
    issues = Issues()
    _times(claims, now, issues)
    user = claims.nats
    _permissions(user, issues)
    _user_limits(user, issues)
    if user.issuer_account and not keys.is_public_key(user.issuer_account, keys.PREFIX_ACCOUNT):
        issues.error("account_id is not an account public key")
    return issues


def check_authorization_response(claims: jwt.AuthorizationResponseClaims, now: int) -> Issues:
    """now: seconds since the epoch."""
    issues = Issues()
    answer = claims.nats
    if not keys.is_public_key(claims.sub, keys.PREFIX_USER):
        issues.error("Subject must be a user public key")
    if not keys.is_public_key(claims.aud, keys.PREFIX_SERVER):
        issues.error("Audience must be a server public key")
    if not answer.error and not answer.jwt:
        issues.error("Error or Jwt is required")
    if answer.error and answer.jwt:
        issues.error("Only Error or Jwt can be set")
    if answer.issuer_account and not keys.is_public_key(answer.issuer_account, keys.PREFIX_ACCOUNT):
        issues.error("issuer_account is not an account public key")
    _times(claims, now, issues)
    return issues


def check_account(claims: jwt.AccountClaims, now: int) -> Issues:
    """now: seconds since the epoch."""
    issues = Issues()
    account, limits = claims.nats, claims.nats.limits
    _times(claims, now, issues)
    _imports(claims, issues)
    _exports(account.exports, issues)
    _account_limits(limits, issues)
    _permissions(account.default_permissions, issues)
    _mappings(account.mappings, issues)
    _authorization(account.authorization, issues)
    if account.trace is not None:
        _trace(account.trace, issues)
    _link_limits(account, issues)
    for key in account.signing_keys:
        if not keys.is_public_key(key, keys.PREFIX_ACCOUNT):
            scoped = account.signing_keys[key] is not None
            issues.error(
                f"{key} is not an account public key" if scoped else f"{quote(key)} is not a valid account signing key"
            )
    _info(account.description, account.info_url, issues)
    if account.cluster_traffic not in ("", "system", "owner"):
        issues.error(f"unknown cluster traffic option: {quote(account.cluster_traffic)}")
    if keys.is_public_key(claims.iss, keys.PREFIX_ACCOUNT) and limits != jwt.AccountLimits():
        issues.warning("self-signed account JWTs shouldn't contain operator limits")
    return issues


def _times(claims: jwt.Claims, now: int, issues: Issues) -> None:
    if 0 < claims.exp < now:
        issues.late("claim is expired")
    if claims.nbf > 0 and claims.nbf > now:
        issues.late("claim is not yet valid")


def _subject(subject: str, issues: Issues) -> None:
    if not subject:
        issues.error("subject cannot be empty")
        return
    if " " in subject:
        issues.error(f"subject {quote(subject)} cannot have spaces")
    if subject[0] == "." or subject[-1] == ".":
        issues.error(f"subject {quote(subject)} cannot start or end with a `.`")
    if ".." in subject:
        issues.error(f"subject {quote(subject)} cannot contain consecutive `.`")


# -- users ------------------------------------------------------------------------------------------------------------


def _permissions(permissions: jwt.Permissions, issues: Issues) -> None:
    for part, queues in ((permissions.sub, True), (permissions.pub, False)):
        for subject in (*(part.allow or ()), *(part.deny or ())):
            _permission(subject, queues, issues)


def _permission(text: str, queues: bool, issues: Issues) -> None:
    parts = text.split(" ")
    if len(parts) > 2:
        issues.error(f'Permission Subject "{text}" contains too many spaces')
        return
    for part in parts:
        _subject(part, issues)
    if len(parts) == 2 and not queues:
        issues.error(f'Permission Subject "{text}" is not allowed to contain queue')


def _user_limits(limits: jwt.UserLimits, issues: Issues) -> None:
    from natsc.auth import restrictions

    for cidr in limits.src:
        if restrictions.network(cidr) is None:
            issues.error(f"invalid cidr {quote(cidr)} in user src limits")
    for span in limits.times:
        for name, text, missing in (
            ("start", span.start, "time ranges start must contain a start"),
            ("end", span.end, "time ranges end must contain an end"),
        ):
            if not text:
                issues.error(missing)
            elif restrictions.time_of_day(text) is None:
                issues.error(f"{name} in time range is invalid {quote(text)}")
    if limits.times_location and restrictions.zone(limits.times_location) is None:
        issues.error(f"could not parse iana time zone by name: unknown time zone {limits.times_location}")


# -- accounts ---------------------------------------------------------------------------------------------------------


def _account_limits(limits: jwt.AccountLimits, issues: Issues) -> None:
    # Limits beside tiers were dropped when the claims were read, so that there is nothing to complain about.
    if "" in limits.tiered_limits:
        issues.error('Tiered JetStream Limits can not contain a blank "" tier name')


def _link_limits(account: jwt.Account, issues: Issues) -> None:
    """How many imports and exports the operator allows."""
    limits = account.limits
    if limits != jwt.AccountLimits() and 0 <= limits.imports < len(account.imports):
        issues.error("the account contains more imports than allowed by the operator")
    if limits.imports != jwt.NO_LIMIT and len(account.imports) > limits.imports:
        issues.error("the account contains more imports than allowed by the operator")
    if limits.exports == jwt.NO_LIMIT:
        return
    if len(account.exports) > limits.exports:
        issues.error("the account contains more exports than allowed by the operator")
    if not limits.wildcards and any(has_wildcards(export.subject) for export in account.exports):
        issues.error("the account contains wildcard exports that are not allowed by the operator")


def _mappings(mappings: dict[str, list[jwt.WeightedMapping]], issues: Issues) -> None:
    for subject, targets in mappings.items():
        _subject(subject, issues)
        sums: dict[str, int] = {}
        for target in targets:
            _subject(target.subject, issues)
            weight = target.weight or 100
            if not 0 < weight <= 100:
                issues.error(f"Mapping {quote(subject)} has a weight {weight} that exceeds 100")
            sums[target.cluster] = sums.get(target.cluster, 0) + weight
        for cluster, total in sums.items():
            if total > 100:
                where = f" in cluster {quote(cluster)}" if cluster else ""
                issues.error(f"Mapping {quote(subject)}{where} exceeds 100% among all of it's weighted to mappings")


def _authorization(external: jwt.ExternalAuthorization, issues: Issues) -> None:
    if external.allowed_accounts and not external.auth_users:
        issues.error("External authorization cannot have accounts without users specified")
    for user in external.auth_users:
        if not keys.is_public_key(user, keys.PREFIX_USER):
            issues.error(f"AuthUser {quote(user)} is not a valid user public key")
    for name in external.allowed_accounts:
        if name == "*":
            if len(external.allowed_accounts) > 1:
                issues.error('AllowedAccounts can only be a list of accounts or "*"')
        elif not keys.is_public_key(name, keys.PREFIX_ACCOUNT):
            issues.error(f"Account {quote(name)} is not a valid account public key")
    if external.xkey and not keys.is_public_key(external.xkey, keys.PREFIX_CURVE):
        issues.error(f"XKey {quote(external.xkey)} is not a valid public xkey")


def _trace(trace: jwt.MsgTrace, issues: Issues) -> None:
    found = Issues()
    _subject(trace.dest, found)
    if found.found:
        issues.error(f"the account Trace.Destination {found.found[0].description}")
    if has_wildcards(trace.dest):
        issues.error(f"the account Trace.Destination subject {quote(trace.dest)} is not a valid publish subject")
    if not 0 <= trace.sampling <= 100:
        what = f"the account Trace.Sampling value '{trace.sampling}' is not valid"
        issues.error(f"{what}, should be in the range [1..100]")


def _info(description: str, url: str, issues: Issues) -> None:
    if len(description.encode("utf-8", "surrogatepass")) > INFO_MAX:
        issues.error("Description is too long")
    if not url:
        return
    if len(url.encode("utf-8", "surrogatepass")) > INFO_MAX:
        issues.error("Info URL is too long")
    from natsc import gourl

    try:
        parsed = gourl.parse(url)
    except gourl.URLError as error:
        issues.error(f"error parsing info url: {error}")
        return
    if not parsed.scheme or not parsed.host:
        issues.error("error parsing info url: no hostname or scheme")


# -- exports and imports ----------------------------------------------------------------------------------------------


def has_wildcards(subject: str) -> bool:
    tokens = subject.split(".")
    return "*" in tokens or tokens[-1] == ">"


def contains(outer: str, inner: str) -> bool:
    """Whether every subject of inner is one of outer."""
    theirs, ours = outer.split("."), inner.split(".")
    if len(ours) < len(theirs) or (len(ours) > len(theirs) and theirs[-1] != ">"):
        return False
    for index, part in enumerate(theirs):
        if index == len(theirs) - 1 and part == ">":
            return True
        if part not in (ours[index], "*"):
            return False
    return True


def _exports(exports: Iterable[jwt.Export], issues: Issues) -> None:
    subjects: dict[str, list[str]] = {"service": [], "stream": []}
    for export in exports:
        subjects["service" if export.type == "service" else "stream"].append(export.subject)
        _export(export, issues)
    for kind, listed in subjects.items():
        _overlaps(kind, listed, issues)


def _overlaps(kind: str, subjects: list[str], issues: Issues) -> None:
    """Subjects that a wildcard one exports already."""
    plain, wild = set(), []
    for subject in subjects:
        if has_wildcards(subject):
            wild.append(subject)
        elif subject in plain:
            issues.error(f"{kind} export subject {quote(subject)} already exports {quote(subject)}")
        else:
            plain.add(subject)
    if len(wild) * len(subjects) > COMPARISONS_MAX:
        issues.error(f"too many {kind} exports with wildcards to compare")
        return
    for index, outer in enumerate(wild):
        inner = next((s for i, s in enumerate(wild) if i != index and contains(outer, s)), None)
        inner = inner or next((s for s in plain if contains(outer, s)), None)
        if inner is not None:
            issues.error(f"{kind} export subject {quote(outer)} already exports {quote(inner)}")


def _export(export: jwt.Export, issues: Issues) -> None:
    service = export.type == "service"
    if export.type not in ("service", "stream"):
        issues.error('invalid export type: "unknown"')
    if service and export.response_type not in ("", "Singleton", "Stream", "Chunked"):
        issues.error(f"invalid response type for service: {quote(export.response_type)}")
    if export.type == "stream":
        if export.response_type:
            issues.error(f"invalid response type for stream: {quote(export.response_type)}")
        if export.allow_trace:
            issues.error("AllowTrace only valid for service export")
    latency = export.service_latency
    if latency is not None:
        if not service:
            issues.error("latency tracking only permitted for services")
        if latency.sampling and not 1 <= latency.sampling <= 100:
            issues.error("sampling percentage needs to be between 1-100")
        _subject(latency.results, issues)
        if has_wildcards(latency.results):
            issues.error("results subject can not contain wildcards")
    if export.response_threshold < 0:
        issues.error("negative response threshold is invalid")
    if export.response_threshold > 0 and not service:
        issues.error("response threshold only valid for services")
    _subject(export.subject, issues)
    _token_position(export, issues)
    _info(export.description, export.info_url, issues)


def _token_position(export: jwt.Export, issues: Issues) -> None:
    position, subject = export.account_token_position, export.subject
    if position < 0:
        issues.error("invalid account token position")
    if position <= 0:
        return
    tokens = subject.split(".")
    if not has_wildcards(subject):
        issues.error(f"Account Token Position can only be used with wildcard subjects: {subject}")
    elif position > len(tokens):
        issues.error(f"Account Token Position {position} exceeds length of subject '{subject}'")
    elif tokens[position - 1] != "*":
        found = f"matches '{tokens[position - 1]}' but must match a * in: {subject}"
        issues.error(f"Account Token Position {position} {found}")


def _imports(claims: jwt.AccountClaims, issues: Issues) -> None:
    services: dict[str, list[str]] = {}
    compared = 0
    for entry in claims.nats.imports:
        if entry.type == "service":
            subject = entry.to or _without_references(entry.local_subject) or entry.subject
            known = services.setdefault(entry.account, [])
            compared += len(known)
            if compared > COMPARISONS_MAX:
                issues.error("too many service imports to compare")
                return
            for other in known:
                if contains(other, subject) or contains(subject, other):
                    both = f"{quote(subject)} and {quote(other)} in same account {quote(entry.account)}"
                    issues.error(f"overlapping subject namespace for {both}")
                    break
            known.append(subject)
        _import(entry, claims.sub, issues)


def _import(entry: jwt.Import, account: str, issues: Issues) -> None:
    if entry.type not in ("service", "stream"):
        issues.error('invalid import type: "unknown"')
    if entry.type == "service" and entry.allow_trace:
        issues.error("AllowTrace only valid for stream import")
    if not entry.account:
        issues.error("account to import from is not specified")
    if entry.to:
        issues.warning("the field to has been deprecated (use LocalSubject instead)")
    _subject(entry.subject, issues)
    if entry.local_subject:
        _renaming(entry.local_subject, entry.subject, issues)
        if entry.to:
            issues.error("Local Subject replaces To")
    if entry.share and entry.type != "service":
        issues.error(f"sharing information (for latency tracking) is only valid for services: {quote(entry.subject)}")
    if entry.token:
        _activation(entry, account, issues)


def _activation(entry: jwt.Import, account: str, issues: Issues) -> None:
    subject = quote(entry.subject)
    try:
        claims = jwt.decode_activation(entry.token)
    except jwt.JWTError:
        issues.error(f"import {subject} contains an invalid activation token")
        return
    activation = claims.nats
    if entry.account not in (claims.iss, activation.issuer_account):
        issues.error(f"activation token doesn't match account for import {subject}")
    if claims.sub != account:
        issues.error(f"activation token doesn't match account it is being included in, {subject}")
    if activation.kind != entry.type:
        kinds = f"token import type {activation.kind or 'unknown'} and type of import {entry.type or 'unknown'}"
        issues.error(f"mismatch between {kinds}")
    if activation.kind not in ("service", "stream"):
        issues.error('invalid import type: "unknown"')
    _subject(activation.subject, issues)
    if activation.issuer_account and not keys.is_public_key(activation.issuer_account, keys.PREFIX_ACCOUNT):
        issues.error("account_id is not an account public key")
    imported = entry.to if entry.type == "service" and entry.to else entry.subject
    if not contains(activation.subject, imported):
        issues.error(f"activation token import subject {quote(activation.subject)} doesn't match import {subject}")


def _reference(token: str) -> int | None:
    """n of `$n`."""
    digits = token[1:].removeprefix("-").removeprefix("+") if token[:1] == "$" else ""
    return int(token[1:]) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def _without_references(subject: str) -> str:
    return ".".join("*" if _reference(token) is not None else token for token in subject.split("."))


def _renaming(local: str, subject: str, issues: Issues) -> None:
    _subject(local, issues)
    if not subject:
        issues.error("subject cannot be empty")
    if " " in local:
        issues.error(f"subject {quote(local)} cannot have spaces")
    if (local.split(".")[-1] == ">") != (subject.split(".")[-1] == ">"):
        issues.error("both, renaming subject and subject, need to end or not end in >")
    wildcards = subject.split(".").count("*")
    used = 0
    for part in local.split("."):
        number = _reference(part)
        if part == "*":
            used += 1
        elif number is not None:
            if number > wildcards:
                what = f"Reference ${number} in {quote(local)} reference * in {quote(subject)} that do not exist"
                issues.error(what)
            else:
                used += 1
    if used != wildcards:
        issues.error("subject does not contain enough * or reference wildcards $[0-9]")
