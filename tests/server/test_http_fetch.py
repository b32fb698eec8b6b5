"""GET for account JWTs: what comes back, and what the other side can't do."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from natsc.server.http_fetch import _reason, get, redacted

SECRET = "aladdin:opensesame"


class Site:
    """What was asked for: path and Authorization. Answers by path."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers.get("Authorization")))
                getattr(site, self.path.strip("/").partition("/")[0])(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def fine(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"a.b.c\n")

    def other(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(204)
        handler.end_headers()

    def moved(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"http://{self.host}/fine")
        handler.end_headers()

    def to_file(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "file:///etc/passwd")
        handler.end_headers()

    def loop(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/loop")
        handler.end_headers()

    def giant(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(64):
                handler.wfile.write(b"x" * 65536)
        except OSError:
            return

    def trickle(self, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(200):
                handler.wfile.write(b"x")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            return


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_text(site: Site) -> None:
    assert get(f"http://{site.host}/fine/X", 5, None) == "a.b.c"
    assert site.asked == [("/fine/X", None)]


def test_user_and_password_of_the_url(site: Site) -> None:
    assert get(f"http://aladdin:open%73esame@{site.host}/fine", 5, None) == "a.b.c"
    assert site.asked == [("/fine", "Basic YWxhZGRpbjpvcGVuc2VzYW1l")]


def test_they_are_not_for_others(site: Site) -> None:
    assert get(f"http://{SECRET}@{site.host}/moved", 5, None) == "a.b.c"
    assert [secret is not None for _, secret in site.asked] == [True, False]


@pytest.mark.parametrize("path", ["other", "to_file", "loop", "giant"])
def test_what_is_no_answer(site: Site, path: str) -> None:
    with pytest.raises((OSError, ValueError)) as raised:
        get(f"http://{SECRET}@{site.host}/{path}", 5, None)
    assert "opensesame" not in _reason(raised.value)


def test_an_answer_without_an_end(site: Site) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        get(f"http://{site.host}/trickle", 0.3, None)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "nowhere", f"gopher://{SECRET}@h/x"])
def test_other_schemes(url: str) -> None:
    with pytest.raises((OSError, ValueError)) as raised:
        get(url, 1, None)
    assert "opensesame" not in _reason(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://host/a@b", "http://host/a@b"),
        ("http://user:secret@host/a", "http://user:xxxxx@host/a"),
        ("http://user@host/a", "http://user@host/a"),
        ("http://user:sec@ret@host/a", "http://user:xxxxx@host/a"),
    ],
)
def test_urls_in_the_log(url: str, shown: str) -> None:
    assert redacted(url) == shown
