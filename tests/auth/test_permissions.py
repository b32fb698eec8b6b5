"""Configured permissions become the engine's lists."""

from __future__ import annotations

from natsc.auth.permissions import PermissionLists, permission_lists
from natsc.config.options import Permissions, ResponsePermission, SubjectPermission


def test_no_permissions_mean_everything() -> None:
    assert permission_lists(None) is None


def test_empty_permissions_restrict_nothing() -> None:
    assert permission_lists(Permissions()) == PermissionLists(None, [], None, [], None)


def test_publish_lists() -> None:
    lists = permission_lists(Permissions(publish=SubjectPermission(allow=["a.>", "é"], deny=["a.b"])))
    assert lists == PermissionLists([b"a.>", "é".encode()], [b"a.b"], None, [], None)


def test_subscribe_entries_may_name_a_queue() -> None:
    subscribe = SubjectPermission(allow=["a", "b  q.*", " c q "], deny=["d >"])
    lists = permission_lists(Permissions(subscribe=subscribe))
    assert lists is not None
    assert lists.subscribe_allow == [(b"a", None), (b"b", b"q.*"), (b"c", b"q")]
    assert lists.subscribe_deny == [(b"d", b">")]


def test_an_empty_publish_allow_list_allows_nothing_an_empty_subscribe_one_everything() -> None:
    empty = SubjectPermission(allow=[])
    lists = permission_lists(Permissions(publish=empty, subscribe=empty))
    assert lists is not None and lists.publish_allow == [] and lists.subscribe_allow is None


def test_responses_turn_the_blanket_publish_permission_off() -> None:
    lists = permission_lists(Permissions(response=ResponsePermission(max_msgs=5, expires=-1)))
    assert lists is not None and lists.publish_allow == [] and lists.response == (5, -1)


def test_responses_have_defaults() -> None:
    lists = permission_lists(Permissions(response=ResponsePermission(), publish=SubjectPermission(allow=["a"])))
    assert lists is not None and lists.publish_allow == [b"a"] and lists.response == (1, 120_000_000_000)
