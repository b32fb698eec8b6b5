"""Message schedules: what may be scheduled, what is stored when, and with which headers, as nats-server has it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX
from tests.jetstream.client import Client

from .harness import TIMEOUT_S, Server
from .publishing import INFO, Step, api, batch, get, put, same_answers, start_both, stored

ON = {"allow_msg_schedules": True}
ALL = b'{"subjects_filter":">"}'
SOON_S = 4
PAST, FUTURE = "@at 2020-01-01T00:00:00Z", "@at 2090-01-01T00:00:00Z"


def plan(
    pattern: str = FUTURE, subject: str = "s.plan", target: str = "s.out", data: bytes = b"x", **more: str
) -> Step:
    return put(subject, data, Nats_Schedule=pattern, Nats_Schedule_Target=target, **more)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def last(subject: str) -> Step:
    return api("STREAM.MSG.GET.S", last_by_subj=subject)


PATTERNS = (
    "@at", "@at ", "@at 2090-01-01", "@at 2090-01-01T00:00:00", "@at  2090-01-01T00:00:00Z", "@AT 2090-01-01T00:00:00Z",
    "@at 2090-01-01T00:00:00+02:00", "@at 2090-02-30T00:00:00Z", "@at 0001-01-01T00:00:00Z", "@at 9999-12-31T00:00:00Z",
    "@every", "@every 1s", "@every 999ms", "@every 1.5s", "@every 1h5m", "@every -1s", "@every 5", "@every x",
    "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly", "@minutely", "@Hourly", "x",
    "* * * * *", "0 0 0 1 1 * *", "0 0 0 1 1 *", "0 0 0 30 2 *", "0 0 0 31 4,6,9,11 *", "0 0 0 29 2 *", "60 * * * * *",
    "0 60 * * * *", "0 0 24 * * *", "0 0 0 0 * *", "0 0 0 32 * *", "0 0 0 * 13 *", "0 0 0 * 0 *", "0 0 0 * * 7",
    "0 0 0 * jan,FEB mon-Fri", "0 0 0 * mon *", "0 0 0 * * jan", "? ? ? ? ? ?", "*/5 0/7 1-20/3 * * *", "1/0 * * * * *",
    "5-1 * * * * *", "1-2-3 0 0 * * *", "1/2/3 0 0 * * *", "-1 0 0 * * *", "+1 0 0 * * *", "1, 0 0 * * *",
    ", 0 0 * * *", "*-9 * * * 1 *", "0 0 0 l * *", "0 0 0 1W * *", "0 0 0 ? * 1#2", "0  0 0 * * *",
    "99999999999999999999 * * * * *",
)  # fmt: skip

ZONES = (
    "Europe/Berlin", "UTC", "Local", "America/New_York", "europe/berlin", "Nowhere/City", "", " ", "America", "../UTC",
    "/etc/localtime", "\\x", "EST5EDT", "zone.tab", "+02:00", "x" * 300,
)  # fmt: skip

# name: (configuration, steps).
CASES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "patterns": (ON, [step for text in PATTERNS for step in (plan(text), last("s.plan"))]),
    "time zones": (ON, [
        *(plan("0 0 9 * * mon-fri", Nats_Schedule_Time_Zone=name) for name in ZONES),
        *(plan(Nats_Schedule_Time_Zone=name) for name in ("UTC", "x", "")),
        *(plan("@every 1h", Nats_Schedule_Time_Zone=name) for name in ("UTC", "x", "")),
        *(put(Nats_Schedule_Time_Zone=name) for name in ("UTC", "x", "")),
        *(plan("x", Nats_Schedule_Time_Zone=name) for name in ("UTC", "x", "")),
    ]),
    "targets": (ON, [
        plan(target=target) for target in ("s.out", "s.plan", "", "s.*", "s.>", "t.x", "s", "s..a", "s. a", ">", ".s")
    ]),
    "sources": (ON, [
        plan(Nats_Schedule_Source=source)
        for source in ("s.src", "s.plan", "s.out", "", "s.*", "t.x", "s", "s..a")
    ]),
    "TTLs are off": (ON, [plan(Nats_Schedule_TTL=ttl) for ttl in ("1s", "1", "never", "x", "0", "", "10ms")]),
    "TTLs are on": ({"allow_msg_ttl": True, **ON}, [
        plan(Nats_Schedule_TTL=ttl) for ttl in ("1s", "1", "never", "x", "0", "", "10ms")
    ]),
    "rollups": (ON, [
        *(plan(Nats_Schedule_Rollup=rollup) for rollup in ("sub", "all", "x", "", "SUB")),
        *(plan(Nats_Rollup=rollup) for rollup in ("sub", "all", "x", "", "SUB")), last("s.plan"), INFO,
    ]),
    "one schedule a subject": (ON, [plan(), plan(), plan(subject="s.other"), put("s.plan"), plan(), get(5), INFO]),
    "ends": (ON, [
        put(Nats_Schedule_Next="purge"), put(Nats_Schedule_Next="purge", Nats_Scheduler="s.plan"), plan(), put("s.b"),
        put(Nats_Schedule_Next="2090-01-01T00:00:00Z", Nats_Scheduler="s.plan"), put(Nats_Scheduler="s.plan"),
        put(Nats_Schedule_Next="purge", Nats_Scheduler="s.a"), put(Nats_Schedule_Next="purge", Nats_Scheduler="s.b"),
        put(Nats_Schedule_Next="purge", Nats_Scheduler="s.*"), put(Nats_Schedule_Next="PURGE", Nats_Scheduler="s.plan"),
        INFO, put(Nats_Schedule_Next="purge", Nats_Scheduler="s.plan"), INFO, get(6),
        put(Nats_Schedule_Next="", Nats_Scheduler="s.plan"), put(Nats_Schedule_Next="", Nats_Scheduler=""),
    ]),
    "off": ({}, [
        plan(), plan("x"), plan(Nats_Schedule_Time_Zone="x"), put(Nats_Schedule_Time_Zone="x"),
        put(Nats_Schedule_Time_Zone="UTC"), put(Nats_Schedule_Target="s.out"), put(Nats_Schedule=""),
        plan("@at 0001-01-01T00:00:00Z"), put(Nats_Schedule_Next="purge", Nats_Scheduler="s.q"), INFO, ON, plan(),
        {"allow_msg_schedules": False}, {"discard": "new"},
    ]),
    "configurations": (ON, [
        {"allow_rollup_hdrs": False}, {"deny_purge": True}, {"deny_purge": False, "allow_msg_counter": True},
    ]),
    "expectations": (ON, [
        plan(Nats_Msg_Id="a"), plan(Nats_Msg_Id="a"), plan("x", Nats_Msg_Id="a"),
        plan(Nats_Expected_Last_Sequence="9"), plan("x", Nats_Expected_Last_Sequence="9"),
        plan(Nats_Expected_Last_Subject_Sequence="1"), plan("x", Nats_Expected_Stream="T"),
        plan("x", Nats_Expected_Last_Msg_Id="T"), plan("x", Nats_TTL="1s"), plan("x", Nats_Incr="1"),
        plan("x", Nats_Stream_Source="x"), plan(Nats_Stream_Source="x"),
    ]),
    "at once": (ON, [
        plan(PAST, A="b", Nats_Msg_Id="1", Nats_Expected_Last_Sequence="0", Nats_Schedule_Foo="x"), stored(2), INFO,
        get(1), get(2), plan(PAST, data=b""), stored(4), get(4), last("s.out"),
    ]),
    "with everything": ({"allow_msg_ttl": True, **ON}, [
        put("s.src", b"of the source", C="d", Nats_TTL="1h", Nats_Msg_Id="7"),
        plan(PAST, Nats_Schedule_Source="s.src", Nats_Schedule_TTL="5m", Nats_Schedule_Rollup="sub"), stored(3), get(3),
        plan(PAST, Nats_Schedule_Source="s.none", Nats_TTL="1h"), stored(5), get(5), INFO,
    ]),
    "every second": (ON, [plan("@every 1s"), stored(3), get(1), get(2), get(3), put("s.plan"), INFO]),
    "cron": (ON, [plan("* * * * * *", Nats_Schedule_Rollup="sub"), stored(3), get(3), api("STREAM.PURGE.S"), INFO]),
    "a copy on another schedule's subject": (ON, [
        plan(subject="s.next"), plan(PAST, target="s.next"), stored(3), INFO, plan(PAST, "s.next"), stored(5), INFO,
    ]),
    "several at once": (ON, [
        *(plan(PAST, f"s.plan.{number}", f"s.out.{number}") for number in range(5)), stored(10),
        *map(get, range(1, 11)),
    ]),
    "transformed": ({"subject_transform": {"src": "s.in.*", "dest": "s.to.{{wildcard(1)}}"}, **ON}, [
        plan(PAST, "s.in.a", "s.in.b"), stored(2), get(2), plan(PAST, "s.in.a", "s.to.a"), INFO,
    ]),
    "too large": ({"max_msg_size": 130, **ON}, [plan(PAST), INFO]),
    "markers": ({"subject_delete_marker_ttl": 60_000_000_000, **ON}, [
        plan(PAST, Nats_Schedule_TTL="5s"), stored(2), get(2),
    ]),
    "in atomic batches": ({"allow_atomic": True, **ON}, [
        batch(1, "s.plan", Nats_Schedule=PAST, Nats_Schedule_Target="s.out"), batch(2, commit="1"), stored(3), get(1),
        get(3), batch(1, "s.plan", Nats_Schedule="x", commit="1"),
        batch(1, "s.p", Nats_Schedule=FUTURE, Nats_Schedule_Target="s.out"), batch(2, "s.q"),
        batch(3, "s.r", Nats_Schedule_Next="purge", Nats_Scheduler="s.q", commit="1"), INFO,
        batch(1, "s.p", Nats_Schedule=FUTURE, Nats_Schedule_Target="s.out"), batch(2, "s.q"),
        batch(3, "s.r", Nats_Schedule_Next="purge", Nats_Scheduler="s.p", commit="1"), INFO,
    ]),
    "nobody is interested": ({"retention": "interest", **ON}, [plan(PAST), INFO]),
}  # fmt: skip


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    yield from start_both(tmp_path_factory)


@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("name", CASES)
def test_schedules(name: str, storage: str, servers: list[Server]) -> None:
    given, steps = CASES[name]
    same_answers(servers, {"storage": storage, **given}, steps)


@pytest.mark.parametrize("wrong", [{"mirror": {"name": "T"}, "subjects": []}, {"sources": [{"name": "T"}]}])
def test_not_with_mirrors_and_sources(wrong: dict[str, Any], servers: list[Server]) -> None:
    answers = []
    for server in servers:
        with Client(server.port) as client:
            body = json.dumps({"name": "M", "subjects": ["m"], **wrong, **ON}).encode()
            answers.append(client.request(f"{PREFIX}STREAM.CREATE.M", body).payload)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("kind", ["mirror", "sources"])
@pytest.mark.parametrize("rollups", [True, False])
def test_the_last_copy_ends_the_schedule_in_copies_of_the_stream_that_allow_rollups(
    kind: str, rollups: bool, servers: list[Server]
) -> None:
    found = []
    for server in servers:
        with Client(server.port) as client:

            def ask(operation: str, client: Client = client, **body: Any) -> dict[str, Any]:
                answer: dict[str, Any] = json.loads(
                    client.request(PREFIX + operation, json.dumps(body).encode()).payload
                )
                return answer

            ask("STREAM.CREATE.PLANNED", name="PLANNED", subjects=["p.>"], **ON)
            origin = {"name": "PLANNED"} if kind == "mirror" else [{"name": "PLANNED"}]
            made = ask("STREAM.CREATE.COPY", name="COPY", allow_rollup_hdrs=rollups, **{kind: origin})
            assert "error" not in made, made

            def state(client: Client = client) -> dict[str, Any]:
                return dict(json.loads(client.request(f"{PREFIX}STREAM.INFO.COPY", ALL).payload)["state"])

            def schedule(subject: str, pattern: str, client: Client = client) -> None:
                _, data, headers = plan(pattern, subject, subject + ".out")
                client.request(subject, data, headers)

            schedule("p.later", FUTURE)
            until(
                lambda: state()["last_seq"] == 1
            )  # the copying goes on: what comes next is there long before it is due
            schedule("p.soon", time.strftime("@at %Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + SOON_S)))
            until(lambda: state()["last_seq"] == 3)
            if rollups:
                until(lambda: state()["messages"] == 2)
            found.append((state()["subjects"], state()["messages"]))
            ask("STREAM.DELETE.COPY")
            ask("STREAM.DELETE.PLANNED")
    assert found[0] == found[1]
    assert found[0][1] == (2 if rollups else 3)
