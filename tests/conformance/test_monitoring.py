"""The monitoring port, compared with nats-server's: status, content type, keys, their order, JSON types, stable values.

The server under test and a nats-server get the same configuration and the same clients, and then the same requests.
Of values everything is compared but what VOLATILE and OWN_SUBSCRIPTIONS name.
"""

from __future__ import annotations

import json

import pytest

from .harness import Server, Wire

# Keys whose values differ between two runs of the same server.
VOLATILE = {
    "server_id", "server_name", "git_commit", "go", "port", "now", "start", "uptime", "last_activity", "rtt", "idle",
    "stop", "mem", "cpu", "cores",
    "gomaxprocs", "gomemlimit", "config_load_time", "config_digest", "http_req_stats", "update_time", "cid",
    "pending_bytes", "client_id", "xkey", "nonce",
}  # fmt: skip
# Keys whose values depend on what a server subscribes for itself.
OWN_SUBSCRIPTIONS = {
    "subscriptions", "num_subscriptions", "num_cache", "num_inserts", "num_removes", "num_matches", "cache_hit_rate",
    "max_fanout", "avg_fanout", "total", "sublist_stats", "disk_io_wait_stats", "imports", "exports", "responses",
}  # fmt: skip
# Maps whose keys are names that belong to a server's own insides.
OPEN_MAPS = {"http_req_stats", "memstats"}
# Keys that may be missing on either side: build information, what the machine tells, and the services that the system
# account exports to every other one (natsc has none yet).
MAY_MISS = {"git_commit", "gomemlimit", "imports", "exports", "responses"}

CONFIG = """
    http: 127.0.0.1:-1
    accounts {
        A { users [{user: a, password: "p"}], limits { max_connections: 50 } }
        B { users [{user: b, password: "p"}] }
    }
"""


def shape(value: object, name: str = "") -> object:
    """The structure: keys in order with their shapes; of a list the different shapes of its elements; else the type."""
    if isinstance(value, dict):
        return "map" if name in OPEN_MAPS else [(k, shape(v, k)) for k, v in value.items() if k not in MAY_MISS]
    if isinstance(value, list):
        return ["list", *sorted({json.dumps(shape(v, name)) for v in value})]
    if isinstance(value, bool) or value is None:
        return str(type(value).__name__)
    return "number" if isinstance(value, (int, float)) else "string"


def stable(value: object, name: str = "") -> object:
    """The values without those that may differ; lists sorted, for a server keeps accounts in maps."""
    if isinstance(value, dict):
        return {
            k: stable(v, k) for k, v in value.items() if k not in VOLATILE | OWN_SUBSCRIPTIONS and k not in OPEN_MAPS
        }
    if isinstance(value, list):
        return sorted((stable(v, name) for v in value), key=json.dumps)
    return value


class Pair:
    """The server under test and a nats-server, each with the same clients connected in the same order."""

    def __init__(self, kind: str, config: str, users: bool) -> None:
        self.servers = [Server(kind, config), Server("nats-server", config)]
        self.wires: list[list[Wire]] = []
        for server in self.servers:
            logins = [{"user": u, "pass": "p"} if users else {} for u in "aab"]
            wires = [
                Wire(server).ready(name=f"client {i}", lang="python", version="1.0", **login)
                for i, login in enumerate(logins)
            ]
            wires[0].sub("foo.*", 1).sub("work", 2, "group").lines("UNSUB 1 100").flush()
            wires[1].pub("foo.bar", "hello").pub("foo.baz", "hello").pub("nobody", "x").flush()
            wires[0].flush()
            gone = Wire(server).ready(name="gone", **logins[0])
            gone.close()
            server.closed(gone.cid)
            self.wires.append([*wires, gone])

    def get(self, path: str) -> tuple:
        return tuple(server.get(path) for server in self.servers)

    def cids(self, index: int) -> list[int]:
        return [wires[index].cid for wires in self.wires]

    def close(self) -> None:
        for wires in self.wires:
            for wire in wires:
                wire.close()
        for server in self.servers:
            server.close()


@pytest.fixture(scope="module")
def pair(server_kind):
    """Two servers with nothing configured."""
    made = Pair(server_kind, "http: 127.0.0.1:-1\n", users=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def accounts_pair(server_kind):
    made = Pair(server_kind, CONFIG, users=True)
    yield made
    made.close()


PATHS = [
    "/varz", "/connz", "/connz?subs=1", "/connz?subs=true", "/connz?subs=detail", "/connz?auth=1",
    "/connz?auth=true&subs=1", "/connz?state=closed", "/connz?state=any", "/connz?state=all", "/connz?state=open",
    "/connz?state=CLOSED", "/connz?limit=1", "/connz?offset=1", "/connz?offset=99", "/connz?limit=1&offset=1",
    "/connz?limit=0", "/connz?cid=999999", "/connz?user=nobody&auth=1", "/connz?acc=$G", "/connz?acc=NOPE",
    "/connz?mqtt_client=x", "/subsz", "/subsz?limit=1", "/subsz?test=foo.bar&subs=1", "/subscriptionsz", "/healthz",
    "/healthz?js-enabled-only=true", "/healthz?js-server-only=true", "/healthz?js-enabled=1", "/healthz?details=true",
    "/healthz?account=x", "/healthz?stream=x", "/healthz?account=x&stream=y", "/healthz?consumer=x", "/accountz",
    "/accountz?acc=$G", "/accountz?acc=$SYS", "/accountz?acc=NOPE", "/accstatz", "/accstatz?unused=1",
    "/accstatz?unused=true", "/routez", "/routez?subs=1", "/routez?subs=detail", "/leafz", "/leafz?subs=1",
    "/gatewayz", "/gatewayz?accs=1", "/jsz", "/jsz?accounts=1", "/jsz?streams=1&consumers=1&config=1", "/jsz?acc=$G",
    "/ipqueuesz", "/raftz", "/raftz?acc=x", "/nope", "/varz/", "/Varz", "/varz?nonsense=1",
]  # fmt: skip
WITH_ACCOUNTS = [
    "/varz", "/connz?auth=1", "/connz?acc=A", "/connz?user=b&auth=1", "/connz?acc=B&auth=1&subs=detail",
    "/connz?user=b", "/accountz", "/accountz?acc=A", "/accountz?acc=B", "/accstatz", "/connz?state=closed&auth=1",
    "/connz?state=any&acc=A",
]  # fmt: skip
SORTS = [
    "cid",
    "start",
    "subs",
    "pending",
    "msgs_to",
    "msgs_from",
    "bytes_to",
    "bytes_from",
    "last",
    "idle",
    "uptime",
    "rtt",
]
BAD = [
    "/connz?limit=x", "/connz?offset=x", "/connz?cid=x", "/connz?sort=bogus", "/connz?state=bogus",
    "/connz?subs=maybe", "/connz?auth=maybe", "/connz?sort=stop", "/connz?sort=reason", "/connz?limit=-1",
    "/connz?limit=99999999999999999999", "/subsz?limit=x", "/subsz?offset=x", "/subsz?subs=maybe", "/subsz?test=a..b",
    "/subsz?test=a.*", "/accstatz?unused=maybe", "/routez?subs=maybe", "/leafz?subs=maybe", "/gatewayz?accs=maybe",
    "/jsz?accounts=maybe", "/jsz?limit=x", "/jsz?offset=x", "/jsz?acc=NOPE", "/healthz?js-enabled-only=maybe",
    "/healthz?details=maybe", "/ipqueuesz?all=maybe", "/connz?cid=-1", "/connz?offset=-1",
]  # fmt: skip


class TestAnswers:
    @pytest.mark.parametrize("path", PATHS)
    def test_shape(self, pair, path):
        ours, theirs = pair.get(path)
        assert ours.status == theirs.status
        assert ours.headers.get("content-type") == theirs.headers.get("content-type")
        if theirs.headers.get("content-type") == "application/json":
            assert shape(ours.json()) == shape(theirs.json())
        else:
            assert ours.body == theirs.body

    @pytest.mark.parametrize("path", PATHS)
    def test_values(self, pair, path):
        ours, theirs = pair.get(path)
        if theirs.headers.get("content-type") == "application/json":
            assert stable(ours.json()) == stable(theirs.json())

    @pytest.mark.parametrize("path", WITH_ACCOUNTS)
    def test_with_accounts(self, accounts_pair, path):
        ours, theirs = accounts_pair.get(path)
        assert shape(ours.json()) == shape(theirs.json())
        assert stable(ours.json()) == stable(theirs.json())

    @pytest.mark.parametrize("path", BAD)
    def test_bad_parameters(self, pair, path):
        ours, theirs = pair.get(path)
        assert (ours.status, ours.headers.get("content-type")) == (theirs.status, theirs.headers.get("content-type"))
        if ours.status != 200:
            assert ours.body == theirs.body

    @pytest.mark.parametrize("key", SORTS)
    def test_sort(self, pair, key):
        ours, theirs = pair.get(f"/connz?sort={key}")
        assert (ours.status, shape(ours.json())) == (theirs.status, shape(theirs.json()))

    @pytest.mark.parametrize("key", ["cid", "msgs_to", "msgs_from", "bytes_to", "bytes_from", "subs"])
    def test_sort_order(self, pair, key):
        """The clients differ in these, so the first place is certain."""
        first = [answer.json()["connections"][0] for answer in pair.get(f"/connz?sort={key}")]
        assert first[0]["name"] == first[1]["name"]

    def test_one_connection(self, pair):
        answers = [
            server.get(f"/connz?cid={cid}&subs=detail").json()
            for server, cid in zip(pair.servers, pair.cids(0), strict=True)
        ]
        assert shape(answers[0]) == shape(answers[1])
        assert stable(answers[0]) == stable(answers[1])

    def test_one_closed_connection(self, pair):
        answers = [
            server.get(f"/connz?cid={cid}&state=closed").json()
            for server, cid in zip(pair.servers, pair.cids(3), strict=True)
        ]
        assert shape(answers[0]) == shape(answers[1])
        assert stable(answers[0]) == stable(answers[1])


class TestForm:
    @pytest.mark.parametrize("path", ["/varz", "/connz", "/subsz", "/accountz", "/routez", "/jsz", "/healthz"])
    def test_json_text_is_indented_as_theirs(self, pair, path):
        ours, theirs = pair.get(path)
        indent = None if path == "/healthz" else 2
        for answer in (ours, theirs):
            separators = (",", ":") if indent is None else (",", ": ")
            assert answer.body.decode() == json.dumps(
                answer.json(), indent=indent, separators=separators, ensure_ascii=False
            )

    @pytest.mark.parametrize("path", ["/varz", "/connz", "/healthz", "/nope", "/connz?limit=x"])
    def test_cors_header(self, pair, path):
        ours, theirs = pair.get(path)
        assert ours.headers.get("access-control-allow-origin") == theirs.headers.get("access-control-allow-origin")

    @pytest.mark.parametrize("path", ["/varz", "/healthz", "/connz"])
    def test_a_callback_is_ignored(self, pair, path):
        for answer in pair.get(path + "?callback=cb"):
            assert answer.headers["content-type"] == "application/json"
            assert answer.body.startswith(b"{") and answer.body.endswith(b"}")

    def test_root_page(self, pair):
        ours, theirs = pair.get("/")
        assert ours.headers["content-type"] == theirs.headers["content-type"]
        import re

        links = [re.findall(rb'href="?(\./[^ ">]*)', answer.body) for answer in (ours, theirs)]
        assert links[1] and links[0] == links[1]

    def test_stacks_and_variables(self, pair):
        for path in ("/stacksz", "/debug/vars"):
            ours, theirs = pair.get(path)
            assert (ours.status, ours.headers["content-type"]) == (theirs.status, theirs.headers["content-type"])
        ours, theirs = (json.loads(answer.body) for answer in pair.get("/debug/vars"))
        assert list(ours) == list(theirs)

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
    def test_any_method(self, pair, method):
        import http.client

        got = []
        for server in pair.servers:
            connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
            connection.request(method, "/healthz")
            answer = connection.getresponse()
            got.append((answer.status, answer.read()))
            connection.close()
        assert got[0] == got[1]

    def test_keep_alive(self, pair):
        import http.client

        for server in pair.servers:
            connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=10)
            for _ in range(3):
                connection.request("GET", "/healthz")
                assert connection.getresponse().read() == b'{"status":"ok"}'
            connection.close()

    @pytest.mark.parametrize(
        "data", [b"nonsense\r\n\r\n", b"GET\r\n\r\n", b"\x00\x01\x02\r\n\r\n", b"GET /varz HTTP/9.9\r\n\r\n"]
    )
    def test_no_http_at_all(self, pair, data):
        import socket

        status = []
        for server in pair.servers:
            with socket.create_connection(("127.0.0.1", server.http_port), 10) as sock:
                sock.sendall(data)
                answer = b""
                while part := sock.recv(65536):
                    answer += part
            status.append(answer.split(b"\r\n")[0].split(b" ")[1:2])
        assert status[0] == status[1]


class TestCounting:
    def test_http_req_stats(self, start):
        server = start("http: 127.0.0.1:-1\n")
        for _ in range(3):
            server.get("/connz")
        stats = server.varz()["http_req_stats"]
        assert stats["/connz"] == 3 and stats["/varz"] == 1

    def test_messages_and_bytes(self, start, dial):
        server = start("http: 127.0.0.1:-1\n")
        wire = dial(server).ready().sub("foo", 1).sub("foo", 2)
        for _ in range(10):
            wire.pub("foo", "hello")
        wire.flush()
        varz = server.varz()
        assert (varz["in_msgs"], varz["in_bytes"], varz["out_msgs"], varz["out_bytes"]) == (10, 50, 20, 100)
        entry = server.connz()[0]
        assert (entry["in_msgs"], entry["in_bytes"], entry["out_msgs"], entry["out_bytes"]) == (10, 50, 20, 100)

    def test_header_bytes_count(self, start, dial):
        server = start("http: 127.0.0.1:-1\n")
        wire = dial(server).ready().sub("foo").hpub("foo", b"NATS/1.0\r\n\r\n", b"12345")
        wire.flush()
        varz = server.varz()
        assert (varz["in_bytes"], varz["out_bytes"]) == (17, 17)

    def test_connections(self, start, dial):
        server = start("http: 127.0.0.1:-1\n")
        wires = [dial(server).ready() for _ in range(3)]
        wires[0].close()
        server.closed(wires[0].cid)
        varz = server.varz()
        assert (varz["connections"], varz["total_connections"]) == (2, 3)

    def test_base_path(self, start):
        server = start('http: 127.0.0.1:-1\nhttp_base_path: "/nats"\n')
        assert server.get("/nats/healthz").status == 200
        assert server.get("/healthz").status == 404

    def test_closed_connections_are_bounded(self, start, dial):
        server = start("http: 127.0.0.1:-1\nmax_closed_clients: 3\n")
        for _ in range(6):
            wire = dial(server).ready()
            wire.close()
            server.closed(wire.cid)
        assert len(server.connz("state=closed")) == 3
