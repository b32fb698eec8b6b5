"""Types of natsc/jetstream/transfer.pyx, where everything is described."""

from typing import Any

from natsc.jetstream.stream import Stream

def count_usage(stream: Stream) -> None: ...
def reveal(stream: Stream) -> None: ...
def take_state(c: Any, last_seq: int) -> dict[str, Any]: ...
def set_created(c: Any, created_ns: int) -> None: ...
def put_state(
    c: Any,
    delivered_dseq: int,
    delivered_sseq: int,
    floor_dseq: int,
    floor_sseq: int,
    pending: list[Any],
    redelivered: dict[Any, Any],
) -> None: ...
