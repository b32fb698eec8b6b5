"""TLS on the client port: when the handshake comes, which certificates are asked for, and what a failure looks like."""

from __future__ import annotations

import socket
import ssl

import pytest

MONITOR = "http: 127.0.0.1:-1\n"


def refused(wire, context) -> None:
    """The handshake fails, or the connection is closed right after it (TLS 1.3 tells a client late)."""
    try:
        wire.start_tls(context)
        assert wire.connect().eof() == []
    except (ssl.SSLError, ConnectionError):
        pass


class TestRequired:
    @pytest.fixture
    def server(self, shared_server, certificates):
        return shared_server(MONITOR + certificates.config())

    def test_info_says_so(self, server, dial):
        info = dial(server).info
        assert info["tls_required"] is True
        assert "tls_verify" not in info
        assert "tls_available" not in info

    def test_upgrade_after_info(self, server, dial, certificates):
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        assert wire.ready().sub("foo").pub("foo", "x").flush() == [b"MSG foo 1 1\r\nx"]

    def test_the_servers_certificate(self, server, dial, certificates):
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        assert int(wire.sock.getpeercert()["serialNumber"], 16) == certificates.serial("server")

    def test_connz_shows_version_and_cipher(self, server, dial, certificates):
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        wire.ready()
        entry = next(c for c in server.connz() if c["cid"] == wire.cid)
        assert entry["tls_version"] == "1.3"
        assert entry["tls_cipher_suite"].startswith("TLS_")
        assert "tls_first" not in entry

    def test_tls_1_2(self, server, dial, certificates):
        context = certificates.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        wire = dial(server)
        wire.start_tls(context)
        wire.ready()
        entry = next(c for c in server.connz() if c["cid"] == wire.cid)
        assert (entry["tls_version"], entry["tls_cipher_suite"]) == ("1.2", wire_cipher(wire))

    def test_large_messages(self, server, dial, certificates):
        one, two = dial(server), dial(server)
        for wire in (one, two):
            wire.start_tls(certificates.client_context())
            wire.ready()
        two.sub("big").flush()
        payload = bytes(range(256)) * 1024
        for _ in range(20):
            one.pub("big", payload)
        assert all(op == b"MSG big 1 262144\r\n" + payload for op in two.ops(20))

    def test_plain_text_is_refused(self, server, dial):
        wire = dial(server).connect()
        assert b"CONNECT" not in b"".join(read_all(wire))
        assert server.closed(wire.cid)["reason"] == "TLS Handshake Failure"

    def test_garbage_is_refused(self, server, dial):
        wire = dial(server).send(b"\x16\x03\x01\x00\x05hello")
        read_all(wire)
        assert server.closed(wire.cid)["reason"] == "TLS Handshake Failure"

    def test_closed_in_the_middle_of_the_handshake(self, server, dial, certificates):
        wire = dial(server).send(b"\x16\x03\x01")
        wire.close()
        assert server.closed(wire.cid)["reason"] in ("TLS Handshake Failure", "Client Closed")

    def test_the_failure_is_logged(self, start, dial, certificates):
        server = start("debug: true\n" + certificates.config())
        wire = dial(server).connect()
        read_all(wire)
        server.wait_log(rf"\[DBG\] 127.0.0.1:\d+ - cid:{wire.cid} - TLS handshake error: ")

    def test_a_client_that_does_not_trust_it(self, server, dial):
        wire = dial(server)
        with pytest.raises(ssl.SSLCertVerificationError):
            wire.start_tls(ssl.create_default_context())
        assert server.closed(wire.cid)["reason"] == "TLS Handshake Failure"


def read_all(wire) -> list[bytes]:
    """What the server sends until it closes, line ends or not."""
    got = []
    wire.sock.settimeout(10)
    try:
        while data := wire.sock.recv(65536):
            got.append(data)
    except ConnectionResetError:
        pass
    return got


def wire_cipher(wire) -> str:
    """The name Go gives to the cipher suite that OpenSSL negotiated (TLS 1.2, ECDSA)."""
    return {
        "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    }[wire.sock.cipher()[0]]


class TestTimeout:
    def test_a_silent_client_is_closed(self, start, dial, certificates):
        server = start(MONITOR + certificates.config("timeout: 0.1"))
        wire = dial(server)
        assert wire.eof() in ([], [b"-ERR 'Secure Connection - TLS Required'"])
        assert server.closed(wire.cid)["reason"] == "TLS Handshake Failure"

    def test_with_authorization(self, start, dial, certificates):
        server = start("authorization { token: t, timeout: 0.1 }\n" + certificates.config())
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        assert wire.eof() == [b"-ERR 'Authentication Timeout'"]


class TestVerify:
    @pytest.fixture
    def server(self, shared_server, certificates):
        return shared_server(MONITOR + certificates.config("verify: true", ca=True))

    def test_info_says_so(self, server, dial):
        info = dial(server).info
        assert (info["tls_required"], info["tls_verify"]) == (True, True)

    def test_known_client(self, server, dial, certificates):
        wire = dial(server)
        wire.start_tls(certificates.client_context("client"))
        assert wire.connect().flush() == []

    def test_connz_shows_the_certificate(self, server, dial, certificates):
        wire = dial(server)
        wire.start_tls(certificates.client_context("client"))
        wire.ready()
        entry = next(c for c in server.connz("auth=1") if c["cid"] == wire.cid)
        peer = entry["tls_peer_certs"][0]
        assert peer["subject"] == "CN=client,O=natsc tests"
        assert peer["spki_sha256"] == certificates.pin("client")
        assert list(peer) == ["subject", "spki_sha256", "cert_sha256"]
        assert [cert["subject"] for cert in entry["tls_peer_certs"]] == [
            "CN=client,O=natsc tests",
            "CN=ca,O=natsc tests",
        ]

    @pytest.mark.parametrize("name", [None, "client-stranger"])
    def test_unknown_client(self, server, dial, certificates, name):
        wire = dial(server)
        refused(wire, certificates.client_context(name))
        assert server.closed(wire.cid)["reason"] == "TLS Handshake Failure"


class TestVerifyAndMap:
    @pytest.fixture
    def server(self, shared_server, certificates):
        config = """
            authorization { users [
                {user: "CN=client,O=natsc tests", permissions {publish: "by.dn"}}
                {user: "alice@example.com", permissions {publish: "by.email"}}
                {user: "bee.example.com", permissions {publish: "by.dns"}}
                {user: "plain", password: "p", permissions {publish: "by.password"}}
            ] }
        """
        return shared_server(MONITOR + config + certificates.config("verify_and_map: true", ca=True))

    @pytest.mark.parametrize(
        ("name", "subject", "user"),
        [
            ("client", "by.dn", "CN=client,O=natsc tests"),
            ("client-email", "by.email", "alice@example.com"),
            ("client-dns", "by.dns", "bee.example.com"),
        ],
    )
    def test_the_certificate_names_the_user(self, server, dial, certificates, name, subject, user):
        wire = dial(server)
        wire.start_tls(certificates.client_context(name))
        wire.ready()
        assert wire.pub(subject).pub("other").flush() == [b"-ERR 'Permissions Violation for Publish to \"other\"'"]
        assert next(c for c in server.connz("auth=1") if c["cid"] == wire.cid)["authorized_user"] == user

    def test_a_certificate_of_nobody(self, server, dial, certificates):
        wire = dial(server)
        wire.start_tls(certificates.client_context("client-two"))
        assert wire.connect().eof() == [b"-ERR 'Authorization Violation'"]

    def test_no_certificate(self, server, dial, certificates):
        refused(dial(server), certificates.client_context())

    def test_a_user_of_a_certificate_has_no_password(self, shared_server, dial, certificates):
        config = 'authorization { users [ {user: "alice@example.com"} ] }\n'
        server = shared_server(config + certificates.config("verify_and_map: true", ca=True))
        wire = dial(server)
        wire.start_tls(certificates.client_context("client-two"))
        assert wire.connect(user="alice@example.com", **{"pass": ""}).eof() == [b"-ERR 'Authorization Violation'"]


class TestPinned:
    @pytest.fixture
    def server(self, shared_server, certificates):
        return shared_server(
            MONITOR + certificates.config(f'verify: true\npinned_certs: ["{certificates.pin("client")}"]', ca=True)
        )

    def test_pinned(self, server, dial, certificates):
        wire = dial(server)
        wire.start_tls(certificates.client_context("client"))
        assert wire.connect().flush() == []

    def test_not_pinned(self, server, dial, certificates):
        wire = dial(server)
        refused(wire, certificates.client_context("client-two"))
        assert server.closed(wire.cid)["reason"] == "TLS Handshake Failure"


class TestHandshakeFirst:
    def test_info_comes_inside_tls(self, shared_server, dial, certificates):
        server = shared_server(MONITOR + certificates.config("handshake_first: true"))
        wire = dial(server, read=False)
        wire.start_tls(certificates.client_context())
        assert wire.read_info()["tls_required"] is True
        wire.ready()
        assert next(c for c in server.connz() if c["cid"] == wire.cid)["tls_first"] is True

    def test_plain_text_is_refused(self, shared_server, dial, certificates):
        server = shared_server(MONITOR + certificates.config("handshake_first: true"))
        wire = dial(server, read=False).connect()
        assert not any(b"INFO" in data for data in read_all(wire))

    def test_silence_gets_no_info(self, start, dial, certificates):
        server = start(certificates.config("handshake_first: true\ntimeout: 0.2"))
        got = b"".join(read_all(dial(server, read=False)))
        assert b"INFO" not in got

    @pytest.mark.parametrize("value", ["auto", '"60ms"'])
    def test_fallback_after_a_delay(self, shared_server, dial, certificates, value):
        server = shared_server(MONITOR + certificates.config(f"handshake_first: {value}"))
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        assert wire.connect().flush() == []
        assert "tls_first" not in next(c for c in server.connz() if c["cid"] == wire.cid)

    @pytest.mark.parametrize("value", ["auto", '"10s"'])
    def test_no_fallback_for_those_who_begin(self, shared_server, dial, certificates, value):
        server = shared_server(MONITOR + certificates.config(f"handshake_first: {value}"))
        wire = dial(server, read=False)
        wire.start_tls(certificates.client_context())
        assert wire.read_info()["tls_required"] is True
        assert wire.connect().flush() == []


class TestAllowNonTLS:
    @pytest.fixture
    def server(self, shared_server, certificates):
        return shared_server(MONITOR + "allow_non_tls: true\n" + certificates.config())

    def test_info_says_so(self, server, dial):
        info = dial(server).info
        assert info["tls_available"] is True
        assert "tls_required" not in info

    def test_plain(self, server, dial):
        assert dial(server).connect().sub("foo").pub("foo").flush() == [b"MSG foo 1 0\r\n"]

    def test_encrypted(self, server, dial, certificates):
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        assert wire.connect().sub("foo").pub("foo").flush() == [b"MSG foo 1 0\r\n"]

    def test_one_byte_at_a_time(self, server, dial):
        wire = dial(server)
        for byte in b"PING\r\n":
            wire.send(bytes([byte]))
        assert wire.op() == b"PONG"

    def test_both_hear_each_other(self, server, dial, certificates):
        plain, encrypted = dial(server), dial(server)
        encrypted.start_tls(certificates.client_context())
        encrypted.ready().sub("both").flush()
        plain.ready().pub("both", "x")
        assert encrypted.op() == b"MSG both 1 1\r\nx"


class TestVersionsAndCiphers:
    def test_min_version(self, shared_server, dial, certificates):
        server = shared_server(MONITOR + certificates.config('min_version: "1.3"'))
        old = certificates.client_context()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        wire = dial(server)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            wire.start_tls(old)
        assert server.closed(wire.cid)["reason"] == "TLS Handshake Failure"
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        assert wire.connect().flush() == []

    def test_tls_1_1_is_refused(self, shared_server, dial, certificates):
        server = shared_server(MONITOR + certificates.config())
        old = certificates.client_context()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            dial(server).start_tls(old)

    def test_cipher_suites(self, shared_server, dial, certificates):
        server = shared_server(
            MONITOR + certificates.config('cipher_suites: ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]')
        )
        context = certificates.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        wire = dial(server)
        wire.start_tls(context)
        wire.ready()
        assert wire.sock.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"
        context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            dial(server).start_tls(context)

    def test_the_certificate_by_server_name(self, shared_server, dial, certificates):
        """A list of certificates: the first that fits."""
        text = f"""tls {{ certs: [
            {{cert_file: "{certificates.path("server")}", key_file: "{certificates.key_path("server")}"}}
            {{cert_file: "{certificates.path("client-dns")}", key_file: "{certificates.key_path("client-dns")}"}}
        ] }}"""
        server = shared_server(MONITOR + text)
        for name, certificate in (("localhost", "server"), ("bee.example.com", "client-dns")):
            wire = dial(server)
            wire.start_tls(certificates.client_context(), server_hostname=name)
            assert int(wire.sock.getpeercert()["serialNumber"], 16) == certificates.serial(certificate)


class TestRateLimit:
    def test_too_many_new_connections(self, start, dial, certificates):
        server = start(MONITOR + certificates.config("connection_rate_limit: 1"))
        wire = dial(server)
        wire.start_tls(certificates.client_context())
        wire.ready()
        got = read_all(dial(server, read=False))
        assert b"".join(got).endswith(b"-ERR 'Connection throttling is active. Please try again later.'\r\n")


class TestMonitoring:
    def test_https(self, start, certificates):
        server = start("https: 127.0.0.1:-1\n" + certificates.config())
        context = certificates.client_context()
        port = server.http_port
        with (
            socket.create_connection(("127.0.0.1", port), 10) as sock,
            context.wrap_socket(sock, server_hostname="127.0.0.1") as tls,
        ):
            tls.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            answer = b""
            while data := tls.recv(65536):
                answer += data
        assert answer.startswith(b"HTTP/1.0 200 OK\r\n") and answer.endswith(b'{"status":"ok"}')
