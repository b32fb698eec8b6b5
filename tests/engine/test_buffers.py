"""Output buffers: what is queued comes out as it went in, whatever the size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsc.testing.world import World


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 200), st.integers(0, 70000)), st.booleans()), max_size=30
    )
)
def test_what_is_queued_comes_out(steps):
    world = World()
    peers = [world.connect() for _ in range(4)]
    queued = [b""] * 4
    for number, (who, size, take) in enumerate(steps):
        data = bytes([number]) * size
        peers[who].client.send(data)
        queued[who] += data
        assert peers[who].client.pending_bytes == len(queued[who])
        if take:
            assert peers[who].client.take_output() == queued[who]
            queued[who] = b""
    for peer, data in zip(peers, queued, strict=True):
        assert peer.client.take_output() == data
        assert peer.client.take_output() == b""


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8192, 100000, 1 << 20, (1 << 20) + 1])
def test_sizes_around_those_of_the_pool(world, size):
    peer = world.connect()
    for _ in range(3):
        peer.client.send(b"x" * size)
        peer.client.send(b"y")
        assert peer.client.take_output() == b"x" * size + b"y"


def test_more_than_the_largest_buffer_closes():
    world = World(max_pending=1 << 40)
    peer = world.connect()
    peer.blocked = True
    block = b"x" * (16 << 20)
    for _ in range(9):
        peer.client.send(block)
    assert peer.reason == "Slow Consumer (Pending Bytes)"
    assert peer.client.pending_bytes == 0


def test_many_clients_at_once():
    world = World()
    peers = [world.connect() for _ in range(300)]
    for peer in peers:
        peer.say(b"SUB all 1\r\n")
    for size in (0, 10, 5000):
        message = b"%d\r\n%s\r\n" % (size, b"x" * size)
        peers[0].say(b"PUB all " + message)
        assert peers[0].out == b""
        assert all(peer.take() == b"MSG all 1 " + message for peer in peers[1:])
