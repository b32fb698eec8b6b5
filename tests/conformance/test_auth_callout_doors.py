"""auth_callout through every door, with what TLS knows of a peer; and encrypted."""

from __future__ import annotations

import ssl

import pytest
from nacl.exceptions import CryptoError
from nacl.public import Box
from nacl.secret import SecretBox

from .callout import ISSUER, Service, XKey, response, user
from .test_auth_callout import STRANGER, VIOLATION, account_of, check_refused, config, into
from .test_auth_callout import serve as serve  # a fixture
from .test_websocket import Door, frame

CURVE = XKey("service")
# The key of a box whose two keys share nothing but zeros: HSalsa20 of zeros.
EVERYBODYS_KEY = bytes.fromhex("351f86faa3b988468a850122b65b0acece9c4826806aeee63de9c0da2bd7f91e")


class TestDoors:
    TLS = """
        tls {{ cert_file: "{0}/server.pem", key_file: "{0}/server-key.pem", ca_file: "{0}/ca.pem", {1} }}
    """

    def login(self, server, dial, certificates, name=""):
        context = ssl.create_default_context(cafile=certificates.path("ca"))
        if name:
            context.load_cert_chain(certificates.path(name), certificates.key_path(name))
        wire = dial(server)
        wire.start_tls(context)
        return wire

    def service(self, server, dial, certificates, handler, name=""):
        wire = self.login(server, dial, certificates, name)
        return Service(wire.connect(user="auth", **{"pass": "p"}), handler)

    def test_tls(self, start, dial, certificates):
        server = start(config(more=self.TLS.format(certificates.folder, "")))
        service = self.service(server, dial, certificates, into("BAR"))
        wire = self.login(server, dial, certificates).ready(user="u")
        told = service.wait().nats["client_tls"]
        assert set(told) == {"version", "cipher"}
        entry = server.connz(f"cid={wire.cid}")[0]
        assert (told["version"], told["cipher"]) == (entry["tls_version"], entry["tls_cipher_suite"])
        service.close()

    def test_a_verified_certificate(self, start, dial, certificates):
        server = start(config(more=self.TLS.format(certificates.folder, "verify: true")))
        service = self.service(server, dial, certificates, into("BAR"), "client")
        self.login(server, dial, certificates, "client-two").ready(user="u")
        told = service.wait().nats["client_tls"]
        assert "certs" not in told
        own, authority = certificates.path("client-two").read_text(), certificates.path("ca").read_text()
        assert told["verified_chains"] == [[own, authority]]
        service.close()

    def test_a_mapped_certificate(self, start, dial, certificates):
        """Its user is the one that is asked about; without a user it is nobody's."""
        tls = self.TLS.format(certificates.folder, "verify_and_map: true")
        service = "CN=client,O=natsc tests"
        users = f'users [ {{user: "{service}"}}, {{user: "alice@example.com"}} ]'
        callout = f'auth_callout {{ issuer: {ISSUER}, account: AUTH, auth_users: ["{service}"] }}'
        server = start(f"accounts {{ AUTH {{ {users} }}\nBAR {{}} }}\nauthorization {{ {callout} }}\n{tls}")
        wire = self.login(server, dial, certificates, "client")
        service = Service(wire.connect(), into("BAR"))
        assert account_of(self.login(server, dial, certificates, "client-email").ready())["account"] == "BAR"
        assert service.wait().options["user"] == "alice@example.com"
        assert account_of(self.login(server, dial, certificates, "client-two").ready())["account"] == "BAR"
        assert "user" not in service.wait(2).options
        service.close()

    def test_websocket(self, start, serve, dial):
        server = start(config(more="websocket { listen: '127.0.0.1:-1', no_tls: true }"))
        service = serve(server, into("BAR"))
        port = int(server.wait_log(r"Listening for websocket clients on ws://.*:(\d+)$")[1])
        door = Door(port)
        assert door.frame()[1].startswith(b"INFO ")
        door.sock.sendall(frame(1, b'CONNECT {"user":"u","verbose":false}\r\nPING\r\n'))
        assert door.frame()[1] == b"PONG\r\n"
        assert service.wait().client["type"] == "websocket"
        door.sock.sendall(frame(1, b'CONNECT {"user":"u","verbose":false}\r\nPING\r\n'))
        assert door.frame()[1] == b"PONG\r\n"

    def test_cookies_of_a_websocket(self, start, serve, dial):
        more = "websocket { listen: '127.0.0.1:-1', no_tls: true, user_cookie: cu, pass_cookie: cp }"
        server = start(config(more=more))
        service = serve(server, lambda asked: b"")
        port = int(server.wait_log(r"Listening for websocket clients on ws://.*:(\d+)$")[1])
        door = Door(port, Cookie="cu=cookie; cp=monster")
        assert door.frame()[1].startswith(b"INFO ")
        door.sock.sendall(frame(1, b'CONNECT {"verbose":false}\r\nPING\r\n'))
        assert door.frame()[1] == VIOLATION + b"\r\n"
        assert service.wait().options == {"user": "cookie", "pass": "monster", "protocol": 0}

    def test_a_websockets_own_user(self, start, dial):
        """The service may be the user of that door."""
        websocket = "websocket { listen: '127.0.0.1:-1', no_tls: true, authorization { username: auth, password: p } }"
        callout = f"authorization {{ timeout: 5s, auth_callout {{ issuer: {ISSUER}, auth_users: [auth] }} }}"
        server = start(f"{callout}\n{websocket}")
        port = int(server.wait_log(r"Listening for websocket clients on ws://.*:(\d+)$")[1])
        for password, said in ((b"p", b"PONG\r\n"), (b"no", VIOLATION + b"\r\n")):
            door = Door(port)
            assert door.frame()[1].startswith(b"INFO ")
            login = b'CONNECT {"user":"auth","pass":"%b","verbose":false}\r\nPING\r\n' % password
            door.sock.sendall(frame(1, login))
            assert door.frame()[1] == said

    def test_connection_types(self, start, serve, dial):
        server = start(config())
        serve(server, into("BAR", allowed_connection_types=["WEBSOCKET", "STANDARD", "PIGEON"]))
        dial(server).ready(user="u")


class TestEncrypted:
    XKEY = f"xkey: {CURVE}"

    def test_the_request(self, shared_server, serve, dial):
        server = shared_server(config(self.XKEY))
        service = serve(server, into("BAR"), CURVE)
        wire = dial(server)
        wire.ready(user="u", **{"pass": "secret"})
        asked = service.wait()
        assert asked.headers.startswith(b"NATS/1.0\r\nNats-Server-Xkey: X")
        assert asked.server_xkey == wire.info["xkey"] == asked.nats["server_id"]["xkey"]
        assert asked.payload.startswith(b"xkv1")
        assert b"secret" not in asked.payload
        assert asked.options["pass"] == "secret"

    def test_an_encrypted_answer(self, shared_server, serve, dial):
        server = shared_server(config(self.XKEY))
        serve(server, lambda asked: CURVE.seal(into("BAR")(asked), asked.server_xkey), CURVE)
        assert account_of(dial(server).ready(user="u"))["account"] == "BAR"

    def test_an_encrypted_answer_needs_no_known_signer(self, shared_server, serve, dial):
        server = shared_server(config(self.XKEY))

        def answer(asked):
            plain = response(asked, jwt=user(asked, "BAR"), signer=STRANGER)
            return CURVE.seal(plain, asked.server_xkey)

        serve(server, answer, CURVE)
        assert account_of(dial(server).ready(user="u"))["account"] == "BAR"

    def test_the_user_in_it_does(self, shared_server, serve, dial):
        server = shared_server(config(self.XKEY))
        plain = lambda asked: response(asked, jwt=user(asked, "BAR", signer=STRANGER))  # noqa: E731
        serve(server, lambda asked: CURVE.seal(plain(asked), asked.server_xkey), CURVE)
        mark = len(server.log)
        wire = dial(server).connect(user="u")
        why = f'Wrong issuer for auth callout response on account "AUTH", expected "{ISSUER}" got "{STRANGER}"'
        check_refused(server, wire, why, mark)

    def test_a_plain_answer(self, shared_server, serve, dial):
        server = shared_server(config(self.XKEY))
        serve(server, into("BAR"), CURVE)
        assert account_of(dial(server).ready(user="u"))["account"] == "BAR"

    @pytest.mark.parametrize(("answer", "why"), [
        (lambda a: b"xkv1", "encrypted input is not valid"),
        (lambda a: b"xkv1" + bytes(100), "could not decrypt input"),
        (lambda a: b"xkv2" + bytes(100), "encrypted input wrong version"),
        (lambda a: XKey("stranger").seal(into("BAR")(a), a.server_xkey), "could not decrypt input"),
        (lambda a: CURVE.seal(into("BAR")(a), str(XKey("stranger"))), "could not decrypt input"),
        (lambda a: CURVE.seal(into("BAR")(a), a.server_xkey)[:-1], "could not decrypt input"),
    ], ids=[str(number) for number in range(6)])  # fmt: skip
    def test_answers_that_nobody_can_open(self, shared_server, serve, dial, answer, why):
        server = shared_server(config(self.XKEY))
        serve(server, answer, CURVE)
        mark = len(server.log)
        wire = dial(server).connect(user="u")
        check_refused(server, wire, f'Error decrypting auth callout response on account "AUTH": nkeys: {why}', mark)

    def test_cve_2023_46129(self, shared_server, serve, dial):
        """What is encrypted was once so for the all-zero key, and so for everybody: only the service can open it."""
        server = shared_server(config(self.XKEY))
        service = serve(server, into("BAR"), CURVE)
        dial(server).ready(user="u")
        sealed = service.wait().payload
        with pytest.raises(CryptoError):
            SecretBox(EVERYBODYS_KEY).decrypt(sealed[28:], sealed[4:28])
        for other in (XKey("stranger"), XKey("another")):
            with pytest.raises(CryptoError):
                Box(other.private, XKey._key(service.asked[0].server_xkey)).decrypt(sealed[28:], sealed[4:28])
        nonces = {service.asked[0].payload[4:28]}
        dial(server).ready(user="u")
        assert service.wait(2).payload[4:28] not in nonces
