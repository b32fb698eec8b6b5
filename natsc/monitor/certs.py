"""Certificates as the monitoring endpoints describe them: names, digests, expiry."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from natsc.auth.certificate import Certificate, subject_text


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
    from natsc.config.pem import blocks

    try:
        with open(path, "rb") as pem:
            certificates = [der for kind, der in blocks(pem.read()) if kind == "CERTIFICATE"]
        return not_after(certificates[0])
    except (OSError, IndexError, ValueError):
        return ""


def not_after(der: bytes) -> str:
    """The end of a certificate's validity as RFC 3339. Raises MalformedCertificate."""
    text = Certificate(der).not_after
    return f"{text[0:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:14]}Z"
