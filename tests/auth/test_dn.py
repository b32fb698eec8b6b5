"""Distinguished names: reading and matching."""

from __future__ import annotations

import pytest

from natsc.auth.dn import equal, parse_dn, same_relative_names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CN=a", ((("cn", b"a"),),)),
        ("cn = a b , O= c ", ((("cn", b"a b"),), (("o", b"c"),))),
        ("OU=a+CN=b,O=c", ((("ou", b"a"), ("cn", b"b")), (("o", b"c"),))),
        (r"CN=a\,b\20\+\\", ((("cn", b"a,b +\\"),),)),
        (r"CN=a\ ", ((("cn", b"a "),),)),
        (r"CN=\c3\a9", ((("cn", "é".encode()),),)),
        ("CN=é", ((("cn", "é".encode()),),)),
        ("CN=a,O=", ((("cn", b"a"),),)),
        ("", ()),
    ],
)
def test_parse(text: str, expected: object) -> None:
    assert parse_dn(text) == expected


@pytest.mark.parametrize("text", ["a", "a,b", "=a", "CN=a,b", "CN=#04024869", r"CN=a\x", r"CN=a\1", r"CN=\zz"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError):
        parse_dn(text)


def test_order_matters_for_equality_alone() -> None:
    left, right = parse_dn("CN=a,O=b"), parse_dn("O=b,CN=a")
    assert not equal(left, right)
    assert same_relative_names(left, right)


def test_attributes_of_a_relative_name_have_no_order() -> None:
    assert equal(parse_dn("OU=a+CN=b"), parse_dn("cn=b+ou=a"))


@pytest.mark.parametrize(
    ("left", "right"),
    [("O=a,O=a", "O=a,O=b"), ("O=a,O=b", "O=a,O=a"), ("O=a", "O=a,O=a"), ("O=a+O=a", "O=a+O=b"), ("CN=a", "CN=A")],
)
def test_names_that_differ(left: str, right: str) -> None:
    assert not equal(parse_dn(left), parse_dn(right))
    assert not same_relative_names(parse_dn(left), parse_dn(right))
