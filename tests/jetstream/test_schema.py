"""Records read and written as JSON, on small records of their own."""

from __future__ import annotations

import pytest

from natsc.jetstream.schema import (
    BOOL,
    DURATION,
    INT,
    OPTIONAL_TIME,
    STRING,
    STRINGS,
    UINT64,
    DecodeError,
    Field,
    ListOf,
    MapOf,
    Nested,
    Record,
    decode,
    decode_one,
    encode,
    is_empty_request,
    is_object_or_list,
)


class Inner(Record):
    __slots__ = ("a", "b")
    GO_NAME = "Inner"
    FIELDS = (Field("a", INT), Field("b", STRING))
    a: int
    b: str


class Outer(Record):
    __slots__ = ("flag", "inner", "items", "map", "name", "seq", "strings", "time", "wait")
    GO_NAME = "Outer"
    FIELDS = (
        Field("name", STRING, omit_empty=False),
        Field("flag", BOOL),
        Field("seq", UINT64),
        Field("wait", DURATION),
        Field("strings", STRINGS),
        Field("inner", Nested(Inner, pointer=True)),
        Field("items", ListOf(Nested(Inner))),
        Field("map", MapOf(STRING)),
        Field("time", OPTIONAL_TIME),
    )
    name: str
    inner: Inner | None


def read(text: str) -> Outer:
    return decode(text.encode(), Outer())


def refusal(text: str) -> str:
    with pytest.raises(DecodeError) as caught:
        read(text)
    return str(caught.value)


def test_only_what_is_not_empty_is_written() -> None:
    assert encode(Outer().as_json()) == b'{"name":""}'


def test_members_are_written_in_the_order_of_the_fields() -> None:
    assert encode(read('{"seq":1,"name":"x"}').as_json()) == b'{"name":"x","seq":1}'


def test_maps_are_written_in_order() -> None:
    assert encode(read('{"map":{"b":"1","a":"2"}}').as_json()) == b'{"name":"","map":{"a":"2","b":"1"}}'


def test_html_is_escaped() -> None:
    assert encode({"a": "<&>\u2028\x7f\x01é"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028\x7f\\u0001é"}'.encode()


def test_bytes_that_are_no_utf8_become_replacement_characters() -> None:
    record = decode(b'{"name":"a\xffb"}', Outer())
    assert record.name == "a\ufffdb"


def test_a_member_given_twice_counts_twice() -> None:
    assert read('{"inner":{"a":1},"inner":{"b":"x"}}') == Outer(inner=Inner(a=1, b="x"))


def test_null_changes_nothing_but_forgets_lists_and_pointers() -> None:
    assert read('{"name":"x","name":null,"strings":["a"],"strings":null,"inner":{},"inner":null}') == Outer(name="x")


def test_requests_may_be_several_objects() -> None:
    assert read('{"name":"x"} {"seq":3}\n') == Outer(name="x", seq=3)


def test_one_object_only_where_one_is_due() -> None:
    with pytest.raises(DecodeError, match=r"invalid character '\{' after top-level value"):
        decode_one(b'{"name":"x"} {"seq":3}', Outer())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"name":1}', "json: cannot unmarshal number into Go struct field Outer.name of type string"),
        ('{"flag":"x"}', "json: cannot unmarshal string into Go struct field Outer.flag of type bool"),
        ('{"seq":-1}', "json: cannot unmarshal number -1 into Go struct field Outer.seq of type uint64"),
        ('{"seq":-0}', "json: cannot unmarshal number -0 into Go struct field Outer.seq of type uint64"),
        ('{"seq":1e2}', "json: cannot unmarshal number 1e2 into Go struct field Outer.seq of type uint64"),
        ('{"wait":true}', "json: cannot unmarshal bool into Go struct field Outer.wait of type time.Duration"),
        ('{"strings":["a",2]}', "json: cannot unmarshal number into Outer.strings.1 of type string"),
        ('{"strings":{}}', "json: cannot unmarshal object into Go struct field Outer.strings of type []string"),
        ('{"inner":[]}', "json: cannot unmarshal array into Go struct field Outer.inner of type server.Inner"),
        ('{"items":[{"a":"x"}]}', "json: cannot unmarshal string into Go struct field Outer.items.0.a of type int"),
        ('{"nope":1}', 'json: unknown field "nope"'),
        ("[]", "json: cannot unmarshal array into Go value of type server.Outer"),
        ("{", "unexpected EOF"),
        ('{"name":"a\tb"}', "invalid character '\\t' in string at offset 11"),
    ],
)
def test_what_is_wrong_is_said_as_go_says_it(text: str, why: str) -> None:
    assert refusal(text) == why


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    assert refusal('{"name":' + "[" * 100_000)


def test_clones_share_nothing() -> None:
    record = read('{"inner":{"a":1},"strings":["x"],"map":{"k":"v"}}')
    copy = record.clone()
    assert copy == record
    assert copy.inner is not None
    copy.inner.a = 2
    assert copy != record


@pytest.mark.parametrize("text", ["", "{}", " {} ", "{ }"])
def test_empty_requests(text: str) -> None:
    assert is_empty_request(text.encode())


@pytest.mark.parametrize("text", ["x", "[]", '{"a":1}', " ", "{} x", '{" ":""}'])
def test_requests_that_are_not_empty(text: str) -> None:
    assert not is_empty_request(text.encode())


def test_what_looks_like_json() -> None:
    assert is_object_or_list(b" \t{") and is_object_or_list(b"[")
    assert not is_object_or_list(b"") and not is_object_or_list(b"x{")


def test_faults_of_large_requests_are_told_as_well() -> None:
    padding = '"map":{"a":"' + "x" * 100_000 + '"}'
    assert refusal("{" + padding + ",}").endswith("looking for beginning of object key string at offset 100017")
    assert refusal("{" + padding + ',"name"1}').startswith("invalid character '1' after object key at offset")
    assert refusal("{" + padding) == "unexpected EOF"


def test_many_small_objects_take_no_time() -> None:
    assert read('{"name":"é"}' + "{}" * 100_000).name == "é"
