"""CONNECT's argument, read as Go reads it."""

from __future__ import annotations

import pytest

from natsc.server.handshake import BadConnect, parse_connect


@pytest.mark.parametrize(
    ("arg", "fields"),
    [
        (b"{}", {}),
        (b"null", {}),
        (b'{"verbose":false,"name":"n","protocol":1}', {"verbose": False, "name": "n", "protocol": 1}),
        (b'{"Name":"n","USER":"u"}', {"name": "n", "user": "u"}),
        ('{"u\u017fer":"u"}'.encode(), {"user": "u"}),
        (b'{"user":"a","user":"b"}', {"user": "b"}),
        (b'{"user":"a","user":null}', {"user": "a"}),
        (b'{"nobody":[1,{"knows":2}]}', {}),
        (b'{"name":"\xff"}', {"name": "\ufffd"}),
        (b'{"name":"\\ud800"}', {"name": "\ufffd"}),
        (b' {"import":{"allow":["a"],"deny":null}} ', {"import": [("allow", ["a"]), ("deny", None)]}),
    ],
)
def test_fields(arg: bytes, fields: dict[str, object]) -> None:
    assert parse_connect(arg) == fields


@pytest.mark.parametrize(
    "arg",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"{} x",
        b'{"verbose":"yes"}',
        b'{"verbose":1}',
        b'{"protocol":1.0}',
        b'{"protocol":true}',
        b'{"protocol":9223372036854775808}',
        b'{"name":5}',
        b'{"user":false,"user":"b"}',
        b'{"import":[]}',
        b'{"export":{"allow":{}}}',
        b'{"protocol":NaN}',
        b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_refused(arg: bytes) -> None:
    with pytest.raises(BadConnect):
        parse_connect(arg)
