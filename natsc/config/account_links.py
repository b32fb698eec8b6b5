"""Exports and imports between accounts: is each import allowed, and free of cycles?

Mirrors, in nats-server's order, what happens when accounts are tied together: stream exports, service exports, stream
imports, service imports. natsc doesn't route between accounts yet, but says about a configuration what nats-server
says.
"""

from __future__ import annotations

from natsc.config.errors import GoPanic
from natsc.config.gotext import GoError, quote
from natsc.config.subject_mapping import (
    collide,
    has_wildcard,
    is_subset,
    tokenize,
    transform_error,
    untokenize,
)
from natsc.config.subjects import is_valid_literal, is_valid_subject
from natsc.config.values import Report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from natsc.config.options import Account, Export, Import, Options
    from natsc.config.parser import Token

_INVALID_SUBJECT = "sublist: invalid subject"
_CYCLE = "import forms a cycle"
_DEPTH_MAX = 1024


class _Node:
    """What an account exports and imports so far. An export's value: the accounts that may import it (none: all), and
    the position of the token that names the importer (0: none does)."""

    __slots__ = ("many_responses", "name", "service_imports", "services", "stream_imports", "streams")

    def __init__(self, name: str) -> None:
        self.name = name
        self.streams: dict[str, tuple[list[str], int]] = {}
        self.services: dict[str, tuple[list[str], int]] = {}
        self.many_responses: set[str] = set()  # services that answer with a stream or in chunks
        self.stream_imports: list[tuple[_Node, str, str]] = []  # (from account, subject there, subject here)
        self.service_imports: list[tuple[_Node, str, str]] = []  # (to account, subject here, subject there)


def tie(
    token: Token | None,
    exports: list[tuple[Account, Export]],
    imports: list[tuple[Account, Import]],
    opts: Options,
    report: Report,
) -> None:
    """Every problem is reported at `token`, the accounts block."""
    nodes = {account.name: _Node(account.name) for account in opts.accounts}
    for step, entries, wanted in ((_export, exports, False), (_export, exports, True)):
        for account, export in entries:
            if export.service == wanted:
                _report(step, nodes, account, export, opts, token, report)
    for wanted in (False, True):
        for account, entry in imports:
            if entry.service == wanted:
                _report(_import, nodes, account, entry, opts, token, report)


def _report(step, nodes, account, entry, opts, token, report) -> None:  # type: ignore[no-untyped-def]
    try:
        step(nodes, account, entry, opts, token, report)
    except GoError as error:
        report.error(token, str(error))


def _export(
    nodes: dict[str, _Node], account: Account, export: Export, opts: Options, token: Token | None, report: Report
) -> None:
    kind = "service" if export.service else "stream"
    known = []
    for name in export.accounts or ():
        if name in nodes:
            known.append(name)
        else:
            report.error(token, f"{quote(name)} account not defined for {kind} export")
    node = nodes[account.name]
    what = f"{kind} export {quote(export.subject)}"
    position = export.account_token_position
    tokens = export.subject.split(".")
    if position < 0:  # an unsigned number there
        raise GoPanic(f"runtime error: index out of range [{(1 << 64) + position - 1}] with length {len(tokens)}")
    if position > 0 and (len(tokens) < position or tokens[position - 1] != "*"):
        raise GoError(f"Error adding {what}: {_INVALID_SUBJECT}")
    exports = node.services if export.service else node.streams
    if known or position > 0 or export.subject not in exports:
        exports[export.subject] = (exports.get(export.subject, ([], 0))[0] + known, position)
    if export.service:
        if export.response_type != "Singleton":
            node.many_responses.add(export.subject)
        _service_details(node, export, opts)


def _service_details(node: _Node, export: Export, opts: Options) -> None:
    latency = export.latency
    if latency is None:
        return
    what = f"Error adding service latency sampling for {quote(export.subject)}"
    if opts.no_system_account:
        raise GoError(f"{what}: system account not setup")
    what += f" on subject {quote(latency.subject)}"
    if not is_valid_literal(latency.subject) or _matching(node.services, latency.subject) is not None:
        raise GoError(f"{what}: invalid publish subject")
    if export.subject in node.many_responses:
        raise GoError(f"{what}: bad service response type")


def _matching(exports: dict[str, tuple[list[str], int]], subject: str) -> str | None:
    if subject in exports:
        return subject
    return next((exported for exported in exports if is_subset(subject, exported)), None)


def _import(
    nodes: dict[str, _Node], account: Account, entry: Import, opts: Options, token: Token | None, report: Report
) -> None:
    kind = "service" if entry.service else "stream"
    source = nodes.get(entry.account)
    if source is None:
        raise GoError(f"{quote(entry.account)} account not defined for {kind} import")
    node = nodes[account.name]
    try:
        if entry.service:
            _service_import(node, source, entry.to or entry.subject, entry.subject)
        else:
            _stream_import(node, source, entry)
    except GoError as error:
        raise GoError(f"Error adding {kind} import {quote(entry.subject)}: {error}") from None
    if entry.service and not any(to == entry.subject and dest is source for dest, _, to in node.service_imports):
        what = f"Error setting service import sharing {quote(entry.subject)}"
        raise GoError(f"{what}: service import not found")


def _authorized(exports: dict[str, tuple[list[str], int]], importer: _Node, subject: str) -> bool:
    found = _matching(exports, subject)
    if found is None:
        return False
    accounts, position = exports[found]
    if position > 0:
        tokens = [] if found == subject else subject.split(".")
        return position <= len(tokens) and tokens[position - 1] == importer.name
    return not accounts or importer.name in accounts


def _stream_import(node: _Node, source: _Node, entry: Import) -> None:
    subject, to, prefix = entry.subject, entry.to, entry.prefix
    if not source.streams or not is_valid_subject(subject) or not _authorized(source.streams, node, subject):
        raise GoError("stream import not authorized")
    if prefix:
        if has_wildcard(prefix):
            raise GoError("stream import prefix can not contain wildcard tokens")
        to = f"{prefix.removesuffix('.')}.{subject}"
    to = to or subject
    for candidate in (to, subject):
        _stream_cycle(source, candidate, {node.name})
    if has_wildcard(subject) and to != subject:
        wrong = transform_error(subject, tokenize(to), strict=True)
        if wrong is not None:
            what = "failed to create mapping transform for stream import subject"
            raise GoError(f"{what} from {quote(subject)} to {quote(to)}: {wrong}")
        to = untokenize(to)
    if any(other is source and theirs == subject for other, theirs, _ in node.stream_imports):
        raise GoError("stream import already exists")
    node.stream_imports.append((source, subject, to))


def _stream_cycle(node: _Node, subject: str, visited: set[str]) -> None:
    if len(visited) >= _DEPTH_MAX:
        raise GoError("search cycle depth exhausted")
    if not any(is_subset(subject, exported) for exported in node.streams):
        return
    for source, _, here in node.stream_imports:
        if collide(subject, here):
            if source.name in visited:
                raise GoError(_CYCLE)
            visited.add(node.name)
            _stream_cycle(source, here if is_subset(here, subject) else subject, visited)


def _service_import(node: _Node, dest: _Node, here: str, there: str) -> None:
    if not is_valid_subject(here) or not is_valid_subject(there):
        raise GoError(_INVALID_SUBJECT)
    if not _authorized(dest.services, node, there):
        raise GoError("service import not authorized")
    _service_cycle(dest, untokenize(here) if has_wildcard(there) else here, {node.name})
    for other, ours, theirs in node.service_imports:
        if other is dest and ours == here:
            used = f"previously used in import for account {quote(other.name)}, subject {quote(theirs)}"
            raise GoError(f"duplicate service import subject {quote(here)}, {used}")
    if has_wildcard(there) and there != here:
        there = untokenize(there)
        wrong = transform_error(there, tokenize(here), strict=True)
        if wrong is not None:
            what = "failed to create mapping transform for service import subject"
            raise GoError(f"{what} from {quote(here)} to {quote(there)}: {wrong}")
        here = untokenize(here)
    node.service_imports.append((dest, here, there))


def _service_cycle(node: _Node, subject: str, visited: set[str]) -> None:
    if len(visited) >= _DEPTH_MAX:
        raise GoError("search cycle depth exhausted")
    for dest, here, there in node.service_imports:
        if collide(subject, there):
            if dest.name in visited:
                raise GoError(_CYCLE)
            visited.add(node.name)
            _service_cycle(dest, here if is_subset(here, subject) else subject, visited)


def usable(
    accounts: list[Account], activated: Callable[[Account, Import, Account, Export], bool]
) -> tuple[list[Account], list[tuple[Account, Import, str]]]:
    """Accounts that nobody has checked together: each with the imports that hold, and what is wrong with the others.

    activated: whether an import brings what an export asks for that requires a token.
    """
    by_name = {account.name: account for account in accounts}
    nodes = {account.name: _node_of(account) for account in accounts}
    found = []
    faults = []
    for account in accounts:
        kept = account.copy_links()
        for entry in account.imports:
            fault = _import_fault(nodes, by_name, account, entry, activated)
            if fault:
                faults.append((account, entry, fault))
            else:
                kept.imports.append(entry)
        found.append(kept)
    return found, faults


def _node_of(account: Account) -> _Node:
    node = _Node(account.name)
    for export in account.exports:
        exports = node.services if export.service else node.streams
        exports[export.subject] = ([], max(export.account_token_position, 0))
    return node


def _import_fault(
    nodes: dict[str, _Node],
    by_name: dict[str, Account],
    account: Account,
    entry: Import,
    activated: Callable[[Account, Import, Account, Export], bool],
) -> str:
    source = nodes.get(entry.account)
    if source is None:
        return "account missing"
    exporter = by_name[entry.account]
    exports = source.services if entry.service else source.streams
    subject = _matching(exports, entry.subject)
    export = next((one for one in exporter.exports if one.service == entry.service and one.subject == subject), None)
    if (
        export is not None
        and export.token_required
        and not export.account_token_position
        and not activated(account, entry, exporter, export)
    ):
        return f"{'service' if entry.service else 'stream'} import not authorized"
    try:
        if entry.service:
            _service_import(nodes[account.name], source, entry.to or entry.subject, entry.subject)
        else:
            _stream_import(nodes[account.name], source, entry)
    except GoError as error:
        return str(error)
    return ""
