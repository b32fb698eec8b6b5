"""Types of natsc/jetstream/blocks.pyx, where everything is described."""

from typing import Any

from natsc.jetstream.archive import ArchiveReader
from natsc.jetstream.msgstore import MsgStore

class BlockReader:
    @property
    def left(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def last_ts_ns(self) -> int: ...
    @property
    def last_sum(self) -> bytes: ...
    def begin(self, key: bytes, size: int) -> None: ...
    def step(
        self,
        reader: ArchiveReader,
        store: MsgStore,
        max_payload: int,
        max_msg_size: int,
        now_ns: int,
        room: int,
        budget: int,
        read_ttl: Any,
    ) -> bool: ...
    def note_last(self, seq: int, ts: int) -> None: ...

def highway_hash(key: bytes, data: bytes) -> bytes: ...
def apply_index(store: MsgStore, key: bytes, data: bytes, last_block: int, last_sum: bytes) -> int | None: ...
