"""API levels: what a stream or consumer needs, what this server has, and where both are shown.

A stream's or consumer's metadata says which level it needs (kept with it); answers also say the server's version and
level (never kept).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.jetstream.consumer_config import ConsumerConfig
    from natsc.jetstream.stream_config import StreamConfig

API_LEVEL = 5
# The release of the reference whose API this is.
API_VERSION = "2.15.1"

REQUIRED_LEVEL = "_nats.req.level"
_VERSION = "_nats.ver"
_LEVEL = "_nats.level"

REQUIRED_LEVEL_HEADER = "Nats-Required-Api-Level"


def stamp_stream(config: StreamConfig) -> None:
    """Write the level that `config` needs into its metadata."""
    level = 0
    if config.allow_msg_ttl or config.subject_delete_marker_ttl > 0:
        level = 1
    if config.allow_msg_counter or config.allow_atomic or config.allow_msg_schedules or config.persist_mode == "async":
        level = 2
    if config.allow_batched:
        level = 4
    _stamp(config.metadata, level)


def stamp_consumer(config: ConsumerConfig) -> None:
    """Write the level that `config` needs into its metadata."""
    level = 0
    if config.pause_until is not None and not config.pause_until.is_zero:
        level = 1
    if config.priority_policy != "none" or config.priority_timeout != 0 or config.priority_groups:
        level = 1
    if config.ack_policy == "flow_control":
        level = 4
    _stamp(config.metadata, level)


def _stamp(metadata: dict[str, str], level: int) -> None:
    remove_dynamic(metadata)
    metadata[REQUIRED_LEVEL] = str(level)


def remove_dynamic(metadata: dict[str, str]) -> None:
    """Take out what is only ever shown."""
    metadata.pop(_VERSION, None)
    metadata.pop(_LEVEL, None)


def shown(config: StreamConfig | ConsumerConfig) -> dict[str, Any]:
    """The JSON of a configuration as answers show it: with the server's version and level."""
    metadata = {**config.metadata, _VERSION: API_VERSION, _LEVEL: str(API_LEVEL)}
    if not config.metadata:
        config = config.clone()
        config.metadata = metadata
        return config.as_json()
    members = config.as_json()
    members["metadata"] = dict(sorted(metadata.items()))
    return members


def copy_required_level(metadata: dict[str, str], previous: dict[str, str]) -> None:
    """Make `metadata` need what `previous` needs, so that the two can be compared."""
    remove_dynamic(metadata)
    if REQUIRED_LEVEL in previous:
        metadata[REQUIRED_LEVEL] = previous[REQUIRED_LEVEL]
    else:
        metadata.pop(REQUIRED_LEVEL, None)


def level_too_high(value: str | None) -> bool:
    """Does the header of a request ask for more than this server has (or for something that is no number)?"""
    from natsc.config.gotext import GoError, atoi

    text = (value or "").lstrip(" ")
    if not text:
        return False
    try:
        return atoi(text) > API_LEVEL
    except GoError:
        return True
