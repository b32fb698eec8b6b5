"""Text as Go prints and reads it."""

from __future__ import annotations

import pytest

from natsc.config import gotext
from natsc.config.gotext import GoError


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("abc", '"abc"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("\a\b\f\n\r\t\v", '"\\a\\b\\f\\n\\r\\t\\v"'),
        ("é", '"é"'),
        ("\x00\x7f", '"\\x00\\x7f"'),
        ("\u00a0\u200b\U000e0001", '"\\u00a0\\u200b\\U000e0001"'),
        ("\udcff", '"\\xff"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert gotext.quote(text) == quoted


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("-1.5h", -5400 * 10**9),
        ("+2m3s", 123 * 10**9),
        ("1us", 1000),
        ("1µs", 1000),
        ("1μs", 1000),
        (".5s", 5 * 10**8),
        ("1.s", 10**9),
        ("9223372036854775807ns", (1 << 63) - 1),
        ("-9223372036854775808ns", -(1 << 63)),
        ("0.3333333333333333333h", 1_200_000_000_000),
    ],
)
def test_parse_duration(text: str, ns: int) -> None:
    assert gotext.parse_duration(text) == ns


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("s", 'time: invalid duration "s"'),
        (".s", 'time: invalid duration ".s"'),
        ("1", 'time: missing unit in duration "1"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1s 2s", 'time: unknown unit "s " in duration "1s 2s"'),
        ("3000000h", 'time: invalid duration "3000000h"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("1é", 'time: unknown unit "\\xc3\\xa9" in duration "1\\xc3\\xa9"'),
    ],
)
def test_bad_durations(text: str, error: str) -> None:
    with pytest.raises(GoError) as raised:
        gotext.parse_duration(text)
    assert str(raised.value) == error


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (50_000_000, "50ms"),
        (1_500_000_000, "1.5s"),
        (120_000_000_000, "2m0s"),
        (3_723_000_000_000, "1h2m3s"),
        (-1_000_000_000, "-1s"),
        (5400 * 10**9 + 1, "1h30m0.000000001s"),
    ],
)
def test_format_duration(ns: int, text: str) -> None:
    assert gotext.format_duration(ns) == text


@pytest.mark.parametrize(
    ("value", "text", "json"),
    [
        (0.0, "0", "0"),
        (1.0, "1", "1"),
        (1.5, "1.5", "1.5"),
        (-0.25, "-0.25", "-0.25"),
        (100.5, "100.5", "100.5"),
        (999999.0, "999999", "999999"),
        (1e6, "1e+06", "1000000"),
        (1000000.5, "1.0000005e+06", "1000000.5"),
        (1e20, "1e+20", "100000000000000000000"),
        (1e21, "1e+21", "1e+21"),
        (0.0001, "0.0001", "0.0001"),
        (0.00001, "1e-05", "0.00001"),
        (1.5e-7, "1.5e-07", "1.5e-7"),
        (1e-10, "1e-10", "1e-10"),
        (1.2345678901234568e20, "1.2345678901234568e+20", "123456789012345680000"),
    ],
)
def test_floats(value: float, text: str, json: str) -> None:
    assert gotext.format_float(value) == text
    assert gotext.json_float(value) == json


def test_json_strings_escape_what_go_escapes() -> None:
    assert gotext.json_string('a"\\<>&\n\x01\b\u2028é\udcff') == (
        '"a\\"\\\\\\u003c\\u003e\\u0026\\n\\u0001\\b\\u2028é\ufffd"'
    )


@pytest.mark.parametrize(
    ("value", "name"),
    [(5, "int64"), (True, "bool"), ("", "string"), (1.5, "float64"), ([], "[]interface {}"), (None, "<nil>")],
)
def test_type_names(value: object, name: str) -> None:
    assert gotext.type_name(value) == name


def test_secrets_inside_maps_are_not_printed() -> None:
    assert gotext.format_value({"user": "a", "pass": "secret"}) == "map[pass:... user:...]"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", 'strconv.Atoi: parsing "": invalid syntax'),
        ("x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("1_0", 'strconv.Atoi: parsing "1_0": invalid syntax'),
        ("9223372036854775808", 'strconv.Atoi: parsing "9223372036854775808": value out of range'),
    ],
)
def test_atoi_errors(text: str, error: str) -> None:
    with pytest.raises(GoError) as raised:
        gotext.atoi(text)
    assert str(raised.value) == error


def test_atoi() -> None:
    assert (gotext.atoi("+5"), gotext.atoi("-5"), gotext.atoi("9223372036854775807")) == (5, -5, (1 << 63) - 1)
