"""Is a consumer's configuration possible, and may a consumer be created with it, or changed to it?"""

from __future__ import annotations

import re

from natsc.config.gotext import GoError, atoi
from natsc.config.subject_mapping import collide, has_wildcard, is_subset
from natsc.config.subjects import is_valid_subject
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError, api_error
from natsc.jetstream.consumer_config import (
    ACK_ALL,
    ACK_EXPLICIT,
    ACK_FLOW_CONTROL,
    ACK_NONE,
    ACTION_CREATE,
    ACTION_UPDATE,
    DELIVER_ALL,
    DELIVER_BY_START_SEQUENCE,
    DELIVER_BY_START_TIME,
    DELIVER_LAST_PER_SUBJECT,
    PRIORITY_NONE,
    PRIORITY_PINNED,
    ConsumerConfig,
)
from natsc.jetstream.limits import select_limits
from natsc.jetstream.quota import AccountLimits, ServerLimits
from natsc.jetstream.stream_check import DESCRIPTION_MAX, METADATA_MAX, NAME_MAX, is_valid_name, metadata_size, size_of
from natsc.jetstream.stream_config import LIMITS, WORK_QUEUE, StreamConfig
from natsc.jetstream.versioning import copy_required_level

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.jetstream.backend import Backend, Consumer, Stream

_MS = 1_000_000
_SECOND = 1_000_000_000
_ACK_WAIT = 30 * _SECOND
_ACK_PENDING = 1000
_MAX_WAITING = 512
_PINNED_TTL = 120 * _SECOND
_EPHEMERAL_INACTIVE = 5 * _SECOND
# Consumers with flow control acks feed other streams, whose idea of "stalled" hangs on this heartbeat.
_FLOW_CONTROL_HEARTBEAT = _SECOND

VALID_GROUP = re.compile(r"[a-zA-Z0-9/_=-]{1,16}\Z")


def _pedantic(text: str) -> ApiError:
    return ApiError(errors.PEDANTIC, err=text)


def _invalid(text: str) -> ApiError:
    return ApiError(errors.STREAM_INVALID_CONFIG, err=text)


# -- defaults ---------------------------------------------------------------------------------------------------------


def fill_defaults(
    config: ConsumerConfig, stream: StreamConfig, server: ServerLimits, account: AccountLimits, pedantic: bool
) -> None:
    """Fill in what wasn't given. `pedantic`: what would have to be put right is an error. Raises ApiError."""
    _fill_negatives(config, pedantic)
    if not config.deliver_subject and config.max_waiting == 0:
        config.max_waiting = _MAX_WAITING
    if config.ack_wait == 0 and config.ack_policy in (ACK_EXPLICIT, ACK_ALL):
        config.ack_wait = _ACK_WAIT
    if config.backoff:
        if pedantic and config.ack_wait != config.backoff[0]:
            raise _pedantic("first backoff value has to equal batch AckWait")
        config.ack_wait = config.backoff[0]
    for name in ("max_ack_pending", "inactive_threshold"):
        limit = getattr(stream.consumer_limits, name)
        if getattr(config, name) == 0:
            if pedantic and limit > 0:
                raise _pedantic(f"{name} must be set if it's configured in stream limits")
            setattr(config, name, limit)
    if config.max_ack_pending == 0 and config.ack_policy != ACK_NONE:
        known = (server.max_ack_pending, account.max_ack_pending)
        config.max_ack_pending = min([_ACK_PENDING, *(limit for limit in known if limit > 0)])
    if not config.deliver_subject and config.max_batch == 0 and server.max_batch > 0:
        if pedantic:
            raise _pedantic("max_request_batch must be set if it's JetStream limits are set")
        config.max_batch = server.max_batch
    if config.priority_policy == PRIORITY_PINNED and config.priority_timeout == 0:
        config.priority_timeout = _PINNED_TTL
    if config.ack_policy == ACK_FLOW_CONTROL and not pedantic:
        config.flow_control = True
        config.idle_heartbeat = _FLOW_CONTROL_HEARTBEAT


def _fill_negatives(config: ConsumerConfig, pedantic: bool) -> None:
    if config.max_deliver == 0 or config.max_deliver < -1:
        if pedantic and config.max_deliver < -1:
            raise _pedantic("max_deliver must be set to -1")
        config.max_deliver = -1
    for name, least, refusal in (
        ("max_waiting", 0, "must not be negative"),
        ("max_ack_pending", -1, "must be set to -1"),
        ("max_batch", 0, "must not be negative"),
        ("max_expires", 0, "must not be negative"),
        ("max_bytes", 0, "must not be negative"),
        ("idle_heartbeat", 0, "must not be negative"),
        ("inactive_threshold", 0, "must not be negative"),
        ("priority_timeout", 0, "must not be negative"),
    ):
        if getattr(config, name) < least:
            if pedantic:
                raise _pedantic(f"{name} {refusal}")
            setattr(config, name, least)


# -- rules ------------------------------------------------------------------------------------------------------------


def check(config: ConsumerConfig, stream: StreamConfig, server: ServerLimits, account: AccountLimits) -> None:
    """Is `config`, with its defaults, possible for a consumer of this stream? Raises ApiError."""
    if config.name and not is_valid_name(config.name):
        raise _invalid("consumer name can not contain '.', '*', '>', '\\', '/'")
    if config.durable_name and not is_valid_name(config.durable_name):
        raise _invalid("consumer durable name can not contain '.', '*', '>', '\\', '/'")
    _check_replicas(config, stream)
    _check_acks(config)
    if size_of(config.description) > DESCRIPTION_MAX:
        raise ApiError(errors.CONSUMER_DESCRIPTION_TOO_LONG, max=DESCRIPTION_MAX)
    if config.deliver_subject:
        _check_push(config, stream)
    else:
        _check_pull(config, stream, server)
    _check_limits(config, stream, server, account)
    if config.direct:
        if not config.deliver_subject:
            raise ApiError(errors.CONSUMER_DIRECT_REQUIRES_PUSH)
        if config.durable_name:
            raise ApiError(errors.CONSUMER_DIRECT_REQUIRES_EPHEMERAL)
    _check_filters(config)
    _check_start(config)
    if config.sample_freq:
        _check_sampling(config.sample_freq)
    if config.flow_control and config.idle_heartbeat == 0:
        raise ApiError(errors.CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS)
    if config.durable_name and config.name and config.name != config.durable_name:
        raise ApiError(errors.CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH)
    if metadata_size(config.metadata) > METADATA_MAX:
        raise ApiError(errors.CONSUMER_METADATA_LENGTH, limit=f"{METADATA_MAX // 1024}KB")
    _check_priority(config)


def _check_replicas(config: ConsumerConfig, stream: StreamConfig) -> None:
    if 0 < config.num_replicas > stream.num_replicas:
        raise ApiError(errors.CONSUMER_REPLICAS_EXCEEDS_STREAM)
    if config.num_replicas < 0:
        raise ApiError(errors.REPLICAS_COUNT_CANNOT_BE_NEGATIVE)
    if stream.retention != LIMITS and config.num_replicas not in (0, stream.num_replicas):
        raise ApiError(errors.CONSUMER_REPLICAS_SHOULD_MATCH_STREAM)


def _check_acks(config: ConsumerConfig) -> None:
    if any(wait < 0 for wait in config.backoff):
        raise ApiError(errors.CONSUMER_BACK_OFF_NEGATIVE)
    if config.ack_wait < 0:
        raise ApiError(errors.CONSUMER_ACK_WAIT_NEGATIVE)
    if config.ack_policy == ACK_FLOW_CONTROL:
        if not config.deliver_subject:
            raise ApiError(errors.CONSUMER_ACK_FC_REQUIRES_PUSH)
        if not config.flow_control:
            raise ApiError(errors.CONSUMER_ACK_FC_REQUIRES_FC)
        if config.idle_heartbeat != _FLOW_CONTROL_HEARTBEAT:
            raise _invalid("flow control ack policy heartbeat needs to be 1s")
        if config.max_ack_pending <= 0:
            raise ApiError(errors.CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING)
        if config.ack_wait != 0 or config.backoff:
            raise ApiError(errors.CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT)
        if config.max_deliver > 0:
            raise ApiError(errors.CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER)
    check_backoff(config)


def check_backoff(config: ConsumerConfig) -> None:
    if config.backoff and config.max_deliver != -1 and len(config.backoff) > config.max_deliver:
        raise ApiError(errors.CONSUMER_MAX_DELIVER_BACKOFF)


def _check_push(config: ConsumerConfig, stream: StreamConfig) -> None:
    if has_wildcard(config.deliver_subject):
        raise ApiError(errors.CONSUMER_DELIVER_TO_WILDCARDS)
    if not is_valid_subject(config.deliver_subject):
        raise ApiError(errors.CONSUMER_INVALID_DELIVER_SUBJECT)
    if any(is_subset(config.deliver_subject, subject) for subject in stream.subjects):
        raise ApiError(errors.CONSUMER_DELIVER_CYCLE)
    if config.max_waiting != 0:
        raise ApiError(errors.CONSUMER_PUSH_MAX_WAITING)
    if config.max_ack_pending > 0 and config.ack_policy == ACK_NONE:
        raise ApiError(errors.CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED)
    if 0 < config.idle_heartbeat < 100 * _MS:
        raise ApiError(errors.CONSUMER_SMALL_HEARTBEAT)


def _check_pull(config: ConsumerConfig, stream: StreamConfig, server: ServerLimits) -> None:
    if config.ack_policy == ACK_NONE and stream.retention == WORK_QUEUE:
        raise ApiError(errors.CONSUMER_PULL_REQUIRES_ACK)
    if config.rate_limit_bps > 0:
        raise ApiError(errors.CONSUMER_PULL_WITH_RATE_LIMIT)
    if config.idle_heartbeat > 0:
        raise ApiError(errors.CONSUMER_HB_REQUIRES_PUSH)
    if config.flow_control:
        raise ApiError(errors.CONSUMER_FC_REQUIRES_PUSH)
    if 0 < config.max_expires < _MS:
        raise ApiError(errors.CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL)
    if 0 < server.max_batch < config.max_batch:
        raise ApiError(errors.CONSUMER_MAX_REQUEST_BATCH_EXCEEDED, limit=server.max_batch)


def _check_limits(config: ConsumerConfig, stream: StreamConfig, server: ServerLimits, account: AccountLimits) -> None:
    limits = stream.consumer_limits
    for limit in (server.max_ack_pending, account.max_ack_pending, limits.max_ack_pending):
        if 0 < limit < config.max_ack_pending:
            raise ApiError(errors.CONSUMER_MAX_PENDING_ACK_EXCESS, limit=limit)
    if 0 < limits.inactive_threshold < config.inactive_threshold:
        from natsc.config.gotext import format_duration

        limit_text = format_duration(limits.inactive_threshold)
        raise ApiError(errors.CONSUMER_INACTIVE_THRESHOLD_EXCESS, limit=limit_text)


def _check_filters(config: ConsumerConfig) -> None:
    if config.filter_subject and config.filter_subjects:
        raise ApiError(errors.CONSUMER_DUPLICATE_FILTER_SUBJECTS)
    if config.filter_subject and not is_valid_subject(config.filter_subject):
        raise _invalid("invalid subject")
    if not all(config.filter_subjects):
        raise ApiError(errors.CONSUMER_EMPTY_FILTER)
    filters = config.filters()
    for index, subject in enumerate(filters):
        if not is_valid_subject(subject):
            raise _invalid("invalid subject")
        if any(is_subset(subject, other) for at, other in enumerate(filters) if at != index):
            raise ApiError(errors.CONSUMER_OVERLAPPING_SUBJECT_FILTERS)


def _check_start(config: ConsumerConfig) -> None:
    """Only the policies that start somewhere may say where."""
    policy = config.deliver_policy
    by_sequence, by_time = policy == DELIVER_BY_START_SEQUENCE, policy == DELIVER_BY_START_TIME
    spoken = policy.replace("_", " ")
    wrong = ""
    if by_sequence and config.opt_start_seq == 0:
        wrong = "start sequence is not set"
    elif by_time and config.opt_start_time is None:
        wrong = "start time is not set"
    elif by_time and config.opt_start_seq:
        wrong = "start start sequence is also set"
    elif config.opt_start_seq and not by_sequence:
        wrong = "start sequence is also set"
    elif config.opt_start_time is not None and not by_time:
        wrong = "start time is also set"
    elif policy == DELIVER_LAST_PER_SUBJECT and not config.filters():
        wrong = "filter subject is not set"
    if wrong:
        text = f"consumer delivery policy is deliver {spoken}, but optional {wrong}"
        raise ApiError(errors.CONSUMER_INVALID_POLICY, err=text)


def _check_sampling(text: str) -> None:
    try:
        frequency = atoi(text.removesuffix("%"))
    except GoError as error:
        raise ApiError(errors.CONSUMER_INVALID_SAMPLING, err=error) from None
    if frequency < 0:
        raise ApiError(errors.CONSUMER_INVALID_SAMPLING, err="<nil>")


def _check_priority(config: ConsumerConfig) -> None:
    if config.priority_policy == PRIORITY_NONE:
        if config.priority_groups:
            raise ApiError(errors.CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE)
        if config.priority_timeout > 0:
            raise ApiError(errors.CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE)
        return
    if config.deliver_subject:
        raise ApiError(errors.CONSUMER_PUSH_WITH_PRIORITY_GROUP)
    if not config.priority_groups:
        raise ApiError(errors.CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP)
    for group in config.priority_groups:
        if not group:
            raise ApiError(errors.CONSUMER_EMPTY_GROUP_NAME)
        if VALID_GROUP.match(group) is None:
            raise ApiError(errors.CONSUMER_INVALID_GROUP_NAME)


# -- creating and changing --------------------------------------------------------------------------------------------


def create_or_update(stream: Stream, config: ConsumerConfig, action: str, backend: Backend, pedantic: bool) -> Consumer:
    """The consumer, new or changed. `config` is filled in and handed over. Raises ApiError."""
    account, _ = select_limits(backend.limits, config.replicas(stream.config))
    if account is None:
        raise ApiError(errors.NO_LIMITS)
    fill_defaults(config, stream.config, backend.server_limits, account, pedantic)
    check(config, stream.config, backend.server_limits, account)
    existing = stream.consumer(config.durable_name or config.name)
    if existing is not None:
        return _change(stream, existing, config, action, backend)
    if action == ACTION_UPDATE:
        raise ApiError(errors.CONSUMER_DOES_NOT_EXIST)
    if not config.direct and not config.sourcing:
        _check_room(stream, account, backend.server_limits.max_consumers)
    if stream.config.retention == WORK_QUEUE and not config.direct and not config.sourcing:
        _check_work_queue(stream, config)
    if size_of(config.durable_name) > NAME_MAX:
        raise ApiError(errors.CONSUMER_NAME_TOO_LONG, max=NAME_MAX)
    name = config.durable_name or config.name
    while not name:
        random = backend.consumer_name()
        name = random if stream.consumer(random) is None else ""
    _fill_inactive(config, bool(config.durable_name))
    return stream.create_consumer(name, config)


def _fill_inactive(config: ConsumerConfig, durable: bool) -> None:
    if not durable and config.inactive_threshold <= 0:
        config.inactive_threshold = _EPHEMERAL_INACTIVE


def _change(stream: Stream, existing: Consumer, config: ConsumerConfig, action: str, backend: Backend) -> Consumer:
    old = existing.config
    if action == ACTION_CREATE:
        copy_required_level(config.metadata, old.metadata)
        if config != old:
            raise ApiError(errors.CONSUMER_ALREADY_EXISTS)
    if stream.config.retention == WORK_QUEUE and not _alone_with(stream, existing.name, config.filters()):
        raise ApiError(errors.CONSUMER_WQ_CONSUMER_NOT_UNIQUE)
    wrong = change_error(old, config, backend)
    if wrong is not None:
        raise api_error(errors.CONSUMER_CREATE, wrong)
    if config.pause_until is not None:
        config.pause_until = config.pause_until.utc()
    if config.inactive_threshold != old.inactive_threshold:
        _fill_inactive(config, bool(old.durable_name))
    existing.update(config)
    return existing


def change_error(old: ConsumerConfig, new: ConsumerConfig, backend: Backend) -> ApiError | str | None:
    """Why a consumer can't be changed from `old` to `new`; None when it can."""
    if old == new:
        return None
    for name, spoken in (
        ("deliver_policy", "deliver policy"),
        ("mem_storage", "storage type"),
        ("direct", "direct"),
        ("sourcing", "sourcing"),
        ("opt_start_seq", "start sequence"),
    ):
        if getattr(old, name) != getattr(new, name):
            return f"{spoken} can not be updated"
    start, new_start = old.opt_start_time, new.opt_start_time
    if (start is None) != (new_start is None) or (start and new_start and start.ns != new_start.ns):
        return "start time can not be updated"
    for name, spoken in (
        ("ack_policy", "ack policy"),
        ("replay_policy", "replay policy"),
        ("idle_heartbeat", "heart beats"),
        ("flow_control", "flow control"),
    ):
        if getattr(old, name) != getattr(new, name):
            return f"{spoken} can not be updated"
    if old.deliver_subject != new.deliver_subject:
        if not old.deliver_subject:
            return "can not update pull consumer to push based"
        if not new.deliver_subject:
            return "can not update push consumer to pull based"
        # Another stream is at one place only, and somebody may listen to everything.
        if not new.sourcing and backend.has_interest(old.deliver_subject):
            return ApiError(errors.CONSUMER_NAME_EXIST)
    if old.max_waiting != new.max_waiting:
        return "max waiting can not be updated"
    return None


def _check_room(stream: Stream, account: AccountLimits, default: int) -> None:
    """default: the server's limit, where stream and account have none."""
    limit = stream.config.max_consumers
    if limit <= 0 or 0 < account.max_consumers < limit:
        limit = account.max_consumers
    if limit <= 0:
        limit = default
    if 0 < limit <= _num_limitable(stream):
        raise ApiError(errors.MAXIMUM_CONSUMERS_LIMIT)


def _num_limitable(stream: Stream) -> int:
    """Consumers that count: not those by which other streams read this one."""
    return sum(not (consumer.config.direct or consumer.config.sourcing) for consumer in stream.consumers())


def _check_work_queue(stream: Stream, config: ConsumerConfig) -> None:
    """Each message of a work queue has one consumer at most, which starts at the beginning and acks one by one."""
    if config.ack_policy not in (ACK_EXPLICIT, ACK_FLOW_CONTROL):
        raise ApiError(errors.CONSUMER_WQ_REQUIRES_EXPLICIT_ACK)
    if config.deliver_policy != DELIVER_ALL:
        raise ApiError(errors.CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL)
    if _num_limitable(stream) > 0:
        filters = config.filters()
        if not filters:
            raise ApiError(errors.CONSUMER_WQ_MULTIPLE_UNFILTERED)
        if not _alone_with(stream, config.durable_name or config.name, filters):
            raise ApiError(errors.CONSUMER_WQ_CONSUMER_NOT_UNIQUE)


def _alone_with(stream: Stream, name: str, filters: list[str]) -> bool:
    """Does no other consumer than `name` get messages that match `filters`?"""
    for consumer in stream.consumers():
        if consumer.name == name or consumer.config.direct or consumer.config.sourcing:
            continue
        others = consumer.config.filters()
        if filters and not others:
            return False
        if any(collide(mine, other) for mine in filters for other in others):
            return False
    return True
