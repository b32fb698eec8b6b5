"""Configured permissions as the lists that the engine compiles.

A missing allow list allows everything; an empty one allows nothing; a deny entry always wins. Subscribe entries may
name a queue ("subject queue"). A response permission without a publish allow list turns the blanket permission to
publish off.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.config.options import Permissions

    SubscribeRule = tuple[bytes, bytes | None]

# Go's DEFAULT_ALLOW_RESPONSE_MAX_MSGS and DEFAULT_ALLOW_RESPONSE_EXPIRATION; negative values mean no bound.
RESPONSE_MAX_MSGS_DEFAULT = 1
RESPONSE_TTL_NS_DEFAULT = 120 * 1_000_000_000
# Where authentication callouts are asked: in the account that answers them nobody but the server may publish to it.
CALLOUT_SUBJECT = "$SYS.REQ.USER.AUTH"


class PermissionLists:
    """What a user may publish and subscribe to.

    publish_allow: subjects, or None where everything is allowed. publish_deny: subjects, may be empty.
    subscribe_allow, subscribe_deny: the same with (subject, queue or None) entries.
    response: (messages, time to live in ns) for replies to received requests, or None.
    """

    __slots__ = ("publish_allow", "publish_deny", "response", "subscribe_allow", "subscribe_deny")

    def __init__(
        self,
        publish_allow: list[bytes] | None,
        publish_deny: list[bytes],
        subscribe_allow: list[SubscribeRule] | None,
        subscribe_deny: list[SubscribeRule],
        response: tuple[int, int] | None,
    ) -> None:
        self.publish_allow = publish_allow
        self.publish_deny = publish_deny
        self.subscribe_allow = subscribe_allow
        self.subscribe_deny = subscribe_deny
        self.response = response

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PermissionLists):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PermissionLists({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


def permission_lists(permissions: Permissions | None) -> PermissionLists | None:
    """The engine's lists for `permissions`; None means that everything is allowed."""
    if permissions is None:
        return None
    publish, subscribe = permissions.publish, permissions.subscribe
    publish_allow = None if publish is None or publish.allow is None else [_subject(entry) for entry in publish.allow]
    response = None
    if permissions.response is not None:
        response = (
            permissions.response.max_msgs or RESPONSE_MAX_MSGS_DEFAULT,
            permissions.response.expires or RESPONSE_TTL_NS_DEFAULT,
        )
        if publish_allow is None:
            publish_allow = []
    # Unlike for publish, nats-server reads an empty list of allowed subscriptions as no list.
    return PermissionLists(
        publish_allow,
        [_subject(entry) for entry in (publish.deny or ())] if publish is not None else [],
        [_subject_queue(entry) for entry in subscribe.allow] if subscribe is not None and subscribe.allow else None,
        [_subject_queue(entry) for entry in (subscribe.deny or ())] if subscribe is not None else [],
        response,
    )


def without_callouts(permissions: Permissions | None) -> Permissions:
    """The same, but for callouts."""
    from natsc.config.options import Permissions, SubjectPermission

    given = permissions or Permissions()
    publish = given.publish or SubjectPermission()
    denied = [*(publish.deny or ()), CALLOUT_SUBJECT]
    return Permissions(
        publish=SubjectPermission(allow=publish.allow, deny=denied),
        subscribe=given.subscribe,
        response=given.response,
    )


def _subject(entry: str) -> bytes:
    return entry.encode("utf-8", "surrogateescape")


def _subject_queue(entry: str) -> SubscribeRule:
    """Splits "subject queue"; configuration has checked that there are one or two words."""
    subject, *queue = entry.split()
    return _subject(subject), _subject(queue[0]) if queue else None
