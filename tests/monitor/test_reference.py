"""natsc's monitoring port beside nats-server's: the same configuration, the same clients, the same requests.

Answers are compared member by member, in order, with their values; what differs from run to run is compared by type.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.certificates import Certificates
from tests.conformance.harness import KINDS, Server, Wire

CONFIG = """
server_name: "s<1>&é"
http: 127.0.0.1:-1
no_system_account: true
server_tags: ["a:b", "c"]
server_metadata: {k: v, a: b}
ping_interval: "1m"
max_subscriptions: 1000
write_timeout: retry
write_deadline: "3s"
accounts {
  A { users [{user: a, password: secret-a}] }
  B { users [{user: b, password: secret-b}] }
}
no_auth_user: a
"""

FIRST = b'{"user":"a","pass":"secret-a","name":"n<1>\xc3\xa9","lang":"python","version":"1.2","verbose":false}'

# Compared by type: clocks, ports, measurements and what says which program this is.
VOLATILE = {
    "server_id",
    "now",
    "start",
    "uptime",
    "mem",
    "cpu",
    "port",
    "last_activity",
    "rtt",
    "idle",
    "stop",
    "config_load_time",
    "update_time",
    "http_port",
    "go",
    "git_commit",
    "gomaxprocs",
    "config_digest",
    "num_cache",
    "max_fanout",
    "avg_fanout",
    "cache_hit_rate",
    "num_matches",
    "pending_bytes",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?(Z|[+-]\d\d:\d\d)\Z")


class Pair:
    """Both servers, each with the same connections."""

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.wires: list[Wire] = []
        self.first_cid: dict[str, int] = {}  # internal clients come before it

    def populate(self) -> None:
        for kind in KINDS:
            self.servers[kind] = Server(kind, CONFIG)
        for server in self.servers.values():
            first = self.connect(
                server,
                FIRST,
            )
            self.say(
                first,
                b"SUB foo.> q 1\r\nSUB bar 2\r\nUNSUB 2 5\r\nSUB baz 3\r\nPUB foo.x 3\r\nabc\r\nPUB foo.x 0\r\n\r\n",
            )
            second = self.connect(server, b'{"user":"b","pass":"secret-b","name":"B","verbose":false}')
            self.say(second, b"SUB foo.b 1\r\n")
            self.connect(server, b'{"verbose":false}')
            gone = self.connect(server, b'{"user":"b","pass":"secret-b","name":"gone","lang":"go","verbose":false}')
            self.say(gone, b"SUB gone 9\r\nPUB foo.b 1\r\nx\r\n")
            gone.close()
            wrong = Wire(server)
            wrong.send(b'CONNECT {"user":"z","pass":"secret-z","verbose":false}\r\n')
            self.wires.append(wrong)
            self.await_closed(server, 2)

    def connect(self, server: Server, options: bytes) -> Wire:
        """A client whose CONNECT was processed. What comes in one read with it isn't counted for its account."""
        wire = Wire(server)
        self.wires.append(wire)
        wire.send(b"CONNECT " + options + b"\r\n").flush()
        self.first_cid.setdefault(server.kind, wire.cid)
        return wire

    def say(self, wire: Wire, data: bytes) -> None:
        """Sends, and waits until it was processed."""
        wire.send(data).flush()

    def await_closed(self, server: Server, count: int) -> None:
        deadline = time.monotonic() + 10
        while server.get("/connz?state=closed").json()["total"] < count:
            assert time.monotonic() < deadline

    def close(self) -> None:
        for wire in self.wires:
            wire.close()
        for server in self.servers.values():
            server.close()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    both = Pair()
    try:
        both.populate()
        yield both
    finally:
        both.close()


def normal(value: Any, first_cid: int, key: str = "") -> Any:
    """A value with its members as an ordered list; volatile ones give way to their type, ids count from the first."""
    if isinstance(value, dict) and key == "http_req_stats":  # how often it was asked for a change varies
        return list(value)
    if isinstance(value, dict):
        return [(name, normal(item, first_cid, name)) for name, item in value.items()]
    if isinstance(value, list):
        # Only one of them has a system account when none is configured.
        items = [
            normal(item, first_cid)
            for item in value
            if "$SYS" not in (item, isinstance(item, dict) and item.get("acc"))
        ]
        # Subscriptions and accounts come in the order of a hash table.
        return sorted(items, key=repr) if key in UNORDERED else items
    if key == "cid":
        return value - first_cid
    if key == "tls_cipher_suite" and value.startswith(("TLS_AES_", "TLS_CHACHA20_")):
        return "one of TLS 1.3, which OpenSSL and Go rank differently"
    if key in VOLATILE:
        if isinstance(value, str):
            return "time" if TIME.match(value) else "text"
        return "number" if isinstance(value, (int, float)) else type(value).__name__
    return value


UNORDERED = {"subscriptions_list", "subscriptions_list_detail", "accounts", "account_statz"}

REQUESTS = [
    "/varz",
    "/varz?callback=x",
    "/connz",
    "/connz?auth=1&subs=1",
    "/connz?auth=1&subs=detail&state=all",
    "/connz?state=closed",
    "/connz?state=any",
    "/connz?sort=uptime",
    "/connz?sort=msgs_to",
    "/connz?sort=bytes_from&limit=1",
    "/connz?sort=subs&offset=1",
    "/connz?state=closed&sort=reason&auth=1",
    "/connz?acc=A",
    "/connz?acc=A&auth=1&state=all",
    "/connz?acc=nope",
    "/connz?user=b&auth=1",
    "/connz?user=b&auth=1&state=all",
    "/connz?cid=99999",
    "/connz?cid=99999&state=all",
    "/connz?limit=0&offset=-1",
    "/connz?mqtt_client=x",
    "/connz?filter_subject=foo",
    "/connz?sort=bogus",
    "/connz?sort=stop",
    "/connz?sort=reason",
    "/connz?limit=x",
    "/connz?limit=1_0",
    "/connz?limit=99999999999999999999",
    "/connz?cid=-1",
    "/connz?cid=99999999999999999999999",
    "/connz?auth=yes",
    "/connz?auth=T",
    "/connz?subs=q",
    "/connz?state=foo",
    "/connz?limit=%zz",
    "/connz?limit=1;2",
    "/connz?limit=+5",
    "/connz?limit=%0a",
    "/connz?limit=%2B5",
    "/connz?limit=%22%3c",
    "/connz?limit=%c3%a9%e2%80%a8%ff%00",
    "/connz?sort=%ff",
    "/connz?sort=%00",
    "/connz?offset=9&limit=9",
    "/subsz",
    "/subscriptionsz",
    "/subsz?subs=1",
    "/subsz?subs=1&acc=A",
    "/subsz?subs=1&test=foo.b",
    "/subsz?test=foo.*",
    "/subsz?test=a..b",
    "/subsz?subs=x",
    "/subsz?subs=1&offset=100",
    "/subsz?acc=nope",
    "/subsz?offset=1&limit=2",
    "/healthz",
    "/healthz?details=1",
    "/healthz?stream=x",
    "/healthz?consumer=x",
    "/healthz?stream=x&details=1",
    "/healthz?js-enabled-only=1",
    "/healthz?js-enabled=x",
    "/healthz?js-server-only=1",
    "/healthz?account=x&stream=y",
    "/accountz",
    "/accountz?acc=nope",
    "/accountz?acc=A",
    "/accountz?acc=$G",
    "/accstatz",
    "/accstatz?unused=1",
    "/accstatz?unused=x",
    "/routez",
    "/routez?subs=x",
    "/leafz",
    "/leafz?subs=x",
    "/gatewayz",
    "/gatewayz?gw_name=x",
    "/gatewayz?accs=x",
    "/jsz",
    "/jsz?acc=A&streams=1",
    "/jsz?leader-only=1",
    "/jsz?limit=x",
    "/jsz?raft=x",
    "/ipqueuesz",
    "/ipqueuesz?all=x",
    "/raftz",
    "/raftz?acc=x",
    "/nope",
    "/varz/",
    "/debug/",
    "/expvarz",
    "//varz",
    "/a/../varz?b=1",
    "/h%65althz",
]


@pytest.mark.parametrize("path", REQUESTS)
def test_the_same_answer(pair: Pair, path: str) -> None:
    answers = {kind: server.get(path) for kind, server in pair.servers.items()}
    ours, theirs = answers["natsc"], answers["nats-server"]
    assert ours.status == theirs.status
    for name in ("content-type", "access-control-allow-origin", "x-content-type-options", "location"):
        assert ours.headers.get(name) == theirs.headers.get(name)
    if ours.headers["content-type"] != "application/json":
        assert ours.body == theirs.body
        return
    mine, other = ours.json(), theirs.json()
    if path.startswith("/healthz"):
        assert ours.body == theirs.body
    assert normal(mine, pair.first_cid["natsc"]) == normal(other, pair.first_cid["nats-server"])


@pytest.mark.parametrize("path", ["/varz", "/connz?subs=detail&auth=1", "/subsz", "/accountz?acc=A", "/jsz"])
def test_the_same_text(pair: Pair, path: str) -> None:
    """Indentation, escapes and line ends: re-encoding what was decoded gives the text back."""
    for server in pair.servers.values():
        body = server.get(path).body.decode()
        again = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
        for char in "<>&":
            again = again.replace(char, f"\\u{ord(char):04x}")
        assert body == again


def test_both_have_the_same_variables(pair: Pair) -> None:
    for server in pair.servers.values():
        answer = server.get("/debug/vars")
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert list(answer.json()) == ["cmdline", "memstats"]


HEADS = [
    b"GET /healthz HTTP/1.1\r\n\r\n",
    b"GET /healthz HTTP/1.0\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: foo\r\n\r\nabc",
    b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc",
    b"FOO /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT a.b:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://foo/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET /healthz HTTP/1.2\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /healthz\r\nHost: x\r\n\r\n",
    b"\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x y\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nf o: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n foo: x\r\nHost: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nfoo: \x01\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nfoo: \xff\r\nConnection: close\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"GET /healthz%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz?a\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST //healthz?a=1<2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b'CONNECT {"verbose":false}\r\nPING\r\n',
    b"\x00\x00\r\n\r\n",
]


def converse(port: int, data: bytes) -> list[bytes]:
    """The lines that a server says to `data` until it closes, the order of its headers and the date aside."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.settimeout(10)
        sock.sendall(data)
        received = b""
        try:
            while piece := sock.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
    lines = [line for line in received.split(b"\r\n") if not line.startswith(b"Date: ")]
    return [lines[0], *sorted(lines[1:])]


@pytest.mark.parametrize("data", HEADS)
def test_the_same_conversation(pair: Pair, data: bytes) -> None:
    ours, theirs = (converse(pair.servers[kind].http_port, data) for kind in KINDS)
    assert ours == theirs


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def secure_get(port: int, path: str, context: ssl.SSLContext) -> Any:
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def describe_tls(kind: str, certificates: Certificates) -> Any:
    """What a server that verifies its clients says over HTTPS about one with TLS 1.2 and one with TLS 1.3."""
    server = Server(kind, "https: 127.0.0.1:-1\n" + certificates.config("verify: true", ca=True))
    wires = []
    try:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = certificates.client_context("client")
            context.maximum_version = version
            wires.append(Wire(server))
            wires[-1].start_tls(context)
            wires[-1].ready()
        context = certificates.client_context()
        connections = secure_get(server.http_port, "/connz?auth=1", context)["connections"]
        wires[0].close()
        closed = "/connz?auth=1&state=closed"
        deadline = time.monotonic() + 10
        while not (ended := secure_get(server.http_port, closed, context)["connections"]):
            assert time.monotonic() < deadline
        connections += ended
        varz = secure_get(server.http_port, "/varz", context)
        shown = {name: value for name, value in varz.items() if name.startswith(("tls_", "http", "auth"))}
        return normal(connections, wires[0].cid), normal(shown, 0)
    finally:
        for wire in wires:
            wire.close()
        server.close()


def test_the_same_about_tls(certificates: Certificates) -> None:
    ours, theirs = (describe_tls(kind, certificates) for kind in KINDS)
    assert ours == theirs


def test_the_same_below_a_base_path() -> None:
    answers = []
    for kind in KINDS:
        server = Server(kind, 'http: 127.0.0.1:-1\nhttp_base_path: "mon/"\n')
        try:
            found = [
                server.get(path) for path in ("/mon/healthz", "/healthz", "/mon/", "/", "/mon//healthz", "/monhealthz")
            ]
            answers.append([(answer.status, answer.body, answer.headers.get("location")) for answer in found])
            assert server.get("/mon").headers["content-type"] == "text/html; charset=utf-8"
        finally:
            server.close()
    assert answers[0] == answers[1]


def test_the_same_log_lines(pair: Pair) -> None:
    lines = []
    for server in pair.servers.values():
        mark = len(server.log)
        for query in ("stream=x", "stream=x&details=1", "js-enabled=1"):
            server.get("/healthz?" + query)
        server.wait_log("js-enabled deprecated", after=mark)
        lines.append([line.partition("[WRN] ")[2] for line in server.log[mark:] if "[WRN]" in line])
    assert lines[0] == lines[1]


def test_the_same_start_failure(pair: Pair) -> None:
    """A monitoring port that is taken."""
    taken = pair.servers["nats-server"].http_port
    lines = []
    for kind in KINDS:
        server = Server(kind, f"http: 127.0.0.1:{taken}\n", wait=False)
        try:
            assert server.wait() == 1
            lines.append([line.partition("[FTL] ")[2] for line in server.log if "[FTL]" in line])
        finally:
            server.close()
    assert lines[0] == lines[1] != []
