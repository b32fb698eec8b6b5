"""What is kept of JetStream, opened again at start: streams and consumers with their configurations.

A stream that can't be opened stops no other one: it is reported, its data stay where they are, and it isn't there.
"""

from __future__ import annotations

import json

from natsc.jetstream.backend import StoreError
from natsc.jetstream.consumer_config import ConsumerConfig
from natsc.jetstream.schema import DecodeError, Record, decode_one, encode
from natsc.jetstream.stream_config import StreamConfig
from natsc.jetstream.streams import CONSUMER_KEY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from natsc.jetstream.service import JetStream
    from natsc.jetstream.streams import ManagedStream

    R = TypeVar("R", bound=Record)

STREAM_KEY = b"stream/"


class RecoveryError(Exception):
    """What is kept can't be read; the text says why."""


def _kept(value: bytes, target: R) -> tuple[R, int]:
    """A configuration and when it was created. Raises RecoveryError."""
    try:
        body = json.loads(value)
        return decode_one(encode(body["config"]), target), int(body["created"])
    except (ValueError, KeyError, TypeError, DecodeError) as error:
        raise RecoveryError(f"its configuration can't be read: {error}") from None


def recover(service: JetStream) -> None:
    """Opens every stream that is kept. Raises StoreError where the store itself can't be read."""
    from natsc.jetstream.store import StoreError as Failure

    log = service.server.log
    store = service.open_store()
    clear_aborted(service)
    labels = {}
    for account, name in store.stream_names():
        from natsc.jetstream.streams import stream_key

        labels[stream_key(account, name)] = (account, name)
    for key, value in store.meta_items(STREAM_KEY):
        account, name = labels.get(key, ("", ""))
        backend = service.accounts.get(account)
        try:
            config, created = _kept(value, StreamConfig())
            if backend is None:
                raise RecoveryError(f"there is no account {account!r}")
            stream = backend.open_stream(config, created)
        except (RecoveryError, Failure, StoreError) as error:
            log.error(f"JetStream can't open the stream '{account} > {name}', and leaves it as it is: {error}")
            service.broken.append(f"{account} > {name}")
            continue
        stream.recover(service.clock.wall_ns())
        stream.expire(service.clock.wall_ns())
        _recover_consumers(service, stream)
        for seq, reason in stream.store.lost:
            log.error(f"JetStream lost message {seq} of the stream '{account} > {name}': {reason}")
        state = stream.state()
        log.notice(f"  Restored {state.messages:,} messages for stream '{account} > {name}'")
    service.outbox.end_soon()
    service.engine.end_turn()


def clear_aborted(service: JetStream) -> None:
    """Drops what restores have left that a crash has ended."""
    from natsc.jetstream.staging import RESTORE_KEY
    from natsc.jetstream.streams import stream_key

    store = service.open_store()
    complete = {key for key, _ in store.meta_items(STREAM_KEY)}
    for key, value in store.meta_items(RESTORE_KEY):
        account, _, name = value.decode("utf-8", "surrogateescape").partition("\0")
        if stream_key(account, name) not in complete:
            store.open_stream(account, name).drop()
            service.server.log.warn(f"JetStream drops the stream '{account} > {name}': its restore wasn't finished")
        store.meta_delete(key)


def _recover_consumers(service: JetStream, stream: ManagedStream) -> None:
    for key, value in stream.store.consumer_items(CONSUMER_KEY):
        name = key[len(CONSUMER_KEY) :].decode("utf-8", "surrogateescape")
        try:
            config, created = _kept(value, ConsumerConfig())
            stream.open_consumer(name, config, created)
        except (RecoveryError, StoreError) as error:
            where = f"'{stream.account.name} > {stream.name} > {name}'"
            service.server.log.error(f"JetStream can't open the consumer {where}, and leaves it as it is: {error}")
