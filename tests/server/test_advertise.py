"""client_advertise, read as Go reads an address."""

from __future__ import annotations

import pytest

from natsc.config.gotext import GoError
from natsc.server.advertise import parse_host_port


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("a:1", "a", 1),
        ("a", "a", 4222),
        ("a:0", "a", 4222),
        ("a:-1", "a", 4222),
        (" a : 7 ", "a", 7),
        ("[::1]:7", "::1", 7),
        ("[::1]", "::1", 4222),
        (":7", "", 7),
    ],
)
def test_host_and_port(text, host, port):
    assert parse_host_port(text, 4222) == (host, port)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "no hostport specified"),
        ("a:b", 'strconv.Atoi: parsing "b": invalid syntax'),
        ("a:", 'strconv.Atoi: parsing "": invalid syntax'),
        ("a:1:2", "address a:1:2: too many colons in address"),
        ("[a", "address [a:4222: missing ']' in address"),
        ("[a]:1:2", "address [a]:1:2: too many colons in address"),
        ("a[:1", "address a[:1: unexpected '[' in address"),
        ("a]:1", "address a]:1: unexpected ']' in address"),
    ],
)
def test_errors(text, error):
    with pytest.raises(GoError) as caught:
        parse_host_port(text, 4222)
    assert str(caught.value) == error
