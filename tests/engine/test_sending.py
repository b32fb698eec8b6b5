"""Output over real sockets that take little at a time: nothing is lost, doubled or out of order, whichever way it left.

A message may wait in the client's buffer, leave at the end of the turn, go straight from the read buffer (big ones),
leave within the turn (many receivers), or be handed to the transport. Who reads compares with what it must get.
"""

from __future__ import annotations

import contextlib
import random
import socket

import pytest

from natsc.net.protocol import ClientProtocol
from natsc.testing.world import Peer, World


class Transport:
    """As asyncio's: keeps what the socket doesn't take, and calls resume_writing once that is gone."""

    def __init__(self, sock: socket.socket, protocol: ClientProtocol) -> None:
        self.sock = sock
        self.protocol = protocol
        self.waiting = bytearray()
        self.given = 0
        self.broken = False

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self.sock if name == "socket" else None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def is_closing(self) -> bool:
        return self.broken

    def write(self, data: bytes) -> None:
        self.given += len(data)
        self.waiting += data
        self.pump()

    def pump(self) -> None:
        """What the event loop does when the socket can be written to."""
        had = bool(self.waiting)
        try:
            while self.waiting:
                del self.waiting[: self.sock.send(self.waiting)]
        except BlockingIOError:
            return
        except OSError:
            self.broken = True  # asyncio's would tell the protocol in the loop's next turn
            self.waiting.clear()
            return
        if had:
            self.protocol.resume_writing()

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Receiver:
    """A client at one end of a socket, and who reads at the other. Also what the protocol takes for its listener."""

    def __init__(self, world: World, sid: bytes, room: int = 4096) -> None:
        self.engine = world.engine
        self.sock, self.far = socket.socketpair()
        for sock in (self.sock, self.far):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        self.protocol = ClientProtocol(self)
        self.transport = Transport(self.sock, self.protocol)
        self.protocol.connection_made(self.transport)
        self.client = world.engine.connect(world.account(), self.protocol, "127.0.0.1", 1)
        self.protocol.attach(self.client)
        self.client.set_connect(False, False, True, True)  # without headers, no message takes the short ways
        world.peers[self.client.cid] = Peer(world, self.client, "r")
        world.peers[self.client.cid].blocked = True
        self.sid = sid
        self.got = bytearray()
        self.engine.receive(self.client, b"SUB foo.* %s\r\n" % sid)

    def accepted(self, protocol: ClientProtocol) -> None:
        pass

    def read(self, size: int) -> bool:
        """Whether something was there."""
        before = len(self.got)
        with contextlib.suppress(BlockingIOError):
            self.got += self.far.recv(size)
        self.transport.pump()
        return len(self.got) > before

    def close(self) -> None:
        self.sock.close()
        self.far.close()


@pytest.mark.parametrize("receivers", [1, 3, 40])
@pytest.mark.parametrize("room", [4096, 200_000])
@pytest.mark.parametrize("seed", range(3))
def test_every_byte_arrives(seed, receivers, room):
    rng = random.Random(seed)
    world = World()
    sender = world.connect()
    peers = [Receiver(world, b"%d" % i, room) for i in range(receivers)]
    sent: list[bytes] = []
    for step in range(120 if receivers < 40 else 30):
        batch = []
        for _ in range(rng.choice([1, 1, 2, 10])):
            size = rng.choice([0, 5, 100, 3000, 16383, 16384, 20000, 70000])
            message = b"foo.%d %d\r\n%s\r\n" % (rng.randrange(3), size, bytes([step % 251]) * size)
            batch.append(message)
        sender.say(b"".join(b"PUB " + message for message in batch))
        sent += batch
        for peer in peers:
            for _ in range(rng.randrange(4)):
                peer.read(rng.choice([1, 1000, 100_000]))
    for peer in peers:
        while peer.read(1 << 20):
            pass
        expected = b"".join(b"MSG %s %s %s" % (m[:5], peer.sid, m[6:]) for m in sent)
        assert bytes(peer.got) == expected
        assert peer.client.pending_bytes == 0
        assert not peer.client.closing
        peer.close()
    assert any(peer.transport.given for peer in peers)


@pytest.mark.parametrize("no_stall", [False, True])
def test_a_receiver_that_takes_nothing(no_stall):
    """Beyond max_pending it is closed; with no_fast_producer_stall it gets nothing from three quarters of that on."""
    world = World(max_pending=1 << 20)
    world.engine.configure(no_stall=no_stall)
    sender, receiver = world.connect(), Receiver(world, b"1")
    for _ in range(30):
        sender.say(b"PUB foo.x 65536\r\n%s\r\n" % (b"x" * 65536))
    if no_stall:
        assert 0 <= receiver.client.pending_bytes - (3 << 18) < 70_000
        while receiver.read(1 << 20):
            pass
        assert len(receiver.got) % (65536 + 21) == 0
        assert receiver.client.out_msgs == len(receiver.got) // (65536 + 21) < 15
    assert receiver.client.reason == ("" if no_stall else "Slow Consumer (Pending Bytes)")
    receiver.close()


def test_a_receiver_that_closed_its_socket_harms_nobody():
    world = World()
    sender = world.connect()
    gone, there = Receiver(world, b"1"), Receiver(world, b"2")
    gone.far.close()
    for size in (10, 20000, 10):
        sender.say(b"PUB foo.x %d\r\n%s\r\n" % (size, b"x" * size))
        while there.read(1 << 20):
            pass
    assert there.got.count(b"MSG ") == 3
    there.close()
    gone.sock.close()
