"""What clients say that isn't written as client libraries write it: pull requests, delays of NAKs.

natsc/jetstream/waiting.pyx reads the usual ones; the rules and the error texts here are those of Go's encoding/json.
"""

from __future__ import annotations

import json

from natsc.config.gotext import GoError, atoi, parse_duration
from natsc.jetstream.schema import BOOL, DURATION, INT, INT64, STRING, DecodeError, Field, Record, decode_one

TYPE_CHECKING = False
if TYPE_CHECKING:
    # batch, max_bytes, expires, heartbeat, no_wait; of a JSON request: group, min_pending, min_ack_pending, id,
    # priority
    Pull = tuple[int, int, int, int, bool, tuple[bytes, int, int, bytes, int] | None]


class PullRequest(Record):
    __slots__ = (
        "batch", "expires", "group", "id", "idle_heartbeat", "max_bytes", "min_ack_pending", "min_pending", "no_wait",
        "priority",
    )  # fmt: skip
    GO_NAME = ""  # as the reference says it
    FIELDS = (
        Field("expires", DURATION),
        Field("batch", INT),
        Field("max_bytes", INT),
        Field("no_wait", BOOL),
        Field("idle_heartbeat", DURATION),
        Field("group", STRING),
        Field("min_pending", INT64),
        Field("min_ack_pending", INT64),
        Field("id", STRING),
        Field("priority", INT),
    )
    expires: int
    batch: int
    max_bytes: int
    no_wait: bool
    idle_heartbeat: int
    group: str
    min_pending: int
    min_ack_pending: int
    id: str
    priority: int


def read_pull(body: bytes) -> Pull | str:
    """What a request says, or the text of what is wrong with it. What is neither JSON nor a number asks for one."""
    body = body.strip()
    if not body.startswith(b"{"):
        try:
            return atoi(body.decode("utf-8", "replace")), 0, 0, 0, False, None
        except GoError:
            return 1, 0, 0, 0, False, None
    try:
        request = decode_one(body, PullRequest())
    except DecodeError as error:
        return str(error)
    group = (
        request.group.encode("utf-8", "surrogateescape"),
        request.min_pending,
        request.min_ack_pending,
        request.id.encode("utf-8", "surrogateescape"),
        request.priority,
    )
    return request.batch, request.max_bytes, request.expires, request.idle_heartbeat, request.no_wait, group


def read_delay(text: bytes) -> int | None:
    """The delay of a NAK, ns: a Go duration, or an object with a "delay". None where it's neither."""
    try:
        if not text.startswith(b"{"):
            return parse_duration(text.decode())
        delay = json.loads(text).get("delay", 0)
    except (GoError, ValueError):
        return None
    return delay if type(delay) is int and abs(delay) < 1 << 62 else None
