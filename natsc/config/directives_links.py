"""`exports` and `imports` of an account, as written. What they need of each other: `account_links`."""

from __future__ import annotations

from natsc.config.errors import Finding
from natsc.config.gotext import GoError, atoi, parse_duration, quote, quote_value, type_name
from natsc.config.options import Export, Import, ServiceLatency
from natsc.config.values import (
    Last,
    Report,
    as_bool,
    as_int,
    as_list,
    as_str,
    recovers,
    recovers_as_finding,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.config.parser import Token

_RESPONSE_TYPES = {
    "single": "Singleton", "singleton": "Singleton", "stream": "Streamed", "chunk": "Chunked", "chunked": "Chunked",
}  # fmt: skip
_THRESHOLDS = ("threshold", "response_threshold", "response_max_time", "response_time")
_LATENCY_SAMPLING = 100


@recovers
def parse_exports(last: Last, block: Any, report: Report) -> list[Export]:
    token, entries = last.unwrap(block)
    if type(entries) is not list:
        raise Finding(token, f"Exports should be an array, got {type_name(entries)}")
    exports: list[Export] = []
    for entry in entries:
        try:
            exports += _parse_export(entry, report) or ()
        except Finding as finding:
            report.errors.append(finding)
    return exports


class _ExportParts:
    """An export while its fields come in, in any order."""

    __slots__ = ("accounts", "allow_trace", "export", "latency", "response", "seen", "threshold")

    def __init__(self) -> None:
        self.export: Export | None = None
        self.accounts: list[str] | None = None
        self.response = "Singleton"
        self.threshold = 0
        self.latency: ServiceLatency | None = None
        self.allow_trace = False
        self.seen: dict[str, Token | None] = {}  # directives that only a service may have

    def is_stream(self) -> bool:
        return self.export is not None and not self.export.service


@recovers
def _parse_export(last: Last, block: Any, report: Report) -> list[Export]:
    """One export, or none when it is neither a stream nor a service."""
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Export Items should be a map with type entry, got {type_name(fields)}")
    parts = _ExportParts()
    position = 0
    for name, key, token, value in last.items(fields):
        try:
            if name in ("stream", "service"):
                _export_subject(parts, name, token, value)
            elif name in ("response", "response_type"):
                _response(parts, token, value)
            elif name in _THRESHOLDS:
                _threshold(parts, token, value)
            elif name == "accounts":
                parts.accounts = parts.accounts or []
                for entry in as_list(value):
                    parts.accounts.append(as_str(last.unwrap(entry)[1]))
                parts.accounts = parts.accounts or None
            elif name == "latency":
                parts.seen["latency"] = token
                parts.latency = parse_latency(token, value)
                if parts.is_stream():
                    raise Finding(token, "Detected latency directive on non-service")
            elif name == "account_token_position":
                position = as_int(value)
            elif name == "allow_trace":
                parts.seen["allow_trace"] = token
                parts.allow_trace = as_bool(value)
                if parts.is_stream():
                    raise Finding(token, "Detected allow_trace directive on non-service")
            else:
                report.unknown(token, key)
        except Finding as finding:
            report.errors.append(finding)
    export = parts.export
    if export is None:
        return []
    export.accounts = parts.accounts
    export.account_token_position = position
    if export.service:
        export.response_type = parts.response
        export.response_threshold = parts.threshold
        export.latency = parts.latency
        export.allow_trace = parts.allow_trace
    return [export]


def _export_subject(parts: _ExportParts, name: str, token: Token | None, value: Any) -> None:
    other = "service" if name == "stream" else "stream"
    if parts.export is not None and parts.export.service != (name == "service"):
        raise Finding(token, f"Detected {name} {quote_value(value)} but already saw a {other}")
    if name == "stream":
        for what in ("response", "latency", "allow_trace"):
            if what in parts.seen:
                raise Finding(parts.seen[what], f"Detected {what} directive on non-service")
    if type(value) is not str:
        raise Finding(token, f"Expected {name} name to be string, got {type_name(value)}")
    parts.export = Export(subject=value, service=name == "service")


def _response(parts: _ExportParts, token: Token | None, value: Any) -> None:
    if "response" in parts.seen:
        raise Finding(token, "Duplicate response type definition")
    parts.seen["response"] = token
    if type(value) is not str:
        raise Finding(token, f"Expected response type to be string, got {type_name(value)}")
    kind = _RESPONSE_TYPES.get(value.lower())
    if kind is None:
        raise Finding(token, f"Unknown response type: {quote(value)}")
    parts.response = kind
    if parts.is_stream():
        raise Finding(token, "Detected response directive on non-service")


def _threshold(parts: _ExportParts, token: Token | None, value: Any) -> None:
    if "threshold" in parts.seen:
        raise Finding(token, "Duplicate response threshold detected")
    parts.seen["threshold"] = token
    wanted = "Expected response threshold to be a parseable time duration"
    if type(value) is not str:
        raise Finding(token, f"{wanted}, got {type_name(value)}")
    try:
        parts.threshold = parse_duration(value)
    except GoError:
        raise Finding(token, f"{wanted}, got {quote(value)}") from None
    if parts.is_stream():
        raise Finding(token, "Detected response directive on non-service")


@recovers_as_finding
def parse_latency(last: Last, root: Token | None, value: Any) -> ServiceLatency:
    """A subject, or {subject, sampling}."""
    if type(value) is str:
        return ServiceLatency(subject=value, sampling=_LATENCY_SAMPLING)
    if type(value) is not dict:
        raise Finding(root, f"Expected latency entry to be a map/struct or string, got {type_name(value)}")
    latency = ServiceLatency(sampling=_LATENCY_SAMPLING)
    if "sampling" in value:
        latency.sampling = _sampling(*last.unwrap(value["sampling"]))
    if "subject" not in value:
        raise Finding(root, "Latency subject required, but missing")
    token, subject = last.unwrap(value["subject"])
    if type(subject) is not str:
        raise Finding(token, "Expected latency subject to be a string, got string")
    latency.subject = subject
    return latency


def _sampling(token: Token | None, value: Any) -> int:
    if type(value) is str:
        if value.strip().lower() == "headers":
            return 0
        try:
            percent = atoi(value.removesuffix("%"))
        except GoError as error:
            raise Finding(token, f"Failed to parse latency sample: {error}") from None
    elif type(value) is int:
        percent = value
    else:
        raise Finding(token, f"Expected latency sample to be a string or map/struct, got {type_name(value)}")
    if not 1 <= percent <= 100:
        raise Finding(token, "bad sampling percentage, should be 1-100")
    return percent


@recovers
def parse_imports(last: Last, block: Any, report: Report) -> list[Import]:
    token, entries = last.unwrap(block)
    if type(entries) is not list:
        raise Finding(token, f"Imports should be an array, got {type_name(entries)}")
    imports: list[Import] = []
    for entry in entries:
        try:
            for found in _parse_import(entry, report) or ():
                if found.service:
                    _check_duplicate(entry, found, imports)
                imports.append(found)
        except Finding as finding:
            report.errors.append(finding)
    return imports


def _check_duplicate(entry: Any, found: Import, imports: list[Import]) -> None:
    for other in imports:
        if other.service and other.to == found.to and other.account == found.account:
            used = f"previously used in import for account {quote(other.account)}, subject {quote(other.subject)}"
            token = Last().unwrap(entry)[0]
            raise Finding(token, f"Duplicate service import subject {quote(found.to)}, {used}")


@recovers
def _parse_import(last: Last, block: Any, report: Report) -> list[Import]:
    """One import, or none."""
    token, fields = last.unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Import Items should be a map with type entry, got {type_name(fields)}")
    found: Import | None = None
    common = Import()  # prefix, to, share, allow_trace: in any order with the rest
    trace: list[Token | None] = []
    for name, key, token, value in last.items(fields):
        try:
            if name in ("stream", "service"):
                found = _import_source(name, token, value, found, trace, report)
            elif name == "prefix":
                common.prefix = as_str(value)
            elif name == "to":
                common.to = as_str(value)
                if found is not None and not found.service and common.prefix:
                    raise Finding(token, "Stream import can not have a 'prefix' and a 'to' property")
            elif name == "share":
                common.share = as_bool(value)
            elif name == "allow_trace":
                if found is not None and found.service:
                    raise Finding(token, "Detected allow_trace directive on a non-stream")
                common.allow_trace = as_bool(value)
                trace.append(token)
            else:
                report.unknown(token, key)
        except Finding as finding:
            report.errors.append(finding)
    if found is None:
        return []
    if found.service:
        found.to = common.to or found.subject
        found.share = common.share
    else:
        found.to, found.prefix, found.allow_trace = common.to, common.prefix, common.allow_trace
    return [found]


def _import_source(
    name: str, token: Token | None, value: Any, found: Import | None, trace: list[Token | None], report: Report
) -> Import:
    other = "service" if name == "stream" else "stream"
    if found is not None and found.service != (name == "service"):
        raise Finding(token, f"Detected {name} but already saw a {other}")
    if name == "service" and trace:
        raise Finding(trace[-1], "Detected allow_trace directive on a non-stream")
    if type(value) is not dict:
        raise Finding(token, f"{name.capitalize()} entry should be an account map, got {type_name(value)}")
    account, subject = _parse_account(value, report) or ("", "")
    if not account or not subject:
        raise Finding(token, "Expect an account name and a subject")
    return Import(account=account, subject=subject, service=name == "service")


@recovers
def _parse_account(last: Last, fields: dict[str, Any], report: Report) -> tuple[str, str]:
    account = subject = ""
    for name, key, token, value in last.items(fields):
        if name == "account":
            account = as_str(value)
        elif name == "subject":
            subject = as_str(value)
        else:
            report.unknown(token, key)
    return account, subject
