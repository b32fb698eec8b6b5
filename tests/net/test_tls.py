"""TLS without I/O, against a client of the standard library that has no socket either."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from natsc.config.options import TLSConfigOpts
from natsc.net.tls import (
    FEED_BYTES_MAX,
    HANDSHAKE_BYTES_MAX,
    RateLimiter,
    TLSConfigError,
    TLSError,
    TLSLayer,
    make_scratch,
    server_context,
)
from tests.certs import Authority, Pair

SCRATCH = make_scratch()


def options(authority: Authority, *pairs: Pair, **fields: object) -> TLSConfigOpts:
    if len(pairs) > 1:
        return TLSConfigOpts(certificates=[(pair.cert_file, pair.key_file) for pair in pairs], **fields)
    pair = pairs[0] if pairs else authority.server()
    return TLSConfigOpts(cert_file=pair.cert_file, key_file=pair.key_file, **fields)


def mutual(authority: Authority, **fields: object) -> TLSConfigOpts:
    return options(authority, verify=True, ca_file=authority.ca_file, **fields)


class Client:
    """The other end: a standard library client over memory buffers. `received` is the plaintext that came."""

    def __init__(
        self,
        authority: Authority,
        pair: Pair | None = None,
        *,
        name: str = "localhost",
        version: ssl.TLSVersion | None = None,
        ciphers: str = "",
        curve: str = "",
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.context = context = ssl.create_default_context(cafile=authority.ca_file)
        if pair is not None:
            context.load_cert_chain(pair.cert_file, pair.key_file)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if ciphers:
            context.set_ciphers(ciphers)
        if curve:
            context.set_ecdh_curve(curve)
        self.name = name
        self.received = b""
        self.goodbye = False
        self.open()

    def open(self, session: ssl.SSLSession | None = None) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.context.wrap_bio(self._in, self._out, server_hostname=self.name, session=session)
        self.handshake()

    def handshake(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return

    def take(self, ciphertext: bytes) -> None:
        """Receives; a failure of the server shows here as ssl.SSLError."""
        self._in.write(ciphertext)
        self.handshake()
        try:
            while data := self.tls.read(1 << 20):
                self.received += data
            self.goodbye = True
        except ssl.SSLWantReadError:
            return

    def write(self, plaintext: bytes) -> bytes:
        for at in range(0, len(plaintext), 16384):
            self.tls.write(plaintext[at : at + 16384])
        return self.output()

    def output(self) -> bytes:
        return self._out.read()


def connect(server: ssl.SSLContext | TLSConfigOpts, client: Client, step: int = FEED_BYTES_MAX) -> TLSLayer:
    """Shakes hands, `step` bytes at a time towards the server."""
    layer = TLSLayer(server if isinstance(server, ssl.SSLContext) else server_context(server), SCRATCH)
    for _ in range(4):
        data = client.output()
        for at in range(0, len(data), step):
            assert not layer.feed(data[at : at + step])
        client.take(layer.take_output())
    assert layer.handshake_done
    return layer


# Data


@pytest.mark.parametrize("step", [1, FEED_BYTES_MAX])
def test_plaintext_goes_both_ways(authority: Authority, step: int) -> None:
    client = Client(authority)
    layer = connect(options(authority), client, step)
    data = client.write(b"PING\r\n")
    assert b"".join(bytes(layer.feed(data[at : at + step])) for at in range(0, len(data), step)) == b"PING\r\n"
    layer.write(b"PONG\r\n")
    client.take(layer.take_output())
    assert client.received == b"PONG\r\n"


def test_nothing_is_to_be_sent_when_nothing_was_written(authority: Authority) -> None:
    layer = connect(options(authority), Client(authority))
    assert layer.take_output() == b""


def test_data_that_comes_with_the_end_of_the_handshake_is_not_lost(authority: Authority) -> None:
    client = Client(authority)
    layer = TLSLayer(server_context(options(authority)), SCRATCH)
    layer.feed(client.output())
    client.take(layer.take_output())
    assert bytes(layer.feed(client.output() + client.write(b"CONNECT {}\r\n"))) == b"CONNECT {}\r\n"


def test_much_data_in_one_go(authority: Authority) -> None:
    client = Client(authority)
    layer = connect(options(authority), client)
    payload = bytes(range(256)) * 960
    ciphertext = client.write(payload)
    assert len(ciphertext) <= FEED_BYTES_MAX
    assert layer.feed(ciphertext) == payload
    layer.write(payload * 4)
    client.take(layer.take_output())
    assert client.received == payload * 4


def test_broken_ciphertext_is_an_error(authority: Authority) -> None:
    client = Client(authority)
    layer = connect(options(authority), client)
    data = bytearray(client.write(b"PING\r\n"))
    data[-1] ^= 1
    with pytest.raises(TLSError):
        layer.feed(data)


def test_peer_says_goodbye(authority: Authority) -> None:
    client = Client(authority)
    layer = connect(options(authority), client)
    data = client.write(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    assert bytes(layer.feed(data + client.output())) == b"last"
    assert layer.peer_closed


def test_server_says_goodbye(authority: Authority) -> None:
    client = Client(authority)
    layer = connect(options(authority), client)
    layer.write(b"last")
    layer.close_notify()
    client.take(layer.take_output())
    assert client.received == b"last" and client.goodbye


def test_goodbye_before_the_handshake_is_nothing(authority: Authority) -> None:
    layer = TLSLayer(server_context(options(authority)), SCRATCH)
    layer.close_notify()
    assert layer.take_output() == b""


# Handshakes that fail


@pytest.mark.parametrize("step", [1, FEED_BYTES_MAX])
@pytest.mark.parametrize("data", [b"CONNECT {}\r\n", b"\x00\x00\x00\x00\x00", b"\x16\x43\x43\x43\x43"])
def test_what_is_no_tls_is_a_probe(authority: Authority, data: bytes, step: int) -> None:
    layer = TLSLayer(server_context(options(authority)), SCRATCH)
    with pytest.raises(TLSError, match=r"^tls: first record does not look like a TLS handshake$") as error:
        for at in range(0, len(data), step):
            layer.feed(data[at : at + step])
    assert error.value.probe
    assert layer.take_output() == b""


def test_sslv2(authority: Authority) -> None:
    layer = TLSLayer(server_context(options(authority)), SCRATCH)
    with pytest.raises(TLSError, match=r"^tls: unsupported SSLv2 handshake received$"):
        layer.feed(b"\x80\x2e\x01\x00\x02")


def test_an_endless_handshake_ends(authority: Authority) -> None:
    layer = TLSLayer(server_context(options(authority)), SCRATCH)
    fragment = b"\x16\x03\x01\x40\x00" + b"\x01\x02\x00\x00" + bytes(0x4000 - 4)
    with pytest.raises(TLSError):
        for _ in range(HANDSHAKE_BYTES_MAX // len(fragment) + 2):
            layer.feed(fragment)
            fragment = b"\x16\x03\x01\x40\x00" + bytes(0x4000)


def handshake_failure(server: TLSConfigOpts, client: Client) -> tuple[str, str]:
    """The server's text, and the reason that the client is given."""
    layer = TLSLayer(server_context(server), SCRATCH)
    with pytest.raises(TLSError) as server_error:
        for _ in range(4):
            layer.feed(client.output())
            client.take(layer.take_output())
    with pytest.raises(ssl.SSLError) as client_error:
        client.take(layer.take_output())
    return str(server_error.value), str(client_error.value.reason)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_without_certificate(authority: Authority, version: ssl.TLSVersion) -> None:
    text, alert = handshake_failure(mutual(authority), Client(authority, version=version))
    assert text == "tls: client didn't provide a certificate"
    assert alert in ("SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV13_ALERT_CERTIFICATE_REQUIRED")


def test_certificate_of_a_stranger(authority: Authority) -> None:
    text, alert = handshake_failure(mutual(authority), Client(authority, Authority(subject="stranger").client()))
    assert text == "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    assert alert == "TLSV1_ALERT_UNKNOWN_CA"


def test_expired_certificate(authority: Authority) -> None:
    text, alert = handshake_failure(mutual(authority), Client(authority, authority.client(expired=True)))
    assert text == "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"
    assert alert == "SSLV3_ALERT_CERTIFICATE_EXPIRED"


def test_server_certificate_is_no_client_certificate(authority: Authority) -> None:
    text, _ = handshake_failure(mutual(authority), Client(authority, authority.server()))
    assert text == "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage"


def test_client_that_does_not_trust_the_server(authority: Authority) -> None:
    client = Client(Authority(subject="other"))
    layer = TLSLayer(server_context(options(authority)), SCRATCH)
    layer.feed(client.output())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.take(layer.take_output())
    with pytest.raises(TLSError, match=r"^remote error: tls: unknown certificate authority$"):
        layer.feed(client.output())


def test_client_that_is_too_old(authority: Authority) -> None:
    text, alert = handshake_failure(
        options(authority, min_version="1.3"), Client(authority, version=ssl.TLSVersion.TLSv1_2)
    )
    assert text == "tls: client offered only unsupported versions"
    assert alert == "TLSV1_ALERT_PROTOCOL_VERSION"


# What is agreed on


def test_names_of_tls_1_3(authority: Authority) -> None:
    layer = connect(options(authority), Client(authority, version=ssl.TLSVersion.TLSv1_3))
    assert layer.version() == "1.3"
    assert layer.cipher() in ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")


def test_names_of_tls_1_2_and_the_preferred_suite(authority: Authority) -> None:
    layer = connect(options(authority), Client(authority, version=ssl.TLSVersion.TLSv1_2))
    assert layer.version() == "1.2"
    assert layer.cipher() == "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"


def test_configured_suites(authority: Authority) -> None:
    server = options(authority, ciphers=["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"])
    layer = connect(server, Client(authority, version=ssl.TLSVersion.TLSv1_2))
    assert layer.cipher() == "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    client = Client(authority, version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256")
    text, _ = handshake_failure(server, client)
    assert text == "tls: no cipher suite supported by both client and server"


def test_tls_1_3_suites_alone_leave_tls_1_2_out(authority: Authority) -> None:
    context = server_context(options(authority, ciphers=["TLS_AES_128_GCM_SHA256"]))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3


def test_suites_that_openssl_no_longer_has(authority: Authority) -> None:
    with pytest.raises(TLSConfigError, match=r"not supported by OpenSSL .*: TLS_RSA_WITH_RC4_128_SHA"):
        server_context(options(authority, ciphers=["TLS_RSA_WITH_RC4_128_SHA"]))


def test_the_first_curve_preference_counts(authority: Authority) -> None:
    server = options(authority, curve_preferences=["CurveP384", "CurveP256"])
    connect(server, Client(authority, curve="secp384r1"))
    handshake_failure(server, Client(authority, curve="X25519"))


def test_curves_that_openssl_does_not_have_are_skipped(authority: Authority) -> None:
    server = options(authority, curve_preferences=["SecP256r1MLKEM768", "CurveP521"])
    connect(server, Client(authority, curve="secp521r1"))


# Certificates


def test_peer_certs_are_those_of_the_client(authority: Authority) -> None:
    pair = authority.client("me")
    layer = connect(mutual(authority), Client(authority, pair))
    assert layer.peer_certs() == [pair.der, authority.pair.der]


def test_no_peer_certs_without_verify(authority: Authority) -> None:
    assert connect(options(authority), Client(authority, authority.client())).peer_certs() == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_has_the_client_certificate_too(authority: Authority, version: ssl.TLSVersion) -> None:
    context = server_context(mutual(authority))
    pair = authority.client("me")
    client = Client(authority, pair, version=version)
    connect(context, client)
    client.open(session=client.tls.session)
    layer = connect(context, client)
    assert client.tls.session_reused
    assert layer.peer_certs() == [pair.der]


def test_pinned_certificates(authority: Authority) -> None:
    import hashlib

    pair = authority.client()
    spki = pair.key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key_id = hashlib.sha256(spki).hexdigest()
    layer = connect(mutual(authority), Client(authority, pair))
    lines: list[str] = []
    layer.require_pinned({key_id}, lines.append)
    with pytest.raises(TLSError, match=r"^certificate not pinned$"):
        layer.require_pinned({"00" * 32}, lines.append)
    assert lines == [f"Failed pinned cert test for key id: {key_id}"]


def test_pinned_certificates_need_a_certificate(authority: Authority) -> None:
    lines: list[str] = []
    with pytest.raises(TLSError, match=r"^certificate not pinned$"):
        connect(options(authority), Client(authority)).require_pinned({"00" * 32}, lines.append)
    assert lines == ["Failed pinned cert test as client did not provide a certificate"]


def server_names(client: Client) -> list[str]:
    der = client.tls.getpeercert(binary_form=True)
    assert der is not None
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize(
    ("asked", "expected"), [("a.example", "a.example"), ("b.example", "b.example"), ("x.c.example", "*.c.example")]
)
def test_the_certificate_is_chosen_by_name(authority: Authority, asked: str, expected: str) -> None:
    pairs = [authority.server(name) for name in ("a.example", "b.example", "*.c.example")]
    client = Client(authority, name=asked)
    connect(options(authority, *pairs), client)
    assert server_names(client) == [expected]


def test_the_first_certificate_is_for_unknown_names(authority: Authority) -> None:
    pairs = [authority.server(name) for name in ("a.example", "b.example")]
    client = Client.__new__(Client)
    client.context = ssl.create_default_context(cafile=authority.ca_file)
    client.context.check_hostname = False
    client.name, client.received, client.goodbye = "elsewhere", b"", False
    client.open()
    connect(options(authority, *pairs), client)
    assert server_names(client) == ["a.example"]


# Configuration that can't be used


def test_missing_halves_of_a_pair(authority: Authority) -> None:
    pair = authority.server()
    with pytest.raises(TLSConfigError, match=r"^missing 'key_file' in TLS configuration$"):
        server_context(TLSConfigOpts(cert_file=pair.cert_file))
    with pytest.raises(TLSConfigError, match=r"^missing 'cert_file' in TLS configuration$"):
        server_context(TLSConfigOpts(key_file=pair.key_file))


def test_key_of_another_certificate(authority: Authority) -> None:
    cert_file, key_file = authority.server().cert_file, authority.server().key_file
    with pytest.raises(TLSConfigError) as error:
        server_context(TLSConfigOpts(cert_file=cert_file, key_file=key_file))
    assert str(error.value) == ("error parsing X509 certificate/key pair: tls: private key does not match public key")


def test_files_that_are_not_there(authority: Authority) -> None:
    pair = authority.server()
    with pytest.raises(TLSConfigError) as error:
        server_context(TLSConfigOpts(certificates=[(pair.cert_file, pair.key_file), ("/nope", pair.key_file)]))
    assert str(error.value) == ("error parsing X509 certificate/key pair 2/2: open /nope: no such file or directory")
    with pytest.raises(TLSConfigError, match=r"^open /nope: no such file or directory$"):
        server_context(options(authority, ca_file="/nope"))


def test_an_authority_file_without_certificates(authority: Authority) -> None:
    with pytest.raises(TLSConfigError, match=r"^failed to parse root ca certificate$"):
        server_context(options(authority, ca_file=authority.server().key_file))


def test_an_encrypted_key_is_refused_without_asking(authority: Authority) -> None:
    pair = authority.server()
    with open(pair.key_file, "wb") as file:
        file.write(
            pair.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
    with pytest.raises(TLSConfigError, match="failed to parse certificate or private key"):
        server_context(TLSConfigOpts(cert_file=pair.cert_file, key_file=pair.key_file))


def test_a_listener_without_certificate_fails_handshakes_alone(authority: Authority) -> None:
    handshake_failure(TLSConfigOpts(verify=True), Client(authority))


# Rate limit


def test_rate_limit_is_per_second() -> None:
    limiter = RateLimiter(2)
    second = 1_000_000_000
    assert [limiter.allow(now) for now in (0, 1, 2, second, second + 1, second + 2, second + 3)] == [
        True, True, False, False, True, True, False,
    ]  # fmt: skip
    assert limiter.take_blocked() == 3
    assert limiter.take_blocked() == 0
