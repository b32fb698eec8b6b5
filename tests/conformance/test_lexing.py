"""How bytes become operations: verbs, separators, line ends, payload ends, split reads."""

from __future__ import annotations

import pytest

UNKNOWN = b"-ERR 'Unknown Protocol Operation'"


class TestVerbs:
    @pytest.mark.parametrize("ping", ["ping", "Ping", "pInG", "PING"])
    def test_case_is_ignored(self, wire, ping):
        wire.lines(ping)
        assert wire.op() == b"PONG"

    def test_lower_case_pub_sub(self, wire):
        wire.send("sub foo 1\r\npub foo 2\r\nhi\r\n")
        assert wire.flush() == [b"MSG foo 1 2\r\nhi"]

    def test_mixed_case_unsub_and_hpub(self, wire):
        wire.send("SuB foo 1\r\nsub bar 2\r\nUnSub 2\r\nhPub foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n")
        assert wire.flush() == [b"HMSG foo 1 12 14\r\nNATS/1.0\r\n\r\nhi"]

    def test_mixed_case_connect(self, server, dial):
        wire = dial(server).lines('CoNnEcT {"verbose":true}')
        assert wire.op() == b"+OK"

    def test_pong_is_accepted(self, wire):
        wire.lines("PONG", "pong", "PONG trailing")
        assert wire.flush() == []

    @pytest.mark.parametrize("line", ["+OK", "+ok", "INFO {}", "info {}", "INFO\t{}", "INFO{}"])
    def test_ignored(self, wire, line):
        wire.lines(line)
        assert wire.flush() == []

    def test_err_closes_as_parse_error(self, server, wire):
        wire.lines("-ERR 'x'")
        assert wire.eof() == []
        assert server.closed(wire.cid)["reason"] == "Parse Error"

    @pytest.mark.parametrize(
        "line",
        [
            "X", "FOO", "PUBX foo 0", "PUZ", "PIX", "POX", "SUX", "UNSUX 1", "CONNEXT {}", "INX", "+X", "-X",
            "MSG foo 1 0", "RS+ a",
            "RMSG a", "LS+ a", "LMSG a", "A+ a", "HUB", "HPUX", "\x00", "\xff", "GET / HTTP/1.1", "  PUB foo 0",
            "\tPING",
        ],
    )  # fmt: skip
    def test_unknown_operation_closes(self, server, wire, line):
        wire.lines(line)
        assert wire.eof() == [UNKNOWN]
        assert server.closed(wire.cid)["reason"] == "Protocol Violation"

    def test_hmsg_needs_a_known_state(self, wire):
        wire.lines("HMSG foo 1 12 12")
        assert wire.eof() == [UNKNOWN]

    def test_unknown_operation_before_connect_closes(self, server, dial):
        wire = dial(server).lines("NOPE")
        assert wire.eof() == [UNKNOWN]

    def test_the_log_quotes_the_place(self, start, dial):
        server = start()
        dial(server).ready().lines("XYZ")
        line = server.wait_log(r"Client parser ERROR.*$")[0]
        assert line == r"""Client parser ERROR, state=0, i=0: proto='"XYZ\r"...'"""

    def test_the_log_quotes_32_bytes(self, start, dial):
        server = start()
        dial(server).ready().lines("PUB foo 2", "hixy" + "z" * 50)
        line = server.wait_log(r"Client parser ERROR.*$")[0]
        assert line.endswith("""proto='"xyzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"...'"""), line

    def test_what_came_before_the_error_is_delivered(self, server, dial, wire):
        other = dial(server).ready().sub("lex.before")
        other.flush()
        wire.pub("lex.before", "hi").lines("NOPE")
        assert other.op() == b"MSG lex.before 1 2\r\nhi"
        assert wire.eof() == [UNKNOWN]


class TestBlanks:
    @pytest.mark.parametrize("line", ["SUB foo 1", "SUB\tfoo\t1", "SUB  \t foo  1  ", "SUB foo 1\t", "SUB   foo\t\t1"])
    def test_runs_of_space_and_tab_separate(self, wire, line):
        wire.lines(line).pub("foo")
        assert wire.flush() == [b"MSG foo 1 0\r\n"]

    @pytest.mark.parametrize("line", ["PUB foo 2", "PUB\tfoo 2", "PUB   foo\t 2 \t", "PUB foo 2 "])
    def test_pub(self, wire, line):
        wire.lines("SUB foo 1", line, "hi")
        assert wire.flush() == [b"MSG foo 1 2\r\nhi"]

    @pytest.mark.parametrize("line", ["UNSUB 1", "UNSUB\t1", "UNSUB  1  ", "UNSUB 1\t"])
    def test_unsub(self, wire, line):
        wire.lines("SUB foo 1", line).pub("foo")
        assert wire.flush() == []

    def test_ping_with_trailing_text(self, wire):
        wire.lines("PING  ", "PING and more")
        assert wire.ops(2) == [b"PONG", b"PONG"]

    def test_connect_needs_no_blank(self, server, dial):
        wire = dial(server).lines('CONNECT{"verbose":true}')
        assert wire.op() == b"+OK"

    @pytest.mark.parametrize("line", ["SUBfoo 1", "PUBfoo 1", "HPUBfoo 1 1", "UNSUB1"])
    def test_other_verbs_need_one(self, wire, line):
        wire.lines(line)
        assert wire.eof() == [UNKNOWN]

    def test_connect_after_several_blanks(self, server, dial):
        wire = dial(server).lines('CONNECT \t {"verbose":true} ')
        assert wire.op() == b"+OK"


class TestLineEnds:
    def test_bare_lf_ends_a_control_line(self, wire):
        wire.send("SUB foo 1\nPUB foo 2\nhi\r\nPING\n")
        assert wire.until_pong() == [b"MSG foo 1 2\r\nhi"]

    def test_empty_lines_are_unknown(self, wire):
        wire.send("\r\n")
        assert wire.eof() == [UNKNOWN]

    def test_more_cr_count_as_blanks(self, wire):
        wire.send("SUB foo 1\r\r\n")
        wire.pub("foo")
        assert wire.op() == b"MSG foo 1 0\r\n"

    def test_payload_needs_cr_lf(self, wire):
        wire.send("PUB foo 2\r\nhi\nPING\r\n")
        assert wire.eof() == [UNKNOWN]

    def test_payload_may_hold_line_ends(self, wire):
        wire.sub("foo").pub("foo", "\r\n\r\nPING\r\n")
        assert wire.flush() == [b"MSG foo 1 10\r\n\r\n\r\nPING\r\n"]

    def test_payload_longer_than_said(self, wire):
        wire.send("PUB foo 2\r\nhello\r\n")
        assert wire.eof() == [UNKNOWN]

    def test_payload_shorter_than_said(self, wire):
        wire.send("PUB foo 6\r\nhello\r\nPING\r\n")
        assert wire.eof() == [UNKNOWN]

    def test_empty_payload(self, wire):
        wire.sub("foo").send("PUB foo 0\r\n\r\n")
        assert wire.flush() == [b"MSG foo 1 0\r\n"]

    def test_empty_payload_without_its_line_end(self, wire):
        wire.send("PUB foo 0\r\nPING\r\n")
        assert wire.eof() == [UNKNOWN]


class TestArguments:
    """Wrong numbers of arguments and bad numbers close without a word."""

    @pytest.mark.parametrize(
        "line",
        [
            "PUB foo", "PUB foo x", "PUB foo -1", "PUB foo 1.5", "PUB foo 99999999999999999999", "PUB a b c d 5",
            "PUB 2", "PUB a b c 2",
            "SUB foo", "SUB a b c d", "SUB a b c d 5", "UNSUB 1 2 3", "INFO", "INFO ", "INFO {x", "CONNECT",
            "CONNECT ", "HPUB foo 12", "HPUB foo x 14",
            "HPUB foo 12 x", "HPUB foo 14 12", "HPUB a b c 12 14", "HPUB foo -1 14", "CONNECT {bad", "CONNECT x",
            'CONNECT {"verbose":1}',
        ],
    )  # fmt: skip
    def test_closes_without_a_word(self, server, wire, line):
        wire.lines(line)
        assert wire.eof() == []
        assert server.closed(wire.cid)["reason"] == "Protocol Violation"

    @pytest.mark.parametrize("line", ["PUB", "HPUB", "SUB", "UNSUB"])
    def test_a_verb_without_arguments_is_unknown(self, wire, line):
        wire.lines(line)
        assert wire.eof() == [UNKNOWN]

    def test_unsub_max_not_a_number(self, wire):
        wire.sub("foo").lines("UNSUB 1 x").pub("foo")
        assert wire.flush() == []

    def test_unsub_negative_max(self, wire):
        wire.sub("foo").lines("UNSUB 1 -1").pub("foo")
        assert wire.flush() == []

    def test_pub_size_with_leading_zeros(self, wire):
        wire.sub("foo").send("PUB foo 00002\r\nhi\r\n")
        assert wire.flush() == [b"MSG foo 1 00002\r\nhi"]


class TestSplitReads:
    STREAM = (
        b"PING\r\nSUB foo.* q 12\r\nPUB foo.bar inbox.1 11\r\nhello\r\nworl\r\n"
        b"HPUB foo.b 12 14\r\nNATS/1.0\r\n\r\nhi\r\nUNSUB 12\r\nPING\r\n"
    )

    @pytest.fixture
    def wanted(self):
        return [
            b"PONG",
            b"MSG foo.bar 12 inbox.1 11\r\nhello\r\nworl",
            b"HMSG foo.b 12 12 14\r\nNATS/1.0\r\n\r\nhi",
            b"PONG",
        ]

    def test_whole(self, wire, wanted):
        wire.send(self.STREAM)
        assert wire.ops(4) == wanted

    def test_byte_by_byte(self, wire, wanted):
        for i in range(len(self.STREAM)):
            wire.send(self.STREAM[i : i + 1])
        assert wire.ops(4) == wanted

    @pytest.mark.parametrize("size", [2, 3, 5, 7, 16])
    def test_in_pieces(self, wire, wanted, size):
        for i in range(0, len(self.STREAM), size):
            wire.send(self.STREAM[i : i + size])
        assert wire.ops(4) == wanted

    def test_a_long_payload_arrives_in_order(self, wire):
        payload = bytes(range(256)) * 2000
        wire.sub("foo").pub("foo", payload)
        assert wire.op() == b"MSG foo 1 512000\r\n" + payload
