"""Certificates for tests, made on the fly: an authority, and what it signs. EC keys, valid for a day."""

from __future__ import annotations

import datetime
import os
import tempfile
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Attribute = tuple[x509.ObjectIdentifier, str]

_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


def name(*relative_names: Attribute | list[Attribute]) -> x509.Name:
    """A subject: each argument is one relative name, a list of attributes where it has several values."""
    return x509.Name(
        [
            x509.RelativeDistinguishedName([x509.NameAttribute(*attribute) for attribute in _as_list(relative_name)])
            for relative_name in relative_names
        ]
    )


def common_name(text: str) -> x509.Name:
    return name((NameOID.COMMON_NAME, text))


def _as_list(relative_name: Any) -> list[Attribute]:
    return relative_name if isinstance(relative_name, list) else [relative_name]


class Pair:
    """A certificate and its private key. `cert_file` and `key_file` are PEM files in `directory`."""

    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, directory: Path, stem: str
    ) -> None:
        self.certificate = certificate
        self.key = key
        self.der = certificate.public_bytes(serialization.Encoding.DER)
        self.cert_file = str(directory / f"{stem}.pem")
        self.key_file = str(directory / f"{stem}-key.pem")
        Path(self.cert_file).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        Path(self.key_file).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


class Authority:
    """A certificate authority. `ca_file` is its own certificate."""

    def __init__(self, directory: str | os.PathLike[str] | None = None, subject: str = "natsc test CA") -> None:
        self._directory = Path(directory or tempfile.mkdtemp(prefix="natsc-certs-"))
        self._made = 0
        self.pair = self._sign(common_name(subject), None, (), ca=True)
        self.ca_file = self.pair.cert_file

    def server(self, *dns_names: str, subject: x509.Name | None = None) -> Pair:
        """A server's certificate, for localhost and 127.0.0.1 unless told otherwise."""
        import ipaddress

        names: list[x509.GeneralName] = [x509.DNSName(dns) for dns in dns_names or ("localhost",)]
        if not dns_names:
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        return self._sign(subject or common_name(dns_names[0] if dns_names else "localhost"), self.pair, names)

    def client(
        self, subject: x509.Name | str = "client", *alternative_names: x509.GeneralName, expired: bool = False
    ) -> Pair:
        """A client's certificate; a text is its common name."""
        if isinstance(subject, str):
            subject = common_name(subject)
        return self._sign(subject, self.pair, alternative_names, client=True, expired=expired)

    def _sign(
        self,
        subject: x509.Name,
        issuer: Pair | None,
        alternative_names: Any,
        *,
        ca: bool = False,
        client: bool = False,
        expired: bool = False,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 3 * day)
            .not_valid_after(now - day if expired else now + day)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        # Key identifiers and an authority's key usage: Python 3.13's default contexts insist on them.
        signer = (issuer.key if issuer else key).public_key()
        if ca:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(signer), critical=False)
            builder = builder.add_extension(_SIGNS_CERTIFICATES, critical=True)
        else:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer)
            builder = builder.add_extension(identifier, critical=False)
            usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternative_names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(alternative_names)), critical=False)
        self._made += 1
        certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
        return Pair(certificate, key, self._directory, f"{self._made}")
