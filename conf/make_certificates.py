"""Makes what conf/tls.conf and conf/mutual_tls.conf need: an authority, and certificates for localhost and a client.

    python conf/make_certificates.py [folder]       (conf/certificates, unless given)

For trying things out: the keys aren't protected, and everything ends after a year.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

YEAR = datetime.timedelta(days=365)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(key.public_key())
    return made.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + YEAR)


def write(path: Path, data: bytes, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)


def save(folder: Path, stem: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None) -> None:
    write(folder / f"{stem}.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    if key is not None:
        pkcs8, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        write(folder / f"{stem}-key.pem", key.private_bytes(serialization.Encoding.PEM, pkcs8, plain), 0o600)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = builder("natsc example authority", "natsc example authority", authority_key)
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    save(folder, "ca", authority.sign(authority_key, hashes.SHA256()), None)

    local = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    for stem, common_name, names, usage in (
        ("server", "localhost", local, ExtendedKeyUsageOID.SERVER_AUTH),
        ("client", "client", [x509.RFC822Name("client@example.com")], ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        made = builder(common_name, "natsc example authority", key)
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        save(folder, stem, made.sign(authority_key, hashes.SHA256()), key)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "certificates")
