"""Distinguished names (RFC 4514) and how they match, for certificates mapped to users.

A DN here is a tuple of relative names, most specific first as RFC 4514 writes them; a relative name is a tuple of
(type, value) pairs, type in lower case. Values are bytes: escapes in a configured name may stand for any octet.
"""

from __future__ import annotations

from natsc.auth.certificate import Subject

Attribute = tuple[str, bytes]
RelativeName = tuple[Attribute, ...]
DistinguishedName = tuple[RelativeName, ...]

# The types that nats-server knows in a certificate; a subject with any other has no DN to match.
_TYPE_NAMES = {
    "2.5.4.3": "cn",
    "2.5.4.5": "serialnumber",
    "2.5.4.6": "c",
    "2.5.4.7": "l",
    "2.5.4.8": "st",
    "2.5.4.9": "street",
    "2.5.4.10": "o",
    "2.5.4.11": "ou",
    "2.5.4.17": "postalcode",
    "0.9.2342.19200300.100.1.25": "dc",
}

_SPECIAL = frozenset(b' "#+,;<=>\\')
_BACKSLASH, _EQUALS, _COMMA, _PLUS, _SPACE = b"\\=,+ "


def parse_dn(text: str) -> DistinguishedName:
    """Reads a configured name. ValueError where it is none, which is how a plain user name is told from a DN."""
    data = text.encode("utf-8", "surrogatepass")
    names: list[RelativeName] = []
    attributes: list[Attribute] = []
    type_name = ""
    value = _Value()
    at = 0
    while at < len(data):
        char = data[at]
        at += 1
        if char == _BACKSLASH:
            at = _unescape(data, at, value)
        elif char == _EQUALS:
            type_name = value.take().decode("utf-8", "surrogateescape").lower()
            if data[at : at + 1] == b"#":
                raise ValueError("unsupported BER encoding")
        elif char in (_COMMA, _PLUS):
            if not type_name:
                raise ValueError("incomplete type, value pair")
            attributes.append((type_name, value.take()))
            type_name = ""
            if char == _COMMA:
                names.append(tuple(attributes))
                attributes = []
        else:
            value.add(char)
    if value.octets:
        if not type_name:
            raise ValueError("DN ended with incomplete type, value pair")
        attributes.append((type_name, value.take()))
        names.append(tuple(attributes))
    return tuple(names)


class _Value:
    """A value under construction: unescaped spaces at either end don't count."""

    __slots__ = ("octets", "trailing_spaces")

    def __init__(self) -> None:
        self.octets = bytearray()
        self.trailing_spaces = 0

    def add(self, octet: int) -> None:
        if octet == _SPACE:
            if not self.octets:
                return
            self.trailing_spaces += 1
        else:
            self.trailing_spaces = 0
        self.octets.append(octet)

    def add_escaped(self, octet: int) -> None:
        self.trailing_spaces = 0
        self.octets.append(octet)

    def take(self) -> bytes:
        taken = bytes(self.octets[: len(self.octets) - self.trailing_spaces])
        self.octets.clear()
        self.trailing_spaces = 0
        return taken


def _unescape(data: bytes, at: int, value: _Value) -> int:
    """Reads what follows a backslash at `at`: a special character or two hexadecimal digits. Returns where to go on."""
    if at == len(data):
        value.trailing_spaces = 0
        return at
    if data[at] in _SPECIAL:
        value.add_escaped(data[at])
        return at + 1
    digits = data[at : at + 2]
    if len(digits) != 2 or not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
        raise ValueError("got corrupted escaped character")
    value.add_escaped(int(digits, 16))
    return at + 2


def subject_dn(subject: Subject) -> DistinguishedName | None:
    """The DN of a certificate's subject, or None where it holds a type or a value that can't be matched."""
    names: list[RelativeName] = []
    for relative_name in reversed(subject):
        attributes: list[Attribute] = []
        for oid, value in relative_name:
            type_name = _TYPE_NAMES.get(oid)
            if type_name is None or value is None:
                return None
            attributes.append((type_name, value.encode("utf-8", "surrogateescape")))
        if attributes:
            names.append(tuple(attributes))
    return tuple(names)


def equal(left: DistinguishedName, right: DistinguishedName) -> bool:
    """distinguishedNameMatch of RFC 4517: the same relative names in the same order."""
    return len(left) == len(right) and all(map(_relative_equal, left, right))


def same_relative_names(left: DistinguishedName, right: DistinguishedName) -> bool:
    """The same relative names in any order, each of `right` used once.

    Once matters: were a name allowed to match twice, "CN=a,CN=a" would stand for "CN=a,CN=b" (CVE-2026-33248).
    """
    if len(left) != len(right):
        return False
    unmatched = list(right)
    for name in left:
        for index, candidate in enumerate(unmatched):
            if _relative_equal(name, candidate):
                del unmatched[index]
                break
        else:
            return False
    return True


def _relative_equal(left: RelativeName, right: RelativeName) -> bool:
    return len(left) == len(right) and set(left) == set(right)
