"""Advisories about those who have not logged in: a test for each, named after it, through every door that it concerns.

What each server must do is the same: refuse, go on serving others, and take no memory for it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import zlib

import pytest

from .doors import PLAIN_WEBSOCKET, WEBSOCKET, check_memory, clear, enter, resident, websocket_port
from .harness import Wire
from .test_system import ask
from .test_websocket import Door

VIOLATION = b"-ERR 'Authorization Violation'"
MB = 1 << 20
DOORS = ("tcp", "websocket", "deflated")
SYSTEM = """
    accounts { SYS { users [{user: s, password: p}] }, A { users [{user: u, password: p}] } }
    system_account: SYS
"""
LOCKED = PLAIN_WEBSOCKET + "http: 127.0.0.1:-1\nauthorization { user: u, password: p }\n"


@pytest.fixture
def knock():
    """Opens connections through a door, and closes them after the test."""
    opened: list[Wire] = []

    def get(door: str, server, **options: object) -> Wire:
        opened.append(enter(door, server, **options))
        return opened[-1]

    yield get
    for wire in opened:
        wire.close()


def check_serves(server, **credentials: str) -> None:
    """The server is there, and through each of its doors."""
    for door in ("tcp", "websocket"):
        with contextlib.closing(enter(door, server)) as wire:
            assert wire.connect(**credentials).flush() == []


def feed(wire: Wire, data: bytes, times: int) -> None:
    """Send until it is done or the server has had enough."""
    with contextlib.suppress(ConnectionError):
        for _ in range(times):
            wire.sock.sendall(data)


class TestWebSocket:
    @pytest.fixture
    def server(self, shared_server):
        return shared_server(LOCKED)

    @pytest.mark.parametrize("parts", [1, 1000])
    @pytest.mark.parametrize("last", [True, False])
    def test_cve_2026_27571(self, server, knock, parts, last):
        """A message that inflates to a thousand times its size: no more than a payload is made of it.

        Also CVE-2026-67232, CVE-2026-54464, GHSA-frh3-6pv6-rc8j, GHSA-9p9m-jm8w-94p2 in others: its size before it is
        inflated says nothing.
        """
        wire = knock("deflated", server)
        before = resident(server)
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = (deflater.compress(bytes(100 * MB)) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        step = -(-len(bomb) // parts)
        pieces = [bomb[at : at + step] for at in range(0, len(bomb), step)]
        frames = [
            clear(
                2 if at == 0 else 0, piece, (0x40 if at == 0 else 0) | (0x80 if last and at == len(pieces) - 1 else 0)
            )
            for at, piece in enumerate(pieces)
        ]
        feed(wire, b"".join(frames), 1)
        wire.timeout = 1
        with contextlib.suppress(TimeoutError, AssertionError):  # one that isn't whole may be waited for
            wire.eof()
        check_memory(server, before, 40)
        check_serves(server, **{"user": "u", "pass": "p"})

    @pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1, (1 << 63) - 1, (1 << 62), 1 << 32])
    @pytest.mark.parametrize("kind", [0x82, 0xC2, 0x81, 0x02, 0x88, 0x89])
    def test_cve_2026_27889(self, server, knock, size, kind):
        """Frames that say that they are enormous."""
        wire = knock("deflated", server)
        head = bytes([kind, 0xFF]) + struct.pack(">Q", size) + bytes(4)
        feed(wire, head + b"CONNECT {}\r\nPING\r\n" * 100, 1)
        check_serves(server, **{"user": "u", "pass": "p"})

    def test_cve_2026_33219(self, server, knock):
        """As much as one likes to send before logging in, in each of the ways that are collected somewhere."""
        before = resident(server)
        endless = b"x" * 65536
        for door, first, then in (
            ("websocket", clear(2, b'CONNECT {"name":"' + endless, 0), clear(0, endless, 0)),
            ("websocket", b"", clear(2, endless)),
            ("deflated", clear(2, endless, 0x40), clear(0, bytes(65536), 0)),
            ("websocket", b"\x82\xff" + struct.pack(">Q", 1 << 40) + bytes(4) + b"PUB a 1000000000\r\n", endless),
            ("tcp", b'CONNECT {"name":"', endless),
        ):
            wire = knock(door, server)
            feed(wire, first, 1)
            feed(wire, then, 400)
        check_memory(server, before, 24)
        check_serves(server, **{"user": "u", "pass": "p"})

    @pytest.mark.parametrize("path", ["/mqtt", "/x/mqtt", "/mqtt?x=y", "//mqtt"])
    @pytest.mark.parametrize("protocol", [None, "mqtt"])
    def test_ghsa_p957_7v2w_g93g(self, server, path, protocol):
        """MQTT's path where there is no MQTT."""
        door = Door(websocket_port(server), path=path, Sec_WebSocket_Protocol=protocol)
        assert door.status in (404, 301, 307)
        assert door.status == 404 or path == "//mqtt"
        door.sock.close()
        check_serves(server, **{"user": "u", "pass": "p"})


class TestOutput:
    """CVE-2025-21605 of Redis: who hasn't logged in makes the server answer, and reads none of it."""

    def push(self, wire: Wire, data: bytes) -> None:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.sock.settimeout(2)
        with contextlib.suppress(TimeoutError, ConnectionError):  # it stops reading, or ends it
            for _ in range(400):
                wire.sock.sendall(data)

    @pytest.mark.parametrize("data", [b"PING\r\n", b"SUB a..b 1\r\n", b"CONNECT {}\r\n"])
    @pytest.mark.parametrize("door", DOORS)
    def test_cve_2025_21605(self, shared_server, knock, door, data):
        server = shared_server(LOCKED)
        before = resident(server)
        many = data * (65536 // len(data))
        self.push(knock(door, server), clear(2, many) if door != "tcp" else many)
        check_memory(server, before, 24)
        check_serves(server, **{"user": "u", "pass": "p"})

    def test_cve_2025_21605_pongs_of_frames(self, shared_server, knock):
        server = shared_server(LOCKED)
        before = resident(server)
        self.push(knock("websocket", server), clear(9, b"x" * 125) * 500)
        if server.kind == "natsc":  # nats-server keeps what it answers
            check_memory(server, before, 24)
        check_serves(server, **{"user": "u", "pass": "p"})

    def test_cve_2025_21605_refusals_of_requests(self, shared_server):
        server = shared_server(LOCKED)
        before = resident(server)
        with contextlib.closing(Wire(websocket_port(server), read=False)) as wire:
            self.push(wire, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)
        if server.kind == "natsc":  # nats-server keeps what it answers
            check_memory(server, before, 24)
        check_serves(server, **{"user": "u", "pass": "p"})


class TestWho:
    @pytest.mark.parametrize("option", [{"account": "A"}, {"account": "$G"}, {"account": "A", "new_account": True}])
    @pytest.mark.parametrize("door", DOORS)
    @pytest.mark.parametrize("config", ["", "accounts { A { users [{user: u, password: p}] }, B {} }\n"])
    def test_cve_2022_24450(self, shared_server, knock, door, option, config):
        """Nobody chooses the account; credentials that are good change nothing."""
        server = shared_server(PLAIN_WEBSOCKET + "http: 127.0.0.1:-1\n" + config)
        assert knock(door, server).connect(**option).eof() == [VIOLATION]
        assert knock(door, server).connect(**{"user": "u", "pass": "p"}, **option).eof() == [VIOLATION]

    GUESTS = """
        no_auth_user: GUEST
        accounts { A { users [
            {user: standard, password: p, allowed_connection_types: [STANDARD]}
            {user: web, password: p, allowed_connection_types: [WEBSOCKET]}
        ] } }
    """

    @pytest.mark.parametrize("first", ["PING", "SUB a 1", "PUB a 0\r\n", "UNSUB 1", "PONG", "CONNECT {}", None])
    @pytest.mark.parametrize(
        ("guest", "door", "good"),
        [
            ("standard", "tcp", True),
            ("standard", "websocket", False),
            ("web", "tcp", False),
            ("web", "websocket", True),
        ],
    )
    def test_ghsa_hmmp_q8cx_v964(self, shared_server, knock, guest, door, good, first):
        """Who is somebody without a word is it by that somebody's doors alone, whatever comes first."""
        server = shared_server(PLAIN_WEBSOCKET + self.GUESTS.replace("GUEST", guest))
        wire = knock(door, server)
        wire.lines(*([first] if first else []), "PING")
        if good:
            assert b"-ERR 'Authorization Violation'" not in wire.until_pong()
        else:
            assert wire.eof() == [VIOLATION]

    @pytest.mark.parametrize("first", ["PING", "SUB a 1", "CONNECT {}"])
    def test_ghsa_hmmp_q8cx_v964_of_the_door_itself(self, shared_server, knock, first):
        config = WEBSOCKET.format("no_tls: true, no_auth_user: standard") + self.GUESTS.replace("GUEST", "standard")
        wire = knock("websocket", shared_server(config)).lines(first, "PING")
        assert wire.eof() == [VIOLATION]


class TestTLS:
    CIPHERS = "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-CCM"

    def old_context(self, certificates) -> ssl.SSLContext:
        context = certificates.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(self.CIPHERS + ":@SECLEVEL=0")
        return context

    def check_refused(self, knock, door, server, certificates) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            knock(door, server, context=self.old_context(certificates))
        wire = knock(door, server, context=certificates.client_context())
        assert wire.connect().flush() == []

    def test_cve_2021_32026(self, start, knock, certificates):
        """Certificates that flags name don't bring other cipher suites with them than those of a file."""
        flags = (
            "--tls",
            "--tlscert",
            str(certificates.path("server")),
            "--tlskey",
            str(certificates.key_path("server")),
        )
        self.check_refused(knock, "tls", start("", *flags), certificates)

    @pytest.mark.parametrize("door", ["tls", "wss"])
    def test_cve_2021_32026_of_a_file(self, start, knock, certificates, door):
        tls = certificates.config()
        server = start(tls if door == "tls" else WEBSOCKET.format(tls))
        self.check_refused(knock, door, server, certificates)

    @pytest.mark.parametrize("door", ["tls", "wss"])
    def test_cve_2026_33248(self, start, knock, certificates, door):
        """Each part of a certificate's name stands for one of the user's: a repeated one isn't two."""
        users = "authorization { users [ {user: 'CN=x,OU=a,OU=a'}, {user: 'CN=y,OU=a,OU=b'} ] }\n"
        tls = certificates.config("verify_and_map: true", ca=True)
        server = start(users + (tls if door == "tls" else WEBSOCKET.format(tls)))
        for name, units, good in (("x", "ab", False), ("y", "ab", True), ("y", "ba", True), ("y", "a", False)):
            certificate = f"dn-{name}-{units}"
            certificates.issue(certificate, name, units=list(units))
            wire = knock(door, server, context=certificates.client_context(certificate))
            assert (wire.connect().lines("PING").line() == b"PONG") is good, certificate


class TestMonitoring:
    HUGE = (2**63 - 1, 2**62, 2**31 - 1, 2**32, 2**63 - 1024)

    @pytest.mark.parametrize("page", ["connz", "subsz", "jsz"])
    def test_ghsa_q59r_vq66_pxc2(self, shared_server, dial, page):
        """Where a page begins plus how long it is: more than a number can be."""
        server = shared_server(LOCKED)
        wire = dial(server).ready(**{"user": "u", "pass": "p"}).sub("a")
        wire.flush()
        for offset in (0, 1, *self.HUGE):
            for limit in (1, *self.HUGE):
                for more in ("", "&subs=1", "&state=all"):
                    assert server.get(f"/{page}?offset={offset}&limit={limit}{more}").status == 200
        assert wire.flush() == []

    @pytest.mark.parametrize("subject", [
        "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.A.CONNZ", "$SYS.REQ.ACCOUNT.PING.CONNZ",
        "$SYS.REQ.SERVER.PING.SUBSZ", "$SYS.REQ.ACCOUNT.A.SUBSZ",
    ])  # fmt: skip
    @pytest.mark.parametrize("user", ["s", "u"])
    def test_ghsa_q59r_vq66_pxc2_by_request(self, shared_server, dial, subject, user):
        wire = dial(shared_server(SYSTEM)).ready(**{"user": user, "pass": "p", "no_responders": True})
        for offset, limit in ((2**63 - 1, 2**63 - 1), (1, 2**63 - 1), (2**62, 2**62), (2**63 - 2, 5)):
            found = ask(wire, subject, {"offset": offset, "limit": limit})
            assert found is None or "data" in found or "error" in found
        assert wire.flush() == []

    @pytest.mark.parametrize("flags", [
        ("--user", "somebody", "--pass", "THESECRET"), ("--user=somebody", "--pass=THESECRET"),
        ("--auth", "THESECRET"), ("-auth=THESECRET",),
        ("--cluster", "nats://a:THESECRET@127.0.0.1:-1", "--routes", "nats://a:THESECRET@127.0.0.1:1"),
    ], ids=range(5))  # fmt: skip
    def test_cve_2026_33247(self, start, flags):
        """What the command line told stays between it and the server."""
        server = start("http: 127.0.0.1:-1\ndebug: true\ntrace: true\n", *flags)
        for path in ("/debug/vars", "/varz", "/connz?auth=1", "/routez", "/stacksz", "/"):
            assert b"THESECRET" not in server.get(path).body, path
        assert "THESECRET" not in "\n".join(server.log)
