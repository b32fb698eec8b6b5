"""The format of records and names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsc.jetstream.layout import checksum, encode_name, pack_record, stream_name, unpack_record


def test_the_checksum_is_crc32c():
    assert checksum(b"123456789") == 0xE3069283
    assert checksum(bytes(32)) == 0x8A9136AA


@given(st.binary(max_size=100), st.integers(0, 0xFFFFFFFF))
def test_the_checksum_does_not_depend_on_the_hardware(data, start):
    assert checksum(data, start) == checksum(data, start, hardware=False)


@pytest.mark.parametrize("size", [*range(180, 260), 500, 1023, 1024, 1100, 3071, 3072, 3073, 3263, 3264, 6200, 10_001])
def test_the_checksum_of_much_does_not_depend_on_the_hardware(size):
    """It is made of several stretches then."""
    data = bytes((i * 31 + (i >> 3)) & 255 for i in range(size))
    for start in (0, 0xE3069283):
        assert checksum(data, start) == checksum(data, start, hardware=False)


@given(st.binary(max_size=60), st.integers(0, 60))
def test_the_checksum_can_be_continued(data, cut):
    assert checksum(data[cut:], checksum(data[:cut])) == checksum(data)


@given(st.binary(min_size=1, max_size=50), st.binary(max_size=50), st.binary(max_size=50))
def test_a_record_comes_back(subject, hdr, msg):
    assert unpack_record(pack_record(7, -5, subject, hdr, msg, 3), 7) == (-5, 3, subject, hdr, msg)


def test_every_flipped_bit_is_found():
    rec = pack_record(7, 1234567890, b"orders.new", b"NATS/1.0\r\nA: b\r\n\r\n", b"payload", 6)
    for bit in range(len(rec) * 8):
        bad = bytearray(rec)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            unpack_record(bytes(bad), 7)


def test_every_truncation_is_found():
    rec = pack_record(7, 1, b"a", b"", b"payload")
    for n in range(len(rec)):
        with pytest.raises(ValueError):
            unpack_record(rec[:n], 7)
    with pytest.raises(ValueError):
        unpack_record(rec + b"\0", 7)


def test_a_record_belongs_to_its_sequence():
    with pytest.raises(ValueError, match="head"):
        unpack_record(pack_record(7, 1, b"a", b"", b"x"), 8)


def test_names_are_plain():
    assert encode_name("$G") == b"%24G"
    assert stream_name("A/B", "ORDERS") == b"A%2FB/ORDERS"
    assert encode_name("ü") == b"%C3%BC"


@given(st.text(max_size=300), st.text(max_size=300))
def test_names_are_short_and_distinct(a, b):
    assert len(encode_name(a)) <= 190
    assert b"/" not in encode_name(a)
    assert (encode_name(a) == encode_name(b)) == (a == b)


def test_long_names_that_differ_at_the_end_differ():
    assert encode_name("x" * 250 + "a") != encode_name("x" * 250 + "b")
