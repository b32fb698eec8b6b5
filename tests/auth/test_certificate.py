"""Certificates: what is read out of them, and how names are printed."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from natsc.auth.certificate import (
    Certificate,
    MalformedCertificate,
    domain_components,
    rdn_sequence_text,
    subject_text,
)
from tests.certs import Authority, Pair, name

EVERYTHING = name(
    (NameOID.DOMAIN_COMPONENT, "com"),
    (NameOID.DOMAIN_COMPONENT, "example"),
    (NameOID.POSTAL_CODE, "1"),
    (NameOID.STATE_OR_PROVINCE_NAME, "st"),
    (NameOID.LOCALITY_NAME, "l"),
    (NameOID.COUNTRY_NAME, "DE"),
    (NameOID.STREET_ADDRESS, "street"),
    (NameOID.ORGANIZATION_NAME, 'Acme, "Inc" '),
    [(NameOID.ORGANIZATIONAL_UNIT_NAME, "a"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "b")],
    (NameOID.COMMON_NAME, "first"),
    (NameOID.COMMON_NAME, "#x+é"),
    (NameOID.SERIAL_NUMBER, "7"),
    (NameOID.EMAIL_ADDRESS, "x@y.z"),
)


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.client(
        EVERYTHING,
        x509.RFC822Name("a@b.c"),
        x509.DNSName("h.example"),
        x509.UniformResourceIdentifier("spiffe://h/u"),
        x509.DNSName("*.i.example"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    )


def test_key_and_names(pair: Pair) -> None:
    certificate = Certificate(pair.der)
    assert certificate.spki == pair.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert certificate.emails == ["a@b.c"]
    assert certificate.dns_names == ["h.example", "*.i.example"]
    assert certificate.uris == ["spiffe://h/u"]


def test_end_of_validity(pair: Pair) -> None:
    end = datetime.datetime.strptime(Certificate(pair.der).not_after, "%Y%m%d%H%M%SZ")
    assert end.replace(tzinfo=datetime.UTC) == pair.certificate.not_valid_after_utc


def test_subject_has_the_certificate_s_order(pair: Pair) -> None:
    expected = [[(a.oid.dotted_string, a.value) for a in rdn] for rdn in pair.certificate.subject.rdns]
    assert [list(relative_name) for relative_name in Certificate(pair.der).subject] == expected


def test_subject_is_printed_as_nats_server_prints_it(pair: Pair) -> None:
    subject = Certificate(pair.der).subject
    known = r"SERIALNUMBER=7,CN=\#x\+é,OU=b+OU=a,O=Acme\, \"Inc\"\ ,POSTALCODE=1,STREET=street,L=l,ST=st,C=DE"
    assert rdn_sequence_text(subject) in (known, known.replace("OU=b+OU=a", "OU=a+OU=b"))
    rare = ",1.2.840.113549.1.9.1=x@y.z,0.9.2342.19200300.100.1.25=example,0.9.2342.19200300.100.1.25=com"
    assert subject_text(subject) == rdn_sequence_text(subject) + rare


def test_domain_components_keep_their_order(pair: Pair) -> None:
    assert domain_components(Certificate(pair.der).subject) == ["com", "example"]


def test_an_empty_subject_is_an_empty_text(authority: Authority) -> None:
    subject = Certificate(authority.client(name()).der).subject
    assert subject_text(subject) == rdn_sequence_text(subject) == ""


@pytest.mark.parametrize(
    "der", [b"", b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80\x00\x00", b"\x02\x01\x01", bytes(300)]
)
def test_what_is_no_certificate(der: bytes) -> None:
    with pytest.raises(MalformedCertificate):
        Certificate(der)


@given(data=st.data())
def test_damaged_certificates_are_read_or_refused(pair: Pair, data: st.DataObject) -> None:
    der = bytearray(pair.der)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        subject_text(Certificate(bytes(der[: data.draw(st.integers(len(der) // 2, len(der)))])).subject)
    except MalformedCertificate:
        return
