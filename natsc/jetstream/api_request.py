"""Requests and answers of the JetStream API, and what their handlers share."""

from __future__ import annotations

from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.schema import (
    INT,
    DecodeError,
    Field,
    Record,
    decode,
    encode,
    is_empty_request,
    is_object_or_list,
)
from natsc.jetstream.versioning import REQUIRED_LEVEL_HEADER, level_too_high

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from natsc.jetstream.backend import Backend, Consumer, Stream

    R = TypeVar("R", bound=Record)

PREFIX = "$JS.API."
TYPE_PREFIX = "io.nats.jetstream.api.v1."
NAMES_LIMIT = 1024
LIST_LIMIT = 256


class Request:
    """One request. `headers` is the header block as it came, b"" without one; `names` are the tokens of the subject
    behind the operation; `client` is the ClientInfo of who asks, for advisories. Headers of the answer, where there are
    any, are put into `answer_headers`."""

    __slots__ = ("answer_headers", "client", "headers", "names", "payload", "subject")

    def __init__(
        self, subject: str, payload: bytes, headers: bytes = b"", client: dict[str, Any] | None = None
    ) -> None:
        self.subject = subject
        self.payload = payload
        self.headers = headers
        self.client = client
        self.names: list[str] = []
        self.answer_headers: dict[str, object] = {}

    def header(self, name: str) -> str | None:
        return header(self.headers, name)


class Reply:
    """What is sent back. `headers` is a whole header block or b""."""

    __slots__ = ("headers", "payload")

    def __init__(self, payload: bytes, headers: bytes = b"") -> None:
        self.payload = payload
        self.headers = headers


class Unanswered(Exception):
    """Somebody else may have the answer, or nobody: this server says nothing."""


class PagedRequest(Record):
    """CONSUMER.NAMES and CONSUMER.LIST."""

    __slots__ = ("offset",)
    GO_NAME = "JSApiConsumersRequest"
    FIELDS: tuple[Field, ...] = (Field("offset", INT, omit_empty=False),)
    offset: int


def header(block: bytes, name: str) -> str | None:
    """The value of the first header of just this name in a header block, without blanks before it."""
    start = block.find(f"\r\n{name}:".encode())
    if start < 0:
        return None
    start += len(name) + 3
    end = block.find(b"\r\n", start)
    return block[start : end if end >= 0 else len(block)].lstrip(b" ").decode("utf-8", "surrogateescape")


def header_block(members: dict[str, object]) -> bytes:
    return "".join(("NATS/1.0\r\n", *(f"{name}: {value}\r\n" for name, value in members.items()), "\r\n")).encode()


def check_level(request: Request) -> None:
    if level_too_high(request.header(REQUIRED_LEVEL_HEADER)):
        raise ApiError(errors.REQUIRED_API_LEVEL)


def check_access(request: Request, backend: Backend) -> None:
    """May this request be answered at all? ApiError when it asks for too high a level or JetStream is off."""
    check_level(request)
    if not backend.enabled:
        if not backend.alone:
            raise Unanswered
        raise ApiError(errors.NOT_ENABLED_FOR_ACCOUNT)


def read(request: Request, backend: Backend, target: R) -> R:
    """The body as a record; ApiError when it can't be read."""
    try:
        return decode(request.payload, target, backend.strict)
    except DecodeError as error:
        raise ApiError(errors.INVALID_JSON, err=error) from None


def read_optional(request: Request, backend: Backend, target: R) -> R:
    """The body as a record, or an empty record when the body doesn't even look like JSON."""
    return read(request, backend, target) if is_object_or_list(request.payload) else target


def read_required(request: Request, backend: Backend, target: R) -> R:
    """The body as a record; ApiError when there is none."""
    if is_empty_request(request.payload):
        raise ApiError(errors.BAD_REQUEST)
    return read(request, backend, target)


def expect_empty(request: Request) -> None:
    if not is_empty_request(request.payload):
        raise ApiError(errors.NOT_EMPTY_REQUEST)


def find_stream(backend: Backend, name: str) -> Stream:
    stream = backend.stream(name)
    if stream is None:
        raise ApiError(errors.STREAM_NOT_FOUND)
    return stream


def find_consumer(stream: Stream, name: str) -> Consumer:
    consumer = stream.consumer(name)
    if consumer is None:
        raise ApiError(errors.CONSUMER_NOT_FOUND)
    return consumer


def page(total: int, offset: int, limit: int) -> tuple[dict[str, int], slice]:
    """The members that describe a page of a list, and the items that are on it."""
    offset = min(max(offset, 0), total)
    return {"total": total, "offset": offset, "limit": limit}, slice(offset, offset + limit)


def answer(stem: str, members: dict[str, Any], headers: bytes = b"") -> Reply:
    return Reply(encode({"type": f"{TYPE_PREFIX}{stem}_response", **members}), headers)


NO_PAGE = {"total": 0, "offset": 0, "limit": 0}
