"""WebSocket frames taken apart: the same whatever the reads are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsc.adapters.frames import BINARY, CLOSE, CONTINUATION, PING, FrameError, FrameReader, frame_header

KEY = b"\x12\x34\x56\x78"


def frame(kind: int, payload: bytes = b"", final: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A frame as a client sends it."""
    header = bytearray(frame_header(kind, len(payload), True, final))
    header[0] |= rsv
    if not masked:
        return bytes(header) + payload
    header[1] |= 0x80
    return bytes(header) + KEY + bytes(byte ^ KEY[at % 4] for at, byte in enumerate(payload))


def read(data: bytes, cuts: list[int] | None = None, compress: bool = False) -> list[tuple[object, ...]]:
    """What a reader makes of it; pieces of one message are put together."""
    reader = FrameReader(compress)
    found: list[tuple[object, ...]] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or ()), len(data)]
    for start, end in pairwise(edges):
        for event in reader.feed(data[start:end]):
            if found and found[-1][0] == BINARY == event[0] and not found[-1][3]:
                event = (BINARY, found.pop()[1] + event[1], *event[2:])
            found.append(event)
    return found


def test_a_message() -> None:
    assert read(frame(BINARY, b"hello")) == [(BINARY, b"hello", False, True)]


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 200_000])
def test_sizes(size: int) -> None:
    payload = bytes(at % 251 for at in range(size))
    found = read(frame(BINARY, payload) + frame(PING, b"x"))
    assert found[-1] == (PING, b"x")
    assert b"".join(event[1] for event in found[:-1]) == payload


def test_a_message_in_fragments_with_a_ping_between() -> None:
    data = frame(BINARY, b"he", final=False) + frame(PING, b"p") + frame(CONTINUATION, b"llo")
    assert read(data) == [(BINARY, b"he", False, False), (PING, b"p"), (BINARY, b"llo", False, True)]


@given(st.lists(st.binary(max_size=300), max_size=5), st.lists(st.integers(0, 2000), max_size=8))
def test_reads_make_no_difference(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(frame(BINARY, payload) for payload in payloads) + frame(CLOSE, b"\x03\xe8bye")
    whole = [event for event in read(data, cuts) if event[0] == BINARY]
    assert [event[1] for event in whole] == [payload for payload in payloads if payload]
    assert read(data, cuts)[-1] == (CLOSE, b"\x03\xe8bye")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (frame(BINARY, b"x", rsv=0x20), "RSV2 and RSV3 must be clear"),
        (frame(BINARY, b"x", rsv=0x40), "compressed frame received without negotiated permessage-deflate"),
        (frame(BINARY, b"x", masked=False), "mask bit missing"),
        (frame(PING, b"x" * 126), "control frame length bigger than maximum allowed of 125 bytes"),
        (frame(PING, b"x", final=False), "control frame does not have final bit set"),
        (frame(BINARY, b"x", final=False) + frame(BINARY, b"y"), "new message started before final frame for previous"),
        (frame(CONTINUATION, b"x"), "invalid continuation frame"),
        (frame(3), "unknown opcode 3"),
        (b"\x82\xff\x80" + bytes(7) + KEY, "invalid 64-bit payload length"),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_what_is_an_error(data: bytes, text: str, step: int) -> None:
    with pytest.raises(FrameError, match=text):
        read(data, list(range(0, len(data), step)))


def test_compressed_control_frames_are_errors() -> None:
    with pytest.raises(FrameError, match="control frame must not be compressed"):
        read(frame(PING, rsv=0x40), compress=True)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_are_frames_or_an_error(data: bytes, cuts: list[int]) -> None:
    outcomes = []
    for some in (cuts, []):
        try:
            outcomes.append([event for event in read(data, some, compress=True) if event[0] != BINARY])
        except FrameError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1] or isinstance(outcomes[0], str)
