"""How much of JetStream an account may use, and whether one more stream still fits.

An account has one set of limits, under the name "", or one a replication tier (R1, R3). -1 means unlimited.
"""

from __future__ import annotations

from natsc.jetstream.api_errors import (
    MAXIMUM_CONSUMERS_LIMIT,
    MAXIMUM_STREAMS_LIMIT,
    MEMORY_RESOURCES_EXCEEDED,
    NO_LIMITS,
    STORAGE_RESOURCES_EXCEEDED,
    ApiError,
)
from natsc.jetstream.quota import INT64_MAX
from natsc.jetstream.stream_config import FILE, MEMORY, StreamConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.jetstream.backend import Backend
    from natsc.jetstream.quota import AccountLimits


def tier_name(replicas: int) -> str:
    return f"R{max(replicas, 1)}"


def select_limits(limits: dict[str, AccountLimits], replicas: int) -> tuple[AccountLimits | None, str]:
    """The limits that hold for a stream or consumer of so many replicas, and their tier; None when there are none."""
    found = limits.get("")
    if found is not None:
        return found, ""
    tier = tier_name(replicas)
    return limits.get(tier), tier


def reserved_bytes(backend: Backend, tier: str) -> tuple[int, int]:
    """Bytes that the account's streams (of one tier, or "" for all) have reserved: (memory, storage)."""
    memory = storage = 0
    for stream in backend.streams():
        config = stream.config
        if config.max_bytes > 0 and tier in ("", tier_name(config.num_replicas)):
            if config.storage == MEMORY:
                memory += config.max_bytes
            else:
                storage += config.max_bytes
    return memory, storage


def check_new_stream(backend: Backend, config: StreamConfig) -> None:
    """May the account have this stream beside its others? ApiError if not."""
    limits, tier = select_limits(backend.limits, config.num_replicas)
    if limits is None:
        raise ApiError(NO_LIMITS)
    others = [stream.config for stream in backend.streams() if stream.config.name != config.name]
    alike = [other for other in others if not tier or tier_name(other.num_replicas) == tier_name(config.num_replicas)]
    if 0 < limits.max_streams <= len(alike):
        raise ApiError(MAXIMUM_STREAMS_LIMIT)
    check_limits(backend, limits, tier, config, reserved_by_others(backend, tier, config))


def reserved_by_others(backend: Backend, tier: str, config: StreamConfig) -> int:
    """Bytes of the account's limit that its other streams of the same kind of storage have reserved."""
    total = 0
    for stream in backend.streams():
        other = stream.config
        if other.name == config.name or other.storage != config.storage or other.max_bytes <= 0:
            continue
        if not tier or tier_name(other.num_replicas) == tier_name(config.num_replicas):
            total += account_bytes(tier, other.num_replicas, other.max_bytes)
    return min(total, INT64_MAX)


def account_bytes(tier: str, replicas: int, size: int) -> int:
    """What `size` bytes a replica count against the account: without tiers, each replica does."""
    if size <= 0:
        return 0
    return min(size * replicas, INT64_MAX) if not tier and replicas > 1 else size


def check_limits(backend: Backend, limits: AccountLimits, tier: str, config: StreamConfig, reserved: int) -> None:
    """Does `config` fit with `reserved` bytes taken already? Its max_bytes is what it adds. ApiError if it doesn't."""
    if 0 < limits.max_consumers < config.max_consumers:
        raise ApiError(MAXIMUM_CONSUMERS_LIMIT)
    if config.storage not in (FILE, MEMORY):
        return
    in_memory = config.storage == MEMORY
    # A stream without a limit needs room for something at least.
    added = 1 if config.max_bytes < 0 else config.max_bytes
    allowed = limits.max_memory if in_memory else limits.max_storage
    server = backend.server_limits
    server_allowed = server.max_memory if in_memory else server.max_storage
    server_reserved = backend.memory_reserved if in_memory else backend.storage_reserved
    account_full = allowed >= 0 and reserved + account_bytes(tier, config.num_replicas, added) > allowed
    if account_full or server_reserved + added > server_allowed:
        raise ApiError(MEMORY_RESOURCES_EXCEEDED if in_memory else STORAGE_RESOURCES_EXCEEDED)
