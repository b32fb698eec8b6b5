"""What a restored stream learns from its messages, in steps."""

from __future__ import annotations

from tests.jetstream.jsworld import SECOND, JsWorld


def test_learning_in_steps_is_learning_at_once() -> None:
    js = JsWorld()
    stream = js.stream("S", "s", duplicate_window=60 * SECOND)
    for number in range(10):
        js.publish("s", b"x", b"NATS/1.0\r\nNats-Msg-Id: %d\r\n\r\n" % number, "_INBOX.1")
    assert stream.message_ids == 10
    now = js.service.clock.wall_ns()
    seq, steps = stream.begin_learning(now), 0
    assert seq == 1
    while seq:
        seq = stream.learn(seq, now, 3)
        steps += 1
    assert (steps, stream.message_ids) == (4, 10)
