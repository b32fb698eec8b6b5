"""How Go prints values."""

from __future__ import annotations

import json
import time

import pytest

from natsc.monitor import gojson


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a<b>&c", r'"a\u003cb\u003e\u0026c"'),
        ('\x01\n\t"\\', r'"\u0001\n\t\"\\"'),
        ("é\x7f", '"é\x7f"'),
        ("\u2028", r'"\u2028"'),
        ("a\udcffb", r'"a\ufffdb"'),
        ("\b\f", r'"\b\f"'),
    ],
)
def test_strings_are_escaped_as_go_escapes_them(text: str, expected: str) -> None:
    assert gojson.quote(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2.0, "2"),
        (0.0, "0"),
        (0.375, "0.375"),
        (0.47368421052631576, "0.47368421052631576"),
        (1e-7, "1e-7"),
        (1e-5, "0.00001"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e-10, "1.5e-10"),
        (-0.5, "-0.5"),
    ],
)
def test_floats_are_printed_as_go_prints_them(value: float, expected: str) -> None:
    assert gojson.number(value) == expected


def test_infinity_is_refused() -> None:
    with pytest.raises(ValueError, match="unsupported value"):
        gojson.number(float("inf"))


def test_indentation_is_two_spaces_and_empty_containers_stay_on_their_line() -> None:
    value = {"a": {}, "b": [], "c": [1, {"d": True}], "e": None}
    assert gojson.indented(value) == (
        '{\n  "a": {},\n  "b": [],\n  "c": [\n    1,\n    {\n      "d": true\n    }\n  ],\n  "e": null\n}'
    )


def test_compact_has_no_blanks() -> None:
    assert gojson.compact({"a": [1, "<"], "b": {"c": 2.5}}) == r'{"a":[1,"\u003c"],"b":{"c":2.5}}'


@pytest.mark.parametrize("count", [0, 1, 3, 2000])
def test_a_streamed_list_is_the_same_text_as_a_whole_one(count: int) -> None:
    items = [{"number": at, "text": "x" * 50} for at in range(count)]
    pieces = list(gojson.stream({"head": 1}, "items", iter(items)))
    assert b"".join(pieces).decode() == gojson.indented({"head": 1, "items": items})
    assert len(pieces) == 1 or max(map(len, pieces)) < 2 * gojson.PIECE_CHARS


@pytest.mark.parametrize(
    ("ns", "expected"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (1_000_000_001, "1970-01-01T00:00:01.000000001Z"),
        (1_800_000_000_123_456_789, "2027-01-15T08:00:00.123456789Z"),
    ],
)
def test_times_have_no_zeros_at_the_end(ns: int, expected: str) -> None:
    assert gojson.timestamp(ns) == expected


@pytest.mark.parametrize(("zone", "suffix"), [("UTC", "Z"), ("XXX-5:30", "+05:30"), ("XXX3", "-03:00")])
def test_local_times_show_their_offset(zone: str, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert gojson.timestamp(1_800_000_000_500_000_000, local=True).endswith(".5" + suffix)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m0s"),
        (3661, "1h1m1s"),
        (90061, "1d1h1m1s"),
        (366 * 86400 + 1, "1y1d0h0m1s"),
        (-1.5, "-1s"),
    ],
)
def test_uptime(seconds: float, expected: str) -> None:
    assert gojson.uptime(int(seconds * 1_000_000_000)) == expected


@pytest.mark.parametrize(
    ("ns", "expected"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (442_000, "442µs"),
        (6_708_625, "6.708625ms"),
        (1_000_000_000, "1s"),
        (90_500_000_000, "1m30.5s"),
        (3_600_000_000_000, "1h0m0s"),
        (-1_000_000, "-1ms"),
    ],
)
def test_durations(ns: int, expected: str) -> None:
    assert gojson.duration(ns) == expected


def test_go_quote_shows_bytes_that_are_no_text() -> None:
    assert gojson.go_quote('é\u2028\udcff\x00"\n') == r'"é\u2028\xff\x00\"\n"'


def test_what_is_printed_is_json() -> None:
    value = {"a<": ["\u2029", 1.5, -3, True, None], "b": {}}
    assert json.loads(gojson.indented(value)) == json.loads(gojson.compact(value)) == value
