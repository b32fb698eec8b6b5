"""Types of natsc/jetstream/consumer_pulls.pyx, where everything is described."""

from typing import Any

from natsc.jetstream.consumer_acks import AckingConsumer

class PullingConsumer(AckingConsumer):
    def read_pull(self, body: bytes) -> Any: ...
    def limit_exceeded(self, batch: int, max_bytes: int) -> bytes: ...
    def announce_pin(self, pin: str, reason: str) -> None: ...
