"""The bodies of pull requests: what the short parser takes, and that Python's decoder agrees with it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsc.jetstream.pull_request import read_pull
from natsc.jetstream.waiting import parse

NUMBERS = ("batch", "max_bytes", "expires", "idle_heartbeat", "min_pending", "min_ack_pending", "priority")


def test_nothing_asks_for_one_message() -> None:
    assert parse(b"")["batch"] == 1
    assert parse(b" \r\n")["batch"] == 1


def test_a_number_is_a_batch() -> None:
    assert parse(b" 25\n")["batch"] == 25


@pytest.mark.parametrize(
    "body",
    [
        b"0", b"-1", b"007", b"1x", b"[]", b"{", b'{"batch":1', b'{"batch":1.0}', b'{"batch":1e3}', b'{"batch":01}',
        b'{"Batch":1}', b'{"batch":null}', b'{"zzz":1}', b'{"group":"a\\n"}', b'{"group":"\xc3\xa9"}', b'{"batch":1}x',
        b'{"batch":99999999999999999999}', b'{"no_wait":truex}', b'{"no_wait":0}', b'{"batch" 1}', b'{batch:1}',
    ],
)  # fmt: skip
def test_what_clients_do_not_write_is_left_to_python(body: bytes) -> None:
    assert parse(body) is None


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{name: st.integers(-(1 << 60), 1 << 60) for name in NUMBERS},
            "no_wait": st.booleans(),
            "group": st.text("abcXYZ-_=/ 09", max_size=16),
            "id": st.text("abcXYZ09", max_size=22),
        },
    ),
    st.sampled_from([None, (",", ":"), (" , ", " : ")]),
)
def test_both_readers_agree(request_: dict[str, object], separators: tuple[str, str] | None) -> None:
    body = json.dumps(request_, separators=separators).encode()
    short = parse(body)
    assert short is not None
    long = read_pull(body)
    assert not isinstance(long, str) and long[5] is not None
    batch, max_bytes, expires, heartbeat, no_wait, (group, min_pending, min_ack_pending, pin, priority) = long
    assert short == {
        "batch": batch, "max_bytes": max_bytes, "expires": expires, "idle_heartbeat": heartbeat, "no_wait": no_wait,
        "min_pending": min_pending, "min_ack_pending": min_ack_pending, "priority": priority, "group": group, "id": pin,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"batch":"x"}', "json: cannot unmarshal string into Go struct field .batch of type int"),
        (b"{batch", "invalid character 'b' looking for beginning of object key string"),
        (b'{"batch":1', "unexpected end of JSON input"),
    ],
)
def test_what_is_wrong_is_said_in_the_reference_s_words(body: bytes, text: str) -> None:
    assert read_pull(body) == text


@pytest.mark.parametrize("body", [b"abc", b"1x", b"[]", b"null"])
def test_what_is_neither_a_number_nor_an_object_asks_for_one(body: bytes) -> None:
    assert read_pull(body) == (1, 0, 0, 0, False, None)


def test_names_match_in_any_case() -> None:
    found = read_pull(b'{"BATCH":3,"zzz":[1]}')
    assert not isinstance(found, str) and found[0] == 3
