"""JetStream in one account: its streams, its limits, and what the API asks of it (natsc/jetstream/backend.py)."""

from __future__ import annotations

from natsc.jetstream.backend import StoreError
from natsc.jetstream.failpoint import here as failpoint
from natsc.jetstream.names import MEMORY, random_name, raw, short_hash
from natsc.jetstream.retained import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc.engine.account import Account
    from natsc.jetstream.quota import AccountLimits
    from natsc.jetstream.restore import Restore
    from natsc.jetstream.service import JetStream
    from natsc.jetstream.snapshot import Snapshot
    from natsc.jetstream.stream_config import StreamConfig
    from natsc.jetstream.streams import ManagedStream


class AccountJetStream:
    """One account's JetStream. Not enabled, it only says so to whoever asks."""

    alone = True
    cluster_name = ""

    def __init__(self, service: JetStream, account: Account) -> None:
        self.service = service
        self.account = account
        self.engine = service.engine
        self.clock = service.clock
        self.outbox = service.outbox
        self.enabled = False
        self.limits: dict[str, AccountLimits] = {}  # by tier
        self.tier = ""  # that streams of one server are in
        self.space = Usage()
        self.by_name: dict[str, ManagedStream] = {}
        self.restoring: dict[str, Restore] = {}  # by the name of the stream that will be
        self.snapshots: set[Snapshot] = set()  # under way
        # What stands before stream and consumer in acknowledgement subjects of the long form, and whether that is used.
        self.ack_space = f"{service.domain or '_'}.{short_hash(account.name)}".encode()
        self.long_acks: bool = service.long_acks
        self.api_total = 0
        self.api_errors = 0

    # What holds for the server

    @property
    def strict(self) -> bool:
        return self.service.strict

    @property
    def server_name(self) -> str:
        return self.service.server.server_name  # type: ignore[no-any-return]

    @property
    def domain(self) -> str:
        return self.service.domain

    @property
    def failure(self) -> str:
        return self.service.failure if self.service.outbox.failed else ""

    @property
    def max_pending(self) -> int:
        return self.service.server.options.max_pending  # type: ignore[no-any-return]

    @property
    def server_limits(self) -> Any:
        return self.service.limits

    @property
    def batch_limits(self) -> Any:
        """natsc.config.options.JSLimitOpts: 0 where nothing is configured."""
        return self.service.server.options.jetstream_limits

    @property
    def memory_reserved(self) -> int:
        return self.service.reserved(in_memory=True)

    @property
    def storage_reserved(self) -> int:
        return self.service.reserved(in_memory=False)

    def now(self) -> int:
        return self.clock.wall_ns()  # type: ignore[no-any-return]

    # Streams

    def enable(self, limits: dict[str, AccountLimits]) -> None:
        """By tier: "" for all, or by replicas. Of tiers without one for one replica nothing more is stored."""
        self.enabled = True
        self.limits = limits
        self.tier = "" if "" in limits else "R1"
        used = limits.get(self.tier)
        self.space.max_memory, self.space.max_storage = (used.max_memory, used.max_storage) if used else (0, 0)

    @property
    def full(self) -> int:
        """The error of a message that the account has no room for."""
        from natsc.jetstream import api_errors as errors

        return errors.ACCOUNT_RESOURCES_EXCEEDED if self.tier in self.limits else errors.NO_LIMITS

    def usage(self) -> dict[str, tuple[int, int]]:
        return {self.tier: (self.space.memory, self.space.storage)}

    def streams(self) -> list[ManagedStream]:
        return list(self.by_name.values())

    def stream(self, name: str) -> ManagedStream | None:
        return self.by_name.get(name)

    def create_stream(self, config: StreamConfig) -> ManagedStream:
        if config.name in self.restoring:
            from natsc.jetstream import api_errors as errors

            raise errors.ApiError(errors.STREAM_NAME_EXIST)
        self._check_damaged(config)
        stream = self.open_stream(config, self.now())
        failpoint("stream.made")
        if config.first_seq > 0:
            stream.store.purge()  # an empty stream that begins somewhere says so
            stream.store.skip(config.first_seq, 0)
            stream.show_all()
        stream.save()
        failpoint("stream.saved")
        stream.start()
        self.outbox.end_soon()
        self.tell_made(config.name)
        return stream

    def _check_damaged(self, config: StreamConfig) -> None:
        """Raises StoreError where there is a stream of that name that couldn't be opened."""
        if f"{self.account.name} > {config.name}" in self.service.broken and config.storage != MEMORY:
            from natsc.jetstream.backend import StoreError

            raise StoreError("there is a damaged stream of that name")

    def tell_made(self, name: str) -> None:
        """There is a new stream."""
        from natsc.jetstream import advisories

        self.announce(lambda: advisories.stream_action(self, name, advisories.CREATE))
        for other in self.streams():
            if other.sourcing is not None:
                other.sourcing.origin_made(name)

    def open_stream(self, config: StreamConfig, created: int, *, listed: bool = True) -> ManagedStream:
        """A stream over its store, with what that holds. It doesn't receive yet. Not listed, nobody finds it yet."""
        from natsc.jetstream.memstore import MemStore
        from natsc.jetstream.streams import ManagedStream

        if config.storage == MEMORY:
            store: Any = MemStore()
        else:
            store = self.service.open_store().open_stream(self.account.name, config.name)
        stream = ManagedStream(
            self.outbox, self.account, config.name, store, self.space, self.service.space,
            owner=self, config=config, created=created,
        )  # fmt: skip
        if listed:
            self.by_name[config.name] = stream
        return stream

    def forget(self, stream: ManagedStream) -> None:
        self.by_name.pop(stream.name, None)

    def meta_put(self, key: bytes, value: bytes) -> None:
        self.service.open_store().meta_put(key, value)
        self.outbox.end_soon()

    def meta_delete(self, key: bytes) -> None:
        self.service.open_store().meta_delete(key)
        self.outbox.end_soon()

    # Direct gets

    def listen_direct(self, stream: ManagedStream) -> None:
        self.service.listen_direct(self, stream)

    def listen_for_origin(self, mirror: ManagedStream) -> None:
        self.service.listen_for_origin(self, mirror)

    def unlisten_direct(self, stream: ManagedStream) -> None:
        self.service.unlisten_direct(stream)

    # What the API needs beside

    def consumer_name(self) -> str:
        return random_name(8)

    def has_interest(self, subject: str) -> bool:
        return bool(self.engine.match(self.account, raw(subject)))

    def publish(self, subject: str, payload: bytes) -> None:
        self.outbox.reply_bytes(self.account, raw(subject), payload)

    def announce(self, event: Callable[[], tuple[str, bytes]]) -> None:
        """Publishes an advisory. It is made only where JetStream runs: whoever wants none hasn't subscribed."""
        subject, payload = event()
        if self.has_interest(subject):
            self.publish(subject, payload)

    def warn(self, text: str) -> None:
        """Logs a warning."""
        self.service.server.log.warn(text)

    def event_id(self) -> str:
        return random_name(22)

    def count_request(self, failed: bool) -> None:
        if not self.enabled:
            return
        self.api_total += 1
        self.service.api_total += 1
        if failed:
            self.api_errors += 1
            self.service.api_errors += 1

    def restore(self, config: StreamConfig, client: dict[str, Any] | None) -> str:
        from natsc.jetstream import api_errors as errors

        if config.name in self.restoring:
            raise errors.ApiError(errors.STREAM_NAME_EXIST_RESTORE_FAILED)
        try:
            self._check_damaged(config)
        except StoreError as error:
            raise errors.ApiError(errors.STREAM_RESTORE, err=error) from None
        from natsc.jetstream.restore import Restore as Begun

        restore = self.restoring[config.name] = Begun(self, config, client)
        return restore.subject
