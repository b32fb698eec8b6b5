"""What accounts import from each other, and their mappings: from the configuration into the engine.

Whether it is allowed was checked when the configuration was read (natsc/config/account_links.py); here it is done.
An account whose imports and mappings, and the exports that they lead to, are as they were keeps what it has:
responses that are waited for survive a reload.
"""

from __future__ import annotations

from natsc.config.subject_mapping import has_wildcard, is_subset, mapping_function, tokenize, untokenize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.config import options
    from natsc.engine.account import Account
    from natsc.engine.transform import Transform
    from natsc.server.server import Server

RESPONSE_THRESHOLD = 120_000_000_000  # ns that a response is waited for where the export doesn't say


class Imports:
    """What an account has from others. `signature` is equal where nothing has changed."""

    def __init__(self, signature: tuple[Any, ...]) -> None:
        self.signature = signature
        self.services: list[Any] = []  # natsc.imports.ServiceImport


def tie(server: Server, accounts: list[options.Account]) -> None:
    """Gives every account what it imports and maps by now, and takes away what it had before."""
    by_name = {configured.name: configured for configured in accounts}
    for account in server.engine.accounts():
        configured = by_name.get(account.name)
        if configured is None or not (configured.imports or configured.mappings):
            if account.imports is not None:
                drop(server, account)
            continue
        exports = [by_name[entry.account].exports for entry in configured.imports if entry.account in by_name]
        signature = (configured.imports, configured.mappings, exports, server.options.cluster.name)
        if account.imports is not None and account.imports.signature == signature:
            continue
        drop(server, account)
        account.imports = Imports(signature)
        _tie_account(server, account, configured, by_name)


def drop(server: Server, account: Account) -> None:
    """Takes everything away that an account imports, and its mappings."""
    if account.imports is None:
        return
    from natsc import imports

    imports.set_streams(server.engine, account, None)
    imports.set_mappings(account, None)
    for service in account.imports.services:
        service.close()
    account.imports = None


def _tie_account(
    server: Server, account: Account, configured: options.Account, by_name: dict[str, options.Account]
) -> None:
    from natsc import imports

    if configured.mappings:
        imports.set_mappings(account, _mappings(configured.mappings, server.options.cluster.name))
    streams = []
    for entry in configured.imports:
        if entry.service:
            exported = by_name[entry.account]
            account.imports.services.append(_service(server, account, entry, exported))
        else:
            streams.append(_stream(server.account(entry.account), entry))
    if streams:
        imports.set_streams(server.engine, account, imports.StreamImports(streams))


def _mappings(configured: dict[str, list[options.MapDest]], cluster: str) -> Any:
    """A cluster's own destinations count in place of those for everywhere."""
    from natsc.config.transform import Transform
    from natsc.engine.transform import Mappings

    found = []
    for source, dests in configured.items():
        here = [dest for dest in dests if cluster and dest.cluster == cluster]
        chosen = here or [dest for dest in dests if not dest.cluster]
        found.append((source, [(dest.weight, Transform(source, dest.subject)) for dest in chosen]))
    return Mappings(found)


def _stream(source: Account, entry: options.Import) -> tuple[Any, ...]:
    """An item of natsc.imports.StreamImports."""
    to = entry.to or entry.subject
    if entry.prefix:
        to = f"{entry.prefix.removesuffix('.')}.{entry.subject}"
    if to == entry.subject:
        return source, entry.subject, to, None, None, entry.allow_trace
    here, there = both_ways(entry.subject, to)
    return source, entry.subject, untokenize(to), there, here, entry.allow_trace


def both_ways(subject: str, to: str) -> tuple[Transform, Transform]:
    """(from subject to `to`, back again); `to` names its wildcards or has them in the same order."""
    from natsc.config.transform import Transform

    dest = tokenize(to)
    order = [int(arguments[0]) for name, arguments in map(mapping_function, dest.split(".")) if name == "wildcard"]
    back = []
    seen = 0
    for word in subject.split("."):
        if word == "*":
            seen += 1
            word = f"${order.index(seen) + 1}"
        back.append(word)
    return Transform(subject, dest), Transform(untokenize(to), ".".join(back))


def _service(server: Server, account: Account, entry: options.Import, exporter: options.Account) -> Any:
    from natsc.imports import Replies, ServiceImport

    here, there = entry.to or entry.subject, entry.subject
    transform = None
    if has_wildcard(there) and there != here:
        there = untokenize(there)
        _, transform = both_ways(there, here)
        here = untokenize(here)
    export = export_of(exporter, entry.subject)
    dest = server.account(entry.account)
    for one in (dest, account):  # a response may itself ask for an answer
        if one.replies is None:
            one.replies = Replies(server.engine, one)
    return ServiceImport(
        server.engine,
        account,
        dest,
        here,
        there,
        transform,
        exported=export.subject if export is not None else there,
        many=export is not None and export.response_type != "Singleton",
        share=bool(entry.share),
        threshold_ns=(export.response_threshold if export is not None else 0) or RESPONSE_THRESHOLD,
        latency=export.latency if export is not None else None,
        allow_trace=export is not None and export.allow_trace,
    )


def export_of(exporter: options.Account, subject: str) -> options.Export | None:
    """The service export that an import of subject comes from: that subject's own, or the first that covers it."""
    services = [export for export in exporter.exports if export.service]
    exact = next((export for export in services if export.subject == subject), None)
    return exact or next((export for export in services if is_subset(subject, export.subject)), None)
