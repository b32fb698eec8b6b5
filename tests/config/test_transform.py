"""Subject transforms, applied."""

from __future__ import annotations

import pytest

from natsc.config.transform import Transform


@pytest.mark.parametrize(
    ("source", "dest", "subject", "wanted"),
    [
        ("foo", "bar", "foo", "bar"),
        ("foo", "bar", "fox", None),
        ("foo.*", "bar.$1", "foo.x", "bar.x"),
        ("*.*", "$2.$1", "a.b", "b.a"),
        ("*.*", "{{wildcard(2)}}.{{ wildcard( 1 ) }}", "a.b", "b.a"),
        ("foo.>", "bar.>", "foo.a.b", "bar.a.b"),
        (">", "x.>", "a.b", "x.a.b"),
        ("", "x.>", "a", "x.a"),
        ("*.>", "y.$1.>", "a.b.c", "y.a.b.c"),
        ("*", "{{splitfromleft(1,2)}}", "abcde", "ab.cde"),
        ("*", "{{splitfromright(1,2)}}", "abcde", "abc.de"),
        ("*", "{{splitfromleft(1,9)}}", "abcde", "abcde"),
        ("*", "{{slicefromleft(1,2)}}", "abcde", "ab.cd.e"),
        ("*", "{{slicefromright(1,2)}}", "abcde", "a.bc.de"),
        ("*", "{{slicefromleft(1,2)}}", "abcd", "ab.cd"),
        ("*", "{{left(1,2)}}.{{right(1,2)}}", "abcde", "ab.de"),
        ("*", "{{split(1,-)}}", "-a-b--c-", "a.b.c"),
        ("*", "p.{{partition(10,1)}}", "foo", "p.3"),
        ("foo.*.*", "{{partition(5,1,2)}}", "foo.a.b", "1"),
        ("a.$x", "b.$x", "a.$x", "b.$x"),
    ],
)  # fmt: skip
def test_what_a_subject_becomes(source: str, dest: str, subject: str, wanted: str | None) -> None:
    made = Transform(source, dest).apply(subject.encode())
    assert made == (None if wanted is None else wanted.encode())


def test_random_stays_below_its_bound() -> None:
    transform = Transform("a", "{{random(3)}}")
    assert {transform.apply(b"a") for _ in range(100)} == {b"0", b"1", b"2"}
