"""The client protocol, operation by operation; each input whole, byte by byte and in threes."""

from __future__ import annotations

import pytest

from natsc.testing.world import World

UNKNOWN = b"-ERR 'Unknown Protocol Operation'\r\n"
TOO_LONG = b"-ERR 'maximum control line exceeded'\r\n"


def reaction(data: bytes, step: int | None, **options: int) -> tuple[bytes, str]:
    """What a client is answered, and why it was closed ("" = it wasn't)."""
    peer = World(**options).connect()
    return peer.say(data, step), peer.reason


def delivered(data: bytes, step: int | None, **options: int) -> bytes:
    """What a subscriber to everything gets from another client's input."""
    world = World(**options)
    receiver, sender = world.connect(), world.connect()
    receiver.say(b"SUB > s\r\n")
    sender.say(data, step)
    assert not sender.closed, sender.reason
    return receiver.take()


class TestPing:
    @pytest.mark.parametrize("text", [b"PING\r\n", b"PING\n", b"ping\r\n", b"PiNg \t\r\n", b"PINGanything\r\n"])
    def test_pong(self, text, step):
        assert reaction(text, step) == (b"PONG\r\n", "")

    @pytest.mark.parametrize("text", [b"PONG\r\n", b"pong x\r\n", b"+OK\r\n", b"+ok yes\n", b"PONG\n"])
    def test_nothing_is_answered(self, text, step):
        assert reaction(text, step) == (b"", "")

    def test_one_answer_each(self, step):
        assert reaction(b"PING\r\n" * 7, step) == (b"PONG\r\n" * 7, "")

    def test_nothing_before_the_line_ends(self, step):
        assert reaction(b"PING\r", step) == (b"", "")


class TestUnknown:
    # A prefix of a verb and the first byte that doesn't fit.
    @pytest.mark.parametrize(
        "text",
        [b"X", b"\r\n", b" PING\r\n", b"PX", b"PUX", b"PUBX", b"PUB\r\n", b"PIX", b"PINX", b"POX", b"PONX", b"HX",
        b"HPX", b"HPUX",
         b"HPUBX", b"HMX", b"HMSX", b"HMSGX", b"SX", b"SUX", b"SUBX", b"SUB\r", b"UX", b"UNX", b"UNSX", b"UNSUX",
         b"UNSUBX", b"CX",
         b"COX", b"CONX", b"CONNX", b"CONNEX", b"CONNECX", b"IX", b"INX", b"INFX", b"+X", b"+OX", b"-X", b"-EX",
         b"-ERX", b"-ERRX",
         b"MSG a 1 0\r\n", b"A+ x\r\n", b"RS+ x\r\n", b"LS+ x\r\n", b"\x00", b"\xff", b"GET / HTTP/1.1\r\n"],
    )  # fmt: skip
    def test_closes(self, text, step):
        assert reaction(text, step) == (UNKNOWN, "Protocol Violation")

    def test_what_came_before_is_answered(self, step):
        assert reaction(b"PING\r\nNOPE\r\nPING\r\n", step) == (b"PONG\r\n" + UNKNOWN, "Protocol Violation")

    def test_hmsg_is_an_empty_message_to_nobody(self, step):
        """No client may send it; the reference doesn't look at its arguments and reads a payload of no bytes."""
        assert reaction(b"HMSG a 1 2 2\r\n", step) == (b"", "")
        assert reaction(b"HMSG a 1 2 2\r\nPING\r\n", step) == (UNKNOWN, "Protocol Violation")
        assert reaction(b"HMSG x\r\n\rx", step) == (UNKNOWN, "Protocol Violation")
        assert reaction(b"HMSG a 1 2 2\r\n\r\nPING\r\n", step) == (b"PONG\r\n", "")
        assert reaction(b"HMSG x\r\n\r\nPING\r\n", step, verbose=True) == (b"+OK\r\nPONG\r\n", "")
        assert delivered(b"HMSG x\r\n\r\n", step) == b""

    @pytest.mark.parametrize(
        "text", [b"P", b"PU", b"PUB", b"H", b"HP", b"HM", b"S", b"U", b"C", b"CONNECT", b"I", b"+", b"-"]
    )
    def test_waits_for_the_rest_of_a_verb(self, text, step):
        assert reaction(text, step) == (b"", "")

    @pytest.mark.parametrize(
        ("text", "state"),
        [(b"X", 0), (b"PX", 29), (b"PUX", 30), (b"PUBX", 31), (b"PIX", 34), (b"PINX", 35), (b"POX", 37), (b"PONX",
        38), (b"HX", 18),
         (b"HPX", 19), (b"HPUX", 20), (b"HPUBX", 21), (b"HMX", 24), (b"HMSX", 25), (b"HMSGX", 26), (b"SX", 43),
         (b"SUX", 44),
         (b"SUBX", 45), (b"UX", 59), (b"UNSUBX", 63), (b"CX", 10), (b"CONNECX", 15), (b"IX", 71), (b"INFX", 73),
         (b"+X", 1),
         (b"+OX", 2), (b"-X", 4), (b"-ERX", 6), (b"-ERRX", 7)],
    )  # fmt: skip
    def test_the_log_names_the_parser_state(self, text, state):
        world = World()
        world.connect().say(text)
        assert world.log[-1][1:] == ("parse", repr(b""), str(state), str(len(text) - 1))

    def test_the_log_quotes_32_bytes_at_most(self):
        world = World()
        world.connect().say(b"Z" * 100)
        assert world.log[-1][2] == repr(b"Z" * 32)


class TestPub:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"PUB foo 5\r\nhello\r\n", b"MSG foo s 5\r\nhello\r\n"),
            (b"PUB foo 0\r\n\r\n", b"MSG foo s 0\r\n\r\n"),
            (b"pub foo 5\r\nhello\r\n", b"MSG foo s 5\r\nhello\r\n"),
            (b"PUB foo reply 2\r\nhi\r\n", b"MSG foo s reply 2\r\nhi\r\n"),
            (b"PUB\tfoo\t reply \t2\t\r\nhi\r\n", b"MSG foo s reply 2\r\nhi\r\n"),
            (b"PUB   foo   2   \r\nhi\r\n", b"MSG foo s 2\r\nhi\r\n"),
            (b"PUB foo 2\nhi\r\n", b"MSG foo s 2\r\nhi\r\n"),
            (b"PUB foo 007\r\n1234567\r\n", b"MSG foo s 007\r\n1234567\r\n"),
            (b"PUB foo 12 2\r\nhi\r\n", b"MSG foo s 12 2\r\nhi\r\n"),
            (b"PUB foo 1a 2\r\nhi\r\n", b"MSG foo s 1a 2\r\nhi\r\n"),
            (b"PUB foo 2\r\n\r\n\r\n", b"MSG foo s 2\r\n\r\n\r\n"),
            (b"PUB \xc3\xa9.x 1\r\nx\r\n", b"MSG \xc3\xa9.x s 1\r\nx\r\n"),
            (b"PUB foo 6\r\nPING\r\n\r\n", b"MSG foo s 6\r\nPING\r\n\r\n"),
            (b"PUB 1 1\r\nx\r\n", b"MSG 1 s 1\r\nx\r\n"),
        ],
    )
    def test_is_delivered(self, text, message, step):
        assert delivered(text, step) == message
        assert delivered(text * 3, step) == message * 3

    @pytest.mark.parametrize(
        "text",
        [b"PUB foo\r\n", b"PUB \r\n", b"PUB foo a b 1\r\n", b"PUB foo x\r\n", b"PUB foo -1\r\n", b"PUB foo +1\r\n",
        b"PUB foo 1.5\r\n",
         b"PUB foo 1234567890\r\n", b"PUB foo 0x1\r\n", b"PUB foo 1\rx\n", b"PUB foo bar baz\r\n"],
    )  # fmt: skip
    def test_bad_arguments_close_without_a_word(self, text, step):
        assert reaction(text, step) == (b"", "Protocol Violation")

    @pytest.mark.parametrize(
        "text", [b"PUB foo 2\r\nhixx", b"PUB foo 2\r\nhi\rx", b"PUB foo 2\r\nhi\n", b"PUB foo 0\r\nx"]
    )
    def test_payload_without_its_line_end(self, text, step):
        assert reaction(text, step) == (UNKNOWN, "Protocol Violation")

    def test_max_payload(self, step):
        assert delivered(b"PUB foo 10\r\n0123456789\r\n", step, max_payload=10) == b"MSG foo s 10\r\n0123456789\r\n"
        assert reaction(b"PUB foo 11\r\n", step, max_payload=10) == (
            b"-ERR 'Maximum Payload Violation'\r\n",
            "Maximum Message Payload Exceeded",
        )

    def test_nothing_is_delivered_before_the_line_end(self, step):
        assert delivered(b"PUB foo 5\r\nhello\r", step) == b""

    def test_payload_across_many_reads(self):
        payload = bytes(range(256)) * 300
        text = b"PUB foo %d\r\n%s\r\n" % (len(payload), payload)
        for size in (1, 7, 4096, 65536):
            assert delivered(text, size) == b"MSG foo s " + text[8:]


class TestHpub:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (b"HPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", b"HMSG foo s 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
            (b"HPUB foo re 12 12\r\nNATS/1.0\r\n\r\n\r\n", b"HMSG foo s re 12 12\r\nNATS/1.0\r\n\r\n\r\n"),
            (b"hpub\tfoo  2 \t2 \r\nxx\r\n", b"HMSG foo s 2 2\r\nxx\r\n"),
            (b"HPUB foo 0 2\r\nhi\r\n", b"MSG foo s 2\r\nhi\r\n"),
            (b"HPUB foo 12 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", b"HMSG foo s 12 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ],
    )  # fmt: skip
    def test_is_delivered(self, text, message, step):
        world = World(headers=True)
        receiver, sender = world.connect(), world.connect()
        receiver.say(b"SUB > s\r\n")
        sender.say(text * 2, step)
        assert receiver.take() == message * 2

    @pytest.mark.parametrize(
        "text",
        [
            b"HPUB foo 2\r\n",
            b"HPUB foo 3 2\r\n",
            b"HPUB foo x 2\r\n",
            b"HPUB foo 2 x\r\n",
            b"HPUB foo -1 2\r\n",
            b"HPUB a b c 2 2\r\n",
            b"HPUB \r\n",
        ],
    )
    def test_bad_arguments_close_without_a_word(self, text, step):
        peer = World(headers=True).connect()
        assert (peer.say(text, step), peer.reason) == (b"", "Protocol Violation")

    def test_without_headers(self, step):
        assert reaction(b"HPUB foo 12 12\r\n", step) == (b"", "Protocol Violation")

    def test_max_payload_counts_the_headers(self, step):
        peer = World(headers=True, max_payload=13).connect()
        assert peer.say(b"HPUB foo 12 14\r\n", step).startswith(b"-ERR 'Maximum Payload")


class TestSub:
    @pytest.mark.parametrize(
        "text", [b"SUB foo 1\r\n", b"sub  foo \t 1 \r\n", b"SUB foo q 1\r\n", b"SUB foo 1\n", b"SUB \nfoo 1\r\n"]
    )
    def test_is_there(self, text, step):
        peer = World().connect()
        assert peer.say(text, step) == b""
        assert [(s[0], s[2]) for s in peer.client.subscriptions()] == [(b"foo", b"1")]

    @pytest.mark.parametrize("subject", [b"a..b", b".a", b"a.", b".", b">.a", b"a.>.b"])
    def test_invalid_subject(self, subject, step):
        assert reaction(b"SUB %s 1\r\nPING\r\n" % subject, step) == (b"-ERR 'Invalid Subject'\r\nPONG\r\n", "")

    @pytest.mark.parametrize("subject", [b"a*", b"*a.b", b"a>", b">>", b"**", b"a.*.>", b"*.*", b">"])
    def test_valid_subject(self, subject, step):
        assert reaction(b"SUB %s 1\r\nPING\r\n" % subject, step) == (b"PONG\r\n", "")

    @pytest.mark.parametrize("text", [b"SUB foo\r\n", b"SUB \r\n", b"SUB a b c d\r\n"])
    def test_bad_arguments_close_without_a_word(self, text, step):
        assert reaction(text, step) == (b"", "Protocol Violation")

    def test_a_sid_that_is_taken_changes_nothing(self, step):
        peer = World().connect()
        peer.say(b"SUB foo 1\r\nSUB bar 1\r\n", step)
        assert [s[0] for s in peer.client.subscriptions()] == [b"foo"]

    def test_max_subscriptions(self, step):
        assert reaction(b"SUB a 1\r\nSUB b 2\r\nSUB c 3\r\nPING\r\n", step, max_subs=2) == (
            b"-ERR 'maximum subscriptions exceeded'\r\nPONG\r\n", "",
        )  # fmt: skip

    def test_max_tokens(self, step):
        assert reaction(b"SUB a.b 1\r\nSUB a.b.c 2\r\nPING\r\n", step, max_sub_tokens=2)[0] == (
            b"-ERR 'Permissions Violation for Subscription to \"a.b.c\", too many tokens'\r\nPONG\r\n"
        )

    def test_system_queue_is_refused(self, step):
        assert b"Permissions Violation" in reaction(b"SUB foo _sys_ 1\r\n", step)[0]


class TestUnsub:
    def test_removes(self, step):
        peer = World().connect()
        peer.say(b"SUB foo 1\r\nSUB bar 2\r\nUNSUB 1\r\nunsub \t 2 \r\n", step)
        assert peer.client.subscriptions() == []

    def test_of_nothing_says_nothing(self, step):
        assert reaction(b"UNSUB 7\r\nUNSUB 7 1\r\nPING\r\n", step) == (b"PONG\r\n", "")

    @pytest.mark.parametrize("text", [b"UNSUB \r\n", b"UNSUB 1 2 3\r\n"])
    def test_bad_arguments_close_without_a_word(self, text, step):
        assert reaction(text, step) == (b"", "Protocol Violation")

    @pytest.mark.parametrize("maximum", [b"x", b"-1", b"0", b"1234567890"])
    def test_a_maximum_that_is_none_removes_at_once(self, maximum, step):
        peer = World().connect()
        peer.say(b"SUB foo 1\r\nUNSUB 1 %s\r\n" % maximum, step)
        assert peer.client.num_subs == 0


class TestVerbose:
    @pytest.mark.parametrize(
        ("text", "answers"),
        [
            (b"SUB foo 1\r\n", 1),
            (b"UNSUB 1\r\n", 1),
            (b"PUB foo 1\r\nx\r\n", 1),
            (b"PUB foo 1\r\nx\r\n" * 3, 3),
            (b"PONG\r\n", 0),
            (b"INFO {}\r\n", 0),
        ],
    )
    def test_ok(self, text, answers, step):
        assert reaction(text, step, verbose=True)[0] == b"+OK\r\n" * answers

    def test_connect(self, step):
        assert reaction(b"CONNECT {}\r\nPING\r\n", step) == (b"+OK\r\nPONG\r\n", "")
        assert reaction(b'CONNECT {"verbose":false}\r\nPING\r\n', step) == (b"PONG\r\n", "")


class TestPedantic:
    @pytest.mark.parametrize("subject", [b"a..b", b"foo.*", b">", b".a", b"a."])
    def test_says_so_and_goes_on(self, subject, step):
        assert reaction(b"PUB %s 1\r\nx\r\nPING\r\n" % subject, step, pedantic=True) == (
            b"-ERR 'Invalid Publish Subject'\r\nPONG\r\n",
            "",
        )

    @pytest.mark.parametrize("subject", [b"a.b", b"a*", b"**", b">>.a"])
    def test_has_nothing_to_say(self, subject, step):
        assert reaction(b"PUB %s 1\r\nx\r\nPING\r\n" % subject, step, pedantic=True) == (b"PONG\r\n", "")


class TestConnect:
    @pytest.mark.parametrize(
        "text", [b'CONNECT {"verbose":false}\r\n', b'CONNECT{"verbose":false}\r\n', b'connect \t {"verbose":false} \n']
    )
    def test_is_accepted(self, text, step):
        peer = World().connect()
        assert peer.say(text, step) == b""
        assert peer.client.connected

    @pytest.mark.parametrize(
        "text",
        [b"CONNECT \r\n", b"CONNECT {\r\n", b"CONNECT []\r\n", b'CONNECT {"verbose":1}\r\n', b"CONNECT {}{}\r\n"],
    )
    def test_bad_json_closes(self, text, step):
        assert reaction(text, step) == (b"", "Protocol Violation")

    @pytest.mark.parametrize(
        ("text", "reason"), [(b"INFO {}\r\n", ""), (b"INFO{} \r\n", ""), (b"INFO x\r\n", "Protocol Violation")]
    )
    def test_info(self, text, reason, step):
        assert reaction(text, step) == (b"", reason)

    @pytest.mark.parametrize("text", [b"-ERR 'x'\r\n", b"-err x\n", b"-ERR\t\r\n"])
    def test_err_closes(self, text, step):
        assert reaction(text, step) == (b"", "Parse Error")


class TestControlLine:
    def test_as_long_as_allowed(self, step):
        # The arguments count, without verb and line end.
        assert reaction(b"SUB %s 1\r\n" % (b"x" * 98), step, max_control_line=100) == (b"", "")
        assert reaction(b"SUB %s 1\r\n" % (b"x" * 99), step, max_control_line=100) == (
            TOO_LONG,
            "Maximum Control Line Exceeded",
        )

    @pytest.mark.parametrize("verb", [b"PUB ", b"HPUB ", b"SUB ", b"UNSUB ", b"CONNECT ", b"INFO ", b"-ERR ", b"HMSG "])
    def test_closes_before_the_line_ends(self, verb, step):
        assert reaction(verb + b"x" * 200, step, max_control_line=100) == (TOO_LONG, "Maximum Control Line Exceeded")

    def test_publish(self, step):
        subject = b"x" * 98
        assert delivered(b"PUB %s 1\r\nx\r\n" % subject, step, max_control_line=100) == b"MSG %s s 1\r\nx\r\n" % subject
        assert reaction(b"PUB %sx 1\r\nx\r\n" % subject, step, max_control_line=100)[0] == TOO_LONG

    def test_a_carriage_return_inside(self, step):
        assert reaction(b"SUB a\r%s 1\r\n" % (b"x" * 96), step, max_control_line=100)[0] == b""
        assert reaction(b"SUB a\r%s 1\n" % (b"x" * 98), step, max_control_line=100)[0] == TOO_LONG

    def test_blanks_in_front_do_not_count(self, step):
        assert reaction(b"SUB " + b" " * 500 + b"foo 1\r\nPING\r\n", step, max_control_line=100) == (b"PONG\r\n", "")


class TestHeldInput:
    """What a client sends without ever ending an operation must not pile up."""

    @pytest.mark.parametrize(
        "verb",
        [b"PING", b"PONG", b"+OK", b"SUB ", b"PUB\t", b"UNSUB ", b"CONNECT", b"INFO", b"-ERR ", b"HPUB ", b"HMSG "],
    )
    def test_is_bounded(self, verb):
        peer = World().connect()
        peer.say(verb)
        for _ in range(20):
            peer.say(b" " * 10000)
        assert not peer.closed
        assert peer.client.held_bytes <= 4096

    def test_skipped_bytes_change_nothing(self, step):
        peer = World().connect()
        peer.say(b"SUB" + b" \t" * 5000, step)
        peer.say(b" foo" + b" " * 3000, step)
        peer.say(b" 1\r\nPING" + b"x" * 9000 + b"\r\nPI", step)
        assert peer.say(b"NG\r\n", step) == b"PONG\r\n"
        assert [s[0] for s in peer.client.subscriptions()] == [b"foo"]

    def test_a_big_payload_is_given_back(self):
        peer = World().connect()
        peer.say(b"PUB foo 1000000\r\n" + b"x" * 999999)
        assert peer.client.held_bytes >= 1000000
        peer.say(b"x\r\n")
        assert peer.client.held_bytes <= 4096
