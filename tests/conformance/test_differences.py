"""Where natsc differs from nats-server on purpose: what each of them does. docs/differences.md has the reasons.

Both are asked: a difference that goes away, on either side, fails here.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from cryptography import x509

from tests.jwts import account_jwt, user_jwt

from .test_jwt import ACCOUNT, OPERATOR, OPERATOR_JWT, SYSTEM, USER
from .test_jwt import config as jwt_config

MONITORING = "http: 127.0.0.1:-1\n"


class TestWhereReadsEnd:
    """nats-server's answers depend on how the input reaches it. What is sent with a PING comes in one read."""

    def test_what_follows_the_clients_own_err(self, server, server_kind, dial):
        expected = {"natsc": [], "nats-server": [b"MSG after.err 1 1\r\nx"]}
        listener = dial(server).ready().sub("after.err")
        listener.flush()
        wire = dial(server).ready().send(b"-ERR 'x'\r\nPUB after.err 1\r\nx\r\n")
        assert wire.eof() == []
        assert listener.flush() == expected[server_kind]

    def test_a_cr_in_arguments_that_come_in_two_reads(self, server, server_kind, dial):
        expected = {"natsc": [], "nats-server": [b"MSG ab 1 1\r\nx"]}
        wire = dial(server).ready().send(b"PING\r\nSUB a\r")
        wire.until_pong()
        assert wire.send(b"b 1\r\nPUB ab 1\r\nx\r\n").flush() == expected[server_kind]

    def test_a_cr_in_arguments_that_come_in_one_read(self, server, dial):
        wire = dial(server).ready().send(b"SUB a\rb 1\r\nPUB ab 1\r\nx\r\n")
        assert wire.flush() == []

    def test_an_invalid_subject_is_told_again_for_each_read_of_the_payload(self, server, server_kind, dial):
        wire = dial(server).ready(pedantic=True).send(b"PUB a..b 5\r\nhe")
        assert wire.line() == b"-ERR 'Invalid Publish Subject'"
        expected = {"natsc": [], "nats-server": [b"-ERR 'Invalid Publish Subject'"]}
        assert wire.send(b"llo\r\n").flush() == expected[server_kind]

    def test_hmsg_alone(self, start, server_kind, dial):
        """Nothing a client may send: refused at once, or with the next byte."""
        wire = dial(start(MONITORING)).ready().lines("HMSG a 1 0 0")
        if server_kind == "natsc":
            wire.send(b"x")
        assert wire.eof() == [b"-ERR 'Unknown Protocol Operation'"]


class TestReload:
    def test_users_that_became_one_user(self, start, server_kind, dial):
        """nats-server goes on with the table of users that the file no longer has."""
        server = start(MONITORING + 'authorization { users [{user: old, password: "p"}] }\n')
        wire = dial(server).ready(user="old", **{"pass": "p"})
        server.reload(MONITORING + 'authorization { user: new, password: "q" }\n')
        old, new = dial(server).connect(user="old", **{"pass": "p"}), dial(server).connect(user="new", **{"pass": "q"})
        refused = [b"-ERR 'Authorization Violation'"]
        if server_kind == "natsc":
            assert (wire.eof(), old.eof(), new.flush()) == ([], refused, [])
        else:
            assert (wire.flush(), old.flush(), new.eof()) == ([], [], refused)

    def test_a_flag_that_the_file_does_not_repeat(self, start, server_kind):
        server = start(MONITORING, "--name", "n")
        failed = r"config reload not supported for ServerName: old=n, new=$"
        server.reload(MONITORING, failed if server_kind == "nats-server" else "Reloaded server configuration")


def certificate_request(flight: bytes) -> bytes:
    """The message of a TLS 1.2 handshake in which a server asks for the client's certificate."""
    messages = b""
    while flight:
        size = 5 + int.from_bytes(flight[3:5], "big")
        messages += flight[5:size]
        flight = flight[size:]
    while messages:
        size = 4 + int.from_bytes(messages[1:4], "big")
        if messages[0] == 13:
            return messages[:size]
        messages = messages[size:]
    raise AssertionError("the server asks for no certificate")


class TestTLS:
    def test_names_of_authorities_are_not_sent(self, start, server_kind, dial, certificates):
        """In TLS 1.2 the server's part of the handshake is plain: its certificates and whose it takes of the client."""
        config = certificates.config(f"verify: true, ca_file: '{certificates.path('ca')}'")
        wire = dial(start(MONITORING + config))
        context = certificates.client_context("client")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        output = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), output, server_hostname="127.0.0.1").do_handshake()
        wire.send(output.read())
        flight = b""
        while not flight.endswith(b"\x0e\0\0\0"):
            flight += wire.sock.recv(65536)
        authority = x509.load_pem_x509_certificate(certificates.path("ca").read_bytes()).subject.public_bytes()
        assert (authority in certificate_request(flight)) == (server_kind == "nats-server")

    def test_a_refused_certificate_is_not_named_in_the_log(self, start, server_kind, dial, certificates):
        server = start(MONITORING + certificates.config(f"verify: true, ca_file: '{certificates.path('ca')}'"))
        wire = dial(server)
        with contextlib.suppress(ssl.SSLError, OSError):
            wire.start_tls(certificates.client_context("client-stranger"))
            wire.eof()
        text = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        named = {"natsc": "$", "nats-server": r" \(CN=client,O=natsc tests SHA-256: [0-9a-f]{64}\)$"}
        server.wait_log(f"TLS handshake error: {text}{named[server_kind]}")


class TestMonitoring:
    def test_of_the_root_page_the_links_are_the_same(self, server, server_kind):
        assert (b"<title>natsc</title>" in server.get("/").body) == (server_kind == "natsc")

    def test_arguments_are_not_shown(self, server, server_kind):
        shown = server.get("/debug/vars").json()["cmdline"]
        assert (len(shown) == 1) == (server_kind == "natsc")

    def test_statistics_of_a_go_program(self, server, server_kind):
        expected = {"natsc": 5, "nats-server": 32}
        assert len(server.get("/debug/vars").json()["memstats"]) == expected[server_kind]

    def test_internal_queues(self, server, server_kind):
        assert (server.get("/ipqueuesz?all=1").json() == {}) == (server_kind == "natsc")

    def test_fan_out_is_not_kept(self, start, server_kind, dial):
        server = start(MONITORING)
        dial(server).ready().sub("foo").pub("foo", "x").flush()
        shown = server.get("/subsz").json()
        assert (shown["max_fanout"] == 0) == (server_kind == "natsc")

    def test_the_servers_own_subscriptions(self, start, server_kind):
        number = start(MONITORING).get("/subsz").json()["num_subscriptions"]
        assert 0 < number < 60 if server_kind == "natsc" else number >= 60

    def test_a_big_head(self, server, server_kind):
        expected = {"natsc": b"431", "nats-server": b"200"}
        with socket.create_connection(("127.0.0.1", server.http_port), 5) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000 + b"\r\n\r\n")
            assert sock.recv(12).split()[1] == expected[server_kind]

    def test_a_length_beside_a_transfer_encoding(self, server, server_kind):
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
        both = request + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        expected = {"natsc": 1, "nats-server": 2}
        with socket.create_connection(("127.0.0.1", server.http_port), 5) as sock:
            sock.sendall(both + request + b"Connection: close\r\n\r\n")
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.count(b"HTTP/1.1 200") == expected[server_kind]


class TestTokens:
    """Operator mode: nats-server writes JWTs into its log when it traces, and shows those that it refused."""

    def config(self):
        return jwt_config(account_jwt(ACCOUNT, OPERATOR)) + "debug: true\ntrace: true\n"

    def test_jwts_in_a_trace(self, start, server_kind, dial):
        server = start(self.config())
        token = user_jwt(USER, ACCOUNT, bearer_token=True)
        assert dial(server).connect(jwt=token).flush() == []
        server.wait_log("CONNECT")
        assert (token in "\n".join(server.log)) == (server_kind == "nats-server")

    def test_what_is_no_jwt_in_connz(self, start, server_kind, dial):
        server = start(self.config())
        wire = dial(server).connect(jwt="apassword", sig="x")
        wire.eof()
        assert server.closed(wire.cid).get("jwt") == {"natsc": None, "nats-server": "apassword"}[server_kind]

    def test_permissions_that_are_no_subjects(self, start, server_kind, dial):
        """nats-server leaves them out, and so allows what was to be denied."""
        server = start(self.config())
        wire = dial(server)
        token = user_jwt(USER, ACCOUNT, pub={"deny": ["a.>.b", "secret\t"]})
        wire.connect(jwt=token, sig=USER.sign(wire.info["nonce"])).lines("PING")
        assert wire.line() == {"natsc": b"-ERR 'Authorization Violation'", "nats-server": b"PONG"}[server_kind]

    def test_nobody_to_ask_for_an_account(self, start, server_kind, dial, tmp_path):
        """A cache that is alone waits for nobody."""
        timeout = "10s" if server_kind == "natsc" else "100ms"
        system = f"resolver_preload {{ {SYSTEM}: {account_jwt(SYSTEM, OPERATOR)} }}"
        server = start(
            f'operator: {OPERATOR_JWT}\nresolver {{ type: cache, dir: "{tmp_path}", timeout: "{timeout}" }}\n{system}'
        )
        wire = dial(server)
        wire.connect(jwt=user_jwt(USER, ACCOUNT), sig=USER.sign(wire.info["nonce"]))
        assert wire.eof() == [b"-ERR 'Authorization Violation'"]
        expected = {"natsc": "account jwt not found", "nats-server": "fetching jwt timed out"}[server_kind]
        server.wait_log(f"Account fetch failed: {expected}")

    def test_files_that_changed_before_a_reload(self, start, server_kind, dial, tmp_path):
        """nats-server lets those who are there stay."""
        operator = f'operator: {OPERATOR_JWT}\nresolver {{ type: full, dir: "{tmp_path}" }}\n'
        conf = f"{operator}resolver_preload {{ {SYSTEM}: {account_jwt(SYSTEM, OPERATOR)} }}\n"
        (tmp_path / f"{ACCOUNT}.jwt").write_text(account_jwt(ACCOUNT, OPERATOR))
        server = start(conf)
        wire = dial(server)
        wire.connect(jwt=user_jwt(USER, ACCOUNT, claims={"iat": 5}), sig=USER.sign(wire.info["nonce"]))
        assert wire.flush() == []
        (tmp_path / f"{ACCOUNT}.jwt").write_text(account_jwt(ACCOUNT, OPERATOR, revocations={"*": 6}))
        server.reload(conf)
        if server_kind == "natsc":
            assert wire.eof() == [b"-ERR 'User Authentication Revoked'"]
        else:
            assert wire.flush() == []
