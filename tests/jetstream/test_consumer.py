"""Consumers over streams in memory, with a clock that stands still: pull requests, redelivery, push, time."""

from __future__ import annotations

import json

import pytest

from natsc.jetstream.backend import finish
from tests.jetstream.jsworld import MS, SECOND, JsWorld, Message

SENT = [b"0", b"1", b"2", b"3", b"4"]


@pytest.fixture
def js() -> JsWorld:
    world = JsWorld()
    world.stream("S", "s.>")
    return world


def payloads(messages: list[Message]) -> list[bytes]:
    return [one.payload for one in messages]


def pull(js: JsWorld, reply: str = "_INBOX.1", **request: object) -> None:
    js.pull("S", "C", json.dumps(request).encode(), reply)


# -- pull -------------------------------------------------------------------------------------------------------------


def test_a_message_comes_under_its_own_subject_with_its_numbers(js: JsWorld) -> None:
    js.consumer("S", "C")
    js.publish("s.x", b"hello", b"NATS/1.0\r\nA: b\r\n\r\n")
    js.fill(2)
    js.pull("S", "C")
    (message,) = js.messages()
    assert message.subject == "s.x"
    assert message.ack == (1, 1, 1, 2)
    assert message.headers == b"NATS/1.0\r\nA: b\r\n\r\n"
    assert message.payload == b"hello"


def test_a_waiting_request_gets_what_comes(js: JsWorld) -> None:
    js.consumer("S", "C")
    pull(js, batch=2, expires=SECOND)
    js.fill(3)
    assert payloads(js.messages()) == SENT[:2]
    assert js.info("S", "C")["pending"] == 1


def test_requests_take_turns(js: JsWorld) -> None:
    js.consumer("S", "C")
    for inbox in ("a", "b"):
        js.say(b"SUB in.%b %b\r\n" % (inbox.encode(), inbox.encode()))
        pull(js, f"in.{inbox}", batch=2, expires=SECOND)
    js.fill(4)
    assert [one.sid for one in js.messages()] == ["a", "b", "a", "b"]


def test_a_request_nobody_listens_to_is_passed_over(js: JsWorld) -> None:
    js.consumer("S", "C")
    pull(js, "nobody.here", batch=1, expires=SECOND)
    pull(js, batch=1, expires=SECOND)
    js.fill(1)
    assert payloads(js.messages()) == [b"0"]
    assert js.info("S", "C")["waiting"] == 0


def test_a_request_without_reply_is_none(js: JsWorld) -> None:
    js.consumer("S", "C")
    js.publish("$JS.API.CONSUMER.MSG.NEXT.S.C", b"1")
    assert js.info("S", "C")["waiting"] == 0


def test_expiry_says_what_is_missing(js: JsWorld) -> None:
    js.consumer("S", "C")
    js.fill(1)
    pull(js, batch=3, max_bytes=1000, expires=SECOND)
    (message,) = js.messages()
    js.advance(SECOND - 1)
    assert js.messages() == []
    js.advance(1)
    (status,) = js.messages()
    assert status.status == "408 Request Timeout"
    assert status.header("Nats-Pending-Messages") == "2"
    assert status.header("Nats-Pending-Bytes") == str(1000 - 3 - len(message.reply) - 1)


def test_heartbeats_come_until_messages_do(js: JsWorld) -> None:
    js.consumer("S", "C")
    pull(js, batch=5, expires=10 * SECOND, idle_heartbeat=SECOND)
    js.advance(SECOND)
    assert js.statuses() == ["100 Idle Heartbeat"]
    js.fill(1)
    js.messages()
    js.advance(SECOND - 1)
    assert js.messages() == []
    js.advance(1)
    assert js.statuses() == ["100 Idle Heartbeat"]


def test_no_wait_with_expiry_waits_for_the_first_message_only(js: JsWorld) -> None:
    js.consumer("S", "C")
    pull(js, batch=5, no_wait=True, expires=SECOND)
    assert js.messages() == []
    js.fill(1)
    first, end = js.messages()
    assert (first.payload, end.status) == (b"0", "404 No Messages")


def test_many_requests_expire_each_at_its_time(js: JsWorld) -> None:
    js.consumer("S", "C")
    for number in range(1, 6):
        pull(js, batch=1, expires=number * SECOND)
    for _ in range(5):
        js.advance(SECOND)
        assert js.statuses() == ["408 Request Timeout"]


def test_a_full_queue_refuses(js: JsWorld) -> None:
    js.consumer("S", "C", max_waiting=1)
    pull(js, batch=1, expires=SECOND)
    pull(js, batch=1, expires=SECOND)
    assert js.statuses() == ["409 Exceeded MaxWaiting"]


def test_a_full_queue_makes_room_for_the_living(js: JsWorld) -> None:
    js.consumer("S", "C", max_waiting=1)
    js.advance(2 * SECOND)
    pull(js, "nobody.here", batch=1, expires=100 * SECOND)
    pull(js, batch=1, expires=SECOND)
    assert js.messages() == []
    js.fill(1)
    assert payloads(js.messages()) == [b"0"]


def test_ten_thousand_messages_need_no_more_than_their_turns(js: JsWorld) -> None:
    js.consumer("S", "C", ack_policy="none")
    js.fill(5000)
    pull(js, batch=5000, expires=SECOND)
    assert len(js.messages()) == 2048
    js.advance(1)
    js.advance(1)
    assert len(js.messages()) == 5000 - 2048


# -- acknowledgement and redelivery -----------------------------------------------------------------------------------


def test_what_is_not_acknowledged_comes_again_in_order(js: JsWorld) -> None:
    js.consumer("S", "C", ack_wait=SECOND)
    js.fill(3)
    pull(js, batch=3)
    first = js.messages()
    js.ack(first[1])
    js.advance(SECOND + MS)
    pull(js, batch=3, expires=SECOND)
    again = js.messages()
    assert payloads(again) == [b"0", b"2"]
    assert [one.ack for one in again] == [(2, 1, 4, 0), (2, 3, 5, 0)]
    for one in again:
        js.ack(one)
    assert js.info("S", "C") == {
        "delivered": (5, 3), "floor": (5, 3), "ack_pending": 0, "redelivered": 0, "waiting": 1, "pending": 0,
    }  # fmt: skip


def test_progress_puts_the_deadline_off(js: JsWorld) -> None:
    js.consumer("S", "C", ack_wait=SECOND)
    js.fill(1)
    pull(js, batch=1)
    (message,) = js.messages()
    pull(js, batch=1, expires=100 * SECOND)
    for _ in range(3):
        js.advance(SECOND - MS)
        js.ack(message, b"+WPI")
    assert js.messages() == []
    js.advance(SECOND + MS)
    assert [one.ack[0] for one in js.messages()] == [2]


def test_a_nak_with_delay_waits_so_long(js: JsWorld) -> None:
    js.consumer("S", "C", ack_wait=30 * SECOND)
    js.fill(1)
    pull(js, batch=1)
    (message,) = js.messages()
    pull(js, batch=1, expires=100 * SECOND)
    js.ack(message, b'-NAK {"delay": 5000000000}')
    js.advance(5 * SECOND - MS)
    assert js.messages() == []
    js.advance(2 * MS)
    assert [one.ack[0] for one in js.messages()] == [2]


@pytest.mark.parametrize("delay", [b"5s", b"5000ms", b'{ "delay" : 5000000000 }', b'{"delay":5000000000,"x":1}'])
def test_delays_are_written_in_many_ways(js: JsWorld, delay: bytes) -> None:
    js.consumer("S", "C")
    js.fill(1)
    pull(js, batch=1)
    (message,) = js.messages()
    pull(js, batch=1, expires=100 * SECOND)
    js.ack(message, b"-NAK " + delay)
    js.advance(4 * SECOND)
    assert js.messages() == []
    js.advance(SECOND + MS)
    assert len(js.messages()) == 1


def test_backoff_sets_the_deadline_of_each_delivery(js: JsWorld) -> None:
    js.consumer("S", "C", backoff=[SECOND, 2 * SECOND, 4 * SECOND], max_deliver=10)
    js.fill(1)
    pull(js, batch=10, expires=100 * SECOND)
    times = []
    for second in range(1, 16):
        times += [second - 1] * len(js.messages())
        js.advance(SECOND + (2 * MS if second < 6 else 0))
    assert times == [0, 1, 3, 7, 11]


def test_after_max_deliver_a_message_is_given_up(js: JsWorld) -> None:
    js.say(b"SUB $JS.EVENT.ADVISORY.> 2\r\n")
    js.consumer("S", "C", ack_wait=SECOND, max_deliver=2)
    js.messages()
    js.fill(1)
    pull(js, batch=10, expires=100 * SECOND)
    for _ in range(3):
        js.advance(SECOND + MS)
    first, second, event = js.messages()
    assert (first.ack[0], second.ack[0]) == (1, 2)
    assert json.loads(event.payload)["deliveries"] == 2
    assert js.info("S", "C")["ack_pending"] == 0


def test_max_ack_pending_stops_the_flow_until_something_is_acknowledged(js: JsWorld) -> None:
    js.consumer("S", "C", max_ack_pending=2)
    js.fill(5)
    pull(js, batch=5, expires=SECOND)
    first = js.messages()
    assert payloads(first) == SENT[:2]
    js.ack(first[0], b"+TERM")
    assert payloads(js.messages()) == [b"2"]


def test_a_lowered_limit_lets_what_is_out_be_acknowledged(js: JsWorld) -> None:
    js.consumer("S", "C", max_ack_pending=4)
    js.fill(5)
    pull(js, batch=5, expires=100 * SECOND)
    out = js.messages()
    js.consumer("S", "C", max_ack_pending=1)
    for one in out:
        js.ack(one)
    assert payloads(js.messages()) == [b"4"]


def test_an_ack_of_everything_before(js: JsWorld) -> None:
    js.consumer("S", "C", ack_policy="all")
    js.fill(4)
    pull(js, batch=4)
    out = js.messages()
    js.ack(out[2])
    assert js.info("S", "C")["floor"] == (3, 3)
    assert js.info("S", "C")["ack_pending"] == 1


def test_a_confirmed_ack_is_answered_once_each_time(js: JsWorld) -> None:
    js.consumer("S", "C")
    js.fill(1)
    pull(js, batch=1)
    (message,) = js.messages()
    for _ in range(2):
        js.ack(message, b"", "_INBOX.ack")
        assert [one.subject for one in js.messages()] == ["_INBOX.ack"]


def test_a_removed_message_is_no_longer_pending(js: JsWorld) -> None:
    js.consumer("S", "C")
    js.fill(2)
    pull(js, batch=2)
    js.messages()
    js.js.stream("S").remove(1, False)  # type: ignore[union-attr]
    js.end_turn()
    assert js.info("S", "C")["ack_pending"] == 1
    assert js.info("S", "C")["floor"] == (1, 1)


def test_a_purge_leaves_nothing_pending(js: JsWorld) -> None:
    js.consumer("S", "C")
    js.fill(5)
    pull(js, batch=2)
    js.messages()
    finish(js.js.stream("S").purge("", 0, 0))  # type: ignore[union-attr]
    js.end_turn()
    assert js.info("S", "C") == {
        "delivered": (2, 5), "floor": (2, 5), "ack_pending": 0, "redelivered": 0, "waiting": 0, "pending": 0,
    }  # fmt: skip
    js.fill(1)
    pull(js, batch=1)
    assert [one.ack for one in js.messages()] == [(1, 6, 3, 0)]


# -- what is delivered ------------------------------------------------------------------------------------------------


def test_filters_count_and_choose(js: JsWorld) -> None:
    js.consumer("S", "C", filter_subjects=["s.a", "s.b.*"])
    for subject in ("s.a", "s.c", "s.b.1", "s.b", "s.a"):
        js.publish(subject, subject.encode())
    assert js.info("S", "C")["pending"] == 3
    pull(js, batch=9, no_wait=True)
    assert [one.ack[3] for one in js.messages()[:-1]] == [2, 1, 0]
    js.publish("s.c")
    assert js.info("S", "C")["pending"] == 0


def test_the_last_of_each_subject_comes_first(js: JsWorld) -> None:
    for subject in ("s.a", "s.b", "s.a", "s.c"):
        js.publish(subject)
    js.consumer("S", "C", deliver_policy="last_per_subject", filter_subject="s.>")
    js.publish("s.d")
    js.publish("s.a")
    pull(js, batch=9, no_wait=True)
    assert [(one.subject, one.ack[1], one.ack[3]) for one in js.messages()[:-1]] == [
        ("s.b", 2, 4), ("s.a", 3, 3), ("s.c", 4, 2), ("s.d", 5, 1), ("s.a", 6, 0),
    ]  # fmt: skip


def test_replay_keeps_the_rhythm(js: JsWorld) -> None:
    for _ in range(3):
        js.publish("s.a")
        js.advance(SECOND)
    js.consumer("S", "C", replay_policy="original")
    pull(js, batch=5, expires=100 * SECOND)
    assert len(js.messages()) == 1
    js.advance(SECOND - 1)
    assert js.messages() == []
    js.advance(1)
    assert len(js.messages()) == 1
    js.advance(SECOND)
    assert len(js.messages()) == 1
    js.publish("s.a")
    assert len(js.messages()) == 1


# -- push -------------------------------------------------------------------------------------------------------------


def push(js: JsWorld, **config: object) -> None:
    js.consumer("S", "C", **{"deliver_subject": "push", **config})
    js.advance(0)


def test_push_begins_when_somebody_subscribes(js: JsWorld) -> None:
    js.fill(2)
    push(js)
    assert js.messages() == []
    js.say(b"SUB push 9\r\n")
    assert [(one.sid, one.payload) for one in js.messages()] == [("9", b"0"), ("9", b"1")]
    js.publish("s.a", b"x")
    assert payloads(js.messages()) == [b"x"]


def test_push_stops_when_the_subscriber_has_gone(js: JsWorld) -> None:
    push(js)
    other = js.connect()
    js.receive(other, b"SUB push 9\r\n")
    js.fill(1)
    assert len(js.messages(other)) == 1
    other.client.close(1)
    js.end_turn()
    js.fill(1)
    assert js.info("S", "C")["pending"] == 1
    js.say(b"SUB push 1x\r\n")
    assert len(js.messages()) == 1


def test_a_wildcard_is_no_interest(js: JsWorld) -> None:
    js.say(b"SUB pu.* 9\r\n")
    js.fill(1)
    push(js, deliver_subject="pu.sh")
    assert js.messages() == []


def test_flow_control_holds_back_until_it_is_answered(js: JsWorld) -> None:
    js.say(b"SUB push 9\r\n")
    push(js, flow_control=True, idle_heartbeat=SECOND, ack_policy="none")
    for _ in range(4):
        js.publish("s.a", b"x" * 700_000)
    got = js.messages()
    assert [one.status if one.headers else one.subject for one in got] == [
        "s.a", "s.a", "100 FlowControl Request", "s.a",
    ]  # fmt: skip
    js.advance(SECOND)
    (beat,) = js.messages()
    assert (beat.status, beat.header("Nats-Consumer-Stalled")) == ("100 Idle Heartbeat", got[2].reply)
    js.publish(got[2].reply)
    assert [one.subject for one in js.messages()][:1] == ["s.a"]


def test_heartbeats_come_while_nothing_else_does(js: JsWorld) -> None:
    js.say(b"SUB push 9\r\n")
    push(js, idle_heartbeat=SECOND)
    js.advance(SECOND)
    (beat,) = js.messages()
    assert (beat.header("Nats-Last-Consumer"), beat.header("Nats-Last-Stream")) == ("0", "0")


def test_the_rate_limit_spreads_messages(js: JsWorld) -> None:
    js.stream("R", "r.>", max_msg_size=1000)
    js.say(b"SUB push 9\r\n")
    for _ in range(4):
        js.publish("r.a", b"x" * 900)
    js.consumer("R", "C", deliver_subject="push", rate_limit_bps=8000)
    counts = []
    for _ in range(5):
        js.advance(SECOND)
        counts.append(len(js.messages()))
    assert sum(counts) == 4
    assert max(counts) <= 2


def test_unused_for_too_long_it_is_deleted(js: JsWorld) -> None:
    js.consumer("S", "C", durable=False, inactive_threshold=2 * SECOND)
    js.advance(2 * SECOND - 1)
    pull(js, batch=1, expires=MS)
    js.advance(2 * SECOND - 1)
    assert js.js.stream("S").consumer("C") is not None  # type: ignore[union-attr]
    js.advance(2 * SECOND)
    assert js.js.stream("S").consumer("C") is None  # type: ignore[union-attr]


def test_a_waiting_request_keeps_it(js: JsWorld) -> None:
    js.consumer("S", "C", durable=False, inactive_threshold=2 * SECOND)
    pull(js, batch=1, expires=60 * SECOND)
    js.advance(30 * SECOND)
    assert js.js.stream("S").consumer("C") is not None  # type: ignore[union-attr]


def test_deleted_it_leaves_no_subscription(js: JsWorld) -> None:
    before = js.account().num_subs
    js.consumer("S", "C")
    assert js.account().num_subs > before
    pull(js, batch=1, expires=SECOND)
    js.js.stream("S").consumer("C").delete()  # type: ignore[union-attr]
    js.end_turn()
    assert js.statuses() == ["409 Consumer Deleted"]
    assert js.account().num_subs == before
    js.advance(100 * SECOND)
    js.fill(1)


# -- retention --------------------------------------------------------------------------------------------------------


def test_a_work_queue_forgets_what_is_acknowledged(js: JsWorld) -> None:
    js.stream("W", "w.>", retention="workqueue")
    js.consumer("W", "C")
    js.fill(2, "w.a")
    js.pull("W", "C", b"2")
    first, second = js.messages()
    js.ack(second)
    assert js.js.stream("W").state().first_seq == 1  # type: ignore[union-attr]
    js.ack(first, b"+TERM")
    assert js.js.stream("W").state().messages == 0  # type: ignore[union-attr]


def test_interest_ends_with_the_last_who_needs_it(js: JsWorld) -> None:
    js.stream("I", "i.>", retention="interest")
    js.consumer("I", "A")
    js.consumer("I", "B", ack_policy="none")
    js.fill(1, "i.a")
    js.pull("I", "B")
    assert js.js.stream("I").state().messages == 1  # type: ignore[union-attr]
    js.messages()
    js.pull("I", "A")
    (message,) = js.messages()
    js.ack(message)
    assert js.js.stream("I").state().messages == 0  # type: ignore[union-attr]
