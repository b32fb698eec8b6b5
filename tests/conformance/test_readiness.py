"""/healthz and /varz of a server that comes or goes."""

from __future__ import annotations

import signal

import pytest

GOODBYE = 'http: 127.0.0.1:-1\nlame_duck_duration: "40s"\nlame_duck_grace_period: "30s"\n'
WHY = "failed to be ready for connections after 1ms: server"


class TestLameDuck:
    @pytest.fixture
    def leaving(self, start, dial):
        server = start(GOODBYE)
        dial(server).ready()
        server.signal(signal.SIGUSR2)
        server.wait_log("Entering lame duck mode")
        return server

    def test_not_ready(self, leaving):
        answer = leaving.get("/healthz")
        assert (answer.status, answer.json()) == (500, {"status": "error", "error": WHY})
        leaving.wait_log(rf'\[WRN\] Healthcheck failed: "{WHY}"$')

    def test_details(self, leaving):
        answer = leaving.get("/healthz?details=true")
        assert (answer.status, answer.json()) == (
            500,
            {"status": "error", "errors": [{"type": "CONNECTION", "error": WHY}]},
        )

    def test_without_jetstream_too(self, leaving):
        assert leaving.get("/healthz?js-server-only=true").status == 500

    def test_monitoring_goes_on(self, leaving):
        assert leaving.varz()["connections"] == 1


def test_varz_answers_before_clients_are_accepted(start):
    """The port is of the configuration then."""
    server = start("http: 127.0.0.1:-1\n", wait=False)
    server.wait_log("Starting http monitor")
    for _ in range(20):
        answer = server.get("/varz")
        assert answer.status == 200, answer.body
    assert {"server_id", "version", "host", "port"} <= answer.json().keys()
