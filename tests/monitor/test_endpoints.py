"""Paths, headers and the endpoints' bodies, on a server of fakes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from natsc.monitor.endpoints import ENDPOINTS, normalize_base_path
from tests.monitor.fakes import NOW_NS, SECOND, Account, Conn, Server, get


def load(server: Server, path: str, query: str = "") -> Any:
    status, headers, body = get(server, path, query)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert headers["Access-Control-Allow-Origin"] == "*"
    return json.loads(body)


def error(server: Server, path: str, query: str) -> str:
    status, headers, body = get(server, path, query)
    assert (status, headers) == (400, {"Content-Type": "text/plain; charset=utf-8"})
    return body.decode()


# -- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "base"), [("", "/"), ("/", "/"), ("mon/", "/mon"), ("/a//b/../c", "/a/c"), (".", "/")]
)
def test_base_paths_are_normalized(path: str, base: str) -> None:
    assert normalize_base_path(path) == base


@pytest.mark.parametrize("path", ["/nope", "/varz/", "/debug/", "/expvarz", "/Varz", "/varz%20"])
def test_unknown_paths(path: str) -> None:
    status, headers, body = get(Server(), path)
    assert (status, body) == (404, b"404 page not found\n")
    assert headers == {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


@pytest.mark.parametrize("path", sorted(ENDPOINTS))
def test_every_path_answers_under_a_base_path_only(path: str) -> None:
    assert get(Server(), "/mon" + path, base="/mon")[0] in (200, 404 if path == "/raftz" else 200)
    assert get(Server(), path, base="/mon")[2] == b"404 page not found\n"


def test_an_escaped_path() -> None:
    assert get(Server(), "/h%65althz")[0] == 200


@pytest.mark.parametrize(
    ("path", "location"), [("//varz", "/varz"), ("/a/../varz", "/varz"), ("//varz/", "/varz/"), ("/./varz", "/varz")]
)
def test_unclean_paths_are_redirected(path: str, location: str) -> None:
    status, headers, body = get(Server(), path)
    assert (status, headers["Location"]) == (307, location)
    assert body == f'<a href="{location}">Temporary Redirect</a>.\n\n'.encode()


def test_a_redirect_keeps_the_query_and_escapes_it_in_html() -> None:
    _, headers, body = get(Server(), "//varz", "a=1<2")
    assert headers["Location"] == "/varz?a=1<2"
    assert b"a=1&lt;2" in body
    status, headers, body = get(Server(), "//varz", "a=1<2", method="POST")
    assert (status, headers, body) == (307, {"Location": "/varz?a=1<2"}, b"")


def test_a_redirect_cant_smuggle_a_header() -> None:
    _, headers, _ = get(Server(), "//x", "a=\udcff\u0085")
    assert headers["Location"] == "/x?a=%ff%c2%85"


def test_the_page_links_to_every_endpoint_below_the_base_path() -> None:
    status, headers, body = get(Server(), "/mon", base="/mon")
    assert (status, headers) == (200, {"Content-Type": "text/html; charset=utf-8"})
    assert b'href="./mon/varz"' in body
    assert b'href="./mon/debug/vars"' in body
    assert get(Server(), "/mon/", base="/mon")[0] == 404


def test_error_texts_with_binary_bytes_are_no_text() -> None:
    assert get(Server(), "/connz", "sort=%00")[1] == {"Content-Type": "application/octet-stream"}


def test_a_callback_changes_nothing() -> None:
    assert get(Server(), "/varz", "callback=foo")[2].startswith(b"{")


# -- counting ---------------------------------------------------------------------------------------------------------


def test_requests_are_counted_as_the_reference_counts_them() -> None:
    server = Server()
    for path, query in [
        ("/", ""),
        ("/subscriptionsz", ""),
        ("/subsz", "subs=x"),
        ("/connz", "subs=x"),
        ("/connz", "sort=x"),
        ("/routez", "subs=x"),
        ("/raftz", ""),
        ("/ipqueuesz", ""),
        ("/stacksz", ""),
        ("/debug/vars", ""),
        ("/nope", ""),
        ("/leafz", "subs=x"),
    ]:
        get(server, path, query)
    assert load(server, "/varz")["http_req_stats"] == {"/": 1, "/connz": 1, "/leafz": 1, "/subsz": 2, "/varz": 1}
    assert list(load(server, "/varz")["http_req_stats"]) == ["/", "/connz", "/leafz", "/subsz", "/varz"]


# -- varz -------------------------------------------------------------------------------------------------------------

VARZ_KEYS = """
server_id server_name version proto git_commit go host port max_connections ping_interval ping_max
http_host http_port http_base_path https_port auth_timeout max_control_line max_payload max_pending
cluster gateway leaf mqtt websocket jetstream tls_timeout write_deadline start now uptime mem cores
gomaxprocs cpu connections total_connections routes remotes leafnodes in_msgs in_bytes
in_client_msgs in_client_bytes out_msgs out_bytes out_client_msgs out_client_bytes slow_consumers
stale_connections stalled_clients subscriptions http_req_stats config_load_time config_digest
feature_flags system_account slow_consumer_stats stale_connection_stats disk_io_wait_stats
""".split()


def test_varz_has_the_references_members_in_order() -> None:
    assert list(load(Server(), "/varz")) == VARZ_KEYS


def test_varz_members_that_only_some_servers_have() -> None:
    server = Server(
        max_subs=7, write_timeout="retry", tags=["a:b"], metadata={"k": "v", "a": "b"}, no_system_account=True
    )
    server.info.update(auth_required=True, tls_required=True, connect_urls=["h:1"])
    body = load(server, "/varz")
    names = list(body)
    assert names[names.index("port") + 1 : names.index("max_connections")] == [
        "auth_required",
        "tls_required",
        "connect_urls",
    ]
    assert names[names.index("write_deadline") + 1] == "write_timeout"
    assert names[names.index("max_connections") + 1] == "max_subscriptions"
    assert (body["tags"], list(body["metadata"])) == (["a:b"], ["a", "k"])
    assert "system_account" not in body


def test_varz_numbers_and_times() -> None:
    server = Server()
    server.engine.in_msgs, server.engine.out_bytes = 5, 6
    body = load(server, "/varz")
    assert (body["uptime"], body["start"], body["now"]) == (
        "12s",
        "2027-01-15T07:59:48.123456789Z",
        "2027-01-15T08:00:00.123456789Z",
    )
    assert (body["in_msgs"], body["in_client_msgs"], body["out_client_bytes"]) == (5, 5, 6)
    assert body["mem"] > 1_000_000
    assert b'"auth_timeout": 2,' in get(server, "/varz")[2]


def test_feature_flags_show_what_is_configured_and_known() -> None:
    flags = load(Server(feature_flags={"js_api_reply_v2": True, "unknown": True}), "/varz")["feature_flags"]
    assert flags == {
        "js_ack_fc_v2": False,
        "js_api_reply_v2": True,
        "js_raft_delete_range": True,
        "js_snapshot_sources": False,
    }


# -- subsz ------------------------------------------------------------------------------------------------------------


def two_accounts() -> Server:
    a, b = Account("A"), Account("B")
    a.num_clients = b.num_clients = 1
    a.counters = {"num_inserts": 4, "num_removes": 1, "num_matches": 4, "num_cache_hits": 1}
    first = Conn(7, a, [(b"foo.>", b"q", b"1", 1, 0), (b"bar", None, b"2", 0, 5), (b"baz", None, b"3", 0, 0)])
    second = Conn(8, b, [(b"foo.b", None, b"1", 1, 0)])
    a.num_subs, b.num_subs = 3, 1
    a.in_msgs, a.out_bytes = 2, 3
    return Server([first, second], accounts=[a, b])


def test_subsz_sums_the_accounts() -> None:
    server = two_accounts()
    server.engine.cached_matches = 9
    body = load(server, "/subsz")
    assert list(body) == [
        "server_id",
        "now",
        "num_subscriptions",
        "num_cache",
        "num_inserts",
        "num_removes",
        "num_matches",
        "cache_hit_rate",
        "max_fanout",
        "avg_fanout",
        "total",
        "offset",
        "limit",
    ]
    assert (body["num_subscriptions"], body["num_inserts"], body["cache_hit_rate"], body["num_cache"]) == (
        4,
        4,
        0.25,
        9,
    )
    assert (body["total"], body["limit"]) == (0, 1024)
    assert load(server, "/subsz", "acc=B")["num_subscriptions"] == 1
    assert load(server, "/subsz", "acc=nope")["num_subscriptions"] == 0


def test_subsz_lists_subscriptions() -> None:
    body = load(two_accounts(), "/subsz", "subs=1")
    assert body["total"] == 4
    assert body["subscriptions_list"][:2] == [
        {"account": "A", "account_tag": "A", "subject": "foo.>", "qgroup": "q", "sid": "1", "msgs": 1, "cid": 7},
        {"account": "A", "account_tag": "A", "subject": "bar", "sid": "2", "msgs": 0, "max": 5, "cid": 7},
    ]


@pytest.mark.parametrize(
    ("query", "total", "subjects"),
    [
        ("subs=1&offset=1&limit=2", 4, ["bar", "baz"]),
        ("subs=1&offset=2&limit=2", 4, ["baz", "foo.b"]),
        ("subs=1&offset=3", 4, ["foo.b"]),
        ("subs=1&limit=1", 4, ["foo.>"]),
        ("subs=1&limit=-1&offset=-1", 4, ["foo.>", "bar", "baz", "foo.b"]),
        ("subs=1&test=foo.b", 2, ["foo.>", "foo.b"]),
        ("subs=1&test=foo.b&offset=1", 2, ["foo.b"]),
        ("subs=1&acc=B", 1, ["foo.b"]),
        ("subs=1&offset=9", 4, None),
    ],
)
def test_subsz_pages_and_filters(query: str, total: int, subjects: list[str] | None) -> None:
    body = load(two_accounts(), "/subsz", query)
    listed = body.get("subscriptions_list")
    assert body["total"] == total
    assert subjects == (None if listed is None else [sub["subject"] for sub in listed])


@pytest.mark.parametrize("subject", ["foo.*", "foo.", ".a", "a..b", ">", "a b"])
def test_subsz_tests_publish_subjects_only(subject: str) -> None:
    expected = f"invalid test subject, must be valid publish subject: {subject}"
    assert error(Server(), "/subsz", "test=" + subject) == expected


# -- accounts ---------------------------------------------------------------------------------------------------------


def test_accountz_names_the_accounts() -> None:
    body = load(two_accounts(), "/accountz")
    assert list(body.items())[2:] == [("system_account", "$SYS"), ("accounts", ["A", "B"])]


def test_accountz_describes_one_account() -> None:
    detail = load(two_accounts(), "/accountz", "acc=A")["account_detail"]
    assert list(detail) == [
        "account_name",
        "update_time",
        "expired",
        "complete",
        "jetstream_enabled",
        "leafnode_connections",
        "client_connections",
        "subscriptions",
        "name_tag",
        "sublist_stats",
    ]
    assert (detail["client_connections"], detail["subscriptions"]) == (1, 3)
    assert detail["sublist_stats"]["num_inserts"] == 4


def test_accountz_of_nobody() -> None:
    assert error(Server(), "/accountz", "acc=nope") == "Account nope does not exist"


def test_accstatz_shows_accounts_in_use() -> None:
    server = two_accounts()
    server.engine._accounts.append(Account("C"))
    assert [entry["acc"] for entry in load(server, "/accstatz")["account_statz"]] == ["A", "B"]
    assert [entry["acc"] for entry in load(server, "/accstatz", "unused=1")["account_statz"]] == ["A", "B", "C"]
    entry = load(server, "/accstatz")["account_statz"][0]
    nothing = {"msgs": 0, "bytes": 0}
    assert list(entry) == [
        "acc",
        "name",
        "conns",
        "leafnodes",
        "total_conns",
        "num_subscriptions",
        "sent",
        "received",
        "slow_consumers",
    ]
    assert entry["received"] == {"msgs": 2, "bytes": 0, "gateways": nothing, "routes": nothing, "leafs": nothing}
    assert entry["sent"]["bytes"] == 3


# -- healthz ----------------------------------------------------------------------------------------------------------


NO_ACCOUNT = r'"\"account\" must not be empty when checking stream health"'
NO_STREAM = r'"\"stream\" must not be empty when checking consumer health"'


@pytest.mark.parametrize(
    ("query", "status", "body"),
    [
        ("", 200, '{"status":"ok"}'),
        ("details=1", 200, '{"status":"ok"}'),
        ("account=x", 200, '{"status":"ok"}'),
        ("stream=x", 400, '{"status":"error","error":' + NO_ACCOUNT + "}"),
        ("account=a&consumer=x", 400, '{"status":"error","error":' + NO_STREAM + "}"),
        ("stream=x&details=1", 400, '{"status":"error","errors":[{"type":"BAD_REQUEST","error":' + NO_ACCOUNT + "}]}"),
    ],
)
def test_healthz(query: str, status: int, body: str) -> None:
    assert get(Server(), "/healthz", query) == (
        status,
        {"Access-Control-Allow-Origin": "*", "Content-Type": "application/json"},
        body.encode(),
    )


def test_healthz_without_the_jetstream_that_was_asked_for() -> None:
    server = Server(jetstream=True)
    assert get(server, "/healthz")[::2] == (503, b'{"status":"unavailable","error":"JetStream not enabled"}')
    assert server.log.lines == ['WRN Healthcheck failed: "JetStream not enabled"']
    assert get(server, "/healthz", "js-server-only=1")[0] == 200


@pytest.mark.parametrize(("accepting", "lame_duck"), [(False, False), (True, True)])
def test_healthz_of_a_server_that_takes_no_clients(accepting: bool, lame_duck: bool) -> None:
    server = Server()
    server.accepting, server.lame_duck = accepting, lame_duck
    assert get(server, "/healthz")[::2] == (
        500,
        b'{"status":"error","error":"failed to be ready for connections after 1ms: server"}',
    )


def test_a_deprecated_parameter_is_logged() -> None:
    server = Server()
    get(server, "/healthz", "js-enabled=1")
    assert server.log.lines == ["WRN Healthcheck: js-enabled deprecated, use js-enabled-only instead"]


# -- what there isn't -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "members"),
    [
        ("/routez", ["server_id", "server_name", "now", "num_routes", "routes"]),
        ("/leafz", ["server_id", "now", "leafnodes", "leafs"]),
        ("/gatewayz", ["server_id", "now", "outbound_gateways", "inbound_gateways"]),
        (
            "/jsz",
            [
                "memory",
                "storage",
                "reserved_memory",
                "reserved_storage",
                "accounts",
                "ha_assets",
                "api",
                "server_id",
                "now",
                "disabled",
                "config",
                "streams",
                "consumers",
                "messages",
                "bytes",
                "total",
            ],
        ),
        ("/ipqueuesz", []),
    ],
)
def test_absent_features(path: str, members: list[str]) -> None:
    assert list(load(Server(), path)) == members


def test_raftz() -> None:
    assert get(Server(), "/raftz") == (404, {"Content-Type": "text/plain; charset=utf-8"}, b"No Raft nodes registered")


def test_jsz_for_leaders_only() -> None:
    assert error(Server(), "/jsz", "leader-only=1") == "filtered response: not leader"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/jsz", "raft"),
        ("/jsz", "stream-leader-only"),
        ("/leafz", "subs"),
        ("/gatewayz", "accs"),
        ("/routez", "subs"),
        ("/ipqueuesz", "all"),
        ("/accstatz", "unused"),
        ("/healthz", "js-meta-only"),
        ("/subsz", "subs"),
        ("/connz", "auth"),
    ],
)
def test_booleans_are_checked(path: str, name: str) -> None:
    assert (
        error(Server(), path, name + "=x")
        == f"Error decoding boolean for '{name}': strconv.ParseBool: parsing \"x\": invalid syntax"
    )


def test_debug_vars_doesnt_show_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["natsc", "--user", "foo", "--pass=sekret", "--auth", "tok"])
    status, headers, body = get(Server(), "/debug/vars")
    assert (status, headers) == (200, {"Content-Type": "application/json; charset=utf-8"})
    assert json.loads(body)["cmdline"] == ["natsc"]
    assert b"sekret" not in body


def test_stacksz_shows_where_threads_are() -> None:
    assert b"test_stacksz_shows_where_threads_are" in get(Server(), "/stacksz")[2]


def test_secrets_never_appear() -> None:
    account = Account("A")
    opts = {"user": "bob", "pass": "sekret1", "auth_token": "sekret2", "jwt": "", "sig": "sekret3"}
    conns = [Conn(1, account, opts=opts), Conn(2, account, opts={"auth_token": "sekret4"})]
    closed = [Conn(3, account, opts=opts, stop_ns=NOW_NS, reason="Client Closed", start_ns=NOW_NS - SECOND)]
    server = Server(conns, closed, [account], password="sekret5", authorization="sekret6")
    for path in ENDPOINTS:
        assert b"sekret" not in get(server, path, "auth=1&subs=detail&state=all" if path == "/connz" else "")[2]
