"""Hosts and ports, split and joined as Go's net package does."""

from __future__ import annotations

import pytest

from natsc.config.goaddress import join_host_port, split_host_port
from natsc.config.gotext import GoError


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("h:5", ("h", "5")),
        (":5", ("", "5")),
        ("h:", ("h", "")),
        ("[::1]:5", ("::1", "5")),
        ("[::1%25lo]:5", ("::1%25lo", "5")),
    ],
)
def test_split(address: str, parts: tuple[str, str]) -> None:
    assert split_host_port(address) == parts


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("", "missing port in address"),
        ("h", "address h: missing port in address"),
        ("[::1]", "address [::1]: missing port in address"),
        ("[h]x:5", "address [h]x:5: missing port in address"),
        ("[::1", "address [::1: missing ']' in address"),
        ("::1:5", "address ::1:5: too many colons in address"),
        ("[h]:1:5", "address [h]:1:5: too many colons in address"),
        ("[[h]:5", "address [[h]:5: unexpected '[' in address"),
        ("h]:5", "address h]:5: unexpected ']' in address"),
    ],
)
def test_what_is_no_address(address: str, error: str) -> None:
    with pytest.raises(GoError) as caught:
        split_host_port(address)
    assert str(caught.value) == error


def test_join() -> None:
    assert [join_host_port("h", 5), join_host_port("::1", 5)] == ["h:5", "[::1]:5"]
