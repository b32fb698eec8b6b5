"""TLS connections and certificates as the monitoring endpoints describe them: versions, suites, names and digests."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from natsc.auth.certificate import Certificate, subject_text

_VERSIONS = {"TLSv1": "1.0", "TLSv1.1": "1.1", "TLSv1.2": "1.2", "TLSv1.3": "1.3"}
_EXCHANGES = ("ECDHE", "DHE", "RSA", "ECDSA")
_SUITE_WORDS = {"AES128": "AES_128", "AES256": "AES_256"}


def tls_version(name: str) -> str:
    """1.3 for TLSv1.3; an unknown name stays as it is."""
    return _VERSIONS.get(name, name)


def cipher_suite(cipher: tuple[str, str, int] | str | None) -> str:
    """The IANA name of an OpenSSL cipher: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 for ECDHE-RSA-AES128-GCM-SHA256."""
    name = cipher[0] if isinstance(cipher, tuple) else cipher or ""
    if not name or name.startswith("TLS_"):
        return name
    words = name.split("-")
    exchange = []
    while words[:1] and words[0] in _EXCHANGES:
        exchange.append(words.pop(0))
    rest = [_SUITE_WORDS.get(word, word) for word in words]
    if rest[-1:] == ["POLY1305"]:
        rest.append("SHA256")
    elif len(rest) == 2 and rest[0].startswith("AES"):  # OpenSSL doesn't name the mode when it is CBC
        rest.insert(1, "CBC")
    return f"TLS_{'_'.join(exchange) or 'RSA'}_WITH_{'_'.join(rest)}"


def describe(der: bytes) -> dict[str, str]:
    """The members of one entry of tls_peer_certs. Raises MalformedCertificate."""
    certificate = Certificate(der)
    entry: dict[str, str] = {}
    subject = subject_text(certificate.subject)
    if subject:
        entry["subject"] = subject
    entry["spki_sha256"] = hashlib.sha256(certificate.spki).hexdigest()
    entry["cert_sha256"] = hashlib.sha256(der).hexdigest()
    return entry


@lru_cache(maxsize=8)
def not_after_of_file(path: str, loaded_ns: int) -> str:
    """The expiry of the first certificate in a PEM file, as a JSON time; empty if it can't be read.

    `loaded_ns` says which loading of the configuration this is for: the answer holds until the next one.
    """
    import base64

    try:
        with open(path, "rb") as pem:
            body = pem.read().split(b"-----BEGIN CERTIFICATE-----", 1)[1].split(b"-----END CERTIFICATE-----", 1)[0]
        return not_after(base64.b64decode(body))
    except (OSError, IndexError, ValueError):
        return ""


def not_after(der: bytes) -> str:
    """The end of a certificate's validity as RFC 3339. Raises MalformedCertificate."""
    text = Certificate(der).not_after
    return f"{text[0:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:14]}Z"
