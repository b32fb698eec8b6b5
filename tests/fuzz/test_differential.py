"""The differential fuzzer in a bounded run, its normaliser, and that it can see a difference at all.

NATSC_FUZZ_SECS sets how long natsc is fuzzed (30 s by default), NATSC_FUZZ_SEED the seed.
"""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from . import differential
from .differential import Fuzzer, cut_short, fuzz, normalise, normalise_stream, same
from .streams import PROFILES, cut, lengthen, make_round, renumber, resize, without_lone_cr


class TestAgainstServers:
    def test_natsc_answers_as_nats_server_does(self):
        seconds = float(os.environ.get("NATSC_FUZZ_SECS", "30"))
        with Fuzzer(int(os.environ.get("NATSC_FUZZ_SEED", "1"))) as fuzzer:
            found = fuzz(fuzzer, 10**9, seconds)
        assert not found, "\n\n".join(found)
        assert fuzzer.unstable <= fuzzer.rounds / 100, "too many rounds that nats-server itself answers in two ways"

    def test_nats_server_agrees_with_itself(self):
        with Fuzzer(7, ("nats-server", "nats-server")) as fuzzer:
            assert fuzz(fuzzer, 100_000, 20) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            "max_payload: 511\n",
            "max_control_line: 4095\nmax_payload: 512\n",
            "no_header_support: true\nmax_payload: 512\n",
        ],
    )
    def test_a_small_difference_is_found_and_made_small(self, wrong, monkeypatch):
        monkeypatch.setattr(differential, "CONFIRMATIONS", 2)

        class Wrong(Fuzzer):
            def pair(self, profile):
                if profile not in self.servers:
                    self.servers[profile] = [
                        differential.Server("nats-server", text) for text in (wrong, PROFILES["plain"].config)
                    ]
                return super().pair(profile)

            def make(self, number):
                while (made := super().make(number)).profile != "plain":
                    number += 1_000_000
                return made

        with Wrong(3, ("nats-server", "nats-server")) as fuzzer:
            found = fuzz(fuzzer, 2_000_000, 60, most=1)
        assert len(found) == 1
        assert found[0].count("\n    b") <= 4, found[0]


class TestNormaliser:
    @staticmethod
    def of(stream: bytes) -> tuple[list[bytes], Counter]:
        queues: Counter = Counter()
        return normalise_stream(stream, queues), queues

    def test_copies_of_a_message_in_any_order(self):
        assert self.of(b"MSG a 1 1\r\nx\r\nMSG a 2 1\r\nx\r\n") == self.of(b"MSG a 2 1\r\nx\r\nMSG a 1 1\r\nx\r\n")

    def test_different_messages_keep_their_order(self):
        assert self.of(b"MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\n") != self.of(b"MSG a 1 1\r\ny\r\nMSG a 1 1\r\nx\r\n")

    def test_other_answers_keep_their_place(self):
        assert self.of(b"MSG a 1 1\r\nx\r\nPONG\r\n") != self.of(b"PONG\r\nMSG a 1 1\r\nx\r\n")

    def test_line_ends_inside_a_payload(self):
        assert self.of(b"MSG a 1 6\r\nPONG\r\n\r\n+OK\r\n")[0] == [b"MSG a 1 6 PONG\r\n", b"+OK"]

    def test_queue_deliveries_are_counted(self):
        assert self.of(b"MSG a Qg1n0 1\r\nx\r\nMSG a Qg1n2 r 1\r\nx\r\n") == (
            [],
            Counter({(b"Qg1", b"a", b"", b"x"): 1, (b"Qg1", b"a", b"r", b"x"): 1}),
        )

    def test_queue_headers_are_left_out(self):
        assert self.of(b"HMSG a Qg1n0 2 3\r\nhhx\r\n") == self.of(b"MSG a Qg1n1 1\r\nx\r\n")

    def test_503_goes_to_any_sid(self):
        assert self.of(b"HMSG a 1 12 12\r\nNATS/1.0 503\r\n") == self.of(b"HMSG a 2 12 12\r\nNATS/1.0 503\r\n")

    def test_info_without_its_names(self):
        assert self.of(b'INFO {"server_id":"A","max_payload":1} \r\n') == self.of(
            b'INFO {"server_id":"B","max_payload":1} \r\n'
        )
        assert self.of(b'INFO {"max_payload":2} \r\n') != self.of(b'INFO {"max_payload":1} \r\n')

    def test_server_pings(self):
        assert self.of(b"PING\r\n+OK\r\n") == self.of(b"+OK\r\n")

    def test_an_unfinished_answer_is_shown(self):
        assert self.of(b"+OK\r\n-ERR 'x")[0] == [b"+OK", b"unfinished: -ERR 'x"]

    def test_verdicts_are_compared(self):
        assert not same(([b""], [True]), ([b""], [False]))
        assert normalise(([b"+OK\r\n"], [True])) == ([[b"+OK"]], Counter(), [True])

    def test_a_reset_takes_the_last_answers_of_the_second_server_only(self):
        whole, cut = (normalise(([stream], [True])) for stream in (b"+OK\r\n-ERR 'x'\r\n", b"+OK\r\n"))
        assert cut_short(whole, cut) and not cut_short(cut, whole)
        assert not cut_short(normalise(([b"+OK\r\nPONG\r\n"], [False])), normalise(([b"+OK\r\n"], [False])))

    def test_a_reset_in_a_message(self):
        stream = b"+OK\r\nMSG a Q1n1 4\r\nabcd\r\n"
        whole = normalise(([stream], [True]))
        for size in range(len(b"+OK\r\n"), len(stream)):
            cut = normalise(([stream[:size]], [True]))
            assert cut_short(whole, cut) and not cut_short(cut, whole)


class TestStreams:
    def test_a_seed_gives_the_same_round_again(self):
        one, two = (make_round(random.Random("5/17")) for _ in range(2))
        assert [(s.connection, s.ops, s.cuts) for s in one.steps] == [(s.connection, s.ops, s.cuts) for s in two.steps]

    def test_pieces_lie_inside_the_data(self):
        rng = random.Random(1)
        for size in range(2, 100):
            cuts = cut(b"x" * size, rng)
            assert list(cuts) == sorted(set(cuts)) and all(0 < c < size for c in cuts)

    def test_lone_cr(self):
        assert without_lone_cr(b"a\rb\r\nc\r\r\n\r") == b"a_b\r\nc_\r\n_"

    def test_resize(self):
        assert resize(b"PUB foo 5\r\nhello\r\n", 2) == b"PUB foo 7\r\nhello\r\n"
        assert resize(b"PING\r\n", 2) == b"PING\r\n"

    def test_renumber(self):
        assert renumber(b"HPUB foo 5 7\r\nhello\r\n", 0.4, b"9") == b"HPUB foo 9 7\r\nhello\r\n"
        assert renumber(b"HPUB foo 5 7\r\nhello\r\n", 0.6, b"9") == b"HPUB foo 5 9\r\nhello\r\n"
        assert renumber(b"PING\r\n", 0.5, b"9") == b"PING\r\n"

    def test_lengthen(self):
        assert lengthen(b"SUB foo 1\r\n", 9) == b"SUB xxxxfoo 1\r\n"
        assert lengthen(b"SUB foo 1\r\n", 2) == b"SUB foo 1\r\n"
