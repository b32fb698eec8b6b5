"""Push consumers, retention, groups, changes of consumers: the same conversation with natsc and with nats-server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest

from .harness import Server
from .talk import MS, SECOND, Talk, both_say_the_same, start_both

SCENARIOS: list[Callable[[Talk], None]] = []


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    yield from start_both(tmp_path_factory)


def scenario(function: Callable[[Talk], None]) -> Callable[[Talk], None]:
    SCENARIOS.append(function)
    return function


@scenario
def events(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.> 9\r\nSUB $JS.EVENT.METRIC.> 9m\r\n")
    talk.stream("PU")
    talk.consumer("PU", "C", sample_freq="100%")
    talk.expect()
    talk.record[-2:] = sorted(talk.record[-2:])
    talk.fill("PU.a", "PU.a")
    talk.pull("PU", "C", "2", 2)
    talk.ack(-1)
    talk.expect()
    talk.publish("$JS.ACK.PU.C.1.1.1.1700000000000000000.0", "-NAK")
    talk.expect()
    talk.publish("$JS.ACK.PU.C.1.1.1.1700000000000000000.0", "+TERM because")
    talk.expect()
    talk.api("CONSUMER.DELETE.PU.C")
    talk.expect()
    talk.record[-2:] = sorted(talk.record[-2:])


@scenario
def deleted_while_somebody_waits(talk: Talk) -> None:
    talk.stream("PV")
    talk.consumer("PV", "C")
    talk.pull("PV", "C", {"batch": 1, "expires": 5 * SECOND}, 0)
    talk.info("PV", "C")
    talk.publish("$JS.API.CONSUMER.DELETE.PV.C", "", "api")
    talk.expect(2, mixed=True)
    talk.pull("PV", "C")
    talk.info("PV", "C")


@scenario
def push(talk: Talk) -> None:
    talk.subscribe("push.QA")
    talk.stream("QA")
    talk.fill(*["QA.a"] * 3)
    talk.consumer("QA", "C", deliver_subject="push.QA")
    talk.expect(3)
    talk.info("QA", "C")
    talk.fill("QA.b")
    talk.expect()
    talk.ack(-1)
    talk.pull("QA", "C")
    talk.info("QA", "C")


@scenario
def push_waits_for_somebody(talk: Talk) -> None:
    talk.stream("QB")
    talk.fill(*["QB.a"] * 3)
    talk.consumer("QB", "C", deliver_subject="deliver.qb")
    talk.info("QB", "C")
    talk.nothing()
    talk.write("SUB deliver.* 7\r\n")
    talk.nothing()
    talk.write("SUB deliver.qb 8\r\n")
    talk.expect(6)
    talk.info("QB", "C")
    talk.write("UNSUB 8\r\nUNSUB 7\r\n")
    talk.ping()
    talk.nothing(0.05)
    talk.info("QB", "C")


@scenario
def push_group(talk: Talk) -> None:
    talk.stream("QC")
    talk.fill("QC.a")
    talk.consumer("QC", "C", deliver_subject="deliver.qc", deliver_group="g")
    talk.write("SUB deliver.qc 7\r\n")
    talk.nothing()
    talk.info("QC", "C")
    talk.write("UNSUB 7\r\nSUB deliver.qc g 8\r\n")
    talk.expect()
    talk.info("QC", "C")


@scenario
def push_heartbeats(talk: Talk) -> None:
    talk.subscribe("push.QD")
    talk.stream("QD")
    talk.consumer("QD", "C", deliver_subject="push.QD", idle_heartbeat=100 * MS)
    talk.expect(2)
    talk.fill("QD.a")
    talk.expect(2)


@scenario
def push_flow_control(talk: Talk) -> None:
    talk.subscribe("push.QE")
    talk.stream("QE")
    talk.fill(*["QE.a"] * 3, payload="x" * 600_000)
    talk.consumer("QE", "C", ack_policy="none", deliver_subject="push.QE", flow_control=True, idle_heartbeat=200 * MS)
    talk.expect(5)
    talk.publish(next(reply for reply in reversed(talk.replies) if reply.startswith("$JS.FC.")))
    for _ in range(2):
        talk.publish("QE.a", "x" * 600_000, "puback")
        talk.expect(2, mixed=True)
    talk.info("QE", "C")


@scenario
def ordered(talk: Talk) -> None:
    talk.subscribe("push.QF")
    talk.stream("QF")
    talk.fill(*["QF.a"] * 2)
    talk.consumer(
        "QF", "eph", durable_name="", ack_policy="none", max_deliver=1, mem_storage=True, num_replicas=1,
        flow_control=True, idle_heartbeat=5 * SECOND, deliver_subject="push.QF", ack_wait=79200 * SECOND,
        inactive_threshold=300 * MS,
    )  # fmt: skip
    talk.expect(2)
    talk.info("QF", "eph")
    talk.api("CONSUMER.NAMES.QF")
    talk.write("UNSUB 7\r\n")
    talk.nothing(0.5)
    talk.api("CONSUMER.NAMES.QF")


@scenario
def work_queue(talk: Talk) -> None:
    talk.stream("QG", retention="workqueue")
    talk.consumer("QG", "C")
    talk.fill(*["QG.a"] * 3)
    talk.pull("QG", "C", "2", 2)
    talk.ack(-1)
    talk.api("STREAM.INFO.QG")
    talk.ack(-3, "+TERM")
    talk.api("STREAM.INFO.QG")
    talk.info("QG", "C")


@scenario
def interest(talk: Talk) -> None:
    talk.stream("QH", retention="interest")
    talk.fill("QH.a")
    talk.consumer("QH", "A", filter_subject="QH.a")
    talk.consumer("QH", "B", ack_policy="none")
    talk.fill("QH.a", "QH.b", "QH.a")
    talk.api("STREAM.INFO.QH")
    talk.pull("QH", "B", "2", 2)
    talk.nothing(0.05)
    talk.api("STREAM.INFO.QH")
    talk.pull("QH", "A", "2", 2)
    talk.ack(-1)
    talk.info("QH", "A")
    talk.api("STREAM.INFO.QH")
    talk.api("CONSUMER.DELETE.QH.A")
    talk.nothing(0.05)
    talk.api("STREAM.INFO.QH")


@scenario
def pause(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.PAUSE.> 9\r\n")
    talk.stream("QI")
    talk.consumer("QI", "C")
    talk.fill("QI.a")
    talk.publish("$JS.API.CONSUMER.PAUSE.QI.C", '{"pause_until": "2099-01-01T00:00:00Z"}', "api")
    talk.expect(2, mixed=True)
    talk.pull("QI", "C", {"batch": 1, "no_wait": True})
    talk.pull("QI", "C", {"batch": 1, "expires": 100 * MS})
    talk.info("QI", "C")
    talk.publish("$JS.API.CONSUMER.PAUSE.QI.C", "", "api")
    talk.expect(2, mixed=True)
    talk.pull("QI", "C")


@scenario
def reset(talk: Talk) -> None:
    talk.stream("QJ")
    talk.consumer("QJ", "C")
    talk.fill(*["QJ.a"] * 5)
    talk.pull("QJ", "C", "4", 4)
    talk.ack(-4)
    talk.api("CONSUMER.RESET.QJ.C")
    talk.pull("QJ", "C")
    talk.api("CONSUMER.RESET.QJ.C", {"seq": 4})
    talk.pull("QJ", "C")
    talk.info("QJ", "C")


@scenario
def updates(talk: Talk) -> None:
    talk.stream("QK")
    talk.consumer("QK", "C", max_ack_pending=1)
    talk.fill(*["QK.a"] * 3)
    talk.pull("QK", "C", {"batch": 3, "expires": 5 * SECOND})
    talk.publish(
        "$JS.API.CONSUMER.CREATE.QK.C",
        json.dumps({
            "stream_name": "QK",
            "config": {
                "durable_name": "C", "name": "C", "ack_policy": "explicit", "max_ack_pending": 3, "max_waiting": 512,
            },
        }),
    )  # fmt: skip
    talk.expect(2)
    talk.info("QK", "C")
    talk.consumer("QK", "C", ack_policy="all")
    talk.consumer("QK", "C", deliver_subject="x")


@scenario
def overflow_groups(talk: Talk) -> None:
    talk.stream("QL")
    talk.consumer("QL", "C", priority_policy="overflow", priority_groups=["g"])
    talk.info("QL", "C")
    talk.fill(*["QL.a"] * 3)
    talk.pull("QL", "C", {"batch": 1})
    talk.pull("QL", "C", {"batch": 1, "group": "zzz"})
    talk.pull("QL", "C", "1")
    talk.pull("QL", "C", {"batch": 1, "group": "g"})
    talk.pull("QL", "C", {"batch": 5, "group": "g", "min_pending": 5, "expires": 5 * SECOND}, 0)
    talk.nothing()
    talk.pull("QL", "C", {"batch": 1, "group": "g", "min_ack_pending": 2, "expires": 5 * SECOND})
    talk.info("QL", "C")


@scenario
def prioritized_groups(talk: Talk) -> None:
    talk.stream("QM")
    talk.consumer("QM", "C", priority_policy="prioritized", priority_groups=["g"])
    for inbox, priority in (("low", 5), ("high", 1), ("high2", 1)):
        talk.subscribe(f"{inbox}.QM", inbox)
        body = json.dumps({"batch": 2, "group": "g", "priority": priority, "expires": 5 * SECOND})
        talk.write(f"PUB $JS.API.CONSUMER.MSG.NEXT.QM.C {inbox}.QM {len(body)}\r\n{body}\r\n")
    talk.nothing(0.05)
    talk.info("QM", "C")
    for number in range(6):
        talk.publish("QM.a", str(number))
        talk.expect()
    talk.info("QM", "C")


@scenario
def pinned_groups(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.PINNED.> 9\r\nSUB $JS.EVENT.ADVISORY.CONSUMER.UNPINNED.> 9u\r\n")
    talk.stream("QN")
    talk.consumer("QN", "C", priority_policy="pinned_client", priority_groups=["g"], priority_timeout=SECOND)
    talk.fill(*["QN.a"] * 4)
    talk.pull("QN", "C", {"batch": 1, "group": "g", "expires": 5 * SECOND}, 2)
    pin = re.search(r"Nats-Pin-Id: (\w+)", talk.last_headers)
    if pin is None:
        talk.ping()
        pin = re.search(r"Nats-Pin-Id: (\w+)", talk.last_headers)
    talk.info("QN", "C")
    talk.pull("QN", "C", {"batch": 1, "group": "g", "expires": 5 * SECOND}, 0)
    talk.nothing()
    talk.pull("QN", "C", {"batch": 1, "group": "g", "id": "wrong"})
    assert pin is not None
    talk.pull("QN", "C", {"batch": 1, "group": "g", "id": pin[1]})
    talk.publish("$JS.API.CONSUMER.UNPIN.QN.C", '{"group":"g"}', "x")
    talk.expect(4, mixed=True)
    talk.pull("QN", "C", {"batch": 1, "group": "g", "id": pin[1]})
    talk.info("QN", "C")


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda function: function.__name__)
def test_both_say_the_same(servers: list[Server], run: Callable[[Talk], None]) -> None:
    both_say_the_same(servers, run, SCENARIOS.index(run))
