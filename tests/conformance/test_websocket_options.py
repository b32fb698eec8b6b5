"""The websocket block: options beyond the upgrade itself, what a reload may change, and what INFO says at this door."""

from __future__ import annotations

import json
import re
import ssl

import pytest

from .test_websocket import CONFIG, UPGRADE, Door, frame

LISTENING = r"Listening for websocket clients on wss?://127\.0\.0\.1:(\d+)"


def port_of(server) -> int:
    return int(server.wait_log(LISTENING)[1])


@pytest.fixture
def start_ws(start):
    def get(block: str = "", more: str = ""):
        server = start(CONFIG.replace("WEBSOCKET", block) + more)
        return server, port_of(server)

    return get


def later_info(door: Door, **fields: object) -> dict:
    """The INFO that answers a client's first PING."""
    door.frame()
    options = {"verbose": False, "protocol": 1, **fields}
    door.say(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
    heard = b""
    while (found := re.search(rb"INFO ({.*}) \r\n", heard)) is None:
        heard += door.frame()[1]
    return json.loads(found[1])


class TestPingInterval:
    def test_it_holds_for_websocket_clients_alone(self, start_ws, dial):
        server, port = start_ws('ping_interval: "100ms"')
        wire = dial(server).ready()
        wire.keep_pings = True
        door = Door(port)
        door.frame()
        door.say(b'CONNECT {"verbose":false}\r\n')
        for _ in range(3):
            assert door.frame()[1] == b"PING\r\n"
            door.say(b"PONG\r\n")
        assert wire.flush() == []

    def test_without_it_the_servers_holds(self, start_ws):
        _, port = start_ws("", 'ping_interval: "100ms"\n')
        door = Door(port)
        door.frame()
        assert door.say(b'CONNECT {"verbose":false}\r\n').frame()[1] == b"PING\r\n"

    def test_who_does_not_answer_is_stale(self, start_ws):
        _, port = start_ws('ping_interval: "50ms"')
        door = Door(port)
        door.frame()
        said = [payload for _, payload in door.say(b'CONNECT {"verbose":false}\r\n').end()]
        assert b"-ERR 'Stale Connection'\r\n" in b"".join(said) and said[-1] == b"\x03\xe9Stale Connection"


class TestInfo:
    def test_the_later_one_names_this_port_too(self, start_ws):
        _, port = start_ws()
        said = later_info(Door(port))
        assert (said["host"], said["port"], said["connect_info"]) == ("127.0.0.1", port, True)
        assert "tls_required" not in said and "connect_urls" not in said

    def test_an_address_for_others_that_is_none(self, start):
        server = start(CONFIG.replace("WEBSOCKET", "advertise: 'a:b:c'"), wait=False)
        assert server.wait() == 1
        assert any("[FTL] Unable to get websocket connect URLs: " in line for line in server.log)


class TestMasks:
    def test_none_where_both_agreed_on_that(self, start_ws):
        _, port = start_ws()
        door = Door(port, Nats_No_Masking="true")
        assert "\r\nNats-No-Masking: true\r\n" in door.head + "\r\n"
        door.frame()
        operations = b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 200\r\n' + b"x" * 200 + b"\r\nPING\r\n"
        door.send(b"\x82\x7e" + len(operations).to_bytes(2, "big") + operations)
        heard = b""
        while not heard.endswith(b"PONG\r\n"):
            heard += door.frame()[1]
        assert heard == b"MSG a 1 200\r\n" + b"x" * 200 + b"\r\nPONG\r\n"
        assert door.send(b"\x89\x03hey").frame() == (0x8A, b"hey")

    def test_it_takes_the_word_true(self, start_ws):
        _, port = start_ws()
        assert "Nats-No-Masking" not in Door(port, Nats_No_Masking="yes").head


class TestCookies:
    BLOCK = "user_cookie: u, pass_cookie: p, token_cookie: p"
    USERS = "authorization { users [{user: a, password: p}, {user: 'b c', password: p}] }\n"

    @pytest.mark.parametrize(
        ("cookie", "good"),
        [
            ("u=a; p=p", True),
            ('u="a"; p="p"', True),
            ("u=x; u=a; p=p", True),
            ("u=b c; p=p", True),
            ("u = a; p=p", False),
            ('u="a; p=p', False),
            ("U=a; p=p", False),
            ("u=a\\; p=p", False),
            ("p=p", False),
            ("", False),
        ],
    )
    def test_as_they_come(self, shared_server, cookie, good):
        server = shared_server(CONFIG.replace("WEBSOCKET", self.BLOCK) + self.USERS)
        door = Door(port_of(server), Cookie=cookie or None)
        door.frame()
        door.say(b'CONNECT {"verbose":false}\r\nPING\r\n')
        assert door.frame()[1] == (b"PONG\r\n" if good else b"-ERR 'Authorization Violation'\r\n")


class TestForwardedFor:
    @pytest.mark.parametrize(
        ("said", "shown"),
        [
            ("1.2.3.4", "1.2.3.4/"), ("::1", "[::1]/"), ("1.2.3.4, 5.6.7.8", ""), ("x", ""), ("fe80::1%a b", ""),
            ("01.2.3.4", ""),
        ],
    )  # fmt: skip
    def test_addresses_alone_count(self, shared_server, said, shown):
        server = shared_server(CONFIG.replace("WEBSOCKET", ""))
        door = Door(port_of(server), X_Forwarded_For=said)
        cid = json.loads(door.frame()[1][5:])["client_id"]
        line = server.wait_log(rf"(\S+) - wid:{cid} - Client connection created")
        assert line[1] == f"{shown}127.0.0.1:{door.sock.getsockname()[1]}"


CHANGES = {
    "port": ("", "port: 1"),
    "host": ("", "host: localhost"),
    "advertise": ("", "advertise: a"),
    "no_auth_user": ("", "no_auth_user: a"),
    "user_cookie": ("", "user_cookie: u"),
    "pass_cookie": ("pass_cookie: p", ""),
    "token_cookie": ("token_cookie: p", "token_cookie: q"),
    "auth timeout": ("", "authorization { timeout: 3 }"),
    "same_origin": ("", "same_origin: true"),
    "allowed_origins": ("", "allowed_origins: ['http://a']"),
    "compression": ("compression: true", "compression: false"),
    "handshake_timeout": ("", "handshake_timeout: 3s"),
    "ping_interval": ("", "ping_interval: 3s"),
    "headers": ("headers {a: b}", "headers {a: c}"),
}


class TestReload:
    REFUSED = r"Failed to reload server configuration: config reload not supported for Websocket: old=\{"

    USERS = "authorization { users [{user: a, password: p}] }\n"

    def config(self, block: str, tls: str = "no_tls: true") -> str:
        host = "" if block.startswith("host") else "host: 127.0.0.1\n"
        port = "" if block.startswith("port") else "port: -1\n"
        return f"websocket {{\n{host}{port}{tls}\n{block}\n}}\n{self.USERS}"

    @pytest.mark.parametrize("what", CHANGES)
    def test_nothing_but_certificates_may_change(self, start, what):
        before, after = CHANGES[what]
        server = start(self.config(before))
        server.reload(self.config(after), self.REFUSED)
        server.reload(self.config(before))

    def test_a_door_more_or_less(self, start):
        start(self.config("")).reload(self.USERS, self.REFUSED)
        start("").reload("websocket { listen: 127.0.0.1:-1, no_tls: true, compression: true }\n", self.REFUSED)

    def test_the_order_of_origins_is_no_change(self, start):
        server = start(self.config("allowed_origins: ['http://a', 'http://b']"))
        server.reload(self.config("allowed_origins: ['http://b', 'http://a']"))

    def test_credentials_of_the_door_are_not_told(self, start, server_kind):
        block = "websocket {{ listen: 127.0.0.1:-1, no_tls: true, authorization {{ user: a, password: {} }} }}\n"
        server = start(block.format("firstsecret"))
        log = "\n".join(server.reload(block.format("secondsecret"), self.REFUSED))
        told = "firstsecret" in log or "secondsecret" in log
        assert told == (server_kind == "nats-server")

    def test_certificates(self, start, certificates):
        server = start(self.config("", certificates.config()))
        port = port_of(server)
        assert self.serial(certificates, port) == certificates.serial("server")
        server.reload(self.config("", certificates.config(server="server-two")))
        assert self.serial(certificates, port) == certificates.serial("server-two")

    def test_tls_where_there_was_none(self, start, server_kind, certificates):
        """nats-server says that it has reloaded, and goes on without."""
        server = start(self.config(""))
        server.reload(self.config("", "no_tls: true\n" + certificates.config()))
        if server_kind == "natsc":
            assert self.serial(certificates, port_of(server)) == certificates.serial("server")
        else:
            assert Door(port_of(server)).status == 101

    def serial(self, certificates, port: int) -> int:
        from cryptography import x509

        with SecureDoor(port, certificates.client_context()) as door:
            assert door.status == 101
            info = json.loads(door.frame()[1][5:])
            assert (info["tls_required"], info["tls_available"], info["port"]) == (True, True, port)
            return x509.load_der_x509_certificate(door.sock.getpeercert(True)).serial_number


class TestCredentialsOfTheDoor:
    """A user of its own, whose password is a hash; it is compared on a thread."""

    BLOCK = "authorization { user: door, password: '$2a$04$dk.Uuy9uZ1lpI/BgAltqc.9EgVLzyve8tDL3Vd/RIkCXnjrON.fa6' }"

    @pytest.mark.parametrize("password", ["secret", "wrong"])
    @pytest.mark.parametrize("others", ["", "authorization { user: other, password: p }\n"])
    def test_a_hash(self, shared_server, password, others):
        server = shared_server(CONFIG.replace("WEBSOCKET", self.BLOCK) + others)
        door = Door(port_of(server))
        door.frame()
        door.say(b'CONNECT {"verbose":false,"user":"door","pass":"%s"}\r\nPING\r\n' % password.encode())
        assert door.frame()[1] == (b"PONG\r\n" if password == "secret" else b"-ERR 'Authorization Violation'\r\n")

    def test_it_stays_through_a_reload(self, start):
        users = "authorization { users [{user: a, password: p}] }\n"
        server = start(CONFIG.replace("WEBSOCKET", "no_auth_user: a") + users)
        door = Door(port_of(server))
        door.frame()
        door.say(b'CONNECT {"verbose":false}\r\n').hears()
        more = users.replace("]", ", {user: b, password: p}]")
        server.reload(CONFIG.replace("WEBSOCKET", "no_auth_user: a") + more)
        assert door.hears() == b""

    @pytest.mark.parametrize("compress", [None, "permessage-deflate"])
    def test_who_is_gone_after_a_reload_is_closed(self, start, compress):
        users = "authorization { users [{user: a, password: p}, {user: b, password: p}] }\n"
        config = CONFIG.replace("WEBSOCKET", "")
        server = start(config + users)
        port = port_of(server)
        doors = {}
        for name in ("a", "b"):
            doors[name] = Door(port, Sec_WebSocket_Extensions=compress)
            doors[name].frame()
            doors[name].say(b'CONNECT {"verbose":false,"user":"%s","pass":"p"}\r\n' % name.encode()).hears()
        server.reload(config + users.replace("{user: a, password: p}, ", ""))
        assert doors["a"].end()[-1][1] == b"\x03\xe8Client Closed"
        assert doors["b"].hears() == b""

    def test_pinned_certificates_of_the_others_do_not_count(self, start, certificates):
        def config(pin: str) -> str:
            tls = certificates.config("verify: true", f'pinned_certs: ["{certificates.pin(pin)}"]', ca=True)
            door = certificates.config("verify: true", ca=True)
            return f"{tls}websocket {{\nlisten: 127.0.0.1:-1\n{door}\n}}\n"

        server = start(config("client"))
        with SecureDoor(port_of(server), certificates.client_context("client")) as door:
            door.frame()
            door.say(b'CONNECT {"verbose":false}\r\n').hears()
            server.reload(config("client-two"))
            assert door.hears() == b""


class SecureDoor(Door):
    """The same over TLS."""

    def __init__(self, port: int, context: ssl.SSLContext, **headers: str | None) -> None:
        import socket

        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock = context.wrap_socket(raw, server_hostname="127.0.0.1")
        self.data = b""
        lines = [f"{name}: {value}" for name, value in {**UPGRADE, **headers}.items()]
        self.sock.sendall("\r\n".join(["GET / HTTP/1.1", *lines, "", ""]).encode())
        self.head = self.until(b"\r\n\r\n").decode()
        self.status = int(self.head.split()[1])

    def __enter__(self) -> SecureDoor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()


@pytest.mark.parametrize("door", ["", "websocket"])
def test_suites_that_openssl_does_not_have(start, server_kind, certificates, door):
    """What can't be put to use is told in a line, as any configuration is that can't."""
    more = 'cipher_suites: ["TLS_RSA_WITH_RC4_128_SHA"], allow_insecure_cipher_suites: true'
    tls = certificates.config(more)
    server = start(f"websocket {{ listen: 127.0.0.1:-1\n{tls} }}\n" if door else tls, wait=server_kind != "natsc")
    if server_kind == "natsc":
        assert server.wait() == 1
        assert any("[FTL] cipher suites not supported by OpenSSL" in line for line in server.log)
        assert "Traceback" not in "\n".join(server.log)


def test_the_protocol_over_tls(start, certificates):
    server = start(f"websocket {{\nlisten: 127.0.0.1:-1\ncompression: true\n{certificates.config()}\n}}\n")
    with SecureDoor(port_of(server), certificates.client_context()) as door:
        door.frame()
        door.send(frame(2, b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\n'))
        assert door.hears() == b"MSG a 1 2\r\nhi\r\n"
        assert "tls_required" in later_info_fields(server, certificates)


def later_info_fields(server, certificates) -> dict:
    with SecureDoor(port_of(server), certificates.client_context()) as door:
        return later_info(door)
