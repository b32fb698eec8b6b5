"""X.509 certificates as the monitoring endpoints describe them: names, digests, expiry.

A certificate is walked as DER (X.690, RFC 5280) with the few lines that this takes, instead of importing a cryptography library
of several megabytes for three fields. Certificates seen here were verified by the TLS library, or are the server's own; a
malformed one raises ValueError and never reads out of bounds.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SEQUENCE, _OID, _UTC_TIME, _GENERALIZED_TIME, _BMP_STRING, _VERSION = 0x30, 0x06, 0x17, 0x18, 0x1E, 0xA0

# Attribute types that have a short name, in the order in which Go prints them (it groups them, and prints in reverse).
_NAMED = {
    "2.5.4.5": "SERIALNUMBER",
    "2.5.4.3": "CN",
    "2.5.4.17": "POSTALCODE",
    "2.5.4.9": "STREET",
    "2.5.4.8": "ST",
    "2.5.4.7": "L",
    "2.5.4.11": "OU",
    "2.5.4.10": "O",
    "2.5.4.6": "C",
}
_SINGLE = ("2.5.4.3", "2.5.4.5")  # the last one counts

_SUITE_WORDS = {"AES128": "AES_128", "AES256": "AES_256", "CHACHA20": "CHACHA20"}


def tls_version(name: str) -> str:
    """1.3 for TLSv1.3; an unknown name stays as it is."""
    versions = {"TLSv1": "1.0", "TLSv1.1": "1.1", "TLSv1.2": "1.2", "TLSv1.3": "1.3"}
    return versions.get(name, name)


def cipher_suite(cipher: tuple[str, str, int] | str | None) -> str:
    """The IANA name of an OpenSSL cipher: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 for ECDHE-RSA-AES128-GCM-SHA256."""
    name = cipher[0] if isinstance(cipher, tuple) else cipher or ""
    if not name or name.startswith("TLS_"):
        return name
    words = name.split("-")
    exchange = []
    while words and words[0] in ("ECDHE", "DHE", "RSA", "ECDSA"):
        exchange.append(words.pop(0))
    rest = [_SUITE_WORDS.get(word, word) for word in words]
    if "CBC" not in rest and "GCM" not in rest and "POLY1305" not in rest and rest and rest[0].startswith("AES"):
        rest.insert(1, "CBC")
    if rest and rest[-1] == "POLY1305":
        rest.append("SHA256")
    return f"TLS_{'_'.join(exchange) or 'RSA'}_WITH_{'_'.join(rest)}"


def describe(der: bytes) -> dict[str, str]:
    """The members of one entry of tls_peer_certs. Raises ValueError."""
    fields = _certificate_fields(der)
    entry: dict[str, str] = {}
    subject = subject_text(fields[4])
    if subject:
        entry["subject"] = subject
    entry["spki_sha256"] = hashlib.sha256(fields[5]).hexdigest()
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
    """The end of a certificate's validity as RFC 3339. Raises ValueError."""
    times = list(_elements(_certificate_fields(der)[3]))
    if len(times) < 2:
        raise ValueError("certificate: validity has no end")
    tag, text = times[1][0], times[1][1].decode("ascii")
    if tag == _UTC_TIME:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("certificate: validity is not a time")
    if len(text) != 15 or not text.endswith("Z"):
        raise ValueError("certificate: unexpected time format")
    return f"{text[0:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:14]}Z"


def subject_text(name: bytes) -> str:
    """A distinguished name as Go's pkix.Name prints it: known types grouped in a fixed order, unknown ones behind them."""
    known: dict[str, list[str]] = {}
    unknown: list[str] = []
    for _, relative, _ in _elements(name):
        for _, pair, _ in _elements(relative):
            oid, value = _attribute(pair)
            if oid not in _NAMED:
                unknown.append(f"{oid}={_escape(value)}")
            elif oid in _SINGLE:
                known[oid] = [value]
            else:
                known.setdefault(oid, []).append(value)
    parts = ["+".join([f"{short}={_escape(value)}" for value in known[oid]]) for oid, short in _NAMED.items() if oid in known]
    return ",".join(parts + unknown[::-1])


def _attribute(pair: bytes) -> tuple[str, str]:
    items = list(_elements(pair))
    if len(items) != 2 or items[0][0] != _OID:
        raise ValueError("certificate: malformed name")
    tag, value, _ = items[1]
    text = value.decode("utf-16-be", "replace") if tag == _BMP_STRING else value.decode("utf-8", "surrogateescape")
    return _oid(items[0][1]), text


def _escape(value: str) -> str:
    """RFC 2253's escapes."""
    out = []
    for index, char in enumerate(value):
        edge = (index == 0 and char in " #") or (index == len(value) - 1 and char == " ")
        out.append("\\" + char if edge or char in ',+"\\<>;' else char)
    return "".join(out)


def _oid(raw: bytes) -> str:
    numbers, value = [], 0
    for byte in raw:
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(value)
            value = 0
    if not numbers:
        raise ValueError("certificate: empty object identifier")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def _certificate_fields(der: bytes) -> list[bytes]:
    """serial, signature, issuer, validity, subject (contents) and subjectPublicKeyInfo (with its header)."""
    for _, certificate, _ in _elements(der):
        for _, to_be_signed, _ in _elements(certificate):
            items = [item for item in _elements(to_be_signed) if item[0] != _VERSION]
            if len(items) < 6 or any(items[at][0] != _SEQUENCE for at in (2, 3, 4, 5)):
                break
            return [items[at][1] for at in range(5)] + [items[5][2]]
        break
    raise ValueError("certificate: malformed")


def _elements(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The elements of a DER sequence: tag, content, and the whole element."""
    at = 0
    while at < len(data):
        start, tag = at, data[at]
        if at + 1 >= len(data):
            raise ValueError("certificate: truncated")
        length, at = data[at + 1], at + 2
        if length >= 0x80:
            count = length & 0x7F
            if count == 0 or count > 4 or at + count > len(data):
                raise ValueError("certificate: bad length")
            length, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + length > len(data):
            raise ValueError("certificate: truncated")
        yield tag, data[at : at + length], data[start : at + length]
        at += length
