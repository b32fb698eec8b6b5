"""JetStream without a server: an engine whose clock stands still, one account, streams in memory, consumers.

js = JsWorld()
js.stream("S", "s.>")
js.consumer("S", "C", ack_policy="explicit")
js.publish("s.a", b"hello")
js.pull("S", "C", b"1")
assert js.messages() == [...]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from natsc.jetstream.account import AccountJetStream
from natsc.jetstream.consumer_check import create_or_update
from natsc.jetstream.consumer_config import ConsumerConfig
from natsc.jetstream.outbox import Outbox
from natsc.jetstream.quota import AccountLimits, ServerLimits
from natsc.jetstream.retained import Usage
from natsc.jetstream.stream_config import StreamConfig
from natsc.jetstream.streams import ManagedStream
from natsc.testing.world import Peer, World

MS = 1_000_000
SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND  # wall clock when a world begins


class Message(NamedTuple):
    """What a client got: the subject as its MSG line says it, the reply, the header block (b"" = none), the payload."""

    subject: str
    sid: str
    reply: str
    headers: bytes
    payload: bytes

    @property
    def status(self) -> str:
        """Of a status message, what stands behind NATS/1.0."""
        return self.headers.split(b"\r\n")[0][9:].decode()

    @property
    def ack(self) -> tuple[int, int, int, int]:
        """Deliveries, stream sequence, consumer sequence and pending of its reply subject."""
        tokens = self.reply.split(".")
        assert tokens[:2] == ["$JS", "ACK"] and len(tokens) == 9
        return int(tokens[4]), int(tokens[5]), int(tokens[6]), int(tokens[8])

    def header(self, name: str) -> str | None:
        for line in self.headers.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode() == name:
                return value.strip().decode()
        return None


def parse(data: bytes) -> list[Message]:
    found = []
    while data:
        line, _, data = data.partition(b"\r\n")
        op, subject, sid, *rest = line.decode().split(" ")
        hdr_len = int(rest[-2]) if op == "HMSG" else 0
        reply = rest[0] if len(rest) > (2 if op == "HMSG" else 1) else ""
        size = int(rest[-1])
        found.append(Message(subject, sid, reply, data[:hdr_len], data[hdr_len:size]))
        assert op in ("MSG", "HMSG") and data[size : size + 2] == b"\r\n"
        data = data[size + 2 :]
    return found


class FakeClock:
    def __init__(self, world: JsWorld) -> None:
        self.world = world

    def wall_ns(self) -> int:
        return START_NS + self.world.engine.now_ns() - SECOND

    def call_later(self, delay: float, callback: Callable[[], object]) -> Any:
        raise AssertionError("no timer of Python's is expected")


class FakeServer:
    server_name = "TEST"


class FakeService:
    """What an AccountJetStream needs of natsc.jetstream.service.JetStream."""

    server = FakeServer()
    strict = True
    domain = ""
    long_acks = False
    failure = ""
    broken: tuple[str, ...] = ()
    limits = ServerLimits()

    def __init__(self, world: JsWorld) -> None:
        self.engine = world.engine
        self.clock = FakeClock(world)
        self.outbox = Outbox(world.engine, self.clock)
        self.space = Usage()
        self.api_total = self.api_errors = 0

    def reserved(self, *, in_memory: bool) -> int:
        return 0

    def listen_direct(self, *_: object) -> None:
        pass

    def unlisten_direct(self, *_: object) -> None:
        pass

    def listen_for_origin(self, *_: object) -> None:
        pass


class JsWorld(World):
    def __init__(self, **options: Any) -> None:
        super().__init__(headers=True, **options)
        self.service = FakeService(self)
        self.js = AccountJetStream(self.service, self.account())  # type: ignore[arg-type]
        self.js.enable({"": AccountLimits()})
        self.client = self.connect()
        self.say(b"SUB _INBOX.> 1\r\n")

    def say(self, data: bytes) -> None:
        """As the first client."""
        self.receive(self.client, data)

    def messages(self, peer: Peer | None = None) -> list[Message]:
        """What a client, the first one if no other is named, got since the last time."""
        return parse((peer or self.client).take())

    def statuses(self) -> list[str]:
        return [one.status for one in self.messages()]

    def stream(self, name: str, *subjects: str, **config: Any) -> ManagedStream:
        made = StreamConfig()
        made.name, made.subjects, made.storage = name, list(subjects), "memory"
        made.num_replicas = 1
        for attribute, value in config.items():
            setattr(made, attribute, value)
        stream = self.js.create_stream(made)
        self.end_turn()
        return stream

    def consumer(self, stream: str, name: str, **config: Any) -> Any:
        """Create or change a consumer, a durable one unless durable=False."""
        made = ConsumerConfig()
        made.name = name
        made.durable_name = name if config.pop("durable", True) else ""
        made.ack_policy = "explicit"
        for attribute, value in config.items():
            setattr(made, attribute, value)
        found = self.js.stream(stream)
        assert found is not None
        consumer = create_or_update(found, made, "", self.js, False)
        self.end_turn()
        return consumer

    def publish(self, subject: str, payload: bytes = b"", headers: bytes = b"", reply: str = "") -> None:
        parts = [subject, *([reply] if reply else [])]
        if headers:
            parts += [str(len(headers)), str(len(headers) + len(payload))]
            self.say(b"HPUB %b\r\n%b%b\r\n" % (" ".join(parts).encode(), headers, payload))
        else:
            self.say(b"PUB %b %d\r\n%b\r\n" % (" ".join(parts).encode(), len(payload), payload))

    def fill(self, count: int, subject: str = "s.a") -> None:
        for number in range(count):
            self.publish(subject, b"%d" % number)

    def pull(
        self, stream: str, consumer: str, body: bytes = b"", reply: str = "_INBOX.1", headers: bytes = b""
    ) -> None:
        self.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", body, headers, reply)

    def ack(self, message: Message, body: bytes = b"", reply: str = "") -> None:
        self.publish(message.reply, body, b"", reply)

    def info(self, stream: str, consumer: str) -> dict[str, Any]:
        """The numbers of a consumer's state."""
        state = self.js.stream(stream).consumer(consumer).state()  # type: ignore[union-attr]
        self.end_turn()
        return {
            "delivered": (state.delivered.consumer_seq, state.delivered.stream_seq),
            "floor": (state.ack_floor.consumer_seq, state.ack_floor.stream_seq),
            "ack_pending": state.num_ack_pending,
            "redelivered": state.num_redelivered,
            "waiting": state.num_waiting,
            "pending": state.num_pending,
        }
