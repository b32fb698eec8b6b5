"""Mirrors and sources: the same conversation with natsc and with nats-server, and what natsc alone promises."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from tests.jetstream.client import Client

from .harness import KINDS, Server
from .talk import SECOND, Talk, both_say_the_same, start_both

SCENARIOS: list[Callable[[Talk], None]] = []
VARYING = ("active", "created", "ts", "first_ts", "last_ts")
WAIT_S = 20


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    yield from start_both(tmp_path_factory)


def scenario(function: Callable[[Talk], None]) -> Callable[[Talk], None]:
    SCENARIOS.append(function)
    return function


def ask(talk: Talk, operation: str, body: Any = "") -> dict[str, Any]:
    """A request to the API whose answer isn't noted."""
    noted = len(talk.record)
    size = 0 if body == "" else len(json.dumps(body))
    talk.write(f"PUB $JS.API.{operation} {talk.inbox}.quiet {size}\r\n{json.dumps(body) if size else ''}\r\n")
    shown, talk.shown = talk.shown, lambda payload: payload  # type: ignore[method-assign]
    talk.expect()
    talk.shown = shown  # type: ignore[method-assign]
    answer = talk.record[-1].split(" | ", 2)[2]
    del talk.record[noted:]
    found: dict[str, Any] = json.loads(answer)
    return found


def steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "VARYING" if name in VARYING else steady(member) for name, member in value.items()}
    return [steady(one) for one in value] if isinstance(value, list) else value


def until(talk: Talk, name: str, done: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until a stream's info is as it should be, and note what it says about its messages and origins."""
    deadline = time.monotonic() + WAIT_S
    while not done(found := ask(talk, f"STREAM.INFO.{name}")):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    found.get("sources", []).sort(key=lambda one: one["name"] + one.get("filter_subject", ""))
    talk.note(json.dumps(steady({part: found.get(part) for part in ("state", "mirror", "sources")})))


def until_last(talk: Talk, name: str, last: int) -> None:
    until(talk, name, lambda info: info["state"]["last_seq"] >= last)


def messages(talk: Talk, name: str, last: int) -> None:
    """Note a stream's messages, without the identity of their origin."""
    from base64 import b64decode

    for seq in range(1, last + 1):
        message = ask(talk, f"STREAM.MSG.GET.{name}", {"seq": seq}).get("message", {})
        block = b64decode(message.get("hdrs", "")).decode()
        lines = [line[: -9 if line.startswith("Nats-Stream-Source") else None] for line in block.split("\r\n")]
        talk.note(f"{name} {seq} {message.get('subject')} {lines} {message.get('data')}")


def publish(talk: Talk, subject: str, payload: str = "", **headers: str) -> None:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    talk.publish(subject, payload, "puback", f"NATS/1.0\r\n{lines}\r\n" if lines else "")
    talk.expect()


@scenario
def a_mirror(talk: Talk) -> None:
    talk.stream("MA")
    publish(talk, "MA.a", "1", Nats_Msg_Id="x", Nats_Expected_Stream="MA", A="b")
    publish(talk, "MA.b", "2", Nats_Expected_Last_Sequence="1")
    publish(talk, "MA.c", "3")
    talk.api("STREAM.MSG.DELETE.MA", {"seq": 2})
    talk.stream("MB", subjects=[], mirror={"name": "MA"})
    until_last(talk, "MB", 3)
    messages(talk, "MB", 3)
    publish(talk, "MA.d", "4")
    until_last(talk, "MB", 4)
    talk.api("CONSUMER.NAMES.MA")
    talk.api("STREAM.DELETE.MB")


@scenario
def sources(talk: Talk) -> None:
    talk.stream("SA")
    talk.stream("SB")
    publish(talk, "SA.a", "1", Nats_Msg_Id="x", Nats_Expected_Stream="SA", A="b")
    publish(talk, "SA.b", "2", Nats_Expected_Last_Sequence="1")
    talk.stream("SS", subjects=["SS.>"], sources=[{"name": "SA"}])
    until_last(talk, "SS", 2)
    publish(talk, "SS.a", "3")
    messages(talk, "SS", 3)
    filtered = {"name": "SB", "filter_subject": "SB.a"}
    changed = {
        "name": "SB",
        "subject_transforms": [{"src": "SB.b.*", "dest": "x.{{wildcard(1)}}"}, {"src": "SB.c", "dest": ""}],
    }
    config = {"name": "SS", "subjects": ["SS.>"], "storage": "memory"}
    talk.api("STREAM.UPDATE.SS", {**config, "sources": [filtered]})
    until(talk, "SS", lambda info: info["sources"][0]["active"] != -1)
    publish(talk, "SB.a", "4")
    until_last(talk, "SS", 4)
    talk.api("STREAM.UPDATE.SS", {**config, "sources": [changed]})
    until(talk, "SS", lambda info: info["sources"][0]["active"] != -1)
    publish(talk, "SB.b.9", "5")
    publish(talk, "SB.c", "6")
    until_last(talk, "SS", 6)
    messages(talk, "SS", 6)
    talk.api("STREAM.UPDATE.SS", config)
    talk.api("STREAM.INFO.SS")


@scenario
def refused_mirrors(talk: Talk) -> None:
    talk.stream("RM", max_msg_size=100)
    start = "2024-01-01T00:00:00Z"
    double = [{"src": "RM.a.*", "dest": "x.{{wildcard(1)}}"}, {"src": "RM.a.b", "dest": "y"}]
    for number, config in enumerate(
        (
            {"mirror": {"name": "RM"}, "subjects": ["RN.>"]},
            {"mirror": {"name": "RM"}, "sources": [{"name": "RM"}]},
            {"mirror": {"name": "RM"}, "first_seq": 5},
            {"mirror": {"name": "RM"}, "allow_msg_counter": True},
            {"mirror": {"name": "RM"}, "allow_atomic": True},
            {"mirror": {"name": "RM"}, "allow_batched": True},
            {"mirror": {"name": "RM"}, "subject_delete_marker_ttl": SECOND},
            {"mirror": {"name": "RM"}, "max_msg_size": 10},
            {"mirror": {"name": "R.M"}},
            {"mirror": {"name": ""}},
            {"mirror": {"name": "RM", "opt_start_seq": 1, "opt_start_time": start}},
            {"mirror": {"name": "RM", "filter_subject": "RM.a", "subject_transforms": double}},
            {"mirror": {"name": "RM", "subject_transforms": double}},
            {"mirror": {"name": "RM", "subject_transforms": [{"src": "a..b", "dest": "x"}]}},
            {"mirror": {"name": "RM", "subject_transforms": [{"src": "a.*", "dest": "x.{{wildcard(2)}}"}]}},
            {"mirror": {"name": "RM", "filter_subject": "a..b"}},
            {"mirror": {"name": "RM", "consumer": {"name": "C"}}},
            {"mirror": {"name": "RM", "consumer": {"name": "C", "deliver_subject": "d"}, "opt_start_seq": 1}},
            {"mirror": {"name": "RM", "external": {"api": "$JS.API", "deliver": ""}}},
            {"mirror": {"name": "RM", "external": {"api": "x.>", "deliver": ""}}},
            {"mirror": {"name": "RM", "external": {"api": "x", "deliver": "d.*"}}},
            {"mirror": {"name": f"RN{19}"}},
            {"mirror": {"name": "RM"}, "mirror_direct": True},
            {"mirror_direct": True, "subjects": ["RN.>"]},
        )
    ):
        body = {"name": f"RN{number}", "storage": "memory", **config}
        talk.api(f"STREAM.CREATE.RN{number}", body)
        talk.api(f"STREAM.DELETE.RN{number}")


@scenario
def refused_sources(talk: Talk) -> None:
    talk.stream("RA", max_msg_size=100)
    double = [{"src": "RA.a.*", "dest": "x.{{wildcard(1)}}"}, {"src": "RA.a.b", "dest": "y"}]
    durable = {"name": "C", "deliver_subject": "d"}
    for number, config in enumerate(
        (
            {"sources": [{"name": "RA"}, {"name": "RA"}]},
            {"sources": [{"name": "RA"}, {"name": "RA", "filter_subject": "RA.a"}]},
            {"sources": [{"name": "RA"}], "max_msg_size": 10},
            {"sources": [{"name": "R.A"}]},
            {"sources": [{"name": ""}]},
            {"sources": [{"name": "RA", "filter_subject": "RA.a", "subject_transforms": double}]},
            {"sources": [{"name": "RA", "subject_transforms": double}]},
            {"sources": [{"name": "RA", "subject_transforms": [{"src": "a..b", "dest": "x"}]}]},
            {"sources": [{"name": "RA", "subject_transforms": [{"src": "a.*", "dest": "x.{{wildcard(2)}}"}]}]},
            {"sources": [{"name": "RA", "filter_subject": "a..b"}]},
            {"sources": [{"name": "RA", "consumer": {"name": "C"}}]},
            {"sources": [{"name": "RA", "consumer": durable, "filter_subject": "RA.a"}]},
            {"sources": [{"name": "RA", "consumer": durable}, {"name": "RA", "consumer": durable}]},
            {"sources": [{"name": "RA", "external": {"api": "$JS.API.x", "deliver": ""}}]},
            {"sources": [{"name": "RA", "external": {"api": "x", "deliver": "d.*"}}]},
            {"sources": [{"name": "RA"}], "allow_msg_schedules": True},
            {"sources": [{"name": f"RB{16}"}], "subjects": ["RB.>"]},
            {"sources": [{"name": f"RB{17}", "filter_subject": "else"}], "subjects": ["RB.>"]},
        )
    ):
        body = {"name": f"RB{number}", "storage": "memory", **config}
        talk.api(f"STREAM.CREATE.RB{number}", body)
        talk.api(f"STREAM.DELETE.RB{number}")


@scenario
def updates_of_a_mirror(talk: Talk) -> None:
    talk.stream("UM")
    talk.fill("UM.a")
    config = {"name": "UN", "storage": "memory"}
    talk.api("STREAM.CREATE.UN", {**config, "mirror": {"name": "UM"}})
    until_last(talk, "UN", 1)
    talk.api("STREAM.UPDATE.UN", {**config, "mirror": {"name": "UM", "filter_subject": "UM.a"}})
    talk.api("STREAM.UPDATE.UM", {"name": "UM", "storage": "memory", "subjects": ["UM.>"], "mirror": {"name": "UN"}})
    talk.publish("UN", "x", "puback")
    talk.nothing()
    talk.api("STREAM.UPDATE.UN", {**config, "subjects": ["UN"]})
    talk.fill("UN")
    messages(talk, "UN", 2)
    talk.api("STREAM.INFO.UN")


@scenario
def filters_and_transforms_of_a_mirror(talk: Talk) -> None:
    talk.stream("FM")
    talk.fill("FM.a.1", "FM.b.1", "FM.a.2")
    talk.stream("FN", subjects=[], mirror={"name": "FM", "filter_subject": "FM.a.*"})
    until_last(talk, "FN", 3)
    messages(talk, "FN", 3)
    talk.stream(
        "FO", subjects=[], mirror={"name": "FM", "subject_transforms": [{"src": "FM.b.*", "dest": "b.{{wildcard(1)}}"}]}
    )
    until_last(talk, "FO", 2)
    messages(talk, "FO", 2)
    own = {"src": ">", "dest": "own.>"}
    talk.stream("FP", subjects=[], mirror={"name": "FM", "opt_start_seq": 3}, subject_transform=own)
    until_last(talk, "FP", 3)
    messages(talk, "FP", 3)


@scenario
def limits_of_a_mirror(talk: Talk) -> None:
    talk.stream("LM", allow_rollup_hdrs=True, allow_msg_ttl=True)
    publish(talk, "LM.a", "1", Nats_TTL="1h")
    publish(talk, "LM.a", "2")
    publish(talk, "LM.b", "3")
    publish(talk, "LM.a", "4", Nats_Rollup="sub")
    talk.stream("LN", subjects=[], mirror={"name": "LM"}, max_msgs=1)
    until_last(talk, "LN", 4)
    messages(talk, "LN", 4)
    talk.stream("LO", subjects=[], mirror={"name": "LM"}, retention="interest")
    until_last(talk, "LO", 4)
    talk.write("SUB re.> 9\r\n")
    talk.stream("LP", subjects=[], mirror={"name": "LM"}, republish={"src": ">", "dest": "re.>"})
    talk.expect(2)
    talk.record[-2:] = [re.sub(r"Time-Stamp: \S+Z", "TIME", line) for line in talk.record[-2:]]


@scenario
def what_the_origin_removes(talk: Talk) -> None:
    talk.stream("OR", max_msgs_per_subject=2)
    talk.stream("OM", subjects=[], mirror={"name": "OR"})
    until(talk, "OM", lambda info: info["mirror"]["active"] != -1)
    talk.fill("OR.a", "OR.b", "OR.a", "OR.a")
    until_last(talk, "OM", 4)
    talk.api("STREAM.PURGE.OR")
    talk.fill("OR.c")
    until_last(talk, "OM", 5)
    messages(talk, "OM", 5)
    talk.api("STREAM.PURGE.OM")
    talk.fill("OR.d")
    until_last(talk, "OM", 6)
    messages(talk, "OM", 6)
    talk.api("STREAM.MSG.DELETE.OM", {"seq": 6})
    talk.api("STREAM.PURGE.OR", {"seq": 20})
    talk.fill("OR.e")
    until_last(talk, "OM", 7)


@scenario
def counters_from_sources(talk: Talk) -> None:
    for name in ("CA", "CB"):
        talk.stream(name, allow_msg_counter=True)
    source = [{"name": name, "subject_transforms": [{"src": f"{name}.>", "dest": "CS.>"}]} for name in ("CA", "CB")]
    talk.stream("CS", allow_msg_counter=True, sources=source)
    talk.stream("CV", subjects=[], sources=[{"name": "CA"}])
    publish(talk, "CA.x", Nats_Incr="5")
    until_last(talk, "CS", 1)
    publish(talk, "CB.x", Nats_Incr="7")
    until_last(talk, "CS", 2)
    publish(talk, "CA.x", Nats_Incr="-2")
    until_last(talk, "CS", 3)
    publish(talk, "CS.x", Nats_Incr="1")
    until_last(talk, "CV", 2)
    messages(talk, "CS", 4)
    messages(talk, "CV", 2)


@scenario
def ids_and_ttls_from_sources(talk: Talk) -> None:
    talk.stream("IA", allow_msg_ttl=True)
    talk.stream("IB")
    talk.stream("IS", subjects=["IS.>"], sources=[{"name": "IA"}, {"name": "IB"}], duplicate_window=60 * SECOND)
    publish(talk, "IA.a", "1", Nats_Msg_Id="one", Nats_TTL="1h")
    until_last(talk, "IS", 1)
    publish(talk, "IB.a", "2", Nats_Msg_Id="one")
    publish(talk, "IB.b", "3", Nats_Msg_Id="two", Nats_Rollup="sub")
    publish(talk, "IB.b", "3", Nats_Msg_Id="two")
    until_last(talk, "IS", 2)
    publish(talk, "IS.a", "4", Nats_Msg_Id="two")
    messages(talk, "IS", 2)


@scenario
def work_queues(talk: Talk) -> None:
    talk.stream("WQ", retention="workqueue")
    talk.stream("WS", subjects=[], sources=[{"name": "WQ", "filter_subject": "WQ.a"}])
    talk.fill("WQ.a", "WQ.b", "WQ.a")
    until_last(talk, "WS", 2)
    until(talk, "WQ", lambda info: info["state"]["messages"] == 1)
    talk.api("CONSUMER.NAMES.WQ")
    until_last(talk, "WS", 2)
    until(talk, "WQ", lambda info: info["state"]["messages"] == 1)
    talk.api("STREAM.DELETE.WS")
    until(talk, "WQ", lambda info: info["state"]["consumer_count"] == 0)


@scenario
def two_filters_of_a_work_queue(talk: Talk) -> None:
    talk.stream("XQ", retention="workqueue")
    talk.fill("XQ.a", "XQ.b", "XQ.c")
    talk.stream("XS", subjects=[], sources=[{"name": "XQ", "filter_subject": f"XQ.{one}"} for one in "ab"])
    until_last(talk, "XS", 2)
    talk.api("CONSUMER.NAMES.XQ")
    talk.consumer("XQ", "C", filter_subject="XQ.a")
    talk.consumer("XQ", "D", filter_subject="XQ.a")


@scenario
def interest(talk: Talk) -> None:
    talk.stream("IQ", retention="interest")
    talk.fill("IQ.a")
    talk.stream("IM", subjects=[], mirror={"name": "IQ"})
    until(talk, "IQ", lambda info: info["state"]["consumer_count"] == 1)
    talk.fill("IQ.b")
    until_last(talk, "IM", 2)
    until(talk, "IQ", lambda info: info["state"]["messages"] == 0)
    messages(talk, "IM", 2)
    talk.api("CONSUMER.NAMES.IQ")


@scenario
def an_origin_that_is_not_there(talk: Talk) -> None:
    talk.stream("NM", subjects=[], mirror={"name": "NO"})
    talk.stream("NS", subjects=[], sources=[{"name": "NO"}])
    for name in ("NM", "NS"):
        until(talk, name, lambda info: "error" in (info.get("mirror") or info["sources"][0]))
    external = {"api": "$JS.nowhere.API", "deliver": "x"}
    talk.stream("NE", subjects=[], mirror={"name": "NO", "external": external})
    talk.stream("NF", subjects=[], sources=[{"name": "NO", "external": external, "filter_subject": "a"}])
    for name in ("NE", "NF"):
        talk.api(f"STREAM.INFO.{name}")


@scenario
def a_consumer_of_somebody_elses(talk: Talk) -> None:
    talk.stream("SE")
    talk.fill("SE.a", "SE.b")
    made = {"ack_policy": "flow_control", "deliver_subject": "se.to", "flow_control": True, "idle_heartbeat": SECOND}
    talk.consumer("SE", "C", **made)
    talk.consumer("SE", "D", ack_policy="none", deliver_subject="se.other")
    for name, consumer in (("C", "se.to"), ("D", "se.other"), ("E", "se.none")):
        given = {"name": name, "deliver_subject": consumer}
        talk.stream(f"S{name}S", subjects=[], sources=[{"name": "SE", "consumer": given}])
    until_last(talk, "SCS", 2)
    messages(talk, "SCS", 2)
    talk.stream("SDM", subjects=[], mirror={"name": "SE", "consumer": {"name": "D", "deliver_subject": "se.other"}})
    for name in ("SDS", "SDM"):
        until(talk, name, lambda info: "error" in (info.get("mirror") or info["sources"][0]))


@scenario
def start_times(talk: Talk) -> None:
    talk.stream("TA")
    talk.fill("TA.a", "TA.b")
    time.sleep(0.05)
    talk.fill("TA.c", "TA.d")
    when = ask(talk, "STREAM.MSG.GET.TA", {"seq": 3})["message"]["time"]
    for name, config in (
        ("TM", {"mirror": {"name": "TA", "opt_start_time": when}}),
        ("TS", {"sources": [{"name": "TA", "opt_start_time": when}]}),
        ("TT", {"sources": [{"name": "TA", "opt_start_seq": 2, "filter_subject": "TA.d"}], "first_seq": 10}),
    ):
        made = ask(talk, f"STREAM.CREATE.{name}", {"name": name, "storage": "memory", **config})
        assert "error" not in made, made
    until_last(talk, "TM", 4)
    until_last(talk, "TS", 2)
    until_last(talk, "TT", 10)
    for name in ("TM", "TS"):
        messages(talk, name, 4)
    messages(talk, "TT", 10)


@scenario
def chains(talk: Talk) -> None:
    talk.stream("HA")
    talk.stream("HM", subjects=[], mirror={"name": "HA"})
    talk.stream("HN", subjects=[], mirror={"name": "HM"})
    talk.stream("HS", subjects=[], sources=[{"name": "HM"}])
    talk.stream("HT", subjects=[], sources=[{"name": "HS"}, {"name": "HN", "filter_subject": "HA.a"}])
    talk.stream("HU", subjects=[], mirror={"name": "HS"})
    for name, member in (("HN", "mirror"), ("HU", "mirror"), ("HS", "sources"), ("HT", "sources")):
        until(talk, name, lambda info, m=member: (info[m] if m == "mirror" else info[m][-1])["active"] != -1)
    until(talk, "HM", lambda info: info["mirror"]["active"] != -1)
    until(talk, "HT", lambda info: info["sources"][0]["active"] != -1)
    talk.fill("HA.b")
    for name in ("HN", "HS", "HT", "HU"):
        until_last(talk, name, 1)
    for name in ("HN", "HS", "HT", "HU"):
        messages(talk, name, 1)


@scenario
def what_a_stream_does_with_sourced_messages(talk: Talk) -> None:
    talk.stream("DA", allow_msg_ttl=True, allow_rollup_hdrs=True)
    talk.stream("DT", subjects=[], sources=[{"name": "DA"}], subject_transform={"src": "DA.>", "dest": "t.>"})
    talk.stream("DL", subjects=[], sources=[{"name": "DA"}], allow_msg_ttl=True, max_msgs_per_subject=1)
    talk.stream("DW", subjects=[], sources=[{"name": "DA"}], retention="workqueue")
    talk.stream("DI", subjects=[], sources=[{"name": "DA"}], retention="interest")
    talk.stream("DD", subjects=[], sources=[{"name": "DA"}], discard="new", max_msgs=2)
    talk.stream("DM", subjects=["DM.>"], sources=[{"name": "DA"}], max_msg_size=100)
    names = ("DT", "DL", "DW", "DI", "DD", "DM")
    for name in names:
        until(talk, name, lambda info: info["sources"][0]["active"] != -1)
    publish(talk, "DA.a", "one", Nats_TTL="1h")
    for name in names:
        until_last(talk, name, 1)  # before it is rolled up
    publish(talk, "DA.a", "two", Nats_Rollup="sub", A="b")
    publish(talk, "DA.b", "three")
    for name in names:
        until(talk, name, lambda info, n=name: info["state"]["last_seq"] >= (2 if n == "DD" else 3))
        messages(talk, name, 3)


@scenario
def republished(talk: Talk) -> None:
    talk.stream("EA")
    talk.write("SUB ER.> 9\r\n")
    talk.stream(
        "ER", subjects=[], sources=[{"name": "EA"}], republish={"src": "EA.>", "dest": "ER.>", "headers_only": True}
    )
    until(talk, "ER", lambda info: info["sources"][0]["active"] != -1)
    talk.publish("EA.a", "one", headers="NATS/1.0\r\nA: b\r\n\r\n")
    talk.expect()
    talk.record[-1] = re.sub(r"Time-Stamp: \S+Z|(EA\.a) \w{8}", r"\1", talk.record[-1])


@scenario
def lists_of_streams(talk: Talk) -> None:
    talk.stream("VA")
    talk.stream("VM", subjects=[], mirror={"name": "VA"})
    talk.stream("VS", subjects=[], sources=[{"name": "VA"}])
    talk.api("STREAM.NAMES", {"subject": "VA.>"})
    talk.api("CONSUMER.LIST.VA")
    talk.consumer("VM", "C", filter_subject="VA.b")
    talk.consumer("VS", "C", filter_subject="nothing.such")


@scenario
def updates_of_sources(talk: Talk) -> None:
    talk.stream("WA")
    config = {"name": "WX", "storage": "memory", "subjects": ["WX.>"]}
    talk.api("STREAM.CREATE.WX", config)
    talk.api("STREAM.UPDATE.WX", {**config, "mirror": {"name": "WA"}})
    talk.api("STREAM.UPDATE.WX", {"name": "WX", "storage": "memory", "mirror": {"name": "WA"}})
    talk.api("STREAM.UPDATE.WX", {**config, "sources": [{"name": "WA"}, {"name": "WA"}]})
    talk.api("STREAM.UPDATE.WX", {**config, "sources": [{"name": "WA", "filter_subject": "a..b"}]})
    talk.api("STREAM.UPDATE.WX", {**config, "sources": [{"name": "WA"}]})
    talk.api("STREAM.UPDATE.WX", {**config, "sources": [{"name": "WX"}]})


@pytest.mark.parametrize(("number", "run"), list(enumerate(SCENARIOS)), ids=[one.__name__ for one in SCENARIOS])
def test_both_say_the_same(servers: list[Server], number: int, run: Callable[[Talk], None]) -> None:
    both_say_the_same(servers, run, number)


def test_monitoring_shows_direct_consumers_where_they_are_asked_for(tmp_path: Path) -> None:
    shown = []
    for kind in KINDS:
        server = Server(kind, f'http: 127.0.0.1:-1\njetstream {{ store_dir: "{tmp_path / kind}" }}\n')
        try:
            with Client(server.port) as client:
                for name, config in (("O", {"subjects": ["o.>"]}), ("M", {"mirror": {"name": "O"}})):
                    body = json.dumps({"name": name, "storage": "memory", **config}).encode()
                    client.request(f"{PREFIX}STREAM.CREATE.{name}", body)
                client.request("o.a", b"x")
                while not json.loads(client.request(f"{PREFIX}STREAM.INFO.M").payload)["state"]["messages"]:
                    time.sleep(0.02)
            for query in ("", "&direct-consumers=1", "&direct-consumers=1&config=1"):
                found = server.get(f"/jsz?accounts=1&streams=1&consumers=1{query}").json()
                streams = {one["name"]: one for one in found["account_details"][0]["stream_detail"]}
                details = [sorted(one) for one in streams["O"].get("direct_consumer_detail", [])]
                shown.append((kind, found["consumers"], sorted(streams["O"]), sorted(streams["M"]), details))
        finally:
            server.close()
    half = len(shown) // 2
    assert [one[1:] for one in shown[:half]] == [one[1:] for one in shown[half:]]


def test_direct_gets_are_the_origins(servers: list[Server]) -> None:
    with Client(servers[0].port) as client:

        def make(name: str, **config: Any) -> None:
            body = json.dumps({"name": name, "storage": "memory", "allow_direct": True, **config})
            assert b"did_create" in client.request(f"{PREFIX}STREAM.CREATE.{name}", body.encode()).payload

        def get() -> list[bytes]:
            return client.request(f"{PREFIX}DIRECT.GET.GO", b'{"seq":1}').headers.split(b"\r\n")

        make("GO", subjects=["GO.>"])
        make("GM", mirror={"name": "GO"})
        client.request("GO.a", b"x")
        assert {b"Nats-Stream: GO" in get() for _ in range(20)} == {True}
        client.request(f"{PREFIX}STREAM.DELETE.GO")
        assert b"Nats-Stream: GM" in get()
