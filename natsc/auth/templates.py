"""Permissions of scoped signing keys: {{name()}}, {{tag(x)}} and the like, filled in for one user."""

from __future__ import annotations

from itertools import product
from math import prod

from natsc.config.gotext import quote
from natsc.config.subjects import is_valid_subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.auth.jwt import Permissions, UserClaims

EXPANSIONS_MAX = 4096  # subjects that a list may become

_NOTHING = " "  # in the place of a tag that isn't there: no valid subject


class TemplateError(ValueError):
    """The template can't be filled in for this user."""


class _Account:
    __slots__ = ("name", "tags")

    def __init__(self, name: str, tags: list[str]) -> None:
        self.name = name
        self.tags = tags


def fill(permissions: Permissions, user: UserClaims, account_name: str, account_tags: list[str]) -> None:
    """Replaces the templates in permissions, which are the user's own. Raises TemplateError.

    A subject that isn't one after that isn't allowed; one that is to be denied refuses the user. Where nothing is left
    of what was allowed, everything is denied.
    """
    account = _Account(account_name, account_tags)
    for part in (permissions.sub, permissions.pub):
        had_allowed = bool(part.allow)
        part.allow = _filled(part.allow, user, account, denies=False)
        part.deny = _filled(part.deny, user, account, denies=True)
        if had_allowed and not part.allow:
            part.deny = [*(part.deny or ()), ">"]


def _filled(subjects: list[str] | None, user: UserClaims, account: _Account, *, denies: bool) -> list[str] | None:
    if subjects is None:
        return None
    import re

    pattern = re.compile("{{([^}]+)}}")
    if not any(pattern.search(subject) for subject in subjects):
        return list(subjects)
    found: list[str] = []
    for subject in subjects:
        places = list(pattern.finditer(subject))
        values = [_values(place[1].strip(), subject, user, account, denies) for place in places]
        if prod(map(len, values)) > 1 and len(found) + prod(map(len, values)) > EXPANSIONS_MAX:
            raise TemplateError(f"template expansion exceeds limit: {EXPANSIONS_MAX}")
        for choice in product(*values):
            text = subject
            for place, value in zip(places, choice, strict=True):
                text = text.replace(place[0], value)  # all that look like it: a tag has one value in a subject
            if is_valid_subject(text):
                found.append(text)
            elif denies:
                raise TemplateError("generated invalid subject")
    return found


def _values(operation: str, subject: str, user: UserClaims, account: _Account, denies: bool) -> list[str]:
    """What may stand in the place of one operation."""
    simple = {
        "name()": user.name,
        "subject()": user.sub,
        "account-name()": account.name,
        "account-subject()": user.nats.issuer_account,
    }
    name = operation.lower()
    if name in simple:
        return [simple[name]]
    for prefix, tags in (("tag(", user.nats.tags), ("account-tag(", account.tags)):
        if name.startswith(prefix) and name.endswith(")"):
            tag = name[len(prefix) : -1]
            values = [entry[len(tag) + 1 :] for entry in tags if entry.startswith(f"{tag}:")]
            if values:
                return values
            if denies:
                raise TemplateError(f"generated invalid subject {quote(subject)}: {quote(tag)} is not defined")
            return [_NOTHING]
    raise TemplateError(f"template operation in {quote(subject)}: {quote(operation)} is not defined")
