"""JWTs of NATS: read, verified, and turned into claims.

A token is decode()d in the order of nats-server: size, three parts, header, claims, signature, kind of issuer. There is
one algorithm, Ed25519, under its two names: whatever a header says can choose no other, and no key that it brings is
used. The issuer that the claims name has signed; whether anybody trusts that issuer is not decided here.

Claims are read as Go reads JSON into a struct: names in any case, unknown ones ignored, null is as if it weren't there,
and a value of the wrong type refuses the token. So nothing that restricts is overlooked for its spelling.

Version 1 of the format (kind beside the claims, signature over the claims alone) is read too.
"""

from __future__ import annotations

from natsc.auth import nkeys
from natsc.config import keys
from natsc.config.gotext import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

    SigningKeys = dict[str, "UserScope | None"]  # by public key; None: a key without a scope

SIZE_MAX = 1024 * 1024
VERSION = 2
NO_LIMIT = -1
ALL_USERS = "*"  # in a list of revocations

_INT64 = range(-(2**63), 2**63)
_URL_DIGITS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_BAD_TYPE = "json: cannot unmarshal {} of type {}"


class JWTError(ValueError):
    """The token is none, or isn't signed by who it says; str() is nats-server's reason."""


class Record:
    """A JSON object with known members: the annotations of a class say which, and their types.

    A member is read by a method read_<name>, where the class has one.
    """

    _kinds: ClassVar[dict[str, str]] = {}
    _classes: ClassVar[dict[str, type[Record]]] = {}

    def __init_subclass__(cls) -> None:
        own = {name: kind for name, kind in cls.__annotations__.items() if not kind.startswith("ClassVar")}
        inherited = (getattr(base, "_kinds", {}) for base in reversed(cls.__bases__))
        cls._kinds = {name: kind for kinds in (*inherited, own) for name, kind in kinds.items()}
        Record._classes[cls.__name__] = cls

    def __init__(self, members: dict[str, Any] | None = None) -> None:
        for name, kind in self._kinds.items():
            setattr(self, name, _zero(kind))
        self.set_defaults()
        if members:
            self._read(members)

    def set_defaults(self) -> None:
        """What a member is that the object doesn't have, where that isn't zero."""

    def _read(self, members: dict[str, Any]) -> None:
        for key, value in members.items():
            name = key if key in self._kinds else _folded(key)
            kind = self._kinds.get(name)
            if kind is None or value is None:
                continue
            reader = getattr(self, f"read_{name}", None)
            setattr(self, name, reader(value) if reader is not None else _typed(name, value, kind))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


def _folded(key: str) -> str:
    """A name as Go compares it: it folds the long s too."""
    return key.lower().replace("\u017f", "s")


def _zero(kind: str) -> Any:
    if kind.endswith("| None") or kind == "Any":
        return None
    simple = {"int": 0, "str": "", "bool": False}
    if kind in simple:
        return simple[kind]
    if kind.startswith("list"):
        return []
    return {} if kind.startswith("dict") else Record._classes[kind]()


def _typed(name: str, value: Any, kind: str) -> Any:
    """The value, if it is of that kind."""
    kind = kind.removesuffix(" | None")
    if kind == "int":
        if type(value) is not int or value not in _INT64:
            raise JWTError(_BAD_TYPE.format(name, "int64"))
    elif kind in ("str", "bool"):
        if type(value).__name__ != kind:
            raise JWTError(_BAD_TYPE.format(name, kind))
    elif kind.startswith("list["):
        if type(value) is not list:
            raise JWTError(_BAD_TYPE.format(name, "list"))
        inner = kind[5:-1]
        return [_zero(inner) if item is None else _typed(name, item, inner) for item in value]
    elif kind.startswith("dict["):
        if type(value) is not dict:
            raise JWTError(_BAD_TYPE.format(name, "map"))
        inner = kind[len("dict[str, ") : -1]
        return {key: _zero(inner) if item is None else _typed(name, item, inner) for key, item in value.items()}
    elif kind != "Any":
        if type(value) is not dict:
            raise JWTError(_BAD_TYPE.format(name, kind))
        return Record._classes[kind](value)
    return value


# -- what claims are made of ------------------------------------------------------------------------------------------


class Permission(Record):
    """None: the list isn't there; an empty list allows nothing."""

    allow: list[str] | None
    deny: list[str] | None


class ResponsePermission(Record):
    max: int
    ttl: int  # ns


class TimeRange(Record):
    start: str  # "15:04:05"
    end: str


class Permissions(Record):
    pub: Permission
    sub: Permission
    resp: ResponsePermission | None


class UserLimits(Permissions):
    """What a user may do, and from where and when. Limits: -1 is none, and 0 nothing at all."""

    src: list[str]
    times: list[TimeRange]
    times_location: str
    subs: int
    data: int
    payload: int
    bearer_token: bool
    proxy_required: bool
    allowed_connection_types: list[str]

    def read_src(self, value: Any) -> list[str]:
        """A list, or one text with commas."""
        if type(value) is str:
            parts = (part.strip().lower() for part in value.split(","))
            return list(dict.fromkeys(part for part in parts if part))
        return _typed("src", value, "list[str]")  # type: ignore[no-any-return]


class Template(UserLimits):
    """The limits of all users of a scoped signing key."""

    def set_defaults(self) -> None:
        self.subs = self.data = self.payload = NO_LIMIT


class UserScope(Record):
    """A signing key whose users get what its template says."""

    kind: str
    key: str
    role: str
    template: Template
    description: str


class ServiceLatency(Record):
    sampling: int  # percent; 0: as the request's headers say
    results: str

    def read_sampling(self, value: Any) -> int:
        if type(value) is str and value.lower() == "headers":
            return 0
        return _typed("sampling", value, "int")  # type: ignore[no-any-return]


class _Typed(Record):
    def read_type(self, value: Any) -> str:
        return _link_type(value)


def _link_type(value: Any) -> str:
    if value not in ("stream", "service"):
        raise JWTError(f"unknown export type {quote(str(value))}")
    return value  # type: ignore[no-any-return]


class Export(_Typed):
    name: str
    subject: str
    type: str  # "stream" or "service"
    token_req: bool
    revocations: dict[str, int]
    response_type: str  # "", "Singleton", "Stream", "Chunked"
    response_threshold: int  # ns
    service_latency: ServiceLatency | None
    account_token_position: int
    advertise: bool
    allow_trace: bool
    description: str
    info_url: str


class Import(_Typed):
    name: str
    subject: str
    account: str
    token: str
    to: str
    local_subject: str
    type: str
    share: bool
    allow_trace: bool


class WeightedMapping(Record):
    subject: str
    weight: int  # percent; 0: all
    cluster: str


class JetStreamLimits(Record):
    mem_storage: int
    disk_storage: int
    streams: int
    consumer: int
    max_ack_pending: int
    mem_max_stream_bytes: int
    disk_max_stream_bytes: int
    max_bytes_required: bool


class AccountLimits(JetStreamLimits):
    subs: int
    data: int
    payload: int
    imports: int
    exports: int
    wildcards: bool
    disallow_bearer: bool
    conn: int
    leaf: int
    tiered_limits: dict[str, JetStreamLimits]


class ExternalAuthorization(Record):
    auth_users: list[str]
    allowed_accounts: list[str]
    xkey: str


class MsgTrace(Record):
    dest: str
    sampling: int


# -- claims -----------------------------------------------------------------------------------------------------------


class _Nats(Record):
    """What is common to the `nats` part of all kinds."""

    tags: list[str]
    type: str
    version: int


class Operator(_Nats):
    signing_keys: list[str]
    account_server_url: str
    operator_service_urls: list[str]
    system_account: str
    assert_server_version: str
    strict_signing_key_usage: bool


class Account(_Nats):
    imports: list[Import]
    exports: list[Export]
    limits: AccountLimits
    signing_keys: dict[str, Any]  # SigningKeys
    revocations: dict[str, int]
    default_permissions: Permissions
    mappings: dict[str, list[WeightedMapping]]
    authorization: ExternalAuthorization
    trace: MsgTrace | None
    cluster_traffic: str
    description: str
    info_url: str

    def read_signing_keys(self, value: Any) -> SigningKeys:
        if type(value) is not list:
            raise JWTError(_BAD_TYPE.format("signing_keys", "list"))
        found: SigningKeys = {}
        for entry in value:
            if type(entry) is str:
                found[entry] = None
            elif type(entry) is dict:
                if entry.get("kind") != "user_scope":
                    raise JWTError(f"unknown signing key scope {quote(str(entry.get('type', '')))}")
                scope = UserScope(entry)
                found[scope.key] = scope
        return found


class User(_Nats, UserLimits):
    issuer_account: str

    def has_no_limits_of_its_own(self) -> bool:
        """As users of scoped signing keys must be."""
        return all(getattr(self, name) == _zero(kind) for name, kind in UserLimits._kinds.items())


class Activation(_Nats):
    subject: str
    kind: str
    issuer_account: str

    def read_kind(self, value: Any) -> str:
        return _link_type(value)


class AuthorizationResponse(_Nats):
    """A callout's answer: a user's JWT, or why there is none. issuer_account: where a signing key has signed."""

    jwt: str
    error: str
    issuer_account: str


class Claims(Record):
    """A token's claims; times in seconds since the epoch, 0: none. The part under `nats` is its subclass's."""

    aud: str
    exp: int
    jti: str
    iat: int
    iss: str
    name: str
    nbf: int
    sub: str

    kind: ClassVar[str] = "generic"
    issuers: ClassVar[tuple[int, ...]] = ()  # kinds of keys that may sign; none: any

    def __repr__(self) -> str:
        return f"{self.kind} {self.sub}"


class OperatorClaims(Claims):
    nats: Operator
    kind = "operator"
    issuers = (keys.PREFIX_OPERATOR,)


class AccountClaims(Claims):
    nats: Account
    kind = "account"
    issuers = (keys.PREFIX_ACCOUNT, keys.PREFIX_OPERATOR)


class UserClaims(Claims):
    nats: User
    kind = "user"
    issuers = (keys.PREFIX_ACCOUNT,)


class ActivationClaims(Claims):
    nats: Activation
    kind = "activation"
    issuers = (keys.PREFIX_ACCOUNT, keys.PREFIX_OPERATOR)


class AuthorizationResponseClaims(Claims):
    nats: AuthorizationResponse
    kind = "authorization_response"
    issuers = (keys.PREFIX_ACCOUNT,)


class GenericClaims(Claims):
    """Of no kind that is known, or of one that nobody asked about."""

    nats: dict[str, Any]


_KINDS: dict[str, type[Claims]] = {
    found.kind: found
    for found in (OperatorClaims, AccountClaims, UserClaims, ActivationClaims, AuthorizationResponseClaims)
}
_NOT_SUPPORTED = {"cluster": "ClusterClaims are not supported", "server": "ServerClaims are not supported"}
_PREFIX_NAMES = {keys.PREFIX_OPERATOR: "operator", keys.PREFIX_ACCOUNT: "account"}


# -- reading ----------------------------------------------------------------------------------------------------------


def decode(token: str) -> Claims:
    """The claims of a token that its issuer has signed. Raises JWTError."""
    chunks = _chunks(token)
    _read_header(chunks[0])
    members = _json_object(_base64(chunks[1]))
    version, claims = _load(members)
    signed = chunks[1] if version <= 1 else f"{chunks[0]}.{chunks[1]}"
    _verify(claims.iss, signed, _base64(chunks[2]), "V1" if version <= 1 else "V2")
    if claims.issuers and not any(keys.is_public_key(claims.iss, prefix) for prefix in claims.issuers):
        names = " ".join(_PREFIX_NAMES[prefix] for prefix in claims.issuers)
        raise JWTError(f"unable to validate expected prefixes - [{names}]")
    return claims


def decode_generic(token: str) -> GenericClaims:
    """The claims of a token of any kind, with what is under `nats` as it is. Raises JWTError."""
    chunks = _chunks(token)
    algorithm = _read_header(chunks[0])
    members = _json_object(_base64(chunks[1]))
    claims = GenericClaims(members)
    signature = _base64(chunks[2])
    if algorithm == "ed25519":
        _verify(claims.iss, chunks[1], signature, "V1")
    else:
        _verify(claims.iss, f"{chunks[0]}.{chunks[1]}", signature, "V2")
    return claims


def _of_kind(token: str, kind: type[Claims]) -> Claims:
    claims = decode(token)
    if type(claims) is not kind:
        raise JWTError(f"not {kind.kind} claim")
    return claims


def decode_operator(token: str) -> OperatorClaims:
    """Raises JWTError."""
    return _of_kind(token, OperatorClaims)  # type: ignore[return-value]


def decode_account(token: str) -> AccountClaims:
    """Raises JWTError."""
    return _of_kind(token, AccountClaims)  # type: ignore[return-value]


def decode_user(token: str) -> UserClaims:
    """Raises JWTError."""
    return _of_kind(token, UserClaims)  # type: ignore[return-value]


def decode_activation(token: str) -> ActivationClaims:
    """Raises JWTError."""
    return _of_kind(token, ActivationClaims)  # type: ignore[return-value]


def decode_authorization_response(token: str) -> AuthorizationResponseClaims:
    """Raises JWTError."""
    claims = decode(token)
    if not isinstance(claims, AuthorizationResponseClaims):
        raise JWTError("not an authorization request claim")  # nats-server's words
    return claims


def payload(token: str) -> dict[str, Any]:
    """The claims of a token that was decoded before, as they were signed."""
    return _json_object(_base64(_chunks(token)[1]))


def undecorated(text: str) -> str:
    """The JWT between `-----BEGIN ... JWT-----` lines, or the whole text."""
    lines = [line.strip() for line in text.splitlines()]
    for index, line in enumerate(lines):
        if line.startswith("---") and line.endswith("---") and index + 1 < len(lines):
            return next((jwt for jwt in lines[index + 1 :] if jwt), "")
    return text.strip()


# -- writing ----------------------------------------------------------------------------------------------------------


def encode(claims: dict[str, Any], signer: nkeys.KeyPair) -> str:
    """A token with these claims, in the order that they come in. `jti` and `iss` of them are filled in."""
    import json
    from base64 import b32encode

    from cryptography.hazmat.primitives.hashes import SHA512_256, Hash

    def packed() -> bytes:
        return json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")

    claims["jti"], claims["iss"] = "", signer.public_key
    digest = Hash(SHA512_256())
    digest.update(packed())
    claims["jti"] = b32encode(digest.finalize()).rstrip(b"=").decode()
    signed = b".".join(map(_to_base64, (b'{"typ":"JWT","alg":"ed25519-nkey"}', packed())))
    return (signed + b"." + _to_base64(signer.sign(signed))).decode()


def _to_base64(data: bytes) -> bytes:
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(data).rstrip(b"=")


# -- parts of tokens --------------------------------------------------------------------------------------------------


def _chunks(token: str) -> list[str]:
    if len(token) > SIZE_MAX:
        raise JWTError(f"token size {len(token)} exceeds maximum of {SIZE_MAX} bytes: token too large")
    chunks = token.split(".", 3)
    if len(chunks) != 3:
        raise JWTError("expected 3 chunks")
    return chunks


def _read_header(chunk: str) -> str:
    """The algorithm's name."""
    header = _json_object(_base64(chunk))
    kind, algorithm = header.get("typ", ""), header.get("alg", "")
    if not isinstance(kind, str) or not isinstance(algorithm, str):
        raise JWTError(_BAD_TYPE.format("header", "string"))
    if kind.upper() != "JWT":
        raise JWTError(f"not supported type {quote(kind)}")
    if algorithm.lower() not in ("ed25519", "ed25519-nkey"):
        raise JWTError(f"unexpected {quote(algorithm)} algorithm")
    return algorithm.lower()


def _load(members: dict[str, Any]) -> tuple[int, Claims]:
    """(version, claims). Version -1: a kind that isn't known."""
    lower = {_folded(key): value for key, value in members.items()}
    nats = lower.get("nats")
    inner = _Nats(nats) if isinstance(nats, dict) else _Nats()
    outer = _typed("type", lower["type"], "str") if lower.get("type") is not None else ""
    kind = outer or inner.type
    version = 1 if outer else inner.version
    if version > VERSION:
        raise JWTError("JWT was generated by a newer version ")
    if kind in _NOT_SUPPORTED:
        raise JWTError(_NOT_SUPPORTED[kind])
    found = _KINDS.get(kind)
    if found is None:
        return -1, GenericClaims(members)
    if version not in (1, VERSION):
        raise JWTError(f"library supports version {VERSION} or less - received {version}")
    return version, found(_migrated(found, lower) if version == 1 else members)


def _migrated(found: type[Claims], members: dict[str, Any]) -> dict[str, Any]:
    """Claims of version 1 as version 2 has them: kind, tags and issuer's account move, users' limits may be missing."""
    nats = members.get("nats")
    nats = dict(nats) if isinstance(nats, dict) else {}
    if found is UserClaims:
        nats = {"subs": NO_LIMIT, "data": NO_LIMIT, "payload": NO_LIMIT, **nats}
    for name in ("type", "tags", "issuer_account"):
        if name in members:
            nats[name] = members[name]
    return {**members, "nats": {**nats, "version": 1}}


def _json_object(data: bytes) -> dict[str, Any]:
    import json

    try:
        value = json.loads(data.decode("utf-8", "replace"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise JWTError(str(error)) from None
    if not isinstance(value, dict):
        raise JWTError("json: cannot unmarshal")
    return value


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _verify(issuer: str, signed: str, signature: bytes, version: str) -> None:
    if not nkeys.verify(issuer, signed.encode("utf-8", "surrogateescape"), signature):
        raise JWTError(f"claim failed {version} signature verification")


def _base64(chunk: str) -> bytes:
    """Unpadded URL-safe base64, line ends in it ignored."""
    import binascii

    chunk = chunk.replace("\n", "").replace("\r", "")
    bad = len(chunk)
    if not _URL_DIGITS.issuperset(chunk):
        bad = next(index for index, char in enumerate(chunk) if char not in _URL_DIGITS)
    if bad < len(chunk) or len(chunk) % 4 == 1:
        raise JWTError(f"illegal base64 data at input byte {min(bad, len(chunk) - len(chunk) % 4)}")
    plain = chunk.replace("-", "+").replace("_", "/")
    return binascii.a2b_base64(plain + "=" * (-len(plain) % 4))
