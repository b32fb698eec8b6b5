"""What is pending for a consumer when messages go, limits bite and filters change."""

from __future__ import annotations

import json

import pytest

from natsc.jetstream.backend import finish
from tests.jetstream.jsworld import SECOND, JsWorld


@pytest.fixture
def js() -> JsWorld:
    world = JsWorld()
    world.stream("S", "s.>")
    return world


def purge(js: JsWorld, filter: str, seq: int = 0, keep: int = 0) -> int:
    stream = js.js.stream("S")
    assert stream is not None
    purged = finish(stream.purge(filter, seq, keep))
    js.end_turn()
    return purged


def test_what_comes_before_the_start_is_not_pending(js: JsWorld) -> None:
    js.consumer("S", "C", deliver_policy="by_start_sequence", opt_start_seq=9)
    js.fill(3)
    assert js.info("S", "C")["pending"] == 0


def test_a_purge_counts_exactly_where_it_takes_a_part(js: JsWorld) -> None:
    js.consumer("S", "C", filter_subject="s.*.x")
    for subject in ("s.a.x", "s.a.y", "s.b.x"):
        js.publish(subject)
    purge(js, "s.a.>")
    assert js.info("S", "C")["pending"] == 1


def test_a_purge_of_all_that_a_consumer_wants_moves_it_on(js: JsWorld) -> None:
    js.consumer("S", "C", filter_subject="s.a")
    js.fill(2)
    js.publish("s.b")
    js.pull("S", "C", b"1")
    purge(js, "s.a")
    assert js.info("S", "C") == {
        "delivered": (1, 3), "floor": (1, 3), "ack_pending": 0, "redelivered": 0, "waiting": 0, "pending": 0,
    }  # fmt: skip


def test_a_nak_is_not_forgotten_by_a_purge(js: JsWorld) -> None:
    js.consumer("S", "C")
    js.publish("s.a", b"a")
    js.publish("s.b")
    js.pull("S", "C", b"1")
    (message,) = js.messages()
    js.ack(message, b"-NAK")
    purge(js, "s.b")
    js.pull("S", "C", b"1")
    assert [one.ack[:2] for one in js.messages()] == [(2, 1)]


def test_a_purge_leaves_what_was_given_up(js: JsWorld) -> None:
    js.consumer("S", "C", max_deliver=2)
    js.publish("s.a")
    for _ in range(2):
        js.pull("S", "C", b"1")
        js.ack(js.messages()[-1], b"-NAK")
    js.pull("S", "C", b"1")
    purge(js, "s.b")
    assert (js.info("S", "C")["ack_pending"], js.info("S", "C")["redelivered"]) == (0, 1)


def test_a_purge_of_one_filter_leaves_what_is_in_the_other(js: JsWorld) -> None:
    js.consumer("S", "C", filter_subjects=["s.a", "s.b"])
    js.publish("s.b", b"b")
    js.publish("s.a", b"a")
    purge(js, "s.a")
    js.pull("S", "C", b"1")
    assert [one.payload for one in js.messages()] == [b"b"]


def test_a_purge_elsewhere_leaves_a_consumer_where_it_is(js: JsWorld) -> None:
    js.consumer("S", "C", filter_subject="s.a")
    js.publish("s.b")
    js.fill(1)
    js.pull("S", "C", b"1")
    before = js.info("S", "C")
    purge(js, "s.b")
    assert js.info("S", "C") == before


def test_a_purge_of_one_message_acknowledges_no_other(js: JsWorld) -> None:
    js.consumer("S", "C", ack_policy="all")
    js.fill(2)
    js.publish("s.b")
    js.pull("S", "C", b"3")
    purge(js, "s.b")
    assert js.info("S", "C")["ack_pending"] == 2


def test_what_a_purge_takes_is_not_pending_any_more(js: JsWorld) -> None:
    js.publish("s.b")
    js.fill(3)
    js.consumer("S", "C", deliver_policy="by_start_sequence", opt_start_seq=3)
    js.pull("S", "C", b"2")
    purge(js, "s.a")
    assert js.info("S", "C")["ack_pending"] == 0


def test_what_is_counted_anew_is_messages_not_subjects(js: JsWorld) -> None:
    js.consumer("S", "C", deliver_policy="last_per_subject", filter_subject="s.>")
    js.fill(3)
    js.publish("s.b")
    purge(js, "s.b")
    assert js.info("S", "C")["pending"] == 3


def test_the_floor_does_not_pass_what_is_pending(js: JsWorld) -> None:
    js.consumer("S", "C")
    js.publish("s.a")
    js.publish("s.b")
    js.pull("S", "C", b"2")
    purge(js, "s.b")
    assert js.info("S", "C")["floor"] == (0, 0)


def test_a_purge_lets_a_consumer_go_on_that_had_too_much_pending(js: JsWorld) -> None:
    js.consumer("S", "C", max_ack_pending=1)
    js.publish("s.a")
    js.publish("s.b", b"b")
    js.pull("S", "C", json.dumps({"batch": 2, "expires": 5 * SECOND}).encode())
    js.messages()
    purge(js, "s.a")
    assert [one.payload for one in js.messages()] == [b"b"]


def test_a_consumer_without_its_filter_hears_of_everything(js: JsWorld) -> None:
    js.consumer("S", "C", filter_subject="s.a")
    js.consumer("S", "C")
    js.publish("s.b")
    assert js.info("S", "C")["pending"] == 1


def test_last_messages_that_go_are_not_pending(js: JsWorld) -> None:
    for subject in ("s.a", "s.b", "s.c"):
        js.publish(subject)
    js.consumer("S", "C", deliver_policy="last_per_subject", filter_subject="s.*")
    stream = js.js.stream("S")
    assert stream is not None
    stream.remove_message(2)
    assert js.info("S", "C")["pending"] == 2
    purge(js, "", keep=1)
    assert js.info("S", "C")["pending"] == 1


def test_last_messages_outside_a_new_filter_are_not_delivered(js: JsWorld) -> None:
    for subject in ("s.a", "s.b"):
        js.publish(subject, subject.encode())
    js.consumer("S", "C", deliver_policy="last_per_subject", filter_subject="s.*")
    js.consumer("S", "C", deliver_policy="last_per_subject", filter_subject="s.b")
    js.pull("S", "C", b"2")
    assert [one.payload for one in js.messages()] == [b"s.b"]


def test_many_consumers_each_count_their_own(js: JsWorld) -> None:
    for number in range(20):
        js.consumer("S", f"C{number}", filter_subject=f"s.{number}.*")
    for number in range(0, 20, 2):
        js.publish(f"s.{number}.x")
        js.publish(f"s.{number}.y")
    stream = js.js.stream("S")
    assert stream is not None
    stream.remove_message(1)
    js.end_turn()
    assert [js.info("S", f"C{number}")["pending"] for number in range(6)] == [1, 0, 2, 0, 2, 0]


def test_a_rare_match_is_found_in_steps(js: JsWorld) -> None:
    js.say(b"PUB s.a 0\r\n\r\n" * 40_000)
    js.publish("s.b.x", b"found")
    js.consumer("S", "C", filter_subjects=["s.b.*", "s.c.*"])
    js.pull("S", "C", b"1")
    for _ in range(5):
        js.advance(1_000_000)
    assert [one.payload for one in js.messages()] == [b"found"]


def test_nobody_left_that_is_interested() -> None:
    js = JsWorld()
    stream = js.stream("I", "i", retention="interest")
    consumer = js.consumer("I", "C")
    js.publish("i")
    consumer.delete()
    js.end_turn()
    assert stream.store.state_dict()["msgs"] == 0
    assert stream.store.state_dict()["first_seq"] == 2


def test_what_is_needed_no_more_goes_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    js = JsWorld()
    stream = js.stream("I", "i.>", retention="interest")
    js.consumer("I", "ALL")
    js.consumer("I", "B", filter_subject="i.b")
    js.say(b"PUB i.a 0\r\n\r\n" * 10_000)
    js.publish("i.b")
    later: list[None] = []
    monkeypatch.setattr(stream, "sweep_later", lambda: later.append(None))
    stream.consumer("ALL").delete()
    assert stream.store.state_dict()["msgs"] > 1
    while later:
        later.pop()
        stream.sweep()
        js.end_turn()
    assert stream.store.state_dict()["msgs"] == 1
