"""Whatever somebody signs is read or refused, and checked, without any other end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from natsc.auth import claims as forms
from natsc.auth import jwt
from natsc.auth.jwt_check import check_account, check_user
from tests.jwts import Key, encode

ACCOUNT = Key("A", "a")
NAMES = sorted({name for kind in jwt.Record._classes.values() for name in kind._kinds})
WORDS = st.sampled_from(["", "a", "a.b", "a.*", ">", "a b", "*", "$1", "service", "stream", "user_scope", str(ACCOUNT)])
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | WORDS | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | WORDS, inner, max_size=5),
    max_leaves=12,
)
NATS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["user", "account", "operator", "activation", "other"]), nats=NATS, more=NATS)
def test_any_claims(kind: str, nats: dict, more: dict) -> None:
    signer = ACCOUNT if kind != "operator" else Key("O", "o")
    token = encode({"sub": str(ACCOUNT), **more, "nats": {**nats, "type": kind, "version": 2}}, signer)
    try:
        claims = jwt.decode(token)
    except jwt.JWTError:
        return
    if isinstance(claims, jwt.UserClaims):
        check_user(claims, 0)
        forms.bad_permissions(forms.permissions(claims.nats))
    elif isinstance(claims, jwt.AccountClaims):
        check_account(claims, 0)
        forms.account_options(claims)


@settings(max_examples=300, deadline=None)
@given(token=st.text(max_size=60) | st.text("eyJ._-A=", max_size=60))
def test_any_text(token: str) -> None:
    for decode in (jwt.decode, jwt.decode_generic):
        try:
            decode(token)
        except jwt.JWTError:
            continue
        raise AssertionError(token)
