"""/connz: members, filters, order and pages."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.monitor.fakes import NOW_NS, SECOND, Account, Conn, Server, get


def load(server: Server, query: str = "") -> Any:
    status, _, body = get(server, "/connz", query)
    assert status == 200, body
    return json.loads(body)


def cids(server: Server, query: str) -> list[int]:
    return [entry["cid"] for entry in load(server, query)["connections"]]


def busy() -> Server:
    glob, a = Account("$G"), Account("A")
    conns = [
        Conn(
            5,
            glob,
            [(b"x", None, b"1", 0, 0)],
            in_msgs=1,
            out_msgs=9,
            in_bytes=3,
            out_bytes=7,
            pending_bytes=2,
            rtt_ns=500,
        ),
        Conn(
            3,
            a,
            [(b"foo.>", b"q", b"1", 1, 5), (b"y", None, b"2", 0, 0)],
            in_msgs=2,
            out_msgs=8,
            in_bytes=1,
            out_bytes=9,
            pending_bytes=1,
            rtt_ns=442_999,
            opts={"user": "bob", "pass": "p"},
            name="n<1>",
            lang="python",
            version="1.2",
            stalls=4,
        ),
        Conn(
            4,
            a,
            opts={"auth_token": "t"},
            last_activity_ns=NOW_NS - SECOND,
            start_ns=NOW_NS - 90 * SECOND,
            rtt_ns=6_708_625,
        ),
    ]
    closed = [
        Conn(
            1,
            glob,
            [(b"gone", None, b"9", 0, 0)],
            stop_ns=NOW_NS - 3 * SECOND,
            reason="Client Closed",
            opts={"user": "eve"},
        ),
        Conn(2, a, stop_ns=NOW_NS - 5 * SECOND, reason="Authentication Failure", opts={"user": "bob"}),
    ]
    return Server(conns, closed, [glob, a])


def test_no_connections() -> None:
    _, _, body = get(Server(), "/connz")
    assert body.decode() == (
        '{\n  "server_id": "NABC",\n  "now": "2027-01-15T08:00:00.123456789Z",\n  "num_connections": 0,\n'
        '  "total": 0,\n  "offset": 0,\n  "limit": 1024,\n  "connections": []\n}'
    )


def test_members_of_a_silent_connection() -> None:
    (entry,) = load(Server([Conn(9)]))["connections"]
    assert list(entry) == [
        "cid",
        "kind",
        "type",
        "ip",
        "port",
        "start",
        "last_activity",
        "rtt",
        "uptime",
        "idle",
        "pending_bytes",
        "in_msgs",
        "out_msgs",
        "in_bytes",
        "out_bytes",
        "subscriptions",
    ]
    assert (entry["rtt"], entry["uptime"], entry["kind"], entry["type"]) == ("0s", "9s", "Client", "nats")


def test_members_with_everything() -> None:
    entry = load(busy(), "auth=1&subs=detail&cid=3")["connections"][0]
    assert list(entry)[12:] == [
        "out_msgs",
        "in_bytes",
        "out_bytes",
        "stalls",
        "subscriptions",
        "name",
        "lang",
        "version",
        "authorized_user",
        "account",
        "subscriptions_list_detail",
        "name_tag",
    ]
    assert (entry["authorized_user"], entry["account"], entry["name_tag"], entry["rtt"]) == ("bob", "A", "A", "442µs")
    assert entry["subscriptions_list_detail"] == [
        {"subject": "foo.>", "qgroup": "q", "sid": "1", "msgs": 1, "max": 5, "cid": 3},
        {"subject": "y", "sid": "2", "msgs": 0, "cid": 3},
    ]


def test_the_global_account_has_a_tag_and_no_name() -> None:
    entry = load(busy(), "auth=1&cid=5")["connections"][0]
    assert "account" not in entry
    assert entry["name_tag"] == "$G"


def test_names_of_subscriptions() -> None:
    assert load(busy(), "subs=1&cid=3")["connections"][0]["subscriptions_list"] == ["foo.>", "y"]
    assert "subscriptions_list" not in load(busy(), "subs=1&cid=4")["connections"][0]


def test_a_token_is_never_shown() -> None:
    assert load(busy(), "auth=1&cid=4")["connections"][0]["authorized_user"] == "[REDACTED]"


def test_closed_connections_have_an_end() -> None:
    entry = load(busy(), "state=closed&cid=1&auth=1&subs=detail")["connections"][0]
    assert list(entry)[5:9] == ["start", "last_activity", "stop", "reason"]
    assert (entry["reason"], entry["uptime"]) == ("Client Closed", "6s")
    assert entry["authorized_user"] == "eve"
    assert not {"account", "name_tag"} & set(entry)
    assert entry["subscriptions_list_detail"][0] == {
        "account": "$G",
        "account_tag": "$G",
        "subject": "gone",
        "sid": "9",
        "msgs": 0,
        "cid": 1,
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [3, 4, 5]),
        ("state=closed", [1, 2]),
        ("state=ANY", [1, 2, 3, 4, 5]),
        ("sort=start", [3, 4, 5]),
        ("sort=subs", [3, 5, 4]),
        ("sort=pending", [5, 3, 4]),
        ("sort=msgs_to", [5, 3, 4]),
        ("sort=msgs_from", [3, 5, 4]),
        ("sort=bytes_to", [3, 5, 4]),
        ("sort=bytes_from", [5, 3, 4]),
        ("sort=last", [4, 5, 3]),
        ("sort=idle", [3, 5, 4]),
        ("sort=uptime", [5, 3, 4]),
        ("sort=rtt", [4, 3, 5]),
        ("state=closed&sort=stop", [1, 2]),
        ("state=closed&sort=reason", [2, 1]),
        ("state=all&sort=uptime", [2, 1, 5, 3, 4]),
        ("acc=A", [3, 4]),
        ("acc=A&state=closed", [2]),
        ("acc=$G&state=closed", []),
        ("user=bob", [3]),
        ("user=bob&state=all", [2, 3]),
        ("user=[REDACTED]", [4]),
        ("mqtt_client=x", []),
        ("filter_subject=nope", [3, 4, 5]),
        ("offset=1&limit=1", [4]),
        ("offset=3", []),
        ("offset=-1&limit=-1", [3, 4, 5]),
        ("cid=3&acc=$G", [3]),
        ("cid=1", []),
        ("cid=1&state=all", [1]),
        ("cid=77", []),
    ],
)
def test_which_connections_in_which_order(query: str, expected: list[int]) -> None:
    assert cids(busy(), query) == expected


@pytest.mark.parametrize(
    ("query", "count", "total", "limit"),
    [
        ("", 3, 3, 1024),
        ("limit=2", 2, 3, 2),
        ("state=all", 5, 5, 1024),
        ("acc=A", 2, 2, 1024),
        ("user=bob", 1, 3, 1024),
        ("cid=3", 1, 3, 1),
        ("cid=77&limit=9", 0, 3, 1),
        ("state=closed&acc=A", 1, 1, 1024),
    ],
)
def test_the_numbers_before_the_list(query: str, count: int, total: int, limit: int) -> None:
    body = load(busy(), query)
    assert (body["num_connections"], body["total"], body["limit"]) == (count, total, limit)


def test_an_unknown_account_has_no_server() -> None:
    body = load(busy(), "acc=nope")
    assert (body["server_id"], body["total"], body["connections"]) == ("", 0, None)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("sort=bogus", "invalid sorting option: bogus"),
        ("sort=stop", "sort by stop only valid on closed connections"),
        ("sort=reason&state=all", "sort by reason only valid on closed connections"),
        ("state=foo", "Error decoding state for foo"),
        ("limit=x", "Error decoding int for 'limit': strconv.Atoi: parsing \"x\": invalid syntax"),
        ("cid=-1", "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"-1\": invalid syntax"),
        ("subs=q&auth=z", "Error decoding boolean for 'auth': strconv.ParseBool: parsing \"z\": invalid syntax"),
    ],
)
def test_bad_parameters(query: str, text: str) -> None:
    status, _, body = get(busy(), "/connz", query)
    assert (status, body.decode()) == (400, text)


def encrypted(**values: Any) -> Conn:
    tls = SimpleNamespace(handshake_done=True, peer_certs=list)
    return Conn(1, conn=SimpleNamespace(tls=tls), tls_names=("1.3", "TLS_AES_128_GCM_SHA256"), **values)


def test_tls_connections_show_version_and_suite() -> None:
    entry = load(Server([encrypted()]), "auth=1")["connections"][0]
    assert list(entry)[16:] == ["tls_version", "tls_cipher_suite"]
    assert (entry["tls_version"], entry["tls_cipher_suite"]) == ("1.3", "TLS_AES_128_GCM_SHA256")


def test_tls_before_info_is_shown() -> None:
    entry = load(Server([encrypted(tls_first=True)]))["connections"][0]
    assert entry["tls_first"] is True


def test_an_unfinished_handshake_shows_nothing() -> None:
    tls = SimpleNamespace(handshake_done=False)
    assert "tls_version" not in load(Server([Conn(1, conn=SimpleNamespace(tls=tls))]), "auth=1")["connections"][0]


def test_a_closed_connection_remembers_its_tls() -> None:
    ended = Conn(1, stop_ns=NOW_NS, reason="Client Closed", tls_names=("1.2", "TLS_X"))
    entry = load(Server(closed=[ended]), "state=closed")["connections"][0]
    assert (entry["tls_version"], entry["tls_cipher_suite"]) == ("1.2", "TLS_X")


@pytest.mark.parametrize(("rtt", "lang", "sent"), [(0, "go", 1), (0, "", 0), (5, "go", 0)])
def test_an_unknown_round_trip_of_a_real_client_is_measured(rtt: int, lang: str, sent: int) -> None:
    pings: list[Conn] = []
    conn = Conn(1, rtt_ns=rtt, lang=lang)
    conn.send_rtt_ping = lambda: pings.append(conn)
    assert load(Server([conn]))["connections"][0]["rtt"] == f"{rtt}{'ns' if rtt else 's'}"
    assert len(pings) == sent
