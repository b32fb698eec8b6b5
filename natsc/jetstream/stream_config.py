"""What a stream is configured with, and what JetStream reports about one: as JSON, in the reference's order.

Durations are nanoseconds, sizes bytes; -1 means unlimited where there is a limit. Words like "limits" stand as they are
on the wire.
"""

from __future__ import annotations

from natsc.jetstream import names
from natsc.jetstream.gotime import Time, format_time
from natsc.jetstream.schema import (
    BOOL,
    DURATION,
    INT,
    INT32,
    INT64,
    OPTIONAL_TIME,
    STRING,
    STRINGS,
    TIME,
    UINT64,
    Choice,
    Field,
    ListOf,
    MapOf,
    Nested,
    Record,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


LIMITS, INTEREST, WORK_QUEUE = "limits", "interest", "workqueue"
OLD, NEW = "old", "new"
FILE, MEMORY = names.FILE, names.MEMORY
ASYNC = "async"


def words(*known: str) -> dict[str, str]:
    return {word: word for word in known}


def _refuse_compression(value: Any, raw: str) -> str:
    names = {"{": "object", "[": "array", "t": "bool", "f": "bool"}
    if raw[:1] in ('"', "n"):
        return "unknown compression algorithm"
    return f"json: cannot unmarshal {names.get(raw[:1], 'number')} into Go value of type string"


RETENTION = Choice(words(LIMITS, INTEREST, WORK_QUEUE), LIMITS)
_DISCARD = Choice(words(OLD, NEW), OLD, fold=True)
# Nothing given is told from "file" until the defaults are filled in: limits don't apply to it yet.
_STORAGE = Choice(words(FILE, MEMORY), "")
_COMPRESSION = Choice(words("none", "s2"), "none", _refuse_compression)
_PERSIST_MODE = Choice({"default": "", "": "", ASYNC: ASYNC}, "")


class Placement(Record):
    __slots__ = ("cluster", "preferred", "tags")
    GO_NAME = "Placement"
    FIELDS = (Field("cluster", STRING), Field("tags", STRINGS), Field("preferred", STRING))
    cluster: str
    tags: list[str]
    preferred: str


class SubjectTransform(Record):
    __slots__ = ("dest", "src")
    GO_NAME = "SubjectTransformConfig"
    FIELDS = (Field("src", STRING, omit_empty=False), Field("dest", STRING, omit_empty=False))
    src: str
    dest: str


class ExternalStream(Record):
    """The prefixes under which a stream of another account or domain is reached."""

    __slots__ = ("api", "deliver")
    GO_NAME = "ExternalStream"
    FIELDS = (Field("api", STRING, omit_empty=False), Field("deliver", STRING, omit_empty=False))
    api: str
    deliver: str


class StreamConsumerSource(Record):
    """The durable consumer that a mirror or source reads through, made by whoever owns the origin."""

    __slots__ = ("deliver_subject", "name")
    GO_NAME = "StreamConsumerSource"
    FIELDS = (Field("name", STRING), Field("deliver_subject", STRING))
    name: str
    deliver_subject: str


class StreamSource(Record):
    __slots__ = (
        "consumer", "external", "filter_subject", "name", "opt_start_seq", "opt_start_time", "subject_transforms",
    )  # fmt: skip
    GO_NAME = "StreamSource"
    FIELDS = (
        Field("name", STRING, omit_empty=False),
        Field("opt_start_seq", UINT64),
        Field("opt_start_time", OPTIONAL_TIME),
        Field("filter_subject", STRING),
        Field("subject_transforms", ListOf(Nested(SubjectTransform))),
        Field("external", Nested(ExternalStream, pointer=True)),
        Field("consumer", Nested(StreamConsumerSource, pointer=True)),
    )
    name: str
    opt_start_seq: int
    opt_start_time: Time | None
    filter_subject: str
    subject_transforms: list[SubjectTransform]
    external: ExternalStream | None
    consumer: StreamConsumerSource | None

    def index_name(self) -> tuple[object, ...]:
        """What tells this source from the stream's others: origin, consumer, filters and destinations."""
        if self.subject_transforms:
            routes = tuple((transform.src or ">", transform.dest or ">") for transform in self.subject_transforms)
        else:
            routes = ((self.filter_subject or ">", ">"),)
        return *self.origin(), routes

    def origin(self) -> tuple[object, ...]:
        """The stream that is read, and through which consumer if that was given."""
        external = None if self.external is None else self.external.api
        return self.name, external, None if self.consumer is None else self.consumer.name


class Republish(Record):
    __slots__ = ("dest", "headers_only", "src")
    GO_NAME = "RePublish"
    FIELDS = (Field("src", STRING), Field("dest", STRING, omit_empty=False), Field("headers_only", BOOL))
    src: str
    dest: str
    headers_only: bool


class ConsumerLimits(Record):
    """What consumers of a stream get when they don't say, and at most."""

    __slots__ = ("inactive_threshold", "max_ack_pending")
    GO_NAME = "StreamConsumerLimits"
    FIELDS = (Field("inactive_threshold", DURATION), Field("max_ack_pending", INT))
    inactive_threshold: int
    max_ack_pending: int


class StreamConfig(Record):
    __slots__ = (
        "allow_atomic", "allow_batched", "allow_direct", "allow_msg_counter", "allow_msg_schedules", "allow_msg_ttl",
        "allow_rollup_hdrs", "compression", "consumer_limits", "deny_delete", "deny_purge", "description", "discard",
        "discard_new_per_subject", "duplicate_window", "first_seq", "max_age", "max_bytes", "max_consumers",
        "max_msg_size", "max_msgs", "max_msgs_per_subject", "metadata", "mirror", "mirror_direct", "name", "no_ack",
        "num_replicas", "persist_mode", "placement", "republish", "retention", "sealed", "sources", "storage",
        "subject_delete_marker_ttl", "subject_transform", "subjects",
    )  # fmt: skip
    GO_NAME = "StreamConfig"
    FIELDS: tuple[Field, ...] = (
        Field("name", STRING, omit_empty=False),
        Field("description", STRING),
        Field("subjects", STRINGS),
        Field("retention", RETENTION, omit_empty=False),
        Field("max_consumers", INT, omit_empty=False),
        Field("max_msgs", INT64, omit_empty=False),
        Field("max_bytes", INT64, omit_empty=False),
        Field("max_age", DURATION, omit_empty=False),
        Field("max_msgs_per_subject", INT64, omit_empty=False),
        Field("max_msg_size", INT32),
        Field("discard", _DISCARD, omit_empty=False),
        Field("storage", _STORAGE, omit_empty=False),
        Field("num_replicas", INT, omit_empty=False),
        Field("no_ack", BOOL),
        Field("duplicate_window", DURATION),
        Field("placement", Nested(Placement, pointer=True)),
        Field("mirror", Nested(StreamSource, pointer=True)),
        Field("sources", ListOf(Nested(StreamSource, pointer=True), "[]*server.StreamSource")),
        Field("compression", _COMPRESSION, omit_empty=False),
        Field("first_seq", UINT64),
        Field("subject_transform", Nested(SubjectTransform, pointer=True)),
        Field("republish", Nested(Republish, pointer=True)),
        Field("allow_direct", BOOL, omit_empty=False),
        Field("mirror_direct", BOOL, omit_empty=False),
        Field("discard_new_per_subject", BOOL),
        Field("sealed", BOOL, omit_empty=False),
        Field("deny_delete", BOOL, omit_empty=False),
        Field("deny_purge", BOOL, omit_empty=False),
        Field("allow_rollup_hdrs", BOOL, omit_empty=False),
        Field("consumer_limits", Nested(ConsumerLimits), omit_empty=False),
        Field("allow_msg_ttl", BOOL, omit_empty=False),
        Field("subject_delete_marker_ttl", DURATION),
        Field("allow_msg_counter", BOOL),
        Field("allow_atomic", BOOL),
        Field("allow_msg_schedules", BOOL),
        Field("persist_mode", _PERSIST_MODE),
        Field("allow_batched", BOOL),
        Field("metadata", MapOf(STRING)),
    )
    name: str
    description: str
    subjects: list[str]
    retention: str
    max_consumers: int
    max_msgs: int
    max_bytes: int
    max_age: int
    max_msgs_per_subject: int
    max_msg_size: int
    discard: str
    storage: str
    num_replicas: int
    no_ack: bool
    duplicate_window: int
    placement: Placement | None
    mirror: StreamSource | None
    sources: list[StreamSource]
    compression: str
    first_seq: int
    subject_transform: SubjectTransform | None
    republish: Republish | None
    allow_direct: bool
    mirror_direct: bool
    discard_new_per_subject: bool
    sealed: bool
    deny_delete: bool
    deny_purge: bool
    allow_rollup_hdrs: bool
    consumer_limits: ConsumerLimits
    allow_msg_ttl: bool
    subject_delete_marker_ttl: int
    allow_msg_counter: bool
    allow_atomic: bool
    allow_msg_schedules: bool
    persist_mode: str
    allow_batched: bool
    metadata: dict[str, str]


class StreamConfigRequest(StreamConfig):
    """The body of STREAM.CREATE and STREAM.UPDATE. `pedantic`: what would be filled in or put right is an error."""

    __slots__ = ("pedantic",)
    GO_NAME = "StreamConfigRequest"
    FIELDS = (*StreamConfig.FIELDS, Field("pedantic", BOOL))
    pedantic: bool

    def config(self) -> StreamConfig:
        return StreamConfig(**{field.name: getattr(self, field.name) for field in StreamConfig.FIELDS})


class LostStreamData(Record):
    """Messages that recovery couldn't bring back."""

    __slots__ = ("bytes", "msgs")
    GO_NAME = "LostStreamData"
    FIELDS = (Field("msgs", ListOf(UINT64), omit_empty=False), Field("bytes", UINT64, omit_empty=False))
    msgs: list[int]
    bytes: int


class StreamState(Record):
    """How much a stream holds. `deleted` and `subjects` only where they were asked for."""

    __slots__ = (
        "bytes", "consumer_count", "deleted", "first_seq", "first_ts", "last_seq", "last_ts", "lost", "messages",
        "num_deleted", "num_subjects", "subjects",
    )  # fmt: skip
    GO_NAME = "StreamState"
    FIELDS = (
        Field("messages", UINT64, omit_empty=False),
        Field("bytes", UINT64, omit_empty=False),
        Field("first_seq", UINT64, omit_empty=False),
        Field("first_ts", TIME, omit_empty=False),
        Field("last_seq", UINT64, omit_empty=False),
        Field("last_ts", TIME, omit_empty=False),
        Field("num_subjects", INT),
        Field("subjects", MapOf(UINT64)),
        Field("num_deleted", INT),
        Field("deleted", ListOf(UINT64)),
        Field("lost", Nested(LostStreamData, pointer=True)),
        Field("consumer_count", INT, omit_empty=False),
    )
    messages: int
    bytes: int
    first_seq: int
    first_ts: Time
    last_seq: int
    last_ts: Time
    num_subjects: int
    subjects: dict[str, int]
    num_deleted: int
    deleted: list[int]
    lost: LostStreamData | None
    consumer_count: int


class SourceInfo:
    """How a mirror or a source is doing. `lag` in messages; `active` ns since it was last heard of, -1 for never;
    `seq`: the last sequence of a source that was seen; `error`: as JSON, why there is nothing to read.

    `without_filter`: its filter subject isn't told.
    """

    __slots__ = ("active", "error", "external", "filter_subject", "lag", "name", "seq", "subject_transforms")

    def __init__(
        self,
        source: StreamSource,
        lag: int = 0,
        active: int = -1,
        error: dict[str, Any] | None = None,
        without_filter: bool = False,
    ) -> None:
        self.name = source.name
        self.external = source.external
        self.lag = lag
        self.seq = 0
        self.active = active
        self.error = error
        self.filter_subject = "" if without_filter else source.filter_subject
        self.subject_transforms = source.subject_transforms

    def as_json(self) -> dict[str, Any]:
        members: dict[str, Any] = {"name": self.name}
        if self.external is not None:
            members["external"] = self.external.as_json()
        members["lag"] = self.lag
        if self.seq:
            members["seq"] = self.seq
        members["active"] = self.active
        if self.error is not None:
            members["error"] = self.error
        if self.filter_subject:
            members["filter_subject"] = self.filter_subject
        if self.subject_transforms:
            members["subject_transforms"] = [transform.as_json() for transform in self.subject_transforms]
        return members


class StoredMessage:
    """One message of a stream. `time` in ns."""

    __slots__ = ("data", "headers", "seq", "subject", "time")

    def __init__(self, subject: str, seq: int, headers: bytes, data: bytes, time: int) -> None:
        self.subject = subject
        self.seq = seq
        self.headers = headers
        self.data = data
        self.time = time

    def as_json(self, headers: bool = True) -> dict[str, Any]:
        from base64 import b64encode

        members: dict[str, Any] = {"subject": self.subject, "seq": self.seq}
        if headers and self.headers:
            members["hdrs"] = b64encode(self.headers).decode()
        if self.data:
            members["data"] = b64encode(self.data).decode()
        members["time"] = format_time(self.time)
        return members
