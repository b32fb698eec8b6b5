"""Fast batches: what a reply subject says, and when a batch is given up."""

from __future__ import annotations

import json

import pytest

from natsc.jetstream import rare
from natsc.jetstream.fastbatch import parse


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        (b"a.b.one.3.ok.7.1.$FI", (b"one", 3, True, 7, False, False, False)),
        (b"a.one.0.fail.1.0.$FI", (b"one", 10, False, 1, False, False, False)),
        (b"a.one.x.fail.1.2.$FI", (b"one", 10, False, 1, True, False, False)),
        (b"a.one.99999.fail.2.3.$FI", (b"one", 65535, False, 2, True, True, False)),
        (b"a.one.99999999999999999999999.fail.2.4.$FI", (b"one", 10, False, 2, False, False, True)),
    ],
)
def test_a_reply_subject(reply: bytes, wanted: tuple[object, ...]) -> None:
    part = parse(reply)
    assert part is not None
    assert (part.id, part.flow, part.gaps, part.seq, part.commits, part.at_end, part.pings) == wanted


@pytest.mark.parametrize(
    "reply",
    [b"one.3.ok.7.1.$FI", b"a.one.3.yes.7.1.$FI", b"a.one.3.ok.0.1.$FI", b"a.one.3.ok.7.5.$FI", b"a.one.3.ok.7.0.$FI",
     b"a.one.3.ok.1.1.$FI", b"a.one.3.ok.1.3.$FI", b"a.one.3.ok.%d.1.$FI" % (2**64 - 1), b"a.one.3.ok.\xb2.1.$FI"],
)  # fmt: skip
def test_what_is_none(reply: bytes) -> None:
    assert parse(reply) is None


@pytest.mark.parametrize(
    ("reply", "info", "wanted"),
    [
        (b"a.$FI", None, b"a.$FI"),
        (b".$FI", None, b""),
        (b"_R_.x", {"reply": "a.$FI"}, b"a.$FI"),
        (b"_R_.x", {"reply": "a"}, b""),
        (b"_R_.x", {"reply": 5}, b""),
        (b"_R_.x", [], b""),
        (b"_R_.x", None, b""),
        (b"x", {"reply": "a.$FI"}, b""),
    ],
)
def test_over_an_import_the_reply_stands_in_the_headers(reply: bytes, info: object, wanted: bytes) -> None:
    headers = b"" if info is None else b"NATS/1.0\r\nNats-Request-Info: %b\r\n\r\n" % json.dumps(info).encode()
    assert rare.fast_batch(headers, reply) == wanted
