"""Requests from bytes: verdicts and texts are the reference's, whatever the chunks."""

from __future__ import annotations

import pytest

from natsc.monitor import request as http_request
from natsc.monitor.request import Request, RequestFault, RequestParser


def parse(data: bytes, chunk: int = 0) -> tuple[list[Request], bytes | None]:
    """The requests in `data`, and the reply of the fault that ended it. With `chunk`, fed that many bytes at a time."""
    parser = RequestParser()
    found: list[Request] = []
    step = chunk or len(data)
    try:
        for at in range(0, len(data), step):
            parser.feed(data[at : at + step])
            while (request := parser.next()) is not None:
                found.append(request)
    except RequestFault as fault:
        return found, fault.reply
    return found, None


def describe(result: tuple[list[Request], bytes | None]) -> tuple[list[tuple[object, ...]], bytes | None]:
    requests, reply = result
    return [(r.method, r.path, r.query, r.http10, r.keep_alive, r.unexpected, r.whole_server) for r in requests], reply


HOST = b"Host: x\r\n"
GOOD = [
    b"GET /varz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /varz HTTP/1.1\nHost: x\n\n",
    b"GET /varz?a=1&b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /varz HTTP/1.0\r\n\r\n",
    b"GET http://foo/varz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /varz HTTP/1.2\r\nHost: x\r\n\r\n",
    b"GET /varz HTTP/1.1\r\nHost: x\r\nfoo: \xff\r\n\r\n",
    b"GET /varz?a\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"FOO /varz HTTP/1.1\r\nhOsT:x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT a.b:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /varz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /connz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /varz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: x\r\n\r\n"
    b"GET /connz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" * 3,
    b"GET /varz HTTP/1.1\r\nX: y\r\n folded\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("data", GOOD)
def test_good_requests_in_any_chunks(data: bytes) -> None:
    whole = describe(parse(data))
    assert whole[0]
    assert whole[1] is None
    assert describe(parse(data, 1)) == whole
    assert describe(parse(data, 7)) == whole


BAD = b"400 Bad Request"
NO_HOST = b"400 Bad Request: missing required Host header"
BAD_HOST = b"400 Bad Request: malformed Host header"
FAULTS = [
    (b"GET /healthz HTTP/1.1\r\n\r\n", NO_HOST),
    (b"GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n", NO_HOST),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\n foo: x\r\n\r\n", BAD_HOST),
    (b"GET /healthz HTTP/1.1\r\nHost: x y\r\n\r\n", BAD_HOST),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", BAD),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nf o: x\r\n\r\n", b"400 Bad Request: invalid header name"),
    (b"GET /healthz HTTP/1.1\r\n foo: x\r\nHost: x\r\n\r\n", BAD),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nfoo\r\n\r\n", BAD),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nfoo: \x01\r\n\r\n", BAD),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", BAD),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", BAD),
    (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", BAD),
    (b"F(O /healthz HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    (b"GET healthz HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    (b"GET /healthz\r\nHost: x\r\n\r\n", BAD),
    (b"GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    (b"GET /hea lthz HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    (b"GET /healthz%zz HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    (b"GET /healthz?a\x01 HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    (b"\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", BAD),
    (b"\x00\x00\r\n\r\n", BAD),
    (b'CONNECT {"verbose":false}\r\nPING\r\n', BAD),
    (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", b"505 HTTP Version Not Supported: unsupported protocol version"),
    (b"GET /healthz HTTP/0.9\r\nHost: x\r\n\r\n", b"505 HTTP Version Not Supported: unsupported protocol version"),
]


@pytest.mark.parametrize(("data", "line"), FAULTS)
def test_bad_requests_get_the_references_answer(data: bytes, line: bytes) -> None:
    expected = b"HTTP/1.1 " + line + b"\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" + line
    assert parse(data) == ([], expected)
    assert parse(data, 1) == ([], expected)


def test_unknown_transfer_coding() -> None:
    _, reply = parse(b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n")
    assert reply is not None
    assert reply.startswith(b"HTTP/1.1 501 Not Implemented\r\n")
    assert reply.endswith(b"\r\n\r\nUnsupported transfer encoding")


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"a" * http_request.MAX_HEAD_BYTES,
        b"GET / HTTP/1.1\r\nX: " + b"a" * http_request.MAX_HEAD_BYTES,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * (http_request.MAX_HEADERS + 1) + b"\r\n",
    ],
    ids=["line", "header", "headers"],
)
def test_too_large_a_head(data: bytes) -> None:
    _, reply = parse(data, 4096)
    assert reply is not None
    assert reply.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


@pytest.mark.parametrize(
    ("headers", "http10", "expected"),
    [
        (b"", False, True),
        (b"Connection: close\r\n", False, False),
        (b"Connection: foo, Close\r\n", False, False),
        (b"", True, False),
        (b"Connection: Keep-Alive\r\n", True, True),
        (b"Content-Length: 3\r\nExpect: 100-continue\r\n", False, False),
        (b"Content-Length: 1000000\r\n", False, False),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", False, False),
    ],
)
def test_whether_another_request_may_follow(headers: bytes, http10: bool, expected: bool) -> None:
    version = b"1.0" if http10 else b"1.1"
    (request,), _ = parse(b"GET / HTTP/" + version + b"\r\nHost: x\r\n" + headers + b"\r\n")
    assert request.keep_alive is expected


def test_an_expectation_that_nobody_meets() -> None:
    (request,), _ = parse(b"GET / HTTP/1.1\r\nHost: x\r\nExpect: foo\r\n\r\n")
    assert request.unexpected


@pytest.mark.parametrize(
    "body", [b"x\r\n", b"\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"f" * 20 + b"\r\n", b"1" * 300, b"fffffff\r\n"]
)
def test_a_malformed_chunk_ends_the_connection_without_an_answer(body: bytes) -> None:
    requests, reply = parse(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert len(requests) == 1
    assert reply == b""


def test_a_body_isnt_kept() -> None:
    parser = RequestParser()
    parser.feed(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n")
    assert parser.next() is not None
    for _ in range(20):
        parser.feed(b"x" * 9999)
        assert parser.next() is None
        assert parser.buffered == 0
    assert parser.started


def test_a_head_that_is_cut_off() -> None:
    parser = RequestParser()
    parser.end()
    parser.feed(b"GET / HTTP/1.1\r\nHo")
    assert parser.next() is None
    with pytest.raises(RequestFault):
        parser.end()


def test_a_line_break_behind_a_request_is_no_request() -> None:
    parser = RequestParser()
    parser.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\r\n")
    assert parser.next() is not None
    assert parser.next() is None
    parser.end()
    parser.feed(b"GET / HTTP/1.1\r\n")
    with pytest.raises(RequestFault):
        parser.next()


@pytest.mark.parametrize(
    ("target", "path"), [(b"http://foo", ""), (b"http:/a/b", "/a/b"), (b"a.b:80", ""), (b"http://foo/a?b", "/a")]
)
def test_absolute_targets(target: bytes, path: str) -> None:
    (request,), _ = parse(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert request.path == path


def test_faults_come_in_the_references_order() -> None:
    head = b"Host: x y\r\nTransfer-Encoding: gzip\r\n\r\n"
    for version, status in ((b"1.1", b"501"), (b"2.0", b"501")):
        _, reply = parse(b"GET / HTTP/" + version + b"\r\n" + head)
        assert reply is not None
        assert reply[9:12] == status
