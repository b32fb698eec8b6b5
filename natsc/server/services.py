"""What responders and owners of a service are told of those who ask: the requester, and how long answers take.

Latency metrics are those of nats-server's `latency` of a service export, by its type
io.nats.server.metric.v1.service_latency.
"""

from __future__ import annotations

from natsc.client_info import client_info
from natsc.jetstream.gotime import format_time
from natsc.monitor.gojson import compact

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc._core import Client
    from natsc.server.server import Server

# How a request ended, as natsc/engine/service.pyx says it: status and description.
_ENDS = ((200, ""), (503, "Service Unavailable"), (504, "Service Timeout"), (408, "Request Timeout"))
_B3 = ("X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Spanid", "X-B3-Traceid")


def requester(server: Server, client: Client | None, service: Any) -> bytes:
    """The value of Nats-Request-Info for a service that is shared."""
    through = service.account.name if client is not None and client.account is not service.account else ""
    return compact(client_info(server, client, True, through)).encode("utf-8", "surrogateescape")


class Measured:
    """A request whose latency is to be told."""

    def __init__(self, server: Server, requester: Client | None, service: Any, header: dict[str, list[str]]) -> None:
        self.server = server
        self.requester = requester
        self.service = service
        self.header = header
        self.start_ns = server.clock.wall_ns()

    def end(self, responder: Client | None, status: int, description: str) -> None:
        """Publishes the metric in the exporter's account."""
        server, now_ns = self.server, self.server.clock.wall_ns()
        asked = client_info(server, self.requester, self.service.share)
        asked_rtt = asked.get("rtt", 0)
        metric: dict[str, Any] = {
            "type": "io.nats.server.metric.v1.service_latency",
            "id": server.event_id(),
            "timestamp": format_time(now_ns),
            "status": status,
        }
        if description:
            metric["description"] = description
        if asked:
            metric["requestor"] = asked
        service_ns = total_ns = 0
        if status == 200:
            answered = client_info(server, responder, True)
            if answered:
                metric["responder"] = answered
            service_ns = max(now_ns - self.start_ns - answered.get("rtt", 0), 0)
            total_ns = max(now_ns - self.start_ns + asked_rtt, 0)
        if self.header:
            metric["header"] = self.header
        metric["start"] = format_time(self.start_ns - asked_rtt)
        metric.update(service=service_ns, system=0, total=total_ns)
        subject = self.service.latency.subject.encode("utf-8", "surrogateescape")
        server.loop.call_soon(_publish, server, self.service.dest, subject, compact(metric).encode())


def _publish(server: Server, account: Any, subject: bytes, payload: bytes) -> None:
    server.engine.publish(account, subject, payload)
    server.engine.end_turn()


def begins(
    server: Server, requester: Client | None, service: Any, header: bytes, drawn: bool, answered: bool
) -> Measured | None:
    """A request of a measured service. One that wants no answer is told at once, as a bad one."""
    asked: dict[str, list[str]] = {}
    if not drawn:
        sampled = sampling_header(header)
        if sampled is None:
            return None
        asked = sampled
    measured = Measured(server, requester, service, asked)
    if answered:
        return measured
    measured.end(None, 400, "Bad Request")
    return None


def ends(measured: Measured, responder: Client | None, how: int) -> None:
    """A measured request was answered, or will not be."""
    measured.end(responder, *_ENDS[how])


def sampling_header(block: bytes) -> dict[str, list[str]] | None:
    """The headers by which a request asks to be measured (Jaeger, Zipkin, W3C trace context); None where it doesn't."""
    found: dict[str, list[str]] = {}
    for line in block.decode("utf-8", "surrogateescape").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(_canonical(name), []).append(value.strip())
    if uber := found.get("Uber-Trace-Id"):
        flags = uber[0].split(":")
        if len(flags) != 4 or not 0 < len(flags[3]) <= 2 or not _odd_hex(flags[3]):
            return None
        names = sorted(name for name in found if name == "Uber-Trace-Id" or name.startswith("Uberctx-"))
        return {name: found[name] for name in names}
    sampled = found.get("X-B3-Sampled", [""])[0]
    if sampled == "0":
        return None
    if sampled == "1" or "X-B3-Traceid" in found:  # there without a decision: it is left to who receives it
        return {name: found[name] for name in _B3 if name in found}
    if b3 := found.get("B3"):
        parts = b3[0].split("-")
        denied = (len(parts) > 2 and parts[2] == "0") or parts == ["0"]
        return None if denied else {"B3": b3}
    if parent := found.get("Traceparent"):
        parts = parent[0].split("-")
        if len(parts) == 4 and len(parts[3]) == 2 and _odd_hex(parts[3]):
            return {name: found[name] for name in ("Traceparent", "Tracestate") if name in found}
    return None


def _canonical(name: str) -> str:
    return "-".join(word[:1].upper() + word[1:].lower() for word in name.split("-"))


def _odd_hex(text: str) -> bool:
    try:
        return int(text, 16) & 1 == 1
    except ValueError:
        return False
