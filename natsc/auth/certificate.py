"""What authentication and monitoring read out of a peer's X.509 certificate.

The certificate has been verified by the TLS library before it gets here; this is a reader of DER (X.690) for the few
fields that natsc needs, so that a server with mutual TLS loads no further library. Names are printed as Go's
crypto/x509 prints them, because users are configured and monitored by those texts.
"""

from __future__ import annotations

# (object identifier, value or None where the value is no text), grouped by relative name, in the certificate's order.
Subject = tuple[tuple[tuple[str, "str | None"], ...], ...]

_SEQUENCE, _SET, _OID, _OCTET_STRING, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0x31, 0x06, 0x04, 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_SAN_EMAIL, _SAN_DNS, _SAN_URI = 0x81, 0x82, 0x86
_SUBJECT_ALT_NAME = "2.5.29.17"
_DOMAIN_COMPONENT = "0.9.2342.19200300.100.1.25"

_TEXT_ENCODINGS = {0x0C: "utf-8", 0x12: "ascii", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}

# Go's pkix.Name keeps these apart and prints them, last first, in this order; all others come at the text's end.
_NAMED = {
    "2.5.4.6": "C",
    "2.5.4.8": "ST",
    "2.5.4.7": "L",
    "2.5.4.9": "STREET",
    "2.5.4.17": "POSTALCODE",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.3": "CN",
    "2.5.4.5": "SERIALNUMBER",
}
_SINGLE_VALUED = frozenset(("2.5.4.3", "2.5.4.5"))


class MalformedCertificate(ValueError):
    """The bytes are not a certificate that can be read."""


class Certificate:
    """A certificate's fields. `spki` is the DER of SubjectPublicKeyInfo; `not_after` is in the form YYYYMMDDHHMMSSZ."""

    __slots__ = ("der", "dns_names", "emails", "not_after", "spki", "subject", "uris")

    def __init__(self, der: bytes) -> None:
        self.der = der
        self.emails: list[str] = []
        self.dns_names: list[str] = []
        self.uris: list[str] = []
        try:
            fields = _children(der, *_content(der, 0, len(der), _SEQUENCE))
            tbs = _children(der, fields[0][1], fields[0][2])
            if tbs[0][0] == _VERSION:
                del tbs[0]
            # serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo
            self.not_after = _time(der, _children(der, tbs[3][1], tbs[3][2])[1])
            self.subject: Subject = _name(der, tbs[4])
            self.spki = der[tbs[4][2] : tbs[5][2]]
            for tag, start, stop in tbs[6:]:
                if tag == _EXTENSIONS:
                    self._read_extensions(*_content(der, start, stop, _SEQUENCE))
        except (IndexError, ValueError) as error:
            raise MalformedCertificate("x509: malformed certificate") from error

    def _read_extensions(self, start: int, stop: int) -> None:
        der = self.der
        for _, first, last in _children(der, start, stop):
            fields = _children(der, first, last)
            if _oid(der[fields[0][1] : fields[0][2]]) != _SUBJECT_ALT_NAME:
                continue
            for tag, at, end in _children(der, *_content(der, fields[-1][1], fields[-1][2], _SEQUENCE)):
                kinds = {_SAN_EMAIL: self.emails, _SAN_DNS: self.dns_names, _SAN_URI: self.uris}
                if tag in kinds:
                    kinds[tag].append(der[at:end].decode("ascii"))


def subject_text(subject: Subject) -> str:
    """Go's pkix.Name.String(): RFC 2253 like, unknown types last, under their identifiers."""
    rare = [((oid, value),) for relative_name in subject for oid, value in relative_name if oid not in _NAMED]
    return _join_names([*rare, *_named(subject)])


def rdn_sequence_text(subject: Subject) -> str:
    """Go's pkix.Name.ToRDNSequence().String(): as subject_text, without the types that Go doesn't know."""
    return _join_names(_named(subject))


def domain_components(subject: Subject) -> list[str]:
    """The values of the DC attributes in the certificate's order."""
    return [
        value
        for relative_name in subject
        for oid, value in relative_name
        if oid == _DOMAIN_COMPONENT and value is not None
    ]


def _named(subject: Subject) -> list[tuple[tuple[str, str | None], ...]]:
    values: dict[str, list[str]] = {oid: [] for oid in _NAMED}
    for relative_name in subject:
        for oid, value in relative_name:
            if oid in values and value is not None:
                if oid in _SINGLE_VALUED:
                    values[oid].clear()
                values[oid].append(value)
    # An empty common name or serial number is left out; the others are lists in Go, where an empty text counts.
    return [
        tuple((oid, value) for value in found)
        for oid, found in values.items()
        if found and not (oid in _SINGLE_VALUED and not found[0])
    ]


def _join_names(names: list[tuple[tuple[str, str | None], ...]]) -> str:
    return ",".join("+".join(_attribute_text(oid, value) for oid, value in name) for name in reversed(names))


def _attribute_text(oid: str, value: str | None) -> str:
    return f"{_NAMED.get(oid, oid)}={_escape(value or '')}"


def _escape(value: str) -> str:
    escaped = []
    last = len(value) - 1
    for at, char in enumerate(value):
        if char in ',+"\\<>;' or (char == " " and at in (0, last)) or (char == "#" and at == 0):
            escaped.append("\\")
        escaped.append(char)
    return "".join(escaped)


def _content(data: bytes, at: int, end: int, expected_tag: int) -> tuple[int, int]:
    tag, start, stop = _element(data, at, end)
    if tag != expected_tag:
        raise MalformedCertificate("x509: malformed certificate")
    return start, stop


def _element(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The tag, and where the content of the element at `at` starts and stops. IndexError where it is cut short."""
    tag = data[at]
    size = data[at + 1]
    start = at + 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4:
            raise MalformedCertificate("x509: malformed certificate")
        size = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + size > end:
        raise MalformedCertificate("x509: malformed certificate")
    return tag, start, start + size


def _children(data: bytes, start: int, stop: int) -> list[tuple[int, int, int]]:
    elements = []
    at = start
    while at < stop:
        element = _element(data, at, stop)
        elements.append(element)
        at = element[2]
    return elements


def _name(data: bytes, element: tuple[int, int, int]) -> Subject:
    names = []
    for _, start, stop in _children(data, element[1], element[2]):
        attributes = []
        for _, first, last in _children(data, start, stop):
            oid, value = _children(data, first, last)[:2]
            attributes.append((_oid(data[oid[1] : oid[2]]), _text(data, value)))
        names.append(tuple(attributes))
    return tuple(names)


def _text(data: bytes, element: tuple[int, int, int]) -> str | None:
    encoding = _TEXT_ENCODINGS.get(element[0])
    return None if encoding is None else data[element[1] : element[2]].decode(encoding)


def _oid(content: bytes) -> str:
    arcs: list[int] = []
    arc = 0
    for octet in content:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))


def _time(data: bytes, element: tuple[int, int, int]) -> str:
    text = data[element[1] : element[2]].decode("ascii")
    if element[0] == _UTC_TIME:
        # RFC 5280: two-digit years below 50 are in this century.
        return ("20" if text[:2] < "50" else "19") + text
    return text
