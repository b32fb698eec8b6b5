"""What the JetStream API needs from whatever keeps the streams: three interfaces, one for each thing it handles.

A `Backend` is one account's JetStream, a `Stream` and a `Consumer` are things in it. The API checks every request and
calls these with checked values only; they do the work and announce it (advisories of what was created, changed or
deleted are theirs, for streams and consumers also change without a request). Their configurations are theirs: nobody
changes one in place, the API hands over a new one.

What takes long is done in steps, between which the loop goes on: such a method returns a generator (Steps), which
has the result in the end. Everything else is synchronous. A backend whose writes are durable later holds back the
answers of the turn until they are. Failures are ApiError where there is a number for them, else StoreError, whose
text reaches the client.

Times are wall clock ns, sizes bytes.
"""

from __future__ import annotations

from natsc.errors import StoreError as StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import Any, Protocol, TypeVar

    from natsc.jetstream.consumer_config import ConsumerConfig, ConsumerState
    from natsc.jetstream.quota import AccountLimits, ServerLimits
    from natsc.jetstream.stream_config import SourceInfo, StoredMessage, StreamConfig, StreamState

    T = TypeVar("T")
    Steps = Generator[None, None, T]

    class SnapshotRequest(Protocol):
        deliver_subject: str
        no_consumers: bool
        chunk_size: int
        window_size: int
        jsck: bool

        def sizes(self) -> tuple[int, int]: ...

    class Consumer(Protocol):
        @property
        def name(self) -> str: ...

        @property
        def config(self) -> ConsumerConfig: ...

        @property
        def created(self) -> int: ...

        def state(self) -> ConsumerState: ...

        def update(self, config: ConsumerConfig) -> None:
            """Take over a configuration that is allowed, and keep it."""

        def delete(self) -> None: ...

        def reset(self, seq: int) -> None:
            """Start again at stream sequence `seq` (at least 1), with nothing pending."""

        def unpin(self, group: str, reason: str) -> None:
            """Take the pin from the client that has it, and announce that."""

    class Stream(Protocol):
        @property
        def config(self) -> StreamConfig: ...

        @property
        def created(self) -> int: ...

        @property
        def identity(self) -> str:
            """What tells this stream from others of its name, before and after."""

        def state(self, deleted: bool = False) -> StreamState:
            """The state; with `deleted` also the sequences that are missing in it."""

        def subjects_totals(self, filter: str) -> Steps[dict[str, int]]:
            """Messages by subject, of the subjects that match `filter`."""

        def mirror_info(self) -> SourceInfo | None: ...

        def sources_info(self) -> list[SourceInfo]: ...

        def consumers(self) -> Iterable[Consumer]: ...

        def consumer(self, name: str) -> Consumer | None: ...

        def create_consumer(self, name: str, config: ConsumerConfig) -> Consumer: ...

        def update(self, config: StreamConfig) -> None: ...

        @property
        def enforcing(self) -> bool:
            """Whether messages beyond changed limits are still being removed."""

        @property
        def unread(self) -> int:
            """Not 0 while headers are still being read that a changed configuration gives a meaning."""

        def delete(self) -> None: ...

        def purge(self, filter: str, seq: int, keep: int) -> Steps[int]:
            """Remove the messages that match `filter` ("" for all) below `seq` (0 for all) but the last `keep`."""

        def remove(self, seq: int, erase: bool) -> bool:
            """Remove a message, with `erase` beyond recovery. False when there is none.

            Beyond the last sequence of a stream in a file it is a StoreError, "stream store EOF".
            """

        def message(self, seq: int) -> StoredMessage | None: ...

        def next_message(self, filter: str, seq: int) -> StoredMessage | None:
            """The first message from `seq` on whose subject matches `filter`."""

        def last_message(self, subject: str) -> StoredMessage | None:
            """The last message whose subject matches `subject`, which may have wildcards; of all when it is ""."""

        def last_messages(self, filters: list[str], up_to: int, limit: int) -> list[StoredMessage] | None:
            """The last message up to `up_to` of each subject that matches one of `filters`, in order; "" matches none.

            None when they are more than `limit`.
            """

        def seq_from_time(self, time: int) -> int:
            """The sequence of the first message at or after `time`; one beyond the last when there is none."""

        def num_pending(self, seq: int, filter: str) -> int:
            """How many messages from `seq` on match `filter` ("" for all)."""

        def snapshot(self, request: SnapshotRequest, client: dict[str, Any] | None) -> StreamState:
            """Begin to send a snapshot to request.deliver_subject, once the answer is out; the state it is of."""

    class Backend(Protocol):
        @property
        def enabled(self) -> bool:
            """JetStream is on for this account."""

        @property
        def alone(self) -> bool:
            """No leaf node could answer in our place."""

        @property
        def strict(self) -> bool:
            """Unknown members of requests are errors."""

        @property
        def server_name(self) -> str: ...

        @property
        def cluster_name(self) -> str: ...

        @property
        def domain(self) -> str: ...

        @property
        def failure(self) -> str:
            """Why nothing can be stored any more, "" where it can."""

        @property
        def max_pending(self) -> int:
            """Bytes that one batch of direct gets may have when it doesn't say."""

        @property
        def limits(self) -> dict[str, AccountLimits]: ...

        @property
        def server_limits(self) -> ServerLimits: ...

        @property
        def memory_reserved(self) -> int:
            """Bytes that streams of all accounts have reserved in memory."""

        @property
        def storage_reserved(self) -> int: ...

        @property
        def api_total(self) -> int:
            """Requests of this account since the start."""

        @property
        def api_errors(self) -> int: ...

        def now(self) -> int: ...

        def usage(self) -> dict[str, tuple[int, int]]:
            """Bytes in memory and in storage, by tier ("" without tiers)."""

        def streams(self) -> Iterable[Stream]: ...

        def stream(self, name: str) -> Stream | None: ...

        def create_stream(self, config: StreamConfig) -> Stream: ...

        def consumer_name(self) -> str:
            """A random name of eight characters for a consumer that has none."""

        def has_interest(self, subject: str) -> bool:
            """Does anybody in the account receive `subject`?"""

        def publish(self, subject: str, payload: bytes) -> None: ...

        def event_id(self) -> str:
            """A new unique id for an advisory."""

        def count_request(self, failed: bool) -> None:
            """Add one request to the API's statistics, of the account and the server."""

        def restore(self, config: StreamConfig, client: dict[str, Any] | None) -> str:
            """Begin to receive a snapshot; the subject that its chunks are to be sent to."""


def finish(steps: Steps[T]) -> T:
    """All steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
