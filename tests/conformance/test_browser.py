"""The official JavaScript clients over WebSocket, under node and in a real browser."""

from __future__ import annotations

import pytest

from tests.browser.runtime import Browser, run_in_node

from .doors import LISTENING

STEPS = [
    "publish", "request", "no responders", "headers", "900000 bytes, the same", "900000 bytes, any",
    "5000 messages in order", "jetstream", "close",
]  # fmt: skip
CONFIG = """
    http: 127.0.0.1:-1
    jetstream { store_dir: "STORE", max_mem: 100M, max_file: 100M }
    accounts { A { jetstream: enabled, users [{user: u, password: p}] } }
    websocket { listen: 127.0.0.1:-1, BLOCK }
"""
PLAIN, DEFLATED = "no_tls: true", "no_tls: true, compression: true"
COOKIES = "no_tls: true, user_cookie: natsuser, pass_cookie: natspass"
LONG = 400  # seconds for all: npm may have to fetch the packages, and a browser is no small program
WHO = {"user": "u", "pass": "p", "jetstream": True}


@pytest.fixture
def url(start, tmp_path):
    """The URL of a new server's door, by its options."""

    def get(block: str) -> str:
        store = tmp_path / str(len(list(tmp_path.iterdir())))
        store.mkdir()
        server = start(CONFIG.replace("STORE", str(store)).replace("BLOCK", block))
        scheme = "ws" if "no_tls" in block else "wss"
        return f"{scheme}://127.0.0.1:{int(server.wait_log(LISTENING)[1])}"

    return get


@pytest.mark.timeout(LONG)
def test_under_node(url, certificates):
    tls = certificates.config() + "compression: true"
    cases = [
        {"name": f"{library} {name}", "library": library, "url": address, **WHO}
        for name, address in (("plain", url(PLAIN)), ("deflated", url(DEFLATED)), ("tls", url(tls)))
        for library in ("core", "ws")
    ]
    found = run_in_node(cases, certificates.path("ca"))
    assert found == {case["name"]: STEPS for case in cases}


@pytest.fixture
def browser():
    running = Browser()
    yield running
    running.close()


@pytest.mark.timeout(LONG)
def test_in_a_browser(url, certificates, browser):
    places = {
        "plain": url(PLAIN),
        "deflated": url(DEFLATED),
        "tls": url(certificates.config() + "compression: true"),
        "allowed origin": url(f"no_tls: true, allowed_origins: ['{browser.origin}']"),
    }
    cases = [
        {"name": f"{library} {name}", "library": library, "url": address, **WHO}
        for name, address in places.items()
        for library in ("core", "ws")
    ]
    by_cookie = url(COOKIES)
    cases += [
        {"name": f"{library} cookies", "library": library, "url": by_cookie, "jetstream": True}
        for library in ("core", "ws")
    ]
    wrong = [
        {"name": "another origin", "library": "core", "url": url("no_tls: true, allowed_origins: ['http://a']"), **WHO},
        {"name": "not the same origin", "library": "core", "url": url("no_tls: true, same_origin: true"), **WHO},
        {"name": "a wrong password", "library": "core", "url": places["plain"], "user": "u", "pass": "x"},
    ]
    result = browser.run([*cases, *({**case, "refusal": True} for case in wrong)], ["natsuser=u", "natspass=p"])
    assert "Chrome" in result["agent"]
    found = result["found"]
    for case in wrong:
        assert not found.pop(case["name"]).startswith("failed"), case
    assert found == {case["name"]: STEPS for case in cases}
