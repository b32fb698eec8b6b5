"""What is kept of JetStream, opened again at start: streams and consumers with their configurations.

A stream that can't be opened stops no other one: it is reported, its data stay where they are, and it isn't there.
"""

from __future__ import annotations

import json

from natsc.jetstream.backend import StoreError
from natsc.jetstream.consumer_config import ConsumerConfig
from natsc.jetstream.layout import without_checksum
from natsc.jetstream.schema import DecodeError, Record, decode_one, encode
from natsc.jetstream.stream_config import LIMITS, StreamConfig
from natsc.jetstream.streams import CONSUMER_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from natsc.jetstream.service import JetStream

    R = TypeVar("R", bound=Record)

STREAM_KEY = b"stream/"


class RecoveryError(Exception):
    """What is kept can't be read; the text says why."""


def _kept(value: bytes, target: R) -> tuple[R, int, bool]:
    """A configuration, when it was created, and whether something of it is to be gone on with. Raises RecoveryError."""
    try:
        body = json.loads(without_checksum(value))
        return decode_one(encode(body["config"]), target), int(body["created"]), bool(body.get("unfinished"))
    except (ValueError, KeyError, TypeError, DecodeError) as error:
        raise RecoveryError(f"its configuration can't be read: {error}") from None


def recover(service: JetStream) -> None:
    """Opens every stream that is kept. Raises StoreError where the store itself can't be read."""
    from natsc.jetstream.streams import stream_key

    store = service.open_store()
    aborted = clear_aborted(service)
    names = {stream_key(account, name): (account, name) for account, name in store.stream_names()}
    names = {key: name for key, name in names.items() if key not in aborted}
    kept = dict(store.meta_items(STREAM_KEY))
    for key in sorted(names.keys() | kept.keys()):
        account, name = names.get(key, ("", key[len(STREAM_KEY) :].decode("ascii", "replace")))
        try:
            if key not in names or key not in kept:
                raise RecoveryError("its own record is gone" if key in kept else "its configuration is gone")
            _recover_stream(service, account, kept[key])
        except (RecoveryError, StoreError) as error:
            service.server.log.error(
                f"JetStream can't open the stream '{account} > {name}', and leaves it as it is: {error}"
            )
            service.broken.append(f"{account} > {name}")
    service.outbox.end_soon()
    service.engine.end_turn()


def _recover_stream(service: JetStream, account: str, value: bytes) -> None:
    log = service.server.log
    backend = service.accounts.get(account)
    config, created, unfinished = _kept(value, StreamConfig())
    if backend is None:
        raise RecoveryError(f"there is no account {account!r}")
    stream = backend.open_stream(config, created)
    where = f"'{account} > {config.name}'"
    try:
        # All of them before anything else: without one of its consumers a stream would drop what that needs.
        consumers = [
            (key[len(CONSUMER_KEY) :].decode("utf-8", "surrogateescape"), value)
            for key, value in stream.store.consumer_items(CONSUMER_KEY)
        ]
        stream.recover(service.clock.wall_ns())
        for name, value in consumers:
            try:
                stream.open_consumer(name, *_kept(value, ConsumerConfig())[:2])
            except (RecoveryError, StoreError) as error:
                if config.retention != LIMITS:
                    raise RecoveryError(f"its consumer {name!r} can't be opened: {error}") from None
                log.error(f"JetStream can't open the consumer {where[:-1]} > {name}', and leaves it as it is: {error}")
    except (RecoveryError, StoreError):
        stream.abandon()
        raise
    stream.expire(service.clock.wall_ns())
    if unfinished:
        stream.finish()
    log.notice(f"  Restored {stream.state().messages:,} messages for stream {where}")


def clear_aborted(service: JetStream) -> set[bytes]:
    """Drops what restores have left that a crash has ended; the keys of these streams."""
    from natsc.jetstream.staging import RESTORE_KEY
    from natsc.jetstream.streams import stream_key

    store = service.open_store()
    complete = {key for key, _ in store.meta_items(STREAM_KEY)}
    aborted = set()
    for key, value in store.meta_items(RESTORE_KEY):
        account, _, name = value.decode("utf-8", "surrogateescape").partition("\0")
        if stream_key(account, name) not in complete:
            store.open_stream(account, name).drop()
            aborted.add(stream_key(account, name))
            service.server.log.warn(f"JetStream drops the stream '{account} > {name}': its restore wasn't finished")
        store.meta_delete(key)
    return aborted
