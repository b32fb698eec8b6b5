"""Creating and updating streams: which configurations a new or an existing stream may have."""

from __future__ import annotations

from natsc.config.subject_mapping import transform_error
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.limits import account_bytes, check_limits, check_new_stream, reserved_by_others, select_limits
from natsc.jetstream.stream_check import (
    check_discard_per_subject,
    check_origin_filters,
    checked,
    invalid,
    subjects_overlap,
)
from natsc.jetstream.stream_config import NEW, WORK_QUEUE, Republish, StreamConfig
from natsc.jetstream.versioning import copy_required_level

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.jetstream.backend import Backend, Stream


def create(given: StreamConfig, backend: Backend, pedantic: bool) -> Stream:
    """The new stream, or the one that has just this configuration already. Raises ApiError."""
    config = checked(given, backend, pedantic)
    if config.num_replicas > 1:
        raise ApiError(errors.STREAM_REPLICAS_NOT_SUPPORTED)
    existing = backend.stream(config.name)
    if existing is not None:
        copy_required_level(config.metadata, existing.config.metadata)
        if config != existing.config:
            raise ApiError(errors.STREAM_NAME_EXIST)
        return existing
    limits, tier = select_limits(backend.limits, config.num_replicas)
    if limits is None:
        raise ApiError(errors.NO_LIMITS)
    check_limits(backend, limits, tier, config, reserved_by_others(backend, tier, config))
    check_origin_filters(config)
    if subjects_overlap(backend, config.subjects):
        raise ApiError(errors.STREAM_SUBJECT_OVERLAP)
    return backend.create_stream(config)


def check_restore(given: StreamConfig, backend: Backend) -> StreamConfig:
    """What a restored stream will be configured with. Raises ApiError."""
    config = checked(given, backend, False)
    check_new_stream(backend, config)
    return config


def updated(stream: Stream, given: StreamConfig, backend: Backend, pedantic: bool) -> StreamConfig:
    """What `stream` will be configured with when it is updated to `given`. Raises ApiError."""
    config = checked(given, backend, pedantic)
    old = stream.config
    _check_changes(old, config)
    if config.sealed:
        config.max_age = 0
        config.discard = NEW
        config.deny_delete = config.deny_purge = True
        config.allow_rollup_hdrs = False
    _check_room(old, config, backend)
    _check_consumers(stream, config)
    if subjects_overlap(backend, config.subjects, config.name):
        raise ApiError(errors.STREAM_SUBJECT_OVERLAP)
    if config.republish is not None:
        _fill_republish(config.republish)
    return config


def _fill_republish(republish: Republish) -> None:
    """Updates, unlike creations, take no destination for "where it came from"."""
    republish.dest = republish.dest or ">"
    wrong = transform_error(republish.src, republish.dest)
    if wrong is not None:
        text = f"stream configuration for republish from '{republish.src}' to '{republish.dest}': {wrong}"
        raise ApiError(errors.STREAM_UPDATE, err=text)


def _check_changes(old: StreamConfig, new: StreamConfig) -> None:
    if new.name != old.name:
        raise invalid("stream configuration name must match original")
    if new.num_replicas > 1:
        raise ApiError(errors.STREAM_REPLICAS_NOT_SUPPORTED)
    prefix = "stream configuration update can not"
    if new.storage != old.storage:
        raise invalid(f"{prefix} change storage type")
    if new.retention != old.retention and WORK_QUEUE in (new.retention, old.retention):
        raise invalid(f"{prefix} change retention policy to/from workqueue")
    if old.sealed and not new.sealed:
        raise invalid(f"{prefix} unseal a sealed stream")
    if old.deny_delete and not new.deny_delete:
        raise invalid(f"{prefix} cancel deny message deletes")
    if old.deny_purge and not new.deny_purge:
        raise invalid(f"{prefix} cancel deny purge")
    # A mirror may become an ordinary stream, by leaving the mirror out.
    if new.mirror is not None and new.mirror != old.mirror:
        raise ApiError(errors.STREAM_MIRROR_NOT_UPDATABLE)
    check_discard_per_subject(new)
    if old.allow_msg_ttl and not new.allow_msg_ttl:
        raise invalid("message TTL status can not be disabled")
    if new.allow_msg_counter != old.allow_msg_counter:
        raise invalid(f"{prefix} change message counter setting")
    if old.allow_msg_schedules and not new.allow_msg_schedules:
        raise invalid("message schedules can not be disabled")
    if new.persist_mode != old.persist_mode:
        raise invalid(f"{prefix} change persist mode")


def _check_room(old: StreamConfig, new: StreamConfig, backend: Backend) -> None:
    """The account must have room for what the stream will reserve, the server for what it will reserve more."""
    limits, tier = select_limits(backend.limits, new.num_replicas)
    if limits is None and old.num_replicas != new.num_replicas:
        limits, tier = select_limits(backend.limits, old.num_replicas)
    if limits is None:
        raise ApiError(errors.NO_LIMITS)
    more = max(max(new.max_bytes, 0) - max(old.max_bytes, 0), 0)
    reserved = reserved_by_others(backend, tier, new) + account_bytes(tier, new.num_replicas, new.max_bytes - more)
    size, new.max_bytes = new.max_bytes, more
    try:
        check_limits(backend, limits, tier, new, reserved)
    finally:
        new.max_bytes = size


def _check_consumers(stream: Stream, new: StreamConfig) -> None:
    """Lower limits for consumers must not be below what those there are have."""
    old_limits, limits = stream.config.consumer_limits, new.consumer_limits
    if old_limits == limits:
        return
    threshold, pending = limits.inactive_threshold, limits.max_ack_pending
    if not (0 < threshold != old_limits.inactive_threshold or 0 < pending != old_limits.max_ack_pending):
        return
    beyond = [
        consumer.name
        for consumer in stream.consumers()
        if 0 < threshold < consumer.config.inactive_threshold or 0 < pending < consumer.config.max_ack_pending
    ]
    if beyond:
        raise ApiError(errors.STREAM_UPDATE, err=f"change to limits violates consumers: {', '.join(beyond)}")
