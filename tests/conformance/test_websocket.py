"""WebSocket clients: the upgrade, frames, compression, and the client protocol inside."""

from __future__ import annotations

import re
import socket
import struct
import zlib

import pytest

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {
    "Host": "x:1", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade", "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}  # fmt: skip
DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
CONFIG = """
    http: 127.0.0.1:-1
    debug: true
    websocket {
        host: 127.0.0.1
        port: -1
        no_tls: true
        compression: true
        headers: {X-Test: here}
        WEBSOCKET
    }
"""


def frame(kind: int, payload: bytes = b"", first: int = 0x80) -> bytes:
    """A client's frame; first: bits beside the kind in its first byte."""
    size = len(payload)
    head = bytes([first | kind, 0x80 | (size if size < 126 else 126 if size < 65536 else 127)])
    head += b"" if size < 126 else struct.pack(">H", size) if size < 65536 else struct.pack(">Q", size)
    key = b"\x12\x34\x56\x78"
    return head + key + bytes(byte ^ key[at & 3] for at, byte in enumerate(payload))


class Door:
    """A connection to the WebSocket port."""

    def __init__(self, port: int, path: str = "/", method: str = "GET", **headers: str | None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.data = b""
        said = {**UPGRADE, **{name.replace("_", "-"): value for name, value in headers.items()}}
        lines = [f"{name}: {value}" for name, value in said.items() if value is not None]
        self.sock.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode())
        self.head = self.until(b"\r\n\r\n").decode()
        self.status = int(self.head.split()[1])

    def until(self, mark: bytes) -> bytes:
        while mark not in self.data:
            self.more()
        found, _, self.data = self.data.partition(mark)
        return found

    def more(self) -> None:
        got = self.sock.recv(65536)
        if not got:
            raise EOFError
        self.data += got

    def take(self, size: int) -> bytes:
        while len(self.data) < size:
            self.more()
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def frame(self) -> tuple[int, bytes]:
        """First byte and payload of the next frame."""
        first, size = self.take(2)
        assert not size & 0x80
        if size == 126:
            size = struct.unpack(">H", self.take(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.take(8))[0]
        return first, self.take(size)

    def send(self, *frames: bytes) -> Door:
        self.sock.sendall(b"".join(frames))
        return self

    def say(self, text: bytes) -> Door:
        return self.send(frame(2, text))

    def hears(self) -> bytes:
        """What comes up to a PONG, without it."""
        heard = b""
        self.say(b"PING\r\n")
        while not heard.endswith(b"PONG\r\n"):
            first, payload = self.frame()
            heard += zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff") if first & 0x40 else payload
        return heard.removesuffix(b"PONG\r\n")

    def end(self) -> list[tuple[int, bytes]]:
        """The frames up to the end of the stream."""
        found = []
        try:
            while True:
                found.append(self.frame())
        except (EOFError, ConnectionResetError):
            return found


@pytest.fixture
def start_ws(start):
    def get(block: str = "", more: str = ""):
        server = start(CONFIG.replace("WEBSOCKET", block) + more)
        port = int(server.wait_log(r"Listening for websocket clients on ws://127\.0\.0\.1:(\d+)")[1])
        return server, port

    return get


@pytest.fixture
def port(shared_server):
    server = shared_server(CONFIG.replace("WEBSOCKET", ""))
    return int(server.wait_log(r"Listening for websocket clients on ws://127\.0\.0\.1:(\d+)")[1])


class TestUpgrade:
    def test_what_is_answered(self, port):
        door = Door(port)
        assert door.head.split("\r\n") == [
            "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "X-Test: here",
        ]  # fmt: skip

    def test_compression_is_agreed_on(self, port):
        door = Door(port, **DEFLATE)
        extension = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        assert f"Sec-WebSocket-Extensions: {extension}\r\n" in door.head + "\r\n"

    def test_info_comes_first_and_names_this_port(self, port):
        first, payload = Door(port).frame()
        assert first == 0x82 and payload.startswith(b'INFO {"server_id":')
        assert b'"port":%d,' % port in payload and b'"client_ip":"127.0.0.1"' in payload and b"tls_" not in payload

    @pytest.mark.parametrize(
        ("status", "change"),
        [
            (405, {"method": "POST", "Content_Length": "0"}),
            (400, {"Upgrade": None}),
            (400, {"Upgrade": "other"}),
            (400, {"Connection": None}),
            (400, {"Connection": "close-not"}),
            (400, {"Sec_WebSocket_Key": None}),
            (400, {"Sec_WebSocket_Key": "short"}),
            (400, {"Sec_WebSocket_Version": "12"}),
            (400, {"Sec_WebSocket_Version": None}),
        ],
    )
    def test_what_is_refused(self, port, status, change):
        door = Door(port, **{"Sec_WebSocket_Key": KEY, **change})
        assert door.status == status
        assert "\r\nSec-Websocket-Version: 13\r\n" in door.head and "X-Content-Type-Options: nosniff" in door.head

    def test_any_path_will_do(self, port):
        assert Door(port, path="/some/where?x=y").status == 101

    def test_no_http(self, port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(b"CONNECT {}\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 400 Bad Request")

    @pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHo", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
    def test_who_leaves_before_it_is_done(self, port, said):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(said)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
        assert Door(port).status == 101

    @pytest.mark.parametrize(
        ("block", "origin", "status"),
        [
            ("same_origin: true", None, 101),
            ("same_origin: true", "http://x:1", 101),
            ("same_origin: true", "http://x:2", 403),
            ("same_origin: true", "https://x:1", 403),
            ("allowed_origins: ['http://a.com', 'https://b.com:8']", "http://a.com", 101),
            ("allowed_origins: ['http://a.com', 'https://b.com:8']", "http://A.com:80", 101),
            ("allowed_origins: ['http://a.com', 'https://b.com:8']", "https://b.com:8", 101),
            ("allowed_origins: ['http://a.com', 'https://b.com:8']", "https://b.com", 403),
            ("allowed_origins: ['http://a.com', 'https://b.com:8']", "http://c.com", 403),
        ],
    )
    def test_origins(self, shared_server, block, origin, status):
        server = shared_server(CONFIG.replace("WEBSOCKET", block))
        port = int(server.wait_log(r"Listening for websocket clients on ws://127\.0\.0\.1:(\d+)")[1])
        assert Door(port, Origin=origin).status == status


class TestFrames:
    def test_the_protocol_inside(self, port):
        door = Door(port).say(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\n')
        door.frame()
        assert door.hears() == b"MSG a 1 2\r\nhi\r\n"

    def test_text_frames_are_as_good(self, port):
        door = Door(port).send(frame(1, b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\n'))
        door.frame()
        assert door.hears() == b"MSG a 1 2\r\nhi\r\n"

    def test_fragments_and_operations_need_not_agree(self, port):
        pieces = (frame(2, b'CONNECT {"verbose":fal', 0), frame(9, b"hey"), frame(0, b"se}\r\nSUB a 1\r\nPUB a 2\r\nh"))
        door = Door(port)
        door.frame()
        door.send(*pieces)
        assert door.frame() == (0x8A, b"hey")
        assert door.say(b"i\r\n").hears() == b"MSG a 1 2\r\nhi\r\n"

    def test_a_large_message(self, port):
        door = Door(port)
        door.frame()
        payload = bytes(97 + at % 26 for at in range(300_000))
        door.say(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 300000\r\n' + payload + b"\r\n")
        assert door.hears() == b"MSG a 1 300000\r\n" + payload + b"\r\n"

    def test_a_browser_gets_small_frames(self, port):
        door = Door(port, User_Agent="Mozilla/5.0")
        door.frame()
        door.say(b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 10000\r\n' + b"x" * 10000 + b"\r\nPING\r\n")
        sizes = []
        while sum(sizes) < 10000:
            sizes.append(len(door.frame()[1]))
        assert max(sizes) == 4096

    def test_compressed_both_ways(self, port):
        door = Door(port, **DEFLATE)
        door.frame()
        deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
        text = b'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 1000\r\n' + b"x" * 1000 + b"\r\nPING\r\n"
        data = (deflater.compress(text) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
        door.send(frame(2, data[:9], 0x40), frame(0, data[9:]))
        first, payload = door.frame()
        assert first == 0xC2 and len(payload) < 200
        heard = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
        assert heard.startswith(b"MSG a 1 1000\r\nxxx")

    def test_what_is_short_is_not_compressed(self, port):
        door = Door(port, **DEFLATE).say(b"PING\r\n")
        door.frame()
        assert door.frame() == (0x82, b"PONG\r\n")

    def test_a_close_frame_is_answered(self, port):
        door = Door(port)
        door.frame()
        assert door.send(frame(8, struct.pack(">H", 1000) + b"bye")).end() == [(0x88, b"\x03\xe8bye")]

    def test_a_close_frame_without_a_status(self, port):
        door = Door(port)
        door.frame()
        assert door.send(frame(8)).end() == [(0x88, b"")]

    def test_a_close_frame_with_text_that_is_none(self, port):
        door = Door(port)
        door.frame()
        assert door.send(frame(8, b"\x03\xe8\xff")).end() == [(0x88, b"\x03\xefinvalid utf8 body in close frame")]

    @pytest.mark.parametrize(
        "bad", [frame(3), frame(0, b"x"), frame(9, b"x" * 126), frame(8, b"x"), b"\x82\x01x", frame(2, b"", 0x90)]
    )
    def test_bad_frames_end_it(self, port, server_kind, bad):
        door = Door(port)
        door.frame()
        said = door.send(bad).end()
        assert said in ([], said[:1]) and all(payload.startswith(b"\x03\xea") for _, payload in said)
        assert server_kind == "nats-server" or len(said) == 1

    def test_a_bad_operation_ends_it(self, port, server_kind):
        door = Door(port)
        door.frame()
        said = [payload for _, payload in door.say(b"nonsense\r\n").end()]
        told = [b"-ERR 'Unknown Protocol Operation'\r\n", b"\x03\xeaProtocol Violation"]
        assert said == told if server_kind == "natsc" else True


class TestWho:
    USERS = """
        accounts { A { users: [{user: a, password: p}, {user: w, password: p, allowed_connection_types: [WEBSOCKET]}
                               {user: s, password: p, allowed_connection_types: [STANDARD]}] } }
    """

    @pytest.fixture
    def users(self, shared_server):
        block = "user_cookie: u, pass_cookie: p"
        server = shared_server(CONFIG.replace("WEBSOCKET", block) + self.USERS)
        port = int(server.wait_log(r"Listening for websocket clients on ws://127\.0\.0\.1:(\d+)")[1])
        return server, port

    def login(self, port: int, text: bytes, **headers: str) -> bytes:
        door = Door(port, **headers)
        door.frame()
        door.say(b"CONNECT " + text + b"\r\nPING\r\n")
        return door.frame()[1]

    @pytest.mark.parametrize(
        ("user", "answer"),
        [("a", b"PONG\r\n"), ("w", b"PONG\r\n"), ("s", b"-ERR 'Authorization Violation'\r\n")],
    )
    def test_connection_types(self, users, user, answer):
        said = b'{"verbose":false,"user":"%s","pass":"p"}' % user.encode()
        assert self.login(users[1], said) == answer

    def test_a_user_for_websocket_alone(self, users, dial):
        said = dial(users[0]).connect(user="w", **{"pass": "p"}).eof()
        assert said == [b"-ERR 'Authorization Violation'"]

    def test_cookies_stand_in_for_what_connect_lacks(self, users):
        assert self.login(users[1], b'{"verbose":false}', Cookie="x=y; u=a; p=p") == b"PONG\r\n"

    def test_connect_goes_before_cookies(self, users):
        said = b'{"verbose":false,"user":"a","pass":"wrong"}'
        assert self.login(users[1], said, Cookie="u=a; p=p") == b"-ERR 'Authorization Violation'\r\n"

    def test_credentials_of_the_door_alone(self, start_ws, dial):
        server, port = start_ws("authorization: {user: door, password: p}")
        assert self.login(port, b'{"verbose":false,"user":"door","pass":"p"}') == b"PONG\r\n"
        assert self.login(port, b'{"verbose":false}') == b"-ERR 'Authorization Violation'\r\n"
        assert dial(server).ready().flush() == []

    def test_no_auth_user_of_the_door(self, start_ws):
        _, port = start_ws("no_auth_user: a", self.USERS)
        assert self.login(port, b'{"verbose":false}') == b"PONG\r\n"

    def test_monitoring_and_log_tell_the_door(self, users):
        server, port = users
        door = Door(port, X_Forwarded_For="1.2.3.4")
        door.frame()
        door.say(b'CONNECT {"verbose":false,"user":"a","pass":"p"}\r\n').hears()
        entry = next(c for c in server.connz() if c["port"] == door.sock.getsockname()[1])
        assert (entry["kind"], entry["type"], entry["ip"]) == ("Client", "websocket", "127.0.0.1")
        server.wait_log(rf"\[DBG\] 1\.2\.3\.4/127\.0\.0\.1:\d+ - wid:{entry['cid']} - Client connection created")
        assert server.varz()["websocket"] == {"host": "127.0.0.1", "port": port, "no_tls": True, "compression": True}


def test_wrong_requests_are_logged(start_ws):
    server, port = start_ws()
    Door(port, Upgrade=None)
    server.wait_log(r"\[ERR\] 127\.0\.0\.1:\d+ - websocket handshake error: invalid value for header 'Upgrade'")


def test_start_warns_of_plain_connections(start_ws):
    start_ws()[0].wait_log(r"\[WRN\] Websocket not configured with TLS\. DO NOT USE IN PRODUCTION!")


def test_shutdown_says_goodbye(start_ws):
    server, port = start_ws()
    door = Door(port)
    door.frame()
    door.say(b'CONNECT {"verbose":false}\r\n').hears()
    server.signal(15)
    assert re.match(rb"\x03\xe9", door.end()[-1][1])
