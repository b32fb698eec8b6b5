"""`tls {}` of every listener, and `ocsp`. Reading the files is part of checking the configuration.

Two steps, as in nats-server: `parse_tls` reads the block, `load` looks at the files. The ssl module is only imported
when there are files to look at.
"""

from __future__ import annotations

from natsc.config.errors import ConfigError, Finding, GoPanic
from natsc.config.gotext import GoError, format_value, parse_duration, quote, type_name
from natsc.config.options import (
    HANDSHAKE_FIRST_FALLBACK,
    OCSPCacheConfig,
    OCSPConfig,
    OCSPPeerConfig,
    TLSConfigOpts,
)
from natsc.config.parser import read_file
from natsc.config.values import Last, Report, as_list, as_map, as_str, recovers_as_finding, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc.config.options import Options
    from natsc.config.parser import Token

CIPHERS = frozenset((
    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
))  # fmt: skip
INSECURE_CIPHERS = frozenset((
    "TLS_RSA_WITH_RC4_128_SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA", "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA", "TLS_RSA_WITH_AES_128_CBC_SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
))  # fmt: skip
CURVES = frozenset((
    "X25519", "CurveP256", "CurveP384", "CurveP521", "X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024",
))  # fmt: skip

_BOOLEANS = {
    "insecure": "insecure", "verify": "verify", "verify_and_map": "map",
    "verify_cert_and_check_known_urls": "check_known_urls", "allow_insecure_cipher_suites": "allow_insecure_ciphers",
}  # fmt: skip
_CERT_STORE_WORDS = {
    "cert_store": "expected 'cert_store' to be a valid non-empty string",
    "cert_match_by": "expected 'cert_match_by' to be a valid non-empty string",
    "cert_match": "expected 'cert_match' to be a valid non-empty string",
}
_CERT_STORE_KINDS = {
    "cert_store": ("windowscurrentuser", "windowslocalmachine"),
    "cert_match_by": ("issuer", "subject", "thumbprint"),
}
_CERT_STORE_ERRORS = {
    "cert_store": "cert store type not implemented",
    "cert_match_by": "cert match by type not implemented",
}
_NO_CERT_STORE = "cert_store not compatible with current operating system"


def tls(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    config = client_tls(token, report)
    opts.tls_config = config
    opts.tls_timeout = config.timeout
    opts.tls_map = config.map
    opts.tls_pinned_certs = config.pinned_certs
    opts.tls_rate_limit = config.rate_limit
    opts.tls_handshake_first = config.handshake_first
    opts.tls_handshake_first_fallback = config.fallback_delay


def client_tls(token: Token | None, report: Report) -> TLSConfigOpts:
    """The block of a listener for clients, or of a leafnode. Raises Finding."""
    return _finish(parse_tls(token, True), token, report)


def peer_tls(token: Token | None, report: Report) -> TLSConfigOpts:
    """The block of a cluster or gateway: both sides always show certificates. Raises Finding."""
    config = _finish(parse_tls(token, False), token, report)
    config.client_auth_required = True
    return config


def _finish(config: TLSConfigOpts, token: Token | None, report: Report) -> TLSConfigOpts:
    try:
        load(config)
    except ConfigError as error:
        raise Finding(token, str(error)) from None
    if config.ocsp_peer_config is not None and config.ocsp_peer_config.verify:
        report.refused.append("ocsp_peer")
    return config


@recovers_as_finding
def parse_tls(last: Last, block: Any, client: bool) -> TLSConfigOpts:
    """`client` False: the block of a cluster or gateway."""
    token, fields = last.unwrap(block)
    config = TLSConfigOpts()
    insecure: list[str] = []
    for name, key, at, value in last.items(as_map(fields)):
        if name in _BOOLEANS:
            _boolean(config, name, at, value, client)
        elif name in ("cert_file", "key_file", "ca_file"):
            if type(value) is not str:
                raise Finding(at, f"error parsing tls config, expected '{name}' to be filename")
            setattr(config, name, value)
        elif name in _CERT_STORE_WORDS or name in ("ca_certs_match", "cert_match_skip_invalid"):
            _cert_store(name, at, value)
        else:
            directive = _FIELDS.get(name)
            if directive is None:
                raise Finding(at, f"error parsing tls config, unknown field {quote(key)}")
            directive(config, key, at, value, last, token)
            if name == "cipher_suites":
                insecure = [cipher for cipher in config.ciphers or () if cipher in INSECURE_CIPHERS]
    if config.certificates and config.cert_file:
        raise Finding(token, "error parsing tls config, cannot combine 'cert_file' option with 'certs' option")
    if insecure and not config.allow_insecure_ciphers:
        text = "insecure cipher suites configured without 'allow_insecure_cipher_suites' option set"
        raise Finding(token, f"{text}: {', '.join(insecure)}")
    return config


def _boolean(config: TLSConfigOpts, name: str, token: Token | None, value: Any, client: bool) -> None:
    if type(value) is not bool:
        raise Finding(token, f"error parsing tls config, expected '{name}' to be a boolean")
    if name == "verify_cert_and_check_known_urls" and value and client:
        raise Finding(token, "verify_cert_and_check_known_urls not supported in this context")
    if value and name in ("verify_and_map", "verify_cert_and_check_known_urls"):
        config.verify = True
    setattr(config, _BOOLEANS[name], value)


def _cert_store(name: str, token: Token | None, value: Any) -> None:
    """Certificate stores exist on Windows only; the fields are checked and then refused as a whole."""
    if name == "cert_match_skip_invalid":
        if type(value) is not bool:
            raise Finding(token, "expected 'cert_match_skip_invalid' to be a boolean")
    elif name == "ca_certs_match":
        for entry in value if type(value) is list else ():
            if type(getattr(entry, "value", None)) is not str:
                text = "unsupported type *conf.token where string is expected"
                raise Finding(token, f"error parsing ca_cert_match: {text}")
    elif type(value) is not str or not value:
        raise Finding(token, _CERT_STORE_WORDS[name])
    elif name in _CERT_STORE_KINDS and value.lower() not in _CERT_STORE_KINDS[name]:
        raise Finding(token, _CERT_STORE_ERRORS[name])
    elif name == "cert_store":
        raise Finding(token, _NO_CERT_STORE)


def _choices(field: str, known: frozenset[str], what: str) -> Callable[..., None]:
    def directive(
        config: TLSConfigOpts, key: str, token: Token | None, value: Any, last: Last, block: Token | None
    ) -> None:
        entries = as_list(value)
        if not entries:
            name = "cipher_suites" if field == "ciphers" else field
            raise Finding(token, f"error parsing tls config, '{name}' cannot be empty")
        chosen = []
        for entry in entries:
            at, choice = last.unwrap(entry)
            if as_str(choice) not in known:
                raise Finding(at, f"unrecognized {what} {choice}")
            chosen.append(choice)
        setattr(config, field, chosen)

    return directive


def _timeout(config: TLSConfigOpts, key: str, token: Token | None, value: Any, last: Last, block: Token | None) -> None:
    try:
        timeout = seconds(value)
    except GoError as error:
        raise Finding(token, f"error parsing tls config, 'timeout' {error}") from None
    if timeout is None:
        raise Finding(token, "error parsing tls config, 'timeout' wrong type")
    config.timeout = timeout


def _rate_limit(
    config: TLSConfigOpts, key: str, token: Token | None, value: Any, last: Last, block: Token | None
) -> None:
    if type(value) is not int:
        raise Finding(token, "error parsing tls config, 'connection_rate_limit' wrong type")
    config.rate_limit = value


def _pinned_certs(
    config: TLSConfigOpts, key: str, token: Token | None, value: Any, last: Last, block: Token | None
) -> None:
    what = "hex-encoded sha256 of DER encoded SubjectPublicKeyInfo"
    if type(value) is not list:
        raise Finding(token, f"error parsing tls config, expected 'pinned_certs' to be a list of {what}")
    pinned = set()
    for entry in value:
        at, bare = last.unwrap(entry)
        pin = as_str(bare).lower()
        if not is_pin(pin):
            raise Finding(at, f"error parsing tls config, 'pinned_certs' key {pin} does not look like {what}")
        pinned.add(pin)
    config.pinned_certs = pinned or None


def is_pin(pin: str) -> bool:
    return len(pin) == 64 and all(char in "0123456789abcdef" for char in pin)


def _handshake_first(
    config: TLSConfigOpts, key: str, token: Token | None, value: Any, last: Last, block: Token | None
) -> None:
    if type(value) is bool:
        config.handshake_first = value
        return
    if type(value) is not str:
        raise Finding(token, f"field {quote(key)} should be a boolean or a string, got {type_name(value)}")
    word = value.lower()
    if word in ("true", "on", "false", "off"):
        config.handshake_first = word in ("true", "on")
        return
    if word in ("auto", "auto_fallback"):
        delay = HANDSHAKE_FIRST_FALLBACK
    else:
        try:
            delay = parse_duration(value)
        except GoError:
            raise Finding(token, f"field {quote(key)}'s value {quote(value)} is invalid") from None
    config.handshake_first = True
    config.fallback_delay = delay


def _ocsp_peer(
    config: TLSConfigOpts, key: str, token: Token | None, value: Any, last: Last, block: Token | None
) -> None:
    if type(value) is bool:
        config.ocsp_peer_config = _new_ocsp_peer(value)
    elif type(value) is dict:
        try:
            config.ocsp_peer_config = parse_ocsp_peer(value)
        except Finding as finding:
            raise Finding(token, str(finding)) from None
    else:
        got = type_name(block.value if block is not None else None)
        raise Finding(token, f"error parsing ocsp peer config: unsupported type {got}")


def _certificates(
    config: TLSConfigOpts, key: str, token: Token | None, value: Any, last: Last, block: Token | None
) -> None:
    wrong = "error parsing certificates config: unsupported type"
    if type(value) is not list:
        raise Finding(token, f"{wrong} {type_name(block.value if block is not None else None)}")
    config.certificates = []
    for entry in value:
        at, fields = last.unwrap(entry)
        if type(fields) is not dict:
            raise Finding(at, f"{wrong} {type_name(fields)}")
        pair = {"cert_file": "", "key_file": ""}
        for _, name, at, file in last.items(fields):
            if type(file) is not str:
                raise Finding(at, f"{wrong} {type_name(file)}")
            if name not in pair:
                raise Finding(at, f"error parsing tls certs config, unknown field {quote(name)}")
            pair[name] = file
        if not all(pair.values()):
            raise Finding(at, "error parsing certificates config: both 'cert_file' and 'cert_key' options are required")
        config.certificates.append((pair["cert_file"], pair["key_file"]))


def _min_version(
    config: TLSConfigOpts, key: str, token: Token | None, value: Any, last: Last, block: Token | None
) -> None:
    wrong = "error parsing tls config:"
    if type(value) is not str:
        raise Finding(token, f"{wrong} 'min_version' wrong type: {format_value(value)}")
    if value in ("1.0", "1.1"):
        raise Finding(token, f"{wrong} unsupported TLS version: TLS {value}")
    if value not in ("1.2", "1.3"):
        raise Finding(token, f"{wrong} unknown version: {value}")
    config.min_version = value


_FIELDS: dict[str, Callable[..., None]] = {
    "cipher_suites": _choices("ciphers", CIPHERS | INSECURE_CIPHERS, "cipher"),
    "curve_preferences": _choices("curve_preferences", CURVES, "curve preference"),
    "timeout": _timeout,
    "connection_rate_limit": _rate_limit,
    "pinned_certs": _pinned_certs,
    "handshake_first": _handshake_first,
    "first": _handshake_first,
    "immediate": _handshake_first,
    "ocsp_peer": _ocsp_peer,
    "certs": _certificates,
    "certificates": _certificates,
    "min_version": _min_version,
}


# -- OCSP: parsed and checked; natsc has neither stapling nor peer validation --------------------------------------


def _new_ocsp_peer(verify: bool) -> OCSPPeerConfig:
    return OCSPPeerConfig(verify=verify, timeout=2.0, clock_skew=30.0, ttl_unset_next_update=3600.0)


@recovers_as_finding
def parse_ocsp_peer(last: Last, fields: dict[str, Any]) -> OCSPPeerConfig:
    config = _new_ocsp_peer(False)
    times = {
        "allowed_clockskew": "clock_skew",
        "ca_timeout": "timeout",
        "cache_ttl_when_next_update_unset": "ttl_unset_next_update",
    }
    flags = ("verify", "warn_only", "unknown_is_good", "allow_when_ca_unreachable")
    for name, key, token, value in last.items(fields):
        if name in times:
            try:
                at = seconds(value)
            except GoError as error:
                why = "unexpected type" if name == "allowed_clockskew" else str(error)
                raise Finding(token, f"error parsing tls peer config, conversion error: {why}") from None
            if at is None:
                raise Finding(token, "error parsing tls peer config, conversion error: unexpected type")
            if at >= 0:
                setattr(config, times[name], at)
        elif name in flags and type(value) is bool:
            setattr(config, name, value)
        else:
            raise Finding(token, f"error parsing tls peer config, unknown field [{quote(key)}]")
    return config


def ocsp(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if type(value) is bool:
        opts.ocsp_config = OCSPConfig(mode="auto" if value else "never")
    elif type(value) is dict:
        opts.ocsp_config = _ocsp_map(token, value, report)
    else:
        raise Finding(token, f"error parsing ocsp config: unsupported type {type_name(value)}")
    if opts.ocsp_config is not None and opts.ocsp_config.mode != "never":
        report.refused.append("ocsp")


def _ocsp_map(token: Token | None, fields: dict[str, Any], report: Report) -> OCSPConfig | None:
    """None after an unknown field."""
    config = OCSPConfig(mode="auto")
    for key, entry in fields.items():
        token, value = Last().unwrap(entry)
        if key == "mode":
            mode = as_str(value).lower()
            if mode in ("always", "must", "never", "auto"):
                config.mode = mode
            else:
                report.error(token, "error parsing ocsp config: unsupported ocsp mode string")
        elif key == "urls":
            raise GoPanic(f"interface conversion: interface {{}} is {type_name(value)}, not []string")
        elif key == "url":
            config.override_urls = [as_str(value)]
        else:
            report.error(token, "error parsing ocsp config: unsupported field string")
            return None
    return config


def ocsp_cache(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    """Only matters with ocsp_peer, which natsc refuses."""
    if type(value) is bool:
        opts.ocsp_cache_config = _new_ocsp_cache("local" if value else "none")
    elif type(value) is dict:
        opts.ocsp_cache_config = _parse_ocsp_cache(value)
    else:
        raise Finding(token, f"error parsing tags: unsupported type {type_name(value)}")


def _new_ocsp_cache(kind: str) -> OCSPCacheConfig:
    return OCSPCacheConfig(type=kind, local_store="_rc_", save_interval=300.0)


@recovers_as_finding
def _parse_ocsp_cache(last: Last, fields: dict[str, Any]) -> OCSPCacheConfig:
    config = _new_ocsp_cache("local")
    wrong = "error parsing OCSP peer cache config"
    for name, key, token, value in last.items(fields):
        if name == "type" and type(value) is str:
            if value.lower() not in ("none", "local"):
                raise Finding(token, f"{wrong}, unknown type [{value}]")
            config.type = value.lower()
        elif name == "local_store" and type(value) is str:
            config.local_store = value
        elif name == "preserve_revoked" and type(value) is bool:
            config.preserve_revoked = value
        elif name == "save_interval":
            try:
                interval = seconds(value)
            except GoError as error:
                raise Finding(token, f"error parsing tls peer config, conversion error: {error}") from None
            if interval is None:
                raise Finding(token, f"{wrong}, conversion error: unexpected type")
            config.save_interval = max(1.0, float(int(interval)))
        else:
            raise Finding(token, f"{wrong}, unknown field [{quote(key)}]")
    return config


# -- the files ----------------------------------------------------------------------------------------------------


def load(config: TLSConfigOpts) -> None:
    """Reads the files of a block and checks that they fit together. ConfigError with nats-server's text."""
    if config.cert_file and not config.key_file:
        raise ConfigError("missing 'key_file' in TLS configuration")
    if config.key_file and not config.cert_file:
        raise ConfigError("missing 'cert_file' in TLS configuration")
    if config.cert_file:
        _load_pair(config.cert_file, config.key_file, "error parsing X509 certificate/key pair")
    for index, (cert_file, key_file) in enumerate(config.certificates, 1):
        where = f"{index}/{len(config.certificates)}"
        _load_pair(cert_file, key_file, f"error parsing X509 certificate/key pair {where}")
    if config.ca_file:
        from natsc.config.pem import count_certificates

        if not count_certificates(read_file(config.ca_file)):
            raise ConfigError("failed to parse root ca certificate")


def _load_pair(cert_file: str, key_file: str, what: str) -> None:
    from natsc.config.pem import check_pair

    try:
        check_pair(cert_file, key_file)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error}") from None
