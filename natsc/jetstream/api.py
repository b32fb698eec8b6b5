"""The JetStream API: finds the operation that a subject asks for, lets it be done, and makes the answer.

`dispatch` is all that a server needs for `$JS.API.>`: no I/O, no state of its own. Direct gets, and the pull requests
under CONSUMER.MSG.NEXT, are answered with messages, not with JSON, and are not among its operations.
"""

from __future__ import annotations

from natsc.jetstream import api_account, api_consumer, api_messages, api_stream
from natsc.jetstream import api_errors as errors
from natsc.jetstream.advisories import api_audit
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.api_request import (
    NO_PAGE,
    PREFIX,
    Reply,
    Request,
    Unanswered,
    answer,
    check_access,
    check_level,
    header_block,
)
from natsc.jetstream.backend import finish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from natsc.jetstream.backend import Backend, Steps

    Handler = Callable[[Request, Backend], dict[str, Any] | Steps[dict[str, Any]]]

_AUDIT = "$JS.EVENT.ADVISORY.API"

_CREATE = "consumer_create"
_WRITES = {
    "stream_create", "stream_update", "stream_delete", "stream_purge", "stream_restore", "stream_msg_delete",
    "consumer_create", "consumer_delete", "consumer_pause", "consumer_unpin", "consumer_reset",
}  # fmt: skip


class Operation:
    """What one form of subject means.

    `stem` names the answer's type; `names_min` to `names_max` tokens follow the operation's own; `refusal` is what an
    error answer has beside the error. `open`: the handler itself looks whether JetStream may be used, and when.
    `counted` in the statistics and told to who listens for API audits: always, only when it fails, or never. `writes`:
    it is refused where nothing can be stored any more.
    """

    __slots__ = (
        "count_errors", "count_successes", "handler", "names_max", "names_min", "open", "refusal", "stem", "writes",
    )  # fmt: skip

    def __init__(
        self,
        stem: str,
        handler: Handler,
        names: int,
        refusal: dict[str, Any] | None = None,
        *,
        open: bool = False,
        names_max: int = 0,
        counted: str = "always",
    ) -> None:
        self.stem = stem
        self.handler = handler
        self.names_min = names
        self.names_max = names_max or names
        self.refusal = refusal or {}
        self.open = open
        self.writes = stem in _WRITES
        self.count_successes = counted == "always"
        self.count_errors = counted != "never"


def _clustered(request: Request, backend: Backend) -> dict[str, Any]:
    raise ApiError(errors.CLUSTER_REQUIRED)


def _reset(request: Request, backend: Backend) -> dict[str, Any]:
    """Consumers answer this themselves: where there is none nobody does."""
    stream = backend.stream(request.names[0])
    if stream is None or stream.consumer(request.names[1]) is None:
        raise Unanswered
    check_level(request)
    return api_consumer.reset(request, backend)


_STREAMS: dict[str, Any] = {**NO_PAGE, "streams": []}
_CONSUMERS: dict[str, Any] = {**NO_PAGE, "consumers": []}

# By the tokens of the subject that name the operation. Several forms of one differ in the number of names behind it.
_OPERATIONS: dict[str, tuple[Operation, ...]] = {
    "INFO": (Operation("account_info", api_account.info, 0),),
    "STREAM.CREATE": (Operation("stream_create", api_stream.create, 1),),
    "STREAM.UPDATE": (Operation("stream_update", api_stream.update, 1),),
    "STREAM.NAMES": (Operation("stream_names", api_stream.names, 0, {**NO_PAGE, "streams": None}),),
    "STREAM.LIST": (Operation("stream_list", api_stream.list_, 0, _STREAMS),),
    "STREAM.INFO": (Operation("stream_info", api_stream.info, 1, NO_PAGE),),
    "STREAM.DELETE": (Operation("stream_delete", api_stream.delete, 1),),
    "STREAM.PURGE": (Operation("stream_purge", api_stream.purge, 1, {"purged": 0}),),
    "STREAM.SNAPSHOT": (Operation("stream_snapshot", api_stream.snapshot, 1),),
    "STREAM.RESTORE": (Operation("stream_restore", api_stream.restore, 1, {"deliver_subject": ""}),),
    "STREAM.MSG.GET": (Operation("stream_msg_get", api_messages.get, 1, counted="errors"),),
    "STREAM.MSG.DELETE": (Operation("stream_msg_delete", api_messages.delete, 1),),
    "CONSUMER.CREATE": (
        Operation(_CREATE, api_consumer.create, 1, open=True),
        Operation(_CREATE, api_consumer.create_named, 2, open=True, names_max=1 << 30),
    ),
    "CONSUMER.DURABLE.CREATE": (Operation(_CREATE, api_consumer.create_durable, 2, open=True),),
    "CONSUMER.NAMES": (Operation("consumer_names", api_consumer.names, 1, _CONSUMERS),),
    "CONSUMER.LIST": (Operation("consumer_list", api_consumer.list_, 1, _CONSUMERS),),
    "CONSUMER.INFO": (Operation("consumer_info", api_consumer.info, 2, open=True),),
    "CONSUMER.DELETE": (Operation("consumer_delete", api_consumer.delete, 2),),
    "CONSUMER.PAUSE": (Operation("consumer_pause", api_consumer.pause, 2, api_consumer.NOT_PAUSED, open=True),),
    "CONSUMER.UNPIN": (Operation("consumer_unpin", api_consumer.unpin, 2, open=True),),
    "CONSUMER.RESET": (Operation("consumer_reset", _reset, 2, {"reset_seq": 0}, open=True, counted="never"),),
    # A single server has no peers and no leaders.
    "STREAM.PEER.REMOVE": (Operation("stream_remove_peer", _clustered, 1, open=True),),
    "STREAM.PEER.EVACUATE": (Operation("stream_evacuate_peer", _clustered, 1, open=True),),
    "STREAM.CANCEL_MOVE": (Operation("stream_cancel_move", _clustered, 1, open=True),),
    "STREAM.LEADER.STEPDOWN": (Operation("stream_leader_stepdown", _clustered, 1, open=True),),
    "CONSUMER.PEER.REMOVE": (Operation("consumer_remove_peer", _clustered, 2, open=True),),
    "CONSUMER.PEER.EVACUATE": (Operation("consumer_evacuate_peer", _clustered, 2, open=True),),
    "CONSUMER.LEADER.STEPDOWN": (Operation("consumer_leader_stepdown", _clustered, 2, open=True),),
}


def find_operation(subject: str) -> tuple[Operation, list[str]] | None:
    """The operation that a subject asks for, and the names in it; None when there is no such operation."""
    if not subject.startswith(PREFIX):
        return None
    tokens = subject[len(PREFIX) :].split(".")
    for words in (2, 3, 1):
        for operation in _OPERATIONS.get(".".join(tokens[:words]), ()):
            if operation.names_min <= len(tokens) - words <= operation.names_max:
                return operation, tokens[words:]
    return None


def dispatch(request: Request, backend: Backend) -> Reply | None:
    """Do what a request asks for, at once. None when nobody is to be answered (or another server may)."""
    return finish(begin(request, backend))


def begin(request: Request, backend: Backend) -> Steps[Reply | None]:
    """dispatch in steps: what may take long yields after each."""
    found = find_operation(request.subject)
    if found is None:
        return None
    operation, request.names = found
    failed = False
    try:
        if not operation.open:
            check_access(request, backend)
        if operation.writes and backend.failure:
            raise ApiError(errors.STREAM_STORE_FAILED, err=backend.failure)
        members = operation.handler(request, backend)
        if not isinstance(members, dict):
            members = yield from members
    except Unanswered:
        return None
    except ApiError as error:
        failed = True
        members = {"error": error.as_json(), **operation.refusal}
        request.answer_headers.clear()
    headers = header_block(request.answer_headers) if request.answer_headers else b""
    reply = answer(operation.stem, members, headers)
    if operation.count_errors if failed else operation.count_successes:
        backend.count_request(failed)
        if backend.has_interest(_AUDIT):
            backend.publish(*api_audit(backend, request, reply.payload))
    return reply
