"""An account as its JWT makes it, and what the JWT says in the form that a configuration has.

The rest of the server knows accounts, permissions, limits, exports and imports as natsc/config/options.py has them, and
need not know whether a file or an operator has said so.
"""

from __future__ import annotations

from natsc.auth import jwt
from natsc.auth.permissions import without_callouts
from natsc.config.options import (
    NO_LIMIT,
    Account,
    Export,
    Import,
    JetStreamAccountLimits,
    MapDest,
    Permissions,
    ResponsePermission,
    ServiceLatency,
    SubjectPermission,
)

_INT32_MAX = 2**31 - 1
_RESPONSE_TYPES = {"": "Singleton", "Singleton": "Singleton", "Stream": "Streamed", "Chunked": "Chunked"}


class ClaimAccount:
    """An account that an operator has signed, or the system account before its JWT is known (token "").

    issuer: the operator's key. signing_keys: who may sign users, with the scope or None. expired: nobody may come in.
    updated_ns: when its claims were taken over last (wall clock). options: the account in the form of a configuration.
    """

    def __init__(self, name: str, issuer: str) -> None:
        self.name = name
        self.issuer = issuer
        self.token = ""
        self.claims: jwt.AccountClaims | None = None
        self.name_tag = ""
        self.tags: list[str] = []
        self.signing_keys: jwt.SigningKeys = {name: None}
        self.revocations: dict[str, int] = {}
        self.disallow_bearer = False
        # Of an account that has users authenticated by a callout: who answers it, which other accounts they may get
        # into ("*": any), and for whom it is encrypted.
        self.auth_users: list[str] = []
        self.allowed_accounts: list[str] = []
        self.callout_xkey = ""
        self.default_permissions: Permissions | None = None
        self.expired = False
        self.updated_ns = 0
        self.options = Account(name)

    def apply(self, token: str, claims: jwt.AccountClaims, *, strict: bool, now_ns: int) -> None:
        """Takes the claims over; strict: the operator wants signing keys, so the account's own key signs no users."""
        account = claims.nats
        self.token, self.claims, self.issuer = token, claims, claims.iss
        self.name_tag, self.tags = claims.name, account.tags
        self.signing_keys = dict(account.signing_keys)
        if not strict:
            self.signing_keys[self.name] = None
        self.revocations = account.revocations
        self.disallow_bearer = account.limits.disallow_bearer
        self.auth_users = account.authorization.auth_users
        self.allowed_accounts = account.authorization.allowed_accounts
        self.callout_xkey = account.authorization.xkey
        self.default_permissions = permissions(account.default_permissions)
        if self.auth_users:
            self.default_permissions = without_callouts(self.default_permissions)
        self.expired = 0 < claims.exp <= now_ns // 1_000_000_000
        self.updated_ns = now_ns
        self.options = account_options(claims)

    def lets_into(self, name: str) -> bool:
        """Whether its callout may put users into that account."""
        return name == self.name or name in self.allowed_accounts or self.allowed_accounts == ["*"]

    def has_activated(self, entry: Import, export: Export, now: int) -> int | None:
        """When the activation ends that an import from this account brings (seconds, 0: never); None: it counts not.

        What it is for, and for whom, was checked with the importing account's claims.
        """
        try:
            claims = jwt.decode_activation(entry.token)
        except jwt.JWTError:
            return None
        signer = claims.nats.issuer_account
        if signer and (signer != self.name or claims.iss not in self.signing_keys):
            return None
        if 0 < claims.exp <= now or claims.nbf > now:
            return None
        revoked = (export.revocations.get(name, -1) for name in (jwt.ALL_USERS, claims.sub))
        return None if any(time >= claims.iat for time in revoked) else claims.exp

    def has_revoked(self, user: str, issued_at: int) -> bool:
        """Whether a user's JWT of that time (seconds) counts no more."""
        return any(name in self.revocations and self.revocations[name] >= issued_at for name in (jwt.ALL_USERS, user))


def limit32(value: int) -> int:
    """A limit as the engine counts it."""
    return max(NO_LIMIT, min(value, _INT32_MAX))


def permissions(claimed: jwt.Permissions) -> Permissions | None:
    """None where nothing is said."""
    found = Permissions(publish=_subjects(claimed.pub), subscribe=_subjects(claimed.sub))
    if claimed.resp is not None:
        found.response = ResponsePermission(max_msgs=claimed.resp.max, expires=claimed.resp.ttl)
    return None if found == Permissions() else found


def bad_permissions(given: Permissions | None) -> str:
    """What is wrong with subjects that no rule can be made of; "" where nothing is."""
    from natsc.config.directives_auth import bad_subject

    for part, queues in ((given.publish, False), (given.subscribe, True)) if given is not None else ():
        for subjects in (part.allow, part.deny) if part is not None else ():
            bad = bad_subject(subjects, queues)
            if bad is not None:
                return bad
    return ""


def _subjects(claimed: jwt.Permission) -> SubjectPermission | None:
    if not claimed.allow and not claimed.deny:
        return None
    return SubjectPermission(allow=claimed.allow, deny=claimed.deny)


def account_options(claims: jwt.AccountClaims) -> Account:
    """The account that a configuration with the same content would make."""
    account, limits = claims.nats, claims.nats.limits
    found = Account(claims.sub)
    found.nkey = claims.sub
    found.limits.max_connections = limit32(limits.conn)
    found.limits.max_subscriptions = limit32(limits.subs)
    found.limits.max_payload = limit32(limits.payload)
    found.limits.max_leafnodes = limit32(limits.leaf)
    found.default_permissions = permissions(account.default_permissions)
    found.exports = [_export(entry) for entry in account.exports]
    found.imports = [_import(entry) for entry in account.imports]
    found.mappings = {
        subject: [MapDest(subject=to.subject, weight=to.weight or 100, cluster=to.cluster) for to in targets]
        for subject, targets in account.mappings.items()
    }
    found.jetstream = _jetstream(limits)
    found.nrg_account = claims.sub if account.cluster_traffic == "owner" else ""
    if account.trace is not None:
        found.trace_dest, found.trace_dest_sampling = account.trace.dest, account.trace.sampling or 100
    return found


def _jetstream(limits: jwt.AccountLimits) -> dict[str, JetStreamAccountLimits]:
    """By tier; none at all where no tier has room for anything."""
    tiers: dict[str, jwt.JetStreamLimits] = limits.tiered_limits or {"": limits}
    if not any(tier.mem_storage or tier.disk_storage for tier in tiers.values()):
        return {}
    return {name: _jetstream_limits(tier) for name, tier in tiers.items()}


def _jetstream_limits(given: jwt.JetStreamLimits) -> JetStreamAccountLimits:
    return JetStreamAccountLimits(
        max_memory=given.mem_storage,
        max_store=given.disk_storage,
        max_streams=given.streams,
        max_consumers=given.consumer,
        max_ack_pending=given.max_ack_pending if given.max_ack_pending > 0 else NO_LIMIT,
        memory_max_stream_bytes=given.mem_max_stream_bytes if given.mem_max_stream_bytes > 0 else NO_LIMIT,
        store_max_stream_bytes=given.disk_max_stream_bytes if given.disk_max_stream_bytes > 0 else NO_LIMIT,
        max_bytes_required=given.max_bytes_required,
    )


def _export(entry: jwt.Export) -> Export:
    found = Export(
        subject=entry.subject,
        service=entry.type == "service",
        accounts=[] if entry.token_req else None,
        response_threshold=entry.response_threshold,
        account_token_position=entry.account_token_position,
        allow_trace=entry.allow_trace,
        token_required=entry.token_req,
        revocations=entry.revocations,
    )
    if found.service:
        found.response_type = _RESPONSE_TYPES.get(entry.response_type, "Singleton")
    if entry.service_latency is not None:
        latency = entry.service_latency
        found.latency = ServiceLatency(subject=latency.results, sampling=latency.sampling)
    return found


def _import(entry: jwt.Import) -> Import:
    """For a stream `to` is where it appears here, for a service what is published to here."""
    found = Import(
        account=entry.account,
        subject=entry.subject,
        service=entry.type == "service",
        share=entry.share,
        allow_trace=entry.allow_trace,
        token=entry.token,
    )
    if not found.service:
        found.to, found.prefix = entry.local_subject, entry.to
        return found
    found.to = entry.local_subject or entry.subject
    if entry.to and not entry.local_subject:
        # The old form names the exporter's subject second.
        found.subject, found.to = entry.to, entry.subject
    return found
