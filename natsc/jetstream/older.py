"""Archives that nats-server made before 2.15: an S2 stream of a tar file with its storage's own files.

    meta.inf, meta.sum                       the stream's configuration
    msgs/<n>.blk, msgs/index.db              messages, and what of them is gone (natsc/jetstream/blocks.pyx)
    obs/<consumer>/meta.inf, meta.sum, o.dat the consumers' configurations and states

They are read, never written. Nothing is unpacked: names mean what they say here, or nothing at all.
"""

from __future__ import annotations

import json
import re
from hashlib import sha256

from natsc.jetstream.archive import ArchiveError, ArchiveReader
from natsc.jetstream.archived import ArchivedConsumer
from natsc.jetstream.blocks import BlockReader, apply_index
from natsc.jetstream.consumer_config import ConsumerConfig
from natsc.jetstream.gotime import parse_time
from natsc.jetstream.schema import DecodeError, decode_one, encode
from natsc.jetstream.staging import RestoreError, Staging
from natsc.jetstream.transfer import count_usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from natsc.jetstream.account import AccountJetStream
    from natsc.jetstream.stream_config import StreamConfig

_BLOCK = 512
_META_MAX = 1 << 20
_STATE_MAX = 64 << 20  # of what is read whole: the state of the stream, of a consumer
_PIECE = 64 << 10
_BLOCK_NAME = re.compile(r"msgs/(\d{1,9})\.blk")
_CONSUMER_NAME = re.compile(r"obs/([^/]+)/(meta\.inf|o\.dat)")
_BEFORE_210 = re.compile(r"msgs/\d+\.(idx|fss)")
_SECOND = 1_000_000_000


class OlderArchive:
    """As natsc.jetstream.restore.Archive. read_ttl: what is in a header, in ns."""

    def __init__(
        self, owner: AccountJetStream, config: StreamConfig, reader: ArchiveReader, read_ttl: Callable[[bytes], int]
    ) -> None:
        self.owner = owner
        self.config = config
        self.reader = reader
        self.read_ttl = read_ttl
        self.done = False
        self.staging: Staging | None = None
        self._blocks = BlockReader()
        self._last_block = 0
        self._in_block = False
        self._skip = 0  # bytes of the tar file that nobody needs, before the next entry
        self._entry: tuple[str, int] | None = None  # the file that is read whole
        self._path = ""  # of the next entry, where it is too long for its head
        self._created = 0
        self._index = b""
        self._consumers: dict[str, dict[str, bytes]] = {}
        self._consumers_room = _STATE_MAX

    def step(self, budget: int) -> bool:
        """Work on what was fed, about `budget` bytes of it. False where more must come first."""
        stop = self.reader.decoded + budget
        while not self.done and self.reader.decoded < stop:
            if self._in_block:
                ready = self._take_messages(budget)
            elif self._entry is not None:
                ready = self._take_file(*self._entry)
            elif self._skip:
                ready = self._take_skipped()
            else:
                ready = self._take_head()
            if not ready:
                return False
        return True

    # The tar file

    def _take_head(self) -> bool:
        head = self.reader.read_bytes(_BLOCK)
        if head is None:
            return False
        if not head.strip(b"\0"):
            self.done = True
            return True
        try:
            if sum(head) - sum(head[148:156]) + 8 * 32 != _octal(head[148:156]):
                raise ValueError
            size = _octal(head[124:136])
        except ValueError:
            raise RestoreError("archive/tar: invalid tar header") from None
        kind = head[156:157]
        prefix = _name(head[345:500]) + "/" if head[345:346] != b"\0" else ""
        path, self._path = self._path or prefix + _name(head[:100]), ""
        self._skip = -size % _BLOCK
        if kind in (b"x", b"g"):
            self._begin("", size, _META_MAX)
        elif kind in (b"0", b"\0"):
            self._open(path, size)
        else:
            raise self._unexpected()
        return True

    def _unexpected(self) -> RestoreError:
        return RestoreError(f"unexpected content (account={self.owner.account.name})")

    def _begin(self, path: str, size: int, most: int) -> None:
        if size > most:
            raise RestoreError(f"{path or 'a header of the archive'} is too large")
        self._entry = path, size

    def _open(self, path: str, size: int) -> None:
        """A file begins."""
        if path.startswith("/") or ".." in path.split("/"):
            raise self._unexpected()
        if self.staging is None:
            self.staging = Staging(self.owner, self.config, 0)
        block = _BLOCK_NAME.fullmatch(path)
        if block is not None:
            self._last_block = int(block[1])
            self._blocks.begin(sha256(f"{self.config.name}-{self._last_block}".encode()).digest(), size)
            self._in_block = True
        elif path in ("meta.inf", "errors.txt"):
            self._begin(path, size, _META_MAX)
        elif path == "msgs/index.db":
            self._begin(path, size, _STATE_MAX)
        elif _CONSUMER_NAME.fullmatch(path):
            self._begin(path, size, self._consumers_room)
            self._consumers_room -= size
        elif _BEFORE_210.fullmatch(path):
            raise RestoreError(
                "a backup of nats-server before 2.10: restore it there, then back it up with a later one"
            )
        else:
            self._skip += size

    def _take_skipped(self) -> bool:
        n = min(self._skip, _PIECE)
        if self.reader.read_bytes(n) is None:
            return False
        self._skip -= n
        return True

    def _take_file(self, path: str, size: int) -> bool:
        data = self.reader.read_bytes(size)
        if data is None:
            return False
        self._entry = None
        if not path:
            self._path = _pax_path(data)
        elif path == "meta.inf":
            self._take_meta(data)
        elif path == "errors.txt":
            raise RestoreError(f"the backup failed: {data.decode('utf-8', 'replace')}")
        elif path == "msgs/index.db":
            self._index = data
        else:
            found = _CONSUMER_NAME.fullmatch(path)
            assert found is not None
            self._consumers.setdefault(found[1], {})[found[2]] = data
        return True

    # What is in it

    def _take_meta(self, data: bytes) -> None:
        try:
            meta = json.loads(data)
            name, created = meta["name"], parse_time(meta["Created"]).ns
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RestoreError(f"error in meta.inf: {error}") from None
        if name != self.config.name:
            raise RestoreError("stream names do not match")
        self._created = created

    def _take_messages(self, budget: int) -> bool:
        assert self.staging is not None
        store = self.staging.stream.store
        room = self.staging.room() + store.bytes
        ready: bool = self._blocks.step(
            self.reader, store, self.owner.service.server.options.max_payload, self.config.max_msg_size or -1,
            self.owner.now(), room, budget, self.read_ttl,
        )  # fmt: skip
        self.owner.outbox.end_soon()
        if store.bytes > room:
            raise self.staging.limit
        count_usage(self.staging.stream)
        self._in_block = self._blocks.left > 0
        return ready

    def finish(self) -> Staging:
        """Everything was fed. Raises RestoreError where that wasn't all, ArchiveError."""
        if self.staging is None or not self.done or not self._created:
            raise RestoreError("backup was truncated")
        store, last = self.staging.stream.store, self._blocks.last_seq
        if self._index:
            key = sha256(self.config.name.encode()).digest()
            known = apply_index(store, key, self._index, self._last_block, self._blocks.last_sum or bytes(8))
            last = max(last, known or 0)
            count_usage(self.staging.stream)
        if last:
            store.skip(last + 1, max(self._blocks.last_ts_ns, 0))
        self.staging.created = self._created
        for name, files in self._consumers.items():
            self.staging.consumers.append(_read_consumer(name, files, store.last_seq))
        return self.staging


def _octal(field: bytes) -> int:
    """A number of a tar header. Raises ValueError."""
    if field[0] & 128:
        number = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    else:
        number = int(field.strip(b" \0") or b"0", 8)
    if not 0 <= number < 1 << 62:
        raise ValueError
    return number


def _name(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax_path(data: bytes) -> str:
    """The path in an extended header, or ""."""
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or len(length) > 9 or not 0 < int(length) <= len(data):
            raise RestoreError("archive/tar: invalid tar header")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "surrogateescape")
        data = data[int(length) :]
    return ""


def _read_consumer(name: str, files: dict[str, bytes], last_seq: int) -> ArchivedConsumer:
    try:
        meta = json.loads(files["meta.inf"])
        created = parse_time(meta["Created"]).ns
        # The configuration has its own name, in small letters.
        config = decode_one(encode({key: value for key, value in meta.items() if key[:1].islower()}), ConsumerConfig())
        found = _read_state(files["o.dat"]) if "o.dat" in files else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DecodeError, ArchiveError) as error:
        raise RestoreError(f'error restoring consumer ["{name}"]: {error}') from None
    position, pending, redelivered = found or (None, [], {})
    archived = ArchivedConsumer(name, config, position, pending, redelivered, last_seq)
    archived.created = created
    return archived


def _read_state(data: bytes) -> tuple[tuple[int, int, int, int], list[tuple[int, int, int]], dict[int, int]] | None:
    """A consumer's state: its position, what is pending, what was redelivered. Raises ValueError."""
    if not data:
        return None
    if data[0] != 22 or len(data) < 2 or data[1] not in (1, 2):
        raise ValueError("corrupt state file")
    version, at = data[1], 2

    def number() -> int:
        nonlocal at
        found = shift = 0
        while True:
            if at >= len(data) or shift > 63:
                raise ValueError("corrupt state file")
            byte = data[at]
            at += 1
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found

    def signed() -> int:
        found = number()
        return -(found >> 1) - 1 if found & 1 else found >> 1

    floor_dseq, floor_sseq, delivered_dseq, delivered_sseq = number(), number(), number(), number()
    if version == 1:
        delivered_dseq += max(floor_dseq - 1, 0)
        delivered_sseq += max(floor_sseq - 1, 0)
    pending = []
    count = number()
    base = signed() if count else 0
    for _ in range(count):
        seq = floor_sseq + number()
        dseq = floor_dseq + number() if version == 2 else 0
        since = signed()
        pending.append((seq, dseq, max((base - since if version == 2 else base + since) * _SECOND, 0)))
    redelivered = {}
    for _ in range(number()):
        seq, times = floor_sseq + number(), number()
        redelivered[seq] = min(times, (1 << 31) - 1)
    return (delivered_dseq, delivered_sseq, floor_dseq, floor_sseq), pending, redelivered
