"""Certificate and key files are read when the configuration is checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from natsc.config import ConfigError, process_config_string
from natsc.config.pem import blocks
from tests.certs import Authority

from .reference import comparable, natsc_says, reference_says, write


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with good and bad files, named for what they are."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory)
    pair, other = authority.server("localhost"), authority.server("other")
    cert, key = Path(pair.cert_file).read_bytes(), Path(pair.key_file).read_bytes()
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    contents = {
        "cert.pem": cert,
        "key.pem": key,
        "other-key.pem": Path(other.key_file).read_bytes(),
        "ca.pem": Path(authority.ca_file).read_bytes(),
        "rsa-key.pem": _private(rsa_key, serialization.NoEncryption()),
        "encrypted-key.pem": _private(
            ec.generate_private_key(ec.SECP256R1()), serialization.BestAvailableEncryption(b"x")
        ),
        "both.pem": cert + key,
        "key-first.pem": key + cert,
        "empty.pem": b"",
        "text.pem": b"this is no PEM\n",
        "broken-cert.pem": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "broken-base64.pem": b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        "broken-key.pem": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "public-key.pem": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        "unclosed.pem": b"-----BEGIN CERTIFICATE-----\nAAAA\n",
        "text-and-cert.pem": b"subject: x\n" + cert,
        "crlf-cert.pem": cert.replace(b"\n", b"\r\n"),
    }
    for name, data in contents.items():
        (directory / name).write_bytes(data)
    (directory / "directory.pem").mkdir()
    return directory


def _private(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, how: serialization.KeySerializationEncryption
) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


PAIRS = [
    ("cert.pem", "key.pem"),
    ("cert.pem", "other-key.pem"),
    ("cert.pem", "rsa-key.pem"),
    ("cert.pem", "nonesuch.pem"),
    ("nonesuch.pem", "key.pem"),
    ("directory.pem", "key.pem"),
    ("both.pem", "both.pem"),
    ("key-first.pem", "key-first.pem"),
    ("key.pem", "cert.pem"),
    ("cert.pem", "cert.pem"),
    ("key.pem", "key.pem"),
    ("empty.pem", "key.pem"),
    ("cert.pem", "empty.pem"),
    ("text.pem", "key.pem"),
    ("cert.pem", "text.pem"),
    ("broken-base64.pem", "key.pem"),
    ("unclosed.pem", "key.pem"),
    ("public-key.pem", "key.pem"),
    ("cert.pem", "public-key.pem"),
    ("text-and-cert.pem", "key.pem"),
    ("crlf-cert.pem", "key.pem"),
]
CONFIGS = [f"tls {{ cert_file: {cert}, key_file: {key} }}" for cert, key in PAIRS]
CONFIGS += [f"tls {{ ca_file: {name} }}" for name in ("ca.pem", "nonesuch.pem", "empty.pem", "text.pem", "both.pem")]
CONFIGS += [f"tls {{ ca_file: {name} }}" for name in ("broken-cert.pem", "key.pem", "directory.pem")]
CONFIGS += [
    "tls { certs: [ { cert_file: cert.pem, key_file: key.pem } ] }",
    "tls { certs: [ { cert_file: cert.pem, key_file: key.pem }, { cert_file: cert.pem, key_file: other-key.pem } ] }",
    "cluster { tls { cert_file: cert.pem, key_file: key.pem, ca_file: ca.pem } }",
    "cluster { tls { cert_file: cert.pem } }",
    "gateway { tls { cert_file: cert.pem, key_file: other-key.pem } }",
    "leafnodes { tls { key_file: key.pem } }",
    "leafnodes { remotes: [ { url: a, tls { cert_file: nonesuch.pem, key_file: key.pem } } ] }",
    "websocket { tls { cert_file: cert.pem, key_file: key.pem } }",
    "mqtt { tls { ca_file: nonesuch.pem } }",
    "resolver_tls { ca_file: ca.pem }",
]


@pytest.mark.parametrize("config", CONFIGS)
def test_same_words_as_nats_server(config: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    name = f"{CONFIGS.index(config)}.conf"
    write(name, config)
    assert comparable(natsc_says(name)) == comparable(reference_says(name))


def test_a_malformed_certificate_is_refused(files: Path) -> None:
    """Go says what is malformed; natsc only that it is."""
    with pytest.raises(ConfigError, match="error parsing X509 certificate/key pair: x509: malformed certificate"):
        process_config_string(f"tls {{ cert_file: '{files}/broken-cert.pem', key_file: '{files}/key.pem' }}")


@pytest.mark.parametrize("key", ["encrypted-key.pem", "broken-key.pem"])
def test_an_unreadable_key_is_refused(key: str, files: Path) -> None:
    """Go says why; natsc only that it is."""
    with pytest.raises(ConfigError, match="error parsing X509 certificate/key pair: tls: failed to parse private key"):
        process_config_string(f"tls {{ cert_file: '{files}/cert.pem', key_file: '{files}/{key}' }}")


def test_options_of_tls(files: Path) -> None:
    pin = "AB" * 32
    opts = process_config_string(
        f"""
        tls {{
          cert_file: '{files}/cert.pem', key_file: '{files}/key.pem', ca_file: '{files}/ca.pem'
          verify_and_map: true, timeout: "3s", pinned_certs: ["{pin}"], handshake_first: "300ms"
          cipher_suites: [TLS_AES_128_GCM_SHA256], curve_preferences: [X25519], min_version: "1.3"
          connection_rate_limit: 5
        }}
        """
    )
    tls = opts.tls_config
    assert tls is not None
    assert (tls.verify, tls.map, tls.min_version, tls.rate_limit) == (True, True, "1.3", 5)
    assert (tls.ciphers, tls.curve_preferences) == (["TLS_AES_128_GCM_SHA256"], ["X25519"])
    assert (opts.tls_timeout, opts.tls_map, opts.tls_pinned_certs) == (3.0, True, {pin.lower()})
    assert (opts.tls_handshake_first, opts.tls_handshake_first_fallback) == (True, 300_000_000)


def test_peers_of_a_cluster_always_show_certificates(files: Path) -> None:
    opts = process_config_string(f"cluster {{ tls {{ ca_file: '{files}/ca.pem' }} }}")
    assert opts.cluster.tls_config is not None
    assert opts.cluster.tls_config.client_auth_required


def test_pem_blocks() -> None:
    data = b"x\n-----BEGIN A-----\nAAEC\n-----END A-----\njunk\n-----BEGIN B C-----\nK: v\n\nAw==\n-----END B C-----"
    assert blocks(data) == [("A", b"\0\1\2"), ("B C", b"\3")]
