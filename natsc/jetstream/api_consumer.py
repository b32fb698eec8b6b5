"""The $JS.API.CONSUMER operations: each takes a checked request and returns its answer's members."""

from __future__ import annotations

from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.api_request import (
    LIST_LIMIT,
    NAMES_LIMIT,
    PagedRequest,
    Request,
    check_access,
    check_level,
    expect_empty,
    find_consumer,
    find_stream,
    page,
    read,
    read_optional,
)
from natsc.jetstream.backend import StoreError
from natsc.jetstream.consumer_check import VALID_GROUP, create_or_update
from natsc.jetstream.consumer_config import (
    ACK_FLOW_CONTROL,
    DELIVER_ALL,
    DELIVER_BY_START_SEQUENCE,
    DELIVER_BY_START_TIME,
    ConsumerConfig,
    CreateConsumerRequest,
    consumer_info_json,
)
from natsc.jetstream.gotime import ZERO, Time
from natsc.jetstream.schema import STRING, TIME, UINT64, DecodeError, Field, Record, decode_one
from natsc.jetstream.stream_config import LIMITS
from natsc.jetstream.versioning import shown, stamp_consumer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.jetstream.backend import Backend, Consumer, Stream

STORE_FAILED = "error creating store for consumer"
IDENTITY_HEADER = "Nats-Stream-Identity"
_INT64_MAX = (1 << 63) - 1


class PauseRequest(Record):
    __slots__ = ("pause_until",)
    GO_NAME = "JSApiConsumerPauseRequest"
    FIELDS = (Field("pause_until", TIME),)
    pause_until: Time


class UnpinRequest(Record):
    __slots__ = ("group",)
    GO_NAME = "JSApiConsumerUnpinRequest"
    FIELDS = (Field("group", STRING, omit_empty=False),)
    group: str


class ResetRequest(Record):
    __slots__ = ("seq",)
    GO_NAME = "JSApiConsumerResetRequest"
    FIELDS = (Field("seq", UINT64),)
    seq: int


def _info(stream: Stream, consumer: Consumer, now: int, show_level: bool = True) -> dict[str, Any]:
    config = consumer.config
    return consumer_info_json(
        stream.config.name,
        consumer.name,
        consumer.created,
        config,
        consumer.state(),
        now,
        shown(config) if show_level else None,
    )


# -- creating ---------------------------------------------------------------------------------------------------------


def create(request: Request, backend: Backend) -> dict[str, Any]:
    """CREATE.<stream>, for consumers that may go without a name."""
    body = _read_create(request, backend)
    _check_stream_name(body, request.names[0])
    _check_consumer_name(body.config.name)
    if body.config.durable_name:
        raise ApiError(errors.CONSUMER_EPHEMERAL_WITH_DURABLE_NAME)
    return _create(request, body, backend, body.config.name)


def create_named(request: Request, backend: Backend) -> dict[str, Any]:
    """CREATE.<stream>.<consumer>[.<filter>]: what is in the subject can be permitted or denied to users."""
    body = _read_create(request, backend)
    stream_name, name, *filter_tokens = request.names
    _check_stream_name(body, stream_name)
    _check_consumer_name(name)
    config = body.config
    if config.durable_name and config.durable_name != name:
        raise ApiError(errors.CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT)
    config.name = name
    if filter_tokens:
        if config.filter_subjects:
            raise ApiError(errors.CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED)
        if config.filter_subject != ".".join(filter_tokens):
            raise ApiError(errors.CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH)
    return _create(request, body, backend, name)


def create_durable(request: Request, backend: Backend) -> dict[str, Any]:
    """DURABLE.CREATE.<stream>.<consumer>, from before consumers had names beside durable names."""
    body = _read_create(request, backend)
    stream_name, name = request.names
    _check_stream_name(body, stream_name)
    _check_consumer_name(name)
    if not body.config.durable_name:
        raise ApiError(errors.CONSUMER_DURABLE_NAME_NOT_SET)
    if name != body.config.durable_name:
        raise ApiError(errors.CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT)
    body.config.name = name
    return _create(request, body, backend, name)


def _read_create(request: Request, backend: Backend) -> CreateConsumerRequest:
    body = read(request, backend, CreateConsumerRequest())
    check_access(request, backend)
    return body


def _check_stream_name(body: CreateConsumerRequest, name: str) -> None:
    if name != body.stream_name:
        raise ApiError(errors.STREAM_MISMATCH)


def _check_consumer_name(name: str) -> None:
    if "\\" in name or "/" in name:
        raise ApiError(errors.CONSUMER_NAME_CONTAINS_PATH_SEPARATORS)


def _create(request: Request, body: CreateConsumerRequest, backend: Backend, name: str) -> dict[str, Any]:
    config = body.config
    if config.num_replicas > 1:
        raise ApiError(errors.STREAM_REPLICAS_NOT_SUPPORTED)
    stream = find_stream(backend, body.stream_name)
    if config.direct and config.sourcing and config.name:
        name = _prepare_sourcing(config, stream, backend)
    if config.direct or config.sourcing:
        wanted = request.header(IDENTITY_HEADER)
        request.answer_headers[IDENTITY_HEADER] = stream.identity
        if wanted and wanted != stream.identity:
            raise ApiError(errors.CONSUMER_STREAM_IDENTITY_MISMATCH, identity=stream.identity)
    existing = stream.consumer(name)
    if existing is not None:
        # Only PAUSE changes it, and a stream that reads on doesn't say again where it began.
        config.pause_until = existing.config.pause_until
        if config.sourcing and config.durable_name:
            config.deliver_policy = existing.config.deliver_policy
            config.opt_start_seq = existing.config.opt_start_seq
            config.opt_start_time = existing.config.opt_start_time
    stamp_consumer(config)
    try:
        consumer = create_or_update(stream, config, body.action, backend, body.pedantic)
    except StoreError:
        # What went wrong there is for the log.
        raise ApiError(errors.CONSUMER_CREATE, err=STORE_FAILED) from None
    return _info(stream, consumer, backend.now())


def _prepare_sourcing(config: ConsumerConfig, stream: Stream, backend: Backend) -> str:
    """Another stream reads this one. Where messages go once they are consumed, its acks must count; elsewhere it gets a
    consumer of its own for each try, which the name shows."""
    if stream.config.retention != LIMITS:
        config.direct = False
        config.durable_name = config.name
        config.ack_policy = ACK_FLOW_CONTROL
        config.ack_wait = config.max_deliver = config.inactive_threshold = 0
    else:
        config.name = f"{config.name}-{backend.consumer_name()}"
    return config.name


# -- looking ----------------------------------------------------------------------------------------------------------


def _public(stream: Stream) -> list[Consumer]:
    return sorted((one for one in stream.consumers() if not one.config.direct), key=lambda one: one.name)


def names(request: Request, backend: Backend) -> dict[str, Any]:
    body = read_optional(request, backend, PagedRequest())
    found = _public(find_stream(backend, request.names[0]))
    members, chosen = page(len(found), body.offset, NAMES_LIMIT)
    return {**members, "consumers": [consumer.name for consumer in found[chosen]]}


def list_(request: Request, backend: Backend) -> dict[str, Any]:
    body = read_optional(request, backend, PagedRequest())
    stream = find_stream(backend, request.names[0])
    found = _public(stream)
    members, chosen = page(len(found), body.offset, LIST_LIMIT)
    now = backend.now()
    return {**members, "consumers": [_info(stream, consumer, now, show_level=False) for consumer in found[chosen]]}


def info(request: Request, backend: Backend) -> dict[str, Any]:
    expect_empty(request)
    check_access(request, backend)
    stream = find_stream(backend, request.names[0])
    return _info(stream, find_consumer(stream, request.names[1]), backend.now())


# -- changing ---------------------------------------------------------------------------------------------------------


def delete(request: Request, backend: Backend) -> dict[str, Any]:
    expect_empty(request)
    consumer = find_consumer(find_stream(backend, request.names[0]), request.names[1])
    try:
        consumer.delete()
    except StoreError as error:
        raise ApiError(errors.STREAM_GENERAL, err=error) from None
    return {"success": True}


def pause(request: Request, backend: Backend) -> dict[str, Any]:
    body = read_optional(request, backend, PauseRequest())
    check_access(request, backend)
    consumer = find_consumer(find_stream(backend, request.names[0]), request.names[1])
    until = body.pause_until.utc()
    config = consumer.config.clone()
    config.pause_until = None if until.is_zero else until
    stamp_consumer(config)
    try:
        consumer.update(config)
    except StoreError as error:
        raise ApiError(errors.CONSUMER_STORE_FAILED, err=error) from None
    left = until.ns - backend.now()
    members: dict[str, Any] = {"paused": left > 0, "pause_until": str(until)}
    if left > 0:
        members["pause_remaining"] = min(left, _INT64_MAX)
    return members


def unpin(request: Request, backend: Backend) -> dict[str, Any]:
    check_level(request)
    try:
        group = decode_one(request.payload, UnpinRequest()).group
    except DecodeError as error:
        raise ApiError(errors.INVALID_JSON, err=error) from None
    if not group:
        raise ApiError(errors.INVALID_JSON, err="consumer group not specified")
    if VALID_GROUP.match(group) is None:
        raise ApiError(errors.CONSUMER_INVALID_GROUP_NAME)
    check_access(request, backend)
    consumer = find_consumer(find_stream(backend, request.names[0]), request.names[1])
    if group not in consumer.config.priority_groups:
        raise ApiError(errors.CONSUMER_INVALID_PRIORITY_GROUP)
    consumer.unpin(group, "admin")
    return {}


def reset(request: Request, backend: Backend) -> dict[str, Any]:
    stream = find_stream(backend, request.names[0])
    consumer = find_consumer(stream, request.names[1])
    body = ResetRequest()
    if request.header(IDENTITY_HEADER) is not None:
        request.answer_headers[IDENTITY_HEADER] = stream.identity
    if request.payload:
        try:
            decode_one(request.payload, body)
        except DecodeError as error:
            raise ApiError(errors.INVALID_JSON, err=error) from None
    seq = body.seq or consumer.state().ack_floor.stream_seq + 1
    if body.seq:
        _check_reset(stream, consumer.config, seq)
    try:
        consumer.reset(seq)
    except StoreError as error:
        raise ApiError(errors.CONSUMER_INVALID_RESET, err=error) from None
    return {**_info(stream, consumer, backend.now()), "reset_seq": seq}


def _check_reset(stream: Stream, config: ConsumerConfig, seq: int) -> None:
    """Nobody gets back behind where the consumer was to begin."""
    wrong = ""
    if config.deliver_policy == DELIVER_BY_START_SEQUENCE:
        wrong = "below start seq" if seq < config.opt_start_seq else ""
    elif config.deliver_policy == DELIVER_BY_START_TIME and config.opt_start_time is not None:
        wrong = "below start time" if seq < stream.seq_from_time(config.opt_start_time.ns) else ""
    elif config.deliver_policy != DELIVER_ALL:
        wrong = "not allowed"
    if wrong:
        raise ApiError(errors.CONSUMER_INVALID_RESET, err=wrong)


NOT_PAUSED = {"paused": False, "pause_until": str(Time(ZERO))}
