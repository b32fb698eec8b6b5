"""The $JS.API.STREAM operations on whole streams: each takes a checked request and returns its answer's members."""

from __future__ import annotations

from heapq import merge
from itertools import islice

from natsc.config.subject_mapping import collide
from natsc.config.subjects import is_valid_literal
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError, api_error
from natsc.jetstream.api_request import (
    LIST_LIMIT,
    NAMES_LIMIT,
    NO_PAGE,
    PagedRequest,
    Reply,
    Request,
    answer,
    expect_empty,
    find_stream,
    page,
    read,
    read_optional,
    read_required,
)
from natsc.jetstream.backend import StoreError
from natsc.jetstream.gotime import format_time
from natsc.jetstream.limits import check_new_stream
from natsc.jetstream.schema import BOOL, INT, STRING, UINT64, Field, Nested, Record, is_empty_request
from natsc.jetstream.stream_check import checked, invalid
from natsc.jetstream.stream_config import StreamConfig, StreamConfigRequest, StreamState
from natsc.jetstream.stream_update import check_restore, updated
from natsc.jetstream.stream_update import create as create_stream
from natsc.jetstream.versioning import shown, stamp_stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.jetstream.backend import Backend, Steps, Stream

SUBJECTS_LIMIT = 100_000
SORTED_AT_ONCE = 10_000
_KIB = 1024
_MIB = 1024 * 1024
STORE_FAILED = "error creating store for stream"


class InfoRequest(Record):
    __slots__ = ("deleted_details", "offset", "subjects_filter")
    GO_NAME = "JSApiStreamInfoRequest"
    FIELDS = (*PagedRequest.FIELDS, Field("deleted_details", BOOL), Field("subjects_filter", STRING))
    offset: int
    deleted_details: bool
    subjects_filter: str


class NamesRequest(Record):
    __slots__ = ("offset", "subject")
    GO_NAME = "JSApiStreamNamesRequest"
    FIELDS = (*PagedRequest.FIELDS, Field("subject", STRING))
    offset: int
    subject: str


class ListRequest(NamesRequest):
    __slots__ = ()
    GO_NAME = "JSApiStreamListRequest"


class PurgeRequest(Record):
    __slots__ = ("filter", "keep", "seq")
    GO_NAME = "JSApiStreamPurgeRequest"
    FIELDS = (Field("seq", UINT64), Field("filter", STRING), Field("keep", UINT64))
    seq: int
    filter: str
    keep: int


class SnapshotRequest(Record):
    """Sizes in bytes, 0 for the server's own choice."""

    __slots__ = ("chunk_size", "deliver_subject", "jsck", "no_consumers", "window_size")
    GO_NAME = "JSApiStreamSnapshotRequest"
    FIELDS = (
        Field("deliver_subject", STRING, omit_empty=False),
        Field("no_consumers", BOOL),
        Field("chunk_size", INT),
        Field("window_size", INT),
        Field("jsck", BOOL),
    )
    deliver_subject: str
    no_consumers: bool
    chunk_size: int
    window_size: int
    jsck: bool

    def sizes(self) -> tuple[int, int]:
        """Bytes of a chunk, and how many chunks may be on their way unacknowledged."""
        chunk = min(max(self.chunk_size or 128 * _KIB, _KIB), _MIB)
        window = min(max(self.window_size or 8 * _MIB, _KIB), 32 * _MIB)
        return chunk, max(window, chunk) // chunk


class RestoreRequest(Record):
    __slots__ = ("config", "state")
    GO_NAME = "JSApiStreamRestoreRequest"
    FIELDS = (
        Field("config", Nested(StreamConfig), omit_empty=False),
        Field("state", Nested(StreamState), omit_empty=False),
    )
    config: StreamConfig
    state: StreamState


def stream_info(
    stream: Stream,
    config: dict[str, Any],
    state: dict[str, Any],
    now: int,
    domain: str = "",
    cluster: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The members of a StreamInfo. `now` in ns."""
    members: dict[str, Any] = {"config": config, "created": format_time(stream.created), "state": state}
    if domain:
        members["domain"] = domain
    if cluster is not None:
        members["cluster"] = cluster
    mirror = stream.mirror_info()
    if mirror is not None:
        members["mirror"] = mirror.as_json()
    sources = stream.sources_info()
    if sources:
        members["sources"] = [source.as_json() for source in sources]
    members["ts"] = format_time(now)
    return members


def create(request: Request, backend: Backend) -> dict[str, Any]:
    body = read(request, backend, StreamConfigRequest())
    config = body.config()
    stamp_stream(config)
    name = request.names[0]
    if name != config.name:
        raise ApiError(errors.STREAM_MISMATCH)
    if "\\" in name or "/" in name:
        raise ApiError(errors.STREAM_NAME_CONTAINS_PATH_SEPARATORS)
    if config.sealed:
        raise invalid("stream configuration for create can not be sealed")
    if config.mirror_direct and config.mirror is None:
        raise invalid("stream has no mirror but does have mirror direct")
    check_new_stream(backend, config)
    try:
        stream = create_stream(config, backend, body.pedantic)
    except StoreError:
        # What went wrong there is for the log.
        raise ApiError(errors.STREAM_CREATE, err=STORE_FAILED) from None
    members = stream_info(stream, shown(stream.config), stream.state().as_json(), backend.now())
    members["did_create"] = True
    return members


def update(request: Request, backend: Backend) -> Steps[dict[str, Any]]:
    body = read(request, backend, StreamConfigRequest())
    config = checked(body.config(), backend, body.pedantic)
    if request.names[0] != config.name:
        raise ApiError(errors.STREAM_MISMATCH)
    stream = find_stream(backend, config.name)
    stamp_stream(config)
    try:
        stream.update(updated(stream, config, backend, body.pedantic))
    except StoreError as error:
        raise ApiError(errors.STREAM_UPDATE, err=error) from None
    while stream.enforcing or stream.unread:
        yield
    return stream_info(stream, shown(stream.config), stream.state().as_json(), backend.now(), backend.domain)


def _matching(backend: Backend, filter: str) -> list[Stream]:
    """The streams that receive subjects which match `filter`, or all for "", by name."""
    found = [
        stream
        for stream in backend.streams()
        if not filter or any(collide(filter, subject) for subject in stream.config.subjects)
    ]
    return sorted(found, key=lambda stream: stream.config.name)


def names(request: Request, backend: Backend) -> dict[str, Any]:
    body = read_optional(request, backend, NamesRequest())
    found = _matching(backend, body.subject)
    members, chosen = page(len(found), body.offset, NAMES_LIMIT)
    return {**members, "streams": [stream.config.name for stream in found[chosen]] or None}


def list_(request: Request, backend: Backend) -> dict[str, Any]:
    body = read_optional(request, backend, ListRequest())
    found = _matching(backend, body.subject)
    members, chosen = page(len(found), body.offset, LIST_LIMIT)
    now = backend.now()
    infos = [
        stream_info(stream, stream.config.as_json(), stream.state().as_json(), now, backend.domain)
        for stream in found[chosen]
    ]
    return {**members, "streams": infos}


def _page_of_subjects(totals: dict[str, int], offset: int) -> Steps[list[str]]:
    """Those of a page, in order: sorted in parts, and only as far as the page needs."""
    parts = []
    names = iter(totals)
    while part := sorted(islice(names, SORTED_AT_ONCE)):
        parts.append(part)
        yield
    merged = merge(*parts)
    while offset > 0:
        offset -= sum(1 for _ in islice(merged, min(offset, SORTED_AT_ONCE))) or offset
        yield
    chosen: list[str] = []
    while len(chosen) < SUBJECTS_LIMIT and (part := list(islice(merged, SORTED_AT_ONCE))):
        chosen += part
        yield
    return chosen[:SUBJECTS_LIMIT]


def info(request: Request, backend: Backend) -> Steps[dict[str, Any]]:
    body = read_optional(request, backend, InfoRequest())
    stream = find_stream(backend, request.names[0])
    paging: dict[str, int] = NO_PAGE
    subjects: dict[str, int] | None = None
    if body.subjects_filter:
        totals = yield from stream.subjects_totals(body.subjects_filter)
        if totals:
            offset = max(body.offset, 0)
            paging = {"total": len(totals), "offset": offset, "limit": SUBJECTS_LIMIT}
            chosen = yield from _page_of_subjects(totals, offset)
            subjects = {subject: totals[subject] for subject in chosen}
    state = stream.state(body.deleted_details)
    if subjects is not None:
        state.subjects = subjects
    cluster = {"name": backend.cluster_name} if backend.cluster_name else {}
    cluster["leader"] = backend.server_name
    shown_config = shown(stream.config)
    return {**paging, **stream_info(stream, shown_config, state.as_json(), backend.now(), backend.domain, cluster)}


def delete(request: Request, backend: Backend) -> dict[str, Any]:
    expect_empty(request)
    stream = find_stream(backend, request.names[0])
    try:
        stream.delete()
    except StoreError as error:
        raise ApiError(errors.STREAM_DELETE, err=error) from None
    return {"success": True}


def purge(request: Request, backend: Backend) -> Steps[dict[str, Any]]:
    body = read_optional(request, backend, PurgeRequest())
    if body.seq > 0 and body.keep > 0:
        raise ApiError(errors.BAD_REQUEST)
    stream = find_stream(backend, request.names[0])
    if stream.config.sealed:
        raise ApiError(errors.STREAM_SEALED)
    if stream.config.deny_purge:
        raise ApiError(errors.STREAM_PURGE_FAILED, err="stream purge not permitted")
    try:
        purged = yield from stream.purge(body.filter, body.seq, body.keep)
    except (StoreError, ApiError) as error:
        # Told as an answer like any other: the statistics count no error.
        return {"error": api_error(errors.STREAM_GENERAL, error).as_json(), "purged": 0}
    return {"success": True, "purged": purged}


def snapshot(request: Request, backend: Backend) -> dict[str, Any]:
    if is_empty_request(request.payload):
        raise ApiError(errors.BAD_REQUEST)
    stream = find_stream(backend, request.names[0])
    body = read(request, backend, SnapshotRequest())
    if not is_valid_literal(body.deliver_subject):
        raise ApiError(errors.SNAPSHOT_DELIVER_SUBJECT_INVALID)
    try:
        state = stream.snapshot(body, request.client)
    except StoreError as error:
        raise ApiError(errors.STREAM_SNAPSHOT, err=error) from None
    return {"config": stream.config.as_json(), "state": state.as_json()}


def restored(stream: Stream | Exception, backend: Backend) -> Reply:
    """What the sender of a snapshot is told behind its last chunk: the stream, or what went wrong."""
    if isinstance(stream, Exception):
        return answer("stream_create", {"error": api_error(errors.STREAM_RESTORE, stream).as_json()})
    return answer(
        "stream_create",
        {
            "config": shown(stream.config),
            "created": format_time(stream.created),
            "state": stream.state().as_json(),
            "ts": format_time(backend.now()),
        },
    )


def restore(request: Request, backend: Backend) -> dict[str, Any]:
    body = read_required(request, backend, RestoreRequest())
    name = request.names[0]
    body.config.name = body.config.name or name
    if name != body.config.name:
        raise ApiError(errors.STREAM_MISMATCH)
    if "\\" in name or "/" in name:
        raise ApiError(errors.STREAM_NAME_CONTAINS_PATH_SEPARATORS)
    config = check_restore(body.config, backend)
    if backend.stream(name) is not None:
        raise ApiError(errors.STREAM_NAME_EXIST_RESTORE_FAILED)
    return {"deliver_subject": backend.restore(config, request.client)}
