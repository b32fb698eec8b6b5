"""What /accountz shows of an account's exports, imports and mappings: the configured ones, and those of the system
account that every account has; and of the responses that are waited for in it."""

from __future__ import annotations

from itertools import count

from natsc.config.subject_mapping import untokenize
from natsc.monitor import snapshot
from natsc.monitor.gojson import timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What the system account exports; the second only with JetStream.
_SYSTEM_EXPORTS = (
    ("$SYS.REQ.USER.*.INFO", "Singleton"), ("$JS.API.>", "Singleton"), ("$SYS.REQ.ACCOUNT.*.CONNZ", "Streamed"),
    ("$SYS.REQ.ACCOUNT.*.STATZ", "Streamed"), ("$SYS.DEBUG.SUBSCRIBERS", "Singleton"),
)  # fmt: skip


def links(server: Any, name: str) -> dict[str, Any]:
    """`mappings`, `exports` and `imports` of an account, those that it has."""
    configured = snapshot.configured_account(server, name)
    found: dict[str, Any] = {"mappings": {}, "exports": [], "imports": []}
    if configured is not None:
        found["mappings"] = {source: _dests(source, dests) for source, dests in sorted(configured.mappings.items())}
        found["exports"] = [_export(export) for export in configured.exports]
        latencies = _latencies(snapshot.account(server, name))
        found["imports"] = [_import(entry, latencies) for entry in configured.imports]
    system = snapshot.system(server)
    if system is not None:
        found["imports"] += [
            _service_import(system.account.name, there, here, share) for here, there, share in system.imported(name)
        ]
        if name == system.account.name:
            found["exports"] += [
                {"subject": subject, "type": "service", "response_type": response_type}
                for subject, response_type in _SYSTEM_EXPORTS
                if snapshot.jetstream(server) is not None or subject != "$JS.API.>"
            ]
    return {member: value for member, value in found.items() if value}


def _dests(source: str, dests: list[Any]) -> list[dict[str, Any]]:
    """Weights as the sums up to each destination; what is left to 100 goes to the source. Clusters' come last."""
    shown = []
    itself = source in (dest.subject for dest in dests)  # said, and so nothing goes there that isn't said
    for cluster in dict.fromkeys(["", *(dest.cluster for dest in dests)]):
        chosen = [(dest.weight, dest.subject) for dest in dests if dest.cluster == cluster]
        rest = 100 - sum(weight for weight, _ in chosen)
        if rest > 0 and not itself:
            chosen.append((rest, _itself(source)))
        total = 0
        for weight, subject in sorted(chosen, key=lambda one: one[0]):
            total += weight
            shown.append({"subject": subject, "weight": total, **({"cluster": cluster} if cluster else {})})
    return shown


def _itself(source: str) -> str:
    """What maps a subject to itself: its wildcards by their numbers."""
    number = count(1)
    return ".".join(f"${next(number)}" if word == "*" else word for word in source.split("."))


def _export(export: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"subject": export.subject, "type": "service" if export.service else "stream"}
    if export.token_required:
        body["token_req"] = True
    if export.service:
        body["response_type"] = export.response_type or "Singleton"
        if export.latency is not None:
            body["service_latency"] = _latency(export.latency)
    if export.accounts:
        body["approved_accounts"] = export.accounts
    if export.revocations:
        times = sorted(export.revocations.items())
        body["revoked_activations"] = {name: timestamp(seconds * 1_000_000_000) for name, seconds in times}
    return body


def _latency(latency: Any) -> dict[str, Any]:
    return {"sampling": latency.sampling or "headers", "results": latency.subject}


def _latencies(account: Any) -> dict[tuple[str, str], Any]:
    """Of the services that an account imports and that are measured: by the exporter and the subject here."""
    tied = account.imports.services if account is not None and account.imports is not None else []
    return {(one.dest.name, one.subject): one.latency for one in tied if one.latency is not None}


def _import(entry: Any, latencies: dict[tuple[str, str], Any]) -> dict[str, Any]:
    to = untokenize(entry.to or entry.subject)
    if entry.service:
        shown = _service_import(entry.account, entry.subject, to, bool(entry.share))
        if (entry.account, to) in latencies:
            shown["latency"] = _latency(latencies[entry.account, to])
        return shown
    if entry.prefix:
        to = f"{entry.prefix.removesuffix('.')}.{entry.subject}"
    return {
        "subject": entry.subject, "account": entry.account, "local_subject": to, "type": "stream", "invalid": False,
        "share": False, "tracking": False,
    }  # fmt: skip


def _service_import(account: str, there: str, here: str, share: bool) -> dict[str, Any]:
    return {
        "subject": there, "account": account, "to": here, "local_subject": here, "type": "service", "invalid": False,
        "share": share, "tracking": False,
    }  # fmt: skip


def responses(server: Any, account: Any) -> dict[str, Any]:
    """The responses that are waited for in an account, by their subjects; their type is a number, as in nats-server."""
    found: dict[str, Any] = {}
    system = snapshot.system(server)
    for importer in snapshot.accounts(server):
        services = list(importer.imports.services) if importer.imports is not None else []
        if system is not None:
            services += system.imports_of(importer)
        for service in services:
            for dest, subject, requester, to, measured in service.responses():
                if dest is not account:
                    continue
                shown = {**_service_import(requester.name, to, subject, service.share), "type": 2}
                if measured is not None:
                    shown["tracking"] = True
                    if measured.header:
                        shown["tracking_header"] = measured.header
                    shown["latency"] = _latency(service.latency)
                found[subject] = shown
    return dict(sorted(found.items()))
