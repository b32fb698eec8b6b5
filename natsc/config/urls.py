"""URLs of routes, gateways and leafnode remotes."""

from __future__ import annotations

from natsc import gourl
from natsc.config.errors import Finding, GoPanic, misused_field
from natsc.config.gotext import GoError, quote
from natsc.config.options import URL
from natsc.config.values import Last, Report, add_panic, as_str

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.config.parser import Token


def parse_url(text: str, kind: str) -> URL:
    """GoError when it is none. `kind` is "route", "gateway", "leafnode"..."""
    text = text.strip()
    try:
        parsed = gourl.parse(text)
    except gourl.URLError:
        raise GoError(f"error parsing {kind} url [{quote(gourl.redacted(text))}]") from None
    rest = text[len(parsed.scheme) + 1 :] if parsed.scheme else text
    if rest.startswith("//"):
        end = min((at for at in (rest.find(char, 2) for char in "/?#") if at >= 0), default=len(rest))
        rest = rest[end:]
    return URL(scheme=parsed.scheme, username=parsed.user or "", password=parsed.password, host=parsed.host, path=rest)


def url_field(token: Token | None, value: Any, kind: str) -> URL:
    """parse_url of a directive's value; Finding when it is none."""
    try:
        return parse_url(as_str(value), kind)
    except GoError as error:
        raise Finding(token, str(error)) from None


def url_list(entries: list[Any], kind: str, report: Report) -> list[URL] | None:
    """None after an error. A repeated URL is a warning and is dropped."""
    last = Last()
    before = len(report.errors)
    urls: list[URL] = []
    seen = set()
    try:
        for entry in entries:
            token, value = last.unwrap(entry)
            text = as_str(value)
            if text in seen:
                report.warnings.append(misused_field(token, gourl.redacted(text), f"Duplicate {kind} entry detected"))
                continue
            seen.add(text)
            try:
                urls.append(url_field(token, text, kind))
            except Finding as finding:
                report.errors.append(finding)
    except GoPanic as panic:
        add_panic(report, last.token, panic)
    return urls if len(report.errors) == before else None
