"""Pull consumers: the same conversation with natsc and with nats-server, message by message."""

from __future__ import annotations

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
def pull_one_by_one(talk: Talk) -> None:
    talk.stream("PA")
    talk.consumer("PA", "C")
    talk.fill("PA.a", "PA.b", "PA.c")
    talk.info("PA", "C")
    talk.pull("PA", "C")
    talk.pull("PA", "C", "1")
    talk.ack(-2)
    talk.info("PA", "C")
    talk.ack(-3, "+ACK")
    talk.info("PA", "C")
    talk.ack(-5, "+OK")
    talk.info("PA", "C")


@scenario
def batches_and_statuses(talk: Talk) -> None:
    talk.stream("PB")
    talk.consumer("PB", "C")
    talk.fill(*["PB.a"] * 5)
    talk.pull("PB", "C", {"batch": 3}, 3)
    talk.pull("PB", "C", {"batch": 10, "no_wait": True}, 3)
    talk.pull("PB", "C", {"batch": 10, "no_wait": True})
    talk.pull("PB", "C", {"batch": 1, "no_wait": True, "expires": 100 * MS})
    talk.pull("PB", "C", {"batch": 2, "expires": 50 * MS})
    talk.pull("PB", "C", {"batch": 2, "expires": 200 * MS, "idle_heartbeat": 90 * MS}, 3)
    talk.info("PB", "C")


@scenario
def strange_requests(talk: Talk) -> None:
    talk.stream("PC")
    talk.consumer("PC", "C")
    talk.fill(*["PC.a"] * 9)
    for body in ("0", "-1", "abc", " 2 ", '{"batch":2}', '{"Batch":1}', '{"batch":1,"zzz":{}}', "{}"):
        talk.pull("PC", "C", body)
    talk.nothing()
    for body in (
        '{"batch":"x"}', "{batch", '{"batch":1', '{"batch":1.5}', '{"expires":"1s"}', '{"no_wait":1}',
        {"batch": 1, "expires": SECOND, "idle_heartbeat": 600 * MS}, {"batch": 1, "idle_heartbeat": 1},
        {"batch": 1, "min_pending": 1}, {"batch": 1, "id": "x"}, {"batch": 1, "priority": 10},
        {"batch": 1, "priority": -1},
    ):  # fmt: skip
        talk.pull("PC", "C", body)
    talk.pull("PC", "C", "1", headers="NATS/1.0\r\nNats-Required-Api-Level: 99\r\n\r\n")
    talk.pull("PC", "C", "1", headers="NATS/1.0\r\nNats-Required-Api-Level: 1\r\n\r\n")
    talk.info("PC", "C")


@scenario
def request_limits(talk: Talk) -> None:
    talk.stream("PD")
    talk.consumer("PD", "C", max_batch=5, max_expires=2 * SECOND, max_bytes=1024, max_waiting=2)
    talk.pull("PD", "C", {"batch": 6})
    talk.pull("PD", "C", {"batch": 1, "expires": 2500 * MS})
    talk.pull("PD", "C", {"batch": 1, "max_bytes": 1025})
    for _ in range(2):
        talk.pull("PD", "C", {"batch": 1, "expires": SECOND}, 0)
    talk.pull("PD", "C", {"batch": 1, "expires": SECOND})
    talk.pull("PD", "C", {"batch": 1, "expires": SECOND, "idle_heartbeat": 400 * MS}, 0)
    talk.nothing()
    talk.info("PD", "C")


@scenario
def max_bytes(talk: Talk) -> None:
    talk.stream("PE")
    talk.consumer("PE", "C", ack_policy="none")
    talk.fill(*["PE.a"] * 4, payload="x" * 100)
    talk.pull("PE", "C", {"batch": 1, "max_bytes": 50, "expires": SECOND})
    talk.pull("PE", "C", {"batch": 2, "max_bytes": 1000, "expires": SECOND}, 3)
    talk.pull("PE", "C", {"batch": 3, "max_bytes": 320, "expires": SECOND}, 3)
    talk.info("PE", "C")


@scenario
def kinds_of_acks(talk: Talk) -> None:
    talk.stream("PF")
    talk.consumer("PF", "C", ack_wait=SECOND)
    talk.fill(*["PF.a"] * 4)
    talk.pull("PF", "C", {"batch": 4}, 4)
    first = len(talk.replies) - 4
    talk.ack(first, "-NAK")
    talk.info("PF", "C")
    talk.pull("PF", "C", "1")
    talk.ack(first, "+WPI")
    talk.ack(first + 1, "+TERM")
    talk.info("PF", "C")
    talk.ack(first + 2, "+TERM no good")
    talk.ack(first + 2, "+TERM again")
    talk.ack(first + 3, "-NAK 50ms")
    talk.pull("PF", "C", {"batch": 1, "no_wait": True})
    talk.pull("PF", "C", {"batch": 1, "expires": SECOND})
    talk.ack(first + 3, '-NAK {"delay": 20000000}')
    talk.pull("PF", "C", {"batch": 1, "expires": SECOND})
    talk.ack(first + 3, "-NAK nonsense")
    talk.pull("PF", "C", {"batch": 1, "expires": SECOND})
    talk.ack(first + 3, "what is this")
    talk.info("PF", "C")
    talk.ack(first)
    talk.info("PF", "C")
    talk.ack(first + 3)
    talk.ack(first + 3)
    talk.info("PF", "C")


@scenario
def acks_for_what_was_never_delivered(talk: Talk) -> None:
    talk.stream("PG")
    talk.consumer("PG", "C")
    talk.fill("PG.a", "PG.a")
    talk.pull("PG", "C")
    talk.publish("$JS.ACK.PG.C.1.2.2.1700000000000000000.0", "", "ack")
    talk.nothing()
    talk.publish("$JS.ACK.PG.C.1.x.2.1700000000000000000.0", "", "ack")
    talk.nothing()
    talk.publish("$JS.ACK.PG.C.1.0.0.1700000000000000000.0", "", "ack")
    talk.nothing()
    talk.publish("$JS.ACK.PG.C.1.1.1.1700000000000000000.0", "", "ack")
    talk.expect()
    talk.publish("$JS.ACK.PG.C.1.1.1", "", "ack")
    talk.expect()
    talk.publish("$JS.ACK.PG.NONE.1.1.1.1.0", "", "ack")
    talk.expect()
    talk.info("PG", "C")


@scenario
def ack_and_next(talk: Talk) -> None:
    talk.stream("PH")
    talk.consumer("PH", "C")
    talk.fill(*["PH.a"] * 6)
    talk.pull("PH", "C")
    talk.ack(-1, "+NXT")
    talk.ack(-1, "+NXT 2")
    talk.expect()
    talk.ack(-1, '+NXT {"batch":1,"no_wait":true}')
    talk.info("PH", "C")


@scenario
def ack_all(talk: Talk) -> None:
    talk.stream("PI")
    talk.consumer("PI", "C", ack_policy="all", max_ack_pending=5)
    talk.fill(*["PI.a"] * 8)
    talk.pull("PI", "C", {"batch": 8, "expires": 300 * MS}, 5)
    talk.info("PI", "C")
    talk.publish(talk.replies[-4], "", "ack")
    talk.expect(4, mixed=True)
    talk.info("PI", "C")


@scenario
def ack_none(talk: Talk) -> None:
    talk.stream("PJ")
    talk.consumer("PJ", "C", ack_policy="none")
    talk.fill(*["PJ.a"] * 3)
    talk.pull("PJ", "C", "2", 2)
    talk.info("PJ", "C")
    talk.publish(talk.replies[-2], "", "ack")
    talk.expect()


@scenario
def max_ack_pending(talk: Talk) -> None:
    talk.stream("PK")
    talk.consumer("PK", "C", max_ack_pending=2)
    talk.fill(*["PK.a"] * 4)
    talk.pull("PK", "C", {"batch": 4, "expires": 5 * SECOND}, 2)
    talk.nothing()
    talk.ack(-1, confirmed=False)
    talk.expect()
    talk.ack(-1, confirmed=False)
    talk.expect()
    talk.info("PK", "C")
    talk.pull("PK", "C", {"batch": 1, "no_wait": True})
    talk.nothing()


@scenario
def redelivery(talk: Talk) -> None:
    talk.stream("PL")
    talk.consumer("PL", "C", ack_wait=100 * MS)
    talk.fill(*["PL.a"] * 3)
    talk.pull("PL", "C", "3", 3)
    talk.pull("PL", "C", {"batch": 3, "expires": 5 * SECOND}, 3)
    talk.ack(-2, confirmed=False)
    talk.pull("PL", "C", {"batch": 2, "expires": 5 * SECOND}, 2)
    talk.info("PL", "C")


@scenario
def max_deliver(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.> 9\r\n")
    talk.stream("PM")
    talk.consumer("PM", "C", ack_wait=50 * MS, max_deliver=2)
    talk.fill("PM.a", "PM.b")
    talk.pull("PM", "C", "2", 2)
    talk.pull("PM", "C", {"batch": 2, "expires": 5 * SECOND}, 2)
    talk.nothing(0.2)
    talk.info("PM", "C")
    talk.pull("PM", "C", {"batch": 2, "expires": 200 * MS}, 3)
    talk.info("PM", "C")
    talk.fill("PM.c")
    talk.pull("PM", "C")
    talk.ack(-1)
    talk.info("PM", "C")


@scenario
def max_deliver_once(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.> 9\r\n")
    talk.stream("PN")
    talk.consumer("PN", "C", ack_wait=50 * MS, max_deliver=1)
    talk.fill("PN.a", "PN.b")
    talk.pull("PN", "C", "1")
    talk.expect()
    talk.info("PN", "C")


@scenario
def given_up_and_acknowledged(talk: Talk) -> None:
    """With interest retention a message stays that was given up, though a later one is acknowledged with all before."""
    for name, acknowledged in (("GA", -3), ("GB", -1)):
        talk.stream(name, retention="interest")
        talk.consumer(name, "C", ack_policy="all", max_deliver=1)
        talk.consumer(name, "OTHER")
        talk.fill(*[f"{name}.a"] * 4)
        talk.pull(name, "C", "1")
        talk.ack(-1, "-NAK")
        talk.pull(name, "C", "3", 3)
        talk.ack(acknowledged)
        talk.info(name, "C")
        talk.api(f"CONSUMER.DELETE.{name}.OTHER")
        talk.api(f"STREAM.INFO.{name}", {"deleted_details": True})


@scenario
def backoff(talk: Talk) -> None:
    talk.stream("PO")
    talk.consumer("PO", "C", backoff=[50 * MS, 100 * MS], max_deliver=4)
    talk.fill("PO.a")
    talk.pull("PO", "C")
    for _ in range(3):
        talk.pull("PO", "C", {"batch": 1, "expires": 5 * SECOND})
    talk.info("PO", "C")


@scenario
def deliver_policies(talk: Talk) -> None:
    talk.stream("PP")
    talk.fill("PP.a", "PP.b", "PP.a", "PP.c", "PP.b")
    for name, config in {
        "ALL": {},
        "LAST": {"deliver_policy": "last"},
        "LASTB": {"deliver_policy": "last", "filter_subject": "PP.a"},
        "NEW": {"deliver_policy": "new"},
        "SEQ": {"deliver_policy": "by_start_sequence", "opt_start_seq": 3},
        "SEQ9": {"deliver_policy": "by_start_sequence", "opt_start_seq": 9},
        "TIME": {"deliver_policy": "by_start_time", "opt_start_time": "2020-01-01T00:00:00Z"},
        "FUTURE": {"deliver_policy": "by_start_time", "opt_start_time": "2099-01-01T00:00:00Z"},
        "PER": {"deliver_policy": "last_per_subject", "filter_subject": "PP.>"},
        "PERF": {"deliver_policy": "last_per_subject", "filter_subjects": ["PP.a", "PP.b"]},
    }.items():
        talk.consumer("PP", name, **config)
        talk.info("PP", name)
    talk.fill("PP.a", "PP.d")
    for name, count in {
        "ALL": 7, "LAST": 3, "LASTB": 2, "NEW": 2, "SEQ": 5, "TIME": 7, "FUTURE": 2, "PER": 5, "PERF": 3,
    }.items():  # fmt: skip
        talk.pull("PP", name, {"batch": 10, "no_wait": True}, count + 1)
        talk.info("PP", name)
    talk.pull("PP", "SEQ9", {"batch": 10, "no_wait": True})


@scenario
def empty_streams(talk: Talk) -> None:
    talk.stream("PQ")
    for policy in ("all", "last", "new"):
        talk.consumer("PQ", policy, deliver_policy=policy)
    talk.consumer("PQ", "per", deliver_policy="last_per_subject", filter_subject="PQ.>")
    talk.fill("PQ.a")
    for policy in ("all", "last", "new", "per"):
        talk.pull("PQ", policy)
        talk.info("PQ", policy)


@scenario
def filters(talk: Talk) -> None:
    talk.stream("PR")
    talk.consumer("PR", "ONE", filter_subject="PR.a.*")
    talk.consumer("PR", "TWO", filter_subjects=["PR.a.1", "PR.b.>"])
    talk.fill("PR.a.1", "PR.b.1", "PR.c", "PR.a.2", "PR.b.2.x", "PR.c")
    talk.info("PR", "ONE")
    talk.info("PR", "TWO")
    talk.pull("PR", "ONE", {"batch": 9, "no_wait": True}, 3)
    talk.pull("PR", "TWO", {"batch": 9, "no_wait": True}, 4)
    talk.info("PR", "ONE")
    talk.info("PR", "TWO")
    talk.consumer("PR", "ONE", filter_subject="PR.c")
    talk.info("PR", "ONE")
    talk.fill("PR.c")
    talk.pull("PR", "ONE", {"batch": 9, "no_wait": True}, 2)


@scenario
def removed_messages(talk: Talk) -> None:
    talk.write("SUB $JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.> 9\r\n")
    talk.stream("PS")
    talk.consumer("PS", "C")
    talk.fill(*["PS.a"] * 6)
    talk.pull("PS", "C", "2", 2)
    talk.api("STREAM.MSG.DELETE.PS", {"seq": 1})
    talk.expect()
    talk.record[-2:] = sorted(talk.record[-2:])
    talk.info("PS", "C")
    talk.api("STREAM.MSG.DELETE.PS", {"seq": 4})
    talk.info("PS", "C")
    talk.pull("PS", "C", {"batch": 5, "no_wait": True}, 4)
    talk.info("PS", "C")


@scenario
def purges(talk: Talk) -> None:
    talk.stream("PT")
    talk.consumer("PT", "C")
    talk.fill(*["PT.a"] * 6)
    talk.pull("PT", "C", "3", 3)
    talk.api("STREAM.PURGE.PT", {"seq": 3})
    talk.info("PT", "C")
    talk.api("STREAM.PURGE.PT")
    talk.info("PT", "C")
    talk.fill("PT.a")
    talk.pull("PT", "C")
    talk.info("PT", "C")


@scenario
def requests_take_turns(talk: Talk) -> None:
    talk.stream("PW")
    talk.consumer("PW", "C")
    for inbox in ("one", "two"):
        talk.subscribe(f"{inbox}.PW", inbox)
        talk.write(f'PUB $JS.API.CONSUMER.MSG.NEXT.PW.C {inbox}.PW 33\r\n{{"batch":2,"expires": 5000000000}}\r\n')
        talk.nothing(0.05)
    talk.info("PW", "C")
    for number in range(4):
        talk.publish("PW.1", str(number))
        talk.expect()
    talk.info("PW", "C")


@scenario
def headers_only(talk: Talk) -> None:
    talk.stream("PX")
    talk.consumer("PX", "C", headers_only=True)
    talk.fill("PX.a")
    talk.publish("PX.b", "hello", "puback", "NATS/1.0\r\nA: b\r\n\r\n")
    talk.expect()
    talk.pull("PX", "C", "2", 2)


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda function: function.__name__)
def test_both_say_the_same(servers: list[Server], run: Callable[[Talk], None]) -> None:
    both_say_the_same(servers, run, SCENARIOS.index(run))
