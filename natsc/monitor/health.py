"""/healthz: whether the server can do its work, as orchestrators ask it."""

from __future__ import annotations

from natsc.monitor import snapshot
from natsc.monitor.gojson import compact, go_quote
from natsc.monitor.params import decode_bool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.monitor.endpoints import Response
    from natsc.monitor.params import Query

_WHERE = {"ACCOUNT": ("account",), "STREAM": ("account", "stream"), "CONSUMER": ("account", "stream", "consumer")}
_ONLY = ("js-enabled", "js-enabled-only", "js-server-only", "js-meta-only")


def healthz(server: Any, query: Query) -> Response:
    """200, or another status with a reason. Failures are also logged. Raises BadRequest."""
    snapshot.count_request(server, "/healthz")
    only: dict[str, bool] = {}
    for name in _ONLY:
        only[name] = decode_bool(query, name)
        if name == "js-enabled" and only[name]:
            server.log.warn("Healthcheck: js-enabled deprecated, use js-enabled-only instead")
    details = decode_bool(query, "details")
    status, word, kind, error = check(server, query, only["js-server-only"])
    body: dict[str, Any] = {"status": word}
    if error and details:
        server.log.warn("Healthcheck failed: 1 errors")
        where = {name: query[name] for name in _WHERE.get(kind, ())} if status == 404 else {}
        body = {"status": "error", "errors": [{"type": kind, **where, "error": error}]}
    elif error:
        server.log.warn(f"Healthcheck failed: {go_quote(error)}")
        body["error"] = error
    return status, "application/json", compact(body).encode()


def check(server: Any, query: Query, server_only: bool) -> tuple[int, str, str, str]:
    """Status code, status word, kind of error and error text (empty when healthy)."""
    for name, parent in (("stream", "account"), ("consumer", "stream")):
        if query.get(name) and not query.get(parent):
            return 400, "error", "BAD_REQUEST", f'"{parent}" must not be empty when checking {name} health'
    waiting = snapshot.not_ready(server)
    if waiting:
        return 500, "error", "CONNECTION", f"failed to be ready for connections after 1ms: {waiting}"
    if not server_only and snapshot.lacks_jetstream(server):
        return 503, "unavailable", "JETSTREAM", "JetStream not enabled"
    jetstream = snapshot.jetstream(server)
    if not server_only and jetstream is not None:
        return _check_jetstream(jetstream, query)
    return 200, "ok", "", ""


def _check_jetstream(jetstream: Any, query: Query) -> tuple[int, str, str, str]:
    if decode_bool(query, "js-enabled-only") or decode_bool(query, "js-enabled"):
        return 200, "ok", "", ""
    if jetstream.outbox.failed:
        return 503, "unavailable", "JETSTREAM", f"JetStream {jetstream.failure}"
    for name in jetstream.broken:
        return 503, "unavailable", "STREAM", f"JetStream stream '{name}' could not be recovered"
    account, stream, consumer = (query.get(name, "") for name in ("account", "stream", "consumer"))
    backend = jetstream.accounts.get(account)
    if account and (backend is None or not backend.by_name):
        return 404, "unavailable", "ACCOUNT", f"JetStream account {go_quote(account)} not found"
    found = backend.stream(stream) if backend is not None and stream else None
    if stream and found is None:
        text = f"JetStream stream {go_quote(stream)} not found on account {go_quote(account)}"
        return 404, "unavailable", "STREAM", text
    if consumer and found is not None and found.consumer(consumer) is None:
        where = f"for stream {go_quote(stream)} on account {go_quote(account)}"
        return 404, "unavailable", "CONSUMER", f"JetStream consumer {go_quote(consumer)} not found {where}"
    return 200, "ok", "", ""
