"""Streams and services that accounts import from each other, and subject mappings."""

from __future__ import annotations

import json
import re

import pytest

CONFIG = """
    http: 127.0.0.1:-1
    server_name: srv
    accounts {
        A {
            users [{user: a, password: "p"}, {user: a2, password: "p"}]
            exports [
                {stream: "news.>"}, {stream: "pair.*.*"}, {stream: "one"}, {stream: "deep.*.x"}
                {service: "add.*"}, {service: "many", response_type: stream}
                {service: "chunks", response_type: chunked}
                {service: "info"}, {service: "swap.*.*"}
                {service: "quick", response_threshold: 100ms, latency: {sampling: 100, subject: "latency.quick"}}
                {service: "measured", latency: {sampling: 100, subject: "latency.measured"}}
                {service: "asked", latency: {sampling: headers, subject: "latency.asked"}}
                {service: "mapped"}
            ]
            mappings { "mapped": "mapped.here" }
        }
        B {
            users [{user: b, password: "p"}, {user: b2, password: "p"}]
            imports [
                {stream: {account: A, subject: "news.>"}, prefix: "from.a"}
                {stream: {account: A, subject: "pair.*.*"}, to: "turned.$2.$1"}
                {stream: {account: A, subject: "one"}, to: "uno"}
                {stream: {account: A, subject: "deep.*.x"}}
                {service: {account: A, subject: "add.*"}, to: "sum.*"}
                {service: {account: A, subject: "many"}}
                {service: {account: A, subject: "chunks"}}
                {service: {account: A, subject: "info"}, share: true}
                {service: {account: A, subject: "swap.*.*"}, to: "swapped.$2.$1"}
                {service: {account: A, subject: "quick"}}
                {service: {account: A, subject: "measured"}}
                {service: {account: A, subject: "asked"}}
                {service: {account: A, subject: "mapped"}, to: "elsewhere"}
            ]
            exports [{service: "relay"}]
        }
        C {
            users [{user: c, password: "p"}]
            imports [{service: {account: B, subject: "relay"}}]
        }
        M {
            users [{user: m, password: "p"}]
            mappings {
                "old.*": "new.$1"
                "half": [{destination: "left", weight: 50%}, {destination: "right", weight: 50%}]
                "lost": [{destination: "found", weight: 0}]
                "part.*": "p.{{partition(3,1)}}.$1"
                "cut.*": "c.{{split(1,-)}}.{{left(1,2)}}.{{right(1,2)}}"
            }
        }
    }
"""


@pytest.fixture
def server(shared_server):
    return shared_server(CONFIG)


@pytest.fixture
def login(server, dial):
    def get(user: str, **options: object):
        return dial(server).ready(**{"user": user, "pass": "p", "headers": True, "no_responders": True, **options})

    return get


def reply_of(op: bytes) -> str:
    return re.search(rb"_R_\.[\w.]+", op)[0].decode()


class TestStreams:
    @pytest.mark.parametrize(
        ("listened", "published", "shown"),
        [
            ("from.a.news.>", "news.x", b"from.a.news.x"),
            ("from.a.news.x", "news.x", b"from.a.news.x"),
            ("from.a.news.*", "news.x", b"from.a.news.x"),
            ("from.>", "news.x.y", b"from.a.news.x.y"),
            ("*.a.news.x", "news.x", b"from.a.news.x"),
            ("*.*.*.*.z", "news.x.z", b"from.a.news.x.z"),
            (">", "news.x", b"from.a.news.x"),
            ("turned.*.*", "pair.1.2", b"turned.2.1"),
            ("turned.2.*", "pair.1.2", b"turned.2.1"),
            ("turned.2.1", "pair.1.2", b"turned.2.1"),
            ("turned.>", "pair.1.2", b"turned.2.1"),
            ("*.2.1", "pair.1.2", b"turned.2.1"),
            ("uno", "one", b"uno"),
            ("*", "one", b"uno"),
            ("deep.*.x", "deep.1.x", b"deep.1.x"),
            ("deep.1.>", "deep.1.x", b"deep.1.x"),
            ("*.1.*", "deep.1.x", b"deep.1.x"),
        ],
    )
    def test_arrives_as_it_is_named_here(self, login, listened, published, shown):
        listener = login("b").sub(listened)
        listener.flush()
        login("a").pub(published, "hi").flush()
        assert listener.flush() == [b"MSG " + shown + b" 1 2\r\nhi"]

    @pytest.mark.parametrize(
        ("listened", "published"),
        [
            ("news.>", "news.x"),
            ("from.a.news.x", "news.y"),
            ("turned.1.*", "pair.1.2"),
            ("one", "one"),
            ("from.a", "one"),
        ],
    )
    def test_what_is_not_listened_to_does_not_arrive(self, login, listened, published):
        listener = login("b").sub(listened)
        listener.flush()
        login("a").pub(published).flush()
        assert listener.flush() == []

    def test_nothing_flows_back(self, login):
        listener = login("a").sub(">")
        listener.flush()
        login("b").pub("from.a.news.x").pub("uno").flush()
        assert listener.flush() == []

    def test_again_and_again_with_other_payloads(self, login):
        listener, sender = login("b").sub("turned.>", 7), login("a")
        listener.flush()
        for text in ("one", "two", "three", "four"):
            sender.pub("pair.x.y", text)
        sender.flush()
        assert [op.split(b"\r\n") for op in listener.flush()] == [
            [b"MSG turned.y.x 7 %d" % len(text), text] for text in (b"one", b"two", b"three", b"four")
        ]

    def test_headers_and_reply_stay(self, login):
        listener = login("b").sub("uno")
        listener.flush()
        login("a").hpub("one", b"NATS/1.0\r\nA: b\r\n\r\n", b"x", reply="answer.here").flush()
        assert listener.flush() == [b"HMSG uno 1 answer.here 18 19\r\nNATS/1.0\r\nA: b\r\n\r\nx"]

    def test_a_client_without_headers_gets_none(self, login):
        listener = login("b", headers=False, no_responders=False).sub("uno")
        listener.flush()
        login("a").hpub("one", b"NATS/1.0\r\nA: b\r\n\r\n", b"x").flush()
        assert listener.flush() == [b"MSG uno 1 1\r\nx"]

    def test_a_queue_group_gets_it_once(self, login):
        members = [login("b").sub("uno", 1, "q"), login("b2").sub("uno", 1, "q")]
        for member in members:
            member.flush()
        sender = login("a")
        for _ in range(20):
            sender.pub("one")
        sender.flush()
        assert sum(len(member.flush()) for member in members) == 20

    def test_unsubscribing_ends_it(self, login):
        listener = login("b").sub("uno")
        listener.flush()
        listener.lines("UNSUB 1").flush()
        login("a").pub("one").flush()
        assert listener.flush() == []

    def test_auto_unsubscribe_counts_it(self, login, server_kind):
        listener = login("b").sub("uno")
        listener.lines("UNSUB 1 2").flush()
        sender = login("a")
        for _ in range(5):
            sender.pub("one")
        sender.flush()
        assert len(listener.flush()) == {"natsc": 2, "nats-server": 5}[server_kind]

    def test_a_closed_client_leaves_nothing_behind(self, server, login, dial):
        login("b").sub("uno").close()
        asker = login("a").sub("inbox").pub("one", reply="inbox")
        assert b" 503" in asker.op()

    def test_interest_counts_for_no_responders(self, login):
        listener = login("b").sub("uno")
        listener.flush()
        assert login("a").sub("inbox").pub("one", reply="inbox").flush() == []


class TestServices:
    def test_request_and_response(self, login):
        responder, asker = login("a").sub("add.*", 3), login("b").sub("inbox", 4)
        responder.flush()
        asker.pub("sum.7", "1+6", reply="inbox").flush()
        request = responder.op()
        assert re.fullmatch(
            rb"HMSG add\.7 3 (_R_\.\w{6}\.\w{6}) (\d+) (\d+)\r\n"
            rb'NATS/1\.0\r\nNats-Request-Info: \{"acc":"B","rtt":\d+\}\r\n\r\n1\+6',
            request,
        )
        responder.pub(reply_of(request), "7").flush()
        assert asker.op() == b"MSG inbox 4 1\r\n7"

    def test_only_one_response(self, login):
        responder, asker = login("a").sub("add.*"), login("b").sub("inbox")
        responder.flush()
        asker.pub("sum.7", reply="inbox").flush()
        reply = reply_of(responder.op())
        responder.pub(reply, "1").pub(reply, "2").flush()
        assert asker.flush() == [b"MSG inbox 1 1\r\n1"]

    def test_tokens_change_places(self, login):
        responder = login("a").sub("swap.>")
        responder.flush()
        login("b").pub("swapped.x.y", "", reply="inbox").flush()
        assert responder.op().startswith(b"HMSG swap.y.x 1 _R_.")

    def test_many_responses_until_an_empty_one(self, login):
        for service in ("many", "chunks"):
            responder, asker = login("a").sub(service), login("b").sub("inbox")
            responder.flush()
            asker.pub(service, reply="inbox").flush()
            reply = reply_of(responder.op())
            responder.pub(reply, "1").pub(reply, "2").pub(reply, "").pub(reply, "3").flush()
            assert asker.flush() == [b"MSG inbox 1 1\r\n1", b"MSG inbox 1 1\r\n2", b"MSG inbox 1 0\r\n"]

    def test_headers_of_request_and_response_stay(self, login):
        responder, asker = login("a").sub("add.*"), login("b").sub("inbox")
        responder.flush()
        asker.hpub("sum.7", b"NATS/1.0\r\nA: b\r\n\r\n", b"x", reply="inbox").flush()
        request = responder.op()
        assert b"NATS/1.0\r\nA: b\r\nNats-Request-Info: {" in request
        responder.hpub(reply_of(request), b"NATS/1.0\r\nC: d\r\n\r\n", b"y").flush()
        assert asker.op() == b"HMSG inbox 1 18 19\r\nNATS/1.0\r\nC: d\r\n\r\ny"

    def test_requester_cannot_forge_who_asks(self, login):
        responder = login("a").sub("add.*")
        responder.flush()
        forged = b'NATS/1.0\r\nNats-Request-Info: {"acc":"A"}\r\nA: b\r\n\r\n'
        login("b").hpub("sum.7", forged, b"x", reply="inbox").flush()
        request = responder.op()
        assert request.count(b"Nats-Request-Info") == 1 and b'{"acc":"B"' in request and b"A: b\r\n" in request

    def test_sharing_tells_all(self, login):
        responder, asker = login("a").sub("info"), login("b", name="me", lang="x", version="1")
        responder.flush()
        asker.pub("info", reply="inbox").flush()
        info = json.loads(re.search(rb"Nats-Request-Info: (.*)\r\n", responder.op())[1])
        assert list(info) == [
            "start", "host", "id", "acc", "user", "name", "lang", "ver", "rtt", "server", "kind", "client_type"
        ]  # fmt: skip
        assert (info["acc"], info["user"], info["name"], info["id"]) == ("B", "b", "me", asker.cid)

    def test_nobody_there_is_told_at_once(self, login):
        asker = login("b").sub("inbox").pub("sum.1", reply="inbox")
        assert asker.op() == b"HMSG inbox 1 37 37\r\nNATS/1.0 503\r\nNats-Subject: sum.1\r\n\r\n"

    def test_without_a_reply_it_is_just_sent(self, login):
        responder = login("a").sub("add.*")
        responder.flush()
        login("b").pub("sum.1", "x").flush()
        assert re.fullmatch(rb"HMSG add\.1 1 \d+ \d+\r\nNATS/1\.0\r\nNats-Request-Info: .*\r\n\r\nx", responder.op())

    def test_subscribers_of_the_subject_get_it_too(self, login):
        responder, listener = login("a").sub("add.*"), login("b2").sub("sum.*")
        responder.flush(), listener.flush()
        login("b").pub("sum.1", "x", reply="inbox").flush()
        assert listener.flush() == [b"MSG sum.1 1 inbox 1\r\nx"] and len(responder.flush()) == 1

    def test_the_exporters_mappings_apply(self, login):
        responder = login("a").sub("mapped.here")
        responder.flush()
        login("b").pub("elsewhere", "x", reply="inbox").flush()
        assert responder.op().startswith(b"HMSG mapped.here 1 _R_.")

    def test_replies_of_the_server_are_not_for_clients(self, login):
        sender = login("a").pub("x", reply="_R_.abcdef.ghijkl")
        assert sender.op() == b"-ERR 'Permissions Violation for Publish with Reply of \"_R_.abcdef.ghijkl\"'"

    def test_a_response_that_asks_again(self, login):
        responder, asker = login("a").sub("add.*").sub("more", 2), login("b").sub("inbox")
        responder.flush()
        asker.pub("sum.1", reply="inbox").flush()
        responder.pub(reply_of(responder.op()), "which?", reply="more").flush()
        question = asker.op()
        assert re.fullmatch(rb"MSG inbox 1 _R_\.\w{6}\.\w{6} 6\r\nwhich\?", question)
        asker.pub(reply_of(question), "that").flush()
        assert responder.op() == b"MSG more 2 4\r\nthat"

    def test_a_late_response_is_dropped(self, login):
        responder, asker = login("a").sub("quick"), login("b").sub("inbox")
        watcher = login("a2").sub("latency.quick")
        responder.flush(), watcher.flush()
        asker.pub("quick", reply="inbox").flush()
        reply = reply_of(responder.op())
        assert b'"status":504' in watcher.op()  # which tells that it is waited for no more
        responder.pub(reply, "too late").flush()
        assert asker.flush() == []

    def test_through_two_accounts(self, login):
        relay, asker = login("b").sub("relay"), login("c").sub("inbox")
        relay.flush()
        asker.pub("relay", "x", reply="inbox").flush()
        request = relay.op()
        assert b'{"acc":"C"' in request
        relay.pub(reply_of(request), "y").flush()
        assert asker.op() == b"MSG inbox 1 1\r\ny"


class TestLatency:
    def test_of_every_request(self, login):
        watcher, responder = login("a2").sub("latency.>"), login("a", name="srv").sub("measured")
        watcher.flush(), responder.flush()
        asker = login("b").sub("inbox").pub("measured", reply="inbox")
        asker.flush()
        responder.pub(reply_of(responder.op()), "y").flush()
        op = watcher.op()
        assert op.startswith(b"MSG latency.measured 1 ")
        metric = json.loads(op.split(b"\r\n", 1)[1])
        assert list(metric) == [
            "type", "id", "timestamp", "status", "requestor", "responder", "start", "service", "system", "total"
        ]  # fmt: skip
        assert metric["type"] == "io.nats.server.metric.v1.service_latency" and metric["status"] == 200
        assert list(metric["requestor"]) == ["acc", "rtt"] and metric["responder"]["name"] == "srv"

    def test_of_a_request_that_nobody_answers(self, login):
        watcher = login("a2").sub("latency.>")
        watcher.flush()
        login("b").sub("inbox").pub("measured", reply="inbox").flush()
        metric = json.loads(watcher.op().split(b"\r\n", 1)[1])
        assert (metric["status"], metric["description"]) == (503, "Service Unavailable")

    def test_of_a_request_without_a_reply(self, login):
        watcher, responder = login("a2").sub("latency.>"), login("a").sub("measured")
        watcher.flush(), responder.flush()
        login("b").pub("measured").flush()
        metric = json.loads(watcher.op().split(b"\r\n", 1)[1])
        assert (metric["status"], metric["description"]) == (400, "Bad Request")

    @pytest.mark.parametrize("listened", ["inbox", "inbox.*", ">"])
    @pytest.mark.parametrize("leaves", ["unsubscribes", "closes"])
    def test_of_a_request_whose_requester_goes(self, login, listened, leaves):
        watcher, responder = login("a2").sub("latency.>"), login("a").sub("measured")
        watcher.flush(), responder.flush()
        inbox = listened.replace("*", "x").replace(">", "any")
        asker = login("b").sub(listened, 1).pub("measured", reply=inbox)
        asker.flush()
        reply = reply_of(responder.op())
        if leaves == "closes":
            asker.close()
        else:
            asker.lines("UNSUB 1").flush()
        metric = json.loads(watcher.op().split(b"\r\n", 1)[1])
        assert (metric["status"], metric["description"]) == (408, "Request Timeout")
        assert metric["requestor"]["acc"] == "B" and "responder" not in metric and metric["total"] == 0
        later = login("b2").sub(inbox)
        later.flush()
        responder.pub(reply, "late").flush()
        assert later.flush() == [] and watcher.flush() == []

    def test_of_a_request_that_somebody_else_listens_for(self, login):
        watcher, responder = login("a2").sub("latency.>"), login("a").sub("measured")
        other = login("b2").sub("inbox")
        watcher.flush(), responder.flush(), other.flush()
        login("b").sub("inbox").pub("measured", reply="inbox").lines("UNSUB 1").flush()
        responder.pub(reply_of(responder.op()), "y").flush()
        assert json.loads(watcher.op().split(b"\r\n", 1)[1])["status"] == 200
        assert other.flush() == [b"MSG inbox 1 1\r\ny"]

    def test_of_a_response_that_nobody_listens_for(self, login):
        watcher, responder = login("a2").sub("latency.>"), login("a").sub("measured")
        watcher.flush(), responder.flush()
        login("b").pub("measured", reply="inbox").flush()
        login("b").sub("other").lines("UNSUB 1").flush()  # which has nothing to do with it
        responder.pub(reply_of(responder.op()), "y").flush()
        assert json.loads(watcher.op().split(b"\r\n", 1)[1])["status"] == 200

    def test_of_a_requester_that_wants_one_response(self, login):
        watcher, responder = login("a2").sub("latency.>"), login("a").sub("measured")
        watcher.flush(), responder.flush()
        login("b").sub("inbox").lines("UNSUB 1 1").pub("measured", reply="inbox").flush()
        responder.pub(reply_of(responder.op()), "y").flush()
        assert json.loads(watcher.op().split(b"\r\n", 1)[1])["status"] == 200
        assert watcher.flush() == []

    @pytest.mark.parametrize(
        ("header", "shown"),
        [
            (b"X-B3-Sampled: 1", {"X-B3-Sampled": ["1"]}),
            (b"X-B3-Sampled: 0", None),
            (b"X-B3-TraceId: 80f1", {"X-B3-Traceid": ["80f1"]}),
            (b"B3: 80f1-e457-1-05e3", {"B3": ["80f1-e457-1-05e3"]}),
            (b"B3: 0", None),
            (b"B3: 80f1-e457-0", None),
            (b"Uber-Trace-Id: 4:5:4:1", {"Uber-Trace-Id": ["4:5:4:1"]}),
            (b"Uber-Trace-Id: 4:5:4:2", None),
            (b"Traceparent: 00-4bf9-00f0-01", {"Traceparent": ["00-4bf9-00f0-01"]}),
            (b"Traceparent: 00-4bf9-00f0-00", None),
            (b"Other: 1", None),
        ],
    )
    def test_by_headers(self, login, header, shown):
        watcher, responder = login("a2").sub("latency.>"), login("a").sub("asked")
        watcher.flush(), responder.flush()
        login("b").sub("inbox").hpub("asked", b"NATS/1.0\r\n" + header + b"\r\n\r\n", reply="inbox").flush()
        responder.pub(reply_of(responder.op()), "y").flush()
        if shown is None:
            assert watcher.flush() == []
        else:  # nats-server tells it a moment later
            assert json.loads(watcher.op().split(b"\r\n", 1)[1])["header"] == shown


class TestMappings:
    @pytest.mark.parametrize(
        ("published", "arrives"),
        [
            ("old.x", b"new.x"),
            ("other", b"other"),
            ("lost", b"lost"),
            ("part.abc", b"p.2.abc"),
            ("cut.ab-cd", b"c.ab.cd.ab.cd"),
        ],
    )
    def test_the_subject_changes(self, login, published, arrives):
        listener = login("m").sub(">")
        listener.flush()
        login("m").pub(published, "x").flush()
        assert listener.flush() == [b"MSG " + arrives + b" 1 1\r\nx"]

    def test_weights(self, login):
        listener = login("m").sub("left").sub("right", 2).sub("half", 3)
        listener.flush()
        sender = login("m")
        for _ in range(200):
            sender.pub("half")
        sender.flush()
        sids = [op.split()[2] for op in listener.flush()]
        assert 50 < sids.count(b"1") < 150 and 50 < sids.count(b"2") < 150 and b"3" not in sids

    def test_the_old_subject_is_not_listened_to(self, login):
        listener = login("m").sub("old.x")
        listener.flush()
        login("m").pub("old.x").flush()
        assert listener.flush() == []

    def test_nobody_there_names_the_new_subject(self, login):
        asker = login("m").sub("inbox").pub("old.x", reply="inbox")
        assert asker.op() == b"HMSG inbox 1 37 37\r\nNATS/1.0 503\r\nNats-Subject: new.x\r\n\r\n"


class TestReload:
    BEFORE = """
        accounts {
            A { users [{user: a, password: "p"}], exports [{stream: "news.>"}, {service: "add"}] }
            B { users [{user: b, password: "p"}], imports [IMPORTS] }
        }
    """

    def test_imports_come_and_go_for_subscriptions_that_exist(self, start, dial):
        server = start(self.BEFORE.replace("[IMPORTS]", "[]"))
        listener = dial(server).ready(**{"user": "b", "pass": "p"}).sub("news.x")
        sender = dial(server).ready(**{"user": "a", "pass": "p"})
        listener.flush()
        sender.pub("news.x", "1").flush()
        assert listener.flush() == []
        server.reload(self.BEFORE.replace("[IMPORTS]", '[{stream: {account: A, subject: "news.>"}}]'))
        sender.pub("news.x", "2").flush()
        assert listener.flush() == [b"MSG news.x 1 1\r\n2"]
        server.reload(self.BEFORE.replace("[IMPORTS]", "[]"))
        sender.pub("news.x", "3").flush()
        assert listener.flush() == []
