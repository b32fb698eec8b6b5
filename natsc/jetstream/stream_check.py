"""Is a stream's configuration possible? Fills in what wasn't given, as the reference does, and says what is wrong."""

from __future__ import annotations

from natsc.config.gotext import format_duration, quote
from natsc.config.subject_mapping import collide, is_subset, mapping_error, transform_error
from natsc.config.subjects import is_valid_literal, is_valid_subject
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.limits import select_limits
from natsc.jetstream.stream_config import ASYNC, FILE, LIMITS, MEMORY, NEW, StreamConfig, StreamSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.jetstream.backend import Backend

NAME_MAX = 255
DESCRIPTION_MAX = 4096
METADATA_MAX = 128 * 1024
REPLICAS_MAX = 5
API_PREFIX = "$JS.API"

_MS = 1_000_000
_SECOND = 1_000_000_000
_DUPLICATES_DEFAULT = 120 * _SECOND
_SHORTEST = 100 * _MS
_NOT_IN_NAMES = frozenset(" \t\r\n\f.*>\\/")


def is_valid_name(name: str) -> bool:
    """May a stream or a consumer be called so?"""
    return bool(name) and _NOT_IN_NAMES.isdisjoint(name)


def size_of(text: str) -> int:
    """Bytes of `text` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def metadata_size(metadata: dict[str, str]) -> int:
    return sum(size_of(key) + size_of(value) for key, value in metadata.items())


def invalid(text: str) -> ApiError:
    return ApiError(errors.STREAM_INVALID_CONFIG, err=text)


def _pedantic(text: str) -> ApiError:
    return ApiError(errors.PEDANTIC, err=text)


def checked(given: StreamConfig, backend: Backend, pedantic: bool) -> StreamConfig:
    """A copy of `given` with all defaults. `pedantic`: what would have to be put right is an error. Raises ApiError."""
    _check_texts(given)
    config = given.clone()
    config.storage = config.storage or FILE
    _fill_counts(config, pedantic)
    _check_ages(config, backend.server_limits.duplicates, pedantic)
    _check_features(config, pedantic)
    origins = _Origins()
    if config.mirror is not None:
        _check_mirror(config, config.mirror, backend, pedantic, origins)
    _check_sources(config, backend, origins)
    origins.check_prefixes()
    _check_cycle(config, backend)
    _check_subjects(config)
    _check_account(config, backend)
    _check_transforms(config, pedantic)
    placement = config.placement
    if placement is not None and not placement.as_json():
        config.placement = None
    elif placement is not None and placement.preferred:
        raise invalid("preferred server not permitted in placement")
    return config


def _check_texts(config: StreamConfig) -> None:
    if not is_valid_name(config.name):
        raise invalid("stream name is required and can not contain '.', '*', '>', '\\', '/'")
    if size_of(config.name) > NAME_MAX:
        raise invalid(f"stream name is too long, maximum allowed is {NAME_MAX}")
    if size_of(config.description) > DESCRIPTION_MAX:
        raise invalid(f"stream description is too long, maximum allowed is {DESCRIPTION_MAX}")
    if metadata_size(config.metadata) > METADATA_MAX:
        raise invalid(f"stream metadata exceeds maximum size of {METADATA_MAX} bytes")


def _fill_counts(config: StreamConfig, pedantic: bool) -> None:
    config.num_replicas = config.num_replicas or 1
    if config.num_replicas > REPLICAS_MAX:
        raise invalid(f"maximum replicas is {REPLICAS_MAX}")
    if config.num_replicas < 0:
        raise ApiError(errors.REPLICAS_COUNT_CANNOT_BE_NEGATIVE)
    for name in ("max_msgs", "max_msgs_per_subject", "max_bytes", "max_msg_size", "max_consumers"):
        value = getattr(config, name)
        if value == 0 or value < -1:
            if pedantic and value < -1:
                raise _pedantic(f"{name} must be set to -1")
            setattr(config, name, -1)


def _check_ages(config: StreamConfig, duplicates_max: int, pedantic: bool) -> None:
    if config.max_age < 0:
        raise invalid("max age can not be negative")
    if 0 < config.max_age < _SHORTEST:
        raise invalid("max age needs to be >= 100ms")
    if config.duplicate_window == 0 and config.mirror is None and not config.sources:
        window = _DUPLICATES_DEFAULT
        if 0 < duplicates_max < window:
            if pedantic:
                raise _pedantic("duplicate window limits are higher than current limits")
            window = duplicates_max
        if 0 < config.max_age < window:
            if pedantic:
                raise _pedantic("duplicate window cannot be bigger than max age")
            window = config.max_age
        config.duplicate_window = window
    if config.duplicate_window < 0:
        raise invalid("duplicates window can not be negative")
    if 0 < config.max_age < config.duplicate_window:
        raise invalid("duplicates window can not be larger then max age")
    if 0 < duplicates_max < config.duplicate_window:
        raise invalid(f"duplicates window can not be larger then server limit of {format_duration(duplicates_max)}")
    if 0 < config.duplicate_window < _SHORTEST:
        raise invalid("duplicates window needs to be >= 100ms")


def check_discard_per_subject(config: StreamConfig) -> None:
    if config.discard_new_per_subject:
        if config.discard != NEW:
            raise invalid("discard new per subject requires discard new policy to be set")
        if config.max_msgs_per_subject <= 0:
            raise invalid("discard new per subject requires max msgs per subject > 0")


def _check_features(config: StreamConfig, pedantic: bool) -> None:
    if config.deny_purge and config.allow_rollup_hdrs:
        raise invalid("roll-ups require the purge permission")
    if config.allow_msg_counter:
        _check_counter(config)
    check_discard_per_subject(config)
    if config.subject_delete_marker_ttl > 0:
        if config.subject_delete_marker_ttl < _SECOND:
            raise invalid("subject delete marker TTL must be at least 1 second")
        if not config.allow_msg_ttl:
            if pedantic:
                raise invalid("subject delete marker cannot be set if message TTLs are disabled")
            config.allow_msg_ttl = True
        _allow_rollup(config, pedantic, "subject delete marker cannot be set if roll-ups are disabled")
    elif config.subject_delete_marker_ttl < 0:
        raise invalid("subject delete marker TTL must not be negative")
    if config.allow_msg_schedules:
        if config.discard == NEW:
            raise invalid("message scheduling cannot use discard new")
        _allow_rollup(config, pedantic, "message scheduling cannot be set if roll-ups are disabled")
    if config.persist_mode == ASYNC:
        if config.storage != FILE:
            raise invalid("async persist mode is only supported on file storage")
        if config.num_replicas > 1:
            raise invalid("async persist mode is not supported on replicated streams")
        if config.allow_atomic:
            raise invalid("async persist mode is not supported with atomic batch publish")


def _check_counter(config: StreamConfig) -> None:
    if config.discard == NEW:
        raise invalid("counter stream cannot use discard new")
    if config.allow_msg_ttl:
        raise invalid("counter stream cannot use message TTLs")
    if config.allow_msg_schedules:
        raise invalid("counter stream cannot use message schedules")
    if config.retention != LIMITS:
        raise invalid("counter stream can only use limits retention")


def _allow_rollup(config: StreamConfig, pedantic: bool, refusal: str) -> None:
    if not config.allow_rollup_hdrs:
        if pedantic:
            raise invalid(refusal)
        config.allow_rollup_hdrs, config.deny_purge = True, False


# -- mirrors and sources ----------------------------------------------------------------------------------------------


class _Origins:
    """What is gathered from the origins of a stream, to be compared when all are known."""

    __slots__ = ("api", "deliver", "subjects")

    def __init__(self) -> None:
        self.api: list[str] = []
        self.deliver: list[str] = []
        self.subjects: list[str] = []

    def add_external(self, source: StreamSource) -> None:
        if source.external is not None:
            self.deliver += [source.external.deliver] if source.external.deliver else []
            self.api += [source.external.api] if source.external.api else []

    def check_prefixes(self) -> None:
        for prefix in self.deliver:
            if not is_valid_literal(prefix):
                raise ApiError(errors.STREAM_INVALID_EXTERNAL_DELIVERY_SUBJ, prefix=prefix)
            for subject in self.subjects:
                if collide(subject, f"{prefix}.{subject}"):
                    raise ApiError(errors.STREAM_EXTERNAL_DEL_PREFIX_OVERLAPS, prefix=prefix, subject=subject)
        for prefix in self.api:
            if not is_valid_literal(prefix):
                raise invalid(f"stream external api prefix {quote(prefix)} must be a valid subject without wildcards")
            if collide(prefix, API_PREFIX):
                raise ApiError(errors.STREAM_EXTERNAL_API_OVERLAP, prefix=prefix, subject=API_PREFIX)


def _durable_is_wrong(source: StreamSource) -> bool:
    """A consumer made by others says where it delivers, and where to start and what to filter is its own affair."""
    consumer = source.consumer
    return consumer is not None and bool(
        not is_valid_name(consumer.name)
        or not is_valid_literal(consumer.deliver_subject)
        or source.opt_start_seq
        or source.opt_start_time is not None
        or source.filter_subject
    )


def _check_mirror(
    config: StreamConfig, mirror: StreamSource, backend: Backend, pedantic: bool, origins: _Origins
) -> None:
    for is_set, error in (
        (config.first_seq > 0, errors.MIRROR_WITH_FIRST_SEQ),
        (config.subjects, errors.MIRROR_WITH_SUBJECTS),
        (config.sources, errors.MIRROR_WITH_SOURCES),
        (config.allow_msg_counter, errors.MIRROR_WITH_COUNTERS),
        (config.allow_atomic, errors.MIRROR_WITH_ATOMIC_PUBLISH),
        (config.allow_batched, errors.MIRROR_WITH_BATCH_PUBLISH),
        (config.allow_msg_schedules, errors.MIRROR_WITH_MSG_SCHEDULES),
        (_durable_is_wrong(mirror), errors.MIRROR_DURABLE_CONSUMER_CFG_INVALID),
        (mirror.filter_subject and mirror.subject_transforms, errors.MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED),
    ):
        if is_set:
            raise ApiError(error)
    if config.subject_delete_marker_ttl > 0:
        # A marker would use up a sequence number that the origin hasn't used.
        raise invalid("subject delete markers forbidden on mirrors")
    _check_mirror_transforms(mirror)
    if mirror.external is not None:
        origins.add_external(mirror)
        return
    if not is_valid_name(mirror.name):
        raise ApiError(errors.MIRROR_INVALID_STREAM_NAME)
    # The origin needn't exist, and may be this stream's own name elsewhere.
    origin = backend.stream(mirror.name)
    if origin is None:
        return
    origins.subjects += origin.config.subjects
    if 0 < config.max_msg_size < origin.config.max_msg_size:
        raise ApiError(errors.MIRROR_MAX_MESSAGE_SIZE_TOO_BIG)
    if pedantic and config.mirror_direct != origin.config.allow_direct:
        raise _pedantic("origin stream has direct get set, mirror has it disabled")
    config.mirror_direct = origin.config.allow_direct


def _check_mirror_transforms(mirror: StreamSource) -> None:
    transforms = mirror.subject_transforms
    for index, transform in enumerate(transforms):
        if transform.src and not is_valid_subject(transform.src):
            raise ApiError(errors.MIRROR_INVALID_SUBJECT_FILTER, err=f"invalid subject {transform.src}")
        wrong = mapping_error(transform.src, transform.dest)
        if wrong is not None:
            raise ApiError(errors.MIRROR_INVALID_TRANSFORM_DESTINATION, err=wrong)
        if any(collide(transform.src, other.src) for at, other in enumerate(transforms) if at != index):
            raise ApiError(errors.MIRROR_OVERLAPPING_SUBJECT_FILTERS)


def _check_sources(config: StreamConfig, backend: Backend, origins: _Origins) -> None:
    if config.sources and config.allow_msg_schedules:
        raise ApiError(errors.SOURCE_WITH_MSG_SCHEDULES)
    seen: set[tuple[object, ...]] = set()
    consumers: set[tuple[object, ...]] = set()
    for source in config.sources:
        if source is None or not is_valid_name(source.name):
            raise ApiError(errors.SOURCE_INVALID_STREAM_NAME)
        if source.index_name() in seen:
            raise ApiError(errors.SOURCE_DUPLICATE_DETECTED)
        seen.add(source.index_name())
        _check_source_transforms(source)
        if source.consumer is not None:
            if _durable_is_wrong(source):
                raise ApiError(errors.SOURCE_DURABLE_CONSUMER_CFG_INVALID)
            if source.origin() in consumers:
                raise ApiError(errors.SOURCE_DURABLE_CONSUMER_DUPLICATE_DETECTED)
            consumers.add(source.origin())
        if source.external is not None:
            origins.add_external(source)
            continue
        origin = backend.stream(source.name)
        if origin is not None:
            origins.subjects += origin.config.subjects
            if 0 < config.max_msg_size < origin.config.max_msg_size:
                raise ApiError(errors.SOURCE_MAX_MESSAGE_SIZE_TOO_BIG)


def _check_source_transforms(source: StreamSource) -> None:
    transforms = source.subject_transforms
    if source.filter_subject and transforms:
        raise ApiError(errors.SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED)
    for transform in transforms:
        if transform.src and not is_valid_subject(transform.src):
            raise ApiError(errors.SOURCE_INVALID_SUBJECT_FILTER, err=f"invalid subject {transform.src}")
        wrong = mapping_error(transform.src, transform.dest)
        if wrong is not None:
            raise ApiError(errors.SOURCE_INVALID_TRANSFORM_DESTINATION, err=wrong)
    for index, transform in enumerate(transforms):
        if any(is_subset(transform.src, other.src) for at, other in enumerate(transforms) if at != index):
            raise ApiError(errors.SOURCE_OVERLAPPING_SUBJECT_FILTERS)


def check_origin_filters(config: StreamConfig) -> None:
    """Filters of mirrors and sources are only looked at when a stream is created. Raises ApiError."""
    if (
        config.mirror is not None
        and config.mirror.filter_subject
        and not is_valid_subject(config.mirror.filter_subject)
    ):
        text = f"subject filter '{config.mirror.filter_subject}' for the mirror invalid subject"
        raise ApiError(errors.STREAM_CREATE, err=text)
    for source in config.sources:
        if source.filter_subject and not is_valid_subject(source.filter_subject):
            text = f"subject filter '{source.filter_subject}' for the source: invalid subject"
            raise ApiError(errors.STREAM_CREATE, err=text)


def _check_cycle(config: StreamConfig, backend: Backend) -> None:
    """Do messages come back to a stream through those that it reads from?"""
    to_visit = [config]
    visited: set[str] = set()
    while to_visit:
        current = to_visit.pop(0)
        visited.add(current.name)
        for source in current.sources:
            if source.external is not None:
                continue
            if source.name in visited:
                if not source.filter_subject or any(collide(own, source.filter_subject) for own in current.subjects):
                    raise invalid("detected cycle")
            elif (origin := backend.stream(source.name)) is not None:
                to_visit.append(origin.config)
        mirror = current.mirror
        if mirror is not None and mirror.external is None:
            if mirror.name in visited:
                raise invalid("detected cycle")
            if (origin := backend.stream(mirror.name)) is not None:
                to_visit.append(origin.config)


# -- subjects ---------------------------------------------------------------------------------------------------------


def _check_subjects(config: StreamConfig) -> None:
    if not config.subjects:
        if config.mirror is None and not config.sources:
            config.subjects = [config.name]
        return
    seen: set[str] = set()
    for index, subject in enumerate(config.subjects):
        if not is_valid_subject(subject):
            raise invalid("invalid subject")
        if subject in seen:
            raise invalid("duplicate subjects detected")
        if subject == ">":
            if not config.no_ack:
                raise invalid("capturing all subjects requires no-ack to be true")
            if config.num_replicas != 1:
                raise invalid("capturing all subjects requires replicas of 1")
        if not config.no_ack:
            _check_reserved(subject)
        for other in config.subjects[index + 1 :]:
            if collide(other, subject):
                raise invalid(f"subject {quote(subject)} overlaps with {quote(other)}")
        seen.add(subject)


def _check_reserved(subject: str) -> None:
    if any(collide(subject, space) for space in ("$JS.>", "$JSC.>", "$NRG.>")) and not is_subset(
        subject, "$JS.EVENT.>"
    ):
        raise invalid("subjects that overlap with jetstream api require no-ack to be true")
    if collide(subject, "$SYS.>") and not is_subset(subject, "$SYS.ACCOUNT.>"):
        raise invalid("subjects that overlap with system api require no-ack to be true")


def subjects_overlap(backend: Backend, subjects: list[str], own_name: str = "") -> bool:
    """Does a stream other than `own_name` receive any of these subjects?"""
    return any(
        collide(subject, other)
        for stream in backend.streams()
        if stream.config.name != own_name
        for other in stream.config.subjects
        for subject in subjects
    )


def _check_account(config: StreamConfig, backend: Backend) -> None:
    limits, _ = select_limits(backend.limits, config.num_replicas)
    if limits is None:
        return
    size_max = limits.memory_max_stream_bytes if config.storage == MEMORY else limits.storage_max_stream_bytes
    if limits.max_bytes_required and config.max_bytes <= 0:
        raise ApiError(errors.STREAM_MAX_BYTES_REQUIRED)
    if 0 < size_max < config.max_bytes:
        raise ApiError(errors.STREAM_MAX_STREAM_BYTES_EXCEEDED)


def _check_transforms(config: StreamConfig, pedantic: bool) -> None:
    transform = config.subject_transform
    if transform is not None:
        if transform.src and not is_valid_subject(transform.src):
            raise ApiError(errors.STREAM_TRANSFORM_INVALID_SOURCE, err=f"invalid subject {transform.src}")
        wrong = mapping_error(transform.src, transform.dest)
        if wrong is not None:
            raise ApiError(errors.STREAM_TRANSFORM_INVALID_DESTINATION, err=wrong)
    republish = config.republish
    if republish is None:
        return
    if not republish.src:
        if pedantic:
            raise _pedantic("republish source can not be empty")
        republish.src = ">"
    # All to all would feed the stream itself, unless the stream's transform takes its only subject elsewhere first.
    if republish.src == republish.dest == ">" and transform is not None and config.subjects == [transform.src]:
        if pedantic:
            raise _pedantic("implicit republish based on subject transform")
        republish.src = republish.dest = transform.dest
    if any(collide(republish.dest, subject) for subject in config.subjects):
        raise invalid("stream configuration for republish destination forms a cycle")
    if transform_error(republish.src, republish.dest) is not None:
        raise invalid(
            f"stream configuration for republish with transform from '{republish.src}' to '{republish.dest}' not valid"
        )
