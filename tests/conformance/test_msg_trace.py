"""Message tracing: the event that tells which way a message took, by its headers or its account's msg_trace."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from natsc.jetstream.s2 import Decoder
from tests.jwts import account_jwt, user_jwt

from .test_jwt import ACCOUNT, OPERATOR, USER
from .test_jwt import config as jwt_config

CONFIG = """
    http: 127.0.0.1:-1
    server_name: srv
    accounts {
        A {
            users [
                {user: a, password: p}
                {user: a2, password: p}
                {user: limited, password: p, permissions: {
                    publish: {deny: ["no", "secret.>"]}, subscribe: {deny: "den"}}}
            ]
            exports [
                {stream: "news.>"}, {stream: "quiet.>"}
                {service: "add.*"}, {service: "open.*", allow_trace: true}, {service: "none", allow_trace: true}
                {service: "far", allow_trace: true}
            ]
            msg_trace: {dest: "of.account", sampling: 100}
            mappings {"old": "new", "open.7": "open.seven"}
        }
        B {
            users [{user: b, password: p}]
            imports [
                {stream: {account: A, subject: "news.>"}, to: "from.a.>", allow_trace: true}
                {stream: {account: A, subject: "quiet.>"}}
                {service: {account: A, subject: "add.*"}, to: "sum.*"}
                {service: {account: A, subject: "open.*"}}
                {service: {account: A, subject: "none"}}
                {service: {account: A, subject: "far"}}
            ]
            exports [{service: "far", allow_trace: true}]
        }
        C {users [{user: c, password: p}], imports [{service: {account: B, subject: "far"}, to: "near"}]}
        SYS {users [{user: s, password: p}]}
    }
    system_account: SYS
"""
ONLY = "Nats-Trace-Only: true\r\n"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-"


@pytest.fixture
def server(shared_server):
    return shared_server(CONFIG)


@pytest.fixture
def login(server, dial):
    def get(user: str, **options: object):
        return dial(server).ready(**{"user": user, "pass": "p", "headers": True, "no_responders": True, **options})

    return get


def send(wire, subject: str, headers: str = "", payload: bytes = b"x", *, dest: str | None = "tr", reply=None):
    asks = f"Nats-Trace-Dest: {dest}\r\n" if dest is not None else ""
    return wire.hpub(subject, f"NATS/1.0\r\n{asks}{headers}\r\n".encode(), payload, reply)


def parsed(op: bytes) -> dict:
    """The event in a message."""
    assert b'"events":[' in op, op
    return json.loads(op[op.index(b'{"server"') :])


def told(op: bytes) -> list[tuple]:
    """What an event tells, in short: type and members, without kinds, numbers and times."""
    shown = []
    for event in parsed(op)["events"]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", event.pop("ts"))
        assert event.pop("kind", 0) == 0
        event.pop("cid", 0)
        shown.append((event.pop("type"), event))
    return shown


def split(ops: list[bytes]) -> tuple[list[list[tuple]], list[bytes]]:
    """(what events tell, the other operations)."""
    events = [told(op) for op in ops if b'"events":[' in op]
    return events, [op for op in ops if b'"events":[' not in op]


def block(ops: bytes) -> bytes:
    return ops.split(b"\r\n", 1)[1]


class TestEvent:
    def test_its_form(self, login, server_kind):
        asker = login("a", name="me").sub("tr")
        other = login("a2", name="you").sub("form", 3)
        other.flush()
        op = send(asker, "form", "B: 1\r\nb: 2\r\nB: 3\r\n").op()
        assert re.match(rb"MSG tr 1 +\d+\r\n", op)
        event = parsed(op)
        assert list(event) == ["server", "request", "events"] and event["server"]["name"] == "srv"
        assert event["request"] == {"header": {"B": ["1", "3"], "Nats-Trace-Dest": ["tr"], "b": ["2"]}, "msgsize": 52}
        came, gone = event["events"]
        assert list(came) == ["type", "ts", "kind", "cid", "name", "acc", "subj"]
        assert (came["type"], came["cid"], came["name"], came["acc"], came["subj"]) == (
            "in", asker.cid, "me", "A", "form"
        )  # fmt: skip
        assert list(gone) == ["type", "ts", "kind", "cid", "name", "sub"]
        assert (gone["type"], gone["cid"], gone["name"], gone["sub"]) == ("eg", other.cid, "you", "form")
        assert block(other.op()) == b"NATS/1.0\r\nNats-Trace-Dest: tr\r\nB: 1\r\nb: 2\r\nB: 3\r\n\r\nx"

    def test_wildcards_and_queues(self, login):
        asker, other = (
            login("a").sub("tr"),
            login("a2", name="o").sub("wq.*", 1).sub("wq.>", 2, "q").sub("wq.x", 3, "r"),
        )
        other.flush()
        came, *gone = told(send(asker, "wq.x").op())
        assert came == ("in", {"acc": "A", "subj": "wq.x"})
        assert sorted(gone, key=str) == sorted(
            [
                ("eg", {"name": "o", "sub": "wq.*"}),
                ("eg", {"name": "o", "sub": "wq.>", "queue": "q"}),
                ("eg", {"name": "o", "sub": "wq.x", "queue": "r"}),
            ],
            key=str,
        )
        assert len(other.flush()) == 3

    def test_nobody(self, login):
        asker = login("a").sub("tr").sub("inbox", 2)
        events, others = split(send(asker, "nobody", reply="inbox").ops(2))
        assert events == [[("in", {"acc": "A", "subj": "nobody"})]] and b" 503" in others[0]

    def test_a_mapping(self, login):
        asker, other = login("a").sub("tr"), login("a2").sub("new")
        other.flush()
        assert told(send(asker, "old").op()) == [
            ("in", {"acc": "A", "subj": "old"}), ("sm", {"to": "new"}), ("eg", {"sub": "new"})
        ]  # fmt: skip

    def test_why_somebody_does_not_get_it(self, login):
        asker = login("a", echo=False).sub("tr").sub("why", 2)
        watcher, other = login("a2").sub("why.trace"), login("limited").sub("*", 1)
        watcher.flush(), other.flush()
        send(asker, "why", dest="why.trace").flush()
        assert ("eg", {"sub": "why", "error": "Not delivered because of no echo"}) in told(watcher.op())
        send(asker, "den", dest="why.trace").flush()
        denied = ("eg", {"sub": "*", "error": "Not delivered because subscription denies this subject"})
        assert denied in told(watcher.op())

    def test_what_is_not_taken(self, login):
        watcher, asker = login("a").sub("taken.trace"), login("limited")
        watcher.flush()
        send(asker, "no", dest="taken.trace")
        assert asker.op() == b"-ERR 'Permissions Violation for Publish to \"no\"'"
        assert told(watcher.op()) == [
            ("in", {"acc": "A", "subj": "no", "error": 'Permissions Violation for Publish to "no"'})
        ]
        send(asker, "yes", dest="taken.trace", reply="_R_.a.b")
        text = 'Permissions Violation for Publish with Reply of "_R_.a.b"'
        assert asker.op() == f"-ERR '{text}'".encode()
        assert told(watcher.op()) == [("in", {"acc": "A", "subj": "yes", "error": text})]

    def test_a_message_that_is_too_big(self, login):
        watcher, asker = login("a").sub("big.trace"), login("a2")
        watcher.flush()
        head = b"NATS/1.0\r\nNats-Trace-Dest: big.trace\r\n\r\n"
        asker.send(b"HPUB big %d 2000000\r\n" % len(head), head)
        assert asker.op() == b"-ERR 'Maximum Payload Violation'"
        event = parsed(watcher.op())
        assert event["request"]["msgsize"] == 2000000 and event["events"][0]["error"] == "maximum payload exceeded"

    @pytest.mark.parametrize(
        ("accepted", "encoding"),
        [("gzip", b"gzip"), ("snappy", b"snappy"), ("S2", b"snappy"), ("gzip, snappy", b"snappy"), ("br", b"identity")],
    )
    def test_compression(self, login, accepted, encoding):
        op = send(login("a").sub("tr"), "packed", f"Accept-Encoding: {accepted}\r\n").op()
        head, _, payload = block(op).partition(b"\r\n\r\n")
        assert head == b"NATS/1.0\r\nContent-Encoding: " + encoding
        if encoding == b"gzip":
            payload = gzip.decompress(payload)
        elif encoding == b"snappy":
            assert payload.startswith(b"\xff\x06\x00\x00sNaPpY")
            decoder = Decoder()
            decoder.feed(payload)
            payload = decoder.next_block()
        assert json.loads(payload)["events"][0]["subj"] == "packed"


class TestOnly:
    def test_nobody_gets_it(self, login):
        asker, other = login("a").sub("tr").sub("inbox", 2), login("a2").sub("only").sub("only", 2, "q")
        other.flush()
        op = send(asker, "only", ONLY, reply="inbox").op()
        assert told(op)[1:] == [("eg", {"sub": "only"}), ("eg", {"sub": "only", "queue": "q"})]
        assert other.flush() == [] and asker.flush() == []

    def test_it_does_not_count_for_auto_unsubscribe(self, login):
        asker, other = login("a").sub("tr"), login("a2").sub("auto")
        other.lines("UNSUB 1 1").flush()
        assert told(send(asker, "auto", ONLY).op())[1:] == [("eg", {"sub": "auto"})]
        assert len(told(send(asker, "auto").op())) == 2 and len(other.flush()) == 1

    def test_nobody_there(self, login):
        events, others = split(send(login("a").sub("tr").sub("inbox", 2), "nobody", ONLY, reply="inbox").ops(2))
        assert len(events[0]) == 1 and b" 503" in others[0]

    @pytest.mark.parametrize(("value", "delivered"), [("1", 0), ("ON", 0), ("True", 0), ("yes", 1), ("0", 1)])
    def test_its_values(self, login, value, delivered):
        asker, other = login("a").sub("tr"), login("a2").sub("values")
        other.flush()
        send(asker, "values", f"Nats-Trace-Only: {value}\r\n").op()
        assert len(other.flush()) == delivered


class TestDestination:
    def test_cve_2026_33249_without_the_right_to_publish_there(self, login):
        """CVE-2026-33249: it is the server that publishes the event, but not where the client may not publish."""
        spy, asker, other = login("a").sub("secret.>"), login("limited"), login("a2").sub("cve")
        spy.flush(), other.flush()
        for headers in ("", ONLY):
            send(asker, "cve", headers, dest="secret.x")
            assert asker.flush() == [b"-ERR 'Permissions Violation for Publish to \"secret.x\"'"]
        assert spy.flush() == [] and other.flush() == []  # nor does the message go anywhere

    def test_ghsa_p3j5_5hrq_p75h_of_a_message_that_is_too_big(self, login):
        """GHSA-p3j5-5hrq-p75h: the same by the other door, an event about a message that isn't taken."""
        spy, asker = login("a").sub("secret.>"), login("limited")
        spy.flush()
        head = b"NATS/1.0\r\nNats-Trace-Dest: secret.x\r\n\r\n"
        asker.send(b"HPUB big %d 2000000\r\n" % len(head), head)
        assert asker.eof()[-1] == b"-ERR 'Maximum Payload Violation'"
        assert spy.flush() == []

    @pytest.mark.parametrize("dest", ["$NRG.x", "_GR_.x.y", "$GR.x"])
    def test_what_is_the_servers(self, login, dest):
        asker = send(login("a").sub("own"), "own", dest=dest)
        assert asker.flush() == [f"-ERR 'Permissions Violation for Publish to \"{dest}\"'".encode()]

    @pytest.mark.parametrize("dest", ["bad.*", ".x", "a..b"])
    def test_which_is_no_subject(self, login, dest):
        asker = login("a").sub("bad")
        assert len(send(asker, "bad", dest=dest).flush()) == 1
        assert send(asker, "bad", ONLY, dest=dest).flush() == []

    def test_trace_disabled(self, login):
        asker = login("a").sub("off")
        assert len(send(asker, "off", dest="trace disabled").flush()) == 1

    def test_a_message_of_older_servers(self, login):
        asker = login("a").sub("origin")
        send(asker, "origin", "Nats-Trace-Origin-Account: A\r\n")
        assert [block(op) for op in asker.flush()] == [
            b"NATS/1.0\r\nNats-Trace-Origin-Account: A\r\nNats-Trace-Dest: trace disabled\r\n\r\nx"
        ]
        assert send(asker, "origin", "Nats-Trace-Origin-Account: A\r\n" + ONLY).flush() == []

    def test_other_names_mean_nothing(self, login):
        asker = login("a").sub("tr").sub("names", 2)
        for name in ("nats-trace-dest", "Nats-Trace-Dest ", "X-Nats-Trace-Dest", "Nats-Trace-Dest-X"):
            assert len(send(asker, "names", f"{name}: tr\r\n", dest=None).flush()) == 1

    def test_a_verbose_client(self, login, server, dial):
        asker = dial(server).connect(user="a", **{"pass": "p"}, verbose=True)
        assert asker.flush() == [b"+OK"]
        assert send(asker, "x", ONLY).flush() == [b"+OK"] and send(asker, "x", ONLY, dest="bad.*").flush() == []


class TestAccount:
    """msg_trace: what bears a W3C traceparent is traced without asking."""

    @pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
    def test_a_traceparent(self, login, name):
        watcher = login("a2").sub("of.account")
        watcher.flush()
        asker = send(login("a").sub("parent"), "parent", f"{name}: {PARENT}01\r\n{ONLY}", dest=None)
        assert len(asker.flush()) == 1  # only what asks for the trace itself may say that it isn't to be delivered
        event = parsed(watcher.op())
        assert event["request"]["header"][name] == [PARENT + "01"] and len(event["events"]) == 2

    @pytest.mark.parametrize("value", [PARENT + "00", PARENT + "1", "x", PARENT + "zz", PARENT + "01-more"])
    def test_that_is_not_sampled(self, login, value):
        watcher, asker = login("a2").sub("of.account"), login("a").sub("parent")
        watcher.flush()
        assert len(send(asker, "parent", f"traceparent: {value}\r\n", dest=None).flush()) == 1
        send(asker, "last", f"traceparent: {PARENT}01\r\n", dest=None).flush()
        assert told(watcher.op())[0][1]["subj"] == "last"

    def test_of_an_account_without_a_destination(self, login):
        asker = login("b").sub(">")
        assert len(send(asker, "parent", f"traceparent: {PARENT}01\r\n", dest=None).flush()) == 1

    def test_the_header_goes_first(self, login):
        watcher = login("a2").sub("of.account")
        watcher.flush()
        asker = send(login("a").sub("tr"), "both", f"traceparent: {PARENT}01\r\n")
        assert told(asker.op())[0][1]["subj"] == "both" and watcher.flush() == []

    def test_sampling(self, start, dial):
        server = start("accounts {A {users [{user: a, password: p}], msg_trace: {dest: t, sampling: 1%}}}\n")
        asker = dial(server).ready(user="a", **{"pass": "p"}).sub("of.one")
        for _ in range(300):
            send(asker, "of.one", f"traceparent: {PARENT}01\r\n", dest=None)
        blocks = [block(op) for op in asker.flush()]
        muted = f"NATS/1.0\r\ntraceparent: {PARENT}01\r\nNats-Trace-Dest: trace disabled\r\n\r\nx".encode()
        assert len(blocks) == 300 and blocks.count(muted) > 200

    def test_a_reload(self, start, dial):
        config = "accounts {A {users: [{user: a, password: p}], %s}}\n"
        server = start(config % "")
        asker = dial(server).ready(user="a", **{"pass": "p"}).sub("t")
        assert send(asker, "x", f"traceparent: {PARENT}01\r\n", dest=None).flush() == []
        server.reload(config % "msg_trace: t")
        send(asker, "x", f"traceparent: {PARENT}01\r\n", dest=None)
        assert told(asker.op())[0][0] == "in"

    def test_of_an_account_jwt(self, start, dial):
        server = start(jwt_config(account_jwt(ACCOUNT, OPERATOR, trace={"dest": "by.jwt", "sampling": 100})))
        asker = dial(server)
        asker.connect(jwt=user_jwt(USER, ACCOUNT), sig=USER.sign(asker.info["nonce"])).sub("by.jwt")
        send(asker, "x", f"traceparent: {PARENT}01\r\n", dest=None)
        assert told(asker.op()) == [("in", {"acc": str(ACCOUNT), "subj": "x"})]


class TestImports:
    def test_a_stream(self, login):
        asker, other = login("a").sub("tr"), login("b", name="o").sub("from.a.*", 5).sub("from.a.x", 6, "q")
        other.flush()
        events = [
            ("in", {"acc": "A", "subj": "news.x"}),
            ("se", {"acc": "B", "to": "from.a.x"}), ("eg", {"name": "o", "acc": "B", "sub": "news.*"}),
            ("se", {"acc": "B", "to": "from.a.x"}), ("eg", {"name": "o", "acc": "B", "sub": "news.x", "queue": "q"}),
        ]  # fmt: skip
        assert told(send(asker, "news.x").op()) == events
        assert [op.split()[1] for op in other.flush()] == [b"from.a.x"] * 2
        assert told(send(asker, "news.x", ONLY).op()) == events and other.flush() == []

    def test_a_stream_whose_traces_end_there(self, login):
        asker, other = login("a").sub("tr").sub("inbox", 2), login("b").sub("quiet.*")
        other.flush()
        events = [("in", {"acc": "A", "subj": "quiet.x"}), ("se", {"acc": "B", "to": "quiet.x"})]
        assert told(send(asker, "quiet.x", reply="inbox").op()) == events and len(other.flush()) == 1
        assert told(send(asker, "quiet.x", ONLY, reply="inbox").op()) == events
        assert other.flush() == [] and asker.flush() == []

    def test_a_service(self, login):
        responder, asker = login("a", name="r").sub("open.*"), login("b").sub("tr").sub("inbox", 2)
        responder.flush()
        events = [
            ("in", {"acc": "B", "subj": "open.1"}),
            ("si", {"acc": "A", "from": "open.1", "to": "open.1"}),
            ("eg", {"name": "r", "acc": "A", "sub": "open.*"}),
        ]
        assert told(send(asker, "open.1", reply="inbox").op()) == events
        request = responder.op()
        assert re.fullmatch(
            rb"HMSG open\.1 1 (_R_\.\w{6}\.)\w{6} \d+ \d+\r\nNATS/1\.0\r\n"
            rb"Nats-Request-Info: \{.*\}\r\nNats-Trace-Dest: \1\w{6}\r\n\r\nx",
            request,
        )
        responder.pub(request.split()[3].decode(), "y").flush()
        assert asker.op() == b"MSG inbox 2 1\r\ny"
        assert told(send(asker, "open.1", ONLY, reply="inbox").op()) == events
        assert responder.flush() == [] and asker.flush() == []

    def test_a_mapping_of_the_exporter(self, login):
        responder, asker = login("a", name="r").sub("open.seven"), login("b").sub("tr")
        responder.flush()
        assert told(send(asker, "open.7", reply="inbox").op())[1:] == [
            ("si", {"acc": "A", "from": "open.7", "to": "open.seven"}),
            ("eg", {"name": "r", "acc": "A", "sub": "open.seven"}),
        ]

    def test_a_service_whose_traces_end_there(self, login):
        responder, asker = login("a").sub("add.*"), login("b").sub("tr").sub("inbox", 2)
        responder.flush()
        events = [("in", {"acc": "B", "subj": "sum.1"}), ("si", {"acc": "A", "from": "sum.1", "to": "add.1"})]
        assert told(send(asker, "sum.1", reply="inbox").op()) == events
        assert b"}\r\nNats-Trace-Dest: trace disabled\r\n\r\nx" in responder.op()
        got, others = split(send(asker, "sum.1", ONLY, reply="inbox").ops(2))
        assert got == [events] and b" 503" in others[0] and responder.flush() == []

    def test_a_service_where_nobody_is(self, login):
        asker = login("b").sub("tr").sub("inbox", 2)
        for headers in ("", ONLY):
            got, others = split(send(asker, "none", headers, reply="inbox").ops(2))
            assert got[0][1:] == [("si", {"acc": "A", "from": "none", "to": "none"})] and b" 503" in others[0]

    def test_through_two_accounts(self, login):
        responder, asker = login("a", name="r").sub("far"), login("c").sub("tr")
        responder.flush()
        assert told(send(asker, "near", reply="inbox").op()) == [
            ("in", {"acc": "C", "subj": "near"}),
            ("si", {"acc": "B", "from": "near", "to": "far"}),
            ("si", {"acc": "A", "from": "far", "to": "far"}),
            ("eg", {"name": "r", "acc": "A", "sub": "far"}),
        ]
        assert len(responder.flush()) == 1

    def test_a_response(self, login):
        responder, asker = login("a").sub("open.*").sub("tr", 2), login("b").sub("inbox")
        responder.flush()
        for headers in ("", ONLY):
            asker.pub("open.1", reply="inbox").flush()
            reply = responder.op().split()[3].decode()
            events = [
                ("in", {"acc": "A", "subj": reply, }), ("si", {"acc": "B", "from": reply, "to": "inbox"})
            ]  # fmt: skip
            assert told(send(responder, reply, headers).op()) == events
            got = asker.flush()
            if headers:
                assert got == []
            else:
                assert [block(op) for op in got] == [b"NATS/1.0\r\nNats-Trace-Dest: trace disabled\r\n\r\nx"]

    def test_the_system_account(self, login):
        asker = login("a").sub("tr").sub("inbox", 2)
        events = [
            ("in", {"acc": "A", "subj": "$SYS.REQ.USER.INFO"}),
            ("si", {"acc": "SYS", "from": "$SYS.REQ.USER.INFO", "to": "$SYS.REQ.USER.A.INFO"}),
        ]
        got, others = split(send(asker, "$SYS.REQ.USER.INFO", reply="inbox").ops(2))
        assert got == [events] and b'"user":"a"' in others[0]
        got, others = split(send(asker, "$SYS.REQ.USER.INFO", ONLY, reply="inbox").ops(2))
        assert got == [events] and b" 503" in others[0]


JETSTREAM = """
    jetstream {{store_dir: "{}"}}
    system_account: SYS
    accounts {{
        A {{users [{{user: a, password: p}}], jetstream: enabled}}
        SYS {{users [{{user: s, password: p}}]}}
    }}
"""
STREAMS = (
    {"name": "S", "subjects": ["s.>"], "max_msg_size": 100, "allow_rollup_hdrs": False},
    {"name": "FULL", "subjects": ["full.>"], "max_msgs": 1, "discard": "new"},
    {"name": "I", "subjects": ["i.>"], "retention": "interest", "subject_transform": {"src": "i.*", "dest": "to.$1"}},
    {"name": "TTL", "subjects": ["ttl"], "allow_msg_ttl": True},
)


@pytest.fixture(scope="class")
def stream_server(shared_server, tmp_path_factory):
    return shared_server(JETSTREAM.format(tmp_path_factory.mktemp("store")))


@pytest.fixture
def streamer(stream_server, dial):
    """A client with the streams made, which listens to tr and in."""
    asker = dial(stream_server).ready(user="a", **{"pass": "p"}, no_responders=True).sub("in").sub("tr", 2)
    for config in STREAMS:
        asker.pub(f"$JS.API.STREAM.DELETE.{config['name']}", reply="in").op()
        asker.pub(
            f"$JS.API.STREAM.CREATE.{config['name']}", json.dumps({**config, "storage": "memory"}), reply="in"
        )  # fmt: skip
        assert b"did_create" in asker.op()
    return asker


class TestStream:
    def stored(self, ops: list[bytes]) -> tuple[dict, list[bytes]]:
        """(what the one event says of the stream, the other operations)."""
        events, others = split(ops)
        (event,) = events
        assert [kind for kind, _ in event] == ["in", "js"]
        return event[1][1], others

    def test_a_message_that_is_stored(self, streamer):
        said, others = self.stored(send(streamer, "s.1", reply="in").ops(2))
        assert said == {"stream": "S", "subject": "s.1"} and b'"seq":1}' in others[0]
        kept = json.loads(streamer.pub("$JS.API.STREAM.MSG.GET.S", '{"seq":1}', reply="in").op().split(b"\r\n")[1])
        assert kept["message"]["hdrs"] == "TkFUUy8xLjANCk5hdHMtVHJhY2UtRGVzdDogdHJhY2UgZGlzYWJsZWQNCg0K"

    def test_only(self, streamer):
        said, _ = self.stored([send(streamer, "s.1", ONLY, reply="in").op()])
        assert said == {"stream": "S", "subject": "s.1"}
        assert b'"seq":1}' in streamer.pub("s.1", reply="in").op()

    @pytest.mark.parametrize("only", ["", ONLY])
    @pytest.mark.parametrize(
        ("headers", "error"),
        [
            ("Nats-Msg-Id: 1", "msgid is duplicate"),
            ("Nats-Expected-Last-Sequence: 77", "last sequence mismatch: 77 vs 1"),
            ("Nats-Expected-Last-Subject-Sequence: 9", "last sequence by subject mismatch: 9 vs 1"),
            ("Nats-Expected-Stream: X", "expected stream does not match"),
            ("Nats-Expected-Last-Msg-Id: q", 'last msgid mismatch: "q" vs "1"'),
            ("Nats-Rollup: sub", "rollup not permitted"),
            ("Nats-TTL: 1s", "message TTL disabled"),
            ("Nats-Incr: 1", "message counters is disabled (10168)"),
            ("Nats-Batch-Id: 1\r\nNats-Batch-Sequence: 1", "atomic publish is disabled (10174)"),
            ("Nats-Schedule: @at x", "message schedules is disabled (10188)"),
            ("Nats-Stream-Source: a 1", "message stream source header is not allowed (10227)"),
            ("X: " + "y" * 60, "maximum payload exceeded"),
        ],
    )
    def test_why_it_is_not_stored(self, streamer, headers, error, only):
        streamer.hpub("s.1", b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n", reply="in").op()
        said, others = self.stored(send(streamer, "s.1", headers + "\r\n" + only, reply="in").ops(2))
        assert said == {"stream": "S", "error": error} and len(others) == 1

    def test_a_full_stream(self, streamer):
        streamer.pub("full.1", reply="in").op()
        said, _ = self.stored(send(streamer, "full.1", reply="in").ops(2))
        assert said == {"stream": "FULL", "subject": "full.1", "error": "maximum messages exceeded"}
        said, _ = self.stored([send(streamer, "full.1", ONLY, reply="in").op()])
        assert said == {"stream": "FULL", "subject": "full.1"}

    def test_a_bad_ttl(self, streamer):
        said, _ = self.stored(send(streamer, "ttl", "Nats-TTL: x\r\n", reply="in").ops(2))
        assert said == {"stream": "TTL", "subject": "ttl", "error": "invalid per-message TTL (10165)"}

    @pytest.mark.parametrize("only", ["", ONLY])
    def test_no_interest(self, streamer, only):
        asked = send(streamer, "i.1", only, reply="in")
        said, _ = self.stored(asked.ops(1 if only else 2))
        assert said == {"stream": "I", "subject": "to.1", "nointerest": True}

    def test_the_api(self, streamer):
        events = [
            ("in", {"acc": "A", "subj": "$JS.API.INFO"}),
            ("si", {"acc": "SYS", "from": "$JS.API.INFO", "to": "$JS.API.INFO"}),
        ]
        got, others = split(send(streamer, "$JS.API.INFO", payload=b"", reply="in").ops(2))
        assert got == [events] and b"account_info_response" in others[0]
        got, others = split(send(streamer, "$JS.API.INFO", ONLY, payload=b"", reply="in").ops(2))
        assert got == [events] and b" 503" in others[0]

    def test_a_subscriber_beside_it(self, streamer, stream_server, dial):
        other = dial(stream_server).ready(user="a", **{"pass": "p"}, name="o").sub("s.>")
        other.flush()
        _, *rest = told(send(streamer, "s.1").op())
        assert sorted(rest) == [("eg", {"name": "o", "sub": "s.>"}), ("js", {"stream": "S", "subject": "s.1"})]
        assert block(other.op()) == b"NATS/1.0\r\nNats-Trace-Dest: tr\r\n\r\nx"
