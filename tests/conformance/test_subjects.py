"""Which subjects are valid, and what matches what."""

from __future__ import annotations

import pytest


class TestSubscribe:
    @pytest.mark.parametrize(
        "subject",
        [
            "foo",
            "foo.bar",
            "*",
            ">",
            "foo.*",
            "foo.>",
            "*.*.>",
            "foo*",
            "f>o",
            "foo.b>r",
            "a.**",
            ">>",
            "a.*b",
            "é.ü",
            "a\x01b",
            "a\x0cb",
            "$x",
            "_",
        ],
    )
    def test_valid(self, wire, subject):
        wire.sub(subject)
        assert wire.flush() == []

    @pytest.mark.parametrize("subject", ["a..b", ".a", "a.", ".", "..", ">.a", "a.>.b", "a.>.", "*..*"])
    def test_invalid(self, wire, subject):
        wire.sub(subject)
        assert wire.flush() == [b"-ERR 'Invalid Subject'"]

    def test_an_invalid_subject_takes_no_sid(self, wire):
        wire.sub("a..b").sub("foo").pub("foo")
        assert wire.flush() == [b"-ERR 'Invalid Subject'", b"MSG foo 1 0\r\n"]


class TestMatching:
    @pytest.mark.parametrize(
        ("pattern", "yes", "no"),
        [
            ("foo", ["foo"], ["bar", "foo.a", "fo", "FOO"]),
            ("foo.*", ["foo.a", "foo.b"], ["foo", "foo.a.b", "bar.a"]),
            ("*.b", ["a.b", "x.b"], ["b", "a.b.c", "a.c"]),
            ("foo.>", ["foo.a", "foo.a.b.c"], ["foo", "bar.a"]),
            (">", ["a", "a.b", "a.b.c"], []),
            ("*", ["a"], ["a.b"]),
            ("*.>", ["a.b", "a.b.c"], ["a"]),
            ("a.*.c.>", ["a.b.c.d", "a.x.c.d.e"], ["a.b.c", "a.b.d.c"]),
            ("foo*", ["foo*"], ["foo", "foobar"]),
            ("f>o", ["f>o"], ["foo"]),
            ("a.**", ["a.**"], ["a.b"]),
        ],
    )
    def test_pattern(self, wire, pattern, yes, no):
        wire.sub(pattern)
        for subject in yes + no:
            wire.pub(subject)
        assert wire.flush() == [f"MSG {subject} 1 0\r\n".encode() for subject in yes]

    def test_deep_subjects(self, wire):
        subject = ".".join(str(i) for i in range(64))
        wire.sub(subject, 1).sub(".".join("*" * 64), 2).sub(subject[:-2] + ">", 3).sub(".".join("*" * 63), 4)
        wire.pub(subject)
        assert sorted(op.split(b" ")[2] for op in wire.flush()) == [b"1", b"2", b"3"]

    def test_long_tokens(self, wire):
        subject = "t" * 1000 + "." + "u" * 1000
        wire.sub(subject, 1).sub("*." + "u" * 1000, 2).pub(subject)
        assert len(wire.flush()) == 2

    def test_a_new_subscription_counts_at_once(self, wire):
        wire.pub("new.sub").sub("new.*", 1).pub("new.sub").sub("new.sub", 2).pub("new.sub").lines("UNSUB 1").pub(
            "new.sub"
        )
        assert sorted(op.split(b" ")[2] for op in wire.flush()) == [b"1", b"1", b"2", b"2"]


class TestPublishWithWildcards:
    """Publish subjects aren't checked: wildcards in them are literal tokens."""

    def test_star(self, wire):
        wire.sub("a.*", 1).sub("a.>", 2).sub(">", 3).sub("a.b", 4).pub("a.*", "x")
        assert sorted(wire.flush()) == [b"MSG a.* %d 1\r\nx" % sid for sid in (1, 2, 3)]

    def test_full_wildcard(self, wire):
        wire.sub("a.*", 1).sub("a.>", 2).sub(">", 3).sub("a.b", 4).pub("a.>", "x")
        assert sorted(op.split(b" ")[2] for op in wire.flush()) == [b"1", b"2", b"3"]

    @pytest.mark.parametrize("subject", ["a..b", ".a", "a.", "..", "."])
    def test_empty_tokens_match_nothing(self, wire, subject):
        wire.sub(">", 1).sub("*.*", 2).sub("a.>", 3).pub(subject)
        assert wire.flush() == []

    @pytest.mark.parametrize("subject", ["a..b", "a.", ".a"])
    def test_empty_tokens_match_nothing_the_second_time_either(self, wire, subject):
        wire.sub(">").pub(subject).pub(subject).pub("ok")
        assert wire.flush() == [b"MSG ok 1 0\r\n"]


class TestReply:
    @pytest.mark.parametrize("reply", ["a..b", ".", ">", "a.*", "é", "x" * 500])
    def test_passes_unchanged(self, wire, reply):
        wire.sub("foo").pub("foo", reply=reply)
        assert wire.flush() == [f"MSG foo 1 {reply} 0\r\n".encode()]
