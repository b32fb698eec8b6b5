"""What a consumer is configured with, and what JetStream reports about one: as JSON, in the reference's order.

Durations are nanoseconds, sizes bytes.
"""

from __future__ import annotations

from natsc.jetstream.gotime import ZERO, Time, format_time
from natsc.jetstream.schema import (
    BOOL,
    DURATION,
    INT,
    OPTIONAL_TIME,
    STRING,
    STRINGS,
    UINT64,
    Choice,
    Field,
    ListOf,
    MapOf,
    Nested,
    Record,
)
from natsc.jetstream.stream_config import LIMITS, StreamConfig, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ACK_NONE, ACK_ALL, ACK_EXPLICIT, ACK_FLOW_CONTROL = "none", "all", "explicit", "flow_control"
DELIVER_ALL, DELIVER_LAST, DELIVER_NEW = "all", "last", "new"
DELIVER_BY_START_SEQUENCE, DELIVER_BY_START_TIME = "by_start_sequence", "by_start_time"
DELIVER_LAST_PER_SUBJECT = "last_per_subject"
PRIORITY_NONE, PRIORITY_PINNED = "none", "pinned_client"
ACTION_CREATE, ACTION_UPDATE = "create", "update"

_DELIVER = Choice(
    {
        **words(DELIVER_ALL, DELIVER_LAST, DELIVER_NEW, DELIVER_BY_START_SEQUENCE, DELIVER_BY_START_TIME),
        DELIVER_LAST_PER_SUBJECT: DELIVER_LAST_PER_SUBJECT,
        "undefined": DELIVER_ALL,
    },
    DELIVER_ALL,
)
_ACK = Choice(words(ACK_NONE, ACK_ALL, ACK_EXPLICIT, ACK_FLOW_CONTROL), ACK_NONE)
_REPLAY = Choice(words("instant", "original"), "instant")
_PRIORITY = Choice(
    words(PRIORITY_NONE, "overflow", PRIORITY_PINNED, "prioritized"),
    PRIORITY_NONE,
    lambda value, raw: f"unknown priority policy: {raw}",
)
_ACTION = Choice(words("", ACTION_CREATE, ACTION_UPDATE), "", lambda value, raw: f"unknown consumer action: {raw}")


class ConsumerConfig(Record):
    __slots__ = (
        "ack_policy", "ack_wait", "backoff", "deliver_group", "deliver_policy", "deliver_subject", "description",
        "direct", "durable_name", "filter_subject", "filter_subjects", "flow_control", "headers_only",
        "idle_heartbeat", "inactive_threshold", "max_ack_pending", "max_batch", "max_bytes", "max_deliver",
        "max_expires", "max_waiting", "mem_storage", "metadata", "name", "num_replicas", "opt_start_seq",
        "opt_start_time", "pause_until", "priority_groups", "priority_policy", "priority_timeout", "rate_limit_bps",
        "replay_policy", "sample_freq", "sourcing",
    )  # fmt: skip
    GO_NAME = "ConsumerConfig"
    FIELDS = (
        Field("durable_name", STRING),
        Field("name", STRING),
        Field("description", STRING),
        Field("deliver_policy", _DELIVER, omit_empty=False),
        Field("opt_start_seq", UINT64),
        Field("opt_start_time", OPTIONAL_TIME),
        Field("ack_policy", _ACK, omit_empty=False),
        Field("ack_wait", DURATION),
        Field("max_deliver", INT),
        Field("backoff", ListOf(DURATION)),
        Field("filter_subject", STRING),
        Field("filter_subjects", STRINGS),
        Field("replay_policy", _REPLAY, omit_empty=False),
        Field("rate_limit_bps", UINT64),
        Field("sample_freq", STRING),
        Field("max_waiting", INT),
        Field("max_ack_pending", INT),
        Field("flow_control", BOOL),
        Field("headers_only", BOOL),
        Field("max_batch", INT),
        Field("max_expires", DURATION),
        Field("max_bytes", INT),
        Field("deliver_subject", STRING),
        Field("deliver_group", STRING),
        Field("idle_heartbeat", DURATION),
        Field("inactive_threshold", DURATION),
        Field("num_replicas", INT, omit_empty=False),
        Field("mem_storage", BOOL),
        Field("direct", BOOL),
        Field("sourcing", BOOL),
        Field("metadata", MapOf(STRING)),
        Field("pause_until", OPTIONAL_TIME),
        Field("priority_groups", STRINGS),
        Field("priority_policy", _PRIORITY),
        Field("priority_timeout", DURATION),
    )
    durable_name: str
    name: str
    description: str
    deliver_policy: str
    opt_start_seq: int
    opt_start_time: Time | None
    ack_policy: str
    ack_wait: int
    max_deliver: int
    backoff: list[int]
    filter_subject: str
    filter_subjects: list[str]
    replay_policy: str
    rate_limit_bps: int
    sample_freq: str
    max_waiting: int
    max_ack_pending: int
    flow_control: bool
    headers_only: bool
    max_batch: int
    max_expires: int
    max_bytes: int
    deliver_subject: str
    deliver_group: str
    idle_heartbeat: int
    inactive_threshold: int
    num_replicas: int
    mem_storage: bool
    direct: bool
    sourcing: bool
    metadata: dict[str, str]
    pause_until: Time | None
    priority_groups: list[str]
    priority_policy: str
    priority_timeout: int

    def filters(self) -> list[str]:
        """All filter subjects; none means everything."""
        return [*self.filter_subjects, self.filter_subject] if self.filter_subject else self.filter_subjects

    def replicas(self, stream: StreamConfig) -> int:
        """How many replicas a consumer of this stream has."""
        if self.num_replicas == 0 or self.num_replicas > stream.num_replicas:
            if not self.durable_name and stream.retention == LIMITS and self.num_replicas == 0:
                return 1
            return stream.num_replicas
        return self.num_replicas


class CreateConsumerRequest(Record):
    __slots__ = ("action", "config", "pedantic", "stream_name")
    GO_NAME = "CreateConsumerRequest"
    FIELDS = (
        Field("stream_name", STRING, omit_empty=False),
        Field("config", Nested(ConsumerConfig), omit_empty=False),
        Field("action", _ACTION, omit_empty=False),
        Field("pedantic", BOOL),
    )
    stream_name: str
    config: ConsumerConfig
    action: str
    pedantic: bool


class SequenceInfo:
    """A consumer's own sequence number, the stream's, and when it last moved: ns, or 0 for never."""

    __slots__ = ("consumer_seq", "last_active", "stream_seq")

    def __init__(self, consumer_seq: int = 0, stream_seq: int = 0, last_active: int = 0) -> None:
        self.consumer_seq = consumer_seq
        self.stream_seq = stream_seq
        self.last_active = last_active

    def as_json(self) -> dict[str, Any]:
        members: dict[str, Any] = {"consumer_seq": self.consumer_seq, "stream_seq": self.stream_seq}
        if self.last_active:
            members["last_active"] = format_time(self.last_active)
        return members


class ConsumerState:
    """What a consumer reports beside its configuration. `pinned_ts` in ns; `push_bound`: somebody receives what it
    pushes.
    """

    __slots__ = (
        "ack_floor", "delivered", "num_ack_pending", "num_pending", "num_redelivered", "num_waiting",
        "pinned_client_id", "pinned_ts", "push_bound",
    )  # fmt: skip

    def __init__(self) -> None:
        self.delivered = SequenceInfo()
        self.ack_floor = SequenceInfo()
        self.num_ack_pending = 0
        self.num_redelivered = 0
        self.num_waiting = 0
        self.num_pending = 0
        self.push_bound = False
        self.pinned_client_id = ""
        self.pinned_ts = ZERO


def consumer_info_json(
    stream: str,
    name: str,
    created: int,
    config: ConsumerConfig,
    state: ConsumerState,
    now: int,
    shown: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The members of a ConsumerInfo. `created` and `now` in ns; `shown` is the configuration's JSON if not as it is."""
    members: dict[str, Any] = {
        "stream_name": stream,
        "name": name,
        "created": format_time(created),
        "config": config.as_json() if shown is None else shown,
        "delivered": state.delivered.as_json(),
        "ack_floor": state.ack_floor.as_json(),
        "num_ack_pending": state.num_ack_pending,
        # Redelivery is off then; what is still counted would only confuse.
        "num_redelivered": 0 if config.max_deliver == 1 else state.num_redelivered,
        "num_waiting": state.num_waiting,
        "num_pending": state.num_pending,
    }
    if state.push_bound:
        members["push_bound"] = True
    if config.pause_until is not None and now < config.pause_until.ns:
        members["paused"] = True
        members["pause_remaining"] = min(config.pause_until.ns - now, (1 << 63) - 1)
    members["ts"] = format_time(now)
    if config.priority_groups:
        # One group is all there is; the state is that of the first.
        group: dict[str, Any] = {"group": config.priority_groups[0]}
        if state.pinned_client_id:
            group["pinned_client_id"] = state.pinned_client_id
        group["pinned_ts"] = format_time(state.pinned_ts)
        members["priority_groups"] = [group]
    return members
