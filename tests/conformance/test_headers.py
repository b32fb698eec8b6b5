"""HPUB and HMSG, header stripping, and the 503 of a request that nobody hears."""

from __future__ import annotations

import pytest

HEADER = b"NATS/1.0\r\nKey: value\r\n\r\n"


class TestDelivery:
    def test_header_and_payload(self, wire):
        wire.sub("foo").hpub("foo", HEADER, b"hello")
        assert wire.flush() == [b"HMSG foo 1 24 29\r\n" + HEADER + b"hello"]

    def test_reply(self, wire):
        wire.sub("foo").hpub("foo", HEADER, b"hello", reply="inbox")
        assert wire.flush() == [b"HMSG foo 1 inbox 24 29\r\n" + HEADER + b"hello"]

    def test_no_payload(self, wire):
        wire.sub("foo").hpub("foo", HEADER)
        assert wire.flush() == [b"HMSG foo 1 24 24\r\n" + HEADER]

    def test_queue(self, wire):
        wire.sub("foo", 7, "q").hpub("foo", HEADER, b"x")
        assert wire.flush() == [b"HMSG foo 7 24 25\r\n" + HEADER + b"x"]

    def test_the_block_is_not_looked_at(self, wire):
        wire.sub("foo").hpub("foo", b"0123456789", b"x")
        assert wire.flush() == [b"HMSG foo 1 10 11\r\n0123456789x"]

    @pytest.mark.parametrize(
        "header",
        [
            b"NATS/1.0\r\n\r\n",
            b"NATS/1.0 404 Not Found\r\n\r\n",
            b"NATS/1.0\r\nk:\r\nK: \r\nk: a b \r\n\r\n",
            b"\x00\xff\r\n",
        ],
    )
    def test_passes_unchanged(self, wire, header):
        wire.sub("foo").hpub("foo", header, b"x")
        assert wire.flush() == [b"HMSG foo 1 %d %d\r\n" % (len(header), len(header) + 1) + header + b"x"]

    def test_plain_messages_stay_plain(self, wire):
        wire.sub("foo").pub("foo", "x")
        assert wire.flush() == [b"MSG foo 1 1\r\nx"]

    def test_header_size_zero_makes_a_plain_message(self, wire):
        wire.sub("foo").send("HPUB foo 0 2\r\nhi\r\n")
        assert wire.flush() == [b"MSG foo 1 2\r\nhi"]


class TestStripping:
    """A receiver without headers gets the payload only."""

    @pytest.fixture
    def old(self, server, dial):
        wire = dial(server).ready(headers=False).sub("strip.*")
        wire.flush()
        return wire

    def test_payload_only(self, old, wire):
        wire.hpub("strip.a", HEADER, b"hello")
        assert old.op() == b"MSG strip.a 1 5\r\nhello"

    def test_reply_is_kept(self, old, wire):
        wire.hpub("strip.a", HEADER, b"hello", reply="inbox")
        assert old.op() == b"MSG strip.a 1 inbox 5\r\nhello"

    def test_nothing_left(self, old, wire):
        wire.hpub("strip.a", HEADER)
        assert old.op() == b"MSG strip.a 1 0\r\n"

    def test_others_still_get_the_headers(self, old, wire):
        wire.sub("strip.*", 2).hpub("strip.a", HEADER, b"x")
        assert wire.flush() == [b"HMSG strip.a 2 24 25\r\n" + HEADER + b"x"]
        assert old.op() == b"MSG strip.a 1 1\r\nx"

    def test_a_server_without_header_support_closes(self, shared_server, dial):
        server = shared_server("no_header_support: true")
        wire = dial(server).ready(headers=True)
        wire.hpub("foo", HEADER, b"x")
        assert wire.eof() == []
        server.wait_log("message headers not supported")


class TestNoResponders:
    @pytest.fixture
    def asker(self, server, dial):
        return dial(server).ready(no_responders=True).sub("inbox.*", 9)

    @staticmethod
    def answer(subject: str, reply: str = "inbox.1", sid: int = 9) -> bytes:
        header = f"NATS/1.0 503\r\nNats-Subject: {subject}\r\n\r\n\r\n"
        size = 32 + len(subject)
        assert len(header) == size + 2
        return f"HMSG {reply} {sid} {size} {size}\r\n{header}".encode()[:-2]

    def test_503(self, asker):
        asker.pub("nobody.here", "x", reply="inbox.1")
        assert asker.flush() == [self.answer("nobody.here")]

    def test_503_for_hpub(self, asker):
        asker.hpub("nobody.here", HEADER, b"x", reply="inbox.1")
        assert asker.flush() == [self.answer("nobody.here")]

    def test_not_without_reply(self, asker):
        asker.pub("nobody.here", "x")
        assert asker.flush() == []

    def test_not_when_somebody_listens(self, asker):
        asker.sub("somebody", 2).pub("somebody", "x", reply="inbox.1")
        assert asker.flush() == [b"MSG somebody 2 inbox.1 1\r\nx"]

    def test_not_when_a_queue_listens(self, asker):
        asker.sub("somebody", 2, "q").pub("somebody", "x", reply="inbox.1")
        assert asker.flush() == [b"MSG somebody 2 inbox.1 1\r\nx"]

    def test_not_when_not_asked_for(self, server, dial):
        wire = dial(server).ready().sub("inbox.*").pub("nobody.here", reply="inbox.1")
        assert wire.flush() == []

    def test_not_without_a_subscription_for_the_reply(self, asker):
        asker.pub("nobody.here", reply="elsewhere.1")
        assert asker.flush() == []

    def test_not_to_a_queue_subscription(self, server, dial):
        wire = dial(server).ready(no_responders=True).sub("inbox.*", 9, "q").pub("nobody.here", reply="inbox.1")
        assert wire.flush() == []

    def test_not_to_another_connection(self, server, dial, asker):
        other = dial(server).ready().sub("inbox.*")
        other.flush()
        asker.pub("nobody.here", reply="inbox.1")
        assert asker.flush() == [self.answer("nobody.here")]
        assert other.flush() == []

    def test_own_subscription_without_echo_is_nobody(self, server, dial):
        wire = (
            dial(server)
            .ready(no_responders=True, echo=False)
            .sub("foo", 1)
            .sub("inbox.*", 9)
            .pub("foo", reply="inbox.1")
        )
        assert wire.flush() == [self.answer("foo")]

    def test_the_first_matching_subscription_gets_it(self, asker):
        asker.sub("inbox.>", 10)
        asker.pub("nobody.here", reply="inbox.1")
        got = asker.flush()
        assert got in ([self.answer("nobody.here")], [self.answer("nobody.here", sid=10)])

    def test_counts_for_auto_unsubscribe(self, asker):
        asker.lines("UNSUB 9 1").pub("a", reply="inbox.1").pub("b", reply="inbox.2")
        assert len(asker.flush()) in (1, 2)
