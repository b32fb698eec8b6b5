"""Certificate and key files: do they hold what they should, and do the two belong together?

The finding of PEM blocks and the texts follow Go's crypto/tls; whether a block is a good certificate or key is for
OpenSSL to say (the ssl module, imported here).
"""

from __future__ import annotations

import binascii
import ssl

from natsc.config.errors import ConfigError
from natsc.config.parser import read_file

_BEGIN = b"-----BEGIN "
_DASHES = b"-----"


def blocks(data: bytes) -> list[tuple[str, bytes]]:
    """(type, DER) of each well-formed PEM block, in order."""
    found: list[tuple[str, bytes]] = []
    at = 0
    while True:
        at = data.find(_BEGIN, at)
        if at < 0:
            return found
        line_end = data.find(b"\n", at)
        if line_end < 0:
            return found
        header = data[at + len(_BEGIN) : line_end].rstrip()
        if (at > 0 and data[at - 1 : at] != b"\n") or not header.endswith(_DASHES):
            at = line_end
            continue
        kind = header[: -len(_DASHES)]
        end = data.find(b"-----END " + kind + _DASHES, line_end)
        if end < 0:
            at = line_end
            continue
        body = data[line_end + 1 : end]
        if b":" in body:  # RFC 1421 headers in front of the base64
            body = body.partition(b"\n\n")[2] or body.partition(b"\r\n\r\n")[2]
        try:
            der = binascii.a2b_base64(b"".join(body.split()), strict_mode=True) if body.strip() else b""
        except binascii.Error:
            at = line_end
            continue
        found.append((kind.decode("latin-1"), der))
        at = end


def count_certificates(data: bytes) -> int:
    """How many certificates in `data` OpenSSL can read."""
    return sum(1 for kind, der in blocks(data) if kind == "CERTIFICATE" and _readable(der))


def _readable(der: bytes) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=der)
    except (ssl.SSLError, ValueError):
        return False
    return True


def check_pair(cert_file: str, key_file: str) -> None:
    """ConfigError with the text of Go's LoadX509KeyPair when the files can't serve as a certificate and its key."""
    certs = blocks(read_file(cert_file))
    keys = blocks(read_file(key_file))
    chain = [der for kind, der in certs if kind == "CERTIFICATE"]
    if not chain:
        raise ConfigError(_no_certificate([kind for kind, _ in certs]))
    if not _readable(chain[0]):
        raise ConfigError("x509: malformed certificate")
    if not any(_is_key(kind) for kind, _ in keys):
        raise ConfigError(_no_key([kind for kind, _ in keys]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert_file, key_file, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError("tls: private key does not match public key") from None
        if error.reason in ("KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"):  # the key is of another algorithm
            raise ConfigError("tls: private key type does not match public key type") from None
        raise ConfigError("tls: failed to parse private key") from None
    except (ValueError, OSError):
        raise ConfigError("tls: failed to parse private key") from None


def _no_password() -> str:
    raise ValueError("encrypted keys are not supported")


def _is_key(kind: str) -> bool:
    return kind == "PRIVATE KEY" or kind.endswith(" PRIVATE KEY")


def _no_certificate(kinds: list[str]) -> str:
    if not kinds:
        return "tls: failed to find any PEM data in certificate input"
    if len(kinds) == 1 and kinds[0].endswith("PRIVATE KEY"):
        return (
            "tls: failed to find certificate PEM data in certificate input, but did find a private key; "
            "PEM inputs may have been switched"
        )
    return f'tls: failed to find "CERTIFICATE" PEM block in certificate input {_skipped(kinds)}'


def _no_key(kinds: list[str]) -> str:
    if not kinds:
        return "tls: failed to find any PEM data in key input"
    if len(kinds) == 1 and kinds[0] == "CERTIFICATE":
        return "tls: found a certificate rather than a key in the PEM for the private key"
    return f'tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input {_skipped(kinds)}'


def _skipped(kinds: list[str]) -> str:
    return f"after skipping PEM blocks of the following types: [{' '.join(kinds)}]"
