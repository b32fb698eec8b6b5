"""The language: values, positions, variables, includes, and what keeps a hostile file from hurting."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from natsc.config import ConfigError, check_config_file
from natsc.config.gotext import Datetime
from natsc.config.parser import NESTING_MAX, Token, parse_file, parse_string

from .fields import PIECES


def values(text: str) -> Any:
    """The bare values of a configuration."""
    return bare(parse_string(text))


def bare(value: Any) -> Any:
    if isinstance(value, Token):
        return bare(value.value)
    if isinstance(value, dict):
        return {key: bare(entry) for key, entry in value.items()}
    return [bare(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("5k", 5_000),
        ("5kb", 5_120),
        ("2MiB", 2 << 20),
        ("1.5", 1.5),
        ("yes", True),
        ("OFF", False),
        ("abc", "abc"),
        ('"a b"', "a b"),
        ("'a\\n'", "a\\n"),
        ('"a\\n\\x41"', "a\nA"),
        ('"\\xc3\\xa9"', "é"),
        ("2s", "2s"),
        ("127.0.0.1:4222", "127.0.0.1:4222"),
        ("$2a$11$x", "$2a$11$x"),
        ("[1, 2 ]", [1, 2]),
        ("[a, [b], {c: d}]", ["a", ["b"], {"c": "d"}]),
        ("{a: 1, b {c: 2}}", {"a": 1, "b": {"c": 2}}),
        ('(\nraw "text"\n)\n', '\nraw "text"\n'),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert values(f"key = {text}") == {"key": value}


def test_dates_are_values_of_their_own() -> None:
    date = values("key: 2024-02-29T01:02:03Z")["key"]
    assert isinstance(date, Datetime)
    assert str(date) == "2024-02-29 01:02:03 +0000 UTC"


def test_a_size_wraps_like_a_64_bit_number() -> None:
    assert values("a: 9e")["a"] == 9 * 10**18
    assert values("a: 10e")["a"] == 10 * 10**18 - (1 << 64)


def test_last_of_two_equal_keys_wins() -> None:
    assert values("a: 1\na: 2") == {"a": 2}


def test_a_json_file_is_a_configuration() -> None:
    assert values('{"a": {"b": [true, "c"]},\n"d": 5}') == {"a": {"b": [True, "c"]}, "d": 5}


def test_columns_count_from_0_on_the_first_line_and_from_1_below() -> None:
    mapping = parse_string("a: 1\nb: 2\n  é: 3\n  éé: 4; c: 5")
    assert [(token.line, token.column) for token in mapping.values()] == [(1, 0), (2, 1), (3, 3), (4, 3), (4, 12)]


def test_variables_look_outwards() -> None:
    assert values("x: 1\nm {x: 2\n a: $x}\nb: $x") == {"x": 1, "m": {"x": 2, "a": 2}, "b": 1}


def test_a_variable_marks_its_source() -> None:
    mapping = parse_string("x: 1\ny: 2\na: $x")
    assert mapping["x"].used_variable
    assert not mapping["y"].used_variable


def test_environment_values_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATSC_TEST", "[1, x, on ]")
    assert values("a: $NATSC_TEST") == {"a": [1, "x", True]}


def test_environment_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATSC_TEST", "$NATSC_TEST")
    with pytest.raises(ConfigError, match="variable reference cycle for 'NATSC_TEST'"):
        values("a: $NATSC_TEST")


def test_includes_are_relative_to_their_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.conf").write_text("include sub/a.conf\nc: 3")
    (tmp_path / "sub" / "a.conf").write_text("a: 1\ninclude 'b.conf'")
    (tmp_path / "sub" / "b.conf").write_text("b: 2")
    mapping, _ = parse_file(str(tmp_path / "main.conf"))
    assert bare(mapping) == {"a": 1, "b": 2, "c": 3}
    assert mapping["b"].source_file == str(tmp_path / "sub" / "b.conf")


def test_an_include_cycle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("include b.conf")
    (tmp_path / "b.conf").write_text("include a.conf")
    with pytest.raises(ConfigError, match=r"include cycle: .*a\.conf includes itself"):
        parse_file(str(tmp_path / "a.conf"))


def test_a_file_may_be_included_twice(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("x {include b.conf\n}\ny {include b.conf\n}")
    (tmp_path / "b.conf").write_text("b: 1\n")
    assert bare(parse_file(str(tmp_path / "a.conf"))[0]) == {"x": {"b": 1}, "y": {"b": 1}}


def test_a_long_chain_of_includes_is_an_error(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"f{number}.conf").write_text(f"include f{number + 1}.conf")
    with pytest.raises(ConfigError, match="includes are nested more than 50 deep"):
        parse_file(str(tmp_path / "f0.conf"))


@pytest.mark.parametrize("opening", ["[", "{b: ", "{b ", "[{b: "])
def test_deep_nesting_is_an_error_not_a_crash(opening: str, tmp_path: Path) -> None:
    path = tmp_path / "main.conf"
    path.write_text("a: " + opening * 100_000)
    code, text = check_config_file(str(path))
    assert code == 1
    assert f"nested more than {NESTING_MAX} deep" in text


def test_nesting_through_variables_is_an_error(tmp_path: Path) -> None:
    lines = ["v0: [x]"] + [f"v{n}: {'[' * 50}$v{n - 1} {']' * 50}" for n in range(1, 100)]
    path = tmp_path / "main.conf"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="nested more than"):
        parse_file(str(path))


def test_variables_that_repeat_each_other_are_bounded(tmp_path: Path) -> None:
    lines = [f"v0: [{'x' * 1000}]"] + [f"v{n}: [{f'$v{n - 1}, ' * 10}]" for n in range(1, 20)]
    path = tmp_path / "main.conf"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="variables add more than 16 MB"):
        parse_file(str(path))


def test_variables_of_the_environment_that_repeat_each_other_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATSC_0", "x")
    for number in range(1, 40):
        monkeypatch.setenv(f"NATSC_{number}", f"[{f'$NATSC_{number - 1}, ' * 10}]")
    with pytest.raises(ConfigError, match="variables to expand"):
        parse_string("a: $NATSC_39")


def test_digest_is_that_of_gos_json(tmp_path: Path) -> None:
    path = tmp_path / "main.conf"
    path.write_text("port: 16001\n")
    assert parse_file(str(path))[1] == "sha256:f7b216923dd8cd0ef3494246dddac44241a49125abcb155961e603a7f6296ffa"


@pytest.mark.parametrize("seed", range(8))
def test_any_text_is_accepted_or_refused(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never an exception of another kind, never without end."""
    monkeypatch.chdir(tmp_path)
    chance = random.Random(seed)
    for number in range(50):
        text = "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 40)))
        path = tmp_path / f"{number}.conf"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        code, message = check_config_file(path.name)
        assert code in (0, 1)
        assert message.startswith("nats-server: ")


@pytest.mark.parametrize("seed", range(10))
def test_any_bytes_are_accepted_or_refused(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    for number in range(50):
        path = tmp_path / f"{number}.conf"
        path.write_bytes(chance.randbytes(chance.randint(0, 200)))
        assert check_config_file(str(path))[0] in (0, 1)
