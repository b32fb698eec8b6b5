"""How much of JetStream an account and the server have. natsc/jetstream/limits.py is what makes them keep to it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INT64_MAX = (1 << 63) - 1


class AccountLimits:
    """The limits of one account, or of one tier of it. Sizes in bytes."""

    __slots__ = (
        "max_ack_pending", "max_bytes_required", "max_consumers", "max_memory", "max_storage", "max_streams",
        "memory_max_stream_bytes", "storage_max_stream_bytes",
    )  # fmt: skip

    def __init__(
        self,
        max_memory: int = -1,
        max_storage: int = -1,
        max_streams: int = -1,
        max_consumers: int = -1,
        max_ack_pending: int = -1,
        memory_max_stream_bytes: int = -1,
        storage_max_stream_bytes: int = -1,
        max_bytes_required: bool = False,
    ) -> None:
        self.max_memory = max_memory
        self.max_storage = max_storage
        self.max_streams = max_streams
        self.max_consumers = max_consumers
        self.max_ack_pending = max_ack_pending
        self.memory_max_stream_bytes = memory_max_stream_bytes
        self.storage_max_stream_bytes = storage_max_stream_bytes
        self.max_bytes_required = max_bytes_required

    def as_json(self) -> dict[str, Any]:
        return {
            "max_memory": self.max_memory,
            "max_storage": self.max_storage,
            "max_streams": self.max_streams,
            "max_consumers": self.max_consumers,
            "max_ack_pending": self.max_ack_pending,
            "memory_max_stream_bytes": self.memory_max_stream_bytes,
            "storage_max_stream_bytes": self.storage_max_stream_bytes,
            "max_bytes_required": self.max_bytes_required,
        }


class ServerLimits:
    """What the server's own configuration limits; 0 means no limit. `duplicates` in ns, sizes in bytes."""

    __slots__ = ("duplicates", "max_ack_pending", "max_batch", "max_consumers", "max_memory", "max_storage")

    def __init__(
        self,
        max_memory: int = INT64_MAX,
        max_storage: int = INT64_MAX,
        max_ack_pending: int = 0,
        max_batch: int = 0,
        duplicates: int = 0,
        max_consumers: int = 0,
    ) -> None:
        self.max_memory = max_memory
        self.max_storage = max_storage
        self.max_ack_pending = max_ack_pending
        self.max_batch = max_batch
        self.duplicates = duplicates
        self.max_consumers = max_consumers  # of a stream, where neither it nor its account has a limit
