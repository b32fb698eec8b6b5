"""Events that JetStream publishes in an account: advisories under $JS.EVENT.ADVISORY, metrics under $JS.EVENT.METRIC.

Each function returns (subject, payload) of one event. They cost something to make: ask first whether anybody listens.
Times are wall clock ns.
"""

from __future__ import annotations

from natsc.jetstream.gotime import ZERO, format_time
from natsc.jetstream.schema import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.jetstream.api_request import Request
    from natsc.jetstream.backend import Backend
    from natsc.jetstream.consumer_config import ConsumerConfig
    from natsc.jetstream.stream_config import StreamState

    Event = tuple[str, bytes]

ADVISORY = "$JS.EVENT.ADVISORY"
METRIC = "$JS.EVENT.METRIC"
CREATE, DELETE, MODIFY = "create", "delete", "modify"

_STREAM_SUBJECTS = {CREATE: "STREAM.CREATED", DELETE: "STREAM.DELETED", MODIFY: "STREAM.UPDATED"}
_CONSUMER_SUBJECTS = {CREATE: "CONSUMER.CREATED", DELETE: "CONSUMER.DELETED"}
# Why a batch of messages was given up.
BATCH_TIMEOUT, BATCH_LARGE, BATCH_INCOMPLETE, BATCH_UNSUPPORTED = "timeout", "large", "incomplete", "unsupported"


def _event(backend: Backend, subject: str, kind: str, members: dict[str, Any], domain: bool = True) -> Event:
    """`kind` is the type behind io.nats.jetstream; the domain comes last unless it is among `members` already."""
    body = {"type": f"io.nats.jetstream.{kind}", "id": backend.event_id(), "timestamp": format_time(backend.now())}
    body.update(members)
    if domain and backend.domain:
        body["domain"] = backend.domain
    return subject, encode(body)


def client_json(client: dict[str, Any] | None) -> dict[str, Any] | None:
    """A ClientInfo as advisories show it: without the client's credentials."""
    if client is None:
        return None
    return {name: value for name, value in client.items() if name not in ("jwt", "alts")}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def api_audit(backend: Backend, request: Request, response: bytes) -> Event:
    members: dict[str, Any] = {
        "server": backend.server_name,
        "client": client_json(request.client),
        "subject": request.subject,
    }
    if request.payload:
        members["request"] = _text(request.payload)
    members["response"] = _text(response)
    return _event(backend, f"{ADVISORY}.API", "advisory.v1.api_audit", members)


def api_limit_reached(backend: Backend, dropped: int) -> Event:
    """For the system account: requests were dropped, too many were waiting."""
    members: dict[str, Any] = {"server": backend.server_name}
    if backend.domain:
        members["domain"] = backend.domain
    members["dropped"] = dropped
    return _event(backend, f"{ADVISORY}.API.LIMIT_REACHED", "advisory.v1.api_limit_reached", members, domain=False)


def stream_action(backend: Backend, stream: str, action: str) -> Event:
    subject = f"{ADVISORY}.{_STREAM_SUBJECTS[action]}.{stream}"
    return _event(backend, subject, "advisory.v1.stream_action", {"stream": stream, "action": action})


def consumer_action(backend: Backend, stream: str, consumer: str, action: str) -> Event:
    subject = f"{ADVISORY}.{_CONSUMER_SUBJECTS[action]}.{stream}.{consumer}"
    members = {"stream": stream, "consumer": consumer, "action": action}
    return _event(backend, subject, "advisory.v1.consumer_action", members)


def consumer_pause(backend: Backend, stream: str, consumer: str, config: ConsumerConfig) -> Event:
    until = config.pause_until
    members: dict[str, Any] = {
        "stream": stream,
        "consumer": consumer,
        "paused": until is not None and backend.now() < until.ns,
        "pause_until": format_time(ZERO) if until is None else str(until),
    }
    return _event(backend, f"{ADVISORY}.CONSUMER.PAUSE.{stream}.{consumer}", "advisory.v1.consumer_pause", members)


def consumer_pinned(backend: Backend, account: str, stream: str, consumer: str, group: str, pinned_id: str) -> Event:
    members = _group(backend, account, stream, consumer, group)
    members["pinned_id"] = pinned_id
    subject = f"{ADVISORY}.CONSUMER.PINNED.{stream}.{consumer}"
    return _event(backend, subject, "advisory.v1.consumer_group_pinned", members, domain=False)


def consumer_unpinned(backend: Backend, account: str, stream: str, consumer: str, group: str, reason: str) -> Event:
    """`reason`: "admin" or "timeout"."""
    members = _group(backend, account, stream, consumer, group)
    members["reason"] = reason
    subject = f"{ADVISORY}.CONSUMER.UNPINNED.{stream}.{consumer}"
    return _event(backend, subject, "advisory.v1.consumer_group_unpinned", members, domain=False)


def _group(backend: Backend, account: str, stream: str, consumer: str, group: str) -> dict[str, Any]:
    members = {"account": account, "stream": stream, "consumer": consumer}
    if backend.domain:
        members["domain"] = backend.domain
    members["group"] = group
    return members


def max_deliver(backend: Backend, stream: str, consumer: str, stream_seq: int, deliveries: int) -> Event:
    members = {"stream": stream, "consumer": consumer, "stream_seq": stream_seq, "deliveries": deliveries}
    subject = f"{ADVISORY}.CONSUMER.MAX_DELIVERIES.{stream}.{consumer}"
    return _event(backend, subject, "advisory.v1.max_deliver", members)


def message_naked(
    backend: Backend, stream: str, consumer: str, consumer_seq: int, stream_seq: int, deliveries: int
) -> Event:
    members = _delivery(stream, consumer, consumer_seq, stream_seq, deliveries)
    return _event(backend, f"{ADVISORY}.CONSUMER.MSG_NAKED.{stream}.{consumer}", "advisory.v1.nak", members)


def message_terminated(
    backend: Backend, stream: str, consumer: str, consumer_seq: int, stream_seq: int, deliveries: int, reason: str
) -> Event:
    members = _delivery(stream, consumer, consumer_seq, stream_seq, deliveries)
    if reason:
        members["reason"] = reason
    subject = f"{ADVISORY}.CONSUMER.MSG_TERMINATED.{stream}.{consumer}"
    return _event(backend, subject, "advisory.v1.terminated", members)


def ack_metric(
    backend: Backend, stream: str, consumer: str, consumer_seq: int, stream_seq: int, ack_time: int, deliveries: int
) -> Event:
    """`ack_time`: ns from the delivery to the ack."""
    members = {
        "stream": stream, "consumer": consumer, "consumer_seq": consumer_seq, "stream_seq": stream_seq,
        "ack_time": ack_time, "deliveries": deliveries,
    }  # fmt: skip
    return _event(backend, f"{METRIC}.CONSUMER.ACK.{stream}.{consumer}", "metric.v1.consumer_ack", members)


def _delivery(stream: str, consumer: str, consumer_seq: int, stream_seq: int, deliveries: int) -> dict[str, Any]:
    return {
        "stream": stream, "consumer": consumer, "consumer_seq": consumer_seq, "stream_seq": stream_seq,
        "deliveries": deliveries,
    }  # fmt: skip


def snapshot_create(backend: Backend, stream: str, state: StreamState, client: dict[str, Any] | None) -> Event:
    members = {"stream": stream, "state": state.as_json(), "client": client_json(client)}
    subject = f"{ADVISORY}.STREAM.SNAPSHOT_CREATE.{stream}"
    return _event(backend, subject, "advisory.v1.snapshot_create", members)


def snapshot_complete(
    backend: Backend, stream: str, start: int, end: int, client: dict[str, Any] | None, error: str = ""
) -> Event:
    members = _transfer(stream, start, end)
    members["client"] = client_json(client)
    if backend.domain:
        members["domain"] = backend.domain
    if error:
        members["error"] = error
    subject = f"{ADVISORY}.STREAM.SNAPSHOT_COMPLETE.{stream}"
    return _event(backend, subject, "advisory.v1.snapshot_complete", members, domain=False)


def restore_create(backend: Backend, stream: str, client: dict[str, Any] | None) -> Event:
    members = {"stream": stream, "client": client_json(client)}
    return _event(backend, f"{ADVISORY}.STREAM.RESTORE_CREATE.{stream}", "advisory.v1.restore_create", members)


def restore_complete(
    backend: Backend, stream: str, start: int, end: int, size: int, client: dict[str, Any] | None
) -> Event:
    """`size` in bytes as received."""
    members = _transfer(stream, start, end)
    members["bytes"] = size
    members["client"] = client_json(client)
    subject = f"{ADVISORY}.STREAM.RESTORE_COMPLETE.{stream}"
    return _event(backend, subject, "advisory.v1.restore_complete", members)


def _transfer(stream: str, start: int, end: int) -> dict[str, Any]:
    return {"stream": stream, "start": format_time(start), "end": format_time(end)}


def batch_abandoned(backend: Backend, account: str, stream: str, batch: str, reason: str) -> Event:
    """`account` is "" where the reference doesn't tell it."""
    members: dict[str, Any] = {"account": account} if account else {}
    members["stream"] = stream
    if backend.domain:
        members["domain"] = backend.domain
    members["batch"] = batch
    members["reason"] = reason
    subject = f"{ADVISORY}.STREAM.BATCH_ABANDONED.{stream}"
    return _event(backend, subject, "advisory.v1.stream_batch_abandoned", members, domain=False)


def out_of_storage(backend: Backend, server_id: str, stream: str) -> Event:
    """For the system account: there is no room for what `stream` has to store."""
    members: dict[str, Any] = {"server": backend.server_name, "server_id": server_id}
    if stream:
        members["stream"] = stream
    members["cluster"] = backend.cluster_name
    subject = f"{ADVISORY}.SERVER.OUT_OF_STORAGE"
    return _event(backend, subject, "advisory.v1.server_out_of_space", members)
