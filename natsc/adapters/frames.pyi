"""Types of natsc/adapters/frames.pyx, where everything is described."""

from typing import Any

CONTINUATION: int
TEXT: int
BINARY: int
CLOSE: int
PING: int
PONG: int

class FrameError(Exception): ...

class FrameReader:
    def __init__(self, compress: bool, masked: bool = True) -> None: ...
    def feed(self, data: bytes) -> list[Any]: ...

def frame_header(kind: int, size: int, first: bool = True, final: bool = True, compressed: bool = False) -> bytes: ...
