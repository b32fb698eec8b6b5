"""`natsc fsck`: every record and index of a store is verified, reported, and what is whole can be exported.

What a report is made of: the store's own keys, then each stream: its record, messages, checkpoint, configuration and
consumers. A stream is exported as a backup (backup.json, stream.arc.s2) that any server restores.
"""

from __future__ import annotations

import json
import os
import time

from natsc.jetstream.archive import ArchiveWriter
from natsc.jetstream.gotime import ZERO, Time
from natsc.jetstream.layout import encode_name, stream_name, without_checksum
from natsc.jetstream.schema import DecodeError, decode_one, encode
from natsc.jetstream.store import kept_id, key_file
from natsc.jetstream.stored_consumers import StoredConsumer, read_consumers
from natsc.jetstream.storefile import FileError, StoredStream, StoreFile
from natsc.jetstream.storekey import is_whole
from natsc.jetstream.storetools import DAMAGED, WELL, ToolError
from natsc.jetstream.stream_config import StreamConfig, StreamState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.jetstream.storetools import Key

_KNOWN = (b"format", b"id", b"key", b"s/", b"k/", b"q/", b"u/")
_CONFIGS = b"u/stream/"
_RESTORES = b"u/restore/"
_PIECE = 1 << 20


class StreamReport:
    """One stream: what there is of it, and what is wrong with it."""

    def __init__(self, stored: StoredStream, config: StreamConfig | None, consumers: list[StoredConsumer]) -> None:
        self.stored = stored
        self.config = config
        self.consumers = consumers
        self.problems: list[str] = list(stored.problems)
        self.exported = ""

    @property
    def label(self) -> str:
        return f"{self.stored.account} > {self.stored.stream}"

    def state(self) -> StreamState:
        now = self.stored.state_dict()
        return StreamState(
            messages=now["msgs"], bytes=now["bytes"], first_seq=now["first_seq"], last_seq=now["last_seq"],
            first_ts=Time(now["first_ts_ns"] or ZERO), last_ts=Time(now["last_ts_ns"] or ZERO),
            num_subjects=now["num_subjects"], num_deleted=now["num_deleted"],
            consumer_count=sum(consumer.config is not None for consumer in self.consumers),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        return {
            "account": self.stored.account,
            "stream": self.stored.stream,
            "state": self.state().as_json(),
            "damaged_messages": self.stored.damaged,
            "consumers": [consumer.name for consumer in self.consumers],
            "problems": self.problems,
            **({"exported": self.exported} if self.exported else {}),
        }

    def lines(self) -> list[str]:
        state = self.state()
        verdict = f"{len(self.problems)} problem{'s' * (len(self.problems) > 1)}" if self.problems else "whole"
        first = (
            f"{self.label}: {state.messages:,} messages, {state.bytes:,} bytes, sequences {state.first_seq:,} to "
            f"{state.last_seq:,}, {len(self.consumers)} consumers: {verdict}"
        )
        found = [first, *(f"  {problem}" for problem in self.problems)]
        if self.exported:
            found.append(f"  exported to {self.exported}")
        return found


class Report:
    def __init__(self, file: StoreFile) -> None:
        self.format, self.id = file.identity()
        self.path = file.path
        self.encrypted = file.vault is not None
        self.problems: list[str] = []
        self.streams: list[StreamReport] = []

    @property
    def whole(self) -> bool:
        return not self.problems and not any(stream.problems for stream in self.streams)

    def as_json(self) -> dict[str, Any]:
        return {
            "store": self.path,
            "format": self.format,
            "id": self.id,
            "encrypted": self.encrypted,
            "whole": self.whole,
            "problems": self.problems,
            "streams": [stream.as_json() for stream in self.streams],
        }

    def content(self) -> tuple[Any, ...]:
        """What is in the store, wherever its file is."""
        return self.format, self.id, self.problems, [stream.as_json() for stream in self.streams]

    def text(self) -> str:
        damaged = sum(bool(stream.problems) for stream in self.streams)
        encrypted = ", encrypted" if self.encrypted else ""
        lines = [f"{self.path}: format {self.format}, id {self.id}{encrypted}"]
        lines += [f"  {problem}" for problem in self.problems]
        for stream in self.streams:
            lines += stream.lines()
        lines.append("All is whole" if self.whole else f"{len(self.streams)} streams, {damaged} of them damaged")
        return "\n".join(lines)


def examine(file: StoreFile) -> Report:
    """Verify everything in a store's file. Raises FileError where it is none, or is encrypted and wasn't unlocked."""
    report = Report(file)
    kept, problems = file.kept()
    report.problems += problems
    if b"key" in kept:
        if file.vault is None:
            raise FileError(f"{file.path} is encrypted, and can't be verified without its key")
        if not is_whole(kept[b"key"]):
            report.problems.append("its key is damaged: it was read from the file 'key'")
    elif file.vault is not None:
        report.problems.append("its key is gone: it was read from the file 'key'")
    for key in kept:
        if not key.startswith(_KNOWN):
            report.problems.append(f"nobody knows what {key[:80]!r} is")
    for key, value in kept.items():
        if key.startswith(b"s/"):
            report.streams.append(_examine_stream(file, key[2:], value, kept))
    streams = {stream_name(stream.stored.account, stream.stored.stream) for stream in report.streams}
    for key in kept:
        if key.startswith(_CONFIGS) and key[len(_CONFIGS) :] not in streams:
            report.problems.append(f"{_shown(key[len(_CONFIGS) :])} has a configuration, and no messages")
    _find_strays(file, {stream.stored.name for stream in report.streams}, report)
    report.streams.sort(key=lambda stream: stream.label)
    return report


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _find_strays(file: StoreFile, names: set[bytes], report: Report) -> None:
    """Databases of no stream."""
    databases, error = file.items(None)
    if error:
        report.problems.append(f"the list of databases can't be read to the end: {error}")
    for name, _ in databases:
        if name != b"meta" and not (name[:2] in (b"m/", b"c/") and name[2:] in names):
            report.problems.append(f"the database {_shown(name)!r} belongs to no stream")


def _examine_stream(file: StoreFile, name: bytes, record: bytes, kept: dict[bytes, bytes]) -> StreamReport:
    """name: of its databases. A configuration is kept under its own name, which an encrypted store has only there."""
    stored = StoredStream(file, name, record)
    key = stream_name(stored.account, stored.stream)
    config: StreamConfig | None = None
    wrong = ""
    value = kept.get(_CONFIGS + key)
    if value is not None:
        try:
            config = decode_one(encode(json.loads(without_checksum(value))["config"]), StreamConfig())
        except (ValueError, KeyError, TypeError, RecursionError, DecodeError) as error:
            wrong = f"its configuration can't be read: {error}"
    elif _RESTORES + key not in kept:
        wrong = "it has no configuration"
    try:
        items, unread = file.consumer_items(name)
        consumers, problems = read_consumers(items)
        problems += unread
    except (KeyError, FileError) as error:
        consumers, problems = [], [f"its consumers can't be read: {error}"]
    report = StreamReport(stored, config, consumers)
    report.problems += ([wrong] if wrong else []) + problems
    for consumer in consumers:
        report.problems += [f"consumer {consumer.name}: {problem}" for problem in consumer.problems]
    return report


def export(report: Report, directory: str) -> None:
    """Write a backup of each stream. Raises ToolError, OSError."""
    if os.path.isdir(directory) and os.listdir(directory):
        raise ToolError(f"{directory} isn't empty")
    for stream in report.streams:
        where = os.path.join(directory, *(_folder(part) for part in (stream.stored.account, stream.stored.stream)))
        os.makedirs(where, 0o700)
        state = stream.state()
        config = stream.config or StreamConfig(name=stream.stored.stream, storage="file")
        with open(os.path.join(where, "stream.arc.s2"), "xb") as file:
            _write_archive(stream, state, file)
        with open(os.path.join(where, "backup.json"), "x") as file:
            json.dump({"config": config.as_json(), "state": state.as_json()}, file, indent=2)
        stream.exported = where


def _folder(name: str) -> str:
    """A name as that of a folder, which can't lead elsewhere."""
    folder: str = encode_name(name).decode()
    return folder.replace(".", "%2E") if folder.strip(".") == "" else folder


def _write_archive(stream: StreamReport, state: StreamState, file: Any) -> None:
    writer = ArchiveWriter(stream.stored)
    now = time.time_ns()
    writer.write_entry(b"state.json", now, encode(state.as_json()))
    for consumer in stream.consumers:
        body = consumer.as_entry(state.last_seq)
        if body is not None:
            writer.write_entry(f"consumers/{consumer.name}".encode("utf-8", "surrogateescape"), now, encode(body))
    while not writer.done:
        writer.write_messages(_PIECE, 1 << 60)
        file.write(writer.take(1 << 30))


def run(directory: str, key: Key, *, as_json: bool = False, export_to: str | None = None) -> int:
    """Examine, export, report. Returns the exit code. Raises ToolError, OSError."""
    try:
        file = StoreFile(directory)
    except FileError as error:
        raise ToolError(str(error)) from None
    try:
        file.unlock(*key)
        report = examine(file)
        told = kept_id(directory)
        if told is not None and told != report.id:
            report.problems.append(f"its id is {report.id}, and the file 'id' says {told}")
        if file.vault is not None and key_file(directory) != [value for _, value in file.meta(b"key")[0]]:
            report.problems.append("the file 'key' isn't what the store has: the next start writes it")
        if export_to is not None:
            export(report, export_to)
    except FileError as error:
        raise ToolError(str(error)) from None
    finally:
        file.close()
    print(json.dumps(report.as_json(), indent=2) if as_json else report.text())
    return WELL if report.whole else DAMAGED
