"""Query strings and their error texts."""

from __future__ import annotations

import pytest

from natsc.monitor.params import BadRequest, decode_bool, decode_int, decode_subs, decode_uint64, parse_query


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a=1&a=2", {"a": "1"}),
        ("a=%zz&b=1", {"b": "1"}),
        ("a=1;2&b=1", {"b": "1"}),
        ("a=x+y%20z", {"a": "x y z"}),
        ("a", {"a": ""}),
        ("&&=x&", {"": "x"}),
        ("a=%ff", {"a": "\udcff"}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_parse_query(raw: str, expected: dict[str, str]) -> None:
    assert parse_query(raw) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("", False), ("1", True), ("T", True), ("True", True), ("0", False), ("FALSE", False)]
)
def test_booleans(text: str, expected: bool) -> None:
    assert decode_bool({"x": text}, "x") is expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("yes", '"yes"'),
        ("tRUE", '"tRUE"'),
        ('"<', r'"\"<"'),
        ("\n", r'"\n"'),
        ("é\u2028\udcff\0", r'"é\u2028\xff\x00"'),
    ],
)
def test_a_bad_boolean_is_named(text: str, shown: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_bool({"x": text}, "x")
    assert str(caught.value) == f"Error decoding boolean for 'x': strconv.ParseBool: parsing {shown}: invalid syntax"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("5", 5),
        ("+5", 5),
        ("-5", -5),
        ("007", 7),
        ("-0", 0),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_integers(text: str, expected: int) -> None:
    assert decode_int({"x": text}, "x") == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "invalid syntax"),
        ("0x10", "invalid syntax"),
        ("1_0", "invalid syntax"),
        (" 5", "invalid syntax"),
        ("٣", "invalid syntax"),
        ("9223372036854775808", "value out of range"),
        ("9" * 5000, "value out of range"),
    ],
)
def test_bad_integers(text: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_int({"limit": text}, "limit")
    assert str(caught.value) == f"Error decoding int for 'limit': strconv.Atoi: parsing \"{text}\": {problem}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [("-1", "invalid syntax"), ("+1", "invalid syntax"), ("18446744073709551616", "value out of range")],
)
def test_bad_unsigned_integers(text: str, problem: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode_uint64({"cid": text}, "cid")
    assert str(caught.value) == f"Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"{text}\": {problem}"


def test_the_largest_unsigned_integer() -> None:
    assert decode_uint64({"cid": "18446744073709551615"}, "cid") == 2**64 - 1


@pytest.mark.parametrize(("text", "expected"), [("", (False, False)), ("1", (True, False)), ("DETAIL", (False, True))])
def test_subs(text: str, expected: tuple[bool, bool]) -> None:
    assert decode_subs({"subs": text}) == expected
