"""The JetStream API as the system account sees it: it has no JetStream of its own, but may purge other accounts.

A single server answers nothing about meta leaders and peers, for there are none.
"""

from __future__ import annotations

from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.api_request import PREFIX, Reply, Request, answer
from natsc.jetstream.backend import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CLUSTERED = frozenset(("META.LEADER.STEPDOWN", "SERVER.REMOVE", "SERVER.EVACUATE", "META.RESCUE"))


def dispatch_system(request: Request, purge_account: Callable[[str], None]) -> Reply | None:
    """Answer a request that came from the system account itself. None when nobody is to be answered.

    `purge_account` deletes all streams of the account of that name, which needn't exist (any more). It may raise
    StoreError.
    """
    if not request.subject.startswith(PREFIX):
        return None
    operation = request.subject[len(PREFIX) :]
    if operation in _CLUSTERED:
        return None
    tokens = operation.split(".")
    if tokens[0] == "ACCOUNT":
        return _purge(tokens[2], purge_account) if tokens[1:2] == ["PURGE"] and len(tokens) == 3 else None
    stem = "account_info" if operation == "INFO" else "system"
    return answer(stem, {"error": ApiError(errors.NOT_ENABLED_FOR_ACCOUNT).as_json()})


def _purge(account: str, purge_account: Callable[[str], None]) -> Reply:
    stem = "account_purge"
    if "\\" in account or "/" in account:
        error = ApiError(errors.STREAM_GENERAL, err="account name can not contain path separators")
        return answer(stem, {"error": error.as_json()})
    try:
        purge_account(account)
    except (StoreError, ApiError) as failure:
        return answer(stem, {"error": ApiError(errors.STREAM_DELETE, err=failure).as_json()})
    return answer(stem, {"initiated": True})
