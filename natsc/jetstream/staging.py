"""A stream while it is restored: it has its store, but nobody sees it before everything is there.

Its messages go into the store where they will stay. Until commit() the store's meta database says "restore/<stream>"
instead of the stream's configuration; commit() changes one for the other, and adds the consumers, in one batch. So a
restore that doesn't come to its end leaves nothing: abort() drops it, and a start drops what a crash has left
(natsc/jetstream/recovery.py).
"""

from __future__ import annotations

from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.consumer_check import create_or_update
from natsc.jetstream.failpoint import here as failpoint
from natsc.jetstream.layout import stream_name
from natsc.jetstream.limits import check_limits, reserved_by_others, select_limits
from natsc.jetstream.stream import consumers_told_deleted
from natsc.jetstream.stream_check import subjects_overlap
from natsc.jetstream.stream_config import FILE, MEMORY
from natsc.jetstream.streams import identity
from natsc.jetstream.transfer import put_state, reveal, set_created

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.jetstream.account import AccountJetStream
    from natsc.jetstream.archived import ArchivedConsumer
    from natsc.jetstream.stream_config import StreamConfig
    from natsc.jetstream.streams import ManagedStream

RESTORE_KEY = b"restore/"
_LEARN_STEP = 20_000  # messages, before others get their turn


class RestoreError(Exception):
    """What can't be restored; the text says why."""


def restore_key(account: str, stream: str) -> bytes:
    name: bytes = stream_name(account, stream)
    return RESTORE_KEY + name


class Staging:
    """config: checked. expected: bytes that the stream will have, as far as is known. Raises ApiError, StoreError."""

    def __init__(self, owner: AccountJetStream, config: StreamConfig, expected: int) -> None:
        self.owner = owner
        self.config = config
        self.limit = ApiError(
            errors.MEMORY_RESOURCES_EXCEEDED if config.storage == MEMORY else errors.STORAGE_RESOURCES_EXCEEDED
        )
        self._check_room(expected)
        self._check_subjects()
        self.kept = config.storage == FILE
        self.stream: ManagedStream = owner.open_stream(config, owner.now(), listed=False)
        self.consumers: list[ArchivedConsumer] = []
        self.created = 0  # when the stream was, in ns; 0: now
        self._learn_from = -1  # the sequence to go on with; -1: not begun, 0: done
        if self.kept:
            label = f"{owner.account.name}\0{config.name}".encode("utf-8", "surrogateescape")
            owner.meta_put(restore_key(owner.account.name, config.name), label)
            failpoint("restore.begun")

    def _check_room(self, expected: int) -> None:
        limits, tier = select_limits(self.owner.limits, self.config.num_replicas)
        if limits is None:
            raise ApiError(errors.NO_LIMITS)
        reserve = self.config.clone()
        reserve.max_bytes = max(reserve.max_bytes, expected)
        check_limits(self.owner, limits, tier, reserve, reserved_by_others(self.owner, tier, reserve))
        if expected > self.room():
            raise self.limit

    def _check_subjects(self) -> None:
        if subjects_overlap(self.owner, self.config.subjects):
            raise RestoreError(f"error adding stream: {ApiError(errors.STREAM_SUBJECT_OVERLAP)}")

    def room(self) -> int:
        """How many bytes the account and the server have left."""
        left = 1 << 62
        for usage in (self.owner.space, self.owner.service.space):
            memory = self.config.storage == MEMORY
            most, used = (usage.max_memory, usage.memory) if memory else (usage.max_storage, usage.storage)
            if most >= 0:
                left = min(left, most - used)
        return max(left, 0)

    def learn(self) -> bool:
        """A step of learning what the messages say (ids, times to live). True when all is learnt."""
        now = self.owner.now()
        if self._learn_from < 0:
            self._learn_from = self.stream.begin_learning(now)
        if self._learn_from:
            self._learn_from = self.stream.learn(self._learn_from, now, _LEARN_STEP)
        return self._learn_from == 0

    def commit(self) -> ManagedStream:
        """The stream works from now on. Raises ApiError, StoreError; the caller then has to call abort()."""
        stream, owner, now = self.stream, self.owner, self.owner.now()
        self._check_subjects()
        if self.created:
            stream.created = self.created
            stream.identity = identity(self.created)
        reveal(stream)
        for archived in self.consumers:
            try:
                consumer = create_or_update(stream, archived.config, "", owner, False)
                if archived.position is not None:
                    put_state(consumer, *archived.position, archived.pending, archived.redelivered)
                if archived.created:
                    set_created(consumer, archived.created)
                    stream.save_consumer(consumer)
            except ApiError as error:
                raise RestoreError(f'failed to add consumer "{archived.name}": {error}') from None
        owner.restoring.pop(self.config.name)
        owner.by_name[self.config.name] = stream
        stream.save()
        failpoint("restore.saved")
        if self.kept:
            owner.meta_delete(restore_key(owner.account.name, self.config.name))
        stream.enforce(True)
        stream.expire(now)
        stream.start()
        stream.show_all()
        owner.outbox.end_soon()
        owner.tell_made(self.config.name)
        return stream

    def abort(self) -> None:
        """Leave nothing."""
        stream, owner = self.stream, self.owner
        consumers_told_deleted(stream)
        stream.by_name.clear()
        stream.shutdown()
        if self.kept:
            stream.store.drop()
            owner.meta_delete(restore_key(owner.account.name, self.config.name))
        else:
            stream.store.close()
        stream.forget_usage()
        owner.outbox.end_soon()
