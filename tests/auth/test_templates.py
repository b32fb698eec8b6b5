"""Permissions of scoped signing keys, filled in for a user."""

from __future__ import annotations

import pytest

from natsc.auth import jwt
from natsc.auth.templates import TemplateError, fill
from tests.jwts import Key, user_jwt

ACCOUNT, SIGNER, USER = Key("A", "a"), Key("A", "s"), Key("U", "u")


def filled(*allow: str, tags: tuple[str, ...] = (), name: str = "usr", deny: tuple[str, ...] = ()) -> jwt.Permission:
    """What a user may publish."""
    token = user_jwt(USER, SIGNER, scoped=True, claims={"name": name}, issuer_account=str(ACCOUNT), tags=list(tags))
    permissions = jwt.Permissions({"pub": {"allow": list(allow), "deny": list(deny)}})
    fill(permissions, jwt.decode_user(token), "acct", ["region:eu", "region:us"])
    return permissions.pub


@pytest.mark.parametrize(
    ("subject", "found"),
    [
        ("plain.>", ["plain.>"]),
        ("{{name()}}", ["usr"]),
        ("a.{{ NAME() }}.b", ["a.usr.b"]),
        ("{{subject()}}", [str(USER)]),
        ("{{account-name()}}.{{account-subject()}}", [f"acct.{ACCOUNT}"]),
        ("{{account-tag(region)}}", ["eu", "us"]),
        ("{{tag(t)}}.{{tag(u)}}", ["1.x", "1.y", "2.x", "2.y"]),
        ("{{tag(t)}}.{{tag(t)}}", ["1.1", "1.1", "2.2", "2.2"]),
        ("x{{tag(t)}}y", ["x1y", "x2y"]),
    ],
)
def test_filled(subject: str, found: list[str]) -> None:
    assert filled(subject, tags=("t:1", "t:2", "u:x", "u:y", "tt:no")).allow == found


def test_what_isnt_there_allows_nothing() -> None:
    permission = filled("{{tag(none)}}", "b.{{tag(none)}}")
    assert (permission.allow, permission.deny) == ([], [">"])
    permission = filled("{{tag(none)}}", "b")
    assert (permission.allow, permission.deny) == (["b"], [])


@pytest.mark.parametrize("subject", ["{{tag(none)}}", "{{sesame()}}", "{{name()}}..x", "{{}}x{{y}}"])
def test_what_cannot_be_denied_refuses(subject: str) -> None:
    with pytest.raises(TemplateError):
        filled("a", deny=(subject,))


def test_an_unknown_operation_refuses() -> None:
    with pytest.raises(TemplateError, match=r'"sesame\(\)" is not defined'):
        filled("{{sesame()}}")


def test_names_that_make_no_subject() -> None:
    assert filled("a.{{name()}}", name="two words").deny == [">"]


def test_expansions_are_bounded() -> None:
    tags = tuple(f"t{which}:{number}" for which in range(6) for number in range(60))
    subject = ".".join(f"{{{{tag(t{which})}}}}" for which in range(6))  # 60**6
    with pytest.raises(TemplateError, match="exceeds limit"):
        filled(subject, tags=tags)
    with pytest.raises(TemplateError, match="exceeds limit"):
        filled(*["{{tag(t0)}}.{{tag(t1)}}"] * 2, tags=tags)  # of a list, not of a subject
    assert len(filled("{{tag(t0)}}.{{tag(t1)}}", tags=tags).allow or ()) == 3600


def test_a_template_is_used_again() -> None:
    permissions = jwt.Permissions({"pub": {"allow": ["a"]}})
    assert permissions == jwt.Permissions({"pub": {"allow": ["a"]}})
