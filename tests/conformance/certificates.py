"""Certificates for the TLS tests, made anew for a run: a CA, a server, several clients, a CA that nobody trusts."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Certificates:
    """PEM files in one folder: ca.pem, and NAME.pem with NAME-key.pem for each certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._issuers: dict[str, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]] = {}
        self.authority("ca")
        self.authority("other-ca")
        local = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ]
        self.issue("server", "server", local)
        self.issue("server-two", "server two", local)
        self.issue("client", "client")
        self.issue("client-two", "client two")
        self.issue("client-email", "client email", [x509.RFC822Name("alice@example.com")])
        self.issue("client-dns", "client dns", [x509.DNSName("bee.example.com")])
        self.issue("client-stranger", "client", issuer="other-ca")

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key_path(self, name: str) -> Path:
        return self.folder / f"{name}-key.pem"

    @staticmethod
    def _name(common_name: str, units: list[str] | None = None) -> x509.Name:
        parts = [(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units or ()]
        parts = [*(parts or [(NameOID.ORGANIZATION_NAME, "natsc tests")]), (NameOID.COMMON_NAME, common_name)]
        return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])

    @staticmethod
    def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + 30 * day)
        )

    def authority(self, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = self._name(name)
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        certificate = (
            self._builder(subject, subject, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self._issuers[name] = certificate, key
        self._write(name, certificate, key)

    def issue(
        self, name: str, common_name: str, alternative: list[x509.GeneralName] | None = None, issuer: str = "ca",
        units: list[str] | None = None,
    ) -> None:  # fmt: skip
        """units: the name has these organizational units instead of an organization."""
        authority, authority_key = self._issuers[issuer]
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            self._builder(self._name(common_name, units), authority.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        self._write(name, builder.sign(authority_key, hashes.SHA256()), key)

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.path(name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key_path(name).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def pin(self, name: str) -> str:
        """What pinned_certs wants: the SHA-256 of the public key's SubjectPublicKeyInfo, in hex."""
        certificate = x509.load_pem_x509_certificate(self.path(name).read_bytes())
        spki = certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(spki).hexdigest()

    def serial(self, name: str) -> int:
        return x509.load_pem_x509_certificate(self.path(name).read_bytes()).serial_number

    def client_context(self, name: str | None = None) -> ssl.SSLContext:
        """A client's context that trusts ca.pem, and shows the certificate NAME if one is given."""
        context = ssl.create_default_context(cafile=str(self.path("ca")))
        if name:
            context.load_cert_chain(self.path(name), self.key_path(name))
        return context

    def config(self, *more: str, server: str = "server", ca: bool = False) -> str:
        """The text of a tls block."""
        lines = [f'cert_file: "{self.path(server)}"', f'key_file: "{self.key_path(server)}"']
        if ca:
            lines.append(f'ca_file: "{self.path("ca")}"')
        return "tls {\n" + "\n".join([*lines, *more]) + "\n}\n"
