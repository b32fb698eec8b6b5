"""Types of natsc/jetstream/memstore.pyx, where everything is described."""

from natsc.jetstream.msgstore import MsgStore

class MemStore(MsgStore):
    def __init__(self) -> None: ...
    def close(self) -> None: ...
