"""The monitoring port over TLS, and what it says to those who don't speak it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from natsc.config.options import TLSConfigOpts
from natsc.monitor import certs
from natsc.monitor.http import start_monitor
from tests.monitor.fakes import Account, Conn, Server

REQUEST = b"GET /connz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.ORGANIZATION_NAME, "Foo, Bar"),
        (NameOID.COMMON_NAME, "localhost"),
        (NameOID.EMAIL_ADDRESS, "x@y.z"),
    ]
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2049, 12, 31, 23, 59, 58, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificates")
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return cert_file, key_file


def secure_server(certificate: tuple[Path, Path], **values: Any) -> Server:
    tls = TLSConfigOpts()
    tls.cert_file, tls.key_file, tls.verify = str(certificate[0]), str(certificate[1]), True
    tls.ca_file = str(certificate[0])
    account = Account("A")
    clients = [Conn(cid, account, name="x" * 100) for cid in range(1, 501)]
    return Server(clients, accounts=[account], http_port=0, https_port=-1, tls_config=tls, **values)


def talk(server: Server, certificate: tuple[Path, Path], data: bytes, secure: bool) -> bytes:
    """Sends `data` to a monitor of `server`, and returns what it says until it closes."""

    async def main() -> bytes:
        monitor = await start_monitor(server, asyncio.get_running_loop())
        assert monitor is not None
        context = ssl.create_default_context(cafile=str(certificate[0])) if secure else None
        host = "localhost" if secure else None
        reader, writer = await asyncio.open_connection("127.0.0.1", monitor.port, ssl=context, server_hostname=host)
        writer.write(data)
        try:
            answer = await asyncio.wait_for(reader.read(), 10)
        except ConnectionResetError:
            answer = b""
        writer.close()
        monitor.close()
        return answer

    return asyncio.run(main())


def test_an_answer_over_tls(certificate: tuple[Path, Path]) -> None:
    server = secure_server(certificate)
    answer = talk(server, certificate, REQUEST, secure=True)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert answer.count(b'"cid"') == 500
    assert server.log.lines[0].startswith("INF Starting https monitor on 127.0.0.1:")
    assert len(server.log.lines) == 1


def test_plain_http_is_told_what_is_wrong(certificate: tuple[Path, Path]) -> None:
    server = secure_server(certificate)
    answer = talk(server, certificate, REQUEST, secure=False)
    assert answer == b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    assert server.log.lines[1].startswith("ERR monitoring: TLS handshake error from 127.0.0.1:")
    assert server.log.lines[1].endswith(": client sent an HTTP request to an HTTPS server")


@pytest.mark.parametrize("data", [b"NOPENOPE\r\n", b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\x00\x02\x01\x00" * 9])
def test_a_failed_handshake_is_logged_once(
    certificate: tuple[Path, Path], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("natsc.monitor.connection.HEADER_TIMEOUT", 0.2)
    server = secure_server(certificate)
    talk(server, certificate, data, secure=False)
    assert len(server.log.lines) == 2
    assert server.log.lines[1].startswith("ERR monitoring: TLS handshake error from 127.0.0.1:")


def test_the_certificates_of_a_reload_count_at_once(certificate: tuple[Path, Path]) -> None:
    from natsc.monitor.tls import LayerSource

    server = secure_server(certificate)
    source = LayerSource(server)
    first = source._context
    source()
    assert source._context is first
    server.options = SimpleNamespace(**vars(server.options))
    source()
    assert source._context is not first


def test_varz_shows_when_the_certificate_ends(certificate: tuple[Path, Path]) -> None:
    from natsc.monitor import varz

    assert list(varz.build(secure_server(certificate)).items())[-1] == ("tls_cert_not_after", "2049-12-31T23:59:58Z")


def test_a_certificate_that_cant_be_read_has_no_end(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert certs.not_after_of_file(str(broken), 1) == ""
    assert certs.not_after_of_file(str(tmp_path / "none.pem"), 1) == ""


def test_peer_certificates_are_described(certificate: tuple[Path, Path]) -> None:
    import hashlib

    der = ssl.PEM_cert_to_DER_cert(certificate[0].read_text())
    entry = certs.describe(der)
    assert list(entry) == ["subject", "spki_sha256", "cert_sha256"]
    assert entry["subject"] == r"CN=localhost,O=Foo\, Bar,C=US,1.2.840.113549.1.9.1=x@y.z"
    assert entry["cert_sha256"] == hashlib.sha256(der).hexdigest()
