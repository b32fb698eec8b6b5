"""$JS.API.INFO: what an account has and may have."""

from __future__ import annotations

from natsc.jetstream.limits import reserved_bytes, tier_name
from natsc.jetstream.quota import AccountLimits
from natsc.jetstream.versioning import API_LEVEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.jetstream.api_request import Request
    from natsc.jetstream.backend import Backend

_NOTHING = AccountLimits(0, 0, 0, 0, 0, 0, 0)


def info(request: Request, backend: Backend) -> dict[str, Any]:
    return account_stats(backend)


def account_stats(backend: Backend) -> dict[str, Any]:
    """The members of an account's JetStream statistics, as INFO and $SYS requests show them."""
    usage = backend.usage()
    streams = [(stream.config.num_replicas, sum(1 for _ in stream.consumers())) for stream in backend.streams()]
    flat = backend.limits.get("")
    members = _tier(
        sum(memory for memory, _ in usage.values()),
        sum(storage for _, storage in usage.values()),
        reserved_bytes(backend, ""),
        len(streams),
        sum(consumers for _, consumers in streams),
        flat if flat is not None else _NOTHING,
    )
    if backend.domain:
        members["domain"] = backend.domain
    members["api"] = {"level": API_LEVEL, "total": backend.api_total, "errors": backend.api_errors}
    if flat is None:
        tiers = {}
        for name in sorted({*backend.limits, *usage, *(tier_name(replicas) for replicas, _ in streams)}):
            own = [consumers for replicas, consumers in streams if tier_name(replicas) == name]
            memory, storage = usage.get(name, (0, 0))
            if name not in backend.limits and not own and not memory and not storage:
                continue
            limits = backend.limits.get(name, _NOTHING)
            tiers[name] = _tier(memory, storage, reserved_bytes(backend, name), len(own), sum(own), limits)
        if tiers:
            members["tiers"] = tiers
    return members


def _tier(
    memory: int, storage: int, reserved: tuple[int, int], streams: int, consumers: int, limits: AccountLimits
) -> dict[str, Any]:
    return {
        "memory": memory,
        "storage": storage,
        "reserved_memory": reserved[0],
        "reserved_storage": reserved[1],
        "streams": streams,
        "consumers": consumers,
        "limits": limits.as_json(),
    }
