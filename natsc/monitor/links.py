"""What /accountz shows of an account's exports, imports and mappings: the configured ones, and those of the system
account that every account has."""

from __future__ import annotations

from itertools import count

from natsc.monitor import snapshot

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
        found["mappings"] = {source: _dests(source, dests) for source, dests in configured.mappings.items()}
        found["exports"] = [_export(export) for export in configured.exports]
        found["imports"] = [_import(entry) for entry in configured.imports]
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
            body["service_latency"] = {
                "sampling": export.latency.sampling or "headers", "results": export.latency.subject,
            }  # fmt: skip
    if export.accounts:
        body["approved_accounts"] = export.accounts
    return body


def _import(entry: Any) -> dict[str, Any]:
    to = entry.to or entry.subject
    if entry.service:
        return _service_import(entry.account, entry.subject, to, bool(entry.share))
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
