"""S2 streams: what is written is read, what nats-server's library writes is read, what is damaged is refused."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from natsc.jetstream.layout import checksum
from natsc.jetstream.s2 import Decoder, Encoder, S2Error, decompress_block

IDENTIFIER = b"\xff\x06\x00\x00S2sTwO"
# "abcd" * 100 by klauspost/compress: a literal, a copy, and one that repeats its offset.
GO_STREAM = IDENTIFIER + bytes.fromhex("0011000090edfc1d90030c61626364110419008000")


def chunk(kind: int, content: bytes) -> bytes:
    return bytes([kind]) + len(content).to_bytes(3, "little") + content


def masked(data: bytes) -> bytes:
    crc = checksum(data)
    return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def plain(data: bytes) -> bytes:
    return chunk(1, masked(data) + data)


def read(stream: bytes, step: int = 1 << 30) -> bytes:
    decoder = Decoder()
    found = b""
    for start in range(0, len(stream), step):
        decoder.feed(stream[start : start + step])
        while (block := decoder.next_block()) is not None:
            found += block
    return found


def written(data: bytes, step: int = 1 << 30) -> bytes:
    encoder = Encoder()
    for start in range(0, len(data), step):
        encoder.write(data[start : start + step])
    encoder.finish()
    return encoder.take()


SAMPLES = {
    "empty": b"",
    "one byte": b"x",
    "zeros": bytes(300_000),
    "noise": random.Random(1).randbytes(200_000),
    "text": b"".join(b'{"id":%d,"name":"some name"}' % i for i in range(9_000)),
    "far matches": (random.Random(2).randbytes(3_000) + bytes(60_000)) * 3,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_written_is_read(name: str) -> None:
    data = SAMPLES[name]
    assert read(written(data)) == data
    assert read(written(data, 1_000), 777) == data


def test_what_repeats_becomes_smaller() -> None:
    assert len(written(SAMPLES["text"])) < len(SAMPLES["text"]) // 3
    assert len(written(SAMPLES["noise"])) < len(SAMPLES["noise"]) + 100


def test_random_mixtures() -> None:
    rng = random.Random(3)
    for _ in range(200):
        words = [rng.randbytes(rng.randint(1, 90)) for _ in range(rng.randint(1, 8))]
        data = b"".join(rng.choice(words) for _ in range(rng.randint(0, 400)))
        assert read(written(data), rng.randint(1, 5_000)) == data


@pytest.mark.parametrize(
    ("elements", "data"),
    [
        (b"\x00a", b"a"),
        (b"\xf0\x3b" + b"x" * 60, b"x" * 60),
        (b"\xf4\x3b\x00" + b"x" * 60, b"x" * 60),
        (b"\xf8\x3b\x00\x00" + b"x" * 60, b"x" * 60),
        (b"\xfc\x3b\x00\x00\x00" + b"x" * 60, b"x" * 60),
        (b"\x0cabcd\x01\x04", b"abcdabcd"),  # copy 1
        (b"\x0cabcd\x0e\x04\x00", b"abcdabcd"),  # copy 2
        (b"\x0cabcd\x0f\x04\x00\x00\x00", b"abcdabcd"),  # copy 4
        (b"\x0cabcd\x01\x04\x01\x00", b"abcd" * 3),  # the same offset again
        (b"\x0cabcd\x01\x04\x15\x00\x00", b"abcd" * 4),  # for 8 + 0 bytes
        (b"\x0cabcd\x01\x04\x19\x00\x00\x00", b"abcd" * 67),  # for 260 + 0
        (b"\x0cabcd\x01\x04\x1d\x00\x00\x00\x00", b"abcd" * (2 + 16_385)),  # for 65540 + 0
    ],
)
def test_elements_of_a_block(elements: bytes, data: bytes) -> None:
    assert decompress_block(elements, len(data)) == data


@pytest.mark.parametrize(
    "elements",
    [
        b"\x01\x04",  # a copy of nothing
        b"\x00a\x01\x00\x00",  # no offset to repeat
        b"\x0cabcd\x01\x05",  # from before the beginning
        b"\x10abcd",  # a literal that is cut off
        b"\xf0",
        b"\xfc\xff\xff\xff\xff",
        b"\x0cabcd\x0e\x04",
        b"\x0cabcd\x01\x04\x1d\x00\x00",
        b"\x0cabcd" * 3,  # too much
        b"\x00a",  # too little
    ],
)
def test_elements_that_are_damaged(elements: bytes) -> None:
    with pytest.raises(S2Error, match="corrupt"):
        decompress_block(elements, 8)


def test_what_nats_servers_library_writes() -> None:
    assert read(GO_STREAM) == read(GO_STREAM, 1) == b"abcd" * 100


def test_chunks_nobody_needs_are_skipped() -> None:
    data = IDENTIFIER + chunk(0xFE, bytes(100_000)) + plain(b"a") + chunk(0x99, b"index") + IDENTIFIER + plain(b"b")
    assert read(data) == read(data, 1) == b"ab"


def test_the_identifier_of_snappy_is_known() -> None:
    assert read(b"\xff\x06\x00\x00sNaPpY" + plain(b"a")) == b"a"


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (plain(b"a"), "s2: corrupt input"),  # no identifier
        (b"\xff\x06\x00\x00S2sTwX", "s2: corrupt input"),
        (b"\xff\x07\x00\x00S2sTwOO", "s2: corrupt input"),
        (IDENTIFIER + chunk(1, b"\0\0\0\0a"), "s2: corrupt input, crc mismatch"),
        (IDENTIFIER + chunk(1, b"abc"), "s2: corrupt input"),
        (IDENTIFIER + chunk(0, b"\0\0\0\0"), "s2: corrupt input"),
        (IDENTIFIER + chunk(0, b"\0\0\0\0" + b"\xff" * 9), "s2: corrupt input"),
        (IDENTIFIER + chunk(0, b"\0\0\0\0\x81\x80\x80\x02\x00a"), "s2: corrupt input"),  # above 4 MiB
        (IDENTIFIER + b"\x01\x05\x00\x40" + bytes(100), "s2: corrupt input"),
        (IDENTIFIER + b"\x00\xff\xff\xff", "s2: corrupt input"),
        (IDENTIFIER + chunk(2, b"a"), "s2: unsupported input"),
    ],
)
def test_streams_that_are_damaged(stream: bytes, text: str) -> None:
    with pytest.raises(S2Error) as caught:
        read(stream)
    assert str(caught.value) == text


def test_every_flipped_bit_is_noticed() -> None:
    stream = written(b"a message that is not so very long, a message")
    for bit in range(len(IDENTIFIER) * 8, len(stream) * 8):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        decoder = Decoder()
        decoder.feed(bytes(damaged))
        try:
            block = decoder.next_block()
        except S2Error:
            continue
        assert block is None and not (decoder.between_chunks and bit // 8 > 13), bit


def test_noise_is_refused_not_crashed_on() -> None:
    rng = random.Random(4)
    for _ in range(3_000):
        content = rng.randbytes(rng.randint(5, 60))
        with pytest.raises(S2Error):
            read(IDENTIFIER + chunk(0, content[:4] + bytes([rng.randint(1, 100)]) + content))


def test_a_bomb_takes_one_block_of_memory() -> None:
    """A megabyte that is 200 gigabytes of zeros is decoded block by block, each when it is asked for."""
    program = """
import resource
from natsc.jetstream.s2 import Decoder
from tests.jetstream.test_s2 import IDENTIFIER, bomb
decoder = Decoder()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decoder.feed(IDENTIFIER + bomb() * 40_000)
assert sum(len(decoder.next_block()) for _ in range(3)) == 3 << 22
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60).stdout)
    assert grown < 24 * 1024


def bomb() -> bytes:
    """4 MiB of zeros in a chunk of 20 bytes."""
    size = 4 << 20
    rest = size - 1 - 4 - 65536 - 4
    elements = b"\x00\x00" + b"\x01\x01" + b"\x1d\x00" + rest.to_bytes(3, "little")
    return chunk(0, masked(bytes(size)) + b"\x80\x80\x80\x02" + elements)


def test_the_stream_ends_between_chunks() -> None:
    decoder = Decoder()
    assert not decoder.between_chunks
    decoder.feed(IDENTIFIER + plain(b"a")[:-1])
    assert decoder.next_block() is None
    assert not decoder.between_chunks
    decoder.feed(b"a")
    assert decoder.next_block() == b"a"
    assert decoder.between_chunks
