"""Stream snapshots and restores: the same protocol on both servers, and what one has saved the other restores."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

import natsc
from natsc.jetstream.api import PREFIX
from tests.conformance.harness import KINDS, TIMEOUT_S, Server
from tests.conformance.saving import (
    CONFIG,
    Saver,
    api,
    both,
    config_of,
    consumer,
    consumer_of,
    create,
    filled,
    messages,
    publish,
    publish_noise,
    state_of,
)  # fmt: skip
from tests.jetstream.backups import (
    END,
    MAGIC,
    archive_of,
    backup,
    begin_restore,
    decoded,
    encoded,
    entries,
    entry,
    restore,
)
from tests.jetstream.client import Client

# -- the protocol -----------------------------------------------------------------------------------------------------


def test_a_small_snapshot(clients: dict[str, Saver]) -> None:
    """One chunk, which nobody is to acknowledge, and a message without headers."""

    def take(client: Saver) -> Any:
        filled(client)
        saved = backup(client, "S")
        answer = {member: value for member, value in saved.answer.items() if member != "state"}
        state = {member: value for member, value in saved.answer["state"].items() if not member.endswith("_ts")}
        return answer, state, [reply for reply, _ in saved.replies], saved.status

    answer, state, replies, status = both(clients, take)
    assert answer["type"] == "io.nats.jetstream.api.v1.stream_snapshot_response"
    assert state == {
        "messages": 30, "bytes": state["bytes"], "first_seq": 3, "last_seq": 35, "num_subjects": 3, "num_deleted": 3,
        "consumer_count": 0,
    }  # fmt: skip
    assert (replies, status) == ([b""], b"")


def test_chunks_of_a_size(clients: dict[str, Saver]) -> None:
    for client in clients.values():
        create(client, name="S", subjects=["s.>"])
        publish_noise(client, 40)
        saved = backup(client, "S", chunk_size=4096, window_size=8192)
        *full, (last_reply, last_size) = saved.replies
        assert len(full) > 5
        for index, (reply, size) in enumerate(full, 1):
            assert re.fullmatch(rb"\$JS\.SNAPSHOT\.ACK\.S\.\w{22}\.4096\.%d" % index, reply)
            assert size == 4096
        assert last_reply == b""
        assert 0 < last_size < 4096
        assert saved.status == b"NATS/1.0 204\r\n\r\n"
        assert [one.seq for one in entries(saved.archive)] == list(range(41))


def test_no_more_than_the_window_is_sent(clients: dict[str, Saver]) -> None:
    """Without acknowledgements, as many chunks come as fit into it."""
    for client in clients.values():
        create(client, name="S", subjects=["s.>"])
        publish_noise(client, 40)
        client.subscribe("stingy")
        client.request(
            f"{PREFIX}STREAM.SNAPSHOT.S", b'{"deliver_subject":"stingy","chunk_size":1024,"window_size":3100}'
        )
        got = [client.message() for _ in range(3)]
        assert [reply.rpartition(b".")[2] for _, reply, _, _ in got] == [b"1", b"2", b"3"]
        assert json.loads(client.request(f"{PREFIX}INFO").payload)["streams"] == 1  # nothing more came before this
        assert client.unexpected == []
        client.write(b"PUB %b 0\r\n\r\n" % got[0][1])
        assert client.message()[1].endswith(b".4")
        client.write(b"UNSUB 2\r\n")


def test_a_receiver_that_says_nothing_is_given_up(clients: dict[str, Saver]) -> None:
    for client in clients.values():
        create(client, name="S", subjects=["s.>"])
        publish_noise(client, 5)
        client.subscribe("mute")
        client.request(f"{PREFIX}STREAM.SNAPSHOT.S", b'{"deliver_subject":"mute","chunk_size":1024,"window_size":1024}')
        while (got := client.message())[3]:
            pass
        assert got[2] == b"NATS/1.0 408 No Flow Response\r\n\r\n"
        client.write(b"UNSUB 2\r\n")


def test_a_receiver_that_leaves_is_noticed(clients: dict[str, Saver]) -> None:
    for client in clients.values():
        create(client, name="S", subjects=["s.>"])
        publish_noise(client, 40)
        with Client(client.server.port) as listener:
            listener.subscribe("$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.S")
            client.subscribe("leaving")
            body = b'{"deliver_subject":"leaving","chunk_size":1024,"window_size":1024}'
            client.request(f"{PREFIX}STREAM.SNAPSHOT.S", body)
            client.message()
            client.write(b"UNSUB 2\r\n")
            assert json.loads(listener.event()[1])["error"] == "no interest"


def test_advisories_of_a_snapshot(clients: dict[str, Saver]) -> None:
    def take(client: Saver) -> Any:
        filled(client)
        with Client(client.server.port) as listener:
            listener.subscribe("$JS.EVENT.ADVISORY.STREAM.*.S")
            backup(client, "S")
            return [shape(*listener.event()) for _ in range(2)]

    created, completed = both(clients, take)
    assert created[0] == "$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_CREATE.S"
    assert completed[0] == "$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.S"
    assert completed[1]["type"] == "io.nats.jetstream.advisory.v1.snapshot_complete"


def shape(subject: str, payload: bytes) -> tuple[str, dict[str, Any]]:
    """An advisory without what differs from run to run."""
    body = json.loads(payload)
    for member in ("id", "timestamp", "start", "end", "bytes"):
        if member in body:
            body[member] = type(body[member]).__name__
    if body.get("client"):
        body["client"] = sorted(body["client"].keys() - {"rtt"})
    if "state" in body:
        body["state"] = sorted(body["state"])
    return subject, body


def test_advisories_of_a_restore(clients: dict[str, Saver]) -> None:
    """The stream and its consumers are created like others."""

    def put(client: Saver) -> Any:
        filled(client)
        consumer(client, "S", "C")
        saved = backup(client, "S")
        client.delete("S")
        with Client(client.server.port) as listener:
            listener.subscribe("$JS.EVENT.ADVISORY.>")
            restore(client, config_of(saved), saved.archive)
            client.delete("S")
            found = []
            while not found or "STREAM.DELETED" not in found[-1][0]:
                subject, payload = listener.event()
                if subject != "$JS.EVENT.ADVISORY.API":
                    found.append(shape(subject, payload))
            return sorted(found, key=lambda one: one[0])

    found = both(clients, put)
    assert any(subject.startswith("$JS.EVENT.ADVISORY.STREAM.RESTORE_COMPLETE") for subject, _ in found)


def test_what_is_answered_to_a_restore(clients: dict[str, Saver]) -> None:
    def put(client: Saver) -> Any:
        filled(client)
        saved = backup(client, "S")
        client.delete("S")
        subject = begin_restore(client, config_of(saved))
        assert re.fullmatch(r"\$JS\.SNAPSHOT\.RESTORE\.S\.\w{22}", subject)
        chunk = client.request(subject, saved.archive)
        answer = json.loads(client.request(subject, b"").payload)
        answer.pop("created")
        answer.pop("ts")
        assert answer["state"].pop("first_ts") == saved.answer["state"]["first_ts"]
        answer["state"].pop("last_ts")
        assert client.request(subject, b"").headers.startswith(b"NATS/1.0 503")  # it is over
        return (chunk.payload, chunk.headers), answer

    chunk, answer = both(clients, put)
    assert chunk == (b"", b"")
    assert answer["type"] == "io.nats.jetstream.api.v1.stream_create_response"
    assert answer["state"]["messages"] == 30


# -- what is restored -------------------------------------------------------------------------------------------------


@pytest.fixture(params=[(source, target) for source in KINDS for target in KINDS], ids=lambda pair: " to ".join(pair))
def pair(
    request: pytest.FixtureRequest, clients: dict[str, Saver]
) -> tuple[Saver, Saver, Callable[..., dict[str, Any]]]:
    """Where a stream is saved, where it is restored, and what does both."""
    source, target = (clients[kind] for kind in request.param)

    def move(stream: str, **request: Any) -> dict[str, Any]:
        saved = backup(source, stream, **request)
        if source is target:
            source.delete(stream)
        answer = restore(target, config_of(saved), saved.archive, 1000)
        assert "error" not in answer, answer
        return answer

    return source, target, move


@pytest.mark.parametrize("storage", ["file", "memory"])
def test_messages(storage: str, pair: Any) -> None:
    source, target, move = pair
    filled(source, storage=storage)
    wanted, state = messages(source, "S"), state_of(source, "S")
    move("S")
    assert messages(target, "S") == wanted
    restored = state_of(target, "S")
    # Behind the last message it is when its sequence was passed, not when the message was removed.
    assert {**restored, "last_ts": ""} == {**state, "last_ts": ""}
    assert json.loads(target.request("s.new", b"x").payload)["seq"] == 36


def test_a_stream_without_messages(pair: Any) -> None:
    source, target, move = pair
    create(source, name="E", subjects=["e"])
    publish(source, "e", 3)
    api(source, "STREAM.PURGE.E")
    move("E")
    state = state_of(target, "E")
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (0, 4, 3)
    assert json.loads(target.request("e", b"x").payload)["seq"] == 4


def test_a_stream_that_never_had_messages(pair: Any) -> None:
    source, target, move = pair
    create(source, name="N", subjects=["n"])
    move("N")
    state = state_of(target, "N")
    assert (state["messages"], state["last_seq"]) == (0, 0)
    assert state["first_seq"] == (0 if target.server.kind == "natsc" else 1)
    assert json.loads(target.request("n", b"x").payload)["seq"] == 1


def test_a_first_sequence(pair: Any) -> None:
    source, target, move = pair
    create(source, name="F", subjects=["f"], first_seq=1000)
    move("F")
    assert json.loads(target.request("f", b"x").payload)["seq"] == 1000


def test_a_consumer(pair: Any) -> None:
    """Delivered, acknowledged out of order, redelivered: all as it was."""
    source, target, move = pair
    filled(source)
    consumer(source, "S", "C", max_ack_pending=50, filter_subject="s.a", metadata={"a": "b"})
    replies = source.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.S.C", b'{"batch":6}', 6)
    for index in (0, 1, 4):
        source.request(replies[index])
    source.request(replies[2], b"-NAK")
    source.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.S.C", b"1", 1)
    wanted = consumer_of(source, "S", "C")
    assert (wanted["num_ack_pending"], wanted["num_redelivered"]) == (3, 1)
    move("S")
    assert consumer_of(target, "S", "C") == wanted
    [reply] = target.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.S.C", b"1", 1)
    assert reply.split(".")[4:7] == ["1", "11", "8"]  # first delivery of the next one, with the next number


KINDS_OF_CONSUMERS: dict[str, dict[str, Any]] = {
    "MEM": {"mem_storage": True},
    "EPH": {"durable_name": "", "inactive_threshold": 3600_000_000_000},
    "NEW": {"ack_policy": "all", "deliver_policy": "new"},
    "LAST": {"deliver_policy": "last_per_subject", "filter_subject": "s.>"},
    "NONE": {"ack_policy": "none"},
    "PUSH": {"deliver_subject": "nobody", "max_deliver": 4, "backoff": [1_000_000_000, 2_000_000_000]},
    "LATER": {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
    "PRIO": {"priority_groups": ["g"], "priority_policy": "overflow"},
}


def test_consumers_of_every_kind(pair: Any) -> None:
    source, target, move = pair
    filled(source)
    for name, config in KINDS_OF_CONSUMERS.items():
        consumer(source, "S", name, **config)
    source.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.S.NONE", b'{"batch":3}', 3)
    source.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.S.LAST", b"1", 1)
    wanted = {name: consumer_of(source, "S", name) for name in KINDS_OF_CONSUMERS}
    move("S")
    assert {name: consumer_of(target, "S", name) for name in KINDS_OF_CONSUMERS} == wanted
    [reply] = target.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.S.LAST", b"1", 1)
    # The last one of the next subject; nats-server has forgotten which those are.
    assert reply.split(".")[4:7] == ["1", "30" if target.server.kind == "natsc" else "21", "2"]


def test_without_consumers(pair: Any) -> None:
    source, target, move = pair
    filled(source)
    consumer(source, "S", "C")
    move("S", no_consumers=True)
    assert api(target, "CONSUMER.NAMES.S")["consumers"] == []


def test_a_work_queue_goes_on(pair: Any) -> None:
    source, target, move = pair
    create(source, name="W", subjects=["w"], retention="workqueue")
    consumer(source, "W", "C")
    publish(source, "w", 5)
    replies = source.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.W.C", b'{"batch":3}', 3)
    source.request(replies[1])
    move("W")
    assert [one["seq"] for one in messages(target, "W") if "data" in one] == [1, 3, 4, 5]
    [reply] = target.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.W.C", b"1", 1)
    target.request(reply)
    assert [one["seq"] for one in messages(target, "W") if "data" in one] == [1, 3, 5]
    target.request(replies[0])
    assert [one["seq"] for one in messages(target, "W") if "data" in one] == [3, 5]


def test_an_interest_stream_keeps_what_is_waited_for(pair: Any) -> None:
    source, target, move = pair
    create(source, name="I", subjects=["i"], retention="interest")
    consumer(source, "I", "A")
    consumer(source, "I", "B")
    publish(source, "i", 4)
    source.request(source.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.I.A", b"1", 1)[0])
    move("I")
    assert state_of(target, "I")["messages"] == 4
    target.request(target.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.I.B", b"1", 1)[0])
    assert state_of(target, "I")["messages"] == 3


def test_a_push_consumer_delivers_what_was_left(pair: Any) -> None:
    source, target, move = pair
    filled(source)
    consumer(
        source,
        "S",
        "P",
        deliver_subject="pushed",
        ack_policy="none",
        opt_start_seq=30,
        deliver_policy="by_start_sequence",
    )
    move("S")
    target.subscribe("pushed")
    subjects = [target.message()[1].decode().split(".")[5] for _ in range(5)]
    assert subjects == ["30", "31", "32", "33", "34"]
    target.write(b"UNSUB 2\r\n")


def test_deduplication_goes_on(pair: Any) -> None:
    source, target, move = pair
    create(source, name="D", subjects=["d"])
    headers = b"NATS/1.0\r\nNats-Msg-Id: one\r\n\r\n"
    source.request("d", b"x", headers)
    move("D")
    again = json.loads(target.request("d", b"x", headers).payload)
    if target.server.kind == "natsc":
        assert again["duplicate"]  # nats-server learns ids at a start only
    else:
        assert again["seq"] in (1, 2)


@pytest.mark.parametrize("origin", ["mirror", "sources"])
def test_what_follows_another_stream_goes_on_where_it_was(origin: str, clients: dict[str, Saver]) -> None:
    for client in clients.values():
        create(client, name="ORIGIN", subjects=["o"])
        publish(client, "o", 5)
        create(client, name="COPY", **{origin: {"name": "ORIGIN"} if origin == "mirror" else [{"name": "ORIGIN"}]})
        until(lambda client=client: state_of(client, "COPY")["messages"] == 5)
        saved = backup(client, "COPY")
        client.delete("COPY")
        publish(client, "o", 1)
        assert "error" not in restore(client, config_of(saved), saved.archive)
        publish(client, "o", 1)
        until(lambda client=client: state_of(client, "COPY")["last_seq"] >= 7)
        assert state_of(client, "COPY")["messages"] == 7
        client.delete("COPY")
        client.delete("ORIGIN")


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_limits_of_the_new_configuration(pair: Any) -> None:
    """Who restores may give other limits, and they hold."""
    source, target, _ = pair
    filled(source)
    saved = backup(source, "S")
    source.delete("S")
    answer = restore(target, {**config_of(saved), "max_msgs": 4}, saved.archive)
    assert (answer["state"]["messages"], answer["state"]["first_seq"]) == (4, 31)


def test_a_big_stream_in_many_chunks(pair: Any) -> None:
    source, _, move = pair
    create(source, name="B", subjects=["b.>"])
    for number in range(300):
        source.write(b"PUB b.%d 9000\r\n%b\r\n" % (number % 7, bytes((number * index) % 256 for index in range(9000))))
    while state_of(source, "B")["messages"] < 300:
        pass
    wanted = state_of(source, "B")
    answer = move("B", chunk_size=50_000)
    assert answer["state"] == {**wanted, "last_ts": answer["state"]["last_ts"]}


# -- refused ----------------------------------------------------------------------------------------------------------

BROKEN = {
    "noise": b"this is no snapshot, but it is long enough for all that",
    "another word": encoded(b"NATSARC9" + END),
    "no state": encoded(MAGIC + entry(b"s", seq=1) + END),
    "no JSON": encoded(MAGIC + entry(b"state.json", b"{") + END),
    "no consumer": archive_of(entry(b"s", b"x", seq=1), END, state={"consumer_count": 1}),
    "no config": archive_of(entry(b"consumers/C", b"{}"), END, state={"consumer_count": 1}),
    "consumer without state": archive_of(entry(b"consumers/C", b'{"config":{}}'), END, state={"consumer_count": 1}),
    "no sequence": archive_of(entry(b"s.a", b"x", time=1), END),
    "out of order": archive_of(entry(b"s.a", b"x", seq=2), entry(b"s.a", b"x", seq=1), END),
    "too large": archive_of(entry(b"s.a", bytes(2 << 20), seq=1), END),
    "checksum": archive_of(END)[:-1] + b"x",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_refused(name: str, clients: dict[str, Saver]) -> None:
    def put(client: Saver) -> Any:
        answer = restore(client, {"name": "S", "subjects": ["s.>"]}, BROKEN[name])
        if "S" in client.stream_names():
            client.delete("S")  # nats-server leaves what it had
        assert "error" in answer, answer
        return answer["error"]

    wanted, got = put(clients["nats-server"]), put(clients["natsc"])
    assert (got["code"], got["err_code"]) == (wanted["code"], wanted["err_code"]), (got, wanted)
    if name not in ("noise", "another word", "no JSON", "no config"):
        assert got == wanted


@pytest.mark.parametrize("cut", [0.0, 0.2, 0.5, 0.9, 0.99])
def test_what_is_cut_off_leaves_nothing(cut: float, clients: dict[str, Saver]) -> None:
    client = clients["natsc"]
    filled(client)
    consumer(client, "S", "C")
    saved = backup(client, "S")
    client.delete("S")
    answer = restore(client, config_of(saved), saved.archive[: int(len(saved.archive) * cut)])
    assert answer["error"]["err_code"] == 10062
    assert client.stream_names() == []
    assert "error" not in restore(client, config_of(saved), saved.archive)


def test_chunks_need_a_reply_subject(clients: dict[str, Saver]) -> None:
    for client in clients.values():
        mark = len(client.server.log)
        subject = begin_restore(client, {"name": "S", "subjects": ["s.>"]})
        client.write(b"PUB %b 1\r\nx\r\n" % subject.encode())
        client.server.wait_log(r"restore for stream '\$G > S' requires reply subject for each chunk", after=mark)


def test_what_is_in_use_is_not_overwritten(clients: dict[str, Saver]) -> None:
    def put(client: Saver) -> Any:
        create(client, name="S", subjects=["other"])
        body = json.dumps({"config": {"name": "S", "subjects": ["s"]}, "state": {}}).encode()
        return json.loads(client.request(f"{PREFIX}STREAM.RESTORE.S", body).payload)

    assert both(clients, put)["error"]["err_code"] == 10130


def test_subjects_of_another_stream(clients: dict[str, Saver]) -> None:
    def put(client: Saver) -> Any:
        create(client, name="OTHER", subjects=["s.*"])
        return restore(client, {"name": "S", "subjects": ["s.a"]}, archive_of(END))

    answer = both(clients, put)
    assert answer["error"]["err_code"] in (10062, 10065)


def test_no_room(clients: dict[str, Saver]) -> None:
    """The state in the archive says how much there will be."""

    def put(client: Saver) -> Any:
        return restore(client, {"name": "S", "subjects": ["s"]}, archive_of(END, state={"bytes": 300 << 20}))

    assert both(clients, put)["error"]["err_code"] == 10047


def test_a_restore_that_is_going_on_keeps_its_name(clients: dict[str, Saver]) -> None:
    client = clients["natsc"]
    subject = begin_restore(client, {"name": "S", "subjects": ["s"]})
    body = json.dumps({"config": {"name": "S", "subjects": ["s"]}, "state": {}}).encode()
    assert json.loads(client.request(f"{PREFIX}STREAM.RESTORE.S", body).payload)["error"]["err_code"] == 10130
    refused = json.loads(client.request(f"{PREFIX}STREAM.CREATE.S", b'{"name":"S","subjects":["s"]}').payload)
    assert refused["error"]["err_code"] == 10058
    client.request(subject, archive_of(entry(b"s", b"x", seq=4), END, state={"first_seq": 4, "last_seq": 9}))
    assert client.stream_names() == []  # not before everything is there
    assert json.loads(client.request(subject, b"").payload)["state"]["last_seq"] == 9
    assert client.stream_names() == ["S"]


def test_a_restored_stream_survives_a_kill(tmp_path: Path) -> None:
    server = Server("natsc", CONFIG.format(tmp_path))
    try:
        with Saver(server, tmp_path) as client:
            filled(client)
            consumer(client, "S", "C")
            saved = backup(client, "S")
            client.delete("S")
            restore(client, config_of(saved), saved.archive)
            wanted, state = messages(client, "S"), consumer_of(client, "S", "C")
            subject = begin_restore(client, {"name": "HALF", "subjects": ["half"]})
            client.request(subject, archive_of(entry(b"half", bytes(100_000), seq=1)))
        server.process.kill()
        server.wait()
    finally:
        server.close()
    server = Server("natsc", CONFIG.format(tmp_path))
    try:
        server.wait_log(r"JetStream drops the stream '\$G > HALF': its restore wasn't finished")
        with Client(server.port) as client:
            assert client.stream_names() == ["S"]
            assert messages(client, "S") == wanted
            assert consumer_of(client, "S", "C") == state
            assert "error" not in restore(client, {"name": "HALF", "subjects": ["half"]}, archive_of(END))
    finally:
        server.close()


def test_chunks_without_waiting_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("natsc.jetstream.restore._STEP_BYTES", 1)
    monkeypatch.setattr("natsc.jetstream.restore._QUEUED_MAX", 3000)
    noise = random.Random(6)
    archive = archive_of(*(entry(b"s", noise.randbytes(60_000), seq=seq) for seq in range(1, 9)), END)
    with natsc.run_in_thread(jetstream=True) as server, Client(server.ports["nats"]) as client:
        subject = begin_restore(client, {"name": "S", "subjects": ["s"]})
        chunks = [archive[:300_000], *(archive[at : at + 1000] for at in range(300_000, 305_000, 1000))]
        client.write(b"".join(b"PUB %b inbox.0 %d\r\n%b\r\n" % (subject.encode(), len(one), one) for one in chunks))
        answer = json.loads(client.message()[3])
        assert "too many chunks before the first one was answered" in answer["error"]["description"]
        assert client.stream_names() == []


def test_what_is_under_way_ends_with_its_streams() -> None:
    """A server in a program is emptied, and stopped, while streams are saved and restored."""
    with natsc.run_in_thread(jetstream=True) as server:
        for _ in range(2):
            with Client(server.ports["nats"]) as client:
                assert client.stream_names() == []
                create(client, name="SAVED", subjects=["s.>"])
                publish_noise(client, 20)
                client.subscribe("stuck")
                body = b'{"deliver_subject":"stuck","chunk_size":1024,"window_size":1024}'
                client.request(f"{PREFIX}STREAM.SNAPSHOT.SAVED", body)
                assert client.message()[3]
                subject = begin_restore(client, {"name": "RESTORED", "subjects": ["r"]})
                client.write(b"UNSUB 2\r\n")
                assert client.request(subject, archive_of(entry(b"r", b"x", seq=1))).payload == b""
                server.reset()


def test_a_server_that_stops_in_between(tmp_path: Path) -> None:
    for _ in range(2):
        server = Server("natsc", CONFIG.format(tmp_path))
        with Client(server.port) as client:
            if "S" not in client.stream_names():
                create(client, name="S", subjects=["s.>"])
            publish_noise(client, 20)
            client.subscribe("stuck")
            body = b'{"deliver_subject":"stuck","chunk_size":1024,"window_size":1024}'
            client.request(f"{PREFIX}STREAM.SNAPSHOT.S", body)
            subject = begin_restore(client, {"name": "HALF", "subjects": ["half"]})
            client.request(subject, archive_of(entry(b"half", b"x", seq=1)))
            server.close()
        assert not [line for line in server.log if "Traceback" in line or "[ERR]" in line or "[FTL]" in line]
        assert any("Server Exiting.." in line for line in server.log)


def test_sequences_that_are_far_apart(clients: dict[str, Saver]) -> None:
    """Nobody counts them one by one."""
    client = clients["natsc"]
    nowhere = {"consumer_seq": 1, "stream_seq": 1}
    body = {"config": {"name": "C", "ack_policy": "explicit", "durable_name": "C"}}
    holder = entry(b"consumers/C", json.dumps({**body, "state": {"delivered": nowhere, "ack_floor": nowhere}}).encode())
    far = 1 << 60
    archive = archive_of(holder, entry(b"s", b"x", seq=far - 5), END, state={"last_seq": far, "consumer_count": 1})
    assert restore(client, {"name": "S", "subjects": ["s"]}, archive)["state"]["last_seq"] == far
    assert consumer_of(client, "S", "C")["num_pending"] == 1
    assert json.loads(client.request("s", b"x").payload)["seq"] == far + 1
    [reply] = client.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.S.C", b"1", 1)
    assert reply.split(".")[5] == str(far - 5)
    api(client, "STREAM.PURGE.S", seq=far * 2)
    assert json.loads(client.request("s", b"x").payload)["seq"] == far * 2


def test_a_damaged_stream_is_not_overwritten(tmp_path: Path) -> None:
    server = Server("natsc", CONFIG.format(tmp_path))
    with Client(server.port) as client:
        create(client, name="S", subjects=["s.>"])
        publish(client, "s.a", 3)
        server.close()
    with lmdb.open(str(tmp_path / "natsc"), max_dbs=10, map_size=1 << 30) as env, env.begin(write=True) as txn:
        txn.put(b"u/stream/%24G/S", b"damaged", db=env.open_db(b"meta", txn=txn))
    server = Server("natsc", CONFIG.format(tmp_path))
    try:
        server.wait_log(r"JetStream can't open the stream '\$G > S'")
        with Client(server.port) as client:
            body = json.dumps({"config": {"name": "S", "subjects": ["s.>"]}, "state": {}}).encode()
            answer = json.loads(client.request(f"{PREFIX}STREAM.RESTORE.S", body).payload)
            assert answer["error"]["description"] == "restore failed: there is a damaged stream of that name"
            answer = json.loads(client.request(f"{PREFIX}STREAM.CREATE.S", b'{"name":"S","subjects":["s.>"]}').payload)
            assert answer["error"]["err_code"] == 10049
    finally:
        server.close()


def test_the_log(clients: dict[str, Saver]) -> None:
    for client in clients.values():
        mark = len(client.server.log)
        filled(client)
        saved = backup(client, "S", jsck=True)
        client.delete("S")
        restore(client, config_of(saved), saved.archive)
        for line in (
            r"\[INF\] Starting health check and snapshot for stream '\$G > S'",
            r"\[INF\] Completed snapshot of \d\.\d\d KB for stream '\$G > S' in [\d.]+[mµ]?s",
            r"\[INF\] Starting restore for stream '\$G > S'",
            r"\[INF\] Completed restore of [\d.]+ K?B for stream '\$G > S' in \d+m?s",
        ):
            client.server.wait_log(line, after=mark)
        restore(client, {"name": "BAD", "subjects": ["bad"]}, b"x" * 100)
        client.server.wait_log(r"\[WRN\] Restore failed for .* for stream '\$G > BAD' in", after=mark)


def test_archives_are_the_same(clients: dict[str, Saver]) -> None:
    """Entry by entry, but for the time."""
    saved = {}
    for kind, client in clients.items():
        filled(client)
        consumer(client, "S", "C")
        plain = decoded(backup(client, "S").archive)
        found = entries(encoded(plain))
        state, holder = json.loads(found[0].body), json.loads(found[1].body)
        for member in ("first_ts", "last_ts"):
            state.pop(member)
        saved[kind] = ([(one.name, one.seq) for one in found], state, holder, [one.body for one in found[2:]])
    assert saved["natsc"] == saved["nats-server"]
